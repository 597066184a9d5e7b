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
	const struct sriov_attach_opts opts = { .owner = owner,
						.format = SRIOV_ATTACH_DPDK,
						.backend = IOMMU_BACKEND_TYPE1 };
	struct sriov_attachment unused = { .nr = 0 };
	char vf[1][SRIOV_ADDR_LEN];
	struct sriov *s = NULL;
	int res = sriov_open(&this_machine, &s);

	if (!res)
		res = sriov_resolve(s, text, vf[0]);
	if (!res)
		res = sriov_attach(s, vf, 1, &opts, &unused);
	if (!res)
		memcpy(addr, vf[0], SRIOV_ADDR_LEN);
	sriov_attachment_free(&unused);
	if (res < 0)
		snprintf(err, SW_ERR_LEN, "%s: %s", uplink, s ? sriov_error(s) : strerror(-res));
	sriov_close(s);
	return res;
}
