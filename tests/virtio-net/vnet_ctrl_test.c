/*
 * The way of a command from the control ring and back: in whatever buffers it
 * comes, however many there are, and when the ring stops in the middle.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/virtio-net/netrig.h"

static struct net *drv(struct rig *r, unsigned int i)
{
	return &r->port[i].drv;
}

static void commands_may_be_cut_anyhow(void **state)
{
	struct rig *r = *state;
	uint8_t data[64];
	uint32_t len = rig_mac_table(data, 2, 2, 1);

	for (int packed = 0; packed < 2; packed++) {
		r->port[0].drv_conf.features = packed ? ~0ull : NET_FEATURES_ALL;
		r->port[0].drv_conf.indirect = true;
		if (!packed)
			rig_pair_for_commands(r);
		else
			rig_connect(r, 0);
		rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, false);
		for (uint32_t piece = 1; piece < len + 3; piece++) {
			assert_int_equal(net_ctrl_cut(drv(r, 0), VIRTIO_NET_CTRL_MAC,
						      VIRTIO_NET_CTRL_MAC_TABLE_SET, data, len,
						      piece),
					 VIRTIO_NET_OK);
			assert_true(rig_reaches(r, RIG_MAC(2)));
		}
		rig_disconnect(r, 0);
	}
}

/* A chain as the caller has it. The status, or -1 if the device wrote none. */
static int raw_chain(struct rig *r, const struct drv_buf *bufs, unsigned int nr_out,
		     unsigned int nr_in, uint32_t *used)
{
	struct net *n = drv(r, 0);
	void *cookie;

	n->cmd[0x1000] = NET_ACK_UNSET;
	assert_true(drv_add(&n->ctrl.ring, bufs, nr_out, nr_in, n) >= 0);
	assert_int_equal(drv_submit(&n->ctrl.ring), 0);
	assert_int_equal(drv_wait(&n->ctrl.ring, &cookie, used), 1);
	return n->cmd[0x1000] == NET_ACK_UNSET ? -1 : n->cmd[0x1000];
}

static void the_answer_is_logged(void **state)
{
	static const uint8_t command[] = { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1 };
	struct rig *r = *state;
	struct drv_buf bufs[2];
	uint8_t *bits;
	uint32_t used;
	struct net *n;

	rig_pair_for_commands(r);
	n = drv(r, 0);
	bits = rig_log(r, 0);
	for (unsigned int i = 0; i < 10; i++) {
		memset(bits, 0, RIG_LOG_LEN);
		memcpy(n->cmd, command, sizeof(command));
		bufs[0] = (struct drv_buf){ n->cmd_gpa, sizeof(command) };
		bufs[1] = (struct drv_buf){ n->cmd_gpa + 0x1000, 1 };
		assert_int_equal(raw_chain(r, bufs, 1, 1, &used), VIRTIO_NET_OK);
		assert_true(rig_logged(bits, n->cmd_gpa + 0x1000, 1));
		assert_true(rig_logged(bits, n->ctrl.ring.device_gpa + 2, 2));
	}
	munmap(bits, RIG_LOG_LEN);
}

static void chains_of_every_wrong_shape_come_back(void **state)
{
	struct rig *r = *state;
	struct drv_buf bufs[4];
	struct net *n;
	uint32_t used;

	rig_pair_for_commands(r);
	n = drv(r, 0);
	n->cmd[0] = VIRTIO_NET_CTRL_RX;
	n->cmd[1] = VIRTIO_NET_CTRL_RX_PROMISC;
	n->cmd[2] = 1;
	/* No room for an answer. */
	bufs[0] = (struct drv_buf){ n->cmd_gpa, 3 };
	assert_int_equal(raw_chain(r, bufs, 1, 0, &used), -1);
	assert_int_equal(used, 0);
	/* No command. */
	bufs[0] = (struct drv_buf){ n->cmd_gpa + 0x1000, 1 };
	assert_int_equal(raw_chain(r, bufs, 0, 1, &used), VIRTIO_NET_ERR);
	assert_int_equal(used, 1);
	/* Half a header. */
	bufs[0] = (struct drv_buf){ n->cmd_gpa, 1 };
	bufs[1] = (struct drv_buf){ n->cmd_gpa + 0x1000, 1 };
	assert_int_equal(raw_chain(r, bufs, 1, 1, &used), VIRTIO_NET_ERR);
	/* Room for more than the answer: it is the first byte. */
	bufs[0] = (struct drv_buf){ n->cmd_gpa, 3 };
	bufs[1] = (struct drv_buf){ n->cmd_gpa + 0x1000, 1000 };
	assert_int_equal(raw_chain(r, bufs, 1, 1, &used), VIRTIO_NET_OK);
	assert_int_equal(used, 1);
	/* A buffer outside of the guest's memory. */
	bufs[0] = (struct drv_buf){ 1ull << 50, 3 };
	assert_int_equal(raw_chain(r, bufs, 1, 1, &used), VIRTIO_NET_ERR);
	/* Its answer outside. */
	bufs[0] = (struct drv_buf){ n->cmd_gpa, 3 };
	bufs[1] = (struct drv_buf){ 1ull << 50, 1 };
	assert_int_equal(raw_chain(r, bufs, 1, 1, &used), -1);
	/* And it goes on. */
	rig_mode(r, VIRTIO_NET_CTRL_RX_PROMISC, true);
	rig_talk(r, 1, 0);
}

static void many_commands_at_once_are_answered_one_by_one(void **state)
{
	struct rig *r = *state;
	struct drv_buf bufs[2];
	struct net *n;
	uint32_t used;
	void *cookie;

	rig_pair_for_commands(r);
	n = drv(r, 0);
	for (unsigned int i = 0; i < 20; i++) {
		uint8_t *p = n->cmd + 64 * (size_t)i;

		p[0] = VIRTIO_NET_CTRL_RX;
		p[1] = VIRTIO_NET_CTRL_RX_PROMISC;
		p[2] = i % 3 ? 1 : 2; /* every third is wrong */
		p[32] = NET_ACK_UNSET;
		bufs[0] = (struct drv_buf){ n->cmd_gpa + 64 * (uint64_t)i, 3 };
		bufs[1] = (struct drv_buf){ n->cmd_gpa + 64 * (uint64_t)i + 32, 1 };
		assert_true(drv_add(&n->ctrl.ring, bufs, 1, 1, p) >= 0);
	}
	assert_int_equal(drv_submit(&n->ctrl.ring), 0);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(drv_wait(&n->ctrl.ring, &cookie, &used), 1);
		assert_ptr_equal(cookie, n->cmd + 64 * (size_t)i);
		assert_int_equal(((uint8_t *)cookie)[32], i % 3 ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
	}
	rig_assert_status(r, 0, "control-queue",
			  "{\"commands\": 20, \"errors\": 7, \"served\": true}");
}

static void an_answer_waits_for_every_loop(void **state)
{
	struct rig *r = *state;
	struct drv_buf bufs[2];
	struct net *n;

	rig_pair_for_commands(r);
	assert_int_equal(vnet_move(r->port[0].vn, -1, 0), 0);
	rig_settle(r);
	n = drv(r, 0);
	n->cmd[0] = VIRTIO_NET_CTRL_RX;
	n->cmd[1] = VIRTIO_NET_CTRL_RX_PROMISC;
	n->cmd[2] = 0;
	n->cmd[32] = NET_ACK_UNSET;
	bufs[0] = (struct drv_buf){ n->cmd_gpa, 3 };
	bufs[1] = (struct drv_buf){ n->cmd_gpa + 32, 1 };
	assert_true(drv_add(&n->ctrl.ring, bufs, 1, 1, n) >= 0);
	assert_int_equal(drv_submit(&n->ctrl.ring), 0);
	/* The other one may be delivering by the old filter. */
	for (int i = 0; i < 100; i++) {
		loop_turn(r->loops[0]);
		assert_true(evloop_run_once(r->ev, 0) >= 0);
	}
	assert_int_equal(n->cmd[32], NET_ACK_UNSET);
	rig_settle(r);
	assert_int_equal(n->cmd[32], VIRTIO_NET_OK);
	assert_true(drv_has_used(&n->ctrl.ring));
}

static void stopping_the_ring_waits_for_the_command(void **state)
{
	struct rig *r = *state;
	uint8_t zero[64] = { 0 };
	struct drv_buf bufs[2];
	struct net *n;
	uint32_t used;
	void *cookie;

	rig_pair_for_commands(r);
	n = drv(r, 0);
	for (int die = 0; die < 2; die++) {
		memcpy(n->cmd, zero, sizeof(zero));
		n->cmd[32] = NET_ACK_UNSET;
		bufs[0] = (struct drv_buf){ n->cmd_gpa, 3 };
		bufs[1] = (struct drv_buf){ n->cmd_gpa + 32, 1 };
		assert_true(drv_add(&n->ctrl.ring, bufs, 1, 1, n) >= 0);
		assert_int_equal(drv_submit(&n->ctrl.ring), 0);
		/* Taken, not answered. */
		loop_turn(r->loops[0]);
		loop_turn(r->loops[1]);
		assert_int_equal(n->cmd[32], NET_ACK_UNSET);
		if (die)
			break;
		assert_int_equal(drv_stop(&n->ctrl.ring), 0);
		assert_int_equal(drv_reap(&n->ctrl.ring, &cookie, &used), 1);
		assert_int_equal(n->cmd[32], VIRTIO_NET_OK);
		assert_int_equal(drv_start(&n->ctrl.ring), 0);
	}
	rig_abandon(r, 0);
	rig_connect(r, 0);
	rig_talk(r, 0, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(commands_may_be_cut_anyhow),
		TEST(the_answer_is_logged),
		TEST(chains_of_every_wrong_shape_come_back),
		TEST(many_commands_at_once_are_answered_one_by_one),
		TEST(an_answer_waits_for_every_loop),
		TEST(stopping_the_ring_waits_for_the_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
