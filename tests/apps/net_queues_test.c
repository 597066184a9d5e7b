/*
 * ringbolt-net with as many queues as there can be, all of them in use, and with a
 * load that shows in the figures about loops and rings.
 *
 * Arguments: the program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/apps/netprog.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/frontend/netdrv.h"

#define PAIRS NET_PAIRS_MAX
#define FRAME_LEN 100
#define LOOKS_MAX 200

static const char *server_path;
static char dir[] = "/tmp/ringbolt-apps-XXXXXX";
static char sock[2][64], control[64];
static struct net wide, other;

static void start_program(void)
{
	char arg[2][160], *args[] = { arg[0], arg[1] };

	snprintf(arg[0], sizeof(arg[0]), "--port=name=wide,socket=%s,queues=%d", sock[0], PAIRS);
	snprintf(arg[1], sizeof(arg[1]), "--port=name=other,socket=%s", sock[1]);
	netprog_start(server_path, control, args, ARRAY_SIZE(args));
}

static int stop(void **state)
{
	net_abandon(&wide);
	net_abandon(&other);
	netprog_stop();
	return 0;
}

static int start(void **state)
{
	const bool packed = *(const bool *)*state;
	struct net_conf conf = {
		.path = sock[0],
		.pairs = PAIRS,
		.ring_size = 64,
		.features = NET_FEATURES_ALL | (packed ? 1ull << VIRTIO_F_RING_PACKED : 0),
	};

	start_program();
	assert_int_equal(net_open(&wide, &conf), 0);
	assert_int_equal(wide.pairs, PAIRS);
	conf.path = sock[1];
	conf.pairs = 1;
	conf.ring_size = 256;
	assert_int_equal(net_open(&other, &conf), 0);
	netprog_wait();
	return 0;
}

static void make_frame(uint8_t *frame, uint8_t to, uint8_t from, uint8_t number)
{
	memset(frame, number, FRAME_LEN);
	memcpy(frame, (const uint8_t[]){ 2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5 }, 14);
}

/* How many rings of a port are in that state. */
static unsigned int count_rings(const char *name, const char *wanted)
{
	json_t *s = netprog_port(name), *ring;
	unsigned int nr = 0;
	size_t i;

	json_array_foreach(json_object_get(s, "rings"), i, ring) nr +=
		!strcmp(json_string_value(json_object_get(ring, "state")), wanted);
	json_decref(s);
	return nr;
}

static void all_64_pairs_carry_frames_beside_a_control_queue(void **state)
{
	static struct net_frame got;
	uint8_t frame[FRAME_LEN];
	unsigned int nr = 0;
	uint16_t pairs;
	json_t *s;

	assert_int_equal(count_rings("wide", "started"), 2 * PAIRS + 1);
	for (pairs = PAIRS; pairs; pairs /= 4) {
		assert_int_equal(net_ctrl(&wide, VIRTIO_NET_CTRL_MQ,
					  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs)),
				 VIRTIO_NET_OK);
		s = netprog_port("wide");
		assert_int_equal(json_integer_value(json_object_get(s, "active-pairs")), pairs);
		json_decref(s);
		for (unsigned int i = 0; i < pairs; i++) {
			make_frame(frame, 2, 1, (uint8_t)i);
			assert_int_equal(net_send(&wide, i, NULL, frame, sizeof(frame)), 0);
			assert_int_equal(net_drain(&wide, i), 0);
			assert_int_equal(net_recv_wait(&other, 0, &got), 1);
			assert_int_equal(got.len, sizeof(frame));
			assert_memory_equal(got.data, frame, sizeof(frame));
			/* An answer comes back, on whichever of the active ones. */
			make_frame(frame, 1, 2, (uint8_t)i);
			assert_int_equal(net_send(&other, 0, NULL, frame, sizeof(frame)), 0);
			assert_int_equal(net_drain(&other, 0), 0);
			for (nr = 0; !net_recv(&wide, nr % pairs, &got); nr++)
				if (nr % pairs == 0)
					usleep(100);
			assert_memory_equal(got.data, frame, sizeof(frame));
		}
	}
}

/* Of a loop, or of a ring. */
static double busy_of(json_t *all, const char *list, size_t i)
{
	json_t *obj = json_array_get(json_object_get(all, list), i);

	return json_number_value(json_object_get(obj, "busy"));
}

static void flood(void)
{
	uint8_t frame[FRAME_LEN];

	make_frame(frame, 9, 1, 1);
	for (unsigned int i = 0; i < 2000; i++) {
		while (net_add(&wide, 0, NULL, frame, sizeof(frame)) < 0)
			if (drv_submit(&wide.tx[0].ring) < 0)
				return;
		if (i % 32 == 31)
			drv_submit(&wide.tx[0].ring);
	}
}

static void a_load_shows_in_loops_and_transmit_rings(void **state)
{
	double loop = 0, tx = 0, rx = 0, idle = 1;
	json_t *all, *port;

	for (int i = 0; i < LOOKS_MAX && (loop <= 0 || tx <= 0); i++) {
		flood();
		all = netprog_call("status", NULL);
		port = json_array_get(json_object_get(all, "ports"), 0);
		loop = busy_of(all, "loops", 0);
		rx = busy_of(port, "rings", 0);
		tx = busy_of(port, "rings", 1);
		idle = busy_of(port, "rings", 3);
		json_decref(all);
	}
	assert_true(loop > 0 && loop <= 1);
	assert_true(tx > 0 && tx <= 1);
	/* What is put into a receive ring is the sender's work. */
	assert_true(rx == 0);
	assert_true(idle == 0);
}

static int setup_group(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(sock[0], sizeof(sock[0]), "%s/wide.sock", dir);
	snprintf(sock[1], sizeof(sock[1]), "%s/other.sock", dir);
	snprintf(control, sizeof(control), "%s/ctl.sock", dir);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(dir);
}

int main(int argc, char **argv)
{
	static bool split = false, packed = true;
#define BOTH(f)                                                                                    \
	{ #f " (split)", f, start, stop, &split },                                                 \
	{                                                                                          \
#f " (packed)", f, start, stop, &packed                                            \
	}
	const struct CMUnitTest tests[] = {
		BOTH(all_64_pairs_carry_frames_beside_a_control_queue),
		BOTH(a_load_shows_in_loops_and_transmit_rings),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: %s RINGBOLT-NET\n", argv[0]);
		return 2;
	}
	server_path = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
