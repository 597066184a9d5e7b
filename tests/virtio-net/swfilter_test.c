/*
 * What can be switched on for a port of the switch: anti-spoofing, access lists,
 * limits, storm limits, isolation, mirrors, loopback; and an uplink that brings back
 * what it is given.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "tests/virtio-net/swkit.h"
#include "virtio-net/acl.h"
#include "virtio-net/net_bytes.h"

enum {
	A = SWKIT_A,
	B = SWKIT_B,
	C = SWKIT_C,
};

static void open_three(struct swkit_three *t)
{
	swkit_three_open(t);
	swkit_three_learn(t);
}

static void secure(struct swkit_three *t, struct swkit_port *p, uint64_t mac)
{
	struct sw_port_conf conf = t->conf;

	conf.anti_spoof = true;
	conf.nr_macs = 1;
	swkit_mac(mac, conf.macs[0]);
	swkit_set(&t->k, p, &conf);
}

/* --- addresses ------------------------------------------------------------------- */

static void only_the_addresses_of_a_port_may_send(void **state)
{
	struct swkit_frame f[] = { { B, A }, { B, 0x77 }, { B, A }, { SWKIT_BROADCAST, C } };
	struct sw_port_conf conf;
	struct swkit_three t;

	open_three(&t);
	secure(&t, t.a, A);
	swkit_send(&t.k, t.a, f, ARRAY_SIZE(f));
	swkit_three_expect(&t, 0, 2, 0);
	assert_int_equal(swkit_drops(t.a, DROP_SPOOFED), 2);
	/* It was not learned there either. */
	swkit_send_one(&t.k, t.b, C, B);
	swkit_three_expect(&t, 0, 2, 1);
	conf = *t.a->port->conf;
	conf.nr_macs = 2;
	swkit_mac(0x77, conf.macs[1]);
	swkit_set(&t.k, t.a, &conf);
	swkit_send(&t.k, t.a, f, 2);
	swkit_three_expect(&t, 0, 4, 1);
	swkit_close(&t.k);
}

static void nobody_takes_the_address_of_a_secured_port(void **state)
{
	struct swkit_three t;

	open_three(&t);
	secure(&t, t.a, A);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_pass(&t.k, 10000);
	swkit_clear(t.b);
	swkit_send_one(&t.k, t.c, B, A);
	swkit_three_expect(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.c, DROP_PINNED), 1);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 0, 0);
	/* Until it is not secured any more. */
	t.conf = *t.a->port->conf;
	t.conf.anti_spoof = false;
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send_one(&t.k, t.c, B, A);
	swkit_three_expect(&t, 1, 1, 0);
	swkit_close(&t.k);
}

static void a_secured_port_gets_its_address_back_from_elsewhere(void **state)
{
	struct swkit_three t;

	/* Its guest comes from another host, from where it was heard until now. */
	open_three(&t);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, 0x55);
	secure(&t, t.a, 0x55);
	swkit_pass(&t.k, 200);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, 0x55);
	swkit_clear(t.a);
	swkit_clear(t.b);
	swkit_clear(t.c);
	swkit_send_one(&t.k, t.b, 0x55, B);
	swkit_three_expect(&t, 1, 0, 0);
	swkit_close(&t.k);
}

/* --- limits ---------------------------------------------------------------------- */

/* Bursts of 8 for a second; returns how many frames arrive. */
static unsigned int send_for_a_second(struct swkit_three *t, uint64_t dst, uint32_t len,
				      struct frame_offload offload)
{
	struct swkit_frame f[8];
	unsigned int got = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++)
		f[i] = (struct swkit_frame){ dst, A, .len = len, .offload = offload };
	for (unsigned int ms = 0; ms < 1000; ms++) {
		swkit_clear(t->b);
		swkit_send(&t->k, t->a, f, ARRAY_SIZE(f));
		got += t->b->nr;
		swkit_pass(&t->k, 1);
	}
	return got;
}

static void expect_near(unsigned int value, unsigned int expected, unsigned int by)
{
	assert_true(value + by >= expected && value <= expected + by);
}

static void what_a_port_sends_is_limited(void **state)
{
	struct frame_offload none = { 0 };
	struct swkit_three t;
	unsigned int got;

	open_three(&t);
	t.conf.in_frames = (struct sw_limit){ 1000, 10 };
	swkit_set(&t.k, t.a, &t.conf);
	got = send_for_a_second(&t, B, 64, none);
	expect_near(got, 1000, 12);
	assert_int_equal(swkit_drops(t.a, DROP_LIMIT_IN), 8000 - got);
	/* What others send is not. */
	swkit_clear(t.b);
	swkit_send_one(&t.k, t.c, B, C);
	assert_int_equal(t.b->nr, 1);
	t.conf.in_frames = (struct sw_limit){ 0 };
	t.conf.in_bytes = (struct sw_limit){ 500000, 3000 };
	swkit_set(&t.k, t.a, &t.conf);
	expect_near(send_for_a_second(&t, B, 500, none), 1000, 12);
	/* Both: the stricter one holds. */
	t.conf.in_frames = (struct sw_limit){ 500, 10 };
	swkit_set(&t.k, t.a, &t.conf);
	expect_near(send_for_a_second(&t, B, 500, none), 500, 12);
	/* And off again. */
	t.conf.in_frames = (struct sw_limit){ 0 };
	t.conf.in_bytes = (struct sw_limit){ 0 };
	swkit_set(&t.k, t.a, &t.conf);
	assert_int_equal(send_for_a_second(&t, B, 500, none), 8000);
	swkit_close(&t.k);
}

static void what_a_port_gets_is_limited(void **state)
{
	struct frame_offload none = { 0 };
	struct swkit_three t;
	unsigned int got;

	open_three(&t);
	t.conf.out_frames = (struct sw_limit){ 2000, 10 };
	swkit_set(&t.k, t.b, &t.conf);
	got = send_for_a_second(&t, B, 64, none);
	expect_near(got, 2000, 12);
	assert_int_equal(swkit_drops(t.b, DROP_LIMIT_OUT), 8000 - got);
	assert_int_equal(swkit_drops(t.a, DROP_LIMIT_OUT), 0);
	t.conf.out_frames = (struct sw_limit){ 0 };
	t.conf.out_bytes = (struct sw_limit){ 100000, 3000 };
	swkit_set(&t.k, t.b, &t.conf);
	expect_near(send_for_a_second(&t, B, 1000, none), 100, 4);
	swkit_close(&t.k);
}

static void a_large_segment_counts_as_the_frames_it_will_be(void **state)
{
	/* 1454 bytes: 54 of headers and 14 pieces of 100, on the wire 154 each. */
	struct frame_offload tso = { .gso_type = 1, .hdr_len = 54, .gso_size = 100 };
	struct swkit_three t;

	open_three(&t);
	t.conf.in_frames = (struct sw_limit){ 1400, 14 };
	swkit_set(&t.k, t.a, &t.conf);
	expect_near(send_for_a_second(&t, B, 1454, tso), 100, 3);
	t.conf.in_frames = (struct sw_limit){ 0 };
	t.conf.in_bytes = (struct sw_limit){ 14 * 154 * 100, 5000 };
	swkit_set(&t.k, t.a, &t.conf);
	expect_near(send_for_a_second(&t, B, 1454, tso), 100, 3);
	swkit_close(&t.k);
}

static void a_limit_that_stays_keeps_its_bucket(void **state)
{
	struct swkit_three t;

	open_three(&t);
	t.conf.in_frames = (struct sw_limit){ 1, 5 };
	swkit_set(&t.k, t.a, &t.conf);
	for (unsigned int i = 0; i < 10; i++) {
		swkit_send_one(&t.k, t.a, B, A);
		t.conf.isolated = i % 2;
		swkit_set(&t.k, t.a, &t.conf);
	}
	assert_int_equal(t.b->nr, 5);
	swkit_close(&t.k);
}

static void storms_are_limited_by_kind(void **state)
{
	struct frame_offload none = { 0 };
	struct swkit_three t;
	unsigned int got;

	open_three(&t);
	t.conf.broadcast = (struct sw_limit){ 100, 5 };
	t.conf.multicast = (struct sw_limit){ 200, 5 };
	t.conf.unknown = (struct sw_limit){ 300, 5 };
	swkit_set(&t.k, t.a, &t.conf);
	got = send_for_a_second(&t, SWKIT_BROADCAST, 64, none);
	expect_near(got, 100, 6);
	assert_int_equal(swkit_drops(t.a, DROP_STORM), 8000 - got);
	expect_near(send_for_a_second(&t, 0x01005e000001, 64, none), 200, 6);
	expect_near(send_for_a_second(&t, 0x999, 64, none), 300, 6);
	/* What is for somebody known is none of these. */
	assert_int_equal(send_for_a_second(&t, B, 64, none), 8000);
	swkit_close(&t.k);
}

/* --- isolation, mirrors, loopback ------------------------------------------------ */

static void isolated_ports_do_not_reach_each_other(void **state)
{
	struct swkit_three t;

	open_three(&t);
	t.conf.isolated = true;
	swkit_set(&t.k, t.a, &t.conf);
	swkit_set(&t.k, t.b, &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	assert_int_equal(swkit_drops(t.b, DROP_ISOLATED), 1);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.a, 0x999, A);
	swkit_send_one(&t.k, t.a, C, A);
	swkit_three_expect(&t, 0, 0, 3);
	/* A flood that is not for it is not a frame it lost. */
	assert_int_equal(swkit_drops(t.b, DROP_ISOLATED), 1);
	swkit_send_one(&t.k, t.c, A, C);
	swkit_send_one(&t.k, t.c, B, C);
	swkit_three_expect(&t, 1, 1, 3);
	swkit_close(&t.k);
}

static void a_mirror_shows_what_a_port_sends_and_gets(void **state)
{
	struct swkit_port *m;
	struct swkit_three t;

	open_three(&t);
	m = swkit_add(
		&t.k, "m",
		&(struct sw_port_conf){ .vlan_mode = SW_VLAN_ACCESS, .vlan = 99, .enabled = true });
	strcpy(t.conf.mirror, "m");
	t.conf.in_frames = (struct sw_limit){ 1, 1 };
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_send_one(&t.k, t.a, B, A); /* dropped by the limit, behind the mirror */
	swkit_send_one(&t.k, t.b, A, B);
	swkit_send_one(&t.k, t.b, SWKIT_BROADCAST, B);
	swkit_send_one(&t.k, t.b, C, B); /* not for a */
	swkit_three_expect(&t, 2, 1, 2);
	assert_int_equal(m->nr, 4);
	/* A mirror of a mirror port shows only what is forwarded to it. */
	t.conf.in_frames = (struct sw_limit){ 0 };
	t.conf.mirror[0] = 'a';
	t.conf.mirror[1] = '\0';
	swkit_set(&t.k, m, &t.conf);
	swkit_clear(t.a);
	swkit_send_one(&t.k, t.b, A, B);
	assert_int_equal(m->nr, 5);
	assert_int_equal(t.a->nr, 1);
	swkit_close(&t.k);
}

static void a_mirror_shows_tags_as_the_port_has_them(void **state)
{
	struct sw_port_conf ten = swkit_access(10);
	struct swkit_port *m, *vm, *up;
	struct swkit k;

	swkit_open(&k, NULL);
	strcpy(ten.mirror, "m");
	vm = swkit_add(&k, "vm", &ten);
	up = swkit_add(&k, "up", NULL);
	ten = swkit_access(99);
	m = swkit_add(&k, "m", &ten);
	swkit_send_one(&k, vm, SWKIT_BROADCAST, A);
	swkit_send(&k, up, &(struct swkit_frame){ A, B, true, 10 }, 1);
	assert_int_equal(m->nr, 2);
	assert_false(m->got[0].tagged);
	assert_int_equal(m->got[0].len, 64);
	assert_int_equal(m->got[1].len, 60);
	assert_true(up->got[0].tagged);
	swkit_close(&k);
}

static void a_mirror_port_may_come_and_go(void **state)
{
	struct swkit_port *m;
	json_t *status;
	struct swkit_three t;

	open_three(&t);
	strcpy(t.conf.mirror, "m");
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	status = sw_port_status(t.a->port);
	assert_true(json_is_false(json_object_get(status, "mirror-exists")));
	json_decref(status);
	for (unsigned int i = 0; i < 3; i++) {
		m = swkit_add(&t.k, "m", NULL);
		swkit_send_one(&t.k, t.a, B, A);
		assert_int_equal(m->nr, 1);
		sw_port_remove(m->port, free, m);
		swkit_send_one(&t.k, t.a, B, A);
		swkit_settle(&t.k);
		swkit_send_one(&t.k, t.a, B, A);
	}
	/* One that is down gets nothing. */
	t.conf = (struct sw_port_conf){ .vlan = 1, .vlan_mode = SW_VLAN_ACCESS };
	m = swkit_add(&t.k, "m", &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	assert_int_equal(m->nr, 0);
	assert_int_equal(swkit_drops(m, DROP_LINK_DOWN), 1);
	swkit_close(&t.k);
}

static void loopback_sends_everything_back(void **state)
{
	struct swkit_frame f[] = { { B, A }, { SWKIT_BROADCAST, A }, { A, A }, { 0x99, 0x88 } };
	struct swkit_three t;
	json_t *table;

	open_three(&t);
	vswitch_mac_flush(t.k.sw, NULL);
	t.conf.loopback = true;
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send(&t.k, t.a, f, ARRAY_SIZE(f));
	swkit_three_expect(&t, 4, 0, 0);
	assert_int_equal(t.a->nr_calls, 1);
	table = vswitch_mac_table(t.k.sw);
	assert_int_equal(json_array_size(table), 0);
	json_decref(table);
	swkit_close(&t.k);
}

/* --- access lists ---------------------------------------------------------------- */

static void compile_lists(struct swkit_three *t, const char *json)
{
	json_error_t where;
	json_t *rules = json_loads(json, 0, &where);

	assert_non_null(rules);
	if (sw_acl_create(rules, SWKIT_LOOPS, &t->conf.acl_in, &t->conf.acl_out, t->k.err) < 0)
		fail_msg("%s", t->k.err);
	json_decref(rules);
}

static void set_lists(struct swkit_three *t, struct swkit_port *p, const char *json)
{
	compile_lists(t, json);
	swkit_set(&t->k, p, &t->conf);
}

static void access_lists_hold_in_both_directions(void **state)
{
	struct swkit_frame f[] = { { B, A, .type = 0x1111 }, { B, A, .type = 0x2222 } };
	struct swkit_frame r[] = { { A, B, .type = 0x1111 }, { A, B, .type = 0x2222 } };
	struct swkit_three t;

	open_three(&t);
	set_lists(&t, t.a,
		  "[{\"action\": \"drop\", \"dir\": \"in\", \"ethertype\": \"0x1111\"},"
		  " {\"action\": \"drop\", \"dir\": \"out\", \"ethertype\": \"0x2222\"}]");
	swkit_send(&t.k, t.a, f, 2);
	assert_int_equal(t.b->nr, 1);
	assert_int_equal(get_be16(t.b->got[0].bytes + 12), 0x2222);
	assert_int_equal(swkit_drops(t.a, DROP_ACL_IN), 1);
	swkit_send(&t.k, t.b, r, 2);
	assert_int_equal(t.a->nr, 1);
	assert_int_equal(get_be16(t.a->got[0].bytes + 12), 0x1111);
	assert_int_equal(swkit_drops(t.a, DROP_ACL_OUT), 1);
	/* The next burst is another one. */
	swkit_send(&t.k, t.a, &f[1], 1);
	swkit_send(&t.k, t.a, &f[0], 1);
	assert_int_equal(t.b->nr, 2);
	assert_int_equal(get_be16(t.b->got[1].bytes + 12), 0x2222);
	swkit_clear(t.b);
	/* A flood passes only where it may. */
	r[0].dst = r[1].dst = SWKIT_BROADCAST;
	swkit_send(&t.k, t.b, r, 2);
	swkit_three_expect(&t, 2, 0, 2);
	swkit_close(&t.k);
}

static void lists_are_kept_replaced_and_taken_away(void **state)
{
	const char *drop = "[{\"action\": \"drop\", \"dir\": \"in\"}]";
	const char *allow = "[{\"action\": \"allow\"}]";
	json_t *status, *rule;
	struct swkit_three t;

	open_three(&t);
	set_lists(&t, t.a, drop);
	swkit_send_one(&t.k, t.a, B, A);
	/* Another option, and the list that was there. */
	t.conf = *t.a->port->conf;
	t.conf.isolated = true;
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 0, 0);
	status = sw_port_acl_status(t.a->port);
	rule = json_array_get(json_object_get(status, "in"), 0);
	assert_int_equal(json_integer_value(json_object_get(rule, "hits")), 2);
	assert_int_equal(json_array_size(json_object_get(status, "out")), 0);
	json_decref(status);
	set_lists(&t, t.a, allow);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 1, 0);
	/* A configuration that is refused takes its lists with it, not those in use. */
	t.conf.vlan_mode = SW_VLAN_ACCESS;
	t.conf.vlan = 0;
	assert_int_equal(sw_port_set(t.a->port, &t.conf, t.k.err), -EINVAL);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 2, 0);
	sw_port_conf_init(&t.conf);
	swkit_set(&t.k, t.a, &t.conf);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 3, 0);
	/* And so does a port that is refused. */
	compile_lists(&t, drop);
	assert_null(swkit_add(&t.k, "a", &t.conf));
	compile_lists(&t, drop);
	sw_port_conf_release(&t.conf);
	swkit_close(&t.k);
}

/* --- a looped uplink ------------------------------------------------------------- */

/* Everything that p got comes back from it. The number of frames. */
static unsigned int reflect(struct swkit_three *t, struct swkit_port *p, struct swkit_port *into)
{
	static uint8_t bytes[SWKIT_GOT_MAX][SWKIT_FRAME_MAX];
	unsigned int nr = p->nr < SWKIT_GOT_MAX ? p->nr : SWKIT_GOT_MAX;
	struct swkit_frame f;
	uint64_t mac[2];

	for (unsigned int i = 0; i < nr; i++)
		memcpy(bytes[i], p->got[i].bytes, sizeof(bytes[i]));
	swkit_clear(p);
	for (unsigned int i = 0; i < nr; i++) {
		for (int m = 0; m < 2; m++) {
			mac[m] = 0;
			for (int k = 0; k < 6; k++)
				mac[m] = mac[m] << 8 | bytes[i][6 * m + k];
		}
		f = (struct swkit_frame){ mac[0], mac[1] };
		swkit_send(&t->k, into, &f, 1);
	}
	return nr;
}

static void a_looped_uplink_disturbs_nobody(void **state)
{
	unsigned int back = 0;
	struct swkit_three t;

	/* c is the uplink; a and b are guests. */
	open_three(&t);
	for (unsigned int round = 0; round < 200; round++) {
		swkit_clear(t.a);
		swkit_clear(t.b);
		/* ARP and its answer, and then they talk. */
		swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
		back += reflect(&t, t.c, t.c);
		swkit_send_one(&t.k, t.b, A, B);
		back += reflect(&t, t.c, t.c);
		assert_true(t.a->nr >= 1);
		swkit_send_one(&t.k, t.a, B, A);
		swkit_send_one(&t.k, t.a, 0x999, A);
		back += reflect(&t, t.c, t.c);
		assert_int_equal(reflect(&t, t.c, t.c), 0);
		/* Each broadcast comes back once, and goes no further. */
		assert_int_equal(t.a->nr, 1 + 2);
		assert_int_equal(t.b->nr, 1 + 1 + 1 + 2);
		swkit_pass(&t.k, 10);
	}
	assert_int_equal(back, 200 * 2);
	swkit_close(&t.k);
}

static void a_looped_uplink_brings_nothing_back_to_secured_ports(void **state)
{
	struct swkit_three t;

	open_three(&t);
	secure(&t, t.a, A);
	secure(&t, t.b, B);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	assert_int_equal(reflect(&t, t.c, t.c), 1);
	swkit_three_expect(&t, 0, 1, 0);
	assert_int_equal(swkit_drops(t.c, DROP_PINNED), 1);
	swkit_close(&t.k);
}

static void two_uplinks_to_one_network_are_held_by_the_storm_limit(void **state)
{
	struct swkit_port *up2;
	unsigned int storm = 0;
	struct swkit_three t;

	open_three(&t);
	t.conf.broadcast = (struct sw_limit){ 100, 10 };
	swkit_set(&t.k, t.c, &t.conf);
	up2 = swkit_add(&t.k, "up2", &t.conf);
	for (unsigned int ms = 0; ms < 1000; ms++) {
		swkit_clear(t.a);
		swkit_clear(t.b);
		if (ms % 100 == 0)
			swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
		/* What one sends the other takes, as often as there is time for. */
		for (unsigned int i = 0; i < 10; i++) {
			reflect(&t, t.c, up2);
			reflect(&t, up2, t.c);
		}
		storm += t.b->nr;
		/* And the guests talk to each other. */
		swkit_clear(t.b);
		swkit_send_one(&t.k, t.a, B, A);
		assert_int_equal(t.b->nr, 1);
		swkit_pass(&t.k, 1);
	}
	/* What they said themselves, and what both limits let through. */
	assert_true(storm <= 10 + 2 * (100 + 10 + 1));
	swkit_close(&t.k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_addresses_of_a_port_may_send),
		cmocka_unit_test(nobody_takes_the_address_of_a_secured_port),
		cmocka_unit_test(a_secured_port_gets_its_address_back_from_elsewhere),
		cmocka_unit_test(what_a_port_sends_is_limited),
		cmocka_unit_test(what_a_port_gets_is_limited),
		cmocka_unit_test(a_large_segment_counts_as_the_frames_it_will_be),
		cmocka_unit_test(a_limit_that_stays_keeps_its_bucket),
		cmocka_unit_test(storms_are_limited_by_kind),
		cmocka_unit_test(isolated_ports_do_not_reach_each_other),
		cmocka_unit_test(a_mirror_shows_what_a_port_sends_and_gets),
		cmocka_unit_test(a_mirror_shows_tags_as_the_port_has_them),
		cmocka_unit_test(a_mirror_port_may_come_and_go),
		cmocka_unit_test(loopback_sends_everything_back),
		cmocka_unit_test(access_lists_hold_in_both_directions),
		cmocka_unit_test(lists_are_kept_replaced_and_taken_away),
		cmocka_unit_test(a_looped_uplink_disturbs_nobody),
		cmocka_unit_test(a_looped_uplink_brings_nothing_back_to_secured_ports),
		cmocka_unit_test(two_uplinks_to_one_network_are_held_by_the_storm_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
