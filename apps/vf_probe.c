/*
 * probe of ringbolt-vf: a hand-over is tried, and told step by step. Called by
 * the table of commands.
 *
 * It opens and resets the function, so nobody may be about to claim it: the lock
 * is held, and what is claimed is its owner's to probe. The kernel may not answer
 * a step; so a child does them, and the lock is given up after a time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apps/vf_cmds.h"
#include "apps/vf_opts.h"
#include "core/base.h"
#include "iommu/iommu.h"

#define PROBE_S 60

static int refuse(const char *addr, const struct sriov_func *f)
{
	fprintf(stderr,
		VF_PROGRAM ": %s: is %s by %s: probe opens and resets it, which is for "
			   "--owner=%s\n",
		addr, f->claim == SRIOV_CLAIM_MOVING ? "just being claimed or released" : "claimed",
		f->owner, f->owner);
	return EXIT_FAILED;
}

/* Only who can take the lock can claim; an ordinary user has been given what he
 * can open. */
static int lock_and_check(struct vf_context *c, const char *addr)
{
	struct sriov_func f;
	int res;

	res = sriov_lock(c->s);
	if (res == -EACCES && geteuid())
		res = 0;
	if (!res)
		res = sriov_func_read(c->s, addr, 0, &f);
	if (res < 0 || f.claim == SRIOV_CLAIM_NONE)
		return res;
	if (f.claim == SRIOV_CLAIM_MOVING || !c->opts->owner ||
	    strcmp(c->opts->owner, f.owner) != 0)
		return refuse(addr, &f);
	return 0;
}

/* ---- In a child ---- */

static _Noreturn void child(const struct vf_options *o, const char *addr, int out)
{
	struct iommu_opts opts = { .backend = (enum iommu_backend)o->backend,
				   .allow_noiommu = o->given & VF_OPT_UNSAFE };
	int null = open("/dev/null", O_RDWR);
	json_t *report;

	/* Neither the lock nor an output that somebody reads to its end. */
	if (null < 0 || dup2(out, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0u, 0) < 0)
		_exit(1);
	report = iommu_probe(&opts, addr, o->token);
	_exit(!report || json_dumpfd(report, STDIN_FILENO, JSON_COMPACT) < 0);
}

/* All that it says until it ends; -ETIMEDOUT if that takes too long. */
static int read_report(int fd, unsigned int seconds, char *text, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t used = 0;
	ssize_t n;

	/* It says nothing before it has done everything. */
	while (used < len - 1) {
		n = poll(&p, 1, (int)seconds * 1000);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ETIMEDOUT;
		n = read(fd, text + used, len - 1 - used);
		if (n < 0)
			return -errno;
		if (!n)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
	return 0;
}

static int probe(struct vf_context *c, const char *addr, json_t **report)
{
	unsigned int seconds = c->opts->timeout ? (unsigned int)c->opts->timeout : PROBE_S;
	char text[16384];
	int pipes[2], res;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	fflush(stdout);
	pid = fork();
	if (!pid)
		child(c->opts, addr, pipes[1]);
	close(pipes[1]);
	res = pid < 0 ? -errno : read_report(pipes[0], seconds, text, sizeof(text));
	close(pipes[0]);
	if (pid > 0 && res < 0)
		kill(pid, SIGKILL);
	if (pid > 0)
		waitpid(pid, NULL, res < 0 ? WNOHANG : 0);
	if (res == -ETIMEDOUT)
		fprintf(stderr,
			VF_PROGRAM ": %s: the kernel has not answered within %u s; process "
				   "%d stays there until it does\n",
			addr, seconds, (int)pid);
	if (res == -ETIMEDOUT)
		return EXIT_FAILED;
	*report = res < 0 ? NULL : json_loads(text, 0, NULL);
	return res < 0 ? res : *report ? 0 : -EIO;
}

/* ---- Told ---- */

static void print_probe(const json_t *report)
{
	const char *step, *result, *detail;
	json_t *steps = json_object_get(report, "steps"), *s;
	size_t i;

	json_array_foreach(steps, i, s)
	{
		detail = "";
		if (!json_unpack(s, "{s:s, s:s, s?s}", "step", &step, "result", &result, "detail",
				 &detail))
			printf("%-12s %-8s %s\n", step, result, detail);
	}
}

int vf_run_probe(struct vf_context *c)
{
	char addr[SRIOV_ADDR_LEN];
	json_t *report = NULL;
	bool ok;
	int res;

	res = sriov_resolve(c->s, c->opts->args[0], addr);
	if (!res)
		res = lock_and_check(c, addr);
	if (!res)
		res = probe(c, addr, &report);
	if (res)
		return res;
	ok = json_is_true(json_object_get(report, "ok"));
	if (c->opts->given & VF_OPT_JSON) {
		vf_print_json(report);
	} else {
		print_probe(report);
		json_decref(report);
	}
	return ok ? 0 : EXIT_FAILED;
}
