/*
 * The driver's half of a split virtqueue. Called by drv.c through its table.
 * VIRTIO 1.3, "Split Virtqueues". Never waits, never kicks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>

#include "core/atomic.h"
#include "tests/frontend/drv.h"

static void split_area_len(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = 16ull * size;
	*driver = 6 + 2ull * size;
	*device = 6 + 8ull * size;
}

static uint16_t split_put(struct drv_ring *r, const struct drv_buf *bufs, unsigned int nr_out,
			  unsigned int nr, uint64_t table_gpa)
{
	uint16_t head = drv_free_peek(r), pos, flags;

	for (unsigned int i = 0; i < nr; i++) {
		pos = drv_free_get(r);
		flags = i >= nr_out ? VIRTQ_DESC_F_WRITE : 0;
		if (table_gpa)
			flags = VIRTQ_DESC_F_INDIRECT;
		if (i + 1 < nr)
			flags |= VIRTQ_DESC_F_NEXT;
		r->link[pos] = i + 1 < nr ? drv_free_peek(r) : 0;
		drv_raw_desc(r, pos, fe_dev_addr(r->fe, bufs[i].gpa), bufs[i].len, flags,
			     r->link[pos]);
	}
	r->chain[head].nr_desc = (uint16_t)nr;
	drv_raw_avail(r, r->avail_idx++, head);
	return head;
}

static bool split_publish(struct drv_ring *r)
{
	uint16_t old = r->published, *event;

	if (r->avail_idx == old)
		return false;
	drv_raw_avail_idx(r, r->avail_idx);
	r->published = r->avail_idx;
	/* The index before the device's wish: pairs with the device's fence
	 * between its wish and its last look at the index. */
	store_load_fence();
	if (!r->event_idx)
		return !(le16_to_cpu((le16){ read_once(&r->used->flags.wire) }) &
			 VIRTQ_USED_F_NO_NOTIFY);
	event = (uint16_t *)&r->used->ring[r->size];
	return drv_need_event(le16_to_cpu((le16){ read_once(event) }), r->avail_idx, old);
}

static int split_peek(struct drv_ring *r, uint16_t *id, uint32_t *len)
{
	/* Pairs with the device's release of idx: elements before it are valid. */
	uint16_t idx = le16_to_cpu((le16){ load_acquire(&r->used->idx.wire) });
	uint16_t nr = idx - r->used_idx;
	uint32_t raw;

	if (!nr)
		return 0;
	if (nr > r->inflight)
		return -EPROTO;
	raw = le32_to_cpu(r->used->ring[r->used_idx % r->size].id);
	if (raw >= r->size)
		return -EPROTO;
	*id = (uint16_t)raw;
	*len = le32_to_cpu(r->used->ring[r->used_idx % r->size].len);
	return 1;
}

static void split_take(struct drv_ring *r, uint16_t id)
{
	uint16_t pos = id;

	for (unsigned int i = 0; i < r->chain[id].nr_desc; i++) {
		drv_free_put(r, pos);
		pos = r->link[pos];
	}
	r->used_idx++;
}

static void split_notify(struct drv_ring *r, bool on)
{
	/* EVENT_IDX: "never" is the entry just passed, 65535 entries away. */
	uint16_t event = on ? r->used_idx : r->used_idx - 1;

	if (r->event_idx)
		write_once(&r->avail->ring[r->size].wire, cpu_to_le16(event).wire);
	else
		write_once(&r->avail->flags.wire,
			   cpu_to_le16(on ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT).wire);
	/* The wish before the next look at the index. */
	store_load_fence();
}

static uint32_t split_base(const struct drv_ring *r)
{
	return r->published;
}

static void split_set_base(struct drv_ring *r, uint32_t base)
{
	r->avail_idx = r->published = r->used_idx = (uint16_t)base;
	r->avail->idx = r->used->idx = cpu_to_le16((uint16_t)base);
}

const struct drv_ops drv_split_ops = {
	.put = split_put,
	.publish = split_publish,
	.peek = split_peek,
	.take = split_take,
	.notify = split_notify,
	.base = split_base,
	.set_base = split_set_base,
	.area_len = split_area_len,
};
