/*
 * The command line of ringbolt-net: vhost-user's "Backend program conventions" for
 * one port, --port and --uplink for many, and what concerns the switch as a whole.
 * Called once by main(). Opens and creates nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/net_opts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define PROGRAM "ringbolt-net"

enum option_id {
	O_PORT = APP_O_OWN,
	O_UPLINK,
	O_MAC_TABLE,
	O_AGEING,
	O_FORWARD_RESERVED,
	O_MEMORY,
	O_PAGES,
	O_END,
};
static_assert((int)O_END <= (int)APP_O_END, "a bit per option");

static const struct option long_options[] = {
	APP_LONG_OPTIONS,
	{ "port", required_argument, NULL, O_PORT },
	{ "uplink", required_argument, NULL, O_UPLINK },
	{ "mac-table", required_argument, NULL, O_MAC_TABLE },
	{ "ageing", required_argument, NULL, O_AGEING },
	{ "forward-reserved", no_argument, NULL, O_FORWARD_RESERVED },
	{ "memory", required_argument, NULL, O_MEMORY },
	{ "pages", required_argument, NULL, O_PAGES },
	{ NULL },
};

/* What is put together while argv is walked. */
struct parser {
	struct app_parser walk;
	struct net_options *opts;
	struct net_port_opts single; /* of the backend program conventions */
	bool has_single;
};

static const char help_head[] =
	"Usage: " PROGRAM " --socket-path=PATH [OPTION...]\n"
	"       " PROGRAM
	" --port KEY=VALUE,... [--port ...] [--uplink KEY=VALUE,...] [OPTION...]\n"
	"Connect virtual machines to each other and to networks over vhost-user.\n\n"
	"One port, as management programs start it:\n"
	"  --socket-path=PATH    listen for the front-end at PATH\n"
	"  --fd=FDNUM            or use an inherited socket, listening or connected\n"
	"  --print-capabilities  print what this program can do as JSON, and exit\n\n"
	"Any number of ports of one switch:\n"
	"  --port KEY=VALUE,...  a virtual machine; keys:\n";

static const char help_uplinks[] = "  --uplink KEY=VALUE,...  a DPDK port; keys, and all from vlan "
				   "on of --port:\n";

static const char help_switch[] =
	"\nThe switch:\n"
	"  --mac-table=COUNT     MAC addresses it can know (default: 16384)\n"
	"  --ageing=SECONDS      how long it knows one that is silent (default: 300)\n"
	"  --forward-reserved    forward spanning tree, LACP and LLDP like any multicast\n"
	"  --pages=KIND          memory of uplinks: auto (default), huge or small\n"
	"  --memory=SIZE         at most, if pages are small (default: 256M)\n";

/* Those of uplinks are printed up to where they are the same. */
static void print_uplink_keys(void)
{
	struct opt_desc own[64]; /* as many as a table may have */
	size_t n = 0;

	for (const struct opt_desc *d = net_uplink_keys; d->key && strcmp(d->key, "vlan"); d++)
		own[n++] = *d;
	own[n] = (struct opt_desc){ NULL };
	app_print_keys(own);
}

static void print_help(void)
{
	fputs(help_head, stdout);
	app_print_keys(net_port_keys);
	fputs(help_uplinks, stdout);
	print_uplink_keys();
	fputs(help_switch, stdout);
	fputs(APP_HELP_PROCESS, stdout);
}

static int no_memory(void)
{
	fputs(PROGRAM ": out of memory\n", stderr);
	return -ENOMEM;
}

/* option is what the sentences about it begin with. */
static int add_port(struct parser *p, const char *option, const struct net_port_opts *port)
{
	struct net_options *opts = p->opts;
	struct net_port_conf *grown;

	grown = reallocarray(opts->ports, opts->nr_ports + 1, sizeof(*grown));
	if (!grown)
		return no_memory();
	opts->ports = grown;
	grown += opts->nr_ports;
	grown->acl = port->sw.acl;
	if (net_port_opts_conf(option, port, &grown->conf, p->walk.err) < 0)
		return app_wrong(&p->walk);
	opts->nr_ports++;
	return 0;
}

static int parse_port(struct parser *p, char *text)
{
	struct net_port_opts port;

	net_port_opts_init(&port);
	if (opts_parse("--port", text, net_port_keys, &port, p->walk.err) < 0)
		return app_wrong(&p->walk);
	return add_port(p, "--port", &port);
}

static int parse_uplink(struct parser *p, char *text)
{
	struct net_options *opts = p->opts;
	struct net_uplink_conf *grown;
	struct net_uplink_opts up;

	net_uplink_opts_init(&up);
	if (opts_parse("--uplink", text, net_uplink_keys, &up, p->walk.err) < 0)
		return app_wrong(&p->walk);
	grown = reallocarray(opts->uplinks, opts->nr_uplinks + 1, sizeof(*grown));
	if (!grown)
		return no_memory();
	opts->uplinks = grown;
	grown += opts->nr_uplinks++;
	if (net_uplink_opts_conf("--uplink", &up, grown, p->walk.err) < 0)
		return app_wrong(&p->walk);
	return 0;
}

static int parse_option(struct app_parser *walk, int id, char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc fd = { .type = OPT_UINT, .max = INT_MAX };
	static const struct opt_desc table = { .type = OPT_UINT,
					       .min = 1,
					       .max = VSWITCH_MAC_TABLE_MAX };
	static const struct opt_desc ageing = { .type = OPT_UINT,
						.min = 1,
						.max = VSWITCH_AGEING_MAX };
	static const struct opt_desc memory = { .type = OPT_SIZE, .min = EAL_MEMORY_MIN };
	static const struct opt_desc pages = { .type = OPT_ENUM, .names = eal_pages_names };
	struct parser *p = container_of(walk, struct parser, walk);
	struct net_options *opts = p->opts;
	int word, res;

	switch (id) {
	case APP_O_SOCKET_PATH:
		p->has_single = true;
		return app_parse_value(walk, "--socket-path", value, &string, &p->single.socket);
	case APP_O_FD:
		p->has_single = true;
		return app_parse_value(walk, "--fd", value, &fd, &p->single.fd);
	case O_PORT:
		return parse_port(p, value);
	case O_UPLINK:
		return parse_uplink(p, value);
	case O_MAC_TABLE:
		return app_parse_value(walk, "--mac-table", value, &table, &opts->mac_table);
	case O_AGEING:
		return app_parse_value(walk, "--ageing", value, &ageing, &opts->ageing);
	case O_MEMORY:
		return app_parse_value(walk, "--memory", value, &memory, &opts->eal.memory);
	case O_PAGES:
		res = app_parse_value(walk, "--pages", value, &pages, &word);
		opts->eal.pages = res ? EAL_PAGES_AUTO : (enum eal_pages)word;
		return res;
	default:
		assert(id == O_FORWARD_RESERVED);
		opts->forward_reserved = true;
		return 0;
	}
}

static int finish_single(struct parser *p)
{
	struct net_port_opts *port = &p->single;

	if (!p->has_single)
		return 0;
	if (port->socket && port->fd != APP_NO_FD) {
		snprintf(p->walk.err, sizeof(p->walk.err),
			 "--fd: expected either --fd or --socket-path, not both");
		return app_wrong(&p->walk);
	}
	return add_port(p, "--socket-path", port);
}

/* The name of port or uplink number i, ports first; NULL: it has none yet. */
static const char *name_of(const struct net_options *opts, unsigned int i)
{
	return i < opts->nr_ports ? opts->ports[i].conf.name
				  : opts->uplinks[i - opts->nr_ports].conf.name;
}

/* Names are of one port or uplink each. */
static int check_names(struct parser *p)
{
	unsigned int cnt = p->opts->nr_ports + p->opts->nr_uplinks;
	const char *a, *b;

	for (unsigned int i = 0; i < cnt; i++) {
		a = name_of(p->opts, i);
		for (unsigned int j = 0; a && j < i; j++) {
			b = name_of(p->opts, j);
			if (!b || strcmp(a, b) != 0)
				continue;
			app_refuse(p->walk.err, i < p->opts->nr_ports ? "--port" : "--uplink",
				   "name", a, "a name that no other port or uplink has");
			return app_wrong(&p->walk);
		}
	}
	return 0;
}

/* Descriptors are of one port each. */
static int check_descriptors(struct parser *p)
{
	const struct net_port_conf *ports = p->opts->ports;

	for (unsigned int i = 0; i < p->opts->nr_ports; i++) {
		int fd = ports[i].conf.fd;

		if (fd < 0)
			continue;
		for (unsigned int j = 0; j < i; j++) {
			if (fd != ports[j].conf.fd)
				continue;
			snprintf(p->walk.err, sizeof(p->walk.err),
				 "--port: fd=%d: expected a socket of its own", fd);
			return app_wrong(&p->walk);
		}
		if (app_check_fd(&p->walk, (uint64_t)fd) < 0)
			return -ENOTSOCK;
	}
	return 0;
}

static int check_all(struct parser *p)
{
	int res = check_names(p);

	if (!res)
		res = check_descriptors(p);
	if (res < 0 || p->opts->nr_ports || p->opts->nr_uplinks || p->opts->process.control)
		return res;
	snprintf(p->walk.err, sizeof(p->walk.err),
		 "expected a port (--port or --socket-path) or --control, see --help");
	return app_wrong(&p->walk);
}

int net_options_parse(int argc, char **argv, struct net_options *opts)
{
	struct parser p = {
		.walk = {
			.program = PROGRAM,
			.options = long_options,
			.repeatable = APP_OPTION_BIT(O_PORT) | APP_OPTION_BIT(O_UPLINK),
			.capabilities = "{\"type\": \"net\"}",
			.print_help = print_help,
			.own = parse_option,
			.process = &opts->process,
		},
		.opts = opts,
	};
	int res;

	*opts = (struct net_options){ 0 };
	net_port_opts_init(&p.single);
	res = app_options_parse(&p.walk, argc, argv);
	if (res != APP_RUN)
		return res;
	res = finish_single(&p);
	if (!res)
		res = check_all(&p);
	return res;
}

void net_options_free(struct net_options *opts)
{
	for (unsigned int i = 0; i < opts->nr_uplinks; i++)
		free(opts->uplinks[i].devices);
	free(opts->uplinks);
	free(opts->ports);
	opts->uplinks = NULL;
	opts->ports = NULL;
	opts->nr_ports = opts->nr_uplinks = 0;
}
