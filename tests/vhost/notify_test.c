/*
 * notify.c: a write to a descriptor that was made to block ends, whatever kind of
 * descriptor it is and whichever thread writes; and a thread that does not write
 * is left alone.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"
#include "vhost/notify.h"

/* One of each kind; [0] is written to. */
enum kind {
	EVENTFD,
	PIPE,
	SOCKET,
	KIND_CNT,
};

static void open_kind(enum kind kind, int fds[2])
{
	int ends[2];

	fds[1] = -1;
	switch (kind) {
	case EVENTFD:
		fds[0] = eventfd(0, EFD_CLOEXEC);
		break;
	case PIPE:
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		fds[0] = ends[1];
		fds[1] = ends[0];
		break;
	default:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	}
	assert_true(fds[0] >= 0);
}

static void close_kind(int fds[2])
{
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
}

/* And then it blocks. */
static void fill(enum kind kind, int fd)
{
	const uint64_t most = UINT64_MAX - 1, one = 1;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK | O_RDWR), 0);
	if (kind == EVENTFD)
		assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	while (write(fd, &one, sizeof(one)) == sizeof(one))
		;
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fcntl(fd, F_SETFL, O_RDWR), 0);
}

static void a_write_arrives(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	assert_int_equal(notify_write(fd), 0);
	notify_guard_begin();
	assert_int_equal(notify_write(fd), 0);
	assert_int_equal(notify_write(fd), 0);
	notify_guard_end();
	assert_int_equal(eventfd_read(fd, &count), 0);
	assert_int_equal(count, 3);
	close(fd);
}

static void a_full_descriptor_says_so(void **state)
{
	for (enum kind kind = 0; kind < KIND_CNT; kind++) {
		int fds[2];

		open_kind(kind, fds);
		fill(kind, fds[0]);
		/* Blocking as it is: without a guard it is looked at before. */
		assert_int_equal(notify_write(fds[0]), -EAGAIN);
		assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK | O_RDWR), 0);
		notify_guard_begin();
		assert_int_equal(notify_write(fds[0]), -EAGAIN);
		notify_guard_end();
		close_kind(fds);
	}
}

static void a_write_that_waits_ends(void **state)
{
	for (enum kind kind = 0; kind < KIND_CNT; kind++) {
		int fds[2];

		open_kind(kind, fds);
		fill(kind, fds[0]);
		notify_guard_begin();
		for (int i = 0; i < 5; i++)
			assert_int_equal(notify_write(fds[0]), -EINTR);
		notify_guard_end();
		close_kind(fds);
	}
}

static void a_thread_that_writes_no_more_is_left_alone(void **state)
{
	const struct timespec nap = { .tv_nsec = 100000000 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), naps = 0;

	notify_guard_begin();
	assert_int_equal(notify_write(fd), 0);
	while (nanosleep(&nap, NULL) && naps < 20)
		naps++;
	assert_true(naps < 20);
	notify_guard_end();
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_arrives),
		cmocka_unit_test(a_full_descriptor_says_so),
		cmocka_unit_test(a_write_that_waits_ends),
		cmocka_unit_test(a_thread_that_writes_no_more_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
