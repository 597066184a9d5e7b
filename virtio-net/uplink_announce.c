/*
 * Telling the network behind an uplink which stations are on this side of it, when
 * it can be reached again or by another way: bridges there would go on sending where
 * they learned them. Called by uplink.c on the control thread; the frames are sent
 * by a loop. Never waits.
 *
 * Theory of operation
 *
 * A list is made of all addresses that the switch has at other ports, in VLANs that
 * the uplink carries, and a reverse ARP request is sent for each, a few a turn, past
 * the look-up and straight to the uplink: ports of this switch know where their
 * neighbours are. One announcement is under way at a time; a reason for another one
 * starts it over.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>

#include "core/atomic.h"
#include "core/log.h"
#include "virtio-net/net_rarp.h"
#include "virtio-net/uplink_internal.h"

#define STATIONS_MAX 4096 /* told of at once */
#define STATIONS_GROW 64

struct station {
	uint8_t mac[ETH_ADDR_LEN];
	uint16_t vid;
	bool tagged;
};

struct uplink_announcer {
	struct sw_port *port; /* the uplink's */
	struct evloop *ev;
	struct loop_work work;
	struct ev_work back;
	bool busy; /* on its way to the loop and back */
	bool again; /* there is more to tell */
	void (*stopped)(void *opaque); /* once it is back; NULL: go on */
	void *opaque;
	unsigned int nr, max;
	struct station *station;

	bool stop; /* control thread writes, the loop reads */

	/* The loop's while busy. */
	struct sw_lane *lane;
	unsigned int next;
	uint8_t bytes[FRAME_BURST][RARP_LEN];
	uint8_t room[FRAME_BURST][FRAME_ROOM];
};

/* --- a loop ------------------------------------------------------------------------- */

static void make_frame(struct uplink_announcer *a, unsigned int i, const struct station *s,
		       struct iovec *iov, struct frame *f)
{
	uint8_t room[FRAME_ROOM];
	struct frame plain;

	rarp_make(a->bytes[i], s->mac);
	*iov = (struct iovec){ a->bytes[i], RARP_LEN };
	if (!s->tagged) {
		frame_init(f, a->room[i], iov, 1, 0, RARP_LEN);
		return;
	}
	frame_init(&plain, room, iov, 1, 0, RARP_LEN);
	plain.vid = s->vid;
	frame_retag(&plain, true, a->room[i], f);
}

static void send_some(struct loop_work *w)
{
	struct uplink_announcer *a = container_of(w, struct uplink_announcer, work);
	const struct frame *list[FRAME_BURST];
	struct frame frame[FRAME_BURST];
	struct iovec iov[FRAME_BURST];
	unsigned int n = 0;

	if (read_once(&a->stop))
		a->next = a->nr;
	for (; n < FRAME_BURST && a->next < a->nr; n++) {
		make_frame(a, n, &a->station[a->next++], &iov[n], &frame[n]);
		list[n] = &frame[n];
	}
	if (n)
		vswitch_give(a->lane, a->port, list, n);
	if (a->next < a->nr)
		loop_post(a->lane->loop, w);
	else
		ev_post(a->ev, &a->back);
}

/* --- control thread ------------------------------------------------------------------- */

static void add_station(void *opaque, const uint8_t mac[6], uint16_t vid,
			const struct sw_port *port)
{
	struct uplink_announcer *a = opaque;
	struct station *grown;
	bool tagged;

	if (!port || port == a->port || a->nr == STATIONS_MAX ||
	    !sw_port_carries(a->port, vid, &tagged))
		return;
	if (a->nr == a->max) {
		grown = reallocarray(a->station, a->max + STATIONS_GROW, sizeof(*grown));
		if (!grown)
			return;
		a->station = grown;
		a->max += STATIONS_GROW;
	}
	a->station[a->nr] = (struct station){ .vid = vid, .tagged = tagged };
	memcpy(a->station[a->nr++].mac, mac, ETH_ADDR_LEN);
}

void uplink_announce(struct uplink_announcer *a)
{
	if (a->busy) {
		a->again = true;
		return;
	}
	a->nr = a->next = 0;
	vswitch_mac_walk(a->port->sw, add_station, a);
	if (!a->nr)
		return;
	log_info("%s: announcing %u station(s)", a->port->name, a->nr);
	a->busy = true;
	loop_post(a->lane->loop, &a->work);
}

static void came_back(struct ev_work *w)
{
	struct uplink_announcer *a = container_of(w, struct uplink_announcer, back);

	a->busy = false;
	if (a->stopped) {
		a->stopped(a->opaque);
	} else if (a->again) {
		a->again = false;
		uplink_announce(a);
	}
}

struct uplink_announcer *uplink_announcer_create(struct sw_port *port, struct evloop *ev)
{
	struct uplink_announcer *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->port = port;
	a->ev = ev;
	a->lane = vswitch_lane(port->sw, 0);
	a->work.run = send_some;
	a->back.run = came_back;
	return a;
}

void uplink_announcer_stop(struct uplink_announcer *a, void (*stopped)(void *opaque), void *opaque)
{
	write_once(&a->stop, true);
	a->stopped = stopped;
	a->opaque = opaque;
	if (!a->busy)
		stopped(opaque);
}

void uplink_announcer_destroy(struct uplink_announcer *a)
{
	if (!a)
		return;
	assert(!a->busy);
	free(a->station);
	free(a);
}
