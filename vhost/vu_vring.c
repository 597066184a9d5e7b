/*
 * The requests about one ring: what the front-end says of it. Called through the
 * request table (vu_request.c), whose checks have bounded the ring's index.
 * Never touches a running ring: what it does to one is posted to its loop.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"

static struct vu_ring *ring_of_state(struct vu_dev *dev, const struct vu_msg *msg)
{
	return &dev->rings[msg->payload.state.index];
}

static struct vu_ring *ring_of_u64(struct vu_dev *dev, const struct vu_msg *msg)
{
	return &dev->rings[msg->payload.u64 & VHOST_USER_VRING_INDEX_MASK];
}

/* What may only be said of a ring that does not run. */
static int check_stopped(const struct vu_ring *vr, const char *what)
{
	if (!vu_ring_is_on_loop(vr))
		return 0;
	log_limited(LOG_LEVEL_WARNING, "%s: %s of a running ring", vr->name, what);
	return -EBUSY;
}

static int set_num(struct vu_ring *vr, uint32_t num)
{
	const struct vu_dev *dev = vr->dev;
	int ret;

	ret = virtq_size_check(vu_is_packed(dev), num);
	if (ret < 0 || (dev->queue_size_max && num > dev->queue_size_max)) {
		log_limited(LOG_LEVEL_WARNING, "%s: size %u is not allowed", vr->name, num);
		return -EINVAL;
	}
	vr->size = num;
	return VU_DONE;
}

static int set_num_of_stopped(struct vu_dev *dev)
{
	vu_ring_forget(dev->op.ring);
	return set_num(dev->op.ring, dev->chan.rx.payload.state.num);
}

/* The first thing that is said of a ring that is set up. */
int vu_set_vring_num(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);
	int ret;

	if (vu_ring_is_left(vr)) {
		dev->op.ring = vr;
		vu_ring_post_stop(vr);
		return vu_op_wait(dev, set_num_of_stopped);
	}
	ret = check_stopped(vr, "size");
	return ret < 0 ? ret : set_num(vr, msg->payload.state.num);
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
	    add_overflows(addr->log, virtq_device_len(vu_is_packed(vr->dev), vr->size), &end)) {
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
	if (vu_ring_is_on_loop(vr) && same_areas(&addr, &vr->addr)) {
		vr->addr = addr;
		return VU_DONE;
	}
	ret = check_stopped(vr, "other addresses");
	if (ret < 0)
		return ret;
	old = vr->addr;
	vr->addr = addr;
	ret = vu_ring_check_addr(vr);
	if (ret < 0) {
		vr->addr = old;
		return ret;
	}
	vr->has_addr = true;
	return vu_ring_try_start(vr);
}

int vu_set_vring_base(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_state(dev, msg);
	uint32_t num = msg->payload.state.num;
	int ret = check_stopped(vr, "base");

	if (ret < 0)
		return ret;
	/* "A vring descriptor index for split virtqueues": 16 bits, rest reserved. */
	if (!vu_is_packed(dev) && num > UINT16_MAX) {
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
	vu_ring_set_state(vr, VU_RING_STOPPED);
	vu_iotlb_forget_miss(vr);
	vu_iotlb_stopped(dev);
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
	if (vu_ring_is_on_loop(vr))
		vu_ring_post_stop(vr);
	return vu_op_wait(dev, base_ready);
}

/*
 * Loops write to and wait for the descriptors of a front-end, and must not
 * block: neither on a full pipe or an eventfd at its limit, nor on a file
 * system that the front-end itself serves. So they are eventfds (whose inode
 * has no type), pipes or sockets, and do not block. 0 or -EINVAL, logged. The
 * front-end can have them block again: notify.c ends that.
 */
static int check_notifier(const struct vu_ring *vr, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct statx st;

	/* Nothing is asked that a file system would have to answer: fd_may_wait(). */
	if (flags < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 ||
	    (st.stx_mode & S_IFMT && !S_ISFIFO(st.stx_mode) && !S_ISSOCK(st.stx_mode)) ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: not a descriptor for notifications", vr->name);
		return -EINVAL;
	}
	return 0;
}

/* The descriptor of KICK, CALL or ERR: 0 and *fd (the caller's; -1 if the
 * front-end said that there is none). */
static int ring_fd(struct vu_dev *dev, struct vu_msg *msg, int *fd)
{
	const struct vu_ring *vr = ring_of_u64(dev, msg);
	uint64_t v = msg->payload.u64;
	int ret;

	if (v & ~(uint64_t)(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NOFD) ||
	    !(v & VHOST_USER_VRING_NOFD) != (msg->nr_fds == 1)) {
		log_limited(LOG_LEVEL_WARNING,
			    "%s: message %u with value 0x%llx and %u descriptors", vr->name,
			    msg->hdr.request, (unsigned long long)v, msg->nr_fds);
		return -EPROTO;
	}
	*fd = vu_msg_take_fd(msg, 0);
	ret = *fd < 0 ? 0 : check_notifier(vr, *fd);
	if (ret < 0)
		fd_replace(fd, -1);
	return ret;
}

static int synced(struct vu_dev *dev)
{
	return VU_DONE;
}

/* Replace a descriptor of a ring; a running one gives up the old one first. */
static int switch_fd(struct vu_ring *vr, int *slot, int fd, int (*then)(struct vu_dev *dev))
{
	struct vu_dev *dev = vr->dev;

	if (!vu_ring_is_on_loop(vr)) {
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
	if (vu_ring_is_on_loop(vr))
		return switch_fd(vr, &vr->kick_fd, fd, synced);
	fd_replace(&vr->kick_fd, fd);
	return vu_ring_try_start(vr);
}

/*
 * What was used while there was no call descriptor was not notified, and QEMU
 * sends it after it has enabled the ring. One notification too many is harmless.
 */
static int call_switched(struct vu_dev *dev)
{
	struct vu_ring *vr = dev->op.ring;

	vu_ring_signal(vr, vr->call_fd, "the driver");
	return VU_DONE;
}

int vu_set_vring_call(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_u64(dev, msg);
	int fd, ret = ring_fd(dev, msg, &fd);

	if (ret < 0)
		return ret;
	return switch_fd(vr, &vr->call_fd, fd, call_switched);
}

int vu_set_vring_err(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_ring *vr = ring_of_u64(dev, msg);
	int fd, ret = ring_fd(dev, msg, &fd);

	if (ret < 0)
		return ret;
	return switch_fd(vr, &vr->err_fd, fd, synced);
}

static int enable_switched(struct vu_dev *dev)
{
	vu_ring_tell_active(dev->op.ring, false);
	return VU_DONE;
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
	if (!vu_ring_is_on_loop(vr))
		return VU_DONE;
	dev->op.ring = vr;
	if (!vr->enabled)
		vu_ring_tell_active(vr, false);
	vu_op_post(vr, LOOP_RING_SYNC);
	return vu_op_wait(dev, enable_switched);
}
