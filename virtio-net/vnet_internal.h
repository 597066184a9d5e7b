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
struct vnet_ctrl;
struct vnet_rarp;
struct vnet_view;

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

/* VIRTIO 1.3, "Packet Receive Filtering", "Setting MAC Address Filtering",
 * "VLAN Filtering": as the driver set them. */
#define VNET_MACS_MAX 128 /* of each of the two tables; with more, all are wanted */
struct vnet_rx_mode {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool has_mac; /* the driver's own address is known */
	uint8_t mac[6];
	bool uni_overflow, multi_overflow;
	unsigned int nr_uni, nr_multi;
	uint8_t uni[VNET_MACS_MAX][6], multi[VNET_MACS_MAX][6];
	bool vlan_filter;
	uint8_t vlans[512]; /* bit per VLAN wanted */
};

enum vnet_role {
	VNET_RX,
	VNET_TX,
	VNET_CTRL,
};

/* On a line of its own: rings of one device are on several loops. */
struct vnet_queue {
	_Alignas(CACHE_LINE) struct vnet *vn;
	struct virtq *vq; /* constant while the device lives; NULL before its set-up */
	unsigned int index;
	enum vnet_role role; /* valid with vq */
	uint8_t hdr_len; /* 10, 12 or 20 bytes, by the features */
	/* Transmit side counters and scratch: vnet_tx.c's. */
	uint64_t frames, bytes, bursts;
};

/* What the configuration space says of the operator's choice. Constant. */
struct vnet_told {
	bool has_mac;
	uint8_t mac[6];
	uint16_t mtu; /* 0: nothing */
	uint32_t speed; /* UINT32_MAX: nothing */
};

/* What the driver said through the control queue. Forgotten with the driver. */
struct vnet_driver {
	struct vnet_rx_mode rx; /* what filter was made of */
	struct vnet_filter *filter; /* NULL: everything is wanted */
	struct vnet_rss *rss;
	unsigned int pairs; /* receive queues it wants to be used */
	uint64_t guest_offloads; /* VIRTIO_NET_F_GUEST_* that are on */
};

struct vnet_ctrl_counts {
	uint64_t commands;
	uint64_t errors; /* of those, refused */
};

/* Waiting until no loop can use what was unpublished (vnet_live.c). */
struct vnet_grace {
	struct vnet_view *retired; /* since the present wait began */
	struct vnet_view *waiting; /* for the present wait */
	bool in_progress;
	void (*ended)(struct vnet *vn); /* to be called once there is nothing left */
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
	uint32_t tx_usecs; /* until the driver hears that a frame was sent, at most */
	unsigned int nr_rings; /* with the control ring, if it is offered */
	uint64_t offer; /* feature bits of the device and its rings */
	struct vnet_told told;
	uint16_t mtu; /* frames from the driver may be so long; 0: any. Atomic */
	uint8_t hdr_len; /* 10, 12 or 20 bytes, by the features */
	bool link_up; /* as the operator has it. Atomic */

	/* The control thread's. */
	struct vnet_driver driver;
	struct vnet_ctrl *ctrl; /* while there is a control ring that we serve */
	struct vnet_ctrl_counts ctrl_counts; /* of earlier control rings */
	bool ctrl_seen; /* there was one since the driver's state was forgotten */
	bool announce; /* VIRTIO_NET_S_ANNOUNCE, until the driver acknowledges */
	struct vnet_grace grace;
	struct vnet_rarp *rarp;
	void (*gone)(void *opaque);
	void *gone_opaque;
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

/* --- vnet_config.c -------------------------------------------------------------- */

#define VNET_GUEST_OFFLOADS                                                                        \
	(VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) | VNET_BIT(VIRTIO_NET_F_GUEST_TSO4) |                   \
	 VNET_BIT(VIRTIO_NET_F_GUEST_TSO6) | VNET_BIT(VIRTIO_NET_F_GUEST_ECN) |                    \
	 VNET_BIT(VIRTIO_NET_F_GUEST_USO4) | VNET_BIT(VIRTIO_NET_F_GUEST_USO6))

/* "MAC", "CSUM", ...; NULL for bits that are not a network device's. */
const char *vnet_feature_name(unsigned int bit);
/* What a device of this configuration offers, with the bits of its rings. */
uint64_t vnet_offer(const struct vnet_conf *conf);
/* Less the bits whose requirements are missing; see there. */
uint64_t vnet_features_closed(uint64_t features);
uint8_t vnet_features_hdr_len(uint64_t features);
/* What a driver with these GUEST_* bits on can take. */
struct offload_caps vnet_offload_caps(uint64_t guest_offloads, uint16_t mtu);
void vnet_config_fill(const struct vnet *vn, struct virtio_net_config *c);
/* The control ring's index; UINT_MAX if there is none. */
unsigned int vnet_ctrl_index(uint64_t features, unsigned int pairs);

/* --- vnet_live.c ------------------------------------------------------------------ */

/* Publish what follows from the rings, the link, the features and this; it
 * becomes vn->driver. -ENOMEM: nothing has changed, and what is new in it is
 * still the caller's. Control thread. */
int vnet_live_apply(struct vnet *vn, const struct vnet_driver *driver);
/* The same with vn->driver, after something else has changed. Out of memory,
 * nothing is delivered any more. */
void vnet_live_refresh(struct vnet *vn);
/* The device was reset, one way or another: the driver's state is the default. */
void vnet_driver_forget(struct vnet *vn);
/* There is a new driver at a ring that begins at its start. */
void vnet_driver_replaced(struct vnet *vn);
/* It has been running with a state that we do not know: before a restart of this
 * program, or before a migration. */
void vnet_driver_resumed(struct vnet *vn);
/* Before anything else; and the end, when no loop knows vn any more: then
 * ended(vn), maybe at once. */
void vnet_live_init(struct vnet *vn);
void vnet_live_end(struct vnet *vn, void (*ended)(struct vnet *vn));

/* --- vnet_ctrl.c, vnet_cmd.c -------------------------------------------------------- */

unsigned int vnet_ctrl_poll(struct virtq *vq);
int vnet_ctrl_setup(struct vnet_queue *q);
void vnet_ctrl_release(struct vnet_queue *q);
struct vnet_ctrl_counts vnet_ctrl_counts(const struct vnet *vn);

#define VNET_CMD_MAX 65536 /* bytes of a command; a longer one is refused */
/* Carry out a command: VIRTIO_NET_OK or _ERR. Loops may use what was before until
 * they have been between two turns. Control thread. */
uint8_t vnet_cmd_run(struct vnet *vn, const uint8_t *cmd, size_t len);

/* --- vnet_announce.c ------------------------------------------------------------------ */

/* VHOST_USER_SEND_RARP: a frame as the driver would send it. */
int vnet_rarp_send(struct vnet *vn, const uint8_t mac[6]);
int vnet_rarp_init(struct vnet *vn);
/* No loop knows vn any more. */
void vnet_rarp_fini(struct vnet *vn);
/* Ask the driver to announce itself, if it can be asked. */
void vnet_announce(struct vnet *vn);

/* --- vnet_filter.c ------------------------------------------------------------ */

/* 0 and *filter, which is NULL if everything is wanted; or -ENOMEM. */
int vnet_filter_create(const struct vnet_rx_mode *rx, struct vnet_filter **filter);
void vnet_filter_destroy(struct vnet_filter *filter);
/* Does the driver want this frame, tagged or not as it is? A loop. */
bool vnet_filter_passes(const struct vnet_filter *filter, const struct frame *f);

#endif
