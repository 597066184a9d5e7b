/*
 * Finding out what an image can do, where that is a decision of ours.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include "virtio-blk/image.h"

static void secure_erase_is_asked_for_where_the_answer_is_true(void **state)
{
	assert_false(image_tells_secure_erase("5.15.0-91-generic"));
	assert_false(image_tells_secure_erase("5.18.19"));
	assert_false(image_tells_secure_erase("4.19.0"));
	assert_true(image_tells_secure_erase("5.19.0-rc1"));
	assert_true(image_tells_secure_erase("6.1.0-18-amd64"));
	assert_true(image_tells_secure_erase("10.0"));
	/* Nobody knows. */
	assert_false(image_tells_secure_erase(""));
	assert_false(image_tells_secure_erase("6"));
	assert_false(image_tells_secure_erase("linux-6.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secure_erase_is_asked_for_where_the_answer_is_true),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
