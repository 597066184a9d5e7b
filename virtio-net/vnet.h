/*
 * The virtio network device: one port of the switch behind one vhost-user
 * socket. VIRTIO 1.3, "Network Device". Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_VNET_H
#define RINGBOLT_VIRTIO_NET_VNET_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vhost/vhost.h"
#include "virtio-net/vswitch.h"

struct vnet;

#define VNET_TX_USECS_MAX 10000

struct vnet_conf {
	const char *name;
	const char *socket; /* path, or NULL with fd */
	enum vu_listen_mode mode;
	int fd;
	unsigned int pairs; /* 1 .. VIRTIO_NET_PAIRS_MAX */
	unsigned int queue_size_max; /* 0: what the ring kind allows */
	bool packed; /* offer packed rings */
	bool iommu; /* offer VIRTIO_F_ACCESS_PLATFORM; default false */
	/* Offer the control queue, and GUEST_ANNOUNCE. Off: only for front-ends that
	 * pass on features, but not that queue; with several pairs, only for those that
	 * have one of their own, as QEMU does. */
	bool ctrl_vq;
	/* Offer RSS and hash reports too; default false. DPDK's virtio-user driver,
	 * 24.03 and later, takes the bits and then asks nobody for the configuration
	 * that goes with them: with several queues its port cannot be configured. */
	bool rss;
	uint64_t feature_mask; /* device and ring bits the operator allows; ~0 all */
	bool has_mac;
	uint8_t mac[6]; /* offered to the driver, if has_mac */
	uint16_t mtu; /* bytes after the Ethernet header; 0: not told, 65535 taken */
	uint32_t speed; /* Mbit/s told to the driver; UINT32_MAX unknown */
	/* How long it may take until the driver hears that a frame was sent, in
	 * microseconds, at most VNET_TX_USECS_MAX; 0: it hears at once. */
	uint32_t tx_usecs;
	struct sw_port_conf port;
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
	struct vswitch *sw;
};

/* One pair, packed rings and control queue offered, no MAC address, MTU or speed
 * told, tx_usecs 1000, sw_port_conf_init(). */
void vnet_conf_init(struct vnet_conf *conf);
/* 0, or -errno with one sentence in err (SW_ERR_LEN). conf->fd is taken either way,
 * and so are the access lists of conf->port. Strings are copied. After a failure
 * *vn is NULL, or what is left: loops may be looking at its port, so that it has to
 * be destroyed like any other. */
int vnet_create(const struct vnet_conf *conf, struct vnet **vn, char *err);
/* Leave the switch, disconnect, free, then gone(opaque). Asynchronous. */
void vnet_destroy(struct vnet *vn, void (*gone)(void *opaque), void *opaque);

struct sw_port *vnet_port(const struct vnet *vn);
const char *vnet_name(const struct vnet *vn);
/* The address offered to the driver, or NULL. */
const uint8_t *vnet_mac(const struct vnet *vn);
/* Tell the driver that the link is up or down, if the front-end lets us (STATUS),
 * and give it no frames while it is down, nor take any: they are dropped,
 * disabled-in. */
int vnet_set_link(struct vnet *vn, bool up);
/* Have the rings of a queue pair, or all with the control ring (-1), served by
 * this loop, now and when they start again: vu_dev_place_ring(). Nothing is lost.
 * -EINVAL: no such pair or loop. */
int vnet_move(struct vnet *vn, int pair, unsigned int loop_index);
/* Device, rings, negotiated features by name, filters, RSS: a new object. */
json_t *vnet_status(struct vnet *vn);

#endif
