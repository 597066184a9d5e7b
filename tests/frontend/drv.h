/*
 * The driver's half of a virtqueue, split or packed, in poll mode: for tests
 * and benchmarks. VIRTIO 1.3, "Split Virtqueues", "Packed Virtqueues".
 *
 * Theory of operation
 *
 * drv_create() places a ring in a region of the front-end's memory; what kind
 * it is and whether EVENT_IDX, IN_ORDER and indirect descriptors hold comes
 * from the features that were negotiated. drv_add() puts a chain into the ring,
 * drv_submit() makes all added chains visible with one publication and kicks if
 * the device wants that, drv_reap() takes back one used chain.
 *
 * The device is not trusted either: a used entry that names a chain it does not
 * hold is -EPROTO, so a bug of the back-end fails the test that met it.
 *
 * The attack door: everything shared is reachable through the pointers below
 * and the drv_raw_ functions, which write what they are told.
 *
 * One thread at a time per ring.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_DRV_H
#define RINGBOLT_TESTS_FRONTEND_DRV_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/frontend/fe.h"
#include "vhost/virtq_spec.h"

/* Descriptors of one indirect table. */
#define DRV_TABLE_MAX 128

/* One buffer of a chain. */
struct drv_buf {
	uint64_t gpa;
	uint32_t len;
};

struct drv_conf {
	uint16_t size; /* descriptors */
	int region; /* of fe: where the ring and its indirect tables go */
	bool indirect; /* one ring descriptor a chain, if negotiated */
};

/* A chain the device holds, indexed by its id (split: head descriptor). */
struct drv_chain {
	void *cookie;
	uint16_t nr_desc; /* ring descriptors it occupies */
	bool busy;
};

struct drv_ring;

/* What differs between the two kinds of ring. */
struct drv_ops {
	/* Write a chain of nr buffers, the first nr_out device-readable, or of one
	 * indirect table; its id. There is room. */
	uint16_t (*put)(struct drv_ring *r, const struct drv_buf *bufs, unsigned int nr_out,
			unsigned int nr, uint64_t table_gpa);
	/* Make what was put visible; true if the device wants to be kicked. */
	bool (*publish)(struct drv_ring *r);
	/* Look at the next used entry: 1, 0 if none, -EPROTO. */
	int (*peek)(struct drv_ring *r, uint16_t *id, uint32_t *len);
	/* A chain is back: step over it, and free its descriptors. */
	void (*take)(struct drv_ring *r, uint16_t id);
	void (*notify)(struct drv_ring *r, bool on);
	uint32_t (*base)(const struct drv_ring *r);
	void (*set_base)(struct drv_ring *r, uint32_t base);
	void (*area_len)(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device);
};
extern const struct drv_ops drv_split_ops, drv_packed_ops;

struct drv_ring {
	struct fe *fe;
	const struct drv_ops *ops;
	uint32_t index;
	uint16_t size;
	bool packed, event_idx, in_order, indirect;
	int kick_fd, call_fd, err_fd; /* eventfds, owned */

	/* Shared with the device; the attack door. */
	uint64_t desc_gpa, driver_gpa, device_gpa;
	struct virtq_desc *desc; /* split */
	struct virtq_avail *avail;
	struct virtq_used *used;
	struct pvirtq_desc *pdesc; /* packed */
	struct pvirtq_event_suppress *driver_event, *device_event;

	/* Position. */
	uint16_t avail_idx; /* next to add; packed: ring position */
	uint16_t published; /* avail_idx at the last publication */
	uint16_t used_idx; /* next to reap; packed: ring position */
	bool avail_wrap, used_wrap; /* packed */
	uint16_t batch_pos, batch_flags; /* packed: head held back until publication */
	bool batch_open;
	uint16_t batch_added; /* packed: descriptors since the last publication */

	/* Free descriptors (split) or ids (packed): a queue, so that they are used
	 * in ring order when the device uses them in order. */
	uint16_t *free_queue;
	uint32_t free_head, free_tail;
	uint16_t free_cnt; /* ring descriptors */
	uint16_t *link; /* split: a chain's next descriptor, our own copy */
	struct drv_chain *chain; /* size of them */
	uint32_t inflight;

	/* IN_ORDER: ids in the order they were added, and the batch being reaped. */
	uint16_t *order;
	uint32_t order_head, order_tail;
	bool in_batch;
	uint16_t batch_last;
	uint32_t batch_len;

	/* Indirect tables, one an id or slot; DRV_TABLE_MAX descriptors each. */
	uint64_t tables_gpa;
	uint16_t *table_free;
	uint16_t table_free_cnt;
	uint16_t *table_of; /* by id; UINT16_MAX: none */
};

/* Features must be negotiated. 0, -ENOMEM, -ENOSPC (region too small). */
int drv_create(struct drv_ring *r, struct fe *fe, uint32_t index, const struct drv_conf *conf);
void drv_destroy(struct drv_ring *r);
/* Begin elsewhere than at 0, as SET_VRING_BASE has it; nothing is in flight. */
void drv_set_base(struct drv_ring *r, uint32_t base);
/* The messages that start the ring where it stands. 0 or -errno. */
int drv_start(struct drv_ring *r);
/* The same for a ring with buffers that the device has not taken yet: from where
 * it stands. */
int drv_start_at(struct drv_ring *r, uint32_t base);
/* Where a device stands that holds no chain; packed: all has been reaped. */
uint32_t drv_used_base(const struct drv_ring *r);
/* GET_VRING_BASE: the device has finished what it took, which can be reaped
 * still. -EPROTO if it says another place than the ring is at. */
int drv_stop(struct drv_ring *r);

/*
 * Add a chain: nr_out device-readable buffers, then nr_in device-writable ones.
 * The id, -ENOSPC if the ring is full. cookie comes back from drv_reap().
 */
int drv_add(struct drv_ring *r, const struct drv_buf *bufs, unsigned int nr_out, unsigned int nr_in,
	    void *cookie);
/* Publish, and kick if the device wants it. 0 or -errno. */
int drv_submit(struct drv_ring *r);
/* Kick unasked. */
int drv_kick(struct drv_ring *r);
/*
 * One used chain: 1, 0 if none, -EPROTO if the device broke the rules. *len is
 * what the device says it wrote, UINT32_MAX if IN_ORDER left it out.
 */
int drv_reap(struct drv_ring *r, void **cookie, uint32_t *len);
/* Would drv_reap() find one, or a broken rule? */
bool drv_has_used(struct drv_ring *r);
/* Reap, waiting up to the front-end's timeout: 1, -ETIMEDOUT, -EPROTO. */
int drv_wait(struct drv_ring *r, void **cookie, uint32_t *len);
/* Ask the device to notify, or not to (the default). */
void drv_notify(struct drv_ring *r, bool on);
/* Notifications that arrived since the last call. */
uint64_t drv_calls(struct drv_ring *r);

/* --- the attack door ------------------------------------------------------ */

void drv_raw_desc(struct drv_ring *r, uint16_t pos, uint64_t gpa, uint32_t len, uint16_t flags,
		  uint16_t next);
/* Split: the available ring entry, and the index. */
void drv_raw_avail(struct drv_ring *r, uint16_t pos, uint16_t head);
void drv_raw_avail_idx(struct drv_ring *r, uint16_t idx);
/* Packed: flags without AVAIL and USED, which follow from wrap. */
void drv_raw_packed(struct drv_ring *r, uint16_t pos, uint64_t gpa, uint32_t len, uint16_t id,
		    uint16_t flags, bool wrap);

/* VIRTIO 1.3, "Used Buffer Notification Suppression". */
static inline bool drv_need_event(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* Packed: AVAIL and USED bits of an available descriptor. */
static inline uint16_t drv_packed_avail_flags(bool wrap)
{
	return wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/* Take from, look at and give to the queue of free descriptors or ids. */
static inline uint16_t drv_free_get(struct drv_ring *r)
{
	return r->free_queue[r->free_head++ % r->size];
}
static inline uint16_t drv_free_peek(const struct drv_ring *r)
{
	return r->free_queue[r->free_head % r->size];
}
static inline void drv_free_put(struct drv_ring *r, uint16_t id)
{
	r->free_queue[r->free_tail++ % r->size] = id;
}

#endif
