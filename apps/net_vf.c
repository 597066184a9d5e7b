/*
 * A claimed VF becomes an uplink: called when one is added. Who may have the VF,
 * and what stands in the way, is sriov/'s to say; opening it through VFIO is
 * DPDK's. The claim stays its owner's: it outlives this process, so that another
 * one can go on with the same VF, and it cannot be released while a process has
 * the VF open.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/net_vf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sriov/attach.h"
#include "virtio-net/vswitch.h"

int net_vf_find(const char *uplink, const char *text, const char *owner, char *addr, char *err)
{
	static const struct sriov_opts this_machine;
	struct sriov_attachment unused;
	struct sriov *s = NULL;
	int res = sriov_open(&this_machine, &s);

	if (!res)
		res = sriov_resolve(s, text, addr);
	if (!res)
		res = sriov_attach(s, addr, owner, SRIOV_ATTACH_DPDK, IOMMU_BACKEND_TYPE1, &unused);
	if (res < 0)
		snprintf(err, SW_ERR_LEN, "%s: %s", uplink, s ? sriov_error(s) : strerror(-res));
	sriov_close(s);
	return res;
}
