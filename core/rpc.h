/*
 * JSON-RPC 2.0, one object per line, over a UNIX stream socket that only its
 * owner can open (mode 0600). Runs on the control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_RPC_H
#define RINGBOLT_CORE_RPC_H

#include <jansson.h>

struct evloop;
struct rpc_server;

/* JSON-RPC 2.0, "Error object", and our own code for a failed operation. */
enum rpc_error {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_FAILED = -32000,
};

#define RPC_MSG_LEN 1024

/* What one client, and all of them, may take of us. */
#define RPC_CLIENTS_MAX 32
/* Bytes of a request; behind it the client is closed. An access list may have 4 MiB. */
#define RPC_LINE_MAX ((4 << 20) + 65536)
#define RPC_CALLS_MAX 16 /* under way per client; more wait in its socket */

/* One call under way. Valid until it is answered, exactly once. */
struct rpc_call;

/*
 * A method. params is borrowed (an object, or NULL). It answers the call with
 * rpc_result() or rpc_fail(), at once or later from the control thread; a
 * client that has gone by then is no error.
 */
struct rpc_method {
	const char *name;
	void (*handle)(void *opaque, struct rpc_call *call, json_t *params);
};

/*
 * Listen at path. methods ends with a NULL name and must outlive the server.
 * 0 and *server, or -errno as unix_listen().
 */
int rpc_server_create(struct evloop *ev, const char *path, const struct rpc_method *methods,
		      void *opaque, struct rpc_server **server);
/* Closes all clients. Calls under way must still be answered, to nobody. Not
 * from a method. Accepts NULL. */
void rpc_server_destroy(struct rpc_server *server);

/* Takes the reference to result. */
void rpc_result(struct rpc_call *call, json_t *result);
void rpc_fail(struct rpc_call *call, enum rpc_error code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * For a method whose answer is followed by a stream: take the connection away from
 * the server. Only from within the method. 0: *fd is the client's socket (it does
 * not block), *head the answer's line, which must be sent first (the caller frees
 * it); the call is done with. -EBUSY if the client uses the connection for something
 * else, -ENOTCONN, -ENOMEM: nothing has changed, and the call is still to be
 * answered. Takes the reference to result in any case.
 */
int rpc_take_connection(struct rpc_call *call, json_t *result, int *fd, char **head);

/*
 * Client side, for ringboltctl: connect, call once, wait for the answer.
 * params is borrowed, an object or NULL. 0 and a new reference in *result;
 * -errno and a sentence in err (RPC_MSG_LEN): -EREMOTEIO if the server said so.
 */
int rpc_client_call(const char *path, const char *method, json_t *params, int timeout_ms,
		    json_t **result, char *err);

/*
 * The same for a method whose answer is followed by a stream. *fd: where it comes
 * from, a socket that blocks, the caller's to close; *rest, of rest_len bytes: what
 * has been read of it, the caller's to free.
 */
int rpc_client_stream(const char *path, const char *method, json_t *params, int timeout_ms, int *fd,
		      char **rest, size_t *rest_len, char *err);

#endif
