/*
 * Fuzz target: the header a driver writes and the frame behind it, with any
 * features and MTU, buffers cut anywhere: taken over, looked at, hashed, tagged,
 * completed, cut up.
 *
 * Must hold: no byte outside the frame is touched (each buffer is its own
 * allocation); what is accepted is true, within head and within the MTU; the
 * checksum is not written where the switch has looked; pieces add up to the whole
 * and are sound frames; a frame is the same bytes in whichever way it is read.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/offload.h"
#include "virtio-net/vnet_rss.h"

#define CUTS_MAX 4
#define LEN_MAX (FRAME_LEN_MAX + 2)

/* The first bytes of the input. */
struct input {
	struct virtio_net_hdr hdr;
	uint8_t features; /* bits of feature_bits */
	uint8_t how; /* tags, and more bits that decide what is done */
	uint16_t mtu;
	uint16_t more; /* bytes of a pattern behind those of the input */
	uint8_t cuts[CUTS_MAX]; /* lengths of buffers */
};
static_assert(sizeof(struct input) == 20, "no holes");

#define HOW_RETAG 1
#define HOW_TAGGED 2
#define HOW_KEEP_CSUM 4
#define HOW_PULL 8

static const uint8_t feature_bits[] = { VIRTIO_NET_F_CSUM,	VIRTIO_NET_F_HOST_TSO4,
					VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
					VIRTIO_NET_F_HOST_USO,	VIRTIO_NET_F_HOST_UFO };

static uint8_t bytes[LEN_MAX], gathered[LEN_MAX + VLAN_TAG_LEN];

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			abort();                                                                   \
	} while (0)

/* --- buffers ------------------------------------------------------------------------- */

static uint32_t cut(struct iovec *iov, const struct input *in, uint32_t len)
{
	uint32_t off = 0, n, nr = 0;

	for (unsigned int i = 0; i <= CUTS_MAX; i++) {
		n = i < CUTS_MAX ? (uint32_t)min_u64(in->cuts[i], len - off) : len - off;
		iov[nr].iov_base = malloc(n ? n : 1);
		must(iov[nr].iov_base);
		memcpy(iov[nr].iov_base, bytes + off, n);
		iov[nr++].iov_len = n;
		off += n;
	}
	return nr;
}

static void check_sound(const struct frame *f)
{
	const struct frame_offload *o = &f->offload;

	must(f->head_len <= f->len && f->head_len >= min_u64(f->len, FRAME_HEAD_FIRST));
	if (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		must(o->csum_start + o->csum_offset + 2 <= f->head_len);
	if (o->gso_type) {
		must(o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
		must(o->gso_size && o->hdr_len > o->csum_start && o->hdr_len <= f->head_len);
		must(f->len > (uint32_t)o->hdr_len + o->gso_size);
	}
}

/* The same bytes, as a whole and in parts. */
static void check_copies(const struct frame *f)
{
	uint8_t *whole = malloc(f->len ? f->len : 1);
	uint32_t third = f->len / 3;

	must(whole);
	frame_copy(f, whole);
	frame_copy_part(f, 0, gathered, third);
	frame_copy_part(f, third, gathered + third, f->len - third);
	must(!memcmp(whole, gathered, f->len));
	free(whole);
}

/* --- what is done to a frame ----------------------------------------------------------- */

static void check_layers(struct frame *f)
{
	struct vnet_rss_conf conf = { .hash_types = VNET_HASH_TYPES, .key = { 1, 2, 3, 4, 5 } };
	static struct vnet_rss *rss;
	struct frame_layers l;
	struct vnet_hash hash;

	frame_layers(f, &l);
	must(!l.l4 || (l.l3 && l.l4 > l.l3 && l.l4 + FRAME_L4_MIN <= f->head_len));
	must(!l.later_fragment || (l.fragment && !l.l4));
	if (!rss)
		rss = vnet_rss_create(&conf);
	must(rss && vnet_rss_queue(rss, f, &hash) == VNET_RSS_NO_QUEUE);
	must(!!hash.report == !!l.l3);
}

/* Everything the switch decides upon is as it was, the checksum good. */
static void check_finish(const struct frame *f)
{
	const struct frame_offload *o = &f->offload;
	uint8_t room[FRAME_ROOM];
	struct frame_layers l;
	struct frame own, look = *f;
	uint64_t sum;
	uint16_t old;

	frame_own(f, room, &own);
	offload_finish_csum(&own);
	check_sound(&own);
	must(offload_is_plain(&own));
	frame_layers(&look, &l);
	must(!memcmp(own.head, f->head, l.l4 ? l.l4 + FRAME_L4_MIN : ETH_HDR_LEN));
	/* A good checksum and all that it is of make zero, but for what was in its
	 * place before: the sum of a pseudo header that is not in the frame. */
	frame_copy(&own, gathered);
	sum = net_csum_sum(gathered + o->csum_start, own.len - o->csum_start);
	memcpy(&old, f->head + o->csum_start + o->csum_offset, sizeof(old));
	must(o->csum_offset & 1 || csum_fold(sum + old) == 0xffff);
}

static void check_piece(const struct frame *whole, const struct frame *piece, bool keep_csum)
{
	const struct frame_offload *o = &whole->offload;
	const uint8_t *ip = piece->head + o->ip_start;

	check_sound(piece);
	must(piece->len <= (uint32_t)o->hdr_len + o->gso_size);
	must(!piece->offload.gso_type && keep_csum == !offload_is_plain(piece));
	if (o->gso_v6) {
		must(ip[0] >> 4 == 6);
		must(get_be16(ip + IPV6_PAYLOAD_LEN) == piece->len - o->ip_start - IPV6_HDR_LEN);
	} else {
		must(ip[0] >> 4 == 4);
		must(get_be16(ip + IPV4_TOTAL_LEN) == piece->len - o->ip_start);
		must(csum_fold(net_csum_sum(ip, (ip[0] & 15) * 4u)) == 0xffff);
	}
}

static void check_segments(const struct frame *f, bool keep_csum)
{
	uint32_t payload = f->offload.hdr_len;
	struct segmenter s;
	struct frame piece;
	uint32_t n;

	must(!segmenter_init(&s, f, keep_csum));
	frame_copy(f, gathered);
	while (segmenter_next(&s, &piece)) {
		check_piece(f, &piece, keep_csum);
		n = piece.len - f->offload.hdr_len;
		frame_copy_part(&piece, f->offload.hdr_len, bytes, n);
		must(!memcmp(bytes, gathered + payload, n));
		payload += n;
	}
	must(payload == f->len);
}

static void check_accepted(struct frame *f, const struct input *in)
{
	struct offload_caps caps = {
		.csum = true, .tso4 = true, .tso6 = true, .ecn = true, .uso4 = true, .uso6 = true
	};
	uint8_t room[FRAME_ROOM];
	struct virtio_net_hdr h;
	struct frame other;

	check_sound(f);
	must(offload_fits(f, in->mtu) && offload_passes(f, &caps));
	offload_to_hdr(f, &caps, &h);
	must(h.gso_type == f->offload.gso_type && h.flags == f->offload.flags);
	check_copies(f);
	if (in->how & HOW_RETAG) {
		f->tagged = get_be16(f->head + ETH_TYPE_OFFSET) == ETH_TYPE_8021Q &&
			    f->len >= ETH_HDR_LEN + VLAN_TAG_LEN;
		f->vid = 5;
		frame_retag(f, in->how & HOW_TAGGED, room, &other);
		must(!memcmp(other.head, f->head, ETH_TYPE_OFFSET));
		must(other.len == f->len + VLAN_TAG_LEN * (other.tagged - f->tagged));
		f = &other;
		check_sound(f);
		check_copies(f);
	}
	if (in->how & HOW_PULL)
		frame_pull(f, FRAME_HEAD_MAX);
	check_layers(f);
	if (f->offload.gso_type)
		check_segments(f, in->how & HOW_KEEP_CSUM);
	else if (f->offload.flags)
		check_finish(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iovec iov[CUTS_MAX + 1];
	uint64_t features = 0;
	struct input in;
	struct frame f;
	uint8_t *room;
	uint32_t len, nr;
	int ret;

	if (size < sizeof(in))
		return 0;
	memcpy(&in, data, sizeof(in));
	len = (uint32_t)min_u64(size - sizeof(in), LEN_MAX);
	memcpy(bytes, data + sizeof(in), len);
	for (uint32_t i = 0; i < in.more && len < LEN_MAX; i++, len++)
		bytes[len] = (uint8_t)(i * 5);
	for (unsigned int i = 0; i < ARRAY_SIZE(feature_bits); i++)
		features |= (uint64_t)(in.features >> i & 1) << feature_bits[i];
	room = malloc(FRAME_ROOM);
	must(room);
	nr = cut(iov, &in, len);
	frame_init(&f, room, iov, nr, 0, len);
	ret = offload_accept(&f, &in.hdr, features, in.mtu);
	must(ret <= 0 && ret > -DROP_REASON_CNT);
	if (!ret)
		check_accepted(&f, &in);
	for (unsigned int i = 0; i < ARRAY_SIZE(iov); i++)
		free(iov[i].iov_base);
	free(room);
	return 0;
}
