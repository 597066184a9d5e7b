/*
 * One rule of an access list, and how it is written. Internal to acl.c and
 * acl_rule.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_ACL_RULE_H
#define RINGBOLT_VIRTIO_NET_ACL_RULE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The first bits of an address; 0: any. */
struct acl_prefix {
	uint8_t addr[16];
	uint8_t bits;
};

/* Both ends included. */
struct acl_range {
	uint16_t min, max;
};

enum acl_family {
	ACL_ANY,
	ACL_IPV4,
	ACL_IPV6,
};

struct acl_rule {
	bool drop;
	bool in, out; /* directions it is for */
	struct acl_prefix src_mac, dst_mac;
	struct acl_range vlan; /* 0 .. 4095: any */
	bool has_ethertype;
	uint16_t ethertype;
	enum acl_family family; /* ACL_ANY: it says nothing about addresses */
	struct acl_prefix src, dst;
	bool has_proto;
	uint8_t proto;
	struct acl_range src_port, dst_port; /* 0 .. 65535: any */
	bool has_fragment;
	bool fragment; /* it is for later fragments, or for everything but those */
};

/* Does it ask for anything above Ethernet? For ports? */
bool acl_rule_wants_l3(const struct acl_rule *r);
bool acl_rule_wants_l4(const struct acl_rule *r);
/* Protocols whose first four bytes are two ports. */
bool acl_proto_has_ports(uint8_t proto);

/* Rule number nr of a list. 0, or -EINVAL and a sentence with its number, the key
 * and what was expected in err (SW_ERR_LEN). */
int acl_rule_parse(const json_t *json, unsigned int nr, struct acl_rule *r, char *err);

#endif
