/*
 * Packed virtqueues, the device's side. VIRTIO 1.3, "Packed Virtqueues". Called
 * through virtq.h; never waits or allocates.
 *
 * A chain is known by its buffer id, which only its last descriptor holds, and
 * takes as many ring entries on the way back as it did on the way in.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/log.h"
#include "vhost/virtq_internal.h"

/* How far ahead of the pop position the driver's writes are fetched into the
 * cache: ring entries (four to a line), and chains of the present one's length. */
#define DESC_AHEAD 24
#define CHAINS_AHEAD 3

/* The first buffer of a chain further on, its header for most devices: a guess,
 * for the cache only. */
static inline void prefetch_ahead(const struct virtq *vq, uint32_t pos, uint16_t nr_desc)
{
	uint32_t size = vq->conf.size, next = pos + CHAINS_AHEAD * nr_desc;

	if (pos + DESC_AHEAD < size)
		__builtin_prefetch(virtq_ring_desc(vq, (uint16_t)(pos + DESC_AHEAD)), 1);
	if (next >= size)
		return;
	virtq_prefetch(vq, le64_to_cpu((le64){
				   read_once(&virtq_ring_desc(vq, (uint16_t)next)->addr.wire) }));
}

static void walk_table(struct virtq *vq, struct virtq_chain *c, const struct pvirtq_desc *table,
		       uint32_t nr)
{
	if (nr > VIRTQ_CHAIN_MAX) {
		virtq_chain_bad(vq, c, "too many descriptors in an indirect table");
		return;
	}
	for (uint32_t i = 0; i < nr; i++) {
		struct pvirtq_desc d;

		virtq_copy_desc(&d, &table[i]);
		if (le16_to_cpu(d.flags) & VIRTQ_DESC_F_INDIRECT) {
			virtq_chain_bad_end(vq, c, "a nested indirect table");
			return;
		}
		virtq_chain_add(vq, c, le64_to_cpu(d.addr), le32_to_cpu(d.len),
				le16_to_cpu(d.flags) & VIRTQ_DESC_F_WRITE);
	}
}

static void add_desc(struct virtq *vq, struct virtq_chain *c, const struct pvirtq_desc *d,
		     bool alone)
{
	uint16_t flags = le16_to_cpu(d->flags);
	const struct pvirtq_desc *table;
	uint32_t nr;

	if (!(flags & VIRTQ_DESC_F_INDIRECT)) {
		virtq_chain_add(vq, c, le64_to_cpu(d->addr), le32_to_cpu(d->len),
				flags & VIRTQ_DESC_F_WRITE);
		return;
	}
	if (!alone) {
		virtq_chain_bad_end(vq, c, "an indirect table inside of a chain");
		return;
	}
	table = virtq_chain_table(vq, c, le64_to_cpu(d->addr), le32_to_cpu(d->len), &nr);
	if (table)
		walk_table(vq, c, table, nr);
}

bool virtq_packed_walk(struct virtq *vq, struct virtq_chain *c, struct virtq_packed_place *at)
{
	struct pvirtq_desc d;
	uint16_t flags;

	at->nr_desc = 0;
	do {
		virtq_copy_desc(&d, virtq_ring_desc(vq, at->pos));
		flags = le16_to_cpu(d.flags);
		if (unlikely(++at->nr_desc > vq->conf.size)) {
			virtq_break(vq, "a descriptor chain without an end");
			return false;
		}
		if (unlikely(vq->track))
			virtq_track_desc(vq, at->nr_desc - 1, &d);
		if (at->nr_desc <= VIRTQ_CHAIN_MAX)
			add_desc(vq, c, &d, at->nr_desc == 1 && !(flags & VIRTQ_DESC_F_NEXT));
		else
			virtq_chain_bad_end(vq, c, "too many descriptors");
		if (++at->pos == vq->conf.size) {
			at->pos = 0;
			at->wrap = !at->wrap;
		}
	} while (flags & VIRTQ_DESC_F_NEXT);
	at->id = le16_to_cpu(d.id);
	return true;
}

void virtq_packed_walk_saved(struct virtq *vq, struct virtq_chain *c, const struct pvirtq_desc *d,
			     uint16_t nr)
{
	for (uint16_t i = 0; i < nr && i < VIRTQ_CHAIN_MAX; i++)
		add_desc(vq, c, &d[i], nr == 1);
	if (nr > VIRTQ_CHAIN_MAX)
		virtq_chain_bad_end(vq, c, "too many descriptors");
}

int virtq_packed_pop(struct virtq *vq, struct virtq_chain *c)
{
	struct virtq_packed_place at = { .pos = vq->avail_idx, .wrap = vq->avail_wrap };
	uint16_t flags;

	if (!virtq_may_pop(vq))
		return 0;
	/* Pairs with the driver's release of the first descriptor's flags: the
	 * rest of the chain is visible after this. */
	flags = le16_to_cpu((le16){ load_acquire(&virtq_ring_desc(vq, at.pos)->flags.wire) });
	if (!virtq_is_avail(flags, at.wrap))
		return 0;

	virtq_chain_begin(vq, c);
	if (!virtq_packed_walk(vq, c, &at) || !virtq_chain_end(vq, c))
		return 0;
	prefetch_ahead(vq, vq->avail_idx, at.nr_desc);
	if (unlikely(vq->track) && !virtq_track_has_room(vq, at.nr_desc)) {
		virtq_break(vq, "more descriptors in flight than the ring has");
		return 0;
	}
	if (!virtq_chain_take(vq, c, at.id, at.nr_desc))
		return 0;
	if (unlikely(vq->track))
		virtq_track_take(vq, at.id, at.nr_desc);
	if (unlikely(vq->tlb))
		virtq_tlb_take(vq, at.id);
	vq->avail_idx = at.pos;
	vq->avail_wrap = at.wrap;
	vq->avail_seen = at.pos;
	return 1;
}

/*
 * All but the batch's first descriptor may show at once that they are used: the
 * driver looks at them only after the first one, whose flags virtq_flush()
 * writes last.
 */
void virtq_packed_emit(struct virtq *vq, uint16_t id, uint32_t written)
{
	struct pvirtq_desc *d = virtq_ring_desc(vq, vq->used_idx);
	uint16_t flags = written ? VIRTQ_DESC_F_WRITE : 0;
	uint16_t nr = vq->slot[id].nr_desc;

	if (vq->used_wrap)
		flags |= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	d->id = cpu_to_le16(id);
	d->len = cpu_to_le32(written);
	if (!vq->used_pending) {
		vq->first_idx = vq->used_idx;
		vq->first_flags = flags;
	} else {
		/* id and len before flags; pairs with the driver's acquire of them. */
		store_release(&d->flags.wire, cpu_to_le16(flags).wire);
		virtq_log_write(vq, d, sizeof(*d));
	}
	/* A batch never holds more than the ring, unless the driver made entries
	 * available twice; then its own ring is all that suffers. */
	vq->used_pending += nr;
	vq->used_idx += nr;
	if (vq->used_idx >= vq->conf.size) {
		vq->used_idx -= (uint16_t)vq->conf.size;
		vq->used_wrap = !vq->used_wrap;
	}
}

void virtq_packed_publish(struct virtq *vq)
{
	struct pvirtq_desc *first = virtq_ring_desc(vq, vq->first_idx);

	/* The whole batch becomes visible with this. Pairs with the driver's
	 * acquire of the flags. */
	store_release(&first->flags.wire, cpu_to_le16(vq->first_flags).wire);
	/* After the last write to it: the log may have been taken meanwhile. */
	virtq_log_write(vq, first, sizeof(*first));
}

/* VIRTIO 1.3, "Event Suppression Structure Format". */
bool virtq_packed_driver_wants(struct virtq *vq, uint16_t nr)
{
	const struct pvirtq_event_suppress *e = vq->conf.driver;
	uint16_t flags = le16_to_cpu((le16){ load_acquire(&e->flags.wire) });
	uint16_t desc, off;

	if (!vq->event_idx || flags != PVIRTQ_EVENT_F_DESC)
		return flags != PVIRTQ_EVENT_F_DISABLE;
	/* flags before desc; pairs with the driver's release of flags. */
	desc = le16_to_cpu((le16){ read_once(&e->desc.wire) });
	off = desc & PVIRTQ_EVENT_OFF_MASK;
	if (!!(desc & PVIRTQ_EVENT_WRAP) != vq->used_wrap)
		off -= (uint16_t)vq->conf.size;
	return virtq_need_event(off, vq->used_idx, (uint16_t)(vq->used_idx - nr));
}

bool virtq_packed_has_work(struct virtq *vq)
{
	const struct pvirtq_desc *d = virtq_ring_desc(vq, vq->avail_idx);

	return virtq_is_avail(le16_to_cpu((le16){ read_once(&d->flags.wire) }), vq->avail_wrap);
}

void virtq_packed_set_notify(struct virtq *vq, bool on)
{
	struct pvirtq_event_suppress *e = vq->conf.device;
	uint16_t flags = PVIRTQ_EVENT_F_DISABLE;

	if (on && vq->event_idx) {
		uint16_t desc = vq->avail_idx | (vq->avail_wrap ? PVIRTQ_EVENT_WRAP : 0);

		write_once(&e->desc.wire, cpu_to_le16(desc).wire);
		flags = PVIRTQ_EVENT_F_DESC;
	} else if (on) {
		flags = PVIRTQ_EVENT_F_ENABLE;
	}
	/* desc before flags; pairs with the driver's acquire of flags. */
	store_release(&e->flags.wire, cpu_to_le16(flags).wire);
	virtq_log_write(vq, e, sizeof(*e));
}
