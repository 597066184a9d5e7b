/*
 * Interrupt moderation: what is kept back, for how long, and what ends it. Nothing
 * here measures time: what must wait is given minutes, and what must come is waited
 * for, so that a lost notification is a test that hangs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/vhost/ringkit.h"
#include "vhost/loop.h"
#include "vhost/virtq_burst.h"

#define LONG_NS 4000000000u
#define SHORT_NS 1000000u
#define BURST 256

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

struct rig {
	struct evloop *ev;
	struct loop *loop;
	struct ringkit *k;
	struct loop_ring_op op;
	unsigned int nr_answers;
	bool manual; /* the loop turns when it is told to */
};

/* A device that gives back what it is sent, and tells of it late. */
static unsigned int late_poll(struct virtq *vq)
{
	static struct virtq_buf buf[BURST];
	struct virtq_burst b;
	uint64_t bytes = 0;
	unsigned int nr;

	virtq_burst_begin(vq, &b, buf, BURST, false);
	nr = virtq_burst_look(vq, &b, BURST);
	for (unsigned int i = 0; i < nr; i++)
		bytes += buf[i].len;
	virtq_burst_use(vq, &b, nr);
	virtq_burst_notify_late(vq, &b, bytes);
	return nr;
}

/* The same chain by chain: a burst reads descriptors ahead that the driver may be
 * writing, which is a race for ThreadSanitizer. */
static unsigned int late_pop_poll(struct virtq *vq)
{
	struct virtq_chain c;
	uint64_t bytes = 0;
	uint16_t nr = 0;

	for (; virtq_pop(vq, &c); nr++) {
		bytes += c.out_len;
		virtq_push(vq, c.id, 0);
	}
	if (nr) {
		virtq_publish(vq);
		virtq_publish_fence();
		loop_notify_late(vq, nr, bytes);
	}
	return nr;
}

static void op_done(struct loop_ring_op *op)
{
	container_of(op, struct rig, op)->nr_answers++;
}

static void post(struct rig *r, int kind)
{
	unsigned int before = r->nr_answers;

	r->op.vq = &r->k->vq;
	r->op.kind = kind;
	r->op.done = op_done;
	loop_ring_post(r->loop, &r->op);
	while (r->nr_answers == before) {
		if (r->manual)
			loop_turn(r->loop);
		assert_true(evloop_run_once(r->ev, r->manual ? 0 : -1) >= 0);
	}
	assert_int_equal(r->op.error, 0);
}

/* A loop with one started ring, whose driver has been notified of the start. */
static struct rig *rig_open(uint64_t features, uint32_t size, bool manual, uint32_t moderate_ns)
{
	struct loop_conf conf = {
		.mode = LOOP_ADAPTIVE,
		.cpu = -1,
		.manual = manual,
		.spin_max_ns = 1000,
	};
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	r->ev = evloop_create();
	assert_non_null(r->ev);
	r->manual = manual;
	conf.ev = r->ev;
	assert_int_equal(loop_create(&conf, &r->loop), 0);
	r->k = rk_open_stopped(features, size, rk_base(features & RK_PACKED));
	r->k->vq.poll = manual ? late_poll : late_pop_poll;
	r->k->vq.moderate_ns = moderate_ns;
	post(r, LOOP_RING_START);
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	return r;
}

static struct rig *rig_turning(void **state, uint64_t more_features, uint32_t size,
			       uint32_t moderate_ns)
{
	return rig_open(*(const uint64_t *)*state | more_features, size, true, moderate_ns);
}

static void rig_close(struct rig *r)
{
	if (r->k->vq.state != VIRTQ_STOPPED)
		post(r, LOOP_RING_STOP);
	loop_destroy(r->loop);
	evloop_destroy(r->ev);
	rk_close(r->k);
	free(r);
}

/* The driver takes back whatever is used. */
static void take_back(struct rig *r)
{
	uint16_t id;
	uint32_t len;

	while (rk_get(r->k, &id, &len))
		;
}

/* Send nr buffers of len bytes, one after the other; the notifications that came. */
static uint64_t send(struct rig *r, unsigned int nr, uint32_t len)
{
	const struct rk_buf buf = { RK_BUF, len, 0 };

	for (unsigned int i = 0; i < nr; i++) {
		rk_put(r->k, 0, &buf, 1);
		assert_int_equal(loop_turn(r->loop), 1);
		take_back(r);
	}
	return rk_drain(r->k->call_fd);
}

/* What comes while nothing is sent any more. */
static uint64_t wait_turns(struct rig *r)
{
	usleep(2 * SHORT_NS / 1000);
	for (unsigned int i = 0; i < 100; i++)
		loop_turn(r->loop);
	return rk_drain(r->k->call_fd);
}

/* The driver's event index: the used position it wants to hear of. */
static void want_at(struct ringkit *k, uint16_t idx)
{
	uint16_t pos = idx | (k->packed && k->used_wrap ? PVIRTQ_EVENT_WRAP : 0);

	if (!k->packed) {
		k->avail->ring[k->size] = cpu_to_le16(pos);
		return;
	}
	k->driver_event->desc = cpu_to_le16(pos);
	k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
}

static void driver_flags(struct ringkit *k, bool wants)
{
	if (k->packed)
		k->driver_event->flags =
			cpu_to_le16(wants ? PVIRTQ_EVENT_F_ENABLE : PVIRTQ_EVENT_F_DISABLE);
	else
		k->avail->flags = cpu_to_le16(wants ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT);
}

/* --- time --------------------------------------------------------------------------------- */

static void several_buffers_are_one_notification(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, LONG_NS);

	assert_int_equal(send(r, 20, 64), 0);
	assert_int_equal(wait_turns(r), 0);
	rig_close(r);

	r = rig_turning(state, 0, 256, SHORT_NS);
	assert_true(send(r, 20, 64) <= 20);
	wait_turns(r);
	assert_int_equal(wait_turns(r), 0); /* and no more than that */
	rig_close(r);
}

static void the_time_ends(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, SHORT_NS);

	for (unsigned int i = 0; i < 5; i++) {
		/* Unless the machine was slow enough for it to have come already. */
		uint64_t at_once = send(r, 1, 64);

		assert_int_equal(at_once + wait_turns(r), 1);
	}
	assert_int_equal(counter_read(&r->k->vq.stats.notifications), 6);
	rig_close(r);
}

static void without_moderation_each_is_notified(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, 0);

	assert_int_equal(send(r, 20, 64), 20);
	rig_close(r);
}

/* --- what ends it sooner ------------------------------------------------------------------ */

static void a_quarter_of_the_ring_is_much(void **state)
{
	struct rig *r = rig_turning(state, 0, 16, LONG_NS);

	assert_int_equal(send(r, 3, 64), 0);
	assert_int_equal(send(r, 1, 64), 1);
	assert_int_equal(send(r, 3, 64), 0);
	assert_int_equal(send(r, 5, 64), 2); /* the fourth, and the eighth */
	assert_int_equal(send(r, 3, 64), 0);
	rig_close(r);
}

static void so_are_64_buffers(void **state)
{
	struct rig *r = rig_turning(state, 0, 1024, LONG_NS);

	assert_int_equal(send(r, 63, 64), 0);
	assert_int_equal(send(r, 1, 64), 1);
	assert_int_equal(send(r, 63, 64), 0);
	rig_close(r);
}

static void so_is_half_a_mebibyte(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, LONG_NS);

	assert_int_equal(send(r, 7, 0x10000), 0);
	assert_int_equal(send(r, 1, 0x10000), 1);
	assert_int_equal(send(r, 7, 0x10000), 0);
	assert_int_equal(send(r, 1, 0x10000), 1);
	rig_close(r);
}

static void a_ring_of_one_buffer_has_nothing_to_wait_for(void **state)
{
	struct rig *r = rig_turning(state, 0, 1, LONG_NS);

	assert_int_equal(send(r, 3, 64), 3);
	rig_close(r);
}

/* --- the driver's wish ---------------------------------------------------------------------- */

static void a_driver_that_wants_none_gets_none_later_either(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, SHORT_NS);

	driver_flags(r->k, false);
	assert_int_equal(send(r, 5, 64), 0);
	driver_flags(r->k, true);
	assert_int_equal(wait_turns(r), 0);
	/* One that wanted some, and then none any more. */
	if (!send(r, 1, 64)) {
		driver_flags(r->k, false);
		assert_int_equal(wait_turns(r), 0);
	}
	rig_close(r);
}

static void a_driver_that_looked_by_itself_is_not_interrupted(void **state)
{
	struct rig *r = rig_turning(state, RK_EVENT_IDX, 256, LONG_NS);

	want_at(r->k, r->k->used_idx);
	assert_int_equal(send(r, 3, 64), 0);
	want_at(r->k, (uint16_t)(r->k->used_idx + 100));
	r->op.conf = r->k->vq.conf;
	post(r, LOOP_RING_SYNC); /* the time ends */
	assert_int_equal(rk_drain(r->k->call_fd), 0);
	/* And one that did not is: at an index that was passed by the first of them. */
	want_at(r->k, r->k->used_idx);
	assert_int_equal(send(r, 3, 64), 0);
	post(r, LOOP_RING_SYNC);
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	rig_close(r);
}

/* --- changes of the ring ---------------------------------------------------------------------- */

static void nothing_is_kept_over_the_end_of_the_ring(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, LONG_NS);

	assert_int_equal(send(r, 3, 64), 0);
	post(r, LOOP_RING_STOP);
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	/* The loop knows nothing of it any more. */
	assert_int_equal(wait_turns(r), 0);
	rig_close(r);
}

static void a_change_of_the_ring_ends_the_wait(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, LONG_NS);

	assert_int_equal(send(r, 3, 64), 0);
	r->op.conf = r->k->vq.conf;
	post(r, LOOP_RING_SYNC);
	assert_int_equal(rk_drain(r->k->call_fd), 1);
	assert_int_equal(send(r, 3, 64), 0);
	rig_close(r);
}

static void rings_wait_side_by_side(void **state)
{
	struct rig *r = rig_turning(state, 0, 256, LONG_NS);
	struct ringkit *first = r->k, *second;

	second = rk_open_stopped(*(const uint64_t *)*state, 256, rk_base(first->packed));
	second->vq.poll = late_poll;
	second->vq.moderate_ns = SHORT_NS;
	r->k = second;
	post(r, LOOP_RING_START);
	rk_drain(second->call_fd);
	for (unsigned int i = 0; i < 3; i++) {
		r->k = first;
		assert_int_equal(send(r, 1, 64), 0);
		r->k = second;
		assert_int_equal(send(r, 1, 64) + wait_turns(r), 1);
		assert_int_equal(rk_drain(first->call_fd), 0);
	}
	/* Each may go first. */
	r->k = first;
	assert_int_equal(send(r, 1, 64), 0);
	post(r, LOOP_RING_STOP);
	assert_int_equal(rk_drain(first->call_fd), 1);
	r->k = second;
	send(r, 1, 64);
	post(r, LOOP_RING_STOP);
	rk_close(first);
	rig_close(r);
}

/* --- asleep ----------------------------------------------------------------------------------- */

static void a_loop_that_sleeps_wakes_for_it(void **state)
{
	struct rig *r = rig_open(*(const uint64_t *)*state, 256, false, SHORT_NS);
	struct pollfd p = { .fd = r->k->call_fd, .events = POLLIN };
	const struct rk_buf buf = { RK_BUF, 64, 0 };

	for (unsigned int i = 0; i < 3; i++) {
		/* The guard of the notifications before (notify.c) ticks no more, and
		 * wakes nobody. */
		usleep(100000);
		rk_put(r->k, 0, &buf, 1);
		rk_kick(r->k, 1);
		assert_int_equal(poll(&p, 1, -1), 1);
		assert_int_equal(rk_drain(r->k->call_fd), 1);
		take_back(r);
	}
	rig_close(r);
}

int main(void)
{
#define BOTH(f)                                                                                    \
	cmocka_unit_test_prestate(f, (void *)&split_kind),                                         \
		cmocka_unit_test_prestate(f, (void *)&packed_kind)
	const struct CMUnitTest tests[] = {
		BOTH(several_buffers_are_one_notification),
		BOTH(the_time_ends),
		BOTH(without_moderation_each_is_notified),
		BOTH(a_quarter_of_the_ring_is_much),
		BOTH(so_are_64_buffers),
		BOTH(so_is_half_a_mebibyte),
		BOTH(a_ring_of_one_buffer_has_nothing_to_wait_for),
		BOTH(a_driver_that_wants_none_gets_none_later_either),
		BOTH(a_driver_that_looked_by_itself_is_not_interrupted),
		BOTH(nothing_is_kept_over_the_end_of_the_ring),
		BOTH(a_change_of_the_ring_ends_the_wait),
		BOTH(rings_wait_side_by_side),
		BOTH(a_loop_that_sleeps_wakes_for_it),
	};
#undef BOTH

	return cmocka_run_group_tests(tests, NULL, NULL);
}
