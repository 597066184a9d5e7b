/*
 * What to tell a VMM or DPDK so that it takes a claimed VF. Called by programs.
 * Opens and changes nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/attach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

const char *const sriov_attach_names[] = { "qemu", "libvirt", "cloud-hypervisor", "dpdk", NULL };
static_assert(ARRAY_SIZE(sriov_attach_names) == SRIOV_ATTACH_CNT + 1, "a word per format");

static void add(struct sriov_attachment *a, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct sriov_attachment *a, const char *fmt, ...)
{
	va_list ap;

	assert(a->nr < SRIOV_ARGS_MAX);
	va_start(ap, fmt);
	if (vsnprintf(a->arg[a->nr++], SRIOV_TEXT_LEN, fmt, ap) < 0)
		a->nr--;
	va_end(ap);
}

/* QEMU, docs/devel/vfio-iommufd.rst. */
static void for_qemu(struct sriov_attachment *a, const char *addr, bool by_cdev)
{
	if (by_cdev) {
		add(a, "-object");
		add(a, "iommufd,id=iommufd0");
	}
	add(a, "-device");
	add(a, "vfio-pci,host=%s%s", addr, by_cdev ? ",iommufd=iommufd0" : "");
}

/* libvirt, "Domain XML format", "Host device assignment". managed='no': the
 * driver is not libvirt's to change. */
static void for_libvirt(struct sriov_attachment *a, const char *addr, bool by_cdev)
{
	unsigned int domain = 0, bus = 0, device = 0, function = 0;

	if (sscanf(addr, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return;
	add(a, "<hostdev mode='subsystem' type='pci' managed='no'>");
	if (by_cdev)
		add(a, "  <driver iommufd='yes'/>");
	add(a, "  <source>");
	add(a, "    <address domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>", domain,
	    bus, device, function);
	add(a, "  </source>");
	add(a, "</hostdev>");
}

/* cloud-hypervisor, docs/vfio.md. */
static void for_cloud_hypervisor(struct sriov_attachment *a, const char *addr, bool by_cdev)
{
	if (by_cdev) {
		add(a, "--platform");
		add(a, "iommufd=on");
	}
	add(a, "--device");
	add(a, "path=/sys/bus/pci/devices/%s/", addr);
}

/* DPDK, "EAL parameters". */
static void for_dpdk(struct sriov_attachment *a, const char *addr)
{
	add(a, "--allow=%s", addr);
}

static int check_claim(struct sriov *s, const struct sriov_func *f, const char *owner)
{
	if (f->claim == SRIOV_CLAIM_NONE)
		return sriov_fail(s, -ENOENT, "%s: is not claimed: claim it first", f->addr);
	if (owner && strcmp(owner, f->owner) != 0)
		return sriov_fail(s, -EPERM, "%s: is claimed by %s, not by %s", f->addr, f->owner,
				  owner);
	if (f->claim == SRIOV_CLAIM_MOVING)
		return sriov_fail(s, -EBUSY, "%s: is just being claimed or released by %s", f->addr,
				  f->owner);
	if (!sriov_driver_is_vfio(f->driver))
		return sriov_fail(s, -ENOTSUP,
				  "%s: has driver %s: a VM takes it from a VFIO driver only",
				  f->addr, *f->driver ? f->driver : "none");
	return 0;
}

static int choose_way(struct sriov *s, const char *addr, enum sriov_attach_format format,
		      enum iommu_backend backend, bool has_cdev)
{
	if (format == SRIOV_ATTACH_DPDK) {
		if (backend == IOMMU_BACKEND_IOMMUFD)
			return sriov_fail(s, -ENOTSUP, "%s: DPDK takes a device by its group only",
					  addr);
		return IOMMU_BACKEND_TYPE1;
	}
	if (backend == IOMMU_BACKEND_IOMMUFD && !has_cdev)
		return sriov_fail(s, -ENOTSUP,
				  "%s: has no character device of its own: this kernel has no "
				  "CONFIG_VFIO_DEVICE_CDEV, or an IOMMU is missing",
				  addr);
	if (backend == IOMMU_BACKEND_AUTO)
		return has_cdev ? IOMMU_BACKEND_IOMMUFD : IOMMU_BACKEND_TYPE1;
	return (int)backend;
}

int sriov_attach(struct sriov *s, const char *vf, const char *owner,
		 enum sriov_attach_format format, enum iommu_backend backend,
		 struct sriov_attachment *a)
{
	char group[SRIOV_TEXT_LEN], cdev[SRIOV_TEXT_LEN], path[SRIOV_PATH_LEN];
	struct sriov_func f = { 0 };
	bool by_cdev;
	int res;

	memset(a, 0, sizeof(*a));
	res = sriov_func_read(s, vf, 0, &f);
	if (!res)
		res = check_claim(s, &f, owner);
	if (res < 0)
		return res;
	sriov_vfio_nodes(s, vf, f.iommu_group, group, cdev);
	sriov_path(s, path, "/dev/iommu");
	res = choose_way(s, vf, format, backend, *cdev && sriov_file_exists(path));
	if (res < 0)
		return res;
	by_cdev = res == IOMMU_BACKEND_IOMMUFD;
	sriov_text(a->node[0], sizeof(a->node[0]), "%s", by_cdev ? "/dev/iommu" : "/dev/vfio/vfio");
	sriov_text(a->node[1], sizeof(a->node[1]), "%s", by_cdev ? cdev : group);
	switch (format) {
	case SRIOV_ATTACH_QEMU:
		for_qemu(a, vf, by_cdev);
		break;
	case SRIOV_ATTACH_LIBVIRT:
		for_libvirt(a, vf, by_cdev);
		break;
	case SRIOV_ATTACH_CLOUD_HYPERVISOR:
		for_cloud_hypervisor(a, vf, by_cdev);
		break;
	default:
		for_dpdk(a, vf);
	}
	return 0;
}
