/*
 * The dirty log of a live migration: one bit for each 4 KiB page that the
 * device wrote, in memory the front-end shares and reads meanwhile.
 * vhost-user, "Migration". Private to vhost.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_DIRTY_H
#define RINGBOLT_VHOST_DIRTY_H

#include <stdint.h>

#include "vhost/gmem.h"

struct dirty_log;

/* Map size bytes of fd at offset. Takes fd, always. -EINVAL if the range is
 * empty, wraps or exceeds the file. Control thread. */
int dirty_log_create(int fd, uint64_t size, uint64_t offset, struct dirty_log **log);
/* No ring may use it any more. Accepts NULL. Control thread. */
void dirty_log_destroy(struct dirty_log *log);

/* Mark the pages of [addr, addr + len). What the log is too small for is left
 * out. Any thread: the bits are set atomically. */
void dirty_log_mark(struct dirty_log *log, gpa_t addr, uint64_t len);

#endif
