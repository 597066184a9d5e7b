/*
 * The benchmark's data path; see lane.h. Called by vublk-bench once a turn for
 * each queue. Never allocates, never sleeps.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "perf/lane.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "core/atomic.h"
#include "core/base.h"
#include "perf/tsc.h"

/* Large enough to share the cost of a publication, small enough that the device
 * has work while the driver has: at depth 32 both would wait in turn else. */
#define BATCH 16
#define NO_SLOT UINT16_MAX
#define STATUS_UNSET 0xff

unsigned int lane_ring_size(unsigned int depth, bool indirect)
{
	unsigned int need = depth * (indirect ? 1 : LANE_CHAIN), size = 128;

	/* No smaller than a guest's, and a power of two for both kinds alike. */
	while (size < need)
		size *= 2;
	return size;
}

static inline struct lane_desc packed_desc(uint64_t gpa, uint32_t len, uint16_t id, uint16_t flags)
{
	return (struct lane_desc){
		.addr = htole64(gpa),
		.rest = htole64(len | (uint64_t)id << 32 | (uint64_t)flags << 48),
	};
}

/* The three buffers of a slot, as table (indirect) or in the ring. */
static int build_slot(struct lane *l, unsigned int slot, const struct drv_buf *bufs, bool writes,
		      int region)
{
	const uint16_t data_flag = writes ? 0 : VIRTQ_DESC_F_WRITE;
	const uint16_t flags[LANE_CHAIN] = { VIRTQ_DESC_F_NEXT, data_flag | VIRTQ_DESC_F_NEXT,
					     VIRTQ_DESC_F_WRITE };
	uint16_t head = (uint16_t)(slot * l->chain), keep;
	struct virtq_desc *split = NULL;
	struct lane_desc *packed;
	uint64_t table = 0;

	if (l->chain == 1) {
		table = fe_alloc(l->ring->fe, region, LANE_CHAIN * 16, 64);
		if (!table)
			return -ENOSPC;
	}
	packed = table ? fe_ptr(l->ring->fe, table, LANE_CHAIN * 16) : l->tmpl[slot];
	if (!l->ring->packed)
		split = table ? (struct virtq_desc *)packed : &l->ring->desc[head];
	for (uint16_t i = 0; i < LANE_CHAIN; i++) {
		/* A packed table has no NEXT: its length says where it ends. */
		keep = l->ring->packed && table ? (uint16_t)(flags[i] & VIRTQ_DESC_F_WRITE)
						: flags[i];
		if (!split) {
			packed[i] = packed_desc(fe_dev_addr(l->ring->fe, bufs[i].gpa), bufs[i].len,
						(uint16_t)slot, keep);
			continue;
		}
		split[i] = (struct virtq_desc){
			.addr = cpu_to_le64(fe_dev_addr(l->ring->fe, bufs[i].gpa)),
			.len = cpu_to_le32(bufs[i].len),
			.flags = cpu_to_le16(keep),
			.next = cpu_to_le16(i + 1 < LANE_CHAIN ? (table ? 0 : head) + i + 1 : 0),
		};
	}
	if (!table)
		return 0;
	if (split)
		drv_raw_desc(l->ring, head, fe_dev_addr(l->ring->fe, table), LANE_CHAIN * 16,
			     VIRTQ_DESC_F_INDIRECT, 0);
	else
		l->tmpl[slot][0] = packed_desc(fe_dev_addr(l->ring->fe, table), LANE_CHAIN * 16,
					       (uint16_t)slot, VIRTQ_DESC_F_INDIRECT);
	return 0;
}

/* A slot the device says is done; its line is fetched for writing while the
 * rest of the batch is looked at. */
static inline bool slot_is_back(struct lane *l, uint16_t slot)
{
	if (unlikely(slot >= l->depth || !l->busy[slot])) {
		l->broken = true;
		return false;
	}
	l->busy[slot] = false;
	__builtin_prefetch(&l->req[slot], 1);
	return true;
}

/* Account for a request and give it its next place. False: leave it. */
static inline bool renew(struct lane *l, uint16_t slot, uint64_t now)
{
	struct lane_req *req = &l->req[slot];

	hist_add(&l->stats.latency, now - l->started[slot]);
	l->stats.errors += read_once(&req->status) != VIRTIO_BLK_S_OK;
	l->stats.done++;
	l->inflight--;
	return !l->stopping;
}

static inline void prepare(struct lane *l, uint16_t slot, uint64_t now)
{
	struct lane_req *req = &l->req[slot];

	req->sector = htole64(places_next(&l->places));
	req->status = STATUS_UNSET;
	l->started[slot] = now;
	l->busy[slot] = true;
	l->inflight++;
}

/* --- split ---------------------------------------------------------------- */

static inline void split_start(struct lane *l, uint16_t slot)
{
	struct drv_ring *r = l->ring;

	r->avail->ring[r->avail_idx++ & (r->size - 1)] = cpu_to_le16((uint16_t)(slot * l->chain));
}

static inline unsigned int split_collect(struct lane *l, uint16_t *slots)
{
	struct drv_ring *r = l->ring;
	/* Pairs with the device's release of idx. */
	uint16_t idx = le16_to_cpu((le16){ load_acquire(&r->used->idx.wire) });
	unsigned int n = 0;
	uint32_t id;

	if (unlikely((uint16_t)(idx - r->used_idx) > l->inflight)) {
		l->broken = true;
		return 0;
	}
	for (; r->used_idx != idx && n < BATCH; n++, r->used_idx++) {
		id = le32_to_cpu(r->used->ring[r->used_idx & (r->size - 1)].id);
		slots[n] = id < r->size ? l->slot_of[id] : NO_SLOT;
		if (!slot_is_back(l, slots[n]))
			return n;
	}
	return n;
}

/* --- packed --------------------------------------------------------------- */

static inline void packed_start(struct lane *l, uint16_t slot)
{
	struct drv_ring *r = l->ring;
	struct lane_desc *d;
	uint64_t rest;

	for (unsigned int i = 0; i < l->chain; i++) {
		d = (struct lane_desc *)&r->pdesc[r->avail_idx];
		rest = l->tmpl[slot][i].rest |
		       htole64((uint64_t)drv_packed_avail_flags(r->avail_wrap) << 48);
		d->addr = l->tmpl[slot][i].addr;
		if (l->held) {
			/* Flags go with the last word: what is before is seen first. */
			store_release(&d->rest, rest);
		} else {
			l->held = d;
			l->held_rest = rest;
		}
		r->batch_added++;
		if (++r->avail_idx == r->size) {
			r->avail_idx = 0;
			r->avail_wrap = !r->avail_wrap;
		}
	}
}

static inline unsigned int packed_collect(struct lane *l, uint16_t *slots)
{
	const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	struct drv_ring *r = l->ring;
	unsigned int n = 0;
	uint64_t rest;

	for (; l->inflight > n && n < BATCH; n++) {
		/* Pairs with the device's release of flags, which this word holds. */
		rest = le64toh(load_acquire(&((struct lane_desc *)&r->pdesc[r->used_idx])->rest));
		if ((rest >> 48 & both) != (r->used_wrap ? both : 0))
			break;
		slots[n] = (uint16_t)(rest >> 32);
		if (!slot_is_back(l, slots[n]))
			return n;
		r->used_idx += l->chain;
		if (r->used_idx >= r->size) {
			r->used_idx -= r->size;
			r->used_wrap = !r->used_wrap;
		}
	}
	return n;
}

/* --- both ----------------------------------------------------------------- */

static inline bool publish(struct lane *l, bool packed)
{
	struct drv_ring *r = l->ring;

	if (!packed)
		return drv_split_ops.publish(r);
	if (!l->held)
		return false;
	/* All but the flags, which the ring's own publication writes last: without
	 * AVAIL and USED a descriptor is not available in either round. */
	l->held->rest = l->held_rest & htole64(~(0xffffull << 48));
	r->batch_open = true;
	r->batch_pos = (uint16_t)((struct pvirtq_desc *)l->held - r->pdesc);
	r->batch_flags = (uint16_t)(le64toh(l->held_rest) >> 48);
	l->held = NULL;
	return drv_packed_ops.publish(r);
}

static inline __attribute__((always_inline)) bool turn(struct lane *l, bool packed)
{
	uint16_t slots[BATCH];
	unsigned int n = packed ? packed_collect(l, slots) : split_collect(l, slots);
	uint64_t now;

	l->stats.turns++;
	if (!n)
		return false;
	now = tsc_now();
	l->stats.busy_turns++;
	for (unsigned int i = 0; i < n; i++) {
		if (!renew(l, slots[i], now))
			continue;
		prepare(l, slots[i], now);
		if (packed)
			packed_start(l, slots[i]);
		else
			split_start(l, slots[i]);
	}
	if (publish(l, packed)) {
		l->stats.kicks++;
		drv_kick(l->ring);
	}
	return true;
}

static bool turn_split(struct lane *l)
{
	return turn(l, false);
}

static bool turn_packed(struct lane *l)
{
	return turn(l, true);
}

void lane_start(struct lane *l)
{
	uint64_t now = tsc_now();

	for (uint16_t slot = 0; slot < l->depth; slot++) {
		if (l->busy[slot])
			continue;
		prepare(l, slot, now);
		if (l->ring->packed)
			packed_start(l, slot);
		else
			split_start(l, slot);
	}
	if (publish(l, l->ring->packed)) {
		l->stats.kicks++;
		drv_kick(l->ring);
	}
}

int lane_init(struct lane *l, struct drv_ring *ring, const struct lane_conf *conf)
{
	bool writes = pattern_writes(conf->pattern);
	uint64_t reqs, data;
	int err;

	memset(l, 0, sizeof(*l));
	l->ring = ring;
	l->depth = conf->depth;
	l->chain = ring->indirect ? 1 : LANE_CHAIN;
	l->turn = ring->packed ? turn_packed : turn_split;
	memset(l->slot_of, 0xff, sizeof(l->slot_of));
	places_init(&l->places, conf->capacity_sectors, conf->block_size,
		    !pattern_random(conf->pattern), conf->seed);
	reqs = fe_alloc(ring->fe, conf->region, sizeof(struct lane_req) * conf->depth, 4096);
	data = fe_alloc(ring->fe, conf->region, (uint64_t)conf->block_size * conf->depth, 4096);
	if (!reqs || !data || ring->size > ARRAY_SIZE(l->slot_of))
		return -ENOSPC;
	l->req = fe_ptr(ring->fe, reqs, sizeof(struct lane_req) * conf->depth);
	for (unsigned int i = 0; i < conf->depth; i++) {
		uint64_t gpa = reqs + i * sizeof(struct lane_req);
		const struct drv_buf bufs[LANE_CHAIN] = {
			{ .gpa = gpa, .len = sizeof(struct virtio_blk_outhdr) },
			{ .gpa = data + (uint64_t)i * conf->block_size, .len = conf->block_size },
			{ .gpa = gpa + offsetof(struct lane_req, status), .len = 1 },
		};

		l->req[i].type = htole32(writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN);
		l->slot_of[i * l->chain] = (uint16_t)i;
		err = build_slot(l, i, bufs, writes, conf->region);
		if (err)
			return err;
	}
	return 0;
}
