/*
 * A virtio network driver on top of the front-end and its rings: a whole device
 * in a few calls, for tests. VIRTIO 1.3, "Network Device".
 *
 * Theory of operation
 *
 * Buffers live in one region of guest memory. Each receive ring is kept full of
 * buffers of one size; net_recv() copies a frame out (of several buffers, if the
 * device merged them) and gives the buffers back. Each transmit ring has as many
 * slots as descriptors; a frame is copied in. The control queue, if it was
 * negotiated, takes one command at a time.
 *
 * Whatever the device says is checked: lengths, num_buffers, the header's flags
 * against the features. What it must not say is -EPROTO.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_NETDRV_H
#define RINGBOLT_TESTS_FRONTEND_NETDRV_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/frontend/drv.h"
#include "tests/frontend/fe.h"
#include "virtio-net/vnet_spec.h"

#define NET_PAIRS_MAX 64
#define NET_FRAME_MAX 65550
#define NET_ACK_UNSET 0xee /* what an ack byte is before the device wrote it */

struct net_conf {
	const char *path; /* of the socket; or NULL with sock */
	int sock;
	unsigned int pairs; /* that are started; 0: one */
	uint16_t ring_size; /* 0: 256 */
	uint32_t buf_len; /* of a receive buffer, with header; 0: 2048 */
	uint64_t features; /* wanted, beside VERSION_1; what is not offered is left out */
	bool indirect; /* use indirect tables, if negotiated */
	bool legacy; /* VERSION_1 is not wanted */
	bool no_ctrl; /* CTRL_VQ is not passed on, as QEMU does not */
	uint64_t proto_without; /* protocol features not to take though offered */
	uint64_t mem; /* bytes of guest memory; 0: enough */
	void (*pump)(void *opaque); /* see fe.h */
	void *pump_opaque;
};

/* Most of what there is: offloads, MRG_RXBUF, MQ, control queue. Not packed. */
#define NET_FEATURES_ALL (~(1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER))

struct net_slot {
	uint64_t gpa;
	uint8_t *p;
};

struct net_ring {
	struct drv_ring ring;
	struct net_slot *slot; /* ring_size of them */
	unsigned int *free; /* transmit: slots not in use */
	unsigned int nr_free;
	bool exists;
};

struct net {
	struct fe fe;
	struct net_conf conf;
	struct virtio_net_config config; /* as read at the start */
	bool has_config;
	int region; /* of rings and buffers */
	uint32_t hdr_len, buf_len;
	unsigned int pairs;
	struct net_ring rx[NET_PAIRS_MAX], tx[NET_PAIRS_MAX];
	struct net_ring ctrl;
	uint64_t cmd_gpa; /* of commands and their acks */
	uint8_t *cmd;
};

/* A frame as it was received. */
struct net_frame {
	struct virtio_net_hdr_hash hdr; /* as much of it as there is, else 0 */
	unsigned int nr_buffers; /* that it was in */
	uint32_t len;
	uint8_t data[NET_FRAME_MAX];
};

/* Connect, negotiate, share memory, start and fill the rings, in the order that a
 * driver does it. 0 or -errno; then nothing is left. */
int net_open(struct net *n, const struct net_conf *conf);
/* Stop the rings in order, then close. 0 or what drv_stop() said first. */
int net_close(struct net *n);
/* Close the connection as a front-end that died does. */
void net_abandon(struct net *n);
/* After the back-end has gone or fe_disconnect(): connect anew to conf.path and
 * resume the rings where they stand. */
int net_reconnect(struct net *n);

/* Another driver of the same front-end: all rings are made and started anew, from
 * their beginning. Nothing is said to stop the old ones. */
int net_restart(struct net *n);

/* Send a frame; hdr NULL: no offload. 0, -ENOSPC if the ring is full. */
int net_send(struct net *n, unsigned int pair, const struct virtio_net_hdr *hdr, const void *frame,
	     uint32_t len);
/* The same, not yet visible: then drv_submit() of tx[pair].ring. */
int net_add(struct net *n, unsigned int pair, const struct virtio_net_hdr *hdr, const void *frame,
	    uint32_t len);
/* Take back what was sent. The number of frames, or -EPROTO. */
int net_reap(struct net *n, unsigned int pair);
/* All that was sent has been taken by the device: 0, -ETIMEDOUT, -EPROTO. */
int net_drain(struct net *n, unsigned int pair);

/* One frame: 1, 0 if there is none, -EPROTO. */
int net_recv(struct net *n, unsigned int pair, struct net_frame *frame);
/* The same, waiting: 1, -ETIMEDOUT, -EPROTO. */
int net_recv_wait(struct net *n, unsigned int pair, struct net_frame *frame);

/* A command: the ack byte, or -errno. */
int net_ctrl(struct net *n, uint8_t class_id, uint8_t command, const void *data, uint32_t len);
/* The same in buffers of piece bytes each; 0: header, data and ack apart. */
int net_ctrl_cut(struct net *n, uint8_t class_id, uint8_t command, const void *data, uint32_t len,
		 uint32_t piece);

static inline bool net_has(const struct net *n, unsigned int bit)
{
	return fe_has(&n->fe, bit);
}

#endif
