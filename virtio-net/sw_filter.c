/*
 * What can be switched on for a port: mirrors, anti-spoofing, access lists, limits.
 * Called by sw_forward.c on a loop's thread, for ports that have any of it and for
 * no others. It drops and copies; it never decides where a frame goes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vswitch.h"

#include <string.h>

#include "virtio-net/sw_internal.h"

/* --- limits ---------------------------------------------------------------------- */

/* What a large segment will be on the wire. */
static uint32_t wire_frames(const struct frame *f)
{
	uint32_t size = f->offload.gso_size;

	if (!f->offload.gso_type || !size || f->len <= f->offload.hdr_len)
		return 1;
	return (f->len - f->offload.hdr_len + size - 1) / size;
}

static uint32_t wire_bytes(const struct frame *f)
{
	return f->len + (wire_frames(f) - 1) * f->offload.hdr_len;
}

static uint32_t take(struct burst *b, struct limit *l, uint32_t (*cost_of)(const struct frame *f),
		     uint32_t frames)
{
	uint32_t cost[FRAME_BURST] = { 0 }, left = frames;

	while (left) {
		unsigned int i = mask_next(&left);

		cost[i] = cost_of(&b->frames[i]);
	}
	return limit_take(l, b->lane->now_ns, cost, frames);
}

static uint32_t limit_both(struct burst *b, struct sw_port *port,
			   const struct sw_limit *frames_conf, enum sw_limit_kind frames_kind,
			   const struct sw_limit *bytes_conf, enum sw_limit_kind bytes_kind,
			   uint32_t frames)
{
	if (frames && frames_conf->rate)
		frames = take(b, &port->limits->limit[frames_kind], wire_frames, frames);
	if (frames && bytes_conf->rate)
		frames = take(b, &port->limits->limit[bytes_kind], wire_bytes, frames);
	return frames;
}

static uint32_t storm(struct burst *b, const struct sw_limit *conf, enum sw_limit_kind kind,
		      uint32_t frames)
{
	uint32_t pass;

	if (!frames || !conf->rate)
		return frames;
	pass = take(b, &b->src->limits->limit[kind], wire_frames, frames);
	drop(b->stats->drops, DROP_STORM, frames & ~pass);
	return pass;
}

uint32_t sw_filter_storm(struct burst *b, uint32_t broadcast, uint32_t multicast, uint32_t unknown)
{
	const struct sw_port_conf *conf = &b->live->conf;

	return storm(b, &conf->broadcast, SW_LIMIT_BROADCAST, broadcast) |
	       storm(b, &conf->multicast, SW_LIMIT_MULTICAST, multicast) |
	       storm(b, &conf->unknown, SW_LIMIT_UNKNOWN, unknown);
}

/* --- addresses ------------------------------------------------------------------- */

static bool may_send(const struct sw_port_conf *conf, const struct frame *f)
{
	for (unsigned int i = 0; i < conf->nr_macs; i++)
		if (!memcmp(f->head + ETH_ADDR_LEN, conf->macs[i], ETH_ADDR_LEN))
			return true;
	return false;
}

static uint32_t filter_spoofed(struct burst *b, uint32_t frames)
{
	uint32_t left = frames, spoofed = 0;

	while (left) {
		unsigned int i = mask_next(&left);

		if (!may_send(&b->live->conf, &b->frames[i]))
			spoofed |= 1u << i;
	}
	drop(b->stats->drops, DROP_SPOOFED, spoofed);
	return frames & ~spoofed;
}

/* --- copies ---------------------------------------------------------------------- */

void vswitch_give(struct sw_lane *lane, struct sw_port *to, const struct frame *const *frames,
		  unsigned int nr)
{
	if (read_once(&port_live(to)->out_checks) & SW_CHECK_DISABLED)
		counter_add(&sw_stats(to, lane)->drops[DROP_LINK_DOWN], nr);
	else
		hand_over(to, lane, frames, nr);
}

void sw_mirror(struct burst *b, struct sw_port *port, const struct frame *const *frames,
	       unsigned int nr)
{
	/* Acquire: pairs with the release in resolve_mirrors(). */
	struct sw_port *to = load_acquire(&port_of(port)->mirror);

	if (to)
		vswitch_give(b->lane, to, frames, nr);
}

static unsigned int list(struct burst *b, uint32_t frames, const struct frame **out)
{
	unsigned int nr = 0;

	while (frames)
		out[nr++] = &b->frames[mask_next(&frames)];
	return nr;
}

/* --- in and out ------------------------------------------------------------------ */

static uint32_t loop_back(struct burst *b, uint32_t frames)
{
	const struct frame *out[FRAME_BURST];
	unsigned int nr = list(b, frames, out);

	if (nr)
		hand_over(b->src, b->lane, out, nr);
	return 0;
}

uint32_t sw_filter_in(struct burst *b, uint32_t alive)
{
	const struct sw_port_conf *conf = &b->live->conf;
	uint32_t checks = b->in_checks, pass;

	if (checks & SW_CHECK_MIRROR && alive) {
		const struct frame *out[FRAME_BURST];

		sw_mirror(b, b->src, out, list(b, alive, out));
	}
	if (checks & SW_CHECK_SPOOF)
		alive = filter_spoofed(b, alive);
	if (checks & SW_CHECK_ACL && alive) {
		pass = sw_acl_filter(conf->acl_in, b->lane->index, &b->s->acl, b->frames, alive);
		drop(b->stats->drops, DROP_ACL_IN, alive & ~pass);
		alive = pass;
	}
	if (checks & SW_CHECK_LIMIT) {
		pass = limit_both(b, b->src, &conf->in_frames, SW_LIMIT_IN_FRAMES, &conf->in_bytes,
				  SW_LIMIT_IN_BYTES, alive);
		drop(b->stats->drops, DROP_LIMIT_IN, alive & ~pass);
		alive = pass;
	}
	if (checks & SW_CHECK_LOOPBACK)
		alive = loop_back(b, alive);
	return alive;
}

uint32_t sw_filter_out(struct burst *b, struct sw_port *dst, const struct sw_live *live,
		       uint32_t frames)
{
	uint32_t checks = read_once(&live->out_checks), pass;
	uint64_t *drops = sw_stats(dst, b->lane)->drops;
	const struct sw_port_conf *conf = &live->conf;

	if (checks & SW_CHECK_DISABLED) {
		drop(drops, DROP_LINK_DOWN, frames);
		return 0;
	}
	if (checks & SW_CHECK_ISOLATED && b->live->conf.isolated) {
		drop(drops, DROP_ISOLATED, frames);
		return 0;
	}
	if (checks & SW_CHECK_ACL) {
		pass = sw_acl_filter(conf->acl_out, b->lane->index, &b->s->acl, b->frames, frames);
		drop(drops, DROP_ACL_OUT, frames & ~pass);
		frames = pass;
	}
	if (checks & SW_CHECK_LIMIT) {
		pass = limit_both(b, dst, &conf->out_frames, SW_LIMIT_OUT_FRAMES, &conf->out_bytes,
				  SW_LIMIT_OUT_BYTES, frames);
		drop(drops, DROP_LIMIT_OUT, frames & ~pass);
		frames = pass;
	}
	return frames;
}
