/*
 * The file or block device behind an uring store: opening, cache modes, size,
 * block sizes, alignment for O_DIRECT, what it can discard. Called by
 * store_uring.c on the control thread. It never creates a file, and looks at
 * nothing in one: contents decide nothing here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"

#define BLOCK_SIZE_MAX 4096

/* --- what it is ---------------------------------------------------------------- */

static const char *wrong_kind(mode_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return NULL;
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode))
		return "a FIFO";
	if (S_ISSOCK(mode))
		return "a socket";
	return "a character device";
}

/* Opening some things has effects, so look before. */
static int check_kind(const char *path, mode_t mode, char *err)
{
	const char *kind = wrong_kind(mode);

	if (!kind)
		return 0;
	return store_fail(err, S_ISDIR(mode) ? -EISDIR : -EINVAL,
			  "'%s' is %s, expected a file or a block device", path, kind);
}

static int open_error(const char *path, bool read_only, int error, char *err)
{
	if (error == -ENOENT)
		return store_fail(err, error, "'%s' does not exist", path);
	if ((error == -EACCES || error == -EPERM) && !read_only)
		return store_fail(err, error,
				  "'%s' cannot be opened for writing: permission denied", path);
	if (error == -EACCES || error == -EPERM)
		return store_fail(err, error,
				  "'%s' cannot be opened for reading: permission denied", path);
	if (error == -EROFS)
		return store_fail(err, error,
				  "'%s' is on a read-only file system (read-only=on would do)",
				  path);
	return store_fail(err, error, "'%s' cannot be opened: %s", path, strerror(-error));
}

static int get_size(int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, size) < 0)
		return -errno;
	return 0;
}

int image_size(int fd, const char *path, uint32_t block_size, uint64_t *size, char *err)
{
	int ret = get_size(fd, size);

	if (ret < 0)
		return store_fail(err, ret, "'%s': its size is not known: %s", path,
				  strerror(-ret));
	if (!*size)
		return store_fail(err, -EINVAL, "'%s' is empty", path);
	if (*size % block_size)
		return store_fail(err, -EINVAL,
				  "'%s': its size of %" PRIu64
				  " bytes is not a multiple of the %u-byte block size",
				  path, *size, block_size);
	return 0;
}

/* --- what O_DIRECT asks for ------------------------------------------------------ */

/* Does a read of len bytes from the start into p work? 0 or -errno. */
static int try_read(int fd, void *p, size_t len)
{
	return pread(fd, p, len, 0) < 0 ? -errno : 0;
}

/* Kernels and file systems that do not tell are asked by trying. 0, -EINVAL if
 * nothing works, or the error of reading. */
static int probe_alignment(struct image *im)
{
	static const uint32_t aligns[] = { 1, 512, 1024, 2048, 4096 };
	uint8_t *buf = aligned_alloc(2 * BLOCK_SIZE_MAX, 4 * BLOCK_SIZE_MAX);
	int ret = -EINVAL;

	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(aligns) && ret == -EINVAL; i++) {
		im->len_align = aligns[i];
		ret = try_read(im->fd, buf, aligns[i]);
	}
	if (!ret)
		ret = -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(aligns) && ret == -EINVAL; i++) {
		im->mem_align = aligns[i];
		ret = try_read(im->fd, buf + aligns[i], im->len_align);
	}
	free(buf);
	return ret;
}

/* 0, -EINVAL if O_DIRECT is of no use with this file, or the error of reading. */
static int find_alignment(struct image *im)
{
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (!statx(im->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) &&
	    sx.stx_mask & STATX_DIOALIGN) {
		im->mem_align = sx.stx_dio_mem_align;
		im->len_align = sx.stx_dio_offset_align;
		return is_power_of_two(im->mem_align) && is_power_of_two(im->len_align) ? 0
											: -EINVAL;
	}
#endif
	return probe_alignment(im);
}

/* --- block sizes ------------------------------------------------------------------ */

static void find_block_sizes(struct image *im, const struct store_conf *conf)
{
	unsigned int physical = 0, io_opt = 0;
	int logical = 512;
	struct stat st;

	if (im->is_block) {
		ioctl(im->fd, BLKSSZGET, &logical);
		ioctl(im->fd, BLKPBSZGET, &physical);
		ioctl(im->fd, BLKIOOPT, &io_opt);
	} else if (!fstat(im->fd, &st)) {
		/* Guests align to what the file system handles in one piece. */
		physical = (unsigned int)st.st_blksize;
	}
	if (im->direct && im->len_align > 512)
		logical = (int)im->len_align;
	im->block_size = conf->block_size ? conf->block_size : logical > 512 ? BLOCK_SIZE_MAX : 512;
	if (physical > BLOCK_SIZE_MAX || !is_power_of_two(physical))
		physical = BLOCK_SIZE_MAX;
	im->physical_block_size = (uint32_t)max_u64(im->block_size, physical);
	im->opt_io_size = io_opt;
	im->discard_granularity = im->physical_block_size;
}

/* --- opening ------------------------------------------------------------------------ */

/* What a guest reads is no access of the owner's, and to keep the time of it
 * takes a twentieth of what reading 4 KiB from memory does. Who is neither the
 * owner nor privileged cannot ask for that. */
static int open_noatime(const char *path, int flags)
{
	int fd = open(path, flags | O_NOATIME);

	return fd < 0 && errno == EPERM ? open(path, flags) : fd;
}

static int open_file(const char *path, int flags, char *err, bool read_only)
{
	int fd;

	/* Not blocking: it may have become a FIFO meanwhile. */
	fd = open_noatime(path, flags | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == EINVAL && flags & O_DIRECT)
		return -EINVAL;
	if (fd < 0)
		return open_error(path, read_only, -errno, err);
	/* io_uring would answer EAGAIN instead of waiting. */
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0) {
		int ret = -errno;

		close(fd);
		return open_error(path, read_only, ret, err);
	}
	return fd;
}

static bool is_in_memory(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/*
 * io_uring hands requests of a file that does not promise to answer at once to
 * a worker thread, which costs more than the request if its data are in memory.
 * O_NONBLOCK is taken as that promise; what cannot be kept is still handed over.
 * Not for other file systems: a slow one would hold up the loop.
 */
static void answer_at_once(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		log_warn("file in memory: O_NONBLOCK: %s", strerror(errno));
}

/* With O_DIRECT. 0, -EINVAL if that is not to be had, else the error is told. */
static int open_direct(struct image *im, const char *path, int flags, const struct store_conf *conf,
		       char *err)
{
	int ret;

	*err = 0;
	im->fd = open_file(path, flags | O_DIRECT, err, conf->read_only);
	if (im->fd < 0)
		return im->fd;
	ret = find_alignment(im);
	if (!ret && im->len_align > (conf->block_size ? conf->block_size : BLOCK_SIZE_MAX))
		ret = -EINVAL;
	if (ret < 0) {
		fd_replace(&im->fd, -1);
		if (ret != -EINVAL)
			store_fail(err, ret, "'%s' cannot be read: %s", path, strerror(-ret));
		return ret;
	}
	im->direct = true;
	return 0;
}

static int open_by_cache_mode(struct image *im, const struct store_conf *conf, const char *path,
			      char *err)
{
	int flags = conf->read_only ? O_RDONLY : O_RDWR, ret;
	bool must = conf->cache == STORE_CACHE_NONE || conf->cache == STORE_CACHE_DIRECTSYNC;

	if (must || conf->cache == STORE_CACHE_AUTO) {
		ret = open_direct(im, path, flags, conf, err);
		if (!ret || *err)
			return ret;
		if (must)
			return store_fail(err, ret,
					  "'%s' does not take O_DIRECT in blocks of %u bytes: "
					  "cache=writeback would do",
					  path,
					  conf->block_size ? conf->block_size : BLOCK_SIZE_MAX);
	}
	im->fd = open_file(path, flags, err, conf->read_only);
	return im->fd < 0 ? im->fd : 0;
}

int image_open(const struct store_conf *conf, const char *path, struct image *im, char *err)
{
	struct stat st;
	int ret;

	*im = (struct image){ .fd = -1, .mem_align = 1, .len_align = 1 };
	if (!*path)
		return store_fail(err, -EINVAL, "store '%s': expected a path after the colon",
				  conf->spec);
	if (stat(path, &st) < 0)
		return open_error(path, conf->read_only, -errno, err);
	ret = check_kind(path, st.st_mode, err);
	if (ret < 0)
		return ret;
	ret = open_by_cache_mode(im, conf, path, err);
	if (ret < 0)
		return ret;
	/* Of what was opened, which need not be what was looked at. */
	if (fstat(im->fd, &st) < 0) {
		ret = open_error(path, conf->read_only, -errno, err);
		goto err_close;
	}
	ret = check_kind(path, st.st_mode, err);
	if (ret < 0)
		goto err_close;
	im->is_block = S_ISBLK(st.st_mode);
	im->in_memory = !im->is_block && is_in_memory(im->fd);
	if (im->in_memory)
		answer_at_once(im->fd);
	find_block_sizes(im, conf);
	ret = image_size(im->fd, path, im->block_size, &im->size, err);
	if (ret < 0)
		goto err_close;
	return 0;

err_close:
	fd_replace(&im->fd, -1);
	return ret;
}

/* --- what it can ----------------------------------------------------------------------- */

/* A number of the block device's queue; 0 if there is none. A partition's queue
 * is that of the disk. */
static uint64_t queue_value(int fd, const char *name)
{
	static const char *const dirs[] = { "", "../" };
	uint64_t value = 0;
	struct stat st;
	char path[128];
	FILE *f = NULL;

	if (fstat(fd, &st) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && !f; i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(st.st_rdev),
			 minor(st.st_rdev), dirs[i], name);
		f = fopen(path, "re");
	}
	if (!f)
		return 0;
	if (fscanf(f, "%" SCNu64, &value) != 1)
		value = 0;
	fclose(f);
	return value;
}

/*
 * Before 5.19 BLKSECDISCARD looks at the range first, and there is no other way to
 * ask that changes nothing: a range that is valid is erased, an empty one drops
 * cached pages.
 */
bool image_tells_secure_erase(const char *release)
{
	unsigned int major, minor;

	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 5 || (major == 5 && minor >= 19);
}

static bool can_secure_erase(int fd)
{
	/* Not whole sectors: refused for that if the device could, else for not
	 * being able to. */
	uint64_t odd[2] = { 1, 1 };
	struct utsname uts;

	if (uname(&uts) < 0 || !image_tells_secure_erase(uts.release))
		return false;
	return ioctl(fd, BLKSECDISCARD, odd) < 0 && errno == EINVAL;
}

void image_probe(struct image *im, bool read_only)
{
	uint64_t behind = round_up(im->size, 1u << 20), granularity;

	if (read_only)
		return;
	if (!im->is_block) {
		im->can_discard = !fallocate(im->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					     (off_t)behind, BLOCK_SIZE_MAX);
		return;
	}
	im->can_discard = queue_value(im->fd, "discard_max_bytes") > 0;
	granularity = queue_value(im->fd, "discard_granularity");
	if (granularity && granularity <= UINT32_MAX / 2)
		im->discard_granularity = (uint32_t)max_u64(granularity, im->block_size);
	im->can_secure_erase = can_secure_erase(im->fd);
}
