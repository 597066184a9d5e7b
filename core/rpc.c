/*
 * The server half of JSON-RPC 2.0 over a UNIX socket. Runs on the control
 * thread, so it never waits for a client and never holds more for one than the
 * limits in rpc.h say.
 *
 * Theory of operation
 *
 * A client's bytes gather in one buffer until there is a line; an answer gathers
 * in another one until the socket takes it. While an answer waits to be taken,
 * or RPC_CALLS_MAX calls are under way, no further request of that client is
 * read: a slow reader stops itself, and nobody else. Answers only append and ask
 * for EPOLLOUT; a client is freed in its own event handler and nowhere else,
 * which is why a method may answer at once while its line is being worked on.
 *
 * A connection that is taken away leaves a client without a socket behind, which is
 * broken and so freed by its own handler like any other.
 *
 * A client that shuts down its sending side still gets its answers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/rpc.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base.h"
#include "core/evloop.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/opts.h"

#define BACKLOG 128
#define METHODS_MAX 32
/* Room for a request, until one is longer. */
#define LINE_LEN 16384
/* How long not to accept after running out of descriptors. */
#define ACCEPT_PAUSE_NS 500000000ull

struct rpc_client {
	struct rpc_server *server;
	struct rpc_client *next;
	struct rpc_call *calls; /* under way */
	unsigned int nr_calls;
	struct ev_fd watch;
	bool sent_all; /* it will send nothing more */
	bool closing; /* read nothing more; close when the answers are out */
	bool broken; /* close now */
	char *in; /* malloc'd, in_size bytes, of which in_len have come */
	size_t in_size, in_len;
	bool has_line; /* there is a whole one in there */
	char *out; /* malloc'd, out_len bytes from out_done on are to be sent */
	size_t out_done, out_len;
};

struct rpc_server {
	struct evloop *ev;
	const struct rpc_method *methods;
	void *opaque;
	char *path;
	struct ev_fd watch;
	struct ev_timer accept_again;
	struct rpc_client *clients;
	unsigned int nr_clients;
};

struct rpc_call {
	struct rpc_client *client; /* NULL: it has gone */
	struct rpc_call *next; /* the client's */
	json_t *id; /* NULL: a notification, not to be answered */
};

/* What the client is waited for. */
static void update_events(struct rpc_client *c)
{
	uint32_t events = 0;

	if (c->watch.fd < 0)
		return;
	if (c->out_len || c->broken)
		events |= EPOLLOUT;
	else if (!c->sent_all && !c->closing && c->nr_calls < RPC_CALLS_MAX)
		events |= EPOLLIN;
	if (ev_fd_modify(c->server->ev, &c->watch, events) < 0)
		log_limited(LOG_LEVEL_ERROR, "%s: cannot watch a client", c->server->path);
}

/* Append one line to what goes out. Takes the reference to msg. */
static void send_message(struct rpc_client *c, json_t *msg)
{
	char *line = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	size_t len = line ? strlen(line) : 0;
	char *grown;

	json_decref(msg);
	if (c->out_done) {
		memmove(c->out, c->out + c->out_done, c->out_len);
		c->out_done = 0;
	}
	grown = line ? realloc(c->out, c->out_len + len + 1) : NULL;
	if (grown) {
		memcpy(grown + c->out_len, line, len);
		grown[c->out_len + len] = '\n';
		c->out = grown;
		c->out_len += len + 1;
	} else {
		/* Without an answer the client would wait for ever. */
		log_limited(LOG_LEVEL_ERROR, "%s: an answer cannot be made: out of memory",
			    c->server->path);
		c->broken = true;
	}
	free(line);
	update_events(c);
}

/* id is borrowed; NULL: it could not be found out. */
static json_t *error_message(json_t *id, int code, const char *text)
{
	return json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id ? id : json_null(),
			 "error", "code", code, "message", text);
}

static void send_error(struct rpc_client *c, json_t *id, int code, const char *text)
{
	json_t *msg = error_message(id, code, text);

	/* A name that is no UTF-8 cannot be part of JSON. */
	if (!msg)
		msg = error_message(id, code, "failed, and the reason is not valid UTF-8");
	send_message(c, msg);
}

/* Takes the call off its client, which the answer goes to; NULL: to nobody. */
static struct rpc_client *call_finish(struct rpc_call *call)
{
	struct rpc_client *c = call->client;
	struct rpc_call **p;

	if (!c)
		return NULL;
	for (p = &c->calls; *p != call; p = &(*p)->next)
		;
	*p = call->next;
	c->nr_calls--;
	if (!call->id) {
		update_events(c);
		return NULL;
	}
	return c;
}

static void call_free(struct rpc_call *call)
{
	json_decref(call->id);
	free(call);
}

void rpc_result(struct rpc_call *call, json_t *result)
{
	struct rpc_client *c = call_finish(call);

	if (!c)
		json_decref(result);
	else if (!result)
		send_error(c, call->id, RPC_INTERNAL_ERROR, "out of memory");
	else
		send_message(c, json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", call->id,
					  "result", result));
	call_free(call);
}

void rpc_fail(struct rpc_call *call, enum rpc_error code, const char *fmt, ...)
{
	struct rpc_client *c = call_finish(call);
	char text[RPC_MSG_LEN];
	va_list ap;

	assert(fmt);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c)
		send_error(c, call->id, code, text);
	call_free(call);
}

int rpc_take_connection(struct rpc_call *call, json_t *result, int *fd, char **head)
{
	struct rpc_client *c = call->client;
	char *line = NULL;
	json_t *msg;
	int res = 0;

	if (!c || !call->id)
		res = -ENOTCONN;
	else if (c->nr_calls != 1 || c->out_len)
		res = -EBUSY;
	if (res < 0) {
		json_decref(result);
		return res;
	}
	msg = json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", call->id, "result", result);
	line = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	json_decref(msg);
	res = line ? asprintf(head, "%s\n", line) : -1;
	free(line);
	if (res < 0)
		return -ENOMEM;
	ev_fd_del(c->server->ev, &c->watch);
	*fd = c->watch.fd;
	c->watch.fd = -1;
	c->broken = true;
	call_finish(call);
	call_free(call);
	return 0;
}

static void unknown_method(struct rpc_call *call, const char *name)
{
	const struct rpc_method *methods = call->client->server->methods;
	const char *names[METHODS_MAX + 1] = { NULL };
	const char *near;

	for (size_t i = 0; methods[i].name && i < METHODS_MAX; i++)
		names[i] = methods[i].name;
	near = opts_nearest(name, names);
	if (near)
		rpc_fail(call, RPC_METHOD_NOT_FOUND, "no method '%.80s'; did you mean '%s'?", name,
			 near);
	else
		rpc_fail(call, RPC_METHOD_NOT_FOUND, "no method '%.80s'", name);
}

/* Takes the reference to id. */
static void call_method(struct rpc_client *c, json_t *id, const char *name, json_t *params)
{
	const struct rpc_method *m = c->server->methods;
	struct rpc_call *call;

	call = malloc(sizeof(*call));
	if (!call) {
		json_decref(id);
		c->broken = true;
		update_events(c);
		return;
	}
	*call = (struct rpc_call){ .client = c, .next = c->calls, .id = id };
	c->calls = call;
	c->nr_calls++;

	while (m->name && strcmp(m->name, name))
		m++;
	if (!m->name)
		unknown_method(call, name);
	else if (params && !json_is_object(params))
		rpc_fail(call, RPC_INVALID_PARAMS, "%s: params must be an object", name);
	else
		m->handle(c->server->opaque, call, params);
}

/* JSON-RPC 2.0, "Request object". NULL: it is one; else what is wrong. */
static const char *check_request(json_t *request)
{
	const char *version = json_string_value(json_object_get(request, "jsonrpc"));
	json_t *id = json_object_get(request, "id");

	if (!json_is_object(request))
		return "a request must be one object";
	if (!version || strcmp(version, "2.0"))
		return "expected \"jsonrpc\": \"2.0\"";
	if (id && !json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return "id must be a string, a number or null";
	if (!json_is_string(json_object_get(request, "method")))
		return "method must be a string";
	return NULL;
}

static void handle_line(struct rpc_client *c, const char *line, size_t len)
{
	char text[RPC_MSG_LEN];
	const char *problem;
	json_error_t where;
	json_t *request;

	if (strspn(line, " \t\r") >= len)
		return;
	request = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (!request) {
		snprintf(text, sizeof(text), "not JSON: %s at column %d", where.text, where.column);
		send_error(c, NULL, RPC_PARSE_ERROR, text);
		return;
	}
	problem = check_request(request);
	if (problem)
		send_error(c, NULL, RPC_INVALID_REQUEST, problem);
	else
		call_method(c, json_incref(json_object_get(request, "id")),
			    json_string_value(json_object_get(request, "method")),
			    json_object_get(request, "params"));
	json_decref(request);
}

static bool resize(struct rpc_client *c, size_t size)
{
	char *in = realloc(c->in, size);

	if (!in)
		return false;
	c->in = in;
	c->in_size = size;
	return true;
}

/* Room for more of a line that is not whole. False if it is too long, or whole. */
static bool make_room(struct rpc_client *c)
{
	if (c->in_len < c->in_size)
		return true;
	if (c->has_line || c->in_size == RPC_LINE_MAX)
		return false;
	if (resize(c, (size_t)min_u64(2 * (uint64_t)c->in_size, RPC_LINE_MAX)))
		return true;
	log_limited(LOG_LEVEL_ERROR, "%s: out of memory for a request", c->server->path);
	c->broken = true;
	return false;
}

/* A long line has gone. */
static void fit_room(struct rpc_client *c)
{
	if (c->in_size > LINE_LEN && c->in_len <= LINE_LEN / 2)
		resize(c, LINE_LEN);
}

/* Work through the whole lines, until one leaves an answer to be taken. */
static void handle_lines(struct rpc_client *c)
{
	char *newline, *line = c->in, text[64];
	size_t left = c->in_len;

	if (!c->has_line && left < RPC_LINE_MAX)
		return;
	while (!c->out_len && !c->broken && !c->closing && c->nr_calls < RPC_CALLS_MAX) {
		newline = memchr(line, '\n', left);
		if (!newline)
			break;
		/* For strspn(); a NUL inside of the line is not JSON either. */
		*newline = '\0';
		handle_line(c, line, (size_t)(newline - line));
		left -= (size_t)(newline + 1 - line);
		line = newline + 1;
	}
	memmove(c->in, line, left);
	c->in_len = left;
	c->has_line = memchr(c->in, '\n', left);
	if (left == RPC_LINE_MAX && !c->has_line && !c->closing) {
		c->closing = true;
		snprintf(text, sizeof(text), "a line may have %d bytes at most", RPC_LINE_MAX);
		send_error(c, NULL, RPC_INVALID_REQUEST, text);
	}
	fit_room(c);
}

/* True if there were bytes. */
static bool client_read(struct rpc_client *c)
{
	ssize_t n;

	if (c->watch.fd < 0 || !make_room(c))
		return false;
	n = recv(c->watch.fd, c->in + c->in_len, c->in_size - c->in_len, 0);
	if (n > 0) {
		c->has_line = c->has_line || memchr(c->in + c->in_len, '\n', (size_t)n);
		c->in_len += (size_t)n;
	} else if (!n) {
		c->sent_all = true;
	} else if (errno != EAGAIN && errno != EINTR) {
		c->broken = true;
	}
	return n > 0;
}

static void client_write(struct rpc_client *c)
{
	ssize_t n;

	n = send(c->watch.fd, c->out + c->out_done, c->out_len, MSG_NOSIGNAL);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			c->broken = true;
		return;
	}
	c->out_done += (size_t)n;
	c->out_len -= (size_t)n;
	if (!c->out_len) {
		free(c->out);
		c->out = NULL;
		c->out_done = 0;
	}
}

static void client_free(struct rpc_client *c)
{
	struct rpc_server *s = c->server;
	struct rpc_client **p;

	for (p = &s->clients; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	s->nr_clients--;
	for (struct rpc_call *call = c->calls; call; call = call->next)
		call->client = NULL;
	ev_fd_del(s->ev, &c->watch);
	fd_replace(&c->watch.fd, -1);
	free(c->out);
	free(c->in);
	free(c);
}

/* Nothing can come any more, and nothing has to go. */
static bool client_is_done(const struct rpc_client *c)
{
	if (c->broken)
		return true;
	if (c->out_len)
		return false;
	return c->closing || (c->sent_all && !c->nr_calls && !c->has_line);
}

/* It has gone: nobody reads the answers, but what it asked for is still done. */
static void finish_requests(struct rpc_client *c)
{
	size_t before;
	bool has_read;

	do {
		c->out_len = c->out_done = 0;
		has_read = client_read(c);
		before = c->in_len;
		handle_lines(c);
	} while (has_read || c->in_len < before);
}

static void client_event(struct ev_fd *w, uint32_t events)
{
	struct rpc_client *c = container_of(w, struct rpc_client, watch);

	/* EPOLLHUP comes even if nothing is waited for: it must end the client, or
	 * it would come again at once. */
	if (events & (EPOLLHUP | EPOLLERR)) {
		finish_requests(c);
		client_free(c);
		return;
	}
	if (c->out_len)
		client_write(c);
	else if (events & EPOLLIN)
		client_read(c);
	if (!c->broken)
		handle_lines(c);
	if (client_is_done(c)) {
		client_free(c);
		return;
	}
	update_events(c);
}

static void refuse_client(struct rpc_server *s, int fd)
{
	json_t *msg = error_message(NULL, RPC_FAILED, "too many control clients");
	char *line = msg ? json_dumps(msg, JSON_COMPACT) : NULL;

	/* An empty socket buffer takes this much; if not, closing says enough. */
	if (line && send(fd, line, strlen(line), MSG_NOSIGNAL) > 0)
		(void)!send(fd, "\n", 1, MSG_NOSIGNAL);
	free(line);
	json_decref(msg);
	close(fd);
	log_limited(LOG_LEVEL_WARNING, "%s: refused a client: %d are connected", s->path,
		    RPC_CLIENTS_MAX);
}

static void accept_client(struct ev_fd *w, uint32_t events)
{
	struct rpc_server *s = container_of(w, struct rpc_server, watch);
	struct rpc_client *c;
	int fd;

	fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_limited(LOG_LEVEL_ERROR, "%s: accept: %s", s->path, strerror(errno));
			ev_fd_del(s->ev, w);
			ev_timer_arm(s->ev, &s->accept_again, ACCEPT_PAUSE_NS);
		}
		return;
	}
	if (s->nr_clients >= RPC_CLIENTS_MAX) {
		refuse_client(s, fd);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c || !resize(c, LINE_LEN)) {
		free(c);
		close(fd);
		return;
	}
	c->server = s;
	c->watch.fd = fd;
	c->watch.handle = client_event;
	if (ev_fd_add(s->ev, &c->watch, EPOLLIN) < 0) {
		close(fd);
		free(c->in);
		free(c);
		return;
	}
	c->next = s->clients;
	s->clients = c;
	s->nr_clients++;
}

static void accept_again(struct ev_timer *t)
{
	struct rpc_server *s = container_of(t, struct rpc_server, accept_again);

	if (ev_fd_add(s->ev, &s->watch, EPOLLIN) < 0)
		ev_timer_arm(s->ev, t, ACCEPT_PAUSE_NS);
}

int rpc_server_create(struct evloop *ev, const char *path, const struct rpc_method *methods,
		      void *opaque, struct rpc_server **server)
{
	struct rpc_server *s;
	int res = -ENOMEM;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->ev = ev;
	s->methods = methods;
	s->opaque = opaque;
	s->accept_again.expired = accept_again;
	s->watch.handle = accept_client;
	s->path = strdup(path);
	if (!s->path)
		goto err_free;
	/* Only its owner can open it. */
	s->watch.fd = res = unix_listen_mode(path, BACKLOG, 0600);
	if (res < 0)
		goto err_path;
	res = ev_fd_add(ev, &s->watch, EPOLLIN);
	if (res < 0)
		goto err_listen;
	*server = s;
	return 0;

err_listen:
	unix_unlink(path, s->watch.fd);
	close(s->watch.fd);
err_path:
	free(s->path);
err_free:
	free(s);
	return res;
}

void rpc_server_destroy(struct rpc_server *s)
{
	if (!s)
		return;
	/* client_free() takes the client off the list, which the analyzer misses. */
	while (s->clients)
		client_free(s->clients); /* NOLINT(clang-analyzer-unix.Malloc) */
	ev_timer_cancel(s->ev, &s->accept_again);
	ev_fd_del(s->ev, &s->watch);
	unix_unlink(s->path, s->watch.fd);
	fd_replace(&s->watch.fd, -1);
	free(s->path);
	free(s);
}
