/*
 * The virtio block device: features, configuration space, rings, life cycle.
 * Called by apps (vblk.h) and, through struct vu_ops, by the vhost-user core, on
 * the control thread. Requests are in vblk_req.c; nothing here is on the data
 * path.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-blk/vblk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cpu.h"
#include "core/log.h"
#include "virtio-blk/vblk_internal.h"

static_assert(VBLK_ERR_LEN == STORE_ERR_LEN, "store_open() writes to vblk_create()'s err");
static_assert(VBLK_SERIAL_MAX == VIRTIO_BLK_ID_BYTES, "the serial is what GET_ID answers");
static_assert(VBLK_CACHE_AUTO == STORE_CACHE_AUTO, "index of the same word");

#define BLOCK_MAX 4096u /* the largest logical block */

static const char *feature_name(unsigned int bit)
{
	switch (bit) {
	case VIRTIO_BLK_F_SIZE_MAX:
		return "SIZE_MAX";
	case VIRTIO_BLK_F_SEG_MAX:
		return "SEG_MAX";
	case VIRTIO_BLK_F_RO:
		return "RO";
	case VIRTIO_BLK_F_BLK_SIZE:
		return "BLK_SIZE";
	case VIRTIO_BLK_F_FLUSH:
		return "FLUSH";
	case VIRTIO_BLK_F_TOPOLOGY:
		return "TOPOLOGY";
	case VIRTIO_BLK_F_CONFIG_WCE:
		return "CONFIG_WCE";
	case VIRTIO_BLK_F_MQ:
		return "MQ";
	case VIRTIO_BLK_F_DISCARD:
		return "DISCARD";
	case VIRTIO_BLK_F_WRITE_ZEROES:
		return "WRITE_ZEROES";
	case VIRTIO_BLK_F_SECURE_ERASE:
		return "SECURE_ERASE";
	default:
		return NULL;
	}
}

/* --- features and configuration space -------------------------------------- */

static uint64_t blk_features(struct vu_dev *dev)
{
	const struct vblk *blk = vu_dev_priv(dev);
	uint32_t caps = blk->store->info.caps;
	uint64_t f = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH |
		     1ull << VIRTIO_BLK_F_TOPOLOGY | 1ull << VIRTIO_BLK_F_CONFIG_WCE |
		     1ull << VIRTIO_BLK_F_MQ;

	f |= 1ull << VIRTIO_F_ANY_LAYOUT | 1ull << VIRTIO_F_RING_INDIRECT_DESC |
	     1ull << VIRTIO_F_RING_EVENT_IDX;
	if (blk->packed)
		f |= 1ull << VIRTIO_F_RING_PACKED;
	/* Asked for: some front-ends accept the bit and know no IOTLB messages
	 * (Linux's virtio_uml). */
	if (blk->iommu)
		f |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
	/* In order, a read from the cache would wait for the disk's slowest one
	 * before it. Where each request ends as it starts, order is free. */
	if (blk->store->ops->immediate)
		f |= 1ull << VIRTIO_F_IN_ORDER;
	if (!(caps & STORE_CAN_WRITE))
		f |= 1ull << VIRTIO_BLK_F_RO;
	if (caps & STORE_CAN_DISCARD)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (caps & STORE_CAN_WRITE_ZEROES)
		f |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	if (caps & STORE_CAN_SECURE_ERASE)
		f |= 1ull << VIRTIO_BLK_F_SECURE_ERASE;
	return f;
}

/*
 * The writeback field. Until the driver writes it: on, unless the operator or a
 * driver that cannot flush wants otherwise. Made from the features each time:
 * firmware that cannot flush is followed by a system that can, without a reset
 * that would be seen here.
 */
static bool is_writeback(const struct vblk *blk, uint64_t features)
{
	if (blk->wce != VBLK_WCE_UNSET)
		return blk->wce == VBLK_WCE_ON;
	/* VIRTIO 1.3, "Block Device", "Device Initialization": 0 without FLUSH. */
	if (features && !(features & 1ull << VIRTIO_BLK_F_FLUSH))
		return false;
	return !blk->store->info.write_through;
}

/* VIRTIO 1.3, "Block Device", "Device Operation": which writes must be durable
 * when they end. */
static void update_cache_mode(struct vblk *blk, uint64_t features)
{
	bool can_choose = features & 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	bool can_flush = features & 1ull << VIRTIO_BLK_F_FLUSH;

	write_once(&blk->write_through, !(can_choose || can_flush) || !is_writeback(blk, features));
}

static void blk_set_features(struct vu_dev *dev, uint64_t features)
{
	update_cache_mode(vu_dev_priv(dev), features);
}

static uint32_t sectors(uint64_t bytes)
{
	return (uint32_t)min_u64(bytes >> VIRTIO_BLK_SECTOR_SHIFT, UINT32_MAX);
}

static void fill_config(const struct vblk *blk, uint64_t features, struct virtio_blk_config *c)
{
	const struct store_info *info = &blk->store->info;
	uint32_t ratio = info->physical_block_size / info->block_size;
	uint32_t seg_max = VBLK_SEG_MAX, size_max = VBLK_SIZE_MAX;

	/* Without indirect descriptors, header and status take two of the ring. */
	if (blk->queue_size && blk->queue_size < VBLK_SEG_MAX + 2)
		seg_max = blk->queue_size > 3 ? blk->queue_size - 2 : 1;
	if (info->transfer_max)
		size_max = round_down(info->transfer_max / VBLK_SEG_MAX, BLOCK_MAX);
	*c = (struct virtio_blk_config){
		.capacity = cpu_to_le64(info->size >> VIRTIO_BLK_SECTOR_SHIFT),
		.size_max = cpu_to_le32(size_max),
		.seg_max = cpu_to_le32(seg_max),
		.blk_size = cpu_to_le32(info->block_size),
		.topology.physical_block_exp = (uint8_t)__builtin_ctz(ratio ? ratio : 1),
		.topology.min_io_size = cpu_to_le16((uint16_t)(ratio ? ratio : 1)),
		.topology.opt_io_size = cpu_to_le32(info->opt_io_size / info->block_size),
		.writeback = is_writeback(blk, features),
		.num_queues = cpu_to_le16((uint16_t)blk->queues),
	};
	if (info->caps & STORE_CAN_DISCARD) {
		c->max_discard_sectors = cpu_to_le32(sectors(info->range_max_len));
		c->max_discard_seg = cpu_to_le32(info->range_max_nr);
		c->discard_sector_alignment = cpu_to_le32(sectors(info->discard_granularity));
	}
	if (info->caps & STORE_CAN_WRITE_ZEROES) {
		c->max_write_zeroes_sectors = cpu_to_le32(sectors(info->range_max_len));
		c->max_write_zeroes_seg = cpu_to_le32(info->range_max_nr);
		c->write_zeroes_may_unmap = !!(info->caps & STORE_CAN_DISCARD);
	}
	if (info->caps & STORE_CAN_SECURE_ERASE) {
		c->max_secure_erase_sectors = cpu_to_le32(sectors(info->range_max_len));
		c->max_secure_erase_seg = cpu_to_le32(info->range_max_nr);
		c->secure_erase_sector_alignment = cpu_to_le32(sectors(info->block_size));
	}
}

static void blk_get_config(struct vu_dev *dev, void *buf, uint32_t off, uint32_t len)
{
	struct virtio_blk_config c;

	fill_config(vu_dev_priv(dev), vu_dev_features(dev), &c);
	memcpy(buf, (const uint8_t *)&c + off, len);
}

/* It is told that nothing has changed, if the disk fails. */
static int end_sync(struct vblk *blk, int ret)
{
	if (ret < 0) {
		blk->wce = blk->syncing.before;
		update_cache_mode(blk, vu_dev_features(blk->dev));
	}
	return ret;
}

static void sync_run(struct worker_job *job)
{
	struct vblk *blk = container_of(job, struct vblk, syncing.job);

	blk->syncing.result = blk->store->ops->sync(blk->store);
	ev_post(blk->ev, &blk->syncing.done);
}

static void sync_done(struct ev_work *w)
{
	struct vblk *blk = container_of(w, struct vblk, syncing.done);

	worker_destroy(blk->syncing.worker);
	vu_dev_config_set(blk->dev, end_sync(blk, blk->syncing.result));
}

static int begin_sync(struct vblk *blk)
{
	blk->syncing.worker = worker_create();
	if (!blk->syncing.worker)
		return end_sync(blk, blk->store->ops->sync(blk->store));
	blk->syncing.job.run = sync_run;
	blk->syncing.done.run = sync_done;
	worker_post(blk->syncing.worker, &blk->syncing.job);
	return -EINPROGRESS;
}

/* The driver may write one field, writeback. A migration writes whatever the
 * other side had; of that, too, only this field is ours to take over. */
static int blk_set_config(struct vu_dev *dev, const void *buf, uint32_t off, uint32_t len,
			  bool migration)
{
	const uint32_t at = offsetof(struct virtio_blk_config, writeback);
	struct vblk *blk = vu_dev_priv(dev);
	bool was_write_back = !blk->write_through;
	uint8_t value;

	if (off > at || len <= at - off)
		return migration ? 0 : -EINVAL;
	if (!migration &&
	    (off != at || len != 1 || !(vu_dev_features(dev) & 1ull << VIRTIO_BLK_F_CONFIG_WCE)))
		return -EINVAL;
	value = ((const uint8_t *)buf)[at - off];
	if (value > 1)
		return -EINVAL;
	blk->syncing.before = blk->wce;
	blk->wce = value ? VBLK_WCE_ON : VBLK_WCE_OFF;
	update_cache_mode(blk, vu_dev_features(dev));
	/* The driver will not flush any more, and counts on what ended before. */
	if (was_write_back && blk->write_through && blk->store->ops->sync)
		return begin_sync(blk);
	return 0;
}

static void blk_reset(struct vu_dev *dev)
{
	struct vblk *blk = vu_dev_priv(dev);

	blk->wce = VBLK_WCE_UNSET;
	update_cache_mode(blk, 0);
}

/* --- rings ------------------------------------------------------------------ */

static void ring_destroy(struct vblk_ring *ring)
{
	if (!ring)
		return;
	if (ring->chan)
		ring->store->ops->chan_close(ring->chan);
	numa_zfree(ring->iov, (size_t)ring->nr_req * VBLK_IOV_MAX * sizeof(*ring->iov));
	numa_zfree(ring->req, ring->nr_req * sizeof(*ring->req));
	numa_zfree(ring, sizeof(*ring));
}

static int blk_vq_setup(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct vblk *blk = vu_dev_priv(dev);
	int node = loop_node(vq->loop), ret = -ENOMEM;
	struct vblk_ring *ring;

	assert(index < blk->queues && !blk->ring[index]);
	ring = numa_zalloc(sizeof(*ring), node);
	if (!ring)
		return -ENOMEM;
	ring->vq = vq;
	ring->blk = blk;
	ring->store = blk->store;
	ring->submit = blk->store->ops->submit;
	ring->immediate = blk->store->ops->immediate;
	ring->block_mask = blk->store->info.block_size - 1;
	ring->len_max = blk->store->info.transfer_max ? blk->store->info.transfer_max : UINT64_MAX;
	ring->nr_req = ring->immediate ? 1 : vq->conf.size;
	/* Pages come as they are touched: deep rings that are never filled and long
	 * iovecs that are never needed cost addresses only. */
	ring->req = numa_zalloc(ring->nr_req * sizeof(*ring->req), node);
	ring->iov = numa_zalloc((size_t)ring->nr_req * VBLK_IOV_MAX * sizeof(*ring->iov), node);
	if (!ring->req || !ring->iov)
		goto err_ring;
	ret = blk->store->ops->chan_open(blk->store, vq->loop, vq->conf.size, &ring->chan);
	if (ret < 0)
		goto err_ring;
	vblk_ring_init(ring);
	ring->stats = blk->stopped_stats[index];
	vq->priv = ring;
	blk->ring[index] = ring;
	return 0;

err_ring:
	ring_destroy(ring);
	return ret;
}

static void blk_vq_release(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct vblk *blk = vu_dev_priv(dev);

	blk->stopped_stats[index] = blk->ring[index]->stats;
	ring_destroy(blk->ring[index]);
	blk->ring[index] = NULL;
	vq->priv = NULL;
}

/* --- the rest of struct vu_ops ---------------------------------------------- */

static void blk_mem_added(struct vu_dev *dev, struct gmem_region *r)
{
	struct store *store = ((struct vblk *)vu_dev_priv(dev))->store;

	if (store->ops->mem_added)
		store->ops->mem_added(store, r);
}

static void blk_mem_removed(struct vu_dev *dev, struct gmem_region *r)
{
	struct store *store = ((struct vblk *)vu_dev_priv(dev))->store;

	if (store->ops->mem_removed)
		store->ops->mem_removed(store, r);
}

static int blk_activate(struct vu_dev *dev)
{
	struct store *store = ((struct vblk *)vu_dev_priv(dev))->store;

	return store->ops->activate ? store->ops->activate(store) : 0;
}

static void blk_deactivate(struct vu_dev *dev)
{
	struct store *store = ((struct vblk *)vu_dev_priv(dev))->store;

	if (store->ops->deactivate)
		store->ops->deactivate(store);
}

static const struct vu_ops blk_ops = {
	.type = "block",
	.features = blk_features,
	.set_features = blk_set_features,
	.get_config = blk_get_config,
	.holds_chains = true,
	.set_config = blk_set_config,
	.vq_setup = blk_vq_setup,
	.vq_release = blk_vq_release,
	.vq_poll = vblk_poll,
	.mem_added = blk_mem_added,
	.mem_removed = blk_mem_removed,
	.reset = blk_reset,
	.activate = blk_activate,
	.deactivate = blk_deactivate,
};

/* --- life cycle -------------------------------------------------------------- */

void vblk_conf_init(struct vblk_conf *conf)
{
	*conf = (struct vblk_conf){
		.fd = -1,
		.queues = 1,
		.cache = STORE_CACHE_AUTO,
		.lock = STORE_LOCK_OPEN,
		/* Off: pinned pages and a guest that gives memory back do not go
		 * together, see fixed-buffers in the manual. */
		.fixed_buffers = false,
		.packed = true,
	};
}

static int check_conf(const struct vblk_conf *conf, const char *name, char *err)
{
	if (!conf->socket && conf->fd < 0)
		return store_fail(err, -EINVAL,
				  "device '%s': neither a socket path nor a descriptor", name);
	if (strlen(name) >= VU_NAME_MAX || !*name)
		return store_fail(err, -EINVAL, "device name '%s': expected 1 to %d bytes", name,
				  VU_NAME_MAX - 1);
	if (conf->queues < 1 || conf->queues > VBLK_QUEUES_MAX)
		return store_fail(err, -EINVAL, "device '%s': %u queues, expected 1 to %d", name,
				  conf->queues, VBLK_QUEUES_MAX);
	if (conf->serial && strlen(conf->serial) > VBLK_SERIAL_MAX)
		return store_fail(err, -EINVAL,
				  "device '%s': serial '%s' is too long, expected at most %d bytes",
				  name, conf->serial, VBLK_SERIAL_MAX);
	return 0;
}

static int open_store(struct vblk *blk, const struct vblk_conf *conf, char *err)
{
	const struct store_conf sc = {
		.spec = conf->store,
		.read_only = conf->read_only,
		.cache = conf->cache,
		.lock = conf->lock,
		.block_size = conf->block_size,
		.iopoll = conf->iopoll,
		.sqpoll = conf->sqpoll,
		.fixed_buffers = conf->fixed_buffers,
		.ev = conf->ev,
	};

	return store_open(&sc, &blk->store, err);
}

static int create_dev(struct vblk *blk, const struct vblk_conf *conf, char *err)
{
	const struct vu_conf vc = {
		.name = blk->name,
		.socket = conf->socket,
		.mode = conf->connect ? VU_CONNECT : VU_LISTEN,
		.fd = conf->fd,
		.queues = blk->queues,
		.queue_size_max = blk->queue_size,
		.config_len = sizeof(struct virtio_blk_config),
		.feature_mask = ~0ull,
		.ops = &blk_ops,
		.priv = blk,
		.ev = conf->ev,
		.loops = conf->loops,
		.nr_loops = conf->nr_loops,
	};
	int ret = vu_dev_create(&vc, &blk->dev);

	if (ret == -EADDRINUSE)
		return store_fail(err, ret, "socket '%s': a live server is listening there",
				  conf->socket);
	if (ret == -EEXIST)
		return store_fail(err, ret, "socket '%s': exists and is not a socket",
				  conf->socket);
	if (ret < 0 && conf->socket)
		return store_fail(err, ret, "socket '%s': %s", conf->socket, strerror(-ret));
	if (ret < 0)
		return store_fail(err, ret, "device '%s': descriptor %d: %s", blk->name, conf->fd,
				  strerror(-ret));
	return 0;
}

static void vblk_free(struct vblk *blk)
{
	if (!blk)
		return;
	free(blk->name);
	free(blk->socket);
	free(blk);
}

static struct vblk *vblk_alloc(const struct vblk_conf *conf, const char *name)
{
	const char *serial = conf->serial ? conf->serial : name;
	struct vblk *blk = calloc(1, sizeof(*blk));

	if (!blk)
		return NULL;
	blk->name = strdup(name);
	blk->socket = conf->socket ? strdup(conf->socket) : NULL;
	if (!blk->name || (conf->socket && !blk->socket)) {
		vblk_free(blk);
		return NULL;
	}
	memcpy(blk->serial, serial, min_u64(strlen(serial), sizeof(blk->serial)));
	blk->ev = conf->ev;
	blk->read_only = conf->read_only;
	blk->packed = conf->packed;
	blk->iommu = conf->iommu;
	blk->cache = conf->cache;
	blk->lock = conf->lock;
	blk->queues = conf->queues;
	blk->queue_size = conf->queue_size;
	return blk;
}

int vblk_create(const struct vblk_conf *conf, struct vblk **out, char *err)
{
	static unsigned int nr_unnamed;
	char generated[32];
	const char *name = conf->name;
	struct vblk *blk;
	int ret;

	if (!name) {
		snprintf(generated, sizeof(generated), "vblk%u", nr_unnamed++);
		name = generated;
	}
	ret = check_conf(conf, name, err);
	if (ret < 0)
		goto err_fd;
	blk = vblk_alloc(conf, name);
	if (!blk) {
		ret = store_fail(err, -ENOMEM, "device '%s': out of memory", name);
		goto err_fd;
	}
	ret = open_store(blk, conf, err);
	if (ret < 0)
		goto err_blk;
	update_cache_mode(blk, 0);
	ret = create_dev(blk, conf, err);
	if (ret < 0)
		goto err_store;
	*out = blk;
	return 0;

err_store:
	store_close(blk->store, NULL, NULL);
	vblk_free(blk);
	return ret; /* vu_dev_create() took the descriptor */
err_blk:
	vblk_free(blk);
err_fd:
	if (conf->fd >= 0)
		close(conf->fd);
	return ret;
}

static void store_gone(void *opaque)
{
	struct vblk *blk = opaque;
	void (*gone)(void *opaque) = blk->gone;

	opaque = blk->opaque;
	vblk_free(blk);
	if (gone)
		gone(opaque);
}

static void dev_gone(void *opaque)
{
	struct vblk *blk = opaque;

	store_close(blk->store, store_gone, blk);
}

void vblk_destroy(struct vblk *blk, void (*gone)(void *opaque), void *opaque)
{
	blk->gone = gone;
	blk->opaque = opaque;
	vu_dev_destroy(blk->dev, dev_gone, blk);
}

const char *vblk_name(const struct vblk *blk)
{
	return blk->name;
}

int vblk_resize(struct vblk *blk, uint64_t size, char *err)
{
	uint64_t old = blk->store->info.size;
	int ret = store_resize(blk->store, size, err);

	if (ret < 0)
		return ret;
	if (blk->store->info.size != old) {
		log_info("%s: resized from %llu to %llu bytes", blk->name, (unsigned long long)old,
			 (unsigned long long)blk->store->info.size);
		vu_dev_config_changed(blk->dev);
	}
	return 0;
}

/* What the device type counts per ring. */
static json_t *ring_counters(const struct vblk_stats *s)
{
	uint64_t requests = 0;

	for (unsigned int op = 0; op < STORE_OP_CNT; op++)
		requests += counter_read(&s->ops[op]);
	return json_pack("{s:I s:I s:I s:I s:I s:I s:I s:I s:I s:I}", /**/
			 "requests", (json_int_t)requests, /**/
			 "reads", (json_int_t)counter_read(&s->ops[STORE_READ]), /**/
			 "writes", (json_int_t)counter_read(&s->ops[STORE_WRITE]), /**/
			 "flushes", (json_int_t)counter_read(&s->ops[STORE_FLUSH]), /**/
			 "discards", (json_int_t)counter_read(&s->ops[STORE_DISCARD]), /**/
			 "write-zeroes", (json_int_t)counter_read(&s->ops[STORE_WRITE_ZEROES]), /**/
			 "secure-erases",
			 (json_int_t)counter_read(&s->ops[STORE_SECURE_ERASE]), /**/
			 "read-bytes", (json_int_t)counter_read(&s->read_bytes), /**/
			 "written-bytes", (json_int_t)counter_read(&s->written_bytes), /**/
			 "errors", (json_int_t)counter_read(&s->errors));
}

json_t *vblk_status(struct vblk *blk)
{
	const struct store_info *info = &blk->store->info;
	json_t *o, *dev, *rings, *counters;

	o = json_pack("{s:s s:s s:s? s:s% s:i s:i s:b s:s s:s s:i s:b s:b s:I s:i s:i s:s}", /**/
		      "name", blk->name, /**/
		      "store", blk->store->spec, /**/
		      "socket", blk->socket, /**/
		      "serial", blk->serial, strnlen(blk->serial, sizeof(blk->serial)), /**/
		      "queues", (int)blk->queues, /**/
		      "queue-size", (int)blk->queue_size, /**/
		      "read-only", !(info->caps & STORE_CAN_WRITE), /**/
		      "cache", vblk_cache_names[blk->cache], /**/
		      "lock", vblk_lock_names[blk->lock], /**/
		      "block-size", (int)info->block_size, /**/
		      "packed", blk->packed, /**/
		      "iommu", blk->iommu, /**/
		      "capacity", (json_int_t)info->size, /**/
		      "physical-block-size", (int)info->physical_block_size, /**/
		      "discard-granularity", (int)info->discard_granularity, /**/
		      "write-cache", blk->write_through ? "writethrough" : "writeback");
	dev = vu_dev_status(blk->dev, feature_name);
	if (o && dev)
		json_object_update_missing(o, dev);
	json_decref(dev);
	rings = json_object_get(o, "rings");
	for (unsigned int i = 0; i < blk->queues; i++) {
		counters =
			ring_counters(blk->ring[i] ? &blk->ring[i]->stats : &blk->stopped_stats[i]);
		json_object_update(json_array_get(rings, i), counters);
		json_decref(counters);
	}
	if (o && blk->store->ops->status)
		blk->store->ops->status(blk->store, o);
	return o;
}
