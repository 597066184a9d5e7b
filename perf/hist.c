/*
 * Reading a histogram: quantiles and JSON. Called at the end of a benchmark,
 * never while it runs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "perf/hist.h"

/* The middle of a bucket. */
static uint64_t bucket_value(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < 2 * HIST_SUB)
		return bucket;
	shift = (bucket >> HIST_SUB_BITS) - 1;
	return ((uint64_t)(bucket - (shift << HIST_SUB_BITS)) << shift) + (1ull << shift) / 2;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	double left = q * (double)h->total;

	for (unsigned int i = 0; i < HIST_BUCKETS && h->total; i++) {
		left -= (double)h->count[i];
		if (left <= 0 && h->count[i])
			return bucket_value(i) < h->max ? bucket_value(i) : h->max;
	}
	return h->max;
}

void hist_print_json(const struct hist *h, double ticks_per_ns, FILE *out)
{
	const struct {
		const char *name;
		double q;
	} quantiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 } };

	fprintf(out, "\"latency_ns\": {");
	for (unsigned int i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		fprintf(out, "\"%s\": %.0f, ", quantiles[i].name,
			(double)hist_quantile(h, quantiles[i].q) / ticks_per_ns);
	fprintf(out, "\"mean\": %.0f, \"max\": %.0f}",
		h->total ? (double)h->sum / (double)h->total / ticks_per_ns : 0.0,
		(double)h->max / ticks_per_ns);
}
