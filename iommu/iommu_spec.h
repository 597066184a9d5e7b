/*
 * What this folder needs of the kernel's interfaces that the headers of Debian
 * 12 (Linux 6.1) do not have: iommufd, and how a VFIO character device is bound
 * to it. Layouts only. The rest of VFIO comes from <linux/vfio.h>.
 *
 * Linux 6.12, include/uapi/linux/iommufd.h and include/uapi/linux/vfio.h; the
 * names are ours, because newer headers have the kernel's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_IOMMU_IOMMU_SPEC_H
#define RINGBOLT_IOMMU_IOMMU_SPEC_H

#include <assert.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define IOMMU_UAPI_TYPE ';'

#define IOMMU_UAPI_DESTROY _IO(IOMMU_UAPI_TYPE, 0x80)
#define IOMMU_UAPI_IOAS_ALLOC _IO(IOMMU_UAPI_TYPE, 0x81)
#define IOMMU_UAPI_IOAS_IOVA_RANGES _IO(IOMMU_UAPI_TYPE, 0x84)
#define IOMMU_UAPI_IOAS_MAP _IO(IOMMU_UAPI_TYPE, 0x85)
#define IOMMU_UAPI_IOAS_UNMAP _IO(IOMMU_UAPI_TYPE, 0x86)
#define IOMMU_UAPI_OPTION _IO(IOMMU_UAPI_TYPE, 0x87)

/* All of these begin with their own size. Pointers are 64 bits wide. */
struct iommu_uapi_destroy {
	uint32_t size;
	uint32_t id;
};
static_assert(sizeof(struct iommu_uapi_destroy) == 8, "struct iommu_destroy");

struct iommu_uapi_ioas_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t out_ioas_id;
};
static_assert(sizeof(struct iommu_uapi_ioas_alloc) == 12, "struct iommu_ioas_alloc");

struct iommu_uapi_iova_range {
	uint64_t start;
	uint64_t last;
};
static_assert(sizeof(struct iommu_uapi_iova_range) == 16, "struct iommu_iova_range");

/* -EMSGSIZE if num_iovas is too small; the kernel then says how many it has. */
struct iommu_uapi_ioas_iova_ranges {
	uint32_t size;
	uint32_t ioas_id;
	uint32_t num_iovas;
	uint32_t reserved;
	uint64_t allowed_iovas;
	uint64_t out_iova_alignment;
};
static_assert(sizeof(struct iommu_uapi_ioas_iova_ranges) == 32, "struct iommu_ioas_iova_ranges");

enum {
	IOMMU_UAPI_MAP_FIXED_IOVA = 1 << 0,
	IOMMU_UAPI_MAP_WRITEABLE = 1 << 1,
	IOMMU_UAPI_MAP_READABLE = 1 << 2,
};

struct iommu_uapi_ioas_map {
	uint32_t size;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;
};
static_assert(sizeof(struct iommu_uapi_ioas_map) == 40, "struct iommu_ioas_map");

struct iommu_uapi_ioas_unmap {
	uint32_t size;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t length; /* the kernel leaves how much it unmapped */
};
static_assert(sizeof(struct iommu_uapi_ioas_unmap) == 24, "struct iommu_ioas_unmap");

enum {
	IOMMU_UAPI_OPTION_RLIMIT_MODE = 0, /* 0: locked memory counts per user, 1: per process */
	IOMMU_UAPI_OPTION_OP_SET = 0,
};

struct iommu_uapi_option {
	uint32_t size;
	uint32_t option_id;
	uint16_t op;
	uint16_t reserved;
	uint32_t object_id;
	uint64_t val64;
};
static_assert(sizeof(struct iommu_uapi_option) == 24, "struct iommu_option");

/* VFIO_TYPE ';', VFIO_BASE 100: the same type as iommufd's, other numbers. */
#define IOMMU_UAPI_DEVICE_BIND _IO(';', 118)
#define IOMMU_UAPI_DEVICE_ATTACH_PT _IO(';', 119)

enum {
	IOMMU_UAPI_BIND_TOKEN = 1 << 0, /* token_uuid_ptr is valid: Linux 6.18 and newer */
};

struct iommu_uapi_device_bind {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
	uint64_t token_uuid_ptr;
};
static_assert(sizeof(struct iommu_uapi_device_bind) == 24, "struct vfio_device_bind_iommufd");
/* Kernels without IOMMU_UAPI_BIND_TOKEN know the structure up to here. */
#define IOMMU_UAPI_BIND_MINSZ 16

struct iommu_uapi_device_attach {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id;
};
static_assert(sizeof(struct iommu_uapi_device_attach) == 12,
	      "struct vfio_device_attach_iommufd_pt");

#endif
