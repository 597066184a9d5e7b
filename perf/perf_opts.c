/*
 * Option values for the benchmark programs. Called while they start, from main
 * only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "perf/perf_opts.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void popt_fail(const char *option, const char *value, const char *expected)
{
	fprintf(stderr, "%s: \"%s\" is not right, expected %s\n", option, value, expected);
	exit(POPT_EXIT_USAGE);
}

/* Digits, then suffix characters that *end points to. */
static uint64_t digits(const char *option, const char *value, const char **end)
{
	uint64_t v;
	char *e;

	errno = 0;
	v = strtoull(value, &e, 10);
	if (errno || e == value || *value == '-')
		popt_fail(option, value, "a number");
	*end = e;
	return v;
}

uint64_t popt_number(const char *option, const char *value, uint64_t min, uint64_t max)
{
	char expected[80];
	const char *end;
	uint64_t v = digits(option, value, &end);

	snprintf(expected, sizeof(expected), "a number from %" PRIu64 " to %" PRIu64, min, max);
	if (*end || v < min || v > max)
		popt_fail(option, value, expected);
	return v;
}

uint64_t popt_block_size(const char *option, const char *value)
{
	const char *end;
	uint64_t v = digits(option, value, &end), unit = 1;

	if (!strcmp(end, "K") || !strcmp(end, "k"))
		unit = 1 << 10;
	else if (!strcmp(end, "M") || !strcmp(end, "m"))
		unit = 1 << 20;
	else if (*end)
		v = 0;
	if (!v || v > (16u << 20) / unit || v * unit % 512)
		popt_fail(option, value, "a multiple of 512 up to 16M, with K or M if you like");
	return v * unit;
}

double popt_seconds(const char *option, const char *value)
{
	char *end;
	double v = strtod(value, &end);

	if (end == value || *end || !(v >= 0 && v <= 86400))
		popt_fail(option, value, "seconds from 0 to 86400");
	return v;
}

int popt_word(const char *option, const char *value, const char *const *names)
{
	char expected[200] = "one of";
	size_t len;

	for (int i = 0; names[i]; i++) {
		if (!strcmp(names[i], value))
			return i;
		len = strlen(expected);
		snprintf(expected + len, sizeof(expected) - len, " %s", names[i]);
	}
	popt_fail(option, value, expected);
}

void popt_pin(const char *program, int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (!sched_setaffinity(0, sizeof(set), &set))
		return;
	fprintf(stderr, "%s: --cpu %d: %s\n", program, cpu, strerror(errno));
	exit(1);
}
