/*
 * See reqkit.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/reqkit.h"

#include <stdlib.h>
#include <string.h>

int reqkit_carry_out(struct late_store *s, struct store_req *req)
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
		return reqkit_carry_out(s, req);
	s->held[s->nr_held++] = req;
	return STORE_QUEUED;
}

static const struct store_ops late_ops = { .scheme = "late", .submit = late_submit };
static const struct store_ops prompt_ops = { .scheme = "prompt",
					     .immediate = true,
					     .submit = late_submit };

uint64_t reqkit_features(void)
{
	return RK_FEATURES | 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES |
	       1ull << VIRTIO_BLK_F_SECURE_ERASE;
}

struct reqkit *reqkit_open(bool immediate, uint64_t ring_features, uint32_t block_size)
{
	struct loop_conf lc = { .cpu = -1, .manual = true };
	struct reqkit *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->k = rk_open(reqkit_features() | ring_features, 256, rk_base(ring_features & RK_PACKED));
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
		.len_max = UINT64_MAX,
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

void reqkit_close(struct reqkit *d)
{
	assert_int_equal(virtq_inflight(&d->k->vq), 0);
	rk_close(d->k);
	loop_destroy(d->loop);
	evloop_destroy(d->ev);
	free(d->ring.req);
	free(d->ring.iov);
	free(d);
}

void reqkit_header(struct reqkit *d, uint32_t type, uint64_t sector)
{
	struct virtio_blk_req_hdr hdr = { .type = cpu_to_le32(type),
					  .sector = cpu_to_le64(sector) };

	memcpy(rk_mem(d->k, HDR), &hdr, sizeof(hdr));
	*(uint8_t *)rk_mem(d->k, STATUS) = UNSET;
}

uint8_t reqkit_status(const struct reqkit *d)
{
	return *(uint8_t *)rk_mem(d->k, STATUS);
}

/* Poll, and the chain comes back; its used length. */
uint32_t reqkit_poll_one(struct reqkit *d)
{
	uint32_t len;
	uint16_t id;

	assert_int_equal(vblk_poll(&d->k->vq), 1);
	loop_turn(d->loop);
	assert_true(rk_get(d->k, &id, &len));
	assert_false(rk_get(d->k, &id, &len));
	return len;
}

/* The usual three buffers; the status. */
uint8_t reqkit_ask(struct reqkit *d, uint32_t type, uint64_t sector, uint32_t len)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	const struct rk_buf bufs[] = { { HDR, 16, 0 },
				       { DATA, len, in ? W : 0 },
				       { STATUS, 1, W } };
	const struct rk_buf no_data[] = { { HDR, 16, 0 }, { STATUS, 1, W } };
	uint32_t used;

	reqkit_header(d, type, sector);
	if (len)
		rk_put(d->k, 0, bufs, 3);
	else
		rk_put(d->k, 0, no_data, 2);
	used = reqkit_poll_one(d);
	if (reqkit_status(d) == VIRTIO_BLK_S_OK)
		assert_true(used == (in ? (len < 20 || type == VIRTIO_BLK_T_IN ? len + 1
					   : len == 20			       ? 21
									       : 20)
					: 1));
	else
		assert_true(used <= 1);
	return reqkit_status(d);
}

const struct reqkit_variant reqkit_variants[REQKIT_VARIANTS] = {
	{ true, 0 },
	{ false, 0 },
	{ true, RK_PACKED },
	{ false, RK_PACKED },
};
