/*
 * What a hostile driver can write into a ring, both kinds: every malformed
 * chain is given back, every unreadable ring breaks alone, and nothing outside
 * of guest memory is ever handed to the device.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <stdlib.h>

#define W VIRTQ_DESC_F_WRITE
#define INDIRECT VIRTQ_DESC_F_INDIRECT
#define NEXT VIRTQ_DESC_F_NEXT

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* The ring kind the test was registered with. */
static struct ringkit *open_kind(void **state, uint32_t size)
{
	uint64_t features = *(const uint64_t *)*state;

	return rk_open(features, size, rk_base(features & RK_PACKED));
}

/* The ring still serves: ids 8, 9 and 10 are not in use by any test. */
static void expect_alive(struct ringkit *k)
{
	struct virtq_chain c;

	rk_put_good(k, 8);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.id, 8);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 513);
	rk_complete(k, 8, 513);
	assert_false(k->vq.broken);
	assert_int_equal(rk_drain(k->err_fd), 0);
}

/* The next chain is malformed, in_len bytes can still be written to its end,
 * and it is given back as any other. */
static void expect_bad(struct ringkit *k, uint64_t in_len)
{
	struct virtq_chain c = rk_pop(k);

	assert_int_equal(c.error, -EINVAL);
	assert_int_equal(c.in_len, in_len);
	assert_int_equal(counter_read(&k->vq.stats.bad_chains), 1);
	rk_complete(k, c.id, 0);
	expect_alive(k);
	rk_close(k);
}

/* The ring is unreadable: nothing is popped, once and for all, and another
 * ring is served as ever. */
static void expect_broken(struct ringkit *k)
{
	struct ringkit *other =
		rk_open(k->packed ? packed_kind : split_kind, 16, rk_base(k->packed));

	rk_pop_none(k);
	assert_true(k->vq.broken);
	assert_int_equal(rk_drain(k->err_fd), 1);
	rk_pop_none(k);
	assert_false(virtq_has_work(&k->vq));
	assert_int_equal(rk_drain(k->err_fd), 0);
	expect_alive(other);
	rk_close(other);
	rk_close(k);
}

static void bad_chain(void **state, const struct rk_buf *bufs, unsigned int nr, uint64_t in_len)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put(k, 0, bufs, nr);
	expect_bad(k, in_len);
}

static void bad_table(void **state, const struct rk_buf *bufs, unsigned int nr, uint64_t in_len)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_indirect(k, 0, RK_TABLE, bufs, nr);
	expect_bad(k, in_len);
}

/* --- lengths and order ----------------------------------------------------- */

static void zero_length_readable_buffer_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 0, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void zero_length_writable_buffer_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 0, W }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 3, 1);
}

static void zero_length_buffer_at_a_bad_address_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_HOLE, 0, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void all_lengths_zero_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 0, 0 }, { RK_BUF, 0, W } };

	bad_chain(state, bufs, 2, 0);
}

static void readable_after_writable_is_an_error(void **state)
{
	const struct rk_buf bufs[] = {
		{ RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_BUF, 16, 0 }, { RK_BUF, 1, W }
	};

	bad_chain(state, bufs, 4, 513);
}

static void readable_after_writable_in_a_table_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 512, W }, { RK_BUF, 16, 0 }, { RK_BUF, 1, W } };

	bad_table(state, bufs, 3, 513);
}

/* --- addresses -------------------------------------------------------------- */

static void address_in_a_hole_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_HOLE, 16, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void address_below_all_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { 0, 16, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void address_above_all_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_FAR + RK_FAR_LEN, 1, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void address_that_wraps_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { UINT64_MAX - 7, 16, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void buffer_from_below_into_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_RAM - 8, 16, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void buffer_across_the_end_of_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_HOLE - 8, 16, 0 }, { RK_BUF, 1, W } };

	bad_chain(state, bufs, 2, 1);
}

static void longest_length_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, UINT32_MAX, W } };

	bad_chain(state, bufs, 2, 0);
}

static void bad_middle_buffer_leaves_the_status_reachable(void **state)
{
	const struct rk_buf bufs[] = {
		{ RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_HOLE, 512, W }, { RK_BUF, 1, W }
	};

	bad_chain(state, bufs, 4, 1);
}

static void bad_last_buffer_leaves_no_status(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_HOLE, 1, W } };

	bad_chain(state, bufs, 3, 0);
}

static void bad_last_buffer_of_a_table_leaves_no_status(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_HOLE, 1, W } };

	bad_table(state, bufs, 3, 0);
}

static void buffer_across_two_regions_is_two_iovecs(void **state)
{
	const struct rk_buf bufs[] = { { RK_NEXT - 100, 300, 0 }, { RK_NEXT - 1, 2, W } };
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	rk_put(k, 3, bufs, 2);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_cnt, 2);
	assert_int_equal(c.in_cnt, 2);
	assert_ptr_equal(c.iov[0].iov_base, rk_mem(k, RK_NEXT - 100));
	assert_int_equal(c.iov[0].iov_len, 100);
	assert_ptr_equal(c.iov[1].iov_base, rk_mem(k, RK_NEXT));
	assert_int_equal(c.iov[1].iov_len, 200);
	assert_ptr_equal(c.iov[2].iov_base, rk_mem(k, RK_NEXT - 1));
	assert_ptr_equal(c.iov[3].iov_base, rk_mem(k, RK_NEXT));
	rk_complete(k, 3, 2);
	rk_close(k);
}

/* --- indirect tables ---------------------------------------------------------- */

static void nested_indirect_table_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 },
				       { RK_BUF, 512, W },
				       { RK_TABLE + 0x1000, 32, INDIRECT } };

	bad_table(state, bufs, 3, 0);
}

static void table_that_is_its_own_entry_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 16, INDIRECT } };

	bad_table(state, bufs, 1, 0);
}

static void indirect_with_next_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 32, INDIRECT }, { RK_BUF, 1, W } };
	const struct rk_buf table[] = { { RK_BUF, 16, 0 }, { RK_BUF, 512, W } };
	struct ringkit *k = open_kind(state, 16);

	rk_table(k, RK_TABLE, table, 2);
	rk_put(k, 0, bufs, 2);
	/* What the table holds is not looked at; split does not go on behind it,
	 * packed may, as the ring says where the chain ends. */
	expect_bad(k, k->packed ? 1 : 0);
}

static void table_of_length_0_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 0, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void table_of_odd_length_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 33, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void table_outside_of_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_HOLE, 32, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void table_that_wraps_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { UINT64_MAX - 15, 32, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void table_across_the_end_of_memory_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_HOLE - 16, 32, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void table_across_two_regions_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_NEXT - 16, 32, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

static void longest_table_length_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 0xfffffff0u, INDIRECT } };

	bad_chain(state, bufs, 1, 0);
}

/* nr buffers to read and one to write, in a table. */
static struct ringkit *open_with_long_table(void **state, unsigned int nr, uint64_t addr,
					    uint32_t len)
{
	struct rk_buf *bufs = calloc(nr + 1, sizeof(*bufs));
	struct ringkit *k = open_kind(state, 16);

	assert_non_null(bufs);
	for (unsigned int i = 0; i < nr; i++)
		bufs[i] = (struct rk_buf){ addr, len, 0 };
	bufs[nr] = (struct rk_buf){ RK_BUF, 1, W };
	rk_put_indirect(k, 0, RK_TABLE, bufs, nr + 1);
	free(bufs);
	return k;
}

static void table_longer_than_any_chain_is_an_error(void **state)
{
	expect_bad(open_with_long_table(state, 1024, RK_BUF, 8), 0);
}

static void table_of_1024_entries_is_served(void **state)
{
	struct ringkit *k = open_with_long_table(state, 1023, RK_BUF, 8);
	struct virtq_chain c = rk_pop(k);

	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_cnt, 1023);
	assert_int_equal(c.in_cnt, 1);
	rk_complete(k, 0, 1);
	rk_close(k);
}

/* Each buffer lies in two regions, hence twice as many iovecs as entries. */
static void too_many_iovecs_are_an_error(void **state)
{
	struct ringkit *k = open_with_long_table(state, 600, RK_NEXT - 4, 8);

	/* All of the iovec is taken by what is to be read. */
	expect_bad(k, 0);
}

static void split_table_with_next_out_of_range_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 1, W } };
	struct ringkit *k = open_kind(state, 16);

	rk_put_indirect(k, 0, RK_TABLE, bufs, 2);
	((struct virtq_desc *)rk_mem(k, RK_TABLE))->next = cpu_to_le16(2);
	expect_bad(k, 0);
}

static void split_table_with_a_loop_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 8, W | NEXT } };
	struct ringkit *k = open_kind(state, 16);

	rk_put_indirect(k, 0, RK_TABLE, bufs, 2);
	((struct virtq_desc *)rk_mem(k, RK_TABLE))[1].next = cpu_to_le16(1);
	expect_bad(k, 0);
}

static void split_indirect_entry_out_of_order_in_its_table_is_served(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 1, W }, { RK_BUF, 32, 0 } };
	struct ringkit *k = open_kind(state, 16);
	struct virtq_desc *table = rk_mem(k, RK_TABLE);
	struct virtq_chain c;

	rk_put_indirect(k, 0, RK_TABLE, bufs, 3);
	table[0].next = cpu_to_le16(2);
	table[2].next = cpu_to_le16(1);
	table[2].flags = cpu_to_le16(NEXT);
	table[1].flags = cpu_to_le16(W);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_len, 48);
	assert_int_equal(c.in_len, 1);
	rk_close(k);
}

/* VIRTIO 1.3, "Indirect Descriptors": the device handles chained descriptors
 * followed by one indirect one, on split rings. */
static void split_indirect_table_as_last_of_a_chain_is_served(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_TABLE, 32, INDIRECT } };
	const struct rk_buf table[] = { { RK_BUF, 512, W }, { RK_BUF, 1, W } };
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	rk_table(k, RK_TABLE, table, 2);
	rk_put(k, 0, bufs, 2);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 513);
	rk_complete(k, 0, 1);
	rk_close(k);
}

/* VIRTIO 1.3, packed "Indirect Descriptors": not in a list linked by NEXT. */
static void packed_indirect_table_inside_of_a_chain_is_an_error(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_TABLE, 32, INDIRECT } };

	bad_chain(state, bufs, 2, 0);
}

static void write_flag_of_an_indirect_descriptor_is_ignored(void **state)
{
	const struct rk_buf bufs[] = { { RK_TABLE, 32, INDIRECT | W } };
	const struct rk_buf table[] = { { RK_BUF, 16, 0 }, { RK_BUF, 1, W } };
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	rk_table(k, RK_TABLE, table, 2);
	rk_put(k, 0, bufs, 1);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 1);
	rk_complete(k, 0, 1);
	rk_close(k);
}

/* --- split: indices ----------------------------------------------------------- */

static void split_head_out_of_range_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_avail(k, 16);
	expect_broken(k);
}

static void split_head_65535_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 1024);

	rk_avail(k, UINT16_MAX);
	expect_broken(k);
}

static void split_available_index_jump_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	k->avail->idx = cpu_to_le16(17);
	expect_broken(k);
}

static void split_available_index_that_runs_back_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 0);
	rk_pop(k);
	k->avail->idx = cpu_to_le16(0);
	expect_broken(k);
}

static void split_head_in_flight_twice_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 0);
	rk_pop(k);
	rk_avail(k, 0);
	expect_broken(k);
}

static void split_next_out_of_range_is_an_error(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 0);
	k->desc[1].next = cpu_to_le16(16);
	/* The bytes before are not the chain's last ones: no status in them. */
	expect_bad(k, 0);
}

static void split_chain_onto_itself_is_an_error(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 0);
	k->desc[0].next = cpu_to_le16(0);
	expect_bad(k, 0);
}

static void split_loop_of_two_is_an_error(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 0);
	k->desc[2].flags = cpu_to_le16(W | NEXT);
	k->desc[2].next = cpu_to_le16(1);
	expect_bad(k, 0);
}

static void split_loop_through_the_largest_ring_is_an_error(void **state)
{
	struct ringkit *k = open_kind(state, 1024);

	for (unsigned int i = 0; i < 1024; i++)
		k->desc[i] = (struct virtq_desc){ cpu_to_le64(RK_BUF), cpu_to_le32(8),
						  cpu_to_le16(W | NEXT),
						  cpu_to_le16((uint16_t)((i + 1) % 1024)) };
	rk_avail(k, 0);
	expect_bad(k, 0);
}

static void split_chain_as_long_as_the_ring_is_served(void **state)
{
	struct rk_buf bufs[16];
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	for (unsigned int i = 0; i < 16; i++)
		bufs[i] = (struct rk_buf){ RK_BUF, 8, 0 };
	rk_put(k, 5, bufs, 16);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_cnt, 16);
	rk_complete(k, 5, 0);
	expect_alive(k);
	rk_close(k);
}

/* --- packed: ids and chains ------------------------------------------------------ */

static void packed_id_out_of_range_breaks_the_ring(void **state)
{
	static const uint16_t ids[] = { 16, UINT16_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct ringkit *k = open_kind(state, 16);

		rk_put_good(k, 0);
		k->pdesc[2].id = cpu_to_le16(ids[i]);
		expect_broken(k);
	}
}

static void packed_id_in_flight_twice_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	rk_put_good(k, 3);
	rk_pop(k);
	rk_put_good(k, 3);
	expect_broken(k);
}

/* Only the last descriptor of a chain carries the id. */
static void packed_ids_before_the_last_are_not_looked_at(void **state)
{
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	rk_put_good(k, 3);
	k->pdesc[0].id = cpu_to_le16(UINT16_MAX);
	k->pdesc[1].id = cpu_to_le16(UINT16_MAX);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	rk_complete(k, 3, 0);
	expect_alive(k);
	rk_close(k);
}

static void packed_chain_without_an_end_breaks_the_ring(void **state)
{
	struct ringkit *k = open_kind(state, 16);

	for (unsigned int i = 0; i < 16; i++)
		k->pdesc[i] = (struct pvirtq_desc){
			.addr = cpu_to_le64(RK_BUF),
			.len = cpu_to_le32(8),
			.flags = cpu_to_le16(NEXT | W | VIRTQ_DESC_F_AVAIL),
		};
	expect_broken(k);
}

static void packed_chain_as_long_as_the_ring_is_served(void **state)
{
	struct rk_buf bufs[17];
	struct ringkit *k = open_kind(state, 17);
	struct virtq_chain c;

	for (unsigned int i = 0; i < 17; i++)
		bufs[i] = (struct rk_buf){ RK_BUF, 8, 0 };
	rk_put(k, 5, bufs, 17);
	c = rk_pop(k);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.out_cnt, 17);
	rk_complete(k, 5, 0);
	expect_alive(k);
	rk_close(k);
}

/* The status of such a chain was not reached, and no other byte is one. */
static void packed_chain_longer_than_1024_is_an_error(void **state)
{
	static struct rk_buf bufs[1026];
	struct ringkit *k = open_kind(state, 2048);

	for (unsigned int i = 0; i < 1026; i++)
		bufs[i] = (struct rk_buf){ RK_BUF, 1, W };
	rk_put(k, 0, bufs, 1026);
	expect_bad(k, 0);
}

/* --- registration ------------------------------------------------------------------ */

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
	BOTH(zero_length_readable_buffer_is_an_error),
	BOTH(zero_length_writable_buffer_is_an_error),
	BOTH(zero_length_buffer_at_a_bad_address_is_an_error),
	BOTH(all_lengths_zero_is_an_error),
	BOTH(readable_after_writable_is_an_error),
	BOTH(readable_after_writable_in_a_table_is_an_error),
	BOTH(address_in_a_hole_is_an_error),
	BOTH(address_below_all_memory_is_an_error),
	BOTH(address_above_all_memory_is_an_error),
	BOTH(address_that_wraps_is_an_error),
	BOTH(buffer_from_below_into_memory_is_an_error),
	BOTH(buffer_across_the_end_of_memory_is_an_error),
	BOTH(longest_length_is_an_error),
	BOTH(bad_middle_buffer_leaves_the_status_reachable),
	BOTH(bad_last_buffer_leaves_no_status),
	BOTH(bad_last_buffer_of_a_table_leaves_no_status),
	BOTH(buffer_across_two_regions_is_two_iovecs),
	BOTH(nested_indirect_table_is_an_error),
	BOTH(table_that_is_its_own_entry_is_an_error),
	BOTH(indirect_with_next_is_an_error),
	BOTH(table_of_length_0_is_an_error),
	BOTH(table_of_odd_length_is_an_error),
	BOTH(table_outside_of_memory_is_an_error),
	BOTH(table_that_wraps_is_an_error),
	BOTH(table_across_the_end_of_memory_is_an_error),
	BOTH(table_across_two_regions_is_an_error),
	BOTH(longest_table_length_is_an_error),
	BOTH(table_longer_than_any_chain_is_an_error),
	BOTH(table_of_1024_entries_is_served),
	BOTH(too_many_iovecs_are_an_error),
	BOTH(write_flag_of_an_indirect_descriptor_is_ignored),
	SPLIT(split_table_with_next_out_of_range_is_an_error),
	SPLIT(split_table_with_a_loop_is_an_error),
	SPLIT(split_indirect_entry_out_of_order_in_its_table_is_served),
	SPLIT(split_indirect_table_as_last_of_a_chain_is_served),
	PACKED(packed_indirect_table_inside_of_a_chain_is_an_error),
	SPLIT(split_head_out_of_range_breaks_the_ring),
	SPLIT(split_head_65535_breaks_the_ring),
	SPLIT(split_available_index_jump_breaks_the_ring),
	SPLIT(split_available_index_that_runs_back_breaks_the_ring),
	SPLIT(split_head_in_flight_twice_breaks_the_ring),
	SPLIT(split_next_out_of_range_is_an_error),
	SPLIT(split_chain_onto_itself_is_an_error),
	SPLIT(split_loop_of_two_is_an_error),
	SPLIT(split_loop_through_the_largest_ring_is_an_error),
	SPLIT(split_chain_as_long_as_the_ring_is_served),
	PACKED(packed_id_out_of_range_breaks_the_ring),
	PACKED(packed_id_in_flight_twice_breaks_the_ring),
	PACKED(packed_ids_before_the_last_are_not_looked_at),
	PACKED(packed_chain_without_an_end_breaks_the_ring),
	PACKED(packed_chain_as_long_as_the_ring_is_served),
	PACKED(packed_chain_longer_than_1024_is_an_error),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
