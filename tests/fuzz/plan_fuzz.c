/*
 * Fuzz target: what an administrator writes for ringbolt-vf. A plan is taken or
 * refused with a sentence that begins with the file's name and a line; what was
 * taken keeps the promises of sriov/plan.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/plan.h"

#define NAME "fuzz.yaml"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_message(const char *text)
{
	check(!strncmp(text, NAME ":", strlen(NAME) + 1));
	check(strtol(text + strlen(NAME) + 1, NULL, 10) > 0);
}

static void check_vf(const struct sriov_plan_pf *pf, unsigned int i)
{
	const struct sriov_plan_vf *vf = &pf->vf[i];
	char text[SRIOV_TEXT_LEN];

	check(vf->first <= vf->last && vf->last < pf->vfs);
	check(!(vf->conf.has & SRIOV_CONF_MAC) || vf->first == vf->last);
	check(!(vf->conf.has & SRIOV_CONF_MAC) || !(vf->conf.mac[0] & 1));
	check(!(vf->conf.has & SRIOV_CONF_VLAN) || vf->conf.vlan < 4095);
	for (unsigned int j = 0; j < i; j++)
		check(vf->first > pf->vf[j].last || vf->last < pf->vf[j].first);
	sriov_conf_text(&vf->conf, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sriov_opts opts = { .root = "/nowhere" };
	struct sriov_plan *plan = NULL;
	struct sriov *s;
	int res;

	if (sriov_open(&opts, &s) < 0)
		return 0;
	res = sriov_plan_parse(s, NAME, (const char *)data, size, &plan);
	if (res < 0) {
		check(res == -EINVAL);
		check_message(sriov_error(s));
	}
	for (unsigned int i = 0; plan && i < plan->nr; i++) {
		check(*plan->pf[i].pf);
		for (unsigned int j = 0; j < plan->pf[i].nr; j++)
			check_vf(&plan->pf[i], j);
	}
	sriov_plan_free(plan);
	sriov_close(s);
	return 0;
}
