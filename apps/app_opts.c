/*
 * Walking argv: the options that every back-end program has, and messages about
 * wrong ones. Called once by each main(), through the program's own parser.
 * Opens and creates nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/app_opts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "vhost/vhost.h"

#define OPTIONS_MAX 63

static const char *const log_level_names[] = { "error", "warning", "info", "debug", NULL };
static_assert(ARRAY_SIZE(log_level_names) == LOG_LEVEL_CNT + 1, "a word per level");

int app_wrong(struct app_parser *p)
{
	fprintf(stderr, "%s: %s\n", p->program, p->err);
	return -EINVAL;
}

int app_parse_value(struct app_parser *p, const char *option, const char *value,
		    const struct opt_desc *desc, void *target)
{
	return opts_parse_value(option, value, desc, target, p->err) < 0 ? app_wrong(p) : 0;
}

int app_refuse(char *err, const char *option, const char *key, const char *value,
	       const char *expected)
{
	snprintf(err, OPTS_ERR_LEN, "%s: %s=%.100s: expected %s", option, key, value, expected);
	return -EINVAL;
}

int app_check_fd(const struct app_parser *p, uint64_t fd)
{
	if (unix_is_listening((int)fd) < 0) {
		fprintf(stderr, "%s: fd %d: not a UNIX stream socket\n", p->program, (int)fd);
		return -ENOTSOCK;
	}
	fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

void app_print_keys(const struct opt_desc *table)
{
	for (const struct opt_desc *d = table; d->key; d++) {
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
}

static int parse_cpus(struct app_parser *p, const char *text)
{
	int bad_cpu = -1;
	int res;

	res = cpu_list_parse(text, p->process->cpus, CPU_LIST_MAX, &bad_cpu);
	if (res > 0) {
		p->process->nr_cpus = (unsigned int)res;
		return 0;
	}
	if (res == -ENODEV)
		snprintf(p->err, sizeof(p->err),
			 "--cpus: '%.100s': expected CPUs this process may use, CPU %d is not one",
			 text, bad_cpu);
	else
		snprintf(p->err, sizeof(p->err),
			 "--cpus: '%.100s': expected a list such as 2,4-6, each CPU once", text);
	return app_wrong(p);
}

static int parse_option(struct app_parser *p, int id, char *value)
{
	static const struct opt_desc string = { .type = OPT_STRING };
	static const struct opt_desc poll = { .type = OPT_ENUM, .names = loop_mode_names };
	static const struct opt_desc level = { .type = OPT_ENUM, .names = log_level_names };

	switch (id) {
	case APP_O_CPUS:
		return parse_cpus(p, value);
	case APP_O_POLL:
		return app_parse_value(p, "--poll", value, &poll, &p->process->poll);
	case APP_O_CONTROL:
		return app_parse_value(p, "--control", value, &string, &p->process->control);
	case APP_O_LOG_LEVEL:
		return app_parse_value(p, "--log-level", value, &level, &p->process->log_level);
	default:
		return p->own(p, id, value);
	}
}

/* getopt_long() could not use arg: say why and what is near. */
static int unknown_option(struct app_parser *p, const char *arg)
{
	const char *names[OPTIONS_MAX + 1] = { NULL };
	const char *near;
	char word[64];

	/* One letter; of a group such as -xyz, arg may be the one before. */
	if (optopt && optopt < APP_O_SOCKET_PATH && optopt != APP_O_HELP) {
		snprintf(p->err, sizeof(p->err), "-%c: unknown option, see --help",
			 isprint(optopt) ? optopt : '?');
		return app_wrong(p);
	}
	snprintf(word, sizeof(word), "%.*s", (int)min_u64(strcspn(arg + 2, "="), 63), arg + 2);
	for (size_t i = 0; p->options[i].name; i++) {
		assert(i < OPTIONS_MAX);
		names[i] = p->options[i].name;
		if (!strcmp(word, names[i])) {
			snprintf(p->err, sizeof(p->err), "%.100s: expected --%s without a value",
				 arg, word);
			return app_wrong(p);
		}
	}
	near = opts_nearest(word, names);
	snprintf(p->err, sizeof(p->err), "--%s: unknown option%s%s%s", word,
		 near ? "; did you mean '--" : ", see --help", near ? near : "", near ? "'?" : "");
	return app_wrong(p);
}

static int once(struct app_parser *p, int id)
{
	uint64_t bit = APP_OPTION_BIT(id);

	if (!(p->seen & bit) || p->repeatable & bit) {
		p->seen |= bit;
		return 0;
	}
	for (size_t i = 0; p->options[i].name; i++) {
		if (p->options[i].val == id)
			snprintf(p->err, sizeof(p->err), "--%s: expected once, given twice",
				 p->options[i].name);
	}
	return app_wrong(p);
}

/* True: it was an option that only makes the program say something. */
static bool answered(struct app_parser *p, int id)
{
	switch (id) {
	case APP_O_HELP:
		p->print_help();
		return true;
	case APP_O_PRINT_CAPABILITIES:
		puts(p->capabilities);
		return true;
	case APP_O_VERSION:
		printf("%s " RINGBOLT_VERSION "\n", p->program);
		return true;
	default:
		return false;
	}
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

int app_options_parse(struct app_parser *p, int argc, char **argv)
{
	int id, res;

	*p->process = (struct app_options){ .poll = LOOP_ADAPTIVE, .log_level = LOG_LEVEL_INFO };
	if (wants_capabilities(argc, argv)) {
		puts(p->capabilities);
		return APP_EXIT;
	}
	opterr = 0;
	/* '+': an argument that is no option is an error wherever it stands. */
	while ((id = getopt_long(argc, argv, "+:h", p->options, NULL)) != -1) {
		if (answered(p, id))
			return APP_EXIT;
		if (id == ':') {
			snprintf(p->err, sizeof(p->err), "%.100s: expected a value",
				 argv[optind - 1]);
			return app_wrong(p);
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
		return app_wrong(p);
	}
	return APP_RUN;
}

int app_options_status(int res)
{
	if (res < 0)
		return res == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	return fflush(stdout) ? EXIT_FAILED : EXIT_SUCCESS;
}
