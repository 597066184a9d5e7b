/*
 * Uplinks: DPDK ports of the switch, and teams of them. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_UPLINK_H
#define RINGBOLT_VIRTIO_NET_UPLINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/evloop.h"
#include "virtio-net/vswitch.h"

struct uplink;

struct uplink_conf {
	const char *name;
	/* DPDK's device arguments, e.g. "0000:3b:00.0", "net_tap0,iface=x"; several
	 * make a team (rte_eth_bond). */
	const char *dev[8];
	unsigned int nr_dev;
	const char *team_mode; /* "active-backup", "balance-xor", "802.3ad"; NULL first */
	unsigned int queues; /* receive queues, spread over the loops; 0: one */
	uint16_t mtu; /* 0: the device's */
	struct sw_port_conf port;
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
	struct vswitch *sw;
};

/* 0, or -errno with one sentence in err (SW_ERR_LEN). Starts DPDK with the first. */
int uplink_create(const struct uplink_conf *conf, struct uplink **up, char *err);
/* Leave the switch, stop, close, then gone(opaque). Asynchronous. */
void uplink_destroy(struct uplink *up, void (*gone)(void *opaque), void *opaque);
struct sw_port *uplink_port(const struct uplink *up);
const char *uplink_name(const struct uplink *up);
/* Device, driver, link, offloads, members of a team, queues, extended
 * statistics: a new object. */
json_t *uplink_status(struct uplink *up);

#endif
