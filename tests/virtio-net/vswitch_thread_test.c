/*
 * The switch on two loops at once: both learn and forward, while ports come, change
 * and go and the table is read and flushed. For ThreadSanitizer, and for what must
 * hold however it goes: no frame in the wrong VLAN, none to a port that is gone, and
 * the books balance.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/atomic.h"
#include "core/base.h"
#include "core/evloop.h"
#include "virtio-net/acl.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/vswitch.h"

#define LOOPS 2
#define PORTS 6 /* that stay */
#define ROUNDS 150 /* of changes */
#define BURSTS_MIN 2000 /* of each loop */

struct world;

/* A port whose frames any loop may take and give. */
struct tport {
	struct world *w;
	struct sw_port *port; /* NULL: not there; loops: load_acquire() */
	uint16_t vid; /* access ports: all it may get; 0: a trunk */
	bool gone;
	uint64_t got[LOOPS], sent[LOOPS];
};

/* A loop's source of frames: a burst a turn, from one port after the other. */
struct sender {
	struct loop_source source;
	struct loop_work begin, end;
	struct world *w;
	unsigned int index;
	uint64_t seed;
	uint64_t bursts;
	bool ended;
};

struct world {
	struct evloop *ev;
	struct loop *loop[LOOPS];
	struct vswitch *sw;
	struct sender sender[LOOPS];
	struct tport port[PORTS + 1]; /* the last comes and goes */
	char err[SW_ERR_LEN];
};

static uint32_t below(uint64_t *seed, uint32_t n)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*seed >> 33) % n;
}

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	struct tport *p = port->priv;

	assert(!read_once(&p->gone));
	for (unsigned int i = 0; i < nr; i++) {
		const uint8_t *vid = frames[i]->head + (frames[i]->tagged ? 18 : 14);

		/* A frame carries the number of its VLAN as data. */
		assert(get_be16(vid) == frames[i]->vid);
		assert(!p->vid || (p->vid == frames[i]->vid && !frames[i]->tagged));
	}
	counter_add(&p->got[lane->index], nr);
	counter_add(&sw_stats(port, lane)->out_frames, nr);
}

static const struct sw_port_ops ops = { .kind = "test", .deliver = deliver };

/* --- a loop's thread ------------------------------------------------------------- */

static void fill(struct sender *s, const struct tport *p, unsigned int from, struct frame *f,
		 uint8_t *room, const struct iovec *nothing)
{
	uint16_t vid = p->vid ? p->vid : (uint16_t)(10 + below(&s->seed, 2));
	uint32_t to = below(&s->seed, 12);
	uint8_t *head = room + FRAME_HEADROOM;
	uint8_t tail[2];

	memset(head, 0, FRAME_HEAD_FIRST);
	/* Some for everybody, some for nobody, some from addresses that move. */
	memset(head, to == 11 ? 0xff : 2, ETH_ADDR_LEN);
	if (to < 11)
		head[5] = (uint8_t)to;
	head[6] = 2;
	head[11] = (uint8_t)(below(&s->seed, 16) ? from : 20 + below(&s->seed, 4));
	put_be16(tail, vid);
	if (p->vid) {
		put_be16(head + 12, 0x88b5);
		memcpy(head + 14, tail, 2);
	} else {
		put_be16(head + 12, ETH_TYPE_8021Q);
		put_be16(head + 14, vid);
		put_be16(head + 16, 0x88b5);
		memcpy(head + 18, tail, 2);
	}
	*f = (struct frame){
		.head = head,
		.tail = nothing,
		.len = FRAME_HEAD_FIRST,
		.head_len = FRAME_HEAD_FIRST,
		.nr_tail = 1,
	};
}

static unsigned int send(struct loop_source *source)
{
	struct sender *s = container_of(source, struct sender, source);
	struct sw_lane *lane = vswitch_lane(s->w->sw, s->index);
	unsigned int from = below(&s->seed, PORTS + 1), nr = 1 + below(&s->seed, FRAME_BURST);
	struct tport *p = &s->w->port[from];
	struct sw_port *port = load_acquire(&p->port);
	static _Thread_local uint8_t room[FRAME_BURST][FRAME_ROOM];
	static const struct iovec nothing;
	struct frame f[FRAME_BURST];

	if (!port)
		return 1;
	lane_tick(lane);
	for (unsigned int i = 0; i < nr; i++)
		fill(s, p, from, &f[i], room[i], &nothing);
	vswitch_forward(lane, port, f, nr);
	counter_add(&p->sent[s->index], nr);
	counter_add(&s->bursts, 1);
	return 1;
}

static void begin(struct loop_work *w)
{
	struct sender *s = container_of(w, struct sender, begin);

	loop_source_add(s->w->loop[s->index], &s->source);
}

static void end(struct loop_work *w)
{
	struct sender *s = container_of(w, struct sender, end);

	loop_source_del(s->w->loop[s->index], &s->source);
	store_release(&s->ended, true);
}

/* --- the control thread ---------------------------------------------------------- */

static struct sw_port_conf conf_of(const struct tport *p)
{
	struct sw_port_conf conf;

	sw_port_conf_init(&conf);
	if (p->vid) {
		conf.vlan_mode = SW_VLAN_ACCESS;
		conf.vlan = p->vid;
	} else {
		conf.vlan = 0;
	}
	return conf;
}

static void add(struct world *w, struct tport *p, const char *name)
{
	struct sw_port_conf conf = conf_of(p);
	struct sw_port *port;

	p->w = w;
	write_once(&p->gone, false);
	assert_int_equal(sw_port_add(w->sw, name, &ops, p, &conf, &port, w->err), 0);
	store_release(&p->port, port);
}

static void gone(void *opaque)
{
	struct tport *p = opaque;

	write_once(&p->gone, true);
}

/* As devices do it: first nothing more from it, then nothing more to it. */
static void hidden(void *opaque)
{
	struct tport *p = opaque;
	struct sw_port *port = p->port;

	store_release(&p->port, NULL);
	sw_port_remove(port, gone, p);
}

static void remove_and_wait(struct world *w, struct tport *p)
{
	hidden(p);
	while (!p->gone)
		evloop_run_once(w->ev, -1);
}

static void open_world(struct world *w)
{
	struct vswitch_conf conf = { .nr_loops = LOOPS, .mac_table_size = 32 };
	char name[8];

	w->ev = evloop_create();
	assert_non_null(w->ev);
	for (unsigned int i = 0; i < LOOPS; i++) {
		struct loop_conf loop_conf = {
			.ev = w->ev,
			.mode = LOOP_ADAPTIVE,
			.cpu = -1,
			.index = i,
		};

		assert_int_equal(loop_create(&loop_conf, &w->loop[i]), 0);
	}
	conf.ev = w->ev;
	conf.loops = w->loop;
	assert_int_equal(vswitch_create(&conf, &w->sw), 0);
	for (unsigned int i = 0; i <= PORTS; i++) {
		/* Two VLANs, and two trunks. */
		w->port[i].vid = i % 3 ? (uint16_t)(9 + i % 3) : 0;
		snprintf(name, sizeof(name), "p%u", i);
		add(w, &w->port[i], name);
	}
	for (unsigned int i = 0; i < LOOPS; i++) {
		struct sender *s = &w->sender[i];

		s->w = w;
		s->index = i;
		s->seed = 7 + i;
		s->source = (struct loop_source){ .turn = send, .fd = -1, .nr_pending = 1 };
		s->begin.run = begin;
		s->end.run = end;
		loop_post(w->loop[i], &s->begin);
	}
}

static void check_books(const struct world *w)
{
	for (unsigned int i = 0; i < PORTS; i++) {
		struct sw_port_stats sum;
		uint64_t got = 0, sent = 0;

		for (unsigned int l = 0; l < LOOPS; l++) {
			got += w->port[i].got[l];
			sent += w->port[i].sent[l];
		}
		sw_port_stats_sum(w->port[i].port, &sum);
		assert_int_equal(sum.in_frames, sent);
		assert_int_equal(sum.out_frames, got);
		assert_true(got > 0);
	}
}

static void close_world(struct world *w)
{
	for (unsigned int i = 0; i < LOOPS; i++) {
		/* However slow the machine is. */
		while (counter_read(&w->sender[i].bursts) < BURSTS_MIN)
			evloop_run_once(w->ev, 1);
		loop_post(w->loop[i], &w->sender[i].end);
	}
	for (unsigned int i = 0; i < LOOPS; i++)
		while (!load_acquire(&w->sender[i].ended))
			evloop_run_once(w->ev, 1);
	check_books(w);
	for (unsigned int i = 0; i <= PORTS; i++)
		remove_and_wait(w, &w->port[i]);
	while (evloop_run_once(w->ev, 0))
		;
	vswitch_destroy(w->sw);
	for (unsigned int i = 0; i < LOOPS; i++)
		loop_destroy(w->loop[i]);
	evloop_destroy(w->ev);
}

static void everything_changes_while_two_loops_forward(void **state)
{
	static const uint8_t mac[6] = { 2, 2, 2, 2, 2, 3 };
	static struct world w;
	uint64_t seed = 1;

	open_world(&w);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct tport *p = &w.port[below(&seed, PORTS)];
		struct sw_port_conf conf = conf_of(p);

		conf.isolated = below(&seed, 2);
		conf.flooding = below(&seed, 2);
		conf.in_frames.rate = below(&seed, 2) * 100000;
		conf.out_bytes.rate = below(&seed, 2) * 10000000;
		conf.broadcast.rate = below(&seed, 2) * 1000;
		conf.anti_spoof = below(&seed, 2);
		conf.nr_macs = 1;
		memcpy(conf.macs[0], mac, sizeof(mac));
		if (below(&seed, 4) == 0)
			strcpy(conf.mirror, "p6"); /* which comes and goes */
		assert_int_equal(sw_port_set(p->port, &conf, w.err), 0);
		remove_and_wait(&w, &w.port[PORTS]);
		add(&w, &w.port[PORTS], "p6");
		json_decref(vswitch_mac_table(w.sw));
		json_decref(sw_port_status(p->port));
		json_decref(vswitch_status(w.sw));
		if (below(&seed, 3) == 0)
			vswitch_mac_flush(w.sw, NULL);
		if (!vswitch_mac_add(w.sw, mac, p->vid ? p->vid : 10, p->port))
			vswitch_mac_del(w.sw, mac, p->vid ? p->vid : 10);
	}
	close_world(&w);
}

static void access_lists_are_replaced_while_two_loops_use_them(void **state)
{
	static struct world w;
	char err[EAL_ERR_LEN];
	uint64_t seed = 2;

	if (eal_start(err) < 0) {
		printf("no access lists here: %s\n", err);
		skip();
	}
	open_world(&w);
	for (unsigned int round = 0; round < ROUNDS / 5; round++) {
		struct tport *p = &w.port[below(&seed, PORTS)];
		struct sw_port_conf conf = conf_of(p);
		json_t *rules = json_pack("[{s:s, s:i, s:s}, {s:s, s:s}]", "action", "drop", "vlan",
					  10 + (int)below(&seed, 2), "dst-mac", "02:02:02:02:02:03",
					  "action", "allow", "src-mac", "02:00:00:00:00:00/40");

		assert_non_null(rules);
		if (below(&seed, 4))
			assert_int_equal(
				sw_acl_create(rules, LOOPS, &conf.acl_in, &conf.acl_out, w.err), 0);
		json_decref(rules);
		assert_int_equal(sw_port_set(p->port, &conf, w.err), 0);
		json_decref(sw_port_acl_status(p->port));
		evloop_run_once(w.ev, 1);
	}
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_changes_while_two_loops_forward),
		cmocka_unit_test(access_lists_are_replaced_while_two_loops_use_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
