/*
 * One io_uring for all uring stores on a loop, and what its users share.
 * Private to virtio-blk.
 *
 * Theory of operation
 *
 * The control thread creates an engine when the first store needs one on a
 * loop, and the loop's thread enables it: it is the only submitter from then
 * on, and every registration goes through it as posted work. A store is
 * attached to an engine from its first ring on that loop until it is closed:
 * the attachment holds the store's registered file and guest memory there.
 *
 *   store_uring.c  files, block devices, channels, attachments
 *   uring_io.c     one store request as one or more io_uring requests
 *   uring_mem.c    guest memory as registered buffers
 *   uring.c        the engine: create, submit, reap, sleep, destroy
 *
 * An engine that polls for completions (IORING_SETUP_IOPOLL) can only read and
 * write; its stores use a second, ordinary engine of the loop for the rest.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_URING_H
#define RINGBOLT_VIRTIO_BLK_URING_H

#include <liburing.h>

#include "virtio-blk/store.h"
#include "virtio-blk/worker.h"

/* Kinds of engine. */
#define URING_IOPOLL (1u << 0)
#define URING_SQPOLL (1u << 1)

/* io_uring.h of Linux 6.15, which older headers of liburing lack. */
#define URING_OP_READV_FIXED 60
#define URING_OP_WRITEV_FIXED 61

#define URING_FILES_MAX 1024 /* stores on one loop with a registered file */
#define URING_BUFS_MAX 16384 /* the kernel's limit */
#define URING_CHUNK_LEN (256u << 10) /* bounce buffers, a multiple of every block size */
#define URING_CHUNKS 16
#define URING_ZEROES_LEN (1u << 20)

struct uring {
	/* The loop's. */
	struct io_uring ring;
	struct loop_source source; /* nr_pending: prepared or with the kernel */
	unsigned int prepared; /* not yet submitted */
	unsigned int pending_max; /* room in the completion queue */
	bool deferred; /* completions wait until asked for: IORING_SQ_TASKRUN tells */
	bool armed; /* source.fd is signalled */
	bool added; /* source is the loop's */
	bool dead; /* could not be brought up on its loop: all requests are errors */
	struct store_req *backlog, **backlog_last; /* no room for them yet */
	bool large_busy; /* a piece of a large transfer is with the kernel */
	struct store_req *large, **large_last; /* wait for that to end */
	uint8_t *chunk_base;
	uint8_t chunk_free[URING_CHUNKS];
	unsigned int nr_chunks_free;
	struct store_req *chunk_wait, **chunk_wait_last;

	/* Constant. */
	struct loop *loop;
	struct evloop *ev;
	unsigned int kind;
	unsigned int nr_files, nr_bufs; /* 0: cannot be registered */
	bool vec_fixed; /* the kernel has IORING_OP_READV_FIXED */

	/* The control thread's. */
	unsigned int refs;
	struct worker *worker; /* see uring_want_worker() */
	bool file_used[URING_FILES_MAX], buf_used[URING_BUFS_MAX];
	struct loop_work enable, quit;
	struct ev_work quit_done;
	void (*gone)(void *opaque);
	void *opaque;
	struct uring *next;
};

/* A file or block device. */
struct uring_store {
	struct store store;
	int fd;
	bool is_block, in_memory, direct, no_sync, read_only;
	bool lock_on_start;
	bool fixed;
	unsigned int kind; /* of engine for reads and writes */
	uint32_t mem_mask, len_mask; /* O_DIRECT: alignment - 1 of addresses and lengths */
	/* Posted by any loop: see file_overshot(). */
	struct ev_work cut;
	bool cut_posted;
	/* What has been found not to work; any loop sets and reads them. */
	bool no_punch, no_zero_range, no_alloc, no_iopoll;
	char *path;
	struct evloop *ev;
	struct uring_attach *attached; /* control thread */
	struct gmem_region *region[GMEM_REGIONS_MAX];
	unsigned int nr_regions;
	unsigned int closing; /* attachments on their way out */
};

/* A store on an engine. */
struct uring_attach {
	/* The loop's. */
	int slot; /* registered file, -1: use the descriptor */
	struct uring_region *regions, *hot; /* all, and where the last one was found */

	/* The control thread's. */
	struct uring_store *st;
	struct uring *u;
	struct uring_attach *ordinary; /* on the same loop: itself unless u is IOPOLL */
	int want_slot;
	struct uring_region *known; /* regions added and not yet gone */
	bool detaching;
	struct loop_work add, del;
	struct ev_work del_done;
	struct uring_attach *next;

	/* Any thread's: for status. */
	uint64_t fixed_bytes;
	int fixed_error; /* -errno of the last registration that failed */
};

/* A ring's way to the store. */
struct uring_chan {
	struct store_chan chan;
	struct uring_store *st;
	struct uring_attach *data; /* reads and writes; all else: data->ordinary */
	/* Requests that need an ioctl, one at a time on the engine's worker. */
	struct store_req *jobs, **jobs_last;
	struct worker_job job;
	struct loop_work job_done;
	int job_res;
};

/* --- uring.c ------------------------------------------------------------- */

/* Can this process use io_uring? 0 or -errno. Any thread. */
int uring_available(void);
/* Can completions of reads from fd be polled for? 0 or -errno. Any thread. */
int uring_probe_iopoll(int fd, uint32_t block_size);

/* A reference to the loop's engine of that kind, made if there is none. */
int uring_get(struct loop *loop, struct evloop *ev, unsigned int kind, struct uring **u);
/* gone(opaque) when the caller's loop may go: at once if others use the
 * engine, else after the loop has let go of it. Control thread. */
void uring_put(struct uring *u, void (*gone)(void *opaque), void *opaque);
/* Make sure that u->worker exists. 0 or -ENOMEM. Control thread. */
int uring_want_worker(struct uring *u);

/* Have the request prepared by uring_io_prep(), now or when there is room, and
 * submitted at the end of the turn. Loop. */
void uring_queue(struct uring *u, struct store_req *req);
/* The same at the next turn. */
void uring_queue_later(struct uring *u, struct store_req *req);

/* --- uring_io.c ---------------------------------------------------------- */

/* struct store_ops.submit */
int uring_io_submit(struct store_chan *chan, struct store_req *req);
/* Fill an entry for the request's present stage. */
void uring_io_prep(struct store_req *req, struct io_uring_sqe *sqe);
/* What the kernel answered to that. */
void uring_io_complete(struct store_req *req, int res);
void uring_io_chan_init(struct uring_chan *c);

/* --- uring_mem.c ---------------------------------------------------------- */

/* Control thread. A region is registered little by little; until it is, and
 * where it cannot be, requests go without. */
void uring_mem_add(struct uring_attach *at, struct gmem_region *r);
void uring_mem_remove(struct uring_attach *at, struct gmem_region *r);
/* The buffer that holds all of [p, p + len), or -1. Loop. */
int uring_mem_find(struct uring_attach *at, const void *p, uint64_t len);

/* --- store_uring.c -------------------------------------------------------- */

/* The last of at->known has gone. Control thread. */
void uring_attach_idle(struct uring_attach *at);

#endif
