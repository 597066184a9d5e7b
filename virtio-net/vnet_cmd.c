/*
 * Commands of the control queue: checked against the features and against every
 * wrong shape, then carried out. Called by vnet_ctrl.c on the control thread with
 * a private copy of the command. Never changes anything when it answers no.
 *
 * VIRTIO 1.3, "Control Virtqueue". All data must be there and nothing more.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "virtio-net/vnet_internal.h"

/* What is left of a command. */
struct reader {
	const uint8_t *p;
	size_t len;
	bool ok; /* nothing was read that was not there */
};

static const uint8_t *take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (!r->ok || n > r->len) {
		r->ok = false;
		return NULL;
	}
	r->p += n;
	r->len -= n;
	return p;
}

static uint64_t take_le(struct reader *r, unsigned int bytes)
{
	const uint8_t *p = take(r, bytes);
	uint64_t v = 0;

	for (unsigned int i = 0; p && i < bytes; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static bool at_end(const struct reader *r)
{
	return r->ok && !r->len;
}

/* --- receive modes, addresses, VLANs ------------------------------------------------ */

/* Publish what follows from other receive modes. */
static int apply_rx(struct vnet *vn, struct vnet_driver *driver)
{
	int ret = vnet_filter_create(&driver->rx, &driver->filter);

	if (ret < 0)
		return ret;
	ret = vnet_live_apply(vn, driver);
	if (ret < 0)
		vnet_filter_destroy(driver->filter);
	return ret;
}

static int rx_mode(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;
	bool *mode[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &driver.rx.promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &driver.rx.allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &driver.rx.alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &driver.rx.nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &driver.rx.nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &driver.rx.nobcast,
	};
	uint64_t on = take_le(r, 1);

	if (!at_end(r) || on > 1)
		return -EINVAL;
	*mode[command] = on;
	return apply_rx(vn, &driver);
}

/* One of the two tables: -EINVAL if it is cut short. More than fit are counted. */
static int take_table(struct reader *r, uint8_t (*macs)[6], unsigned int *nr, bool *overflow)
{
	uint64_t entries = take_le(r, 4);
	const uint8_t *p;

	if (!r->ok || entries > r->len / 6)
		return -EINVAL;
	p = take(r, entries * 6);
	*overflow = entries > VNET_MACS_MAX;
	*nr = *overflow ? 0 : (unsigned int)entries;
	memcpy(macs, p, *nr * sizeof(*macs));
	return 0;
}

static int mac_table_set(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;
	struct vnet_rx_mode *rx = &driver.rx;

	if (take_table(r, rx->uni, &rx->nr_uni, &rx->uni_overflow) < 0 ||
	    take_table(r, rx->multi, &rx->nr_multi, &rx->multi_overflow) < 0 || !at_end(r))
		return -EINVAL;
	return apply_rx(vn, &driver);
}

static int mac_addr_set(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;
	const uint8_t *mac = take(r, 6);

	/* A station's address is not a group's. */
	if (!at_end(r) || mac[0] & 1)
		return -EINVAL;
	memcpy(driver.rx.mac, mac, 6);
	driver.rx.has_mac = true;
	return apply_rx(vn, &driver);
}

static int vlan(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;
	uint64_t vid = take_le(r, 2);
	uint8_t bit = (uint8_t)(1u << vid % 8);

	if (!at_end(r) || vid >= 8 * sizeof(driver.rx.vlans))
		return -EINVAL;
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		driver.rx.vlans[vid / 8] |= bit;
	else
		driver.rx.vlans[vid / 8] &= (uint8_t)~bit;
	return apply_rx(vn, &driver);
}

/* --- queues ---------------------------------------------------------------------------- */

static int apply_rss(struct vnet *vn, struct vnet_driver *driver, const struct vnet_rss_conf *conf)
{
	int ret;

	driver->rss = conf ? vnet_rss_create(conf) : NULL;
	if (conf && !driver->rss)
		return -ENOMEM;
	ret = vnet_live_apply(vn, driver);
	if (ret < 0)
		vnet_rss_destroy(driver->rss);
	return ret;
}

/* The driver wants queues to be chosen by us; hashes are reported as before. */
static int vq_pairs_set(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;
	uint64_t pairs = take_le(r, 2);
	struct vnet_rss_conf conf;

	if (!at_end(r) || !pairs || pairs > vn->pairs)
		return -EINVAL;
	driver.pairs = (unsigned int)pairs;
	if (!driver.rss || !(vn->features & VNET_BIT(VIRTIO_NET_F_HASH_REPORT)))
		return apply_rss(vn, &driver, NULL);
	conf = *vnet_rss_get_conf(driver.rss);
	conf.table_len = 0;
	return apply_rss(vn, &driver, &conf);
}

/* The key, which is last in both commands. */
static int take_key(struct reader *r, struct vnet_rss_conf *conf)
{
	const uint8_t *key;

	conf->key_len = (unsigned int)take_le(r, 1);
	if (conf->key_len > VNET_RSS_KEY_MAX)
		return -EINVAL;
	key = take(r, conf->key_len);
	if (!at_end(r))
		return -EINVAL;
	memcpy(conf->key, key, conf->key_len);
	return conf->hash_types & ~VNET_HASH_TYPES ? -EINVAL : 0;
}

/* VIRTIO 1.3, "RSS parameters": rss_rq_id counts receive queues from 0. */
static int take_queue(struct vnet *vn, struct reader *r, uint16_t *queue, unsigned int *pairs)
{
	uint64_t v = take_le(r, 2);

	if (!r->ok || v >= vn->pairs)
		return -EINVAL;
	*queue = (uint16_t)v;
	if (v >= *pairs)
		*pairs = (unsigned int)v + 1;
	return 0;
}

static int rss_config(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_rss_conf conf = { .hash_types = (uint32_t)take_le(r, 4) };
	uint64_t mask = take_le(r, 2), max_tx_vq;
	struct vnet_driver driver = vn->driver;

	if (mask >= VNET_RSS_TABLE_MAX || !is_power_of_two(mask + 1))
		return -EINVAL;
	conf.table_len = (unsigned int)mask + 1;
	driver.pairs = 0;
	if (take_queue(vn, r, &conf.unclassified, &driver.pairs) < 0)
		return -EINVAL;
	for (unsigned int i = 0; i < conf.table_len; i++)
		if (take_queue(vn, r, &conf.table[i], &driver.pairs) < 0)
			return -EINVAL;
	/* Transmit queues are polled whether the driver uses them or not. */
	max_tx_vq = take_le(r, 2);
	if (!max_tx_vq || max_tx_vq > vn->pairs || take_key(r, &conf) < 0)
		return -EINVAL;
	return apply_rss(vn, &driver, &conf);
}

static int hash_config(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_rss_conf conf = { .hash_types = (uint32_t)take_le(r, 4) };
	struct vnet_driver driver = vn->driver;

	take(r, 8); /* reserved */
	if (take_key(r, &conf) < 0)
		return -EINVAL;
	return apply_rss(vn, &driver, &conf);
}

/* --- the rest ------------------------------------------------------------------------------ */

static int guest_offloads_set(struct vnet *vn, struct reader *r, unsigned int command)
{
	struct vnet_driver driver = vn->driver;

	driver.guest_offloads = take_le(r, 8);
	/* "A driver MUST NOT enable an offload for which the appropriate feature has
	 * not been negotiated." */
	if (!at_end(r) || driver.guest_offloads & ~(vn->features & VNET_GUEST_OFFLOADS))
		return -EINVAL;
	return vnet_live_apply(vn, &driver);
}

static int announce_ack(struct vnet *vn, struct reader *r, unsigned int command)
{
	if (!at_end(r))
		return -EINVAL;
	vn->announce = false;
	return 0;
}

/* --- the table --------------------------------------------------------------------------------- */

struct command {
	unsigned int class_id, command;
	unsigned int feature; /* without which there is no such command */
	int (*run)(struct vnet *vn, struct reader *r, unsigned int command);
};

#define CMD(class, command, feature, run)                                                          \
	{                                                                                          \
		VIRTIO_NET_CTRL_##class, VIRTIO_NET_CTRL_##class##_##command,                      \
			VIRTIO_NET_F_##feature, run                                                \
	}

static const struct command commands[] = {
	CMD(RX, PROMISC, CTRL_RX, rx_mode),
	CMD(RX, ALLMULTI, CTRL_RX, rx_mode),
	CMD(RX, ALLUNI, CTRL_RX_EXTRA, rx_mode),
	CMD(RX, NOMULTI, CTRL_RX_EXTRA, rx_mode),
	CMD(RX, NOUNI, CTRL_RX_EXTRA, rx_mode),
	CMD(RX, NOBCAST, CTRL_RX_EXTRA, rx_mode),
	CMD(MAC, TABLE_SET, CTRL_RX, mac_table_set),
	CMD(MAC, ADDR_SET, CTRL_MAC_ADDR, mac_addr_set),
	CMD(VLAN, ADD, CTRL_VLAN, vlan),
	CMD(VLAN, DEL, CTRL_VLAN, vlan),
	CMD(ANNOUNCE, ACK, GUEST_ANNOUNCE, announce_ack),
	CMD(MQ, VQ_PAIRS_SET, MQ, vq_pairs_set),
	CMD(MQ, RSS_CONFIG, RSS, rss_config),
	CMD(MQ, HASH_CONFIG, HASH_REPORT, hash_config),
	CMD(GUEST_OFFLOADS, SET, CTRL_GUEST_OFFLOADS, guest_offloads_set),
};

static const struct command *find(const struct vnet *vn, unsigned int class_id,
				  unsigned int command)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].class_id == class_id && commands[i].command == command &&
		    vn->features & VNET_BIT(commands[i].feature))
			return &commands[i];
	return NULL;
}

uint8_t vnet_cmd_run(struct vnet *vn, const uint8_t *cmd, size_t len)
{
	struct reader r = { .p = cmd, .len = len, .ok = true };
	unsigned int class_id = (unsigned int)take_le(&r, 1),
		     command = (unsigned int)take_le(&r, 1);
	const struct command *c = r.ok ? find(vn, class_id, command) : NULL;
	int ret = c ? c->run(vn, &r, command) : -EOPNOTSUPP;

	if (!ret)
		return VIRTIO_NET_OK;
	log_limited(LOG_LEVEL_WARNING, "%s: control command %u.%u with %zu bytes refused: %s",
		    vn->name, class_id, command, len, strerror(-ret));
	return VIRTIO_NET_ERR;
}
