/*
 * The device's half of a virtqueue, split or packed: pop, push, flush, rewind,
 * notify. VIRTIO 1.3, "Basic Facilities of a Virtio Device".
 *
 * Theory of operation
 *
 * A ring belongs to one loop (loop.h) and every function here is for that
 * loop's thread, between virtq_start and virtq_stop. Configuration arrives as a
 * struct virtq_conf that the loop copies in between two turns. The exception is
 * a ring that others fill (virtq.shared): then whoever uses it holds its lock,
 * the loop included.
 *
 * A chain belongs to the device from virtq_pop() until virtq_push() or
 * virtq_rewind(), exactly one of them, exactly once. Its id is below the
 * ring's size and unique among the chains the device holds, so a device keeps
 * its requests in an array indexed by id. Pushed chains become visible to the
 * driver with virtq_flush(), which publishes once and notifies at most once.
 *
 * Nothing here trusts the driver: every shared field is read once, checked as a
 * local copy, and bounded by the ring's size. What is wrong with one chain is
 * told with the chain (virtq_chain.error); what makes the ring itself
 * unreadable breaks the ring, for good until it is stopped.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_H
#define RINGBOLT_VHOST_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/atomic.h"
#include "core/base.h"
#include "vhost/gmem.h"
#include "vhost/virtq_spec.h"

/* VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues": at most 2^15. A
 * larger split ring than 1024 is refused. */
#define VIRTQ_SPLIT_SIZE_MAX 1024
#define VIRTQ_PACKED_SIZE_MAX 32768
/* Buffers of one chain after translation; a chain with more is an error. */
#define VIRTQ_IOV_MAX 1040
/* Buffers of the chains of one burst that have several (virtq_burst.h). */
#define VIRTQ_BURST_IOV (2 * VIRTQ_IOV_MAX)

struct loop;
struct vu_dev;
struct dirty_log;
struct iotlb;
struct virtq;
struct virtq_tlb;
struct virtq_track;

/*
 * stopped: not on any loop; the control thread may change everything.
 * started: on its loop; only that loop touches it. Left by loop_stop_ring().
 * draining: as started, but nothing is popped; the loop leaves it for stopped
 *           when the device holds no chain any more.
 */
enum virtq_state {
	VIRTQ_STOPPED,
	VIRTQ_STARTED,
	VIRTQ_DRAINING,
	VIRTQ_STATE_CNT,
};

/*
 * What the control thread decides and the loop copies. Pointers and descriptors
 * stay owned by the control thread, which keeps them until the loop has
 * answered that it uses others.
 */
struct virtq_conf {
	const struct gmem *gm;
	struct dirty_log *log; /* NULL: nothing is logged */
	struct iotlb *iotlb; /* NULL: addresses are guest-physical */
	uint64_t features; /* negotiated */
	/* The three areas, each in one piece, aligned as the spec says. */
	void *desc, *driver, *device; /* split: descriptor table, avail, used */
	uint32_t size; /* descriptors */
	/* VHOST_USER_SET_VRING_BASE: split: available index; packed: available
	 * index and wrap counter in the low half, used in the high half. */
	uint32_t base;
	int kick_fd; /* -1: the driver never notifies, the ring is polled only */
	int call_fd; /* -1: the driver polls */
	int err_fd; /* -1: none */
	bool enabled;
	/* Where chains in flight are written down, for a ring of inflight_num entries:
	 * see virtq_track.h. NULL: nowhere. */
	void *inflight;
	uint32_t inflight_num;
	/* Set when a write to one of them had to be waited for: nobody writes any
	 * more then. Of all rings of the device; any loop's. NULL ok. */
	bool *blocked;
};

/* Written by the loop's thread, read by any with counter_read(). */
struct virtq_stats {
	uint64_t chains; /* popped */
	uint64_t notifications; /* sent to the driver */
	uint64_t kicks; /* received while asleep */
	uint64_t bad_chains;
	uint64_t busy_ns; /* in its poll(), with work; from samples */
};

struct virtq_chain {
	struct iovec *iov; /* out_cnt device-readable, then in_cnt device-writable;
			    * valid until the next pop of this ring */
	uint16_t out_cnt, in_cnt;
	uint16_t id; /* array index for the device's request */
	/* 0, or -errno: malformed. What could be translated is in iov; the device
	 * may only report the error in it, and pushes the chain as any other. */
	int16_t error;
	uint64_t out_len, in_len; /* bytes */
};

/* One per id: what push needs to know about a chain the device holds. */
struct virtq_slot {
	uint16_t nr_desc; /* ring entries it took (packed), 1 on split */
	uint8_t epoch; /* which inflight[] counts it */
	bool busy;
	/* IN_ORDER only: done, waiting for its turn. */
	bool done;
	uint32_t used_len;
};

struct virtq {
	/* Set-up: does not change while started, but for virtq_sync(). */
	struct virtq_conf conf;
	bool packed, event_idx, in_order;
	uint16_t mask; /* split: size - 1 */

	/* Position: the loop's. */
	uint16_t avail_idx; /* next to pop; packed: ring position */
	uint16_t avail_seen; /* split: last index read from the driver */
	uint16_t next_head; /* split: a guess at the next chain's, for the cache */
	uint16_t used_idx; /* split: published index; packed: next position to fill */
	uint16_t used_pending; /* pushed, not published, in ring entries */
	uint16_t published; /* published, the driver not yet notified, in ring entries */
	bool avail_wrap, used_wrap; /* packed */
	uint16_t first_idx, first_flags; /* packed: the used descriptor whose flags
					  * publish the batch, if used_pending */
	bool notify_armed; /* the driver was asked to notify */
	bool flush_queued; /* on the loop's list of rings to flush */
	bool broken; /* status reads it while the loop may write it */
	uint16_t again_left; /* chains of another process to be popped again, first */
	unsigned int hint; /* of gmem_span() */
	unsigned int epoch; /* 0 or 1: which inflight[] counts new chains */
	uint32_t inflight[2];
	/* IN_ORDER: ids in the order they were popped, a ring of order_mask + 1. */
	uint16_t *order;
	uint16_t order_head, order_tail, order_mask;
	struct virtq_slot *slot; /* conf.size of them */
	struct virtq_tlb *tlb; /* with conf.iotlb; see virtq_tlb.h */
	struct virtq_track *track; /* with conf.inflight; see virtq_track.h */
	struct iovec *iov; /* VIRTQ_BURST_IOV */
	struct virtq_stats stats;

	/* The device's: see struct vu_ops. Set before the ring starts. */
	unsigned int (*poll)(struct virtq *vq); /* NULL: the loop does not look at it */
	void *priv;
	/* The device writes to no buffer of this ring: all are device-readable,
	 * whatever their descriptors say. The virtio-user driver marks the header
	 * of a frame in several buffers as writable (packed rings, indirect
	 * tables), and could send none without this. */
	bool out_only;
	/* loop_notify_late(): how long a notification may be kept back; 0: not at all.
	 * Atomic, may be changed at any time. */
	uint32_t moderate_ns;
	/* Little is to be expected of it: not counted when rings are spread over
	 * loops. */
	bool light;
	/* Other threads than the loop's use the ring too: see virtq_lock(). */
	bool shared;
	uint32_t lock; /* 1: held */

	/* The loop's: see loop.c. */
	struct loop *loop;
	unsigned int loop_pos;
	unsigned int idle_turns; /* polled in vain, one after the other, while hot */
	struct virtq *flush_next;
	enum virtq_state state;
	const char *name; /* "vda1.0", for log lines */
	/* Of buffers given back whose driver is to hear of them later: loop_late.c. */
	struct virtq *late_next;
	uint64_t late_ns; /* when */
	uint64_t late_bytes; /* what was in them */
	uint16_t late; /* ring entries */
};

/* --- set-up: control thread, ring stopped ------------------------------- */

/*
 * Bytes of each area for a ring of size entries. VIRTIO 1.3, "Split
 * Virtqueues", "Packed Virtqueues".
 */
uint64_t virtq_desc_len(bool packed, uint32_t size);
uint64_t virtq_driver_len(bool packed, uint32_t size);
uint64_t virtq_device_len(bool packed, uint32_t size);
/* -EINVAL if the size is not one the ring kind can have. */
int virtq_size_check(bool packed, uint32_t size);

/*
 * Take a configuration and make the ring ready for a loop: slots are allocated,
 * positions set from conf->base. node: where its memory goes, -1 any. vq must
 * be zeroed or stopped. -ENOMEM, -EINVAL. The areas must have been checked.
 */
int virtq_init(struct virtq *vq, const struct virtq_conf *conf, int node);
/* Free what virtq_init() took. All zero is fine. */
void virtq_fini(struct virtq *vq);
/* The value for VHOST_USER_GET_VRING_BASE; ring stopped. */
uint32_t virtq_base(const struct virtq *vq);
/* Start, drain, stop: the only writer of vq->state. Loop thread, or control
 * thread while the ring is on no loop. */
void virtq_set_state(struct virtq *vq, enum virtq_state state);

/* --- data path: the ring's loop ----------------------------------------- */

int virtq_split_pop(struct virtq *vq, struct virtq_chain *c);
int virtq_packed_pop(struct virtq *vq, struct virtq_chain *c);
int virtq_pop_again(struct virtq *vq, struct virtq_chain *c);

/*
 * Next chain the driver made available. 1 and *c, 0 if there is none (or the
 * ring is not enabled, draining or broken).
 */
static inline int virtq_pop(struct virtq *vq, struct virtq_chain *c)
{
	if (unlikely(vq->again_left))
		return virtq_pop_again(vq, c);
	return vq->packed ? virtq_packed_pop(vq, c) : virtq_split_pop(vq, c);
}

/*
 * Give back a chain, with the bytes written to its device-writable part from
 * its start on. Not visible to the driver before virtq_flush().
 */
void virtq_push(struct virtq *vq, uint16_t id, uint32_t written);

/* Publish what was pushed and notify the driver if it wants that. One
 * notification at most. Does nothing if nothing was pushed. */
void virtq_flush(struct virtq *vq);

/*
 * The same in steps, for several rings at once: publish each, then the fence, then
 * notify for each. A fence waits until the driver's cache has let go of what was
 * published, and so one for all waits for all of them together.
 */
void virtq_publish(struct virtq *vq);
void virtq_publish_fence(void);
void virtq_notify_published(struct virtq *vq);

/* The driver wants to hear of nr ring entries just published. After
 * virtq_publish_fence(). */
bool virtq_driver_wants(struct virtq *vq, uint16_t nr);
/* Notify the driver, wanted or not. virtq_flush() does what is needed. */
void virtq_notify_driver(struct virtq *vq);

/* Undo the last nr pops, whose chains were not pushed, newest first. They will
 * be popped again. ids: of those chains, in the order they were popped. */
void virtq_rewind(struct virtq *vq, const uint16_t *ids, unsigned int nr);

/* Chains the device holds. */
static inline uint32_t virtq_inflight(const struct virtq *vq)
{
	return vq->inflight[0] + vq->inflight[1];
}

/* False of a ring that pops nothing whatever its driver does: not started, not
 * enabled, broken, memory lost, waiting for a translation. */
bool virtq_may_pop(struct virtq *vq);
/* Chains of another process are left that can be popped, also while draining: the
 * ring is not stopped before. */
bool virtq_again_is_due(const struct virtq *vq);
/* Something can be popped. Reads shared memory once, changes nothing. */
bool virtq_has_work(struct virtq *vq);

/* Ask the driver to notify, or not to. After enabling, look once more with
 * virtq_has_work(): what came before the request is not notified. */
void virtq_notify_enable(struct virtq *vq);
void virtq_notify_disable(struct virtq *vq);

/*
 * The device wrote len bytes at p, a pointer from a popped iovec: mark them in
 * the dirty log, before virtq_push(). Costs one test when nothing is logged.
 */
void virtq_log_slow(struct virtq *vq, const void *p, uint64_t len);

static inline void virtq_log_write(struct virtq *vq, const void *p, uint64_t len)
{
	if (unlikely(vq->conf.log))
		virtq_log_slow(vq, p, len);
}

void virtq_lock_slow(struct virtq *vq);

/*
 * Have a shared ring for oneself, for no longer than one burst. Then everything
 * in it may be used as on its loop; that it is started, enabled and whole is for
 * the data path to see, as ever (virtq_burst_look()). No other ring's lock may
 * be taken meanwhile. Any thread; does nothing if the ring is not shared.
 */
static inline void virtq_lock(struct virtq *vq)
{
	if (!vq->shared)
		return;
	/* Pairs with the release in virtq_unlock(). */
	if (unlikely(__atomic_exchange_n(&vq->lock, 1, __ATOMIC_ACQUIRE)))
		virtq_lock_slow(vq);
}

static inline void virtq_unlock(struct virtq *vq)
{
	if (vq->shared)
		store_release(&vq->lock, 0);
}

/* Break the ring: logged once, signalled on the error fd, pops nothing more. */
void virtq_break(struct virtq *vq, const char *why);

#endif
