/*
 * pingpong: how far apart are two CPUs? Bounces a cache line between two pinned
 * threads and prints the round trip with a tag, as JSON. On a virtual machine
 * the answer changes with time, and with it every ring between two cores: run
 * by perf/compare.py before and after each sample. With --wake: how long does it
 * take to wake a thread that sleeps on an eventfd, which no server can beat when
 * it is asked for the first time after idling.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "core/atomic.h"
#include "core/base.h"
#include "perf/perf_opts.h"
#include "perf/tsc.h"

#define ROUNDS 200 /* of one measurement */
#define SAMPLES_MAX 4096

/*
 * Round trips, ns, below which two CPUs are two threads of one core, or near
 * each other. Two hyperthreads share the first-level cache (about 55), two
 * cores of one die a mesh (100 to 200), two dies a link (500).
 */
#define SHARED_BELOW 75.0
#define NEAR_BELOW 280.0

static struct {
	_Alignas(CACHE_LINE) uint64_t ball;
	_Alignas(CACHE_LINE) bool over;
	_Alignas(CACHE_LINE) int cpu[2];
	int bell; /* --wake: eventfd, -1 without */
	uint64_t idle_us; /* before it rings */
	bool awake; /* meanwhile */
} court;

/* Answers every odd value with the next even one. */
static void *answer(void *arg)
{
	uint64_t seen;

	popt_pin("pingpong", court.cpu[1]);
	for (;;) {
		seen = load_acquire(&court.ball);
		if (seen & 1)
			store_release(&court.ball, seen + 1);
		else if (read_once(&court.over))
			return arg;
	}
}

/* The same, asleep until the bell rings. */
static void *answer_awoken(void *arg)
{
	eventfd_t n;

	popt_pin("pingpong", court.cpu[1]);
	while (!eventfd_read(court.bell, &n) && !read_once(&court.over))
		store_release(&court.ball, load_acquire(&court.ball) + 1);
	return arg;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static const char *tag(double ns)
{
	if (ns < SHARED_BELOW)
		return "shared";
	return ns < NEAR_BELOW ? "near" : "far";
}

static unsigned int play(double hz, double seconds, double *sample)
{
	uint64_t end = tsc_now() + (uint64_t)(seconds * hz), start;
	unsigned int n = 0;

	while (n < SAMPLES_MAX && (!n || tsc_now() < end)) {
		start = tsc_now();
		for (int i = 0; i < ROUNDS; i++) {
			uint64_t next = court.ball + 1;

			store_release(&court.ball, next);
			while (load_acquire(&court.ball) == next)
				;
		}
		sample[n++] = (double)(tsc_now() - start) / hz * 1e9 / ROUNDS;
	}
	return n;
}

/* Times from ringing the bell to the answer, after idling each. */
static unsigned int wake(double hz, double seconds, double *sample)
{
	uint64_t end = tsc_now() + (uint64_t)(seconds * hz), start, next;
	unsigned int n = 0;

	while (n < SAMPLES_MAX && (!n || tsc_now() < end)) {
		tsc_idle(hz, court.idle_us, court.awake);
		next = court.ball + 1;
		start = tsc_now();
		eventfd_write(court.bell, 1);
		while (load_acquire(&court.ball) != next)
			;
		sample[n++] = (double)(tsc_now() - start) / hz * 1e9;
	}
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cpus", required_argument, NULL, 'c' },
		{ "ms", required_argument, NULL, 'm' },
		{ "wake", no_argument, NULL, 'w' },
		{ "idle-us", required_argument, NULL, 'i' },
		{ "awake", no_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static double sample[SAMPLES_MAX];
	double hz, seconds = 0.02;
	unsigned int n;
	pthread_t other;
	int opt;

	court.cpu[1] = 1;
	court.bell = -1;
	court.idle_us = 10000;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			if (sscanf(optarg, "%d,%d", &court.cpu[0], &court.cpu[1]) != 2 ||
			    court.cpu[0] == court.cpu[1])
				popt_fail("--cpus", optarg, "two CPUs, as 0,1");
			break;
		case 'm':
			seconds = (double)popt_number("--ms", optarg, 1, 10000) / 1000;
			break;
		case 'w':
			court.bell = eventfd(0, EFD_CLOEXEC);
			break;
		case 'i':
			court.idle_us = popt_number("--idle-us", optarg, 0, 10000000);
			break;
		case 'a':
			court.awake = true;
			break;
		case 'h':
			puts("Usage: pingpong [--cpus A,B] [--ms N] [--wake [--idle-us N] "
			     "[--awake]]\n"
			     "Round trip of a cache line between two CPUs, JSON on stdout.\n"
			     "With --wake: time to wake a thread that has slept for N us "
			     "(10000),\nwhile the waker slept too, or was --awake.");
			return 0;
		default:
			return POPT_EXIT_USAGE;
		}
	}
	popt_pin("pingpong", court.cpu[0]);
	if (pthread_create(&other, NULL, court.bell < 0 ? answer : answer_awoken, NULL)) {
		fputs("pingpong: no thread\n", stderr);
		return 1;
	}
	hz = tsc_hz();
	n = court.bell < 0 ? play(hz, seconds, sample) : wake(hz, seconds, sample);
	write_once(&court.over, true);
	if (court.bell >= 0)
		eventfd_write(court.bell, 1);
	pthread_join(other, NULL);
	qsort(sample, n, sizeof(*sample), by_value);
	if (court.bell >= 0) {
		printf("{\"tool\": \"pingpong\", \"wake_ns\": %.0f, \"p10\": %.0f, \"p90\": "
		       "%.0f}\n",
		       sample[n / 2], sample[n / 10], sample[n * 9 / 10]);
		return 0;
	}
	printf("{\"tool\": \"pingpong\", \"round_trip_ns\": %.1f, \"p10\": %.1f, \"p90\": %.1f, "
	       "\"tag\": \"%s\"}\n",
	       sample[n / 2], sample[n / 10], sample[n * 9 / 10], tag(sample[n / 2]));
	return 0;
}
