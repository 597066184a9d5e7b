/*
 * Receive rings: a frame fits into whatever buffers the driver gave, or is dropped
 * for the right reason; what the driver cannot take is done for it; and which
 * receive queue a frame goes to.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/netrig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/virtio-net/framekit.h"
#include "virtio-net/net_spec.h"

#define BIT(n) (1ull << (n))
#define HDR 12 /* bytes of a header with num_buffers */
#define MERGEABLE BIT(VIRTIO_NET_F_MRG_RXBUF)
#define KINDS 4

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static struct sw_port_stats stats(struct rig *r, unsigned int i)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(vnet_port(r->port[i].vn), &sum);
	return sum;
}

static uint64_t dropped(struct rig *r, enum drop_reason reason)
{
	return stats(r, 0).drops[reason];
}

static uint64_t kind_features(unsigned int kind)
{
	return BIT(VIRTIO_F_RING_INDIRECT_DESC) | (kind & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) |
	       (kind & 2 ? BIT(VIRTIO_F_IN_ORDER) : 0);
}

/* Port 0 with these features and receive buffers; port 1 sends to it. */
static void open_receiver(struct rig *r, uint64_t features, uint32_t buf_len, uint16_t size)
{
	r->port[0].drv_conf.features = features;
	r->port[0].drv_conf.buf_len = buf_len;
	r->port[0].drv_conf.ring_size = size;
	rig_connect(r, 0);
	/* Port 1 is where the switch learns it is. */
	rig_send(r, 1, RIG_BROADCAST, RIG_MAC(1), 60, 0);
	while (net_recv(drv(r, 0), 0, &r->frame) == 1)
		;
}

static void serve_both(struct rig *r)
{
	rig_serve(r, 0);
	rig_serve(r, 1);
	rig_connect(r, 1);
}

static void send(struct rig *r, uint32_t len, uint32_t seed)
{
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), len, seed);
}

static void expect(struct rig *r, uint32_t len, uint32_t seed)
{
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), len, seed);
}

/* Use up all of port 0's buffers without giving them back. */
static void take_all_buffers(struct rig *r)
{
	struct drv_ring *rx = &drv(r, 0)->rx[0].ring;
	uint32_t len;
	void *cookie;

	while (rx->inflight) {
		send(r, 60, 0);
		while (drv_reap(rx, &cookie, &len) == 1)
			;
	}
	assert_int_equal(dropped(r, DROP_NO_BUFFER), 0);
}

/* Give port 0 one chain: pieces of a slot's memory of these lengths. */
static void give(struct rig *r, unsigned int slot, const uint32_t *lens, unsigned int nr)
{
	struct net_ring *rx = &drv(r, 0)->rx[0];
	struct drv_buf bufs[DRV_TABLE_MAX];
	uint32_t at = 0;

	for (unsigned int i = 0; i < nr; i++) {
		bufs[i] = (struct drv_buf){ rx->slot[slot].gpa + at, lens[i] };
		at += lens[i];
	}
	assert_true(drv_add(&rx->ring, bufs, 0, nr, &rx->slot[slot]) >= 0);
	assert_int_equal(drv_submit(&rx->ring), 0);
}

/* The next used chain is this slot's, with so many bytes written. */
static struct net_slot *expect_used(struct rig *r, unsigned int slot, uint32_t written)
{
	struct net_ring *rx = &drv(r, 0)->rx[0];
	uint32_t len = UINT32_MAX;
	void *cookie = NULL;

	assert_int_equal(drv_reap(&rx->ring, &cookie, &len), 1);
	assert_ptr_equal(cookie, &rx->slot[slot]);
	assert_int_equal(len, written);
	return cookie;
}

static void expect_unused(struct rig *r)
{
	uint32_t len;
	void *cookie;

	assert_int_equal(drv_reap(&drv(r, 0)->rx[0].ring, &cookie, &len), 0);
}

/* A slot holds a header of num_buffers and this frame. */
static void expect_bytes(const struct net_slot *slot, uint32_t len, uint32_t seed)
{
	static uint8_t bytes[NET_FRAME_MAX];
	struct virtio_net_hdr_mrg hdr = { .num_buffers = cpu_to_le16(1) };

	rig_frame(bytes, RIG_MAC(0), RIG_MAC(1), len, seed);
	assert_memory_equal(slot->p, &hdr, HDR);
	assert_memory_equal(slot->p + HDR, bytes, len);
}

/* --- buffers ------------------------------------------------------------------------- */

static void a_frame_is_merged_from_as_many_buffers_as_it_takes(void **state)
{
	static const uint32_t buf_lens[] = { 12, 13, 20, 64, 77, 100, 1526, 2048 };
	static const uint32_t lens[] = { 14, 52, 60, 64, 65, 88, 89, 188, 1514 };
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		for (unsigned int b = 0; b < ARRAY_SIZE(buf_lens); b++) {
			open_receiver(r, MERGEABLE | kind_features(kind), buf_lens[b], 256);
			for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
				uint32_t need = HDR + lens[i], nr = (need - 1) / buf_lens[b] + 1;

				send(r, lens[i], i);
				expect(r, lens[i], i);
				assert_int_equal(r->frame.nr_buffers, nr);
			}
			rig_disconnect(r, 0);
		}
	}
	assert_int_equal(stats(r, 0).out_frames, stats(r, 1).in_frames);
}

static void long_frames_go_through_small_buffers_many_times(void **state)
{
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		open_receiver(r, MERGEABLE | kind_features(kind), 512, 256);
		for (uint32_t i = 0; i < 40; i++) {
			send(r, 60000 + i, i);
			send(r, 60 + i, i);
			expect(r, 60000 + i, i);
			expect(r, 60 + i, i);
		}
		rig_disconnect(r, 0);
	}
}

static void a_chain_of_several_buffers_is_filled_in_order(void **state)
{
	static const struct {
		uint32_t len[5];
		unsigned int nr;
	} cuts[] = {
		{ { HDR, 2000 }, 2 },	     { { 10, 2000 }, 2 },
		{ { 1, 11, 1, 2000 }, 4 },   { { HDR + 13, 1, 2000 }, 3 },
		{ { 1, 1, 1, 1, 2040 }, 5 }, { { 100, 100, 1900 }, 3 },
	};
	static const uint32_t lens[] = { 14, 60, 100, 1514 };
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < 4 * KINDS; kind++) {
		uint64_t features = kind & KINDS ? MERGEABLE : 0;

		r->port[0].drv_conf.indirect = kind & 2 * KINDS;
		open_receiver(r, features | kind_features(kind), 2048, 16);
		take_all_buffers(r);
		for (unsigned int c = 0; c < ARRAY_SIZE(cuts); c++) {
			for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
				give(r, c, cuts[c].len, cuts[c].nr);
				send(r, lens[i], i);
				expect_bytes(expect_used(r, c, HDR + lens[i]), lens[i], i);
			}
		}
		rig_disconnect(r, 0);
	}
}

/* Whatever was in the buffer. */
static void the_header_of_a_plain_frame_is_zero(void **state)
{
	struct rig *r = *state;

	r->port[0].conf.rss = true;
	serve_both(r);
	for (unsigned int kind = 0; kind < 8; kind++) {
		struct net_ring *rx = &drv(r, 0)->rx[0];

		r->port[0].drv_conf.legacy = kind == 6;
		open_receiver(r,
			      (kind & 1 ? MERGEABLE : 0) |
				      (kind == 7 ? BIT(VIRTIO_NET_F_HASH_REPORT) |
							   BIT(VIRTIO_NET_F_CTRL_VQ)
						 : 0),
			      2048, 16);
		assert_int_equal(drv(r, 0)->hdr_len, kind == 7 ? 20 : kind == 6 ? 10 : HDR);
		for (unsigned int i = 0; i < 40; i++) {
			for (unsigned int s = 0; s < 16; s++)
				memset(rx->slot[s].p, (int)(i * 51), 24);
			send(r, 100, i);
			expect(r, 100, i);
			assert_int_equal(r->frame.hdr.mrg.hdr.flags, 0);
			assert_int_equal(r->frame.hdr.mrg.hdr.gso_type, 0);
			assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.hdr_len), 0);
			assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.gso_size), 0);
			assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.csum_start), 0);
			assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.csum_offset), 0);
			if (kind != 6)
				assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.num_buffers), 1);
			assert_int_equal(le32_to_cpu(r->frame.hdr.hash_value), 0);
			assert_int_equal(le16_to_cpu(r->frame.hdr.hash_report), 0);
		}
		rig_disconnect(r, 0);
	}
}

/* --- too little room -------------------------------------------------------------------- */

static void without_buffers_frames_are_dropped_and_others_go_on(void **state)
{
	const uint32_t len = 2048;
	struct rig *r = *state;

	rig_serve(r, 2);
	rig_connect(r, 2);
	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		uint64_t before;

		open_receiver(r, kind_features(kind), 2048, 16);
		take_all_buffers(r);
		before = dropped(r, DROP_NO_BUFFER);
		for (unsigned int i = 0; i < 50; i++)
			send(r, 100, i);
		assert_int_equal(dropped(r, DROP_NO_BUFFER), before + 50);
		while (net_recv(drv(r, 2), 0, &r->frame) == 1)
			;
		rig_talk(r, 1, 2);
		/* The switch did not know port 2 at first. */
		before = dropped(r, DROP_NO_BUFFER);
		give(r, 3, &len, 1);
		send(r, 100, 7);
		send(r, 100, 8);
		expect_bytes(expect_used(r, 3, HDR + 100), 100, 7);
		expect_unused(r);
		assert_int_equal(dropped(r, DROP_NO_BUFFER), before + 1);
		rig_disconnect(r, 0);
		/* take_all_buffers() of the next kind. */
		rig_remove(r, 0);
		rig_serve(r, 0);
	}
}

static void a_buffer_too_small_for_one_frame_waits_for_a_smaller_one(void **state)
{
	const uint32_t lens[] = { 6, HDR + 94 };
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		open_receiver(r, kind_features(kind), 2048, 16);
		take_all_buffers(r);
		for (unsigned int nr = 1; nr < 3; nr++) {
			uint64_t before = dropped(r, DROP_BUFFER_SMALL);

			give(r, 5, lens + 2 - nr, nr);
			send(r, 95 + (nr - 1) * 6, 1);
			send(r, 2000, 2);
			expect_unused(r);
			assert_int_equal(dropped(r, DROP_BUFFER_SMALL), before + 2);
			send(r, 94, 3);
			expect_bytes(expect_used(r, 5, HDR + 94), 94, 3);
		}
		rig_disconnect(r, 0);
	}
}

static void a_merged_frame_takes_all_it_needs_or_nothing(void **state)
{
	const uint32_t len = 64;
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		open_receiver(r, MERGEABLE | kind_features(kind), 64, 16);
		take_all_buffers(r);
		for (unsigned int i = 0; i < 4; i++)
			give(r, i, &len, 1);
		send(r, 4 * 64 - HDR + 1, 1);
		assert_int_equal(dropped(r, DROP_NO_BUFFER), 1);
		expect_unused(r);
		send(r, 4 * 64 - HDR, 2);
		expect_used(r, 0, 64);
		expect_used(r, 1, 64);
		expect_used(r, 2, 64);
		expect_used(r, 3, 64);
		rig_disconnect(r, 0);
		rig_remove(r, 0);
		rig_serve(r, 0);
	}
}

static void a_frame_for_more_buffers_than_can_be_merged_is_dropped(void **state)
{
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		uint64_t before = dropped(r, DROP_BUFFER_SMALL);

		open_receiver(r, MERGEABLE | kind_features(kind), 16, 512);
		send(r, 256 * 16 - HDR + 1, 1);
		rig_expect_nothing(r, 0);
		assert_int_equal(dropped(r, DROP_BUFFER_SMALL), before + 1);
		send(r, 256 * 16 - HDR, 2);
		expect(r, 256 * 16 - HDR, 2);
		assert_int_equal(r->frame.nr_buffers, 256);
		rig_disconnect(r, 0);
	}
}

/* --- malformed buffers -------------------------------------------------------------------- */

static void give_bad(struct rig *r, unsigned int slot, uint64_t gpa, uint32_t len, bool readable)
{
	struct net_ring *rx = &drv(r, 0)->rx[0];
	struct drv_buf buf = { gpa, len };

	assert_true(drv_add(&rx->ring, &buf, readable, !readable, &rx->slot[slot]) >= 0);
	assert_int_equal(drv_submit(&rx->ring), 0);
}

static void a_malformed_buffer_is_given_back_empty(void **state)
{
	const uint32_t len = 2048;
	struct rig *r = *state;
	uint64_t nr_bad = 0;

	serve_both(r);
	for (unsigned int kind = 0; kind < 2 * KINDS; kind++) {
		open_receiver(r, (kind & KINDS ? MERGEABLE : 0) | kind_features(kind), 2048, 16);
		take_all_buffers(r);
		give_bad(r, 0, 1ull << 50, 2048, false);
		give(r, 1, &len, 1);
		give_bad(r, 2, UINT64_MAX - 5, 2048, false);
		give_bad(r, 3, drv(r, 0)->rx[0].slot[3].gpa, 2048, true);
		give(r, 4, &len, 1);
		/* One frame pays for each. */
		for (uint32_t i = 0; i < 5; i++)
			send(r, 100, i);
		nr_bad += 3;
		assert_int_equal(dropped(r, DROP_BAD_BUFFER), nr_bad);
		expect_used(r, 0, 0);
		expect_bytes(expect_used(r, 1, HDR + 100), 100, 1);
		expect_used(r, 2, 0);
		expect_used(r, 3, 0);
		expect_bytes(expect_used(r, 4, HDR + 100), 100, 4);
		rig_disconnect(r, 0);
	}
}

static void a_malformed_buffer_within_a_merged_frame_ends_it(void **state)
{
	const uint32_t len = 64;
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < KINDS; kind++) {
		open_receiver(r, MERGEABLE | kind_features(kind), 2048, 16);
		take_all_buffers(r);
		give(r, 0, &len, 1);
		give_bad(r, 1, 1ull << 50, 64, false);
		give(r, 2, &len, 1);
		send(r, 100, 1);
		send(r, 52, 2);
		expect_used(r, 0, 0);
		expect_used(r, 1, 0);
		expect_bytes(expect_used(r, 2, 64), 52, 2);
		assert_int_equal(dropped(r, DROP_BAD_BUFFER), kind + 1);
		rig_disconnect(r, 0);
	}
}

static void a_broken_receive_ring_is_down_and_others_are_not(void **state)
{
	struct rig *r = *state;

	rig_serve(r, 2);
	rig_connect(r, 2);
	serve_both(r);
	open_receiver(r, 0, 2048, 16);
	drv_raw_avail_idx(&drv(r, 0)->rx[0].ring, 20000);
	/* Seen when the buffers that were known are used. */
	for (unsigned int i = 0; i < 40; i++)
		send(r, 100, i);
	assert_true(dropped(r, DROP_LINK_DOWN) > 0);
	while (net_recv(drv(r, 2), 0, &r->frame) == 1)
		;
	rig_talk(r, 1, 2);
	rig_abandon(r, 0);
	open_receiver(r, 0, 2048, 16);
	rig_talk(r, 0, 1);
}

/* --- what the driver lacks ------------------------------------------------------------------ */

static struct kit_frame kit;

static void send_kit(struct rig *r, uint8_t proto, uint32_t payload, uint16_t gso_size)
{
	const struct kit_spec spec = { .proto = proto, .payload = payload };
	struct virtio_net_hdr hdr;

	kit_build(&spec, &kit);
	memcpy(kit.bytes, RIG_MAC(0), 6);
	memcpy(kit.bytes + 6, RIG_MAC(1), 6);
	hdr = kit_hdr(&kit, gso_size);
	assert_int_equal(net_send(drv(r, 1), 0, &hdr, kit.bytes, kit.len), 0);
	assert_int_equal(net_drain(drv(r, 1), 0), 0);
}

static void a_checksum_is_passed_on_or_completed(void **state)
{
	struct rig *r = *state;

	serve_both(r);
	open_receiver(r, BIT(VIRTIO_NET_F_GUEST_CSUM), 2048, 16);
	send_kit(r, IP_PROTO_UDP, 777, 0);
	assert_int_equal(net_recv_wait(drv(r, 0), 0, &r->frame), 1);
	assert_int_equal(r->frame.hdr.mrg.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.csum_start), kit.l4);
	assert_int_equal(r->frame.len, kit.len);
	assert_memory_equal(r->frame.data, kit.bytes, kit.len);
	assert_int_equal(stats(r, 0).csum_completed, 0);
	rig_disconnect(r, 0);

	open_receiver(r, 0, 2048, 16);
	send_kit(r, IP_PROTO_UDP, 777, 0);
	assert_int_equal(net_recv_wait(drv(r, 0), 0, &r->frame), 1);
	assert_int_equal(r->frame.hdr.mrg.hdr.flags, 0);
	assert_int_equal(r->frame.len, kit.len);
	assert_true(kit_csum_good(r->frame.data, r->frame.len, kit.l3, kit.l4));
	assert_int_equal(stats(r, 0).csum_completed, 1);
}

static void a_large_segment_is_passed_on_or_cut(void **state)
{
	uint64_t features = MERGEABLE | BIT(VIRTIO_NET_F_GUEST_CSUM);
	struct rig *r = *state;
	uint32_t payload = 0;

	serve_both(r);
	open_receiver(r, features | BIT(VIRTIO_NET_F_GUEST_TSO4), 1526, 64);
	send_kit(r, IP_PROTO_TCP, 40123, 1448);
	assert_int_equal(net_recv_wait(drv(r, 0), 0, &r->frame), 1);
	assert_int_equal(r->frame.hdr.mrg.hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.gso_size), 1448);
	assert_int_equal(le16_to_cpu(r->frame.hdr.mrg.hdr.hdr_len), kit.hdr_len);
	assert_int_equal(r->frame.len, kit.len);
	assert_memory_equal(r->frame.data, kit.bytes, kit.len);
	rig_disconnect(r, 0);

	open_receiver(r, 0, 2048, 64);
	send_kit(r, IP_PROTO_TCP, 40123, 1448);
	for (unsigned int i = 0; i < 28; i++) {
		assert_int_equal(net_recv_wait(drv(r, 0), 0, &r->frame), 1);
		assert_true(kit_csum_good(r->frame.data, r->frame.len, kit.l3, kit.l4));
		assert_int_equal(r->frame.hdr.mrg.hdr.flags, 0);
		payload += r->frame.len - kit.hdr_len;
	}
	assert_int_equal(payload, 40123);
	assert_int_equal(stats(r, 0).segmented, 1);
	rig_expect_nothing(r, 0);
}

/* More pieces than chains are looked at together. */
static void a_segment_of_many_pieces_fills_the_ring_and_no_more(void **state)
{
	struct rig *r = *state;

	serve_both(r);
	open_receiver(r, 0, 2048, 512);
	send_kit(r, IP_PROTO_TCP, 40000, 100);
	for (unsigned int i = 0; i < 400; i++)
		assert_int_equal(net_recv_wait(drv(r, 0), 0, &r->frame), 1);
	rig_expect_nothing(r, 0);
	assert_int_equal(dropped(r, DROP_NO_BUFFER), 0);
	rig_disconnect(r, 0);
	open_receiver(r, 0, 2048, 64);
	send_kit(r, IP_PROTO_TCP, 40000, 100);
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(net_recv(drv(r, 0), 0, &r->frame), 1);
	rig_expect_nothing(r, 0);
	assert_int_equal(dropped(r, DROP_NO_BUFFER), 400 - 64);
}

/* --- queues ------------------------------------------------------------------------------------ */

/* Which of port 0's queues gets what port 1's pair sends. */
static int queue_of(struct rig *r, unsigned int pair)
{
	uint8_t bytes[60];

	rig_frame(bytes, RIG_MAC(0), RIG_MAC(1), sizeof(bytes), pair);
	assert_int_equal(net_send(drv(r, 1), pair, NULL, bytes, sizeof(bytes)), 0);
	assert_int_equal(net_drain(drv(r, 1), pair), 0);
	for (int q = 0; q < (int)drv(r, 0)->pairs; q++)
		if (net_recv(drv(r, 0), (unsigned int)q, &r->frame) == 1)
			return q;
	return -1;
}

static void loops_use_receive_queues_of_their_own(void **state)
{
	static const uint64_t mq = BIT(VIRTIO_NET_F_MQ);
	struct rig *r = *state;
	int q[2][4];

	for (unsigned int i = 0; i < 2; i++) {
		r->port[i].conf.pairs = 4;
		r->port[i].drv_conf.pairs = 4;
		r->port[i].drv_conf.no_ctrl = true;
		r->port[i].drv_conf.features = mq;
		rig_serve(r, i);
		rig_connect(r, i);
	}
	rig_send(r, 0, RIG_BROADCAST, RIG_MAC(0), 60, 0);
	for (unsigned int loop = 0; loop < 2; loop++) {
		assert_int_equal(vnet_move(r->port[1].vn, -1, loop), 0);
		rig_settle(r);
		for (unsigned int pair = 0; pair < 4; pair++)
			q[loop][pair] = queue_of(r, pair);
	}
	/* All are used, none by both loops, and each source queue keeps to one. */
	for (unsigned int pair = 0; pair < 4; pair++) {
		assert_int_equal(q[0][pair] % 2, 0);
		assert_int_equal(q[1][pair] % 2, 1);
		assert_int_equal(q[0][pair] / 2, pair % 2);
		assert_int_equal(q[1][pair] / 2, pair % 2);
	}
}

static void a_pair_is_moved_alone(void **state)
{
	struct rig *r = *state;

	r->port[1].conf.pairs = 2;
	r->port[1].drv_conf.pairs = 2;
	r->port[1].drv_conf.no_ctrl = true;
	r->port[1].drv_conf.features = BIT(VIRTIO_NET_F_MQ);
	serve_both(r);
	open_receiver(r, 0, 2048, 64);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(vnet_move(r->port[1].vn, i % 2, i / 2 % 2), 0);
		assert_int_equal(queue_of(r, 0), 0);
		assert_int_equal(queue_of(r, 1), 0);
	}
	assert_int_equal(vnet_move(r->port[1].vn, 2, 0), -EINVAL);
	assert_int_equal(vnet_move(r->port[1].vn, 0, RIG_LOOPS), -EINVAL);
	assert_int_equal(dropped(r, DROP_LINK_DOWN), 0);
}

static void a_segment_that_cannot_be_cut_is_dropped(void **state)
{
	uint8_t bytes[1500], room[FRAME_ROOM];
	const struct iovec iov = { bytes, sizeof(bytes) };
	struct rig *r = *state;
	struct frame f;

	serve_both(r);
	open_receiver(r, 0, 2048, 16);
	rig_frame(bytes, RIG_MAC(0), RIG_MAC(1), sizeof(bytes), 1);
	frame_init(&f, room, &iov, 1, 0, sizeof(bytes));
	/* No driver's header says that: its pieces have no length. */
	f.offload.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	vswitch_forward(vswitch_lane(r->sw, 0), vnet_port(r->port[1].vn), &f, 1);
	assert_int_equal(dropped(r, DROP_OFFLOAD), 1);
	expect_unused(r);
}

/* --- migration ----------------------------------------------------------------------------------- */

#define LOG_RING_SIZE 1024u

static void every_page_that_is_written_is_logged(void **state)
{
	struct rig *r = *state;
	struct net_ring *rx = &drv(r, 0)->rx[0];
	uint8_t *bits;

	serve_both(r);
	/* A used ring of pages that nothing else is in, the index alone in one of them
	 * for half of the way. */
	open_receiver(r, MERGEABLE, 1526, LOG_RING_SIZE);
	bits = rig_log(r, 0);
	for (unsigned int round = 0; round < 400; round++) {
		uint32_t len = round % 2 ? 5000 : 100, written;
		const struct net_slot *slot;
		uint64_t used;
		void *cookie;

		memset(bits, 0, RIG_LOG_LEN);
		send(r, len, round);
		/* The used ring: its index and each element. */
		assert_true(rig_logged(bits, rx->ring.device_gpa + 2, 2));
		for (uint32_t left = HDR + len; left; left -= written) {
			used = rx->ring.device_gpa + 4 + rx->ring.used_idx % LOG_RING_SIZE * 8;
			assert_true(rig_logged(bits, used, 8));
			assert_int_equal(drv_reap(&rx->ring, &cookie, &written), 1);
			slot = cookie;
			assert_true(rig_logged(bits, slot->gpa, written));
			give(r, (unsigned int)(slot - rx->slot), (uint32_t[]){ 1526 }, 1);
		}
	}
	munmap(bits, RIG_LOG_LEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

static const struct CMUnitTest tests[] = {
	TEST(a_frame_is_merged_from_as_many_buffers_as_it_takes),
	TEST(long_frames_go_through_small_buffers_many_times),
	TEST(a_chain_of_several_buffers_is_filled_in_order),
	TEST(the_header_of_a_plain_frame_is_zero),
	TEST(without_buffers_frames_are_dropped_and_others_go_on),
	TEST(a_buffer_too_small_for_one_frame_waits_for_a_smaller_one),
	TEST(a_merged_frame_takes_all_it_needs_or_nothing),
	TEST(a_frame_for_more_buffers_than_can_be_merged_is_dropped),
	TEST(a_malformed_buffer_is_given_back_empty),
	TEST(a_malformed_buffer_within_a_merged_frame_ends_it),
	TEST(a_broken_receive_ring_is_down_and_others_are_not),
	TEST(a_checksum_is_passed_on_or_completed),
	TEST(a_large_segment_is_passed_on_or_cut),
	TEST(a_segment_of_many_pieces_fills_the_ring_and_no_more),
	TEST(loops_use_receive_queues_of_their_own),
	TEST(a_pair_is_moved_alone),
	TEST(a_segment_that_cannot_be_cut_is_dropped),
	TEST(every_page_that_is_written_is_logged),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
