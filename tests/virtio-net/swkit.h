/*
 * A switch for tests: loops that turn by hand, ports that keep what they get, and
 * frames of one line.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VIRTIO_NET_SWKIT_H
#define RINGBOLT_TESTS_VIRTIO_NET_SWKIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/evloop.h"
#include "vhost/vhost.h"
#include "virtio-net/vswitch.h"

#define SWKIT_LOOPS 2
#define SWKIT_GOT_MAX 512
#define SWKIT_FRAME_MAX 1600

struct swkit_port {
	struct sw_port *port;
	unsigned int nr; /* frames it got */
	unsigned int nr_calls;
	struct swkit_got {
		uint8_t bytes[SWKIT_FRAME_MAX]; /* as many as fit */
		uint32_t len;
		uint16_t vid;
		bool tagged;
		unsigned int lane;
		struct frame_offload offload;
	} got[SWKIT_GOT_MAX]; /* the first of them */
};

struct swkit {
	struct evloop *ev;
	struct loop *loop[SWKIT_LOOPS];
	struct vswitch *sw;
	struct sw_lane *lane; /* the first */
	char err[SW_ERR_LEN];
};

/* conf: size of the MAC table and the like, or NULL. */
void swkit_open(struct swkit *k, const struct vswitch_conf *conf);
/* Removes the ports that are left. */
void swkit_close(struct swkit *k);
/* Every loop turns and the control thread answers, until nothing is left to do. */
void swkit_settle(struct swkit *k);
/* Let so much time go by, for all lanes. */
void swkit_pass(struct swkit *k, uint64_t ms);

/* conf: NULL for the defaults. The port frees itself with the switch. */
struct swkit_port *swkit_add(struct swkit *k, const char *name, const struct sw_port_conf *conf);
/* Forget what it got. */
void swkit_clear(struct swkit_port *p);
/* Another configuration; must be accepted. */
void swkit_set(struct swkit *k, struct swkit_port *p, const struct sw_port_conf *conf);
uint64_t swkit_drops(const struct swkit_port *p, enum drop_reason reason);
struct sw_port_conf swkit_access(uint16_t vid);

/* A frame to be sent. Addresses are 02-00-00-00-00-xx for small numbers, or whole
 * ones, as a number whose lowest byte comes last. */
struct swkit_frame {
	uint64_t dst, src;
	bool tag;
	uint16_t tci;
	uint16_t type; /* 0: 0x88b5, for experiments */
	uint32_t len; /* 0: 64, with the tag */
	uint8_t mark; /* the last byte */
	const uint8_t *payload; /* behind the type, instead of zeros */
	uint32_t payload_len;
	struct frame_offload offload;
};
#define SWKIT_BROADCAST 0xffffffffffffull
#define SWKIT_ZERO UINT64_MAX /* 00-00-00-00-00-00 */

/* One burst; lane by number. */
void swkit_send_on(struct swkit *k, unsigned int lane, struct swkit_port *p,
		   const struct swkit_frame *frames, unsigned int nr);
void swkit_send(struct swkit *k, struct swkit_port *p, const struct swkit_frame *frames,
		unsigned int nr);
/* One plain frame. */
void swkit_send_one(struct swkit *k, struct swkit_port *p, uint64_t dst, uint64_t src);
void swkit_mac(uint64_t number, uint8_t mac[6]);

/* Addresses of frames are made from a byte: these are those of three ports. */
enum {
	SWKIT_A = 0xa,
	SWKIT_B = 0xb,
	SWKIT_C = 0xc,
};

/* Three ports that carry everything, and the address of each. */
struct swkit_three {
	struct swkit k;
	struct swkit_port *a, *b, *c;
	struct sw_port_conf conf; /* the default, to start from */
};

void swkit_three_open(struct swkit_three *t);
void swkit_three_clear(struct swkit_three *t);
/* Everybody is heard of. */
void swkit_three_learn(struct swkit_three *t);
/* How many frames each has got. */
void swkit_three_expect(const struct swkit_three *t, unsigned int a, unsigned int b,
			unsigned int c);

#endif
