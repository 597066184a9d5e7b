/*
 * The command line of ringbolt-blk, and the keys of a device, which the control
 * socket's "add" takes as well.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_BLK_OPTS_H
#define RINGBOLT_APPS_BLK_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/app_opts.h"
#include "core/opts.h"
#include "virtio-blk/vblk.h"

/* One device as its keys say. Strings belong to whoever holds the text. */
struct blk_device_opts {
	const char *name, *socket, *store, *serial;
	uint64_t queues, queue_size, fd;
	int cache, lock, block_size; /* indexes of words */
	bool read_only, connect, packed, iommu, iopoll, sqpoll, fixed_buffers;
};

/* The keys, ended by a NULL key. "fd" is for the command line only. */
extern const struct opt_desc blk_device_keys[];

void blk_device_opts_init(struct blk_device_opts *dev);

/* What no single key can tell: keys that exclude or need each other. 0, or
 * -EINVAL and a sentence that begins with option. */
int blk_device_opts_check(const char *option, const struct blk_device_opts *dev, char *err);

/* Fills the fields that have a key; the rest is as vblk_conf_init() says. */
void blk_device_opts_conf(const struct blk_device_opts *dev, struct vblk_conf *conf);

struct blk_options {
	struct blk_device_opts *devices; /* malloc'd */
	unsigned int nr_devices;
	char *single_store; /* malloc'd text of --blk-file's store= */
	struct app_options process;
};

/* As app_options_parse(); argv must live as long as opts. */
int blk_options_parse(int argc, char **argv, struct blk_options *opts);
void blk_options_free(struct blk_options *opts);

#endif
