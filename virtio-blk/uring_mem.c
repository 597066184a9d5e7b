/*
 * Guest memory as registered buffers of an engine: the kernel then need not
 * look up and pin pages with each request. Called by store_uring.c when guest
 * memory comes and goes, and by uring_io.c for each transfer. A request never
 * depends on it: what is not registered is used without.
 *
 * Theory of operation
 *
 * A region is registered in pieces, one a turn of the loop, so that a large
 * guest does not stall others on the loop. A piece is made present by the
 * engine's worker first, since zeroing memory takes much longer than pinning
 * it. The way of a region, in states that only its loop's thread changes:
 *
 *   coming   a piece is with the worker or about to be registered
 *   settled  all that can be registered is
 *   leaving  not found any more; pieces are unregistered, one a turn, then the
 *            control thread drops its reference to the mapping
 *
 * Buffers pin the pages they were made of. That is why they are not for guests
 * whose memory is taken and given back while they run (a balloon, virtio-mem):
 * see fixed-buffers in the manual.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "virtio-blk/uring.h"

/* linux/mman.h of 5.14; older headers lack it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Pieces: what a turn of the loop is stretched by, against the number of
 * buffers there are. Up to 16 GiB of guest memory takes the small ones. */
#define PIECE_SHIFT_SMALL 24
#define PIECE_SHIFT_LARGE 26
#define SMALL_REGION_MAX (16ull << 30)

enum region_state {
	REGION_COMING,
	REGION_SETTLED,
	REGION_LEAVING,
};

struct uring_region {
	/* The loop's. */
	enum region_state state;
	bool leave; /* asked to while coming */
	uint64_t ready; /* bytes registered, from the start */
	struct uring_region *next; /* of attach->regions */

	/* Constant. */
	struct uring_attach *at;
	struct gmem_region *r; /* referenced */
	uint8_t *base;
	uint64_t size;
	unsigned int shift, first_slot, nr_slots;

	struct loop_work add, piece, remove;
	struct worker_job populate;
	struct ev_work gone;

	struct uring_region *next_known; /* control thread: of attach->known */
};

int uring_mem_find(struct uring_attach *at, const void *p, uint64_t len)
{
	struct uring_region *r = at->hot;
	uint64_t off;

	if (unlikely(!r || (uint64_t)((const uint8_t *)p - r->base) >= r->size)) {
		for (r = at->regions; r; r = r->next)
			if ((uint64_t)((const uint8_t *)p - r->base) < r->size)
				break;
		if (!r)
			return -1;
		at->hot = r;
	}
	off = (uint64_t)((const uint8_t *)p - r->base);
	if (!len || off + len > r->ready || off >> r->shift != (off + len - 1) >> r->shift)
		return -1;
	return (int)(r->first_slot + (off >> r->shift));
}

/* --- coming -------------------------------------------------------------------- */

static uint64_t piece_len(const struct uring_region *r)
{
	return min_u64(r->size - r->ready, 1ull << r->shift);
}

/* On the worker. Where it fails, registering will say so. */
static void populate_run(struct worker_job *job)
{
	struct uring_region *r = container_of(job, struct uring_region, populate);
	uintptr_t start = (uintptr_t)r->base + r->ready;
	uintptr_t first = round_down(start, (uint64_t)getpagesize());

	madvise((void *)first, start + piece_len(r) - first, MADV_POPULATE_WRITE);
	loop_post(r->at->u->loop, &r->piece);
}

static void update_slot(const struct uring_region *r, unsigned int slot, void *base, uint64_t len,
			int *ret)
{
	struct iovec iov = { .iov_base = base, .iov_len = len };
	__u64 tag = 0;

	*ret = io_uring_register_buffers_update_tag(&r->at->u->ring, r->first_slot + slot, &iov,
						    &tag, 1);
}

static void settle(struct uring_region *r, int error)
{
	r->state = REGION_SETTLED;
	if (!error)
		return;
	if (!read_once(&r->at->fixed_error))
		log_info("%s: %llu bytes of guest memory are used without registered buffers: %s",
			 r->at->st->path, (unsigned long long)(r->size - r->ready),
			 strerror(-error));
	write_once(&r->at->fixed_error, error);
}

static void leave_run(struct loop_work *w);

static void piece_run(struct loop_work *w)
{
	struct uring_region *r = container_of(w, struct uring_region, piece);
	int ret = 0;

	if (r->leave) {
		settle(r, 0);
		leave_run(&r->remove);
		return;
	}
	update_slot(r, (unsigned int)(r->ready >> r->shift), r->base + r->ready, piece_len(r),
		    &ret);
	if (ret < 0) {
		settle(r, ret);
		return;
	}
	write_once(&r->at->fixed_bytes, r->at->fixed_bytes + piece_len(r));
	r->ready += piece_len(r);
	if (r->ready == r->size)
		settle(r, 0);
	else
		worker_post(r->at->u->worker, &r->populate);
}

static void add_run(struct loop_work *w)
{
	struct uring_region *r = container_of(w, struct uring_region, add);

	r->next = r->at->regions;
	r->at->regions = r;
	worker_post(r->at->u->worker, &r->populate);
}

/* --- leaving ------------------------------------------------------------------- */

static void unlink_region(struct uring_region *r)
{
	struct uring_region **at = &r->at->regions;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->at->hot = NULL;
}

/* The first time, and once for each piece. */
static void leave_run(struct loop_work *w)
{
	struct uring_region *r = container_of(w, struct uring_region, remove);
	uint64_t last;
	int ret;

	if (r->state == REGION_COMING) {
		r->leave = true;
		return;
	}
	if (r->state == REGION_SETTLED) {
		unlink_region(r);
		r->state = REGION_LEAVING;
	}
	if (!r->ready) {
		ev_post(r->at->u->ev, &r->gone);
		return;
	}
	last = (r->ready - 1) >> r->shift;
	update_slot(r, (unsigned int)last, NULL, 0, &ret);
	if (ret < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: guest memory cannot be unregistered: %s",
			    r->at->st->path, strerror(-ret));
	write_once(&r->at->fixed_bytes, r->at->fixed_bytes - (r->ready - (last << r->shift)));
	r->ready = last << r->shift;
	loop_post(r->at->u->loop, &r->remove);
}

static void region_gone(struct ev_work *w)
{
	struct uring_region *r = container_of(w, struct uring_region, gone);
	struct uring_attach *at = r->at;
	struct uring_region **link = &at->known;

	while (*link != r)
		link = &(*link)->next_known;
	*link = r->next_known;
	memset(at->u->buf_used + r->first_slot, 0, r->nr_slots);
	gmem_region_put(r->r);
	free(r);
	if (!at->known)
		uring_attach_idle(at);
}

/* --- control thread ------------------------------------------------------------ */

/* nr slots in a row; -ENOSPC. */
static int take_slots(struct uring *u, unsigned int nr)
{
	unsigned int run = 0;

	for (unsigned int i = 0; i < u->nr_bufs; i++) {
		run = u->buf_used[i] ? 0 : run + 1;
		if (run == nr) {
			memset(u->buf_used + i + 1 - nr, 1, nr);
			return (int)(i + 1 - nr);
		}
	}
	return -ENOSPC;
}

void uring_mem_add(struct uring_attach *at, struct gmem_region *mem)
{
	struct uring *u = at->u;
	struct uring_region *r;
	int slot;

	if (!u->nr_bufs || uring_want_worker(u) < 0) {
		at->fixed_error = u->nr_bufs ? -ENOMEM : -EOPNOTSUPP;
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return;
	r->shift = mem->size <= SMALL_REGION_MAX ? PIECE_SHIFT_SMALL : PIECE_SHIFT_LARGE;
	r->nr_slots = (unsigned int)((mem->size + (1ull << r->shift) - 1) >> r->shift);
	slot = take_slots(u, r->nr_slots);
	if (slot < 0) {
		log_info("%s: guest memory is too large to be registered whole", at->st->path);
		at->fixed_error = slot;
		free(r);
		return;
	}
	r->at = at;
	r->r = gmem_region_get(mem);
	r->base = mem->host;
	r->size = mem->size;
	r->first_slot = (unsigned int)slot;
	r->add.run = add_run;
	r->piece.run = piece_run;
	r->remove.run = leave_run;
	r->populate.run = populate_run;
	r->gone.run = region_gone;
	r->next_known = at->known;
	at->known = r;
	loop_post(u->loop, &r->add);
}

void uring_mem_remove(struct uring_attach *at, struct gmem_region *mem)
{
	for (struct uring_region *r = at->known; r; r = r->next_known) {
		if (r->r == mem) {
			loop_post(at->u->loop, &r->remove);
			return;
		}
	}
}
