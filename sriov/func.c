/*
 * What sysfs says of one PCI function. Called by the inventory and before every
 * change. Reads nothing that waits for a device or for the network, except by
 * guard.c, with a bound.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "sriov/internal.h"
#include "sriov/inventory.h"

/* Lines of "resource": BARs, the ROM, and from here on the BARs of all VFs. */
#define RESOURCE_VF_BARS 7

/* PCI Local Bus Specification, "Capabilities List" and "MSI-X Capability". */
#define CAPS_FIRST 0x34
#define CAPS_MAX 48 /* as many as have room */
#define CAP_MSIX 0x11
#define MSIX_CONTROL 2
#define MSIX_SIZE 0x7ff /* entries, less one */

/* PCI Express Base Specification, "SR-IOV Extended Capability". */
#define EXT_CAPS 0x100
#define EXT_CAPS_END 0x1000
#define EXT_CAP_SRIOV 0x10
#define SRIOV_TOTAL_VFS 0x0e

static uint32_t config_bytes(int fd, unsigned int offset, size_t len)
{
	uint8_t bytes[4] = { 0 };

	if (pread(fd, bytes, len, offset) != (ssize_t)len)
		return 0;
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

/*
 * For how many VFs the hardware keeps room in its BARs: a driver may allow fewer
 * (igb: 7 of 8). fallback where the capability cannot be read, which needs root.
 */
static unsigned int hardware_vfs(struct sriov *s, const char *addr, unsigned int fallback)
{
	unsigned int offset = EXT_CAPS, vfs = 0;
	char path[SRIOV_PATH_LEN];
	uint32_t header;
	int fd;

	sriov_dev_path(s, path, addr, "config");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fallback;
	/* As often as there is room for: a list that goes round ends too. */
	for (int i = 0; i < (EXT_CAPS_END - EXT_CAPS) / 8 && !vfs && offset >= EXT_CAPS; i++) {
		header = config_bytes(fd, offset, 4);
		if ((header & 0xffff) == EXT_CAP_SRIOV)
			vfs = config_bytes(fd, offset + SRIOV_TOTAL_VFS, 2);
		offset = header >> 20;
	}
	close(fd);
	return vfs ? vfs : fallback;
}

unsigned int sriov_msix_vectors(const struct sriov *s, const char *addr)
{
	unsigned int offset, vectors = 0;
	char path[SRIOV_PATH_LEN];
	int fd;

	sriov_dev_path(s, path, addr, "config");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	offset = config_bytes(fd, CAPS_FIRST, 1) & ~3u;
	for (int i = 0; i < CAPS_MAX && offset && !vectors; i++) {
		if (config_bytes(fd, offset, 1) == CAP_MSIX)
			vectors = (config_bytes(fd, offset + MSIX_CONTROL, 2) & MSIX_SIZE) + 1;
		offset = config_bytes(fd, offset + 1, 1) & ~3u;
	}
	close(fd);
	return vectors;
}

bool sriov_msix_gives_back(const struct sriov *s, const char *addr, uint64_t vectors)
{
	return !vectors || vectors < sriov_msix_vectors(s, addr);
}

static void read_bars(struct sriov *s, struct sriov_func *f)
{
	unsigned int vfs = f->total_vfs ? hardware_vfs(s, f->addr, f->total_vfs) : 0;
	char path[SRIOV_PATH_LEN], line[128];
	uint64_t first, last, len;
	FILE *file;

	sriov_dev_path(s, path, f->addr, "resource");
	file = fopen(path, "re");
	if (!file)
		return;
	for (int i = 0; i < RESOURCE_VF_BARS + 6 && fgets(line, sizeof(line), file); i++) {
		if (sscanf(line, "%" SCNx64 " %" SCNx64, &first, &last) != 2)
			break;
		len = last > first ? last - first + 1 : 0;
		if (i < 6)
			f->bar_len[i] = len;
		else if (i >= RESOURCE_VF_BARS && vfs)
			f->vf_bar_len[i - RESOURCE_VF_BARS] = len / vfs;
	}
	fclose(file);
}

/* "Group 5" for all, "vfio-noiommu" for groups that VFIO has made up. */
static int read_group(struct sriov *s, const char *addr)
{
	char path[SRIOV_PATH_LEN], group[16];

	sriov_dev_path(s, path, addr, "iommu_group");
	if (sriov_file_link(path, group, sizeof(group)) < 0)
		return -1;
	return atoi(group);
}

/* Wait for the lock of all network devices. In the order of struct sriov_port. */
static const char *const port_files[] = { "phys_port_name", "phys_switch_id" };

static void read_net_attr(struct sriov *s, const char *netdev, const char *file, char *buf,
			  size_t len)
{
	char path[SRIOV_PATH_LEN];

	sriov_path(s, path, "/sys/class/net/%s/%s", netdev, file);
	if (sriov_file_read(path, buf, len) < 0)
		buf[0] = '\0';
}

void sriov_port_names(struct sriov *s, char (*netdev)[IFNAMSIZ], unsigned int nr,
		      struct sriov_port *port)
{
	unsigned int nr_paths = nr * ARRAY_SIZE(port_files);
	char(*path)[SRIOV_PATH_LEN] = calloc(nr_paths, sizeof(*path));
	char(*text)[SRIOV_NAME_LEN] = calloc(nr_paths, sizeof(*text));
	const char **paths = calloc(nr_paths, sizeof(*paths));
	int *res = calloc(nr_paths, sizeof(*res));

	memset(port, 0, nr * sizeof(*port));
	if (!path || !text || !paths || !res || !nr)
		goto out;
	for (unsigned int i = 0; i < nr_paths; i++) {
		sriov_path(s, path[i], "/sys/class/net/%s/%s", netdev[i / ARRAY_SIZE(port_files)],
			   port_files[i % ARRAY_SIZE(port_files)]);
		paths[i] = path[i];
	}
	sriov_guard_read_net(s, paths, nr_paths, text, res);
	for (unsigned int i = 0; i < nr; i++) {
		memcpy(port[i].name, text[2 * i], sizeof(port->name));
		memcpy(port[i].switch_id, text[2 * i + 1], sizeof(port->switch_id));
	}
out:
	free(path);
	free(text);
	free(paths);
	free(res);
}

/* The one that is the function's port; false if it has none. */
static bool find_netdev(struct sriov *s, const char *addr, char *netdev, struct sriov_port *found)
{
	char(*all)[IFNAMSIZ] = NULL;
	struct sriov_port *port = NULL;
	int nr, best = -1;

	nr = sriov_netdevs(s, addr, &all);
	/* One device alone needs no question to tell it from others. */
	if (nr > 1 || (nr == 1 && found))
		port = calloc((size_t)nr, sizeof(*port));
	if (port)
		sriov_port_names(s, all, (unsigned int)nr, port);
	for (int i = 0; i < nr; i++) {
		/* Representors hang below their PF too, but are not its port. */
		if (port && strstr(port[i].name, "vf"))
			continue;
		/* The lowest name, so that it is always the same one. */
		if (best < 0 || strcmp(all[i], all[best]) < 0)
			best = i;
	}
	netdev[0] = '\0';
	if (best >= 0)
		memcpy(netdev, all[best], IFNAMSIZ);
	if (best >= 0 && port && found)
		*found = port[best];
	free(port);
	free(all);
	return best >= 0;
}

void sriov_netdev(struct sriov *s, const char *addr, char *netdev)
{
	find_netdev(s, addr, netdev, NULL);
}

static void read_net(struct sriov *s, struct sriov_func *f)
{
	if (!find_netdev(s, f->addr, f->netdev, NULL))
		return;
	read_net_attr(s, f->netdev, "address", f->mac, sizeof(f->mac));
	read_net_attr(s, f->netdev, "operstate", f->operstate, sizeof(f->operstate));
}

void sriov_func_port(struct sriov *s, struct sriov_func *f)
{
	struct sriov_port port = { 0 };

	if (!*f->netdev || !find_netdev(s, f->addr, f->netdev, &port))
		return;
	memcpy(f->switch_id, port.switch_id, sizeof(f->switch_id));
	memcpy(f->port_name, port.name, sizeof(f->port_name));
}

/* Which VF of which PF; the PF knows it as virtfnN. */
static void read_vf(struct sriov *s, struct sriov_func *f)
{
	char path[SRIOV_PATH_LEN];
	char(*vf)[SRIOV_ADDR_LEN];
	int nr;

	sriov_dev_path(s, path, f->addr, "physfn");
	f->is_vf = !sriov_file_link(path, f->pf, sizeof(f->pf));
	if (!f->is_vf)
		return;
	nr = sriov_vf_addrs(s, f->pf, &vf);
	for (int i = 0; i < nr; i++) {
		if (!strcmp(vf[i], f->addr))
			f->vf_index = i;
	}
	if (nr >= 0)
		free(vf);
}

static void read_pf(struct sriov *s, struct sriov_func *f)
{
	char(*vf)[SRIOV_ADDR_LEN];
	int nr;

	f->is_pf = true;
	f->total_vfs = (unsigned int)sriov_attr_number(s, f->addr, "sriov_totalvfs", 0);
	f->offset = (unsigned int)sriov_attr_number(s, f->addr, "sriov_offset", 0);
	f->stride = (unsigned int)sriov_attr_number(s, f->addr, "sriov_stride", 0);
	f->autoprobe = sriov_attr_number(s, f->addr, "sriov_drivers_autoprobe", 1);
	f->vf_device = 0;
	{
		char text[16];

		/* Without 0x, unlike its neighbours. */
		sriov_attr_text(s, f->addr, "sriov_vf_device", text, sizeof(text));
		f->vf_device = (unsigned int)strtoul(text, NULL, 16);
	}
	nr = sriov_vf_addrs(s, f->addr, &vf);
	for (int i = 0; i < nr; i++)
		f->nr_vfs += *vf[i] != '\0';
	if (nr >= 0)
		free(vf);
}

static void read_record(struct sriov *s, struct sriov_func *f)
{
	struct sriov_rec rec;

	/* One that cannot be read is told by whoever wants to change something. */
	if (sriov_rec_load(s, f->addr, &rec) < 0)
		return;
	f->claim = sriov_rec_claim_state(s, &rec);
	if (f->claim != SRIOV_CLAIM_NONE) {
		sriov_text(f->owner, sizeof(f->owner), "%s", rec.claim.owner);
		f->owner_pid = rec.claim.pid;
	}
	sriov_text(f->owners, sizeof(f->owners), "%s", rec.owners);
	f->msix_given = rec.msix.given;
	f->msix_nr = rec.msix.nr;
	f->bound_by_us = rec.bind.phase != SRIOV_BIND_NONE;
	if (f->bound_by_us)
		sriov_text(f->original_driver, sizeof(f->original_driver), "%s", rec.bind.from);
}

int sriov_func_facts(struct sriov *s, const char *addr, struct sriov_func *f)
{
	char path[SRIOV_PATH_LEN];

	memset(f, 0, sizeof(*f));
	sriov_text(f->addr, sizeof(f->addr), "%s", addr);
	f->vf_index = -1;
	if (!sriov_dev_exists(s, addr))
		return sriov_fail(s, -ENODEV, "%s: no such PCI function", addr);
	f->vendor = (uint16_t)sriov_attr_number(s, addr, "vendor", 0);
	f->device = (uint16_t)sriov_attr_number(s, addr, "device", 0);
	f->class_code = (uint32_t)sriov_attr_number(s, addr, "class", 0);
	f->numa_node = (int)(int64_t)sriov_attr_number(s, addr, "numa_node", (uint64_t)-1);
	f->iommu_group = read_group(s, addr);
	sriov_dev_path(s, path, addr, "driver");
	sriov_file_link(path, f->driver, sizeof(f->driver));
	sriov_attr_text(s, addr, "reset_method", f->reset_method, sizeof(f->reset_method));
	sriov_attr_text(s, addr, "current_link_speed", f->link_speed, sizeof(f->link_speed));
	sriov_attr_text(s, addr, "current_link_width", f->link_width, sizeof(f->link_width));
	sriov_attr_text(s, addr, "max_link_speed", f->max_link_speed, sizeof(f->max_link_speed));
	sriov_attr_text(s, addr, "max_link_width", f->max_link_width, sizeof(f->max_link_width));
	read_vf(s, f);
	sriov_dev_path(s, path, addr, "sriov_totalvfs");
	if (sriov_file_exists(path))
		read_pf(s, f);
	read_bars(s, f);
	f->msix = sriov_msix_vectors(s, addr);
	read_net(s, f);
	read_record(s, f);
	/* Gone while it was read: half of this is not true. */
	return sriov_dev_exists(s, addr)
		       ? 0
		       : sriov_fail(s, -ENODEV, "%s: the function has just vanished", addr);
}

void sriov_func_overrides(struct sriov *s, struct sriov_func *f, unsigned int nr)
{
	char(*path)[SRIOV_PATH_LEN] = calloc(nr, sizeof(*path));
	char(*text)[SRIOV_NAME_LEN] = calloc(nr, sizeof(*text));
	const char **paths = calloc(nr, sizeof(*paths));
	int *res = calloc(nr, sizeof(*res));

	for (unsigned int i = 0; path && text && paths && res && i < nr; i++) {
		sriov_dev_path(s, path[i], f[i].addr, "driver_override");
		paths[i] = path[i];
	}
	if (path && text && paths && res) {
		sriov_guard_read(s, paths, nr, text, res);
		for (unsigned int i = 0; i < nr; i++) {
			f[i].override_stuck = res[i] == -ETIMEDOUT;
			/* The kernel's word for none. */
			if (res[i] > 0 && strcmp(text[i], "(null)") != 0)
				memcpy(f[i].override, text[i], sizeof(f[i].override));
		}
	}
	free(path);
	free(text);
	free(paths);
	free(res);
}

bool sriov_is_stuck(struct sriov *s, const char *pf)
{
	char path[SRIOV_PATH_LEN], text[1][SRIOV_NAME_LEN] = { "" };
	const char *paths[1] = { path };
	int res[1] = { 0 };

	/* The file that waits for whoever is changing the number of VFs. */
	sriov_dev_path(s, path, pf, "sriov_numvfs");
	if (!sriov_file_exists(path))
		return false;
	sriov_guard_read(s, paths, 1, text, res);
	return res[0] == -ETIMEDOUT;
}

int sriov_group(struct sriov *s, const char *addr, struct iommu_group **group, char *err)
{
	char sysfs[SRIOV_PATH_LEN];

	sriov_path(s, sysfs, "/sys");
	return iommu_group_read(sysfs, addr, group, err);
}

int sriov_acs(struct sriov *s, const char *addr, struct iommu_acs_hop **hops)
{
	char sysfs[SRIOV_PATH_LEN];

	sriov_path(s, sysfs, "/sys");
	return iommu_acs_path(sysfs, addr, hops, NULL);
}
