/*
 * What the network is told of a driver, and the driver of the network: link, RARP,
 * GUEST_ANNOUNCE.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/virtio-net/netrig.h"

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static struct vnet_conf *conf(struct rig *r, unsigned int i)
{
	return &r->port[i].conf;
}

static uint16_t link_status(struct rig *r, unsigned int i)
{
	le16 status;

	assert_int_equal(fe_get_config(&drv(r, i)->fe, offsetof(struct virtio_net_config, status),
				       &status, sizeof(status)),
			 0);
	return le16_to_cpu(status);
}

static void expect_config_change(struct rig *r, unsigned int i)
{
	struct fe_msg msg;

	assert_int_equal(fe_backend_recv(&drv(r, i)->fe, &msg, 10000), 0);
	assert_int_equal(msg.hdr.request, FE_BACKEND_CONFIG_CHANGE_MSG);
}

static int send_rarp(struct rig *r, unsigned int i, const uint8_t *mac)
{
	uint8_t payload[8] = { 0 };

	memcpy(payload, mac, 6);
	return fe_request(&drv(r, i)->fe, FE_SEND_RARP, payload, sizeof(payload), NULL, 0);
}

static void a_link_that_is_down_carries_nothing_and_says_so(void **state)
{
	struct rig *r = *state;
	json_t *macs;

	rig_pair(r);
	rig_talk(r, 0, 1);
	assert_int_equal(vnet_set_link(r->port[0].vn, false), 0);
	expect_config_change(r, 0);
	assert_int_equal(link_status(r, 0), 0);
	rig_assert_status(r, 0, "link", "\"down\"");
	rig_assert_status(r, 0, "active-pairs", "0");
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 1);
	rig_expect_nothing(r, 0);
	/* Neither from it: nothing arrives, and nobody learns that it is there. */
	rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), 60, 1);
	rig_expect_nothing(r, 1);
	assert_int_equal(rig_dropped(r, 0, DROP_DISABLED_IN), 1);
	assert_int_equal(send_rarp(r, 0, RIG_MAC(0)), 0);
	rig_expect_nothing(r, 1);
	macs = vswitch_mac_table(r->sw);
	assert_int_equal(json_array_size(macs), 1);
	json_decref(macs);
	assert_int_equal(vnet_set_link(r->port[0].vn, true), 0);
	expect_config_change(r, 0);
	assert_int_equal(link_status(r, 0), VIRTIO_NET_S_LINK_UP);
	rig_talk(r, 1, 0);
}

static void a_rarp_tells_the_network_where_a_driver_is(void **state)
{
	struct rig *r = *state;
	const uint8_t *f = r->frame.data;

	rig_pair(r);
	rig_serve(r, 2);
	rig_connect(r, 2);
	/* It was seen behind port 2 before. */
	rig_send(r, 2, RIG_BROADCAST, RIG_MAC(0), 60, 1);
	for (unsigned int i = 0; i < 2; i++)
		rig_expect(r, i, 0, RIG_BROADCAST, RIG_MAC(0), 60, 1);
	assert_int_equal(send_rarp(r, 0, RIG_MAC(0)), 0);
	for (unsigned int i = 1; i < 3; i++) {
		assert_int_equal(net_recv_wait(drv(r, i), 0, &r->frame), 1);
		assert_int_equal(r->frame.len, 60);
		assert_memory_equal(f, RIG_BROADCAST, 6);
		assert_memory_equal(f + 6, RIG_MAC(0), 6);
		assert_memory_equal(f + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
		assert_memory_equal(f + 22, RIG_MAC(0), 6);
		assert_memory_equal(f + 28, "\0\0\0\0", 4);
		assert_memory_equal(f + 32, RIG_MAC(0), 6);
		assert_memory_equal(f + 38, "\0\0\0\0", 4);
	}
	/* The switch holds an address where it was seen a moment ago: a front-end
	 * announces more than once. */
	do {
		usleep(1000);
		assert_int_equal(send_rarp(r, 0, RIG_MAC(0)), 0);
		rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 2);
		rig_settle(r);
		for (unsigned int i = 1; i < 3; i++)
			while (net_recv(drv(r, i), 0, &r->frame) == 1)
				;
	} while (!net_recv(drv(r, 0), 0, &r->frame));
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 3);
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), 60, 3);
	rig_expect_nothing(r, 2);
	/* No station has such an address. */
	assert_int_equal(send_rarp(r, 0, RIG_BROADCAST), -EREMOTEIO);
	rig_expect_nothing(r, 1);
}

static void many_rarps_at_once_end_with_the_last(void **state)
{
	struct rig *r = *state;
	uint8_t payload[8] = { 0 };

	rig_pair(r);
	for (unsigned int i = 0; i < 30; i++) {
		memcpy(payload, RIG_MAC(i), 6);
		assert_int_equal(fe_send(&drv(r, 0)->fe, FE_SEND_RARP, FE_VERSION, payload,
					 sizeof(payload), NULL, 0),
				 0);
	}
	rig_settle(r);
	while (net_recv(drv(r, 1), 0, &r->frame) == 1)
		;
	assert_memory_equal(r->frame.data + 6, RIG_MAC(29), 6);
	/* And with one on its way. */
	assert_int_equal(send_rarp(r, 0, RIG_MAC(0)), 0);
	rig_remove(r, 0);
}

/* The back-end is another process, or another machine: the rings stand somewhere,
 * what the driver had said is lost. */
static void a_driver_that_was_running_before_announces_itself(void **state)
{
	struct rig *r = *state;
	const uint8_t off = 0;

	conf(r, 0)->pairs = 2;
	r->port[0].drv_conf.pairs = 2;
	conf(r, 0)->has_mac = true;
	memcpy(conf(r, 0)->mac, RIG_MAC(0), 6);
	rig_pair(r);
	assert_int_equal(link_status(r, 0), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off,
				  1),
			 VIRTIO_NET_OK);
	rig_remove(r, 0);
	rig_serve(r, 0);
	fe_disconnect(&drv(r, 0)->fe);
	assert_int_equal(net_reconnect(drv(r, 0)), 0);
	expect_config_change(r, 0);
	assert_int_equal(link_status(r, 0), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	/* Everything arrives, by all queues, with no offload. */
	rig_assert_status(r, 0, "active-pairs", "2");
	rig_assert_status(r, 0, "guest-offloads", "[]");
	rig_talk(r, 1, 0);
	assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK,
				  NULL, 0),
			 VIRTIO_NET_OK);
	assert_int_equal(link_status(r, 0), VIRTIO_NET_S_LINK_UP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_link_that_is_down_carries_nothing_and_says_so),
		TEST(a_rarp_tells_the_network_where_a_driver_is),
		TEST(many_rarps_at_once_end_with_the_last),
		TEST(a_driver_that_was_running_before_announces_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
