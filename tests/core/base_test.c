/*
 * Checked arithmetic, rounding and byte order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <string.h>

#include "core/base.h"
#include "core/byteorder.h"

static void sums_and_products_that_do_not_fit_are_told(void **state)
{
	uint64_t r;

	assert_false(add_overflows(UINT64_MAX - 1, 1, &r));
	assert_true(r == UINT64_MAX);
	assert_true(add_overflows(UINT64_MAX, 1, &r));
	assert_false(mul_overflows(1ull << 32, (1ull << 32) - 1, &r));
	assert_true(mul_overflows(1ull << 32, 1ull << 32, &r));
}

static void rounding_goes_to_multiples(void **state)
{
	assert_int_equal(round_up(0, 4096), 0);
	assert_int_equal(round_up(1, 4096), 4096);
	assert_int_equal(round_up(4096, 4096), 4096);
	assert_int_equal(round_down(4095, 4096), 0);
	assert_int_equal(round_down(8191, 4096), 4096);
}

static void zero_is_no_power_of_two(void **state)
{
	assert_false(is_power_of_two(0));
	assert_true(is_power_of_two(1));
	assert_true(is_power_of_two(1ull << 63));
	assert_false(is_power_of_two(3));
}

static void wire_fields_are_little_endian_in_memory(void **state)
{
	le16 a = cpu_to_le16(0x0102);
	le32 b = cpu_to_le32(0x01020304);
	le64 c = cpu_to_le64(0x0102030405060708);

	assert_memory_equal(&a, "\x02\x01", 2);
	assert_memory_equal(&b, "\x04\x03\x02\x01", 4);
	assert_memory_equal(&c, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_int_equal(le16_to_cpu(a), 0x0102);
	assert_int_equal(le32_to_cpu(b), 0x01020304);
	assert_true(le64_to_cpu(c) == 0x0102030405060708);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_and_products_that_do_not_fit_are_told),
		cmocka_unit_test(rounding_goes_to_multiples),
		cmocka_unit_test(zero_is_no_power_of_two),
		cmocka_unit_test(wire_fields_are_little_endian_in_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
