/*
 * The record of a function on disk: one JSON file per function below the state
 * directory. For everything in sriov/ that changes or explains something. Never
 * touches a device.
 *
 * Theory of operation: a record says what is under way before it is done, and
 * what was there before, so that a later process can finish or restore it. A
 * file is replaced as a whole: written beside, synced, renamed, its directory
 * synced. It is worth nothing after a reboot (boot_id), which forgets VFs and
 * bindings, and when the device was removed since (the inode of its directory
 * in sysfs is new with each device), as then its successor has nothing of it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

#define VERSION 2

static const char *const bind_phases[] = { "none", "binding", "bound", "back" };
static const char *const claim_phases[] = { "none", "claiming", "claimed", "releasing" };
static_assert(ARRAY_SIZE(bind_phases) == SRIOV_BIND_BACK + 1, "a word per phase");
static_assert(ARRAY_SIZE(claim_phases) == SRIOV_PHASE_RELEASING + 1, "a word per phase");

static void rec_path(const struct sriov *s, const char *addr, char *path)
{
	sriov_text(path, SRIOV_PATH_LEN, "%s/%s.json", s->state_dir, addr);
}

/* ---- To and from JSON ---- */

json_t *sriov_conf_pack(const struct sriov_conf *conf)
{
	char mac[18];

	sriov_text(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", conf->mac[0], conf->mac[1],
		   conf->mac[2], conf->mac[3], conf->mac[4], conf->mac[5]);
	return json_pack("{s:i, s:s, s:I, s:I, s:i, s:b, s:b, s:b, s:i, s:I, s:I, s:I}", "has",
			 (int)conf->has, "mac", mac, "vlan", (json_int_t)conf->vlan, "qos",
			 (json_int_t)conf->qos, "proto", conf->proto, "spoofchk", conf->spoofchk,
			 "trust", conf->trust, "query-rss", conf->query_rss, "state", conf->state,
			 "min-rate", (json_int_t)conf->min_rate, "max-rate",
			 (json_int_t)conf->max_rate, "msix", (json_int_t)conf->msix);
}

int sriov_conf_unpack(json_t *from, struct sriov_conf *conf)
{
	json_int_t vlan, qos, min_rate, max_rate, msix = 0;
	int has, spoofchk, trust, query_rss;
	const char *mac;

	if (json_unpack(from, "{s:i, s:s, s:I, s:I, s:i, s:b, s:b, s:b, s:i, s:I, s:I, s?I}", "has",
			&has, "mac", &mac, "vlan", &vlan, "qos", &qos, "proto", &conf->proto,
			"spoofchk", &spoofchk, "trust", &trust, "query-rss", &query_rss, "state",
			&conf->state, "min-rate", &min_rate, "max-rate", &max_rate, "msix",
			&msix) < 0 ||
	    sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &conf->mac[0], &conf->mac[1],
		   &conf->mac[2], &conf->mac[3], &conf->mac[4], &conf->mac[5]) != 6 ||
	    conf->proto < 0 || conf->proto > 1 || conf->state < 0 || conf->state > 2)
		return -EINVAL;
	conf->has = (unsigned int)has;
	conf->vlan = (uint64_t)vlan;
	conf->qos = (uint64_t)qos;
	conf->min_rate = (uint64_t)min_rate;
	conf->max_rate = (uint64_t)max_rate;
	conf->msix = (uint64_t)msix;
	conf->spoofchk = spoofchk;
	conf->trust = trust;
	conf->query_rss = query_rss;
	return 0;
}

json_t *sriov_bind_pack(const struct sriov_bind_state *bind)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "phase", bind_phases[bind->phase], "from",
			 bind->from, "override", bind->override_from, "to", bind->to);
}

static json_t *claim_pack(const struct sriov_rec *rec)
{
	json_t *nodes = json_array(), *root;

	for (int i = 0; i < SRIOV_NODES_MAX; i++) {
		const struct sriov_node *n = &rec->claim.node[i];

		if (*n->path)
			json_array_append_new(nodes,
					      json_pack("{s:s, s:I, s:I, s:I, s:i}", "path",
							n->path, "rdev", (json_int_t)n->rdev, "uid",
							(json_int_t)n->uid, "gid",
							(json_int_t)n->gid, "mode", (int)n->mode));
	}
	root = json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:o, s:b, s:o, s:o}", "phase",
			 claim_phases[rec->claim.phase], "owner", rec->claim.owner, "pid",
			 (int)rec->claim.pid, "start", (json_int_t)rec->claim.start, "time",
			 (json_int_t)rec->claim.time, "driver", rec->claim.driver, "bind",
			 sriov_bind_pack(&rec->claim.bind), "used", rec->claim.used, "saved",
			 sriov_conf_pack(&rec->claim.saved), "nodes", nodes);
	if (root && rec->claim.msix.given)
		json_object_set_new(root, "msix", json_integer((json_int_t)rec->claim.msix.nr));
	return root;
}

/* NULL if out of memory or a text is not UTF-8. */
static json_t *rec_pack(const struct sriov *s, const struct sriov_rec *rec)
{
	json_t *root =
		json_pack("{s:i, s:s, s:s, s:I, s:s, s:I}", "version", VERSION, "boot", s->boot_id,
			  "address", rec->addr, "inode", (json_int_t)rec->device_ino, "owners",
			  rec->owners, "resets", (json_int_t)rec->resets);

	if (!root)
		return NULL;
	if (rec->writer.pid)
		json_object_set_new(root, "writer",
				    json_pack("{s:i, s:I, s:s, s:s}", "pid", (int)rec->writer.pid,
					      "start", (json_int_t)rec->writer.start, "path",
					      rec->writer.path, "text", rec->writer.text));
	if (rec->resize.active)
		json_object_set_new(root, "resize",
				    json_pack("{s:b, s:b, s:b, s:i, s:i, s:s}", "made",
					      rec->resize.made, "autoprobe", rec->resize.autoprobe,
					      "link-down", rec->resize.link_down, "from",
					      (int)rec->resize.from, "to", (int)rec->resize.to,
					      "driver", rec->resize.driver));
	if (rec->msix.given)
		json_object_set_new(root, "msix", json_integer((json_int_t)rec->msix.nr));
	if (rec->bind.phase)
		json_object_set_new(root, "bind", sriov_bind_pack(&rec->bind));
	if (rec->claim.phase)
		json_object_set_new(root, "claim", claim_pack(rec));
	return root;
}

static int find_word(const char *word, const char *const *words, int nr)
{
	for (int i = 0; i < nr; i++) {
		if (!strcmp(word, words[i]))
			return i;
	}
	return -EINVAL;
}

int sriov_bind_unpack(json_t *root, struct sriov_bind_state *bind)
{
	const char *phase, *from, *override, *to;
	int word;

	if (json_unpack(root, "{s:s, s:s, s:s, s:s}", "phase", &phase, "from", &from, "override",
			&override, "to", &to) < 0)
		return -EINVAL;
	word = find_word(phase, bind_phases, ARRAY_SIZE(bind_phases));
	if (word < 0)
		return word;
	bind->phase = (enum sriov_bind_phase)word;
	sriov_text(bind->from, sizeof(bind->from), "%s", from);
	sriov_text(bind->override_from, sizeof(bind->override_from), "%s", override);
	sriov_text(bind->to, sizeof(bind->to), "%s", to);
	return 0;
}

static void msix_unpack(json_t *root, struct sriov_msix_state *msix)
{
	json_t *nr = json_object_get(root, "msix");

	msix->given = nr;
	msix->nr = (uint64_t)json_integer_value(nr);
}

static int claim_unpack(json_t *from, struct sriov_rec *rec)
{
	const char *phase, *owner, *path, *driver;
	json_int_t start, time, uid, gid, rdev;
	json_t *saved, *nodes, *node, *bind;
	int pid, used, mode, word;
	size_t i;

	if (json_unpack(from, "{s:s, s:s, s:i, s:I, s:I, s:s, s:o, s:b, s:o, s:o}", "phase", &phase,
			"owner", &owner, "pid", &pid, "start", &start, "time", &time, "driver",
			&driver, "bind", &bind, "used", &used, "saved", &saved, "nodes",
			&nodes) < 0)
		return -EINVAL;
	word = find_word(phase, claim_phases, ARRAY_SIZE(claim_phases));
	if (word < 0 || sriov_conf_unpack(saved, &rec->claim.saved) < 0 ||
	    sriov_bind_unpack(bind, &rec->claim.bind) < 0)
		return -EINVAL;
	sriov_text(rec->claim.driver, sizeof(rec->claim.driver), "%s", driver);
	rec->claim.phase = (enum sriov_claim_phase)word;
	sriov_text(rec->claim.owner, sizeof(rec->claim.owner), "%s", owner);
	rec->claim.pid = pid;
	rec->claim.start = (uint64_t)start;
	rec->claim.time = time;
	rec->claim.used = used;
	msix_unpack(from, &rec->claim.msix);
	json_array_foreach(nodes, i, node)
	{
		struct sriov_node *n = &rec->claim.node[i];

		if (i >= SRIOV_NODES_MAX ||
		    json_unpack(node, "{s:s, s:I, s:I, s:I, s:i}", "path", &path, "rdev", &rdev,
				"uid", &uid, "gid", &gid, "mode", &mode) < 0)
			return -EINVAL;
		sriov_text(n->path, sizeof(n->path), "%s", path);
		n->rdev = (uint64_t)rdev;
		n->uid = (uid_t)uid;
		n->gid = (gid_t)gid;
		n->mode = (unsigned int)mode;
	}
	return 0;
}

static int parts_unpack(json_t *root, struct sriov_rec *rec)
{
	int pid, made, autoprobe, link_down, nr_from, nr_to;
	const char *path, *text;
	json_int_t start;
	json_t *part;

	part = json_object_get(root, "writer");
	if (part) {
		if (json_unpack(part, "{s:i, s:I, s:s, s:s}", "pid", &pid, "start", &start, "path",
				&path, "text", &text) < 0)
			return -EINVAL;
		rec->writer.pid = pid;
		rec->writer.start = (uint64_t)start;
		sriov_text(rec->writer.path, sizeof(rec->writer.path), "%s", path);
		sriov_text(rec->writer.text, sizeof(rec->writer.text), "%s", text);
	}
	part = json_object_get(root, "resize");
	if (part) {
		if (json_unpack(part, "{s:b, s:b, s:b, s:i, s:i, s:s}", "made", &made, "autoprobe",
				&autoprobe, "link-down", &link_down, "from", &nr_from, "to", &nr_to,
				"driver", &text) < 0)
			return -EINVAL;
		rec->resize.active = true;
		rec->resize.made = made;
		rec->resize.autoprobe = autoprobe;
		rec->resize.link_down = link_down;
		rec->resize.from = (unsigned int)nr_from;
		rec->resize.to = (unsigned int)nr_to;
		sriov_text(rec->resize.driver, sizeof(rec->resize.driver), "%s", text);
	}
	msix_unpack(root, &rec->msix);
	part = json_object_get(root, "bind");
	if (part && sriov_bind_unpack(part, &rec->bind) < 0)
		return -EINVAL;
	part = json_object_get(root, "claim");
	return part ? claim_unpack(part, rec) : 0;
}

/* 1: understood; 0: of another boot. */
static int rec_unpack(const struct sriov *s, json_t *root, struct sriov_rec *rec)
{
	json_int_t inode, resets = 0;
	const char *boot, *owners;
	int version;

	if (json_unpack(root, "{s:i, s:s, s:I, s:s, s?I}", "version", &version, "boot", &boot,
			"inode", &inode, "owners", &owners, "resets", &resets) < 0 ||
	    version != VERSION)
		return -EINVAL;
	if (strcmp(boot, s->boot_id) != 0)
		return 0;
	rec->device_ino = (uint64_t)inode;
	rec->resets = resets;
	sriov_text(rec->owners, sizeof(rec->owners), "%s", owners);
	return parts_unpack(root, rec) < 0 ? -EINVAL : 1;
}

/* ---- Files ---- */

uint64_t sriov_device_ino(const struct sriov *s, const char *addr)
{
	char path[SRIOV_PATH_LEN];
	struct stat st;

	sriov_dev_path(s, path, addr, "");
	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

int sriov_rec_load(struct sriov *s, const char *addr, struct sriov_rec *rec)
{
	char path[SRIOV_PATH_LEN];
	json_error_t error;
	json_t *root;
	int res;

	memset(rec, 0, sizeof(*rec));
	sriov_text(rec->addr, sizeof(rec->addr), "%s", addr);
	rec_path(s, addr, path);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	root = json_load_file(path, 0, &error);
	if (!root)
		return access(path, F_OK) < 0 && errno == ENOENT
			       ? 0
			       : sriov_fail(s, -EIO, "%s: line %d: %s", path, error.line,
					    error.text);
	res = rec_unpack(s, root, rec);
	json_decref(root);
	if (res < 0)
		return sriov_fail(s, -EIO, "%s: not a record of this program's version", path);
	if (!res || (rec->device_ino && rec->device_ino != sriov_device_ino(s, addr))) {
		memset(rec, 0, sizeof(*rec));
		sriov_text(rec->addr, sizeof(rec->addr), "%s", addr);
	}
	return 0;
}

static int sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), res = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0 && errno != EINVAL)
		res = -errno;
	close(fd);
	return res;
}

int sriov_rec_drop(struct sriov *s, const char *addr)
{
	char path[SRIOV_PATH_LEN];

	assert(s->lock_fd >= 0);
	rec_path(s, addr, path);
	sriov_step(s, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return sriov_fail(s, -errno, "%s: %s", path, strerror(errno));
	sync_dir(s->state_dir);
	return 0;
}

bool sriov_rec_is_empty(const struct sriov_rec *rec)
{
	return !rec->writer.pid && !rec->resize.active && !rec->bind.phase && !rec->claim.phase &&
	       !*rec->owners && !rec->resets && !rec->msix.given;
}

static int write_file(const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd, res = 0;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		res = errno ? -errno : -ENOSPC;
	else if (fsync(fd) < 0)
		res = -errno;
	if (close(fd) < 0 && !res)
		res = -errno;
	return res;
}

int sriov_state_save(struct sriov *s, const char *file, json_t *root)
{
	char path[SRIOV_PATH_LEN], beside[SRIOV_PATH_LEN];
	char *text;
	int res;

	text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	json_decref(root);
	if (!text)
		return sriov_fail(s, -ENOMEM, "out of memory");
	sriov_text(path, sizeof(path), "%s/%s", s->state_dir, file);
	sriov_text(beside, sizeof(beside), "%s/%s.new", s->state_dir, file);
	sriov_step(s, beside);
	errno = 0;
	res = write_file(beside, text);
	free(text);
	if (!res) {
		sriov_step(s, path);
		if (rename(beside, path) < 0)
			res = -errno;
	}
	if (!res)
		res = sync_dir(s->state_dir);
	if (res < 0) {
		unlink(beside);
		return sriov_fail(s, res, "%s: %s", path, strerror(-res));
	}
	return 0;
}

int sriov_rec_save(struct sriov *s, struct sriov_rec *rec)
{
	char file[SRIOV_ADDR_LEN + 8];

	assert(s->lock_fd >= 0);
	if (sriov_rec_is_empty(rec))
		return sriov_rec_drop(s, rec->addr);
	if (!rec->device_ino)
		rec->device_ino = sriov_device_ino(s, rec->addr);
	/* It would be taken for its successor's. */
	if (!rec->device_ino)
		return sriov_fail(s, -ENODEV, "%s: the function has just vanished", rec->addr);
	sriov_text(file, sizeof(file), "%s.json", rec->addr);
	return sriov_state_save(s, file, rec_pack(s, rec));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

int sriov_rec_list(struct sriov *s, char (**addr)[SRIOV_ADDR_LEN])
{
	char(*grown)[SRIOV_ADDR_LEN];
	char found[SRIOV_ADDR_LEN];
	struct dirent *e;
	char *end;
	int nr = 0;
	DIR *dir;

	*addr = NULL;
	dir = opendir(s->state_dir);
	if (!dir)
		return errno == ENOENT
			       ? 0
			       : sriov_fail(s, -errno, "%s: %s", s->state_dir, strerror(errno));
	while ((e = readdir(dir))) {
		end = strstr(e->d_name, ".json");
		if (!end || end[5] || (size_t)(end - e->d_name) >= sizeof(found))
			continue;
		*end = '\0';
		if (sriov_addr_parse(e->d_name, found) < 0)
			continue;
		grown = reallocarray(*addr, (size_t)nr + 1, sizeof(**addr));
		if (!grown) {
			free(*addr);
			*addr = NULL;
			closedir(dir);
			return sriov_fail(s, -ENOMEM, "out of memory");
		}
		*addr = grown;
		memcpy(grown[nr++], found, sizeof(found));
	}
	closedir(dir);
	if (nr)
		qsort(*addr, (size_t)nr, sizeof(**addr), by_text);
	return nr;
}

/* ---- What a record means ---- */

bool sriov_rec_writer_alive(const struct sriov_rec *rec)
{
	/* A child of this program: in the real proc, whatever the root is. */
	return rec->writer.pid && rec->writer.start &&
	       sriov_proc_start("/proc", rec->writer.pid) == rec->writer.start;
}

int sriov_rec_check_writer(struct sriov *s, const struct sriov_rec *rec)
{
	if (!sriov_rec_writer_alive(rec))
		return 0;
	return sriov_fail(s, -EBUSY,
			  "%s: process %d is still writing '%s' to %s; the kernel lets it go when "
			  "nobody holds the device any more",
			  rec->addr, (int)rec->writer.pid, rec->writer.text, rec->writer.path);
}

enum sriov_claim_state sriov_rec_claim_state(const struct sriov *s, const struct sriov_rec *rec)
{
	char proc[SRIOV_PATH_LEN];

	if (rec->claim.phase == SRIOV_PHASE_NONE)
		return SRIOV_CLAIM_NONE;
	if (rec->claim.phase != SRIOV_PHASE_CLAIMED)
		return SRIOV_CLAIM_MOVING;
	sriov_path(s, proc, "/proc");
	if (rec->claim.pid && sriov_proc_start(proc, rec->claim.pid) != rec->claim.start)
		return SRIOV_CLAIM_STALE;
	return SRIOV_CLAIM_HELD;
}
