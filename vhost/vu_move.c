/*
 * Moving running rings from one loop to another. Asked for by the device type
 * (vu_dev_place_ring()), done between requests (vu_conn_update()). Never tells
 * the front-end anything, and never leaves a ring without a loop while any takes
 * it.
 *
 * Theory of operation
 *
 * A move is an operation as in vu_internal.h that no request has asked for:
 *
 *   STOP on the old loop -> moved_off() -> START on the new one -> moved_on()
 *
 * The struct virtq stays as it is from one loop to the other, with its position
 * and its memory: only the device's part of the set-up is made anew. As far as
 * the device is concerned the ring is active all the time. If it cannot be set up
 * for the new loop it goes back to the old one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "vhost/virtq_tlb.h"
#include "vhost/vu_internal.h"

static int moved_on(struct vu_dev *dev);

/* Set it up for this loop and post its start. */
static int put_on(struct vu_ring *vr, struct loop *loop)
{
	int ret = vu_ring_setup_on(vr, loop);

	if (ret < 0)
		return ret;
	vu_op_post(vr, LOOP_RING_START);
	return 0;
}

static void release(struct vu_ring *vr)
{
	if (vr->dev->ops->vq_release)
		vr->dev->ops->vq_release(vr->dev, &vr->vq, vr->index);
}

/* It cannot be where it was wanted. */
static void put_back(struct vu_ring *vr, int err)
{
	log_limited(LOG_LEVEL_WARNING, "%s: cannot be moved to loop%u: %s", vr->name,
		    loop_index(vr->to), strerror(-err));
	/* Until it is asked for again. */
	vr->wanted = vr->from;
	err = put_on(vr, vr->from);
	if (err < 0)
		vu_ring_give_up(vr, "cannot be put back on its loop", err);
}

static int moved_off(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];
		int ret;

		if (vr->state != VU_RING_MOVING)
			continue;
		release(vr);
		ret = put_on(vr, vr->to);
		if (ret < 0)
			put_back(vr, ret);
	}
	return vu_op_wait(dev, moved_on);
}

/* All are where they were wanted, but those whose start failed. */
static int moved_on(struct vu_dev *dev)
{
	int err = dev->op.error;

	dev->op.error = 0;
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (vr->state != VU_RING_MOVING)
			continue;
		release(vr);
		if (vr->vq.loop == vr->from)
			vu_ring_give_up(vr, "cannot be put back on its loop", err);
		else
			put_back(vr, err);
	}
	return dev->op.outstanding ? vu_op_wait(dev, moved_on) : VU_IDLE;
}

void vu_rings_move(struct vu_dev *dev)
{
	if (vu_op_in_progress(dev))
		return;
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (vr->state != VU_RING_RUNNING || !vr->wanted || vr->wanted == vr->vq.loop)
			continue;
		/* It would be found by its old loop after a stop on the new one: the next
		 * request sees to it. */
		if (!vr->vq.poll && vr->vq.tlb && load_acquire(&vr->vq.tlb->retry_posted))
			continue;
		log_debug("%s: from loop%u to loop%u", vr->name, loop_index(vr->vq.loop),
			  loop_index(vr->wanted));
		if (!vr->vq.poll) {
			loop_ring_rehome(&vr->vq, vr->wanted);
			continue;
		}
		vr->from = vr->vq.loop;
		vr->to = vr->wanted;
		vu_ring_set_state(vr, VU_RING_MOVING);
		vu_op_post(vr, LOOP_RING_STOP);
	}
	if (dev->op.outstanding)
		vu_op_wait(dev, moved_off);
}

int vu_dev_place_ring(struct vu_dev *dev, unsigned int index, struct loop *loop)
{
	unsigned int i = 0;

	while (loop && i < dev->nr_loops && dev->loops[i] != loop)
		i++;
	if (index >= dev->queues || i == dev->nr_loops)
		return -EINVAL;
	dev->rings[index].wanted = loop;
	vu_conn_update(dev);
	return 0;
}
