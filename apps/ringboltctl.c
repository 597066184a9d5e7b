/*
 * ringboltctl: calls to the control socket of a running program. Parses no value
 * itself: keys and values go to the program, which knows what is right.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "apps/ctl.h"
#include "core/base.h"
#include "core/opts.h"

#define PROGRAM CTL_PROGRAM
#define WIDTH_DEFAULT 100

#define ARGS_MAX 3

struct command {
	const char *name, *arguments, *help;
	int min_args, max_args;
	/* What the arguments are called as parameters, in their order. A last one
	 * that is "..." is a list of key=value, each a parameter. */
	const char *keys[ARGS_MAX];
	/* More than one call and its answer; NULL: just that. */
	int (*run)(const struct ctl_call *call);
};

static int set_param(const char *command, json_t *params, const char *key, const char *value,
		     char *err)
{
	if (json_object_get(params, key)) {
		snprintf(err, OPTS_ERR_LEN, "%s: %.100s=%.100s: the key is given twice", command,
			 key, value);
		return -EINVAL;
	}
	if (json_object_set_new(params, key, json_string(value)) < 0) {
		snprintf(err, OPTS_ERR_LEN, "%s: %.100s=%.100s: expected text in UTF-8", command,
			 key, value);
		return -EINVAL;
	}
	return 0;
}

/* "key=value,key=value" as on the program's command line, values as strings. */
static int set_list(const char *command, json_t *params, char *text, char *err)
{
	char *item, *equals;
	int res;

	while ((item = opts_next_item(&text))) {
		equals = strchr(item, '=');
		if (!equals) {
			snprintf(err, OPTS_ERR_LEN, "%s: '%.100s': expected KEY=VALUE", command,
				 item);
			return -EINVAL;
		}
		*equals = '\0';
		res = set_param(command, params, item, equals + 1, err);
		if (res < 0)
			return res;
	}
	return 0;
}

/* NULL and a sentence in err if they cannot be made. */
static json_t *make_params(const struct command *command, int cnt, char **args, char *err)
{
	json_t *params = json_object();
	int res = 0;

	for (int i = 0; i < cnt && !res; i++) {
		if (!strcmp(command->keys[i], "..."))
			res = set_list(command->name, params, args[i], err);
		else
			res = set_param(command->name, params, command->keys[i], args[i], err);
	}
	if (!res)
		return params;
	json_decref(params);
	return NULL;
}

/* clang-format off */
static const struct command commands[] = {
	{ "status", "[NAME]", "everything about devices or ports, and loops", 0, 1, { "name" } },
	{ "ports", "", "a line for each port of a switch", 0, 0 },
	{ "top", "[SECONDS [COUNT]]", "rates of a switch, COUNT times", 0, 2,
	  { "seconds", "count" }, ctl_top },
	{ "add", "KEY=VALUE,...", "add a device or port, keys as on the command line", 1, 1,
	  { "..." } },
	{ "add-uplink", "KEY=VALUE,...", "add an uplink, keys as of ringbolt-net --uplink", 1, 1,
	  { "..." } },
	{ "remove", "NAME", "end a device's requests, or a port, and remove it", 1, 1,
	  { "name" } },
	{ "resize", "NAME [SIZE]", "grow or shrink; without SIZE, take the file's", 1, 2,
	  { "name", "size" } },
	{ "set", "NAME KEY=VALUE,...", "change what the switch was told about a port", 2, 2,
	  { "name", "..." } },
	{ "move", "NAME LOOP [QUEUE]", "serve its queues, or one pair, on another loop", 2, 3,
	  { "name", "loop", "queue" } },
	{ "link", "NAME on|off", "tell the guest that the cable is in or out", 2, 2,
	  { "name", "up" } },
	{ "macs", "[NAME]", "the MAC table, of all ports or one", 0, 1, { "name" } },
	{ "mac-add", "MAC VLAN NAME", "a static entry", 3, 3, { "mac", "vlan", "name" } },
	{ "mac-del", "MAC VLAN", "take out an entry", 2, 2, { "mac", "vlan" } },
	{ "mac-flush", "[NAME]", "forget what was learned, from all ports or one", 0, 1,
	  { "name" } },
	{ "acl", "NAME [FILE]", "show access rules, or take others from a file", 1, 2,
	  { "name", "rules" }, ctl_acl },
	{ "capture", "NAME > FILE", "what a port takes and gives, as pcapng", 1, 1, { "name" },
	  ctl_capture },
	{ "version", "", "of the running program", 0, 0 },
};
/* clang-format on */

/* Options of capture alone, by the names of its parameters. */
enum {
	CAPTURE_FILTER,
	CAPTURE_SNAPLEN,
	CAPTURE_COUNT,
	CAPTURE_OPTIONS,
};
static const char *const capture_names[] = { "filter", "snaplen", "count" };
static_assert(ARRAY_SIZE(capture_names) == CAPTURE_OPTIONS, "a name per option");

/* What the command line has beside the command. */
struct options {
	const char *control;
	bool as_json;
	const char *capture[CAPTURE_OPTIONS]; /* NULL: not given */
};

static const struct option long_options[] = {
	{ "filter", required_argument, NULL, 256 + CAPTURE_FILTER },
	{ "snaplen", required_argument, NULL, 256 + CAPTURE_SNAPLEN },
	{ "count", required_argument, NULL, 256 + CAPTURE_COUNT },
	{ "control", required_argument, NULL, 'c' },
	{ "json", no_argument, NULL, 'j' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL },
};

static void print_help(void)
{
	puts("Usage: " PROGRAM " [--control=PATH] [--json] COMMAND [ARGUMENT...]\n"
	     "See and change a running ringbolt program.\n\n"
	     "  --control=PATH  its control socket (default: $RINGBOLT_CONTROL)\n"
	     "  --json          print the answer as JSON\n"
	     "  --filter=EXPR, --snaplen=BYTES, --count=FRAMES\n"
	     "                  of capture: see pcap-filter(7)\n"
	     "  --version, --help\n\n"
	     "Commands:");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %-20s %s\n", commands[i].name, commands[i].arguments,
		       commands[i].help);
}

static int unknown_option(const char *arg)
{
	const char *names[ARRAY_SIZE(long_options)] = { NULL };
	const char *near;
	char word[64];

	/* One letter; of a group such as -xyz, arg may be the one before. */
	if (optopt && strncmp(arg, "--", 2)) {
		fprintf(stderr, PROGRAM ": -%c: unknown option, see --help\n",
			isprint(optopt) ? optopt : '?');
		return EXIT_USAGE;
	}
	snprintf(word, sizeof(word), "%.*s", (int)min_u64(strcspn(arg + 2, "="), 63), arg + 2);
	for (size_t i = 0; long_options[i].name; i++) {
		names[i] = long_options[i].name;
		if (!strcmp(word, names[i])) {
			fprintf(stderr, PROGRAM ": %.100s: expected --%s without a value\n", arg,
				word);
			return EXIT_USAGE;
		}
	}
	near = opts_nearest(word, names);
	fprintf(stderr, PROGRAM ": --%s: unknown option%s%s%s\n", word,
		near ? "; did you mean '--" : ", see --help", near ? near : "", near ? "'?" : "");
	return EXIT_USAGE;
}

/* NULL: it is not one, and that has been said. */
static const struct command *find_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands) + 1] = { NULL };
	const char *near;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(name, commands[i].name))
			return &commands[i];
		names[i] = commands[i].name;
	}
	near = opts_nearest(name, names);
	fprintf(stderr, PROGRAM ": '%.100s': expected a command: ", name);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(stderr, "%s%s", i ? ", " : "", names[i]);
	fprintf(stderr, "%s%s%s\n", near ? "; did you mean '" : "", near ? near : "",
		near ? "'?" : "");
	return NULL;
}

static int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return WIDTH_DEFAULT;
	return size.ws_col;
}

static int add_capture_options(const struct command *command, const struct options *opts,
			       json_t *params, char *err)
{
	int res = 0;

	for (int i = 0; i < CAPTURE_OPTIONS && !res; i++) {
		if (!opts->capture[i])
			continue;
		if (command->run == ctl_capture) {
			res = set_param(command->name, params, capture_names[i], opts->capture[i],
					err);
			continue;
		}
		snprintf(err, OPTS_ERR_LEN, "--%s: expected with the command capture only",
			 capture_names[i]);
		return -EINVAL;
	}
	return res;
}

static int run(const struct command *command, const struct options *opts, int cnt, char **args)
{
	struct ctl_call call = {
		.control = opts->control,
		.method = command->name,
		.width = terminal_width(),
		.as_json = opts->as_json,
	};
	char err[OPTS_ERR_LEN];
	int status;

	call.params = make_params(command, cnt, args, err);
	if (!call.params || add_capture_options(command, opts, call.params, err) < 0) {
		fprintf(stderr, PROGRAM ": %s\n", err);
		json_decref(call.params);
		return EXIT_USAGE;
	}
	status = command->run ? command->run(&call) : ctl_run(&call);
	json_decref(call.params);
	return status;
}

/* What is left after the options: a command and its arguments. */
static int parse_command(const struct options *opts, int cnt, char **args)
{
	const struct command *command;

	if (!cnt) {
		fputs(PROGRAM ": expected a command, see --help\n", stderr);
		return EXIT_USAGE;
	}
	command = find_command(args[0]);
	if (!command)
		return EXIT_USAGE;
	cnt--;
	args++;
	if (cnt < command->min_args || cnt > command->max_args) {
		fprintf(stderr, PROGRAM ": %s: expected %s%s\n", command->name,
			*command->arguments ? command->arguments : "no argument",
			cnt ? ", found something else" : "");
		return EXIT_USAGE;
	}
	if (!opts->control || !*opts->control) {
		fputs(PROGRAM ": --control: expected PATH of the control socket, here or in "
			      "RINGBOLT_CONTROL\n",
		      stderr);
		return EXIT_USAGE;
	}
	return run(command, opts, cnt, args);
}

int main(int argc, char **argv)
{
	struct options opts = { .control = getenv("RINGBOLT_CONTROL") };
	int id;

	opterr = 0;
	/* Options may stand behind the command as well. */
	while ((id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		switch (id) {
		case 'c':
			opts.control = optarg;
			break;
		case 'j':
			opts.as_json = true;
			break;
		case 256 + CAPTURE_FILTER:
		case 256 + CAPTURE_SNAPLEN:
		case 256 + CAPTURE_COUNT:
			opts.capture[id - 256] = optarg;
			break;
		case 'V':
			puts(PROGRAM " " RINGBOLT_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			print_help();
			return EXIT_SUCCESS;
		case ':':
			fprintf(stderr, PROGRAM ": %s: expected a value\n", argv[optind - 1]);
			return EXIT_USAGE;
		default:
			return unknown_option(argv[optind - 1]);
		}
	}
	return parse_command(&opts, argc - optind, argv + optind);
}
