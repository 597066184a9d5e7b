/*
 * One ringbolt-blk, two devices on one poll loop: whatever the front-end or the
 * driver of one does, and whatever the operator does to it, the other serves
 * every request, and nothing of the first is left behind.
 *
 * Arguments: the program; and "files" for disks that are files, whose requests do not
 * end as they begin.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/rpc.h"
#include "tests/frontend/blkdrv.h"

#define BLOCK 4096
#define DISK_LEN (1 << 20)
#define IN_FLIGHT 32
#define RPC_TIMEOUT_MS 60000
/* Looks at the status, 10 ms apart, before a change is given up. */
#define LOOKS_MAX 6000

static const char *server_path;
static char dir[] = "/tmp/ringbolt-apps-XXXXXX";
static char victim_sock[64], other_sock[64], control[64];
static char files[2][64]; /* empty: not asked for */
static char victim_store[80] = "mem:1M", other_store[80] = "mem:1M";
static pid_t server = -1;
static struct blk victim, other;
static struct blk_req reqs[IN_FLIGHT], other_req;
static unsigned int nr_fds_before;

/* --- the program ------------------------------------------------------------ */

static json_t *call(const char *method, json_t *params)
{
	char err[RPC_MSG_LEN] = "";
	json_t *result;
	int res;

	res = rpc_client_call(control, method, params, RPC_TIMEOUT_MS, &result, err);
	if (res < 0)
		fail_msg("%s: %s", method, err);
	json_decref(params);
	return result;
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

/* Control clients that have just closed may still be counted for a moment. */
static void no_fd_is_left_behind(void)
{
	for (int i = 0; i < LOOKS_MAX && nr_fds() > nr_fds_before; i++)
		usleep(10000);
	assert_true(nr_fds() <= nr_fds_before);
}

static void open_device(struct blk *b, const char *sock, bool packed)
{
	const struct blk_conf conf = {
		.path = sock, .queues = 1, .queue_size = 128, .packed = packed, .event_idx = true
	};

	assert_int_equal(blk_open(b, &conf), 0);
}

/* The other device does what it was asked, and its data are its own. */
static void other_serves(void)
{
	static uint32_t seed = 7;
	uint8_t out[BLOCK], in[BLOCK];
	uint64_t sector;

	for (int i = 0; i < 50; i++) {
		for (size_t j = 0; j < sizeof(out); j++)
			out[j] = (uint8_t)fe_random(&seed);
		sector = fe_random(&seed) % (DISK_LEN / BLOCK) * (BLOCK / BLK_SECTOR);
		assert_int_equal(blk_write(&other_req, 0, sector, out, BLOCK), VIRTIO_BLK_S_OK);
		assert_int_equal(blk_read(&other_req, 0, sector, in, BLOCK), VIRTIO_BLK_S_OK);
		assert_memory_equal(out, in, BLOCK);
	}
}

static void connect_victim(bool packed)
{
	open_device(&victim, victim_sock, packed);
	for (size_t i = 0; i < IN_FLIGHT; i++)
		assert_int_equal(blk_req_init(&reqs[i], &victim, victim.region, BLOCK), 0);
}

static int start(void **state)
{
	char a[256], b[256], c[96];

	snprintf(a, sizeof(a), "--device=name=victim,socket=%s,store=%s", victim_sock,
		 victim_store);
	snprintf(b, sizeof(b), "--device=name=other,socket=%s,store=%s", other_sock, other_store);
	snprintf(c, sizeof(c), "--control=%s", control);
	server = fork();
	assert_true(server >= 0);
	if (!server) {
		execl(server_path, "ringbolt-blk", "--log-level=error", a, b, c, NULL);
		_exit(127);
	}
	open_device(&other, other_sock, false);
	assert_int_equal(blk_req_init(&other_req, &other, other.region, BLOCK), 0);
	other_serves();
	/* The program makes its control socket last. */
	while (access(control, F_OK))
		usleep(1000);
	json_decref(call("version", NULL));
	usleep(10000);
	nr_fds_before = nr_fds();
	return 0;
}

static int stop(void **state)
{
	int status;

	blk_abandon(&victim);
	blk_abandon(&other);
	assert_int_equal(kill(server, SIGTERM), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(access(victim_sock, F_OK), -1);
	assert_int_equal(access(other_sock, F_OK), -1);
	assert_int_equal(access(control, F_OK), -1);
	return 0;
}

/* --- what is done to the victim ----------------------------------------------- */

/* Ask for reads that will not be reaped. */
static void fill_victim(void)
{
	static uint8_t data[IN_FLIGHT][BLOCK];

	for (size_t i = 0; i < IN_FLIGHT; i++) {
		reqs[i].type = VIRTIO_BLK_T_IN;
		reqs[i].sector = i * (BLOCK / BLK_SECTOR);
		reqs[i].in = data[i];
		reqs[i].in_len = BLOCK;
		assert_int_equal(blk_submit(&reqs[i]), 0);
	}
}

/* The victim's status, with its one ring: a new reference. */
static json_t *victim_status(void)
{
	json_t *all = call("status", json_pack("{s:s}", "name", "victim"));
	json_t *devices = json_object_get(all, "devices");
	json_t *victim_obj = json_incref(json_array_get(devices, 0));

	assert_int_equal(json_array_size(devices), 1);
	json_decref(all);
	return victim_obj;
}

static void wait_for_connection(const char *expected)
{
	const char *now;
	json_t *s;
	bool same;

	for (int i = 0; i < LOOKS_MAX; i++) {
		s = victim_status();
		now = json_string_value(json_object_get(s, "connection"));
		same = !strcmp(now, expected);
		json_decref(s);
		if (same)
			return;
		usleep(10000);
	}
	fail_msg("the connection is not %s", expected);
}

static void wait_for_broken_ring(void)
{
	const char *state;
	json_t *s, *ring;
	bool broken;

	for (int i = 0; i < LOOKS_MAX; i++) {
		s = victim_status();
		ring = json_array_get(json_object_get(s, "rings"), 0);
		state = json_string_value(json_object_get(ring, "state"));
		broken = !strcmp(state, "broken");
		json_decref(s);
		if (broken)
			return;
		usleep(10000);
	}
	fail_msg("the ring is not broken");
}

/* The victim's front-end goes; all that it had is given back, and the device
 * serves the next one. */
static void victim_recovers(void)
{
	uint8_t buf[BLOCK];

	blk_abandon(&victim);
	wait_for_connection("waiting");
	no_fd_is_left_behind();
	connect_victim(false);
	assert_int_equal(blk_read(&reqs[0], 0, 0, buf, BLOCK), VIRTIO_BLK_S_OK);
	other_serves();
}

static void a_front_end_that_vanishes_with_requests_in_flight(void **state)
{
	for (int i = 0; i < 10; i++) {
		connect_victim(i % 2);
		fill_victim();
		blk_abandon(&victim);
		other_serves();
		wait_for_connection("waiting");
	}
	victim_recovers();
}

static void a_front_end_that_sends_no_vhost_user(void **state)
{
	static const char garbage[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

	connect_victim(false);
	fill_victim();
	assert_int_equal(fe_send_raw(&victim.fe, garbage, sizeof(garbage), NULL, 0), 0);
	assert_true(fe_hung_up(&victim.fe));
	other_serves();
	victim_recovers();
}

static void a_front_end_that_cuts_off_its_memory(void **state)
{
	const uint64_t one = 1;
	json_t *s;

	connect_victim(false);
	assert_int_equal(ftruncate(victim.fe.region[victim.region].fd, 0), 0);
	assert_int_equal(write(victim.ring[0].kick_fd, &one, sizeof(one)), sizeof(one));
	wait_for_broken_ring();
	s = victim_status();
	assert_true(json_is_true(json_object_get(s, "memory-lost")));
	json_decref(s);
	other_serves();
	victim_recovers();
}

static void a_driver_that_makes_more_available_than_the_ring_holds(void **state)
{
	const uint64_t one = 1;

	connect_victim(false);
	victim.ring[0].avail->idx = cpu_to_le16(20000);
	assert_int_equal(write(victim.ring[0].kick_fd, &one, sizeof(one)), sizeof(one));
	wait_for_broken_ring();
	other_serves();
	victim_recovers();
}

static void a_driver_that_makes_chains_of_nonsense(void **state)
{
	const uint64_t one = 1;
	uint32_t seed = 99;
	uint8_t *table;

	for (int round = 0; round < 20; round++) {
		connect_victim(false);
		table = (uint8_t *)victim.ring[0].desc;
		for (size_t i = 0; i < victim.ring[0].size * sizeof(struct virtq_desc); i++)
			table[i] = (uint8_t)fe_random(&seed);
		for (unsigned int i = 0; i < victim.ring[0].size; i++)
			victim.ring[0].avail->ring[i] = cpu_to_le16((uint16_t)i);
		__atomic_store_n(&victim.ring[0].avail->idx.wire,
				 cpu_to_le16(victim.ring[0].size).wire, __ATOMIC_RELEASE);
		assert_int_equal(write(victim.ring[0].kick_fd, &one, sizeof(one)), sizeof(one));
		other_serves();
		blk_abandon(&victim);
		wait_for_connection("waiting");
	}
	victim_recovers();
}

/* --- what the operator does to it ------------------------------------------------ */

static void removed_and_added_again_under_load(void **state)
{
	for (int i = 0; i < 5; i++) {
		connect_victim(i % 2);
		fill_victim();
		json_decref(call("remove", json_pack("{s:s}", "name", "victim")));
		assert_true(fe_hung_up(&victim.fe));
		assert_int_equal(access(victim_sock, F_OK), -1);
		blk_abandon(&victim);
		other_serves();
		json_decref(call("add", json_pack("{s:s, s:s, s:s}", "name", "victim", "socket",
						  victim_sock, "store", victim_store)));
	}
	wait_for_connection("waiting");
	no_fd_is_left_behind();
	victim_recovers();
}

static void resized_under_load(void **state)
{
	uint8_t buf[BLOCK];
	int err;

	connect_victim(false);
	fill_victim();
	json_decref(call("resize", json_pack("{s:s, s:s}", "name", "victim", "size", "64K")));
	for (size_t i = 0; i < IN_FLIGHT; i++)
		assert_non_null(blk_reap(&victim, 0, true, &err));
	/* Behind the new end. */
	assert_int_equal(blk_read(&reqs[0], 0, 512, buf, BLOCK), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_read(&reqs[0], 0, 0, buf, BLOCK), VIRTIO_BLK_S_OK);
	json_decref(call("resize", json_pack("{s:s, s:s}", "name", "victim", "size", "1M")));
	assert_int_equal(blk_read(&reqs[0], 0, 512, buf, BLOCK), VIRTIO_BLK_S_OK);
	other_serves();
}

static void the_end_of_the_program_under_load(void **state)
{
	connect_victim(false);
	fill_victim();
	assert_int_equal(kill(server, SIGINT), 0);
	assert_true(fe_hung_up(&victim.fe));
}

/* How the program ended that had its signal already. */
static int stop_stopped(void **state)
{
	int status;

	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	blk_abandon(&victim);
	blk_abandon(&other);
	assert_int_equal(access(victim_sock, F_OK), -1);
	return 0;
}

static bool want_files;

static int make_file(char *path, size_t len, const char *name, char *store, size_t store_len)
{
	int fd, ret;

	snprintf(path, len, "%s/%s", dir, name);
	snprintf(store, store_len, "uring:%s", path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	ret = ftruncate(fd, DISK_LEN);
	close(fd);
	return ret;
}

static int setup_group(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	if (want_files &&
	    (make_file(files[0], sizeof(files[0]), "victim.img", victim_store,
		       sizeof(victim_store)) ||
	     make_file(files[1], sizeof(files[1]), "other.img", other_store, sizeof(other_store))))
		return -1;
	snprintf(victim_sock, sizeof(victim_sock), "%s/victim.sock", dir);
	snprintf(other_sock, sizeof(other_sock), "%s/other.sock", dir);
	snprintf(control, sizeof(control), "%s/ctl.sock", dir);
	return 0;
}

static int teardown_group(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unlink(files[i]);
	return rmdir(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_front_end_that_vanishes_with_requests_in_flight),
		T(a_front_end_that_sends_no_vhost_user),
		T(a_front_end_that_cuts_off_its_memory),
		T(a_driver_that_makes_more_available_than_the_ring_holds),
		T(a_driver_that_makes_chains_of_nonsense),
		T(removed_and_added_again_under_load),
		T(resized_under_load),
		cmocka_unit_test_setup_teardown(the_end_of_the_program_under_load, start,
						stop_stopped),
	};

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: %s RINGBOLT-BLK [files]\n", argv[0]);
		return 2;
	}
	want_files = argc == 3;
	server_path = argv[1];
	/* A write to a server that has just closed is an error, not the end. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
