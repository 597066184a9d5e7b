/*
 * What vblk.c (the device) and vblk_req.c (its requests) share. Private to
 * virtio-blk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_VBLK_INTERNAL_H
#define RINGBOLT_VIRTIO_BLK_VBLK_INTERNAL_H

#include "virtio-blk/store.h"
#include "virtio-blk/vblk.h"
#include "virtio-blk/vblk_spec.h"
#include "virtio-blk/worker.h"

/*
 * What is advertised: data segments of a request, bytes of a segment; less where
 * the store limits a transfer, so that nobody who keeps to it meets that limit.
 * More is served as far as it is possible: firmware that negotiates neither
 * feature (OVMF) reads a kernel in one segment.
 */
#define VBLK_SEG_MAX 126
#define VBLK_SIZE_MAX (4u << 20)
/* Pieces of memory of one request: a segment that crosses from one region of
 * guest memory to the next becomes two. A request slot also keeps the ranges of
 * a discard here, which are as long as an iovec. */
#define VBLK_IOV_MAX 160
#define VBLK_RANGES_MAX 64
static_assert(VBLK_RANGES_MAX <= VBLK_IOV_MAX, "ranges are kept in place of the iovec");
static_assert(sizeof(struct virtio_blk_segment) <= sizeof(struct iovec),
	      "ranges are kept in place of the iovec");

/* One writer, the ring's loop; counter_read() elsewhere. */
struct vblk_stats {
	uint64_t ops[STORE_OP_CNT];
	uint64_t read_bytes, written_bytes;
	uint64_t errors; /* requests that ended with a status other than OK */
};

/* One request of a driver, at the index of its chain's id. */
struct vblk_req {
	struct store_req io;
	struct vblk_ring *ring;
	uint8_t *status;
	struct iovec one; /* io.iov of a request with one data segment */
	uint32_t written; /* bytes of the device-writable part, if all goes well */
	uint16_t id;
	uint8_t range_nr, range_next; /* discard and the like */
} __attribute__((aligned(CACHE_LINE)));
static_assert(sizeof(struct vblk_req) == 2 * CACHE_LINE, "a request takes two cache lines");

/* The device's half of a ring: vq->priv. The loop's while the ring is started. */
struct vblk_ring {
	struct virtq *vq;
	struct vblk *blk;
	struct store *store;
	struct store_chan *chan;
	int (*submit)(struct store_chan *chan, struct store_req *req);
	bool immediate; /* submit() always ends the request */
	uint64_t block_mask; /* logical block size - 1 */
	uint64_t len_max; /* bytes of a read or write */
	struct vblk_req *req; /* nr_req of them; lazily touched, like iov */
	struct iovec *iov; /* VBLK_IOV_MAX for every req */
	uint32_t nr_req;
	struct vblk_stats stats;
};

/* What the driver has written to the writeback field. */
enum vblk_wce {
	VBLK_WCE_UNSET,
	VBLK_WCE_OFF,
	VBLK_WCE_ON,
};

struct vblk {
	struct vu_dev *dev;
	struct evloop *ev;
	struct store *store;
	/* A write must be durable before it ends. The loops read it with
	 * read_once(), the control thread sets it. */
	bool write_through;
	enum vblk_wce wce;
	/* What was written is made durable before the driver is told that its cache is
	 * off: on a thread of its own, as a disk may take its time. */
	struct {
		struct worker *worker;
		struct worker_job job;
		struct ev_work done;
		enum vblk_wce before;
		int result;
	} syncing;
	bool read_only, packed, iommu;
	int cache, lock;
	unsigned int queues, queue_size;
	char *name, *socket;
	char serial[VIRTIO_BLK_ID_BYTES]; /* padded with NUL */
	struct vblk_ring *ring[VBLK_QUEUES_MAX];
	/* Of stopped rings: counters go on when the guest comes back. */
	struct vblk_stats stopped_stats[VBLK_QUEUES_MAX];
	void (*gone)(void *opaque);
	void *opaque;
};

/* struct vu_ops.vq_poll: pop requests and start them. */
unsigned int vblk_poll(struct virtq *vq);
/* Prepare the request slots of a new ring. */
void vblk_ring_init(struct vblk_ring *ring);

#endif
