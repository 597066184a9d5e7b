/*
 * What the files of the host half share: the seam to the kernel, a space with
 * its bookkeeping, the two interfaces behind it, a device. Private to iommu/
 * and to tests/iommu.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_IOMMU_IOMMU_INTERNAL_H
#define RINGBOLT_IOMMU_IOMMU_INTERNAL_H

#include <limits.h>
#include <sys/types.h>

#include "core/base.h"
#include "iommu/iommu.h"

/* What bounds locked memory. */
struct iommu_memlock {
	bool unlimited; /* the limit is infinite, or CAP_IPC_LOCK lifts it */
	uint64_t limit, locked; /* bytes; locked by this process so far */
};

/*
 * Every way out to the kernel, but for reading sysfs, whose root is a parameter.
 * Results are values or -errno; mmap's is MAP_FAILED with *error set.
 */
struct iommu_sys {
	int (*open)(const char *path, int flags);
	int (*close)(int fd);
	int (*ioctl)(int fd, unsigned long request, void *arg);
	ssize_t (*pread)(int fd, void *buf, size_t len, uint64_t offset);
	ssize_t (*pwrite)(int fd, const void *buf, size_t len, uint64_t offset);
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, uint64_t offset,
		      int *error);
	int (*munmap)(void *addr, size_t len);
	void (*memlock)(struct iommu_memlock *m);
};

extern const struct iommu_sys iommu_sys_kernel;

/* Leave a sentence in err, which may be NULL; returns code. */
int iommu_fail(char *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- sysfs.c ---- */

/* Print into path, which has PATH_MAX bytes; -ENAMETOOLONG. */
int iommu_path(char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "0000:01:10.0", as sysfs writes it. */
bool iommu_is_address(const char *text);
/* "<sysfs>/bus/pci/devices/<address>/<leaf>"; leaf may be NULL. -ENAMETOOLONG. */
int iommu_sysfs_path(char *path, const char *sysfs, const char *address, const char *leaf);
/* The last component of what a link points to. */
int iommu_sysfs_link(const char *path, char *name, size_t len);
/* A file's text without the newline at its end, cut to len - 1. */
int iommu_sysfs_text(const char *path, char *text, size_t len);
/* -EINVAL or -ENODEV with a sentence, 0 if the device is there. */
int iommu_sysfs_check(const char *sysfs, const char *address, char *err);
/* The name of the VFIO character device, "vfio3". -ENOENT: it has none. */
int iommu_sysfs_cdev(const char *sysfs, const char *address, char *name, size_t len);

/* ---- A space ---- */

struct iommu_space;

/* One of the kernel's two interfaces. Errors are the kernel's, explained by
 * attach() and by space.c. */
struct iommu_backend_ops {
	enum iommu_backend kind;
	/* Open dev->address: fill dev->fd and dev->path, join the space. */
	int (*attach)(struct iommu_space *s, struct iommu_dev *dev, const char *token, char *err);
	/* dev->fd has been closed: leave the space. */
	void (*detach)(struct iommu_space *s, struct iommu_dev *dev);
	/* Read ranges, page size and entries anew. */
	int (*refresh)(struct iommu_space *s);
	int (*map)(struct iommu_space *s, const struct iommu_mapping *m);
	int (*unmap)(struct iommu_space *s, iova_t iova, uint64_t len);
};

extern const struct iommu_backend_ops iommu_type1_ops;
extern const struct iommu_backend_ops iommu_iommufd_ops;

/* A VFIO group that is open, shared by its devices in this space. */
struct iommu_open_group {
	int id;
	int fd;
	unsigned int nr_devs;
	char path[PATH_MAX];
	struct iommu_open_group *next;
};

struct iommu_space {
	char *sysfs, *devfs;
	enum iommu_backend wanted;
	bool allow_noiommu;
	const struct iommu_sys *sys;

	/* From the first device on. */
	enum iommu_backend backend;
	const struct iommu_backend_ops *ops;
	int fd; /* container or iommufd */
	unsigned int nr_devs;
	struct iommu_open_group *groups; /* type1 */
	bool iommu_set; /* type1: the container has its IOMMU */
	uint32_t ioas; /* iommufd */
	bool per_user; /* iommufd: locked memory counts per user */

	/* As the kernel said last. */
	struct iommu_range *range;
	unsigned int nr_ranges;
	uint64_t page_size;
	bool entries_known;
	uint64_t entries_left; /* of dma_entry_limit */

	/* Sorted by address; what the kernel has, exactly. */
	struct iommu_mapping *map;
	unsigned int nr_maps, maps_cap;
	uint64_t mapped_bytes;
};

/* Replace the ranges. Takes range. */
void iommu_space_set_ranges(struct iommu_space *s, struct iommu_range *range, unsigned int nr);
/* Choose the interface for a device, once. */
int iommu_space_choose(struct iommu_space *s, const char *address, const char *token, char *err);
/* Forget every mapping: the kernel has dropped them. */
void iommu_space_forget(struct iommu_space *s);

/* ---- budget.c: limits, before they bite and after ---- */

/* Would locking len bytes more pass RLIMIT_MEMLOCK? -ENOMEM and a sentence. */
int iommu_budget_memlock(const struct iommu_space *s, uint64_t len, char *err);
/* Would nr entries more pass dma_entry_limit? -ENOSPC and a sentence. */
int iommu_budget_entries(const struct iommu_space *s, uint64_t nr, char *err);
/* The kernel refused although there seemed to be room. Returns code. */
int iommu_budget_refused(const struct iommu_space *s, uint64_t len, int code, char *err);

/* ---- A device ---- */

/* Areas of a region that can be mapped. */
struct iommu_area {
	uint64_t offset, size;
};

struct iommu_dev_region_state {
	bool known;
	unsigned int flags;
	uint64_t size, offset; /* offset: where it begins in the device's file */
	unsigned int nr_areas;
	struct iommu_area *area;
	uint8_t *base; /* of the reserved address range; NULL: not mapped */
};

struct iommu_dev {
	struct iommu_space *space;
	char address[IOMMU_ADDRESS_LEN];
	char path[PATH_MAX];
	int fd;
	struct iommu_open_group *group; /* type1 */
	unsigned int nr_regions, nr_irqs;
	bool can_reset;
	struct iommu_dev_region_state region[IOMMU_REGION_PCI_CNT];
	unsigned int nr_wired[IOMMU_IRQ_CNT];
};

/* The state of a region, asked of the kernel the first time. */
int iommu_dev_region_state(struct iommu_dev *dev, unsigned int index,
			   struct iommu_dev_region_state **state);
/* Both part of iommu_dev_close(). */
void iommu_dev_unmap_bars(struct iommu_dev *dev);
void iommu_dev_irqs_off(struct iommu_dev *dev);

#endif
