/*
 * ringboltctl: one call to the control socket of a running program. Parses no
 * value itself: keys and values go to the program, which knows what is right.
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

#include "apps/ctl_print.h"
#include "core/base.h"
#include "core/opts.h"
#include "core/rpc.h"

#define PROGRAM "ringboltctl"
#define EXIT_FAILED 1
#define EXIT_USAGE 2
/* A device to remove first ends its requests in flight. */
#define TIMEOUT_MS 60000
#define WIDTH_DEFAULT 100

struct command {
	const char *name, *arguments, *help;
	int min_args, max_args;
	/* Makes params (NULL: none) from args; NULL and a sentence in err if it
	 * cannot be. */
	json_t *(*params)(int cnt, char **args, char *err);
};

static json_t *params_name_size(int cnt, char **args, char *err)
{
	json_t *params = json_object();

	if (cnt > 0 && json_object_set_new(params, "name", json_string(args[0])) < 0)
		snprintf(err, OPTS_ERR_LEN, "'%.100s': expected text in UTF-8", args[0]);
	else if (cnt > 1 && json_object_set_new(params, "size", json_string(args[1])) < 0)
		snprintf(err, OPTS_ERR_LEN, "'%.100s': expected text in UTF-8", args[1]);
	else
		return params;
	json_decref(params);
	return NULL;
}

/* "key=value,key=value" as on the program's command line, values as strings. */
static json_t *params_keys(int cnt, char **args, char *err)
{
	json_t *params = json_object();
	char *item, *equals, *text = args[0];

	while ((item = opts_next_item(&text))) {
		equals = strchr(item, '=');
		if (!equals) {
			snprintf(err, OPTS_ERR_LEN, "add: '%.100s': expected KEY=VALUE", item);
			goto err_free;
		}
		*equals = '\0';
		if (json_object_get(params, item)) {
			snprintf(err, OPTS_ERR_LEN, "add: %.100s=%.100s: the key is given twice",
				 item, equals + 1);
			goto err_free;
		}
		if (json_object_set_new(params, item, json_string(equals + 1)) < 0) {
			snprintf(err, OPTS_ERR_LEN, "add: %.100s=%.100s: expected text in UTF-8",
				 item, equals + 1);
			goto err_free;
		}
	}
	return params;

err_free:
	json_decref(params);
	return NULL;
}

static const struct command commands[] = {
	{ "status", "[NAME]", "devices, rings, features, counters and loops", 0, 1,
	  params_name_size },
	{ "add", "KEY=VALUE,...", "add a device, keys as of ringbolt-blk --device", 1, 1,
	  params_keys },
	{ "remove", "NAME", "end a device's requests and remove it", 1, 1, params_name_size },
	{ "resize", "NAME [SIZE]", "grow or shrink; without SIZE, take the file's", 1, 2,
	  params_name_size },
	{ "version", "", "of the running program", 0, 0, params_name_size },
};

static const struct option long_options[] = {
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
	     "  --version, --help\n\n"
	     "Commands:");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-6s %-14s %s\n", commands[i].name, commands[i].arguments,
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

static int run(const struct command *command, const char *control, int cnt, char **args,
	       bool as_json)
{
	char err[OPTS_ERR_LEN + RPC_MSG_LEN]; /* of either */
	json_t *params, *result;
	int res;

	params = command->params(cnt, args, err);
	if (!params) {
		fprintf(stderr, PROGRAM ": %s\n", err);
		return EXIT_USAGE;
	}
	res = rpc_client_call(control, command->name, params, TIMEOUT_MS, &result, err);
	json_decref(params);
	if (res < 0) {
		fprintf(stderr, PROGRAM ": %s\n", err);
		return EXIT_FAILED;
	}
	if (as_json) {
		json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		putchar('\n');
	} else {
		ctl_print(result, terminal_width());
	}
	json_decref(result);
	if (fflush(stdout)) {
		fprintf(stderr, PROGRAM ": stdout: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	return EXIT_SUCCESS;
}

/* What is left after the options: a command and its arguments. */
static int parse_command(const char *control, int cnt, char **args, bool as_json)
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
	if (!control || !*control) {
		fputs(PROGRAM ": --control: expected PATH of the control socket, here or in "
			      "RINGBOLT_CONTROL\n",
		      stderr);
		return EXIT_USAGE;
	}
	return run(command, control, cnt, args, as_json);
}

int main(int argc, char **argv)
{
	const char *control = getenv("RINGBOLT_CONTROL");
	bool as_json = false;
	int id;

	opterr = 0;
	/* Options may stand behind the command as well. */
	while ((id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1) {
		switch (id) {
		case 'c':
			control = optarg;
			break;
		case 'j':
			as_json = true;
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
	return parse_command(control, argc - optind, argv + optind, as_json);
}
