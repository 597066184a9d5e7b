/*
 * The machine as sriov/ sees it: roots, time limits, the sentence of the last
 * failure, the lock. Called by programs first and last. Reads and changes no
 * device.
 *
 * Theory of operation: one lock for all functions, flock() on STATE/lock, held
 * while a command changes something. Its holder's pid is in the file, for the
 * message of those who wait. No child inherits it: a child that the kernel does
 * not let go of must not lock out everybody else. Such a child is known by the
 * record of its function instead.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <pci/pci.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "sriov/internal.h"

#define STATE_DIR "/run/ringbolt-vf"
#define LOCK_WAIT_MS 20000
#define LOCK_POLL_MS 20

/* Bytes that a character of UTF-8 has by its first one; 1 if that begins none. */
static size_t utf8_len(unsigned char first)
{
	return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
}

void sriov_text_v(char *buf, size_t len, const char *fmt, va_list ap)
{
	int n = vsnprintf(buf, len, fmt, ap);
	size_t last;

	if (n < 0)
		buf[0] = '\0';
	if (n < 0 || (size_t)n < len || len < 2)
		return;
	/* Being cut is what the caller accepted, but not within a character. */
	last = len - 2;
	for (int i = 0; i < 3 && last && ((unsigned char)buf[last] & 0xc0) == 0x80; i++)
		last--;
	if (last + utf8_len((unsigned char)buf[last]) > len - 1)
		buf[last] = '\0';
}

void sriov_text(char *buf, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sriov_text_v(buf, len, fmt, ap);
	va_end(ap);
}

void sriov_text_add(char *buf, size_t len, const char *fmt, ...)
{
	size_t used = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	sriov_text_v(buf + used, len - used, fmt, ap);
	va_end(ap);
}

int sriov_fail(struct sriov *s, int code, const char *fmt, ...)
{
	char text[SRIOV_ERR_LEN]; /* an argument may be the old sentence */
	va_list ap;

	va_start(ap, fmt);
	sriov_text_v(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(s->err, text, sizeof(text));
	return code;
}

int sriov_kernel_errno(int res)
{
	return res == -EINVAL ? -EREMOTEIO : res;
}

void sriov_fail_more(struct sriov *s, const char *fmt, ...)
{
	char text[SRIOV_ERR_LEN];
	va_list ap;

	va_start(ap, fmt);
	sriov_text_v(text, sizeof(text), fmt, ap);
	va_end(ap);
	sriov_text_add(text, sizeof(text), "%s", s->err);
	memcpy(s->err, text, sizeof(text));
}

const char *sriov_error(const struct sriov *s)
{
	return s->err;
}

void sriov_path(const struct sriov *s, char *path, const char *fmt, ...)
{
	size_t used = strlen(s->root);
	va_list ap;

	memcpy(path, s->root, used);
	va_start(ap, fmt);
	sriov_text_v(path + used, SRIOV_PATH_LEN - used, fmt, ap);
	va_end(ap);
}

void sriov_dev_path(const struct sriov *s, char *path, const char *addr, const char *file)
{
	sriov_path(s, path, "/sys/bus/pci/devices/%s%s%s", addr, *file ? "/" : "", file);
}

void sriov_step(struct sriov *s, const char *what)
{
	if (s->os->before_change)
		s->os->before_change(s, what);
}

int sriov_open(const struct sriov_opts *opts, struct sriov **out)
{
	const char *root = opts->root ? opts->root : "";
	const char *state_dir = opts->state_dir ? opts->state_dir : STATE_DIR;
	char path[SRIOV_PATH_LEN];
	struct sriov *s;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->lock_fd = -1;
	s->os = opts->os ? opts->os : &sriov_kernel;
	s->os_opaque = opts->os_opaque;
	s->timeout_ms = opts->timeout_ms;
	s->lock_wait_ms = opts->lock_wait_ms ? opts->lock_wait_ms : LOCK_WAIT_MS;
	if (strlen(root) >= sizeof(s->root) ||
	    strlen(root) + strlen(state_dir) >= sizeof(s->state_dir)) {
		free(s);
		return -ENAMETOOLONG;
	}
	sriov_text(s->root, sizeof(s->root), "%s", root);
	sriov_text(s->state_dir, sizeof(s->state_dir), "%s%s", opts->state_dir ? "" : root,
		   state_dir);
	sriov_path(s, path, "/proc/sys/kernel/random/boot_id");
	if (sriov_file_read(path, s->boot_id, sizeof(s->boot_id)) < 0)
		sriov_text(s->boot_id, sizeof(s->boot_id), "unknown");
	*out = s;
	return 0;
}

void sriov_close(struct sriov *s)
{
	if (!s)
		return;
	sriov_unlock(s);
	sriov_users_forget(s);
	if (s->names)
		pci_cleanup(s->names);
	free(s);
}

/* The directory and the ones above it. */
static int make_state_dir(struct sriov *s)
{
	char path[sizeof(s->state_dir)];

	memcpy(path, s->state_dir, sizeof(path));
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
		*slash = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return sriov_fail(
			s, -errno, "%s: %s%s", path, strerror(errno),
			errno == EACCES || errno == EROFS ? ": changing functions needs root" : "");
	return 0;
}

static int open_lock_file(struct sriov *s)
{
	char path[SRIOV_PATH_LEN];
	int fd;

	sriov_text(path, sizeof(path), "%s/lock", s->state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return sriov_fail(s, -errno, "%s: %s%s", path, strerror(errno),
				  errno == EACCES ? ": changing functions needs root" : "");
	return fd;
}

int sriov_lock(struct sriov *s)
{
	uint64_t end = sriov_now_ms() + s->lock_wait_ms;
	char holder[32] = "";
	ssize_t len;
	int res, fd;

	assert(s->lock_fd < 0);
	res = make_state_dir(s);
	if (res < 0)
		return res;
	fd = open_lock_file(s);
	if (fd < 0)
		return fd;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK && sriov_now_ms() < end) {
			sriov_sleep_ms(LOCK_POLL_MS);
			continue;
		}
		res = -errno;
		len = pread(fd, holder, sizeof(holder) - 1, 0);
		holder[len > 0 ? len : 0] = '\0';
		close(fd);
		return sriov_fail(s, res,
				  "%s/lock: process %d is changing functions and has not "
				  "ended within %g s",
				  s->state_dir, atoi(holder), s->lock_wait_ms / 1000.0);
	}
	s->lock_fd = fd;
	sriov_text(holder, sizeof(holder), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, holder, strlen(holder), 0) < 0) {
		res = sriov_fail(s, -errno, "%s/lock: %s", s->state_dir, strerror(errno));
		sriov_unlock(s);
		return res;
	}
	res = sriov_recover(s);
	if (res < 0)
		sriov_unlock(s);
	return res < 0 ? res : 0;
}

void sriov_unlock(struct sriov *s)
{
	/* Closing lets go of it: no child has a copy. */
	fd_replace(&s->lock_fd, -1);
}
