/*
 * The running ringbolt-blk: its loops and devices. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_BLK_APP_H
#define RINGBOLT_APPS_BLK_APP_H

#include <stdbool.h>

#include "apps/app.h"
#include "apps/blk_opts.h"
#include "virtio-blk/vblk.h"

struct blk_app;

/* A device of the process, from creation until all of it is closed. */
struct blk_device {
	struct blk_app *app;
	struct blk_device *next;
	struct vblk *blk;
	char name[VU_NAME_MAX];
	bool leaving; /* vblk_destroy() was called: blk must not be used */
	struct rpc_call *remove_call; /* to be answered when it has gone, or NULL */
};

struct blk_app {
	struct app app;
	const struct blk_options *opts;
	struct blk_device *devices; /* in order of creation */
};

/* 0 and *dev, or -errno and one sentence in err (VBLK_ERR_LEN). */
int blk_app_add(struct blk_app *app, const struct blk_device_opts *opts, struct blk_device **dev,
		char *err);
/* NULL if there is none. */
struct blk_device *blk_app_find(struct blk_app *app, const char *name);
/* Drain and close it; call may be NULL, else it is answered when all is done. */
void blk_app_remove(struct blk_device *dev, struct rpc_call *call);

/* The methods of the control socket; opaque is the struct app. */
extern const struct rpc_method blk_rpc_methods[];

#endif
