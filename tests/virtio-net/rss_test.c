/*
 * Receive-side scaling: Microsoft's published verification vectors, the choice of
 * a hash type by what is enabled and what the frame has, and the queue it leads to.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "tests/core/test.h"
#include "tests/virtio-net/framekit.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/vnet_rss.h"

#define TYPE(report) (1u << ((report)-1))
#define V4_TYPES                                                                                   \
	(VIRTIO_NET_HASH_TYPE_IPv4 | VIRTIO_NET_HASH_TYPE_TCPv4 | VIRTIO_NET_HASH_TYPE_UDPv4)
#define V6_TYPES                                                                                   \
	(VIRTIO_NET_HASH_TYPE_IPv6 | VIRTIO_NET_HASH_TYPE_TCPv6 | VIRTIO_NET_HASH_TYPE_UDPv6)
#define EX_TYPES                                                                                   \
	(VIRTIO_NET_HASH_TYPE_IP_EX | VIRTIO_NET_HASH_TYPE_TCP_EX | VIRTIO_NET_HASH_TYPE_UDP_EX)

/* "Verifying the RSS Hash Calculation", Windows Driver Kit. */
static const uint8_t ms_key[VNET_RSS_KEY_MAX] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

static const struct vector {
	const char *saddr;
	uint16_t sport;
	const char *daddr;
	uint16_t dport;
	uint32_t ip, tcp;
} v4_vectors[] = {
	{ "66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e8fc2, 0x51ccc178 },
	{ "199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718262a, 0xc626b0ea },
	{ "24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0a5de, 0x5c2b394a },
	{ "38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xafc7327f },
	{ "153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d1809c5, 0x10e828a2 },
}, v6_vectors[] = {
	{ "3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc18cd5, 0x40207d3d },
	{ "3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c461c, 0xdde51bbf },
	{ "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024,
	  0x4b61e985, 0x02d1feef },
};

static struct kit_frame kit;
static struct kit_iov bufs;
static struct vnet_hash hash;

static struct vnet_rss_conf conf_of(uint32_t types)
{
	struct vnet_rss_conf conf = { .hash_types = types, .key_len = sizeof(ms_key) };

	memcpy(conf.key, ms_key, sizeof(ms_key));
	return conf;
}

/* What is in kit, hashed into h; the queue. The room was used before. */
static unsigned int ask_in(const struct vnet_rss *rss, uint8_t room, struct vnet_hash *h)
{
	unsigned int queue;
	struct frame f;

	kit_cut(&bufs, kit.bytes, kit.len, (uint32_t[]){ 33, 40 }, 2);
	for (unsigned int i = 0; i < FRAME_ROOM; i++)
		bufs.room[i] = i & 1 ? room : IPV6_ADDR_LEN;
	kit_frame_init(&f, &bufs, kit.len);
	memset(h, 0xff, sizeof(*h));
	queue = vnet_rss_queue(rss, &f, h);
	kit_iov_free(&bufs);
	return queue;
}

/* What is in kit, hashed into hash; the queue. Nothing else may matter. */
static unsigned int ask(const struct vnet_rss_conf *conf)
{
	struct vnet_rss *rss = vnet_rss_create(conf);
	struct vnet_hash again;
	unsigned int queue;

	assert_non_null(rss);
	queue = ask_in(rss, 0, &hash);
	assert_true(!hash.value || hash.report);
	assert_int_equal(ask_in(rss, 0xc9, &again), queue);
	assert_int_equal(again.report, hash.report);
	assert_int_equal(again.value, hash.value);
	vnet_rss_destroy(rss);
	return queue;
}

static void build_vector(const struct vector *v, struct kit_spec spec)
{
	uint8_t *ip;

	spec.payload = 100;
	spec.sport = v->sport;
	spec.dport = v->dport;
	kit_build(&spec, &kit);
	ip = kit.bytes + kit.l3;
	if (spec.v6) {
		assert_int_equal(inet_pton(AF_INET6, v->saddr, ip + IPV6_SADDR), 1);
		assert_int_equal(inet_pton(AF_INET6, v->daddr, ip + IPV6_DADDR), 1);
	} else {
		assert_int_equal(inet_pton(AF_INET, v->saddr, ip + IPV4_SADDR), 1);
		assert_int_equal(inet_pton(AF_INET, v->daddr, ip + IPV4_SADDR + 4), 1);
	}
}

static void expect(uint32_t types, uint16_t report, uint32_t value)
{
	struct vnet_rss_conf conf = conf_of(types);

	ask(&conf);
	assert_int_equal(hash.report, report);
	assert_int_equal(hash.value, value);
}

/* --- values -------------------------------------------------------------------------- */

static void published_vectors_of_ipv4(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(v4_vectors); i++) {
		build_vector(&v4_vectors[i], (struct kit_spec){ .proto = IP_PROTO_TCP });
		expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv4, v4_vectors[i].tcp);
		expect(VIRTIO_NET_HASH_TYPE_IPv4, VIRTIO_NET_HASH_REPORT_IPv4, v4_vectors[i].ip);
		/* Ports are ports: the same for UDP. */
		build_vector(&v4_vectors[i], (struct kit_spec){ .proto = IP_PROTO_UDP, .tags = 1 });
		expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_UDPv4, v4_vectors[i].tcp);
	}
}

static void published_vectors_of_ipv6(void **state)
{
	const struct kit_spec tcp = { .v6 = true, .proto = IP_PROTO_TCP };

	for (unsigned int i = 0; i < ARRAY_SIZE(v6_vectors); i++) {
		build_vector(&v6_vectors[i], tcp);
		expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6, v6_vectors[i].tcp);
		expect(VIRTIO_NET_HASH_TYPE_IPv6, VIRTIO_NET_HASH_REPORT_IPv6, v6_vectors[i].ip);
		build_vector(&v6_vectors[i],
			     (struct kit_spec){ .v6 = true, .proto = IP_PROTO_UDP });
		expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_UDPv6, v6_vectors[i].tcp);
	}
}

/* The definition, bit by bit. */
static uint32_t toeplitz_by_bits(const uint8_t *key, const uint8_t *in, unsigned int len)
{
	uint32_t value = 0, window;

	for (unsigned int bit = 0; bit < len * 8; bit++) {
		if (!(in[bit / 8] >> (7 - bit % 8) & 1))
			continue;
		window = 0;
		for (unsigned int i = bit; i < bit + 32; i++)
			window = window << 1 | (i < 320 ? key[i / 8] >> (7 - i % 8) & 1u : 0);
		value ^= window;
	}
	return value;
}

static void any_key_and_any_input(void **state)
{
	struct vnet_rss_conf conf = conf_of(VNET_HASH_TYPES);
	uint64_t seed = 5;
	uint8_t in[36];

	for (int i = 0; i < 300; i++) {
		for (unsigned int j = 0; j < sizeof(conf.key); j++)
			conf.key[j] = (uint8_t)kit_random(&seed);
		for (unsigned int j = 0; j < sizeof(in); j++)
			in[j] = (uint8_t)kit_random(&seed);
		kit_build(&(struct kit_spec){ .v6 = true, .proto = IP_PROTO_TCP, .payload = 9 },
			  &kit);
		memcpy(kit.bytes + kit.l3 + IPV6_SADDR, in, 32);
		memcpy(kit.bytes + kit.l4, in + 32, 4);
		ask(&conf);
		assert_int_equal(hash.value, toeplitz_by_bits(conf.key, in, 36));
	}
}

/* --- types --------------------------------------------------------------------------- */

static void the_finest_type_that_is_enabled_is_taken(void **state)
{
	static const struct {
		uint8_t proto;
		bool v6;
		uint16_t fine, coarse;
	} kinds[] = {
		{ IP_PROTO_TCP, false, VIRTIO_NET_HASH_REPORT_TCPv4, VIRTIO_NET_HASH_REPORT_IPv4 },
		{ IP_PROTO_UDP, false, VIRTIO_NET_HASH_REPORT_UDPv4, VIRTIO_NET_HASH_REPORT_IPv4 },
		{ IP_PROTO_TCP, true, VIRTIO_NET_HASH_REPORT_TCPv6, VIRTIO_NET_HASH_REPORT_IPv6 },
		{ IP_PROTO_UDP, true, VIRTIO_NET_HASH_REPORT_UDPv6, VIRTIO_NET_HASH_REPORT_IPv6 },
		{ 1, false, VIRTIO_NET_HASH_REPORT_IPv4, VIRTIO_NET_HASH_REPORT_IPv4 },
		{ 58, true, VIRTIO_NET_HASH_REPORT_IPv6, VIRTIO_NET_HASH_REPORT_IPv6 },
	};
	struct vnet_rss_conf conf;
	uint16_t expected;

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		kit_build(&(struct kit_spec){ .proto = kinds[i].proto,
					      .v6 = kinds[i].v6,
					      .payload = 50 },
			  &kit);
		for (uint32_t types = 0; types <= VNET_HASH_TYPES; types++) {
			conf = conf_of(types);
			ask(&conf);
			expected = VIRTIO_NET_HASH_REPORT_NONE;
			if (types & TYPE(kinds[i].fine))
				expected = kinds[i].fine;
			else if (types & TYPE(kinds[i].coarse))
				expected = kinds[i].coarse;
			assert_int_equal(hash.report, expected);
		}
	}
}

static void fragments_go_by_their_addresses(void **state)
{
	static const uint16_t frags[] = { IPV4_FRAG_MORE, IPV4_FRAG_MORE | 5, 9 };
	struct kit_spec spec = { .proto = IP_PROTO_UDP };

	for (unsigned int i = 0; i < ARRAY_SIZE(frags); i++) {
		spec.frag = frags[i];
		build_vector(&v4_vectors[0], spec);
		expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_IPv4, v4_vectors[0].ip);
		expect(VIRTIO_NET_HASH_TYPE_UDPv4, VIRTIO_NET_HASH_REPORT_NONE, 0);
	}
}

static void extension_headers_have_types_of_their_own(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_HOPOPTS };
	struct kit_spec spec = { .v6 = true, .ext = ext, .nr_ext = 1, .proto = IP_PROTO_TCP };
	const struct vector *v = &v6_vectors[0];

	/* No home address, no routing header: the addresses of the IPv6 header. */
	build_vector(v, spec);
	expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6_EX, v->tcp);
	expect(V6_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6, v->tcp);
	expect(V6_TYPES | VIRTIO_NET_HASH_TYPE_IP_EX, VIRTIO_NET_HASH_REPORT_IPv6_EX, v->ip);
	expect(VIRTIO_NET_HASH_TYPE_UDP_EX, VIRTIO_NET_HASH_REPORT_NONE, 0);
	expect(VIRTIO_NET_HASH_TYPE_UDP_EX | VIRTIO_NET_HASH_TYPE_IPv6, VIRTIO_NET_HASH_REPORT_IPv6,
	       v->ip);
	spec.proto = IP_PROTO_UDP;
	build_vector(v, spec);
	expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_UDPv6_EX, v->tcp);
	expect(EX_TYPES & ~VIRTIO_NET_HASH_TYPE_UDP_EX, VIRTIO_NET_HASH_REPORT_IPv6_EX, v->ip);
}

/* Replace the PadN of a destination options header of 24 bytes (an AH by its
 * length, so that the kit makes it that long) by a home address behind Pad1. */
static void put_home_address(const char *addr, uint16_t prev_next)
{
	uint8_t *ext = kit.bytes + kit.l3 + IPV6_HDR_LEN;

	kit.bytes[prev_next] = IP_PROTO_DSTOPTS;
	ext[1] = 2;
	memset(ext + 2, 0, 22);
	ext[5] = 0xc9;
	ext[6] = 16;
	assert_int_equal(inet_pton(AF_INET6, addr, ext + 7), 1);
}

static void a_mobile_node_is_known_by_its_home_address(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_AH, IP_PROTO_ROUTING };
	struct kit_spec spec = { .v6 = true, .ext = ext, .nr_ext = 2, .proto = IP_PROTO_TCP };
	const struct vector *v = &v6_vectors[2];
	struct vector away = *v;
	uint8_t *routing;

	away.saddr = "2001:db8::1";
	away.daddr = "2001:db8::2";
	build_vector(&away, spec);
	put_home_address(v->saddr, kit.l3 + IPV6_NEXT);
	routing = kit.bytes + kit.l3 + IPV6_HDR_LEN + 24;
	assert_int_equal(inet_pton(AF_INET6, v->daddr, routing + 8), 1);
	expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6_EX, v->tcp);
	expect(VIRTIO_NET_HASH_TYPE_IP_EX, VIRTIO_NET_HASH_REPORT_IPv6_EX, v->ip);

	/* Without an _EX type, and with a routing header of another type. */
	build_vector(v, spec);
	put_home_address("2001:db8::1", kit.l3 + IPV6_NEXT);
	expect(V6_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6, v->tcp);
	put_home_address(v->saddr, kit.l3 + IPV6_NEXT);
	routing[2] = 4;
	expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6_EX, v->tcp);
}

static void options_that_lie_are_not_followed(void **state)
{
	static const uint8_t ext[] = { IP_PROTO_AH };
	struct kit_spec spec = { .v6 = true, .ext = ext, .nr_ext = 1, .proto = IP_PROTO_TCP };
	struct vnet_rss_conf conf = conf_of(VNET_HASH_TYPES);
	const struct vector *v = &v6_vectors[1];
	uint64_t seed = 8;
	uint8_t *options;

	for (int i = 0; i < 5000; i++) {
		build_vector(v, spec);
		put_home_address("::1", kit.l3 + IPV6_NEXT);
		options = kit.bytes + kit.l3 + IPV6_HDR_LEN;
		for (unsigned int j = 2; j < 24; j++) {
			if (!kit_below(&seed, 3))
				options[j] =
					(uint8_t)(kit_below(&seed, 2) ? 0xc9 : kit_random(&seed));
		}
		options[1] = (uint8_t)kit_below(&seed, 5);
		kit.len = kit.l3 + 60 + kit_below(&seed, 60);
		ask(&conf);
	}
	/* An option longer than its header is no home address. */
	build_vector(v, spec);
	put_home_address("::1", kit.l3 + IPV6_NEXT);
	memmove(options + 9, options + 5, 2);
	memset(options + 2, 0, 7);
	expect(VNET_HASH_TYPES, VIRTIO_NET_HASH_REPORT_TCPv6_EX, v->tcp);
}

static void what_is_no_ip_has_no_hash(void **state)
{
	struct vnet_rss_conf conf = conf_of(VNET_HASH_TYPES);

	for (uint32_t len = 0; len < 80; len++) {
		kit_build(&(struct kit_spec){ .proto = IP_PROTO_TCP, .payload = 200 }, &kit);
		put_be16(kit.bytes + ETH_TYPE_OFFSET, 0x0806);
		kit.len = len;
		ask(&conf);
		assert_int_equal(hash.report, VIRTIO_NET_HASH_REPORT_NONE);
	}
}

/* --- queues --------------------------------------------------------------------------- */

static void the_hash_chooses_the_queue_by_the_table(void **state)
{
	struct vnet_rss_conf conf = conf_of(V4_TYPES);

	conf.unclassified = 63;
	for (conf.table_len = 1; conf.table_len <= VNET_RSS_TABLE_MAX; conf.table_len *= 2) {
		for (unsigned int i = 0; i < conf.table_len; i++)
			conf.table[i] = (uint16_t)((i * 7 + 3) % 64);
		for (unsigned int i = 0; i < ARRAY_SIZE(v4_vectors); i++) {
			build_vector(&v4_vectors[i], (struct kit_spec){ .proto = IP_PROTO_TCP });
			assert_int_equal(ask(&conf),
					 conf.table[v4_vectors[i].tcp % conf.table_len]);
		}
		kit_build(&(struct kit_spec){ .v6 = true, .proto = IP_PROTO_TCP }, &kit);
		assert_int_equal(ask(&conf), 63);
	}
}

static void hashing_alone_chooses_no_queue(void **state)
{
	struct vnet_rss_conf conf = conf_of(V4_TYPES);

	build_vector(&v4_vectors[0], (struct kit_spec){ .proto = IP_PROTO_TCP });
	assert_int_equal(ask(&conf), VNET_RSS_NO_QUEUE);
	assert_int_equal(hash.value, v4_vectors[0].tcp);
}

static void a_conf_can_be_read_back(void **state)
{
	struct vnet_rss_conf conf = conf_of(V6_TYPES);
	struct vnet_rss *rss = vnet_rss_create(&conf);

	assert_non_null(rss);
	assert_memory_equal(vnet_rss_get_conf(rss), &conf,
			    offsetof(struct vnet_rss_conf, unclassified));
	vnet_rss_destroy(rss);
	vnet_rss_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_vectors_of_ipv4),
		cmocka_unit_test(published_vectors_of_ipv6),
		cmocka_unit_test(any_key_and_any_input),
		cmocka_unit_test(the_finest_type_that_is_enabled_is_taken),
		cmocka_unit_test(fragments_go_by_their_addresses),
		cmocka_unit_test(extension_headers_have_types_of_their_own),
		cmocka_unit_test(a_mobile_node_is_known_by_its_home_address),
		cmocka_unit_test(options_that_lie_are_not_followed),
		cmocka_unit_test(what_is_no_ip_has_no_hash),
		cmocka_unit_test(the_hash_chooses_the_queue_by_the_table),
		cmocka_unit_test(hashing_alone_chooses_no_queue),
		cmocka_unit_test(a_conf_can_be_read_back),
	};

	return cmocka_run_group_tests_name("rss", tests, NULL, NULL);
}
