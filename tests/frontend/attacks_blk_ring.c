/*
 * Malformed chains of disks. Used by attack_test. After each the device
 * must have answered the chain, or have broken the ring and said so on the error
 * descriptor: a head is never lost.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/atomic.h"
#include "core/base.h"
#include "tests/frontend/attacks.h"
#include "tests/frontend/blkdrv.h"

#define HDR_LEN ((uint32_t)sizeof(struct virtio_blk_outhdr))
#define NEXT VIRTQ_DESC_F_NEXT
#define WRITE VIRTQ_DESC_F_WRITE
#define INDIRECT VIRTQ_DESC_F_INDIRECT

/* Guest memory for an attack: a header, data and a status. */
struct prey {
	uint64_t hdr, data, status, table;
	uint8_t *status_p;
};

static struct prey prepare(struct victim *v)
{
	struct prey p;
	struct virtio_blk_outhdr *h;

	p.hdr = fe_alloc(v->fe, v->region, 4096, 4096);
	p.data = fe_alloc(v->fe, v->region, 65536, 4096);
	p.table = fe_alloc(v->fe, v->region, 4096, 4096);
	assert_true(p.hdr && p.data && p.table);
	p.status = p.hdr + 64;
	h = fe_ptr(v->fe, p.hdr, sizeof(*h));
	*h = (struct virtio_blk_outhdr){ .type = htole32(VIRTIO_BLK_T_IN) };
	p.status_p = fe_ptr(v->fe, p.status, 1);
	*p.status_p = BLK_S_UNSET;
	return p;
}

/* Answered with this status in its byte. */
static void assert_status(struct victim *v, const struct prey *p, uint8_t status)
{
	attack_assert_reaction(v);
	assert_true(attack_is_used(v));
	assert_int_equal(read_once(p->status_p), status);
}

/* --- chains ------------------------------------------------------------------- */

static void no_status_byte(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, 0 } };

	attack_chain(v, d, 1);
	assert_true(attack_is_used(v));
}

static void header_too_short(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN - 1, NEXT }, { p.status, 1, WRITE } };

	attack_offer(v, d, 2);
	assert_status(v, &p, VIRTIO_BLK_S_IOERR);
}

static void only_a_status_byte(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.status, 1, WRITE } };

	attack_chain(v, d, 1);
}

static void writable_before_readable(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.status, 1, WRITE | NEXT }, { p.hdr, HDR_LEN, 0 } };

	attack_chain(v, d, 2);
}

static void data_outside_of_memory(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { 1ull << 50, 4096, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 3);
}

static void data_over_the_end_of_memory(struct victim *v)
{
	struct prey p = prepare(v);
	struct fe_region *r = &v->fe->region[v->region];
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { r->gpa + r->size - 512, 4096, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 3);
}

static void address_that_wraps(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { UINT64_MAX - 511, 4096, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 3);
}

static void four_gigabytes_in_one_descriptor(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { p.data, UINT32_MAX, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 3);
}

static void lengths_whose_sum_wraps(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { p.data, 0x80000000, WRITE | NEXT },
				 { p.data, 0x80000000, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 4);
}

static void empty_descriptors(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { 1ull << 60, 0, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 3);
}

static void odd_data_length(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT },
				 { p.data, 513, WRITE | NEXT },
				 { p.status, 1, WRITE } };

	attack_offer(v, d, 3);
	assert_status(v, &p, VIRTIO_BLK_S_IOERR);
}

static void every_flag_at_once(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT | WRITE | INDIRECT | 0x7f00 },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 2);
}

/* --- indirect tables -------------------------------------------------------------- */

/* A table with a good request in it, len bytes of which are offered. */
static uint64_t fill_table(struct victim *v, const struct prey *p)
{
	const bool packed = v->ring[0]->packed;
	const struct raw d[] = { { p->hdr, HDR_LEN, NEXT },
				 { p->data, 512, WRITE | NEXT },
				 { p->status, 1, WRITE } };

	for (uint16_t i = 0; i < ARRAY_SIZE(d); i++) {
		if (packed)
			((struct pvirtq_desc *)fe_ptr(v->fe, p->table, 4096))[i] =
				(struct pvirtq_desc){ cpu_to_le64(d[i].gpa), cpu_to_le32(d[i].len),
						      cpu_to_le16(0),
						      cpu_to_le16(d[i].flags & WRITE) };
		else
			((struct virtq_desc *)fe_ptr(v->fe, p->table, 4096))[i] =
				(struct virtq_desc){ cpu_to_le64(d[i].gpa), cpu_to_le32(d[i].len),
						     cpu_to_le16(d[i].flags),
						     cpu_to_le16((uint16_t)(i + 1)) };
	}
	return p->table;
}

static void a_good_table_is_served(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 48, INDIRECT } };

	attack_offer(v, d, 1);
	assert_status(v, &p, VIRTIO_BLK_S_OK);
}

static void table_of_no_length(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 0, INDIRECT } };

	attack_chain(v, d, 1);
}

static void table_of_half_a_descriptor(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 40, INDIRECT } };

	attack_chain(v, d, 1);
}

static void table_that_is_huge(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 0xfffffff0, INDIRECT } };

	attack_chain(v, d, 1);
}

static void table_within_a_table(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 48, INDIRECT } };
	uint8_t *table = fe_ptr(v->fe, p.table, 48);

	/* Flags are at the end of a packed descriptor, before next on a split one. */
	table[v->ring[0]->packed ? 14 : 12] |= INDIRECT;
	attack_chain(v, d, 1);
}

static void table_with_a_next(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 48, INDIRECT | NEXT },
				 { p.status, 1, WRITE } };

	attack_chain(v, d, 2);
}

static void table_whose_chain_is_a_circle(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 48, INDIRECT } };

	if (!v->ring[0]->packed)
		((struct virtq_desc *)fe_ptr(v->fe, p.table, 48))[1].next = cpu_to_le16(1);
	attack_chain(v, d, 1);
}

static void table_whose_chain_leaves_it(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { fill_table(v, &p), 48, INDIRECT } };

	if (!v->ring[0]->packed)
		((struct virtq_desc *)fe_ptr(v->fe, p.table, 48))[1].next = cpu_to_le16(40000);
	attack_chain(v, d, 1);
}

/* --- rings ------------------------------------------------------------------------- */

/* Split: to itself. Packed: every descriptor of the ring has a next one. */
static void chain_without_an_end(struct victim *v)
{
	struct raw d[ATTACK_RING_SIZE];
	struct prey p = prepare(v);

	for (unsigned int i = 0; i < ATTACK_RING_SIZE; i++)
		d[i] = (struct raw){ p.hdr, HDR_LEN, NEXT };
	d[ATTACK_RING_SIZE - 1].next = 1;
	attack_chain(v, d, ATTACK_RING_SIZE);
}

static void next_or_id_out_of_range(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT, ATTACK_RING_SIZE + 7 } };
	struct drv_ring *r = v->ring[0];

	if (!r->packed) {
		attack_chain(v, d, 1);
		return;
	}
	drv_raw_packed(r, 0, p.status, 1, 60000, WRITE, true);
	drv_kick(r);
	attack_assert_reaction(v);
}

/* The same head or id, twice in the device's hands. */
static void one_head_twice(struct victim *v)
{
	struct prey p = prepare(v);
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT }, { p.status, 1, WRITE } };
	struct drv_ring *r = v->ring[0];

	if (r->packed) {
		for (uint16_t i = 0; i < 32; i++)
			drv_raw_packed(r, 31 - i, p.status, 1, 5, WRITE, true);
		drv_kick(r);
	} else {
		for (uint16_t i = 0; i < 32; i++)
			drv_raw_avail(r, i, 0);
		attack_offer(v, d, 2);
		drv_raw_avail_idx(r, 32);
		drv_kick(r);
	}
	usleep(20000);
}

/* Rewrites descriptors as fast as it can while the device reads them. */
static void a_driver_that_rewrites_what_is_read(struct victim *v)
{
	struct prey p = prepare(v);
	struct drv_ring *r = v->ring[0];
	const struct raw good[] = { { p.hdr, HDR_LEN, NEXT },
				    { p.data, 512, WRITE | NEXT },
				    { p.status, 1, WRITE } };
	uint32_t seed = 1;

	attack_offer(v, good, 3);
	for (unsigned int i = 0; i < 200000; i++) {
		uint16_t pos = fe_random(&seed) % 3;
		uint64_t gpa = fe_random(&seed) & 1 ? good[pos].gpa : fe_random(&seed);
		uint32_t len = fe_random(&seed) & 1 ? good[pos].len : fe_random(&seed);

		if (r->packed) {
			drv_raw_packed(r, pos, gpa, len, (uint16_t)fe_random(&seed),
				       fe_random(&seed) & 7, fe_random(&seed) & 1);
		} else {
			drv_raw_desc(r, pos, gpa, len, fe_random(&seed) & 7,
				     (uint16_t)fe_random(&seed) % 4);
			drv_raw_avail_idx(r, (uint16_t)(i / 64));
		}
		if (i % 1024 == 0)
			drv_kick(r);
	}
}

/* The used ring and the device's wishes are the front-end's memory too. */
static void a_driver_that_rewrites_what_is_the_device_s(struct victim *v)
{
	struct prey p = prepare(v);
	struct drv_ring *r = v->ring[0];
	const struct raw d[] = { { p.hdr, HDR_LEN, NEXT }, { p.status, 1, WRITE } };
	uint64_t len = r->packed ? 4 : 6 + 8 * ATTACK_RING_SIZE;

	memset(fe_ptr(v->fe, r->device_gpa, len), 0xff, len);
	attack_offer(v, d, 2);
	usleep(10000);
	memset(fe_ptr(v->fe, r->device_gpa, len), 0xff, len);
	drv_kick(r);
	usleep(10000);
}

const struct attack attacks_device[] = {
	ATTACK_BOTH(no_status_byte),
	ATTACK_BOTH(header_too_short),
	ATTACK_BOTH(only_a_status_byte),
	ATTACK_BOTH(writable_before_readable),
	ATTACK_BOTH(data_outside_of_memory),
	ATTACK_BOTH(data_over_the_end_of_memory),
	ATTACK_BOTH(address_that_wraps),
	ATTACK_BOTH(four_gigabytes_in_one_descriptor),
	ATTACK_BOTH(lengths_whose_sum_wraps),
	ATTACK_BOTH(empty_descriptors),
	ATTACK_BOTH(odd_data_length),
	ATTACK_BOTH(every_flag_at_once),
	ATTACK_BOTH(a_good_table_is_served),
	ATTACK_BOTH(table_of_no_length),
	ATTACK_BOTH(table_of_half_a_descriptor),
	ATTACK_BOTH(table_that_is_huge),
	ATTACK_BOTH(table_within_a_table),
	ATTACK_BOTH(table_with_a_next),
	ATTACK_BOTH(table_whose_chain_is_a_circle),
	ATTACK_BOTH(table_whose_chain_leaves_it),
	ATTACK_BOTH(chain_without_an_end),
	ATTACK_BOTH(next_or_id_out_of_range),
	ATTACK_BOTH(one_head_twice),
	ATTACK_BOTH(a_driver_that_rewrites_what_is_read),
	ATTACK_BOTH(a_driver_that_rewrites_what_is_the_device_s),
	{ 0 },
};
