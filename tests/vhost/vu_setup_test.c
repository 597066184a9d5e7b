/*
 * The messages that set a ring up (but for the error descriptor), in every order in
 * which a front-end may send them: the ring starts with the last that it needs, and
 * serves.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include "core/base.h"

enum step {
	NUM,
	BASE,
	ADDR,
	KICK,
	CALL,
	ENABLE,
	STEP_CNT,
};

/* Size before addresses, which are checked against it; and a ring that runs has
 * no base to be told. */
static bool is_allowed(const enum step *order)
{
	unsigned int at[STEP_CNT];

	for (unsigned int i = 0; i < STEP_CNT; i++)
		at[order[i]] = i;
	return at[NUM] < at[ADDR] && (at[BASE] < at[ADDR] || at[BASE] < at[KICK]);
}

static int say(struct kit_dev *kd, enum step step)
{
	const struct drv_ring *r = &kd->ring;
	struct fe *fe = &kd->fe;
	const struct fe_vring_addr addr = {
		.desc_uva = fe_uva(fe, r->desc_gpa),
		.avail_uva = fe_uva(fe, r->driver_gpa),
		.used_uva = fe_uva(fe, r->device_gpa),
	};

	switch (step) {
	case NUM:
		return fe_vring_num(fe, 0, r->size);
	case BASE:
		return fe_vring_base(fe, 0, r->packed ? 0x80008000u : 0);
	case ADDR:
		return fe_vring_addr(fe, &addr);
	case KICK:
		return fe_vring_fd(fe, FE_SET_VRING_KICK, 0, r->kick_fd);
	case CALL:
		return fe_vring_fd(fe, FE_SET_VRING_CALL, 0, r->call_fd);
	case ENABLE:
		return fe_vring_enable(fe, 0, true);
	default:
		return -1;
	}
}

static void set_up(struct kit *kit, const enum step *order, bool packed)
{
	struct drv_conf conf = { .size = KIT_RING_SIZE };
	struct kit_dev *kd = &kit->victim;
	bool has_addr = false, has_kick = false;

	kit_bring_up(kit, kd, KIT_MEMORY, packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	conf.region = kd->region;
	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
	for (unsigned int i = 0; i < STEP_CNT; i++) {
		assert_int_equal(say(kd, order[i]), 0);
		has_addr |= order[i] == ADDR;
		has_kick |= order[i] == KICK;
		assert_true(kit_ring_is(kd, has_addr && has_kick ? "started" : "stopped"));
	}
	kit_serve(kit, kd);
	assert_int_equal(drv_stop(&kd->ring), 0);
	kit_bring_down(kit, kd);
}

/* Every order of what is left of steps, behind the first n. */
static unsigned int permute(struct kit *kit, enum step *steps, unsigned int n, bool packed)
{
	unsigned int nr = 0;

	if (n == STEP_CNT) {
		if (!is_allowed(steps))
			return 0;
		set_up(kit, steps, packed);
		return 1;
	}
	for (unsigned int i = n; i < STEP_CNT; i++) {
		enum step first = steps[i];

		steps[i] = steps[n];
		steps[n] = first;
		nr += permute(kit, steps, n + 1, packed);
		steps[n] = steps[i];
		steps[i] = first;
	}
	return nr;
}

static void a_ring_may_be_set_up_in_any_order(void **state)
{
	enum step steps[STEP_CNT];
	struct kit *kit = *state;

	for (int packed = 0; packed < 2; packed++) {
		for (unsigned int i = 0; i < STEP_CNT; i++)
			steps[i] = (enum step)i;
		/* Of 4! orders of size, base, addresses and kick, 9 are allowed. */
		assert_int_equal(permute(kit, steps, 0, packed), 6 * 5 * 9);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_ring_may_be_set_up_in_any_order, kit_setup,
						kit_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
