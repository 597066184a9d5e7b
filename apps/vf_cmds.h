/*
 * Between the files of ringbolt-vf's commands.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_CMDS_H
#define RINGBOLT_APPS_VF_CMDS_H

#include <jansson.h>

struct vf_context;

/* Commands of other files, as struct vf_command wants them. */
int vf_run_apply(struct vf_context *c);
int vf_run_diff(struct vf_context *c);
int vf_run_probe(struct vf_context *c);
int vf_run_watch(struct vf_context *c);

/* Takes the reference. */
void vf_print_json(json_t *json);

#endif
