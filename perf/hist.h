/*
 * A histogram of times with a relative error below 1.6 %: logarithmic buckets,
 * 64 to each power of two. One add is a few instructions and never allocates.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_HIST_H
#define RINGBOLT_PERF_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_SUB_BITS 6
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
	uint64_t count[HIST_BUCKETS];
	uint64_t max, total, sum;
};

static inline void hist_add(struct hist *h, uint64_t v)
{
	unsigned int msb = 63 - (unsigned int)__builtin_clzll(v | HIST_SUB);
	unsigned int shift = msb - HIST_SUB_BITS;
	/* Below 2 * HIST_SUB shift is 0 and a value its own bucket. */
	unsigned int bucket = (shift << HIST_SUB_BITS) + (unsigned int)(v >> shift);

	h->count[bucket]++;
	h->total++;
	h->sum += v;
	if (v > h->max)
		h->max = v;
}

/* The value below which a share q (0 .. 1) of all lies; 0 if there is none. */
uint64_t hist_quantile(const struct hist *h, double q);

/* "latency_ns": {...}, as JSON; ticks_per_ns scales the values. */
void hist_print_json(const struct hist *h, double ticks_per_ns, FILE *out);

#endif
