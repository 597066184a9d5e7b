/*
 * What a front-end answers to misses, and when: late, over two sockets in any
 * order, never, or after the ring, the IOMMU or the channel has gone. The witness
 * goes on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>
#include <unistd.h>

#include "tests/vhost/vukit.h"

#define PACKED (1ull << VIRTIO_F_RING_PACKED)

/* --- waiting ---------------------------------------------------------------------------- */

static void a_ring_waits_for_its_own_addresses(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd;

	kit_guest.silent = true;
	kd = kit_guest_up(kit, 0);
	assert_true(kit_ring_is(kd, "suspended"));
	kit_no_answer(kit, kd);
	kit_guest.silent = false;
	kit_guest_until(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
}

static void a_miss_holds_up_its_ring_and_nothing_else(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	void *cookie = NULL;
	uint32_t len, base = 0;

	kit_guest_until(kit_ring_is(kd, "started"));
	kit_guest.silent = true;
	kit_submit(kd);
	kit_no_answer(kit, kd);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 0);
	/* It can be stopped all the same, before the chain. */
	assert_int_equal(fe_get_vring_base(&kd->fe, 0, &base), 0);
	assert_int_equal(base, 0);
	kit_serve(kit, &kit->witness);
	kit_guest.silent = false;
	drv_set_base(&kd->ring, 0);
	assert_int_equal(drv_start(&kd->ring), 0);
}

/* A ring that waits for its own addresses does not run: features may change. */
static void the_iommu_may_go_while_it_is_asked(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd;
	struct fe_msg miss;

	kit_guest.silent = true;
	kd = kit_guest_up(kit, 0);
	assert_int_equal(fe_backend_take(&kd->fe, &miss, kd->fe.timeout_ms), 0);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features & ~KIT_IOMMU), 0);
	assert_int_equal(fe_backend_reply(&kd->fe, &miss, 0), 0);
	kit_no_answer(kit, kd);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
	kit_guest.silent = false;
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_guest_until(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
}

/* The loop has let go of the ring, but nobody has heard of it yet. */
static void a_reply_may_come_while_the_ring_is_stopped(void **state)
{
	const struct fe_vring_state s = { .index = 0 };
	struct kit *kit = *state;
	struct kit_dev *kd;
	struct fe_msg msg;

	for (int turns = 0; turns < 6; turns++) {
		kd = kit_guest_up(kit, turns % 2 ? PACKED : 0);
		kit_guest_until(kit_ring_is(kd, "started"));
		kit_guest.silent = true;
		kit_submit(kd);
		assert_int_equal(fe_backend_take(&kd->fe, &msg, kd->fe.timeout_ms), 0);
		assert_int_equal(
			fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, &s, sizeof(s), NULL, 0), 0);
		if (turns / 2 == 1)
			kit_pump(kit);
		assert_int_equal(fe_backend_reply(&kd->fe, &msg, 1), 0);
		/* The loop first, then what came meanwhile. */
		for (int i = 0; turns / 2 == 2 && i < KIT_LOOPS; i++)
			loop_turn(kit->loops[i]);
		assert_int_equal(fe_recv(&kd->fe, &msg), 0);
		assert_true(kit_ring_is(kd, "stopped"));
		for (int i = 0; i < 5; i++)
			kit_pump(kit);
		kit_guest.silent = false;
		kit_bring_down(kit, kd);
	}
	kit_serve(kit, &kit->witness);
}

static void a_front_end_may_leave_while_it_is_asked(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, PACKED);

	kit_guest_until(kit_ring_is(kd, "started"));
	kit_guest.silent = true;
	kit_submit(kd);
	kit_no_answer(kit, kd);
	kit_bring_down(kit, kd);
	kit_serve(kit, &kit->witness);
}

static void without_a_channel_nobody_is_asked(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd;

	kit_guest.silent = true;
	kd = kit_guest_up(kit, 0);
	close(kd->fe.backend_sock);
	kd->fe.backend_sock = -1;
	kit_no_answer(kit, kd);
	/* What the front-end says unasked does as well. */
	assert_int_equal(fe_iommu_map(&kd->fe, kd->fe.region[kd->region].gpa, KIT_MEM, KIT_RW), 0);
	assert_true(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
	assert_int_equal(kd->fe.nr_misses, 0);
}

/* --- answers ------------------------------------------------------------------------- */

/* The answer to a miss without waiting, as a front-end of several threads may send
 * it: over two sockets. perm 0: no update. */
static void answer_at_once(struct kit_dev *kd, const struct fe_msg *miss, bool reply_first,
			   uint8_t perm)
{
	struct fe_iotlb_msg m;

	memcpy(&m, miss->payload, sizeof(m));
	assert_int_equal(m.type, FE_IOTLB_MISS);
	m.iova &= ~4095ull;
	m.size = 4096;
	m.uva = fe_uva(&kd->fe, m.iova - FE_IOVA_BASE);
	m.type = FE_IOTLB_UPDATE;
	m.perm = perm;
	if (reply_first && miss->hdr.flags & FE_FLAG_NEED_REPLY)
		assert_int_equal(fe_backend_reply(&kd->fe, miss, 0), 0);
	if (perm)
		assert_int_equal(fe_send(&kd->fe, FE_IOTLB_MSG, FE_VERSION, &m, sizeof(m), NULL, 0),
				 0);
	if (!reply_first && miss->hdr.flags & FE_FLAG_NEED_REPLY)
		assert_int_equal(fe_backend_reply(&kd->fe, miss, 0), 0);
}

/* One chain, whose misses are answered like this: what the device wrote, and how
 * many accesses it says have failed. */
static uint32_t serve_answering(struct kit_dev *kd, bool reply_first, uint8_t perm,
				unsigned int *nr_failed)
{
	uint32_t len = UINT32_MAX;
	struct fe_iotlb_msg m;
	void *cookie = NULL;
	struct fe_msg msg;

	*nr_failed = 0;
	/* Without acknowledgements nobody has waited for the invalidation. */
	assert_int_equal(fe_iommu_unmap(&kd->fe, kd->buf, 4096), 0);
	assert_int_equal(fe_sync(&kd->fe), 0);
	kit_submit(kd);
	for (int i = 0; i < 1000 && !drv_reap(&kd->ring, &cookie, &len); i++) {
		kit_pump(kit_guest.kit);
		if (fe_backend_take(&kd->fe, &msg, 0))
			continue;
		memcpy(&m, msg.payload, sizeof(m));
		if (m.type == FE_IOTLB_ACCESS_FAIL)
			++*nr_failed;
		else
			answer_at_once(kd, &msg, reply_first, perm);
	}
	assert_ptr_equal(cookie, kd);
	return len;
}

/* The reply and the update it stands for may be read in any order. */
static void answer_in_any_order(struct kit *kit, struct kit_dev *kd)
{
	unsigned int nr_failed;

	kit_guest_until(kit_ring_is(kd, "started"));
	kit_guest.silent = true;
	for (int reply_first = 0; reply_first < 2; reply_first++) {
		assert_int_equal(serve_answering(kd, reply_first, KIT_RW, &nr_failed), 8);
		assert_int_equal(nr_failed, 0);
		/* What may be read only is not written, and the front-end is told. */
		assert_int_equal(serve_answering(kd, reply_first, KIT_R, &nr_failed), 0);
		assert_int_equal(nr_failed, 1);
	}
	kit_serve(kit, &kit->witness);
}

static void a_reply_may_be_read_before_its_update(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = kit_guest_up(kit, 0);
	unsigned int nr_failed;

	answer_in_any_order(kit, kd);
	/* "The front-end sent nothing if the IOTLB miss message is invalid." */
	assert_int_equal(serve_answering(kd, true, 0, &nr_failed), 0);
	kit_guest.silent = false;
	kit_serve(kit, kd);
}

static void without_replies_the_updates_are_the_answers(void **state)
{
	struct kit *kit = *state;

	kit->victim.no_proto = 1ull << FE_PROTO_REPLY_ACK;
	answer_in_any_order(kit, kit_guest_up(kit, 0));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_guest_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_ring_waits_for_its_own_addresses),
		TEST(a_miss_holds_up_its_ring_and_nothing_else),
		TEST(the_iommu_may_go_while_it_is_asked),
		TEST(a_reply_may_come_while_the_ring_is_stopped),
		TEST(a_front_end_may_leave_while_it_is_asked),
		TEST(without_a_channel_nobody_is_asked),
		TEST(a_reply_may_be_read_before_its_update),
		TEST(without_replies_the_updates_are_the_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
