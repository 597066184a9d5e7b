/*
 * A running ringbolt-net: see netprog.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/apps/netprog.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/rpc.h"

#define OPTIONS_MAX 8
#define RPC_TIMEOUT_MS 60000

static const char *control_path;
static pid_t server = -1;

void netprog_start(const char *program, const char *control, char *const *options, unsigned int nr)
{
	char ctl[128], *argv[OPTIONS_MAX + 4] = { "ringbolt-net", "--log-level=error", ctl };

	assert_true(nr <= OPTIONS_MAX);
	control_path = control;
	snprintf(ctl, sizeof(ctl), "--control=%s", control);
	for (unsigned int i = 0; i < nr; i++)
		argv[3 + i] = options[i];
	server = fork();
	assert_true(server >= 0);
	if (!server) {
		execv(program, argv);
		_exit(127);
	}
}

void netprog_wait(void)
{
	/* The program makes its control socket last. */
	while (access(control_path, F_OK))
		usleep(1000);
}

void netprog_stop(void)
{
	int status;

	assert_int_equal(kill(server, SIGTERM), 0);
	assert_int_equal(waitpid(server, &status, 0), server);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

json_t *netprog_call(const char *method, json_t *params)
{
	char err[RPC_MSG_LEN] = "";
	json_t *result;

	if (rpc_client_call(control_path, method, params, RPC_TIMEOUT_MS, &result, err) < 0)
		fail_msg("%s: %s", method, err);
	json_decref(params);
	return result;
}

json_t *netprog_port(const char *name)
{
	json_t *all = netprog_call("status", json_pack("{s:s}", "name", name));
	json_t *ports = json_object_get(all, "ports");
	json_t *obj = json_incref(json_array_get(ports, 0));

	assert_int_equal(json_array_size(ports), 1);
	json_decref(all);
	return obj;
}
