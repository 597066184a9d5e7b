/*
 * Where a benchmark's requests go. Called while one starts.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "perf/places.h"

#include "core/base.h"

const char *const pattern_names[] = { "randread", "randwrite", "read", "write", NULL };
static_assert(ARRAY_SIZE(pattern_names) == PATTERN_CNT + 1, "a name for each pattern");

void places_init(struct places *p, uint64_t capacity_sectors, uint32_t block_size, bool sequential,
		 uint64_t seed)
{
	p->sectors = block_size / 512;
	p->nr_blocks = capacity_sectors / p->sectors;
	p->sequential = sequential;
	p->random = (seed + 1) * 0x9e3779b97f4a7c15ull;
	/* Several sequential streams start apart. */
	p->next = seed * 977 % p->nr_blocks;
}
