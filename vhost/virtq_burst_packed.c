/*
 * Bursts of chains of a packed virtqueue. VIRTIO 1.3, "Packed Virtqueues".
 * Called through virtq_burst.h; never waits or allocates.
 *
 * The two halves of a descriptor are read and written as one word each: its
 * address, and its length, id and flags, which are what the device gives back.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq_burst_internal.h"

static_assert(offsetof(struct pvirtq_desc, len) == 8 && offsetof(struct pvirtq_desc, id) == 12 &&
		      offsetof(struct pvirtq_desc, flags) == 14,
	      "the second half of a descriptor is one word");

#define FLAGS_SHIFT 48
#define ID_SHIFT 32

static inline uint64_t *second_half(struct pvirtq_desc *d)
{
	return (uint64_t *)(void *)&d->len;
}

/* What the flags of an available descriptor are that is alone in its chain. */
static inline uint16_t plain_flags(bool wrap, bool writable)
{
	return (wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED) |
	       (writable ? VIRTQ_DESC_F_WRITE : 0);
}

#define PLAIN_MASK                                                                                 \
	(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED | VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE |         \
	 VIRTQ_DESC_F_INDIRECT)

/* A chain that is not one buffer. False: the ring broke, or the burst is full. */
static bool look_chain(struct virtq *vq, struct virtq_burst *b)
{
	struct virtq_packed_place at = { .pos = b->pos, .wrap = b->wrap };
	struct virtq_chain c;

	if (!virtq_burst_has_room(b))
		return false;
	virtq_burst_chain_begin(vq, b, &c);
	if (!virtq_packed_walk(vq, &c, &at) || !virtq_chain_end(vq, &c))
		return false;
	if (unlikely(at.id >= vq->conf.size)) {
		virtq_break(vq, "a descriptor id outside of the ring");
		return false;
	}
	virtq_burst_add_chain(b, &c, at.id, at.nr_desc);
	b->pos = at.pos;
	b->wrap = at.wrap;
	return true;
}

/*
 * As many chains of one buffer as follow each other up to the ring's end. What
 * ends the run is for look_one().
 */
static inline __attribute__((always_inline)) void look_plain(struct virtq *vq,
							     struct virtq_burst *b,
							     unsigned int want, bool writable)
{
	const uint16_t plain = plain_flags(b->wrap, writable);
	struct virtq_window w = virtq_burst_window(vq, writable);
	struct pvirtq_desc *d = virtq_ring_desc(vq, b->pos);
	struct virtq_buf *buf = &b->buf[b->nr];
	const uint32_t size = vq->conf.size;
	unsigned int max = (unsigned int)min_u64(want - b->nr, size - b->pos), nr;

	for (nr = 0; nr < max; nr++, d++, buf++) {
		/* Pairs with the driver's release of the flags: the rest of the
		 * descriptor is visible after this. */
		uint64_t half = le64_to_cpu((le64){ load_acquire(second_half(d)) });
		uint16_t id = (uint16_t)(half >> ID_SHIFT);
		uint64_t addr;

		if ((half >> FLAGS_SHIFT & PLAIN_MASK) != plain || unlikely(id >= size))
			break;
		addr = le64_to_cpu((le64){ read_once(&d->addr.wire) });
		if (!virtq_burst_add(vq, buf, &w, addr, (uint32_t)half, id, writable))
			break;
	}
	b->nr += nr;
	b->pos += (uint16_t)nr;
	if (b->pos == size) {
		b->pos = 0;
		b->wrap = !b->wrap;
	}
}

/* Any chain; false: none available, the ring broke, or the burst is full. */
static bool look_one(struct virtq *vq, struct virtq_burst *b)
{
	/* Pairs with the driver's release of the flags: the rest of the chain is
	 * visible after this. */
	const le16 *flags = &virtq_ring_desc(vq, b->pos)->flags;

	if (!virtq_is_avail(le16_to_cpu((le16){ load_acquire(&flags->wire) }), b->wrap))
		return false;
	return look_chain(vq, b);
}

void virtq_packed_look(struct virtq *vq, struct virtq_burst *b, unsigned int want)
{
	if (!virtq_may_pop(vq))
		return;
	do {
		if (b->writable)
			look_plain(vq, b, want, true);
		else
			look_plain(vq, b, want, false);
	} while (b->nr < want && look_one(vq, b));
}

/* Over nr entries of the ring from *pos on. */
static inline void step(const struct virtq *vq, uint16_t *pos, bool *wrap, uint32_t nr)
{
	uint32_t next = *pos + nr;

	/* More than once only if the driver made entries available twice. */
	while (next >= vq->conf.size) {
		next -= vq->conf.size;
		*wrap = !*wrap;
	}
	*pos = (uint16_t)next;
}

/* The second half of a used descriptor. VIRTIO 1.3, "Packed Virtqueues": both
 * bits are the wrap counter, WRITE says that len is meant. */
static inline uint64_t used_half(bool wrap, uint16_t id, uint32_t written)
{
	uint16_t flags = written ? VIRTQ_DESC_F_WRITE : 0;

	if (wrap)
		flags |= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	return cpu_to_le64(written | (uint64_t)id << ID_SHIFT | (uint64_t)flags << FLAGS_SHIFT)
		.wire;
}

/* id and len with flags, in one store. Pairs with the driver's acquire of the
 * flags: what was written to the buffers comes first. */
static inline void put_used(struct pvirtq_desc *d, uint64_t half)
{
	store_release(second_half(d), half);
}

/* All but the first of nr chains: from *pos on, which moves. The sum of their ring
 * entries. */
static uint32_t use_rest(struct virtq *vq, const struct virtq_burst *b, unsigned int nr,
			 uint16_t *pos, bool *wrap)
{
	/* Not read anew after each store. */
	struct pvirtq_desc *ring = vq->conf.desc;
	const struct virtq_buf *buf = b->buf;
	const uint32_t size = vq->conf.size;
	bool wrapped = *wrap;
	uint32_t at = *pos, sum = 0;

	for (unsigned int i = 1; i < nr; i++) {
		put_used(&ring[at], used_half(wrapped, buf[i].id, buf[i].written));
		sum += buf[i].nr_desc;
		at += buf[i].nr_desc;
		if (unlikely(at >= size)) {
			at -= size;
			wrapped = !wrapped;
		}
	}
	*pos = (uint16_t)at;
	*wrap = wrapped;
	return sum;
}

/* After the last write to them: the log may have been taken meanwhile. */
static void log_used(struct virtq *vq, const struct virtq_burst *b, unsigned int nr, uint16_t pos)
{
	bool wrap = false;

	for (unsigned int i = 0; i < nr; i++) {
		virtq_log_write(vq, virtq_ring_desc(vq, pos), sizeof(struct pvirtq_desc));
		step(vq, &pos, &wrap, b->buf[i].nr_desc);
	}
}

void virtq_packed_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	uint16_t first = vq->used_idx;
	uint32_t nr_desc = 0;
	uint64_t head;

	if (vq->in_order && !b->writable) {
		/*
		 * VIRTIO 1.3, "In-order use of descriptors": one used descriptor
		 * tells of all chains up to its own, so of those in which nothing
		 * was written: the driver cannot learn their lengths.
		 */
		for (unsigned int i = 0; i < nr; i++)
			nr_desc += b->buf[i].nr_desc;
		head = used_half(vq->used_wrap, b->buf[nr - 1].id, 0);
		step(vq, &vq->used_idx, &vq->used_wrap, nr_desc);
	} else {
		head = used_half(vq->used_wrap, b->buf[0].id, b->buf[0].written);
		step(vq, &vq->used_idx, &vq->used_wrap, b->buf[0].nr_desc);
		nr_desc = b->buf[0].nr_desc + use_rest(vq, b, nr, &vq->used_idx, &vq->used_wrap);
	}
	/* Last: the driver looks at the others only after this one. */
	put_used(virtq_ring_desc(vq, first), head);
	if (unlikely(vq->conf.log))
		log_used(vq, b, nr, first);
	step(vq, &vq->avail_idx, &vq->avail_wrap, nr_desc);
	vq->avail_seen = vq->avail_idx;
	b->published += nr_desc;
}
