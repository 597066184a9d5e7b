/*
 * Moving rings between loops while their driver works: nothing is lost, the
 * front-end notices nothing, and whatever happens meanwhile waits or wins.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <stdlib.h>

#define PACKED (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define BATCH 20
#define ROUNDS 300

/* The loop of kd's ring 0, as status has it; -1: none. */
static int ring_loop(struct kit_dev *kd)
{
	json_t *obj = vu_dev_status(kd->skel.dev, NULL);
	json_t *ring = json_array_get(json_object_get(obj, "rings"), 0);
	json_t *loop = json_object_get(ring, "loop");
	int index = json_is_integer(loop) ? (int)json_integer_value(loop) : -1;

	json_decref(obj);
	return index;
}

static void place(struct kit *kit, struct kit_dev *kd, int loop)
{
	assert_int_equal(vu_dev_place_ring(kd->skel.dev, 0, kit->loops[loop]), 0);
}

static void submit_batch(struct kit_dev *kd)
{
	for (int i = 0; i < BATCH; i++)
		kit_submit(kd);
}

static void reap_batch(struct kit_dev *kd)
{
	void *cookie = NULL;
	uint32_t len;

	for (int i = 0; i < BATCH; i++)
		assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
}

static void a_ring_is_served_by_the_loop_it_was_moved_to(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	for (int packed = 0; packed < 2; packed++) {
		kit_bring_up(kit, kd, KIT_RUNNING, packed ? PACKED | EVENT_IDX : EVENT_IDX);
		assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
		for (int i = 0; i < 4; i++) {
			int to = !ring_loop(kd);
			unsigned int setups = kd->hooks.setup, told = kd->hooks.nr_active_told;
			unsigned int rings = loop_nr_rings(kit->loops[to]);
			unsigned int activated = kd->hooks.activate;

			place(kit, kd, to);
			kit_until(kit, ring_loop(kd) == to && kit_ring_is(kd, "started"));
			kit_serve(kit, kd);
			kit_serve(kit, &kit->witness);
			assert_int_equal(kd->hooks.setup, setups + 1);
			assert_int_equal(kd->hooks.release, setups);
			assert_int_equal(kd->hooks.nr_active_told, told);
			assert_int_equal(loop_nr_rings(kit->loops[to]), rings + 1);
			assert_int_equal(kd->hooks.activate, activated);
		}
		/* Requests are answered as ever. */
		assert_int_equal(drv_stop(&kd->ring), 0);
		assert_int_equal(drv_start(&kd->ring), 0);
		kit_serve(kit, kd);
		kit_bring_down(kit, kd);
	}
}

static void chains_in_flight_end_on_the_old_loop(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	void *cookie = NULL;
	uint32_t len;
	int to;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	to = !ring_loop(kd);
	kit_hold(kit, kd, 5);
	place(kit, kd, to);
	kit_no_answer(kit, kd);
	assert_int_equal(ring_loop(kd), !to);
	assert_true(kit_ring_is(kd, "moving"));
	/* Available meanwhile: it waits in the ring. */
	kit_submit(kd);
	kd->hooks.hold = false;
	for (int i = 0; i < 6; i++)
		assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	kit_until(kit, ring_loop(kd) == to);
	kit_serve(kit, kd);
}

static void requests_wait_for_the_end_of_a_move(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_msg reply;
	int to;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	to = !ring_loop(kd);
	kit_hold(kit, kd, 3);
	place(kit, kd, to);
	assert_int_equal(fe_send(&kd->fe, FE_GET_FEATURES, FE_VERSION, NULL, 0, NULL, 0), 0);
	kit_no_answer(kit, kd);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(ring_loop(kd), to);
}

static void the_last_word_counts(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int to;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	to = !ring_loop(kd);
	kit_hold(kit, kd, 3);
	place(kit, kd, to);
	place(kit, kd, !to);
	kd->hooks.hold = false;
	kit_until(kit, ring_loop(kd) == to);
	kit_until(kit, ring_loop(kd) == !to);
	kit_hold(kit, kd, 3);
	place(kit, kd, to);
	/* Anywhere: it does not come back. */
	assert_int_equal(vu_dev_place_ring(kd->skel.dev, 0, NULL), 0);
	kd->hooks.hold = false;
	kit_until(kit, ring_loop(kd) == to && kit_ring_is(kd, "started"));
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	assert_int_equal(ring_loop(kd), to);
}

static void a_ring_that_does_not_run_starts_where_it_was_placed(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	for (int i = 0; i < 4; i++) {
		place(kit, kd, i % 2);
		kit_bring_up(kit, kd, KIT_RUNNING, 0);
		assert_int_equal(ring_loop(kd), i % 2);
		kit_serve(kit, kd);
		assert_int_equal(drv_stop(&kd->ring), 0);
		place(kit, kd, !(i % 2));
		assert_int_equal(drv_start(&kd->ring), 0);
		assert_int_equal(ring_loop(kd), !(i % 2));
		kit_serve(kit, kd);
		kit_bring_down(kit, kd);
	}
}

static void no_such_ring_or_loop_is_an_error(void **state)
{
	struct loop_conf conf = { .cpu = -1, .manual = true };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct loop *other = NULL;

	conf.ev = kit->ev;
	assert_int_equal(loop_create(&conf, &other), 0);
	assert_int_equal(vu_dev_place_ring(kd->skel.dev, 0, other), -EINVAL);
	assert_int_equal(vu_dev_place_ring(kd->skel.dev, KIT_QUEUES, kit->loops[0]), -EINVAL);
	assert_int_equal(vu_dev_place_ring(kd->skel.dev, KIT_QUEUES, NULL), -EINVAL);
	loop_destroy(other);
}

static void a_ring_that_cannot_be_moved_goes_back(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int to;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	to = !ring_loop(kd);
	kd->hooks.bad_loop = kit->loops[to];
	submit_batch(kd);
	place(kit, kd, to);
	reap_batch(kd);
	kit_until(kit, kit_ring_is(kd, "started"));
	assert_int_equal(ring_loop(kd), !to);
	kit_serve(kit, kd);
	/* Not tried again and again. */
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	kit_serve(kit, kd);
	assert_int_equal(kd->hooks.setup, 2);
	kd->hooks.bad_loop = NULL;
	place(kit, kd, to);
	kit_until(kit, ring_loop(kd) == to);
	kit_serve(kit, kd);
}

static void a_ring_that_can_be_nowhere_fails_alone(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_msg reply;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_serve(kit, kd);
	kd->hooks.setup_ret = -ENOMEM;
	place(kit, kd, !ring_loop(kd));
	kit_until(kit, kit_ring_is(kd, "failed"));
	kit_serve(kit, &kit->witness);
	assert_false(kd->hooks.active[0]);
	assert_int_equal(kd->hooks.activate, kd->hooks.deactivate);
	/* The connection lives, and the ring's position is known. */
	assert_int_equal(fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, (uint32_t[]){ 0, 0 }, 8,
				 NULL, 0),
			 0);
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	kd->hooks.setup_ret = 0;
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_serve(kit, kd);
	kd->hooks.release = kd->hooks.setup - 1; /* the failed ones were not released */
}

static void a_front_end_that_leaves_in_the_middle_is_let_go(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 3);
	place(kit, kd, !ring_loop(kd));
	drv_destroy(&kd->ring);
	kd->has_ring = false;
	fe_close(&kd->fe);
	for (int i = 0; i < 20; i++)
		kit_pump(kit);
	assert_true(kit_ring_is(kd, "moving"));
	kd->hooks.hold = false;
	kit_bring_down(kit, kd);
	kit_bring_up(kit, kd, KIT_RUNNING, PACKED);
	kit_serve(kit, kd);
}

static void a_device_that_is_removed_in_the_middle_goes(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 3);
	place(kit, kd, !ring_loop(kd));
	kd->gone = false;
	kd->hooks.hold = false;
	kit_destroy(kit, kd);
}

/* A ring that waits for a translation may be moved; what it is told between its two
 * loops holds on the second. */
static void a_translation_may_come_in_the_middle_of_a_move(void **state)
{
	const uint64_t iommu = 1ull << VIRTIO_F_ACCESS_PLATFORM;
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_msg miss;
	void *cookie;
	uint32_t len;

	kit_bring_up(kit, kd, KIT_RUNNING, iommu);
	while (!kit_ring_is(kd, "started")) {
		kit_pump(kit);
		kit_answer(kit);
	}
	for (int refused = 1; refused >= 0; refused--) {
		assert_int_equal(fe_iommu_unmap(&kd->fe, kd->buf, KIT_PAGE), 0);
		kit_submit(kd);
		assert_int_equal(fe_backend_take(&kd->fe, &miss, kd->fe.timeout_ms), 0);
		place(kit, kd, !ring_loop(kd));
		for (int i = 0; i < KIT_LOOPS; i++)
			loop_turn(kit->loops[i]);
		assert_true(kit_ring_is(kd, "moving"));
		assert_int_equal(fe_backend_reply(&kd->fe, &miss, (uint64_t)refused), 0);
		for (int i = 0; i < 1000 && !drv_reap(&kd->ring, &cookie, &len); i++) {
			kit_pump(kit);
			kit_answer(kit);
		}
		assert_int_equal(kd->ring.inflight, 0);
		assert_int_equal(len, 8);
	}
	kit_serve(kit, kd);
}

static void a_ring_without_poll_is_only_counted_elsewhere(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int to;

	kd->hooks.no_poll = true;
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	to = !ring_loop(kd);
	place(kit, kd, to);
	assert_int_equal(ring_loop(kd), to);
	assert_true(kit_ring_is(kd, "started"));
	assert_int_equal(kd->hooks.setup, 1);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	assert_int_equal(drv_stop(&kd->ring), 0);
	assert_int_equal(loop_nr_rings(kit->loops[0]) + loop_nr_rings(kit->loops[1]), 1);
}

static void rings_are_spread_by_what_makes_work(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	unsigned int loads[KIT_LOOPS];

	for (int i = 0; i < KIT_LOOPS; i++)
		loads[i] = loop_load(kit->loops[i]);
	assert_int_equal(loads[0] + loads[1], 1);
	kd->hooks.no_poll = true;
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < KIT_LOOPS; i++)
		assert_int_equal(loop_load(kit->loops[i]), loads[i]);
	kit_bring_down(kit, kd);
	kd->hooks.no_poll = false;
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < KIT_LOOPS; i++)
		assert_int_equal(loop_load(kit->loops[i]), 1);
}

/* --- with threads --------------------------------------------------------------------- */

static void rings_move_to_and_fro_under_load(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	for (int packed = 0; packed < 2; packed++) {
		kit_bring_up(kit, kd, KIT_RUNNING, packed ? PACKED | EVENT_IDX : 0);
		for (int i = 0; i < ROUNDS; i++) {
			submit_batch(kd);
			place(kit, kd, i % 2);
			if (i % 3 == 0)
				assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
			reap_batch(kd);
			kit_serve(kit, &kit->witness);
		}
		kit_bring_down(kit, kd);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)
#define THREADS(name)                                                                              \
	{                                                                                          \
#name " (threads)", name, kit_setup_threads, kit_teardown, NULL                    \
	}

static const struct CMUnitTest tests[] = {
	TEST(a_ring_is_served_by_the_loop_it_was_moved_to),
	THREADS(a_ring_is_served_by_the_loop_it_was_moved_to),
	TEST(chains_in_flight_end_on_the_old_loop),
	TEST(requests_wait_for_the_end_of_a_move),
	TEST(the_last_word_counts),
	TEST(a_ring_that_does_not_run_starts_where_it_was_placed),
	TEST(no_such_ring_or_loop_is_an_error),
	TEST(a_ring_that_cannot_be_moved_goes_back),
	TEST(a_ring_that_can_be_nowhere_fails_alone),
	TEST(a_front_end_that_leaves_in_the_middle_is_let_go),
	TEST(a_device_that_is_removed_in_the_middle_goes),
	TEST(a_translation_may_come_in_the_middle_of_a_move),
	TEST(a_ring_without_poll_is_only_counted_elsewhere),
	TEST(rings_are_spread_by_what_makes_work),
	TEST(rings_move_to_and_fro_under_load),
	THREADS(rings_move_to_and_fro_under_load),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
