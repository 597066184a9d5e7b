/*
 * ringbolt-vf on the machine of fake.h, for tests of its command line. Two
 * commands more: "sim-create" makes a machine in the folder VFSIM_ROOT names,
 * which exists and is empty, and VFSIM_KILL=N ends the program before its N-th
 * change.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/vf_main.h"
#include "tests/sriov/fake.h"

int main(int argc, char **argv)
{
	const char *root = getenv("VFSIM_ROOT"), *kill_at = getenv("VFSIM_KILL");
	struct sriov_opts machine = { .root = root, .os = &fake_os };
	struct fake fake;
	char path[64];
	int res;

	if (!root || strlen(root) >= sizeof(fake.root)) {
		fputs("VFSIM_ROOT: expected a folder\n", stderr);
		return 3;
	}
	if (argc == 2 && !strcmp(argv[1], "sim-create")) {
		snprintf(fake.root, sizeof(fake.root), "%s", root);
		fake_fill(&fake);
		return 0;
	}
	/* attach claims for its own process: this machine must know it. */
	snprintf(fake.root, sizeof(fake.root), "%s", root);
	fake_process(&fake, (int)getpid(), "vfsim", "vfsim", 6, 0, "");
	if (kill_at)
		fake_kill_at((unsigned int)atoi(kill_at));
	res = vf_main(argc, argv, &machine);
	snprintf(path, sizeof(path), "/proc/%d", (int)getpid());
	fake_remove(&fake, path);
	return res;
}
