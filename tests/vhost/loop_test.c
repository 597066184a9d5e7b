/*
 * loop.c turn by turn, on the test's own thread: what each ring operation does
 * and when it is answered. With threads: loop_thread_test.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/vhost/ringkit.h"
#include "vhost/loop.h"

#define W VIRTQ_DESC_F_WRITE

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* A loop, and a ring whose device keeps every chain until the test says so. */
struct rig {
	struct evloop *ev;
	struct loop *loop;
	struct ringkit *k;
	struct loop_ring_op op;
	unsigned int nr_answers, nr_polls, nr_held;
	struct virtq_chain held[16];
};

static unsigned int hold_poll(struct virtq *vq)
{
	struct rig *r = vq->priv;
	unsigned int nr = 0;

	r->nr_polls++;
	while (r->nr_held < ARRAY_SIZE(r->held) && virtq_pop(vq, &r->held[r->nr_held])) {
		r->nr_held++;
		nr++;
	}
	return nr;
}

static void op_done(struct loop_ring_op *op)
{
	container_of(op, struct rig, op)->nr_answers++;
}

/* Turns until nothing happens any more; true if the op was answered. */
static bool turn_all(struct rig *r)
{
	unsigned int before = r->nr_answers;

	for (unsigned int i = 0; i < 4; i++) {
		loop_turn(r->loop);
		while (evloop_run_once(r->ev, 0) > 0)
			;
	}
	return r->nr_answers != before;
}

static bool post(struct rig *r, int kind)
{
	r->op.vq = &r->k->vq;
	r->op.kind = kind;
	r->op.done = op_done;
	loop_ring_post(r->loop, &r->op);
	return turn_all(r);
}

/* SYNC to the ring's present configuration, with these changes. */
static bool post_sync(struct rig *r, struct virtq_conf conf)
{
	r->op.conf = conf;
	return post(r, LOOP_RING_SYNC);
}

static struct rig *rig_open(uint64_t features)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct loop_conf conf = { .cpu = -1, .manual = true };

	assert_non_null(r);
	r->ev = evloop_create();
	assert_non_null(r->ev);
	conf.ev = r->ev;
	assert_int_equal(loop_create(&conf, &r->loop), 0);
	r->k = rk_open_stopped(features, 16, rk_base(features & RK_PACKED));
	r->k->vq.poll = hold_poll;
	r->k->vq.priv = r;
	return r;
}

static struct rig *rig_open_started(void **state)
{
	struct rig *r = rig_open(*(const uint64_t *)*state);

	assert_true(post(r, LOOP_RING_START));
	assert_int_equal(r->op.error, 0);
	/* The one that a previous back-end may have owed. */
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	return r;
}

/* The device ends its oldest chain. */
static void end_one(struct rig *r)
{
	assert_true(r->nr_held);
	virtq_push(&r->k->vq, r->held[0].id, 1);
	r->nr_held--;
	for (unsigned int i = 0; i < r->nr_held; i++)
		r->held[i] = r->held[i + 1];
}

static void expect_used(struct rig *r, uint16_t id)
{
	uint16_t got = UINT16_MAX;
	uint32_t len;

	assert_true(rk_get(r->k, &got, &len));
	assert_int_equal(got, id);
}

static void rig_close(struct rig *r)
{
	if (r->k->vq.state == VIRTQ_STARTED) {
		bool answered = post(r, LOOP_RING_STOP);

		assert_int_equal(answered, !r->nr_held);
		while (r->nr_held)
			end_one(r);
		assert_true(answered || turn_all(r));
	}
	assert_int_equal(r->k->vq.state, VIRTQ_STOPPED);
	assert_int_equal(loop_nr_rings(r->loop), 0);
	loop_destroy(r->loop);
	evloop_destroy(r->ev);
	rk_close(r->k);
	free(r);
}

/* --- start and stop --------------------------------------------------------------------- */

static void a_started_ring_is_polled_every_turn(void **state)
{
	struct rig *r = rig_open_started(state);
	unsigned int before = r->nr_polls;

	assert_int_equal(loop_nr_rings(r->loop), 1);
	assert_int_equal(r->k->vq.state, VIRTQ_STARTED);
	loop_turn(r->loop);
	loop_turn(r->loop);
	assert_int_equal(r->nr_polls, before + 2);
	rk_put_good(r->k, 0);
	assert_int_equal(loop_turn(r->loop), 1);
	assert_int_equal(loop_turn(r->loop), 0);
	assert_int_equal(r->nr_held, 1);
	rig_close(r);
}

static void a_stopped_ring_is_not_polled(void **state)
{
	struct rig *r = rig_open_started(state);
	unsigned int before;

	assert_true(post(r, LOOP_RING_STOP));
	before = r->nr_polls;
	rk_put_good(r->k, 0);
	assert_false(turn_all(r));
	assert_int_equal(r->nr_polls, before);
	assert_int_equal(r->nr_held, 0);
	rig_close(r);
}

static void a_kick_descriptor_that_cannot_be_watched_is_the_answer(void **state)
{
	struct rig *r = rig_open(*(const uint64_t *)*state);
	int kick_fd = r->k->vq.conf.kick_fd;

	/* epoll takes no regular file. */
	r->k->vq.conf.kick_fd = r->k->ram_fd;
	assert_true(post(r, LOOP_RING_START));
	assert_int_equal(r->op.error, -EPERM);
	assert_int_equal(loop_nr_rings(r->loop), 0);
	assert_int_equal(r->k->vq.state, VIRTQ_STOPPED);
	r->k->vq.conf.kick_fd = kick_fd;
	assert_true(post(r, LOOP_RING_START));
	assert_int_equal(r->op.error, 0);
	rig_close(r);
}

static void stop_waits_for_the_chains_in_flight_and_publishes_them(void **state)
{
	struct rig *r = rig_open_started(state);

	rk_put_good(r->k, 0);
	rk_put_good(r->k, 4);
	turn_all(r);
	assert_int_equal(r->nr_held, 2);
	assert_false(post(r, LOOP_RING_STOP));
	assert_int_equal(r->k->vq.state, VIRTQ_DRAINING);
	/* What comes now is left for the next back-end. */
	rk_put_good(r->k, 8);
	assert_false(turn_all(r));
	assert_int_equal(r->nr_held, 2);
	end_one(r);
	assert_false(turn_all(r));
	end_one(r);
	assert_true(turn_all(r));
	assert_int_equal(r->k->vq.state, VIRTQ_STOPPED);
	expect_used(r, 0);
	expect_used(r, 4);
	assert_int_equal(virtq_base(&r->k->vq) & 0x7fff, r->k->packed ? 6 : 2);
	rig_close(r);
}

struct ending_work {
	struct loop_work work;
	struct rig *r;
};

static void run_ending(struct loop_work *w)
{
	struct rig *r = container_of(w, struct ending_work, work)->r;

	end_one(r);
	loop_flush_later(&r->k->vq);
}

/* As an ioctl that a worker carried out: its end and the stop meet in one inbox. */
static void a_ring_that_posted_work_ended_is_forgotten_when_it_stops(void **state)
{
	struct rig *r = rig_open_started(state), second = { .ev = r->ev, .loop = r->loop };
	struct ending_work end[2] = { { { .run = run_ending }, &second },
				      { { .run = run_ending }, r } };

	second.k = rk_open_stopped(*(const uint64_t *)*state, 16, rk_base(r->k->packed));
	second.k->vq.poll = hold_poll;
	second.k->vq.priv = &second;
	assert_true(post(&second, LOOP_RING_START));
	rk_put_good(r->k, 0);
	rk_put_good(second.k, 3);
	loop_turn(r->loop);
	loop_post(r->loop, &end[0].work);
	loop_post(r->loop, &end[1].work);
	second.op.kind = LOOP_RING_STOP;
	loop_ring_post(r->loop, &second.op);
	loop_turn(r->loop);
	assert_int_equal(second.k->vq.state, VIRTQ_STOPPED);
	assert_false(second.k->vq.flush_queued);
	expect_used(&second, 3);
	while (evloop_run_once(r->ev, 0) > 0)
		;
	assert_int_equal(second.nr_answers, 2);
	/* Nobody looks at it from here on. */
	rk_close(second.k);
	turn_all(r);
	expect_used(r, 0);
	rig_close(r);
}

static void stopping_one_ring_leaves_the_others(void **state)
{
	struct rig *r = rig_open_started(state), second = { .ev = r->ev, .loop = r->loop };
	unsigned int before;

	second.k = rk_open_stopped(*(const uint64_t *)*state, 16, rk_base(r->k->packed));
	second.k->vq.poll = hold_poll;
	second.k->vq.priv = &second;
	assert_true(post(&second, LOOP_RING_START));
	assert_int_equal(loop_nr_rings(r->loop), 2);
	assert_true(post(r, LOOP_RING_STOP));
	assert_int_equal(loop_nr_rings(r->loop), 1);
	before = r->nr_polls;
	rk_put_good(second.k, 0);
	turn_all(&second);
	assert_int_equal(second.nr_held, 1);
	assert_int_equal(r->nr_polls, before);
	end_one(&second);
	assert_true(post(&second, LOOP_RING_STOP));
	expect_used(&second, 0);
	rk_close(second.k);
	rig_close(r);
}

/* --- sync ---------------------------------------------------------------------------------- */

static void the_same_memory_is_answered_at_once(void **state)
{
	struct rig *r = rig_open_started(state);
	struct virtq_conf conf = r->k->vq.conf;

	rk_put_good(r->k, 0);
	turn_all(r);
	conf.enabled = false;
	assert_true(post_sync(r, conf));
	rk_put_good(r->k, 4);
	turn_all(r);
	assert_int_equal(r->nr_held, 1);
	conf.enabled = true;
	assert_true(post_sync(r, conf));
	assert_int_equal(r->nr_held, 2);
	rig_close(r);
}

/* The memory of a kit without the region NEXT. */
static struct gmem *without_next(struct ringkit *k)
{
	struct gmem_region *regions[] = { k->region[0], k->region[2] };
	struct gmem *gm = NULL;

	assert_int_equal(gmem_create(regions, 2, &k->faulted, &gm), 0);
	return gm;
}

static void new_memory_is_answered_when_the_old_one_is_not_used_any_more(void **state)
{
	const struct rk_buf bufs[] = { { RK_NEXT, 16, 0 }, { RK_BUF, 1, W } };
	struct rig *r = rig_open_started(state);
	struct virtq_conf conf = r->k->vq.conf;
	struct gmem *before = r->k->gm, *after = without_next(r->k);

	rk_put(r->k, 0, bufs, 2);
	rk_put(r->k, 2, bufs, 2);
	turn_all(r);
	assert_int_equal(r->held[1].error, 0);
	conf.gm = after;
	assert_false(post_sync(r, conf));
	/* The ring goes on under the new memory meanwhile. */
	rk_put(r->k, 4, bufs, 2);
	rk_put_good(r->k, 6);
	turn_all(r);
	assert_int_equal(r->nr_held, 4);
	assert_int_equal(r->held[2].error, -EINVAL);
	assert_int_equal(r->held[3].error, 0);
	end_one(r);
	assert_false(turn_all(r));
	end_one(r);
	assert_true(turn_all(r));
	assert_int_equal(virtq_inflight(&r->k->vq), 2);
	/* And back, with two in flight under the memory in between. */
	conf.gm = before;
	assert_false(post_sync(r, conf));
	end_one(r);
	end_one(r);
	assert_true(turn_all(r));
	rig_close(r);
	gmem_destroy(after);
}

static void stop_while_memory_changes_ends_both(void **state)
{
	struct rig *r = rig_open_started(state);
	struct loop_ring_op stop = { .vq = &r->k->vq, .kind = LOOP_RING_STOP, .done = op_done };
	struct virtq_conf conf = r->k->vq.conf;
	struct gmem *before = r->k->gm, *after = without_next(r->k);

	rk_put_good(r->k, 0);
	turn_all(r);
	conf.gm = after;
	assert_false(post_sync(r, conf));
	/* Its answer goes to a rig of its own. */
	struct rig other = { .ev = r->ev, .loop = r->loop, .op = stop };

	loop_ring_post(r->loop, &other.op);
	assert_false(turn_all(r));
	assert_int_equal(other.nr_answers, 0);
	end_one(r);
	assert_true(turn_all(r));
	assert_int_equal(other.nr_answers, 1);
	expect_used(r, 0);
	r->k->vq.conf.gm = before;
	rig_close(r);
	gmem_destroy(after);
}

static void a_new_call_descriptor_hears_at_once_and_of_the_next_batch(void **state)
{
	struct rig *r = rig_open_started(state);
	struct virtq_conf conf = r->k->vq.conf;

	conf.call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(post_sync(r, conf));
	assert_int_equal(rk_drain(conf.call_fd), 1);
	rk_put_good(r->k, 0);
	turn_all(r);
	end_one(r);
	virtq_flush(&r->k->vq);
	assert_int_equal(rk_drain(r->k->call_fd), 0);
	assert_int_equal(rk_drain(conf.call_fd), 1);
	rig_close(r);
	close(conf.call_fd);
}

static void a_new_kick_descriptor_that_cannot_be_watched_breaks_the_ring(void **state)
{
	struct rig *r = rig_open_started(state);
	struct virtq_conf conf = r->k->vq.conf;

	conf.kick_fd = r->k->ram_fd;
	assert_true(post_sync(r, conf));
	assert_true(r->k->vq.broken);
	rig_close(r);
}

/* What was pushed before the change is published before it. */
static void what_is_pushed_is_published_by_a_sync(void **state)
{
	struct rig *r = rig_open_started(state);

	rk_put_good(r->k, 0);
	turn_all(r);
	end_one(r);
	assert_true(post_sync(r, r->k->vq.conf));
	expect_used(r, 0);
	rig_close(r);
}

/* --- work and sources ------------------------------------------------------------------------ */

struct numbered_work {
	struct loop_work work;
	unsigned int *next;
	unsigned int number;
};

static void run_numbered(struct loop_work *w)
{
	struct numbered_work *n = container_of(w, struct numbered_work, work);

	assert_int_equal(n->number, *n->next);
	++*n->next;
}

static void work_runs_in_the_order_it_was_posted(void **state)
{
	struct rig *r = rig_open_started(state);
	struct numbered_work works[20];
	unsigned int next = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(works); i++) {
		works[i] = (struct numbered_work){ { .run = run_numbered }, &next, i };
		loop_post(r->loop, &works[i].work);
	}
	assert_int_equal(next, 0);
	loop_turn(r->loop);
	assert_int_equal(next, ARRAY_SIZE(works));
	rig_close(r);
}

/* Ends the device's chains outside of the ring's poll(), as a disk does. */
struct ending_source {
	struct loop_source source;
	struct rig *rig;
	unsigned int nr_turns;
};

static unsigned int ending_turn(struct loop_source *s)
{
	struct ending_source *e = container_of(s, struct ending_source, source);
	unsigned int nr = e->rig->nr_held;

	e->nr_turns++;
	while (e->rig->nr_held) {
		end_one(e->rig);
		loop_flush_later(&e->rig->k->vq);
	}
	return nr;
}

static void what_a_source_ends_is_published_in_the_same_turn(void **state)
{
	struct rig *r = rig_open_started(state);
	struct ending_source e = { { .turn = ending_turn, .fd = -1 }, r, 0 };

	assert_int_equal(loop_source_add(r->loop, &e.source), 0);
	rk_put_good(r->k, 0);
	rk_put_good(r->k, 4);
	rk_put_good(r->k, 8);
	loop_turn(r->loop);
	expect_used(r, 0);
	expect_used(r, 4);
	expect_used(r, 8);
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	assert_int_equal(e.nr_turns, 1);
	loop_source_del(r->loop, &e.source);
	loop_turn(r->loop);
	assert_int_equal(e.nr_turns, 1);
	rig_close(r);
}

static void sources_come_and_go_in_any_order(void **state)
{
	struct rig *r = rig_open_started(state);
	struct ending_source e[3];

	for (unsigned int i = 0; i < 3; i++) {
		e[i] = (struct ending_source){ { .turn = ending_turn, .fd = -1 }, r, 0 };
		assert_int_equal(loop_source_add(r->loop, &e[i].source), 0);
	}
	loop_source_del(r->loop, &e[1].source);
	loop_turn(r->loop);
	assert_int_equal(e[0].nr_turns, 1);
	assert_int_equal(e[1].nr_turns, 0);
	assert_int_equal(e[2].nr_turns, 1);
	loop_source_del(r->loop, &e[2].source);
	loop_source_del(r->loop, &e[0].source);
	loop_turn(r->loop);
	assert_int_equal(e[0].nr_turns, 1);
	rig_close(r);
}

#define BOTH(f) { #f " (split)", f, NULL, NULL, (void *)&split_kind }, PACKED_AS(#f " (packed)", f)
#define PACKED_AS(name, f)                                                                         \
	{                                                                                          \
		name, f, NULL, NULL, (void *)&packed_kind                                          \
	}

static const struct CMUnitTest tests[] = {
	BOTH(a_started_ring_is_polled_every_turn),
	BOTH(a_stopped_ring_is_not_polled),
	BOTH(a_kick_descriptor_that_cannot_be_watched_is_the_answer),
	BOTH(stop_waits_for_the_chains_in_flight_and_publishes_them),
	BOTH(a_ring_that_posted_work_ended_is_forgotten_when_it_stops),
	BOTH(stopping_one_ring_leaves_the_others),
	BOTH(the_same_memory_is_answered_at_once),
	BOTH(new_memory_is_answered_when_the_old_one_is_not_used_any_more),
	BOTH(stop_while_memory_changes_ends_both),
	BOTH(a_new_call_descriptor_hears_at_once_and_of_the_next_batch),
	BOTH(a_new_kick_descriptor_that_cannot_be_watched_breaks_the_ring),
	BOTH(what_is_pushed_is_published_by_a_sync),
	BOTH(work_runs_in_the_order_it_was_posted),
	BOTH(what_a_source_ends_is_published_in_the_same_turn),
	BOTH(sources_come_and_go_in_any_order),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
