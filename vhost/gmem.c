/*
 * Guest memory regions and their snapshots. Called by the memory requests of
 * the protocol (vu_mem.c) on the control thread; the look-up itself is inline
 * in gmem.h. Never trusts a number or a file that the front-end sent.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/gmem.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/log.h"
#include "core/sigbus.h"

/* Pages of files there come from a program or another machine, which could let a
 * loop that touches one wait for ever. */
static bool may_wait(long fs_type)
{
	switch ((unsigned long)fs_type & UINT32_MAX) {
	case FUSE_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case V9FS_MAGIC:
	case AFS_FS_MAGIC:
	case CEPH_SUPER_MAGIC:
	case CODA_SUPER_MAGIC:
		return true;
	}
	return false;
}

/* The granularity at which fd can be mapped. 0 if it can not be told. */
static size_t mapping_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return 0;
	if (may_wait(fs.f_type))
		return 0;
	if (fs.f_type == HUGETLBFS_MAGIC)
		return fs.f_bsize;
	return (size_t)sysconf(_SC_PAGESIZE);
}

/*
 * Check what the front-end says about a region against its file, and work out
 * the page-aligned stretch of the file to map.
 */
static int region_check(int fd, const struct gmem_region *r, uint64_t *map_start, uint64_t *map_len)
{
	uint64_t end, map_end;
	struct stat st;

	if (!r->size || add_overflows(r->gpa, r->size, &end) ||
	    add_overflows(r->uva, r->size, &end) || add_overflows(r->mmap_offset, r->size, &end))
		return -EINVAL;
	if (!is_power_of_two(r->page_size) || end > INT64_MAX - r->page_size)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* A device's memory (DAX) has no size to compare with. */
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return -EINVAL;
	if (S_ISREG(st.st_mode) && end > (uint64_t)st.st_size)
		return -EINVAL;
	*map_start = round_down(r->mmap_offset, r->page_size);
	map_end = round_up(end, r->page_size);
	*map_len = map_end - *map_start;
	return 0;
}

int gmem_region_map(int fd, gpa_t gpa, uva_t uva, uint64_t size, uint64_t mmap_offset,
		    bool *faulted, struct gmem_region **region)
{
	static uint64_t next_id = 1;
	uint64_t map_start = 0, map_len = 0;
	struct gmem_region *r;
	int ret;

	r = calloc(1, sizeof(*r));
	if (!r) {
		ret = -ENOMEM;
		goto err_close;
	}
	r->gpa = gpa.v;
	r->uva = uva.v;
	r->size = size;
	r->mmap_offset = mmap_offset;
	r->page_size = mapping_page_size(fd);
	ret = region_check(fd, r, &map_start, &map_len);
	if (ret < 0)
		goto err_free;

	r->map_len = map_len;
	r->map = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		      (off_t)map_start);
	if (r->map == MAP_FAILED) {
		ret = -errno;
		goto err_free;
	}
	/* A core dump of ours must not hold the guest's memory. */
	madvise(r->map, map_len, MADV_DONTDUMP);
	r->guard = sigbus_guard(r->map, map_len, faulted);
	if (!r->guard) {
		ret = -ENOMEM;
		goto err_unmap;
	}
	r->host = (uint8_t *)r->map + (mmap_offset - map_start);
	r->id = next_id++;
	r->refs = 1;
	close(fd);
	*region = r;
	return 0;

err_unmap:
	munmap(r->map, map_len);
err_free:
	free(r);
err_close:
	close(fd);
	return ret;
}

struct gmem_region *gmem_region_get(struct gmem_region *r)
{
	r->refs++;
	return r;
}

void gmem_region_put(struct gmem_region *r)
{
	if (!r || --r->refs)
		return;
	sigbus_unguard(r->guard);
	munmap(r->map, r->map_len);
	free(r);
}

static int region_cmp(const void *a, const void *b)
{
	const struct gmem_region *x = *(struct gmem_region *const *)a;
	const struct gmem_region *y = *(struct gmem_region *const *)b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static bool overlaps(uint64_t a, uint64_t b, uint64_t a_size, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

/* vhost-user, "Front-end message types", ADD_MEM_REG: regions do not overlap. */
static bool any_overlap(const struct gmem *gm)
{
	for (unsigned int i = 0; i < gm->nr; i++) {
		const struct gmem_region *a = gm->region[i];

		if (i + 1 < gm->nr &&
		    overlaps(a->gpa, gm->region[i + 1]->gpa, a->size, gm->region[i + 1]->size))
			return true;
		for (unsigned int j = i + 1; j < gm->nr; j++) {
			const struct gmem_region *b = gm->region[j];

			if (overlaps(a->uva, b->uva, a->size, b->size))
				return true;
		}
	}
	return false;
}

int gmem_create(struct gmem_region *const *regions, unsigned int nr, bool *faulted,
		struct gmem **out)
{
	struct gmem *gm;

	if (nr > GMEM_REGIONS_MAX)
		return -ENOSPC;
	gm = calloc(1, sizeof(*gm));
	if (!gm)
		return -ENOMEM;
	gm->nr = nr;
	gm->faulted = faulted;
	for (unsigned int i = 0; i < nr; i++)
		gm->region[i] = regions[i];
	qsort(gm->region, nr, sizeof(gm->region[0]), region_cmp);
	if (any_overlap(gm)) {
		free(gm);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < nr; i++) {
		struct gmem_region *r = gmem_region_get(gm->region[i]);

		gm->range[i] = (struct gmem_range){
			.gpa = r->gpa,
			.end = r->gpa + r->size,
			.host = r->host,
		};
	}
	*out = gm;
	return 0;
}

void gmem_destroy(struct gmem *gm)
{
	if (!gm)
		return;
	for (unsigned int i = 0; i < gm->nr; i++)
		gmem_region_put(gm->region[i]);
	free(gm);
}

void *gmem_uva_ptr(const struct gmem *gm, uva_t addr, uint64_t len)
{
	for (unsigned int i = 0; i < gm->nr; i++) {
		const struct gmem_region *r = gm->region[i];

		if (addr.v < r->uva || addr.v - r->uva >= r->size)
			continue;
		if (!len || len > r->size - (addr.v - r->uva))
			return NULL;
		return r->host + (addr.v - r->uva);
	}
	return NULL;
}

const struct gmem_region *gmem_region_of(const struct gmem *gm, const void *p)
{
	const uint8_t *byte = p;

	for (unsigned int i = 0; i < gm->nr; i++) {
		const struct gmem_region *r = gm->region[i];

		if (byte >= r->host && (uint64_t)(byte - r->host) < r->size)
			return r;
	}
	return NULL;
}

bool gmem_gpa_of(const struct gmem *gm, const void *p, uint64_t *len, gpa_t *addr)
{
	const uint8_t *byte = p;

	for (unsigned int i = 0; i < gm->nr; i++) {
		const struct gmem_range *r = &gm->range[i];
		uint64_t off = (uint64_t)(byte - r->host), size = r->end - r->gpa;

		if (byte < r->host || off >= size)
			continue;
		*len = min_u64(*len, size - off);
		*addr = gpa(r->gpa + off);
		return true;
	}
	return false;
}
