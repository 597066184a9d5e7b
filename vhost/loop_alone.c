/*
 * Whether a loop has its CPU to itself: nobody else loses anything then if it
 * spins for longer. Control thread; the loop only reads the answer.
 *
 * Theory of operation
 *
 * A loop that sleeps has to be woken, which costs the driver a notification and
 * the time of the wake-up, each time it sends. A loop that spins instead takes
 * a CPU. Where others want that CPU, guests for instance, spinning is what makes
 * everything slow; on a CPU that the operator has set aside it is free. So an
 * adaptive loop that is pinned is compared with its CPU now and then: what the
 * loop did not use of it and nobody else did either was idle, and if next to
 * nothing is missing of the whole, the loop is alone. Others that come later
 * change that at the next look.
 *
 * The kernel counts idle time in ticks of 10 ms, so a look is taken after a quarter
 * of a second at the earliest. While the loop sleeps on there is nothing to decide:
 * the looks end, and begin again when it asks for them, after short sleeps that it
 * might have spun through. So an idle process has no timer.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "vhost/loop_internal.h"

#define LOOK_NS 250000000u
#define SHORT_SLEEPS 64 /* until it asks */
#define OTHERS_PERCENT 15 /* of the CPU, for which they are taken for nobody */

static uint64_t thread_cpu_ns(const struct loop *loop)
{
	struct timespec ts;
	clockid_t clock;

	if (pthread_getcpuclockid(loop->thread, &clock) || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* False if it is not to be had. */
static bool look(const struct loop *loop, struct loop_look *l)
{
	l->now_ns = loop_now_ns();
	l->own_ns = thread_cpu_ns(loop);
	return !cpu_idle_ns(loop->cpu, &l->idle_ns);
}

bool loop_was_alone(const struct loop_look *from, const struct loop_look *to)
{
	uint64_t span = to->now_ns - from->now_ns;
	uint64_t known = to->own_ns - from->own_ns + to->idle_ns - from->idle_ns;

	return known >= span / 100 * (100 - OTHERS_PERCENT);
}

static void look_again(struct ev_timer *t)
{
	struct loop *loop = container_of(t, struct loop, alone_timer);
	uint64_t turns = counter_read(&loop->stats.turns);
	struct loop_look now;

	/* A loop that has slept all the time since. */
	if (turns == loop->looked_turns) {
		loop->has_look = false;
		write_once(&loop->looked_at, false);
		return;
	}
	loop->looked_turns = turns;
	if (!look(loop, &now)) {
		write_once(&loop->alone, false);
		return;
	}
	if (loop->has_look)
		write_once(&loop->alone, loop_was_alone(&loop->look, &now));
	loop->look = now;
	loop->has_look = true;
	ev_timer_arm(loop->ev, t, LOOK_NS);
}

/* The loop asks. */
static void asked(struct ev_fd *w, uint32_t events)
{
	struct loop *loop = container_of(w, struct loop, alone_ask);
	uint64_t count;

	/* Ours alone and not blocking. */
	if (read(w->fd, &count, sizeof(count)) < 0)
		return;
	ev_timer_arm(loop->ev, &loop->alone_timer, LOOK_NS);
}

void loop_alone_slept(struct loop *loop, uint64_t ns)
{
	const uint64_t one = 1;

	if (loop->alone_ask.fd < 0 || ns >= LOOP_SPIN_ALONE_NS || read_once(&loop->looked_at) ||
	    ++loop->short_sleeps < SHORT_SLEEPS)
		return;
	loop->short_sleeps = 0;
	write_once(&loop->looked_at, true);
	/* Cannot be full: it is read before the next one. */
	if (write(loop->alone_ask.fd, &one, sizeof(one)) < 0)
		write_once(&loop->looked_at, false);
}

void loop_alone_begin(struct loop *loop)
{
	loop->alone_timer.expired = look_again;
	loop->alone_ask.handle = asked;
	loop->alone_ask.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->alone_ask.fd >= 0 && ev_fd_add(loop->ev, &loop->alone_ask, EPOLLIN) < 0)
		fd_replace(&loop->alone_ask.fd, -1);
}

void loop_alone_end(struct loop *loop)
{
	if (loop->alone_ask.fd < 0)
		return;
	ev_timer_cancel(loop->ev, &loop->alone_timer);
	ev_fd_del(loop->ev, &loop->alone_ask);
	fd_replace(&loop->alone_ask.fd, -1);
}
