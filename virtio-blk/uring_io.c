/*
 * One request of a store as io_uring requests: what to prepare, and what the
 * kernel's answer means. Called by vblk_req.c (submit) and by the engine, on
 * the ring's loop. Never waits: what has no asynchronous call goes to the
 * engine's worker thread.
 *
 * Theory of operation
 *
 * A request goes through stages, most through one. A transfer is one READ or
 * WRITE; a short one is continued from where it ended. One that is larger than any
 * driver has reason to send is cut into pieces, of which the engine has one at a
 * time, of all such transfers in turn: where data are in memory the kernel copies
 * them at once, in the loop's time. Memory that O_DIRECT
 * does not take goes through a bounce buffer, piece by piece. Zeroes are
 * written by the first means of the list that the file has: a range operation,
 * a hole that is then allocated, real zeroes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "virtio-blk/uring.h"

/* A piece of a large transfer: copied in about a millisecond. */
#define TRANSFER_MAX (4u << 20)

enum stage {
	STAGE_TRANSFER,
	STAGE_BOUNCE, /* has req->bounce */
	STAGE_SYNC, /* the last of what must be durable */
	STAGE_PUNCH, /* a hole reads as zeroes */
	STAGE_ZERO_RANGE,
	STAGE_PUNCH_FIRST, /* a hole, to be allocated next */
	STAGE_ALLOC,
	STAGE_ZERO_WRITE, /* req->moved bytes have been written */
};

/* Never written to; not const, or a megabyte of zeroes would be in the program. */
static uint8_t zeroes[URING_ZEROES_LEN] __attribute__((aligned(4096)));

/* Where the request is: set when it starts, changed by stop_polling(). */
static struct uring_attach *attach_of(const struct store_req *req)
{
	return req->via;
}

static void queue(struct store_req *req)
{
	uring_queue(attach_of(req)->u, req);
}

static void queue_later(struct store_req *req)
{
	uring_queue_later(attach_of(req)->u, req);
}

/* --- large transfers ----------------------------------------------------------- */

static bool is_large(const struct store_req *req)
{
	return unlikely(req->len > TRANSFER_MAX);
}

/* The next piece of a transfer, when it is its turn. */
static void queue_piece(struct store_req *req)
{
	struct uring *u = attach_of(req)->u;

	if (!is_large(req)) {
		uring_queue(u, req);
		return;
	}
	if (!u->large_busy) {
		u->large_busy = true;
		uring_queue(u, req);
		return;
	}
	req->next = NULL;
	*u->large_last = req;
	u->large_last = &req->next;
}

/* A piece has ended: it is another transfer's turn. */
static void end_piece(struct store_req *req)
{
	struct uring *u = attach_of(req)->u;
	struct store_req *next = u->large;

	if (!is_large(req))
		return;
	u->large_busy = next;
	if (!next)
		return;
	u->large = next->next;
	if (!u->large)
		u->large_last = &u->large;
	uring_queue(u, next);
}

/* --- iovecs ------------------------------------------------------------------ */

/* Put the element right that a continued transfer cut. */
static void uncut(struct store_req *req)
{
	struct iovec *v = &req->iov[req->cur_iov];

	if (!req->cur_cut)
		return;
	v->iov_base = (uint8_t *)v->iov_base - req->cur_cut;
	v->iov_len += req->cur_cut;
	req->cur_cut = 0;
}

/* Make the iovec begin req->moved bytes in. */
static void cut_to_moved(struct store_req *req)
{
	uint64_t left = req->moved;
	struct iovec *v;

	uncut(req);
	for (req->cur_iov = 0; left >= req->iov[req->cur_iov].iov_len; req->cur_iov++)
		left -= req->iov[req->cur_iov].iov_len;
	v = &req->iov[req->cur_iov];
	v->iov_base = (uint8_t *)v->iov_base + left;
	v->iov_len -= left;
	req->cur_cut = (uint32_t)left;
}

/* Between the bounce buffer and the len bytes of the iovec from req->moved on. */
static void copy_piece(struct store_req *req, uint64_t len)
{
	uint64_t skip = req->moved;
	uint8_t *p = req->bounce;

	for (uint32_t i = 0; len; i++) {
		uint64_t n;

		if (skip >= req->iov[i].iov_len) {
			skip -= req->iov[i].iov_len;
			continue;
		}
		n = min_u64(len, req->iov[i].iov_len - skip);
		if (req->op == STORE_WRITE)
			memcpy(p, (uint8_t *)req->iov[i].iov_base + skip, n);
		else
			memcpy((uint8_t *)req->iov[i].iov_base + skip, p, n);
		p += n;
		len -= n;
		skip = 0;
	}
}

static bool is_aligned(const struct uring_store *st, const struct store_req *req)
{
	uint64_t bad = 0;

	for (uint32_t i = 0; i < req->nr_iov; i++)
		bad |= ((uintptr_t)req->iov[i].iov_base & st->mem_mask) |
		       (req->iov[i].iov_len & st->len_mask);
	return !bad;
}

/* --- the end of a request ---------------------------------------------------- */

static void finish(struct store_req *req, int res)
{
	req->done(req, res);
}

/* Done but for durability. */
static void finish_durably(struct store_req *req)
{
	if (req->flags & STORE_REQ_FUA) {
		req->stage = STAGE_SYNC;
		queue(req);
		return;
	}
	finish(req, 0);
}

/* --- preparing --------------------------------------------------------------- */

/* All elements in one registered buffer? */
static int find_vec(struct uring_attach *at, const struct iovec *iov, uint32_t nr)
{
	int buf = uring_mem_find(at, iov[0].iov_base, iov[0].iov_len);

	for (uint32_t i = 1; i < nr && buf >= 0; i++)
		if (uring_mem_find(at, iov[i].iov_base, iov[i].iov_len) != buf)
			return -1;
	return buf;
}

/* The elements of a piece; the first may be larger. */
static uint32_t piece_iovs(const struct iovec *iov, uint32_t nr)
{
	uint64_t len = iov[0].iov_len;
	uint32_t i = 1;

	while (i < nr && len + iov[i].iov_len <= TRANSFER_MAX)
		len += iov[i++].iov_len;
	return i;
}

static void prep_transfer(struct store_req *req, struct uring_attach *at, struct io_uring_sqe *sqe)
{
	const struct iovec *iov = req->iov + req->cur_iov;
	uint32_t nr = is_large(req) ? piece_iovs(iov, req->nr_iov - req->cur_iov)
				    : req->nr_iov - req->cur_iov;
	uint64_t off = req->offset + req->moved;
	bool write = req->op == STORE_WRITE;
	int buf = -1;

	if (likely(nr == 1)) {
		uint32_t len = (uint32_t)min_u64(iov->iov_len, TRANSFER_MAX);

		if (at->regions)
			buf = uring_mem_find(at, iov->iov_base, len);
		if (buf >= 0)
			io_uring_prep_rw(write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, sqe,
					 0, iov->iov_base, len, off);
		else
			io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, 0,
					 iov->iov_base, len, off);
	} else {
		if (at->regions && at->u->vec_fixed)
			buf = find_vec(at, iov, nr);
		if (buf >= 0)
			io_uring_prep_rw(write ? URING_OP_WRITEV_FIXED : URING_OP_READV_FIXED, sqe,
					 0, iov, nr, off);
		else
			io_uring_prep_rw(write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, 0, iov,
					 nr, off);
	}
	if (buf >= 0)
		sqe->buf_index = (uint16_t)buf;
	if (req->flags & STORE_REQ_FUA)
		sqe->rw_flags = RWF_DSYNC;
}

static void prep_bounce(struct store_req *req, struct io_uring_sqe *sqe)
{
	uint32_t len = (uint32_t)min_u64(req->len - req->moved, URING_CHUNK_LEN);

	if (req->op == STORE_WRITE) {
		copy_piece(req, len);
		io_uring_prep_write(sqe, 0, req->bounce, len, req->offset + req->moved);
		if (req->flags & STORE_REQ_FUA)
			sqe->rw_flags = RWF_DSYNC;
		return;
	}
	io_uring_prep_read(sqe, 0, req->bounce, len, req->offset + req->moved);
}

static void prep_fallocate(const struct store_req *req, struct io_uring_sqe *sqe, int mode)
{
	io_uring_prep_fallocate(sqe, 0, mode | FALLOC_FL_KEEP_SIZE, (off_t)req->offset,
				(off_t)req->len);
}

void uring_io_prep(struct store_req *req, struct io_uring_sqe *sqe)
{
	struct uring_attach *at = attach_of(req);

	switch ((enum stage)req->stage) {
	case STAGE_TRANSFER:
		prep_transfer(req, at, sqe);
		break;
	case STAGE_BOUNCE:
		prep_bounce(req, sqe);
		break;
	case STAGE_SYNC:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	case STAGE_PUNCH:
	case STAGE_PUNCH_FIRST:
		prep_fallocate(req, sqe, FALLOC_FL_PUNCH_HOLE);
		break;
	case STAGE_ZERO_RANGE:
		prep_fallocate(req, sqe, FALLOC_FL_ZERO_RANGE);
		break;
	case STAGE_ALLOC:
		prep_fallocate(req, sqe, 0);
		break;
	case STAGE_ZERO_WRITE:
		io_uring_prep_write(sqe, 0, zeroes,
				    (unsigned int)min_u64(req->len - req->moved, sizeof(zeroes)),
				    req->offset + req->moved);
		break;
	}
	if (unlikely(req->may_wait))
		sqe->flags |= IOSQE_ASYNC;
	if (likely(at->slot >= 0)) {
		sqe->fd = at->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	} else {
		sqe->fd = at->st->fd;
	}
}

/* --- bounce buffers ---------------------------------------------------------- */

static void start_bounce(struct store_req *req)
{
	struct uring *u;

	uncut(req);
	req->stage = STAGE_BOUNCE;
	u = attach_of(req)->u;
	if (!u->nr_chunks_free) {
		req->next = NULL;
		*u->chunk_wait_last = req;
		u->chunk_wait_last = &req->next;
		return;
	}
	req->bounce = u->chunk_base + (size_t)u->chunk_free[--u->nr_chunks_free] * URING_CHUNK_LEN;
	uring_queue(u, req);
}

static void free_chunk(struct store_req *req)
{
	struct uring *u = attach_of(req)->u;
	struct store_req *waiter = u->chunk_wait;

	if (!waiter) {
		size_t i = (size_t)((uint8_t *)req->bounce - u->chunk_base) / URING_CHUNK_LEN;

		u->chunk_free[u->nr_chunks_free++] = (uint8_t)i;
		return;
	}
	u->chunk_wait = waiter->next;
	if (!u->chunk_wait)
		u->chunk_wait_last = &u->chunk_wait;
	waiter->bounce = req->bounce;
	uring_queue(u, waiter);
}

static void end_bounce(struct store_req *req, int res)
{
	free_chunk(req);
	finish(req, res);
}

static void bounce_moved(struct store_req *req, int res)
{
	const struct uring_store *st = attach_of(req)->st;
	uint64_t n = res > 0 ? (uint64_t)res : 0;

	/* Go on at a place where O_DIRECT can. */
	if (req->moved + n < req->len)
		n &= ~(uint64_t)st->len_mask;
	if (!n) {
		end_bounce(req, res < 0 ? res : -EIO);
		return;
	}
	if (req->op == STORE_READ)
		copy_piece(req, n);
	req->moved += n;
	if (req->moved == req->len)
		end_bounce(req, 0);
	else
		queue(req);
}

/* --- completing --------------------------------------------------------------- */

/*
 * The file can be polled but what lies below cannot, which shows with the first
 * request that gets so far: go on without.
 */
static void stop_polling(struct store_req *req)
{
	struct uring_attach *at = attach_of(req);

	if (!read_once(&at->st->no_iopoll)) {
		write_once(&at->st->no_iopoll, true);
		log_warn("'%s': iopoll=on has no effect: its device has no queues to poll",
			 at->st->path);
	}
	if (req->stage == STAGE_BOUNCE)
		free_chunk(req);
	else
		end_piece(req);
	req->via = at->ordinary;
	if (req->stage == STAGE_BOUNCE)
		start_bounce(req);
	else
		queue_piece(req);
}

/* Anything but all of it. */
static void transfer_moved(struct store_req *req, int res)
{
	const struct uring_store *st = attach_of(req)->st;

	end_piece(req);
	if (res == -EINVAL && st->direct) {
		/* Stricter about memory than it said. */
		start_bounce(req);
		return;
	}
	if (res <= 0) {
		/* 0 is the end of a file that is shorter than it was. */
		uncut(req);
		finish(req, res ? res : -EIO);
		return;
	}
	req->moved += (uint64_t)res;
	if (req->moved == req->len) {
		uncut(req);
		finish(req, 0);
		return;
	}
	if (req->moved & st->len_mask) {
		/* Ended where O_DIRECT cannot go on: some of it once more. */
		req->moved &= ~(uint64_t)st->len_mask;
		start_bounce(req);
		return;
	}
	cut_to_moved(req);
	queue_piece(req);
}

/* The next way to write zeroes after one that is not there. */
static void next_zero_stage(struct store_req *req)
{
	struct uring_store *st = attach_of(req)->st;

	switch ((enum stage)req->stage) {
	case STAGE_PUNCH:
		write_once(&st->no_punch, true);
		req->stage = STAGE_ZERO_RANGE;
		break;
	case STAGE_ZERO_RANGE:
		write_once(&st->no_zero_range, true);
		req->stage = st->is_block || read_once(&st->no_alloc) ? STAGE_ZERO_WRITE
								      : STAGE_PUNCH_FIRST;
		break;
	default:
		write_once(&st->no_alloc, true);
		req->stage = STAGE_ZERO_WRITE;
		break;
	}
	if (req->stage == STAGE_ZERO_RANGE && read_once(&st->no_zero_range))
		next_zero_stage(req);
}

static void range_done(struct store_req *req, int res)
{
	if (res == -EOPNOTSUPP && req->op == STORE_WRITE_ZEROES) {
		next_zero_stage(req);
		queue(req);
		return;
	}
	if (!res && req->stage == STAGE_PUNCH_FIRST) {
		req->stage = STAGE_ALLOC;
		queue(req);
		return;
	}
	if (res)
		finish(req, res);
	else
		finish_durably(req);
}

static void zeroes_written(struct store_req *req, int res)
{
	if (res <= 0) {
		finish(req, res ? res : -EIO);
		return;
	}
	req->moved += (uint64_t)res;
	if (req->moved >= req->len)
		finish_durably(req);
	else
		queue(req);
}

void uring_io_complete(struct store_req *req, int res)
{
	if (likely(req->stage == STAGE_TRANSFER && res >= 0 && (uint64_t)res == req->len)) {
		finish(req, 0);
		return;
	}
	if (res == -EINTR || res == -EAGAIN) {
		req->may_wait = res == -EAGAIN;
		queue_later(req);
		return;
	}
	if (res == -EOPNOTSUPP && attach_of(req)->u->kind & URING_IOPOLL) {
		stop_polling(req);
		return;
	}
	switch ((enum stage)req->stage) {
	case STAGE_TRANSFER:
		transfer_moved(req, res);
		break;
	case STAGE_BOUNCE:
		bounce_moved(req, res);
		break;
	case STAGE_SYNC:
		finish(req, res);
		break;
	case STAGE_ZERO_WRITE:
		zeroes_written(req, res);
		break;
	case STAGE_PUNCH:
	case STAGE_PUNCH_FIRST:
	case STAGE_ZERO_RANGE:
	case STAGE_ALLOC:
		range_done(req, res);
		break;
	}
}

/* --- ioctls, on the worker ---------------------------------------------------- */

static void job_run(struct worker_job *job)
{
	struct uring_chan *c = container_of(job, struct uring_chan, job);
	const struct store_req *req = c->jobs;
	uint64_t range[2] = { req->offset, req->len };
	unsigned long cmd = req->op == STORE_SECURE_ERASE ? BLKSECDISCARD : BLKDISCARD;

	c->job_res = ioctl(c->st->fd, cmd, range) < 0 ? -errno : 0;
	loop_post(c->data->ordinary->u->loop, &c->job_done);
}

static void job_done(struct loop_work *w)
{
	struct uring_chan *c = container_of(w, struct uring_chan, job_done);
	struct store_req *req = c->jobs;
	int res = c->job_res;

	c->jobs = req->next;
	if (c->jobs)
		worker_post(c->data->ordinary->u->worker, &c->job);
	else
		c->jobs_last = &c->jobs;
	if (res)
		finish(req, res);
	else
		finish_durably(req);
}

static void start_job(struct uring_chan *c, struct store_req *req)
{
	bool idle = !c->jobs;

	req->next = NULL;
	*c->jobs_last = req;
	c->jobs_last = &req->next;
	if (idle)
		worker_post(c->data->ordinary->u->worker, &c->job);
}

void uring_io_chan_init(struct uring_chan *c)
{
	c->jobs_last = &c->jobs;
	c->job.run = job_run;
	c->job_done.run = job_done;
}

/* --- submitting ---------------------------------------------------------------- */

static int start_transfer(struct uring_chan *c, struct store_req *req)
{
	/* A polling engine cannot sync, and a durable write is a write and a sync. */
	if (unlikely(req->flags & STORE_REQ_FUA || read_once(&c->st->no_iopoll)))
		req->via = c->data->ordinary;
	else
		req->via = c->data;
	req->stage = STAGE_TRANSFER;
	req->moved = 0;
	req->cur_iov = 0;
	req->cur_cut = 0;
	if (c->st->direct && unlikely(!is_aligned(c->st, req)))
		start_bounce(req);
	else
		queue_piece(req);
	return STORE_QUEUED;
}

static int start_zeroes(struct uring_chan *c, struct store_req *req)
{
	const struct uring_store *st = c->st;

	req->moved = 0;
	if (req->flags & STORE_REQ_UNMAP && !read_once(&st->no_punch))
		req->stage = STAGE_PUNCH;
	else if (!read_once(&st->no_zero_range))
		req->stage = STAGE_ZERO_RANGE;
	else if (!st->is_block && !read_once(&st->no_alloc))
		req->stage = STAGE_PUNCH_FIRST;
	else
		req->stage = STAGE_ZERO_WRITE;
	queue(req);
	return STORE_QUEUED;
}

int uring_io_submit(struct store_chan *chan, struct store_req *req)
{
	struct uring_chan *c = container_of(chan, struct uring_chan, chan);

	req->via = c->data->ordinary;
	req->may_wait = false;
	if (c->st->no_sync)
		req->flags &= (uint8_t)~STORE_REQ_FUA;
	switch ((enum store_op)req->op) {
	case STORE_READ:
	case STORE_WRITE:
		return start_transfer(c, req);
	case STORE_FLUSH:
		/* Nothing to make durable where nothing is written. */
		if (c->st->no_sync || c->st->read_only)
			return 0;
		req->stage = STAGE_SYNC;
		queue(req);
		return STORE_QUEUED;
	case STORE_WRITE_ZEROES:
		return start_zeroes(c, req);
	case STORE_DISCARD:
		if (!c->st->is_block) {
			req->stage = STAGE_PUNCH;
			queue(req);
			return STORE_QUEUED;
		}
		start_job(c, req);
		return STORE_QUEUED;
	case STORE_SECURE_ERASE:
		start_job(c, req);
		return STORE_QUEUED;
	default:
		return -EOPNOTSUPP;
	}
}
