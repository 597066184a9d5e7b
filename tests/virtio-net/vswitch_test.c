/*
 * The switch: who gets which frame, learning, VLANs, floods, ports that come and
 * go. What can be switched on for a port is in swfilter_test.c.
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
	A = 0xa,
	B = 0xb,
	C = 0xc,
};

/* Three ports that carry everything, and the address of each. */
struct three {
	struct swkit k;
	struct swkit_port *a, *b, *c;
};

static void open_three(struct three *t)
{
	swkit_open(&t->k, NULL);
	t->a = swkit_add(&t->k, "a", NULL);
	t->b = swkit_add(&t->k, "b", NULL);
	t->c = swkit_add(&t->k, "c", NULL);
	assert_true(t->a && t->b && t->c);
}

static void clear_three(struct three *t)
{
	swkit_clear(t->a);
	swkit_clear(t->b);
	swkit_clear(t->c);
}

/* Everybody is heard of. */
static void learn_three(struct three *t)
{
	swkit_send_one(&t->k, t->a, SWKIT_BROADCAST, A);
	swkit_send_one(&t->k, t->b, SWKIT_BROADCAST, B);
	swkit_send_one(&t->k, t->c, SWKIT_BROADCAST, C);
	clear_three(t);
}

static void expect_got(const struct three *t, unsigned int a, unsigned int b, unsigned int c)
{
	assert_int_equal(t->a->nr, a);
	assert_int_equal(t->b->nr, b);
	assert_int_equal(t->c->nr, c);
}

/* --- learning -------------------------------------------------------------------- */

static void an_unknown_address_is_flooded_and_a_learned_one_is_not(void **state)
{
	struct three t;

	open_three(&t);
	swkit_send_one(&t.k, t.a, B, A);
	expect_got(&t, 0, 1, 1);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 1, 1, 1);
	swkit_send_one(&t.k, t.a, B, A);
	expect_got(&t, 1, 2, 1);
	swkit_close(&t.k);
}

static void what_arrives_is_what_was_sent(void **state)
{
	uint8_t payload[1400], mac[6];
	struct swkit_frame f = { B, A, .payload = payload, .payload_len = sizeof(payload) };
	struct three t;

	for (unsigned int i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7);
	f.len = ETH_HDR_LEN + sizeof(payload);
	open_three(&t);
	learn_three(&t);
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
	struct three t;

	open_three(&t);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.a, 0x01005e000001, A);
	expect_got(&t, 0, 2, 2);
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
	struct three t;

	open_three(&t);
	learn_three(&t);
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
	struct three t;

	open_three(&t);
	learn_three(&t);
	swkit_send_one(&t.k, t.a, A, 0xaa);
	expect_got(&t, 0, 0, 0);
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
	struct three t;

	open_three(&t);
	swkit_send_one(&t.k, t.a, B, 0x01005e000001);
	swkit_send_one(&t.k, t.a, B, SWKIT_BROADCAST);
	swkit_send_one(&t.k, t.a, B, SWKIT_ZERO);
	expect_got(&t, 0, 3, 3);
	swkit_send_one(&t.k, t.a, B, A);
	table = vswitch_mac_table(t.k.sw);
	/* Only the last is a station's. */
	assert_int_equal(json_array_size(table), 1);
	json_decref(table);
	swkit_close(&t.k);
}

static void an_address_that_moves_is_followed_when_it_was_silent(void **state)
{
	struct three t;

	open_three(&t);
	learn_three(&t);
	swkit_pass(&t.k, 100);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, A);
	clear_three(&t);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 0, 0, 1);
	swkit_close(&t.k);
}

static void an_address_that_flaps_is_held_and_others_go_on(void **state)
{
	json_t *status, *macs;
	struct three t;

	open_three(&t);
	learn_three(&t);
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
	swkit_close(&t.k);
}

static void a_full_table_still_floods_and_forwards(void **state)
{
	struct vswitch_conf conf = { .mac_table_size = 64 };
	json_t *status, *macs;
	struct three t;

	swkit_open(&t.k, &conf);
	t.a = swkit_add(&t.k, "a", NULL);
	t.b = swkit_add(&t.k, "b", NULL);
	t.c = swkit_add(&t.k, "c", NULL);
	learn_three(&t);
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
	struct three t;

	open_three(&t);
	for (unsigned int i = 0; i < 1000; i++)
		swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, 0x10000 + i);
	/* Another port's share is its own. */
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	clear_three(&t);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 1, 0, 0);
	status = vswitch_status(t.k.sw);
	macs = json_object_get(status, "mac-table");
	assert_int_equal(json_integer_value(json_object_get(macs, "refused-rate")), 1000 - 256);
	json_decref(status);
	/* A while later it may go on. */
	swkit_pass(&t.k, 2);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, 0x10000 + 999);
	clear_three(&t);
	swkit_send_one(&t.k, t.a, 0x10000 + 999, A);
	expect_got(&t, 0, 0, 1);
	swkit_close(&t.k);
}

static void learned_addresses_age(void **state)
{
	struct vswitch_conf conf = { .ageing_s = 1 };
	json_t *table = NULL;
	struct three t;
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
	struct three t;

	open_three(&t);
	learn_three(&t);
	assert_int_equal(vswitch_mac_add(t.k.sw, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 1, t.b->port), 0);
	vswitch_mac_flush(t.k.sw, t.b->port);
	swkit_send_one(&t.k, t.a, B, A);
	expect_got(&t, 0, 1, 1);
	clear_three(&t);
	swkit_send_one(&t.k, t.a, C, A);
	swkit_send_one(&t.k, t.a, 1, A);
	expect_got(&t, 0, 1, 1);
	vswitch_mac_flush(t.k.sw, NULL);
	table = vswitch_mac_table(t.k.sw);
	assert_int_equal(json_array_size(table), 1);
	json_decref(table);
	/* And is learned again with the next frame, in the same tick. */
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	clear_three(&t);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 1, 0, 0);
	swkit_close(&t.k);
}

static void a_static_address_stays_and_is_nobody_elses(void **state)
{
	uint8_t mac[6];
	struct three t;

	open_three(&t);
	swkit_mac(B, mac);
	assert_int_equal(vswitch_mac_add(t.k.sw, mac, 1, t.b->port), 0);
	swkit_send_one(&t.k, t.a, B, A);
	expect_got(&t, 0, 1, 0);
	swkit_pass(&t.k, 1000);
	swkit_send_one(&t.k, t.c, A, B);
	assert_int_equal(swkit_drops(t.c, DROP_PINNED), 1);
	expect_got(&t, 0, 1, 0);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 1, 1, 0);
	assert_int_equal(vswitch_mac_del(t.k.sw, mac, 1), 0);
	assert_int_equal(vswitch_mac_del(t.k.sw, mac, 1), -ENOENT);
	swkit_send_one(&t.k, t.c, A, B);
	expect_got(&t, 2, 1, 0);
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
	struct three t;

	open_three(&t);
	for (uint64_t i = 0; i < 16; i++)
		swkit_send_one(&t.k, t.a, 0x0180c2000000 + i, A);
	expect_got(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.a, DROP_RESERVED), 16);
	swkit_send_one(&t.k, t.a, 0x0180c2000010, A);
	swkit_send_one(&t.k, t.a, 0x0180c2010000, A);
	expect_got(&t, 0, 2, 2);
	swkit_close(&t.k);

	swkit_open(&t.k, &(struct vswitch_conf){ .forward_reserved = true });
	t.a = swkit_add(&t.k, "a", NULL);
	t.b = swkit_add(&t.k, "b", NULL);
	swkit_send_one(&t.k, t.a, 0x0180c200000e, A);
	assert_int_equal(t.b->nr, 1);
	swkit_close(&t.k);
}

/* --- VLANs ----------------------------------------------------------------------- */

static void access_ports_of_two_vlans_do_not_meet(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &ten);
	t.c = swkit_add(&t.k, "c", &twenty);
	learn_three(&t);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.a, B, A);
	expect_got(&t, 0, 2, 0);
	swkit_send_one(&t.k, t.a, C, A);
	expect_got(&t, 0, 3, 0);
	swkit_close(&t.k);
}

static void the_same_address_may_be_in_two_vlans(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct swkit_port *up;
	struct three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &twenty);
	t.c = swkit_add(&t.k, "c", &twenty);
	up = swkit_add(&t.k, "up", NULL);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.b, SWKIT_BROADCAST, A);
	clear_three(&t);
	swkit_send(&t.k, up, &(struct swkit_frame){ A, C, true, .tci = 10 }, 1);
	expect_got(&t, 1, 0, 0);
	swkit_send(&t.k, up, &(struct swkit_frame){ A, C, true, .tci = 20 }, 1);
	expect_got(&t, 1, 1, 0);
	swkit_close(&t.k);
}

static void tags_come_and_go_as_the_port_wants(void **state)
{
	struct sw_port_conf ten = swkit_access(10);
	struct swkit_port *trunk, *access;
	const struct swkit_got *got;
	struct swkit k;

	swkit_open(&k, NULL);
	trunk = swkit_add(&k, "trunk", NULL);
	access = swkit_add(&k, "access", &ten);
	swkit_send(&k, access, &(struct swkit_frame){ B, A, .mark = 7 }, 1);
	got = &trunk->got[0];
	assert_int_equal(trunk->nr, 1);
	assert_int_equal(got->len, 68);
	assert_true(got->tagged);
	assert_int_equal(get_be16(got->bytes + 12), 0x8100);
	assert_int_equal(get_be16(got->bytes + 14), 10);
	assert_int_equal(get_be16(got->bytes + 16), 0x88b5);
	assert_int_equal(got->bytes[67], 7);
	swkit_send(&k, trunk, &(struct swkit_frame){ A, B, true, 0xe00a, .mark = 9 }, 1);
	got = &access->got[0];
	assert_int_equal(access->nr, 1);
	assert_int_equal(got->len, 60);
	assert_false(got->tagged);
	assert_int_equal(get_be16(got->bytes + 12), 0x88b5);
	assert_int_equal(got->bytes[59], 9);
	swkit_close(&k);
}

static void a_flood_to_both_kinds_leaves_each_its_own_tagging(void **state)
{
	struct sw_port_conf ten = swkit_access(10);
	struct swkit_frame f[2] = { { SWKIT_BROADCAST, A, true, 0x600a, .mark = 1 },
				    { SWKIT_BROADCAST, A, true, 0x600a, .mark = 2 } };
	struct swkit_port *up;
	struct three t;

	swkit_open(&t.k, NULL);
	up = swkit_add(&t.k, "up", NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", NULL);
	t.c = swkit_add(&t.k, "c", &ten);
	swkit_send(&t.k, up, f, 2);
	expect_got(&t, 2, 2, 2);
	for (unsigned int i = 0; i < 2; i++) {
		assert_false(t.a->got[i].tagged);
		assert_int_equal(t.a->got[i].bytes[59], i + 1);
		assert_memory_equal(t.a->got[i].bytes, t.c->got[i].bytes, 60);
		assert_true(t.b->got[i].tagged);
		assert_int_equal(get_be16(t.b->got[i].bytes + 14), 0x600a);
		assert_int_equal(t.b->got[i].bytes[63], i + 1);
	}
	swkit_close(&t.k);
}

static void the_native_vlan_is_untagged_on_a_trunk(void **state)
{
	struct sw_port_conf five = swkit_access(5), trunk;
	struct swkit_port *up, *vm;
	struct swkit k;

	sw_port_conf_init(&trunk);
	trunk.vlan = 5;
	swkit_open(&k, NULL);
	up = swkit_add(&k, "up", &trunk);
	vm = swkit_add(&k, "vm", &five);
	swkit_send_one(&k, vm, B, A);
	assert_false(up->got[0].tagged);
	swkit_send_one(&k, up, A, B);
	assert_int_equal(vm->nr, 1);
	/* It may come with a tag all the same. */
	swkit_send(&k, up, &(struct swkit_frame){ A, B, true, 5 }, 1);
	assert_int_equal(vm->nr, 2);
	assert_false(vm->got[1].tagged);
	swkit_close(&k);
}

static void a_priority_tag_is_of_the_untagged_vlan(void **state)
{
	struct sw_port_conf ten = swkit_access(10), trunk;
	struct swkit_port *up, *vm, *other;
	struct swkit k;

	sw_port_conf_init(&trunk);
	swkit_open(&k, NULL);
	up = swkit_add(&k, "up", &trunk);
	vm = swkit_add(&k, "vm", &ten);
	other = swkit_add(&k, "other", &ten);
	swkit_send(&k, vm, &(struct swkit_frame){ SWKIT_BROADCAST, A, true, 0xa000 }, 1);
	assert_int_equal(up->nr, 1);
	assert_true(up->got[0].tagged);
	assert_int_equal(get_be16(up->got[0].bytes + 14), 0xa00a);
	assert_int_equal(other->nr, 1);
	assert_false(other->got[0].tagged);
	swkit_close(&k);
}

static void frames_of_vlans_that_are_not_carried_are_dropped(void **state)
{
	struct sw_port_conf ten = swkit_access(10), trunk;
	struct swkit_frame f[] = {
		{ B, A, true, 10 }, /* carried */
		{ B, A, true, 11 }, { B, A, true, 4095 },	   { B, A }, /* no native VLAN */
		{ B, A, true, 0 },  { B, A, true, 10, .len = 16 }, /* the tag is all there is */
	};
	struct swkit_port *up, *vm;
	struct swkit k;

	sw_port_conf_init(&trunk);
	trunk.vlan = 0;
	assert_int_equal(sw_vlans_parse("10,12", trunk.trunk, k.err), 0);
	swkit_open(&k, NULL);
	up = swkit_add(&k, "up", &trunk);
	vm = swkit_add(&k, "vm", &ten);
	swkit_send(&k, up, f, ARRAY_SIZE(f));
	assert_int_equal(vm->nr, 1);
	assert_int_equal(swkit_drops(up, DROP_VLAN_IN), 5);
	/* An access port takes no tag, not even its own. */
	swkit_send(&k, vm, &(struct swkit_frame){ B, A, true, 10 }, 1);
	assert_int_equal(swkit_drops(vm, DROP_VLAN_IN), 1);
	assert_int_equal(up->nr, 0);
	swkit_close(&k);
}

static void another_kind_of_tag_is_data(void **state)
{
	struct sw_port_conf ten = swkit_access(10);
	struct swkit_port *a, *b;
	struct swkit k;

	swkit_open(&k, NULL);
	a = swkit_add(&k, "a", &ten);
	b = swkit_add(&k, "b", &ten);
	swkit_send(&k, a, &(struct swkit_frame){ B, A, .type = 0x88a8 }, 1);
	assert_int_equal(b->nr, 1);
	assert_int_equal(get_be16(b->got[0].bytes + 12), 0x88a8);
	swkit_close(&k);
}

static void a_burst_of_many_vlans_goes_where_each_belongs(void **state)
{
	struct swkit_frame f[FRAME_BURST];
	struct swkit_port *vm[4], *up;
	struct sw_port_conf conf;
	struct swkit k;
	char name[8];

	swkit_open(&k, NULL);
	up = swkit_add(&k, "up", NULL);
	for (uint16_t i = 0; i < 4; i++) {
		conf = swkit_access(100 + i);
		snprintf(name, sizeof(name), "vm%u", i);
		vm[i] = swkit_add(&k, name, &conf);
	}
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		f[i] = (struct swkit_frame){ i % 2 ? SWKIT_BROADCAST : B, A, true,
					     (uint16_t)(100 + i % 4 + i / 16 * 1000),
					     .mark = (uint8_t)i };
	swkit_send(&k, up, f, FRAME_BURST);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(vm[i]->nr, 4);
		for (unsigned int n = 0; n < 4; n++)
			assert_int_equal(vm[i]->got[n].bytes[59], 4 * n + i);
	}
	/* VLANs 1100 to 1103 have no other member. */
	assert_int_equal(swkit_drops(up, DROP_NO_PORT), 16);
	swkit_close(&k);
}

static void sets_of_vlans_are_read_and_written(void **state)
{
	static const char *const good[][2] = {
		{ "all", "all" },   { "1", "1" },	{ "1-4094", "all" },
		{ "4094", "4094" }, { "3,1,2", "1-3" }, { "10:20-29:30", "10,20-30" },
		{ "5-5,7", "5,7" },
	};
	static const char *const bad[] = { "",
					   "0",
					   "4095",
					   "1-",
					   "-3",
					   "5-4",
					   "1,",
					   "1,,2",
					   "1-2-3",
					   "x",
					   "1 ",
					   "all,1",
					   "99999999999999999999" };
	uint8_t set[512];
	char err[SW_ERR_LEN];
	char *text;

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(sw_vlans_parse(good[i][0], set, err), 0);
		text = sw_vlans_format(set);
		assert_string_equal(text, good[i][1]);
		free(text);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		err[0] = '\0';
		assert_int_equal(sw_vlans_parse(bad[i], set, err), -EINVAL);
		assert_non_null(strstr(err, "VLAN"));
	}
	/* The longest there is. */
	memset(set, 0x55, sizeof(set));
	text = sw_vlans_format(set);
	assert_non_null(text);
	free(text);
}

/* --- ports that come, change and go ---------------------------------------------- */

static void a_port_that_is_removed_gets_nothing_more(void **state)
{
	struct three t;
	struct swkit_port *c;

	open_three(&t);
	learn_three(&t);
	c = t.c;
	sw_port_remove(c->port, NULL, NULL);
	/* Loops have not noticed yet, and it is gone all the same. */
	assert_null(sw_port_find(t.k.sw, "c"));
	swkit_send_one(&t.k, t.a, C, A);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	expect_got(&t, 0, 2, 0);
	swkit_send_one(&t.k, c, A, C);
	assert_int_equal(swkit_drops(c, DROP_DISABLED_IN), 1);
	expect_got(&t, 0, 2, 0);
	swkit_settle(&t.k);
	free(c);
	/* Its number and name can be used again, and none of its addresses. */
	t.c = swkit_add(&t.k, "c", NULL);
	assert_non_null(t.c);
	swkit_send_one(&t.k, t.a, C, A);
	expect_got(&t, 0, 3, 1);
	swkit_close(&t.k);
}

static void note(void *opaque)
{
	++*(int *)opaque;
}

static void gone_runs_when_every_loop_has_turned(void **state)
{
	struct three t;
	int gone = 0;

	open_three(&t);
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
	struct three t;

	open_three(&t);
	learn_three(&t);
	sw_port_conf_init(&conf);
	conf.enabled = false;
	swkit_set(&t.k, t.b, &conf);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 0, 0, 0);
	assert_int_equal(swkit_drops(t.b, DROP_LINK_DOWN), 1);
	assert_int_equal(swkit_drops(t.b, DROP_DISABLED_IN), 1);
	conf.enabled = true;
	swkit_set(&t.k, t.b, &conf);
	swkit_send_one(&t.k, t.b, A, B);
	expect_got(&t, 1, 0, 0);
	swkit_close(&t.k);
}

static void a_port_that_changes_its_vlan_is_heard_there(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct swkit_port *d;
	struct three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &ten);
	t.c = swkit_add(&t.k, "c", &twenty);
	d = swkit_add(&t.k, "d", &ten);
	learn_three(&t);
	swkit_clear(d);
	swkit_set(&t.k, t.b, &twenty);
	/* In its former VLAN it is unknown: it may be behind any other port. */
	swkit_send_one(&t.k, t.a, B, A);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	expect_got(&t, 0, 0, 0);
	assert_int_equal(d->nr, 2);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, C);
	expect_got(&t, 0, 1, 0);
	swkit_close(&t.k);
}

static void ports_that_do_not_learn_or_flood(void **state)
{
	struct sw_port_conf conf;
	struct three t;

	open_three(&t);
	sw_port_conf_init(&conf);
	conf.learning = false;
	conf.flooding = false;
	swkit_set(&t.k, t.c, &conf);
	swkit_send_one(&t.k, t.c, SWKIT_BROADCAST, C);
	clear_three(&t);
	/* C was not learned, and unknown frames are not for its port. */
	swkit_send_one(&t.k, t.a, C, A);
	expect_got(&t, 0, 1, 0);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	expect_got(&t, 0, 2, 1);
	/* Nobody is left for one of two. */
	swkit_set(&t.k, t.b, &conf);
	swkit_send(&t.k, t.a, (struct swkit_frame[]){ { SWKIT_BROADCAST, A }, { C, A } }, 2);
	expect_got(&t, 0, 3, 2);
	assert_int_equal(swkit_drops(t.a, DROP_NO_PORT), 1);
	swkit_close(&t.k);
}

static void wrong_ports_are_refused(void **state)
{
	char long_name[SW_NAME_MAX + 1];
	struct sw_port_conf conf;
	struct three t;

	open_three(&t);
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
		cmocka_unit_test(access_ports_of_two_vlans_do_not_meet),
		cmocka_unit_test(the_same_address_may_be_in_two_vlans),
		cmocka_unit_test(tags_come_and_go_as_the_port_wants),
		cmocka_unit_test(a_flood_to_both_kinds_leaves_each_its_own_tagging),
		cmocka_unit_test(the_native_vlan_is_untagged_on_a_trunk),
		cmocka_unit_test(a_priority_tag_is_of_the_untagged_vlan),
		cmocka_unit_test(frames_of_vlans_that_are_not_carried_are_dropped),
		cmocka_unit_test(another_kind_of_tag_is_data),
		cmocka_unit_test(a_burst_of_many_vlans_goes_where_each_belongs),
		cmocka_unit_test(sets_of_vlans_are_read_and_written),
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
