/*
 * A virtqueue under test without a front-end: guest memory over memfds, the
 * ring's areas in it, a struct virtq on top, and the driver's half of both ring
 * kinds, which writes whatever it is told to. Shared by the ring tests of this
 * folder; the driver that behaves and speaks vhost-user is tests/frontend.
 *
 * Everything returns the truth or fails the test: no function here has an error
 * for its caller. One thread, but for what a test starts itself.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VHOST_RINGKIT_H
#define RINGBOLT_TESTS_VHOST_RINGKIT_H

#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vhost/virtq.h"

/* For the tests that ThreadSanitizer cannot run, each for its own reason. */
#if defined(__SANITIZE_THREAD__)
#define RK_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RK_UNDER_TSAN 1
#endif
#endif

/*
 * Guest memory: RAM with the areas at its start and buffers behind them, NEXT
 * adjacent to RAM in guest addresses but another file, FAR behind a hole.
 */
#define RK_RAM 0x100000ull
#define RK_RAM_LEN 0x400000ull
#define RK_NEXT (RK_RAM + RK_RAM_LEN)
#define RK_NEXT_LEN 0x10000ull
#define RK_HOLE (RK_NEXT + RK_NEXT_LEN)
#define RK_FAR 0x7f00000000ull
#define RK_FAR_LEN 0x10000ull
/* Where the areas are, and where the tests put buffers and tables. */
#define RK_DESC RK_RAM
#define RK_DRIVER (RK_RAM + 0x100000)
#define RK_DEVICE (RK_RAM + 0x110000)
#define RK_TABLE (RK_RAM + 0x200000)
#define RK_BUF (RK_RAM + 0x300000)

/* A front-end's address of a guest address. */
#define RK_UVA_OFF 0x5500000000ull

#define RK_FEATURES (1ull << VIRTIO_F_VERSION_1)
#define RK_PACKED (1ull << VIRTIO_F_RING_PACKED)
#define RK_EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define RK_IN_ORDER (1ull << VIRTIO_F_IN_ORDER)

/* A descriptor as the driver writes it: flags are raw, but NEXT is added by
 * rk_put() to all but the last of a chain. */
struct rk_buf {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
};

struct ringkit {
	/* The device's. */
	struct gmem_region *region[3]; /* RAM, NEXT, FAR */
	struct gmem *gm;
	bool faulted;
	struct virtq vq;
	int ram_fd; /* of RAM, for truncating it */

	/* The driver's. */
	bool packed;
	uint32_t size;
	int call_fd, kick_fd, err_fd;
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	struct pvirtq_desc *pdesc;
	struct pvirtq_event_suppress *driver_event, *device_event;
	uint16_t avail_idx, used_idx; /* packed: ring position */
	bool avail_wrap, used_wrap; /* packed */
	uint16_t used_flags; /* packed: of the last used descriptor */
	uint16_t nr_desc[VIRTQ_PACKED_SIZE_MAX]; /* packed: by id, ring entries */
};

/* Memory, areas and a started ring of size entries at position base; the packed
 * ring if features say so. */
struct ringkit *rk_open(uint64_t features, uint32_t size, uint32_t base);
/* The same, not started: for a loop to start it. */
struct ringkit *rk_open_stopped(uint64_t features, uint32_t size, uint32_t base);
/* Chains that the test still holds are pushed first. */
void rk_close(struct ringkit *k);
/* The first part of rk_open(): memory only, no ring. */
struct ringkit *rk_open_memory(void);
/* The configuration rk_open() gives to virtq_init(). */
struct virtq_conf rk_conf(const struct ringkit *k, uint64_t features, uint32_t size, uint32_t base);
/* The driver's positions as after base, and the ring of that kind and size. */
void rk_driver_reset(struct ringkit *k, bool packed, uint32_t size, uint32_t base);
/* The base of a new ring of this kind. */
uint32_t rk_base(bool packed);

/* A dirty log of the memory, for conf.log; and its end, when no ring uses it. */
struct dirty_log *rk_log_open(void);
void rk_log_close(struct dirty_log *log);

/* A memfd of len bytes; and a pointer of the device's mapping. */
int rk_memfd(uint64_t len);
void *rk_mem(const struct ringkit *k, uint64_t gpa);

/*
 * Lay a chain and make it available. Split: descriptors id, id + 1, ... modulo
 * the ring's size. Packed: the next entries of the ring, all with this id.
 */
void rk_put(struct ringkit *k, uint16_t id, const struct rk_buf *bufs, unsigned int nr);
/* Write nr descriptors of a table, linked as rk_put() does. */
void rk_table(struct ringkit *k, uint64_t table, const struct rk_buf *bufs, unsigned int nr);
/* A chain of one indirect descriptor to such a table. */
void rk_put_indirect(struct ringkit *k, uint16_t id, uint64_t table, const struct rk_buf *bufs,
		     unsigned int nr);
/* A good chain: 16 bytes to read, 512 and 1 to write. */
void rk_put_good(struct ringkit *k, uint16_t id);

/* Split only: put head into the available ring, whatever it is. */
void rk_avail(struct ringkit *k, uint16_t head);
/* Kick if the device wants to hear of the last nr ring entries; true if so. */
bool rk_kick(struct ringkit *k, uint16_t nr);
/* Take back one used chain: true, its id and length; false if there is none. */
bool rk_get(struct ringkit *k, uint16_t *id, uint32_t *len);

/* What an eventfd counted since the last call. */
uint64_t rk_drain(int fd);

/* Pop one chain that must be there, or nothing that must not. */
struct virtq_chain rk_pop(struct ringkit *k);
void rk_pop_none(struct ringkit *k);
/* push and flush, and see that the driver gets exactly this chain. */
void rk_complete(struct ringkit *k, uint16_t id, uint32_t len);
/* Every iovec lies in the device's mappings; the sums are right. */
void rk_check_iov(const struct ringkit *k, const struct virtq_chain *c);

#endif
