/*
 * Between the files that claim and release.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_CLAIM_H
#define RINGBOLT_SRIOV_CLAIM_H

#include "sriov/internal.h"

/* Which VFs are there to choose from, best first; *vf is to be freed. -EINVAL,
 * -ENODEV if the words of opts are none; 0 if there is no such VF. */
int sriov_choose(struct sriov *s, const struct sriov_claim_opts *opts, char (**vf)[SRIOV_ADDR_LEN]);
/* -EBUSY or -EPERM with a sentence if owner cannot have it. */
int sriov_claimable(struct sriov *s, const struct sriov_func *f,
		    const struct sriov_claim_opts *opts);

/* Give the VFIO device's files to a user, and take them back; what they were is
 * in the record. */
int sriov_nodes_give(struct sriov *s, struct sriov_rec *rec, uid_t uid, gid_t gid);
int sriov_nodes_take(struct sriov *s, struct sriov_rec *rec);
/* To read and write, by its mode. */
bool sriov_node_may_open(const struct sriov *s, const char *node, uid_t uid, gid_t gid);

#endif
