/*
 * Bursts of chains of a split virtqueue. VIRTIO 1.3, "Split Virtqueues". Called
 * through virtq_burst.h; never waits or allocates.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq_burst_internal.h"

/* Heads read before their descriptors are: so many descriptors are fetched into
 * the cache at once. */
#define LOOK_AHEAD 32

/* Next to look at; false: the ring broke, or the burst is full. */
static bool look_one(struct virtq *vq, struct virtq_burst *b, uint16_t head)
{
	const struct virtq_desc *table = vq->conf.desc;
	uint16_t want = b->writable ? VIRTQ_DESC_F_WRITE : 0;
	struct virtq_chain c;
	struct virtq_desc d;
	uint8_t *p;

	if (unlikely(head >= vq->conf.size)) {
		virtq_break(vq, "a descriptor id outside of the ring");
		return false;
	}
	virtq_copy_desc(&d, &table[head]);
	if (likely((le16_to_cpu(d.flags) &
		    (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_INDIRECT)) == want)) {
		p = virtq_burst_ptr(vq, le64_to_cpu(d.addr), le32_to_cpu(d.len), want);
		if (likely(p)) {
			virtq_burst_add(b, p, le32_to_cpu(d.len), head);
			return true;
		}
	}
	if (!virtq_burst_has_room(b))
		return false;
	virtq_burst_chain_begin(vq, b, &c);
	virtq_split_walk(vq, &c, head);
	if (!virtq_chain_end(vq, &c))
		return false;
	virtq_burst_add_chain(b, &c, head, 1);
	return true;
}

static bool look_some(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	const struct virtq_avail *avail = vq->conf.driver;
	const struct virtq_desc *table = vq->conf.desc;
	uint16_t head[LOOK_AHEAD];

	for (unsigned int i = 0; i < nr; i++) {
		head[i] = virtq_read_le16(&avail->ring[(b->pos + i) & vq->mask]);
		/* A hint for the cache only: any index within the table does. */
		__builtin_prefetch(&table[head[i] & vq->mask]);
	}
	for (unsigned int i = 0; i < nr; i++) {
		if (!look_one(vq, b, head[i]))
			return false;
		b->pos++;
	}
	return true;
}

void virtq_split_look(struct virtq *vq, struct virtq_burst *b, unsigned int want)
{
	uint16_t left;

	if ((uint16_t)(vq->avail_seen - vq->avail_idx) < want && !virtq_split_refill(vq))
		return;
	left = (uint16_t)(vq->avail_seen - b->pos);
	want = (unsigned int)min_u64(want - b->nr, left);
	while (want) {
		unsigned int nr = want < LOOK_AHEAD ? want : LOOK_AHEAD;

		if (!look_some(vq, b, nr))
			return;
		want -= nr;
	}
}

static void put_used(struct virtq *vq, uint16_t idx, uint16_t id, uint32_t len)
{
	struct virtq_used *used = vq->conf.device;
	struct virtq_used_elem *e = &used->ring[idx & vq->mask];

	*e = (struct virtq_used_elem){ .id = cpu_to_le32(id), .len = cpu_to_le32(len) };
	virtq_log_write(vq, e, sizeof(*e));
}

void virtq_split_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	struct virtq_used *used = vq->conf.device;

	/*
	 * VIRTIO 1.3, "In-order use of descriptors": one used element tells of all
	 * chains up to its own, so of those in which nothing was written: the
	 * driver cannot learn their lengths.
	 */
	if (vq->in_order && !b->writable) {
		put_used(vq, vq->used_idx, b->buf[nr - 1].id, 0);
	} else {
		for (unsigned int i = 0; i < nr; i++)
			put_used(vq, (uint16_t)(vq->used_idx + i), b->buf[i].id, b->buf[i].written);
	}
	vq->avail_idx += (uint16_t)nr;
	vq->used_idx += (uint16_t)nr;
	b->published += nr;
	/* Pairs with the driver's acquire of idx: elements and data first. */
	store_release(&used->idx.wire, cpu_to_le16(vq->used_idx).wire);
	virtq_log_write(vq, &used->idx, sizeof(used->idx));
}
