/*
 * What every back-end program of this project is made of: an event loop, poll
 * loops, signals, a control socket. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_APPS_APP_H
#define RINGBOLT_APPS_APP_H

#include <stdbool.h>

#include "apps/app_opts.h"
#include "core/evloop.h"
#include "core/rpc.h"
#include "vhost/vhost.h"

struct app;

/* What a program adds. */
struct app_ops {
	/* Create what the command line names. 0, or -errno and that has been
	 * logged: what was made before is removed by begin_stop(). */
	int (*create)(struct app *app);
	/* Log one line that says what is served now: "... device(s) on ...". */
	void (*report)(struct app *app);
	/* Begin to remove everything; app_end() when all of it has gone. */
	void (*begin_stop)(struct app *app);
	/* All has gone, the loops have not: free what they used. NULL ok. */
	void (*ended)(struct app *app);
	/* Of the control socket; opaque is the struct app. */
	const struct rpc_method *methods;
};

/* Embedded in the program's own struct. */
struct app {
	const char *program; /* the caller's, as ops */
	const struct app_ops *ops;
	struct evloop *ev;
	struct loop *loops[CPU_LIST_MAX];
	unsigned int nr_loops;
	struct rpc_server *rpc;
	struct ev_fd signals;
	bool stopping; /* ends as soon as everything has gone */
};

/*
 * Descriptors 0 to 2 that are closed would be taken by sockets and images, and
 * a log line would end in a guest's disk. First of all in main().
 */
void app_fill_standard_fds(void);

/*
 * Serve until a signal ends it. app->program and app->ops are set, the rest is
 * zero; event loop and poll loops are there from create() until the return. The
 * exit status of the program.
 */
int app_run(struct app *app, const struct app_options *opts);

/* Nothing is left to be removed. Only while app->stopping. */
void app_end(struct app *app);

#endif
