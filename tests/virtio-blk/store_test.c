/*
 * Stores through store.h: what they keep, what they refuse, with which words.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio-blk/uring.h"

#define SIZE (16u << 20)

static void assert_says(const struct rig *r, const char *what)
{
	if (!strstr(r->err, what))
		print_error("expected \"%s\" in: %s\n", what, r->err);
	assert_non_null(strstr(r->err, what));
}

static void refuses(const char *spec, int error, const char *what)
{
	struct rig r;

	rig_init(&r);
	r.conf.spec = spec;
	assert_int_equal(rig_open_fails(&r), error);
	assert_says(&r, what);
	assert_says(&r, spec);
	rig_fini(&r);
}

static void options_of_files_are_refused_in_memory(void **state)
{
	struct rig r;

	rig_init(&r);
	r.conf.spec = "mem:1M";
	r.conf.iopoll = true;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "iopoll needs uring:PATH");
	r.conf.iopoll = false;
	r.conf.lock = STORE_LOCK_START;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "lock=start needs uring:PATH");
	rig_fini(&r);
}

static void unknown_schemes_are_refused(void **state)
{
	refuses("qcow2:/x", -EINVAL, "expected uring:PATH, null:SIZE or mem:SIZE");
	refuses("/x", -EINVAL, "expected uring:PATH");
	refuses("", -EINVAL, "expected uring:PATH");
	refuses("uringx:/x", -EINVAL, "expected uring:PATH");
}

static void wrong_sizes_are_refused(void **state)
{
	refuses("null:", -EINVAL, "size");
	refuses("null:0", -EINVAL, "size");
	refuses("null:10X", -EINVAL, "10X");
	refuses("null:1000", -EINVAL, "512-byte block size");
	refuses("mem:-1", -EINVAL, "-1");
	refuses("mem:8E", -EINVAL, "8E");
}

static void wrong_paths_are_refused_with_the_cause(void **state)
{
	char fifo[] = "/tmp/ringbolt-fifo-XXXXXX", spec[64];
	struct rig r;

	rig_init(&r);
	r.conf.spec = "uring:/nonexistent/image";
	assert_int_equal(rig_open_fails(&r), -ENOENT);
	assert_says(&r, "'/nonexistent/image' does not exist");
	r.conf.spec = "uring:/tmp";
	assert_int_equal(rig_open_fails(&r), -EISDIR);
	assert_says(&r, "'/tmp' is a directory");
	r.conf.spec = "uring:/dev/null";
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "character device");
	r.conf.spec = "uring:";
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_true(mkdtemp(fifo) != NULL);
	rmdir(fifo);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	snprintf(spec, sizeof(spec), "uring:%s", fifo);
	r.conf.spec = spec;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "FIFO");
	unlink(fifo);
	rig_fini(&r);
}

static void wrong_files_are_refused_with_the_cause(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, 0);
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "is empty");
	rig_file(&r, RIG_DISK, 1000);
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "1000 bytes is not a multiple of the 512-byte block size");
	rig_file(&r, RIG_DISK, 512 * 9);
	r.conf.block_size = 4096;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "4096-byte block size");
	r.conf.block_size = 1024;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "expected 512 or 4096");
	if (getuid()) {
		rig_file(&r, RIG_DISK, SIZE);
		r.conf.block_size = 0;
		chmod(r.path, 0400);
		assert_int_equal(rig_open_fails(&r), -EACCES);
		assert_says(&r, "permission denied");
	}
	rig_fini(&r);
}

static void iopoll_needs_direct_io(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	r.conf.iopoll = true;
	r.conf.cache = STORE_CACHE_WRITEBACK;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_says(&r, "iopoll=on needs O_DIRECT");
	rig_fini(&r);
}

/* What was written is read back, and nothing around it changes. */
static void check_transfers(struct rig *r)
{
	uint8_t *data = rig_pattern(1u << 20, 1), *back = rig_pattern(1u << 20, 2);

	assert_int_equal(rig_io(r, STORE_WRITE, 4096, data, 1u << 20), 0);
	assert_int_equal(rig_io(r, STORE_READ, 4096, back, 1u << 20), 0);
	assert_memory_equal(data, back, 1u << 20);
	assert_int_equal(rig_io(r, STORE_WRITE, 8192, data, 4096), 0);
	assert_int_equal(rig_io(r, STORE_READ, 4096, back, 12288), 0);
	assert_memory_equal(data, back, 4096);
	assert_memory_equal(data, back + 4096, 4096);
	assert_memory_equal(data + 8192, back + 8192, 4096);
	assert_int_equal(rig_range(r, STORE_FLUSH, 0, 0, 0), 0);
	free(data);
	free(back);
}

/* Buffers cut up and placed as no disk would take them. */
static void check_scattered(struct rig *r)
{
	static const size_t cuts[] = { 1, 511, 3, 4093, 700, 68, 120, 3208 };
	uint8_t *data = rig_pattern(65536, 3), *back = rig_pattern(65536, 4);
	struct rig_req q = { .io = { .op = STORE_WRITE, .offset = 1u << 20, .iov = q.iov } };
	uint8_t *p = data + 7;

	for (uint32_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		q.iov[i] = (struct iovec){ p, cuts[i] };
		p += cuts[i] + i;
		q.io.len += cuts[i];
		q.io.nr_iov++;
	}
	q.io.len = round_up(q.io.len, 4096);
	q.iov[7].iov_len += q.io.len - 8704;
	assert_int_equal(rig_do(r, &q), 0);
	assert_int_equal(rig_io(r, STORE_READ, 1u << 20, back, q.io.len), 0);
	p = back;
	for (uint32_t i = 0; i < q.io.nr_iov; i++) {
		assert_memory_equal(q.iov[i].iov_base, p, q.iov[i].iov_len);
		p += q.iov[i].iov_len;
	}
	/* And back into the same places. */
	memset(data, 0, 65536);
	q.io.op = STORE_READ;
	assert_int_equal(rig_do(r, &q), 0);
	p = back;
	for (uint32_t i = 0; i < q.io.nr_iov; i++) {
		assert_memory_equal(q.iov[i].iov_base, p, q.iov[i].iov_len);
		p += q.iov[i].iov_len;
	}
	free(data);
	free(back);
}

/* More bounced requests than there are buffers, each of several pieces. */
static void check_many_bounced(struct rig *r)
{
	enum {
		NR = 40,
		LEN = 300 << 10
	};
	struct rig_req *q = calloc(NR, sizeof(*q));
	uint8_t *data = rig_pattern((size_t)NR * LEN + 1, 5);
	uint8_t *back = calloc(1, (size_t)NR * LEN + 1);
	bool all = false;

	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < NR; i++) {
			q[i].iov[0].iov_base = (pass ? back : data) + 1 + (size_t)i * LEN;
			q[i].iov[0].iov_len = LEN;
			q[i].io = (struct store_req){
				.op = pass ? STORE_READ : STORE_WRITE,
				.offset = (uint64_t)i * LEN,
				.len = LEN,
				.nr_iov = 1,
				.iov = q[i].iov,
			};
			rig_start(r, &q[i]);
		}
		for (int turn = 0; !all && turn < 20000; turn++) {
			rig_turn(r);
			all = true;
			for (int i = 0; i < NR; i++)
				all &= q[i].ended;
		}
		assert_true(all);
		all = false;
		for (int i = 0; i < NR; i++)
			assert_int_equal(q[i].res, 0);
	}
	assert_memory_equal(data + 1, back + 1, (size_t)NR * LEN);
	free(q);
	free(data);
	free(back);
}

/* Ranges read as zeroes afterwards, and only they. */
static void check_zeroes(struct rig *r, enum store_op op, uint8_t flags)
{
	uint8_t *data = rig_pattern(1u << 20, 6), *back = rig_pattern(1u << 20, 7);
	uint8_t *zero = calloc(1, 1u << 20);

	assert_int_equal(rig_io(r, STORE_WRITE, 0, data, 1u << 20), 0);
	assert_int_equal(rig_range(r, op, flags, 512 * 9, 300000 / 512 * 512), 0);
	assert_int_equal(rig_io(r, STORE_READ, 0, back, 1u << 20), 0);
	assert_memory_equal(back, data, 512 * 9);
	assert_memory_equal(back + 512 * 9, zero, 300000 / 512 * 512);
	assert_memory_equal(back + 512 * 9 + 300000 / 512 * 512,
			    data + 512 * 9 + 300000 / 512 * 512,
			    (1u << 20) - 512 * 9 - 300000 / 512 * 512);
	free(data);
	free(back);
	free(zero);
}

static void check_store(struct rig *r)
{
	check_transfers(r);
	check_scattered(r);
	check_zeroes(r, STORE_WRITE_ZEROES, 0);
	check_zeroes(r, STORE_WRITE_ZEROES, STORE_REQ_UNMAP);
	check_zeroes(r, STORE_WRITE_ZEROES, STORE_REQ_FUA);
	check_zeroes(r, STORE_WRITE_ZEROES, STORE_REQ_UNMAP | STORE_REQ_FUA);
	check_zeroes(r, STORE_DISCARD, 0);
}

static void memory_keeps_what_is_written(void **state)
{
	struct rig r;

	rig_init(&r);
	r.conf.spec = "mem:16M";
	rig_open(&r);
	check_store(&r);
	check_zeroes(&r, STORE_SECURE_ERASE, 0);
	rig_fini(&r);
}

static void memory_resizes_and_forgets_what_is_cut_off(void **state)
{
	uint8_t *data = rig_pattern(4096, 8), *back = rig_pattern(4096, 9);
	uint8_t zero[4096] = { 0 };
	struct rig r;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
	print_message("skipped: TSan leaves no addresses to grow into\n");
	skip();
#endif
#endif
	rig_init(&r);
	r.conf.spec = "mem:1M";
	rig_open(&r);
	assert_int_equal(store_resize(r.store, 4u << 20, r.err), 0);
	assert_int_equal(r.store->info.size, 4u << 20);
	assert_int_equal(rig_io(&r, STORE_WRITE, 3u << 20, data, 4096), 0);
	assert_int_equal(store_resize(r.store, 1u << 20, r.err), 0);
	assert_int_equal(store_resize(r.store, 4u << 20, r.err), 0);
	assert_int_equal(rig_io(&r, STORE_READ, 3u << 20, back, 4096), 0);
	assert_memory_equal(back, zero, 4096);
	assert_int_equal(store_resize(r.store, 1000, r.err), -EINVAL);
	assert_says(&r, "not a multiple");
	free(data);
	free(back);
	rig_fini(&r);
}

static void null_answers_everything(void **state)
{
	uint8_t buf[4096];
	struct rig r;

	rig_init(&r);
	r.conf.spec = "null:10G";
	rig_open(&r);
	assert_int_equal(r.store->info.size, 10ull << 30);
	for (int op = 0; op < STORE_OP_CNT; op++)
		assert_int_equal(rig_io(&r, (enum store_op)op, 0, buf, sizeof(buf)), 0);
	rig_fini(&r);
}

static void with_file(const char *dir, int cache, bool sqpoll, void (*check)(struct rig *r))
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, dir, SIZE);
	r.conf.cache = cache;
	r.conf.sqpoll = sqpoll;
	rig_open(&r);
	check(&r);
	rig_fini(&r);
}

static void a_file_keeps_what_is_written_in_every_cache_mode(void **state)
{
	for (int cache = 0; cache < STORE_CACHE_CNT; cache++)
		with_file(RIG_DISK, cache, false, check_store);
}

static void a_file_on_tmpfs_keeps_what_is_written(void **state)
{
	with_file(RIG_TMPFS, STORE_CACHE_AUTO, false, check_store);
	with_file(RIG_TMPFS, STORE_CACHE_WRITEBACK, false, check_store);
}

static void a_submitting_kernel_thread_does_the_same(void **state)
{
	with_file(RIG_DISK, STORE_CACHE_AUTO, true, check_store);
}

static void requests_wait_for_bounce_buffers(void **state)
{
	with_file(RIG_DISK, STORE_CACHE_AUTO, false, check_many_bounced);
}

static void polled_completions_do_the_same(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	r.conf.iopoll = true;
	if (store_open(&r.conf, &r.store, r.err) < 0) {
		print_message("skipped: %s\n", r.err);
		rig_fini(&r);
		skip();
	}
	assert_int_equal(r.store->ops->chan_open(r.store, r.loop, 64, &r.chan), 0);
	check_store(&r);
	rig_fini(&r);
}

static void blocks_of_4096_bytes_are_served(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	r.conf.block_size = 4096;
	rig_open(&r);
	assert_int_equal(r.store->info.block_size, 4096);
	check_transfers(&r);
	check_scattered(&r);
	rig_fini(&r);
}

static void a_read_only_file_offers_no_writes(void **state)
{
	struct rig r;
	uint8_t *buf = rig_pattern(4096, 1);

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	r.conf.read_only = true;
	rig_open(&r);
	assert_int_equal(r.store->info.caps, 0);
	assert_int_equal(rig_io(&r, STORE_READ, 0, buf, 4096), 0);
	assert_int_equal(rig_range(&r, STORE_FLUSH, 0, 0, 0), 0);
	assert_int_equal(store_resize(r.store, SIZE / 2, r.err), -ENOTSUP);
	free(buf);
	rig_fini(&r);
}

static void discard_gives_room_back_and_plain_zeroes_keep_it(void **state)
{
	uint8_t *data = rig_pattern(1u << 20, 1);
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	rig_open(&r);
	assert_int_equal(rig_io(&r, STORE_WRITE, 0, data, 1u << 20), 0);
	assert_true(rig_allocated(&r) >= 1u << 20);
	assert_int_equal(rig_range(&r, STORE_WRITE_ZEROES, 0, 0, 1u << 20), 0);
	assert_true(rig_allocated(&r) >= 1u << 20);
	assert_int_equal(rig_range(&r, STORE_DISCARD, 0, 0, 1u << 20), 0);
	assert_true(rig_allocated(&r) < 1u << 19);
	free(data);
	rig_fini(&r);
}

/* As on a file system without any of the range operations. */
static void zeroes_are_written_where_nothing_else_works(void **state)
{
	struct uring_store *st;
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	rig_open(&r);
	st = container_of(r.store, struct uring_store, store);
	st->no_punch = true;
	st->no_zero_range = true;
	st->no_alloc = true;
	for (uint8_t flags = 0; flags < 4; flags++)
		check_zeroes(&r, STORE_WRITE_ZEROES, flags);
	assert_int_equal(rig_range(&r, STORE_WRITE_ZEROES, 0, 0, 8u << 20), 0);
	assert_true(rig_allocated(&r) >= 8u << 20);
	rig_fini(&r);
}

static void the_end_of_a_shortened_file_is_an_error(void **state)
{
	uint8_t *buf = rig_pattern(8192, 1);
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	rig_open(&r);
	assert_int_equal(truncate(r.path, 4096), 0);
	assert_int_equal(rig_io(&r, STORE_READ, 0, buf, 8192), -EIO);
	assert_int_equal(rig_io(&r, STORE_READ, 8192, buf, 4096), -EIO);
	assert_int_equal(rig_io(&r, STORE_READ, 0, buf, 4096), 0);
	free(buf);
	rig_fini(&r);
}

/*
 * Memory that is not there yet cuts a transfer short; by the time it goes on,
 * it is. The same without that is an error, and leaves the iovec as it was.
 */
static void check_short(struct rig *r, enum store_op op, bool recovers)
{
	uint8_t *data = rig_pattern(32768, 1), *back = rig_pattern(32768, 2);
	uint8_t *mem =
		mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rig_req q = { .io = { .op = (uint8_t)op, .len = 32768, .nr_iov = 3, .iov = q.iov } };
	const struct iovec iov[] = { { mem, 5000 }, { mem + 5000, 20000 }, { mem + 25000, 7768 } };

	assert_ptr_not_equal(mem, MAP_FAILED);
	memcpy(q.iov, iov, sizeof(iov));
	memcpy(mem, data, 32768);
	if (op == STORE_READ)
		assert_int_equal(rig_io(r, STORE_WRITE, 0, back, 32768), 0);
	assert_int_equal(mprotect(mem + 12288, 8192, PROT_NONE), 0);
	rig_start(r, &q);
	for (int i = 0; i < 20 && !q.ended && !q.io.moved; i++)
		rig_turn(r);
	assert_int_equal(q.io.moved, 12288);
	assert_false(q.ended);
	if (recovers)
		assert_int_equal(mprotect(mem + 12288, 8192, PROT_READ | PROT_WRITE), 0);
	for (int i = 0; i < 20000 && !q.ended; i++)
		rig_turn(r);
	assert_true(q.ended);
	assert_int_equal(q.res, recovers ? 0 : -EFAULT);
	assert_memory_equal(q.iov, iov, sizeof(iov));
	if (recovers && op == STORE_READ) {
		assert_memory_equal(mem, back, 32768);
	} else if (recovers) {
		assert_int_equal(rig_io(r, STORE_READ, 0, back, 32768), 0);
		assert_memory_equal(data, back, 32768);
	}
	munmap(mem, 32768);
	free(data);
	free(back);
}

static void short_transfers_are_continued(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_TMPFS, SIZE);
	r.conf.cache = STORE_CACHE_WRITEBACK;
	rig_open(&r);
	for (int recovers = 0; recovers < 2; recovers++) {
		check_short(&r, STORE_READ, recovers);
		check_short(&r, STORE_WRITE, recovers);
	}
	rig_fini(&r);
}

static void a_file_is_resized_from_both_sides(void **state)
{
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	rig_open(&r);
	assert_int_equal(store_resize(r.store, 2 * SIZE, r.err), 0);
	assert_int_equal(r.store->info.size, 2 * SIZE);
	assert_int_equal(truncate(r.path, SIZE / 2), 0);
	assert_int_equal(store_resize(r.store, 0, r.err), 0);
	assert_int_equal(r.store->info.size, SIZE / 2);
	assert_int_equal(truncate(r.path, SIZE + 1), 0);
	assert_int_equal(store_resize(r.store, 0, r.err), -EINVAL);
	assert_says(&r, "not a multiple");
	assert_int_equal(r.store->info.size, SIZE / 2);
	rig_fini(&r);
}

static void more_requests_than_the_ring_holds_all_end(void **state)
{
	enum {
		NR = 6000
	};
	struct rig_req *q = calloc(NR, sizeof(*q));
	uint8_t *buf = rig_pattern(4096, 1);
	int nr_ended = 0;
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_TMPFS, SIZE);
	rig_open(&r);
	for (int i = 0; i < NR; i++) {
		q[i].iov[0] = (struct iovec){ buf, 4096 };
		q[i].io = (struct store_req){ .op = STORE_READ,
					      .len = 4096,
					      .nr_iov = 1,
					      .iov = q[i].iov,
					      .offset = (uint64_t)(i % 4096) * 4096 };
		rig_start(&r, &q[i]);
	}
	for (int turn = 0; nr_ended < NR && turn < 20000; turn++) {
		rig_turn(&r);
		nr_ended = 0;
		for (int i = 0; i < NR; i++)
			nr_ended += q[i].ended && !q[i].res;
	}
	assert_int_equal(nr_ended, NR);
	free(q);
	free(buf);
	rig_fini(&r);
}

/* Start 32 reads in one turn; how many of them the kernel had before its end. */
static unsigned int submitted_early(bool in_memory)
{
	struct rig_req q[32] = { 0 };
	uint8_t *buf = rig_pattern(ARRAY_SIZE(q) * 4096, 1);
	unsigned int early;
	struct uring *u;
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	rig_open(&r);
	container_of(r.store, struct uring_store, store)->in_memory = in_memory;
	u = container_of(r.chan, struct uring_chan, chan)->data->u;
	rig_turn(&r);
	for (size_t i = 0; i < ARRAY_SIZE(q); i++) {
		q[i].iov[0] = (struct iovec){ buf + i * 4096, 4096 };
		q[i].io = (struct store_req){ .op = STORE_READ,
					      .len = 4096,
					      .nr_iov = 1,
					      .iov = q[i].iov,
					      .offset = i * 4096 };
		rig_start(&r, &q[i]);
	}
	early = u->source.nr_pending - u->prepared;
	for (size_t i = 0; i < ARRAY_SIZE(q); i++) {
		while (!q[i].ended)
			rig_turn(&r);
		assert_int_equal(q[i].res, 0);
	}
	rig_fini(&r);
	free(buf);
	return early;
}

static void an_idle_disk_gets_work_before_the_turn_ends(void **state)
{
	assert_int_equal(submitted_early(false), 32);
	assert_int_equal(submitted_early(true), 0);
}

static void stores_share_the_engine_of_a_loop(void **state)
{
	uint8_t *data = rig_pattern(4096, 1), *back = rig_pattern(4096, 2);
	struct store *second;
	struct store_chan *chan;
	struct rig r, other;

	rig_init(&r);
	rig_init(&other);
	rig_file(&r, RIG_DISK, SIZE);
	rig_file(&other, RIG_TMPFS, SIZE);
	rig_open(&r);
	assert_int_equal(store_open(&other.conf, &second, r.err), 0);
	assert_int_equal(second->ops->chan_open(second, r.loop, 64, &chan), 0);
	assert_int_equal(rig_io(&r, STORE_WRITE, 0, data, 4096), 0);
	/* The first goes, the second stays. */
	rig_close(&r);
	r.store = second;
	r.chan = chan;
	assert_int_equal(rig_io(&r, STORE_WRITE, 0, data, 4096), 0);
	assert_int_equal(rig_io(&r, STORE_READ, 0, back, 4096), 0);
	assert_memory_equal(data, back, 4096);
	rig_fini(&r);
	rig_fini(&other);
	free(data);
	free(back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_of_files_are_refused_in_memory),
		cmocka_unit_test(unknown_schemes_are_refused),
		cmocka_unit_test(wrong_sizes_are_refused),
		cmocka_unit_test(wrong_paths_are_refused_with_the_cause),
		cmocka_unit_test(wrong_files_are_refused_with_the_cause),
		cmocka_unit_test(iopoll_needs_direct_io),
		cmocka_unit_test(memory_keeps_what_is_written),
		cmocka_unit_test(memory_resizes_and_forgets_what_is_cut_off),
		cmocka_unit_test(null_answers_everything),
		cmocka_unit_test(a_file_keeps_what_is_written_in_every_cache_mode),
		cmocka_unit_test(a_file_on_tmpfs_keeps_what_is_written),
		cmocka_unit_test(a_submitting_kernel_thread_does_the_same),
		cmocka_unit_test(requests_wait_for_bounce_buffers),
		cmocka_unit_test(polled_completions_do_the_same),
		cmocka_unit_test(blocks_of_4096_bytes_are_served),
		cmocka_unit_test(a_read_only_file_offers_no_writes),
		cmocka_unit_test(discard_gives_room_back_and_plain_zeroes_keep_it),
		cmocka_unit_test(zeroes_are_written_where_nothing_else_works),
		cmocka_unit_test(the_end_of_a_shortened_file_is_an_error),
		cmocka_unit_test(short_transfers_are_continued),
		cmocka_unit_test(a_file_is_resized_from_both_sides),
		cmocka_unit_test(more_requests_than_the_ring_holds_all_end),
		cmocka_unit_test(an_idle_disk_gets_work_before_the_turn_ends),
		cmocka_unit_test(stores_share_the_engine_of_a_loop),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
