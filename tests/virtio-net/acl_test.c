/*
 * Access lists: what each key of a rule means, which rule decides, frames that hide
 * what is asked for, and what is said of rules that are wrong.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/virtio-net/framekit.h"
#include "virtio-net/acl.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/vswitch.h"

#define LANES 2

struct lists {
	struct sw_acl *in, *out;
};

/* From JSON with ' for ". */
static json_t *parse(const char *text)
{
	char *copy = strdup(text);
	json_error_t where;
	json_t *rules;

	for (char *at = copy; *at; at++)
		if (*at == '\'')
			*at = '"';
	rules = json_loads(copy, 0, &where);
	if (!rules)
		fail_msg("%s: %s", copy, where.text);
	free(copy);
	return rules;
}

static struct lists compile(const char *text)
{
	json_t *rules = parse(text);
	char err[SW_ERR_LEN] = "";
	struct lists l;

	if (sw_acl_create(rules, LANES, &l.in, &l.out, err) < 0)
		fail_msg("%s: %s", text, err);
	json_decref(rules);
	return l;
}

static void free_lists(struct lists *l)
{
	sw_acl_destroy(l->in);
	sw_acl_destroy(l->out);
}

/* Does a frame of these bytes pass? */
static bool passes_bytes(struct sw_acl *acl, const uint8_t *bytes, uint32_t len, uint16_t vid)
{
	struct acl_burst *b = calloc(1, sizeof(*b));
	struct frame f;
	struct kit_iov v;
	bool pass;

	kit_cut(&v, bytes, len, NULL, 0);
	kit_frame_init(&f, &v, len);
	f.vid = vid;
	pass = sw_acl_filter(acl, 1, b, &f, 1) == 1;
	kit_iov_free(&v);
	free(b);
	return pass;
}

static bool passes_in_vlan(struct sw_acl *acl, const struct kit_spec *spec, uint16_t vid)
{
	static struct kit_frame k;

	kit_build(spec, &k);
	return passes_bytes(acl, k.bytes, k.len, vid);
}

static bool passes(struct sw_acl *acl, const struct kit_spec *spec)
{
	return passes_in_vlan(acl, spec, 1);
}

/* One rule that drops, and frames that it is for and not for. The kit's frames are
 * from 10.1.2.3 to 192.168.77.5, 2001:db8::1 to ::2 or so. */
static void expect_drop(const char *rule, const struct kit_spec *hit, const struct kit_spec *miss)
{
	char text[512];
	struct lists l;

	snprintf(text, sizeof(text), "[{'action': 'drop', %s}]", rule);
	l = compile(text);
	if (hit && passes(l.in, hit))
		fail_msg("%s: should have dropped", rule);
	if (miss && !passes(l.in, miss))
		fail_msg("%s: should have passed", rule);
	free_lists(&l);
}

static const struct kit_spec tcp = { .proto = IP_PROTO_TCP, .sport = 1000, .dport = 80 };
static const struct kit_spec udp = { .proto = IP_PROTO_UDP, .sport = 1000, .dport = 53 };
static const struct kit_spec tcp6 = {
	.v6 = true, .proto = IP_PROTO_TCP, .sport = 1000, .dport = 80
};
static const struct kit_spec icmp = { .proto = 1, .payload = 16 };

/* --- meaning --------------------------------------------------------------------- */

static void a_rule_without_keys_is_for_everything(void **state)
{
	struct lists l = compile("[{'action': 'drop'}]");
	uint8_t arp[60] = { [12] = 8, [13] = 6 };

	assert_false(passes(l.in, &tcp));
	assert_false(passes(l.in, &tcp6));
	assert_false(passes(l.in, &icmp));
	assert_false(passes_bytes(l.in, arp, sizeof(arp), 1));
	assert_false(passes_bytes(l.out, arp, sizeof(arp), 1));
	free_lists(&l);
}

static void each_key_narrows_a_rule_down(void **state)
{
	expect_drop("'proto': 'tcp'", &tcp, &udp);
	expect_drop("'proto': 'tcp'", &tcp6, &icmp);
	expect_drop("'proto': 17", &udp, &tcp);
	expect_drop("'proto': '0x11'", &udp, &tcp);
	expect_drop("'proto': 'icmp'", &icmp, &tcp);
	expect_drop("'proto': 'tcp', 'dst-port': 80", &tcp, &udp);
	expect_drop("'proto': 'tcp', 'dst-port': '80'", &tcp6, &udp);
	expect_drop("'proto': 'tcp', 'dst-port': '0-79'", NULL, &tcp);
	expect_drop("'proto': 'tcp', 'dst-port': '79-81'", &tcp, NULL);
	expect_drop("'proto': 'tcp', 'dst-port': '81-65535'", NULL, &tcp);
	expect_drop("'proto': 'tcp', 'src-port': 1000", &tcp, NULL);
	expect_drop("'proto': 'udp', 'src-port': 53", NULL, &udp);
	expect_drop("'src': '10.1.2.3'", &tcp, &tcp6);
	expect_drop("'src': '10.1.2.4'", NULL, &tcp);
	expect_drop("'src': '10.0.0.0/8'", &tcp, NULL);
	expect_drop("'src': '11.0.0.0/8'", NULL, &tcp);
	expect_drop("'dst': '192.168.64.0/18'", &tcp, &tcp6);
	expect_drop("'dst': '192.168.128.0/17'", NULL, &tcp);
	expect_drop("'src': '0.0.0.0/0'", &tcp, &tcp6);
	expect_drop("'src': '::/0'", &tcp6, &tcp);
	expect_drop("'ethertype': 'ipv4'", &tcp, &tcp6);
	expect_drop("'ethertype': 'ipv6'", &tcp6, &tcp);
	expect_drop("'ethertype': '0x86dd'", &tcp6, &tcp);
	expect_drop("'ethertype': 'arp'", NULL, &tcp);
	expect_drop("'ethertype': 'ipv6', 'proto': 'tcp'", &tcp6, &tcp);
	expect_drop("'src-mac': '52:54:00:00:00:01'", &tcp, NULL);
	expect_drop("'src-mac': '52:54:00:00:00:02'", NULL, &tcp);
	expect_drop("'dst-mac': '52:54:00:00:00:02'", &tcp6, NULL);
	expect_drop("'dst-mac': '52:54:00:00:00:01'", NULL, &tcp6);
	expect_drop("'src-mac': '52:54:00:00:00:00/24'", &tcp, NULL);
	expect_drop("'src-mac': '52:54:00:00:00:00/47'", &tcp, NULL);
	expect_drop("'dst-mac': '52:54:00:00:00:00/47'", NULL, &tcp);
	expect_drop("'src-mac': '00:00:00:00:00:00/1'", &tcp, NULL);
	expect_drop("'dst-mac': '80:00:00:00:00:00/1'", NULL, &tcp);
}

static void ipv6_prefixes_of_every_length_match(void **state)
{
	static struct kit_frame k;
	char addr[64], rule[128];
	uint8_t bytes[16];
	struct lists l;

	kit_build(&tcp6, &k);
	for (unsigned int bits = 1; bits <= 128; bits++) {
		for (int other = 0; other < 2; other++) {
			memcpy(bytes, k.bytes + k.l3 + IPV6_SADDR, 16);
			if (other)
				bytes[(bits - 1) / 8] ^= (uint8_t)(0x80 >> (bits - 1) % 8);
			for (unsigned int i = bits; i < 128; i++)
				bytes[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
			addr[0] = '\0';
			for (int i = 0; i < 16; i += 2)
				sprintf(addr + strlen(addr), "%s%x", i ? ":" : "",
					bytes[i] << 8 | bytes[i + 1]);
			snprintf(rule, sizeof(rule), "[{'action': 'drop', 'src': '%s/%u'}]", addr,
				 bits);
			l = compile(rule);
			assert_int_equal(passes(l.in, &tcp6), other);
			free_lists(&l);
		}
	}
}

static void vlans_are_those_the_frame_belongs_to(void **state)
{
	struct lists l = compile("[{'action': 'drop', 'vlan': '10-19'}]");
	struct kit_spec tagged = tcp;

	assert_false(passes_in_vlan(l.in, &tcp, 10));
	assert_false(passes_in_vlan(l.in, &tcp6, 19));
	assert_true(passes_in_vlan(l.in, &tcp, 9));
	assert_true(passes_in_vlan(l.in, &tcp6, 20));
	tagged.tags = 1;
	tagged.tci = 0xe00c;
	assert_false(passes_in_vlan(l.in, &tagged, 12));
	free_lists(&l);
	l = compile("[{'action': 'drop', 'vlan': 12, 'proto': 'tcp', 'dst-port': 80}]");
	assert_false(passes_in_vlan(l.in, &tagged, 12));
	assert_true(passes_in_vlan(l.in, &tagged, 13));
	free_lists(&l);
}

static void the_first_rule_that_matches_decides(void **state)
{
	struct lists l = compile("[{'action': 'allow', 'proto': 'tcp', 'dst-port': 80},"
				 " {'action': 'drop', 'proto': 'tcp'},"
				 " {'action': 'allow', 'src': '10.0.0.0/8'},"
				 " {'action': 'drop'}]");
	struct kit_spec ssh = { .proto = IP_PROTO_TCP, .sport = 9, .dport = 22 };
	uint8_t arp[60] = { [12] = 8, [13] = 6 };

	assert_true(passes(l.in, &tcp));
	assert_true(passes(l.in, &tcp6));
	assert_false(passes(l.in, &ssh));
	assert_true(passes(l.in, &udp));
	assert_false(passes_bytes(l.in, arp, sizeof(arp), 1));
	free_lists(&l);
}

static void directions_have_lists_of_their_own(void **state)
{
	struct lists l = compile("[{'action': 'drop', 'dir': 'in', 'proto': 'tcp'},"
				 " {'action': 'drop', 'dir': 'out', 'proto': 'udp'},"
				 " {'action': 'drop', 'dir': 'both', 'proto': 'icmp'}]");

	assert_false(passes(l.in, &tcp));
	assert_true(passes(l.in, &udp));
	assert_false(passes(l.in, &icmp));
	assert_true(passes(l.out, &tcp));
	assert_false(passes(l.out, &udp));
	assert_false(passes(l.out, &icmp));
	free_lists(&l);
	l = compile("[{'action': 'drop', 'dir': 'out'}]");
	assert_null(l.in);
	assert_non_null(l.out);
	free_lists(&l);
	l = compile("[]");
	assert_null(l.in);
	assert_null(l.out);
}

static void hits_are_counted_by_rule(void **state)
{
	struct lists l = compile("[{'action': 'drop', 'dir': 'out'},"
				 " {'action': 'allow', 'dir': 'in', 'proto': 'tcp'},"
				 " {'action': 'drop', 'dir': 'in'}]");
	json_t *status, *rule;

	passes(l.in, &tcp);
	passes(l.in, &tcp6);
	passes(l.in, &udp);
	status = sw_acl_status(l.in);
	assert_int_equal(json_array_size(status), 2);
	rule = json_array_get(status, 0);
	assert_int_equal(json_integer_value(json_object_get(rule, "rule")), 2);
	assert_int_equal(json_integer_value(json_object_get(rule, "hits")), 2);
	assert_string_equal(json_string_value(json_object_get(rule, "proto")), "tcp");
	rule = json_array_get(status, 1);
	assert_int_equal(json_integer_value(json_object_get(rule, "hits")), 1);
	json_decref(status);
	free_lists(&l);
}

/* --- what cannot be told --------------------------------------------------------- */

static void later_fragments_have_no_ports(void **state)
{
	const uint8_t frag_hdr[] = { IP_PROTO_FRAGMENT };
	struct kit_spec first = tcp, later = tcp, later6 = tcp6;
	struct lists l;

	first.frag = IPV4_FRAG_MORE;
	first.payload = later.payload = 100;
	later.frag = 13;
	later6.ext = frag_hdr;
	later6.nr_ext = 1;
	later6.frag = 13 << 3;
	l = compile("[{'action': 'drop', 'proto': 'tcp', 'dst-port': 80}]");
	assert_false(passes(l.in, &first));
	assert_true(passes(l.in, &later));
	assert_true(passes(l.in, &later6));
	free_lists(&l);
	l = compile("[{'action': 'allow', 'proto': 'tcp', 'dst-port': 80}, {'action': 'drop'}]");
	assert_true(passes(l.in, &first));
	assert_false(passes(l.in, &later));
	free_lists(&l);
	l = compile("[{'action': 'drop', 'fragment': true}]");
	assert_true(passes(l.in, &first));
	assert_false(passes(l.in, &later));
	assert_false(passes(l.in, &later6));
	assert_true(passes(l.in, &tcp));
	free_lists(&l);
	l = compile("[{'action': 'drop', 'fragment': false}]");
	assert_false(passes(l.in, &first));
	assert_true(passes(l.in, &later));
	free_lists(&l);
	/* The protocol is known all the same. */
	l = compile("[{'action': 'drop', 'proto': 'tcp'}]");
	assert_false(passes(l.in, &later));
	assert_false(passes(l.in, &later6));
	free_lists(&l);
}

static void ports_behind_options_and_extension_headers_are_found(void **state)
{
	const uint8_t exts[] = { IP_PROTO_HOPOPTS, IP_PROTO_ROUTING, IP_PROTO_DSTOPTS,
				 IP_PROTO_AH };
	struct kit_spec v4 = tcp, v6 = tcp6, tags = tcp;

	v4.ip_options = 40;
	v6.ext = exts;
	v6.nr_ext = ARRAY_SIZE(exts);
	tags.tags = 2;
	expect_drop("'proto': 'tcp', 'dst-port': 80", &v4, &udp);
	expect_drop("'proto': 'tcp', 'dst-port': 80", &v6, &udp);
	expect_drop("'proto': 'tcp', 'dst-port': 80", &tags, &udp);
}

static void what_cannot_be_told_does_not_pass(void **state)
{
	struct lists ports = compile("[{'action': 'drop', 'proto': 'tcp', 'dst-port': 22}]");
	struct lists addrs = compile("[{'action': 'drop', 'src': '192.0.2.0/24'}]");
	struct lists macs = compile("[{'action': 'drop', 'src-mac': '02:00:00:00:00:99'}]");
	static struct kit_frame k, long_chain;
	uint8_t exts[64];
	struct kit_spec v6 = tcp6;

	kit_build(&tcp, &k);
	/* The frame ends before the ports, or in the IP header. */
	assert_true(passes_bytes(ports.in, k.bytes, k.l4 + 4u, 1));
	assert_false(passes_bytes(ports.in, k.bytes, k.l4 + 3u, 1));
	assert_true(passes_bytes(addrs.in, k.bytes, k.l4 + 3u, 1));
	assert_false(passes_bytes(addrs.in, k.bytes, k.l3 + 19u, 1));
	assert_true(passes_bytes(macs.in, k.bytes, k.l3 + 19u, 1));
	/* Not the version it says it is; a header length that is too small. */
	k.bytes[k.l3] = 0x65;
	assert_false(passes_bytes(addrs.in, k.bytes, k.len, 1));
	k.bytes[k.l3] = 0x44;
	assert_false(passes_bytes(addrs.in, k.bytes, k.len, 1));
	assert_true(passes_bytes(macs.in, k.bytes, k.len, 1));
	/* More extension headers than can be followed. */
	memset(exts, IP_PROTO_DSTOPTS, sizeof(exts));
	v6.ext = exts;
	v6.nr_ext = 40;
	kit_build(&v6, &long_chain);
	assert_false(passes_bytes(ports.in, long_chain.bytes, long_chain.len, 1));
	assert_true(passes_bytes(macs.in, long_chain.bytes, long_chain.len, 1));
	/* For IPv4 this protocol is no extension header. */
	v6 = (struct kit_spec){ .proto = IP_PROTO_AH, .payload = 0 };
	assert_true(passes(ports.in, &v6));
	free_lists(&ports);
	free_lists(&addrs);
	free_lists(&macs);
}

static void a_burst_is_told_apart(void **state)
{
	struct lists l = compile("[{'action': 'drop', 'proto': 'tcp', 'dst-port': 80},"
				 " {'action': 'drop', 'ethertype': 'arp'}]");
	const struct kit_spec *specs[] = { &tcp, &udp, &tcp6, &icmp };
	static struct kit_frame k;
	struct frame frames[FRAME_BURST];
	struct kit_iov v[FRAME_BURST];
	struct acl_burst *b = calloc(1, sizeof(*b));
	uint32_t expected = 0;

	for (unsigned int i = 0; i < FRAME_BURST; i++) {
		kit_build(specs[i % 4], &k);
		if (i % 8 == 7)
			put_be16(k.bytes + 12, 0x0806);
		kit_cut(&v[i], k.bytes, k.len, NULL, 0);
		kit_frame_init(&frames[i], &v[i], k.len);
		frames[i].vid = 1;
		expected |= (uint32_t)(i % 4 == 1 || i % 8 == 3) << i;
	}
	assert_int_equal(sw_acl_filter(l.in, 0, b, frames, UINT32_MAX), expected);
	/* Keys are kept for the next list; only what is asked for is answered. */
	assert_int_equal(b->done, UINT32_MAX);
	assert_int_equal(sw_acl_filter(l.out, 0, b, frames, 0xff00), expected & 0xff00);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		kit_iov_free(&v[i]);
	free(b);
	free_lists(&l);
}

/* --- against a second implementation --------------------------------------------- */

struct simple {
	bool drop;
	int proto; /* -1: any */
	uint32_t src, src_mask;
	unsigned int port_min, port_max;
	unsigned int vlan_min, vlan_max;
};

static json_t *simple_json(const struct simple *s, unsigned int bits)
{
	json_t *rule = json_pack("{s:s}", "action", s->drop ? "drop" : "allow");
	char text[64];

	if (s->proto >= 0)
		json_object_set_new(rule, "proto", json_integer(s->proto));
	if (s->src_mask) {
		snprintf(text, sizeof(text), "%u.%u.%u.%u/%u", s->src >> 24, s->src >> 16 & 255,
			 s->src >> 8 & 255, s->src & 255, bits);
		json_object_set_new(rule, "src", json_string(text));
	}
	if (s->port_max < 65535) {
		snprintf(text, sizeof(text), "%u-%u", s->port_min, s->port_max);
		json_object_set_new(rule, "dst-port", json_string(text));
	}
	if (s->vlan_max < 4095) {
		snprintf(text, sizeof(text), "%u-%u", s->vlan_min, s->vlan_max);
		json_object_set_new(rule, "vlan", json_string(text));
	}
	return rule;
}

static struct simple random_rule(uint64_t *seed, json_t *rules)
{
	static const int protos[] = { -1, IP_PROTO_TCP, IP_PROTO_UDP };
	struct simple s = { .port_max = 65535, .vlan_max = 4095 };
	unsigned int bits = 0;

	s.drop = kit_below(seed, 2);
	s.proto = protos[kit_below(seed, 3)];
	if (kit_below(seed, 2)) {
		bits = 1 + kit_below(seed, 32);
		s.src_mask = ~(uint32_t)0 << (32 - bits);
		/* Not far from each other, so that rules overlap. */
		s.src = (0x0a000000 | kit_below(seed, 16)) & s.src_mask;
	}
	if (s.proto >= 0 && kit_below(seed, 2)) {
		s.port_min = kit_below(seed, 8);
		s.port_max = s.port_min + kit_below(seed, 8);
	}
	if (!kit_below(seed, 3)) {
		s.vlan_min = 1 + kit_below(seed, 4);
		s.vlan_max = s.vlan_min + kit_below(seed, 4);
	}
	json_array_append_new(rules, simple_json(&s, bits));
	return s;
}

static bool simple_passes(const struct simple *s, unsigned int nr, uint8_t proto, uint32_t src,
			  unsigned int port, unsigned int vid)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (s[i].proto >= 0 && s[i].proto != proto)
			continue;
		if ((src & s[i].src_mask) != s[i].src)
			continue;
		if (port < s[i].port_min || port > s[i].port_max)
			continue;
		if (vid < s[i].vlan_min || vid > s[i].vlan_max)
			continue;
		return !s[i].drop;
	}
	return true;
}

static void many_rules_say_what_a_plain_walk_says(void **state)
{
	enum {
		RULES = 60,
	};
	struct simple rules[RULES];
	static struct kit_frame k;
	uint64_t seed = 4711;
	char err[SW_ERR_LEN];

	for (int round = 0; round < 30; round++) {
		unsigned int nr = 1 + kit_below(&seed, RULES), dropped = 0;
		json_t *json = json_array();
		struct lists l;

		for (unsigned int i = 0; i < nr; i++)
			rules[i] = random_rule(&seed, json);
		assert_int_equal(sw_acl_create(json, LANES, &l.in, &l.out, err), 0);
		json_decref(json);
		for (int n = 0; n < 300; n++) {
			struct kit_spec spec = {
				.proto = kit_below(&seed, 2) ? IP_PROTO_TCP : IP_PROTO_UDP,
				.sport = 7,
				.dport = (uint16_t)(1 + kit_below(&seed, 16)),
			};
			uint32_t src = 0x0a000000 | kit_below(&seed, 20);
			uint16_t vid = (uint16_t)(1 + kit_below(&seed, 9));
			bool pass;

			kit_build(&spec, &k);
			put_be32(k.bytes + k.l3 + IPV4_SADDR, src);
			pass = simple_passes(rules, nr, spec.proto, src, spec.dport, vid);
			dropped += !pass;
			assert_int_equal(passes_bytes(l.in, k.bytes, k.len, vid), pass);
		}
		free_lists(&l);
		(void)dropped;
	}
}

/* --- rules that are wrong -------------------------------------------------------- */

static void wrong_rules_say_where_and_what(void **state)
{
	static const char *const wrong[][2] = {
		{ "{}", "expected an array of rules" },
		{ "['x']", "rule 1: expected an object" },
		{ "[{'action': 'drop'}, {'proto': 6}]",
		  "rule 2: 'action': is missing, expected allow or drop" },
		{ "[{'action': 'deny'}]", "rule 1: 'action': 'deny', expected one of allow, drop" },
		{ "[{'action': 7}]", "'7', expected one of allow, drop" },
		{ "[{'action': 'drop', 'dst-prt': 1}]",
		  "rule 1: unknown key 'dst-prt', did you mean 'dst-port'?" },
		{ "[{'action': 'drop', 'dir': 'up'}]",
		  "'dir': 'up', expected one of both, in, out" },
		{ "[{'action': 'drop', 'proto': 'tpc'}]", "did you mean 'tcp'?" },
		{ "[{'action': 'drop', 'proto': 256}]", "a number up to 255" },
		{ "[{'action': 'drop', 'proto': -1}]", "'proto': '-1'" },
		{ "[{'action': 'drop', 'proto': 1.5}]", "'proto': '?'" },
		{ "[{'action': 'drop', 'ethertype': 'ipx'}]",
		  "'ethertype': 'ipx', expected ipv4, arp" },
		{ "[{'action': 'drop', 'ethertype': 65536}]", "a number up to 65535" },
		{ "[{'action': 'drop', 'vlan': 0}]",
		  "'vlan': '0', expected a number from 1 to 4094" },
		{ "[{'action': 'drop', 'vlan': '9-8'}]", "'9-8', expected" },
		{ "[{'action': 'drop', 'vlan': '1-4095'}]", "'1-4095', expected" },
		{ "[{'action': 'drop', 'src': '10.0.0.0/33'}]", "'src': '10.0.0.0/33', expected" },
		{ "[{'action': 'drop', 'src': '10.0.0.1/8'}]", "has bits set behind its first 8" },
		{ "[{'action': 'drop', 'src': '10.0.0.0/'}]", "expected an address or prefix" },
		{ "[{'action': 'drop', 'src': '2001:db8::1/32'}]", "behind its first 32" },
		{ "[{'action': 'drop', 'src': 10}]", "'src': '?', expected an address" },
		{ "[{'action': 'drop', 'src': '10.0.0.0/8', 'dst': '::/0'}]",
		  "'dst': '::/0' is not of the family" },
		{ "[{'action': 'drop', 'src-mac': '52:54:00:00:00'}]", "expected a MAC address" },
		{ "[{'action': 'drop', 'src-mac': '52:54:00:00:00:0g'}]",
		  "expected a MAC address" },
		{ "[{'action': 'drop', 'src-mac': '52:54:00:00:00:01:02'}]",
		  "expected a MAC address" },
		{ "[{'action': 'drop', 'src-mac': '52:54:00:00:00:01/49'}]",
		  "expected a MAC address" },
		{ "[{'action': 'drop', 'src-mac': '52:54:00:00:00:01/24'}]",
		  "behind its first 24" },
		{ "[{'action': 'drop', 'dst-port': 80}]", "'dst-port': needs a protocol" },
		{ "[{'action': 'drop', 'proto': 'icmp', 'src-port': 80}]",
		  "'src-port': needs a protocol" },
		{ "[{'action': 'drop', 'proto': 'tcp', 'dst-port': 65536}]", "from 0 to 65535" },
		{ "[{'action': 'drop', 'proto': 'tcp', 'dst-port': '80-'}]", "'80-', expected" },
		{ "[{'action': 'drop', 'proto': 'tcp', 'dst-port': 80, 'fragment': true}]",
		  "later fragments have no ports" },
		{ "[{'action': 'drop', 'fragment': 1}]", "expected true or false" },
		{ "[{'action': 'drop', 'ethertype': 'arp', 'proto': 'tcp'}]",
		  "'ethertype': addresses" },
		{ "[{'action': 'drop', 'ethertype': 'ipv6', 'src': '10.0.0.0/8'}]",
		  "'ethertype': is not of the family" },
	};
	struct sw_acl *in, *out;
	char err[SW_ERR_LEN];

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		json_t *rules = parse(wrong[i][0]);

		err[0] = '\0';
		assert_int_equal(sw_acl_create(rules, LANES, &in, &out, err), -EINVAL);
		assert_null(in);
		assert_null(out);
		if (!strstr(err, wrong[i][1]))
			fail_msg("%s: '%s'", wrong[i][0], err);
		json_decref(rules);
	}
}

static void a_value_that_is_endless_is_cut_in_the_message(void **state)
{
	char *text = malloc(100001), err[SW_ERR_LEN];
	struct sw_acl *in, *out;
	static const char *const keys[] = { "action", "proto", "src", "src-mac", "vlan", "zzz" };

	memset(text, 'x', 100000);
	text[100000] = '\0';
	for (unsigned int i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *rules = json_pack("[{s:s, s:s}]", "action", "drop", keys[i], text);

		assert_int_equal(sw_acl_create(rules, LANES, &in, &out, err), -EINVAL);
		assert_true(strlen(err) < SW_ERR_LEN);
		json_decref(rules);
	}
	free(text);
}

static void a_list_may_be_long_but_not_endless(void **state)
{
	json_t *rules = json_array();
	struct sw_acl *in, *out;
	char err[SW_ERR_LEN], addr[32];

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(addr, sizeof(addr), "10.%u.%u.0/24", i / 250, i % 250);
		json_array_append_new(rules, json_pack("{s:s, s:s, s:s, s:i}", "action", "drop",
						       "src", addr, "proto", "tcp", "dst-port", i));
	}
	assert_int_equal(sw_acl_create(rules, LANES, &in, &out, err), 0);
	assert_int_equal(sw_acl_nr_rules(in), 1000);
	sw_acl_destroy(in);
	sw_acl_destroy(out);
	while (json_array_size(rules) <= ACL_RULES_MAX)
		json_array_append(rules, json_array_get(rules, 0));
	assert_int_equal(sw_acl_create(rules, LANES, &in, &out, err), -E2BIG);
	assert_non_null(strstr(err, "4097 rules"));
	json_decref(rules);
}

static void lists_are_read_from_files(void **state)
{
	static const struct {
		const char *text;
		int ret;
		const char *says;
	} files[] = {
		{ "[{\"action\": \"drop\"}]", 0, NULL },
		{ "[{\"action\": \"drop\"},\n ]", -EINVAL, "line 2" },
		{ "[{\"vlan\": 1, \"vlan\": 2}]", -EINVAL, "duplicate" },
		{ "", -EINVAL, "line 1" },
	};
	char path[] = "/tmp/ringbolt-acl-XXXXXX", err[SW_ERR_LEN];
	int fd = mkstemp(path);
	json_t *rules;

	assert_true(fd >= 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(files); i++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, files[i].text, strlen(files[i].text), 0),
				 strlen(files[i].text));
		rules = NULL;
		assert_int_equal(sw_acl_load(path, &rules, err), files[i].ret);
		if (files[i].says)
			assert_non_null(strstr(err, files[i].says));
		json_decref(rules);
	}
	assert_int_equal(ftruncate(fd, ACL_FILE_MAX + 1), 0);
	assert_int_equal(sw_acl_load(path, &rules, err), -EINVAL);
	close(fd);
	unlink(path);
	assert_int_equal(sw_acl_load(path, &rules, err), -ENOENT);
	assert_non_null(strstr(err, path));
	assert_int_equal(sw_acl_load("/dev/zero", &rules, err), -EINVAL);
	assert_int_equal(sw_acl_load("/tmp", &rules, err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rule_without_keys_is_for_everything),
		cmocka_unit_test(each_key_narrows_a_rule_down),
		cmocka_unit_test(ipv6_prefixes_of_every_length_match),
		cmocka_unit_test(vlans_are_those_the_frame_belongs_to),
		cmocka_unit_test(the_first_rule_that_matches_decides),
		cmocka_unit_test(directions_have_lists_of_their_own),
		cmocka_unit_test(hits_are_counted_by_rule),
		cmocka_unit_test(later_fragments_have_no_ports),
		cmocka_unit_test(ports_behind_options_and_extension_headers_are_found),
		cmocka_unit_test(what_cannot_be_told_does_not_pass),
		cmocka_unit_test(a_burst_is_told_apart),
		cmocka_unit_test(many_rules_say_what_a_plain_walk_says),
		cmocka_unit_test(wrong_rules_say_where_and_what),
		cmocka_unit_test(a_value_that_is_endless_is_cut_in_the_message),
		cmocka_unit_test(a_list_may_be_long_but_not_endless),
		cmocka_unit_test(lists_are_read_from_files),
	};
	char err[EAL_ERR_LEN];

	if (eal_start(err) < 0) {
		printf("cannot run here: %s\n", err);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
