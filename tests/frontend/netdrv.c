/*
 * A network driver over the driver half: set-up of a whole device, frames out and
 * in, control commands. Called by tests. Never judges a frame's contents.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/frontend/netdrv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define RING_SIZE 256
#define BUF_LEN 2048
#define CTRL_SIZE 64
#define CMD_MAX (128u << 10)
#define TX_LEN (sizeof(struct virtio_net_hdr_hash) + NET_FRAME_MAX)

static uint64_t wanted_proto(const struct net_conf *c)
{
	uint64_t p = 1ull << FE_PROTO_MQ | 1ull << FE_PROTO_REPLY_ACK |
		     1ull << FE_PROTO_BACKEND_REQ | 1ull << FE_PROTO_CONFIG |
		     1ull << FE_PROTO_CONFIGURE_MEM_SLOTS | 1ull << FE_PROTO_RESET_DEVICE |
		     1ull << FE_PROTO_LOG_SHMFD | 1ull << FE_PROTO_STATUS | 1ull << FE_PROTO_RARP |
		     1ull << FE_PROTO_MTU;

	return p & ~c->proto_without;
}

static uint64_t wanted_features(const struct net_conf *c)
{
	uint64_t f = c->features & ~(1ull << FE_F_LOG_ALL | 1ull << VIRTIO_F_VERSION_1);

	if (!c->legacy)
		f |= 1ull << VIRTIO_F_VERSION_1;

	/* QEMU acknowledges MQ, which it told its own driver of, but not this. */
	return c->no_ctrl ? f & ~(1ull << VIRTIO_NET_F_CTRL_VQ) : f;
}

static uint16_t ring_size(const struct net *n)
{
	return n->conf.ring_size ? n->conf.ring_size : RING_SIZE;
}

/* The device's memory is one region: rings, tables, and every buffer. */
static uint64_t memory_needed(const struct net *n)
{
	uint64_t per_desc = n->buf_len + round_up(TX_LEN, 64) + 2 * 16 * DRV_TABLE_MAX + 256;

	return round_up(n->conf.pairs * ring_size(n) * per_desc + CMD_MAX + (4u << 20), 1u << 20);
}

/* Everything up to the rings. */
static int greet(struct net *n)
{
	int err = fe_negotiate(&n->fe, wanted_features(&n->conf), wanted_proto(&n->conf));

	if (!err && fe_has_proto(&n->fe, FE_PROTO_CONFIG)) {
		err = fe_get_config(&n->fe, 0, &n->config, sizeof(n->config));
		n->has_config = !err;
	}
	/* VIRTIO 1.3, "Device Operation". */
	n->hdr_len = sizeof(struct virtio_net_hdr);
	if (net_has(n, VIRTIO_F_VERSION_1) || net_has(n, VIRTIO_NET_F_MRG_RXBUF))
		n->hdr_len = sizeof(struct virtio_net_hdr_mrg);
	if (net_has(n, VIRTIO_NET_F_HASH_REPORT))
		n->hdr_len = sizeof(struct virtio_net_hdr_hash);
	return err ? err : fe_mem_share(&n->fe);
}

/* --- rings -------------------------------------------------------------------- */

static int slots_create(struct net *n, struct net_ring *r, uint32_t len)
{
	uint16_t size = r->ring.size;
	uint64_t gpa = fe_alloc(&n->fe, n->region, (uint64_t)size * len, 64);

	r->slot = calloc(size, sizeof(*r->slot));
	r->free = calloc(size, sizeof(*r->free));
	if (!gpa || !r->slot || !r->free)
		return -ENOMEM;
	for (unsigned int i = 0; i < size; i++) {
		r->slot[i].gpa = gpa + (uint64_t)i * len;
		r->slot[i].p = fe_ptr(&n->fe, r->slot[i].gpa, len);
		r->free[r->nr_free++] = size - 1 - i;
	}
	return 0;
}

static int ring_create(struct net *n, struct net_ring *r, uint32_t index, uint16_t size,
		       uint32_t slot_len)
{
	struct drv_conf conf = {
		.size = size,
		.region = n->region,
		.indirect = n->conf.indirect,
	};
	int err = drv_create(&r->ring, &n->fe, index, &conf);

	if (err)
		return err;
	r->exists = true;
	return slot_len ? slots_create(n, r, slot_len) : 0;
}

static void ring_destroy(struct net_ring *r)
{
	if (r->exists)
		drv_destroy(&r->ring);
	free(r->slot);
	free(r->free);
	memset(r, 0, sizeof(*r));
}

static int give_buffer(struct net *n, struct net_ring *r, struct net_slot *slot)
{
	struct drv_buf buf = { .gpa = slot->gpa, .len = n->buf_len };
	int id = drv_add(&r->ring, &buf, 0, 1, slot);

	return id < 0 ? id : 0;
}

static int fill(struct net *n, struct net_ring *r)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < r->ring.size; i++)
		err = give_buffer(n, r, &r->slot[i]);
	return err ? err : drv_submit(&r->ring);
}

static int pair_open(struct net *n, unsigned int pair)
{
	struct net_ring *rx = &n->rx[pair], *tx = &n->tx[pair];
	int err = ring_create(n, rx, 2 * pair, ring_size(n), n->buf_len);

	if (!err)
		err = ring_create(n, tx, 2 * pair + 1, ring_size(n), round_up(TX_LEN, 64));
	if (!err)
		err = drv_start(&rx->ring);
	if (!err)
		err = drv_start(&tx->ring);
	return err ? err : fill(n, rx);
}

/* VIRTIO 1.3, "Virtqueues". */
static unsigned int ctrl_index(const struct net *n)
{
	if (net_has(n, VIRTIO_NET_F_MQ) || net_has(n, VIRTIO_NET_F_RSS))
		return 2 * le16_to_cpu(n->config.max_virtqueue_pairs);
	return 2;
}

static int ctrl_open(struct net *n)
{
	int err;

	if (!net_has(n, VIRTIO_NET_F_CTRL_VQ))
		return 0;
	if (!n->has_config)
		return -EINVAL;
	err = ring_create(n, &n->ctrl, ctrl_index(n), CTRL_SIZE, 0);
	if (err)
		return err;
	n->cmd_gpa = fe_alloc(&n->fe, n->region, CMD_MAX + 64, 64);
	n->cmd = fe_ptr(&n->fe, n->cmd_gpa, CMD_MAX + 64);
	return n->cmd ? drv_start(&n->ctrl.ring) : -ENOMEM;
}

static int open_rings(struct net *n)
{
	int err = 0;

	for (; !err && n->pairs < n->conf.pairs; n->pairs++)
		err = pair_open(n, n->pairs);
	return err ? err : ctrl_open(n);
}

/* --- life ----------------------------------------------------------------------- */

int net_open(struct net *n, const struct net_conf *conf)
{
	int err;

	memset(n, 0, sizeof(*n));
	n->conf = *conf;
	if (!n->conf.pairs)
		n->conf.pairs = 1;
	n->buf_len = conf->buf_len ? conf->buf_len : BUF_LEN;
	fe_init(&n->fe);
	n->fe.pump = conf->pump;
	n->fe.pump_opaque = conf->pump_opaque;
	n->region = fe_mem_new(&n->fe, conf->mem ? conf->mem : memory_needed(n));
	err = n->region < 0 ? n->region : 0;
	if (!err && conf->path)
		err = fe_connect(&n->fe, conf->path);
	else if (!err)
		fe_attach(&n->fe, conf->sock);
	if (!err)
		err = greet(n);
	if (!err)
		err = open_rings(n);
	if (err)
		net_abandon(n);
	return err;
}

static void destroy_rings(struct net *n)
{
	for (unsigned int i = 0; i < NET_PAIRS_MAX; i++) {
		ring_destroy(&n->rx[i]);
		ring_destroy(&n->tx[i]);
	}
	ring_destroy(&n->ctrl);
	n->pairs = 0;
}

void net_abandon(struct net *n)
{
	destroy_rings(n);
	fe_close(&n->fe);
}

int net_restart(struct net *n)
{
	struct fe_region *region = &n->fe.region[n->region];

	destroy_rings(n);
	/* The memory of the old ones is used again. */
	memset(region->host, 0, region->alloc_end);
	region->alloc_end = 0;
	return open_rings(n);
}

/* Most of its buffers have not been used. */
static int stop_receiving(struct net *n, struct net_ring *rx)
{
	uint32_t base, len;
	void *cookie;
	int err = fe_get_vring_base(&n->fe, rx->ring.index, &base);

	while (!err && (err = drv_reap(&rx->ring, &cookie, &len)) == 1)
		err = 0;
	if (!err && base != drv_used_base(&rx->ring))
		err = -EPROTO;
	return err;
}

int net_close(struct net *n)
{
	int first = n->ctrl.exists ? drv_stop(&n->ctrl.ring) : 0, err;

	for (unsigned int i = 0; i < n->pairs; i++) {
		err = stop_receiving(n, &n->rx[i]);
		first = first ? first : err;
		err = drv_stop(&n->tx[i].ring);
		first = first ? first : err;
	}
	net_abandon(n);
	return first;
}

int net_reconnect(struct net *n)
{
	int err = fe_connect(&n->fe, n->conf.path);

	if (!err)
		err = greet(n);
	for (unsigned int i = 0; !err && i < n->pairs; i++) {
		err = drv_start_at(&n->rx[i].ring, drv_used_base(&n->rx[i].ring));
		if (!err)
			err = drv_start(&n->tx[i].ring);
	}
	return err || !n->ctrl.exists ? err : drv_start(&n->ctrl.ring);
}

/* --- frames ------------------------------------------------------------------------ */

int net_reap(struct net *n, unsigned int pair)
{
	struct net_ring *tx = &n->tx[pair];
	uint32_t len;
	void *cookie;
	int ret, nr = 0;

	while ((ret = drv_reap(&tx->ring, &cookie, &len)) > 0) {
		tx->free[tx->nr_free++] = (unsigned int)((struct net_slot *)cookie - tx->slot);
		nr++;
	}
	return ret < 0 ? ret : nr;
}

int net_add(struct net *n, unsigned int pair, const struct virtio_net_hdr *hdr, const void *frame,
	    uint32_t len)
{
	struct net_ring *tx = &n->tx[pair];
	struct net_slot *slot;
	struct drv_buf buf;
	int ret = net_reap(n, pair);

	if (ret < 0)
		return ret;
	if (!tx->nr_free)
		return -ENOSPC;
	if (len > NET_FRAME_MAX)
		return -EINVAL;
	slot = &tx->slot[tx->free[tx->nr_free - 1]];
	memset(slot->p, 0, n->hdr_len);
	if (hdr)
		memcpy(slot->p, hdr, sizeof(*hdr));
	memcpy(slot->p + n->hdr_len, frame, len);
	buf = (struct drv_buf){ .gpa = slot->gpa, .len = n->hdr_len + len };
	ret = drv_add(&tx->ring, &buf, 1, 0, slot);
	if (ret < 0)
		return ret;
	tx->nr_free--;
	return 0;
}

int net_send(struct net *n, unsigned int pair, const struct virtio_net_hdr *hdr, const void *frame,
	     uint32_t len)
{
	int err = net_add(n, pair, hdr, frame, len);

	return err ? err : drv_submit(&n->tx[pair].ring);
}

int net_drain(struct net *n, unsigned int pair)
{
	struct net_ring *tx = &n->tx[pair];
	uint32_t len;
	void *cookie;
	int ret;

	while (tx->nr_free < tx->ring.size) {
		ret = drv_wait(&tx->ring, &cookie, &len);
		if (ret < 0)
			return ret;
		tx->free[tx->nr_free++] = (unsigned int)((struct net_slot *)cookie - tx->slot);
	}
	return 0;
}

/* Take a used buffer's bytes from off on as the next ones of the frame. */
static int take_bytes(struct net_frame *frame, const struct net_slot *slot, uint32_t off,
		      uint32_t len, uint32_t max)
{
	if (len > max || off > len || len - off > NET_FRAME_MAX - frame->len)
		return -EPROTO;
	memcpy(frame->data + frame->len, slot->p + off, len - off);
	frame->len += len - off;
	return 0;
}

/* The rest of a frame whose first buffer was taken. */
static int take_merged(struct net *n, struct net_ring *rx, struct net_frame *frame)
{
	struct net_slot *slot;
	uint32_t len;
	void *cookie;
	int ret = 0;

	for (unsigned int i = 1; !ret && i < frame->nr_buffers; i++) {
		/* They are published together. */
		if (drv_reap(&rx->ring, &cookie, &len) != 1)
			return -EPROTO;
		slot = cookie;
		ret = take_bytes(frame, slot, 0, len, n->buf_len);
		if (!ret)
			ret = give_buffer(n, rx, slot);
	}
	return ret;
}

static int take_frame(struct net *n, struct net_ring *rx, struct net_frame *frame,
		      struct net_slot *slot, uint32_t len)
{
	int ret;

	memset(&frame->hdr, 0, sizeof(frame->hdr));
	frame->len = 0;
	if (len < n->hdr_len)
		return -EPROTO;
	memcpy(&frame->hdr, slot->p, n->hdr_len);
	frame->nr_buffers = 1;
	if (n->hdr_len > sizeof(struct virtio_net_hdr))
		frame->nr_buffers = le16_to_cpu(frame->hdr.mrg.num_buffers);
	if (!frame->nr_buffers || (frame->nr_buffers > 1 && !net_has(n, VIRTIO_NET_F_MRG_RXBUF)))
		return -EPROTO;
	ret = take_bytes(frame, slot, n->hdr_len, len, n->buf_len);
	if (!ret)
		ret = give_buffer(n, rx, slot);
	return ret ? ret : take_merged(n, rx, frame);
}

/* VIRTIO 1.3, "Processing of Incoming Packets": nothing the driver did not ask
 * for. */
static int check_hdr(const struct net *n, const struct net_frame *frame)
{
	const struct virtio_net_hdr *h = &frame->hdr.mrg.hdr;
	uint8_t gso = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (h->flags & VIRTIO_NET_HDR_F_RSC_INFO ||
	    (h->flags && !net_has(n, VIRTIO_NET_F_GUEST_CSUM)) ||
	    (h->gso_type & VIRTIO_NET_HDR_GSO_ECN && !net_has(n, VIRTIO_NET_F_GUEST_ECN)))
		return -EPROTO;
	switch (gso) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return 0;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return net_has(n, VIRTIO_NET_F_GUEST_TSO4) ? 0 : -EPROTO;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return net_has(n, VIRTIO_NET_F_GUEST_TSO6) ? 0 : -EPROTO;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return net_has(n, VIRTIO_NET_F_GUEST_USO4) || net_has(n, VIRTIO_NET_F_GUEST_USO6)
			       ? 0
			       : -EPROTO;
	default:
		return -EPROTO;
	}
}

static int received(struct net *n, unsigned int pair, struct net_frame *frame, void *cookie,
		    uint32_t len)
{
	struct net_ring *rx = &n->rx[pair];
	int err = take_frame(n, rx, frame, cookie, len);

	if (!err)
		err = drv_submit(&rx->ring);
	if (!err)
		err = check_hdr(n, frame);
	return err ? err : 1;
}

int net_recv(struct net *n, unsigned int pair, struct net_frame *frame)
{
	uint32_t len;
	void *cookie;
	int ret = drv_reap(&n->rx[pair].ring, &cookie, &len);

	return ret <= 0 ? ret : received(n, pair, frame, cookie, len);
}

int net_recv_wait(struct net *n, unsigned int pair, struct net_frame *frame)
{
	uint32_t len;
	void *cookie;
	int ret = drv_wait(&n->rx[pair].ring, &cookie, &len);

	return ret <= 0 ? ret : received(n, pair, frame, cookie, len);
}

/* --- commands ------------------------------------------------------------------------ */

int net_ctrl_cut(struct net *n, uint8_t class_id, uint8_t command, const void *data, uint32_t len,
		 uint32_t piece)
{
	uint32_t total = 2 + len, off = 0, used;
	struct drv_buf bufs[DRV_TABLE_MAX];
	uint8_t *ack = n->cmd + CMD_MAX;
	unsigned int nr = 0;
	void *cookie;
	int ret;

	if (!n->ctrl.exists || total > CMD_MAX)
		return -EINVAL;
	n->cmd[0] = class_id;
	n->cmd[1] = command;
	if (len)
		memcpy(n->cmd + 2, data, len);
	*ack = NET_ACK_UNSET;
	while (off < total) {
		uint32_t part = piece ? piece : off ? len : 2;

		part = (uint32_t)min_u64(part, total - off);
		if (nr == DRV_TABLE_MAX - 1)
			return -EINVAL;
		bufs[nr++] = (struct drv_buf){ .gpa = n->cmd_gpa + off, .len = part };
		off += part;
	}
	bufs[nr] = (struct drv_buf){ .gpa = n->cmd_gpa + CMD_MAX, .len = 1 };
	ret = drv_add(&n->ctrl.ring, bufs, nr, 1, n);
	if (ret >= 0)
		ret = drv_submit(&n->ctrl.ring);
	if (ret >= 0)
		ret = drv_wait(&n->ctrl.ring, &cookie, &used);
	if (ret < 0)
		return ret;
	return used == 1 || used == UINT32_MAX ? *ack : -EPROTO;
}

int net_ctrl(struct net *n, uint8_t class_id, uint8_t command, const void *data, uint32_t len)
{
	return net_ctrl_cut(n, class_id, command, data, len, 0);
}
