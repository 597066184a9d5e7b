/*
 * The ports and uplinks of a running ringbolt-net: add, find, remove. Called by
 * main() at start and end, and by the control socket's methods in between.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/net_app.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

struct net_port *net_app_find(struct net_app *app, const char *name)
{
	struct net_port *port = app->ports;

	while (port && strcmp(port->name, name) != 0)
		port = port->next;
	return port;
}

struct sw_port *net_port_sw(const struct net_port *port)
{
	return port->vn ? vnet_port(port->vn) : uplink_port(port->up);
}

/* A name for what has none: the first of that kind that is free. */
static void choose_name(struct net_app *app, const char *kind, char *name)
{
	unsigned int i = 0;

	do {
		snprintf(name, SW_NAME_MAX, "%s%u", kind, i++);
	} while (net_app_find(app, name));
}

static struct net_port *new_port(struct net_app *app, const char *name, const char *kind, char *err)
{
	struct net_port *port;

	if (name && net_app_find(app, name)) {
		snprintf(err, SW_ERR_LEN, "%s: there is a port of that name", name);
		return NULL;
	}
	port = calloc(1, sizeof(*port));
	if (!port) {
		snprintf(err, SW_ERR_LEN, "out of memory");
		return NULL;
	}
	port->app = app;
	if (name)
		snprintf(port->name, sizeof(port->name), "%s", name);
	else
		choose_name(app, kind, port->name);
	return port;
}

/* On the list, or gone again. */
static int keep(struct net_port *fresh, int res, struct net_port **port)
{
	struct net_port **tail = &fresh->app->ports;

	if (res < 0) {
		free(fresh);
		return res;
	}
	while (*tail)
		tail = &(*tail)->next;
	*tail = fresh;
	*port = fresh;
	return 0;
}

int net_app_add_port(struct net_app *app, struct vnet_conf *conf, struct net_port **port, char *err)
{
	struct net_port *fresh = new_port(app, conf->name, "port", err);

	if (!fresh)
		return -EEXIST;
	conf->name = fresh->name;
	conf->ev = app->app.ev;
	conf->loops = app->app.loops;
	conf->nr_loops = app->app.nr_loops;
	conf->sw = app->sw;
	return keep(fresh, vnet_create(conf, &fresh->vn, err), port);
}

int net_app_add_uplink(struct net_app *app, struct uplink_conf *conf, struct net_port **port,
		       char *err)
{
	struct net_port *fresh = new_port(app, conf->name, "uplink", err);

	if (!fresh)
		return -EEXIST;
	conf->name = fresh->name;
	conf->ev = app->app.ev;
	conf->loops = app->app.loops;
	conf->nr_loops = app->app.nr_loops;
	conf->sw = app->sw;
	return keep(fresh, uplink_create(conf, &fresh->up, err), port);
}

static void port_gone(void *opaque)
{
	struct net_port *port = opaque;
	struct net_app *app = port->app;
	struct net_port **p = &app->ports;

	while (*p != port)
		p = &(*p)->next;
	*p = port->next;
	log_info("%s: removed", port->name);
	if (port->remove_call)
		rpc_result(port->remove_call, json_pack("{s:s}", "name", port->name));
	free(port);
	if (app->app.stopping && !app->ports)
		app_end(&app->app);
}

void net_app_remove(struct net_port *port, struct rpc_call *call)
{
	assert(!port->leaving);
	port->leaving = true;
	port->remove_call = call;
	if (port->vn)
		vnet_destroy(port->vn, port_gone, port);
	else
		uplink_destroy(port->up, port_gone, port);
}
