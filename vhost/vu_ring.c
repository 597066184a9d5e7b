/*
 * The requests about one ring, and starting and stopping rings. Called through
 * the request table (vu_request.c), whose checks have bounded the ring's index.
 * Never touches a running ring: it posts ring ops to its loop.
 *
 * Theory of operation
 *
 * A ring starts when the front-end has said its size, its addresses and its
 * kick descriptor (or that there is none), in whatever order the last two come.
 * vhost-user, "Ring states", starts it at the first kick; a back-end that polls
 * does not wait for one, because the driver need not send any. Size and memory
 * must be known before the addresses, which are checked against them, and are
 * checked again at the start: both may have changed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"

static bool is_packed(const struct vu_dev *dev)
{
	return dev->features & BIT64(VIRTIO_F_RING_PACKED);
}

static struct vu_ring *ring_of_state(struct vu_dev *dev, const struct vu_msg *msg)
{
	return &dev->rings[msg->payload.state.index];
}

static struct vu_ring *ring_of_u64(struct vu_dev *dev, const struct vu_msg *msg)
{
	return &dev->rings[msg->payload.u64 & VHOST_USER_VRING_INDEX_MASK];
}

/* --- addresses -------------------------------------------------------------- */

/* The pointer for one area of a ring, whole and aligned, or NULL. */
static void *area(const struct vu_ring *vr, const char *what, uint64_t addr, uint64_t len,
		  uint64_t align)
{
	void *p = gmem_uva_ptr(vr->dev->gm, uva(addr), len);

	/* The pointer too: a region may be mapped at an odd offset. */
	if (p && !(addr % align) && !((uintptr_t)p % align))
		return p;
	log_limited(LOG_LEVEL_WARNING, "%s: %s area of %llu bytes at 0x%llx is %s", vr->name, what,
		    (unsigned long long)len, (unsigned long long)addr,
		    p ? "not aligned" : "not in one memory region");
	return NULL;
}

int vu_ring_conf(const struct vu_ring *vr, struct virtq_conf *conf)
{
	const struct vu_dev *dev = vr->dev;
	bool packed = is_packed(dev);

	*conf = (struct virtq_conf){
		.gm = dev->gm,
		.log = dev->features & BIT64(VHOST_F_LOG_ALL) ? dev->log : NULL,
		.features = dev->features & ~VU_VHOST_FEATURES,
		.size = vr->size,
		.base = vr->base,
		.kick_fd = vr->kick_fd,
		.call_fd = vr->call_fd,
		.err_fd = vr->err_fd,
		.enabled = vr->enabled,
	};
	/* VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues": alignment. */
	conf->desc = area(vr, "descriptor", vr->addr.desc, virtq_desc_len(packed, vr->size), 16);
	conf->driver = area(vr, "driver", vr->addr.avail, virtq_driver_len(packed, vr->size),
			    packed ? 4 : 2);
	conf->device = area(vr, "device", vr->addr.used, virtq_device_len(packed, vr->size), 4);
	if (conf->desc && conf->driver && conf->device)
		return 0;
	conf->desc = NULL;
	conf->driver = NULL;
	conf->device = NULL;
	return -EINVAL;
}

/* --- start and stop ----------------------------------------------------------- */

/* The least loaded loop; one on the node that holds the ring, if there is any. */
static struct loop *pick_loop(const struct vu_dev *dev, const void *mem)
{
	int node = dev->nr_loops > 1 ? numa_node_of(mem) : -1;
	struct loop *best = NULL;
	bool best_near = false;

	for (unsigned int i = 0; i < dev->nr_loops; i++) {
		struct loop *loop = dev->loops[i];
		bool near = node >= 0 && loop_node(loop) == node;

		if (best && near == best_near && loop_nr_rings(loop) >= loop_nr_rings(best))
			continue;
		if (best && best_near && !near)
			continue;
		best = loop;
		best_near = near;
	}
	return best;
}

/* A valid ring that we cannot serve: it breaks, the connection goes on. */
static int ring_fail(struct vu_ring *vr, const char *what, int err)
{
	static const uint64_t one = 1;

	vr->failed = true;
	log_limited(LOG_LEVEL_ERROR, "%s: %s: %s", vr->name, what, strerror(-err));
	if (vr->err_fd >= 0 && write(vr->err_fd, &one, sizeof(one)) < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: cannot signal the error descriptor: %s",
			    vr->name, strerror(errno));
	return VU_FAILED;
}

/* One ring less is set up; the last one ends the activity of the device. */
static void ring_release(struct vu_ring *vr)
{
	struct vu_dev *dev = vr->dev;

	if (dev->ops->vq_release)
		dev->ops->vq_release(dev, &vr->vq, vr->index);
	virtq_fini(&vr->vq);
	vr->running = false;
	if (!--dev->nr_running && dev->ops->deactivate)
		dev->ops->deactivate(dev);
}

void vu_ring_started(struct vu_ring *vr, int error)
{
	if (error) {
		ring_release(vr);
		return;
	}
	log_debug("%s: started on loop%u, size %u", vr->name, loop_index(vr->vq.loop), vr->size);
	vu_backend_kick(vr->dev);
}

void vu_ring_stopped(struct vu_ring *vr)
{
	vr->base = virtq_base(&vr->vq);
	ring_release(vr);
	log_debug("%s: stopped at 0x%x", vr->name, vr->base);
}

static int start_answered(struct vu_dev *dev)
{
	struct vu_ring *vr = dev->op.ring;
	int err = dev->op.error;

	dev->op.error = 0;
	if (!err)
		return VU_DONE;
	if (err == -ENOMEM)
		return ring_fail(vr, "cannot be put on its loop", err);
	log_limited(LOG_LEVEL_WARNING, "%s: kick descriptor cannot be watched: %s", vr->name,
		    strerror(-err));
	vr->has_kick = false;
	fd_replace(&vr->kick_fd, -1);
	return err;
}

static int ring_setup(struct vu_ring *vr, const struct virtq_conf *conf)
{
	struct vu_dev *dev = vr->dev;
	struct loop *loop = pick_loop(dev, conf->desc);
	struct virtq *vq = &vr->vq;
	int ret;

	ret = virtq_init(vq, conf, loop_node(loop));
	if (ret < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: size %u with base 0x%x: %s", vr->name,
			    conf->size, conf->base, strerror(-ret));
		return ret == -ENOMEM ? ring_fail(vr, "no memory", ret) : ret;
	}
	vq->loop = loop;
	vq->poll = dev->ops->vq_poll;
	vq->name = vr->name;
	ret = dev->ops->vq_setup ? dev->ops->vq_setup(dev, vq, vr->index) : 0;
	if (ret < 0) {
		virtq_fini(vq);
		return ring_fail(vr, "cannot be set up", ret);
	}
	return VU_DONE;
}

static int ring_start(struct vu_ring *vr)
{
	struct vu_dev *dev = vr->dev;
	struct virtq_conf conf;
	int ret;

	vr->failed = false;
	ret = vu_ring_conf(vr, &conf);
	if (ret < 0)
		return ret;
	if (!dev->nr_running && dev->ops->activate) {
		ret = dev->ops->activate(dev);
		if (ret < 0)
			return ring_fail(vr, "the device cannot start", ret);
	}
	ret = ring_setup(vr, &conf);
	if (ret != VU_DONE) {
		if (!dev->nr_running && dev->ops->deactivate)
			dev->ops->deactivate(dev);
		return ret;
	}
	vr->running = true;
	dev->nr_running++;
	dev->op.ring = vr;
	vu_op_post(vr, LOOP_RING_START);
	return vu_op_wait(dev, start_answered);
}

/* Start the ring if nothing is missing any more. */
static int ring_try_start(struct vu_ring *vr)
{
	if (vr->running || !vr->size || !vr->has_addr || !vr->has_kick)
		return VU_DONE;
	return ring_start(vr);
}

/* --- all rings -------------------------------------------------------------- */

void vu_ring_init(struct vu_dev *dev, unsigned int index)
{
	struct vu_ring *vr = &dev->rings[index];

	vr->dev = dev;
	vr->index = index;
	vr->kick_fd = -1;
	vr->call_fd = -1;
	vr->err_fd = -1;
	snprintf(vr->name, sizeof(vr->name), "%s.%u", dev->name, index);
}

void vu_rings_sync(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->rings[i].running)
			vu_op_post(&dev->rings[i], LOOP_RING_SYNC);
}

void vu_rings_stop(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->rings[i].running)
			vu_op_post(&dev->rings[i], LOOP_RING_STOP);
}

void vu_rings_reset(struct vu_dev *dev, bool keep_err)
{
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		assert(!vr->running);
		vr->size = 0;
		vr->base = 0;
		vr->has_addr = false;
		vr->has_kick = false;
		vr->enabled = false;
		vr->failed = false;
		fd_replace(&vr->kick_fd, -1);
		fd_replace(&vr->call_fd, -1);
		if (!keep_err)
			fd_replace(&vr->err_fd, -1);
	}
}

/* --- requests ----------------------------------------------------------------- */

/* What may only be said of a ring that does not run. */
static int check_stopped(const struct vu_ring *vr, const char *what)
{
	if (!vr->running)
		return 0;
	log_limited(LOG_LEVEL_WARNING, "%s: %s of a running ring", vr->name, what);
	return -EBUSY;
}

int vu_set_vring_num(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);
	uint32_t num = msg->payload.state.num;
	int ret = check_stopped(vr, "size");

	if (ret < 0)
		return ret;
	ret = virtq_size_check(is_packed(dev), num);
	if (ret < 0 || (dev->queue_size_max && num > dev->queue_size_max)) {
		log_limited(LOG_LEVEL_WARNING, "%s: size %u is not allowed", vr->name, num);
		return -EINVAL;
	}
	vr->size = num;
	return VU_DONE;
}

static bool same_areas(const struct vu_vring_addr *a, const struct vu_vring_addr *b)
{
	return a->desc == b->desc && a->avail == b->avail && a->used == b->used;
}

/* The log address only counts with VHOST_VRING_F_LOG: Linux's virtio_uml sends
 * -1. Where the writes are logged follows from the area's guest address, which
 * is the same without an IOMMU. */
static int check_addr_log(const struct vu_ring *vr, const struct vu_vring_addr *addr)
{
	uint64_t end;

	if (addr->flags & ~VHOST_VRING_F_LOG) {
		log_limited(LOG_LEVEL_WARNING, "%s: unknown ring flags 0x%x", vr->name,
			    addr->flags);
		return -EINVAL;
	}
	if (addr->flags & VHOST_VRING_F_LOG &&
	    add_overflows(addr->log, virtq_device_len(is_packed(vr->dev), vr->size), &end)) {
		log_limited(LOG_LEVEL_WARNING, "%s: log address 0x%llx wraps", vr->name,
			    (unsigned long long)addr->log);
		return -EINVAL;
	}
	return 0;
}

int vu_set_vring_addr(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_vring_addr addr = msg->payload.addr, old;
	struct vu_ring *vr = &dev->rings[addr.index];
	struct virtq_conf conf;
	int ret;

	if (!vr->size || !dev->gm) {
		log_limited(LOG_LEVEL_WARNING, "%s: addresses before %s", vr->name,
			    vr->size ? "memory" : "size");
		return -EPROTO;
	}
	ret = check_addr_log(vr, &addr);
	if (ret < 0)
		return ret;
	/* Sent again to change VHOST_VRING_F_LOG when a migration begins or ends.
	 * VHOST_F_LOG_ALL alone decides whether we log. */
	if (vr->running && same_areas(&addr, &vr->addr)) {
		vr->addr = addr;
		return VU_DONE;
	}
	ret = check_stopped(vr, "other addresses");
	if (ret < 0)
		return ret;
	old = vr->addr;
	vr->addr = addr;
	ret = vu_ring_conf(vr, &conf);
	if (ret < 0) {
		vr->addr = old;
		return ret;
	}
	vr->has_addr = true;
	return ring_try_start(vr);
}

int vu_set_vring_base(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);
	uint32_t num = msg->payload.state.num;
	int ret = check_stopped(vr, "base");

	if (ret < 0)
		return ret;
	/* "A vring descriptor index for split virtqueues": 16 bits, rest reserved. */
	if (!is_packed(dev) && num > UINT16_MAX) {
		log_limited(LOG_LEVEL_WARNING, "%s: base 0x%x of a split ring", vr->name, num);
		return -EINVAL;
	}
	vr->base = num;
	return VU_DONE;
}

static int base_ready(struct vu_dev *dev)
{
	struct vu_ring *vr = dev->op.ring;
	struct vu_msg *msg = &dev->chan.rx;

	/* Both are sent anew before the ring starts again. */
	vr->has_kick = false;
	vr->failed = false;
	fd_replace(&vr->kick_fd, -1);
	fd_replace(&vr->call_fd, -1);
	msg->payload.state = (struct vu_vring_state){ .index = vr->index, .num = vr->base };
	msg->hdr.size = sizeof(msg->payload.state);
	return VU_REPLY;
}

int vu_get_vring_base(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);

	dev->op.ring = vr;
	if (vr->running)
		vu_op_post(vr, LOOP_RING_STOP);
	return vu_op_wait(dev, base_ready);
}

/* The descriptor of KICK, CALL or ERR: 0 and *fd (the caller's; -1 if the
 * front-end said that there is none). */
static int ring_fd(struct vu_dev *dev, struct vu_msg *msg, int *fd)
{
	const struct vu_ring *vr = ring_of_u64(dev, msg);
	uint64_t v = msg->payload.u64;

	if (v & ~(uint64_t)(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NOFD) ||
	    !(v & VHOST_USER_VRING_NOFD) != (msg->nr_fds == 1)) {
		log_limited(LOG_LEVEL_WARNING,
			    "%s: message %u with value 0x%llx and %u descriptors", vr->name,
			    msg->hdr.request, (unsigned long long)v, msg->nr_fds);
		return -EPROTO;
	}
	*fd = vu_msg_take_fd(msg, 0);
	return 0;
}

/*
 * A notification must not block a loop: a pipe may be full, an eventfd at its
 * limit. 0, or -errno if fd is not of the kind that can be made so.
 */
static int set_nonblocking(int fd)
{
	int flags;

	if (fd < 0)
		return 0;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int synced(struct vu_dev *dev)
{
	return VU_DONE;
}

/* Replace a descriptor of a ring; a running one gives up the old one first. */
static int switch_fd(struct vu_ring *vr, int *slot, int fd, int (*then)(struct vu_dev *dev))
{
	struct vu_dev *dev = vr->dev;

	if (!vr->running) {
		fd_replace(slot, fd);
		return VU_DONE;
	}
	dev->op.old_fd = *slot;
	*slot = fd;
	dev->op.ring = vr;
	vu_op_post(vr, LOOP_RING_SYNC);
	return vu_op_wait(dev, then);
}

int vu_set_vring_kick(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_u64(dev, msg);
	int fd, ret = ring_fd(dev, msg, &fd);

	if (ret < 0)
		return ret;
	vr->has_kick = true;
	if (vr->running)
		return switch_fd(vr, &vr->kick_fd, fd, synced);
	fd_replace(&vr->kick_fd, fd);
	return ring_try_start(vr);
}

/*
 * What was used while there was no call descriptor was not notified, and QEMU
 * sends it after it has enabled the ring. One notification too many is harmless.
 */
static int call_switched(struct vu_dev *dev)
{
	static const uint64_t one = 1;
	struct vu_ring *vr = dev->op.ring;

	if (vr->call_fd >= 0 && write(vr->call_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_limited(LOG_LEVEL_WARNING, "%s: cannot notify the driver: %s", vr->name,
			    strerror(errno));
	return VU_DONE;
}

int vu_set_vring_call(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_u64(dev, msg);
	int fd, ret = ring_fd(dev, msg, &fd);

	if (ret < 0)
		return ret;
	ret = set_nonblocking(fd);
	if (ret < 0) {
		fd_replace(&fd, -1);
		return ret;
	}
	return switch_fd(vr, &vr->call_fd, fd, call_switched);
}

int vu_set_vring_err(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_u64(dev, msg);
	int fd, ret = ring_fd(dev, msg, &fd);

	if (ret < 0)
		return ret;
	ret = set_nonblocking(fd);
	if (ret < 0) {
		fd_replace(&fd, -1);
		return ret;
	}
	return switch_fd(vr, &vr->err_fd, fd, synced);
}

int vu_set_vring_enable(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);
	uint32_t num = msg->payload.state.num;

	if (num > 1) {
		log_limited(LOG_LEVEL_WARNING, "%s: enable with %u", vr->name, num);
		return -EINVAL;
	}
	vr->enabled = num;
	if (!vr->running)
		return VU_DONE;
	vu_op_post(vr, LOOP_RING_SYNC);
	return vu_op_wait(dev, synced);
}
