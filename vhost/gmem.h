/*
 * Guest memory: the regions a front-end shares with us, and the one place that
 * turns a guest address and a length into a pointer.
 *
 * Theory of operation
 *
 * A region is one mapping of a file the front-end sent, counted by references.
 * A struct gmem is an immutable, sorted snapshot of a device's regions. The
 * control thread never changes a snapshot that a ring uses: it builds a new
 * one and asks the rings' loops to switch (see loop.h). Requests that were
 * popped under the old snapshot may still be in the kernel's hands; their rings
 * count them by snapshot, and only when that count is zero does the control
 * thread drop the old snapshot, which unmaps the regions nobody else holds.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_GMEM_H
#define RINGBOLT_VHOST_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base.h"

/* vhost-user, "Maximum number of memory slots": what CONFIGURE_MEM_SLOTS offers. */
#define GMEM_REGIONS_MAX 509

/* Guest-physical and front-end virtual addresses; mixing them does not compile. */
typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} uva_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){ v };
}

static inline uva_t uva(uint64_t v)
{
	return (uva_t){ v };
}

struct sigbus_range;

/* One mapping. Fields do not change after gmem_region_map(), but for refs. */
struct gmem_region {
	uint8_t *host; /* the byte at gpa */
	uint64_t gpa, uva, size;
	uint64_t mmap_offset;
	uint64_t id; /* never used twice in this process */
	void *map; /* page-aligned; map_len bytes */
	size_t map_len;
	/* The granularity of the mapping: a huge page's for files on hugetlbfs, whose
	 * pages the kernel maps whole or not at all. */
	size_t page_size;
	struct sigbus_range *guard;
	unsigned int refs; /* control thread */
};

/* What the data path walks: one entry a region, sorted by gpa, not overlapping. */
struct gmem_range {
	uint64_t gpa, end; /* end is exclusive and never wraps */
	uint8_t *host;
};

struct gmem {
	unsigned int nr;
	/* Set by the SIGBUS handler, one flag for the device: see sigbus.h. */
	bool *faulted;
	struct gmem_region *region[GMEM_REGIONS_MAX];
	struct gmem_range range[GMEM_REGIONS_MAX];
};

/*
 * Map a region. Takes fd, always (it is closed). Refused with -EINVAL: size 0,
 * gpa, uva or file offset that wrap, a file smaller than it claims, a range
 * the file's page size does not fit. MADV_DONTDUMP, and faults in it set
 * *faulted. One reference. Control thread.
 */
int gmem_region_map(int fd, gpa_t gpa, uva_t uva, uint64_t size, uint64_t mmap_offset,
		    bool *faulted, struct gmem_region **region);
struct gmem_region *gmem_region_get(struct gmem_region *r);
/* Unmaps with the last reference. Accepts NULL. */
void gmem_region_put(struct gmem_region *r);

/*
 * A snapshot of nr regions (each gets a reference). -EINVAL if two overlap in
 * guest or front-end addresses, -ENOSPC if there are too many. Control thread.
 */
int gmem_create(struct gmem_region *const *regions, unsigned int nr, bool *faulted,
		struct gmem **gm);
/* Drops the references. Accepts NULL. */
void gmem_destroy(struct gmem *gm);

/*
 * The pointer for gpa, with *len cut to what is contiguous in one region (at
 * least 1). NULL if gpa is in no region or *len is 0. *hint is the caller's
 * last hit, any value below GMEM_REGIONS_MAX at first. Any thread.
 */
static inline void *gmem_span(const struct gmem *gm, gpa_t addr, uint64_t *len, unsigned int *hint)
{
	const struct gmem_range *r = &gm->range[*hint];
	unsigned int lo = 0, hi = gm->nr;

	if (unlikely(*hint >= gm->nr || addr.v < r->gpa || addr.v >= r->end)) {
		while (lo < hi) {
			unsigned int mid = (lo + hi) / 2;

			if (addr.v >= gm->range[mid].end)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == gm->nr || addr.v < gm->range[lo].gpa)
			return NULL;
		*hint = lo;
		r = &gm->range[lo];
	}
	if (!*len)
		return NULL;
	if (*len > r->end - addr.v)
		*len = r->end - addr.v;
	return r->host + (addr.v - r->gpa);
}

/* The pointer for [gpa, gpa + len), all in one region and not empty, or NULL. */
static inline void *gmem_ptr(const struct gmem *gm, gpa_t addr, uint64_t len, unsigned int *hint)
{
	uint64_t got = len;
	void *p = gmem_span(gm, addr, &got, hint);

	return got == len ? p : NULL;
}

/* The same for an address of the front-end, as ring addresses are. Slow. */
void *gmem_uva_ptr(const struct gmem *gm, uva_t addr, uint64_t len);

/* Back from a pointer of this snapshot to the guest address, with *len cut to
 * what is in the same region; false if it is in no region. Slow: for the dirty
 * log. */
bool gmem_gpa_of(const struct gmem *gm, const void *p, uint64_t *len, gpa_t *addr);
/* The region that p is in, or NULL. Slow. */
const struct gmem_region *gmem_region_of(const struct gmem *gm, const void *p);

#endif
