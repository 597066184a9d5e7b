/*
 * What a network device is doing, as JSON. Called by the control socket's methods
 * on the control thread; only reads.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdio.h>

#include "virtio-net/vnet_internal.h"

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *mac_string(const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return json_string(text);
}

static json_t *mac_list(const uint8_t (*macs)[6], unsigned int nr)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < nr; i++)
		json_array_append_new(list, mac_string(macs[i]));
	return list;
}

static json_t *vlan_list(const uint8_t *vlans)
{
	json_t *list = json_array();

	for (unsigned int vid = 0; vid < 4096; vid++)
		if (vlans[vid / 8] >> vid % 8 & 1)
			json_array_append_new(list, json_integer(vid));
	return list;
}

static json_t *filter_status(const struct vnet_rx_mode *rx)
{
	json_t *obj = json_object();

	json_object_set_new(obj, "promiscuous", json_boolean(rx->promisc));
	json_object_set_new(obj, "all-multicast", json_boolean(rx->allmulti));
	json_object_set_new(obj, "all-unicast", json_boolean(rx->alluni));
	json_object_set_new(obj, "no-multicast", json_boolean(rx->nomulti));
	json_object_set_new(obj, "no-unicast", json_boolean(rx->nouni));
	json_object_set_new(obj, "no-broadcast", json_boolean(rx->nobcast));
	json_object_set_new(obj, "unicast", mac_list(rx->uni, rx->nr_uni));
	json_object_set_new(obj, "unicast-overflow", json_boolean(rx->uni_overflow));
	json_object_set_new(obj, "multicast", mac_list(rx->multi, rx->nr_multi));
	json_object_set_new(obj, "multicast-overflow", json_boolean(rx->multi_overflow));
	json_object_set_new(obj, "vlans", rx->vlan_filter ? vlan_list(rx->vlans) : json_null());
	return obj;
}

static json_t *rss_status(const struct vnet_rss *rss)
{
	const struct vnet_rss_conf *conf;
	json_t *obj, *table;

	if (!rss)
		return json_null();
	conf = vnet_rss_get_conf(rss);
	obj = json_object();
	table = json_array();
	for (unsigned int i = 0; i < conf->table_len; i++)
		json_array_append_new(table, json_integer(conf->table[i]));
	json_object_set_new(obj, "hash-types", number(conf->hash_types));
	json_object_set_new(obj, "key-length", number(conf->key_len));
	json_object_set_new(obj, "table", table);
	json_object_set_new(obj, "unclassified", json_integer(conf->unclassified));
	return obj;
}

/* Receiver's side: what passes to the driver without being done for it. */
static json_t *offload_list(const struct offload_caps *caps)
{
	const struct {
		bool on;
		const char *name;
	} offloads[] = {
		{ caps->csum, "csum" }, { caps->tso4, "tso4" }, { caps->tso6, "tso6" },
		{ caps->ecn, "ecn" },	{ caps->uso4, "uso4" }, { caps->uso6, "uso6" },
	};
	json_t *list = json_array();

	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++)
		if (offloads[i].on)
			json_array_append_new(list, json_string(offloads[i].name));
	return list;
}

static json_t *control_status(const struct vnet *vn)
{
	struct vnet_ctrl_counts counts = vnet_ctrl_counts(vn);
	json_t *obj = json_object();

	json_object_set_new(obj, "served", json_boolean(vn->ctrl));
	json_object_set_new(obj, "commands", number(counts.commands));
	json_object_set_new(obj, "errors", number(counts.errors));
	return obj;
}

/* Add to the core's object of a ring what the device counts. */
static void add_queue(const struct vnet_queue *q, json_t *ring)
{
	static const char *const roles[] = { "receive", "transmit", "control" };
	bool is_set_up = q->vq;

	json_object_set_new(ring, "role", is_set_up ? json_string(roles[q->role]) : json_null());
	json_object_set_new(ring, "frames", number(counter_read(&q->frames)));
	json_object_set_new(ring, "bytes", number(counter_read(&q->bytes)));
	json_object_set_new(ring, "bursts", number(counter_read(&q->bursts)));
}

json_t *vnet_status(struct vnet *vn)
{
	json_t *obj = vu_dev_status(vn->dev, vnet_feature_name);
	json_t *rings = json_object_get(obj, "rings");
	const struct vnet_driver *driver = &vn->driver;
	size_t index;
	json_t *ring;

	json_array_foreach(rings, index, ring) add_queue(&vn->queue[index], ring);
	json_object_set_new(obj, "pairs", json_integer(vn->pairs));
	json_object_set_new(obj, "active-pairs", json_integer(vn->live->nr_active));
	json_object_set_new(obj, "link", json_string(vn->link_up ? "up" : "down"));
	json_object_set_new(obj, "announcing", json_boolean(vn->announce));
	json_object_set_new(obj, "mtu", vn->mtu ? json_integer(vn->mtu) : json_null());
	json_object_set_new(obj, "tx-usecs", json_integer(vn->tx_usecs));
	json_object_set_new(obj, "mac",
			    driver->rx.has_mac ? mac_string(driver->rx.mac) : json_null());
	json_object_set_new(obj, "header-length", json_integer(vn->hdr_len));
	json_object_set_new(obj, "guest-offloads", offload_list(&vn->live->caps));
	json_object_set_new(obj, "filter", filter_status(&driver->rx));
	json_object_set_new(obj, "rss", rss_status(driver->rss));
	json_object_set_new(obj, "control-queue", control_status(vn));
	return obj;
}
