/*
 * The control thread's event loop. Called by main() and by everything that
 * waits for a descriptor or a time; never runs on a poll thread, except for
 * ev_post().
 *
 * Theory of operation
 *
 * Descriptors are level-triggered in one epoll set. A round fetches a batch of
 * events; as a handler may delete any watch, and free what holds it,
 * ev_fd_del() also strikes the watch out of every batch that is being worked
 * through. Batches nest, because a handler may itself run a round.
 *
 * Timers are a list sorted by deadline; the control thread has few.
 *
 * Posted work is a stack that any thread pushes to with compare-and-swap and
 * that only the control thread empties, all at once, so an item cannot be
 * popped and pushed again under a pusher's eyes. Whoever finds the stack empty
 * writes to the eventfd; whoever does not can rely on that.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/evloop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"

#define BATCH_LEN 64
#define NS_PER_MS 1000000ull

struct batch {
	struct epoll_event events[BATCH_LEN]; /* data.ptr NULL: struck out */
	int next, cnt;
	struct batch *outer;
};

struct evloop {
	int epoll_fd;
	bool quit;
	struct batch *batch; /* the innermost being worked through */
	struct ev_timer *timers; /* by deadline */
	uint64_t round_ns; /* timers of this round are due up to here */
	unsigned int nr_run; /* handlers, in this round */
	struct ev_fd wake;
	/* Other threads push here; away from what the control thread writes. */
	_Alignas(CACHE_LINE) struct ev_work *posted;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void run_posted(struct ev_fd *w, uint32_t events)
{
	struct evloop *ev = container_of(w, struct evloop, wake);
	struct ev_work *stack, *work, *queue = NULL;
	uint64_t count;

	/* The count first: a push that comes after it writes again. */
	if (read(w->fd, &count, sizeof(count)) < 0)
		count = 0;
	/* Pairs with the release in ev_post(): the items' contents are there. */
	stack = __atomic_exchange_n(&ev->posted, NULL, __ATOMIC_ACQUIRE);
	while (stack) {
		work = stack;
		stack = work->next;
		work->next = queue;
		queue = work;
	}
	while (queue) {
		work = queue;
		queue = work->next;
		ev->nr_run++;
		work->run(work);
	}
}

void ev_post(struct evloop *ev, struct ev_work *w)
{
	struct ev_work *head = read_once(&ev->posted);
	const uint64_t one = 1;
	int saved_errno = errno;
	ssize_t written;

	do {
		write_once(&w->next, head);
		/* Release: *w is complete before run_posted() finds it. */
	} while (!__atomic_compare_exchange_n(&ev->posted, &head, w, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!head) {
		/* Can only fail with a full counter, which is a wake-up as well. */
		written = write(ev->wake.fd, &one, sizeof(one));
		(void)written;
	}
	errno = saved_errno;
}

struct evloop *evloop_create(void)
{
	struct evloop *ev;

	ev = aligned_alloc(CACHE_LINE, round_up(sizeof(*ev), CACHE_LINE));
	if (!ev)
		return NULL;
	*ev = (struct evloop){ .epoll_fd = -1, .wake = { .handle = run_posted, .fd = -1 } };
	ev->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ev->epoll_fd < 0)
		goto err_free;
	ev->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ev->wake.fd < 0)
		goto err_epoll;
	if (ev_fd_add(ev, &ev->wake, EPOLLIN) < 0)
		goto err_wake;
	return ev;

err_wake:
	close(ev->wake.fd);
err_epoll:
	close(ev->epoll_fd);
err_free:
	free(ev);
	return NULL;
}

void evloop_destroy(struct evloop *ev)
{
	if (!ev)
		return;
	assert(!ev->batch && !ev->timers && !read_once(&ev->posted));
	ev_fd_del(ev, &ev->wake);
	close(ev->wake.fd);
	close(ev->epoll_fd);
	free(ev);
}

int ev_fd_add(struct evloop *ev, struct ev_fd *w, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = w };

	assert(!w->watched && w->handle);
	if (epoll_ctl(ev->epoll_fd, EPOLL_CTL_ADD, w->fd, &event) < 0)
		return -errno;
	w->watched = true;
	return 0;
}

int ev_fd_modify(struct evloop *ev, struct ev_fd *w, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = w };

	assert(w->watched);
	return epoll_ctl(ev->epoll_fd, EPOLL_CTL_MOD, w->fd, &event) < 0 ? -errno : 0;
}

void ev_fd_del(struct evloop *ev, struct ev_fd *w)
{
	if (!w->watched)
		return;
	w->watched = false;
	epoll_ctl(ev->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	for (struct batch *b = ev->batch; b; b = b->outer) {
		for (int i = b->next; i < b->cnt; i++) {
			if (b->events[i].data.ptr == w)
				b->events[i].data.ptr = NULL;
		}
	}
}

void ev_timer_cancel(struct evloop *ev, struct ev_timer *t)
{
	struct ev_timer **p = &ev->timers;

	if (!t->armed)
		return;
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	t->armed = false;
}

void ev_timer_arm(struct evloop *ev, struct ev_timer *t, uint64_t delay_ns)
{
	struct ev_timer **p = &ev->timers;

	ev_timer_cancel(ev, t);
	if (add_overflows(now_ns(), delay_ns, &t->deadline_ns))
		t->deadline_ns = UINT64_MAX;
	/* One that arms itself anew without delay waits for the next round. */
	t->deadline_ns = max_u64(t->deadline_ns, ev->round_ns + 1);
	while (*p && (*p)->deadline_ns <= t->deadline_ns)
		p = &(*p)->next;
	t->next = *p;
	t->armed = true;
	*p = t;
}

/* The wait in ms for epoll: the caller's, cut short by the first timer. */
static int wait_ms(const struct evloop *ev, int timeout_ms)
{
	uint64_t now, left_ms;

	if (!ev->timers || timeout_ms == 0)
		return timeout_ms;
	now = now_ns();
	if (ev->timers->deadline_ns <= now)
		return 0;
	/* Rounded up, or the last part of a millisecond would be a busy loop. */
	left_ms = min_u64((ev->timers->deadline_ns - now - 1) / NS_PER_MS + 1, INT_MAX);
	return timeout_ms < 0 || left_ms < (uint64_t)timeout_ms ? (int)left_ms : timeout_ms;
}

static void run_timers(struct evloop *ev)
{
	struct ev_timer *t;

	ev->round_ns = now_ns();
	while (ev->timers && ev->timers->deadline_ns <= ev->round_ns) {
		t = ev->timers;
		ev->timers = t->next;
		t->armed = false;
		ev->nr_run++;
		t->expired(t);
	}
}

int evloop_run_once(struct evloop *ev, int timeout_ms)
{
	struct batch batch = { .outer = ev->batch };
	struct epoll_event *event;
	struct ev_fd *w;

	batch.cnt = epoll_wait(ev->epoll_fd, batch.events, BATCH_LEN, wait_ms(ev, timeout_ms));
	if (batch.cnt < 0) {
		if (errno != EINTR)
			return -errno;
		batch.cnt = 0;
	}

	ev->nr_run = 0;
	ev->batch = &batch;
	while (batch.next < batch.cnt) {
		event = &batch.events[batch.next++];
		w = event->data.ptr;
		if (!w)
			continue;
		if (w != &ev->wake)
			ev->nr_run++;
		w->handle(w, event->events);
	}
	ev->batch = batch.outer;
	run_timers(ev);
	return (int)ev->nr_run;
}

int evloop_run(struct evloop *ev)
{
	int res = 0;

	while (!ev->quit && res >= 0)
		res = evloop_run_once(ev, -1);
	ev->quit = false;
	return res < 0 ? res : 0;
}

void evloop_quit(struct evloop *ev)
{
	ev->quit = true;
}
