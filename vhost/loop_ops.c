/*
 * Operations on rings: start, sync, drop, stop, posted by vu_*.c on the control
 * thread, carried out by the ring's loop between two turns, and answered through
 * the control thread's event loop. Never waits: what has chains in flight is
 * looked at again after every turn.
 *
 * A ring without a poll() is on its loop for these operations only: others fill
 * it, its driver is never asked to notify, and it does not keep the loop awake.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sys/epoll.h>

#include "vhost/loop_internal.h"
#include "vhost/virtq_burst.h"
#include "vhost/virtq_tlb.h"

static void answer(struct loop *loop, struct loop_ring_op *op)
{
	ev_post(loop->ev, &op->answer);
}

static int ring_attach(struct loop *loop, struct virtq *vq)
{
	int ret;

	if (vq->poll) {
		ret = loop_watch(loop, vq->conf.kick_fd, EPOLLIN | EPOLLET, vq);
		if (ret < 0)
			return ret;
		ret = loop_list_ring(loop, vq);
		if (ret < 0) {
			loop_unwatch(loop, vq->conf.kick_fd);
			return ret;
		}
	}
	virtq_set_state(vq, VIRTQ_STARTED);
	/* A previous back-end may have left notifications off, and died between
	 * publishing a buffer and notifying the driver, which would wait for ever.
	 * One notification too many is harmless. */
	if (vq->poll)
		virtq_notify_enable(vq);
	else
		virtq_notify_disable(vq);
	virtq_notify_driver(vq);
	return 0;
}

static void ring_detach(struct loop *loop, struct virtq *vq)
{
	if (vq->poll) {
		loop_unwatch(loop, vq->conf.kick_fd);
		loop_unlist_ring(loop, vq);
	}
	/* Posted work may have ended the last chain after the turn's flush. The ring
	 * has been flushed, and may be gone before the next one. */
	loop_flush_forget(loop, vq);
	loop_late_end(vq);
	virtq_set_state(vq, VIRTQ_STOPPED);
}

/* Take over what the control thread decided. What was popped or pushed before
 * is published under the old configuration. */
static void ring_sync(struct loop *loop, struct loop_ring_op *op)
{
	struct virtq *vq = op->vq;
	const struct virtq_conf *conf = &op->conf;
	bool moved = conf->gm != vq->conf.gm, new_call = conf->call_fd != vq->conf.call_fd;

	virtq_flush(vq);
	loop_late_end(vq);
	if (conf->kick_fd != vq->conf.kick_fd) {
		if (vq->poll)
			loop_unwatch(loop, vq->conf.kick_fd);
		vq->conf.kick_fd = conf->kick_fd;
		if (vq->poll && loop_watch(loop, vq->conf.kick_fd, EPOLLIN | EPOLLET, vq) < 0)
			virtq_break(vq, "its kick descriptor cannot be watched");
	}
	vq->conf.desc = conf->desc;
	vq->conf.driver = conf->driver;
	vq->conf.device = conf->device;
	vq->conf.call_fd = conf->call_fd;
	vq->conf.err_fd = conf->err_fd;
	vq->conf.log = conf->log;
	vq->conf.features = conf->features;
	vq->conf.enabled = conf->enabled;
	vq->conf.gm = conf->gm;
	vq->avail_seen = vq->avail_idx;
	/* QEMU changes it while the guest masks an interrupt, and does not wait: what
	 * the old one was told since may have been told to nobody. */
	if (new_call)
		virtq_notify_driver(vq);
	if (moved && vq->tlb)
		virtq_tlb_drop(vq, iova(0), UINT64_MAX);
	if (moved) {
		op->epoch = vq->epoch;
		vq->epoch ^= 1;
		assert(!vq->inflight[vq->epoch]);
	} else {
		op->epoch = vq->epoch ^ 1;
	}
}

static bool op_is_done(const struct loop_ring_op *op)
{
	if (op->kind == LOOP_RING_SYNC)
		return !op->vq->inflight[op->epoch];
	if (op->kind == LOOP_RING_DROP)
		return !virtq_tlb_in_use(op->vq, op->drop, op->drop_len);
	return !virtq_inflight(op->vq) && !virtq_again_is_due(op->vq);
}

/* True if it is over and can be answered: the ring may be gone then. */
static bool op_finish(struct loop *loop, struct loop_ring_op *op)
{
	if (!op_is_done(op))
		return false;
	virtq_flush(op->vq);
	if (op->kind == LOOP_RING_STOP)
		ring_detach(loop, op->vq);
	return true;
}

static bool op_begin(struct loop *loop, struct loop_ring_op *op)
{
	switch (op->kind) {
	case LOOP_RING_START:
		op->error = ring_attach(loop, op->vq);
		return true;
	case LOOP_RING_SYNC:
		ring_sync(loop, op);
		if (!op->vq->poll)
			virtq_burst_ahead(op->vq);
		break;
	case LOOP_RING_DROP:
		virtq_tlb_drop(op->vq, op->drop, op->drop_len);
		break;
	case LOOP_RING_STOP:
		virtq_set_state(op->vq, VIRTQ_DRAINING);
		break;
	}
	return op_finish(loop, op);
}

static void op_run(struct loop_work *w)
{
	struct loop_ring_op *op = container_of(w, struct loop_ring_op, work);
	struct loop *loop = op->loop;
	bool over;

	virtq_lock(op->vq);
	over = op_begin(loop, op);
	virtq_unlock(op->vq);
	if (over) {
		answer(loop, op);
		return;
	}
	op->next = loop->waiting;
	loop->waiting = op;
}

void loop_check_waiting(struct loop *loop)
{
	struct loop_ring_op **at = &loop->waiting;

	while (*at) {
		struct loop_ring_op *op = *at;
		bool over;

		virtq_lock(op->vq);
		over = op_finish(loop, op);
		virtq_unlock(op->vq);
		if (!over) {
			at = &op->next;
			continue;
		}
		*at = op->next;
		answer(loop, op);
	}
}

static void placed(struct loop *loop, const struct virtq *vq)
{
	loop->nr_placed++;
	loop->load += vq->poll && !vq->light;
}

static void unplaced(struct loop *loop, const struct virtq *vq)
{
	loop->nr_placed--;
	loop->load -= vq->poll && !vq->light;
}

static void op_answered(struct ev_work *w)
{
	struct loop_ring_op *op = container_of(w, struct loop_ring_op, answer);

	if (op->kind == LOOP_RING_STOP || (op->kind == LOOP_RING_START && op->error))
		unplaced(op->loop, op->vq);
	op->done(op);
}

void loop_ring_post(struct loop *loop, struct loop_ring_op *op)
{
	op->loop = loop;
	op->error = 0;
	op->answer.run = op_answered;
	op->work.run = op_run;
	if (op->kind == LOOP_RING_START) {
		/* Later the loop's own: it reads it with each completion. */
		op->vq->loop = loop;
		placed(loop, op->vq);
	}
	loop_post(loop, &op->work);
}

void loop_ring_rehome(struct virtq *vq, struct loop *to)
{
	assert(!vq->poll);
	unplaced(vq->loop, vq);
	placed(to, vq);
	vq->loop = to;
}
