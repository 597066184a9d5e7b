/*
 * A function as JSON, for programs: everything the inventory knows, what stands
 * in the way of a hand-over, and the group with its members. Called by programs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

static const char *const claim_names[] = { "none", "held", "stale", "moving" };
static_assert(ARRAY_SIZE(claim_names) == SRIOV_CLAIM_CNT, "a word per state");

/* Bytes of the character that text begins with, 0 if it is none. Unicode, "UTF-8",
 * table "Well-Formed UTF-8 Byte Sequences". */
static size_t character(const unsigned char *text)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (*text < 0x80)
		return 1;
	if (*text < 0xc2 || *text > 0xf4)
		return 0;
	len = *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;
	/* No long forms, no surrogates, nothing above U+10FFFF. */
	if (*text == 0xe0)
		low = 0xa0;
	else if (*text == 0xed)
		high = 0x9f;
	else if (*text == 0xf0)
		low = 0x90;
	else if (*text == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < len; i++) {
		if (text[i] < low || text[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return len;
}

json_t *sriov_json_text(const char *text)
{
	static const char instead[] = "\xef\xbf\xbd";
	char *clean = malloc(strlen(text) * (sizeof(instead) - 1) + 1), *end = clean;
	json_t *json;
	size_t len;

	if (!clean)
		return NULL;
	while (*text) {
		len = character((const unsigned char *)text);
		end = mempcpy(end, len ? text : instead, len ? len : sizeof(instead) - 1);
		text += len ? len : 1;
	}
	*end = '\0';
	json = json_string(clean);
	free(clean);
	return json;
}

/* Left out if it is "": absent and empty are the same to who reads it. */
static void set_text(json_t *o, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(o, key, sriov_json_text(text));
}

static void set_hex(json_t *o, const char *key, unsigned int v, int digits)
{
	json_object_set_new(o, key, json_sprintf("%0*x", digits, v));
}

static json_t *bars(const uint64_t len[6])
{
	json_t *list = json_array();

	for (int i = 0; i < 6; i++) {
		if (len[i])
			json_array_append_new(list, json_pack("{s:i, s:I}", "bar", i, "bytes",
							      (json_int_t)len[i]));
	}
	return list;
}

static void set_net(json_t *o, const struct sriov_func *f)
{
	json_t *net;

	if (!*f->netdev)
		return;
	net = json_object();
	set_text(net, "name", f->netdev);
	set_text(net, "mac", f->mac);
	set_text(net, "operstate", f->operstate);
	set_text(net, "switch-id", f->switch_id);
	set_text(net, "port-name", f->port_name);
	json_object_set_new(o, "netdev", net);
}

static void set_pcie(json_t *o, const struct sriov_func *f)
{
	json_t *link;

	if (!*f->link_speed)
		return;
	link = json_object();
	set_text(link, "speed", f->link_speed);
	set_text(link, "width", f->link_width);
	set_text(link, "max-speed", f->max_link_speed);
	set_text(link, "max-width", f->max_link_width);
	json_object_set_new(o, "pcie-link", link);
}

static void set_pf(json_t *o, const struct sriov_func *f)
{
	json_t *pf;

	pf = json_pack("{s:i, s:i, s:i, s:i, s:b, s:o}", "vfs", (int)f->nr_vfs, "total-vfs",
		       (int)f->total_vfs, "offset", (int)f->offset, "stride", (int)f->stride,
		       "autoprobe", f->autoprobe, "vf-bars", bars(f->vf_bar_len));
	set_hex(pf, "vf-device", f->vf_device, 4);
	set_text(pf, "eswitch", f->eswitch);
	if (f->vf_total_msix)
		json_object_set_new(pf, "vf-total-msix", json_integer(f->vf_total_msix));
	json_object_set_new(o, "pf", pf);
}

static void set_vf(json_t *o, const struct sriov_func *f)
{
	json_t *vf;

	vf = json_pack("{s:s, s:i, s:o}", "pf", f->pf, "index", f->vf_index, "conf",
		       sriov_conf_json(&f->conf));
	set_text(vf, "representor", f->representor);
	json_object_set_new(o, "vf", vf);
}

static void set_claim(json_t *o, const struct sriov_func *f)
{
	json_t *claim;

	set_text(o, "owners", f->owners);
	if (f->bound_by_us)
		json_object_set_new(o, "original-driver", sriov_json_text(f->original_driver));
	if (f->claim == SRIOV_CLAIM_NONE)
		return;
	claim = json_pack("{s:s, s:o}", "state", claim_names[f->claim], "owner",
			  sriov_json_text(f->owner));
	if (f->owner_pid)
		json_object_set_new(claim, "pid", json_integer(f->owner_pid));
	json_object_set_new(o, "claim", claim);
}

static void add_blocker(json_t *list, enum sriov_blocker_kind kind, const char *text)
{
	json_array_append_new(list, json_pack("{s:s, s:o}", "kind", sriov_blocker_names[kind],
					      "text", sriov_json_text(text)));
}

static void set_blockers(struct sriov *s, json_t *o, const struct sriov_func *f)
{
	struct sriov_blockers b = { 0 };
	json_t *list = json_array();

	/* Not known is not free. */
	if (sriov_blockers(s, f, &b) < 0)
		add_blocker(list, SRIOV_BLOCK_STUCK, sriov_error(s));
	for (unsigned int i = 0; i < b.nr; i++)
		add_blocker(list, b.item[i].kind, b.item[i].text);
	json_object_set_new(o, "blockers", list);
	sriov_blockers_free(&b);
}

static void set_group(struct sriov *s, json_t *o, const struct sriov_func *f)
{
	struct iommu_acs_hop *hops;
	struct iommu_group *group;
	int nr;

	if (!sriov_group(s, f->addr, &group, NULL)) {
		json_object_set_new(o, "iommu-group", iommu_group_json(group));
		iommu_group_free(group);
	}
	nr = sriov_acs(s, f->addr, &hops);
	if (nr >= 0) {
		json_object_set_new(o, "acs", iommu_acs_json(hops, (unsigned int)nr));
		free(hops);
	}
}

json_t *sriov_func_json(struct sriov *s, const struct sriov_func *f)
{
	json_t *o = json_object();

	if (!o)
		return NULL;
	set_text(o, "address", f->addr);
	set_hex(o, "vendor", f->vendor, 4);
	set_hex(o, "device", f->device, 4);
	set_hex(o, "class", f->class_code, 6);
	set_text(o, "vendor-name", f->vendor_name);
	set_text(o, "device-name", f->device_name);
	set_text(o, "driver", f->driver);
	set_text(o, "driver-override", f->override);
	if (f->override_stuck)
		json_object_set_new(o, "stuck", json_true());
	json_object_set_new(o, "numa-node", json_integer(f->numa_node));
	set_text(o, "reset-method", f->reset_method);
	json_object_set_new(o, "bars", bars(f->bar_len));
	if (f->msix)
		json_object_set_new(o, "msix", json_integer(f->msix));
	set_pcie(o, f);
	set_net(o, f);
	if (f->is_pf)
		set_pf(o, f);
	if (f->is_vf)
		set_vf(o, f);
	set_claim(o, f);
	set_group(s, o, f);
	set_blockers(s, o, f);
	return o;
}
