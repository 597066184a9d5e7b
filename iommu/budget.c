/*
 * The limits on mappings, and what to say about them: RLIMIT_MEMLOCK, since
 * what a device may reach is locked in memory, and the dma_entry_limit of a
 * type1 container. Called by space.c before and after the kernel is asked.
 * Raises no limit.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SIZE_LEN 24
#define HOW_TO_RAISE                                                                               \
	"raise it with ulimit -l, LimitMEMLOCK= of the systemd unit, or prlimit --memlock"

/* "8 GiB", with the largest unit that leaves no rest. */
static const char *size_text(uint64_t bytes, char *text)
{
	static const char *const unit[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	unsigned int i = 0;

	while (i + 1 < ARRAY_SIZE(unit) && bytes && !(bytes & 1023)) {
		bytes >>= 10;
		i++;
	}
	snprintf(text, SIZE_LEN, "%" PRIu64 " %s", bytes, unit[i]);
	return text;
}

/* What counts against the limit already, as far as can be known: iommufd by
 * default counts for the user, over all of its processes. */
static uint64_t locked_now(const struct iommu_space *s, const struct iommu_memlock *m)
{
	return s->per_user ? s->mapped_bytes : m->locked;
}

static int memlock_fail(const struct iommu_space *s, uint64_t len, const struct iommu_memlock *m,
			char *err)
{
	char need[SIZE_LEN], limit[SIZE_LEN], now[SIZE_LEN];

	return iommu_fail(err, -ENOMEM,
			  "memory that a device may reach is locked: this needs %s more, "
			  "RLIMIT_MEMLOCK is %s and %s are locked by this process%s; " HOW_TO_RAISE,
			  size_text(len, need), size_text(m->limit, limit),
			  size_text(locked_now(s, m), now),
			  s->per_user ? " (others of the same user count too)" : "");
}

int iommu_budget_memlock(const struct iommu_space *s, uint64_t len, char *err)
{
	struct iommu_memlock m;
	uint64_t sum;

	s->sys->memlock(&m);
	if (m.unlimited || (!add_overflows(locked_now(s, &m), len, &sum) && sum <= m.limit))
		return 0;
	return memlock_fail(s, len, &m, err);
}

int iommu_budget_entries(const struct iommu_space *s, uint64_t nr, char *err)
{
	if (!s->entries_known || nr <= s->entries_left)
		return 0;
	return iommu_fail(err, -ENOSPC,
			  "a container has room for %" PRIu64 " mappings more, this needs %" PRIu64
			  "; raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit, or "
			  "map larger pieces",
			  s->entries_left, nr);
}

int iommu_budget_refused(const struct iommu_space *s, uint64_t len, int code, char *err)
{
	struct iommu_memlock m;

	if (code == -ENOSPC)
		return iommu_fail(err, code,
				  "the kernel has no room for another mapping; raise "
				  "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit, or map "
				  "larger pieces");
	s->sys->memlock(&m);
	if (m.unlimited) {
		char need[SIZE_LEN];

		return iommu_fail(err, code, "the kernel has no memory to lock and map %s",
				  size_text(len, need));
	}
	return memlock_fail(s, len, &m, err);
}
