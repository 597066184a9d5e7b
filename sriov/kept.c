/*
 * What the VFs of a PF were, before all of them go: written down beside the PF's
 * record, and given to new ones if the change fails. Called by resize.c and by
 * recovery.
 *
 * A VF that is still the same device (device_ino) or that has a driver again is
 * not touched: it is as it was, or somebody has it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

#define SUFFIX ".vfs"
#define NOT_GIVEN ((json_int_t)-1) /* vectors */

struct kept {
	unsigned int index;
	uint64_t device_ino;
	char driver[SRIOV_NAME_LEN], owners[SRIOV_TEXT_LEN];
	struct sriov_bind_state bind;
	struct sriov_conf conf;
	struct sriov_msix_state msix;
};

static void kept_path(const struct sriov *s, const char *pf, char *path)
{
	sriov_text(path, SRIOV_PATH_LEN, "%s/%s" SUFFIX, s->state_dir, pf);
}

/* ---- Written down ---- */

static json_t *pack(struct sriov *s, const char *netdev, unsigned int index, const char *addr)
{
	struct sriov_conf conf = { 0 };
	char driver[SRIOV_NAME_LEN];
	struct sriov_rec rec;

	/* One that cannot be read keeps the change from being begun at all. */
	if (sriov_rec_load(s, addr, &rec) < 0)
		return NULL;
	if (*netdev && sriov_conf_read(s, netdev, index, &conf) < 0)
		conf.has = 0;
	sriov_driver_now(s, addr, driver);
	return json_pack("{s:i, s:I, s:s, s:s, s:o, s:o, s:I}", "index", (int)index, "inode",
			 (json_int_t)sriov_device_ino(s, addr), "driver", driver, "owners",
			 rec.owners, "bind", sriov_bind_pack(&rec.bind), "conf",
			 sriov_conf_pack(&conf), "msix",
			 rec.msix.given ? (json_int_t)rec.msix.nr : NOT_GIVEN);
}

int sriov_kept_save(struct sriov *s, const char *pf)
{
	char netdev[IFNAMSIZ], file[SRIOV_ADDR_LEN + 8];
	json_t *all = json_array();
	char(*vf)[SRIOV_ADDR_LEN];
	int nr;

	nr = sriov_vf_addrs(s, pf, &vf);
	if (nr < 0) {
		json_decref(all);
		return sriov_fail(s, nr, "%s: %s", pf, strerror(-nr));
	}
	sriov_netdev(s, pf, netdev);
	s->err[0] = '\0';
	for (int i = 0; i < nr && all; i++) {
		if (*vf[i] &&
		    json_array_append_new(all, pack(s, netdev, (unsigned int)i, vf[i])) < 0) {
			json_decref(all);
			all = NULL;
		}
	}
	free(vf);
	if (!all)
		return *s->err ? -EIO : sriov_fail(s, -ENOMEM, "out of memory");
	sriov_text(file, sizeof(file), "%s" SUFFIX, pf);
	return sriov_state_save(s, file, all);
}

void sriov_kept_drop(struct sriov *s, const char *pf)
{
	char path[SRIOV_PATH_LEN], addr[SRIOV_ADDR_LEN], *end;
	struct sriov_rec rec;
	struct dirent *e;
	DIR *dir;

	if (pf) {
		kept_path(s, pf, path);
		if (unlink(path) < 0 && errno != ENOENT)
			log_warn("%s: %s", path, strerror(errno));
		return;
	}
	dir = opendir(s->state_dir);
	while (dir && (e = readdir(dir))) {
		end = strstr(e->d_name, SUFFIX);
		if (!end || strcmp(end, SUFFIX) != 0)
			continue;
		*end = '\0';
		if (sriov_addr_parse(e->d_name, addr) < 0 || sriov_rec_load(s, addr, &rec) < 0 ||
		    rec.resize.active)
			continue;
		sriov_kept_drop(s, addr);
	}
	if (dir)
		closedir(dir);
}

/* ---- Put back ---- */

static int unpack(json_t *from, struct kept *kept)
{
	const char *driver, *owners;
	json_t *bind, *conf;
	json_int_t inode, msix = NOT_GIVEN;
	int index;

	memset(kept, 0, sizeof(*kept));
	if (json_unpack(from, "{s:i, s:I, s:s, s:s, s:o, s:o, s?I}", "index", &index, "inode",
			&inode, "driver", &driver, "owners", &owners, "bind", &bind, "conf", &conf,
			"msix", &msix) < 0 ||
	    index < 0 || sriov_bind_unpack(bind, &kept->bind) < 0 ||
	    sriov_conf_unpack(conf, &kept->conf) < 0)
		return -EINVAL;
	kept->index = (unsigned int)index;
	kept->device_ino = (uint64_t)inode;
	sriov_text(kept->driver, sizeof(kept->driver), "%s", driver);
	sriov_text(kept->owners, sizeof(kept->owners), "%s", owners);
	if (msix != NOT_GIVEN)
		kept->msix = (struct sriov_msix_state){ .given = true, .nr = (uint64_t)msix };
	return 0;
}

static int put_conf(struct sriov *s, const char *pf, const struct kept *kept)
{
	struct sriov_conf want = kept->conf, now = { 0 };
	char netdev[IFNAMSIZ];
	int res;

	sriov_netdev(s, pf, netdev);
	if (!*netdev || !want.has)
		return 0;
	res = sriov_conf_read(s, netdev, kept->index, &now);
	if (res < 0)
		return res;
	want.has = sriov_conf_differs(&want, &now) & now.has;
	return want.has ? sriov_conf_write(s, netdev, kept->index, &want) : 0;
}

/* The VF is another device than it was, and nobody has given it a driver. */
static bool is_new(struct sriov *s, const char *addr, const struct kept *kept)
{
	char now[SRIOV_NAME_LEN];

	sriov_driver_now(s, addr, now);
	return !*now && sriov_device_ino(s, addr) != kept->device_ino;
}

/* Its record, with nothing of it under way. */
static int load_idle(struct sriov *s, const char *addr, struct sriov_rec *rec)
{
	int res = sriov_rec_load(s, addr, rec);

	return res < 0 ? res : sriov_rec_check_writer(s, rec);
}

static int put_vectors(struct sriov *s, const char *addr, const struct kept *kept)
{
	struct sriov_rec rec;
	int res;

	res = load_idle(s, addr, &rec);
	if (res < 0)
		return res;
	res = sriov_msix_give(s, &rec, kept->msix.nr);
	if (res == -ETIMEDOUT)
		return res;
	if (res < 0)
		log_warn("%s: has not the vectors it had: %s", addr, s->err);
	return sriov_rec_save(s, &rec);
}

/* The driver last: it reads what else there is. */
static int put_vf(struct sriov *s, const char *pf, const char *addr, const struct kept *kept)
{
	struct sriov_rec rec;
	int res;

	if (!is_new(s, addr, kept))
		return 0;
	if (put_conf(s, pf, kept) < 0)
		log_warn("%s: is not configured as before: %s", addr, s->err);
	res = load_idle(s, addr, &rec);
	if (res < 0)
		return res;
	sriov_text(rec.owners, sizeof(rec.owners), "%s", kept->owners);
	rec.bind = kept->bind;
	res = sriov_rec_save(s, &rec);
	if (res < 0 || !*kept->driver)
		return res;
	res = sriov_bind_new(s, &rec, kept->driver);
	if (res == -ETIMEDOUT)
		return res;
	if (res < 0) {
		log_warn("%s: has not the driver it had: %s", addr, s->err);
		memset(&rec.bind, 0, sizeof(rec.bind));
	}
	return sriov_rec_save(s, &rec);
}

/* The address of the VF of that number, or NULL. */
static const char *read_one(json_t *one, char (*vf)[SRIOV_ADDR_LEN], int nr, struct kept *kept)
{
	if (unpack(one, kept) < 0 || kept->index >= (unsigned int)nr || !*vf[kept->index])
		return NULL;
	return vf[kept->index];
}

static int put_all(struct sriov *s, const char *pf, json_t *all, char (*vf)[SRIOV_ADDR_LEN], int nr)
{
	struct kept kept;
	const char *addr;
	json_t *one;
	int res;
	size_t i;

	for (int give_back = 1; give_back >= 0; give_back--) {
		json_array_foreach(all, i, one)
		{
			addr = read_one(one, vf, nr, &kept);
			if (!addr || !kept.msix.given || !is_new(s, addr, &kept) ||
			    sriov_msix_gives_back(s, addr, kept.msix.nr) != give_back)
				continue;
			res = put_vectors(s, addr, &kept);
			if (res < 0)
				return res;
		}
	}
	json_array_foreach(all, i, one)
	{
		addr = read_one(one, vf, nr, &kept);
		res = addr ? put_vf(s, pf, addr, &kept) : 0;
		if (res < 0)
			return res;
	}
	return 0;
}

int sriov_kept_put_back(struct sriov *s, const char *pf)
{
	char path[SRIOV_PATH_LEN];
	char(*vf)[SRIOV_ADDR_LEN];
	json_t *all;
	int nr, res;

	kept_path(s, pf, path);
	all = json_load_file(path, 0, NULL);
	if (!all)
		return 0;
	nr = sriov_vf_addrs(s, pf, &vf);
	if (nr < 0) {
		json_decref(all);
		return sriov_fail(s, nr, "%s: %s", pf, strerror(-nr));
	}
	res = put_all(s, pf, all, vf, nr);
	free(vf);
	json_decref(all);
	return res < 0 ? res : 1;
}
