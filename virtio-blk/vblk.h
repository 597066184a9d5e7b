/*
 * A virtio block device behind a vhost-user socket. VIRTIO 1.3, "Block Device".
 * The only header of this folder that others include. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_VBLK_H
#define RINGBOLT_VIRTIO_BLK_VBLK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct evloop;
struct loop;
struct vblk;

#define VBLK_ERR_LEN 512
#define VBLK_QUEUES_MAX 64
#define VBLK_SERIAL_MAX 20

/* Words for cache= and lock=, NULL-terminated, in the order of their enums. */
extern const char *const vblk_cache_names[];
extern const char *const vblk_lock_names[];
#define VBLK_CACHE_AUTO 5 /* index in vblk_cache_names: the default */

/* The fields follow the keys of --device; strings are copied. */
struct vblk_conf {
	const char *name; /* NULL: "vblkN" */
	const char *socket; /* path, or NULL with fd */
	bool connect; /* connect to socket instead of listening there */
	int fd; /* -1 or a listening or connected socket; taken, on errors too */
	const char *store; /* "uring:PATH", "null:SIZE", "mem:SIZE" */
	const char *serial; /* at most VBLK_SERIAL_MAX bytes; NULL: the name */
	unsigned int queues; /* 1 .. VBLK_QUEUES_MAX */
	unsigned int queue_size; /* largest ring allowed; 0: what the kind allows */
	bool read_only;
	int cache, lock;
	uint32_t block_size; /* 0, 512 or 4096 */
	bool iopoll, sqpoll, fixed_buffers;
	bool packed; /* offer VIRTIO_F_RING_PACKED; default true */
	bool iommu; /* offer VIRTIO_F_ACCESS_PLATFORM; default false */
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
};

/* The defaults of every field. */
void vblk_conf_init(struct vblk_conf *conf);

/* 0 and *blk, or -errno and one sentence in err (VBLK_ERR_LEN) that names the
 * file or socket and the cause. On error nothing is left behind. */
int vblk_create(const struct vblk_conf *conf, struct vblk **blk, char *err);
/* Asynchronous as vu_dev_destroy(): gone(opaque) when all is closed. */
void vblk_destroy(struct vblk *blk, void (*gone)(void *opaque), void *opaque);

const char *vblk_name(const struct vblk *blk);
/* size 0: take the backing file's present size. Otherwise grow or shrink the
 * store. The driver is told. 0 or -errno and a sentence in err. */
int vblk_resize(struct vblk *blk, uint64_t size, char *err);
/* A new object with the keys of vblk_conf, capacity, and vu_dev_status(). */
json_t *vblk_status(struct vblk *blk);

#endif
