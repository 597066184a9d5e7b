/*
 * virtio-blk requests over the driver half: set-up of a whole device, layouts,
 * submission and completion. Called by tests. Never judges a status: that is
 * for the test to do.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/frontend/blkdrv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"

#define HDR_LEN ((uint32_t)sizeof(struct virtio_blk_outhdr))
#define PIECES_MAX 24 /* of one string in a random layout */
#define GAP_MAX 64
#define MEM_DEFAULT (64ull << 20)

static uint64_t wanted_features(const struct blk_conf *c)
{
	uint64_t f = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_BLK_F_SIZE_MAX |
		     1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_RO |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH |
		     1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_CONFIG_WCE |
		     1ull << VIRTIO_BLK_F_MQ | 1ull << VIRTIO_BLK_F_DISCARD |
		     1ull << VIRTIO_BLK_F_WRITE_ZEROES | 1ull << VIRTIO_BLK_F_SECURE_ERASE;

	if (c->packed)
		f |= 1ull << VIRTIO_F_RING_PACKED;
	if (c->event_idx)
		f |= 1ull << VIRTIO_F_RING_EVENT_IDX;
	if (c->in_order)
		f |= 1ull << VIRTIO_F_IN_ORDER;
	if (c->iommu)
		f |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
	if (c->indirect)
		f |= 1ull << VIRTIO_F_RING_INDIRECT_DESC;
	return f & ~c->without;
}

static uint64_t wanted_proto(const struct blk_conf *c)
{
	uint64_t p = 1ull << FE_PROTO_MQ | 1ull << FE_PROTO_REPLY_ACK |
		     1ull << FE_PROTO_BACKEND_REQ | 1ull << FE_PROTO_CONFIG |
		     1ull << FE_PROTO_CONFIGURE_MEM_SLOTS | 1ull << FE_PROTO_RESET_DEVICE |
		     1ull << FE_PROTO_STATUS;

	if (c->inflight)
		p |= 1ull << FE_PROTO_INFLIGHT_SHMFD;
	return p & ~c->proto_without;
}

/* Everything up to the rings. */
static int greet(struct blk *b)
{
	uint64_t queues = 1;
	int err;

	err = fe_negotiate(&b->fe, wanted_features(&b->conf), wanted_proto(&b->conf));
	if (!err && fe_has_proto(&b->fe, FE_PROTO_MQ))
		err = fe_get_u64(&b->fe, FE_GET_QUEUE_NUM, &queues);
	if (!err && queues < b->conf.queues)
		err = -ERANGE;
	if (!err && fe_has_proto(&b->fe, FE_PROTO_CONFIG))
		err = fe_get_config(&b->fe, 0, &b->config, sizeof(b->config));
	if (!err)
		err = fe_mem_share(&b->fe);
	if (err || !fe_has_proto(&b->fe, FE_PROTO_INFLIGHT_SHMFD))
		return err;
	if (b->inflight_fd < 0)
		err = fe_get_inflight(&b->fe, (uint16_t)b->conf.queues, b->conf.queue_size,
				      &b->inflight, &b->inflight_fd);
	return err ? err : fe_set_inflight(&b->fe, &b->inflight, b->inflight_fd);
}

int blk_open(struct blk *b, const struct blk_conf *conf)
{
	struct drv_conf ring = { .size = conf->queue_size, .indirect = conf->indirect };
	int err;

	memset(b, 0, sizeof(*b));
	b->conf = *conf;
	b->inflight_fd = -1;
	fe_init(&b->fe);
	b->fe.pump = conf->pump;
	b->fe.pump_opaque = conf->pump_opaque;
	b->region = fe_mem_new(&b->fe, conf->mem ? conf->mem : MEM_DEFAULT);
	err = b->region < 0 ? b->region : 0;
	if (!err && conf->path)
		err = fe_connect(&b->fe, conf->path);
	else if (!err)
		fe_attach(&b->fe, conf->sock);
	if (!err)
		err = greet(b);
	ring.region = b->region;
	for (; !err && b->queues < conf->queues; b->queues++) {
		err = drv_create(&b->ring[b->queues], &b->fe, b->queues, &ring);
		if (err)
			break;
		err = drv_start(&b->ring[b->queues]);
	}
	if (err)
		blk_abandon(b);
	return err;
}

void blk_abandon(struct blk *b)
{
	for (unsigned int i = 0; i < BLK_QUEUES_MAX; i++)
		drv_destroy(&b->ring[i]);
	b->queues = 0;
	fe_close(&b->fe);
	if (b->inflight_fd >= 0)
		close(b->inflight_fd);
	b->inflight_fd = -1;
}

int blk_close(struct blk *b)
{
	int first = 0, err;

	for (unsigned int i = 0; i < b->queues; i++) {
		err = drv_stop(&b->ring[i]);
		if (!first)
			first = err;
	}
	blk_abandon(b);
	return first;
}

int blk_reconnect(struct blk *b)
{
	int err = fe_connect(&b->fe, b->conf.path);

	if (!err)
		err = greet(b);
	for (unsigned int i = 0; !err && i < b->queues; i++)
		err = drv_start(&b->ring[i]);
	return err;
}

int blk_take_up(struct blk *b)
{
	int err;

	fe_disconnect(&b->fe);
	err = fe_connect(&b->fe, b->conf.path);
	if (!err)
		err = greet(b);
	for (unsigned int i = 0; !err && i < b->queues; i++) {
		struct drv_ring *r = &b->ring[i];

		/* It reads the used index, and has nothing to read of a packed ring. */
		err = drv_start_at(r, r->packed ? 0x80008000 : le16toh(r->used->idx.wire));
	}
	return err;
}

int blk_req_init(struct blk_req *req, struct blk *b, int region, uint32_t data_max)
{
	memset(req, 0, sizeof(*req));
	req->blk = b;
	req->data_max = data_max;
	req->area_len =
		(uint32_t)round_up(HDR_LEN + data_max + 2 * PIECES_MAX * GAP_MAX, 4096) + 4096;
	req->area_gpa = fe_alloc(&b->fe, region, req->area_len, 4096);
	if (!req->area_gpa)
		return -ENOSPC;
	req->area = fe_ptr(&b->fe, req->area_gpa, req->area_len);
	return 0;
}

static struct drv_buf *put_buf(struct blk_req *req, unsigned int i, uint32_t at, uint32_t len)
{
	req->bufs[i] = (struct drv_buf){ .gpa = req->area_gpa + at, .len = len };
	return &req->bufs[i];
}

/* Header, data if there is any, status: aligned as a guest's would be. */
static void layout_usual(struct blk_req *req)
{
	unsigned int n = 0;

	put_buf(req, n++, 0, HDR_LEN);
	if (req->out_len)
		put_buf(req, n++, 4096, req->out_len);
	req->nr_out = n;
	if (req->in_len)
		put_buf(req, n++, 4096, req->in_len);
	put_buf(req, n++, HDR_LEN, 1);
	req->nr_in = n - req->nr_out;
}

/* Cut len bytes into pieces with gaps between, from *at on: how many. */
static unsigned int cut(struct blk_req *req, unsigned int first, uint32_t len, uint32_t *at,
			uint32_t *seed)
{
	unsigned int n = 0;
	uint32_t piece;

	while (len) {
		piece = n + 1 == PIECES_MAX ? len : 1 + fe_random(seed) % len;
		/* Small pieces often: they split the header and the last sector. */
		if (n + 1 < PIECES_MAX && fe_random(seed) % 3 == 0)
			piece = (uint32_t)min_u64(piece, 1 + fe_random(seed) % 20);
		*at += fe_random(seed) % GAP_MAX;
		put_buf(req, first + n++, *at, piece);
		*at += piece;
		len -= piece;
	}
	return n;
}

static void layout_random(struct blk_req *req)
{
	uint32_t seed = req->layout_seed, at = 0;

	req->nr_out = cut(req, 0, HDR_LEN + req->out_len, &at, &seed);
	req->nr_in = cut(req, req->nr_out, req->in_len + 1, &at, &seed);
}

/*
 * Copy between the pieces of one string and one side of it: skip bytes of the
 * string, then len bytes from or to buf.
 */
static void copy(struct blk_req *req, unsigned int first, unsigned int nr, uint32_t skip, void *buf,
		 uint32_t len, bool to_guest)
{
	uint32_t off, n, done = 0;
	uint8_t *p;

	for (unsigned int i = first; i < first + nr && done < len; i++) {
		off = (uint32_t)min_u64(skip, req->bufs[i].len);
		skip -= off;
		n = (uint32_t)min_u64(req->bufs[i].len - off, len - done);
		p = req->area + (req->bufs[i].gpa - req->area_gpa) + off;
		if (to_guest)
			memcpy(p, (uint8_t *)buf + done, n);
		else
			memcpy((uint8_t *)buf + done, p, n);
		done += n;
	}
}

int blk_add(struct blk_req *req)
{
	struct virtio_blk_outhdr hdr = {
		.type = htole32(req->type),
		.sector = htole64(req->sector),
	};
	uint8_t unset = BLK_S_UNSET;
	int id;

	if (req->out_len > req->data_max || req->in_len > req->data_max ||
	    (req->out_len && req->in_len))
		return -EINVAL;
	if (req->layout_seed)
		layout_random(req);
	else
		layout_usual(req);
	copy(req, 0, req->nr_out, 0, &hdr, HDR_LEN, true);
	copy(req, 0, req->nr_out, HDR_LEN, (void *)req->out, req->out_len, true);
	copy(req, req->nr_out, req->nr_in, req->in_len, &unset, 1, true);
	req->done = false;
	id = drv_add(&req->blk->ring[req->queue], req->bufs, req->nr_out, req->nr_in, req);
	return id < 0 ? id : 0;
}

int blk_submit(struct blk_req *req)
{
	int err = blk_add(req);

	return err ? err : drv_submit(&req->blk->ring[req->queue]);
}

struct blk_req *blk_reap(struct blk *b, unsigned int queue, bool wait, int *err)
{
	struct blk_req *req;
	uint32_t len;
	void *cookie;
	int n;

	n = wait ? drv_wait(&b->ring[queue], &cookie, &len)
		 : drv_reap(&b->ring[queue], &cookie, &len);
	*err = n < 0 ? n : 0;
	if (n <= 0)
		return NULL;
	req = cookie;
	req->done = true;
	req->used_len = len;
	copy(req, req->nr_out, req->nr_in, 0, req->in, req->in_len, false);
	copy(req, req->nr_out, req->nr_in, req->in_len, &req->status, 1, false);
	return req;
}

int blk_do(struct blk_req *req)
{
	int err = blk_submit(req);

	while (!err && !req->done)
		blk_reap(req->blk, req->queue, true, &err);
	return err ? err : req->status;
}

static int simple(struct blk_req *req, unsigned int queue, uint32_t type, uint64_t sector,
		  const void *out, uint32_t out_len, void *in, uint32_t in_len)
{
	req->queue = queue;
	req->type = type;
	req->sector = sector;
	req->out = out;
	req->out_len = out_len;
	req->in = in;
	req->in_len = in_len;
	return blk_do(req);
}

int blk_read(struct blk_req *req, unsigned int queue, uint64_t sector, void *buf, uint32_t len)
{
	return simple(req, queue, VIRTIO_BLK_T_IN, sector, NULL, 0, buf, len);
}

int blk_write(struct blk_req *req, unsigned int queue, uint64_t sector, const void *buf,
	      uint32_t len)
{
	return simple(req, queue, VIRTIO_BLK_T_OUT, sector, buf, len, NULL, 0);
}

int blk_flush(struct blk_req *req, unsigned int queue)
{
	return simple(req, queue, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, NULL, 0);
}

int blk_get_id(struct blk_req *req, unsigned int queue, char id[BLK_ID_LEN])
{
	return simple(req, queue, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, id, BLK_ID_LEN);
}

int blk_range(struct blk_req *req, unsigned int queue, uint32_t type,
	      const struct virtio_blk_discard_write_zeroes *segs, unsigned int nr)
{
	return simple(req, queue, type, 0, segs, nr * (uint32_t)sizeof(*segs), NULL, 0);
}
