/*
 * The switch: VLAN-aware, learning, with the limits and filters of each port.
 *
 * Theory of operation
 *
 * Ports are kinds of things frames come from and go to (a virtio-net device, an
 * uplink). A loop that has taken frames from a port calls vswitch_forward(),
 * which classifies, checks, looks up, and calls deliver() of the ports the
 * frames are for, on the same loop: nothing is queued, nothing crosses threads
 * but a receiver that serialises its own ring.
 *
 * Configuration is immutable once published. The control thread builds a new
 * struct, swaps a pointer, and frees the old one when every loop has been
 * between two turns since (vswitch_synchronize()). Each loop has a lane: its
 * scratch memory and its own counters, one writer each.
 *
 * Only the MAC table is written by loops: lock-free reads, one short lock for
 * learning something new. Refreshing an age is a plain store.
 *
 * What a frame passes, in this order: capture, administrative state, VLAN of the
 * port, mirror, anti-spoofing, access list, limits, loopback, learning, storm
 * limits, look-up; and for every port it is for: administrative state, isolation,
 * access list, limits, VLAN and tag, capture, mirror, deliver().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_VSWITCH_H
#define RINGBOLT_VIRTIO_NET_VSWITCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base.h"
#include "vhost/vhost.h"
#include "virtio-net/acl.h"
#include "virtio-net/drop.h"
#include "virtio-net/frame.h"

#define SW_PORTS_MAX 1024
#define SW_NAME_MAX 64
#define SW_LANES_MAX 128
#define SW_ERR_LEN 256
#define VSWITCH_MAC_TABLE_MAX (1u << 17)
#define VSWITCH_AGEING_MAX 1000000 /* seconds, as IEEE 802.1Q has it */

struct vswitch;
struct sw_port;
struct capture;

/* One per loop. Fields are the loop's thread's. */
struct sw_lane {
	struct vswitch *sw;
	struct loop *loop;
	unsigned int index;
	uint64_t now_ns; /* of this turn, for ages and limits: monotonic, refreshed
			  * by lane_tick() */
	struct sw_scratch *scratch; /* sw_forward.c's own */
	uint64_t tick_cycles; /* lane_tick()'s: when it read the clock */
};

/* Written by one lane, read by anybody with counter_read(). */
struct sw_port_stats {
	_Alignas(CACHE_LINE) uint64_t in_frames; /* taken from the port */
	uint64_t in_bytes;
	uint64_t out_frames; /* given to it */
	uint64_t out_bytes;
	uint64_t in_bursts, out_bursts;
	uint64_t in_multicast, in_broadcast, flooded;
	uint64_t segmented; /* large segments cut up for it */
	uint64_t csum_completed; /* checksums completed for it */
	uint64_t mac_flaps; /* times that an address known at another port came from it */
	uint64_t drops[DROP_REASON_CNT];
};

struct sw_port_ops {
	const char *kind; /* "vhost-user", "uplink" */
	/*
	 * Give nr frames (1 .. FRAME_BURST) to the port's receiver, in order, on
	 * the calling lane, and count what was given and dropped in stats. The
	 * frames are final (VLAN tag as the port wants it); the port does only
	 * what offloads its receiver lacks. Frames are not changed: others may
	 * get them too.
	 */
	void (*deliver)(struct sw_port *port, struct sw_lane *lane,
			const struct frame *const *frames, unsigned int nr);
};

enum sw_vlan_mode {
	SW_VLAN_TRUNK, /* tagged frames of the VLANs in the set, untagged are native */
	SW_VLAN_ACCESS, /* untagged only, all of them in one VLAN */
};

/* A token bucket (rte_meter); 0 rate: no limit. */
struct sw_limit {
	uint64_t rate; /* bytes or frames a second */
	uint64_t burst; /* bytes or frames */
};

/* What can be said about a port: options of the command line and of set. */
/* An address that is at a port whatever is seen. */
struct sw_static_mac {
	uint8_t mac[6];
	uint16_t vid; /* 0: that of the port's untagged frames */
};

struct sw_port_conf {
	enum sw_vlan_mode vlan_mode;
	uint16_t vlan; /* access: its VLAN; trunk: the native one (untagged), or 0: none,
			* and untagged frames are dropped */
	/* Trunk: bit per VLAN carried, vid % 8 in byte vid / 8; the native one always
	 * is. All ones: every VLAN. */
	uint8_t trunk[512];
	bool enabled; /* administratively up */
	bool isolated; /* isolated ports do not reach each other */
	bool loopback; /* frames go back to where they came from (for measuring) */
	bool learning, flooding; /* learn from it; send it unknown unicast */
	bool anti_spoof; /* only the MAC addresses in macs may send */
	uint8_t macs[16][6];
	unsigned int nr_macs;
	struct sw_static_mac statics[16]; /* in the MAC table as long as the port is */
	unsigned int nr_statics;
	struct sw_limit in_bytes, in_frames, out_bytes, out_frames;
	struct sw_limit broadcast, multicast, unknown; /* storm limits, frames/s in */
	/* Copy in and out of this port to that one; "" none. It need not exist yet.
	 * Copies are neither looked up nor filtered, and not mirrored again. */
	char mirror[SW_NAME_MAX];
	/* Access lists (acl.h), first match decides; NULL: everything passes. Owned by
	 * the port once set; no two ports share one. */
	struct sw_acl *acl_in, *acl_out;
};

struct sw_port {
	/* What a burst needs, in one cache line. */
	_Alignas(CACHE_LINE) const struct sw_port_ops *ops;
	void *priv; /* the owner's */
	const struct sw_port_conf *conf; /* loops: load_acquire once a burst */
	struct sw_port_stats *stats; /* one per lane */
	struct capture *capture; /* NULL: nobody watches; loops: load_acquire */
	struct sw_port_limits *limits; /* sw_conf.c's own */
	struct vswitch *sw;
	uint16_t index; /* below SW_PORTS_MAX; not reused before a grace period */
	char name[SW_NAME_MAX];
};

/* --- control thread ---------------------------------------------------------- */

struct vswitch_conf {
	struct evloop *ev;
	struct loop *const *loops;
	unsigned int nr_loops;
	uint32_t mac_table_size; /* entries, at most VSWITCH_MAC_TABLE_MAX; 0: 16384 */
	uint32_t ageing_s; /* at most VSWITCH_AGEING_MAX; 0: 300 */
	/* Forward 01-80-C2-00-00-00 to -0F (spanning tree, LACP, LLDP, ...) like any
	 * multicast; else they are dropped, as IEEE 802.1Q, "Reserved MAC addresses",
	 * wants it of a bridge. */
	bool forward_reserved;
};

/* 0, -EINVAL, -ENOMEM. The loops must outlive the switch. */
int vswitch_create(const struct vswitch_conf *conf, struct vswitch **sw);
/* All ports must have gone. Accepts NULL. */
void vswitch_destroy(struct vswitch *sw);
struct sw_lane *vswitch_lane(struct vswitch *sw, unsigned int loop_index);
unsigned int vswitch_nr_lanes(const struct vswitch *sw);

/* Call done(opaque) on the control thread when no loop uses anything any more
 * that was unpublished before this call. Never from within this call. */
void vswitch_synchronize(struct vswitch *sw, void (*done)(void *opaque), void *opaque);

/* Defaults: trunk of all VLANs with native 1, up, learning, flooding, no limit. */
void sw_port_conf_init(struct sw_port_conf *conf);
/* -EEXIST, -ENOSPC, -EINVAL, -ENOMEM, and a sentence in err (SW_ERR_LEN). Takes
 * the access lists of conf, always. Frames may arrive at once. */
int sw_port_add(struct vswitch *sw, const char *name, const struct sw_port_ops *ops, void *priv,
		const struct sw_port_conf *conf, struct sw_port **port, char *err);
/* Free the access lists of a configuration that was not given to a port after all. */
void sw_port_conf_release(const struct sw_port_conf *conf);
/* Publish another configuration; takes its access lists, always. Those of the
 * present one may be given again: *port->conf is where to start from. */
int sw_port_set(struct sw_port *port, const struct sw_port_conf *conf, char *err);
/* No more frames to it or from it (they are dropped, disabled-in); its MAC
 * addresses are forgotten. gone() runs when no loop knows it any more; then it is
 * freed, so the owner must not forward from it any longer. */
void sw_port_remove(struct sw_port *port, void (*gone)(void *opaque), void *opaque);
struct sw_port *sw_port_find(struct vswitch *sw, const char *name);
/* Every port in turn; NULL starts and ends. */
struct sw_port *sw_port_next(struct vswitch *sw, const struct sw_port *after);

/* "1,10-20" to a set of VLANs, or "all"; -EINVAL and what is wrong in err. And back,
 * a string of the caller's to free, or NULL. */
int sw_vlans_parse(const char *text, uint8_t set[512], char *err);
char *sw_vlans_format(const uint8_t set[512]);

/* Sum over all lanes. */
void sw_port_stats_sum(const struct sw_port *port, struct sw_port_stats *sum);
/* Counters, limits, VLANs, drops by name: a new object. */
json_t *sw_port_status(struct sw_port *port);
/* {"in": [...], "out": [...]}: the rules of its access lists, each with "rule" and
 * "hits": a new object. */
json_t *sw_port_acl_status(struct sw_port *port);
/* Size and use of the MAC table, ports, lanes: a new object. */
json_t *vswitch_status(struct vswitch *sw);
/* {"mac", "vlan", "port", "age", "static"} each, age in seconds: a new array. */
json_t *vswitch_mac_table(struct vswitch *sw);
/* Each of them; port: NULL if it is leaving at this moment. */
void vswitch_mac_walk(struct vswitch *sw,
		      void (*entry)(void *opaque, const uint8_t mac[6], uint16_t vid,
				    const struct sw_port *port),
		      void *opaque);
/* Does the port carry this VLAN, and with a tag? */
bool sw_port_carries(const struct sw_port *port, uint16_t vid, bool *tagged);
/* Static entries: frames for the address go there, frames from it are dropped
 * anywhere else. -EINVAL if it is no unicast address or the port does not carry
 * that VLAN; -ENOSPC, -ENOENT. */
int vswitch_mac_add(struct vswitch *sw, const uint8_t mac[6], uint16_t vid, struct sw_port *port);
int vswitch_mac_del(struct vswitch *sw, const uint8_t mac[6], uint16_t vid);
/* Forget what was learned, all of it or from one port (a device whose driver has
 * gone, an uplink without link). */
void vswitch_mac_flush(struct vswitch *sw, const struct sw_port *port);

/* --- a loop's thread ----------------------------------------------------------- */

/* Before forwarding in a turn: brings now_ns up to date. Cheap: it reads the clock
 * only when some microseconds have gone by. */
void lane_tick(struct sw_lane *lane);

/*
 * Forward nr (1 .. FRAME_BURST) frames that came from src. Counts them, all of
 * them, as forwarded or dropped. May change the frames (classification, pull).
 */
void vswitch_forward(struct sw_lane *lane, struct sw_port *src, struct frame *frames,
		     unsigned int nr);

/* Give nr (1 .. FRAME_BURST) final frames to a port without looking them up or
 * filtering them; it must be administratively up, and who captures it sees them. */
void vswitch_give(struct sw_lane *lane, struct sw_port *to, const struct frame *const *frames,
		  unsigned int nr);

static inline struct sw_port_stats *sw_stats(struct sw_port *port, const struct sw_lane *lane)
{
	return &port->stats[lane->index];
}

#endif
