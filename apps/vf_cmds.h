/*
 * Between the files of ringbolt-vf's commands.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_CMDS_H
#define RINGBOLT_APPS_VF_CMDS_H

#include <jansson.h>

/* Takes the reference. */
void vf_print_json(json_t *json);

#endif
