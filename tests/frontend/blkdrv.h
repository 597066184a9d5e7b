/*
 * virtio-blk requests on top of the front-end and its rings: a whole device in
 * a few calls, for tests. VIRTIO 1.3, "Block Device".
 *
 * Theory of operation
 *
 * A request's bytes are two strings: what the device reads (header, then data
 * of a write) and what it writes (data of a read, then the status byte).
 * "Message Framing" lets the driver cut both as it likes, so a request carries
 * a layout: the usual one of three or more buffers, or a random one whose cuts
 * and places follow from a seed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_BLKDRV_H
#define RINGBOLT_TESTS_FRONTEND_BLKDRV_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/frontend/drv.h"
#include "tests/frontend/fe.h"

#define BLK_QUEUES_MAX 64
#define BLK_SECTOR 512
#define BLK_ID_LEN 20
/* What a status byte is before the device wrote it. */
#define BLK_S_UNSET 0xee

struct blk_conf {
	const char *path; /* of the socket; or NULL with sock */
	int sock;
	unsigned int queues;
	uint16_t queue_size;
	bool packed, event_idx, in_order, indirect; /* wanted; left out if not offered */
	bool iommu; /* the same: ACCESS_PLATFORM */
	bool inflight; /* the same: INFLIGHT_SHMFD, for blk_take_up() */
	uint64_t without; /* virtio features not to take though offered */
	uint64_t proto_without; /* the same of the protocol features */
	uint64_t mem; /* bytes of guest memory; 0: 64 MiB */
	void (*pump)(void *opaque); /* see fe.h */
	void *pump_opaque;
};

struct blk {
	struct fe fe;
	struct blk_conf conf;
	struct virtio_blk_config config; /* as read at the start */
	int region; /* of the rings and, unless moved, the requests */
	unsigned int queues;
	struct drv_ring ring[BLK_QUEUES_MAX];
	struct fe_inflight inflight;
	int inflight_fd; /* -1: none */
};

/* One request. Lives in one place of guest memory; used again and again. */
struct blk_req {
	struct blk *blk;
	uint64_t area_gpa;
	uint8_t *area;
	uint32_t area_len, data_max;

	/* Filled by the caller before blk_submit(). */
	unsigned int queue;
	uint32_t type; /* VIRTIO_BLK_T_ */
	uint64_t sector;
	const void *out; /* device-readable data, copied at submission */
	uint32_t out_len;
	void *in; /* device-writable data, copied back when done */
	uint32_t in_len;
	uint32_t layout_seed; /* 0: the usual layout */
	void *opaque;

	/* The answer. */
	bool done;
	uint8_t status;
	uint32_t used_len;

	/* Where the two strings lie. */
	struct drv_buf bufs[DRV_TABLE_MAX];
	unsigned int nr_out, nr_in;
};

/* Connect, negotiate, share memory, start the rings. 0 or -errno; then nothing
 * is left. All of conf is optional but path or sock, queues and queue_size. */
int blk_open(struct blk *b, const struct blk_conf *conf);
/* Stop the rings in order, then close. 0 or what drv_stop() said first. */
int blk_close(struct blk *b);
/* Close the connection as a front-end that died does. */
void blk_abandon(struct blk *b);
/* After the back-end has gone or fe_disconnect(): connect anew to conf.path and
 * resume the rings where they stand; nothing may be in flight. */
int blk_reconnect(struct blk *b);

/* The same after it was killed with requests in flight, told as little of where the
 * rings stand as QEMU tells. */
int blk_take_up(struct blk *b);

/* Room for requests of up to data_max bytes, in guest memory region. */
int blk_req_init(struct blk_req *req, struct blk *b, int region, uint32_t data_max);
/* Add to the ring, not yet visible: then drv_submit(). 0, -ENOSPC if full. */
int blk_add(struct blk_req *req);
int blk_submit(struct blk_req *req);
/* One done request of a queue, NULL if none; *err is -EPROTO if the device
 * broke the rules, else 0. wait: up to the timeout (*err -ETIMEDOUT). */
struct blk_req *blk_reap(struct blk *b, unsigned int queue, bool wait, int *err);
/* Submit and wait: the status byte, or -errno. */
int blk_do(struct blk_req *req);

/* The same in one line each, on any queue; -errno or the status byte. */
int blk_read(struct blk_req *req, unsigned int queue, uint64_t sector, void *buf, uint32_t len);
int blk_write(struct blk_req *req, unsigned int queue, uint64_t sector, const void *buf,
	      uint32_t len);
int blk_flush(struct blk_req *req, unsigned int queue);
int blk_get_id(struct blk_req *req, unsigned int queue, char id[BLK_ID_LEN]);
/* type: VIRTIO_BLK_T_DISCARD, WRITE_ZEROES or SECURE_ERASE. */
int blk_range(struct blk_req *req, unsigned int queue, uint32_t type,
	      const struct virtio_blk_discard_write_zeroes *segs, unsigned int nr);

#endif
