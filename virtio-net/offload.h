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

/* More pieces than this nobody asks for who means well. */
#define OFFLOAD_PIECES_MAX 2048

/*
 * Take over a header the driver wrote (the caller's private copy). features:
 * negotiated; mtu: the port's, 0 none. Works out hdr_len itself from the
 * frame's own headers (the driver's is a hint) and pulls them into head. 0, or
 * -reason (enum drop_reason: DROP_BAD_CHAIN without an Ethernet header,
 * DROP_BAD_HEADER, DROP_TOO_LONG).
 *
 * A large segment that needs no cutting becomes a plain frame. The checksum
 * field of what is accepted lies in head and behind everything the switch
 * decides upon (addresses, VLAN, protocol, ports).
 */
int offload_accept(struct frame *f, const struct virtio_net_hdr *h, uint64_t features,
		   uint16_t mtu);

/* What a receiver can take; everything else is done for it. */
struct offload_caps {
	bool csum; /* NEEDS_CSUM and DATA_VALID may pass */
	bool tso4, tso6, ecn, uso4, uso6;
	uint16_t mtu; /* of whole frames less the Ethernet header; 0: any */
};

/* Nothing to be done, nothing to be told? */
static inline bool offload_is_plain(const struct frame *f)
{
	return !(f->offload.flags | f->offload.gso_type);
}

/* Is the frame, or each piece of a large segment, no longer than mtu allows?
 * If not: DROP_MTU_OUT. Up to two tags do not count. */
bool offload_fits(const struct frame *f, uint16_t mtu);
/* Can this frame, which fits, be given to that receiver as it is? If not:
 * segmenter_init() for a gso_type, else offload_finish_csum(). */
bool offload_passes(const struct frame *f, const struct offload_caps *caps);

/* The header that the driver of a receiver is to see before f, which passes. */
void offload_to_hdr(const struct frame *f, const struct offload_caps *caps,
		    struct virtio_net_hdr *h);

/* A frame from a port that found its checksums good: no one need look again. */
static inline void offload_set_valid(struct frame *f)
{
	f->offload = (struct frame_offload){ .flags = VIRTIO_NET_HDR_F_DATA_VALID };
}

/* Complete the checksum that NEEDS_CSUM asks for, in head, which must be the
 * caller's own: frame_own(). */
void offload_finish_csum(struct frame *f);

/*
 * Cut a large segment into frames of its gso_size: TCP and UDP over IPv4 and
 * IPv6, with and without tags. Each piece has a head of its own and shares the
 * tail of the whole.
 *
 *	struct segmenter s;
 *	ret = segmenter_init(&s, f, keep_csum);   0, or -DROP_OFFLOAD
 *	while (segmenter_next(&s, &piece))
 *		...                     piece is valid until the next call
 *
 * Pieces have NEEDS_CSUM set if keep_csum, else complete checksums. IPv4
 * identification, lengths, sequence numbers, FIN, PSH and CWR as Linux and
 * network cards do it.
 */
struct segmenter {
	const struct frame *whole;
	uint32_t off; /* of the payload still to go, in bytes of the whole */
	/* Where that is in the tail, if it is not in head. */
	const struct iovec *tail;
	uint32_t tail_off;
	uint16_t nr_tail;
	uint16_t ip_id; /* of the next piece, IPv4 */
	uint32_t tcp_seq; /* of the next piece */
	uint32_t pseudo; /* sum of the pseudo header without its length */
	bool keep_csum, tcp;
	uint8_t room[FRAME_ROOM] __attribute__((aligned(64)));
};
int segmenter_init(struct segmenter *s, const struct frame *f, bool keep_csum);
bool segmenter_next(struct segmenter *s, struct frame *piece);

#endif
