/*
 * Rings behind a virtual IOMMU: translation, stalling, what chains in flight
 * use. Called by virtq*.c while popping, by loop.c for invalidations, by
 * vu_iotlb.c on the control thread. Never waits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq_tlb.h"

#include <errno.h>

#include "core/cpu.h"
#include "core/log.h"
#include "vhost/virtq_burst.h"

static void retry_run(struct loop_work *w)
{
	struct virtq_tlb *tlb = container_of(w, struct virtq_tlb, retry_work);

	virtq_lock(tlb->vq);
	tlb->stalled = false;
	tlb->asking = false;
	if (tlb->retry_refused && tlb->nr_refused < VIRTQ_TLB_REFUSED_MAX) {
		tlb->refused[tlb->nr_refused].addr = tlb->miss_addr.v;
		tlb->refused[tlb->nr_refused++].perm = tlb->miss_perm;
	}
	/* There may be more to ask for. */
	tlb->nr_ahead = 0;
	if (!tlb->vq->poll)
		virtq_burst_ahead(tlb->vq);
	virtq_unlock(tlb->vq);
	/* Pairs with the acquire in vu_rings_move(). */
	store_release(&tlb->retry_posted, false);
}

int virtq_tlb_create(struct virtq *vq, struct iotlb *iotlb, struct evloop *ev,
		     void (*miss)(struct ev_work *work), int node)
{
	struct virtq_tlb *tlb = numa_zalloc(sizeof(*tlb), node);

	if (!tlb)
		return -ENOMEM;
	vq->tlb = tlb;
	tlb->use = numa_zalloc((vq->conf.size + 1) * sizeof(*tlb->use), node);
	tlb->place = numa_zalloc(vq->conf.size * sizeof(*tlb->place), node);
	if (!tlb->use || !tlb->place) {
		virtq_tlb_destroy(vq);
		return -ENOMEM;
	}
	for (uint32_t id = 0; id < vq->conf.size; id++)
		tlb->place[id] = &tlb->use[id];
	tlb->spare = &tlb->use[vq->conf.size];
	iotlb_cache_init(&tlb->cache, iotlb);
	tlb->hot = tlb->cache.slot;
	tlb->ev = ev;
	tlb->vq = vq;
	tlb->miss_work.run = miss;
	tlb->retry_work.run = retry_run;
	return 0;
}

void virtq_tlb_destroy(struct virtq *vq)
{
	if (!vq->tlb)
		return;
	numa_zfree(vq->tlb->place, vq->conf.size * sizeof(*vq->tlb->place));
	numa_zfree(vq->tlb->use, (vq->conf.size + 1) * sizeof(*vq->tlb->use));
	numa_zfree(vq->tlb, sizeof(*vq->tlb));
	vq->tlb = NULL;
}

void virtq_tlb_retry(struct virtq *vq, bool refused)
{
	struct virtq_tlb *tlb = vq->tlb;

	tlb->retry_refused = refused;
	write_once(&tlb->retry_posted, true);
	loop_post(vq->loop, &tlb->retry_work);
}

void virtq_tlb_widen(struct virtq_tlb_use *u, uint64_t start, uint64_t end)
{
	unsigned int last = VIRTQ_TLB_PIECES - 1;

	u->piece[last].start = min_u64(u->piece[last].start, start);
	u->piece[last].end = max_u64(u->piece[last].end, end);
}

static bool is_refused(const struct virtq_tlb *tlb, uint64_t addr, uint32_t perm)
{
	for (unsigned int i = 0; i < tlb->nr_refused; i++)
		if (tlb->refused[i].addr == addr && tlb->refused[i].perm == perm)
			return true;
	return tlb->nr_refused == VIRTQ_TLB_REFUSED_MAX;
}

bool virtq_tlb_miss(struct virtq *vq, uint64_t addr, uint32_t perm)
{
	struct virtq_tlb *tlb = vq->tlb;

	if (is_refused(tlb, addr, perm))
		return false;
	tlb->stalled = true;
	if (tlb->asking)
		return true;
	tlb->asking = true;
	tlb->miss_addr = iova(addr);
	tlb->miss_perm = perm;
	counter_add(&tlb->nr_misses, 1);
	ev_post(tlb->ev, &tlb->miss_work);
	return true;
}

void virtq_tlb_drop(struct virtq *vq, iova_t addr, uint64_t len)
{
	iotlb_cache_drop(&vq->tlb->cache, addr, len);
	vq->tlb->nr_ahead = 0;
}

bool virtq_tlb_in_use(const struct virtq *vq, iova_t addr, uint64_t len)
{
	uint64_t end;

	if (!virtq_inflight(vq))
		return false;
	if (add_overflows(addr.v, len, &end))
		end = UINT64_MAX;
	for (uint32_t id = 0; id < vq->conf.size; id++) {
		const struct virtq_tlb_use *u = vq->tlb->place[id];

		if (!vq->slot[id].busy)
			continue;
		for (uint32_t i = 0; i < u->nr; i++)
			if (u->piece[i].start < end && u->piece[i].end > addr.v)
				return true;
	}
	return false;
}
