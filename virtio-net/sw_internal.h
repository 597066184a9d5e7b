/*
 * What the files of the switch share. vswitch.c: life, lanes, grace periods, MAC
 * table; sw_port.c: ports and who carries which VLAN; sw_conf.c: configurations;
 * sw_status.c: counters and status; sw_forward.c: the way of a burst; sw_filter.c:
 * what can be switched on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_SW_INTERNAL_H
#define RINGBOLT_VIRTIO_NET_SW_INTERNAL_H

#include "core/atomic.h"
#include "core/base.h"
#include "virtio-net/acl.h"
#include "virtio-net/capture.h"
#include "virtio-net/fdb.h"
#include "virtio-net/limit.h"
#include "virtio-net/vswitch.h"

static_assert(FRAME_BURST <= 32, "a burst is a mask of 32 bits");
static_assert(SW_PORTS_MAX <= FDB_PORTS_MAX, "every port in the MAC table");
static_assert(VSWITCH_MAC_TABLE_MAX == FDB_SIZE_MAX, "the same for those outside");

/* --- configuration, as loops see it --------------------------------------------- */

/* What a burst from a port, or to it, has to be checked for: bits of in_checks
 * and out_checks. None is the common case, and costs one test. */
enum {
	SW_CHECK_DISABLED = 1 << 0,
	SW_CHECK_MIRROR = 1 << 1,
	SW_CHECK_SPOOF = 1 << 2, /* in */
	SW_CHECK_LOOPBACK = 1 << 3, /* in */
	SW_CHECK_STORM = 1 << 4, /* in */
	SW_CHECK_ISOLATED = 1 << 5, /* out */
	SW_CHECK_LIMIT = 1 << 6,
	SW_CHECK_ACL = 1 << 7,
};

enum sw_limit_kind {
	SW_LIMIT_IN_BYTES,
	SW_LIMIT_IN_FRAMES,
	SW_LIMIT_OUT_BYTES,
	SW_LIMIT_OUT_FRAMES,
	SW_LIMIT_BROADCAST,
	SW_LIMIT_MULTICAST,
	SW_LIMIT_UNKNOWN,
	SW_LIMIT_CNT,
};

/* They live as long as the port: another rate changes them in place. */
struct sw_port_limits {
	struct limit limit[SW_LIMIT_CNT];
};

/* VLANs of a port that is listed under each of them. */
#define SW_NARROW_MAX 64

/* A published configuration: immutable but for the checks, which a port that is
 * being removed gets set. */
struct sw_live {
	struct sw_port_conf conf; /* sw_port.conf points here */
	uint32_t in_checks, out_checks; /* loops: read_once() */
	uint16_t untagged_vid; /* of frames without a tag; 0: none may be */
	uint16_t nr_vlans;
	uint16_t vlan[SW_NARROW_MAX]; /* those it carries, unless they are more */
};

/* Does it carry so many VLANs that each frame had better ask? */
static inline bool live_is_wide(const struct sw_live *live)
{
	return live->nr_vlans > SW_NARROW_MAX;
}

/* What one lane remembers of one port; its thread's. */
struct sw_port_lane {
	/* The last address this lane saw as a source, and when: most bursts come
	 * from one address, and need not be looked up again in the same tick. */
	_Alignas(CACHE_LINE) uint64_t src_key;
	uint64_t src_epoch;
	/* Addresses that may still be learned in this window. */
	uint64_t window_ns;
	uint32_t learn_left;
};

struct port {
	struct sw_port pub;
	struct sw_port_lane *lanes;
	struct sw_port *mirror; /* where mirror= points; NULL: not there (now) */
	/* The control thread's. */
	bool removing;
	struct sw_grace *grace; /* for its removal, which must not fail */
	void (*gone)(void *opaque);
	void *gone_opaque;
};

static inline struct port *port_of(struct sw_port *port)
{
	return container_of(port, struct port, pub);
}

static inline struct sw_live *port_live(const struct sw_port *port)
{
	/* Acquire: pairs with the release in live_publish(). */
	const struct sw_port_conf *conf = load_acquire(&port->conf);

	return (struct sw_live *)container_of(conf, struct sw_live, conf);
}

static inline bool conf_carries(const struct sw_port_conf *conf, uint16_t vid)
{
	if (vid == conf->vlan)
		return true;
	return conf->vlan_mode == SW_VLAN_TRUNK && conf->trunk[vid / 8] >> vid % 8 & 1;
}

/* --- who carries which VLAN ------------------------------------------------------ */

/* Ports by number: a port that was removed is not in sw->ports any more, and its
 * number stays unused until nobody has an old list. */
struct sw_members {
	uint32_t nr_wide; /* ports of many VLANs: each frame asks them */
	uint32_t first[FRAME_VLAN_MAX + 2]; /* of a VLAN's in others */
	uint16_t port[]; /* the wide ones, then others */
};

/* --- grace periods --------------------------------------------------------------- */

struct sw_grace;
/* One that will not fail; NULL if out of memory. Freed by grace_start()'s end. */
struct sw_grace *grace_alloc(struct vswitch *sw);
void grace_start(struct sw_grace *g, void (*done)(void *opaque), void *opaque);

/* --- the switch ------------------------------------------------------------------ */

/* Written by one lane, read by anybody. */
struct sw_lane_stats {
	uint64_t held, limited, busy; /* addresses not learned, see fdb.h */
};

struct sw_scratch {
	/* The burst under way, by its frames' numbers. */
	uint64_t src_key[FRAME_BURST], dst_key[FRAME_BURST];
	uint64_t hash[FRAME_BURST]; /* of dst_key */
	struct frame alt[FRAME_BURST]; /* the other tagging of a frame */
	uint32_t learn; /* frames whose source is to be looked at */
	uint32_t multicast; /* frames for more than one */
	uint32_t alt_done; /* frames whose alt is valid */
	/* Who gets which frames. */
	uint32_t nr_to;
	uint16_t to[SW_PORTS_MAX];
	uint32_t mask[SW_PORTS_MAX]; /* all zero between bursts */
	struct sw_lane_stats stats;
	struct acl_burst acl; /* acl.done is 0 before each burst */
	_Alignas(CACHE_LINE) uint8_t alt_room[FRAME_BURST][FRAME_ROOM];
};

struct vswitch {
	/* Loops read. */
	struct fdb *fdb;
	const struct sw_members *members; /* load_acquire() once a burst */
	bool forward_reserved;
	uint32_t fdb_epoch; /* changes when the control thread removes from fdb */
	struct sw_port *ports[SW_PORTS_MAX]; /* load_acquire() */
	/* The control thread's. */
	_Alignas(CACHE_LINE) struct port *all[SW_PORTS_MAX]; /* with those being removed */
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_lanes;
	uint32_t ageing_s;
	struct ev_timer age_timer;
	struct sw_lane lanes[];
};

/* Monotonic, as lane_tick() has it. */
uint64_t sw_now_ns(void);
/* Forget all addresses of the port of that number, static ones if asked to. */
void sw_forget_port(struct vswitch *sw, unsigned int index, bool statics);
/* The static addresses of a port's configuration instead of those of the one before
 * (NULL: none): 0, or -ENOSPC and nothing has changed. */
int sw_change_statics(struct vswitch *sw, uint16_t index, const struct sw_port_conf *from,
		      const struct sw_port_conf *to);

/* sw_conf.c: 0, or -EINVAL and a sentence in err. */
int sw_conf_check(const char *name, const struct sw_port_conf *conf, char *err);
/* By enum sw_limit_kind. */
const struct sw_limit *sw_conf_limit(const struct sw_port_conf *conf, enum sw_limit_kind kind);
void sw_limits_set(struct sw_port_limits *limits, const struct sw_port_conf *conf);
/* A configuration ready to be published, or NULL. */
struct sw_live *sw_live_create(const struct sw_port_conf *conf);

/* --- loops ----------------------------------------------------------------------- */

/* The burst and where it is. */
struct burst {
	struct sw_lane *lane;
	struct sw_scratch *s;
	struct sw_port *src;
	const struct sw_live *live;
	struct sw_port_stats *stats; /* of src */
	struct frame *frames;
	uint32_t in_checks;
};

static inline void drop(uint64_t *drops, enum drop_reason reason, uint32_t mask)
{
	if (unlikely(mask))
		counter_add(&drops[reason], (unsigned int)__builtin_popcount(mask));
}

/* Takes the first frame out of a mask that is not empty. */
static inline unsigned int mask_next(uint32_t *mask)
{
	unsigned int i = (unsigned int)__builtin_ctz(*mask);

	*mask &= *mask - 1;
	return i;
}

/* Final frames to the owner of a port, and to who watches it. */
static inline void hand_over(struct sw_port *dst, struct sw_lane *lane,
			     const struct frame *const *frames, unsigned int nr)
{
	/* Acquire: pairs with the release in capture_start(). */
	struct capture *c = load_acquire(&dst->capture);

	if (unlikely(c))
		capture_frames(c, lane, CAPTURE_OUT, frames, nr);
	dst->ops->deliver(dst, lane, frames, nr);
}

/* sw_filter.c: the frames that may go on. */
uint32_t sw_filter_in(struct burst *b, uint32_t alive);
uint32_t sw_filter_out(struct burst *b, struct sw_port *dst, const struct sw_live *live,
		       uint32_t mask);
/* Frames of one of the storm limits' kinds. */
uint32_t sw_filter_storm(struct burst *b, uint32_t broadcast, uint32_t multicast, uint32_t unknown);
/* Copies for the mirror port of port. */
void sw_mirror(struct burst *b, struct sw_port *port, const struct frame *const *frames,
	       unsigned int nr);

#endif
