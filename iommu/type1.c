/*
 * VFIO's first interface: a container for the mappings, groups that are put into
 * it, devices taken out of the groups. Serves no-IOMMU mode too, where there is
 * nothing to map. Called by space.c and device.c through struct
 * iommu_backend_ops. Keeps no book of mappings.
 *
 * Linux, Documentation/driver-api/vfio.rst, "VFIO Usage Example".
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

/* More than any kernel has to say about an IOMMU. */
#define INFO_MAX (1 << 20)

static int open_container(struct iommu_space *s, char *err)
{
	bool noiommu = s->backend == IOMMU_BACKEND_NOIOMMU;
	char path[PATH_MAX];
	int fd, ret;

	if (iommu_path(path, "%s/vfio/vfio", s->devfs) < 0)
		return iommu_fail(err, -ENAMETOOLONG, "the path of /dev is too long");
	fd = s->sys->open(path, O_RDWR);
	if (fd < 0)
		return iommu_fail(err, fd, "%s: %s%s", path, strerror(-fd),
				  fd == -ENOENT || fd == -ENODEV ? " (modprobe vfio-pci)" : "");
	ret = s->sys->ioctl(fd, VFIO_GET_API_VERSION, NULL);
	if (ret != VFIO_API_VERSION) {
		s->sys->close(fd);
		return iommu_fail(err, -EPROTO, "%s speaks version %d of VFIO, not %d", path, ret,
				  VFIO_API_VERSION);
	}
	ret = s->sys->ioctl(fd, VFIO_CHECK_EXTENSION,
			    (void *)(uintptr_t)(noiommu ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU));
	if (ret <= 0) {
		s->sys->close(fd);
		return iommu_fail(err, -EOPNOTSUPP, "this kernel's VFIO has no %s (%s)",
				  noiommu ? "no-IOMMU mode" : "type1 version 2",
				  noiommu ? "modprobe vfio enable_unsafe_noiommu_mode=1"
					  : "modprobe vfio_iommu_type1");
	}
	s->fd = fd;
	return 0;
}

/* Not viable, or taken: say by whom as far as sysfs knows. */
static int explain_group(struct iommu_space *s, const char *address, int code, char *err)
{
	struct iommu_group *g;

	if (!err || iommu_group_read(s->sysfs, address, &g, err) < 0)
		return code;
	iommu_group_explain(g, err);
	if (g->viable)
		iommu_fail(err, code,
			   "the kernel says that IOMMU group %d is not viable, though "
			   "none of its %u members has a driver that sysfs shows",
			   g->id, g->nr_members);
	iommu_group_free(g);
	return code;
}

static int open_group(struct iommu_space *s, struct iommu_open_group *g, const char *address,
		      char *err)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int fd, ret;

	fd = s->sys->open(g->path, O_RDWR);
	if (fd == -EBUSY)
		return iommu_fail(err, fd,
				  "%s is in use: another process holds %s or a device of its "
				  "group",
				  g->path, address);
	if (fd == -ENOENT)
		return iommu_fail(err, -ENODEV,
				  "%s does not exist: %s is not bound to a VFIO driver", g->path,
				  address);
	if (fd < 0)
		return iommu_fail(err, fd, "%s: %s%s", g->path, strerror(-fd),
				  fd == -EACCES ? " (its owner is who may use the device: chown it)"
						: "");
	ret = s->sys->ioctl(fd, VFIO_GROUP_GET_STATUS, &status);
	if (ret == 0 && !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		ret = -EPERM;
	if (ret == 0)
		ret = s->sys->ioctl(fd, VFIO_GROUP_SET_CONTAINER, &s->fd);
	if (ret < 0) {
		s->sys->close(fd);
		if (ret == -EPERM)
			return explain_group(s, address, ret, err);
		return iommu_fail(err, ret, "%s does not join the container: %s", g->path,
				  strerror(-ret));
	}
	g->fd = fd;
	return 0;
}

static int set_iommu(struct iommu_space *s, const struct iommu_open_group *g, char *err)
{
	bool noiommu = s->backend == IOMMU_BACKEND_NOIOMMU;
	int ret;

	if (s->iommu_set)
		return 0;
	ret = s->sys->ioctl(s->fd, VFIO_SET_IOMMU,
			    (void *)(uintptr_t)(noiommu ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU));
	if (ret == -EPERM)
		return iommu_fail(err, ret,
				  "the IOMMU does not remap interrupts: devices of %s could forge "
				  "them. Enable interrupt remapping (intremap) in the firmware",
				  g->path);
	if (ret < 0)
		return iommu_fail(
			err, ret,
			"%s cannot be put behind its IOMMU: %s (the kernel's log may tell "
			"of firmware that wants a 1:1 mapping)",
			g->path, strerror(-ret));
	s->iommu_set = true;
	return 0;
}

static void put_group(struct iommu_space *s, struct iommu_open_group *g)
{
	struct iommu_open_group **link = &s->groups;

	if (--g->nr_devs)
		return;
	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	/* Closing the last group takes the IOMMU off the container. */
	s->sys->close(g->fd);
	if (!s->groups)
		s->iommu_set = false;
	free(g);
}

/* The group of address, opened and in the container. */
static int get_group(struct iommu_space *s, const char *address, struct iommu_open_group **group,
		     char *err)
{
	bool noiommu = s->backend == IOMMU_BACKEND_NOIOMMU;
	struct iommu_open_group *g;
	char link[PATH_MAX], number[32];
	int ret;

	iommu_sysfs_path(link, s->sysfs, address, "iommu_group");
	ret = iommu_sysfs_link(link, number, sizeof(number));
	if (ret < 0)
		return iommu_fail(err, ret, "%s is in no IOMMU group", address);
	for (g = s->groups; g; g = g->next) {
		if (g->id == atoi(number)) {
			g->nr_devs++;
			*group = g;
			return 0;
		}
	}
	g = calloc(1, sizeof(*g));
	if (!g)
		return iommu_fail(err, -ENOMEM, "out of memory");
	g->id = atoi(number);
	if (iommu_path(g->path, "%s/vfio/%s%s", s->devfs, noiommu ? "noiommu-" : "", number) < 0)
		ret = iommu_fail(err, -ENAMETOOLONG, "the path of /dev is too long");
	else
		ret = open_group(s, g, address, err);
	if (ret < 0) {
		free(g);
		return ret;
	}
	g->nr_devs = 1;
	g->next = s->groups;
	s->groups = g;
	ret = set_iommu(s, g, err);
	if (ret < 0) {
		put_group(s, g);
		return ret;
	}
	*group = g;
	return 0;
}

static int get_device(struct iommu_space *s, struct iommu_dev *dev, const char *token, char *err)
{
	char name[IOMMU_ADDRESS_LEN + sizeof(" vf_token=") + IOMMU_TOKEN_LEN];
	int fd;

	snprintf(name, sizeof(name), "%s%s%s", dev->address, token ? " vf_token=" : "",
		 token ? token : "");
	fd = s->sys->ioctl(dev->group->fd, VFIO_GROUP_GET_DEVICE_FD, name);
	if (fd >= 0) {
		dev->fd = fd;
		return 0;
	}
	if (fd == -EACCES)
		return iommu_fail(err, fd,
				  "%s wants %s VF token: its PF is on vfio-pci, and whoever opened "
				  "that set one",
				  dev->address, token ? "another" : "a");
	if (fd == -ENODEV)
		return iommu_fail(err, fd, "%s is not bound to a VFIO driver", dev->address);
	return iommu_fail(err, fd, "%s cannot be opened through %s: %s", dev->address,
			  dev->group->path, strerror(-fd));
}

static int type1_attach(struct iommu_space *s, struct iommu_dev *dev, const char *token, char *err)
{
	int ret;

	if (s->fd < 0) {
		ret = open_container(s, err);
		if (ret < 0)
			return ret;
	}
	ret = get_group(s, dev->address, &dev->group, err);
	if (ret < 0)
		return ret;
	strcpy(dev->path, dev->group->path);
	ret = get_device(s, dev, token, err);
	if (ret < 0)
		put_group(s, dev->group);
	return ret;
}

static void type1_detach(struct iommu_space *s, struct iommu_dev *dev)
{
	put_group(s, dev->group);
}

/* The capability at offset at of an answer of len bytes, or NULL at the end. */
static const struct vfio_info_cap_header *cap_at(const void *info, uint32_t len, uint32_t at)
{
	if (at < sizeof(struct vfio_iommu_type1_info) || at > len ||
	    len - at < sizeof(struct vfio_info_cap_header))
		return NULL;
	return (const void *)((const char *)info + at);
}

static int take_ranges(struct iommu_space *s, const struct vfio_info_cap_header *head,
		       uint32_t room)
{
	const struct vfio_iommu_type1_info_cap_iova_range *cap = (const void *)head;
	struct iommu_range *range;

	if (room < sizeof(*cap) ||
	    cap->nr_iovas > (room - sizeof(*cap)) / sizeof(cap->iova_ranges[0]))
		return -EPROTO;
	range = calloc(cap->nr_iovas + 1, sizeof(*range));
	if (!range)
		return -ENOMEM;
	for (uint32_t i = 0; i < cap->nr_iovas; i++)
		range[i] = (struct iommu_range){ iova(cap->iova_ranges[i].start),
						 iova(cap->iova_ranges[i].end) };
	iommu_space_set_ranges(s, range, cap->nr_iovas);
	return 0;
}

static int take_info(struct iommu_space *s, const struct vfio_iommu_type1_info *info, uint32_t len)
{
	const struct vfio_info_cap_header *head;
	const struct vfio_iommu_type1_info_dma_avail *avail;
	uint32_t at = info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0;
	int ret = 0;

	s->entries_known = false;
	s->page_size = info->flags & VFIO_IOMMU_INFO_PGSIZES && info->iova_pgsizes
			       ? info->iova_pgsizes & -info->iova_pgsizes
			       : 4096;
	while (ret == 0 && (head = cap_at(info, len, at))) {
		if (head->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			ret = take_ranges(s, head, len - at);
		if (head->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL && len - at >= sizeof(*avail)) {
			avail = (const void *)head;
			s->entries_known = true;
			s->entries_left = avail->avail;
		}
		/* Forward only: the kernel has no reason to go back. */
		if (head->next <= at)
			break;
		at = head->next;
	}
	return ret;
}

static int type1_refresh(struct iommu_space *s)
{
	struct vfio_iommu_type1_info *info;
	struct iommu_range *all;
	uint32_t len = sizeof(*info);
	int ret;

	/* Kernels that do not tell: everything, until a mapping is refused. */
	all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all[0].last = iova(UINT64_MAX);
	iommu_space_set_ranges(s, all, 1);
	s->page_size = 4096;
	if (s->backend == IOMMU_BACKEND_NOIOMMU)
		return 0;
	/* Asked twice: the first answer says how long it is. */
	for (;;) {
		info = calloc(1, len);
		if (!info)
			return -ENOMEM;
		info->argsz = len;
		ret = s->sys->ioctl(s->fd, VFIO_IOMMU_GET_INFO, info);
		if (ret < 0 || info->argsz <= len || info->argsz > INFO_MAX)
			break;
		len = info->argsz;
		free(info);
	}
	if (ret == 0)
		ret = take_info(s, info, len);
	free(info);
	return ret;
}

static int type1_map(struct iommu_space *s, const struct iommu_mapping *m)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (m->prot & IOMMU_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
			 (m->prot & IOMMU_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)m->addr,
		.iova = m->iova.v,
		.size = m->len,
	};

	return s->sys->ioctl(s->fd, VFIO_IOMMU_MAP_DMA, &map);
}

static int type1_unmap(struct iommu_space *s, iova_t iova, uint64_t len)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova.v,
		.size = len,
	};
	int ret = s->sys->ioctl(s->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);

	/* It says how much it unmapped, and nothing is no error to it. */
	if (ret == 0 && unmap.size != len)
		return -EIO;
	return ret;
}

const struct iommu_backend_ops iommu_type1_ops = {
	.kind = IOMMU_BACKEND_TYPE1,
	.attach = type1_attach,
	.detach = type1_detach,
	.refresh = type1_refresh,
	.map = type1_map,
	.unmap = type1_unmap,
};
