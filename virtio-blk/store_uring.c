/*
 * "uring:PATH": a file or block device through io_uring. Opening and what can
 * be wrong with it, size, alignment, locks, channels, status. Used through
 * store.h on the control thread; the data path is in uring_io.c. It never
 * creates a file and never interprets one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "virtio-blk/image.h"
#include "virtio-blk/lock.h"
#include "virtio-blk/uring.h"

/* --- size ------------------------------------------------------------------------------ */

/*
 * Loops check requests against the size, and writes under way make a file longer
 * that was cut. So what is to go is refused first, and cut off second; and a write
 * that ends behind the end has it cut off again (file_overshot()): it either sees
 * the new size when it has ended, or ended before the file was cut. Pairs with
 * read_once() in check_overshoot().
 */
static void publish_size(struct store *store, uint64_t size)
{
	__atomic_exchange_n(&store->info.size, size, __ATOMIC_SEQ_CST);
}

static int set_size(struct uring_store *u, uint64_t size, char *err)
{
	struct store *store = &u->store;
	uint64_t before = store->info.size;

	if (size < before)
		publish_size(store, size);
	if (ftruncate(u->fd, (off_t)size) < 0) {
		int ret = -errno;

		publish_size(store, before);
		return store_fail(err, ret, "'%s' cannot be resized: %s", u->path, strerror(-ret));
	}
	publish_size(store, size);
	return 0;
}

static int file_resize(struct store *store, uint64_t size, char *err)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	int ret;

	if (size)
		return set_size(u, size, err);
	ret = image_size(u->fd, u->path, store->info.block_size, &size, err);
	if (ret < 0)
		return ret;
	publish_size(store, size);
	return 0;
}

static void cut_run(struct ev_work *w)
{
	struct uring_store *u = container_of(w, struct uring_store, cut);
	struct stat st;

	/* It may be posted again: pairs with the exchange in file_overshot(). */
	store_release(&u->cut_posted, false);
	if (fstat(u->fd, &st) < 0 || (uint64_t)st.st_size <= u->store.info.size)
		return;
	if (ftruncate(u->fd, (off_t)u->store.info.size) < 0)
		log_warn("'%s': cannot be cut to its size again: %s", u->path, strerror(errno));
}

static void file_overshot(struct store *store)
{
	struct uring_store *u = container_of(store, struct uring_store, store);

	/* The store is not closed before what a ring's loop posted has run. */
	if (!u->is_block && !__atomic_exchange_n(&u->cut_posted, true, __ATOMIC_SEQ_CST))
		ev_post(u->ev, &u->cut);
}

/* --- open and close -------------------------------------------------------------- */

static int take_lock(struct uring_store *u, const struct store_conf *conf, char *err)
{
	int ret;

	/* Both ends of a migration have the image open; who runs holds the lock. */
	u->lock_on_start = conf->lock == STORE_LOCK_START;
	if (conf->lock != STORE_LOCK_OPEN)
		return 0;
	ret = image_lock_soon(u->fd, !u->read_only);
	if (ret == -EBUSY)
		return store_fail(err, ret, "'%s' is locked: another process uses it%s", u->path,
				  u->read_only ? " and may write to it" : "");
	if (ret < 0)
		return store_fail(err, ret, "'%s' cannot be locked: %s (lock=off goes without)",
				  u->path, strerror(-ret));
	return 0;
}

static int set_engine(struct uring_store *u, const struct store_conf *conf, char *err)
{
	int ret = uring_available();

	if (ret < 0)
		return store_fail(
			err, ret,
			"'%s': io_uring cannot be used here: %s (see kernel.io_uring_disabled)",
			u->path, strerror(-ret));
	u->kind = (conf->iopoll ? URING_IOPOLL : 0) | (conf->sqpoll ? URING_SQPOLL : 0);
	if (conf->iopoll && !u->direct)
		return store_fail(
			err, -EINVAL,
			"'%s': iopoll=on needs O_DIRECT: cache=none or directsync, and a file "
			"system that has it",
			u->path);
	if (conf->iopoll) {
		ret = uring_probe_iopoll(u->fd, u->store.info.block_size);
		if (ret < 0)
			return store_fail(err, ret, "'%s': iopoll=on cannot be used with it: %s",
					  u->path, strerror(-ret));
	}
	return 0;
}

static void describe(struct uring_store *u, const struct store_conf *conf, const struct image *im)
{
	u->is_block = im->is_block;
	u->direct = im->direct;
	u->mem_mask = im->direct ? im->mem_align - 1 : 0;
	u->len_mask = im->direct ? im->len_align - 1 : 0;
	u->in_memory = im->in_memory;
	u->no_sync = conf->cache == STORE_CACHE_UNSAFE || im->in_memory;
	u->fixed = conf->fixed_buffers;
	u->no_punch = !im->is_block && !im->can_discard;
	u->store.info = (struct store_info){
		.size = im->size,
		.block_size = im->block_size,
		.physical_block_size = im->physical_block_size,
		.opt_io_size = im->opt_io_size,
		.discard_granularity = im->discard_granularity,
		.range_max_len = 1u << 31,
		.range_max_nr = 64,
		.write_through = conf->cache == STORE_CACHE_WRITETHROUGH ||
				 conf->cache == STORE_CACHE_DIRECTSYNC,
	};
	if (!im->is_block)
		u->store.info.caps |= STORE_CAN_RESIZE;
	if (conf->read_only) {
		u->store.info.caps = 0;
		return;
	}
	u->store.info.caps |= STORE_CAN_WRITE | STORE_CAN_WRITE_ZEROES;
	if (im->can_discard)
		u->store.info.caps |= STORE_CAN_DISCARD;
	if (im->can_secure_erase)
		u->store.info.caps |= STORE_CAN_SECURE_ERASE;
}

static int file_open(const struct store_conf *conf, const char *arg, struct store **store,
		     char *err)
{
	struct uring_store *u = calloc(1, sizeof(*u));
	struct image im;
	int ret;

	if (!u)
		return store_fail(err, -ENOMEM, "'%s': out of memory", arg);
	u->fd = -1;
	u->ev = conf->ev;
	u->cut.run = cut_run;
	u->read_only = conf->read_only;
	u->path = strdup(arg);
	if (!u->path) {
		ret = store_fail(err, -ENOMEM, "'%s': out of memory", arg);
		goto err_free;
	}
	ret = image_open(conf, arg, &im, err);
	if (ret < 0)
		goto err_free;
	u->fd = im.fd;
	/* Locked before anything that writes, such as trying to punch a hole. */
	ret = take_lock(u, conf, err);
	if (ret < 0)
		goto err_close;
	image_probe(&im, conf->read_only);
	describe(u, conf, &im);
	ret = set_engine(u, conf, err);
	if (ret < 0)
		goto err_close;
	/* Last: of what cannot be opened there is one line. */
	if (conf->cache == STORE_CACHE_AUTO && !u->direct)
		log_info("'%s' does not take O_DIRECT, goes through the page cache", u->path);
	*store = &u->store;
	return 0;

err_close:
	fd_replace(&u->fd, -1);
err_free:
	free(u->path);
	free(u);
	return ret;
}

static void close_if_idle(struct uring_store *u)
{
	if (u->closing)
		return;
	/* The engine may hold the open file for a while yet: up to a second from
	 * Linux 5.12 to 6.2. */
	image_unlock(u->fd);
	fd_replace(&u->fd, -1);
	free(u->path);
	store_closed(&u->store);
}

/* The engine of an attachment has gone, or has other users. */
static void engine_put(void *opaque)
{
	struct uring_store *u = opaque;

	u->closing--;
	close_if_idle(u);
}

static void detached(struct ev_work *w)
{
	struct uring_attach *at = container_of(w, struct uring_attach, del_done);
	struct uring_store *u = at->st;
	struct uring *engine = at->u;

	if (at->want_slot >= 0)
		engine->file_used[at->want_slot] = false;
	free(at);
	uring_put(engine, engine_put, u);
}

static void detach_run(struct loop_work *w)
{
	struct uring_attach *at = container_of(w, struct uring_attach, del);
	int none = -1;

	if (at->slot >= 0)
		io_uring_register_files_update(&at->u->ring, (unsigned int)at->slot, &none, 1);
	ev_post(at->u->ev, &at->del_done);
}

void uring_attach_idle(struct uring_attach *at)
{
	if (at->detaching)
		loop_post(at->u->loop, &at->del);
}

static void file_close(struct store *store)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	struct uring_attach *next;

	/* One for this function, so that the last attachment does not free u. */
	u->closing = 1;
	for (struct uring_attach *at = u->attached; at; at = next) {
		next = at->next;
		u->closing++;
		for (unsigned int i = 0; i < u->nr_regions; i++)
			uring_mem_remove(at, u->region[i]);
		at->detaching = true;
		if (!at->known)
			uring_attach_idle(at);
	}
	for (unsigned int i = 0; i < u->nr_regions; i++)
		gmem_region_put(u->region[i]);
	u->attached = NULL;
	engine_put(u);
}

/* --- attachments and channels ------------------------------------------------------ */

static void attach_run(struct loop_work *w)
{
	struct uring_attach *at = container_of(w, struct uring_attach, add);
	int ret;

	if (at->want_slot < 0)
		return;
	ret = io_uring_register_files_update(&at->u->ring, (unsigned int)at->want_slot, &at->st->fd,
					     1);
	if (ret == 1)
		at->slot = at->want_slot;
	else
		log_info("%s: used without a registered file: %s", at->st->path, strerror(-ret));
}

static int free_slot(const struct uring *engine)
{
	for (unsigned int i = 0; i < engine->nr_files; i++)
		if (!engine->file_used[i])
			return (int)i;
	return -1;
}

static int attach(struct uring_store *u, struct loop *loop, unsigned int kind,
		  struct uring_attach **out)
{
	struct uring_attach *at = u->attached;
	bool needs_worker =
		u->is_block && u->store.info.caps & (STORE_CAN_DISCARD | STORE_CAN_SECURE_ERASE);
	int ret;

	while (at && (at->u->loop != loop || at->u->kind != kind))
		at = at->next;
	*out = at;
	if (at)
		return 0;
	at = calloc(1, sizeof(*at));
	if (!at)
		return -ENOMEM;
	ret = uring_get(loop, u->ev, kind, &at->u);
	if (ret < 0) {
		free(at);
		return ret;
	}
	at->st = u;
	at->slot = -1;
	at->want_slot = free_slot(at->u);
	at->add.run = attach_run;
	at->del.run = detach_run;
	at->del_done.run = detached;
	at->next = u->attached;
	u->attached = at;
	if (at->want_slot >= 0)
		at->u->file_used[at->want_slot] = true;
	loop_post(loop, &at->add);
	if (u->fixed && kind == u->kind)
		for (unsigned int i = 0; i < u->nr_regions; i++)
			uring_mem_add(at, u->region[i]);
	*out = at;
	/* What was made stays: it goes when the store is closed. */
	return needs_worker ? uring_want_worker(at->u) : 0;
}

static int file_chan_open(struct store *store, struct loop *loop, uint32_t depth,
			  struct store_chan **chan)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	struct uring_chan *c = calloc(1, sizeof(*c));
	struct uring_attach *ordinary;
	int ret;

	if (!c)
		return -ENOMEM;
	c->chan.store = store;
	c->st = u;
	ret = attach(u, loop, u->kind, &c->data);
	if (!ret)
		ret = attach(u, loop, u->kind & ~URING_IOPOLL, &ordinary);
	/* Of another ring's, the loop may be reading it. */
	if (!ret && c->data->ordinary != ordinary)
		c->data->ordinary = ordinary;
	if (ret < 0) {
		free(c);
		return ret;
	}
	uring_io_chan_init(c);
	*chan = &c->chan;
	return 0;
}

static void file_chan_close(struct store_chan *chan)
{
	struct uring_chan *c = container_of(chan, struct uring_chan, chan);

	assert(!c->jobs);
	free(c);
}

/* --- guest memory --------------------------------------------------------------------- */

static void file_mem_added(struct store *store, struct gmem_region *r)
{
	struct uring_store *u = container_of(store, struct uring_store, store);

	if (!u->fixed || u->nr_regions == ARRAY_SIZE(u->region))
		return;
	u->region[u->nr_regions++] = gmem_region_get(r);
	for (struct uring_attach *at = u->attached; at; at = at->next)
		if (at->u->kind == u->kind)
			uring_mem_add(at, r);
}

static void file_mem_removed(struct store *store, struct gmem_region *r)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	unsigned int i = 0;

	while (i < u->nr_regions && u->region[i] != r)
		i++;
	if (i == u->nr_regions)
		return;
	u->region[i] = u->region[--u->nr_regions];
	for (struct uring_attach *at = u->attached; at; at = at->next)
		uring_mem_remove(at, r);
	gmem_region_put(r);
}

/* --- the rest -------------------------------------------------------------------------- */

static int file_sync(struct store *store)
{
	struct uring_store *u = container_of(store, struct uring_store, store);

	if (u->no_sync || u->read_only)
		return 0;
	return fdatasync(u->fd) < 0 ? -errno : 0;
}

static int file_activate(struct store *store)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	int ret = u->lock_on_start ? image_lock_soon(u->fd, !u->read_only) : 0;

	if (ret < 0)
		log_err("'%s' is locked: another process uses it", u->path);
	return ret;
}

static void file_deactivate(struct store *store)
{
	struct uring_store *u = container_of(store, struct uring_store, store);

	if (u->lock_on_start)
		image_unlock(u->fd);
}

static void file_status(struct store *store, json_t *into)
{
	struct uring_store *u = container_of(store, struct uring_store, store);
	uint64_t bytes = 0;
	int error = 0;

	for (const struct uring_attach *at = u->attached; at; at = at->next) {
		bytes += read_once(&at->fixed_bytes);
		if (read_once(&at->fixed_error))
			error = read_once(&at->fixed_error);
	}
	json_object_set_new(into, "direct", json_boolean(u->direct));
	json_object_set_new(into, "iopoll",
			    json_boolean(u->kind & URING_IOPOLL && !read_once(&u->no_iopoll)));
	json_object_set_new(into, "sqpoll", json_boolean(u->kind & URING_SQPOLL));
	json_object_set_new(into, "fixed-buffers", json_boolean(u->fixed));
	json_object_set_new(into, "fixed-buffer-bytes", json_integer((json_int_t)bytes));
	json_object_set_new(into, "fixed-buffer-error",
			    error ? json_string(strerror(-error)) : json_null());
}

const struct store_ops store_uring = {
	.scheme = "uring",
	.open = file_open,
	.close = file_close,
	.chan_open = file_chan_open,
	.chan_close = file_chan_close,
	.submit = uring_io_submit,
	.sync = file_sync,
	.resize = file_resize,
	.overshot = file_overshot,
	.mem_added = file_mem_added,
	.mem_removed = file_mem_removed,
	.activate = file_activate,
	.deactivate = file_deactivate,
	.status = file_status,
};
