/*
 * Reading what sysfs tells of a PCI function: links, one-line files, names.
 * Called by the rest of this folder with a root of the caller's choice, so that
 * a test can give a folder of its own. Never writes; what is being unplugged
 * while it reads is -ENOENT or -ENODEV, never a surprise.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int iommu_fail(char *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, fmt);
		vsnprintf(err, IOMMU_ERR_LEN, fmt, ap);
		va_end(ap);
	}
	return code;
}

int iommu_path(char *path, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, PATH_MAX, fmt, ap);
	va_end(ap);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool hex_digits(const char **text, int min, int max)
{
	int n = 0;

	while (isxdigit((unsigned char)**text) && n < max) {
		(*text)++;
		n++;
	}
	return n >= min;
}

bool iommu_is_address(const char *text)
{
	/* domain:bus:device.function; a domain has four digits or more. */
	return hex_digits(&text, 4, 8) && *text++ == ':' && hex_digits(&text, 2, 2) &&
	       *text++ == ':' && hex_digits(&text, 2, 2) && *text++ == '.' && *text >= '0' &&
	       *text <= '7' && text[1] == '\0';
}

int iommu_sysfs_path(char *path, const char *sysfs, const char *address, const char *leaf)
{
	return iommu_path(path, "%s/bus/pci/devices/%s%s%s", sysfs ? sysfs : "/sys", address,
			  leaf ? "/" : "", leaf ? leaf : "");
}

int iommu_sysfs_link(const char *path, char *name, size_t len)
{
	char target[PATH_MAX];
	const char *base;
	ssize_t n;

	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	base = strrchr(target, '/');
	snprintf(name, len, "%s", base ? base + 1 : target);
	return 0;
}

int iommu_sysfs_text(const char *path, char *text, size_t len)
{
	size_t got = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (got < len - 1 && (n = read(fd, text + got, len - 1 - got)) != 0) {
		if (n < 0) {
			n = -errno;
			close(fd);
			return (int)n;
		}
		got += (size_t)n;
	}
	close(fd);
	text[got] = '\0';
	if (got && text[got - 1] == '\n')
		text[got - 1] = '\0';
	return 0;
}

int iommu_sysfs_check(const char *sysfs, const char *address, char *err)
{
	char path[PATH_MAX];

	if (!address || !iommu_is_address(address))
		return iommu_fail(err, -EINVAL, "'%s' is no PCI address, as in 0000:3b:02.0",
				  address ? address : "");
	if (iommu_sysfs_path(path, sysfs, address, NULL) < 0)
		return iommu_fail(err, -ENAMETOOLONG, "the path of sysfs is too long");
	if (access(path, F_OK) < 0)
		return iommu_fail(err, -ENODEV, "there is no PCI device %s", address);
	return 0;
}

int iommu_sysfs_cdev(const char *sysfs, const char *address, char *name, size_t len)
{
	char path[PATH_MAX], number[PATH_MAX];
	struct dirent *e;
	int ret = -ENOENT;
	DIR *dir;

	if (iommu_sysfs_path(path, sysfs, address, "vfio-dev") < 0)
		return -ENAMETOOLONG;
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (ret < 0 && (e = readdir(dir))) {
		if (strncmp(e->d_name, "vfio", 4) || !isdigit((unsigned char)e->d_name[4]))
			continue;
		/* Without VFIO_DEVICE_CDEV there is a folder, but no number. */
		if (iommu_path(number, "%s/%s/dev", path, e->d_name) < 0 ||
		    access(number, F_OK) < 0)
			continue;
		snprintf(name, len, "%s", e->d_name);
		ret = 0;
	}
	closedir(dir);
	return ret;
}
