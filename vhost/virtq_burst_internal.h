/*
 * What the bursts of both ring kinds share. Private to virtq_burst*.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_BURST_INTERNAL_H
#define RINGBOLT_VHOST_VIRTQ_BURST_INTERNAL_H

#include "vhost/virtq_burst.h"
#include "vhost/virtq_internal.h"

/* Cache lines of a chain's first buffer that are fetched when a burst finds it:
 * the headers of what is sent or received, which the driver wrote on another
 * core. */
#define VIRTQ_BURST_FETCH 2

/*
 * The pointer for [addr, addr + len) if all of that is in one region, else NULL:
 * then, and behind a virtual IOMMU, the chain is walked.
 */
static inline uint8_t *virtq_burst_ptr(struct virtq *vq, uint64_t addr, uint32_t len, bool writable)
{
	const struct gmem_range *r = &vq->conf.gm->range[vq->hint];
	uint8_t *p;

	if (unlikely(vq->tlb))
		return NULL;
	if (likely(addr >= r->gpa && addr < r->end && len && len <= r->end - addr))
		p = r->host + (addr - r->gpa);
	else
		p = gmem_ptr(vq->conf.gm, gpa(addr), len, &vq->hint);
	for (unsigned int i = 0; p && i < VIRTQ_BURST_FETCH; i++) {
		/* To be written means to be taken from the driver's cache. */
		if (writable)
			__builtin_prefetch(p + i * CACHE_LINE, 1);
		else
			__builtin_prefetch(p + i * CACHE_LINE, 0);
	}
	return p;
}

/* One more chain of one buffer. */
static inline void virtq_burst_add(struct virtq_burst *b, uint8_t *p, uint32_t len, uint16_t id)
{
	struct virtq_buf *buf = &b->buf[b->nr++];

	*buf = (struct virtq_buf){
		.one = { p, len },
		.iov = &buf->one,
		.len = len,
		.id = id,
		.nr_desc = 1,
		.nr_iov = 1,
	};
}

/* Room for one more chain of any form? If not, the next burst has it. */
static inline bool virtq_burst_has_room(const struct virtq_burst *b)
{
	return b->iov_used <= VIRTQ_BURST_IOV - VIRTQ_IOV_MAX;
}

/* The same for a chain that was walked, c->iov being vq->iov + b->iov_used. */
void virtq_burst_add_chain(struct virtq_burst *b, const struct virtq_chain *c, uint16_t id,
			   uint16_t nr_desc);
/* An empty chain for such a walk. */
void virtq_burst_chain_begin(struct virtq *vq, const struct virtq_burst *b, struct virtq_chain *c);

#endif
