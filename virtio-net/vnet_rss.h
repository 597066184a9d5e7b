/*
 * Receive-side scaling and hash reports. VIRTIO 1.3, "Hash calculation for
 * incoming packets", "Receive-side scaling (RSS)". Made by the control thread
 * from a command that was checked, immutable from then on, used by any loop.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_VNET_RSS_H
#define RINGBOLT_VIRTIO_NET_VNET_RSS_H

#include "virtio-net/frame.h"
#include "virtio-net/vnet_spec.h"

#define VNET_RSS_KEY_MAX 40 /* bytes of a hash key: rss_max_key_size */
#define VNET_RSS_TABLE_MAX 128 /* entries: rss_max_indirection_table_length */
#define VNET_HASH_TYPES                                                                            \
	(VIRTIO_NET_HASH_TYPE_IPv4 | VIRTIO_NET_HASH_TYPE_TCPv4 | VIRTIO_NET_HASH_TYPE_UDPv4 |     \
	 VIRTIO_NET_HASH_TYPE_IPv6 | VIRTIO_NET_HASH_TYPE_TCPv6 | VIRTIO_NET_HASH_TYPE_UDPv6 |     \
	 VIRTIO_NET_HASH_TYPE_IP_EX | VIRTIO_NET_HASH_TYPE_TCP_EX | VIRTIO_NET_HASH_TYPE_UDP_EX)
#define VNET_RSS_NO_QUEUE UINT32_MAX /* hashing only: any queue may be chosen */

/* Hash key, types, indirection table. Immutable. */
struct vnet_rss;

/* VIRTIO_NET_CTRL_MQ_RSS_CONFIG and _HASH_CONFIG, checked and in host order. */
struct vnet_rss_conf {
	uint32_t hash_types; /* within VNET_HASH_TYPES */
	uint8_t key[VNET_RSS_KEY_MAX]; /* zero beyond key_len */
	unsigned int key_len;
	unsigned int table_len; /* a power of two; 0: hashing only */
	uint16_t table[VNET_RSS_TABLE_MAX]; /* receive queues, by pair from 0 */
	uint16_t unclassified; /* the receive queue of frames without a hash */
};

/* NULL if out of memory. Control thread. */
struct vnet_rss *vnet_rss_create(const struct vnet_rss_conf *conf);
/* Accepts NULL. */
void vnet_rss_destroy(struct vnet_rss *rss);
const struct vnet_rss_conf *vnet_rss_get_conf(const struct vnet_rss *rss);

/* For one frame and one receiver; not kept in the frame, as others have keys of
 * their own. report NONE: no hash was worked out, value is 0. */
struct vnet_hash {
	uint32_t value;
	uint16_t report; /* VIRTIO_NET_HASH_REPORT_* */
};

/* Work out the hash of f, and return the receive queue for it, or
 * VNET_RSS_NO_QUEUE. A loop. */
unsigned int vnet_rss_queue(const struct vnet_rss *rss, const struct frame *f,
			    struct vnet_hash *hash);

#endif
