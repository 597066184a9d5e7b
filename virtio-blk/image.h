/*
 * Opening the file or block device behind an uring store and finding out what
 * it is. Private to virtio-blk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_IMAGE_H
#define RINGBOLT_VIRTIO_BLK_IMAGE_H

#include "virtio-blk/store.h"

struct image {
	int fd;
	bool is_block;
	bool in_memory; /* on tmpfs: nothing to wait for, nothing to make durable */
	bool direct; /* opened with O_DIRECT */
	uint32_t mem_align, len_align; /* powers of two: what O_DIRECT asks for */
	uint64_t size;
	uint32_t block_size, physical_block_size, opt_io_size;
	/* By image_probe(). */
	bool can_discard, can_secure_erase;
	uint32_t discard_granularity;
};

/* 0, or -errno and a sentence in err (STORE_ERR_LEN) that names path and the
 * cause. Changes nothing about the file. */
int image_open(const struct store_conf *conf, const char *path, struct image *im, char *err);
/* Find out what else it can; only of an image that is locked, since it tries
 * to make a hole behind the end of a file. */
void image_probe(struct image *im, bool read_only);
/* Does Linux of this release ("5.15.0-91-generic") tell a block device that can
 * erase securely from one that cannot? */
bool image_tells_secure_erase(const char *release);
/* The present size, refused unless it is some blocks. */
int image_size(int fd, const char *path, uint32_t block_size, uint64_t *size, char *err);

#endif
