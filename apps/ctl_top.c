/*
 * ringboltctl top: what the counters of a switch do in an interval, made of two
 * answers to "counters". The program itself keeps no rates.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "apps/ctl.h"
#include "core/base.h"
#include "core/opts.h"

#define CLEAR_SCREEN "\033[H\033[J"

struct top {
	const struct ctl_call *call;
	uint64_t seconds, count; /* count 0: until a signal ends it */
	double interval_s; /* between the two answers compared */
};

static int parse(struct top *t)
{
	static const struct opt_desc seconds = { .type = OPT_UINT, .min = 1, .max = 86400 };
	static const struct opt_desc count = { .type = OPT_UINT, .min = 1 };
	const char *text;
	char err[OPTS_ERR_LEN];
	int res = 0;

	text = json_string_value(json_object_get(t->call->params, "seconds"));
	if (text)
		res = opts_parse_value("top: SECONDS", text, &seconds, &t->seconds, err);
	text = json_string_value(json_object_get(t->call->params, "count"));
	if (text && !res)
		res = opts_parse_value("top: COUNT", text, &count, &t->count, err);
	if (res < 0)
		fprintf(stderr, CTL_PROGRAM ": %s\n", err);
	return res;
}

/* The element of a list whose key is that of like, or NULL. */
static json_t *same(json_t *list, const char *key, json_t *like)
{
	json_t *wanted = json_object_get(like, key), *element;
	size_t i;

	json_array_foreach(list, i, element)
	{
		if (json_equal(json_object_get(element, key), wanted))
			return element;
	}
	return NULL;
}

/* How much a counter grew; one that was not there before began at 0. */
static double growth(json_t *before, json_t *now, const char *key)
{
	return (double)(json_integer_value(json_object_get(now, key)) -
			json_integer_value(json_object_get(before, key)));
}

static double rate(const struct top *t, json_t *before, json_t *now, const char *key)
{
	return growth(before, now, key) / t->interval_s;
}

static double each(double sum, double nr)
{
	return nr > 0 ? sum / nr : 0;
}

static json_t *port_row(const struct top *t, const char *name, json_t *before, json_t *now)
{
	json_t *drops_before = json_object_get(before, "drops");
	json_t *drops = json_object_get(now, "drops"), *value;
	double dropped = 0;
	const char *key;

	json_object_foreach(drops, key, value) dropped += rate(t, drops_before, drops, key);
	return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "port", name, "in-frames/s",
			 rate(t, before, now, "in-frames"), "in-Mbit/s",
			 rate(t, before, now, "in-bytes") * 8 / 1e6, "in-burst",
			 each(growth(before, now, "in-frames"), growth(before, now, "in-bursts")),
			 "out-frames/s", rate(t, before, now, "out-frames"), "out-Mbit/s",
			 rate(t, before, now, "out-bytes") * 8 / 1e6, "out-burst",
			 each(growth(before, now, "out-frames"), growth(before, now, "out-bursts")),
			 "drops/s", dropped);
}

/* A row for each reason for which frames were dropped. */
static void add_drops(const struct top *t, json_t *rows, const char *name, json_t *before,
		      json_t *now)
{
	json_t *drops_before = json_object_get(before, "drops");
	json_t *drops = json_object_get(now, "drops"), *value;
	const char *key;
	double dropped;

	json_object_foreach(drops, key, value)
	{
		dropped = rate(t, drops_before, drops, key);
		if (dropped > 0)
			json_array_append_new(rows, json_pack("{s:s, s:s, s:f}", "port", name,
							      "reason", key, "drops/s", dropped));
	}
}

static json_t *key_of_queue(json_t *queue)
{
	json_t *index = json_object_get(queue, "index");

	return index ? index : json_object_get(queue, "queue");
}

static void add_queues(const struct top *t, json_t *rows, const char *name, json_t *before,
		       json_t *now)
{
	json_t *queue, *old, *loop, *role;
	double frames;
	size_t i;

	json_array_foreach(now, i, queue)
	{
		old = same(before, json_object_get(queue, "index") ? "index" : "queue", queue);
		frames = growth(old, queue, "frames");
		if (frames <= 0)
			continue;
		loop = json_object_get(queue, "loop");
		role = json_object_get(queue, "role");
		json_array_append_new(
			rows,
			json_pack("{s:s, s:O*, s:O, s:O, s:f, s:f, s:f, s:f}", "port", name, "role",
				  role, "queue", key_of_queue(queue), "loop",
				  loop ? loop : json_null(), "frames/s", frames / t->interval_s,
				  "burst", each(frames, growth(old, queue, "bursts")),
				  "notifications/s", rate(t, old, queue, "notifications"),
				  "kicks/s", rate(t, old, queue, "kicks")));
	}
}

static json_t *compare(struct top *t, json_t *before, json_t *now)
{
	json_t *ports = json_array(), *queues = json_array(), *drops = json_array();
	json_t *old_ports = json_object_get(before, "ports"), *port, *old, *counters, *was;
	const char *name;
	size_t i;

	t->interval_s = growth(before, now, "time-ns") / 1e9;
	if (t->interval_s <= 0)
		t->interval_s = 1;
	json_array_foreach(json_object_get(now, "ports"), i, port)
	{
		name = json_string_value(json_object_get(port, "name"));
		old = same(old_ports, "name", port);
		counters = json_object_get(port, "counters");
		was = json_object_get(old, "counters");
		if (!name)
			continue;
		json_array_append_new(ports, port_row(t, name, was, counters));
		add_queues(t, queues, name, json_object_get(old, "queues"),
			   json_object_get(port, "queues"));
		add_drops(t, drops, name, was, counters);
	}
	return json_pack("{s:f, s:O, s:o, s:o, s:o}", "seconds", t->interval_s, "loops",
			 json_object_get(now, "loops"), "ports", ports, "queues", queues, "drops",
			 drops);
}

static int show(struct top *t, json_t *before, json_t *now)
{
	json_t *rates = compare(t, before, now);
	int status;

	if (!t->call->as_json && isatty(STDOUT_FILENO) && t->count != 1)
		fputs(CLEAR_SCREEN, stdout);
	status = ctl_show(t->call, rates);
	json_decref(rates);
	return status;
}

int ctl_top(const struct ctl_call *call)
{
	struct top t = { .call = call, .seconds = 1 };
	json_t *before, *now;
	int status = EXIT_SUCCESS;
	struct timespec pause;

	if (parse(&t) < 0)
		return EXIT_USAGE;
	before = ctl_ask(call, "counters", NULL);
	for (uint64_t i = 0; before && status == EXIT_SUCCESS && (!t.count || i < t.count); i++) {
		pause = (struct timespec){ .tv_sec = (time_t)t.seconds };
		nanosleep(&pause, NULL);
		now = ctl_ask(call, "counters", NULL);
		if (now)
			status = show(&t, before, now);
		json_decref(before);
		before = now;
	}
	json_decref(before);
	return before ? status : EXIT_FAILED;
}
