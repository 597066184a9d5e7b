/*
 * From a DPDK port to the switch: each receive queue is a source of one loop.
 * Called by that loop; uplink.c places queues on loops. Copies nothing: a frame's
 * head and tail are where the device put them, and the mbufs are freed when the
 * switch has handed the frames on.
 *
 * Theory of operation
 *
 * An mbuf is ours until it is freed, and no guest can write to it, so its first
 * bytes serve as the private head of the frame. Only a frame whose first segment
 * is very short, or has no room before it for a VLAN tag, gets a head of its own.
 *
 * Coming to rest: if the driver has receive interrupts, the queue's descriptor is
 * the source's, armed when the loop goes to sleep. If not, the loop's sleep is
 * bounded: the longer nothing came, the longer it may be, so that a frame waits
 * for an eighth of the time that the port was silent, and no longer than
 * IDLE_SLEEP_MAX_NS.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/cpu.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/uplink_internal.h"

#define IDLE_SLEEP_MIN_NS 50000
#define IDLE_SLEEP_MAX_NS 2000000
#define IDLE_SHARE 8

struct uplink_rxq {
	struct loop_source source; /* the loop's */
	const struct uplink_dev *dev;
	struct sw_port *port;
	uint16_t queue;
	bool intr; /* armed by us before a sleep */
	bool intr_is_eventfd; /* readable until it is read */
	uint64_t idle_ns; /* bounded sleeps since the last frame, summed up */
	bool poke; /* the driver has things to say of its own */

	/* The control thread's; the loop reads lane. */
	struct evloop *ev;
	struct loop *loop; /* NULL: on none */
	struct sw_lane *lane;
	struct loop_work work;
	struct ev_work answer;
	void (*done)(void *opaque);
	void *opaque;

	/* Scratch, and counters for status. */
	uint64_t frames, bursts;
	struct frame frame[FRAME_BURST];
	struct iovec iov[UPLINK_RX_IOV_MAX];
	uint8_t room[FRAME_BURST][FRAME_ROOM];
};

/* --- frames -------------------------------------------------------------------------- */

/* Can the mbuf's own bytes be the head? frame_pull() writes up to FRAME_HEAD_MAX
 * bytes there, which are the same bytes unless they come from another segment. */
static inline bool head_fits(const struct rte_mbuf *m)
{
	return likely(rte_pktmbuf_headroom(m) >= FRAME_HEADROOM &&
		      (m->nb_segs == 1 || m->data_len >= FRAME_HEAD_MAX));
}

/* The sum of the pseudo header of TCP or UDP, as a driver leaves it that wants the
 * checksum completed: not complemented. len: of the transport header and data. */
static uint16_t pseudo_sum(const struct frame *f, const struct frame_layers *l, uint32_t len)
{
	bool v4 = l->ethertype == ETH_TYPE_IPV4;
	const uint8_t *addrs = f->head + l->l3 + (v4 ? IPV4_SADDR : IPV6_SADDR);

	return csum_fold(net_csum_sum(addrs, v4 ? IPV4_ADDRS_LEN : 2 * IPV6_ADDR_LEN) +
			 csum_word(l->ip_proto) + csum_word((uint16_t)len));
}

/*
 * The kernel hands packet sockets frames that it meant a device to complete, and
 * captures of them are in files; the drivers that read those do not say which. They
 * can be told: the checksum field has the sum of the pseudo header. A complete
 * checksum may be the same number by chance, and completing it once more gives that
 * number again.
 */
static void find_partial(struct frame *f)
{
	struct virtio_net_hdr hdr = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
	struct frame_offload before = f->offload;
	struct frame_layers l;
	uint16_t offset, field;
	uint32_t len;

	frame_layers(f, &l);
	if (!l.l3 || !l.l4 || l.fragment ||
	    (l.ip_proto != IP_PROTO_TCP && l.ip_proto != IP_PROTO_UDP))
		return;
	offset = l.ip_proto == IP_PROTO_TCP ? TCP_CSUM : UDP_CSUM;
	if (!frame_pull(f, l.l4 + offset + 2))
		return;
	/* Not the frame's length: a short one is padded. */
	if (l.ethertype == ETH_TYPE_IPV4)
		len = get_be16(f->head + l.l3 + IPV4_TOTAL_LEN);
	else
		len = get_be16(f->head + l.l3 + IPV6_PAYLOAD_LEN) + IPV6_HDR_LEN;
	if (len > f->len - l.l3 || len < (uint32_t)(l.l4 - l.l3))
		return;
	memcpy(&field, f->head + l.l4 + offset, sizeof(field));
	if (field != pseudo_sum(f, &l, len - (l.l4 - l.l3)))
		return;
	/* What follows the datagram would be summed up as well. */
	f->len = l.l3 + len;
	f->head_len = (uint16_t)min_u64(f->head_len, f->len);
	hdr.csum_start = cpu_to_le16(l.l4);
	hdr.csum_offset = cpu_to_le16(offset);
	if (offload_accept(f, &hdr, 1ull << VIRTIO_NET_F_CSUM, 0) < 0)
		f->offload = before;
}

/* iov: room for the segments of m. */
static void make_frame(struct uplink_rxq *q, unsigned int i, struct rte_mbuf *m, struct iovec *iov)
{
	struct frame *f = &q->frame[i];
	struct iovec *tail = iov;

	for (struct rte_mbuf *seg = m; seg; seg = seg->next) {
		tail->iov_base = rte_pktmbuf_mtod(seg, void *);
		tail->iov_len = seg->data_len;
		tail++;
	}
	if (unlikely(!head_fits(m))) {
		frame_init(f, q->room[i], iov, (unsigned int)(tail - iov), 0, m->pkt_len);
	} else {
		*f = (struct frame){
			.head = rte_pktmbuf_mtod(m, uint8_t *),
			.head_len = (uint16_t)min_u64(m->pkt_len, FRAME_HEAD_FIRST),
			.len = m->pkt_len,
			.tail = iov,
			.nr_tail = (uint16_t)(tail - iov),
		};
		f->tail_off = f->head_len;
	}
	f->queue = q->queue;
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		offload_set_valid(f);
	else if (q->dev->partial_csums)
		find_partial(f);
}

static inline void drop(struct uplink_rxq *q, enum drop_reason reason)
{
	counter_add(&sw_stats(q->port, q->lane)->drops[reason], 1);
}

/* Frames that cannot be used are freed and taken off the list; the rest stays. */
static unsigned int sort_out(struct uplink_rxq *q, struct rte_mbuf **m, unsigned int nr)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < nr; i++) {
		/* Offered by no device without being asked, but by some drivers. */
		if (unlikely(m[i]->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) &&
		    rte_vlan_insert(&m[i])) {
			rte_pktmbuf_free(m[i]);
			drop(q, DROP_NO_MEMORY);
			continue;
		}
		if (unlikely(m[i]->pkt_len < ETH_HDR_LEN || m[i]->pkt_len > FRAME_LEN_MAX ||
			     m[i]->nb_segs > UPLINK_RX_IOV_MAX)) {
			rte_pktmbuf_free(m[i]);
			drop(q, DROP_BAD_CHAIN);
			continue;
		}
		/* Put together by the kernel (GSO, GRO), and perhaps cut off by a driver. */
		if (unlikely(m[i]->pkt_len > (uint32_t)q->dev->mtu + UPLINK_FRAME_OVERHEAD)) {
			rte_pktmbuf_free(m[i]);
			drop(q, DROP_TOO_LONG);
			continue;
		}
		m[kept++] = m[i];
	}
	return kept;
}

/* Forward what there is of m, nr in all, in as few calls as the scratch allows. */
static void forward(struct uplink_rxq *q, struct rte_mbuf **m, unsigned int nr)
{
	unsigned int used = 0, cnt = 0;

	lane_tick(q->lane);
	for (unsigned int i = 0; i < nr; i++) {
		if (unlikely(used + m[i]->nb_segs > UPLINK_RX_IOV_MAX)) {
			vswitch_forward(q->lane, q->port, q->frame, cnt);
			used = cnt = 0;
		}
		make_frame(q, cnt++, m[i], &q->iov[used]);
		used += m[i]->nb_segs;
	}
	vswitch_forward(q->lane, q->port, q->frame, cnt);
}

static unsigned int rx_turn(struct loop_source *s)
{
	struct uplink_rxq *q = container_of(s, struct uplink_rxq, source);
	struct rte_mbuf *m[FRAME_BURST];
	unsigned int nr, kept;

	nr = rte_eth_rx_burst(q->dev->port, q->queue, m, FRAME_BURST);
	if (!nr) {
		if (unlikely(q->poke))
			uplink_tx_poke(q->port, q->lane);
		return 0;
	}
	q->idle_ns = 0;
	kept = sort_out(q, m, nr);
	if (kept) {
		forward(q, m, kept);
		rte_pktmbuf_free_bulk(m, kept);
		counter_add(&q->frames, kept);
		counter_add(&q->bursts, 1);
	}
	return nr;
}

/* --- rest ---------------------------------------------------------------------------- */

static void arm(struct uplink_rxq *q)
{
	/* Drivers whose descriptor shows frames by itself have nothing to arm. */
	rte_eth_dev_rx_intr_enable(q->dev->port, q->queue);
}

static void disarm(struct uplink_rxq *q)
{
	uint64_t count;

	rte_eth_dev_rx_intr_disable(q->dev->port, q->queue);
	if (q->intr_is_eventfd && read(q->source.fd, &count, sizeof(count)) < 0)
		return; /* it was not the port that woke the loop */
}

static void rx_sleep(struct loop_source *s, bool asleep)
{
	struct uplink_rxq *q = container_of(s, struct uplink_rxq, source);

	if (q->intr) {
		if (asleep)
			arm(q);
		else
			disarm(q);
		return;
	}
	if (!asleep)
		return;
	s->sleep_max_ns =
		min_u64(max_u64(q->idle_ns / IDLE_SHARE, IDLE_SLEEP_MIN_NS), IDLE_SLEEP_MAX_NS);
	q->idle_ns += s->sleep_max_ns;
}

/* An eventfd stays readable until it is read; a queue's own descriptor (net_tap)
 * must not be read, as that would take a frame. */
static bool is_eventfd(int fd)
{
	char path[40], target[40];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = '\0';
	return !strcmp(target, "anon_inode:[eventfd]");
}

/* A VF's driver may have a descriptor, and no way to have it written to (igbvf). */
static bool can_arm(const struct uplink_rxq *q)
{
	if (rte_eth_dev_rx_intr_enable(q->dev->port, q->queue) == -ENOTSUP)
		return false;
	rte_eth_dev_rx_intr_disable(q->dev->port, q->queue);
	return true;
}

static void find_interrupt(struct uplink_rxq *q)
{
	int fd = -1;

	eal_be_lenient(true);
	if (q->dev->rx_intr)
		fd = rte_eth_dev_rx_intr_ctl_q_get_fd(q->dev->port, q->queue);
	q->intr_is_eventfd = fd >= 0 && is_eventfd(fd);
	if (q->intr_is_eventfd && !can_arm(q))
		fd = -1;
	eal_be_lenient(false);
	q->source.fd = fd < 0 ? -1 : fd;
	q->intr = fd >= 0;
}

/* --- on and off loops: control thread ------------------------------------------------- */

static void answered(struct ev_work *w)
{
	struct uplink_rxq *q = container_of(w, struct uplink_rxq, answer);

	q->done(q->opaque);
}

static void add_to_loop(struct loop_work *w)
{
	struct uplink_rxq *q = container_of(w, struct uplink_rxq, work);

	if (loop_source_add(q->loop, &q->source) < 0) {
		/* Its descriptor cannot be watched: then we look. */
		q->source.fd = -1;
		q->intr = false;
		loop_source_add(q->loop, &q->source);
	}
	ev_post(q->ev, &q->answer);
}

static void take_off_loop(struct loop_work *w)
{
	struct uplink_rxq *q = container_of(w, struct uplink_rxq, work);

	loop_source_del(q->loop, &q->source);
	ev_post(q->ev, &q->answer);
}

void uplink_rxq_add(struct uplink_rxq *q, struct loop *loop, struct sw_lane *lane,
		    void (*done)(void *opaque), void *opaque)
{
	find_interrupt(q);
	q->loop = loop;
	q->lane = lane;
	q->done = done;
	q->opaque = opaque;
	q->work.run = add_to_loop;
	loop_post(loop, &q->work);
}

void uplink_rxq_remove(struct uplink_rxq *q, void (*done)(void *opaque), void *opaque)
{
	q->done = done;
	q->opaque = opaque;
	q->work.run = take_off_loop;
	loop_post(q->loop, &q->work);
}

struct loop *uplink_rxq_loop(const struct uplink_rxq *q)
{
	return q->loop;
}

struct uplink_rxq *uplink_rxq_create(const struct uplink_rxq_conf *conf)
{
	struct uplink_rxq *q = numa_zalloc(sizeof(*q), conf->node);

	if (!q)
		return NULL;
	q->source.turn = rx_turn;
	q->source.sleep = rx_sleep;
	q->source.fd = -1;
	q->dev = conf->dev;
	q->port = conf->port;
	q->queue = conf->queue;
	q->poke = conf->poke;
	q->ev = conf->ev;
	q->answer.run = answered;
	return q;
}

void uplink_rxq_destroy(struct uplink_rxq *q)
{
	numa_zfree(q, sizeof(*q));
}

json_t *uplink_rxq_status(const struct uplink_rxq *q)
{
	return json_pack("{s:i, s:i, s:s, s:I, s:I}", "queue", (int)q->queue, "loop",
			 (int)loop_index(q->loop), "wakes-by", q->intr ? "interrupt" : "looking",
			 "frames", (json_int_t)counter_read(&q->frames), "bursts",
			 (json_int_t)counter_read(&q->bursts));
}
