/*
 * IOMMU groups as sysfs shows them: who is in one, which member keeps it from
 * being handed over, what addresses it must not use. Called by whoever shows
 * devices, and by the opening of a device to explain a refusal. Opens no device
 * and changes nothing.
 *
 * Theory of operation
 *
 * The IOMMU tells apart groups of functions, not functions. VFIO takes a group
 * only while no member is bound to a driver that uses the kernel's own mappings;
 * the kernel allows drivers that promise to do no DMA of their own
 * (driver_managed_dma): VFIO's, pcieport and pci-stub. Before Linux 5.19 every
 * bridge was allowed whatever its driver; the stricter rule is the one used
 * here. A driver is VFIO's if it made a VFIO device (vfio-dev/ in sysfs, Linux
 * 6.1), or has vfio in its name, as vfio-pci and all its variants have.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLASS_BRIDGE 0x06 /* PCI Code and ID Assignment, "Bridge" */

static const char *const state_names[] = { "vfio", "unbound", "harmless", "blocks" };
static_assert(ARRAY_SIZE(state_names) == IOMMU_MEMBER_STATE_CNT, "a name for each state");

/* The kernel's words: Linux, Documentation/ABI/testing/sysfs-kernel-iommu_groups. */
static const char *const reserved_names[] = { "direct", "direct-relaxable", "reserved", "msi",
					      "unknown" };
static_assert(ARRAY_SIZE(reserved_names) == IOMMU_RESERVED_CNT, "a name for each type");

const char *iommu_member_state_name(enum iommu_member_state state)
{
	return state_names[state];
}

const char *iommu_reserved_type_name(enum iommu_reserved_type type)
{
	return reserved_names[type];
}

static enum iommu_member_state judge(const struct iommu_member *m, const char *vfio_dev)
{
	if (!m->driver[0])
		return IOMMU_MEMBER_UNBOUND;
	if (strstr(m->driver, "vfio") || access(vfio_dev, F_OK) == 0)
		return IOMMU_MEMBER_VFIO;
	if (!strcmp(m->driver, "pcieport") || !strcmp(m->driver, "pci-stub"))
		return IOMMU_MEMBER_HARMLESS;
	return IOMMU_MEMBER_BLOCKS;
}

/* dir is the member's link in the group's folder. */
static int read_member(const char *dir, const char *name, struct iommu_member *m)
{
	char path[PATH_MAX], text[32];
	int ret;

	*m = (struct iommu_member){ 0 };
	snprintf(m->address, sizeof(m->address), "%.*s", IOMMU_NAME_LEN - 1, name);
	if (iommu_path(path, "%s/%s", dir, name) < 0)
		return -ENAMETOOLONG;
	if (access(path, F_OK) < 0)
		return -errno;
	if (iommu_path(path, "%s/%s/class", dir, name) == 0 &&
	    iommu_sysfs_text(path, text, sizeof(text)) == 0)
		m->class_code = (uint32_t)strtoul(text, NULL, 16);
	m->is_bridge = m->class_code >> 16 == CLASS_BRIDGE;
	if (iommu_path(path, "%s/%s/driver", dir, name) < 0)
		return -ENAMETOOLONG;
	ret = iommu_sysfs_link(path, m->driver, sizeof(m->driver));
	if (ret < 0 && ret != -ENOENT)
		return ret;
	if (iommu_path(path, "%s/%s/vfio-dev", dir, name) < 0)
		return -ENAMETOOLONG;
	m->state = judge(m, path);
	return 0;
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct iommu_member *)a)->address,
		      ((const struct iommu_member *)b)->address);
}

static int read_members(const char *group_dir, struct iommu_group *g)
{
	char path[PATH_MAX];
	struct iommu_member *grown;
	struct dirent *e;
	int ret = 0;
	DIR *dir;

	if (iommu_path(path, "%s/devices", group_dir) < 0)
		return -ENAMETOOLONG;
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (ret == 0 && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		grown = realloc(g->member, (g->nr_members + 1) * sizeof(*grown));
		if (!grown) {
			ret = -ENOMEM;
			break;
		}
		g->member = grown;
		ret = read_member(path, e->d_name, &g->member[g->nr_members]);
		if (ret == 0)
			g->nr_members++;
		else if (ret == -ENOENT || ret == -ENODEV)
			ret = 0; /* unplugged while this reads */
	}
	closedir(dir);
	if (g->nr_members)
		qsort(g->member, g->nr_members, sizeof(*g->member), by_address);
	return ret;
}

static enum iommu_reserved_type reserved_type(const char *word)
{
	for (unsigned int i = 0; i < IOMMU_RESERVED_UNKNOWN; i++)
		if (!strcmp(word, reserved_names[i]))
			return (enum iommu_reserved_type)i;
	return IOMMU_RESERVED_UNKNOWN;
}

/* Lines of "0x00000000fee00000 0x00000000feefffff msi". An older kernel has no
 * such file, which is no error. */
static int read_reserved(const char *group_dir, struct iommu_group *g)
{
	char path[PATH_MAX], line[128], word[32];
	struct iommu_reserved *grown;
	uint64_t first, last;
	int ret = 0;
	FILE *f;

	if (iommu_path(path, "%s/reserved_regions", group_dir) < 0)
		return -ENAMETOOLONG;
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? 0 : -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %31s", &first, &last, word) != 3)
			continue;
		grown = realloc(g->reserved, (g->nr_reserved + 1) * sizeof(*grown));
		if (!grown) {
			ret = -ENOMEM;
			break;
		}
		g->reserved = grown;
		g->reserved[g->nr_reserved++] = (struct iommu_reserved){
			.range = { iova(first), iova(last) },
			.type = reserved_type(word),
		};
	}
	fclose(f);
	return ret;
}

static int read_group(const char *dir, struct iommu_group *g)
{
	char path[PATH_MAX], name[IOMMU_NAME_LEN];
	int ret;

	if (iommu_path(path, "%s/type", dir) == 0)
		iommu_sysfs_text(path, g->type, sizeof(g->type));
	/* Linux, Documentation/driver-api/vfio.rst: groups that VFIO makes up in
	 * its no-IOMMU mode have this name. */
	if (iommu_path(path, "%s/name", dir) == 0 &&
	    iommu_sysfs_text(path, name, sizeof(name)) == 0)
		g->noiommu = !strcmp(name, "vfio-noiommu");
	ret = read_members(dir, g);
	if (ret == 0)
		ret = read_reserved(dir, g);
	g->viable = true;
	for (unsigned int i = 0; i < g->nr_members; i++)
		if (g->member[i].state == IOMMU_MEMBER_BLOCKS)
			g->viable = false;
	return ret;
}

int iommu_group_read(const char *sysfs, const char *address, struct iommu_group **group, char *err)
{
	char path[PATH_MAX], number[32], dir[PATH_MAX];
	struct iommu_group *g;
	int ret;

	ret = iommu_sysfs_check(sysfs, address, err);
	if (ret < 0)
		return ret;
	iommu_sysfs_path(path, sysfs, address, "iommu_group");
	ret = iommu_sysfs_link(path, number, sizeof(number));
	if (ret == -ENOENT)
		return iommu_fail(err, ret,
				  "%s is in no IOMMU group: the IOMMU is off in the firmware or "
				  "on the kernel's command line (intel_iommu=on), or there is "
				  "none",
				  address);
	if (ret < 0)
		return iommu_fail(err, ret, "%s: %s", path, strerror(-ret));
	if (iommu_path(dir, "%s/kernel/iommu_groups/%s", sysfs ? sysfs : "/sys", number) < 0)
		return iommu_fail(err, -ENAMETOOLONG, "the path of sysfs is too long");
	g = calloc(1, sizeof(*g));
	if (!g)
		return iommu_fail(err, -ENOMEM, "out of memory");
	g->id = atoi(number);
	ret = read_group(dir, g);
	if (ret < 0) {
		iommu_group_free(g);
		return iommu_fail(err, ret, "%s: %s", dir, strerror(-ret));
	}
	*group = g;
	return 0;
}

void iommu_group_free(struct iommu_group *group)
{
	if (!group)
		return;
	free(group->member);
	free(group->reserved);
	free(group);
}

void iommu_member_explain(const struct iommu_member *m, char *text)
{
	const char *kind = m->is_bridge ? "bridge " : "";

	switch (m->state) {
	case IOMMU_MEMBER_VFIO:
		snprintf(text, IOMMU_ERR_LEN, "%s%s is bound to %s", kind, m->address, m->driver);
		break;
	case IOMMU_MEMBER_UNBOUND:
		snprintf(text, IOMMU_ERR_LEN, "%s%s has no driver", kind, m->address);
		break;
	case IOMMU_MEMBER_HARMLESS:
		snprintf(text, IOMMU_ERR_LEN, "%s%s is bound to %s, which does no DMA of its own",
			 kind, m->address, m->driver);
		break;
	default:
		snprintf(text, IOMMU_ERR_LEN,
			 "%s%s is in use by the host's driver %s: unbind it or bind it to vfio-pci",
			 kind, m->address, m->driver);
	}
}

void iommu_group_explain(const struct iommu_group *group, char *text)
{
	char one[IOMMU_ERR_LEN];
	size_t used;

	if (group->viable) {
		snprintf(text, IOMMU_ERR_LEN, "IOMMU group %d is viable", group->id);
		return;
	}
	used = (size_t)snprintf(text, IOMMU_ERR_LEN, "IOMMU group %d is not viable", group->id);
	for (unsigned int i = 0; i < group->nr_members && used < IOMMU_ERR_LEN; i++) {
		if (group->member[i].state != IOMMU_MEMBER_BLOCKS)
			continue;
		iommu_member_explain(&group->member[i], one);
		used += (size_t)snprintf(text + used, IOMMU_ERR_LEN - used, "; %s", one);
	}
}

static json_t *member_json(const struct iommu_member *m)
{
	char text[IOMMU_ERR_LEN], class_code[16];

	iommu_member_explain(m, text);
	snprintf(class_code, sizeof(class_code), "0x%06x", m->class_code);
	return json_pack("{s:s, s:s?, s:s, s:b, s:s, s:s}", "address", m->address, "driver",
			 m->driver[0] ? m->driver : NULL, "class", class_code, "bridge",
			 m->is_bridge, "state", state_names[m->state], "explained", text);
}

static json_t *reserved_json(const struct iommu_reserved *r)
{
	char first[24], last[24];

	snprintf(first, sizeof(first), "0x%" PRIx64, r->range.first.v);
	snprintf(last, sizeof(last), "0x%" PRIx64, r->range.last.v);
	return json_pack("{s:s, s:s, s:s}", "first", first, "last", last, "type",
			 reserved_names[r->type]);
}

json_t *iommu_group_json(const struct iommu_group *group)
{
	json_t *members = json_array(), *reserved = json_array();
	char text[IOMMU_ERR_LEN];
	int bad = 0;

	for (unsigned int i = 0; i < group->nr_members; i++)
		bad |= json_array_append_new(members, member_json(&group->member[i]));
	for (unsigned int i = 0; i < group->nr_reserved; i++)
		bad |= json_array_append_new(reserved, reserved_json(&group->reserved[i]));
	if (bad) {
		json_decref(members);
		json_decref(reserved);
		return NULL;
	}
	iommu_group_explain(group, text);
	return json_pack("{s:i, s:s?, s:b, s:b, s:s, s:o, s:o}", "id", group->id, "type",
			 group->type[0] ? group->type : NULL, "viable", group->viable, "noiommu",
			 group->noiommu, "explained", text, "members", members, "reserved",
			 reserved);
}
