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
 * The region of the last hit, as locals of a loop over plain chains: nearly all
 * buffers of a guest are in one region. Behind a virtual IOMMU, the range of the last
 * hit; empty where it does not permit what is wanted.
 */
struct virtq_window {
	uint64_t start, size;
	uint8_t *host;
};

static inline uint32_t virtq_burst_perm(bool writable)
{
	return writable ? IOTLB_WRITE : IOTLB_READ;
}

static inline struct virtq_window virtq_burst_range(const struct iotlb_range *r, uint32_t perm)
{
	if ((r->perm & perm) != perm)
		return (struct virtq_window){ 0 };
	return (struct virtq_window){ r->start, r->end - r->start, r->host };
}

static inline struct virtq_window virtq_burst_window(const struct virtq *vq, bool writable)
{
	const struct gmem_range *r = &vq->conf.gm->range[vq->hint];

	if (unlikely(vq->tlb))
		return virtq_burst_range(vq->tlb->hot, virtq_burst_perm(writable));
	return (struct virtq_window){ r->gpa, r->end - r->gpa, r->host };
}

/* Another region or range, if there is one that holds all of [addr, addr + len). */
static inline bool virtq_burst_look_elsewhere(struct virtq *vq, struct virtq_window *w,
					      uint64_t addr, uint32_t len, bool writable)
{
	const struct iotlb_range *r;

	if (!vq->tlb) {
		if (!gmem_ptr(vq->conf.gm, gpa(addr), len, &vq->hint))
			return false;
		*w = virtq_burst_window(vq, writable);
		return true;
	}
	r = virtq_tlb_range(vq, addr, virtq_burst_perm(writable));
	if (!r || !len || len > r->end - addr)
		return false;
	*w = virtq_burst_range(r, 0);
	return true;
}

/* One more chain of one buffer, whose first lines are fetched; false if it is not
 * all in one region. */
static inline __attribute__((always_inline)) bool virtq_burst_add(struct virtq *vq,
								  struct virtq_buf *buf,
								  struct virtq_window *w,
								  uint64_t addr, uint32_t len,
								  uint16_t id, bool writable)
{
	/* Wraps for what is below the region, and so is beyond it. */
	uint64_t off = addr - w->start;
	uint8_t *p;

	if (unlikely(off >= w->size || !len || len > w->size - off)) {
		if (!virtq_burst_look_elsewhere(vq, w, addr, len, writable))
			return false;
		off = addr - w->start;
	}
	p = w->host + off;
	for (unsigned int i = 0; i < VIRTQ_BURST_FETCH; i++) {
		/* To be written means to be taken from the driver's cache. */
		if (writable)
			__builtin_prefetch(p + i * CACHE_LINE, 1);
		else
			__builtin_prefetch(p + i * CACHE_LINE, 0);
	}
	*buf = (struct virtq_buf){
		.one = { p, len },
		.iov = &buf->one,
		.len = len,
		.id = id,
		.nr_desc = 1,
		.nr_iov = 1,
	};
	return true;
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
