/*
 * Devices on loops with threads of their own: commands, links, rings and devices
 * change while frames go back and forth on two loops. For ThreadSanitizer; and
 * nothing may be doubled, broken or out of order for those who do not change.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/virtio-net/netrig.h"

#define ROUNDS 40
#define BURST 8
#define SEQ_OFFSET 14

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

/* Who sends numbered frames to whom, and what has come of it. */
struct flow {
	unsigned int from, to;
	uint32_t sent, seen;
};

static void send_some(struct rig *r, struct flow *f)
{
	uint8_t frame[80];

	for (int i = 0; i < BURST; i++) {
		rig_frame(frame, RIG_MAC(f->to), RIG_MAC(f->from), sizeof(frame), 0);
		memcpy(frame + SEQ_OFFSET, &f->sent, sizeof(f->sent));
		if (net_send(drv(r, f->from), 0, NULL, frame, sizeof(frame)) < 0)
			return;
		f->sent++;
	}
}

/* Frames of the flow, in order; others may come between them. */
static void receive_all(struct rig *r, struct flow *f)
{
	uint32_t seq;
	int ret;

	while ((ret = net_recv(drv(r, f->to), 0, &r->frame)) == 1) {
		if (memcmp(r->frame.data + 6, RIG_MAC(f->from), 6) != 0)
			continue;
		assert_int_equal(r->frame.len, 80);
		memcpy(&seq, r->frame.data + SEQ_OFFSET, sizeof(seq));
		assert_true(seq >= f->seen && seq < f->sent);
		f->seen = seq + 1;
	}
	assert_int_equal(ret, 0);
}

static void exchange(struct rig *r, struct flow *flows, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		send_some(r, &flows[i]);
	rig_pump(r);
	for (unsigned int i = 0; i < nr; i++)
		receive_all(r, &flows[i]);
}

/* Frames still flow: wait until one sent from now on arrives. */
static void expect_progress(struct rig *r, struct flow *f)
{
	uint32_t from = f->sent;

	while (f->seen <= from) {
		exchange(r, f, 1);
		usleep(100);
	}
}

/* --- what goes on beside --------------------------------------------------------------- */

static void command(struct rig *r, int round)
{
	uint8_t on = (uint8_t)(round & 1), table[8 + 6] = { 1 };
	le64 offloads = cpu_to_le64(round & 2 ? 1ull << VIRTIO_NET_F_GUEST_CSUM : 0);
	le16 pairs = cpu_to_le16((uint16_t)(1 + round % 2)), vid = cpu_to_le16(10);
	struct net *n = drv(r, 0);

	memcpy(table + 4, RIG_MAC(5), 6);
	assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, RIG_MAC(0),
				  6),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
				  sizeof(table)),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vid, 2),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, 8),
			 VIRTIO_NET_OK);
	if (net_has(n, VIRTIO_NET_F_MQ))
		assert_int_equal(net_ctrl(n, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
					  &pairs, 2),
				 VIRTIO_NET_OK);
}

static void commands_change_a_device_that_frames_come_to(void **state)
{
	struct flow flows[] = { { .from = 0, .to = 1 }, { .from = 1, .to = 0 } };
	struct rig *r = *state;

	r->port[0].conf.pairs = 2;
	r->port[0].drv_conf.pairs = 2;
	/* Of pair 1 nothing is read: it fills up, which must not matter. */
	rig_pair(r);
	for (int round = 0; round < ROUNDS; round++) {
		exchange(r, flows, 2);
		command(r, round);
	}
	expect_progress(r, &flows[0]);
}

static json_int_t nr_learned(struct rig *r, unsigned int i)
{
	json_t *status = sw_port_status(vnet_port(r->port[i].vn));
	json_int_t nr = json_integer_value(json_object_get(status, "learned-macs"));

	json_decref(status);
	return nr;
}

static void rings_and_links_change_while_frames_come(void **state)
{
	struct flow flows[] = { { .from = 0, .to = 1 }, { .from = 1, .to = 0 } };
	struct rig *r = *state;
	uint8_t mac[8] = { 2, 9 };

	rig_pair(r);
	for (int round = 0; round < ROUNDS; round++) {
		exchange(r, flows, 2);
		assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 0, round & 1), 0);
		exchange(r, flows, 2);
		assert_int_equal(vnet_set_link(r->port[0].vn, round & 2), 0);
		assert_int_equal(fe_request(&drv(r, 0)->fe, FE_SEND_RARP, mac, 8, NULL, 0), 0);
		assert_int_equal(fe_set_u64(&drv(r, 0)->fe, FE_NET_SET_MTU, 1500), 0);
		json_decref(vnet_status(r->port[0].vn));
	}
	assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 0, true), 0);
	for (int round = 0; round < ROUNDS; round++) {
		assert_int_equal(vnet_set_link(r->port[0].vn, true), 0);
		exchange(r, flows, 2);
		assert_int_equal(vnet_set_link(r->port[0].vn, false), 0);
		/* Nothing is known of it any more, whoever is learning at this moment. */
		do {
			exchange(r, flows, 2);
		} while (nr_learned(r, 0));
	}
	assert_int_equal(vnet_set_link(r->port[0].vn, true), 0);
	expect_progress(r, &flows[0]);
	expect_progress(r, &flows[1]);
}

static void rings_move_between_loops_while_frames_come(void **state)
{
	struct flow flows[] = { { .from = 0, .to = 1 }, { .from = 1, .to = 0 } };
	struct rig *r = *state;

	rig_pair(r);
	for (int round = 0; round < ROUNDS; round++) {
		exchange(r, flows, 2);
		assert_int_equal(vnet_move(r->port[round & 1].vn, -1, round / 2 % 2), 0);
		exchange(r, flows, 2);
		if (round % 4 == 0)
			command(r, 1);
	}
	expect_progress(r, &flows[0]);
	expect_progress(r, &flows[1]);
}

static void wait_listening(struct rig *r, unsigned int i)
{
	char *text = NULL;

	do {
		free(text);
		rig_pump(r);
		usleep(100);
		text = rig_status(r, i, "connection");
	} while (strcmp(text, "\"waiting\"") != 0);
	free(text);
}

static void drivers_and_devices_come_and_go_while_others_talk(void **state)
{
	struct flow flows[] = { { .from = 1, .to = 2 }, { .from = 2, .to = 1 } };
	uint8_t frame[60];
	struct rig *r = *state;

	rig_serve(r, 1);
	rig_serve(r, 2);
	rig_connect(r, 1);
	rig_connect(r, 2);
	rig_frame(frame, RIG_BROADCAST, RIG_MAC(0), sizeof(frame), 0);
	for (int round = 0; round < ROUNDS / 2; round++) {
		if (!r->port[0].vn)
			rig_serve(r, 0);
		exchange(r, flows, 2);
		assert_int_equal(net_open(drv(r, 0), &r->port[0].drv_conf), 0);
		for (int i = 0; i < 20; i++)
			net_send(drv(r, 0), 0, NULL, frame, sizeof(frame));
		exchange(r, flows, 2);
		if (round % 3 == 0)
			rig_remove(r, 0);
		else if (round % 3 == 1)
			assert_int_equal(
				fe_request(&drv(r, 0)->fe, FE_RESET_DEVICE, NULL, 0, NULL, 0), 0);
		net_abandon(drv(r, 0));
		if (r->port[0].vn)
			wait_listening(r, 0);
	}
	expect_progress(r, &flows[0]);
	expect_progress(r, &flows[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup_threads, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(commands_change_a_device_that_frames_come_to),
		TEST(rings_and_links_change_while_frames_come),
		TEST(rings_move_between_loops_while_frames_come),
		TEST(drivers_and_devices_come_and_go_while_others_talk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
