/*
 * Access control services on the way from a function to its root complex: why
 * functions share an IOMMU group. Called by whoever shows a device. Reads the
 * configuration space files of sysfs, all of which only root can; changes none.
 *
 * PCI Express Base Specification, "Access Control Services (ACS)" and "PCI
 * Express Capability Structure"; Linux judges the same way when it makes groups.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CONFIG_HEADER_TYPE = 0x0e,
	CONFIG_CAPABILITIES = 0x34,
	CONFIG_EXTENDED = 0x100,
	CONFIG_LEN = 0x1000,
	CAP_PCI_EXPRESS = 0x10,
	EXT_CAP_ACS = 0x0d,
	/* Port types of the PCI Express capabilities register. */
	TYPE_ENDPOINT = 0x0,
	TYPE_LEGACY_ENDPOINT = 0x1,
	TYPE_ROOT_PORT = 0x4,
	TYPE_UPSTREAM = 0x5,
	TYPE_DOWNSTREAM = 0x6,
	TYPE_ROOT_ENDPOINT = 0x9,
};

static const char *const acs_names[] = {
	"source-validation",   "translation-blocking", "request-redirect",  "completion-redirect",
	"upstream-forwarding", "egress-control",       "direct-translated",
};

/* What must be on for functions to reach each other only through the IOMMU. */
#define ACS_NEEDED 0x1d /* source validation, request and completion redirect, forwarding */

struct config {
	uint8_t byte[CONFIG_LEN];
	size_t len;
};

static uint16_t get16(const struct config *c, size_t at)
{
	return at + 2 <= c->len ? (uint16_t)(c->byte[at] | c->byte[at + 1] << 8) : 0;
}

static uint32_t get32(const struct config *c, size_t at)
{
	return get16(c, at) | (uint32_t)get16(c, at + 2) << 16;
}

static int read_config(const char *sysfs, const char *address, struct config *c)
{
	char path[PATH_MAX];
	ssize_t n;
	int fd;

	c->len = 0;
	if (iommu_sysfs_path(path, sysfs, address, "config") < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (c->len < CONFIG_LEN && (n = read(fd, c->byte + c->len, CONFIG_LEN - c->len)) > 0)
		c->len += (size_t)n;
	close(fd);
	return 0;
}

/* Offset of a capability of the first 256 bytes, 0 if there is none. The device
 * wrote the list: it may be a circle. */
static size_t find_cap(const struct config *c, uint8_t id)
{
	size_t at = get16(c, CONFIG_CAPABILITIES) & 0xfc;

	for (int i = 0; i < 48 && at >= 0x40; i++) {
		uint16_t head = get16(c, at);

		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & 0xfc;
	}
	return 0;
}

static size_t find_ext_cap(const struct config *c, uint16_t id)
{
	size_t at = CONFIG_EXTENDED;

	for (int i = 0; i < 960 && at >= CONFIG_EXTENDED; i++) {
		uint32_t head = get32(c, at);

		if (!head || head == UINT32_MAX)
			return 0;
		if ((head & 0xffff) == id)
			return at;
		at = head >> 20 & 0xffc;
	}
	return 0;
}

static void judge_hop(const struct config *c, struct iommu_acs_hop *hop)
{
	size_t express = find_cap(c, CAP_PCI_EXPRESS), acs = find_ext_cap(c, EXT_CAP_ACS);
	bool multifunction = get16(c, CONFIG_HEADER_TYPE) & 0x80;
	unsigned int type = express ? get16(c, express + 2) >> 4 & 0xf : UINT32_MAX;
	uint16_t needed;

	/* Without root, sysfs shows 64 bytes: no capability can be followed. */
	hop->readable = c->len > CONFIG_EXTENDED || (c->len == 256 && !express);
	hop->present = acs;
	if (acs) {
		hop->capability = get16(c, acs + 4);
		hop->control = get16(c, acs + 6);
	}
	/* What a port has not, but for egress control, is hard-wired on. */
	needed = ACS_NEEDED & hop->capability;
	switch (type) {
	case TYPE_ROOT_PORT:
	case TYPE_DOWNSTREAM:
		hop->isolates = acs && (hop->control & needed) == needed;
		break;
	case TYPE_ENDPOINT:
	case TYPE_LEGACY_ENDPOINT:
	case TYPE_ROOT_ENDPOINT:
	case TYPE_UPSTREAM:
		/* One function alone has nobody to send anything to. */
		hop->isolates = !multifunction || (acs && (hop->control & needed) == needed);
		break;
	default:
		/* Conventional PCI, and bridges to it: a shared bus. */
		hop->isolates = false;
	}
}

/* Cut the last component off path if it is a PCI address; a copy of it. */
static bool next_hop(char *path, char *address)
{
	char *slash = strrchr(path, '/');

	if (!slash || !iommu_is_address(slash + 1))
		return false;
	strcpy(address, slash + 1);
	*slash = '\0';
	return true;
}

int iommu_acs_path(const char *sysfs, const char *address, struct iommu_acs_hop **hops, char *err)
{
	char link[PATH_MAX], path[PATH_MAX], name[IOMMU_ADDRESS_LEN];
	struct iommu_acs_hop *list = NULL, *grown;
	struct config *config;
	int nr = 0, ret;

	ret = iommu_sysfs_check(sysfs, address, err);
	if (ret < 0)
		return ret;
	iommu_sysfs_path(link, sysfs, address, NULL);
	if (!realpath(link, path))
		return iommu_fail(err, -errno, "%s: %s", link, strerror(errno));
	config = malloc(sizeof(*config));
	if (!config)
		return iommu_fail(err, -ENOMEM, "out of memory");
	while (next_hop(path, name)) {
		grown = realloc(list, (size_t)(nr + 1) * sizeof(*list));
		if (!grown) {
			free(list);
			free(config);
			return iommu_fail(err, -ENOMEM, "out of memory");
		}
		list = grown;
		list[nr] = (struct iommu_acs_hop){ 0 };
		strcpy(list[nr].address, name);
		if (read_config(sysfs, name, config) == 0)
			judge_hop(config, &list[nr]);
		nr++;
	}
	free(config);
	*hops = list;
	return nr;
}

json_t *iommu_acs_json(const struct iommu_acs_hop *hops, unsigned int nr)
{
	json_t *list = json_array(), *on;
	int bad = 0;

	for (unsigned int i = 0; i < nr; i++) {
		const struct iommu_acs_hop *h = &hops[i];

		on = json_array();
		for (unsigned int bit = 0; bit < ARRAY_SIZE(acs_names); bit++)
			if (h->control >> bit & 1)
				bad |= json_array_append_new(on, json_string(acs_names[bit]));
		bad |= json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:b, s:o}", "address",
							     h->address, "readable", h->readable,
							     "present", h->present, "isolates",
							     h->isolates, "enabled", on));
	}
	if (!bad)
		return list;
	json_decref(list);
	return NULL;
}
