/*
 * Split virtqueues, the device's side. VIRTIO 1.3, "Split Virtqueues". Called
 * through virtq.h; never waits or allocates.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/log.h"
#include "vhost/virtq_internal.h"

/* How far ahead of the pop position descriptors and buffers are fetched into
 * the cache: the driver wrote both on another core. */
#define DESC_AHEAD 6
#define DATA_AHEAD 3

/* The two fields that EVENT_IDX adds behind the rings. */
static inline const le16 *used_event(const struct virtq *vq)
{
	const struct virtq_avail *avail = vq->conf.driver;

	return &avail->ring[vq->conf.size];
}

static inline le16 *avail_event(const struct virtq *vq)
{
	struct virtq_used *used = vq->conf.device;

	return (le16 *)&used->ring[vq->conf.size];
}

static inline const struct virtq_desc *ahead(const struct virtq *vq, uint16_t pos)
{
	const struct virtq_avail *avail = vq->conf.driver;
	const struct virtq_desc *table = vq->conf.desc;

	/* A hint for the cache only: any index within the table does. */
	return &table[virtq_read_le16(&avail->ring[pos & vq->mask]) & vq->mask];
}

static inline void prefetch_desc(const struct virtq *vq, uint16_t pos)
{
	__builtin_prefetch(ahead(vq, pos));
}

/* The first buffer of a chain: its header, for most devices. */
static inline void prefetch_data(const struct virtq *vq, uint16_t pos)
{
	const struct virtq_desc *d = ahead(vq, pos);

	virtq_prefetch(vq, le64_to_cpu((le64){ read_once(&d->addr.wire) }));
}

bool virtq_split_refill(struct virtq *vq)
{
	const struct virtq_avail *avail = vq->conf.driver;
	uint16_t idx, nr;

	if (!virtq_may_pop(vq))
		return false;
	/* If there is a new entry, its line is on its way while idx is. */
	__builtin_prefetch(&avail->ring[vq->avail_idx & vq->mask]);
	/* Pairs with the driver's release of idx: the ring entries and descriptors
	 * up to it are visible after this. */
	idx = le16_to_cpu((le16){ load_acquire(&avail->idx.wire) });
	nr = (uint16_t)(idx - vq->avail_idx);
	if (!nr)
		return false;
	if (unlikely(nr > vq->conf.size)) {
		virtq_break(vq, "the available index jumped by more than the ring's size");
		return false;
	}
	vq->avail_seen = idx;
	return true;
}

static bool refill(struct virtq *vq)
{
	uint16_t nr;

	if (!virtq_split_refill(vq))
		return false;
	nr = (uint16_t)(vq->avail_seen - vq->avail_idx);
	for (uint16_t i = 0; i < nr && i < DESC_AHEAD; i++)
		prefetch_desc(vq, (uint16_t)(vq->avail_idx + i));
	return true;
}

/* Descriptors of one chain, in the ring's own table or an indirect one. */
struct walk {
	const struct virtq_desc *table;
	uint32_t nr; /* entries of the table */
	uint32_t steps; /* left; a chain longer than its table has a loop */
	bool indirect;
};

static bool walk_indirect(struct virtq *vq, struct virtq_chain *c, struct walk *w,
			  const struct virtq_desc *d)
{
	/* VIRTIO 1.3, "Indirect Descriptors": no table within a table, none
	 * together with NEXT. */
	if (w->indirect || le16_to_cpu(d->flags) & VIRTQ_DESC_F_NEXT) {
		virtq_chain_bad_end(vq, c, "a nested indirect table, or one with NEXT");
		return false;
	}
	w->table = virtq_chain_table(vq, c, le64_to_cpu(d->addr), le32_to_cpu(d->len), &w->nr);
	w->steps = w->nr < VIRTQ_CHAIN_MAX ? w->nr : VIRTQ_CHAIN_MAX;
	w->indirect = true;
	return w->table;
}

void virtq_split_walk(struct virtq *vq, struct virtq_chain *c, uint16_t head)
{
	struct walk w = { vq->conf.desc, vq->conf.size, vq->conf.size, false };
	uint16_t next = head, flags;
	struct virtq_desc d;

	for (;;) {
		virtq_copy_desc(&d, &w.table[next]);
		flags = le16_to_cpu(d.flags);
		if (flags & VIRTQ_DESC_F_INDIRECT) {
			/* VIRTIO 1.3, "Indirect Descriptors": descriptors of the ring
			 * may come before the one that refers to a table. */
			if (!walk_indirect(vq, c, &w, &d))
				return;
			next = 0;
			continue;
		}
		virtq_chain_add(vq, c, le64_to_cpu(d.addr), le32_to_cpu(d.len),
				flags & VIRTQ_DESC_F_WRITE);
		if (!(flags & VIRTQ_DESC_F_NEXT))
			return;
		next = le16_to_cpu(d.next);
		if (unlikely(next >= w.nr || !--w.steps)) {
			virtq_chain_bad_end(vq, c, "a next index out of range, or a loop");
			return;
		}
	}
}

int virtq_split_pop(struct virtq *vq, struct virtq_chain *c)
{
	const struct virtq_avail *avail = vq->conf.driver;
	uint16_t head, left;

	if (vq->avail_idx == vq->avail_seen && !refill(vq))
		return 0;
	left = (uint16_t)(vq->avail_seen - vq->avail_idx);
	if (left > DESC_AHEAD)
		prefetch_desc(vq, (uint16_t)(vq->avail_idx + DESC_AHEAD));
	if (left > DATA_AHEAD)
		prefetch_data(vq, (uint16_t)(vq->avail_idx + DATA_AHEAD));

	head = virtq_read_le16(&avail->ring[vq->avail_idx & vq->mask]);
	if (!virtq_chain_take(vq, c, head, 1))
		return 0;
	vq->avail_idx++;
	virtq_chain_begin(vq, c);
	virtq_split_walk(vq, c, head);
	if (unlikely(vq->track))
		virtq_track_take(vq, head, 1);
	if (!virtq_chain_end(vq, c)) {
		virtq_rewind(vq, &head, 1);
		return 0;
	}
	if (unlikely(vq->tlb))
		virtq_tlb_take(vq, head);
	return 1;
}

void virtq_split_emit(struct virtq *vq, uint16_t id, uint32_t written)
{
	struct virtq_used *used = vq->conf.device;
	uint16_t pos = (uint16_t)(vq->used_idx + vq->used_pending++) & vq->mask;

	used->ring[pos].id = cpu_to_le32(id);
	used->ring[pos].len = cpu_to_le32(written);
	virtq_log_write(vq, &used->ring[pos], sizeof(used->ring[pos]));
}

void virtq_split_publish(struct virtq *vq)
{
	struct virtq_used *used = vq->conf.device;

	vq->used_idx = (uint16_t)(vq->used_idx + vq->used_pending);
	/* Pairs with the driver's acquire of idx: elements and data first. */
	store_release(&used->idx.wire, cpu_to_le16(vq->used_idx).wire);
	virtq_log_write(vq, &used->idx, sizeof(used->idx));
}

bool virtq_split_driver_wants(struct virtq *vq, uint16_t nr)
{
	const struct virtq_avail *avail = vq->conf.driver;

	if (vq->event_idx)
		return virtq_need_event(virtq_read_le16(used_event(vq)), vq->used_idx,
					(uint16_t)(vq->used_idx - nr));
	return !(virtq_read_le16(&avail->flags) & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

bool virtq_split_has_work(struct virtq *vq)
{
	const struct virtq_avail *avail = vq->conf.driver;

	return vq->avail_idx != vq->avail_seen || virtq_read_le16(&avail->idx) != vq->avail_idx;
}

void virtq_split_set_notify(struct virtq *vq, bool on)
{
	struct virtq_used *used = vq->conf.device;

	if (vq->event_idx) {
		/* Off: an index just left behind, not passed for 65,535 buffers. */
		uint16_t event = on ? vq->avail_idx : (uint16_t)(vq->avail_idx - 1);

		write_once(&avail_event(vq)->wire, cpu_to_le16(event).wire);
		virtq_log_write(vq, avail_event(vq), sizeof(le16));
		return;
	}
	write_once(&used->flags.wire, cpu_to_le16(on ? 0 : VIRTQ_USED_F_NO_NOTIFY).wire);
	virtq_log_write(vq, &used->flags, sizeof(used->flags));
}
