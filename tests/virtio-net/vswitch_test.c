/*
 * The switch: who gets which frame, learning, floods, ports that come and go. VLANs
 * are in vswitch_vlan_test.c, what can be switched on for a port in swfilter_test.c.
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
#include "virtio-net/net_bytes.h"

enum {
	A = SWKIT_A,
	B = SWKIT_B,
	C = SWKIT_C,
};

/* --- learning -------------------------------------------------------------------- */

static void an_unknown_address_is_flooded_and_a_learned_one_is_not(void **state)
{
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 1, 1);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 1, 1);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 1, 2, 1);
	swkit_close(&t.k);
}

static void what_arrives_is_what_was_sent(void **state)
{
	uint8_t payload[1400], mac[6];
	struct swkit_frame f = { B, A, .payload = payload, .payload_len = sizeof(payload) };
	struct swkit_three t;

	for (unsigned int i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7);
	f.len = ETH_HDR_LEN + sizeof(payload);
	swkit_three_open(&t);
	swkit_three_learn(&t);
	swkit_send(&t.k, t.a, &f, 1);
	assert_int_equal(t.b->nr, 1);
	assert_int_equal(t.b->got[0].len, f.len);
	assert_memory_equal(t.b->got[0].bytes + ETH_HDR_LEN, payload, sizeof(payload));
	swkit_mac(A, mac);
	assert_memory_equal(t.b->got[0].bytes + 6, mac, 6);
	swkit_close(&t.k);
}

static void broadcast_and_multicast_reach_everybody_else(void **state)
{
	struct sw_port_stats sum;
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.a, 0x01005e000001, A);
	swkit_three_expect(&t, 0, 2, 2);
	sw_port_stats_sum(t.a->port, &sum);
	assert_int_equal(sum.in_broadcast, 1);
	assert_int_equal(sum.in_multicast, 1);
	assert_int_equal(sum.flooded, 2);
	swkit_close(&t.k);
}

static void a_burst_keeps_its_order_at_every_destination(void **state)
{
	struct swkit_frame f[FRAME_BURST];
	unsigned int marks[3] = { 0 };
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		f[i] = (struct swkit_frame){
			.dst = i % 5 == 0   ? SWKIT_BROADCAST
			       : i % 3 == 0 ? C
			       : i % 7 == 0 ? 0x99
					    : B,
			.src = A,
			.mark = (uint8_t)(i + 1),
		};
	swkit_send(&t.k, t.a, f, FRAME_BURST);
	assert_int_equal(t.b->nr_calls, 1);
	assert_int_equal(t.c->nr_calls, 1);
	for (unsigned int i = 0; i < t.b->nr; i++) {
		assert_true(t.b->got[i].bytes[63] > marks[1]);
		marks[1] = t.b->got[i].bytes[63];
	}
	for (unsigned int i = 0; i < t.c->nr; i++) {
		assert_true(t.c->got[i].bytes[63] > marks[2]);
		marks[2] = t.c->got[i].bytes[63];
	}
	/* 7 for everybody, 8 for C; of the others 3 are for nobody known. */
	assert_int_equal(t.c->nr, 7 + 8 + 3);
	assert_int_equal(t.b->nr, FRAME_BURST - 8);
	assert_int_equal(t.a->nr, 0);
	swkit_close(&t.k);
}

static void a_frame_for_its_own_port_is_dropped(void **state)
{
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	swkit_send_one(&t.k, t.a, A, 0xaa);
	swkit_three_expect(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.a, DROP_LOOP), 1);
	swkit_close(&t.k);
}

static void a_frame_for_nobody_is_counted(void **state)
{
	struct swkit_port *only;
	struct swkit k;

	swkit_open(&k, NULL);
	only = swkit_add(&k, "only", NULL);
	swkit_send_one(&k, only, B, A);
	swkit_send_one(&k, only, SWKIT_BROADCAST, A);
	assert_int_equal(swkit_drops(only, DROP_NO_PORT), 2);
	swkit_close(&k);
}

static void group_and_zero_addresses_are_never_learned(void **state)
{
	json_t *table;
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_send_one(&t.k, t.a, B, 0x01005e000001);
	swkit_send_one(&t.k, t.a, B, SWKIT_BROADCAST);
	swkit_send_one(&t.k, t.a, B, SWKIT_ZERO);
	swkit_three_expect(&t, 0, 3, 3);
	swkit_send_one(&t.k, t.a, B, A);
	table = vswitch_mac_table(t.k.sw);
	/* Only the last is a station's. */
	assert_int_equal(json_array_size(table), 1);
	json_decref(table);
	swkit_close(&t.k);
}

static void an_address_that_moves_is_followed_when_it_was_silent(void **state)
{
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	swkit_pass(&t.k, 100);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, A);
	swkit_three_clear(&t);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 0, 0, 1);
	swkit_close(&t.k);
}

static uint64_t mac_flaps(const struct swkit_port *p)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(p->port, &sum);
	return sum.mac_flaps;
}

static void an_address_that_flaps_is_held_and_others_go_on(void **state)
{
	json_t *status, *macs;
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	/* 10000 a second for a second. */
	for (unsigned int ms = 0; ms < 1000; ms++) {
		for (unsigned int i = 0; i < 5; i++) {
			swkit_send_one(&t.k, t.a, 0xd, 0xf);
			swkit_send_one(&t.k, t.c, 0xd, 0xf);
		}
		swkit_clear(t.b);
		swkit_send_one(&t.k, t.a, B, A);
		assert_int_equal(t.b->nr, 1);
		swkit_pass(&t.k, 1);
	}
	status = vswitch_status(t.k.sw);
	macs = json_object_get(status, "mac-table");
	assert_true(json_integer_value(json_object_get(macs, "moved")) <= 31);
	assert_true(json_integer_value(json_object_get(macs, "refused-moves")) > 0);
	json_decref(status);
	/* Where it comes from that is not its place; once in a tick. */
	assert_true(mac_flaps(t.c) > 10);
	assert_int_equal(mac_flaps(t.b), 0);
	swkit_close(&t.k);
}

static void a_full_table_still_floods_and_forwards(void **state)
{
	struct vswitch_conf conf = { .mac_table_size = 64 };
	json_t *status, *macs;
	struct swkit_three t;

	swkit_open(&t.k, &conf);
	t.a = swkit_add(&t.k, "a", NULL);
	t.b = swkit_add(&t.k, "b", NULL);
	t.c = swkit_add(&t.k, "c", NULL);
	swkit_three_learn(&t);
	for (unsigned int i = 0; i < 10000; i++) {
		swkit_send_one(&t.k, t.c, B, 0x10000 + i);
		/* Two talk to each other all the while. */
		swkit_clear(t.b);
		swkit_send_one(&t.k, t.a, B, A);
		assert_int_equal(t.b->nr, 1);
		swkit_clear(t.a);
		swkit_send_one(&t.k, t.b, A, B);
		assert_int_equal(t.a->nr, 1);
		swkit_pass(&t.k, 1);
	}
	/* Nothing of these two was pushed out: the flood only got its own frames. */
	assert_int_equal(t.c->nr, 0);
	status = vswitch_status(t.k.sw);
	macs = json_object_get(status, "mac-table");
	assert_int_equal(json_integer_value(json_object_get(macs, "entries")), 64);
	assert_true(json_integer_value(json_object_get(macs, "evicted")) > 9000);
	json_decref(status);
	swkit_close(&t.k);
}

static void learning_from_one_port_is_limited_in_time(void **state)
{
	json_t *status, *macs;
	struct swkit_three t;

	swkit_three_open(&t);
	for (unsigned int i = 0; i < 1000; i++)
		swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, 0x10000 + i);
	/* Another port's share is its own. */
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_three_clear(&t);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 0, 0);
	status = vswitch_status(t.k.sw);
	macs = json_object_get(status, "mac-table");
	assert_int_equal(json_integer_value(json_object_get(macs, "refused-rate")), 1000 - 256);
	json_decref(status);
	/* A while later it may go on. */
	swkit_pass(&t.k, 2);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, 0x10000 + 999);
	swkit_three_clear(&t);
	swkit_send_one(&t.k, t.a, 0x10000 + 999, A);
	swkit_three_expect(&t, 0, 0, 1);
	swkit_close(&t.k);
}

static void learned_addresses_age(void **state)
{
	struct vswitch_conf conf = { .ageing_s = 1 };
	json_t *table = NULL;
	struct swkit_three t;
	size_t nr;

	swkit_open(&t.k, &conf);
	t.a = swkit_add(&t.k, "a", NULL);
	t.b = swkit_add(&t.k, "b", NULL);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	assert_int_equal(vswitch_mac_add(t.k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 1, t.b->port), 0);
	do {
		evloop_run_once(t.k.ev, -1);
		table = vswitch_mac_table(t.k.sw);
		nr = json_array_size(table);
		json_decref(table);
	} while (nr > 1);
	/* The static one stays. */
	assert_int_equal(nr, 1);
	swkit_close(&t.k);
}

static void a_flush_forgets_what_was_learned_and_keeps_what_was_set(void **state)
{
	json_t *table;
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	assert_int_equal(vswitch_mac_add(t.k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 1, t.b->port), 0);
	vswitch_mac_flush(t.k.sw, t.b->port);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 1, 1);
	swkit_three_clear(&t);
	swkit_send_one(&t.k, t.a, C, A);
	swkit_send_one(&t.k, t.a, 1, A);
	swkit_three_expect(&t, 0, 1, 1);
	vswitch_mac_flush(t.k.sw, NULL);
	table = vswitch_mac_table(t.k.sw);
	assert_int_equal(json_array_size(table), 1);
	json_decref(table);
	/* And is learned again with the next frame, in the same tick. */
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_three_clear(&t);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 0, 0);
	swkit_close(&t.k);
}

static void a_static_address_stays_and_is_nobody_elses(void **state)
{
	uint8_t mac[6];
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_mac(B, mac);
	assert_int_equal(vswitch_mac_add(t.k.sw, mac, 1, t.b->port), 0);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 1, 0);
	swkit_pass(&t.k, 1000);
	swkit_send_one(&t.k, t.c, A, B);
	assert_int_equal(swkit_drops(t.c, DROP_PINNED), 1);
	swkit_three_expect(&t, 0, 1, 0);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 1, 0);
	assert_int_equal(vswitch_mac_del(t.k.sw, mac, 1), 0);
	assert_int_equal(vswitch_mac_del(t.k.sw, mac, 1), -ENOENT);
	swkit_send_one(&t.k, t.c, A, B);
	swkit_three_expect(&t, 2, 1, 0);
	swkit_close(&t.k);
}

static void a_static_address_must_make_sense(void **state)
{
	struct sw_port_conf conf = swkit_access(7);
	struct swkit_port *p;
	struct swkit k;

	swkit_open(&k, &(struct vswitch_conf){ .mac_table_size = 2 });
	p = swkit_add(&k, "p", &conf);
	assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[]){ 1, 0, 0, 0, 0, 1 }, 7, p->port),
			 -EINVAL);
	assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[6]){ 0 }, 7, p->port), -EINVAL);
	assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 8, p->port),
			 -EINVAL);
	assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 0, p->port),
			 -EINVAL);
	for (uint8_t i = 0; i < 2; i++)
		assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, i }, 7, p->port),
				 0);
	assert_int_equal(vswitch_mac_add(k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 9 }, 7, p->port),
			 -ENOSPC);
	swkit_close(&k);
}

static void link_local_groups_are_not_forwarded_unless_asked_for(void **state)
{
	struct swkit_three t;

	swkit_three_open(&t);
	for (uint64_t i = 0; i < 16; i++)
		swkit_send_one(&t.k, t.a, 0x0180c2000000 + i, A);
	swkit_three_expect(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.a, DROP_RESERVED), 16);
	swkit_send_one(&t.k, t.a, 0x0180c2000010, A);
	swkit_send_one(&t.k, t.a, 0x0180c2010000, A);
	swkit_three_expect(&t, 0, 2, 2);
	swkit_close(&t.k);

	swkit_open(&t.k, &(struct vswitch_conf){ .forward_reserved = true });
	t.a = swkit_add(&t.k, "a", NULL);
	t.b = swkit_add(&t.k, "b", NULL);
	swkit_send_one(&t.k, t.a, 0x0180c200000e, A);
	assert_int_equal(t.b->nr, 1);
	swkit_close(&t.k);
}

/* --- ports that come, change and go ---------------------------------------------- */

static void a_port_that_is_removed_gets_nothing_more(void **state)
{
	struct swkit_three t;
	struct swkit_port *c;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	c = t.c;
	sw_port_remove(c->port, NULL, NULL);
	/* Loops have not noticed yet, and it is gone all the same. */
	assert_null(sw_port_find(t.k.sw, "c"));
	swkit_send_one(&t.k, t.a, C, A);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_three_expect(&t, 0, 2, 0);
	swkit_send_one(&t.k, c, A, C);
	assert_int_equal(swkit_drops(c, DROP_DISABLED_IN), 1);
	swkit_three_expect(&t, 0, 2, 0);
	swkit_settle(&t.k);
	free(c);
	/* Its number and name can be used again, and none of its addresses. */
	t.c = swkit_add(&t.k, "c", NULL);
	assert_non_null(t.c);
	swkit_send_one(&t.k, t.a, C, A);
	swkit_three_expect(&t, 0, 3, 1);
	swkit_close(&t.k);
}

static void note(void *opaque)
{
	++*(int *)opaque;
}

static void gone_runs_when_every_loop_has_turned(void **state)
{
	struct swkit_three t;
	int gone = 0;

	swkit_three_open(&t);
	swkit_settle(&t.k);
	sw_port_remove(t.c->port, note, &gone);
	loop_turn(t.k.loop[0]);
	evloop_run_once(t.k.ev, 0);
	assert_int_equal(gone, 0);
	loop_turn(t.k.loop[1]);
	while (!gone)
		evloop_run_once(t.k.ev, -1);
	free(t.c);
	swkit_close(&t.k);
}

static void a_port_that_is_down_neither_sends_nor_gets(void **state)
{
	struct sw_port_conf conf;
	struct swkit_three t;

	swkit_three_open(&t);
	swkit_three_learn(&t);
	sw_port_conf_init(&conf);
	conf.enabled = false;
	swkit_set(&t.k, t.b, &conf);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.b, DROP_LINK_DOWN), 1);
	assert_int_equal(swkit_drops(t.b, DROP_DISABLED_IN), 1);
	conf.enabled = true;
	swkit_set(&t.k, t.b, &conf);
	swkit_send_one(&t.k, t.b, A, B);
	swkit_three_expect(&t, 1, 0, 0);
	swkit_close(&t.k);
}

static void a_port_that_changes_its_vlan_is_heard_there(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct swkit_port *d;
	struct swkit_three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &ten);
	t.c = swkit_add(&t.k, "c", &twenty);
	d = swkit_add(&t.k, "d", &ten);
	swkit_three_learn(&t);
	swkit_clear(d);
	swkit_set(&t.k, t.b, &twenty);
	/* In its former VLAN it is unknown: it may be behind any other port. */
	swkit_send_one(&t.k, t.a, B, A);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_three_expect(&t, 0, 0, 0);
	assert_int_equal(d->nr, 2);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, C);
	swkit_three_expect(&t, 0, 1, 0);
	swkit_close(&t.k);
}

static void ports_that_do_not_learn_or_flood(void **state)
{
	struct sw_port_conf conf;
	struct swkit_three t;

	swkit_three_open(&t);
	sw_port_conf_init(&conf);
	conf.learning = false;
	conf.flooding = false;
	swkit_set(&t.k, t.c, &conf);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, C);
	swkit_three_clear(&t);
	/* C was not learned, and unknown frames are not for its port. */
	swkit_send_one(&t.k, t.a, C, A);
	swkit_three_expect(&t, 0, 1, 0);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_three_expect(&t, 0, 2, 1);
	/* Nobody is left for one of two. */
	swkit_set(&t.k, t.b, &conf);
	swkit_send(&t.k, t.a, (struct swkit_frame[]){ { SWKIT_BROADCAST, A }, { C, A } }, 2);
	swkit_three_expect(&t, 0, 3, 2);
	assert_int_equal(swkit_drops(t.a, DROP_NO_PORT), 1);
	swkit_close(&t.k);
}

static void wrong_ports_are_refused(void **state)
{
	char long_name[SW_NAME_MAX + 1];
	struct sw_port_conf conf;
	struct swkit_three t;

	swkit_three_open(&t);
	assert_null(swkit_add(&t.k, "a", NULL));
	assert_string_equal(t.k.err, "port 'a' exists already");
	assert_null(swkit_add(&t.k, "", NULL));
	memset(long_name, 'x', SW_NAME_MAX);
	long_name[SW_NAME_MAX] = '\0';
	assert_null(swkit_add(&t.k, long_name, NULL));
	conf = swkit_access(0);
	assert_null(swkit_add(&t.k, "d", &conf));
	assert_string_equal(t.k.err, "port 'd': an access port needs a VLAN, expected 1 to 4094");
	conf = swkit_access(4095);
	assert_null(swkit_add(&t.k, "d", &conf));
	sw_port_conf_init(&conf);
	memset(conf.trunk, 0, sizeof(conf.trunk));
	conf.vlan = 0;
	assert_null(swkit_add(&t.k, "d", &conf));
	sw_port_conf_init(&conf);
	strcpy(conf.mirror, "a");
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	sw_port_conf_init(&conf);
	conf.anti_spoof = true;
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	conf.nr_macs = 1;
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	conf.macs[0][0] = 1;
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	sw_port_conf_init(&conf);
	conf.in_bytes.burst = 7;
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	conf.in_bytes.rate = UINT64_MAX;
	assert_int_equal(sw_port_set(t.a->port, &conf, t.k.err), -EINVAL);
	swkit_close(&t.k);
}

static void as_many_ports_as_there_are_numbers(void **state)
{
	struct swkit_port *p = NULL, *first = NULL;
	struct sw_port_conf ten = swkit_access(10);
	struct swkit k;
	char name[16];

	swkit_open(&k, NULL);
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		p = swkit_add(&k, name, i % 2 ? &ten : NULL);
		assert_non_null(p);
		swkit_settle(&k);
		first = first ? first : p;
	}
	assert_null(swkit_add(&k, "more", NULL));
	assert_non_null(strstr(k.err, "1024 ports"));
	swkit_send_one(&k, p, SWKIT_BROADCAST, A);
	assert_int_equal(p->nr, 0);
	assert_int_equal(first->nr, 1);
	swkit_send_one(&k, first, A, B);
	assert_int_equal(first->port->index, 0);
	swkit_close(&k);
}

static void status_says_what_is(void **state)
{
	json_t *status, *counters, *drops, *table, *entry, *limits;
	struct sw_port_conf ten = swkit_access(10);
	struct swkit_port *p;
	struct swkit k;

	swkit_open(&k, NULL);
	ten.in_bytes.rate = 1000000;
	p = swkit_add(&k, "vm1", &ten);
	swkit_send_one(&k, p, B, A);
	status = sw_port_status(p->port);
	assert_string_equal(json_string_value(json_object_get(status, "name")), "vm1");
	assert_int_equal(json_integer_value(json_object_get(status, "vlan")), 10);
	assert_int_equal(json_integer_value(json_object_get(status, "learned-macs")), 1);
	limits = json_object_get(status, "limits");
	assert_int_equal(json_object_size(limits), 1);
	assert_int_equal(json_integer_value(json_object_get(limits, "limit-in")), 1000000);
	counters = json_object_get(status, "counters");
	assert_int_equal(json_integer_value(json_object_get(counters, "in-frames")), 1);
	assert_int_equal(json_integer_value(json_object_get(counters, "in-bytes")), 64);
	drops = json_object_get(counters, "drops");
	assert_int_equal(json_object_size(drops), DROP_REASON_CNT - 1);
	assert_int_equal(json_integer_value(json_object_get(drops, "no-port")), 1);
	json_decref(status);
	table = vswitch_mac_table(k.sw);
	entry = json_array_get(table, 0);
	assert_string_equal(json_string_value(json_object_get(entry, "mac")), "02:00:00:00:00:0a");
	assert_string_equal(json_string_value(json_object_get(entry, "port")), "vm1");
	assert_int_equal(json_integer_value(json_object_get(entry, "vlan")), 10);
	assert_true(json_is_false(json_object_get(entry, "static")));
	json_decref(table);
	swkit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unknown_address_is_flooded_and_a_learned_one_is_not),
		cmocka_unit_test(what_arrives_is_what_was_sent),
		cmocka_unit_test(broadcast_and_multicast_reach_everybody_else),
		cmocka_unit_test(a_burst_keeps_its_order_at_every_destination),
		cmocka_unit_test(a_frame_for_its_own_port_is_dropped),
		cmocka_unit_test(a_frame_for_nobody_is_counted),
		cmocka_unit_test(group_and_zero_addresses_are_never_learned),
		cmocka_unit_test(an_address_that_moves_is_followed_when_it_was_silent),
		cmocka_unit_test(an_address_that_flaps_is_held_and_others_go_on),
		cmocka_unit_test(a_full_table_still_floods_and_forwards),
		cmocka_unit_test(learning_from_one_port_is_limited_in_time),
		cmocka_unit_test(learned_addresses_age),
		cmocka_unit_test(a_flush_forgets_what_was_learned_and_keeps_what_was_set),
		cmocka_unit_test(a_static_address_stays_and_is_nobody_elses),
		cmocka_unit_test(a_static_address_must_make_sense),
		cmocka_unit_test(link_local_groups_are_not_forwarded_unless_asked_for),
		cmocka_unit_test(a_port_that_is_removed_gets_nothing_more),
		cmocka_unit_test(gone_runs_when_every_loop_has_turned),
		cmocka_unit_test(a_port_that_is_down_neither_sends_nor_gets),
		cmocka_unit_test(a_port_that_changes_its_vlan_is_heard_there),
		cmocka_unit_test(ports_that_do_not_learn_or_flood),
		cmocka_unit_test(wrong_ports_are_refused),
		cmocka_unit_test(as_many_ports_as_there_are_numbers),
		cmocka_unit_test(status_says_what_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
