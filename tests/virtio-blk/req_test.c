/*
 * The request path, vblk_poll(), against a ring in memory: every layout of a
 * request, everything a driver can get wrong, and stores that answer at once,
 * later, or with an error.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "virtio-blk/vblk_internal.h"

#define DISK (1u << 20)
#define UNSET 0xee /* a status byte that nobody wrote */

#define W VIRTQ_DESC_F_WRITE

/* Where the parts of the usual request lie. */
#define HDR KIT_BUF
#define STATUS (KIT_BUF + 0x80)
#define DATA (KIT_BUF + 0x1000)

/* A store that notes what it is asked and ends requests when told to. */
struct late_store {
	struct store store;
	uint8_t disk[DISK];
	struct store_req *held[256];
	unsigned int nr_held;
	bool hold; /* false: like an immediate one that does not say so */
	int answer; /* instead of doing anything, if not 0 */
	uint8_t last_flags;
	unsigned int nr_ops[STORE_OP_CNT];
};

struct dev {
	struct kit *k;
	struct evloop *ev;
	struct loop *loop;
	struct late_store late;
	struct store_chan chan;
	struct vblk blk;
	struct vblk_ring ring;
};

static int carry_out(struct late_store *s, struct store_req *req)
{
	uint8_t *p = s->disk + req->offset;

	if (s->answer)
		return s->answer;
	if (req->op != STORE_READ && req->op != STORE_WRITE) {
		if (req->op != STORE_FLUSH)
			memset(p, 0, req->len);
		return 0;
	}
	for (uint32_t i = 0; i < req->nr_iov; p += req->iov[i++].iov_len) {
		if (req->op == STORE_READ)
			memcpy(req->iov[i].iov_base, p, req->iov[i].iov_len);
		else
			memcpy(p, req->iov[i].iov_base, req->iov[i].iov_len);
	}
	return 0;
}

static int late_submit(struct store_chan *chan, struct store_req *req)
{
	struct late_store *s = container_of(chan->store, struct late_store, store);
	uint64_t sum = 0;

	/* What the owner promises. */
	assert_true(req->op < STORE_OP_CNT);
	assert_true(req->offset <= s->store.info.size);
	assert_true(req->len <= s->store.info.size - req->offset);
	assert_int_equal((req->offset | req->len) % s->store.info.block_size, 0);
	for (uint32_t i = 0; req->op <= STORE_WRITE && i < req->nr_iov; i++)
		sum += req->iov[i].iov_len;
	assert_int_equal(sum, req->op <= STORE_WRITE ? req->len : 0);
	s->last_flags = req->flags;
	s->nr_ops[req->op]++;
	if (!s->hold)
		return carry_out(s, req);
	s->held[s->nr_held++] = req;
	return STORE_QUEUED;
}

static const struct store_ops late_ops = { .scheme = "late", .submit = late_submit };
static const struct store_ops prompt_ops = { .scheme = "prompt",
					     .immediate = true,
					     .submit = late_submit };

static uint64_t all_features(void)
{
	return KIT_FEATURES | 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES |
	       1ull << VIRTIO_BLK_F_SECURE_ERASE;
}

static struct dev *dev_open(bool immediate, uint64_t ring_features, uint32_t block_size)
{
	struct loop_conf lc = { .cpu = -1, .manual = true };
	struct dev *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->k = kit_open(all_features() | ring_features, 256, kit_base(ring_features & KIT_PACKED));
	d->ev = evloop_create();
	lc.ev = d->ev;
	assert_int_equal(loop_create(&lc, &d->loop), 0);
	d->late.store.ops = immediate ? &prompt_ops : &late_ops;
	d->late.store.info = (struct store_info){
		.size = DISK,
		.block_size = block_size,
		.range_max_len = DISK / 2,
		.range_max_nr = 8,
		.caps = STORE_CAN_WRITE | STORE_CAN_DISCARD | STORE_CAN_WRITE_ZEROES,
	};
	for (uint32_t i = 0; i < DISK; i++)
		d->late.disk[i] = (uint8_t)(i * 7 + i / 512);
	d->chan.store = &d->late.store;
	d->blk.store = &d->late.store;
	memcpy(d->blk.serial, "serial-number-20-by!", VIRTIO_BLK_ID_BYTES);
	d->ring = (struct vblk_ring){
		.vq = &d->k->vq,
		.blk = &d->blk,
		.store = &d->late.store,
		.chan = &d->chan,
		.submit = late_submit,
		.immediate = immediate,
		.block_mask = block_size - 1,
		.nr_req = immediate ? 1 : 256,
	};
	d->ring.req = aligned_alloc(CACHE_LINE, d->ring.nr_req * sizeof(*d->ring.req));
	d->ring.iov = calloc((size_t)d->ring.nr_req * VBLK_IOV_MAX, sizeof(*d->ring.iov));
	memset(d->ring.req, 0, d->ring.nr_req * sizeof(*d->ring.req));
	vblk_ring_init(&d->ring);
	d->k->vq.priv = &d->ring;
	d->k->vq.loop = d->loop;
	return d;
}

static void dev_close(struct dev *d)
{
	assert_int_equal(virtq_inflight(&d->k->vq), 0);
	kit_close(d->k);
	loop_destroy(d->loop);
	evloop_destroy(d->ev);
	free(d->ring.req);
	free(d->ring.iov);
	free(d);
}

static void set_header(struct dev *d, uint32_t type, uint64_t sector)
{
	struct virtio_blk_req_hdr hdr = { .type = cpu_to_le32(type),
					  .sector = cpu_to_le64(sector) };

	memcpy(kit_mem(d->k, HDR), &hdr, sizeof(hdr));
	*(uint8_t *)kit_mem(d->k, STATUS) = UNSET;
}

static uint8_t status(const struct dev *d)
{
	return *(uint8_t *)kit_mem(d->k, STATUS);
}

/* Poll, and the chain comes back; its used length. */
static uint32_t poll_one(struct dev *d)
{
	uint32_t len;
	uint16_t id;

	assert_int_equal(vblk_poll(&d->k->vq), 1);
	loop_turn(d->loop);
	assert_true(kit_get(d->k, &id, &len));
	assert_false(kit_get(d->k, &id, &len));
	return len;
}

/* The usual three buffers; the status. */
static uint8_t ask(struct dev *d, uint32_t type, uint64_t sector, uint32_t len)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	const struct kit_buf bufs[] = { { HDR, 16, 0 },
					{ DATA, len, in ? W : 0 },
					{ STATUS, 1, W } };
	const struct kit_buf no_data[] = { { HDR, 16, 0 }, { STATUS, 1, W } };
	uint32_t used;

	set_header(d, type, sector);
	if (len)
		kit_put(d->k, 0, bufs, 3);
	else
		kit_put(d->k, 0, no_data, 2);
	used = poll_one(d);
	if (status(d) == VIRTIO_BLK_S_OK)
		assert_true(used == (in ? (len < 20 || type == VIRTIO_BLK_T_IN ? len + 1
					   : len == 20			       ? 21
									       : 20)
					: 1));
	else
		assert_true(used <= 1);
	return status(d);
}

/* Every test runs with both kinds of store and both kinds of ring. */
struct variant {
	bool immediate;
	uint64_t ring;
};
static const struct variant variants[] = {
	{ true, 0 },
	{ false, 0 },
	{ true, KIT_PACKED },
	{ false, KIT_PACKED },
};

#define for_each_dev(d)                                                                            \
	for (size_t v_ = 0; v_ < ARRAY_SIZE(variants); v_++)                                       \
		for (struct dev *d = dev_open(variants[v_].immediate, variants[v_].ring, 512); d;  \
		     dev_close(d), d = NULL)

/* --- what works -------------------------------------------------------------------- */

static void reads_and_writes_move_data(void **state)
{
	for_each_dev(d)
	{
		uint8_t *data = kit_mem(d->k, DATA);

		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 3, 4096), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, d->late.disk + 3 * 512, 4096);
		memset(data, 0x5a, 1024);
		assert_int_equal(ask(d, VIRTIO_BLK_T_OUT, 8, 1024), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, d->late.disk + 8 * 512, 1024);
		assert_int_equal(d->late.disk[10 * 512], (uint8_t)(10 * 512 * 7 + 10));
		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, DISK / 512 - 1, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(ask(d, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_FLUSH], 1);
	}
}

/* Lay len bytes of one string out in cuts, each in a place of its own. */
static unsigned int lay_out(struct kit_buf *bufs, const uint32_t *cuts, unsigned int nr_cuts,
			    uint64_t base, uint32_t len, uint16_t flags)
{
	unsigned int nr = 0;
	uint32_t done = 0;

	for (unsigned int i = 0; done < len; i++) {
		uint32_t n = i < nr_cuts && cuts[i] < len - done ? cuts[i] : len - done;

		bufs[nr] = (struct kit_buf){ base + 0x2000 * nr + 13 * nr, n, flags };
		nr++;
		done += n;
	}
	return nr;
}

static void scatter(struct dev *d, const struct kit_buf *bufs, unsigned int nr, const uint8_t *from)
{
	for (unsigned int i = 0; i < nr; from += bufs[i++].len)
		memcpy(kit_mem(d->k, bufs[i].addr), from, bufs[i].len);
}

static void gather(struct dev *d, const struct kit_buf *bufs, unsigned int nr, uint8_t *to)
{
	for (unsigned int i = 0; i < nr; to += bufs[i++].len)
		memcpy(to, kit_mem(d->k, bufs[i].addr), bufs[i].len);
}

static void check_layout(struct dev *d, const uint32_t *cuts, unsigned int nr_cuts)
{
	struct virtio_blk_req_hdr hdr = { .type = cpu_to_le32(VIRTIO_BLK_T_OUT),
					  .sector = cpu_to_le64(100) };
	uint8_t out[16 + 1536], in[1536 + 1];
	struct kit_buf bufs[32];
	unsigned int nr;

	memcpy(out, &hdr, 16);
	for (unsigned int i = 16; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 3);
	nr = lay_out(bufs, cuts, nr_cuts, KIT_BUF, sizeof(out), 0);
	scatter(d, bufs, nr, out);
	bufs[nr] = (struct kit_buf){ KIT_NEXT, 1, W };
	kit_put(d->k, 0, bufs, nr + 1);
	assert_int_equal(poll_one(d), 1);
	assert_int_equal(*(uint8_t *)kit_mem(d->k, KIT_NEXT), VIRTIO_BLK_S_OK);
	assert_memory_equal(d->late.disk + 51200, out + 16, 1536);

	hdr.type = cpu_to_le32(VIRTIO_BLK_T_IN);
	memcpy(kit_mem(d->k, KIT_NEXT), &hdr, 16);
	bufs[0] = (struct kit_buf){ KIT_NEXT, 16, 0 };
	nr = lay_out(bufs + 1, cuts, nr_cuts, KIT_BUF, sizeof(in), W);
	memset(in, UNSET, sizeof(in));
	scatter(d, bufs + 1, nr, in);
	kit_put(d->k, 0, bufs, nr + 1);
	assert_int_equal(poll_one(d), sizeof(in));
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

	for_each_dev(d)
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
	for_each_dev(d)
	{
		uint8_t *data = kit_mem(d->k, DATA);

		memset(data, UNSET, 64);
		assert_int_equal(ask(d, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, "serial-number-20-by!", 20);
		memset(data, UNSET, 64);
		assert_int_equal(ask(d, VIRTIO_BLK_T_GET_ID, 0, 7), VIRTIO_BLK_S_OK);
		assert_memory_equal(data, "serial-\xee", 8);
		memset(data, UNSET, 64);
		assert_int_equal(ask(d, VIRTIO_BLK_T_GET_ID, 0, 40), VIRTIO_BLK_S_OK);
		assert_int_equal(data[20], UNSET);
	}
}

static void nothing_to_transfer_is_fine(void **state)
{
	for_each_dev(d)
	{
		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(ask(d, VIRTIO_BLK_T_OUT, 0, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE], 0);
	}
}

static void write_through_makes_writes_durable_and_nothing_else(void **state)
{
	for_each_dev(d)
	{
		assert_int_equal(ask(d, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, 0);
		d->blk.write_through = true;
		assert_int_equal(ask(d, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, STORE_REQ_FUA);
		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
		assert_int_equal(d->late.last_flags, 0);
	}
}

/* --- what is refused ----------------------------------------------------------------- */

/* IOERR, and neither the disk nor the buffer was touched. */
static void assert_ioerr(struct dev *d, uint32_t type, uint64_t sector, uint32_t len)
{
	unsigned int before = d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE];

	memset(kit_mem(d->k, DATA), UNSET, len);
	assert_int_equal(ask(d, type, sector, len), VIRTIO_BLK_S_IOERR);
	assert_int_equal(d->late.nr_ops[STORE_READ] + d->late.nr_ops[STORE_WRITE], before);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(((uint8_t *)kit_mem(d->k, DATA))[i], UNSET);
}

static void access_past_the_end_is_an_error(void **state)
{
	static const uint64_t sectors[] = {
		DISK / 512 - 1, DISK / 512, DISK / 512 + 1,   1ull << 32,     1ull << 54,
		1ull << 55,	1ull << 63, UINT64_MAX / 512, UINT64_MAX - 1, UINT64_MAX,
	};

	for_each_dev(d)
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

	for_each_dev(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			assert_ioerr(d, VIRTIO_BLK_T_IN, 0, lens[i]);
			assert_ioerr(d, VIRTIO_BLK_T_OUT, 0, lens[i]);
		}
	}
}

static void parts_of_a_logical_block_are_errors(void **state)
{
	struct dev *d = dev_open(false, 0, 4096);

	assert_ioerr(d, VIRTIO_BLK_T_IN, 0, 512);
	assert_ioerr(d, VIRTIO_BLK_T_OUT, 8, 2048);
	assert_ioerr(d, VIRTIO_BLK_T_IN, 1, 4096);
	assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 8, 4096), VIRTIO_BLK_S_OK);
	dev_close(d);
}

static void unknown_types_are_unsupported(void **state)
{
	static const uint32_t types[] = {
		2, 3, 5, 7, 9, 10, 12, 15, 16, 24, 0x80000000, UINT32_MAX
	};

	for_each_dev(d)
	{
		for (size_t i = 0; i < ARRAY_SIZE(types); i++)
			assert_int_equal(ask(d, types[i], 0, 512), VIRTIO_BLK_S_UNSUPP);
	}
}

static void a_read_only_disk_is_not_written(void **state)
{
	for_each_dev(d)
	{
		d->late.store.info.caps = 0;
		assert_ioerr(d, VIRTIO_BLK_T_OUT, 0, 512);
		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	}
}

static void a_short_header_is_an_error(void **state)
{
	for_each_dev(d)
	{
		for (uint32_t len = 1; len < 16; len++) {
			const struct kit_buf bufs[] = { { HDR, len, 0 }, { STATUS, 1, W } };

			set_header(d, VIRTIO_BLK_T_FLUSH, 0);
			kit_put(d->k, 0, bufs, 2);
			assert_true(poll_one(d) <= 1);
			assert_int_equal(status(d), VIRTIO_BLK_S_IOERR);
		}
		/* None at all. */
		const struct kit_buf in_only[] = { { DATA, 512, W }, { STATUS, 1, W } };

		set_header(d, 0, 0);
		kit_put(d->k, 0, in_only, 2);
		poll_one(d);
		assert_int_equal(status(d), VIRTIO_BLK_S_IOERR);
	}
}

static void without_a_status_byte_the_chain_comes_back_empty(void **state)
{
	for_each_dev(d)
	{
		const struct kit_buf bufs[] = { { HDR, 16, 0 }, { DATA, 512, 0 } };

		set_header(d, VIRTIO_BLK_T_OUT, 0);
		kit_put(d->k, 0, bufs, 2);
		assert_int_equal(poll_one(d), 0);
		assert_int_equal(d->late.nr_ops[STORE_WRITE], 0);
	}
}

static void a_malformed_chain_gets_ioerr_or_comes_back_empty(void **state)
{
	for_each_dev(d)
	{
		const struct kit_buf hole[] = { { HDR, 16, 0 },
						{ KIT_HOLE, 512, W },
						{ STATUS, 1, W } };
		const struct kit_buf order[] = { { STATUS, 1, W },
						 { HDR, 16, 0 },
						 { DATA, 512, W } };
		const struct kit_buf bad_status[] = { { HDR, 16, 0 },
						      { DATA, 512, W },
						      { KIT_HOLE, 1, W } };

		set_header(d, VIRTIO_BLK_T_IN, 0);
		kit_put(d->k, 0, hole, 3);
		assert_true(poll_one(d) <= 1);
		assert_true(status(d) == VIRTIO_BLK_S_IOERR || status(d) == UNSET);
		kit_put(d->k, 0, order, 3);
		assert_true(poll_one(d) <= 1);
		kit_put(d->k, 0, bad_status, 3);
		assert_int_equal(poll_one(d), 0);
		assert_int_equal(d->late.nr_ops[STORE_READ], 0);
		assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	}
}

static void more_pieces_than_a_slot_holds_are_an_error(void **state)
{
	struct dev *d = dev_open(false, 0, 512);
	struct kit_buf bufs[VBLK_IOV_MAX + 3];
	unsigned int nr = 0;

	set_header(d, VIRTIO_BLK_T_OUT, 0);
	bufs[nr++] = (struct kit_buf){ HDR, 16, 0 };
	while (nr < VBLK_IOV_MAX + 2)
		bufs[nr++] = (struct kit_buf){ DATA, 512, 0 };
	bufs[nr++] = (struct kit_buf){ STATUS, 1, W };
	kit_put(d->k, 0, bufs, nr);
	poll_one(d);
	assert_int_equal(status(d), VIRTIO_BLK_S_IOERR);
	/* And one that just fits. */
	set_header(d, VIRTIO_BLK_T_OUT, 0);
	bufs[VBLK_IOV_MAX + 1] = (struct kit_buf){ STATUS, 1, W };
	kit_put(d->k, 0, bufs, VBLK_IOV_MAX + 2);
	poll_one(d);
	assert_int_equal(status(d), VIRTIO_BLK_S_OK);
	dev_close(d);
}

/* --- ranges ----------------------------------------------------------------------------- */

struct range {
	uint64_t sector;
	uint32_t nr, flags;
};

static uint8_t ask_ranges(struct dev *d, uint32_t type, const struct range *r, unsigned int nr,
			  uint32_t extra)
{
	struct virtio_blk_segment *s = kit_mem(d->k, DATA);

	for (unsigned int i = 0; i < nr; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector), cpu_to_le32(r[i].nr),
						    cpu_to_le32(r[i].flags) };
	return ask(d, type, 0, nr * 16 + extra);
}

static bool is_zero(const struct dev *d, uint64_t sector, uint32_t nr)
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

	for_each_dev(d)
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

	for_each_dev(d)
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

	for_each_dev(d)
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

	for_each_dev(d)
	{
		d->k->vq.conf.features &= ~(all_features() & ~KIT_FEATURES);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_DISCARD, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_WRITE_ZEROES, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ask_ranges(d, VIRTIO_BLK_T_SECURE_ERASE, &good, 1, 0),
				 VIRTIO_BLK_S_UNSUPP);
	}
}

/* --- stores that take time, and fail ------------------------------------------------------- */

static void requests_end_in_any_order(void **state)
{
	struct dev *d = dev_open(false, 0, 512);
	uint32_t len;
	uint16_t id;

	d->late.hold = true;
	set_header(d, VIRTIO_BLK_T_IN, 0);
	for (uint16_t i = 0; i < 8; i++) {
		const struct kit_buf bufs[] = { { HDR, 16, 0 },
						{ DATA + 0x1000 * i, 512, W },
						{ STATUS + i, 1, W } };

		kit_put(d->k, (uint16_t)(i * 4), bufs, 3);
	}
	assert_int_equal(vblk_poll(&d->k->vq), 8);
	assert_int_equal(d->late.nr_held, 8);
	assert_false(kit_get(d->k, &id, &len));
	for (int i = 7; i >= 0; i--) {
		struct store_req *req = d->late.held[i];

		req->done(req, carry_out(&d->late, req));
		loop_turn(d->loop);
		assert_true(kit_get(d->k, &id, &len));
		assert_int_equal(id, i * 4);
		assert_int_equal(len, 513);
		assert_memory_equal(kit_mem(d->k, DATA + 0x1000 * (uint64_t)i), d->late.disk, 512);
	}
	dev_close(d);
}

static void ranges_follow_one_another(void **state)
{
	static const struct range r[] = { { 1, 1, 0 }, { 10, 1, 0 }, { 20, 1, 0 } };
	struct virtio_blk_segment *s;
	const struct kit_buf bufs[] = { { HDR, 16, 0 }, { DATA, 48, 0 }, { STATUS, 1, W } };
	struct dev *d = dev_open(false, 0, 512);
	uint32_t len;
	uint16_t id;

	d->late.hold = true;
	s = kit_mem(d->k, DATA);
	set_header(d, VIRTIO_BLK_T_DISCARD, 0);
	for (unsigned int i = 0; i < 3; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector),
						    cpu_to_le32(r[i].nr) };
	kit_put(d->k, 5, bufs, 3);
	assert_int_equal(vblk_poll(&d->k->vq), 1);
	/* The guest's second thoughts come too late. */
	memset(s, 0xff, 48);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(d->late.nr_held, i + 1);
		assert_int_equal(d->late.held[i]->offset, r[i].sector * 512);
		assert_false(kit_get(d->k, &id, &len));
		d->late.held[i]->done(d->late.held[i], 0);
		loop_turn(d->loop);
	}
	assert_true(kit_get(d->k, &id, &len));
	assert_int_equal(id, 5);
	assert_int_equal(status(d), VIRTIO_BLK_S_OK);
	/* An error ends the row, and the slot is as good as new. */
	set_header(d, VIRTIO_BLK_T_DISCARD, 0);
	for (unsigned int i = 0; i < 3; i++)
		s[i] = (struct virtio_blk_segment){ cpu_to_le64(r[i].sector),
						    cpu_to_le32(r[i].nr) };
	kit_put(d->k, 5, bufs, 3);
	assert_int_equal(vblk_poll(&d->k->vq), 1);
	d->late.held[3]->done(d->late.held[3], -EIO);
	loop_turn(d->loop);
	assert_int_equal(d->late.nr_held, 4);
	assert_true(kit_get(d->k, &id, &len));
	assert_int_equal(status(d), VIRTIO_BLK_S_IOERR);
	d->late.hold = false;
	assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	dev_close(d);
}

static void errors_of_the_store_become_a_status(void **state)
{
	for_each_dev(d)
	{
		static const int errors[] = { -EIO, -ENOSPC, -EINVAL, -EFAULT, -ENOMEM };

		for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
			d->late.answer = errors[i];
			assert_int_equal(ask(d, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_IOERR);
			assert_int_equal(ask(d, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
			assert_int_equal(ask(d, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
		}
		d->late.answer = -EOPNOTSUPP;
		assert_int_equal(ask(d, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_UNSUPP);
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
	for_each_dev(d)
	{
		struct flipper f = { .hdr = kit_mem(d->k, HDR) };
		const struct kit_buf bufs[] = {
			{ HDR, 16, 0 }, { DATA, 512, 0 }, { DATA, 1024, W }, { STATUS, 1, W }
		};
		pthread_t thread;

		set_header(d, VIRTIO_BLK_T_IN, 0);
		assert_int_equal(pthread_create(&thread, NULL, flip_header, &f), 0);
		/* late_submit() looks at every request. */
		for (int i = 0; i < 20000; i++) {
			kit_put(d->k, 0, bufs, 4);
			poll_one(d);
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
		cmocka_unit_test(parts_of_a_logical_block_are_errors),
		cmocka_unit_test(unknown_types_are_unsupported),
		cmocka_unit_test(a_read_only_disk_is_not_written),
		cmocka_unit_test(a_short_header_is_an_error),
		cmocka_unit_test(without_a_status_byte_the_chain_comes_back_empty),
		cmocka_unit_test(a_malformed_chain_gets_ioerr_or_comes_back_empty),
		cmocka_unit_test(more_pieces_than_a_slot_holds_are_an_error),
		cmocka_unit_test(several_ranges_are_carried_out),
		cmocka_unit_test(reserved_flags_of_ranges_are_unsupported),
		cmocka_unit_test(wrong_ranges_are_errors_and_none_is_carried_out),
		cmocka_unit_test(ranges_that_were_not_negotiated_are_unsupported),
		cmocka_unit_test(requests_end_in_any_order),
		cmocka_unit_test(ranges_follow_one_another),
		cmocka_unit_test(errors_of_the_store_become_a_status),
		cmocka_unit_test(a_header_that_changes_is_checked_as_it_is_used),
	};

	return cmocka_run_group_tests_name("req", tests, NULL, NULL);
}
