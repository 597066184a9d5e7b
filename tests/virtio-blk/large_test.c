/*
 * Transfers larger than drivers send: whole, right, and not in the way of others.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define LEN (24u << 20)
#define NR_IOV 8

struct large {
	struct rig_req q;
	uint8_t *buf;
};

/* In nr elements, not all the same. */
static void begin(struct rig *r, struct large *l, enum store_op op, uint64_t offset, uint32_t nr)
{
	uint8_t *at = l->buf;

	l->q.io = (struct store_req){
		.op = (uint8_t)op, .offset = offset, .len = LEN, .nr_iov = nr, .iov = l->q.iov
	};
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t len =
			i == nr - 1 ? LEN - (uint64_t)(at - l->buf) : LEN / nr / 2 + i * 4096;

		l->q.iov[i] = (struct iovec){ at, len };
		at += len;
	}
	rig_start(r, &l->q);
}

static void end(struct rig *r, struct large *l)
{
	while (!l->q.ended)
		rig_turn(r);
	assert_int_equal(l->q.res, 0);
}

static void open_file(struct rig *r, const char *dir)
{
	rig_init(r);
	rig_file(r, dir, 2 * LEN + 4096);
	rig_open(r);
}

static void they_are_whole(void **state)
{
	static const char *const dirs[] = { RIG_TMPFS, RIG_DISK };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct large a = { .buf = rig_pattern(LEN, 1) }, b = { .buf = rig_pattern(LEN, 2) };
		uint8_t *expected[2] = { rig_pattern(LEN, 1), rig_pattern(LEN, 2) };
		struct rig r;

		open_file(&r, dirs[i]);
		begin(&r, &a, STORE_WRITE, 0, 1);
		begin(&r, &b, STORE_WRITE, LEN, NR_IOV);
		end(&r, &a);
		end(&r, &b);
		memset(a.buf, 0, LEN);
		memset(b.buf, 0, LEN);
		begin(&r, &a, STORE_READ, 0, NR_IOV);
		begin(&r, &b, STORE_READ, LEN, 1);
		end(&r, &b);
		end(&r, &a);
		assert_memory_equal(a.buf, expected[0], LEN);
		assert_memory_equal(b.buf, expected[1], LEN);
		rig_fini(&r);
		free(a.buf);
		free(b.buf);
		free(expected[0]);
		free(expected[1]);
	}
}

/* From memory, where the kernel copies before it returns. */
static void others_do_not_wait_for_them(void **state)
{
	struct large l[3] = { { .buf = rig_pattern(LEN, 1) },
			      { .buf = rig_pattern(LEN, 2) },
			      { .buf = rig_pattern(LEN, 3) } };
	struct rig_req small = { .io = { .op = STORE_READ, .len = 4096, .nr_iov = 1 } };
	uint8_t *buf = rig_pattern(4096, 4);
	struct rig r;

	open_file(&r, RIG_TMPFS);
	small.io.iov = small.iov;
	small.iov[0] = (struct iovec){ buf, 4096 };
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(l); i++)
			begin(&r, &l[i], STORE_READ, 0, round == 2 ? NR_IOV : 1);
		rig_start(&r, &small);
		while (!small.ended)
			rig_turn(&r);
		assert_int_equal(small.res, 0);
		for (size_t i = 0; i < ARRAY_SIZE(l); i++)
			assert_false(l[i].q.ended);
		for (size_t i = 0; i < ARRAY_SIZE(l); i++)
			end(&r, &l[i]);
	}
	rig_fini(&r);
	free(buf);
	for (size_t i = 0; i < ARRAY_SIZE(l); i++)
		free(l[i].buf);
}

static void their_errors_are_theirs(void **state)
{
	struct large a = { .buf = rig_pattern(LEN, 1) }, b = { .buf = rig_pattern(LEN, 2) };
	struct rig r;

	open_file(&r, RIG_TMPFS);
	/* Longer than the file. */
	begin(&r, &a, STORE_READ, LEN + 8192, 1);
	begin(&r, &b, STORE_READ, 0, NR_IOV);
	while (!a.q.ended)
		rig_turn(&r);
	assert_int_equal(a.q.res, -EIO);
	end(&r, &b);
	rig_fini(&r);
	free(a.buf);
	free(b.buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_are_whole),
		cmocka_unit_test(others_do_not_wait_for_them),
		cmocka_unit_test(their_errors_are_theirs),
	};

	return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
