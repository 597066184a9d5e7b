/*
 * What a front-end's virtual IOMMU can get wrong or do with intent, and a guest
 * that maps and unmaps at the worst time. Used by attack_test; each victim is a
 * device that runs behind an IOMMU.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/attacks.h"

#define PAGE 4096ull
#define ALL_PAGES (1ull << 63)
#define READ 1
#define WRITE 2
#define RW 3

static struct {
	bool silent; /* misses are not answered */
	bool answering; /* which pumps */
} iommu;

void attack_iommu_reset(void)
{
	memset(&iommu, 0, sizeof(iommu));
}

void attack_iommu_pump(void *opaque)
{
	struct fe *fe = opaque;

	/* As QEMU, which answers nobody while it waits itself. */
	if (iommu.silent || iommu.answering || fe->receiving || fe->backend_sock < 0) {
		usleep(20);
		return;
	}
	iommu.answering = true;
	fe_iommu_answer(fe, 1);
	iommu.answering = false;
}

/* --- messages that make no sense ---------------------------------------------------- */

static void iotlb_refused(struct victim *v, uint8_t type, uint64_t iova, uint64_t size,
			  uint64_t uva, uint8_t perm)
{
	const struct fe_iotlb_msg m = {
		.iova = iova, .size = size, .uva = uva, .perm = perm, .type = type
	};

	attack_assert_request_refused(v, FE_IOTLB_MSG, &m, sizeof(m));
	attack_use(v);
}

static uint64_t base_uva(const struct victim *v)
{
	return v->fe->region[v->region].uva;
}

static void update_of_nothing(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, 0, base_uva(v), RW);
}

static void update_that_wraps(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_UPDATE, 0 - PAGE, 2 * PAGE, base_uva(v), RW);
}

static void update_of_all_there_is(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, UINT64_MAX, base_uva(v), RW);
}

static void update_outside_of_memory(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, PAGE, 16, RW);
}

static void update_over_the_end_of_memory(struct victim *v)
{
	uint64_t size = v->fe->region[v->region].size;

	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, size + PAGE, base_uva(v), RW);
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, 2, base_uva(v) + size - 1, RW);
}

static void update_that_permits_nothing_or_too_much(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, PAGE, base_uva(v), 0);
	iotlb_refused(v, FE_IOTLB_UPDATE, PAGE, PAGE, base_uva(v), 0x84);
}

static void invalidation_of_nothing(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_INVALIDATE, PAGE, 0, 0, 0);
}

static void invalidation_that_wraps(struct victim *v)
{
	iotlb_refused(v, FE_IOTLB_INVALIDATE, 0 - PAGE, 2 * PAGE, 0, 0);
}

static void iotlb_messages_of_other_types(struct victim *v)
{
	const uint8_t types[] = { 0, FE_IOTLB_MISS, FE_IOTLB_ACCESS_FAIL, 5, 255 };

	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++)
		iotlb_refused(v, types[i], PAGE, PAGE, base_uva(v), RW);
}

static void iotlb_message_cut_short(struct victim *v)
{
	const struct fe_iotlb_msg m = { .iova = PAGE, .size = PAGE, .type = FE_IOTLB_INVALIDATE };

	attack_assert_request_refused(v, FE_IOTLB_MSG, &m, sizeof(m) - 1);
}

static void iotlb_message_without_an_iommu(struct victim *v)
{
	const struct fe_iotlb_msg m = { PAGE, PAGE, base_uva(v), RW, FE_IOTLB_UPDATE, { 0 } };

	attack_assert_request_refused(v, FE_IOTLB_MSG, &m, sizeof(m));
}

/* --- translations nobody wanted ------------------------------------------------------ */

static void ranges_never_asked_for(struct victim *v)
{
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(fe_iotlb(v->fe, FE_IOTLB_UPDATE, i << 40, PAGE, base_uva(v), RW),
				 0);
		assert_int_equal(
			fe_iotlb(v->fe, FE_IOTLB_INVALIDATE, (i << 40) + 7 * PAGE, PAGE, 0, 0), 0);
	}
	attack_use(v);
}

static void ranges_that_overlap(struct victim *v)
{
	/* Byte by byte, and over each other. */
	for (uint64_t i = 0; i < 200; i++)
		assert_int_equal(fe_iotlb(v->fe, FE_IOTLB_UPDATE, PAGE + 7 * i, 1 + i * 13 % 99,
					  base_uva(v) + i, 1 + i % 3),
				 0);
	assert_int_equal(fe_iotlb(v->fe, FE_IOTLB_UPDATE, 0, 8 * PAGE, base_uva(v), RW), 0);
	attack_use(v);
}

/* A hole in the middle of one range makes it two. */
static void a_guest_that_maps_without_end(struct victim *v)
{
	struct fe_iotlb_msg m = { .size = PAGE, .uva = base_uva(v), .perm = RW };

	for (uint64_t i = 0; i < 40000; i++) {
		m.iova = i * 2 * PAGE;
		m.type = FE_IOTLB_UPDATE;
		assert_int_equal(fe_send(v->fe, FE_IOTLB_MSG, FE_VERSION, &m, sizeof(m), NULL, 0),
				 0);
		if (i % 64 == 63)
			assert_int_equal(fe_sync(v->fe), 0);
	}
	attack_use(v);
}

/* --- answers that are none ------------------------------------------------------------- */

/* Forget all, so that what follows is asked for; rings wait for their own addresses
 * first. */
static void forget_all(struct victim *v)
{
	assert_int_equal(fe_iotlb(v->fe, FE_IOTLB_INVALIDATE, 0, ALL_PAGES, 0, 0), 0);
}

static void misses_nobody_answers(struct victim *v)
{
	attack_use(v);
	iommu.silent = true;
	forget_all(v);
	attack_begin(v);
	attack_witness_serves();
	/* Requests are answered all the same, and rings can be stopped. */
	assert_int_equal(fe_sync(v->fe), 0);
	{
		uint32_t base;

		assert_int_equal(fe_get_vring_base(v->fe, v->used, &base), 0);
	}
}

static void send_back(struct victim *v, const void *bytes, size_t len)
{
	(void)!send(v->fe->backend_sock, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void misses_answered_with_garbage(struct victim *v)
{
	uint8_t garbage[64];

	iommu.silent = true;
	forget_all(v);
	attack_begin(v);
	memset(garbage, 0xa5, sizeof(garbage));
	send_back(v, garbage, sizeof(garbage));
	usleep(2000);
	/* Nobody can be asked any more; another channel helps. */
	assert_int_equal(fe_sync(v->fe), 0);
	attack_witness_serves();
}

/* More replies than questions, good and bad ones in turn, all before the updates. */
static void more_replies_than_misses(struct victim *v)
{
	const struct fe_msg asked = { .hdr.request = FE_BACKEND_IOTLB_MSG };

	attack_use(v);
	iommu.silent = true;
	forget_all(v);
	attack_begin(v);
	usleep(2000);
	for (unsigned int i = 0; i < 200; i++)
		if (fe_backend_reply(v->fe, &asked, i & 1))
			break;
	assert_int_equal(fe_sync(v->fe), 0);
	attack_witness_serves();
}

/* The pages of rings can be used, all others the wrong way round. */
static struct victim *reversed;

static uint32_t write_only(void *opaque, uint64_t gpa)
{
	for (unsigned int i = 0; i < ATTACK_QUEUES; i++) {
		const struct drv_ring *r = reversed->ring[i];

		if (gpa == r->desc_gpa || gpa == r->driver_gpa || gpa == r->device_gpa)
			return RW;
	}
	return WRITE;
}

static void rights_the_wrong_way_round(struct victim *v)
{
	struct drv_ring *r = v->ring[v->used];

	attack_use(v);
	reversed = v;
	v->fe->iommu_perm = write_only;
	forget_all(v);
	attack_begin(v);
	/* What the device may not read is a malformed request. */
	for (unsigned int i = 0; i < 5000 && !drv_has_used(r); i++)
		attack_iommu_pump(v->fe);
	assert_true(drv_has_used(r));
}

static void the_channel_closes_while_it_is_asked(struct victim *v)
{
	iommu.silent = true;
	forget_all(v);
	attack_begin(v);
	shutdown(v->fe->backend_sock, SHUT_RDWR);
	usleep(2000);
	assert_int_equal(fe_sync(v->fe), 0);
	attack_witness_serves();
	/* What the front-end says unasked does as well. */
	assert_int_equal(fe_iommu_map(v->fe, v->fe->region[v->region].gpa,
				      v->fe->region[v->region].size, RW),
			 0);
	attack_use(v);
}

/* --- invalidation ------------------------------------------------------------------------ */

static void a_rings_own_area_is_taken_away_again_and_again(struct victim *v)
{
	const struct drv_ring *r = v->ring[v->used];
	const uint64_t areas[] = { r->desc_gpa, r->driver_gpa, r->device_gpa };

	for (unsigned int i = 0; i < 30; i++) {
		attack_begin(v);
		assert_int_equal(fe_iommu_unmap(v->fe, areas[i % 3] & ~(PAGE - 1), PAGE), 0);
		attack_use(v);
	}
}

static void buffers_in_flight_are_taken_away(struct victim *v)
{
	for (unsigned int i = 0; i < 30; i++) {
		attack_begin(v);
		forget_all(v);
		attack_use(v);
	}
}

/* The ring's area and its buffers lead to other memory all of a sudden, which is
 * what they have been told: no address of the device's own. */
static void translations_change_without_invalidation(struct victim *v)
{
	const struct fe_region *r = &v->fe->region[v->region];

	attack_use(v);
	for (uint64_t off = 0; off + PAGE <= r->size; off += PAGE)
		assert_int_equal(fe_iotlb(v->fe, FE_IOTLB_UPDATE, fe_dev_addr(v->fe, r->gpa + off),
					  PAGE, r->uva + (off ^ PAGE), RW),
				 0);
	attack_begin(v);
	attack_assert_answers_or_hangs_up(v->fe);
	attack_witness_serves();
}

/* What the translations lead to goes and comes back, elsewhere in the device's
 * address space. */
static void memory_goes_under_translations(struct victim *v)
{
	attack_use(v);
	for (unsigned int i = 0; i < 10; i++) {
		attack_begin(v);
		assert_int_equal(fe_mem_unshare(v->fe, v->region), 0);
		assert_int_equal(fe_mem_share(v->fe), 0);
		attack_use(v);
	}
}

const struct attack attacks_iommu[] = {
	AT(ATTACK_IOMMU, update_of_nothing),
	AT(ATTACK_IOMMU, update_that_wraps),
	AT(ATTACK_IOMMU, update_of_all_there_is),
	AT(ATTACK_IOMMU, update_outside_of_memory),
	AT(ATTACK_IOMMU, update_over_the_end_of_memory),
	AT(ATTACK_IOMMU, update_that_permits_nothing_or_too_much),
	AT(ATTACK_IOMMU, invalidation_of_nothing),
	AT(ATTACK_IOMMU, invalidation_that_wraps),
	AT(ATTACK_IOMMU, iotlb_messages_of_other_types),
	AT(ATTACK_IOMMU, iotlb_message_cut_short),
	AT(ATTACK_RUNNING, iotlb_message_without_an_iommu),
	ATTACK_BOTH_IOMMU(ranges_never_asked_for),
	ATTACK_BOTH_IOMMU(ranges_that_overlap),
	AT(ATTACK_IOMMU, a_guest_that_maps_without_end),
	ATTACK_BOTH_IOMMU(misses_nobody_answers),
	AT(ATTACK_IOMMU, misses_answered_with_garbage),
	AT(ATTACK_IOMMU, more_replies_than_misses),
	ATTACK_BOTH_IOMMU(rights_the_wrong_way_round),
	AT(ATTACK_IOMMU, the_channel_closes_while_it_is_asked),
	ATTACK_BOTH_IOMMU(a_rings_own_area_is_taken_away_again_and_again),
	ATTACK_BOTH_IOMMU(buffers_in_flight_are_taken_away),
	ATTACK_BOTH_IOMMU(translations_change_without_invalidation),
	ATTACK_BOTH_IOMMU(memory_goes_under_translations),
	{ 0 },
};
