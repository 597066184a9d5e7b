/*
 * CPU lists, pinning, placement. Uses whatever CPUs the machine lets it use.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"
#include "core/cpu.h"

static int first_usable(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &set))
			return cpu;
	}
	fail();
	return -1;
}

static void a_list_keeps_its_order(void **state)
{
	int cpus[CPU_LIST_MAX], bad = -1, cpu = first_usable();
	char text[64];

	snprintf(text, sizeof(text), "%d", cpu);
	assert_int_equal(cpu_list_parse(text, cpus, CPU_LIST_MAX, &bad), 1);
	assert_int_equal(cpus[0], cpu);
	snprintf(text, sizeof(text), "%d-%d", cpu, cpu);
	assert_int_equal(cpu_list_parse(text, cpus, CPU_LIST_MAX, &bad), 1);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || cpu != 0)
		return;
	if (cpu_list_parse("1,0", cpus, CPU_LIST_MAX, &bad) == -ENODEV)
		return; /* not allowed to use CPU 1 */
	assert_int_equal(cpus[0], 1);
	assert_int_equal(cpus[1], 0);
	assert_int_equal(cpu_list_parse("0-1", cpus, CPU_LIST_MAX, &bad), 2);
	assert_int_equal(cpu_list_parse("0-1", cpus, 1, &bad), -E2BIG);
}

static void what_is_no_list_is_refused(void **state)
{
	const char *const wrong[] = {
		"",    ",",    "a",    "0,", ",0",  "0,,0",  "-1",
		"0-",  "1-0x", "0 -1", " 0", "0;1", "0-0-0", "99999999999999999999",
		"2-1", "+1",   "0-1-"
	};
	int cpus[CPU_LIST_MAX], bad;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_true(cpu_list_parse(wrong[i], cpus, CPU_LIST_MAX, &bad) < 0);
	assert_int_equal(cpu_list_parse("2-1", cpus, CPU_LIST_MAX, &bad), -EINVAL);
}

static void a_cpu_given_twice_is_refused(void **state)
{
	int cpus[CPU_LIST_MAX], bad, cpu = first_usable();
	char text[64];

	snprintf(text, sizeof(text), "%d,%d", cpu, cpu);
	assert_int_equal(cpu_list_parse(text, cpus, CPU_LIST_MAX, &bad), -EINVAL);
}

static void a_cpu_that_is_not_there_is_named(void **state)
{
	int cpus[CPU_LIST_MAX], bad = -1;

	assert_int_equal(cpu_list_parse("8191", cpus, CPU_LIST_MAX, &bad), -ENODEV);
	assert_int_equal(bad, 8191);
	/* Not walked through one by one, and no overflow. */
	assert_int_equal(cpu_list_parse("8000-2147483646", cpus, CPU_LIST_MAX, &bad), -ENODEV);
}

static void a_pinned_thread_runs_there(void **state)
{
	int cpu = first_usable();

	assert_int_equal(cpu_pin_self(cpu), 0);
	assert_int_equal(sched_getcpu(), cpu);
	assert_int_equal(cpu_pin_self(-1), -EINVAL);
	assert_int_equal(cpu_pin_self(1 << 20), -EINVAL);
	assert_true(cpu_pin_self(8191) < 0);
}

static void a_page_not_touched_has_no_node_and_is_not_touched_by_asking(void **state)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char resident = 0xff;
	char *p;

	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(numa_node_of(p), -1);
	assert_int_equal(mincore(p, len, &resident), 0);
	assert_int_equal(resident & 1, 0);
	p[0] = 1;
	/* Unknown where the system call is forbidden, else a node. */
	assert_true(numa_node_of(p + 17) >= -1);
	munmap(p, len);
}

static void memory_of_a_node_is_zeroed_and_page_aligned(void **state)
{
	static const char zeroes[10000];
	int nodes[] = { -1, cpu_node(first_usable()), 12345 };
	char *p;

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		p = numa_zalloc(sizeof(zeroes), nodes[i]);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 4096, 0);
		assert_memory_equal(p, zeroes, sizeof(zeroes));
		memset(p, 1, sizeof(zeroes));
		numa_zfree(p, sizeof(zeroes));
	}
	numa_zfree(NULL, 1);
	assert_null(numa_zalloc(SIZE_MAX / 2, -1));
}

static void an_impossible_cpu_has_no_node(void **state)
{
	assert_int_equal(cpu_node(-1), -1);
	assert_true(cpu_node(first_usable()) >= 0);
}

static void a_cpu_has_been_idle_for_some_time(void **state)
{
	int cpu = first_usable();
	uint64_t before, after;

	assert_int_equal(cpu_idle_ns(cpu, &before), 0);
	assert_int_equal(cpu_idle_ns(cpu, &after), 0);
	assert_true(after >= before);
	assert_int_equal(cpu_idle_ns(1 << 20, &after), -ENODEV);
	assert_int_equal(cpu_idle_ns(-1, &after), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_keeps_its_order),
		cmocka_unit_test(what_is_no_list_is_refused),
		cmocka_unit_test(a_cpu_given_twice_is_refused),
		cmocka_unit_test(a_cpu_that_is_not_there_is_named),
		cmocka_unit_test(a_page_not_touched_has_no_node_and_is_not_touched_by_asking),
		cmocka_unit_test(memory_of_a_node_is_zeroed_and_page_aligned),
		cmocka_unit_test(an_impossible_cpu_has_no_node),
		cmocka_unit_test(a_cpu_has_been_idle_for_some_time),
		/* Last: it narrows what this process may use. */
		cmocka_unit_test(a_pinned_thread_runs_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
