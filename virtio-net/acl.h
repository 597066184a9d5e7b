/*
 * Access lists: what may leave and reach a port. Stateless, the first rule that
 * matches decides, and what no rule matches passes (a last rule {"action": "drop"}
 * turns that round). Compiled with rte_acl.
 *
 * A list is a JSON array of objects. "action": "allow" or "drop"; the rest narrows a
 * rule down and may be left out: "dir": "in" (from the port into the switch), "out"
 * (to it) or "both"; "src-mac", "dst-mac": an address, or its first bits as in
 * "52:54:00:00:00:00/24"; "vlan": a number or range, of the VLAN the frame belongs
 * to, with a tag or without; "ethertype": behind all tags, "ipv4", "ipv6", "arp" or a
 * number; "src", "dst": an IPv4 or IPv6 prefix; "proto": "tcp", "udp", "icmp",
 * "icmpv6", "sctp" or a number; "src-port", "dst-port": a number or range;
 * "fragment": true for fragments but the first, which have no ports, false for
 * everything else.
 *
 * What cannot be told does not pass: a frame whose IP header, or whose ports, are
 * damaged or hidden is dropped if the list asks for them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_ACL_H
#define RINGBOLT_VIRTIO_NET_ACL_H

#include <jansson.h>
#include <stdint.h>

#include "core/base.h"
#include "virtio-net/frame.h"

#define ACL_RULES_MAX 4096
#define ACL_FILE_MAX (4u << 20) /* bytes */

struct sw_acl;

/* --- control thread ---------------------------------------------------------- */

/* Read a list from a file. A new reference, or -errno and a sentence in err. */
int sw_acl_load(const char *path, json_t **rules, char *err);

/*
 * Compile a list (borrowed) for both directions; NULL for one that has no rules,
 * where everything passes. Starts DPDK with the first. nr_lanes: lanes that will
 * use it. 0; -EINVAL with rule number, key and what was expected in err
 * (SW_ERR_LEN); -ENOMEM, -E2BIG, or what eal_start() says.
 */
int sw_acl_create(const json_t *rules, unsigned int nr_lanes, struct sw_acl **in,
		  struct sw_acl **out, char *err);
/* No lane may use it any more. Accepts NULL. */
void sw_acl_destroy(struct sw_acl *acl);

/* Its rules as they were given, each with "rule" (its number in the list) and
 * "hits": a new array. */
json_t *sw_acl_status(const struct sw_acl *acl);
unsigned int sw_acl_nr_rules(const struct sw_acl *acl);

/* --- a loop's thread ----------------------------------------------------------- */

/* What rules look at, in network byte order; rte_acl reads it in words. */
struct acl_key {
	uint8_t proto;
	uint8_t zero[3];
	uint16_t vid, ethertype;
	uint8_t dst_mac[6], src_mac[6];
	uint8_t src[16], dst[16]; /* IPv4: the first four bytes */
	uint16_t src_port, dst_port;
	uint32_t fragment; /* 1: not the first */
};
static_assert(sizeof(struct acl_key) == 60, "words without holes");

enum acl_kind {
	ACL_KIND_OTHER, /* not IP */
	ACL_KIND_IPV4,
	ACL_KIND_IPV6,
	ACL_KIND_CNT,
};

/* The keys of a burst, worked out once for all lists it passes. */
struct acl_burst {
	uint32_t done; /* frames whose key is here; 0 begins a new burst */
	uint32_t kind[ACL_KIND_CNT]; /* frames of each */
	uint32_t no_l3, no_ports; /* frames where they cannot be told */
	struct acl_key key[FRAME_BURST];
};

/* The frames of a burst (a mask) that may pass. lane: its number. */
uint32_t sw_acl_filter(struct sw_acl *acl, unsigned int lane, struct acl_burst *b,
		       struct frame *frames, uint32_t mask);

#endif
