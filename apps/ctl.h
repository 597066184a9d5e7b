/*
 * What the files of ringboltctl share. ctl_call.c: a call and its answer;
 * ctl_top.c: rates; ctl_capture.c: a stream; ctl_print.c: JSON for people.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_CTL_H
#define RINGBOLT_APPS_CTL_H

#include <jansson.h>
#include <stdbool.h>

#define CTL_PROGRAM "ringboltctl"

/* Exit statuses. */
#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* A device to remove first ends its requests in flight. */
#define CTL_TIMEOUT_MS 60000

/* A command as it was given. */
struct ctl_call {
	const char *control; /* path of the socket */
	const char *method;
	json_t *params; /* an object */
	int width; /* columns of the terminal */
	bool as_json;
};

/* Call and print the answer; every one of these says what went wrong on stderr and
 * returns the exit status of the program. */
int ctl_run(const struct ctl_call *call);
int ctl_top(const struct ctl_call *call);
int ctl_capture(const struct ctl_call *call);
int ctl_acl(const struct ctl_call *call);

/* As the user wants it on stdout. */
int ctl_show(const struct ctl_call *call, json_t *answer);
/* The answer to a method, a new reference; NULL: that was said on stderr. */
json_t *ctl_ask(const struct ctl_call *call, const char *method, json_t *params);

#endif
