/*
 * virtq.c, virtq_split.c and virtq_packed.c serving a driver that behaves:
 * sizes, wrap-around, order, rewind, and positions across stop and start.
 * Hostile drivers: virtq_hostile_test.c. Notifications: virtq_notify_test.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <stdlib.h>

#define W VIRTQ_DESC_F_WRITE

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

static bool is_packed(void **state)
{
	return *(const uint64_t *)*state & RK_PACKED;
}

static struct ringkit *open_with(void **state, uint32_t size, uint64_t more_features)
{
	return rk_open(*(const uint64_t *)*state | more_features, size, rk_base(is_packed(state)));
}

/* A chain of nr descriptors whose lengths tell which chain it is. */
static void put_tagged(struct ringkit *k, uint16_t id, unsigned int nr, uint32_t tag)
{
	struct rk_buf bufs[8];

	assert_true(nr && nr <= ARRAY_SIZE(bufs));
	for (unsigned int i = 0; i < nr; i++)
		bufs[i] = (struct rk_buf){ RK_BUF + 64 * i, 1 + tag % 1000, i ? W : 0 };
	rk_put(k, id, bufs, nr);
}

static void pop_tagged(struct ringkit *k, uint16_t id, unsigned int nr, uint32_t tag)
{
	struct virtq_chain c = rk_pop(k);

	assert_int_equal(c.error, 0);
	assert_int_equal(c.id, id);
	assert_int_equal(c.out_cnt, 1);
	assert_int_equal(c.in_cnt, nr - 1);
	assert_int_equal(c.out_len, 1 + tag % 1000);
}

static void expect_used(struct ringkit *k, uint16_t id, uint32_t len)
{
	uint16_t got_id = UINT16_MAX;
	uint32_t got_len = 0;

	assert_true(rk_get(k, &got_id, &got_len));
	assert_int_equal(got_id, id);
	assert_int_equal(got_len, len);
}

static void expect_nothing_used(struct ringkit *k)
{
	uint16_t id;
	uint32_t len;

	assert_false(rk_get(k, &id, &len));
}

/* Stop the ring, take its base, and go on with a new struct virtq. */
static void restart(struct ringkit *k, uint64_t features, uint32_t base_expected)
{
	struct virtq_conf conf;
	uint32_t base;

	virtq_set_state(&k->vq, VIRTQ_DRAINING);
	virtq_set_state(&k->vq, VIRTQ_STOPPED);
	base = virtq_base(&k->vq);
	assert_int_equal(base, base_expected);
	virtq_fini(&k->vq);
	conf = rk_conf(k, features, k->size, base);
	assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
	virtq_set_state(&k->vq, VIRTQ_STARTED);
}

/* --- sizes and wrap-around ------------------------------------------------------ */

static void split_sizes_are_powers_of_two_up_to_1024(void **state)
{
	for (uint32_t size = 0; size < 5000; size++) {
		bool good = size && !(size & (size - 1)) && size <= 1024;

		assert_int_equal(virtq_size_check(false, size), good ? 0 : -EINVAL);
	}
	assert_int_equal(virtq_size_check(false, 1u << 16), -EINVAL);
	assert_int_equal(virtq_size_check(false, 1u << 31), -EINVAL);
	assert_int_equal(virtq_size_check(false, UINT32_MAX), -EINVAL);
}

static void packed_sizes_are_any_up_to_32768(void **state)
{
	assert_int_equal(virtq_size_check(true, 0), -EINVAL);
	assert_int_equal(virtq_size_check(true, 1), 0);
	assert_int_equal(virtq_size_check(true, 3), 0);
	assert_int_equal(virtq_size_check(true, 1000), 0);
	assert_int_equal(virtq_size_check(true, 32768), 0);
	assert_int_equal(virtq_size_check(true, 32769), -EINVAL);
	assert_int_equal(virtq_size_check(true, 65536 + 16), -EINVAL);
}

/* VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues": tables of sizes. The
 * event fields are laid out whether negotiated or not. */
static void area_lengths_are_those_of_the_specification(void **state)
{
	assert_int_equal(virtq_desc_len(false, 256), 4096);
	assert_int_equal(virtq_driver_len(false, 256), 6 + 2 * 256);
	assert_int_equal(virtq_device_len(false, 256), 6 + 8 * 256);
	assert_int_equal(virtq_desc_len(true, 32768), 524288);
	assert_int_equal(virtq_driver_len(true, 32768), 4);
	assert_int_equal(virtq_device_len(true, 32768), 4);
}

static void a_size_the_kind_cannot_have_is_refused(void **state)
{
	struct ringkit *k = rk_open_memory();
	struct virtq_conf conf = rk_conf(k, *(const uint64_t *)*state, 0, 0);

	assert_int_equal(virtq_init(&k->vq, &conf, -1), -EINVAL);
	conf.size = 65536;
	assert_int_equal(virtq_init(&k->vq, &conf, -1), -EINVAL);
	assert_null(k->vq.slot);
	rk_close(k);
}

static void packed_base_outside_of_the_ring_is_refused(void **state)
{
	static const uint32_t bases[] = { 0x80008010, 0x80108000, 0xffffffff, 0x00000010 };
	struct ringkit *k = rk_open_memory();

	for (unsigned int i = 0; i < ARRAY_SIZE(bases); i++) {
		struct virtq_conf conf = rk_conf(k, packed_kind, 16, bases[i]);

		assert_int_equal(virtq_init(&k->vq, &conf, -1), -EINVAL);
	}
	rk_close(k);
}

/* Fill the ring with chains of one descriptor, and empty it, many times. */
static void run_full_batches(void **state, uint32_t size, unsigned int rounds)
{
	struct ringkit *k = open_with(state, size, 0);

	for (unsigned int round = 0; round < rounds; round++) {
		for (uint32_t i = 0; i < size; i++)
			put_tagged(k, (uint16_t)i, 1, round + i);
		for (uint32_t i = 0; i < size; i++)
			pop_tagged(k, (uint16_t)i, 1, round + i);
		rk_pop_none(k);
		assert_int_equal(virtq_inflight(&k->vq), size);
		for (uint32_t i = size; i-- > 0;)
			virtq_push(&k->vq, (uint16_t)i, i);
		expect_nothing_used(k);
		virtq_flush(&k->vq);
		for (uint32_t i = size; i-- > 0;)
			expect_used(k, (uint16_t)i, i);
		expect_nothing_used(k);
	}
	assert_int_equal(counter_read(&k->vq.stats.chains), (uint64_t)rounds * size);
	assert_int_equal(counter_read(&k->vq.stats.bad_chains), 0);
	rk_close(k);
}

static void every_size_is_filled_and_emptied(void **state)
{
	static const uint32_t split_sizes[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024 };
	static const uint32_t packed_sizes[] = { 1,    2,    3,	    4,	   5,	 7,    8,
						 11,   16,   255,   256,   257,	 1000, 1024,
						 1025, 4096, 10007, 32767, 32768 };
	const uint32_t *sizes = is_packed(state) ? packed_sizes : split_sizes;
	size_t nr = is_packed(state) ? ARRAY_SIZE(packed_sizes) : ARRAY_SIZE(split_sizes);

	for (size_t i = 0; i < nr; i++)
		run_full_batches(state, sizes[i], 5);
}

static void indices_wrap_many_times(void **state)
{
	/* Past 65,536 twice, where the split indices wrap. */
	run_full_batches(state, is_packed(state) ? 7 : 8, 140000 / 7);
}

/* Chains of one to three descriptors, completed newest first. */
static void chains_of_mixed_lengths_wrap_many_times(void **state)
{
	struct ringkit *k = open_with(state, is_packed(state) ? 13 : 16, 0);

	for (uint32_t round = 0; round < 5000; round++) {
		unsigned int nr[4];

		for (unsigned int i = 0; i < 4; i++) {
			nr[i] = 1 + (round + i * i) % 3;
			put_tagged(k, (uint16_t)(3 * i), nr[i], round + i);
		}
		for (unsigned int i = 0; i < 4; i++)
			pop_tagged(k, (uint16_t)(3 * i), nr[i], round + i);
		for (unsigned int i = 4; i-- > 0;)
			virtq_push(&k->vq, (uint16_t)(3 * i), round % 2 ? i : 0);
		virtq_flush(&k->vq);
		for (unsigned int i = 4; i-- > 0;)
			expect_used(k, (uint16_t)(3 * i), round % 2 ? i : 0);
	}
	rk_close(k);
}

static void indirect_chains_take_one_entry_each(void **state)
{
	const struct rk_buf bufs[] = {
		{ RK_BUF, 16, 0 }, { RK_BUF, 100, 0 }, { RK_BUF, 200, W }, { RK_BUF, 1, W }
	};
	struct ringkit *k = open_with(state, 4, 0);

	for (unsigned int round = 0; round < 100; round++) {
		for (uint16_t id = 0; id < 4; id++)
			rk_put_indirect(k, id, RK_TABLE + 256 * id, bufs, 4);
		for (uint16_t id = 0; id < 4; id++) {
			struct virtq_chain c = rk_pop(k);

			assert_int_equal(c.error, 0);
			assert_int_equal(c.id, id);
			assert_int_equal(c.out_cnt, 2);
			assert_int_equal(c.in_cnt, 2);
			assert_int_equal(c.out_len, 116);
			assert_int_equal(c.in_len, 201);
			virtq_push(&k->vq, id, 201);
		}
		virtq_flush(&k->vq);
		for (uint16_t id = 0; id < 4; id++)
			expect_used(k, id, 201);
	}
	rk_close(k);
}

/* As DPDK's driver marks a frame's header, in every kind of chain. */
static void what_is_writable_does_not_matter_where_the_device_only_reads(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 12, W }, { RK_BUF, 100, 0 }, { RK_BUF, 7, W } };
	struct ringkit *k = open_with(state, 4, 0);

	k->vq.out_only = true;
	for (uint16_t id = 0; id < 2; id++) {
		struct virtq_chain c;

		if (id)
			rk_put(k, id, bufs, 3);
		else
			rk_put_indirect(k, id, RK_TABLE, bufs, 3);
		c = rk_pop(k);
		assert_int_equal(c.error, 0);
		assert_int_equal(c.out_cnt, 3);
		assert_int_equal(c.in_cnt, 0);
		assert_int_equal(c.out_len, 119);
		rk_complete(k, id, 0);
	}
	rk_close(k);
}

static void buffers_in_every_region_are_found(void **state)
{
	const struct rk_buf bufs[] = {
		{ RK_FAR + RK_FAR_LEN - 16, 16, 0 },
		{ RK_NEXT, RK_NEXT_LEN, W },
		{ RK_RAM + RK_RAM_LEN - 1, 1, W },
	};
	struct ringkit *k = open_with(state, 8, 0);
	struct virtq_chain c;

	rk_put(k, 0, bufs, 3);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_ptr_equal(c.iov[0].iov_base, k->region[2]->host + RK_FAR_LEN - 16);
	assert_ptr_equal(c.iov[1].iov_base, k->region[1]->host);
	assert_ptr_equal(c.iov[2].iov_base, k->region[0]->host + RK_RAM_LEN - 1);
	rk_complete(k, 0, 0);
	rk_close(k);
}

/* --- order, rewind ----------------------------------------------------------------- */

static void flush_publishes_the_batch_at_once(void **state)
{
	struct ringkit *k = open_with(state, 8, 0);

	for (uint16_t id = 0; id < 6; id++)
		put_tagged(k, id, 1, id);
	for (uint16_t id = 0; id < 6; id++)
		pop_tagged(k, id, 1, id);
	virtq_push(&k->vq, 4, 4);
	virtq_push(&k->vq, 1, 1);
	virtq_push(&k->vq, 3, 3);
	expect_nothing_used(k);
	virtq_flush(&k->vq);
	expect_used(k, 4, 4);
	expect_used(k, 1, 1);
	expect_used(k, 3, 3);
	expect_nothing_used(k);
	virtq_flush(&k->vq);
	expect_nothing_used(k);
	rk_close(k);
}

static void in_order_ring_completes_in_order_whatever_the_device_does(void **state)
{
	static const uint16_t popped[] = { 5, 0, 3, 1, 4 }, pushed[] = { 3, 4, 5, 0, 1 };
	/* What the driver may see after each push: number of chains. */
	static const unsigned int visible[] = { 0, 0, 1, 2, 2 };
	struct ringkit *k = open_with(state, is_packed(state) ? 7 : 8, RK_IN_ORDER);

	for (unsigned int round = 0; round < 200; round++) {
		for (unsigned int i = 0; i < 5; i++)
			put_tagged(k, popped[i], 1, i);
		for (unsigned int i = 0; i < 5; i++)
			pop_tagged(k, popped[i], 1, i);
		for (unsigned int i = 0, seen = 0; i < 5; i++) {
			virtq_push(&k->vq, pushed[i], 100 + pushed[i]);
			virtq_flush(&k->vq);
			for (unsigned int n = 0; n < visible[i]; n++, seen++)
				expect_used(k, popped[seen], 100 + popped[seen]);
			expect_nothing_used(k);
		}
		assert_int_equal(virtq_inflight(&k->vq), 0);
	}
	rk_close(k);
}

static void rewound_chains_are_popped_again(void **state)
{
	static const uint16_t last_two[] = { 2, 4 };
	/* 9 entries for chains of 2: the packed ring wraps within every batch. */
	struct ringkit *k = open_with(state, is_packed(state) ? 9 : 8, 0);

	for (unsigned int round = 0; round < 100; round++) {
		for (uint16_t id = 0; id < 6; id += 2)
			put_tagged(k, id, 2, round + id);
		for (uint16_t id = 0; id < 6; id += 2)
			pop_tagged(k, id, 2, round + id);
		virtq_rewind(&k->vq, last_two, 2);
		assert_int_equal(virtq_inflight(&k->vq), 1);
		assert_true(virtq_has_work(&k->vq));
		pop_tagged(k, 2, 2, round + 2);
		virtq_rewind(&k->vq, last_two, 1);
		for (uint16_t id = 2; id < 6; id += 2)
			pop_tagged(k, id, 2, round + id);
		rk_pop_none(k);
		for (uint16_t id = 0; id < 6; id += 2)
			virtq_push(&k->vq, id, 1);
		virtq_flush(&k->vq);
		for (uint16_t id = 0; id < 6; id += 2)
			expect_used(k, id, 1);
	}
	rk_close(k);
}

static void rewind_keeps_the_order_of_an_in_order_ring(void **state)
{
	static const uint16_t last[] = { 2 };
	struct ringkit *k = open_with(state, 4, RK_IN_ORDER);

	for (uint16_t id = 0; id < 3; id++)
		put_tagged(k, id, 1, id);
	for (uint16_t id = 0; id < 3; id++)
		pop_tagged(k, id, 1, id);
	virtq_push(&k->vq, 1, 11);
	virtq_rewind(&k->vq, last, 1);
	virtq_push(&k->vq, 0, 10);
	virtq_flush(&k->vq);
	expect_used(k, 0, 10);
	expect_used(k, 1, 11);
	pop_tagged(k, 2, 1, 2);
	rk_complete(k, 2, 12);
	rk_close(k);
}

static void rewound_chain_of_a_broken_ring_is_not_popped(void **state)
{
	static const uint16_t ids[] = { 0 };
	struct ringkit *k = open_with(state, 8, 0);

	put_tagged(k, 0, 1, 0);
	put_tagged(k, 1, 1, 1);
	pop_tagged(k, 0, 1, 0);
	virtq_break(&k->vq, "the test says so");
	virtq_rewind(&k->vq, ids, 1);
	rk_pop_none(k);
	rk_close(k);
}

static void rewound_chain_of_a_draining_ring_is_not_popped(void **state)
{
	static const uint16_t ids[] = { 0 };
	struct ringkit *k = open_with(state, 8, 0);

	put_tagged(k, 0, 1, 0);
	pop_tagged(k, 0, 1, 0);
	virtq_set_state(&k->vq, VIRTQ_DRAINING);
	virtq_rewind(&k->vq, ids, 1);
	rk_pop_none(k);
	virtq_set_state(&k->vq, VIRTQ_STOPPED);
	assert_int_equal(virtq_base(&k->vq), rk_base(is_packed(state)));
	rk_close(k);
}

/* --- states and positions -------------------------------------------------------------- */

static void a_ring_that_is_not_enabled_pops_nothing(void **state)
{
	struct ringkit *k = open_with(state, 8, 0);

	put_tagged(k, 0, 1, 0);
	k->vq.conf.enabled = false;
	assert_false(virtq_has_work(&k->vq));
	rk_pop_none(k);
	k->vq.conf.enabled = true;
	assert_true(virtq_has_work(&k->vq));
	pop_tagged(k, 0, 1, 0);
	rk_close(k);
}

static void a_draining_ring_pops_nothing_but_gives_back(void **state)
{
	struct ringkit *k = open_with(state, 8, 0);

	put_tagged(k, 0, 1, 0);
	put_tagged(k, 1, 1, 1);
	pop_tagged(k, 0, 1, 0);
	virtq_set_state(&k->vq, VIRTQ_DRAINING);
	rk_pop_none(k);
	assert_false(virtq_has_work(&k->vq));
	rk_complete(k, 0, 7);
	rk_close(k);
}

static uint32_t base_after(bool packed, uint32_t size, uint32_t entries)
{
	uint32_t at = entries % size | (entries / size % 2 ? 0 : 0x8000);

	return packed ? at | at << 16 : entries & 0xffff;
}

/* At every position of two rounds: stop, save, restore, go on. */
static void run_restarts(void **state, uint32_t size, unsigned int nr_desc)
{
	struct ringkit *k = open_with(state, size, 0);

	for (uint32_t done = 0; done < 4 * size; done++) {
		put_tagged(k, (uint16_t)(done % (size - nr_desc + 1)), nr_desc, done);
		/* Nothing is lost of what is available and not popped. */
		restart(k, *(const uint64_t *)*state,
			base_after(k->packed, size, k->packed ? done * nr_desc : done));
		pop_tagged(k, (uint16_t)(done % (size - nr_desc + 1)), nr_desc, done);
		rk_complete(k, (uint16_t)(done % (size - nr_desc + 1)), done % 3);
	}
	rk_close(k);
}

static void base_is_saved_and_restored_at_every_position(void **state)
{
	run_restarts(state, 8, 1);
	run_restarts(state, 8, 3);
	run_restarts(state, 1, 1);
	if (is_packed(state)) {
		run_restarts(state, 5, 2);
		run_restarts(state, 7, 5);
		run_restarts(state, 3, 3);
	}
}

static void split_positions_wrap_at_65536_over_a_restart(void **state)
{
	struct ringkit *k = rk_open(split_kind, 4, 0xfffe);

	for (uint32_t i = 0; i < 4; i++) {
		put_tagged(k, (uint16_t)i, 1, i);
		restart(k, split_kind, (0xfffe + i) & 0xffff);
		pop_tagged(k, (uint16_t)i, 1, i);
		rk_complete(k, (uint16_t)i, 0);
	}
	assert_int_equal(le16_to_cpu(k->used->idx), 2);
	rk_close(k);
}

/* A front-end that knows only split rings sends 0 for a new ring. */
/* virtio-user sends base 0 to the back-end that comes after one that was killed;
 * QEMU has counted what was in flight then, and nobody else knows of it. */
static void split_ring_goes_on_where_the_used_index_says(void **state)
{
	static const uint32_t bases[] = { 0, 7 };
	const struct rk_buf buf = { RK_BUF, 16, 0 };

	for (unsigned int i = 0; i < ARRAY_SIZE(bases); i++) {
		struct ringkit *k = open_with(state, 8, 0);
		struct virtq_conf conf;

		for (uint16_t n = 0; n < 5; n++) {
			rk_put(k, n, &buf, 1);
			assert_int_equal(rk_pop(k).error, 0);
			rk_complete(k, n, 0);
		}
		virtq_set_state(&k->vq, VIRTQ_DRAINING);
		virtq_set_state(&k->vq, VIRTQ_STOPPED);
		virtq_fini(&k->vq);
		conf = rk_conf(k, split_kind, 8, bases[i]);
		assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
		virtq_set_state(&k->vq, VIRTQ_STARTED);
		assert_int_equal(virtq_base(&k->vq), 5);
		rk_put(k, 6, &buf, 1);
		assert_int_equal(rk_pop(k).id, 6);
		rk_complete(k, 6, 0);
		rk_close(k);
	}
}

static void packed_base_0_of_a_new_ring_has_wrap_counters_of_1(void **state)
{
	struct ringkit *k = rk_open_memory();
	struct virtq_conf conf;

	rk_driver_reset(k, true, 5, rk_base(true));
	put_tagged(k, 2, 2, 0);
	conf = rk_conf(k, packed_kind, 5, 0);
	assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
	virtq_set_state(&k->vq, VIRTQ_STARTED);
	for (unsigned int i = 0; i < 20; i++) {
		pop_tagged(k, 2, 2, i);
		rk_complete(k, 2, 1);
		put_tagged(k, 2, 2, i + 1);
	}
	rk_close(k);
}

/* The same number from a ring that was used says what it says, even if its
 * first descriptor was the middle of a chain in the last round. */
static void packed_base_0_of_a_used_ring_has_wrap_counters_of_0(void **state)
{
	struct ringkit *k = rk_open(packed_kind, 4, rk_base(true));

	/* Three times four entries, the third round beginning within a chain. */
	for (unsigned int i = 0; i < 4; i++) {
		put_tagged(k, 0, 3, i);
		pop_tagged(k, 0, 3, i);
		rk_complete(k, 0, 1);
	}
	restart(k, packed_kind, 0);
	rk_pop_none(k);
	put_tagged(k, 1, 2, 7);
	pop_tagged(k, 1, 2, 7);
	rk_complete(k, 1, 1);
	rk_close(k);
}

/* DPDK's virtio-user driver sends the available half alone. */
static void packed_base_without_a_used_half_means_that_nothing_is_in_flight(void **state)
{
	static const uint32_t at[] = { 0x8000, 0x8003 };

	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++) {
		struct ringkit *k = rk_open_memory();
		struct virtq_conf conf;

		rk_driver_reset(k, true, 5, at[i] | at[i] << 16);
		/* What was used in this round. */
		for (unsigned int pos = 0; pos < (at[i] & 0x7fff); pos++)
			k->pdesc[pos].flags = cpu_to_le16(VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED);
		conf = rk_conf(k, packed_kind, 5, at[i]);
		assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
		virtq_set_state(&k->vq, VIRTQ_STARTED);
		for (unsigned int n = 0; n < 20; n++) {
			put_tagged(k, 2, 2, n);
			pop_tagged(k, 2, 2, n);
			rk_complete(k, 2, 1);
		}
		rk_close(k);
	}
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
	SPLIT(split_sizes_are_powers_of_two_up_to_1024),
	PACKED(packed_sizes_are_any_up_to_32768),
	SPLIT(area_lengths_are_those_of_the_specification),
	BOTH(a_size_the_kind_cannot_have_is_refused),
	PACKED(packed_base_outside_of_the_ring_is_refused),
	BOTH(every_size_is_filled_and_emptied),
	BOTH(indices_wrap_many_times),
	BOTH(chains_of_mixed_lengths_wrap_many_times),
	BOTH(indirect_chains_take_one_entry_each),
	BOTH(what_is_writable_does_not_matter_where_the_device_only_reads),
	BOTH(buffers_in_every_region_are_found),
	BOTH(flush_publishes_the_batch_at_once),
	BOTH(in_order_ring_completes_in_order_whatever_the_device_does),
	BOTH(rewound_chains_are_popped_again),
	BOTH(rewind_keeps_the_order_of_an_in_order_ring),
	BOTH(rewound_chain_of_a_broken_ring_is_not_popped),
	BOTH(rewound_chain_of_a_draining_ring_is_not_popped),
	BOTH(a_ring_that_is_not_enabled_pops_nothing),
	BOTH(a_draining_ring_pops_nothing_but_gives_back),
	BOTH(base_is_saved_and_restored_at_every_position),
	SPLIT(split_positions_wrap_at_65536_over_a_restart),
	SPLIT(split_ring_goes_on_where_the_used_index_says),
	PACKED(packed_base_0_of_a_new_ring_has_wrap_counters_of_1),
	PACKED(packed_base_0_of_a_used_ring_has_wrap_counters_of_0),
	PACKED(packed_base_without_a_used_half_means_that_nothing_is_in_flight),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
