/*
 * A question that the kernel may not answer, put by a child with a bound. Called
 * for what has more to say than one line of a file (guard.c): who has mapped a
 * device, which disks are taken. Changes nothing.
 *
 * Theory of operation: what the child writes is read until it ends or its time
 * is over; then it is killed, or dies when the kernel lets it. It has nothing of
 * ours open: no lock, no output that somebody reads to its end. Of those that were
 * not gone at once the last is remembered, so that who asks for ever does not
 * heap them up.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"

/* Nothing that is asked here has so much to tell. */
#define ANSWER_MAX (1 << 24)

static _Noreturn void child(struct sriov *s, int out,
			    void (*answer)(struct sriov *s, const void *what, FILE *out),
			    const void *what)
{
	int low = open("/dev/null", O_RDWR), null, kept;
	FILE *file;

	/* Out of the way first, and not far: a process may be allowed few. */
	null = fcntl(low, F_DUPFD, 4);
	kept = fcntl(out, F_DUPFD, 4);
	if (kept < 0 || null < 0 || dup2(kept, 3) < 0)
		_exit(1);
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (close_range(4, ~0u, 0) < 0)
		_exit(1);
	file = fdopen(3, "w");
	if (!file)
		_exit(1);
	answer(s, what, file);
	_exit(fflush(file) ? 1 : 0);
}

/* Until the end of file. What came before a failure is kept. */
static int read_all(int fd, unsigned int timeout_ms, char **text)
{
	uint64_t end = sriov_now_ms() + timeout_ms, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t len = 0, room = 0;
	char *grown;
	ssize_t n;
	int ready;

	do {
		if (len + 1 >= room) {
			room += 4096;
			grown = room < ANSWER_MAX ? realloc(*text, room) : NULL;
			if (!grown)
				return -ENOMEM;
			*text = grown;
			(*text)[len] = '\0';
		}
		now = sriov_now_ms();
		ready = poll(&p, 1, now < end ? (int)(end - now) : 0);
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (!ready)
			return -ETIMEDOUT;
		n = ready > 0 ? read(fd, *text + len, room - len - 1) : -1;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			(*text)[len += (size_t)n] = '\0';
	} while (n);
	return 0;
}

int sriov_survey(struct sriov *s, void (*answer)(struct sriov *s, const void *what, FILE *out),
		 const void *what, unsigned int timeout_ms, char **text)
{
	int ends[2], res;
	pid_t pid;

	*text = NULL;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (!pid)
		child(s, ends[1], answer, what);
	res = pid < 0 ? -errno : 0;
	close(ends[1]);
	if (!res)
		res = read_all(ends[0], timeout_ms, text);
	close(ends[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		if (!waitpid(pid, NULL, res == -ETIMEDOUT ? WNOHANG : 0))
			s->stuck = pid;
	}
	return res;
}

bool sriov_survey_is_stuck(struct sriov *s)
{
	if (s->stuck && waitpid(s->stuck, NULL, WNOHANG))
		s->stuck = 0;
	return s->stuck;
}
