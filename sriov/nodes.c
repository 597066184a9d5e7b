/*
 * The files of a VFIO device in /dev: given to the user that runs the VM, and
 * taken back. Called by claims and releases; attach asks who may open them.
 *
 * What a file was is on disk before it is changed. It is taken back only if it
 * is still the same device: numbers of groups and devices are used again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/claim.h"

/* devtmpfs makes the file at once; udev may still be changing it. */
#define NODE_WAIT_MS 5000

static int wait_node(struct sriov *s, const char *node, struct stat *st)
{
	uint64_t end = sriov_now_ms() + NODE_WAIT_MS;
	char path[SRIOV_PATH_LEN];

	sriov_path(s, path, "%s", node);
	while (lstat(path, st) < 0) {
		if (errno != ENOENT || sriov_now_ms() >= end)
			return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
		sriov_sleep_ms(10);
	}
	return 0;
}

static int change(struct sriov *s, const char *node, uid_t uid, gid_t gid, unsigned int mode)
{
	char path[SRIOV_PATH_LEN];

	sriov_path(s, path, "%s", node);
	sriov_step(s, path);
	if (lchown(path, uid, gid) < 0 || fchmodat(AT_FDCWD, path, mode & 07777, 0) < 0)
		return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

int sriov_nodes_give(struct sriov *s, struct sriov_rec *rec, uid_t uid, gid_t gid)
{
	char node[SRIOV_NODES_MAX][SRIOV_TEXT_LEN];
	struct sriov_func f = { 0 };
	struct stat st;
	int res;

	res = sriov_func_read(s, rec->addr, 0, &f);
	if (res < 0)
		return res;
	if (!sriov_driver_is_vfio(f.driver))
		return sriov_fail(s, -ENOTSUP,
				  "%s: has driver %s: only VFIO has files to give to "
				  "a user",
				  f.addr, *f.driver ? f.driver : "none");
	sriov_wait_udev(s);
	sriov_vfio_nodes(s, f.addr, f.iommu_group, node[0], node[1]);
	for (int i = 0; i < SRIOV_NODES_MAX; i++) {
		struct sriov_node *n = &rec->claim.node[i];

		if (!*node[i])
			continue;
		res = wait_node(s, node[i], &st);
		if (res < 0)
			return res;
		*n = (struct sriov_node){ .rdev = st.st_rdev,
					  .uid = st.st_uid,
					  .gid = st.st_gid,
					  .mode = st.st_mode & 07777 };
		sriov_text(n->path, sizeof(n->path), "%s", node[i]);
		res = sriov_rec_save(s, rec);
		if (!res)
			res = change(s, n->path, uid, gid, 0600);
		if (res < 0)
			return res;
	}
	return 0;
}

int sriov_nodes_take(struct sriov *s, struct sriov_rec *rec)
{
	char path[SRIOV_PATH_LEN];
	struct stat st;
	int res;

	for (int i = 0; i < SRIOV_NODES_MAX; i++) {
		struct sriov_node *n = &rec->claim.node[i];

		sriov_path(s, path, "%s", n->path);
		if (!*n->path || lstat(path, &st) < 0 || st.st_rdev != n->rdev)
			continue;
		res = change(s, n->path, n->uid, n->gid, n->mode);
		if (res < 0)
			return res;
	}
	return 0;
}

/* Of the groups that the user database gives to uid, or of gid. */
static bool is_in_group(uid_t uid, gid_t gid, gid_t wanted)
{
	struct passwd *user = getpwuid(uid);
	bool found = gid == wanted;
	gid_t *groups = NULL;
	int nr = 0;

	if (found || !user)
		return found;
	getgrouplist(user->pw_name, gid, NULL, &nr);
	groups = nr > 0 ? calloc((size_t)nr, sizeof(*groups)) : NULL;
	if (groups && getgrouplist(user->pw_name, gid, groups, &nr) >= 0) {
		for (int i = 0; i < nr; i++)
			found |= groups[i] == wanted;
	}
	free(groups);
	return found;
}

bool sriov_node_may_open(const struct sriov *s, const char *node, uid_t uid, gid_t gid)
{
	char path[SRIOV_PATH_LEN];
	mode_t both = 06;
	struct stat st;

	sriov_path(s, path, "%s", node);
	if (!uid)
		return true;
	if (stat(path, &st) < 0)
		return false;
	if (st.st_uid == uid)
		both <<= 6;
	else if (is_in_group(uid, gid, st.st_gid))
		both <<= 3;
	return (st.st_mode & both) == both;
}
