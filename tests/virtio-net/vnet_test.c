/*
 * Whole network devices behind their sockets: what is offered, what follows from
 * what was negotiated, how devices and drivers come and go.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/netrig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BIT(n) (1ull << (n))

static void frames_go_from_one_driver_to_another(void **state)
{
	struct rig *r = *state;

	rig_pair(r);
	rig_talk(r, 0, 1);
	rig_expect_nothing(r, 0);
	rig_expect_nothing(r, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_go_from_one_driver_to_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
