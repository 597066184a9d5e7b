/*
 * The Internet checksum over many bytes. Called for every frame whose checksum is
 * completed in software, which is most of what a guest without offloads receives
 * from one with them: it has to be fast. It knows nothing of headers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/net_bytes.h"

/* 64 bits at a time, with the carries counted: 2^64 is 1 in one's complement.
 * Two sums, as each waits for itself. It needs half the instructions of what
 * compilers make of a plain loop with SSE. */
static uint64_t sum_blocks(const uint8_t *p, size_t nr_blocks)
{
	uint64_t a = 0, b = 0, carry_a = 0, carry_b = 0, word[4];

	for (size_t i = 0; i < nr_blocks; i++, p += sizeof(word)) {
		memcpy(word, p, sizeof(word));
		carry_a += __builtin_add_overflow(a, word[0], &a);
		carry_b += __builtin_add_overflow(b, word[1], &b);
		carry_a += __builtin_add_overflow(a, word[2], &a);
		carry_b += __builtin_add_overflow(b, word[3], &b);
	}
	return (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32) + carry_a + carry_b;
}

uint64_t net_csum_sum(const uint8_t *p, size_t n)
{
	size_t nr_blocks = n / 32;
	uint64_t sum = sum_blocks(p, nr_blocks);
	uint8_t last[4] = { 0 };
	uint32_t word;

	p += nr_blocks * 32;
	for (n %= 32; n >= sizeof(word); p += sizeof(word), n -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
	}
	memcpy(last, p, n);
	memcpy(&word, last, sizeof(word));
	return sum + word;
}
