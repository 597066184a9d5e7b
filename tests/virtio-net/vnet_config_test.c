/*
 * Features and configuration space: what is offered, and what follows from what
 * was negotiated.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>

#include "tests/virtio-net/netrig.h"

#define BIT(n) (1ull << (n))

/* What every device of a network offers, whatever its set-up. */
#define OFFER_ALWAYS                                                                               \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |    \
	 BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) |                              \
	 BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6) |                             \
	 BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |  \
	 BIT(VIRTIO_NET_F_HOST_USO) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS) |     \
	 BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_F_RING_INDIRECT_DESC) |                             \
	 BIT(VIRTIO_F_RING_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_IN_ORDER))
#define OFFER_CTRL                                                                                 \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_VLAN) |     \
	 BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |                       \
	 BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE))
/* VIRTIO 1.3, "Feature bit requirements". */
#define NEEDS_CTRL_VQ                                                                              \
	(OFFER_CTRL | BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_RSS) | BIT(VIRTIO_NET_F_HASH_REPORT))

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static struct vnet_conf *conf(struct rig *r, unsigned int i)
{
	return &r->port[i].conf;
}

/* Serve port 0 with its present configuration and see what is offered. */
static uint64_t offered(struct rig *r)
{
	uint64_t f;

	rig_serve(r, 0);
	rig_connect(r, 0);
	f = drv(r, 0)->fe.offered;
	rig_abandon(r, 0);
	rig_remove(r, 0);
	/* Those of vhost-user come with all of them. */
	assert_true(f & BIT(FE_F_LOG_ALL) && f & BIT(FE_F_PROTOCOL_FEATURES));
	return f & ~(BIT(FE_F_LOG_ALL) | BIT(FE_F_PROTOCOL_FEATURES));
}

static void what_is_offered_follows_from_the_set_up(void **state)
{
	struct rig *r = *state;

	assert_int_equal(offered(r), OFFER_ALWAYS | OFFER_CTRL | BIT(VIRTIO_F_RING_PACKED));
	conf(r, 0)->packed = false;
	assert_int_equal(offered(r), OFFER_ALWAYS | OFFER_CTRL);
	conf(r, 0)->rss = true;
	assert_int_equal(offered(r), OFFER_ALWAYS | OFFER_CTRL | BIT(VIRTIO_NET_F_HASH_REPORT));
	conf(r, 0)->pairs = 2;
	assert_int_equal(offered(r), OFFER_ALWAYS | OFFER_CTRL | BIT(VIRTIO_NET_F_HASH_REPORT) |
					     BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_RSS));
	/* The front-end has a control queue of its own, or what are two pairs for? */
	conf(r, 0)->ctrl_vq = false;
	assert_int_equal(offered(r), OFFER_ALWAYS | BIT(VIRTIO_NET_F_MQ));
	/* Or there is none. */
	conf(r, 0)->pairs = 1;
	assert_int_equal(offered(r) & NEEDS_CTRL_VQ, 0);
	conf(r, 0)->mtu = 9000;
	conf(r, 0)->has_mac = true;
	memcpy(conf(r, 0)->mac, RIG_MAC(0), 6);
	conf(r, 0)->speed = 25000;
	assert_int_equal(offered(r), OFFER_ALWAYS | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_MAC) |
					     BIT(VIRTIO_NET_F_SPEED_DUPLEX));
}

static void a_pinned_set_loses_what_depends_on_what_it_lacks(void **state)
{
	struct rig *r = *state;

	conf(r, 0)->packed = false;
	conf(r, 0)->pairs = 2;
	conf(r, 0)->rss = true;
	conf(r, 0)->feature_mask = ~NEEDS_CTRL_VQ;
	assert_int_equal(offered(r), OFFER_ALWAYS);
	conf(r, 0)->ctrl_vq = false;
	conf(r, 0)->feature_mask = ~(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MQ));
	assert_int_equal(offered(r),
			 OFFER_ALWAYS &
				 ~(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
				   BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) |
				   BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6)));
	conf(r, 0)->pairs = 1;
	conf(r, 0)->feature_mask = ~BIT(VIRTIO_NET_F_CSUM);
	assert_int_equal(offered(r),
			 OFFER_ALWAYS & ~(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
					  BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
					  BIT(VIRTIO_NET_F_HOST_USO)));
	conf(r, 0)->speed = 25000;
	conf(r, 0)->feature_mask = ~BIT(VIRTIO_NET_F_STATUS);
	assert_int_equal(offered(r), OFFER_ALWAYS & ~BIT(VIRTIO_NET_F_STATUS));
	conf(r, 0)->speed = UINT32_MAX;
	conf(r, 0)->feature_mask = ~(BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6));
	assert_int_equal(offered(r), OFFER_ALWAYS & ~(BIT(VIRTIO_NET_F_GUEST_TSO4) |
						      BIT(VIRTIO_NET_F_GUEST_TSO6) |
						      BIT(VIRTIO_NET_F_GUEST_ECN)));
}

/* QEMU and DPDK's virtio-user keep CTRL_VQ from us, and all that only its commands
 * need, and take from us what else depends on it. */
static void what_a_guest_of_qemu_has_negotiated_is_offered_again(void **state)
{
	const uint64_t taken = BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |
			       BIT(VIRTIO_NET_F_RSS) | BIT(VIRTIO_NET_F_HASH_REPORT);
	struct rig *r = *state;

	conf(r, 0)->pairs = 2;
	conf(r, 0)->rss = true;
	conf(r, 0)->feature_mask = OFFER_ALWAYS | taken;
	assert_int_equal(offered(r), OFFER_ALWAYS | taken);
	conf(r, 0)->feature_mask = ~BIT(VIRTIO_NET_F_CTRL_VQ);
	conf(r, 0)->packed = false;
	assert_int_equal(offered(r), OFFER_ALWAYS | taken);
}

static void a_choice_without_its_requirements_has_no_effect(void **state)
{
	struct rig *r = *state;

	r->port[0].drv_conf.features = BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_USO4);
	rig_pair(r);
	rig_assert_status(r, 0, "guest-offloads", "[]");
	rig_disconnect(r, 0);
	r->port[0].drv_conf.features = BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	rig_connect(r, 0);
	rig_assert_status(r, 0, "guest-offloads", "[\"csum\", \"tso6\"]");
	rig_talk(r, 0, 1);
}

static void the_header_is_as_long_as_the_features_say(void **state)
{
	static const struct {
		uint64_t features;
		bool legacy;
		const char *len;
	} cases[] = {
		{ 0, true, "10" },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), true, "12" },
		{ 0, false, "12" },
		{ BIT(VIRTIO_NET_F_MRG_RXBUF), false, "12" },
		{ BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_HASH_REPORT), false, "20" },
		{ BIT(VIRTIO_NET_F_HASH_REPORT) | BIT(VIRTIO_NET_F_MRG_RXBUF), false, "20" },
	};
	struct rig *r = *state;

	conf(r, 0)->rss = true;
	rig_pair(r);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig_disconnect(r, 0);
		r->port[0].drv_conf.features = cases[i].features;
		r->port[0].drv_conf.legacy = cases[i].legacy;
		rig_connect(r, 0);
		rig_assert_status(r, 0, "header-length", cases[i].len);
		rig_talk(r, 0, 1);
		assert_int_equal(le16_to_cpu(r->frame.hdr.hash_report), 0);
	}
}

static void the_configuration_space_says_what_the_operator_said(void **state)
{
	struct rig *r = *state;
	struct virtio_net_config c;

	conf(r, 0)->pairs = 3;
	conf(r, 0)->mtu = 9000;
	conf(r, 0)->speed = 25000;
	conf(r, 0)->has_mac = true;
	memcpy(conf(r, 0)->mac, RIG_MAC(0), 6);
	rig_pair(r);
	c = drv(r, 0)->config;
	assert_memory_equal(c.mac, RIG_MAC(0), 6);
	assert_int_equal(le16_to_cpu(c.status), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(le16_to_cpu(c.max_virtqueue_pairs), 3);
	assert_int_equal(le16_to_cpu(c.mtu), 9000);
	assert_int_equal(le32_to_cpu(c.speed), 25000);
	assert_int_equal(c.duplex, 1);
	assert_true(c.rss_max_key_size >= 40);
	assert_true(le16_to_cpu(c.rss_max_indirection_table_length) >= 128);
	assert_int_equal(le32_to_cpu(c.supported_hash_types), 0x1ff);
	c = drv(r, 1)->config;
	assert_int_equal(le32_to_cpu(c.speed), UINT32_MAX);
	assert_int_equal(c.duplex, 0xff);
	assert_int_equal(le16_to_cpu(c.mtu), 0);
}

static void only_an_old_driver_writes_its_address_into_the_space(void **state)
{
	struct rig *r = *state;
	uint8_t config[6];

	conf(r, 0)->has_mac = true;
	memcpy(conf(r, 0)->mac, RIG_MAC(0), 6);
	rig_pair(r);
	assert_int_equal(fe_set_config(&drv(r, 0)->fe, 0, RIG_MAC(7), 6, 0), -EREMOTEIO);
	/* The other side of a migration had whatever it had. */
	assert_int_equal(fe_set_config(&drv(r, 0)->fe, 0, RIG_MAC(7), 6, 1), 0);
	rig_disconnect(r, 0);
	r->port[0].drv_conf.legacy = true;
	r->port[0].drv_conf.features = BIT(VIRTIO_NET_F_MAC);
	rig_connect(r, 0);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(fe_set_config(&drv(r, 0)->fe, i, RIG_MAC(7) + i, 1, 0), 0);
	assert_int_equal(fe_set_config(&drv(r, 0)->fe, 6, config, 1, 0), -EREMOTEIO);
	assert_int_equal(fe_set_config(&drv(r, 0)->fe, 5, config, 2, 0), -EREMOTEIO);
	assert_int_equal(fe_get_config(&drv(r, 0)->fe, 0, config, 6), 0);
	assert_memory_equal(config, RIG_MAC(7), 6);
	/* Until it goes. */
	rig_disconnect(r, 0);
	rig_connect(r, 0);
	assert_memory_equal(drv(r, 0)->config.mac, RIG_MAC(0), 6);
}

static void frames_longer_than_the_mtu_are_dropped_both_ways(void **state)
{
	struct rig *r = *state;

	conf(r, 0)->mtu = 2000;
	rig_pair(r);
	rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), 2015, 1);
	rig_expect_nothing(r, 1);
	assert_int_equal(rig_dropped(r, 0, DROP_TOO_LONG), 1);
	rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), 2014, 1);
	rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), 2014, 1);
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 2015, 1);
	rig_expect_nothing(r, 0);
	assert_int_equal(rig_dropped(r, 0, DROP_MTU_OUT), 1);

	/* The front-end has told its driver less, and may not tell it more. */
	assert_int_equal(fe_set_u64(&drv(r, 0)->fe, FE_NET_SET_MTU, 2001), -EREMOTEIO);
	assert_int_equal(fe_set_u64(&drv(r, 0)->fe, FE_NET_SET_MTU, 67), -EREMOTEIO);
	assert_int_equal(fe_set_u64(&drv(r, 0)->fe, FE_NET_SET_MTU, 1400), 0);
	rig_assert_status(r, 0, "mtu", "1400");
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 1415, 1);
	rig_expect_nothing(r, 0);
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 1414, 1);
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), 1414, 1);
	/* As long as it is there. */
	rig_disconnect(r, 0);
	rig_assert_status(r, 0, "mtu", "2000");
	assert_int_equal(fe_set_u64(&drv(r, 1)->fe, FE_NET_SET_MTU, 65536), -EREMOTEIO);
	assert_int_equal(fe_set_u64(&drv(r, 1)->fe, FE_NET_SET_MTU, 65535), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_offered_follows_from_the_set_up),
		TEST(a_pinned_set_loses_what_depends_on_what_it_lacks),
		TEST(what_a_guest_of_qemu_has_negotiated_is_offered_again),
		TEST(a_choice_without_its_requirements_has_no_effect),
		TEST(the_header_is_as_long_as_the_features_say),
		TEST(the_configuration_space_says_what_the_operator_said),
		TEST(only_an_old_driver_writes_its_address_into_the_space),
		TEST(frames_longer_than_the_mtu_are_dropped_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
