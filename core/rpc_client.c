/*
 * The client half of JSON-RPC 2.0 over a UNIX socket: one call, then the end.
 * Called by ringboltctl; waits, so never called on a control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "core/base.h"
#include "core/fd.h"

#define READ_LEN 65536
/* A server with thousands of rings says less. */
#define ANSWER_MAX (64u << 20)

struct exchange {
	const char *path;
	int fd;
	uint64_t deadline_ms;
	char *err;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static __attribute__((format(printf, 3, 4))) int fail(struct exchange *x, int res, const char *fmt,
						      ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(x->err, RPC_MSG_LEN, fmt, ap);
	va_end(ap);
	return res;
}

/* Wait for events. 0 or -errno. */
static int wait_for(struct exchange *x, short events)
{
	struct pollfd p = { .fd = x->fd, .events = events };
	uint64_t now;
	int n;

	do {
		now = now_ms();
		if (now >= x->deadline_ms)
			n = 0;
		else
			n = poll(&p, 1, (int)min_u64(x->deadline_ms - now, INT_MAX));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return fail(x, -errno, "%s: %s", x->path, strerror(errno));
	if (!n)
		return fail(x, -ETIMEDOUT, "%s: no answer in time", x->path);
	return 0;
}

/* A UNIX socket whose backlog is full can neither be waited for nor polled. */
static int connect_server(struct exchange *x)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	for (;;) {
		x->fd = unix_connect(x->path);
		if (x->fd >= 0)
			return 0;
		if (x->fd != -EAGAIN)
			return fail(x, x->fd, "%s: %s", x->path, strerror(-x->fd));
		if (now_ms() >= x->deadline_ms)
			return fail(x, -ETIMEDOUT, "%s: too busy to connect", x->path);
		nanosleep(&pause, NULL);
	}
}

static int send_all(struct exchange *x, const char *data, size_t len)
{
	ssize_t n;
	int res;

	while (len) {
		n = send(x->fd, data, len, MSG_NOSIGNAL);
		if (n >= 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return fail(x, -errno, "%s: %s", x->path, strerror(errno));
		res = wait_for(x, POLLOUT);
		if (res < 0)
			return res;
	}
	return 0;
}

static int send_request(struct exchange *x, const char *method, json_t *params)
{
	char *text, *line = NULL;
	json_t *request;
	int len, res;

	request = json_pack("{s:s, s:i, s:s, s:O*}", "jsonrpc", "2.0", "id", 1, "method", method,
			    "params", params);
	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	len = text ? asprintf(&line, "%s\n", text) : -1;
	free(text);
	if (len < 0)
		return fail(x, -EINVAL, "%s: the request cannot be written as JSON", method);
	res = send_all(x, line, (size_t)len);
	free(line);
	return res;
}

/* Read up to the first newline into *line, malloc'd, of *len bytes before it; *end:
 * all that was read. */
static int read_line(struct exchange *x, char **line, size_t *len, size_t *end)
{
	size_t size = 0, used = 0;
	char *grown, *newline;
	ssize_t n;
	int res;

	*line = NULL;
	for (;;) {
		if (used == size) {
			size = size ? 2 * size : READ_LEN;
			grown = size > ANSWER_MAX ? NULL : realloc(*line, size);
			if (!grown)
				return fail(x, -ENOMEM, "%s: the answer is too long", x->path);
			*line = grown;
		}
		n = recv(x->fd, *line + used, size - used, 0);
		if (!n)
			return fail(x, -ECONNRESET,
				    "%s: the connection was closed without an answer", x->path);
		if (n < 0) {
			if (errno != EAGAIN && errno != EINTR)
				return fail(x, -errno, "%s: %s", x->path, strerror(errno));
			res = wait_for(x, POLLIN);
			if (res < 0)
				return res;
			continue;
		}
		newline = memchr(*line + used, '\n', (size_t)n);
		used += (size_t)n;
		if (newline) {
			*end = used;
			*len = (size_t)(newline - *line);
			return 0;
		}
	}
}

static int parse_answer(struct exchange *x, const char *line, size_t len, json_t **result)
{
	const char *message;
	json_t *answer;
	int res = 0;

	answer = json_loadb(line, len, 0, NULL);
	message = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
	*result = json_incref(json_object_get(answer, "result"));
	if (message)
		res = fail(x, -EREMOTEIO, "%s", message);
	else if (!*result)
		res = fail(x, -EPROTO, "%s: the answer is not JSON-RPC 2.0", x->path);
	if (res < 0) {
		json_decref(*result);
		*result = NULL;
	}
	json_decref(answer);
	return res;
}

/* Connect, call, and read the answer: its line and what was read behind it, which
 * begins at *len + 1 and ends at *end. */
static int call(struct exchange *x, const char *method, json_t *params, char **line, size_t *len,
		size_t *end, json_t **result)
{
	int res = connect_server(x);

	*len = *end = 0;
	if (res < 0)
		return res;
	res = send_request(x, method, params);
	if (!res)
		res = read_line(x, line, len, end);
	if (!res)
		res = parse_answer(x, *line, *len, result);
	return res;
}

int rpc_client_call(const char *path, const char *method, json_t *params, int timeout_ms,
		    json_t **result, char *err)
{
	struct exchange x = {
		.path = path,
		.fd = -1,
		.deadline_ms = now_ms() + (uint64_t)timeout_ms,
		.err = err,
	};
	char *line = NULL;
	size_t len, end;
	int res;

	*result = NULL;
	res = call(&x, method, params, &line, &len, &end, result);
	free(line);
	fd_replace(&x.fd, -1);
	return res;
}

int rpc_client_stream(const char *path, const char *method, json_t *params, int timeout_ms, int *fd,
		      char **rest, size_t *rest_len, char *err)
{
	struct exchange x = {
		.path = path,
		.fd = -1,
		.deadline_ms = now_ms() + (uint64_t)timeout_ms,
		.err = err,
	};
	json_t *result = NULL;
	size_t len, end;
	int flags, res;

	*rest = NULL;
	res = call(&x, method, params, rest, &len, &end, &result);
	json_decref(result);
	if (!res) {
		flags = fcntl(x.fd, F_GETFL);
		if (flags < 0 || fcntl(x.fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
			res = fail(&x, -errno, "%s: %s", path, strerror(errno));
	}
	if (res < 0) {
		free(*rest);
		*rest = NULL;
		fd_replace(&x.fd, -1);
		return res;
	}
	assert(*rest);
	*rest_len = end - len - 1;
	memmove(*rest, *rest + len + 1, *rest_len);
	*fd = x.fd;
	return 0;
}
