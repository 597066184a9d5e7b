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

/* Any chain; false: the ring broke, or the burst is full. */
static bool look_one(struct virtq *vq, struct virtq_burst *b, uint16_t head)
{
	struct virtq_chain c;

	if (unlikely(head >= vq->conf.size)) {
		virtq_break(vq, "a descriptor id outside of the ring");
		return false;
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

/*
 * As many chains of one buffer as follow each other; how many. What ends the run is
 * for look_one().
 */
static inline __attribute__((always_inline)) unsigned int look_plain(struct virtq *vq,
								     struct virtq_burst *b,
								     const uint16_t *head,
								     unsigned int nr, bool writable)
{
	const uint16_t mask = VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_INDIRECT;
	const uint16_t plain = writable ? VIRTQ_DESC_F_WRITE : 0;
	struct virtq_window w = virtq_burst_window(vq, writable);
	const struct virtq_desc *table = vq->conf.desc;
	struct virtq_buf *buf = &b->buf[b->nr];
	const uint32_t size = vq->conf.size;
	unsigned int i;

	for (i = 0; i < nr; i++, buf++) {
		struct virtq_desc d;

		if (unlikely(head[i] >= size))
			break;
		virtq_copy_desc(&d, &table[head[i]]);
		if ((le16_to_cpu(d.flags) & mask) != plain ||
		    !virtq_burst_add(vq, buf, &w, le64_to_cpu(d.addr), le32_to_cpu(d.len), head[i],
				     writable))
			break;
	}
	b->nr += i;
	b->pos += (uint16_t)i;
	return i;
}

static bool look_some(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	const struct virtq_avail *avail = vq->conf.driver;
	const struct virtq_desc *table = vq->conf.desc;
	const uint16_t mask = vq->mask, pos = b->pos;
	uint16_t head[LOOK_AHEAD];

	/* Before the first head is known: drivers use neighbours one after the other. */
	__builtin_prefetch(&table[vq->next_head & mask]);
	for (unsigned int i = 0; i < nr; i++) {
		head[i] = virtq_read_le16(&avail->ring[(pos + i) & mask]);
		/* A hint for the cache only: any index within the table does. */
		__builtin_prefetch(&table[head[i] & mask]);
	}
	for (unsigned int i = 0;;) {
		if (b->writable)
			i += look_plain(vq, b, head + i, nr - i, true);
		else
			i += look_plain(vq, b, head + i, nr - i, false);
		if (i == nr) {
			vq->next_head = (uint16_t)(head[nr - 1] + 1);
			return true;
		}
		if (!look_one(vq, b, head[i++]))
			return false;
		b->pos++;
	}
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

/* The nr chains from b->buf on, at the used index. */
static void put_used(struct virtq *vq, const struct virtq_buf *buf, unsigned int nr)
{
	struct virtq_used *used = vq->conf.device;
	const uint16_t mask = vq->mask, idx = vq->used_idx;

	for (unsigned int i = 0; i < nr; i++)
		used->ring[(idx + i) & mask] = (struct virtq_used_elem){
			.id = cpu_to_le32(buf[i].id),
			.len = cpu_to_le32(buf[i].written),
		};
	if (likely(!vq->conf.log))
		return;
	for (unsigned int i = 0; i < nr; i++)
		virtq_log_write(vq, &used->ring[(idx + i) & mask], sizeof(used->ring[0]));
}

void virtq_split_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	struct virtq_used *used = vq->conf.device;

	/*
	 * VIRTIO 1.3, "In-order use of descriptors": one used element tells of all
	 * chains up to its own, so of those in which nothing was written: the
	 * driver cannot learn their lengths.
	 */
	if (vq->in_order && !b->writable)
		put_used(vq, &b->buf[nr - 1], 1);
	else
		put_used(vq, b->buf, nr);
	vq->avail_idx += (uint16_t)nr;
	vq->used_idx += (uint16_t)nr;
	b->published += nr;
	/* Pairs with the driver's acquire of idx: elements and data first. */
	store_release(&used->idx.wire, cpu_to_le16(vq->used_idx).wire);
	virtq_log_write(vq, &used->idx, sizeof(used->idx));
}
