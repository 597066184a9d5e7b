/*
 * Tables and sentences of ringbolt-vf, for people.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_VF_PRINT_H
#define RINGBOLT_APPS_VF_PRINT_H

#include "sriov/sriov.h"

/* One line per function. */
void vf_print_table(struct sriov *s, const struct sriov_list *list);
/* Everything that is known of one. */
void vf_print_function(struct sriov *s, const struct sriov_func *f);

#endif
