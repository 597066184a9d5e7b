/*
 * Fuzz target: the control socket. One input is what a client sends in several
 * pieces, reading answers or not, before it vanishes; the server must then still
 * serve the next one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
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

static char dir[] = "/tmp/ringbolt-fuzz-XXXXXX";
static char path[64];
static struct evloop *ev;
static struct rpc_server *server;
static struct rpc_call *held; /* at most one, answered at the end of an input */

static void echo(void *opaque, struct rpc_call *call, json_t *params)
{
	rpc_result(call, params ? json_incref(params) : json_null());
}

static void refuse(void *opaque, struct rpc_call *call, json_t *params)
{
	const char *why = json_string_value(json_object_get(params, "why"));

	rpc_fail(call, RPC_FAILED, "%s", why ? why : "");
}

static void hold(void *opaque, struct rpc_call *call, json_t *params)
{
	if (held)
		rpc_fail(held, RPC_FAILED, "another one came");
	held = call;
}

static const struct rpc_method methods[] = {
	{ "echo", echo },
	{ "refuse", refuse },
	{ "hold", hold },
	{ NULL },
};

static void end(void)
{
	rpc_server_destroy(server);
	evloop_destroy(ev);
	rmdir(dir);
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	ev = evloop_create();
	if (!ev || !mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/ctl", dir);
	if (rpc_server_create(ev, path, methods, NULL, &server) < 0)
		abort();
	atexit(end);
}

static void serve(void)
{
	while (evloop_run_once(ev, 0) > 0)
		;
}

static int connect_client(void)
{
	int fd = unix_connect(path);

	if (fd < 0)
		abort();
	serve();
	return fd;
}

static void expect_service(void)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n";
	static const char answer[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n";
	char buf[sizeof(answer)];
	int fd = connect_client();

	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		abort();
	serve();
	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) != sizeof(answer) - 1 ||
	    memcmp(buf, answer, sizeof(answer) - 1))
		abort();
	close(fd);
	serve();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pieces: a byte says how long the next one is and what happens after it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char buf[4096];
	size_t len;
	uint8_t how;
	int fd;

	if (!ev)
		begin();
	fd = connect_client();
	while (size) {
		how = *data++;
		size--;
		len = min_u64(size, how & 0x3f ? how & 0x3f : 4096);
		if (len && send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		data += len;
		size -= len;
		if (how & 0x40)
			serve();
		if (how & 0x80)
			(void)!recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	}
	serve();
	if (held)
		rpc_result(held, json_true());
	held = NULL;
	close(fd);
	serve();
	if (held)
		rpc_result(held, json_true());
	held = NULL;
	expect_service();
	return 0;
}
