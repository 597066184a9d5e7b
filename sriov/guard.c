/*
 * What the kernel may not answer: writes of sysfs, the few files whose reader
 * waits for a device's lock or the network's, and netlink (ask.c). Called for all
 * of sriov/.
 *
 * Theory of operation: writing to sriov_numvfs or to a driver's unbind while a
 * VFIO user holds a VF blocks inside of the kernel until that user goes. The
 * process cannot be killed then, and whoever needs the same device's lock blocks
 * as well. So a child does it, with nothing of ours open: no lock, no output
 * that somebody reads to its end. It waits until its pid is in the function's
 * record and then writes. If it does not answer in time it is left alone; the
 * record keeps others away from this function until it is gone.
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
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "sriov/internal.h"

#define WRITE_MS 60000
#define VF_MS 5000
#define READ_MS 2000
#define ASK_MS 10000 /* of all VFs, each of which a driver may ask its card for */
/* Once one file has not answered, others of the device will not either. */
#define READ_AGAIN_MS 100
#define CHILD_FDS 5 /* that a child keeps, from 0 on */

struct answer {
	int res;
	char text[SRIOV_NAME_LEN];
};

/* Both ends are of this process and its child only. */
struct pipes {
	int go[2], done[2];
};

static int pipes_open(struct pipes *p)
{
	*p = (struct pipes){ { -1, -1 }, { -1, -1 } };
	if (pipe2(p->go, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(p->done, O_CLOEXEC) < 0) {
		int res = -errno;

		close(p->go[0]);
		close(p->go[1]);
		return res;
	}
	return 0;
}

static void pipes_close(struct pipes *p)
{
	for (int i = 0; i < 2; i++) {
		fd_replace(&p->go[i], -1);
		fd_replace(&p->done[i], -1);
	}
}

/* In the child: two descriptors stay open, 0 to 2 lead nowhere. */
static void child_begin(struct pipes *p)
{
	int low = open("/dev/null", O_RDWR), null, in, out;

	signal(SIGINT, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	/* Out of the way first, and not far: a process may be allowed few. */
	null = fcntl(low, F_DUPFD, CHILD_FDS);
	in = fcntl(p->go[0], F_DUPFD, CHILD_FDS);
	out = fcntl(p->done[1], F_DUPFD, CHILD_FDS);
	if (null < 0 || in < 0 || out < 0 || dup2(in, 3) < 0 || dup2(out, 4) < 0)
		_exit(1);
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	/* Those below are left: they are the pipe and nothing. */
	if (close_range(CHILD_FDS, ~0u, 0) < 0)
		_exit(1);
	p->go[0] = 3;
	p->done[1] = 4;
}

/* A write of sysfs, or a call (if run is there). */
struct job {
	const char *path, *text;
	uint64_t timeout_ms;
	int (*run)(struct sriov *s, void *arg);
	void *arg; /* shared with the child */
};

static _Noreturn void child_write(struct sriov *s, struct pipes *p, const struct job *job)
{
	struct answer answer = { 0 };
	char go;

	child_begin(p);
	/* End of file: the parent died before it could write down our pid. */
	if (read(p->go[0], &go, 1) != 1)
		_exit(0);
	answer.res = job->run ? job->run(s, job->arg) : s->os->write(s, job->path, job->text);
	/* If nobody listens any more, it is done all the same. */
	if (write(p->done[1], &answer, sizeof(answer)) < 0)
		_exit(1);
	_exit(0);
}

/* 0 and the answer, -ETIMEDOUT, or -EIO if the child has gone without one. */
static int wait_answer(int fd, uint64_t timeout_ms, struct answer *answer)
{
	uint64_t end = sriov_now_ms() + timeout_ms, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do {
		now = sriov_now_ms();
		n = poll(&p, 1, now < end ? (int)(end - now) : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!n)
		return -ETIMEDOUT;
	return read(fd, answer, sizeof(*answer)) == sizeof(*answer) ? 0 : -EIO;
}

/* Drivers take up to some seconds for each VF that comes or goes. */
static uint64_t write_timeout(const struct sriov *s, const struct sriov_rec *rec, const char *path,
			      const char *text)
{
	static const char numvfs[] = "/sriov_numvfs";
	size_t len = strlen(path), end = sizeof(numvfs) - 1;
	char(*vf)[SRIOV_ADDR_LEN];
	uint64_t vfs;
	int nr;

	if (s->timeout_ms)
		return s->timeout_ms;
	if (len < end || strcmp(path + len - end, numvfs) != 0)
		return WRITE_MS;
	vfs = strtoul(text, NULL, 10);
	nr = sriov_vf_addrs(s, rec->addr, &vf);
	if (nr >= 0)
		free(vf);
	return WRITE_MS + max_u64(vfs, nr > 0 ? (uint64_t)nr : 0) * VF_MS;
}

static void note_writer(struct sriov_rec *rec, pid_t pid, const char *path, const char *text)
{
	rec->writer.pid = pid;
	rec->writer.start = sriov_proc_start("/proc", pid);
	sriov_text(rec->writer.path, sizeof(rec->writer.path), "%s", path);
	sriov_text(rec->writer.text, sizeof(rec->writer.text), "%s", *text == '\n' ? "" : text);
}

/* In the record, if there is one, as long as it lasts. 0 if it answered. */
static int do_job(struct sriov *s, struct sriov_rec *rec, const struct job *job, int *result)
{
	const char *text = *job->text == '\n' ? "" : job->text;
	struct answer answer = { 0 };
	struct pipes p;
	pid_t pid;
	int res;

	res = pipes_open(&p);
	if (res < 0)
		return sriov_fail(s, res, "pipe: %s", strerror(-res));
	pid = fork();
	if (!pid)
		child_write(s, &p, job);
	if (pid < 0) {
		res = sriov_fail(s, -errno, "fork: %s", strerror(errno));
		pipes_close(&p);
		return res;
	}
	fd_replace(&p.go[0], -1);
	fd_replace(&p.done[1], -1);
	if (rec) {
		note_writer(rec, pid, job->path, job->text);
		res = sriov_rec_save(s, rec);
		sriov_step(s, "before the child goes on");
	}
	if (!res && write(p.go[1], "", 1) != 1)
		res = sriov_fail(s, -EPIPE, "%s: the writing process has gone", job->path);
	/* Without go the child sees the end of the pipe, and ends. */
	fd_replace(&p.go[1], -1);
	if (rec)
		sriov_step(s, "while the child writes");
	if (!res)
		res = wait_answer(p.done[0], job->timeout_ms, &answer);
	pipes_close(&p);
	if (res == -ETIMEDOUT) {
		/* One that changes something goes on, and its record says so. */
		if (!rec) {
			kill(pid, SIGKILL);
			return sriov_fail(s, res,
					  "%s: %s: the kernel has not answered within %llu ms: "
					  "the driver of some network device is stuck",
					  job->path, text, (unsigned long long)job->timeout_ms);
		}
		return sriov_fail(s, res,
				  "%s: writing '%s' has not returned within %llu ms; process %d "
				  "stays in the kernel until it is done there, or until whoever "
				  "holds the device lets go",
				  job->path, text, (unsigned long long)job->timeout_ms, (int)pid);
	}
	waitpid(pid, NULL, 0);
	if (rec)
		memset(&rec->writer, 0, sizeof(rec->writer));
	if (res == -EIO)
		return sriov_fail(s, res, "%s: the process that wrote '%s' was killed", job->path,
				  text);
	*result = answer.res;
	return res;
}

int sriov_guard_write(struct sriov *s, struct sriov_rec *rec, const char *path, const char *text)
{
	struct job job = { .path = path,
			   .text = text,
			   .timeout_ms = write_timeout(s, rec, path, text) };
	int res, result;

	log_debug("%s: writing '%s'", path, *text == '\n' ? "" : text);
	sriov_step(s, path);
	res = do_job(s, rec, &job, &result);
	if (!res && result < 0)
		res = sriov_fail(s, sriov_kernel_errno(result), "%s: writing '%s': %s", path,
				 *text == '\n' ? "" : text, strerror(-result));
	return res;
}

int sriov_guard_call(struct sriov *s, struct sriov_rec *rec, const struct sriov_call *call)
{
	struct job job = { .path = call->where,
			   .text = call->text,
			   .run = call->run,
			   .timeout_ms = s->timeout_ms ? s->timeout_ms : WRITE_MS };
	int res, result;

	if (!rec)
		job.timeout_ms = min_u64(s->asks_hang ? READ_AGAIN_MS : ASK_MS, job.timeout_ms);
	job.arg = mmap(NULL, call->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job.arg == MAP_FAILED)
		return sriov_fail(s, -ENOMEM, "out of memory");
	memcpy(job.arg, call->arg, call->len);
	res = do_job(s, rec, &job, &result);
	s->asks_hang |= res == -ETIMEDOUT;
	/* A child that is still at it has its own way to that memory. */
	if (!res)
		memcpy(call->arg, job.arg, call->len);
	munmap(job.arg, call->len);
	return res < 0 ? res : result;
}

static _Noreturn void child_read(struct pipes *p, const char *const *paths, unsigned int nr)
{
	struct answer answer;

	child_begin(p);
	for (unsigned int i = 0; i < nr; i++) {
		answer = (struct answer){ 0 };
		answer.res = sriov_file_read(paths[i], answer.text, sizeof(answer.text));
		if (write(p->done[1], &answer, sizeof(answer)) != sizeof(answer))
			_exit(1);
	}
	_exit(0);
}

/* Files from the first to one that does not answer, which counts: how many. */
static unsigned int read_some(const char *const *paths, unsigned int nr, uint64_t timeout_ms,
			      char (*buf)[SRIOV_NAME_LEN], int *res)
{
	struct answer answer = { 0 };
	struct pipes p;
	unsigned int i;
	pid_t pid;

	buf[0][0] = '\0';
	res[0] = pipes_open(&p);
	if (res[0] < 0)
		return 1;
	pid = fork();
	if (!pid)
		child_read(&p, paths, nr);
	fd_replace(&p.go[0], -1);
	fd_replace(&p.done[1], -1);
	for (i = 0; i < nr; i++) {
		res[i] = pid < 0 ? -EAGAIN : wait_answer(p.done[0], timeout_ms, &answer);
		buf[i][0] = '\0';
		if (res[i] < 0) {
			i++;
			break;
		}
		res[i] = answer.res;
		memcpy(buf[i], answer.text, sizeof(answer.text));
	}
	pipes_close(&p);
	if (pid > 0) {
		/* One that hangs dies when the kernel lets it. */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, res[i - 1] == -ETIMEDOUT ? WNOHANG : 0);
	}
	return i;
}

/* True if one has not answered. */
static bool read_all(const char *const *paths, unsigned int nr, uint64_t timeout_ms,
		     char (*buf)[SRIOV_NAME_LEN], int *res)
{
	unsigned int done = 0;
	bool hangs = false;

	memset(res, 0, nr * sizeof(*res));
	while (done < nr) {
		done += read_some(paths + done, nr - done, timeout_ms, buf + done, res + done);
		if (res[done - 1] == -ETIMEDOUT) {
			timeout_ms = min_u64(timeout_ms, READ_AGAIN_MS);
			hangs = true;
		}
	}
	return hangs;
}

void sriov_guard_read(struct sriov *s, const char *const *paths, unsigned int nr,
		      char (*buf)[SRIOV_NAME_LEN], int *res)
{
	read_all(paths, nr, s->timeout_ms ? min_u64(s->timeout_ms, READ_MS) : READ_MS, buf, res);
}

void sriov_guard_read_net(struct sriov *s, const char *const *paths, unsigned int nr,
			  char (*buf)[SRIOV_NAME_LEN], int *res)
{
	s->asks_hang |= read_all(paths, nr, s->asks_hang ? READ_AGAIN_MS : READ_MS, buf, res);
}
