/*
 * The io_uring engine of a loop: creating and ending it, submitting what all
 * stores of the loop prepared with one system call a turn, and reaping. Called
 * by loop.c as a loop_source, by store_uring.c and uring_io.c. Makes no system
 * call in a turn that has nothing to submit and nothing to reap, and knows
 * nothing of what requests mean.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"

#define SQ_ENTRIES 256
#define EARLY_MIN 2 /* requests that are worth a system call */
#define CQ_ENTRIES 4096
#define SQPOLL_IDLE_MS 20

/* All engines that stores may still attach to. Control thread. */
static struct uring *engines;

/* --- data path ------------------------------------------------------------- */

/* What a kernel thread is to submit counts as submitted: "ready" is what it has not
 * seen yet. */
static void count_prepared(struct uring *u)
{
	u->prepared = u->kind & URING_SQPOLL ? 0 : io_uring_sq_ready(&u->ring);
}

/* In the middle of a turn. What goes wrong is seen by enter(), at its end. */
static void submit_now(struct uring *u)
{
	io_uring_submit(&u->ring);
	count_prepared(u);
}

static struct io_uring_sqe *get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (likely(sqe))
		return sqe;
	/* Full: make room. */
	submit_now(u);
	return io_uring_get_sqe(&u->ring);
}

/*
 * A disk that has little to do waits for the end of the turn: the kernel takes about
 * a microsecond for each request and gives the disk all of a system call's at once.
 * So what would double the disk's work goes ahead: 2, 2, 4, 8, 16 of 32 requests, and
 * hardly anything ahead where the disk is busy anyway. A file in memory is read
 * within the system call, by nobody else.
 */
static bool is_worth_submitting(const struct uring *u, const struct store_req *req)
{
	const struct uring_attach *at = req->via;

	return u->prepared >= EARLY_MIN && 2 * u->prepared >= u->source.nr_pending &&
	       !at->st->in_memory;
}

void uring_queue(struct uring *u, struct store_req *req)
{
	struct io_uring_sqe *sqe = NULL;

	if (likely(u->source.nr_pending < u->pending_max))
		sqe = get_sqe(u);
	if (unlikely(!sqe)) {
		if (u->dead)
			uring_io_complete(req, -EIO);
		else
			uring_queue_later(u, req);
		return;
	}
	uring_io_prep(req, sqe);
	sqe->user_data = (uintptr_t)req;
	u->prepared++;
	u->source.nr_pending++;
	if (is_worth_submitting(u, req))
		submit_now(u);
}

void uring_queue_later(struct uring *u, struct store_req *req)
{
	req->next = NULL;
	*u->backlog_last = req;
	u->backlog_last = &req->next;
}

static void retry_backlog(struct uring *u)
{
	struct store_req *req = u->backlog, *next;

	u->backlog = NULL;
	u->backlog_last = &u->backlog;
	for (; req; req = next) {
		next = req->next;
		uring_queue(u, req);
	}
}

/* Let the kernel work: submit what is prepared, and complete what waits for
 * this thread to ask. At most one system call. */
static void enter(struct uring *u)
{
	unsigned int flags = read_once(u->ring.sq.kflags);
	bool ask = (u->deferred && flags & IORING_SQ_TASKRUN) || flags & IORING_SQ_CQ_OVERFLOW ||
		   (u->kind == URING_IOPOLL && u->source.nr_pending);
	int ret = 0;

	if (u->prepared) {
		ret = ask ? io_uring_submit_and_get_events(&u->ring) : io_uring_submit(&u->ring);
		count_prepared(u);
	} else if (ask) {
		ret = io_uring_get_events(&u->ring);
	}
	/* Short of memory, interrupted, or full of completions: the next turn tries
	 * again. */
	if (unlikely(ret < 0 && ret != -EAGAIN && ret != -EINTR && ret != -EBUSY))
		log_limited(LOG_LEVEL_ERROR, "io_uring of loop%u: %s", loop_index(u->loop),
			    strerror(-ret));
}

static unsigned int reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned int head, nr = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		nr++;
		u->source.nr_pending--;
		uring_io_complete((struct store_req *)(uintptr_t)cqe->user_data, cqe->res);
	}
	if (nr)
		io_uring_cq_advance(&u->ring, nr);
	return nr;
}

/* struct loop_source.turn */
static unsigned int uring_turn(struct loop_source *s)
{
	struct uring *u = container_of(s, struct uring, source);
	unsigned int nr;

	if (!s->nr_pending && !u->backlog)
		return 0;
	if (unlikely(u->backlog))
		retry_backlog(u);
	enter(u);
	nr = reap(u);
	/* What could not be submitted, and what nothing announces, keeps the loop
	 * awake. */
	if (u->prepared || u->backlog || (u->kind & URING_IOPOLL && s->nr_pending))
		nr++;
	return nr;
}

/*
 * struct loop_source.sleep. An eventfd, because the ring's own descriptor is
 * not made readable by completions that wait for this thread (seen on 6.18
 * with IORING_SETUP_DEFER_TASKRUN). Signalled only for a sleeper.
 */
static void uring_sleep(struct loop_source *s, bool asleep)
{
	struct uring *u = container_of(s, struct uring, source);
	uint64_t count;

	if (asleep == u->armed || (asleep && !s->nr_pending))
		return;
	u->armed = asleep;
	io_uring_cq_eventfd_toggle(&u->ring, asleep);
	/* Our wish is visible before turn() looks once more for IORING_SQ_TASKRUN
	 * and completions. Pairs with the kernel's atomic set of that flag before
	 * it reads our wish. It signals only the first completion that waits for
	 * us: the one missed here would be the last one ever heard of. */
	store_load_fence();
	/* Does not block; empty if something else woke the loop. */
	if (!asleep && read(s->fd, &count, sizeof(count)) < 0)
		return;
}

/* --- life -------------------------------------------------------------------- */

/* From the best to what Linux 5.15 has. */
static int init_ring(struct uring *u)
{
	static const unsigned int plain[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	static const unsigned int polled[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SUBMIT_ALL,
		0,
	};
	const unsigned int *tries = u->kind ? polled : plain;
	int ret = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(plain) && ret == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = tries[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE |
				 IORING_SETUP_CLAMP,
			.cq_entries = CQ_ENTRIES,
			.sq_thread_idle = SQPOLL_IDLE_MS,
		};

		if (u->kind & URING_IOPOLL)
			p.flags |= IORING_SETUP_IOPOLL;
		if (u->kind & URING_SQPOLL)
			p.flags |= IORING_SETUP_SQPOLL;
		ret = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
		u->deferred = tries[i] & IORING_SETUP_TASKRUN_FLAG;
		u->pending_max = p.cq_entries;
	}
	return ret;
}

/* Tables to fill later. What cannot be registered is used without. */
static void init_tables(struct uring *u)
{
	struct rlimit rl = { .rlim_cur = URING_FILES_MAX };
	struct io_uring_probe *probe;
	int *fds;

	getrlimit(RLIMIT_NOFILE, &rl);
	u->nr_files = (unsigned int)min_u64(rl.rlim_cur, URING_FILES_MAX);
	fds = malloc(u->nr_files * sizeof(*fds));
	for (unsigned int i = 0; fds && i < u->nr_files; i++)
		fds[i] = -1;
	if (!fds || io_uring_register_files(&u->ring, fds, u->nr_files) < 0)
		u->nr_files = 0;
	free(fds);
	if (!io_uring_register_buffers_sparse(&u->ring, URING_BUFS_MAX))
		u->nr_bufs = URING_BUFS_MAX;
	probe = io_uring_get_probe_ring(&u->ring);
	if (probe)
		u->vec_fixed = probe->last_op >= URING_OP_WRITEV_FIXED &&
			       io_uring_opcode_supported(probe, URING_OP_READV_FIXED) &&
			       io_uring_opcode_supported(probe, URING_OP_WRITEV_FIXED);
	io_uring_free_probe(probe);
}

static int init_chunks(struct uring *u)
{
	u->chunk_base = numa_zalloc(URING_CHUNKS * (size_t)URING_CHUNK_LEN, loop_node(u->loop));
	if (!u->chunk_base)
		return -ENOMEM;
	for (uint8_t i = 0; i < URING_CHUNKS; i++)
		u->chunk_free[u->nr_chunks_free++] = i;
	u->chunk_wait_last = &u->chunk_wait;
	return 0;
}

/* On the loop's thread: it is the submitter from here on. */
static void enable_run(struct loop_work *w)
{
	struct uring *u = container_of(w, struct uring, enable);
	int ret;

	/* io_uring_enable_rings(), which the liburing of Debian 12 does not export. */
	ret = io_uring_register((unsigned int)u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
				0);
	if (ret < 0)
		goto err_dead;
	/* Spares the kernel a descriptor look-up with each system call. */
	io_uring_register_ring_fd(&u->ring);
	ret = loop_source_add(u->loop, &u->source);
	if (ret < 0)
		goto err_dead;
	u->added = true;
	return;

err_dead:
	log_err("io_uring of loop%u: cannot be used: %s", loop_index(u->loop), strerror(-ret));
	u->dead = true;
	u->pending_max = 0;
}

static void quit_done(struct ev_work *w)
{
	struct uring *u = container_of(w, struct uring, quit_done);
	void (*gone)(void *opaque) = u->gone;
	void *opaque = u->opaque;

	worker_destroy(u->worker);
	io_uring_queue_exit(&u->ring);
	numa_zfree(u->chunk_base, URING_CHUNKS * (size_t)URING_CHUNK_LEN);
	fd_replace(&u->source.fd, -1);
	free(u);
	if (gone)
		gone(opaque);
}

static void quit_run(struct loop_work *w)
{
	struct uring *u = container_of(w, struct uring, quit);

	assert(!u->source.nr_pending && !u->backlog && !u->chunk_wait && !u->large_busy);
	if (u->added)
		loop_source_del(u->loop, &u->source);
	if (u->ring.enter_ring_fd != u->ring.ring_fd)
		io_uring_unregister_ring_fd(&u->ring);
	ev_post(u->ev, &u->quit_done);
}

static int uring_create(struct loop *loop, struct evloop *ev, unsigned int kind, struct uring **out)
{
	struct uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->ev = ev;
	u->kind = kind;
	u->backlog_last = &u->backlog;
	u->large_last = &u->large;
	u->source.turn = uring_turn;
	u->source.sleep = uring_sleep;
	u->enable.run = enable_run;
	u->quit.run = quit_run;
	u->quit_done.run = quit_done;
	u->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->source.fd < 0) {
		ret = -errno;
		goto err_free;
	}
	ret = init_ring(u);
	if (ret < 0)
		goto err_fd;
	ret = init_chunks(u);
	if (ret < 0)
		goto err_ring;
	ret = io_uring_register_eventfd(&u->ring, u->source.fd);
	if (ret < 0)
		goto err_chunks;
	io_uring_cq_eventfd_toggle(&u->ring, false);
	init_tables(u);
	loop_post(loop, &u->enable);
	*out = u;
	return 0;

err_chunks:
	numa_zfree(u->chunk_base, URING_CHUNKS * (size_t)URING_CHUNK_LEN);
err_ring:
	io_uring_queue_exit(&u->ring);
err_fd:
	fd_replace(&u->source.fd, -1);
err_free:
	free(u);
	return ret;
}

int uring_get(struct loop *loop, struct evloop *ev, unsigned int kind, struct uring **out)
{
	struct uring *u = engines;
	int ret;

	while (u && (u->loop != loop || u->kind != kind))
		u = u->next;
	if (!u) {
		ret = uring_create(loop, ev, kind, &u);
		if (ret < 0) {
			log_err("loop%u: no io_uring: %s", loop_index(loop), strerror(-ret));
			return ret;
		}
		/* The analyzer takes errno for 0 after a failure. */
		u->next = engines; /* NOLINT(clang-analyzer-core.NullDereference) */
		engines = u;
	}
	u->refs++;
	*out = u;
	return 0;
}

void uring_put(struct uring *u, void (*gone)(void *opaque), void *opaque)
{
	struct uring **at = &engines;

	if (--u->refs) {
		gone(opaque);
		return;
	}
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	u->gone = gone;
	u->opaque = opaque;
	loop_post(u->loop, &u->quit);
}

int uring_want_worker(struct uring *u)
{
	if (!u->worker)
		u->worker = worker_create();
	return u->worker ? 0 : -ENOMEM;
}

int uring_available(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(2, &ring, 0);

	if (!ret)
		io_uring_queue_exit(&ring);
	return ret;
}

int uring_probe_iopoll(int fd, uint32_t block_size)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	void *buf;
	int ret;

	buf = aligned_alloc(4096, 4096);
	if (!buf)
		return -ENOMEM;
	ret = io_uring_queue_init(2, &ring, IORING_SETUP_IOPOLL);
	if (ret < 0)
		goto err_buf;
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, fd, buf, block_size, 0);
	ret = io_uring_submit(&ring);
	if (ret >= 0)
		ret = io_uring_wait_cqe(&ring, &cqe);
	if (!ret) {
		ret = cqe->res < 0 ? cqe->res : 0;
		io_uring_cqe_seen(&ring, cqe);
	}
	io_uring_queue_exit(&ring);
err_buf:
	free(buf);
	return ret;
}
