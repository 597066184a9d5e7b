/*
 * One call and its answer on stdout. Called by ringboltctl's main() for most
 * commands, and by those that make several calls. The only file the user names is
 * read here, with the user's rights.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/ctl.h"
#include "apps/ctl_print.h"
#include "core/rpc.h"

json_t *ctl_ask(const struct ctl_call *call, const char *method, json_t *params)
{
	char err[RPC_MSG_LEN];
	json_t *answer;

	if (rpc_client_call(call->control, method, params, CTL_TIMEOUT_MS, &answer, err) < 0) {
		fprintf(stderr, CTL_PROGRAM ": %s\n", err);
		return NULL;
	}
	return answer;
}

int ctl_show(const struct ctl_call *call, json_t *answer)
{
	if (call->as_json) {
		json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
		putchar('\n');
	} else {
		ctl_print(answer, call->width);
	}
	if (fflush(stdout)) {
		fprintf(stderr, CTL_PROGRAM ": stdout: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	return EXIT_SUCCESS;
}

int ctl_run(const struct ctl_call *call)
{
	json_t *answer = ctl_ask(call, call->method, call->params);
	int status;

	if (!answer)
		return EXIT_FAILED;
	status = ctl_show(call, answer);
	json_decref(answer);
	return status;
}

/* "rules" is the name of a file here, and what is in it for the program. */
int ctl_acl(const struct ctl_call *call)
{
	const char *path = json_string_value(json_object_get(call->params, "rules"));
	json_error_t where;
	json_t *rules;

	if (!path)
		return ctl_run(call);
	rules = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	if (!rules) {
		fprintf(stderr, CTL_PROGRAM ": %.100s: line %d: %.100s\n", path, where.line,
			where.text);
		return EXIT_FAILED;
	}
	json_object_set_new(call->params, "rules", rules);
	return ctl_run(call);
}
