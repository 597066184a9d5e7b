/*
 * A clock that costs a few cycles: the CPU's counter, and how many of its ticks
 * make a second. For benchmarks; both programs of a comparison use it alike.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_TSC_H
#define RINGBOLT_PERF_TSC_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "core/atomic.h"

static inline uint64_t tsc_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
#endif
}

/* Ticks a second, measured against the system's clock for 30 ms. */
static inline double tsc_hz(void)
{
	struct timespec a, b;
	uint64_t ticks;
	double s;

	clock_gettime(CLOCK_MONOTONIC_RAW, &a);
	ticks = tsc_now();
	do {
		clock_gettime(CLOCK_MONOTONIC_RAW, &b);
		s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
	} while (s < 0.03);
	return (double)(tsc_now() - ticks) / s;
}

/*
 * Let time pass: asleep, or awake. A thread that sleeps comes back to a CPU that
 * has slept too, and what that costs is not the server's.
 */
static inline void tsc_idle(double hz, uint64_t us, bool awake)
{
	const struct timespec ts = { .tv_sec = (time_t)(us / 1000000),
				     .tv_nsec = (long)(us % 1000000 * 1000) };
	uint64_t end = tsc_now() + (uint64_t)((double)us * hz / 1e6);

	if (!awake)
		nanosleep(&ts, NULL);
	while (tsc_now() < end)
		cpu_relax();
}

#endif
