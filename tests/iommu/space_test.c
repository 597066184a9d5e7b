/*
 * A space: what may be mapped where, what the book says, and what is said when
 * the kernel refuses; by container and by iommufd.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "iommu/iommu_spec.h"

static unsigned long map_request(enum iommu_backend b)
{
	return b == IOMMU_BACKEND_TYPE1 ? VFIO_IOMMU_MAP_DMA : IOMMU_UAPI_IOAS_MAP;
}

static int map(struct rig *r, uint64_t at, uint64_t len)
{
	struct iommu_mapping m = rig_piece(at, len);

	return iommu_map(r->space, &m, r->err);
}

static void assert_says(const struct rig *r, const char *words)
{
	if (!strstr(r->err, words))
		fail_msg("'%s' does not say '%s'", r->err, words);
}

static void mappings_are_entered_and_taken_back(void **state)
{
	struct iommu_mapping m;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	m = rig_piece(0x100000, 4 * PAGE);
	m.prot = IOMMU_READ;
	assert_int_equal(iommu_map(r.space, &m, r.err), 0);
	assert_int_equal(r.f.nr_maps, 1);
	assert_ptr_equal(r.f.map[0].addr, m.addr);
	/* VFIO's and iommufd's bits are not the same. */
	assert_int_equal(r.f.map[0].prot & 3, r.backend == IOMMU_BACKEND_TYPE1 ? 1 : 2);
	assert_int_equal(map(&r, 0, 0x1000), 0);
	assert_int_equal(map(&r, 0x200000, PAGE), 0);
	assert_int_equal(iommu_space_nr_mappings(r.space), 3);
	assert_int_equal(iommu_space_mapped_bytes(r.space), 6 * PAGE);
	assert_int_equal(iommu_unmap(r.space, iova(0x100000), 4 * PAGE, r.err), 0);
	assert_int_equal(r.f.nr_maps, 2);
	assert_int_equal(iommu_space_mapped_bytes(r.space), 2 * PAGE);
	rig_destroy(&r);
}

static void overlaps_are_named_before_the_kernel_is_asked(void **state)
{
	static const struct {
		uint64_t at, len;
		int code;
	} tries[] = {
		{ 0x10000, PAGE, -EEXIST },	{ 0xf000, 2 * PAGE, -EEXIST },
		{ 0x13000, 2 * PAGE, -EEXIST }, { 0x11000, PAGE, -EEXIST },
		{ 0x8000, 16 * PAGE, -EEXIST }, { 0xf000, PAGE, 0 },
		{ 0x14000, PAGE, 0 },
	};
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(map(&r, 0x10000, 4 * PAGE), 0);
	r.f.fail_request = map_request(r.backend);
	r.f.fail_code = -EIO;
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(map(&r, tries[i].at, tries[i].len), tries[i].code);
		assert_says(&r, "overlaps the mapping of [0x10000, 0x13fff]");
	}
	r.f.fail_request = 0;
	for (unsigned int i = 5; i < ARRAY_SIZE(tries); i++)
		assert_int_equal(map(&r, tries[i].at, tries[i].len), 0);
	rig_destroy(&r);
}

static void what_is_reserved_is_named(void **state)
{
	const struct iommu_range *range;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_space_ranges(r.space, &range), 2);
	assert_int_equal(range[1].first.v, 0xfef00000);
	assert_int_equal(map(&r, 0xfee00000, PAGE), -EINVAL);
	assert_says(&r, "meets the reserved addresses [0xfee00000, 0xfeefffff]");
	assert_int_equal(map(&r, 0xfed00000, 0x400000), -EINVAL);
	assert_says(&r, "meets the reserved addresses [0xfee00000, 0xfeefffff]");
	assert_int_equal(map(&r, 1ull << 48, PAGE), -EINVAL);
	assert_says(&r, "is above 0xffffffffffff");
	assert_int_equal(map(&r, 0xfedff000, PAGE), 0);
	assert_int_equal(map(&r, 0xfef00000, PAGE), 0);
	assert_int_equal(map(&r, (1ull << 48) - PAGE, PAGE), 0);
	rig_destroy(&r);
}

static void a_range_below_the_first_is_named(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.nr_ranges = 1;
	r.f.range[0] = (struct iommu_range){ iova(0x100000), iova(UINT64_MAX) };
	rig_open(&r);
	assert_int_equal(map(&r, 0, PAGE), -EINVAL);
	assert_says(&r, "is below 0x100000");
	/* The last page there is. */
	assert_int_equal(map(&r, UINT64_MAX - (PAGE - 1), PAGE), 0);
	assert_int_equal(iommu_unmap(r.space, iova(UINT64_MAX - (PAGE - 1)), PAGE, r.err), 0);
	rig_destroy(&r);
}

static void what_is_no_mapping_is_refused(void **state)
{
	struct iommu_mapping m;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(map(&r, 0x1000, 0), -EINVAL);
	assert_int_equal(map(&r, 0x1000, 0x800), -EINVAL);
	assert_int_equal(map(&r, 0x1800, PAGE), -EINVAL);
	assert_says(&r, "multiple of the IOMMU's page of 0x1000");
	m = rig_piece(0x1000, PAGE);
	m.addr = (uint8_t *)m.addr + 16;
	assert_int_equal(iommu_map(r.space, &m, r.err), -EINVAL);
	m = rig_piece(0x1000, PAGE);
	m.prot = 0;
	assert_int_equal(iommu_map(r.space, &m, r.err), -EINVAL);
	m = rig_piece(UINT64_MAX - (PAGE - 1), 2 * PAGE);
	assert_int_equal(iommu_map(r.space, &m, r.err), -EINVAL);
	m = rig_piece(0x1000, 2 * PAGE);
	m.addr = (void *)(UINTPTR_MAX - (PAGE - 1));
	assert_int_equal(iommu_map(r.space, &m, r.err), -EINVAL);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_destroy(&r);
}

static void larger_pages_are_obeyed(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.page_sizes = 0x40010000; /* 64 KiB, 1 GiB */
	rig_open(&r);
	assert_int_equal(iommu_space_page_size(r.space), 0x10000);
	assert_int_equal(map(&r, 0x1000, PAGE), -EINVAL);
	assert_int_equal(map(&r, 0x10000, 0x10000), 0);
	rig_destroy(&r);
}

static void only_whole_mappings_are_taken_back(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(map(&r, 0x10000, 4 * PAGE), 0);
	assert_int_equal(map(&r, 0x14000, PAGE), 0);
	assert_int_equal(iommu_unmap(r.space, iova(0x10000), PAGE, r.err), -ENOENT);
	assert_int_equal(iommu_unmap(r.space, iova(0x11000), 3 * PAGE, r.err), -ENOENT);
	assert_int_equal(iommu_unmap(r.space, iova(0x10000), 5 * PAGE, r.err), -ENOENT);
	assert_int_equal(iommu_unmap(r.space, iova(0), PAGE, r.err), -ENOENT);
	assert_int_equal(iommu_unmap(r.space, iova(0x20000), PAGE, r.err), -ENOENT);
	assert_int_equal(r.f.nr_maps, 2);
	rig_destroy(&r);
}

static void a_mapping_the_kernel_keeps_stays_in_the_book(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(map(&r, 0x10000, PAGE), 0);
	r.f.fail_request =
		r.backend == IOMMU_BACKEND_TYPE1 ? VFIO_IOMMU_UNMAP_DMA : IOMMU_UAPI_IOAS_UNMAP;
	r.f.fail_code = -EBUSY;
	assert_int_equal(iommu_unmap(r.space, iova(0x10000), PAGE, r.err), -EBUSY);
	assert_int_equal(iommu_space_nr_mappings(r.space), 1);
	r.f.fail_request = 0;
	/* A container that says yes and does nothing. */
	r.f.lie_unmapped = r.backend == IOMMU_BACKEND_TYPE1;
	if (r.f.lie_unmapped)
		assert_int_equal(iommu_unmap(r.space, iova(0x10000), PAGE, r.err), -EIO);
	r.f.lie_unmapped = false;
	assert_int_equal(iommu_unmap(r.space, iova(0x10000), PAGE, r.err), 0);
	rig_destroy(&r);
}

static void of_many_mappings_all_come_or_none(void **state)
{
	struct iommu_mapping m[8];
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = rig_piece(0x100000 * (i + 1), PAGE);
	for (unsigned int nth = 0; nth < ARRAY_SIZE(m); nth++) {
		r.f.fail_request = map_request(r.backend);
		r.f.fail_after = nth;
		r.f.fail_code = -EFAULT;
		assert_int_equal(iommu_map_all(r.space, m, ARRAY_SIZE(m), r.err), -EFAULT);
		assert_says(&r, "is not mapped here");
		assert_int_equal(r.f.nr_maps, 0);
		assert_int_equal(iommu_space_nr_mappings(r.space), 0);
		assert_int_equal(iommu_space_mapped_bytes(r.space), 0);
	}
	r.f.fail_request = 0;
	assert_int_equal(iommu_map_all(r.space, m, ARRAY_SIZE(m), r.err), 0);
	assert_int_equal(r.f.nr_maps, ARRAY_SIZE(m));
	rig_destroy(&r);
}

static void mappings_that_overlap_each_other_are_refused(void **state)
{
	struct iommu_mapping m[3] = { rig_piece(0x10000, PAGE), rig_piece(0x20000, 4 * PAGE),
				      rig_piece(0x21000, PAGE) };
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_map_all(r.space, m, 3, r.err), -EEXIST);
	assert_int_equal(r.f.nr_maps, 0);
	rig_destroy(&r);
}

static void locked_memory_is_counted_before(void **state)
{
	struct iommu_mapping m[2] = { rig_piece(1 << 20, 4 << 20), rig_piece(16 << 20, 8 << 20) };
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.memlock = (struct iommu_memlock){ .limit = 8 << 20, .locked = 1 << 20 };
	rig_open(&r);
	/* The kernel would lock gigabytes before it refuses: it is not asked. */
	r.f.fail_request = map_request(r.backend);
	r.f.fail_code = -EIO;
	assert_int_equal(iommu_map_all(r.space, m, 2, r.err), -ENOMEM);
	assert_says(&r, "needs 12 MiB more");
	assert_says(&r, "RLIMIT_MEMLOCK is 8 MiB");
	assert_says(&r, "1 MiB are locked");
	assert_says(&r, "LimitMEMLOCK=");
	r.f.fail_request = 0;
	assert_int_equal(iommu_map_all(r.space, m, 1, r.err), 0);
	rig_destroy(&r);
}

static void locked_memory_that_only_the_kernel_counts(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.memlock = (struct iommu_memlock){ .limit = 1 << 20 };
	r.f.lockable = 16 << 10;
	rig_open(&r);
	assert_int_equal(map(&r, 0x100000, 64 << 10), -ENOMEM);
	assert_says(&r, "needs 64 KiB more");
	r.f.memlock.unlimited = true;
	assert_int_equal(map(&r, 0x100000, 64 << 10), -ENOMEM);
	assert_says(&r, "no memory to lock and map 64 KiB");
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_destroy(&r);
}

static void a_user_s_locked_memory_is_counted_for_iommufd(void **state)
{
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_IOMMUFD);
	r.f.has_process_mode = false;
	r.f.memlock = (struct iommu_memlock){ .limit = 64 << 10, .locked = 1 << 30 };
	rig_open(&r);
	assert_int_equal(map(&r, 0x100000, 64 << 10), 0);
	assert_int_equal(map(&r, 0x200000, PAGE), -ENOMEM);
	assert_says(&r, "64 KiB are locked");
	assert_says(&r, "others of the same user");
	rig_destroy(&r);
}

static void entries_are_counted_before(void **state)
{
	struct iommu_mapping m[3] = { rig_piece(1 << 20, PAGE), rig_piece(2 << 20, PAGE),
				      rig_piece(3 << 20, PAGE) };
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_TYPE1);
	r.f.entries = 2;
	rig_open(&r);
	assert_int_equal(iommu_map_all(r.space, m, 3, r.err), -ENOSPC);
	assert_says(&r, "room for 2 mappings more, this needs 3");
	assert_says(&r, "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit");
	assert_int_equal(iommu_map_all(r.space, m, 2, r.err), 0);
	assert_int_equal(iommu_map(r.space, &m[2], r.err), -ENOSPC);
	assert_int_equal(iommu_unmap(r.space, m[0].iova, PAGE, r.err), 0);
	assert_int_equal(iommu_map(r.space, &m[2], r.err), 0);
	rig_destroy(&r);
}

static void refusals_are_explained(void **state)
{
	static const struct {
		int code;
		const char *words;
	} refusals[] = {
		{ -ENOSPC, "dma_entry_limit" },
		{ -EEXIST, "mapped already, but not by this" },
		{ -EFAULT, "not mapped here with write access" },
		{ -EINVAL, "the kernel refuses 0x1000 bytes at 0x100000: Invalid argument" },
		{ -EBUSY, "Device or resource busy" },
	};
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	for (unsigned int i = 0; i < ARRAY_SIZE(refusals); i++) {
		r.f.fail_request = map_request(r.backend);
		r.f.fail_code = refusals[i].code;
		assert_int_equal(map(&r, 0x100000, PAGE), refusals[i].code);
		assert_says(&r, refusals[i].words);
	}
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	rig_destroy(&r);
}

static void nothing_is_mapped_without_a_device(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	assert_int_equal(map(&r, 0x100000, PAGE), -ENODEV);
	rig_open(&r);
	assert_int_equal(map(&r, 0x100000, PAGE), 0);
	/* With the last device all goes, by either interface. */
	iommu_dev_close(r.dev);
	assert_int_equal(r.f.nr_maps, 0);
	assert_int_equal(iommu_space_nr_mappings(r.space), 0);
	assert_int_equal(iommu_space_mapped_bytes(r.space), 0);
	r.dev = NULL;
	assert_int_equal(map(&r, 0x100000, PAGE), -ENODEV);
	rig_open(&r);
	assert_int_equal(map(&r, 0x100000, PAGE), 0);
	rig_destroy(&r);
}

static void two_devices_share_a_space(void **state)
{
	struct iommu_dev *second;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(map(&r, 0x100000, PAGE), 0);
	assert_int_equal(iommu_dev_open(r.space, FAKE_VF2, NULL, &second, r.err), 0);
	iommu_dev_close(r.dev);
	r.dev = second;
	/* One is left: so is what is mapped. */
	assert_int_equal(r.f.nr_maps, 1);
	assert_int_equal(iommu_space_nr_mappings(r.space), 1);
	rig_destroy(&r);
}

static void free_addresses_are_found(void **state)
{
	struct rig r;
	iova_t at;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	/* Never 0. */
	assert_int_equal(iommu_space_find(r.space, PAGE, 0, &at), 0);
	assert_int_equal(at.v, PAGE);
	assert_int_equal(map(&r, PAGE, PAGE), 0);
	assert_int_equal(map(&r, 3 * PAGE, PAGE), 0);
	assert_int_equal(iommu_space_find(r.space, PAGE, 0, &at), 0);
	assert_int_equal(at.v, 2 * PAGE);
	assert_int_equal(iommu_space_find(r.space, 2 * PAGE, 0, &at), 0);
	assert_int_equal(at.v, 4 * PAGE);
	assert_int_equal(iommu_space_find(r.space, PAGE, 1 << 20, &at), 0);
	assert_int_equal(at.v, 1 << 20);
	/* Over the hole that is reserved. */
	assert_int_equal(iommu_space_find(r.space, 0xfee00000, 0, &at), 0);
	assert_int_equal(at.v, 0xfef00000);
	assert_int_equal(iommu_space_find(r.space, 1ull << 48, 0, &at), -ENOSPC);
	assert_int_equal(iommu_space_find(r.space, UINT64_MAX, 0, &at), -ENOSPC);
	assert_int_equal(iommu_space_find(r.space, PAGE, 1ull << 63, &at), -ENOSPC);
	assert_int_equal(iommu_space_find(r.space, PAGE, 3 * PAGE, &at), -EINVAL);
	assert_int_equal(iommu_space_find(r.space, 0, 0, &at), -EINVAL);
	rig_destroy(&r);
}

static void a_kernel_that_tells_nothing_is_asked_each_time(void **state)
{
	const struct iommu_range *range;
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_TYPE1);
	r.f.tells_info = false;
	rig_open(&r);
	assert_int_equal(iommu_space_ranges(r.space, &range), 1);
	assert_true(range[0].last.v == UINT64_MAX);
	assert_int_equal(map(&r, 0xfee00000, PAGE), -EINVAL);
	assert_says(&r, "the kernel refuses");
	assert_int_equal(map(&r, 0x100000, PAGE), 0);
	rig_destroy(&r);
}

static void answers_that_cannot_be_are_not_followed(void **state)
{
	struct rig r;

	/* More ranges than the answer has room for. */
	rig_create(&r, BACKEND(state));
	r.f.lie_nr_ranges = 1u << 30;
	assert_true(iommu_dev_open(r.space, FAKE_VF, NULL, &r.dev, r.err) < 0);
	assert_says(&r, "does not describe itself");
	r.dev = NULL;
	rig_destroy(&r);
	if (BACKEND(state) == IOMMU_BACKEND_IOMMUFD)
		return;
	/* Capabilities that lead back, or out; an answer of gigabytes. */
	rig_create(&r, BACKEND(state));
	r.f.lie_next = 24;
	rig_open(&r);
	rig_destroy(&r);
	rig_create(&r, BACKEND(state));
	r.f.lie_next = UINT32_MAX - 4;
	rig_open(&r);
	rig_destroy(&r);
	rig_create(&r, BACKEND(state));
	r.f.lie_argsz = UINT32_MAX;
	rig_open(&r);
	rig_destroy(&r);
}

static void names_of_interfaces(void **state)
{
	assert_int_equal(iommu_backend_parse("auto"), IOMMU_BACKEND_AUTO);
	assert_int_equal(iommu_backend_parse("group"), IOMMU_BACKEND_TYPE1);
	assert_int_equal(iommu_backend_parse("type1"), IOMMU_BACKEND_TYPE1);
	assert_int_equal(iommu_backend_parse("cdev"), IOMMU_BACKEND_IOMMUFD);
	assert_int_equal(iommu_backend_parse("iommufd"), IOMMU_BACKEND_IOMMUFD);
	/* Never by a name: only with the flag. */
	assert_int_equal(iommu_backend_parse("noiommu"), -EINVAL);
	assert_int_equal(iommu_backend_parse(""), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_BOTH(mappings_are_entered_and_taken_back),
		FOR_BOTH(overlaps_are_named_before_the_kernel_is_asked),
		FOR_BOTH(what_is_reserved_is_named),
		FOR_BOTH(a_range_below_the_first_is_named),
		FOR_BOTH(what_is_no_mapping_is_refused),
		FOR_BOTH(larger_pages_are_obeyed),
		FOR_BOTH(only_whole_mappings_are_taken_back),
		FOR_BOTH(a_mapping_the_kernel_keeps_stays_in_the_book),
		FOR_BOTH(of_many_mappings_all_come_or_none),
		FOR_BOTH(mappings_that_overlap_each_other_are_refused),
		FOR_BOTH(locked_memory_is_counted_before),
		FOR_BOTH(locked_memory_that_only_the_kernel_counts),
		cmocka_unit_test(a_user_s_locked_memory_is_counted_for_iommufd),
		cmocka_unit_test(entries_are_counted_before),
		FOR_BOTH(refusals_are_explained),
		FOR_BOTH(nothing_is_mapped_without_a_device),
		FOR_BOTH(two_devices_share_a_space),
		FOR_BOTH(free_addresses_are_found),
		cmocka_unit_test(a_kernel_that_tells_nothing_is_asked_each_time),
		FOR_BOTH(answers_that_cannot_be_are_not_followed),
		cmocka_unit_test(names_of_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
