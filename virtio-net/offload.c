/*
 * What a driver asks for with virtio_net_hdr: is it sound, can a receiver take
 * it, and completing checksums for one that cannot. Called by the transmit and
 * receive paths and by uplinks on the threads of loops; segment.c cuts large
 * segments. It never trusts a length or an offset of the driver's header, and
 * writes nothing but the checksum field.
 *
 * Theory of operation
 *
 * A header is checked once, when the frame comes in, against what is really in
 * the private head of the frame: from then on f->offload is true. hdr_len is
 * worked out from the frame, the driver's is not looked at (VIRTIO 1.3, "Packet
 * Transmission": the device MUST NOT rely on it).
 *
 * The place of a checksum is the driver's choice, and it is written after the
 * switch has decided where the frame goes and whether it may. So the field must
 * lie behind all that was decided upon, or a guest would have us write addresses
 * or ports of its choice into a frame that has passed the access list.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/offload.h"

#include "core/base.h"
#include "virtio-net/net_bytes.h"

#define GSO_TYPE_MASK ((uint8_t)~VIRTIO_NET_HDR_GSO_ECN)
#define TAGS_MAX 2 /* as many as frame_layers() looks behind */
#define ETH_TAGGED_MAX (ETH_HDR_LEN + TAGS_MAX * VLAN_TAG_LEN)

/* --- accepting -------------------------------------------------------------------- */

static bool has(uint64_t features, unsigned int bit)
{
	return features >> bit & 1;
}

static unsigned int nr_tags(const struct frame *f)
{
	uint16_t end = ETH_HDR_LEN;
	unsigned int nr;

	for (nr = 0; nr < TAGS_MAX && end <= f->head_len; nr++, end += VLAN_TAG_LEN) {
		if (!frame_type_is_tag(get_be16(f->head + end - 2)))
			break;
	}
	return nr;
}

bool offload_fits(const struct frame *f, uint16_t mtu)
{
	const struct frame_offload *o = &f->offload;
	uint32_t len = o->gso_type ? (uint32_t)o->hdr_len + o->gso_size : f->len;
	uint32_t max = mtu + ETH_HDR_LEN;

	/* What drivers with VLAN devices take an MTU for: tags come on top. */
	return !mtu || len <= max || len <= max + nr_tags(f) * VLAN_TAG_LEN;
}

/* The first bytes of a transport header that a checksum must not touch. */
static unsigned int before_csum(uint8_t proto)
{
	switch (proto) {
	case IP_PROTO_TCP:
		return TCP_CSUM;
	case IP_PROTO_UDP:
		return UDP_CSUM;
	}
	return FRAME_L4_MIN;
}

static bool accept_csum(struct frame *f, const struct frame_layers *l, uint32_t start,
			uint32_t offset)
{
	uint32_t first = ETH_TAGGED_MAX, floor = ETH_TAGGED_MAX;

	/* Once the switch has taken a tag away, access lists would see headers that
	 * nobody has looked at here, and that the checksum may be written into. */
	if (frame_type_is_tag(l->ethertype))
		return false;
	/* A fragment has no checksum of its own to be completed. */
	if (l->l3 && (!l->l4 || l->fragment))
		return false;
	if (l->l4) {
		first = l->l4;
		floor = l->l4 + before_csum(l->ip_proto);
	}
	if (start < first || start + offset < floor || start + offset + 2 > FRAME_HEAD_MAX)
		return false;
	if (!frame_pull(f, (uint16_t)(start + offset + 2)))
		return false;
	f->offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	f->offload.csum_start = (uint16_t)start;
	f->offload.csum_offset = (uint16_t)offset;
	return true;
}

/* Is gso_type negotiated, and what the frame really is? VIRTIO 1.3, "Packet
 * Transmission". UFO (GSO_UDP) is never offered. */
static bool gso_type_matches(uint8_t gso_type, const struct frame_layers *l, uint64_t features)
{
	bool tcp = l->ip_proto == IP_PROTO_TCP, v4 = l->ethertype == ETH_TYPE_IPV4;

	if (gso_type & VIRTIO_NET_HDR_GSO_ECN && (!has(features, VIRTIO_NET_F_HOST_ECN) || !tcp))
		return false;
	switch (gso_type & GSO_TYPE_MASK) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return has(features, VIRTIO_NET_F_HOST_TSO4) && tcp && v4;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return has(features, VIRTIO_NET_F_HOST_TSO6) && tcp && !v4;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return has(features, VIRTIO_NET_F_HOST_USO) && l->ip_proto == IP_PROTO_UDP;
	}
	return false;
}

/* The end of the transport header, pulled; 0 if there is none. */
static uint16_t transport_end(struct frame *f, const struct frame_layers *l)
{
	uint32_t end = l->l4 + UDP_HDR_LEN;

	if (l->ip_proto == IP_PROTO_TCP) {
		if (f->head_len < l->l4 + TCP_HDR_LEN)
			return 0;
		end = l->l4 + (f->head[l->l4 + TCP_DATA_OFFSET] >> 4) * 4u;
		if (end < l->l4 + (uint32_t)TCP_HDR_LEN)
			return 0;
	}
	if (end > FRAME_HEAD_MAX || !frame_pull(f, (uint16_t)end))
		return 0;
	return (uint16_t)end;
}

static bool accept_gso(struct frame *f, const struct frame_layers *l,
		       const struct virtio_net_hdr *h, uint64_t features)
{
	uint16_t gso_size = le16_to_cpu(h->gso_size), hdr_len;
	struct frame_offload *o = &f->offload;
	unsigned int csum_offset;
	uint8_t gso_type = h->gso_type;

	/* The same requires NEEDS_CSUM with every large segment. */
	if (!gso_size || !(o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || !l->l4)
		return false;
	if (!gso_type_matches(gso_type, l, features))
		return false;
	csum_offset = l->ip_proto == IP_PROTO_TCP ? TCP_CSUM : UDP_CSUM;
	hdr_len = transport_end(f, l);
	if (!hdr_len || o->csum_start != l->l4 || o->csum_offset != csum_offset)
		return false;
	if (f->len <= (uint32_t)hdr_len + gso_size)
		return true;
	if (f->len - hdr_len > (uint32_t)gso_size * OFFLOAD_PIECES_MAX)
		return false;
	/* A driver without HOST_ECN may not say so, but its receiver must know. */
	if (l->ip_proto == IP_PROTO_TCP && f->head[l->l4 + TCP_FLAGS] & TCP_FLAG_CWR)
		gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	o->gso_type = gso_type;
	o->gso_v6 = l->ethertype == ETH_TYPE_IPV6;
	o->gso_size = gso_size;
	o->ip_start = l->l3;
	o->hdr_len = hdr_len;
	return true;
}

int offload_accept(struct frame *f, const struct virtio_net_hdr *h, uint64_t features, uint16_t mtu)
{
	/* DATA_VALID and RSC_INFO are not a driver's to set, and flags unknown to
	 * the device are to be ignored. */
	bool needs_csum = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	struct frame_layers l;

	f->offload = (struct frame_offload){ 0 };
	if (f->len < ETH_HDR_LEN)
		return -DROP_BAD_CHAIN;
	if (f->len > FRAME_LEN_MAX)
		return -DROP_TOO_LONG;
	if (unlikely(needs_csum || h->gso_type)) {
		frame_layers(f, &l);
		if (needs_csum &&
		    (!has(features, VIRTIO_NET_F_CSUM) ||
		     !accept_csum(f, &l, le16_to_cpu(h->csum_start), le16_to_cpu(h->csum_offset))))
			return -DROP_BAD_HEADER;
		if (h->gso_type && !accept_gso(f, &l, h, features))
			return -DROP_BAD_HEADER;
	}
	return offload_fits(f, mtu) ? 0 : -DROP_TOO_LONG;
}

/* --- receivers --------------------------------------------------------------------- */

bool offload_passes(const struct frame *f, const struct offload_caps *caps)
{
	const struct frame_offload *o = &f->offload;

	if (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !caps->csum)
		return false;
	if (o->gso_type & VIRTIO_NET_HDR_GSO_ECN && !caps->ecn)
		return false;
	switch (o->gso_type & GSO_TYPE_MASK) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return caps->tso4;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return caps->tso6;
	}
	return o->gso_v6 ? caps->uso6 : caps->uso4;
}

void offload_to_hdr(const struct frame *f, const struct offload_caps *caps,
		    struct virtio_net_hdr *h)
{
	const struct frame_offload *o = &f->offload;

	*h = (struct virtio_net_hdr){ .gso_type = o->gso_type };
	/* VIRTIO 1.3, "Processing of Incoming Packets": without GUEST_CSUM the
	 * device MUST set flags to zero. */
	if (caps->csum)
		h->flags = o->flags;
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		h->csum_start = cpu_to_le16(o->csum_start);
		h->csum_offset = cpu_to_le16(o->csum_offset);
	}
	if (o->gso_type) {
		h->hdr_len = cpu_to_le16(o->hdr_len);
		h->gso_size = cpu_to_le16(o->gso_size);
	}
}

/* --- checksums ---------------------------------------------------------------------- */

/* The sum of all bytes from off, which is in head, to the end. */
static uint64_t sum_from(const struct frame *f, uint16_t off)
{
	uint64_t sum = net_csum_sum(f->head + off, f->head_len - off), part;
	uint32_t left = f->len - f->head_len, n;
	size_t skip = f->tail_off;
	bool odd = (f->head_len - off) & 1;

	for (unsigned int i = 0; left; i++) {
		assert(i < f->nr_tail);
		n = (uint32_t)min_u64(left, f->tail[i].iov_len - skip);
		part = net_csum_sum((const uint8_t *)f->tail[i].iov_base + skip, n);
		sum += odd ? csum_odd(part) : csum_fold(part);
		odd ^= n & 1;
		left -= n;
		skip = 0;
	}
	return sum;
}

void offload_finish_csum(struct frame *f)
{
	uint32_t field = f->offload.csum_start + f->offload.csum_offset;
	uint16_t csum;

	assert(f->offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && field + 2 <= f->head_len);
	csum = csum_final(sum_from(f, f->offload.csum_start));
	memcpy(f->head + field, &csum, sizeof(csum));
	f->offload = (struct frame_offload){ 0 };
}
