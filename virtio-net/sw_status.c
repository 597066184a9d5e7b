/*
 * What the switch shows: counters, configurations, the MAC table. Called by apps,
 * devices and uplinks on the control thread while loops forward; stops nobody.
 * JSON objects come without what memory was not enough for, and never with
 * something that is not true.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio-net/sw_internal.h"

#define TICKS_PER_S (1e9 / (1u << FDB_TICK_SHIFT))
#define MAC_TEXT_LEN 18

static void put_u64(json_t *obj, const char *key, uint64_t v)
{
	json_object_set_new(obj, key, json_integer((json_int_t)v));
}

static void put_bool(json_t *obj, const char *key, bool v)
{
	json_object_set_new(obj, key, json_boolean(v));
}

static void put_text(json_t *obj, const char *key, const char *text)
{
	json_object_set_new(obj, key, json_string(text));
}

static void mac_format(const uint8_t mac[6], char text[MAC_TEXT_LEN])
{
	snprintf(text, MAC_TEXT_LEN, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
}

/* --- counters -------------------------------------------------------------------- */

void sw_port_stats_sum(const struct sw_port *port, struct sw_port_stats *sum)
{
	*sum = (struct sw_port_stats){ 0 };
	for (unsigned int i = 0; i < port->sw->nr_lanes; i++) {
		const struct sw_port_stats *s = &port->stats[i];

		sum->in_frames += counter_read(&s->in_frames);
		sum->in_bytes += counter_read(&s->in_bytes);
		sum->out_frames += counter_read(&s->out_frames);
		sum->out_bytes += counter_read(&s->out_bytes);
		sum->in_bursts += counter_read(&s->in_bursts);
		sum->out_bursts += counter_read(&s->out_bursts);
		sum->in_multicast += counter_read(&s->in_multicast);
		sum->in_broadcast += counter_read(&s->in_broadcast);
		sum->flooded += counter_read(&s->flooded);
		sum->segmented += counter_read(&s->segmented);
		sum->csum_completed += counter_read(&s->csum_completed);
		sum->mac_flaps += counter_read(&s->mac_flaps);
		for (unsigned int r = 0; r < DROP_REASON_CNT; r++)
			sum->drops[r] += counter_read(&s->drops[r]);
	}
}

static json_t *counters(const struct sw_port *port)
{
	json_t *obj = json_object(), *drops = json_object();
	struct sw_port_stats sum;

	sw_port_stats_sum(port, &sum);
	put_u64(obj, "in-frames", sum.in_frames);
	put_u64(obj, "in-bytes", sum.in_bytes);
	put_u64(obj, "in-bursts", sum.in_bursts);
	put_u64(obj, "in-multicast", sum.in_multicast);
	put_u64(obj, "in-broadcast", sum.in_broadcast);
	put_u64(obj, "flooded", sum.flooded);
	put_u64(obj, "out-frames", sum.out_frames);
	put_u64(obj, "out-bytes", sum.out_bytes);
	put_u64(obj, "out-bursts", sum.out_bursts);
	put_u64(obj, "segmented", sum.segmented);
	put_u64(obj, "csum-completed", sum.csum_completed);
	put_u64(obj, "mac-flaps", sum.mac_flaps);
	for (unsigned int r = DROP_NONE + 1; r < DROP_REASON_CNT; r++)
		put_u64(drops, drop_reason_names[r], sum.drops[r]);
	json_object_set_new(obj, "drops", drops);
	return obj;
}

/* --- a port ---------------------------------------------------------------------- */

/* Keys of a configuration are those by which it is given. */
static void put_vlans(json_t *obj, const struct sw_port_conf *conf)
{
	char *set;

	if (conf->vlan_mode == SW_VLAN_ACCESS) {
		put_u64(obj, "vlan", conf->vlan);
		return;
	}
	set = sw_vlans_format(conf->trunk);
	if (set)
		put_text(obj, "trunk", set);
	free(set);
	put_u64(obj, "native", conf->vlan);
}

static void put_macs(json_t *obj, const struct sw_port_conf *conf)
{
	json_t *macs = json_array();
	char text[MAC_TEXT_LEN];

	for (unsigned int i = 0; i < conf->nr_macs; i++) {
		mac_format(conf->macs[i], text);
		json_array_append_new(macs, json_string(text));
	}
	json_object_set_new(obj, "allowed-macs", macs);
}

static void put_statics(json_t *obj, const struct sw_port_conf *conf)
{
	json_t *macs = json_array();
	char text[MAC_TEXT_LEN];

	for (unsigned int i = 0; i < conf->nr_statics; i++) {
		const struct sw_static_mac *s = &conf->statics[i];

		mac_format(s->mac, text);
		json_array_append_new(macs, s->vid ? json_sprintf("%s@%u", text, s->vid)
						   : json_string(text));
	}
	json_object_set_new(obj, "static-macs", macs);
}

/* Those that are set. */
static json_t *limits(const struct sw_port_conf *conf)
{
	static const char *const names[SW_LIMIT_CNT][2] = {
		[SW_LIMIT_IN_BYTES] = { "limit-in", "limit-in-burst" },
		[SW_LIMIT_IN_FRAMES] = { "limit-in-frames", "limit-in-frames-burst" },
		[SW_LIMIT_OUT_BYTES] = { "limit-out", "limit-out-burst" },
		[SW_LIMIT_OUT_FRAMES] = { "limit-out-frames", "limit-out-frames-burst" },
		[SW_LIMIT_BROADCAST] = { "storm-broadcast", "storm-broadcast-burst" },
		[SW_LIMIT_MULTICAST] = { "storm-multicast", "storm-multicast-burst" },
		[SW_LIMIT_UNKNOWN] = { "storm-unknown", "storm-unknown-burst" },
	};
	json_t *obj = json_object();

	for (int kind = 0; kind < SW_LIMIT_CNT; kind++) {
		const struct sw_limit *l = sw_conf_limit(conf, (enum sw_limit_kind)kind);

		if (l->rate)
			put_u64(obj, names[kind][0], l->rate);
		if (l->burst)
			put_u64(obj, names[kind][1], l->burst);
	}
	return obj;
}

json_t *sw_port_status(struct sw_port *port)
{
	const struct sw_port_conf *conf = port->conf;
	json_t *obj = json_object();

	put_text(obj, "name", port->name);
	put_text(obj, "kind", port->ops->kind);
	put_u64(obj, "index", port->index);
	put_bool(obj, "enabled", conf->enabled);
	put_vlans(obj, conf);
	put_bool(obj, "isolated", conf->isolated);
	put_bool(obj, "loopback", conf->loopback);
	put_bool(obj, "learning", conf->learning);
	put_bool(obj, "flooding", conf->flooding);
	put_bool(obj, "anti-spoof", conf->anti_spoof);
	put_macs(obj, conf);
	put_statics(obj, conf);
	put_u64(obj, "learned-macs", read_once(&port->sw->fdb->nr_of[port->index]));
	if (conf->mirror[0]) {
		put_text(obj, "mirror", conf->mirror);
		put_bool(obj, "mirror-exists", port_of(port)->mirror);
	}
	put_u64(obj, "acl-in-rules", conf->acl_in ? sw_acl_nr_rules(conf->acl_in) : 0);
	put_u64(obj, "acl-out-rules", conf->acl_out ? sw_acl_nr_rules(conf->acl_out) : 0);
	json_object_set_new(obj, "limits", limits(conf));
	json_object_set_new(obj, "counters", counters(port));
	return obj;
}

json_t *sw_port_acl_status(struct sw_port *port)
{
	const struct sw_port_conf *conf = port->conf;
	json_t *obj = json_object();

	json_object_set_new(obj, "in", conf->acl_in ? sw_acl_status(conf->acl_in) : json_array());
	json_object_set_new(obj, "out",
			    conf->acl_out ? sw_acl_status(conf->acl_out) : json_array());
	return obj;
}

/* --- the switch ------------------------------------------------------------------ */

json_t *vswitch_status(struct vswitch *sw)
{
	const struct fdb *fdb = sw->fdb;
	json_t *obj = json_object(), *macs = json_object();
	struct sw_lane_stats sum = { 0 };
	unsigned int nr_ports = 0;

	for (unsigned int i = 0; i < sw->nr_lanes; i++) {
		const struct sw_lane_stats *s = &sw->lanes[i].scratch->stats;

		sum.held += counter_read(&s->held);
		sum.limited += counter_read(&s->limited);
		sum.busy += counter_read(&s->busy);
	}
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++)
		nr_ports += !!sw->ports[i];
	put_u64(obj, "ports", nr_ports);
	put_u64(obj, "lanes", sw->nr_lanes);
	put_bool(obj, "forward-reserved", sw->forward_reserved);
	put_u64(macs, "entries-max", fdb->max);
	put_u64(macs, "entries", read_once(&fdb->nr));
	put_u64(macs, "ageing", sw->ageing_s);
	put_u64(macs, "learned", counter_read(&fdb->stats.learned));
	put_u64(macs, "moved", counter_read(&fdb->stats.moved));
	put_u64(macs, "aged", counter_read(&fdb->stats.aged));
	put_u64(macs, "evicted", counter_read(&fdb->stats.evicted));
	put_u64(macs, "refused-full", counter_read(&fdb->stats.full));
	put_u64(macs, "refused-moves", sum.held);
	put_u64(macs, "refused-rate", sum.limited);
	put_u64(macs, "refused-busy", sum.busy);
	json_object_set_new(obj, "mac-table", macs);
	return obj;
}

struct table {
	struct vswitch *sw;
	json_t *array;
	uint32_t tick;
};

static void mac_of(const struct fdb_entry *e, uint8_t mac[6])
{
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(e->key >> 8 * i);
}

static void put_entry(void *opaque, const struct fdb_entry *e)
{
	struct table *t = opaque;
	unsigned int index = e->where & FDB_PORT_MASK;
	int32_t age = (int32_t)(t->tick - e->stamp);
	json_t *obj = json_object();
	char text[MAC_TEXT_LEN];
	uint8_t mac[6];

	mac_of(e, mac);
	mac_format(mac, text);
	put_text(obj, "mac", text);
	put_u64(obj, "vlan", e->key >> 48);
	/* It may be leaving just now. */
	put_text(obj, "port", t->sw->ports[index] ? t->sw->ports[index]->name : "");
	put_bool(obj, "static", e->where & FDB_STATIC);
	put_u64(obj, "age", age > 0 ? (uint64_t)(age / TICKS_PER_S) : 0);
	json_array_append_new(t->array, obj);
}

json_t *vswitch_mac_table(struct vswitch *sw)
{
	struct table t = {
		.sw = sw,
		.array = json_array(),
		.tick = fdb_tick(sw_now_ns()),
	};

	fdb_walk(sw->fdb, put_entry, &t);
	return t.array;
}

struct walk {
	struct vswitch *sw;
	void (*entry)(void *opaque, const uint8_t mac[6], uint16_t vid, const struct sw_port *port);
	void *opaque;
};

static void walk_entry(void *opaque, const struct fdb_entry *e)
{
	struct walk *w = opaque;
	uint8_t mac[6];

	mac_of(e, mac);
	w->entry(w->opaque, mac, (uint16_t)(e->key >> 48), w->sw->ports[e->where & FDB_PORT_MASK]);
}

void vswitch_mac_walk(struct vswitch *sw,
		      void (*entry)(void *opaque, const uint8_t mac[6], uint16_t vid,
				    const struct sw_port *port),
		      void *opaque)
{
	struct walk w = { .sw = sw, .entry = entry, .opaque = opaque };

	fdb_walk(sw->fdb, walk_entry, &w);
}

bool sw_port_carries(const struct sw_port *port, uint16_t vid, bool *tagged)
{
	*tagged = port->conf->vlan_mode == SW_VLAN_TRUNK && vid != port->conf->vlan;
	return conf_carries(port->conf, vid);
}
