/*
 * Reverse ARP requests (RFC 903), by which bridges are told where a station is: it
 * asks in its own name, and nobody need answer.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_NET_RARP_H
#define RINGBOLT_VIRTIO_NET_NET_RARP_H

#include <stdint.h>
#include <string.h>

#include "virtio-net/net_bytes.h"
#include "virtio-net/net_spec.h"

#define RARP_LEN 60 /* the shortest Ethernet frame, without its checksum */
#define ETH_TYPE_RARP 0x8035

/* The request of the station mac, to all, without a tag. */
static inline void rarp_make(uint8_t p[RARP_LEN], const uint8_t mac[ETH_ADDR_LEN])
{
	/* Ethernet, IPv4, lengths of their addresses, request reverse. */
	static const uint8_t rarp[8] = { 0, 1, 8, 0, 6, 4, 0, 3 };

	memset(p, 0, RARP_LEN);
	memset(p, 0xff, ETH_ADDR_LEN);
	memcpy(p + ETH_ADDR_LEN, mac, ETH_ADDR_LEN);
	put_be16(p + ETH_TYPE_OFFSET, ETH_TYPE_RARP);
	p += ETH_HDR_LEN;
	memcpy(p, rarp, sizeof(rarp));
	memcpy(p + 8, mac, ETH_ADDR_LEN); /* sender */
	memcpy(p + 18, mac, ETH_ADDR_LEN); /* target */
}

#endif
