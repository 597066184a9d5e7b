/*
 * Netlink with a bound. Called wherever sriov/ asks or tells the kernel something
 * of a network device. Looks at nothing itself: that is struct sriov_os.
 *
 * rtnetlink carries out a request while it is sent, under one lock for all
 * network devices of the machine; a driver that waits for its card with that lock
 * held makes everybody wait who sends one, and no time-out of a socket ends that.
 * So a child sends it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

#define USES_MAX 32 /* reasons of one network device; nobody reads more */

/* What is shared with the child. The first member of each is a name. */
struct question {
	char name[IFNAMSIZ > SRIOV_ADDR_LEN ? IFNAMSIZ : SRIOV_ADDR_LEN];
	bool up;
	unsigned int nr; /* of a VF, or of uses */
	struct sriov_conf conf;
	struct sriov_blocker use[USES_MAX];
	char mode[SRIOV_NAME_LEN];
};

struct conf_question {
	char name[IFNAMSIZ];
	unsigned int nr;
	struct sriov_conf conf[];
};

static int call(struct sriov *s, struct sriov_rec *rec, const char *text, void *q, size_t len,
		int (*run)(struct sriov *s, void *arg))
{
	const struct sriov_call c = { .where = q, .text = text, .run = run, .arg = q, .len = len };

	return sriov_guard_call(s, rec, &c);
}

/* ---- Questions ---- */

static int run_conf(struct sriov *s, void *arg)
{
	struct conf_question *q = arg;

	return s->os->conf_get(s, q->name, q->conf, q->nr);
}

int sriov_ask_conf(struct sriov *s, const char *netdev, struct sriov_conf *conf, unsigned int nr)
{
	size_t len = sizeof(struct conf_question) + nr * sizeof(*conf);
	struct conf_question *q = calloc(1, len);
	int res;

	if (!q)
		return -ENOMEM;
	sriov_text(q->name, sizeof(q->name), "%s", netdev);
	q->nr = nr;
	res = call(s, NULL, "configuration of its VFs", q, len, run_conf);
	if (res >= 0)
		memcpy(conf, q->conf, nr * sizeof(*conf));
	if (res > 0)
		log_warn("%s: the kernel has not told of %d VFs: their list does not fit its "
			 "message",
			 netdev, res);
	free(q);
	return res < 0 ? res : 0;
}

static int run_net_use(struct sriov *s, void *arg)
{
	struct sriov_blockers b = { 0 };
	struct question *q = arg;
	int res;

	res = s->os->net_use(s, q->name, &b);
	q->nr = (unsigned int)min_u64(b.nr, USES_MAX);
	if (q->nr)
		memcpy(q->use, b.item, q->nr * sizeof(*b.item));
	sriov_blockers_free(&b);
	return res;
}

int sriov_ask_net_use(struct sriov *s, const char *netdev, struct sriov_blockers *b)
{
	struct question *q = calloc(1, sizeof(*q));
	int res;

	if (!q)
		return -ENOMEM;
	sriov_text(q->name, sizeof(q->name), "%s", netdev);
	res = call(s, NULL, "who uses it", q, sizeof(*q), run_net_use);
	for (unsigned int i = 0; i < q->nr && res >= 0; i++)
		res = sriov_blocker_add(b, q->use[i].kind, "%s", q->use[i].text);
	free(q);
	return res;
}

static int run_eswitch(struct sriov *s, void *arg)
{
	struct question *q = arg;

	return s->os->eswitch(s, "pci", q->name, q->mode);
}

int sriov_ask_eswitch(struct sriov *s, const char *addr, char *mode)
{
	struct question *q = calloc(1, sizeof(*q));
	int res;

	if (!q)
		return -ENOMEM;
	sriov_text(q->name, sizeof(q->name), "%s", addr);
	res = call(s, NULL, "mode of its switch", q, sizeof(*q), run_eswitch);
	memcpy(mode, q->mode, SRIOV_NAME_LEN);
	free(q);
	return res;
}

/* ---- Changes ---- */

static int run_conf_set(struct sriov *s, void *arg)
{
	struct question *q = arg;

	return s->os->conf_set(s, q->name, q->nr, &q->conf);
}

static int run_link_set(struct sriov *s, void *arg)
{
	struct question *q = arg;

	return s->os->link_set(s, q->name, q->up);
}

/* The record of the VF, or with vf -1 of the PF; false if it is no PCI function, as
 * with netdevsim: then there is nothing to keep others away from. */
static bool find_rec(struct sriov *s, const char *netdev, int vf, struct sriov_rec *rec, int *res)
{
	char(*vfs)[SRIOV_ADDR_LEN] = NULL;
	char addr[SRIOV_ADDR_LEN];
	int nr;

	*res = 0;
	if (sriov_netdev_function(s, netdev, addr) < 0)
		return false;
	if (vf >= 0) {
		nr = sriov_vf_addrs(s, addr, &vfs);
		addr[0] = '\0';
		if (vf < nr)
			memcpy(addr, vfs[vf], sizeof(addr));
		free(vfs);
	}
	if (!*addr)
		return false;
	*res = sriov_rec_load(s, addr, rec);
	/* An earlier one that has not been answered: this one would not be either. */
	if (!*res && sriov_rec_check_writer(s, rec) < 0)
		*res = -ETIMEDOUT;
	return true;
}

static int change(struct sriov *s, int vf, const char *text, struct question *q,
		  int (*run)(struct sriov *s, void *arg))
{
	struct sriov_rec rec = { 0 };
	int res, saved;
	bool found;

	found = find_rec(s, q->name, vf, &rec, &res);
	if (res < 0)
		return res;
	res = call(s, found ? &rec : NULL, text, q, sizeof(*q), run);
	if (!found || res == -ETIMEDOUT)
		return res;
	saved = sriov_rec_save(s, &rec);
	return res < 0 ? res : saved;
}

int sriov_ask_conf_set(struct sriov *s, const char *netdev, unsigned int vf,
		       const struct sriov_conf *conf)
{
	struct question *q = calloc(1, sizeof(*q));
	char text[SRIOV_TEXT_LEN];
	int res;

	if (!q)
		return -ENOMEM;
	sriov_text(q->name, sizeof(q->name), "%s", netdev);
	q->nr = vf;
	q->conf = *conf;
	sriov_conf_text(conf, text);
	res = change(s, (int)vf, text, q, run_conf_set);
	free(q);
	return res;
}

int sriov_ask_link_set(struct sriov *s, const char *netdev, bool up)
{
	struct question *q = calloc(1, sizeof(*q));
	int res;

	if (!q)
		return -ENOMEM;
	sriov_text(q->name, sizeof(q->name), "%s", netdev);
	q->up = up;
	res = change(s, -1, up ? "up" : "down", q, run_link_set);
	free(q);
	return res;
}
