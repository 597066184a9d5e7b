/*
 * The real program with other command lines than server_test.c has: as many queues
 * as there can be, rings in order, killed and started again. Run by meson with the
 * path of ringbolt-blk; skips without it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
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
#define BLOCK 4096u
#define BLOCK_SECTORS (BLOCK / BLK_SECTOR)
#define DISK_BLOCKS 1024u
#define DEPTH 32

static const char *server_path;
static char dir[] = "/tmp/ringbolt-setups-XXXXXX";
static char sock_path[64], image[64], file_store[80];
static pid_t server = -1;
static struct blk b;
static struct blk_req req[BLK_QUEUES_MAX][DEPTH];

static void start_server(const char *store, unsigned int queues)
{
	char device[256];

	snprintf(device, sizeof(device), "--device=name=disk,socket=%s,store=%s,queues=%u",
		 sock_path, store, queues);
	server = fork();
	assert_true(server >= 0);
	if (!server) {
		execl(server_path, "ringbolt-blk", "--log-level=warning", device, NULL);
		_exit(127);
	}
}

static void stop_server(void)
{
	int status;

	assert_int_equal(kill(server, SIGTERM), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void open_disk(unsigned int queues, bool packed, bool in_order)
{
	const struct blk_conf conf = { .path = sock_path,
				       .queues = queues,
				       .queue_size = 128,
				       .packed = packed,
				       .event_idx = true,
				       .in_order = in_order,
				       .inflight = true,
				       .mem = 128 << 20 };

	assert_int_equal(blk_open(&b, &conf), 0);
	for (unsigned int q = 0; q < queues; q++)
		for (unsigned int i = 0; i < DEPTH; i++)
			assert_int_equal(blk_req_init(&req[q][i], &b, b.region, BLOCK), 0);
}

static void fill(uint8_t *buf, uint32_t seed)
{
	for (uint32_t i = 0; i < BLOCK; i += sizeof(seed)) {
		uint32_t v = fe_random(&seed);

		memcpy(buf + i, &v, sizeof(v));
	}
}

/* DEPTH requests on each queue at a time, each with blocks of its own. */
static void write_and_read_all(unsigned int queues)
{
	static uint8_t buf[BLK_QUEUES_MAX][DEPTH][BLOCK], expected[BLOCK];
	struct blk_req *r;
	int err;

	for (int write = 1; write >= 0; write--) {
		for (unsigned int q = 0; q < queues; q++) {
			for (unsigned int i = 0; i < DEPTH; i++) {
				r = &req[q][i];
				r->queue = q;
				r->sector = (q * DEPTH + i) % DISK_BLOCKS * BLOCK_SECTORS;
				r->type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
				r->out_len = write ? BLOCK : 0;
				r->in_len = write ? 0 : BLOCK;
				r->out = r->in = buf[q][i];
				fill(buf[q][i], write ? (uint32_t)r->sector + 1 : 1);
				assert_int_equal(blk_add(r), 0);
			}
			assert_int_equal(drv_submit(&b.ring[q]), 0);
		}
		for (unsigned int n = 0; n < queues * DEPTH; n++) {
			r = blk_reap(&b, n % queues, true, &err);
			assert_non_null(r);
			assert_int_equal(r->status, VIRTIO_BLK_S_OK);
			if (write)
				continue;
			fill(expected, (uint32_t)r->sector + 1);
			assert_memory_equal(r->in, expected, BLOCK);
		}
	}
}

static void sixty_four_queues_are_served(void **state)
{
	for (int packed = 0; packed < 2; packed++) {
		start_server(file_store, 64);
		open_disk(64, packed, false);
		assert_int_equal(le16toh(b.config.num_queues), 64);
		for (int i = 0; i < 3; i++)
			write_and_read_all(64);
		assert_int_equal(blk_close(&b), 0);
		/* Again on a part of them. */
		open_disk(3, packed, false);
		write_and_read_all(3);
		assert_int_equal(blk_close(&b), 0);
		stop_server();
	}
}

/* The driver goes by the order alone: what was used is not said one by one. */
static void rings_in_order_are_in_order(void **state)
{
	for (int packed = 0; packed < 2; packed++) {
		start_server("mem:4M", 2);
		open_disk(2, packed, true);
		assert_true(fe_has(&b.fe, VIRTIO_F_IN_ORDER));
		for (int i = 0; i < 50; i++)
			write_and_read_all(2);
		assert_int_equal(blk_close(&b), 0);
		stop_server();
	}
	/* From a file a read need not wait for a slower one before it. */
	start_server(file_store, 1);
	open_disk(1, false, true);
	assert_false(fe_has(&b.fe, VIRTIO_F_IN_ORDER));
	assert_int_equal(blk_close(&b), 0);
	stop_server();
}

static void submit_writes(void)
{
	static uint8_t buf[BLOCK];

	for (unsigned int i = 0; i < DEPTH; i++) {
		struct blk_req *r = &req[0][i];

		r->type = VIRTIO_BLK_T_OUT;
		r->sector = i * BLOCK_SECTORS;
		r->out = buf;
		r->out_len = BLOCK;
		assert_int_equal(blk_add(r), 0);
	}
	assert_int_equal(drv_submit(&b.ring[0]), 0);
}

/* The kernel keeps the image open, and locked, for a while after that. */
static void killed_in_the_middle_of_writes_it_can_be_started_again_at_once(void **state)
{
	int status;

	start_server(file_store, 1);
	for (int i = 0; i < 20; i++) {
		open_disk(1, i & 1, false);
		submit_writes();
		assert_int_equal(kill(server, SIGKILL), 0);
		assert_int_equal(waitpid(server, &status, 0), server);
		blk_abandon(&b);
		start_server(file_store, 1);
	}
	open_disk(1, false, false);
	write_and_read_all(1);
	assert_int_equal(blk_close(&b), 0);
	stop_server();
}

/* Many at a time, on two queues, each with blocks of its own; the server is killed
 * when some of them have come back. */
static void write_and_kill(unsigned int round)
{
	static uint8_t buf[2][DEPTH][BLOCK];
	unsigned int left = 2 * DEPTH, enough = left - round * 7 % DEPTH;
	struct blk_req *r;
	int status, err;

	for (unsigned int q = 0; q < 2; q++) {
		for (unsigned int i = 0; i < DEPTH; i++) {
			r = &req[q][i];
			r->queue = q;
			r->sector = (q * DEPTH + i) * BLOCK_SECTORS;
			r->type = VIRTIO_BLK_T_OUT;
			r->out = buf[q][i];
			r->out_len = BLOCK;
			r->in_len = 0;
			r->done = false;
			fill(buf[q][i], round * 1000 + q * DEPTH + i + 1);
			assert_int_equal(blk_add(r), 0);
		}
		assert_int_equal(drv_submit(&b.ring[q]), 0);
	}
	for (unsigned int n = 0; left > enough; n++) {
		r = blk_reap(&b, n % 2, false, &err);
		assert_int_equal(err, 0);
		left -= r != NULL;
	}
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
	start_server(file_store, 2);
	assert_int_equal(blk_take_up(&b), 0);
	for (unsigned int q = 0; q < 2; q++) {
		while (b.ring[q].inflight) {
			r = blk_reap(&b, q, true, &err);
			assert_non_null(r);
			assert_int_equal(r->status, VIRTIO_BLK_S_OK);
			left--;
		}
		/* None twice. */
		assert_null(blk_reap(&b, q, false, &err));
		assert_int_equal(err, 0);
	}
	assert_int_equal(left, 0);
}

static void read_what_was_written(unsigned int round)
{
	static uint8_t buf[BLOCK], expected[BLOCK];

	for (unsigned int i = 0; i < 2 * DEPTH; i++) {
		fill(expected, round * 1000 + i + 1);
		assert_int_equal(blk_read(&req[0][0], i % 2, i * BLOCK_SECTORS, buf, BLOCK),
				 VIRTIO_BLK_S_OK);
		assert_memory_equal(buf, expected, BLOCK);
	}
}

/* The disk gives them back in any order: only what was written down tells the next
 * server which they are. */
static void killed_with_requests_in_flight_each_is_carried_out_once(void **state)
{
	for (int packed = 0; packed < 2; packed++) {
		start_server(file_store, 2);
		open_disk(2, packed, false);
		assert_int_equal(b.ring[0].packed, packed);
		assert_true(b.inflight_fd >= 0);
		for (unsigned int round = 0; round < 20; round++) {
			write_and_kill(round);
			read_what_was_written(round);
		}
		assert_int_equal(blk_close(&b), 0);
		stop_server();
	}
}

static int make_image(void)
{
	int fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600), ret;

	if (fd < 0)
		return -1;
	ret = ftruncate(fd, DISK_BLOCKS * BLOCK);
	close(fd);
	return ret;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sixty_four_queues_are_served),
		cmocka_unit_test(rings_in_order_are_in_order),
		cmocka_unit_test(killed_in_the_middle_of_writes_it_can_be_started_again_at_once),
		cmocka_unit_test(killed_with_requests_in_flight_each_is_carried_out_once),
	};
	int failed;

	if (argc < 2 || access(argv[1], X_OK)) {
		fprintf(stderr, "needs the path of ringbolt-blk\n");
		return SKIP;
	}
	server_path = argv[1];
	if (!mkdtemp(dir))
		return 1;
	snprintf(sock_path, sizeof(sock_path), "%s/blk.sock", dir);
	snprintf(image, sizeof(image), "%s/disk.img", dir);
	snprintf(file_store, sizeof(file_store), "uring:%s", image);
	if (make_image())
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(image);
	unlink(sock_path);
	rmdir(dir);
	return failed ? 1 : 0;
}
