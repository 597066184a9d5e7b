/*
 * Malformed messages, and well-formed ones at the wrong time. Used by
 * attack_test. What a back-end may do about one is left to it where the
 * specification does: say no, or close the connection.
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

/* --- framing ---------------------------------------------------------------- */

static void half_a_header(struct victim *v)
{
	const uint32_t half[1] = { FE_GET_FEATURES };

	assert_int_equal(fe_send_raw(v->fe, half, sizeof(half), NULL, 0), 0);
	usleep(5000);
}

static void header_without_payload(struct victim *v)
{
	const struct fe_hdr h = { FE_SET_FEATURES, FE_VERSION, 8 };

	assert_int_equal(fe_send_raw(v->fe, &h, sizeof(h), NULL, 0), 0);
	usleep(5000);
}

static void byte_by_byte(struct victim *v)
{
	const struct fe_hdr h = { FE_GET_FEATURES, FE_VERSION, 0 };
	struct fe_msg reply;

	for (size_t i = 0; i < sizeof(h); i++) {
		assert_int_equal(fe_send_raw(v->fe, (const uint8_t *)&h + i, 1, NULL, 0), 0);
		usleep(500);
	}
	assert_int_equal(fe_recv(v->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, FE_GET_FEATURES);
}

static void huge_size(struct victim *v)
{
	const struct fe_hdr h = { FE_SET_MEM_TABLE, FE_VERSION, UINT32_MAX };

	assert_int_equal(fe_send_raw(v->fe, &h, sizeof(h), NULL, 0), 0);
	assert_true(fe_hung_up(v->fe));
}

static void every_request_with_every_small_size(struct victim *v)
{
	uint8_t zero[48] = { 0 };

	/* Each connection may end at any of them: only no answer would be wrong. */
	for (uint32_t req = 0; req < FE_REQ_END + 3; req++) {
		for (uint32_t len = 0; len <= sizeof(zero); len += 4) {
			if (fe_send(v->fe, req, FE_VERSION, zero, len, NULL, 0))
				return;
		}
	}
}

static void wrong_version(struct victim *v)
{
	assert_int_equal(fe_send(v->fe, FE_GET_FEATURES, 2, NULL, 0, NULL, 0), 0);
	assert_true(fe_hung_up(v->fe));
}

static void unknown_request(struct victim *v)
{
	attack_assert_request_refused(v, 4711, NULL, 0);
}

static void a_reply_nobody_asked_for(struct victim *v)
{
	uint64_t x = 0;

	fe_send(v->fe, FE_GET_FEATURES, FE_VERSION | FE_FLAG_REPLY, &x, sizeof(x), NULL, 0);
	attack_assert_answers_or_hangs_up(v->fe);
}

/* --- descriptors ------------------------------------------------------------- */

static void send_with_fds(struct victim *v, uint32_t request, const void *payload, uint32_t len,
			  unsigned int nr)
{
	int fds[FE_FDS_MAX] = { 0 };

	for (unsigned int i = 0; i < nr; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
	fe_send(v->fe, request, FE_VERSION, payload, len, fds, nr);
	for (unsigned int i = 0; i < nr; i++)
		close(fds[i]);
	attack_assert_answers_or_hangs_up(v->fe);
}

static void fds_nobody_asked_for(struct victim *v)
{
	send_with_fds(v, FE_GET_FEATURES, NULL, 0, 1);
}

static void as_many_fds_as_fit(struct victim *v)
{
	send_with_fds(v, FE_GET_FEATURES, NULL, 0, FE_FDS_MAX);
}

static void more_fds_than_regions(struct victim *v)
{
	struct fe_mem_table t = { .nr = 1 };

	t.region[0] = (struct fe_mem_region){ 1 << 20, 4096, 1 << 20, 0 };
	send_with_fds(v, FE_SET_MEM_TABLE, &t, 40, 5);
}

static void two_kick_fds(struct victim *v)
{
	uint64_t index = 0;

	send_with_fds(v, FE_SET_VRING_KICK, &index, sizeof(index), 2);
}

static void missing_kick_fd(struct victim *v)
{
	uint64_t index = 0;

	attack_assert_request_refused(v, FE_SET_VRING_KICK, &index, sizeof(index));
}

static void missing_region_fd(struct victim *v)
{
	struct fe_mem_table t = { .nr = 1 };

	t.region[0] = (struct fe_mem_region){ 1 << 20, 4096, 1 << 20, 0 };
	attack_assert_request_refused(v, FE_SET_MEM_TABLE, &t, 40);
}

static void call_fds_again_and_again(struct victim *v)
{
	for (unsigned int i = 0; i < MANY; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_CALL, i % ATTACK_QUEUES, fd), 0);
		assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_ERR, i % ATTACK_QUEUES, fd), 0);
		close(fd);
	}
}

static void kick_fd_that_is_a_file(struct victim *v)
{
	int fd = memfd_create("not-an-eventfd", MFD_CLOEXEC);

	fe_vring_fd(v->fe, FE_SET_VRING_KICK, 0, fd);
	close(fd);
	attack_assert_answers_or_hangs_up(v->fe);
}

static void back_end_channels_again_and_again(struct victim *v)
{
	for (unsigned int i = 0; i < MANY; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		fe_send(v->fe, FE_SET_BACKEND_REQ_FD, FE_VERSION, NULL, 0, &fd, 1);
		close(fd);
	}
	attack_assert_answers_or_hangs_up(v->fe);
}

/* --- the rest --------------------------------------------------------------------- */

static void features_that_were_not_offered(struct victim *v)
{
	uint64_t all = ~0ull;

	attack_assert_request_refused(v, FE_SET_FEATURES, &all, sizeof(all));
}

static void features_changed_while_rings_run(struct victim *v)
{
	fe_set_u64(v->fe, FE_SET_FEATURES, v->fe->features ^ (1ull << VIRTIO_F_RING_PACKED));
	drv_kick(v->ring[0]);
	attack_assert_answers_or_hangs_up(v->fe);
}

static void configuration_beyond_its_end(struct victim *v)
{
	struct {
		struct fe_config_hdr h;
		uint8_t data[FE_CONFIG_MAX];
	} c = { 0 };
	const struct fe_config_hdr wrong[] = {
		{ .offset = FE_CONFIG_MAX, .size = 1 }, { .offset = UINT32_MAX, .size = 2 },
		{ .offset = 0, .size = UINT32_MAX },	{ .offset = 8, .size = 0 },
		{ .offset = 250, .size = 100 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		c.h = wrong[i];
		if (fe_send(v->fe, FE_SET_CONFIG, FE_VERSION, &c, sizeof(c), NULL, 0) ||
		    fe_send(v->fe, FE_GET_CONFIG, FE_VERSION, &c, sizeof(c), NULL, 0))
			return;
	}
	usleep(5000);
}

static void log_that_wraps_or_is_not_there(struct victim *v)
{
	struct fe_log log = { .size = UINT64_MAX, .offset = 4096 };
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg reply;

	assert_int_equal(ftruncate(fd, 4096), 0);
	fe_send(v->fe, FE_SET_LOG_BASE, FE_VERSION, &log, sizeof(log), &fd, 1);
	close(fd);
	assert_int_not_equal(fe_recv(v->fe, &reply), -ETIMEDOUT);
	fe_send(v->fe, FE_SET_LOG_BASE, FE_VERSION, &log, sizeof(log), NULL, 0);
	assert_int_not_equal(fe_recv(v->fe, &reply), -ETIMEDOUT);
}

static void reset_under_requests(struct victim *v)
{
	attack_begin(v);
	assert_int_not_equal(fe_request(v->fe, FE_RESET_DEVICE, NULL, 0, NULL, 0), -ETIMEDOUT);
	assert_int_not_equal(fe_request(v->fe, FE_RESET_OWNER, NULL, 0, NULL, 0), -ETIMEDOUT);
	attack_assert_answers_or_hangs_up(v->fe);
}

/* The messages of a normal start, one at a time; false: there are no more. */
static bool take_step(struct victim *v, unsigned int step, int fd)
{
	const uint64_t uva = v->fe->region[v->region].uva;
	struct fe_vring_addr a = { .desc_uva = uva,
				   .avail_uva = uva + 4096,
				   .used_uva = uva + 8192 };
	int err = 0;

	switch (step) {
	case 0:
		err = fe_negotiate(v->fe, 1ull << VIRTIO_F_VERSION_1,
				   (1ull << FE_PROTO_MQ) | 1ull << FE_PROTO_REPLY_ACK |
					   1ull << FE_PROTO_BACKEND_REQ);
		break;
	case 1:
		err = fe_mem_share(v->fe);
		break;
	case 2:
		err = fe_vring_num(v->fe, 0, ATTACK_RING_SIZE);
		break;
	case 3:
		err = fe_vring_base(v->fe, 0, 0);
		break;
	case 4:
		err = fe_vring_addr(v->fe, &a);
		break;
	case 5:
		err = fe_vring_fd(v->fe, FE_SET_VRING_CALL, 0, fd);
		break;
	case 6:
		err = fe_vring_fd(v->fe, FE_SET_VRING_KICK, 0, fd);
		break;
	case 7:
		err = fe_vring_enable(v->fe, 0, true);
		break;
	case 8:
		err = fe_mem_unshare(v->fe, v->region);
		break;
	default:
		return false;
	}
	assert_int_equal(err, 0);
	return true;
}

static void gone_after_each_step(struct victim *v)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	for (unsigned int last = 0; last < 10; last++) {
		for (unsigned int step = 0; step < last && take_step(v, step, fd); step++)
			;
		fe_disconnect(v->fe);
		assert_int_equal(fe_connect(v->fe, v->path), 0);
	}
	close(fd);
}

/* User-mode Linux notifies through pipes; a reader that is gone is an attack. */
static void call_descriptor_is_a_pipe_without_reader(struct victim *v)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_CALL, v->used, fds[1]), 0);
	close(fds[0]);
	close(fds[1]);
	drv_notify(v->ring[v->used], true);
	attack_use(v);
}

/* A reader that never reads: its pipe is full soon. */
static void call_descriptor_is_a_pipe_that_fills(struct victim *v)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) >= 4096);
	assert_int_equal(fe_vring_fd(v->fe, FE_SET_VRING_CALL, v->used, fds[1]), 0);
	close(fds[1]);
	for (unsigned int i = 0; i < 2000; i++) {
		drv_notify(v->ring[v->used], true);
		attack_use(v);
	}
	close(fds[0]);
}

/* Random requests with random contents, from a fixed seed. */
static void noise(struct victim *v)
{
	uint32_t seed = 4711, payload[40], len;

	for (unsigned int i = 0; i < 2000; i++) {
		int fd = memfd_create("noise", MFD_CLOEXEC);

		assert_int_equal(ftruncate(fd, 1 << 16), 0);
		len = fe_random(&seed) % (sizeof(payload) + 1);
		/* Small numbers are closer to what makes sense. */
		for (unsigned int k = 0; k < ARRAY_SIZE(payload); k++)
			payload[k] = fe_random(&seed) >> (fe_random(&seed) % 32);
		if (fe_send(v->fe, fe_random(&seed) % FE_REQ_END, FE_VERSION, payload, len, &fd,
			    fe_random(&seed) % 2))
			assert_int_equal(fe_connect(v->fe, v->path), 0);
		close(fd);
	}
}

const struct attack attacks_msg[] = {
	AT(ATTACK_CONNECTED, half_a_header),
	AT(ATTACK_CONNECTED, header_without_payload),
	AT(ATTACK_CONNECTED, byte_by_byte),
	AT(ATTACK_CONNECTED, huge_size),
	AT(ATTACK_CONNECTED, every_request_with_every_small_size),
	AT(ATTACK_NEGOTIATED, every_request_with_every_small_size),
	AT(ATTACK_CONNECTED, wrong_version),
	AT(ATTACK_NEGOTIATED, unknown_request),
	AT(ATTACK_CONNECTED, a_reply_nobody_asked_for),
	AT(ATTACK_CONNECTED, fds_nobody_asked_for),
	AT(ATTACK_CONNECTED, as_many_fds_as_fit),
	AT(ATTACK_NEGOTIATED, more_fds_than_regions),
	AT(ATTACK_NEGOTIATED, two_kick_fds),
	AT(ATTACK_NEGOTIATED, missing_kick_fd),
	AT(ATTACK_NEGOTIATED, missing_region_fd),
	AT(ATTACK_RUNNING, call_fds_again_and_again),
	AT(ATTACK_RUNNING, kick_fd_that_is_a_file),
	AT(ATTACK_NEGOTIATED, back_end_channels_again_and_again),
	AT(ATTACK_NEGOTIATED, features_that_were_not_offered),
	AT(ATTACK_RUNNING, features_changed_while_rings_run),
	AT(ATTACK_RUNNING, configuration_beyond_its_end),
	AT(ATTACK_RUNNING, log_that_wraps_or_is_not_there),
	AT(ATTACK_RUNNING, reset_under_requests),
	AT(ATTACK_CONNECTED, gone_after_each_step),
	AT(ATTACK_RUNNING, call_descriptor_is_a_pipe_without_reader),
	AT(ATTACK_RUNNING, call_descriptor_is_a_pipe_that_fills),
	AT(ATTACK_NEGOTIATED, noise),
	AT(ATTACK_RUNNING, noise),
	{ 0 },
};
