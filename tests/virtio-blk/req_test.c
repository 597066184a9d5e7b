/*
 * The request path, vblk_poll(), against a ring in memory: every layout of a
 * request, everything a driver can get wrong, and stores that answer at once,
 * later, or with an error. Discards and their like are in range_test.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/reqkit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* --- what works -------------------------------------------------------------------- */

static void reads_and_writes_move_data(void **state)
{
	for_each_reqkit(d)
	{
		uint8_t *data = rk_mem(d->k, DATA);

		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 3, 4096), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, d->late.disk + 3 * 512, 4096);
		memset(data, 0x5a, 1024);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 8, 1024), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, d->late.disk + 8 * 512, 1024);
		assert_int_equal(d->late.disk[10 * 512], (uint8_t)(10 * 512 * 7 + 10));
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, DISK / 512 - 1, 512),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_FLUSH], 1);
	}
}

/* Lay len bytes of one string out in cuts, each in a place of its own. */
static unsigned int lay_out(struct rk_buf *bufs, const uint32_t *cuts, unsigned int nr_cuts,
			    uint64_t base, uint32_t len, uint16_t flags)
{
	unsigned int nr = 0;
	uint32_t done = 0;

	for (unsigned int i = 0; done < len; i++) {
		uint32_t n = i < nr_cuts && cuts[i] < len - done ? cuts[i] : len - done;

		bufs[nr] = (struct rk_buf){ base + 0x2000 * nr + 13 * nr, n, flags };
		nr++;
		done += n;
	}
	return nr;
}

static void scatter(struct reqkit *d, const struct rk_buf *bufs, unsigned int nr,
		    const uint8_t *from)
{
	for (unsigned int i = 0; i < nr; from += bufs[i++].len)
		memcpy(rk_mem(d->k, bufs[i].addr), from, bufs[i].len);
}

static void gather(struct reqkit *d, const struct rk_buf *bufs, unsigned int nr, uint8_t *to)
{
	for (unsigned int i = 0; i < nr; to += bufs[i++].len)
		memcpy(to, rk_mem(d->k, bufs[i].addr), bufs[i].len);
}

static void check_layout(struct reqkit *d, const uint32_t *cuts, unsigned int nr_cuts)
{
	struct virtio_blk_req_hdr hdr = { .type = cpu_to_le32(VIRTIO_BLK_T_OUT),
					  .sector = cpu_to_le64(100) };
	uint8_t out[16 + 1536], in[1536 + 1];
	struct rk_buf bufs[32];
	unsigned int nr;

	memcpy(out, &hdr, 16);
	for (unsigned int i = 16; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 3);
	nr = lay_out(bufs, cuts, nr_cuts, RK_BUF, sizeof(out), 0);
	scatter(d, bufs, nr, out);
	bufs[nr] = (struct rk_buf){ RK_NEXT, 1, W };
	rk_put(d->k, 0, bufs, nr + 1);
	assert_int_equal(reqkit_poll_one(d), 1);
	assert_int_equal(*(uint8_t *)rk_mem(d->k, RK_NEXT), VIRTIO_BLK_S_OK);
	assert_memory_equal(d->late.disk + 51200, out + 16, 1536);

	hdr.type = cpu_to_le32(VIRTIO_BLK_T_IN);
	memcpy(rk_mem(d->k, RK_NEXT), &hdr, 16);
	bufs[0] = (struct rk_buf){ RK_NEXT, 16, 0 };
	nr = lay_out(bufs + 1, cuts, nr_cuts, RK_BUF, sizeof(in), W);
	memset(in, UNSET, sizeof(in));
	scatter(d, bufs + 1, nr, in);
	rk_put(d->k, 0, bufs, nr + 1);
	assert_int_equal(reqkit_poll_one(d), sizeof(in));
	gather(d, bufs + 1, nr, in);
	assert_memory_equal(in, out + 16, 1536);
	assert_int_equal(in[1536], VIRTIO_BLK_S_OK);
}

static void buffers_may_be_cut_anywhere(void **state)
{
	static const uint32_t cuts[][8] = {
		{ 0 },	   { 16 },   { 8, 8 },	   { 1, 1, 1, 13 },
		{ 15, 2 }, { 17 },   { 512, 4 },   { 1, 2, 4, 8, 1, 1, 500, 36 },
		{ 1551 },  { 1536 }, { 16, 1536 }, { 1000, 536 },
	};

	for_each_reqkit(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
			unsigned int nr = 0;

			while (nr < 8 && cuts[i][nr])
				nr++;
			check_layout(d, cuts[i], nr);
		}
	}
}

static void get_id_fills_what_there_is_room_for(void **state)
{
	for_each_reqkit(d)
	{
		uint8_t *data = rk_mem(d->k, DATA);

		memset(data, UNSET, 64);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, "serial-number-20-by!", 20);
		memset(data, UNSET, 64);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_GET_ID, 0, 7), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, "serial-\xee", 8);
		memset(data, UNSET, 64);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_GET_ID, 0, 40), VIRTIO_BLK_S_OK);
		assert_int_equal(data[20], UNSET);
	}
}

static void nothing_to_transfer_is_fine(void **state)
{
	for_each_reqkit(d)
	{
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE], 0);
	}
}

static void write_through_makes_writes_durable_and_nothing_else(void **state)
{
	for_each_reqkit(d)
	{
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, 0);
		d->blk.write_through = true;
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, STORE_REQ_FUA);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, 0);
	}
}

/* --- what is refused ----------------------------------------------------------------- */

/* IOERR, and neither the disk nor the buffer was touched. */
static void assert_ioerr(struct reqkit *d, uint32_t type, uint64_t sector, uint32_t len)
{
	unsigned int before = d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE];

	memset(rk_mem(d->k, DATA), UNSET, len);
	assert_int_equal(reqkit_ask(d, type, sector, len), VIRTIO_BLK_S_IOERR);
	assert_int_equal(d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE], before);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(((uint8_t *)rk_mem(d->k, DATA))[i], UNSET);
}

static void access_past_the_end_is_an_error(void **state)
{
	static const uint64_t sectors[] = {
		DISK / 512 - 1, DISK / 512, DISK / 512 + 1,   1ull << 32,     1ull << 54,
		1ull << 55,	1ull << 63, UINT64_MAX / 512, UINT64_MAX - 1, UINT64_MAX,
	};

	for_each_reqkit(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
			assert_ioerr(d, VIRTIO_BLK_T_IN, sectors[i], 1024);
			assert_ioerr(d, VIRTIO_BLK_T_OUT, sectors[i], 1024);
		}
	}
}

static void odd_lengths_are_errors(void **state)
{
	static const uint32_t lens[] = { 1, 16, 511, 513, 1025 };

	for_each_reqkit(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			assert_ioerr(d, VIRTIO_BLK_T_IN, 0, lens[i]);
			assert_ioerr(d, VIRTIO_BLK_T_OUT, 0, lens[i]);
		}
	}
}

static void more_than_the_store_takes_at_once_is_an_error(void **state)
{
	for_each_reqkit(d)
	{
		d->ring.len_max = 8192;
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 8192), VIRTIO_BLK_S_OK);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 8192 + 512), VIRTIO_BLK_S_IOERR);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 0, 8192 + 512),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(d->late.nr_ops[STORE_READ], 1);
		assert_int_equal(d->late.nr_ops[STORE_WRITE], 0);
	}
}

static void parts_of_a_logical_block_are_errors(void **state)
{
	struct reqkit *d = reqkit_open(false, 0, 4096);

	assert_ioerr(d, VIRTIO_BLK_T_IN, 0, 512);
	assert_ioerr(d, VIRTIO_BLK_T_OUT, 8, 2048);
	assert_ioerr(d, VIRTIO_BLK_T_IN, 1, 4096);
	assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 8, 4096), VIRTIO_BLK_S_OK);
	reqkit_close(d);
}

static void unknown_types_are_unsupported(void **state)
{
	static const uint32_t types[] = {
		2, 3, 5, 7, 9, 10, 12, 15, 16, 24, 0x80000000, UINT32_MAX
	};

	for_each_reqkit(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(types); i++)
			assert_int_equal(reqkit_ask(d, types[i], 0, 512), VIRTIO_BLK_S_UNSUPP);
	}
}

static void a_read_only_disk_is_not_written(void **state)
{
	for_each_reqkit(d)
	{
		d->late.store.info.caps = 0;
		assert_ioerr(d, VIRTIO_BLK_T_OUT, 0, 512);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	}
}

static void a_short_header_is_an_error(void **state)
{
	for_each_reqkit(d)
	{
		for (uint32_t len = 1; len < 16; len++) {
			const struct rk_buf bufs[] = { { HDR, len, 0 }, { STATUS, 1, W } };

			reqkit_header(d, VIRTIO_BLK_T_FLUSH, 0);
			rk_put(d->k, 0, bufs, 2);
			assert_true(reqkit_poll_one(d) <= 1);
			assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
		}
		/* None at all. */
		const struct rk_buf in_only[] = { { DATA, 512, W }, { STATUS, 1, W } };

		reqkit_header(d, 0, 0);
		rk_put(d->k, 0, in_only, 2);
		reqkit_poll_one(d);
		assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
	}
}

static void without_a_status_byte_the_chain_comes_back_empty(void **state)
{
	for_each_reqkit(d)
	{
		const struct rk_buf bufs[] = { { HDR, 16, 0 }, { DATA, 512, 0 } };

		reqkit_header(d, VIRTIO_BLK_T_OUT, 0);
		rk_put(d->k, 0, bufs, 2);
		assert_int_equal(reqkit_poll_one(d), 0);
		assert_int_equal(d->late.nr_ops[STORE_WRITE], 0);
	}
}

static void a_malformed_chain_gets_ioerr_or_comes_back_empty(void **state)
{
	for_each_reqkit(d)
	{
		const struct rk_buf hole[] = { { HDR, 16, 0 },
					       { RK_HOLE, 512, W },
					       { STATUS, 1, W } };
		const struct rk_buf order[] = { { STATUS, 1, W },
						{ HDR, 16, 0 },
						{ DATA, 512, W } };
		const struct rk_buf bad_status[] = { { HDR, 16, 0 },
						     { DATA, 512, W },
						     { RK_HOLE, 1, W } };

		reqkit_header(d, VIRTIO_BLK_T_IN, 0);
		rk_put(d->k, 0, hole, 3);
		assert_true(reqkit_poll_one(d) <= 1);
		assert_true(reqkit_status(d) == VIRTIO_BLK_S_IOERR || reqkit_status(d) == UNSET);
		rk_put(d->k, 0, order, 3);
		assert_true(reqkit_poll_one(d) <= 1);
		rk_put(d->k, 0, bad_status, 3);
		assert_int_equal(reqkit_poll_one(d), 0);
		assert_int_equal(d->late.nr_ops[STORE_READ], 0);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	}
}

static void more_pieces_than_a_slot_holds_are_an_error(void **state)
{
	struct reqkit *d = reqkit_open(false, 0, 512);
	struct rk_buf bufs[VBLK_IOV_MAX + 3];
	unsigned int nr = 0;

	reqkit_header(d, VIRTIO_BLK_T_OUT, 0);
	bufs[nr++] = (struct rk_buf){ HDR, 16, 0 };
	while (nr < VBLK_IOV_MAX + 2)
		bufs[nr++] = (struct rk_buf){ DATA, 512, 0 };
	bufs[nr++] = (struct rk_buf){ STATUS, 1, W };
	rk_put(d->k, 0, bufs, nr);
	reqkit_poll_one(d);
	assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
	/* And one that just fits. */
	reqkit_header(d, VIRTIO_BLK_T_OUT, 0);
	bufs[VBLK_IOV_MAX + 1] = (struct rk_buf){ STATUS, 1, W };
	rk_put(d->k, 0, bufs, VBLK_IOV_MAX + 2);
	reqkit_poll_one(d);
	assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_OK);
	reqkit_close(d);
}

/* --- stores that take time, and fail ------------------------------------------------------- */

static void requests_end_in_any_order(void **state)
{
	struct reqkit *d = reqkit_open(false, 0, 512);
	uint32_t len;
	uint16_t id;

	d->late.hold = true;
	reqkit_header(d, VIRTIO_BLK_T_IN, 0);
	for (uint16_t i = 0; i < 8; i++) {
		const struct rk_buf bufs[] = { { HDR, 16, 0 },
					       { DATA + 0x1000 * i, 512, W },
					       { STATUS + i, 1, W } };

		rk_put(d->k, (uint16_t)(i * 4), bufs, 3);
	}
	assert_int_equal(vblk_poll(&d->k->vq), 8);
	assert_int_equal(d->late.nr_held, 8);
	assert_false(rk_get(d->k, &id, &len));
	for (int i = 7; i >= 0; i--) {
		struct store_req *req = d->late.held[i];

		req->done(req, reqkit_carry_out(&d->late, req));
		loop_turn(d->loop);
		assert_true(rk_get(d->k, &id, &len));
		assert_int_equal(id, i * 4);
		assert_int_equal(len, 513);
		assert_memory_equal(rk_mem(d->k, DATA + 0x1000 * (uint64_t)i), d->late.disk, 512);
	}
	reqkit_close(d);
}

static void errors_of_the_store_become_a_status(void **state)
{
	for_each_reqkit(d)
	{
		static const int errors[] = { -EIO, -ENOSPC, -EINVAL, -EFAULT, -ENOMEM };

		for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
			d->late.answer = errors[i];
			assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 512),
					 VIRTIO_BLK_S_IOERR);
			assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 0, 512),
					 VIRTIO_BLK_S_IOERR);
			assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_FLUSH, 0, 0),
					 VIRTIO_BLK_S_IOERR);
		}
		d->late.answer = -EOPNOTSUPP;
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(counter_read(&d->ring.stats.errors), 16);
	}
}

/* --- a guest that rewrites what is read ------------------------------------------------------- */

struct flipper {
	struct virtio_blk_req_hdr *hdr;
	bool stop;
};

static void *flip_header(void *opaque)
{
	struct flipper *f = opaque;
	static const uint64_t sectors[] = { 0, UINT64_MAX, DISK / 512, 7, 1ull << 55 };
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD,
					  99 };

	for (unsigned int i = 0; !read_once(&f->stop); i++) {
		write_once(&f->hdr->sector.wire,
			   cpu_to_le64(sectors[i % ARRAY_SIZE(sectors)]).wire);
		write_once(&f->hdr->type.wire, cpu_to_le32(types[i % ARRAY_SIZE(types)]).wire);
	}
	return NULL;
}

static void a_header_that_changes_is_checked_as_it_is_used(void **state)
{
	for_each_reqkit(d)
	{
		struct flipper f = { .hdr = rk_mem(d->k, HDR) };
		const struct rk_buf bufs[] = {
			{ HDR, 16, 0 }, { DATA, 512, 0 }, { DATA, 1024, W }, { STATUS, 1, W }
		};
		pthread_t thread;

		reqkit_header(d, VIRTIO_BLK_T_IN, 0);
		assert_int_equal(pthread_create(&thread, NULL, flip_header, &f), 0);
		/* late_submit() looks at every request. */
		for (int i = 0; i < 20000; i++) {
			rk_put(d->k, 0, bufs, 4);
			reqkit_poll_one(d);
		}
		write_once(&f.stop, true);
		pthread_join(thread, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_move_data),
		cmocka_unit_test(buffers_may_be_cut_anywhere),
		cmocka_unit_test(get_id_fills_what_there_is_room_for),
		cmocka_unit_test(nothing_to_transfer_is_fine),
		cmocka_unit_test(write_through_makes_writes_durable_and_nothing_else),
		cmocka_unit_test(access_past_the_end_is_an_error),
		cmocka_unit_test(odd_lengths_are_errors),
		cmocka_unit_test(more_than_the_store_takes_at_once_is_an_error),
		cmocka_unit_test(parts_of_a_logical_block_are_errors),
		cmocka_unit_test(unknown_types_are_unsupported),
		cmocka_unit_test(a_read_only_disk_is_not_written),
		cmocka_unit_test(a_short_header_is_an_error),
		cmocka_unit_test(without_a_status_byte_the_chain_comes_back_empty),
		cmocka_unit_test(a_malformed_chain_gets_ioerr_or_comes_back_empty),
		cmocka_unit_test(more_pieces_than_a_slot_holds_are_an_error),
		cmocka_unit_test(requests_end_in_any_order),
		cmocka_unit_test(errors_of_the_store_become_a_status),
		cmocka_unit_test(a_header_that_changes_is_checked_as_it_is_used),
	};

	return cmocka_run_group_tests_name("req", tests, NULL, NULL);
}
