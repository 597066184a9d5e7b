/*
 * ringbolt-blk: vhost-user block devices. main() puts options, devices and the
 * frame of a back-end program (app.c) together.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>

#include "apps/blk_app.h"
#include "core/base.h"
#include "core/log.h"

static struct blk_app *blk_app(struct app *app)
{
	return container_of(app, struct blk_app, app);
}

static int create(struct app *app)
{
	const struct blk_options *opts = blk_app(app)->opts;
	struct blk_device *dev;
	char err[VBLK_ERR_LEN];
	int res;

	for (unsigned int i = 0; i < opts->nr_devices; i++) {
		res = blk_app_add(blk_app(app), &opts->devices[i], &dev, err);
		if (res < 0) {
			log_err("%s", err);
			return res;
		}
	}
	return 0;
}

static void report(struct app *app)
{
	log_info("ringbolt-blk " RINGBOLT_VERSION ": %u device(s) on %u loop(s)",
		 blk_app(app)->opts->nr_devices, app->nr_loops);
}

static void begin_stop(struct app *app)
{
	struct blk_device *dev = blk_app(app)->devices, *next;

	if (!dev)
		app_end(app);
	for (; dev; dev = next) {
		next = dev->next;
		if (!dev->leaving)
			blk_app_remove(dev, NULL);
	}
}

int main(int argc, char **argv)
{
	static const struct app_ops ops = {
		.create = create,
		.report = report,
		.begin_stop = begin_stop,
		.methods = blk_rpc_methods,
	};
	struct blk_options opts;
	struct blk_app app = {
		.app = { .program = "ringbolt-blk", .ops = &ops },
		.opts = &opts,
	};
	int res;

	app_fill_standard_fds();
	res = blk_options_parse(argc, argv, &opts);
	if (res == APP_RUN)
		res = app_run(&app.app, &opts.process);
	else
		res = app_options_status(res);
	blk_options_free(&opts);
	return res;
}
