/*
 * Token buckets for what a port may send and get, over rte_meter.
 *
 * Theory of operation
 *
 * A port's rings may be on several loops, and a meter has one user at a time. A
 * loop takes the meter for one burst; one that finds it taken does not wait for a
 * holder that may have been preempted: its frames pass, and what they cost is a
 * debt that whoever has the meter next pays first. So the rate holds over any
 * time that is longer than a preemption, and no loop ever waits for another.
 *
 * A frame that costs more than the bucket holds passes when the bucket is full,
 * and leaves a debt as well: a large segment is never shut out for ever.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_LIMIT_H
#define RINGBOLT_VIRTIO_NET_LIMIT_H

#include <rte_meter.h>
#include <stdint.h>

#include "core/base.h"

#define LIMIT_RATE_MAX 1000000000000ull /* tokens a second */
#define LIMIT_BURST_MAX 1000000000000ull /* tokens */

/* All zero: a limit that was never set. */
struct limit {
	_Alignas(CACHE_LINE) uint32_t taken; /* whoever sets it owns the rest */
	uint64_t debt; /* any thread */
	struct rte_meter_srtcm_profile profile;
	struct rte_meter_srtcm meter;
	uint64_t rate, burst; /* as set */
};

/*
 * rate tokens a second, in a bucket of burst tokens (0: a hundredth of a second's,
 * at least burst_min), full now. Nothing happens if it is so already. A rate of 0
 * lets everything pass. Up to LIMIT_*_MAX. Control thread.
 */
void limit_set(struct limit *l, uint64_t rate, uint64_t burst, uint64_t burst_min);

/*
 * Pay for frames (a mask): cost[i] tokens for frame i. Those that pass. now_ns:
 * monotonic; loops' clocks may differ a little. Any loop's thread.
 */
uint32_t limit_take(struct limit *l, uint64_t now_ns, const uint32_t *cost, uint32_t frames);

#endif
