/*
 * key=value lists as QEMU users know them, and messages about wrong ones that
 * name the option, the value, what was expected and the nearest right spelling.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_OPTS_H
#define RINGBOLT_CORE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any message of this module. */
#define OPTS_ERR_LEN 1024

enum opt_type {
	OPT_STRING, /* const char **, points into the caller's text */
	OPT_UINT, /* uint64_t *, decimal or 0x, between min and max */
	OPT_SIZE, /* uint64_t *, bytes with optional suffix K M G T P (powers of 1024) */
	OPT_BOOL, /* bool *, on|off|yes|no|true|false */
	OPT_ENUM, /* int *, index of the word in names */
};

struct opt_desc {
	const char *key;
	enum opt_type type;
	bool required;
	size_t offset; /* of the field in the target struct */
	uint64_t min, max; /* OPT_UINT and OPT_SIZE; max 0: no bound */
	const char *const *names; /* OPT_ENUM: NULL-terminated */
	const char *help; /* one line, for --help */
};

/*
 * Parse "key=value,key=value" in text (changed in place; ",," is a literal
 * comma) into target as table says; table ends with a NULL key. A key given
 * twice, unknown or missing is an error. On error -EINVAL and a sentence in
 * err (OPTS_ERR_LEN) that begins with option, as in "--device: ...".
 */
int opts_parse(const char *option, char *text, const struct opt_desc *table, void *target,
	       char *err);

/* Cut the next item off *text, at a comma that is not doubled. NULL at the end. */
char *opts_next_item(char **text);

/*
 * The parts of opts_parse(), for keys that arrive in another form. The index of
 * key in table (at most 64 keys), or -EINVAL and a sentence; and whether every
 * required key has its bit in seen.
 */
int opts_find(const char *option, const char *key, const struct opt_desc *table, char *err);
int opts_check_required(const char *option, const struct opt_desc *table, uint64_t seen, char *err);

/* One value by itself, same rules and messages. target is the field's address;
 * desc->key is NULL if the value has no key but the option. */
int opts_parse_value(const char *option, const char *value, const struct opt_desc *desc,
		     void *target, char *err);

/* The word of names (NULL-terminated) nearest to word, NULL if none is near. */
const char *opts_nearest(const char *word, const char *const *names);

#endif
