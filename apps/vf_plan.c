/*
 * apply and diff of ringbolt-vf: a plan's differences, one line each, or as
 * JSON.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "apps/vf_cmds.h"
#include "apps/vf_opts.h"
#include "core/base.h"
#include "sriov/plan.h"

static const char *const states[] = { "wanted", "done", "failed" };
static const char marks[] = { '+', '*', '!' };
static_assert(ARRAY_SIZE(states) == sizeof(marks), "a mark per state");

static void told_text(void *opaque, const struct sriov_change *change)
{
	printf("%c %s: %s%s%s\n", marks[change->state], change->where, change->text,
	       *change->reason ? ": " : "", change->reason);
}

static void told_json(void *opaque, const struct sriov_change *change)
{
	json_t *list = opaque, *item;

	item = json_pack("{s:o, s:o, s:s}", "where", sriov_json_text(change->where), "change",
			 sriov_json_text(change->text), "state", states[change->state]);
	if (*change->reason)
		json_object_set_new(item, "reason", sriov_json_text(change->reason));
	json_array_append_new(list, item);
}

/* The number of differences in *nr; EXIT_FAILED if one could not be made to go:
 * that has been told, with its reason. */
static int walk(struct vf_context *c, bool apply, int *nr)
{
	bool as_json = c->opts->given & VF_OPT_JSON;
	struct sriov_plan *plan;
	json_t *list = NULL;
	int res;

	res = sriov_plan_load(c->s, c->opts->args[0], &plan);
	if (res < 0)
		return res;
	res = sriov_plan_check(c->s, plan);
	if (!res && apply)
		res = sriov_lock(c->s);
	if (!res) {
		list = as_json ? json_array() : NULL;
		*nr = sriov_plan_walk(c->s, plan, apply, as_json ? told_json : told_text, list);
		if (as_json)
			vf_print_json(list);
		res = *nr < 0 ? EXIT_FAILED : 0;
	}
	sriov_plan_free(plan);
	return res;
}

int vf_run_apply(struct vf_context *c)
{
	int nr;

	return walk(c, !(c->opts->given & VF_OPT_DRY_RUN), &nr);
}

int vf_run_diff(struct vf_context *c)
{
	int nr = 0, res = walk(c, false, &nr);

	/* As diff(1): differences are no success. */
	return !res && nr ? EXIT_FAILED : res;
}
