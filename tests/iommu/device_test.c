/*
 * A device that is open: regions, BARs with holes, interrupts, reset.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void regions_are_described(void **state)
{
	struct iommu_region region;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), 0);
	assert_int_equal(region.size, FAKE_BAR_LEN);
	assert_int_equal(region.flags, IOMMU_REGION_READ | IOMMU_REGION_WRITE | IOMMU_REGION_MMAP);
	assert_int_equal(iommu_dev_region(r.dev, 3, &region), 0);
	assert_int_equal(region.flags, IOMMU_REGION_READ | IOMMU_REGION_WRITE);
	assert_int_equal(iommu_dev_region(r.dev, 1, &region), 0);
	assert_int_equal(region.size, 0);
	assert_int_equal(iommu_dev_region(r.dev, IOMMU_REGION_PCI_CNT, &region), -EINVAL);
	assert_int_equal(iommu_dev_region(r.dev, UINT32_MAX, &region), -EINVAL);
	rig_destroy(&r);
}

static void reads_and_writes_stay_inside(void **state)
{
	uint8_t buf[8] = { 1, 2, 3, 4 }, back[8] = { 0 };
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_write(r.dev, 3, FAKE_BAR_LEN - 4, buf, 4), 0);
	assert_int_equal(iommu_dev_read(r.dev, 3, FAKE_BAR_LEN - 4, back, 4), 0);
	assert_memory_equal(buf, back, 4);
	assert_int_equal(iommu_dev_read(r.dev, 3, FAKE_BAR_LEN - 4, back, 5), -ERANGE);
	assert_int_equal(iommu_dev_read(r.dev, 3, UINT64_MAX, back, 4), -ERANGE);
	assert_int_equal(iommu_dev_write(r.dev, 1, 0, buf, 1), -ERANGE);
	assert_int_equal(iommu_dev_read(r.dev, 99, 0, back, 1), -EINVAL);
	r.f.fail_call = 1;
	r.f.fail_code = -EIO;
	assert_int_equal(iommu_dev_read(r.dev, 3, 0, back, 4), -EIO);
	rig_destroy(&r);
}

static void bus_mastering_keeps_the_other_bits(void **state)
{
	uint8_t command[2];
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_bus_master(r.dev, true), 0);
	assert_int_equal(iommu_dev_read(r.dev, IOMMU_REGION_CONFIG, 4, command, 2), 0);
	assert_int_equal(command[0], 0x06);
	assert_int_equal(iommu_dev_bus_master(r.dev, false), 0);
	assert_int_equal(iommu_dev_read(r.dev, IOMMU_REGION_CONFIG, 4, command, 2), 0);
	assert_int_equal(command[0], 0x02);
	rig_destroy(&r);
}

static void a_whole_bar_is_mapped(void **state)
{
	uint32_t word = 0x12345678, *p;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_null(iommu_dev_bar(r.dev, 0, 0, 4));
	assert_int_equal(iommu_dev_map_bar(r.dev, 0, r.err), 0);
	assert_int_equal(iommu_dev_map_bar(r.dev, 0, r.err), 0);
	assert_int_equal(r.f.nr_mmaps, 1);
	assert_int_equal(iommu_dev_write(r.dev, 0, 4096, &word, 4), 0);
	p = iommu_dev_bar(r.dev, 0, 4096, 4);
	assert_non_null(p);
	assert_int_equal(*p, word);
	assert_non_null(iommu_dev_bar(r.dev, 0, 0, FAKE_BAR_LEN));
	assert_null(iommu_dev_bar(r.dev, 0, 1, FAKE_BAR_LEN));
	assert_null(iommu_dev_bar(r.dev, 0, UINT64_MAX, 4));
	assert_null(iommu_dev_bar(r.dev, 0, 0, 0));
	assert_null(iommu_dev_bar(r.dev, IOMMU_REGION_CONFIG, 0, 4));
	assert_null(iommu_dev_bar(r.dev, 77, 0, 4));
	rig_destroy(&r);
}

static void a_bar_with_a_hole_keeps_it(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.sparse = true;
	rig_open(&r);
	assert_int_equal(iommu_dev_map_bar(r.dev, 0, r.err), 0);
	assert_non_null(iommu_dev_bar(r.dev, 0, 0, 4096));
	assert_null(iommu_dev_bar(r.dev, 0, 4096, 4));
	assert_null(iommu_dev_bar(r.dev, 0, 4092, 8));
	assert_non_null(iommu_dev_bar(r.dev, 0, 8192, 8192));
	/* One range of addresses, as in the device. */
	assert_ptr_equal((uint8_t *)iommu_dev_bar(r.dev, 0, 0, 1) + 8192,
			 iommu_dev_bar(r.dev, 0, 8192, 1));
	rig_destroy(&r);
}

static void what_cannot_be_mapped_is_said(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_map_bar(r.dev, 3, r.err), -ENOTSUP);
	assert_non_null(strstr(r.err, "no part of BAR 3"));
	assert_int_equal(iommu_dev_map_bar(r.dev, 1, r.err), -ENOTSUP);
	assert_int_equal(iommu_dev_map_bar(r.dev, 6, r.err), -EINVAL);
	/* Only the second of the two mmaps fails: the first is taken back. */
	for (int nth = 1; nth <= 2; nth++) {
		struct iommu_region region;

		assert_int_equal(iommu_dev_region(r.dev, 0, &region), 0);
		r.f.fail_call = nth;
		r.f.fail_code = -ENOMEM;
		assert_int_equal(iommu_dev_map_bar(r.dev, 0, r.err), -ENOMEM);
		assert_int_equal(r.f.nr_mmaps, 0);
		assert_null(iommu_dev_bar(r.dev, 0, 0, 4));
	}
	rig_destroy(&r);
}

static void areas_outside_the_region_are_not_mapped(void **state)
{
	struct iommu_region region;
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.sparse = true;
	r.f.lie_area_end = UINT64_MAX - 4096;
	rig_open(&r);
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), -EPROTO);
	r.f.lie_area_end = 8192 + 1;
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), -EPROTO);
	assert_true(iommu_dev_map_bar(r.dev, 0, r.err) < 0);
	r.f.lie_area_end = 0;
	r.f.lie_nr_areas = UINT32_MAX;
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), -EPROTO);
	r.f.lie_nr_areas = 0;
	r.f.lie_argsz = UINT32_MAX;
	assert_int_equal(iommu_dev_region(r.dev, 0, &region), 0);
	rig_destroy(&r);
}

static void vectors_are_wired_and_signalled(void **state)
{
	int fds[FAKE_VECTORS];
	uint64_t count;
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_nr_vectors(r.dev, IOMMU_IRQ_MSIX), FAKE_VECTORS);
	assert_int_equal(iommu_dev_nr_vectors(r.dev, IOMMU_IRQ_MSI), 0);
	assert_int_equal(iommu_dev_nr_vectors(r.dev, IOMMU_IRQ_INTX), 0);
	assert_int_equal(iommu_dev_nr_vectors(r.dev, IOMMU_IRQ_CNT), 0);
	for (unsigned int i = 0; i < FAKE_VECTORS; i++)
		fds[i] = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, FAKE_VECTORS, r.err), 0);
	for (unsigned int i = 0; i < FAKE_VECTORS; i++) {
		assert_int_equal(iommu_dev_irq_trigger(r.dev, IOMMU_IRQ_MSIX, i), 0);
		assert_int_equal(read(fds[i], &count, sizeof(count)), sizeof(count));
		assert_int_equal(count, 1);
	}
	assert_int_equal(iommu_dev_irq_trigger(r.dev, IOMMU_IRQ_MSIX, FAKE_VECTORS), -EINVAL);
	/* Another number: what was wired is taken off first. */
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, 1, r.err), 0);
	assert_int_equal(iommu_dev_irq_trigger(r.dev, IOMMU_IRQ_MSIX, 1), -EINVAL);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_REQ, fds, 1, r.err), 0);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_ERR, fds, 1, r.err), 0);
	/* What is left on is turned off by closing: rig_destroy() looks. */
	rig_destroy(&r);
	for (unsigned int i = 0; i < FAKE_VECTORS; i++)
		close(fds[i]);
}

static void more_vectors_than_there_are_are_refused(void **state)
{
	int fds[FAKE_VECTORS + 1] = { -1, -1, -1, -1 };
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, FAKE_VECTORS + 1, r.err),
			 -EINVAL);
	assert_non_null(strstr(r.err, "has 3 MSI-X vectors, not 4"));
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_INTX, fds, 1, r.err), -EINVAL);
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_CNT, fds, 1, r.err), -EINVAL);
	/* The host has run out of vectors. */
	r.f.vectors_left = 2;
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, 3, r.err), -ENOSPC);
	assert_non_null(strstr(r.err, "2 interrupt vectors left"));
	r.f.fail_request = VFIO_DEVICE_SET_IRQS;
	r.f.fail_code = -EINVAL;
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, 1, r.err), -EINVAL);
	assert_non_null(strstr(r.err, "cannot be wired"));
	r.f.fail_request = VFIO_DEVICE_GET_IRQ_INFO;
	r.f.fail_code = -EIO;
	assert_int_equal(iommu_dev_irqs(r.dev, IOMMU_IRQ_MSIX, fds, 1, r.err), -EIO);
	rig_destroy(&r);
}

static void a_device_is_reset_if_it_can_be(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	rig_open(&r);
	assert_true(iommu_dev_can_reset(r.dev));
	assert_int_equal(iommu_dev_reset(r.dev, r.err), 0);
	assert_int_equal(r.f.nr_resets, 1);
	r.f.fail_request = VFIO_DEVICE_RESET;
	r.f.fail_code = -EAGAIN;
	assert_int_equal(iommu_dev_reset(r.dev, r.err), -EAGAIN);
	rig_destroy(&r);
	rig_create(&r, BACKEND(state));
	r.f.can_reset = false;
	rig_open(&r);
	assert_int_equal(iommu_dev_reset(r.dev, r.err), -ENOTTY);
	assert_int_equal(r.f.nr_resets, 0);
	rig_destroy(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_BOTH(regions_are_described),
		FOR_BOTH(reads_and_writes_stay_inside),
		FOR_BOTH(bus_mastering_keeps_the_other_bits),
		FOR_BOTH(a_whole_bar_is_mapped),
		FOR_BOTH(a_bar_with_a_hole_keeps_it),
		FOR_BOTH(what_cannot_be_mapped_is_said),
		FOR_BOTH(areas_outside_the_region_are_not_mapped),
		FOR_BOTH(vectors_are_wired_and_signalled),
		FOR_BOTH(more_vectors_than_there_are_are_refused),
		FOR_BOTH(a_device_is_reset_if_it_can_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
