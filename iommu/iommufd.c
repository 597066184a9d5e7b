/*
 * VFIO's second interface: iommufd for the mappings, and a character device per
 * VFIO device that is bound to it. Called by space.c and device.c through struct
 * iommu_backend_ops. Keeps no book of mappings.
 *
 * Theory of operation
 *
 * One I/O address space object (IOAS) carries the space. Opening a cdev claims
 * nothing; binding it to the iommufd does, and attaching it to the IOAS lets it
 * see the mappings. Closing the cdev undoes both. By default the kernel counts
 * locked memory per user, together with io_uring's; where we may (as root), we
 * ask for the counting per process that type1 has, before the first object.
 *
 * Linux, Documentation/userspace-api/iommufd.rst and Documentation/driver-api/
 * vfio.rst, "IOMMUFD and vfio_iommu_type1".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"
#include "iommu/iommu_spec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any IOMMU has. */
#define RANGES_MAX 65536

static int open_iommufd(struct iommu_space *s, char *err)
{
	struct iommu_uapi_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_UAPI_OPTION_RLIMIT_MODE,
		.op = IOMMU_UAPI_OPTION_OP_SET,
		.val64 = 1,
	};
	struct iommu_uapi_ioas_alloc alloc = { .size = sizeof(alloc) };
	char path[PATH_MAX];
	int fd, ret;

	if (iommu_path(path, "%s/iommu", s->devfs) < 0)
		return iommu_fail(err, -ENAMETOOLONG, "the path of /dev is too long");
	fd = s->sys->open(path, O_RDWR);
	if (fd == -ENOENT || fd == -ENODEV)
		return iommu_fail(err, fd,
				  "%s: %s (the kernel has no iommufd, or modprobe iommufd)", path,
				  strerror(-fd));
	if (fd < 0)
		return iommu_fail(err, fd, "%s: %s", path, strerror(-fd));
	s->per_user = s->sys->ioctl(fd, IOMMU_UAPI_OPTION, &option) < 0;
	ret = s->sys->ioctl(fd, IOMMU_UAPI_IOAS_ALLOC, &alloc);
	if (ret < 0) {
		s->sys->close(fd);
		return iommu_fail(err, ret, "%s: no I/O address space: %s", path, strerror(-ret));
	}
	s->fd = fd;
	s->ioas = alloc.out_ioas_id;
	return 0;
}

/* 36 characters of a UUID to its 16 bytes. */
static bool parse_uuid(const char *text, uint8_t *uuid)
{
	unsigned int byte;

	if (strlen(text) != IOMMU_TOKEN_LEN)
		return false;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*text++ != '-')
				return false;
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
		    sscanf(text, "%2x", &byte) != 1)
			return false;
		uuid[i] = (uint8_t)byte;
		text += 2;
	}
	return true;
}

/* Why a bind failed: one errno has several causes here. */
static int explain_bind(struct iommu_space *s, const struct iommu_dev *dev, bool token, int code,
			char *err)
{
	struct iommu_group *g = NULL;

	if (code == -EINVAL && token)
		return iommu_fail(err, code,
				  "%s: %s (before Linux 6.18 a VF token is taken only with the "
				  "group)",
				  dev->path, strerror(-code));
	if (code == -EACCES)
		return iommu_fail(err, code,
				  "%s wants %s VF token: its PF is on vfio-pci, and whoever opened "
				  "that set one",
				  dev->address, token ? "another" : "a");
	/* One code for one cause, whichever interface found it. */
	if (iommu_group_read(s->sysfs, dev->address, &g, NULL) == 0 && !g->viable) {
		if (err)
			iommu_group_explain(g, err);
		code = -EPERM;
	} else if (code == -EINVAL || code == -EBUSY) {
		code = iommu_fail(err, -EBUSY,
				  "%s is in use: another process holds %s or a device of its group",
				  dev->path, dev->address);
	} else if (code == -EPERM) {
		iommu_fail(
			err, code,
			"%s: the IOMMU does not remap interrupts, so the device could forge them",
			dev->address);
	} else {
		iommu_fail(err, code, "%s cannot be bound to iommufd: %s", dev->path,
			   strerror(-code));
	}
	iommu_group_free(g);
	return code;
}

static int bind_device(struct iommu_space *s, struct iommu_dev *dev, const char *token, char *err)
{
	struct iommu_uapi_device_attach attach = { .argsz = sizeof(attach), .pt_id = s->ioas };
	struct iommu_uapi_device_bind bind = { .argsz = IOMMU_UAPI_BIND_MINSZ, .iommufd = s->fd };
	uint8_t uuid[16];
	int ret;

	if (token) {
		if (!parse_uuid(token, uuid))
			return iommu_fail(err, -EINVAL, "a VF token is a UUID");
		bind.argsz = sizeof(bind);
		bind.flags = IOMMU_UAPI_BIND_TOKEN;
		bind.token_uuid_ptr = (uintptr_t)uuid;
	}
	ret = s->sys->ioctl(dev->fd, IOMMU_UAPI_DEVICE_BIND, &bind);
	if (ret < 0)
		return explain_bind(s, dev, token, ret, err);
	ret = s->sys->ioctl(dev->fd, IOMMU_UAPI_DEVICE_ATTACH_PT, &attach);
	if (ret < 0)
		return iommu_fail(err, ret, "%s cannot join the I/O address space: %s",
				  dev->address, strerror(-ret));
	return 0;
}

static int iommufd_attach(struct iommu_space *s, struct iommu_dev *dev, const char *token,
			  char *err)
{
	char name[IOMMU_NAME_LEN];
	int ret;

	if (s->fd < 0) {
		ret = open_iommufd(s, err);
		if (ret < 0)
			return ret;
	}
	ret = iommu_sysfs_cdev(s->sysfs, dev->address, name, sizeof(name));
	if (ret < 0)
		return iommu_fail(
			err, -ENODEV,
			"%s has no VFIO character device: it is not bound to a VFIO driver, "
			"or the kernel was built without VFIO_DEVICE_CDEV",
			dev->address);
	if (iommu_path(dev->path, "%s/vfio/devices/%s", s->devfs, name) < 0)
		return iommu_fail(err, -ENAMETOOLONG, "the path of /dev is too long");
	dev->fd = s->sys->open(dev->path, O_RDWR);
	if (dev->fd < 0)
		return iommu_fail(err, dev->fd, "%s: %s%s", dev->path, strerror(-dev->fd),
				  dev->fd == -EACCES
					  ? " (its owner is who may use the device: chown it)"
					  : "");
	ret = bind_device(s, dev, token, err);
	if (ret < 0) {
		s->sys->close(dev->fd);
		dev->fd = -1;
	}
	return ret;
}

static void iommufd_detach(struct iommu_space *s, struct iommu_dev *dev)
{
	/* Closing the cdev detached it. See space.c: one rule for both. */
	if (s->nr_devs > 1)
		return;
	for (unsigned int i = 0; i < s->nr_maps; i++)
		s->ops->unmap(s, s->map[i].iova, s->map[i].len);
}

static int iommufd_refresh(struct iommu_space *s)
{
	struct iommu_uapi_ioas_iova_ranges query = { .size = sizeof(query), .ioas_id = s->ioas };
	struct iommu_uapi_iova_range *list = NULL;
	struct iommu_range *range;
	int ret;

	/* -EMSGSIZE says how many there are. */
	while ((ret = s->sys->ioctl(s->fd, IOMMU_UAPI_IOAS_IOVA_RANGES, &query)) == -EMSGSIZE) {
		if (query.num_iovas > RANGES_MAX)
			break;
		free(list);
		list = calloc(query.num_iovas + 1, sizeof(*list));
		if (!list)
			return -ENOMEM;
		query.allowed_iovas = (uintptr_t)list;
	}
	if (ret == 0) {
		range = calloc(query.num_iovas + 1, sizeof(*range));
		if (!range) {
			free(list);
			return -ENOMEM;
		}
		for (uint32_t i = 0; list && i < query.num_iovas; i++)
			range[i] = (struct iommu_range){ iova(list[i].start), iova(list[i].last) };
		iommu_space_set_ranges(s, range, list ? query.num_iovas : 0);
		s->page_size = query.out_iova_alignment ? query.out_iova_alignment : 4096;
	}
	free(list);
	return ret;
}

static int iommufd_map(struct iommu_space *s, const struct iommu_mapping *m)
{
	struct iommu_uapi_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_UAPI_MAP_FIXED_IOVA |
			 (m->prot & IOMMU_READ ? IOMMU_UAPI_MAP_READABLE : 0) |
			 (m->prot & IOMMU_WRITE ? IOMMU_UAPI_MAP_WRITEABLE : 0),
		.ioas_id = s->ioas,
		.user_va = (uintptr_t)m->addr,
		.length = m->len,
		.iova = m->iova.v,
	};

	return s->sys->ioctl(s->fd, IOMMU_UAPI_IOAS_MAP, &map);
}

static int iommufd_unmap(struct iommu_space *s, iova_t iova, uint64_t len)
{
	struct iommu_uapi_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = s->ioas,
		.iova = iova.v,
		.length = len,
	};

	return s->sys->ioctl(s->fd, IOMMU_UAPI_IOAS_UNMAP, &unmap);
}

const struct iommu_backend_ops iommu_iommufd_ops = {
	.kind = IOMMU_BACKEND_IOMMUFD,
	.attach = iommufd_attach,
	.detach = iommufd_detach,
	.refresh = iommufd_refresh,
	.map = iommufd_map,
	.unmap = iommufd_unmap,
};
