/*
 * What drivers ask for: taken over if it is sound, refused if it lies; what
 * receivers can take; checksums completed for those that cannot.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "tests/core/test.h"
#include "tests/virtio-net/framekit.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/offload.h"

#define BIT(n) (1ull << (n))
#define CSUM BIT(VIRTIO_NET_F_CSUM)
#define EVERYTHING                                                                                 \
	(CSUM | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |                        \
	 BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_USO))

static struct kit_frame kit;
static struct kit_iov bufs;
static struct frame frame;
static const struct kit_spec tcp4 = { .proto = IP_PROTO_TCP, .payload = 1000 };

/* Hand over what is in kit with this header. */
static int accept(struct virtio_net_hdr h, uint64_t features, uint16_t mtu)
{
	if (bufs.nr)
		kit_iov_free(&bufs);
	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 40, 30, 1 }, 3);
	kit_frame_init(&frame, &bufs, kit.len);
	memset(&frame.offload, 0xff, sizeof(frame.offload));
	return offload_accept(&frame, &h, features, mtu);
}

static int teardown(void **state)
{
	if (bufs.nr)
		kit_iov_free(&bufs);
	return 0;
}

static struct virtio_net_hdr csum_hdr(uint16_t start, uint16_t offset)
{
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = cpu_to_le16(start),
		.csum_offset = cpu_to_le16(offset),
	};
}

/* --- nothing asked for ------------------------------------------------------------- */

static void a_header_that_asks_for_nothing_asks_for_nothing(void **state)
{
	struct virtio_net_hdr h = { .hdr_len = cpu_to_le16(999),
				    .gso_size = cpu_to_le16(7),
				    .csum_start = cpu_to_le16(60000) };

	kit_build(&tcp4, &kit);
	assert_int_equal(accept(h, 0, 0), 0);
	assert_true(offload_is_plain(&frame));
	assert_int_equal(frame.offload.csum_start, 0);
}

static void flags_that_are_not_a_drivers_are_ignored(void **state)
{
	struct virtio_net_hdr h = { .flags = (uint8_t)~VIRTIO_NET_HDR_F_NEEDS_CSUM };

	kit_build(&tcp4, &kit);
	assert_int_equal(accept(h, EVERYTHING, 0), 0);
	assert_true(offload_is_plain(&frame));
}

static void a_frame_has_an_ethernet_header(void **state)
{
	struct virtio_net_hdr h = { 0 };

	kit_build(&tcp4, &kit);
	for (kit.len = 0; kit.len < ETH_HDR_LEN; kit.len++) {
		assert_int_equal(accept(h, 0, 0), -DROP_BAD_CHAIN);
		assert_int_equal(accept(kit_hdr(&kit, 100), EVERYTHING, 0), -DROP_BAD_CHAIN);
	}
	assert_int_equal(accept(h, 0, 0), 0);
}

static void a_frame_is_no_longer_than_the_mtu_and_its_tags(void **state)
{
	struct virtio_net_hdr h = { 0 };
	struct kit_spec spec = tcp4;

	for (spec.tags = 0; spec.tags <= 2; spec.tags++) {
		spec.payload = 1500 - 40;
		kit_build(&spec, &kit);
		assert_int_equal(accept(h, 0, 1500), 0);
		kit.len++;
		assert_int_equal(accept(h, 0, 1500), -DROP_TOO_LONG);
		assert_int_equal(accept(h, 0, 0), 0);
	}
	kit.len = FRAME_LEN_MAX;
	assert_int_equal(accept(h, 0, 0), 0);
	kit.len++;
	assert_int_equal(accept(h, 0, 0), -DROP_TOO_LONG);
}

/* Only what stands where tags stand is a tag. */
static void bytes_that_look_like_tags_do_not_make_an_mtu_larger(void **state)
{
	struct virtio_net_hdr h = { 0 };

	kit_build(&tcp4, &kit);
	put_be16(kit.bytes + ETH_HDR_LEN + 2, ETH_TYPE_8021Q);
	assert_int_equal(accept(h, 0, 1040), 0);
	assert_int_equal(accept(h, 0, 1039), -DROP_TOO_LONG);
	/* Nor is there any end to them. */
	for (uint16_t off = ETH_TYPE_OFFSET; off < 50; off += VLAN_TAG_LEN)
		put_be16(kit.bytes + off, ETH_TYPE_8021Q);
	assert_int_equal(accept(h, 0, 1032), 0);
	assert_int_equal(accept(h, 0, 1031), -DROP_TOO_LONG);
}

/* --- partial checksums ------------------------------------------------------------- */

static void a_checksum_is_completed_only_if_that_was_negotiated(void **state)
{
	kit_build(&tcp4, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING & ~CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(kit_hdr(&kit, 0), CSUM, 0), 0);
	assert_int_equal(frame.offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(frame.offload.csum_start, kit.l4);
	assert_int_equal(frame.offload.csum_offset, TCP_CSUM);
	assert_int_equal(frame.offload.gso_type, 0);
}

static void a_checksum_lies_within_the_frame(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_UDP, .payload = 0 };

	kit_build(&spec, &kit);
	assert_int_equal(accept(csum_hdr(kit.l4, UDP_CSUM), CSUM, 0), 0);
	assert_int_equal(accept(csum_hdr(kit.l4 + 1, UDP_CSUM), CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(csum_hdr(kit.l4, UDP_CSUM + 1), CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(csum_hdr((uint16_t)kit.len, 0), CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(csum_hdr(65535, 0), CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(csum_hdr(kit.l4, 65535), CSUM, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(csum_hdr(65535, 65535), CSUM, 0), -DROP_BAD_HEADER);
	/* 16 bits would wrap to a good place. */
	assert_int_equal(accept(csum_hdr(65535, kit.l4 + UDP_CSUM + 1), CSUM, 0), -DROP_BAD_HEADER);
}

/* Whatever a guest says, what was decided upon is what leaves. */
static void a_checksum_never_changes_addresses_or_ports(void **state)
{
	struct kit_spec spec = { .payload = 40 };
	unsigned int accepted = 0;
	uint32_t decided;

	for (int kind = 0; kind < 4; kind++) {
		spec.proto = kind & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = kind & 2;
		kit_build(&spec, &kit);
		decided = kit.l4 + (kind & 1 ? TCP_CSUM : UDP_CSUM);
		for (uint32_t start = 0; start < kit.len; start++) {
			for (uint32_t offset = 0; offset < kit.len; offset++) {
				if (accept(csum_hdr(start, offset), CSUM, 0))
					continue;
				accepted++;
				assert_true(start >= kit.l4);
				offload_finish_csum(&frame);
				assert_memory_equal(frame.head, kit.bytes, decided);
			}
		}
	}
	assert_true(accepted > 1000);
}

static void a_fragment_has_no_checksum_to_be_completed(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_FRAGMENT };
	struct kit_spec spec = { .proto = IP_PROTO_UDP, .payload = 400, .ext = ext, .nr_ext = 1 };

	spec.frag = IPV4_FRAG_MORE;
	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING, 0), -DROP_BAD_HEADER);
	spec.frag = 3;
	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING, 0), -DROP_BAD_HEADER);
	spec.v6 = true;
	spec.frag = 8;
	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING, 0), -DROP_BAD_HEADER);
}

static void a_checksum_of_an_inner_header_passes_as_far_as_head_reaches(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_UDP, .payload = 600, .dport = 4789 };
	uint16_t inner;

	/* VXLAN with an inner Ethernet, IPv4 and TCP header. */
	kit_build(&spec, &kit);
	inner = kit.hdr_len + 8 + ETH_HDR_LEN + IPV4_HDR_LEN;
	assert_int_equal(accept(csum_hdr(inner, TCP_CSUM), CSUM, 0), 0);
	assert_true(frame.head_len >= inner + TCP_CSUM + 2);
	assert_int_equal(accept(csum_hdr(FRAME_HEAD_MAX - 2, 0), CSUM, 0), 0);
	assert_int_equal(accept(csum_hdr(FRAME_HEAD_MAX - 1, 0), CSUM, 0), -DROP_BAD_HEADER);
}

static void other_protocols_have_checksums_behind_their_ports(void **state)
{
	struct kit_spec spec = { .proto = 132, .payload = 100 }; /* SCTP */

	kit_build(&spec, &kit);
	assert_int_equal(accept(csum_hdr(kit.l4, 4), CSUM, 0), 0);
	assert_int_equal(accept(csum_hdr(kit.l4, 3), CSUM, 0), -DROP_BAD_HEADER);
	put_be16(kit.bytes + ETH_TYPE_OFFSET, 0x8847); /* MPLS */
	assert_int_equal(accept(csum_hdr(42, 16), CSUM, 0), 0);
	assert_int_equal(accept(csum_hdr(12, 4), CSUM, 0), -DROP_BAD_HEADER);
}

/* --- completing --------------------------------------------------------------------- */

static void a_completed_checksum_is_right_wherever_buffers_are_cut(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_HOPOPTS };
	static uint8_t all[KIT_LEN_MAX];
	struct kit_spec spec = { 0 };
	struct virtio_net_hdr h;
	uint64_t seed = 7;

	for (int i = 0; i < 3000; i++) {
		spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = i & 2;
		spec.tags = kit_below(&seed, 3);
		spec.ip_options = 4 * kit_below(&seed, 11);
		spec.tcp_options = 4 * kit_below(&seed, 11);
		spec.ext = ext;
		spec.nr_ext = kit_below(&seed, 2);
		spec.payload = kit_below(&seed, i % 100 ? 200 : 60000);
		kit_build(&spec, &kit);
		h = kit_hdr(&kit, 0);
		if (bufs.nr)
			kit_iov_free(&bufs);
		kit_cut_anyhow(&bufs, kit.bytes, kit.len, &seed);
		kit_frame_init(&frame, &bufs, kit.len);
		assert_int_equal(offload_accept(&frame, &h, CSUM, 0), 0);
		offload_finish_csum(&frame);
		assert_true(offload_is_plain(&frame));
		assert_int_equal(kit_gather(&frame, all), kit.len);
		assert_true(kit_csum_good(all, kit.len, kit.l3, kit.l4));
	}
}

static void a_checksum_of_zero_is_written_as_all_ones(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_UDP, .payload = 2 };
	uint8_t *payload;
	uint16_t sum;

	kit_build(&spec, &kit);
	payload = kit.bytes + kit.hdr_len;
	put_be16(payload, 0);
	sum = kit_sum(0, kit.bytes + kit.l4, kit.len - kit.l4);
	put_be16(payload, (uint16_t)~sum); /* now all of it is 0xffff, its complement 0 */
	assert_int_equal(accept(kit_hdr(&kit, 0), CSUM, 0), 0);
	offload_finish_csum(&frame);
	assert_int_equal(get_be16(frame.head + kit.l4 + UDP_CSUM), 0xffff);
}

static void sums_of_every_length_and_alignment_are_right(void **state)
{
	uint64_t seed = 3;
	uint8_t bytes[300];
	uint8_t *exact;
	uint16_t sum;

	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(kit_below(&seed, 4) ? 0xff : kit_random(&seed));
	for (unsigned int n = 0; n < 290; n++) {
		for (unsigned int at = 0; at < 10; at++) {
			exact = malloc(n + at + 1);
			assert_non_null(exact);
			memcpy(exact + at, bytes + at, n);
			sum = csum_fold(net_csum_sum(exact + at, n));
			assert_int_equal(get_be16((const uint8_t *)&sum),
					 kit_sum(0, bytes + at, n));
			free(exact);
		}
	}
}

/* --- large segments ------------------------------------------------------------------ */

static const struct gso_case {
	const char *what;
	struct kit_spec spec;
	uint8_t gso_type;
	uint64_t feature;
} gso_cases[] = {
	{ "TCPv4",
	  { .proto = IP_PROTO_TCP },
	  VIRTIO_NET_HDR_GSO_TCPV4,
	  BIT(VIRTIO_NET_F_HOST_TSO4) },
	{ "TCPv6",
	  { .proto = IP_PROTO_TCP, .v6 = true },
	  VIRTIO_NET_HDR_GSO_TCPV6,
	  BIT(VIRTIO_NET_F_HOST_TSO6) },
	{ "UDP over IPv4",
	  { .proto = IP_PROTO_UDP },
	  VIRTIO_NET_HDR_GSO_UDP_L4,
	  BIT(VIRTIO_NET_F_HOST_USO) },
	{ "UDP over IPv6",
	  { .proto = IP_PROTO_UDP, .v6 = true },
	  VIRTIO_NET_HDR_GSO_UDP_L4,
	  BIT(VIRTIO_NET_F_HOST_USO) },
};

/* Build a large segment of that kind; the header to go with it. */
static struct virtio_net_hdr build_gso(const struct gso_case *c)
{
	struct kit_spec spec = c->spec;

	spec.payload = 5000;
	kit_build(&spec, &kit);
	return kit_hdr(&kit, 1000);
}

static void a_large_segment_is_of_a_type_that_was_negotiated(void **state)
{
	struct virtio_net_hdr h;

	for (unsigned int i = 0; i < ARRAY_SIZE(gso_cases); i++) {
		h = build_gso(&gso_cases[i]);
		assert_int_equal(accept(h, CSUM | gso_cases[i].feature, 1500), 0);
		assert_int_equal(frame.offload.gso_type, gso_cases[i].gso_type);
		assert_int_equal(frame.offload.gso_size, 1000);
		assert_int_equal(frame.offload.hdr_len, kit.hdr_len);
		assert_int_equal(frame.offload.gso_v6, gso_cases[i].spec.v6);
		assert_int_equal(accept(h, EVERYTHING & ~gso_cases[i].feature, 1500),
				 -DROP_BAD_HEADER);
		assert_int_equal(accept(h, EVERYTHING & ~CSUM, 1500), -DROP_BAD_HEADER);
	}
}

static void a_large_segment_is_what_its_type_says(void **state)
{
	static const uint8_t types[] = { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
					 VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_HDR_GSO_UDP };
	struct virtio_net_hdr h;

	for (unsigned int i = 0; i < ARRAY_SIZE(gso_cases); i++) {
		h = build_gso(&gso_cases[i]);
		for (unsigned int type = 1; type < 256; type++) {
			h.gso_type = (uint8_t)type;
			if (type == gso_cases[i].gso_type ||
			    (type == (gso_cases[i].gso_type | 0x80u) && type != 0x85))
				assert_int_equal(accept(h, EVERYTHING, 0), 0);
			else
				assert_int_equal(accept(h, EVERYTHING, 0), -DROP_BAD_HEADER);
		}
		for (unsigned int j = 0; j < ARRAY_SIZE(types); j++) {
			h.gso_type = types[j];
			put_be16(kit.bytes + ETH_TYPE_OFFSET, 0x88b5);
			assert_int_equal(accept(h, EVERYTHING, 0), -DROP_BAD_HEADER);
		}
	}
}

static void a_large_segment_is_whole_and_its_lengths_are_true(void **state)
{
	struct virtio_net_hdr good, h;
	uint8_t *doff;

	kit_build(&(struct kit_spec){ .proto = IP_PROTO_TCP, .payload = 5000, .tcp_options = 12 },
		  &kit);
	good = kit_hdr(&kit, 1000);
	assert_int_equal(accept(good, EVERYTHING, 1500), 0);
	h = good;
	h.gso_size = cpu_to_le16(0);
	assert_int_equal(accept(h, EVERYTHING, 1500), -DROP_BAD_HEADER);
	kit.len = kit.hdr_len;
	assert_int_equal(accept(h, EVERYTHING, 1500), -DROP_BAD_HEADER);
	kit.len += 5000;
	h = good;
	h.flags = 0;
	assert_int_equal(accept(h, EVERYTHING, 1500), -DROP_BAD_HEADER);
	h = good;
	h.csum_start = cpu_to_le16(kit.l4 + 2);
	assert_int_equal(accept(h, EVERYTHING, 1500), -DROP_BAD_HEADER);
	h = good;
	h.csum_offset = cpu_to_le16(TCP_CSUM + 2);
	assert_int_equal(accept(h, EVERYTHING, 1500), -DROP_BAD_HEADER);

	doff = kit.bytes + kit.l4 + TCP_DATA_OFFSET;
	*doff = 4 << 4;
	assert_int_equal(accept(good, EVERYTHING, 1500), -DROP_BAD_HEADER);
	*doff = 15 << 4;
	assert_int_equal(accept(good, EVERYTHING, 1500), 0);
	assert_int_equal(frame.offload.hdr_len, kit.l4 + 60);
	kit.len = kit.l4 + 59;
	assert_int_equal(accept(good, EVERYTHING, 1500), -DROP_BAD_HEADER);
	kit.len = kit.l4 + 19;
	assert_int_equal(accept(good, EVERYTHING, 1500), -DROP_BAD_HEADER);
}

/* Behind which access lists look only when the switch has taken one away. */
static void checksums_behind_more_tags_than_two_are_refused(void **state)
{
	static const uint8_t tag[] = { 0x81, 0, 0, 5 };

	kit_build(&tcp4, &kit);
	for (unsigned int tags = 1; tags <= 4; tags++) {
		uint16_t more = (uint16_t)(tags * sizeof(tag));

		memmove(kit.bytes + ETH_TYPE_OFFSET + 4, kit.bytes + ETH_TYPE_OFFSET,
			kit.len - ETH_TYPE_OFFSET);
		memcpy(kit.bytes + ETH_TYPE_OFFSET, tag, sizeof(tag));
		kit.len += sizeof(tag);
		assert_int_equal(accept(csum_hdr(kit.l4 + more, TCP_CSUM), EVERYTHING, 0),
				 tags <= 2 ? 0 : -DROP_BAD_HEADER);
	}
}

static void headers_longer_than_what_can_be_private_are_refused(void **state)
{
	static uint8_t ext[23];
	struct kit_spec spec = {
		.v6 = true, .proto = IP_PROTO_TCP, .payload = 5000, .ext = ext, .tcp_options = 40
	};
	int ret;

	memset(ext, IP_PROTO_DSTOPTS, sizeof(ext));
	for (spec.nr_ext = 0; spec.nr_ext < sizeof(ext); spec.nr_ext++) {
		kit_build(&spec, &kit);
		ret = accept(kit_hdr(&kit, 1000), EVERYTHING, 0);
		assert_int_equal(ret, kit.hdr_len <= FRAME_HEAD_MAX ? 0 : -DROP_BAD_HEADER);
	}
}

static void pieces_are_no_longer_than_the_mtu(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 5000 };

	for (spec.tags = 0; spec.tags <= 2; spec.tags++) {
		kit_build(&spec, &kit);
		assert_int_equal(accept(kit_hdr(&kit, 1460), EVERYTHING, 1500), 0);
		assert_int_equal(accept(kit_hdr(&kit, 1461), EVERYTHING, 1500), -DROP_TOO_LONG);
		assert_int_equal(accept(kit_hdr(&kit, 1461), EVERYTHING, 0), 0);
	}
}

static void a_large_segment_that_needs_no_cutting_is_a_plain_frame(void **state)
{
	kit_build(&tcp4, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 1000), EVERYTHING, 1500), 0);
	assert_int_equal(frame.offload.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(frame.offload.gso_size, 0);
	assert_int_equal(frame.offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(accept(kit_hdr(&kit, 65535), EVERYTHING, 1500), 0);
	assert_int_equal(accept(kit_hdr(&kit, 999), EVERYTHING, 1500), 0);
	assert_int_equal(frame.offload.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	kit.len = kit.hdr_len;
	assert_int_equal(accept(kit_hdr(&kit, 999), EVERYTHING, 1500), 0);
	assert_int_equal(frame.offload.gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

static void nobody_has_thousands_of_pieces_cut_for_one_frame(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_UDP, .payload = OFFLOAD_PIECES_MAX * 8 };

	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 8), EVERYTHING, 1500), 0);
	spec.payload++;
	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 8), EVERYTHING, 1500), -DROP_BAD_HEADER);
}

static void congestion_marks_are_told_even_if_the_driver_does_not(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 5000 };
	const uint64_t no_ecn = EVERYTHING & ~BIT(VIRTIO_NET_F_HOST_ECN);
	struct virtio_net_hdr h;

	kit_build(&spec, &kit);
	h = kit_hdr(&kit, 1000);
	h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	assert_int_equal(accept(h, no_ecn, 0), -DROP_BAD_HEADER);
	assert_int_equal(accept(h, EVERYTHING, 0), 0);

	spec.tcp_flags = TCP_FLAG_CWR;
	kit_build(&spec, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 1000), no_ecn, 0), 0);
	assert_int_equal(frame.offload.gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
}

/* What they are known to send, beyond what the specification asks for. */
static void headers_of_real_drivers_pass(void **state)
{
	struct virtio_net_hdr h;

	kit_build(&(struct kit_spec){ .proto = IP_PROTO_TCP,
				      .payload = 9000,
				      .tcp_options = 12,
				      .tcp_flags = 0x18 },
		  &kit);
	/* Linux: hdr_len is what is in the linear part of the skb. */
	h = kit_hdr(&kit, 1448);
	for (uint16_t hdr_len = 0; hdr_len < 600; hdr_len += 50) {
		h.hdr_len = cpu_to_le16(hdr_len);
		assert_int_equal(accept(h, EVERYTHING, 1500), 0);
		assert_int_equal(frame.offload.hdr_len, kit.hdr_len);
	}
	/* DPDK and FreeBSD: exact, the same with and without a tag in the frame. */
	h.hdr_len = cpu_to_le16(kit.hdr_len);
	assert_int_equal(accept(h, EVERYTHING, 1500), 0);
	/* Linux after GRO: the IP length of a frame to be cut may be anything. */
	put_be16(kit.bytes + kit.l3 + IPV4_TOTAL_LEN, 0);
	assert_int_equal(accept(h, EVERYTHING, 1500), 0);
	/* Windows: DATA_VALID set where the checksum was complete. */
	h = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_DATA_VALID };
	kit_build(&tcp4, &kit);
	assert_int_equal(accept(h, EVERYTHING, 1500), 0);
	assert_true(offload_is_plain(&frame));
}

/* --- receivers ----------------------------------------------------------------------- */

static void a_frame_passes_to_those_who_negotiated_what_it_needs(void **state)
{
	static const struct offload_caps all = { true, true, true, true, true, true, 0 };
	struct offload_caps caps;

	for (unsigned int i = 0; i < ARRAY_SIZE(gso_cases); i++) {
		assert_int_equal(accept(build_gso(&gso_cases[i]), EVERYTHING, 0), 0);
		assert_true(offload_passes(&frame, &all));
		caps = all;
		caps.csum = false;
		assert_false(offload_passes(&frame, &caps));
		for (unsigned int j = 0; j < ARRAY_SIZE(gso_cases); j++) {
			caps = (struct offload_caps){ .csum = true,
						      .tso4 = j == 0,
						      .tso6 = j == 1,
						      .uso4 = j == 2,
						      .uso6 = j == 3 };
			assert_int_equal(offload_passes(&frame, &caps), i == j);
			frame.offload.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
			assert_false(offload_passes(&frame, &caps));
			caps.ecn = true;
			assert_int_equal(offload_passes(&frame, &caps), i == j);
			frame.offload.gso_type &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
		}
	}
	caps = (struct offload_caps){ 0 };
	kit_build(&tcp4, &kit);
	assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING, 0), 0);
	assert_false(offload_passes(&frame, &caps));
	offload_set_valid(&frame);
	assert_true(offload_passes(&frame, &caps));
	caps.csum = true;
	assert_true(offload_passes(&frame, &caps));
}

static void a_frame_or_each_of_its_pieces_fits_the_mtu(void **state)
{
	struct kit_spec spec = tcp4;

	for (spec.tags = 0; spec.tags <= 2; spec.tags++) {
		kit_build(&spec, &kit);
		assert_int_equal(accept(kit_hdr(&kit, 0), EVERYTHING, 0), 0);
		assert_true(offload_fits(&frame, 0));
		assert_true(offload_fits(&frame, 1040));
		assert_false(offload_fits(&frame, 1039));
		assert_int_equal(accept(kit_hdr(&kit, 300), EVERYTHING, 0), 0);
		assert_true(offload_fits(&frame, 340));
		assert_false(offload_fits(&frame, 339));
	}
}

static void the_header_of_a_receiver_is_the_one_that_was_sent(void **state)
{
	const struct offload_caps caps = { .csum = true };
	struct virtio_net_hdr h, back;

	for (unsigned int i = 0; i < ARRAY_SIZE(gso_cases); i++) {
		h = build_gso(&gso_cases[i]);
		assert_int_equal(accept(h, EVERYTHING, 0), 0);
		memset(&back, 0xff, sizeof(back));
		offload_to_hdr(&frame, &caps, &back);
		assert_memory_equal(&back, &h, sizeof(h));
	}
	kit_build(&tcp4, &kit);
	h = kit_hdr(&kit, 0);
	assert_int_equal(accept(h, EVERYTHING, 0), 0);
	offload_to_hdr(&frame, &caps, &back);
	assert_memory_equal(&back, &h, sizeof(h));
}

static void who_negotiated_no_checksums_sees_no_flag(void **state)
{
	static const struct virtio_net_hdr none;
	struct offload_caps caps = { .csum = true };
	struct virtio_net_hdr h;

	kit_build(&tcp4, &kit);
	assert_int_equal(accept(none, EVERYTHING, 0), 0);
	offload_set_valid(&frame);
	offload_to_hdr(&frame, &caps, &h);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	caps.csum = false;
	offload_to_hdr(&frame, &caps, &h);
	assert_memory_equal(&h, &none, sizeof(h));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_that_asks_for_nothing_asks_for_nothing),
		cmocka_unit_test(flags_that_are_not_a_drivers_are_ignored),
		cmocka_unit_test(a_frame_has_an_ethernet_header),
		cmocka_unit_test(a_frame_is_no_longer_than_the_mtu_and_its_tags),
		cmocka_unit_test(bytes_that_look_like_tags_do_not_make_an_mtu_larger),
		cmocka_unit_test(a_checksum_is_completed_only_if_that_was_negotiated),
		cmocka_unit_test(a_checksum_lies_within_the_frame),
		cmocka_unit_test(a_checksum_never_changes_addresses_or_ports),
		cmocka_unit_test(a_fragment_has_no_checksum_to_be_completed),
		cmocka_unit_test(a_checksum_of_an_inner_header_passes_as_far_as_head_reaches),
		cmocka_unit_test(other_protocols_have_checksums_behind_their_ports),
		cmocka_unit_test(a_completed_checksum_is_right_wherever_buffers_are_cut),
		cmocka_unit_test(a_checksum_of_zero_is_written_as_all_ones),
		cmocka_unit_test(sums_of_every_length_and_alignment_are_right),
		cmocka_unit_test(a_large_segment_is_of_a_type_that_was_negotiated),
		cmocka_unit_test(a_large_segment_is_what_its_type_says),
		cmocka_unit_test(a_large_segment_is_whole_and_its_lengths_are_true),
		cmocka_unit_test(checksums_behind_more_tags_than_two_are_refused),
		cmocka_unit_test(headers_longer_than_what_can_be_private_are_refused),
		cmocka_unit_test(pieces_are_no_longer_than_the_mtu),
		cmocka_unit_test(a_large_segment_that_needs_no_cutting_is_a_plain_frame),
		cmocka_unit_test(nobody_has_thousands_of_pieces_cut_for_one_frame),
		cmocka_unit_test(congestion_marks_are_told_even_if_the_driver_does_not),
		cmocka_unit_test(headers_of_real_drivers_pass),
		cmocka_unit_test(a_frame_passes_to_those_who_negotiated_what_it_needs),
		cmocka_unit_test(a_frame_or_each_of_its_pieces_fits_the_mtu),
		cmocka_unit_test(the_header_of_a_receiver_is_the_one_that_was_sent),
		cmocka_unit_test(who_negotiated_no_checksums_sees_no_flag),
	};

	return cmocka_run_group_tests_name("offload", tests, NULL, teardown);
}
