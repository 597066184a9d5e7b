/*
 * Image locks, so that two writers do not open one image. Private to
 * virtio-blk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_LOCK_H
#define RINGBOLT_VIRTIO_BLK_LOCK_H

#include <stdbool.h>

/*
 * Lock the image behind fd for reading, or for reading and writing. Lasts until
 * image_unlock() or until the last descriptor of this open file is closed.
 * 0; -EBUSY if someone else holds a lock that excludes this one; -errno if the
 * file system cannot lock. Does not wait.
 */
int image_lock(int fd, bool writable);
/* The same, but a lock that excludes this one is given up to a second to go. */
int image_lock_soon(int fd, bool writable);
void image_unlock(int fd);

#endif
