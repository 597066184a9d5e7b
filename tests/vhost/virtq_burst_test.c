/*
 * Bursts of chains, both ring kinds: what is looked at is looked at again until
 * it is given back, in order, with one publication and one notification; chains
 * of every form side by side; and what a hostile driver can write.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhost/dirty.h"
#include "vhost/virtq_burst.h"

#define W VIRTQ_DESC_F_WRITE
#define NEXT VIRTQ_DESC_F_NEXT
#define INDIRECT VIRTQ_DESC_F_INDIRECT
#define BURST 64

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* A ring and a burst on it. */
struct bk {
	struct ringkit *k;
	struct virtq_burst b;
	struct virtq_buf buf[BURST];
};

static struct bk bk_open(void **state, uint32_t size, uint64_t more_features)
{
	uint64_t features = *(const uint64_t *)*state | more_features;

	return (struct bk){ .k = rk_open(features, size, rk_base(features & RK_PACKED)) };
}

static unsigned int look(struct bk *t, bool writable, unsigned int want)
{
	virtq_burst_begin(&t->k->vq, &t->b, t->buf, BURST, writable);
	return virtq_burst_look(&t->k->vq, &t->b, want);
}

static void use(struct bk *t, unsigned int nr)
{
	virtq_burst_use(&t->k->vq, &t->b, nr);
	virtq_burst_notify(&t->k->vq, &t->b);
}

/* One buffer that tells its id by its address, and tag by its length. */
static void put_one(struct bk *t, uint16_t id, uint32_t tag, uint16_t flags)
{
	const struct rk_buf buf = { RK_BUF + 64ull * id, 1 + tag, flags };

	rk_put(t->k, id, &buf, 1);
}

static void expect_one(const struct bk *t, unsigned int at, uint16_t id, uint32_t tag)
{
	const struct virtq_buf *buf = &t->buf[at];

	assert_int_equal(buf->error, 0);
	assert_int_equal(buf->id, id);
	assert_int_equal(buf->nr_desc, 1);
	assert_int_equal(buf->nr_iov, 1);
	assert_int_equal(buf->len, 1 + tag);
	assert_int_equal(buf->written, 0);
	assert_ptr_equal(buf->iov[0].iov_base, rk_mem(t->k, RK_BUF + 64ull * id));
	assert_int_equal(buf->iov[0].iov_len, 1 + tag);
}

static void expect_used(struct bk *t, uint16_t id, uint32_t len)
{
	uint32_t got_len = UINT32_MAX;
	uint16_t got = UINT16_MAX;

	assert_true(rk_get(t->k, &got, &got_len));
	assert_int_equal(got, id);
	assert_int_equal(got_len, len);
}

static void expect_nothing_used(struct bk *t)
{
	uint32_t len;
	uint16_t id;

	assert_false(rk_get(t->k, &id, &len));
}

/* --- looking and giving back ---------------------------------------------------- */

static void an_empty_ring_has_nothing_to_look_at(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	assert_int_equal(look(&t, false, BURST), 0);
	use(&t, 0);
	expect_nothing_used(&t);
	assert_int_equal(rk_drain(t.k->call_fd), 0);
	rk_close(t.k);
}

static void a_burst_is_given_back_at_once_and_in_order(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	for (uint16_t i = 0; i < 6; i++)
		put_one(&t, (uint16_t)(5 - i), i, 0);
	assert_int_equal(look(&t, false, BURST), 6);
	expect_nothing_used(&t);
	for (uint16_t i = 0; i < 6; i++)
		expect_one(&t, i, (uint16_t)(5 - i), i);
	use(&t, 6);
	for (uint16_t i = 0; i < 6; i++)
		expect_used(&t, (uint16_t)(5 - i), 0);
	expect_nothing_used(&t);
	assert_int_equal(counter_read(&t.k->vq.stats.chains), 6);
	assert_int_equal(virtq_inflight(&t.k->vq), 0);
	assert_false(virtq_has_work(&t.k->vq));
	rk_close(t.k);
}

static void what_is_not_given_back_is_looked_at_again(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	for (uint16_t i = 0; i < 5; i++)
		put_one(&t, i, i, 0);
	assert_int_equal(look(&t, false, 4), 4);
	assert_true(virtq_has_work(&t.k->vq));
	assert_int_equal(look(&t, false, BURST), 5);
	use(&t, 2);
	expect_used(&t, 0, 0);
	expect_used(&t, 1, 0);
	expect_nothing_used(&t);
	assert_int_equal(look(&t, false, BURST), 3);
	expect_one(&t, 0, 2, 2);
	expect_one(&t, 2, 4, 4);
	use(&t, 3);
	for (uint16_t i = 2; i < 5; i++)
		expect_used(&t, i, 0);
	rk_close(t.k);
}

static void a_burst_may_look_further_and_go_on_after_giving_back(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	put_one(&t, 0, 0, W);
	put_one(&t, 1, 1, W);
	assert_int_equal(look(&t, true, 1), 1);
	assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 1), 1);
	assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 5), 2);
	put_one(&t, 2, 2, W);
	assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 5), 3);
	for (uint16_t i = 0; i < 3; i++)
		expect_one(&t, i, i, i);
	t.buf[0].written = 1;
	virtq_burst_use(&t.k->vq, &t.b, 1);
	assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 5), 2);
	expect_one(&t, 0, 1, 1);
	expect_one(&t, 1, 2, 2);
	t.buf[0].written = 2;
	t.buf[1].written = 0;
	use(&t, 2);
	expect_used(&t, 0, 1);
	expect_used(&t, 1, 2);
	expect_used(&t, 2, 0);
	rk_close(t.k);
}

/* Bursts of changing length through a ring that is kept full, many times round. */
static void run_rounds(void **state, uint32_t size, uint64_t more_features, bool writable)
{
	struct bk t = bk_open(state, size, more_features);
	uint32_t put = 0, got = 0, used = 0;

	while (used < 70000) {
		unsigned int nr, want = 1 + used % 13;

		while (put - used < size) {
			put_one(&t, (uint16_t)(put % size), put % 500, writable ? W : 0);
			put++;
		}
		nr = look(&t, writable, want);
		assert_int_equal(nr, want < size ? want : size);
		for (unsigned int i = 0; i < nr; i++, got++) {
			expect_one(&t, i, (uint16_t)(got % size), got % 500);
			t.buf[i].written = writable ? got % 500 : 0;
		}
		use(&t, nr);
		for (; used < got; used++)
			expect_used(&t, (uint16_t)(used % size), writable ? used % 500 : 0);
		expect_nothing_used(&t);
	}
	rk_close(t.k);
}

static void indices_wrap_many_times(void **state)
{
	run_rounds(state, 8, 0, false);
	run_rounds(state, 16, RK_EVENT_IDX, true);
	run_rounds(state, 1, 0, false);
	run_rounds(state, 4, RK_IN_ORDER, true);
	if (*(const uint64_t *)*state & RK_PACKED) {
		run_rounds(state, 7, 0, true);
		run_rounds(state, 3, 0, false);
	}
}

static void bursts_and_pops_may_take_turns(void **state)
{
	struct bk t = bk_open(state, 8, RK_IN_ORDER);
	struct virtq_chain c;

	for (unsigned int round = 0; round < 40; round++) {
		uint16_t id = (uint16_t)(round * 2 % 8);

		put_one(&t, id, round, 0);
		put_one(&t, id + 1, round, 0);
		assert_int_equal(look(&t, false, 1), 1);
		expect_one(&t, 0, id, round);
		use(&t, 1);
		expect_used(&t, id, 0);
		c = rk_pop(t.k);
		assert_int_equal(c.id, id + 1);
		rk_complete(t.k, c.id, 0);
	}
	rk_close(t.k);
}

/* The driver's half of IN_ORDER: one used entry for the burst, where its first
 * one would be. VIRTIO 1.3, "In-order use of descriptors". */
static void in_order_one_used_entry_tells_of_all_readable_chains(void **state)
{
	struct bk t = bk_open(state, 8, RK_IN_ORDER);
	struct ringkit *k = t.k;

	for (unsigned int round = 0; round < 30; round++) {
		uint16_t first = (uint16_t)(round * 5 % 8);
		uint16_t flags;

		for (uint16_t i = 0; i < 5; i++)
			put_one(&t, (first + i) % 8, i, 0);
		assert_int_equal(look(&t, false, BURST), 5);
		use(&t, 5);
		if (!k->packed) {
			const struct virtq_used_elem *e = &k->used->ring[k->used_idx % 8];

			assert_int_equal((uint16_t)(le16_to_cpu(k->used->idx) - k->used_idx), 5);
			assert_int_equal(le32_to_cpu(e->id), (first + 4) % 8);
			k->used_idx += 5;
			continue;
		}
		flags = le16_to_cpu(k->pdesc[first].flags);
		assert_int_equal(!!(flags & VIRTQ_DESC_F_USED), k->used_wrap);
		assert_int_equal(!!(flags & VIRTQ_DESC_F_AVAIL), k->used_wrap);
		assert_int_equal(le16_to_cpu(k->pdesc[first].id), (first + 4) % 8);
		/* The others still look as the driver left them. */
		flags = le16_to_cpu(k->pdesc[(first + 1) % 8].flags);
		assert_true(!(flags & VIRTQ_DESC_F_AVAIL) != !(flags & VIRTQ_DESC_F_USED));
		k->used_idx = (first + 5) % 8;
		k->used_wrap ^= first + 5 >= 8;
	}
	rk_close(k);
}

/* --- chains of every form --------------------------------------------------------- */

static void chains_of_every_form_come_in_order(void **state)
{
	const struct rk_buf several[] = { { RK_BUF, 12, 0 }, { RK_BUF + 64, 100, 0 } };
	const struct rk_buf table[] = { { RK_BUF, 1, 0 }, { RK_BUF + 8, 2, 0 }, { RK_BUF, 4, 0 } };
	const struct rk_buf crossing = { RK_NEXT - 10, 30, 0 };
	struct bk t = bk_open(state, 16, 0);

	put_one(&t, 0, 0, 0);
	rk_put(t.k, 1, several, 2);
	rk_put_indirect(t.k, 3, RK_TABLE, table, 3);
	rk_put(t.k, 4, &crossing, 1);
	put_one(&t, 5, 5, 0);
	assert_int_equal(look(&t, false, BURST), 5);
	expect_one(&t, 0, 0, 0);
	assert_int_equal(t.buf[1].nr_iov, 2);
	assert_int_equal(t.buf[1].len, 112);
	assert_int_equal(t.buf[1].iov[1].iov_len, 100);
	assert_int_equal(t.buf[2].nr_iov, 3);
	assert_int_equal(t.buf[2].len, 7);
	assert_ptr_equal(t.buf[2].iov[1].iov_base, rk_mem(t.k, RK_BUF + 8));
	assert_int_equal(t.buf[3].nr_iov, 2);
	assert_ptr_equal(t.buf[3].iov[0].iov_base, rk_mem(t.k, RK_NEXT - 10));
	assert_int_equal(t.buf[3].iov[0].iov_len, 10);
	assert_ptr_equal(t.buf[3].iov[1].iov_base, rk_mem(t.k, RK_NEXT));
	expect_one(&t, 4, 5, 5);
	use(&t, 5);
	expect_used(&t, 0, 0);
	expect_used(&t, 1, 0);
	expect_used(&t, 3, 0);
	expect_used(&t, 4, 0);
	expect_used(&t, 5, 0);
	rk_close(t.k);
}

static void only_the_wanted_direction_of_a_chain_is_shown(void **state)
{
	const struct rk_buf both[] = { { RK_BUF, 16, 0 },
				       { RK_BUF + 64, 512, W },
				       { RK_BUF, 10, W } };
	struct bk t = bk_open(state, 16, 0);

	rk_put(t.k, 0, both, 3);
	put_one(&t, 3, 7, W);
	assert_int_equal(look(&t, false, BURST), 2);
	assert_int_equal(t.buf[0].nr_iov, 1);
	assert_int_equal(t.buf[0].len, 16);
	assert_ptr_equal(t.buf[0].iov[0].iov_base, rk_mem(t.k, RK_BUF));
	/* A buffer of the other kind is a chain without any. */
	assert_int_equal(t.buf[1].error, 0);
	assert_int_equal(t.buf[1].nr_iov, 0);
	assert_int_equal(t.buf[1].len, 0);
	assert_int_equal(look(&t, true, BURST), 2);
	assert_int_equal(t.buf[0].nr_iov, 2);
	assert_int_equal(t.buf[0].len, 522);
	assert_ptr_equal(t.buf[0].iov[0].iov_base, rk_mem(t.k, RK_BUF + 64));
	expect_one(&t, 1, 3, 7);
	t.buf[0].written = 3;
	t.buf[1].written = 8;
	use(&t, 2);
	expect_used(&t, 0, 3);
	expect_used(&t, 3, 8);
	rk_close(t.k);
}

static void chains_of_many_buffers_fill_a_burst_and_the_next_goes_on(void **state)
{
	struct bk t = bk_open(state, 16, 0);
	struct rk_buf table[512];
	unsigned int total = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++)
		table[i] = (struct rk_buf){ RK_BUF + i, 1, 0 };
	for (uint16_t id = 0; id < 8; id++)
		rk_put_indirect(t.k, id, RK_TABLE, table, ARRAY_SIZE(table));
	while (total < 8) {
		unsigned int nr = look(&t, false, BURST);

		assert_true(nr >= 2 && nr < 8);
		for (unsigned int i = 0; i < nr; i++, total++) {
			assert_int_equal(t.buf[i].id, total);
			assert_int_equal(t.buf[i].len, ARRAY_SIZE(table));
			assert_int_equal(t.buf[i].nr_iov, ARRAY_SIZE(table));
			for (unsigned int j = 0; j < ARRAY_SIZE(table); j++)
				assert_ptr_equal(t.buf[i].iov[j].iov_base, rk_mem(t.k, RK_BUF + j));
		}
		use(&t, nr);
	}
	for (uint16_t id = 0; id < 8; id++)
		expect_used(&t, id, 0);
	rk_close(t.k);
}

static void packed_chains_of_several_entries_wrap_with_their_burst(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 1, 0 }, { RK_BUF, 2, 0 }, { RK_BUF, 3, 0 } };
	struct bk t = bk_open(state, 11, 0);

	for (unsigned int i = 0; i < 300; i++) {
		unsigned int nr = 1 + i % 3;

		rk_put(t.k, 0, bufs, nr);
		rk_put(t.k, 1, bufs, 3);
		put_one(&t, 2, i, 0);
		assert_int_equal(look(&t, false, BURST), 3);
		assert_int_equal(t.buf[0].nr_desc, nr);
		assert_int_equal(t.buf[1].nr_desc, 3);
		expect_one(&t, 2, 2, i);
		use(&t, 3);
		expect_used(&t, 0, 0);
		expect_used(&t, 1, 0);
		expect_used(&t, 2, 0);
	}
	rk_close(t.k);
}

/* --- notifications ------------------------------------------------------------------ */

static void a_burst_is_notified_once_whatever_it_gave_back(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	for (uint16_t i = 0; i < 4; i++)
		put_one(&t, i, 0, 0);
	assert_int_equal(look(&t, false, 2), 2);
	virtq_burst_use(&t.k->vq, &t.b, 2);
	assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 2), 2);
	virtq_burst_use(&t.k->vq, &t.b, 2);
	assert_int_equal(rk_drain(t.k->call_fd), 0);
	virtq_burst_notify(&t.k->vq, &t.b);
	assert_int_equal(rk_drain(t.k->call_fd), 1);
	virtq_burst_notify(&t.k->vq, &t.b);
	assert_int_equal(rk_drain(t.k->call_fd), 0);
	rk_close(t.k);
}

/* The driver wants to hear of the nth used entry from now on. */
static void want_event(struct ringkit *k, uint16_t nth)
{
	uint16_t at = k->used_idx + nth;
	bool wrap = k->used_wrap;

	if (!k->packed) {
		k->avail->ring[k->size] = cpu_to_le16(at);
		return;
	}
	if (at >= k->size) {
		at -= (uint16_t)k->size;
		wrap = !wrap;
	}
	k->driver_event->desc = cpu_to_le16(at | (wrap ? PVIRTQ_EVENT_WRAP : 0));
	k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
}

static void event_idx_is_looked_for_in_all_of_the_burst(void **state)
{
	struct bk t = bk_open(state, 8, RK_EVENT_IDX);

	for (unsigned int round = 0; round < 60; round++) {
		uint16_t nth = round % 6;

		want_event(t.k, nth);
		for (uint16_t i = 0; i < 4; i++)
			put_one(&t, i, 0, 0);
		/* Given back in two parts: passed by either of them. */
		assert_int_equal(look(&t, false, 4), 4);
		virtq_burst_use(&t.k->vq, &t.b, 1);
		assert_int_equal(virtq_burst_look(&t.k->vq, &t.b, 4), 3);
		use(&t, 3);
		assert_int_equal(rk_drain(t.k->call_fd), nth < 4);
		for (uint16_t i = 0; i < 4; i++)
			expect_used(&t, i, 0);
	}
	rk_close(t.k);
}

static void a_driver_that_polls_is_not_notified(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	if (t.k->packed)
		t.k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DISABLE);
	else
		t.k->avail->flags = cpu_to_le16(VIRTQ_AVAIL_F_NO_INTERRUPT);
	put_one(&t, 0, 0, 0);
	assert_int_equal(look(&t, false, BURST), 1);
	use(&t, 1);
	assert_int_equal(rk_drain(t.k->call_fd), 0);
	rk_close(t.k);
}

/* --- dirty log ------------------------------------------------------------------------ */

static void the_used_ring_is_logged(void **state)
{
	const uint64_t len = RK_HOLE / 4096 / 8 + 8;
	struct bk t = bk_open(state, 1024, 0);
	int fd = rk_memfd(len);
	struct dirty_log *log = NULL;
	uint8_t *bits = calloc(1, len);

	assert_int_equal(dirty_log_create(dup(fd), len, 0, &log), 0);
	t.k->vq.conf.log = log;
	/* Until the used ring (split) or the descriptors (packed) begin a new page. */
	for (unsigned int i = 0; i < 600; i += 6) {
		for (uint16_t j = 0; j < 6; j++)
			put_one(&t, (uint16_t)(i + j), 0, W);
		assert_int_equal(look(&t, true, BURST), 6);
		for (unsigned int j = 0; j < 6; j++)
			t.buf[j].written = 1;
		use(&t, 6);
	}
	assert_int_equal(pread(fd, bits, len, 0), len);
	for (uint64_t page = 0; page < len * 8; page++) {
		uint64_t first = (t.k->packed ? RK_DESC : RK_DEVICE) / 4096;
		uint64_t last = first + (t.k->packed ? 600 * 16 : 4 + 600 * 8) / 4096;

		assert_int_equal(bits[page / 8] >> page % 8 & 1, page >= first && page <= last);
	}
	t.k->vq.conf.log = NULL;
	dirty_log_destroy(log);
	close(fd);
	free(bits);
	rk_close(t.k);
}

/* --- rings that are not to be popped ---------------------------------------------------- */

static void only_a_started_enabled_whole_ring_is_looked_at(void **state)
{
	struct bk t = bk_open(state, 8, 0);

	put_one(&t, 0, 0, 0);
	t.k->vq.conf.enabled = false;
	assert_int_equal(look(&t, false, BURST), 0);
	t.k->vq.conf.enabled = true;
	assert_int_equal(look(&t, false, BURST), 1);
	use(&t, 0);
	virtq_set_state(&t.k->vq, VIRTQ_DRAINING);
	assert_int_equal(look(&t, false, BURST), 0);
	virtq_set_state(&t.k->vq, VIRTQ_STOPPED);
	assert_int_equal(look(&t, false, BURST), 0);
	virtq_set_state(&t.k->vq, VIRTQ_STARTED);
	assert_int_equal(look(&t, false, BURST), 1);
	use(&t, 0);
	t.k->faulted = true;
	assert_int_equal(look(&t, false, BURST), 0);
	assert_true(t.k->vq.broken);
	rk_close(t.k);
}

/* --- a hostile driver ---------------------------------------------------------------------- */

/* A good chain, this one, and another good one: it is an error with len bytes in
 * the wanted direction, and the others are served. */
static void expect_bad(struct bk *t, const struct rk_buf *bufs, unsigned int nr, bool writable,
		       uint32_t len)
{
	put_one(t, 0, 0, writable ? W : 0);
	rk_put(t->k, 1, bufs, nr);
	put_one(t, 7, 7, writable ? W : 0);
	assert_int_equal(look(t, writable, BURST), 3);
	expect_one(t, 0, 0, 0);
	assert_int_equal(t->buf[1].error, -EINVAL);
	assert_int_equal(t->buf[1].id, 1);
	assert_int_equal(t->buf[1].len, len);
	expect_one(t, 2, 7, 7);
	use(t, 3);
	expect_used(t, 0, 0);
	expect_used(t, 1, 0);
	expect_used(t, 7, 0);
	assert_int_equal(counter_read(&t->k->vq.stats.bad_chains), 1);
	assert_false(t->k->vq.broken);
	rk_close(t->k);
}

static void a_malformed_chain_is_an_error_and_is_given_back(void **state)
{
	static const struct {
		struct rk_buf bufs[3];
		unsigned int nr;
		bool writable;
		uint32_t len;
	} cases[] = {
		{ { { RK_BUF, 0, 0 } }, 1, false, 0 },
		{ { { RK_BUF, 0, W } }, 1, true, 0 },
		{ { { RK_HOLE, 0, W } }, 1, true, 0 },
		{ { { RK_HOLE, 100, 0 } }, 1, false, 0 },
		{ { { RK_HOLE, 100, W } }, 1, true, 0 },
		{ { { 0, 1, 0 } }, 1, false, 0 },
		{ { { UINT64_MAX - 7, 16, 0 } }, 1, false, 0 },
		{ { { UINT64_MAX, 1, W } }, 1, true, 0 },
		{ { { RK_BUF, UINT32_MAX, W } }, 1, true, 0 },
		{ { { RK_RAM - 8, 16, 0 } }, 1, false, 0 },
		{ { { RK_HOLE - 8, 16, 0 } }, 1, false, 8 },
		{ { { RK_BUF, 12, 0 }, { RK_HOLE, 60, 0 } }, 2, false, 12 },
		{ { { RK_BUF, 12, W }, { RK_HOLE, 60, W } }, 2, true, 0 },
		{ { { RK_BUF, 12, W }, { RK_BUF, 60, 0 } }, 2, true, 12 },
		{ { { RK_BUF, 16, INDIRECT } }, 1, false, 0 }, /* a table of zeroes */
		{ { { RK_TABLE, 0, INDIRECT } }, 1, false, 0 },
		{ { { RK_TABLE, 17, INDIRECT } }, 1, false, 0 },
		{ { { RK_HOLE, 16, INDIRECT } }, 1, false, 0 },
		{ { { RK_TABLE, 16, INDIRECT }, { RK_BUF, 60, 0 } }, 2, false, 0 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bk t = bk_open(state, 16, 0);
		uint32_t len = cases[i].len;

		/* Packed goes on behind it, as the ring says where the chain ends. */
		if (t.k->packed && cases[i].bufs[0].flags & INDIRECT && cases[i].nr == 2)
			len = 60;
		expect_bad(&t, cases[i].bufs, cases[i].nr, cases[i].writable, len);
	}
}

/* What comes before the broken place is still served; then nothing is. */
static void expect_broken(struct bk *t, unsigned int nr_before)
{
	assert_int_equal(look(t, false, BURST), nr_before);
	assert_true(t->k->vq.broken);
	assert_int_equal(rk_drain(t->k->err_fd), 1);
	use(t, nr_before);
	for (uint16_t i = 0; i < nr_before; i++)
		expect_used(t, i, 0);
	put_one(t, 5, 0, 0);
	assert_int_equal(look(t, false, BURST), 0);
	assert_int_equal(rk_drain(t->k->err_fd), 0);
	rk_close(t->k);
}

static void an_id_outside_of_the_ring_breaks_it(void **state)
{
	static const uint16_t ids[] = { 16, 17, 0x8000, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++) {
		struct bk t = bk_open(state, 16, 0);

		put_one(&t, 0, 0, 0);
		put_one(&t, 1, 0, 0);
		put_one(&t, 2, 0, 0);
		if (t.k->packed)
			t.k->pdesc[2].id = cpu_to_le16(ids[i]);
		else
			t.k->avail->ring[2] = cpu_to_le16(ids[i]);
		expect_broken(&t, 2);
	}
}

static void split_an_available_index_that_jumps_breaks_the_ring(void **state)
{
	struct bk t = bk_open(state, 16, 0);

	put_one(&t, 0, 0, 0);
	t.k->avail->idx = cpu_to_le16(17);
	expect_broken(&t, 0);
}

static void split_a_loop_of_descriptors_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 12, 0 }, { RK_BUF, 12, 0 } };
	struct bk t = bk_open(state, 16, 0);

	rk_put(t.k, 1, bufs, 2);
	t.k->desc[2].flags = cpu_to_le16(NEXT);
	t.k->desc[2].next = cpu_to_le16(1);
	put_one(&t, 4, 4, 0);
	assert_int_equal(look(&t, false, BURST), 2);
	assert_int_equal(t.buf[0].error, -EINVAL);
	expect_one(&t, 1, 4, 4);
	use(&t, 2);
	expect_used(&t, 1, 0);
	expect_used(&t, 4, 0);
	rk_close(t.k);
}

static void packed_a_chain_without_an_end_breaks_the_ring(void **state)
{
	struct bk t = bk_open(state, 16, 0);

	put_one(&t, 0, 0, 0);
	for (uint16_t i = 1; i < 16; i++)
		put_one(&t, i, 0, NEXT);
	t.k->pdesc[0].flags = cpu_to_le16(VIRTQ_DESC_F_AVAIL | NEXT);
	expect_broken(&t, 0);
}

static void a_chain_made_available_twice_is_given_back_twice(void **state)
{
	struct bk t = bk_open(state, 16, 0);

	put_one(&t, 3, 3, 0);
	put_one(&t, 3, 3, 0);
	put_one(&t, 4, 4, 0);
	assert_int_equal(look(&t, false, BURST), 3);
	use(&t, 3);
	expect_used(&t, 3, 0);
	expect_used(&t, 3, 0);
	expect_used(&t, 4, 0);
	expect_nothing_used(&t);
	rk_close(t.k);
}

#define BOTH(f)                                                                                    \
	{ #f " (split)", f, NULL, NULL, (void *)&split_kind },                                     \
	{                                                                                          \
#f " (packed)", f, NULL, NULL, (void *)&packed_kind                                \
	}
#define ONE(f, kind)                                                                               \
	{                                                                                          \
#f, f, NULL, NULL, (void *)&kind                                                   \
	}

static const struct CMUnitTest tests[] = {
	BOTH(an_empty_ring_has_nothing_to_look_at),
	BOTH(a_burst_is_given_back_at_once_and_in_order),
	BOTH(what_is_not_given_back_is_looked_at_again),
	BOTH(a_burst_may_look_further_and_go_on_after_giving_back),
	BOTH(indices_wrap_many_times),
	BOTH(bursts_and_pops_may_take_turns),
	BOTH(in_order_one_used_entry_tells_of_all_readable_chains),
	BOTH(chains_of_every_form_come_in_order),
	BOTH(only_the_wanted_direction_of_a_chain_is_shown),
	BOTH(chains_of_many_buffers_fill_a_burst_and_the_next_goes_on),
	ONE(packed_chains_of_several_entries_wrap_with_their_burst, packed_kind),
	BOTH(a_burst_is_notified_once_whatever_it_gave_back),
	BOTH(event_idx_is_looked_for_in_all_of_the_burst),
	BOTH(a_driver_that_polls_is_not_notified),
	BOTH(the_used_ring_is_logged),
	BOTH(only_a_started_enabled_whole_ring_is_looked_at),
	BOTH(a_malformed_chain_is_an_error_and_is_given_back),
	BOTH(an_id_outside_of_the_ring_breaks_it),
	ONE(split_an_available_index_that_jumps_breaks_the_ring, split_kind),
	ONE(split_a_loop_of_descriptors_is_an_error, split_kind),
	ONE(packed_a_chain_without_an_end_breaks_the_ring, packed_kind),
	BOTH(a_chain_made_available_twice_is_given_back_twice),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
