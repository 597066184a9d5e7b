/*
 * Poll threads: one turn after the other over their rings and sources, and the
 * way to rest. Rings come and go by the operations that vu_ring.c posts. Never
 * looks into a ring itself, and allocates only when a ring or source comes.
 *
 * A ring without a poll() is on its loop for these operations only: others fill
 * it, its driver is never asked to notify, and it does not keep the loop awake.
 *
 * Theory of operation: loop.h. Details of the way to rest:
 *
 * The clock is read every TICK turns, not every turn: one turn over an idle
 * ring takes ten nanoseconds. After spin_ns without work the loop asks the
 * drivers of all rings to notify, looks at everything once more, and sleeps.
 * A ring that was armed stays so until it has work again, so that one busy
 * ring among many idle ones costs the idle ones nothing. How long to spin
 * adjusts itself: a sleep that ends within what spinning would have cost
 * doubles the time, a long one halves it. Waiting for drivers and waiting for
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
#include "vhost/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/virtq_tlb.h"

#define TICK 32 /* turns between two looks at the clock; a power of two */
#define SPIN_MIN_NS 2000
#define SPIN_MAX_NS 50000
#define SPIN_PENDING_MAX_NS 10000
#define NR_EVENTS 32

const char *const loop_mode_names[LOOP_MODE_CNT + 1] = { "busy", "adaptive", "interrupt", NULL };

struct loop {
	/* The loop thread's. */
	struct virtq **rings;
	unsigned int nr_rings, max_rings;
	struct loop_source *sources;
	struct virtq *flush_list;
	struct loop_ring_op *waiting; /* ops whose chains in flight have not ended */
	unsigned int turn_nr, tick_busy; /* turns since the last tick, with work */
	uint64_t tick_ns; /* time of the last tick */
	uint64_t work_ns; /* time of the last work seen */
	/* How long to spin, and at most: for drivers, for requests outside. */
	struct spin {
		uint64_t ns, max_ns;
	} spin_driver, spin_pending;
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
	unsigned int nr_placed;
	struct loop_sample sample;

	/* Any thread's. */
	_Alignas(CACHE_LINE) struct loop_work *inbox; /* newest first */
	int wake_fd;
	_Alignas(CACHE_LINE) struct loop_stats stats;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- operations on rings -------------------------------------------------- */

static int watch(struct loop *loop, int fd, uint32_t events, void *tag)
{
	struct epoll_event e = { .events = events, .data.ptr = tag };

	if (fd < 0)
		return 0;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void unwatch(struct loop *loop, int fd)
{
	if (fd >= 0)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void answer(struct loop *loop, struct loop_ring_op *op)
{
	ev_post(loop->ev, &op->answer);
}

/* To the rings that are polled. */
static int ring_list(struct loop *loop, struct virtq *vq)
{
	struct virtq **rings = loop->rings;
	int ret;

	if (loop->nr_rings == loop->max_rings) {
		unsigned int max = loop->max_rings ? 2 * loop->max_rings : 8;

		rings = realloc(loop->rings, max * sizeof(struct virtq *));
		if (!rings)
			return -ENOMEM;
		loop->rings = rings;
		loop->max_rings = max;
	}
	ret = watch(loop, vq->conf.kick_fd, EPOLLIN | EPOLLET, vq);
	if (ret < 0)
		return ret;
	vq->loop_pos = loop->nr_rings;
	rings[loop->nr_rings++] = vq;
	return 0;
}

static int ring_attach(struct loop *loop, struct virtq *vq)
{
	int ret = vq->poll ? ring_list(loop, vq) : 0;

	if (ret < 0)
		return ret;
	virtq_set_state(vq, VIRTQ_STARTED);
	/* A previous back-end may have left notifications off, and died between
	 * publishing a buffer and notifying the driver, which would wait for ever.
	 * One notification too many is harmless. */
	if (vq->poll)
		virtq_notify_enable(vq);
	else
		virtq_notify_disable(vq);
	virtq_notify_driver(vq);
	return 0;
}

static void ring_detach(struct loop *loop, struct virtq *vq)
{
	if (vq->poll) {
		unwatch(loop, vq->conf.kick_fd);
		loop->rings[vq->loop_pos] = loop->rings[--loop->nr_rings];
		loop->rings[vq->loop_pos]->loop_pos = vq->loop_pos;
	}
	virtq_set_state(vq, VIRTQ_STOPPED);
}

/* Take over what the control thread decided. What was popped or pushed before
 * is published under the old configuration. */
static void ring_sync(struct loop *loop, struct loop_ring_op *op)
{
	struct virtq *vq = op->vq;
	const struct virtq_conf *conf = &op->conf;
	bool moved = conf->gm != vq->conf.gm;

	virtq_flush(vq);
	if (conf->kick_fd != vq->conf.kick_fd) {
		if (vq->poll)
			unwatch(loop, vq->conf.kick_fd);
		vq->conf.kick_fd = conf->kick_fd;
		if (vq->poll && watch(loop, vq->conf.kick_fd, EPOLLIN | EPOLLET, vq) < 0)
			virtq_break(vq, "its kick descriptor cannot be watched");
	}
	vq->conf.desc = conf->desc;
	vq->conf.driver = conf->driver;
	vq->conf.device = conf->device;
	vq->conf.call_fd = conf->call_fd;
	vq->conf.err_fd = conf->err_fd;
	vq->conf.log = conf->log;
	vq->conf.features = conf->features;
	vq->conf.enabled = conf->enabled;
	vq->conf.gm = conf->gm;
	vq->avail_seen = vq->avail_idx;
	if (moved && vq->tlb)
		virtq_tlb_drop(vq, iova(0), UINT64_MAX);
	if (moved) {
		op->epoch = vq->epoch;
		vq->epoch ^= 1;
		assert(!vq->inflight[vq->epoch]);
	} else {
		op->epoch = vq->epoch ^ 1;
	}
}

static bool op_is_done(const struct loop_ring_op *op)
{
	if (op->kind == LOOP_RING_SYNC)
		return !op->vq->inflight[op->epoch];
	if (op->kind == LOOP_RING_DROP)
		return !virtq_tlb_in_use(op->vq, op->drop, op->drop_len);
	return !virtq_inflight(op->vq);
}

/* True if it is over and can be answered: the ring may be gone then. */
static bool op_finish(struct loop *loop, struct loop_ring_op *op)
{
	if (!op_is_done(op))
		return false;
	virtq_flush(op->vq);
	if (op->kind == LOOP_RING_STOP)
		ring_detach(loop, op->vq);
	return true;
}

static bool op_begin(struct loop *loop, struct loop_ring_op *op)
{
	switch (op->kind) {
	case LOOP_RING_START:
		op->error = ring_attach(loop, op->vq);
		return true;
	case LOOP_RING_SYNC:
		ring_sync(loop, op);
		break;
	case LOOP_RING_DROP:
		virtq_tlb_drop(op->vq, op->drop, op->drop_len);
		break;
	case LOOP_RING_STOP:
		virtq_set_state(op->vq, VIRTQ_DRAINING);
		break;
	}
	return op_finish(loop, op);
}

static void op_run(struct loop_work *w)
{
	struct loop_ring_op *op = container_of(w, struct loop_ring_op, work);
	struct loop *loop = op->loop;
	bool over;

	virtq_lock(op->vq);
	over = op_begin(loop, op);
	virtq_unlock(op->vq);
	if (over) {
		answer(loop, op);
		return;
	}
	op->next = loop->waiting;
	loop->waiting = op;
}

static void check_waiting(struct loop *loop)
{
	struct loop_ring_op **at = &loop->waiting;

	while (*at) {
		struct loop_ring_op *op = *at;
		bool over;

		virtq_lock(op->vq);
		over = op_finish(loop, op);
		virtq_unlock(op->vq);
		if (!over) {
			at = &op->next;
			continue;
		}
		*at = op->next;
		answer(loop, op);
	}
}

static void op_answered(struct ev_work *w)
{
	struct loop_ring_op *op = container_of(w, struct loop_ring_op, answer);
	struct loop *loop = op->loop;

	if (op->kind == LOOP_RING_STOP || (op->kind == LOOP_RING_START && op->error))
		loop->nr_placed--;
	op->done(op);
}

void loop_ring_post(struct loop *loop, struct loop_ring_op *op)
{
	op->loop = loop;
	op->error = 0;
	op->answer.run = op_answered;
	op->work.run = op_run;
	if (op->kind == LOOP_RING_START) {
		/* Later the loop's own: it reads it with each completion. */
		op->vq->loop = loop;
		loop->nr_placed++;
	}
	loop_post(loop, &op->work);
}

/* --- the inbox ------------------------------------------------------------- */

void loop_post(struct loop *loop, struct loop_work *w)
{
	uint64_t one = 1;

	w->next = read_once(&loop->inbox);
	/* Release: what the poster wrote is visible to run(). */
	while (!__atomic_compare_exchange_n(&loop->inbox, &w->next, w, true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
	/* Only fails when full, and then the loop is awake. */
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		log_limited(LOG_LEVEL_DEBUG, "loop%u: wake: %s", loop->index, strerror(errno));
}

static void run_inbox(struct loop *loop)
{
	/* Pairs with the release in loop_post(). */
	struct loop_work *w = __atomic_exchange_n(&loop->inbox, NULL, __ATOMIC_ACQUIRE);
	struct loop_work *in_order = NULL, *next;

	for (; w; w = next) {
		next = w->next;
		w->next = in_order;
		in_order = w;
	}
	for (w = in_order; w; w = next) {
		next = w->next; /* w may be gone after run() */
		w->run(w);
	}
}

/* --- one turn -------------------------------------------------------------- */

void loop_flush_later(struct virtq *vq)
{
	if (vq->flush_queued)
		return;
	vq->flush_queued = true;
	vq->flush_next = vq->loop->flush_list;
	vq->loop->flush_list = vq;
}

static void flush_rings(struct loop *loop)
{
	struct virtq *vq = loop->flush_list;

	loop->flush_list = NULL;
	for (; vq; vq = vq->flush_next) {
		vq->flush_queued = false;
		virtq_flush(vq);
	}
}

static unsigned int turn(struct loop *loop)
{
	unsigned int work = 0;

	for (unsigned int i = 0; i < loop->nr_rings; i++) {
		struct virtq *vq = loop->rings[i];
		unsigned int n = vq->poll(vq);

		if (n && vq->notify_armed)
			virtq_notify_disable(vq);
		work += n;
	}
	for (struct loop_source *s = loop->sources; s; s = s->next)
		work += s->turn(s);
	if (loop->flush_list)
		flush_rings(loop);
	if (unlikely(loop->waiting))
		check_waiting(loop);
	if (unlikely(read_once(&loop->inbox))) {
		run_inbox(loop);
		work++;
	}
	return work;
}

unsigned int loop_turn(struct loop *loop)
{
	assert(loop->manual);
	return turn(loop);
}

/* --- coming to rest --------------------------------------------------------- */

/* Account for the turns since the last tick, by the share that had work. */
static void tick(struct loop *loop)
{
	struct loop_stats *s = &loop->stats;
	uint64_t now = now_ns(), span = now - loop->tick_ns, busy;

	busy = loop->turn_nr ? span * loop->tick_busy / loop->turn_nr : 0;
	counter_add(&s->turns, loop->turn_nr);
	counter_add(&s->busy_turns, loop->tick_busy);
	counter_add(&s->busy_ns, busy);
	counter_add(&s->idle_ns, span - busy);
	if (loop->tick_busy)
		loop->work_ns = now;
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
		 * polled. */
		work |= vq->conf.kick_fd < 0 || virtq_has_work(vq);
	}
	return work;
}

static struct spin *present_spin(struct loop *loop)
{
	return is_pending(loop) ? &loop->spin_pending : &loop->spin_driver;
}

static void adjust_spin(struct spin *spin, uint64_t slept_ns)
{
	if (slept_ns < spin->max_ns)
		spin->ns = min_u64(2 * spin->ns, spin->max_ns);
	else
		spin->ns = max_u64(spin->ns / 2, min_u64(SPIN_MIN_NS, spin->max_ns));
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
		flush_rings(loop);
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

/* The shortest time for which all sources may be left alone. */
static struct timespec *sleep_limit(const struct loop *loop, struct timespec *limit)
{
	uint64_t ns = UINT64_MAX;

	for (const struct loop_source *s = loop->sources; s; s = s->next)
		if (s->sleep_max_ns)
			ns = min_u64(ns, s->sleep_max_ns);
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

	tick(loop);
	before = loop->tick_ns;
	nr = epoll_pwait2(loop->epoll_fd, events, NR_EVENTS, sleep_limit(loop, &limit), NULL);
	count_events(loop, events, nr);
	loop->tick_ns = now_ns();
	slept = loop->tick_ns - before;
	counter_add(&loop->stats.sleeps, 1);
	counter_add(&loop->stats.sleep_ns, slept);
	/* The end of a bounded sleep says nothing about drivers: a short look, and
	 * to sleep again. */
	if (!nr)
		return;
	adjust_spin(spin, slept);
	loop->work_ns = loop->tick_ns;
	disarm_active(loop);
}

/* After a turn without work. */
static void rest(struct loop *loop)
{
	if (loop->mode != LOOP_INTERRUPT) {
		if (loop->turn_nr < TICK) {
			cpu_relax();
			return;
		}
		tick(loop);
		if (loop->mode == LOOP_BUSY ||
		    loop->tick_ns - loop->work_ns < present_spin(loop)->ns)
			return;
	}
	if (arm_and_look(loop) || read_once(&loop->inbox))
		return;
	if (!sources_sleep(loop))
		sleep_until_event(loop);
	sources_wake(loop);
}

static void *thread_main(void *arg)
{
	struct loop *loop = arg;
	char name[16];

	snprintf(name, sizeof(name), "loop%u", loop->index);
	pthread_setname_np(pthread_self(), name);
	if (loop->cpu >= 0 && cpu_pin_self(loop->cpu) < 0)
		log_warn("loop%u: cannot be pinned to CPU %d", loop->index, loop->cpu);
	loop->tick_ns = now_ns();
	loop->work_ns = loop->tick_ns;
	while (!loop->quit) {
		unsigned int work = turn(loop);

		loop->turn_nr++;
		if (!work) {
			rest(loop);
			continue;
		}
		loop->tick_busy++;
		if (unlikely(loop->turn_nr >= TICK))
			tick(loop);
	}
	return NULL;
}

/* --- life ------------------------------------------------------------------- */

static void quit_run(struct loop_work *w)
{
	container_of(w, struct loop, quit_work)->quit = true;
}

int loop_create(const struct loop_conf *conf, struct loop **out)
{
	int ret, node = conf->cpu >= 0 ? cpu_node(conf->cpu) : -1;
	struct loop *loop;

	loop = numa_zalloc(sizeof(*loop), node);
	if (!loop)
		return -ENOMEM;
	loop->ev = conf->ev;
	loop->mode = conf->mode;
	loop->cpu = conf->cpu;
	loop->node = node;
	loop->manual = conf->manual;
	loop->index = conf->index;
	loop->spin_driver.max_ns = conf->spin_max_ns ? conf->spin_max_ns : SPIN_MAX_NS;
	loop->spin_driver.ns = loop->spin_driver.max_ns;
	loop->spin_pending.max_ns = min_u64(loop->spin_driver.max_ns, SPIN_PENDING_MAX_NS);
	loop->spin_pending.ns = loop->spin_pending.max_ns;
	loop->quit_work.run = quit_run;
	loop->wake_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		goto err_errno;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		goto err_errno;
	ret = watch(loop, loop->wake_fd, EPOLLIN, loop);
	if (ret < 0)
		goto err_free;
	if (!loop->manual) {
		ret = -pthread_create(&loop->thread, NULL, thread_main, loop);
		if (ret < 0)
			goto err_free;
	}
	*out = loop;
	return 0;

err_errno:
	ret = -errno;
err_free:
	fd_replace(&loop->epoll_fd, -1);
	fd_replace(&loop->wake_fd, -1);
	numa_zfree(loop, sizeof(*loop));
	return ret;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	if (!loop->manual) {
		loop_post(loop, &loop->quit_work);
		pthread_join(loop->thread, NULL);
	}
	assert(!loop->nr_rings && !loop->waiting);
	free(loop->rings);
	fd_replace(&loop->epoll_fd, -1);
	fd_replace(&loop->wake_fd, -1);
	numa_zfree(loop, sizeof(*loop));
}

int loop_source_add(struct loop *loop, struct loop_source *s)
{
	int ret = watch(loop, s->fd, EPOLLIN, s);

	if (ret < 0)
		return ret;
	s->next = loop->sources;
	loop->sources = s;
	return 0;
}

void loop_source_del(struct loop *loop, struct loop_source *s)
{
	struct loop_source **at = &loop->sources;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	unwatch(loop, s->fd);
}

int loop_cpu(const struct loop *loop)
{
	return loop->cpu;
}

int loop_node(const struct loop *loop)
{
	return loop->node;
}

unsigned int loop_index(const struct loop *loop)
{
	return loop->index;
}

enum loop_mode loop_get_mode(const struct loop *loop)
{
	return loop->mode;
}

unsigned int loop_nr_rings(const struct loop *loop)
{
	return loop->nr_placed;
}

const struct loop_stats *loop_get_stats(const struct loop *loop)
{
	return &loop->stats;
}

struct loop_sample *loop_get_sample(struct loop *loop)
{
	return &loop->sample;
}
