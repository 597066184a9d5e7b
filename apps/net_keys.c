/*
 * Keys of ports and uplinks, and what they mean. Called by the command line's
 * parser (net_opts.c) and by the control socket's methods (net_rpc.c), so that
 * both speak of the same keys in the same words. Opens and creates nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "apps/net_opts.h"
#include "core/base.h"

#define QUEUE_SIZE_MAX 32768 /* VIRTIO 1.3, "Virtqueues" */
/* VIRTIO 1.3, "Device configuration layout": at least 68. */
#define MTU_MIN 68
#define MTU_MAX 65535
#define RATE_MAX 1000000000000ull

static const char *const mode_names[] = { "server", "client", NULL };
static const enum vu_listen_mode modes[] = { VU_LISTEN, VU_CONNECT };
static_assert(ARRAY_SIZE(mode_names) == ARRAY_SIZE(modes) + 1, "a word per mode");

static const char *const link_names[] = { "auto", "up", NULL };

/* "none" first: one device by itself. Not named at all: what there are devices for. */
#define TEAM_NONE 0
#define TEAM_NOT_NAMED (-1)
static const char *const team_names[] = { "none", "active-backup", "balance-xor", "802.3ad", NULL };

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): names of types and fields */
#define KEY(S, name, field) .key = (name), .offset = offsetof(struct S, field)

/* Rows for everything that the switch is told; at: where in struct S the
 * net_switch_opts begin, with a dot behind it if they are a member. */
#define LIMIT_ROWS(S, at, name, field, kind, what)                                              \
	{ KEY(S, name, at field.rate), .type = kind, .max = RATE_MAX,                           \
	  .help = what " a second, 0 any number" },                                                \
	{ KEY(S, name "-burst", at field.burst), .type = kind, .max = RATE_MAX,                 \
	  .help = what " at once beyond that" }

#define SWITCH_ROWS(S, at)                                                                      \
	{ KEY(S, "vlan", at vlan), .type = OPT_UINT, .min = 1, .max = FRAME_VLAN_MAX,           \
	  .help = "access port of this VLAN" },                                                    \
	{ KEY(S, "trunk", at trunk), .type = OPT_STRING,                                        \
	  .help = "VLANs carried with tags: all, or as in 10:20-29" },                             \
	{ KEY(S, "native", at native), .type = OPT_UINT, .max = FRAME_VLAN_MAX,                 \
	  .help = "VLAN of a trunk's untagged frames, 0 none" },                                   \
	{ KEY(S, "enabled", at enabled), .type = OPT_BOOL, .help = "administratively up" },     \
	{ KEY(S, "isolated", at isolated), .type = OPT_BOOL,                                    \
	  .help = "cut off from other isolated ports" },                                           \
	{ KEY(S, "loopback", at loopback), .type = OPT_BOOL,                                    \
	  .help = "send frames back to where they came from" },                                    \
	{ KEY(S, "learning", at learning), .type = OPT_BOOL,                                    \
	  .help = "learn MAC addresses from it" },                                                 \
	{ KEY(S, "flooding", at flooding), .type = OPT_BOOL,                                    \
	  .help = "send it frames for unknown addresses" },                                        \
	{ KEY(S, "anti-spoof", at anti_spoof), .type = OPT_BOOL,                                \
	  .help = "only allowed-macs may send" },                                                  \
	{ KEY(S, "allowed-macs", at allowed_macs), .type = OPT_STRING,                          \
	  .help = "MAC addresses, separated by +, or none" },                                      \
	{ KEY(S, "static-macs", at static_macs), .type = OPT_STRING,                            \
	  .help = "MAC addresses that are at this port, as MAC or MAC@VLAN" },                     \
	{ KEY(S, "mirror", at mirror), .type = OPT_STRING,                                      \
	  .help = "copy all of its frames to that port, or none" },                                \
	LIMIT_ROWS(S, at, "limit-in", in_bytes, OPT_SIZE, "bytes taken from it"),               \
	LIMIT_ROWS(S, at, "limit-in-frames", in_frames, OPT_UINT, "frames taken from it"),      \
	LIMIT_ROWS(S, at, "limit-out", out_bytes, OPT_SIZE, "bytes given to it"),               \
	LIMIT_ROWS(S, at, "limit-out-frames", out_frames, OPT_UINT, "frames given to it"),      \
	LIMIT_ROWS(S, at, "storm-broadcast", broadcast, OPT_UINT, "broadcast frames from it"),  \
	LIMIT_ROWS(S, at, "storm-multicast", multicast, OPT_UINT, "multicast frames from it"),  \
	LIMIT_ROWS(S, at, "storm-unknown", unknown, OPT_UINT,                                   \
		   "frames from it for unknown addresses")
/* NOLINTEND(bugprone-macro-parentheses) */

const struct opt_desc net_switch_keys[] = {
	SWITCH_ROWS(net_switch_opts, ),
	{ NULL },
};

const struct opt_desc net_port_keys[] = {
	{ KEY(net_port_opts, "name", name), .type = OPT_STRING, .help = "name in messages and status" },
	{ KEY(net_port_opts, "socket", socket), .type = OPT_STRING,
	  .help = "path of the vhost-user socket" },
	{ KEY(net_port_opts, "mode", mode), .type = OPT_ENUM, .names = mode_names,
	  .help = "listen at socket, or connect to it" },
	{ KEY(net_port_opts, "fd", fd), .type = OPT_UINT, .max = INT_MAX,
	  .help = "inherited socket instead of a path" },
	{ KEY(net_port_opts, "queues", queues), .type = OPT_UINT, .min = 1,
	  .max = VIRTIO_NET_PAIRS_MAX, .help = "pairs of queues" },
	{ KEY(net_port_opts, "queue-size", queue_size), .type = OPT_UINT, .min = 1,
	  .max = QUEUE_SIZE_MAX, .help = "largest ring the driver may use" },
	{ KEY(net_port_opts, "mac", mac), .type = OPT_STRING, .help = "address told to the driver" },
	{ KEY(net_port_opts, "mtu", mtu), .type = OPT_UINT, .min = MTU_MIN, .max = MTU_MAX,
	  .help = "told to the driver, and enforced" },
	{ KEY(net_port_opts, "speed", speed), .type = OPT_UINT, .min = 1, .max = INT_MAX,
	  .help = "Mbit/s told to the driver" },
	{ KEY(net_port_opts, "tx-usecs", tx_usecs), .type = OPT_UINT, .max = VNET_TX_USECS_MAX,
	  .help = "microseconds until the driver hears that a frame was sent" },
	{ KEY(net_port_opts, "packed", packed), .type = OPT_BOOL, .help = "offer packed rings" },
	{ KEY(net_port_opts, "iommu", iommu), .type = OPT_BOOL,
	  .help = "serve a guest behind a virtual IOMMU" },
	{ KEY(net_port_opts, "ctrl-vq", ctrl_vq), .type = OPT_BOOL, .help = "offer the control queue" },
	{ KEY(net_port_opts, "rss", rss), .type = OPT_BOOL,
	  .help = "offer receive-side scaling and hash reports" },
	{ KEY(net_port_opts, "features", features), .type = OPT_UINT,
	  .help = "mask of the feature bits that may be offered" },
	{ KEY(net_port_opts, "acl", sw.acl), .type = OPT_STRING, .help = "file of access rules" },
	SWITCH_ROWS(net_port_opts, sw.),
	{ NULL },
};

const struct opt_desc net_uplink_keys[] = {
	{ KEY(net_uplink_opts, "name", name), .type = OPT_STRING, .help = "name in messages and status" },
	{ KEY(net_uplink_opts, "dev", dev), .type = OPT_STRING,
	  .help = "DPDK device, as net_tap0;iface=tap0; several joined by + are a team" },
	{ KEY(net_uplink_opts, "vf", vf), .type = OPT_STRING,
	  .help = "instead: VF that ringbolt-vf has claimed; several as of dev" },
	{ KEY(net_uplink_opts, "owner", owner), .type = OPT_STRING,
	  .help = "whose claim on the VF it must be" },
	{ KEY(net_uplink_opts, "team", team), .type = OPT_ENUM, .names = team_names,
	  .help = "how the devices of a team work together" },
	{ KEY(net_uplink_opts, "queues", queues), .type = OPT_UINT, .min = 1, .max = 64,
	  .help = "receive queues" },
	{ KEY(net_uplink_opts, "mtu", mtu), .type = OPT_UINT, .min = MTU_MIN, .max = MTU_MAX,
	  .help = "set on the device" },
	{ KEY(net_uplink_opts, "offloads", offloads), .type = OPT_ENUM,
	  .names = uplink_offloads_names, .help = "checksums and segmentation by the device" },
	{ KEY(net_uplink_opts, "link", link), .type = OPT_ENUM, .names = link_names,
	  .help = "believe the device, or take it for up" },
	{ KEY(net_uplink_opts, "acl", sw.acl), .type = OPT_STRING, .help = "file of access rules" },
	SWITCH_ROWS(net_uplink_opts, sw.),
	{ NULL },
};
/* clang-format on */

static const struct net_switch_opts switch_defaults = {
	.vlan = NET_NOT_GIVEN,
	.native = NET_NOT_GIVEN,
	.enabled = true,
	.learning = true,
	.flooding = true,
};

void net_port_opts_init(struct net_port_opts *port)
{
	struct vnet_conf conf;

	vnet_conf_init(&conf);
	*port = (struct net_port_opts){
		.sw = switch_defaults,
		.fd = APP_NO_FD,
		.queues = conf.pairs,
		.features = conf.feature_mask,
		.tx_usecs = conf.tx_usecs,
		.packed = conf.packed,
		.iommu = conf.iommu,
		.ctrl_vq = conf.ctrl_vq,
		.rss = conf.rss,
	};
}

void net_uplink_opts_init(struct net_uplink_opts *up)
{
	*up = (struct net_uplink_opts){ .sw = switch_defaults, .team = TEAM_NOT_NAMED };
}

static struct sw_limit rate_of(const struct sw_limit *limit)
{
	return (struct sw_limit){ .rate = limit->rate, .burst = NET_NOT_GIVEN };
}

void net_switch_opts_from(struct net_switch_opts *sw, const struct sw_port_conf *conf)
{
	*sw = (struct net_switch_opts){
		.vlan = NET_NOT_GIVEN,
		.native = NET_NOT_GIVEN,
		.enabled = conf->enabled,
		.isolated = conf->isolated,
		.loopback = conf->loopback,
		.learning = conf->learning,
		.flooding = conf->flooding,
		.anti_spoof = conf->anti_spoof,
		.in_bytes = rate_of(&conf->in_bytes),
		.in_frames = rate_of(&conf->in_frames),
		.out_bytes = rate_of(&conf->out_bytes),
		.out_frames = rate_of(&conf->out_frames),
		.broadcast = rate_of(&conf->broadcast),
		.multicast = rate_of(&conf->multicast),
		.unknown = rate_of(&conf->unknown),
	};
}

/* --- values that are more than a number --------------------------------------------- */

int net_mac_parse(const char *text, uint8_t mac[6])
{
	unsigned int byte[6];
	int end = 0;

	if (strspn(text, "0123456789abcdefABCDEF:") != strlen(text) ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3],
		   &byte[4], &byte[5], &end) != 6 ||
	    text[end])
		return -EINVAL;
	for (size_t i = 0; i < 6; i++)
		mac[i] = (uint8_t)byte[i];
	return 0;
}

/* "a+b" or "none" into conf->macs. */
static int parse_macs(const char *option, const char *text, struct sw_port_conf *conf, char *err)
{
	char one[18];
	size_t len;

	conf->nr_macs = 0;
	if (!strcmp(text, "none"))
		return 0;
	for (const char *at = text;; at += len + 1) {
		len = strcspn(at, "+");
		snprintf(one, sizeof(one), "%.*s", (int)min_u64(len, sizeof(one) - 1), at);
		if (len >= sizeof(one) || conf->nr_macs == ARRAY_SIZE(conf->macs) ||
		    net_mac_parse(one, conf->macs[conf->nr_macs]) < 0)
			return app_refuse(err, option, "allowed-macs", text,
					  "none or up to 16 addresses such as 52:54:00:12:34:56, "
					  "separated by +");
		conf->nr_macs++;
		if (!at[len])
			return 0;
	}
}

/* "aa:...:ff" or "aa:...:ff@vlan". */
static int parse_static(const char *text, size_t len, struct sw_static_mac *s)
{
	size_t mac_len = strcspn(text, "@+");
	char one[18];
	int vid = 0, end = 0;

	snprintf(one, sizeof(one), "%.*s", (int)min_u64(mac_len, sizeof(one) - 1), text);
	if (mac_len >= sizeof(one) || net_mac_parse(one, s->mac) < 0)
		return -EINVAL;
	s->vid = 0;
	if (mac_len == len)
		return 0;
	if (strspn(text + mac_len + 1, "0123456789") != len - mac_len - 1 ||
	    sscanf(text + mac_len, "@%4d%n", &vid, &end) != 1 || mac_len + (size_t)end != len ||
	    !vid || vid > FRAME_VLAN_MAX)
		return -EINVAL;
	s->vid = (uint16_t)vid;
	return 0;
}

static int parse_statics(const char *option, const char *text, struct sw_port_conf *conf, char *err)
{
	size_t len;

	conf->nr_statics = 0;
	if (!strcmp(text, "none"))
		return 0;
	for (const char *at = text;; at += len + 1) {
		len = strcspn(at, "+");
		if (conf->nr_statics == ARRAY_SIZE(conf->statics) ||
		    parse_static(at, len, &conf->statics[conf->nr_statics]) < 0)
			return app_refuse(err, option, "static-macs", text,
					  "none or up to 16 addresses such as 52:54:00:12:34:56 "
					  "or 52:54:00:12:34:56@10, separated by +");
		conf->nr_statics++;
		if (!at[len])
			return 0;
	}
}

static int parse_vlans(const char *option, const struct net_switch_opts *sw,
		       struct sw_port_conf *conf, char *err)
{
	char why[SW_ERR_LEN];

	if (sw->vlan != NET_NOT_GIVEN && (sw->trunk || sw->native != NET_NOT_GIVEN)) {
		snprintf(err, OPTS_ERR_LEN,
			 "%s: vlan=%d: expected either vlan= or trunk= and native=, not both",
			 option, (int)sw->vlan);
		return -EINVAL;
	}
	if (sw->vlan != NET_NOT_GIVEN) {
		conf->vlan_mode = SW_VLAN_ACCESS;
		conf->vlan = (uint16_t)sw->vlan;
	}
	if ((sw->trunk || sw->native != NET_NOT_GIVEN) && conf->vlan_mode == SW_VLAN_ACCESS) {
		conf->vlan_mode = SW_VLAN_TRUNK;
		conf->vlan = 1;
	}
	if (sw->native != NET_NOT_GIVEN)
		conf->vlan = (uint16_t)sw->native;
	if (sw->trunk && sw_vlans_parse(sw->trunk, conf->trunk, why) < 0)
		return app_refuse(err, option, "trunk", sw->trunk,
				  "all, or VLANs from 1 to 4094 as in 10:20-29");
	return 0;
}

/* A burst that was not named stays, unless its limit is taken away. */
static void set_limit(struct sw_limit *limit, const struct sw_limit *given)
{
	limit->rate = given->rate;
	if (given->burst != NET_NOT_GIVEN)
		limit->burst = given->burst;
	else if (!given->rate)
		limit->burst = 0;
}

int net_switch_opts_conf(const char *option, const struct net_switch_opts *sw,
			 struct sw_port_conf *conf, char *err)
{
	int res = parse_vlans(option, sw, conf, err);

	if (!res && sw->allowed_macs)
		res = parse_macs(option, sw->allowed_macs, conf, err);
	if (!res && sw->static_macs)
		res = parse_statics(option, sw->static_macs, conf, err);
	if (res < 0)
		return res;
	if (sw->mirror && strlen(sw->mirror) >= sizeof(conf->mirror))
		return app_refuse(err, option, "mirror", sw->mirror, "at most 63 bytes");
	if (sw->mirror)
		snprintf(conf->mirror, sizeof(conf->mirror), "%s",
			 strcmp(sw->mirror, "none") ? sw->mirror : "");
	conf->enabled = sw->enabled;
	conf->isolated = sw->isolated;
	conf->loopback = sw->loopback;
	conf->learning = sw->learning;
	conf->flooding = sw->flooding;
	conf->anti_spoof = sw->anti_spoof;
	set_limit(&conf->in_bytes, &sw->in_bytes);
	set_limit(&conf->in_frames, &sw->in_frames);
	set_limit(&conf->out_bytes, &sw->out_bytes);
	set_limit(&conf->out_frames, &sw->out_frames);
	set_limit(&conf->broadcast, &sw->broadcast);
	set_limit(&conf->multicast, &sw->multicast);
	set_limit(&conf->unknown, &sw->unknown);
	return 0;
}

void net_anti_spoof_mac(struct sw_port_conf *conf, const uint8_t mac[6])
{
	if (!conf->anti_spoof || conf->nr_macs)
		return;
	memcpy(conf->macs[0], mac, sizeof(conf->macs[0]));
	conf->nr_macs = 1;
}

/* --- ports ------------------------------------------------------------------------------ */

static int check_name(const char *option, const char *name, char *err)
{
	if (!name || strlen(name) < SW_NAME_MAX)
		return 0;
	return app_refuse(err, option, "name", name, "at most 63 bytes");
}

static int parse_mac(const char *option, const struct net_port_opts *port, struct vnet_conf *conf,
		     char *err)
{
	if (!port->mac)
		return 0;
	if (net_mac_parse(port->mac, conf->mac) < 0 || conf->mac[0] & 1)
		return app_refuse(err, option, "mac", port->mac,
				  "a unicast address such as 52:54:00:12:34:56");
	conf->has_mac = true;
	net_anti_spoof_mac(&conf->port, conf->mac);
	return 0;
}

int net_port_opts_conf(const char *option, const struct net_port_opts *port, struct vnet_conf *conf,
		       char *err)
{
	int res;

	static_assert(SW_NAME_MAX == VU_NAME_MAX, "a name fits both");
	if (!port->socket == (port->fd == APP_NO_FD)) {
		snprintf(err, OPTS_ERR_LEN, "%s: expected %s", option,
			 port->socket ? "either socket= or fd=, not both"
				      : "socket=PATH, where the front-end connects");
		return -EINVAL;
	}
	if (modes[port->mode] == VU_CONNECT && !port->socket)
		return app_refuse(err, option, "mode", "client", "a socket= to connect to");
	vnet_conf_init(conf);
	conf->name = port->name;
	conf->socket = port->socket;
	conf->mode = modes[port->mode];
	conf->fd = port->fd == APP_NO_FD ? -1 : (int)port->fd;
	conf->pairs = (unsigned int)port->queues;
	conf->queue_size_max = (unsigned int)port->queue_size;
	conf->packed = port->packed;
	conf->iommu = port->iommu;
	conf->ctrl_vq = port->ctrl_vq;
	conf->rss = port->rss;
	conf->feature_mask = port->features;
	conf->mtu = (uint16_t)port->mtu;
	conf->tx_usecs = (uint32_t)port->tx_usecs;
	if (port->speed)
		conf->speed = (uint32_t)port->speed;
	res = check_name(option, port->name, err);
	if (!res)
		res = net_switch_opts_conf(option, &port->sw, &conf->port, err);
	if (!res)
		res = parse_mac(option, port, conf, err);
	return res;
}

/* --- uplinks ---------------------------------------------------------------------------- */

/* Cut the next device off *text, at a + that is not doubled, and write its
 * arguments as DPDK wants them: with commas. */
static char *next_device(char **text)
{
	char *item = *text, *to = item;

	*text = NULL;
	for (const char *from = item; *from; from++) {
		if (*from == '+' && from[1] != '+') {
			*text = (char *)from + 1;
			break;
		}
		if (*from == '+')
			from++;
		*to++ = (char)(*from == ';' ? ',' : *from);
	}
	*to = '\0';
	return item;
}

static int parse_devices(const char *option, const char *key, char *text, struct uplink_conf *conf,
			 char *err)
{
	char *device;

	while (text) {
		device = next_device(&text);
		if (!*device || conf->nr_dev == UPLINK_DEVICES_MAX) {
			snprintf(err, OPTS_ERR_LEN,
				 "%s: %s=: expected 1 to %d devices, joined by +", option, key,
				 UPLINK_DEVICES_MAX);
			return -EINVAL;
		}
		conf->dev[conf->nr_dev++] = device;
	}
	return 0;
}

static int check_devices(const char *option, const struct net_uplink_opts *up, char *err)
{
	const char *wrong = NULL;

	if (!up->dev == !up->vf)
		wrong = "expected dev= or vf=, and not both";
	else if (up->owner && !up->vf)
		wrong = "owner=: expected with vf= only";
	if (!wrong)
		return 0;
	snprintf(err, OPTS_ERR_LEN, "%s: %s", option, wrong);
	return -EINVAL;
}

int net_uplink_opts_conf(const char *option, const struct net_uplink_opts *up,
			 struct net_uplink_conf *uplink, char *err)
{
	struct uplink_conf *conf = &uplink->conf;
	int res = check_name(option, up->name, err);

	*uplink =
		(struct net_uplink_conf){ .acl = up->sw.acl, .owner = up->owner, .is_vf = up->vf };
	*conf = (struct uplink_conf){
		.name = up->name,
		.team_mode = up->team > TEAM_NONE ? team_names[up->team] : NULL,
		.queues = (unsigned int)up->queues,
		.mtu = (uint16_t)up->mtu,
		.offloads = (enum uplink_offloads)up->offloads,
		.link_forced = up->link,
	};
	sw_port_conf_init(&conf->port);
	if (!res)
		res = check_devices(option, up, err);
	if (res < 0)
		return res;
	uplink->devices = strdup(up->vf ? up->vf : up->dev);
	if (!uplink->devices) {
		snprintf(err, OPTS_ERR_LEN, "%s: out of memory", option);
		return -ENOMEM;
	}
	res = parse_devices(option, up->vf ? "vf" : "dev", uplink->devices, conf, err);
	if (!res && up->team == TEAM_NONE && conf->nr_dev > 1)
		res = app_refuse(err, option, "team", "none", "a single device, or another word");
	if (!res)
		res = net_switch_opts_conf(option, &up->sw, &conf->port, err);
	return res;
}
