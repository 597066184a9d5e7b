/*
 * Receive-side scaling: the Toeplitz hash of a frame and the queue it leads to.
 * Objects are made by the control queue's commands (vnet_ctrl.c) and asked by the
 * receive path (vnet_rx.c) on any loop. Nothing here changes after creation, and
 * nothing is checked that the maker has checked.
 *
 * Theory of operation
 *
 * The hash is the exclusive or, over all bits of the input that are set, of the
 * 32 bits of the key that begin at the same bit position. For each position of 4
 * bits and each of their values that is worked out at creation: 4.5 KiB, which
 * stay in the first cache, and two look-ups a byte. (DPDK's rte_softrss() takes
 * every bit on its own.)
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vnet_rss.h"

#include <stdlib.h>

#include "core/base.h"
#include "virtio-net/net_bytes.h"

#define PORTS_LEN 4
#define INPUT_MAX (2 * IPV6_ADDR_LEN + PORTS_LEN)

/* "Mobility Support in IPv6", RFC 6275: home address option, type 2 routing
 * header, both with one address. */
#define OPT_PAD1 0
#define OPT_HOME_ADDRESS 0xc9
#define ROUTING_TYPE_2 2

struct vnet_rss {
	uint32_t nibble[INPUT_MAX * 2][16];
	struct vnet_rss_conf conf;
};

/* --- making ----------------------------------------------------------------------- */

/* 32 bits of the key from a bit on; there are none behind its end. */
static uint32_t key_bits(const uint8_t *key, unsigned int bit)
{
	uint32_t v = 0;

	for (unsigned int i = bit; i < bit + 32; i++)
		v = v << 1 | (i < VNET_RSS_KEY_MAX * 8 && key[i / 8] >> (7 - i % 8) & 1);
	return v;
}

struct vnet_rss *vnet_rss_create(const struct vnet_rss_conf *conf)
{
	struct vnet_rss *rss = aligned_alloc(CACHE_LINE, round_up(sizeof(*rss), CACHE_LINE));
	uint32_t bits;

	assert(!conf->table_len ||
	       (is_power_of_two(conf->table_len) && conf->table_len <= VNET_RSS_TABLE_MAX));
	if (!rss)
		return NULL;
	rss->conf = *conf;
	for (unsigned int pos = 0; pos < ARRAY_SIZE(rss->nibble); pos++) {
		for (unsigned int value = 0; value < 16; value++) {
			bits = 0;
			for (unsigned int bit = 0; bit < 4; bit++) {
				if (value & 8 >> bit)
					bits ^= key_bits(conf->key, pos * 4 + bit);
			}
			rss->nibble[pos][value] = bits;
		}
	}
	return rss;
}

void vnet_rss_destroy(struct vnet_rss *rss)
{
	free(rss);
}

const struct vnet_rss_conf *vnet_rss_get_conf(const struct vnet_rss *rss)
{
	return &rss->conf;
}

/* --- hashing ---------------------------------------------------------------------- */

/* What a hash is worked out of. */
struct input {
	uint8_t bytes[INPUT_MAX];
	unsigned int len;
};

static void input_add(struct input *in, const uint8_t *bytes, unsigned int n)
{
	memcpy(in->bytes + in->len, bytes, n);
	in->len += n;
}

static uint32_t toeplitz(const struct vnet_rss *rss, const struct input *in)
{
	uint32_t hash = 0;

	for (unsigned int i = 0; i < in->len; i++) {
		hash ^= rss->nibble[2 * i][in->bytes[i] >> 4];
		hash ^= rss->nibble[2 * i + 1][in->bytes[i] & 15];
	}
	return hash;
}

/* The address in the home address option of a destination options header. */
static const uint8_t *home_address(const uint8_t *ext, uint32_t len)
{
	uint32_t off = 2;

	while (off + 2 <= len) {
		if (ext[off] == OPT_PAD1) {
			off++;
			continue;
		}
		if (ext[off] == OPT_HOME_ADDRESS && ext[off + 1] == IPV6_ADDR_LEN &&
		    off + 2 + IPV6_ADDR_LEN <= len)
			return ext + off + 2;
		off += 2u + ext[off + 1];
	}
	return NULL;
}

/* Addresses of a node that is away from home, where extension headers that are
 * wholly in head tell them. */
static void mobile_addresses(const struct frame *f, const struct frame_layers *l,
			     const uint8_t **saddr, const uint8_t **daddr)
{
	uint32_t off = l->l3 + IPV6_HDR_LEN, len;
	uint8_t proto = f->head[l->l3 + IPV6_NEXT];
	const uint8_t *ext, *home;

	while (off + 8 <= f->head_len) {
		ext = f->head + off;
		len = frame_ext_len(proto, ext);
		if (!len || off + len > f->head_len)
			return;
		home = proto == IP_PROTO_DSTOPTS ? home_address(ext, len) : NULL;
		if (home)
			*saddr = home;
		if (proto == IP_PROTO_ROUTING && ext[2] == ROUTING_TYPE_2 &&
		    len == 8 + IPV6_ADDR_LEN)
			*daddr = ext + 8;
		proto = ext[0];
		off += len;
	}
}

/* The report for the first of these hash types that is enabled and fits. */
static uint16_t choose(const struct vnet_rss *rss, const struct frame_layers *l, uint16_t ip,
		       uint16_t tcp, uint16_t udp)
{
	uint32_t types = rss->conf.hash_types;
	/* Fragments go by their addresses, so that the first does not overtake. */
	bool whole = l->l4 && !l->fragment;

	/* "Hash reporting for incoming packets": TYPE_X = 1 << (REPORT_X - 1) */
	if (whole && l->ip_proto == IP_PROTO_TCP && types >> (tcp - 1) & 1)
		return tcp;
	if (whole && l->ip_proto == IP_PROTO_UDP && types >> (udp - 1) & 1)
		return udp;
	return types >> (ip - 1) & 1 ? ip : VIRTIO_NET_HASH_REPORT_NONE;
}

static uint16_t hash_ipv4(const struct vnet_rss *rss, const struct frame *f,
			  const struct frame_layers *l, struct input *in)
{
	uint16_t report = choose(rss, l, VIRTIO_NET_HASH_REPORT_IPv4, VIRTIO_NET_HASH_REPORT_TCPv4,
				 VIRTIO_NET_HASH_REPORT_UDPv4);

	input_add(in, f->head + l->l3 + IPV4_SADDR, IPV4_ADDRS_LEN);
	if (report != VIRTIO_NET_HASH_REPORT_IPv4)
		input_add(in, f->head + l->l4, PORTS_LEN);
	return report;
}

/* "IPv6 packets with extension header": the _EX types first, then as if there
 * were none. */
static uint16_t hash_ipv6(const struct vnet_rss *rss, const struct frame *f,
			  const struct frame_layers *l, struct input *in)
{
	const uint8_t *saddr = f->head + l->l3 + IPV6_SADDR, *daddr = f->head + l->l3 + IPV6_DADDR;
	uint16_t report = VIRTIO_NET_HASH_REPORT_NONE;

	if (l->ip_options)
		report = choose(rss, l, VIRTIO_NET_HASH_REPORT_IPv6_EX,
				VIRTIO_NET_HASH_REPORT_TCPv6_EX, VIRTIO_NET_HASH_REPORT_UDPv6_EX);
	if (report)
		mobile_addresses(f, l, &saddr, &daddr);
	else
		report = choose(rss, l, VIRTIO_NET_HASH_REPORT_IPv6, VIRTIO_NET_HASH_REPORT_TCPv6,
				VIRTIO_NET_HASH_REPORT_UDPv6);
	input_add(in, saddr, IPV6_ADDR_LEN);
	input_add(in, daddr, IPV6_ADDR_LEN);
	if (report != VIRTIO_NET_HASH_REPORT_IPv6 && report != VIRTIO_NET_HASH_REPORT_IPv6_EX)
		input_add(in, f->head + l->l4, PORTS_LEN);
	return report;
}

unsigned int vnet_rss_queue(const struct vnet_rss *rss, const struct frame *f,
			    struct vnet_hash *hash)
{
	struct input in = { .len = 0 };
	struct frame look = *f;
	struct frame_layers l;

	*hash = (struct vnet_hash){ 0 };
	frame_layers(&look, &l);
	if (l.l3 && l.ethertype == ETH_TYPE_IPV4)
		hash->report = hash_ipv4(rss, &look, &l, &in);
	else if (l.l3)
		hash->report = hash_ipv6(rss, &look, &l, &in);
	if (hash->report)
		hash->value = toeplitz(rss, &in);
	if (!rss->conf.table_len)
		return VNET_RSS_NO_QUEUE;
	if (!hash->report)
		return rss->conf.unclassified;
	return rss->conf.table[hash->value & (rss->conf.table_len - 1u)];
}
