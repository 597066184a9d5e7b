/*
 * A frame on its way through the switch: where its bytes are, what is known
 * about them, what is still to be done to them.
 *
 * Theory of operation
 *
 * The first head_len bytes of a frame are a private copy, made once; all that
 * is looked at and decided upon is in there, and it is the copy that leaves, so
 * a guest that changes its buffer after the look changes nothing that was
 * checked. The rest, its tail, is where the sender has it, guest memory or an
 * mbuf, and is copied once, to the receiver. A frame lives until the function it
 * was given to returns. All of this belongs to one loop's thread.
 *
 * Several frames may share one head or one tail: a frame that is flooded, the
 * pieces of a large segment. So nobody changes what is below head_len in a frame
 * that is not its own, and nobody ever changes the array that tail points to:
 * tail_off and nr_tail say which part of it is meant. frame_pull() on a copy of a
 * struct frame is safe: it writes behind head_len only.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_FRAME_H
#define RINGBOLT_VIRTIO_NET_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio-net/drop.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/vnet_spec.h"

#define FRAME_HEAD_MAX 256 /* what frame_pull() can make private */
#define FRAME_HEADROOM 16 /* writable before head, for a VLAN tag */
/* The buffer a head is in; the head begins FRAME_HEADROOM bytes into it, a tag
 * more or less. */
#define FRAME_ROOM (FRAME_HEADROOM + FRAME_HEAD_MAX + 16)
#define FRAME_HEAD_FIRST 64 /* made private for every frame, if it is that long */
#define FRAME_BURST 32 /* frames handled together */
#define FRAME_LEN_MAX (65535 + 14 + 4) /* of a large segment, in bytes */

#define FRAME_VLAN_MAX 4094

/* What virtio_net_hdr says, in host byte order and checked; all zero: nothing
 * to do. Offsets count from the first byte of the frame as it is now (a tag that
 * comes or goes moves them). */
struct frame_offload {
	uint8_t flags; /* VIRTIO_NET_HDR_F_NEEDS_CSUM, _DATA_VALID */
	uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_*, with _ECN */
	bool gso_v6; /* a large segment in IPv6, which UDP_L4 does not say */
	uint16_t ip_start; /* IP header of a large segment, worked out by us */
	uint16_t hdr_len; /* all its headers, in bytes, likewise */
	uint16_t gso_size; /* payload bytes of each segment */
	uint16_t csum_start, csum_offset;
};

struct frame {
	uint8_t *head; /* private; FRAME_HEADROOM writable bytes before it */
	/* The bytes after head_len: from tail_off bytes into tail[0] on. There may
	 * be more bytes than len says; they are not the frame's. */
	const struct iovec *tail;
	uint32_t len; /* of the whole frame, in bytes */
	uint32_t tail_off; /* at most tail[0].iov_len */
	uint16_t head_len; /* at least min(len, FRAME_HEAD_FIRST) */
	uint16_t nr_tail;
	struct frame_offload offload;
	uint16_t vid; /* VLAN it belongs to, 0 before classification */
	uint16_t queue; /* of the source: for choosing the destination's */
	bool tagged; /* a tag (802.1Q) is in head, at offset 12 */
	uint8_t pcp_dei; /* the upper 4 bits of its tag, shifted down */
};

/*
 * A new frame: the len bytes that begin skip bytes into iov (a virtio_net_hdr may
 * come first), where nr entries hold skip + len bytes or more. Makes the first
 * FRAME_HEAD_FIRST private in room (FRAME_ROOM bytes, which live as long as the
 * frame, as iov does). Everything else of f is zero.
 */
void frame_init(struct frame *f, uint8_t *room, const struct iovec *iov, unsigned int nr,
		size_t skip, uint32_t len);

/*
 * Make the first n bytes private (or all, if the frame is shorter), copying them
 * from the tail. n <= FRAME_HEAD_MAX. false if the frame has fewer than n bytes.
 */
bool frame_pull_more(struct frame *f, uint16_t n);
static inline bool frame_pull(struct frame *f, uint16_t n)
{
	return n <= f->head_len || frame_pull_more(f, n);
}

/* Where the headers end and what they are. Offsets in bytes; 0: not there. */
struct frame_layers {
	uint16_t ethertype; /* host order, behind all tags (802.1Q, 802.1ad); that of a
			     * tag: there are more than anybody looks behind */
	uint8_t ip_proto; /* of the last header that could be followed */
	bool fragment; /* an IP fragment: no ports in it but the first's */
	bool later_fragment; /* no transport header at all */
	bool ip_options; /* IPv4 options or IPv6 extension headers */
	uint16_t l3; /* not 0: an IPv4 or IPv6 header, whole and in head */
	uint16_t l4; /* not 0: at least FRAME_L4_MIN bytes of ip_proto's header are in
		      * head; all of a TCP header without options if it is that long */
};
#define FRAME_L4_MIN 4 /* both ports of everything that has ports */

static inline bool frame_type_is_tag(uint16_t ethertype)
{
	return ethertype == ETH_TYPE_8021Q || ethertype == ETH_TYPE_8021AD;
}

/* Look at the headers, pulling what is needed. Never fails: what cannot be
 * understood is not there. */
void frame_layers(struct frame *f, struct frame_layers *l);

/* The length of an IPv6 extension header of that kind, of which the first 8 bytes
 * are at ext; 0 if it is none, or none that can be followed. */
uint32_t frame_ext_len(uint8_t ip_proto, const uint8_t *ext);

/*
 * The same frame with or without a tag of f->vid and f->pcp_dei, offsets moved.
 * room: FRAME_ROOM bytes of the caller's that out->head will point into; out is
 * not f. The tail is shared with f.
 */
void frame_retag(const struct frame *f, bool tagged, uint8_t *room, struct frame *out);
/* The same frame with a head of its own, in room (FRAME_ROOM bytes). */
void frame_own(const struct frame *f, uint8_t *room, struct frame *out);

/* All of the frame, in order, to dst (len bytes). */
void frame_copy(const struct frame *f, uint8_t *dst);
/* n bytes from offset off on, n + off <= len. */
void frame_copy_part(const struct frame *f, uint32_t off, uint8_t *dst, uint32_t n);

static inline bool frame_is_multicast(const struct frame *f)
{
	return f->head[0] & 1;
}

#endif
