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

#define UPLINK_DEVICES_MAX 8

struct uplink;

/* What the device is asked to do: checksums, large segments. */
enum uplink_offloads {
	UPLINK_OFFLOADS_AUTO, /* what hardware does for us */
	UPLINK_OFFLOADS_ON, /* all that the driver knows */
	UPLINK_OFFLOADS_OFF,
	UPLINK_OFFLOADS_CNT,
};

/* "auto", "on", "off"; "active-backup", "balance-xor", "802.3ad"; NULL-terminated. */
extern const char *const uplink_offloads_names[UPLINK_OFFLOADS_CNT + 1];
extern const char *const uplink_team_names[];

struct uplink_conf {
	const char *name;
	/* DPDK's device arguments, e.g. "0000:3b:00.0", "net_tap0,iface=x"; several
	 * make a team (rte_eth_bond). */
	const char *dev[UPLINK_DEVICES_MAX];
	unsigned int nr_dev;
	const char *team_mode; /* of uplink_team_names; NULL: the first if several */
	unsigned int queues; /* receive queues, spread over the loops; 0: one */
	uint16_t mtu; /* 0: the device's */
	enum uplink_offloads offloads;
	/* Take the link for up, whatever the device says: net_tap cannot tell once its
	 * interface is in another network namespace. */
	bool link_forced;
	struct sw_port_conf port; /* its access lists are taken, always */
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
	struct vswitch *sw;
};

/* 0, or -errno with one sentence in err (SW_ERR_LEN). Starts DPDK with the first.
 * After a failure *up is NULL, or what is left and has to be destroyed: others may be
 * sending to it already. */
int uplink_create(const struct uplink_conf *conf, struct uplink **up, char *err);
/* Leave the switch, stop, close, then gone(opaque). Asynchronous. */
void uplink_destroy(struct uplink *up, void (*gone)(void *opaque), void *opaque);
struct sw_port *uplink_port(const struct uplink *up);
const char *uplink_name(const struct uplink *up);
/* Serve a receive queue (-1: all) on another loop; frames wait in the device
 * meanwhile. 0, -ENOENT. Takes effect a little later. */
int uplink_move(struct uplink *up, int queue, unsigned int loop_index);
/* Device, driver, link, offloads, members of a team, queues, extended
 * statistics: a new object. */
json_t *uplink_status(struct uplink *up);

#endif
