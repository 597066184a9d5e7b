/*
 * The device's side of a virtual IOMMU: what the front-end said about I/O
 * virtual addresses, and each ring's cache of it. vhost-user, "IOMMU support".
 *
 * Theory of operation
 *
 * A device has one table, written by the control thread as updates and
 * invalidations arrive. A ring translates with a cache of its own, which only
 * its loop touches: a hit takes no lock. A miss of the cache looks into the
 * table under its lock; a miss of the table has to be asked of the front-end.
 *
 * Whoever removes something from the table must afterwards have every ring
 * drop it from its cache, on its loop, before the removal is acknowledged. The
 * table may forget what it likes when it is full: a cache that still knows it
 * is right until the front-end invalidates it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_IOMMU_IOTLB_H
#define RINGBOLT_IOMMU_IOTLB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base.h"
#include "iommu/iova.h"

/* Permissions as on the wire: struct vhost_iotlb_msg of Linux's uapi. */
#define IOTLB_READ 1u
#define IOTLB_WRITE 2u

#define IOTLB_ENTRIES_MAX 16384 /* of a device's table */
#define IOTLB_PAGE_SHIFT 12 /* the smallest unit front-ends map */
#define IOTLB_CACHE_SLOTS 512 /* of a ring's cache; a power of two */

/* A range that is contiguous in I/O virtual addresses and in our memory. */
struct iotlb_range {
	uint64_t start, end; /* end is exclusive and never wraps; 0, 0: empty */
	uint8_t *host; /* the byte at start */
	uint32_t perm;
};

struct iotlb_stats {
	uint64_t entries; /* ranges in the table */
	uint64_t updates, invalidations, evictions;
};

struct iotlb;

/* --- the table: control thread but for iotlb_find() --------------------------- */

int iotlb_create(struct iotlb **tlb);
/* Accepts NULL. */
void iotlb_destroy(struct iotlb *tlb);
/*
 * [iova, iova + len) is at host with perm. What was known of these addresses is
 * replaced; neighbours that continue each other become one. -EINVAL: len 0, or
 * it wraps. -ENOMEM.
 */
int iotlb_add(struct iotlb *tlb, iova_t addr, uint64_t len, void *host, uint32_t perm);
/* Forget what lies in [iova, iova + len); len may reach past the end. */
void iotlb_del(struct iotlb *tlb, iova_t addr, uint64_t len);
/* Forget what lies at [host, host + len) in our memory. */
void iotlb_del_host(struct iotlb *tlb, const void *host, uint64_t len);
void iotlb_clear(struct iotlb *tlb);
/* The range that holds addr, whatever its permissions. Any thread. */
bool iotlb_find(struct iotlb *tlb, iova_t addr, struct iotlb_range *range);
void iotlb_get_stats(const struct iotlb *tlb, struct iotlb_stats *stats);
/* Is all of [addr, addr + len) known and permitted, wherever it lies in our
 * memory? If not, *missing is the first address that is not. Any thread. */
bool iotlb_knows(struct iotlb *tlb, iova_t addr, uint64_t len, uint32_t perm, iova_t *missing);

/* --- a ring's cache: its loop's thread ------------------------------------------ */

struct iotlb_cache {
	struct iotlb *tlb;
	uint64_t misses; /* looked up in the table */
	struct iotlb_range slot[IOTLB_CACHE_SLOTS];
};

void iotlb_cache_init(struct iotlb_cache *c, struct iotlb *tlb);
void iotlb_cache_drop(struct iotlb_cache *c, iova_t addr, uint64_t len);
/* The table's answer, kept for next time; false if it does not know addr, or
 * not with perm. */
bool iotlb_cache_fill(struct iotlb_cache *c, iova_t addr, uint32_t perm);

static inline struct iotlb_range *iotlb_cache_slot(struct iotlb_cache *c, uint64_t addr)
{
	return &c->slot[addr >> IOTLB_PAGE_SHIFT & (IOTLB_CACHE_SLOTS - 1)];
}

/* The range that holds addr, until the cache drops it or has another one in its
 * place. NULL: not known, or not with perm. */
static inline const struct iotlb_range *iotlb_cache_range(struct iotlb_cache *c, iova_t addr,
							  uint32_t perm)
{
	const struct iotlb_range *r = iotlb_cache_slot(c, addr.v);

	/* Wraps for what is below the range, and so is beyond it. */
	if (unlikely(addr.v - r->start >= r->end - r->start || (r->perm & perm) != perm) &&
	    !iotlb_cache_fill(c, addr, perm))
		return NULL;
	return r;
}

/*
 * The pointer for addr, with *len (not 0) cut to what the range found holds.
 * NULL: not known, or not with perm.
 */
static inline void *iotlb_cache_span(struct iotlb_cache *c, iova_t addr, uint64_t *len,
				     uint32_t perm)
{
	const struct iotlb_range *r = iotlb_cache_range(c, addr, perm);

	if (unlikely(!r))
		return NULL;
	if (*len > r->end - addr.v)
		*len = r->end - addr.v;
	return r->host + (addr.v - r->start);
}

#endif
