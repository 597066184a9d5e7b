/*
 * Devices on loops with threads of their own: no completion is slept through,
 * in any mode, on disk and on tmpfs, alone and several on one loop.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/evloop.h"
#include "core/log.h"
#include "tests/frontend/blkdrv.h"
#include "vhost/vhost.h"
#include "virtio-blk/vblk.h"

#define SIZE (8u << 20)
#define NR_DEVICES 3

struct device {
	struct vblk *blk;
	struct blk drv;
	char image[96], store[112], socket[112];
};

struct house {
	struct evloop *ev;
	struct loop *loop;
	struct device dev[NR_DEVICES];
	int nr_gone;
};

static void pump(void *opaque)
{
	evloop_run_once(((struct house *)opaque)->ev, 0);
}

/* What the rings' devices have in common. */
struct kind {
	const char *dir;
	bool fixed, sqpoll;
};

static void add_device(struct house *h, struct device *d, const struct kind *kind, bool packed)
{
	struct vblk_conf conf;
	char err[VBLK_ERR_LEN];
	const struct blk_conf drv = { .path = d->socket,
				      .queues = 1,
				      .queue_size = 64,
				      .packed = packed,
				      .event_idx = true,
				      .pump = pump,
				      .pump_opaque = h };
	int fd;

	snprintf(d->image, sizeof(d->image), "%s/ringbolt-thread-XXXXXX", kind->dir);
	fd = mkstemp(d->image);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	/* Not a hole: reads go to the disk. */
	for (uint32_t i = 0; i < SIZE; i += 4096)
		assert_int_equal(pwrite(fd, &i, sizeof(i), i), sizeof(i));
	assert_int_equal(fdatasync(fd), 0);
	close(fd);
	snprintf(d->store, sizeof(d->store), "uring:%s", d->image);
	snprintf(d->socket, sizeof(d->socket), "%s.sock", d->image);
	vblk_conf_init(&conf);
	conf.socket = d->socket;
	conf.store = d->store;
	conf.fixed_buffers = kind->fixed;
	conf.sqpoll = kind->sqpoll;
	conf.ev = h->ev;
	conf.loops = &h->loop;
	conf.nr_loops = 1;
	assert_int_equal(vblk_create(&conf, &d->blk, err), 0);
	assert_int_equal(blk_open(&d->drv, &drv), 0);
}

static void count_gone(void *opaque)
{
	((struct house *)opaque)->nr_gone++;
}

static void house_open(struct house *h, enum loop_mode mode, const struct kind *kind)
{
	struct loop_conf lc = { .mode = mode, .cpu = -1 };

	memset(h, 0, sizeof(*h));
	log_set_level(LOG_LEVEL_ERROR);
	h->ev = evloop_create();
	assert_non_null(h->ev);
	lc.ev = h->ev;
	assert_int_equal(loop_create(&lc, &h->loop), 0);
	for (int i = 0; i < NR_DEVICES; i++)
		add_device(h, &h->dev[i], kind, i & 1);
}

static void house_close(struct house *h)
{
	for (int i = 0; i < NR_DEVICES; i++) {
		assert_int_equal(blk_close(&h->dev[i].drv), 0);
		vblk_destroy(h->dev[i].blk, count_gone, h);
	}
	while (h->nr_gone < NR_DEVICES)
		evloop_run_once(h->ev, 100);
	loop_destroy(h->loop);
	evloop_destroy(h->ev);
	for (int i = 0; i < NR_DEVICES; i++)
		unlink(h->dev[i].image);
}

/* One request at a time, then as many as fit, on all devices. */
static void check_reads(struct house *h)
{
	static uint8_t in[NR_DEVICES][16][4096];
	struct blk_req req[NR_DEVICES][16];
	uint32_t seed = 1;

	for (int d = 0; d < NR_DEVICES; d++)
		for (int i = 0; i < 16; i++)
			assert_int_equal(blk_req_init(&req[d][i], &h->dev[d].drv,
						      h->dev[d].drv.region, 4096),
					 0);
	for (int round = 0; round < 150; round++) {
		int nr = round % 3 ? 1 : 16, left = nr * NR_DEVICES, err;

		for (int d = 0; d < NR_DEVICES; d++) {
			for (int i = 0; i < nr; i++) {
				struct blk_req *r = &req[d][i];

				r->type = VIRTIO_BLK_T_IN;
				r->sector = fe_random(&seed) % (SIZE / 4096) * 8;
				r->in = in[d][i];
				r->in_len = 4096;
				assert_int_equal(blk_submit(r), 0);
			}
		}
		for (; left; left--) {
			int d = (left - 1) / nr;
			struct blk_req *r = blk_reap(&h->dev[d].drv, 0, true, &err);
			uint32_t where;

			assert_int_equal(err, 0);
			assert_int_equal(r->status, VIRTIO_BLK_S_OK);
			memcpy(&where, r->in, sizeof(where));
			assert_int_equal(where, r->sector * 512);
		}
		/* Long enough to fall asleep, now and then. */
		if (round % 10 == 0)
			usleep(300);
	}
}

static void run(enum loop_mode mode, struct kind kind)
{
	struct house h;

	house_open(&h, mode, &kind);
	check_reads(&h);
	house_close(&h);
}

static void a_sleeping_loop_is_woken_by_the_disk(void **state)
{
	run(LOOP_INTERRUPT, (struct kind){ "/var/tmp" });
	run(LOOP_INTERRUPT, (struct kind){ "/dev/shm" });
}

static void an_adaptive_loop_misses_nothing(void **state)
{
	run(LOOP_ADAPTIVE, (struct kind){ "/var/tmp" });
	run(LOOP_ADAPTIVE, (struct kind){ "/dev/shm" });
}

static void a_busy_loop_misses_nothing(void **state)
{
	run(LOOP_BUSY, (struct kind){ "/var/tmp" });
}

static void memory_is_registered_beside_running_requests(void **state)
{
	run(LOOP_INTERRUPT, (struct kind){ "/var/tmp", .fixed = true });
	run(LOOP_ADAPTIVE, (struct kind){ "/var/tmp", .fixed = true });
}

static void a_kernel_thread_that_submits_is_woken_and_wakes(void **state)
{
	run(LOOP_INTERRUPT, (struct kind){ "/var/tmp", .sqpoll = true });
	run(LOOP_ADAPTIVE, (struct kind){ "/dev/shm", .sqpoll = true });
}

/* Writes to all of the disk, of which most are in flight at any time. */
static void write_anywhere(struct device *d, struct blk_req *reqs, unsigned int nr, uint32_t *seed)
{
	static uint8_t out[4096];
	struct blk_req *r;
	int err;

	while ((r = blk_reap(&d->drv, 0, false, &err)))
		r->done = true;
	for (unsigned int i = 0; i < nr; i++) {
		r = &reqs[i];
		if (!r->done)
			continue;
		r->type = VIRTIO_BLK_T_OUT;
		r->sector = fe_random(seed) % (SIZE / 4096) * 8;
		r->out = out;
		r->out_len = sizeof(out);
		assert_int_equal(blk_submit(r), 0);
	}
}

static void shrinking_under_load_ends_at_the_size_that_was_asked_for(void **state)
{
	struct house h;
	struct device *d = &h.dev[0];
	struct blk_req req[16];
	char err[VBLK_ERR_LEN];
	uint32_t seed = 3;
	struct stat st;

	house_open(&h, LOOP_ADAPTIVE, &(struct kind){ "/var/tmp" });
	for (size_t i = 0; i < ARRAY_SIZE(req); i++) {
		assert_int_equal(blk_req_init(&req[i], &d->drv, d->drv.region, 4096), 0);
		req[i].done = true;
	}
	for (int round = 0; round < 60; round++) {
		uint64_t size = SIZE / 2 + round * 4096;

		assert_int_equal(vblk_resize(d->blk, SIZE, err), 0);
		for (int i = 0; i < 20; i++)
			write_anywhere(d, req, ARRAY_SIZE(req), &seed);
		assert_int_equal(vblk_resize(d->blk, size, err), 0);
		while (d->drv.ring[0].inflight)
			assert_non_null(blk_reap(&d->drv, 0, true, &(int){ 0 }));
		/* What the last one that ended had to be told. */
		for (int i = 0; i < 10; i++)
			pump(&h);
		assert_int_equal(stat(d->image, &st), 0);
		assert_int_equal(st.st_size, size);
	}
	house_close(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sleeping_loop_is_woken_by_the_disk),
		cmocka_unit_test(an_adaptive_loop_misses_nothing),
		cmocka_unit_test(a_busy_loop_misses_nothing),
		cmocka_unit_test(memory_is_registered_beside_running_requests),
		cmocka_unit_test(a_kernel_thread_that_submits_is_woken_and_wakes),
		cmocka_unit_test(shrinking_under_load_ends_at_the_size_that_was_asked_for),
	};

	return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
