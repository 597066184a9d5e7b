/*
 * From the switch to receive rings: the only copy a frame's tail sees. Called by
 * vswitch_forward() through sw_port_ops.deliver(), on the loop that has the
 * frames, whichever loop the ring belongs to. Never waits for the driver: a frame
 * for which there is no buffer is dropped and counted.
 *
 * Theory of operation
 *
 * A burst goes into one receive ring, unless the driver asked for steering by
 * hash. Which one is chosen so that loops do not meet in a ring if the driver has
 * enough of them, and that frames of one transmit ring stay in order. The ring is
 * locked from the first look to the publication if other loops may use it
 * (virtq_lock()); its state, its memory and its features cannot change meanwhile.
 *
 * Chains are looked at in bursts (virtq_burst.h). Nearly always a frame needs one
 * chain and the chain is one buffer: then the header is compared with what it
 * must be (writing it would take the driver's cache line for nothing), and head
 * and tail are copied. Everything else (several chains with MRG_RXBUF, several
 * buffers of a chain, offloads) is a stream of bytes over a list of buffers.
 *
 * Nothing is given back before all chains of a frame are written, and all chains
 * of a frame are published together. VIRTIO 1.3, "Processing of Incoming Packets".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>

#include "virtio-net/vnet_internal.h"

/* Chains that one frame may be spread over, with MRG_RXBUF: 64 KiB in 256 bytes
 * each. Also how many are published together at most. */
#define RX_CHAINS_MAX 256

/* Chains looked at beyond what is known to be needed. */
#define RX_LOOK_AHEAD 8

/* Bytes of a frame that are fetched before its turn. */
#define FETCH_MAX 2048

struct rx_burst {
	struct vnet_queue *q;
	struct virtq *vq;
	const struct vnet_live *live;
	struct sw_port_stats *stats;
	uint32_t hdr_len;
	uint32_t plain_max; /* longest frame that fits without a look at its headers */
	bool mergeable;
	bool simple; /* header of 12 bytes, no filter, no log: see put_plain() */
	unsigned int next; /* of buf: the first that is not written */
	unsigned int to_come; /* frames of this burst that are not yet put */
	uint64_t frames, bytes;
	struct virtio_net_hdr_hash plain; /* what stands before a frame without offloads */
	struct virtq_burst b;
	struct virtq_buf buf[RX_CHAINS_MAX];
};

static inline void drop(const struct rx_burst *rx, enum drop_reason reason)
{
	counter_add(&rx->stats->drops[reason], 1);
}

/* --- chains ---------------------------------------------------------------------- */

/* Give back what is written, and make room for more. */
static void publish(struct rx_burst *rx)
{
	virtq_burst_use(rx->vq, &rx->b, rx->next);
	rx->next = 0;
}

/* Is there a chain to write to? */
static inline bool have_chain(struct rx_burst *rx)
{
	unsigned int want;

	if (likely(rx->next < rx->b.nr))
		return true;
	want = rx->to_come > RX_LOOK_AHEAD ? rx->to_come : RX_LOOK_AHEAD;
	virtq_burst_look(rx->vq, &rx->b, rx->next + want);
	if (rx->next < rx->b.nr)
		return true;
	if (!rx->next)
		return false;
	/* It may be the burst that is full, not the ring that is empty. */
	publish(rx);
	return virtq_burst_look(rx->vq, &rx->b, want);
}

/* The first nr chains cannot be written to: back with them, empty. */
static void discard(struct rx_burst *rx, unsigned int nr)
{
	rx->next += nr;
}

/*
 * Find chains from rx->next on that hold need bytes: one, or with MRG_RXBUF as
 * many as it takes. Their number, or -reason.
 */
static int find_chains(struct rx_burst *rx, uint32_t need)
{
	unsigned int nr = 0;
	uint64_t len = 0;

	while (len < need) {
		const struct virtq_buf *buf = &rx->buf[rx->next + nr];

		if (rx->next + nr == rx->b.nr) {
			unsigned int want = rx->next + nr + RX_LOOK_AHEAD;

			if (virtq_burst_look(rx->vq, &rx->b, want) > rx->next + nr)
				continue;
			if (!rx->next)
				return nr == RX_CHAINS_MAX ? -DROP_BUFFER_SMALL : -DROP_NO_BUFFER;
			/* Perhaps it is the burst that is full: from the start with
			 * an empty one. */
			publish(rx);
			nr = 0;
			len = 0;
			continue;
		}
		nr++;
		if (unlikely(buf->error || !buf->len)) {
			discard(rx, nr);
			return -DROP_BAD_BUFFER;
		}
		len += buf->len;
		if (!rx->mergeable && len < need)
			return -DROP_BUFFER_SMALL;
	}
	return (int)nr;
}

/* --- bytes ----------------------------------------------------------------------- */

/* Where the next byte goes. */
struct cursor {
	struct virtq *vq;
	struct virtq_buf *buf;
	const struct iovec *iov; /* of buf */
	size_t off; /* in iov */
};

static void write_bytes(struct cursor *c, const void *src, size_t n)
{
	const uint8_t *from = src;

	while (n) {
		size_t part;
		uint8_t *to;

		if (c->off == c->iov->iov_len) {
			c->off = 0;
			if (++c->iov == c->buf->iov + c->buf->nr_iov)
				c->iov = (++c->buf)->iov;
		}
		part = min_u64(n, c->iov->iov_len - c->off);
		to = (uint8_t *)c->iov->iov_base + c->off;
		memcpy(to, from, part);
		virtq_log_write(c->vq, to, part);
		c->buf->written += (uint32_t)part;
		c->off += part;
		from += part;
		n -= part;
	}
}

static void write_frame(struct cursor *c, const struct frame *f)
{
	const struct iovec *tail = f->tail;
	uint32_t left = f->len - f->head_len;
	size_t off = f->tail_off;

	write_bytes(c, f->head, f->head_len);
	while (left) {
		size_t part = min_u64(left, tail->iov_len - off);

		write_bytes(c, (const uint8_t *)tail->iov_base + off, part);
		left -= (uint32_t)part;
		off = 0;
		tail++;
	}
}

/* The whole of it into one buffer that has room. */
static inline void copy_frame(uint8_t *to, const struct frame *f)
{
	if (unlikely(f->head_len != FRAME_HEAD_FIRST || f->nr_tail > 1)) {
		frame_copy(f, to);
		return;
	}
	memcpy(to, f->head, FRAME_HEAD_FIRST);
	if (f->len > FRAME_HEAD_FIRST)
		memcpy(to + FRAME_HEAD_FIRST, (const uint8_t *)f->tail->iov_base + f->tail_off,
		       f->len - FRAME_HEAD_FIRST);
}

/*
 * The header is one the driver wrote itself, or that we wrote when the buffer was
 * here before: nearly always what it must be. A line that is only read stays in
 * the driver's cache. Read once, but for a driver that races against itself.
 */
static inline void put_hdr(uint8_t *to, const struct virtio_net_hdr_hash *hdr, uint32_t hdr_len)
{
	if (likely(hdr_len == sizeof(hdr->mrg))) {
		if (memcmp(to, hdr, sizeof(hdr->mrg)) != 0)
			memcpy(to, hdr, sizeof(hdr->mrg));
		return;
	}
	memcpy(to, hdr, hdr_len);
}

/* --- frames ---------------------------------------------------------------------- */

static void put_spread(struct rx_burst *rx, const struct frame *f,
		       const struct virtio_net_hdr_hash *plain)
{
	struct virtio_net_hdr_hash hdr = *plain;
	struct cursor c = { .vq = rx->vq };
	int nr = find_chains(rx, rx->hdr_len + f->len);

	if (nr < 0) {
		drop(rx, (enum drop_reason) - nr);
		return;
	}
	hdr.mrg.num_buffers = cpu_to_le16((uint16_t)nr);
	c.buf = &rx->buf[rx->next];
	c.iov = c.buf->iov;
	write_bytes(&c, &hdr, rx->hdr_len);
	write_frame(&c, f);
	rx->next += (unsigned int)nr;
	rx->frames++;
	rx->bytes += f->len;
}

/* A frame that the driver can take as it is, behind this header. */
static inline void put(struct rx_burst *rx, const struct frame *f,
		       const struct virtio_net_hdr_hash *hdr)
{
	uint32_t need = rx->hdr_len + f->len;
	struct virtq_buf *buf;
	uint8_t *to;

	if (unlikely(!have_chain(rx))) {
		drop(rx, DROP_NO_BUFFER);
		return;
	}
	buf = &rx->buf[rx->next];
	if (unlikely(buf->len < need || buf->nr_iov != 1)) {
		put_spread(rx, f, hdr);
		return;
	}
	to = buf->one.iov_base;
	put_hdr(to, hdr, rx->hdr_len);
	copy_frame(to + rx->hdr_len, f);
	virtq_log_write(rx->vq, to, need);
	buf->written = need;
	rx->next++;
	rx->frames++;
	rx->bytes += f->len;
}

/* Cut a large segment up, for a driver that cannot take it whole. */
static void put_pieces(struct rx_burst *rx, const struct frame *f,
		       const struct virtio_net_hdr_hash *plain)
{
	struct virtio_net_hdr_hash hdr = *plain;
	struct frame piece;
	struct segmenter s;

	if (segmenter_init(&s, f, rx->live->caps.csum) < 0) {
		drop(rx, DROP_OFFLOAD);
		return;
	}
	counter_add(&rx->stats->segmented, 1);
	while (segmenter_next(&s, &piece)) {
		offload_to_hdr(&piece, &rx->live->caps, &hdr.mrg.hdr);
		put(rx, &piece, &hdr);
	}
}

static void put_offload(struct rx_burst *rx, const struct frame *f,
			const struct virtio_net_hdr_hash *plain)
{
	struct virtio_net_hdr_hash hdr = *plain;
	uint8_t room[FRAME_ROOM];
	struct frame own;

	if (offload_passes(f, &rx->live->caps)) {
		offload_to_hdr(f, &rx->live->caps, &hdr.mrg.hdr);
		put(rx, f, &hdr);
		return;
	}
	if (f->offload.gso_type) {
		put_pieces(rx, f, plain);
		return;
	}
	frame_own(f, room, &own);
	offload_finish_csum(&own);
	counter_add(&rx->stats->csum_completed, 1);
	put(rx, &own, plain);
}

static inline void put_frame(struct rx_burst *rx, const struct frame *f,
			     const struct virtio_net_hdr_hash *plain)
{
	if (unlikely(rx->live->filter) && !vnet_filter_passes(rx->live->filter, f)) {
		drop(rx, DROP_FILTERED);
		return;
	}
	if (unlikely(f->len > rx->plain_max) && !offload_fits(f, rx->live->caps.mtu)) {
		drop(rx, DROP_MTU_OUT);
		return;
	}
	if (likely(offload_is_plain(f)))
		put(rx, f, plain);
	else
		put_offload(rx, f, plain);
}

/*
 * Both ends of a copy that is about to come, while the one before it is under way:
 * the hardware's own prefetching begins anew with every frame, and what it misses
 * is a fifth of the time.
 */
static inline void fetch(const struct frame *f, const struct virtq_buf *buf)
{
	const uint8_t *from, *to = buf->one.iov_base;
	uint32_t len = f->len < FETCH_MAX ? f->len : FETCH_MAX;

	if (!f->nr_tail || buf->nr_iov != 1)
		return;
	from = (const uint8_t *)f->tail->iov_base + f->tail_off;
	for (uint32_t off = 0; off < len; off += CACHE_LINE) {
		__builtin_prefetch(from + off, 0);
		__builtin_prefetch(to + off, 1);
	}
}

/*
 * The usual case in one loop: as many frames as need nothing but to be copied into
 * one buffer each. What ends the run is for put_frame(). How many they were.
 */
static unsigned int put_plain(struct rx_burst *rx, const struct frame *const *frames,
			      unsigned int nr)
{
	const struct virtio_net_hdr_mrg hdr = rx->plain.mrg;
	struct virtq_buf *buf = &rx->buf[rx->next];
	const uint32_t plain_max = rx->plain_max;
	uint64_t bytes = 0;
	unsigned int i;

	if (!rx->simple)
		return 0;
	nr = (unsigned int)min_u64(nr, rx->b.nr - rx->next);
	for (i = 0; i < nr; i++, buf++) {
		const struct frame *f = frames[i];
		uint32_t len = f->len;
		uint8_t *to;

		if (unlikely(!offload_is_plain(f) || len > plain_max ||
			     buf->len < sizeof(hdr) + len || buf->nr_iov != 1 ||
			     f->head_len != FRAME_HEAD_FIRST || f->nr_tail > 1))
			break;
		if (i + 1 < nr)
			fetch(frames[i + 1], buf + 1);
		to = buf->one.iov_base;
		if (memcmp(to, &hdr, sizeof(hdr)) != 0)
			memcpy(to, &hdr, sizeof(hdr));
		to += sizeof(hdr);
		memcpy(to, f->head, FRAME_HEAD_FIRST);
		if (len > FRAME_HEAD_FIRST)
			memcpy(to + FRAME_HEAD_FIRST,
			       (const uint8_t *)f->tail->iov_base + f->tail_off,
			       len - FRAME_HEAD_FIRST);
		buf->written = (uint32_t)sizeof(hdr) + len;
		bytes += len;
	}
	rx->next += i;
	rx->to_come -= i;
	rx->frames += i;
	rx->bytes += bytes;
	return i;
}

/* --- rings ----------------------------------------------------------------------- */

/*
 * The receive queue for what this loop has from that queue of the source. Loops
 * do not share one while there are enough, and all are used.
 */
static unsigned int pick_queue(const struct vnet *vn, const struct sw_lane *lane,
			       unsigned int nr_active, unsigned int src_queue)
{
	unsigned int nr_lanes, nr_own;

	if (nr_active == 1)
		return 0;
	nr_lanes = vswitch_nr_lanes(vn->sw);
	if (nr_active < nr_lanes)
		return (lane->index + src_queue) % nr_active;
	/* Those that are lane->index modulo nr_lanes. */
	nr_own = (nr_active - 1 - lane->index) / nr_lanes + 1;
	return lane->index + nr_lanes * (src_queue % nr_own);
}

/* Lock the ring; false (and it is not) if it takes nothing. */
static bool lock_ring(struct virtq *vq)
{
	virtq_lock(vq);
	if (likely(vq->state == VIRTQ_STARTED && vq->conf.enabled && !vq->broken))
		return true;
	virtq_unlock(vq);
	return false;
}

/* The ring of this pair, or of another one if it has just stopped, locked. */
static struct vnet_queue *lock_queue(const struct vnet *vn, const struct vnet_live *live,
				     unsigned int pair)
{
	for (unsigned int i = 0; i < live->nr_active; i++) {
		struct vnet_queue *q = &vn->queue[2 * ((pair + i) % live->nr_active)];

		if (q->vq && lock_ring(q->vq))
			return q;
	}
	return NULL;
}

static bool rx_begin(struct rx_burst *rx, const struct vnet *vn, const struct vnet_live *live,
		     unsigned int pair, unsigned int nr)
{
	uint16_t mtu = live->caps.mtu;

	rx->q = lock_queue(vn, live, pair);
	if (!rx->q)
		return false;
	rx->vq = rx->q->vq;
	rx->live = live;
	rx->hdr_len = rx->q->hdr_len;
	rx->plain_max = mtu ? (uint32_t)mtu + ETH_HDR_LEN : UINT32_MAX;
	rx->mergeable = vn->features & VNET_BIT(VIRTIO_NET_F_MRG_RXBUF);
	rx->simple = rx->hdr_len == sizeof(struct virtio_net_hdr_mrg) && !live->filter &&
		     !rx->vq->conf.log;
	rx->next = 0;
	rx->to_come = nr;
	rx->frames = 0;
	rx->bytes = 0;
	rx->plain = (struct virtio_net_hdr_hash){ .mrg.num_buffers = cpu_to_le16(1) };
	virtq_burst_begin(rx->vq, &rx->b, rx->buf, RX_CHAINS_MAX, true);
	virtq_burst_look(rx->vq, &rx->b, nr);
	return true;
}

static void rx_end(struct rx_burst *rx)
{
	publish(rx);
	virtq_burst_notify(rx->vq, &rx->b);
	virtq_burst_ahead(rx->vq);
	counter_add(&rx->q->frames, rx->frames);
	counter_add(&rx->q->bytes, rx->bytes);
	counter_add(&rx->q->bursts, rx->frames != 0);
	virtq_unlock(rx->vq);
	counter_add(&rx->stats->out_frames, rx->frames);
	counter_add(&rx->stats->out_bytes, rx->bytes);
	counter_add(&rx->stats->out_bursts, rx->frames != 0);
}

/* Steering by hash: the frames for each receive queue, in order. */
static void deliver_hashed(struct rx_burst *rx, const struct vnet *vn, const struct vnet_live *live,
			   struct sw_lane *lane, const struct frame *const *frames, unsigned int nr)
{
	struct vnet_hash hash[FRAME_BURST];
	unsigned int queue[FRAME_BURST];
	uint64_t done = 0;

	for (unsigned int i = 0; i < nr; i++) {
		queue[i] = vnet_rss_queue(live->rss, frames[i], &hash[i]);
		if (queue[i] >= live->nr_active)
			queue[i] = pick_queue(vn, lane, live->nr_active, frames[i]->queue);
	}
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int left = nr - (unsigned int)__builtin_popcountll(done);
		struct virtio_net_hdr_hash hdr;

		if (done & VNET_BIT(i))
			continue;
		if (!rx_begin(rx, vn, live, queue[i], left)) {
			counter_add(&rx->stats->drops[DROP_LINK_DOWN], left);
			return;
		}
		hdr = rx->plain;
		for (unsigned int j = i; j < nr; j++) {
			if (done & VNET_BIT(j) || queue[j] != queue[i])
				continue;
			done |= VNET_BIT(j);
			hdr.hash_value = cpu_to_le32(hash[j].value);
			hdr.hash_report = cpu_to_le16(hash[j].report);
			put_frame(rx, frames[j], &hdr);
		}
		rx_end(rx);
	}
}

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	const struct vnet *vn = port->priv;
	const struct vnet_live *live = vnet_live_get(vn);
	struct rx_burst rx;
	unsigned int pair;

	rx.stats = sw_stats(port, lane);
	if (unlikely(!live->nr_active)) {
		counter_add(&rx.stats->drops[DROP_LINK_DOWN], nr);
		return;
	}
	if (unlikely(live->rss)) {
		deliver_hashed(&rx, vn, live, lane, frames, nr);
		return;
	}
	pair = pick_queue(vn, lane, live->nr_active, frames[0]->queue);
	if (unlikely(!rx_begin(&rx, vn, live, pair, nr))) {
		counter_add(&rx.stats->drops[DROP_LINK_DOWN], nr);
		return;
	}
	for (unsigned int i = 0; i < nr;) {
		i += put_plain(&rx, frames + i, nr - i);
		if (i == nr)
			break;
		put_frame(&rx, frames[i++], &rx.plain);
		rx.to_come--;
	}
	rx_end(&rx);
}

const struct sw_port_ops vnet_port_ops = { .kind = "vhost-user", .deliver = deliver };

/* --- set-up ---------------------------------------------------------------------- */

int vnet_rx_setup(struct vnet_queue *q)
{
	struct virtq *vq = q->vq;
	bool shared = vswitch_nr_lanes(q->vn->sw) > 1;

	/* Nothing is to be found in it. */
	vq->poll = NULL;
	/* Another loop may be looking at it, if it ran before. */
	if (vq->shared != shared)
		vq->shared = shared;
	return 0;
}

void vnet_rx_release(struct vnet_queue *q)
{
}
