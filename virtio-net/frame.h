/*
 * A frame on its way through the switch: where its bytes are, what is known
 * about them, what is still to be done to them.
 *
 * Theory of operation
 *
 * The first head_len bytes of a frame are a private copy, made once; all that
 * is looked at and decided upon is in there, and it is the copy that leaves, so
 * a guest that changes its buffer after the look changes nothing that was
 * checked. The rest (iov) is where the sender has it, guest memory or an
 * mbuf, and is copied once, to the receiver. A frame lives until the function it
 * was given to returns. All of this belongs to one loop's thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_FRAME_H
#define RINGBOLT_VIRTIO_NET_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio-net/drop.h"
#include "virtio-net/vnet_spec.h"

#define FRAME_HEAD_MAX 256 /* what frame_pull() can make private */
#define FRAME_HEADROOM 16 /* writable before head, for a VLAN tag */
#define FRAME_HEAD_FIRST 64 /* made private for every frame, if it is that long */
#define FRAME_BURST 32 /* frames handled together */
#define FRAME_LEN_MAX (65535 + 14 + 4) /* of a large segment, in bytes */

#define ETH_HDR_LEN 14
#define VLAN_TAG_LEN 4
#define FRAME_VLAN_MAX 4094

/* What virtio_net_hdr says, in host byte order and checked; all zero: nothing
 * to do. Offsets count from the first byte of the frame as it is now (a tag that
 * comes or goes moves them). */
struct frame_offload {
	uint8_t flags; /* VIRTIO_NET_HDR_F_NEEDS_CSUM, _DATA_VALID */
	uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_*, with _ECN */
	uint16_t hdr_len; /* headers of a large segment, in bytes, worked out by us */
	uint16_t gso_size; /* payload bytes of each segment */
	uint16_t csum_start, csum_offset;
};

struct frame {
	uint8_t *head; /* private; FRAME_HEADROOM writable bytes before it */
	const struct iovec *iov; /* the bytes after head_len */
	uint32_t len; /* of the whole frame, in bytes */
	uint16_t head_len; /* at least min(len, FRAME_HEAD_FIRST) */
	uint16_t nr_iov;
	struct iovec one; /* room for iov where there is but one */
	struct frame_offload offload;
	uint16_t vid; /* VLAN it belongs to, 0 before classification */
	uint16_t queue; /* of the source: for choosing the destination's */
	bool tagged; /* a tag is in head, at offset 12 */
	uint8_t pcp_dei; /* the upper 4 bits of its tag, shifted down */
	uint32_t hash; /* of the flow, if hash_report is not NONE */
	uint16_t hash_report; /* VIRTIO_NET_HASH_REPORT_*; 0: not worked out */
};

/*
 * Make the first n bytes private (or all, if the frame is shorter), copying them
 * from iov. n <= FRAME_HEAD_MAX. false if the frame has fewer than n bytes.
 */
bool frame_pull(struct frame *f, uint16_t n);

/* Where the headers end and what they are. Offsets in bytes; 0: not there. */
struct frame_layers {
	uint16_t ethertype; /* host order, behind the tag */
	uint8_t ip_proto; /* of the last header that could be followed */
	bool fragment; /* an IP fragment: no ports in it but the first's */
	bool later_fragment; /* no transport header at all */
	uint16_t l3, l4;
};

/* Look at the headers, pulling what is needed. Never fails: what cannot be
 * understood is not there. */
void frame_layers(struct frame *f, struct frame_layers *l);

/*
 * The same frame with or without a tag of f->vid and f->pcp_dei, offsets moved.
 * head: FRAME_HEADROOM + FRAME_HEAD_MAX bytes of the caller's that out->head
 * will point into. iov is shared with f.
 */
void frame_retag(const struct frame *f, bool tagged, uint8_t *head, struct frame *out);

/* All of the frame, in order, to dst (len bytes). */
void frame_copy(const struct frame *f, uint8_t *dst);
/* n bytes from offset off on, n + off <= len. */
void frame_copy_part(const struct frame *f, uint32_t off, uint8_t *dst, uint32_t n);

static inline bool frame_is_multicast(const struct frame *f)
{
	return f->head[0] & 1;
}

#endif
