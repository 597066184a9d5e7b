/*
 * A ring of a device behind a virtual IOMMU: its addresses are I/O virtual.
 * vhost-user, "IOMMU support". Private to vhost/.
 *
 * Theory of operation
 *
 * Translation is the ring's own cache (iommu/iotlb.h) in front of the device's
 * table. An address that neither knows stalls the ring: the chain is not popped,
 * the loop tells the control thread, which asks the front-end, and nothing is
 * popped until the control thread has the loop try again. If the front-end has
 * refused, the chain is popped as a malformed one. Other rings go on meanwhile.
 *
 * A ring that nobody polls, because the device takes buffers from it when it has
 * something for them, would miss each time it needs one. It looks ahead instead
 * (virtq_burst_ahead()) and asks before; what lies before a miss can be used.
 *
 * What is invalidated may still be used by chains the device holds. The ring
 * remembers for each which addresses it uses, so that an invalidation waits
 * for just those.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_TLB_H
#define RINGBOLT_VHOST_VIRTQ_TLB_H

#include "core/evloop.h"
#include "iommu/iotlb.h"
#include "vhost/loop.h"

struct gmem_join;

/* Addresses one chain uses. More pieces than fit are widened into the last. */
#define VIRTQ_TLB_PIECES 6
struct virtq_tlb_use {
	uint32_t nr;
	struct {
		uint64_t start, end;
	} piece[VIRTQ_TLB_PIECES];
};

/* A chain with more of them is given up without asking further. */
#define VIRTQ_TLB_REFUSED_MAX 4

struct virtq_tlb {
	/* The loop's. */
	struct iotlb_cache cache;
	/* The range that bursts found last, a slot of the cache: empty when it was
	 * dropped. Never NULL. */
	const struct iotlb_range *hot;
	unsigned int nr_ahead; /* chains from the next one on whose addresses are known */
	/* One for each chain id, found by place, and a spare one for the chain that is
	 * being popped, whose id is known at its end: then the two change places. */
	struct virtq_tlb_use *use;
	struct virtq_tlb_use **place; /* by chain id */
	struct virtq_tlb_use *spare;
	bool stalled; /* nothing is popped */
	bool asking; /* the control thread was told of a miss, and will have us retry */
	/* What the front-end has refused of the chain to be popped next: not asked
	 * again. */
	unsigned int nr_refused;
	struct {
		uint64_t addr;
		uint32_t perm;
	} refused[VIRTQ_TLB_REFUSED_MAX];
	/* Written by the loop before it posts work, read by the control thread. */
	iova_t miss_addr;
	uint32_t miss_perm;

	/* The control thread's: whom to tell. */
	struct evloop *ev;
	struct virtq *vq;
	struct ev_work miss_work; /* posted when the ring stalls */
	struct loop_work retry_work; /* to try again */
	bool retry_refused; /* what retry_work says */
	bool retry_posted; /* the loop clears it, and then is done with retry_work */
	uint64_t nr_misses; /* asked of the front-end */
	/* How descriptors, driver's and device's area were made one piece each; NULL: it
	 * is, in a region. Set before the ring starts. */
	const struct gmem_join *join[3];
};

/* Control thread, ring stopped. miss runs on the control thread when the ring
 * has stalled. -ENOMEM. */
int virtq_tlb_create(struct virtq *vq, struct iotlb *iotlb, struct evloop *ev,
		     void (*miss)(struct ev_work *work), int node);
void virtq_tlb_destroy(struct virtq *vq);
/* Control thread: the front-end has answered; have the loop try again. Once after
 * each time that the ring told. */
void virtq_tlb_retry(struct virtq *vq, bool refused);

/* --- the ring's loop ------------------------------------------------------------- */

/* One more piece of a chain that has too many. */
void virtq_tlb_widen(struct virtq_tlb_use *u, uint64_t start, uint64_t end);

static inline void virtq_tlb_note(struct virtq_tlb_use *u, uint64_t start, uint64_t end)
{
	if (u->nr && u->piece[u->nr - 1].end == start) {
		u->piece[u->nr - 1].end = end;
	} else if (likely(u->nr < VIRTQ_TLB_PIECES)) {
		u->piece[u->nr].start = start;
		u->piece[u->nr++].end = end;
	} else {
		virtq_tlb_widen(u, start, end);
	}
}

/* gmem_span() for a ring with a tlb; what it finds belongs to the chain that is
 * being popped. */
static inline void *virtq_tlb_span(struct virtq *vq, uint64_t addr, uint64_t *len, uint32_t perm)
{
	void *p;

	if (!*len)
		return NULL;
	p = iotlb_cache_span(&vq->tlb->cache, iova(addr), len, perm);
	if (p)
		virtq_tlb_note(vq->tlb->spare, addr, addr + *len);
	return p;
}

/* The range that holds addr, of which a burst then has bytes; NULL: not known, or not
 * with perm. Bursts hold no chains, so that nothing is noted. */
static inline const struct iotlb_range *virtq_tlb_range(struct virtq *vq, uint64_t addr,
							uint32_t perm)
{
	const struct iotlb_range *r = iotlb_cache_range(&vq->tlb->cache, iova(addr), perm);

	if (r)
		vq->tlb->hot = r;
	return r;
}

/* addr is not known: stall, and ask unless something was asked already. False if
 * the front-end has refused it. */
bool virtq_tlb_miss(struct virtq *vq, uint64_t addr, uint32_t perm);
/* All addresses of the chain being popped are known or refused. */
static inline void virtq_tlb_walked(struct virtq *vq)
{
	vq->tlb->nr_refused = 0;
}
/* A chain is about to be popped. */
static inline void virtq_tlb_begin(struct virtq *vq)
{
	vq->tlb->spare->nr = 0;
}
/* It has this id now, which no other chain has. */
static inline void virtq_tlb_take(struct virtq *vq, uint16_t id)
{
	struct virtq_tlb_use *spare = vq->tlb->spare;

	vq->tlb->spare = vq->tlb->place[id];
	vq->tlb->place[id] = spare;
}
/* Forget what is cached of [addr, addr + len). */
void virtq_tlb_drop(struct virtq *vq, iova_t addr, uint64_t len);
/* Does the device hold a chain that uses any of [addr, addr + len)? */
bool virtq_tlb_in_use(const struct virtq *vq, iova_t addr, uint64_t len);

#endif
