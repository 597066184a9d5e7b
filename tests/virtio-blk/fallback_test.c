/*
 * Older kernels: whatever of io_uring and of the file system is refused, a store
 * does the same, another way. The calls that ask for it are wrapped by the linker.
 * And requests that the kernel gives back unfinished are asked for again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "virtio-blk/uring.h"

#define SIZE (16u << 20)
#define LEN (1u << 20)
#define GUEST (4u << 20)

enum refusal {
	NO_DEFERRED = 1 << 0, /* before 6.1 */
	NO_SETUP_FLAGS = 1 << 1, /* before 5.18 */
	NO_SPARSE_BUFFERS = 1 << 2, /* before 5.19 */
	NO_FILE_TABLE = 1 << 3,
	NO_FILE_UPDATE = 1 << 4,
	NO_PROBE = 1 << 5, /* and so no READV_FIXED: before 6.15 */
	NO_DIOALIGN = 1 << 6, /* before 6.1 */
	NO_DIRECT = 1 << 7, /* a file system with blocks too large for it */
};

static unsigned int refused;
static unsigned int nr_refused; /* calls */

static bool refuse(unsigned int what)
{
	if (!(refused & what))
		return false;
	nr_refused++;
	return true;
}

int __real_io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p);
int __real_io_uring_register_buffers_sparse(struct io_uring *ring, unsigned int nr);
int __real_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr);
int __real_io_uring_register_files_update(struct io_uring *ring, unsigned int off, const int *files,
					  unsigned int nr);
struct io_uring_probe *__real_io_uring_get_probe_ring(struct io_uring *ring);
int __real_statx(int dir, const char *path, int flags, unsigned int mask, struct statx *sx);
void __real_uring_io_complete(struct store_req *req, int res);

int __wrap_io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p);
int __wrap_io_uring_register_buffers_sparse(struct io_uring *ring, unsigned int nr);
int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr);
int __wrap_io_uring_register_files_update(struct io_uring *ring, unsigned int off, const int *files,
					  unsigned int nr);
struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring);
int __wrap_statx(int dir, const char *path, int flags, unsigned int mask, struct statx *sx);
void __wrap_uring_io_complete(struct store_req *req, int res);

int __wrap_io_uring_queue_init_params(unsigned int entries, struct io_uring *ring,
				      struct io_uring_params *p)
{
	if (p->flags & (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) &&
	    refuse(NO_DEFERRED))
		return -EINVAL;
	if (p->flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SUBMIT_ALL) &&
	    refuse(NO_SETUP_FLAGS))
		return -EINVAL;
	return __real_io_uring_queue_init_params(entries, ring, p);
}

int __wrap_io_uring_register_buffers_sparse(struct io_uring *ring, unsigned int nr)
{
	return refuse(NO_SPARSE_BUFFERS) ? -EINVAL
					 : __real_io_uring_register_buffers_sparse(ring, nr);
}

int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned int nr)
{
	return refuse(NO_FILE_TABLE) ? -EMFILE : __real_io_uring_register_files(ring, files, nr);
}

int __wrap_io_uring_register_files_update(struct io_uring *ring, unsigned int off, const int *files,
					  unsigned int nr)
{
	return refuse(NO_FILE_UPDATE) ? -EMFILE
				      : __real_io_uring_register_files_update(ring, off, files, nr);
}

struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring)
{
	return refuse(NO_PROBE) ? NULL : __real_io_uring_get_probe_ring(ring);
}

int __wrap_statx(int dir, const char *path, int flags, unsigned int mask, struct statx *sx)
{
	int ret = __real_statx(dir, path, flags, mask, sx);

	if (refuse(NO_DIOALIGN))
		sx->stx_mask = 0;
	if (refuse(NO_DIRECT)) {
		sx->stx_mask |= STATX_DIOALIGN;
		sx->stx_dio_mem_align = sx->stx_dio_offset_align = 65536;
	}
	return ret;
}

/* --- everything that a disk does --------------------------------------------------- */

static struct gmem_region *guest_memory(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct gmem_region *r = NULL;
	static bool faulted;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, GUEST), 0);
	assert_int_equal(gmem_region_map(fd, gpa(0), uva(0), GUEST, 0, &faulted, &r), 0);
	return r;
}

static void check_transfer(struct rig *r, uint8_t *buf, uint64_t offset, uint64_t len,
			   uint32_t seed)
{
	uint8_t *pattern = rig_pattern(len, seed);

	memcpy(buf, pattern, len);
	assert_int_equal(rig_io(r, STORE_WRITE, offset, buf, len), 0);
	memset(buf, 0, len);
	assert_int_equal(rig_io(r, STORE_READ, offset, buf, len), 0);
	assert_memory_equal(buf, pattern, len);
	free(pattern);
}

/* In two elements of guest memory. */
static void check_vector(struct rig *r, uint8_t *buf)
{
	struct rig_req q = { .io = { .offset = 0, .len = 16384, .nr_iov = 2 } };
	uint8_t *pattern = rig_pattern(16384, 77);

	q.io.iov = q.iov;
	q.iov[0] = (struct iovec){ buf, 4096 };
	q.iov[1] = (struct iovec){ buf + 65536, 12288 };
	memcpy(buf, pattern, 4096);
	memcpy(buf + 65536, pattern + 4096, 12288);
	q.io.op = STORE_WRITE;
	assert_int_equal(rig_do(r, &q), 0);
	memset(buf, 0, 65536 + 12288);
	q.io.op = STORE_READ;
	assert_int_equal(rig_do(r, &q), 0);
	assert_memory_equal(buf, pattern, 4096);
	assert_memory_equal(buf + 65536, pattern + 4096, 12288);
	free(pattern);
}

static void check_ranges(struct rig *r, uint8_t *buf)
{
	check_transfer(r, buf, 0, LEN, 5);
	assert_int_equal(rig_range(r, STORE_WRITE_ZEROES, 0, 4096, 8192), 0);
	assert_int_equal(rig_range(r, STORE_WRITE_ZEROES, STORE_REQ_UNMAP, 65536, 8192), 0);
	assert_int_equal(rig_range(r, STORE_DISCARD, 0, 131072, 8192), 0);
	assert_int_equal(rig_io(r, STORE_READ, 0, buf, LEN), 0);
	for (unsigned int i = 0; i < 8192; i++)
		assert_int_equal(buf[4096 + i] | buf[65536 + i], 0);
	assert_int_not_equal(buf[0] | buf[1] | buf[2] | buf[3], 0);
}

static void check_all(struct rig *r, struct gmem_region *mem)
{
	/* Registered or not. */
	for (int i = 0; i < 2000; i++)
		rig_turn(r);
	check_transfer(r, mem->host, 0, LEN, 1);
	check_transfer(r, mem->host + 512, 512, 4096, 2);
	/* Where O_DIRECT cannot. */
	check_transfer(r, mem->host + 3, 8192, 8192, 3);
	check_vector(r, mem->host);
	check_ranges(r, mem->host);
	assert_int_equal(rig_io(r, STORE_FLUSH, 0, NULL, 0), 0);
}

static void run_with(unsigned int what)
{
	static const char *const dirs[] = { RIG_DISK, RIG_TMPFS };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct gmem_region *mem = guest_memory();
		struct rig r;

		refused = what;
		nr_refused = 0;
		rig_init(&r);
		rig_file(&r, dirs[i], SIZE);
		r.conf.fixed_buffers = 1;
		rig_open(&r);
		r.store->ops->mem_added(r.store, mem);
		check_all(&r, mem);
		r.store->ops->mem_removed(r.store, mem);
		rig_fini(&r);
		assert_int_equal(mem->refs, 1);
		gmem_region_put(mem);
		refused = 0;
		/* O_DIRECT is not to be had everywhere, and not asked about then. */
		assert_true(nr_refused || !what || what == NO_DIOALIGN);
	}
}

static void each_kernel_feature_can_be_missed(void **state)
{
	for (unsigned int bit = 0; bit < 8; bit++)
		run_with(1u << bit);
	run_with(0);
}

static void all_of_them_can_be_missed_at_once(void **state)
{
	run_with(NO_DEFERRED | NO_SETUP_FLAGS | NO_SPARSE_BUFFERS | NO_FILE_TABLE | NO_FILE_UPDATE |
		 NO_PROBE | NO_DIOALIGN);
	run_with(NO_DEFERRED | NO_SETUP_FLAGS | NO_SPARSE_BUFFERS | NO_PROBE | NO_DIOALIGN);
}

/* Lines that fn(r) logs. */
static unsigned int lines_of(struct rig *r, void (*fn)(struct rig *r))
{
	int fd = memfd_create("log", MFD_CLOEXEC), old = dup(STDERR_FILENO);
	unsigned int nr = 0;
	char c;

	assert_true(fd >= 0 && old >= 0);
	log_set_level(LOG_LEVEL_INFO);
	dup2(fd, STDERR_FILENO);
	fn(r);
	dup2(old, STDERR_FILENO);
	log_set_level(LOG_LEVEL_ERROR);
	for (off_t at = 0; pread(fd, &c, 1, at) == 1; at++)
		nr += c == '\n';
	close(old);
	close(fd);
	return nr;
}

static void open_and_fail(struct rig *r)
{
	rig_open_fails(r);
}

/* The error, which is the caller's to log. */
static void a_bad_image_is_one_line_without_direct_io_too(void **state)
{
	struct rig r;

	refused = NO_DIRECT;
	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	assert_int_equal(lines_of(&r, rig_open), 1);
	assert_int_equal(lines_of(&r, open_and_fail), 0);
	rig_close(&r);
	rig_file(&r, RIG_DISK, 700);
	assert_int_equal(lines_of(&r, open_and_fail), 0);
	refused = 0;
	rig_fini(&r);
}

/* --- given back unfinished ------------------------------------------------------------ */

static int inject;
static unsigned int nr_inject, nr_injected;

void __wrap_uring_io_complete(struct store_req *req, int res)
{
	if (nr_inject) {
		nr_inject--;
		nr_injected++;
		res = inject;
	}
	__real_uring_io_complete(req, res);
}

static void what_the_kernel_gives_back_is_asked_for_again(void **state)
{
	static const int errors[] = { -EINTR, -EAGAIN };
	static const char *const dirs[] = { RIG_DISK, RIG_TMPFS };

	for (size_t i = 0; i < ARRAY_SIZE(errors) * ARRAY_SIZE(dirs); i++) {
		uint8_t *buf = aligned_alloc(4096, LEN + 4096);
		struct rig r;

		rig_init(&r);
		rig_file(&r, dirs[i / 2], SIZE);
		rig_open(&r);
		inject = errors[i % 2];
		nr_injected = 0;
		nr_inject = 3;
		check_transfer(&r, buf, 4096, LEN, 1);
		nr_inject = 3;
		check_transfer(&r, buf + 3, 4096, LEN, 2);
		nr_inject = 3;
		assert_int_equal(rig_io(&r, STORE_READ, 4096, buf, LEN), 0);
		nr_inject = 2;
		check_ranges(&r, buf);
		nr_inject = 2;
		assert_int_equal(rig_range(&r, STORE_WRITE_ZEROES, STORE_REQ_UNMAP, 0, LEN), 0);
		assert_int_equal(rig_io(&r, STORE_READ, 0, buf, LEN), 0);
		for (unsigned int at = 0; at < LEN; at++)
			assert_int_equal(buf[at], 0);
		assert_int_equal(nr_injected, 13);
		if (!strcmp(dirs[i / 2], RIG_DISK)) {
			nr_inject = 2;
			assert_int_equal(rig_io(&r, STORE_FLUSH, 0, NULL, 0), 0);
			assert_int_equal(nr_inject, 0);
		}
		rig_fini(&r);
		free(buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kernel_feature_can_be_missed),
		cmocka_unit_test(all_of_them_can_be_missed_at_once),
		cmocka_unit_test(a_bad_image_is_one_line_without_direct_io_too),
		cmocka_unit_test(what_the_kernel_gives_back_is_asked_for_again),
	};

	return cmocka_run_group_tests_name("fallback", tests, NULL, NULL);
}
