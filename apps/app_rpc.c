/*
 * What the methods of all programs' control sockets share: parameters, the way
 * they are refused, the version. Called by each program's methods; never waits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/app_rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base.h"

static_assert(RPC_MSG_LEN >= OPTS_ERR_LEN, "sentences fit");

const struct opt_desc app_no_keys[] = { { NULL } };

/* One parameter. Strings of the target point into value. */
static int parse_param(const char *method, const struct opt_desc *desc, json_t *value, void *target,
		       char *err)
{
	const char *text = json_string_value(value);
	char *dumped = NULL;
	int res;

	if (json_is_boolean(value))
		text = json_is_true(value) ? "on" : "off";
	if (!text && desc->type == OPT_STRING) {
		snprintf(err, OPTS_ERR_LEN, "%s: %s: expected a string", method, desc->key);
		return -EINVAL;
	}
	if (!text)
		text = dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	if (!text) {
		snprintf(err, OPTS_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	/* No string is parsed from dumped: nothing points into it afterwards. */
	res = opts_parse_value(method, text, desc, target, err);
	free(dumped);
	return res;
}

static int parse_params(const char *method, json_t *params, const struct opt_desc *table,
			void *target, char *err)
{
	uint64_t seen = 0;
	const char *key;
	json_t *value;
	int i, res;

	json_object_foreach(params, key, value)
	{
		i = opts_find(method, key, table, err);
		if (i < 0)
			return i;
		seen |= 1ull << i;
		res = parse_param(method, &table[i], value, (char *)target + table[i].offset, err);
		if (res < 0)
			return res;
	}
	return opts_check_required(method, table, seen, err);
}

bool app_params(struct rpc_call *call, const char *method, json_t *params,
		const struct opt_desc *table, void *target)
{
	char err[OPTS_ERR_LEN];

	if (parse_params(method, params, table, target, err) >= 0)
		return true;
	rpc_fail(call, RPC_INVALID_PARAMS, "%s", err);
	return false;
}

void app_unknown_name(struct rpc_call *call, const char *kind, const char *name,
		      const char *const *names)
{
	const char *near = opts_nearest(name, names);

	rpc_fail(call, RPC_FAILED, "no %s '%.100s'%s%s%s", kind, name,
		 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

void app_rpc_version(void *opaque, struct rpc_call *call, json_t *params)
{
	struct app *app = opaque;

	if (app_params(call, "version", params, app_no_keys, NULL))
		rpc_result(call, json_pack("{s:s, s:s}", "program", app->program, "version",
					   RINGBOLT_VERSION));
}

json_t *app_status(struct app *app)
{
	json_t *loops = json_array();

	for (unsigned int i = 0; i < app->nr_loops; i++)
		json_array_append_new(loops, loop_status(app->loops[i]));
	return json_pack("{s:s, s:s, s:i, s:o}", "program", app->program, "version",
			 RINGBOLT_VERSION, "pid", (int)getpid(), "loops", loops);
}
