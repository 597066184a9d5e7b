/*
 * A loop, as its files see it. loop.c: turns and life; loop_ops.c: operations on
 * rings; loop_rest.c: the way to rest; loop_late.c: notifications that may wait;
 * loop_alone.c: whether it has its CPU to itself. Private to loop*.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_LOOP_INTERNAL_H
#define RINGBOLT_VHOST_LOOP_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "core/base.h"
#include "vhost/loop.h"

#define LOOP_TICK 32 /* turns between two looks at the clock; a power of two */
#define LOOP_SPIN_MIN_NS 2000
#define LOOP_SPIN_MAX_NS 50000
#define LOOP_SPIN_PENDING_MAX_NS 10000
#define LOOP_SPIN_ALONE_NS 500000 /* on a CPU that nobody else uses */

/* A loop and its CPU at one moment, in nanoseconds since some other. */
struct loop_look {
	uint64_t now_ns;
	uint64_t own_ns; /* that the thread has run */
	uint64_t idle_ns; /* that nobody has */
};

struct loop {
	/* The loop thread's. */
	/* Rings that are polled: nr_hot of them in every turn, the others less
	 * often while there is work (loop.c). A ring knows its place. */
	struct virtq **rings;
	unsigned int nr_rings, max_rings;
	unsigned int nr_hot;
	unsigned int next_cold; /* where to go on */
	bool sources_busy; /* had work in the last turn */
	struct loop_source *sources;
	struct virtq *flush_list;
	struct virtq *late; /* rings whose driver is to hear of something later */
	struct loop_ring_op *waiting; /* ops whose chains in flight have not ended */
	unsigned int turn_nr, tick_busy; /* turns since the last tick, with work */
	uint64_t tick_ns; /* time of the last tick */
	uint64_t work_ns; /* time of the last work seen */
	unsigned int tick_turns; /* of the last tick, for samples */
	uint64_t idle_turn_ns; /* what a turn without work takes */
	/* How long to spin, and at most: for drivers, for requests outside. */
	struct spin {
		uint64_t ns, max_ns;
	} spin_driver, spin_pending;
	unsigned int short_sleeps; /* since it asked whether it is alone */
	bool quit;
	int epoll_fd;

	/* Constant. */
	struct evloop *ev;
	enum loop_mode mode;
	int cpu, node;
	bool manual;
	unsigned int index;
	pthread_t thread;
	struct loop_work quit_work;

	/* The control thread's. */
	unsigned int nr_placed, load;
	struct loop_sample sample;
	struct ev_timer alone_timer;
	struct ev_fd alone_ask; /* the loop writes to it; -1: it is not looked at */
	struct loop_look look; /* the last one, if has_look */
	bool has_look;
	uint64_t looked_turns;

	/* Any thread's. */
	_Alignas(CACHE_LINE) struct loop_work *inbox; /* newest first */
	int wake_fd;
	bool alone; /* has its CPU to itself; the control thread's to write */
	bool looked_at; /* whether it is alone; set by the loop, which then asks */
	_Alignas(CACHE_LINE) struct loop_stats stats;
};

static inline uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- loop.c -------------------------------------------------------------------- */

/* 0 or -errno; an fd < 0 is nothing to watch. tag comes with the event. */
int loop_watch(struct loop *loop, int fd, uint32_t events, void *tag);
void loop_unwatch(struct loop *loop, int fd);
/* Flush the rings that were pushed to by sources. */
void loop_flush_rings(struct loop *loop);
/* The ring is no longer one of them. */
void loop_flush_forget(struct loop *loop, struct virtq *vq);

/* Polled from now on, in every turn. -ENOMEM. */
int loop_list_ring(struct loop *loop, struct virtq *vq);
void loop_unlist_ring(struct loop *loop, struct virtq *vq);

/* --- loop_ops.c ----------------------------------------------------------------- */

/* Operations that wait for chains in flight: is one over? */
void loop_check_waiting(struct loop *loop);

/* --- loop_alone.c ---------------------------------------------------------------- */

/* Look whether loop->alone when the loop asks, and go on until it rests; for a loop
 * that is pinned and has a thread. Before that runs, and after. Control thread. */
void loop_alone_begin(struct loop *loop);
void loop_alone_end(struct loop *loop);
/* It slept for so long: ask if it matters. The loop. */
void loop_alone_slept(struct loop *loop, uint64_t ns);
/* Next to nobody else ran on the loop's CPU between the two looks. */
bool loop_was_alone(const struct loop_look *from, const struct loop_look *to);

/* --- loop_late.c ---------------------------------------------------------------- */

/* Notify the drivers whose time has come. */
void loop_late_due(struct loop *loop);
/* When the first time comes, by loop_now_ns(); UINT64_MAX: nothing is kept. */
uint64_t loop_late_ns(const struct loop *loop);
/* Notify the ring's driver now of what is kept, if anything is. */
void loop_late_end(struct virtq *vq);

/* --- loop_rest.c ---------------------------------------------------------------- */

/* Account for the turns since the last tick. */
void loop_tick(struct loop *loop);
/* After a turn without work. */
void loop_rest(struct loop *loop);

#endif
