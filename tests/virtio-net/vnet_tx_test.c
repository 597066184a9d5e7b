/*
 * Transmit rings: a frame in every layout a driver may choose arrives as it was
 * sent, and what is malformed is given back, counted and harms nobody.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/netrig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BIT(n) (1ull << (n))
#define HDR 12 /* bytes of a header with num_buffers */

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static uint64_t dropped(struct rig *r, unsigned int i, enum drop_reason reason)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(vnet_port(r->port[i].vn), &sum);
	return sum.drops[reason];
}

static uint64_t all_dropped(struct rig *r, unsigned int i)
{
	uint64_t nr = 0;

	for (int reason = 0; reason < DROP_REASON_CNT; reason++)
		nr += dropped(r, i, (enum drop_reason)reason);
	return nr;
}

/* A transmit slot of port 0: header hdr, then a frame for port 1. */
static struct net_slot *fill_slot(struct rig *r, const struct virtio_net_hdr *hdr, uint32_t len,
				  uint32_t seed)
{
	struct net_ring *tx = &drv(r, 0)->tx[0];
	struct net_slot *slot = &tx->slot[tx->free[--tx->nr_free]];

	memset(slot->p, 0, HDR);
	if (hdr)
		memcpy(slot->p, hdr, sizeof(*hdr));
	rig_frame(slot->p + HDR, RIG_MAC(1), RIG_MAC(0), len, seed);
	return slot;
}

/* Put total bytes of the slot into the ring as buffers of these lengths, the last
 * one for what is left. */
static void add_cut(struct rig *r, struct net_slot *slot, uint32_t total, const uint32_t *cuts,
		    unsigned int nr_cuts)
{
	struct drv_buf bufs[DRV_TABLE_MAX];
	unsigned int nr = 0;
	uint32_t at = 0;

	while (at < total) {
		uint32_t len = nr < nr_cuts ? cuts[nr] : total - at;

		if (len > total - at)
			len = total - at;
		assert_true(nr < DRV_TABLE_MAX);
		bufs[nr++] = (struct drv_buf){ slot->gpa + at, len };
		at += len;
	}
	assert_true(drv_add(&drv(r, 0)->tx[0].ring, bufs, nr, 0, slot) >= 0);
}

static void submit(struct rig *r)
{
	assert_int_equal(drv_submit(&drv(r, 0)->tx[0].ring), 0);
	assert_int_equal(net_drain(drv(r, 0), 0), 0);
}

/* Both ports of this kind, and the switch knows where port 1 is. */
static void open_kind(struct rig *r, uint64_t features, bool indirect)
{
	for (unsigned int i = 0; i < 2; i++) {
		r->port[i].drv_conf.features = features;
		r->port[i].drv_conf.indirect = indirect;
		r->port[i].drv_conf.ring_size = 256;
		rig_connect(r, i);
	}
	rig_talk(r, 1, 0);
}

static void close_both(struct rig *r)
{
	for (unsigned int i = 0; i < 2; i++)
		rig_disconnect(r, i);
}

static void serve_both(struct rig *r)
{
	for (unsigned int i = 0; i < 2; i++)
		rig_serve(r, i);
}

static void discard(struct rig *r, unsigned int i)
{
	while (net_recv(drv(r, i), 0, &r->frame) == 1)
		;
}

/* Ports 1 and 2 talk. What is for somebody the switch does not know reaches all. */
static void others_talk(struct rig *r)
{
	discard(r, 2);
	rig_talk(r, 1, 2);
	discard(r, 0);
}

/* Both rings, in order and not, in the ring and by tables. */
static uint64_t kind_features(unsigned int kind)
{
	return BIT(VIRTIO_F_RING_INDIRECT_DESC) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
	       (kind & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0) | (kind & 2 ? BIT(VIRTIO_F_IN_ORDER) : 0);
}

/* --- layouts ----------------------------------------------------------------------- */

static void a_frame_in_any_layout_arrives_as_it_was_sent(void **state)
{
	static const uint32_t lens[] = { 14, 15, 51, 52, 59, 60, 63, 64, 65, 76, 77, 1514 };
	static const struct {
		uint32_t len[5];
		unsigned int nr;
	} cuts[] = {
		{ { 0 }, 0 },	     { { HDR }, 1 }, /* header apart */
		{ { 10 }, 1 }, /* within the header, behind it */
		{ { 5, 7 }, 2 },     { { 1, 1, 1, 1, 1 }, 5 }, { { 13 }, 1 },
		{ { HDR + 13 }, 1 }, { { HDR + 14 }, 1 },      { { HDR + 63 }, 1 },
		{ { HDR + 64 }, 1 }, { { HDR + 65 }, 1 },      { { HDR, 14, 1, 1 }, 4 },
	};
	struct rig *r = *state;
	uint32_t seed = 0;

	serve_both(r);
	for (unsigned int kind = 0; kind < 8; kind++) {
		open_kind(r, kind_features(kind), kind & 4);
		for (unsigned int c = 0; c < ARRAY_SIZE(cuts); c++) {
			for (unsigned int l = 0; l < ARRAY_SIZE(lens); l++) {
				struct net_slot *slot = fill_slot(r, NULL, lens[l], ++seed);

				add_cut(r, slot, HDR + lens[l], cuts[c].len, cuts[c].nr);
				submit(r);
				rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), lens[l], seed);
			}
		}
		close_both(r);
	}
	assert_int_equal(all_dropped(r, 0), 0);
	assert_int_equal(all_dropped(r, 1), 0);
}

static void a_long_frame_in_many_buffers_arrives(void **state)
{
	uint32_t cuts[120];
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int i = 0; i < ARRAY_SIZE(cuts); i++)
		cuts[i] = 1 + i * 7 % 90;
	for (unsigned int kind = 0; kind < 8; kind++) {
		open_kind(r, kind_features(kind), kind & 4);
		for (uint32_t len = 9000; len < 9003; len++) {
			struct net_slot *slot = fill_slot(r, NULL, len, len);

			add_cut(r, slot, HDR + len, cuts, ARRAY_SIZE(cuts));
			submit(r);
			rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), len, len);
		}
		close_both(r);
	}
}

static void bursts_of_mixed_layouts_stay_in_order(void **state)
{
	static const uint32_t apart[] = { HDR }, within[] = { 3, 40 };
	struct rig *r = *state;

	serve_both(r);
	for (unsigned int kind = 0; kind < 8; kind++) {
		open_kind(r, kind_features(kind), kind & 4);
		for (unsigned int round = 0; round < 12; round++) {
			unsigned int nr = 1 + round * 9;

			for (uint32_t i = 0; i < nr; i++) {
				struct net_slot *slot = fill_slot(r, NULL, 60 + i, i);

				if (i % 5 == 1)
					add_cut(r, slot, HDR + 60 + i, apart, 1);
				else if (i % 7 == 2)
					add_cut(r, slot, HDR + 60 + i, within, 2);
				else
					add_cut(r, slot, HDR + 60 + i, NULL, 0);
			}
			submit(r);
			for (uint32_t i = 0; i < nr; i++)
				rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), 60 + i, i);
		}
		rig_expect_nothing(r, 1);
		close_both(r);
	}
}

static void an_old_driver_has_a_header_of_10_bytes(void **state)
{
	struct rig *r = *state;

	serve_both(r);
	r->port[0].drv_conf.legacy = true;
	r->port[0].drv_conf.features = BIT(VIRTIO_F_ANY_LAYOUT);
	rig_connect(r, 0);
	rig_connect(r, 1);
	assert_int_equal(drv(r, 0)->hdr_len, 10);
	rig_talk(r, 0, 1);
	rig_talk(r, 1, 0);
}

/* --- malformed ----------------------------------------------------------------------- */

/* What was just added to port 0's transmit ring between two good frames is dropped
 * for this reason, and only that; the chain comes back and others go on. */
static void expect_dropped(struct rig *r, enum drop_reason reason)
{
	uint64_t before = dropped(r, 0, reason), all = all_dropped(r, 0);

	submit(r);
	rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), 99, 1);
	rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), 98, 2);
	rig_expect_nothing(r, 1);
	assert_int_equal(dropped(r, 0, reason), before + 1);
	assert_int_equal(all_dropped(r, 0), all + 1);
	assert_int_equal(all_dropped(r, 1), 0);
	others_talk(r);
}

static void add_good(struct rig *r, uint32_t len, uint32_t seed)
{
	add_cut(r, fill_slot(r, NULL, len, seed), HDR + len, NULL, 0);
}

/* A frame with this header, len bytes of it, between two good ones. */
static void run_bad_hdr(struct rig *r, const struct virtio_net_hdr *hdr, uint32_t len,
			enum drop_reason reason)
{
	add_good(r, 99, 1);
	add_cut(r, fill_slot(r, hdr, len, 0), HDR + len, NULL, 0);
	add_good(r, 98, 2);
	expect_dropped(r, reason);
}

static void chains_without_a_frame_are_dropped(void **state)
{
	static const uint32_t totals[] = { 1, 9, 10, 11, 12, 13, 25 };
	static const uint32_t cuts[] = { 1, 5 };
	struct rig *r = *state;

	for (unsigned int i = 0; i < 3; i++)
		rig_serve(r, i);
	rig_connect(r, 2);
	for (unsigned int kind = 0; kind < 8; kind++) {
		open_kind(r, kind_features(kind), kind & 4);
		for (unsigned int i = 0; i < ARRAY_SIZE(totals); i++) {
			for (unsigned int nr_cuts = 0; nr_cuts < 3; nr_cuts++) {
				add_good(r, 99, 1);
				add_cut(r, fill_slot(r, NULL, 60, 0), totals[i], cuts, nr_cuts);
				add_good(r, 98, 2);
				expect_dropped(r, DROP_BAD_CHAIN);
			}
		}
		close_both(r);
	}
}

static void chains_outside_of_memory_are_dropped(void **state)
{
	static const struct drv_buf bad[] = {
		{ 0x1000000000000, 100 },
		{ UINT64_MAX - 50, 100 },
		{ 0, UINT32_MAX },
	};
	struct rig *r = *state;

	for (unsigned int i = 0; i < 3; i++)
		rig_serve(r, i);
	rig_connect(r, 2);
	for (unsigned int kind = 0; kind < 8; kind++) {
		open_kind(r, kind_features(kind), kind & 4);
		for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
			struct net_slot *slot;
			struct drv_buf bufs[3];

			add_good(r, 99, 1);
			slot = fill_slot(r, NULL, 500, 0);
			/* Alone, and as the second of three. */
			assert_true(drv_add(&drv(r, 0)->tx[0].ring, &bad[i], 1, 0, slot) >= 0);
			add_good(r, 98, 2);
			expect_dropped(r, DROP_BAD_CHAIN);
			add_good(r, 99, 1);
			slot = fill_slot(r, NULL, 500, 0);
			bufs[0] = (struct drv_buf){ slot->gpa, 100 };
			bufs[1] = bad[i];
			bufs[2] = (struct drv_buf){ slot->gpa + 100, 100 };
			assert_true(drv_add(&drv(r, 0)->tx[0].ring, bufs, 3, 0, slot) >= 0);
			add_good(r, 98, 2);
			expect_dropped(r, DROP_BAD_CHAIN);
		}
		close_both(r);
	}
}

static void headers_that_lie_are_dropped(void **state)
{
	const struct virtio_net_hdr far = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					    .csum_start = cpu_to_le16(5000) };
	const struct virtio_net_hdr none = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
	const struct virtio_net_hdr zero = { .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 };
	const uint64_t offloads = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4);
	const struct virtio_net_hdr unknown = { .gso_type = 0x7f, .gso_size = cpu_to_le16(100) };
	struct rig *r = *state;

	for (unsigned int i = 0; i < 3; i++)
		rig_serve(r, i);
	rig_connect(r, 2);
	for (unsigned int kind = 0; kind < 2; kind++) {
		/* With the offloads and without. */
		open_kind(r, kind_features(0) | (kind ? offloads : 0), false);
		run_bad_hdr(r, &far, 100, DROP_BAD_HEADER);
		run_bad_hdr(r, &none, 100, DROP_BAD_HEADER);
		run_bad_hdr(r, &zero, 100, DROP_BAD_HEADER);
		run_bad_hdr(r, &unknown, 100, DROP_BAD_HEADER);
		close_both(r);
	}
}

static void frames_longer_than_the_mtu_or_any_are_dropped(void **state)
{
	struct rig *r = *state;

	r->port[0].conf.mtu = 1500;
	for (unsigned int i = 0; i < 3; i++)
		rig_serve(r, i);
	rig_connect(r, 2);
	open_kind(r, kind_features(0), false);
	run_bad_hdr(r, NULL, 1515, DROP_TOO_LONG);
	run_bad_hdr(r, NULL, 60000, DROP_TOO_LONG);
	rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), 1514, 3);
	rig_expect(r, 1, 0, RIG_MAC(1), RIG_MAC(0), 1514, 3);
	close_both(r);
}

/* A broken ring stays broken until it is stopped; the others are served. */
static uint64_t calls_after_a_frame(struct rig *r)
{
	struct drv_ring *tx = &drv(r, 0)->tx[0].ring;

	drv_notify(tx, true);
	drv_calls(tx);
	rig_send(r, 0, RIG_MAC(1), RIG_MAC(0), 100, 1);
	discard(r, 1);
	return drv_calls(tx);
}

/* Interrupt moderation itself: loop_late_test. */
static void a_driver_hears_late_or_at_once_that_frames_were_sent(void **state)
{
	struct rig *r = *state;
	unsigned int tries = 0;

	r->port[0].conf.tx_usecs = VNET_TX_USECS_MAX;
	rig_pair(r);
	rig_talk(r, 1, 0);
	rig_assert_status(r, 0, "tx-usecs", "10000");
	rig_assert_status(r, 1, "tx-usecs", "1000");
	/* A slow machine may take longer than that for one frame. */
	while (calls_after_a_frame(r))
		assert_true(tries++ < 1000);
	rig_disconnect(r, 0);
	rig_remove(r, 0);

	r->port[0].conf.tx_usecs = 0;
	rig_serve(r, 0);
	rig_connect(r, 0);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(calls_after_a_frame(r), 1);
	close_both(r);
}

static void a_broken_transmit_ring_is_alone_with_it(void **state)
{
	struct rig *r = *state;

	for (unsigned int i = 0; i < 3; i++)
		rig_serve(r, i);
	rig_connect(r, 2);
	open_kind(r, kind_features(0), false);
	drv_raw_avail_idx(&drv(r, 0)->tx[0].ring, 20000);
	drv_kick(&drv(r, 0)->tx[0].ring);
	rig_settle(r);
	others_talk(r);
	/* What is for port 0 still reaches it. */
	rig_send(r, 1, RIG_MAC(0), RIG_MAC(1), 70, 1);
	rig_expect(r, 0, 0, RIG_MAC(0), RIG_MAC(1), 70, 1);
	rig_abandon(r, 0);
	rig_connect(r, 0);
	rig_talk(r, 0, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

static const struct CMUnitTest tests[] = {
	TEST(a_frame_in_any_layout_arrives_as_it_was_sent),
	TEST(a_long_frame_in_many_buffers_arrives),
	TEST(bursts_of_mixed_layouts_stay_in_order),
	TEST(an_old_driver_has_a_header_of_10_bytes),
	TEST(chains_without_a_frame_are_dropped),
	TEST(chains_outside_of_memory_are_dropped),
	TEST(headers_that_lie_are_dropped),
	TEST(frames_longer_than_the_mtu_or_any_are_dropped),
	TEST(a_driver_hears_late_or_at_once_that_frames_were_sent),
	TEST(a_broken_transmit_ring_is_alone_with_it),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
