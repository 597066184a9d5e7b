/*
 * One ringbolt-net on one poll loop, two ports that talk, and others that
 * misbehave: whatever those do, each frame of the two arrives, in order, while
 * it goes on.
 *
 * Arguments: the program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/apps/netprog.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "tests/frontend/netdrv.h"

#define FRAME_LEN 200
#define WINDOW 64 /* of a receive ring of 256 */
#define LOOKS_MAX 6000

enum {
	GOOD_A,
	GOOD_B,
	BAD,
	SINK,
	NR_PORTS
};
static const char *const names[] = { "a", "b", "bad", "sink" };
static const char *server_path;
static char dir[] = "/tmp/ringbolt-apps-XXXXXX";
static char sock[NR_PORTS][64], control[64];
static struct net good[2], bad, sink;

/* --- the program ------------------------------------------------------------ */

static uint64_t counter(unsigned int port, const char *group, const char *name)
{
	json_t *s = netprog_port(names[port]), *value;
	json_t *c = json_object_get(json_object_get(s, "switch"), "counters");
	uint64_t n;

	value = json_object_get(group ? json_object_get(c, group) : c, name);
	assert_non_null(value);
	n = (uint64_t)json_integer_value(value);
	json_decref(s);
	return n;
}

static void wait_for_connection(unsigned int port, const char *expected)
{
	for (int i = 0; i < LOOKS_MAX; i++) {
		json_t *s = netprog_port(names[port]);
		bool same = !strcmp(json_string_value(json_object_get(s, "connection")), expected);

		json_decref(s);
		if (same)
			return;
		usleep(10000);
	}
	fail_msg("the connection of %s is not %s", names[port], expected);
}

static int try_open(struct net *n, unsigned int port, bool packed)
{
	const struct net_conf conf = {
		.path = sock[port],
		.features = NET_FEATURES_ALL | (packed ? 1ull << VIRTIO_F_RING_PACKED : 0),
		.indirect = true,
		.no_ctrl = port != BAD,
	};

	return net_open(n, &conf);
}

static void open_port(struct net *n, unsigned int port, bool packed)
{
	assert_int_equal(try_open(n, port, packed), 0);
}

static int start(void **state)
{
	char arg[NR_PORTS][160], *args[NR_PORTS];

	/* Those that misbehave have a network of their own: what they flood would
	 * fill the rings of the others, as it does on any switch. */
	for (unsigned int i = 0; i < NR_PORTS; i++) {
		snprintf(arg[i], sizeof(arg[i]), "--port=name=%s,socket=%s,vlan=%d", names[i],
			 sock[i], i >= BAD ? 2 : 1);
		args[i] = arg[i];
	}
	netprog_start(server_path, control, args, NR_PORTS);
	open_port(&good[0], GOOD_A, false);
	open_port(&good[1], GOOD_B, true);
	netprog_wait();
	return 0;
}

static int stop(void **state)
{
	net_abandon(&good[0]);
	net_abandon(&good[1]);
	net_abandon(&sink);
	netprog_stop();
	return 0;
}

/* --- the two that talk ---------------------------------------------------------- */

static void make_frame(uint8_t *frame, uint8_t to, uint8_t from, uint32_t number)
{
	uint32_t seed = number;

	memcpy(frame, (const uint8_t[]){ 2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5 }, 14);
	memcpy(frame + 14, &number, sizeof(number));
	for (unsigned int i = 18; i < FRAME_LEN; i++)
		frame[i] = (uint8_t)fe_random(&seed);
}

static void send_some(struct net *from, uint32_t first, unsigned int nr)
{
	uint8_t frame[FRAME_LEN];

	for (uint32_t n = first; n < first + nr; n++) {
		make_frame(frame, from == &good[0] ? 2 : 1, from == &good[0] ? 1 : 2, n);
		assert_int_equal(net_add(from, 0, NULL, frame, sizeof(frame)), 0);
	}
	assert_int_equal(drv_submit(&from->tx[0].ring), 0);
	assert_int_equal(net_drain(from, 0), 0);
}

static void expect_some(struct net *to, uint32_t first, unsigned int nr)
{
	static struct net_frame got;
	uint8_t frame[FRAME_LEN];

	for (uint32_t n = first; n < first + nr; n++) {
		make_frame(frame, to == &good[0] ? 1 : 2, to == &good[0] ? 2 : 1, n);
		assert_int_equal(net_recv_wait(to, 0, &got), 1);
		assert_int_equal(got.len, FRAME_LEN);
		assert_memory_equal(got.data, frame, FRAME_LEN);
	}
}

/* Every frame, in order, both ways. */
static void the_others_talk(unsigned int rounds)
{
	static uint32_t number;

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int side = 0; side < 2; side++) {
			send_some(&good[side], number, WINDOW);
			expect_some(&good[!side], number, WINDOW);
		}
		number += WINDOW;
	}
}

/* --- those that misbehave -------------------------------------------------------- */

/* In a process of its own, until it is killed. No assertion in there. */
static pid_t misbehave(void (*how)(void), bool packed)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		/* The one before may not be gone yet. */
		while (try_open(&bad, BAD, packed) < 0)
			usleep(1000);
		how();
		net_abandon(&bad);
	}
}

static void end(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not before, of a failed assertion. */
	assert_true(WIFSIGNALED(status));
	wait_for_connection(BAD, "waiting");
}

static void wait_for_frames(uint64_t nr)
{
	uint64_t before = counter(BAD, NULL, "in-frames");

	for (int i = 0; i < LOOKS_MAX && counter(BAD, NULL, "in-frames") < before + nr; i++)
		the_others_talk(1);
	assert_true(counter(BAD, NULL, "in-frames") >= before + nr);
}

static void add_one(uint8_t to)
{
	static uint32_t number;
	uint8_t frame[FRAME_LEN];

	make_frame(frame, to, 9, number++);
	if (to == 0xff)
		memset(frame, 0xff, 6);
	net_add(&bad, 0, NULL, frame, sizeof(frame));
}

static void flood(void)
{
	for (;;) {
		for (unsigned int i = 0; i < 128; i++)
			add_one(i % 2 ? 0xff : 3);
		drv_submit(&bad.tx[0].ring);
	}
}

static void a_port_that_floods_one_that_never_takes_anything(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		uint64_t lost = counter(SINK, "drops", "no-buffer");
		pid_t pid;

		open_port(&sink, SINK, packed);
		pid = misbehave(flood, packed);
		wait_for_frames(50000);
		the_others_talk(100);
		/* It has a ring full of frames, and lost the others itself. */
		assert_true(counter(SINK, "drops", "no-buffer") > lost);
		end(pid);
		net_abandon(&sink);
		wait_for_connection(SINK, "waiting");
	}
}

static void a_port_that_dies_with_frames_in_flight(void **state)
{
	for (unsigned int i = 0; i < 12; i++) {
		pid_t pid = misbehave(flood, i % 2);

		wait_for_frames(300);
		end(pid);
		the_others_talk(2);
	}
}

/* Descriptors, indices, headers and frames change while they are read. A ring that
 * breaks of it is replaced. */
static void rewrite(void)
{
	struct drv_ring *r = &bad.tx[0].ring;
	static uint32_t seed;
	uint64_t turns = 0;

	if (!seed)
		seed = (uint32_t)getpid();
	for (unsigned int i = 0; i < 128; i++)
		add_one(i % 2 ? 0xff : 3);
	drv_submit(r);
	while (turns++ < 3000) {
		uint32_t what = fe_random(&seed), pos = fe_random(&seed) % r->size;
		struct virtq_desc *d = &r->desc[pos];
		struct pvirtq_desc *p = &r->pdesc[pos];
		uint8_t *slot = bad.tx[0].slot[pos].p;

		slot[what % 12] = (uint8_t)(what >> 8);
		slot[bad.hdr_len + what % 64] = (uint8_t)(what >> 16);
		if (r->packed) {
			p->len = cpu_to_le32(what % 3 ? FRAME_LEN : what >> 8);
			p->flags = cpu_to_le16(
				(uint16_t)((what & 7) | drv_packed_avail_flags(what >> 4 & 1)));
		} else {
			d->len = cpu_to_le32(what % 3 ? FRAME_LEN : what >> 8);
			d->flags = cpu_to_le16(what & 7);
			d->next = cpu_to_le16((uint16_t)(what >> 16));
			if (turns % 64 == 0)
				drv_raw_avail_idx(r, (uint16_t)(r->avail_idx + turns));
		}
		if (turns % 64 == 0)
			drv_kick(r);
	}
}

static void a_port_that_rewrites_its_transmit_ring_while_it_is_read(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		pid_t pid;

		open_port(&sink, SINK, false);
		pid = misbehave(rewrite, packed);
		wait_for_frames(2000);
		the_others_talk(100);
		end(pid);
		net_abandon(&sink);
		wait_for_connection(SINK, "waiting");
	}
}

/* --- the control queue -------------------------------------------------------------- */

/* Any class and command with any amount of anything, in pieces of any size. */
static void wrong_commands(void)
{
	static uint8_t data[300];
	static uint32_t seed;

	if (!seed)
		seed = (uint32_t)getpid();
	for (unsigned int i = 0; i < 500; i++) {
		uint32_t r = fe_random(&seed);

		for (unsigned int j = 0; j < sizeof(data); j++)
			data[j] = (uint8_t)(r % 2 ? fe_random(&seed) : r >> 24);
		net_ctrl_cut(&bad, (uint8_t)(r >> 8) % 8, (uint8_t)(r >> 16) % 8, data,
			     (r >> 20) % sizeof(data), (r >> 4) % 3 ? 0 : 3 + r % 64);
	}
}

/* Chains without an answer's place, without a command, all to be written, of many
 * pieces, and out of memory. */
static void wrong_chains(void)
{
	static const struct {
		uint64_t off;
		uint32_t len;
		unsigned int nr_out, nr_in;
	} shapes[] = {
		{ 0, 2, 1, 0 },	 { 0, 1, 1, 1 },	  { 0, 1, 0, 1 },	   { 0, 200, 0, 2 },
		{ 0, 1, 40, 1 }, { 0, UINT32_MAX, 1, 1 }, { 1ull << 60, 4, 1, 1 }, { 0, 3, 2, 40 },
	};
	struct drv_ring *r = &bad.ctrl.ring;
	struct drv_buf bufs[64];
	void *cookie;
	uint32_t len;

	for (unsigned int i = 0; i < 40; i++) {
		unsigned int s = i % ARRAY_SIZE(shapes);
		unsigned int nr = shapes[s].nr_out + shapes[s].nr_in;

		for (unsigned int j = 0; j < nr; j++)
			bufs[j] = (struct drv_buf){ bad.cmd_gpa + shapes[s].off, shapes[s].len };
		memset(bad.cmd, (int)i, 64);
		if (drv_add(r, bufs, shapes[s].nr_out, shapes[s].nr_in, &bad) < 0 ||
		    drv_submit(r) < 0 || drv_wait(r, &cookie, &len) < 0)
			return;
	}
}

/* A command changes while it is read: two processes share the memory. */
static void rewritten_commands(void)
{
	static const uint8_t macs[4 + 6 * 8 + 4 + 6 * 8] = { 8 };
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (uint32_t seed = 5; getppid() == parent;) {
			for (unsigned int i = 0; i < 100000; i++) {
				uint32_t r = fe_random(&seed);

				write_once(&bad.cmd[r % 16], (uint8_t)(r >> 8));
			}
		}
		_exit(0);
	}
	for (unsigned int i = 0; i < 2000; i++)
		net_ctrl(&bad, 1, 0, macs, sizeof(macs));
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static void wait_for_commands(uint64_t nr)
{
	uint64_t now = 0;

	for (int i = 0; i < LOOKS_MAX && now < nr; i++) {
		json_t *s = netprog_port(names[BAD]);
		json_t *q = json_object_get(s, "control-queue");

		now = (uint64_t)json_integer_value(json_object_get(q, "commands"));
		json_decref(s);
		the_others_talk(1);
	}
	assert_true(now >= nr);
}

static void a_control_queue_of_nonsense(void **state)
{
	static void (*const how[])(void) = { wrong_commands, wrong_chains, rewritten_commands };
	static const uint64_t commands[] = { 300, 3, 300 };

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(how); i++) {
		pid_t pid = misbehave(how[i / 2], i % 2);

		wait_for_commands(commands[i / 2]);
		the_others_talk(30);
		end(pid);
	}
}

static int setup_group(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	for (unsigned int i = 0; i < NR_PORTS; i++)
		snprintf(sock[i], sizeof(sock[i]), "%s/%s.sock", dir, names[i]);
	snprintf(control, sizeof(control), "%s/ctl.sock", dir);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(dir);
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_port_that_floods_one_that_never_takes_anything),
		T(a_port_that_dies_with_frames_in_flight),
		T(a_port_that_rewrites_its_transmit_ring_while_it_is_read),
		T(a_control_queue_of_nonsense),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s RINGBOLT-NET\n", argv[0]);
		return 2;
	}
	server_path = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
