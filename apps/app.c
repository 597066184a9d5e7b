/*
 * The frame of a back-end program: signals, poll loops, control socket, the
 * event loop, and the way back. Called by each main(); knows no device type.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/app.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/sigbus.h"

void app_fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Drain and close everything; the event loop ends with the last of it. */
static void begin_stop(struct app *app)
{
	app->stopping = true;
	rpc_server_destroy(app->rpc);
	app->rpc = NULL;
	app->ops->begin_stop(app);
}

void app_end(struct app *app)
{
	assert(app->stopping);
	evloop_quit(app->ev);
}

static void on_signal(struct ev_fd *w, uint32_t events)
{
	struct app *app = container_of(w, struct app, signals);
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (app->stopping) {
		log_info("signal %u: still waiting for requests in flight", info.ssi_signo);
		return;
	}
	log_info("signal %u: ending", info.ssi_signo);
	begin_stop(app);
}

/* Before other threads exist: they inherit the mask, and the control thread
 * reads the signals from a descriptor. */
static int watch_signals(struct app *app)
{
	sigset_t mask;
	int res;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	app->signals.handle = on_signal;
	app->signals.fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	if (app->signals.fd < 0)
		return -errno;
	res = ev_fd_add(app->ev, &app->signals, EPOLLIN);
	if (res < 0)
		fd_replace(&app->signals.fd, -1);
	return res;
}

static int create_loops(struct app *app, const struct app_options *opts)
{
	unsigned int cnt = opts->nr_cpus ? opts->nr_cpus : 1;
	struct loop_conf conf = { .ev = app->ev, .mode = (enum loop_mode)opts->poll };
	int res;

	for (unsigned int i = 0; i < cnt; i++) {
		conf.cpu = opts->nr_cpus ? opts->cpus[i] : -1;
		conf.index = i;
		res = loop_create(&conf, &app->loops[i]);
		if (res < 0) {
			log_err("poll thread %u: %s", i, strerror(-res));
			return res;
		}
		app->nr_loops++;
	}
	return 0;
}

/* Last, so that a control client never meets a half-made process. */
static int create_control(struct app *app, const struct app_options *opts)
{
	const char *reason;
	int res;

	if (!opts->control)
		return 0;
	res = rpc_server_create(app->ev, opts->control, app->ops->methods, app, &app->rpc);
	if (res < 0) {
		reason = res == -EADDRINUSE ? "a live server listens there"
			 : res == -EEXIST   ? "exists and is not a socket"
					    : strerror(-res);
		log_err("%s: %s", opts->control, reason);
	}
	return res;
}

static int serve(struct app *app, const struct app_options *opts)
{
	int res, run;

	res = watch_signals(app);
	if (res < 0) {
		log_err("signals: %s", strerror(-res));
		return res;
	}
	res = create_loops(app, opts);
	if (!res)
		res = app->ops->create(app);
	if (!res)
		res = create_control(app, opts);
	if (!res)
		app->ops->report(app);
	/* What was made before a failure is drained and removed the same way. */
	if (res < 0)
		begin_stop(app);
	run = evloop_run(app->ev);
	if (run < 0)
		log_err("event loop: %s", strerror(-run));
	if (app->ops->ended)
		app->ops->ended(app);
	while (app->nr_loops)
		loop_destroy(app->loops[--app->nr_loops]);
	ev_fd_del(app->ev, &app->signals);
	fd_replace(&app->signals.fd, -1);
	return res < 0 ? res : run;
}

int app_run(struct app *app, const struct app_options *opts)
{
	int res;

	app->signals.fd = -1;
	log_set_level((enum log_level)opts->log_level);
	res = sigbus_init();
	if (!res) {
		app->ev = evloop_create();
		res = app->ev ? serve(app, opts) : -ENOMEM;
		evloop_destroy(app->ev);
		app->ev = NULL;
	}
	if (res == -ENOMEM)
		log_err("out of memory or descriptors");
	return res < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}
