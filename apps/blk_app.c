/*
 * The devices of a running ringbolt-blk: add, find, remove. Called by main() at
 * start and end, and by the control socket's methods in between.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/blk_app.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

struct blk_device *blk_app_find(struct blk_app *app, const char *name)
{
	struct blk_device *dev = app->devices;

	while (dev && strcmp(dev->name, name))
		dev = dev->next;
	return dev;
}

/* A name for a device without: the first of "vblkN" that is free. */
static void choose_name(struct blk_app *app, char *name)
{
	unsigned int i = 0;

	do {
		snprintf(name, VU_NAME_MAX, "vblk%u", i++);
	} while (blk_app_find(app, name));
}

int blk_app_add(struct blk_app *app, const struct blk_device_opts *opts, struct blk_device **dev,
		char *err)
{
	struct blk_device **tail = &app->devices;
	struct blk_device *fresh;
	struct vblk_conf conf;
	int res;

	if (opts->name && blk_app_find(app, opts->name)) {
		snprintf(err, VBLK_ERR_LEN, "%s: there is a device of that name", opts->name);
		return -EEXIST;
	}
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh) {
		snprintf(err, VBLK_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	if (opts->name)
		snprintf(fresh->name, sizeof(fresh->name), "%s", opts->name);
	else
		choose_name(app, fresh->name);
	vblk_conf_init(&conf);
	blk_device_opts_conf(opts, &conf);
	conf.name = fresh->name;
	conf.ev = app->app.ev;
	conf.loops = app->app.loops;
	conf.nr_loops = app->app.nr_loops;
	res = vblk_create(&conf, &fresh->blk, err);
	if (res < 0) {
		free(fresh);
		return res;
	}
	fresh->app = app;
	while (*tail)
		tail = &(*tail)->next;
	*tail = fresh;
	*dev = fresh;
	return 0;
}

static void device_gone(void *opaque)
{
	struct blk_device *dev = opaque;
	struct blk_app *app = dev->app;
	struct blk_device **p = &app->devices;

	while (*p != dev)
		p = &(*p)->next;
	*p = dev->next;
	log_info("%s: removed", dev->name);
	if (dev->remove_call)
		rpc_result(dev->remove_call, json_pack("{s:s}", "name", dev->name));
	free(dev);
	if (app->app.stopping && !app->devices)
		app_end(&app->app);
}

void blk_app_remove(struct blk_device *dev, struct rpc_call *call)
{
	assert(!dev->leaving);
	dev->leaving = true;
	dev->remove_call = call;
	vblk_destroy(dev->blk, device_gone, dev);
}
