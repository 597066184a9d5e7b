/*
 * ringbolt-net: vhost-user network ports on a switch with DPDK uplinks. main()
 * puts options, the switch, ports, uplinks and the frame of a back-end program
 * (app.c) together.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "apps/net_app.h"
#include "core/base.h"
#include "core/log.h"

static struct net_app *net_app(struct app *app)
{
	return container_of(app, struct net_app, app);
}

static int create_switch(struct net_app *app)
{
	struct vswitch_conf conf = {
		.ev = app->app.ev,
		.loops = app->app.loops,
		.nr_loops = app->app.nr_loops,
		.mac_table_size = (uint32_t)app->opts->mac_table,
		.ageing_s = (uint32_t)app->opts->ageing,
		.forward_reserved = app->opts->forward_reserved,
	};
	int res = vswitch_create(&conf, &app->sw);

	if (res < 0)
		log_err("the switch: %s", strerror(-res));
	return res;
}

static int create(struct app *app)
{
	struct net_app *net = net_app(app);
	struct net_options *opts = net->opts;
	struct net_port *port;
	char err[SW_ERR_LEN];
	int res;

	eal_configure(&opts->eal);
	res = create_switch(net);
	if (res < 0)
		return res;
	/* Uplinks first: a guest that is connected may send at once. */
	for (unsigned int i = 0; i < opts->nr_uplinks && !res; i++)
		res = net_app_add_uplink(net, &opts->uplinks[i], &port, err);
	for (unsigned int i = 0; i < opts->nr_ports && !res; i++)
		res = net_app_add_port(net, &opts->ports[i].conf, opts->ports[i].acl, &port, err);
	if (res < 0)
		log_err("%s", err);
	return res;
}

static void report(struct app *app)
{
	const struct net_options *opts = net_app(app)->opts;

	log_info("ringbolt-net " RINGBOLT_VERSION ": %u port(s) and %u uplink(s) on %u loop(s)",
		 opts->nr_ports, opts->nr_uplinks, app->nr_loops);
}

static void begin_stop(struct app *app)
{
	net_app_remove_all(net_app(app));
}

static void ended(struct app *app)
{
	vswitch_destroy(net_app(app)->sw);
}

int main(int argc, char **argv)
{
	static const struct app_ops ops = {
		.create = create,
		.report = report,
		.begin_stop = begin_stop,
		.ended = ended,
		.methods = net_rpc_methods,
	};
	struct net_options opts;
	struct net_app app = {
		.app = { .program = "ringbolt-net", .ops = &ops },
		.opts = &opts,
	};
	int res;

	app_fill_standard_fds();
	res = net_options_parse(argc, argv, &opts);
	if (res == APP_RUN)
		res = app_run(&app.app, &opts.process);
	else
		res = app_options_status(res);
	eal_stop();
	net_options_free(&opts);
	return res;
}
