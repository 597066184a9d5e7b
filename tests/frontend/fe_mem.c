/*
 * The front-end's guest memory: memfds, their mappings, and telling the
 * back-end. Called by tests and the driver half. Never touches a ring.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/frontend/fe.h"

int fe_mem_new_at(struct fe *fe, uint64_t gpa, uint64_t size, uint64_t mmap_offset)
{
	struct fe_region *r;
	int index, fd, err;
	void *p;

	for (index = 0; index < FE_REGIONS_MAX && fe->region[index].used; index++)
		;
	if (index == FE_REGIONS_MAX)
		return -ENOSPC;
	fd = memfd_create("guest-memory", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)(mmap_offset + size)))
		goto err_close;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)mmap_offset);
	if (p == MAP_FAILED)
		goto err_close;
	r = &fe->region[index];
	*r = (struct fe_region){
		.used = true,
		.fd = fd,
		.host = p,
		.gpa = gpa,
		.uva = (uintptr_t)p,
		.size = size,
		.mmap_offset = mmap_offset,
	};
	return index;

err_close:
	err = -errno;
	close(fd);
	return err;
}

int fe_mem_new(struct fe *fe, uint64_t size)
{
	int index = fe_mem_new_at(fe, fe->gpa_next, size, 0);

	/* A hole after each region: a chain that runs over its end must fail. */
	if (index >= 0)
		fe->gpa_next += size + (1 << 20);
	return index;
}

#define PAGE 4096ull

/* Where a page of a scattered region is in it: one after the other is 37 apart. */
static uint64_t scatter(const struct fe_region *r, uint64_t page)
{
	return r->scattered ? (page * 37 + 11) % (r->size / PAGE) : page;
}

int fe_mem_scatter(struct fe *fe, int index)
{
	struct fe_region *r = &fe->region[index];
	uint64_t nr = r->size / PAGE;

	if (!is_power_of_two(nr) || r->mmap_offset)
		return -EINVAL;
	r->scattered = true;
	for (uint64_t i = 0; i < nr; i++)
		if (mmap(r->host + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 r->fd, (off_t)(scatter(r, i) * PAGE)) == MAP_FAILED)
			return -errno;
	return 0;
}

void fe_mem_free(struct fe *fe, int index)
{
	struct fe_region *r = &fe->region[index];

	if (!r->used)
		return;
	munmap(r->host, r->size);
	close(r->fd);
	memset(r, 0, sizeof(*r));
}

static struct fe_mem_region wire_region(const struct fe_region *r)
{
	return (struct fe_mem_region){
		.gpa = r->gpa,
		.size = r->size,
		.uva = r->uva,
		.mmap_offset = r->mmap_offset,
	};
}

/* All regions but skip (-1: none) in one message. */
static int send_table(struct fe *fe, int skip)
{
	struct fe_mem_table t = { 0 };
	int fds[FE_MEM_TABLE_MAX], err;

	for (int i = 0; i < FE_REGIONS_MAX; i++) {
		if (!fe->region[i].used || i == skip)
			continue;
		if (t.nr == FE_MEM_TABLE_MAX)
			return -ENOSPC;
		fds[t.nr] = fe->region[i].fd;
		t.region[t.nr++] = wire_region(&fe->region[i]);
	}
	err = fe_request(fe, FE_SET_MEM_TABLE, &t, 8 + t.nr * (uint32_t)sizeof(t.region[0]), fds,
			 t.nr);
	for (int i = 0; i < FE_REGIONS_MAX && !err; i++)
		fe->region[i].shared = fe->region[i].used && i != skip;
	return err;
}

int fe_mem_share(struct fe *fe)
{
	struct fe_mem_single s = { 0 };
	int err;

	if (!fe_has_proto(fe, FE_PROTO_CONFIGURE_MEM_SLOTS))
		return send_table(fe, -1);
	for (int i = 0; i < FE_REGIONS_MAX; i++) {
		if (!fe->region[i].used || fe->region[i].shared)
			continue;
		s.region = wire_region(&fe->region[i]);
		err = fe_request(fe, FE_ADD_MEM_REG, &s, sizeof(s), &fe->region[i].fd, 1);
		if (err)
			return err;
		fe->region[i].shared = true;
	}
	return 0;
}

int fe_mem_unshare(struct fe *fe, int index)
{
	struct fe_mem_single s = { .region = wire_region(&fe->region[index]) };
	int err;

	if (!fe_has_proto(fe, FE_PROTO_CONFIGURE_MEM_SLOTS))
		return send_table(fe, index);
	err = fe_request(fe, FE_REM_MEM_REG, &s, sizeof(s), NULL, 0);
	if (!err)
		fe->region[index].shared = false;
	return err;
}

uint64_t fe_alloc(struct fe *fe, int index, uint64_t size, uint64_t align)
{
	struct fe_region *r = &fe->region[index];
	uint64_t start = round_up(r->alloc_end, align);

	if (!r->used || start > r->size || size > r->size - start)
		return 0;
	r->alloc_end = start + size;
	return r->gpa + start;
}

static struct fe_region *region_of(struct fe *fe, uint64_t gpa)
{
	for (int i = 0; i < FE_REGIONS_MAX; i++) {
		struct fe_region *r = &fe->region[i];

		if (r->used && gpa >= r->gpa && gpa - r->gpa < r->size)
			return r;
	}
	return NULL;
}

void *fe_ptr(struct fe *fe, uint64_t gpa, uint64_t len)
{
	struct fe_region *r = region_of(fe, gpa);

	if (!r || len > r->size - (gpa - r->gpa))
		return NULL;
	return r->host + (gpa - r->gpa);
}

uint64_t fe_phys(struct fe *fe, uint64_t gpa)
{
	struct fe_region *r = region_of(fe, gpa);
	uint64_t off = r ? gpa - r->gpa : 0;

	return r ? r->gpa + scatter(r, off / PAGE) * PAGE + off % PAGE : gpa;
}

uint64_t fe_uva(struct fe *fe, uint64_t gpa)
{
	struct fe_region *r = region_of(fe, gpa);

	return r ? r->uva + (fe_phys(fe, gpa) - r->gpa) : 0;
}
