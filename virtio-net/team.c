/*
 * Several devices as one uplink with one MAC address: DPDK's bonding driver. Called
 * by uplink_dev.c on the control thread. Never sends or receives itself.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <rte_eth_bond.h>
#include <rte_eth_bond_8023ad.h>
#include <rte_version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/uplink_internal.h"

#define TEAM_MEMBERS_MAX ARRAY_SIZE(((struct uplink_conf *)0)->dev)
/* How often links without an interrupt are looked at. */
#define LINK_CHECK_MS 50

/* The driver's functions were renamed. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define bond_add rte_eth_bond_member_add
#define bond_remove rte_eth_bond_member_remove
#define bond_active rte_eth_bond_active_members_get
#define bond_lacp_info rte_eth_bond_8023ad_member_info
#else
#define bond_add rte_eth_bond_slave_add
#define bond_remove rte_eth_bond_slave_remove
#define bond_active rte_eth_bond_active_slaves_get
#define bond_lacp_info rte_eth_bond_8023ad_slave_info
#endif

const char *const uplink_team_names[] = { "active-backup", "balance-xor", "802.3ad", NULL };
static const uint8_t modes[] = {
	BONDING_MODE_ACTIVE_BACKUP,
	BONDING_MODE_BALANCE,
	BONDING_MODE_8023AD,
};
static_assert(ARRAY_SIZE(modes) + 1 == ARRAY_SIZE(uplink_team_names), "a mode per word");

struct team {
	char name[RTE_ETH_NAME_MAX_LEN];
	uint16_t port;
	unsigned int mode; /* index of modes */
	uint16_t member[TEAM_MEMBERS_MAX];
	const char *devargs[TEAM_MEMBERS_MAX]; /* copies */
	unsigned int nr_members, nr_added;
	uint16_t sender; /* active-backup: the member in use */
};

static unsigned int parse_mode(const char *name)
{
	for (unsigned int i = 0; name && uplink_team_names[i]; i++) {
		if (!strcmp(name, uplink_team_names[i]))
			return i;
	}
	return 0;
}

/*
 * net_tap offers link interrupts and takes note of each change, but never calls
 * those who registered for it: its team would go on using a member that is down.
 * Without the offer the team looks at the link itself. dev_flags is the device's
 * own, which DPDK has no function to change.
 */
static void prefer_polling(uint16_t port)
{
	struct rte_eth_dev_info info;

	if (!rte_eth_dev_info_get(port, &info) && !strcmp(info.driver_name, "net_tap"))
		*(uint32_t *)info.dev_flags &= ~(uint32_t)RTE_ETH_DEV_INTR_LSC;
}

static int attach_members(struct team *t, const struct uplink_conf *conf, char *err)
{
	int res;

	for (unsigned int i = 0; i < conf->nr_dev; i++) {
		res = uplink_attach(conf->name, conf->dev[i], &t->member[i], err);
		if (res < 0)
			return res;
		prefer_polling(t->member[i]);
		t->devargs[i] = strdup(conf->dev[i]);
		t->nr_members++;
	}
	return 0;
}

static int join(struct team *t, const struct uplink_conf *conf, char *err)
{
	static unsigned int serial; /* names are unique in the process */
	int res, node = rte_eth_dev_socket_id(t->member[0]);

	snprintf(t->name, sizeof(t->name), "net_bonding%u", serial++);
	/* -1 where it cannot be told. */
	res = rte_eth_bond_create(t->name, modes[t->mode], (uint8_t)(node < 0 ? 0 : node));
	if (res < 0) {
		snprintf(err, SW_ERR_LEN, "%s: no team can be made: %s", conf->name,
			 strerror(-res));
		return res;
	}
	t->port = (uint16_t)res;
	for (; t->nr_added < t->nr_members; t->nr_added++) {
		if (!bond_add(t->port, t->member[t->nr_added]))
			continue;
		snprintf(err, SW_ERR_LEN, "%s: %.100s: cannot be a member of the team", conf->name,
			 conf->dev[t->nr_added]);
		return -EINVAL;
	}
	rte_eth_bond_link_monitoring_set(t->port, LINK_CHECK_MS);
	/* Flows stay on one member each, by addresses and ports. */
	if (modes[t->mode] != BONDING_MODE_ACTIVE_BACKUP)
		rte_eth_bond_xmit_policy_set(t->port, BALANCE_XMIT_POLICY_LAYER34);
	return 0;
}

int team_create(const struct uplink_conf *conf, struct team **out, char *err)
{
	struct team *t = calloc(1, sizeof(*t));
	int res;

	if (!t) {
		snprintf(err, SW_ERR_LEN, "%s: out of memory", conf->name);
		return -ENOMEM;
	}
	t->port = RTE_MAX_ETHPORTS;
	t->sender = RTE_MAX_ETHPORTS;
	t->mode = parse_mode(conf->team_mode);
	res = attach_members(t, conf, err);
	if (!res)
		res = join(t, conf, err);
	if (res < 0) {
		team_destroy(t);
		return res;
	}
	*out = t;
	return 0;
}

void team_destroy(struct team *t)
{
	if (!t)
		return;
	if (t->port != RTE_MAX_ETHPORTS) {
		while (t->nr_added)
			bond_remove(t->port, t->member[--t->nr_added]);
		rte_eth_bond_free(t->name);
	}
	while (t->nr_members) {
		uplink_detach(t->member[--t->nr_members]);
		free((char *)t->devargs[t->nr_members]);
	}
	free(t);
}

uint16_t team_port(const struct team *t)
{
	return t->port;
}

unsigned int team_nr_members(const struct team *t)
{
	return t->nr_members;
}

uint16_t team_member(const struct team *t, unsigned int i)
{
	return t->member[i];
}

bool team_speaks(const struct team *t)
{
	return modes[t->mode] == BONDING_MODE_8023AD;
}

bool team_has_moved(struct team *t)
{
	int port = modes[t->mode] == BONDING_MODE_ACTIVE_BACKUP ? rte_eth_bond_primary_get(t->port)
								: -1;
	bool moved;

	if (port < 0)
		return false;
	moved = t->sender != RTE_MAX_ETHPORTS && t->sender != port;
	t->sender = (uint16_t)port;
	return moved;
}

/* IEEE 802.1AX, "Actor_State": whether frames go over that member at all. */
static void add_lacp(const struct team *t, unsigned int i, json_t *obj)
{
	struct bond_lacp_info info;

	if (modes[t->mode] != BONDING_MODE_8023AD ||
	    bond_lacp_info(t->port, t->member[i], &info) < 0)
		return;
	json_object_set_new(obj, "synchronized",
			    json_boolean(info.actor_state & STATE_SYNCHRONIZATION));
	json_object_set_new(obj, "distributing",
			    json_boolean(info.actor_state & STATE_DISTRIBUTING));
}

static json_t *member_status(const struct team *t, unsigned int i, const uint16_t *active,
			     int nr_active)
{
	struct rte_eth_link link = { 0 };
	bool is_active = false;
	json_t *obj;

	rte_eth_link_get_nowait(t->member[i], &link);
	for (int a = 0; a < nr_active; a++)
		is_active |= active[a] == t->member[i];
	/* Of a backup it says only that it could be used. */
	if (modes[t->mode] == BONDING_MODE_ACTIVE_BACKUP)
		is_active = rte_eth_bond_primary_get(t->port) == t->member[i];
	obj = json_pack("{s:s, s:s, s:b}", "device", t->devargs[i] ? t->devargs[i] : "", "link",
			link.link_status ? "up" : "down", "active", is_active);
	add_lacp(t, i, obj);
	return obj;
}

json_t *team_status(const struct team *t)
{
	json_t *members = json_array();
	uint16_t active[TEAM_MEMBERS_MAX];
	int nr_active;

	nr_active = bond_active(t->port, active, ARRAY_SIZE(active));
	for (unsigned int i = 0; i < t->nr_members; i++)
		json_array_append_new(members, member_status(t, i, active, nr_active));
	return json_pack("{s:s, s:o}", "mode", uplink_team_names[t->mode], "members", members);
}
