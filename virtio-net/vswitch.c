/*
 * The switch as a whole: its life, its lanes, grace periods, and the MAC table as
 * operators see it. Called by apps, devices and uplinks on the control thread; the
 * way of a frame is in sw_forward.c. It never touches a frame.
 *
 * Theory of operation
 *
 * A grace period: a work posted to every loop runs between two turns, and behind
 * all of them no loop holds a pointer it read before. The last one to run answers
 * to the control thread.
 *
 * Ageing is a timer of the control thread, rare enough not to be noticed on an
 * idle machine; an entry is forgotten up to an eighth of the time late.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <errno.h>
#include <rte_cycles.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cpu.h"
#include "core/log.h"
#include "virtio-net/sw_internal.h"

#define MAC_TABLE_SIZE 16384
#define AGEING_S 300
#define AGE_PERIOD_MAX_S 30
#define SECOND_NS 1000000000ull
/* Microseconds on every machine; the clock costs more than this counter. */
#define TICK_CYCLES 16384

/* --- grace periods --------------------------------------------------------------- */

struct sw_grace {
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr; /* loops */
	unsigned int nr_left; /* loops that have not been between two turns yet */
	struct ev_work answer;
	void (*done)(void *opaque);
	void *opaque;
	struct grace_item {
		struct loop_work work;
		struct sw_grace *g;
	} item[];
};

struct sw_grace *grace_alloc(struct vswitch *sw)
{
	struct sw_grace *g = calloc(1, sizeof(*g) + sw->nr_lanes * sizeof(g->item[0]));

	if (!g)
		return NULL;
	g->ev = sw->ev;
	g->loops = sw->loops;
	g->nr = sw->nr_lanes;
	return g;
}

static void grace_answered(struct ev_work *w)
{
	struct sw_grace *g = container_of(w, struct sw_grace, answer);

	g->done(g->opaque);
	free(g);
}

static void grace_run(struct loop_work *w)
{
	struct sw_grace *g = container_of(w, struct grace_item, work)->g;

	/* Release and acquire: what any loop did before happened before done(). */
	if (!__atomic_sub_fetch(&g->nr_left, 1, __ATOMIC_ACQ_REL))
		ev_post(g->ev, &g->answer);
}

void grace_start(struct sw_grace *g, void (*done)(void *opaque), void *opaque)
{
	unsigned int nr = g->nr;

	assert(nr);
	g->done = done;
	g->opaque = opaque;
	g->answer.run = grace_answered;
	g->nr_left = nr;
	for (unsigned int i = 0; i < nr; i++) {
		g->item[i].g = g;
		g->item[i].work.run = grace_run;
		loop_post(g->loops[i], &g->item[i].work);
	}
}

void vswitch_synchronize(struct vswitch *sw, void (*done)(void *opaque), void *opaque)
{
	struct sw_grace *g = grace_alloc(sw);

	if (!g) {
		/* Kept for ever is safe, and freed too early is not. */
		log_limited(LOG_LEVEL_ERROR, "switch: out of memory: something old is not freed");
		return;
	}
	grace_start(g, done, opaque);
}

/* --- time ------------------------------------------------------------------------ */

uint64_t sw_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

void lane_tick(struct sw_lane *lane)
{
	uint64_t cycles = rte_rdtsc();

	if (likely(cycles - lane->tick_cycles < TICK_CYCLES))
		return;
	lane->tick_cycles = cycles;
	lane->now_ns = sw_now_ns();
}

static void arm_age_timer(struct vswitch *sw)
{
	uint64_t s = max_u64(min_u64(sw->ageing_s / 8, AGE_PERIOD_MAX_S), 1);

	ev_timer_arm(sw->ev, &sw->age_timer, s * SECOND_NS);
}

static void age(struct ev_timer *t)
{
	struct vswitch *sw = container_of(t, struct vswitch, age_timer);

	fdb_age(sw->fdb, fdb_tick(sw_now_ns()));
	arm_age_timer(sw);
}

/* --- life ------------------------------------------------------------------------ */

static size_t switch_size(unsigned int nr_lanes)
{
	return sizeof(struct vswitch) + nr_lanes * sizeof(struct sw_lane);
}

static int create_lanes(struct vswitch *sw)
{
	for (unsigned int i = 0; i < sw->nr_lanes; i++) {
		struct sw_lane *lane = &sw->lanes[i];

		lane->sw = sw;
		lane->loop = sw->loops[i];
		lane->index = i;
		lane->now_ns = sw_now_ns();
		lane->scratch = numa_zalloc(sizeof(*lane->scratch), loop_node(lane->loop));
		if (!lane->scratch)
			return -ENOMEM;
	}
	return 0;
}

int vswitch_create(const struct vswitch_conf *conf, struct vswitch **out)
{
	uint32_t size = conf->mac_table_size ? conf->mac_table_size : MAC_TABLE_SIZE;
	uint32_t ageing_s = conf->ageing_s ? conf->ageing_s : AGEING_S;
	struct vswitch *sw;

	if (size > VSWITCH_MAC_TABLE_MAX || ageing_s > VSWITCH_AGEING_MAX || !conf->nr_loops ||
	    conf->nr_loops > SW_LANES_MAX)
		return -EINVAL;
	sw = numa_zalloc(switch_size(conf->nr_loops), -1);
	if (!sw)
		return -ENOMEM;
	sw->ev = conf->ev;
	sw->loops = conf->loops;
	sw->nr_lanes = conf->nr_loops;
	sw->ageing_s = ageing_s;
	sw->forward_reserved = conf->forward_reserved;
	sw->fdb = fdb_create(size, fdb_tick(ageing_s * SECOND_NS));
	sw->members = calloc(1, sizeof(*sw->members));
	sw->age_timer.expired = age;
	if (!sw->fdb || !sw->members || create_lanes(sw) < 0) {
		vswitch_destroy(sw);
		return -ENOMEM;
	}
	arm_age_timer(sw);
	*out = sw;
	return 0;
}

void vswitch_destroy(struct vswitch *sw)
{
	if (!sw)
		return;
	for (unsigned int i = 0; i < SW_PORTS_MAX; i++)
		assert(!sw->all[i]);
	ev_timer_cancel(sw->ev, &sw->age_timer);
	for (unsigned int i = 0; i < sw->nr_lanes; i++)
		numa_zfree(sw->lanes[i].scratch, sizeof(struct sw_scratch));
	free((void *)sw->members);
	fdb_destroy(sw->fdb);
	numa_zfree(sw, switch_size(sw->nr_lanes));
}

struct sw_lane *vswitch_lane(struct vswitch *sw, unsigned int loop_index)
{
	assert(loop_index < sw->nr_lanes);
	return &sw->lanes[loop_index];
}

unsigned int vswitch_nr_lanes(const struct vswitch *sw)
{
	return sw->nr_lanes;
}

/* --- the MAC table --------------------------------------------------------------- */

static uint64_t mac_word(const uint8_t mac[6])
{
	uint64_t word = 0;

	for (int i = 5; i >= 0; i--)
		word = word << 8 | mac[i];
	return word;
}

/* What loops remember of addresses they have seen is void. */
static void forget_seen(struct vswitch *sw)
{
	write_once(&sw->fdb_epoch, sw->fdb_epoch + 1);
}

int vswitch_mac_add(struct vswitch *sw, const uint8_t mac[6], uint16_t vid, struct sw_port *port)
{
	uint64_t word = mac_word(mac);
	int ret;

	if (!word || mac[0] & 1 || !vid || vid > FRAME_VLAN_MAX || !conf_carries(port->conf, vid))
		return -EINVAL;
	ret = fdb_set_static(sw->fdb, fdb_key(word, vid), port->index, fdb_tick(sw_now_ns()));
	forget_seen(sw);
	return ret;
}

int vswitch_mac_del(struct vswitch *sw, const uint8_t mac[6], uint16_t vid)
{
	int ret = fdb_forget(sw->fdb, fdb_key(mac_word(mac), vid));

	forget_seen(sw);
	return ret;
}

static uint64_t static_key(const struct sw_port_conf *conf, unsigned int i)
{
	const struct sw_static_mac *s = &conf->statics[i];

	return fdb_key(mac_word(s->mac), s->vid ? s->vid : conf->vlan);
}

static int add_statics(struct fdb *fdb, uint16_t index, const struct sw_port_conf *conf)
{
	int ret = 0;

	for (unsigned int i = 0; i < conf->nr_statics && !ret; i++)
		ret = fdb_set_static(fdb, static_key(conf, i), index, fdb_tick(sw_now_ns()));
	return ret;
}

/* But for those that stay; NULL: none. */
static void forget_statics(struct fdb *fdb, const struct sw_port_conf *conf,
			   const struct sw_port_conf *stay)
{
	for (unsigned int i = 0; i < conf->nr_statics; i++) {
		uint64_t key = static_key(conf, i);
		unsigned int j = 0;

		while (stay && j < stay->nr_statics && static_key(stay, j) != key)
			j++;
		if (!stay || j == stay->nr_statics)
			fdb_forget(fdb, key);
	}
}

int sw_change_statics(struct vswitch *sw, uint16_t index, const struct sw_port_conf *from,
		      const struct sw_port_conf *to)
{
	int ret = add_statics(sw->fdb, index, to);

	if (ret < 0)
		forget_statics(sw->fdb, to, from);
	else if (from)
		forget_statics(sw->fdb, from, to);
	forget_seen(sw);
	return ret;
}

void vswitch_mac_flush(struct vswitch *sw, const struct sw_port *port)
{
	fdb_flush(sw->fdb, port ? port->index : -1, false);
	forget_seen(sw);
}

void sw_forget_port(struct vswitch *sw, unsigned int index, bool statics)
{
	fdb_flush(sw->fdb, (int)index, statics);
	forget_seen(sw);
}
