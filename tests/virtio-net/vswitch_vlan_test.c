/*
 * The switch: access ports and trunks, tags, the native VLAN, sets of VLANs.
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

static void access_ports_of_two_vlans_do_not_meet(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct swkit_three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &ten);
	t.c = swkit_add(&t.k, "c", &twenty);
	swkit_three_learn(&t);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.a, B, A);
	swkit_three_expect(&t, 0, 2, 0);
	swkit_send_one(&t.k, t.a, C, A);
	swkit_three_expect(&t, 0, 3, 0);
	swkit_close(&t.k);
}

static void the_same_address_may_be_in_two_vlans(void **state)
{
	struct sw_port_conf ten = swkit_access(10), twenty = swkit_access(20);
	struct swkit_port *up;
	struct swkit_three t;

	swkit_open(&t.k, NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", &twenty);
	t.c = swkit_add(&t.k, "c", &twenty);
	up = swkit_add(&t.k, "up", NULL);
	swkit_send_one(&t.k, t.a, SWKIT_BROADCAST, A);
	swkit_send_one(&t.k, t.b, SWKIT_BROADCAST, A);
	swkit_three_clear(&t);
	swkit_send(&t.k, up, &(struct swkit_frame){ A, C, true, .tci = 10 }, 1);
	swkit_three_expect(&t, 1, 0, 0);
	swkit_send(&t.k, up, &(struct swkit_frame){ A, C, true, .tci = 20 }, 1);
	swkit_three_expect(&t, 1, 1, 0);
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
	struct swkit_three t;

	swkit_open(&t.k, NULL);
	up = swkit_add(&t.k, "up", NULL);
	t.a = swkit_add(&t.k, "a", &ten);
	t.b = swkit_add(&t.k, "b", NULL);
	t.c = swkit_add(&t.k, "c", &ten);
	swkit_send(&t.k, up, f, 2);
	swkit_three_expect(&t, 2, 2, 2);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
