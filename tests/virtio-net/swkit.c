/*
 * A switch for tests.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/swkit.h"

#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "tests/core/test.h"
#include "virtio-net/net_bytes.h"

#define TYPE_EXPERIMENT 0x88b5

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	struct sw_port_stats *stats = sw_stats(port, lane);
	struct swkit_port *p = port->priv;

	assert(nr && nr <= FRAME_BURST);
	p->nr_calls++;
	for (unsigned int i = 0; i < nr; i++) {
		struct swkit_got *got = &p->got[p->nr];

		stats->out_frames++;
		stats->out_bytes += frames[i]->len;
		if (p->nr++ >= SWKIT_GOT_MAX)
			continue;
		*got = (struct swkit_got){
			.len = frames[i]->len,
			.vid = frames[i]->vid,
			.tagged = frames[i]->tagged,
			.lane = lane->index,
			.offload = frames[i]->offload,
		};
		frame_copy_part(frames[i], 0, got->bytes,
				(uint32_t)min_u64(got->len, SWKIT_FRAME_MAX));
	}
}

static const struct sw_port_ops kit_ops = { .kind = "kit", .deliver = deliver };

void swkit_settle(struct swkit *k)
{
	int nr;

	do {
		nr = 0;
		for (unsigned int i = 0; i < SWKIT_LOOPS; i++)
			nr += (int)loop_turn(k->loop[i]);
		nr += evloop_run_once(k->ev, 0);
	} while (nr);
}

void swkit_open(struct swkit *k, const struct vswitch_conf *given)
{
	struct vswitch_conf conf = given ? *given : (struct vswitch_conf){ 0 };

	*k = (struct swkit){ .ev = evloop_create() };
	assert_non_null(k->ev);
	for (unsigned int i = 0; i < SWKIT_LOOPS; i++) {
		struct loop_conf loop_conf = {
			.ev = k->ev,
			.mode = LOOP_BUSY,
			.cpu = -1,
			.manual = true,
			.index = i,
		};

		assert_int_equal(loop_create(&loop_conf, &k->loop[i]), 0);
	}
	conf.ev = k->ev;
	conf.loops = k->loop;
	conf.nr_loops = SWKIT_LOOPS;
	assert_int_equal(vswitch_create(&conf, &k->sw), 0);
	k->lane = vswitch_lane(k->sw, 0);
}

void swkit_close(struct swkit *k)
{
	struct sw_port *port;

	while ((port = sw_port_next(k->sw, NULL)))
		sw_port_remove(port, free, port->priv);
	swkit_settle(k);
	vswitch_destroy(k->sw);
	for (unsigned int i = 0; i < SWKIT_LOOPS; i++)
		loop_destroy(k->loop[i]);
	evloop_destroy(k->ev);
}

void swkit_pass(struct swkit *k, uint64_t ms)
{
	for (unsigned int i = 0; i < SWKIT_LOOPS; i++)
		vswitch_lane(k->sw, i)->now_ns += ms * 1000000;
}

struct swkit_port *swkit_add(struct swkit *k, const char *name, const struct sw_port_conf *given)
{
	struct swkit_port *p = calloc(1, sizeof(*p));
	struct sw_port_conf conf;

	assert_non_null(p);
	sw_port_conf_init(&conf);
	if (sw_port_add(k->sw, name, &kit_ops, p, given ? given : &conf, &p->port, k->err) < 0) {
		free(p);
		return NULL;
	}
	return p;
}

void swkit_clear(struct swkit_port *p)
{
	p->nr = 0;
	p->nr_calls = 0;
}

void swkit_set(struct swkit *k, struct swkit_port *p, const struct sw_port_conf *conf)
{
	assert_int_equal(sw_port_set(p->port, conf, k->err), 0);
	swkit_settle(k);
}

uint64_t swkit_drops(const struct swkit_port *p, enum drop_reason reason)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(p->port, &sum);
	return sum.drops[reason];
}

struct sw_port_conf swkit_access(uint16_t vid)
{
	struct sw_port_conf conf;

	sw_port_conf_init(&conf);
	conf.vlan_mode = SW_VLAN_ACCESS;
	conf.vlan = vid;
	return conf;
}

void swkit_mac(uint64_t number, uint8_t mac[6])
{
	if (number == SWKIT_ZERO)
		number = 0;
	else if (number < 0x100000000ull)
		number |= 0x020000000000ull;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(number >> 8 * (5 - i));
}

/* The bytes of a frame; the length. */
static uint32_t build(const struct swkit_frame *f, uint8_t *bytes)
{
	uint32_t len = f->len ? f->len : 64, at = 2 * ETH_ADDR_LEN;

	memset(bytes, 0, len);
	swkit_mac(f->dst, bytes);
	swkit_mac(f->src, bytes + ETH_ADDR_LEN);
	if (f->tag) {
		put_be16(bytes + at, ETH_TYPE_8021Q);
		put_be16(bytes + at + 2, f->tci);
		at += VLAN_TAG_LEN;
	}
	if (at + 2 > len)
		return len;
	put_be16(bytes + at, f->type ? f->type : TYPE_EXPERIMENT);
	if (f->payload)
		memcpy(bytes + at + 2, f->payload, f->payload_len);
	else
		bytes[len - 1] = f->mark;
	return len;
}

void swkit_send_on(struct swkit *k, unsigned int lane, struct swkit_port *p,
		   const struct swkit_frame *frames, unsigned int nr)
{
	static _Thread_local uint8_t room[FRAME_BURST][FRAME_ROOM];
	struct frame burst[FRAME_BURST];
	struct iovec iov[FRAME_BURST];
	uint8_t *bytes;

	assert(nr <= FRAME_BURST);
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t len = frames[i].len ? frames[i].len : 64;

		/* Each by itself, so that the sanitizers see who reads too far. */
		bytes = malloc(len);
		assert_non_null(bytes);
		iov[i] = (struct iovec){ bytes, build(&frames[i], bytes) };
		frame_init(&burst[i], room[i], &iov[i], 1, 0, (uint32_t)iov[i].iov_len);
		burst[i].offload = frames[i].offload;
	}
	vswitch_forward(vswitch_lane(k->sw, lane), p->port, burst, nr);
	for (unsigned int i = 0; i < nr; i++)
		free(iov[i].iov_base);
}

void swkit_send(struct swkit *k, struct swkit_port *p, const struct swkit_frame *frames,
		unsigned int nr)
{
	swkit_send_on(k, 0, p, frames, nr);
}

void swkit_send_one(struct swkit *k, struct swkit_port *p, uint64_t dst, uint64_t src)
{
	swkit_send(k, p, &(struct swkit_frame){ .dst = dst, .src = src }, 1);
}

void swkit_three_open(struct swkit_three *t)
{
	swkit_open(&t->k, NULL);
	sw_port_conf_init(&t->conf);
	t->a = swkit_add(&t->k, "a", NULL);
	t->b = swkit_add(&t->k, "b", NULL);
	t->c = swkit_add(&t->k, "c", NULL);
	assert_true(t->a && t->b && t->c);
}

void swkit_three_clear(struct swkit_three *t)
{
	swkit_clear(t->a);
	swkit_clear(t->b);
	swkit_clear(t->c);
}

void swkit_three_learn(struct swkit_three *t)
{
	swkit_send_one(&t->k, t->a, SWKIT_BROADCAST, SWKIT_A);
	swkit_send_one(&t->k, t->b, SWKIT_BROADCAST, SWKIT_B);
	swkit_send_one(&t->k, t->c, SWKIT_BROADCAST, SWKIT_C);
	swkit_three_clear(t);
}

void swkit_three_expect(const struct swkit_three *t, unsigned int a, unsigned int b, unsigned int c)
{
	assert_int_equal(t->a->nr, a);
	assert_int_equal(t->b->nr, b);
	assert_int_equal(t->c->nr, c);
}
