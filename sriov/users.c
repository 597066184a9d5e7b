/*
 * Which processes have a function open: through VFIO, through any device file
 * that its driver made, or by a mapping of its BARs. Called before everything
 * that would wait for them, and by the inventory. Opens no device.
 *
 * Theory of operation: proc/PID/fd tells each open file. Those that are devices,
 * wherever their file is, are collected once and then matched with the device
 * files of a function, by number. A VFIO device that was opened through a group
 * that is closed again, or that another process has sent, is
 * "anon_inode:[vfio-device]"; newer kernels tell in fdinfo which one, older do
 * not, and then it may be any. Who has mapped a BAR needs no open file any more:
 * proc/PID/maps tells. It waits for the process if that one is just mapping, so
 * it is read by a child.
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
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

#define ANON_DEVICE "anon_inode:[vfio-device]"
#define MAPS_MS 5000

struct sriov_held {
	pid_t pid;
	bool is_block, is_mapped;
	uint64_t rdev; /* 0: not known */
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

static int hold(struct sriov *s, const struct sriov_held *held)
{
	struct sriov_held *grown;

	/* In steps of 64. */
	if (!s->held || s->nr_held % 64 == 0) {
		grown = reallocarray(s->held, s->nr_held + 64, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->held = grown;
	}
	s->held[s->nr_held++] = *held;
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

/* A BAR as a file: /sys/devices/.../0000:01:10.0/resource0, or resource0_wc. */
static bool is_bar(const char *path)
{
	const char *slash = strrchr(path, '/');

	return !strncmp(path, "/sys/", 5) && slash && !strncmp(slash, "/resource", 9);
}

/* True if it is a device. Without asking the server of a file system that may
 * be gone. */
static bool read_number(const char *link, struct sriov_held *held)
{
	struct statx st;

	if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return false;
	held->is_block = S_ISBLK(st.stx_mode);
	if (!held->is_block && !S_ISCHR(st.stx_mode))
		return false;
	held->rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
	return true;
}

static int look_at_file(struct sriov *s, pid_t pid, const char *dir, const char *fd)
{
	char link[SRIOV_PATH_LEN + 300], target[PATH_MAX];
	struct sriov_held held = { .pid = pid };
	ssize_t n;

	sriov_text(link, sizeof(link), "%s/%s", dir, fd);
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return 0;
	target[n] = '\0';
	if (!strcmp(target, ANON_DEVICE)) {
		sriov_path(s, link, "/proc/%d/fdinfo/%s", (int)pid, fd);
		read_fdinfo(link, target, sizeof(target));
	} else if (*target != '/' || !strcmp(target, "/dev/null") ||
		   !strncmp(target, "/dev/pts/", 9)) {
		return 0;
	} else if (!is_bar(target) && !read_number(link, &held) &&
		   strncmp(target, "/dev/", 5) != 0) {
		return 0;
	}
	sriov_text(held.path, sizeof(held.path), "%s", target);
	return hold(s, &held);
}

static int look_at_process(struct sriov *s, pid_t pid)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	int res = 0;
	DIR *dir;

	sriov_path(s, path, "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	/* Gone, or not ours to see. */
	if (!dir)
		return 0;
	while (!res && (e = readdir(dir))) {
		if (e->d_name[0] != '.')
			res = look_at_file(s, pid, path, e->d_name);
	}
	closedir(dir);
	return res;
}

/* In a child: "PID PATH" for each device that a process has mapped. */
static void tell_maps_of(struct sriov *s, pid_t pid, FILE *out)
{
	char path[SRIOV_PATH_LEN], line[PATH_MAX + 128], last[PATH_MAX + 128] = "";
	FILE *file;
	int at;

	sriov_path(s, path, "/proc/%d/maps", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		at = 0;
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%*s %*s %*s %*s %*s %n", &at) < 0 || !at ||
		    !strcmp(line + at, last))
			continue;
		if (!is_bar(line + at) && strcmp(line + at, ANON_DEVICE) != 0 &&
		    (strncmp(line + at, "/dev/", 5) || !strncmp(line + at, "/dev/shm/", 9) ||
		     !strncmp(line + at, "/dev/zero", 9)))
			continue;
		fprintf(out, "%d %s\n", (int)pid, line + at);
		memcpy(last, line + at, strlen(line + at) + 1);
	}
	if (file)
		fclose(file);
}

/* Calls visit for each process but the one to leave out. */
static int each_process(struct sriov *s, pid_t but, const void *what,
			int (*visit)(struct sriov *s, pid_t pid, const void *what))
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
		if (pid > 0 && pid != but)
			res = visit(s, pid, what);
	}
	closedir(dir);
	return res;
}

static int visit_maps(struct sriov *s, pid_t pid, const void *out)
{
	tell_maps_of(s, pid, (FILE *)out);
	return 0;
}

static void tell_maps(struct sriov *s, const void *but, FILE *out)
{
	each_process(s, *(const pid_t *)but, out, visit_maps);
}

static int look_at_maps(struct sriov *s)
{
	struct sriov_held held = { .is_mapped = true };
	char *text, *line, *rest = NULL;
	pid_t self = getpid();
	int res, at;

	res = sriov_survey(s, tell_maps, &self, MAPS_MS, &text);
	if (res < 0)
		log_warn("who has mapped a device: %s; who has one open is known", strerror(-res));
	res = 0;
	for (line = text ? strtok_r(text, "\n", &rest) : NULL; line && !res;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (sscanf(line, "%d %n", &held.pid, &at) != 1)
			continue;
		sriov_text(held.path, sizeof(held.path), "%s", line + at);
		res = hold(s, &held);
	}
	free(text);
	return res;
}

static int visit_files(struct sriov *s, pid_t pid, const void *what)
{
	return look_at_process(s, pid);
}

/* By process, and what it has open first. */
static int by_process(const void *a, const void *b)
{
	const struct sriov_held *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->is_mapped - y->is_mapped;
}

static int look_at_all(struct sriov *s)
{
	int res;

	res = each_process(s, getpid(), NULL, visit_files);
	if (!res)
		res = look_at_maps(s);
	if (!res)
		res = sriov_devfiles_load(s);
	/* Nothing is held: an array that says so. */
	if (!res && !s->held)
		s->held = calloc(1, sizeof(*s->held));
	if (!res && s->held) {
		qsort(s->held, s->nr_held, sizeof(*s->held), by_process);
		return 0;
	}
	sriov_users_forget(s);
	return !res || res == -ENOMEM ? sriov_fail(s, -ENOMEM, "out of memory") : res;
}

void sriov_users_forget(struct sriov *s)
{
	free(s->held);
	s->held = NULL;
	s->nr_held = 0;
	sriov_devfiles_forget(s);
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

/* A file of VFIO, by number if it is one of this machine. */
static bool is_node(struct sriov *s, const struct sriov_held *held, const char *node)
{
	char path[SRIOV_PATH_LEN];
	struct stat st;

	if (!*node)
		return false;
	if (!strcmp(held->path, node))
		return true;
	sriov_path(s, path, "%s", node);
	return held->rdev && !held->is_block && !lstat(path, &st) && S_ISCHR(st.st_mode) &&
	       st.st_rdev == held->rdev;
}

/* A function's directory, or a BAR in it. */
static bool is_in_sysfs(const struct sriov_held *held, const char *addr)
{
	char path[SRIOV_TEXT_LEN];
	char *slash;

	if (strncmp(held->path, "/sys/", 5) != 0)
		return false;
	memcpy(path, held->path, sizeof(path));
	slash = strrchr(path, '/');
	if (is_bar(path)) {
		*slash = '\0';
		slash = strrchr(path, '/');
	}
	return slash && !strcmp(slash + 1, addr);
}

static bool holds(struct sriov *s, const struct sriov_held *held, const char *group_node,
		  const char *cdev_node, const char *addr)
{
	return is_node(s, held, group_node) || is_node(s, held, cdev_node) ||
	       is_in_sysfs(held, addr) ||
	       sriov_devfile_is_of(s, held->rdev, held->is_block, held->path, addr);
}

/* A VFIO device of unknown name, by a process that has no VFIO file open which
 * would explain it; a mapping is explained by a device that is open as well. */
static bool may_hold(const struct sriov *s, const struct sriov_held *held)
{
	if (strcmp(held->path, ANON_DEVICE) != 0)
		return false;
	for (unsigned int i = 0; i < s->nr_held; i++) {
		const char *path = s->held[i].path;

		if (s->held[i].pid != held->pid)
			continue;
		if (!strncmp(path, "/dev/vfio/", 10) && strcmp(path, "/dev/vfio/vfio") != 0)
			return false;
		if (held->is_mapped && !s->held[i].is_mapped && !strncmp(path, "/sys/", 5))
			return false;
	}
	return true;
}

int sriov_block_users(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b)
{
	char group_node[SRIOV_TEXT_LEN], cdev_node[SRIOV_TEXT_LEN], who[SRIOV_TEXT_LEN];
	bool is_vfio = sriov_driver_is_vfio(f->driver);
	pid_t last = 0;
	int res = 0;

	if (!s->held) {
		res = look_at_all(s);
		if (res < 0)
			return res;
	}
	sriov_vfio_nodes(s, f->addr, f->iommu_group, group_node, cdev_node);
	if (!is_vfio)
		group_node[0] = '\0';
	for (unsigned int i = 0; i < s->nr_held && !res; i++) {
		const struct sriov_held *held = &s->held[i];
		bool sure = holds(s, held, group_node, cdev_node, f->addr);

		if (held->pid == last || (!sure && !(is_vfio && may_hold(s, held))))
			continue;
		last = held->pid;
		sriov_process_text(s, last, who);
		if (sure)
			res = sriov_blocker_add(b, SRIOV_BLOCK_USER, "%s has %s %s", who,
						held->path, held->is_mapped ? "mapped" : "open");
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
