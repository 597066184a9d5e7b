/*
 * One owner per VF: claim, release, and what becomes of claims whose process has
 * died. Called by programs; the undoing also by recovery.
 *
 * Theory of operation: a claim's record goes claiming, claimed, releasing, gone.
 * In the first state each step writes down what it is about to change, so that
 * the way back, sriov_release_do(), can be gone from anywhere; it is also the
 * way of a normal release. The lock makes one claimer choose at a time: of two
 * that race for the last VF, the second one finds the first one's claim.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "sriov/claim.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/base.h"
#include "core/log.h"

/* ---- The VF's configuration: what was, what is wanted ---- */

/* False if its PF cannot tell: then there is nothing to keep. */
static bool has_conf(struct sriov *s, const struct sriov_func *f, char *netdev)
{
	sriov_netdev(s, f->pf, netdev);
	return *netdev && f->vf_index >= 0;
}

static int save_conf(struct sriov *s, struct sriov_rec *rec, const struct sriov_func *f)
{
	char netdev[IFNAMSIZ];

	if (has_conf(s, f, netdev) &&
	    sriov_conf_read(s, netdev, (unsigned int)f->vf_index, &rec->claim.saved) < 0)
		rec->claim.saved.has = 0;
	s->err[0] = '\0';
	return sriov_rec_save(s, rec);
}

static int write_conf(struct sriov *s, const struct sriov_func *f, const struct sriov_conf *want)
{
	char netdev[IFNAMSIZ];

	if (!(want->has & ~(unsigned int)SRIOV_CONF_MSIX))
		return 0;
	if (!has_conf(s, f, netdev))
		return sriov_fail(s, -ENOTSUP,
				  "%s: its PF %s has no network device, which is what configures "
				  "VFs",
				  f->addr, f->pf);
	return sriov_conf_write(s, netdev, (unsigned int)f->vf_index, want);
}

/* Some drivers forget what the administrator set when the VF's driver changes. */
static int keep_conf(struct sriov *s, const struct sriov_func *f, const struct sriov_conf *want)
{
	char netdev[IFNAMSIZ];
	struct sriov_conf now = { 0 };
	int res;

	if (!want || !(want->has & ~(unsigned int)SRIOV_CONF_MSIX) || !has_conf(s, f, netdev))
		return 0;
	res = sriov_conf_read(s, netdev, (unsigned int)f->vf_index, &now);
	if (res < 0 || !sriov_conf_differs(want, &now))
		return res;
	log_info("%s: its configuration was lost by the new driver and is set again", f->addr);
	return write_conf(s, f, want);
}

/* An address of nobody: the last owner's must not stay. */
static int clear_mac(struct sriov *s, const char *netdev, const struct sriov_func *f)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MAC };

	if (getrandom(conf.mac, sizeof(conf.mac), 0) != sizeof(conf.mac))
		return sriov_fail(s, -EIO, "no random numbers");
	conf.mac[0] = (uint8_t)((conf.mac[0] & 0xfc) | 2);
	log_info("%s: its PF takes no empty address: it has a random one now", f->addr);
	return sriov_conf_write(s, netdev, (unsigned int)f->vf_index, &conf);
}

/* What is different from before, item by item: one that a driver refuses must
 * not keep the others from being taken back. */
static int restore_conf(struct sriov *s, const struct sriov_rec *rec, const struct sriov_func *f)
{
	static const uint8_t no_mac[6];
	const struct sriov_conf *saved = &rec->claim.saved;
	struct sriov_conf now = { 0 }, item = *saved;
	char netdev[IFNAMSIZ];
	unsigned int bits;
	int res, first = 0;

	if (!saved->has || !has_conf(s, f, netdev))
		return 0;
	res = sriov_conf_read(s, netdev, (unsigned int)f->vf_index, &now);
	if (res < 0)
		return res;
	bits = sriov_conf_differs(saved, &now) & now.has;
	/* One call of the driver for all three. */
	if (bits & (SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO))
		bits |= saved->has & (SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO);
	for (unsigned int bit = 1; bit <= bits; bit <<= 1) {
		item.has = bits & bit;
		if (bit == SRIOV_CONF_VLAN)
			item.has = bits & (SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO);
		else if (bit == SRIOV_CONF_QOS || bit == SRIOV_CONF_PROTO)
			item.has = 0;
		if (!item.has)
			continue;
		res = sriov_conf_write(s, netdev, (unsigned int)f->vf_index, &item);
		if (res == -ETIMEDOUT)
			return res; /* nor would it answer for the others */
		if (res < 0 && bit == SRIOV_CONF_MAC && !memcmp(saved->mac, no_mac, sizeof(no_mac)))
			res = clear_mac(s, netdev, f);
		if (res < 0) {
			log_warn("%s", s->err);
			first = first ? first : res;
		}
	}
	return first;
}

/* ---- Reset ---- */

static int reset_do(struct sriov *s, struct sriov_rec *rec)
{
	char path[SRIOV_PATH_LEN];
	int res;

	sriov_dev_path(s, path, rec->addr, "reset");
	if (!sriov_file_exists(path))
		return sriov_fail(s, -ENOTSUP, "%s: the function has no way to be reset",
				  rec->addr);
	res = sriov_guard_write(s, rec, path, "1");
	if (res < 0)
		return res;
	rec->resets++;
	return sriov_rec_save(s, rec);
}

int sriov_reset(struct sriov *s, const char *addr)
{
	struct sriov_func f = { 0 };
	struct sriov_rec rec = { 0 };
	int res;

	res = sriov_func_read(s, addr, 0, &f);
	if (!res)
		res = sriov_rec_load(s, addr, &rec);
	if (!res)
		res = sriov_rec_check_writer(s, &rec);
	if (res < 0)
		return res;
	sriov_users_forget(s);
	res = sriov_check_free(s, &f, 1u << SRIOV_BLOCK_GROUP | 1u << SRIOV_BLOCK_CLAIM,
			       "cannot be reset");
	return res < 0 ? res : reset_do(s, &rec);
}

/* ---- Release ---- */

/* What was handed over, before anybody else has it. */
static int reset_used(struct sriov *s, struct sriov_rec *rec, unsigned int flags)
{
	int res;

	if (!rec->claim.used || flags & SRIOV_RELEASE_NO_RESET)
		return 0;
	res = reset_do(s, rec);
	if (res == -ENOTSUP)
		log_warn("%s: nothing of its last owner's state is cleared", s->err);
	else if (res < 0)
		return res;
	rec->claim.used = false; /* not twice, if this is continued later */
	return sriov_rec_save(s, rec);
}

/* The first failure and its sentence are kept, the others are told. */
static void keep_first(struct sriov *s, int res, int *first, char reason[SRIOV_ERR_LEN])
{
	if (res >= 0)
		return;
	if (*first)
		log_warn("%s", s->err);
	else
		memcpy(reason, s->err, SRIOV_ERR_LEN);
	*first = *first ? *first : res;
}

/* The PF's driver is still at an item of its configuration. Whose writer that is,
 * the record's file says; ours would forget it. */
static bool is_written(struct sriov *s, const char *addr)
{
	struct sriov_rec rec = { 0 };

	return !sriov_rec_load(s, addr, &rec) && sriov_rec_writer_alive(&rec);
}

/*
 * Everything that can be taken back is, whatever fails before it: the files
 * above all, so that the last user is out. Only the host's driver must not have
 * what could not be reset.
 */
static int take_back(struct sriov *s, struct sriov_rec *rec, const struct sriov_func *f,
		     unsigned int flags)
{
	char reason[SRIOV_ERR_LEN] = "";
	int res, first = 0;

	keep_first(s, sriov_nodes_take(s, rec), &first, reason);
	res = reset_used(s, rec, flags);
	if (res == -ETIMEDOUT)
		return res; /* the kernel has it; nothing more can be done now */
	keep_first(s, res, &first, reason);
	if (!res || flags & SRIOV_RELEASE_FORCE) {
		/* Before the host's driver reads it. That the PF's driver does not
		 * answer a question is no reason to leave the VF alone. */
		res = restore_conf(s, rec, f);
		if (res < 0 && is_written(s, rec->addr))
			return -ETIMEDOUT;
		keep_first(s, res == -ETIMEDOUT ? -EIO : res, &first, reason);
		res = sriov_msix_restore(s, rec);
		if (!res)
			res = sriov_bind_return(s, rec);
		if (res == -ETIMEDOUT)
			return res;
		keep_first(s, res, &first, reason);
	}
	return first < 0 ? sriov_fail(s, first, "%s", reason) : 0;
}

int sriov_release_do(struct sriov *s, struct sriov_rec *rec, unsigned int flags)
{
	char reason[SRIOV_ERR_LEN];
	struct sriov_func f = { 0 };
	int res;

	rec->claim.phase = SRIOV_PHASE_RELEASING;
	res = sriov_rec_save(s, rec);
	if (!res)
		res = sriov_func_read(s, rec->addr, 0, &f);
	if (!res)
		res = take_back(s, rec, &f, flags);
	if (res == -ETIMEDOUT || (res < 0 && !sriov_dev_exists(s, rec->addr)))
		return res;
	if (res < 0 && !(flags & SRIOV_RELEASE_FORCE)) {
		/* What has been taken back by now, for who continues. */
		memcpy(reason, s->err, sizeof(reason));
		if (sriov_rec_save(s, rec) < 0)
			log_warn("%s", s->err);
		return sriov_fail(s, res, "%s", reason);
	}
	if (res < 0)
		log_warn("%s; released all the same, as --force says", s->err);
	memset(&rec->claim, 0, sizeof(rec->claim));
	return sriov_rec_save(s, rec);
}

static int load_claim(struct sriov *s, const char *vf, const char *owner, unsigned int flags,
		      struct sriov_rec *rec)
{
	int res = sriov_rec_load(s, vf, rec);

	if (!res)
		res = sriov_rec_check_writer(s, rec);
	if (res < 0)
		return res;
	if (!rec->claim.phase)
		return sriov_fail(s, -ENOENT, "%s: nobody has claimed it", vf);
	if (!(flags & SRIOV_RELEASE_FORCE) && (!owner || strcmp(owner, rec->claim.owner) != 0))
		return sriov_fail(s, -EPERM, "%s: is claimed by %s, not by %s", vf,
				  rec->claim.owner, owner ? owner : "you");
	return 0;
}

int sriov_release(struct sriov *s, const char *vf, const char *owner, unsigned int flags)
{
	struct sriov_func f = { 0 };
	struct sriov_rec rec = { 0 };
	int res;

	res = load_claim(s, vf, owner, flags, &rec);
	if (!res)
		res = sriov_func_read(s, vf, 0, &f);
	if (res < 0)
		return res;
	sriov_users_forget(s);
	res = sriov_check_free(s, &f, ~(1u << SRIOV_BLOCK_USER | 1u << SRIOV_BLOCK_STUCK),
			       "cannot be released");
	return res < 0 ? res : sriov_release_do(s, &rec, flags);
}

int sriov_reap(struct sriov *s)
{
	char(*addr)[SRIOV_ADDR_LEN];
	struct sriov_func f = { 0 };
	struct sriov_rec rec = { 0 };
	int nr, reaped = 0;

	nr = sriov_rec_list(s, &addr);
	if (nr < 0)
		return nr;
	sriov_users_forget(s);
	for (int i = 0; i < nr; i++) {
		if (sriov_rec_load(s, addr[i], &rec) < 0 ||
		    sriov_rec_claim_state(s, &rec) != SRIOV_CLAIM_STALE ||
		    sriov_rec_writer_alive(&rec) || sriov_func_read(s, addr[i], 0, &f) < 0)
			continue;
		if (sriov_check_free(s, &f, ~(1u << SRIOV_BLOCK_USER), "stale claim stays") < 0) {
			log_info("%s", s->err);
			continue;
		}
		log_info("%s: released, as process %d of %s is gone", addr[i], (int)rec.claim.pid,
			 rec.claim.owner);
		if (sriov_release_do(s, &rec, 0) < 0)
			log_warn("%s", s->err);
		else
			reaped++;
	}
	free(addr);
	return reaped;
}

/* ---- Claim ---- */

int sriov_owner_check(struct sriov *s, const char *owner)
{
	size_t len = owner ? strlen(owner) : 0;

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)owner[i]) && !strchr("._-:@", owner[i]))
			len = 0;
	}
	if (!len || len >= SRIOV_NAME_LEN)
		return sriov_fail(s, -EINVAL,
				  "'%.80s': expected the name of an owner: 1 to %d letters, digits "
				  "and ._-:@",
				  owner ? owner : "", SRIOV_NAME_LEN - 1);
	return 0;
}

static int begin(struct sriov *s, const struct sriov_claim_opts *opts, struct sriov_rec *rec)
{
	char proc[SRIOV_PATH_LEN];

	rec->claim.phase = SRIOV_PHASE_CLAIMING;
	/* Who bound it before takes it back as well, from the driver it has now. */
	sriov_driver_now(s, rec->addr, rec->claim.driver);
	rec->claim.bind = rec->bind;
	sriov_text(rec->claim.owner, sizeof(rec->claim.owner), "%s", opts->owner);
	rec->claim.pid = opts->pid;
	sriov_path(s, proc, "/proc");
	rec->claim.start = sriov_proc_start(proc, opts->pid);
	rec->claim.time = time(NULL);
	if (opts->pid && !rec->claim.start)
		return sriov_fail(s, -ESRCH,
				  "process %d: there is none, so nothing can be claimed "
				  "for it",
				  (int)opts->pid);
	return 0;
}

static int give_vectors(struct sriov *s, struct sriov_rec *rec, uint64_t vectors)
{
	const struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = vectors };
	int res;

	rec->claim.saved.has |= SRIOV_CONF_MSIX;
	rec->claim.saved.msix = rec->msix.given ? rec->msix.nr : sriov_msix_vectors(s, rec->addr);
	rec->claim.msix = rec->msix;
	res = sriov_rec_save(s, rec);
	if (!res)
		res = sriov_bind_do(s, rec, SRIOV_DRIVER_NONE, 0);
	if (res >= 0)
		res = sriov_configure(s, rec->addr, &conf);
	/* Which has its own copy of the record. */
	if (!res)
		rec->msix = (struct sriov_msix_state){ .given = true, .nr = vectors };
	return res;
}

/* Configure, bind, configure again what was lost, hand over the files. */
static int take(struct sriov *s, const struct sriov_claim_opts *opts, struct sriov_rec *rec,
		const struct sriov_func *f)
{
	const char *driver = opts->driver ? opts->driver : "vfio-pci";
	int res;

	res = save_conf(s, rec, f);
	if (!res && opts->conf)
		res = write_conf(s, f, opts->conf);
	if (!res && opts->conf && opts->conf->has & SRIOV_CONF_MSIX)
		res = give_vectors(s, rec, opts->conf->msix);
	if (res >= 0)
		res = sriov_bind_do(s, rec, driver, opts->bind_flags);
	if (res >= 0)
		res = keep_conf(s, f, opts->conf);
	if (!res && opts->has_user)
		res = sriov_nodes_give(s, rec, opts->uid, opts->gid);
	return res;
}

static int claim_one(struct sriov *s, const struct sriov_claim_opts *opts, const char *addr)
{
	char reason[SRIOV_ERR_LEN];
	struct sriov_rec rec = { 0 };
	struct sriov_func f = { 0 };
	int res;

	res = sriov_func_read(s, addr, 0, &f);
	if (!res)
		res = sriov_claimable(s, &f, opts);
	if (!res)
		res = sriov_rec_load(s, addr, &rec);
	if (!res)
		res = begin(s, opts, &rec);
	if (res < 0)
		return res;
	res = take(s, opts, &rec, &f);
	if (!res) {
		rec.claim.phase = SRIOV_PHASE_CLAIMED;
		rec.claim.used = true;
		res = sriov_rec_save(s, &rec);
	}
	if (res == -ETIMEDOUT || !res)
		return res;
	memcpy(reason, s->err, sizeof(reason));
	if (sriov_release_do(s, &rec, 0) < 0)
		log_warn("%s: taking back the claim: %s; it is tried again by the next command",
			 addr, s->err);
	sriov_fail(s, 0, "%s", reason);
	return res;
}

/* Which of them: the first one that can be had. All reasons if none can. */
static int claim_any(struct sriov *s, const struct sriov_claim_opts *opts,
		     char (*vf)[SRIOV_ADDR_LEN], int nr, char addr[SRIOV_ADDR_LEN])
{
	char reasons[SRIOV_ERR_LEN] = "";
	int res = -EBUSY;

	for (int i = 0; i < nr; i++) {
		res = claim_one(s, opts, vf[i]);
		if (!res) {
			sriov_text(addr, SRIOV_ADDR_LEN, "%s", vf[i]);
			return 0;
		}
		/* Wrong whichever it is. */
		if (res == -ESRCH || res == -EINVAL)
			return res;
		sriov_text_add(reasons, sizeof(reasons), "%s%s", *reasons ? "; " : "", s->err);
	}
	if (nr == 1)
		return res;
	return sriov_fail(s, -EBUSY, "none of %d VFs is free: %s", nr, reasons);
}

int sriov_claim(struct sriov *s, const struct sriov_claim_opts *opts, char addr[SRIOV_ADDR_LEN])
{
	char(*vf)[SRIOV_ADDR_LEN];
	int nr, res;

	res = sriov_owner_check(s, opts->owner);
	if (!res)
		res = sriov_reap(s);
	if (res < 0)
		return res;
	nr = sriov_choose(s, opts, &vf);
	if (nr < 0)
		return nr;
	sriov_users_forget(s);
	if (nr)
		res = claim_any(s, opts, vf, nr, addr);
	else if (opts->vf)
		res = sriov_fail(s, -ENOTSUP, "%s: is no VF%s", opts->vf,
				 opts->pf || opts->cpus ? ", or not of that PF or node" : "");
	else
		res = sriov_fail(s, -ENODEV, "there is no VF%s%s%s%s: see list, and create",
				 opts->pf ? " of " : "", opts->pf ? opts->pf : "",
				 opts->cpus ? " near CPUs " : "", opts->cpus ? opts->cpus : "");
	free(vf);
	return res;
}

/* It may be taken over from a process that lives only by its owner, who moves it
 * from one process to the next, and before that one uses it. */
static int check_holder(struct sriov *s, const struct sriov_rec *rec, const char *owner, pid_t pid)
{
	struct sriov_func f = { 0 };
	char who[SRIOV_TEXT_LEN];
	int res;

	if (rec->claim.phase != SRIOV_PHASE_CLAIMED)
		return sriov_fail(s, -EBUSY, "%s: is just being claimed or released by %s",
				  rec->addr, rec->claim.owner);
	if (!rec->claim.pid || rec->claim.pid == pid ||
	    sriov_rec_claim_state(s, rec) != SRIOV_CLAIM_HELD)
		return 0;
	if (!owner) {
		sriov_process_text(s, rec->claim.pid, who);
		return sriov_fail(s, -EBUSY, "%s: is claimed by %s, %s: --owner takes it over",
				  rec->addr, rec->claim.owner, who);
	}
	res = sriov_func_read(s, rec->addr, 0, &f);
	if (res < 0)
		return res;
	sriov_users_forget(s);
	return sriov_check_free(s, &f, ~(1u << SRIOV_BLOCK_USER | 1u << SRIOV_BLOCK_STUCK),
				"cannot be taken over");
}

int sriov_claim_adopt(struct sriov *s, const char *vf, const char *owner, pid_t pid,
		      struct sriov_holder *before)
{
	char proc[SRIOV_PATH_LEN];
	struct sriov_rec rec = { 0 };
	int res;

	res = load_claim(s, vf, owner, owner ? 0 : SRIOV_RELEASE_FORCE, &rec);
	if (!res)
		res = check_holder(s, &rec, owner, pid);
	if (res < 0)
		return res;
	if (before)
		*before = (struct sriov_holder){ rec.claim.pid, rec.claim.start };
	sriov_path(s, proc, "/proc");
	rec.claim.pid = pid;
	rec.claim.start = sriov_proc_start(proc, pid);
	if (!rec.claim.start)
		return sriov_fail(s, -ESRCH, "process %d: there is none", (int)pid);
	return sriov_rec_save(s, &rec);
}

int sriov_claim_return(struct sriov *s, const char *vf, pid_t pid,
		       const struct sriov_holder *before)
{
	struct sriov_rec rec = { 0 };
	int res;

	res = sriov_rec_load(s, vf, &rec);
	if (res < 0 || rec.claim.phase != SRIOV_PHASE_CLAIMED || rec.claim.pid != pid)
		return res;
	rec.claim.pid = before->pid;
	rec.claim.start = before->start;
	return sriov_rec_save(s, &rec);
}

int sriov_set_owners(struct sriov *s, const char *vf, const char *owners)
{
	struct sriov_rec rec = { 0 };
	int res;

	if (strlen(owners) >= sizeof(rec.owners))
		return sriov_fail(s, -E2BIG, "%s: expected less than %zu bytes of owners", vf,
				  sizeof(rec.owners));
	res = sriov_rec_load(s, vf, &rec);
	if (res < 0)
		return res;
	sriov_text(rec.owners, sizeof(rec.owners), "%s", owners);
	return sriov_rec_save(s, &rec);
}
