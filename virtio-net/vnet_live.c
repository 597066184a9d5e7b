/*
 * What loops know of a device: one immutable view, replaced as a whole. Called on
 * the control thread by everything that changes what the driver is to receive
 * (rings, link, features, control queue). Never touches a ring, and never frees
 * what a loop may still read.
 *
 * Theory of operation
 *
 * A view is made of vnet.driver, the features, the link and the rings that are
 * active. The one it replaces is retired, together with the filter and the hash
 * that only it used, and freed when every loop has been between two turns since.
 * One such wait is in progress at a time; what is retired meanwhile waits for the
 * next. So however fast a front-end enables and disables rings, there are two
 * lists and one wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/sw_internal.h"
#include "virtio-net/vnet_internal.h"

struct vnet_view {
	struct vnet_live live;
	struct vnet_view *next; /* retired */
	/* Used by no later view: freed with this one. */
	struct vnet_filter *filter;
	struct vnet_rss *rss;
};

/* Nothing is delivered: before the first view, after the last, and when there is
 * no memory. */
static const struct vnet_live nothing;

void vnet_live_init(struct vnet *vn)
{
	vn->live = &nothing;
}

/* --- letting go of old views -------------------------------------------------- */

static void free_views(struct vnet_view *view)
{
	struct vnet_view *next;

	for (; view; view = next) {
		next = view->next;
		vnet_filter_destroy(view->filter);
		vnet_rss_destroy(view->rss);
		free(view);
	}
}

/* No loop knows vn: nothing need be waited for but the wait itself. */
static void finish(struct vnet *vn)
{
	free_views(vn->grace.retired);
	vn->grace.retired = NULL;
	vn->grace.ended(vn);
}

static void wait_over(void *opaque);

/* Out of memory they stay where they are, until there is something else to retire
 * or the device ends. */
static void wait_begin(struct vnet *vn)
{
	struct sw_grace *grace = grace_alloc(vn->sw);
	struct vnet_grace *g = &vn->grace;

	if (!grace)
		return;
	g->waiting = g->retired;
	g->retired = NULL;
	g->in_progress = true;
	grace_start(grace, wait_over, vn);
}

static void wait_over(void *opaque)
{
	struct vnet *vn = opaque;
	struct vnet_grace *g = &vn->grace;

	free_views(g->waiting);
	g->waiting = NULL;
	g->in_progress = false;
	/* Loops that did not know yet may have learned from it behind the first time. */
	if (!vn->link_up && vn->port)
		vswitch_mac_flush(vn->sw, vn->port);
	if (g->ended)
		finish(vn);
	else if (g->retired)
		wait_begin(vn);
}

/*
 * What of the old driver's state the new one does not use goes with the view. The
 * view of nothing comes with no state, see apply_or_nothing().
 */
static void retire(struct vnet *vn, const struct vnet_live *old, const struct vnet_driver *driver)
{
	struct vnet_view *view;

	if (old == &nothing) {
		assert(!vn->driver.filter && !vn->driver.rss);
		return;
	}
	view = container_of(old, struct vnet_view, live);
	if (vn->driver.filter != driver->filter)
		view->filter = vn->driver.filter;
	if (vn->driver.rss != driver->rss)
		view->rss = vn->driver.rss;
	view->next = vn->grace.retired;
	vn->grace.retired = view;
	if (!vn->grace.in_progress && !vn->grace.ended)
		wait_begin(vn);
}

/* --- the present view ------------------------------------------------------------ */

/* The first receive rings that are active, and that the driver wants used. */
static unsigned int active_pairs(const struct vnet *vn, const struct vnet_driver *driver)
{
	uint64_t multiqueue = VNET_BIT(VIRTIO_NET_F_MQ) | VNET_BIT(VIRTIO_NET_F_RSS);
	unsigned int n = 0, max = vn->pairs;

	if (!vn->link_up)
		return 0;
	/* VIRTIO 1.3, "Automatic receive steering in multiqueue mode": one queue until
	 * the driver says more. A front-end that serves the control queue itself says
	 * it by enabling rings. */
	if (vn->ctrl_seen)
		max = vn->features & multiqueue ? driver->pairs : 1;
	while (n < max && vu_dev_ring_is_active(vn->dev, 2 * n))
		n++;
	return n;
}

static_assert(sizeof(struct offload_caps) == 8, "no padding to compare");

static bool same(const struct vnet_live *a, const struct vnet_live *b)
{
	return a->nr_active == b->nr_active && a->filter == b->filter && a->rss == b->rss &&
	       !memcmp(&a->caps, &b->caps, sizeof(a->caps));
}

static void publish(struct vnet *vn, const struct vnet_live *live, const struct vnet_driver *driver)
{
	const struct vnet_live *old = vn->live;

	/* Pairs with the acquire in vnet_live_get(): the view is complete. */
	store_release(&vn->live, live);
	retire(vn, old, driver);
	vn->driver = *driver;
}

int vnet_live_apply(struct vnet *vn, const struct vnet_driver *driver)
{
	struct vnet_view *view = calloc(1, sizeof(*view));

	if (!view)
		return -ENOMEM;
	view->live = (struct vnet_live){
		.nr_active = active_pairs(vn, driver),
		.caps = vnet_offload_caps(driver->guest_offloads, vn->mtu),
		.filter = driver->filter,
		.rss = driver->rss,
	};
	if (same(&view->live, vn->live)) {
		vn->driver = *driver;
		free(view);
		return 0;
	}
	publish(vn, &view->live, driver);
	return 0;
}

/* Better no frames than some the driver cannot take. */
static void apply_or_nothing(struct vnet *vn, struct vnet_driver *driver)
{
	if (!vnet_live_apply(vn, driver))
		return;
	log_limited(LOG_LEVEL_ERROR, "%s: out of memory, nothing is delivered", vn->name);
	driver->filter = NULL;
	driver->rss = NULL;
	publish(vn, &nothing, driver);
}

void vnet_live_refresh(struct vnet *vn)
{
	struct vnet_driver driver = vn->driver;

	apply_or_nothing(vn, &driver);
}

static struct vnet_driver new_driver(const struct vnet *vn)
{
	struct vnet_driver driver = {
		/* As QEMU has it: a driver that never says anything gets everything. */
		.rx.promisc = true,
		.rx.has_mac = vn->told.has_mac,
		.rx.vlan_filter = vn->features & VNET_BIT(VIRTIO_NET_F_CTRL_VLAN),
		.pairs = 1,
		.guest_offloads = vn->features & VNET_GUEST_OFFLOADS,
	};

	memcpy(driver.rx.mac, vn->told.mac, sizeof(driver.rx.mac));
	return driver;
}

void vnet_driver_forget(struct vnet *vn)
{
	struct vnet_driver driver = new_driver(vn);

	vn->announce = false;
	apply_or_nothing(vn, &driver);
}

/* Nobody told us of a reset, so the address that the old one had set is what the
 * new one found in the configuration space. */
void vnet_driver_replaced(struct vnet *vn)
{
	struct vnet_driver driver = new_driver(vn);

	driver.rx.has_mac = vn->driver.rx.has_mac;
	memcpy(driver.rx.mac, vn->driver.rx.mac, sizeof(driver.rx.mac));
	vn->announce = false;
	apply_or_nothing(vn, &driver);
}

/* What it had set is lost: every queue that it enabled is one it wants, and it
 * may have turned its offloads off, which it need not say again. */
void vnet_driver_resumed(struct vnet *vn)
{
	struct vnet_driver driver = new_driver(vn);

	driver.pairs = vn->pairs;
	if (vn->features & VNET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		driver.guest_offloads = 0;
	apply_or_nothing(vn, &driver);
	vnet_announce(vn);
}

void vnet_live_end(struct vnet *vn, void (*ended)(struct vnet *vn))
{
	const struct vnet_driver none = { 0 };

	vn->grace.ended = ended;
	publish(vn, &nothing, &none);
	if (!vn->grace.in_progress)
		finish(vn);
}
