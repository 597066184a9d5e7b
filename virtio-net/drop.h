/*
 * Every reason for which a frame can be dropped, each with a counter of its own
 * per port. One list: the names are what status and metrics show.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_DROP_H
#define RINGBOLT_VIRTIO_NET_DROP_H

enum drop_reason {
	DROP_NONE, /* it is not dropped: so that functions can return 0 or -reason */
	/* On the way in, counted at the port the frame came from. */
	DROP_BAD_CHAIN, /* malformed descriptor chain, or no Ethernet header in it */
	DROP_BAD_HEADER, /* virtio_net_hdr that does not fit its frame or the features */
	DROP_TOO_LONG, /* longer than the port's MTU allows */
	DROP_VLAN_IN, /* a VLAN this port does not carry, or a tag where none may be */
	DROP_SPOOFED, /* a source MAC address that is not the port's */
	DROP_ACL_IN,
	DROP_LIMIT_IN,
	DROP_STORM, /* more broadcast, multicast or unknown unicast than allowed */
	DROP_PINNED, /* from an address that is static or secured at another port: a
		      * loop, or an impostor */
	DROP_RESERVED, /* to an address that bridges do not forward (01-80-C2-00-00-0x) */
	DROP_LOOP, /* the port that would send it is the one it came from */
	DROP_NO_PORT, /* nobody to send it to */
	DROP_DISABLED_IN, /* the port or its link is administratively down, or the port is
			   * being removed */
	/* On the way out, counted at the port the frame was for. */
	DROP_ISOLATED,
	DROP_ACL_OUT,
	DROP_LIMIT_OUT,
	DROP_FILTERED, /* by the receive mode, MAC table or VLAN filter of the driver */
	DROP_LINK_DOWN, /* administratively down, no front-end, ring stopped or not enabled,
			 * uplink without link */
	DROP_NO_BUFFER, /* the driver (or the uplink's queue) had no room */
	DROP_BUFFER_SMALL, /* a receive buffer too small for one frame */
	DROP_BAD_BUFFER, /* malformed chain in a receive ring */
	DROP_MTU_OUT, /* longer than the destination's MTU and not to be segmented */
	DROP_NO_MEMORY, /* no mbuf */
	DROP_OFFLOAD, /* a checksum or segmentation that cannot be done in software */
	DROP_REASON_CNT,
};

/* "bad-chain", ..., in the order of the enum. */
extern const char *const drop_reason_names[DROP_REASON_CNT];

#endif
