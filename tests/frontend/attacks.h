/*
 * Attacks on a vhost-user back-end, as tables of named cases. Private to
 * attack_test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_ATTACKS_H
#define RINGBOLT_TESTS_FRONTEND_ATTACKS_H

#include "tests/frontend/drv.h"
#include "tests/frontend/fe.h"

#define ATTACK_QUEUES 2
#define ATTACK_RING_SIZE 64

/* The device that is attacked: a disk, or a network port. */
struct victim {
	struct fe *fe;
	const char *path; /* of its socket */
	int region; /* of fe: where the rings and buffers are */
	struct drv_ring *ring[ATTACK_QUEUES];
	unsigned int used; /* index of the ring that attack_use() works with */
	bool has_begun; /* attack_begin() was called: by that function */
};

/* How far the victim's front-end has come when the attack begins. */
enum attack_stage {
	ATTACK_CONNECTED, /* nothing said */
	ATTACK_NEGOTIATED, /* features; a region that was not shared */
	ATTACK_RUNNING, /* rings started */
	ATTACK_IOMMU, /* the same behind a virtual IOMMU */
};

struct attack {
	const char *name; /* the rule, as a sentence */
	void (*run)(struct victim *v);
	enum attack_stage stage;
	bool both_rings; /* once with split rings, once with packed ones */
};

#define ATTACK_BOTH(fn)                                                                            \
	{                                                                                          \
		.name = #fn, .run = fn, .stage = ATTACK_RUNNING, .both_rings = true                \
	}

#define ATTACK_BOTH_IOMMU(fn)                                                                      \
	{                                                                                          \
		.name = #fn, .run = fn, .stage = ATTACK_IOMMU, .both_rings = true                  \
	}

#define AT(stage_, fn)                                                                             \
	{                                                                                          \
		.name = #fn, .run = fn, .stage = stage_                                            \
	}

/* All end with a NULL name. */
extern const struct attack attacks_msg[], attacks_setup[], attacks_ring[], attacks_iommu[];

/* --- what attack_test.c wants to know of the kind of device: attacks_blk.c and
 * attacks_net.c ------------------------------------------------------------------- */

/* Chains and headers of its own. */
extern const struct attack attacks_device[];

/* Become the program, at these sockets. files: NULL, or two files to serve, for
 * requests that do not end as they begin. Does not return unless it fails. */
void attack_exec(const char *program, const char *victim, const char *witness,
		 const char *const files[2]);
/* The device that is not attacked: connected all the time. 0 or -errno. */
int attack_open_witness(const char *path);
void attack_witness_serves(void);
void attack_close_witness(void);
/* A front-end of the victim, as far as stage says. 0 or -errno. */
int attack_open(struct victim *v, const char *path, enum attack_stage stage, bool packed);
/* It dies. */
void attack_abandon(struct victim *v);
/* One that behaves: it comes, is served, and goes in order. */
void attack_victim_serves(const char *path);

/* Have the victim, which is running, do something and see that it did. */
void attack_use(struct victim *v);
/* Have it begin something. */
void attack_begin(struct victim *v);

/* --- attacks_ring.c ---------------------------------------------------------------- */

/* One raw descriptor; on split rings they are linked one after the other. */
struct raw {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* split; 0: the next one */
};

/* Put descriptors from position 0 of the ring that is used, and fresh, on and make
 * them visible. */
void attack_offer(struct victim *v, const struct raw *d, unsigned int nr);
bool attack_is_used(const struct victim *v);
/* The first chain was answered or the ring broken: a head is never lost. */
void attack_assert_reaction(struct victim *v);
/* Both. */
void attack_chain(struct victim *v, const struct raw *d, unsigned int nr);

/* --- attacks_iommu.c --------------------------------------------------------------- */

/* The victim's virtual IOMMU, which answers as long as the attack wants it to: the
 * pump of a front-end, which is its argument. */
void attack_iommu_pump(void *fe);
/* A new front-end: it answers. */
void attack_iommu_reset(void);

/* --- attack_test.c ----------------------------------------------------------------- */

/* err says that a request was refused, or the connection has gone: the back-end
 * has the choice, but nobody hangs. */
void attack_assert_refused(struct fe *fe, int err);
void attack_assert_request_refused(struct victim *v, uint32_t request, const void *payload,
				   uint32_t len);
/* Any reaction to what was sent will do but none at all. */
void attack_assert_answers_or_hangs_up(struct fe *fe);

#endif
