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

struct sriov_attach_opts {
	const char *owner; /* NULL: whoever claimed the first VF */
	enum sriov_attach_format format;
	/* Each by its group (IOMMU_BACKEND_TYPE1) or all by their cdevs
	 * (IOMMU_BACKEND_IOMMUFD); AUTO takes the cdevs if each has one and who
	 * takes them can use it. */
	enum iommu_backend backend;
	/* Who opens the files. Not given: whoever they belong to. */
	bool has_user;
	uid_t uid;
	gid_t gid;
	/* Open them here, for a program that is started by this process, where it
	 * can be told of descriptors: then its user needs no rights of his own. */
	bool open;
};

struct sriov_attachment {
	unsigned int nr, nr_nodes, nr_fds;
	char (*arg)[SRIOV_TEXT_LEN]; /* or the lines of elements */
	/* What its user must be able to open, without the root; unless they are open. */
	char (*node)[SRIOV_TEXT_LEN];
	int *fd; /* in the order of nodes; closed by exec, and by sriov_attachment_free() */
};

/*
 * All VFs of one owner, for one program. -ENOENT not claimed, -EPERM by somebody
 * else, -EACCES not the user's to open, -ENOTSUP not on a VFIO driver, without
 * cdev, or not known to that program, -EINVAL given twice. *a is to be freed,
 * whatever is returned.
 */
int sriov_attach(struct sriov *s, const char (*vf)[SRIOV_ADDR_LEN], unsigned int nr,
		 const struct sriov_attach_opts *opts, struct sriov_attachment *a);
void sriov_attachment_free(struct sriov_attachment *a);

#endif
