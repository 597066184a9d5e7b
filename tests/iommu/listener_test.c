/*
 * Memory that comes and goes: fence, unmap, let go, in this order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "iommu/iommu_spec.h"

/* A caller who writes down what happens, and how much was mapped then. */
struct caller {
	struct rig r;
	struct iommu_listener *l;
	int fence_result;
	char events[64]; /* F fenced, R removed */
	unsigned int mapped[16], nr;
	void *cookie[16];
};

static void note(struct caller *c, char event, const struct iommu_memory *m)
{
	c->mapped[c->nr] = c->r.f.nr_maps;
	c->cookie[c->nr] = m->cookie;
	c->events[c->nr++] = event;
}

static int fence(void *opaque, const struct iommu_memory *m)
{
	struct caller *c = opaque;

	note(c, 'F', m);
	return c->fence_result;
}

static void removed(void *opaque, const struct iommu_memory *m)
{
	note(opaque, 'R', m);
}

static const struct iommu_listener_ops ops = { .fence = fence, .removed = removed };

static void begin(struct caller *c, enum iommu_backend backend)
{
	*c = (struct caller){ 0 };
	rig_create(&c->r, backend);
	rig_open(&c->r);
	assert_int_equal(iommu_listener_create(c->r.space, &ops, c, &c->l), 0);
}

static void end(struct caller *c)
{
	iommu_listener_destroy(c->l);
	rig_destroy(&c->r);
}

static void add(struct caller *c, uint64_t at, void *cookie)
{
	struct iommu_mapping m = rig_piece(at, 0x10000);

	if (iommu_listener_add(c->l, &m, cookie, c->r.err) < 0)
		fail_msg("%s", c->r.err);
}

static void memory_is_fenced_then_unmapped_then_let_go(void **state)
{
	struct caller c;
	int x, y;

	begin(&c, BACKEND(state));
	add(&c, 0x100000, &x);
	add(&c, 0x200000, &y);
	assert_int_equal(c.r.f.nr_maps, 2);
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), 0);
	assert_string_equal(c.events, "FR");
	assert_int_equal(c.mapped[0], 2);
	assert_int_equal(c.mapped[1], 1);
	assert_ptr_equal(c.cookie[1], &x);
	assert_int_equal(iommu_listener_nr(c.l), 1);
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), -ENOENT);
	end(&c);
	assert_string_equal(c.events, "FRR");
	assert_ptr_equal(c.cookie[2], &y);
}

static void a_fence_may_take_its_time(void **state)
{
	struct iommu_mapping again = rig_piece(0x100000, PAGE);
	struct caller c;

	begin(&c, BACKEND(state));
	add(&c, 0x100000, NULL);
	c.fence_result = -EINPROGRESS;
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), -EINPROGRESS);
	/* Asked again: the fence is up already. */
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), -EINPROGRESS);
	assert_string_equal(c.events, "F");
	assert_int_equal(c.r.f.nr_maps, 1);
	/* Its addresses are not free yet. */
	assert_int_equal(iommu_listener_add(c.l, &again, NULL, c.r.err), -EEXIST);
	iommu_listener_fenced(c.l, iova(0x100000));
	assert_string_equal(c.events, "FR");
	assert_int_equal(c.mapped[1], 0);
	assert_int_equal(iommu_listener_add(c.l, &again, NULL, c.r.err), 0);
	/* Told once too often, or of what is no fence. */
	iommu_listener_fenced(c.l, iova(0x100000));
	iommu_listener_fenced(c.l, iova(0x900000));
	assert_int_equal(iommu_listener_nr(c.l), 1);
	end(&c);
}

static void a_fence_that_fails_keeps_the_memory(void **state)
{
	struct caller c;

	begin(&c, BACKEND(state));
	add(&c, 0x100000, NULL);
	c.fence_result = -EIO;
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), -EIO);
	assert_non_null(strstr(c.r.err, "do not let go"));
	assert_string_equal(c.events, "F");
	assert_int_equal(c.r.f.nr_maps, 1);
	c.fence_result = 0;
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), 0);
	assert_string_equal(c.events, "FFR");
	end(&c);
}

static void memory_that_stays_mapped_is_not_let_go(void **state)
{
	struct caller c;

	begin(&c, BACKEND(state));
	add(&c, 0x100000, NULL);
	c.r.f.fail_request =
		c.r.backend == IOMMU_BACKEND_TYPE1 ? VFIO_IOMMU_UNMAP_DMA : IOMMU_UAPI_IOAS_UNMAP;
	c.r.f.fail_code = -EBUSY;
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), -EBUSY);
	assert_string_equal(c.events, "F");
	assert_int_equal(iommu_listener_nr(c.l), 1);
	/* Not even at the end. */
	iommu_listener_destroy(c.l);
	assert_string_equal(c.events, "F");
	c.r.f.fail_request = 0;
	rig_destroy(&c.r);
}

static void what_cannot_be_mapped_is_not_kept(void **state)
{
	struct iommu_mapping m = rig_piece(0xfee00000, PAGE);
	struct caller c;

	begin(&c, BACKEND(state));
	assert_int_equal(iommu_listener_add(c.l, &m, NULL, c.r.err), -EINVAL);
	assert_non_null(strstr(c.r.err, "reserved"));
	assert_int_equal(iommu_listener_nr(c.l), 0);
	assert_int_equal(iommu_listener_remove(c.l, m.iova, c.r.err), -ENOENT);
	end(&c);
	assert_string_equal(c.events, "");
}

static void memory_outlives_the_last_device(void **state)
{
	struct caller c;

	begin(&c, BACKEND(state));
	add(&c, 0x100000, NULL);
	iommu_dev_close(c.r.dev);
	c.r.dev = NULL;
	/* The kernel has dropped it; the caller is told all the same. */
	assert_int_equal(iommu_listener_remove(c.l, iova(0x100000), c.r.err), 0);
	assert_string_equal(c.events, "FR");
	end(&c);
}

static void nobody_need_be_told(void **state)
{
	static const struct iommu_listener_ops none;
	struct iommu_mapping m = rig_piece(0x100000, PAGE);
	struct iommu_listener *l;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_listener_create(r.space, &none, NULL, &l), 0);
	assert_int_equal(iommu_listener_add(l, &m, NULL, r.err), 0);
	assert_int_equal(iommu_listener_remove(l, m.iova, r.err), 0);
	assert_int_equal(iommu_listener_add(l, &m, NULL, NULL), 0);
	iommu_listener_destroy(l);
	iommu_listener_destroy(NULL);
	assert_int_equal(r.f.nr_maps, 0);
	rig_destroy(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_BOTH(memory_is_fenced_then_unmapped_then_let_go),
		FOR_BOTH(a_fence_may_take_its_time),
		FOR_BOTH(a_fence_that_fails_keeps_the_memory),
		FOR_BOTH(memory_that_stays_mapped_is_not_let_go),
		FOR_BOTH(what_cannot_be_mapped_is_not_kept),
		FOR_BOTH(memory_outlives_the_last_device),
		FOR_BOTH(nobody_need_be_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
