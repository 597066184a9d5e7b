/*
 * The difference between a plan and this machine, and its end. Called by
 * programs: diff and dry run without changes, apply with them, by the same walk,
 * so that what is told is what is done.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"

struct walk {
	struct sriov *s;
	bool apply;
	void (*told)(void *opaque, const struct sriov_change *change);
	void *opaque;
	int nr, failure;
};

/* A difference, and what became of it: res of the attempt, if there was one. */
static void tell(struct walk *w, const char *where, const char *text, int res)
{
	struct sriov_change change = {
		.where = where,
		.text = text,
		.reason = res < 0 ? w->s->err : "",
		.state = res < 0    ? SRIOV_CHANGE_FAILED
			 : w->apply ? SRIOV_CHANGE_DONE
				    : SRIOV_CHANGE_WANTED,
	};

	if (res >= 0)
		w->nr++;
	else if (!w->failure)
		w->failure = res;
	w->told(w->opaque, &change);
}

/* What the plan says of one VF. */
struct wanted {
	struct sriov_conf conf;
	const char *driver, *owners;
	bool has_owners;
};

static struct wanted wanted_of(const struct sriov_plan_pf *pf, unsigned int index)
{
	struct wanted w = { .driver = *pf->driver ? pf->driver : SRIOV_DRIVER_AUTO,
			    .owners = pf->owners,
			    .has_owners = pf->has_owners };

	for (unsigned int i = 0; i < pf->nr; i++) {
		const struct sriov_plan_vf *vf = &pf->vf[i];

		if (index < vf->first || index > vf->last)
			continue;
		w.conf = vf->conf;
		if (*vf->driver)
			w.driver = vf->driver;
		if (vf->has_owners) {
			w.owners = vf->owners;
			w.has_owners = true;
		}
	}
	return w;
}

/* ---- One VF ---- */

/* A claim has the last word: 0, or -EBUSY and who it is. */
static int check_claim(struct walk *w, const struct sriov_func *f)
{
	if (f->claim == SRIOV_CLAIM_NONE)
		return 0;
	return sriov_fail(w->s, -EBUSY, "is claimed by %s and left as it is", f->owner);
}

/* Its table tells, if we may look; that 0 was wanted, as many as it has by itself,
 * is known from what we gave. */
static bool has_vectors(const struct sriov_func *f, uint64_t want)
{
	if (want && f->msix)
		return f->msix == want;
	return f->msix_given && f->msix_nr == want;
}

static void walk_conf(struct walk *w, const struct sriov_func *f, const struct wanted *want)
{
	char text[SRIOV_TEXT_LEN], was[SRIOV_TEXT_LEN], change[2 * SRIOV_TEXT_LEN + 16];
	struct sriov_conf differs = want->conf, had = f->conf;
	bool vectors = want->conf.has & SRIOV_CONF_MSIX && !has_vectors(f, want->conf.msix);
	int res;

	differs.has = sriov_conf_differs(&want->conf, &f->conf);
	differs.has |= vectors ? SRIOV_CONF_MSIX : 0;
	if (!differs.has)
		return;
	had.has |= f->msix || f->msix_given ? SRIOV_CONF_MSIX : 0;
	had.msix = f->msix ? f->msix : f->msix_nr;
	had.has &= differs.has;
	sriov_conf_text(&differs, text);
	sriov_conf_text(&had, was);
	sriov_text(change, sizeof(change), "%s (was %s)", text, *was ? was : "not told");
	res = check_claim(w, f);
	if (!res && w->apply) {
		differs.has &= ~(unsigned int)SRIOV_CONF_MSIX;
		res = sriov_configure(w->s, f->addr, &differs);
		if (!res && vectors)
			res = sriov_bind_vectors(w->s, f->addr, want->conf.msix);
	}
	tell(w, f->addr, change, res);
}

static void walk_vf(struct walk *w, const struct sriov_plan_pf *pf, const char *addr)
{
	char change[2 * SRIOV_TEXT_LEN + 32];
	struct sriov_func f = { 0 };
	struct wanted want;
	int res;

	res = sriov_func_read(w->s, addr, SRIOV_LIST_CONF, &f);
	if (res < 0 || f.vf_index < 0) {
		tell(w, addr, "cannot be read", res < 0 ? res : -ENODEV);
		return;
	}
	want = wanted_of(pf, (unsigned int)f.vf_index);
	walk_conf(w, &f, &want);
	if (!sriov_has_driver(&f, want.driver)) {
		sriov_text(change, sizeof(change), "driver %s -> %s", *f.driver ? f.driver : "none",
			   want.driver);
		res = check_claim(w, &f);
		if (!res)
			res = w->apply ? sriov_bind(w->s, addr, want.driver, 0)
				       : sriov_bind_check(w->s, addr, want.driver, 0);
		tell(w, addr, change, res);
	}
	if (want.has_owners && strcmp(f.owners, want.owners) != 0) {
		sriov_text(change, sizeof(change), "owners %s -> %s",
			   *f.owners ? f.owners : "anybody",
			   *want.owners ? want.owners : "anybody");
		res = w->apply ? sriov_set_owners(w->s, addr, want.owners) : 0;
		tell(w, addr, change, res);
	}
}

/* ---- One PF ---- */

/* Call one() for each VF until it fails, first for those that give vectors back:
 * the others may get them. */
static int each_vf(struct sriov *s, const struct sriov_plan_pf *pf, const char *addr,
		   int (*one)(void *opaque, const char *vf, unsigned int index), void *opaque)
{
	char(*vf)[SRIOV_ADDR_LEN];
	int nr, res = 0;

	nr = sriov_vf_addrs(s, addr, &vf);
	if (nr < 0)
		return sriov_fail(s, nr, "%s: %s", addr, strerror(-nr));
	for (int give_back = 1; give_back >= 0; give_back--) {
		for (int i = 0; i < nr && !res; i++) {
			struct sriov_conf conf = wanted_of(pf, (unsigned int)i).conf;

			if (!*vf[i] || (give_back && (!(conf.has & SRIOV_CONF_MSIX) ||
						      !sriov_msix_gives_back(s, vf[i], conf.msix))))
				continue;
			res = one(opaque, vf[i], (unsigned int)i);
			*vf[i] = '\0';
		}
	}
	free(vf);
	return res;
}

/* The one driver of all VFs. If they differ, those with a driver of their own are
 * bound later, and auto is for the others, if there are any. */
static const char *common_driver(const struct sriov_plan_pf *pf)
{
	const char *first = wanted_of(pf, 0).driver, *driver;
	bool differ = false, any_auto = false;

	for (unsigned int i = 0; i < pf->vfs; i++) {
		driver = wanted_of(pf, i).driver;
		differ |= strcmp(driver, first) != 0;
		any_auto |= !strcmp(driver, SRIOV_DRIVER_AUTO);
	}
	if (!differ)
		return first;
	return any_auto ? SRIOV_DRIVER_AUTO : SRIOV_DRIVER_NONE;
}

struct new_vfs {
	struct sriov *s;
	const struct sriov_plan_pf *pf;
	bool is_auto;
};

static int configure_one(void *opaque, const char *vf, unsigned int index)
{
	const struct new_vfs *new = opaque;
	struct wanted want = wanted_of(new->pf, index);
	int res = 0;

	if (want.conf.has)
		res = sriov_configure(new->s, vf, &want.conf);
	if (!res && new->is_auto && strcmp(want.driver, SRIOV_DRIVER_AUTO) != 0 &&
	    strcmp(want.driver, SRIOV_DRIVER_DEFAULT) != 0)
		res = sriov_bind_to_none(new->s, vf);
	return res;
}

/* New VFs are configured before a driver can read what they are; auto must not
 * reach those that shall have another one or none. */
static int configure_new(struct sriov *s, const char *addr, void *opaque)
{
	const struct sriov_plan_pf *pf = opaque;
	struct new_vfs new = { s, pf, !strcmp(common_driver(pf), SRIOV_DRIVER_AUTO) };

	return each_vf(s, pf, addr, configure_one, &new);
}

/* What will be there after the VFs are made. */
static void tell_new(struct walk *w, const struct sriov_plan_pf *pf, const char *addr)
{
	char where[SRIOV_NAME_LEN], text[SRIOV_TEXT_LEN], change[2 * SRIOV_TEXT_LEN];
	struct wanted want;

	for (unsigned int i = 0; i < pf->vfs; i++) {
		want = wanted_of(pf, i);
		sriov_conf_text(&want.conf, text);
		if (!*text && !strcmp(want.driver, SRIOV_DRIVER_AUTO))
			continue;
		sriov_text(where, sizeof(where), "%s/%u", addr, i);
		sriov_text(change, sizeof(change), "%s%sdriver %s", text, *text ? " " : "",
			   want.driver);
		tell(w, where, change, 0);
	}
}

/* True if the VFs that the plan speaks of are there. */
static bool walk_count(struct walk *w, const struct sriov_plan *plan,
		       const struct sriov_plan_pf *pf, const struct sriov_func *f)
{
	struct sriov_resize want = { .nr_vfs = pf->vfs,
				     .replace = pf->replace,
				     .driver = common_driver(pf),
				     .configure = configure_new,
				     .opaque = (void *)pf };
	char change[SRIOV_NAME_LEN];
	int res = 0;

	if (f->nr_vfs == pf->vfs)
		return true;
	sriov_text(change, sizeof(change), "vfs %u -> %u", f->nr_vfs, pf->vfs);
	if (w->apply)
		res = sriov_resize(w->s, f->addr, &want);
	else
		res = sriov_resize_check(w->s, f, &want);
	if (res == -ERANGE)
		sriov_fail_more(w->s, "%s:%d: vfs: ", plan->name, pf->vfs_line);
	tell(w, f->addr, change, res);
	if (res >= 0 && !w->apply)
		tell_new(w, pf, f->addr);
	return res >= 0 && w->apply;
}

struct walk_vfs {
	struct walk *w;
	const struct sriov_plan_pf *pf;
};

static int walk_one(void *opaque, const char *vf, unsigned int index)
{
	const struct walk_vfs *vfs = opaque;

	walk_vf(vfs->w, vfs->pf, vf);
	return 0;
}

static void walk_pf(struct walk *w, const struct sriov_plan *plan, const struct sriov_plan_pf *pf)
{
	char where[SRIOV_TEXT_LEN + 16], addr[SRIOV_ADDR_LEN];
	struct walk_vfs vfs = { w, pf };
	struct sriov_func f = { 0 };
	int res;

	res = sriov_resolve(w->s, pf->pf, addr);
	if (!res)
		res = sriov_func_read(w->s, addr, 0, &f);
	if (res < 0) {
		sriov_text(where, sizeof(where), "%s:%d", plan->name, pf->line);
		/* It is in the file, not on this machine: no mistake of writing. */
		tell(w, where, "pf", res == -EINVAL ? -ENODEV : res);
		return;
	}
	if (walk_count(w, plan, pf, &f))
		each_vf(w->s, pf, addr, walk_one, &vfs);
}

int sriov_plan_walk(struct sriov *s, const struct sriov_plan *plan, bool apply,
		    void (*told)(void *opaque, const struct sriov_change *change), void *opaque)
{
	struct walk w = { .s = s, .apply = apply, .told = told, .opaque = opaque };

	for (unsigned int i = 0; i < plan->nr; i++) {
		/* Somebody may have come since the last one. */
		sriov_users_forget(s);
		walk_pf(&w, plan, &plan->pf[i]);
	}
	return w.failure ? w.failure : w.nr;
}
