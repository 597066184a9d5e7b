/*
 * The block request parser: chains whose layout, header and ranges come from
 * fuzz bytes, on both ring kinds, in front of a store that checks what it is
 * given and ends requests when and how the input says, or at once.
 *
 * Must hold: the store is only asked for whole blocks within the device and
 * with buffers in guest memory of that length; every request ends, once; no
 * chain is lost.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz_ring.h"
#include "virtio-blk/vblk_internal.h"

#define DISK_LEN (1u << 20)
#define TURNS_MAX 2000

/* --- a store that checks ------------------------------------------------------------- */

struct check_store {
	struct store store; /* first */
	struct fuzz_ring *ring;
	struct store_chan chan;
	struct store_req *queue[1500]; /* not ended */
	unsigned int nr_queued;
	uint8_t manners; /* how requests end */
};

static int result_of(uint8_t manners)
{
	static const int results[] = { 0, 0, 0, 0, 0, -EIO, -EOPNOTSUPP, -ENOSPC };

	return results[manners % ARRAY_SIZE(results)];
}

/* As a disk would, so that a bad pointer is seen. */
static void touch(const struct store_req *req)
{
	for (uint32_t i = 0; i < req->nr_iov; i++) {
		volatile uint8_t *p = req->iov[i].iov_base;

		if (req->op == STORE_READ)
			memset(req->iov[i].iov_base, 0x5a, req->iov[i].iov_len);
		for (size_t n = 0; n < req->iov[i].iov_len; n++)
			(void)p[n];
	}
}

static void check_request(const struct check_store *s, const struct store_req *req)
{
	const struct store_info *info = &s->store.info;
	bool is_data = req->op == STORE_READ || req->op == STORE_WRITE;

	assert(req->op < STORE_OP_CNT);
	if (req->op == STORE_FLUSH)
		return;
	assert(req->op == STORE_READ || info->caps & STORE_CAN_WRITE);
	assert(req->len && req->offset <= info->size && req->len <= info->size - req->offset);
	assert(!((req->offset | req->len) % info->block_size));
	if (!is_data) {
		assert(req->len <= info->range_max_len);
		return;
	}
	assert(req->nr_iov && (s->store.ops->immediate || req->nr_iov <= VBLK_IOV_MAX));
	fuzz_check_iov(s->ring, req->iov, req->nr_iov, req->len);
	touch(req);
}

static int submit_at_once(struct store_chan *chan, struct store_req *req)
{
	struct check_store *s = container_of(chan, struct check_store, chan);

	check_request(s, req);
	return result_of(s->manners);
}

static int submit_queued(struct store_chan *chan, struct store_req *req)
{
	struct check_store *s = container_of(chan, struct check_store, chan);

	check_request(s, req);
	if (s->manners & 0x80)
		return result_of(s->manners);
	for (unsigned int i = 0; i < s->nr_queued; i++)
		assert(s->queue[i] != req);
	assert(s->nr_queued < s->ring->size);
	s->queue[s->nr_queued++] = req;
	return STORE_QUEUED;
}

static const struct store_ops ops_at_once = { .scheme = "check",
					      .immediate = true,
					      .submit = submit_at_once },
			      ops_queued = { .scheme = "check", .submit = submit_queued };

/* One request ends; what its done() submits comes last in the queue. */
static void end_one(struct check_store *s, unsigned int which, int res)
{
	struct store_req *req;

	if (!s->nr_queued)
		return;
	which %= s->nr_queued;
	req = s->queue[which];
	s->queue[which] = s->queue[--s->nr_queued];
	if (req->op == STORE_READ || req->op == STORE_WRITE)
		fuzz_check_iov(s->ring, req->iov, req->nr_iov, req->len);
	req->done(req, res);
}

/* --- the device ------------------------------------------------------------------------ */

struct world {
	struct fuzz_ring r;
	struct check_store store;
	struct vblk blk;
	struct vblk_ring ring;
	struct loop *loop;
};

/* What vblk.c does when a ring starts. */
static void open_device(struct world *w, struct fuzz_input *in)
{
	const struct loop_conf lc = { .cpu = -1, .manual = true };
	uint8_t kind = fuzz_u8(in);
	uint64_t features = 0;

	for (int bit = VIRTIO_BLK_F_DISCARD; bit <= VIRTIO_BLK_F_SECURE_ERASE; bit++)
		features |= kind & 1 ? 1ull << bit : 0;
	fuzz_ring_open(&w->r, in, kind & 2, features);
	assert(!loop_create(&lc, &w->loop));
	w->r.vq.loop = w->loop;
	w->store.ring = &w->r;
	w->store.store = (struct store){
		.ops = kind & 4 ? &ops_queued : &ops_at_once,
		.info = {
			.size = DISK_LEN,
			.block_size = kind & 8 ? 4096 : 512,
			.physical_block_size = 4096,
			.range_max_len = DISK_LEN / 2,
			.range_max_nr = kind & 16 ? VBLK_RANGES_MAX : 4,
			.caps = kind & 32 ? STORE_CAN_WRITE | STORE_CAN_DISCARD |
						    STORE_CAN_WRITE_ZEROES |
						    STORE_CAN_SECURE_ERASE :
					    0,
		},
	};
	/* Ranges are only offered where they can be served. */
	if (!(kind & 32))
		w->r.vq.conf.features &= ~features;
	w->blk.store = &w->store.store;
	w->blk.write_through = kind & 64;
	memcpy(w->blk.serial, "fuzz", 4);
	w->ring = (struct vblk_ring){
		.vq = &w->r.vq,
		.blk = &w->blk,
		.store = &w->store.store,
		.chan = &w->store.chan,
		.submit = w->store.store.ops->submit,
		.immediate = w->store.store.ops->immediate,
		.block_mask = w->store.store.info.block_size - 1,
		.len_max = UINT64_MAX,
		.nr_req = w->store.store.ops->immediate ? 1 : w->r.size,
	};
	w->ring.req = aligned_alloc(CACHE_LINE, w->ring.nr_req * sizeof(*w->ring.req));
	w->ring.iov = calloc((size_t)w->ring.nr_req * VBLK_IOV_MAX, sizeof(*w->ring.iov));
	assert(w->ring.req && w->ring.iov);
	memset(w->ring.req, 0, w->ring.nr_req * sizeof(*w->ring.req));
	vblk_ring_init(&w->ring);
	w->r.vq.priv = &w->ring;
}

/* Everything that was started ends, whatever the driver wrote. */
static void drain(struct world *w)
{
	/* A request is VBLK_RANGES_MAX operations at most. */
	unsigned int steps = w->r.size * VBLK_RANGES_MAX + 1;

	while (w->store.nr_queued) {
		assert(steps--);
		end_one(&w->store, 0, 0);
	}
	loop_turn(w->loop);
	virtq_flush(&w->r.vq);
	assert(!virtq_inflight(&w->r.vq));
}

static void close_device(struct world *w)
{
	drain(w);
	loop_destroy(w->loop);
	fuzz_ring_close(&w->r);
	free(w->ring.req);
	free(w->ring.iov);
}

/* --- requests ---------------------------------------------------------------------------- */

static uint64_t take_sector(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);

	if (kind < 160)
		return fuzz_u8(in) * 8;
	if (kind < 200)
		return (DISK_LEN >> VIRTIO_BLK_SECTOR_SHIFT) - fuzz_u8(in);
	if (kind < 240)
		return UINT64_MAX - fuzz_u8(in);
	return fuzz_u64(in);
}

static void write_ranges(struct world *w, struct fuzz_input *in, uint64_t addr, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct virtio_blk_segment s = { .sector = cpu_to_le64(take_sector(in)) };
		uint8_t *to = fuzz_ram(&w->r, addr + i * sizeof(s), sizeof(s));
		uint8_t kind = fuzz_u8(in);

		s.num_sectors = cpu_to_le32(kind < 200 ? kind % 32 * 8 : fuzz_u32(in));
		s.flags = cpu_to_le32(kind & 1 ? fuzz_u8(in) % 4 : 0);
		if (to)
			memcpy(to, &s, sizeof(s));
	}
}

/* A request that could come from a driver, but for what the input says. Header,
 * data and status lie one after the other in RAM; where the borders between
 * descriptors are is the input's choice. */
static void put_request(struct world *w, struct fuzz_input *in)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN,	    VIRTIO_BLK_T_OUT,
					  VIRTIO_BLK_T_FLUSH,	    VIRTIO_BLK_T_GET_ID,
					  VIRTIO_BLK_T_DISCARD,	    VIRTIO_BLK_T_WRITE_ZEROES,
					  VIRTIO_BLK_T_SECURE_ERASE };
	static const uint32_t lens[] = { 512, 4096, 1024, 0, 20, 1, 8192, 513 };
	uint8_t type = fuzz_u8(in), len_kind = fuzz_u8(in), cuts = fuzz_u8(in);
	uint64_t addr = FUZZ_RAM + fuzz_u8(in) % 64 * 16;
	struct virtio_blk_req_hdr hdr = {
		.type = cpu_to_le32(type < 250 ? types[type % ARRAY_SIZE(types)] : fuzz_u32(in)),
		.sector = cpu_to_le64(take_sector(in)),
	};
	uint16_t id = (uint16_t)(fuzz_u8(in) % w->r.size);
	unsigned int nr_ranges = len_kind % 32, nr = 0;
	bool is_ranges = le32_to_cpu(hdr.type) >= VIRTIO_BLK_T_DISCARD;
	uint32_t len = is_ranges ? nr_ranges * 16 : lens[len_kind % ARRAY_SIZE(lens)];
	uint32_t out_len = sizeof(hdr), in_len = 1;
	struct fuzz_buf bufs[FUZZ_CHAIN_MAX];

	memcpy(fuzz_ram(&w->r, addr, sizeof(hdr)), &hdr, sizeof(hdr));
	if (is_ranges)
		write_ranges(w, in, addr + sizeof(hdr), nr_ranges);
	if (is_ranges || le32_to_cpu(hdr.type) == VIRTIO_BLK_T_OUT)
		out_len += len;
	else
		in_len += len;
	/* Pieces of the readable part, then of the writable one. */
	while (nr < FUZZ_CHAIN_MAX - 1 && (out_len || in_len)) {
		uint32_t *left = out_len ? &out_len : &in_len, piece = *left;
		bool last = nr == FUZZ_CHAIN_MAX - 2;

		if (!last && cuts >> nr % 8 & 1)
			piece = 1 + fuzz_u8(in) % piece;
		bufs[nr++] = (struct fuzz_buf){ addr, piece, out_len ? 0 : VIRTQ_DESC_F_WRITE };
		addr += piece;
		*left -= piece;
	}
	if (nr > w->r.size || fuzz_u8(in) & 1)
		fuzz_ring_put_indirect(&w->r, id, FUZZ_RAM + FUZZ_RAM_LEN - 1024, bufs, nr);
	else
		fuzz_ring_put(&w->r, id, bufs, nr);
}

static void step(struct world *w, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);

	switch (kind % 8) {
	case 0:
	case 1:
	case 2:
		put_request(w, in);
		break;
	case 3:
		fuzz_ring_step(&w->r, in);
		break;
	case 4:
	case 5:
		vblk_poll(&w->r.vq);
		loop_turn(w->loop);
		break;
	case 6:
		w->store.manners = fuzz_u8(in);
		break;
	default:
		end_one(&w->store, fuzz_u8(in), result_of(fuzz_u8(in)));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct world *w = calloc(1, sizeof(*w));

	assert(w);
	open_device(w, &in);
	for (unsigned int i = 0; i < TURNS_MAX && in.left; i++)
		step(w, &in);
	vblk_poll(&w->r.vq);
	close_device(w);
	free(w);
	return 0;
}
