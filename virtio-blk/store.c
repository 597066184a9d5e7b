/*
 * Opening, closing and resizing stores by their scheme ("uring:", "null:",
 * "mem:"), and what their types share. Called by vblk.c on the control thread.
 * It never looks at an image's contents: what a guest can write decides nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/opts.h"
#include "virtio-blk/vblk.h"

static const struct store_ops *const types[] = { &store_uring, &store_null, &store_mem };

const char *const vblk_cache_names[] = { "none",       "writeback", "writethrough",
					 "directsync", "unsafe",    "auto",
					 NULL };
static_assert(ARRAY_SIZE(vblk_cache_names) == STORE_CACHE_CNT + 1, "a name for every cache mode");

const char *const vblk_lock_names[] = { "open", "start", "off", NULL };
static_assert(ARRAY_SIZE(vblk_lock_names) == STORE_LOCK_CNT + 1, "a name for every lock mode");

int store_fail(char *err, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, STORE_ERR_LEN, fmt, ap);
	va_end(ap);
	return error;
}

int store_parse_size(const char *spec, const char *arg, uint32_t block_size, uint64_t *size,
		     char *err)
{
	/* Offsets are off_t in the kernel, and must have room for a request more. */
	const struct opt_desc desc = {
		.key = "size", .type = OPT_SIZE, .min = block_size, .max = 1ull << 62
	};
	char msg[OPTS_ERR_LEN];

	if (opts_parse_value("store", arg, &desc, size, msg) < 0)
		return store_fail(err, -EINVAL, "store '%s': %s", spec, msg);
	if (*size % block_size)
		return store_fail(
			err, -EINVAL,
			"store '%s': %llu bytes is not a multiple of the %u-byte block size", spec,
			(unsigned long long)*size, block_size);
	return 0;
}

static const struct store_ops *find_type(const char *spec, const char **arg)
{
	const char *colon = strchr(spec, ':');

	for (size_t i = 0; colon && i < ARRAY_SIZE(types); i++) {
		if (strlen(types[i]->scheme) == (size_t)(colon - spec) &&
		    !strncmp(types[i]->scheme, spec, (size_t)(colon - spec))) {
			*arg = colon + 1;
			return types[i];
		}
	}
	return NULL;
}

/* The option of conf that only a store in a file can follow, or NULL. */
static const char *file_option(const struct store_conf *conf)
{
	if (conf->iopoll)
		return "iopoll";
	if (conf->sqpoll)
		return "sqpoll";
	if (conf->fixed_buffers)
		return "fixed-buffers";
	return conf->lock == STORE_LOCK_START ? "lock=start" : NULL;
}

int store_open(const struct store_conf *conf, struct store **store, char *err)
{
	const struct store_ops *ops;
	const char *arg;
	char *spec;
	int ret;

	if (!conf->spec)
		return store_fail(err, -EINVAL,
				  "no store given, expected uring:PATH, null:SIZE or mem:SIZE");
	if (conf->block_size && conf->block_size != 512 && conf->block_size != 4096)
		return store_fail(err, -EINVAL, "store '%s': block size %u, expected 512 or 4096",
				  conf->spec, conf->block_size);
	ops = find_type(conf->spec, &arg);
	if (!ops)
		return store_fail(err, -EINVAL,
				  "store '%s': expected uring:PATH, null:SIZE or mem:SIZE",
				  conf->spec);
	if (ops->immediate && file_option(conf))
		return store_fail(err, -EINVAL, "store '%s': %s needs uring:PATH", conf->spec,
				  file_option(conf));
	spec = strdup(conf->spec);
	if (!spec)
		return store_fail(err, -ENOMEM, "store '%s': out of memory", conf->spec);
	ret = ops->open(conf, arg, store, err);
	if (ret < 0) {
		free(spec);
		return ret;
	}
	(*store)->ops = ops;
	(*store)->spec = spec;
	return 0;
}

void store_close(struct store *store, void (*closed)(void *opaque), void *opaque)
{
	if (!store) {
		if (closed)
			closed(opaque);
		return;
	}
	store->closed = closed;
	store->opaque = opaque;
	store->ops->close(store);
}

void store_closed(struct store *store)
{
	void (*closed)(void *opaque) = store->closed;
	void *opaque = store->opaque;

	free(store->spec);
	free(store);
	if (closed)
		closed(opaque);
}

int store_resize(struct store *store, uint64_t size, char *err)
{
	if (size && !(store->info.caps & STORE_CAN_RESIZE))
		return store_fail(err, -ENOTSUP, "store '%s': its size cannot be changed from here",
				  store->spec);
	if (size % store->info.block_size)
		return store_fail(
			err, -EINVAL,
			"store '%s': %llu bytes is not a multiple of the %u-byte block size",
			store->spec, (unsigned long long)size, store->info.block_size);
	return store->ops->resize(store, size, err);
}
