/*
 * Creating and destroying VFs: all of them, or as it was. Called by programs and
 * by recovery.
 *
 * Theory of operation: the PF's record says what is wanted and what was, before
 * anything is written. While VFs come and go, sriov_drivers_autoprobe is off:
 * no driver takes a VF before it is configured, and none is in the way of
 * taking them back. The count changes only from or to 0, the kernel's own rule
 * (drivers/pci/iov.c). A process that dies before all VFs exist and are
 * configured leaves work that restores the old ones; after that, work that
 * gives them their drivers. What the old ones were (kept.c) is written down
 * first, as the kernel forgets all of it with them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

/* Some drivers make VFs behind the write: i40e is known for it. */
#define APPEAR_MS 10000
#define APPEAR_VF_MS 500

struct vfs {
	char (*addr)[SRIOV_ADDR_LEN];
	int nr; /* with gaps */
	unsigned int nr_real;
};

static int get_vfs(struct sriov *s, const char *pf, struct vfs *v)
{
	v->nr_real = 0;
	v->nr = sriov_vf_addrs(s, pf, &v->addr);
	if (v->nr < 0)
		return sriov_fail(s, v->nr, "%s: %s", pf, strerror(-v->nr));
	for (int i = 0; i < v->nr; i++)
		v->nr_real += *v->addr[i] != '\0';
	return 0;
}

/* Links, and behind each a device that is complete. */
static bool are_complete(struct sriov *s, const char *pf, unsigned int nr)
{
	char path[SRIOV_PATH_LEN];
	bool has_group, ok;
	struct vfs v;

	if (get_vfs(s, pf, &v) < 0)
		return false;
	sriov_dev_path(s, path, pf, "iommu_group");
	has_group = sriov_file_exists(path);
	ok = v.nr_real == nr && v.nr == (int)nr;
	for (int i = 0; ok && i < v.nr; i++) {
		sriov_dev_path(s, path, v.addr[i], "physfn");
		ok = sriov_file_exists(path);
		if (ok && has_group) {
			sriov_dev_path(s, path, v.addr[i], "iommu_group");
			ok = sriov_file_exists(path);
		}
	}
	free(v.addr);
	return ok;
}

static int wait_vfs(struct sriov *s, const char *pf, unsigned int nr)
{
	uint64_t wait = s->timeout_ms ? s->timeout_ms : APPEAR_MS + (uint64_t)nr * APPEAR_VF_MS;
	uint64_t end = sriov_now_ms() + wait;
	struct vfs v;

	while (!are_complete(s, pf, nr)) {
		if (!sriov_dev_exists(s, pf))
			return sriov_fail(s, -ENODEV, "%s: the function has just vanished", pf);
		if (sriov_now_ms() < end) {
			sriov_sleep_ms(10);
			continue;
		}
		if (get_vfs(s, pf, &v) < 0)
			return -ENODEV;
		free(v.addr);
		return sriov_fail(s, -EIO, "%s: asked for %u VFs, and the driver made %u%s", pf, nr,
				  v.nr_real, v.nr_real == nr ? " that are not complete" : "");
	}
	sriov_wait_udev(s);
	return 0;
}

/* ---- Steps ---- */

static int write_number(struct sriov *s, struct sriov_rec *rec, const char *file, unsigned int v)
{
	char path[SRIOV_PATH_LEN], text[16];

	sriov_dev_path(s, path, rec->addr, file);
	sriov_text(text, sizeof(text), "%u", v);
	return sriov_guard_write(s, rec, path, text);
}

static int set_autoprobe(struct sriov *s, struct sriov_rec *rec, bool on)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, rec->addr, "sriov_drivers_autoprobe");
	if (!sriov_file_exists(path) ||
	    sriov_attr_number(s, rec->addr, "sriov_drivers_autoprobe", 1) == on)
		return 0;
	return write_number(s, rec, "sriov_drivers_autoprobe", on);
}

/* What is known of VFs goes with them, but not before them: should we die in
 * between, their records still tell what they are. */
static int destroy_all(struct sriov *s, struct sriov_rec *rec)
{
	char path[SRIOV_PATH_LEN];
	struct vfs v;
	int res;

	res = get_vfs(s, rec->addr, &v);
	if (res < 0)
		return res;
	res = write_number(s, rec, "sriov_numvfs", 0);
	if (!res)
		res = wait_vfs(s, rec->addr, 0);
	for (int i = 0; !res && i < v.nr; i++) {
		sriov_text(path, sizeof(path), "%s/%s.json", s->state_dir, v.addr[i]);
		if (*v.addr[i] && sriov_file_exists(path))
			res = sriov_rec_drop(s, v.addr[i]);
	}
	free(v.addr);
	return res;
}

/* The kernel's errno in the user's words. */
static int explain_create(struct sriov *s, const struct sriov_rec *rec, unsigned int nr, int res)
{
	switch (-res) {
	case ENOENT:
		return sriov_fail(s, res,
				  "%s: its driver makes no VFs (with vfio-pci: its parameter "
				  "enable_sriov)",
				  rec->addr);
	case ENOSPC:
		return sriov_fail(s, res,
				  "%s: not enough of the hardware is left for %u VFs, such as "
				  "MSI-X vectors",
				  rec->addr, nr);
	case ENOMEM:
		return sriov_fail(s, res,
				  "%s: no room for %u VFs: bus numbers or BARs (BIOS: SR-IOV, "
				  "ARI; kernel: pci=realloc, pci=assign-busses)",
				  rec->addr, nr);
	}
	return res;
}

static int create_all(struct sriov *s, struct sriov_rec *rec, unsigned int nr)
{
	int res;

	res = write_number(s, rec, "sriov_numvfs", nr);
	if (res < 0)
		return explain_create(s, rec, nr, res);
	return wait_vfs(s, rec->addr, nr);
}

static bool is_up(struct sriov *s, const char *netdev)
{
	char path[SRIOV_PATH_LEN];
	uint64_t flags;

	sriov_path(s, path, "/sys/class/net/%s/flags", netdev);
	return sriov_file_number(path, &flags) < 0 || flags & IFF_UP;
}

/* VFs of a PF that is down get no MAC, or cannot be made at all. */
static int raise_link(struct sriov *s, struct sriov_rec *rec)
{
	char netdev[IFNAMSIZ];
	int res;

	sriov_netdev(s, rec->addr, netdev);
	if (!*netdev || is_up(s, netdev))
		return 0;
	rec->resize.link_down = true;
	res = sriov_rec_save(s, rec);
	if (res < 0)
		return res;
	sriov_step(s, netdev);
	res = sriov_ask_link_set(s, netdev, true);
	if (res < 0 && res != -ETIMEDOUT)
		return sriov_fail(s, res,
				  "%s: its link %s is down and cannot be set up: %s; VFs need it",
				  rec->addr, netdev, strerror(-res));
	if (!res)
		log_info("%s: link %s was down and is up now: VFs need it", rec->addr, netdev);
	return res;
}

static int lower_link(struct sriov *s, struct sriov_rec *rec)
{
	char netdev[IFNAMSIZ];

	sriov_netdev(s, rec->addr, netdev);
	if (!rec->resize.link_down || !*netdev)
		return 0;
	sriov_step(s, netdev);
	return sriov_ask_link_set(s, netdev, false);
}

/* One new VF. Not if it has a driver already, as after a process that died. */
static int give_driver(struct sriov *s, const char *addr, const char *driver)
{
	char now[SRIOV_NAME_LEN];
	struct sriov_rec vf;
	int res;

	res = sriov_rec_load(s, addr, &vf);
	if (!res)
		res = sriov_rec_check_writer(s, &vf);
	if (!res)
		res = sriov_bind_finish(s, &vf);
	sriov_driver_now(s, addr, now);
	/* Or it was told to have none. */
	if (res || *now || vf.bind.phase == SRIOV_BIND_BOUND)
		return res < 0 ? res : 0;
	if (strcmp(driver, SRIOV_DRIVER_DEFAULT) != 0) {
		res = sriov_bind_do(s, &vf, driver, 0);
		return res < 0 ? res : 0;
	}
	res = sriov_bind_new(s, &vf, driver);
	/* As if the kernel had tried: some functions want to be set up first, as
	 * NVMe's secondary controllers. */
	if (res == -EIO || res == -EREMOTEIO || res == -ENODEV) {
		log_info("%s: no driver took it", addr);
		res = 0;
	}
	return res < 0 ? res : sriov_rec_save(s, &vf);
}

/* The driver that was asked for, for each new VF. */
static int give_drivers(struct sriov *s, struct sriov_rec *rec)
{
	const char *driver = rec->resize.driver;
	struct vfs v;
	int res;

	res = set_autoprobe(s, rec, rec->resize.autoprobe);
	if (!strcmp(driver, SRIOV_DRIVER_AUTO))
		driver = rec->resize.autoprobe ? SRIOV_DRIVER_DEFAULT : SRIOV_DRIVER_NONE;
	if (res < 0 || !strcmp(driver, SRIOV_DRIVER_NONE))
		return res;
	res = get_vfs(s, rec->addr, &v);
	if (res < 0)
		return res;
	for (int i = 0; !res && i < v.nr; i++) {
		if (*v.addr[i])
			res = give_driver(s, v.addr[i], driver);
	}
	free(v.addr);
	return res;
}

static int finish(struct sriov *s, struct sriov_rec *rec)
{
	int res;

	res = give_drivers(s, rec);
	if (res < 0)
		return res;
	memset(&rec->resize, 0, sizeof(rec->resize));
	res = sriov_rec_save(s, rec);
	if (!res)
		sriov_kept_drop(s, rec->addr);
	return res;
}

/* As it was; not if somebody has taken one of them meanwhile. */
static int restore(struct sriov *s, struct sriov_rec *rec)
{
	struct vfs v;
	int res;

	res = get_vfs(s, rec->addr, &v);
	if (res < 0)
		return res;
	free(v.addr);
	if (v.nr_real != rec->resize.from) {
		if (v.nr_real)
			res = destroy_all(s, rec);
		if (!res && rec->resize.from)
			res = create_all(s, rec, rec->resize.from);
	}
	if (!res && rec->resize.from)
		res = sriov_kept_put_back(s, rec->addr);
	if (res < 0)
		return res;
	sriov_text(rec->resize.driver, sizeof(rec->resize.driver), "%s",
		   res ? SRIOV_DRIVER_NONE : SRIOV_DRIVER_AUTO);
	res = lower_link(s, rec);
	return res < 0 ? res : finish(s, rec);
}

/* Claims and users of any VF; the sentence names them. */
static int check_vfs_free(struct sriov *s, const char *pf)
{
	struct sriov_func f = { 0 };
	struct vfs v;
	int res;

	res = get_vfs(s, pf, &v);
	if (res < 0)
		return res;
	sriov_users_forget(s);
	for (int i = 0; !res && i < v.nr; i++) {
		if (!*v.addr[i] || sriov_func_read(s, v.addr[i], 0, &f) < 0)
			continue;
		res = sriov_check_free(s, &f, 1u << SRIOV_BLOCK_GROUP,
				       "this VF is in use, the count stays");
	}
	free(v.addr);
	return res;
}

int sriov_resize_recover(struct sriov *s, struct sriov_rec *rec)
{
	int res;

	if (rec->resize.made || (!rec->resize.to && are_complete(s, rec->addr, 0)))
		return finish(s, rec);
	if (!are_complete(s, rec->addr, rec->resize.from)) {
		res = check_vfs_free(s, rec->addr);
		if (res < 0)
			return res;
	}
	return restore(s, rec);
}

/* ---- The whole ---- */

static int check_pf(struct sriov *s, const struct sriov_func *f, const struct sriov_resize *want)
{
	if (f->is_vf)
		return sriov_fail(s, -ENOTSUP, "%s: is VF %d of %s: VFs are made by their PF",
				  f->addr, f->vf_index, f->pf);
	if (!f->is_pf)
		return sriov_fail(s, -ENOTSUP,
				  "%s: is no PF: it has no SR-IOV capability, or it is off in the "
				  "firmware",
				  f->addr);
	if (want->nr_vfs > f->total_vfs)
		return sriov_fail(s, -ERANGE, "%s: expected at most %u VFs, found %u", f->addr,
				  f->total_vfs, want->nr_vfs);
	if (!*f->driver)
		return sriov_fail(s, -ENOENT, "%s: has no driver, which is what makes VFs",
				  f->addr);
	if (f->nr_vfs && want->nr_vfs && f->nr_vfs != want->nr_vfs && !want->replace)
		return sriov_fail(s, -EBUSY,
				  "%s: has %u VFs; the kernel changes the count only through 0, "
				  "so all of them go, and %u new ones with no configuration come: "
				  "--replace if that may be",
				  f->addr, f->nr_vfs, want->nr_vfs);
	return 0;
}

int sriov_resize_check(struct sriov *s, const struct sriov_func *f, const struct sriov_resize *want)
{
	int res = check_pf(s, f, want);

	return res < 0 || f->nr_vfs == want->nr_vfs ? res : check_vfs_free(s, f->addr);
}

static int make(struct sriov *s, struct sriov_rec *rec, const struct sriov_resize *want)
{
	int res;

	res = rec->resize.to ? raise_link(s, rec) : 0;
	if (!res)
		res = set_autoprobe(s, rec, false);
	if (!res && rec->resize.from)
		res = destroy_all(s, rec);
	if (!res && rec->resize.to)
		res = create_all(s, rec, rec->resize.to);
	if (!res && rec->resize.to && want->configure)
		res = want->configure(s, rec->addr, want->opaque);
	if (res < 0)
		return res;
	rec->resize.made = true;
	return sriov_rec_save(s, rec);
}

static void undo(struct sriov *s, struct sriov_rec *rec)
{
	char reason[SRIOV_ERR_LEN];

	memcpy(reason, s->err, sizeof(reason));
	rec->resize.made = false;
	if (restore(s, rec) < 0)
		log_warn("%s: restoring %u VFs: %s; it is tried again by the next command",
			 rec->addr, rec->resize.from, s->err);
	sriov_fail(s, 0, "%s", reason);
}

int sriov_resize(struct sriov *s, const char *pf, const struct sriov_resize *want)
{
	const char *driver = want->driver ? want->driver : SRIOV_DRIVER_AUTO;
	struct sriov_func f = { 0 };
	struct sriov_rec rec = { 0 };
	int res;

	res = sriov_func_read(s, pf, 0, &f);
	if (!res)
		res = sriov_rec_load(s, pf, &rec);
	if (!res)
		res = sriov_rec_check_writer(s, &rec);
	if (!res)
		res = sriov_resize_check(s, &f, want);
	if (res < 0 || f.nr_vfs == want->nr_vfs)
		return res;
	if (rec.resize.active)
		return sriov_fail(s, -EBUSY, "%s: a change of its VFs could not be finished yet",
				  pf);
	rec.resize.active = true;
	rec.resize.autoprobe = f.autoprobe;
	rec.resize.from = f.nr_vfs;
	rec.resize.to = want->nr_vfs;
	sriov_text(rec.resize.driver, sizeof(rec.resize.driver), "%s", driver);
	res = f.nr_vfs ? sriov_kept_save(s, pf) : 0;
	if (!res)
		res = sriov_rec_save(s, &rec);
	if (!res)
		res = make(s, &rec, want);
	if (!res)
		res = finish(s, &rec);
	if (res == -ETIMEDOUT)
		return res; /* the kernel has it; nothing more can be done now */
	if (res < 0)
		undo(s, &rec);
	return res < 0 ? res : 1;
}
