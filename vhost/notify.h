/*
 * Writing to the notification descriptors of front-ends, never for long.
 * Private to vhost.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_NOTIFY_H
#define RINGBOLT_VHOST_NOTIFY_H

#include <stdbool.h>

/*
 * Add one to an eventfd, or write as much to a pipe or a socket. 0; -EAGAIN if
 * it is full; -EINTR if this thread had to wait for it, and gave up; or another
 * -errno. Any thread.
 */
int notify_write(int fd);

/* Around the life of a thread that writes often. Without, each write costs some
 * system calls more. */
void notify_guard_begin(void);
void notify_guard_end(void);

#endif
