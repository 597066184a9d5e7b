/*
 * All of ringbolt-vf but which machine it works on, so that tests can give it
 * one of their own.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_MAIN_H
#define RINGBOLT_APPS_VF_MAIN_H

#include "sriov/sriov.h"

/* The exit status. machine's state_dir and timeout are for the command line to
 * change. */
int vf_main(int argc, char **argv, const struct sriov_opts *machine);

#endif
