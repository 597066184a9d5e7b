/*
 * A running ringbolt-net for the tests of this folder that are its front-ends:
 * start it, ask it, end it. Everything succeeds or fails the test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_APPS_NETPROG_H
#define RINGBOLT_TESTS_APPS_NETPROG_H

#include "tests/core/test.h"

#include <jansson.h>

/* Run it with these options, at most 8, and the control socket. */
void netprog_start(const char *program, const char *control, char *const *options, unsigned int nr);
/* Its control socket is there. */
void netprog_wait(void);
/* SIGTERM, and a status of 0. */
void netprog_stop(void);

/* Takes the reference to params (or NULL); a new one. */
json_t *netprog_call(const char *method, json_t *params);
/* What status says of one port: a new reference. */
json_t *netprog_port(const char *name);

#endif
