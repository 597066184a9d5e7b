/*
 * What the files of the network device share. vnet.c: features, configuration
 * space, life; vnet_ctrl.c: the control queue; vnet_tx.c: from transmit rings to
 * the switch; vnet_rx.c: from the switch to receive rings; vnet_rss.c: hashing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_VNET_INTERNAL_H
#define RINGBOLT_VIRTIO_NET_VNET_INTERNAL_H

#include "virtio-net/offload.h"
#include "virtio-net/vnet.h"
#include "virtio-net/vnet_spec.h"

/* VIRTIO 1.3, "Virtqueues": receiveq1, transmitq1, ..., controlq last. */
static inline bool vnet_index_is_rx(unsigned int index)
{
	return !(index & 1);
}

/*
 * What the driver wants to receive: receive modes, MAC table, VLAN filter.
 * Immutable; the control queue publishes a new one (vnet_ctrl.c), receive paths
 * read the pointer once a burst. NULL: everything.
 */
struct vnet_filter;
/* Hash key, types, indirection table. Immutable, published likewise. NULL: off. */
struct vnet_rss;

/* What loops read of a device; replaced field by field, each an atomic word. */
struct vnet_live {
	const struct vnet_filter *filter;
	const struct vnet_rss *rss;
	/* Receive queues in use: pairs the driver enabled, no more than are started. */
	unsigned int nr_active;
	struct offload_caps caps; /* of the driver now (GUEST_* and its guest
				   * offloads); changes only with all receive rings
				   * stopped or by vnet_ctrl.c through the loops */
};

struct vnet_queue {
	struct vnet *vn;
	struct virtq *vq; /* constant while the device lives; NULL before its set-up */
	unsigned int index;
	uint8_t hdr_len; /* 10, 12 or 20 bytes, by the features */
	/* Transmit side counters and scratch: vnet_tx.c's. */
	uint64_t frames, bytes, bursts;
};

struct vnet {
	struct vu_dev *dev;
	struct sw_port *port;
	struct vswitch *sw;
	struct evloop *ev;
	uint64_t features; /* negotiated */
	struct vnet_live live;
	struct vnet_queue *queue; /* 2 * pairs + 1 */
	unsigned int pairs;
	struct virtio_net_config config;
	uint64_t offer; /* device feature bits */
	uint16_t mtu;
	void (*gone)(void *opaque);
	void *gone_opaque;
};

/* vnet_tx.c: poll of a transmit ring. */
unsigned int vnet_tx_poll(struct virtq *vq);
/* vnet_rx.c: sw_port_ops of a device. */
extern const struct sw_port_ops vnet_port_ops;
/* vnet_ctrl.c: poll of the control ring; driver state back to its default. */
unsigned int vnet_ctrl_poll(struct virtq *vq);
void vnet_ctrl_reset(struct vnet *vn);
/* Does the driver want this frame? */
bool vnet_filter_passes(const struct vnet_filter *filter, const struct frame *f);
/* vnet_rss.c: the receive queue for f, with f->hash and f->hash_report set. */
unsigned int vnet_rss_queue(const struct vnet_rss *rss, struct frame *f);

#endif
