/*
 * This kernel's side of struct sriov_os that needs no netlink: files of sysfs
 * and modules. The rest of the table is netlink.c's and netuse.c's. Tests put a
 * kernel of their own in its place.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"
#include "sriov/netlink.h"

#define MODULE_MS 30000

/* In a child. No O_CREAT: a device that vanished must not become a file. */
static int kernel_write(struct sriov *s, const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd, res = 0;
	ssize_t n;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0)
		res = -errno;
	else if ((size_t)n != len)
		res = -EIO;
	if (close(fd) < 0 && !res)
		res = -errno;
	return res;
}

/* For reading, and without waiting for a medium: nothing is written, and udev
 * sees no change. */
static int kernel_disk_take(struct sriov *s, const char *path)
{
	struct stat st;
	int fd;

	if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
		return -ENODEV;
	fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* 0 if it says so; -ENOENT if it could not be started, -EIO if it failed. */
static int run_program(char *const argv[], unsigned int timeout_ms)
{
	uint64_t end = sriov_now_ms() + timeout_ms;
	int status, res;
	pid_t pid;

	res = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (res)
		return -res;
	while (!(res = waitpid(pid, &status, WNOHANG)) && sriov_now_ms() < end)
		sriov_sleep_ms(5);
	if (!res) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, WNOHANG);
		return -ETIMEDOUT;
	}
	return res == pid && WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

static int modprobe(char *flags, const char *name)
{
	char *argv[] = { "modprobe", flags, "--", (char *)name, NULL };
	int res = run_program(argv, MODULE_MS);

	return res == -EIO ? -ENOENT : res;
}

static int kernel_load_module(struct sriov *s, const char *name)
{
	return modprobe("-q", name);
}

static int kernel_find_module(struct sriov *s, const char *name)
{
	return modprobe("-qn", name);
}

/* Its queue (/run/udev/queue) says nothing of an event that it has not seen yet:
 * udevadm asks the daemon first. */
static int kernel_settle(struct sriov *s, unsigned int timeout_ms)
{
	char path[SRIOV_PATH_LEN], option[32];
	char *argv[] = { "udevadm", "settle", option, NULL };

	sriov_path(s, path, "/run/udev/control");
	if (!sriov_file_exists(path))
		return 0;
	sriov_text(option, sizeof(option), "--timeout=%u", timeout_ms / 1000 + 1);
	return run_program(argv, timeout_ms);
}

const struct sriov_os sriov_kernel = {
	.write = kernel_write,
	.conf_get = sriov_nl_conf_get,
	.conf_set = sriov_nl_conf_set,
	.net_use = sriov_nl_net_use,
	.link_set = sriov_nl_link_set,
	.links = sriov_nl_links,
	.eswitch = sriov_nl_eswitch,
	.load_module = kernel_load_module,
	.find_module = kernel_find_module,
	.disk_take = kernel_disk_take,
	.settle = kernel_settle,
};
