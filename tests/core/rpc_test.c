/*
 * The JSON-RPC server against clients that behave and clients that do not. The
 * client here is a bare socket; server and client share one thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/evloop.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/rpc.h"

static char dir[] = "/tmp/ringbolt-rpc-XXXXXX";
static char path[64];
static struct evloop *ev;
static struct rpc_server *server;
static struct rpc_call *held[RPC_CALLS_MAX + 1];
static unsigned int nr_held, nr_echoed;

static void echo(void *opaque, struct rpc_call *call, json_t *params)
{
	nr_echoed++;
	rpc_result(call, params ? json_incref(params) : json_null());
}

static void refuse(void *opaque, struct rpc_call *call, json_t *params)
{
	rpc_fail(call, RPC_FAILED, "no: %s", json_string_value(json_object_get(params, "why")));
}

/* Answered by the test, later. */
static void hold(void *opaque, struct rpc_call *call, json_t *params)
{
	assert_true(nr_held < ARRAY_SIZE(held));
	held[nr_held++] = call;
}

static void big(void *opaque, struct rpc_call *call, json_t *params)
{
	char *text = malloc(1 << 20);

	memset(text, 'x', (1 << 20) - 1);
	text[(1 << 20) - 1] = '\0';
	nr_echoed++;
	rpc_result(call, json_string(text));
	free(text);
}

static const struct rpc_method methods[] = {
	{ "echo", echo }, { "refuse", refuse }, { "hold", hold }, { "big", big }, { NULL },
};

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

static int setup(void **state)
{
	nr_held = nr_echoed = 0;
	ev = evloop_create();
	return ev ? rpc_server_create(ev, path, methods, NULL, &server) : -1;
}

static int teardown(void **state)
{
	rpc_server_destroy(server);
	server = NULL;
	evloop_destroy(ev);
	return access(path, F_OK) ? 0 : -1;
}

/* Let the server do all that it can do now. */
static void serve(void)
{
	while (evloop_run_once(ev, 0) > 0)
		;
}

static int client(void)
{
	int fd = unix_connect(path);

	assert_true(fd >= 0);
	serve();
	return fd;
}

static void say(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		size_t part = left < 65536 ? left : 65536;

		assert_int_equal(send(fd, text, part, MSG_NOSIGNAL), part);
		text += part;
		left -= part;
		/* More than that does not fit into a socket. */
		if (left)
			serve();
	}
	serve();
}

/* The answer so far; "" none, "EOF" the server has closed. */
static const char *answer(int fd)
{
	static char text[4096];
	ssize_t n;

	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	if (!n)
		return "EOF";
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The code of the one error that answers text. */
static int error_code(const char *text)
{
	int fd = client(), code;
	json_t *msg;

	say(fd, text);
	msg = json_loads(answer(fd), 0, NULL);
	assert_non_null(msg);
	assert_string_equal(json_string_value(json_object_get(msg, "jsonrpc")), "2.0");
	assert_non_null(json_object_get(msg, "id"));
	assert_null(json_object_get(msg, "result"));
	code = (int)json_integer_value(json_object_get(json_object_get(msg, "error"), "code"));
	json_decref(msg);
	close(fd);
	serve();
	return code;
}

static void a_call_is_answered_with_its_id(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"echo\",\"params\":{\"a\":1}}\n");
	assert_string_equal(answer(fd), "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":1}}\n");
	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"echo\"}\r\n");
	assert_string_equal(answer(fd), "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":null}\n");
	say(fd, "\n \n");
	assert_string_equal(answer(fd), "");
	close(fd);
}

static void a_failure_carries_its_sentence(void **state)
{
	int fd = client();

	say(fd,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"refuse\",\"params\":{\"why\":\"so\"}}\n");
	assert_non_null(strstr(answer(fd), "{\"code\":-32000,\"message\":\"no: so\"}"));
	close(fd);
}

static void a_notification_is_carried_out_and_not_answered(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n"
		"{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}\n");
	assert_int_equal(nr_echoed, 1);
	assert_string_equal(answer(fd), "");
	close(fd);
}

static void a_line_may_come_in_pieces_and_lines_together(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,");
	assert_string_equal(answer(fd), "");
	say(fd, "\"method\":\"echo\"}");
	assert_string_equal(answer(fd), "");
	say(fd, "\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\"}\n");
	assert_string_equal(answer(fd), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n"
					"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":null}\n");
	close(fd);
}

static void malformed_requests_get_the_right_code(void **state)
{
	assert_int_equal(error_code("nonsense\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("{\"jsonrpc\":\"2.0\"\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("{\"a\":1,\"a\":2}\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("{\"jsonrpc\":\"2.0\"}x\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("\"\xff\xfe\"\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("\"\\u0000\"\n"), RPC_PARSE_ERROR);
	assert_int_equal(error_code("[]\n"), RPC_INVALID_REQUEST);
	assert_int_equal(error_code("1\n"), RPC_INVALID_REQUEST);
	assert_int_equal(error_code("{}\n"), RPC_INVALID_REQUEST);
	assert_int_equal(error_code("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"echo\"}\n"),
			 RPC_INVALID_REQUEST);
	assert_int_equal(error_code("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"echo\"}\n"),
			 RPC_INVALID_REQUEST);
	assert_int_equal(error_code("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}\n"),
			 RPC_INVALID_REQUEST);
	assert_int_equal(error_code("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"none\"}\n"),
			 RPC_METHOD_NOT_FOUND);
	assert_int_equal(
		error_code("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[]}\n"),
		RPC_INVALID_PARAMS);
}

static void deep_nesting_is_refused(void **state)
{
	char *text = malloc(30002);

	memset(text, '[', 30000);
	strcpy(text + 30000, "\n");
	assert_int_equal(error_code(text), RPC_PARSE_ERROR);
	free(text);
}

static void a_method_misspelt_is_suggested(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ecoh\"}\n");
	assert_non_null(strstr(answer(fd), "did you mean 'echo'?"));
	close(fd);
}

static void a_line_may_be_long_and_others_follow_it(void **state)
{
	static const char head[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}";
	char *text = malloc(RPC_LINE_MAX + 200);
	int fd = client();

	for (int i = 0; i < 3; i++) {
		memset(text, ' ', RPC_LINE_MAX - 1);
		memcpy(text + RPC_LINE_MAX - sizeof(head), head, sizeof(head) - 1);
		text[RPC_LINE_MAX - 1] = '\n';
		snprintf(text + RPC_LINE_MAX, 200, "%s\n", head);
		say(fd, text);
		/* Perhaps one by one. */
		assert_non_null(strstr(answer(fd), "result"));
		serve();
		assert_int_equal(nr_echoed, 2 * (i + 1));
	}
	close(fd);
	free(text);
}

static void a_line_without_end_closes_the_client(void **state)
{
	char *text = malloc(RPC_LINE_MAX + 1);
	int fd = client();

	memset(text, ' ', RPC_LINE_MAX);
	text[RPC_LINE_MAX] = '\0';
	say(fd, text);
	assert_non_null(strstr(answer(fd), "-32600"));
	assert_string_equal(answer(fd), "EOF");
	close(fd);
	free(text);
	/* Others are served. */
	fd = client();
	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	assert_non_null(strstr(answer(fd), "result"));
	close(fd);
}

static void a_client_that_stops_sending_gets_its_answers(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n"
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\"}\n");
	shutdown(fd, SHUT_WR);
	serve();
	assert_non_null(strstr(answer(fd), "\"id\":2"));
	assert_string_equal(answer(fd), "");
	rpc_result(held[0], json_true());
	serve();
	assert_string_equal(answer(fd), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}\n");
	assert_string_equal(answer(fd), "EOF");
	close(fd);
}

static void an_answer_to_a_client_that_has_gone_is_no_error(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n"
		"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hold\"}\n");
	assert_int_equal(nr_held, 2);
	close(fd);
	serve();
	rpc_result(held[0], json_true());
	rpc_fail(held[1], RPC_FAILED, "late");
	serve();
}

static void what_was_asked_before_going_is_done(void **state)
{
	int fd = client();
	const char *three = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n"
			    "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\"}\n"
			    "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n";

	assert_int_equal(send(fd, three, strlen(three), 0), strlen(three));
	close(fd);
	serve();
	assert_int_equal(nr_echoed, 3);
}

static void a_slow_reader_is_not_read_from_and_stops_nobody(void **state)
{
	const char *request = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\"}\n";
	int slow = client(), other;
	size_t total = 0;
	char buf[65536];
	ssize_t n;

	/* Some in one piece, which the server has read, some that wait outside. */
	for (int i = 0; i < 4; i++)
		assert_true(send(slow, request, strlen(request), MSG_NOSIGNAL) > 0);
	serve();
	for (int i = 0; i < 4; i++)
		say(slow, request);
	/* The first answer does not fit the socket: the second is not made yet. */
	assert_int_equal(nr_echoed, 1);
	other = client();
	say(other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	assert_non_null(strstr(answer(other), "result"));
	close(other);
	serve();
	/* As soon as it reads, all that it asked for comes. */
	while ((n = recv(slow, buf, sizeof(buf), MSG_DONTWAIT)) > 0 || nr_echoed < 9) {
		if (n > 0)
			total += (size_t)n;
		serve();
	}
	assert_true(total > 8u << 20);
	close(slow);
}

static void calls_under_way_are_limited(void **state)
{
	int fd = client();

	for (int i = 0; i < RPC_CALLS_MAX + 4; i++)
		say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n");
	assert_int_equal(nr_held, RPC_CALLS_MAX);
	rpc_result(held[0], json_true());
	serve();
	/* One more comes in for the one that is done. */
	assert_int_equal(nr_held, RPC_CALLS_MAX + 1);
	close(fd);
	serve();
	for (unsigned int i = 1; i < nr_held; i++) {
		/* Requests it had sent before going fill the gaps as they open. */
		rpc_result(held[i], json_true());
	}
}

static void one_client_too_many_is_told_so(void **state)
{
	int fds[RPC_CLIENTS_MAX], extra;

	for (size_t i = 0; i < RPC_CLIENTS_MAX; i++)
		fds[i] = client();
	extra = client();
	assert_non_null(strstr(answer(extra), "too many"));
	assert_string_equal(answer(extra), "EOF");
	close(extra);
	close(fds[0]);
	serve();
	fds[0] = client();
	say(fds[0], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	assert_non_null(strstr(answer(fds[0]), "result"));
	for (size_t i = 0; i < RPC_CLIENTS_MAX; i++)
		close(fds[i]);
}

static void calls_outlive_the_server(void **state)
{
	int fd = client();

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n");
	rpc_server_destroy(server);
	server = NULL;
	assert_string_equal(answer(fd), "EOF");
	rpc_result(held[0], json_true());
	close(fd);
}

static void the_socket_is_for_its_owner_only(void **state)
{
	struct rpc_server *second;
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(rpc_server_create(ev, path, methods, NULL, &second), -EADDRINUSE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_call_is_answered_with_its_id),
		T(a_failure_carries_its_sentence),
		T(a_notification_is_carried_out_and_not_answered),
		T(a_line_may_come_in_pieces_and_lines_together),
		T(malformed_requests_get_the_right_code),
		T(deep_nesting_is_refused),
		T(a_method_misspelt_is_suggested),
		T(a_line_may_be_long_and_others_follow_it),
		T(a_line_without_end_closes_the_client),
		T(a_client_that_stops_sending_gets_its_answers),
		T(an_answer_to_a_client_that_has_gone_is_no_error),
		T(what_was_asked_before_going_is_done),
		T(a_slow_reader_is_not_read_from_and_stops_nobody),
		T(calls_under_way_are_limited),
		T(one_client_too_many_is_told_so),
		T(calls_outlive_the_server),
		T(the_socket_is_for_its_owner_only),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
