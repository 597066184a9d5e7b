/*
 * Chains that outlive this process: which ones a ring's device holds is written to
 * memory that the front-end keeps, so that the back-end that comes after one that
 * was killed carries out just those. vhost-user, "Inflight I/O tracking".
 *
 * Theory of operation
 *
 * Each ring has a region in that memory, in the layout of the specification. It is
 * written only: everything that is needed again is kept in struct virtq_track, as
 * what is in shared memory may be anything later. A chain is marked when it is
 * popped, after all else of it is known, and unmarked after the publication that
 * gives it back. Between the two stores of that step a process may be killed: the
 * region then tells the position before it and the one after it, and the ring
 * itself which of them is true.
 *
 * A ring that starts reads its region once (virtq_track_create()). The chains that
 * are marked are popped again first, in their order; the ring's position follows
 * from them and not from what the front-end says. A region that contradicts itself
 * or the ring breaks the ring.
 *
 * Stores need be in order for who reads them after our death only, and a killed
 * process has done all or none of what is behind any instruction: the compiler is
 * all that must keep the order.
 *
 * The ring's loop, but for create and destroy: control thread, ring stopped.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_TRACK_H
#define RINGBOLT_VHOST_VIRTQ_TRACK_H

#include "vhost/virtq.h"

/* Bytes of one ring's region with room for a ring of size entries: a multiple of 64,
 * as regions lie behind each other. */
uint64_t virtq_track_len(bool packed, uint32_t size);

/*
 * Begin to track into vq->conf.inflight, at the end of virtq_init(). A region that
 * is new (all zero) is made ready. vq->broken if it makes no sense. -ENOMEM.
 */
int virtq_track_create(struct virtq *vq, int node);
/* Accepts a ring that is not tracked. */
void virtq_track_destroy(struct virtq *vq);

/* A descriptor of the chain that is being walked, its nr-th from 0 (packed). */
void virtq_track_desc(struct virtq *vq, uint16_t nr, const struct pvirtq_desc *d);
/* There is room for a chain of so many; else the driver has more in flight than its
 * ring holds. */
bool virtq_track_has_room(const struct virtq *vq, uint16_t nr_desc);
/* The chain that was walked last is the device's. */
void virtq_track_take(struct virtq *vq, uint16_t id, uint16_t nr_desc);
/* It was not popped after all: the last one that was taken and not given back. False:
 * it is one that is popped again, and will be once more; the ring's position is not
 * behind it. */
bool virtq_track_untake(struct virtq *vq, uint16_t id);
/* It is given back with the next publication. False: the driver has made chains
 * available twice. */
bool virtq_track_give(struct virtq *vq, uint16_t id);
/* Before and after the one store that publishes what was given. */
void virtq_track_publish(struct virtq *vq);
void virtq_track_published(struct virtq *vq);

#endif
