/*
 * The control thread and poll threads at the same time: everything that may
 * change under a running ring changes while chains are in flight. For
 * ThreadSanitizer above all; nothing here depends on time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <jansson.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 100
#define BATCH 16

static void submit_batch(struct kit_dev *kd)
{
	struct drv_buf bufs[2] = { { kd->buf, 8 }, { kd->buf + 8, 8 } };

	for (int i = 0; i < BATCH; i++)
		assert_true(drv_add(&kd->ring, bufs, 1, 1, kd) >= 0);
	assert_int_equal(drv_submit(&kd->ring), 0);
}

static void reap_batch(struct kit_dev *kd)
{
	void *cookie;
	uint32_t len;

	for (int i = 0; i < BATCH; i++) {
		assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
		assert_int_equal(len, 8);
	}
}

static void read_status(struct kit *kit, struct kit_dev *kd)
{
	json_decref(vu_dev_status(kd->skel.dev, NULL));
	for (int i = 0; i < KIT_LOOPS; i++)
		json_decref(loop_status(kit->loops[i]));
}

static void memory_changes_under_load(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < ROUNDS; i++) {
		int region = fe_mem_new(&kd->fe, KIT_PAGE);

		submit_batch(kd);
		assert_int_equal(fe_mem_share(&kd->fe), 0);
		read_status(kit, kd);
		reap_batch(kd);
		submit_batch(kd);
		assert_int_equal(fe_mem_unshare(&kd->fe, region), 0);
		reap_batch(kd);
		fe_mem_free(&kd->fe, region);
		kit_serve(kit, &kit->witness);
	}
}

static void descriptors_and_the_log_change_under_load(void **state)
{
	uint64_t desc[2] = { KIT_PAGE, 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg reply;

	assert_int_equal(ftruncate(fd, KIT_PAGE), 0);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t log_all = i % 2 ? 1ull << FE_F_LOG_ALL : 0;
		int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		submit_batch(kd);
		assert_int_equal(fe_send(&kd->fe, FE_SET_LOG_BASE, FE_VERSION, desc, 16, &fd, 1),
				 0);
		assert_int_equal(fe_recv(&kd->fe, &reply), 0);
		assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features | log_all),
				 0);
		assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, event), 0);
		assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_ERR, 0, event), 0);
		assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), 0);
		assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
		assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
		reap_batch(kd);
		close(event);
	}
	close(fd);
}

static void rings_stop_and_front_ends_leave_under_load(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before = kit_census();

	for (int i = 0; i < ROUNDS / 4; i++) {
		kit_bring_up(kit, kd, KIT_RUNNING, i % 2 ? 1ull << VIRTIO_F_RING_PACKED : 0);
		submit_batch(kd);
		reap_batch(kd);
		assert_int_equal(drv_stop(&kd->ring), 0);
		assert_int_equal(drv_start(&kd->ring), 0);
		submit_batch(kd);
		kit_bring_down(kit, kd);
		kit_assert_census(before);
		kit_serve(kit, &kit->witness);
	}
}

static struct kit *iommu_kit;

/* A front-end that answers misses while it waits for anything but an answer. */
static void pump_and_answer(void *opaque)
{
	struct fe *fe = &iommu_kit->victim.fe;
	static bool answering;

	kit_pump(iommu_kit);
	if (answering || fe->receiving || fe->backend_sock < 0)
		return;
	answering = true;
	assert_true(fe_iommu_answer(fe, 0) >= 0);
	answering = false;
}

static void translations_change_under_load(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	iommu_kit = kit;
	for (int packed = 0; packed < 2; packed++) {
		kd->fe.pump = pump_and_answer;
		kit_bring_up(kit, kd, KIT_RUNNING,
			     1ull << VIRTIO_F_ACCESS_PLATFORM |
				     (packed ? 1ull << VIRTIO_F_RING_PACKED : 0));
		for (int i = 0; i < ROUNDS; i++) {
			submit_batch(kd);
			assert_int_equal(fe_iommu_unmap(&kd->fe, kd->buf, KIT_PAGE), 0);
			if (i % 8 == 0)
				assert_int_equal(fe_iommu_unmap(&kd->fe, kd->ring.desc_gpa, 4096),
						 0);
			read_status(kit, kd);
			reap_batch(kd);
		}
		kit_serve(kit, &kit->witness);
		kit_bring_down(kit, kd);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup_threads, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_changes_under_load),
		TEST(descriptors_and_the_log_change_under_load),
		TEST(rings_stop_and_front_ends_leave_under_load),
		TEST(translations_change_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
