/*
 * What ringbolt-vf shows to people: the table of functions, one function in
 * full. Called by its commands. Text from devices and processes is what sriov/
 * has made printable.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

enum column {
	C_FUNCTION,
	C_DRIVER,
	C_NODE,
	C_GROUP,
	C_NETDEV,
	C_CONF,
	C_OWNER,
	C_STATE,
	C_CNT
};

static const char *const headings[] = { "FUNCTION", "DRIVER", "NODE",  "GROUP",
					"NETDEV",   "CONFIG", "OWNER", "STATE" };
static_assert(ARRAY_SIZE(headings) == C_CNT, "a heading per column");

struct row {
	char cell[C_CNT][SRIOV_TEXT_LEN];
};

static void put(char *cell, const char *text)
{
	snprintf(cell, SRIOV_TEXT_LEN, "%s", *text ? text : "-");
}

/* A MAC of zeroes and settings that are off are not worth a column's width. */
static void put_conf(char *cell, const struct sriov_conf *conf)
{
	struct sriov_conf shown = *conf;
	static const uint8_t no_mac[6];

	if (!memcmp(conf->mac, no_mac, sizeof(no_mac)))
		shown.has &= ~(unsigned int)SRIOV_CONF_MAC;
	if (!conf->vlan)
		shown.has &= ~(unsigned int)(SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO);
	if (!conf->qos)
		shown.has &= ~(unsigned int)SRIOV_CONF_QOS;
	if (!conf->proto)
		shown.has &= ~(unsigned int)SRIOV_CONF_PROTO;
	if (conf->spoofchk)
		shown.has &= ~(unsigned int)SRIOV_CONF_SPOOFCHK;
	if (!conf->trust)
		shown.has &= ~(unsigned int)SRIOV_CONF_TRUST;
	if (!conf->query_rss)
		shown.has &= ~(unsigned int)SRIOV_CONF_QUERY_RSS;
	if (!conf->state)
		shown.has &= ~(unsigned int)SRIOV_CONF_STATE;
	if (!conf->min_rate)
		shown.has &= ~(unsigned int)SRIOV_CONF_MIN_RATE;
	if (!conf->max_rate)
		shown.has &= ~(unsigned int)SRIOV_CONF_MAX_RATE;
	sriov_conf_text(&shown, cell);
	if (!*cell)
		put(cell, "");
}

static void put_owner(char *cell, const struct sriov_func *f)
{
	static const char *const marks[] = { "", "", " (stale)", " (moving)" };

	if (f->claim == SRIOV_CLAIM_NONE)
		put(cell, "");
	else
		snprintf(cell, SRIOV_TEXT_LEN, "%s%s", f->owner, marks[f->claim]);
}

/* Can it be handed over? If not, what stands in the way, in one word each. */
static void put_state(struct sriov *s, char *cell, const struct sriov_func *f)
{
	unsigned int seen = 0;
	struct sriov_blockers b;
	size_t used = 0;

	if (f->override_stuck) {
		put(cell, "stuck");
		return;
	}
	if (sriov_blockers(s, f, &b) < 0) {
		put(cell, "");
		return;
	}
	put(cell, b.nr ? "" : "free");
	for (unsigned int i = 0; i < b.nr; i++) {
		if (seen & 1u << b.item[i].kind)
			continue;
		used += (size_t)snprintf(cell + used, SRIOV_TEXT_LEN - used, "%s%s",
					 seen ? "," : "", sriov_blocker_names[b.item[i].kind]);
		seen |= 1u << b.item[i].kind;
	}
	sriov_blockers_free(&b);
}

static void fill_row(struct sriov *s, const struct sriov_func *f, struct row *row)
{
	char text[SRIOV_TEXT_LEN];

	if (f->is_vf)
		snprintf(row->cell[C_FUNCTION], SRIOV_TEXT_LEN, "  %s vf %d", f->addr, f->vf_index);
	else if (f->is_pf)
		snprintf(row->cell[C_FUNCTION], SRIOV_TEXT_LEN, "%s pf %u/%u", f->addr, f->nr_vfs,
			 f->total_vfs);
	else
		put(row->cell[C_FUNCTION], f->addr);
	put(row->cell[C_DRIVER], f->driver);
	snprintf(text, sizeof(text), "%d", f->numa_node);
	put(row->cell[C_NODE], f->numa_node < 0 ? "" : text);
	snprintf(text, sizeof(text), "%d", f->iommu_group);
	put(row->cell[C_GROUP], f->iommu_group < 0 ? "" : text);
	put(row->cell[C_NETDEV], *f->representor ? f->representor : f->netdev);
	put_conf(row->cell[C_CONF], &f->conf);
	put_owner(row->cell[C_OWNER], f);
	put_state(s, row->cell[C_STATE], f);
}

static void print_row(const struct row *row, const int *width)
{
	for (int c = 0; c < C_CNT; c++) {
		if (c == C_CNT - 1)
			printf("%s\n", row->cell[c]);
		else
			printf("%-*s ", width[c], row->cell[c]);
	}
}

void vf_print_table(struct sriov *s, const struct sriov_list *list)
{
	struct row *rows = calloc(list->nr + 1, sizeof(*rows));
	int width[C_CNT] = { 0 };

	if (!rows)
		return;
	for (int c = 0; c < C_CNT; c++)
		put(rows[0].cell[c], headings[c]);
	for (unsigned int i = 0; i < list->nr; i++)
		fill_row(s, &list->func[i], &rows[i + 1]);
	for (unsigned int i = 0; i <= list->nr; i++) {
		for (int c = 0; c < C_CNT; c++)
			width[c] = (int)max_u64((uint64_t)width[c], strlen(rows[i].cell[c]));
	}
	for (unsigned int i = 0; i <= list->nr; i++)
		print_row(&rows[i], width);
	free(rows);
}

/* ---- One function ---- */

static void line(const char *key, const char *text)
{
	if (*text)
		printf("  %-14s %s\n", key, text);
}

static void size_text(uint64_t bytes, char *text, size_t len)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t u = 0;

	while (bytes >= 1024 && !(bytes % 1024) && u < ARRAY_SIZE(units) - 1) {
		bytes /= 1024;
		u++;
	}
	snprintf(text, len, "%llu %s", (unsigned long long)bytes, units[u]);
}

static void print_bars(const char *key, const uint64_t *len)
{
	char text[SRIOV_TEXT_LEN] = "", size[32];
	size_t used = 0;

	for (int i = 0; i < 6; i++) {
		if (!len[i])
			continue;
		size_text(len[i], size, sizeof(size));
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%d: %s",
					 used ? ", " : "", i, size);
	}
	line(key, text);
}

static void print_pf(const struct sriov_func *f)
{
	printf("  %-14s %u of %u, first at +%u, then every %u, device %04x\n", "vfs", f->nr_vfs,
	       f->total_vfs, f->offset, f->stride, f->vf_device);
	line("autoprobe", f->autoprobe ? "on" : "off");
	print_bars("vf bars", f->vf_bar_len);
	line("eswitch", f->eswitch);
	if (f->vf_total_msix)
		printf("  %-14s %u to give to VFs\n", "vectors", f->vf_total_msix);
}

static void print_vf(const struct sriov_func *f)
{
	char text[SRIOV_TEXT_LEN];

	printf("  %-14s %d of %s\n", "vf", f->vf_index, f->pf);
	sriov_conf_text(&f->conf, text);
	line("config", text);
	line("representor", f->representor);
}

static void print_group(struct sriov *s, const struct sriov_func *f)
{
	char text[IOMMU_ERR_LEN];
	struct iommu_group *group;
	struct iommu_acs_hop *hops;
	int nr;

	if (f->iommu_group < 0 || sriov_group(s, f->addr, &group, NULL) < 0)
		return;
	for (unsigned int i = 0; i < group->nr_members; i++) {
		iommu_member_explain(&group->member[i], text);
		line(i ? "" : "group members", text);
	}
	iommu_group_free(group);
	nr = sriov_acs(s, f->addr, &hops);
	for (int i = 0; i < nr; i++)
		printf("  %-14s %s: %s\n", i ? "" : "acs", hops[i].address,
		       !hops[i].readable  ? "cannot be read (needs root)"
		       : !hops[i].present ? "none"
		       : hops[i].isolates ? "on"
					  : "not all on");
	if (nr >= 0)
		free(hops);
}

static void print_ownership(struct sriov *s, const struct sriov_func *f)
{
	struct sriov_blockers b;
	char text[SRIOV_TEXT_LEN];

	put_owner(text, f);
	line("owner", f->claim == SRIOV_CLAIM_NONE ? "" : text);
	line("may claim", f->owners);
	if (f->bound_by_us)
		line("was driven by", *f->original_driver ? f->original_driver : "no driver");
	if (sriov_blockers(s, f, &b) < 0)
		return;
	if (!b.nr)
		line("hand-over", "nothing stands in the way");
	for (unsigned int i = 0; i < b.nr; i++)
		line(i ? "" : "blocked", b.item[i].text);
	sriov_blockers_free(&b);
}

void vf_print_function(struct sriov *s, const struct sriov_func *f)
{
	char text[SRIOV_TEXT_LEN * 2 + 64];

	printf("%s %s\n", f->addr,
	       f->is_pf	  ? "physical function"
	       : f->is_vf ? "virtual function"
			  : "function");
	snprintf(text, sizeof(text), "%s %s [%04x:%04x] class %06x", f->vendor_name, f->device_name,
		 f->vendor, f->device, f->class_code);
	line("device", text);
	line("driver", *f->driver ? f->driver : "none");
	line("override", f->override);
	if (f->override_stuck)
		line("stuck", "the kernel does not answer for it: a change hangs");
	snprintf(text, sizeof(text), "%d", f->numa_node);
	line("numa node", f->numa_node < 0 ? "" : text);
	snprintf(text, sizeof(text), "%d", f->iommu_group);
	line("iommu group", f->iommu_group < 0 ? "none" : text);
	print_group(s, f);
	line("reset", f->reset_method);
	print_bars("bars", f->bar_len);
	if (*f->link_speed) {
		snprintf(text, sizeof(text), "%s x%s (at most %s x%s)", f->link_speed,
			 f->link_width, f->max_link_speed, f->max_link_width);
		line("pcie link", text);
	}
	if (*f->netdev) {
		snprintf(text, sizeof(text), "%s %s %s%s%s", f->netdev, f->mac, f->operstate,
			 *f->switch_id ? " switch " : "", f->switch_id);
		line("netdev", text);
	}
	if (f->is_pf)
		print_pf(f);
	if (f->is_vf)
		print_vf(f);
	print_ownership(s, f);
}
