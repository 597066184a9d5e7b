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
#include <sys/stat.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"

static const char *const state_names[] = {
	"stopped", "started", "suspending", "suspended", "failed",
};
static_assert(ARRAY_SIZE(state_names) == VU_RING_STATE_CNT, "a name for every state");

const char *vu_ring_state_name(const struct vu_ring *vr)
{
	if (vr->state == VU_RING_RUNNING && read_once(&vr->vq.broken))
		return "broken";
	return state_names[vr->state];
}

/* The only writer of vr->state. */
static void set_state(struct vu_ring *vr, enum vu_ring_state state)
{
	switch (state) {
	case VU_RING_RUNNING:
		assert(!vu_ring_is_on_loop(vr));
		break;
	case VU_RING_SUSPENDING:
		assert(vr->state == VU_RING_RUNNING);
		break;
	case VU_RING_SUSPENDED:
		assert(vr->state == VU_RING_SUSPENDING);
		break;
	case VU_RING_STOPPED:
	case VU_RING_FAILED:
		break;
	case VU_RING_STATE_CNT:
		assert(false);
	}
	if (vr->state != state)
		log_debug("%s: %s -> %s", vr->name, state_names[vr->state], state_names[state]);
	vr->state = state;
}

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

/* The pointer for one area of a ring, whole and aligned, or NULL and *why. */
static void *area(const struct vu_ring *vr, uint64_t addr, uint64_t len, uint64_t align,
		  const char **why)
{
	void *p = gmem_uva_ptr(vr->dev->gm, uva(addr), len);

	/* The pointer too: a region may be mapped at an odd offset. */
	if (p && !(addr % align) && !((uintptr_t)p % align))
		return p;
	*why = p ? "an area is not aligned" : "an area is not in one memory region";
	return NULL;
}

const char *vu_ring_conf(const struct vu_ring *vr, struct virtq_conf *conf)
{
	const struct vu_dev *dev = vr->dev;
	const struct vu_vring_addr *a = &vr->addr;
	bool packed = is_packed(dev);
	const char *why = NULL;

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
	conf->desc = area(vr, a->desc, virtq_desc_len(packed, vr->size), 16, &why);
	conf->driver = area(vr, a->avail, virtq_driver_len(packed, vr->size), packed ? 4 : 2, &why);
	conf->device = area(vr, a->used, virtq_device_len(packed, vr->size), 4, &why);
	return why;
}

/* The same for a request that needs it: -EINVAL, logged, if it cannot be. */
static int check_conf(const struct vu_ring *vr, struct virtq_conf *conf)
{
	const char *why = vu_ring_conf(vr, conf);

	if (!why)
		return 0;
	log_limited(LOG_LEVEL_WARNING,
		    "%s: %s (size %u, descriptors 0x%llx, driver 0x%llx, device 0x%llx)", vr->name,
		    why, vr->size, (unsigned long long)vr->addr.desc,
		    (unsigned long long)vr->addr.avail, (unsigned long long)vr->addr.used);
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

	set_state(vr, VU_RING_FAILED);
	log_limited(LOG_LEVEL_ERROR, "%s: %s: %s", vr->name, what, strerror(-err));
	if (vr->err_fd >= 0 && write(vr->err_fd, &one, sizeof(one)) < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: cannot signal the error descriptor: %s",
			    vr->name, strerror(errno));
	return VU_FAILED;
}

void vu_ring_tell_active(struct vu_ring *vr, bool stopping)
{
	bool active = !stopping && vr->state == VU_RING_RUNNING && vr->enabled;

	if (active == vr->active)
		return;
	vr->active = active;
	if (vr->dev->ops->vq_active)
		vr->dev->ops->vq_active(vr->dev, vr->index, active);
}

/* The loop is to let go of it. */
static void post_stop(struct vu_ring *vr)
{
	vu_ring_tell_active(vr, true);
	vu_op_post(vr, LOOP_RING_STOP);
}

/* One ring less is set up; the last one ends the activity of the device. */
static void ring_release(struct vu_ring *vr)
{
	struct vu_dev *dev = vr->dev;

	if (dev->ops->vq_release)
		dev->ops->vq_release(dev, &vr->vq, vr->index);
	virtq_fini(&vr->vq);
	if (!--dev->nr_running && dev->ops->deactivate)
		dev->ops->deactivate(dev);
}

void vu_ring_started(struct vu_ring *vr, int error)
{
	if (error) {
		ring_release(vr);
		set_state(vr, VU_RING_FAILED);
		return;
	}
	log_debug("%s: started on loop%u, size %u", vr->name, loop_index(vr->vq.loop), vr->size);
	vu_ring_tell_active(vr, false);
	vu_backend_kick(vr->dev);
}

void vu_ring_stopped(struct vu_ring *vr)
{
	vr->base = virtq_base(&vr->vq);
	ring_release(vr);
	set_state(vr, vr->state == VU_RING_SUSPENDING ? VU_RING_SUSPENDED : VU_RING_STOPPED);
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
	set_state(vr, VU_RING_STOPPED);
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

/* Set the ring up and post its start; VU_DONE if that is under way. */
static int ring_begin(struct vu_ring *vr, const struct virtq_conf *conf)
{
	struct vu_dev *dev = vr->dev;
	int ret;

	if (!dev->nr_running && dev->ops->activate) {
		ret = dev->ops->activate(dev);
		if (ret < 0)
			return ring_fail(vr, "the device cannot start", ret);
	}
	ret = ring_setup(vr, conf);
	if (ret != VU_DONE) {
		if (!dev->nr_running && dev->ops->deactivate)
			dev->ops->deactivate(dev);
		return ret;
	}
	set_state(vr, VU_RING_RUNNING);
	dev->nr_running++;
	vu_op_post(vr, LOOP_RING_START);
	return VU_DONE;
}

static int ring_start(struct vu_ring *vr)
{
	struct virtq_conf conf;
	int ret;

	ret = check_conf(vr, &conf);
	if (ret < 0)
		return ret;
	vr->dev->op.ring = vr;
	ret = ring_begin(vr, &conf);
	return ret == VU_DONE ? vu_op_wait(vr->dev, start_answered) : ret;
}

/* Start the ring if nothing is missing any more. */
static int ring_try_start(struct vu_ring *vr)
{
	struct virtq_conf conf;

	if (vu_ring_is_on_loop(vr) || !vr->size || !vr->has_addr || !vr->has_kick)
		return VU_DONE;
	/* Its addresses were right once; vu_rings_resume() looks again. */
	if (vr->state == VU_RING_SUSPENDED && vu_ring_conf(vr, &conf))
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
		if (vu_ring_is_on_loop(&dev->rings[i]))
			vu_op_post(&dev->rings[i], LOOP_RING_SYNC);
}

/*
 * QEMU replaces a region by removing it and adding it again with another size,
 * while its rings run. A ring that has lost its memory is suspended: stopped,
 * with its position kept, until a change brings the memory back.
 */
void vu_rings_switch_memory(struct vu_dev *dev)
{
	struct virtq_conf conf;

	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (!vu_ring_is_on_loop(vr))
			continue;
		if (!vu_ring_conf(vr, &conf)) {
			vu_op_post(vr, LOOP_RING_SYNC);
			continue;
		}
		log_limited(LOG_LEVEL_INFO, "%s: suspended, its memory is being removed", vr->name);
		set_state(vr, VU_RING_SUSPENDING);
		post_stop(vr);
	}
}

void vu_rings_resume(struct vu_dev *dev)
{
	struct virtq_conf conf;

	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (vr->state != VU_RING_SUSPENDED || vu_ring_conf(vr, &conf))
			continue;
		log_limited(LOG_LEVEL_INFO, "%s: resumed, its memory is back", vr->name);
		if (ring_begin(vr, &conf) < 0)
			set_state(vr, VU_RING_FAILED);
	}
}

void vu_rings_stop(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (vu_ring_is_on_loop(&dev->rings[i]))
			post_stop(&dev->rings[i]);
}

void vu_rings_reset(struct vu_dev *dev, bool keep_err)
{
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		assert(!vu_ring_is_on_loop(vr));
		set_state(vr, VU_RING_STOPPED);
		vr->size = 0;
		vr->base = 0;
		vr->has_addr = false;
		vr->has_kick = false;
		vr->enabled = false;
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
	if (!vu_ring_is_on_loop(vr))
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
	if (vu_ring_is_on_loop(vr) && same_areas(&addr, &vr->addr)) {
		vr->addr = addr;
		return VU_DONE;
	}
	ret = check_stopped(vr, "other addresses");
	if (ret < 0)
		return ret;
	old = vr->addr;
	vr->addr = addr;
	ret = check_conf(vr, &conf);
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
	set_state(vr, VU_RING_STOPPED);
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
		post_stop(vr);
	return vu_op_wait(dev, base_ready);
}

/*
 * Loops write to and wait for the descriptors of a front-end, and must not
 * block: neither on a full pipe or an eventfd at its limit, nor on a file
 * system that the front-end itself serves. So they are eventfds (whose inode
 * has no type), pipes or sockets, and do not block. 0 or -EINVAL, logged.
 */
static int check_notifier(const struct vu_ring *vr, int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0 ||
	    (st.st_mode & S_IFMT && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)) ||
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
