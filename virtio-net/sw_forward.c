/*
 * The way of a burst through the switch. Called by devices and uplinks through
 * vswitch_forward(), on a loop's thread. It never allocates, never waits, and never
 * touches what is behind the private head of a frame.
 *
 * Theory of operation
 *
 * A burst is up to 32 frames, and a set of its frames is a mask of 32 bits. One
 * pass over the frames classifies them and works out keys; then sets shrink
 * (drops) and split (destinations): sw_scratch.mask has, for every port, the frames
 * it gets, in the order in which they came whatever made them go there. At the end
 * each of those ports gets its frames in one call.
 *
 * Frames in a row for one address cost one look-up, and a burst from one address
 * costs none for its source if this lane saw it in this tick. What is switched off
 * costs one test a burst: the checks of a port are bits of one word.
 *
 * Tagging: a frame that goes to a port that wants it the other way is made once, in
 * sw_scratch.alt, for all ports that want it so.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <endian.h>
#include <string.h>

#include "virtio-net/net_bytes.h"
#include "virtio-net/sw_internal.h"

#define MAC_MASK 0xffffffffffffull
#define BROADCAST MAC_MASK
/* 01-80-C2-00-00-00 to -0F, first byte lowest. IEEE 802.1Q, "Reserved MAC
 * addresses". */
#define RESERVED 0x0000c28001ull
#define RESERVED_MASK 0xf0ffffffffffull

/* What one port may teach us in a while: enough for any network, and too little
 * for a flood of invented addresses to be felt by others. */
#define LEARN_WINDOW_NS 1000000
#define LEARN_MAX 256

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* --- classification -------------------------------------------------------------- */

/* The VLAN of a frame with a tag, or 0 if it may not be here. IEEE 802.1Q: VID 0
 * is a tag that has a priority only. */
static uint16_t classify_tagged(const struct sw_live *live, struct frame *f)
{
	uint16_t tci, vid;

	if (f->len < ETH_HDR_LEN + VLAN_TAG_LEN)
		return 0;
	tci = get_be16(f->head + ETH_HDR_LEN);
	vid = tci & VLAN_VID_MASK;
	f->tagged = true;
	f->pcp_dei = (uint8_t)(tci >> 12);
	if (!vid) {
		/* From here on it is like any other of its VLAN. */
		put_be16(f->head + ETH_HDR_LEN, tci | live->untagged_vid);
		return live->untagged_vid;
	}
	if (live->conf.vlan_mode == SW_VLAN_ACCESS || vid > FRAME_VLAN_MAX ||
	    !conf_carries(&live->conf, vid))
		return 0;
	return vid;
}

/*
 * VLAN, keys and kind of every frame, and the counters of the burst. The frames
 * that may be here.
 */
static uint32_t classify(struct burst *b, unsigned int nr, uint64_t seen_key)
{
	const uint16_t untagged_vid = b->live->untagged_vid;
	const struct fdb *fdb = b->lane->sw->fdb;
	uint64_t bytes = 0, last_key = 0, hash = 0;
	uint32_t alive = 0, learn = 0, multicast = 0;
	struct sw_scratch *s = b->s;

	for (unsigned int i = 0; i < nr; i++) {
		struct frame *f = &b->frames[i];
		uint64_t front = load_le64(f->head), back = load_le64(f->head + ETH_ADDR_LEN);
		uint64_t src_key, dst_key;
		uint16_t vid = untagged_vid;

		bytes += f->len;
		f->tagged = false;
		/* The two bytes of the type, as they lie there. */
		if (unlikely(back >> 48 == __builtin_bswap16(ETH_TYPE_8021Q)))
			vid = classify_tagged(b->live, f);
		f->vid = vid;
		src_key = fdb_key(back & MAC_MASK, vid);
		dst_key = fdb_key(front & MAC_MASK, vid);
		if (dst_key != last_key) {
			last_key = dst_key;
			hash = fdb_hash(fdb, dst_key);
			fdb_prefetch(fdb, hash);
		}
		s->src_key[i] = src_key;
		s->dst_key[i] = dst_key;
		s->hash[i] = hash;
		learn |= (uint32_t)(src_key != seen_key) << i;
		multicast |= (uint32_t)(front & 1) << i;
		alive |= (uint32_t)(vid != 0) << i;
	}
	s->learn = learn;
	s->multicast = multicast;
	s->alt_done = 0;
	s->acl.done = 0;
	counter_add(&b->stats->in_frames, nr);
	counter_add(&b->stats->in_bytes, bytes);
	counter_add(&b->stats->in_bursts, 1);
	return alive;
}

/* --- learning -------------------------------------------------------------------- */

static bool may_learn(struct sw_port_lane *pl, uint64_t now_ns)
{
	if (now_ns - pl->window_ns > LEARN_WINDOW_NS) {
		pl->window_ns = now_ns;
		pl->learn_left = LEARN_MAX;
	}
	if (!pl->learn_left)
		return false;
	pl->learn_left--;
	return true;
}

/* A source that is not known to be here. */
static enum fdb_result learn_one(struct burst *b, struct sw_port_lane *pl, uint64_t key,
				 uint32_t tick)
{
	uint32_t flags = b->live->conf.anti_spoof ? FDB_SECURED : 0;
	struct sw_lane_stats *stats = &b->s->stats;
	enum fdb_result ret;

	if (!may_learn(pl, b->lane->now_ns)) {
		counter_add(&stats->limited, 1);
		return FDB_BUSY;
	}
	ret = fdb_learn(b->lane->sw->fdb, key, b->src->index, flags, tick);
	if (ret == FDB_BUSY)
		counter_add(&stats->busy, 1);
	return ret;
}

/* Look at the sources of these frames; those whose address is another port's. */
static uint32_t learn(struct burst *b, uint32_t frames, struct sw_port_lane *pl, uint64_t epoch)
{
	struct fdb *fdb = b->lane->sw->fdb;
	uint64_t last = 0;
	uint32_t foreign = 0, tick = (uint32_t)epoch;
	enum fdb_result ret = FDB_KNOWN;

	while (frames) {
		unsigned int i = mask_next(&frames);
		uint64_t key = b->s->src_key[i];

		if (key != last) {
			last = key;
			/* A group is nobody's address, and neither is zero. */
			if (key & 1 || !(key & MAC_MASK)) {
				ret = FDB_KNOWN;
				continue;
			}
			ret = fdb_see(fdb, key, fdb_hash(fdb, key), b->src->index, tick);
			if (ret == FDB_UNKNOWN && b->live->conf.learning)
				ret = learn_one(b, pl, key, tick);
			if (ret == FDB_HELD)
				counter_add(&b->s->stats.held, 1);
			if (ret == FDB_HELD || ret == FDB_MOVED)
				counter_add(&b->stats->mac_flaps, 1);
			if (ret != FDB_PINNED && ret != FDB_BUSY) {
				pl->src_key = key;
				pl->src_epoch = epoch;
			}
		}
		if (ret == FDB_PINNED)
			foreign |= 1u << i;
	}
	return foreign;
}

/* --- who gets what --------------------------------------------------------------- */

static struct sw_port *port_at(const struct vswitch *sw, unsigned int index)
{
	/* Acquire: pairs with the release in sw_port_add(). */
	return load_acquire(&sw->ports[index]);
}

static void give(struct sw_scratch *s, unsigned int index, uint32_t frames)
{
	if (!s->mask[index])
		s->to[s->nr_to++] = (uint16_t)index;
	s->mask[index] |= frames;
}

/* The frames that this member gets. */
static uint32_t give_member(struct burst *b, unsigned int index, uint16_t vid, uint32_t all,
			    uint32_t known)
{
	struct sw_port *port = port_at(b->lane->sw, index);
	const struct sw_live *live;

	if (!port || port == b->src)
		return 0;
	live = port_live(port);
	if (!conf_carries(&live->conf, vid) || (live->conf.isolated && b->live->conf.isolated))
		return 0;
	if (!live->conf.flooding)
		all &= known;
	if (all)
		give(b->s, index, all);
	return all;
}

/* Frames of one VLAN to all that carry it; unknown ones to those that take them. */
static void flood_vlan(struct burst *b, uint16_t vid, uint32_t frames, uint32_t unknown)
{
	/* Acquire: pairs with the release in members_publish(). */
	const struct sw_members *m = load_acquire(&b->lane->sw->members);
	uint32_t known = frames & ~unknown, given = 0;

	for (uint32_t i = 0; i < m->nr_wide; i++)
		given |= give_member(b, m->port[i], vid, frames, known);
	for (uint32_t i = m->first[vid]; i < m->first[vid + 1]; i++)
		given |= give_member(b, m->port[i], vid, frames, known);
	drop(b->stats->drops, DROP_NO_PORT, frames & ~given);
	counter_add(&b->stats->flooded, (unsigned int)__builtin_popcount(given));
}

static void flood(struct burst *b, uint32_t frames, uint32_t unknown)
{
	while (frames) {
		uint32_t left = frames, same = 0;
		uint16_t vid = b->frames[__builtin_ctz(frames)].vid;

		while (left) {
			unsigned int i = mask_next(&left);

			same |= (uint32_t)(b->frames[i].vid == vid) << i;
		}
		flood_vlan(b, vid, same, same & unknown);
		frames &= ~same;
	}
}

/* One address: frames for it, all of one VLAN. Those that must be flooded. */
static uint32_t route(struct burst *b, uint64_t key, uint64_t hash, uint32_t frames)
{
	struct vswitch *sw = b->lane->sw;
	uint32_t where = fdb_find(sw->fdb, key, hash);
	unsigned int index = where & FDB_PORT_MASK;

	if (unlikely(where == FDB_NONE))
		return frames;
	if (unlikely(index == b->src->index)) {
		drop(b->stats->drops, DROP_LOOP, frames);
		return 0;
	}
	/* Being removed: its addresses are about to be forgotten. */
	if (unlikely(!port_at(sw, index)))
		return frames;
	give(b->s, index, frames);
	return 0;
}

/* The frames for one address each; those that must be flooded. */
static uint32_t look_up(struct burst *b, uint32_t frames)
{
	struct sw_scratch *s = b->s;
	uint32_t unknown = 0;

	while (frames) {
		unsigned int i = (unsigned int)__builtin_ctz(frames);
		uint64_t key = s->dst_key[i], hash = s->hash[i];
		uint32_t same = 0;

		do {
			same |= 1u << i;
			frames &= frames - 1;
			if (!frames)
				break;
			i = (unsigned int)__builtin_ctz(frames);
		} while (s->dst_key[i] == key);
		unknown |= route(b, key, hash, same);
	}
	return unknown;
}

/* Count what is for more than one, and take out what must not be forwarded. */
static uint32_t multicast(struct burst *b, uint32_t frames, uint32_t *broadcast)
{
	uint32_t left = frames, reserved = 0;

	*broadcast = 0;
	while (left) {
		unsigned int i = mask_next(&left);
		uint64_t mac = b->s->dst_key[i] & MAC_MASK;

		if (mac == BROADCAST)
			*broadcast |= 1u << i;
		else if ((mac & RESERVED_MASK) == RESERVED)
			reserved |= 1u << i;
	}
	counter_add(&b->stats->in_broadcast, (unsigned int)__builtin_popcount(*broadcast));
	counter_add(&b->stats->in_multicast,
		    (unsigned int)__builtin_popcount(frames & ~*broadcast));
	if (b->lane->sw->forward_reserved)
		return frames;
	drop(b->stats->drops, DROP_RESERVED, reserved);
	return frames & ~reserved;
}

static void distribute(struct burst *b, uint32_t alive)
{
	uint32_t groups = alive & b->s->multicast, broadcast = 0, unknown;

	if (unlikely(groups))
		groups = multicast(b, groups, &broadcast);
	unknown = look_up(b, alive & ~b->s->multicast);
	if (likely(!(groups | unknown)))
		return;
	if (b->in_checks & SW_CHECK_STORM) {
		uint32_t pass = sw_filter_storm(b, broadcast, groups & ~broadcast, unknown);

		groups &= pass;
		unknown &= pass;
	}
	flood(b, groups | unknown, unknown);
}

/* --- delivery -------------------------------------------------------------------- */

/* Frame i with its tag the other way round. */
static const struct frame *alt(struct burst *b, unsigned int i)
{
	struct sw_scratch *s = b->s;

	if (!(s->alt_done & 1u << i)) {
		frame_retag(&b->frames[i], !b->frames[i].tagged, s->alt_room[i], &s->alt[i]);
		s->alt_done |= 1u << i;
	}
	return &s->alt[i];
}

static void deliver(struct burst *b, struct sw_port *dst, uint32_t frames)
{
	const struct frame *out[FRAME_BURST];
	const struct sw_live *live = port_live(dst);
	uint32_t checks = read_once(&live->out_checks);
	unsigned int nr = 0;

	if (unlikely(checks)) {
		frames = sw_filter_out(b, dst, live, frames);
		if (!frames)
			return;
	}
	while (frames) {
		unsigned int i = mask_next(&frames);
		const struct frame *f = &b->frames[i];
		bool tagged = f->vid != live->untagged_vid;

		/* Its configuration changed since the address was learned. */
		if (unlikely(tagged && !conf_carries(&live->conf, f->vid))) {
			drop(b->stats->drops, DROP_NO_PORT, 1);
			continue;
		}
		out[nr++] = likely(tagged == f->tagged) ? f : alt(b, i);
	}
	if (unlikely(!nr))
		return;
	if (unlikely(checks & SW_CHECK_MIRROR))
		sw_mirror(b, dst, out, nr);
	hand_over(dst, b->lane, out, nr);
}

static void deliver_all(struct burst *b)
{
	struct sw_scratch *s = b->s;

	for (uint32_t n = 0; n < s->nr_to; n++) {
		unsigned int index = s->to[n];
		struct sw_port *dst = port_at(b->lane->sw, index);
		uint32_t frames = s->mask[index];

		s->mask[index] = 0;
		if (likely(dst))
			deliver(b, dst, frames);
		else
			drop(b->stats->drops, DROP_NO_PORT, frames);
	}
	s->nr_to = 0;
}

/* As they came, whatever becomes of them. */
static void capture_in(struct burst *b, struct capture *capture, unsigned int nr)
{
	const struct frame *all[FRAME_BURST];

	for (unsigned int i = 0; i < nr; i++)
		all[i] = &b->frames[i];
	capture_frames(capture, b->lane, CAPTURE_IN, all, nr);
}

static void drop_disabled(struct burst *b, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		counter_add(&b->stats->in_bytes, b->frames[i].len);
	counter_add(&b->stats->in_frames, nr);
	counter_add(&b->stats->in_bursts, 1);
	counter_add(&b->stats->drops[DROP_DISABLED_IN], nr);
}

void vswitch_forward(struct sw_lane *lane, struct sw_port *src, struct frame *frames,
		     unsigned int nr)
{
	struct sw_port_lane *pl = &port_of(src)->lanes[lane->index];
	uint64_t epoch = (uint64_t)read_once(&lane->sw->fdb_epoch) << 32 | fdb_tick(lane->now_ns);
	struct burst b = {
		.lane = lane,
		.s = lane->scratch,
		.src = src,
		.live = port_live(src),
		.stats = sw_stats(src, lane),
		.frames = frames,
	};
	struct capture *capture;
	uint32_t alive, foreign;

	assert(nr && nr <= FRAME_BURST);
	b.in_checks = read_once(&b.live->in_checks);
	/* Acquire: pairs with the release in capture_start(). */
	capture = load_acquire(&src->capture);
	if (unlikely(capture))
		capture_in(&b, capture, nr);
	if (unlikely(b.in_checks & SW_CHECK_DISABLED)) {
		drop_disabled(&b, nr);
		return;
	}
	alive = classify(&b, nr, pl->src_epoch == epoch ? pl->src_key : 0);
	drop(b.stats->drops, DROP_VLAN_IN, ~alive & (uint32_t)(((uint64_t)1 << nr) - 1));
	if (unlikely(b.in_checks))
		alive = sw_filter_in(&b, alive);
	if (unlikely(b.s->learn & alive)) {
		foreign = learn(&b, b.s->learn & alive, pl, epoch);
		drop(b.stats->drops, DROP_PINNED, foreign);
		alive &= ~foreign;
	}
	distribute(&b, alive);
	deliver_all(&b);
}
