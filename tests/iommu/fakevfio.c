/*
 * The made-up kernel. Called by iommu/ through struct iommu_sys. It follows
 * Linux 6.12's drivers/vfio and drivers/iommu/iommufd in what it refuses and
 * with which errno; descriptors are real ones, so that a device's can be mapped
 * and a lost one shows.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/fakevfio.h"

#include "tests/core/test.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommu/iommu_spec.h"

#define FILE_LEN (FAKE_REGION(16))

/* struct iommu_sys has no place for a pointer. */
static struct fakevfio *fake;

/* Count a call; the code it must fail with, or 0. */
static int failure(void)
{
	if (!fake->fail_call || --fake->fail_call)
		return 0;
	fake->failed = true;
	return fake->fail_code;
}

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);

	return a >= b && !strcmp(text + a - b, end);
}

static int new_fd(enum fake_kind kind, int group)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	assert_in_range(fd, 0, (int)ARRAY_SIZE(fake->fd) - 1);
	assert_int_equal(ftruncate(fd, (off_t)FILE_LEN), 0);
	fake->fd[fd].kind = kind;
	fake->fd[fd].group = group;
	fake->nr_open++;
	return fd;
}

/* The device's file; users are counted where it is claimed. */
static int new_device(int group)
{
	static const uint8_t config[] = { 0x86, 0x80, 0xca, 0x10, 0x02, 0x00 };
	int fd = new_fd(FAKE_DEVICE, group);

	assert_int_equal(pwrite(fd, config, sizeof(config),
				(off_t)FAKE_REGION(IOMMU_REGION_CONFIG)),
			 sizeof(config));
	return fd;
}

static int fake_open(const char *path, int flags)
{
	int ret = failure();

	if (ret)
		return ret;
	if (fake->fail_open && ends_with(path, fake->fail_open))
		return fake->fail_code;
	if (ends_with(path, "/vfio/vfio"))
		return new_fd(FAKE_CONTAINER, 0);
	if (ends_with(path, "/iommu"))
		return new_fd(FAKE_IOMMUFD, 0);
	if (strstr(path, "/vfio/devices/vfio"))
		return new_device(0);
	if (!ends_with(path, "/vfio/11") && !ends_with(path, "/vfio/noiommu-11"))
		return -ENOENT;
	if (fake->other_user)
		return -EBUSY;
	return new_fd(FAKE_GROUP_FD, FAKE_GROUP);
}

static int fake_close(int fd)
{
	assert_true(fd >= 0 && fake->fd[fd].kind != FAKE_FREE);
	if (fake->fd[fd].kind == FAKE_GROUP_FD && fake->fd[fd].group > 0 && fake->nr_groups_in &&
	    --fake->nr_groups_in == 0) {
		fake->iommu_set = false;
		fake->nr_maps = 0;
	}
	if (fake->fd[fd].kind == FAKE_IOMMUFD)
		fake->nr_maps = 0;
	/* It is turned off with its file; but we do that before. */
	if (fake->fd[fd].kind == FAKE_DEVICE && fake->failed)
		memset(fake->nr_wired, 0, sizeof(fake->nr_wired));
	fake->fd[fd].kind = FAKE_FREE;
	fake->nr_open--;
	return close(fd);
}

/* ---- Mappings, the same for both ---- */

static int add_map(uint64_t iova_v, uint64_t vaddr, uint64_t len, unsigned int prot)
{
	bool fits = false;
	uint64_t used = len;

	for (unsigned int i = 0; i < fake->nr_ranges; i++)
		if (iova_v >= fake->range[i].first.v && iova_v + len - 1 <= fake->range[i].last.v)
			fits = true;
	for (unsigned int i = 0; i < fake->nr_maps; i++) {
		used += fake->map[i].len;
		if (iova_v <= fake->map[i].iova.v + fake->map[i].len - 1 &&
		    fake->map[i].iova.v <= iova_v + len - 1)
			return -EEXIST;
	}
	if (!fits)
		return -EINVAL;
	if (!fake->entries || fake->nr_maps == FAKE_MAPS)
		return -ENOSPC;
	if (used > fake->lockable)
		return -ENOMEM;
	fake->entries--;
	fake->map[fake->nr_maps++] = (struct iommu_mapping){
		.iova = iova(iova_v),
		.addr = (void *)(uintptr_t)vaddr,
		.len = len,
		.prot = prot,
	};
	return 0;
}

static int remove_map(uint64_t iova_v, uint64_t len)
{
	for (unsigned int i = 0; i < fake->nr_maps; i++) {
		if (fake->map[i].iova.v != iova_v || fake->map[i].len != len)
			continue;
		fake->map[i] = fake->map[--fake->nr_maps];
		fake->entries++;
		return 0;
	}
	return -ENOENT;
}

/* ---- Container and group ---- */

/* VFIO's own structures for these end in an array without a length. */
struct ranges_cap {
	struct vfio_info_cap_header header;
	uint32_t nr_iovas, reserved;
	struct vfio_iova_range range[4];
};
static_assert(offsetof(struct ranges_cap, range) ==
		      sizeof(struct vfio_iommu_type1_info_cap_iova_range),
	      "VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE");

struct type1_answer {
	struct vfio_iommu_type1_info info;
	struct ranges_cap ranges;
	struct vfio_iommu_type1_info_dma_avail avail;
};

static int type1_info(struct vfio_iommu_type1_info *info)
{
	uint32_t len = info->argsz;
	struct type1_answer a = {
		.info = {
			.argsz = sizeof(a),
			.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
			.iova_pgsizes = fake->page_sizes,
			.cap_offset = offsetof(struct type1_answer, ranges),
		},
		.ranges = {
			.header = { .id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1 },
			.nr_iovas = fake->nr_ranges,
		},
		.avail = {
			.header = { .id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .version = 1 },
			.avail = (uint32_t)fake->entries,
		},
	};

	if (!fake->tells_info) {
		a.info.flags = 0;
		memcpy(info, &a.info, min_u64(len, sizeof(a.info)));
		return 0;
	}
	a.ranges.header.next = offsetof(struct type1_answer, avail);
	for (unsigned int i = 0; i < fake->nr_ranges; i++)
		a.ranges.range[i] =
			(struct vfio_iova_range){ fake->range[i].first.v, fake->range[i].last.v };
	if (fake->lie_nr_ranges)
		a.ranges.nr_iovas = fake->lie_nr_ranges;
	if (fake->lie_next)
		a.ranges.header.next = fake->lie_next;
	if (fake->lie_argsz)
		a.info.argsz = fake->lie_argsz;
	if (len < sizeof(a))
		a.info.cap_offset = 0;
	memcpy(info, &a, min_u64(len, sizeof(a)));
	return 0;
}

static int container_ioctl(unsigned long request, void *arg)
{
	struct vfio_iommu_type1_dma_unmap *unmap = arg;
	struct vfio_iommu_type1_dma_map *map = arg;

	switch (request) {
	case VFIO_GET_API_VERSION:
		return fake->api_version;
	case VFIO_CHECK_EXTENSION:
		if ((uintptr_t)arg == VFIO_NOIOMMU_IOMMU)
			return fake->has_noiommu;
		return (uintptr_t)arg == VFIO_TYPE1v2_IOMMU && fake->has_type1;
	case VFIO_SET_IOMMU:
		if (!fake->nr_groups_in || fake->iommu_set)
			return -EINVAL;
		fake->iommu_set = true;
		return 0;
	case VFIO_IOMMU_GET_INFO:
		return fake->iommu_set ? type1_info(arg) : -EINVAL;
	case VFIO_IOMMU_MAP_DMA:
		return add_map(map->iova, map->vaddr, map->size, map->flags);
	case VFIO_IOMMU_UNMAP_DMA:
		if (fake->lie_unmapped || remove_map(unmap->iova, unmap->size) < 0)
			unmap->size = 0;
		return 0;
	default:
		return -ENOTTY;
	}
}

static int group_ioctl(int fd, unsigned long request, void *arg)
{
	const char *name = arg, *token;

	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		((struct vfio_group_status *)arg)->flags =
			fake->viable ? VFIO_GROUP_FLAGS_VIABLE : 0;
		return 0;
	case VFIO_GROUP_SET_CONTAINER:
		if (!fake->viable)
			return -EPERM;
		fake->nr_groups_in++;
		return 0;
	case VFIO_GROUP_GET_DEVICE_FD:
		if (!fake->iommu_set)
			return -EINVAL;
		token = strstr(name, " vf_token=");
		if (fake->token && (!token || strcmp(token + 10, fake->token)))
			return -EACCES;
		if (strncmp(name, FAKE_VF, strlen(FAKE_VF)) &&
		    strncmp(name, FAKE_VF2, strlen(FAKE_VF2)))
			return -ENODEV;
		return new_device(fake->fd[fd].group);
	default:
		return -ENOTTY;
	}
}

/* ---- iommufd ---- */

static int ioas_ranges(struct iommu_uapi_ioas_iova_ranges *q)
{
	struct iommu_uapi_iova_range *out = (void *)(uintptr_t)q->allowed_iovas;
	uint32_t room = q->num_iovas;

	q->num_iovas = fake->lie_nr_ranges ? fake->lie_nr_ranges : fake->nr_ranges;
	q->out_iova_alignment = fake->page_sizes & -fake->page_sizes;
	for (uint32_t i = 0; i < room && i < fake->nr_ranges; i++)
		out[i] = (struct iommu_uapi_iova_range){ fake->range[i].first.v,
							 fake->range[i].last.v };
	return room < q->num_iovas ? -EMSGSIZE : 0;
}

static int iommufd_ioctl(unsigned long request, void *arg)
{
	struct iommu_uapi_ioas_unmap *unmap = arg;
	struct iommu_uapi_ioas_map *map = arg;

	switch (request) {
	case IOMMU_UAPI_OPTION:
		return fake->has_process_mode ? 0 : -EPERM;
	case IOMMU_UAPI_IOAS_ALLOC:
		fake->has_ioas = true;
		((struct iommu_uapi_ioas_alloc *)arg)->out_ioas_id = 7;
		return 0;
	case IOMMU_UAPI_IOAS_IOVA_RANGES:
		return ioas_ranges(arg);
	case IOMMU_UAPI_IOAS_MAP:
		assert_int_equal(map->size, sizeof(*map));
		assert_int_equal(map->ioas_id, 7);
		assert_true(map->flags & IOMMU_UAPI_MAP_FIXED_IOVA);
		return add_map(map->iova, map->user_va, map->length, map->flags >> 1);
	case IOMMU_UAPI_IOAS_UNMAP:
		return remove_map(unmap->iova, unmap->length);
	default:
		return -ENOTTY;
	}
}

static int bind_cdev(const struct iommu_uapi_device_bind *bind)
{
	if (!fake->viable)
		return -EBUSY;
	if (fake->other_user)
		return -EINVAL;
	if (bind->flags && !fake->takes_token)
		return -EINVAL;
	if (fake->token && !bind->flags)
		return -EACCES;
	assert_true(fake->fd[bind->iommufd].kind == FAKE_IOMMUFD);
	return 0;
}

/* ---- The device ---- */

struct sparse_cap {
	struct vfio_info_cap_header header;
	uint32_t nr_areas, reserved;
	struct vfio_region_sparse_mmap_area area[3];
};
static_assert(offsetof(struct sparse_cap, area) == sizeof(struct vfio_region_info_cap_sparse_mmap),
	      "VFIO_REGION_INFO_CAP_SPARSE_MMAP");

struct region_answer {
	struct vfio_region_info info;
	struct sparse_cap sparse;
};

static int region_info(struct vfio_region_info *info)
{
	uint32_t len = info->argsz, index = info->index;
	struct region_answer a = {
		.info = { .argsz = sizeof(a.info), .index = index, .offset = FAKE_REGION(index) },
	};

	if (index >= IOMMU_REGION_PCI_CNT)
		return -EINVAL;
	if (index == 0 || index == 3) {
		a.info.size = FAKE_BAR_LEN;
		a.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	}
	if (index == 0)
		a.info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
	if (index == IOMMU_REGION_CONFIG) {
		a.info.size = 4096;
		a.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	}
	if (index == 0 && fake->sparse) {
		/* The page of the interrupt table is left out. */
		a.info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		a.info.argsz = sizeof(a);
		a.info.cap_offset = len < sizeof(a) ? 0 : offsetof(struct region_answer, sparse);
		a.sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		a.sparse.header.version = 1;
		a.sparse.header.next = (uint32_t)fake->lie_next;
		a.sparse.nr_areas = fake->lie_nr_areas ? fake->lie_nr_areas : 3;
		a.sparse.area[0].size = 4096;
		a.sparse.area[1].offset = 8192;
		a.sparse.area[1].size = fake->lie_area_end ? fake->lie_area_end : 8192;
	}
	if (fake->lie_argsz)
		a.info.argsz = fake->lie_argsz;
	memcpy(info, &a, min_u64(len, sizeof(a)));
	return 0;
}

static int irq_info(struct vfio_irq_info *info)
{
	if (info->index >= IOMMU_IRQ_CNT)
		return -EINVAL;
	if (info->index == IOMMU_IRQ_MSI)
		return -EINVAL;
	info->flags = VFIO_IRQ_INFO_EVENTFD;
	info->count = info->index == IOMMU_IRQ_MSIX ? fake->nr_vectors : 0;
	if (info->index == IOMMU_IRQ_ERR || info->index == IOMMU_IRQ_REQ)
		info->count = 1;
	return 0;
}

static int set_irqs(const struct vfio_irq_set *set)
{
	uint64_t one = 1;
	int *vector = fake->vector[set->index];

	if (set->flags & VFIO_IRQ_SET_DATA_NONE && !set->count) {
		fake->nr_wired[set->index] = 0;
		return 0;
	}
	if (set->flags & VFIO_IRQ_SET_DATA_NONE) {
		if (set->start >= fake->nr_wired[set->index])
			return -EINVAL;
		if (!fake->irq_is_lost && vector[set->start] >= 0)
			assert_int_equal(write(vector[set->start], &one, sizeof(one)), sizeof(one));
		return 0;
	}
	/* As before Linux 6.5: as many as there are, or none. */
	if (fake->nr_wired[set->index])
		return -EINVAL;
	if (set->count > fake->vectors_left)
		return (int)fake->vectors_left;
	assert_in_range(set->count, 1, FAKE_VECTORS);
	memcpy(vector, set->data, set->count * sizeof(int));
	fake->nr_wired[set->index] = set->count;
	return 0;
}

static int device_ioctl(unsigned long request, void *arg)
{
	struct vfio_device_info *info = arg;

	switch (request) {
	case IOMMU_UAPI_DEVICE_BIND:
		return bind_cdev(arg);
	case IOMMU_UAPI_DEVICE_ATTACH_PT:
		assert_int_equal(((struct iommu_uapi_device_attach *)arg)->pt_id, 7);
		return 0;
	case VFIO_DEVICE_GET_INFO:
		info->flags = (fake->is_pci ? VFIO_DEVICE_FLAGS_PCI : 0) |
			      (fake->can_reset ? VFIO_DEVICE_FLAGS_RESET : 0);
		info->num_regions = IOMMU_REGION_PCI_CNT;
		info->num_irqs = IOMMU_IRQ_CNT;
		return 0;
	case VFIO_DEVICE_GET_REGION_INFO:
		return region_info(arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return irq_info(arg);
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs(arg);
	case VFIO_DEVICE_RESET:
		fake->nr_resets++;
		return fake->can_reset ? 0 : -EINVAL;
	default:
		return -ENOTTY;
	}
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = failure();

	if (ret)
		return ret;
	if (fake->fail_request == request && !fake->fail_after--)
		return fake->fail_after = 0, fake->fail_code;
	switch (fake->fd[fd].kind) {
	case FAKE_CONTAINER:
		return container_ioctl(request, arg);
	case FAKE_GROUP_FD:
		return group_ioctl(fd, request, arg);
	case FAKE_IOMMUFD:
		return iommufd_ioctl(request, arg);
	case FAKE_DEVICE:
		return device_ioctl(request, arg);
	default:
		return -EBADF;
	}
}

static ssize_t fake_pread(int fd, void *buf, size_t len, uint64_t offset)
{
	int ret = failure();

	if (ret)
		return ret;
	if (fake->config_is_gone && offset >= FAKE_REGION(IOMMU_REGION_CONFIG)) {
		memset(buf, 0xff, len);
		return (ssize_t)len;
	}
	return pread(fd, buf, len, (off_t)offset);
}

static ssize_t fake_pwrite(int fd, const void *buf, size_t len, uint64_t offset)
{
	int ret = failure();

	return ret ? ret : pwrite(fd, buf, len, (off_t)offset);
}

static void *fake_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t offset,
		       int *error)
{
	*error = failure();
	if (*error)
		return MAP_FAILED;
	if (!addr)
		fake->nr_mmaps++;
	return mmap(addr, len, prot, flags, fd, (off_t)offset);
}

static int fake_munmap(void *addr, size_t len)
{
	fake->nr_mmaps--;
	return munmap(addr, len);
}

static void fake_memlock(struct iommu_memlock *m)
{
	*m = fake->memlock;
}

static const struct iommu_sys fake_sys = {
	.open = fake_open,
	.close = fake_close,
	.ioctl = fake_ioctl,
	.pread = fake_pread,
	.pwrite = fake_pwrite,
	.mmap = fake_mmap,
	.munmap = fake_munmap,
	.memlock = fake_memlock,
};

void fakevfio_create(struct fakevfio *f)
{
	*f = (struct fakevfio){
		.api_version = VFIO_API_VERSION,
		.has_type1 = true,
		.viable = true,
		.tells_info = true,
		.has_process_mode = true,
		.nr_ranges = 2,
		.range = { { iova(0), iova(0xfedfffff) },
			   { iova(0xfef00000), iova((1ull << 48) - 1) } },
		.page_sizes = 0x1000,
		.entries = 65535,
		.lockable = UINT64_MAX,
		.memlock = { .unlimited = true },
		.can_reset = true,
		.is_pci = true,
		.nr_vectors = FAKE_VECTORS,
		.vectors_left = UINT32_MAX,
		.fail_code = -EIO,
	};
	fake = f;
	sysfskit_create(&f->sysfs);
	sysfskit_function(&f->sysfs, "0000:00:01.0/", FAKE_VF, FAKE_GROUP, "vfio-pci");
	sysfskit_function(&f->sysfs, "0000:00:01.0/", FAKE_VF2, FAKE_GROUP, "vfio-pci");
}

void fakevfio_destroy(struct fakevfio *f)
{
	assert_int_equal(f->nr_open, 0);
	assert_int_equal(f->nr_maps, 0);
	assert_int_equal(f->nr_mmaps, 0);
	for (unsigned int i = 0; i < IOMMU_IRQ_CNT; i++)
		assert_int_equal(f->nr_wired[i], 0);
	sysfskit_destroy(&f->sysfs);
	fake = NULL;
}

struct iommu_opts fakevfio_opts(struct fakevfio *f, enum iommu_backend backend)
{
	return (struct iommu_opts){
		.sysfs = f->sysfs.root,
		.devfs = "/fake",
		.backend = backend,
		.sys = &fake_sys,
	};
}
