/*
 * Interrupt moderation: the driver hears later of buffers that it only wants back.
 * Called by virtq_burst.c on the ring's loop, and by each turn. Keeps no
 * notification longer than the ring's moderate_ns while the loop turns or sleeps,
 * and none over the end of the ring or a change of its areas.
 *
 * Theory of operation
 *
 * Nobody in a guest waits for the very moment at which a sent frame is free again,
 * but each notification of it interrupts the guest, and where frames are large
 * that is one for every frame. So a driver that wants a notification gets it
 * moderate_ns later, and then one for all that was given back meanwhile. It goes
 * out sooner when what a driver might wait for comes near: a quarter of its ring;
 * LATE_ENTRIES, as a socket of Linux has no more than some 90 frames of Ethernet's
 * length on their way; or LATE_BYTES, of which the device may say that those of
 * some senders count for more.
 *
 * When the time is over, the driver's wish is read anew. One that looked into its
 * ring in the meantime, to send the next frame, has moved its event index, and is
 * not interrupted at all.
 *
 * A loop has a list of the rings of which something is kept, which is empty unless
 * drivers ask for notifications. Only then a turn reads the clock for them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/loop_internal.h"

#define LATE_ENTRIES 64u
#define LATE_BYTES (512u << 10)

static void unlist(struct loop *loop, const struct virtq *vq)
{
	struct virtq **at = &loop->late;

	while (*at != vq)
		at = &(*at)->late_next;
	*at = vq->late_next;
}

/* Off the list already. */
static void notify(struct virtq *vq)
{
	uint16_t nr = vq->late;

	vq->late = 0;
	vq->late_bytes = 0;
	if (!virtq_driver_wants(vq, nr))
		return;
	virtq_notify_driver(vq);
}

/* Until the time has come; false if nothing is to be kept. */
static bool keep(struct virtq *vq)
{
	uint32_t gap = read_once(&vq->moderate_ns);

	if (!vq->loop || !gap)
		return false;
	vq->late_ns = loop_now_ns() + gap;
	vq->late_next = vq->loop->late;
	vq->loop->late = vq;
	return true;
}

static bool is_much(const struct virtq *vq)
{
	return vq->late >= min_u64(vq->conf.size / 4, LATE_ENTRIES) || vq->late_bytes >= LATE_BYTES;
}

void loop_notify_late(struct virtq *vq, uint16_t nr, uint64_t bytes)
{
	if (!vq->late) {
		if (!virtq_driver_wants(vq, nr))
			return;
		if (!keep(vq)) {
			virtq_notify_driver(vq);
			return;
		}
	}
	/* Every index was passed if the ring went round. */
	vq->late = (uint16_t)min_u64((uint64_t)vq->late + nr, vq->conf.size);
	vq->late_bytes += bytes;
	if (is_much(vq))
		loop_late_end(vq);
}

void loop_late_end(struct virtq *vq)
{
	if (!vq->late)
		return;
	unlist(vq->loop, vq);
	notify(vq);
}

void loop_late_due(struct loop *loop)
{
	uint64_t now = loop_now_ns();
	struct virtq **at = &loop->late;

	while (*at) {
		struct virtq *vq = *at;

		if (now < vq->late_ns) {
			at = &vq->late_next;
			continue;
		}
		*at = vq->late_next;
		notify(vq);
	}
}

uint64_t loop_late_ns(const struct loop *loop)
{
	uint64_t ns = UINT64_MAX;

	for (const struct virtq *vq = loop->late; vq; vq = vq->late_next)
		ns = min_u64(ns, vq->late_ns);
	return ns;
}
