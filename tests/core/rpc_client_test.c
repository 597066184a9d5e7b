/*
 * The JSON-RPC client against our server, and against servers that answer
 * nonsense, nothing, or half.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base.h"
#include "core/evloop.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/rpc.h"

#define TIMEOUT_MS 30000

static char dir[] = "/tmp/ringbolt-rpcc-XXXXXX";
static char path[64];
static char err[RPC_MSG_LEN];

static int setup_group(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/ctl", dir);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(dir);
}

static void echo(void *opaque, struct rpc_call *call, json_t *params)
{
	rpc_result(call, params ? json_incref(params) : json_null());
}

static void refuse(void *opaque, struct rpc_call *call, json_t *params)
{
	rpc_fail(call, RPC_INVALID_PARAMS, "refuse: not today");
}

static const struct rpc_method methods[] = {
	{ "echo", echo },
	{ "refuse", refuse },
	{ NULL },
};

struct quit {
	struct ev_work w;
	struct evloop *ev;
};

static void quit(struct ev_work *w)
{
	evloop_quit(container_of(w, struct quit, w)->ev);
}

static void *run_server(void *arg)
{
	evloop_run(arg);
	return NULL;
}

static void our_server_answers(void **state)
{
	struct evloop *ev = evloop_create();
	struct quit end = { .w.run = quit, .ev = ev };
	struct rpc_server *server;
	json_t *params, *result;
	pthread_t thread;
	char *big;

	assert_int_equal(rpc_server_create(ev, path, methods, ev, &server), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_server, ev), 0);

	big = malloc(60000);
	memset(big, 'b', 59999);
	big[59999] = '\0';
	params = json_pack("{s:s}", "name", big);
	assert_int_equal(rpc_client_call(path, "echo", params, TIMEOUT_MS, &result, err), 0);
	assert_true(json_equal(params, result));
	json_decref(result);
	json_decref(params);
	free(big);

	assert_int_equal(rpc_client_call(path, "echo", NULL, TIMEOUT_MS, &result, err), 0);
	assert_true(json_is_null(result));
	json_decref(result);

	assert_int_equal(rpc_client_call(path, "refuse", NULL, TIMEOUT_MS, &result, err),
			 -EREMOTEIO);
	assert_string_equal(err, "refuse: not today");
	assert_null(result);

	ev_post(ev, &end.w);
	pthread_join(thread, NULL);
	rpc_server_destroy(server);
	evloop_destroy(ev);
}

struct fake {
	pthread_t thread;
	int fd;
	const char *answer; /* then closes */
};

static void *run_fake(void *arg)
{
	struct fake *f = arg;
	char buf[4096];
	int client = -1;

	while (client < 0)
		client = accept(f->fd, NULL, NULL);
	(void)!recv(client, buf, sizeof(buf), 0);
	(void)!send(client, f->answer, strlen(f->answer), MSG_NOSIGNAL);
	close(client);
	return NULL;
}

/* What calling a server that answers this gives. */
static int call_fake(const char *text)
{
	struct fake f = { .answer = text, .fd = unix_listen(path, 1) };
	json_t *result;
	int res;

	assert_true(f.fd >= 0);
	assert_int_equal(pthread_create(&f.thread, NULL, run_fake, &f), 0);
	res = rpc_client_call(path, "status", NULL, TIMEOUT_MS, &result, err);
	pthread_join(f.thread, NULL);
	unix_unlink(path, f.fd);
	close(f.fd);
	json_decref(result);
	return res;
}

static void nonsense_is_told_from_an_answer(void **state)
{
	assert_int_equal(call_fake("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"), 0);
	assert_int_equal(call_fake("hello\n"), -EPROTO);
	assert_int_equal(call_fake("{}\n"), -EPROTO);
	assert_int_equal(call_fake("[1]\n"), -EPROTO);
	assert_int_equal(call_fake("{\"error\":5}\n"), -EPROTO);
	assert_int_equal(call_fake("{\"error\":{\"message\":\"m\"}}\n"), -EREMOTEIO);
}

static void a_server_that_closes_early_is_told(void **state)
{
	assert_int_equal(call_fake(""), -ECONNRESET);
	assert_int_equal(call_fake("{\"jsonrpc\":\"2.0\",\"id\":1,\"res"), -ECONNRESET);
	assert_non_null(strstr(err, path));
}

static void nobody_there_is_told_with_the_path(void **state)
{
	json_t *result;

	assert_int_equal(rpc_client_call(path, "status", NULL, TIMEOUT_MS, &result, err), -ENOENT);
	assert_non_null(strstr(err, path));
	assert_null(result);
}

static void a_server_that_never_answers_times_out(void **state)
{
	int fd = unix_listen(path, 1);
	json_t *result;

	assert_int_equal(rpc_client_call(path, "status", NULL, 10, &result, err), -ETIMEDOUT);
	unix_unlink(path, fd);
	close(fd);
}

static void a_busy_server_is_tried_again(void **state)
{
	int fd = unix_listen(path, 0), filler[8];
	json_t *result;
	size_t cnt = 0;

	/* Its backlog is full: connecting would have to wait. */
	while (cnt < 8 && (filler[cnt] = unix_connect(path)) >= 0)
		cnt++;
	assert_int_equal(filler[cnt], -EAGAIN);
	assert_int_equal(rpc_client_call(path, "status", NULL, 50, &result, err), -ETIMEDOUT);
	while (cnt)
		close(filler[--cnt]);
	unix_unlink(path, fd);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_server_answers),
		cmocka_unit_test(nonsense_is_told_from_an_answer),
		cmocka_unit_test(a_server_that_closes_early_is_told),
		cmocka_unit_test(nobody_there_is_told_with_the_path),
		cmocka_unit_test(a_server_that_never_answers_times_out),
		cmocka_unit_test(a_busy_server_is_tried_again),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
