/*
 * The benchmark's data path: one queue of one device, with a fixed set of
 * prebuilt requests that go round for ever. Private to perf/.
 *
 * Theory of operation
 *
 * The ring is set up by tests/frontend; from then on a lane owns it. A slot is
 * a request whose chain never changes: on a split ring its descriptors stay
 * where they are and only its head is written to the available ring again; on a
 * packed ring its descriptors are copied from a template. Of a request only the
 * sector is rewritten. One turn takes back everything that is used, starts it
 * again at another place, publishes once and kicks only if the device wants it.
 *
 * Header and status of a slot share a cache line of their own, as they do in
 * Linux' driver.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_LANE_H
#define RINGBOLT_PERF_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/hist.h"
#include "perf/places.h"
#include "tests/frontend/drv.h"

#define LANE_CHAIN 3 /* header, data, status */

/* A request in guest memory: one cache line. */
struct lane_req {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
	uint8_t status;
	uint8_t pad[47];
};

/* A packed descriptor as two words that are written whole. */
struct lane_desc {
	uint64_t addr;
	uint64_t rest; /* len, id, flags from the lowest bit on */
};

struct lane_stats {
	struct hist latency; /* ticks */
	uint64_t done, errors, kicks;
	uint64_t turns, busy_turns; /* with something done */
};

struct lane {
	struct drv_ring *ring;
	struct lane_req *req; /* depth of them, shared */
	struct places places;
	unsigned int depth;
	unsigned int chain; /* ring descriptors a request: LANE_CHAIN, or 1 indirect */
	uint32_t inflight;
	bool stopping; /* start nothing again */
	bool broken; /* the device named a chain it does not hold */
	/* What split and packed differ in: take back, start again, publish. */
	bool (*turn)(struct lane *l);
	uint64_t held_rest; /* packed: of the first descriptor of the batch */
	struct lane_desc *held;
	uint16_t slot_of[1024]; /* split: by head */
	uint64_t started[DEPTH_MAX]; /* ticks */
	bool busy[DEPTH_MAX];
	struct lane_desc tmpl[DEPTH_MAX][LANE_CHAIN];
	struct lane_stats stats;
};

struct lane_conf {
	unsigned int depth;
	uint32_t block_size;
	enum pattern pattern;
	uint64_t capacity_sectors;
	uint64_t seed;
	int region; /* of the front-end: requests and data */
};

/* ring is created and not used yet. 0, -ENOSPC if region is too small. */
int lane_init(struct lane *l, struct drv_ring *ring, const struct lane_conf *conf);
/* Descriptors that a ring needs for depth requests. */
unsigned int lane_ring_size(unsigned int depth, bool indirect);
/* Start all slots: the first publication. */
void lane_start(struct lane *l);
/* One turn; true if anything was done. */
static inline bool lane_turn(struct lane *l)
{
	return l->turn(l);
}

#endif
