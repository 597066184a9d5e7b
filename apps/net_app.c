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

#include "apps/net_vf.h"
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

static void end_if_empty(struct net_app *app)
{
	if (app->app.stopping && !app->ports && !app->captures && !app->nr_undone)
		app_end(&app->app);
}

static void undone(void *opaque)
{
	struct net_app *app = opaque;

	app->nr_undone--;
	end_if_empty(app);
}

/* Its name is free at once, and the program does not end before the rest has gone. */
static void undo(struct net_port *fresh)
{
	struct net_app *app = fresh->app;

	if (fresh->vn || fresh->up)
		app->nr_undone++;
	if (fresh->vn)
		vnet_destroy(fresh->vn, undone, app);
	else if (fresh->up)
		uplink_destroy(fresh->up, undone, app);
	free(fresh);
}

/* On the list, or gone again. */
static int keep(struct net_port *fresh, int res, struct net_port **port)
{
	struct net_port **tail = &fresh->app->ports;

	if (res < 0) {
		undo(fresh);
		return res;
	}
	while (*tail)
		tail = &(*tail)->next;
	*tail = fresh;
	*port = fresh;
	return 0;
}

/* The access lists in a file, compiled into conf. */
static int load_acl(struct net_app *app, const char *path, struct sw_port_conf *conf, char *err)
{
	json_t *rules;
	int res;

	if (!path)
		return 0;
	res = sw_acl_load(path, &rules, err);
	if (res < 0)
		return res;
	res = sw_acl_create(rules, app->app.nr_loops, &conf->acl_in, &conf->acl_out, err);
	json_decref(rules);
	return res;
}

int net_app_add_port(struct net_app *app, struct vnet_conf *conf, const char *acl,
		     struct net_port **port, char *err)
{
	struct net_port *fresh = new_port(app, conf->name, "port", err);
	int res;

	if (!fresh)
		return -EEXIST;
	conf->name = fresh->name;
	conf->ev = app->app.ev;
	conf->loops = app->app.loops;
	conf->nr_loops = app->app.nr_loops;
	conf->sw = app->sw;
	res = load_acl(app, acl, &conf->port, err);
	if (!res)
		res = vnet_create(conf, &fresh->vn, err);
	return keep(fresh, res, port);
}

int net_app_add_uplink(struct net_app *app, struct net_uplink_conf *uplink, struct net_port **port,
		       char *err)
{
	struct uplink_conf *conf = &uplink->conf;
	struct net_port *fresh = new_port(app, conf->name, "uplink", err);
	char vf[UPLINK_DEVICES_MAX][SRIOV_ADDR_LEN];
	int res = 0;

	if (!fresh)
		return -EEXIST;
	conf->name = fresh->name;
	conf->ev = app->app.ev;
	conf->loops = app->app.loops;
	conf->nr_loops = app->app.nr_loops;
	conf->sw = app->sw;
	for (unsigned int i = 0; uplink->is_vf && i < conf->nr_dev && !res; i++) {
		res = net_vf_find(fresh->name, conf->dev[i], uplink->owner, vf[i], err);
		conf->dev[i] = vf[i];
	}
	if (!res)
		res = load_acl(app, uplink->acl, &conf->port, err);
	if (!res)
		res = uplink_create(conf, &fresh->up, err);
	return keep(fresh, res, port);
}

int net_app_set_acl(struct net_port *port, const json_t *rules, char *err)
{
	struct sw_port_conf conf = *net_port_sw(port)->conf;
	int res;

	conf.acl_in = conf.acl_out = NULL;
	if (rules) {
		res = sw_acl_create(rules, port->app->app.nr_loops, &conf.acl_in, &conf.acl_out,
				    err);
		if (res < 0)
			return res;
	}
	return sw_port_set(net_port_sw(port), &conf, err);
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
	for (struct net_capture *c = app->captures; c; c = c->next) {
		if (c->port == port)
			c->port = NULL;
	}
	free(port);
	end_if_empty(app);
}

void net_app_remove(struct net_port *port, struct rpc_call *call)
{
	assert(!port->leaving);
	port->leaving = true;
	port->remove_call = call;
	for (struct net_capture *c = port->app->captures, *next; c; c = next) {
		next = c->next; /* it may be gone at once */
		if (c->port == port)
			capture_stop(c->capture);
	}
	if (port->vn)
		vnet_destroy(port->vn, port_gone, port);
	else
		uplink_destroy(port->up, port_gone, port);
}

void net_app_remove_all(struct net_app *app)
{
	for (struct net_port *port = app->ports, *next; port; port = next) {
		next = port->next;
		if (!port->leaving)
			net_app_remove(port, NULL);
	}
	/* Those of ports that are gone. */
	for (struct net_capture *c = app->captures, *next; c; c = next) {
		next = c->next;
		capture_stop(c->capture);
	}
	end_if_empty(app);
}

static void capture_ended(void *opaque)
{
	struct net_capture *c = opaque;
	struct net_app *app = c->app;
	struct net_capture **p = &app->captures;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	free(c);
	end_if_empty(app);
}

int net_app_capture(struct net_port *port, struct capture_conf *conf, char *err)
{
	struct net_capture *c = calloc(1, sizeof(*c));
	int res;

	if (!c) {
		snprintf(err, SW_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	c->app = port->app;
	c->port = port;
	conf->port = net_port_sw(port);
	conf->ev = c->app->app.ev;
	conf->ended = capture_ended;
	conf->opaque = c;
	res = capture_start(conf, &c->capture, err);
	if (res < 0) {
		free(c);
		return res;
	}
	c->next = c->app->captures;
	c->app->captures = c;
	return 0;
}
