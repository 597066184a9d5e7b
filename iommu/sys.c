/*
 * The way out to the kernel: system calls with results instead of errno. Called
 * through struct iommu_sys by everything here that opens or controls a device;
 * tests put a table of their own in its place. Never interprets a result.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static int kernel_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int kernel_close(int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static int kernel_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static ssize_t kernel_pread(int fd, void *buf, size_t len, uint64_t offset)
{
	ssize_t n = pread(fd, buf, len, (off_t)offset);

	return n < 0 ? -errno : n;
}

static ssize_t kernel_pwrite(int fd, const void *buf, size_t len, uint64_t offset)
{
	ssize_t n = pwrite(fd, buf, len, (off_t)offset);

	return n < 0 ? -errno : n;
}

static void *kernel_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t offset,
			 int *error)
{
	void *p = mmap(addr, len, prot, flags, fd, (off_t)offset);

	if (p == MAP_FAILED)
		*error = -errno;
	return p;
}

static int kernel_munmap(void *addr, size_t len)
{
	return munmap(addr, len) < 0 ? -errno : 0;
}

/* Linux, Documentation/filesystems/proc.rst: VmLck is what RLIMIT_MEMLOCK is
 * compared with, CapEff the capabilities in effect. */
static void kernel_memlock(struct iommu_memlock *m)
{
	uint64_t kib = 0, caps = 0;
	struct rlimit limit = { 0 };
	char line[256];
	FILE *f;

	*m = (struct iommu_memlock){ 0 };
	getrlimit(RLIMIT_MEMLOCK, &limit);
	m->limit = limit.rlim_cur;
	f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "VmLck: %" SCNu64, &kib);
		sscanf(line, "CapEff: %" SCNx64, &caps);
	}
	if (f)
		fclose(f);
	m->locked = kib << 10;
	m->unlimited = limit.rlim_cur == RLIM_INFINITY || (caps >> CAP_IPC_LOCK) & 1;
}

const struct iommu_sys iommu_sys_kernel = {
	.open = kernel_open,
	.close = kernel_close,
	.ioctl = kernel_ioctl,
	.pread = kernel_pread,
	.pwrite = kernel_pwrite,
	.mmap = kernel_mmap,
	.munmap = kernel_munmap,
	.memlock = kernel_memlock,
};
