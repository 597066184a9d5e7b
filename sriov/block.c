/*
 * What stands in the way of taking a function from the host or from its user,
 * in sentences. Called before every change and by the inventory. Changes
 * nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"

const char *const sriov_blocker_names[] = { "user",    "claim", "mount", "swap",  "holder",
					    "network", "netns", "vfs",	 "stuck", "group" };
static_assert(ARRAY_SIZE(sriov_blocker_names) == SRIOV_BLOCK_CNT, "a word per kind");

int sriov_blocker_add(struct sriov_blockers *b, enum sriov_blocker_kind kind, const char *fmt, ...)
{
	struct sriov_blocker *grown;
	va_list ap;

	grown = reallocarray(b->item, b->nr + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	b->item = grown;
	grown[b->nr].kind = kind;
	va_start(ap, fmt);
	sriov_text_v(grown[b->nr].text, sizeof(grown->text), fmt, ap);
	va_end(ap);
	b->nr++;
	return 0;
}

void sriov_blockers_free(struct sriov_blockers *b)
{
	free(b->item);
	*b = (struct sriov_blockers){ 0 };
}

static int block_claim(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char who[SRIOV_TEXT_LEN];

	switch (f->claim) {
	case SRIOV_CLAIM_HELD:
		if (!f->owner_pid)
			return sriov_blocker_add(b, SRIOV_BLOCK_CLAIM, "is claimed by %s",
						 f->owner);
		sriov_process_text(s, f->owner_pid, who);
		return sriov_blocker_add(b, SRIOV_BLOCK_CLAIM, "is claimed by %s, %s", f->owner,
					 who);
	case SRIOV_CLAIM_STALE:
		return sriov_blocker_add(b, SRIOV_BLOCK_CLAIM,
					 "is claimed by %s, whose process %d is gone", f->owner,
					 (int)f->owner_pid);
	case SRIOV_CLAIM_MOVING:
		return sriov_blocker_add(b, SRIOV_BLOCK_CLAIM,
					 "is just being claimed or released by %s", f->owner);
	default:
		return 0;
	}
}

/* A network driver, but no network device that we could see. */
static bool has_moved_netdev(struct sriov *s, const struct sriov_func *f)
{
	char path[SRIOV_PATH_LEN];

	if (f->class_code >> 16 != 0x02 || !*f->driver || *f->netdev ||
	    sriov_driver_is_vfio(f->driver))
		return false;
	/* The directory stays; namespaces hide what is in it. */
	sriov_dev_path(s, path, f->addr, "net");
	return sriov_file_exists(path);
}

static int block_net(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char(*netdev)[IFNAMSIZ];
	int nr, res = 0;

	if (has_moved_netdev(s, f))
		return sriov_blocker_add(b, SRIOV_BLOCK_NETNS,
					 "its network device is in another network namespace");
	nr = sriov_netdevs(s, f->addr, &netdev);
	for (int i = 0; i < nr && !res; i++) {
		res = sriov_ask_net_use(s, netdev[i], b);
		if (res == -ETIMEDOUT)
			res = sriov_blocker_add(b, SRIOV_BLOCK_STUCK,
						"the kernel does not answer who uses %s",
						netdev[i]);
		/* Gone meanwhile. */
		if (res == -ENODEV)
			res = 0;
	}
	free(netdev);
	return res;
}

static int block_group(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char text[IOMMU_ERR_LEN];
	struct iommu_group *group;
	int res;

	res = sriov_group(s, f->addr, &group, text);
	if (res == -ENOENT)
		return sriov_blocker_add(b, SRIOV_BLOCK_GROUP, "%s", text);
	if (res < 0)
		return 0;
	for (unsigned int i = 0; i < group->nr_members; i++) {
		if (group->member[i].state != IOMMU_MEMBER_BLOCKS ||
		    !strcmp(group->member[i].address, f->addr))
			continue;
		iommu_member_explain(&group->member[i], text);
		res = sriov_blocker_add(b, SRIOV_BLOCK_GROUP, "IOMMU group %d: %s", group->id,
					text);
		if (res < 0)
			break;
	}
	iommu_group_free(group);
	return res;
}

static int block_record(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	struct sriov_rec rec;

	if (sriov_rec_load(s, f->addr, &rec) < 0)
		return sriov_blocker_add(b, SRIOV_BLOCK_STUCK, "%s", s->err);
	if (sriov_rec_writer_alive(&rec))
		return sriov_blocker_add(b, SRIOV_BLOCK_STUCK,
					 "process %d is still writing '%s' to %s",
					 (int)rec.writer.pid, rec.writer.text, rec.writer.path);
	return 0;
}

int sriov_blockers(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	int res;

	*b = (struct sriov_blockers){ 0 };
	res = block_record(s, f, b);
	if (!res)
		res = block_claim(s, f, b);
	if (!res)
		res = sriov_block_users(s, f, b);
	if (!res)
		res = sriov_block_disks(s, f, b);
	if (!res)
		res = block_net(s, f, b);
	if (!res && f->nr_vfs)
		res = sriov_blocker_add(b, SRIOV_BLOCK_VFS,
					"has %u VFs, which its driver would take along", f->nr_vfs);
	if (!res)
		res = block_group(s, f, b);
	if (res < 0) {
		sriov_blockers_free(b);
		return sriov_fail(s, res, "%s: looking for users: %s", f->addr, strerror(-res));
	}
	return 0;
}

int sriov_check_free(struct sriov *s, const struct sriov_func *f, unsigned int but_kinds,
		     const char *what)
{
	char text[SRIOV_ERR_LEN] = "";
	struct sriov_blockers b;
	int res;

	res = sriov_blockers(s, f, &b);
	if (res < 0)
		return res;
	for (unsigned int i = 0; i < b.nr; i++) {
		if (!(but_kinds & 1u << b.item[i].kind))
			sriov_text_add(text, sizeof(text), "%s%s", *text ? "; " : "",
				       b.item[i].text);
	}
	sriov_blockers_free(&b);
	if (*text)
		return sriov_fail(s, -EBUSY, "%s: %s: %s", f->addr, what, text);
	if (but_kinds & 1u << SRIOV_BLOCK_USER)
		return 0;
	res = sriov_check_hidden_user(s, f);
	if (!res && !(but_kinds & 1u << SRIOV_BLOCK_HOLDER))
		res = sriov_check_hidden_disks(s, f);
	if (res < 0)
		sriov_fail_more(s, "%s: %s: ", f->addr, what);
	return res;
}
