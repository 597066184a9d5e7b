/*
 * From a command line of ringbolt-vf to an exit status. Called by main(), and by
 * the main() of tests with another machine.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/vf_opts.h"
#include "core/log.h"

/* Descriptors 0 to 2 that are closed would be taken by files of sysfs, and a
 * message would end in one. */
static void fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int run(const struct vf_options *opts, const struct sriov_opts *machine)
{
	struct vf_context c = { .opts = opts };
	struct sriov_opts conf = *machine;
	int res;

	if (opts->state_dir)
		conf.state_dir = opts->state_dir;
	if (opts->timeout)
		conf.timeout_ms = (unsigned int)opts->timeout * 1000;
	res = sriov_open(&conf, &c.s);
	if (res < 0) {
		fprintf(stderr, VF_PROGRAM ": %s\n", strerror(-res));
		return EXIT_FAILED;
	}
	res = opts->command->run(&c);
	if (res < 0 && *sriov_error(c.s))
		fprintf(stderr, VF_PROGRAM ": %s\n", sriov_error(c.s));
	else if (res < 0)
		fprintf(stderr, VF_PROGRAM ": %s: %s\n", opts->command->name, strerror(-res));
	sriov_close(c.s);
	if (res < 0)
		return res == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	return res;
}

int vf_main(int argc, char **argv, const struct sriov_opts *machine)
{
	struct vf_options opts;
	int res;

	fill_standard_fds();
	res = vf_options_parse(argc, argv, &opts);
	if (res < 0)
		return EXIT_USAGE;
	if (res == VF_RUN) {
		log_set_level((enum log_level)opts.log_level);
		res = run(&opts, machine);
	} else {
		res = EXIT_SUCCESS;
	}
	if (fflush(stdout)) {
		fprintf(stderr, VF_PROGRAM ": stdout: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	return res;
}
