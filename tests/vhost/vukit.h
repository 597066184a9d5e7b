/*
 * What the tests of the protocol share: two devices in one process on two
 * loops, with a front-end each. One is the victim of whatever a test does, the
 * other, the witness, must go on serving. Everything runs on one thread: the
 * front-ends' pump turns the event loop and the poll loops.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VHOST_VUKIT_H
#define RINGBOLT_TESTS_VHOST_VUKIT_H

#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/frontend/drv.h"
#include "tests/frontend/fe.h"
#include "tests/vhost/skeleton.h"

#define KIT_LOOPS 2
#define KIT_QUEUES 2
#define KIT_RING_SIZE 64
#define KIT_MEM (256u << 10)
#define KIT_PAGE 4096u
#define KIT_PROTO (~0ull)

/* How often the device's hooks were called, and what they shall do. */
struct kit_hooks {
	unsigned int activate, deactivate, reset, setup, release;
	unsigned int mem_added, mem_removed;
	bool active[KIT_QUEUES];
	unsigned int nr_active_told;
	bool network; /* of the next device: has what only a network needs */
	uint8_t rarp[6];
	unsigned int nr_rarps;
	uint64_t mtu; /* at most 9000 is taken */
	int activate_ret, setup_ret;
	const struct loop *bad_loop; /* for which setup fails; not counted in setup */
	bool no_poll; /* rings without poll() */
	bool hold; /* keep popped chains until it is false again */
	unsigned int nr_held;
	uint16_t held[KIT_RING_SIZE];
	struct virtq *vq; /* of the last setup */
};

struct kit_dev {
	struct skel skel; /* first: vu_dev_priv() */
	struct kit_hooks hooks;
	struct fe fe;
	struct drv_ring ring;
	int region;
	uint64_t buf; /* gpa of a page for requests */
	uint64_t no_proto; /* protocol features that are not to be negotiated */
	bool has_ring;
	bool gone; /* vu_dev_destroy() has finished */
	char path[108];
};

struct kit {
	struct evloop *ev;
	struct loop *loops[KIT_LOOPS];
	bool threads;
	bool answering; /* in kit_answer(), which pumps */
	char dir[64];
	struct kit_dev victim, witness;
};

/* cmocka's setup and teardown; *state is a struct kit with both devices
 * listening, the witness's ring running. Teardown asserts that all can end. */
int kit_setup(void **state);
/* The same with loops that have threads. */
int kit_setup_threads(void **state);
int kit_teardown(void **state);

/* One turn of everything. opaque: struct kit. */
void kit_pump(void *opaque);
/* Answer one miss of the victim, as its IOMMU; QEMU waits for its requests to be
 * answered first. */
void kit_answer(struct kit *kit);
/* Pump until cond, or fail. */
#define kit_until(kit, cond)                                                                       \
	do {                                                                                       \
		for (int kit_n = 0; !(cond) && kit_n < 100000; kit_n++)                            \
			kit_pump(kit);                                                             \
		assert_true(cond);                                                                 \
	} while (0)

/* A configuration for kd: hooks that count, the kit's loops. */
void kit_conf(struct kit *kit, struct kit_dev *kd, const char *name, struct vu_conf *conf);
/* Destroy kd's device and wait until it is gone. */
void kit_destroy(struct kit *kit, struct kit_dev *kd);

/* The steps of a front-end, each on top of those before. */
enum kit_stage {
	KIT_CONNECTED,
	KIT_NEGOTIATED,
	KIT_MEMORY, /* shared */
	KIT_RUNNING, /* ring 0 */
};
void kit_bring_up(struct kit *kit, struct kit_dev *kd, enum kit_stage stage, uint64_t features);
/* Disconnect, free everything, wait until the device listens again. */
void kit_bring_down(struct kit *kit, struct kit_dev *kd);

/* One request through kd's ring, its answer checked. */
void kit_serve(struct kit *kit, struct kit_dev *kd);
/* Add one request and submit it; not waited for. */
void kit_submit(struct kit_dev *kd);
/* The state of kd's connection, as vu_dev_status() names it. */
const char *kit_state(struct kit_dev *kd);
bool kit_is(struct kit_dev *kd, const char *state);
/* The same of its ring 0. */
bool kit_ring_is(struct kit_dev *kd, const char *state);
/* Submit nr requests that the device takes and keeps: kd->hooks.hold. */
void kit_hold(struct kit *kit, struct kit_dev *kd, unsigned int nr);
/* Nothing comes back from kd's device, however long one waits; meanwhile the
 * witness serves. */
void kit_no_answer(struct kit *kit, struct kit_dev *kd);

/* --- the victim behind a virtual IOMMU ------------------------------------------ */

#define KIT_IOMMU (1ull << VIRTIO_F_ACCESS_PLATFORM)
#define KIT_R 1
#define KIT_W 2
#define KIT_RW 3

/* Its front-end, which answers misses unless told not to. */
struct kit_guest {
	struct kit *kit;
	bool silent;
	uint64_t refused, read_only; /* pages; 0: none */
};
extern struct kit_guest kit_guest;

/* cmocka's setup: as kit_setup(), and it is not silent. */
int kit_guest_setup(void **state);
/* Negotiate, share memory, start the ring. */
struct kit_dev *kit_guest_up(struct kit *kit, uint64_t features);
/* Pump, and answer. */
void kit_guest_pump(void *opaque);
#define kit_guest_until(cond)                                                                      \
	do {                                                                                       \
		for (int kit_n = 0; !(cond) && kit_n < 100000; kit_n++)                            \
			kit_guest_pump(NULL);                                                      \
		assert_true(cond);                                                                 \
	} while (0)

/* Open descriptors, and mappings of shared memory files. */
struct kit_census {
	unsigned int fds, maps;
};
struct kit_census kit_census(void);
void kit_assert_census(struct kit_census before);

#endif
