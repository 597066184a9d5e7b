/*
 * JSON for people: blocks of "key value" lines, and tables.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_CTL_PRINT_H
#define RINGBOLT_APPS_CTL_PRINT_H

#include <jansson.h>

/*
 * Print an object on stdout, lines of at most width columns where that is
 * possible. Works from the shape of the data alone: single values as lines,
 * lists of flat objects as tables, everything deeper as an indented block.
 */
void ctl_print(json_t *object, int width);

#endif
