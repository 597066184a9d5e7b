/*
 * Interrupts of a device that was handed over, wired to event file descriptors
 * that the caller watches. Called by apps and by probe.c. Never reads one.
 *
 * Linux, include/uapi/linux/vfio.h, VFIO_DEVICE_SET_IRQS.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)IOMMU_IRQ_INTX == VFIO_PCI_INTX_IRQ_INDEX, "VFIO's numbers");
static_assert((int)IOMMU_IRQ_MSIX == VFIO_PCI_MSIX_IRQ_INDEX, "VFIO's numbers");
static_assert((int)IOMMU_IRQ_ERR == VFIO_PCI_ERR_IRQ_INDEX, "VFIO's numbers");
static_assert((int)IOMMU_IRQ_REQ == VFIO_PCI_REQ_IRQ_INDEX, "VFIO's numbers");
static_assert((int)IOMMU_IRQ_CNT == VFIO_PCI_NUM_IRQS, "VFIO's numbers");

static const char *const irq_names[] = { "INTx", "MSI", "MSI-X", "error", "request" };
static_assert(ARRAY_SIZE(irq_names) == IOMMU_IRQ_CNT, "a name for each interrupt");

int iommu_dev_nr_vectors(struct iommu_dev *dev, enum iommu_irq irq)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = irq };
	int ret;

	if ((unsigned int)irq >= dev->nr_irqs || irq >= IOMMU_IRQ_CNT)
		return 0;
	ret = dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
	/* A function without this kind: the kernel says EINVAL for some. */
	if (ret == -EINVAL)
		return 0;
	if (ret < 0)
		return ret;
	return info.flags & VFIO_IRQ_INFO_EVENTFD && info.count <= INT32_MAX ? (int)info.count : 0;
}

static int set_off(struct iommu_dev *dev, enum iommu_irq irq)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = irq,
	};

	dev->nr_wired[irq] = 0;
	return dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set);
}

int iommu_dev_irqs(struct iommu_dev *dev, enum iommu_irq irq, const int *fds, unsigned int nr,
		   char *err)
{
	struct vfio_irq_set *set;
	int ret, has;

	has = iommu_dev_nr_vectors(dev, irq);
	if (has < 0)
		return iommu_fail(err, has, "%s does not tell of its interrupts: %s", dev->address,
				  strerror(-has));
	if (nr > (unsigned int)has)
		return iommu_fail(err, -EINVAL, "%s has %d %s vectors, not %u", dev->address, has,
				  irq < IOMMU_IRQ_CNT ? irq_names[irq] : "such", nr);
	/* How many are wired cannot be changed while some are. */
	if (dev->nr_wired[irq])
		set_off(dev, irq);
	if (!nr)
		return 0;
	set = calloc(1, sizeof(*set) + nr * sizeof(int32_t));
	if (!set)
		return iommu_fail(err, -ENOMEM, "out of memory");
	set->argsz = (uint32_t)(sizeof(*set) + nr * sizeof(int32_t));
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = irq;
	set->count = nr;
	memcpy(set->data, fds, nr * sizeof(int32_t));
	ret = dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	if (ret > 0)
		return iommu_fail(err, -ENOSPC,
				  "the host has %d interrupt vectors left for %s, not %u", ret,
				  dev->address, nr);
	if (ret < 0)
		return iommu_fail(err, ret, "%u %s vectors of %s cannot be wired: %s", nr,
				  irq_names[irq], dev->address, strerror(-ret));
	dev->nr_wired[irq] = nr;
	return 0;
}

int iommu_dev_irq_trigger(struct iommu_dev *dev, enum iommu_irq irq, unsigned int vector)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = irq,
		.start = vector,
		.count = 1,
	};

	if (irq >= IOMMU_IRQ_CNT || vector >= dev->nr_wired[irq])
		return -EINVAL;
	return dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set);
}

void iommu_dev_irqs_off(struct iommu_dev *dev)
{
	for (unsigned int irq = 0; irq < IOMMU_IRQ_CNT; irq++)
		if (dev->nr_wired[irq])
			set_off(dev, (enum iommu_irq)irq);
}
