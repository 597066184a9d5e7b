/*
 * Bursts of chains: what both ring kinds share. Called by devices that serve
 * whole bursts (virtq_burst.h); never waits or allocates.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq_burst.h"

#include "vhost/loop.h"
#include "vhost/virtq_burst_internal.h"

/* Chains whose translations are asked for before they are needed, and how many of
 * them are left when that is done again. */
#define AHEAD 64
#define AHEAD_MIN 32

void virtq_burst_chain_begin(struct virtq *vq, const struct virtq_burst *b, struct virtq_chain *c)
{
	virtq_chain_begin(vq, c);
	c->iov = vq->iov + b->iov_used;
}

void virtq_burst_add_chain(struct virtq_burst *b, const struct virtq_chain *c, uint16_t id,
			   uint16_t nr_desc)
{
	const struct iovec *iov = b->writable ? c->iov + c->out_cnt : c->iov;
	uint16_t nr = b->writable ? c->in_cnt : c->out_cnt;
	uint64_t len = b->writable ? c->in_len : c->out_len;

	struct virtq_buf *buf = &b->buf[b->nr++];

	*buf = (struct virtq_buf){
		.iov = iov,
		.len = (uint32_t)min_u64(len, UINT32_MAX),
		.id = id,
		.nr_desc = nr_desc,
		.nr_iov = nr,
		.error = c->error,
	};
	/* One buffer of an indirect table, for instance. */
	if (nr == 1) {
		buf->one = *iov;
		buf->iov = &buf->one;
	}
	b->iov_used += c->out_cnt + c->in_cnt;
}

void virtq_burst_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr)
{
	assert(nr <= b->nr);
	if (nr) {
		if (vq->packed)
			virtq_packed_use(vq, b, nr);
		else
			virtq_split_use(vq, b, nr);
		counter_add(&vq->stats.chains, nr);
		if (unlikely(vq->tlb))
			vq->tlb->nr_ahead -= (unsigned int)min_u64(nr, vq->tlb->nr_ahead);
	}
	b->nr = 0;
	b->iov_used = 0;
	b->pos = vq->avail_idx;
	b->wrap = vq->avail_wrap;
}

void virtq_burst_notify(struct virtq *vq, struct virtq_burst *b)
{
	uint32_t nr = b->published;

	if (!nr)
		return;
	b->published = 0;
	/* Every index was passed if the ring went round. */
	virtq_notify_of(vq, (uint16_t)min_u64(nr, UINT16_MAX));
}

void virtq_burst_notify_late(struct virtq *vq, struct virtq_burst *b, uint64_t bytes)
{
	uint32_t nr = b->published;

	if (!nr)
		return;
	b->published = 0;
	if (vq->conf.call_fd < 0)
		return;
	virtq_publish_fence();
	loop_notify_late(vq, (uint16_t)min_u64(nr, UINT16_MAX), bytes);
}

/* Chains before one whose addresses are not known yet can be served. */
void virtq_burst_missed(struct virtq *vq, const struct virtq_burst *b)
{
	if (b->nr)
		vq->tlb->stalled = false;
}

void virtq_burst_ahead_slow(struct virtq *vq)
{
	struct virtq_buf buf[AHEAD];
	struct virtq_burst b;

	if (vq->tlb->asking || vq->tlb->nr_ahead >= AHEAD_MIN || vq->state != VIRTQ_STARTED)
		return;
	virtq_burst_begin(vq, &b, buf, AHEAD, true);
	vq->tlb->nr_ahead = virtq_burst_look(vq, &b, AHEAD);
}
