/*
 * Chains and ring indices that are wrong on a ring of any device, and how chains of
 * raw descriptors are offered. Used by attack_test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/atomic.h"
#include "core/base.h"
#include "tests/frontend/attacks.h"

#define WAIT_MS 5000

void attack_offer(struct victim *v, const struct raw *d, unsigned int nr)
{
	struct drv_ring *r = v->ring[v->used];

	for (unsigned int i = nr; i--;) {
		if (r->packed)
			drv_raw_packed(r, (uint16_t)i, d[i].gpa, d[i].len, 5, d[i].flags, true);
		else
			drv_raw_desc(r, (uint16_t)i, d[i].gpa, d[i].len, d[i].flags,
				     d[i].next ? d[i].next : (uint16_t)(i + 1));
	}
	if (!r->packed) {
		drv_raw_avail(r, 0, 0);
		drv_raw_avail_idx(r, 1);
	}
	assert_int_equal(drv_kick(r), 0);
}

bool attack_is_used(const struct victim *v)
{
	const struct drv_ring *r = v->ring[v->used];

	if (r->packed)
		return le16_to_cpu((le16){ load_acquire(&r->pdesc[0].flags.wire) }) &
		       VIRTQ_DESC_F_USED;
	return le16_to_cpu((le16){ load_acquire(&r->used->idx.wire) }) == 1;
}

void attack_assert_reaction(struct victim *v)
{
	eventfd_t n;

	for (unsigned int i = 0; i < WAIT_MS; i++) {
		if (attack_is_used(v) || !eventfd_read(v->ring[v->used]->err_fd, &n))
			return;
		usleep(1000);
	}
	fail_msg("the chain was neither answered nor the ring broken");
}

void attack_chain(struct victim *v, const struct raw *d, unsigned int nr)
{
	attack_offer(v, d, nr);
	attack_assert_reaction(v);
}

static void nothing_but_an_empty_descriptor(struct victim *v)
{
	const struct raw d[] = { { 0, 0, 0, 0 } };

	attack_chain(v, d, 1);
}

static void table_outside_of_memory(struct victim *v)
{
	const struct raw d[] = { { 1ull << 50, 48, VIRTQ_DESC_F_INDIRECT, 0 } };

	attack_chain(v, d, 1);
}

/* Packed rings have neither of these indices. */
static void head_out_of_range(struct victim *v)
{
	struct drv_ring *r = v->ring[v->used];

	drv_raw_avail(r, 0, ATTACK_RING_SIZE);
	drv_raw_avail_idx(r, 1);
	drv_kick(r);
	attack_assert_reaction(v);
}

static void available_index_that_jumps(struct victim *v)
{
	struct drv_ring *r = v->ring[v->used];

	drv_raw_avail_idx(r, ATTACK_RING_SIZE + 1);
	drv_kick(r);
	attack_assert_reaction(v);
}

/*
 * The open file is shared: the front-end has it block again, fills it, and lets
 * the device write. It is not to wait for that on a loop that serves others.
 */
static void blocking_call(struct victim *v, int fd)
{
	const uint64_t most = UINT64_MAX - 1, one = 1;

	assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_CALL, v->used, fd), 0);
	assert_int_equal(fe_sync(v->fe), 0);
	/* A pipe takes many. */
	if (write(fd, &most, sizeof(most)) == sizeof(most))
		while (write(fd, &one, sizeof(one)) == sizeof(one))
			;
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
	attack_begin(v);
	attack_witness_serves();
	attack_assert_answers_or_hangs_up(v->fe);
}

static void call_eventfd_that_blocks(struct victim *v)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	blocking_call(v, fd);
	close(fd);
}

static void call_pipe_that_blocks(struct victim *v)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	blocking_call(v, fds[1]);
	close(fds[0]);
	close(fds[1]);
}

static void error_eventfd_that_blocks(struct victim *v)
{
	const uint64_t most = UINT64_MAX - 1;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_ERR, v->used, fd), 0);
	assert_int_equal(fe_sync(v->fe), 0);
	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	drv_raw_avail_idx(v->ring[v->used], ATTACK_RING_SIZE + 1);
	drv_kick(v->ring[v->used]);
	attack_witness_serves();
	attack_assert_answers_or_hangs_up(v->fe);
	close(fd);
}

/* Once in a while it blocks when the control thread writes to it. */
static void call_eventfd_that_blocks_at_times(struct victim *v)
{
	const uint64_t most = UINT64_MAX - 1;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int status, err = 0;
	pid_t other;

	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	other = fork();
	assert_true(other >= 0);
	while (!other)
		fcntl(fd, F_SETFL, 0);
	for (int i = 0; i < 300 && !err; i++)
		err = fe_vring_fd(v->fe, FE_SET_VRING_CALL, v->used, fd);
	assert_int_not_equal(err, -ETIMEDOUT);
	attack_assert_answers_or_hangs_up(v->fe);
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, &status, 0), other);
	close(fd);
}

const struct attack attacks_ring[] = {
	ATTACK_BOTH(nothing_but_an_empty_descriptor),
	ATTACK_BOTH(table_outside_of_memory),
	AT(ATTACK_RUNNING, head_out_of_range),
	AT(ATTACK_RUNNING, available_index_that_jumps),
	AT(ATTACK_RUNNING, call_eventfd_that_blocks),
	AT(ATTACK_RUNNING, call_pipe_that_blocks),
	AT(ATTACK_RUNNING, error_eventfd_that_blocks),
	AT(ATTACK_RUNNING, call_eventfd_that_blocks_at_times),
	{ 0 },
};
