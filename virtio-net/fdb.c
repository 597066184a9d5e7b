/*
 * The forwarding database: learning, moving, ageing, making room. Loops call
 * fdb_see() and fdb_learn() (sw_forward.c), the control thread everything else.
 * It knows ports by number only, and never allocates after it was created.
 *
 * Theory of operation: fdb.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/fdb.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>

#include "core/cpu.h"

#define LOCK_TRIES 512 /* of a loop: more than any holder needs, unless preempted */
/* Looked at to make room for one entry: so many for the oldest of some, and more
 * only until there is one. */
#define VICTIM_BUCKETS 16
#define VICTIM_BUCKETS_MAX 128
#define CHUNK 256 /* buckets the control thread handles under one lock */
#define HOLD_TICKS 1

/* --- life ------------------------------------------------------------------------ */

static size_t table_size(const struct fdb *t)
{
	return (t->mask + 1) * sizeof(struct fdb_bucket);
}

struct fdb *fdb_create(uint32_t max, uint32_t max_age_ticks)
{
	struct fdb *t = numa_zalloc(sizeof(*t), -1);
	uint64_t nr = 2;

	if (!t)
		return NULL;
	assert(max && max <= FDB_SIZE_MAX);
	/* Half full at most: so both buckets of an address are hardly ever full. */
	while (nr * FDB_WAYS < 2 * (uint64_t)max)
		nr *= 2;
	t->mask = nr - 1;
	t->max = max;
	t->max_age = max_age_ticks;
	t->bucket = numa_zalloc(table_size(t), -1);
	if (!t->bucket || getrandom(t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
		fdb_destroy(t);
		return NULL;
	}
	t->seed[1] |= 1;
	return t;
}

void fdb_destroy(struct fdb *t)
{
	if (!t)
		return;
	if (t->bucket)
		numa_zfree(t->bucket, table_size(t));
	numa_zfree(t, sizeof(*t));
}

/* --- the lock -------------------------------------------------------------------- */

static bool lock_try(struct fdb *t)
{
	/* Acquire: pairs with the release in unlock(). */
	return !read_once(&t->lock) && !__atomic_exchange_n(&t->lock, 1, __ATOMIC_ACQUIRE);
}

static bool lock_soon(struct fdb *t)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (lock_try(t))
			return true;
		cpu_relax();
	}
	return false;
}

/* The control thread's way: a loop that holds it may need our CPU to go on. */
static void lock(struct fdb *t)
{
	while (!lock_soon(t))
		sched_yield();
}

static void unlock(struct fdb *t)
{
	store_release(&t->lock, 0);
}

/* --- entries; all of this with the lock ------------------------------------------ */

struct slot {
	struct fdb_bucket *b;
	unsigned int i; /* FDB_WAYS: none */
};

static const struct slot no_slot = { NULL, FDB_WAYS };

static bool is_slot(struct slot s)
{
	return s.i < FDB_WAYS;
}

static uint32_t port_of(uint32_t where)
{
	return where & FDB_PORT_MASK;
}

static void count_port(struct fdb *t, uint32_t where, int by)
{
	uint32_t *nr = &t->nr_of[port_of(where)];

	if (!*nr && by > 0)
		t->nr_ports++;
	write_once(nr, (uint32_t)((int)*nr + by));
	if (!*nr)
		t->nr_ports--;
	if (where & FDB_STATIC)
		t->nr_static = (uint32_t)((int)t->nr_static + by);
	write_once(&t->nr, (uint32_t)((int)t->nr + by));
}

static struct slot slot_find(struct fdb *t, uint64_t key, uint64_t hash)
{
	struct fdb_bucket *b = fdb_bucket(t, hash);
	uint32_t where;
	unsigned int i = fdb_find_in(b, key, &where);

	if (i == FDB_WAYS) {
		b = fdb_bucket2(t, hash);
		i = fdb_find_in(b, key, &where);
	}
	return (struct slot){ b, i };
}

static void slot_clear(struct fdb *t, struct slot s)
{
	count_port(t, s.b->where[s.i], -1);
	write_once(&s.b->key[s.i], 0);
}

/* Fill a free slot. */
static void slot_set(struct fdb *t, struct slot s, uint64_t key, uint32_t where, uint32_t tick)
{
	/* Release: who sees this sees that the former key is gone. Pairs with the
	 * acquire of where in fdb_find_in(). */
	store_release(&s.b->where[s.i], where);
	write_once(&s.b->stamp[s.i], tick);
	/* Release: who sees the key sees where. Pairs with the acquire of the key in
	 * fdb_find_in(). */
	store_release(&s.b->key[s.i], key);
	count_port(t, where, 1);
}

/* Point an entry elsewhere: in one word, so that nobody misses it meanwhile. */
static void slot_move(struct fdb *t, struct slot s, uint32_t where, uint32_t tick)
{
	count_port(t, s.b->where[s.i], -1);
	write_once(&s.b->where[s.i], where);
	write_once(&s.b->stamp[s.i], tick);
	count_port(t, where, 1);
}

static uint32_t age_of(const struct fdb_bucket *b, unsigned int i, uint32_t tick)
{
	int32_t age = (int32_t)(tick - read_once(&b->stamp[i]));

	/* Loops' clocks differ by a tick at times. */
	return age > 0 ? (uint32_t)age : 0;
}

struct victim {
	struct slot s;
	uint32_t age;
};

/* May this entry go to make room for one of port? A port of its fair share or
 * more only takes from itself, another from those that have more than theirs. */
static bool may_evict(const struct fdb *t, uint32_t where, uint16_t port, uint32_t fair)
{
	if (t->nr_of[port] >= fair)
		return port_of(where) == port;
	return t->nr_of[port_of(where)] > fair;
}

/* Remember the oldest learned entry that may go; fair 0: any. */
static void find_victim(const struct fdb *t, struct fdb_bucket *b, uint16_t port, uint32_t fair,
			uint32_t tick, struct victim *v)
{
	for (unsigned int i = 0; i < FDB_WAYS; i++) {
		uint32_t age = age_of(b, i, tick);

		if (!b->key[i] || b->where[i] & FDB_STATIC)
			continue;
		if (fair && !may_evict(t, b->where[i], port, fair))
			continue;
		if (!is_slot(v->s) || age > v->age)
			*v = (struct victim){ { b, i }, age };
	}
}

static bool evict(struct fdb *t, const struct victim *v)
{
	if (!is_slot(v->s))
		return false;
	slot_clear(t, v->s);
	counter_add(&t->stats.evicted, 1);
	return true;
}

/* The table is full: make room for an entry of port. */
static bool make_room(struct fdb *t, uint16_t port, uint32_t tick)
{
	uint32_t fair = t->max / (t->nr_ports + !t->nr_of[port]);
	struct victim v = { .s = no_slot };

	for (int n = 0; n < VICTIM_BUCKETS_MAX && (n < VICTIM_BUCKETS || !is_slot(v.s)); n++) {
		t->hand = (uint32_t)((t->hand + 1) & t->mask);
		find_victim(t, &t->bucket[t->hand], port, fair ? fair : 1, tick, &v);
	}
	return evict(t, &v);
}

/* FDB_WAYS: none. */
static unsigned int free_in(const struct fdb_bucket *b)
{
	unsigned int i = 0;

	while (i < FDB_WAYS && b->key[i])
		i++;
	return i;
}

/*
 * Make room in a full bucket by moving one of its entries to that one's other
 * bucket. It is there twice for a moment; a reader that looks in the one before and
 * in the other behind misses it, and floods a frame. FDB_WAYS: they are all full.
 */
static unsigned int displace_in(struct fdb *t, struct fdb_bucket *b)
{
	for (unsigned int i = 0; i < FDB_WAYS; i++) {
		uint64_t key = b->key[i], hash = fdb_hash(t, key);
		struct slot to = { fdb_bucket(t, hash), 0 };

		if (to.b == b)
			to.b = fdb_bucket2(t, hash);
		to.i = free_in(to.b);
		if (to.i == FDB_WAYS)
			continue;
		slot_set(t, to, key, b->where[i], read_once(&b->stamp[i]));
		slot_clear(t, (struct slot){ b, i });
		return i;
	}
	return FDB_WAYS;
}

/* A free slot for an address of port, if need be that of the oldest entry of its
 * buckets, one of its own if there is any. */
static struct slot slot_get(struct fdb *t, uint64_t hash, uint16_t port, uint32_t tick)
{
	struct fdb_bucket *const both[] = { fdb_bucket(t, hash), fdb_bucket2(t, hash) };
	struct victim v = { .s = no_slot };
	unsigned int i;

	for (int n = 0; n < 2; n++) {
		i = free_in(both[n]);
		if (i < FDB_WAYS)
			return (struct slot){ both[n], i };
	}
	for (int n = 0; n < 2; n++) {
		i = displace_in(t, both[n]);
		if (i < FDB_WAYS)
			return (struct slot){ both[n], i };
	}
	for (int any = 0; any < 2 && !is_slot(v.s); any++) {
		find_victim(t, both[0], port, !any, tick, &v);
		find_victim(t, both[1], port, !any, tick, &v);
	}
	evict(t, &v);
	return v.s;
}

/* --- loops ----------------------------------------------------------------------- */

static enum fdb_result seen(struct fdb_bucket *b, unsigned int i, uint32_t where, uint16_t port,
			    uint32_t tick)
{
	if (port_of(where) == port) {
		/* Only when it changed: other loops read this line. */
		if (read_once(&b->stamp[i]) != tick)
			write_once(&b->stamp[i], tick);
		return FDB_KNOWN;
	}
	if (where & (FDB_STATIC | FDB_SECURED))
		return FDB_PINNED;
	return age_of(b, i, tick) <= HOLD_TICKS ? FDB_HELD : FDB_UNKNOWN;
}

enum fdb_result fdb_see(struct fdb *t, uint64_t key, uint64_t hash, uint16_t port, uint32_t tick)
{
	struct fdb_bucket *b = fdb_bucket(t, hash);
	uint32_t where = 0;
	unsigned int i = fdb_find_in(b, key, &where);

	if (unlikely(i == FDB_WAYS)) {
		b = fdb_bucket2(t, hash);
		i = fdb_find_in(b, key, &where);
		if (i == FDB_WAYS)
			return FDB_UNKNOWN;
	}
	return seen(b, i, where, port, tick);
}

static enum fdb_result learn_locked(struct fdb *t, uint64_t key, uint16_t port, uint32_t flags,
				    uint32_t tick)
{
	uint64_t hash = fdb_hash(t, key);
	struct slot s = slot_find(t, key, hash);
	enum fdb_result ret;

	if (is_slot(s)) {
		ret = seen(s.b, s.i, s.b->where[s.i], port, tick);
		if (ret != FDB_UNKNOWN)
			return ret;
		slot_move(t, s, port | flags, tick);
		counter_add(&t->stats.moved, 1);
		return FDB_MOVED;
	}
	if (t->nr < t->max || make_room(t, port, tick))
		s = slot_get(t, hash, port, tick);
	if (!is_slot(s)) {
		counter_add(&t->stats.full, 1);
		return FDB_FULL;
	}
	slot_set(t, s, key, port | flags, tick);
	counter_add(&t->stats.learned, 1);
	return FDB_LEARNED;
}

enum fdb_result fdb_learn(struct fdb *t, uint64_t key, uint16_t port, uint32_t flags, uint32_t tick)
{
	enum fdb_result ret;

	if (!lock_soon(t))
		return FDB_BUSY;
	ret = learn_locked(t, key, port, flags, tick);
	unlock(t);
	return ret;
}

/* --- control thread -------------------------------------------------------------- */

/* Room for a static entry: it goes before anything that was learned. */
static bool evict_any(struct fdb *t, uint32_t tick)
{
	struct victim v = { .s = no_slot };

	for (uint64_t n = 0; n <= t->mask && !is_slot(v.s); n++)
		find_victim(t, &t->bucket[n], 0, 0, tick, &v);
	return evict(t, &v);
}

int fdb_set_static(struct fdb *t, uint64_t key, uint16_t port, uint32_t tick)
{
	uint64_t hash = fdb_hash(t, key);
	struct slot s;
	int ret = 0;

	lock(t);
	s = slot_find(t, key, hash);
	if (is_slot(s)) {
		slot_move(t, s, port | FDB_STATIC, tick);
		goto out;
	}
	if (t->nr < t->max || evict_any(t, tick))
		s = slot_get(t, hash, port, tick);
	if (is_slot(s))
		slot_set(t, s, key, port | FDB_STATIC, tick);
	else
		ret = -ENOSPC;
out:
	unlock(t);
	return ret;
}

int fdb_forget(struct fdb *t, uint64_t key)
{
	struct slot s;

	lock(t);
	s = slot_find(t, key, fdb_hash(t, key));
	if (is_slot(s))
		slot_clear(t, s);
	unlock(t);
	return is_slot(s) ? 0 : -ENOENT;
}

/* Clear what goes() says, some buckets under one lock: loops that learn meanwhile
 * are not kept waiting. The number that went. */
static uint64_t clear_if(struct fdb *t, bool (*goes)(const struct fdb *t, struct slot s, int arg),
			 int arg)
{
	uint64_t nr = 0;

	for (uint64_t n = 0; n <= t->mask; n += CHUNK) {
		lock(t);
		for (uint64_t k = n; k < n + CHUNK && k <= t->mask; k++) {
			for (unsigned int i = 0; i < FDB_WAYS; i++) {
				struct slot s = { &t->bucket[k], i };

				if (!s.b->key[i] || !goes(t, s, arg))
					continue;
				slot_clear(t, s);
				nr++;
			}
		}
		unlock(t);
	}
	return nr;
}

static bool goes_learned(const struct fdb *t, struct slot s, int port)
{
	return !(s.b->where[s.i] & FDB_STATIC) &&
	       (port < 0 || port_of(s.b->where[s.i]) == (uint32_t)port);
}

static bool goes_all(const struct fdb *t, struct slot s, int port)
{
	return port < 0 || port_of(s.b->where[s.i]) == (uint32_t)port;
}

static bool goes_old(const struct fdb *t, struct slot s, int tick)
{
	return !(s.b->where[s.i] & FDB_STATIC) && age_of(s.b, s.i, (uint32_t)tick) > t->max_age;
}

void fdb_flush(struct fdb *t, int port, bool statics)
{
	clear_if(t, statics ? goes_all : goes_learned, port);
}

void fdb_age(struct fdb *t, uint32_t tick)
{
	uint64_t nr;

	/* Nothing to look at: leaves the pages of an unused table untouched. */
	if (!read_once(&t->nr))
		return;
	nr = clear_if(t, goes_old, (int)tick);
	lock(t);
	counter_add(&t->stats.aged, nr);
	unlock(t);
}

void fdb_walk(const struct fdb *t, void (*entry)(void *opaque, const struct fdb_entry *e),
	      void *opaque)
{
	struct fdb_entry e;

	for (uint64_t n = 0; read_once(&t->nr) && n <= t->mask; n++) {
		const struct fdb_bucket *b = &t->bucket[n];

		for (unsigned int i = 0; i < FDB_WAYS; i++) {
			/* The same pairs as in fdb_find_in(). */
			e.key = load_acquire(&b->key[i]);
			e.where = load_acquire(&b->where[i]);
			e.stamp = read_once(&b->stamp[i]);
			if (e.key && read_once(&b->key[i]) == e.key)
				entry(opaque, &e);
		}
	}
}
