/*
 * The last steps of attach before it becomes a program of somebody else's. Called
 * by that command only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "apps/vf_opts.h"
#include "core/log.h"

static int failed(const char *what)
{
	int res = -errno;

	fprintf(stderr, VF_PROGRAM ": %s: %s\n", what, strerror(-res));
	return res;
}

int vf_keep_fds(const int *fd, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (fcntl(fd[i], F_SETFD, 0) < 0)
			return failed("descriptors of the VF");
	}
	return 0;
}

static int take_groups(uid_t uid, gid_t gid)
{
	const struct passwd *user = getpwuid(uid);

	return user ? initgroups(user->pw_name, gid) : setgroups(1, &gid);
}

int vf_become(uid_t uid, gid_t gid)
{
	const struct rlimit no_limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_MEMLOCK, &no_limit) < 0)
		log_warn("limit of locked memory: %s: the program may not be able to map its "
			 "guest's memory",
			 strerror(errno));
	/* One that has this user already needs no rights for it. */
	if (uid == getuid() && uid == geteuid() && uid)
		return 0;
	if (take_groups(uid, gid) < 0)
		return failed("groups of the user");
	if (setresgid(gid, gid, gid) < 0)
		return failed("group of the user");
	/* exec would keep these for a process that has not given up root for good. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/* exec makes the saved user the effective one, and takes all capabilities
	 * away; until then vf_be_again() finds the way back. */
	if (setresuid(uid, uid, geteuid()) < 0)
		return failed("user");
	return 0;
}

int vf_be_again(uid_t uid, gid_t gid)
{
	if (setresuid((uid_t)-1, uid, (uid_t)-1) < 0)
		return failed("user");
	return setresgid((gid_t)-1, gid, (gid_t)-1) < 0 ? failed("group of the user") : 0;
}
