/*
 * Finish or restore what dead processes left. Called by sriov_lock(), so before
 * every change, with the lock held.
 *
 * Nothing here is an error of the command that happens to come by: what cannot
 * be set right now (a child still in the kernel, a device still open) is said,
 * and stays for the next one. Its record keeps that function from being touched.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/internal.h"

/* A file that was being written when its writer died. */
static void remove_unfinished(struct sriov *s)
{
	char path[SRIOV_PATH_LEN];
	struct dirent *e;
	size_t len;
	DIR *dir;

	dir = opendir(s->state_dir);
	while (dir && (e = readdir(dir))) {
		len = strlen(e->d_name);
		if (len < 4 || strcmp(e->d_name + len - 4, ".new") != 0)
			continue;
		sriov_text(path, sizeof(path), "%s/%s", s->state_dir, e->d_name);
		unlink(path);
	}
	if (dir)
		closedir(dir);
}

static bool is_under_way(const struct sriov_rec *rec)
{
	return rec->resize.active || rec->bind.phase == SRIOV_BIND_BINDING ||
	       rec->bind.phase == SRIOV_BIND_BACK || rec->claim.phase == SRIOV_PHASE_CLAIMING ||
	       rec->claim.phase == SRIOV_PHASE_RELEASING;
}

static int set_right(struct sriov *s, struct sriov_rec *rec)
{
	struct sriov_func f = { 0 };
	int res = 0;

	if (rec->resize.active)
		res = sriov_resize_recover(s, rec);
	if (res < 0 || (!rec->claim.phase && !rec->bind.phase))
		return res;
	if (!rec->claim.phase) {
		res = sriov_bind_finish(s, rec);
		if (res)
			return res;
	}
	/* Whoever has it open would be waited for. */
	res = sriov_func_read(s, rec->addr, 0, &f);
	if (!res)
		res = sriov_check_free(s, &f, ~(1u << SRIOV_BLOCK_USER), "not restored yet");
	if (res < 0)
		return res;
	if (rec->claim.phase == SRIOV_PHASE_CLAIMING || rec->claim.phase == SRIOV_PHASE_RELEASING)
		return sriov_release_do(s, rec, 0);
	return sriov_bind_undo(s, rec);
}

static int recover_one(struct sriov *s, const char *addr)
{
	struct sriov_rec rec = { 0 };
	int res;

	res = sriov_rec_load(s, addr, &rec);
	if (res < 0)
		return res;
	/* Of another boot, or of a device that is gone. */
	if (sriov_rec_is_empty(&rec))
		return sriov_rec_drop(s, addr);
	if (sriov_rec_writer_alive(&rec))
		return sriov_rec_check_writer(s, &rec);
	if (!rec.writer.pid && !is_under_way(&rec))
		return 0;
	memset(&rec.writer, 0, sizeof(rec.writer));
	if (!is_under_way(&rec))
		return sriov_rec_save(s, &rec);
	log_info("%s: setting right what a command left that did not end", addr);
	return set_right(s, &rec);
}

int sriov_recover(struct sriov *s)
{
	char(*addr)[SRIOV_ADDR_LEN];
	int nr, res;

	remove_unfinished(s);
	nr = sriov_rec_list(s, &addr);
	if (nr < 0)
		return nr;
	sriov_users_forget(s);
	for (int i = 0; i < nr; i++) {
		res = recover_one(s, addr[i]);
		if (res < 0)
			log_warn("%s", s->err);
	}
	free(addr);
	sriov_kept_drop(s, NULL);
	s->err[0] = '\0';
	return 0;
}
