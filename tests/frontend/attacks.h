/*
 * Attacks on a vhost-user back-end, as tables of named cases. Private to
 * attack_test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_ATTACKS_H
#define RINGBOLT_TESTS_FRONTEND_ATTACKS_H

#include "tests/frontend/blkdrv.h"

#define ATTACK_QUEUES 2
#define ATTACK_RING_SIZE 64

/* How far the victim's front-end has come when the attack begins. */
enum attack_stage {
	ATTACK_CONNECTED, /* nothing said */
	ATTACK_NEGOTIATED, /* features; a region that was not shared */
	ATTACK_RUNNING, /* rings started */
};

struct attack {
	const char *name; /* the rule, as a sentence */
	void (*run)(struct blk *v);
	enum attack_stage stage;
	bool both_rings; /* once with split rings, once with packed ones */
};

#define AT(stage_, fn)                                                                             \
	{                                                                                          \
		.name = #fn, .run = fn, .stage = stage_                                            \
	}

/* All end with a NULL name. */
extern const struct attack attacks_msg[], attacks_setup[], attacks_ring[];

/* err says that a request was refused, or the connection has gone: the back-end
 * has the choice, but nobody hangs. */
void attack_assert_refused(struct fe *fe, int err);
void attack_assert_request_refused(struct blk *v, uint32_t request, const void *payload,
				   uint32_t len);
/* Any reaction to what was sent will do but none at all. */
void attack_assert_answers_or_hangs_up(struct fe *fe);

#endif
