/*
 * key=value lists and single values, and what is said about wrong ones. Called
 * by option parsing and by RPC methods, so that both speak of the same keys in
 * the same words. Never prints and never exits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/opts.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

/* Longest word that is compared, and most keys of one table. */
#define WORD_MAX 31
#define KEYS_MAX 64
/* How much of a wrong value is repeated. */
#define SHOWN_MAX 80

static const struct {
	const char *word;
	bool value;
} bool_words[] = {
	{ "on", true },	 { "off", false }, { "yes", true },
	{ "no", false }, { "true", true }, { "false", false },
};

/* A message in the making; what does not fit is cut off. */
struct message {
	char *text;
	size_t len;
};

static __attribute__((format(printf, 2, 3))) void say(struct message *m, const char *fmt, ...)
{
	size_t room = OPTS_ERR_LEN - m->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(m->text + m->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		m->len += min_u64((uint64_t)n, room - 1);
}

/* The user's own text, in a form that fits one line of a terminal. */
static void say_value(struct message *m, const char *value)
{
	char shown[SHOWN_MAX + 1];
	size_t len = strlen(value);
	size_t cnt = min_u64(len, SHOWN_MAX);

	for (size_t i = 0; i < cnt; i++)
		shown[i] = iscntrl((unsigned char)value[i]) ? '?' : value[i];
	shown[cnt] = '\0';
	say(m, "%s%s", shown, len > cnt ? "..." : "");
}

/* "a, b, c" */
static void say_list(struct message *m, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		say(m, "%s%s", i ? ", " : "", names[i]);
}

static void say_nearest(struct message *m, const char *word, const char *const *names)
{
	const char *near = opts_nearest(word, names);

	if (near)
		say(m, "; did you mean '%s'?", near);
}

/* "--device: queues=x: ", or "--poll: 'x': " for a value by itself. */
static struct message begin(char *err, const char *option, const struct opt_desc *desc,
			    const char *value)
{
	struct message m = { .text = err };

	if (desc->key) {
		say(&m, "%s: %s=", option, desc->key);
		say_value(&m, value);
	} else {
		say(&m, "%s: '", option);
		say_value(&m, value);
		say(&m, "'");
	}
	say(&m, ": ");
	return m;
}

/*
 * Letters to insert, delete, replace or swap with their neighbour to get from a
 * to b; upper and lower case are the same.
 */
static unsigned int edit_distance(const char *a, const char *b)
{
	unsigned int d[WORD_MAX + 1][WORD_MAX + 1];
	size_t a_len = strlen(a), b_len = strlen(b);
	unsigned int best;

	for (size_t i = 0; i <= a_len; i++) {
		for (size_t j = 0; j <= b_len; j++) {
			if (!i || !j) {
				d[i][j] = (unsigned int)(i + j);
				continue;
			}
			best = d[i - 1][j - 1] + (tolower((unsigned char)a[i - 1]) !=
						  tolower((unsigned char)b[j - 1]));
			best = (unsigned int)min_u64(best, d[i - 1][j] + 1);
			best = (unsigned int)min_u64(best, d[i][j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = (unsigned int)min_u64(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[a_len][b_len];
}

const char *opts_nearest(const char *word, const char *const *names)
{
	unsigned int distance, best = WORD_MAX;
	const char *nearest = NULL;
	size_t len = strlen(word);

	if (!len || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; names[i]; i++) {
		if (strlen(names[i]) > WORD_MAX)
			continue;
		distance = edit_distance(word, names[i]);
		/* A beginning of two letters or more is as good as one typing error. */
		if (len > 1 && !strncasecmp(word, names[i], len))
			distance = 1;
		if (distance < best) {
			best = distance;
			nearest = names[i];
		}
	}
	return best <= max_u64(1, len / 3) ? nearest : NULL;
}

/* Digits, or 0x and hexadecimal digits; no sign, no blanks. */
static bool parse_number(const char *text, uint64_t *number, const char **end)
{
	bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = is_hex ? text + 2 : text;
	char *stop;

	if (!(is_hex ? isxdigit((unsigned char)*digits) : isdigit((unsigned char)*digits)))
		return false;
	errno = 0;
	*number = strtoull(digits, &stop, is_hex ? 16 : 10);
	*end = stop;
	return !errno;
}

static bool parse_size(const char *text, uint64_t *size)
{
	static const char suffixes[] = "KMGTP";
	const char *end, *suffix;

	if (!parse_number(text, size, &end))
		return false;
	if (!*end)
		return true;
	suffix = strchr(suffixes, toupper((unsigned char)*end));
	if (!suffix || end[1])
		return false;
	return !mul_overflows(*size, 1ull << (10 * (suffix - suffixes + 1)), size);
}

static bool within(const struct opt_desc *desc, uint64_t number)
{
	return number >= desc->min && (!desc->max || number <= desc->max);
}

static int set_number(const char *option, const char *value, const struct opt_desc *desc,
		      uint64_t *target, char *err)
{
	bool is_size = desc->type == OPT_SIZE;
	const char *end = "";
	struct message m;
	uint64_t number;
	bool ok;

	ok = is_size ? parse_size(value, &number) : parse_number(value, &number, &end) && !*end;
	if (ok && within(desc, number)) {
		*target = number;
		return 0;
	}
	m = begin(err, option, desc, value);
	say(&m, is_size ? "expected a size in bytes, K, M, G, T or P" : "expected a whole number");
	if (desc->max)
		say(&m, " from %llu to %llu", (unsigned long long)desc->min,
		    (unsigned long long)desc->max);
	else if (desc->min)
		say(&m, " of at least %llu", (unsigned long long)desc->min);
	return -EINVAL;
}

static int set_bool(const char *option, const char *value, const struct opt_desc *desc,
		    bool *target, char *err)
{
	const char *names[ARRAY_SIZE(bool_words) + 1] = { NULL };
	struct message m;

	for (size_t i = 0; i < ARRAY_SIZE(bool_words); i++) {
		names[i] = bool_words[i].word;
		if (!strcmp(value, bool_words[i].word)) {
			*target = bool_words[i].value;
			return 0;
		}
	}
	m = begin(err, option, desc, value);
	say(&m, "expected on or off");
	say_nearest(&m, value, names);
	return -EINVAL;
}

static int set_enum(const char *option, const char *value, const struct opt_desc *desc, int *target,
		    char *err)
{
	struct message m;

	for (int i = 0; desc->names[i]; i++) {
		if (!strcmp(value, desc->names[i])) {
			*target = i;
			return 0;
		}
	}
	m = begin(err, option, desc, value);
	say(&m, "expected one of ");
	say_list(&m, desc->names);
	say_nearest(&m, value, desc->names);
	return -EINVAL;
}

static int set_string(const char *option, const char *value, const struct opt_desc *desc,
		      const char **target, char *err)
{
	struct message m;

	if (*value) {
		*target = value;
		return 0;
	}
	m = begin(err, option, desc, value);
	say(&m, "expected a value that is not empty");
	return -EINVAL;
}

int opts_parse_value(const char *option, const char *value, const struct opt_desc *desc,
		     void *target, char *err)
{
	switch (desc->type) {
	case OPT_STRING:
		return set_string(option, value, desc, target, err);
	case OPT_UINT:
	case OPT_SIZE:
		return set_number(option, value, desc, target, err);
	case OPT_BOOL:
		return set_bool(option, value, desc, target, err);
	case OPT_ENUM:
		return set_enum(option, value, desc, target, err);
	}
	assert(false);
	return -EINVAL;
}

char *opts_next_item(char **text)
{
	char *item = *text, *from = item, *to = item;

	if (!item)
		return NULL;
	*text = NULL;
	for (; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',') {
				*text = from + 1;
				break;
			}
			from++;
		}
		*to++ = *from;
	}
	*to = '\0';
	return item;
}

int opts_find(const char *option, const char *key, const struct opt_desc *table, char *err)
{
	const char *keys[KEYS_MAX + 1] = { NULL };
	struct message m = { .text = err };

	for (int i = 0; table[i].key; i++) {
		assert(i < KEYS_MAX);
		if (!strcmp(key, table[i].key))
			return i;
		keys[i] = table[i].key;
	}
	say(&m, "%s: '", option);
	say_value(&m, key);
	say(&m, "': unknown key, expected one of ");
	say_list(&m, keys);
	say_nearest(&m, key, keys);
	return -EINVAL;
}

int opts_check_required(const char *option, const struct opt_desc *table, uint64_t seen, char *err)
{
	struct message m = { .text = err };

	for (int i = 0; table[i].key; i++) {
		if (!table[i].required || seen & 1ull << i)
			continue;
		say(&m, "%s: %s= is missing: %s", option, table[i].key, table[i].help);
		return -EINVAL;
	}
	return 0;
}

/* One "key=value"; the bit of its key is set in *seen. */
static int parse_item(const char *option, char *item, const struct opt_desc *table, void *target,
		      uint64_t *seen, char *err)
{
	char *equals = strchr(item, '=');
	struct message m = { .text = err };
	int i;

	if (equals)
		*equals = '\0';
	i = opts_find(option, item, table, err);
	if (i < 0)
		return i;
	if (!equals) {
		say(&m, "%s: '%s': expected %s=VALUE", option, item, item);
		return -EINVAL;
	}
	if (*seen & 1ull << i) {
		say(&m, "%s: %s=", option, item);
		say_value(&m, equals + 1);
		say(&m, ": the key is given twice");
		return -EINVAL;
	}
	*seen |= 1ull << i;
	return opts_parse_value(option, equals + 1, &table[i], (char *)target + table[i].offset,
				err);
}

int opts_parse(const char *option, char *text, const struct opt_desc *table, void *target,
	       char *err)
{
	struct message m = { .text = err };
	uint64_t seen = 0;
	char *item;
	int res;

	while ((item = opts_next_item(&text))) {
		if (!*item) {
			say(&m, "%s: expected key=value,key=value, found an empty item", option);
			return -EINVAL;
		}
		res = parse_item(option, item, table, target, &seen, err);
		if (res < 0)
			return res;
	}
	return opts_check_required(option, table, seen, err);
}
