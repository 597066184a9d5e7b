/*
 * Large segments cut up, byte for byte, against a second implementation that
 * builds every piece from its description. segment_kernel_test compares with what
 * the kernel makes of the same frames.
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

#define EVERYTHING (~0ull)

static struct kit_frame kit, expected;
static struct kit_iov bufs;
static struct frame whole;
static struct segmenter seg;
static uint8_t scratch[KIT_LEN_MAX];

static int teardown(void **state)
{
	if (bufs.nr)
		kit_iov_free(&bufs);
	return 0;
}

/* kit as a large segment of gso_size, its buffers cut by the seed. */
static void make_whole(const struct kit_spec *spec, uint16_t gso_size, uint64_t *seed)
{
	struct virtio_net_hdr h;

	teardown(NULL);
	kit_build(spec, &kit);
	h = kit_hdr(&kit, gso_size);
	kit_cut_anyhow(&bufs, kit.bytes, kit.len, seed);
	kit_frame_init(&whole, &bufs, kit.len);
	assert_int_equal(offload_accept(&whole, &h, EVERYTHING, 0), 0);
	assert_true(whole.offload.gso_type);
	frame_pull(&whole, (uint16_t)kit_below(seed, FRAME_HEAD_MAX));
}

/*
 * Piece number nr of what spec describes, in expected: built as a frame of its
 * own, with the part of the pattern that is its payload.
 */
static void build_piece(const struct kit_spec *spec, uint16_t gso_size, unsigned int nr)
{
	uint32_t first = nr * gso_size, n = (uint32_t)min_u64(gso_size, spec->payload - first);
	bool last = first + n == spec->payload;
	struct kit_spec piece = *spec;

	piece.payload = n;
	piece.ip_id = (uint16_t)(spec->ip_id + nr);
	piece.tcp_seq = spec->tcp_seq + first;
	if (nr)
		piece.tcp_flags &= (uint8_t)~TCP_FLAG_CWR;
	if (!last)
		piece.tcp_flags &= (uint8_t) ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
	kit_build(&piece, &expected);
	memcpy(expected.bytes + expected.hdr_len, kit.bytes + kit.hdr_len + first, n);
}

static void complete_expected(uint8_t proto)
{
	uint8_t *l4 = expected.bytes + expected.l4;
	uint16_t sum = (uint16_t)~kit_sum(0, l4, expected.len - expected.l4);

	put_be16(l4 + (proto == IP_PROTO_TCP ? TCP_CSUM : UDP_CSUM), sum ? sum : 0xffff);
	assert_true(kit_csum_good(expected.bytes, expected.len, expected.l3, expected.l4));
}

/* Two ways to write zero are one number; a partial sum may be either. */
static void even_zero(uint8_t *field)
{
	if (get_be16(field) == 0xffff)
		put_be16(field, 0);
}

static void assert_piece(const struct kit_spec *spec, const struct frame *piece, bool keep_csum)
{
	uint16_t csum = expected.l4 + (spec->proto == IP_PROTO_TCP ? TCP_CSUM : UDP_CSUM);

	assert_int_equal(kit_gather(piece, scratch), expected.len);
	assert_int_equal(piece->offload.gso_type, 0);
	assert_true(piece->head_len >= min_u64(piece->len, FRAME_HEAD_FIRST));
	if (!keep_csum) {
		complete_expected(spec->proto);
		assert_true(offload_is_plain(piece));
	} else {
		assert_int_equal(piece->offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(piece->offload.csum_start, expected.l4);
		assert_int_equal(piece->offload.csum_start + piece->offload.csum_offset, csum);
		even_zero(scratch + csum);
		even_zero(expected.bytes + csum);
	}
	assert_memory_equal(scratch, expected.bytes, expected.len);
}

static void check(const struct kit_spec *spec, uint16_t gso_size, bool keep_csum, uint64_t *seed)
{
	unsigned int nr = 0;
	struct frame piece;

	make_whole(spec, gso_size, seed);
	assert_int_equal(segmenter_init(&seg, &whole, keep_csum), 0);
	while (segmenter_next(&seg, &piece)) {
		build_piece(spec, gso_size, nr++);
		assert_piece(spec, &piece, keep_csum);
	}
	assert_int_equal(nr, (spec->payload + gso_size - 1) / gso_size);
	assert_false(segmenter_next(&seg, &piece));
	/* The whole is as it was, for others. */
	kit_gather(&whole, scratch);
	assert_memory_equal(scratch, kit.bytes, kit.len);
}

/* --- what the matrix holds --------------------------------------------------------- */

static void a_segment_is_cut_into_frames_of_its_size(void **state)
{
	struct kit_spec spec = { .tcp_seq = 1000, .payload = 4000, .ip_id = 7 };
	uint64_t seed = 11;

	for (int i = 0; i < 16; i++) {
		spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = i & 2;
		spec.tags = i & 4 ? 1 : 0;
		check(&spec, 1448, i & 8, &seed);
	}
}

static void headers_of_every_length_are_repeated(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_HOPOPTS, IP_PROTO_DSTOPTS, IP_PROTO_ROUTING };
	struct kit_spec spec = { .ext = ext, .tcp_flags = 0x10 };
	uint64_t seed = 12;

	for (int i = 0; i < 4000; i++) {
		spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = i & 2;
		spec.tags = kit_below(&seed, 3);
		spec.ip_options = 4 * kit_below(&seed, 11);
		spec.nr_ext = kit_below(&seed, 4);
		spec.tcp_options = 4 * kit_below(&seed, 11);
		spec.payload = 50 + kit_below(&seed, i % 50 ? 500 : 60000);
		spec.tcp_seq = (uint32_t)kit_random(&seed);
		spec.ip_id = (uint16_t)kit_random(&seed);
		check(&spec, (uint16_t)(30 + kit_below(&seed, spec.payload - 30)), i & 4, &seed);
	}
}

static void sequence_and_identification_wrap_around(void **state)
{
	struct kit_spec spec = {
		.proto = IP_PROTO_TCP, .payload = 1000, .ip_id = 65533, .tcp_seq = UINT32_MAX - 250
	};
	uint64_t seed = 13;

	check(&spec, 100, false, &seed);
	spec.v6 = true;
	check(&spec, 100, true, &seed);
}

static void flags_are_in_the_pieces_they_belong_to(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 1000 };
	uint64_t seed = 14;

	for (unsigned int flags = 0; flags < 256; flags++) {
		spec.tcp_flags = (uint8_t)flags;
		check(&spec, 400, flags & 1, &seed);
		check(&spec, 500, flags & 2, &seed);
	}
}

static void tiny_pieces_come_out_of_the_private_part(void **state)
{
	struct kit_spec spec = { .payload = 300 };
	uint64_t seed = 15;

	for (uint16_t gso_size = 1; gso_size < 70; gso_size++) {
		for (int i = 0; i < 8; i++) {
			spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
			spec.v6 = i & 2;
			check(&spec, gso_size, i & 4, &seed);
		}
	}
}

static void a_retagged_segment_is_cut_as_well(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 3000 };
	uint8_t room[FRAME_ROOM];
	struct frame retagged, piece;
	uint64_t seed = 16;
	unsigned int nr;

	for (int i = 0; i < 200; i++) {
		spec.tags = i & 1;
		spec.tci = 9;
		make_whole(&spec, 1000, &seed);
		whole.tagged = spec.tags;
		whole.vid = 9;
		frame_retag(&whole, !spec.tags, room, &retagged);
		assert_int_equal(segmenter_init(&seg, &retagged, false), 0);
		nr = 0;
		spec.tags = !spec.tags;
		while (segmenter_next(&seg, &piece)) {
			build_piece(&(struct kit_spec){ .proto = IP_PROTO_TCP,
							.payload = 1000,
							.tags = spec.tags,
							.tci = 9,
							.tcp_seq = nr * 1000,
							.ip_id = (uint16_t)nr },
				    1000, 0);
			memcpy(expected.bytes + expected.hdr_len,
			       kit.bytes + kit.hdr_len + nr * 1000, 1000);
			assert_piece(&spec, &piece, false);
			nr++;
		}
		assert_int_equal(nr, 3);
	}
}

/* The sum of a pseudo header with another address than the IP header's stays. */
static void partial_sums_keep_what_only_the_driver_knows(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 2000, .v6 = true };
	uint16_t field, before, after;
	struct virtio_net_hdr h;
	struct frame piece;

	teardown(NULL);
	kit_build(&spec, &kit);
	field = kit.l4 + TCP_CSUM;
	put_be16(kit.bytes + field, 0x1234);
	h = kit_hdr(&kit, 1000);
	kit_cut(&bufs, kit.bytes, kit.len, NULL, 0);
	kit_frame_init(&whole, &bufs, kit.len);
	assert_int_equal(offload_accept(&whole, &h, EVERYTHING, 0), 0);
	assert_int_equal(segmenter_init(&seg, &whole, true), 0);
	while (segmenter_next(&seg, &piece)) {
		before = (uint16_t)(0x1234 - (kit.len - kit.l4));
		after = (uint16_t)(get_be16(piece.head + field) - (piece.len - kit.l4));
		assert_int_equal(after, before);
	}
}

static void what_is_no_large_segment_is_not_cut(void **state)
{
	struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 3000 };
	struct frame bad;
	uint64_t seed = 17;

	make_whole(&spec, 1000, &seed);
	bad = whole;
	bad.offload.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	assert_int_equal(segmenter_init(&seg, &bad, false), -DROP_OFFLOAD);
	bad = whole;
	bad.offload.gso_size = 0;
	assert_int_equal(segmenter_init(&seg, &bad, false), -DROP_OFFLOAD);
	bad = whole;
	bad.offload.csum_start = kit.l3;
	assert_int_equal(segmenter_init(&seg, &bad, false), -DROP_OFFLOAD);
	bad = whole;
	bad.offload.hdr_len = bad.head_len + 1;
	assert_int_equal(segmenter_init(&seg, &bad, false), -DROP_OFFLOAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_segment_is_cut_into_frames_of_its_size),
		cmocka_unit_test(headers_of_every_length_are_repeated),
		cmocka_unit_test(sequence_and_identification_wrap_around),
		cmocka_unit_test(flags_are_in_the_pieces_they_belong_to),
		cmocka_unit_test(tiny_pieces_come_out_of_the_private_part),
		cmocka_unit_test(a_retagged_segment_is_cut_as_well),
		cmocka_unit_test(partial_sums_keep_what_only_the_driver_knows),
		cmocka_unit_test(what_is_no_large_segment_is_not_cut),
	};

	return cmocka_run_group_tests_name("segment", tests, NULL, teardown);
}
