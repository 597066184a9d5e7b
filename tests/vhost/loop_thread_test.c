/*
 * loop.c with its thread: rings are served in every mode, no wake-up is lost,
 * a loop without work sleeps and wakes by kick, by source and by posted work,
 * and operations may come at any time. Made for ThreadSanitizer as well.
 *
 * Nothing here looks at a clock: a lost wake-up is a test that hangs, and the
 * test runner ends it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/vhost/ringkit.h"
#include "vhost/loop.h"

#define ROUNDS 2000

struct rig {
	struct evloop *ev;
	struct loop *loop;
	struct ringkit *k;
	struct loop_ring_op op;
	unsigned int nr_answers;
};

/* The smallest device: every chain comes back at once. */
static unsigned int echo_poll(struct virtq *vq)
{
	struct virtq_chain c;
	unsigned int nr = 0;

	while (nr < 64 && virtq_pop(vq, &c)) {
		virtq_push(vq, c.id, (uint32_t)c.in_len);
		nr++;
	}
	virtq_flush(vq);
	return nr;
}

static void op_done(struct loop_ring_op *op)
{
	container_of(op, struct rig, op)->nr_answers++;
}

static void post_and_wait(struct rig *r, int kind)
{
	unsigned int before = r->nr_answers;

	r->op.vq = &r->k->vq;
	r->op.kind = kind;
	r->op.done = op_done;
	loop_ring_post(r->loop, &r->op);
	while (r->nr_answers == before)
		assert_true(evloop_run_once(r->ev, -1) >= 0);
	assert_int_equal(r->op.error, 0);
}

static struct loop *loop_open(struct evloop *ev, enum loop_mode mode)
{
	/* Little to spin, much to sleep. */
	struct loop_conf conf = { .ev = ev, .mode = mode, .cpu = -1, .spin_max_ns = 1000 };
	struct loop *loop = NULL;

	assert_int_equal(loop_create(&conf, &loop), 0);
	return loop;
}

static struct rig rig_open(enum loop_mode mode, uint64_t features)
{
	struct rig r = { .ev = evloop_create() };

	assert_non_null(r.ev);
	r.loop = loop_open(r.ev, mode);
	r.k = rk_open_stopped(RK_FEATURES | features, 64, rk_base(features & RK_PACKED));
	r.k->vq.poll = echo_poll;
	return r;
}

static void rig_close(struct rig *r)
{
	loop_destroy(r->loop);
	evloop_destroy(r->ev);
	rk_close(r->k);
}

static uint64_t nr_sleeps(const struct rig *r)
{
	return counter_read(&loop_get_stats(r->loop)->sleeps);
}

static void put_and_kick(struct ringkit *k, uint16_t id)
{
	rk_put_good(k, id);
	rk_kick(k, k->packed ? 3 : 1);
}

/* The driver wants to hear of the next used entry. */
static void want_next(struct ringkit *k)
{
	uint16_t pos = k->used_idx | (k->packed && k->used_wrap ? PVIRTQ_EVENT_WRAP : 0);

	if (!k->vq.event_idx)
		return;
	if (!k->packed) {
		write_once(&k->avail->ring[k->size].wire, cpu_to_le16(pos).wire);
		return;
	}
	write_once(&k->driver_event->desc.wire, cpu_to_le16(pos).wire);
	/* desc before flags; pairs with the device's acquire of flags. */
	store_release(&k->driver_event->flags.wire, cpu_to_le16(PVIRTQ_EVENT_F_DESC).wire);
}

/*
 * Wait for the notification as a driver does that sleeps: say that it is wanted,
 * look once more, sleep.
 */
static void wait_for_used(struct ringkit *k, uint16_t id)
{
	struct pollfd p = { .fd = k->call_fd, .events = POLLIN };
	uint16_t got = UINT16_MAX;
	uint32_t len;

	while (!rk_get(k, &got, &len)) {
		want_next(k);
		store_load_fence();
		if (rk_get(k, &got, &len))
			break;
		assert_int_equal(poll(&p, 1, -1), 1);
		rk_drain(k->call_fd);
	}
	assert_int_equal(got, id);
	assert_int_equal(len, 513);
}

static void serve_rounds(struct rig *r, unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++) {
		want_next(r->k);
		put_and_kick(r->k, (uint16_t)(i % 20 * 3));
		wait_for_used(r->k, (uint16_t)(i % 20 * 3));
		/* Now and then give the loop the time to fall asleep. */
		for (unsigned int n = 0; n < i % 8; n++)
			sched_yield();
	}
}

/* --- no wake-up is lost ------------------------------------------------------------------- */

struct kind {
	enum loop_mode mode;
	uint64_t features;
};

static void every_chain_is_served_and_every_notification_comes(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);

	post_and_wait(&r, LOOP_RING_START);
	serve_rounds(&r, ROUNDS);
	post_and_wait(&r, LOOP_RING_STOP);
	if (kind->mode == LOOP_BUSY)
		assert_int_equal(nr_sleeps(&r), 0);
	rig_close(&r);
}

static void rings_may_be_stopped_and_started_at_any_time(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);

	for (unsigned int i = 0; i < 200; i++) {
		struct virtq_conf conf;

		post_and_wait(&r, LOOP_RING_START);
		put_and_kick(r.k, 0);
		put_and_kick(r.k, 3);
		r.op.conf = r.k->vq.conf;
		r.op.conf.enabled = i % 2;
		post_and_wait(&r, LOOP_RING_SYNC);
		r.op.conf.enabled = true;
		post_and_wait(&r, LOOP_RING_SYNC);
		wait_for_used(r.k, 0);
		post_and_wait(&r, LOOP_RING_STOP);
		conf = rk_conf(r.k, RK_FEATURES | kind->features, 64, virtq_base(&r.k->vq));
		virtq_fini(&r.k->vq);
		assert_int_equal(virtq_init(&r.k->vq, &conf, -1), 0);
		post_and_wait(&r, LOOP_RING_START);
		wait_for_used(r.k, 3);
		post_and_wait(&r, LOOP_RING_STOP);
	}
	rig_close(&r);
}

/* --- asleep ----------------------------------------------------------------------------------- */

static void a_kick_wakes_a_sleeping_loop(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);

	post_and_wait(&r, LOOP_RING_START);
	/* Until it was caught asleep by a kick. */
	while (!counter_read(&r.k->vq.stats.kicks))
		serve_rounds(&r, 10);
	assert_true(nr_sleeps(&r) > 0);
	post_and_wait(&r, LOOP_RING_STOP);
	rig_close(&r);
}

struct counting_work {
	struct loop_work work;
	unsigned int nr_run;
};

static void run_counting(struct loop_work *w)
{
	struct counting_work *c = container_of(w, struct counting_work, work);

	store_release(&c->nr_run, c->nr_run + 1);
}

static void post_counted(struct loop *loop, struct counting_work *c)
{
	unsigned int before = read_once(&c->nr_run);

	loop_post(loop, &c->work);
	/* Pairs with the release in run_counting(). */
	while (load_acquire(&c->nr_run) == before)
		sched_yield();
}

static void posted_work_wakes_a_sleeping_loop(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);
	struct counting_work c = { .work.run = run_counting };

	while (nr_sleeps(&r) < 20)
		post_counted(r.loop, &c);
	rig_close(&r);
}

/* Something the kernel would do: an eventfd stands for it. */
struct fd_source {
	struct loop_source source;
	uint64_t nr_done;
	unsigned int nr_asleep, nr_awake;
	bool asleep;
};

static unsigned int fd_source_turn(struct loop_source *s)
{
	struct fd_source *f = container_of(s, struct fd_source, source);
	uint64_t count = 0;

	if (read(s->fd, &count, sizeof(count)) < 0)
		return 0;
	/* Pairs with the acquire of the test's thread. */
	store_release(&f->nr_done, f->nr_done + count);
	return 1;
}

static void fd_source_sleep(struct loop_source *s, bool asleep)
{
	struct fd_source *f = container_of(s, struct fd_source, source);

	/* Told of each change once. */
	assert(f->asleep != asleep);
	f->asleep = asleep;
	if (asleep)
		write_once(&f->nr_asleep, f->nr_asleep + 1);
	else
		write_once(&f->nr_awake, f->nr_awake + 1);
}

struct source_work {
	struct counting_work counting;
	struct loop *loop;
	struct loop_source *source;
	bool add;
};

static void run_source_work(struct loop_work *w)
{
	struct source_work *s = container_of(w, struct source_work, counting.work);

	if (s->add)
		assert(!loop_source_add(s->loop, s->source));
	else
		loop_source_del(s->loop, s->source);
	run_counting(w);
}

static void change_source(struct rig *r, struct fd_source *f, bool add)
{
	struct source_work w = { { .work.run = run_source_work }, r->loop, &f->source, add };

	post_counted(r->loop, &w.counting);
}

static void the_descriptor_of_a_source_wakes_a_sleeping_loop(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);
	struct fd_source f = { { .turn = fd_source_turn, .sleep = fd_source_sleep } };
	const uint64_t one = 1;

	f.source.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	change_source(&r, &f, true);
	/* Sleeps of before the source came do not count. */
	for (uint64_t i = 0; i < ROUNDS || read_once(&f.nr_asleep) < 20; i++) {
		assert_int_equal(write(f.source.fd, &one, sizeof(one)), sizeof(one));
		while (load_acquire(&f.nr_done) != i + 1)
			sched_yield();
	}
	change_source(&r, &f, false);
	assert_int_equal(read_once(&f.nr_asleep), read_once(&f.nr_awake));
	rig_close(&r);
	close(f.source.fd);
}

struct mute_source {
	struct loop_source source;
	uint64_t asked, done; /* by the test's thread, by the loop's */
};

static unsigned int mute_source_turn(struct loop_source *s)
{
	struct mute_source *m = container_of(s, struct mute_source, source);
	uint64_t asked = read_once(&m->asked);

	if (asked == m->done)
		return 0;
	write_once(&m->done, asked);
	return 1;
}

/* A source that nothing but looking tells of. */
static void a_bounded_sleep_ends_by_itself(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);
	struct mute_source m = {
		{ .turn = mute_source_turn, .fd = -1, .sleep_max_ns = 50000 },
	};
	struct source_work add = { { .work.run = run_source_work }, r.loop, &m.source, true };
	struct source_work del = { { .work.run = run_source_work }, r.loop, &m.source, false };
	uint64_t before = nr_sleeps(&r);

	post_counted(r.loop, &add.counting);
	for (uint64_t i = 1; i <= 100 || nr_sleeps(&r) - before < 100; i++) {
		write_once(&m.asked, i);
		while (read_once(&m.done) != i)
			sched_yield();
	}
	post_counted(r.loop, &del.counting);
	rig_close(&r);
}

/* A ring without a kick descriptor has no other way to be seen. */
static void a_ring_without_a_kick_descriptor_keeps_its_loop_awake(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);

	r.k->vq.conf.kick_fd = -1;
	post_and_wait(&r, LOOP_RING_START);
	for (unsigned int i = 0; i < 100; i++) {
		rk_put_good(r.k, 0);
		wait_for_used(r.k, 0);
	}
	post_and_wait(&r, LOOP_RING_STOP);
	rig_close(&r);
}

/* But not if nothing can come of it. */
static void a_ring_that_is_not_enabled_lets_its_loop_sleep(void **state)
{
	const struct kind *kind = *state;
	struct rig r = rig_open(kind->mode, kind->features);
	uint64_t before;

	r.k->vq.conf.kick_fd = -1;
	post_and_wait(&r, LOOP_RING_START);
	r.op.conf = r.k->vq.conf;
	r.op.conf.enabled = false;
	post_and_wait(&r, LOOP_RING_SYNC);
	before = nr_sleeps(&r);
	rk_put_good(r.k, 0);
	while (nr_sleeps(&r) == before) {
		post_and_wait(&r, LOOP_RING_SYNC);
		usleep(1000);
	}
	r.op.conf.enabled = true;
	post_and_wait(&r, LOOP_RING_SYNC);
	wait_for_used(r.k, 0);
	post_and_wait(&r, LOOP_RING_STOP);
	rig_close(&r);
}

/* --- several ------------------------------------------------------------------------------------- */

static void rings_of_two_loops_do_not_wait_for_each_other(void **state)
{
	const struct kind *kind = *state;
	struct rig r[4];

	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = rig_open(kind->mode, kind->features);
		if (i >= 2) {
			/* The third and fourth ring share loops with the first two. */
			loop_destroy(r[i].loop);
			evloop_destroy(r[i].ev);
			r[i].loop = r[i - 2].loop;
			r[i].ev = r[i - 2].ev;
		}
		post_and_wait(&r[i], LOOP_RING_START);
	}
	for (unsigned int n = 0; n < 200; n++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
			want_next(r[i].k);
			put_and_kick(r[i].k, 0);
		}
		for (unsigned int i = ARRAY_SIZE(r); i-- > 0;)
			wait_for_used(r[i].k, 0);
	}
	for (unsigned int i = ARRAY_SIZE(r); i-- > 0;)
		post_and_wait(&r[i], LOOP_RING_STOP);
	for (unsigned int i = 0; i < 2; i++) {
		rk_close(r[i + 2].k);
		rig_close(&r[i]);
	}
}

#define EVENT_PACKED (RK_PACKED | RK_EVENT_IDX)

static const struct kind busy_split = { LOOP_BUSY, 0 }, busy_packed = { LOOP_BUSY, RK_PACKED },
			 split = { LOOP_ADAPTIVE, 0 }, packed = { LOOP_ADAPTIVE, RK_PACKED },
			 event_split = { LOOP_ADAPTIVE, RK_EVENT_IDX },
			 event_packed = { LOOP_ADAPTIVE, EVENT_PACKED },
			 intr_split = { LOOP_INTERRUPT, 0 },
			 intr_packed = { LOOP_INTERRUPT, RK_PACKED },
			 intr_event_split = { LOOP_INTERRUPT, RK_EVENT_IDX },
			 intr_event_packed = { LOOP_INTERRUPT, EVENT_PACKED };

#define AS(f, kind)                                                                                \
	{                                                                                          \
#f " (" #kind ")", f, NULL, NULL, (void *)&kind                                    \
	}
#define SLEEPY(f)                                                                                  \
	AS(f, split), AS(f, packed), AS(f, event_split), AS(f, event_packed), AS(f, intr_split),   \
		AS(f, intr_packed), AS(f, intr_event_split), AS(f, intr_event_packed)

static const struct CMUnitTest tests[] = {
	AS(every_chain_is_served_and_every_notification_comes, busy_split),
	AS(every_chain_is_served_and_every_notification_comes, busy_packed),
	SLEEPY(every_chain_is_served_and_every_notification_comes),
	SLEEPY(rings_may_be_stopped_and_started_at_any_time),
	SLEEPY(a_kick_wakes_a_sleeping_loop),
	AS(posted_work_wakes_a_sleeping_loop, split),
	AS(posted_work_wakes_a_sleeping_loop, intr_split),
	AS(the_descriptor_of_a_source_wakes_a_sleeping_loop, split),
	AS(the_descriptor_of_a_source_wakes_a_sleeping_loop, intr_split),
	AS(a_bounded_sleep_ends_by_itself, split),
	AS(a_bounded_sleep_ends_by_itself, intr_split),
	AS(a_ring_without_a_kick_descriptor_keeps_its_loop_awake, split),
	AS(a_ring_without_a_kick_descriptor_keeps_its_loop_awake, intr_packed),
	AS(a_ring_that_is_not_enabled_lets_its_loop_sleep, split),
	AS(a_ring_that_is_not_enabled_lets_its_loop_sleep, intr_packed),
	SLEEPY(rings_of_two_loops_do_not_wait_for_each_other),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
