/*
 * Bursts: chains of a ring looked at together, served at once and given back
 * together, for devices that hold no chain from one call to the next (frames of
 * a network device). Beside virtq_pop() and virtq_push(), not on top of them.
 *
 * Theory of operation
 *
 * A burst takes nothing from the ring until virtq_burst_use(): it looks at the
 * next chains in order, and then gives back as many of the first ones as the
 * device has served, with one publication. What was looked at and not given
 * back is looked at again by the next burst. So nothing is remembered for a
 * chain but its entry in the burst, and a ring that is served by bursts has no
 * chains in flight.
 *
 * The next chain is nearly always one buffer. That case costs one read of the
 * descriptor, its check, and its translation; all others (several buffers, an
 * indirect table, a buffer that crosses regions, anything malformed) are walked
 * as virtq_pop() does it. The rules about what the driver writes are those of
 * virtq.h: read once, checked as a copy, bounded by the ring's size.
 *
 * A ring is served either by bursts or by pop and push between two empty
 * moments: no chain may be held or pushed and not flushed when a burst begins.
 *
 * Rings that several loops fill (virtq.shared) are locked by the caller from
 * the begin of a burst to its end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_BURST_H
#define RINGBOLT_VHOST_VIRTQ_BURST_H

#include "vhost/virtq.h"

/* One chain of a burst. The first group is the ring's, the last the device's. */
struct virtq_buf {
	struct iovec one; /* its buffer, if that is one piece */
	/* Its buffers in the wanted direction: &one, or several, or none. Valid until
	 * the burst ends or begins anew. */
	const struct iovec *iov;
	uint32_t len; /* bytes of all of them; UINT32_MAX for that many and more */
	uint32_t written; /* the device's: bytes it wrote; 0 at first */
	uint16_t id;
	uint16_t nr_desc; /* ring entries it takes (packed); 1 on split */
	uint16_t nr_iov;
	int16_t error; /* 0, or -errno: malformed, to be given back with nothing written */
};

struct virtq_burst {
	struct virtq_buf *buf; /* the caller's, max of them */
	unsigned int max;
	unsigned int nr; /* looked at so far */
	bool writable; /* buffers wanted: device-writable, else device-readable */

	/* Private: entries given back and not notified, and the place behind the
	 * last chain that was looked at. */
	uint32_t published;
	bool wrap; /* packed */
	uint16_t pos; /* split: available index; packed: ring position */
	uint16_t iov_used; /* of vq->iov */
};

void virtq_split_look(struct virtq *vq, struct virtq_burst *b, unsigned int want);
void virtq_burst_missed(struct virtq *vq, const struct virtq_burst *b);
void virtq_burst_ahead_slow(struct virtq *vq);
void virtq_packed_look(struct virtq *vq, struct virtq_burst *b, unsigned int want);
void virtq_split_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr);
void virtq_packed_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr);

/* Begin at the ring's present position. buf: room for max chains, not read. */
static inline void virtq_burst_begin(struct virtq *vq, struct virtq_burst *b, struct virtq_buf *buf,
				     unsigned int max, bool writable)
{
	assert(!virtq_inflight(vq) && !vq->used_pending);
	*b = (struct virtq_burst){
		.buf = buf,
		.max = max,
		.writable = writable,
		.wrap = vq->avail_wrap,
		.pos = vq->avail_idx,
	};
}

/*
 * Look further until want chains (at most b->max) are in b->buf or there are no
 * more to be had: none available, the ring is not to be popped, it broke, or
 * chains of many buffers fill what a burst can hold. b->nr.
 */
static inline unsigned int virtq_burst_look(struct virtq *vq, struct virtq_burst *b,
					    unsigned int want)
{
	if (want > b->max)
		want = b->max;
	if (b->nr < want) {
		if (vq->packed)
			virtq_packed_look(vq, b, want);
		else
			virtq_split_look(vq, b, want);
		if (unlikely(vq->tlb))
			virtq_burst_missed(vq, b);
	}
	return b->nr;
}

/*
 * Have the translations of the next chains ready before they are needed, in a
 * ring that nobody polls: see virtq_tlb.h. After a burst; costs one test without
 * a virtual IOMMU.
 */
static inline void virtq_burst_ahead(struct virtq *vq)
{
	if (unlikely(vq->tlb))
		virtq_burst_ahead_slow(vq);
}

/*
 * Give back the first nr chains, with what b->buf says was written, and publish
 * them; the driver is not notified yet. The burst begins anew behind them. What
 * was written must have been logged (virtq_log_write()) before.
 */
void virtq_burst_use(struct virtq *vq, struct virtq_burst *b, unsigned int nr);

/* Notify the driver once, if it wants to hear of what was given back since the
 * burst began or since the last call. At the end of a burst. */
void virtq_burst_notify(struct virtq *vq, struct virtq_burst *b);
/* The same for buffers that the driver only wants back: with interrupt moderation,
 * loop_notify_late(). bytes: what was in them. */
void virtq_burst_notify_late(struct virtq *vq, struct virtq_burst *b, uint64_t bytes);

#endif
