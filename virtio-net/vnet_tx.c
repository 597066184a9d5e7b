/*
 * From a transmit ring to the switch: bursts of chains become frames. Called by
 * the ring's loop. Never copies more of a frame than its head, and holds nothing
 * when it returns: what the switch did not copy meanwhile was dropped.
 *
 * Theory of operation
 *
 * A chain is a virtio_net_hdr and a frame, in as many buffers as the driver
 * likes (ANY_LAYOUT); usually it is one buffer, which virtq_burst_look() has
 * fetched into the cache along with its neighbours. The header is copied, then
 * the head of the frame; nothing is looked at but these copies. The rest stays
 * where it is until the receiver's copy is made, within vswitch_forward(). Then
 * all chains of the burst are given back with one publication, of which the driver
 * hears when it is time (tx_usecs, vhost/loop_late.c).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>

#include "virtio-net/vnet_internal.h"

/* The heads of a burst. They begin at a cache line of their own. */
#define ROOM_STRIDE ((FRAME_ROOM + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)
#define ROOM_SKEW (CACHE_LINE - FRAME_HEADROOM)

/*
 * How soon a sender waits for what it has on its way (loop_late.c): TCP may have all
 * that it sends in a millisecond, which large segments tell of; any other socket
 * of Linux 208 KiB, unless it asked for more. So bytes of others count for more.
 */
#define OTHERS_WEIGHT 4

struct tx_burst {
	struct vnet_queue *q;
	uint64_t features;
	uint32_t plain_max; /* longest frame that fits without a look at its headers */
	uint16_t mtu;
	unsigned int nr;
	uint64_t tso_bytes; /* of large segments of TCP */
	struct frame frame[FRAME_BURST];
	struct virtq_buf buf[FRAME_BURST];
	_Alignas(CACHE_LINE) uint8_t room[FRAME_BURST * ROOM_STRIDE + CACHE_LINE];
};

static inline uint8_t *room_of(struct tx_burst *tx, unsigned int i)
{
	return tx->room + ROOM_SKEW + i * ROOM_STRIDE;
}

/* n bytes from the front of a chain that has them. */
static void copy_front(const struct virtq_buf *buf, void *dst, size_t n)
{
	const struct iovec *iov = buf->iov;
	uint8_t *to = dst;

	for (; n; iov++) {
		size_t part = min_u64(n, iov->iov_len);

		memcpy(to, iov->iov_base, part);
		to += part;
		n -= part;
	}
}

static inline void frame_of_one(struct frame *f, uint8_t *room, const struct virtq_buf *buf,
				uint32_t hdr_len, uint16_t queue)
{
	const uint8_t *p = buf->one.iov_base;

	*f = (struct frame){
		.head = room + FRAME_HEADROOM,
		.tail = &buf->one,
		.len = buf->len - hdr_len,
		.tail_off = hdr_len + FRAME_HEAD_FIRST,
		.head_len = FRAME_HEAD_FIRST,
		.nr_tail = 1,
		.queue = queue,
	};
	memcpy(f->head, p + hdr_len, FRAME_HEAD_FIRST);
}

/* Any chain becomes the next frame. 0 or -reason. */
static int take(struct tx_burst *tx, const struct virtq_buf *buf)
{
	struct frame *f = &tx->frame[tx->nr];
	uint32_t hdr_len = tx->q->hdr_len;
	struct virtio_net_hdr hdr;

	if (buf->error || buf->len < hdr_len + ETH_HDR_LEN)
		return -DROP_BAD_CHAIN;
	copy_front(buf, &hdr, sizeof(hdr));
	frame_init(f, room_of(tx, tx->nr), buf->iov, buf->nr_iov, hdr_len, buf->len - hdr_len);
	f->queue = (uint16_t)(tx->q->index / 2);
	return offload_accept(f, &hdr, tx->features, tx->mtu);
}

/*
 * The usual case: one buffer, a header that asks for nothing, and a frame that is
 * neither short nor long. Only flags and gso_type are read, at once: the other
 * fields mean nothing without them.
 */
static inline bool is_plain(const struct tx_burst *tx, const struct virtq_buf *buf,
			    uint32_t hdr_len)
{
	uint16_t asked;

	static_assert(offsetof(struct virtio_net_hdr, flags) == 0 &&
			      offsetof(struct virtio_net_hdr, gso_type) == 1,
		      "one word of both");
	if (unlikely(buf->nr_iov != 1 || buf->error ||
		     buf->len - hdr_len - FRAME_HEAD_FIRST > tx->plain_max - FRAME_HEAD_FIRST))
		return false;
	memcpy(&asked, buf->one.iov_base, sizeof(asked));
	return likely(!asked);
}

static bool is_tso(const struct frame *f)
{
	switch (f->offload.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return true;
	}
	return false;
}

/* The nr chains of the burst become tx->nr frames; the sum of their lengths. */
static uint64_t take_all(struct tx_burst *tx, unsigned int nr, uint64_t *drops)
{
	const uint16_t queue = (uint16_t)(tx->q->index / 2);
	const uint32_t hdr_len = tx->q->hdr_len;
	struct frame *f = tx->frame;
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < nr; i++) {
		const struct virtq_buf *buf = &tx->buf[i];

		if (is_plain(tx, buf, hdr_len)) {
			frame_of_one(f, room_of(tx, tx->nr), buf, hdr_len, queue);
		} else {
			int ret = take(tx, buf);

			if (unlikely(ret < 0)) {
				counter_add(&drops[-ret], 1);
				continue;
			}
			if (is_tso(f))
				tx->tso_bytes += f->len;
		}
		bytes += f->len;
		f++;
		tx->nr++;
	}
	return bytes;
}

static void burst_begin(struct tx_burst *tx, struct vnet_queue *q)
{
	const struct vnet *vn = q->vn;

	tx->q = q;
	tx->features = vn->features;
	tx->mtu = read_once(&vn->mtu);
	tx->plain_max = tx->mtu ? min_u64(tx->mtu + ETH_HDR_LEN, FRAME_LEN_MAX) : FRAME_LEN_MAX;
	tx->nr = 0;
	tx->tso_bytes = 0;
}

/* Frames that go nowhere, so that nobody learns an address from them either. */
static void drop_all(const struct vnet_queue *q, struct sw_port *port, unsigned int nr)
{
	struct sw_lane *lane = vswitch_lane(q->vn->sw, loop_index(q->vq->loop));

	counter_add(&sw_stats(port, lane)->drops[DROP_DISABLED_IN], nr);
}

/* Chains of the burst become frames and are forwarded. Their bytes, weighted. */
static inline uint64_t forward_all(struct vnet_queue *q, struct sw_port *port, struct tx_burst *tx,
				   unsigned int nr)
{
	struct sw_lane *lane = vswitch_lane(q->vn->sw, loop_index(q->vq->loop));
	uint64_t bytes;

	burst_begin(tx, q);
	lane_tick(lane);
	bytes = take_all(tx, nr, sw_stats(port, lane)->drops);
	counter_add(&q->frames, tx->nr);
	counter_add(&q->bytes, bytes);
	counter_add(&q->bursts, 1);
	if (tx->nr)
		vswitch_forward(lane, port, tx->frame, tx->nr);
	return OTHERS_WEIGHT * bytes - (OTHERS_WEIGHT - 1) * tx->tso_bytes;
}

unsigned int vnet_tx_poll(struct virtq *vq)
{
	struct vnet_queue *q = vq->priv;
	struct vnet *vn = q->vn;
	/* Pairs with the release of whoever takes the device out of the switch. */
	struct sw_port *port = load_acquire(&vn->port);
	struct virtq_burst b;
	struct tx_burst tx;
	uint64_t bytes = 0;
	unsigned int nr;

	if (unlikely(!port))
		return 0;
	virtq_burst_begin(vq, &b, tx.buf, FRAME_BURST, false);
	nr = virtq_burst_look(vq, &b, FRAME_BURST);
	if (!nr)
		return 0;
	if (likely(read_once(&vn->link_up)))
		bytes = forward_all(q, port, &tx, nr);
	else
		drop_all(q, port, nr);
	virtq_burst_use(vq, &b, nr);
	virtq_burst_notify_late(vq, &b, bytes);
	return nr;
}

int vnet_tx_setup(struct vnet_queue *q)
{
	q->vq->poll = vnet_tx_poll;
	q->vq->out_only = true;
	q->vq->moderate_ns = q->vn->tx_usecs * 1000;
	return 0;
}

void vnet_tx_release(struct vnet_queue *q)
{
}
