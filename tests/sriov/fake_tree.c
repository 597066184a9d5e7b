/*
 * The files of the machine of fake.h, and its functions as files. Used by its
 * kernel (fake_kernel.c) and by what tests do to it (fake.c).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include "tests/sriov/fake_tree.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"

/* ---- Files ---- */

void tree_path(const char *root, const char *path, char *full)
{
	sriov_text(full, PATH_MAX, "%s%s%s", root, *path == '/' ? "" : "/", path);
}

void tree_make_parents(char *full)
{
	for (char *slash = full + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
}

void tree_put(const char *root, const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *file;

	tree_path(root, path, full);
	tree_make_parents(full);
	file = fopen(full, "we");
	if (!file)
		return;
	fputs(text, file);
	fclose(file);
}

void tree_link(const char *root, const char *path, const char *target)
{
	char full[PATH_MAX], to[PATH_MAX];

	tree_path(root, path, full);
	tree_make_parents(full);
	/* Absolute links lead back below the root. */
	if (*target == '/')
		tree_path(root, target, to);
	else
		sriov_text(to, sizeof(to), "%s", target);
	unlink(full);
	if (symlink(to, full) < 0)
		abort();
}

bool tree_has(const char *root, const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	tree_path(root, path, full);
	return !lstat(full, &st);
}

void tree_get(const char *root, const char *path, char *text, size_t len)
{
	char full[PATH_MAX];

	tree_path(root, path, full);
	if (sriov_file_read(full, text, len) < 0)
		text[0] = '\0';
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void tree_drop(const char *root, const char *path)
{
	char full[PATH_MAX];

	tree_path(root, path, full);
	nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void tree_say(char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, PATH_MAX, fmt, ap);
	va_end(ap);
}

/* ---- Functions ---- */

void tree_attr(const char *root, const char *addr, const char *file, const char *text)
{
	char path[PATH_MAX];

	tree_say(path, DEVICES "/%s/%s", addr, file);
	tree_put(root, path, text);
}

void tree_number(const char *root, const char *addr, const char *file, unsigned int v)
{
	char text[32];

	snprintf(text, sizeof(text), "%u\n", v);
	tree_attr(root, addr, file, text);
}

static void put_group(const char *root, const char *addr, int group)
{
	char path[PATH_MAX], target[PATH_MAX];

	if (group < 0)
		return;
	tree_say(path, "/sys/kernel/iommu_groups/%d/devices/%s", group, addr);
	tree_say(target, DEVICES "/%s", addr);
	tree_link(root, path, target);
	tree_say(path, "/sys/kernel/iommu_groups/%d/type", group);
	tree_put(root, path, "DMA-FQ\n");
	tree_say(path, "/sys/kernel/iommu_groups/%d/reserved_regions", group);
	tree_put(root, path, "0x00000000fee00000 0x00000000feefffff msi\n");
	tree_say(path, DEVICES "/%s/iommu_group", addr);
	tree_say(target, "/sys/kernel/iommu_groups/%d", group);
	tree_link(root, path, target);
}

void tree_netdev(const char *root, const char *addr, const char *netdev, const char *mac)
{
	char path[PATH_MAX], target[PATH_MAX];

	tree_say(path, "net/%s/address", netdev);
	tree_attr(root, addr, path, mac);
	tree_say(path, "net/%s/operstate", netdev);
	tree_attr(root, addr, path, "up\n");
	tree_say(path, "net/%s/flags", netdev);
	tree_attr(root, addr, path, "0x1003\n");
	tree_say(path, DEVICES "/%s/net/%s/device", addr, netdev);
	tree_say(target, DEVICES "/%s", addr);
	tree_link(root, path, target);
	tree_say(path, "/sys/class/net/%s", netdev);
	tree_say(target, DEVICES "/%s/net/%s", addr, netdev);
	tree_link(root, path, target);
}

void tree_driver(const char *root, const char *name)
{
	char path[PATH_MAX];

	tree_say(path, "/sys/bus/pci/drivers/%s/unbind", name);
	tree_put(root, path, "");
	tree_say(path, "/sys/bus/pci/drivers/%s/bind", name);
	tree_put(root, path, "");
	tree_say(path, "/sys/bus/pci/drivers/%s/new_id", name);
	tree_put(root, path, "");
}

void tree_set_driver(const char *root, const char *addr, const char *driver)
{
	char path[PATH_MAX], target[PATH_MAX];

	tree_say(path, DEVICES "/%s/driver", addr);
	tree_say(target, "/sys/bus/pci/drivers/%s", driver);
	tree_link(root, path, target);
}

void tree_function(const char *root, const struct tree_function *fn)
{
	char path[PATH_MAX], target[PATH_MAX];

	tree_attr(root, fn->addr, "vendor", fn->vendor);
	tree_attr(root, fn->addr, "device", fn->device);
	tree_attr(root, fn->addr, "class", fn->class_code);
	tree_attr(root, fn->addr, "numa_node", fn->node);
	tree_attr(root, fn->addr, "driver_override", "(null)\n");
	tree_attr(root, fn->addr, "reset", "");
	tree_attr(root, fn->addr, "reset_method", "flr\n");
	tree_attr(root, fn->addr, "resource",
		  "0x00000000fea00000 0x00000000fea1ffff 0x0000000000040200\n");
	put_group(root, fn->addr, fn->group);
	tree_say(path, "/sys/bus/pci/devices/%s", fn->addr);
	tree_say(target, DEVICES "/%s", fn->addr);
	tree_link(root, path, target);
	if (*fn->driver)
		tree_set_driver(root, fn->addr, fn->driver);
	if (*fn->netdev)
		tree_netdev(root, fn->addr, fn->netdev, "52:54:00:aa:00:01\n");
	if (!fn->total)
		return;
	tree_number(root, fn->addr, "sriov_totalvfs", fn->total);
	tree_number(root, fn->addr, "sriov_numvfs", 0);
	tree_number(root, fn->addr, "sriov_offset", fn->offset);
	tree_number(root, fn->addr, "sriov_stride", fn->stride);
	tree_number(root, fn->addr, "sriov_drivers_autoprobe", 1);
	tree_attr(root, fn->addr, "sriov_vf_device", "10ca\n");
	tree_number(root, fn->addr, "sriov_vf_total_msix", 64);
}

void tree_vf_addr(const char *root, const char *pf, unsigned int i, char *addr)
{
	unsigned int domain, bus, device, function, rid;
	char path[PATH_MAX], offset[16], stride[16];

	tree_say(path, DEVICES "/%s/sriov_offset", pf);
	tree_get(root, path, offset, sizeof(offset));
	tree_say(path, DEVICES "/%s/sriov_stride", pf);
	tree_get(root, path, stride, sizeof(stride));
	sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &device, &function);
	rid = (bus << 8 | device << 3 | function) + (unsigned int)atoi(offset) +
	      i * (unsigned int)atoi(stride);
	snprintf(addr, SRIOV_ADDR_LEN, "%04x:%02x:%02x.%x", domain, rid >> 8, rid >> 3 & 31,
		 rid & 7);
}

void tree_pf_netdev(const char *root, const char *pf, char *netdev)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *dir;

	netdev[0] = '\0';
	tree_say(path, "%s" DEVICES "/%s/net", root, pf);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] != '.')
			snprintf(netdev, IFNAMSIZ, "%.15s", e->d_name);
	}
	if (dir)
		closedir(dir);
}

void tree_driver_of(const char *root, const char *addr, char *driver)
{
	char path[PATH_MAX];

	tree_say(path, "%s" DEVICES "/%s/driver", root, addr);
	sriov_file_link(path, driver, SRIOV_NAME_LEN);
}

#define MSIX_AT 0x70
#define MSIX_OWN 3

void tree_make_msix(const char *root, const char *addr)
{
	uint8_t config[256] = { [0x34] = 0x50, [0x50] = 0x01, [0x51] = MSIX_AT, [MSIX_AT] = 0x11 };
	char path[PATH_MAX];
	FILE *file;

	tree_say(path, "%s" DEVICES "/%s/config", root, addr);
	file = fopen(path, "we");
	if (!file || fwrite(config, 1, sizeof(config), file) != sizeof(config))
		abort();
	fclose(file);
	tree_set_msix(root, addr, 0);
}

unsigned int tree_msix(const char *root, const char *addr)
{
	uint8_t config[256] = { 0 };
	char path[PATH_MAX];
	unsigned int size;
	FILE *file;

	tree_say(path, "%s" DEVICES "/%s/config", root, addr);
	file = fopen(path, "re");
	if (!file)
		return 0;
	size = (unsigned int)fread(config, 1, sizeof(config), file);
	fclose(file);
	if (size < sizeof(config))
		return 0;
	return (config[MSIX_AT + 2] | (unsigned int)config[MSIX_AT + 3] << 8) + 1;
}

void tree_set_msix(const char *root, const char *addr, unsigned int entries)
{
	char path[PATH_MAX];
	uint8_t size[2];
	FILE *file;

	entries = (entries ? entries : MSIX_OWN) - 1;
	size[0] = (uint8_t)entries;
	size[1] = (uint8_t)(entries >> 8);
	tree_say(path, "%s" DEVICES "/%s/config", root, addr);
	file = fopen(path, "r+e");
	if (!file)
		return;
	if (fseek(file, MSIX_AT + 2, SEEK_SET) || fwrite(size, 1, 2, file) != 2)
		abort();
	fclose(file);
}
