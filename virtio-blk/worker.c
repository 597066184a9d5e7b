/*
 * One thread that runs jobs in order: ioctls on block devices (BLKDISCARD and
 * the like) and making guest memory present before it is registered with an
 * io_uring. Called by uring_io.c and uring_mem.c, never for reads and writes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t posted;
	/* Under lock. */
	struct worker_job *first, **last;
	bool ending;
};

static void *worker_main(void *opaque)
{
	struct worker *w = opaque;
	struct worker_job *job;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		job = w->first;
		if (!job && w->ending)
			break;
		if (!job) {
			pthread_cond_wait(&w->posted, &w->lock);
			continue;
		}
		w->first = job->next;
		if (!w->first)
			w->last = &w->first;
		pthread_mutex_unlock(&w->lock);
		job->run(job);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct worker *worker_create(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	sigset_t all, old;
	int ret;

	if (!w)
		return NULL;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->posted, NULL);
	/* Signals are the control thread's. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		pthread_cond_destroy(&w->posted);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return NULL;
	}
	pthread_setname_np(w->thread, "blk-worker");
	return w;
}

void worker_destroy(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_signal(&w->posted);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->posted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void worker_post(struct worker *w, struct worker_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&w->lock);
	*w->last = job;
	w->last = &job->next;
	pthread_cond_signal(&w->posted);
	pthread_mutex_unlock(&w->lock);
}
