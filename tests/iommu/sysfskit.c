/*
 * Making up a sysfs. Called by the tests of iommu/. Knows only the files that
 * iommu/ reads.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/sysfskit.h"

#include "tests/core/test.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sysfskit_create(struct sysfskit *k)
{
	strcpy(k->root, "/tmp/ringbolt-sysfs.XXXXXX");
	assert_non_null(mkdtemp(k->root));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

void sysfskit_destroy(struct sysfskit *k)
{
	assert_int_equal(nftw(k->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void full_path(struct sysfskit *k, const char *path, char *full)
{
	assert_in_range(snprintf(full, PATH_MAX, "%s/%s", k->root, path), 1, PATH_MAX - 1);
}

/* The folders above the last component. */
static void make_parents(char *full)
{
	for (char *p = strchr(full + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(full, 0755);
		*p = '/';
	}
}

void sysfskit_file(struct sysfskit *k, const char *path, const void *data, size_t len)
{
	char full[PATH_MAX];
	int fd;

	full_path(k, path, full);
	make_parents(full);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

void sysfskit_text(struct sysfskit *k, const char *path, const char *text)
{
	sysfskit_file(k, path, text, strlen(text));
}

void sysfskit_link(struct sysfskit *k, const char *path, const char *target)
{
	char full[PATH_MAX], to[PATH_MAX];

	full_path(k, path, full);
	full_path(k, target, to);
	make_parents(full);
	unlink(full);
	assert_int_equal(symlink(to, full), 0);
}

void sysfskit_dir(struct sysfskit *k, const char *path)
{
	char full[PATH_MAX];

	full_path(k, path, full);
	make_parents(full);
	mkdir(full, 0755);
}

void sysfskit_remove(struct sysfskit *k, const char *path)
{
	char full[PATH_MAX];

	full_path(k, path, full);
	assert_int_equal(nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void sysfskit_function(struct sysfskit *k, const char *above, const char *address, int group,
		       const char *driver)
{
	char dir[256], path[512], target[512];

	snprintf(dir, sizeof(dir), "devices/pci0000:00/%s%s", above, address);
	sysfskit_dir(k, dir);
	snprintf(path, sizeof(path), "bus/pci/devices/%s", address);
	sysfskit_link(k, path, dir);
	snprintf(path, sizeof(path), "%s/class", dir);
	sysfskit_text(k, path, "0x020000\n");
	snprintf(path, sizeof(path), "%s/vendor", dir);
	sysfskit_text(k, path, "0x8086\n");
	snprintf(path, sizeof(path), "%s/device", dir);
	sysfskit_text(k, path, "0x10ca\n");
	if (driver) {
		snprintf(path, sizeof(path), "%s/driver", dir);
		snprintf(target, sizeof(target), "bus/pci/drivers/%s", driver);
		sysfskit_dir(k, target);
		sysfskit_link(k, path, target);
	}
	if (driver && strstr(driver, "vfio")) {
		snprintf(path, sizeof(path), "%s/vfio-dev/vfio%d/dev", dir, group);
		sysfskit_text(k, path, "242:0\n");
	}
	if (group < 0)
		return;
	snprintf(path, sizeof(path), "%s/iommu_group", dir);
	snprintf(target, sizeof(target), "kernel/iommu_groups/%d", group);
	sysfskit_link(k, path, target);
	snprintf(path, sizeof(path), "kernel/iommu_groups/%d/devices/%s", group, address);
	sysfskit_link(k, path, dir);
	snprintf(path, sizeof(path), "kernel/iommu_groups/%d/type", group);
	sysfskit_text(k, path, "DMA-FQ\n");
	snprintf(path, sizeof(path), "kernel/iommu_groups/%d/reserved_regions", group);
	sysfskit_text(k, path, "0x00000000fee00000 0x00000000feefffff msi\n");
}

static void put16(uint8_t *config, size_t at, uint16_t v)
{
	config[at] = (uint8_t)v;
	config[at + 1] = (uint8_t)(v >> 8);
}

void sysfskit_config(struct sysfskit *k, const char *address, const struct sysfskit_config *c)
{
	uint8_t config[4096] = { 0 };
	char path[256];

	put16(config, 0, 0x8086);
	put16(config, 2, 0x10ca);
	config[0x0e] = c->multifunction ? 0x80 : 0;
	config[0x34] = 0x40;
	/* Power management first, then PCI Express. */
	put16(config, 0x40, 0x5001);
	put16(config, 0x50, 0x0010);
	put16(config, 0x52, (uint16_t)(2 | c->port_type << 4));
	/* Advanced error reporting first, then, perhaps, ACS. */
	put16(config, 0x100, 0x0001);
	put16(config, 0x102, (uint16_t)(1 | (c->acs ? 0x148 << 4 : 0)));
	if (c->acs) {
		put16(config, 0x148, 0x000d);
		put16(config, 0x14a, 1);
		put16(config, 0x14c, c->acs_cap);
		put16(config, 0x14e, c->acs_ctrl);
	}
	snprintf(path, sizeof(path), "bus/pci/devices/%s/config", address);
	sysfskit_file(k, path, config, c->len ? c->len : sizeof(config));
}
