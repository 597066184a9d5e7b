/*
 * Whole network devices behind their sockets: their rings, and how devices and
 * drivers come, change and go.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tests/virtio-net/netrig.h"

#define BIT(n) (1ull << (n))

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static struct vnet_conf *conf(struct rig *r, unsigned int i)
{
	return &r->port[i].conf;
}

static void every_kind_of_ring_carries_every_length(void **state)
{
	static const uint32_t lens[] = { 14, 60, 63, 64, 65, 128, 1514, 1600, 2036, 2037 };
	struct rig *r = *state;

	rig_pair(r);
	for (unsigned int kind = 0; kind < 32; kind++) {
		bool mergeable = kind & 8;

		rig_disconnect(r, 0);
		r->port[0].drv_conf.features = (kind & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
					       (kind & 2 ? BIT(VIRTIO_F_IN_ORDER) : 0) |
					       (kind & 4 ? BIT(VIRTIO_F_RING_EVENT_IDX) : 0) |
					       (mergeable ? BIT(VIRTIO_NET_F_MRG_RXBUF) : 0) |
					       BIT(VIRTIO_F_RING_INDIRECT_DESC);
		r->port[0].drv_conf.indirect = kind & 16;
		rig_connect(r, 0);
		for (unsigned int i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), lens[i], i);
			if (lens[i] + 12 > 2048 && !mergeable)
				rig_expect_nothing(r, 0);
			else
				rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), lens[i], i);
			rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), lens[i], i);
			rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), lens[i], i);
		}
	}
}

static void a_ring_that_has_no_role_is_refused(void **state)
{
	struct rig *r = *state;
	struct drv_conf ring = { .size = 64 };
	struct drv_ring extra;

	conf(r, 0)->pairs = 2;
	r->port[0].drv_conf.features = BIT(VIRTIO_NET_F_CTRL_VQ);
	rig_pair(r);
	ring.region = drv(r, 0)->region;
	/* Behind two pairs there is no control ring, as MQ was not negotiated. */
	assert_int_equal(drv_create(&extra, &drv(r, 0)->fe, 4, &ring), 0);
	assert_int_equal(drv_start(&extra), -EREMOTEIO);
	drv_destroy(&extra);
	rig_talk(r, 0, 1);
}

static void without_protocol_features_the_rings_work(void **state)
{
	struct rig *r = *state;
	struct net *n;

	rig_serve(r, 0);
	rig_connect(r, 0);
	rig_abandon(r, 0);
	/* An old front-end: nothing but the first twelve messages. */
	r->port[1].drv_conf.proto_without = ~0ull;
	r->port[1].drv_conf.features = BIT(VIRTIO_NET_F_MRG_RXBUF);
	rig_serve(r, 1);
	rig_connect(r, 1);
	n = drv(r, 1);
	assert_false(fe_has(&n->fe, FE_F_PROTOCOL_FEATURES));
	rig_connect(r, 0);
	rig_talk(r, 0, 1);
}

static void configure(struct rig *r)
{
	const uint8_t off = 0;
	le64 offloads = cpu_to_le64(0);

	assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off,
				  1),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
				  RIG_MAC(0), 6),
			 VIRTIO_NET_OK);
	assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, 8),
			 VIRTIO_NET_OK);
}

/* By what configure() has changed. */
static bool is_configured(struct rig *r)
{
	char *mac = rig_status(r, 0, "mac"), *filter = rig_status(r, 0, "filter");
	char *offloads = rig_status(r, 0, "guest-offloads");
	bool set = strcmp(mac, "null") != 0;

	assert_int_equal(set, strstr(filter, "\"promiscuous\": false") != NULL);
	assert_true(!set || !strcmp(offloads, "[]"));
	free(mac);
	free(filter);
	free(offloads);
	return set;
}

static void what_a_driver_has_set_goes_with_the_driver(void **state)
{
	struct rig *r = *state;
	uint8_t mac[6];
	struct net *n;

	rig_pair(r);
	n = drv(r, 0);
	configure(r);
	assert_true(is_configured(r));
	/* The front-end goes. */
	rig_disconnect(r, 0);
	assert_false(is_configured(r));
	rig_connect(r, 0);
	rig_talk(r, 0, 1);

	/* The device is reset. */
	configure(r);
	assert_int_equal(fe_request(&n->fe, FE_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	assert_false(is_configured(r));
	rig_abandon(r, 0);
	rig_connect(r, 0);

	/* The rings stop and go on: it is the same driver. */
	configure(r);
	assert_int_equal(drv_stop(&n->ctrl.ring), 0);
	assert_true(is_configured(r));
	assert_int_equal(drv_start(&n->ctrl.ring), 0);
	assert_true(is_configured(r));
	/* It begins anew: another one, or the same loaded again. */
	assert_int_equal(drv_stop(&n->ctrl.ring), 0);
	drv_set_base(&n->ctrl.ring, 0);
	assert_int_equal(drv_start(&n->ctrl.ring), 0);
	rig_assert_status(r, 0, "guest-offloads",
			  "[\"csum\", \"tso4\", \"tso6\", \"ecn\", \"uso4\", \"uso6\"]");
	rig_talk(r, 0, 1);
	/* Without a reset, the address is what it has read in the configuration. */
	assert_int_equal(fe_get_config(&n->fe, 0, mac, 6), 0);
	assert_memory_equal(mac, RIG_MAC(0), 6);
	rig_assert_status(r, 0, "mac", "\"02:00:00:00:00:10\"");
}

/* Linux's virtio_uml stops no ring when a driver goes: it disables them, and sets
 * them up again when one comes. */
static void rings_are_set_up_anew_when_they_were_disabled(void **state)
{
	struct rig *r = *state;
	struct net *n;

	rig_pair(r);
	n = drv(r, 0);
	for (int other = 0; other < 2; other++) {
		uint64_t features = n->fe.features;

		configure(r);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(fe_vring_enable(&n->fe, i, false), 0);
		rig_assert_status(r, 0, "active-pairs", "0");
		if (other)
			features &= ~BIT(VIRTIO_NET_F_GUEST_TSO4);
		assert_int_equal(fe_set_u64(&n->fe, FE_SET_FEATURES, features), 0);
		assert_int_equal(net_restart(n), 0);
		rig_assert_status(r, 0, "guest-offloads",
				  other ? "[\"csum\", \"tso6\", \"ecn\", \"uso4\", \"uso6\"]"
					: "[\"csum\", \"tso4\", \"tso6\", \"ecn\", \"uso4\", "
					  "\"uso6\"]");
		rig_talk(r, 0, 1);
		configure(r);
	}
	/* But not while they are enabled. */
	assert_int_equal(fe_set_u64(&n->fe, FE_SET_FEATURES, n->fe.features & ~BIT(1)), -EREMOTEIO);
	rig_talk(r, 0, 1);
}

static void other_features_are_another_driver(void **state)
{
	struct rig *r = *state;
	struct net *n;
	uint32_t base;

	rig_pair(r);
	n = drv(r, 0);
	configure(r);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(fe_get_vring_base(&n->fe, i, &base), 0);
	assert_int_equal(fe_set_u64(&n->fe, FE_SET_FEATURES, n->fe.features), 0);
	assert_true(is_configured(r));
	assert_int_equal(fe_set_u64(&n->fe, FE_SET_FEATURES,
				    n->fe.features & ~BIT(VIRTIO_NET_F_GUEST_TSO4)),
			 0);
	assert_false(is_configured(r));
}

static void addresses_learned_from_a_driver_go_with_it(void **state)
{
	struct rig *r = *state;

	rig_pair(r);
	rig_serve(r, 2);
	rig_connect(r, 2);
	rig_send(r, 0, RIG_BROADCAST, RIG_MAC(0), 60, 0);
	rig_expect(r, 1, 0, RIG_BROADCAST, RIG_MAC(0), 60, 0);
	rig_expect(r, 2, 0, RIG_BROADCAST, RIG_MAC(0), 60, 0);
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 1);
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), 60, 1);
	rig_expect_nothing(r, 2);
	rig_abandon(r, 0);
	/* It is looked for again. */
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 2);
	rig_expect(r, 2, 0, RIG_MAC(0), RIG_MAC(1), 60, 2);
}

static void a_port_without_a_driver_drops_and_counts(void **state)
{
	struct rig *r = *state;

	rig_serve(r, 0);
	rig_serve(r, 1);
	rig_connect(r, 1);
	rig_send(r, 1, RIG_BROADCAST, RIG_MAC(1), 60, 1);
	assert_int_equal(rig_dropped(r, 0, DROP_LINK_DOWN), 1);
	rig_connect(r, 0);
	rig_talk(r, 0, 1);
	rig_disconnect(r, 0);
	rig_send(r, 1, RIG_BROADCAST, RIG_MAC(1), 60, 1);
	assert_int_equal(rig_dropped(r, 0, DROP_LINK_DOWN), 2);
}

static void devices_may_go_while_frames_come(void **state)
{
	struct rig *r = *state;
	uint8_t frame[60];

	rig_serve(r, 2);
	rig_connect(r, 2);
	rig_frame(frame, RIG_BROADCAST, RIG_MAC(2), sizeof(frame), 1);
	for (int round = 0; round < 20; round++) {
		rig_pair(r);
		/* In the middle of everything, at another moment each time. */
		for (int i = 0; i < round; i++) {
			net_send(drv(r, 2), 0, NULL, frame, sizeof(frame));
			net_send(drv(r, 0), 0, NULL, frame, sizeof(frame));
			if (i % 3 == 0)
				rig_pump(r);
		}
		/* The front-end first, or the device. */
		if (round % 2)
			net_abandon(drv(r, 0));
		rig_remove(r, 0);
		rig_remove(r, 1);
		if (!(round % 2))
			net_abandon(drv(r, 0));
		net_abandon(drv(r, 1));
		r->port[0].connected = false;
		r->port[1].connected = false;
		while (net_recv(drv(r, 2), 0, &r->frame) == 1)
			;
	}
	rig_serve(r, 0);
	rig_connect(r, 0);
	rig_talk(r, 2, 0);
}

static void rings_move_between_loops_and_nothing_is_lost(void **state)
{
	struct rig *r = *state;
	const uint8_t off = 0;
	char *rings;

	conf(r, 0)->pairs = 2;
	r->port[0].drv_conf.pairs = 2;
	rig_pair(r);
	configure(r);
	for (unsigned int i = 0; i < 6; i++) {
		/* Sent before the move, taken after it. */
		uint8_t frame[60];

		rig_frame(frame, RIG_MAC(1), RIG_MAC(0), sizeof(frame), i);
		assert_int_equal(net_send(drv(r, 0), 0, NULL, frame, sizeof(frame)), 0);
		assert_int_equal(vnet_move(r->port[0].vn, i % 3 ? -1 : 0, i % 2), 0);
		rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), sizeof(frame), i);
		rig_settle(r);
		assert_true(is_configured(r));
		rig_assert_status(r, 0, "active-pairs", "1");
		rig_talk(r, 1, 0);
		assert_int_equal(net_ctrl(drv(r, 0), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC,
					  &off, 1),
				 VIRTIO_NET_OK);
	}
	assert_int_equal(vnet_move(r->port[0].vn, -1, 1), 0);
	rig_settle(r);
	rings = rig_status(r, 0, "rings");
	assert_null(strstr(rings, "\"loop\": 0"));
	free(rings);
	assert_int_equal(vnet_move(r->port[0].vn, 2, 0), -EINVAL);
	assert_int_equal(vnet_move(r->port[0].vn, 0, RIG_LOOPS), -EINVAL);
	assert_int_equal(vnet_move(r->port[0].vn, INT_MAX, 0), -EINVAL);
}

/* What is left of a device that could not be made is for its user to destroy. */
static void expect_refused(struct rig *r, unsigned int i, const struct vnet_conf *wrong,
			   int expected)
{
	r->err[0] = '\0';
	assert_int_equal(vnet_create(wrong, &r->port[i].vn, r->err), expected);
	assert_true(strlen(r->err) > 10);
	if (r->port[i].vn)
		rig_remove(r, i);
	rig_settle(r);
}

static void wrong_set_ups_are_refused_and_leave_nothing(void **state)
{
	struct rig *r = *state;
	struct vnet_conf good = *conf(r, 0);

#define REFUSED(expected, ...)                                                                     \
	do {                                                                                       \
		struct vnet_conf c_ = good;                                                        \
		__VA_ARGS__;                                                                       \
		expect_refused(r, 0, &c_, expected);                                               \
		assert_null(sw_port_next(r->sw, NULL));                                            \
	} while (0)
	REFUSED(-EINVAL, c_.pairs = 0);
	REFUSED(-EINVAL, c_.pairs = 65);
	REFUSED(-EINVAL, c_.mtu = 67);
	REFUSED(-EINVAL, c_.has_mac = true);
	REFUSED(-EINVAL, c_.has_mac = true; memset(c_.mac, 0xff, 6));
	REFUSED(-EINVAL, c_.socket = NULL);
	REFUSED(-ENOENT, c_.socket = "/nonexistent/directory/socket");
	REFUSED(-EINVAL, c_.port.vlan = 5000);
	REFUSED(-EINVAL, c_.name = "");
#undef REFUSED
	rig_serve(r, 0);
	expect_refused(r, 1, conf(r, 0), -EEXIST);
	conf(r, 1)->socket = r->port[0].path;
	expect_refused(r, 1, conf(r, 1), -EADDRINUSE);
	assert_null(sw_port_find(r->sw, "p1"));
	rig_connect(r, 0);
}

static void frames_go_from_one_driver_to_another(void **state)
{
	struct rig *r = *state;

	rig_pair(r);
	rig_talk(r, 0, 1);
	rig_expect_nothing(r, 0);
	rig_expect_nothing(r, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_go_from_one_driver_to_another),
		TEST(every_kind_of_ring_carries_every_length),
		TEST(a_ring_that_has_no_role_is_refused),
		TEST(without_protocol_features_the_rings_work),
		TEST(what_a_driver_has_set_goes_with_the_driver),
		TEST(rings_are_set_up_anew_when_they_were_disabled),
		TEST(other_features_are_another_driver),
		TEST(addresses_learned_from_a_driver_go_with_it),
		TEST(a_port_without_a_driver_drops_and_counts),
		TEST(devices_may_go_while_frames_come),
		TEST(rings_move_between_loops_and_nothing_is_lost),
		TEST(wrong_set_ups_are_refused_and_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
