/*
 * A space of I/O addresses: the choice of the kernel's interface, the book of
 * what is mapped, and the checks that come before the kernel is asked. Called
 * by apps and by listener.c, probe.c and device.c. Knows neither container nor
 * iommufd: those are type1.c and iommufd.c.
 *
 * Theory of operation
 *
 * The kernel checks everything again and is right in the end; but its answers
 * are one errno for many causes. So each mapping is first held against what the
 * kernel told about itself (usable ranges, page size, entries left) and against
 * the book, and only then handed over. The book holds exactly what the kernel
 * has: an entry is made after the kernel agreed and goes after it let go.
 *
 * With the space's last device the kernel has nothing to translate for any more,
 * and a type1 container drops its mappings by itself. To have one rule for both
 * interfaces, they are then dropped for iommufd too.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backend_names[] = { "auto", "group", "cdev", "noiommu" };
static_assert(ARRAY_SIZE(backend_names) == IOMMU_BACKEND_CNT, "a name for each interface");

const char *iommu_backend_name(enum iommu_backend backend)
{
	return backend_names[backend];
}

int iommu_backend_parse(const char *name)
{
	if (!strcmp(name, "auto"))
		return IOMMU_BACKEND_AUTO;
	if (!strcmp(name, "group") || !strcmp(name, "type1"))
		return IOMMU_BACKEND_TYPE1;
	if (!strcmp(name, "cdev") || !strcmp(name, "iommufd"))
		return IOMMU_BACKEND_IOMMUFD;
	return -EINVAL;
}

int iommu_space_create(const struct iommu_opts *opts, struct iommu_space **space)
{
	struct iommu_space *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->sys = opts->sys ? opts->sys : &iommu_sys_kernel;
	s->sysfs = strdup(opts->sysfs ? opts->sysfs : "/sys");
	s->devfs = strdup(opts->devfs ? opts->devfs : "/dev");
	if (!s->sysfs || !s->devfs) {
		iommu_space_destroy(s);
		return -ENOMEM;
	}
	s->wanted = opts->backend;
	s->allow_noiommu = opts->allow_noiommu;
	s->backend = IOMMU_BACKEND_AUTO;
	*space = s;
	return 0;
}

void iommu_space_destroy(struct iommu_space *space)
{
	if (!space)
		return;
	assert(space->nr_devs == 0);
	/* The mappings go with the descriptor that carries them. */
	if (space->fd >= 0)
		space->sys->close(space->fd);
	free(space->sysfs);
	free(space->devfs);
	free(space->range);
	free(space->map);
	free(space);
}

enum iommu_backend iommu_space_backend(const struct iommu_space *space)
{
	return space->backend;
}

static bool can_open(struct iommu_space *s, const char *path)
{
	int fd = s->sys->open(path, O_RDWR);

	if (fd < 0)
		return false;
	s->sys->close(fd);
	return true;
}

/* Is there an iommufd and a character device for address that we may open? */
static bool cdev_usable(struct iommu_space *s, const char *address)
{
	char path[PATH_MAX], name[IOMMU_NAME_LEN];

	if (iommu_sysfs_cdev(s->sysfs, address, name, sizeof(name)) < 0)
		return false;
	if (iommu_path(path, "%s/vfio/devices/%s", s->devfs, name) < 0 || !can_open(s, path))
		return false;
	return iommu_path(path, "%s/iommu", s->devfs) == 0 && can_open(s, path);
}

int iommu_space_choose(struct iommu_space *s, const char *address, const char *token, char *err)
{
	char path[PATH_MAX], name[IOMMU_NAME_LEN];
	bool noiommu;

	iommu_sysfs_path(path, s->sysfs, address, "iommu_group/name");
	noiommu = iommu_sysfs_text(path, name, sizeof(name)) == 0 && !strcmp(name, "vfio-noiommu");
	if (noiommu && !s->allow_noiommu)
		return iommu_fail(err, -EPERM,
				  "no IOMMU confines %s: whoever drives it can read and write all "
				  "of the host's memory. It is taken only if no-IOMMU mode is "
				  "asked for explicitly",
				  address);
	if (s->ops) {
		if (noiommu != (s->backend == IOMMU_BACKEND_NOIOMMU))
			return iommu_fail(err, -EINVAL,
					  "%s cannot share a space with devices that are %s an "
					  "IOMMU",
					  address, noiommu ? "behind" : "without");
		return 0;
	}
	/* A token travels with the device's name on every kernel, and with the
	 * cdev only on new ones. */
	if (noiommu)
		s->backend = IOMMU_BACKEND_NOIOMMU;
	else if (s->wanted != IOMMU_BACKEND_AUTO)
		s->backend = s->wanted;
	else if (!token && cdev_usable(s, address))
		s->backend = IOMMU_BACKEND_IOMMUFD;
	else
		s->backend = IOMMU_BACKEND_TYPE1;
	s->ops = s->backend == IOMMU_BACKEND_IOMMUFD ? &iommu_iommufd_ops : &iommu_type1_ops;
	return 0;
}

unsigned int iommu_space_ranges(const struct iommu_space *space, const struct iommu_range **ranges)
{
	*ranges = space->range;
	return space->nr_ranges;
}

void iommu_space_set_ranges(struct iommu_space *s, struct iommu_range *range, unsigned int nr)
{
	free(s->range);
	s->range = range;
	s->nr_ranges = nr;
}

uint64_t iommu_space_page_size(const struct iommu_space *space)
{
	return space->page_size;
}

unsigned int iommu_space_nr_mappings(const struct iommu_space *space)
{
	return space->nr_maps;
}

uint64_t iommu_space_mapped_bytes(const struct iommu_space *space)
{
	return space->mapped_bytes;
}

/* Index of the first mapping that ends behind iova. */
static unsigned int first_behind(const struct iommu_space *s, uint64_t iova)
{
	unsigned int lo = 0, hi = s->nr_maps;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (s->map[mid].iova.v + (s->map[mid].len - 1) < iova)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int check_range(const struct iommu_space *s, uint64_t first, uint64_t last, char *err)
{
	const struct iommu_range *before = NULL, *r;

	for (unsigned int i = 0; i < s->nr_ranges; i++) {
		r = &s->range[i];
		if (first >= r->first.v && last <= r->last.v)
			return 0;
		if (r->last.v < last)
			before = r;
	}
	if (before && before < s->range + s->nr_ranges - 1)
		return iommu_fail(err, -EINVAL,
				  "[0x%" PRIx64 ", 0x%" PRIx64 "] meets the reserved addresses "
				  "[0x%" PRIx64 ", 0x%" PRIx64 "]",
				  first, last, before->last.v + 1, before[1].first.v - 1);
	if (before)
		return iommu_fail(err, -EINVAL,
				  "[0x%" PRIx64 ", 0x%" PRIx64 "] is above 0x%" PRIx64
				  ", the last address the devices can reach",
				  first, last, before->last.v);
	return iommu_fail(err, -EINVAL,
			  "[0x%" PRIx64 ", 0x%" PRIx64 "] is below 0x%" PRIx64
			  ", the first address the devices can reach",
			  first, last, s->nr_ranges ? s->range[0].first.v : 0);
}

static int check_mapping(const struct iommu_space *s, const struct iommu_mapping *m, char *err)
{
	uint64_t mask = s->page_size - 1, end;
	unsigned int i;

	if (!m->len || (m->iova.v | m->len | (uintptr_t)m->addr) & mask)
		return iommu_fail(err, -EINVAL,
				  "0x%" PRIx64 " bytes at %p for 0x%" PRIx64
				  ": each must be a multiple of the IOMMU's page of 0x%" PRIx64
				  " bytes",
				  m->len, m->addr, m->iova.v, s->page_size);
	if (!(m->prot & (IOMMU_READ | IOMMU_WRITE)))
		return iommu_fail(err, -EINVAL, "a mapping that allows neither read nor write");
	if (add_overflows(m->iova.v, m->len - 1, &end) ||
	    add_overflows((uintptr_t)m->addr, m->len - 1, &end))
		return iommu_fail(err, -EINVAL, "0x%" PRIx64 " bytes for 0x%" PRIx64 " wrap",
				  m->len, m->iova.v);
	end = m->iova.v + (m->len - 1);
	i = first_behind(s, m->iova.v);
	if (i < s->nr_maps && s->map[i].iova.v <= end)
		return iommu_fail(err, -EEXIST,
				  "[0x%" PRIx64 ", 0x%" PRIx64 "] overlaps the mapping of "
				  "[0x%" PRIx64 ", 0x%" PRIx64 "]",
				  m->iova.v, end, s->map[i].iova.v,
				  s->map[i].iova.v + (s->map[i].len - 1));
	return check_range(s, m->iova.v, end, err);
}

static int reserve_book(struct iommu_space *s, unsigned int more)
{
	unsigned int want = s->nr_maps + more;
	struct iommu_mapping *grown;

	if (want <= s->maps_cap)
		return 0;
	want = want < 16 ? 16 : want * 2;
	grown = realloc(s->map, want * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	s->map = grown;
	s->maps_cap = want;
	return 0;
}

/* What the kernel's errno means for a mapping that passed all checks. */
static int explain_refusal(const struct iommu_space *s, const struct iommu_mapping *m, int code,
			   char *err)
{
	switch (code) {
	case -ENOMEM:
	case -ENOSPC:
		return iommu_budget_refused(s, m->len, code, err);
	case -EFAULT:
		return iommu_fail(err, code,
				  "the memory at %p is not mapped here%s, or is a device's own",
				  m->addr, m->prot & IOMMU_WRITE ? " with write access" : "");
	case -EEXIST:
		return iommu_fail(err, code, "0x%" PRIx64 " is mapped already, but not by this",
				  m->iova.v);
	default:
		return iommu_fail(err, code,
				  "the kernel refuses 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s",
				  m->len, m->iova.v, strerror(-code));
	}
}

/* Hand one checked mapping to the kernel and enter it. The book has room. */
static int map_one(struct iommu_space *s, const struct iommu_mapping *m, char *err)
{
	unsigned int at;
	int ret;

	ret = check_mapping(s, m, err);
	if (ret < 0)
		return ret;
	ret = s->ops->map(s, m);
	if (ret < 0)
		return explain_refusal(s, m, ret, err);
	at = first_behind(s, m->iova.v);
	memmove(&s->map[at + 1], &s->map[at], (s->nr_maps - at) * sizeof(*s->map));
	s->map[at] = *m;
	s->nr_maps++;
	s->mapped_bytes += m->len;
	if (s->entries_known && s->entries_left)
		s->entries_left--;
	return 0;
}

static int check_usable(const struct iommu_space *s, char *err)
{
	if (!s->nr_devs)
		return iommu_fail(err, -ENODEV,
				  "no device has been opened that could reach memory");
	if (s->backend == IOMMU_BACKEND_NOIOMMU)
		return iommu_fail(err, -EOPNOTSUPP,
				  "there is no IOMMU to map anything in: the device reaches all "
				  "memory by its physical address");
	return 0;
}

int iommu_map_all(struct iommu_space *space, const struct iommu_mapping *maps, unsigned int nr,
		  char *err)
{
	uint64_t bytes = 0;
	unsigned int done;
	int ret;

	ret = check_usable(space, err);
	if (ret < 0)
		return ret;
	/* What can be known before is said before: locking many gigabytes only to
	 * fail with the last takes minutes. */
	for (unsigned int i = 0; i < nr; i++) {
		ret = check_mapping(space, &maps[i], err);
		if (ret < 0)
			return ret;
		if (add_overflows(bytes, maps[i].len, &bytes))
			return iommu_fail(err, -EINVAL, "more than 2^64 bytes");
	}
	ret = iommu_budget_entries(space, nr, err);
	if (ret == 0)
		ret = iommu_budget_memlock(space, bytes, err);
	if (ret < 0)
		return ret;
	if (reserve_book(space, nr) < 0)
		return iommu_fail(err, -ENOMEM, "out of memory");
	for (done = 0; done < nr && ret == 0; done++)
		ret = map_one(space, &maps[done], err);
	if (ret == 0)
		return 0;
	/* The last one did not come about. */
	for (done--; done > 0; done--)
		iommu_unmap(space, maps[done - 1].iova, maps[done - 1].len, NULL);
	return ret;
}

int iommu_map(struct iommu_space *space, const struct iommu_mapping *m, char *err)
{
	return iommu_map_all(space, m, 1, err);
}

int iommu_unmap(struct iommu_space *space, iova_t iova, uint64_t len, char *err)
{
	unsigned int at = first_behind(space, iova.v);
	int ret;

	if (at == space->nr_maps || space->map[at].iova.v != iova.v || space->map[at].len != len)
		return iommu_fail(err, -ENOENT,
				  "0x%" PRIx64 " bytes at 0x%" PRIx64 " are not one mapping", len,
				  iova.v);
	ret = space->ops->unmap(space, iova, len);
	if (ret < 0)
		return iommu_fail(err, ret, "the kernel does not unmap 0x%" PRIx64 ": %s", iova.v,
				  strerror(-ret));
	space->nr_maps--;
	memmove(&space->map[at], &space->map[at + 1], (space->nr_maps - at) * sizeof(*space->map));
	space->mapped_bytes -= len;
	if (space->entries_known)
		space->entries_left++;
	return 0;
}

void iommu_space_forget(struct iommu_space *s)
{
	if (s->entries_known)
		s->entries_left += s->nr_maps;
	s->nr_maps = 0;
	s->mapped_bytes = 0;
}

/* The lowest fit at or after from within [from, last]; mappings are sorted. */
static bool find_in(const struct iommu_space *s, uint64_t from, uint64_t last, uint64_t len,
		    uint64_t align, uint64_t *found)
{
	uint64_t at, end;

	for (unsigned int i = first_behind(s, from);; i++) {
		if (add_overflows(from, align - 1, &at))
			return false;
		at = round_down(at, align);
		if (add_overflows(at, len - 1, &end) || end > last)
			return false;
		if (i == s->nr_maps || s->map[i].iova.v > end) {
			*found = at;
			return true;
		}
		if (add_overflows(s->map[i].iova.v, s->map[i].len, &from))
			return false;
	}
}

int iommu_space_find(const struct iommu_space *space, uint64_t len, uint64_t align, iova_t *iova)
{
	uint64_t page = space->page_size ? space->page_size : 1;

	if (align < page)
		align = page;
	if (!len || !is_power_of_two(align))
		return -EINVAL;
	/* Not 0, which some devices take for no address at all. */
	for (unsigned int i = 0; i < space->nr_ranges; i++)
		if (find_in(space, max_u64(space->range[i].first.v, 1), space->range[i].last.v, len,
			    align, &iova->v))
			return 0;
	return -ENOSPC;
}
