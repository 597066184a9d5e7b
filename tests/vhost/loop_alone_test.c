/*
 * When a loop has its CPU to itself: what follows from two looks at it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vhost/loop_internal.h"

#define MS 1000000ull

/* A quarter of a second in which the loop ran and the CPU was idle for so long. */
static bool alone(uint64_t own_ms, uint64_t idle_ms)
{
	const struct loop_look from = { .now_ns = 77 * MS, .own_ns = 5 * MS, .idle_ns = 9000 * MS };
	const struct loop_look to = {
		.now_ns = from.now_ns + 250 * MS,
		.own_ns = from.own_ns + own_ms * MS,
		.idle_ns = from.idle_ns + idle_ms * MS,
	};

	return loop_was_alone(&from, &to);
}

static void what_the_loop_leaves_is_idle(void **state)
{
	assert_true(alone(250, 0)); /* it spins all the time */
	assert_true(alone(100, 150));
	assert_true(alone(1, 249)); /* it sleeps nearly all the time */
	/* The kernel counts in steps of 10 ms. */
	assert_true(alone(100, 140));
	assert_true(alone(100, 160));
}

static void somebody_takes_what_is_left(void **state)
{
	assert_false(alone(10, 0)); /* a guest takes it all */
	assert_false(alone(125, 0)); /* one takes its fair half */
	assert_false(alone(10, 190));
	assert_false(alone(0, 0)); /* the loop was stopped */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_loop_leaves_is_idle),
		cmocka_unit_test(somebody_takes_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
