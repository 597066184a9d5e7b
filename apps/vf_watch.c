/*
 * watch of ringbolt-vf: a line, or one JSON object, for each event, until a
 * signal or a reader that has gone ends it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "apps/vf_cmds.h"
#include "apps/vf_opts.h"
#include "core/base.h"
#include "sriov/watch.h"

/* "2026-11-21T01:02:03.456Z" */
static void time_text(char *text, size_t len)
{
	struct timeval now;
	struct tm utc;
	size_t used;

	gettimeofday(&now, NULL);
	gmtime_r(&now.tv_sec, &utc);
	used = strftime(text, len, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + used, len - used, ".%03uZ", (unsigned int)(now.tv_usec / 1000) % 1000);
}

static void told_text(void *opaque, const struct sriov_event *e)
{
	char when[40];

	time_text(when, sizeof(when));
	printf("%s %s %s%s%s%s%s\n", when, *e->addr ? e->addr : "-", sriov_event_names[e->kind],
	       *e->netdev ? " " : "", e->netdev, *e->detail ? " " : "",
	       *e->detail		       ? e->detail
	       : e->kind == SRIOV_EVENT_DRIVER ? " none"
					       : "");
}

static void told_json(void *opaque, const struct sriov_event *e)
{
	json_t *o = json_object();
	char when[40];

	time_text(when, sizeof(when));
	json_object_set_new(o, "time", json_string(when));
	json_object_set_new(o, "event", json_string(sriov_event_names[e->kind]));
	if (*e->addr)
		json_object_set_new(o, "address", sriov_json_text(e->addr));
	if (*e->pf)
		json_object_set_new(o, "pf", sriov_json_text(e->pf));
	if (*e->netdev)
		json_object_set_new(o, "netdev", sriov_json_text(e->netdev));
	if (*e->detail || e->kind == SRIOV_EVENT_DRIVER)
		json_object_set_new(o, "detail", sriov_json_text(e->detail));
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}

int vf_run_watch(struct vf_context *c)
{
	bool as_json = c->opts->given & VF_OPT_JSON;
	struct sriov_watch *watch;
	int res;

	res = sriov_watch_open(c->s, &watch);
	if (res < 0)
		return res;
	/* From here on nothing is missed: who reads this may begin. */
	fprintf(stderr, VF_PROGRAM ": watching\n");
	do {
		res = sriov_watch_wait(watch, -1, as_json ? told_json : told_text, NULL);
		if (fflush(stdout))
			res = -errno;
	} while (res >= 0 || res == -EINTR);
	sriov_watch_close(watch);
	return res;
}
