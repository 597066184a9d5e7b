/*
 * A thread for what would block a loop and that the kernel has no asynchronous
 * call for. Private to virtio-blk.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_WORKER_H
#define RINGBOLT_VIRTIO_BLK_WORKER_H

struct worker;

/* One piece of work, embedded in its owner; the worker's until run() is called,
 * on the worker's thread. */
struct worker_job {
	void (*run)(struct worker_job *job);
	struct worker_job *next;
};

/* NULL if there is no memory or no thread to be had. Control thread. */
struct worker *worker_create(void);
/* Runs what is left, then ends the thread. Accepts NULL. Control thread. */
void worker_destroy(struct worker *w);
/* In order. Any thread; takes a lock that is held for a few instructions. */
void worker_post(struct worker *w, struct worker_job *job);

#endif
