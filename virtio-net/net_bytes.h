/*
 * Big-endian fields at any address, and the Internet checksum (RFC 1071). For
 * the files that read and write headers of frames. No state.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_NET_BYTES_H
#define RINGBOLT_VIRTIO_NET_NET_BYTES_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_be16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

static inline void put_be16(uint8_t *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

/*
 * The one's complement sum of n bytes as 16-bit words, unfolded: sums may be
 * added up as long as they do not exceed 64 bits, and every part but the last has
 * an even length (else: csum_odd()). A last odd byte is padded with zero.
 *
 * It is the sum of the words as this machine reads them, whatever its byte order:
 * RFC 1071, "Byte Order Independence". csum_fold() gives what is to be written
 * with memcpy; a value in host order comes in through csum_word().
 */
uint64_t net_csum_sum(const uint8_t *p, size_t n);

static inline uint16_t csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* The sum of bytes that begin at an odd offset of the whole. */
static inline uint64_t csum_odd(uint64_t sum)
{
	return __builtin_bswap16(csum_fold(sum));
}

static inline uint16_t csum_word(uint16_t host)
{
	return htobe16(host);
}

/* What is written for a sum: its complement, and never zero, which in UDP means
 * that there is none (RFC 768); in one's complement 0xffff is the same number. */
static inline uint16_t csum_final(uint64_t sum)
{
	uint16_t csum = (uint16_t)~csum_fold(sum);

	return csum ? csum : 0xffff;
}

#endif
