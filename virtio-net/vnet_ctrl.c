/*
 * The control queue's way: from its ring to the control thread and back. The
 * loop of the ring calls vnet_ctrl_poll(); what a command means is in vnet_cmd.c.
 * Never interprets a command, never lets two be carried out at a time, and never
 * keeps a pointer into guest memory but the one for the answer.
 *
 * Theory of operation
 *
 *   loop: pop, copy --ev_post--> control thread: carry out, wait until no loop
 *   uses what was before --loop_post--> loop: write ack, push, flush
 *
 * The chain is in flight meanwhile, so its memory stays, and stopping the ring
 * waits for the answer. The wait before the answer is what the specification
 * asks for: once a driver sees MQ_VQ_PAIRS_SET or GUEST_OFFLOADS_SET in the used
 * ring, no frame comes to a queue that it gave up, or with an offload that it
 * turned off.
 *
 * VIRTIO 1.3, "Control Virtqueue": class, command, data, then the ack byte, which
 * is the first that the device may write; "Message Framing": in any buffers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/sw_internal.h"
#include "virtio-net/vnet_internal.h"

/*
 * idle:    the loop's; it may pop a chain.
 * running: from ev_post() to the run of the answer on the loop: the control
 *          thread's.
 */
struct vnet_ctrl {
	struct vnet *vn;
	struct virtq *vq;
	bool running; /* the loop's */
	uint16_t id;
	uint8_t *ack; /* NULL: there is no room for one */
	uint8_t status;
	struct ev_work work;
	struct loop_work answer;
	uint64_t commands, errors; /* the loop's; read with counter_read() */
	size_t len; /* of the command, in cmd */
	uint8_t cmd[VNET_CMD_MAX];
};

/* --- the answer: loop ------------------------------------------------------------- */

static void finish(struct vnet_ctrl *ctrl, uint8_t status)
{
	counter_add(&ctrl->commands, 1);
	if (status != VIRTIO_NET_OK)
		counter_add(&ctrl->errors, 1);
	if (ctrl->ack) {
		*ctrl->ack = status;
		virtq_log_write(ctrl->vq, ctrl->ack, 1);
	}
	virtq_push(ctrl->vq, ctrl->id, ctrl->ack ? 1 : 0);
}

static void answer(struct loop_work *w)
{
	struct vnet_ctrl *ctrl = container_of(w, struct vnet_ctrl, answer);

	finish(ctrl, ctrl->status);
	ctrl->running = false;
	loop_flush_later(ctrl->vq);
}

/* --- carrying out: control thread ---------------------------------------------------- */

static void settled(void *opaque)
{
	struct vnet_ctrl *ctrl = opaque;

	loop_post(ctrl->vq->loop, &ctrl->answer);
}

static void run(struct ev_work *w)
{
	struct vnet_ctrl *ctrl = container_of(w, struct vnet_ctrl, work);
	/* First: what has been done cannot be refused any more. */
	struct sw_grace *grace = grace_alloc(ctrl->vn->sw);

	ctrl->status = VIRTIO_NET_ERR;
	if (grace)
		ctrl->status = vnet_cmd_run(ctrl->vn, ctrl->cmd, ctrl->len);
	if (grace)
		grace_start(grace, settled, ctrl);
	else
		settled(ctrl);
}

/* --- taking a command: loop ------------------------------------------------------------ */

static uint8_t *first_writable(const struct virtq_chain *c)
{
	for (unsigned int i = c->out_cnt; i < c->out_cnt + (unsigned int)c->in_cnt; i++)
		if (c->iov[i].iov_len)
			return c->iov[i].iov_base;
	return NULL;
}

/* The only read of the command: what is checked later is the copy. */
static void copy_command(struct vnet_ctrl *ctrl, const struct virtq_chain *c)
{
	ctrl->len = 0;
	for (unsigned int i = 0; i < c->out_cnt; i++) {
		memcpy(ctrl->cmd + ctrl->len, c->iov[i].iov_base, c->iov[i].iov_len);
		ctrl->len += c->iov[i].iov_len;
	}
}

unsigned int vnet_ctrl_poll(struct virtq *vq)
{
	struct vnet_queue *q = vq->priv;
	struct vnet_ctrl *ctrl = q->vn->ctrl;
	struct virtq_chain c;

	if (ctrl->running || !virtq_pop(vq, &c))
		return 0;
	ctrl->id = c.id;
	ctrl->ack = first_writable(&c);
	if (c.error || c.out_len > VNET_CMD_MAX || !ctrl->ack) {
		finish(ctrl, VIRTIO_NET_ERR);
		virtq_flush(vq);
		return 1;
	}
	copy_command(ctrl, &c);
	ctrl->running = true;
	ev_post(q->vn->ev, &ctrl->work);
	return 1;
}

/* --- life: control thread ---------------------------------------------------------------- */

/* No driver has used it yet: packed rings begin with both wrap counters at 1. */
static bool is_at_start(const struct virtq *vq)
{
	return virtq_base(vq) == (vq->packed ? 0x80008000u : 0);
}

int vnet_ctrl_setup(struct vnet_queue *q)
{
	struct vnet *vn = q->vn;
	struct vnet_ctrl *ctrl = calloc(1, sizeof(*ctrl));
	bool was_lost = !vn->ctrl_seen;

	if (!ctrl)
		return -ENOMEM;
	ctrl->vn = vn;
	ctrl->vq = q->vq;
	ctrl->work.run = run;
	ctrl->answer.run = answer;
	q->vq->poll = vnet_ctrl_poll;
	q->vq->light = true;
	vn->ctrl = ctrl;
	vn->ctrl_seen = true;
	/* Else it goes on after a pause, or on another loop. */
	if (is_at_start(q->vq))
		vnet_driver_replaced(vn);
	else if (was_lost)
		vnet_driver_resumed(vn);
	return 0;
}

void vnet_ctrl_release(struct vnet_queue *q)
{
	struct vnet *vn = q->vn;

	vn->ctrl_counts.commands += vn->ctrl->commands;
	vn->ctrl_counts.errors += vn->ctrl->errors;
	free(vn->ctrl);
	vn->ctrl = NULL;
}

struct vnet_ctrl_counts vnet_ctrl_counts(const struct vnet *vn)
{
	struct vnet_ctrl_counts c = vn->ctrl_counts;

	if (vn->ctrl) {
		c.commands += counter_read(&vn->ctrl->commands);
		c.errors += counter_read(&vn->ctrl->errors);
	}
	return c;
}
