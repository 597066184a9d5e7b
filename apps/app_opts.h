/*
 * The part of a command line that all back-end programs share: vhost-user's
 * "Backend program conventions", the options of the process, and what is said
 * about wrong ones.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_APP_OPTS_H
#define RINGBOLT_APPS_APP_OPTS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/opts.h"

/* Exit statuses. */
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* The value of an fd= or --fd for "none". */
#define APP_NO_FD UINT64_MAX

struct app_options {
	int cpus[CPU_LIST_MAX];
	unsigned int nr_cpus; /* 0: one loop, not pinned */
	int poll; /* enum loop_mode */
	int log_level;
	const char *control; /* path or NULL */
};

enum app_action {
	APP_RUN,
	APP_EXIT, /* --help and the like: all is said */
};

/* Values for getopt_long(); a program's own options count from APP_O_OWN. */
enum app_option_id {
	APP_O_HELP = 'h',
	APP_O_SOCKET_PATH = 256,
	APP_O_FD,
	APP_O_PRINT_CAPABILITIES,
	APP_O_CPUS,
	APP_O_POLL,
	APP_O_CONTROL,
	APP_O_LOG_LEVEL,
	APP_O_VERSION,
	APP_O_OWN,
	APP_O_END = APP_O_SOCKET_PATH + 64,
};

/* Rows of a program's table of long options. */
/* clang-format off */
#define APP_LONG_OPTIONS                                                                 \
	{ "socket-path", required_argument, NULL, APP_O_SOCKET_PATH },                   \
	{ "fd", required_argument, NULL, APP_O_FD },                                     \
	{ "print-capabilities", no_argument, NULL, APP_O_PRINT_CAPABILITIES },           \
	{ "cpus", required_argument, NULL, APP_O_CPUS },                                 \
	{ "poll", required_argument, NULL, APP_O_POLL },                                 \
	{ "control", required_argument, NULL, APP_O_CONTROL },                           \
	{ "log-level", required_argument, NULL, APP_O_LOG_LEVEL },                       \
	{ "version", no_argument, NULL, APP_O_VERSION },                                 \
	{ "help", no_argument, NULL, APP_O_HELP }
/* clang-format on */

/* For a program's --help. */
#define APP_HELP_PROCESS                                                                           \
	"\nThe process:\n"                                                                         \
	"  --cpus=LIST           one poll thread on each CPU of LIST, such as 2,4-6\n"             \
	"                        (default: one, on any CPU)\n"                                     \
	"  --poll=MODE           busy, adaptive (default) or interrupt\n"                          \
	"  --control=PATH        control socket for ringboltctl\n"                                 \
	"  --log-level=LEVEL     error, warning, info (default) or debug\n"                        \
	"  --version, --help\n"

/* One walk over argv, embedded in the program's own. */
struct app_parser {
	const char *program;
	const struct option *options; /* ends with a NULL name; at most 63 */
	uint64_t repeatable; /* APP_OPTION_BIT() of those that may come many times */
	const char *capabilities; /* JSON for --print-capabilities */
	void (*print_help)(void);
	/* An option that is not of the process: 0 or -errno, said on stderr. */
	int (*own)(struct app_parser *p, int id, char *value);
	struct app_options *process; /* filled in */

	uint64_t seen;
	char err[OPTS_ERR_LEN];
};

#define APP_OPTION_BIT(id) (1ull << ((id)-APP_O_SOCKET_PATH))

/*
 * An action, APP_RUN with every option taken; or, with one line on stderr,
 * -EINVAL for a usage error and another -errno for a failure. argv must live as
 * long as what was taken from it.
 */
int app_options_parse(struct app_parser *p, int argc, char **argv);
/* What main() returns if that was not APP_RUN. */
int app_options_status(int res);

/* Print p->err and return -EINVAL. */
int app_wrong(struct app_parser *p);
/* One value, with its message on stderr. */
int app_parse_value(struct app_parser *p, const char *option, const char *value,
		    const struct opt_desc *desc, void *target);
/* "--device: key=value: expected ..." into err (OPTS_ERR_LEN); -EINVAL. */
int app_refuse(char *err, const char *option, const char *key, const char *value,
	       const char *expected);
/* An inherited descriptor must be a socket now, before this process opens
 * something of that number itself. 0 or -ENOTSOCK, said on stderr. */
int app_check_fd(const struct app_parser *p, uint64_t fd);
/* A line per key, for --help. */
void app_print_keys(const struct opt_desc *table);

#endif
