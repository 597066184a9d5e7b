/*
 * The control thread's event loop: watches that delete each other, timers,
 * work from other threads. Built with -Db_sanitize=thread this is also the
 * proof that ev_post() needs no lock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/base.h"
#include "core/evloop.h"

#define NS_PER_MS 1000000ull

struct watch {
	struct ev_fd w;
	struct evloop *ev;
	unsigned int nr_calls;
	struct watch *victim; /* delete, and free, in the handler */
};

static struct evloop *ev;
static struct watch *survivor; /* whose handler ran last */

static int setup(void **state)
{
	ev = evloop_create();
	return ev ? 0 : -1;
}

static int teardown(void **state)
{
	evloop_destroy(ev);
	return 0;
}

static void destroy_watch(struct watch *x)
{
	ev_fd_del(ev, &x->w);
	close(x->w.fd);
	free(x);
}

static void count(struct ev_fd *w, uint32_t events)
{
	struct watch *x = container_of(w, struct watch, w);
	struct watch *victim = x->victim;

	x->nr_calls++;
	x->victim = NULL;
	survivor = x;
	if (victim)
		destroy_watch(victim);
}

/* A watch on a descriptor that is readable from the start. */
static struct watch *ready_watch(void)
{
	struct watch *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->w.handle = count;
	x->w.fd = eventfd(1, EFD_NONBLOCK);
	assert_true(x->w.fd >= 0);
	assert_int_equal(ev_fd_add(ev, &x->w, EPOLLIN), 0);
	return x;
}

static void a_ready_descriptor_is_handled(void **state)
{
	struct watch *x = ready_watch();

	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(x->nr_calls, 1);
	assert_int_equal(ev_fd_modify(ev, &x->w, 0), 0);
	assert_int_equal(evloop_run_once(ev, 0), 0);
	assert_int_equal(ev_fd_modify(ev, &x->w, EPOLLOUT), 0);
	assert_int_equal(evloop_run_once(ev, 0), 1);
	destroy_watch(x);
	assert_int_equal(evloop_run_once(ev, 0), 0);
}

static void a_handler_may_delete_and_free_any_other_watch(void **state)
{
	struct watch *a = ready_watch(), *b = ready_watch();

	/* Whichever comes first takes the other away. */
	a->victim = b;
	b->victim = a;
	survivor = NULL;
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_non_null(survivor);
	assert_int_equal(evloop_run_once(ev, 0), 1);
	assert_int_equal(survivor->nr_calls, 2);
	destroy_watch(survivor);
}

static void a_handler_may_delete_and_free_itself(void **state)
{
	struct watch *x = ready_watch();

	x->victim = x;
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(evloop_run_once(ev, 0), 0);
}

static void run_nested(struct ev_fd *w, uint32_t events)
{
	struct watch *x = container_of(w, struct watch, w);

	x->nr_calls++;
	ev_fd_del(ev, w);
	evloop_run_once(ev, 0);
}

static void a_handler_may_run_a_round_itself(void **state)
{
	struct watch *x = ready_watch(), *a = ready_watch(), *b = ready_watch();

	x->w.handle = run_nested;
	a->victim = b; /* in the inner round, while the outer one knows b */
	evloop_run_once(ev, -1);
	evloop_run_once(ev, 0);
	assert_int_equal(x->nr_calls, 1);
	assert_true(a->nr_calls >= 1);
	destroy_watch(a);
	destroy_watch(x);
}

static void a_descriptor_epoll_cannot_watch_is_an_error(void **state)
{
	struct ev_fd w = { .handle = count, .fd = -1 };

	assert_int_equal(ev_fd_add(ev, &w, EPOLLIN), -EBADF);
	assert_false(w.watched);
	ev_fd_del(ev, &w);
}

struct timer {
	struct ev_timer t;
	unsigned int nr_calls;
	unsigned int order;
	struct timer *cancel;
	bool again;
};

static unsigned int nr_expired;

static void expired(struct ev_timer *t)
{
	struct timer *x = container_of(t, struct timer, t);

	x->nr_calls++;
	x->order = ++nr_expired;
	if (x->cancel)
		ev_timer_cancel(ev, &x->cancel->t);
	if (x->again)
		ev_timer_arm(ev, t, 0);
}

static void timers_expire_once_in_the_order_of_their_deadlines(void **state)
{
	struct timer late = { .t.expired = expired }, early = { .t.expired = expired };

	nr_expired = 0;
	ev_timer_arm(ev, &late.t, 2 * NS_PER_MS);
	ev_timer_arm(ev, &early.t, 1 * NS_PER_MS);
	while (nr_expired < 2)
		assert_true(evloop_run_once(ev, -1) >= 0);
	assert_int_equal(early.order, 1);
	assert_int_equal(late.order, 2);
	assert_false(early.t.armed);
}

static void a_timer_armed_anew_has_the_new_deadline_only(void **state)
{
	struct timer t = { .t.expired = expired };

	ev_timer_arm(ev, &t.t, 3600ull * 1000 * NS_PER_MS);
	ev_timer_arm(ev, &t.t, 0);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(t.nr_calls, 1);
	assert_int_equal(evloop_run_once(ev, 0), 0);
}

static void a_timer_may_cancel_another_that_is_due(void **state)
{
	struct timer b = { .t.expired = expired };
	struct timer a = { .t.expired = expired, .cancel = &b };

	ev_timer_arm(ev, &a.t, 0);
	ev_timer_arm(ev, &b.t, 0);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(b.nr_calls, 0);
	ev_timer_cancel(ev, &b.t);
}

static void a_timer_that_arms_itself_does_not_starve_the_loop(void **state)
{
	struct timer t = { .t.expired = expired, .again = true };

	ev_timer_arm(ev, &t.t, 0);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	ev_timer_cancel(ev, &t.t);
}

static void a_far_deadline_does_not_overflow(void **state)
{
	struct timer t = { .t.expired = expired };

	ev_timer_arm(ev, &t.t, UINT64_MAX);
	assert_int_equal(evloop_run_once(ev, 0), 0);
	ev_timer_cancel(ev, &t.t);
}

struct item {
	struct ev_work w;
	unsigned int value;
	unsigned int *next_value; /* asserts the order of one poster */
	bool post_again;
};

static unsigned int nr_run;

static void run_item(struct ev_work *w)
{
	struct item *x = container_of(w, struct item, w);
	bool again = x->post_again;

	nr_run++;
	if (x->next_value)
		assert_int_equal(x->value, (*x->next_value)++);
	if (again) {
		x->post_again = false;
		ev_post(ev, w);
		return;
	}
	free(x);
}

static struct item *new_item(void)
{
	struct item *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->w.run = run_item;
	return x;
}

static void work_may_post_itself_again(void **state)
{
	struct item *x = new_item();

	nr_run = 0;
	x->post_again = true;
	ev_post(ev, &x->w);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(nr_run, 2);
}

#define POSTERS 4
#define ITEMS 5000

struct poster {
	pthread_t thread;
	unsigned int next_value;
};

static void *post_many(void *arg)
{
	struct poster *p = arg;
	struct item *x;

	for (unsigned int i = 0; i < ITEMS; i++) {
		x = calloc(1, sizeof(*x));
		if (!x)
			abort();
		x->w.run = run_item;
		x->value = i;
		x->next_value = &p->next_value;
		ev_post(ev, &x->w);
	}
	return NULL;
}

static void nothing_that_threads_post_is_lost_or_reordered(void **state)
{
	struct poster posters[POSTERS] = { 0 };

	nr_run = 0;
	for (size_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]),
				 0);
	/* Waits without a timeout: a lost wake-up would hang here. */
	while (nr_run < POSTERS * ITEMS)
		assert_true(evloop_run_once(ev, -1) >= 0);
	for (size_t i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		assert_int_equal(posters[i].next_value, ITEMS);
	}
}

static struct item *from_signal;

static void on_alarm(int sig)
{
	ev_post(ev, &from_signal->w);
}

static void a_signal_handler_may_post(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm }, old;

	nr_run = 0;
	from_signal = new_item();
	sigaction(SIGALRM, &action, &old);
	raise(SIGALRM);
	sigaction(SIGALRM, &old, NULL);
	assert_int_equal(evloop_run_once(ev, -1), 1);
	assert_int_equal(nr_run, 1);
}

static void quit_from_expiry(struct ev_timer *t)
{
	evloop_quit(ev);
}

static void run_ends_with_quit_and_can_begin_again(void **state)
{
	struct ev_timer t = { .expired = quit_from_expiry };

	for (int i = 0; i < 2; i++) {
		ev_timer_arm(ev, &t, 0);
		assert_int_equal(evloop_run(ev), 0);
	}
	evloop_quit(ev);
	assert_int_equal(evloop_run(ev), 0);
}

static void destroy_accepts_null(void **state)
{
	evloop_destroy(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_ready_descriptor_is_handled),
		T(a_handler_may_delete_and_free_any_other_watch),
		T(a_handler_may_delete_and_free_itself),
		T(a_handler_may_run_a_round_itself),
		T(a_descriptor_epoll_cannot_watch_is_an_error),
		T(timers_expire_once_in_the_order_of_their_deadlines),
		T(a_timer_armed_anew_has_the_new_deadline_only),
		T(a_timer_may_cancel_another_that_is_due),
		T(a_timer_that_arms_itself_does_not_starve_the_loop),
		T(a_far_deadline_does_not_overflow),
		T(work_may_post_itself_again),
		T(nothing_that_threads_post_is_lost_or_reordered),
		T(a_signal_handler_may_post),
		T(run_ends_with_quit_and_can_begin_again),
		T(destroy_accepts_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
