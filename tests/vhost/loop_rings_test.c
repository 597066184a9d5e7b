/*
 * Which of its rings a loop looks at in a turn: all while nothing has work, the
 * idle ones less often beside busy ones, those without a poll() never.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>

#include "tests/vhost/ringkit.h"
#include "vhost/loop.h"

#define NR 24
#define TURNS 1000

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* A ring that does what it is told, and counts. */
struct ring {
	struct ringkit *k;
	struct loop_ring_op op;
	struct rig *rig;
	unsigned int nr_polls;
	unsigned int gap, max_gap; /* turns since it was polled */
	unsigned int work; /* what poll() is to return, once if once */
	bool once;
};

struct rig {
	struct evloop *ev;
	struct loop *loop;
	struct ring ring[NR];
	unsigned int nr, nr_answers;
};

static unsigned int count_poll(struct virtq *vq)
{
	struct ring *r = vq->priv;
	unsigned int work = r->work;

	r->nr_polls++;
	r->gap = 0;
	if (r->once)
		r->work = 0;
	return work;
}

static void op_done(struct loop_ring_op *op)
{
	container_of(op, struct ring, op)->rig->nr_answers++;
}

static void post(struct ring *r, int kind)
{
	struct rig *rig = r->rig;
	unsigned int before = rig->nr_answers;

	r->op = (struct loop_ring_op){ .vq = &r->k->vq, .kind = kind, .done = op_done };
	if (kind == LOOP_RING_SYNC)
		r->op.conf = r->k->vq.conf;
	loop_ring_post(rig->loop, &r->op);
	while (rig->nr_answers == before) {
		loop_turn(rig->loop);
		while (evloop_run_once(rig->ev, 0) > 0)
			;
	}
	assert_int_equal(r->op.error, 0);
}

static void add_ring(struct rig *rig, uint64_t features, bool polled)
{
	struct ring *r = &rig->ring[rig->nr++];

	*r = (struct ring){ .rig = rig };
	r->k = rk_open_stopped(features, 16, rk_base(features & RK_PACKED));
	r->k->vq.poll = polled ? count_poll : NULL;
	r->k->vq.priv = r;
	post(r, LOOP_RING_START);
}

static struct rig *rig_open(unsigned int nr)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct loop_conf conf = { .cpu = -1, .manual = true };

	assert_non_null(rig);
	rig->ev = evloop_create();
	assert_non_null(rig->ev);
	conf.ev = rig->ev;
	assert_int_equal(loop_create(&conf, &rig->loop), 0);
	while (rig->nr < nr)
		add_ring(rig, split_kind, true);
	return rig;
}

static void rig_close(struct rig *rig)
{
	for (unsigned int i = 0; i < rig->nr; i++) {
		struct ring *r = &rig->ring[i];

		if (r->k->vq.state != VIRTQ_STOPPED)
			post(r, LOOP_RING_STOP);
		rk_close(r->k);
	}
	assert_int_equal(loop_nr_rings(rig->loop), 0);
	loop_destroy(rig->loop);
	evloop_destroy(rig->ev);
	free(rig);
}

static void run(struct rig *rig, unsigned int turns)
{
	for (unsigned int i = 0; i < rig->nr; i++) {
		rig->ring[i].nr_polls = 0;
		rig->ring[i].gap = 0;
		rig->ring[i].max_gap = 0;
	}
	while (turns--) {
		for (unsigned int i = 0; i < rig->nr; i++) {
			struct ring *r = &rig->ring[i];

			if (r->gap++ >= r->max_gap)
				r->max_gap = r->gap;
		}
		loop_turn(rig->loop);
	}
}

/* Once more in the turn in which it becomes cold. */
static void expect_every_turn(const struct ring *r)
{
	assert_in_range(r->nr_polls, TURNS, TURNS + 1);
}

static void without_work_every_ring_is_polled_in_every_turn(void **state)
{
	struct rig *rig = rig_open(NR);

	run(rig, TURNS);
	for (unsigned int i = 0; i < NR; i++)
		expect_every_turn(&rig->ring[i]);
	rig_close(rig);
}

static void idle_rings_are_polled_less_often_beside_a_busy_one(void **state)
{
	struct rig *rig = rig_open(NR);

	rig->ring[5].work = 1;
	run(rig, 100);
	run(rig, TURNS);
	expect_every_turn(&rig->ring[5]);
	for (unsigned int i = 0; i < NR; i++) {
		if (i == 5)
			continue;
		/* An eighth of the turns, evenly. */
		assert_in_range(rig->ring[i].nr_polls, TURNS / 9, TURNS / 7);
		assert_in_range(rig->ring[i].max_gap, 1, 16);
	}
	rig->ring[5].work = 0;
	run(rig, TURNS);
	for (unsigned int i = 0; i < NR; i++)
		expect_every_turn(&rig->ring[i]);
	rig_close(rig);
}

static unsigned int busy_turn(struct loop_source *s)
{
	return 1;
}

static void a_source_with_work_counts_as_a_busy_ring(void **state)
{
	struct loop_source s = { .turn = busy_turn, .fd = -1 };
	struct rig *rig = rig_open(NR);

	assert_int_equal(loop_source_add(rig->loop, &s), 0);
	run(rig, 100);
	run(rig, TURNS);
	for (unsigned int i = 0; i < NR; i++)
		assert_in_range(rig->ring[i].nr_polls, TURNS / 9, TURNS / 7);
	loop_source_del(rig->loop, &s);
	rig_close(rig);
}

static void a_ring_with_work_is_polled_every_turn_again(void **state)
{
	struct rig *rig = rig_open(NR);

	rig->ring[0].work = 1;
	run(rig, 100);
	for (unsigned int i = 1; i < NR; i++) {
		rig->ring[i].work = 1;
		rig->ring[i].once = true;
		run(rig, 16);
		assert_int_equal(rig->ring[i].work, 0);
		run(rig, 40);
		assert_int_equal(rig->ring[i].nr_polls, 40);
	}
	rig_close(rig);
}

static void a_ring_with_chains_in_flight_is_polled_every_turn(void **state)
{
	struct rig *rig = rig_open(4);
	struct virtq_chain c;

	rk_put_good(rig->ring[2].k, 0);
	c = rk_pop(rig->ring[2].k);
	rig->ring[0].work = 1;
	run(rig, TURNS);
	expect_every_turn(&rig->ring[2]);
	assert_in_range(rig->ring[3].nr_polls, 1, TURNS * 3 / 5);
	rk_complete(rig->ring[2].k, c.id, 0);
	rig_close(rig);
}

/* Hot and cold, first, last and in between. */
static void rings_come_and_go_wherever_they_are(void **state)
{
	struct rig *rig = rig_open(NR);

	for (unsigned int round = 0; round < 200; round++) {
		struct ring *r = &rig->ring[round * 7 % NR];

		rig->ring[round * 5 % NR].work = round % 3 == 0;
		run(rig, round % 90);
		post(r, LOOP_RING_STOP);
		run(rig, 20);
		assert_int_equal(r->nr_polls, 0);
		for (unsigned int i = 0; i < NR; i++)
			if (&rig->ring[i] != r)
				assert_true(rig->ring[i].nr_polls > 0);
		post(r, LOOP_RING_START);
		run(rig, 20);
		assert_int_equal(r->nr_polls, 20);
	}
	rig_close(rig);
}

/* --- rings that others fill --------------------------------------------------------- */

static void a_ring_without_poll_is_let_alone_and_its_driver_is_not_to_notify(void **state)
{
	uint64_t features = *(const uint64_t *)*state;
	struct rig *rig = rig_open(2);
	struct ring *r = &rig->ring[2];

	add_ring(rig, features, false);
	assert_int_equal(loop_nr_rings(rig->loop), 3);
	assert_int_equal(r->k->vq.state, VIRTQ_STARTED);
	assert_false(r->k->vq.notify_armed);
	if (r->k->packed)
		assert_int_equal(le16_to_cpu(r->k->device_event->flags), PVIRTQ_EVENT_F_DISABLE);
	else
		assert_int_equal(le16_to_cpu(r->k->used->flags), VIRTQ_USED_F_NO_NOTIFY);
	/* As every ring that starts. */
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	rk_put_good(r->k, 0);
	run(rig, TURNS);
	assert_int_equal(r->nr_polls, 0);
	expect_every_turn(&rig->ring[0]);
	rig_close(rig);
}

static void operations_on_a_shared_ring_take_its_lock_and_give_it_back(void **state)
{
	uint64_t features = *(const uint64_t *)*state;
	struct rig *rig = rig_open(1);
	struct ring *r = &rig->ring[1];

	add_ring(rig, features, false);
	post(r, LOOP_RING_STOP);
	r->k->vq.shared = true;
	post(r, LOOP_RING_START);
	assert_int_equal(r->k->vq.lock, 0);
	post(r, LOOP_RING_SYNC);
	assert_int_equal(r->k->vq.lock, 0);
	virtq_lock(&r->k->vq);
	assert_int_equal(r->k->vq.lock, 1);
	virtq_unlock(&r->k->vq);
	post(r, LOOP_RING_STOP);
	assert_int_equal(r->k->vq.lock, 0);
	assert_int_equal(r->k->vq.state, VIRTQ_STOPPED);
	rig_close(rig);
}

#define BOTH(f)                                                                                    \
	{ #f " (split)", f, NULL, NULL, (void *)&split_kind },                                     \
	{                                                                                          \
#f " (packed)", f, NULL, NULL, (void *)&packed_kind                                \
	}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(without_work_every_ring_is_polled_in_every_turn),
	cmocka_unit_test(idle_rings_are_polled_less_often_beside_a_busy_one),
	cmocka_unit_test(a_source_with_work_counts_as_a_busy_ring),
	cmocka_unit_test(a_ring_with_work_is_polled_every_turn_again),
	cmocka_unit_test(a_ring_with_chains_in_flight_is_polled_every_turn),
	cmocka_unit_test(rings_come_and_go_wherever_they_are),
	BOTH(a_ring_without_poll_is_let_alone_and_its_driver_is_not_to_notify),
	BOTH(operations_on_a_shared_ring_take_its_lock_and_give_it_back),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
