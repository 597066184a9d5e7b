/*
 * Descriptors and UNIX socket paths: what may be replaced, what may be deleted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"

static char dir[] = "/tmp/ringbolt-fd-XXXXXX";
static char path[64], other[64];

static int setup_group(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(dir);
}

static int teardown(void **state)
{
	unlink(path);
	unlink(other);
	return 0;
}

static bool exists(const char *p)
{
	struct stat st;

	return !lstat(p, &st);
}

static void replace_closes_the_old_one_once(void **state)
{
	int a = open("/dev/null", O_RDONLY), b = open("/dev/null", O_RDONLY), stored = a;

	fd_replace(&stored, b);
	assert_int_equal(stored, b);
	assert_int_equal(fcntl(a, F_GETFD), -1);
	fd_replace(&stored, b);
	assert_true(fcntl(b, F_GETFD) >= 0);
	fd_replace(&stored, -1);
	assert_int_equal(stored, -1);
	assert_int_equal(fcntl(b, F_GETFD), -1);
	fd_replace(&stored, -1);
}

static void a_listening_socket_accepts(void **state)
{
	int fd = unix_listen(path, 1), client;

	assert_true(fd >= 0);
	assert_int_equal(unix_is_listening(fd), 1);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	client = unix_connect(path);
	assert_true(client >= 0);
	assert_int_equal(unix_is_listening(client), 0);
	assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
	close(client);
	unix_unlink(path, fd);
	assert_false(exists(path));
	close(fd);
}

static void a_live_server_is_refused_and_lives_on(void **state)
{
	int fd = unix_listen(path, 0), client;

	assert_int_equal(unix_listen(path, 1), -EADDRINUSE);
	/* Even if its backlog is full. */
	client = unix_connect(path);
	assert_int_equal(unix_listen(path, 1), -EADDRINUSE);
	assert_true(exists(path));
	close(client);
	unix_unlink(path, fd);
	close(fd);
}

static void a_stale_socket_file_is_replaced(void **state)
{
	int fd = unix_listen(path, 1);

	close(fd);
	assert_true(exists(path));
	fd = unix_listen(path, 1);
	assert_true(fd >= 0);
	unix_unlink(path, fd);
	assert_false(exists(path));
	close(fd);
}

static void a_live_socket_of_another_kind_is_refused(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(unix_listen(path, 1), -EADDRINUSE);
	assert_true(exists(path));
	close(fd);
}

static void what_is_not_a_socket_is_never_deleted(void **state)
{
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(unix_listen(path, 1), -EEXIST);
	assert_true(exists(path));
	unlink(path);

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(unix_listen(path, 1), -EEXIST);
	assert_true(exists(path));
	rmdir(path);

	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(unix_listen(path, 1), -EEXIST);
	assert_true(exists(path));
	unlink(path);

	/* A link, even if it leads nowhere. */
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(unix_listen(path, 1), -EEXIST);
	assert_true(exists(path));
}

static void unlink_leaves_the_socket_of_another_alone(void **state)
{
	int ours = unix_listen(path, 1), theirs;

	/* Somebody takes the file away and listens there. */
	assert_int_equal(rename(path, other), 0);
	theirs = unix_listen(path, 1);
	assert_true(theirs >= 0);
	unix_unlink(path, ours);
	assert_true(exists(path));
	unix_unlink(path, theirs);
	assert_false(exists(path));
	close(ours);
	close(theirs);
}

static void unlink_ignores_a_socket_we_did_not_bind(void **state)
{
	int fd = unix_listen(path, 1), pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	unix_unlink(path, pair[0]);
	unix_unlink(path, -1);
	assert_true(exists(path));
	unix_unlink(path, fd);
	unix_unlink(path, fd);
	assert_false(exists(path));
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

static void the_mode_is_that_of_the_file(void **state)
{
	int fd = unix_listen_mode(path, 1, 0600);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	unix_unlink(path, fd);
	close(fd);
}

static void a_path_that_does_not_fit_is_refused(void **state)
{
	struct sockaddr_un addr;
	char name[sizeof(addr.sun_path) + 1];

	memset(name, 'x', sizeof(name));
	name[sizeof(addr.sun_path)] = '\0';
	assert_int_equal(unix_listen(name, 1), -ENAMETOOLONG);
	assert_int_equal(unix_connect(name), -ENAMETOOLONG);
	assert_int_equal(unix_listen("", 1), -ENOENT);
	assert_int_equal(unix_connect(""), -ENOENT);
}

static void a_missing_directory_is_told(void **state)
{
	assert_int_equal(unix_listen("/nonexistent/ringbolt/s", 1), -ENOENT);
	assert_int_equal(unix_connect(path), -ENOENT);
}

static void a_held_directory_lock_does_not_keep_us_from_starting(void **state)
{
	int lock = open(dir, O_RDONLY | O_DIRECTORY), fd;

	assert_int_equal(flock(lock, LOCK_EX), 0);
	fd = unix_listen(path, 1);
	assert_true(fd >= 0);
	unix_unlink(path, fd);
	close(fd);
	close(lock);
}

static void only_unix_stream_sockets_have_a_kind(void **state)
{
	int pair[2], file = open("/dev/null", O_RDONLY);

	assert_true(unix_is_listening(-1) < 0);
	assert_true(unix_is_listening(file) < 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_true(unix_is_listening(pair[0]) < 0);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(unix_is_listening(pair[0]), 0);
	close(pair[0]);
	close(pair[1]);
	close(file);
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(replace_closes_the_old_one_once),
		T(a_listening_socket_accepts),
		T(a_live_server_is_refused_and_lives_on),
		T(a_stale_socket_file_is_replaced),
		T(a_live_socket_of_another_kind_is_refused),
		T(what_is_not_a_socket_is_never_deleted),
		T(unlink_leaves_the_socket_of_another_alone),
		T(unlink_ignores_a_socket_we_did_not_bind),
		T(the_mode_is_that_of_the_file),
		T(a_path_that_does_not_fit_is_refused),
		T(a_missing_directory_is_told),
		T(a_held_directory_lock_does_not_keep_us_from_starting),
		T(only_unix_stream_sockets_have_a_kind),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
