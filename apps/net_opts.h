/*
 * The command line of ringbolt-net, and the keys of ports and uplinks, which the
 * control socket's methods take as well.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_NET_OPTS_H
#define RINGBOLT_APPS_NET_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "apps/app_opts.h"
#include "core/opts.h"
#include "virtio-net/eal.h"
#include "virtio-net/uplink.h"
#include "virtio-net/vnet.h"

/* The value of a number that was not given and has no default. */
#define NET_NOT_GIVEN UINT64_MAX

/*
 * What the switch is told about a port, by the keys of --port, --uplink and set.
 * Strings belong to whoever holds the text; NULL: not given.
 */
struct net_switch_opts {
	uint64_t vlan, native; /* NET_NOT_GIVEN */
	const char *trunk, *allowed_macs, *static_macs, *mirror;
	const char *acl; /* path of a file with rules; not a key of set */
	bool enabled, isolated, loopback, learning, flooding, anti_spoof;
	/* A burst may be NET_NOT_GIVEN. */
	struct sw_limit in_bytes, in_frames, out_bytes, out_frames;
	struct sw_limit broadcast, multicast, unknown;
};

struct net_port_opts {
	struct net_switch_opts sw;
	const char *name, *socket, *mac;
	uint64_t fd, queues, queue_size, features, mtu, speed, tx_usecs;
	int mode; /* index of server, client */
	bool packed, ctrl_vq, rss, iommu;
};

struct net_uplink_opts {
	struct net_switch_opts sw;
	const char *name;
	const char *dev; /* "a;x=1+b;x=2": devices of one uplink */
	const char *vf; /* or "0000:3b:10.0+eth0/1": claimed VFs, by this owner if not NULL */
	const char *owner;
	uint64_t queues, mtu;
	int team, offloads, link; /* indexes of words; team below 0: none was named */
};

struct net_port_conf {
	struct vnet_conf conf;
	const char *acl; /* path or NULL */
};

struct net_uplink_conf {
	struct uplink_conf conf;
	const char *acl; /* path or NULL */
	char *devices; /* malloc'd or NULL: what conf.dev points to */
	bool is_vf; /* conf.dev names claimed VFs, as for ringbolt-vf */
	const char *owner; /* of the claims, or NULL: anybody */
};

/* The keys, each table ended by a NULL key. "fd" is for the command line only. */
extern const struct opt_desc net_port_keys[];
extern const struct opt_desc net_uplink_keys[];
/* What can be changed while it runs: into a struct net_switch_opts. */
extern const struct opt_desc net_switch_keys[];

void net_port_opts_init(struct net_port_opts *port);
void net_uplink_opts_init(struct net_uplink_opts *up);
/* What a port is now, where it can be said in numbers. */
void net_switch_opts_from(struct net_switch_opts *sw, const struct sw_port_conf *conf);

/*
 * What no single key can tell, and into the structures that are to be created or
 * published. 0, or -EINVAL (-ENOMEM) and a sentence that begins with option in err
 * (OPTS_ERR_LEN). Strings of conf point into opts; the caller frees
 * uplink->devices in any case.
 */
int net_switch_opts_conf(const char *option, const struct net_switch_opts *sw,
			 struct sw_port_conf *conf, char *err);
/* anti-spoof without allowed-macs: the address that the driver was told is the one
 * that it may send from. */
void net_anti_spoof_mac(struct sw_port_conf *conf, const uint8_t mac[6]);
int net_port_opts_conf(const char *option, const struct net_port_opts *port, struct vnet_conf *conf,
		       char *err);
int net_uplink_opts_conf(const char *option, const struct net_uplink_opts *up,
			 struct net_uplink_conf *uplink, char *err);

/* "52:54:00:12:34:56". 0 or -EINVAL. */
int net_mac_parse(const char *text, uint8_t mac[6]);

struct net_options {
	struct net_port_conf *ports; /* malloc'd */
	unsigned int nr_ports;
	struct net_uplink_conf *uplinks; /* malloc'd */
	unsigned int nr_uplinks;
	uint64_t mac_table, ageing; /* entries, seconds; 0: the default */
	bool forward_reserved;
	struct eal_conf eal;
	struct app_options process;
};

/* As app_options_parse(); argv must live as long as opts. */
int net_options_parse(int argc, char **argv, struct net_options *opts);
void net_options_free(struct net_options *opts);

#endif
