/*
 * What every unit test of this tree includes: cmocka with the headers it needs,
 * and asserts that stay on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_CORE_TEST_H
#define RINGBOLT_TESTS_CORE_TEST_H

#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
