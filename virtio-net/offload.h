/*
 * Checksums and large segments: checking what a driver asks for, and doing in
 * software what a receiver cannot take. VIRTIO 1.3, "Packet Transmission",
 * "Processing of Incoming Packets". Any thread; no state but the arguments.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_OFFLOAD_H
#define RINGBOLT_VIRTIO_NET_OFFLOAD_H

#include "virtio-net/frame.h"

/*
 * Take over a header the driver wrote (the caller's private copy). features:
 * negotiated; mtu: the port's, 0 none. Works out hdr_len itself from the
 * frame's own headers (the driver's is a hint) and pulls them into head. 0, or
 * -reason (enum drop_reason: DROP_BAD_HEADER, DROP_TOO_LONG).
 */
int offload_accept(struct frame *f, const struct virtio_net_hdr *h, uint64_t features,
		   uint16_t mtu);

/* What a receiver can take; everything else is done for it. */
struct offload_caps {
	bool csum; /* NEEDS_CSUM may pass */
	bool tso4, tso6, ecn, uso4, uso6;
	uint16_t mtu; /* of whole frames less the Ethernet header; 0: any */
};

/* Can this frame be given to that receiver as it is? */
static inline bool offload_is_plain(const struct frame *f)
{
	return !(f->offload.flags | f->offload.gso_type);
}
bool offload_passes(const struct frame *f, const struct offload_caps *caps);

/* Write the header a driver is to see before f: the inverse of
 * offload_accept(). */
void offload_to_hdr(const struct frame *f, struct virtio_net_hdr *h);

/* Complete the checksum that NEEDS_CSUM asks for, in head. 0, or -DROP_OFFLOAD. */
int offload_finish_csum(struct frame *f);

/*
 * Cut a large segment into frames of its gso_size: TCP and UDP over IPv4 and
 * IPv6, with and without a tag. Each piece shares iov with the whole.
 *
 *	struct segmenter s;
 *	ret = segmenter_init(&s, f);   0, or -DROP_OFFLOAD
 *	while (segmenter_next(&s, &piece))
 *		...                     piece is valid until the next call
 *
 * Pieces have NEEDS_CSUM set if keep_csum, else complete checksums. IPv4
 * identification, lengths, sequence numbers, FIN, PSH and CWR as Linux and
 * network cards do it.
 */
#define SEGMENTER_IOV_MAX 1040 /* as many as the chain may have had */
struct segmenter {
	const struct frame *whole;
	uint32_t off, end; /* of the payload still to go, in bytes of the whole */
	uint32_t iov_pos; /* where off is in whole->iov */
	size_t iov_off;
	unsigned int nr; /* pieces given out */
	bool keep_csum;
	struct frame_layers layers;
	struct iovec iov[SEGMENTER_IOV_MAX];
	uint8_t head[FRAME_HEADROOM + FRAME_HEAD_MAX] __attribute__((aligned(64)));
};
int segmenter_init(struct segmenter *s, const struct frame *f, bool keep_csum);
bool segmenter_next(struct segmenter *s, struct frame *piece);

#endif
