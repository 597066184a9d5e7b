/*
 * The driver's half of a packed virtqueue. Called by drv.c through its table.
 * VIRTIO 1.3, "Packed Virtqueues". Never waits, never kicks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>

#include "core/atomic.h"
#include "tests/frontend/drv.h"

static void packed_area_len(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = 16ull * size;
	*driver = sizeof(struct pvirtq_event_suppress);
	*device = sizeof(struct pvirtq_event_suppress);
}

static void step(const struct drv_ring *r, uint16_t *pos, bool *wrap, uint16_t nr)
{
	*pos += nr;
	if (*pos >= r->size) {
		*pos -= r->size;
		*wrap = !*wrap;
	}
}

/*
 * The device reads on from a head as soon as that is available, so a batch stays
 * hidden as long as the flags of its first descriptor do.
 */
static uint16_t packed_put(struct drv_ring *r, const struct drv_buf *bufs, unsigned int nr_out,
			   unsigned int nr, uint64_t table_gpa)
{
	uint16_t id = drv_free_get(r), flags;
	struct pvirtq_desc *d;

	for (unsigned int i = 0; i < nr; i++) {
		d = &r->pdesc[r->avail_idx];
		flags = i >= nr_out ? VIRTQ_DESC_F_WRITE : 0;
		if (table_gpa)
			flags = VIRTQ_DESC_F_INDIRECT;
		if (i + 1 < nr)
			flags |= VIRTQ_DESC_F_NEXT;
		flags |= drv_packed_avail_flags(r->avail_wrap);
		d->addr = cpu_to_le64(fe_dev_addr(r->fe, bufs[i].gpa));
		d->len = cpu_to_le32(bufs[i].len);
		d->id = cpu_to_le16(id);
		if (r->batch_open) {
			store_release(&d->flags.wire, cpu_to_le16(flags).wire);
		} else {
			r->batch_open = true;
			r->batch_pos = r->avail_idx;
			r->batch_flags = flags;
		}
		step(r, &r->avail_idx, &r->avail_wrap, 1);
	}
	r->batch_added += (uint16_t)nr;
	r->chain[id].nr_desc = (uint16_t)nr;
	return id;
}

static bool packed_publish(struct drv_ring *r)
{
	uint16_t old, event, desc, flags;
	union {
		struct pvirtq_event_suppress s;
		uint32_t word;
	} wish;

	if (!r->batch_open)
		return false;
	store_release(&r->pdesc[r->batch_pos].flags.wire, cpu_to_le16(r->batch_flags).wire);
	r->batch_open = false;
	old = (uint16_t)(r->avail_idx - r->batch_added);
	r->batch_added = 0;
	/* The descriptors before the device's wish: pairs with the device's fence
	 * between its wish and its last look at the ring. */
	store_load_fence();
	wish.word = read_once((uint32_t *)r->device_event);
	desc = le16_to_cpu(wish.s.desc);
	flags = le16_to_cpu(wish.s.flags);
	if (flags != PVIRTQ_EVENT_F_DESC)
		return flags != PVIRTQ_EVENT_F_DISABLE;
	event = desc & PVIRTQ_EVENT_OFF_MASK;
	/* Positions of the last round lie behind those of this one. */
	if (!!(desc & PVIRTQ_EVENT_WRAP) != r->avail_wrap)
		event -= r->size;
	return drv_need_event(event, r->avail_idx, old);
}

static int packed_peek(struct drv_ring *r, uint16_t *id, uint32_t *len)
{
	const struct pvirtq_desc *d = &r->pdesc[r->used_idx];
	uint16_t flags;

	if (!r->inflight)
		return 0;
	/* Pairs with the device's release of flags: id and len are valid. */
	flags = le16_to_cpu((le16){ load_acquire(&d->flags.wire) });
	if (!!(flags & VIRTQ_DESC_F_USED) != r->used_wrap ||
	    !!(flags & VIRTQ_DESC_F_AVAIL) != r->used_wrap)
		return 0;
	*id = le16_to_cpu(d->id);
	*len = le32_to_cpu(d->len);
	/* "the driver MUST ignore len" unless the device wrote anything. */
	if (!(flags & VIRTQ_DESC_F_WRITE))
		*len = 0;
	return 1;
}

static void packed_take(struct drv_ring *r, uint16_t id)
{
	drv_free_put(r, id);
	step(r, &r->used_idx, &r->used_wrap, r->chain[id].nr_desc);
}

static void packed_notify(struct drv_ring *r, bool on)
{
	uint16_t flags = on ? PVIRTQ_EVENT_F_ENABLE : PVIRTQ_EVENT_F_DISABLE;
	union {
		struct pvirtq_event_suppress s;
		uint32_t word;
	} wish = { 0 };

	if (on && r->event_idx) {
		flags = PVIRTQ_EVENT_F_DESC;
		wish.s.desc = cpu_to_le16(r->used_idx | (r->used_wrap ? PVIRTQ_EVENT_WRAP : 0));
	}
	wish.s.flags = cpu_to_le16(flags);
	write_once((uint32_t *)r->driver_event, wish.word);
	/* The wish before the next look at the ring. */
	store_load_fence();
}

static uint16_t half(uint16_t pos, bool wrap)
{
	return pos | (wrap ? PVIRTQ_EVENT_WRAP : 0);
}

static uint32_t packed_base(const struct drv_ring *r)
{
	return half(r->avail_idx, r->avail_wrap) | (uint32_t)half(r->used_idx, r->used_wrap) << 16;
}

static void packed_set_base(struct drv_ring *r, uint32_t base)
{
	r->avail_idx = r->used_idx = base & PVIRTQ_EVENT_OFF_MASK;
	r->avail_wrap = r->used_wrap = base & PVIRTQ_EVENT_WRAP;
}

const struct drv_ops drv_packed_ops = {
	.put = packed_put,
	.publish = packed_publish,
	.peek = packed_peek,
	.take = packed_take,
	.notify = packed_notify,
	.base = packed_base,
	.set_base = packed_set_base,
	.area_len = packed_area_len,
};
