/*
 * Discard, write zeroes and secure erase through vblk_poll(): several ranges of
 * one request, and what is wrong with them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/reqkit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct range {
	uint64_t sector;
	uint32_t nr, flags;
};

static uint8_t ask_ranges(struct reqkit *d, uint32_t type, const struct range *r, unsigned int nr,
			  uint32_t extra)
{
	struct virtio_blk_segment *s = rk_mem(d->k, DATA);

	for (unsigned int i = 0; i < nr; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector), cpu_to_le32(r[i].nr),
						    cpu_to_le32(r[i].flags) };
	return reqkit_ask(d, type, 0, nr * 16 + extra);
}

static bool is_zero(const struct reqkit *d, uint64_t sector, uint32_t nr)
{
	for (uint64_t i = sector * 512; i < (sector + nr) * 512; i++)
		if (d->late.disk[i])
			return false;
	return true;
}

static void several_ranges_are_carried_out(void **state)
{
	static const struct range r[] = {
		{ 1, 3, 0 }, { 100, 0, 0 }, { 1000, 8, 0 }, { 2047, 1, 0 }
	};
	static const struct range unmap[] = { { 500, 2, 1 }, { 600, 2, 0 } };

	for_each_reqkit(d)
	{
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, r, 4, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_DISCARD], 3);
		assert_true(is_zero(d, 1, 3) && is_zero(d, 1000, 8) && is_zero(d, 2047, 1));
		assert_false(is_zero(d, 4, 1) || is_zero(d, 999, 1) || is_zero(d, 100, 1));
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, unmap, 1, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, STORE_REQ_UNMAP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, unmap, 2, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, 0);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_SECURE_ERASE, r, 1, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_SECURE_ERASE], 1);
	}
}

static void reserved_flags_of_ranges_are_unsupported(void **state)
{
	static const struct range unmap = { 0, 1, 1 }, two = { 0, 1, 2 },
				  high = { 0, 1, 0x80000000 };

	for_each_reqkit(d)
	{
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, &unmap, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, &two, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, &two, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, &high, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_SECURE_ERASE, &unmap, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
	}
}

static void wrong_ranges_are_errors_and_none_is_carried_out(void **state)
{
	static const struct range good = { 0, 1, 0 };
	static const struct range bad[] = {
		{ DISK / 512, 1, 0 }, { DISK / 512 - 1, 2, 0 }, { UINT64_MAX, 1, 0 },
		{ 1ull << 55, 1, 0 }, { 0, UINT32_MAX, 0 },	{ 0, DISK / 1024 + 1, 0 },
	};
	struct range nine[9] = { 0 };

	for_each_reqkit(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
			const struct range both[] = { good, bad[i] };

			assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, both, 2, 0),
					 VIRTIO_BLK_S_IOERR);
			assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, both, 2, 0),
					 VIRTIO_BLK_S_IOERR);
		}
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, NULL, 0, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, &good, 1, 1),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, NULL, 0, 15),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, nine, 9, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(d->late.nr_ops[STORE_DISCARD] + d->late.nr_ops[STORE_WRITE_ZEROES],
				 0);
	}
}

static void ranges_that_were_not_negotiated_are_unsupported(void **state)
{
	static const struct range good = { 0, 1, 0 };

	for_each_reqkit(d)
	{
		d->k->vq.conf.features &= ~(reqkit_features() & ~RK_FEATURES);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_SECURE_ERASE, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
	}
}

static void ranges_follow_one_another(void **state)
{
	static const struct range r[] = { { 1, 1, 0 }, { 10, 1, 0 }, { 20, 1, 0 } };
	struct virtio_blk_segment *s;
	const struct rk_buf bufs[] = { { HDR, 16, 0 }, { DATA, 48, 0 }, { STATUS, 1, W } };
	struct reqkit *d = reqkit_open(false, 0, 512);
	uint32_t len;
	uint16_t id;

	d->late.hold = true;
	s = rk_mem(d->k, DATA);
	reqkit_header(d, VIRTIO_BLK_T_DISCARD, 0);
	for (unsigned int i = 0; i < 3; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector),
						    cpu_to_le32(r[i].nr) };
	rk_put(d->k, 5, bufs, 3);
	assert_int_equal(vblk_poll(&d->k->vq), 1);
	/* The guest's second thoughts come too late. */
	memset(s, 0xff, 48);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(d->late.nr_held, i + 1);
		assert_int_equal(d->late.held[i]->offset, r[i].sector * 512);
		assert_false(rk_get(d->k, &id, &len));
		d->late.held[i]->done(d->late.held[i], 0);
		loop_turn(d->loop);
	}
	assert_true(rk_get(d->k, &id, &len));
	assert_int_equal(id, 5);
	assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_OK);
	/* An error ends the row, and the slot is as good as new. */
	reqkit_header(d, VIRTIO_BLK_T_DISCARD, 0);
	for (unsigned int i = 0; i < 3; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector),
						    cpu_to_le32(r[i].nr) };
	rk_put(d->k, 5, bufs, 3);
	assert_int_equal(vblk_poll(&d->k->vq), 1);
	d->late.held[3]->done(d->late.held[3], -EIO);
	loop_turn(d->loop);
	assert_int_equal(d->late.nr_held, 4);
	assert_true(rk_get(d->k, &id, &len));
	assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
	d->late.hold = false;
	assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	reqkit_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(several_ranges_are_carried_out),
		cmocka_unit_test(reserved_flags_of_ranges_are_unsupported),
		cmocka_unit_test(wrong_ranges_are_errors_and_none_is_carried_out),
		cmocka_unit_test(ranges_that_were_not_negotiated_are_unsupported),
		cmocka_unit_test(ranges_follow_one_another),
	};

	return cmocka_run_group_tests_name("range", tests, NULL, NULL);
}
