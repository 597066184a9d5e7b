/*
 * Claimed VFs in the words of who takes them: arguments for QEMU,
 * cloud-hypervisor and DPDK, XML for libvirt.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_ATTACH_H
#define RINGBOLT_SRIOV_ATTACH_H

#include "sriov/sriov.h"

enum sriov_attach_format {
	SRIOV_ATTACH_QEMU,
	SRIOV_ATTACH_LIBVIRT, /* one XML element, no arguments of a command */
	SRIOV_ATTACH_CLOUD_HYPERVISOR,
	SRIOV_ATTACH_DPDK,
	SRIOV_ATTACH_CNT,
};

extern const char *const sriov_attach_names[]; /* NULL-terminated */

struct sriov_attachment {
	unsigned int nr, nr_nodes;
	char (*arg)[SRIOV_TEXT_LEN]; /* or the lines of elements */
	/* What its user must be able to open, without the root. */
	char (*node)[SRIOV_TEXT_LEN];
};

/*
 * All VFs of one owner, for one program: each by its group (IOMMU_BACKEND_TYPE1)
 * or all by their cdevs (IOMMU_BACKEND_IOMMUFD); AUTO takes the cdevs if each has
 * one and who takes them can use it. owner NULL: whoever claimed the first.
 * -ENOENT not claimed, -EPERM by somebody else, -ENOTSUP not on a VFIO driver,
 * without cdev, or not known to that program, -EINVAL given twice. *a is to be
 * freed, whatever is returned.
 */
int sriov_attach(struct sriov *s, const char (*vf)[SRIOV_ADDR_LEN], unsigned int nr,
		 const char *owner, enum sriov_attach_format format, enum iommu_backend backend,
		 struct sriov_attachment *a);
void sriov_attachment_free(struct sriov_attachment *a);

#endif
