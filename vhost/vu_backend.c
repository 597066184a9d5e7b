/*
 * The back-end's own channel to the front-end (BACKEND_REQ), over which it
 * announces changes of the configuration space. Called through the request
 * table, by the device type and when rings start. Never waits for the front-end
 * and never asks for a reply: what comes back is read and dropped.
 *
 * vhost-user, "Suspended device state": while all rings are stopped nothing is
 * sent. A change of that time is announced when the first ring starts, as the
 * front-end may hold a copy that is older.
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

/* Reads of one wake-up: a front-end that floods the channel gets its turn. */
#define READS_MAX 8

void vu_backend_close(struct vu_dev *dev)
{
	ev_fd_del(dev->ev, &dev->backend);
	fd_replace(&dev->backend.fd, -1);
}

void vu_backend_kick(struct vu_dev *dev)
{
	const struct vu_hdr hdr = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_VERSION,
	};
	ssize_t n;

	if (!dev->config_pending || dev->backend.fd < 0 || !dev->nr_running ||
	    !vu_has_protocol(dev, VHOST_USER_PROTOCOL_F_CONFIG))
		return;
	n = send(dev->backend.fd, &hdr, sizeof(hdr), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == sizeof(hdr)) {
		dev->config_pending = false;
		ev_fd_modify(dev->ev, &dev->backend, EPOLLIN);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
		ev_fd_modify(dev->ev, &dev->backend, EPOLLIN | EPOLLOUT);
		return;
	}
	/* Half a message cannot be taken back. */
	log_limited(LOG_LEVEL_WARNING, "%s: back-end channel: %s", dev->name,
		    n < 0 ? strerror(errno) : "cut short");
	vu_backend_close(dev);
}

/* Read without room for descriptors: the kernel drops those that come. */
static void drain(struct vu_dev *dev)
{
	char buf[256];

	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = recv(dev->backend.fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n > 0)
			continue;
		if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			vu_backend_close(dev);
		return;
	}
}

static void channel_event(struct ev_fd *w, uint32_t events)
{
	struct vu_dev *dev = container_of(w, struct vu_dev, backend);

	if (events & ~(uint32_t)EPOLLOUT)
		drain(dev);
	if (events & EPOLLOUT)
		vu_backend_kick(dev);
}

int vu_set_backend_req_fd(struct vu_dev *dev, struct vu_msg *msg)
{
	int ret;

	vu_backend_close(dev);
	dev->backend.fd = vu_msg_take_fd(msg, 0);
	dev->backend.handle = channel_event;
	ret = ev_fd_add(dev->ev, &dev->backend, EPOLLIN);
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
