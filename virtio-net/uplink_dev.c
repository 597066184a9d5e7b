/*
 * The DPDK port behind an uplink: attach, pool, configure, start, close. Called by
 * uplink.c on the control thread, while no loop uses the port. Never touches a
 * device that was not named.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_version.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/uplink_internal.h"

static_assert(EAL_ERR_LEN <= SW_ERR_LEN, "its sentences fit");

#define MBUF_CACHE 128
/* What an mbuf holds at least, and how that is rounded up for long frames. */
#define SEG_ROOM_MIN 2048
#define SEG_ROOM_ALIGN 64
/* What an mbuf has is counted in 16 bits, with the room before the frame. */
#define SEG_ROOM_MAX ((UINT16_MAX - RTE_PKTMBUF_HEADROOM) / SEG_ROOM_ALIGN * SEG_ROOM_ALIGN)
/* Descriptors where the driver has no opinion. */
#define RING_SIZE 512

/* --- attach -------------------------------------------------------------------------- */

/* The first port of a device that has just been attached. */
static int port_of(const char *devargs, uint16_t *port)
{
	struct rte_dev_iterator it;
	uint16_t found = RTE_MAX_ETHPORTS;

	RTE_ETH_FOREACH_MATCHING_DEV(found, devargs, &it)
	{
		*port = found;
		rte_eth_iterator_cleanup(&it);
		return 0;
	}
	return -ENODEV;
}

int uplink_attach(const char *name, const char *devargs, uint16_t *port, char *err)
{
	int res;

	/* rte_dev_probe() would say that it has attached it. */
	if (!port_of(devargs, port)) {
		snprintf(err, SW_ERR_LEN, "%s: %.100s: in use by another uplink", name, devargs);
		return -EEXIST;
	}
	eal_clear_error();
	res = rte_dev_probe(devargs);
	if (res < 0) {
		snprintf(err, SW_ERR_LEN, "%s: %.80s: DPDK cannot attach it: %.80s (%s)", name,
			 devargs, *eal_error() ? eal_error() : "no such device or driver",
			 strerror(-res));
		return res;
	}
	res = port_of(devargs, port);
	if (res < 0)
		snprintf(err, SW_ERR_LEN, "%s: %.100s: not a network device", name, devargs);
	return res;
}

void uplink_detach(uint16_t port)
{
	struct rte_eth_dev_info info;
	int res;

	/* Closing forgets the device. */
	res = rte_eth_dev_info_get(port, &info);
	rte_eth_dev_close(port);
	if (!res)
		res = rte_dev_remove(info.device);
	if (res < 0)
		log_warn("dpdk: port %u cannot be detached: %s", port, strerror(-res));
}

/* A device of the host's, or one made of software. */
static bool is_hardware(uint16_t port)
{
	struct rte_eth_dev_info info;

	if (rte_eth_dev_info_get(port, &info) < 0 || !info.device)
		return false;
#if RTE_VERSION >= RTE_VERSION_NUM(22, 11, 0, 0)
	return strcmp(rte_bus_name(rte_dev_bus(info.device)), "vdev") != 0;
#else
	return strcmp(info.device->bus->name, "vdev") != 0;
#endif
}

/* A team does in hardware what all of its members do. */
static bool all_hardware(const struct uplink_dev *dev)
{
	if (!dev->team)
		return is_hardware(dev->port);
	for (unsigned int i = 0; i < team_nr_members(dev->team); i++) {
		if (!is_hardware(team_member(dev->team, i)))
			return false;
	}
	return true;
}

/* --- what it can do -------------------------------------------------------------------- */

/*
 * net_tap of DPDK (22.11) cuts up in software, with rte_gso: it lets IPv6 through
 * whole, and its checksums are wrong where a piece of odd length is in two mbufs.
 */
static bool segments_well(uint16_t port)
{
	struct rte_eth_dev_info info;

	return !rte_eth_dev_info_get(port, &info) && strcmp(info.driver_name, "net_tap") != 0;
}

static bool all_segment_well(const struct uplink_dev *dev)
{
	if (!dev->team)
		return segments_well(dev->port);
	for (unsigned int i = 0; i < team_nr_members(dev->team); i++)
		if (!segments_well(team_member(dev->team, i)))
			return false;
	return true;
}

/*
 * Offloads that cost us nothing, which is why a device made of software is not
 * asked for any: it would do with our CPU time what we do as well. on: all the
 * driver knows.
 */
static void choose_offloads(struct uplink_dev *dev, const struct rte_eth_dev_info *info,
			    enum uplink_offloads wanted)
{
	const uint64_t csum = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
			      RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	const uint64_t segment = RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	uint64_t tx = info->tx_offload_capa, rx = info->rx_offload_capa;
	bool use =
		wanted == UPLINK_OFFLOADS_ON || (wanted == UPLINK_OFFLOADS_AUTO && dev->hardware);

	/* Long frames need several mbufs, with or without. */
	dev->tx_offloads = tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	dev->rx_offloads = rx & RTE_ETH_RX_OFFLOAD_SCATTER;
	dev->caps = (struct offload_caps){ 0 };
	if (!use)
		return;
	dev->rx_offloads |= rx & RTE_ETH_RX_OFFLOAD_CHECKSUM;
	if ((tx & csum) != csum)
		return;
	dev->caps.csum = true;
	dev->tx_offloads |= csum;
	if ((tx & segment) == segment && all_segment_well(dev)) {
		dev->caps.tso4 = dev->caps.tso6 = dev->caps.ecn = true;
		dev->tx_offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
		if (tx & RTE_ETH_TX_OFFLOAD_UDP_TSO) {
			dev->caps.uso4 = dev->caps.uso6 = true;
			dev->tx_offloads |= RTE_ETH_TX_OFFLOAD_UDP_TSO;
		}
	}
}

static bool spreads_frames(const struct uplink_dev *dev)
{
	return dev->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS &&
	       dev->rx_offloads & RTE_ETH_RX_OFFLOAD_SCATTER;
}

/* As many bytes in each mbuf as the longest frame has, unless the device spreads
 * frames over several. */
static void choose_room(struct uplink_dev *dev)
{
	uint32_t longest = dev->mtu + UPLINK_FRAME_OVERHEAD;

	dev->seg_room = SEG_ROOM_MIN;
	if (!spreads_frames(dev) && longest > SEG_ROOM_MIN)
		dev->seg_room = (uint16_t)round_up(longest, SEG_ROOM_ALIGN);
}

static uint16_t ring_size(uint16_t wanted, const struct rte_eth_desc_lim *lim)
{
	uint16_t size = wanted ? wanted : RING_SIZE;

	if (lim->nb_max && size > lim->nb_max)
		size = lim->nb_max;
	return size < lim->nb_min ? lim->nb_min : size;
}

/* --- pool and queues --------------------------------------------------------------------- */

/* Enough to fill every queue of the device, the caches of all loops, and bursts
 * on their way. */
static int create_pool(struct uplink_dev *dev, uint16_t rxd, uint16_t txd, unsigned int nr_lanes,
		       char *err)
{
	static unsigned int serial; /* names are unique in the process */
	unsigned int members = dev->team ? team_nr_members(dev->team) : 1, cnt;
	char name[RTE_MEMPOOL_NAMESIZE];

	cnt = members * (dev->nr_rxq * (rxd + 2u * FRAME_BURST) + dev->nr_txq * txd) +
	      (nr_lanes + 1) * (MBUF_CACHE * 3 / 2 + 2 * FRAME_BURST);
	snprintf(name, sizeof(name), "uplink%u", serial++);
	dev->pool = rte_pktmbuf_pool_create(name, cnt, MBUF_CACHE, 0,
					    (uint16_t)(RTE_PKTMBUF_HEADROOM + dev->seg_room),
					    rte_eth_dev_socket_id(dev->port));
	if (dev->pool)
		return 0;
	snprintf(err, SW_ERR_LEN, "%s: no memory for %u packet buffers of %u bytes: %s", dev->name,
		 cnt, dev->seg_room, rte_strerror(rte_errno));
	return -ENOMEM;
}

static int configure(struct uplink_dev *dev, const struct rte_eth_dev_info *info, uint16_t nr_lanes)
{
	struct rte_eth_conf conf = {
		.rxmode = { .mtu = dev->mtu, .offloads = dev->rx_offloads },
		.txmode = { .offloads = dev->tx_offloads },
		.intr_conf = { .lsc = *info->dev_flags & RTE_ETH_DEV_INTR_LSC ? 1 : 0, .rxq = 1 },
	};
	int res;

	if (dev->nr_rxq > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info->flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
		/* A device of software spreads flows by a hash of its own. */
		if (!conf.rx_adv_conf.rss_conf.rss_hf)
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
	}
	dev->nr_txq = (uint16_t)min_u64(nr_lanes, info->max_tx_queues);
	/* What is refused first: receive interrupts, then queues that are not in
	 * pairs (net_tap). */
	eal_be_lenient(true);
	for (unsigned int attempt = 0; attempt < 4; attempt++) {
		conf.intr_conf.rxq = !(attempt & 1);
		if (attempt == 2)
			dev->nr_txq = dev->nr_rxq;
		res = rte_eth_dev_configure(dev->port, dev->nr_rxq, dev->nr_txq, &conf);
		if (!res)
			break;
	}
	eal_be_lenient(false);
	dev->rx_intr = conf.intr_conf.rxq;
	return res;
}

static int setup_queues(struct uplink_dev *dev, const struct rte_eth_dev_info *info, uint16_t rxd,
			uint16_t txd)
{
	int node = rte_eth_dev_socket_id(dev->port), res = 0;
	struct rte_eth_rxconf rx = info->default_rxconf;
	struct rte_eth_txconf tx = info->default_txconf;

	rx.offloads = dev->rx_offloads;
	tx.offloads = dev->tx_offloads;
	for (uint16_t i = 0; i < dev->nr_rxq && !res; i++)
		res = rte_eth_rx_queue_setup(dev->port, i, rxd, (unsigned int)node, &rx, dev->pool);
	for (uint16_t i = 0; i < dev->nr_txq && !res; i++)
		res = rte_eth_tx_queue_setup(dev->port, i, txd, (unsigned int)node, &tx);
	return res;
}

static int fail(const struct uplink_dev *dev, const char *what, int res, char *err)
{
	snprintf(err, SW_ERR_LEN, "%s: %s: %s%s%.80s", dev->name, what, strerror(-res),
		 *eal_error() ? "; " : "", eal_error());
	return res;
}

/* A wish of the user's that the device may not be able to grant. */
static int check_wishes(struct uplink_dev *dev, const struct uplink_conf *conf,
			const struct rte_eth_dev_info *info, char *err)
{
	uint16_t mtu_max = info->max_mtu;

	dev->nr_rxq = (uint16_t)(conf->queues ? conf->queues : 1);
	if (dev->nr_rxq > info->max_rx_queues) {
		snprintf(err, SW_ERR_LEN, "%s: queues=%u: the device has %u", dev->name,
			 dev->nr_rxq, info->max_rx_queues);
		return -EINVAL;
	}
	if (!spreads_frames(dev))
		mtu_max = (uint16_t)min_u64(mtu_max, SEG_ROOM_MAX - UPLINK_FRAME_OVERHEAD);
	if (rte_eth_dev_get_mtu(dev->port, &dev->mtu) < 0 || !dev->mtu)
		dev->mtu = RTE_ETHER_MTU;
	dev->mtu = (uint16_t)min_u64(dev->mtu, mtu_max);
	if (!conf->mtu)
		return 0;
	if (conf->mtu < info->min_mtu || conf->mtu > mtu_max) {
		snprintf(err, SW_ERR_LEN, "%s: mtu=%u: the device takes %u to %u", dev->name,
			 conf->mtu, info->min_mtu, mtu_max);
		return -EINVAL;
	}
	dev->mtu = conf->mtu;
	return 0;
}

static int prepare(struct uplink_dev *dev, const struct uplink_conf *conf, char *err)
{
	struct rte_eth_dev_info info;
	uint16_t rxd, txd;
	int res;

	res = rte_eth_dev_info_get(dev->port, &info);
	if (res < 0)
		return fail(dev, "no information from its driver", res, err);
	dev->hardware = all_hardware(dev);
	dev->partial_csums = !dev->hardware;
	choose_offloads(dev, &info, conf->offloads);
	res = check_wishes(dev, conf, &info, err);
	if (res < 0)
		return res;
	choose_room(dev);
	res = configure(dev, &info, (uint16_t)conf->nr_loops);
	if (res < 0)
		return fail(dev, "the device cannot be configured", res, err);
	rxd = ring_size(info.default_rxportconf.ring_size, &info.rx_desc_lim);
	txd = ring_size(info.default_txportconf.ring_size, &info.tx_desc_lim);
	res = rte_eth_dev_adjust_nb_rx_tx_desc(dev->port, &rxd, &txd);
	if (!res)
		res = create_pool(dev, rxd, txd, conf->nr_loops, err);
	if (res < 0)
		return res;
	/* Once more: limits depend on the configuration. */
	rte_eth_dev_info_get(dev->port, &info);
	res = setup_queues(dev, &info, rxd, txd);
	if (res < 0)
		return fail(dev, "its queues cannot be set up", res, err);
	return 0;
}

/* --- life ------------------------------------------------------------------------------ */

int uplink_dev_open(struct uplink_dev *dev, const struct uplink_conf *conf, char *err)
{
	int res;

	*dev = (struct uplink_dev){ .name = conf->name, .link_forced = conf->link_forced };
	res = eal_start(err);
	if (res < 0)
		return res;
	eal_enlist(conf->loops, conf->nr_loops);
	if (conf->nr_dev > 1 || conf->team_mode) {
		res = team_create(conf, &dev->team, err);
		if (!res)
			dev->port = team_port(dev->team);
	} else {
		res = uplink_attach(conf->name, conf->dev[0], &dev->port, err);
	}
	if (res < 0)
		return res;
	dev->is_open = true;
	res = prepare(dev, conf, err);
	if (res < 0)
		uplink_dev_close(dev);
	return res;
}

int uplink_dev_start(struct uplink_dev *dev, char *err)
{
	uint16_t mtu;
	int res;

	res = rte_eth_dev_start(dev->port);
	if (res < 0)
		return fail(dev, "the device does not start", res, err);
	dev->is_started = true;
	/* configure() has told it, but not every driver listens there. */
	if (!rte_eth_dev_get_mtu(dev->port, &mtu) && mtu != dev->mtu)
		res = rte_eth_dev_set_mtu(dev->port, dev->mtu);
	if (res < 0)
		return fail(dev, "mtu= is refused by the device", res, err);
	/* A switch has frames of other addresses to carry than the port's own. */
	res = rte_eth_promiscuous_enable(dev->port);
	if (res < 0)
		log_info("%s: the device cannot be promiscuous: %s", dev->name, strerror(-res));
	return 0;
}

void uplink_dev_close(struct uplink_dev *dev)
{
	/* Of modes that a device never was in, for one. */
	eal_be_lenient(true);
	if (dev->is_started)
		rte_eth_dev_stop(dev->port);
	if (dev->team)
		team_destroy(dev->team);
	else if (dev->is_open)
		uplink_detach(dev->port);
	eal_be_lenient(false);
	rte_mempool_free(dev->pool);
	*dev = (struct uplink_dev){ .name = dev->name };
}

bool uplink_dev_link(const struct uplink_dev *dev, struct rte_eth_link *link)
{
	memset(link, 0, sizeof(*link));
	if (!rte_eth_link_get_nowait(dev->port, link) && link->link_status)
		return true;
	return dev->link_forced;
}
