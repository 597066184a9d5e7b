/*
 * A vhost-user device: its life, its connection, and the public functions of
 * vhost/vhost.h. Called by device types and by the event loop when a socket has
 * something to say. Never interprets a request, and never waits for a
 * front-end or a loop.
 *
 * Theory of operation: vu_internal.h. One front-end is served at a time; others
 * wait in the listening socket's backlog. The connection's socket is closed
 * last, when nothing of it is in use any more, so a front-end that comes back
 * at once finds a device at rest.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"
#include "vhost/vu_request.h"

#define BACKLOG 16
/* Requests of one wake-up: other devices get their turn in between. */
#define REQUESTS_MAX 32
#define RETRY_MIN_NS 100000000ull
#define RETRY_MAX_NS 2000000000ull
/* After a front-end that had a loop wait for it, which it cannot do often then. */
#define BLOCKED_PAUSE_NS 2000000000ull

static const char *const state_names[] = { "waiting", "up", "closing", "ended" };
static_assert(ARRAY_SIZE(state_names) == VU_CONN_STATE_CNT, "a name for every state");

const char *vu_conn_state_name(const struct vu_dev *dev)
{
	return state_names[dev->state];
}

static void set_state(struct vu_dev *dev, enum vu_conn_state state)
{
	switch (state) {
	case VU_WAITING:
		assert(dev->state == VU_CLOSING);
		break;
	case VU_UP:
		assert(dev->state == VU_WAITING);
		break;
	case VU_CLOSING:
		assert(dev->state == VU_UP);
		break;
	case VU_ENDED:
		assert(dev->state == VU_WAITING || dev->state == VU_CLOSING);
		break;
	case VU_CONN_STATE_CNT:
		assert(false);
	}
	log_debug("%s: %s -> %s", dev->name, state_names[dev->state], state_names[state]);
	dev->state = state;
}

/* --- the end of a device ---------------------------------------------------------- */

static void free_dev(struct vu_dev *dev)
{
	/* While the descriptor is open nobody else can have bound the path. */
	if (dev->owns_path)
		unix_unlink(dev->socket, dev->listener.fd);
	fd_replace(&dev->listener.fd, -1);
	fd_replace(&dev->conn.fd, -1);
	free(dev->rings);
	free(dev->loops);
	free(dev->socket);
	free(dev);
}

static void gone_run(struct ev_work *w)
{
	struct vu_dev *dev = container_of(w, struct vu_dev, gone_work);
	void (*gone)(void *opaque) = dev->gone;
	void *opaque = dev->gone_opaque;

	free_dev(dev);
	if (gone)
		gone(opaque);
}

/* Who waited to be accepted does so in vain, and may have sent something already. */
static void refuse_all(struct vu_dev *dev)
{
	int fd;

	/* Nobody else comes after this. */
	shutdown(dev->listener.fd, SHUT_RDWR);
	while ((fd = accept4(dev->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		vu_chan_close(&dev->chan, &fd);
}

/* By way of the event loop: we may be inside of a handler of this device. */
static void end(struct vu_dev *dev)
{
	ev_fd_del(dev->ev, &dev->listener);
	ev_timer_cancel(dev->ev, &dev->retry);
	/* What is being closed already takes nothing more. */
	fd_aside_abandon(&dev->aside);
	if (dev->listener.fd >= 0 && dev->owns_path)
		refuse_all(dev);
	fd_aside_abandon(&dev->aside);
	if (dev->state != VU_ENDED)
		set_state(dev, VU_ENDED);
	ev_post(dev->ev, &dev->gone_work);
}

/* --- waiting for a front-end ------------------------------------------------------- */

static void retry_later(struct vu_dev *dev)
{
	ev_timer_arm(dev->ev, &dev->retry, dev->retry_ns);
	dev->retry_ns = min_u64(2 * dev->retry_ns, RETRY_MAX_NS);
}

/* Take fd as the connection. */
static void attach(struct vu_dev *dev, int fd)
{
	dev->conn.fd = fd;
	ev_fd_del(dev->ev, &dev->listener);
	dev->retry_ns = RETRY_MIN_NS;
	set_state(dev, VU_UP);
	log_limited(LOG_LEVEL_INFO, "%s: front-end connected", dev->name);
	vu_conn_update(dev);
}

static void try_connect(struct vu_dev *dev)
{
	int fd = unix_connect(dev->socket);

	if (fd >= 0) {
		attach(dev, fd);
		return;
	}
	log_debug("%s: connecting to %s: %s", dev->name, dev->socket, strerror(-fd));
	retry_later(dev);
}

static void wait_for_front_end(struct vu_dev *dev)
{
	int ret;

	if (dev->listener.fd < 0) {
		try_connect(dev);
		return;
	}
	ret = ev_fd_add(dev->ev, &dev->listener, EPOLLIN);
	if (ret < 0) {
		log_limited(LOG_LEVEL_ERROR, "%s: cannot listen: %s", dev->name, strerror(-ret));
		retry_later(dev);
	}
}

static void retry_expired(struct ev_timer *t)
{
	struct vu_dev *dev = container_of(t, struct vu_dev, retry);

	/* It holds a thread and some descriptors of ours for as long as it likes, but
	 * not more and more of them. */
	if (fd_aside_is_over(&dev->aside))
		wait_for_front_end(dev);
	else
		retry_later(dev);
}

static void listener_event(struct ev_fd *w, uint32_t events)
{
	struct vu_dev *dev = container_of(w, struct vu_dev, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		attach(dev, fd);
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	/* Out of descriptors, for one. The socket stays readable: wait a little. */
	log_limited(LOG_LEVEL_ERROR, "%s: accept: %s", dev->name, strerror(errno));
	ev_fd_del(dev->ev, &dev->listener);
	retry_later(dev);
}

/* --- the end of a connection --------------------------------------------------------- */

/* Everything that belongs to one connection, as it was before the first. */
static void forget(struct vu_dev *dev)
{
	vu_rings_reset(dev, false);
	vu_iotlb_forget(dev);
	vu_mem_forget(dev);
	vu_inflight_forget(dev);
	vu_backend_close(dev);
	dev->features = 0;
	dev->protocol_features = 0;
	dev->status = 0;
	dev->config_pending = false;
	dev->op.error = 0;
	write_once(&dev->faulted, false);
	write_once(&dev->blocked, false);
	if (dev->ops->reset)
		dev->ops->reset(dev);
}

/* All rings are stopped and drained. */
static int conn_drained(struct vu_dev *dev)
{
	bool was_blocked = read_once(&dev->blocked);

	forget(dev);
	vu_chan_close(&dev->chan, &dev->conn.fd);
	fd_aside_close(dev->aside);
	if (dev->destroying) {
		end(dev);
	} else if ((was_blocked || dev->aside) && (dev->listener.fd >= 0 || dev->socket)) {
		set_state(dev, VU_WAITING);
		ev_timer_arm(dev->ev, &dev->retry, was_blocked ? BLOCKED_PAUSE_NS : RETRY_MIN_NS);
	} else if (dev->listener.fd >= 0) {
		set_state(dev, VU_WAITING);
		wait_for_front_end(dev);
	} else if (dev->socket) {
		set_state(dev, VU_WAITING);
		retry_later(dev);
	} else {
		log_info("%s: the socket that was passed has ended", dev->name);
		fd_aside_abandon(&dev->aside);
		set_state(dev, VU_ENDED);
	}
	return VU_NOTHING;
}

static void drain(struct vu_dev *dev)
{
	vu_rings_stop(dev);
	vu_op_wait(dev, conn_drained);
}

void vu_conn_close(struct vu_dev *dev, const char *why)
{
	log_limited(LOG_LEVEL_INFO, "%s: disconnecting: %s", dev->name, why);
	set_state(dev, VU_CLOSING);
	ev_fd_del(dev->ev, &dev->conn);
	/* A request in progress ends first: vu_conn_op_over(). */
	if (!vu_op_in_progress(dev))
		drain(dev);
}

/* --- requests ------------------------------------------------------------------------ */

static bool may_read(const struct vu_dev *dev)
{
	return dev->state == VU_UP && !vu_op_in_progress(dev) && !vu_chan_tx_pending(&dev->chan);
}

bool vu_conn_is_at_rest(const struct vu_dev *dev)
{
	char byte;

	return may_read(dev) && !dev->chan.rx_len &&
	       recv(dev->conn.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

/* Watch the socket for what can be done with it now. A reply that the front-end
 * does not fetch stops the reading of requests, nothing else. */
void vu_conn_update(struct vu_dev *dev)
{
	uint32_t events = vu_chan_tx_pending(&dev->chan) ? EPOLLOUT : EPOLLIN;
	int ret = 0;

	if (dev->state != VU_UP)
		return;
	vu_rings_move(dev);
	vu_iotlb_settle(dev);
	if (vu_op_in_progress(dev))
		ev_fd_del(dev->ev, &dev->conn);
	else if (dev->conn.watched)
		ret = ev_fd_modify(dev->ev, &dev->conn, events);
	else
		ret = ev_fd_add(dev->ev, &dev->conn, events);
	if (ret < 0)
		vu_conn_close(dev, strerror(-ret));
}

/* The request in dev->chan.rx is over. */
static void request_over(struct vu_dev *dev, int result)
{
	int ret;

	if (dev->state != VU_UP)
		return;
	ret = vu_request_answer(dev, result);
	vu_chan_next(&dev->chan);
	if (ret < 0)
		vu_conn_close(dev, ret == result ? "refused request" : strerror(-ret));
}

void vu_conn_op_over(struct vu_dev *dev, int result)
{
	if (result == VU_NOTHING)
		return;
	dev->op.error = 0;
	if (dev->state == VU_CLOSING) {
		drain(dev);
		return;
	}
	if (result != VU_IDLE)
		request_over(dev, result);
	vu_conn_update(dev);
}

static const char *reason(int err)
{
	if (err == -ECONNRESET)
		return "the front-end has gone";
	return err == -EPROTO ? "broken protocol" : strerror(-err);
}

static void conn_event(struct ev_fd *w, uint32_t events)
{
	struct vu_dev *dev = container_of(w, struct vu_dev, conn);
	int ret;

	if (vu_chan_tx_pending(&dev->chan)) {
		ret = vu_chan_flush(&dev->chan, w->fd);
		if (ret < 0) {
			vu_conn_close(dev, reason(ret));
			return;
		}
	}
	for (unsigned int i = 0; i < REQUESTS_MAX && may_read(dev); i++) {
		if (dev->aside) {
			vu_conn_close(dev, "a descriptor that may keep us waiting");
			return;
		}
		if (read_once(&dev->blocked)) {
			vu_conn_close(dev, "a descriptor of its rings blocks");
			return;
		}
		ret = vu_chan_recv(&dev->chan, w->fd, dev->name);
		if (!ret)
			break;
		if (ret < 0) {
			vu_conn_close(dev, reason(ret));
			return;
		}
		ret = vu_request_handle(dev);
		if (ret != VU_PENDING)
			request_over(dev, ret);
	}
	vu_conn_update(dev);
}

/* --- creation --------------------------------------------------------------------------- */

static bool conf_is_valid(const struct vu_conf *conf)
{
	return conf->name && *conf->name && strlen(conf->name) < VU_NAME_MAX && conf->ops &&
	       conf->ev && conf->nr_loops && conf->queues && conf->queues <= VU_QUEUES_MAX &&
	       conf->config_len <= VU_CONFIG_MAX && (conf->fd >= 0 || conf->socket);
}

/* A socket that was passed in: say whether it listens. */
static int adopt(int fd)
{
	int listening = unix_is_listening(fd), flags;

	if (listening < 0)
		return listening;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return listening;
}

/* Begin to wait, or to serve a connected socket. Takes fd when it succeeds. */
static int open_socket(struct vu_dev *dev, int fd)
{
	int ret;

	if (fd >= 0) {
		ret = adopt(fd);
		if (ret < 0)
			return ret;
		if (!ret) {
			attach(dev, fd);
			return 0;
		}
		dev->listener.fd = fd;
	} else if (dev->mode == VU_LISTEN) {
		ret = unix_listen(dev->socket, BACKLOG);
		if (ret < 0)
			return ret;
		dev->listener.fd = ret;
		dev->owns_path = true;
	} else if (strlen(dev->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		return -ENAMETOOLONG;
	}
	wait_for_front_end(dev);
	return 0;
}

static int copy_conf(struct vu_dev *dev, const struct vu_conf *conf)
{
	size_t rings_len = conf->queues * sizeof(*dev->rings);

	strcpy(dev->name, conf->name);
	dev->mode = conf->mode;
	dev->ops = conf->ops;
	dev->priv = conf->priv;
	dev->ev = conf->ev;
	dev->nr_loops = conf->nr_loops;
	dev->queues = conf->queues;
	dev->queue_size_max = conf->queue_size_max;
	dev->config_len = conf->config_len;
	dev->feature_mask = conf->feature_mask;
	dev->loops = malloc(conf->nr_loops * sizeof(struct loop *));
	dev->rings = aligned_alloc(CACHE_LINE, rings_len);
	/* A socket that was passed in is used whatever its path. */
	if (conf->fd < 0)
		dev->socket = strdup(conf->socket);
	if (!dev->loops || !dev->rings || (conf->fd < 0 && !dev->socket))
		return -ENOMEM;
	memcpy(dev->loops, conf->loops, conf->nr_loops * sizeof(struct loop *));
	memset(dev->rings, 0, rings_len);
	for (unsigned int i = 0; i < dev->queues; i++)
		vu_ring_init(dev, i);
	return 0;
}

int vu_dev_create(const struct vu_conf *conf, struct vu_dev **out)
{
	struct vu_dev *dev = NULL;
	int fd = conf->fd, ret = -EINVAL;

	if (!conf_is_valid(conf))
		goto err_close;
	ret = -ENOMEM;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		goto err_close;
	dev->listener = (struct ev_fd){ .handle = listener_event, .fd = -1 };
	dev->conn = (struct ev_fd){ .handle = conn_event, .fd = -1 };
	dev->backend.w.fd = -1;
	vu_chan_init(&dev->backend.chan, true, &dev->aside);
	dev->op.old_fd = -1;
	dev->retry.expired = retry_expired;
	dev->retry_ns = RETRY_MIN_NS;
	dev->gone_work.run = gone_run;
	vu_chan_init(&dev->chan, false, &dev->aside);
	ret = copy_conf(dev, conf);
	if (ret < 0)
		goto err_free;
	ret = open_socket(dev, fd);
	if (ret < 0)
		goto err_free;
	*out = dev;
	return 0;

err_free:
	free_dev(dev);
err_close:
	fd_replace(&fd, -1);
	return ret;
}

void vu_dev_destroy(struct vu_dev *dev, void (*gone)(void *opaque), void *opaque)
{
	assert(!dev->destroying);
	dev->destroying = true;
	dev->gone = gone;
	dev->gone_opaque = opaque;
	if (dev->state == VU_UP)
		vu_conn_close(dev, "the device is being removed");
	else if (dev->state != VU_CLOSING)
		end(dev);
}

void *vu_dev_priv(const struct vu_dev *dev)
{
	return dev->priv;
}

const char *vu_dev_name(const struct vu_dev *dev)
{
	return dev->name;
}

uint64_t vu_dev_features(const struct vu_dev *dev)
{
	return dev->features & ~VU_VHOST_FEATURES;
}

bool vu_dev_ring_is_active(const struct vu_dev *dev, unsigned int index)
{
	return index < dev->queues && dev->rings[index].active;
}

bool vu_dev_is_connected(const struct vu_dev *dev)
{
	return dev->state == VU_UP;
}
