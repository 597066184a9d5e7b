/*
 * dirty.c: exactly the pages written are marked; and what the rings themselves
 * write is marked after it was written, on both ring kinds.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/sigbus.h"
#include "vhost/dirty.h"

#define W VIRTQ_DESC_F_WRITE
#define PAGE 4096u
/* Bytes of a log for all memory of the kit up to RK_HOLE, and then some. */
#define LOG_LEN PAGE

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* A log, and the front-end's view of it. */
struct log_kit {
	struct dirty_log *log;
	uint8_t *bits;
	uint64_t len;
	int fd;
};

static struct log_kit log_open(uint64_t len, uint64_t offset)
{
	struct log_kit l = { .len = len, .fd = rk_memfd(offset + len) };

	l.bits = mmap(NULL, offset + len, PROT_READ | PROT_WRITE, MAP_SHARED, l.fd, 0);
	assert_ptr_not_equal(l.bits, MAP_FAILED);
	l.bits += offset;
	assert_int_equal(dirty_log_create(dup(l.fd), len, offset, &l.log), 0);
	return l;
}

static void log_close(struct log_kit *l, uint64_t offset)
{
	dirty_log_destroy(l->log);
	munmap(l->bits - offset, offset + l->len);
	close(l->fd);
}

/* Exactly the pages from first to last are dirty; the log is clean after. */
static void expect_pages(struct log_kit *l, uint64_t first, uint64_t last)
{
	for (uint64_t page = 0; page < l->len * 8; page++) {
		bool dirty = l->bits[page / 8] >> page % 8 & 1;

		if (dirty != (page >= first && page <= last))
			fail_msg("page %#lx is %s", page, dirty ? "dirty" : "clean");
	}
	memset(l->bits, 0, l->len);
}

static void expect_page_of(struct log_kit *l, uint64_t addr)
{
	expect_pages(l, addr / PAGE, addr / PAGE);
}

static void expect_clean(struct log_kit *l)
{
	expect_pages(l, 1, 0);
}

/* --- the log itself --------------------------------------------------------------- */

static void pages_of_a_range_are_marked_and_no_others(void **state)
{
	static const struct {
		uint64_t addr, len, first, last;
	} cases[] = {
		{ 0, 1, 0, 0 },
		{ 0, PAGE, 0, 0 },
		{ 0, PAGE + 1, 0, 1 },
		{ PAGE - 1, 1, 0, 0 },
		{ PAGE - 1, 2, 0, 1 },
		{ 7 * PAGE, PAGE, 7, 7 },
		{ 7 * PAGE, 2 * PAGE, 7, 8 },
		{ 8 * PAGE, 8 * PAGE, 8, 15 },
		{ 3 * PAGE + 17, 20 * PAGE, 3, 23 },
		{ 5 * PAGE, 100 * PAGE, 5, 104 },
		{ 511 * PAGE, PAGE, 511, 511 },
	};
	struct log_kit l = log_open(64, 0);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		dirty_log_mark(l.log, gpa(cases[i].addr), cases[i].len);
		expect_pages(&l, cases[i].first, cases[i].last);
	}
	log_close(&l, 0);
}

static void length_0_marks_nothing(void **state)
{
	struct log_kit l = log_open(64, 0);

	dirty_log_mark(l.log, gpa(0), 0);
	dirty_log_mark(l.log, gpa(5 * PAGE), 0);
	expect_clean(&l);
	log_close(&l, 0);
}

static void what_the_log_is_too_small_for_is_left_out(void **state)
{
	struct log_kit l = log_open(1, 0);

	dirty_log_mark(l.log, gpa(8 * PAGE), PAGE);
	dirty_log_mark(l.log, gpa(1ull << 40), PAGE);
	dirty_log_mark(l.log, gpa(UINT64_MAX - PAGE), PAGE);
	expect_clean(&l);
	dirty_log_mark(l.log, gpa(6 * PAGE), 100 * PAGE);
	expect_pages(&l, 6, 7);
	log_close(&l, 0);
}

static void marks_add_up(void **state)
{
	struct log_kit l = log_open(64, 0);

	dirty_log_mark(l.log, gpa(2 * PAGE), 1);
	dirty_log_mark(l.log, gpa(3 * PAGE), 1);
	dirty_log_mark(l.log, gpa(4 * PAGE), 1);
	expect_pages(&l, 2, 4);
	log_close(&l, 0);
}

static void offset_need_not_be_a_page(void **state)
{
	struct log_kit l = log_open(64, 4096 + 24);

	dirty_log_mark(l.log, gpa(9 * PAGE), 3 * PAGE);
	expect_pages(&l, 9, 11);
	log_close(&l, 4096 + 24);
}

static void ranges_that_no_file_has_are_refused(void **state)
{
	static const struct {
		uint64_t size, offset;
	} cases[] = {
		{ 0, 0 },
		{ PAGE + 1, 0 },
		{ PAGE, 1 },
		{ 1, PAGE },
		{ UINT64_MAX, 0 },
		{ UINT64_MAX, 1 },
		{ 8, UINT64_MAX - 7 },
		{ 1, UINT64_MAX - 1 },
		{ INT64_MAX, 1 },
		{ UINT64_MAX / 8, INT64_MAX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dirty_log *log = NULL;

		assert_int_equal(dirty_log_create(rk_memfd(PAGE), cases[i].size, cases[i].offset,
						  &log),
				 -EINVAL);
		assert_null(log);
	}
}

static void a_descriptor_that_cannot_be_mapped_is_refused_and_closed(void **state)
{
	struct dirty_log *log = NULL;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_true(dirty_log_create(fds[0], 8, 0, &log) < 0);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(write(fds[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(fds[1]);
}

static void a_truncated_log_does_not_kill_us(void **state)
{
	struct log_kit l;

#ifdef RK_UNDER_TSAN
	print_message("skipped: TSan holds a lock of its own over an atomic that faults\n");
	skip();
#endif
	l = log_open(PAGE, 0);
	/* Here, as the test runner sets its own handler for each test. */
	assert_int_equal(sigbus_init(), 0);
	assert_int_equal(ftruncate(l.fd, 0), 0);
	dirty_log_mark(l.log, gpa(0), 100 * PAGE);
	dirty_log_mark(l.log, gpa(PAGE), PAGE);
	log_close(&l, 0);
}

/* --- what a ring writes ------------------------------------------------------------- */

static struct ringkit *open_logged(void **state, struct log_kit *l, uint64_t more_features,
				   uint32_t size)
{
	uint64_t features = *(const uint64_t *)*state;
	struct ringkit *k = rk_open(features | more_features, size, rk_base(features & RK_PACKED));

	*l = log_open(LOG_LEN, 0);
	k->vq.conf.log = l->log;
	return k;
}

static void data_is_marked_where_the_device_wrote_it(void **state)
{
	const struct rk_buf bufs[] = { { RK_NEXT - 2 * PAGE, 2 * PAGE + 8, W } };
	struct virtq_chain c;
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 8);

	rk_put(k, 0, bufs, 1);
	c = rk_pop(k);
	expect_clean(&l);
	virtq_log_write(&k->vq, (char *)c.iov[0].iov_base + 10, 4);
	expect_page_of(&l, RK_NEXT - 2 * PAGE);
	virtq_log_write(&k->vq, c.iov[0].iov_base, c.iov[0].iov_len);
	expect_pages(&l, RK_NEXT / PAGE - 2, RK_NEXT / PAGE - 1);
	virtq_log_write(&k->vq, c.iov[1].iov_base, c.iov[1].iov_len);
	expect_page_of(&l, RK_NEXT);
	rk_close(k);
	log_close(&l, 0);
}

/* A ring of 1024 spans pages, so that the right one is told from the first. */
static void used_elements_and_index_are_marked(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 1024);
	/* The 600th element lies in the second page, the index in the first. */
	uint64_t elem_page = (RK_DEVICE + 4 + 8 * 600) / PAGE;

	for (uint16_t i = 0; i < 600; i++) {
		rk_put_good(k, 0);
		rk_pop(k);
		rk_complete(k, 0, 1);
	}
	memset(l.bits, 0, l.len);
	rk_put_good(k, 0);
	rk_pop(k);
	virtq_push(&k->vq, 0, 513);
	expect_pages(&l, elem_page, elem_page);
	virtq_flush(&k->vq);
	expect_page_of(&l, RK_DEVICE);
	rk_close(k);
	log_close(&l, 0);
}

/* The front-end may take the log between push and flush: the descriptor that
 * publishes the batch is marked again when that has been written. */
static void used_descriptors_are_marked_when_they_are_visible(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 1024);

	/* 86 chains of 3: the next begins in the second page of 256 descriptors. */
	for (uint16_t i = 0; i < 86; i++) {
		rk_put_good(k, 0);
		rk_pop(k);
		rk_complete(k, 0, 1);
	}
	rk_put_good(k, 0);
	rk_put_good(k, 1);
	rk_pop(k);
	rk_pop(k);
	virtq_push(&k->vq, 1, 513);
	virtq_push(&k->vq, 0, 513);
	memset(l.bits, 0, l.len);
	virtq_flush(&k->vq);
	expect_page_of(&l, RK_DESC + PAGE);
	rk_close(k);
	log_close(&l, 0);
}

static void every_used_descriptor_of_a_batch_is_marked(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 1024);

	for (uint16_t id = 0; id < 340; id++)
		rk_put_good(k, id);
	for (uint16_t id = 0; id < 340; id++)
		rk_pop(k);
	memset(l.bits, 0, l.len);
	for (uint16_t id = 0; id < 340; id++)
		virtq_push(&k->vq, id, 1);
	virtq_flush(&k->vq);
	/* 1,020 descriptors of 16 bytes: four pages. */
	expect_pages(&l, RK_DESC / PAGE, RK_DESC / PAGE + 3);
	rk_close(k);
	log_close(&l, 0);
}

static void asking_for_notifications_is_marked(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 1024);

	virtq_notify_enable(&k->vq);
	expect_page_of(&l, RK_DEVICE);
	virtq_notify_disable(&k->vq);
	expect_page_of(&l, RK_DEVICE);
	rk_close(k);
	log_close(&l, 0);
}

/* avail_event of a split ring of 1024 lies behind 8 KiB of elements. */
static void asking_for_notifications_by_index_is_marked(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, RK_EVENT_IDX, 1024);

	virtq_notify_enable(&k->vq);
	expect_page_of(&l, RK_DEVICE + (k->packed ? 0 : 4 + 8 * 1024));
	rk_close(k);
	log_close(&l, 0);
}

static void nothing_is_marked_while_nothing_is_logged(void **state)
{
	struct log_kit l;
	struct ringkit *k = open_logged(state, &l, 0, 8);

	k->vq.conf.log = NULL;
	rk_put_good(k, 0);
	rk_pop(k);
	rk_complete(k, 0, 513);
	virtq_notify_enable(&k->vq);
	expect_clean(&l);
	rk_close(k);
	log_close(&l, 0);
}

#define BOTH(f) { #f " (split)", f, NULL, NULL, (void *)&split_kind }, PACKED_AS(#f " (packed)", f)
#define SPLIT(f)                                                                                   \
	{                                                                                          \
#f, f, NULL, NULL, (void *)&split_kind                                             \
	}
#define PACKED_AS(name, f)                                                                         \
	{                                                                                          \
		name, f, NULL, NULL, (void *)&packed_kind                                          \
	}
#define PACKED(f) PACKED_AS(#f, f)

static const struct CMUnitTest tests[] = {
	SPLIT(pages_of_a_range_are_marked_and_no_others),
	SPLIT(length_0_marks_nothing),
	SPLIT(what_the_log_is_too_small_for_is_left_out),
	SPLIT(marks_add_up),
	SPLIT(offset_need_not_be_a_page),
	SPLIT(ranges_that_no_file_has_are_refused),
	SPLIT(a_descriptor_that_cannot_be_mapped_is_refused_and_closed),
	SPLIT(a_truncated_log_does_not_kill_us),
	BOTH(data_is_marked_where_the_device_wrote_it),
	SPLIT(used_elements_and_index_are_marked),
	PACKED(used_descriptors_are_marked_when_they_are_visible),
	PACKED(every_used_descriptor_of_a_batch_is_marked),
	BOTH(asking_for_notifications_is_marked),
	BOTH(asking_for_notifications_by_index_is_marked),
	BOTH(nothing_is_marked_while_nothing_is_logged),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
