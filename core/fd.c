/*
 * Descriptors with one owner, and UNIX sockets. Called by whoever stores a
 * descriptor or serves a socket path; never deletes a path that it has not
 * found to be a socket without a server, or bound itself.
 *
 * Theory of operation
 *
 * Between bind() and listen(), a socket looks just like one whose server died,
 * and two servers that start at once may both find the same stale file. So the
 * whole of "probe, unlink, bind, listen" happens under an advisory lock of the
 * directory, which every program of this project takes.
 *
 * What a socket file is worth is its inode: unix_unlink() must not delete the
 * file of a server that has taken the path over. A descriptor does not tell
 * which inode it is bound to, so unix_listen() keeps a record. The inode cannot
 * be reused while the socket is open: the socket holds a reference to it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"

#define DIR_LOCK_TRIES 50
#define DIR_LOCK_WAIT_NS 2000000

/* A path we bound. Control thread only. */
struct bound {
	struct bound *next;
	ino_t sock_ino; /* of the descriptor */
	dev_t dev; /* of the file */
	ino_t ino;
};

static struct bound *all_bound;

void fd_replace(int *fd, int new_fd)
{
	if (*fd >= 0 && *fd != new_fd)
		close(*fd);
	*fd = new_fd;
}

static int fill_address(struct sockaddr_un *addr, const char *path)
{
	size_t len = strlen(path);

	if (!len)
		return -ENOENT;
	if (len >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(addr->sun_path, path, len + 1);
	return 0;
}

static int stream_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/*
 * Lock the directory of path, for some time: a stranger who holds the lock must
 * not keep us from starting. The descriptor to close, or -1 without a lock.
 */
static int lock_directory(const char *path)
{
	const struct timespec wait = { .tv_nsec = DIR_LOCK_WAIT_NS };
	const char *slash = strrchr(path, '/');
	struct sockaddr_un room;
	size_t len;
	int fd;

	if (!slash) {
		strcpy(room.sun_path, ".");
	} else {
		len = slash == path ? 1 : (size_t)(slash - path);
		memcpy(room.sun_path, path, len);
		room.sun_path[len] = '\0';
	}
	fd = open(room.sun_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (int i = 0; i < DIR_LOCK_TRIES; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return fd;
		nanosleep(&wait, NULL);
	}
	close(fd);
	return -1;
}

/* 0: the path is now free. -EADDRINUSE, -EEXIST or another -errno: it is not. */
static int remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd, res;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;

	fd = stream_socket();
	if (fd < 0)
		return fd;
	res = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? errno : 0;
	close(fd);
	if (res == EACCES || res == EPERM)
		return -res;
	/* Everything else, a full backlog or a socket of another type included,
	 * means that someone holds it. */
	if (res != ECONNREFUSED)
		return res == ENOENT ? 0 : -EADDRINUSE;
	return unlink(addr->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_path(int fd, const struct sockaddr_un *addr)
{
	int res;

	if (!bind(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	res = remove_stale(addr);
	if (res < 0)
		return res;
	return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;
}

static struct bound **find_bound(ino_t sock_ino)
{
	struct bound **p = &all_bound;

	while (*p && (*p)->sock_ino != sock_ino)
		p = &(*p)->next;
	return p;
}

static int remember_bound(int fd, const char *path)
{
	struct stat sock, file;
	struct bound *b;

	if (fstat(fd, &sock) < 0 || lstat(path, &file) < 0)
		return -errno;
	/* A record of the same number is of a socket closed without unix_unlink(). */
	b = *find_bound(sock.st_ino);
	if (!b) {
		b = malloc(sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->next = all_bound;
		all_bound = b;
	}
	b->sock_ino = sock.st_ino;
	b->dev = file.st_dev;
	b->ino = file.st_ino;
	return 0;
}

/*
 * The mode is set on the socket before bind(), which gives it to the file: at
 * no time can someone else open it.
 */
static int listen_locked(const struct sockaddr_un *addr, int backlog, unsigned int mode)
{
	int fd, res;

	fd = stream_socket();
	if (fd < 0)
		return fd;
	if (fchmod(fd, mode) < 0) {
		res = -errno;
		goto err_close;
	}
	res = bind_path(fd, addr);
	if (res < 0)
		goto err_close;
	res = remember_bound(fd, addr->sun_path);
	if (res < 0)
		goto err_unlink;
	if (listen(fd, backlog) < 0) {
		res = -errno;
		goto err_unlink;
	}
	return fd;

err_unlink:
	unlink(addr->sun_path);
err_close:
	close(fd);
	return res;
}

int unix_listen_mode(const char *path, int backlog, unsigned int mode)
{
	struct sockaddr_un addr;
	int dir, res;

	res = fill_address(&addr, path);
	if (res < 0)
		return res;
	dir = lock_directory(path);
	res = listen_locked(&addr, backlog, mode);
	fd_replace(&dir, -1);
	return res;
}

int unix_listen(const char *path, int backlog)
{
	return unix_listen_mode(path, backlog, 0777);
}

int unix_connect(const char *path)
{
	struct sockaddr_un addr;
	int fd, res;

	res = fill_address(&addr, path);
	if (res < 0)
		return res;
	fd = stream_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
		res = -errno;
		close(fd);
		return res;
	}
	return fd;
}

void unix_unlink(const char *path, int fd)
{
	struct bound **p, *b;
	struct stat st;
	int dir;

	if (fstat(fd, &st) < 0)
		return;
	p = find_bound(st.st_ino);
	b = *p;
	if (!b)
		return;
	*p = b->next;

	dir = lock_directory(path);
	if (!lstat(path, &st) && st.st_dev == b->dev && st.st_ino == b->ino)
		unlink(path);
	fd_replace(&dir, -1);
	free(b);
}

int unix_is_listening(int fd)
{
	const struct {
		int option, expected;
	} checks[] = { { SO_DOMAIN, AF_UNIX }, { SO_TYPE, SOCK_STREAM } };
	socklen_t len = sizeof(int);
	int value;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		if (getsockopt(fd, SOL_SOCKET, checks[i].option, &value, &len) < 0)
			return -errno;
		if (value != checks[i].expected)
			return -EPROTOTYPE;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0)
		return -errno;
	return value ? 1 : 0;
}
