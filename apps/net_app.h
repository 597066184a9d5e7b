/*
 * The running ringbolt-net: its switch, ports and uplinks. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_NET_APP_H
#define RINGBOLT_APPS_NET_APP_H

#include <stdbool.h>

#include "apps/app.h"
#include "apps/net_opts.h"
#include "virtio-net/capture.h"

struct net_app;

/* A port or uplink, from creation until all of it is closed. */
struct net_port {
	struct net_app *app;
	struct net_port *next;
	char name[SW_NAME_MAX];
	struct vnet *vn; /* one of the two */
	struct uplink *up;
	bool leaving; /* its end has begun: it must not be used */
	struct rpc_call *remove_call; /* to be answered when it has gone, or NULL */
};

struct net_app {
	struct app app;
	struct net_options *opts;
	struct vswitch *sw;
	struct net_port *ports; /* in order of creation */
};

/* 0 and *port, or -errno and one sentence in err (SW_ERR_LEN). A name is chosen
 * for what has none; conf->name and what depends on the process are filled in. */
int net_app_add_port(struct net_app *app, struct vnet_conf *conf, struct net_port **port,
		     char *err);
int net_app_add_uplink(struct net_app *app, struct uplink_conf *conf, struct net_port **port,
		       char *err);
/* NULL if there is none. */
struct net_port *net_app_find(struct net_app *app, const char *name);
struct sw_port *net_port_sw(const struct net_port *port);
/* Disconnect and close it; call may be NULL, else it is answered when all is
 * done. */
void net_app_remove(struct net_port *port, struct rpc_call *call);

/* The methods of the control socket; opaque is the struct app. */
extern const struct rpc_method net_rpc_methods[];

#endif
