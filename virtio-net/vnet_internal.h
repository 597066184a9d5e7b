/*
 * What the files of the network device share. vnet.c: life and rings;
 * vnet_config.c: features and configuration space; vnet_live.c: what loops read
 * of it; vnet_ctrl.c, vnet_cmd.c: the control queue; vnet_filter.c: what the
 * driver wants to receive; vnet_announce.c: RARP and GUEST_ANNOUNCE;
 * vnet_status.c; vnet_tx.c: from transmit rings to the switch; vnet_rx.c: from the
 * switch to receive rings; vnet_rss.c: hashing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_VNET_INTERNAL_H
#define RINGBOLT_VIRTIO_NET_VNET_INTERNAL_H

#include "core/atomic.h"
#include "virtio-net/offload.h"
#include "virtio-net/vnet.h"
#include "virtio-net/vnet_rss.h"
#include "virtio-net/vnet_spec.h"

#define VNET_BIT(n) (1ull << (n))

/* VIRTIO 1.3, "Virtqueues": receiveq1, transmitq1, ..., controlq last. */
static inline bool vnet_index_is_rx(unsigned int index)
{
	return !(index & 1);
}

/*
 * What the driver wants to receive: receive modes, MAC table, VLAN filter.
 * Immutable once it is in a struct vnet_live.
 */
struct vnet_filter;

/*
 * What loops read of a device, as one immutable thing: the control thread
 * publishes another (vnet_live.c), a loop reads the pointer once a burst with
 * vnet_live_get(), and the old one is freed when no loop can have it any more.
 */
struct vnet_live {
	/* Receive queues that may be given frames: the first so many pairs have a
	 * receive ring that runs, is enabled, and that the driver asked for. 0: the
	 * link is down. A ring can still be about to stop: its own state decides. */
	unsigned int nr_active;
	struct offload_caps caps; /* of the driver: GUEST_* and its guest offloads */
	const struct vnet_filter *filter; /* NULL: everything is wanted */
	const struct vnet_rss *rss; /* NULL: neither hashing nor steering */
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
	/* Loops: load_acquire() once a burst. NULL while the device is being
	 * destroyed: its transmit rings are not to be read any more. */
	struct sw_port *port;
	struct vswitch *sw;
	struct evloop *ev;
	char name[SW_NAME_MAX];

	/* Replaced as a whole; never NULL. vnet_live_get(). */
	const struct vnet_live *live;

	/* What follows changes only while no ring runs, or is the control thread's
	 * alone. */
	uint64_t features; /* negotiated, less bits whose requirements are missing */
	struct vnet_queue *queue; /* 2 * pairs + 1 */
	unsigned int pairs;
	uint64_t offer; /* device feature bits */
	uint16_t mtu; /* frames from the driver may be so long; 0: any. Atomic */
	uint8_t hdr_len; /* 10, 12 or 20 bytes, by the features */

	struct vnet_state *state; /* vnet.c and vnet_live.c: the control thread's */
};

/* A loop, once a burst. Valid until the loop's turn ends. */
static inline const struct vnet_live *vnet_live_get(const struct vnet *vn)
{
	/* Pairs with the release in vnet_live.c: what it points to is complete. */
	return load_acquire(&vn->live);
}

/* --- vnet_tx.c ---------------------------------------------------------------- */

/* Poll of a transmit ring. */
unsigned int vnet_tx_poll(struct virtq *vq);
/* Before a transmit or receive ring goes to its loop (vq->conf, vq->loop,
 * vq->priv = q and q->hdr_len are set), and after it left it. */
int vnet_tx_setup(struct vnet_queue *q);
void vnet_tx_release(struct vnet_queue *q);

/* --- vnet_rx.c ---------------------------------------------------------------- */

/* A receive ring is not polled: it sets vq->poll to NULL, and vq->shared if there
 * are several loops. Frames come by deliver(). */
int vnet_rx_setup(struct vnet_queue *q);
void vnet_rx_release(struct vnet_queue *q);
/* sw_port_ops of a device; sw_port.priv is the struct vnet. */
extern const struct sw_port_ops vnet_port_ops;

/* --- vnet_filter.c ------------------------------------------------------------ */

/* Does the driver want this frame? A loop. */
bool vnet_filter_passes(const struct vnet_filter *filter, const struct frame *f);

#endif
