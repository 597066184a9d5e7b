/*
 * Which processes have a function open: through VFIO, or through any device file
 * that its driver made. Called before everything that would wait for them, and
 * by the inventory. Opens no device.
 *
 * Theory of operation: proc/PID/fd tells each open file by its path. All of them
 * below /dev are collected once and then matched with the device files of a
 * function. A VFIO device that was opened through a group that is closed again,
 * or that another process has sent, is "anon_inode:[vfio-device]"; newer kernels
 * tell in fdinfo which one, older do not, and then it may be any.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"

#define ANON_DEVICE "anon_inode:[vfio-device]"
#define SYSFS_DEPTH 6
#define NODES_MAX 128

struct sriov_held {
	pid_t pid;
	char path[SRIOV_TEXT_LEN]; /* or ANON_DEVICE, or the device's directory in sysfs */
};

bool sriov_driver_is_vfio(const char *driver)
{
	/* vfio-pci and its variants for some vendors: mlx5_vfio_pci and so on. */
	return !strcmp(driver, "vfio-pci") || strstr(driver, "_vfio_pci") ||
	       strstr(driver, "-vfio-pci");
}

void sriov_vfio_nodes(const struct sriov *s, const char *addr, int group, char *group_node,
		      char *cdev_node)
{
	char path[SRIOV_PATH_LEN], leaf[SRIOV_PATH_LEN], name[SRIOV_NAME_LEN];
	struct dirent *e;
	DIR *dir;

	group_node[0] = cdev_node[0] = '\0';
	if (group >= 0) {
		sriov_path(s, path, "/sys/kernel/iommu_groups/%d/name", group);
		/* VFIO's own groups, without an IOMMU behind them. */
		if (sriov_file_read(path, name, sizeof(name)) > 0 && !strcmp(name, "vfio-noiommu"))
			sriov_text(group_node, SRIOV_TEXT_LEN, "/dev/vfio/noiommu-%d", group);
		else
			sriov_text(group_node, SRIOV_TEXT_LEN, "/dev/vfio/%d", group);
	}
	sriov_dev_path(s, path, addr, "vfio-dev");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		sriov_text(leaf, sizeof(leaf), "%s/%s/dev", path, e->d_name);
		/* Without VFIO_DEVICE_CDEV there is a folder, but no number. */
		if (!strncmp(e->d_name, "vfio", 4) && access(leaf, F_OK) == 0)
			sriov_text(cdev_node, SRIOV_TEXT_LEN, "/dev/vfio/devices/%s", e->d_name);
	}
	if (dir)
		closedir(dir);
}

/* ---- What is open ---- */

static int hold(struct sriov *s, pid_t pid, const char *path)
{
	struct sriov_held *grown;

	/* In steps of 64. */
	if (!s->held || s->nr_held % 64 == 0) {
		grown = reallocarray(s->held, s->nr_held + 64, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->held = grown;
	}
	s->held[s->nr_held].pid = pid;
	sriov_text(s->held[s->nr_held].path, sizeof(s->held->path), "%s", path);
	s->nr_held++;
	return 0;
}

/* Which device it is, if the kernel tells: "vfio-device-syspath: /sys/...". */
static void read_fdinfo(const char *path, char *target, size_t len)
{
	static const char key[] = "vfio-device-syspath:";
	char line[PATH_MAX], *value;
	FILE *file;

	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, sizeof(key) - 1))
			continue;
		value = line + sizeof(key) - 1;
		value += strspn(value, " \t");
		value[strcspn(value, "\n")] = '\0';
		sriov_text(target, len, "%s", value);
	}
	if (file)
		fclose(file);
}

static int look_at_process(struct sriov *s, pid_t pid)
{
	char path[SRIOV_PATH_LEN], link[SRIOV_PATH_LEN + 300], target[PATH_MAX];
	struct dirent *e;
	int res = 0;
	ssize_t n;
	DIR *dir;

	sriov_path(s, path, "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	/* Gone, or not ours to see. */
	if (!dir)
		return 0;
	while (!res && (e = readdir(dir))) {
		sriov_text(link, sizeof(link), "%s/%s", path, e->d_name);
		n = readlink(link, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (!strcmp(target, ANON_DEVICE)) {
			sriov_path(s, link, "/proc/%d/fdinfo/%s", (int)pid, e->d_name);
			read_fdinfo(link, target, sizeof(target));
			res = hold(s, pid, target);
		} else if (!strncmp(target, "/dev/", 5) && strncmp(target, "/dev/pts/", 9) != 0 &&
			   strcmp(target, "/dev/null") != 0) {
			res = hold(s, pid, target);
		}
	}
	closedir(dir);
	return res;
}

static int look_at_all(struct sriov *s)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	int res = 0;
	pid_t pid;
	DIR *dir;

	sriov_path(s, path, "/proc");
	dir = opendir(path);
	if (!dir)
		return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
	while (!res && (e = readdir(dir))) {
		pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0;
		if (pid > 0 && pid != getpid())
			res = look_at_process(s, pid);
	}
	closedir(dir);
	/* Nothing is held: an array that says so. */
	if (!res && !s->held)
		s->held = calloc(1, sizeof(*s->held));
	return res < 0 || !s->held ? sriov_fail(s, -ENOMEM, "out of memory") : 0;
}

void sriov_users_forget(struct sriov *s)
{
	free(s->held);
	s->held = NULL;
	s->nr_held = 0;
}

/* ---- Who it is ---- */

/* The argument behind -name or --name; "guest=vm1,debug-threads=on" is vm1. */
static void vm_name(const char *args, size_t len, char *name, size_t room)
{
	const char *end = args + len, *value;

	name[0] = '\0';
	for (const char *a = args; a < end; a += strlen(a) + 1) {
		if (strcmp(a, "-name") != 0 && strcmp(a, "--name") != 0)
			continue;
		value = a + strlen(a) + 1;
		if (value >= end)
			return;
		if (!strncmp(value, "guest=", 6))
			value += 6;
		sriov_text(name, room, "%.*s", (int)strcspn(value, ","), value);
		return;
	}
}

/* What a process calls itself ends up on terminals. */
static void printable(char *text)
{
	for (; *text; text++) {
		if (iscntrl((unsigned char)*text) || (unsigned char)*text >= 0x80)
			*text = '?';
	}
}

void sriov_process_text(const struct sriov *s, pid_t pid, char *text)
{
	char path[SRIOV_PATH_LEN], comm[32], args[4096], name[64] = "";
	ssize_t n = -1;
	int fd;

	sriov_path(s, path, "/proc/%d/comm", (int)pid);
	sriov_file_read(path, comm, sizeof(comm));
	sriov_path(s, path, "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, args, sizeof(args) - 1);
		close(fd);
	}
	if (n > 0) {
		args[n] = '\0';
		vm_name(args, (size_t)n, name, sizeof(name));
	}
	printable(comm);
	printable(name);
	sriov_text(text, SRIOV_TEXT_LEN, "process %d (%s)%s%s", (int)pid, comm,
		   *name ? ", VM " : "", name);
}

/* ---- Whose device it is ---- */

struct nodes {
	char path[NODES_MAX][SRIOV_NAME_LEN];
	unsigned int nr;
};

static void add_node(struct nodes *nodes, const char *path)
{
	if (*path && nodes->nr < NODES_MAX)
		sriov_text(nodes->path[nodes->nr++], SRIOV_NAME_LEN, "%s", path);
}

/* "DEVNAME=nvme0n1" of uevent, if the directory is a device with a file. */
static void add_dir_node(const char *dir, struct nodes *nodes)
{
	char path[SRIOV_PATH_LEN + 16], line[SRIOV_TEXT_LEN], node[SRIOV_TEXT_LEN + 8];
	FILE *file;

	sriov_text(path, sizeof(path), "%s/dev", dir);
	if (!sriov_file_exists(path))
		return;
	sriov_text(path, sizeof(path), "%s/uevent", dir);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "DEVNAME=", 8))
			continue;
		line[strcspn(line, "\n")] = '\0';
		sriov_text(node, sizeof(node), "/dev/%s", line + 8);
		add_node(nodes, node);
	}
	if (file)
		fclose(file);
}

/* All devices below a directory of sysfs, but not other PCI functions. */
static void add_nodes_below(const char *dir, int depth, struct nodes *nodes)
{
	char path[SRIOV_PATH_LEN], addr[SRIOV_ADDR_LEN];
	struct dirent *e;
	DIR *d;

	add_dir_node(dir, nodes);
	d = depth ? opendir(dir) : NULL;
	while (d && (e = readdir(d))) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.' || !strcmp(e->d_name, "power") ||
		    !sriov_addr_parse(e->d_name, addr))
			continue;
		sriov_text(path, sizeof(path), "%s/%s", dir, e->d_name);
		add_nodes_below(path, depth - 1, nodes);
	}
	if (d)
		closedir(d);
}

static bool holds(const struct sriov_held *held, const struct nodes *nodes, const char *addr)
{
	const char *slash;

	for (unsigned int i = 0; i < nodes->nr; i++) {
		if (!strcmp(held->path, nodes->path[i]))
			return true;
	}
	slash = strrchr(held->path, '/');
	return !strncmp(held->path, "/sys/", 5) && slash && !strcmp(slash + 1, addr);
}

/* A VFIO device of unknown name, by a process that has no VFIO file open which
 * would explain it. */
static bool may_hold(const struct sriov *s, const struct sriov_held *held)
{
	if (strcmp(held->path, ANON_DEVICE) != 0)
		return false;
	for (unsigned int i = 0; i < s->nr_held; i++) {
		const char *path = s->held[i].path;

		if (s->held[i].pid == held->pid && !strncmp(path, "/dev/vfio/", 10) &&
		    strcmp(path, "/dev/vfio/vfio") != 0)
			return false;
	}
	return true;
}

int sriov_block_users(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char path[SRIOV_PATH_LEN], group_node[SRIOV_TEXT_LEN], cdev_node[SRIOV_TEXT_LEN];
	bool is_vfio = sriov_driver_is_vfio(f->driver);
	char who[SRIOV_TEXT_LEN];
	struct nodes nodes = { .nr = 0 };
	pid_t last = 0;
	int res = 0;

	if (!s->held) {
		res = look_at_all(s);
		if (res < 0)
			return res;
	}
	sriov_vfio_nodes(s, f->addr, f->iommu_group, group_node, cdev_node);
	if (is_vfio)
		add_node(&nodes, group_node);
	add_node(&nodes, cdev_node);
	sriov_dev_path(s, path, f->addr, "");
	add_nodes_below(path, SYSFS_DEPTH, &nodes);
	for (unsigned int i = 0; i < s->nr_held && !res; i++) {
		bool sure = holds(&s->held[i], &nodes, f->addr);

		if (s->held[i].pid == last || (!sure && !(is_vfio && may_hold(s, &s->held[i]))))
			continue;
		last = s->held[i].pid;
		sriov_process_text(s, last, who);
		if (sure)
			res = sriov_blocker_add(b, SRIOV_BLOCK_USER, "%s has %s open", who,
						s->held[i].path);
		else
			res = sriov_blocker_add(b, SRIOV_BLOCK_USER,
						"%s has a VFIO device open, and this kernel does "
						"not tell that it is another one",
						who);
	}
	return res;
}

int sriov_check_hidden_user(struct sriov *s, const struct sriov_func *f)
{
	char path[SRIOV_PATH_LEN], node[SRIOV_TEXT_LEN], cdev[SRIOV_TEXT_LEN];
	struct stat st;
	int fd;

	if (!sriov_driver_is_vfio(f->driver))
		return 0;
	sriov_vfio_nodes(s, f->addr, f->iommu_group, node, cdev);
	sriov_path(s, path, "%s", node);
	if (!*node || stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || errno != EBUSY)
		return 0;
	return sriov_fail(s, -EBUSY, "%s is open, by a process that cannot be seen from here",
			  node);
}
