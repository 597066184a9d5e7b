/*
 * Descriptors with one owner, and UNIX sockets.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_FD_H
#define RINGBOLT_CORE_FD_H

#include <stddef.h>

/* Close *fd if it is open (>= 0) and store new_fd: the only way to overwrite a
 * stored descriptor. Takes new_fd; -1 just closes. */
void fd_replace(int *fd, int new_fd);

/*
 * A listening stream socket bound to path, not blocking, close-on-exec.
 * A stale socket file (nobody accepts) is replaced; a live one is refused with
 * -EADDRINUSE; anything that is not a socket is never deleted: -EEXIST.
 * -ENAMETOOLONG if the path does not fit sun_path. Otherwise fd or -errno.
 */
int unix_listen(const char *path, int backlog);
/* The same with the permission bits of the socket file (the umask applies). */
int unix_listen_mode(const char *path, int backlog, unsigned int mode);

/* A connected stream socket, not blocking, close-on-exec; or -errno. */
int unix_connect(const char *path);

/* Unlink path only if it is still the socket that unix_listen() bound fd to.
 * Before fd is closed. */
void unix_unlink(const char *path, int fd);

/* SO_ACCEPTCONN: 1 listening, 0 connected, -errno if it is not a UNIX stream
 * socket. */
int unix_is_listening(int fd);

#endif
