/*
 * The control thread's event loop: file descriptors, timers, signals, and work
 * posted by other threads. It may sleep, map and parse; no data path runs here.
 *
 * All functions are for the control thread unless they say otherwise.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_EVLOOP_H
#define RINGBOLT_CORE_EVLOOP_H

#include <stdbool.h>
#include <stdint.h>

struct evloop;

/*
 * A watched descriptor, embedded in its owner. The owner keeps the fd and
 * closes it after ev_fd_del(). Events are EPOLLIN, EPOLLOUT; EPOLLHUP and
 * EPOLLERR always come.
 */
struct ev_fd {
	void (*handle)(struct ev_fd *w, uint32_t events);
	int fd;
	bool watched;
};

/* A one-shot timer, embedded in its owner. */
struct ev_timer {
	void (*expired)(struct ev_timer *t);
	struct ev_timer *next;
	uint64_t deadline_ns;
	bool armed;
};

/*
 * Work that another thread hands to the control thread. Owned by the poster
 * until run() is called, by run() from then on. One item may be posted once at
 * a time.
 */
struct ev_work {
	void (*run)(struct ev_work *w);
	struct ev_work *next;
};

/* NULL if out of memory or descriptors. */
struct evloop *evloop_create(void);
/* Nothing may be watched, armed or posted any more. Accepts NULL. */
void evloop_destroy(struct evloop *ev);

/* Runs until evloop_quit(). 0, or -errno if waiting itself fails. */
int evloop_run(struct evloop *ev);
void evloop_quit(struct evloop *ev);
/*
 * One round: wait up to timeout_ms (-1: for ever, 0: not at all), then run what
 * is due. The number of handlers run, or -errno.
 */
int evloop_run_once(struct evloop *ev, int timeout_ms);

/* 0 or -errno. w->fd and w->handle must be set. The handler of a descriptor
 * may delete any watched descriptor, itself included. */
int ev_fd_add(struct evloop *ev, struct ev_fd *w, uint32_t events);
int ev_fd_modify(struct evloop *ev, struct ev_fd *w, uint32_t events);
/* Does nothing if not watched. */
void ev_fd_del(struct evloop *ev, struct ev_fd *w);

/* Arm, or arm anew, to expire once after delay_ns. */
void ev_timer_arm(struct evloop *ev, struct ev_timer *t, uint64_t delay_ns);
void ev_timer_cancel(struct evloop *ev, struct ev_timer *t);

/* Any thread, and a signal handler too: lock-free, one eventfd write. */
void ev_post(struct evloop *ev, struct ev_work *w);

#endif
