/*
 * Which device files are a function's: every number that sysfs lists, by where
 * its link leads. Called by the search for users. Opens no device.
 *
 * A disk is far below its controller (behind SAS expanders, USB hubs), so it is
 * looked for from its number up and not from the function down. The namespace
 * that several NVMe controllers serve, and the character device beside it, are
 * below their subsystem.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"

#define SUBSYSTEMS "/devices/virtual/nvme-subsystem/"

struct sriov_devfile {
	uint64_t rdev;
	bool is_block;
	char addr[SRIOV_ADDR_LEN]; /* of the function it is below, or "" and */
	char subsystem[SRIOV_NAME_LEN]; /* the NVMe subsystem */
	char node[SRIOV_NAME_LEN]; /* "/dev/nvme0n1" */
};

/* The last function on the way: what is below a bridge is not the bridge's. */
static bool find_function(const char *target, char addr[SRIOV_ADDR_LEN])
{
	char part[SRIOV_ADDR_LEN + 1], parsed[SRIOV_ADDR_LEN];
	bool found = false;

	for (const char *p = target; p; p = strchr(p, '/')) {
		p += *p == '/';
		sriov_text(part, sizeof(part), "%.*s", (int)strcspn(p, "/"), p);
		if (sriov_addr_parse(part, parsed) < 0 || strcmp(part, parsed) != 0)
			continue;
		memcpy(addr, parsed, sizeof(parsed));
		found = true;
	}
	return found;
}

static bool find_subsystem(const char *target, char subsystem[SRIOV_NAME_LEN])
{
	const char *name = strstr(target, SUBSYSTEMS);

	if (!name)
		return false;
	name += sizeof(SUBSYSTEMS) - 1;
	sriov_text(subsystem, SRIOV_NAME_LEN, "%.*s", (int)strcspn(name, "/"), name);
	return true;
}

/* "DEVNAME=nvme0n1" of uevent. */
static void read_node(const char *dir, char node[SRIOV_NAME_LEN])
{
	char path[SRIOV_PATH_LEN + 300], line[SRIOV_TEXT_LEN];
	FILE *file;

	node[0] = '\0';
	sriov_text(path, sizeof(path), "%s/uevent", dir);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "DEVNAME=", 8))
			sriov_text(node, SRIOV_NAME_LEN, "/dev/%s", line + 8);
	}
	if (file)
		fclose(file);
}

static int add(struct sriov *s, const struct sriov_devfile *devfile)
{
	struct sriov_devfile *grown;

	/* In steps of 64. */
	if (s->nr_devfiles % 64 == 0) {
		grown = reallocarray(s->devfile, s->nr_devfiles + 64, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->devfile = grown;
	}
	s->devfile[s->nr_devfiles++] = *devfile;
	return 0;
}

/* Links such as 259:0 -> ../../devices/pci0000:00/0000:00:04.0/nvme/... */
static int load_kind(struct sriov *s, bool is_block)
{
	char dir[SRIOV_PATH_LEN], link[SRIOV_PATH_LEN + 300], target[PATH_MAX];
	struct sriov_devfile devfile;
	unsigned int major, minor;
	struct dirent *e;
	int res = 0;
	ssize_t n;
	DIR *d;

	sriov_path(s, dir, "/sys/dev/%s", is_block ? "block" : "char");
	d = opendir(dir);
	while (d && !res && (e = readdir(d))) {
		if (sscanf(e->d_name, "%u:%u", &major, &minor) != 2)
			continue;
		sriov_text(link, sizeof(link), "%s/%s", dir, e->d_name);
		n = readlink(link, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		devfile = (struct sriov_devfile){ .rdev = makedev(major, minor),
						  .is_block = is_block };
		if (!find_subsystem(target, devfile.subsystem) &&
		    !find_function(target, devfile.addr))
			continue;
		read_node(link, devfile.node);
		res = add(s, &devfile);
	}
	if (d)
		closedir(d);
	return res;
}

int sriov_devfiles_load(struct sriov *s)
{
	int res = load_kind(s, true);

	return res < 0 ? res : load_kind(s, false);
}

void sriov_devfiles_forget(struct sriov *s)
{
	free(s->devfile);
	s->devfile = NULL;
	s->nr_devfiles = 0;
}

bool sriov_nvme_serves(struct sriov *s, const char *addr, const char *subsystem)
{
	char path[SRIOV_PATH_LEN];
	bool found = false;
	struct dirent *e;
	DIR *dir;

	sriov_dev_path(s, path, addr, "nvme");
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		sriov_path(s, path, "/sys" SUBSYSTEMS "%s/%s", subsystem, e->d_name);
		found = !strncmp(e->d_name, "nvme", 4) && sriov_file_exists(path);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool is_of(struct sriov *s, const struct sriov_devfile *d, const char *addr)
{
	if (*d->subsystem)
		return sriov_nvme_serves(s, addr, d->subsystem);
	return !strcmp(d->addr, addr);
}

/* By number, as files have many names; a mapping has its name only. */
static bool is_same(const struct sriov_devfile *d, uint64_t rdev, bool is_block, const char *path)
{
	if (rdev)
		return d->rdev == rdev && d->is_block == is_block;
	return *d->node && !strcmp(d->node, path);
}

bool sriov_devfile_is_of(struct sriov *s, uint64_t rdev, bool is_block, const char *path,
			 const char *addr)
{
	for (unsigned int i = 0; i < s->nr_devfiles; i++) {
		const struct sriov_devfile *d = &s->devfile[i];

		if (is_same(d, rdev, is_block, path) && is_of(s, d, addr))
			return true;
	}
	return false;
}
