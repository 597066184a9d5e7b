/*
 * VFs as uplinks: those that ringbolt-vf has claimed. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_NET_VF_H
#define RINGBOLT_APPS_NET_VF_H

#include "sriov/sriov.h" /* SRIOV_ADDR_LEN */

/*
 * The address of a VF, named as ringbolt-vf has it named, in addr (SRIOV_ADDR_LEN):
 * it must be claimed, by owner unless that is NULL, and have a VFIO driver. 0, or
 * -errno and in err (SW_ERR_LEN) one sentence that begins with the uplink's name.
 * Waits for nothing without a bound; changes nothing.
 */
int net_vf_find(const char *uplink, const char *text, const char *owner, char *addr, char *err);

#endif
