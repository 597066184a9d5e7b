/*
 * The methods of ringbolt-net's control socket: status, counters, add, remove,
 * set, move, link, the MAC table, capture. Keys are those of the command line. Called by
 * core/rpc on the control thread; a method never waits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "apps/app_rpc.h"
#include "apps/net_app.h"
#include "core/base.h"
#include "core/log.h"

static_assert(RPC_MSG_LEN >= OPTS_ERR_LEN && RPC_MSG_LEN >= SW_ERR_LEN, "sentences fit");

static struct net_app *net_app(void *opaque)
{
	return container_of((struct app *)opaque, struct net_app, app);
}

/* Parameters of all methods: each has a table of those it takes. */
struct params {
	const char *name, *mac, *filter;
	uint64_t vlan, loop, queue, snaplen, count;
	bool up;
};

#define PARAM(key_, type_, field)                                                                  \
	.key = (key_), .type = (type_), .offset = offsetof(struct params, field)

/* The port called name, or NULL and the call is answered. */
static struct net_port *find_port(struct net_app *app, struct rpc_call *call, const char *name)
{
	const char *names[SW_PORTS_MAX + 1] = { NULL };
	struct net_port *port = net_app_find(app, name);
	size_t cnt = 0;

	if (port && !port->leaving)
		return port;
	if (port) {
		rpc_fail(call, RPC_FAILED, "%s: is being removed", name);
		return NULL;
	}
	for (port = app->ports; port && cnt < SW_PORTS_MAX; port = port->next)
		names[cnt++] = port->name;
	app_unknown_name(call, "port", name, names);
	return NULL;
}

/* --- looking ------------------------------------------------------------------------ */

static json_t *port_status(struct net_port *port)
{
	json_t *obj;

	/* Its parts are going away: only the name is certain. */
	if (port->leaving)
		return json_pack("{s:s, s:b}", "name", port->name, "leaving", 1);
	obj = port->vn ? vnet_status(port->vn) : uplink_status(port->up);
	json_object_set_new(obj, "switch", sw_port_status(net_port_sw(port)));
	return obj;
}

static const struct opt_desc optional_name_keys[] = {
	{ PARAM("name", OPT_STRING, name) },
	{ NULL },
};

static void status(void *opaque, struct rpc_call *call, json_t *params)
{
	json_t *answer, *list = json_array();
	struct net_app *app = net_app(opaque);
	struct params p = { NULL };
	struct net_port *only = NULL;

	if (!app_params(call, "status", params, optional_name_keys, &p))
		goto out;
	if (p.name) {
		only = find_port(app, call, p.name);
		if (!only)
			goto out;
	}
	for (struct net_port *port = app->ports; port; port = port->next) {
		if (!only || port == only)
			json_array_append_new(list, port_status(port));
	}
	answer = app_status(opaque);
	json_object_set_new(answer, "switch", vswitch_status(app->sw));
	json_object_set(answer, "ports", list);
	rpc_result(call, answer);
out:
	json_decref(list);
}

/* A row for a table of ports. */
static json_t *port_row(struct net_port *port)
{
	const char *kind = port->vn ? "vhost-user" : "uplink";
	struct sw_port_stats sum;
	uint64_t drops = 0;

	if (port->leaving)
		return json_pack("{s:s, s:s}", "name", port->name, "kind", "leaving");
	sw_port_stats_sum(net_port_sw(port), &sum);
	for (size_t i = 0; i < DROP_REASON_CNT; i++)
		drops += sum.drops[i];
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "name", port->name,
			 "kind", kind, "mode",
			 net_port_sw(port)->conf->vlan_mode == SW_VLAN_ACCESS ? "access" : "trunk",
			 "vlan", (int)net_port_sw(port)->conf->vlan, "in-frames",
			 (json_int_t)sum.in_frames, "in-bytes", (json_int_t)sum.in_bytes,
			 "out-frames", (json_int_t)sum.out_frames, "out-bytes",
			 (json_int_t)sum.out_bytes, "drops", (json_int_t)drops);
}

static void ports(void *opaque, struct rpc_call *call, json_t *params)
{
	json_t *list;

	if (!app_params(call, "ports", params, app_no_keys, NULL))
		return;
	list = json_array();
	for (struct net_port *port = net_app(opaque)->ports; port; port = port->next)
		json_array_append_new(list, port_row(port));
	rpc_result(call, json_pack("{s:o}", "ports", list));
}

/* The counters of one ring or receive queue, where it has any. */
static json_t *queue_counters(json_t *queue)
{
	static const char *const keys[] = { "index", "queue",  "role",		"loop", "frames",
					    "bytes", "bursts", "notifications", "kicks" };
	json_t *obj, *value;

	if (!json_integer_value(json_object_get(queue, "bursts")))
		return NULL;
	obj = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		value = json_object_get(queue, keys[i]);
		if (value)
			json_object_set(obj, keys[i], value);
	}
	return obj;
}

static json_t *port_counters(struct net_port *port)
{
	json_t *all, *queue, *copy, *queues = json_array(), *obj;
	size_t i;

	all = port_status(port);
	json_array_foreach(json_object_get(all, port->vn ? "rings" : "queues"), i, queue)
	{
		copy = queue_counters(queue);
		if (copy)
			json_array_append_new(queues, copy);
	}
	obj = json_pack("{s:s, s:O*, s:o}", "name", port->name, "counters",
			json_object_get(json_object_get(all, "switch"), "counters"), "queues",
			queues);
	json_decref(all);
	return obj;
}

/* What rates are made of, with the time it was read. */
static void counters(void *opaque, struct rpc_call *call, json_t *params)
{
	struct net_app *app = net_app(opaque);
	json_t *list, *answer;
	struct timespec ts;

	if (!app_params(call, "counters", params, app_no_keys, NULL))
		return;
	list = json_array();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	for (struct net_port *port = app->ports; port; port = port->next) {
		if (!port->leaving)
			json_array_append_new(list, port_counters(port));
	}
	answer = app_status(opaque);
	json_object_set_new(answer, "time-ns",
			    json_integer((json_int_t)ts.tv_sec * 1000000000 + ts.tv_nsec));
	json_object_set_new(answer, "ports", list);
	rpc_result(call, answer);
}

/* --- changing ------------------------------------------------------------------------ */

static void added(struct rpc_call *call, int res, const struct net_port *port, const char *err)
{
	if (res < 0) {
		log_limited(LOG_LEVEL_WARNING, "add: %s", err);
		rpc_fail(call, RPC_FAILED, "%s", err);
		return;
	}
	log_info("%s: added", port->name);
	rpc_result(call, json_pack("{s:s}", "name", port->name));
}

static void add(void *opaque, struct rpc_call *call, json_t *params)
{
	struct net_port *port = NULL;
	struct net_port_opts opts;
	struct vnet_conf conf;
	char err[RPC_MSG_LEN];
	int res;

	net_port_opts_init(&opts);
	if (json_object_get(params, "fd")) {
		rpc_fail(call, RPC_INVALID_PARAMS,
			 "add: fd: expected socket=, descriptors are for the command line");
		return;
	}
	if (!app_params(call, "add", params, net_port_keys, &opts))
		return;
	if (net_port_opts_conf("add", &opts, &conf, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
		return;
	}
	res = net_app_add_port(net_app(opaque), &conf, opts.sw.acl, &port, err);
	added(call, res, port, err);
}

static void add_uplink(void *opaque, struct rpc_call *call, json_t *params)
{
	struct net_port *port = NULL;
	struct net_uplink_opts opts;
	struct net_uplink_conf conf;
	char err[RPC_MSG_LEN];
	int res;

	net_uplink_opts_init(&opts);
	if (!app_params(call, "add-uplink", params, net_uplink_keys, &opts))
		return;
	if (net_uplink_opts_conf("add-uplink", &opts, &conf, err) < 0) {
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
	} else {
		res = net_app_add_uplink(net_app(opaque), &conf, &port, err);
		added(call, res, port, err);
	}
	free(conf.devices);
}

static const struct opt_desc name_keys[] = {
	{ PARAM("name", OPT_STRING, name), .required = true, .help = "the port meant" },
	{ NULL },
};

static void remove_port(void *opaque, struct rpc_call *call, json_t *params)
{
	struct params p = { NULL };
	struct net_port *port;

	if (!app_params(call, "remove", params, name_keys, &p))
		return;
	port = find_port(net_app(opaque), call, p.name);
	if (port)
		net_app_remove(port, call);
}

/* What set() was told, into conf. */
static int set_conf(const struct net_port *port, const struct net_switch_opts *opts,
		    struct sw_port_conf *conf, char *err)
{
	int res = net_switch_opts_conf("set", opts, conf, err);
	const uint8_t *mac = port->vn ? vnet_mac(port->vn) : NULL;

	if (!res && mac)
		net_anti_spoof_mac(conf, mac);
	return res;
}

/* {"name": ..., and any of net_switch_keys}: what is not named stays as it is. */
static void set(void *opaque, struct rpc_call *call, json_t *params)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	struct net_switch_opts opts;
	struct sw_port_conf conf;
	struct net_port *port;
	char err[RPC_MSG_LEN];
	json_t *keys;

	if (!name) {
		rpc_fail(call, RPC_INVALID_PARAMS, "set: name= is missing: the port meant");
		return;
	}
	port = find_port(net_app(opaque), call, name);
	if (!port)
		return;
	conf = *net_port_sw(port)->conf;
	net_switch_opts_from(&opts, &conf);
	keys = json_copy(params);
	json_object_del(keys, "name");
	/* Strings of opts point into params. */
	if (!app_params(call, "set", keys, net_switch_keys, &opts))
		goto out;
	if (set_conf(port, &opts, &conf, err) < 0)
		rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
	else if (sw_port_set(net_port_sw(port), &conf, err) < 0)
		rpc_fail(call, RPC_FAILED, "%s", err);
	else
		rpc_result(call, json_pack("{s:s, s:o}", "name", name, "switch",
					   sw_port_status(net_port_sw(port))));
out:
	json_decref(keys);
}

static void move(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ PARAM("name", OPT_STRING, name), .required = true, .help = "the port meant" },
		{ PARAM("loop", OPT_UINT, loop), .required = true, .max = CPU_LIST_MAX,
		  .help = "number of the loop" },
		{ PARAM("queue", OPT_UINT, queue), .max = VIRTIO_NET_PAIRS_MAX },
		{ NULL },
	};
	struct params p = { .queue = UINT64_MAX };
	struct net_app *app = net_app(opaque);
	struct net_port *port;
	int queue, res;

	if (!app_params(call, "move", params, keys, &p))
		return;
	port = find_port(app, call, p.name);
	if (!port)
		return;
	if (p.loop >= app->app.nr_loops) {
		rpc_fail(call, RPC_FAILED, "move: loop=%d: expected 0 to %u", (int)p.loop,
			 app->app.nr_loops - 1);
		return;
	}
	queue = p.queue == UINT64_MAX ? -1 : (int)p.queue;
	if (port->vn)
		res = vnet_move(port->vn, queue, (unsigned int)p.loop);
	else
		res = uplink_move(port->up, queue, (unsigned int)p.loop);
	if (res < 0)
		rpc_fail(call, RPC_FAILED, "%s: queue %d cannot be moved: %s", p.name, queue,
			 strerror(-res));
	else
		rpc_result(call, json_pack("{s:s, s:i}", "name", p.name, "loop", (int)p.loop));
}

static void link_state(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ PARAM("name", OPT_STRING, name), .required = true, .help = "the port meant" },
		{ PARAM("up", OPT_BOOL, up), .required = true, .help = "on or off" },
		{ NULL },
	};
	struct params p = { NULL };
	struct net_port *port;
	int res;

	if (!app_params(call, "link", params, keys, &p))
		return;
	port = find_port(net_app(opaque), call, p.name);
	if (!port)
		return;
	if (!port->vn) {
		rpc_fail(call, RPC_FAILED, "%s: the link of an uplink is what its device says",
			 p.name);
		return;
	}
	res = vnet_set_link(port->vn, p.up);
	if (res < 0)
		rpc_fail(call, RPC_FAILED, "%s: %s", p.name, strerror(-res));
	else
		rpc_result(call, json_pack("{s:s, s:b}", "name", p.name, "up", p.up));
}

/* --- the MAC table ------------------------------------------------------------------- */

static void macs(void *opaque, struct rpc_call *call, json_t *params)
{
	struct net_app *app = net_app(opaque);
	json_t *all, *entry, *list;
	struct params p = { NULL };
	const char *at;
	size_t i;

	if (!app_params(call, "macs", params, optional_name_keys, &p))
		return;
	if (p.name && !find_port(app, call, p.name))
		return;
	list = json_array();
	all = vswitch_mac_table(app->sw);
	json_array_foreach(all, i, entry)
	{
		at = json_string_value(json_object_get(entry, "port"));
		if (!p.name || (at && !strcmp(at, p.name)))
			json_array_append(list, entry);
	}
	json_decref(all);
	rpc_result(call, json_pack("{s:o}", "macs", list));
}

/* The address and VLAN of mac-add and mac-del; false: the call is answered. */
static bool mac_params(struct rpc_call *call, const char *method, json_t *params,
		       const struct opt_desc *keys, struct params *p, uint8_t mac[6])
{
	if (!app_params(call, method, params, keys, p))
		return false;
	if (!net_mac_parse(p->mac, mac))
		return true;
	rpc_fail(call, RPC_INVALID_PARAMS,
		 "%s: mac=%.100s: expected an address such as 52:54:00:12:34:56", method, p->mac);
	return false;
}

#define MAC_ROWS                                                                                   \
	{ PARAM("mac", OPT_STRING, mac), .required = true, .help = "the address" },                \
	{                                                                                          \
		PARAM("vlan", OPT_UINT, vlan), .min = 1, .max = FRAME_VLAN_MAX, .required = true,  \
					       .help = "the VLAN it is in"                         \
	}

static void mac_add(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		MAC_ROWS,
		{ PARAM("name", OPT_STRING, name), .required = true, .help = "where it is" },
		{ NULL },
	};
	struct net_app *app = net_app(opaque);
	struct params p = { NULL };
	struct net_port *port;
	uint8_t mac[6];
	int res;

	if (!mac_params(call, "mac-add", params, keys, &p, mac))
		return;
	port = find_port(app, call, p.name);
	if (!port)
		return;
	res = vswitch_mac_add(app->sw, mac, (uint16_t)p.vlan, net_port_sw(port));
	if (res == -EINVAL)
		rpc_fail(call, RPC_FAILED,
			 "mac-add: expected a unicast address in a VLAN that %s carries", p.name);
	else if (res < 0)
		rpc_fail(call, RPC_FAILED, "mac-add: %s",
			 res == -ENOSPC ? "the table is full" : strerror(-res));
	else
		rpc_result(call, json_pack("{s:s, s:i, s:s}", "mac", p.mac, "vlan", (int)p.vlan,
					   "name", p.name));
}

static void mac_del(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = { MAC_ROWS, { NULL } };
	struct params p = { NULL };
	uint8_t mac[6];

	if (!mac_params(call, "mac-del", params, keys, &p, mac))
		return;
	if (vswitch_mac_del(net_app(opaque)->sw, mac, (uint16_t)p.vlan) < 0)
		rpc_fail(call, RPC_FAILED, "mac-del: %s is not in the table of VLAN %d", p.mac,
			 (int)p.vlan);
	else
		rpc_result(call, json_pack("{s:s, s:i}", "mac", p.mac, "vlan", (int)p.vlan));
}

static void mac_flush(void *opaque, struct rpc_call *call, json_t *params)
{
	struct net_app *app = net_app(opaque);
	struct params p = { NULL };
	struct net_port *port = NULL;

	if (!app_params(call, "mac-flush", params, optional_name_keys, &p))
		return;
	if (p.name) {
		port = find_port(app, call, p.name);
		if (!port)
			return;
	}
	vswitch_mac_flush(app->sw, port ? net_port_sw(port) : NULL);
	rpc_result(call, json_object());
}

/* --- access lists --------------------------------------------------------------------- */

static json_t *acl_list(const struct sw_acl *acl)
{
	return acl ? sw_acl_status(acl) : json_array();
}

/* {"name": ..., "rules": [...]} sets them, without "rules" they are told. */
static void acl(void *opaque, struct rpc_call *call, json_t *params)
{
	json_t *keys = json_copy(params), *rules = json_object_get(params, "rules");
	const struct sw_port_conf *conf;
	struct params p = { NULL };
	struct net_port *port;
	char err[SW_ERR_LEN];

	json_object_del(keys, "rules");
	if (!app_params(call, "acl", keys, name_keys, &p))
		goto out;
	port = find_port(net_app(opaque), call, p.name);
	if (!port)
		goto out;
	if (rules && !json_is_array(rules)) {
		rpc_fail(call, RPC_INVALID_PARAMS, "acl: rules: expected a list");
		goto out;
	}
	if (rules && net_app_set_acl(port, rules, err) < 0) {
		rpc_fail(call, RPC_FAILED, "%s: %s", p.name, err);
		goto out;
	}
	conf = net_port_sw(port)->conf;
	rpc_result(call, json_pack("{s:s, s:o, s:o}", "name", p.name, "in", acl_list(conf->acl_in),
				   "out", acl_list(conf->acl_out)));
out:
	json_decref(keys);
}

/* --- capture -------------------------------------------------------------------------- */

/* All that can be refused was: the connection becomes the file. */
static void begin_capture(struct rpc_call *call, struct net_port *port, const struct params *p)
{
	struct capture_conf conf = {
		.filter = p->filter,
		.snaplen = (uint32_t)p->snaplen,
		.frames_max = p->count,
	};
	char err[SW_ERR_LEN];
	char *head;
	int res;

	res = rpc_take_connection(call,
				  json_pack("{s:s, s:s}", "name", port->name, "format", "pcapng"),
				  &conf.fd, &head);
	if (res < 0) {
		rpc_fail(call, RPC_FAILED, "capture: expected a connection for this call alone");
		return;
	}
	conf.head = head;
	if (net_app_capture(port, &conf, err) < 0) {
		log_warn("%s", err);
		close(conf.fd);
	}
	free(head);
}

/* The answer's line is followed by the file, to the end of the connection. */
static void capture(void *opaque, struct rpc_call *call, json_t *params)
{
	static const struct opt_desc keys[] = {
		{ PARAM("name", OPT_STRING, name), .required = true, .help = "the port meant" },
		{ PARAM("filter", OPT_STRING, filter) },
		{ PARAM("snaplen", OPT_UINT, snaplen), .min = 1, .max = FRAME_LEN_MAX },
		{ PARAM("count", OPT_UINT, count), .min = 1 },
		{ NULL },
	};
	struct params p = { NULL };
	struct net_port *port;
	char err[SW_ERR_LEN];

	if (!app_params(call, "capture", params, keys, &p))
		return;
	port = find_port(net_app(opaque), call, p.name);
	if (!port)
		return;
	if (p.filter && capture_check_filter(p.filter, err) < 0)
		rpc_fail(call, RPC_INVALID_PARAMS, "capture: %s", err);
	else if (net_port_sw(port)->capture)
		rpc_fail(call, RPC_FAILED, "%s: somebody else is capturing", p.name);
	else
		begin_capture(call, port, &p);
}

const struct rpc_method net_rpc_methods[] = {
	{ "version", app_rpc_version },
	{ "status", status },
	{ "ports", ports },
	{ "counters", counters },
	{ "add", add },
	{ "add-uplink", add_uplink },
	{ "remove", remove_port },
	{ "set", set },
	{ "move", move },
	{ "link", link_state },
	{ "macs", macs },
	{ "mac-add", mac_add },
	{ "mac-del", mac_del },
	{ "mac-flush", mac_flush },
	{ "acl", acl },
	{ "capture", capture },
	{ NULL },
};
