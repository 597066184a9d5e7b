/*
 * What the files of uplinks share. uplink.c: life, link, status; uplink_dev.c:
 * the DPDK device; uplink_rx.c: from the device to the switch; uplink_tx.c: from
 * the switch to the device; uplink_announce.c: who is here; team.c: several devices as
 * one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_UPLINK_INTERNAL_H
#define RINGBOLT_VIRTIO_NET_UPLINK_INTERNAL_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_spinlock.h>

#include "virtio-net/net_spec.h"
#include "virtio-net/offload.h"
#include "virtio-net/uplink.h"

/* Segments of received frames that are forwarded together. */
#define UPLINK_RX_IOV_MAX 256

/* What a frame has beyond the MTU: two tags at most. */
#define UPLINK_FRAME_OVERHEAD (ETH_HDR_LEN + 2 * VLAN_TAG_LEN)

struct uplink_rxq;
struct uplink_txq;

/*
 * The DPDK side of an uplink: one port, which may be a team of others. Set up by
 * uplink_dev_open(), constant from uplink_dev_start() to uplink_dev_close().
 */
struct uplink_dev {
	const char *name; /* the uplink's, for messages */
	uint16_t port;
	bool is_open, is_started;
	bool link_forced; /* up, whatever the device says */
	bool hardware; /* offloads cost no CPU of ours */
	uint16_t nr_rxq, nr_txq;
	uint16_t mtu;
	uint64_t rx_offloads, tx_offloads; /* in use */
	bool partial_csums; /* frames may come without, and nothing says so */
	bool rx_intr; /* receive interrupts can be had */
	struct offload_caps caps; /* what the device does for us */
	uint16_t seg_room; /* bytes of a frame that one mbuf holds */
	struct rte_mempool *pool;
	struct team *team; /* NULL: a single device */
};

/* --- uplink_dev.c: control thread -------------------------------------------------- */

/* Attach what conf->dev names, make the pool, configure, set queues up. 0, or
 * -errno, a sentence in err, and nothing is left. */
int uplink_dev_open(struct uplink_dev *dev, const struct uplink_conf *conf, char *err);
int uplink_dev_start(struct uplink_dev *dev, char *err);
/* No loop uses it any more. */
void uplink_dev_close(struct uplink_dev *dev);
bool uplink_dev_link(const struct uplink_dev *dev, struct rte_eth_link *link);
/* Attach one device. 0 and its port, or -errno and a sentence. */
int uplink_attach(const char *name, const char *devargs, uint16_t *port, char *err);
void uplink_detach(uint16_t port);

/* --- team.c: control thread --------------------------------------------------------- */

struct team;
int team_create(const struct uplink_conf *conf, struct team **team, char *err);
/* The team's own port has been stopped. Closes it. Accepts NULL. */
void team_destroy(struct team *team);
uint16_t team_port(const struct team *team);
unsigned int team_nr_members(const struct team *team);
uint16_t team_member(const struct team *team, unsigned int i);
/* Its driver has to be called now and then to speak with the other side. */
bool team_speaks(const struct team *team);
/* The member that sends has changed since the last call. */
bool team_has_moved(struct team *team);
json_t *team_status(const struct team *team);

/* --- uplink_rx.c ------------------------------------------------------------------- */

struct uplink_rxq_conf {
	const struct uplink_dev *dev;
	uint16_t queue;
	struct sw_port *port;
	struct evloop *ev;
	int node; /* for its memory, -1 any */
	bool poke; /* call uplink_tx_poke() when nothing comes */
};

/* Control thread. NULL if out of memory. */
struct uplink_rxq *uplink_rxq_create(const struct uplink_rxq_conf *conf);
/* It is on no loop. Accepts NULL. */
void uplink_rxq_destroy(struct uplink_rxq *q);
/* Begin and end to serve it on a loop; done(opaque) runs on the control thread
 * when that is so. One change at a time. */
void uplink_rxq_add(struct uplink_rxq *q, struct loop *loop, struct sw_lane *lane,
		    void (*done)(void *opaque), void *opaque);
void uplink_rxq_remove(struct uplink_rxq *q, void (*done)(void *opaque), void *opaque);
/* The loop it was added to last. */
struct loop *uplink_rxq_loop(const struct uplink_rxq *q);
json_t *uplink_rxq_status(const struct uplink_rxq *q);

/* --- uplink_announce.c: control thread --------------------------------------------- */

struct uplink_announcer;
/* NULL if out of memory. */
struct uplink_announcer *uplink_announcer_create(struct sw_port *port, struct evloop *ev);
/* No more announcements; stopped(opaque), at once or later, when no loop is busy
 * with one. Before its port is removed. */
void uplink_announcer_stop(struct uplink_announcer *a, void (*stopped)(void *opaque), void *opaque);
/* It is stopped, or never announced anything. Accepts NULL. */
void uplink_announcer_destroy(struct uplink_announcer *a);
/* Tell the network behind the uplink who is on this side. */
void uplink_announce(struct uplink_announcer *a);

/* --- uplink_tx.c ------------------------------------------------------------------- */

/* One transmit queue: loops share it if there are more of them than queues. */
struct uplink_txq {
	_Alignas(CACHE_LINE) rte_spinlock_t lock;
	bool shared;
	uint16_t queue;
};

/* What deliver() finds in sw_port.priv. */
struct uplink_tx {
	const struct uplink_dev *dev;
	bool link_up; /* control thread writes, loops read once a burst */
	struct uplink_txq *queue; /* dev->nr_txq of them */
};

extern const struct sw_port_ops uplink_port_ops;

/* A loop: let the driver send what it has to say itself. */
void uplink_tx_poke(struct sw_port *port, struct sw_lane *lane);

#endif
