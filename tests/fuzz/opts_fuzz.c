/*
 * Fuzz target: key=value lists and CPU lists, which come from the command line
 * and from control clients. Whatever the text, the answer is 0 or an error with
 * a sentence of bounded length that begins with the option's name.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/cpu.h"
#include "core/opts.h"

#define OPTION "--device"

struct target {
	const char *name;
	uint64_t count, size;
	bool on;
	int mode;
};

static const char *const modes[] = { "busy", "adaptive", "interrupt", NULL };

static const struct opt_desc table[] = {
	{ "name", OPT_STRING, true, offsetof(struct target, name), .help = "its name" },
	{ "count", OPT_UINT, false, offsetof(struct target, count), 1, 64 },
	{ "size", OPT_SIZE, false, offsetof(struct target, size), .min = 512 },
	{ "on", OPT_BOOL, false, offsetof(struct target, on) },
	{ "mode", OPT_ENUM, false, offsetof(struct target, mode), .names = modes },
	{ NULL },
};

static void check_message(const char *err)
{
	size_t len = strnlen(err, OPTS_ERR_LEN);

	if (len == OPTS_ERR_LEN || strncmp(err, OPTION ": ", strlen(OPTION) + 2))
		abort();
}

static void check_list(char *text)
{
	struct target t = { .count = 1, .size = 512 };
	char err[OPTS_ERR_LEN];
	int res;

	memset(err, '#', sizeof(err));
	res = opts_parse(OPTION, text, table, &t, err);
	if (res == -EINVAL) {
		check_message(err);
		return;
	}
	if (res || !t.name || !*t.name || t.count < 1 || t.count > 64 || t.size < 512 ||
	    t.mode < 0 || t.mode > 2)
		abort();
}

static void check_cpus(const char *text)
{
	int cpus[8], bad = -1, res;

	res = cpu_list_parse(text, cpus, ARRAY_SIZE(cpus), &bad);
	if (res > (int)ARRAY_SIZE(cpus) || !res)
		abort();
	for (int i = 0; i < res; i++) {
		for (int j = 0; j < i; j++) {
			if (cpus[i] == cpus[j])
				abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check_cpus(text);
	opts_nearest(text, modes);
	check_list(text);
	free(text);
	return 0;
}
