/*
 * virtq_recover.c: a packed ring goes on where it stood when a back-end was
 * killed, whatever base the front-end sends; or breaks if nobody knows.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vhost/virtq_burst.h"
#include "vhost/virtq_internal.h"

#define SIZE 16
#define FEATURES (RK_FEATURES | RK_PACKED)

/* Every id has chains of its own length and buffers. */
static unsigned int nr_of(uint16_t id)
{
	return 1 + (id % 5 == 0) + (id % 7 == 0);
}

static uint32_t len_of(uint16_t id)
{
	return nr_of(id) * (100u + id);
}

static void put(struct ringkit *k, uint16_t id, uint16_t flags)
{
	struct rk_buf bufs[3];

	for (unsigned int i = 0; i < nr_of(id); i++)
		bufs[i] = (struct rk_buf){ RK_BUF + 4096ull * i, 100u + id, flags };
	rk_put(k, id, bufs, nr_of(id));
}

/* A back-end ends without a word, and the next one is told that base. */
static void begin_anew(struct ringkit *k, uint64_t features, uint32_t base, bool fifo)
{
	struct virtq_conf conf = rk_conf(k, features, SIZE, base);

	conf.fifo = fifo;
	for (uint16_t id = 0; id < SIZE; id++)
		k->vq.slot[id].busy = false;
	k->vq.inflight[0] = 0;
	if (k->vq.state == VIRTQ_STARTED)
		virtq_set_state(&k->vq, VIRTQ_DRAINING);
	if (k->vq.state == VIRTQ_DRAINING)
		virtq_set_state(&k->vq, VIRTQ_STOPPED);
	virtq_fini(&k->vq);
	assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
	virtq_set_state(&k->vq, VIRTQ_STARTED);
}

static void crash(struct ringkit *k)
{
	begin_anew(k, FEATURES, rk_base(true), false);
}

static void expect_back(struct ringkit *k, uint16_t id)
{
	uint16_t got = UINT16_MAX;
	uint32_t len;

	assert_true(rk_get(k, &got, &len));
	assert_int_equal(got, id);
}

static void serve(struct ringkit *k, uint16_t id)
{
	struct virtq_chain c = rk_pop(k);

	assert_int_equal(c.error, 0);
	assert_int_equal(c.id, id);
	assert_int_equal(c.out_len, len_of(id));
	virtq_push(&k->vq, id, 0);
	virtq_flush(&k->vq);
	expect_back(k, id);
}

static void it_goes_on_in_every_place_of_both_rounds(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (unsigned int i = 0; i < 5 * SIZE; i++) {
		uint16_t id = i % SIZE;

		put(k, id, 0);
		serve(k, id);
		crash(k);
		assert_false(k->vq.broken);
		assert_int_equal(k->vq.avail_idx, k->avail_idx);
		assert_int_equal(k->vq.avail_wrap, k->avail_wrap);
	}
	rk_close(k);
}

static void what_was_not_given_back_is_served_again(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (unsigned int i = 0; i < 40; i++) {
		put(k, 1, 0);
		serve(k, 1);
		for (uint16_t id = 2; id < 6; id++)
			put(k, id, 0);
		rk_pop(k);
		rk_pop(k);
		rk_drain(k->call_fd);
		crash(k);
		/* It may have been killed before it told the driver. */
		assert_true(rk_drain(k->call_fd) || i == 0);
		for (uint16_t id = 2; id < 6; id++)
			serve(k, id);
		rk_pop_none(k);
	}
	rk_close(k);
}

/* The driver has made available anew what held every mark. */
static void a_full_ring_of_untouched_chains_begins_behind_the_driver(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (unsigned int round = 0; round < 3; round++) {
		for (uint16_t id = 0; id < 3; id++) {
			put(k, 1, 0);
			serve(k, 1);
		}
		for (uint16_t n = 0; n < SIZE; n++) {
			struct rk_buf buf = { RK_BUF, 100u + n, 0 };

			rk_put(k, n, &buf, 1);
		}
		begin_anew(k, FEATURES, round % 2 ? rk_base(true) : virtq_base(&k->vq), round % 2);
		for (uint16_t n = 0; n < SIZE; n++) {
			assert_int_equal(rk_pop(k).id, n);
			rk_complete(k, n, 0);
		}
	}
	rk_close(k);
}

/* The marks that would have told of the order are gone. */
static void a_full_ring_breaks_if_the_order_is_not_that_of_the_driver(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));
	const struct rk_buf buf = { RK_BUF, 100, 0 };

	for (uint16_t id = 0; id < SIZE; id++)
		rk_put(k, id, &buf, 1);
	rk_pop(k);
	rk_pop(k);
	rk_complete(k, 1, 0);
	rk_put(k, 1, &buf, 1);
	crash(k);
	assert_true(k->vq.broken);
	rk_close(k);
}

static void nobody_knows_what_was_completed_out_of_order(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (uint16_t id = 1; id < 4; id++) {
		put(k, id, 0);
		assert_int_equal(rk_pop(k).id, id);
	}
	rk_complete(k, 2, 0);
	rk_drain(k->err_fd);
	crash(k);
	assert_true(k->vq.broken);
	assert_int_equal(rk_drain(k->err_fd), 1);
	rk_pop_none(k);
	rk_close(k);
}

static void order_does_not_matter_once_all_before_are_back(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (unsigned int i = 0; i < 50; i++) {
		for (uint16_t id = 4; id < 8; id++)
			put(k, id, 0);
		for (uint16_t id = 4; id < 7; id++)
			assert_int_equal(rk_pop(k).id, id);
		rk_complete(k, 6, 0);
		rk_complete(k, 4, 0);
		rk_complete(k, 5, 0);
		crash(k);
		assert_false(k->vq.broken);
		serve(k, 7);
	}
	rk_close(k);
}

/* All of a batch is written but for its first descriptor, or for the flags of that. */
static void a_batch_that_was_not_published_is_finished(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));
	struct virtq_buf buf[SIZE];
	struct virtq_burst b;

	for (unsigned int i = 0; i < 8 * SIZE; i++) {
		struct pvirtq_desc *first = &k->pdesc[k->avail_idx], before;
		unsigned int nr = 1 + i % 6;

		for (uint16_t n = 0; n < nr; n++)
			put(k, (uint16_t)(n + i % 3), VIRTQ_DESC_F_WRITE);
		before = *first;
		virtq_burst_begin(&k->vq, &b, buf, SIZE, true);
		assert_int_equal(virtq_burst_look(&k->vq, &b, SIZE), nr);
		virtq_burst_use(&k->vq, &b, nr);
		if (i % 2 && nr > 1)
			*first = before;
		else
			first->flags = before.flags;
		/* With a base that is stale for sure. */
		begin_anew(k, FEATURES, virtq_base(&k->vq) ^ 0x80008000, false);
		for (uint16_t n = 0; n < nr; n++)
			expect_back(k, (uint16_t)(n + i % 3));
		rk_pop_none(k);
	}
	rk_close(k);
}

/* --- another back-end, which leaves no marks ------------------------------------- */

static void erase_marks(struct ringkit *k)
{
	for (unsigned int i = 0; i < SIZE; i++)
		if (virtq_is_mark(le64_to_cpu(k->pdesc[i].addr)))
			k->pdesc[i].addr = cpu_to_le64(RK_BUF);
}

static void without_marks_a_base_that_can_be_right_stands(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	for (unsigned int i = 0; i < 40; i++) {
		put(k, 5, 0);
		serve(k, 5);
		put(k, 1, 0);
		put(k, 5, 0);
		erase_marks(k);
		begin_anew(k, FEATURES, virtq_base(&k->vq), false);
		assert_false(k->vq.broken);
		serve(k, 1);
		serve(k, 5);
	}
	rk_close(k);
}

static void without_marks_a_base_that_cannot_be_right_breaks_the_ring(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));

	put(k, 1, 0);
	serve(k, 1);
	erase_marks(k);
	crash(k);
	/* Nothing was open: there is one place only where it can be. */
	assert_false(k->vq.broken);
	put(k, 1, 0);
	serve(k, 1);
	put(k, 1, 0);
	erase_marks(k);
	crash(k);
	assert_true(k->vq.broken);
	rk_close(k);
}

/* A driver that does not set AVAIL in all of a chain: the base is believed. */
static void a_ring_that_does_not_say_is_taken_as_the_base_says(void **state)
{
	struct ringkit *k = rk_open(FEATURES, SIZE, rk_base(true));
	uint32_t base;

	put(k, 1, 0);
	serve(k, 1);
	k->pdesc[9].flags = cpu_to_le16(VIRTQ_DESC_F_AVAIL);
	base = virtq_base(&k->vq);
	begin_anew(k, FEATURES, base, false);
	assert_false(k->vq.broken);
	assert_int_equal(virtq_base(&k->vq), base);
	rk_close(k);
}

/* --- killed at any instruction ---------------------------------------------------- */

enum manner {
	BURSTS,
	POPS,
	MIXED_ORDER
};
static struct victim {
	enum manner manner;
	uint64_t features;
	uint16_t flags;
} victims[] = {
	{ BURSTS, FEATURES, VIRTQ_DESC_F_WRITE },
	{ BURSTS, FEATURES, 0 },
	{ BURSTS, FEATURES | RK_IN_ORDER, 0 },
	{ BURSTS, FEATURES | RK_IN_ORDER, VIRTQ_DESC_F_WRITE },
	{ POPS, FEATURES, VIRTQ_DESC_F_WRITE },
	{ MIXED_ORDER, FEATURES, VIRTQ_DESC_F_WRITE },
};

enum {
	CHILD_BROKEN = 3,
	CHILD_WRONG = 4,
	CHILDREN = 150
};

static void check_child(const struct ringkit *k, bool good)
{
	if (k->vq.broken)
		_exit(CHILD_BROKEN);
	if (!good)
		_exit(CHILD_WRONG);
}

static void child_bursts(struct ringkit *k, const struct victim *v)
{
	struct virtq_buf buf[SIZE];
	struct virtq_burst b;
	unsigned int nr;

	virtq_burst_begin(&k->vq, &b, buf, SIZE, v->flags);
	nr = virtq_burst_look(&k->vq, &b, SIZE);
	for (unsigned int i = 0; i < nr; i++) {
		check_child(k, !buf[i].error && buf[i].len == len_of(buf[i].id));
		buf[i].written = v->flags ? buf[i].len : 0;
	}
	virtq_burst_use(&k->vq, &b, nr);
	check_child(k, true);
	if (!nr)
		sched_yield();
}

static void child_pops(struct ringkit *k, bool in_order)
{
	uint16_t ids[SIZE];
	struct virtq_chain c;
	unsigned int nr = 0;

	while (nr < SIZE && virtq_pop(&k->vq, &c)) {
		check_child(k, !c.error && c.in_len == len_of(c.id));
		ids[nr++] = c.id;
	}
	for (unsigned int i = 0; i < nr; i++) {
		virtq_push(&k->vq, ids[in_order ? i : nr - 1 - i], 1);
		if (!in_order)
			virtq_flush(&k->vq);
	}
	virtq_flush(&k->vq);
	check_child(k, true);
	if (!nr)
		sched_yield();
}

static void child(struct ringkit *k, const struct victim *v)
{
	begin_anew(k, v->features, rk_base(true), v->manner != MIXED_ORDER);
	for (;;) {
		if (v->manner == BURSTS)
			child_bursts(k, v);
		else
			child_pops(k, v->manner == POPS);
	}
}

struct driver {
	struct ringkit *k;
	bool in_order;
	unsigned int used_entries; /* in the ring */
	bool open[SIZE];
	uint16_t order[SIZE]; /* ids in the order they were put */
	unsigned int first, next;
	uint64_t back;
};

static void take_back(struct driver *d, uint16_t id)
{
	assert_true(d->open[id]);
	d->open[id] = false;
	d->used_entries -= nr_of(id);
	d->back++;
}

/* In order, one used descriptor may be for all chains up to its own. */
static void take_back_in_order(struct driver *d, uint16_t id)
{
	struct ringkit *k = d->k;
	unsigned int nr = 0;
	uint16_t one;

	do {
		assert_true(d->first != d->next);
		one = d->order[d->first++ % SIZE];
		take_back(d, one);
		nr += nr_of(one);
	} while (one != id);
	k->used_idx = (uint16_t)(k->used_idx + nr - nr_of(id));
	if (k->used_idx >= SIZE) {
		k->used_idx -= SIZE;
		k->used_wrap = !k->used_wrap;
	}
}

/* What fits; then what has come back. Every chain once. */
static void drive(struct driver *d, uint16_t flags)
{
	uint64_t before = d->back;
	uint16_t id;
	uint32_t len;

	for (id = 0; id < SIZE; id++) {
		if (d->open[id] || d->used_entries + nr_of(id) > SIZE || rand() % 4 == 0)
			continue;
		d->open[id] = true;
		d->used_entries += nr_of(id);
		d->order[d->next++ % SIZE] = id;
		put(d->k, id, flags);
	}
	while (rk_get(d->k, &id, &len)) {
		if (d->in_order)
			take_back_in_order(d, id);
		else
			take_back(d, id);
	}
	if (d->back == before)
		sched_yield();
}

/* Drive until it has served some, and kill it. Its exit status. */
static int live_and_die(struct driver *d, const struct victim *v)
{
	uint64_t enough = d->back + 1 + (unsigned int)rand() % 300;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid)
		child(d->k, v);
	while (d->back < enough && !waitpid(pid, &status, WNOHANG))
		drive(d, v->flags);
	if (d->back < enough)
		return status;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static struct driver driver_open(const struct victim *v)
{
	return (struct driver){
		.k = rk_open_stopped(v->features, SIZE, rk_base(true)),
		.in_order = v->features & RK_IN_ORDER,
	};
}

static void killed_at_any_moment_it_loses_and_repeats_nothing(void **state)
{
	const struct victim *v = *state;
	struct driver d = driver_open(v);
	unsigned int broken = 0;

	srand(1);
	for (unsigned int i = 0; i < CHILDREN; i++) {
		int status = live_and_die(&d, v);

		if (WIFSIGNALED(status)) {
			assert_int_equal(WTERMSIG(status), SIGKILL);
			continue;
		}
		/* Nobody knows: never where chains go back in their order. */
		assert_int_equal(WEXITSTATUS(status), CHILD_BROKEN);
		assert_int_equal(v->manner, MIXED_ORDER);
		broken++;
		rk_close(d.k);
		d = driver_open(v);
	}
	if (v->manner == MIXED_ORDER)
		assert_true(broken > 0 && broken < CHILDREN);
	rk_close(d.k);
}

#define EACH_VICTIM(n)                                                                             \
	{                                                                                          \
		"killed_at_any_moment_it_loses_and_repeats_nothing " #n,                           \
			killed_at_any_moment_it_loses_and_repeats_nothing, NULL, NULL, &victims[n] \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_goes_on_in_every_place_of_both_rounds),
		cmocka_unit_test(what_was_not_given_back_is_served_again),
		cmocka_unit_test(a_full_ring_of_untouched_chains_begins_behind_the_driver),
		cmocka_unit_test(a_full_ring_breaks_if_the_order_is_not_that_of_the_driver),
		cmocka_unit_test(nobody_knows_what_was_completed_out_of_order),
		cmocka_unit_test(order_does_not_matter_once_all_before_are_back),
		cmocka_unit_test(a_batch_that_was_not_published_is_finished),
		cmocka_unit_test(without_marks_a_base_that_can_be_right_stands),
		cmocka_unit_test(without_marks_a_base_that_cannot_be_right_breaks_the_ring),
		cmocka_unit_test(a_ring_that_does_not_say_is_taken_as_the_base_says),
		EACH_VICTIM(0),
		EACH_VICTIM(1),
		EACH_VICTIM(2),
		EACH_VICTIM(3),
		EACH_VICTIM(4),
		EACH_VICTIM(5),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
