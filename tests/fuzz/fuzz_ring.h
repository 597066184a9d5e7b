/*
 * A ring and a hostile driver made from fuzz bytes, for the targets that look
 * at rings. Guest memory and the ring's areas are heap blocks of exactly their
 * size, so that AddressSanitizer sees any byte beyond them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FUZZ_FUZZ_RING_H
#define RINGBOLT_TESTS_FUZZ_FUZZ_RING_H

#undef NDEBUG
#include <stddef.h>
#include <stdint.h>

#include "vhost/virtq.h"

/* What is left of the input. An input that has ended gives zeroes. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

uint8_t fuzz_u8(struct fuzz_input *in);
uint16_t fuzz_u16(struct fuzz_input *in);
uint32_t fuzz_u32(struct fuzz_input *in);
uint64_t fuzz_u64(struct fuzz_input *in);

/* Guest memory: RAM, NEXT adjacent to it in guest addresses only, a hole, FAR. */
#define FUZZ_RAM 0x1000ull
#define FUZZ_RAM_LEN 0x4000ull
#define FUZZ_NEXT (FUZZ_RAM + FUZZ_RAM_LEN)
#define FUZZ_NEXT_LEN 0x1000ull
#define FUZZ_HOLE (FUZZ_NEXT + FUZZ_NEXT_LEN)
#define FUZZ_FAR 0x100000ull
#define FUZZ_FAR_LEN 0x1000ull
#define FUZZ_CHAIN_MAX 16 /* descriptors of a chain that is laid as one */

/* A descriptor to be written; NEXT is added by fuzz_ring_put(). */
struct fuzz_buf {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
};

struct fuzz_ring {
	struct virtq vq;
	struct gmem *gm;
	bool faulted;
	uint8_t *mem[3];
	void *desc, *driver, *device;
	void *inflight; /* NULL: not tracked */
	uint64_t inflight_len;
	/* The driver's. */
	bool packed;
	uint32_t size;
	uint16_t avail_idx;
	bool avail_wrap;
};

/* A started ring whose size and features come from the input, with more_features.
 * poll is what the device does. */
void fuzz_ring_open(struct fuzz_ring *r, struct fuzz_input *in, bool packed,
		    uint64_t more_features);
/* The device holds nothing any more: it stops and everything is freed. */
void fuzz_ring_close(struct fuzz_ring *r);
/* Stop, save the position, start again from it. The device holds nothing. */
void fuzz_ring_restart(struct fuzz_ring *r);

/* One thing a driver may do, well formed or not. */
void fuzz_ring_step(struct fuzz_ring *r, struct fuzz_input *in);
/* Lay a chain where the driver's position is, and make it available. */
void fuzz_ring_put(struct fuzz_ring *r, uint16_t id, const struct fuzz_buf *bufs, unsigned int nr);
/* The same by way of an indirect table at this address, if it is in RAM. */
void fuzz_ring_put_indirect(struct fuzz_ring *r, uint16_t id, uint64_t table,
			    const struct fuzz_buf *bufs, unsigned int nr);
/* An address and a length: often good ones, often just not. */
uint64_t fuzz_addr(struct fuzz_input *in);
uint32_t fuzz_len(struct fuzz_input *in);
/* The byte of RAM at this address, or NULL if there are not len from it on. */
uint8_t *fuzz_ram(struct fuzz_ring *r, uint64_t addr, size_t len);

/* Every iovec lies in guest memory and the sums are right, or abort. */
void fuzz_check_iov(const struct fuzz_ring *r, const struct iovec *iov, unsigned int nr,
		    uint64_t len);
void fuzz_check_chain(const struct fuzz_ring *r, const struct virtq_chain *c);

#endif
