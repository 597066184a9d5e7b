/*
 * A switch, devices and drivers on one thread. Linked by the tests of devices;
 * contains no test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-net/netrig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "core/sigbus.h"

#define SETTLE_TURNS 200
#define TYPE_EXPERIMENTAL 0x88b5

void rig_pump(void *opaque)
{
	struct rig *r = opaque;

	for (int i = 0; i < RIG_LOOPS && !r->threads; i++)
		loop_turn(r->loops[i]);
	assert_true(evloop_run_once(r->ev, 0) >= 0);
}

void rig_settle(struct rig *r)
{
	for (int i = 0; i < SETTLE_TURNS; i++)
		rig_pump(r);
}

/* --- life ------------------------------------------------------------------------ */

static void init_port(struct rig *r, unsigned int i)
{
	struct rig_port *p = &r->port[i];

	snprintf(p->name, sizeof(p->name), "p%u", i);
	snprintf(p->path, sizeof(p->path), "%s/%s", r->dir, p->name);
	vnet_conf_init(&p->conf);
	p->conf.name = p->name;
	p->conf.socket = p->path;
	p->conf.ev = r->ev;
	p->conf.loops = r->loops;
	p->conf.nr_loops = RIG_LOOPS;
	p->conf.sw = r->sw;
	p->drv_conf = (struct net_conf){
		.path = p->path,
		.features = NET_FEATURES_ALL,
		.ring_size = 64,
		.pump = rig_pump,
		.pump_opaque = r,
	};
}

static int setup(void **state, bool threads)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct vswitch_conf sc = { 0 };

	assert_non_null(r);
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(sigbus_init(), 0);
	r->threads = threads;
	strcpy(r->dir, "/tmp/ringbolt-vnet-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	r->ev = evloop_create();
	assert_non_null(r->ev);
	for (unsigned int i = 0; i < RIG_LOOPS; i++) {
		struct loop_conf lc = {
			.ev = r->ev,
			.mode = LOOP_ADAPTIVE,
			.cpu = -1,
			.manual = !threads,
			.index = i,
		};

		assert_int_equal(loop_create(&lc, &r->loops[i]), 0);
	}
	sc.ev = r->ev;
	sc.loops = r->loops;
	sc.nr_loops = RIG_LOOPS;
	assert_int_equal(vswitch_create(&sc, &r->sw), 0);
	for (unsigned int i = 0; i < RIG_PORTS; i++)
		init_port(r, i);
	*state = r;
	return 0;
}

int rig_setup(void **state)
{
	return setup(state, false);
}

int rig_setup_threads(void **state)
{
	return setup(state, true);
}

int rig_teardown(void **state)
{
	struct rig *r = *state;

	for (unsigned int i = 0; i < RIG_PORTS; i++) {
		if (r->port[i].connected)
			net_abandon(&r->port[i].drv);
		if (r->port[i].vn)
			rig_remove(r, i);
		/* Nothing of a device that has gone is left to be found. */
		assert_int_equal(access(r->port[i].path, F_OK), -1);
	}
	rig_settle(r);
	vswitch_destroy(r->sw);
	for (int i = 0; i < RIG_LOOPS; i++)
		loop_destroy(r->loops[i]);
	evloop_destroy(r->ev);
	assert_int_equal(rmdir(r->dir), 0);
	free(r);
	return 0;
}

void rig_serve(struct rig *r, unsigned int i)
{
	int ret = vnet_create(&r->port[i].conf, &r->port[i].vn, r->err);

	if (ret < 0)
		print_error("%s\n", r->err);
	assert_int_equal(ret, 0);
}

void rig_connect(struct rig *r, unsigned int i)
{
	assert_int_equal(net_open(&r->port[i].drv, &r->port[i].drv_conf), 0);
	r->port[i].connected = true;
}

void rig_pair(struct rig *r)
{
	for (unsigned int i = 0; i < 2; i++) {
		rig_serve(r, i);
		rig_connect(r, i);
	}
}

void rig_disconnect(struct rig *r, unsigned int i)
{
	assert_int_equal(net_close(&r->port[i].drv), 0);
	r->port[i].connected = false;
	rig_settle(r);
}

void rig_abandon(struct rig *r, unsigned int i)
{
	net_abandon(&r->port[i].drv);
	r->port[i].connected = false;
	rig_settle(r);
}

static void set_gone(void *opaque)
{
	*(bool *)opaque = true;
}

void rig_remove(struct rig *r, unsigned int i)
{
	struct rig_port *p = &r->port[i];

	p->gone = false;
	vnet_destroy(p->vn, set_gone, &p->gone);
	for (int n = 0; !p->gone && n < 100000; n++) {
		rig_pump(r);
		/* A loop on a busy machine. */
		if (r->threads)
			usleep(100);
	}
	assert_true(p->gone);
	p->vn = NULL;
}

/* --- frames ------------------------------------------------------------------------ */

void rig_frame(uint8_t *p, const uint8_t *dst, const uint8_t *src, uint32_t len, uint32_t seed)
{
	memcpy(p, dst, 6);
	memcpy(p + 6, src, 6);
	p[12] = TYPE_EXPERIMENTAL >> 8;
	p[13] = TYPE_EXPERIMENTAL & 0xff;
	for (uint32_t i = 14; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7);
}

void rig_send(struct rig *r, unsigned int i, const uint8_t *dst, const uint8_t *src, uint32_t len,
	      uint32_t seed)
{
	static uint8_t bytes[NET_FRAME_MAX];

	rig_frame(bytes, dst, src, len, seed);
	assert_int_equal(net_send(&r->port[i].drv, 0, NULL, bytes, len), 0);
	assert_int_equal(net_drain(&r->port[i].drv, 0), 0);
}

/* The device chooses by loop and by queue of the sender. */
static unsigned int pair_with_frame(struct rig *r, struct net *n)
{
	for (int turns = 0; turns < 10000; turns++) {
		for (unsigned int pair = 0; pair < n->pairs; pair++)
			if (drv_has_used(&n->rx[pair].ring))
				return pair;
		rig_pump(r);
		if (r->threads)
			usleep(100);
	}
	return 0;
}

void rig_expect(struct rig *r, unsigned int i, unsigned int pair, const uint8_t *dst,
		const uint8_t *src, uint32_t len, uint32_t seed)
{
	static uint8_t bytes[NET_FRAME_MAX];

	rig_frame(bytes, dst, src, len, seed);
	if (pair == RIG_ANY_PAIR)
		pair = pair_with_frame(r, &r->port[i].drv);
	assert_int_equal(net_recv_wait(&r->port[i].drv, pair, &r->frame), 1);
	assert_int_equal(r->frame.len, len);
	assert_memory_equal(r->frame.data, bytes, len);
}

void rig_expect_nothing(struct rig *r, unsigned int i)
{
	rig_settle(r);
	for (unsigned int pair = 0; pair < r->port[i].drv.pairs; pair++)
		assert_int_equal(net_recv(&r->port[i].drv, pair, &r->frame), 0);
}

void rig_talk(struct rig *r, unsigned int a, unsigned int b)
{
	rig_send(r, a, RIG_MAC(b), RIG_MAC(a), 100, 1);
	rig_expect(r, b, RIG_ANY_PAIR, RIG_MAC(b), RIG_MAC(a), 100, 1);
	rig_send(r, b, RIG_MAC(a), RIG_MAC(b), 1514, 2);
	rig_expect(r, a, RIG_ANY_PAIR, RIG_MAC(a), RIG_MAC(b), 1514, 2);
}

/* --- commands ---------------------------------------------------------------------------- */

void rig_pair_for_commands(struct rig *r)
{
	r->port[0].conf.pairs = RIG_PAIRS;
	r->port[0].conf.rss = true;
	r->port[0].drv_conf.pairs = RIG_PAIRS;
	r->port[0].conf.has_mac = true;
	memcpy(r->port[0].conf.mac, RIG_MAC(0), 6);
	rig_pair(r);
	assert_true(r->port[0].drv.ctrl.exists);
}

void rig_mode(struct rig *r, uint8_t command, bool on)
{
	uint8_t data = on;

	assert_int_equal(net_ctrl(&r->port[0].drv, VIRTIO_NET_CTRL_RX, command, &data, 1),
			 VIRTIO_NET_OK);
}

bool rig_reaches(struct rig *r, const uint8_t *dst)
{
	uint64_t filtered = rig_dropped(r, 0, DROP_FILTERED);
	struct net *n = &r->port[0].drv;
	int ret = 0;

	rig_send(r, 1, dst, RIG_MAC(1), 60, 7);
	rig_settle(r);
	for (unsigned int pair = 0; pair < n->pairs && !ret; pair++) {
		ret = net_recv(n, pair, &r->frame);
		assert_true(ret >= 0);
	}
	assert_int_equal(rig_dropped(r, 0, DROP_FILTERED) - filtered, !ret);
	return ret;
}

uint8_t *rig_log(struct rig *r, unsigned int i)
{
	uint64_t desc[2] = { RIG_LOG_LEN, 0 };
	struct fe *fe = &r->port[i].drv.fe;
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_msg reply;
	uint8_t *bits;

	assert_int_equal(ftruncate(fd, RIG_LOG_LEN), 0);
	bits = mmap(NULL, RIG_LOG_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(bits, MAP_FAILED);
	assert_int_equal(fe_send(fe, FE_SET_LOG_BASE, FE_VERSION, desc, sizeof(desc), &fd, 1), 0);
	assert_int_equal(fe_recv(fe, &reply), 0);
	assert_int_equal(fe_set_u64(fe, FE_SET_FEATURES, fe->features | 1ull << FE_F_LOG_ALL), 0);
	close(fd);
	return bits;
}

bool rig_logged(const uint8_t *bits, uint64_t gpa, uint64_t len)
{
	for (uint64_t page = gpa / 4096; page <= (gpa + len - 1) / 4096; page++)
		if (!(bits[page / 8] & 1 << page % 8))
			return false;
	return true;
}

uint32_t rig_mac_table(uint8_t *p, uint32_t nr_uni, uint32_t nr_multi, unsigned int first)
{
	uint8_t *start = p;
	le32 n = cpu_to_le32(nr_uni);

	memcpy(p, &n, 4);
	p += 4;
	for (uint32_t i = 0; i < nr_uni; i++, p += 6) {
		memcpy(p, RIG_MAC(0), 6);
		p[4] = (uint8_t)((first + i) >> 8);
		p[5] = (uint8_t)(0x10 + first + i);
	}
	n = cpu_to_le32(nr_multi);
	memcpy(p, &n, 4);
	p += 4;
	for (uint32_t i = 0; i < nr_multi; i++, p += 6) {
		memcpy(p, RIG_MULTICAST(0), 6);
		p[4] = (uint8_t)((first + i) >> 8);
		p[5] = (uint8_t)(first + i);
	}
	return (uint32_t)(p - start);
}

/* --- status -------------------------------------------------------------------------- */

char *rig_status(struct rig *r, unsigned int i, const char *key)
{
	json_t *obj = vnet_status(r->port[i].vn);
	json_t *value = json_object_get(obj, key);
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;

	json_decref(obj);
	return text;
}

uint64_t rig_dropped(struct rig *r, unsigned int i, enum drop_reason reason)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(vnet_port(r->port[i].vn), &sum);
	return sum.drops[reason];
}
