/*
 * Telling the network where a driver is after it has moved. Called by vnet.c with
 * VHOST_USER_SEND_RARP, and when a driver that was running before has come back.
 * Never waits for a loop.
 *
 * Theory of operation
 *
 * Two ways. A front-end whose driver cannot announce itself asks us for a reverse
 * ARP request in the driver's name: it goes through the switch as if the driver
 * had sent it, so that tables here and beyond the uplinks learn. Switching is a
 * loop's work, so the frame is made there; if another is asked for meanwhile it
 * follows. A driver that can (GUEST_ANNOUNCE), and whose configuration space and
 * control queue are ours, is told by a bit in its status to do it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/net_rarp.h"
#include "virtio-net/vnet_internal.h"

struct vnet_rarp {
	/* Constant. */
	struct vnet *vn;
	struct evloop *ev;

	/* The control thread's. */
	bool busy; /* on its way to the loop and back */
	bool again; /* another one is to follow, for mac */
	bool unowned; /* vn is gone: to be freed when it is back */
	uint8_t mac[6];

	struct loop_work work;
	struct ev_work back;
	/* The loop's while busy. */
	struct sw_lane *lane;
	uint8_t frame[RARP_LEN];
	_Alignas(CACHE_LINE) uint8_t room[FRAME_ROOM];
};

static void forward(struct loop_work *w)
{
	struct vnet_rarp *rarp = container_of(w, struct vnet_rarp, work);
	/* Pairs with the release in vnet_destroy(): NULL, or a port of the switch. */
	struct sw_port *port = load_acquire(&rarp->vn->port);
	const struct iovec iov = { .iov_base = rarp->frame, .iov_len = RARP_LEN };
	struct sw_lane *lane = rarp->lane;
	struct frame f;

	if (port && read_once(&rarp->vn->link_up)) {
		frame_init(&f, rarp->room, &iov, 1, 0, RARP_LEN);
		lane_tick(lane);
		vswitch_forward(lane, port, &f, 1);
	}
	ev_post(rarp->ev, &rarp->back);
}

static void start(struct vnet_rarp *rarp)
{
	struct vnet *vn = rarp->vn;
	const struct virtq *vq = vn->queue[1].vq;
	/* The lane of the driver's first transmit ring, if it is on one. */
	unsigned int loop = vu_dev_ring_is_active(vn->dev, 1) ? loop_index(vq->loop) : 0;

	/* The device is being destroyed: only what was posted before its port was
	 * removed is sure to run before it is gone. */
	if (!vn->port)
		return;
	rarp_make(rarp->frame, rarp->mac);
	rarp->lane = vswitch_lane(vn->sw, loop);
	rarp->busy = true;
	loop_post(rarp->lane->loop, &rarp->work);
}

static void back(struct ev_work *w)
{
	struct vnet_rarp *rarp = container_of(w, struct vnet_rarp, back);

	rarp->busy = false;
	if (rarp->unowned) {
		free(rarp);
		return;
	}
	if (rarp->again) {
		rarp->again = false;
		start(rarp);
	}
}

int vnet_rarp_send(struct vnet *vn, const uint8_t mac[6])
{
	struct vnet_rarp *rarp = vn->rarp;

	/* No station has the address of a group, and tables must not learn it. */
	if (mac[0] & 1)
		return -EINVAL;
	log_limited(LOG_LEVEL_INFO, "%s: announcing %02x:%02x:%02x:%02x:%02x:%02x", vn->name,
		    mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	memcpy(rarp->mac, mac, sizeof(rarp->mac));
	if (rarp->busy)
		rarp->again = true;
	else
		start(rarp);
	return 0;
}

int vnet_rarp_init(struct vnet *vn)
{
	struct vnet_rarp *rarp = aligned_alloc(CACHE_LINE, round_up(sizeof(*rarp), CACHE_LINE));

	if (!rarp)
		return -ENOMEM;
	memset(rarp, 0, sizeof(*rarp));
	rarp->vn = vn;
	rarp->ev = vn->ev;
	rarp->work.run = forward;
	rarp->back.run = back;
	vn->rarp = rarp;
	return 0;
}

void vnet_rarp_fini(struct vnet *vn)
{
	if (vn->rarp && vn->rarp->busy)
		vn->rarp->unowned = true;
	else
		free(vn->rarp);
	vn->rarp = NULL;
}

/* --- GUEST_ANNOUNCE ------------------------------------------------------------------ */

void vnet_announce(struct vnet *vn)
{
	uint64_t needs = VNET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | VNET_BIT(VIRTIO_NET_F_STATUS);

	/* Who answers the control queue owns the status, too. */
	if (!vn->ctrl || ~vn->features & needs)
		return;
	vn->announce = true;
	vu_dev_config_changed(vn->dev);
}
