/*
 * The methods of ringbolt-blk's control socket: version, status, add, remove,
 * resize. Keys are those of the command line. Called by core/rpc on the control
 * thread; a method never waits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/blk_app.h"
#include "core/base.h"
#include "core/log.h"

static_assert(RPC_MSG_LEN >= OPTS_ERR_LEN && RPC_MSG_LEN >= VBLK_ERR_LEN, "sentences fit");

/*
 * One parameter, which may be a JSON string or the JSON type that is natural
 * for it. Strings of the target point into value.
 */
static int parse_param(const char *method, const struct opt_desc *desc, json_t *value, void *target,
		       char *err)
{
	const char *text = json_string_value(value);
	char *dumped = NULL;
	int res;

	if (json_is_boolean(value))
		text = json_is_true(value) ? "on" : "off";
	if (!text && desc->type == OPT_STRING) {
		snprintf(err, OPTS_ERR_LEN, "%s: %s: expected a string", method, desc->key);
		return -EINVAL;
	}
	if (!text)
		text = dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	if (!text) {
		snprintf(err, OPTS_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	/* No string is parsed from dumped: nothing points into it afterwards. */
	res = opts_parse_value(method, text, desc, target, err);
	free(dumped);
	return res;
}

/* params (NULL: none) into target as table says, like opts_parse(). */
static int parse_params(const char *method, json_t *params, const struct opt_desc *table,
			void *target, char *err)
{
	uint64_t seen = 0;
	const char *key;
	json_t *value;
	int i, res;

	json_object_foreach(params, key, value)
	{
		i = opts_find(method, key, table, err);
		if (i < 0)
			return i;
		seen |= 1ull << i;
		res = parse_param(method, &table[i], value, (char *)target + table[i].offset, err);
		if (res < 0)
			return res;
	}
	return opts_check_required(method, table, seen, err);
}

/* The device called name, or NULL and the call is answered. */
static struct blk_device *find_device(struct blk_app *app, struct rpc_call *call, const char *name)
{
	const char *names[256] = { NULL };
	struct blk_device *dev;
	const char *near;
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
	near = opts_nearest(name, names);
	rpc_fail(call, RPC_FAILED, "no device '%.100s'%s%s%s", name, near ? "; did you mean '" : "",
		 near ? near : "", near ? "'?" : "");
	return NULL;
}

struct name_params {
	const char *name;
	uint64_t size;
};

static const struct opt_desc no_keys[] = { { NULL } };

static void version(void *opaque, struct rpc_call *call, json_t *params)
{
	char err[OPTS_ERR_LEN];

	if (parse_params("version", params, no_keys, NULL, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
	rpc_result(call,
		   json_pack("{s:s, s:s}", "program", "ringbolt-blk", "version", RINGBOLT_VERSION));
}

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
	struct blk_app *app = opaque;
	json_t *devices, *loops;
	char err[OPTS_ERR_LEN];

	if (parse_params("status", params, keys, &p, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
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
	loops = json_array();
	for (unsigned int i = 0; i < app->nr_loops; i++)
		json_array_append_new(loops, loop_status(app->loops[i]));
	rpc_result(call, json_pack("{s:s, s:s, s:i, s:o, s:o}", "program", "ringbolt-blk",
				   "version", RINGBOLT_VERSION, "pid", (int)getpid(), "devices",
				   devices, "loops", loops));
}

static void add(void *opaque, struct rpc_call *call, json_t *params)
{
	struct blk_app *app = opaque;
	struct blk_device_opts opts;
	char err[RPC_MSG_LEN];
	struct blk_device *dev;

	blk_device_opts_init(&opts);
	if (json_object_get(params, "fd")) {
		rpc_fail(call, RPC_INVALID_PARAMS,
			 "add: fd: expected socket=, descriptors are for the command line");
		return;
	}
	if (parse_params("add", params, blk_device_keys, &opts, err) < 0 ||
	    blk_device_opts_check("add", &opts, err) < 0) {
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
	char err[OPTS_ERR_LEN];

	if (parse_params("remove", params, keys, &p, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
	dev = find_device(opaque, call, p.name);
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

	if (parse_params("resize", params, keys, &p, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
	dev = find_device(opaque, call, p.name);
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
	{ "version", version },	     { "status", status }, { "add", add },
	{ "remove", remove_device }, { "resize", resize }, { NULL },
};
