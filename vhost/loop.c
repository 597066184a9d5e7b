/*
 * Poll threads: one turn after the other over their rings and sources, and their
 * life. Never looks into a ring itself, and allocates only when a ring or source
 * comes. What happens between turns is in loop_ops.c, what happens without work in
 * loop_rest.c.
 *
 * Theory of operation: loop.h. Hot and cold rings:
 *
 * To look at a ring that has nothing costs some ten nanoseconds and half a dozen
 * cache lines, which is much in a loop that serves two busy rings beside sixty
 * idle ones. So a ring that had nothing for COLD_AFTER turns becomes cold. As long
 * as others have work, only every COLD_SHARE-th part of the cold rings is looked
 * at in a turn, one part after the other; a turn in which nothing else has work
 * looks at all of them. So nothing waits longer than 2 * COLD_SHARE turns, and a
 * loop that comes to rest has looked everywhere. A cold ring with work is hot at
 * once. A ring with chains in flight stays hot: its driver waits for them, and
 * will come again.
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
#include <unistd.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/loop_internal.h"
#include "vhost/notify.h"

#define COLD_AFTER 64 /* turns without work */
#define COLD_SHARE 8
#define IDLE_TURN_NS 16 /* until it is measured */

const char *const loop_mode_names[LOOP_MODE_CNT + 1] = { "busy", "adaptive", "interrupt", NULL };

int loop_watch(struct loop *loop, int fd, uint32_t events, void *tag)
{
	struct epoll_event e = { .events = events, .data.ptr = tag };

	if (fd < 0)
		return 0;
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

void loop_unwatch(struct loop *loop, int fd)
{
	if (fd >= 0)
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* --- which rings are polled ------------------------------------------------- */

static void place(struct loop *loop, struct virtq *vq, unsigned int pos)
{
	loop->rings[pos] = vq;
	vq->loop_pos = pos;
}

static void swap_rings(struct loop *loop, unsigned int a, unsigned int b)
{
	struct virtq *vq = loop->rings[a];

	place(loop, loop->rings[b], a);
	place(loop, vq, b);
}

/* Hot rings come first: one more, or one less. */
static void make_hot(struct loop *loop, struct virtq *vq)
{
	vq->idle_turns = 0;
	swap_rings(loop, vq->loop_pos, loop->nr_hot++);
}

static void make_cold(struct loop *loop, struct virtq *vq)
{
	swap_rings(loop, vq->loop_pos, --loop->nr_hot);
}

int loop_list_ring(struct loop *loop, struct virtq *vq)
{
	if (loop->nr_rings == loop->max_rings) {
		unsigned int max = loop->max_rings ? 2 * loop->max_rings : 8;
		struct virtq **rings = realloc(loop->rings, max * sizeof(struct virtq *));

		if (!rings)
			return -ENOMEM;
		loop->rings = rings;
		loop->max_rings = max;
	}
	place(loop, vq, loop->nr_rings++);
	make_hot(loop, vq);
	return 0;
}

void loop_unlist_ring(struct loop *loop, struct virtq *vq)
{
	if (vq->loop_pos < loop->nr_hot)
		make_cold(loop, vq);
	place(loop, loop->rings[--loop->nr_rings], vq->loop_pos);
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

void loop_flush_forget(struct loop *loop, struct virtq *vq)
{
	struct virtq **at = &loop->flush_list;

	if (!vq->flush_queued)
		return;
	while (*at != vq)
		at = &(*at)->flush_next;
	*at = vq->flush_next;
	vq->flush_queued = false;
}

void loop_flush_rings(struct loop *loop)
{
	struct virtq *first = loop->flush_list;

	loop->flush_list = NULL;
	for (struct virtq *vq = first; vq; vq = vq->flush_next)
		virtq_publish(vq);
	virtq_publish_fence();
	for (struct virtq *vq = first; vq; vq = vq->flush_next) {
		vq->flush_queued = false;
		virtq_notify_published(vq);
	}
}

/* The first turn after a tick stands for as many as the last tick had. */
static unsigned int poll_timed(struct loop *loop, struct virtq *vq)
{
	uint64_t start = loop_now_ns();
	unsigned int n = vq->poll(vq);

	if (n)
		counter_add(&vq->stats.busy_ns, (loop_now_ns() - start) * loop->tick_turns);
	return n;
}

static inline unsigned int poll_ring(struct loop *loop, struct virtq *vq, bool timed)
{
	unsigned int n = unlikely(timed) ? poll_timed(loop, vq) : vq->poll(vq);

	if (n && vq->notify_armed)
		virtq_notify_disable(vq);
	return n;
}

static unsigned int poll_hot(struct loop *loop, bool timed)
{
	unsigned int work = 0;

	/* Down, as one that becomes cold changes places with the last one. */
	for (unsigned int i = loop->nr_hot; i-- > 0;) {
		struct virtq *vq = loop->rings[i];
		unsigned int n = poll_ring(loop, vq, timed);

		work += n;
		if (n)
			vq->idle_turns = 0;
		else if (++vq->idle_turns >= COLD_AFTER && !virtq_inflight(vq))
			make_cold(loop, vq);
	}
	return work;
}

/* The next nr cold rings. */
static unsigned int poll_cold(struct loop *loop, unsigned int nr, bool timed)
{
	unsigned int work = 0;

	while (nr--) {
		struct virtq *vq;
		unsigned int n;

		if (loop->next_cold < loop->nr_hot || loop->next_cold >= loop->nr_rings)
			loop->next_cold = loop->nr_hot;
		vq = loop->rings[loop->next_cold++];
		n = poll_ring(loop, vq, timed);
		work += n;
		if (n)
			make_hot(loop, vq);
	}
	return work;
}

static unsigned int poll_rings(struct loop *loop, bool timed)
{
	unsigned int work = poll_hot(loop, timed);
	unsigned int nr_cold = loop->nr_rings - loop->nr_hot;

	if (!nr_cold)
		return work;
	if (work || loop->sources_busy)
		nr_cold = (nr_cold + COLD_SHARE - 1) / COLD_SHARE;
	return work + poll_cold(loop, nr_cold, timed);
}

static unsigned int turn(struct loop *loop, bool timed)
{
	unsigned int work = poll_rings(loop, timed), n = 0;

	for (struct loop_source *s = loop->sources; s; s = s->next)
		n += s->turn(s);
	loop->sources_busy = n;
	work += n;
	if (loop->flush_list)
		loop_flush_rings(loop);
	if (unlikely(loop->late))
		loop_late_due(loop);
	if (unlikely(loop->waiting))
		loop_check_waiting(loop);
	if (unlikely(read_once(&loop->inbox))) {
		run_inbox(loop);
		work++;
	}
	return work;
}

unsigned int loop_turn(struct loop *loop)
{
	assert(loop->manual);
	return turn(loop, false);
}

/* --- life ------------------------------------------------------------------- */

static void *thread_main(void *arg)
{
	struct loop *loop = arg;
	char name[16];

	snprintf(name, sizeof(name), "loop%u", loop->index);
	pthread_setname_np(pthread_self(), name);
	if (loop->cpu >= 0 && cpu_pin_self(loop->cpu) < 0)
		log_warn("loop%u: cannot be pinned to CPU %d", loop->index, loop->cpu);
	notify_guard_begin();
	loop->tick_ns = loop_now_ns();
	loop->work_ns = loop->tick_ns;
	loop->tick_turns = 1;
	loop->idle_turn_ns = IDLE_TURN_NS;
	while (!loop->quit) {
		unsigned int work = turn(loop, !loop->turn_nr);

		loop->turn_nr++;
		if (!work) {
			loop_rest(loop);
			continue;
		}
		loop->tick_busy++;
		if (unlikely(loop->turn_nr >= LOOP_TICK))
			loop_tick(loop);
	}
	notify_guard_end();
	return NULL;
}

static void quit_run(struct loop_work *w)
{
	container_of(w, struct loop, quit_work)->quit = true;
}

/* How long it spins is for the loop to find out, and it has a CPU. */
static bool watches_cpu(const struct loop_conf *conf)
{
	return conf->mode == LOOP_ADAPTIVE && conf->cpu >= 0 && !conf->spin_max_ns && !conf->manual;
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
	loop->spin_driver.max_ns = conf->spin_max_ns ? conf->spin_max_ns : LOOP_SPIN_MAX_NS;
	loop->spin_driver.ns = loop->spin_driver.max_ns;
	loop->spin_pending.max_ns = min_u64(loop->spin_driver.max_ns, LOOP_SPIN_PENDING_MAX_NS);
	loop->spin_pending.ns = loop->spin_pending.max_ns;
	loop->quit_work.run = quit_run;
	loop->wake_fd = -1;
	loop->alone_ask.fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		goto err_errno;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		goto err_errno;
	ret = loop_watch(loop, loop->wake_fd, EPOLLIN, loop);
	if (ret < 0)
		goto err_free;
	if (watches_cpu(conf))
		loop_alone_begin(loop);
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
	loop_alone_end(loop);
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
	loop_alone_end(loop);
	assert(!loop->nr_rings && !loop->waiting);
	free(loop->rings);
	fd_replace(&loop->epoll_fd, -1);
	fd_replace(&loop->wake_fd, -1);
	numa_zfree(loop, sizeof(*loop));
}

int loop_source_add(struct loop *loop, struct loop_source *s)
{
	int ret = loop_watch(loop, s->fd, EPOLLIN, s);

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
	loop_unwatch(loop, s->fd);
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

bool loop_is_alone(const struct loop *loop)
{
	return read_once(&loop->alone);
}

unsigned int loop_nr_rings(const struct loop *loop)
{
	return loop->nr_placed;
}

unsigned int loop_load(const struct loop *loop)
{
	return loop->load;
}

const struct loop_stats *loop_get_stats(const struct loop *loop)
{
	return &loop->stats;
}

struct loop_sample *loop_get_sample(struct loop *loop)
{
	return &loop->sample;
}
