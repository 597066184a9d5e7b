/*
 * Between the files that make the inventory.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_INVENTORY_H
#define RINGBOLT_SRIOV_INVENTORY_H

#include "sriov/sriov.h"

/* All but overrides, names, ports and what rtnetlink and devlink know. -ENODEV. */
int sriov_func_facts(struct sriov *s, const char *addr, struct sriov_func *f);
/* The driver overrides of all of them, each with a bound. */
void sriov_func_overrides(struct sriov *s, struct sriov_func *f, unsigned int nr);
/* How the network devices of a switch call themselves; "" where they do not. With
 * a bound. */
struct sriov_port {
	char name[SRIOV_NAME_LEN], switch_id[SRIOV_NAME_LEN];
};
void sriov_port_names(struct sriov *s, char (*netdev)[IFNAMSIZ], unsigned int nr,
		      struct sriov_port *port);
/* Which port of which switch its network device is. With a bound. */
void sriov_func_port(struct sriov *s, struct sriov_func *f);
/* Vendor and device by libpci's table, as numbers if they are not in it. */
void sriov_func_names(struct sriov *s, struct sriov_func *f);

#endif
