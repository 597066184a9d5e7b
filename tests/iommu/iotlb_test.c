/*
 * iommu/iotlb.c: the table against a model that knows every page, the caches
 * against the table.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "iommu/iotlb.h"

#define PAGE 4096ull
#define PAGES 256u
#define RW (IOTLB_READ | IOTLB_WRITE)

static uint8_t host[2 * PAGES * PAGE];

static struct iotlb *table(void)
{
	struct iotlb *tlb;

	assert_int_equal(iotlb_create(&tlb), 0);
	return tlb;
}

static uint64_t entries(const struct iotlb *tlb)
{
	struct iotlb_stats s;

	iotlb_get_stats(tlb, &s);
	return s.entries;
}

static void what_was_said_is_found_and_nothing_else(void **state)
{
	struct iotlb *tlb = table();
	struct iotlb_range r;

	assert_int_equal(iotlb_add(tlb, iova(0x10000), 0x2000, host, RW), 0);
	assert_true(iotlb_find(tlb, iova(0x10000), &r));
	assert_true(iotlb_find(tlb, iova(0x11fff), &r));
	assert_ptr_equal(r.host, host);
	assert_int_equal(r.perm, RW);
	assert_false(iotlb_find(tlb, iova(0xffff), &r));
	assert_false(iotlb_find(tlb, iova(0x12000), &r));
	iotlb_destroy(tlb);
}

static void empty_and_wrapping_ranges_are_refused(void **state)
{
	struct iotlb *tlb = table();
	struct iotlb_range r;

	assert_int_equal(iotlb_add(tlb, iova(0x1000), 0, host, RW), -EINVAL);
	assert_int_equal(iotlb_add(tlb, iova(UINT64_MAX - 0xfff), 0x2000, host, RW), -EINVAL);
	iotlb_del(tlb, iova(0x1000), 0);
	iotlb_del(tlb, iova(0x1000), UINT64_MAX);
	assert_false(iotlb_find(tlb, iova(0x1000), &r));
	assert_int_equal(entries(tlb), 0);
	iotlb_destroy(tlb);
}

static void pages_that_continue_each_other_become_one(void **state)
{
	struct iotlb *tlb = table();

	/* From both ends towards the middle. */
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int at = i % 2 ? 7 - i / 2 : i / 2;

		assert_int_equal(iotlb_add(tlb, iova(at * PAGE), PAGE, host + at * PAGE, RW), 0);
	}
	assert_int_equal(entries(tlb), 1);
	/* Other permissions, or another place, do not join. */
	assert_int_equal(iotlb_add(tlb, iova(8 * PAGE), PAGE, host + 8 * PAGE, IOTLB_READ), 0);
	assert_int_equal(iotlb_add(tlb, iova(9 * PAGE), PAGE, host + 20 * PAGE, IOTLB_READ), 0);
	assert_int_equal(entries(tlb), 3);
	iotlb_destroy(tlb);
}

/* What each page is, told one by one. */
struct model {
	uint8_t *host[PAGES];
	uint32_t perm[PAGES];
};

static void compare(struct iotlb *tlb, const struct model *m)
{
	for (unsigned int p = 0; p < PAGES; p++) {
		struct iotlb_range r;
		bool found = iotlb_find(tlb, iova(p * PAGE + 5), &r);

		assert_int_equal(found, !!m->perm[p]);
		if (!found)
			continue;
		assert_ptr_equal(r.host + (p * PAGE + 5 - r.start), m->host[p] + 5);
		assert_int_equal(r.perm, m->perm[p]);
	}
}

static void any_order_of_updates_and_invalidations_is_as_page_by_page(void **state)
{
	struct iotlb *tlb = table();
	struct model m = { 0 };

	srand(1);
	for (unsigned int n = 0; n < 4000; n++) {
		unsigned int at = (unsigned int)rand() % PAGES;
		unsigned int nr = 1 + (unsigned int)rand() % 12, to = (unsigned int)rand() % PAGES;
		uint32_t perm = 1 + (uint32_t)rand() % 3;
		bool add = rand() % 3;

		if (at + nr > PAGES)
			nr = PAGES - at;
		if (add)
			assert_int_equal(iotlb_add(tlb, iova(at * PAGE), nr * PAGE,
						   host + to * PAGE, perm),
					 0);
		else
			iotlb_del(tlb, iova(at * PAGE), nr * PAGE);
		for (unsigned int i = 0; i < nr; i++) {
			m.host[at + i] = host + (to + i) * PAGE;
			m.perm[at + i] = add ? perm : 0;
		}
		if (n % 16 == 0)
			compare(tlb, &m);
	}
	compare(tlb, &m);
	iotlb_destroy(tlb);
}

static void memory_that_goes_takes_its_translations_along(void **state)
{
	struct iotlb *tlb = table();
	struct iotlb_range r;

	iotlb_add(tlb, iova(0), PAGE, host, RW);
	iotlb_add(tlb, iova(2 * PAGE), PAGE, host + 8 * PAGE, RW);
	iotlb_del_host(tlb, host + 8 * PAGE - 1, 2);
	assert_true(iotlb_find(tlb, iova(0), &r));
	assert_false(iotlb_find(tlb, iova(2 * PAGE), &r));
	iotlb_destroy(tlb);
}

static void a_guest_that_maps_without_end_does_not_fill_our_memory(void **state)
{
	struct iotlb *tlb = table();
	struct iotlb_stats s;

	for (uint64_t i = 0; i < 3 * IOTLB_ENTRIES_MAX; i++)
		assert_int_equal(iotlb_add(tlb, iova(2 * i * PAGE), PAGE, host, RW), 0);
	iotlb_get_stats(tlb, &s);
	assert_int_equal(s.entries, IOTLB_ENTRIES_MAX);
	assert_int_equal(s.evictions, 2 * IOTLB_ENTRIES_MAX);
	iotlb_destroy(tlb);
}

/* Each hole in the middle of a range makes one more of it. */
static void a_guest_that_cuts_without_end_has_a_bound(void **state)
{
	const uint64_t end = 8ull * IOTLB_ENTRIES_MAX * PAGE;
	struct iotlb *tlb = table();
	struct iotlb_stats s;

	assert_int_equal(iotlb_add(tlb, iova(0), end, host, RW), 0);
	for (uint64_t at = PAGE; at < end / 2; at += 2 * PAGE)
		iotlb_del(tlb, iova(at), PAGE);
	iotlb_get_stats(tlb, &s);
	assert_int_equal(s.entries, IOTLB_ENTRIES_MAX);
	iotlb_clear(tlb);
	assert_int_equal(iotlb_add(tlb, iova(0), end, host, RW), 0);
	for (uint64_t at = PAGE; at < end; at += 2 * PAGE)
		iotlb_add(tlb, iova(at), PAGE, host, IOTLB_READ);
	iotlb_get_stats(tlb, &s);
	assert_int_equal(s.entries, IOTLB_ENTRIES_MAX);
	iotlb_destroy(tlb);
}

static void what_is_known_is_known_to_its_last_byte(void **state)
{
	struct iotlb *tlb = table();
	iova_t missing;

	iotlb_add(tlb, iova(0), PAGE, host, RW);
	iotlb_add(tlb, iova(PAGE), PAGE, host + PAGE, IOTLB_READ);
	iotlb_add(tlb, iova(3 * PAGE), PAGE, host + 3 * PAGE, RW);
	assert_true(iotlb_knows(tlb, iova(16), 2 * PAGE - 16, IOTLB_READ, &missing));
	assert_false(iotlb_knows(tlb, iova(16), PAGE, RW, &missing));
	assert_int_equal(missing.v, PAGE);
	assert_false(iotlb_knows(tlb, iova(PAGE), 3 * PAGE, IOTLB_READ, &missing));
	assert_int_equal(missing.v, 2 * PAGE);
	assert_false(iotlb_knows(tlb, iova(0), 0, IOTLB_READ, &missing));
	assert_false(iotlb_knows(tlb, iova(PAGE), UINT64_MAX, IOTLB_READ, &missing));
	/* It goes on in I/O addresses, though elsewhere in memory. */
	iotlb_add(tlb, iova(4 * PAGE), PAGE, host, RW);
	assert_true(iotlb_knows(tlb, iova(3 * PAGE), 2 * PAGE, IOTLB_READ, &missing));
	iotlb_destroy(tlb);
}

static void a_cache_answers_as_the_table_until_it_is_told_to_drop(void **state)
{
	struct iotlb_cache *c = malloc(sizeof(*c));
	struct iotlb *tlb = table();
	uint64_t len = 3 * PAGE;

	assert_non_null(c);
	iotlb_cache_init(c, tlb);
	assert_null(iotlb_cache_span(c, iova(0), &len, IOTLB_READ));
	iotlb_add(tlb, iova(0), 2 * PAGE, host, IOTLB_READ);
	assert_ptr_equal(iotlb_cache_span(c, iova(100), &len, IOTLB_READ), host + 100);
	assert_int_equal(len, 2 * PAGE - 100);
	assert_null(iotlb_cache_span(c, iova(100), &len, RW));
	/* The same range, cached again for its other page. */
	assert_ptr_equal(iotlb_cache_span(c, iova(PAGE), &len, IOTLB_READ), host + PAGE);
	iotlb_del(tlb, iova(PAGE), PAGE);
	assert_non_null(iotlb_cache_span(c, iova(PAGE), &len, IOTLB_READ));
	iotlb_cache_drop(c, iova(PAGE), PAGE);
	assert_null(iotlb_cache_span(c, iova(PAGE), &len, IOTLB_READ));
	len = 2 * PAGE;
	assert_ptr_equal(iotlb_cache_span(c, iova(0), &len, IOTLB_READ), host);
	assert_int_equal(len, PAGE);
	iotlb_destroy(tlb);
	free(c);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(what_was_said_is_found_and_nothing_else),
	cmocka_unit_test(empty_and_wrapping_ranges_are_refused),
	cmocka_unit_test(pages_that_continue_each_other_become_one),
	cmocka_unit_test(any_order_of_updates_and_invalidations_is_as_page_by_page),
	cmocka_unit_test(memory_that_goes_takes_its_translations_along),
	cmocka_unit_test(a_guest_that_maps_without_end_does_not_fill_our_memory),
	cmocka_unit_test(a_guest_that_cuts_without_end_has_a_bound),
	cmocka_unit_test(what_is_known_is_known_to_its_last_byte),
	cmocka_unit_test(a_cache_answers_as_the_table_until_it_is_told_to_drop),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
