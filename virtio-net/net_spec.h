/*
 * Wire format of what is inside frames: Ethernet (IEEE 802.3, 802.1Q), IPv4
 * (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768). Everything is
 * big-endian; headers are not aligned in a frame, so they are read by offset
 * with get_be16() and friends and never through a pointer to a struct.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_NET_SPEC_H
#define RINGBOLT_VIRTIO_NET_NET_SPEC_H

#define ETH_ADDR_LEN 6
#define ETH_TYPE_OFFSET 12
#define ETH_HDR_LEN 14
#define VLAN_TAG_LEN 4
#define VLAN_VID_MASK 0x0fff

#define ETH_TYPE_IPV4 0x0800
#define ETH_TYPE_IPV6 0x86dd
#define ETH_TYPE_8021Q 0x8100
#define ETH_TYPE_8021AD 0x88a8

#define IPV4_HDR_LEN 20 /* without options */
#define IPV4_TOTAL_LEN 2
#define IPV4_ID 4
#define IPV4_FRAG 6
#define IPV4_FRAG_MORE 0x2000
#define IPV4_FRAG_OFFSET 0x1fff
#define IPV4_PROTO 9
#define IPV4_CSUM 10
#define IPV4_SADDR 12
#define IPV4_ADDRS_LEN 8

#define IPV6_HDR_LEN 40
#define IPV6_PAYLOAD_LEN 4
#define IPV6_NEXT 6
#define IPV6_SADDR 8
#define IPV6_DADDR 24
#define IPV6_ADDR_LEN 16
#define IPV6_FRAG_HDR_LEN 8
#define IPV6_FRAG_MORE 0x0001
#define IPV6_FRAG_OFFSET 0xfff8

#define IP_PROTO_HOPOPTS 0
#define IP_PROTO_TCP 6
#define IP_PROTO_UDP 17
#define IP_PROTO_ROUTING 43
#define IP_PROTO_FRAGMENT 44
#define IP_PROTO_AH 51
#define IP_PROTO_DSTOPTS 60

#define TCP_HDR_LEN 20 /* without options */
#define TCP_SEQ 4
#define TCP_DATA_OFFSET 12 /* upper 4 bits, in units of 4 bytes */
#define TCP_FLAGS 13
#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_PSH 0x08
#define TCP_FLAG_CWR 0x80
#define TCP_CSUM 16

#define UDP_HDR_LEN 8
#define UDP_LEN 4
#define UDP_CSUM 6

#endif
