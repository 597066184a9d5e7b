/*
 * The operation in progress: ring ops posted to loops, counted, and what comes
 * after the last answer. Called by the request handlers and by the end of a
 * connection; never waits. Theory of operation: vu_internal.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/fd.h"
#include "vhost/vu_internal.h"

/* Rings use only the new things now. */
static void let_go_of_old(struct vu_op *op)
{
	gmem_destroy(op->old_gm);
	op->old_gm = NULL;
	dirty_log_destroy(op->old_log);
	op->old_log = NULL;
	fd_replace(&op->old_fd, -1);
}

static int finish(struct vu_dev *dev)
{
	int (*then)(struct vu_dev * dev) = dev->op.then;

	dev->op.then = NULL;
	let_go_of_old(&dev->op);
	return then(dev);
}

void vu_op_answered(struct vu_dev *dev, int error)
{
	int result;

	if (error && !dev->op.error)
		dev->op.error = error;
	assert(dev->op.outstanding && dev->op.then);
	if (--dev->op.outstanding)
		return;
	result = finish(dev);
	if (result != VU_PENDING)
		vu_conn_op_over(dev, result);
}

static void answered(struct loop_ring_op *rop)
{
	struct vu_ring *vr = container_of(rop, struct vu_ring, op);

	vr->stopping = false;
	if (rop->kind == LOOP_RING_START)
		vu_ring_started(vr, rop->error);
	else if (rop->kind == LOOP_RING_STOP)
		vu_ring_stopped(vr);
	vu_op_answered(vr->dev, rop->error);
}

static void post(struct vu_ring *vr)
{
	vr->dev->op.outstanding++;
	vr->stopping = vr->op.kind == LOOP_RING_STOP;
	loop_ring_post(vr->vq.loop, &vr->op);
}

void vu_op_post_drop(struct vu_ring *vr, iova_t addr, uint64_t len)
{
	vr->op = (struct loop_ring_op){
		.vq = &vr->vq,
		.kind = LOOP_RING_DROP,
		.drop = addr,
		.drop_len = len,
		.done = answered,
	};
	post(vr);
}

void vu_op_post(struct vu_ring *vr, int kind)
{
	struct loop_ring_op *rop = &vr->op;

	*rop = (struct loop_ring_op){ .vq = &vr->vq, .kind = kind, .done = answered };
	if (kind == LOOP_RING_SYNC) {
		const char *why = vu_ring_conf(vr, &rop->conf);

		/* Memory only changes by vu_rings_switch_memory(). */
		assert(!why);
		(void)why;
	}
	post(vr);
}

int vu_op_wait(struct vu_dev *dev, int (*then)(struct vu_dev *dev))
{
	assert(!dev->op.then);
	dev->op.then = then;
	return dev->op.outstanding ? VU_PENDING : finish(dev);
}
