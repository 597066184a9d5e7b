/*
 * ringboltctl capture: the answer is a pcapng file that goes to stdout as it comes.
 * Ended by a signal it asks the program to end the file, so that it is whole.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "apps/ctl.h"
#include "core/rpc.h"

#define BUFFER_LEN 65536

static int stream_fd = -1;

/* Nothing more is wanted: what is on its way still comes, and then the end. */
static void on_signal(int sig)
{
	int saved = errno;

	shutdown(stream_fd, SHUT_WR);
	errno = saved;
}

static void catch_signals(void)
{
	/* A second one is for those who do not want to wait. */
	const struct sigaction action = { .sa_handler = on_signal,
					  .sa_flags = (int)SA_RESETHAND | SA_RESTART };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

static int write_all(const char *data, size_t len)
{
	ssize_t n;

	while (len) {
		n = write(STDOUT_FILENO, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_stream(int fd)
{
	static char buffer[BUFFER_LEN];
	ssize_t n;
	int res = 0;

	for (;;) {
		n = read(fd, buffer, sizeof(buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return 0;
		res = write_all(buffer, (size_t)n);
		if (res < 0)
			return res;
	}
}

int ctl_capture(const struct ctl_call *call)
{
	char err[RPC_MSG_LEN], *rest;
	size_t rest_len;
	int res;

	if (isatty(STDOUT_FILENO)) {
		fputs(CTL_PROGRAM ": capture: expected stdout to be a file or pipe, as in "
				  "'capture vm1 > vm1.pcapng'\n",
		      stderr);
		return EXIT_USAGE;
	}
	if (rpc_client_stream(call->control, call->method, call->params, CTL_TIMEOUT_MS, &stream_fd,
			      &rest, &rest_len, err) < 0) {
		fprintf(stderr, CTL_PROGRAM ": %s\n", err);
		return EXIT_FAILED;
	}
	catch_signals();
	res = write_all(rest, rest_len);
	free(rest);
	if (!res)
		res = copy_stream(stream_fd);
	close(stream_fd);
	/* Whoever reads it has seen enough. */
	if (!res || res == -EPIPE)
		return EXIT_SUCCESS;
	fprintf(stderr, CTL_PROGRAM ": capture: %s\n", strerror(-res));
	return EXIT_FAILED;
}
