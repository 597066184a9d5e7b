/*
 * A claimed VF in the words of who takes it: arguments for QEMU,
 * cloud-hypervisor and DPDK, XML for libvirt.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_ATTACH_H
#define RINGBOLT_SRIOV_ATTACH_H

#include "sriov/sriov.h"

#define SRIOV_ARGS_MAX 8

enum sriov_attach_format {
	SRIOV_ATTACH_QEMU,
	SRIOV_ATTACH_LIBVIRT, /* one XML element, no arguments of a command */
	SRIOV_ATTACH_CLOUD_HYPERVISOR,
	SRIOV_ATTACH_DPDK,
	SRIOV_ATTACH_CNT,
};

extern const char *const sriov_attach_names[]; /* NULL-terminated */

struct sriov_attachment {
	unsigned int nr;
	char arg[SRIOV_ARGS_MAX][SRIOV_TEXT_LEN]; /* or the lines of an element */
	/* What its user must be able to open, without the root. */
	char node[2][SRIOV_TEXT_LEN];
};

/*
 * By its group (IOMMU_BACKEND_TYPE1) or by its cdev (IOMMU_BACKEND_IOMMUFD); AUTO
 * takes the cdev if there is one and who takes it can use it. owner NULL: whoever
 * claimed it. -ENOENT not claimed, -EPERM by somebody else, -ENOTSUP not on a
 * VFIO driver, without cdev, or not known to that program.
 */
int sriov_attach(struct sriov *s, const char *vf, const char *owner,
		 enum sriov_attach_format format, enum iommu_backend backend,
		 struct sriov_attachment *a);

#endif
