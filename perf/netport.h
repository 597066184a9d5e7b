/*
 * A virtio-net port as a poll-mode driver has it, one queue pair: frames out,
 * frames in. Private to perf/.
 *
 * Theory of operation
 *
 * Both rings are tests/frontend's. Every buffer holds one frame behind its
 * virtio_net_hdr and is one descriptor; the receive ring is kept full. A port
 * that is only opened and never looked at again is an idle port: connected,
 * rings started, buffers in place.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_PERF_NETPORT_H
#define RINGBOLT_PERF_NETPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/frontend/drv.h"

#define NETPORT_RING 256
#define NETPORT_BUF 2048 /* header and frame */
/* struct virtio_net_hdr_mrg_rxbuf, which VERSION_1 always has. */
#define NETPORT_HDR 12
#define NETPORT_FRAME_MAX (NETPORT_BUF - NETPORT_HDR)

struct netport {
	struct fe fe;
	struct drv_ring rx, tx;
	uint8_t *rx_buf, *tx_buf; /* NETPORT_RING of them each, shared */
	uint64_t rx_gpa, tx_gpa;
	uint16_t tx_next; /* transmit buffer to use next */
	bool tx_busy[NETPORT_RING]; /* the device has it */
	bool hold; /* see netport_hold() */
	uint8_t mac[6]; /* what frames of this port say */
};

/* Behind a virtual IOMMU, all of memory mapped from the start: at once, or a page
 * at a time, as guests have it. */
enum netport_iommu {
	NETPORT_IOMMU_OFF,
	NETPORT_IOMMU_ON,
	NETPORT_IOMMU_PAGES,
};

struct netport_conf {
	const char *path;
	bool packed, in_order, mergeable;
	enum netport_iommu iommu;
	uint8_t mac[6];
};

/* Connect, set up memory and both rings, fill the receive ring. 0 or -errno,
 * -EOPNOTSUPP if the back-end does not offer what conf asks for. */
int netport_open(struct netport *p, const struct netport_conf *conf);
void netport_close(struct netport *p);

/* From now on frames are sent, and buffers given back, by netport_flush() only:
 * many at a time, as a driver under load does it. */
void netport_hold(struct netport *p);
/* 0 or -errno. */
int netport_flush(struct netport *p);

/* Room for the next frame, NETPORT_FRAME_MAX bytes; NULL: the ring is full. */
uint8_t *netport_frame(struct netport *p);
/* Send what netport_frame() gave, len bytes of it. 0 or -errno. */
int netport_send(struct netport *p, uint32_t len);

/*
 * The next frame that has arrived, which stays valid until the next call, with
 * its length; NULL: none. *err is set if the device broke the rules.
 */
const uint8_t *netport_receive(struct netport *p, uint32_t *len, int *err);

#endif
