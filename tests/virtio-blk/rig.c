/*
 * See rig.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"

/* Turns before a request is given up. Only a hang takes as many: a turn waits a
 * little if nothing happened, but not one that polls a slow disk. */
#define TURNS_MAX 20000000

void rig_init(struct rig *r)
{
	struct loop_conf lc = { .mode = LOOP_BUSY, .cpu = -1, .manual = true };

	memset(r, 0, sizeof(*r));
	log_set_level(LOG_LEVEL_ERROR);
	r->ev = evloop_create();
	assert_non_null(r->ev);
	lc.ev = r->ev;
	assert_int_equal(loop_create(&lc, &r->loop), 0);
	r->conf = (struct store_conf){ .cache = STORE_CACHE_AUTO, .ev = r->ev };
}

void rig_turn(struct rig *r)
{
	if (!loop_turn(r->loop))
		usleep(50);
	evloop_run_once(r->ev, 0);
}

void rig_fini(struct rig *r)
{
	rig_close(r);
	loop_destroy(r->loop);
	evloop_destroy(r->ev);
	if (*r->path)
		unlink(r->path);
}

void rig_file(struct rig *r, const char *dir, uint64_t size)
{
	int fd;

	if (*r->path)
		unlink(r->path);
	snprintf(r->path, sizeof(r->path), "%s/ringbolt-store-XXXXXX", dir);
	fd = mkstemp(r->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	snprintf(r->spec, sizeof(r->spec), "uring:%s", r->path);
	r->conf.spec = r->spec;
}

void rig_open(struct rig *r)
{
	int ret = store_open(&r->conf, &r->store, r->err);

	if (ret < 0)
		print_error("%s\n", r->err);
	assert_int_equal(ret, 0);
	assert_int_equal(r->store->ops->chan_open(r->store, r->loop, 64, &r->chan), 0);
}

int rig_open_fails(struct rig *r)
{
	struct store *store;
	int ret = store_open(&r->conf, &store, r->err);

	assert_true(ret < 0);
	assert_true(strlen(r->err) > 0);
	return ret;
}

static void set_flag(void *opaque)
{
	*(bool *)opaque = true;
}

void rig_close(struct rig *r)
{
	bool closed = false;

	if (!r->store)
		return;
	if (r->chan)
		r->store->ops->chan_close(r->chan);
	store_close(r->store, set_flag, &closed);
	for (int i = 0; !closed && i < TURNS_MAX; i++)
		rig_turn(r);
	assert_true(closed);
	r->store = NULL;
	r->chan = NULL;
}

static void ended(struct store_req *io, int res)
{
	struct rig_req *q = container_of(io, struct rig_req, io);

	assert_false(q->ended);
	/* A store puts right what it changed, before anybody looks at it: the dirty
	 * log is made from it. */
	assert_memory_equal(q->before, q->iov, sizeof(q->before));
	q->ended = true;
	q->res = res;
}

void rig_start(struct rig *r, struct rig_req *q)
{
	int ret;

	q->io.done = ended;
	memcpy(q->before, q->iov, sizeof(q->before));
	q->ended = false;
	ret = r->store->ops->submit(r->chan, &q->io);
	if (ret != STORE_QUEUED) {
		q->ended = true;
		q->res = ret;
	}
}

int rig_do(struct rig *r, struct rig_req *q)
{
	rig_start(r, q);
	for (int i = 0; !q->ended && i < TURNS_MAX; i++)
		rig_turn(r);
	assert_true(q->ended);
	return q->res;
}

int rig_io(struct rig *r, enum store_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct rig_req q = {
		.io = { .op = (uint8_t)op, .offset = offset, .len = len, .nr_iov = 1 }
	};

	q.iov[0] = (struct iovec){ buf, len };
	q.io.iov = q.iov;
	return rig_do(r, &q);
}

int rig_range(struct rig *r, enum store_op op, uint8_t flags, uint64_t offset, uint64_t len)
{
	struct rig_req q = {
		.io = { .op = (uint8_t)op, .flags = flags, .offset = offset, .len = len },
	};

	return rig_do(r, &q);
}

uint64_t rig_allocated(const struct rig *r)
{
	struct stat st;

	assert_int_equal(stat(r->path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

uint8_t *rig_pattern(size_t len, uint32_t seed)
{
	uint8_t *p = aligned_alloc(4096, round_up(len, 4096));

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
	return p;
}
