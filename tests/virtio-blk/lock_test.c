/*
 * Image locks among ourselves and with QEMU's programs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtio-blk/lock.h"

static int scratch(char *path)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	return fd;
}

static void two_writers_exclude_each_other(void **state)
{
	char path[] = RIG_DISK "/ringbolt-lock-XXXXXX";
	int a = scratch(path), b = open(path, O_RDWR);

	assert_int_equal(image_lock(a, true), 0);
	assert_int_equal(image_lock(b, true), -EBUSY);
	assert_int_equal(image_lock(b, false), -EBUSY);
	image_unlock(a);
	assert_int_equal(image_lock(b, true), 0);
	assert_int_equal(image_lock(a, true), -EBUSY);
	close(b); /* the lock goes with the open file */
	assert_int_equal(image_lock(a, true), 0);
	close(a);
	unlink(path);
}

static void readers_share_and_exclude_a_writer(void **state)
{
	char path[] = RIG_DISK "/ringbolt-lock-XXXXXX";
	int a, b, c;

	close(scratch(path));
	a = open(path, O_RDONLY);
	b = open(path, O_RDONLY);
	c = open(path, O_RDWR);
	assert_int_equal(image_lock(a, false), 0);
	assert_int_equal(image_lock(b, false), 0);
	assert_int_equal(image_lock(c, true), -EBUSY);
	close(a);
	assert_int_equal(image_lock(c, true), -EBUSY);
	close(b);
	assert_int_equal(image_lock(c, true), 0);
	close(c);
	unlink(path);
}

static void a_failed_lock_leaves_nothing_behind(void **state)
{
	char path[] = RIG_DISK "/ringbolt-lock-XXXXXX";
	int a = scratch(path), b = open(path, O_RDWR), c = open(path, O_RDWR);

	assert_int_equal(image_lock(a, true), 0);
	assert_int_equal(image_lock(b, true), -EBUSY);
	image_unlock(a);
	assert_int_equal(image_lock(c, true), 0);
	close(a);
	close(b);
	close(c);
	unlink(path);
}

static void an_open_store_locks_its_image(void **state)
{
	struct store *second;
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	rig_open(&r);
	assert_int_equal(rig_open_fails(&r), -EBUSY);
	assert_non_null(strstr(r.err, "is locked"));
	assert_non_null(strstr(r.err, r.path));
	r.conf.lock = STORE_LOCK_OFF;
	assert_int_equal(store_open(&r.conf, &second, r.err), 0);
	store_close(second, NULL, NULL);
	rig_close(&r);
	r.conf.lock = STORE_LOCK_OPEN;
	rig_open(&r);
	rig_fini(&r);
}

static void lock_start_locks_between_activate_and_deactivate(void **state)
{
	struct store *second;
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	r.conf.lock = STORE_LOCK_START;
	rig_open(&r);
	assert_int_equal(store_open(&r.conf, &second, r.err), 0);
	assert_int_equal(r.store->ops->activate(r.store), 0);
	assert_int_equal(second->ops->activate(second), -EBUSY);
	r.store->ops->deactivate(r.store);
	assert_int_equal(second->ops->activate(second), 0);
	second->ops->deactivate(second);
	store_close(second, NULL, NULL);
	rig_fini(&r);
}

/* Whatever else holds the open file: on some kernels an io_uring does, here a
 * child. */
static void a_closed_store_has_no_lock_though_its_file_is_open(void **state)
{
	struct rig r;
	pid_t pid;

	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	rig_open(&r);
	pid = fork();
	assert_true(pid >= 0);
	while (!pid)
		pause();
	rig_close(&r);
	rig_open(&r);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	rig_fini(&r);
}

/* As that of a process that has just been killed. */
static void a_lock_that_goes_soon_is_waited_for(void **state)
{
	struct rig r;
	int fd, pipe_fds[2];
	char c = 0;
	pid_t pid;

	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fd = open(r.path, O_RDWR);
		if (image_lock(fd, true) < 0 || write(pipe_fds[1], &c, 1) != 1)
			_exit(1);
		usleep(50000);
		_exit(0);
	}
	assert_int_equal(read(pipe_fds[0], &c, 1), 1);
	rig_open(&r);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	rig_fini(&r);
}

/* --- QEMU's programs ------------------------------------------------------------ */

static bool have(const char *program)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null 2>&1", program);
	return system(cmd) == 0;
}

static void qemu_img_respects_our_lock(void **state)
{
	char cmd[400];
	struct rig r;

	if (!have("qemu-io")) {
		print_message("skipped: no qemu-io\n");
		skip();
	}
	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	rig_open(&r);
	snprintf(cmd, sizeof(cmd), "qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1", r.path);
	assert_int_not_equal(system(cmd), 0);
	rig_close(&r);
	assert_int_equal(system(cmd), 0);
	rig_fini(&r);
}

/* A storage daemon that has the image open for a writer; -1 if none. */
static pid_t start_daemon(const char *image, const char *socket)
{
	char blockdev[400], export[400];
	pid_t pid;

	snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=d,filename=%s", image);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e,node-name=d,writable=on,addr.type=unix,addr.path=%s",
		 socket);
	pid = fork();
	if (!pid) {
		execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev", blockdev,
		       "--export", export, NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000 && access(socket, F_OK) < 0; i++)
		usleep(10000);
	return access(socket, F_OK) < 0 ? -1 : pid;
}

static void we_respect_the_lock_of_a_storage_daemon(void **state)
{
	char socket[300];
	struct rig r;
	pid_t pid;

	if (!have("qemu-storage-daemon")) {
		print_message("skipped: no qemu-storage-daemon\n");
		skip();
	}
	rig_init(&r);
	rig_file(&r, RIG_DISK, 1 << 20);
	snprintf(socket, sizeof(socket), "%s.sock", r.path);
	pid = start_daemon(r.path, socket);
	assert_true(pid > 0);
	assert_int_equal(rig_open_fails(&r), -EBUSY);
	assert_non_null(strstr(r.err, "is locked"));
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	rig_open(&r);
	/* And the daemon respects ours. */
	pid = fork();
	if (!pid) {
		char blockdev[400];

		snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=d,filename=%s", r.path);
		freopen("/dev/null", "w", stderr);
		execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev", blockdev,
		       "--export", "type=nbd,id=e,node-name=d,writable=on", "--nbd-server",
		       "addr.type=inet,addr.host=127.0.0.1,addr.port=0", NULL);
		_exit(127);
	}
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	unlink(socket);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_writers_exclude_each_other),
		cmocka_unit_test(readers_share_and_exclude_a_writer),
		cmocka_unit_test(a_failed_lock_leaves_nothing_behind),
		cmocka_unit_test(an_open_store_locks_its_image),
		cmocka_unit_test(lock_start_locks_between_activate_and_deactivate),
		cmocka_unit_test(a_closed_store_has_no_lock_though_its_file_is_open),
		cmocka_unit_test(a_lock_that_goes_soon_is_waited_for),
		cmocka_unit_test(qemu_img_respects_our_lock),
		cmocka_unit_test(we_respect_the_lock_of_a_storage_daemon),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
