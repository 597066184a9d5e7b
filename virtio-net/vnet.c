/*
 * The virtio network device: its life, and what the vhost-user core asks of it.
 * Called by apps (vnet.h) and, through struct vu_ops, by the core, on the control
 * thread. No frame passes here: vnet_tx.c and vnet_rx.c have those.
 *
 * Theory of operation
 *
 * A device is two things: a port of the switch, from its creation on, and a
 * vhost-user device, whose front-ends come and go. Other ports' loops deliver to
 * the port at any time, so it is the switch that must forget the device first:
 *
 *   vnet_destroy: vn->port = NULL (our transmit rings stop forwarding)
 *     -> sw_port_remove() -> no loop delivers any more
 *     -> vu_dev_destroy() -> all rings drained, connection closed
 *     -> nothing retired is waited for -> free
 *
 * What a driver has configured lives as long as the driver: it is forgotten when
 * the front-end goes, when the device is reset, when other features are
 * negotiated, and when the control ring starts from its beginning.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/vnet.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "virtio-net/vnet_internal.h"

/* VIRTIO 1.3, "Device configuration layout": an MTU is between these. */
#define MTU_MIN 68
/* Linux lets a TCP connection have on its way in its own host what it sends in 1 ms at
 * its pacing rate, which is a fifth above what it does send. */
#define TX_USECS 1000

__attribute__((format(printf, 3, 4))) static int fail(char *err, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, SW_ERR_LEN, fmt, ap);
	va_end(ap);
	return ret;
}

static inline struct vnet *vnet_of(struct vu_dev *dev)
{
	return vu_dev_priv(dev);
}

/* --- features and configuration space --------------------------------------------- */

static uint64_t net_features(struct vu_dev *dev)
{
	return vnet_of(dev)->offer;
}

static void net_set_features(struct vu_dev *dev, uint64_t features)
{
	struct vnet *vn = vnet_of(dev);
	uint64_t closed = vnet_features_closed(features);

	/* QEMU says them again for each pair of rings. */
	if (closed == vn->features)
		return;
	vn->features = closed;
	vn->hdr_len = vnet_features_hdr_len(features);
	vn->ctrl_seen = false;
	vnet_driver_forget(vn);
}

static void net_get_config(struct vu_dev *dev, void *buf, uint32_t off, uint32_t len)
{
	struct virtio_net_config c;

	vnet_config_fill(vnet_of(dev), &c);
	memcpy(buf, (const uint8_t *)&c + off, len);
}

/*
 * All is read-only but the MAC address, and that only for drivers that have no
 * better way: VIRTIO 1.3, "Legacy Interface: Device configuration layout". Byte
 * by byte, as such drivers write it. A migration brings what the other side had.
 */
static int net_set_config(struct vu_dev *dev, const void *buf, uint32_t off, uint32_t len,
			  bool migration)
{
	const uint64_t better = VNET_BIT(VIRTIO_F_VERSION_1) | VNET_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);
	struct vnet *vn = vnet_of(dev);
	struct vnet_driver driver = vn->driver;
	int ret;

	if (migration)
		return 0;
	if (!(vn->features & VNET_BIT(VIRTIO_NET_F_MAC)) || vn->features & better ||
	    off + len > sizeof(driver.rx.mac))
		return -EPERM;
	memcpy(driver.rx.mac + off, buf, len);
	ret = vnet_filter_create(&driver.rx, &driver.filter);
	if (ret < 0)
		return ret;
	ret = vnet_live_apply(vn, &driver);
	if (ret < 0)
		vnet_filter_destroy(driver.filter);
	return ret;
}

/* --- rings -------------------------------------------------------------------------- */

/* A ring that no driver may have: the one behind the control ring of a driver
 * without MQ, for instance. Nobody would ever empty it. */
static bool index_has_a_role(const struct vnet *vn, unsigned int index)
{
	return index < 2 * vn->pairs || index == vnet_ctrl_index(vn->features, vn->pairs);
}

static int net_vq_setup(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct vnet *vn = vnet_of(dev);
	struct vnet_queue *q = &vn->queue[index];

	if (!index_has_a_role(vn, index))
		return -EINVAL;
	q->hdr_len = vn->hdr_len;
	q->vq = vq;
	vq->priv = q;
	if (index == vnet_ctrl_index(vn->features, vn->pairs)) {
		q->role = VNET_CTRL;
		return vnet_ctrl_setup(q);
	}
	q->role = vnet_index_is_rx(index) ? VNET_RX : VNET_TX;
	return q->role == VNET_RX ? vnet_rx_setup(q) : vnet_tx_setup(q);
}

static void net_vq_release(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct vnet_queue *q = &vnet_of(dev)->queue[index];

	if (q->role == VNET_CTRL)
		vnet_ctrl_release(q);
	else if (q->role == VNET_RX)
		vnet_rx_release(q);
	else
		vnet_tx_release(q);
}

static void net_vq_active(struct vu_dev *dev, unsigned int index, bool active)
{
	struct vnet *vn = vnet_of(dev);

	if (vn->queue[index].role == VNET_RX)
		vnet_live_refresh(vn);
}

/* --- the rest of struct vu_ops -------------------------------------------------------- */

static void net_reset(struct vu_dev *dev)
{
	struct vnet *vn = vnet_of(dev);

	vn->features = 0;
	vn->hdr_len = vnet_features_hdr_len(0);
	vn->ctrl_seen = false;
	write_once(&vn->mtu, vn->told.mtu);
	vnet_driver_forget(vn);
	/* Whoever comes next may have other addresses. */
	if (vn->port)
		vswitch_mac_flush(vn->sw, vn->port);
}

static int net_send_rarp(struct vu_dev *dev, const uint8_t mac[6])
{
	return vnet_rarp_send(vnet_of(dev), mac);
}

/* The front-end has told its driver this MTU. A driver that was told ours may be
 * told less by the operator of the front-end, but not more than ours. */
static int net_set_mtu(struct vu_dev *dev, uint64_t mtu)
{
	struct vnet *vn = vnet_of(dev);

	if (mtu < MTU_MIN || mtu > UINT16_MAX || (vn->told.mtu && mtu > vn->told.mtu)) {
		log_limited(LOG_LEVEL_WARNING, "%s: the front-end wants an MTU of %llu, not %u",
			    vn->name, (unsigned long long)mtu, vn->told.mtu);
		return -ERANGE;
	}
	write_once(&vn->mtu, (uint16_t)mtu);
	vnet_live_refresh(vn);
	return 0;
}

static const struct vu_ops net_ops = {
	.type = "net",
	.features = net_features,
	.set_features = net_set_features,
	.get_config = net_get_config,
	.set_config = net_set_config,
	.vq_setup = net_vq_setup,
	.vq_release = net_vq_release,
	.vq_active = net_vq_active,
	.reset = net_reset,
	.send_rarp = net_send_rarp,
	.set_mtu = net_set_mtu,
};

/* --- life ------------------------------------------------------------------------------- */

void vnet_conf_init(struct vnet_conf *conf)
{
	*conf = (struct vnet_conf){
		.fd = -1,
		.pairs = 1,
		.packed = true,
		.ctrl_vq = true,
		.feature_mask = ~0ull,
		.speed = UINT32_MAX,
		.tx_usecs = TX_USECS,
	};
	sw_port_conf_init(&conf->port);
}

static int check_conf(const struct vnet_conf *conf, char *err)
{
	static const uint8_t none[6];

	if (!conf->socket && conf->fd < 0)
		return fail(err, -EINVAL, "port '%s': neither a socket path nor a descriptor",
			    conf->name);
	if (conf->pairs < 1 || conf->pairs > VIRTIO_NET_PAIRS_MAX)
		return fail(err, -EINVAL, "port '%s': %u queues, expected 1 to %d", conf->name,
			    conf->pairs, VIRTIO_NET_PAIRS_MAX);
	if (conf->mtu && conf->mtu < MTU_MIN)
		return fail(err, -EINVAL, "port '%s': MTU %u, expected %d to 65535", conf->name,
			    conf->mtu, MTU_MIN);
	if (conf->tx_usecs > VNET_TX_USECS_MAX)
		return fail(err, -EINVAL, "port '%s': tx-usecs %u, expected 0 to %d", conf->name,
			    conf->tx_usecs, VNET_TX_USECS_MAX);
	if (conf->has_mac && (conf->mac[0] & 1 || !memcmp(conf->mac, none, sizeof(none))))
		return fail(err, -EINVAL, "port '%s': the MAC address is no station's", conf->name);
	return 0;
}

static int create_dev(struct vnet *vn, const struct vnet_conf *conf, char *err)
{
	const struct vu_conf vc = {
		.name = vn->name,
		.socket = conf->socket,
		.mode = conf->mode,
		.fd = conf->fd,
		.queues = vn->nr_rings,
		.queue_size_max = conf->queue_size_max,
		.config_len = sizeof(struct virtio_net_config),
		.feature_mask = conf->feature_mask,
		.ops = &net_ops,
		.priv = vn,
		.ev = conf->ev,
		.loops = conf->loops,
		.nr_loops = conf->nr_loops,
	};
	int ret = vu_dev_create(&vc, &vn->dev);

	if (ret == -EADDRINUSE)
		return fail(err, ret, "socket '%s': a live server is listening there",
			    conf->socket);
	if (ret == -EEXIST)
		return fail(err, ret, "socket '%s': exists and is not a socket", conf->socket);
	if (ret < 0 && conf->fd < 0)
		return fail(err, ret, "socket '%s': %s", conf->socket, strerror(-ret));
	if (ret < 0)
		return fail(err, ret, "port '%s': descriptor %d: %s", vn->name, conf->fd,
			    strerror(-ret));
	return 0;
}

static size_t queues_len(const struct vnet *vn)
{
	return (2 * vn->pairs + 1) * sizeof(*vn->queue);
}

static void vnet_free(struct vnet *vn)
{
	if (!vn)
		return;
	vnet_rarp_fini(vn);
	numa_zfree(vn->queue, vn->queue ? queues_len(vn) : 0);
	numa_zfree(vn, sizeof(*vn));
}

static struct vnet *vnet_alloc(const struct vnet_conf *conf)
{
	struct vnet *vn = numa_zalloc(sizeof(*vn), -1);

	if (!vn)
		return NULL;
	snprintf(vn->name, sizeof(vn->name), "%s", conf->name);
	vn->sw = conf->sw;
	vn->ev = conf->ev;
	vn->told = (struct vnet_told){
		.has_mac = conf->has_mac,
		.mtu = conf->mtu,
		.speed = conf->speed,
	};
	memcpy(vn->told.mac, conf->mac, sizeof(vn->told.mac));
	vn->pairs = conf->pairs;
	vn->offer = vnet_offer(conf);
	vn->nr_rings = 2 * vn->pairs + !!(vn->offer & VNET_BIT(VIRTIO_NET_F_CTRL_VQ));
	vn->mtu = conf->mtu;
	vn->tx_usecs = conf->tx_usecs;
	vn->hdr_len = vnet_features_hdr_len(0);
	vn->link_up = true;
	vnet_live_init(vn);
	vn->queue = numa_zalloc(queues_len(vn), -1);
	if (!vn->queue || vnet_rarp_init(vn) < 0) {
		vnet_free(vn);
		return NULL;
	}
	for (unsigned int i = 0; i < 2 * vn->pairs + 1; i++) {
		vn->queue[i].vn = vn;
		vn->queue[i].index = i;
	}
	return vn;
}

/* No loop knows it, nothing is connected, nothing is waited for. */
static void ended(struct vnet *vn)
{
	void (*gone)(void *opaque) = vn->gone;
	void *opaque = vn->gone_opaque;

	vnet_free(vn);
	if (gone)
		gone(opaque);
}

static void dev_gone(void *opaque)
{
	vnet_live_end(opaque, ended);
}

static void port_gone(void *opaque)
{
	struct vnet *vn = opaque;

	if (vn->dev)
		vu_dev_destroy(vn->dev, dev_gone, vn);
	else
		dev_gone(vn);
}

void vnet_destroy(struct vnet *vn, void (*gone)(void *opaque), void *opaque)
{
	struct sw_port *port = vn->port;

	vn->gone = gone;
	vn->gone_opaque = opaque;
	/* Pairs with the acquire in vnet_tx_poll(). Who has it may use it for the rest
	 * of the turn: sw_port_remove() waits for that. */
	store_release(&vn->port, NULL);
	sw_port_remove(port, port_gone, vn);
}

int vnet_create(const struct vnet_conf *conf, struct vnet **out, char *err)
{
	int ret = check_conf(conf, err), fd = conf->fd;
	struct vnet *vn;

	*out = NULL;
	if (ret < 0)
		goto err_conf;
	vn = vnet_alloc(conf);
	if (!vn) {
		ret = fail(err, -ENOMEM, "port '%s': out of memory", conf->name);
		goto err_conf;
	}
	ret = sw_port_add(conf->sw, conf->name, &vnet_port_ops, vn, &conf->port, &vn->port, err);
	if (ret < 0) {
		vnet_free(vn);
		goto err_fd;
	}
	/* From now on only vnet_destroy() can take it back. */
	*out = vn;
	return create_dev(vn, conf, err); /* which takes the descriptor */

err_conf:
	sw_port_conf_release(&conf->port);
err_fd:
	fd_replace(&fd, -1);
	return ret;
}

/* --- what apps can do ---------------------------------------------------------------------- */

struct sw_port *vnet_port(const struct vnet *vn)
{
	return vn->port;
}

const char *vnet_name(const struct vnet *vn)
{
	return vn->name;
}

const uint8_t *vnet_mac(const struct vnet *vn)
{
	return vn->told.has_mac ? vn->told.mac : NULL;
}

int vnet_set_link(struct vnet *vn, bool up)
{
	if (vn->link_up == up)
		return 0;
	write_once(&vn->link_up, up);
	vnet_live_refresh(vn);
	if (!up)
		vswitch_mac_flush(vn->sw, vn->port);
	vu_dev_config_changed(vn->dev);
	return 0;
}

int vnet_move(struct vnet *vn, int pair, unsigned int loop_index)
{
	unsigned int first = pair < 0 ? 0 : 2 * (unsigned int)pair;
	unsigned int end = pair < 0 ? vn->nr_rings : first + 2;
	int ret = 0;

	if ((pair >= 0 && (unsigned int)pair >= vn->pairs) ||
	    loop_index >= vswitch_nr_lanes(vn->sw))
		return -EINVAL;
	for (unsigned int i = first; i < end && !ret; i++)
		ret = vu_dev_place_ring(vn->dev, i, vswitch_lane(vn->sw, loop_index)->loop);
	return ret;
}
