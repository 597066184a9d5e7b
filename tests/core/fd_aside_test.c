/*
 * Descriptors that may keep whoever touches them waiting: which those are, and
 * that their closing keeps only a thread of its own. A call that waits after all
 * is a test that hangs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/fd.h"
#include "core/fd_aside.h"

static bool may_wait(int fd)
{
	bool answer;

	assert_true(fd >= 0);
	answer = fd_may_wait(fd);
	fd_replace(&fd, -1);
	return answer;
}

static void wait_over(struct fd_aside **a)
{
	while (!fd_aside_is_over(a))
		usleep(1000);
	assert_null(*a);
}

/* --- which ------------------------------------------------------------------------- */

static void what_front_ends_send_does_not_wait(void **state)
{
	char path[] = "/tmp/ringbolt-aside-XXXXXX";
	int pair[2], huge;

	assert_false(may_wait(memfd_create("a", MFD_CLOEXEC)));
	assert_false(may_wait(memfd_create("a", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
	huge = memfd_create("a", MFD_CLOEXEC | MFD_HUGETLB);
	if (huge >= 0)
		assert_false(may_wait(huge));
	assert_false(may_wait(eventfd(0, 0)));
	assert_false(may_wait(timerfd_create(CLOCK_MONOTONIC, 0)));
	assert_int_equal(pipe(pair), 0);
	assert_false(may_wait(pair[0]));
	assert_false(may_wait(pair[1]));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_false(may_wait(pair[0]));
	assert_false(may_wait(pair[1]));
	/* A file as memory, of a disk's file system or of tmpfs. */
	assert_false(may_wait(mkstemp(path)));
	assert_int_equal(unlink(path), 0);
	assert_false(may_wait(open("/dev/shm", O_TMPFILE | O_RDWR, 0600)));
}

static void what_they_have_no_business_to_send_may(void **state)
{
	assert_true(may_wait(socket(AF_INET, SOCK_STREAM, 0)));
	assert_true(may_wait(open("/dev/null", O_RDWR)));
	assert_true(may_wait(open("/", O_RDONLY)));
	assert_true(may_wait(open("/", O_PATH)));
	assert_true(fd_may_wait(-1));
}

/* --- a file system that does not answer ----------------------------------------------- */

/* One file; everything is answered until it is open, and nothing after that. */
struct hangfs {
	char dir[32];
	int dev;
	pthread_t thread;
	bool open; /* atomic */
};

union fuse_reply {
	struct fuse_init_out init;
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	struct fuse_attr_out attr;
};

static void attr_of(struct fuse_attr *a, uint64_t node)
{
	a->ino = node;
	a->mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	a->nlink = 1;
	a->size = 4096;
}

/* The length of the reply; 0: ENOSYS. */
static size_t answer(const struct fuse_in_header *in, union fuse_reply *r)
{
	switch (in->opcode) {
	case FUSE_INIT:
		r->init = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION,
						  .minor = FUSE_KERNEL_MINOR_VERSION,
						  .max_write = 4096 };
		return sizeof(r->init);
	case FUSE_LOOKUP:
		r->entry.nodeid = 2;
		attr_of(&r->entry.attr, 2);
		return sizeof(r->entry);
	case FUSE_GETATTR:
		attr_of(&r->attr.attr, in->nodeid);
		return sizeof(r->attr);
	case FUSE_OPEN:
		return sizeof(r->open);
	}
	return 0;
}

static void *hangfs_main(void *arg)
{
	struct hangfs *h = arg;
	static char buf[FUSE_MIN_READ_BUFFER + 4096];

	while (read(h->dev, buf, sizeof(buf)) > 0) {
		struct fuse_in_header in;
		struct {
			struct fuse_out_header out;
			union fuse_reply r;
		} reply = { 0 };
		size_t len;

		memcpy(&in, buf, sizeof(in));
		if (load_acquire(&h->open))
			continue; /* and never an answer */
		len = answer(&in, &reply.r);
		reply.out.unique = in.unique;
		reply.out.error = len ? 0 : -ENOSYS;
		reply.out.len = (uint32_t)(sizeof(reply.out) + len);
		/* Before open() returns. */
		if (in.opcode == FUSE_OPEN)
			store_release(&h->open, true);
		if (write(h->dev, &reply, reply.out.len) < 0)
			break;
	}
	return NULL;
}

/* An open file of it; skips where none can be mounted. */
static int hangfs_open(struct hangfs *h)
{
	char options[128], path[64];
	int fd;

	*h = (struct hangfs){ .dir = "/tmp/ringbolt-hangfs-XXXXXX" };
	h->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	assert_non_null(mkdtemp(h->dir));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", h->dev);
	if (h->dev < 0 || mount("none", h->dir, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		print_message("FUSE cannot be mounted here: %s\n", strerror(errno));
		fd_replace(&h->dev, -1);
		rmdir(h->dir);
		skip();
	}
	assert_int_equal(pthread_create(&h->thread, NULL, hangfs_main, h), 0);
	snprintf(path, sizeof(path), "%s/file", h->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* It is gone: whoever waits for it gets an error. */
static void hangfs_abort(struct hangfs *h)
{
	assert_int_equal(umount2(h->dir, MNT_FORCE | MNT_DETACH), 0);
	pthread_join(h->thread, NULL);
	fd_replace(&h->dev, -1);
	assert_int_equal(rmdir(h->dir), 0);
}

static void a_file_of_fuse_is_known_without_asking_fuse(void **state)
{
	struct fd_aside *a = NULL;
	struct hangfs h;
	int fd = hangfs_open(&h);

	assert_true(fd_may_wait(fd));
	fd_aside_add(&a, fd);
	fd_aside_close(a);
	usleep(20000);
	assert_false(fd_aside_is_over(&a));
	hangfs_abort(&h);
	wait_over(&a);
}

static void nobody_has_to_wait_for_the_end(void **state)
{
	struct fd_aside *a = NULL;
	struct hangfs h;
	int fd = hangfs_open(&h);

	fd_aside_add(&a, fd);
	fd_aside_abandon(&a);
	assert_null(a);
	hangfs_abort(&h);
}

/* --- closing ------------------------------------------------------------------------- */

static void all_of_a_list_are_closed(void **state)
{
	struct fd_aside *a = NULL;
	int fds[40];

	assert_true(fd_aside_is_over(&a));
	fd_aside_close(NULL);
	fd_aside_abandon(&a);
	for (int i = 0; i < 40; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
		fd_aside_add(&a, fds[i]);
	}
	assert_non_null(a);
	for (int i = 0; i < 40; i++)
		assert_true(fcntl(fds[i], F_GETFD) >= 0);
	fd_aside_close(a);
	fd_aside_close(a);
	wait_over(&a);
	for (int i = 0; i < 40; i++)
		assert_true(fcntl(fds[i], F_GETFD) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_front_ends_send_does_not_wait),
		cmocka_unit_test(what_they_have_no_business_to_send_may),
		cmocka_unit_test(all_of_a_list_are_closed),
		cmocka_unit_test(a_file_of_fuse_is_known_without_asking_fuse),
		cmocka_unit_test(nobody_has_to_wait_for_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
