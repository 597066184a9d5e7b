/*
 * Parameters of the control socket's methods: the keys of the command line as
 * JSON. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_APP_RPC_H
#define RINGBOLT_APPS_APP_RPC_H

#include <jansson.h>
#include <stdbool.h>

#include "apps/app.h"
#include "core/opts.h"
#include "core/rpc.h"

/* The table of a method that takes nothing. */
extern const struct opt_desc app_no_keys[];

/*
 * params (NULL: none) into target as table says, like opts_parse(). A value may
 * be a string as on the command line or the JSON type that is natural for it.
 * Strings of the target point into params. False: the call is answered.
 */
bool app_params(struct rpc_call *call, const char *method, json_t *params,
		const struct opt_desc *table, void *target);

/* Answer: there is none of that kind and name; what is near of names
 * (NULL-terminated) is told. */
void app_unknown_name(struct rpc_call *call, const char *kind, const char *name,
		      const char *const *names);

/* The method "version", for every program. */
void app_rpc_version(void *opaque, struct rpc_call *call, json_t *params);

/* "program", "version", "pid" and "loops", for a program's status to add to. */
json_t *app_status(struct app *app);

#endif
