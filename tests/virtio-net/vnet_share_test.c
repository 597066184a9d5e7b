/*
 * Receive rings that two loops fill, and rings that move between loops while
 * frames go: nothing lost, nothing doubled, nothing out of order, byte by byte.
 * With threads; for ThreadSanitizer.
 *
 * A sender never has more on the way than the receiver has buffers for, so every
 * frame must arrive. Nothing here looks at a clock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "tests/virtio-net/netrig.h"

#define BIT(n) (1ull << (n))
#define FRAMES 3000 /* of each flow */
#define WINDOW 20 /* of frames on the way */
#define SEQ_OFFSET 14

struct flow {
	unsigned int from;
	uint32_t sent, seen;
};

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static uint32_t len_of(uint32_t seq)
{
	return seq % 7 ? 64 + seq % 3 : 1400;
}

static void frame_of(uint8_t *bytes, const struct flow *f, uint32_t seq)
{
	rig_frame(bytes, RIG_MAC(0), RIG_MAC(f->from), len_of(seq), seq);
	memcpy(bytes + SEQ_OFFSET, &seq, sizeof(seq));
}

static void send_some(struct rig *r, struct flow *f)
{
	uint8_t bytes[1500];

	while (f->sent < FRAMES && f->sent - f->seen < WINDOW) {
		frame_of(bytes, f, f->sent);
		if (net_send(drv(r, f->from), 0, NULL, bytes, len_of(f->sent)) < 0)
			return;
		f->sent++;
	}
}

static void check(struct rig *r, struct flow *flows, unsigned int nr)
{
	uint8_t bytes[1500];

	for (unsigned int i = 0; i < nr; i++) {
		struct flow *f = &flows[i];

		if (memcmp(r->frame.data + 6, RIG_MAC(f->from), 6) != 0)
			continue;
		frame_of(bytes, f, f->seen);
		assert_int_equal(r->frame.len, len_of(f->seen));
		assert_memory_equal(r->frame.data, bytes, r->frame.len);
		f->seen++;
		return;
	}
	fail();
}

/* All frames of all flows, with step() in between. */
static void run(struct rig *r, struct flow *flows, unsigned int nr,
		void (*step)(struct rig *r, uint32_t round))
{
	for (uint32_t round = 0, done = 0; done < nr; round++) {
		for (unsigned int i = 0; i < nr; i++)
			send_some(r, &flows[i]);
		rig_pump(r);
		for (unsigned int pair = 0; pair < drv(r, 0)->pairs; pair++)
			while (net_recv(drv(r, 0), pair, &r->frame) == 1)
				check(r, flows, nr);
		if (step)
			step(r, round);
		done = 0;
		for (unsigned int i = 0; i < nr; i++)
			done += flows[i].seen == FRAMES;
		sched_yield();
	}
}

/* Three devices with one queue pair; port 0 is where all is sent to. */
static void open_all(struct rig *r, uint64_t features)
{
	for (unsigned int i = 0; i < RIG_PORTS; i++) {
		r->port[i].drv_conf.features = features | BIT(VIRTIO_NET_F_MRG_RXBUF);
		r->port[i].drv_conf.ring_size = 128;
		rig_serve(r, i);
		rig_connect(r, i);
	}
	/* So that nothing is flooded. */
	rig_send(r, 0, RIG_BROADCAST, RIG_MAC(0), 60, 0);
	for (unsigned int i = 1; i < RIG_PORTS; i++)
		assert_int_equal(net_recv_wait(drv(r, i), 0, &r->frame), 1);
}

static void expect_no_drops(struct rig *r)
{
	struct sw_port_stats sum;

	for (unsigned int i = 0; i < RIG_PORTS; i++) {
		sw_port_stats_sum(vnet_port(r->port[i].vn), &sum);
		for (int reason = 0; reason < DROP_REASON_CNT; reason++)
			assert_int_equal(sum.drops[reason], 0);
	}
}

static void two_loops_fill_one_ring(struct rig *r, uint64_t features)
{
	struct flow flows[] = { { .from = 1 }, { .from = 2 } };

	open_all(r, features);
	assert_int_equal(vnet_move(r->port[1].vn, -1, 0), 0);
	assert_int_equal(vnet_move(r->port[2].vn, -1, 1), 0);
	run(r, flows, 2, NULL);
	expect_no_drops(r);
}

static void two_loops_fill_one_split_ring(void **state)
{
	two_loops_fill_one_ring(*state, BIT(VIRTIO_F_RING_EVENT_IDX));
}

static void two_loops_fill_one_packed_ring(void **state)
{
	two_loops_fill_one_ring(*state, BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_RING_EVENT_IDX));
}

/* Operations on the receiver's ring while both fill it: what they change is the
 * same as before, so all frames arrive. */
static void sync_receiver(struct rig *r, uint32_t round)
{
	if (round % 5 == 0)
		assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 0, true), 0);
	if (round % 7 == 0)
		assert_int_equal(vnet_move(r->port[0].vn, 0, round / 7 % 2), 0);
	if (round % 9 == 0)
		assert_int_equal(fe_vring_fd(&drv(r, 0)->fe, FE_SET_VRING_CALL, 0,
					     drv(r, 0)->rx[0].ring.call_fd),
				 0);
}

static void a_ring_that_loops_fill_can_be_changed_meanwhile(void **state)
{
	struct flow flows[] = { { .from = 1 }, { .from = 2 } };
	struct rig *r = *state;

	open_all(r, 0);
	assert_int_equal(vnet_move(r->port[1].vn, -1, 0), 0);
	assert_int_equal(vnet_move(r->port[2].vn, -1, 1), 0);
	run(r, flows, 2, sync_receiver);
	expect_no_drops(r);
}

static void move_senders(struct rig *r, uint32_t round)
{
	assert_int_equal(vnet_move(r->port[1].vn, 0, round % 2), 0);
	if (round % 3 == 0)
		assert_int_equal(vnet_move(r->port[2].vn, -1, round / 3 % 2), 0);
}

static void moving(struct rig *r, uint64_t features)
{
	struct flow flows[] = { { .from = 1 }, { .from = 2 } };

	open_all(r, features);
	run(r, flows, 2, move_senders);
	expect_no_drops(r);
}

static void split_rings_move_while_frames_go(void **state)
{
	moving(*state, 0);
}

static void packed_rings_move_while_frames_go(void **state)
{
	moving(*state, BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup_threads, rig_teardown)

static const struct CMUnitTest tests[] = {
	TEST(two_loops_fill_one_split_ring),
	TEST(two_loops_fill_one_packed_ring),
	TEST(a_ring_that_loops_fill_can_be_changed_meanwhile),
	TEST(split_rings_move_while_frames_go),
	TEST(packed_rings_move_while_frames_go),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
