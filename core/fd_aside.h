/*
 * Descriptors that somebody else gave us, and that may keep whoever touches them
 * waiting: on a file system that is a program of theirs (FUSE), a TCP socket that
 * lingers, a terminal. Even closing one may never end, so that is done by a thread
 * of its own.
 *
 * One thread uses a list, any; the closing is another's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_FD_ASIDE_H
#define RINGBOLT_CORE_FD_ASIDE_H

#include <stdbool.h>

struct fd_aside;

/*
 * Could a call with this descriptor wait for another program or machine? Does not
 * wait itself. False for memory files and anonymous inodes, pipes, UNIX sockets,
 * files of file systems that only a privileged user can have mounted, and DAX
 * devices.
 */
bool fd_may_wait(int fd);

/* Take fd into the list *a, a new one if NULL. Before fd_aside_close(). */
void fd_aside_add(struct fd_aside **a, int fd);
/* Begin to close what is in it. Does nothing if that has begun; NULL is fine. */
void fd_aside_close(struct fd_aside *a);
/* All are closed: *a is freed and NULL. True for NULL too. */
bool fd_aside_is_over(struct fd_aside **a);
/* Nobody asks any more: they are closed some time. *a becomes NULL. */
void fd_aside_abandon(struct fd_aside **a);

#endif
