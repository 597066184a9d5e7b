/*
 * What the split and the packed half of the ring share. Private to virtq*.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_INTERNAL_H
#define RINGBOLT_VHOST_VIRTQ_INTERNAL_H

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "vhost/virtq.h"
#include "vhost/virtq_tlb.h"
#include "vhost/virtq_track.h"

/* Steps through one descriptor chain at most, direct or indirect: the loop's
 * bound that does not come from the guest. VIRTIO 1.3, "Message Framing"; no
 * driver uses more than the largest split ring holds. */
#define VIRTQ_CHAIN_MAX 1024

/*
 * Read 16 bytes of shared memory once: what is checked is what is used. The
 * fence keeps the compiler from reading the source again afterwards.
 */
#define virtq_copy_desc(dst, src)                                                                  \
	do {                                                                                       \
		static_assert(sizeof(*(dst)) == 16 && sizeof(*(src)) == 16, "a descriptor");       \
		memcpy((dst), (src), 16);                                                          \
		atomic_signal_fence(memory_order_seq_cst);                                         \
	} while (0)

/*
 * The one way from an address in a ring to a pointer: *len (not 0) is cut to
 * what is contiguous. NULL: not there, or not yet known (virtq_tlb.h). perm:
 * IOTLB_READ or IOTLB_WRITE, what the device will do.
 */
static inline void *virtq_span(struct virtq *vq, uint64_t addr, uint64_t *len, uint32_t perm)
{
	if (unlikely(vq->tlb))
		return virtq_tlb_span(vq, addr, len, perm);
	return gmem_span(vq->conf.gm, gpa(addr), len, &vq->hint);
}

/* Into the cache with what is at an address, if that is easy to say. */
static inline void virtq_prefetch(const struct virtq *vq, uint64_t addr)
{
	if (unlikely(vq->tlb)) {
		const struct iotlb_range *r = iotlb_cache_slot(&vq->tlb->cache, addr);

		if (addr >= r->start && addr < r->end)
			__builtin_prefetch(r->host + (addr - r->start));
	} else {
		const struct gmem_range *r = &vq->conf.gm->range[vq->hint];

		if (addr >= r->gpa && addr < r->end)
			__builtin_prefetch(r->host + (addr - r->gpa));
	}
}

/* The error of a chain that is not to be popped yet. */
#define VIRTQ_CHAIN_STALLED (-EAGAIN)
static inline bool virtq_chain_is_stalled(const struct virtq_chain *c)
{
	return unlikely(c->error == VIRTQ_CHAIN_STALLED);
}

/* After the walk: false if the chain cannot be popped yet. */
static inline bool virtq_chain_end(struct virtq *vq, const struct virtq_chain *c)
{
	if (likely(!vq->tlb))
		return true;
	if (virtq_chain_is_stalled(c))
		return false;
	virtq_tlb_walked(vq);
	return true;
}

/* An empty chain, to be filled by virtq_chain_add(). */
void virtq_chain_begin(struct virtq *vq, struct virtq_chain *c);
/* One buffer: checked, translated, appended; or c->error is set. */
void virtq_chain_add(struct virtq *vq, struct virtq_chain *c, uint64_t addr, uint32_t len,
		     bool writable);
/* c is malformed for this reason; the first one is kept and logged. */
void virtq_chain_bad(struct virtq *vq, struct virtq_chain *c, const char *why);
/* The same, and its end is unknown: what was added so far is not the end, where
 * the device would report the error. */
void virtq_chain_bad_end(struct virtq *vq, struct virtq_chain *c, const char *why);
/* An indirect table's place and its number of entries, or NULL and c is bad.
 * VIRTIO 1.3, "Indirect Descriptors". */
const void *virtq_chain_table(struct virtq *vq, struct virtq_chain *c, uint64_t addr, uint32_t len,
			      uint32_t *nr);
/* The chain's id is known: make it the device's. False: the ring broke. */
bool virtq_chain_take(struct virtq *vq, struct virtq_chain *c, uint16_t id, uint16_t nr_desc);

/* The driver's (or device's) event threshold was passed by the step from old to
 * now. VIRTIO 1.3, "Used Buffer Notification Suppression". */
static inline bool virtq_need_event(uint16_t event, uint16_t now, uint16_t old)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* Notify the driver if it wants to hear of nr ring entries just published. */
void virtq_notify_of(struct virtq *vq, uint16_t nr);

/* --- split ------------------------------------------------------------------ */

static inline uint16_t virtq_read_le16(const le16 *p)
{
	return le16_to_cpu((le16){ read_once(&p->wire) });
}

/* Read the driver's index. False if nothing is to be popped. */
bool virtq_split_refill(struct virtq *vq);
/* Append all buffers of the chain at this head, which is in the table. */
void virtq_split_walk(struct virtq *vq, struct virtq_chain *c, uint16_t head);

/* --- packed ----------------------------------------------------------------- */

static inline struct pvirtq_desc *virtq_ring_desc(const struct virtq *vq, uint16_t pos)
{
	return (struct pvirtq_desc *)vq->conf.desc + pos;
}

/* VIRTIO 1.3, "Driver and Device Ring Wrap Counters": available means that the
 * AVAIL bit is the wrap counter and the USED bit is not. */
static inline bool virtq_is_avail(uint16_t flags, bool wrap)
{
	return !!(flags & VIRTQ_DESC_F_AVAIL) == wrap && !!(flags & VIRTQ_DESC_F_USED) != wrap;
}

/* Where a chain begins; after the walk where the next one does, and its own id
 * and length in ring entries. */
struct virtq_packed_place {
	uint16_t pos, id, nr_desc;
	bool wrap;
};
/* Append the buffers of a chain of nr descriptors that are not in the ring. */
void virtq_packed_walk_saved(struct virtq *vq, struct virtq_chain *c, const struct pvirtq_desc *d,
			     uint16_t nr);
/* Append all buffers of the chain at this place, which is available. False: the
 * ring broke. */
bool virtq_packed_walk(struct virtq *vq, struct virtq_chain *c, struct virtq_packed_place *at);

/* --- the half of each verb that depends on the ring kind --------------------- */

void virtq_split_emit(struct virtq *vq, uint16_t id, uint32_t written);
void virtq_packed_emit(struct virtq *vq, uint16_t id, uint32_t written);
void virtq_split_publish(struct virtq *vq);
void virtq_packed_publish(struct virtq *vq);
/* The driver wants to hear of nr entries just published. */
bool virtq_split_driver_wants(struct virtq *vq, uint16_t nr);
bool virtq_packed_driver_wants(struct virtq *vq, uint16_t nr);
bool virtq_split_has_work(struct virtq *vq);
bool virtq_packed_has_work(struct virtq *vq);
void virtq_split_set_notify(struct virtq *vq, bool on);
void virtq_packed_set_notify(struct virtq *vq, bool on);

#endif
