/*
 * The back-end's own channel to the front-end (BACKEND_REQ), over which it
 * announces changes of the configuration space and asks for translations. Called
 * through the request table, by the device type, by vu_iotlb.c and when rings
 * start. Never waits for the front-end.
 *
 * Nothing is queued but what may be sent next: a flag says that the
 * configuration changed, and each ring misses one address at most. Replies
 * carry no number: those to misses come in the order of the misses, which is
 * remembered. If too many are outstanding, the rest waits.
 *
 * vhost-user, "Suspended device state": while all rings are stopped nothing is
 * sent. A change of that time is announced when the first ring starts, as the
 * front-end may hold a copy that is older. A ring that waits for its addresses
 * was started as far as the front-end knows.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"

/* Replies of one wake-up: a front-end that floods the channel gets its turn. */
#define REPLIES_MAX 8

void vu_backend_close(struct vu_dev *dev)
{
	struct vu_backend *b = &dev->backend;

	ev_fd_del(dev->ev, &b->w);
	vu_chan_close(&b->chan, &b->w.fd);
	b->nr_expected = 0;
	b->first_expected = 0;
	/* Asked in vain: whoever opens a channel next is asked again. */
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->rings[i].miss.state == VU_MISS_ASKED)
			dev->rings[i].miss.state = VU_MISS_WANTED;
}

/* --- out ---------------------------------------------------------------------------- */

static void channel_failed(struct vu_dev *dev, int err)
{
	log_limited(LOG_LEVEL_WARNING, "%s: back-end channel: %s", dev->name, strerror(-err));
	vu_backend_close(dev);
}

/* False when nothing more can be sent now. */
static bool send_one(struct vu_dev *dev, uint32_t request, uint32_t flags, const void *payload,
		     uint32_t size)
{
	const struct vu_hdr hdr = {
		.request = request,
		.flags = VHOST_USER_VERSION | flags,
		.size = size,
	};
	int ret = vu_chan_send(&dev->backend.chan, dev->backend.w.fd, &hdr, payload);

	if (ret < 0)
		channel_failed(dev, ret);
	return !ret;
}

static bool send_iotlb(struct vu_dev *dev, uint8_t type, iova_t addr, uint32_t perm, uint32_t flags)
{
	const struct vu_iotlb_msg m = {
		.iova = addr.v,
		.perm = (uint8_t)perm,
		.type = type,
	};

	return send_one(dev, VHOST_USER_BACKEND_IOTLB_MSG, flags, &m, sizeof(m));
}

/* Ask for what the ring misses. False when nothing more can be sent now. */
static bool send_miss(struct vu_ring *vr)
{
	bool wants_reply = vu_has_protocol(vr->dev, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	struct vu_backend *b = &vr->dev->backend;

	if (wants_reply && b->nr_expected == VU_EXPECTED_MAX)
		return false;
	vr->miss.state = VU_MISS_ASKED;
	if (wants_reply) {
		unsigned int at = (b->first_expected + b->nr_expected++) % VU_EXPECTED_MAX;

		b->expected[at].ring = vr->index;
		b->expected[at].nr = vr->miss.nr;
	}
	return send_iotlb(vr->dev, VHOST_IOTLB_MISS, vr->miss.addr, vr->miss.perm,
			  wants_reply ? VHOST_USER_NEED_REPLY : 0);
}

static bool send_misses(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->rings[i].miss.state == VU_MISS_WANTED && !send_miss(&dev->rings[i]))
			return false;
	return true;
}

static bool send_config_change(struct vu_dev *dev)
{
	if (!dev->config_pending || !dev->nr_running ||
	    !vu_has_protocol(dev, VHOST_USER_PROTOCOL_F_CONFIG))
		return true;
	dev->config_pending = false;
	return send_one(dev, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, NULL, 0);
}

void vu_backend_kick(struct vu_dev *dev)
{
	struct vu_backend *b = &dev->backend;

	if (b->w.fd < 0 || vu_chan_tx_pending(&b->chan))
		return;
	if (send_config_change(dev))
		send_misses(dev);
	if (b->w.fd >= 0)
		ev_fd_modify(dev->ev, &b->w,
			     EPOLLIN | (vu_chan_tx_pending(&b->chan) ? EPOLLOUT : 0));
}

void vu_backend_access_failed(struct vu_dev *dev, iova_t addr, uint32_t perm)
{
	/* For the front-end's log, and not worth waiting for. */
	if (dev->backend.w.fd >= 0 && !vu_chan_tx_pending(&dev->backend.chan))
		send_iotlb(dev, VHOST_IOTLB_ACCESS_FAIL, addr, perm, 0);
}

/* --- in ------------------------------------------------------------------------------- */

static void handle_reply(struct vu_dev *dev)
{
	struct vu_backend *b = &dev->backend;
	const struct vu_msg *msg = &b->chan.rx;
	struct vu_expected *e = &b->expected[b->first_expected];
	struct vu_ring *vr;

	/* Nothing else is replied to, but some front-ends do it. */
	if (msg->hdr.request != VHOST_USER_BACKEND_IOTLB_MSG || !b->nr_expected)
		return;
	b->first_expected = (b->first_expected + 1) % VU_EXPECTED_MAX;
	b->nr_expected--;
	vr = &dev->rings[e->ring];
	/* The ring may have been stopped, or miss something else by now. */
	if (vr->miss.state == VU_MISS_ASKED && vr->miss.nr == e->nr)
		vu_iotlb_replied(vr, msg->hdr.size < sizeof(uint64_t) || msg->payload.u64);
}

static void receive(struct vu_dev *dev)
{
	struct vu_backend *b = &dev->backend;

	for (int i = 0; i < REPLIES_MAX; i++) {
		int ret = vu_chan_recv(&b->chan, b->w.fd, dev->name);

		if (!ret)
			return;
		if (ret < 0) {
			log_debug("%s: back-end channel: %s", dev->name, strerror(-ret));
			vu_backend_close(dev);
			return;
		}
		handle_reply(dev);
		vu_chan_next(&b->chan);
		if (b->w.fd < 0)
			return;
	}
}

static void channel_event(struct ev_fd *w, uint32_t events)
{
	struct vu_dev *dev = container_of(w, struct vu_dev, backend.w);
	struct vu_backend *b = &dev->backend;
	int ret;

	if (events & ~(uint32_t)EPOLLOUT) {
		receive(dev);
		vu_iotlb_settle(dev);
	}
	if (b->w.fd >= 0 && vu_chan_tx_pending(&b->chan)) {
		ret = vu_chan_flush(&b->chan, b->w.fd);
		if (ret < 0)
			channel_failed(dev, ret);
	}
	vu_backend_kick(dev);
	if (dev->aside && dev->state == VU_UP)
		vu_conn_close(dev, "a descriptor that may keep us waiting");
}

int vu_set_backend_req_fd(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_backend *b = &dev->backend;
	int ret;

	vu_backend_close(dev);
	b->w.fd = vu_msg_take_fd(msg, 0);
	b->w.handle = channel_event;
	ret = ev_fd_add(dev->ev, &b->w, EPOLLIN);
	if (ret < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: back-end channel cannot be watched: %s",
			    dev->name, strerror(-ret));
		vu_backend_close(dev);
		return ret;
	}
	vu_backend_kick(dev);
	return VU_DONE;
}

void vu_dev_config_changed(struct vu_dev *dev)
{
	/* A front-end that comes later reads the configuration anew. */
	if (dev->state != VU_UP)
		return;
	dev->config_pending = true;
	vu_backend_kick(dev);
}
