/*
 * Where a block device's bytes live. A store is opened once by the control
 * thread; each ring of the device then gets a channel to it on the ring's loop.
 * Private to virtio-blk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_STORE_H
#define RINGBOLT_VIRTIO_BLK_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/evloop.h"
#include "vhost/vhost.h"

#define STORE_ERR_LEN 512

enum store_op {
	STORE_READ,
	STORE_WRITE,
	STORE_FLUSH,
	STORE_DISCARD,
	STORE_WRITE_ZEROES,
	STORE_SECURE_ERASE,
	STORE_OP_CNT,
};

/* What a store can do; features are offered from these. */
enum store_caps {
	STORE_CAN_WRITE = 1 << 0,
	STORE_CAN_DISCARD = 1 << 1,
	STORE_CAN_WRITE_ZEROES = 1 << 2,
	STORE_CAN_SECURE_ERASE = 1 << 3,
	STORE_CAN_RESIZE = 1 << 4, /* store_resize() may change the size itself */
};

/* Flags of one request. */
#define STORE_REQ_FUA (1 << 0) /* write through: durable before it is done */
#define STORE_REQ_UNMAP (1 << 1) /* WRITE_ZEROES may deallocate */

/* store_submit(): the request ends later, by its done(). */
#define STORE_QUEUED 1

struct store;
struct store_chan;

/*
 * One request, embedded in its owner's slot; the store keeps its own scratch in
 * it. Checked by the owner: in range, multiples of the logical block size, and
 * the iovec holds len bytes.
 */
struct store_req {
	/* The owner's, constant while the request is with the store. A store that
	 * continues a short transfer changes one element of iov and puts it right
	 * again before done(). */
	struct iovec *iov;
	uint64_t offset, len; /* bytes */
	uint32_t nr_iov;
	uint8_t op; /* enum store_op */
	uint8_t flags;
	/* The store's. */
	uint8_t stage;
	bool may_wait; /* has to be done by a thread that may */
	/* Called once on the loop's thread with 0 or -errno, unless store_submit()
	 * answered at once. */
	void (*done)(struct store_req *req, int res);

	/* The store's. */
	void *via;
	struct store_req *next;
	uint64_t moved; /* bytes transferred so far */
	void *bounce;
	uint32_t cur_iov, cur_cut; /* element to continue with, bytes cut off its start */
};

enum store_cache {
	STORE_CACHE_NONE, /* O_DIRECT, write back: the default where the file system takes it */
	STORE_CACHE_WRITEBACK,
	STORE_CACHE_WRITETHROUGH,
	STORE_CACHE_DIRECTSYNC, /* O_DIRECT, write through */
	STORE_CACHE_UNSAFE, /* flushes are ignored */
	STORE_CACHE_AUTO, /* NONE if the file takes O_DIRECT, else WRITEBACK */
	STORE_CACHE_CNT,
};

enum store_lock {
	STORE_LOCK_OPEN, /* as long as the store is open: the default */
	STORE_LOCK_START, /* while a ring is started: for the two ends of a migration */
	STORE_LOCK_OFF,
	STORE_LOCK_CNT,
};

struct store_conf {
	const char *spec; /* "uring:PATH", "null:SIZE", "mem:SIZE" */
	bool read_only;
	int cache; /* enum store_cache */
	int lock; /* enum store_lock */
	uint32_t block_size; /* 0: the store's own; else 512 or 4096 */
	bool iopoll; /* uring: IORING_SETUP_IOPOLL */
	bool sqpoll; /* uring: IORING_SETUP_SQPOLL */
	int fixed_buffers; /* uring: 0 off, 1 on where allowed */
	struct evloop *ev;
};

/* What is true of an open store; size changes by store_resize(). */
struct store_info {
	uint64_t size; /* bytes, a multiple of block_size; read_once() off the control thread */
	uint32_t block_size; /* logical: 512 or 4096 */
	uint32_t physical_block_size;
	uint32_t opt_io_size; /* bytes, 0 unknown */
	uint32_t discard_granularity; /* bytes */
	/* Bounds for discard, write zeroes and secure erase: bytes of one range and
	 * ranges of one driver's request. What ends at once in submit() keeps its
	 * loop from other rings meanwhile, so it is kept short. */
	uint32_t range_max_len, range_max_nr;
	/* Bytes of one read or write, 0 any: where they end at once in submit(). */
	uint32_t transfer_max;
	uint32_t caps; /* enum store_caps */
	bool write_through; /* what the cache mode says at first */
};

/* One store type. */
struct store_ops {
	const char *scheme; /* "uring" */
	/* submit() never answers STORE_QUEUED. The owner may then pass an iovec
	 * and a request that live no longer than the call. */
	bool immediate;
	/* arg: after "scheme:". -errno and a sentence in err naming the file and
	 * the cause. ops and spec are filled in by store_open(). */
	int (*open)(const struct store_conf *conf, const char *arg, struct store **store,
		    char *err);
	/* Calls store_closed() with nothing left but the struct store itself, now
	 * or later. */
	void (*close)(struct store *store);
	/* A channel for one ring on its loop, and its end, drained. Control thread. */
	int (*chan_open)(struct store *store, struct loop *loop, uint32_t depth,
			 struct store_chan **chan);
	void (*chan_close)(struct store_chan *chan);
	/* 0 or -errno: done at once, done() is not called. STORE_QUEUED: later. Loop. */
	int (*submit)(struct store_chan *chan, struct store_req *req);
	/* Make durable what has been written, before the cache is switched off; waits
	 * for the disk. 0 or -errno. Any thread. NULL ok. */
	int (*sync)(struct store *store);
	/* size 0: find out the size anew. Otherwise change it. Control thread. */
	int (*resize)(struct store *store, uint64_t size, char *err);
	/* A request that wrote behind what is now the end has ended: the size was
	 * made smaller meanwhile. Any loop. NULL ok. */
	void (*overshot)(struct store *store);
	/* Guest memory for this store's requests. Control thread. NULL ok. */
	void (*mem_added)(struct store *store, struct gmem_region *r);
	void (*mem_removed)(struct store *store, struct gmem_region *r);
	/* Take or drop the image lock (STORE_LOCK_START). NULL ok. */
	int (*activate)(struct store *store);
	void (*deactivate)(struct store *store);
	/* Adds the type's own facts to status. NULL ok. */
	void (*status)(struct store *store, json_t *into);
};

/* First member of every store. */
struct store {
	const struct store_ops *ops;
	struct store_info info;
	char *spec;
	void (*closed)(void *opaque);
	void *opaque;
};

/* First member of every channel. */
struct store_chan {
	struct store *store;
};

/* 0 and *store, or -errno and a sentence in err (STORE_ERR_LEN). -EINVAL also
 * says which schemes exist. Nothing is created on the file system. */
int store_open(const struct store_conf *conf, struct store **store, char *err);
/*
 * Accepts NULL. All channels must be closed. closed(opaque), which may be NULL,
 * is called on the control thread when all is released, at once or later: a
 * store may have to wait for its loops.
 */
void store_close(struct store *store, void (*closed)(void *opaque), void *opaque);
int store_resize(struct store *store, uint64_t size, char *err);

/* For store types. */
void store_closed(struct store *store);
/* A sentence in err; returns error. */
int store_fail(char *err, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "10G" of a "null:10G" into *size, a multiple of the block size and not 0. */
int store_parse_size(const char *spec, const char *arg, uint32_t block_size, uint64_t *size,
		     char *err);

extern const struct store_ops store_uring, store_null, store_mem;

#endif
