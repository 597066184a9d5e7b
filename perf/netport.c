/*
 * A virtio-net port as a poll-mode driver has it; see netport.h. Called by
 * vunet-bench. Never waits but while opening.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "perf/netport.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define REGION_LEN (2u << 20)

static_assert(sizeof(struct virtio_net_hdr_mrg_rxbuf) == NETPORT_HDR, "VIRTIO 1.3 header");

static int negotiate(struct netport *p, const struct netport_conf *conf)
{
	uint64_t need = 1ull << VIRTIO_F_VERSION_1;
	int err;

	if (conf->packed)
		need |= 1ull << VIRTIO_F_RING_PACKED;
	if (conf->in_order)
		need |= 1ull << VIRTIO_F_IN_ORDER;
	if (conf->mergeable)
		need |= 1ull << VIRTIO_NET_F_MRG_RXBUF;
	if (conf->iommu)
		need |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
	err = fe_negotiate(&p->fe, need,
			   1ull << FE_PROTO_MQ | 1ull << FE_PROTO_REPLY_ACK |
				   (conf->iommu ? 1ull << FE_PROTO_BACKEND_REQ : 0));
	if (err)
		return err;
	return (p->fe.features & need) == need ? 0 : -EOPNOTSUPP;
}

/* Buffer i of a ring goes back to the device as it is. */
static int give_rx(struct netport *p, uintptr_t i)
{
	const struct drv_buf buf = { .gpa = p->rx_gpa + i * NETPORT_BUF, .len = NETPORT_BUF };
	int id = drv_add(&p->rx, &buf, 0, 1, (void *)i);

	return id < 0 ? id : 0;
}

static int fill_rx(struct netport *p)
{
	int err = 0;

	for (uintptr_t i = 0; i < NETPORT_RING && !err; i++)
		err = give_rx(p, i);
	return err ? err : drv_submit(&p->rx);
}

/* The device never misses. */
static int map(struct netport *p, const struct fe_region *r, enum netport_iommu how)
{
	uint64_t step = how == NETPORT_IOMMU_PAGES ? 4096 : r->size;
	int err = 0;

	for (uint64_t off = 0; off < r->size && how && !err; off += step)
		err = fe_iommu_map(&p->fe, r->gpa + off, step, 3);
	return err;
}

static int set_up(struct netport *p, enum netport_iommu iommu)
{
	struct drv_conf ring = { .size = NETPORT_RING };
	int err;

	ring.region = fe_mem_new(&p->fe, REGION_LEN);
	if (ring.region < 0)
		return ring.region;
	/* Resident before anything is measured. */
	memset(p->fe.region[ring.region].host, 0x5a, REGION_LEN);
	memset(p->fe.region[ring.region].host, 0, REGION_LEN);
	p->rx_gpa = fe_alloc(&p->fe, ring.region, NETPORT_RING * NETPORT_BUF, 4096);
	p->tx_gpa = fe_alloc(&p->fe, ring.region, NETPORT_RING * NETPORT_BUF, 4096);
	if (!p->rx_gpa || !p->tx_gpa)
		return -ENOSPC;
	p->rx_buf = fe_ptr(&p->fe, p->rx_gpa, NETPORT_RING * NETPORT_BUF);
	p->tx_buf = fe_ptr(&p->fe, p->tx_gpa, NETPORT_RING * NETPORT_BUF);
	err = fe_mem_share(&p->fe);
	if (!err)
		err = map(p, &p->fe.region[ring.region], iommu);
	if (!err)
		err = drv_create(&p->rx, &p->fe, 0, &ring);
	if (!err)
		err = drv_create(&p->tx, &p->fe, 1, &ring);
	if (!err)
		err = drv_start(&p->rx);
	if (!err)
		err = drv_start(&p->tx);
	/* Again: some devices remember nothing before they have rings. */
	if (!err)
		err = map(p, &p->fe.region[ring.region], iommu);
	return err ? err : fill_rx(p);
}

int netport_open(struct netport *p, const struct netport_conf *conf)
{
	int err;

	memset(p, 0, sizeof(*p));
	memcpy(p->mac, conf->mac, sizeof(p->mac));
	fe_init(&p->fe);
	err = fe_connect(&p->fe, conf->path);
	if (!err)
		err = negotiate(p, conf);
	if (!err)
		err = set_up(p, conf->iommu);
	if (err)
		netport_close(p);
	return err;
}

void netport_close(struct netport *p)
{
	drv_destroy(&p->rx);
	drv_destroy(&p->tx);
	fe_close(&p->fe);
}

void netport_hold(struct netport *p)
{
	p->hold = true;
}

int netport_flush(struct netport *p)
{
	int err = drv_submit(&p->tx);

	return err ? err : drv_submit(&p->rx);
}

uint8_t *netport_frame(struct netport *p)
{
	uint32_t len;
	void *cookie;

	/* Some devices give transmit buffers back late, and all at once. */
	while (drv_reap(&p->tx, &cookie, &len) > 0)
		p->tx_busy[(uintptr_t)cookie] = false;
	if (p->tx_busy[p->tx_next])
		return NULL;
	return p->tx_buf + (size_t)p->tx_next * NETPORT_BUF + NETPORT_HDR;
}

int netport_send(struct netport *p, uint32_t len)
{
	const struct drv_buf buf = { .gpa = p->tx_gpa + (uint64_t)p->tx_next * NETPORT_BUF,
				     .len = len + NETPORT_HDR };
	int id;

	memset(p->tx_buf + (size_t)p->tx_next * NETPORT_BUF, 0, NETPORT_HDR);
	id = drv_add(&p->tx, &buf, 1, 0, (void *)(uintptr_t)p->tx_next);
	if (id < 0)
		return id;
	p->tx_busy[p->tx_next] = true;
	p->tx_next = (uint16_t)((p->tx_next + 1) % NETPORT_RING);
	return p->hold ? 0 : drv_submit(&p->tx);
}

const uint8_t *netport_receive(struct netport *p, uint32_t *len, int *err)
{
	void *cookie;
	uintptr_t i;
	int n;

	n = drv_reap(&p->rx, &cookie, len);
	if (n <= 0) {
		*err = n;
		return NULL;
	}
	i = (uintptr_t)cookie;
	if (*len < NETPORT_HDR || *len > NETPORT_BUF) {
		*err = -EPROTO;
		return NULL;
	}
	*len -= NETPORT_HDR;
	/* Back to the device at once: it writes there again only after a whole
	 * round of the ring, and the caller is done with it long before. */
	*err = give_rx(p, i);
	if (!*err && !p->hold)
		*err = drv_submit(&p->rx);
	return p->rx_buf + i * NETPORT_BUF + NETPORT_HDR;
}
