/*
 * A made-up sysfs in a temporary folder: functions, the ports above them, their
 * IOMMU groups. For tests of iommu/. Failure to make it ends the test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_IOMMU_SYSFSKIT_H
#define RINGBOLT_TESTS_IOMMU_SYSFSKIT_H

#include <stddef.h>
#include <stdint.h>

struct sysfskit {
	char root[64];
};

void sysfskit_create(struct sysfskit *k);
/* Removes the folder. */
void sysfskit_destroy(struct sysfskit *k);

/* A file or a link, path from the root; folders above are made. */
void sysfskit_file(struct sysfskit *k, const char *path, const void *data, size_t len);
void sysfskit_text(struct sysfskit *k, const char *path, const char *text);
void sysfskit_link(struct sysfskit *k, const char *path, const char *target);
void sysfskit_dir(struct sysfskit *k, const char *path);
void sysfskit_remove(struct sysfskit *k, const char *path);

/*
 * A function of class 0x020000, device 8086:10ca, below the ports named in above
 * ("" or "0000:00:01.0/"), in a group. driver NULL: none. A driver with "vfio"
 * in its name gets a character device vfio<group>.
 */
void sysfskit_function(struct sysfskit *k, const char *above, const char *address, int group,
		       const char *driver);
/* Its configuration space: 4096 bytes with a PCI Express capability of that
 * port type, and ACS with these registers where acs is set. */
struct sysfskit_config {
	unsigned int port_type;
	int multifunction, acs;
	uint16_t acs_cap, acs_ctrl;
	size_t len; /* 0: all of it */
};
void sysfskit_config(struct sysfskit *k, const char *address, const struct sysfskit_config *c);

#endif
