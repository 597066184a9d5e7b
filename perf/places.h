/*
 * What a benchmark does to a disk: read or write, at random or in sequence. One
 * definition for the front-end and for the bare loop it is compared with.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_PLACES_H
#define RINGBOLT_PERF_PLACES_H

#include <stdbool.h>
#include <stdint.h>

/* Requests in flight on one queue. */
#define DEPTH_MAX 256

enum pattern {
	PATTERN_RANDREAD,
	PATTERN_RANDWRITE,
	PATTERN_READ,
	PATTERN_WRITE,
	PATTERN_CNT
};

/* Indexed by enum pattern, then NULL. */
extern const char *const pattern_names[];

static inline bool pattern_writes(enum pattern p)
{
	return p == PATTERN_RANDWRITE || p == PATTERN_WRITE;
}

static inline bool pattern_random(enum pattern p)
{
	return p == PATTERN_RANDREAD || p == PATTERN_RANDWRITE;
}

/* Where requests go: blocks of the device, at random or one after the other. */
struct places {
	uint64_t nr_blocks; /* of block_size */
	uint64_t next; /* sequential */
	uint64_t random; /* xorshift state, never 0 */
	uint32_t sectors; /* of a block */
	bool sequential;
};

void places_init(struct places *p, uint64_t capacity_sectors, uint32_t block_size, bool sequential,
		 uint64_t seed);

/* Sector of the next request. */
static inline uint64_t places_next(struct places *p)
{
	uint64_t block;

	if (p->sequential) {
		block = p->next++;
		if (p->next == p->nr_blocks)
			p->next = 0;
	} else {
		p->random ^= p->random << 13;
		p->random ^= p->random >> 7;
		p->random ^= p->random << 17;
		block = (uint64_t)(((unsigned __int128)p->random * p->nr_blocks) >> 64);
	}
	return block * p->sectors;
}

#endif
