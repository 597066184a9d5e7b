/*
 * ringbolt-vf: virtual functions of this machine, from the PF to the VM.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/vf_main.h"

int main(int argc, char **argv)
{
	static const struct sriov_opts this_machine;

	return vf_main(argc, argv, &this_machine);
}
