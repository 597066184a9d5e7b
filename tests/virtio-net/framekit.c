/*
 * See framekit.h. Nothing here is clever or fast, so that it is seen to be right.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/framekit.h"

#include <stdlib.h>
#include <string.h>

#include "tests/core/test.h"
#include "virtio-net/net_bytes.h"

/* --- numbers ----------------------------------------------------------------------- */

uint64_t kit_random(uint64_t *seed)
{
	uint64_t v = *seed += 0x9e3779b97f4a7c15ull;

	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ull;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebull;
	return v ^ (v >> 31);
}

uint32_t kit_below(uint64_t *seed, uint32_t n)
{
	return (uint32_t)(kit_random(seed) % n);
}

uint16_t kit_sum(uint32_t sum, const uint8_t *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		sum += i & 1 ? p[i] : p[i] << 8u;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

/* The sum of the pseudo header of an IPv4 or IPv6 header. */
static uint16_t pseudo_sum(const uint8_t *ip, uint8_t proto, uint32_t len)
{
	bool v6 = ip[0] >> 4 == 6;
	uint8_t rest[8] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len, 0, 0, 0, proto };
	uint16_t sum;

	sum = v6 ? kit_sum(0, ip + IPV6_SADDR, 32) : kit_sum(0, ip + IPV4_SADDR, 8);
	return kit_sum(sum, rest, sizeof(rest));
}

bool kit_csum_good(const uint8_t *bytes, uint32_t len, uint16_t l3, uint16_t l4)
{
	const uint8_t *ip = bytes + l3;
	uint8_t proto = ip[IPV4_PROTO];
	uint32_t off = l3 + IPV6_HDR_LEN, ext;

	if (ip[0] >> 4 == 6) {
		proto = ip[IPV6_NEXT];
		while (off < l4) {
			ext = off;
			off += frame_ext_len(proto, bytes + ext);
			proto = bytes[ext];
		}
	}
	return kit_sum(pseudo_sum(ip, proto, len - l4), bytes + l4, len - l4) == 0xffff;
}

/* --- building ---------------------------------------------------------------------- */

static void add(struct kit_frame *k, const void *bytes, uint32_t n)
{
	assert_true(k->len + n <= sizeof(k->bytes));
	memcpy(k->bytes + k->len, bytes, n);
	k->len += n;
}

static void add_be16(struct kit_frame *k, uint16_t v)
{
	uint8_t bytes[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	add(k, bytes, sizeof(bytes));
}

static void add_ethernet(const struct kit_spec *spec, struct kit_frame *k)
{
	static const uint8_t macs[12] = { 0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1 };

	add(k, macs, sizeof(macs));
	if (spec->tags == 2) {
		add_be16(k, ETH_TYPE_8021AD);
		add_be16(k, 7);
	}
	if (spec->tags) {
		add_be16(k, ETH_TYPE_8021Q);
		add_be16(k, spec->tci);
	}
	add_be16(k, spec->v6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
}

static void add_ipv4(const struct kit_spec *spec, struct kit_frame *k)
{
	uint8_t ip[IPV4_HDR_LEN] = { [8] = 64, [9] = spec->proto, [12] = 10, 1, 2, 3, 192, 168, 77,
				     5 };
	uint8_t options[40];

	ip[0] = (uint8_t)(0x40 | (5 + spec->ip_options / 4));
	put_be16(ip + IPV4_ID, spec->ip_id);
	put_be16(ip + IPV4_FRAG, spec->frag);
	memset(options, 1, sizeof(options)); /* no operation */
	add(k, ip, sizeof(ip));
	add(k, options, spec->ip_options);
}

/* One extension header; what follows it is told by the caller. */
static void add_ext(const struct kit_spec *spec, struct kit_frame *k, uint8_t kind, uint8_t next)
{
	uint8_t ext[24] = { next };

	switch (kind) {
	case IP_PROTO_FRAGMENT:
		put_be16(ext + 2, spec->frag);
		add(k, ext, IPV6_FRAG_HDR_LEN);
		return;
	case IP_PROTO_AH:
		ext[1] = 4; /* 24 bytes */
		add(k, ext, 24);
		return;
	case IP_PROTO_ROUTING:
		ext[1] = 2;
		ext[2] = 2; /* type 2, one address */
		memset(ext + 8, 0xbb, 16);
		add(k, ext, 24);
		return;
	default:
		ext[1] = 0;
		ext[2] = 1; /* PadN */
		ext[3] = 4;
		add(k, ext, 8);
	}
}

static void add_ipv6(const struct kit_spec *spec, struct kit_frame *k)
{
	uint8_t ip[IPV6_HDR_LEN] = {
		0x60, 0x12, 0x34, 0x56, [7] = 64, [8] = 0xfd, [23] = 1, [24] = 0xfd, 7, [39] = 2
	};

	ip[IPV6_NEXT] = spec->nr_ext ? spec->ext[0] : spec->proto;
	add(k, ip, sizeof(ip));
	for (unsigned int i = 0; i < spec->nr_ext; i++)
		add_ext(spec, k, spec->ext[i],
			i + 1 < spec->nr_ext ? spec->ext[i + 1] : spec->proto);
}

static void add_transport(const struct kit_spec *spec, struct kit_frame *k)
{
	uint8_t tcp[TCP_HDR_LEN + 40] = { 0 }, udp[UDP_HDR_LEN] = { 0 };
	uint8_t *ports = spec->proto == IP_PROTO_TCP ? tcp : udp;

	put_be16(ports, spec->sport ? spec->sport : 40000);
	put_be16(ports + 2, spec->dport ? spec->dport : 5201);
	if (spec->proto == IP_PROTO_UDP) {
		put_be16(udp + UDP_LEN, (uint16_t)(UDP_HDR_LEN + spec->payload));
		add(k, udp, sizeof(udp));
	} else if (spec->proto == IP_PROTO_TCP) {
		put_be32(tcp + TCP_SEQ, spec->tcp_seq);
		put_be32(tcp + 8, 0x01020304);
		tcp[TCP_DATA_OFFSET] = (uint8_t)((5 + spec->tcp_options / 4) << 4);
		tcp[TCP_FLAGS] = spec->tcp_flags;
		put_be16(tcp + 14, 502);
		memset(tcp + TCP_HDR_LEN, 1, spec->tcp_options);
		add(k, tcp, TCP_HDR_LEN + spec->tcp_options);
	}
}

static void finish_ip(const struct kit_spec *spec, struct kit_frame *k)
{
	uint8_t *ip = k->bytes + k->l3;
	uint32_t ihl = (ip[0] & 15) * 4u;

	if (spec->v6) {
		put_be16(ip + IPV6_PAYLOAD_LEN, (uint16_t)(k->len - k->l3 - IPV6_HDR_LEN));
		return;
	}
	put_be16(ip + IPV4_TOTAL_LEN, (uint16_t)(k->len - k->l3));
	put_be16(ip + IPV4_CSUM, (uint16_t)~kit_sum(0, ip, ihl));
}

void kit_build(const struct kit_spec *spec, struct kit_frame *k)
{
	uint8_t *l4;

	k->len = 0;
	add_ethernet(spec, k);
	k->l3 = (uint16_t)k->len;
	if (spec->v6)
		add_ipv6(spec, k);
	else
		add_ipv4(spec, k);
	k->l4 = (uint16_t)k->len;
	add_transport(spec, k);
	k->hdr_len = (uint16_t)k->len;
	assert_true(k->len + spec->payload <= sizeof(k->bytes));
	for (uint32_t i = 0; i < spec->payload; i++)
		k->bytes[k->len++] = (uint8_t)(i * 7 + (i >> 8) * 13 + 1);
	finish_ip(spec, k);
	l4 = k->bytes + k->l4;
	if (spec->proto == IP_PROTO_TCP)
		put_be16(l4 + TCP_CSUM, pseudo_sum(k->bytes + k->l3, IP_PROTO_TCP, k->len - k->l4));
	if (spec->proto == IP_PROTO_UDP)
		put_be16(l4 + UDP_CSUM, pseudo_sum(k->bytes + k->l3, IP_PROTO_UDP, k->len - k->l4));
}

struct virtio_net_hdr kit_hdr(const struct kit_frame *k, uint16_t gso_size)
{
	bool v6 = k->bytes[k->l3] >> 4 == 6, udp = k->hdr_len == k->l4 + UDP_HDR_LEN;
	struct virtio_net_hdr h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = cpu_to_le16(k->l4),
		.csum_offset = cpu_to_le16(udp ? UDP_CSUM : TCP_CSUM),
	};

	if (!gso_size)
		return h;
	h.gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	if (udp)
		h.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	h.gso_size = cpu_to_le16(gso_size);
	h.hdr_len = cpu_to_le16(k->hdr_len);
	return h;
}

/* --- buffers ----------------------------------------------------------------------- */

static void add_buffer(struct kit_iov *v, const uint8_t *bytes, uint32_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	v->iov = realloc(v->iov, (v->nr + 1) * sizeof(*v->iov));
	assert_non_null(v->iov);
	v->iov[v->nr++] = (struct iovec){ copy, len };
}

void kit_cut(struct kit_iov *v, const uint8_t *bytes, uint32_t len, const uint32_t *cuts,
	     unsigned int nr_cuts)
{
	uint32_t off = 0;

	v->nr = 0;
	v->iov = NULL;
	v->room = malloc(FRAME_ROOM);
	assert_non_null(v->room);
	for (unsigned int i = 0; i < nr_cuts && off + cuts[i] <= len; i++) {
		add_buffer(v, bytes + off, cuts[i]);
		off += cuts[i];
	}
	if (off < len || !v->nr)
		add_buffer(v, bytes + off, len - off);
}

void kit_cut_anyhow(struct kit_iov *v, const uint8_t *bytes, uint32_t len, uint64_t *seed)
{
	uint32_t cuts[40];
	unsigned int nr = kit_below(seed, 40);

	for (unsigned int i = 0; i < nr; i++)
		cuts[i] = kit_below(seed, kit_below(seed, 2) ? 40 : 3000);
	kit_cut(v, bytes, len, cuts, nr);
}

void kit_iov_free(struct kit_iov *v)
{
	for (unsigned int i = 0; i < v->nr; i++)
		free(v->iov[i].iov_base);
	free(v->iov);
	free(v->room);
	v->nr = 0;
}

void kit_frame_init(struct frame *f, struct kit_iov *v, uint32_t len)
{
	frame_init(f, v->room, v->iov, v->nr, 0, len);
}

uint32_t kit_gather(const struct frame *f, uint8_t *dst)
{
	uint32_t off = f->tail_off, entry = 0;

	for (uint32_t i = 0; i < f->len; i++) {
		if (i < f->head_len) {
			dst[i] = f->head[i];
			continue;
		}
		while (off == f->tail[entry].iov_len) {
			entry++;
			off = 0;
			assert_true(entry < f->nr_tail);
		}
		dst[i] = ((const uint8_t *)f->tail[entry].iov_base)[off++];
	}
	return f->len;
}
