/*
 * Image locks that QEMU, qemu-img and qemu-storage-daemon honour, and whose
 * locks are honoured here. Called by store_uring.c when it opens a file or a
 * block device. Never waits for a lock that somebody uses, for longer than it
 * takes to see that.
 *
 * Theory of operation
 *
 * QEMU gives each right to an image (read consistent data, write, write what
 * does not change the contents, resize) two bytes of the file: one that says
 * "I use this right", from byte 100 on, and one that says "I do not let others
 * use it", from byte 200 on. Whoever opens an image takes shared locks of the
 * open file description kind on its bytes, then asks of every right whether
 * the opposite byte is locked by someone else. Only shared locks are ever
 * taken, so a read-only descriptor will do, and all parties can hold theirs
 * at once and find out about each other. The bytes need not exist.
 *
 * The lock of a process that was killed lasts until the kernel has let go of its
 * io_uring, which holds the open file: some tens of milliseconds after the process
 * can be waited for (seen on 6.18, each time, under load). Whose a lock is cannot
 * be found out, so that one in use is tried as long.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* QEMU's numbers of the rights. */
enum image_right {
	RIGHT_CONSISTENT_READ,
	RIGHT_WRITE,
	RIGHT_WRITE_UNCHANGED,
	RIGHT_RESIZE,
	RIGHT_CNT,
};

#define TRIES 100
#define TRY_WAIT_NS 10000000

#define USED_BASE 100
#define UNSHARED_BASE 200

/* A virtual machine's disk: others may read along, nobody else writes. */
#define UNSHARED (1u << RIGHT_WRITE | 1u << RIGHT_RESIZE)

static struct flock byte_lock(short type, off_t byte)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

static int lock_byte(int fd, off_t byte)
{
	struct flock fl = byte_lock(F_RDLCK, byte);

	return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* Does anyone else hold the byte? */
static int byte_is_held(int fd, off_t byte)
{
	struct flock fl = byte_lock(F_WRLCK, byte);

	if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	return fl.l_type != F_UNLCK;
}

int image_lock(int fd, bool writable)
{
	unsigned int used = 1u << RIGHT_CONSISTENT_READ | (writable ? 1u << RIGHT_WRITE : 0);
	int ret = 0;

	/* Announce first, look second: of two that do so at once, at least one
	 * sees the other. */
	for (int r = 0; r < RIGHT_CNT && !ret; r++) {
		if (used & 1u << r)
			ret = lock_byte(fd, USED_BASE + r);
		if (!ret && UNSHARED & 1u << r)
			ret = lock_byte(fd, UNSHARED_BASE + r);
	}
	for (int r = 0; r < RIGHT_CNT && !ret; r++) {
		if (used & 1u << r)
			ret = byte_is_held(fd, UNSHARED_BASE + r);
		if (!ret && UNSHARED & 1u << r)
			ret = byte_is_held(fd, USED_BASE + r);
	}
	if (!ret)
		return 0;
	image_unlock(fd);
	return ret > 0 || ret == -EAGAIN || ret == -EACCES ? -EBUSY : ret;
}

int image_lock_soon(int fd, bool writable)
{
	const struct timespec wait = { .tv_nsec = TRY_WAIT_NS };
	int ret = image_lock(fd, writable);

	for (int i = 0; ret == -EBUSY && i < TRIES; i++) {
		nanosleep(&wait, NULL);
		ret = image_lock(fd, writable);
	}
	return ret;
}

void image_unlock(int fd)
{
	struct flock fl = { .l_type = F_UNLCK,
			    .l_whence = SEEK_SET,
			    .l_start = USED_BASE,
			    .l_len = UNSHARED_BASE + RIGHT_CNT - USED_BASE };

	fcntl(fd, F_OFD_SETLK, &fl);
}
