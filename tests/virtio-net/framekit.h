/*
 * Frames for tests: built from a description, cut into buffers that the
 * sanitizers watch to the byte, and checked with a second implementation of
 * everything that is obviously simple.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VIRTIO_NET_FRAMEKIT_H
#define RINGBOLT_TESTS_VIRTIO_NET_FRAMEKIT_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio-net/frame.h"
#include "virtio-net/vnet_spec.h"

#define KIT_LEN_MAX 66000

/* What a frame is to be. Zero: IPv4, no tag, no options, no payload. */
struct kit_spec {
	bool v6;
	uint8_t proto; /* IP_PROTO_TCP, IP_PROTO_UDP, or another without a header */
	unsigned int tags; /* 802.1Q; two: 802.1ad outside */
	uint16_t tci; /* of the outer tag */
	unsigned int ip_options; /* IPv4: bytes, a multiple of 4 */
	const uint8_t *ext; /* IPv6: kinds of extension headers, a zero ends... */
	unsigned int nr_ext; /* ...so there is a count */
	unsigned int tcp_options; /* bytes, a multiple of 4 */
	uint8_t tcp_flags;
	uint32_t tcp_seq;
	uint16_t ip_id;
	uint16_t frag; /* IPv4 flags and offset; IPv6 with IP_PROTO_FRAGMENT in ext */
	uint16_t sport, dport; /* 0: some */
	uint32_t payload; /* bytes of a pattern */
};

/* A frame in one piece, and where its headers are. */
struct kit_frame {
	uint8_t bytes[KIT_LEN_MAX];
	uint32_t len;
	uint16_t l3, l4, hdr_len;
};

/* The checksum field of TCP and UDP holds the sum of the pseudo header, as a
 * driver leaves it that sets NEEDS_CSUM. The IPv4 header is complete. */
void kit_build(const struct kit_spec *spec, struct kit_frame *k);

/* The header a driver puts before it to ask for its checksum, and for pieces of
 * gso_size if that is not 0. */
struct virtio_net_hdr kit_hdr(const struct kit_frame *k, uint16_t gso_size);

/* Buffers of exactly their length, each from malloc(). */
struct kit_iov {
	struct iovec *iov; /* of exactly nr entries, likewise */
	unsigned int nr;
	uint8_t *room; /* FRAME_ROOM bytes for the head */
};
/* Cut bytes into buffers of these lengths, the last one for what is left. */
void kit_cut(struct kit_iov *v, const uint8_t *bytes, uint32_t len, const uint32_t *cuts,
	     unsigned int nr_cuts);
/* Cut at places that follow from the seed. */
void kit_cut_anyhow(struct kit_iov *v, const uint8_t *bytes, uint32_t len, uint64_t *seed);
void kit_iov_free(struct kit_iov *v);
/* frame_init() of all of v, in v->room. */
void kit_frame_init(struct frame *f, struct kit_iov *v, uint32_t len);

/* All of f, by a way of its own, to dst; the length. */
uint32_t kit_gather(const struct frame *f, uint8_t *dst);

/* A number that looks random and is the same in each run: SplitMix64. */
uint64_t kit_random(uint64_t *seed);
/* One of 0 .. n - 1. */
uint32_t kit_below(uint64_t *seed, uint32_t n);

/* RFC 1071, byte by byte: the sum of n bytes as big-endian words, folded. */
uint16_t kit_sum(uint32_t sum, const uint8_t *p, uint32_t n);
/* Is the transport checksum of a frame right, by its own addresses and lengths? */
bool kit_csum_good(const uint8_t *bytes, uint32_t len, uint16_t l3, uint16_t l4);

#endif
