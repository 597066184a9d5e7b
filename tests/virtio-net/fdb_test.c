/*
 * The MAC table: finding, learning, holding, ageing, making room, and all of that
 * by several loops at once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "virtio-net/fdb.h"

#define MAX_AGE 100

static struct fdb *open_table(uint32_t max)
{
	struct fdb *t = fdb_create(max, MAX_AGE);

	assert_non_null(t);
	return t;
}

static uint64_t key_of(uint32_t n)
{
	return fdb_key(0x020000000000ull | (uint64_t)n << 8, 1);
}

static uint32_t find(const struct fdb *t, uint64_t key)
{
	return fdb_find(t, key, fdb_hash(t, key));
}

static enum fdb_result see(struct fdb *t, uint64_t key, uint16_t port, uint32_t tick)
{
	return fdb_see(t, key, fdb_hash(t, key), port, tick);
}

static void what_is_learned_is_found_in_its_vlan(void **state)
{
	struct fdb *t = open_table(16);
	uint64_t ten = fdb_key(0x1234, 10), twenty = fdb_key(0x1234, 20);

	assert_int_equal(find(t, ten), FDB_NONE);
	assert_int_equal(fdb_learn(t, ten, 3, 0, 1), FDB_LEARNED);
	assert_int_equal(find(t, ten), 3);
	assert_int_equal(find(t, twenty), FDB_NONE);
	assert_int_equal(fdb_learn(t, twenty, 4, FDB_SECURED, 1), FDB_LEARNED);
	assert_int_equal(find(t, twenty), 4 | FDB_SECURED);
	assert_int_equal(find(t, ten), 3);
	assert_int_equal(t->nr, 2);
	fdb_destroy(t);
}

static void as_many_are_found_as_the_table_has_room_for(void **state)
{
	uint32_t max = 1 << 15; /* half of the slots there are */
	struct fdb *t = open_table(max);
	unsigned int lost = 0;

	for (uint32_t n = 0; n < max; n++)
		assert_int_equal(fdb_learn(t, key_of(n), (uint16_t)(n % 1000), 0, 1), FDB_LEARNED);
	for (uint32_t n = 0; n < max; n++) {
		uint32_t where = find(t, key_of(n));

		assert_true(where == n % 1000 || where == FDB_NONE);
		lost += where == FDB_NONE;
	}
	/* Where buckets happen to be full all around: one in a million. */
	assert_true(lost < 10);
	assert_int_equal(t->stats.evicted, lost);
	assert_int_equal(t->nr, max - lost);
	for (uint32_t n = 0; n < max; n++)
		fdb_forget(t, key_of(n));
	assert_int_equal(t->nr, 0);
	assert_int_equal(t->nr_ports, 0);
	fdb_destroy(t);
}

static void an_address_stays_where_it_was_seen_just_now(void **state)
{
	struct fdb *t = open_table(16);
	uint64_t key = key_of(1);

	fdb_learn(t, key, 1, 0, 10);
	assert_int_equal(see(t, key, 2, 10), FDB_HELD);
	assert_int_equal(fdb_learn(t, key, 2, 0, 11), FDB_HELD);
	assert_int_equal(see(t, key, 1, 11), FDB_KNOWN);
	assert_int_equal(see(t, key, 2, 12), FDB_HELD);
	assert_int_equal(see(t, key, 2, 13), FDB_UNKNOWN);
	assert_int_equal(fdb_learn(t, key, 2, 0, 13), FDB_MOVED);
	assert_int_equal(find(t, key), 2);
	/* Another loop's clock may be a tick behind. */
	assert_int_equal(see(t, key, 1, 12), FDB_HELD);
	assert_int_equal(t->nr_of[1], 0);
	assert_int_equal(t->nr_of[2], 1);
	assert_int_equal(t->stats.moved, 1);
	fdb_destroy(t);
}

static void static_and_secured_addresses_do_not_move(void **state)
{
	struct fdb *t = open_table(16);

	assert_int_equal(fdb_set_static(t, key_of(1), 1, 0), 0);
	fdb_learn(t, key_of(2), 2, FDB_SECURED, 0);
	assert_int_equal(fdb_learn(t, key_of(1), 5, 0, 1000), FDB_PINNED);
	assert_int_equal(fdb_learn(t, key_of(2), 5, 0, 1000), FDB_PINNED);
	assert_int_equal(see(t, key_of(1), 1, 1000), FDB_KNOWN);
	/* What ages is the secured one, static ones never. */
	fdb_age(t, 2000);
	assert_int_equal(find(t, key_of(1)), 1 | FDB_STATIC);
	assert_int_equal(fdb_learn(t, key_of(2), 5, 0, 2000), FDB_LEARNED);
	/* The operator may set it elsewhere, and over what was learned. */
	assert_int_equal(fdb_set_static(t, key_of(1), 7, 0), 0);
	assert_int_equal(fdb_set_static(t, key_of(2), 7, 0), 0);
	assert_int_equal(find(t, key_of(2)), 7 | FDB_STATIC);
	assert_int_equal(t->nr, 2);
	assert_int_equal(t->nr_static, 2);
	assert_int_equal(fdb_forget(t, key_of(1)), 0);
	assert_int_equal(fdb_forget(t, key_of(1)), -ENOENT);
	assert_int_equal(t->nr_static, 1);
	fdb_destroy(t);
}

static void ages_count_from_when_it_was_last_seen(void **state)
{
	/* Where the number of ticks begins again from zero. */
	uint32_t begin = UINT32_MAX - MAX_AGE / 2;
	struct fdb *t = open_table(16);

	fdb_learn(t, key_of(1), 1, 0, begin);
	fdb_learn(t, key_of(2), 1, 0, begin);
	fdb_age(t, begin + MAX_AGE);
	assert_int_equal(t->nr, 2);
	assert_int_equal(see(t, key_of(2), 1, begin + MAX_AGE), FDB_KNOWN);
	fdb_age(t, begin + MAX_AGE + 1);
	assert_int_equal(find(t, key_of(1)), FDB_NONE);
	assert_int_equal(find(t, key_of(2)), 1);
	assert_int_equal(t->stats.aged, 1);
	fdb_destroy(t);
}

static void a_port_that_fills_the_table_pushes_out_its_own(void **state)
{
	struct fdb *t = open_table(1000);
	uint32_t tick = 1;

	for (uint32_t n = 0; n < 100; n++)
		fdb_learn(t, key_of(n), 1, 0, tick);
	for (uint32_t n = 1000; n < 20000; n++)
		fdb_learn(t, key_of(n), 2, 0, ++tick);
	assert_int_equal(t->nr, 1000);
	assert_int_equal(t->nr_of[1], 100);
	for (uint32_t n = 0; n < 100; n++)
		assert_int_equal(find(t, key_of(n)), 1);
	/* And others get room as they need it, up to their share. */
	for (uint32_t n = 100; n < 500; n++)
		assert_int_equal(fdb_learn(t, key_of(n), 1, 0, ++tick), FDB_LEARNED);
	assert_int_equal(t->nr_of[1], 500);
	assert_int_equal(t->nr_of[2], 500);
	assert_int_equal(t->nr, 1000);
	fdb_destroy(t);
}

static void what_goes_is_old(void **state)
{
	struct fdb *t = open_table(2000);
	unsigned int young = 0;

	for (uint32_t n = 0; n < 2000; n++)
		fdb_learn(t, key_of(n), 1, 0, n < 1000 ? 1 : 100);
	for (uint32_t n = 2000; n < 2500; n++)
		fdb_learn(t, key_of(n), 1, 0, 100);
	for (uint32_t n = 1000; n < 2000; n++)
		young += find(t, key_of(n)) == 1;
	/* Each time the oldest of some, so hardly ever a young one. */
	assert_true(young > 950);
	fdb_destroy(t);
}

static void statics_take_room_from_learned_ones_only(void **state)
{
	struct fdb *t = open_table(100);

	for (uint32_t n = 0; n < 100; n++)
		fdb_learn(t, key_of(n), 1, 0, 1);
	for (uint32_t n = 1000; n < 1100; n++)
		assert_int_equal(fdb_set_static(t, key_of(n), 2, 1), 0);
	assert_int_equal(fdb_set_static(t, key_of(2000), 2, 1), -ENOSPC);
	assert_int_equal(fdb_learn(t, key_of(2000), 1, 0, 1), FDB_FULL);
	assert_int_equal(t->stats.full, 1);
	assert_int_equal(t->nr_static, 100);
	fdb_destroy(t);
}

static void a_flush_takes_what_it_is_asked_for(void **state)
{
	struct fdb *t = open_table(100);

	fdb_learn(t, key_of(1), 1, 0, 1);
	fdb_learn(t, key_of(2), 2, 0, 1);
	fdb_set_static(t, key_of(3), 1, 1);
	fdb_flush(t, 1, false);
	assert_int_equal(find(t, key_of(1)), FDB_NONE);
	assert_int_equal(find(t, key_of(2)), 2);
	assert_int_equal(find(t, key_of(3)), 1 | FDB_STATIC);
	fdb_flush(t, 1, true);
	assert_int_equal(find(t, key_of(3)), FDB_NONE);
	fdb_flush(t, -1, true);
	assert_int_equal(t->nr, 0);
	fdb_destroy(t);
}

static void a_loop_does_not_wait_for_a_holder_that_sleeps(void **state)
{
	struct fdb *t = open_table(100);

	fdb_learn(t, key_of(1), 1, 0, 1);
	write_once(&t->lock, 1);
	assert_int_equal(fdb_learn(t, key_of(2), 1, 0, 1), FDB_BUSY);
	/* Looking up and refreshing need no lock. */
	assert_int_equal(find(t, key_of(1)), 1);
	assert_int_equal(see(t, key_of(1), 1, 9), FDB_KNOWN);
	write_once(&t->lock, 0);
	fdb_destroy(t);
}

/* --- several at once ------------------------------------------------------------- */

#define THREADS 3
#define KEYS 300
#define STEPS 60000

struct racer {
	struct fdb *t;
	uint16_t port;
	uint64_t seed;
	bool quit;
	pthread_t thread;
};

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

/* Key n is only ever learned at ports n % 8 and n % 8 + 8: another answer is that
 * of somebody else's entry. */
static void *race(void *opaque)
{
	struct racer *r = opaque;

	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t n = (uint32_t)next_random(&r->seed) % KEYS, where;
		uint16_t port = (uint16_t)(n % 8 + next_random(&r->seed) % 2 * 8);

		if (see(r->t, key_of(n), port, step / 8) == FDB_UNKNOWN)
			fdb_learn(r->t, key_of(n), port, 0, step / 8);
		n = (uint32_t)next_random(&r->seed) % KEYS;
		where = find(r->t, key_of(n));
		if (where != FDB_NONE)
			assert(where % 8 == n % 8 && (where & ~FDB_STATIC) < 16);
	}
	write_once(&r->quit, true);
	return NULL;
}

static void check_entry(void *opaque, const struct fdb_entry *e)
{
	uint32_t n = (uint32_t)(e->key >> 8) & 0xffff;

	assert(n < KEYS && (e->where & FDB_PORT_MASK) % 8 == n % 8);
	++*(unsigned int *)opaque;
}

static void nobody_ever_sees_half_an_entry(void **state)
{
	/* Too small for all keys: entries come and go all the time. */
	struct fdb *t = open_table(200);
	struct racer racer[THREADS];
	unsigned int nr = 0, seen = 0;
	uint64_t seed = 99;

	for (unsigned int i = 0; i < THREADS; i++) {
		racer[i] = (struct racer){ .t = t, .seed = i };
		assert_int_equal(pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
	}
	do {
		uint32_t n = (uint32_t)next_random(&seed) % KEYS;

		fdb_walk(t, check_entry, &seen);
		fdb_set_static(t, key_of(n), (uint16_t)(n % 8), 0);
		fdb_forget(t, key_of(n));
		fdb_flush(t, (int)(n % 8), false);
		fdb_age(t, n);
		nr = 0;
		for (unsigned int i = 0; i < THREADS; i++)
			nr += read_once(&racer[i].quit);
	} while (nr < THREADS);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(racer[i].thread, NULL);
	/* The books are right. */
	seen = 0;
	fdb_walk(t, check_entry, &seen);
	assert_int_equal(seen, t->nr);
	nr = 0;
	for (unsigned int i = 0; i < FDB_PORTS_MAX; i++)
		nr += t->nr_of[i];
	assert_int_equal(nr, t->nr);
	assert_int_equal(t->nr_static, 0);
	fdb_flush(t, -1, true);
	assert_int_equal(t->nr, 0);
	assert_int_equal(t->nr_ports, 0);
	fdb_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_learned_is_found_in_its_vlan),
		cmocka_unit_test(as_many_are_found_as_the_table_has_room_for),
		cmocka_unit_test(an_address_stays_where_it_was_seen_just_now),
		cmocka_unit_test(static_and_secured_addresses_do_not_move),
		cmocka_unit_test(ages_count_from_when_it_was_last_seen),
		cmocka_unit_test(a_port_that_fills_the_table_pushes_out_its_own),
		cmocka_unit_test(what_goes_is_old),
		cmocka_unit_test(statics_take_room_from_learned_ones_only),
		cmocka_unit_test(a_flush_takes_what_it_is_asked_for),
		cmocka_unit_test(a_loop_does_not_wait_for_a_holder_that_sleeps),
		cmocka_unit_test(nobody_ever_sees_half_an_entry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
