/*
 * The control queue of a network device: chains and commands from fuzz bytes, on
 * both ring kinds, with any choice of features. What a command leaves behind is
 * then used as loops use it: frames are filtered and hashed by it.
 *
 * Must hold: every chain comes back, also when the ring stops in the middle of a
 * command; what the driver has set stays within what was negotiated and offered;
 * a hash never leads to a queue that does not exist.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tests/fuzz/fuzz_ring.h"
#include "virtio-net/vnet_internal.h"

#define PAIRS 4
#define TURNS_MAX 300

/* Made once: only the driver is new with each input. */
static struct {
	struct evloop *ev;
	struct loop *loop;
	struct vswitch *sw;
	struct vnet *vn;
	struct fuzz_ring r;
} w;

static void open_world(void)
{
	struct vswitch_conf sc = { .loops = &w.loop, .nr_loops = 1 };
	struct loop_conf lc = { .cpu = -1, .manual = true };
	struct vnet_conf conf;
	char err[SW_ERR_LEN];

	log_set_level(LOG_LEVEL_ERROR);
	/* All of this stays, and hangs on memory that does not come from malloc(). */
	__lsan_disable();
	w.ev = evloop_create();
	assert(w.ev);
	lc.ev = w.ev;
	sc.ev = w.ev;
	assert(!loop_create(&lc, &w.loop));
	assert(!vswitch_create(&sc, &w.sw));
	vnet_conf_init(&conf);
	conf.name = "fuzz";
	/* Nobody is there: it stays on its own. */
	conf.socket = "/nonexistent/fuzz";
	conf.mode = VU_CONNECT;
	conf.pairs = PAIRS;
	conf.rss = true;
	conf.ev = w.ev;
	conf.loops = &w.loop;
	conf.nr_loops = 1;
	conf.sw = w.sw;
	assert(!vnet_create(&conf, &w.vn, err));
	__lsan_enable();
	__lsan_register_root_region(w.vn, sizeof(*w.vn));
}

/* --- what must hold ---------------------------------------------------------------- */

static void check_state(struct fuzz_input *in)
{
	const struct vnet_live *live = vnet_live_get(w.vn);
	const struct vnet_driver *d = &w.vn->driver;
	uint8_t room[FRAME_ROOM], bytes[96];
	const struct iovec iov = { bytes, sizeof(bytes) };
	struct vnet_hash hash;
	struct frame f;
	unsigned int queue;

	assert(d->pairs >= 1 && d->pairs <= PAIRS);
	assert(!(d->guest_offloads & ~w.vn->features));
	assert(d->rx.nr_uni <= VNET_MACS_MAX && d->rx.nr_multi <= VNET_MACS_MAX);
	assert(live->filter == d->filter && live->rss == d->rss);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = fuzz_u8(in);
	frame_init(&f, room, &iov, 1, 0, sizeof(bytes));
	f.tagged = bytes[12] == 0x81 && !bytes[13];
	vnet_filter_passes(live->filter, &f);
	if (live->filter)
		assert(!d->rx.promisc);
	if (!live->rss)
		return;
	queue = vnet_rss_queue(live->rss, &f, &hash);
	assert(queue < PAIRS || queue == VNET_RSS_NO_QUEUE);
	assert(hash.report <= VIRTIO_NET_HASH_REPORT_UDPv6_EX);
}

static void turn(void)
{
	vnet_ctrl_poll(&w.r.vq);
	assert(evloop_run_once(w.ev, 0) >= 0);
	loop_turn(w.loop);
}

/* --- commands ------------------------------------------------------------------------ */

/* Data of about the right length for each, then what the input says. */
static uint32_t write_data(struct fuzz_input *in, uint8_t *p, uint32_t max, uint8_t id,
			   uint8_t command)
{
	static const uint8_t lens[6][3] = {
		{ 1, 1, 1 }, { 8, 6, 8 }, { 2, 2, 2 }, { 0, 0, 0 }, { 2, 52, 53 }, { 8, 8, 8 },
	};
	uint32_t len = id < 6 ? lens[id][command % 3] : fuzz_u8(in) % 16;
	uint8_t kind = fuzz_u8(in);

	if (kind & 0xc0)
		len = (len + kind % 64 * (kind & 0x80 ? 6u : 1u)) % max;
	for (uint32_t i = 0; i < len; i++)
		p[i] = kind & 1 ? 0 : fuzz_u8(in);
	/* Counts of tables and masks are small numbers most of the time. */
	if (len >= 4 && kind & 2)
		p[0] = kind >> 2 & 15;
	if (id == VIRTIO_NET_CTRL_MQ && len >= 14 && kind & 4) {
		static const uint8_t head[] = { 7, 0, 0, 0, 3, 0, 1, 0, 1, 0, 2, 0, 3, 0, 0, 0, 2 };

		memset(p, 0, len);
		memcpy(p, head, sizeof(head) < len ? sizeof(head) : len);
		p[fuzz_u8(in) % len] = fuzz_u8(in);
		if (len > 18)
			p[18] = (uint8_t)(len - 19);
	}
	return len;
}

static void put_command(struct fuzz_input *in)
{
	uint64_t addr = FUZZ_RAM + fuzz_u8(in) % 16 * 8;
	uint8_t id = fuzz_u8(in) % 8, command = fuzz_u8(in) % 8, cuts = fuzz_u8(in);
	uint8_t *p = fuzz_ram(&w.r, addr, 2048);
	struct fuzz_buf bufs[FUZZ_CHAIN_MAX];
	uint32_t left, in_len = 1 + fuzz_u8(in) % 4 / 3 * 8;
	unsigned int nr = 0;

	p[0] = id;
	p[1] = command;
	left = 2 + write_data(in, p + 2, 1024, id, command);
	while (left && nr < FUZZ_CHAIN_MAX - 1) {
		uint32_t piece = left;

		if (cuts >> nr % 8 & 1 && nr < FUZZ_CHAIN_MAX - 2)
			piece = 1 + fuzz_u8(in) % piece;
		bufs[nr++] = (struct fuzz_buf){ addr, piece, 0 };
		addr += piece;
		left -= piece;
	}
	bufs[nr++] = (struct fuzz_buf){ addr, in_len, VIRTQ_DESC_F_WRITE };
	id = (uint8_t)(fuzz_u8(in) % w.r.size);
	if (nr > w.r.size || fuzz_u8(in) & 1)
		fuzz_ring_put_indirect(&w.r, id, FUZZ_RAM + FUZZ_RAM_LEN - 1024, bufs, nr);
	else
		fuzz_ring_put(&w.r, id, bufs, nr);
}

/* --- the driver ----------------------------------------------------------------------- */

static uint64_t choose_features(struct fuzz_input *in)
{
	uint64_t all =
		w.vn->offer & ~(VNET_BIT(VIRTIO_F_RING_PACKED) | VNET_BIT(VIRTIO_F_IN_ORDER));

	/* Nearly all of them, or few. */
	return fuzz_u8(in) & 3 ? all & ~fuzz_u64(in) : all;
}

static void arrive(struct fuzz_input *in)
{
	struct vnet_queue *q = &w.vn->queue[2 * PAIRS];
	uint64_t features = choose_features(in);

	fuzz_ring_open(&w.r, in, fuzz_u8(in) & 1, 0);
	w.vn->features = vnet_features_closed(features);
	w.r.vq.loop = w.loop;
	w.r.vq.priv = q;
	q->vq = &w.r.vq;
	q->role = VNET_CTRL;
	assert(!vnet_ctrl_setup(q));
}

static void leave(void)
{
	for (unsigned int i = 0; virtq_inflight(&w.r.vq); i++) {
		assert(i < 100);
		assert(evloop_run_once(w.ev, 0) >= 0);
		loop_turn(w.loop);
	}
	virtq_flush(&w.r.vq);
	vnet_ctrl_release(&w.vn->queue[2 * PAIRS]);
	w.vn->ctrl_seen = false;
	w.vn->features = 0;
	vnet_driver_forget(w.vn);
	fuzz_ring_close(&w.r);
	for (unsigned int i = 0; w.vn->grace.in_progress; i++) {
		assert(i < 100);
		loop_turn(w.loop);
		assert(evloop_run_once(w.ev, 0) >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	if (!w.ev)
		open_world();
	arrive(&in);
	for (unsigned int i = 0; i < TURNS_MAX && in.left; i++) {
		uint8_t kind = fuzz_u8(&in);

		if (kind % 8 < 4)
			put_command(&in);
		else if (kind % 8 < 5)
			fuzz_ring_step(&w.r, &in);
		else
			turn();
		check_state(&in);
	}
	turn();
	leave();
	return 0;
}
