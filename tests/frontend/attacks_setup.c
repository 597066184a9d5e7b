/*
 * Memory regions and ring set-up that cannot be right, or come at the wrong
 * time. Used by attack_test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/attacks.h"

#define MANY 64

/* --- memory ------------------------------------------------------------------- */

/* One region with these fields and a file of a megabyte. */
static int send_region(struct victim *v, struct fe_mem_region r)
{
	struct fe_mem_table t = { .nr = 1, .region = { r } };
	int fd = memfd_create("attack", MFD_CLOEXEC), err;

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	err = fe_request(v->fe, FE_SET_MEM_TABLE, &t, 40, &fd, 1);
	close(fd);
	return err;
}

static void region_refused(struct victim *v, uint64_t gpa, uint64_t size, uint64_t uva,
			   uint64_t offset)
{
	attack_assert_refused(v->fe,
			      send_region(v, (struct fe_mem_region){ gpa, size, uva, offset }));
}

static void empty_region(struct victim *v)
{
	region_refused(v, 1 << 20, 0, 1 << 20, 0);
}

static void region_beyond_its_file(struct victim *v)
{
	region_refused(v, 1 << 20, 2 << 20, 1 << 20, 0);
}

static void region_offset_beyond_its_file(struct victim *v)
{
	region_refused(v, 1 << 20, 1 << 20, 1 << 20, 4096);
}

static void region_that_wraps_guest_addresses(struct victim *v)
{
	region_refused(v, UINT64_MAX - 4095, 1 << 20, 1 << 20, 0);
}

static void region_that_wraps_front_end_addresses(struct victim *v)
{
	region_refused(v, 1 << 20, 1 << 20, UINT64_MAX - 4095, 0);
}

static void region_whose_offset_wraps(struct victim *v)
{
	region_refused(v, 1 << 20, 1 << 20, 1 << 20, UINT64_MAX - 4095);
}

static void table_with_more_regions_than_it_holds(struct victim *v)
{
	struct fe_mem_table t = { .nr = UINT32_MAX };

	attack_assert_request_refused(v, FE_SET_MEM_TABLE, &t, sizeof(t));
}

static void regions_that_overlap(struct victim *v)
{
	struct fe_mem_table t = { .nr = 2 };
	int fds[2] = { memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC) };

	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(ftruncate(fds[i], 1 << 20), 0);
		t.region[i] = (struct fe_mem_region){ (1 << 20) + i * 4096, 1 << 20,
						      (8 << 20) * (i + 1), 0 };
	}
	attack_assert_refused(v->fe, fe_request(v->fe, FE_SET_MEM_TABLE, &t, 72, fds, 2));
	close(fds[0]);
	close(fds[1]);
}

/* QEMU before 8.0 adds it once for each pair of queues: no harm, however often. */
static void region_that_is_there_already(struct victim *v)
{
	struct fe_region *r = &v->fe->region[v->region];

	for (unsigned int i = 0; i < MANY; i++) {
		r->shared = false;
		assert_int_equal(fe_mem_share(v->fe), 0);
	}
}

static void removal_of_what_is_not_there(struct victim *v)
{
	struct fe_mem_single s = { .region = { 77 << 20, 1 << 20, 77 << 20, 0 } };

	attack_assert_request_refused(v, FE_REM_MEM_REG, &s, sizeof(s));
}

static void tables_again_and_again(struct victim *v)
{
	for (unsigned int i = 0; i < MANY; i++)
		assert_int_equal(send_region(v, (struct fe_mem_region){ (i + 1ull) << 20, 1 << 20,
									(i + 1ull) << 20, 0 }),
				 0);
}

static void memory_taken_from_under_the_rings(struct victim *v)
{
	assert_int_not_equal(fe_mem_unshare(v->fe, v->region), -ETIMEDOUT);
	drv_kick(v->ring[0]);
	usleep(5000);
}

/* SIGBUS in the back-end. */
static void memory_file_truncated_under_requests(struct victim *v)
{
	attack_use(v);
	attack_begin(v);
	assert_int_equal(ftruncate(v->fe->region[v->region].fd, 0), 0);
	drv_kick(v->ring[0]);
	drv_kick(v->ring[1]);
	usleep(20000);
}

/* --- rings --------------------------------------------------------------------- */

static void index_out_of_range(struct victim *v, uint32_t request)
{
	const uint32_t wrong[] = { ATTACK_QUEUES, 255, 256, 65536, UINT32_MAX };

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct fe_vring_state s = { .index = wrong[i], .num = 64 };

		fe_send(v->fe, request, FE_VERSION | FE_FLAG_NEED_REPLY, &s, sizeof(s), NULL, 0);
	}
	usleep(5000);
}

static void num_of_no_ring(struct victim *v)
{
	index_out_of_range(v, FE_SET_VRING_NUM);
}

static void base_of_no_ring(struct victim *v)
{
	index_out_of_range(v, FE_SET_VRING_BASE);
}

static void enabling_no_ring(struct victim *v)
{
	index_out_of_range(v, FE_SET_VRING_ENABLE);
}

static void stopping_no_ring(struct victim *v)
{
	index_out_of_range(v, FE_GET_VRING_BASE);
}

static void addresses_of_no_ring(struct victim *v)
{
	struct fe_vring_addr a = { .index = UINT32_MAX };

	attack_assert_request_refused(v, FE_SET_VRING_ADDR, &a, sizeof(a));
}

static void kick_of_no_ring(struct victim *v)
{
	uint64_t index = ATTACK_QUEUES | FE_VRING_NOFD;

	attack_assert_request_refused(v, FE_SET_VRING_KICK, &index, sizeof(index));
}

static void ring_sizes_that_cannot_be(struct victim *v)
{
	const uint32_t wrong[] = { 0, 3, 65535, 65536, 1u << 31, UINT32_MAX };
	struct fe_vring_state s = { .index = 0 };
	int err;

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		s.num = wrong[i];
		err = fe_request(v->fe, FE_SET_VRING_NUM, &s, sizeof(s), NULL, 0);
		assert_int_not_equal(err, -ETIMEDOUT);
		/* A size that only packed rings can have may wait for the start. */
		assert_true(err || wrong[i] == 3);
		if (err && err != -EREMOTEIO)
			return;
	}
}

static void resizing_a_ring_that_runs(struct victim *v)
{
	assert_int_not_equal(fe_vring_num(v->fe, 0, ATTACK_RING_SIZE * 2), -ETIMEDOUT);
	assert_int_not_equal(fe_vring_base(v->fe, 0, 7), -ETIMEDOUT);
	attack_assert_answers_or_hangs_up(v->fe);
}

/* Start ring 0 with its areas at these front-end addresses. */
static void ring_at(struct victim *v, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct fe_vring_addr a = { .desc_uva = desc, .avail_uva = avail, .used_uva = used };
	int fd = eventfd(1, EFD_CLOEXEC);

	assert_int_equal(fe_mem_share(v->fe), 0);
	fe_vring_num(v->fe, 0, ATTACK_RING_SIZE);
	fe_vring_base(v->fe, 0, 0);
	fe_vring_addr(v->fe, &a);
	fe_vring_fd(v->fe, FE_SET_VRING_CALL, 0, fd);
	fe_vring_fd(v->fe, FE_SET_VRING_KICK, 0, fd);
	fe_vring_enable(v->fe, 0, true);
	close(fd);
	attack_assert_answers_or_hangs_up(v->fe);
	usleep(5000);
}

static uint64_t base_uva(struct victim *v)
{
	return v->fe->region[v->region].uva;
}

static void ring_outside_of_memory(struct victim *v)
{
	ring_at(v, 0x1000, 0x2000, 0x3000);
}

static void ring_over_the_end_of_memory(struct victim *v)
{
	uint64_t end = base_uva(v) + v->fe->region[v->region].size;

	ring_at(v, end - 16, end - 2, end - 4);
}

static void ring_at_the_end_of_addresses(struct victim *v)
{
	ring_at(v, UINT64_MAX - 15, UINT64_MAX - 1, UINT64_MAX - 3);
}

static void ring_that_is_not_aligned(struct victim *v)
{
	ring_at(v, base_uva(v) + 1, base_uva(v) + 4097, base_uva(v) + 8193);
}

static void ring_areas_on_top_of_each_other(struct victim *v)
{
	ring_at(v, base_uva(v), base_uva(v), base_uva(v));
}

static void ring_started_before_anything_else(struct victim *v)
{
	int fd = eventfd(1, EFD_CLOEXEC);

	fe_vring_fd(v->fe, FE_SET_VRING_KICK, 0, fd);
	fe_vring_enable(v->fe, 0, true);
	fe_vring_fd(v->fe, FE_SET_VRING_CALL, 0, fd);
	close(fd);
	attack_assert_answers_or_hangs_up(v->fe);
}

const struct attack attacks_setup[] = {
	AT(ATTACK_NEGOTIATED, empty_region),
	AT(ATTACK_NEGOTIATED, region_beyond_its_file),
	AT(ATTACK_NEGOTIATED, region_offset_beyond_its_file),
	AT(ATTACK_NEGOTIATED, region_that_wraps_guest_addresses),
	AT(ATTACK_NEGOTIATED, region_that_wraps_front_end_addresses),
	AT(ATTACK_NEGOTIATED, region_whose_offset_wraps),
	AT(ATTACK_NEGOTIATED, table_with_more_regions_than_it_holds),
	AT(ATTACK_NEGOTIATED, regions_that_overlap),
	AT(ATTACK_RUNNING, region_that_is_there_already),
	AT(ATTACK_RUNNING, removal_of_what_is_not_there),
	AT(ATTACK_NEGOTIATED, tables_again_and_again),
	AT(ATTACK_RUNNING, memory_taken_from_under_the_rings),
	AT(ATTACK_RUNNING, memory_file_truncated_under_requests),
	AT(ATTACK_NEGOTIATED, num_of_no_ring),
	AT(ATTACK_NEGOTIATED, base_of_no_ring),
	AT(ATTACK_NEGOTIATED, enabling_no_ring),
	AT(ATTACK_NEGOTIATED, stopping_no_ring),
	AT(ATTACK_NEGOTIATED, addresses_of_no_ring),
	AT(ATTACK_NEGOTIATED, kick_of_no_ring),
	AT(ATTACK_NEGOTIATED, ring_sizes_that_cannot_be),
	AT(ATTACK_RUNNING, resizing_a_ring_that_runs),
	AT(ATTACK_NEGOTIATED, ring_outside_of_memory),
	AT(ATTACK_NEGOTIATED, ring_over_the_end_of_memory),
	AT(ATTACK_NEGOTIATED, ring_at_the_end_of_addresses),
	AT(ATTACK_NEGOTIATED, ring_that_is_not_aligned),
	AT(ATTACK_NEGOTIATED, ring_areas_on_top_of_each_other),
	AT(ATTACK_CONNECTED, ring_started_before_anything_else),
	AT(ATTACK_NEGOTIATED, ring_started_before_anything_else),
	{ 0 },
};
