/*
 * A device that was handed over: open, its regions by file and by mapping,
 * reset, close. Called by apps and by probe.c. Which of the kernel's interfaces
 * opened it is type1.c's or iommufd.c's matter; interrupts are irq.c's.
 *
 * Linux, Documentation/driver-api/vfio.rst, "VFIO Device API".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* More than a region has to say about itself. */
#define INFO_MAX (1 << 16)

/* PCI Local Bus Specification, "Device Control": the command register. */
enum {
	PCI_COMMAND_AT = 4,
	PCI_COMMAND_BUS_MASTER = 1 << 2,
};

static int read_info(struct iommu_dev *dev, char *err)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int ret = dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_GET_INFO, &info);

	if (ret < 0)
		return iommu_fail(err, ret, "%s does not describe itself: %s", dev->address,
				  strerror(-ret));
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return iommu_fail(err, -ENOTSUP, "%s is no PCI device to VFIO", dev->address);
	dev->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	dev->nr_regions = info.num_regions;
	dev->nr_irqs = info.num_irqs;
	return 0;
}

/* The space as it was before its first device. */
static void unchoose(struct iommu_space *s)
{
	if (s->nr_devs)
		return;
	if (s->fd >= 0)
		s->sys->close(s->fd);
	s->fd = -1;
	s->ops = NULL;
	s->backend = IOMMU_BACKEND_AUTO;
}

/* Let go of what attach() took; dev itself stays. */
static void release(struct iommu_dev *dev)
{
	struct iommu_space *s = dev->space;

	if (dev->fd >= 0)
		s->sys->close(dev->fd);
	s->ops->detach(s, dev);
	if (--s->nr_devs == 0)
		iommu_space_forget(s);
}

int iommu_dev_open(struct iommu_space *space, const char *address, const char *token,
		   struct iommu_dev **devp, char *err)
{
	struct iommu_dev *dev;
	int ret;

	ret = iommu_sysfs_check(space->sysfs, address, err);
	if (ret < 0)
		return ret;
	if (token && strlen(token) != IOMMU_TOKEN_LEN)
		return iommu_fail(err, -EINVAL, "a VF token is a UUID");
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return iommu_fail(err, -ENOMEM, "out of memory");
	dev->space = space;
	dev->fd = -1;
	strcpy(dev->address, address);
	ret = iommu_space_choose(space, address, token, err);
	if (ret < 0)
		goto err_free;
	ret = space->ops->attach(space, dev, token, err);
	if (ret < 0)
		goto err_unchoose;
	space->nr_devs++;
	ret = space->ops->refresh(space);
	if (ret < 0)
		iommu_fail(err, ret, "the IOMMU of %s does not describe itself: %s", address,
			   strerror(-ret));
	else
		ret = read_info(dev, err);
	if (ret < 0)
		goto err_release;
	*devp = dev;
	return 0;

err_release:
	release(dev);
err_unchoose:
	unchoose(space);
err_free:
	free(dev);
	return ret;
}

void iommu_dev_close(struct iommu_dev *dev)
{
	if (!dev)
		return;
	iommu_dev_irqs_off(dev);
	iommu_dev_unmap_bars(dev);
	release(dev);
	for (unsigned int i = 0; i < ARRAY_SIZE(dev->region); i++)
		free(dev->region[i].area);
	free(dev);
}

const char *iommu_dev_address(const struct iommu_dev *dev)
{
	return dev->address;
}

const char *iommu_dev_path(const struct iommu_dev *dev)
{
	return dev->path;
}

bool iommu_dev_can_reset(const struct iommu_dev *dev)
{
	return dev->can_reset;
}

int iommu_dev_reset(struct iommu_dev *dev, char *err)
{
	int ret;

	if (!dev->can_reset)
		return iommu_fail(err, -ENOTTY, "%s has no reset", dev->address);
	ret = dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_RESET, NULL);
	if (ret < 0)
		return iommu_fail(err, ret, "%s does not reset: %s", dev->address, strerror(-ret));
	return 0;
}

/* ---- Regions ---- */

/* Areas that may be mapped, where the kernel names any. */
static int take_areas(struct iommu_dev_region_state *r, const struct vfio_region_info *info,
		      uint32_t len)
{
	const struct vfio_region_info_cap_sparse_mmap *cap;
	uint32_t at = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0, next;

	while (at >= sizeof(*info) && at < len && len - at >= sizeof(cap->header)) {
		cap = (const void *)((const char *)info + at);
		if (cap->header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && len - at >= sizeof(*cap))
			break;
		next = cap->header.next;
		at = next > at ? next : 0;
	}
	if (at < sizeof(*info) || at >= len)
		return -ENOENT;
	cap = (const void *)((const char *)info + at);
	if (cap->nr_areas > (len - at - sizeof(*cap)) / sizeof(cap->areas[0]))
		return -EPROTO;
	r->area = calloc(cap->nr_areas + 1, sizeof(*r->area));
	if (!r->area)
		return -ENOMEM;
	for (uint32_t i = 0; i < cap->nr_areas; i++) {
		uint64_t end;

		if (add_overflows(cap->areas[i].offset, cap->areas[i].size, &end) || end > r->size)
			return -EPROTO;
		/* Some are empty: nothing left beside the interrupt table. */
		if (cap->areas[i].size)
			r->area[r->nr_areas++] =
				(struct iommu_area){ cap->areas[i].offset, cap->areas[i].size };
	}
	return 0;
}

static int take_region(struct iommu_dev_region_state *r, const struct vfio_region_info *info,
		       uint32_t len)
{
	int ret;

	r->size = info->size;
	r->offset = info->offset;
	r->flags = (info->flags & VFIO_REGION_INFO_FLAG_READ ? IOMMU_REGION_READ : 0) |
		   (info->flags & VFIO_REGION_INFO_FLAG_WRITE ? IOMMU_REGION_WRITE : 0) |
		   (info->flags & VFIO_REGION_INFO_FLAG_MMAP ? IOMMU_REGION_MMAP : 0);
	if (!r->size || !(r->flags & IOMMU_REGION_MMAP))
		return 0;
	ret = take_areas(r, info, len);
	if (ret != -ENOENT)
		return ret;
	/* No such list: all of it. */
	r->area = calloc(1, sizeof(*r->area));
	if (!r->area)
		return -ENOMEM;
	r->area[0].size = r->size;
	r->nr_areas = 1;
	return 0;
}

int iommu_dev_region_state(struct iommu_dev *dev, unsigned int index,
			   struct iommu_dev_region_state **state)
{
	struct iommu_dev_region_state *r;
	struct vfio_region_info *info;
	uint32_t len = sizeof(*info);
	int ret;

	if (index >= ARRAY_SIZE(dev->region) || index >= dev->nr_regions)
		return -EINVAL;
	r = &dev->region[index];
	*state = r;
	if (r->known)
		return 0;
	/* Asked twice where the first answer says that it is longer. */
	for (;;) {
		info = calloc(1, len);
		if (!info)
			return -ENOMEM;
		info->argsz = len;
		info->index = index;
		ret = dev->space->sys->ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO, info);
		if (ret < 0 || info->argsz <= len || info->argsz > INFO_MAX)
			break;
		len = info->argsz;
		free(info);
	}
	if (ret == 0)
		ret = take_region(r, info, len);
	free(info);
	if (ret < 0) {
		free(r->area);
		*r = (struct iommu_dev_region_state){ 0 };
		return ret;
	}
	r->known = true;
	return 0;
}

int iommu_dev_region(struct iommu_dev *dev, unsigned int index, struct iommu_region *region)
{
	struct iommu_dev_region_state *r;
	int ret = iommu_dev_region_state(dev, index, &r);

	if (ret < 0)
		return ret;
	*region = (struct iommu_region){ .index = index, .flags = r->flags, .size = r->size };
	return 0;
}

static int check_access(struct iommu_dev *dev, unsigned int index, uint64_t offset, size_t len,
			unsigned int need, struct iommu_dev_region_state **r)
{
	uint64_t end;
	int ret = iommu_dev_region_state(dev, index, r);

	if (ret < 0)
		return ret;
	if (add_overflows(offset, len, &end) || end > (*r)->size)
		return -ERANGE;
	return (*r)->flags & need ? 0 : -EACCES;
}

int iommu_dev_read(struct iommu_dev *dev, unsigned int index, uint64_t offset, void *buf,
		   size_t len)
{
	struct iommu_dev_region_state *r;
	ssize_t n;
	int ret = check_access(dev, index, offset, len, IOMMU_REGION_READ, &r);

	if (ret < 0)
		return ret;
	n = dev->space->sys->pread(dev->fd, buf, len, r->offset + offset);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

int iommu_dev_write(struct iommu_dev *dev, unsigned int index, uint64_t offset, const void *buf,
		    size_t len)
{
	struct iommu_dev_region_state *r;
	ssize_t n;
	int ret = check_access(dev, index, offset, len, IOMMU_REGION_WRITE, &r);

	if (ret < 0)
		return ret;
	n = dev->space->sys->pwrite(dev->fd, buf, len, r->offset + offset);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

int iommu_dev_bus_master(struct iommu_dev *dev, bool on)
{
	uint8_t raw[2];
	int ret = iommu_dev_read(dev, IOMMU_REGION_CONFIG, PCI_COMMAND_AT, raw, sizeof(raw));

	if (ret < 0)
		return ret;
	raw[0] = on ? raw[0] | PCI_COMMAND_BUS_MASTER : raw[0] & ~PCI_COMMAND_BUS_MASTER;
	return iommu_dev_write(dev, IOMMU_REGION_CONFIG, PCI_COMMAND_AT, raw, sizeof(raw));
}

/* ---- BARs ---- */

int iommu_dev_map_bar(struct iommu_dev *dev, unsigned int index, char *err)
{
	const struct iommu_sys *sys = dev->space->sys;
	struct iommu_dev_region_state *r;
	int ret, prot;
	uint8_t *base;
	void *got;

	ret = index < IOMMU_REGION_ROM ? iommu_dev_region_state(dev, index, &r) : -EINVAL;
	if (ret < 0)
		return iommu_fail(err, ret, "%s has no BAR %u", dev->address, index);
	if (r->base)
		return 0;
	if (!r->nr_areas)
		return iommu_fail(err, -ENOTSUP, "no part of BAR %u of %s can be mapped", index,
				  dev->address);
	/* One range of addresses for all of the BAR, holes where it has holes. */
	got = sys->mmap(NULL, r->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0, &ret);
	if (got == MAP_FAILED)
		return iommu_fail(err, ret, "no room for BAR %u of %s: %s", index, dev->address,
				  strerror(-ret));
	base = got;
	prot = (r->flags & IOMMU_REGION_READ ? PROT_READ : 0) |
	       (r->flags & IOMMU_REGION_WRITE ? PROT_WRITE : 0);
	for (unsigned int i = 0; i < r->nr_areas; i++) {
		got = sys->mmap(base + r->area[i].offset, r->area[i].size, prot,
				MAP_SHARED | MAP_FIXED, dev->fd, r->offset + r->area[i].offset,
				&ret);
		if (got == MAP_FAILED) {
			sys->munmap(base, r->size);
			return iommu_fail(err, ret, "BAR %u of %s cannot be mapped: %s", index,
					  dev->address, strerror(-ret));
		}
	}
	r->base = base;
	return 0;
}

void *iommu_dev_bar(struct iommu_dev *dev, unsigned int index, uint64_t offset, size_t len)
{
	const struct iommu_dev_region_state *r;
	uint64_t end;

	if (index >= IOMMU_REGION_ROM)
		return NULL;
	r = &dev->region[index];
	if (!r->base || !len || add_overflows(offset, len, &end))
		return NULL;
	for (unsigned int i = 0; i < r->nr_areas; i++)
		if (offset >= r->area[i].offset && end <= r->area[i].offset + r->area[i].size)
			return r->base + offset;
	return NULL;
}

void iommu_dev_unmap_bars(struct iommu_dev *dev)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(dev->region); i++) {
		if (dev->region[i].base)
			dev->space->sys->munmap(dev->region[i].base, dev->region[i].size);
		dev->region[i].base = NULL;
	}
}
