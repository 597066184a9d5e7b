/*
 * Descriptors that may keep whoever touches them waiting: which they are, and
 * closing them. Called where descriptors come in from a front-end (vu_msg.c).
 * Never waits.
 *
 * Theory of operation
 *
 * To ask for the type of a file system (fstatfs), or for a file's size (fstat), is
 * to ask the program that serves it if that is FUSE, which any user may mount. So
 * nothing is asked but what the kernel knows by itself: whether a file has seals,
 * which only memory has; statx() of what is cached; and the kind of file handle.
 * FUSE has handles of the 64-bit kinds and no block device. On kernels that give
 * such handles to every file system without any of its own (6.6), those are taken for
 * it: ramfs, for one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/fd_aside.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif
/* include/linux/exportfs.h: FILEID_INO64_GEN and _PARENT. */
#define HANDLE_INO64 0x81
#define HANDLE_INO64_PARENT 0x82

struct fd_aside {
	int *fds;
	size_t nr, max;
	bool begun;
	enum {
		OPEN,
		OVER, /* all closed; the owner frees it */
		ABANDONED, /* the thread frees it */
	} state; /* atomic */
};

/* --- which ------------------------------------------------------------------------- */

static bool is_fuse(int fd)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = { .h.handle_bytes = MAX_HANDLE_SZ };
	int mount, flags = AT_EMPTY_PATH | AT_HANDLE_FID;

	if (name_to_handle_at(fd, "", &u.h, &mount, flags) < 0) {
		/* The flag is of kernel 6.5. */
		u.h.handle_bytes = MAX_HANDLE_SZ;
		if (errno != EINVAL || name_to_handle_at(fd, "", &u.h, &mount, AT_EMPTY_PATH) < 0)
			return false;
	}
	return u.h.handle_type == HANDLE_INO64 || u.h.handle_type == HANDLE_INO64_PARENT;
}

static bool is_unix_socket(int fd)
{
	socklen_t len = sizeof(int);
	int domain;

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX;
}

static bool is_dax(unsigned int major, unsigned int minor)
{
	char path[64], link[256];
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem", major, minor);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 4)
		return false;
	link[len] = '\0';
	return !strcmp(link + len - 4, "/dax");
}

bool fd_may_wait(int fd)
{
	struct statx st;

	if (fcntl(fd, F_GET_SEALS) >= 0)
		return false;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return true;
	switch (st.stx_mode & S_IFMT) {
	case 0: /* an anonymous inode, as an eventfd has */
	case S_IFIFO:
		return false;
	case S_IFSOCK:
		return !is_unix_socket(fd);
	case S_IFREG:
		return !st.stx_dev_major && is_fuse(fd);
	case S_IFCHR:
		return !is_dax(st.stx_rdev_major, st.stx_rdev_minor);
	}
	return true;
}

/* --- closing ------------------------------------------------------------------------ */

static void aside_free(struct fd_aside *a)
{
	free(a->fds);
	free(a);
}

void fd_aside_add(struct fd_aside **a, int fd)
{
	int *fds;

	assert(!*a || !(*a)->begun);
	if (!*a)
		*a = calloc(1, sizeof(**a));
	if (*a && (*a)->nr == (*a)->max) {
		size_t max = (*a)->max ? 2 * (*a)->max : 8;

		fds = realloc((*a)->fds, max * sizeof(*fds));
		if (fds) {
			(*a)->fds = fds;
			(*a)->max = max;
		}
	}
	if (!*a || (*a)->nr == (*a)->max) {
		/* It may wait, but nothing is lost. */
		fd_replace(&fd, -1);
		return;
	}
	(*a)->fds[(*a)->nr++] = fd;
}

static void close_all(struct fd_aside *a)
{
	for (size_t i = 0; i < a->nr; i++)
		fd_replace(&a->fds[i], -1);
	if (__atomic_exchange_n(&a->state, OVER, __ATOMIC_ACQ_REL) == ABANDONED)
		aside_free(a);
}

static void *thread_main(void *arg)
{
	pthread_setname_np(pthread_self(), "close");
	close_all(arg);
	return NULL;
}

void fd_aside_close(struct fd_aside *a)
{
	pthread_t thread;
	int ret;

	if (!a || a->begun)
		return;
	ret = pthread_create(&thread, NULL, thread_main, a);
	if (ret) {
		log_limited(LOG_LEVEL_WARNING, "a thread to close descriptors: %s", strerror(ret));
		return;
	}
	a->begun = true;
	pthread_detach(thread);
}

bool fd_aside_is_over(struct fd_aside **a)
{
	if (!*a)
		return true;
	fd_aside_close(*a); /* if there was no thread to be had */
	/* Pairs with the exchange in close_all(). */
	if (!(*a)->begun || load_acquire(&(*a)->state) != OVER)
		return false;
	aside_free(*a);
	*a = NULL;
	return true;
}

void fd_aside_abandon(struct fd_aside **a)
{
	if (!*a)
		return;
	fd_aside_close(*a);
	if (!(*a)->begun)
		close_all(*a);
	if (__atomic_exchange_n(&(*a)->state, ABANDONED, __ATOMIC_ACQ_REL) == OVER)
		aside_free(*a);
	*a = NULL;
}
