/*
 * Block devices of a function that the host needs: mounted, the root disk, swap,
 * below another device, or served to others. Called before a function is taken
 * away.
 *
 * Theory of operation: the reasons that have a name are told by proc and sysfs,
 * to the inventory too. Not all have one: further members of a file system of
 * many disks, mounts of other namespaces, targets. All that the kernel itself
 * uses it has opened exclusively, so before a change each disk is opened like
 * that as well, by a child, as a disk that is ill may not answer.
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
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/base.h"
#include "sriov/internal.h"

#define OPEN_MS 5000

struct disk_search {
	struct sriov *s;
	struct sriov_blockers *b;
	FILE *out;
	unsigned int nr;
	int res;
};

/* Below /dev, where sysfs cannot say so: "cciss!c0d0". */
static void node_of(const char *disk, char *node, size_t len)
{
	sriov_text(node, len, "/dev/%s", disk);
	for (char *p = node; (p = strchr(p, '!')); p++)
		*p = '/';
}

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
	char node[SRIOV_TEXT_LEN];
	FILE *file;

	node_of(disk, node, sizeof(node));
	sriov_path(d->s, path, "/proc/self/mountinfo");
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*s %*s %31s %*s %255s", dev, where) != 2)
			continue;
		rest = strstr(line, " - ");
		if (!rest || sscanf(rest, " - %*s %255s", source) != 1)
			source[0] = '\0';
		if (strcmp(dev, numbers) != 0 && strcmp(source, node) != 0)
			continue;
		add(d, SRIOV_BLOCK_MOUNT, disk,
		    strcmp(where, "/") ? "is mounted at" : "holds the root file system, at", where);
	}
	if (file)
		fclose(file);
}

static void look_at_swap(struct disk_search *d, const char *disk)
{
	char path[SRIOV_PATH_LEN], line[512], node[SRIOV_TEXT_LEN];
	FILE *file;

	node_of(disk, node, sizeof(node));
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

/* Is this text the name of the disk's file, or of a link to it? */
static bool is_file_of(struct disk_search *d, const char *text, const char *disk,
		       const char *numbers)
{
	char path[SRIOV_PATH_LEN], node[SRIOV_TEXT_LEN], found[32];
	struct stat st;

	node_of(disk, node, sizeof(node));
	if (!strcmp(text, node))
		return true;
	sriov_path(d->s, path, "%s", text);
	if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	sriov_text(found, sizeof(found), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
	return !strcmp(found, numbers);
}

/* Loop devices and the NVMe target open their disks, but not exclusively. */
static void look_at_loops(struct disk_search *d, const char *disk, const char *numbers)
{
	char path[SRIOV_PATH_LEN], file[SRIOV_PATH_LEN + 300], text[SRIOV_TEXT_LEN];
	struct dirent *e;
	DIR *dir;

	sriov_path(d->s, path, "/sys/block");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		sriov_text(file, sizeof(file), "%s/%s/loop/backing_file", path, e->d_name);
		if (!strncmp(e->d_name, "loop", 4) &&
		    sriov_file_read(file, text, sizeof(text)) > 0 &&
		    is_file_of(d, text, disk, numbers))
			add(d, SRIOV_BLOCK_HOLDER, disk, "is part of", e->d_name);
	}
	if (dir)
		closedir(dir);
}

/* nvmet: subsystems/NQN/namespaces/1/device_path of configfs. */
static void look_at_target(struct disk_search *d, const char *disk, const char *numbers)
{
	char path[SRIOV_PATH_LEN], spaces[SRIOV_PATH_LEN + 300], file[SRIOV_PATH_LEN + 600];
	char text[SRIOV_TEXT_LEN];
	struct dirent *e, *n;
	DIR *dir, *space;

	sriov_path(d->s, path, "/sys/kernel/config/nvmet/subsystems");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		sriov_text(spaces, sizeof(spaces), "%s/%s/namespaces", path, e->d_name);
		space = e->d_name[0] == '.' ? NULL : opendir(spaces);
		while (space && (n = readdir(space))) {
			sriov_text(file, sizeof(file), "%s/%s/enable", spaces, n->d_name);
			if (sriov_file_read(file, text, sizeof(text)) <= 0 || *text != '1')
				continue;
			sriov_text(file, sizeof(file), "%s/%s/device_path", spaces, n->d_name);
			if (sriov_file_read(file, text, sizeof(text)) > 0 &&
			    is_file_of(d, text, disk, numbers))
				add(d, SRIOV_BLOCK_HOLDER, disk, "is served by the NVMe target",
				    e->d_name);
		}
		if (space)
			closedir(space);
	}
	if (dir)
		closedir(dir);
}

static void look_at_disk(struct disk_search *d, const char *dir, const char *disk)
{
	char path[SRIOV_PATH_LEN], numbers[32];

	sriov_text(path, sizeof(path), "%s/dev", dir);
	if (sriov_file_read(path, numbers, sizeof(numbers)) < 0)
		return;
	look_at_mounts(d, disk, numbers);
	look_at_swap(d, disk);
	look_at_holders(d, dir, disk);
	look_at_loops(d, disk, numbers);
	look_at_target(d, disk, numbers);
}

/* ---- Which disks ---- */

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

typedef void visit_disk(struct disk_search *d, const char *dir, const char *disk);

/* Partitions are directories with that file. */
static void each_partition(struct disk_search *d, const char *dir, visit_disk *visit)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	DIR *parts;

	parts = opendir(dir);
	while (parts && (e = readdir(parts))) {
		sriov_text(path, sizeof(path), "%s/%s/partition", dir, e->d_name);
		if (e->d_name[0] == '.' || !sriov_file_exists(path))
			continue;
		sriov_text(path, sizeof(path), "%s/%s", dir, e->d_name);
		visit(d, path, e->d_name);
	}
	if (parts)
		closedir(parts);
}

/* Partitions first: who takes one keeps the whole disk from others. */
static void each_disk(struct disk_search *d, const char *addr, visit_disk *visit)
{
	char path[SRIOV_PATH_LEN], disk[SRIOV_PATH_LEN + 300], real[PATH_MAX];
	struct dirent *e;
	DIR *dir;

	sriov_path(d->s, path, "/sys/block");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		sriov_text(disk, sizeof(disk), "%s/%s", path, e->d_name);
		if (!realpath(disk, real) || !is_below(d->s, real, addr))
			continue;
		each_partition(d, disk, visit);
		visit(d, disk, e->d_name);
	}
	if (dir)
		closedir(dir);
}

int sriov_block_disks(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	struct disk_search d = { .s = s, .b = b };

	each_disk(&d, f->addr, look_at_disk);
	return d.res;
}

/* ---- What has no name ---- */

/* In a child: "NODE" before it is asked for and "ERRNO" behind. */
static void try_disk(struct disk_search *d, const char *dir, const char *disk)
{
	char path[SRIOV_PATH_LEN], node[SRIOV_TEXT_LEN];

	sriov_text(path, sizeof(path), "%s/dev", dir);
	if (!sriov_file_exists(path))
		return;
	node_of(disk, node, sizeof(node));
	sriov_path(d->s, path, "%s", node);
	fprintf(d->out, "%s ", node);
	fflush(d->out);
	fprintf(d->out, "%d\n", -d->s->os->disk_take(d->s, path));
}

static void try_disks(struct sriov *s, const void *addr, FILE *out)
{
	struct disk_search d = { .s = s, .out = out };

	each_disk(&d, addr, try_disk);
}

static void count_disk(struct disk_search *d, const char *dir, const char *disk)
{
	d->nr++;
}

int sriov_check_hidden_disks(struct sriov *s, const struct sriov_func *f)
{
	struct disk_search d = { .s = s };
	char *text, node[SRIOV_TEXT_LEN], *line;
	int res, error, fields;

	each_disk(&d, f->addr, count_disk);
	if (!d.nr)
		return 0;
	res = sriov_survey(s, try_disks, f->addr, OPEN_MS, &text);
	if (res < 0 && res != -ETIMEDOUT)
		return sriov_fail(s, res, "asking for disks: %s", strerror(-res));
	res = 0;
	for (line = text; line && *line && !res;
	     line += strcspn(line, "\n"), line += *line == '\n') {
		fields = sscanf(line, "%255s %d", node, &error);
		if (fields == 1)
			res = sriov_fail(s, -EBUSY, "%s does not answer", node);
		else if (fields == 2 && error == EBUSY)
			res = sriov_fail(s, -EBUSY,
					 "%s is in use by the kernel: a file system, perhaps of "
					 "another mount namespace or of several disks, a RAID, "
					 "or a target",
					 node);
	}
	free(text);
	return res;
}
