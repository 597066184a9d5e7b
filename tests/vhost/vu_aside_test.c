/*
 * A front-end sends descriptors whose closing waits: sockets of TCP with data that
 * nobody fetches, which linger for a quarter of an hour. Wherever one comes in, the
 * connection ends, the witness is served, and the device takes a front-end again when
 * they are closed. Whoever waits after all is a test that hangs. Files of FUSE, which
 * wait in more calls than that: tests/core/fd_aside_test.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINGER_SECONDS 900

/* A connection whose near end waits when it is closed, until the far end has read. */
struct lingering {
	int near, far;
};

static void lingering_fill(int fd)
{
	static const char bytes[4096];
	int size = 4096;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(errno, EAGAIN);
}

static struct lingering lingering_open(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = LINGER_SECONDS };
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int size = 4096, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(addr);
	struct lingering l;

	assert_true(listener >= 0);
	assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
	l.near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(l.near, (struct sockaddr *)&addr, sizeof(addr)), 0);
	l.far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(l.far >= 0);
	close(listener);
	lingering_fill(l.near);
	assert_int_equal(setsockopt(l.near, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	return l;
}

/* The far end reads, until the near one has been closed. */
static void lingering_end(struct lingering *l)
{
	char bytes[4096];

	while (read(l->far, bytes, sizeof(bytes)) > 0)
		;
	close(l->far);
}

/* Send nr descriptors, of which the last one is the near end, and keep none. */
static void send_with(struct kit_dev *kd, uint32_t request, const void *payload, uint32_t len,
		      struct lingering *l, unsigned int nr)
{
	int fds[FE_FDS_MAX];

	for (unsigned int i = 0; i + 1 < nr; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
	fds[nr - 1] = l->near;
	assert_int_equal(fe_send(&kd->fe, request, FE_VERSION, payload, len, fds, nr), 0);
	for (unsigned int i = 0; i < nr; i++)
		close(fds[i]);
}

/* The victim has disconnected its front-end and waits; others are served. */
static void expect_apart(struct kit *kit)
{
	kit_until(kit, kit_is(&kit->victim, "waiting"));
	kit_serve(kit, &kit->witness);
}

/* Soon, not at once: the device looks now and then whether they are closed. */
static void expect_service(struct kit *kit)
{
	struct kit_dev *kd = &kit->victim;
	uint64_t features;

	assert_int_equal(fe_connect(&kd->fe, kd->path), 0);
	kd->fe.timeout_ms = FE_TIMEOUT_MS;
	assert_int_equal(fe_get_u64(&kd->fe, FE_GET_FEATURES, &features), 0);
	fe_disconnect(&kd->fe);
	kit_until(kit, kit_is(kd, "waiting"));
	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	kit_serve(kit, &kit->victim);
	kit_bring_down(kit, &kit->victim);
}

static void in_any_message(void **state)
{
	static const struct {
		uint32_t request, len;
		unsigned int nr_fds;
	} messages[] = {
		{ FE_SET_VRING_KICK, 8, 1 },
		{ FE_SET_VRING_CALL, 8, 1 },
		{ FE_SET_VRING_ERR, 8, 1 },
		{ FE_SET_MEM_TABLE, 40, 1 },
		{ FE_ADD_MEM_REG, 40, 1 },
		{ FE_SET_LOG_BASE, 16, 1 },
		{ FE_SET_BACKEND_REQ_FD, 0, 1 },
		{ FE_SET_INFLIGHT_FD, 24, 1 },
		/* Not its place. */
		{ FE_GET_FEATURES, 0, 1 },
		{ 200, 8, 3 },
		/* More than a message has, and than there can be. */
		{ FE_SET_MEM_TABLE, 264, 8 },
		{ FE_SET_OWNER, 0, 9 },
		{ FE_SET_OWNER, 0, 253 },
	};
	static const uint64_t payload[40];
	struct kit *kit = *state;

	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		struct kit_census before = kit_census();
		struct lingering l = lingering_open();

		kit_bring_up(kit, &kit->victim, i % 2 ? KIT_RUNNING : KIT_NEGOTIATED, 0);
		send_with(&kit->victim, messages[i].request, payload, messages[i].len, &l,
			  messages[i].nr_fds);
		assert_true(fe_hung_up(&kit->victim.fe));
		expect_apart(kit);
		kit_bring_down(kit, &kit->victim);
		lingering_end(&l);
		expect_service(kit);
		kit_assert_census(before);
	}
}

static void in_a_message_that_nobody_reads(void **state)
{
	struct kit_census before = kit_census();
	struct lingering l = lingering_open();
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	/* No version: the stream ends here. */
	assert_int_equal(fe_send(&kd->fe, FE_SET_OWNER, 0, NULL, 0, NULL, 0), 0);
	send_with(kd, FE_SET_OWNER, NULL, 0, &l, 1);
	expect_apart(kit);
	kit_bring_down(kit, kd);
	lingering_end(&l);
	expect_service(kit);
	kit_assert_census(before);
}

static void by_a_front_end_that_leaves(void **state)
{
	struct kit_census before = kit_census();
	struct lingering l = lingering_open();
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	send_with(kd, FE_SET_OWNER, NULL, 0, &l, 1);
	fe_disconnect(&kd->fe);
	expect_apart(kit);
	kit_bring_down(kit, kd);
	lingering_end(&l);
	expect_service(kit);
	kit_assert_census(before);
}

/* Through the channel on which the device asks and the front-end replies. */
static void in_a_reply(void **state)
{
	struct kit_census before = kit_census();
	struct lingering l = lingering_open();
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int channel;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	channel = kd->fe.sock;
	assert_true(kd->fe.backend_sock >= 0);
	kd->fe.sock = kd->fe.backend_sock;
	send_with(kd, FE_SET_OWNER, NULL, 0, &l, 1);
	kd->fe.sock = channel;
	expect_apart(kit);
	kit_bring_down(kit, kd);
	lingering_end(&l);
	expect_service(kit);
	kit_assert_census(before);
}

/* While they are not closed nobody else is served, or there would be more and more. */
static void the_next_front_end_waits(void **state)
{
	struct lingering l = lingering_open();
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t features;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	send_with(kd, FE_SET_OWNER, NULL, 0, &l, 1);
	expect_apart(kit);
	kit_bring_down(kit, kd);
	assert_int_equal(fe_connect(&kd->fe, kd->path), 0);
	kd->fe.timeout_ms = 300;
	assert_int_equal(fe_get_u64(&kd->fe, FE_GET_FEATURES, &features), -ETIMEDOUT);
	assert_true(kit_is(kd, "waiting"));
	fe_disconnect(&kd->fe);
	lingering_end(&l);
	expect_service(kit);
}

static void destroyed(void *opaque)
{
	((struct kit_dev *)opaque)->gone = true;
}

static void destroy(struct kit *kit)
{
	struct kit_dev *kd = &kit->victim;

	kd->gone = false;
	vu_dev_destroy(kd->skel.dev, destroyed, kd);
	kit_until(kit, kd->gone);
	kd->skel.dev = NULL;
}

static void a_device_may_be_destroyed_meanwhile(void **state)
{
	struct lingering l = lingering_open();
	struct kit *kit = *state;

	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	send_with(&kit->victim, FE_SET_OWNER, NULL, 0, &l, 1);
	expect_apart(kit);
	destroy(kit);
	kit_serve(kit, &kit->witness);
	lingering_end(&l);
}

static void or_before_it_has_read_them(void **state)
{
	struct lingering l = lingering_open();
	struct kit *kit = *state;

	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	send_with(&kit->victim, FE_SET_OWNER, NULL, 0, &l, 1);
	destroy(kit);
	kit_serve(kit, &kit->witness);
	lingering_end(&l);
}

/* By one that waits for its turn. */
static void or_before_it_has_accepted_who_sends_them(void **state)
{
	struct lingering l = lingering_open();
	struct kit *kit = *state;
	struct kit_dev second = { 0 };

	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	fe_init(&second.fe);
	assert_int_equal(fe_connect(&second.fe, kit->victim.path), 0);
	send_with(&second, FE_SET_OWNER, NULL, 0, &l, 1);
	destroy(kit);
	kit_serve(kit, &kit->witness);
	lingering_end(&l);
	fe_close(&second.fe);
}

static void or_while_some_are_being_closed_and_others_come(void **state)
{
	struct lingering first = lingering_open(), second = lingering_open();
	struct kit *kit = *state;
	struct kit_dev next = { 0 };

	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	send_with(&kit->victim, FE_SET_OWNER, NULL, 0, &first, 1);
	expect_apart(kit);
	fe_init(&next.fe);
	assert_int_equal(fe_connect(&next.fe, kit->victim.path), 0);
	send_with(&next, FE_SET_OWNER, NULL, 0, &second, 1);
	destroy(kit);
	kit_serve(kit, &kit->witness);
	lingering_end(&first);
	lingering_end(&second);
	fe_close(&next.fe);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
	const struct CMUnitTest tests[] = {
		TEST(in_any_message),
		TEST(in_a_message_that_nobody_reads),
		TEST(by_a_front_end_that_leaves),
		TEST(in_a_reply),
		TEST(the_next_front_end_waits),
		TEST(a_device_may_be_destroyed_meanwhile),
		TEST(or_before_it_has_read_them),
		TEST(or_before_it_has_accepted_who_sends_them),
		TEST(or_while_some_are_being_closed_and_others_come),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
