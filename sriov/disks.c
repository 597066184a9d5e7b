/*
 * Block devices of a function that the host needs: mounted, the root disk, swap,
 * or below another device. Called before a function is taken away.
 *
 * A namespace that several NVMe controllers serve is no device of any of them
 * but of their subsystem, and is looked for there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

struct disk_search {
	struct sriov *s;
	struct sriov_blockers *b;
	int res;
};

static void add(struct disk_search *d, enum sriov_blocker_kind kind, const char *disk,
		const char *what, const char *where)
{
	if (!d->res)
		d->res = sriov_blocker_add(d->b, kind, "%s %s%s%s", disk, what, *where ? " " : "",
					   where);
}

/* proc/self/mountinfo: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3
 * /dev/root rw", Linux, Documentation/filesystems/proc.rst. By number, and by
 * source, as btrfs has numbers of its own. */
static void look_at_mounts(struct disk_search *d, const char *disk, const char *numbers)
{
	char path[SRIOV_PATH_LEN], line[4096], where[256], dev[32], source[256], *rest;
	const char *node;
	FILE *file;

	sriov_path(d->s, path, "/proc/self/mountinfo");
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*s %*s %31s %*s %255s", dev, where) != 2)
			continue;
		rest = strstr(line, " - ");
		if (!rest || sscanf(rest, " - %*s %255s", source) != 1)
			source[0] = '\0';
		node = !strncmp(source, "/dev/", 5) ? source + 5 : "";
		if (strcmp(dev, numbers) != 0 && strcmp(node, disk) != 0)
			continue;
		add(d, SRIOV_BLOCK_MOUNT, disk,
		    strcmp(where, "/") ? "is mounted at" : "holds the root file system, at", where);
	}
	if (file)
		fclose(file);
}

static void look_at_swap(struct disk_search *d, const char *disk)
{
	char path[SRIOV_PATH_LEN], line[512], node[SRIOV_NAME_LEN + 8];
	FILE *file;

	sriov_text(node, sizeof(node), "/dev/%s", disk);
	sriov_path(d->s, path, "/proc/swaps");
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, " \t\n")] = '\0';
		if (!strcmp(line, node))
			add(d, SRIOV_BLOCK_SWAP, disk, "is swap space", "");
	}
	if (file)
		fclose(file);
}

static void look_at_holders(struct disk_search *d, const char *dir, const char *disk)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	DIR *holders;

	sriov_text(path, sizeof(path), "%s/holders", dir);
	holders = opendir(path);
	while (holders && (e = readdir(holders))) {
		if (e->d_name[0] != '.')
			add(d, SRIOV_BLOCK_HOLDER, disk, "is part of", e->d_name);
	}
	if (holders)
		closedir(holders);
}

/* A disk, and its partitions, which are directories with that file. */
static void look_at_disk(struct disk_search *d, const char *dir, const char *disk, bool whole)
{
	char path[SRIOV_PATH_LEN], numbers[32];
	struct dirent *e;
	DIR *parts;

	sriov_text(path, sizeof(path), "%s/dev", dir);
	if (sriov_file_read(path, numbers, sizeof(numbers)) < 0)
		return;
	look_at_mounts(d, disk, numbers);
	look_at_swap(d, disk);
	look_at_holders(d, dir, disk);
	parts = whole ? opendir(dir) : NULL;
	while (parts && (e = readdir(parts))) {
		sriov_text(path, sizeof(path), "%s/%s/partition", dir, e->d_name);
		if (e->d_name[0] == '.' || !sriov_file_exists(path))
			continue;
		sriov_text(path, sizeof(path), "%s/%s", dir, e->d_name);
		look_at_disk(d, path, e->d_name, false);
	}
	if (parts)
		closedir(parts);
}

/* sys/block has a link for every disk; its path goes through the function. */
static bool is_below(struct sriov *s, const char *real, const char *addr)
{
	static const char subsystems[] = "/nvme-subsystem/";
	char part[SRIOV_ADDR_LEN + 2], name[SRIOV_NAME_LEN];
	const char *subsystem = strstr(real, subsystems);

	sriov_text(part, sizeof(part), "/%s/", addr);
	if (strstr(real, part))
		return true;
	if (!subsystem)
		return false;
	subsystem += sizeof(subsystems) - 1;
	sriov_text(name, sizeof(name), "%.*s", (int)strcspn(subsystem, "/"), subsystem);
	return sriov_nvme_serves(s, addr, name);
}

int sriov_block_disks(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char path[SRIOV_PATH_LEN], disk[SRIOV_PATH_LEN + 300], real[PATH_MAX];
	struct disk_search d = { .s = s, .b = b };
	struct dirent *e;
	DIR *dir;

	sriov_path(s, path, "/sys/block");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		sriov_text(disk, sizeof(disk), "%s/%s", path, e->d_name);
		if (realpath(disk, real) && is_below(s, real, f->addr))
			look_at_disk(&d, disk, e->d_name, true);
	}
	if (dir)
		closedir(dir);
	return d.res;
}
