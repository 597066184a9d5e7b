/*
 * The methods of ringbolt-blk's control socket: version, status, add, remove,
 * resize. Keys are those of the command line. Called by core/rpc on the control
 * thread; a method never waits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>

#include "apps/app_rpc.h"
#include "apps/blk_app.h"
#include "core/base.h"
#include "core/log.h"

static_assert(RPC_MSG_LEN >= OPTS_ERR_LEN && RPC_MSG_LEN >= VBLK_ERR_LEN, "sentences fit");

static struct blk_app *blk_app(void *opaque)
{
	return container_of((struct app *)opaque, struct blk_app, app);
}

/* The device called name, or NULL and the call is answered. */
static struct blk_device *find_device(struct blk_app *app, struct rpc_call *call, const char *name)
{
	const char *names[256] = { NULL };
	struct blk_device *dev;
	size_t cnt = 0;

	dev = blk_app_find(app, name);
	if (dev && !dev->leaving)
		return dev;
	if (dev) {
		rpc_fail(call, RPC_FAILED, "%s: is being removed", name);
		return NULL;
	}
	for (dev = app->devices; dev && cnt < ARRAY_SIZE(names) - 1; dev = dev->next)
		names[cnt++] = dev->name;
	app_unknown_name(call, "device", name, names);
	return NULL;
}

struct name_params {
	const char *name;
	uint64_t size;
};

static json_t *device_status(struct blk_device *dev)
{
	/* Its parts are going away: only the name is certain. */
	if (dev->leaving)
		return json_pack("{s:s, s:b}", "name", dev->name, "leaving", 1);
	return vblk_status(dev->blk);
}

static void status(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ "name", OPT_STRING, .offset = offsetof(struct name_params, name) },
		{ NULL },
	};
	struct name_params p = { NULL };
	struct blk_device *only = NULL;
	struct blk_app *app = blk_app(opaque);
	json_t *devices, *answer;

	if (!app_params(call, "status", params, keys, &p))
		return;
	if (p.name) {
		only = find_device(app, call, p.name);
		if (!only)
			return;
	}
	devices = json_array();
	for (struct blk_device *dev = app->devices; dev; dev = dev->next) {
		if (!only || dev == only)
			json_array_append_new(devices, device_status(dev));
	}
	answer = app_status(opaque);
	json_object_set_new(answer, "devices", devices);
	rpc_result(call, answer);
}

static void add(void *opaque, struct rpc_call *call, json_t *params)
{
	struct blk_app *app = blk_app(opaque);
	struct blk_device_opts opts;
	char err[RPC_MSG_LEN];
	struct blk_device *dev;

	blk_device_opts_init(&opts);
	if (json_object_get(params, "fd")) {
		rpc_fail(call, RPC_INVALID_PARAMS,
			 "add: fd: expected socket=, descriptors are for the command line");
		return;
	}
	if (!app_params(call, "add", params, blk_device_keys, &opts))
		return;
	if (blk_device_opts_check("add", &opts, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
	if (blk_app_add(app, &opts, &dev, err) < 0) {
		log_limited(LOG_LEVEL_WARNING, "add: %s", err);
		rpc_fail(call, RPC_FAILED, "%s", err);
		return;
	}
	log_info("%s: added", dev->name);
	rpc_result(call, json_pack("{s:s}", "name", dev->name));
}

static void remove_device(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ "name", OPT_STRING, .required = true,
		  .offset = offsetof(struct name_params, name), .help = "the device to remove" },
		{ NULL },
	};
	struct name_params p = { NULL };
	struct blk_device *dev;

	if (!app_params(call, "remove", params, keys, &p))
		return;
	dev = find_device(blk_app(opaque), call, p.name);
	if (dev)
		blk_app_remove(dev, call);
}

static void resize(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ "name", OPT_STRING, .required = true,
		  .offset = offsetof(struct name_params, name), .help = "the device to resize" },
		{ "size", OPT_SIZE, .offset = offsetof(struct name_params, size), .min = 512 },
		{ NULL },
	};
	struct name_params p = { NULL };
	struct blk_device *dev;
	char err[RPC_MSG_LEN];
	json_t *after;

	if (!app_params(call, "resize", params, keys, &p))
		return;
	dev = find_device(blk_app(opaque), call, p.name);
	if (!dev)
		return;
	if (vblk_resize(dev->blk, p.size, err) < 0) {
		rpc_fail(call, RPC_FAILED, "%s", err);
		return;
	}
	after = vblk_status(dev->blk);
	rpc_result(call, json_pack("{s:s, s:O*}", "name", dev->name, "capacity",
				   json_object_get(after, "capacity")));
	json_decref(after);
}

const struct rpc_method blk_rpc_methods[] = {
	{ "version", app_rpc_version }, { "status", status }, { "add", add },
	{ "remove", remove_device },	{ "resize", resize }, { NULL },
};
