/*
 * The command line of ringbolt-blk: vhost-user's "Backend program conventions"
 * for one device, and --device for many. Called once by main(); the keys of a
 * device also by the control socket. Opens and creates nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/blk_opts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/vhost.h"

#define PROGRAM "ringbolt-blk"
#define QUEUE_SIZE_MAX 32768 /* VIRTIO 1.3, "Virtqueues" */

static const char *const block_size_names[] = { "auto", "512", "4096", NULL };
static const uint32_t block_sizes[] = { 0, 512, 4096 };
static_assert(ARRAY_SIZE(block_size_names) == ARRAY_SIZE(block_sizes) + 1, "a word per size");

static const char *const log_level_names[] = { "error", "warning", "info", "debug", NULL };
static_assert(ARRAY_SIZE(log_level_names) == LOG_LEVEL_CNT + 1, "a word per level");

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
	{ KEY("iopoll", iopoll), .type = OPT_BOOL, .help = "uring: poll for completions" },
	{ KEY("sqpoll", sqpoll), .type = OPT_BOOL, .help = "uring: kernel thread submits" },
	{ KEY("fixed-buffers", fixed_buffers), .type = OPT_BOOL,
	  .help = "uring: register guest memory" },
	{ NULL },
};

enum option_id {
	O_HELP = 'h',
	O_SOCKET_PATH = 256,
	O_FD,
	O_PRINT_CAPABILITIES,
	O_BLK_FILE,
	O_READ_ONLY,
	O_DEVICE,
	O_CPUS,
	O_POLL,
	O_CONTROL,
	O_LOG_LEVEL,
	O_VERSION,
	O_END,
};

static const struct option long_options[] = {
	{ "socket-path", required_argument, NULL, O_SOCKET_PATH },
	{ "fd", required_argument, NULL, O_FD },
	{ "print-capabilities", no_argument, NULL, O_PRINT_CAPABILITIES },
	{ "blk-file", required_argument, NULL, O_BLK_FILE },
	{ "read-only", no_argument, NULL, O_READ_ONLY },
	{ "device", required_argument, NULL, O_DEVICE },
	{ "cpus", required_argument, NULL, O_CPUS },
	{ "poll", required_argument, NULL, O_POLL },
	{ "control", required_argument, NULL, O_CONTROL },
	{ "log-level", required_argument, NULL, O_LOG_LEVEL },
	{ "version", no_argument, NULL, O_VERSION },
	{ "help", no_argument, NULL, O_HELP },
	{ NULL },
};

/* What is put together while argv is walked. */
struct parser {
	struct blk_options *opts;
	struct blk_device_opts single; /* of the backend program conventions */
	const char *blk_file;
	bool has_single;
	uint32_t seen; /* options given, by their distance from O_SOCKET_PATH */
	char err[OPTS_ERR_LEN];
};

static int wrong(struct parser *p)
{
	fprintf(stderr, PROGRAM ": %s\n", p->err);
	return -EINVAL;
}

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

static const char help_tail[] =
	"\nThe process:\n"
	"  --cpus=LIST           one poll thread on each CPU of LIST, such as 2,4-6\n"
	"                        (default: one, on any CPU)\n"
	"  --poll=MODE           busy, adaptive (default) or interrupt\n"
	"  --control=PATH        control socket for ringboltctl\n"
	"  --log-level=LEVEL     error, warning, info (default) or debug\n"
	"  --version, --help\n";

static void print_help(void)
{
	fputs(help_head, stdout);
	for (const struct opt_desc *d = blk_device_keys; d->key; d++) {
		printf("    %-14s %s", d->key, d->help);
		for (size_t i = 0; d->names && d->names[i]; i++)
			printf("%s%s", i ? ", " : ": ", d->names[i]);
		if (d->type == OPT_BOOL)
			fputs(" (on|off)", stdout);
		if (d->type == OPT_UINT && d->min)
			printf(" (%llu to %llu)", (unsigned long long)d->min,
			       (unsigned long long)d->max);
		if (d->required)
			fputs(" (required)", stdout);
		putchar('\n');
	}
	fputs(help_tail, stdout);
}

static void print_capabilities(void)
{
	puts("{\"type\": \"block\", \"features\": [\"read-only\", \"blk-file\"]}");
}

void blk_device_opts_init(struct blk_device_opts *dev)
{
	struct vblk_conf conf;

	vblk_conf_init(&conf);
	*dev = (struct blk_device_opts){
		.queues = conf.queues,
		.queue_size = conf.queue_size,
		.fd = BLK_NO_FD,
		.cache = conf.cache,
		.lock = conf.lock,
		.read_only = conf.read_only,
		.connect = conf.connect,
		.packed = conf.packed,
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
	conf->fd = dev->fd == BLK_NO_FD ? -1 : (int)dev->fd;
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

static int refuse(char *err, const char *option, const char *key, const char *value,
		  const char *expected)
{
	snprintf(err, OPTS_ERR_LEN, "%s: %s=%.100s: expected %s", option, key, value, expected);
	return -EINVAL;
}

int blk_device_opts_check(const char *option, const struct blk_device_opts *dev, char *err)
{
	if (dev->name && strlen(dev->name) >= VU_NAME_MAX)
		return refuse(err, option, "name", dev->name, "at most 63 bytes");
	if (dev->serial && strlen(dev->serial) > VBLK_SERIAL_MAX)
		return refuse(err, option, "serial", dev->serial, "at most 20 bytes");
	if (!dev->socket == (dev->fd == BLK_NO_FD)) {
		snprintf(err, OPTS_ERR_LEN, "%s: expected %s", option,
			 dev->socket ? "either socket= or fd=, not both"
				     : "socket=PATH, where the front-end connects");
		return -EINVAL;
	}
	if (dev->connect && !dev->socket)
		return refuse(err, option, "connect", "on", "a socket= to connect to");
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
	if (opts_parse("--device", text, blk_device_keys, &dev, p->err) < 0 ||
	    blk_device_opts_check("--device", &dev, p->err) < 0)
		return wrong(p);
	return add_device(p->opts, &dev);
}

static int parse_cpus(struct parser *p, const char *text)
{
	int bad_cpu = -1;
	int res;

	res = cpu_list_parse(text, p->opts->cpus, CPU_LIST_MAX, &bad_cpu);
	if (res > 0) {
		p->opts->nr_cpus = (unsigned int)res;
		return 0;
	}
	if (res == -ENODEV)
		snprintf(p->err, sizeof(p->err),
			 "--cpus: '%.100s': expected CPUs this process may use, CPU %d is not one",
			 text, bad_cpu);
	else
		snprintf(p->err, sizeof(p->err),
			 "--cpus: '%.100s': expected a list such as 2,4-6, each CPU once", text);
	return wrong(p);
}

static int parse_value(struct parser *p, const char *option, const char *value,
		       const struct opt_desc *desc, void *target)
{
	return opts_parse_value(option, value, desc, target, p->err) < 0 ? wrong(p) : 0;
}

static int parse_option(struct parser *p, int id, char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc fd = { .type = OPT_UINT, .max = INT_MAX };
	static const struct opt_desc poll = { .type = OPT_ENUM, .names = loop_mode_names };
	static const struct opt_desc level = { .type = OPT_ENUM, .names = log_level_names };

	switch (id) {
	case O_SOCKET_PATH:
		p->has_single = true;
		return parse_value(p, "--socket-path", value, &string, &p->single.socket);
	case O_FD:
		p->has_single = true;
		return parse_value(p, "--fd", value, &fd, &p->single.fd);
	case O_BLK_FILE:
		p->has_single = true;
		return parse_value(p, "--blk-file", value, &string, &p->blk_file);
	case O_READ_ONLY:
		p->has_single = true;
		p->single.read_only = true;
		return 0;
	case O_DEVICE:
		return parse_device(p, value);
	case O_CPUS:
		return parse_cpus(p, value);
	case O_POLL:
		return parse_value(p, "--poll", value, &poll, &p->opts->poll);
	case O_CONTROL:
		return parse_value(p, "--control", value, &string, &p->opts->control);
	case O_LOG_LEVEL:
		return parse_value(p, "--log-level", value, &level, &p->opts->log_level);
	}
	assert(false);
	return -EINVAL;
}

/* getopt_long() could not use arg: say why and what is near. */
static int unknown_option(struct parser *p, const char *arg)
{
	const char *names[ARRAY_SIZE(long_options)] = { NULL };
	const char *near;
	char word[64];

	/* One letter; of a group such as -xyz, arg may be the one before. */
	if (optopt && optopt < O_SOCKET_PATH && optopt != O_HELP) {
		snprintf(p->err, sizeof(p->err), "-%c: unknown option, see --help",
			 isprint(optopt) ? optopt : '?');
		return wrong(p);
	}
	snprintf(word, sizeof(word), "%.*s", (int)min_u64(strcspn(arg + 2, "="), 63), arg + 2);
	for (size_t i = 0; long_options[i].name; i++) {
		names[i] = long_options[i].name;
		if (!strcmp(word, names[i])) {
			snprintf(p->err, sizeof(p->err), "%.100s: expected --%s without a value",
				 arg, word);
			return wrong(p);
		}
	}
	near = opts_nearest(word, names);
	snprintf(p->err, sizeof(p->err), "--%s: unknown option%s%s%s", word,
		 near ? "; did you mean '--" : ", see --help", near ? near : "", near ? "'?" : "");
	return wrong(p);
}

static int once(struct parser *p, int id)
{
	uint32_t bit = 1u << (id - O_SOCKET_PATH);

	static_assert(O_END - O_SOCKET_PATH <= 32, "a bit per option");
	if (!(p->seen & bit) || id == O_DEVICE) {
		p->seen |= bit;
		return 0;
	}
	for (size_t i = 0; long_options[i].name; i++) {
		if (long_options[i].val == id)
			snprintf(p->err, sizeof(p->err), "--%s: expected once, given twice",
				 long_options[i].name);
	}
	return wrong(p);
}

static int walk_argv(struct parser *p, int argc, char **argv)
{
	int id, res;

	opterr = 0;
	/* '+': an argument that is no option is an error wherever it stands. */
	while ((id = getopt_long(argc, argv, "+:h", long_options, NULL)) != -1) {
		if (id == O_HELP) {
			print_help();
			return BLK_EXIT;
		}
		if (id == O_PRINT_CAPABILITIES) {
			print_capabilities();
			return BLK_EXIT;
		}
		if (id == O_VERSION) {
			puts(PROGRAM " " RINGBOLT_VERSION);
			return BLK_EXIT;
		}
		if (id == ':') {
			snprintf(p->err, sizeof(p->err), "%.100s: expected a value",
				 argv[optind - 1]);
			return wrong(p);
		}
		if (id == '?')
			return unknown_option(p, argv[optind - 1]);
		res = once(p, id);
		if (!res)
			res = parse_option(p, id, optarg);
		if (res < 0)
			return res;
	}
	if (optind < argc) {
		snprintf(p->err, sizeof(p->err), "'%.100s': expected an option, see --help",
			 argv[optind]);
		return wrong(p);
	}
	return BLK_RUN;
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
	else if (!dev->socket && dev->fd == BLK_NO_FD)
		problem = "--socket-path: expected PATH of the socket to listen at (or --fd)";
	else if (dev->socket && dev->fd != BLK_NO_FD)
		problem = "--fd: expected either --fd or --socket-path, not both";
	if (problem) {
		snprintf(p->err, sizeof(p->err), "%s", problem);
		return wrong(p);
	}
	if (asprintf(store, "uring:%s", p->blk_file) < 0) {
		*store = NULL;
		return -ENOMEM;
	}
	dev->store = *store;
	return add_device(p->opts, dev);
}

/*
 * Names and descriptors are of one device each; and a descriptor must be a
 * socket now, before this process opens something of that number itself.
 */
static int check_devices(struct parser *p)
{
	const struct blk_device_opts *a, *b;

	for (unsigned int i = 0; i < p->opts->nr_devices; i++) {
		a = &p->opts->devices[i];
		for (unsigned int j = 0; j < i; j++) {
			b = &p->opts->devices[j];
			if (a->name && b->name && !strcmp(a->name, b->name)) {
				refuse(p->err, "--device", "name", a->name,
				       "a name that no other device has");
				return wrong(p);
			}
			if (a->fd != BLK_NO_FD && a->fd == b->fd) {
				snprintf(p->err, sizeof(p->err),
					 "--device: fd=%d: expected a socket of its own",
					 (int)a->fd);
				return wrong(p);
			}
		}
		if (a->fd == BLK_NO_FD)
			continue;
		if (unix_is_listening((int)a->fd) < 0) {
			fprintf(stderr, PROGRAM ": fd %d: not a UNIX stream socket\n", (int)a->fd);
			return -ENOTSOCK;
		}
		fcntl((int)a->fd, F_SETFD, FD_CLOEXEC);
	}
	if (!p->opts->nr_devices && !p->opts->control) {
		snprintf(p->err, sizeof(p->err),
			 "expected a device (--device or --socket-path and --blk-file) or "
			 "--control, see --help");
		return wrong(p);
	}
	return 0;
}

/* vhost-user, "Backend program conventions": other options are ignored, wrong
 * ones included. An abbreviation is left to getopt_long(). */
static bool wants_capabilities(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--print-capabilities"))
			return true;
	}
	return false;
}

int blk_options_parse(int argc, char **argv, struct blk_options *opts)
{
	struct parser p = { .opts = opts };
	int res;

	*opts = (struct blk_options){ .poll = LOOP_ADAPTIVE, .log_level = LOG_LEVEL_INFO };
	if (wants_capabilities(argc, argv)) {
		print_capabilities();
		return BLK_EXIT;
	}
	blk_device_opts_init(&p.single);
	res = walk_argv(&p, argc, argv);
	if (res != BLK_RUN)
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
