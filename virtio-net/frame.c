/*
 * Frames: making the front private, finding the headers, VLAN tags, copying.
 * Called by everything that touches frames, on the thread of the loop they are
 * on. It never decides whether a frame may pass, and never writes to a tail.
 *
 * Theory of operation
 *
 * Pulling copies from memory that the sender may be changing. What was copied is
 * looked at, and the same copy is what leaves; what is still in the tail is
 * never looked at, but for a checksum, whose value nobody relies on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/frame.h"

#include <string.h>

#include "core/base.h"
#include "virtio-net/net_bytes.h"

/* Tags inside a tag are data to the switch; headers are found behind so many. */
#define TAGS_MAX 2

/* --- bytes ----------------------------------------------------------------------- */

/* n bytes from the tail, where they must be, to dst; *pos and *off go on. */
static void tail_read(const struct frame *f, unsigned int *pos, size_t *off, uint8_t *dst,
		      uint32_t n)
{
	const struct iovec *iov;
	size_t part;

	while (n) {
		assert(*pos < f->nr_tail);
		iov = &f->tail[*pos];
		part = min_u64(n, iov->iov_len - *off);
		memcpy(dst, (const uint8_t *)iov->iov_base + *off, part);
		dst += part;
		n -= (uint32_t)part;
		*off += part;
		if (*off == iov->iov_len && *pos + 1 < f->nr_tail) {
			(*pos)++;
			*off = 0;
		}
	}
}

void frame_init(struct frame *f, uint8_t *room, const struct iovec *iov, unsigned int nr,
		size_t skip, uint32_t len)
{
	*f = (struct frame){ .head = room + FRAME_HEADROOM, .len = len };
	while (nr > 1 && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		nr--;
	}
	f->tail = iov;
	f->tail_off = (uint32_t)skip;
	f->nr_tail = (uint16_t)nr;
	frame_pull_more(f, FRAME_HEAD_FIRST);
}

bool frame_pull_more(struct frame *f, uint16_t n)
{
	uint16_t end = (uint16_t)min_u64(n, f->len);
	size_t off = f->tail_off;
	unsigned int pos = 0;

	assert(n <= FRAME_HEAD_MAX);
	if (end > f->head_len) {
		tail_read(f, &pos, &off, f->head + f->head_len, end - f->head_len);
		f->tail += pos;
		f->nr_tail -= (uint16_t)pos;
		f->tail_off = (uint32_t)off;
		f->head_len = end;
	}
	return n <= f->len;
}

void frame_copy(const struct frame *f, uint8_t *dst)
{
	size_t off = f->tail_off;
	unsigned int pos = 0;

	memcpy(dst, f->head, f->head_len);
	tail_read(f, &pos, &off, dst + f->head_len, f->len - f->head_len);
}

void frame_copy_part(const struct frame *f, uint32_t off, uint8_t *dst, uint32_t n)
{
	size_t tail_off = f->tail_off;
	unsigned int pos = 0;
	uint32_t part;

	assert(off <= f->len && n <= f->len - off);
	if (off < f->head_len) {
		part = (uint32_t)min_u64(n, f->head_len - off);
		memcpy(dst, f->head + off, part);
		off += part;
		dst += part;
		n -= part;
	}
	if (!n)
		return;
	tail_off += off - f->head_len;
	while (tail_off >= f->tail[pos].iov_len) {
		tail_off -= f->tail[pos].iov_len;
		pos++;
		assert(pos < f->nr_tail);
	}
	tail_read(f, &pos, &tail_off, dst, n);
}

/* --- headers --------------------------------------------------------------------- */

/* The transport header at off, if there is one that can be looked at. */
static void find_l4(struct frame *f, struct frame_layers *l, uint32_t off)
{
	if (l->later_fragment || off > FRAME_HEAD_MAX - TCP_HDR_LEN || off + FRAME_L4_MIN > f->len)
		return;
	frame_pull(f, (uint16_t)(off + TCP_HDR_LEN));
	l->l4 = (uint16_t)off;
}

static void find_ipv4(struct frame *f, struct frame_layers *l, uint16_t off)
{
	const uint8_t *ip = f->head + off;
	unsigned int hdr_len;
	uint16_t frag;

	if (!frame_pull(f, off + IPV4_HDR_LEN) || ip[0] >> 4 != 4)
		return;
	hdr_len = (ip[0] & 15) * 4u;
	if (hdr_len < IPV4_HDR_LEN || !frame_pull(f, (uint16_t)(off + hdr_len)))
		return;
	frag = get_be16(ip + IPV4_FRAG);
	l->l3 = off;
	l->ip_proto = ip[IPV4_PROTO];
	l->ip_options = hdr_len > IPV4_HDR_LEN;
	l->fragment = frag & (IPV4_FRAG_MORE | IPV4_FRAG_OFFSET);
	l->later_fragment = frag & IPV4_FRAG_OFFSET;
	find_l4(f, l, off + hdr_len);
}

/* RFC 8200, "IPv6 Extension Headers"; RFC 4302 for AH, which counts in units of 4
 * bytes. */
uint32_t frame_ext_len(uint8_t ip_proto, const uint8_t *ext)
{
	switch (ip_proto) {
	case IP_PROTO_HOPOPTS:
	case IP_PROTO_ROUTING:
	case IP_PROTO_DSTOPTS:
		return (ext[1] + 1u) * 8;
	case IP_PROTO_FRAGMENT:
		return IPV6_FRAG_HDR_LEN;
	case IP_PROTO_AH:
		return (ext[1] + 2u) * 4;
	}
	return 0;
}

static bool is_ext(uint8_t proto)
{
	static const uint8_t zero[8];

	return frame_ext_len(proto, zero);
}

static void find_ipv6(struct frame *f, struct frame_layers *l, uint16_t start)
{
	const uint8_t *ip = f->head + start;
	uint32_t off = start + IPV6_HDR_LEN;
	const uint8_t *ext;
	uint16_t frag;

	if (!frame_pull(f, (uint16_t)off) || ip[0] >> 4 != 6)
		return;
	l->l3 = start;
	l->ip_proto = ip[IPV6_NEXT];
	/* Every header has 8 bytes or more, so head bounds the loop. */
	while (is_ext(l->ip_proto) && !l->later_fragment) {
		if (off + 8 > FRAME_HEAD_MAX || !frame_pull(f, (uint16_t)(off + 8)))
			return;
		ext = f->head + off;
		l->ip_options = true;
		if (l->ip_proto == IP_PROTO_FRAGMENT) {
			frag = get_be16(ext + 2);
			l->fragment = true;
			l->later_fragment = frag & IPV6_FRAG_OFFSET;
		}
		off += frame_ext_len(l->ip_proto, ext);
		l->ip_proto = ext[0];
	}
	find_l4(f, l, off);
}

void frame_layers(struct frame *f, struct frame_layers *l)
{
	uint16_t off = ETH_TYPE_OFFSET;

	*l = (struct frame_layers){ 0 };
	if (!frame_pull(f, ETH_HDR_LEN))
		return;
	l->ethertype = get_be16(f->head + off);
	for (int i = 0; i < TAGS_MAX && frame_type_is_tag(l->ethertype); i++) {
		off += VLAN_TAG_LEN;
		if (!frame_pull(f, off + 2))
			return;
		l->ethertype = get_be16(f->head + off);
	}
	off += 2;
	if (l->ethertype == ETH_TYPE_IPV4)
		find_ipv4(f, l, off);
	else if (l->ethertype == ETH_TYPE_IPV6)
		find_ipv6(f, l, off);
}

/* --- VLAN tags ------------------------------------------------------------------- */

static void put_tag(uint8_t *tag, const struct frame *f)
{
	put_be16(tag, ETH_TYPE_8021Q);
	put_be16(tag + 2, (uint16_t)(f->pcp_dei << 12 | f->vid));
}

/* A tag came (+) or went (-). */
static void move_offsets(struct frame *f, int by)
{
	f->len = (uint32_t)((int)f->len + by);
	f->head_len = (uint16_t)(f->head_len + by);
	if (f->offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		f->offload.csum_start = (uint16_t)(f->offload.csum_start + by);
	if (f->offload.gso_type) {
		f->offload.ip_start = (uint16_t)(f->offload.ip_start + by);
		f->offload.hdr_len = (uint16_t)(f->offload.hdr_len + by);
	}
}

void frame_own(const struct frame *f, uint8_t *room, struct frame *out)
{
	*out = *f;
	out->head = room + FRAME_HEADROOM;
	/* The usual length is one the compiler knows. */
	if (likely(f->head_len == FRAME_HEAD_FIRST))
		memcpy(out->head, f->head, FRAME_HEAD_FIRST);
	else
		memcpy(out->head, f->head, f->head_len);
}

void frame_retag(const struct frame *f, bool tagged, uint8_t *room, struct frame *out)
{
	int by = (tagged - f->tagged) * VLAN_TAG_LEN;

	frame_own(f, room, out);
	if (by) {
		/* The addresses move, which is less than the rest. */
		out->head -= by;
		memcpy(out->head, f->head, ETH_TYPE_OFFSET);
		move_offsets(out, by);
		frame_pull(out, FRAME_HEAD_FIRST);
	}
	out->tagged = tagged;
	if (tagged)
		put_tag(out->head + ETH_TYPE_OFFSET, out);
}
