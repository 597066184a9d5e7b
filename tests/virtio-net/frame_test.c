/*
 * Frames: what is private and what is shared, where the headers are, tags that
 * come and go, copies of any part.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "tests/core/test.h"
#include "tests/virtio-net/framekit.h"
#include "virtio-net/net_bytes.h"

static uint8_t scratch[KIT_LEN_MAX];
static struct kit_frame kit;
static struct kit_iov bufs;

static void assert_frame_is(const struct frame *f, const uint8_t *bytes, uint32_t len)
{
	assert_int_equal(f->len, len);
	assert_int_equal(kit_gather(f, scratch), len);
	assert_memory_equal(scratch, bytes, len);
}

static const struct kit_spec tcp4 = { .proto = IP_PROTO_TCP, .payload = 1000 };

/* --- private and shared ------------------------------------------------------------ */

static void the_first_bytes_are_private_and_the_rest_is_the_senders(void **state)
{
	struct frame f;

	kit_build(&tcp4, &kit);
	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 30, 0, 50 }, 3);
	kit_frame_init(&f, &bufs, kit.len);
	assert_int_equal(f.head_len, FRAME_HEAD_FIRST);
	assert_frame_is(&f, kit.bytes, kit.len);

	memset(bufs.iov[0].iov_base, 0xee, 30); /* a guest that changes its buffer */
	assert_frame_is(&f, kit.bytes, kit.len);
	kit_iov_free(&bufs);
}

static void a_frame_begins_where_the_header_before_it_ends(void **state)
{
	uint8_t all[12 + 1054];
	struct frame f;

	kit_build(&tcp4, &kit);
	memset(all, 0xaa, 12);
	memcpy(all + 12, kit.bytes, kit.len);
	for (uint32_t cut = 0; cut < 80; cut++) {
		kit_cut(&bufs, all, sizeof(all), (uint32_t[]){ cut, 1, 3 }, 3);
		frame_init(&f, bufs.room, bufs.iov, bufs.nr, 12, kit.len);
		assert_frame_is(&f, kit.bytes, kit.len);
		kit_iov_free(&bufs);
	}
}

static void a_short_frame_is_all_private(void **state)
{
	for (uint32_t len = 0; len <= FRAME_HEAD_FIRST; len++) {
		struct frame f;

		kit_build(&tcp4, &kit);
		kit_cut(&bufs, kit.bytes, len, (uint32_t[]){ 7 }, 1);
		kit_frame_init(&f, &bufs, len);
		assert_int_equal(f.head_len, len);
		assert_frame_is(&f, kit.bytes, len);
		assert_int_equal(frame_pull(&f, FRAME_HEAD_MAX), false);
		assert_int_equal(frame_pull(&f, (uint16_t)len), true);
		kit_iov_free(&bufs);
	}
}

static void pulling_moves_bytes_from_the_tail_and_changes_none(void **state)
{
	struct frame f;

	kit_build(&tcp4, &kit);
	for (uint16_t n = 1; n <= FRAME_HEAD_MAX; n++) {
		kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 65, 1, 0, 0, 10, n }, 6);
		kit_frame_init(&f, &bufs, kit.len);
		assert_true(frame_pull(&f, n));
		assert_int_equal(f.head_len, max_u64(n, FRAME_HEAD_FIRST));
		assert_memory_equal(f.head, kit.bytes, f.head_len);
		assert_frame_is(&f, kit.bytes, kit.len);
		kit_iov_free(&bufs);
	}
}

static void pulling_a_copy_leaves_the_original_as_it_was(void **state)
{
	struct frame f, copy;

	kit_build(&tcp4, &kit);
	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 100, 100 }, 2);
	kit_frame_init(&f, &bufs, kit.len);
	copy = f;
	assert_true(frame_pull(&copy, 250));
	assert_frame_is(&f, kit.bytes, kit.len);
	assert_true(frame_pull(&f, 120));
	assert_frame_is(&f, kit.bytes, kit.len);
	assert_frame_is(&copy, kit.bytes, kit.len);
	kit_iov_free(&bufs);
}

static void every_part_of_a_frame_can_be_copied(void **state)
{
	uint64_t seed = 1;
	uint32_t off, n;
	uint8_t *dst;
	struct frame f;

	kit_build(&tcp4, &kit);
	for (int i = 0; i < 2000; i++) {
		kit_cut_anyhow(&bufs, kit.bytes, kit.len, &seed);
		kit_frame_init(&f, &bufs, kit.len);
		off = kit_below(&seed, kit.len + 1);
		n = kit_below(&seed, kit.len - off + 1);
		dst = malloc(n ? n : 1);
		assert_non_null(dst);
		frame_copy_part(&f, off, dst, n);
		assert_memory_equal(dst, kit.bytes + off, n);
		free(dst);
		dst = malloc(kit.len);
		assert_non_null(dst);
		frame_copy(&f, dst);
		assert_memory_equal(dst, kit.bytes, kit.len);
		free(dst);
		kit_iov_free(&bufs);
	}
}

/* --- headers ----------------------------------------------------------------------- */

static void layers_of(const struct kit_spec *spec, struct frame_layers *l)
{
	struct frame f;

	kit_build(spec, &kit);
	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 20, 33 }, 2);
	kit_frame_init(&f, &bufs, kit.len);
	frame_layers(&f, l);
	assert_frame_is(&f, kit.bytes, kit.len);
	kit_iov_free(&bufs);
}

static void headers_are_found_behind_tags_options_and_extensions(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_HOPOPTS, IP_PROTO_DSTOPTS, IP_PROTO_ROUTING,
				       IP_PROTO_AH };
	struct kit_spec spec = { .payload = 300 };
	struct frame_layers l;

	for (int i = 0; i < 2 * 2 * 3 * 5; i++) {
		spec.v6 = i & 1;
		spec.proto = i & 2 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.tags = i / 4 % 3;
		spec.ip_options = i / 12 % 5 * 8;
		spec.ext = ext;
		spec.nr_ext = i / 12 % 5;
		layers_of(&spec, &l);
		assert_int_equal(l.ethertype, spec.v6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
		assert_int_equal(l.ip_proto, spec.proto);
		assert_int_equal(l.l3, kit.l3);
		assert_int_equal(l.l4, kit.l4);
		assert_int_equal(l.ip_options, i / 12 % 5 != 0);
		assert_false(l.fragment);
	}
}

static void only_the_first_fragment_has_a_transport_header(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_FRAGMENT };
	struct kit_spec v4 = { .proto = IP_PROTO_UDP, .payload = 100, .frag = IPV4_FRAG_MORE };
	struct kit_spec v6 = { .v6 = true,
			       .proto = IP_PROTO_UDP,
			       .payload = 100,
			       .ext = ext,
			       .nr_ext = 1,
			       .frag = IPV6_FRAG_MORE };
	struct frame_layers l;

	layers_of(&v4, &l);
	assert_true(l.fragment && !l.later_fragment && l.l4 == kit.l4);
	v4.frag = 20;
	layers_of(&v4, &l);
	assert_true(l.fragment && l.later_fragment && !l.l4 && l.ip_proto == IP_PROTO_UDP);

	layers_of(&v6, &l);
	assert_true(l.fragment && !l.later_fragment && l.l4 == kit.l4);
	v6.frag = 20 << 3;
	layers_of(&v6, &l);
	assert_true(l.fragment && l.later_fragment && !l.l4 && l.ip_proto == IP_PROTO_UDP);
}

static void an_atomic_fragment_is_still_told(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_FRAGMENT };
	struct kit_spec v6 = { .v6 = true, .proto = IP_PROTO_TCP, .ext = ext, .nr_ext = 1 };
	struct frame_layers l;

	layers_of(&v6, &l);
	assert_true(l.fragment && !l.later_fragment && l.l4 == kit.l4);
}

static void headers_that_are_cut_off_are_not_there(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_HOPOPTS, IP_PROTO_ROUTING };
	struct kit_spec spec = { .payload = 30, .proto = IP_PROTO_TCP };
	struct frame_layers l;
	uint32_t l3_end, l4_min;
	struct frame f;

	for (int kind = 0; kind < 4; kind++) {
		spec.v6 = kind & 1;
		spec.tags = kind & 2 ? 1 : 0;
		spec.ext = ext;
		spec.nr_ext = 2;
		spec.ip_options = 12;
		kit_build(&spec, &kit);
		l3_end = kit.l3 + (spec.v6 ? IPV6_HDR_LEN : IPV4_HDR_LEN + 12u);
		l4_min = kit.l4 + FRAME_L4_MIN;
		for (uint32_t len = 0; len <= kit.len; len++) {
			kit_cut(&bufs, kit.bytes, len, (uint32_t[]){ 61 }, 1);
			kit_frame_init(&f, &bufs, len);
			frame_layers(&f, &l);
			assert_int_equal(l.l3, len >= l3_end ? kit.l3 : 0);
			assert_int_equal(l.l4, len >= l4_min ? kit.l4 : 0);
			assert_true(!l.l4 || f.head_len >= l4_min);
			kit_iov_free(&bufs);
		}
	}
}

static void extension_headers_beyond_what_can_be_private_end_the_search(void **state)
{
	static uint8_t ext[40];
	struct kit_spec spec = { .v6 = true, .proto = IP_PROTO_TCP, .payload = 100, .ext = ext };
	struct frame_layers l;

	memset(ext, IP_PROTO_DSTOPTS, sizeof(ext));
	for (spec.nr_ext = 1; spec.nr_ext <= sizeof(ext); spec.nr_ext++) {
		layers_of(&spec, &l);
		if (kit.l4 + TCP_HDR_LEN <= FRAME_HEAD_MAX)
			assert_int_equal(l.l4, kit.l4);
		else
			assert_int_equal(l.l4, 0);
		if (kit.l4 > FRAME_HEAD_MAX)
			assert_int_equal(l.ip_proto, IP_PROTO_DSTOPTS);
	}
}

static void versions_and_lengths_that_lie_are_no_ip(void **state)
{
	struct frame_layers l;
	struct frame f;

	for (int what = 0; what < 4; what++) {
		struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 100, .v6 = what == 3 };

		kit_build(&spec, &kit);
		kit.bytes[kit.l3] = (uint8_t[]){ 0x65, 0x44, 0x40, 0x45 }[what];
		kit_cut(&bufs, kit.bytes, kit.len, NULL, 0);
		kit_frame_init(&f, &bufs, kit.len);
		frame_layers(&f, &l);
		assert_int_equal(l.ethertype, spec.v6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
		assert_true(!l.l3 && !l.l4);
		kit_iov_free(&bufs);
	}
}

/* --- tags -------------------------------------------------------------------------- */

static void make_tagged(struct frame *f, bool tagged, uint32_t payload)
{
	struct kit_spec spec = tcp4;

	spec.tags = tagged;
	spec.tci = 5 << 13 | 42;
	spec.payload = payload;
	kit_build(&spec, &kit);
	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 12, 100 }, 2);
	kit_frame_init(f, &bufs, kit.len);
	f->tagged = tagged;
	f->vid = 42;
	f->pcp_dei = 5 << 1;
	f->offload = (struct frame_offload){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.ip_start = kit.l3,
		.hdr_len = kit.hdr_len,
		.gso_size = 100,
		.csum_start = kit.l4,
		.csum_offset = TCP_CSUM,
	};
}

static void assert_tagged(const struct frame *f, bool tagged, uint32_t payload)
{
	struct kit_spec spec = tcp4;

	spec.tags = tagged;
	spec.tci = (uint16_t)(f->pcp_dei << 12 | f->vid);
	spec.payload = payload;
	kit_build(&spec, &kit);
	assert_frame_is(f, kit.bytes, kit.len);
	assert_int_equal(f->tagged, tagged);
	assert_int_equal(f->offload.csum_start, kit.l4);
	assert_int_equal(f->offload.csum_offset, TCP_CSUM);
	assert_int_equal(f->offload.hdr_len, kit.hdr_len);
	assert_int_equal(f->offload.ip_start, kit.l3);
	assert_true(f->head_len >= min_u64(f->len, FRAME_HEAD_FIRST));
}

static void a_tag_comes_goes_and_changes_with_all_offsets(void **state)
{
	static const uint32_t payloads[] = { 0, 1, 6, 10, 14, 300 };
	uint8_t *room = malloc(FRAME_ROOM);
	struct frame f, out;

	assert_non_null(room);
	for (int i = 0; i < 4 * 6 * 2; i++) {
		uint32_t payload = payloads[i / 4 % 6];
		bool pulled = i / 24;

		make_tagged(&f, i & 1, payload);
		if (pulled)
			frame_pull(&f, FRAME_HEAD_MAX);
		f.vid = 4000;
		f.pcp_dei = 15;
		frame_retag(&f, i & 2, room, &out);
		assert_true(out.head + out.head_len <= room + FRAME_ROOM);
		assert_tagged(&out, i & 2, payload);
		/* All that may be asked for fits, tag or none. */
		frame_pull(&out, FRAME_HEAD_MAX);
		assert_tagged(&out, i & 2, payload);
		kit_iov_free(&bufs);
	}
	free(room);
}

static void a_tag_can_come_and_go_for_ever(void **state)
{
	static uint8_t rooms[2][FRAME_ROOM];
	struct frame f, out;

	make_tagged(&f, false, 500);
	for (int i = 1; i < 100; i++) {
		frame_retag(&f, i & 1, rooms[i & 1], &out);
		f = out;
		frame_pull(&f, FRAME_HEAD_MAX);
		assert_tagged(&f, i & 1, 500);
	}
	kit_iov_free(&bufs);
}

static void retagging_leaves_the_original_to_others(void **state)
{
	uint8_t room[FRAME_ROOM];
	struct frame f, out;

	make_tagged(&f, true, 500);
	frame_retag(&f, false, room, &out);
	memset(out.head, 0, out.head_len);
	assert_tagged(&f, true, 500);
	frame_own(&f, room, &out);
	memset(out.head, 0, out.head_len);
	assert_tagged(&f, true, 500);
	kit_iov_free(&bufs);
}

static void every_drop_reason_has_a_name(void **state)
{
	for (int i = 0; i < DROP_REASON_CNT; i++) {
		assert_non_null(drop_reason_names[i]);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(drop_reason_names[i], drop_reason_names[j]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_bytes_are_private_and_the_rest_is_the_senders),
		cmocka_unit_test(a_frame_begins_where_the_header_before_it_ends),
		cmocka_unit_test(a_short_frame_is_all_private),
		cmocka_unit_test(pulling_moves_bytes_from_the_tail_and_changes_none),
		cmocka_unit_test(pulling_a_copy_leaves_the_original_as_it_was),
		cmocka_unit_test(every_part_of_a_frame_can_be_copied),
		cmocka_unit_test(headers_are_found_behind_tags_options_and_extensions),
		cmocka_unit_test(only_the_first_fragment_has_a_transport_header),
		cmocka_unit_test(an_atomic_fragment_is_still_told),
		cmocka_unit_test(headers_that_are_cut_off_are_not_there),
		cmocka_unit_test(extension_headers_beyond_what_can_be_private_end_the_search),
		cmocka_unit_test(versions_and_lengths_that_lie_are_no_ip),
		cmocka_unit_test(a_tag_comes_goes_and_changes_with_all_offsets),
		cmocka_unit_test(a_tag_can_come_and_go_for_ever),
		cmocka_unit_test(retagging_leaves_the_original_to_others),
		cmocka_unit_test(every_drop_reason_has_a_name),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
