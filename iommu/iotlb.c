/*
 * The table of a device behind a virtual IOMMU and the caches of its rings.
 * Called by vhost/ (vu_iotlb.c, virtq.c). Knows nothing of messages, guest
 * memory or rings, and asks nobody for what it does not know.
 *
 * The table is an array sorted by address, found in by bisection. Front-ends
 * map page by page even what is one piece, so neighbours that continue each
 * other in both address spaces are joined: a guest without translation, whose
 * front-end still answers in pages, ends up as a handful of entries.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iotlb.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/atomic.h"

struct iotlb {
	pthread_mutex_t lock; /* range, nr; short, as loops take it on a miss */
	struct iotlb_range *range; /* sorted, not overlapping */
	unsigned int nr, max;
	unsigned int victim; /* what goes next when the table is full */
	struct iotlb_stats stats; /* the control thread's */
};

int iotlb_create(struct iotlb **out)
{
	struct iotlb *tlb = calloc(1, sizeof(*tlb));

	if (!tlb)
		return -ENOMEM;
	pthread_mutex_init(&tlb->lock, NULL);
	*out = tlb;
	return 0;
}

void iotlb_destroy(struct iotlb *tlb)
{
	if (!tlb)
		return;
	pthread_mutex_destroy(&tlb->lock);
	free(tlb->range);
	free(tlb);
}

/* The first range that ends after addr: nr if there is none. */
static unsigned int lower(const struct iotlb *tlb, uint64_t addr)
{
	unsigned int lo = 0, hi = tlb->nr;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (addr >= tlb->range[mid].end)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void remove_at(struct iotlb *tlb, unsigned int at, unsigned int nr)
{
	memmove(&tlb->range[at], &tlb->range[at + nr], (tlb->nr - at - nr) * sizeof(*tlb->range));
	tlb->nr -= nr;
}

/* Room for one more at the position at; there must be memory for it. */
static void insert_at(struct iotlb *tlb, unsigned int at, const struct iotlb_range *r)
{
	memmove(&tlb->range[at + 1], &tlb->range[at], (tlb->nr - at) * sizeof(*tlb->range));
	tlb->range[at] = *r;
	tlb->nr++;
}

/* Memory for two more entries than there are: what a cut and an insertion need. */
static int reserve(struct iotlb *tlb)
{
	unsigned int max = tlb->max ? 2 * tlb->max : 64;
	struct iotlb_range *range;

	if (tlb->nr + 2 <= tlb->max)
		return 0;
	range = realloc(tlb->range, max * sizeof(*range));
	if (!range)
		return -ENOMEM;
	tlb->range = range;
	tlb->max = max;
	return 0;
}

/* Take [start, end) out; a range that reaches over both ends becomes two. */
static void cut(struct iotlb *tlb, uint64_t start, uint64_t end)
{
	unsigned int at = lower(tlb, start), nr = 0;
	struct iotlb_range *r = &tlb->range[at];

	if (at < tlb->nr && r->start < start) {
		struct iotlb_range rest = *r;

		r->end = start;
		at++;
		if (rest.end > end) {
			rest.host += end - rest.start;
			rest.start = end;
			insert_at(tlb, at, &rest);
			return;
		}
	}
	while (at + nr < tlb->nr && tlb->range[at + nr].end <= end)
		nr++;
	if (nr)
		remove_at(tlb, at, nr);
	r = &tlb->range[at];
	if (at < tlb->nr && r->start < end) {
		r->host += end - r->start;
		r->start = end;
	}
}

static bool continues(const struct iotlb_range *a, const struct iotlb_range *b)
{
	return a->end == b->start && a->perm == b->perm && a->host + (a->end - a->start) == b->host;
}

static void insert(struct iotlb *tlb, const struct iotlb_range *r)
{
	unsigned int at = lower(tlb, r->start);

	if (at && continues(&tlb->range[at - 1], r)) {
		at--;
		tlb->range[at].end = r->end;
	} else {
		insert_at(tlb, at, r);
	}
	if (at + 1 < tlb->nr && continues(&tlb->range[at], &tlb->range[at + 1])) {
		tlb->range[at].end = tlb->range[at + 1].end;
		remove_at(tlb, at + 1, 1);
	}
}

/* A guest that maps without end, or makes ever smaller pieces of what it mapped:
 * entries go until there are max, in turn, so that no pattern of addresses makes
 * it always the same. */
static void evict(struct iotlb *tlb, unsigned int max)
{
	while (tlb->nr > max) {
		tlb->victim = (tlb->victim + 7919) % tlb->nr;
		remove_at(tlb, tlb->victim, 1);
		tlb->stats.evictions++;
	}
}

int iotlb_add(struct iotlb *tlb, iova_t addr, uint64_t len, void *host, uint32_t perm)
{
	struct iotlb_range r = { .start = addr.v, .host = host, .perm = perm };
	int ret;

	if (!len || add_overflows(addr.v, len, &r.end))
		return -EINVAL;
	pthread_mutex_lock(&tlb->lock);
	ret = reserve(tlb);
	if (!ret) {
		cut(tlb, r.start, r.end);
		evict(tlb, IOTLB_ENTRIES_MAX - 1);
		insert(tlb, &r);
		tlb->stats.updates++;
	}
	pthread_mutex_unlock(&tlb->lock);
	return ret;
}

void iotlb_del(struct iotlb *tlb, iova_t addr, uint64_t len)
{
	uint64_t end;

	if (add_overflows(addr.v, len, &end))
		end = UINT64_MAX;
	tlb->stats.invalidations++;
	pthread_mutex_lock(&tlb->lock);
	/* A cut out of the middle needs one more entry; without memory for it the
	 * whole range goes, to be asked for again. */
	if (reserve(tlb) < 0)
		tlb->nr = 0;
	else
		cut(tlb, addr.v, end);
	evict(tlb, IOTLB_ENTRIES_MAX);
	pthread_mutex_unlock(&tlb->lock);
}

void iotlb_del_host(struct iotlb *tlb, const void *host, uint64_t len)
{
	const uint8_t *start = host, *end = start + len;
	unsigned int kept = 0;

	pthread_mutex_lock(&tlb->lock);
	for (unsigned int i = 0; i < tlb->nr; i++) {
		const struct iotlb_range *r = &tlb->range[i];

		if (r->host < end && r->host + (r->end - r->start) > start)
			continue;
		tlb->range[kept++] = *r;
	}
	tlb->nr = kept;
	pthread_mutex_unlock(&tlb->lock);
}

void iotlb_clear(struct iotlb *tlb)
{
	pthread_mutex_lock(&tlb->lock);
	tlb->nr = 0;
	pthread_mutex_unlock(&tlb->lock);
}

bool iotlb_find(struct iotlb *tlb, iova_t addr, struct iotlb_range *range)
{
	unsigned int at;
	bool found;

	pthread_mutex_lock(&tlb->lock);
	at = lower(tlb, addr.v);
	found = at < tlb->nr && tlb->range[at].start <= addr.v;
	if (found)
		*range = tlb->range[at];
	pthread_mutex_unlock(&tlb->lock);
	return found;
}

void iotlb_get_stats(const struct iotlb *tlb, struct iotlb_stats *stats)
{
	*stats = tlb->stats;
	stats->entries = tlb->nr;
}

bool iotlb_knows(struct iotlb *tlb, iova_t addr, uint64_t len, uint32_t perm, iova_t *missing)
{
	struct iotlb_range r;
	uint64_t end;

	*missing = addr;
	if (!len || add_overflows(addr.v, len, &end))
		return false;
	while (missing->v < end) {
		if (!iotlb_find(tlb, *missing, &r) || (r.perm & perm) != perm)
			return false;
		missing->v = r.end;
	}
	return true;
}

/* --- a ring's cache ---------------------------------------------------------------- */

void iotlb_cache_init(struct iotlb_cache *c, struct iotlb *tlb)
{
	memset(c, 0, sizeof(*c));
	c->tlb = tlb;
}

void iotlb_cache_drop(struct iotlb_cache *c, iova_t addr, uint64_t len)
{
	uint64_t end;

	if (add_overflows(addr.v, len, &end))
		end = UINT64_MAX;
	/* A range may be cached in any slot of the addresses it holds. */
	for (unsigned int i = 0; i < IOTLB_CACHE_SLOTS; i++) {
		struct iotlb_range *r = &c->slot[i];

		if (r->start < end && r->end > addr.v)
			*r = (struct iotlb_range){ 0 };
	}
}

bool iotlb_cache_fill(struct iotlb_cache *c, iova_t addr, uint32_t perm)
{
	struct iotlb_range r;

	counter_add(&c->misses, 1);
	if (!iotlb_find(c->tlb, addr, &r) || (r.perm & perm) != perm)
		return false;
	*iotlb_cache_slot(c, addr.v) = r;
	return true;
}
