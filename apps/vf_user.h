/*
 * Becoming somebody else before a program is run.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_USER_H
#define RINGBOLT_APPS_VF_USER_H

#include <sys/types.h>

/* The program that this process becomes gets these descriptors. */
int vf_keep_fds(const int *fd, unsigned int nr);
/*
 * This user from now on, with his groups, without a limit of locked memory (VFIO
 * locks all memory of a guest), and without capabilities from exec on: before
 * that, vf_be_again() undoes it, as far as who that was can do what he could.
 * -errno, said on stderr; then the process may be half of each.
 */
int vf_become(uid_t uid, gid_t gid);
/* The effective ones from before vf_become(), which may have failed. */
int vf_be_again(uid_t uid, gid_t gid);

#endif
