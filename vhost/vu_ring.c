/*
 * Starting, suspending, resuming and stopping rings. Called by the requests
 * about rings (vu_vring.c), about memory (vu_mem.c, vu_iotlb.c) and by the end of
 * a connection. Never touches a running ring: it posts ring ops to its loop.
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
#include <string.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/notify.h"
#include "vhost/virtq_tlb.h"
#include "vhost/vu_internal.h"

static const char *const state_names[] = {
	"stopped", "started", "suspending", "suspended", "moving", "failed",
};
static_assert(ARRAY_SIZE(state_names) == VU_RING_STATE_CNT, "a name for every state");

const char *vu_ring_state_name(const struct vu_ring *vr)
{
	if (vr->state == VU_RING_RUNNING && read_once(&vr->vq.broken))
		return "broken";
	return state_names[vr->state];
}

/*
 * The last ring that is set up ends the activity of the device. Not one that is
 * suspended: it goes on when its memory is back, and what the device has of the
 * world until then, such as the lock of an image, is nobody else's to take.
 */
static void rest_if_idle(struct vu_dev *dev)
{
	if (!dev->activated || dev->nr_running)
		return;
	for (unsigned int i = 0; i < dev->queues; i++)
		if (dev->rings[i].state == VU_RING_SUSPENDED)
			return;
	dev->activated = false;
	if (dev->ops->deactivate)
		dev->ops->deactivate(dev);
}

void vu_ring_set_state(struct vu_ring *vr, enum vu_ring_state state)
{
	switch (state) {
	case VU_RING_RUNNING:
		assert(!vu_ring_is_on_loop(vr) || vr->state == VU_RING_MOVING);
		break;
	case VU_RING_SUSPENDING:
	case VU_RING_MOVING:
		assert(vr->state == VU_RING_RUNNING);
		break;
	case VU_RING_SUSPENDED:
		assert(!vu_ring_is_on_loop(vr) || vr->state == VU_RING_SUSPENDING);
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
	rest_if_idle(vr->dev);
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

/* Behind an IOMMU: what vu_areas_place() found. */
static const char *conf_places(const struct vu_ring *vr, struct virtq_conf *conf)
{
	conf->desc = vr->areas[0].ptr;
	conf->driver = vr->areas[1].ptr;
	conf->device = vr->areas[2].ptr;
	return vu_areas_are_in(vr, vr->dev->gm) ? NULL : "its memory has gone";
}

const char *vu_ring_conf(const struct vu_ring *vr, struct virtq_conf *conf)
{
	const struct vu_dev *dev = vr->dev;
	const struct vu_vring_addr *a = &vr->addr;
	bool packed = vu_is_packed(dev);
	const char *why;

	*conf = (struct virtq_conf){
		.gm = dev->gm,
		.log = dev->features & BIT64(VHOST_F_LOG_ALL) ? dev->log : NULL,
		.iotlb = dev->iotlb,
		.features = dev->features & ~VU_VHOST_FEATURES,
		.size = vr->size,
		.base = vr->base,
		.kick_fd = vr->kick_fd,
		.call_fd = vr->call_fd,
		.err_fd = vr->err_fd,
		.enabled = vr->enabled,
		.blocked = &vr->dev->blocked,
	};
	why = vu_inflight_conf(vr, conf);
	if (why)
		return why;
	/* vhost-user, "A vring address description": behind an IOMMU the
	 * addresses are the device's, else the front-end's. */
	if (dev->iotlb)
		return conf_places(vr, conf);
	/* VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues": alignment. */
	conf->desc = area(vr, a->desc, virtq_desc_len(packed, vr->size), 16, &why);
	conf->driver = area(vr, a->avail, virtq_driver_len(packed, vr->size), packed ? 4 : 2, &why);
	conf->device = area(vr, a->used, virtq_device_len(packed, vr->size), 4, &why);
	return why;
}

/* Behind an IOMMU what can be said of addresses before they are known: they are
 * aligned and do not wrap. */
static const char *check_iova(const struct vu_ring *vr)
{
	struct vu_area a[VU_AREAS];
	uint64_t end;

	vu_areas_get(vr, a);
	for (unsigned int i = 0; i < VU_AREAS; i++) {
		if (a[i].addr.v % a[i].align)
			return "an area is not aligned";
		if (add_overflows(a[i].addr.v, a[i].len, &end))
			return "an area wraps";
	}
	return NULL;
}

/* Its addresses cannot be used: -EINVAL, logged. */
static int refuse_addr(const struct vu_ring *vr, const char *why)
{
	log_limited(LOG_LEVEL_WARNING,
		    "%s: %s (size %u, descriptors 0x%llx, driver 0x%llx, device 0x%llx)", vr->name,
		    why, vr->size, (unsigned long long)vr->addr.desc,
		    (unsigned long long)vr->addr.avail, (unsigned long long)vr->addr.used);
	return -EINVAL;
}

int vu_ring_check_addr(const struct vu_ring *vr)
{
	struct virtq_conf conf;
	const char *why;

	why = vr->dev->iotlb ? check_iova(vr) : vu_ring_conf(vr, &conf);
	return why ? refuse_addr(vr, why) : 0;
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

		if (best && near == best_near && loop_load(loop) >= loop_load(best))
			continue;
		if (best && best_near && !near)
			continue;
		best = loop;
		best_near = near;
	}
	return best;
}

void vu_ring_signal(struct vu_ring *vr, int fd, const char *what)
{
	struct vu_dev *dev = vr->dev;
	int ret;

	if (fd < 0 || read_once(&dev->blocked))
		return;
	ret = notify_write(fd);
	if (ret == -EINTR)
		write_once(&dev->blocked, true);
	if (ret < 0 && ret != -EAGAIN)
		log_limited(LOG_LEVEL_WARNING, "%s: cannot signal %s: %s", vr->name, what,
			    strerror(-ret));
}

/* A valid ring that we cannot serve: it breaks, the connection goes on. */
static int ring_fail(struct vu_ring *vr, const char *what, int err)
{
	vu_ring_set_state(vr, VU_RING_FAILED);
	log_limited(LOG_LEVEL_ERROR, "%s: %s: %s", vr->name, what, strerror(-err));
	vu_ring_signal(vr, vr->err_fd, "the error descriptor");
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

void vu_ring_post_stop(struct vu_ring *vr)
{
	vu_ring_tell_active(vr, true);
	vu_op_post(vr, LOOP_RING_STOP);
}

/* One ring less is set up. Its state is set next. */
static void ring_forget(struct vu_ring *vr)
{
	vu_iotlb_forget_miss(vr);
	virtq_fini(&vr->vq);
	vu_areas_forget(vr);
	vr->dev->nr_running--;
}

static void ring_release(struct vu_ring *vr)
{
	struct vu_dev *dev = vr->dev;

	if (dev->ops->vq_release)
		dev->ops->vq_release(dev, &vr->vq, vr->index);
	ring_forget(vr);
}

void vu_ring_give_up(struct vu_ring *vr, const char *what, int err)
{
	vr->base = virtq_base(&vr->vq);
	ring_forget(vr);
	ring_fail(vr, what, err);
	vu_ring_tell_active(vr, true);
}

void vu_ring_started(struct vu_ring *vr, int error)
{
	if (vr->state == VU_RING_MOVING) {
		if (error)
			return;
		vu_ring_set_state(vr, VU_RING_RUNNING);
		vu_iotlb_moved(vr);
		return;
	}
	if (error) {
		ring_release(vr);
		vu_ring_set_state(vr, VU_RING_FAILED);
		return;
	}
	log_debug("%s: started on loop%u, size %u", vr->name, loop_index(vr->vq.loop), vr->size);
	vu_ring_tell_active(vr, false);
	vu_backend_kick(vr->dev);
}

void vu_ring_stopped(struct vu_ring *vr)
{
	if (vr->state == VU_RING_MOVING)
		return;
	vr->base = virtq_base(&vr->vq);
	ring_release(vr);
	vu_ring_set_state(vr,
			  vr->state == VU_RING_SUSPENDING ? VU_RING_SUSPENDED : VU_RING_STOPPED);
	log_debug("%s: stopped at 0x%x", vr->name, vr->base);
	if (vr->dev->iotlb && vr->state == VU_RING_SUSPENDED)
		vu_iotlb_want_areas(vr);
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
	vu_ring_set_state(vr, VU_RING_STOPPED);
	vr->has_kick = false;
	fd_replace(&vr->kick_fd, -1);
	return err;
}

int vu_ring_setup_on(struct vu_ring *vr, struct loop *loop)
{
	struct vu_dev *dev = vr->dev;
	struct virtq *vq = &vr->vq;

	vq->loop = loop;
	vq->poll = dev->ops->vq_poll;
	vq->light = false;
	vq->out_only = false;
	return dev->ops->vq_setup ? dev->ops->vq_setup(dev, vq, vr->index) : 0;
}

static int ring_setup_tlb(struct vu_ring *vr, int node)
{
	struct vu_dev *dev = vr->dev;
	int ret = virtq_tlb_create(&vr->vq, dev->iotlb, dev->ev, vu_iotlb_ring_missed, node);

	for (unsigned int i = 0; !ret && i < VU_AREAS; i++)
		vr->vq.tlb->join[i] = vr->areas[i].join;
	return ret;
}

static int ring_setup(struct vu_ring *vr, const struct virtq_conf *conf)
{
	struct vu_dev *dev = vr->dev;
	struct loop *loop = vr->wanted ? vr->wanted : pick_loop(dev, conf->desc);
	struct virtq *vq = &vr->vq;
	int ret;

	vq->name = vr->name;
	ret = virtq_init(vq, conf, loop_node(loop));
	if (ret < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: size %u with base 0x%x: %s", vr->name,
			    conf->size, conf->base, strerror(-ret));
		return ret == -ENOMEM ? ring_fail(vr, "no memory", ret) : ret;
	}
	if (conf->iotlb)
		ret = ring_setup_tlb(vr, loop_node(loop));
	if (!ret)
		ret = vu_ring_setup_on(vr, loop);
	if (ret < 0) {
		virtq_fini(vq);
		return ring_fail(vr, "cannot be set up", ret);
	}
	return VU_DONE;
}

static int ring_activate(struct vu_ring *vr, const struct virtq_conf *conf)
{
	struct vu_dev *dev = vr->dev;
	int ret;

	if (!dev->activated) {
		ret = dev->ops->activate ? dev->ops->activate(dev) : 0;
		if (ret < 0)
			return ring_fail(vr, "the device cannot start", ret);
		dev->activated = true;
	}
	ret = ring_setup(vr, conf);
	if (ret != VU_DONE)
		rest_if_idle(dev);
	return ret;
}

/* Set the ring up and post its start; VU_DONE if that is under way. */
static int ring_begin(struct vu_ring *vr, const struct virtq_conf *conf)
{
	struct vu_dev *dev = vr->dev;
	int ret = ring_activate(vr, conf);

	if (ret != VU_DONE) {
		vu_areas_forget(vr);
		return ret;
	}
	vu_iotlb_forget_miss(vr);
	dev->nr_running++;
	vu_ring_set_state(vr, VU_RING_RUNNING);
	vu_op_post(vr, LOOP_RING_START);
	return VU_DONE;
}

static int ring_start(struct vu_ring *vr, const struct virtq_conf *conf)
{
	int ret;

	vr->dev->op.ring = vr;
	ret = ring_begin(vr, conf);
	return ret == VU_DONE ? vu_op_wait(vr->dev, start_answered) : ret;
}

/* Behind an IOMMU, before vu_ring_conf(): VU_DONE and the areas are placed;
 * VU_IDLE, and the front-end was asked where they lead; VU_FAILED. */
static int find_areas(struct vu_ring *vr)
{
	const char *why;
	int ret;

	if (!vr->dev->iotlb)
		return VU_DONE;
	if (vu_iotlb_want_areas(vr))
		return VU_IDLE;
	ret = vu_areas_place(vr, &why);
	return ret < 0 ? ring_fail(vr, why, ret) : VU_DONE;
}

int vu_ring_try_start(struct vu_ring *vr)
{
	struct virtq_conf conf;
	const char *why;
	int ret;

	if (vu_ring_is_on_loop(vr) || !vr->size || !vr->has_addr || !vr->has_kick)
		return VU_DONE;
	ret = find_areas(vr);
	if (ret == VU_IDLE)
		vu_ring_set_state(vr, VU_RING_SUSPENDED);
	if (ret != VU_DONE)
		return ret == VU_IDLE ? VU_DONE : ret;
	why = vu_ring_conf(vr, &conf);
	if (!why)
		return ring_start(vr, &conf);
	vu_areas_forget(vr);
	/* Its addresses were right once; vu_rings_resume() looks again. */
	return vr->state == VU_RING_SUSPENDED ? VU_DONE : refuse_addr(vr, why);
}

bool vu_ring_is_left(const struct vu_ring *vr)
{
	return vu_ring_is_on_loop(vr) && !vr->enabled;
}

void vu_ring_forget(struct vu_ring *vr)
{
	assert(!vu_ring_is_on_loop(vr));
	vu_ring_set_state(vr, VU_RING_STOPPED);
	vr->base = 0;
	vr->has_addr = false;
	vr->has_kick = false;
	fd_replace(&vr->kick_fd, -1);
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

void vu_ring_suspend(struct vu_ring *vr, const char *why)
{
	log_limited(LOG_LEVEL_INFO, "%s: suspended, %s", vr->name, why);
	vu_ring_set_state(vr, VU_RING_SUSPENDING);
	vu_ring_post_stop(vr);
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
		vu_ring_suspend(vr, "its memory is being removed");
	}
}

void vu_rings_resume(struct vu_dev *dev)
{
	struct virtq_conf conf;

	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (vr->state != VU_RING_SUSPENDED || !vr->has_kick)
			continue;
		if (find_areas(vr) != VU_DONE)
			continue;
		if (vu_ring_conf(vr, &conf)) {
			vu_areas_forget(vr);
			continue;
		}
		log_limited(LOG_LEVEL_INFO, "%s: resumed, its memory is there", vr->name);
		if (ring_begin(vr, &conf) < 0)
			vu_ring_set_state(vr, VU_RING_FAILED);
	}
}

void vu_rings_stop(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (vu_ring_is_on_loop(&dev->rings[i]))
			vu_ring_post_stop(&dev->rings[i]);
}

void vu_rings_reset(struct vu_dev *dev, bool keep_err)
{
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		assert(!vu_ring_is_on_loop(vr));
		vu_ring_set_state(vr, VU_RING_STOPPED);
		vu_iotlb_forget_miss(vr);
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
