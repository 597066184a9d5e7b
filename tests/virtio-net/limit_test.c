/*
 * Token buckets: rates over time, bursts, large costs, several loops at once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <pthread.h>
#include <string.h>

#include "core/atomic.h"
#include "virtio-net/limit.h"

#define MS 1000000ull
#define SECOND (1000 * MS)

static const uint32_t ones[32] = { [0 ... 31] = 1 };

static unsigned int count(uint32_t mask)
{
	return (unsigned int)__builtin_popcount(mask);
}

/* Offer bursts of 32 every step for a second; what passes. */
static uint64_t offer_for_a_second(struct limit *l, uint64_t *now, const uint32_t *cost,
				   uint64_t step)
{
	uint64_t end = *now + SECOND, paid = 0;

	for (; *now < end; *now += step) {
		uint32_t pass = limit_take(l, *now, cost, UINT32_MAX);

		for (; pass; pass &= pass - 1)
			paid += cost[__builtin_ctz(pass)];
	}
	return paid;
}

static void a_rate_holds_whatever_it_is(void **state)
{
	static const uint64_t rates[] = { 1,	   7,	    1000,      49999,	   50001,
					  1000000, 1234567, 125000000, 12500000000 };

	for (unsigned int i = 0; i < ARRAY_SIZE(rates); i++) {
		uint64_t rate = rates[i], now = SECOND, passed;
		struct limit l = { 0 };
		uint32_t cost[32];

		for (unsigned int k = 0; k < 32; k++)
			cost[k] = rate > 1000000 ? 1514 : 1;
		limit_set(&l, rate, 1 + rate / 100, 1);
		offer_for_a_second(&l, &now, cost, 2 * (rate > 1000000000 ? 1000 : 10000));
		passed = offer_for_a_second(&l, &now, cost, rate > 1000000000 ? 1000 : 10000);
		/* A frame more or less, and a thousandth. */
		assert_true(passed <= rate + rate / 1000 + cost[0]);
		assert_true(passed + rate / 1000 + cost[0] + 1 >= rate);
	}
}

static void a_full_bucket_lets_its_burst_pass_at_once(void **state)
{
	struct limit l = { 0 };

	limit_set(&l, 1000, 20, 1);
	assert_int_equal(count(limit_take(&l, SECOND, ones, UINT32_MAX)), 20);
	assert_int_equal(count(limit_take(&l, SECOND, ones, UINT32_MAX)), 0);
	assert_int_equal(count(limit_take(&l, SECOND + 5 * MS, ones, UINT32_MAX)), 5);
	/* Never more than the bucket holds, however long it was quiet. */
	assert_int_equal(count(limit_take(&l, 100000 * SECOND, ones, UINT32_MAX)), 20);
	assert_int_equal(count(limit_take(&l, UINT64_MAX / 2, ones, UINT32_MAX)), 20);
}

static void only_the_frames_asked_for_pay(void **state)
{
	struct limit l = { 0 };

	limit_set(&l, 1, 2, 1);
	assert_int_equal(limit_take(&l, SECOND, ones, 0xf0), 0x30);
	assert_int_equal(limit_take(&l, SECOND, ones, 0), 0);
}

static void a_small_frame_may_pass_where_a_large_one_did_not(void **state)
{
	uint32_t cost[32] = { 100, 60, 100, 40 };
	struct limit l = { 0 };

	limit_set(&l, 1, 100, 1);
	assert_int_equal(limit_take(&l, SECOND, cost + 1, 1), 1);
	assert_int_equal(limit_take(&l, SECOND, cost, 0xd), 0x8);
}

static void what_costs_more_than_the_bucket_passes_and_is_paid_later(void **state)
{
	uint32_t large[32] = { 64000 };
	struct limit l = { 0 };
	uint64_t now = SECOND, paid = 0;

	limit_set(&l, 100000, 10000, 1);
	for (unsigned int ms = 0; ms < 10000; ms++, now += MS)
		paid += limit_take(&l, now, large, 1) ? 64000 : 0;
	/* Ten seconds of the rate, and what the bucket and the last one hold. */
	assert_true(paid > 900000);
	assert_true(paid <= 1000000 + 74000);
}

static void a_clock_that_goes_back_gives_nothing(void **state)
{
	struct limit l = { 0 };

	limit_set(&l, 1000, 10, 1);
	assert_int_equal(count(limit_take(&l, 10 * SECOND, ones, UINT32_MAX)), 10);
	assert_int_equal(count(limit_take(&l, 9 * SECOND, ones, UINT32_MAX)), 0);
	assert_int_equal(count(limit_take(&l, 10 * SECOND, ones, UINT32_MAX)), 0);
}

static void another_rate_holds_from_now_on(void **state)
{
	uint64_t now = SECOND;
	struct limit l = { 0 };

	limit_set(&l, 1000, 10, 1);
	assert_int_equal(count(limit_take(&l, now, ones, UINT32_MAX)), 10);
	/* The same again does not fill the bucket. */
	limit_set(&l, 1000, 10, 1);
	assert_int_equal(count(limit_take(&l, now, ones, UINT32_MAX)), 0);
	limit_set(&l, 2000, 10, 1);
	assert_int_equal(count(limit_take(&l, now, ones, UINT32_MAX)), 10);
	assert_int_equal(offer_for_a_second(&l, &now, ones, MS), 2000 - 2);
	limit_set(&l, 0, 0, 1);
	assert_int_equal(limit_take(&l, now, ones, UINT32_MAX), UINT32_MAX);
}

static void a_bucket_that_nobody_sized_is_large_enough(void **state)
{
	struct limit l = { 0 };

	limit_set(&l, 1000000, 0, 32);
	assert_int_equal(l.profile.cbs, 10000);
	limit_set(&l, 100, 0, 32);
	assert_int_equal(l.profile.cbs, 32);
}

/* --- several loops --------------------------------------------------------------- */

#define THREADS 3
#define STEPS 20000

struct racer {
	struct limit *l;
	uint64_t *now; /* shared: what the clocks of all show */
	uint64_t passed;
	pthread_t thread;
};

static void *race(void *opaque)
{
	struct racer *r = opaque;

	for (unsigned int i = 0; i < STEPS; i++) {
		uint64_t now = __atomic_add_fetch(r->now, 10000, __ATOMIC_RELAXED);

		r->passed += count(limit_take(r->l, now, ones, UINT32_MAX));
	}
	return NULL;
}

static void loops_that_share_a_limit_get_it_once(void **state)
{
	uint64_t now = SECOND, passed = 0, due;
	struct racer racer[THREADS];
	struct limit l = { 0 };

	limit_set(&l, 100000, 1000, 1);
	for (unsigned int i = 0; i < THREADS; i++) {
		racer[i] = (struct racer){ .l = &l, .now = &now };
		assert_int_equal(pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
	}
	/* Meanwhile it is set again and again, to what it is. */
	for (unsigned int i = 0; i < 1000; i++)
		limit_set(&l, 100000, 1000, 1);
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(racer[i].thread, NULL);
		passed += racer[i].passed;
	}
	/* 0.6 s of time went by: tokens of that time, of the bucket, and what is
	 * still owed. */
	due = 100000ull * THREADS * STEPS * 10000 / SECOND + 1000;
	assert_true(passed <= due + read_once(&l.debt) + 32);
	assert_true(passed + 2000 >= due - 1000);
}

static void a_loop_that_finds_the_meter_taken_does_not_wait(void **state)
{
	struct limit l = { 0 };

	limit_set(&l, 1000, 10, 1);
	/* As if its holder had been preempted. */
	write_once(&l.taken, 1);
	assert_int_equal(limit_take(&l, SECOND, ones, UINT32_MAX), UINT32_MAX);
	write_once(&l.taken, 0);
	/* 32 passed: 10 were there, 22 are owed. */
	assert_int_equal(count(limit_take(&l, SECOND, ones, UINT32_MAX)), 0);
	assert_int_equal(count(limit_take(&l, SECOND + 10 * MS, ones, UINT32_MAX)), 0);
	assert_int_equal(count(limit_take(&l, SECOND + 20 * MS, ones, UINT32_MAX)), 0);
	assert_int_equal(count(limit_take(&l, SECOND + 30 * MS, ones, UINT32_MAX)), 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rate_holds_whatever_it_is),
		cmocka_unit_test(a_full_bucket_lets_its_burst_pass_at_once),
		cmocka_unit_test(only_the_frames_asked_for_pay),
		cmocka_unit_test(a_small_frame_may_pass_where_a_large_one_did_not),
		cmocka_unit_test(what_costs_more_than_the_bucket_passes_and_is_paid_later),
		cmocka_unit_test(a_clock_that_goes_back_gives_nothing),
		cmocka_unit_test(another_rate_holds_from_now_on),
		cmocka_unit_test(a_bucket_that_nobody_sized_is_large_enough),
		cmocka_unit_test(loops_that_share_a_limit_get_it_once),
		cmocka_unit_test(a_loop_that_finds_the_meter_taken_does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
