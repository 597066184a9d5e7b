/*
 * The command line of ringbolt-blk: vhost-user's "Backend program conventions"
 * for one device, and --device for many. Called once by main(); the keys of a
 * device also by the control socket. Opens and creates nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/blk_opts.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "vhost/vhost.h"

#define PROGRAM "ringbolt-blk"
#define QUEUE_SIZE_MAX 32768 /* VIRTIO 1.3, "Virtqueues" */

static const char *const block_size_names[] = { "auto", "512", "4096", NULL };
static const uint32_t block_sizes[] = { 0, 512, 4096 };
static_assert(ARRAY_SIZE(block_size_names) == ARRAY_SIZE(block_sizes) + 1, "a word per size");

static const char *const store_names[] = { "uring", "null", "mem", NULL };

/* NOLINTNEXTLINE(bugprone-macro-parentheses): a field's name cannot have any */
#define KEY(name, field) .key = (name), .offset = offsetof(struct blk_device_opts, field)

const struct opt_desc blk_device_keys[] = {
	{ KEY("name", name), .type = OPT_STRING, .help = "name in messages and status" },
	{ KEY("socket", socket), .type = OPT_STRING, .help = "path of the vhost-user socket" },
	{ KEY("store", store), .type = OPT_STRING, .required = true,
	  .help = "uring:PATH, null:SIZE or mem:SIZE" },
	{ KEY("queues", queues), .type = OPT_UINT, .min = 1, .max = VBLK_QUEUES_MAX,
	  .help = "number of request queues" },
	{ KEY("queue-size", queue_size), .type = OPT_UINT, .min = 1, .max = QUEUE_SIZE_MAX,
	  .help = "largest ring the driver may use" },
	{ KEY("serial", serial), .type = OPT_STRING, .help = "serial number, 20 bytes at most" },
	{ KEY("read-only", read_only), .type = OPT_BOOL, .help = "refuse writes" },
	{ KEY("cache", cache), .type = OPT_ENUM, .names = vblk_cache_names, .help = "host cache" },
	{ KEY("lock", lock), .type = OPT_ENUM, .names = vblk_lock_names, .help = "image lock" },
	{ KEY("block-size", block_size), .type = OPT_ENUM, .names = block_size_names,
	  .help = "logical block size" },
	{ KEY("connect", connect), .type = OPT_BOOL, .help = "connect to socket, do not listen" },
	{ KEY("fd", fd), .type = OPT_UINT, .max = INT_MAX,
	  .help = "inherited socket instead of a path" },
	{ KEY("packed", packed), .type = OPT_BOOL, .help = "offer packed rings" },
	{ KEY("iommu", iommu), .type = OPT_BOOL, .help = "serve guests behind a virtual IOMMU" },
	{ KEY("iopoll", iopoll), .type = OPT_BOOL, .help = "uring: poll for completions" },
	{ KEY("sqpoll", sqpoll), .type = OPT_BOOL, .help = "uring: kernel thread submits" },
	{ KEY("fixed-buffers", fixed_buffers), .type = OPT_BOOL,
	  .help = "uring: register guest memory" },
	{ NULL },
};

enum option_id {
	O_BLK_FILE = APP_O_OWN,
	O_READ_ONLY,
	O_DEVICE,
	O_END,
};
static_assert((int)O_END <= (int)APP_O_END, "a bit per option");

static const struct option long_options[] = {
	APP_LONG_OPTIONS,
	{ "blk-file", required_argument, NULL, O_BLK_FILE },
	{ "read-only", no_argument, NULL, O_READ_ONLY },
	{ "device", required_argument, NULL, O_DEVICE },
	{ NULL },
};

/* What is put together while argv is walked. */
struct parser {
	struct app_parser walk;
	struct blk_options *opts;
	struct blk_device_opts single; /* of the backend program conventions */
	const char *blk_file;
	bool has_single;
};

static const char help_head[] =
	"Usage: " PROGRAM " --socket-path=PATH --blk-file=PATH [--read-only] [OPTION...]\n"
	"       " PROGRAM " --device KEY=VALUE,... [--device ...] [OPTION...]\n"
	"Serve block devices to virtual machines over vhost-user.\n\n"
	"One device, as management programs start it:\n"
	"  --socket-path=PATH    listen for the front-end at PATH\n"
	"  --fd=FDNUM            or use an inherited socket, listening or connected\n"
	"  --blk-file=PATH       image file or block device, raw\n"
	"  --read-only           refuse writes\n"
	"  --print-capabilities  print what this program can do as JSON, and exit\n\n"
	"Any number of devices:\n"
	"  --device KEY=VALUE,...  keys:\n";

static void print_help(void)
{
	fputs(help_head, stdout);
	app_print_keys(blk_device_keys);
	fputs(APP_HELP_PROCESS, stdout);
}

void blk_device_opts_init(struct blk_device_opts *dev)
{
	struct vblk_conf conf;

	vblk_conf_init(&conf);
	*dev = (struct blk_device_opts){
		.queues = conf.queues,
		.queue_size = conf.queue_size,
		.fd = APP_NO_FD,
		.cache = conf.cache,
		.lock = conf.lock,
		.read_only = conf.read_only,
		.connect = conf.connect,
		.packed = conf.packed,
		.iommu = conf.iommu,
		.iopoll = conf.iopoll,
		.sqpoll = conf.sqpoll,
		.fixed_buffers = conf.fixed_buffers,
	};
}

void blk_device_opts_conf(const struct blk_device_opts *dev, struct vblk_conf *conf)
{
	conf->name = dev->name;
	conf->socket = dev->socket;
	conf->connect = dev->connect;
	conf->fd = dev->fd == APP_NO_FD ? -1 : (int)dev->fd;
	conf->store = dev->store;
	conf->serial = dev->serial;
	conf->queues = (unsigned int)dev->queues;
	conf->queue_size = (unsigned int)dev->queue_size;
	conf->read_only = dev->read_only;
	conf->cache = dev->cache;
	conf->lock = dev->lock;
	conf->block_size = block_sizes[dev->block_size];
	conf->iopoll = dev->iopoll;
	conf->sqpoll = dev->sqpoll;
	conf->fixed_buffers = dev->fixed_buffers;
	conf->packed = dev->packed;
	conf->iommu = dev->iommu;
}

/* "scheme:argument", and a size where the argument is one. */
static int check_store(const char *option, const char *store, char *err)
{
	static const struct opt_desc size_desc = { .type = OPT_SIZE, .min = 512 };
	const char *colon = strchr(store, ':');
	char scheme[16], sub_option[64];
	size_t len = colon ? (size_t)(colon - store) : strlen(store);
	const char *near;
	uint64_t size;

	snprintf(scheme, sizeof(scheme), "%.*s", (int)min_u64(len, sizeof(scheme)), store);
	for (size_t i = 0; colon && store_names[i]; i++) {
		if (strcmp(scheme, store_names[i]))
			continue;
		if (strcmp(scheme, "uring")) {
			snprintf(sub_option, sizeof(sub_option), "%s: store=%s:SIZE", option,
				 scheme);
			return opts_parse_value(sub_option, colon + 1, &size_desc, &size, err);
		}
		if (colon[1])
			return 0;
		break;
	}
	near = opts_nearest(scheme, store_names);
	snprintf(err, OPTS_ERR_LEN,
		 "%s: store=%.80s: expected one of uring:PATH, null:SIZE, mem:SIZE%s%s%s", option,
		 store, near ? "; did you mean '" : "", near ? near : "", near ? ":'?" : "");
	return -EINVAL;
}

int blk_device_opts_check(const char *option, const struct blk_device_opts *dev, char *err)
{
	if (dev->name && strlen(dev->name) >= VU_NAME_MAX)
		return app_refuse(err, option, "name", dev->name, "at most 63 bytes");
	if (dev->serial && strlen(dev->serial) > VBLK_SERIAL_MAX)
		return app_refuse(err, option, "serial", dev->serial, "at most 20 bytes");
	if (!dev->socket == (dev->fd == APP_NO_FD)) {
		snprintf(err, OPTS_ERR_LEN, "%s: expected %s", option,
			 dev->socket ? "either socket= or fd=, not both"
				     : "socket=PATH, where the front-end connects");
		return -EINVAL;
	}
	if (dev->connect && !dev->socket)
		return app_refuse(err, option, "connect", "on", "a socket= to connect to");
	return check_store(option, dev->store, err);
}

static int add_device(struct blk_options *opts, const struct blk_device_opts *dev)
{
	struct blk_device_opts *grown;

	grown = reallocarray(opts->devices, opts->nr_devices + 1, sizeof(*grown));
	if (!grown) {
		fputs(PROGRAM ": out of memory\n", stderr);
		return -ENOMEM;
	}
	grown[opts->nr_devices++] = *dev;
	opts->devices = grown;
	return 0;
}

static int parse_device(struct parser *p, char *text)
{
	struct blk_device_opts dev;

	blk_device_opts_init(&dev);
	if (opts_parse("--device", text, blk_device_keys, &dev, p->walk.err) < 0 ||
	    blk_device_opts_check("--device", &dev, p->walk.err) < 0)
		return app_wrong(&p->walk);
	return add_device(p->opts, &dev);
}

static int parse_option(struct app_parser *walk, int id, char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc fd = { .type = OPT_UINT, .max = INT_MAX };
	struct parser *p = container_of(walk, struct parser, walk);

	if (id == O_DEVICE)
		return parse_device(p, value);
	p->has_single = true;
	switch (id) {
	case APP_O_SOCKET_PATH:
		return app_parse_value(walk, "--socket-path", value, &string, &p->single.socket);
	case APP_O_FD:
		return app_parse_value(walk, "--fd", value, &fd, &p->single.fd);
	case O_BLK_FILE:
		return app_parse_value(walk, "--blk-file", value, &string, &p->blk_file);
	default:
		assert(id == O_READ_ONLY);
		p->single.read_only = true;
		return 0;
	}
}

/* The device of the backend program conventions becomes one like the others. */
static int finish_single(struct parser *p, char **store)
{
	struct blk_device_opts *dev = &p->single;
	const char *problem = NULL;

	if (!p->has_single)
		return 0;
	if (!p->blk_file)
		problem = "--blk-file: expected PATH of the image to serve";
	else if (!dev->socket && dev->fd == APP_NO_FD)
		problem = "--socket-path: expected PATH of the socket to listen at (or --fd)";
	else if (dev->socket && dev->fd != APP_NO_FD)
		problem = "--fd: expected either --fd or --socket-path, not both";
	if (problem) {
		snprintf(p->walk.err, sizeof(p->walk.err), "%s", problem);
		return app_wrong(&p->walk);
	}
	if (asprintf(store, "uring:%s", p->blk_file) < 0) {
		*store = NULL;
		return -ENOMEM;
	}
	dev->store = *store;
	return add_device(p->opts, dev);
}

/* Names and descriptors are of one device each. */
static int check_devices(struct parser *p)
{
	const struct blk_device_opts *a, *b;
	char *err = p->walk.err;

	for (unsigned int i = 0; i < p->opts->nr_devices; i++) {
		a = &p->opts->devices[i];
		for (unsigned int j = 0; j < i; j++) {
			b = &p->opts->devices[j];
			if (a->name && b->name && !strcmp(a->name, b->name)) {
				app_refuse(err, "--device", "name", a->name,
					   "a name that no other device has");
				return app_wrong(&p->walk);
			}
			if (a->fd != APP_NO_FD && a->fd == b->fd) {
				snprintf(err, OPTS_ERR_LEN,
					 "--device: fd=%d: expected a socket of its own",
					 (int)a->fd);
				return app_wrong(&p->walk);
			}
		}
		if (a->fd != APP_NO_FD && app_check_fd(&p->walk, a->fd) < 0)
			return -ENOTSOCK;
	}
	if (!p->opts->nr_devices && !p->opts->process.control) {
		snprintf(err, OPTS_ERR_LEN,
			 "expected a device (--device or --socket-path and --blk-file) or "
			 "--control, see --help");
		return app_wrong(&p->walk);
	}
	return 0;
}

int blk_options_parse(int argc, char **argv, struct blk_options *opts)
{
	struct parser p = {
		.walk = {
			.program = PROGRAM,
			.options = long_options,
			.repeatable = APP_OPTION_BIT(O_DEVICE),
			.capabilities = "{\"type\": \"block\", "
					"\"features\": [\"read-only\", \"blk-file\"]}",
			.print_help = print_help,
			.own = parse_option,
			.process = &opts->process,
		},
		.opts = opts,
	};
	int res;

	*opts = (struct blk_options){ 0 };
	blk_device_opts_init(&p.single);
	res = app_options_parse(&p.walk, argc, argv);
	if (res != APP_RUN)
		return res;
	res = finish_single(&p, &opts->single_store);
	if (!res)
		res = check_devices(&p);
	return res;
}

void blk_options_free(struct blk_options *opts)
{
	free(opts->devices);
	free(opts->single_store);
	opts->devices = NULL;
	opts->single_store = NULL;
}
