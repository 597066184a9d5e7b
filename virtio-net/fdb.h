/*
 * The forwarding database: which port a MAC address of a VLAN was seen at.
 *
 * Theory of operation
 *
 * A hash table of buckets of one cache line, four entries each, at most half full;
 * an address may be in either of two, and one makes room for another by going over
 * to its other bucket. Loops look up without a lock; a keyed hash keeps a guest
 * from choosing addresses that share a bucket. An entry is valid while its key is
 * not zero: who changes where it points sets the key to zero first and last to its
 * new value, and a reader looks at the key again behind the value.
 *
 * Only learning something new, or another place, takes the lock. A loop gives up
 * after a while instead of waiting for a holder that may have been preempted: the
 * next frame will learn it. Ages are a plain store of a coarse time, at most one a
 * tick, whoever wins.
 *
 * An address that was seen where it is within this tick or the last is held
 * there: so a MAC address that flaps between ports costs one change in a tick,
 * and frames that a looped cable brings back do not pull their sender's address
 * after them. A guest that moved is silent for longer than that.
 *
 * A full table: a port that has its fair share of it makes room at its own
 * expense, another at the expense of the ports that have more than theirs. So a
 * guest that invents addresses only pushes out what it invented.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_FDB_H
#define RINGBOLT_VIRTIO_NET_FDB_H

#include <stdbool.h>
#include <stdint.h>

#include "core/atomic.h"
#include "core/base.h"

#define FDB_PORTS_MAX 1024
#define FDB_SIZE_MAX (1u << 17) /* entries: 4 MiB of table */
#define FDB_TICK_SHIFT 25 /* a tick: 34 ms */

/* Where an address is: the port's index, and what kind of entry it is. */
#define FDB_PORT_MASK 0xffffu
#define FDB_STATIC (1u << 16) /* set by the operator: neither moves nor ages */
#define FDB_SECURED (1u << 17) /* its port may not be impersonated: does not move */
#define FDB_NONE UINT32_MAX /* not there */

#define FDB_WAYS 4

struct fdb_bucket {
	_Alignas(CACHE_LINE) uint64_t key[FDB_WAYS]; /* 0: free */
	uint32_t where[FDB_WAYS];
	uint32_t stamp[FDB_WAYS]; /* tick at which it was last seen there */
};
static_assert(sizeof(struct fdb_bucket) == CACHE_LINE, "one line a bucket");

/* What fdb_learn() and fdb_see() found. */
enum fdb_result {
	FDB_KNOWN, /* there, and fresh now */
	FDB_UNKNOWN, /* fdb_see() only: to be learned, or moved */
	FDB_LEARNED,
	FDB_MOVED,
	FDB_HELD, /* seen elsewhere just now: stays there */
	FDB_PINNED, /* static or secured at another port */
	FDB_FULL, /* no room that this port may have */
	FDB_BUSY, /* somebody else holds the lock: not learned this time */
};

/* Changed under the lock; any thread may read them with counter_read(). */
struct fdb_stats {
	uint64_t learned, moved, aged, evicted, full;
};

struct fdb {
	/* Constant. */
	struct fdb_bucket *bucket;
	uint64_t mask; /* buckets - 1 */
	uint64_t seed[2];
	uint32_t max; /* entries */
	uint32_t max_age; /* ticks */
	/* Under the lock; nr and nr_of may be read without, with read_once(). */
	_Alignas(CACHE_LINE) uint32_t lock;
	uint32_t nr, nr_static;
	uint32_t nr_ports; /* with an entry */
	uint32_t hand; /* bucket where the next search for a victim begins */
	struct fdb_stats stats;
	uint32_t nr_of[FDB_PORTS_MAX]; /* entries of each port */
};

/* Control thread. max: 1 .. FDB_SIZE_MAX. NULL if out of memory. */
struct fdb *fdb_create(uint32_t max, uint32_t max_age_ticks);
/* Accepts NULL. */
void fdb_destroy(struct fdb *t);

static inline uint32_t fdb_tick(uint64_t ns)
{
	return (uint32_t)(ns >> FDB_TICK_SHIFT);
}

/* mac: the address as the low 48 bits, first byte lowest. vid: 1 .. 4094. */
static inline uint64_t fdb_key(uint64_t mac, uint16_t vid)
{
	return mac | (uint64_t)vid << 48;
}

static inline uint64_t fdb_hash(const struct fdb *t, uint64_t key)
{
	__uint128_t m = (__uint128_t)(key ^ t->seed[0]) * t->seed[1];
	uint64_t h = (uint64_t)m ^ (uint64_t)(m >> 64);

	/* Addresses are often numbered: one product leaves them in a pattern. */
	h *= 0x9e3779b97f4a7c15ull;
	return h ^ h >> 32;
}

static inline struct fdb_bucket *fdb_bucket(const struct fdb *t, uint64_t hash)
{
	return &t->bucket[hash & t->mask];
}

static inline struct fdb_bucket *fdb_bucket2(const struct fdb *t, uint64_t hash)
{
	/* Odd, so that it is another one than the first. */
	return &t->bucket[(hash ^ (hash >> 40 | 1)) & t->mask];
}

static inline void fdb_prefetch(const struct fdb *t, uint64_t hash)
{
	__builtin_prefetch(fdb_bucket(t, hash));
}

/* The entry of key in a bucket, and where it points; FDB_WAYS if there is none. */
static inline unsigned int fdb_find_in(const struct fdb_bucket *b, uint64_t key, uint32_t *where)
{
	for (unsigned int i = 0; i < FDB_WAYS; i++) {
		/* Acquire: pairs with the release of the key in slot_set(), behind
		 * which where is valid. */
		if (load_acquire(&b->key[i]) != key)
			continue;
		/* Acquire: a value of the entry's next user comes with the key that
		 * was gone before it. Pairs with the release of where. */
		*where = load_acquire(&b->where[i]);
		if (likely(read_once(&b->key[i]) == key))
			return i;
	}
	return FDB_WAYS;
}

/* The port and kind of key, or FDB_NONE. Any thread. */
static inline uint32_t fdb_find(const struct fdb *t, uint64_t key, uint64_t hash)
{
	uint32_t where = FDB_NONE;

	if (likely(fdb_find_in(fdb_bucket(t, hash), key, &where) < FDB_WAYS) ||
	    fdb_find_in(fdb_bucket2(t, hash), key, &where) < FDB_WAYS)
		return where;
	return FDB_NONE;
}

/*
 * key was seen as a source at port: refresh its age if it is known to be there.
 * Without the lock. FDB_KNOWN, _UNKNOWN (fdb_learn() may help), _HELD or _PINNED.
 * Any thread.
 */
enum fdb_result fdb_see(struct fdb *t, uint64_t key, uint64_t hash, uint16_t port, uint32_t tick);

/*
 * The same, and learn it there. flags: 0 or FDB_SECURED. Anything but
 * FDB_UNKNOWN. Any thread; never waits for long.
 */
enum fdb_result fdb_learn(struct fdb *t, uint64_t key, uint16_t port, uint32_t flags,
			  uint32_t tick);

/* --- control thread ---------------------------------------------------------- */

/* A static entry, instead of what was known of that address. 0 or -ENOSPC. */
int fdb_set_static(struct fdb *t, uint64_t key, uint16_t port, uint32_t tick);
/* Forget key, static or not. -ENOENT. */
int fdb_forget(struct fdb *t, uint64_t key);
/* Forget the entries of port (-1: of all), static ones too if asked to. */
void fdb_flush(struct fdb *t, int port, bool statics);
/* Forget learned entries that were not seen for max_age_ticks. */
void fdb_age(struct fdb *t, uint32_t tick);

struct fdb_entry {
	uint64_t key;
	uint32_t where;
	uint32_t stamp;
};
/* Every entry, without stopping anybody: each is whole, all of them are not of
 * one moment. */
void fdb_walk(const struct fdb *t, void (*entry)(void *opaque, const struct fdb_entry *e),
	      void *opaque);

#endif
