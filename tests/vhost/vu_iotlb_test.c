/*
 * Devices behind a virtual IOMMU: translation, misses, invalidations, and what a
 * front-end can get wrong about them. Every case has the witness beside it,
 * which must go on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vhost/vukit.h"

#define PACKED (1ull << VIRTIO_F_RING_PACKED)
#define INDIRECT (1ull << VIRTIO_F_RING_INDIRECT_DESC)

static json_int_t iotlb_count(struct kit_dev *kd, const char *name)
{
	json_t *obj = vu_dev_status(kd->skel.dev, NULL);
	json_int_t n = json_integer_value(json_object_get(json_object_get(obj, "iotlb"), name));

	json_decref(obj);
	return n;
}

/* --- it works ----------------------------------------------------------------------- */

static void serve_many(struct kit *kit, uint64_t features)
{
	struct kit_dev *kd = kit_guest_up(kit, features);
	uint64_t misses;

	kit_serve(kit, kd);
	misses = kd->fe.nr_misses;
	assert_true(misses >= 4);
	/* What is known is not asked again. */
	for (unsigned int i = 0; i < 3 * KIT_RING_SIZE; i++)
		kit_serve(kit, kd);
	assert_true(kd->fe.nr_misses <= misses + KIT_RING_SIZE);
	kit_bring_down(kit, kd);
}

static void requests_are_served_through_translations(void **state)
{
	serve_many(*state, 0);
	serve_many(*state, INDIRECT);
	serve_many(*state, PACKED);
	serve_many(*state, PACKED | INDIRECT);
}

/* One buffer whose pages are far from each other in our memory. */
static void a_buffer_may_be_scattered(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint64_t a = fe_alloc(&kd->fe, kd->region, 4096, 4096), gap, b;
	uint64_t iova = FE_IOVA_BASE + 0x123456000, *to;
	void *cookie = NULL;
	uint32_t len = 0;

	gap = fe_alloc(&kd->fe, kd->region, 4096, 4096);
	b = fe_alloc(&kd->fe, kd->region, 4096, 4096);
	assert_true(a && gap && b);
	assert_int_equal(fe_iotlb(&kd->fe, 2, iova, 4096, fe_uva(&kd->fe, a), KIT_RW), 0);
	assert_int_equal(fe_iotlb(&kd->fe, 2, iova + 4096, 4096, fe_uva(&kd->fe, b), KIT_RW), 0);
	memset(fe_ptr(&kd->fe, a, 4096), 1, 4096);
	memset(fe_ptr(&kd->fe, b, 4096), 2, 4096);
	/* 16 bytes over the border, read; written to the usual page. */
	{
		struct drv_buf bufs[2] = { { iova + 4096 - 8 - FE_IOVA_BASE, 16 },
					   { kd->buf, 16 } };

		assert_true(drv_add(&kd->ring, bufs, 1, 1, kd) >= 0);
	}
	assert_int_equal(drv_submit(&kd->ring), 0);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	assert_int_equal(len, 16);
	to = fe_ptr(&kd->fe, kd->buf, 16);
	assert_true(to[0] == 0x0101010101010101 && to[1] == 0x0202020202020202);
}

/* Migration knows guest memory, not what its IOMMU makes of it. */
static void what_is_written_is_logged_by_guest_physical_address(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint64_t desc[2] = { KIT_PAGE, 0 }, page = kd->buf / KIT_PAGE;
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg reply;
	uint8_t *log;

	assert_int_equal(ftruncate(fd, KIT_PAGE), 0);
	log = mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(log, MAP_FAILED);
	kit_serve(kit, kd);
	assert_int_equal(fe_send(&kd->fe, FE_SET_LOG_BASE, FE_VERSION, desc, 16, &fd, 1), 0);
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(
		fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features | 1ull << FE_F_LOG_ALL), 0);
	kit_serve(kit, kd);
	assert_true(log[page / 8] >> page % 8 & 1);
	munmap(log, KIT_PAGE);
	close(fd);
	kit_bring_down(kit, kd);
}

/* --- refusal ------------------------------------------------------------------------------ */

/* The next chain comes back with nothing written. */
static void expect_refusal(struct kit_dev *kd)
{
	void *cookie = NULL;
	uint32_t len = 1;

	kit_submit(kd);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	assert_int_equal(len, 0);
}

static void an_address_the_front_end_refuses_is_a_malformed_chain(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);

	kit_guest.refused = kd->buf;
	expect_refusal(kd);
	expect_refusal(kd);
	kit_guest.refused = 0;
	kit_serve(kit, kd);
}

static void what_is_read_only_is_not_written(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	struct fe_iotlb_msg m;
	struct fe_msg msg;
	uint64_t *words = fe_ptr(&kd->fe, kd->buf, 16);

	kit_guest.read_only = kd->buf;
	kit_guest_until(kit_ring_is(kd, "started"));
	words[0] = 1;
	words[1] = 2;
	kit_submit(kd);
	/* Read: answered. Written: answered too, but with reading only. */
	kit_guest_until(kd->fe.nr_misses >= 5);
	kit_guest.silent = true;
	assert_int_equal(fe_backend_take(&kd->fe, &msg, kd->fe.timeout_ms), 0);
	memcpy(&m, msg.payload, sizeof(m));
	assert_int_equal(m.type, FE_IOTLB_ACCESS_FAIL);
	assert_int_equal(m.iova, fe_dev_addr(&kd->fe, kd->buf + 8));
	assert_int_equal(m.perm, KIT_W);
	assert_int_equal(words[1], 2);
	kit_until(kit, kd->ring.used->idx.wire == 1);
}

static void wait_for_one(struct kit_dev *kd)
{
	void *cookie = NULL;
	uint32_t len;

	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
}

/* --- invalidation ---------------------------------------------------------------------------- */

static void send_unmap(struct kit_dev *kd, uint64_t gpa, uint64_t len)
{
	const struct fe_iotlb_msg m = {
		.iova = fe_dev_addr(&kd->fe, gpa),
		.size = len,
		.type = FE_IOTLB_INVALIDATE,
	};

	assert_int_equal(fe_send(&kd->fe, FE_IOTLB_MSG, FE_VERSION | FE_FLAG_NEED_REPLY, &m,
				 sizeof(m), NULL, 0),
			 0);
}

static void an_invalidation_waits_for_what_uses_it_and_only_that(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint64_t other = fe_alloc(&kd->fe, kd->region, 4096, 4096), misses;
	struct fe_msg reply;

	kit_serve(kit, kd);
	assert_int_equal(fe_iommu_map(&kd->fe, other, 4096, KIT_RW), 0);
	kit_hold(kit, kd, 1);
	assert_int_equal(fe_iommu_unmap(&kd->fe, other, 4096), 0);
	send_unmap(kd, kd->buf, 4096);
	kit_no_answer(kit, kd);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, FE_IOTLB_MSG);
	/* It is asked for again. */
	wait_for_one(kd);
	misses = kd->fe.nr_misses;
	kit_serve(kit, kd);
	assert_int_equal(kd->fe.nr_misses, misses + 1);
}

static void a_ring_whose_addresses_go_stops_until_they_are_back(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, PACKED);

	for (int i = 0; i < 5; i++)
		kit_serve(kit, kd);
	kit_guest.silent = true;
	assert_int_equal(fe_iommu_unmap(&kd->fe, kd->ring.desc_gpa, 4096), 0);
	assert_true(kit_ring_is(kd, "suspended"));
	kit_submit(kd);
	kit_no_answer(kit, kd);
	kit_guest.silent = false;
	kit_guest_until(kit_ring_is(kd, "started"));
	wait_for_one(kd);
	kit_serve(kit, kd);
}

static void everything_may_be_invalidated_at_once(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, INDIRECT);

	for (int i = 0; i < 20; i++) {
		kit_serve(kit, kd);
		assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_INVALIDATE, 0, 1ull << 63, 0, 0), 0);
		kit_guest_until(kit_ring_is(kd, "started"));
	}
	kit_serve(kit, kd);
}

/* What ends where addresses end is a range as any other. */
/* Nobody tells of the driver's invalidations while no ring is used, and the next
 * driver has other memory at the same addresses. */
static void what_was_said_to_a_driver_that_has_gone_is_forgotten(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);

	kit_serve(kit, kd);
	assert_true(iotlb_count(kd, "entries") > 0);
	assert_int_equal(drv_stop(&kd->ring), 0);
	assert_int_equal(iotlb_count(kd, "entries"), 0);
	assert_int_equal(fe_iommu_map(&kd->fe, kd->buf, 4096, KIT_RW), 0);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
	assert_int_equal(iotlb_count(kd, "entries"), 0);
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_guest_until(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_STATUS, 0), 0);
	assert_int_equal(iotlb_count(kd, "entries"), 0);
}

/* One ring of several that stops says nothing of the others. */
static void a_ring_that_stops_leaves_the_others_their_translations(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint32_t base;
	json_int_t n;

	kit_serve(kit, kd);
	n = iotlb_count(kd, "entries");
	assert_int_equal(fe_get_vring_base(&kd->fe, 1, &base), 0);
	assert_int_equal(iotlb_count(kd, "entries"), n);
	/* A suspended one waits for what is told. */
	kit_guest.silent = true;
	assert_int_equal(fe_iommu_unmap(&kd->fe, kd->ring.desc_gpa, 4096), 0);
	assert_int_equal(fe_get_vring_base(&kd->fe, 1, &base), 0);
	assert_true(iotlb_count(kd, "entries") > 0);
}

static void the_last_of_all_addresses_can_be_invalidated(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	json_int_t before;

	kit_serve(kit, kd);
	before = iotlb_count(kd, "entries");
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, 0ull - 8192, 4096,
				  fe_uva(&kd->fe, kd->buf), KIT_RW),
			 0);
	assert_int_equal(iotlb_count(kd, "entries"), before + 1);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_INVALIDATE, 0ull - 8192, 8192, 0, 0), 0);
	assert_int_equal(iotlb_count(kd, "entries"), before);
	assert_true(kit_ring_is(kd, "started"));
	/* All of them but the first page. */
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_INVALIDATE, 4096, 0ull - 4096, 0, 0), 0);
	assert_int_equal(iotlb_count(kd, "entries"), 0);
	kit_guest_until(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
}

static void memory_that_goes_takes_its_translations_along(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	int more = fe_mem_new(&kd->fe, KIT_MEM);
	json_int_t before;
	uint64_t gpa;

	kit_serve(kit, kd);
	assert_true(more >= 0);
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	gpa = kd->fe.region[more].gpa;
	before = iotlb_count(kd, "entries");
	assert_int_equal(fe_iommu_map(&kd->fe, gpa, KIT_MEM, KIT_RW), 0);
	assert_int_equal(iotlb_count(kd, "entries"), before + 1);
	assert_int_equal(fe_mem_unshare(&kd->fe, more), 0);
	assert_int_equal(iotlb_count(kd, "entries"), before);
	kit_serve(kit, kd);
}

/* The table forgets for lack of room; what it forgot is asked for again. */
static void a_guest_that_maps_without_end_is_still_served(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint64_t uva = fe_uva(&kd->fe, kd->buf), misses;

	kit_serve(kit, kd);
	for (uint64_t i = 0; i < 40000; i++) {
		const struct fe_iotlb_msg m = { .iova = 8192 * i,
						.size = 4096,
						.uva = uva,
						.perm = KIT_RW,
						.type = FE_IOTLB_UPDATE };

		assert_int_equal(fe_send(&kd->fe, FE_IOTLB_MSG, FE_VERSION, &m, sizeof(m), NULL, 0),
				 0);
		if (i % 32 == 31)
			assert_int_equal(fe_sync(&kd->fe), 0);
	}
	assert_true(iotlb_count(kd, "evictions") > 20000);
	assert_true(iotlb_count(kd, "entries") <= 16384);
	/* The ring's own areas may be forgotten: it goes on, and so it does after it
	 * has been stopped. */
	assert_true(kit_ring_is(kd, "started"));
	misses = kd->fe.nr_misses;
	kit_serve(kit, kd);
	assert_int_equal(drv_stop(&kd->ring), 0);
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_guest_until(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
	assert_true(kd->fe.nr_misses > misses);
}

/* --- bad messages ------------------------------------------------------------------------------ */

static void messages_that_make_no_sense_are_refused(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	uint64_t uva = fe_uva(&kd->fe, kd->buf);
	const struct fe_iotlb_msg bad[] = {
		/* Updates of nothing, that wrap, that lead outside of memory or over
		 * its end, that permit nothing or something unknown. */
		{ 0x1000, 0, uva, KIT_RW, FE_IOTLB_UPDATE, { 0 } },
		{ UINT64_MAX - 4095, 8192, uva, KIT_RW, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, UINT64_MAX, uva, KIT_RW, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, 4096, 0x10, KIT_RW, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, KIT_MEM + 4096, uva, KIT_RW, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, 4096, uva, 0, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, 4096, uva, 4, FE_IOTLB_UPDATE, { 0 } },
		{ 0x1000, 0, 0, 0, FE_IOTLB_INVALIDATE, { 0 } },
		{ UINT64_MAX - 4095, 8192, 0, 0, FE_IOTLB_INVALIDATE, { 0 } },
		/* What only the back-end sends, and nobody. */
		{ 0x1000, 4096, uva, KIT_RW, FE_IOTLB_MISS, { 0 } },
		{ 0x1000, 4096, uva, KIT_RW, FE_IOTLB_ACCESS_FAIL, { 0 } },
		{ 0x1000, 4096, uva, KIT_RW, 0, { 0 } },
		{ 0x1000, 4096, uva, KIT_RW, 200, { 0 } },
	};

	kit_serve(kit, kd);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(fe_request(&kd->fe, FE_IOTLB_MSG, &bad[i], sizeof(bad[i]), NULL,
					    0),
				 -EREMOTEIO);
		kit_serve(kit, kd);
	}
	/* Never asked for, overlapping, invalidated though unknown: all fine. */
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, 0x1000, 4096, uva, KIT_R), 0);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, 0x1800, 4096, uva, KIT_RW), 0);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_INVALIDATE, 0x9000000, 4096, 0, 0), 0);
	kit_serve(kit, kd);
}

static void without_an_iommu_its_messages_are_refused(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_int_equal(fe_iotlb(&kd->fe, FE_IOTLB_UPDATE, 0, 4096, fe_uva(&kd->fe, kd->buf),
				  KIT_RW),
			 -EREMOTEIO);
	kit_serve(kit, kd);
}

static void ring_addresses_that_cannot_be_are_refused(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr addr = { .desc_uva = 8 };

	kit_bring_up(kit, kd, KIT_MEMORY, KIT_IOMMU);
	assert_int_equal(fe_vring_num(&kd->fe, 0, 64), 0);
	assert_int_equal(fe_vring_addr(&kd->fe, &addr), -EREMOTEIO);
	addr.desc_uva = UINT64_MAX - 15;
	assert_int_equal(fe_vring_addr(&kd->fe, &addr), -EREMOTEIO);
	kit_serve(kit, &kit->witness);
}

/* A guest that maps and unmaps at random while requests run. */
static void translations_may_come_and_go_at_any_time(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, PACKED | INDIRECT);
	uint64_t gpa = kd->fe.region[kd->region].gpa;

	srand(7);
	for (int i = 0; i < 400; i++) {
		uint64_t at = gpa + (uint64_t)rand() % (KIT_MEM / 4096) * 4096;
		uint64_t len = (1 + (uint64_t)rand() % 4) * 4096;

		if (at + len > gpa + KIT_MEM)
			len = 4096;
		if (rand() % 2)
			assert_int_equal(fe_iommu_unmap(&kd->fe, at, len), 0);
		else
			assert_int_equal(fe_iommu_map(&kd->fe, at, len, KIT_RW), 0);
		kit_guest_until(kit_ring_is(kd, "started"));
		kit_serve(kit, kd);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_guest_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_are_served_through_translations),
		TEST(a_buffer_may_be_scattered),
		TEST(what_is_written_is_logged_by_guest_physical_address),
		TEST(an_address_the_front_end_refuses_is_a_malformed_chain),
		TEST(what_is_read_only_is_not_written),
		TEST(a_guest_that_maps_without_end_is_still_served),
		TEST(an_invalidation_waits_for_what_uses_it_and_only_that),
		TEST(a_ring_whose_addresses_go_stops_until_they_are_back),
		TEST(everything_may_be_invalidated_at_once),
		TEST(what_was_said_to_a_driver_that_has_gone_is_forgotten),
		TEST(a_ring_that_stops_leaves_the_others_their_translations),
		TEST(the_last_of_all_addresses_can_be_invalidated),
		TEST(memory_that_goes_takes_its_translations_along),
		TEST(messages_that_make_no_sense_are_refused),
		TEST(without_an_iommu_its_messages_are_refused),
		TEST(ring_addresses_that_cannot_be_are_refused),
		TEST(translations_may_come_and_go_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
