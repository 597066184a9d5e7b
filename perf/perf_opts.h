/*
 * Option values for the benchmark programs: parsed, or refused with what was
 * expected and exit status 2.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_PERF_OPTS_H
#define RINGBOLT_PERF_PERF_OPTS_H

#include <stdint.h>

#define POPT_EXIT_USAGE 2

/* None of these returns if the value is wrong. */
void popt_fail(const char *option, const char *value, const char *expected)
	__attribute__((noreturn));
uint64_t popt_number(const char *option, const char *value, uint64_t min, uint64_t max);
/* Bytes with an optional K or M; a multiple of 512 up to 16 MiB. */
uint64_t popt_block_size(const char *option, const char *value);
/* Seconds with a fraction, up to a day. */
double popt_seconds(const char *option, const char *value);
/* Index of a word in names, NULL-terminated. */
int popt_word(const char *option, const char *value, const char *const *names);

/* Pin the calling thread; -1: do not. Exits with 1 if that fails. */
void popt_pin(const char *program, int cpu);

#endif
