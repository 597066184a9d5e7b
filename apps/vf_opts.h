/*
 * The command line of ringbolt-vf.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_OPTS_H
#define RINGBOLT_APPS_VF_OPTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/opts.h"
#include "sriov/sriov.h"

#define VF_PROGRAM "ringbolt-vf"

/* Exit statuses. */
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* Options that only some commands have. */
enum vf_option_bit {
	VF_OPT_JSON = 1 << 0,
	VF_OPT_ALL = 1 << 1,
	VF_OPT_OWNER = 1 << 2,
	VF_OPT_PF = 1 << 3,
	VF_OPT_CPUS = 1 << 4,
	VF_OPT_PID = 1 << 5,
	VF_OPT_DRIVER = 1 << 6,
	VF_OPT_USER = 1 << 7,
	VF_OPT_REPLACE = 1 << 8,
	VF_OPT_FORCE = 1 << 9,
	VF_OPT_NO_RESET = 1 << 10,
	VF_OPT_UNSAFE = 1 << 11,
	VF_OPT_FORMAT = 1 << 12,
	VF_OPT_BACKEND = 1 << 13,
	VF_OPT_DRY_RUN = 1 << 14,
	VF_OPT_TOKEN = 1 << 15,
	VF_OPT_TIMEOUT = 1 << 16,
};

struct vf_command;

struct vf_options {
	const struct vf_command *command;
	char **args;
	int nr_args;
	char **exec; /* behind "--", NULL-terminated; NULL: none */

	unsigned int given; /* enum vf_option_bit */
	const char *owner, *pf, *cpus, *driver, *token, *state_dir;
	uint64_t pid, timeout; /* timeout in seconds */
	bool has_user;
	uid_t uid;
	gid_t gid;
	int format; /* enum sriov_attach_format */
	int backend; /* enum iommu_backend */
	int log_level;
};

struct vf_context {
	struct sriov *s;
	const struct vf_options *opts;
};

struct vf_command {
	const char *name, *arguments, *help;
	int min_args, max_args;
	bool takes_exec;
	unsigned int options; /* allowed */
	unsigned int needed;
	/* 0; -errno, and sriov_error() is still to be told (-EINVAL is a usage
	 * error); or an exit status, and all has been said. */
	int (*run)(struct vf_context *c);
};

/* Ends with a NULL name. */
extern const struct vf_command vf_commands[];

enum vf_action {
	VF_RUN,
	VF_EXIT, /* --help and the like: all is said */
};

/* An action; or, with one line on stderr, -EINVAL. argv must live on. */
int vf_options_parse(int argc, char **argv, struct vf_options *opts);

#endif
