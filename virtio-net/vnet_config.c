/*
 * Features and configuration space of the network device: what is offered, what
 * follows from what was negotiated. Called by vnet.c with each request of the
 * front-end about them. Keeps no state and decides nothing about rings.
 *
 * Theory of operation
 *
 * Who talks to us decides what the bits mean. User-mode Linux passes everything
 * on: it takes features and configuration from us and gives us the control
 * queue, so CTRL_VQ and what hangs on it is offered and served. QEMU (and DPDK's
 * virtio-user) is a device itself: it takes from us only bits of the data path,
 * has STATUS, MAC, CTRL_* of its own, answers the control queue itself, and tells
 * us the result by enabling rings. It acknowledges MQ, GUEST_ANNOUNCE and, if told
 * to, HASH_REPORT without CTRL_VQ. So a missing CTRL_VQ in what is negotiated
 * takes nothing away here: header length and the number of queues are as the
 * driver has them, and what the control queue would configure stays at its
 * default, which is harmless: everything is received, hash reports say NONE,
 * queues are chosen by us. Our control ring counts only once it has been set up.
 *
 * Linux takes no device that offers GUEST_ANNOUNCE, MQ, RSS or HASH_REPORT without
 * CTRL_VQ. So where there is to be no control queue they are not offered, but for MQ
 * if there are several pairs: a driver can only get at them by a control queue, so
 * the front-end has one, and passes nothing on that we do not offer. A mask of
 * features is the other case. What a guest of QEMU has negotiated, as far as we know
 * of it, has all of them without CTRL_VQ, and must be offered again as it was.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <limits.h>
#include <string.h>

#include "virtio-net/vnet_internal.h"

static const char *const names[64] = {
	[VIRTIO_NET_F_CSUM] = "CSUM",
	[VIRTIO_NET_F_GUEST_CSUM] = "GUEST_CSUM",
	[VIRTIO_NET_F_CTRL_GUEST_OFFLOADS] = "CTRL_GUEST_OFFLOADS",
	[VIRTIO_NET_F_MTU] = "MTU",
	[VIRTIO_NET_F_MAC] = "MAC",
	[VIRTIO_NET_F_GUEST_TSO4] = "GUEST_TSO4",
	[VIRTIO_NET_F_GUEST_TSO6] = "GUEST_TSO6",
	[VIRTIO_NET_F_GUEST_ECN] = "GUEST_ECN",
	[VIRTIO_NET_F_GUEST_UFO] = "GUEST_UFO",
	[VIRTIO_NET_F_HOST_TSO4] = "HOST_TSO4",
	[VIRTIO_NET_F_HOST_TSO6] = "HOST_TSO6",
	[VIRTIO_NET_F_HOST_ECN] = "HOST_ECN",
	[VIRTIO_NET_F_HOST_UFO] = "HOST_UFO",
	[VIRTIO_NET_F_MRG_RXBUF] = "MRG_RXBUF",
	[VIRTIO_NET_F_STATUS] = "STATUS",
	[VIRTIO_NET_F_CTRL_VQ] = "CTRL_VQ",
	[VIRTIO_NET_F_CTRL_RX] = "CTRL_RX",
	[VIRTIO_NET_F_CTRL_VLAN] = "CTRL_VLAN",
	[VIRTIO_NET_F_CTRL_RX_EXTRA] = "CTRL_RX_EXTRA",
	[VIRTIO_NET_F_GUEST_ANNOUNCE] = "GUEST_ANNOUNCE",
	[VIRTIO_NET_F_MQ] = "MQ",
	[VIRTIO_NET_F_CTRL_MAC_ADDR] = "CTRL_MAC_ADDR",
	[VIRTIO_NET_F_GUEST_USO4] = "GUEST_USO4",
	[VIRTIO_NET_F_GUEST_USO6] = "GUEST_USO6",
	[VIRTIO_NET_F_HOST_USO] = "HOST_USO",
	[VIRTIO_NET_F_HASH_REPORT] = "HASH_REPORT",
	[VIRTIO_NET_F_GUEST_HDRLEN] = "GUEST_HDRLEN",
	[VIRTIO_NET_F_RSS] = "RSS",
	[VIRTIO_NET_F_SPEED_DUPLEX] = "SPEED_DUPLEX",
};

const char *vnet_feature_name(unsigned int bit)
{
	return bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

/* --- features -------------------------------------------------------------------- */

/* VIRTIO 1.3, "Feature bit requirements": a bit is worth nothing without one of
 * these. In an order that needs one pass. */
struct requirement {
	unsigned int bit;
	uint64_t one_of;
};

static const struct requirement offload_requirements[] = {
	{ VIRTIO_NET_F_GUEST_TSO4, VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_NET_F_GUEST_TSO6, VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_NET_F_GUEST_ECN,
	  VNET_BIT(VIRTIO_NET_F_GUEST_TSO4) | VNET_BIT(VIRTIO_NET_F_GUEST_TSO6) },
	{ VIRTIO_NET_F_GUEST_USO4, VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_NET_F_GUEST_USO6, VNET_BIT(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_NET_F_HOST_TSO4, VNET_BIT(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_NET_F_HOST_TSO6, VNET_BIT(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_NET_F_HOST_ECN,
	  VNET_BIT(VIRTIO_NET_F_HOST_TSO4) | VNET_BIT(VIRTIO_NET_F_HOST_TSO6) },
	{ VIRTIO_NET_F_HOST_USO, VNET_BIT(VIRTIO_NET_F_CSUM) },
	/* Some drivers refuse a device that speaks of a speed and not of a link. */
	{ VIRTIO_NET_F_SPEED_DUPLEX, VNET_BIT(VIRTIO_NET_F_STATUS) },
};

/* Of what no front-end but one that passes CTRL_VQ on ever takes from us. */
static const struct requirement control_requirements[] = {
	{ VIRTIO_NET_F_CTRL_RX, VNET_BIT(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_NET_F_CTRL_RX_EXTRA, VNET_BIT(VIRTIO_NET_F_CTRL_RX) },
	{ VIRTIO_NET_F_CTRL_VLAN, VNET_BIT(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_NET_F_CTRL_MAC_ADDR, VNET_BIT(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, VNET_BIT(VIRTIO_NET_F_CTRL_VQ) },
};

static uint64_t closed(uint64_t f, const struct requirement *table, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!(f & table[i].one_of))
			f &= ~VNET_BIT(table[i].bit);
	return f;
}

uint64_t vnet_features_closed(uint64_t features)
{
	return closed(features, offload_requirements, ARRAY_SIZE(offload_requirements));
}

uint64_t vnet_offer(const struct vnet_conf *conf)
{
	uint64_t f = VNET_GUEST_OFFLOADS | VNET_BIT(VIRTIO_NET_F_CSUM) |
		     VNET_BIT(VIRTIO_NET_F_HOST_TSO4) | VNET_BIT(VIRTIO_NET_F_HOST_TSO6) |
		     VNET_BIT(VIRTIO_NET_F_HOST_ECN) | VNET_BIT(VIRTIO_NET_F_HOST_USO) |
		     VNET_BIT(VIRTIO_NET_F_MRG_RXBUF) | VNET_BIT(VIRTIO_NET_F_STATUS);

	f |= VNET_BIT(VIRTIO_F_ANY_LAYOUT) | VNET_BIT(VIRTIO_F_RING_INDIRECT_DESC) |
	     VNET_BIT(VIRTIO_F_RING_EVENT_IDX) | VNET_BIT(VIRTIO_F_IN_ORDER);
	/* Asked for: some front-ends accept the bit and know no IOTLB messages
	 * (Linux's virtio_uml). */
	if (conf->iommu)
		f |= VNET_BIT(VIRTIO_F_ACCESS_PLATFORM);
	if (conf->packed)
		f |= VNET_BIT(VIRTIO_F_RING_PACKED);
	if (conf->mtu)
		f |= VNET_BIT(VIRTIO_NET_F_MTU);
	if (conf->has_mac)
		f |= VNET_BIT(VIRTIO_NET_F_MAC);
	if (conf->speed != UINT32_MAX)
		f |= VNET_BIT(VIRTIO_NET_F_SPEED_DUPLEX);
	if (conf->pairs > 1)
		f |= VNET_BIT(VIRTIO_NET_F_MQ);
	if (conf->ctrl_vq) {
		f |= VNET_BIT(VIRTIO_NET_F_CTRL_VQ) | VNET_BIT(VIRTIO_NET_F_CTRL_RX) |
		     VNET_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | VNET_BIT(VIRTIO_NET_F_CTRL_VLAN) |
		     VNET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
		     VNET_BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |
		     VNET_BIT(VIRTIO_NET_F_GUEST_ANNOUNCE);
		if (conf->rss)
			f |= VNET_BIT(VIRTIO_NET_F_HASH_REPORT);
		if (conf->rss && conf->pairs > 1)
			f |= VNET_BIT(VIRTIO_NET_F_RSS);
	}
	f &= conf->feature_mask;
	f = closed(f, control_requirements, ARRAY_SIZE(control_requirements));
	return vnet_features_closed(f);
}

/* VIRTIO 1.3, "Device Operation": the header before each frame. */
uint8_t vnet_features_hdr_len(uint64_t features)
{
	if (features & VNET_BIT(VIRTIO_NET_F_HASH_REPORT))
		return sizeof(struct virtio_net_hdr_hash);
	if (features & (VNET_BIT(VIRTIO_F_VERSION_1) | VNET_BIT(VIRTIO_NET_F_MRG_RXBUF)))
		return sizeof(struct virtio_net_hdr_mrg);
	return sizeof(struct virtio_net_hdr);
}

struct offload_caps vnet_offload_caps(uint64_t guest_offloads, uint16_t mtu)
{
	uint64_t f = vnet_features_closed(guest_offloads);

	return (struct offload_caps){
		.csum = f & VNET_BIT(VIRTIO_NET_F_GUEST_CSUM),
		.tso4 = f & VNET_BIT(VIRTIO_NET_F_GUEST_TSO4),
		.tso6 = f & VNET_BIT(VIRTIO_NET_F_GUEST_TSO6),
		.ecn = f & VNET_BIT(VIRTIO_NET_F_GUEST_ECN),
		.uso4 = f & VNET_BIT(VIRTIO_NET_F_GUEST_USO4),
		.uso6 = f & VNET_BIT(VIRTIO_NET_F_GUEST_USO6),
		.mtu = mtu,
	};
}

/* VIRTIO 1.3, "Virtqueues": behind all pairs, which are one without MQ and RSS. */
unsigned int vnet_ctrl_index(uint64_t features, unsigned int pairs)
{
	if (!(features & VNET_BIT(VIRTIO_NET_F_CTRL_VQ)))
		return UINT_MAX;
	if (features & (VNET_BIT(VIRTIO_NET_F_MQ) | VNET_BIT(VIRTIO_NET_F_RSS)))
		return 2 * pairs;
	return 2;
}

/* --- configuration space ------------------------------------------------------------- */

void vnet_config_fill(const struct vnet *vn, struct virtio_net_config *c)
{
	uint16_t status = vn->link_up ? VIRTIO_NET_S_LINK_UP : 0;

	if (vn->announce)
		status |= VIRTIO_NET_S_ANNOUNCE;
	*c = (struct virtio_net_config){
		.status = cpu_to_le16(status),
		.max_virtqueue_pairs = cpu_to_le16((uint16_t)vn->pairs),
		.mtu = cpu_to_le16(vn->told.mtu),
		.speed = cpu_to_le32(vn->told.speed),
		.duplex = vn->told.speed == UINT32_MAX ? 0xff : 1,
		.rss_max_key_size = VNET_RSS_KEY_MAX,
		.rss_max_indirection_table_length = cpu_to_le16(VNET_RSS_TABLE_MAX),
		.supported_hash_types = cpu_to_le32(VNET_HASH_TYPES),
	};
	memcpy(c->mac, vn->driver.rx.mac, sizeof(c->mac));
}
