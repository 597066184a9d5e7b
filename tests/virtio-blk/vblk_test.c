/*
 * The whole block device behind its socket, driven by a front-end in the same
 * thread: features, configuration space, data in every layout, resizing, going
 * away.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
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

struct house {
	struct evloop *ev;
	struct loop *loop;
	struct vblk_conf conf;
	struct vblk *blk;
	struct blk drv;
	struct blk_conf drv_conf;
	char dir[64], socket[96], image[96], store[128], err[VBLK_ERR_LEN];
	bool gone;
};

static void pump(void *opaque)
{
	struct house *h = opaque;

	loop_turn(h->loop);
	evloop_run_once(h->ev, 0);
}

static void house_open(struct house *h)
{
	struct loop_conf lc = { .cpu = -1, .manual = true };
	int fd;

	memset(h, 0, sizeof(*h));
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(h->dir, "/tmp/ringbolt-vblk-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	snprintf(h->socket, sizeof(h->socket), "%s/sock", h->dir);
	snprintf(h->image, sizeof(h->image), "%s/image", h->dir);
	snprintf(h->store, sizeof(h->store), "uring:%s", h->image);
	fd = open(h->image, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	h->ev = evloop_create();
	assert_non_null(h->ev);
	lc.ev = h->ev;
	assert_int_equal(loop_create(&lc, &h->loop), 0);
	vblk_conf_init(&h->conf);
	h->conf.name = "vda";
	h->conf.socket = h->socket;
	h->conf.store = h->store;
	h->conf.queues = 2;
	h->conf.serial = "a-serial";
	h->conf.ev = h->ev;
	h->conf.loops = &h->loop;
	h->conf.nr_loops = 1;
	h->drv_conf = (struct blk_conf){
		.path = h->socket, .queues = 2, .queue_size = 64, .pump = pump, .pump_opaque = h
	};
}

static void house_serve(struct house *h)
{
	int ret = vblk_create(&h->conf, &h->blk, h->err);

	if (ret < 0)
		print_error("%s\n", h->err);
	assert_int_equal(ret, 0);
}

static void house_connect(struct house *h)
{
	assert_int_equal(blk_open(&h->drv, &h->drv_conf), 0);
}

static void set_gone(void *opaque)
{
	((struct house *)opaque)->gone = true;
}

static void house_remove_device(struct house *h)
{
	h->gone = false;
	vblk_destroy(h->blk, set_gone, h);
	for (int i = 0; !h->gone && i < 20000; i++) {
		pump(h);
		usleep(10);
	}
	assert_true(h->gone);
	h->blk = NULL;
}

static void house_close(struct house *h)
{
	if (h->blk)
		house_remove_device(h);
	/* Nothing of a device that has gone is left to be found. */
	assert_int_equal(access(h->socket, F_OK), -1);
	loop_destroy(h->loop);
	evloop_destroy(h->ev);
	unlink(h->image);
	assert_int_equal(rmdir(h->dir), 0);
}

static char *status_text(struct house *h, const char *key)
{
	json_t *o = vblk_status(h->blk);
	json_t *value = json_object_get(o, key);
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

	json_decref(o);
	return text;
}

static void assert_status(struct house *h, const char *key, const char *expected)
{
	char *text = status_text(h, key);

	assert_non_null(text);
	assert_string_equal(text, expected);
	free(text);
}

/* --- data --------------------------------------------------------------------------- */

/* Writes, reads and zeroes of random lengths, places and layouts, beside a copy. */
static void check_random(struct house *h, unsigned int nr)
{
	uint8_t *shadow = calloc(1, SIZE), *buf = malloc(65536), *back = malloc(65536);
	struct blk_req req;
	uint32_t seed = 42;

	assert_int_equal(blk_req_init(&req, &h->drv, h->drv.region, 65536), 0);
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t len = (1 + fe_random(&seed) % 128) * 512;
		uint64_t sector = fe_random(&seed) % ((SIZE - len) / 512);
		unsigned int queue = fe_random(&seed) % 2, what = fe_random(&seed) % 8;
		struct virtio_blk_discard_write_zeroes seg = {
			.sector = sector,
			.num_sectors = len / 512,
			.flags = what & 1 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0,
		};

		req.layout_seed = i % 4 ? fe_random(&seed) : 0;
		if (what < 3) {
			for (uint32_t k = 0; k < len; k++)
				buf[k] = (uint8_t)(fe_random(&seed) >> 7);
			memcpy(shadow + sector * 512, buf, len);
			assert_int_equal(blk_write(&req, queue, sector, buf, len), VIRTIO_BLK_S_OK);
		} else if (what < 5) {
			memset(shadow + sector * 512, 0, len);
			assert_int_equal(blk_range(&req, queue, VIRTIO_BLK_T_WRITE_ZEROES, &seg, 1),
					 VIRTIO_BLK_S_OK);
		} else {
			assert_int_equal(blk_read(&req, queue, sector, back, len), VIRTIO_BLK_S_OK);
			assert_memory_equal(back, shadow + sector * 512, len);
		}
	}
	assert_int_equal(blk_flush(&req, 0), VIRTIO_BLK_S_OK);
	free(shadow);
	free(buf);
	free(back);
}

static void data_survives_on(bool packed, bool indirect, bool fixed, const char *store)
{
	struct house h;

	house_open(&h);
	if (store)
		h.conf.store = store;
	h.conf.fixed_buffers = fixed;
	h.drv_conf.packed = packed;
	h.drv_conf.indirect = indirect;
	h.drv_conf.event_idx = indirect;
	h.drv_conf.in_order = indirect;
	house_serve(&h);
	house_connect(&h);
	check_random(&h, 400);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static void data_survives_on_split_rings(void **state)
{
	data_survives_on(false, false, false, NULL);
	data_survives_on(false, true, false, NULL);
}

static void data_survives_on_packed_rings(void **state)
{
	data_survives_on(true, false, false, NULL);
	data_survives_on(true, true, false, NULL);
}

static void data_survives_in_registered_buffers(void **state)
{
	data_survives_on(false, false, true, NULL);
	data_survives_on(true, true, true, NULL);
}

static void data_survives_in_memory(void **state)
{
	data_survives_on(false, false, false, "mem:8M");
	data_survives_on(true, true, false, "mem:8M");
}

static void many_requests_are_in_flight_at_once(void **state)
{
	static uint8_t buf[4096];
	struct blk_req req[20];
	struct house h;
	int nr = 0, err;

	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		assert_int_equal(blk_req_init(&req[i], &h.drv, h.drv.region, 4096), 0);
		req[i].type = VIRTIO_BLK_T_IN;
		req[i].sector = i * 8;
		req[i].in = buf;
		req[i].in_len = sizeof(buf);
		assert_int_equal(blk_submit(&req[i]), 0);
	}
	while (nr < (int)ARRAY_SIZE(req)) {
		struct blk_req *done = blk_reap(&h.drv, 0, true, &err);

		assert_int_equal(err, 0);
		assert_int_equal(done->status, VIRTIO_BLK_S_OK);
		nr++;
	}
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

/* --- what the driver sees ------------------------------------------------------------- */

static void the_configuration_space_describes_the_disk(void **state)
{
	const struct virtio_blk_config *c;
	char id[BLK_ID_LEN] = "", buf[512];
	struct blk_req req;
	struct house h;

	house_open(&h);
	h.conf.block_size = 4096;
	house_serve(&h);
	house_connect(&h);
	c = &h.drv.config;
	assert_int_equal(c->capacity, SIZE / 512);
	assert_int_equal(c->blk_size, 4096);
	assert_int_equal(c->seg_max, 126);
	assert_true(c->size_max >= 1u << 20);
	assert_int_equal(c->num_queues, 2);
	assert_int_equal(c->wce, 1);
	assert_true(c->max_discard_seg > 1);
	assert_true(c->max_discard_sectors > 0);
	assert_int_equal(c->write_zeroes_may_unmap, 1);
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 4096), 0);
	assert_int_equal(blk_get_id(&req, 0, id), VIRTIO_BLK_S_OK);
	assert_string_equal(id, "a-serial");
	assert_int_equal(blk_read(&req, 0, 1, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

/* Who keeps to the limits of one segment and of their number does not meet the
 * limit of a transfer. */
static void a_disk_in_memory_takes_what_it_says(void **state)
{
	struct blk_req req;
	struct house h;
	uint64_t most;
	uint8_t *buf;

	house_open(&h);
	h.conf.store = "mem:64M";
	h.drv_conf.mem = 256 << 20;
	house_serve(&h);
	house_connect(&h);
	most = (uint64_t)h.drv.config.size_max * h.drv.config.seg_max;
	assert_true(most > 16 << 20 && most <= 32 << 20);
	buf = calloc(1, 64 << 20);
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 64 << 20), 0);
	assert_int_equal(blk_write(&req, 0, 0, buf, (uint32_t)most), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_read(&req, 0, 0, buf, (uint32_t)most), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_read(&req, 0, 0, buf, 64 << 20), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_write(&req, 0, 0, buf, 64 << 20), VIRTIO_BLK_S_IOERR);
	free(buf);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static void a_read_only_disk_says_so(void **state)
{
	struct blk_req req;
	struct house h;
	char buf[512];

	house_open(&h);
	h.conf.read_only = true;
	house_serve(&h);
	house_connect(&h);
	assert_true(fe_has(&h.drv.fe, VIRTIO_BLK_F_RO));
	assert_false(fe_has(&h.drv.fe, VIRTIO_BLK_F_DISCARD));
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 4096), 0);
	assert_int_equal(blk_write(&req, 0, 0, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_read(&req, 0, 0, buf, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static void the_driver_chooses_the_cache_mode(void **state)
{
	uint8_t off = 0, on = 1, wrong = 2;
	struct house h;

	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	assert_status(&h, "write-cache", "\"writeback\"");
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &off, 1, 0), 0);
	assert_status(&h, "write-cache", "\"writethrough\"");
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &on, 1, 0), 0);
	assert_status(&h, "write-cache", "\"writeback\"");
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &wrong, 1, 0), -EREMOTEIO);
	assert_int_equal(fe_set_config(&h.drv.fe, 0, &on, 1, 0), -EREMOTEIO);
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &off, 1, 0), 0);
	assert_int_equal(blk_close(&h.drv), 0);
	/* The next driver starts afresh. */
	house_connect(&h);
	assert_status(&h, "write-cache", "\"writeback\"");
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static bool sync_fails;
static int sync_gate = -1; /* a byte lets one pass; -1: open */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
	char byte;

	if (sync_gate >= 0 && read(sync_gate, &byte, 1) != 1)
		abort();
	if (!sync_fails)
		return __real_fdatasync(fd);
	errno = EIO;
	return -1;
}

static void switch_cache_off(struct house *h)
{
	struct {
		struct fe_config_hdr h;
		uint8_t off;
	} __attribute__((packed))
	m = { { .offset = offsetof(struct virtio_blk_config, wce), .size = 1 }, 0 };

	assert_int_equal(fe_send(&h->drv.fe, FE_SET_CONFIG, FE_VERSION | FE_FLAG_NEED_REPLY, &m,
				 sizeof(m), NULL, 0),
			 0);
	for (int i = 0; i < 20; i++)
		pump(h);
}

/* The driver waits for the disk, and nobody else: not even its own requests. */
static void a_disk_that_takes_its_time_holds_nobody_up(void **state)
{
	struct fe_msg *msg = calloc(1, sizeof(*msg));
	struct blk_req req;
	struct house h;
	char buf[512];
	int gate[2];

	assert_int_equal(pipe(gate), 0);
	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 4096), 0);
	sync_gate = gate[0];
	switch_cache_off(&h);
	assert_status(&h, "connection", "\"up\"");
	assert_int_equal(blk_read(&req, 1, 0, buf, 512), VIRTIO_BLK_S_OK);
	h.drv.fe.timeout_ms = 20;
	assert_int_equal(fe_recv(&h.drv.fe, msg), -ETIMEDOUT);
	assert_int_equal(write(gate[1], "", 1), 1);
	h.drv.fe.timeout_ms = FE_TIMEOUT_MS;
	assert_int_equal(fe_recv(&h.drv.fe, msg), 0);
	assert_int_equal(msg->payload[0], 0);
	assert_status(&h, "write-cache", "\"writethrough\"");
	/* Nor a front-end that leaves meanwhile, but for its own device. */
	assert_int_equal(blk_close(&h.drv), 0);
	house_connect(&h);
	switch_cache_off(&h);
	blk_abandon(&h.drv);
	h.gone = false;
	vblk_destroy(h.blk, set_gone, &h);
	for (int i = 0; i < 100; i++)
		pump(&h);
	assert_false(h.gone);
	assert_int_equal(write(gate[1], "", 1), 1);
	while (!h.gone)
		pump(&h);
	h.blk = NULL;
	sync_gate = -1;
	house_close(&h);
	close(gate[0]);
	close(gate[1]);
	free(msg);
}

/* What it is told that it was refused has not happened. */
static void a_cache_mode_that_cannot_be_had_is_not_chosen(void **state)
{
	struct house h;
	uint8_t off = 0;

	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	sync_fails = true;
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &off, 1, 0), -EREMOTEIO);
	assert_status(&h, "write-cache", "\"writeback\"");
	sync_fails = false;
	assert_int_equal(fe_set_config(&h.drv.fe, 32, &off, 1, 0), 0);
	assert_status(&h, "write-cache", "\"writethrough\"");
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static void a_driver_that_cannot_flush_gets_write_through(void **state)
{
	struct blk_req req;
	struct house h;
	char buf[512] = "durable";

	house_open(&h);
	h.drv_conf.without = 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	house_serve(&h);
	house_connect(&h);
	assert_status(&h, "write-cache", "\"writethrough\"");
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 4096), 0);
	assert_int_equal(blk_write(&req, 0, 0, buf, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_close(&h.drv), 0);
	h.drv_conf.without = 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	house_connect(&h);
	assert_status(&h, "write-cache", "\"writeback\"");
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

/* Firmware, then the system it starts, on one connection without a reset. */
static void a_driver_that_can_flush_is_not_kept_slow_by_one_that_cannot(void **state)
{
	const uint64_t firmware = 1ull << VIRTIO_F_VERSION_1;
	struct virtio_blk_config c;
	struct house h;

	house_open(&h);
	house_serve(&h);
	h.drv_conf.queues = 0;
	house_connect(&h);
	assert_int_equal(fe_set_u64(&h.drv.fe, FE_SET_FEATURES, firmware), 0);
	assert_int_equal(fe_sync(&h.drv.fe), 0);
	assert_status(&h, "write-cache", "\"writethrough\"");
	assert_int_equal(fe_get_config(&h.drv.fe, 0, &c, sizeof(c)), 0);
	assert_int_equal(c.wce, 0);
	assert_int_equal(fe_set_u64(&h.drv.fe, FE_SET_FEATURES,
				    firmware | 1ull << VIRTIO_BLK_F_FLUSH |
					    1ull << VIRTIO_BLK_F_CONFIG_WCE),
			 0);
	assert_int_equal(fe_sync(&h.drv.fe), 0);
	assert_status(&h, "write-cache", "\"writeback\"");
	assert_int_equal(fe_get_config(&h.drv.fe, 0, &c, sizeof(c)), 0);
	assert_int_equal(c.wce, 1);
	blk_abandon(&h.drv);
	house_close(&h);
}

static void a_resize_is_announced(void **state)
{
	struct virtio_blk_config c;
	struct fe_msg *msg = calloc(1, sizeof(*msg));
	struct blk_req req;
	struct house h;
	char buf[512];

	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	assert_int_equal(blk_req_init(&req, &h.drv, h.drv.region, 4096), 0);
	assert_int_equal(blk_read(&req, 0, SIZE / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(vblk_resize(h.blk, 2 * SIZE, h.err), 0);
	assert_int_equal(fe_backend_recv(&h.drv.fe, msg, 5000), 0);
	assert_int_equal(msg->hdr.request, FE_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(fe_get_config(&h.drv.fe, 0, &c, sizeof(c)), 0);
	assert_int_equal(c.capacity, 2 * SIZE / 512);
	assert_int_equal(blk_read(&req, 0, SIZE / 512, buf, 512), VIRTIO_BLK_S_OK);
	/* The file shrank by other hands. */
	assert_int_equal(truncate(h.image, SIZE / 2), 0);
	assert_int_equal(vblk_resize(h.blk, 0, h.err), 0);
	assert_int_equal(fe_get_config(&h.drv.fe, 0, &c, sizeof(c)), 0);
	assert_int_equal(c.capacity, SIZE / 2 / 512);
	assert_int_equal(blk_read(&req, 0, SIZE / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(vblk_resize(h.blk, 1000, h.err), -EINVAL);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
	free(msg);
}

/* --- life ------------------------------------------------------------------------------- */

static void submit_writes(struct house *h, struct blk_req *req, unsigned int nr)
{
	static uint8_t out[4096];

	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(blk_req_init(&req[i], &h->drv, h->drv.region, sizeof(out)), 0);
		memset(out, (int)i + 1, sizeof(out));
		req[i].type = VIRTIO_BLK_T_OUT;
		req[i].out = out;
		req[i].out_len = sizeof(out);
		req[i].sector = i * (sizeof(out) / 512);
		assert_int_equal(blk_submit(&req[i]), 0);
	}
}

/* What the device has taken and not given back, which the image shows when it has
 * gone: the end waited for them. False: the disk was faster than we are. */
static bool go_with_requests_in_flight(void)
{
	unsigned int ended = 0;
	struct blk_req req[16];
	uint8_t in[4096];
	struct house h;
	int fd, err;

	house_open(&h);
	house_serve(&h);
	house_connect(&h);
	submit_writes(&h, req, ARRAY_SIZE(req));
	loop_turn(h.loop);
	while (blk_reap(&h.drv, 0, false, &err))
		ended++;
	house_remove_device(&h);
	blk_abandon(&h.drv);
	fd = open(h.image, O_RDONLY);
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		assert_int_equal(pread(fd, in, sizeof(in), (off_t)(i * sizeof(in))), sizeof(in));
		for (size_t j = 0; j < sizeof(in); j++)
			assert_int_equal(in[j], i + 1);
	}
	close(fd);
	house_close(&h);
	return ended < ARRAY_SIZE(req);
}

static void a_device_goes_with_requests_in_flight(void **state)
{
	int tries = 0;

	while (!go_with_requests_in_flight())
		assert_true(++tries < 100);
}

static void a_front_end_that_vanishes_leaves_the_device_for_the_next(void **state)
{
	struct house h;

	house_open(&h);
	house_serve(&h);
	for (int i = 0; i < 3; i++) {
		house_connect(&h);
		blk_abandon(&h.drv);
		for (int turn = 0; turn < 200; turn++)
			pump(&h);
	}
	house_connect(&h);
	check_random(&h, 20);
	assert_int_equal(blk_close(&h.drv), 0);
	house_close(&h);
}

static void refused(struct house *h, int error, const char *what)
{
	struct vblk *blk = NULL;

	assert_int_equal(vblk_create(&h->conf, &blk, h->err), error);
	if (!strstr(h->err, what))
		print_error("expected \"%s\" in: %s\n", what, h->err);
	assert_non_null(strstr(h->err, what));
	assert_null(blk);
}

static void wrong_configurations_are_refused_with_the_cause(void **state)
{
	struct house h;
	int fd;

	house_open(&h);
	h.conf.queues = 0;
	refused(&h, -EINVAL, "expected 1 to 64");
	h.conf.queues = 65;
	refused(&h, -EINVAL, "expected 1 to 64");
	h.conf.queues = 1;
	h.conf.serial = "123456789012345678901";
	refused(&h, -EINVAL, "too long");
	h.conf.serial = NULL;
	h.conf.name = "0123456789012345678901234567890123456789012345678901234567890123";
	refused(&h, -EINVAL, "expected 1 to 63 bytes");
	h.conf.name++;
	h.conf.store = "null:1";
	refused(&h, -EINVAL, "null:1");
	h.conf.store = h.store;
	h.conf.name = "vda";
	h.conf.socket = NULL;
	refused(&h, -EINVAL, "neither a socket path nor a descriptor");
	h.conf.socket = h.socket;
	fd = open(h.socket, O_CREAT | O_RDWR, 0600);
	close(fd);
	refused(&h, -EEXIST, "is not a socket");
	unlink(h.socket);
	h.conf.store = "uring:/nonexistent";
	refused(&h, -ENOENT, "does not exist");
	assert_int_equal(access(h.socket, F_OK), -1);
	h.conf.store = h.store;
	house_serve(&h);
	h.conf.store = "null:1G";
	refused(&h, -EADDRINUSE, h.socket);
	h.conf.store = h.store;
	refused(&h, -EBUSY, "is locked");
	house_close(&h);
}

/* As QEMU's programs would find it. */
static bool image_is_locked(const struct house *h)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200 };
	int fd = open(h->image, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_GETLK, &fl), 0);
	close(fd);
	return fl.l_type != F_UNLCK;
}

static void the_image_is_free_when_the_device_has_gone(void **state)
{
	struct house h;

	house_open(&h);
	for (int i = 0; i < 3; i++) {
		assert_false(image_is_locked(&h));
		house_serve(&h);
		house_connect(&h);
		check_random(&h, 10);
		assert_true(image_is_locked(&h));
		assert_int_equal(blk_close(&h.drv), 0);
		assert_true(image_is_locked(&h));
		house_remove_device(&h);
	}
	assert_false(image_is_locked(&h));
	house_close(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_survives_on_split_rings),
		cmocka_unit_test(data_survives_on_packed_rings),
		cmocka_unit_test(data_survives_in_registered_buffers),
		cmocka_unit_test(data_survives_in_memory),
		cmocka_unit_test(many_requests_are_in_flight_at_once),
		cmocka_unit_test(the_configuration_space_describes_the_disk),
		cmocka_unit_test(a_disk_in_memory_takes_what_it_says),
		cmocka_unit_test(a_read_only_disk_says_so),
		cmocka_unit_test(the_driver_chooses_the_cache_mode),
		cmocka_unit_test(a_disk_that_takes_its_time_holds_nobody_up),
		cmocka_unit_test(a_cache_mode_that_cannot_be_had_is_not_chosen),
		cmocka_unit_test(a_driver_that_cannot_flush_gets_write_through),
		cmocka_unit_test(a_driver_that_can_flush_is_not_kept_slow_by_one_that_cannot),
		cmocka_unit_test(a_resize_is_announced),
		cmocka_unit_test(a_device_goes_with_requests_in_flight),
		cmocka_unit_test(a_front_end_that_vanishes_leaves_the_device_for_the_next),
		cmocka_unit_test(wrong_configurations_are_refused_with_the_cause),
		cmocka_unit_test(the_image_is_free_when_the_device_has_gone),
	};

	return cmocka_run_group_tests_name("vblk", tests, NULL, NULL);
}
