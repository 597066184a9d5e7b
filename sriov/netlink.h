/*
 * This kernel's netlink, as struct sriov_os wants it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_NETLINK_H
#define RINGBOLT_SRIOV_NETLINK_H

#include <stdio.h>

#include "sriov/sriov.h"

/* IFF_LOWER_UP of linux/if.h, which cannot stand beside net/if.h. */
#define SRIOV_NL_CARRIER (1u << 16)

int sriov_nl_conf_get(struct sriov *s, const char *netdev, struct sriov_conf *conf,
		      unsigned int nr);
int sriov_nl_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
		      const struct sriov_conf *conf);
int sriov_nl_link_set(struct sriov *s, const char *netdev, bool up);
int sriov_nl_links(struct sriov *s, FILE *out);
/* As devlink names devices: pci/0000:3b:00.0. */
int sriov_nl_eswitch(struct sriov *s, const char *bus, const char *name, char *mode);
int sriov_nl_net_use(struct sriov *s, const char *netdev, struct sriov_blockers *b);

/* -errno for an error of libnl, which has numbers of its own. */
int sriov_nl_errno(int nl_error);

#endif
