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
#include "virtio-net/acl.h"
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

/* A capture, from its start until its end; its port may go before. */
struct net_capture {
	struct net_app *app;
	struct net_capture *next;
	struct net_port *port; /* NULL: it has gone */
	struct capture *capture;
};

struct net_app {
	struct app app;
	struct net_options *opts;
	struct vswitch *sw;
	struct net_port *ports; /* in order of creation */
	struct net_capture *captures;
	unsigned int nr_undone; /* ports that could not be had, on their way out */
};

/* 0 and *port, or -errno and one sentence in err (SW_ERR_LEN). A name is chosen
 * for what has none; conf->name and what depends on the process are filled in. acl:
 * path of its access rules, or NULL. What an uplink names as VFs must be claimed. */
int net_app_add_port(struct net_app *app, struct vnet_conf *conf, const char *acl,
		     struct net_port **port, char *err);
int net_app_add_uplink(struct net_app *app, struct net_uplink_conf *uplink, struct net_port **port,
		       char *err);
/* Other access rules for a port, NULL none. 0, or -errno and one sentence. */
int net_app_set_acl(struct net_port *port, const json_t *rules, char *err);
/* NULL if there is none. */
struct net_port *net_app_find(struct net_app *app, const char *name);
struct sw_port *net_port_sw(const struct net_port *port);
/* Disconnect and close it; call may be NULL, else it is answered when all is
 * done. */
void net_app_remove(struct net_port *port, struct rpc_call *call);
/* Remove all; app_end() when nothing is left. */
void net_app_remove_all(struct net_app *app);
/* Capture a port: port, ev and ended of conf are filled in. As capture_start(). */
int net_app_capture(struct net_port *port, struct capture_conf *conf, char *err);

/* The methods of the control socket; opaque is the struct app. */
extern const struct rpc_method net_rpc_methods[];

#endif
