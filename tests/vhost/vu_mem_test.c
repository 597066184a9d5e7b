/*
 * Guest memory that comes, goes and stays while rings run: what waits for I/O
 * in flight, what is left undisturbed, and what a front-end loses that takes
 * away the memory of its own rings.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/sigbus.h"

static bool memory_is_lost(struct kit_dev *kd)
{
	json_t *obj = vu_dev_status(kd->skel.dev, NULL);
	bool lost = json_is_true(json_object_get(obj, "memory-lost"));

	json_decref(obj);
	return lost;
}

/* One request whose buffers are at gpa. */
static int serve_at(struct kit_dev *kd, uint64_t gpa)
{
	struct drv_buf bufs[2] = { { gpa, 8 }, { gpa + 8, 8 } };
	uint64_t *words = fe_ptr(&kd->fe, gpa, 16);
	void *cookie;
	uint32_t len;

	words[0] = gpa;
	words[1] = 0;
	assert_true(drv_add(&kd->ring, bufs, 1, 1, kd) >= 0);
	assert_int_equal(drv_submit(&kd->ring), 0);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	return len == 8 && words[1] == gpa ? 0 : -EIO;
}

static int add_region(struct kit_dev *kd)
{
	int region = fe_mem_new(&kd->fe, KIT_PAGE);

	assert_true(region >= 0);
	return region;
}

static void regions_come_and_go_while_the_ring_runs(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	before = kit_census();
	for (int i = 0; i < 20; i++) {
		int region = add_region(kd);
		uint64_t gpa = kd->fe.region[region].gpa;

		/* Not known yet: the chain is malformed. */
		assert_int_equal(serve_at(kd, gpa), -EIO);
		assert_int_equal(fe_mem_share(&kd->fe), 0);
		assert_int_equal(serve_at(kd, gpa), 0);
		assert_int_equal(fe_mem_unshare(&kd->fe, region), 0);
		assert_int_equal(serve_at(kd, gpa), -EIO);
		assert_int_equal(kd->hooks.mem_added, i + 2);
		assert_int_equal(kd->hooks.mem_removed, i + 1);
		fe_mem_free(&kd->fe, region);
		kit_serve(kit, kd);
	}
	kit_assert_census(before);
}

static void removal_waits_for_what_is_in_flight(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_mem_single single = { 0 };
	struct kit_census shared;
	struct fe_region *r;
	struct fe_msg reply;
	void *cookie;
	uint32_t len;
	int region;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	region = add_region(kd);
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	r = &kd->fe.region[region];
	shared = kit_census();
	kit_hold(kit, kd, 1);

	single.region.gpa = r->gpa;
	single.region.size = r->size;
	single.region.uva = r->uva;
	assert_int_equal(fe_send(&kd->fe, FE_REM_MEM_REG, FE_VERSION | FE_FLAG_NEED_REPLY, &single,
				 sizeof(single), NULL, 0),
			 0);
	kit_no_answer(kit, kd);
	assert_int_equal(kd->hooks.mem_removed, 0);
	kit_assert_census(shared);
	/* The ring itself goes on meanwhile, under the new memory. */
	kit_submit(kd);
	kit_until(kit, kd->hooks.nr_held == 2);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, FE_REM_MEM_REG);
	assert_int_equal(kd->hooks.mem_removed, 1);
	assert_int_equal(kit_census().maps, shared.maps - 1);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
}

/* Send one table of the regions listed, without CONFIGURE_MEM_SLOTS' messages. */
static int send_table(struct kit_dev *kd, const int *regions, unsigned int nr)
{
	struct {
		uint32_t nr, padding;
		struct fe_mem_region region[8];
	} table = { .nr = nr };
	int fds[8];

	for (unsigned int i = 0; i < nr; i++) {
		struct fe_region *r = &kd->fe.region[regions[i]];

		table.region[i].gpa = r->gpa;
		table.region[i].size = r->size;
		table.region[i].uva = r->uva;
		table.region[i].mmap_offset = r->mmap_offset;
		fds[i] = r->fd;
	}
	return fe_request(&kd->fe, FE_SET_MEM_TABLE, &table, 8 + nr * sizeof(table.region[0]), fds,
			  nr);
}

static void an_unchanged_table_disturbs_nobody(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;
	int region;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	region = kd->region;
	before = kit_census();
	/* Not even a chain that never ends delays it. */
	kit_hold(kit, kd, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send_table(kd, &region, 1), 0);
	assert_int_equal(kd->hooks.mem_added, 1);
	assert_int_equal(kd->hooks.mem_removed, 0);
	kit_assert_census(before);
	kd->hooks.hold = false;
}

static void a_table_keeps_the_regions_that_stay(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int regions[8];

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	regions[0] = kd->region;
	for (int i = 1; i < 8; i++)
		regions[i] = add_region(kd);
	assert_int_equal(send_table(kd, regions, 8), 0);
	assert_int_equal(kd->hooks.mem_added, 8);
	for (int i = 1; i < 8; i++)
		assert_int_equal(serve_at(kd, kd->fe.region[regions[i]].gpa), 0);
	assert_int_equal(send_table(kd, regions, 3), 0);
	assert_int_equal(kd->hooks.mem_removed, 5);
	assert_int_equal(serve_at(kd, kd->fe.region[regions[2]].gpa), 0);
	assert_int_equal(serve_at(kd, kd->fe.region[regions[3]].gpa), -EIO);
	/* One that is listed twice overlaps itself. */
	regions[2] = regions[1];
	assert_int_equal(send_table(kd, regions, 3), -EREMOTEIO);
	kit_serve(kit, kd);
	assert_int_equal(kd->hooks.mem_added, 8);
}

/* As QEMU 7.2 does for a device of two queue pairs. */
static void a_region_that_was_added_twice_goes_when_it_was_removed_twice(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;
	struct fe_region *r;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	r = &kd->fe.region[kd->region];
	before = kit_census();
	for (int i = 0; i < 3; i++) {
		r->shared = false;
		assert_int_equal(fe_mem_share(&kd->fe), 0);
	}
	assert_int_equal(kd->hooks.mem_added, 1);
	kit_assert_census(before);
	for (int i = 0; i < 3; i++) {
		kit_serve(kit, kd);
		assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
	}
	kit_serve(kit, kd);
	assert_int_equal(kd->hooks.mem_removed, 0);
	assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
	assert_true(kit_ring_is(kd, "suspended"));
	assert_int_equal(kd->hooks.mem_removed, 1);
}

/* The same addresses with another file behind them are another region. */
static void another_file_is_another_region(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_region *r;
	int regions[2], old;
	uint8_t *p;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	regions[0] = kd->region;
	regions[1] = add_region(kd);
	assert_int_equal(send_table(kd, regions, 2), 0);
	r = &kd->fe.region[regions[1]];
	assert_int_equal(serve_at(kd, r->gpa), 0);

	old = r->fd;
	r->fd = memfd_create("other", MFD_CLOEXEC);
	assert_int_equal(ftruncate(r->fd, KIT_PAGE), 0);
	p = mmap(r->host, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, r->fd, 0);
	assert_ptr_equal(p, r->host);
	close(old);
	assert_int_equal(send_table(kd, regions, 2), 0);
	assert_int_equal(kd->hooks.mem_added, 3);
	assert_int_equal(kd->hooks.mem_removed, 1);
	assert_int_equal(serve_at(kd, r->gpa), 0);
}

/* QEMU changes a region by removing and adding it. */
static void a_ring_without_its_memory_waits_for_it(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	void *cookie;
	uint32_t len;

	for (int packed = 0; packed < 2; packed++) {
		kit_bring_up(kit, kd, KIT_RUNNING, packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
		for (int i = 0; i < 3 * KIT_RING_SIZE; i++) {
			kit_serve(kit, kd);
			if (i % 16)
				continue;
			assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
			assert_true(kit_ring_is(kd, "suspended"));
			assert_int_equal(kd->hooks.activate, 1);
			assert_int_equal(kd->hooks.deactivate, 0);
			/* Not lost, and neither is what is said meanwhile. */
			kit_submit(kd);
			for (int j = 0; j < 10; j++)
				kit_pump(kit);
			kit_serve(kit, &kit->witness);
			assert_int_equal(
				fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), 0);
			assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 0);
			assert_int_equal(fe_mem_share(&kd->fe), 0);
			assert_true(kit_ring_is(kd, "started"));
			assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
		}
		/* Stopped without its memory, and all the same at rest. */
		if (packed)
			assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
		assert_int_equal(kd->hooks.deactivate, 0);
		assert_int_equal(drv_stop(&kd->ring), 0);
		assert_int_equal(kd->hooks.deactivate, 1);
		kit_bring_down(kit, kd);
		kd->hooks.activate = kd->hooks.deactivate = 0;
	}
}

/* What is in flight ends under the memory that is being removed. */
static void suspension_waits_for_what_is_in_flight(void **state)
{
	struct fe_mem_single single = { 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_region *r;
	struct fe_msg reply;
	void *cookie;
	uint32_t len, base;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	r = &kd->fe.region[kd->region];
	single.region.gpa = r->gpa;
	single.region.size = r->size;
	single.region.uva = r->uva;
	kit_hold(kit, kd, 2);
	assert_int_equal(fe_send(&kd->fe, FE_REM_MEM_REG, FE_VERSION | FE_FLAG_NEED_REPLY, &single,
				 sizeof(single), NULL, 0),
			 0);
	kit_no_answer(kit, kd);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 1);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 1);
	assert_true(kit_ring_is(kd, "suspended"));
	assert_int_equal(fe_get_vring_base(&kd->fe, 0, &base), 0);
	assert_int_equal(base, 2);
	assert_true(kit_ring_is(kd, "stopped"));
}

/* A second ring has memory of its own. */
static void other_rings_go_on_without_a_region(void **state)
{
	struct drv_conf conf = { .size = 16 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct drv_ring second;
	struct drv_buf bufs[2];
	void *cookie;
	uint32_t len;
	uint64_t buf;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	conf.region = fe_mem_new(&kd->fe, KIT_MEM);
	assert_true(conf.region >= 0);
	buf = fe_alloc(&kd->fe, conf.region, KIT_PAGE, KIT_PAGE);
	bufs[0] = (struct drv_buf){ buf, 8 };
	bufs[1] = (struct drv_buf){ buf + 8, 8 };
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	assert_int_equal(drv_create(&second, &kd->fe, 1, &conf), 0);
	assert_int_equal(drv_start(&second), 0);
	assert_int_equal(fe_mem_unshare(&kd->fe, kd->region), 0);
	for (int i = 0; i < 40; i++) {
		assert_true(drv_add(&second, bufs, 1, 1, NULL) >= 0);
		assert_int_equal(drv_submit(&second), 0);
		assert_int_equal(drv_wait(&second, &cookie, &len), 1);
		assert_int_equal(len, 8);
	}
	drv_destroy(&second);
}

static void there_are_509_slots(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	while (kd->hooks.mem_added < 509) {
		add_region(kd);
		assert_int_equal(fe_mem_share(&kd->fe), 0);
	}
	for (int i = 1; i < 509; i += 7)
		assert_int_equal(serve_at(kd, kd->fe.region[i].gpa), 0);
	/* One that is there already takes none. */
	kd->fe.region[77].shared = false;
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	assert_int_equal(fe_mem_unshare(&kd->fe, 77), 0);
	kd->fe.region[77].shared = true;
	assert_int_equal(serve_at(kd, kd->fe.region[77].gpa), 0);
	before = kit_census();
	add_region(kd);
	assert_int_equal(fe_mem_share(&kd->fe), -EREMOTEIO);
	fe_mem_free(&kd->fe, 509);
	kit_assert_census(before);
	assert_int_equal(fe_mem_unshare(&kd->fe, 100), 0);
	assert_int_equal(serve_at(kd, kd->fe.region[100].gpa), -EIO);
	assert_int_equal(serve_at(kd, kd->fe.region[101].gpa), 0);
	kit_serve(kit, &kit->witness);
}

static void removal_may_bring_a_descriptor(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_mem_single single = { 0 };
	struct kit_census before;
	struct fe_region *r;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	r = &kd->fe.region[add_region(kd)];
	before = kit_census();
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	single.region.gpa = r->gpa;
	single.region.size = r->size;
	single.region.uva = r->uva;
	single.region.mmap_offset = 12345; /* ignored */
	assert_int_equal(fe_request(&kd->fe, FE_REM_MEM_REG, &single, sizeof(single), &r->fd, 1),
			 0);
	kit_assert_census(before);
}

/* CVE-2018-1059 and SIGBUS: the file shrinks under the mapping. */
static void a_truncated_memory_file_costs_only_its_own_device(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct drv_buf buf;
	int region;

	/* Here, because cmocka has handlers of its own. */
	assert_int_equal(sigbus_init(), 0);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	region = fe_mem_new(&kd->fe, 4 * KIT_PAGE);
	buf = (struct drv_buf){ kd->fe.region[region].gpa + 2 * KIT_PAGE, 8 };
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	assert_false(memory_is_lost(kd));
	assert_int_equal(ftruncate(kd->fe.region[region].fd, KIT_PAGE), 0);
	assert_true(drv_add(&kd->ring, &buf, 0, 1, NULL) >= 0);
	assert_int_equal(drv_submit(&kd->ring), 0);
	buf.len = 16;
	for (int i = 0; i < 10; i++)
		kit_pump(kit);
	/* The skeleton writes only what it has read. */
	assert_false(memory_is_lost(kd));
	assert_true(drv_add(&kd->ring, (struct drv_buf[]){ { kd->buf, 8 }, buf }, 1, 1, NULL) >= 0);
	assert_int_equal(drv_submit(&kd->ring), 0);
	kit_until(kit, memory_is_lost(kd));
	kit_serve(kit, &kit->witness);
	kit_submit(kd);
	kit_until(kit, kit_ring_is(kd, "broken"));
	assert_int_equal(fe_sync(&kd->fe), 0);
	/* A new front-end has new memory. */
	kit_bring_down(kit, kd);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_false(memory_is_lost(kd));
	kit_serve(kit, kd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(regions_come_and_go_while_the_ring_runs),
		TEST(removal_waits_for_what_is_in_flight),
		TEST(an_unchanged_table_disturbs_nobody),
		TEST(a_table_keeps_the_regions_that_stay),
		TEST(a_region_that_was_added_twice_goes_when_it_was_removed_twice),
		TEST(another_file_is_another_region),
		TEST(a_ring_without_its_memory_waits_for_it),
		TEST(suspension_waits_for_what_is_in_flight),
		TEST(other_rings_go_on_without_a_region),
		TEST(there_are_509_slots),
		TEST(removal_may_bring_a_descriptor),
		TEST(a_truncated_memory_file_costs_only_its_own_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
