/*
 * The real program with the front-end: ringbolt-blk is started with a file, and
 * every kind of ring and request is driven over its socket and verified. Run by
 * meson with the paths of ringbolt-blk and ringboltctl; skips without them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/blkdrv.h"

#define SKIP 77
#define DISK_LEN (16u << 20)
#define DISK_SECTORS (DISK_LEN / BLK_SECTOR)
#define IO_MAX 65536
#define QUEUES 4

static const char *server_path, *ctl_path;
static char dir[] = "/tmp/ringbolt-server-XXXXXX";
static char sock_path[64], ctl_sock[64], image[64];
static pid_t server;

/* What the disk must hold. */
static uint8_t shadow[DISK_LEN];
static struct blk b;

/* --- the server ------------------------------------------------------------ */

static void set_image_len(off_t len)
{
	assert_int_equal(truncate(image, len), 0);
}

static int start_server(void **state)
{
	char device[256], control[96];
	FILE *f = fopen(image, "w");

	assert_non_null(f);
	fclose(f);
	set_image_len(DISK_LEN);
	memset(shadow, 0, sizeof(shadow));
	snprintf(device, sizeof(device),
		 "--device=name=disk,socket=%s,store=uring:%s,queues=%d,serial=ringbolt-test",
		 sock_path, image, QUEUES);
	snprintf(control, sizeof(control), "--control=%s", ctl_sock);
	server = fork();
	assert_true(server >= 0);
	if (!server) {
		execl(server_path, "ringbolt-blk", "--log-level=warning", device, control, NULL);
		_exit(127);
	}
	return 0;
}

static int stop_server(void **state)
{
	int status;

	/* A test that failed may have left it. */
	blk_abandon(&b);
	assert_int_equal(kill(server, SIGTERM), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return 0;
}

static unsigned int nr_fds(void)
{
	unsigned int n = 0;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", server);
	d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* --- requests ------------------------------------------------------------- */

static void open_disk(bool packed, bool indirect, bool event_idx, bool in_order,
		      unsigned int queues)
{
	const struct blk_conf conf = {
		.path = sock_path,
		.queues = queues,
		.queue_size = 128,
		.packed = packed,
		.indirect = indirect,
		.event_idx = event_idx,
		.in_order = in_order,
	};

	assert_int_equal(blk_open(&b, &conf), 0);
	assert_int_equal(fe_has(&b.fe, VIRTIO_F_RING_PACKED), packed);
	assert_int_equal(fe_has(&b.fe, VIRTIO_F_RING_INDIRECT_DESC), indirect);
	assert_int_equal(fe_has(&b.fe, VIRTIO_F_RING_EVENT_IDX), event_idx);
}

static void fill(uint8_t *buf, uint32_t len, uint32_t *seed)
{
	for (uint32_t i = 0; i < len; i += 4) {
		uint32_t v = fe_random(seed);

		memcpy(buf + i, &v, 4);
	}
}

/* A range of the disk; len a multiple of the sector. */
static void pick(uint32_t *seed, uint64_t *sector, uint32_t *len)
{
	*len = BLK_SECTOR * (1 + fe_random(seed) % (IO_MAX / BLK_SECTOR));
	*sector = fe_random(seed) % (DISK_SECTORS - *len / BLK_SECTOR + 1);
}

static void write_and_read_back(struct blk_req *req, unsigned int rounds, uint32_t *seed)
{
	static uint8_t buf[IO_MAX];
	uint64_t sector;
	uint32_t len;

	for (unsigned int i = 0; i < rounds; i++) {
		unsigned int queue = i % b.queues;

		req->layout_seed = i % 3 ? fe_random(seed) : 0;
		pick(seed, &sector, &len);
		fill(buf, len, seed);
		assert_int_equal(blk_write(req, queue, sector, buf, len), VIRTIO_BLK_S_OK);
		assert_int_equal(req->used_len, 1);
		memcpy(shadow + sector * BLK_SECTOR, buf, len);
		pick(seed, &sector, &len);
		assert_int_equal(blk_read(req, queue, sector, buf, len), VIRTIO_BLK_S_OK);
		assert_int_equal(req->used_len, len + 1);
		assert_memory_equal(buf, shadow + sector * BLK_SECTOR, len);
	}
	req->layout_seed = 0;
}

static void other_requests(struct blk_req *req, unsigned int queue)
{
	struct virtio_blk_discard_write_zeroes seg[2] = {
		{ .sector = htole64(64), .num_sectors = htole32(100) },
		{ .sector = htole64(4096), .num_sectors = htole32(8) },
	};
	char id[BLK_ID_LEN];
	uint8_t buf[8 * BLK_SECTOR];

	assert_int_equal(blk_flush(req, queue), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_get_id(req, queue, id), VIRTIO_BLK_S_OK);
	assert_int_equal(strncmp(id, "ringbolt-test", sizeof(id)), 0);

	assert_true(fe_has(&b.fe, VIRTIO_BLK_F_WRITE_ZEROES));
	assert_int_equal(blk_range(req, queue, VIRTIO_BLK_T_WRITE_ZEROES, seg, 2), VIRTIO_BLK_S_OK);
	memset(shadow + 64 * BLK_SECTOR, 0, 100 * BLK_SECTOR);
	memset(shadow + 4096 * BLK_SECTOR, 0, 8 * BLK_SECTOR);
	assert_int_equal(blk_read(req, queue, 4096, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
	assert_memory_equal(buf, shadow + 4096 * BLK_SECTOR, sizeof(buf));

	assert_true(fe_has(&b.fe, VIRTIO_BLK_F_DISCARD));
	assert_int_equal(blk_range(req, queue, VIRTIO_BLK_T_DISCARD, seg, 1), VIRTIO_BLK_S_OK);
	/* What was there is gone or not: the driver may not count on either. */
	assert_int_equal(blk_read(req, queue, 64, shadow + 64 * BLK_SECTOR, IO_MAX / 2),
			 VIRTIO_BLK_S_OK);
}

static void wrong_requests(struct blk_req *req, unsigned int queue)
{
	struct virtio_blk_discard_write_zeroes past = { .sector = htole64(DISK_SECTORS),
							.num_sectors = htole32(1) };
	uint8_t buf[BLK_SECTOR + 1] = { 0 };

	assert_int_equal(blk_read(req, queue, DISK_SECTORS, buf, BLK_SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_write(req, queue, UINT64_MAX / BLK_SECTOR, buf, BLK_SECTOR),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_write(req, queue, UINT64_MAX, buf, BLK_SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_write(req, queue, 0, buf, BLK_SECTOR + 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_range(req, queue, VIRTIO_BLK_T_DISCARD, &past, 1), VIRTIO_BLK_S_IOERR);
	past.flags = htole32(0x80);
	assert_int_equal(blk_range(req, queue, VIRTIO_BLK_T_WRITE_ZEROES, &past, 1),
			 VIRTIO_BLK_S_UNSUPP);
	req->type = 0x4711;
	req->out_len = req->in_len = 0;
	assert_int_equal(blk_do(req), VIRTIO_BLK_S_UNSUPP);
}

/* --- tests ---------------------------------------------------------------- */

static void every_ring_serves_every_request(void **state)
{
	static struct blk_req req;
	unsigned int before = 0;
	uint32_t seed = 1;

	for (unsigned int i = 0; i < 32; i++) {
		open_disk(i & 1, i & 2, i & 4, i & 8, i & 16 ? QUEUES : 1);
		assert_int_equal(blk_req_init(&req, &b, b.region, IO_MAX), 0);
		write_and_read_back(&req, 60, &seed);
		for (unsigned int q = 0; q < b.queues; q++) {
			other_requests(&req, q);
			wrong_requests(&req, q);
		}
		write_and_read_back(&req, 20, &seed);
		assert_int_equal(blk_close(&b), 0);
		if (!i)
			before = nr_fds();
	}
	/* The last connection's end is handled a moment later. */
	for (unsigned int i = 0; nr_fds() > before && i < 5000; i++)
		usleep(1000);
	assert_true(nr_fds() <= before);
}

#define PARALLEL 32

/* Each request has a part of the disk for itself. */
static void many_requests(bool packed, bool indirect, bool in_order)
{
	static struct blk_req req[PARALLEL];
	static uint8_t buf[PARALLEL][16384];
	const uint64_t span = DISK_SECTORS / PARALLEL;
	unsigned int done = 0, i;
	uint32_t seed = 99;
	int err;

	open_disk(packed, indirect, true, in_order, QUEUES);
	for (i = 0; i < PARALLEL; i++) {
		assert_int_equal(blk_req_init(&req[i], &b, b.region, sizeof(buf[i])), 0);
		req[i].done = true;
	}
	while (done < 6000) {
		for (i = 0; i < PARALLEL; i++) {
			struct blk_req *r = &req[i];
			uint32_t len = BLK_SECTOR * (1 + fe_random(&seed) % 32);

			if (!r->done)
				continue;
			r->queue = fe_random(&seed) % QUEUES;
			r->sector = i * span + fe_random(&seed) % (span - 32);
			r->layout_seed = fe_random(&seed);
			r->type = fe_random(&seed) & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
			r->out = r->in = buf[i];
			r->out_len = r->type == VIRTIO_BLK_T_OUT ? len : 0;
			r->in_len = r->type == VIRTIO_BLK_T_IN ? len : 0;
			fill(buf[i], len, &seed);
			err = blk_add(r);
			if (err == -ENOSPC) {
				r->done = true;
				continue;
			}
			assert_int_equal(err, 0);
			if (r->out_len)
				memcpy(shadow + r->sector * BLK_SECTOR, buf[i], len);
		}
		for (i = 0; i < QUEUES; i++) {
			struct blk_req *r;

			assert_int_equal(drv_submit(&b.ring[i]), 0);
			while ((r = blk_reap(&b, i, b.ring[i].inflight > 8, &err))) {
				assert_int_equal(r->status, VIRTIO_BLK_S_OK);
				if (r->in_len)
					assert_memory_equal(r->in, shadow + r->sector * BLK_SECTOR,
							    r->in_len);
				done++;
			}
			assert_int_equal(err, 0);
		}
	}
	for (i = 0; i < QUEUES; i++) {
		while (b.ring[i].inflight)
			assert_non_null(blk_reap(&b, i, true, &err));
	}
	assert_int_equal(blk_close(&b), 0);
}

static void parallel_requests_of_any_layout_are_kept_apart(void **state)
{
	for (unsigned int i = 0; i < 8; i++)
		many_requests(i & 1, i & 2, i & 4);
}

static void a_front_end_may_come_back_at_any_time(void **state)
{
	static struct blk_req req[8];
	static uint8_t buf[IO_MAX];
	uint32_t seed = 5;

	for (unsigned int round = 0; round < 40; round++) {
		open_disk(round & 1, round & 2, true, false, QUEUES);
		for (unsigned int i = 0; i < ARRAY_SIZE(req); i++)
			assert_int_equal(blk_req_init(&req[i], &b, b.region, IO_MAX), 0);
		write_and_read_back(&req[0], 10, &seed);
		if (round % 4 == 3) {
			/* Gone with reads in flight. */
			for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
				req[i].type = VIRTIO_BLK_T_IN;
				req[i].queue = i % QUEUES;
				req[i].in = buf;
				req[i].in_len = IO_MAX;
				req[i].out_len = 0;
				req[i].sector = i;
				assert_int_equal(blk_submit(&req[i]), 0);
			}
			blk_abandon(&b);
			continue;
		}
		if (round % 4 == 2) {
			/* The same rings go on after a lost connection. */
			fe_disconnect(&b.fe);
			assert_int_equal(blk_reconnect(&b), 0);
			write_and_read_back(&req[0], 10, &seed);
		}
		assert_int_equal(blk_close(&b), 0);
	}
}

/*
 * Reap until all of reqs are done, and compare what they read. refused: chains
 * that the device had not taken yet when their memory went may fail, as chains
 * that it cannot answer in do.
 */
static void finish(struct blk_req *reqs, unsigned int nr, bool refused)
{
	int err = 0;

	for (unsigned int i = 0; i < nr; i++) {
		while (!reqs[i].done) {
			blk_reap(&b, reqs[i].queue, true, &err);
			assert_int_equal(err, 0);
		}
		if (refused && !reqs[i].used_len) {
			assert_int_equal(reqs[i].status, BLK_S_UNSET);
			continue;
		}
		assert_int_equal(reqs[i].status, VIRTIO_BLK_S_OK);
		assert_memory_equal(reqs[i].in, shadow + reqs[i].sector * BLK_SECTOR, IO_MAX);
	}
}

static void read_all(struct blk_req *reqs, unsigned int nr, uint8_t *buf)
{
	for (unsigned int i = 0; i < nr; i++) {
		reqs[i].type = VIRTIO_BLK_T_IN;
		reqs[i].in = buf + (size_t)i * IO_MAX;
		reqs[i].in_len = IO_MAX;
		reqs[i].sector = i * 128;
		assert_int_equal(blk_submit(&reqs[i]), 0);
	}
}

static void memory_comes_and_goes_while_requests_run(void **state)
{
	static struct blk_req fixed[8], moving[8];
	static uint8_t buf[2][8 * IO_MAX];
	uint32_t seed = 3;
	int region, err;

	for (unsigned int round = 0; round < 60; round++) {
		if (round % 20 == 0) {
			if (round)
				assert_int_equal(blk_close(&b), 0);
			open_disk(round == 20, round == 40, true, false, 1);
			assert_true(fe_has_proto(&b.fe, FE_PROTO_CONFIGURE_MEM_SLOTS));
			for (unsigned int i = 0; i < ARRAY_SIZE(fixed); i++)
				assert_int_equal(blk_req_init(&fixed[i], &b, b.region, IO_MAX), 0);
			write_and_read_back(&fixed[0], 20, &seed);
		}
		region = fe_mem_new(&b.fe, 4 << 20);
		assert_true(region >= 0);
		read_all(fixed, ARRAY_SIZE(fixed), buf[0]);
		assert_int_equal(fe_mem_share(&b.fe), 0);
		for (unsigned int i = 0; i < ARRAY_SIZE(moving); i++)
			assert_int_equal(blk_req_init(&moving[i], &b, region, IO_MAX), 0);
		read_all(moving, ARRAY_SIZE(moving), buf[1]);
		if (round % 2)
			assert_non_null(blk_reap(&b, 0, true, &err));
		/* Answered only when nothing writes to the region any more. */
		assert_int_equal(fe_mem_unshare(&b.fe, region), 0);
		finish(moving, ARRAY_SIZE(moving), true);
		memset(b.fe.region[region].host, 0xa5, b.fe.region[region].size);
		finish(fixed, ARRAY_SIZE(fixed), false);
		for (size_t i = 0; i < b.fe.region[region].size; i += BLK_SECTOR)
			assert_int_equal(b.fe.region[region].host[i], 0xa5);
		fe_mem_free(&b.fe, region);
	}
	assert_int_equal(blk_close(&b), 0);
}

static void a_chain_in_removed_memory_fails_alone(void **state)
{
	static struct blk_req fixed, moving;
	static uint8_t buf[IO_MAX];
	uint32_t seed = 11, len;
	void *cookie;
	int region;

	for (int packed = 0; packed < 2; packed++) {
		open_disk(packed, false, true, false, 1);
		region = fe_mem_new(&b.fe, 1 << 20);
		assert_int_equal(fe_mem_share(&b.fe), 0);
		assert_int_equal(blk_req_init(&fixed, &b, b.region, IO_MAX), 0);
		assert_int_equal(blk_req_init(&moving, &b, region, IO_MAX), 0);
		assert_int_equal(blk_read(&moving, 0, 0, buf, IO_MAX), VIRTIO_BLK_S_OK);
		assert_int_equal(fe_mem_unshare(&b.fe, region), 0);
		assert_int_equal(blk_submit(&moving), 0);
		assert_int_equal(drv_wait(&b.ring[0], &cookie, &len), 1);
		assert_int_equal(len, 0);
		assert_ptr_equal(cookie, &moving);
		write_and_read_back(&fixed, 10, &seed);
		assert_int_equal(blk_close(&b), 0);
	}
}

static void run_ctl(const char *command, const char *arg)
{
	char control[96];
	int status;
	pid_t pid;

	snprintf(control, sizeof(control), "--control=%s", ctl_sock);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(127);
		execl(ctl_path, "ringboltctl", control, command, arg, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_larger_file_is_announced_and_usable(void **state)
{
	static uint8_t buf[BLK_SECTOR];
	static struct blk_req req;
	struct virtio_blk_config config;
	struct fe_msg msg;

	open_disk(false, false, true, false, 1);
	assert_int_equal(le64toh(b.config.capacity), DISK_SECTORS);
	assert_int_equal(blk_req_init(&req, &b, b.region, IO_MAX), 0);
	assert_int_equal(blk_read(&req, 0, DISK_SECTORS, buf, BLK_SECTOR), VIRTIO_BLK_S_IOERR);
	set_image_len(2 * DISK_LEN);
	run_ctl("resize", "disk");
	assert_int_equal(fe_backend_recv(&b.fe, &msg, b.fe.timeout_ms), 0);
	assert_int_equal(msg.hdr.request, FE_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(fe_get_config(&b.fe, 0, &config, sizeof(config)), 0);
	assert_int_equal(le64toh(config.capacity), 2 * DISK_SECTORS);
	assert_int_equal(blk_read(&req, 0, DISK_SECTORS, buf, BLK_SECTOR), VIRTIO_BLK_S_OK);
	set_image_len(DISK_LEN);
	run_ctl("resize", "disk");
	assert_int_equal(fe_backend_recv(&b.fe, &msg, b.fe.timeout_ms), 0);
	assert_int_equal(blk_read(&req, 0, DISK_SECTORS, buf, BLK_SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_close(&b), 0);
}

static void a_sleeping_driver_is_notified(void **state)
{
	static struct blk_req req;
	static uint8_t buf[BLK_SECTOR];
	int err;

	for (unsigned int i = 0; i < 4; i++) {
		struct pollfd pfd = { .events = POLLIN };

		open_disk(i & 1, false, i & 2, false, 1);
		assert_int_equal(blk_req_init(&req, &b, b.region, IO_MAX), 0);
		pfd.fd = b.ring[0].call_fd;
		for (unsigned int k = 0; k < 50; k++) {
			drv_calls(&b.ring[0]);
			drv_notify(&b.ring[0], true);
			req.type = VIRTIO_BLK_T_IN;
			req.in = buf;
			req.in_len = sizeof(buf);
			/* Sometimes the device sleeps too. */
			if (k % 10 == 0)
				usleep(20000);
			assert_int_equal(blk_submit(&req), 0);
			assert_int_equal(poll(&pfd, 1, b.fe.timeout_ms), 1);
			assert_ptr_equal(blk_reap(&b, 0, false, &err), &req);
		}
		/* And not if it polls; one that was under way may still come. */
		drv_notify(&b.ring[0], false);
		assert_int_equal(blk_read(&req, 0, 0, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
		drv_calls(&b.ring[0]);
		for (unsigned int k = 0; k < 200; k++)
			assert_int_equal(blk_read(&req, 0, 0, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
		assert_int_equal(drv_calls(&b.ring[0]), 0);
		assert_int_equal(blk_close(&b), 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_ring_serves_every_request, start_server,
						stop_server),
		cmocka_unit_test_setup_teardown(parallel_requests_of_any_layout_are_kept_apart,
						start_server, stop_server),
		cmocka_unit_test_setup_teardown(a_front_end_may_come_back_at_any_time, start_server,
						stop_server),
		cmocka_unit_test_setup_teardown(memory_comes_and_goes_while_requests_run,
						start_server, stop_server),
		cmocka_unit_test_setup_teardown(a_chain_in_removed_memory_fails_alone, start_server,
						stop_server),
		cmocka_unit_test_setup_teardown(a_larger_file_is_announced_and_usable, start_server,
						stop_server),
		cmocka_unit_test_setup_teardown(a_sleeping_driver_is_notified, start_server,
						stop_server),
	};
	int failed;

	if (argc < 3 || access(argv[1], X_OK) || access(argv[2], X_OK)) {
		fprintf(stderr, "needs the paths of ringbolt-blk and ringboltctl\n");
		return SKIP;
	}
	server_path = argv[1];
	ctl_path = argv[2];
	if (!mkdtemp(dir))
		return 1;
	snprintf(sock_path, sizeof(sock_path), "%s/blk.sock", dir);
	snprintf(ctl_sock, sizeof(ctl_sock), "%s/ctl.sock", dir);
	snprintf(image, sizeof(image), "%s/disk.img", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(image);
	unlink(sock_path);
	unlink(ctl_sock);
	rmdir(dir);
	return failed ? 1 : 0;
}
