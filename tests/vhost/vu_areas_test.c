/*
 * Rings behind a virtual IOMMU whose areas are one piece for the driver and
 * scattered in guest memory, as Linux allocates all of more than a page.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/sigbus.h"
#include "tests/vhost/vukit.h"

#define PACKED (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define MEM (1ull << 20)
#define SIZE 1024

static void pump(void *opaque)
{
	kit_pump(opaque);
	kit_answer(opaque);
}

/* Until cond, answering misses. */
#define guest_until(kit, cond)                                                                     \
	do {                                                                                       \
		for (int guest_n = 0; !(cond) && guest_n < 100000; guest_n++)                      \
			pump(kit);                                                                 \
		assert_true(cond);                                                                 \
	} while (0)

static void share_scattered(struct kit_dev *kd)
{
	kd->region = fe_mem_new(&kd->fe, MEM);
	assert_true(kd->region >= 0);
	assert_int_equal(fe_mem_scatter(&kd->fe, kd->region), 0);
	kd->buf = fe_alloc(&kd->fe, kd->region, KIT_PAGE, KIT_PAGE);
	assert_int_not_equal(kd->buf, 0);
	assert_int_equal(fe_mem_share(&kd->fe), 0);
}

static void start_ring(struct kit *kit, struct kit_dev *kd, uint16_t size)
{
	const struct drv_conf conf = { .size = size, .region = kd->region };

	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
	assert_int_equal(drv_start(&kd->ring), 0);
}

static struct kit_dev *bring_up(struct kit *kit, uint64_t features)
{
	struct kit_dev *kd = &kit->victim;

	kd->fe.pump = pump;
	kit_bring_up(kit, kd, KIT_NEGOTIATED, features | 1ull << VIRTIO_F_ACCESS_PLATFORM);
	assert_true(fe_has(&kd->fe, VIRTIO_F_ACCESS_PLATFORM));
	share_scattered(kd);
	start_ring(kit, kd, SIZE);
	guest_until(kit, kit_ring_is(kd, "started"));
	return kd;
}

static void serve_rounds(struct kit *kit, struct kit_dev *kd)
{
	/* Every descriptor, and used entries that lie over the end of a page. */
	for (int i = 0; i < SIZE + 100; i++)
		kit_serve(kit, kd);
}

static void both_kinds_are_served(void **state)
{
	static const uint64_t kinds[] = { 0, EVENT_IDX, PACKED, PACKED | EVENT_IDX };
	struct kit_census before = kit_census();
	struct kit *kit = *state;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		serve_rounds(kit, bring_up(kit, kinds[i]));
		kit_bring_down(kit, &kit->victim);
		kit_assert_census(before);
	}
}

/* As many chains as fit are in the ring at once, and each comes back. */
static void a_full_ring_is_served(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = bring_up(kit, PACKED);
	void *cookie;
	uint32_t len;

	for (int i = 0; i < SIZE / 2; i++) {
		struct drv_buf bufs[2] = { { kd->buf, 8 }, { kd->buf + 8, 8 } };

		assert_true(drv_add(&kd->ring, bufs, 1, 1, kd) >= 0);
	}
	assert_int_equal(drv_submit(&kd->ring), 0);
	for (int i = 0; i < SIZE / 2; i++)
		assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	kit_serve(kit, kd);
}

/* --- while it runs ---------------------------------------------------------------- */

static void invalidate_page(struct kit *kit, uint64_t features)
{
	struct kit_dev *kd = bring_up(kit, features);
	struct kit_census before = kit_census();

	for (unsigned int i = 0; i < 8; i++) {
		/* Any page of any area stops it, and it goes on where it was. */
		uint64_t at = i % 2 ? kd->ring.device_gpa : kd->ring.desc_gpa + i * KIT_PAGE / 2;

		kit_serve(kit, kd);
		assert_int_equal(fe_iommu_unmap(&kd->fe, at & ~(KIT_PAGE - 1ull), KIT_PAGE), 0);
		assert_false(kit_ring_is(kd, "started"));
		assert_true(kit_census().maps < before.maps);
		kit_submit(kd);
		guest_until(kit, kit_ring_is(kd, "started"));
		{
			void *cookie;
			uint32_t len;

			assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
		}
	}
	serve_rounds(kit, kd);
	kit_assert_census(before);
	kit_bring_down(kit, kd);
}

static void an_invalidation_of_a_part_stops_the_ring_until_it_is_back(void **state)
{
	invalidate_page(*state, 0);
	invalidate_page(*state, PACKED);
}

/* The driver's IOMMU tells of another page for a part of the ring: what is in use
 * afterwards is that page. */
static void a_part_that_moves_is_followed(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = bring_up(kit, 0);
	struct fe_region *r = &kd->fe.region[kd->region];
	uint64_t at = kd->ring.device_gpa, to;
	void *page;

	kit_serve(kit, kd);
	assert_int_equal(fe_iommu_unmap(&kd->fe, at, KIT_PAGE), 0);
	to = fe_phys(&kd->fe, fe_alloc(&kd->fe, kd->region, KIT_PAGE, KIT_PAGE));
	/* The driver's own view moves too, with what was in the page. */
	page = malloc(KIT_PAGE);
	memcpy(page, fe_ptr(&kd->fe, at, KIT_PAGE), KIT_PAGE);
	assert_ptr_equal(mmap(fe_ptr(&kd->fe, at, KIT_PAGE), KIT_PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, r->fd, (off_t)(to - r->gpa)),
			 fe_ptr(&kd->fe, at, KIT_PAGE));
	memcpy(fe_ptr(&kd->fe, at, KIT_PAGE), page, KIT_PAGE);
	free(page);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, fe_dev_addr(&kd->fe, at), KIT_PAGE,
				  r->uva + (to - r->gpa), 3),
			 0);
	guest_until(kit, kit_ring_is(kd, "started"));
	serve_rounds(kit, kd);
}

static void a_ring_ends_with_its_region_and_comes_back_with_it(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = bring_up(kit, PACKED);

	kit_serve(kit, kd);
	assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
	assert_true(kit_ring_is(kd, "suspended"));
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	guest_until(kit, kit_ring_is(kd, "started"));
	serve_rounds(kit, kd);
}

/* --- an area in two regions -------------------------------------------------------------- */

/* The descriptors' first half is in one region, the second in another. */
static void an_area_may_lie_in_two_regions(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t half = SIZE * 16 / 2, desc;
	struct kit_census before;
	struct fe_region *r;
	int more;

	kd->fe.pump = pump;
	kit_bring_up(kit, kd, KIT_NEGOTIATED, 1ull << VIRTIO_F_ACCESS_PLATFORM);
	share_scattered(kd);
	more = fe_mem_new(&kd->fe, half);
	assert_true(more >= 0);
	r = &kd->fe.region[more];
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	/* drv_create() takes the next of the first region for the descriptors. */
	desc = fe_alloc(&kd->fe, kd->region, 0, KIT_PAGE);
	assert_ptr_equal(mmap(fe_ptr(&kd->fe, desc + half, half), half, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, r->fd, 0),
			 fe_ptr(&kd->fe, desc + half, half));
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, fe_dev_addr(&kd->fe, desc + half), half,
				  r->uva, 3),
			 0);
	before = kit_census();
	start_ring(kit, kd, SIZE);
	guest_until(kit, kit_ring_is(kd, "started"));
	assert_int_equal(kd->ring.desc_gpa, desc);
	serve_rounds(kit, kd);
	/* It stops when either goes. */
	assert_int_equal(fe_mem_unshare(&kd->fe, more), 0);
	assert_true(kit_ring_is(kd, "suspended"));
	assert_true(kit_census().maps < before.maps);
}

/* --- migration ---------------------------------------------------------------------------- */

static uint8_t *start_log(struct kit_dev *kd)
{
	uint64_t desc[2] = { KIT_PAGE, 0 };
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg reply;
	uint8_t *log;

	assert_int_equal(ftruncate(fd, KIT_PAGE), 0);
	log = mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(log, MAP_FAILED);
	assert_int_equal(fe_send(&kd->fe, FE_SET_LOG_BASE, FE_VERSION, desc, 16, &fd, 1), 0);
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(
		fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features | 1ull << FE_F_LOG_ALL), 0);
	close(fd);
	return log;
}

static bool is_logged(struct kit_dev *kd, const uint8_t *log, uint64_t gpa)
{
	uint64_t page = fe_phys(&kd->fe, gpa) / KIT_PAGE;

	return log[page / 8] >> page % 8 & 1;
}

/* Exactly the pages that differ from what they were, and those of device are
 * among them. */
static void expect_log(struct kit *kit, uint64_t features)
{
	struct kit_dev *kd = bring_up(kit, features);
	uint64_t device = features & PACKED ? kd->ring.desc_gpa : kd->ring.device_gpa;
	uint64_t len = features & PACKED ? SIZE * 16 : SIZE * 8 + 6;
	uint8_t *log = start_log(kd);
	unsigned int nr = 0, expected = 2;

	serve_rounds(kit, kd);
	for (uint64_t off = 0; off < len; off += KIT_PAGE) {
		/* The last bytes of a used ring are written with EVENT_IDX only. */
		if (off + 6 >= len && !(features & EVENT_IDX))
			break;
		assert_true(is_logged(kd, log, device + off));
		expected++;
	}
	if (!(features & PACKED))
		expected--;
	assert_true(is_logged(kd, log, kd->buf));
	for (size_t i = 0; i < KIT_PAGE * 8; i++)
		nr += log[i / 8] >> i % 8 & 1;
	/* The buffer, and the device's event suppression of a packed ring. */
	assert_true(nr >= expected - 1 && nr <= expected);
	munmap(log, KIT_PAGE);
	kit_bring_down(kit, kd);
}

static void what_is_written_to_a_ring_is_logged_where_it_is(void **state)
{
	expect_log(*state, EVENT_IDX);
	expect_log(*state, PACKED);
}

/* --- what cannot be put together ------------------------------------------------------------ */

static uint64_t err_count(struct kit_dev *kd)
{
	uint64_t n = 0;

	return read(kd->ring.err_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* All of the scattered region in its own pages, but a border inside of a page. */
static void pieces_of_pages_fail_the_ring(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t desc, iova;

	kd->fe.pump = pump;
	kit_bring_up(kit, kd, KIT_NEGOTIATED, 1ull << VIRTIO_F_ACCESS_PLATFORM);
	share_scattered(kd);
	desc = fe_alloc(&kd->fe, kd->region, 0, KIT_PAGE);
	iova = fe_dev_addr(&kd->fe, desc);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, iova, 64, fe_uva(&kd->fe, kd->buf), 3),
			 0);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, iova + 64, KIT_PAGE - 64,
				  fe_uva(&kd->fe, desc), 3),
			 0);
	start_ring(kit, kd, SIZE);
	guest_until(kit, kit_ring_is(kd, "failed"));
	assert_int_equal(err_count(kd), 1);
	kit_serve(kit, &kit->witness);
	/* The driver may try again with other memory. */
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_INVALIDATE, iova, KIT_PAGE, 0, 0), 0);
	assert_int_equal(drv_start(&kd->ring), 0);
	guest_until(kit, kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
}

/* 32768 entries in 128 pieces: more mappings than one ring may have. */
static void too_many_pieces_fail_the_ring(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kd->fe.pump = pump;
	kit_bring_up(kit, kd, KIT_NEGOTIATED, 1ull << VIRTIO_F_ACCESS_PLATFORM | PACKED);
	share_scattered(kd);
	start_ring(kit, kd, 32768);
	guest_until(kit, kit_ring_is(kd, "failed"));
	assert_int_equal(err_count(kd), 1);
	kit_serve(kit, &kit->witness);
}

/* The memory that a joined area is another mapping of is cut off. */
static void truncated_memory_breaks_the_ring_and_no_more(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = bring_up(kit, PACKED);
	json_t *obj;

	/* Here, because cmocka has handlers of its own. */
	assert_int_equal(sigbus_init(), 0);
	kit_serve(kit, kd);
	/* The device looks for work in the descriptors, which are joined. */
	assert_int_equal(ftruncate(kd->fe.region[kd->region].fd, 0), 0);
	assert_int_equal(drv_kick(&kd->ring), 0);
	kit_until(kit, kit_ring_is(kd, "broken"));
	obj = vu_dev_status(kd->skel.dev, NULL);
	assert_true(json_is_true(json_object_get(obj, "memory-lost")));
	json_decref(obj);
	kit_serve(kit, &kit->witness);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(both_kinds_are_served),
		TEST(a_full_ring_is_served),
		TEST(an_invalidation_of_a_part_stops_the_ring_until_it_is_back),
		TEST(a_part_that_moves_is_followed),
		TEST(a_ring_ends_with_its_region_and_comes_back_with_it),
		TEST(an_area_may_lie_in_two_regions),
		TEST(what_is_written_to_a_ring_is_logged_where_it_is),
		TEST(pieces_of_pages_fail_the_ring),
		TEST(too_many_pieces_fail_the_ring),
		TEST(truncated_memory_breaks_the_ring_and_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
