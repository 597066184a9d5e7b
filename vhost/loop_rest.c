/*
 * The way to rest: spinning, asking drivers to notify, sleeping; and the account
 * of what a loop did with its time. Called by loop.c after a turn without work.
 *
 * Theory of operation
 *
 * The clock is read every TICK turns, not every turn: one turn over an idle
 * ring takes ten nanoseconds. After spin_ns without work the loop asks the
 * drivers of all rings to notify, looks at everything once more, and sleeps.
 * A ring that was armed stays so until it has work again, so that one busy
 * ring among many idle ones costs the idle ones nothing. How long to spin
 * adjusts itself: a sleep that ends within what spinning would have cost
 * doubles the time, a long one halves it. A loop that has its CPU to itself may
 * spin for longer (loop_alone.c). Waiting for drivers and waiting for
 * requests in the kernel's hands adjust separately: a disk's latency says
 * nothing about when the driver comes again, and the kernel needs the CPU that a
 * spinning loop takes.
 *
 * Kick descriptors are watched edge-triggered and never read: each write of the
 * driver is an edge, and a read of a descriptor that somebody else reads too
 * could block the loop.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "vhost/loop_internal.h"

#define NR_EVENTS 32

/* What a turn without work takes, from ticks that had none. Being taken off the
 * CPU is no part of it. */
static void learn_idle_turn(struct loop *loop, uint64_t span)
{
	uint64_t ns = min_u64(span / loop->turn_nr, 4 * loop->idle_turn_ns + 1);

	loop->idle_turn_ns += ((int64_t)ns - (int64_t)loop->idle_turn_ns) / 4;
}

/* All of the time was work but for the turns without any: those are many and
 * short, so that their number says nothing. */
static uint64_t busy_part(struct loop *loop, uint64_t span)
{
	uint64_t idle_turns = loop->turn_nr - loop->tick_busy;

	if (loop->tick_busy)
		return span - min_u64(span, idle_turns * loop->idle_turn_ns);
	if (loop->turn_nr == LOOP_TICK)
		learn_idle_turn(loop, span);
	return 0;
}

void loop_tick(struct loop *loop)
{
	struct loop_stats *s = &loop->stats;
	uint64_t now = loop_now_ns(), span = now - loop->tick_ns;
	uint64_t busy = busy_part(loop, span);

	counter_add(&s->turns, loop->turn_nr);
	counter_add(&s->busy_turns, loop->tick_busy);
	counter_add(&s->busy_ns, busy);
	counter_add(&s->idle_ns, span - busy);
	if (loop->tick_busy)
		loop->work_ns = now;
	loop->tick_turns = loop->turn_nr;
	loop->turn_nr = 0;
	loop->tick_busy = 0;
	loop->tick_ns = now;
}

/* Anything in the kernel's hands? */
static bool is_pending(const struct loop *loop)
{
	for (const struct loop_source *s = loop->sources; s; s = s->next)
		if (s->nr_pending)
			return true;
	return false;
}

/* Ask every driver to notify; true if something came in the meantime. */
static bool arm_and_look(struct loop *loop)
{
	bool work = false;

	for (unsigned int i = 0; i < loop->nr_rings; i++) {
		struct virtq *vq = loop->rings[i];

		if (!vq->notify_armed)
			virtq_notify_enable(vq);
		/* vhost-user, SET_VRING_KICK: a ring without a descriptor is to be
		 * polled, if anything can come of that. */
		work |= (vq->conf.kick_fd < 0 && virtq_may_pop(vq)) || virtq_has_work(vq);
	}
	return work;
}

static struct spin *present_spin(struct loop *loop)
{
	return is_pending(loop) ? &loop->spin_pending : &loop->spin_driver;
}

/* The kernel needs the CPU as much if nobody else does. */
static uint64_t spin_max_ns(const struct loop *loop, const struct spin *spin)
{
	if (spin == &loop->spin_driver && read_once(&loop->alone))
		return LOOP_SPIN_ALONE_NS;
	return spin->max_ns;
}

static uint64_t spin_ns(struct loop *loop)
{
	const struct spin *spin = present_spin(loop);

	return min_u64(spin->ns, spin_max_ns(loop, spin));
}

static void adjust_spin(const struct loop *loop, struct spin *spin, uint64_t slept_ns)
{
	uint64_t max = spin_max_ns(loop, spin);

	if (slept_ns < max)
		spin->ns = min_u64(2 * spin->ns, max);
	else
		spin->ns = max_u64(spin->ns / 2, min_u64(LOOP_SPIN_MIN_NS, max));
}

/*
 * Awake because requests ended: their driver is about to send the next ones,
 * which will be found by polling. For a guest a kick is an exit.
 */
static void disarm_active(struct loop *loop)
{
	for (unsigned int i = 0; i < loop->nr_rings; i++) {
		struct virtq *vq = loop->rings[i];

		if (vq->notify_armed && virtq_inflight(vq))
			virtq_notify_disable(vq);
	}
}

/*
 * Announce the sleep and look once more: requests that ended before their
 * source knew that we sleep are found by this turn, later ones by its fd.
 */
static unsigned int sources_sleep(struct loop *loop)
{
	unsigned int work = 0;

	for (struct loop_source *s = loop->sources; s; s = s->next) {
		if (s->sleep)
			s->sleep(s, true);
		work += s->turn(s);
	}
	if (loop->flush_list)
		loop_flush_rings(loop);
	return work;
}

static void sources_wake(struct loop *loop)
{
	for (struct loop_source *s = loop->sources; s; s = s->next)
		if (s->sleep)
			s->sleep(s, false);
}

static bool is_source(const struct loop *loop, const void *tag)
{
	for (const struct loop_source *s = loop->sources; s; s = s->next)
		if (s == tag)
			return true;
	return false;
}

static void count_events(struct loop *loop, const struct epoll_event *events, int nr)
{
	uint64_t count;

	for (int i = 0; i < nr; i++) {
		void *tag = events[i].data.ptr;

		if (tag == loop) {
			/* Ours alone and not blocking; empty if another event of the
			 * same moment emptied it. */
			if (read(loop->wake_fd, &count, sizeof(count)) < 0)
				continue;
		} else if (!is_source(loop, tag)) {
			counter_add(&((struct virtq *)tag)->stats.kicks, 1);
		}
	}
}

/* The shortest time for which all sources, and drivers that are to hear of
 * something later, may be left alone. */
static struct timespec *sleep_limit(const struct loop *loop, struct timespec *limit)
{
	uint64_t late = loop_late_ns(loop), ns = UINT64_MAX;

	for (const struct loop_source *s = loop->sources; s; s = s->next)
		if (s->sleep_max_ns)
			ns = min_u64(ns, s->sleep_max_ns);
	if (late != UINT64_MAX)
		ns = min_u64(ns, late - min_u64(late, loop->tick_ns));
	if (ns == UINT64_MAX)
		return NULL;
	limit->tv_sec = (time_t)(ns / 1000000000u);
	limit->tv_nsec = (long)(ns % 1000000000u);
	return limit;
}

static void sleep_until_event(struct loop *loop)
{
	struct epoll_event events[NR_EVENTS];
	struct spin *spin = present_spin(loop);
	uint64_t before, slept;
	struct timespec limit;
	int nr;

	loop_tick(loop);
	before = loop->tick_ns;
	nr = epoll_pwait2(loop->epoll_fd, events, NR_EVENTS, sleep_limit(loop, &limit), NULL);
	count_events(loop, events, nr);
	loop->tick_ns = loop_now_ns();
	slept = loop->tick_ns - before;
	counter_add(&loop->stats.sleeps, 1);
	counter_add(&loop->stats.sleep_ns, slept);
	/* The end of a bounded sleep, or a signal, says nothing about drivers: a
	 * short look, and to sleep again. */
	if (nr <= 0)
		return;
	adjust_spin(loop, spin, slept);
	loop_alone_slept(loop, slept);
	loop->work_ns = loop->tick_ns;
	disarm_active(loop);
}

void loop_rest(struct loop *loop)
{
	if (loop->mode != LOOP_INTERRUPT) {
		if (loop->turn_nr < LOOP_TICK) {
			/* Who asks for a busy loop asks for its reaction time. */
			if (loop->mode != LOOP_BUSY)
				cpu_relax();
			return;
		}
		loop_tick(loop);
		if (loop->mode == LOOP_BUSY || loop->tick_ns - loop->work_ns < spin_ns(loop))
			return;
	}
	if (arm_and_look(loop) || read_once(&loop->inbox))
		return;
	if (!sources_sleep(loop))
		sleep_until_event(loop);
	sources_wake(loop);
}
