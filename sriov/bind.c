/*
 * Which driver has a function. Called by programs, by claims and by recovery.
 * Uses driver_override only: a line in a driver's new_id would give it every
 * other function of the same kind as well.
 *
 * Theory of operation: the record remembers the driver and the override that
 * were there before the first change, until both are given back. A function is
 * given to a driver by override, unbind and drivers_probe, in this order: an
 * override also works where the PF's sriov_drivers_autoprobe is off, and nobody
 * else can take the function in between. The override of a VFIO driver stays, so
 * that a rescan of the bus changes nothing; any other is taken away again, or it
 * would strand the function when that driver goes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

/* After drivers_probe returned the driver is there, unless it probes behind. */
#define PROBE_WAIT_MS 2000
#define UDEV_WAIT_MS 10000

void sriov_driver_now(const struct sriov *s, const char *addr, char *driver)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, addr, "driver");
	sriov_file_link(path, driver, SRIOV_NAME_LEN);
}

void sriov_wait_udev(struct sriov *s)
{
	unsigned int ms =
		s->timeout_ms ? (unsigned int)min_u64(s->timeout_ms, UDEV_WAIT_MS) : UDEV_WAIT_MS;
	int res = s->os->settle(s, ms);

	if (res < 0)
		log_warn("udevadm settle: %s: udev may still change names and permissions",
			 strerror(-res));
}

bool sriov_has_driver(const struct sriov_func *f, const char *driver)
{
	if (!strcmp(driver, SRIOV_DRIVER_AUTO))
		return true;
	if (!strcmp(driver, SRIOV_DRIVER_NONE))
		return !*f->driver;
	if (!strcmp(driver, SRIOV_DRIVER_DEFAULT))
		return *f->driver && !sriov_driver_is_vfio(f->driver);
	return !strcmp(f->driver, driver);
}

static int set_override(struct sriov *s, struct sriov_rec *rec, const char *driver)
{
	char path[SRIOV_PATH_LEN];

	sriov_dev_path(s, path, rec->addr, "driver_override");
	/* An empty write would be none at all. */
	return sriov_guard_write(s, rec, path, *driver ? driver : "\n");
}

static int get_override(struct sriov *s, const char *addr, char *driver)
{
	char path[SRIOV_PATH_LEN], text[1][SRIOV_NAME_LEN] = { "" };
	const char *paths[1] = { path };
	int res[1];

	sriov_dev_path(s, path, addr, "driver_override");
	sriov_guard_read(s, paths, 1, text, res);
	driver[0] = '\0';
	if (res[0] < 0)
		return sriov_fail(s, res[0], "%s: %s", path,
				  res[0] == -ETIMEDOUT ? "does not answer: a change of this "
							 "function is stuck in the kernel"
						       : strerror(-res[0]));
	if (strcmp(text[0], "(null)") != 0)
		sriov_text(driver, SRIOV_NAME_LEN, "%s", text[0]);
	return 0;
}

/* The function has this driver, or with "default" any. */
static bool has_driver(const struct sriov *s, const char *addr, const char *driver)
{
	char now[SRIOV_NAME_LEN];

	sriov_driver_now(s, addr, now);
	return strcmp(driver, SRIOV_DRIVER_DEFAULT) ? !strcmp(now, driver) : *now != '\0';
}

static int probe(struct sriov *s, struct sriov_rec *rec, const char *driver)
{
	uint64_t end = sriov_now_ms() + PROBE_WAIT_MS;
	char path[SRIOV_PATH_LEN];
	int res;

	sriov_path(s, path, "/sys/bus/pci/drivers_probe");
	res = sriov_guard_write(s, rec, path, rec->addr);
	if (res == -ETIMEDOUT)
		return res;
	while (!has_driver(s, rec->addr, driver)) {
		if (!sriov_dev_exists(s, rec->addr))
			return sriov_fail(s, -ENODEV, "%s: the function has just vanished",
					  rec->addr);
		if (res < 0 || sriov_now_ms() >= end) {
			if (res < 0)
				sriov_fail_more(s, "%s: driver %s did not take it: ", rec->addr,
						driver);
			else
				sriov_fail(s, -EIO,
					   "%s: driver %s did not take it; the kernel's log may "
					   "say why",
					   rec->addr, driver);
			return res < 0 ? res : -EIO;
		}
		sriov_sleep_ms(10);
	}
	return 0;
}

/* To driver, which may be none or default, whatever it has now. The override is
 * left as the driver needs it. */
static int give(struct sriov *s, struct sriov_rec *rec, const char *driver)
{
	bool none = !strcmp(driver, SRIOV_DRIVER_NONE) || !*driver;
	bool any = !strcmp(driver, SRIOV_DRIVER_DEFAULT);
	char path[SRIOV_PATH_LEN], now[SRIOV_NAME_LEN];
	int res;

	res = set_override(s, rec, none || any ? "" : driver);
	if (res < 0)
		return res;
	sriov_driver_now(s, rec->addr, now);
	if (*now && strcmp(now, driver) != 0) {
		sriov_path(s, path, "/sys/bus/pci/drivers/%s/unbind", now);
		res = sriov_guard_write(s, rec, path, rec->addr);
		if (res < 0)
			return res;
		sriov_driver_now(s, rec->addr, now);
	}
	if (none)
		return *now ? sriov_fail(s, -EIO, "%s: driver %s did not let go", rec->addr, now)
			    : 0;
	if (!*now)
		res = probe(s, rec, driver);
	if (!res && !any && !sriov_driver_is_vfio(driver))
		res = set_override(s, rec, "");
	return res;
}

int sriov_driver_check(struct sriov *s, const char *driver)
{
	size_t len = strlen(driver);

	/* A file's name: it becomes part of a path. */
	for (size_t i = 0; i < len; i++) {
		if (driver[i] == '/' || !isgraph((unsigned char)driver[i]))
			len = 0;
	}
	if (!len || *driver == '.' || len >= SRIOV_NAME_LEN)
		return sriov_fail(s, -EINVAL,
				  "'%.80s': expected the name of a driver, none or "
				  "default",
				  driver);
	return 0;
}

/* 1: it is there, or needs not be; 0: only its module may be. */
static int find_driver(struct sriov *s, const char *driver)
{
	char path[SRIOV_PATH_LEN];
	int res;

	if (!strcmp(driver, SRIOV_DRIVER_NONE) || !strcmp(driver, SRIOV_DRIVER_DEFAULT) || !*driver)
		return 1;
	res = sriov_driver_check(s, driver);
	if (res < 0)
		return res;
	sriov_path(s, path, "/sys/bus/pci/drivers/%s", driver);
	return sriov_file_exists(path);
}

static int no_driver(struct sriov *s, const char *driver)
{
	return sriov_fail(s, -ENOENT,
			  "driver %s: there is no such driver, and modprobe found no module of "
			  "that name",
			  driver);
}

static int need_driver(struct sriov *s, const char *driver)
{
	int res = find_driver(s, driver);

	if (res)
		return res < 0 ? res : 0;
	sriov_step(s, driver);
	/* Drivers are called like their modules, but for - and _. */
	if (!s->os->load_module(s, driver) && find_driver(s, driver) == 1)
		return 0;
	return no_driver(s, driver);
}

/* UIO gives a device to a program as it is, without telling the IOMMU. */
static bool is_uio(const char *driver)
{
	return !strncmp(driver, "uio_", 4) || !strcmp(driver, "igb_uio");
}

/*
 * VFIO confines a device by its IOMMU group. Under UIO it is confined, and can
 * reach no memory at all, if its domain is not the one of all memory.
 */
static bool is_confined(struct sriov *s, const char *addr, const char *driver, char *why)
{
	struct iommu_group *group = NULL;
	bool confined;

	why[0] = '\0';
	if (sriov_group(s, addr, &group, why) < 0)
		return false;
	confined = !group->noiommu && (!is_uio(driver) || !strncmp(group->type, "DMA", 3));
	if (!confined && !group->noiommu)
		sriov_text(why, IOMMU_ERR_LEN, "under %s, IOMMU group %d maps everything", driver,
			   group->id);
	iommu_group_free(group);
	return confined;
}

/* Drivers for user space only by force where nothing confines the device. */
static int check_iommu(struct sriov *s, const char *addr, const char *driver, unsigned int flags)
{
	char why[IOMMU_ERR_LEN], path[SRIOV_PATH_LEN], on[8];

	if ((!sriov_driver_is_vfio(driver) && !is_uio(driver)) || is_confined(s, addr, driver, why))
		return 0;
	if (!(flags & SRIOV_BIND_NOIOMMU))
		return sriov_fail(s, -EPERM,
				  "%s: no IOMMU confines it%s%s: whoever drives it can read and "
				  "write all memory of this host; bind or claim with "
				  "--unsafe-no-iommu hands it over all the same",
				  addr, *why ? ": " : "", why);
	sriov_path(s, path, "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
	if (!is_uio(driver) &&
	    (sriov_file_read(path, on, sizeof(on)) < 0 || (*on != 'Y' && *on != '1')))
		return sriov_fail(s, -EPERM, "%s: %s is not Y: VFIO takes no device without IOMMU",
				  addr, path);
	log_warn("%s: no IOMMU confines it: its user can read and write all memory of this host",
		 addr);
	return 0;
}

int sriov_bind_undo(struct sriov *s, struct sriov_rec *rec)
{
	char override[SRIOV_NAME_LEN], from[SRIOV_NAME_LEN];
	int res;

	memcpy(override, rec->bind.override_from, sizeof(override));
	memcpy(from, rec->bind.from, sizeof(from));
	rec->bind.phase = SRIOV_BIND_BACK;
	res = sriov_rec_save(s, rec);
	if (!res)
		res = need_driver(s, from);
	if (!res)
		res = give(s, rec, from);
	/* Only if it was not the one that give() has left. */
	if (!res && (*override || sriov_driver_is_vfio(from)))
		res = set_override(s, rec, override);
	if (res < 0) {
		sriov_fail_more(s, "%s: giving it back to %s: ", rec->addr,
				*from ? from : "no driver");
		return res;
	}
	memset(&rec->bind, 0, sizeof(rec->bind));
	return sriov_rec_save(s, rec);
}

int sriov_bind_return(struct sriov *s, struct sriov_rec *rec)
{
	const struct sriov_bind_state *was = &rec->claim.bind;
	const char *driver = rec->claim.driver;
	char now[SRIOV_NAME_LEN];
	int res;

	if (was->phase == SRIOV_BIND_NONE)
		return rec->bind.phase ? sriov_bind_undo(s, rec) : 0;
	sriov_driver_now(s, rec->addr, now);
	if (!strcmp(now, driver) && rec->bind.phase == was->phase && !strcmp(rec->bind.to, was->to))
		return 0;
	res = need_driver(s, driver);
	if (!res)
		res = give(s, rec, driver);
	if (res < 0) {
		sriov_fail_more(s, "%s: giving it back to %s: ", rec->addr,
				*driver ? driver : "no driver");
		return res;
	}
	rec->bind = *was;
	return 0;
}

/* Back to what it was before this attempt, which may be a driver of ours. */
static void give_up(struct sriov *s, struct sriov_rec *rec, enum sriov_bind_phase phase,
		    const char *before)
{
	char reason[SRIOV_ERR_LEN];
	int res;

	memcpy(reason, s->err, sizeof(reason));
	if (phase == SRIOV_BIND_NONE) {
		res = sriov_bind_undo(s, rec);
	} else {
		res = give(s, rec, before);
		rec->bind.phase = phase;
		sriov_text(rec->bind.to, sizeof(rec->bind.to), "%s", before);
		if (!res)
			res = sriov_rec_save(s, rec);
	}
	if (res < 0)
		log_warn("%s; it is tried again by the next command", s->err);
	sriov_fail(s, 0, "%s", reason);
}

/* It has the driver of the record. */
static int bound(struct sriov *s, struct sriov_rec *rec)
{
	rec->bind.phase = SRIOV_BIND_BOUND;
	/* Back where it came from: nothing is left to give back. */
	if (!strcmp(rec->bind.to, rec->bind.from) && !*rec->bind.override_from)
		memset(&rec->bind, 0, sizeof(rec->bind));
	return sriov_rec_save(s, rec);
}

int sriov_bind_finish(struct sriov *s, struct sriov_rec *rec)
{
	char now[SRIOV_NAME_LEN];
	int res;

	if (rec->bind.phase != SRIOV_BIND_BINDING)
		return 0;
	sriov_driver_now(s, rec->addr, now);
	if (!strcmp(rec->bind.to, SRIOV_DRIVER_NONE) ? *now != '\0' : strcmp(rec->bind.to, now))
		return 0;
	/* Only its override may not be as it should yet. */
	res = give(s, rec, rec->bind.to);
	if (!res)
		res = bound(s, rec);
	return res < 0 ? res : 1;
}

int sriov_bind_do(struct sriov *s, struct sriov_rec *rec, const char *driver, unsigned int flags)
{
	enum sriov_bind_phase phase = rec->bind.phase;
	char now[SRIOV_NAME_LEN];
	int res;

	res = need_driver(s, driver);
	if (!res)
		res = check_iommu(s, rec->addr, driver, flags);
	if (res < 0)
		return res;
	sriov_driver_now(s, rec->addr, now);
	if (!strcmp(now, driver) || (!*now && !strcmp(driver, SRIOV_DRIVER_NONE)) ||
	    (*now && !strcmp(driver, SRIOV_DRIVER_DEFAULT) && !sriov_driver_is_vfio(now)))
		return 0;
	if (phase == SRIOV_BIND_NONE) {
		sriov_text(rec->bind.from, sizeof(rec->bind.from), "%s", now);
		res = get_override(s, rec->addr, rec->bind.override_from);
		if (res < 0)
			return res;
	}
	rec->bind.phase = SRIOV_BIND_BINDING;
	sriov_text(rec->bind.to, sizeof(rec->bind.to), "%s", driver);
	res = sriov_rec_save(s, rec);
	if (!res)
		res = give(s, rec, driver);
	if (res == -ETIMEDOUT)
		return res; /* nothing more can be done with it now */
	if (res < 0) {
		give_up(s, rec, phase, now);
		return res;
	}
	res = bound(s, rec);
	return res < 0 ? res : 1;
}

int sriov_bind_to_none(struct sriov *s, const char *addr)
{
	struct sriov_rec rec;
	int res;

	res = sriov_rec_load(s, addr, &rec);
	if (res < 0)
		return res;
	rec.bind = (struct sriov_bind_state){ .phase = SRIOV_BIND_BOUND, .to = SRIOV_DRIVER_NONE };
	return sriov_rec_save(s, &rec);
}

int sriov_bind_new(struct sriov *s, struct sriov_rec *rec, const char *driver)
{
	int res = need_driver(s, driver);

	return res < 0 ? res : give(s, rec, driver);
}

static int load_free(struct sriov *s, const char *addr, struct sriov_rec *rec, const char *what)
{
	struct sriov_func f = { 0 };
	int res;

	res = sriov_func_read(s, addr, 0, &f);
	if (!res)
		res = sriov_rec_load(s, addr, rec);
	if (!res)
		res = sriov_rec_check_writer(s, rec);
	if (res < 0)
		return res;
	sriov_users_forget(s);
	return sriov_check_free(s, &f, 1u << SRIOV_BLOCK_GROUP, what);
}

/* The binding is fine without them, but not the hand-over. */
static void warn_group(struct sriov *s, const char *addr)
{
	struct sriov_blockers b;
	struct sriov_func f = { 0 };

	if (sriov_func_read(s, addr, 0, &f) < 0 || sriov_blockers(s, &f, &b) < 0)
		return;
	for (unsigned int i = 0; i < b.nr; i++) {
		if (b.item[i].kind == SRIOV_BLOCK_GROUP)
			log_warn("%s: cannot be handed over yet: %s", addr, b.item[i].text);
	}
	sriov_blockers_free(&b);
}

int sriov_bind(struct sriov *s, const char *addr, const char *driver, unsigned int flags)
{
	struct sriov_rec rec = { 0 };
	int res;

	res = load_free(s, addr, &rec, "cannot change its driver");
	if (res < 0)
		return res;
	res = sriov_bind_do(s, &rec, driver, flags);
	if (res >= 0 && sriov_driver_is_vfio(driver) && !(flags & SRIOV_BIND_NOIOMMU))
		warn_group(s, addr);
	return res;
}

int sriov_bind_check(struct sriov *s, const char *addr, const char *driver, unsigned int flags)
{
	struct sriov_rec rec = { 0 };
	int res;

	res = load_free(s, addr, &rec, "cannot change its driver");
	if (!res)
		res = find_driver(s, driver);
	if (!res && s->os->find_module(s, driver) < 0)
		return no_driver(s, driver);
	if (res >= 0)
		res = check_iommu(s, addr, driver, flags);
	return res < 0 ? res : 0;
}

int sriov_bind_vectors(struct sriov *s, const char *addr, uint64_t vectors)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = vectors };
	char now[SRIOV_NAME_LEN];
	enum sriov_bind_phase phase;
	struct sriov_rec rec = { 0 };
	int res;

	res = load_free(s, addr, &rec, "cannot be without its driver to get vectors");
	if (res < 0)
		return res;
	sriov_driver_now(s, addr, now);
	if (!*now)
		return sriov_configure(s, addr, &conf);
	/* As if to the driver it has: whoever finds this half done undoes it. */
	phase = rec.bind.phase;
	if (phase == SRIOV_BIND_NONE) {
		sriov_text(rec.bind.from, sizeof(rec.bind.from), "%s", now);
		res = get_override(s, addr, rec.bind.override_from);
	}
	rec.bind.phase = SRIOV_BIND_BINDING;
	sriov_text(rec.bind.to, sizeof(rec.bind.to), "%s", now);
	if (!res)
		res = sriov_rec_save(s, &rec);
	if (res < 0)
		return res;
	res = give(s, &rec, SRIOV_DRIVER_NONE);
	if (!res)
		res = sriov_rec_save(s, &rec);
	if (!res)
		res = sriov_configure(s, addr, &conf);
	if (res == -ETIMEDOUT)
		return res;
	if (!res) {
		rec.msix.given = true;
		rec.msix.nr = vectors;
	}
	give_up(s, &rec, phase, now);
	return res;
}

int sriov_unbind(struct sriov *s, const char *addr)
{
	struct sriov_rec rec = { 0 };
	int res;

	res = load_free(s, addr, &rec, "cannot give back its driver");
	if (res < 0)
		return res;
	if (rec.bind.phase == SRIOV_BIND_NONE)
		return sriov_fail(s, -ENOENT,
				  "%s: has not been bound by this program since the machine "
				  "started: name the driver it shall have",
				  addr);
	return sriov_bind_undo(s, &rec);
}
