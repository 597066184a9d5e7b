/*
 * A store under test without a device: a control thread and a loop that the
 * test turns itself, scratch files, and one request at a time. Shared by the
 * tests of this folder.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VIRTIO_BLK_RIG_H
#define RINGBOLT_TESTS_VIRTIO_BLK_RIG_H

#include "tests/core/test.h"

#include "virtio-blk/store.h"

struct rig {
	struct evloop *ev;
	struct loop *loop;
	struct store_conf conf; /* for rig_open_store(); defaults */
	struct store *store;
	struct store_chan *chan;
	char err[STORE_ERR_LEN];
	char path[256]; /* the scratch file, empty if none */
	char spec[300];
};

struct rig_req {
	struct store_req io;
	struct iovec iov[8], before[8];
	bool ended;
	int res;
};

/* Where scratch files go: a file system with O_DIRECT if there is one. */
#define RIG_DISK "/var/tmp"
#define RIG_TMPFS "/dev/shm"

void rig_init(struct rig *r);
/* Closes what is open, and sees that nothing is left. */
void rig_fini(struct rig *r);
/* A file of size bytes in dir, and conf.spec for it. */
void rig_file(struct rig *r, const char *dir, uint64_t size);
/* store_open() and a channel; fails the test if that fails. */
void rig_open(struct rig *r);
/* Channel and store closed, all the way. */
void rig_close(struct rig *r);
/* What store_open() says against conf; err is filled. */
int rig_open_fails(struct rig *r);
void rig_turn(struct rig *r);

/* One request from start to end; 0 or -errno. */
int rig_do(struct rig *r, struct rig_req *q);
int rig_io(struct rig *r, enum store_op op, uint64_t offset, void *buf, uint64_t len);
int rig_range(struct rig *r, enum store_op op, uint8_t flags, uint64_t offset, uint64_t len);
/* Start only: then rig_turn() until q->ended. */
void rig_start(struct rig *r, struct rig_req *q);
/* Bytes of the file that take room. */
uint64_t rig_allocated(const struct rig *r);

/* Page-aligned memory of a known pattern; free() it. */
uint8_t *rig_pattern(size_t len, uint32_t seed);

#endif
