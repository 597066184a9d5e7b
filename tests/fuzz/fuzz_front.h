/*
 * A front-end made from fuzz bytes: requests right and wrong, with descriptors
 * of every kind, and writes into the memory it shares. It never waits for the
 * back-end, and keeps nothing that the back-end said.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FUZZ_FUZZ_FRONT_H
#define RINGBOLT_TESTS_FUZZ_FUZZ_FRONT_H

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/fuzz/fuzz_ring.h"

#define FUZZ_QUEUES 2
#define FUZZ_MEMS 4
/* The name of the files, as /proc/self/maps shows it. */
#define FUZZ_MEM_NAME "fuzz_front"

struct fuzz_front {
	struct sockaddr_un addr; /* of the device */
	socklen_t addr_len;
	int sock; /* -1: away */
	int back; /* our end of the back-end channel; -1: none */
	int mem[FUZZ_MEMS]; /* what memory and logs are made of */
	int kick[FUZZ_QUEUES];
	uint16_t avail_idx[FUZZ_QUEUES];
	/* A turn of the back-end, between messages that belong together. */
	void (*turn)(struct fuzz_front *f);
};

/* Files and descriptors; not connected. addr and turn are the caller's. */
void fuzz_front_open(struct fuzz_front *f);
void fuzz_front_close(struct fuzz_front *f);
void fuzz_front_arrive(struct fuzz_front *f);
void fuzz_front_leave(struct fuzz_front *f);
/* Answers are read so that the back-end can go on; what they say is the unit
 * tests' matter. */
void fuzz_front_read(struct fuzz_front *f);

/* One message, usually one that is right. */
void fuzz_front_message(struct fuzz_front *f, struct fuzz_input *in);
/* All messages up to running rings. */
void fuzz_front_bring_up(struct fuzz_front *f, struct fuzz_input *in);
/* What a virtual IOMMU says: an update or invalidation, or the answer to what the
 * device asks over the back-end channel. */
void fuzz_front_iotlb(struct fuzz_front *f, struct fuzz_input *in);
void fuzz_front_answer(struct fuzz_front *f, struct fuzz_input *in);
/* A chain for a ring; a write anywhere in the first file; a file cut or grown. */
void fuzz_front_chain(struct fuzz_front *f, struct fuzz_input *in);
void fuzz_front_poke(struct fuzz_front *f, struct fuzz_input *in);
void fuzz_front_truncate(struct fuzz_front *f, struct fuzz_input *in);

#endif
