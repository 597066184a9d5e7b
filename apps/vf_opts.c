/*
 * The command line of ringbolt-vf: a command, its arguments, its options, in any
 * order; behind "--" a program to run. Called once by vf_main(). Looks at no
 * device.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_opts.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/attach.h"

#define TIMEOUT_MAX 86400

static const char *const log_level_names[] = { "error", "warning", "info", "debug", NULL };
static_assert(ARRAY_SIZE(log_level_names) == LOG_LEVEL_CNT + 1, "a word per level");

static const char *const backend_names[] = { "auto", "group", "cdev", NULL };
static const enum iommu_backend backends[] = { IOMMU_BACKEND_AUTO, IOMMU_BACKEND_TYPE1,
					       IOMMU_BACKEND_IOMMUFD };
static_assert(ARRAY_SIZE(backend_names) == ARRAY_SIZE(backends) + 1, "a word per way");

enum option_id {
	O_HELP = 'h',
	O_STATE_DIR = 256,
	O_LOG_LEVEL,
	O_VERSION,
	O_COMMAND, /* from here on: a bit of enum vf_option_bit by distance */
};

static const struct option long_options[] = {
	{ "json", no_argument, NULL, O_COMMAND + 0 },
	{ "all", no_argument, NULL, O_COMMAND + 1 },
	{ "owner", required_argument, NULL, O_COMMAND + 2 },
	{ "pf", required_argument, NULL, O_COMMAND + 3 },
	{ "cpus", required_argument, NULL, O_COMMAND + 4 },
	{ "pid", required_argument, NULL, O_COMMAND + 5 },
	{ "driver", required_argument, NULL, O_COMMAND + 6 },
	{ "user", required_argument, NULL, O_COMMAND + 7 },
	{ "replace", no_argument, NULL, O_COMMAND + 8 },
	{ "force", no_argument, NULL, O_COMMAND + 9 },
	{ "no-reset", no_argument, NULL, O_COMMAND + 10 },
	{ "unsafe-no-iommu", no_argument, NULL, O_COMMAND + 11 },
	{ "format", required_argument, NULL, O_COMMAND + 12 },
	{ "backend", required_argument, NULL, O_COMMAND + 13 },
	{ "dry-run", no_argument, NULL, O_COMMAND + 14 },
	{ "token", required_argument, NULL, O_COMMAND + 15 },
	{ "timeout", required_argument, NULL, O_COMMAND + 16 },
	{ "state-dir", required_argument, NULL, O_STATE_DIR },
	{ "log-level", required_argument, NULL, O_LOG_LEVEL },
	{ "version", no_argument, NULL, O_VERSION },
	{ "help", no_argument, NULL, O_HELP },
	{ NULL },
};

static const char *const option_help[] = {
	"             answer in JSON",
	"              functions that are neither PF nor VF as well",
	"=NAME       who claims",
	"=PF            a VF of this PF",
	"=LIST        a VF on a NUMA node of these CPUs",
	"=PID          the claim ends with this process",
	"=NAME      the driver to give (none: no driver, default: the kernel's)",
	"=USER[:GROUP] who may open the VFIO device; who attach runs the program as",
	"          take all VFs away to make another number of them",
	"            whoever owns it",
	"         leave the function's state as its owner left it",
	"  without an IOMMU: its user can read and write all memory",
	"=WORD      qemu (default), libvirt, cloud-hypervisor or dpdk",
	"=WORD     auto (default), group or cdev",
	"          say what would be done",
	"=UUID       secret of a PF on vfio-pci",
	"=SECONDS  how long one write of sysfs may take",
};

static int wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int wrong(const char *fmt, ...)
{
	char text[2 * OPTS_ERR_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, VF_PROGRAM ": %s\n", text);
	return -EINVAL;
}

static const char *option_name(int id)
{
	for (size_t i = 0; long_options[i].name; i++) {
		if (long_options[i].val == id)
			return long_options[i].name;
	}
	return "?";
}

/* ---- Help ---- */

static void print_help(void)
{
	puts("Usage: " VF_PROGRAM " COMMAND [ARGUMENT...] [OPTION...]\n"
	     "Find, create, configure, claim and hand over SR-IOV virtual functions.\n\n"
	     "A FUNCTION, PF or VF is a PCI address (0000:3b:00.0, 3b:00.0), a network device, or\n"
	     "PF/INDEX for a VF.\n\n"
	     "Commands:");
	for (const struct vf_command *c = vf_commands; c->name; c++)
		printf("  %-7s %-22s %s\n", c->name, c->arguments, c->help);
	puts("\nKeys of a VF's configuration:");
	for (const struct opt_desc *d = sriov_conf_keys; d->key; d++) {
		printf("  %-10s %s", d->key, d->help);
		for (size_t i = 0; d->names && d->names[i]; i++)
			printf("%s%s", i ? ", " : ": ", d->names[i]);
		puts(d->type == OPT_BOOL ? " (on|off)" : "");
	}
	puts("\nOptions of commands:");
	for (size_t i = 0; i < ARRAY_SIZE(option_help); i++)
		printf("  --%s%s\n", option_name(O_COMMAND + (int)i), option_help[i]);
	puts("\nOptions of all:\n"
	     "  --state-dir=PATH   where is kept who owns what (/run/ringbolt-vf)\n"
	     "  --log-level=LEVEL  error, warning, info (default) or debug\n"
	     "  --version, --help");
}

/* ---- Values ---- */

static int parse_value(const char *option, const char *value, const struct opt_desc *desc,
		       void *target)
{
	char err[OPTS_ERR_LEN];

	return opts_parse_value(option, value, desc, target, err) < 0 ? wrong("%s", err) : 0;
}

/* "name", "name:group", or numbers. */
static int parse_user(const char *text, struct vf_options *opts)
{
	const char *colon = strchr(text, ':');
	char name[64], *end;
	struct passwd *user;
	struct group *group;

	snprintf(name, sizeof(name), "%.*s",
		 colon ? (int)min_u64((uint64_t)(colon - text), 63) : 63, text);
	user = getpwnam(name);
	opts->uid = user ? user->pw_uid : (uid_t)strtoul(name, &end, 10);
	if (!user && (!isdigit((unsigned char)*name) || *end))
		return wrong("--user: '%.80s': expected USER or USER:GROUP that exist", text);
	if (!user && !colon) {
		user = getpwuid(opts->uid);
		if (!user)
			return wrong(
				"--user: '%.80s': expected UID:GID, as no user has this number",
				text);
	}
	opts->gid = user ? user->pw_gid : 0;
	if (!colon)
		return 0;
	group = getgrnam(colon + 1);
	opts->gid = group ? group->gr_gid : (gid_t)strtoul(colon + 1, &end, 10);
	if (!group && (!isdigit((unsigned char)colon[1]) || *end))
		return wrong("--user: '%.80s': expected USER or USER:GROUP that exist", text);
	return 0;
}

/* 8-4-4-4-12 hexadecimal digits. */
static int parse_token(const char *text, const char **token)
{
	static const char pattern[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i = 0;

	static_assert(sizeof(pattern) == IOMMU_TOKEN_LEN + 1, "a UUID");
	while (pattern[i] &&
	       (pattern[i] == 'x' ? isxdigit((unsigned char)text[i]) != 0 : text[i] == pattern[i]))
		i++;
	/* It is a secret: not repeated. */
	if (pattern[i] || text[i])
		return wrong(
			"--token: expected a UUID such as 00112233-4455-6677-8899-aabbccddeeff");
	*token = text;
	return 0;
}

static int parse_command_option(struct vf_options *opts, unsigned int bit, const char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc pid = { .type = OPT_UINT, .min = 1, .max = INT_MAX };
	static const struct opt_desc timeout = { .type = OPT_UINT, .min = 1, .max = TIMEOUT_MAX };
	static const struct opt_desc format = { .type = OPT_ENUM, .names = sriov_attach_names };
	static const struct opt_desc backend = { .type = OPT_ENUM, .names = backend_names };
	int res, word = 0;

	switch (bit) {
	case VF_OPT_OWNER:
		return parse_value("--owner", value, &string, &opts->owner);
	case VF_OPT_PF:
		return parse_value("--pf", value, &string, &opts->pf);
	case VF_OPT_CPUS:
		return parse_value("--cpus", value, &string, &opts->cpus);
	case VF_OPT_PID:
		return parse_value("--pid", value, &pid, &opts->pid);
	case VF_OPT_DRIVER:
		return parse_value("--driver", value, &string, &opts->driver);
	case VF_OPT_USER:
		opts->has_user = true;
		return parse_user(value, opts);
	case VF_OPT_FORMAT:
		return parse_value("--format", value, &format, &opts->format);
	case VF_OPT_BACKEND:
		res = parse_value("--backend", value, &backend, &word);
		opts->backend = (int)backends[word];
		return res;
	case VF_OPT_TOKEN:
		return parse_token(value, &opts->token);
	case VF_OPT_TIMEOUT:
		return parse_value("--timeout", value, &timeout, &opts->timeout);
	}
	return 0;
}

static int parse_option(struct vf_options *opts, int id, const char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc level = { .type = OPT_ENUM, .names = log_level_names };
	unsigned int bit;

	switch (id) {
	case O_STATE_DIR:
		return parse_value("--state-dir", value, &string, &opts->state_dir);
	case O_LOG_LEVEL:
		return parse_value("--log-level", value, &level, &opts->log_level);
	}
	bit = 1u << (id - O_COMMAND);
	if (opts->given & bit)
		return wrong("--%s: expected once, given twice", option_name(id));
	opts->given |= bit;
	return parse_command_option(opts, bit, value);
}

/* getopt_long() could not use arg: say why and what is near. */
static int unknown_option(const char *arg)
{
	const char *names[ARRAY_SIZE(long_options)] = { NULL };
	const char *near;
	char word[64];

	/* One letter; of a group such as -xyz, arg may be the one before. */
	if (optopt && strncmp(arg, "--", 2) != 0)
		return wrong("-%c: unknown option, see --help", isprint(optopt) ? optopt : '?');
	snprintf(word, sizeof(word), "%.*s", (int)min_u64(strcspn(arg + 2, "="), 63), arg + 2);
	for (size_t i = 0; long_options[i].name; i++) {
		names[i] = long_options[i].name;
		if (!strcmp(word, names[i]))
			return wrong("%.100s: expected --%s without a value", arg, word);
	}
	near = opts_nearest(word, names);
	return wrong("--%s: unknown option%s%s%s", word,
		     near ? "; did you mean '--" : ", see --help", near ? near : "",
		     near ? "'?" : "");
}

/* ---- The command ---- */

static int find_command(const char *name, struct vf_options *opts)
{
	char list[OPTS_ERR_LEN] = "";
	const char *names[64] = { NULL };
	const char *near;
	size_t used = 0;

	for (size_t i = 0; vf_commands[i].name; i++) {
		assert(i < ARRAY_SIZE(names) - 1);
		names[i] = vf_commands[i].name;
		if (!strcmp(name, names[i])) {
			opts->command = &vf_commands[i];
			return 0;
		}
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 names[i]);
	}
	near = opts_nearest(name, names);
	return wrong("'%.80s': expected a command: %s%s%s%s", name, list,
		     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int check_command(const struct vf_options *opts)
{
	const struct vf_command *c = opts->command;

	for (size_t i = 0; i < ARRAY_SIZE(option_help); i++) {
		if (opts->given & ~c->options & 1u << i)
			return wrong("--%s: %s does not have this option",
				     option_name(O_COMMAND + (int)i), c->name);
		if (c->needed & ~opts->given & 1u << i)
			return wrong("%s: --%s is missing, see --help", c->name,
				     option_name(O_COMMAND + (int)i));
	}
	if (opts->exec && !c->takes_exec)
		return wrong("'--': %s runs no other program", c->name);
	if (opts->nr_args < c->min_args || opts->nr_args > c->max_args)
		return wrong("%s: expected %s, found %d argument(s)", c->name,
			     *c->arguments ? c->arguments : "no argument", opts->nr_args);
	return 0;
}

/* What is behind "--" is another program's command line. */
static int split_exec(int argc, char **argv, struct vf_options *opts)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		if (i + 1 < argc)
			opts->exec = argv + i + 1;
		return i;
	}
	return argc;
}

int vf_options_parse(int argc, char **argv, struct vf_options *opts)
{
	int id, res, end;

	*opts = (struct vf_options){ .log_level = LOG_LEVEL_INFO, .backend = IOMMU_BACKEND_AUTO };
	end = split_exec(argc, argv, opts);
	opterr = 0;
	optind = 1;
	while ((id = getopt_long(end, argv, ":h", long_options, NULL)) != -1) {
		if (id == O_HELP) {
			print_help();
			return VF_EXIT;
		}
		if (id == O_VERSION) {
			puts(VF_PROGRAM " " RINGBOLT_VERSION);
			return VF_EXIT;
		}
		if (id == ':')
			return wrong("%.100s: expected a value", argv[optind - 1]);
		if (id == '?')
			return unknown_option(argv[optind - 1]);
		res = parse_option(opts, id, optarg);
		if (res < 0)
			return res;
	}
	if (optind == end)
		return wrong("expected a command, see --help");
	res = find_command(argv[optind], opts);
	if (res < 0)
		return res;
	opts->args = argv + optind + 1;
	opts->nr_args = end - optind - 1;
	return check_command(opts);
}
