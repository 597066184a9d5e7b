/*
 * From the switch to a DPDK port: frames become mbufs, which is the one copy of
 * their bytes. Called by vswitch_forward() through sw_port_ops.deliver(), on the
 * loop that has the frames. Never waits for the device: what it has no room for is
 * dropped and counted.
 *
 * Theory of operation
 *
 * Each loop sends through a queue of its own while the device has enough of them;
 * else loops share, and hold one short lock around rte_eth_tx_burst(). What the
 * device can do (checksums, large segments) is asked of it in the mbuf; what it
 * cannot is done here, by offload.h. mbufs gather in a batch that is sent when it
 * is full and at the end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <rte_errno.h>
#include <rte_net.h>
#include <string.h>

#include "core/atomic.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/uplink_internal.h"

#define BATCH_MAX 64
/* Of one frame: 64 KiB in mbufs of 2 KiB. */
#define SEGS_MAX 40

struct batch {
	const struct uplink_dev *dev;
	struct uplink_txq *txq;
	struct sw_port_stats *stats;
	unsigned int nr;
	bool prepare; /* some mbuf asks the device for something */
	uint64_t frames, bytes;
	struct rte_mbuf *mbuf[BATCH_MAX];
};

static inline void drop(const struct batch *b, enum drop_reason reason, uint64_t nr)
{
	counter_add(&b->stats->drops[reason], nr);
}

/* --- the device -------------------------------------------------------------------- */

/* Let the driver check and complete what mbufs ask for; those it refuses go. */
static void prepare(struct batch *b)
{
	struct rte_mbuf **m = b->mbuf;
	unsigned int kept = 0, done = 0;

	while (done < b->nr) {
		unsigned int n = rte_eth_tx_prepare(b->dev->port, b->txq->queue, m + done,
						    (uint16_t)(b->nr - done));

		memmove(m + kept, m + done, n * sizeof(struct rte_mbuf *));
		kept += n;
		done += n;
		if (done < b->nr) {
			rte_pktmbuf_free(m[done++]);
			drop(b, DROP_OFFLOAD, 1);
		}
	}
	b->nr = kept;
	b->prepare = false;
}

static void send_batch(struct batch *b)
{
	uint64_t bytes = 0;
	unsigned int sent;

	if (b->prepare)
		prepare(b);
	if (!b->nr)
		return;
	/* The device may free an mbuf before we can ask it. */
	for (unsigned int i = 0; i < b->nr; i++)
		bytes += b->mbuf[i]->pkt_len;
	if (b->txq->shared)
		rte_spinlock_lock(&b->txq->lock);
	sent = rte_eth_tx_burst(b->dev->port, b->txq->queue, b->mbuf, (uint16_t)b->nr);
	if (b->txq->shared)
		rte_spinlock_unlock(&b->txq->lock);
	if (unlikely(sent < b->nr)) {
		for (unsigned int i = sent; i < b->nr; i++)
			bytes -= b->mbuf[i]->pkt_len;
		rte_pktmbuf_free_bulk(b->mbuf + sent, b->nr - sent);
		drop(b, DROP_NO_BUFFER, b->nr - sent);
	}
	b->frames += sent;
	b->bytes += bytes;
	b->nr = 0;
}

/* --- mbufs -------------------------------------------------------------------------- */

/* A frame longer than one mbuf: several, linked. NULL if there are not enough. */
static struct rte_mbuf *copy_long(const struct uplink_dev *dev, const struct frame *f)
{
	unsigned int nr = (f->len + dev->seg_room - 1) / dev->seg_room;
	struct rte_mbuf *m[SEGS_MAX];
	uint32_t off = 0;

	if (nr > SEGS_MAX || !(dev->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS))
		return NULL;
	if (rte_pktmbuf_alloc_bulk(dev->pool, m, nr))
		return NULL;
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t n = (uint32_t)min_u64(f->len - off, dev->seg_room);

		frame_copy_part(f, off, rte_pktmbuf_mtod(m[i], uint8_t *), n);
		m[i]->data_len = (uint16_t)n;
		m[i]->next = i + 1 < nr ? m[i + 1] : NULL;
		off += n;
	}
	m[0]->nb_segs = (uint16_t)nr;
	m[0]->pkt_len = f->len;
	return m[0];
}

static struct rte_mbuf *copy_frame(const struct uplink_dev *dev, const struct frame *f)
{
	struct rte_mbuf *m;

	if (unlikely(f->len > dev->seg_room))
		return copy_long(dev, f);
	m = rte_pktmbuf_alloc(dev->pool);
	if (unlikely(!m))
		return NULL;
	frame_copy(f, rte_pktmbuf_mtod(m, uint8_t *));
	m->data_len = (uint16_t)f->len;
	m->pkt_len = f->len;
	return m;
}

/* What an mbuf asks of the device, as DPDK wants it said. */
struct request {
	uint64_t flags;
	uint16_t l2_len, l3_len, l4_len, segsz;
};

/*
 * f's offload as a request. false if it cannot be said: VIRTIO's csum_start and
 * csum_offset name any place, DPDK only the checksums of TCP and UDP.
 */
static bool make_request(const struct frame *f, struct request *r)
{
	const struct frame_offload *o = &f->offload;
	struct frame own = *f; /* frame_layers() may pull */
	struct frame_layers l;
	bool is_v4, is_tcp;

	frame_layers(&own, &l);
	if (!l.l3 || !l.l4 || o->csum_start != l.l4)
		return false;
	is_tcp = l.ip_proto == IP_PROTO_TCP && o->csum_offset == TCP_CSUM;
	if (!is_tcp && (l.ip_proto != IP_PROTO_UDP || o->csum_offset != UDP_CSUM))
		return false;
	is_v4 = l.ethertype == ETH_TYPE_IPV4;
	*r = (struct request){ .l2_len = l.l3, .l3_len = (uint16_t)(l.l4 - l.l3) };
	r->flags = is_v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	r->flags |= is_tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	if (!o->gso_type)
		return true;
	r->l4_len = (uint16_t)(o->hdr_len - l.l4);
	r->segsz = o->gso_size;
	r->flags |= is_tcp ? RTE_MBUF_F_TX_TCP_SEG : RTE_MBUF_F_TX_UDP_SEG;
	if (is_v4)
		r->flags |= RTE_MBUF_F_TX_IP_CKSUM;
	return true;
}

/* 0 or -errno of DPDK's own look at it. */
static int ask(struct rte_mbuf *m, const struct request *r)
{
	m->ol_flags |= r->flags;
	m->l2_len = r->l2_len;
	m->l3_len = r->l3_len;
	m->l4_len = (uint8_t)r->l4_len;
	m->tso_segsz = r->segsz;
	/* The sum of the pseudo header, as devices want to find it. */
	return rte_net_intel_cksum_prepare(m);
}

/* --- frames -------------------------------------------------------------------------- */

static void put(struct batch *b, const struct frame *f, const struct request *r)
{
	struct rte_mbuf *m = copy_frame(b->dev, f);

	if (unlikely(!m)) {
		drop(b, DROP_NO_MEMORY, 1);
		return;
	}
	if (r) {
		if (ask(m, r) < 0) {
			rte_pktmbuf_free(m);
			drop(b, DROP_OFFLOAD, 1);
			return;
		}
		b->prepare = true;
	}
	b->mbuf[b->nr++] = m;
	if (b->nr == BATCH_MAX)
		send_batch(b);
}

static void put_pieces(struct batch *b, const struct frame *f)
{
	struct segmenter s;
	struct frame piece;

	if (segmenter_init(&s, f, false) < 0) {
		drop(b, DROP_OFFLOAD, 1);
		return;
	}
	counter_add(&b->stats->segmented, 1);
	while (segmenter_next(&s, &piece))
		put(b, &piece, NULL);
}

static void put_offload(struct batch *b, const struct frame *f)
{
	uint8_t room[FRAME_ROOM];
	struct request r;
	struct frame own;

	/* Only something the driver of the sender knows already. */
	if (!f->offload.gso_type && !(f->offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
		put(b, f, NULL);
		return;
	}
	if (offload_passes(f, &b->dev->caps) && make_request(f, &r)) {
		put(b, f, &r);
		return;
	}
	if (f->offload.gso_type) {
		put_pieces(b, f);
		return;
	}
	frame_own(f, room, &own);
	offload_finish_csum(&own);
	counter_add(&b->stats->csum_completed, 1);
	put(b, &own, NULL);
}

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	const struct uplink_tx *tx = port->priv;
	struct batch b;

	b.dev = tx->dev;
	b.stats = sw_stats(port, lane);
	b.nr = 0;
	b.prepare = false;
	b.frames = b.bytes = 0;
	if (!read_once(&tx->link_up)) {
		drop(&b, DROP_LINK_DOWN, nr);
		return;
	}
	b.txq = &tx->queue[lane->index % tx->dev->nr_txq];
	for (unsigned int i = 0; i < nr; i++) {
		if (unlikely(!offload_fits(frames[i], b.dev->mtu)))
			drop(&b, DROP_MTU_OUT, 1);
		else if (likely(offload_is_plain(frames[i])))
			put(&b, frames[i], NULL);
		else
			put_offload(&b, frames[i]);
	}
	send_batch(&b);
	counter_add(&b.stats->out_frames, b.frames);
	counter_add(&b.stats->out_bytes, b.bytes);
	counter_add(&b.stats->out_bursts, b.frames != 0);
}

void uplink_tx_poke(struct sw_port *port, struct sw_lane *lane)
{
	const struct uplink_tx *tx = port->priv;
	struct uplink_txq *txq = &tx->queue[lane->index % tx->dev->nr_txq];

	if (txq->shared)
		rte_spinlock_lock(&txq->lock);
	rte_eth_tx_burst(tx->dev->port, txq->queue, NULL, 0);
	if (txq->shared)
		rte_spinlock_unlock(&txq->lock);
}

const struct sw_port_ops uplink_port_ops = {
	.kind = "uplink",
	.deliver = deliver,
};
