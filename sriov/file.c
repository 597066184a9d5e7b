/*
 * Small files and links of sysfs and proc, and addresses of PCI functions. For
 * all of sriov/. Reads only what the kernel answers at once: sriov_numvfs,
 * driver_override and sriov_vf_total_msix wait for the device's lock,
 * phys_port_name and phys_switch_id for that of all network devices, and are
 * guard.c's.
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
#include <time.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"

int sriov_file_read(const char *path, char *buf, size_t len)
{
	ssize_t n;
	int fd;

	buf[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	if (n < 0)
		return (int)n;
	buf[strcspn(buf, "\n")] = '\0';
	return (int)strlen(buf);
}

int sriov_file_number(const char *path, uint64_t *v)
{
	char text[32], *end;
	int res;

	res = sriov_file_read(path, text, sizeof(text));
	if (res < 0)
		return res;
	errno = 0;
	*v = (uint64_t)strtoll(text, &end, 0);
	return errno || end == text || *end ? -EINVAL : 0;
}

void sriov_attr_text(const struct sriov *s, const char *addr, const char *file, char *buf,
		     size_t len)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, addr, file);
	if (sriov_file_read(path, buf, len) < 0)
		buf[0] = '\0';
}

uint64_t sriov_attr_number(const struct sriov *s, const char *addr, const char *file,
			   uint64_t missing)
{
	char path[SRIOV_PATH_LEN];
	uint64_t v;

	sriov_dev_path(s, path, addr, file);
	return sriov_file_number(path, &v) < 0 ? missing : v;
}

int sriov_file_link(const char *path, char *buf, size_t len)
{
	char target[PATH_MAX];
	const char *slash;
	ssize_t n;

	buf[0] = '\0';
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	slash = strrchr(target, '/');
	sriov_text(buf, len, "%s", slash ? slash + 1 : target);
	return 0;
}

bool sriov_file_exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}

bool sriov_dev_exists(const struct sriov *s, const char *addr)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, addr, "");
	return sriov_file_exists(path);
}

uint64_t sriov_proc_start(const char *proc, pid_t pid)
{
	char path[SRIOV_PATH_LEN], text[1024], *p;

	sriov_text(path, sizeof(path), "%s/%d/stat", proc, (int)pid);
	if (pid <= 0 || sriov_file_read(path, text, sizeof(text)) < 0)
		return 0;
	/* The name, field 2, may contain anything; the last ')' ends it. A zombie
	 * holds nothing any more. */
	p = strrchr(text, ')');
	if (!p || p[1] != ' ' || p[2] == 'Z' || p[2] == 'X')
		return 0;
	p += 2;
	for (int field = 3; field < 22 && p; field++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p ? strtoull(p, NULL, 10) : 0;
}

/* Hexadecimal digits up to stop, which is skipped. */
static bool hex_part(const char **text, char stop, unsigned int digits_max, unsigned int *v)
{
	unsigned int digits = 0;

	*v = 0;
	for (; isxdigit((unsigned char)**text); (*text)++, digits++) {
		if (digits == digits_max)
			return false;
		*v = *v * 16 + (unsigned int)(isdigit((unsigned char)**text)
						      ? **text - '0'
						      : tolower((unsigned char)**text) - 'a' + 10);
	}
	if (!digits || **text != stop)
		return false;
	if (stop)
		(*text)++;
	return true;
}

int sriov_addr_parse(const char *text, char addr[SRIOV_ADDR_LEN])
{
	unsigned int domain = 0, bus, device, function;
	const char *colon = strchr(text, ':');

	if (colon && strchr(colon + 1, ':') && !hex_part(&text, ':', 8, &domain))
		return -EINVAL;
	if (!hex_part(&text, ':', 2, &bus) || !hex_part(&text, '.', 2, &device) ||
	    !hex_part(&text, '\0', 1, &function) || device > 31 || function > 7)
		return -EINVAL;
	sriov_text(addr, SRIOV_ADDR_LEN, "%04x:%02x:%02x.%x", domain, bus, device, function);
	return 0;
}

int sriov_vf_addrs(const struct sriov *s, const char *pf, char (**addr)[SRIOV_ADDR_LEN])
{
	char path[SRIOV_PATH_LEN], link[SRIOV_PATH_LEN + 300], *end;
	char(*grown)[SRIOV_ADDR_LEN];
	struct dirent *e;
	unsigned long i;
	int nr = 0;
	DIR *dir;

	*addr = NULL;
	sriov_dev_path(s, path, pf, "");
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, "virtfn", 6) || !isdigit((unsigned char)e->d_name[6]))
			continue;
		i = strtoul(e->d_name + 6, &end, 10);
		if (*end || i >= SRIOV_VFS_MAX)
			continue;
		if ((int)i >= nr) {
			grown = reallocarray(*addr, i + 1, sizeof(**addr));
			if (!grown) {
				closedir(dir);
				free(*addr);
				*addr = NULL;
				return -ENOMEM;
			}
			memset(grown + nr, 0, (i + 1 - (unsigned long)nr) * sizeof(**addr));
			*addr = grown;
			nr = (int)i + 1;
		}
		sriov_text(link, sizeof(link), "%s/%s", path, e->d_name);
		sriov_file_link(link, (*addr)[i], SRIOV_ADDR_LEN);
	}
	closedir(dir);
	return nr;
}

/* The function that a path of sysfs lies in: its last part that is an address. */
static bool function_of(const char *path, char addr[SRIOV_ADDR_LEN])
{
	char part[SRIOV_ADDR_LEN + 1];
	bool found = false;
	size_t len;

	for (; *path; path += len + (path[len] == '/')) {
		len = strcspn(path, "/");
		if (len >= sizeof(part))
			continue;
		memcpy(part, path, len);
		part[len] = '\0';
		found |= !sriov_addr_parse(part, addr);
	}
	return found;
}

int sriov_netdev_function(const struct sriov *s, const char *netdev, char addr[SRIOV_ADDR_LEN])
{
	char path[SRIOV_PATH_LEN], real[PATH_MAX], found[SRIOV_ADDR_LEN];

	sriov_path(s, path, "/sys/class/net/%s/device", netdev);
	/* Some have a device between, as virtio-net has. */
	if (!realpath(path, real) || !function_of(real, found))
		return -ENODEV;
	memcpy(addr, found, SRIOV_ADDR_LEN);
	return 0;
}

/* Where its network devices are looked for: in the folder it has for them, or
 * among all if there may be a device between. NULL: it can have none. */
static DIR *open_netdevs(const struct sriov *s, const char *addr, bool *own)
{
	char path[SRIOV_PATH_LEN], driver[SRIOV_NAME_LEN];
	DIR *dir;

	sriov_dev_path(s, path, addr, "net");
	dir = opendir(path);
	*own = dir;
	if (dir)
		return dir;
	sriov_dev_path(s, path, addr, "driver");
	sriov_file_link(path, driver, sizeof(driver));
	if (!*driver || sriov_driver_is_vfio(driver))
		return NULL;
	sriov_path(s, path, "/sys/class/net");
	return opendir(path);
}

int sriov_netdevs(const struct sriov *s, const char *addr, char (**netdev)[IFNAMSIZ])
{
	char owner[SRIOV_ADDR_LEN];
	char(*grown)[IFNAMSIZ];
	struct dirent *e;
	int nr = 0;
	bool own;
	DIR *dir;

	*netdev = NULL;
	dir = open_netdevs(s, addr, &own);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= IFNAMSIZ)
			continue;
		if (!own &&
		    (sriov_netdev_function(s, e->d_name, owner) < 0 || strcmp(owner, addr) != 0))
			continue;
		grown = reallocarray(*netdev, (size_t)nr + 1, sizeof(*grown));
		if (!grown)
			break;
		*netdev = grown;
		sriov_text(grown[nr++], IFNAMSIZ, "%s", e->d_name);
	}
	if (dir)
		closedir(dir);
	return nr;
}

uint64_t sriov_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void sriov_sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}
