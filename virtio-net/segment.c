/*
 * Cutting large segments into frames: what a network card does for its driver,
 * for receivers that cannot take them whole. Called by receive paths and uplinks
 * on the threads of loops. It never copies payload that is in the tail, and
 * never writes to the frame it cuts.
 *
 * DPDK's rte_gso works on mbufs and, in 22.11, knows neither TCP over IPv6 nor
 * UDP_L4; between guests there are no mbufs, so this is our own.
 *
 * Theory of operation
 *
 * A piece gets a copy of the headers, patched, in the segmenter's room, behind
 * them what payload of its own is in the head of the whole, and its part of the
 * tail by reference. The checksum field of the whole holds the sum of the pseudo
 * header with the length of the whole (VIRTIO 1.3, "Packet Transmission"); that of
 * a piece is this sum with the length exchanged, which is right with routing
 * headers too, where the addresses are not those of the IP header.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/base.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/offload.h"

int segmenter_init(struct segmenter *s, const struct frame *f, bool keep_csum)
{
	const struct frame_offload *o = &f->offload;
	uint16_t partial;

	s->whole = f;
	s->off = o->hdr_len;
	s->tail = f->tail;
	s->tail_off = f->tail_off;
	s->nr_tail = f->nr_tail;
	s->keep_csum = keep_csum;
	s->tcp = (o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) != VIRTIO_NET_HDR_GSO_UDP_L4;
	if (!o->gso_type || !o->gso_size || o->hdr_len > f->head_len || !o->ip_start ||
	    o->csum_start < o->ip_start + (o->gso_v6 ? IPV6_HDR_LEN : IPV4_HDR_LEN) ||
	    o->hdr_len < o->csum_start + (s->tcp ? TCP_HDR_LEN : UDP_HDR_LEN))
		return -DROP_OFFLOAD;
	s->ip_id = get_be16(f->head + o->ip_start + IPV4_ID);
	if (s->tcp)
		s->tcp_seq = get_be32(f->head + o->csum_start + TCP_SEQ);
	memcpy(&partial, f->head + o->csum_start + o->csum_offset, sizeof(partial));
	s->pseudo = partial + (uint16_t)~csum_word((uint16_t)(f->len - o->csum_start));
	return 0;
}

static void patch_ip(struct segmenter *s, struct frame *piece)
{
	const struct frame_offload *o = &s->whole->offload;
	uint8_t *ip = piece->head + o->ip_start;
	uint32_t len = piece->len - o->ip_start;
	uint16_t csum;

	if (o->gso_v6) {
		put_be16(ip + IPV6_PAYLOAD_LEN, (uint16_t)(len - IPV6_HDR_LEN));
		return;
	}
	put_be16(ip + IPV4_TOTAL_LEN, (uint16_t)len);
	put_be16(ip + IPV4_ID, s->ip_id++);
	put_be16(ip + IPV4_CSUM, 0);
	csum = (uint16_t)~csum_fold(net_csum_sum(ip, o->csum_start - o->ip_start));
	memcpy(ip + IPV4_CSUM, &csum, sizeof(csum));
}

static void patch_transport(struct segmenter *s, struct frame *piece, uint32_t payload)
{
	const struct frame_offload *o = &s->whole->offload;
	uint8_t *l4 = piece->head + o->csum_start;

	if (!s->tcp) {
		put_be16(l4 + UDP_LEN, (uint16_t)(piece->len - o->csum_start));
		return;
	}
	put_be32(l4 + TCP_SEQ, s->tcp_seq);
	s->tcp_seq += payload;
	/* RFC 3168, 6.1.2: congestion window reduced is said once, with the first. */
	if (s->off != o->hdr_len)
		l4[TCP_FLAGS] &= (uint8_t)~TCP_FLAG_CWR;
	if (s->off + payload < s->whole->len)
		l4[TCP_FLAGS] &= (uint8_t) ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
}

static void patch_csum(struct segmenter *s, struct frame *piece)
{
	const struct frame_offload *o = &s->whole->offload;
	uint16_t partial = csum_fold(s->pseudo + csum_word((uint16_t)(piece->len - o->csum_start)));

	memcpy(piece->head + o->csum_start + o->csum_offset, &partial, sizeof(partial));
	piece->offload = (struct frame_offload){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = o->csum_start,
		.csum_offset = o->csum_offset,
	};
	if (!s->keep_csum)
		offload_finish_csum(piece);
}

static void skip_tail(struct segmenter *s, uint32_t n)
{
	s->tail_off += n;
	while (s->nr_tail > 1 && s->tail_off >= s->tail->iov_len) {
		s->tail_off -= (uint32_t)s->tail->iov_len;
		s->tail++;
		s->nr_tail--;
	}
}

bool segmenter_next(struct segmenter *s, struct frame *piece)
{
	const struct frame *whole = s->whole;
	uint16_t hdr_len = whole->offload.hdr_len;
	uint32_t payload = (uint32_t)min_u64(whole->offload.gso_size, whole->len - s->off);
	uint32_t in_head = 0;

	if (!payload)
		return false;
	if (s->off < whole->head_len)
		in_head = (uint32_t)min_u64(payload, whole->head_len - s->off);
	*piece = *whole;
	piece->head = s->room + FRAME_HEADROOM;
	memcpy(piece->head, whole->head, hdr_len);
	memcpy(piece->head + hdr_len, whole->head + s->off, in_head);
	piece->len = hdr_len + payload;
	piece->head_len = (uint16_t)(hdr_len + in_head);
	piece->tail = s->tail;
	piece->tail_off = s->tail_off;
	piece->nr_tail = s->nr_tail;
	frame_pull(piece, FRAME_HEAD_FIRST);
	patch_ip(s, piece);
	patch_transport(s, piece, payload);
	patch_csum(s, piece);
	skip_tail(s, payload - in_head);
	s->off += payload;
	return true;
}
