/*
 * The request path under test without a device: a ring in memory, a struct
 * vblk_ring on it, and a store that notes what it is asked and ends requests at
 * once, later or with an error. Shared by the request tests of this folder.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VIRTIO_BLK_REQKIT_H
#define RINGBOLT_TESTS_VIRTIO_BLK_REQKIT_H

#include "tests/vhost/ringkit.h"

#include "virtio-blk/vblk_internal.h"

#define DISK (1u << 20)
#define UNSET 0xee /* a status byte that nobody wrote */

#define W VIRTQ_DESC_F_WRITE

/* Where the parts of the usual request lie. */
#define HDR RK_BUF
#define STATUS (RK_BUF + 0x80)
#define DATA (RK_BUF + 0x1000)

/* A store that notes what it is asked and ends requests when told to. */
struct late_store {
	struct store store;
	uint8_t disk[DISK];
	struct store_req *held[256];
	unsigned int nr_held;
	bool hold; /* false: like an immediate one that does not say so */
	int answer; /* instead of doing anything, if not 0 */
	uint8_t last_flags;
	unsigned int nr_ops[STORE_OP_CNT];
};

struct reqkit {
	struct ringkit *k;
	struct evloop *ev;
	struct loop *loop;
	struct late_store late;
	struct store_chan chan;
	struct vblk blk;
	struct vblk_ring ring;
};
/* A ring of 256 on a disk of DISK bytes whose bytes tell their place. */
struct reqkit *reqkit_open(bool immediate, uint64_t ring_features, uint32_t block_size);
void reqkit_close(struct reqkit *d);
/* The ring kind's and the device type's features that the ring was given. */
uint64_t reqkit_features(void);

/* Put a header at HDR and UNSET at STATUS. */
void reqkit_header(struct reqkit *d, uint32_t type, uint64_t sector);
uint8_t reqkit_status(const struct reqkit *d);
/* Poll, and the one chain comes back; its used length. */
uint32_t reqkit_poll_one(struct reqkit *d);
/* A request of the usual three buffers: its status, used length checked. */
uint8_t reqkit_ask(struct reqkit *d, uint32_t type, uint64_t sector, uint32_t len);
/* What the store would do with a request it holds; the result for done(). */
int reqkit_carry_out(struct late_store *s, struct store_req *req);

/* Tests run with both kinds of store and both kinds of ring. */
struct reqkit_variant {
	bool immediate;
	uint64_t ring;
};
#define REQKIT_VARIANTS 4
extern const struct reqkit_variant reqkit_variants[REQKIT_VARIANTS];

#define for_each_reqkit(d)                                                                         \
	for (size_t v_ = 0; v_ < REQKIT_VARIANTS; v_++)                                            \
		for (struct reqkit *d = reqkit_open(reqkit_variants[v_].immediate,                 \
						    reqkit_variants[v_].ring, 512);                \
		     d; reqkit_close(d), d = NULL)

#endif
