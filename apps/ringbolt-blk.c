/*
 * ringbolt-blk: vhost-user block devices. main() puts loops, devices and the
 * control socket together, runs the control thread, and takes all apart again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "apps/blk_app.h"
#include "core/base.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/sigbus.h"

struct program {
	struct blk_app app;
	struct ev_fd signals;
};

/* Drain and close everything; the event loop ends with the last device. */
static void begin_stop(struct blk_app *app)
{
	app->stopping = true;
	rpc_server_destroy(app->rpc);
	app->rpc = NULL;
	if (!app->devices)
		evloop_quit(app->ev);
	for (struct blk_device *dev = app->devices, *next; dev; dev = next) {
		next = dev->next;
		if (!dev->leaving)
			blk_app_remove(dev, NULL);
	}
}

static void on_signal(struct ev_fd *w, uint32_t events)
{
	struct program *prog = container_of(w, struct program, signals);
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (prog->app.stopping) {
		log_info("signal %u: still waiting for requests in flight", info.ssi_signo);
		return;
	}
	log_info("signal %u: ending", info.ssi_signo);
	begin_stop(&prog->app);
}

/* Before other threads exist: they inherit the mask, and the control thread
 * reads the signals from a descriptor. */
static int watch_signals(struct program *prog)
{
	sigset_t mask;
	int res;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	prog->signals.handle = on_signal;
	prog->signals.fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	if (prog->signals.fd < 0)
		return -errno;
	res = ev_fd_add(prog->app.ev, &prog->signals, EPOLLIN);
	if (res < 0)
		fd_replace(&prog->signals.fd, -1);
	return res;
}

static int create_loops(struct blk_app *app, const struct blk_options *opts)
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

static int create_devices(struct blk_app *app, const struct blk_options *opts)
{
	struct blk_device *dev;
	char err[VBLK_ERR_LEN];
	int res;

	for (unsigned int i = 0; i < opts->nr_devices; i++) {
		res = blk_app_add(app, &opts->devices[i], &dev, err);
		if (res < 0) {
			log_err("%s", err);
			return res;
		}
	}
	return 0;
}

/* Last, so that a control client never meets a half-made process. */
static int create_control(struct blk_app *app, const struct blk_options *opts)
{
	const char *reason;
	int res;

	if (!opts->control)
		return 0;
	res = rpc_server_create(app->ev, opts->control, blk_rpc_methods, app, &app->rpc);
	if (res < 0) {
		reason = res == -EADDRINUSE ? "a live server listens there"
			 : res == -EEXIST   ? "exists and is not a socket"
					    : strerror(-res);
		log_err("%s: %s", opts->control, reason);
	}
	return res;
}

static int serve(struct program *prog, const struct blk_options *opts)
{
	struct blk_app *app = &prog->app;
	int res, run;

	res = watch_signals(prog);
	if (res < 0) {
		log_err("signals: %s", strerror(-res));
		return res;
	}
	res = create_loops(app, opts);
	if (!res)
		res = create_devices(app, opts);
	if (!res)
		res = create_control(app, opts);
	if (!res)
		log_info("ringbolt-blk " RINGBOLT_VERSION ": %u device(s) on %u loop(s)",
			 opts->nr_devices, app->nr_loops);
	/* What was made before a failure is drained and removed the same way. */
	if (res < 0)
		begin_stop(app);
	run = evloop_run(app->ev);
	if (run < 0)
		log_err("event loop: %s", strerror(-run));
	while (app->nr_loops)
		loop_destroy(app->loops[--app->nr_loops]);
	ev_fd_del(app->ev, &prog->signals);
	fd_replace(&prog->signals.fd, -1);
	return res < 0 ? res : run;
}

/* Descriptors 0 to 2 that are closed would be taken by sockets and images, and
 * a log line would end in a guest's disk. */
static void fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct program prog = { .signals.fd = -1 };
	struct blk_options opts;
	int res;

	fill_standard_fds();
	res = blk_options_parse(argc, argv, &opts);
	if (res != BLK_RUN) {
		blk_options_free(&opts);
		if (res < 0)
			return res == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
		return fflush(stdout) ? EXIT_FAILED : EXIT_SUCCESS;
	}
	log_set_level((enum log_level)opts.log_level);

	res = sigbus_init();
	if (!res) {
		prog.app.ev = evloop_create();
		res = prog.app.ev ? serve(&prog, &opts) : -ENOMEM;
		evloop_destroy(prog.app.ev);
	}
	if (res == -ENOMEM)
		log_err("out of memory or descriptors");
	blk_options_free(&opts);
	return res < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}
