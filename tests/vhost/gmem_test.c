/*
 * gmem.c and the look-up of gmem.h: what a front-end says about its memory is
 * checked, and an address becomes a pointer only inside of one region.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/sigbus.h"
#include "vhost/gmem_join.h"

#define PAGE 4096ull

static bool faulted;

/* Open descriptors of this process. */
static unsigned int nr_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static int try_map(int fd, uint64_t at, uint64_t front_end, uint64_t size, uint64_t offset,
		   struct gmem_region **r)
{
	return gmem_region_map(fd, gpa(at), uva(front_end), size, offset, &faulted, r);
}

static struct gmem_region *map_at(uint64_t at, uint64_t front_end, uint64_t size)
{
	struct gmem_region *r = NULL;

	assert_int_equal(try_map(rk_memfd(size), at, front_end, size, 0, &r), 0);
	return r;
}

/* --- regions ----------------------------------------------------------------------- */

static void a_region_is_mapped_at_its_offset(void **state)
{
	static const uint64_t offsets[] = { 0, PAGE, 100, PAGE + 1, 5 * PAGE - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		unsigned int before = nr_fds();
		int fd = rk_memfd(offsets[i] + 2 * PAGE);
		struct gmem_region *r = NULL;
		uint8_t byte = 0;

		assert_int_equal(try_map(dup(fd), 0x5000, 0x7000, 2 * PAGE, offsets[i], &r), 0);
		r->host[0] = 0xab;
		r->host[2 * PAGE - 1] = 0xcd;
		assert_int_equal(pread(fd, &byte, 1, (off_t)offsets[i]), 1);
		assert_int_equal(byte, 0xab);
		assert_int_equal(pread(fd, &byte, 1, (off_t)(offsets[i] + 2 * PAGE - 1)), 1);
		assert_int_equal(byte, 0xcd);
		assert_int_equal(r->page_size, PAGE);
		gmem_region_put(r);
		close(fd);
		assert_int_equal(nr_fds(), before);
	}
}

static void what_cannot_be_a_region_is_refused_and_its_descriptor_closed(void **state)
{
	static const struct {
		uint64_t at, front_end, size, offset;
	} cases[] = {
		{ 0, 0, 0, 0 },
		/* More than the file of two pages has. */
		{ 0, 0, 2 * PAGE + 1, 0 },
		{ 0, 0, 2 * PAGE, 1 },
		{ 0, 0, 1, 2 * PAGE },
		{ 0, 0, UINT64_MAX, 0 },
		{ 0, 0, INT64_MAX, 0 },
		/* Sums that wrap. */
		{ UINT64_MAX - PAGE + 1, 0, PAGE, 0 },
		{ UINT64_MAX, 0, PAGE, 0 },
		{ 0, UINT64_MAX - PAGE + 1, PAGE, 0 },
		{ 0, UINT64_MAX, PAGE, 0 },
		{ 0, 0, PAGE, UINT64_MAX - PAGE + 1 },
		{ 0, 0, PAGE, UINT64_MAX },
		{ 0, 0, PAGE, INT64_MAX },
		{ 0, 0, PAGE, INT64_MAX - PAGE },
		{ 0, 0, UINT64_MAX - PAGE + 1, PAGE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned int before = nr_fds();
		struct gmem_region *r = NULL;

		if (try_map(rk_memfd(2 * PAGE), cases[i].at, cases[i].front_end, cases[i].size,
			    cases[i].offset, &r) != -EINVAL)
			fail_msg("case %zu was not refused", i);
		assert_null(r);
		assert_int_equal(nr_fds(), before);
	}
}

static void a_descriptor_that_is_no_memory_is_refused_and_closed(void **state)
{
	unsigned int before = nr_fds();
	struct gmem_region *r = NULL;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_true(try_map(fds[0], 0, 0, PAGE, 0, &r) < 0);
	close(fds[1]);
	assert_true(try_map(open("/", O_RDONLY | O_DIRECTORY), 0, 0, PAGE, 0, &r) < 0);
	assert_true(try_map(-1, 0, 0, PAGE, 0, &r) < 0);
	assert_null(r);
	assert_int_equal(nr_fds(), before);
}

static void a_file_that_cannot_be_written_is_refused_and_closed(void **state)
{
	unsigned int before = nr_fds();
	struct gmem_region *r = NULL;
	char path[64];
	int fd = rk_memfd(PAGE);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(try_map(open(path, O_RDONLY | O_CLOEXEC), 0, 0, PAGE, 0, &r), -EACCES);
	close(fd);
	assert_int_equal(nr_fds(), before);
}

/* Set: what fstatfs() says that a file is on. */
static long fs_type;

int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	int ret = __real_fstatfs64(fd, fs);

	if (fs_type)
		fs->f_type = fs_type;
	return ret;
}

static void a_file_whose_pages_may_never_come_is_refused_and_closed(void **state)
{
	static const long types[] = {
		FUSE_SUPER_MAGIC,	NFS_SUPER_MAGIC,       V9FS_MAGIC,
		(long)CIFS_SUPER_MAGIC, (int)CIFS_SUPER_MAGIC, (long)SMB2_SUPER_MAGIC
	};
	unsigned int before = nr_fds();
	struct gmem_region *r = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		fs_type = types[i];
		assert_int_equal(try_map(rk_memfd(PAGE), 0, 0, PAGE, 0, &r), -EINVAL);
	}
	fs_type = 0;
	assert_null(r);
	assert_int_equal(nr_fds(), before);
}

/* Mapped whole huge pages at a time; none need be there for that. */
static void a_file_of_huge_pages_is_mapped_at_any_offset(void **state)
{
	struct gmem_region *r = NULL;
	struct statfs fs;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0 || fstatfs(fd, &fs) < 0 || ftruncate(fd, (off_t)(4 * fs.f_bsize)) < 0) {
		print_message("skipped: no memory files of huge pages: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(try_map(dup(fd), 0, 0, 2 * (uint64_t)fs.f_bsize,
				 (uint64_t)fs.f_bsize + PAGE, &r),
			 0);
	assert_int_equal(r->page_size, fs.f_bsize);
	assert_int_equal((uintptr_t)r->map % r->page_size, 0);
	assert_ptr_equal(r->host, (uint8_t *)r->map + PAGE);
	assert_int_equal(r->map_len, 3 * r->page_size);
	gmem_region_put(r);
	/* The last page would lie behind the end. */
	assert_int_equal(try_map(fd, 0, 0, 4 * (uint64_t)fs.f_bsize, PAGE, &r), -EINVAL);
}

/* The flags of the mapping that begins at p, as the kernel tells them. */
static void read_vm_flags(const void *p, char *flags, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	bool here = false;

	assert_non_null(f);
	snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)p);
	*flags = 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, start, strlen(start)))
			here = true;
		if (here && !strncmp(line, "VmFlags:", 8)) {
			snprintf(flags, len, "%s", line + 8);
			break;
		}
	}
	fclose(f);
	assert_true(*flags);
}

static void guest_memory_is_not_in_a_core_dump(void **state)
{
	struct gmem_region *r = map_at(0, 0, 4 * PAGE);
	char flags[512];

	read_vm_flags(r->map, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd"));
	gmem_region_put(r);
}

static void the_mapping_lives_until_the_last_reference(void **state)
{
	struct gmem_region *r = map_at(0, 0, PAGE), *regions[] = { r };
	struct gmem *gm = NULL;

	assert_int_equal(gmem_create(regions, 1, &faulted, &gm), 0);
	gmem_region_get(r);
	gmem_region_put(r);
	gmem_region_put(r);
	/* The snapshot's is the last one. */
	r->host[0] = 1;
	gmem_destroy(gm);
	gmem_destroy(NULL);
	gmem_region_put(NULL);
}

static void a_truncated_region_reads_as_zero_and_says_so(void **state)
{
	struct gmem_region *r = NULL;
	int fd = rk_memfd(4 * PAGE);

	assert_int_equal(sigbus_init(), 0);
	faulted = false;
	assert_int_equal(try_map(dup(fd), 0, 0, 4 * PAGE, 0, &r), 0);
	memset(r->host, 0xff, 4 * PAGE);
	assert_false(faulted);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_int_equal(read_once(&r->host[2 * PAGE]), 0);
	assert_true(faulted);
	memset(r->host, 0xff, 4 * PAGE);
	gmem_region_put(r);
	close(fd);
}

/* --- snapshots ------------------------------------------------------------------------ */

static void regions_that_overlap_are_refused(void **state)
{
	static const struct {
		uint64_t at, front_end, size;
		int ret;
	} cases[] = {
		/* Beside a region of 4 pages at 0x10000 and 0x90000. */
		{ 0x14000, 0x94000, PAGE, 0 },		 { 0xf000, 0x8f000, PAGE, 0 },
		{ 0x10000, 0xa0000, 4 * PAGE, -EINVAL }, { 0x13000, 0xa0000, PAGE, -EINVAL },
		{ 0xf000, 0xa0000, 2 * PAGE, -EINVAL },	 { 0xf000, 0xa0000, 8 * PAGE, -EINVAL },
		{ 0x11000, 0xa0000, PAGE, -EINVAL },	 { 0x20000, 0x90000, PAGE, -EINVAL },
		{ 0x20000, 0x93000, PAGE, -EINVAL },	 { 0x20000, 0x8f000, 2 * PAGE, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gmem_region *regions[] = {
			map_at(0x10000, 0x90000, 4 * PAGE),
			map_at(cases[i].at, cases[i].front_end, cases[i].size),
		};
		struct gmem *gm = NULL;

		if (gmem_create(regions, 2, &faulted, &gm) != cases[i].ret)
			fail_msg("case %zu", i);
		assert_int_equal(gm != NULL, cases[i].ret == 0);
		gmem_destroy(gm);
		gmem_region_put(regions[0]);
		gmem_region_put(regions[1]);
	}
}

static void as_many_regions_as_slots_are_found_in_any_order(void **state)
{
	static struct gmem_region *regions[GMEM_REGIONS_MAX + 1];
	unsigned int hint = GMEM_REGIONS_MAX - 1;
	struct gmem *gm = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++) {
		/* 211 and 510 have no common factor: every slot once, shuffled. */
		uint64_t slot = i * 211 % ARRAY_SIZE(regions);

		regions[i] = map_at(slot * 2 * PAGE, slot * 2 * PAGE, PAGE);
	}
	assert_int_equal(gmem_create(regions, GMEM_REGIONS_MAX + 1, &faulted, &gm), -ENOSPC);
	assert_int_equal(gmem_create(regions, GMEM_REGIONS_MAX, &faulted, &gm), 0);
	for (unsigned int i = 0; i < GMEM_REGIONS_MAX; i++) {
		const struct gmem_region *r = regions[i];

		assert_ptr_equal(gmem_ptr(gm, gpa(r->gpa), PAGE, &hint), r->host);
		assert_ptr_equal(gmem_ptr(gm, gpa(r->gpa + PAGE - 1), 1, &hint),
				 r->host + PAGE - 1);
		assert_null(gmem_ptr(gm, gpa(r->gpa + PAGE), 1, &hint));
	}
	gmem_destroy(gm);
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++)
		gmem_region_put(regions[i]);
}

static void no_regions_at_all_are_a_memory_without_addresses(void **state)
{
	unsigned int hint = 0;
	struct gmem *gm = NULL;

	assert_int_equal(gmem_create(NULL, 0, &faulted, &gm), 0);
	assert_null(gmem_ptr(gm, gpa(0), 1, &hint));
	assert_null(gmem_uva_ptr(gm, uva(0), 1));
	gmem_destroy(gm);
}

/* --- look-up --------------------------------------------------------------------------- */

static void a_range_is_a_pointer_only_inside_of_one_region(void **state)
{
	struct ringkit *k = rk_open_memory();
	const uint8_t *ram = k->region[0]->host, *far = k->region[2]->host;
	const struct {
		uint64_t addr, len;
		const void *expected;
	} cases[] = {
		{ RK_RAM, 1, ram },
		{ RK_RAM, RK_RAM_LEN, ram },
		{ RK_RAM, RK_RAM_LEN + 1, NULL },
		{ RK_RAM, 0, NULL },
		{ RK_RAM, UINT64_MAX, NULL },
		{ RK_RAM + 1, UINT64_MAX, NULL },
		{ RK_RAM - 1, 1, NULL },
		{ RK_RAM - 1, 2, NULL },
		{ RK_NEXT - 1, 1, ram + RK_RAM_LEN - 1 },
		{ RK_NEXT - 1, 2, NULL },
		{ RK_NEXT, RK_NEXT_LEN, k->region[1]->host },
		{ RK_HOLE, 1, NULL },
		{ RK_FAR + RK_FAR_LEN - 1, 1, far + RK_FAR_LEN - 1 },
		{ RK_FAR + RK_FAR_LEN, 1, NULL },
		{ UINT64_MAX, 1, NULL },
		{ UINT64_MAX, UINT64_MAX, NULL },
		{ 0, 1, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Whatever was hit before. */
		for (unsigned int start = 0; start < 6; start++) {
			unsigned int hint = start < 5 ? start : GMEM_REGIONS_MAX - 1;
			void *p = gmem_ptr(k->gm, gpa(cases[i].addr), cases[i].len, &hint);

			if (p != cases[i].expected)
				fail_msg("case %zu with hint %u", i, start);
		}
		assert_ptr_equal(gmem_uva_ptr(k->gm, uva(cases[i].addr + RK_UVA_OFF), cases[i].len),
				 cases[i].expected);
	}
	rk_close(k);
}

static void a_span_is_cut_at_the_end_of_its_region(void **state)
{
	struct ringkit *k = rk_open_memory();
	uint64_t len = 1000;
	unsigned int hint = 0;

	assert_ptr_equal(gmem_span(k->gm, gpa(RK_NEXT - 10), &len, &hint),
			 k->region[0]->host + RK_RAM_LEN - 10);
	assert_int_equal(len, 10);
	len = UINT64_MAX;
	assert_non_null(gmem_span(k->gm, gpa(RK_FAR), &len, &hint));
	assert_int_equal(len, RK_FAR_LEN);
	len = 10;
	assert_non_null(gmem_span(k->gm, gpa(RK_FAR + 5), &len, &hint));
	assert_int_equal(len, 10);
	rk_close(k);
}

static void a_pointer_leads_back_to_its_address(void **state)
{
	static const uint64_t addrs[] = { RK_RAM, RK_NEXT - 1, RK_NEXT, RK_HOLE - 1, RK_FAR + 77 };
	struct ringkit *k = rk_open_memory();
	uint64_t len = 1;
	gpa_t back;

	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		assert_true(gmem_gpa_of(k->gm, rk_mem(k, addrs[i]), &len, &back));
		assert_int_equal(back.v, addrs[i]);
		assert_int_equal(len, 1);
	}
	/* No further than its region, whatever is mapped behind it. */
	len = 100;
	assert_true(gmem_gpa_of(k->gm, rk_mem(k, RK_NEXT - 10), &len, &back));
	assert_int_equal(len, 10);
	assert_false(gmem_gpa_of(k->gm, k, &len, &back));
	assert_false(gmem_gpa_of(k->gm, NULL, &len, &back));
	rk_close(k);
}

/* The first region's pages, backwards, and where they are from. */
static void pieces_are_joined_page_by_page(void **state)
{
	struct ringkit *k = rk_open_memory();
	struct gmem_region *r = k->region[0];
	struct gmem_piece piece[3] = {
		{ r, r->host + 3 * PAGE - 100, 100 },
		{ r, r->host + PAGE, PAGE },
		{ r, r->host, 10 },
	};
	struct gmem_join *j;
	bool faulted = false;
	uint64_t len;
	uint8_t *p;

	assert_int_equal(gmem_join_create(piece, 3, &faulted, &j), 0);
	p = gmem_join_ptr(j);
	memset(p, 1, 100);
	memset(p + 100, 2, PAGE);
	memset(p + 100 + PAGE, 3, 10);
	assert_true(r->host[3 * PAGE - 100] == 1 && r->host[3 * PAGE - 1] == 1);
	assert_true(r->host[PAGE] == 2 && r->host[2 * PAGE - 1] == 2);
	assert_true(r->host[0] == 3 && r->host[9] == 3 && r->host[10] == 0);
	assert_true(gmem_join_is_in(j, k->gm));
	len = 200;
	assert_ptr_equal(gmem_join_origin(j, p + 50, &len), r->host + 3 * PAGE - 50);
	assert_int_equal(len, 50);
	assert_ptr_equal(gmem_join_origin(j, p + 100 + PAGE + 9, &len), r->host + 9);
	assert_int_equal(len, 1);
	assert_ptr_equal(gmem_join_origin(j, r->host, &len), r->host);
	assert_ptr_equal(gmem_join_origin(NULL, p, &len), p);
	gmem_join_destroy(j);
	rk_close(k);
}

static void what_is_not_whole_small_pages_is_not_joined(void **state)
{
	struct ringkit *k = rk_open_memory();
	struct gmem_region huge = *k->region[0], *r = k->region[0];
	const struct gmem_piece bad[3][2] = {
		{ { r, r->host, PAGE - 16 }, { r, r->host + PAGE, 16 } },
		{ { r, r->host, PAGE }, { r, r->host + PAGE + 16, 16 } },
		{ { &huge, r->host + PAGE, PAGE }, { &huge, r->host, PAGE } },
	};
	bool faulted = false;
	struct gmem_join *j;

	huge.page_size = 2 << 20;
	assert_int_equal(gmem_join_create(bad[0], 2, &faulted, &j), -EXDEV);
	assert_int_equal(gmem_join_create(bad[1], 2, &faulted, &j), -EXDEV);
	assert_int_equal(gmem_join_create(bad[2], 2, &faulted, &j), -EOPNOTSUPP);
	rk_close(k);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_region_is_mapped_at_its_offset),
	cmocka_unit_test(what_cannot_be_a_region_is_refused_and_its_descriptor_closed),
	cmocka_unit_test(a_descriptor_that_is_no_memory_is_refused_and_closed),
	cmocka_unit_test(a_file_that_cannot_be_written_is_refused_and_closed),
	cmocka_unit_test(a_file_whose_pages_may_never_come_is_refused_and_closed),
	cmocka_unit_test(a_file_of_huge_pages_is_mapped_at_any_offset),
	cmocka_unit_test(guest_memory_is_not_in_a_core_dump),
	cmocka_unit_test(the_mapping_lives_until_the_last_reference),
	cmocka_unit_test(a_truncated_region_reads_as_zero_and_says_so),
	cmocka_unit_test(regions_that_overlap_are_refused),
	cmocka_unit_test(as_many_regions_as_slots_are_found_in_any_order),
	cmocka_unit_test(no_regions_at_all_are_a_memory_without_addresses),
	cmocka_unit_test(a_range_is_a_pointer_only_inside_of_one_region),
	cmocka_unit_test(a_span_is_cut_at_the_end_of_its_region),
	cmocka_unit_test(a_pointer_leads_back_to_its_address),
	cmocka_unit_test(pieces_are_joined_page_by_page),
	cmocka_unit_test(what_is_not_whole_small_pages_is_not_joined),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
