/*
 * virtq_track.c: whenever a back-end is killed, the next one carries out what was in
 * flight, all of it, once, in its order; and what the memory says that tells of it
 * may be anything.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "vhost/virtq_track.h"

#define SIZE 16
#define SPLIT RK_FEATURES
#define PACKED (RK_FEATURES | RK_PACKED)

struct track {
	struct ringkit *k;
	uint64_t features;
	void *region; /* shared with children */
};

/* Every id has chains of its own length and buffers. */
static unsigned int nr_of(const struct track *t, uint16_t id)
{
	return t->k->packed ? 1 + (id % 5 == 0) + (id % 7 == 0) : 1;
}

static uint32_t len_of(const struct track *t, uint16_t id)
{
	return nr_of(t, id) * (100u + id);
}

static void put(struct track *t, uint16_t id)
{
	struct rk_buf bufs[3];

	for (unsigned int i = 0; i < nr_of(t, id); i++)
		bufs[i] = (struct rk_buf){ RK_BUF + 4096ull * i, 100u + id, VIRTQ_DESC_F_WRITE };
	rk_put(t->k, id, bufs, nr_of(t, id));
}

/* A back-end ends without a word; the next one is told what QEMU says. */
static void crash_to(struct track *t, void *region, uint32_t base)
{
	struct virtq *vq = &t->k->vq;
	struct virtq_conf conf = rk_conf(t->k, t->features, SIZE, base);

	for (uint16_t id = 0; id < SIZE; id++)
		vq->slot[id].busy = false;
	vq->inflight[0] = 0;
	if (vq->state == VIRTQ_STARTED)
		virtq_set_state(vq, VIRTQ_DRAINING);
	if (vq->state == VIRTQ_DRAINING)
		virtq_set_state(vq, VIRTQ_STOPPED);
	virtq_fini(vq);
	conf.inflight = region;
	conf.inflight_num = SIZE;
	assert_int_equal(virtq_init(vq, &conf, -1), 0);
	virtq_set_state(vq, VIRTQ_STARTED);
}

static void crash(struct track *t)
{
	crash_to(t, t->region, rk_base(t->k->packed));
}

static struct track open_track(uint64_t features)
{
	bool packed = features & RK_PACKED;
	struct track t = { .features = features };

	t.region = mmap(NULL, virtq_track_len(packed, SIZE), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(t.region != MAP_FAILED);
	t.k = rk_open(features, SIZE, rk_base(packed));
	t.k->vq.name = "ring";
	crash(&t);
	return t;
}

static void close_track(struct track *t)
{
	uint64_t len = virtq_track_len(t->k->packed, SIZE);

	rk_close(t->k);
	munmap(t->region, len);
}

static void expect_back(struct track *t, uint16_t id)
{
	uint16_t got = UINT16_MAX;
	uint32_t len;

	assert_true(rk_get(t->k, &got, &len));
	assert_int_equal(got, id);
}

static void expect_pop(struct track *t, uint16_t id)
{
	struct virtq_chain c = rk_pop(t->k);

	assert_int_equal(c.error, 0);
	assert_int_equal(c.id, id);
	assert_int_equal(c.in_len, len_of(t, id));
}

static void serve(struct track *t, uint16_t id)
{
	expect_pop(t, id);
	virtq_push(&t->k->vq, id, 1);
	virtq_flush(&t->k->vq);
	expect_back(t, id);
}

static void a_ring_goes_on_in_every_place(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int i = 0; i < 5 * SIZE; i++) {
		put(&t, i % SIZE);
		serve(&t, i % SIZE);
		crash(&t);
		assert_false(t.k->vq.broken);
		assert_int_equal(t.k->vq.avail_idx, t.k->avail_idx);
		if (t.k->packed)
			assert_int_equal(t.k->vq.avail_wrap, t.k->avail_wrap);
		rk_pop_none(t.k);
	}
	close_track(&t);
}

/* Whatever order they are given back in; and what was pushed and not published. */
static void what_was_in_flight_is_popped_first_in_its_order(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int i = 0; i < 40; i++) {
		for (uint16_t id = 1; id < 6; id++)
			put(&t, id);
		for (uint16_t id = 1; id < 5; id++)
			expect_pop(&t, id);
		virtq_push(&t.k->vq, 2, 1);
		virtq_flush(&t.k->vq);
		expect_back(&t, 2);
		virtq_push(&t.k->vq, 4, 1);
		crash(&t);
		put(&t, 2);
		assert_true(virtq_has_work(&t.k->vq));
		expect_pop(&t, 1);
		/* Once more, with one of them popped again. */
		crash(&t);
		serve(&t, 1);
		serve(&t, 3);
		serve(&t, 4);
		serve(&t, 5);
		serve(&t, 2);
		rk_pop_none(t.k);
	}
	close_track(&t);
}

/* Of a batch all but its first descriptor say at once that they are used. */
static void what_was_never_published_is_not_seen_later(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);
	uint16_t got;
	uint32_t len;

	for (unsigned int i = 0; i < 40; i++) {
		for (uint16_t id = 1; id < 5; id++)
			put(&t, id);
		for (uint16_t id = 1; id < 5; id++)
			expect_pop(&t, id);
		for (uint16_t id = 4; id > 0; id--)
			virtq_push(&t.k->vq, id, 1);
		crash(&t);
		for (uint16_t id = 1; id < 5; id++) {
			serve(&t, id);
			assert_false(rk_get(t.k, &got, &len));
		}
	}
	close_track(&t);
}

/* All that a chain is, whatever has become of its descriptors in the ring. */
static void an_indirect_chain_is_popped_again(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 },
				       { RK_BUF + 4096, 512, VIRTQ_DESC_F_WRITE },
				       { RK_BUF + 8192, 1, VIRTQ_DESC_F_WRITE } };
	struct virtq_chain c;

	rk_put_indirect(t.k, 3, RK_TABLE, bufs, 3);
	put(&t, 1);
	rk_pop(t.k);
	serve(&t, 1);
	crash(&t);
	c = rk_pop(t.k);
	assert_int_equal(c.id, 3);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 513);
	rk_complete(t.k, 3, 513);
	close_track(&t);
}

/* Nobody else would know of them, when the front-end forgets the memory. */
static void a_ring_is_not_stopped_before_they_are_popped(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);

	put(&t, 1);
	put(&t, 2);
	expect_pop(&t, 1);
	crash(&t);
	virtq_set_state(&t.k->vq, VIRTQ_DRAINING);
	assert_true(virtq_again_is_due(&t.k->vq));
	serve(&t, 1);
	assert_false(virtq_again_is_due(&t.k->vq));
	rk_pop_none(t.k);
	close_track(&t);
}

static void a_disabled_ring_keeps_them_for_later(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);

	put(&t, 1);
	expect_pop(&t, 1);
	crash(&t);
	t.k->vq.conf.enabled = false;
	rk_pop_none(t.k);
	assert_false(virtq_again_is_due(&t.k->vq));
	t.k->vq.conf.enabled = true;
	serve(&t, 1);
	close_track(&t);
}

static void what_is_rewound_was_not_in_flight(void **state)
{
	const uint16_t ids[] = { 1, 5, 2 };
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int i = 0; i < 20; i++) {
		for (unsigned int n = 0; n < 3; n++)
			put(&t, ids[n]);
		for (unsigned int n = 0; n < 3; n++)
			expect_pop(&t, ids[n]);
		virtq_rewind(&t.k->vq, ids + 1, 2);
		crash(&t);
		assert_int_equal(t.k->vq.again_left, 1);
		for (unsigned int n = 0; n < 3; n++)
			serve(&t, ids[n]);
	}
	close_track(&t);
}

static void what_is_popped_again_may_be_rewound_too(void **state)
{
	const uint16_t ids[] = { 1, 5, 2 };
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int n = 0; n < 3; n++)
		put(&t, ids[n]);
	expect_pop(&t, 1);
	expect_pop(&t, 5);
	crash(&t);
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int n = 0; n < 3; n++)
			expect_pop(&t, ids[n]);
		virtq_rewind(&t.k->vq, ids + i, 3 - i);
		for (unsigned int n = i; n < 3; n++)
			expect_pop(&t, ids[n]);
		virtq_rewind(&t.k->vq, ids, 3);
	}
	for (unsigned int n = 0; n < 3; n++)
		serve(&t, ids[n]);
	rk_pop_none(t.k);
	close_track(&t);
}

/* A driver that came later: the device was reset, and the memory with it. */
static void a_ring_that_begins_anew_begins_where_it_is_said(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int i = 0; i < 7; i++) {
		put(&t, 1);
		serve(&t, 1);
	}
	memset(rk_mem(t.k, RK_DESC), 0, virtq_desc_len(t.k->packed, SIZE));
	memset(rk_mem(t.k, RK_DRIVER), 0, virtq_driver_len(t.k->packed, SIZE));
	memset(rk_mem(t.k, RK_DEVICE), 0, virtq_device_len(t.k->packed, SIZE));
	memset(t.region, 0, virtq_track_len(t.k->packed, SIZE));
	rk_driver_reset(t.k, t.k->packed, SIZE, rk_base(t.k->packed));
	crash(&t);
	for (unsigned int i = 0; i < 20; i++) {
		put(&t, 3);
		serve(&t, 3);
		crash(&t);
	}
	close_track(&t);
}

/* --- a driver that does not play fair ------------------------------------------- */

static void more_in_flight_than_the_ring_has_breaks_it(void **state)
{
	const struct rk_buf buf = { RK_BUF, 100, VIRTQ_DESC_F_WRITE };
	struct track t = open_track(*(const uint64_t *)*state);

	for (unsigned int round = 0; round < 4 && !t.k->vq.broken; round++) {
		struct virtq_chain c;

		for (uint16_t id = 0; id < SIZE; id++)
			rk_put(t.k, id, &buf, 1);
		/* Published late, and made available before. */
		while (virtq_pop(&t.k->vq, &c))
			virtq_push(&t.k->vq, c.id, 0);
	}
	assert_true(t.k->vq.broken);
	crash(&t);
	close_track(&t);
}

static void what_makes_no_sense_breaks_the_ring_and_nothing_else(void **state)
{
	struct track t = open_track(*(const uint64_t *)*state);
	uint64_t len = virtq_track_len(t.k->packed, SIZE);
	unsigned int broken = 0;
	/* Of its own, for sanitizers to see what is behind it. */
	uint8_t *region = aligned_alloc(64, len), *good = malloc(len);

	srand(2);
	put(&t, 5);
	put(&t, 2);
	put(&t, 3);
	rk_pop(t.k);
	rk_pop(t.k);
	memcpy(good, t.region, len);
	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int nr = 1 + (unsigned int)rand() % 4;
		struct virtq_chain c;

		memcpy(region, good, len);
		for (unsigned int n = 0; n < nr; n++)
			region[(unsigned int)rand() % (i % 2 ? len : 64)] =
				(uint8_t)(rand() % 3 ? rand() % 20 : rand());
		crash_to(&t, region, rk_base(t.k->packed));
		for (unsigned int n = 0; n < 2 * SIZE && virtq_pop(&t.k->vq, &c); n++)
			if (n % 2) {
				virtq_push(&t.k->vq, c.id, 0);
				virtq_flush(&t.k->vq);
			}
		broken += t.k->vq.broken;
	}
	assert_true(broken > 100 && broken < 20000);
	crash(&t);
	close_track(&t);
	free(region);
	free(good);
}

/* --- killed at any instruction --------------------------------------------------- */

static struct victim {
	uint64_t features;
	bool newest_first, one_by_one;
} victims[] = {
	{ SPLIT, false, false },
	{ SPLIT, true, true },
	{ SPLIT, true, false },
	{ PACKED, false, false },
	{ PACKED, true, true },
	{ PACKED, true, false },
	{ PACKED | RK_IN_ORDER, true, false },
};

enum {
	CHILD_WRONG = 3,
	CHILDREN = 150,
};

static void child_turn(struct track *t, const struct victim *v)
{
	struct virtq *vq = &t->k->vq;
	uint16_t ids[SIZE];
	struct virtq_chain c;
	unsigned int nr = 0;

	while (nr < SIZE && virtq_pop(vq, &c)) {
		if (c.error || c.in_len != len_of(t, c.id)) {
			print_error("a chain of id %u, length %llu, error %d\n", c.id,
				    (unsigned long long)c.in_len, c.error);
			_exit(CHILD_WRONG);
		}
		ids[nr++] = c.id;
	}
	for (unsigned int i = 0; i < nr; i++) {
		virtq_push(vq, ids[v->newest_first ? nr - 1 - i : i], 1);
		if (v->one_by_one)
			virtq_flush(vq);
	}
	virtq_flush(vq);
	if (vq->broken) {
		print_error("a broken ring\n");
		_exit(CHILD_WRONG);
	}
	if (!nr)
		sched_yield();
}

struct driver {
	struct track t;
	unsigned int used_entries; /* in the ring */
	bool open[SIZE];
	uint64_t back;
};

/* What fits; then what has come back. Every chain once. */
static void drive(struct driver *d)
{
	uint64_t before = d->back;
	uint16_t id;
	uint32_t len;

	for (id = 0; id < SIZE; id++) {
		if (d->open[id] || d->used_entries + nr_of(&d->t, id) > SIZE || rand() % 4 == 0)
			continue;
		d->open[id] = true;
		d->used_entries += nr_of(&d->t, id);
		put(&d->t, id);
	}
	while (rk_get(d->t.k, &id, &len)) {
		assert_true(d->open[id]);
		d->open[id] = false;
		d->used_entries -= nr_of(&d->t, id);
		d->back++;
	}
	if (d->back == before)
		sched_yield();
}

/* Drive until it has served some, and kill it. */
static void live_and_die(struct driver *d, const struct victim *v)
{
	uint64_t enough = d->back + 1 + (unsigned int)rand() % 300;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		crash(&d->t);
		for (;;)
			child_turn(&d->t, v);
	}
	while (d->back < enough) {
		if (waitpid(pid, &status, WNOHANG))
			fail_msg("the back-end ended with %#x", status);
		drive(d);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void killed_at_any_moment_it_loses_and_repeats_nothing(void **state)
{
	const struct victim *v = *state;
	struct driver d = { .t = open_track(v->features) };

	log_set_level(LOG_LEVEL_WARNING);
	srand(1);
	for (unsigned int i = 0; i < CHILDREN; i++)
		live_and_die(&d, v);
	crash(&d.t);
	close_track(&d.t);
}

static uint64_t kinds[] = { SPLIT, PACKED };

#define EACH_KIND(name)                                                                            \
	{ #name " split", name, NULL, NULL, &kinds[0] },                                           \
	{                                                                                          \
#name " packed", name, NULL, NULL, &kinds[1]                                       \
	}
#define EACH_VICTIM(n)                                                                             \
	{                                                                                          \
		"killed_at_any_moment_it_loses_and_repeats_nothing " #n,                           \
			killed_at_any_moment_it_loses_and_repeats_nothing, NULL, NULL, &victims[n] \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH_KIND(a_ring_goes_on_in_every_place),
		EACH_KIND(what_was_in_flight_is_popped_first_in_its_order),
		EACH_KIND(what_was_never_published_is_not_seen_later),
		EACH_KIND(an_indirect_chain_is_popped_again),
		EACH_KIND(a_ring_is_not_stopped_before_they_are_popped),
		EACH_KIND(a_disabled_ring_keeps_them_for_later),
		EACH_KIND(what_is_rewound_was_not_in_flight),
		EACH_KIND(what_is_popped_again_may_be_rewound_too),
		EACH_KIND(a_ring_that_begins_anew_begins_where_it_is_said),
		EACH_KIND(more_in_flight_than_the_ring_has_breaks_it),
		EACH_KIND(what_makes_no_sense_breaks_the_ring_and_nothing_else),
		EACH_VICTIM(0),
		EACH_VICTIM(1),
		EACH_VICTIM(2),
		EACH_VICTIM(3),
		EACH_VICTIM(4),
		EACH_VICTIM(5),
		EACH_VICTIM(6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
