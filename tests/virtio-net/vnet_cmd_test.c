/*
 * Commands of the control queue: every one in its right shape has its effect, in
 * every wrong one it is refused and nothing has changed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>

#include "tests/virtio-net/framekit.h"
#include "tests/virtio-net/netrig.h"

#define BIT(n) (1ull << (n))

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

/* --- receive modes ------------------------------------------------------------- */

static void a_driver_that_says_nothing_gets_everything(void **state)
{
	struct rig *r = *state;

	rig_pair_for_commands(r);
	assert_true(rig_reaches(r, RIG_MAC(0)));
	assert_true(rig_reaches(r, RIG_MAC(7)));
	assert_true(rig_reaches(r, RIG_MULTICAST(1)));
	assert_true(rig_reaches(r, RIG_BROADCAST));
}

static void without_promiscuous_mode_only_its_own_and_broadcast_arrive(void **state)
{
	struct rig *r = *state;

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	assert_true(rig_reaches(r, RIG_MAC(0)));
	assert_false(rig_reaches(r, RIG_MAC(7)));
	assert_false(rig_reaches(r, RIG_MULTICAST(1)));
	assert_true(rig_reaches(r, RIG_BROADCAST));
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, true);
	assert_true(rig_reaches(r, RIG_MAC(7)));
	assert_true(rig_reaches(r, RIG_MULTICAST(1)));
}

static void all_and_no_modes_hold_for_their_kind_of_address(void **state)
{
	struct rig *r = *state;

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	rig_mode(r, VIRTIO_NET_CTRL_RX_ALLMULTI, true);
	assert_true(rig_reaches(r, RIG_MULTICAST(1)));
	assert_false(rig_reaches(r, RIG_MAC(7)));
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOMULTI, true);
	assert_false(rig_reaches(r, RIG_MULTICAST(1)));
	assert_true(rig_reaches(r, RIG_BROADCAST));
	rig_mode(r, VIRTIO_NET_CTRL_RX_ALLUNI, true);
	assert_true(rig_reaches(r, RIG_MAC(7)));
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOUNI, true);
	assert_false(rig_reaches(r, RIG_MAC(7)));
	assert_false(rig_reaches(r, RIG_MAC(0)));
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOBCAST, true);
	assert_false(rig_reaches(r, RIG_BROADCAST));
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOBCAST, false);
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOUNI, false);
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOMULTI, false);
	assert_true(rig_reaches(r, RIG_BROADCAST));
	assert_true(rig_reaches(r, RIG_MAC(7)));
	assert_true(rig_reaches(r, RIG_MULTICAST(1)));
}

static void addresses_of_the_tables_arrive(void **state)
{
	struct rig *r = *state;
	uint8_t data[2048];

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	RIG_OK(r, MAC, TABLE_SET, data, rig_mac_table(data, 3, 5, 1));
	assert_true(rig_reaches(r, RIG_MAC(3)));
	assert_false(rig_reaches(r, RIG_MAC(4)));
	assert_true(rig_reaches(r, RIG_MULTICAST(5)));
	assert_false(rig_reaches(r, RIG_MULTICAST(6)));
	assert_true(rig_reaches(r, RIG_MAC(0)));
	/* A table replaces the one before. */
	RIG_OK(r, MAC, TABLE_SET, data, rig_mac_table(data, 0, 1, 6));
	assert_false(rig_reaches(r, RIG_MAC(3)));
	assert_false(rig_reaches(r, RIG_MULTICAST(5)));
	assert_true(rig_reaches(r, RIG_MULTICAST(6)));
}

static void a_table_larger_than_ours_lets_everything_of_its_kind_pass(void **state)
{
	static uint8_t data[70000];
	struct rig *r = *state;

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	RIG_OK(r, MAC, TABLE_SET, data, rig_mac_table(data, 128, 128, 0));
	assert_false(rig_reaches(r, RIG_MAC(200)));
	RIG_OK(r, MAC, TABLE_SET, data, rig_mac_table(data, 129, 1, 0));
	assert_true(rig_reaches(r, RIG_MAC(200)));
	assert_false(rig_reaches(r, RIG_MULTICAST(200)));
	RIG_OK(r, MAC, TABLE_SET, data, rig_mac_table(data, 1, 4000, 0));
	assert_false(rig_reaches(r, RIG_MAC(200)));
	assert_true(rig_reaches(r, RIG_MULTICAST(200)));
	/* And one larger than any command. */
	RIG_NO(r, MAC, TABLE_SET, data, rig_mac_table(data, 11000, 0, 0));
	assert_true(rig_reaches(r, RIG_MULTICAST(200)));
}

static void a_new_address_is_its_own(void **state)
{
	struct rig *r = *state;
	uint8_t config[6];

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	RIG_OK(r, MAC, ADDR_SET, RIG_MAC(9), 6);
	assert_true(rig_reaches(r, RIG_MAC(9)));
	assert_false(rig_reaches(r, RIG_MAC(0)));
	assert_int_equal(fe_get_config(&drv(r, 0)->fe, 0, config, 6), 0);
	assert_memory_equal(config, RIG_MAC(9), 6);
	RIG_NO(r, MAC, ADDR_SET, RIG_BROADCAST, 6);
	assert_true(rig_reaches(r, RIG_MAC(9)));
}

static void a_driver_without_a_known_address_gets_all_unicast(void **state)
{
	struct rig *r = *state;

	rig_pair(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	assert_true(rig_reaches(r, RIG_MAC(0)));
	assert_true(rig_reaches(r, RIG_MAC(7)));
	assert_false(rig_reaches(r, RIG_MULTICAST(7)));
	RIG_OK(r, MAC, ADDR_SET, RIG_MAC(0), 6);
	assert_true(rig_reaches(r, RIG_MAC(0)));
	assert_false(rig_reaches(r, RIG_MAC(7)));
}

/* A tagged frame for everybody, from port 1. */
static bool vlan_reaches(struct rig *r, uint16_t vid)
{
	uint8_t frame[64] = { 0 };

	rig_frame(frame, RIG_BROADCAST, RIG_MAC(1), sizeof(frame), 1);
	frame[12] = 0x81;
	frame[13] = 0;
	frame[14] = (uint8_t)(vid >> 8);
	frame[15] = (uint8_t)vid;
	assert_int_equal(net_send(drv(r, 1), 0, NULL, frame, sizeof(frame)), 0);
	assert_int_equal(net_drain(drv(r, 1), 0), 0);
	rig_settle(r);
	return net_recv(drv(r, 0), 0, &r->frame) == 1;
}

static void tagged_frames_arrive_of_the_vlans_asked_for(void **state)
{
	struct rig *r = *state;
	le16 vid = cpu_to_le16(10);

	rig_pair_for_commands(r);
	assert_true(vlan_reaches(r, 10));
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	assert_false(vlan_reaches(r, 10));
	/* A priority is no VLAN. */
	assert_true(vlan_reaches(r, 0));
	assert_true(rig_reaches(r, RIG_BROADCAST));
	RIG_OK(r, VLAN, ADD, &vid, 2);
	assert_true(vlan_reaches(r, 10));
	assert_false(vlan_reaches(r, 11));
	RIG_OK(r, VLAN, DEL, &vid, 2);
	assert_false(vlan_reaches(r, 10));
	vid = cpu_to_le16(4096);
	RIG_NO(r, VLAN, ADD, &vid, 2);
	vid = cpu_to_le16(4095);
	RIG_OK(r, VLAN, ADD, &vid, 2);
	rig_assert_status(r, 0, "active-pairs", "1");
}

/* --- queues -------------------------------------------------------------------- */

static void one_pair_is_used_until_the_driver_asks_for_more(void **state)
{
	struct rig *r = *state;
	le16 pairs = cpu_to_le16(3);

	rig_pair_for_commands(r);
	rig_assert_status(r, 0, "active-pairs", "1");
	RIG_OK(r, MQ, VQ_PAIRS_SET, &pairs, 2);
	rig_assert_status(r, 0, "active-pairs", "3");
	/* A ring in the middle that is switched off ends what is used. */
	assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 2, false), 0);
	rig_assert_status(r, 0, "active-pairs", "1");
	assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 2, true), 0);
	rig_assert_status(r, 0, "active-pairs", "3");
	for (unsigned int bad = 0; bad <= RIG_PAIRS + 1; bad += RIG_PAIRS + 1) {
		pairs = cpu_to_le16((uint16_t)bad);
		RIG_NO(r, MQ, VQ_PAIRS_SET, &pairs, 2);
	}
	rig_assert_status(r, 0, "active-pairs", "3");
	rig_talk(r, 1, 0);
}

static void a_front_end_with_a_control_queue_of_its_own_enables_rings(void **state)
{
	struct rig *r = *state;

	r->port[0].conf.pairs = RIG_PAIRS;
	r->port[0].drv_conf.pairs = RIG_PAIRS;
	r->port[0].drv_conf.no_ctrl = true;
	rig_pair(r);
	rig_assert_status(r, 0, "active-pairs", "4");
	for (uint32_t i = 1; i < RIG_PAIRS; i++) {
		assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 2 * i, false), 0);
		assert_int_equal(fe_vring_enable(&drv(r, 0)->fe, 2 * i + 1, false), 0);
	}
	rig_assert_status(r, 0, "active-pairs", "1");
	rig_talk(r, 0, 1);
}

static void a_driver_without_multiqueue_has_its_control_queue_behind_one_pair(void **state)
{
	struct rig *r = *state;

	r->port[0].conf.pairs = RIG_PAIRS;
	r->port[0].drv_conf.features =
		NET_FEATURES_ALL & ~(BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_RSS));
	rig_pair(r);
	assert_int_equal(drv(r, 0)->ctrl.ring.index, 2);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, true);
	rig_assert_status(r, 0, "active-pairs", "1");
	rig_talk(r, 0, 1);
}

/* The layout of the specification, built by hand. */
struct rss {
	uint32_t types;
	uint16_t mask, unclassified;
	uint16_t table[256];
	uint16_t max_tx;
	uint8_t key_len;
	uint8_t key[256];
};

static const struct rss good_rss = {
	.types = VIRTIO_NET_HASH_TYPE_IPv4 | VIRTIO_NET_HASH_TYPE_UDPv4,
	.mask = 7,
	.unclassified = 2,
	.table = { 3, 3, 3, 3, 3, 3, 3, 3 },
	.max_tx = 4,
	.key_len = 40,
	.key = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2 },
};

static uint32_t put_le(uint8_t *p, uint64_t v, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> 8 * i);
	return bytes;
}

static uint32_t rss_bytes(uint8_t *p, const struct rss *rss, unsigned int table_len)
{
	uint32_t n = put_le(p, rss->types, 4);

	n += put_le(p + n, rss->mask, 2);
	n += put_le(p + n, rss->unclassified, 2);
	for (unsigned int i = 0; i < table_len; i++)
		n += put_le(p + n, rss->table[i], 2);
	n += put_le(p + n, rss->max_tx, 2);
	n += put_le(p + n, rss->key_len, 1);
	memcpy(p + n, rss->key, rss->key_len);
	return n + rss->key_len;
}

static void steering_by_hash_chooses_the_queue(void **state)
{
	struct rig *r = *state;
	struct rss rss = good_rss;
	uint8_t data[1024];
	char *text;

	rig_pair_for_commands(r);
	RIG_OK(r, MQ, RSS_CONFIG, data, rss_bytes(data, &rss, 8));
	rig_assert_status(r, 0, "active-pairs", "4");
	/* Not IP: the unclassified queue, and no hash. */
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 3);
	rig_expect(r, 0, 2, RIG_MAC(0), RIG_MAC(1), 60, 3);
	assert_int_equal(le16_to_cpu(r->frame.hdr.hash_report), VIRTIO_NET_HASH_REPORT_NONE);
	/* The driver goes back to our choice. */
	RIG_OK(r, MQ, VQ_PAIRS_SET, &(le16){ htole16(1) }, 2);
	text = rig_status(r, 0, "rss");
	assert_non_null(strstr(text, "\"table\": []"));
	free(text);
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 60, 4);
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), 60, 4);
}

/* What port 0 was given and what was dropped on the way to it. */
static uint64_t accounted_for(struct rig *r)
{
	struct sw_port_stats sum;
	uint64_t nr;

	sw_port_stats_sum(vnet_port(r->port[0].vn), &sum);
	nr = sum.out_frames;
	for (unsigned int i = 0; i < DROP_REASON_CNT; i++)
		nr += sum.drops[i];
	return nr;
}

static void every_frame_is_counted_once_when_the_last_ring_breaks(void **state)
{
	struct rss rss = good_rss;
	struct rig *r = *state;
	struct kit_frame ip;
	uint8_t data[512];
	uint64_t before;

	rss.unclassified = 0;
	for (unsigned int i = 0; i < 8; i++)
		rss.table[i] = 1;
	kit_build(&(struct kit_spec){ .proto = IP_PROTO_UDP, .payload = 50 }, &ip);
	memcpy(ip.bytes, RIG_MAC(0), 6);
	memcpy(ip.bytes + 6, RIG_MAC(1), 6);
	rig_pair_for_commands(r);
	RIG_OK(r, MQ, RSS_CONFIG, data, rss_bytes(data, &rss, 8));
	rig_assert_status(r, 0, "active-pairs", "2");
	drv_raw_avail_idx(&drv(r, 0)->rx[1].ring, 20000);
	assert_int_equal(net_send(drv(r, 1), 0, NULL, ip.bytes, ip.len), 0);
	assert_int_equal(net_drain(drv(r, 1), 0), 0);

	/* Three frames for the first queue, which breaks, then three for any other. */
	drv_raw_avail_idx(&drv(r, 0)->rx[0].ring, 20000);
	before = accounted_for(r);
	rig_frame(data, RIG_MAC(0), RIG_MAC(1), 60, 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(net_add(drv(r, 1), 0, NULL, data, 60), 0);
		assert_int_equal(net_add(drv(r, 1), 0, NULL, ip.bytes, ip.len), 0);
	}
	assert_int_equal(drv_submit(&drv(r, 1)->tx[0].ring), 0);
	assert_int_equal(net_drain(drv(r, 1), 0), 0);
	assert_int_equal(accounted_for(r) - before, 6);
	assert_int_equal(rig_dropped(r, 0, DROP_LINK_DOWN), 3);
}

static void wrong_rss_parameters_are_refused(void **state)
{
	struct rig *r = *state;
	uint8_t data[1024];
	struct rss rss;

	rig_pair_for_commands(r);
#define BAD(change, table_len)                                                                     \
	do {                                                                                       \
		rss = good_rss;                                                                    \
		change;                                                                            \
		RIG_NO(r, MQ, RSS_CONFIG, data, rss_bytes(data, &rss, table_len));                 \
	} while (0)
	BAD(rss.mask = 6, 7);
	BAD(rss.mask = 255, 256);
	BAD(rss.mask = 0xffff, 8);
	BAD(rss.mask = 15, 8);
	BAD(rss.types = 1u << 9, 8);
	BAD(rss.unclassified = RIG_PAIRS, 8);
	BAD(rss.unclassified = 0x8000, 8);
	BAD(rss.table[7] = RIG_PAIRS, 8);
	BAD(rss.max_tx = 0, 8);
	BAD(rss.max_tx = RIG_PAIRS + 1, 8);
	BAD(rss.key_len = 41, 8);
	BAD(rss.key_len = 255, 8);
#undef BAD
	rss = good_rss;
	for (uint32_t len = rss_bytes(data, &rss, 8); len-- > 0;)
		RIG_NO(r, MQ, RSS_CONFIG, data, len);
	RIG_NO(r, MQ, RSS_CONFIG, data, rss_bytes(data, &rss, 8) + 1);
	rig_assert_status(r, 0, "rss", "null");
	/* What Linux says when it wants no hash at all. */
	rss.types = 0;
	rss.key_len = 0;
	RIG_OK(r, MQ, RSS_CONFIG, data, rss_bytes(data, &rss, 8));
}

static uint32_t hash_bytes(uint8_t *p, uint32_t types, uint8_t key_len)
{
	uint32_t n = put_le(p, types, 4);

	memset(p + n, 0, 8);
	n += 8;
	n += put_le(p + n, key_len, 1);
	memset(p + n, 0x5a, key_len);
	return n + key_len;
}

static void hashes_can_be_asked_for_without_steering(void **state)
{
	struct rig *r = *state;
	uint8_t data[512];
	char *text;

	rig_pair_for_commands(r);
	RIG_OK(r, MQ, HASH_CONFIG, data, hash_bytes(data, VIRTIO_NET_HASH_TYPE_IPv4, 40));
	text = rig_status(r, 0, "rss");
	assert_non_null(strstr(text, "\"table\": []"));
	free(text);
	/* Asking for pairs keeps it. */
	RIG_OK(r, MQ, VQ_PAIRS_SET, &(le16){ htole16(2) }, 2);
	text = rig_status(r, 0, "rss");
	assert_non_null(strstr(text, "\"key-length\": 40"));
	free(text);
	for (uint32_t len = hash_bytes(data, 1, 8); len-- > 0;)
		RIG_NO(r, MQ, HASH_CONFIG, data, len);
	RIG_NO(r, MQ, HASH_CONFIG, data, hash_bytes(data, 1u << 31, 8));
	RIG_NO(r, MQ, HASH_CONFIG, data, hash_bytes(data, 1, 41));
	rig_assert_status(r, 0, "active-pairs", "2");
	rig_talk(r, 1, 0);
}

/* --- the rest, and what is none of them ------------------------------------------ */

static void guest_offloads_are_those_the_driver_wants_now(void **state)
{
	struct rig *r = *state;
	le64 on = cpu_to_le64(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4));

	rig_pair_for_commands(r);
	rig_assert_status(r, 0, "guest-offloads",
			  "[\"csum\", \"tso4\", \"tso6\", \"ecn\", \"uso4\", \"uso6\"]");
	RIG_OK(r, GUEST_OFFLOADS, SET, &on, 8);
	rig_assert_status(r, 0, "guest-offloads", "[\"csum\", \"tso4\"]");
	/* Segments without checksums make no sense. */
	on = cpu_to_le64(BIT(VIRTIO_NET_F_GUEST_TSO4));
	RIG_OK(r, GUEST_OFFLOADS, SET, &on, 8);
	rig_assert_status(r, 0, "guest-offloads", "[]");
	on = cpu_to_le64(BIT(VIRTIO_NET_F_GUEST_UFO));
	RIG_NO(r, GUEST_OFFLOADS, SET, &on, 8);
	on = cpu_to_le64(BIT(VIRTIO_NET_F_CSUM));
	RIG_NO(r, GUEST_OFFLOADS, SET, &on, 8);
	on = cpu_to_le64(0);
	RIG_OK(r, GUEST_OFFLOADS, SET, &on, 8);
	rig_talk(r, 0, 1);
}

static void every_length_but_the_right_one_is_refused(void **state)
{
	static const struct {
		uint8_t class_id, command;
		uint32_t len;
	} commands[] = {
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1 },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1 },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8 },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 6 },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 2 },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, 2 },
		{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, 0 },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 8 },
	};
	struct rig *r = *state;
	uint8_t data[32] = { 0 };
	int ack;

	rig_pair_for_commands(r);
	for (unsigned int i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		for (uint32_t len = 0; len <= sizeof(data); len++) {
			ack = net_ctrl(drv(r, 0), commands[i].class_id, commands[i].command, data,
				       len);
			assert_int_equal(ack,
					 len == commands[i].len ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
		}
	}
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, true);
	rig_mode(r, VIRTIO_NET_CTRL_RX_NOBCAST, false);
	rig_talk(r, 1, 0);
}

static void tables_that_lie_about_their_size_are_refused(void **state)
{
	struct rig *r = *state;
	uint8_t data[256];
	uint32_t len;

	rig_pair_for_commands(r);
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
	for (int i = 0; i < 6; i++) {
		static const uint32_t lies[] = { 0, 1, 3, 4, 0x2aaaaaab, UINT32_MAX };

		len = rig_mac_table(data, 2, 2, 1);
		put_le(data, lies[i], 4);
		RIG_NO(r, MAC, TABLE_SET, data, len);
		len = rig_mac_table(data, 2, 2, 1);
		put_le(data + 16, lies[i], 4);
		RIG_NO(r, MAC, TABLE_SET, data, len);
	}
	assert_false(rig_reaches(r, RIG_MAC(2)));
}

static void unknown_and_unnegotiated_commands_are_refused(void **state)
{
	struct rig *r = *state;
	uint8_t zero[8] = { 0 };

	r->port[0].drv_conf.features = BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_VLAN) |
				       BIT(VIRTIO_NET_F_MRG_RXBUF);
	rig_pair(r);
	for (unsigned int id = 0; id < 256; id++)
		for (unsigned int command = 0; command < 8; command++)
			assert_int_equal(
				net_ctrl(drv(r, 0), (uint8_t)id, (uint8_t)command, zero, 2),
				id == VIRTIO_NET_CTRL_VLAN && command < 2 ? VIRTIO_NET_OK
									  : VIRTIO_NET_ERR);
	rig_talk(r, 1, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_driver_that_says_nothing_gets_everything),
		TEST(without_promiscuous_mode_only_its_own_and_broadcast_arrive),
		TEST(all_and_no_modes_hold_for_their_kind_of_address),
		TEST(addresses_of_the_tables_arrive),
		TEST(a_table_larger_than_ours_lets_everything_of_its_kind_pass),
		TEST(a_new_address_is_its_own),
		TEST(a_driver_without_a_known_address_gets_all_unicast),
		TEST(tagged_frames_arrive_of_the_vlans_asked_for),
		TEST(one_pair_is_used_until_the_driver_asks_for_more),
		TEST(a_front_end_with_a_control_queue_of_its_own_enables_rings),
		TEST(a_driver_without_multiqueue_has_its_control_queue_behind_one_pair),
		TEST(steering_by_hash_chooses_the_queue),
		TEST(every_frame_is_counted_once_when_the_last_ring_breaks),
		TEST(wrong_rss_parameters_are_refused),
		TEST(hashes_can_be_asked_for_without_steering),
		TEST(guest_offloads_are_those_the_driver_wants_now),
		TEST(every_length_but_the_right_one_is_refused),
		TEST(tables_that_lie_about_their_size_are_refused),
		TEST(unknown_and_unnegotiated_commands_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
