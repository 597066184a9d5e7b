/*
 * What a device and a loop are doing, as JSON. Called by the control socket's
 * methods; only reads, and shows no address of this process or the front-end.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdio.h>
#include <time.h>

#include "core/atomic.h"
#include "core/cpu.h"
#include "vhost/vu_internal.h"
#include "vhost/vu_request.h"

static const char *const ring_features[64] = {
	[VIRTIO_F_NOTIFY_ON_EMPTY] = "NOTIFY_ON_EMPTY",
	[VHOST_F_LOG_ALL] = "LOG_ALL",
	[VIRTIO_F_ANY_LAYOUT] = "ANY_LAYOUT",
	[VIRTIO_F_RING_INDIRECT_DESC] = "INDIRECT_DESC",
	[VIRTIO_F_RING_EVENT_IDX] = "EVENT_IDX",
	[VHOST_USER_F_PROTOCOL_FEATURES] = "PROTOCOL_FEATURES",
	[VIRTIO_F_VERSION_1] = "VERSION_1",
	[VIRTIO_F_ACCESS_PLATFORM] = "ACCESS_PLATFORM",
	[VIRTIO_F_RING_PACKED] = "RING_PACKED",
	[VIRTIO_F_IN_ORDER] = "IN_ORDER",
};

static const char *const protocol_features[64] = {
	[VHOST_USER_PROTOCOL_F_MQ] = "MQ",
	[VHOST_USER_PROTOCOL_F_LOG_SHMFD] = "LOG_SHMFD",
	[VHOST_USER_PROTOCOL_F_RARP] = "RARP",
	[VHOST_USER_PROTOCOL_F_REPLY_ACK] = "REPLY_ACK",
	[VHOST_USER_PROTOCOL_F_MTU] = "MTU",
	[VHOST_USER_PROTOCOL_F_BACKEND_REQ] = "BACKEND_REQ",
	[VHOST_USER_PROTOCOL_F_CONFIG] = "CONFIG",
	[VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD] = "BACKEND_SEND_FD",
	[VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD] = "INFLIGHT_SHMFD",
	[VHOST_USER_PROTOCOL_F_RESET_DEVICE] = "RESET_DEVICE",
	[VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS] = "CONFIGURE_MEM_SLOTS",
	[VHOST_USER_PROTOCOL_F_STATUS] = "STATUS",
};

static void add_bit(json_t *list, unsigned int bit, const char *name)
{
	char number[16];

	if (!name) {
		snprintf(number, sizeof(number), "bit%u", bit);
		name = number;
	}
	json_array_append_new(list, json_string(name));
}

/* The device type names its own bits, the ring's are known here. */
static json_t *feature_list(uint64_t features, const char *(*feature_name)(unsigned int bit))
{
	json_t *list = json_array();

	for (unsigned int bit = 0; bit < 64; bit++) {
		const char *name = ring_features[bit];

		if (!(features & BIT64(bit)))
			continue;
		if (!name && feature_name)
			name = feature_name(bit);
		add_bit(list, bit, name);
	}
	return list;
}

static json_t *protocol_feature_list(uint64_t features)
{
	json_t *list = json_array();

	for (unsigned int bit = 0; bit < 64; bit++)
		if (features & BIT64(bit))
			add_bit(list, bit, protocol_features[bit]);
	return list;
}

/* As a mask that can be given back. Without bits that are between the front-end
 * and us. */
static json_t *feature_mask(uint64_t features)
{
	return json_sprintf("0x%llx", (unsigned long long)(features & ~VU_VHOST_FEATURES));
}

/* The NUMA node that holds the ring, to be compared with its loop's; null if it
 * is on no loop or that cannot be told. */
static json_t *memory_node(const struct vu_ring *vr)
{
	const void *ring = NULL;
	int node;

	if (vu_ring_is_on_loop(vr))
		ring = gmem_uva_ptr(vr->dev->gm, uva(vr->addr.desc), 1);
	node = ring ? numa_node_of(ring) : -1;
	return node < 0 ? json_null() : json_integer(node);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The share of wall time since the last call that busy_ns grew by: what a loop
 * itself counts as idle or asleep it only adds up when it wakes. */
static double busy_share(struct loop_sample *last, uint64_t busy_ns)
{
	struct loop_sample now = { .time_ns = now_ns(), .busy_ns = busy_ns };
	double share = 0;

	if (last->time_ns && now.time_ns > last->time_ns)
		share = (double)(now.busy_ns - last->busy_ns) /
			(double)(now.time_ns - last->time_ns);
	*last = now;
	/* A tick may end after the clock was read, and a ring's time is estimated. */
	return share > 1 ? 1 : share;
}

static json_t *ring_status(struct vu_ring *vr)
{
	const struct virtq_stats *s = &vr->vq.stats;
	json_t *obj = json_object();

	json_object_set_new(obj, "index", json_integer(vr->index));
	json_object_set_new(obj, "state", json_string(vu_ring_state_name(vr)));
	json_object_set_new(obj, "enabled", json_boolean(vr->enabled));
	json_object_set_new(obj, "size", json_integer(vr->size));
	json_object_set_new(obj, "loop",
			    vu_ring_is_on_loop(vr) ? json_integer(loop_index(vr->vq.loop))
						   : json_null());
	json_object_set_new(obj, "memory-node", memory_node(vr));
	json_object_set_new(obj, "busy",
			    json_real(busy_share(&vr->sample, counter_read(&s->busy_ns))));
	json_object_set_new(obj, "chains", json_integer((json_int_t)counter_read(&s->chains)));
	json_object_set_new(obj, "notifications",
			    json_integer((json_int_t)counter_read(&s->notifications)));
	json_object_set_new(obj, "kicks", json_integer((json_int_t)counter_read(&s->kicks)));
	json_object_set_new(obj, "bad-chains",
			    json_integer((json_int_t)counter_read(&s->bad_chains)));
	return obj;
}

static json_t *region_status(const struct gmem_region *r)
{
	json_t *obj = json_object();

	json_object_set_new(obj, "gpa", json_integer((json_int_t)r->gpa));
	json_object_set_new(obj, "size", json_integer((json_int_t)r->size));
	json_object_set_new(obj, "page-size", json_integer((json_int_t)r->page_size));
	return obj;
}

json_t *vu_dev_status(struct vu_dev *dev, const char *(*feature_name)(unsigned int bit))
{
	json_t *obj = json_object(), *memory = json_array(), *rings = json_array();

	for (unsigned int i = 0; i < dev->nr_regions; i++)
		json_array_append_new(memory, region_status(dev->regions[i].r));
	for (unsigned int i = 0; i < dev->queues; i++)
		json_array_append_new(rings, ring_status(&dev->rings[i]));

	json_object_set_new(obj, "name", json_string(dev->name));
	json_object_set_new(obj, "type", json_string(dev->ops->type));
	json_object_set_new(obj, "socket", dev->socket ? json_string(dev->socket) : json_null());
	json_object_set_new(obj, "mode",
			    json_string(dev->mode == VU_CONNECT ? "connect" : "listen"));
	json_object_set_new(obj, "connection", json_string(vu_conn_state_name(dev)));
	json_object_set_new(obj, "features", feature_list(dev->features, feature_name));
	json_object_set_new(obj, "features-offered", feature_mask(vu_offered_features(dev)));
	json_object_set_new(obj, "features-negotiated", feature_mask(dev->features));
	json_object_set_new(obj, "protocol-features",
			    protocol_feature_list(dev->protocol_features));
	json_object_set_new(obj, "device-status", json_integer(dev->status));
	json_object_set_new(obj, "packed",
			    json_boolean(dev->features & BIT64(VIRTIO_F_RING_PACKED)));
	json_object_set_new(obj, "logging",
			    json_boolean(dev->log && dev->features & BIT64(VHOST_F_LOG_ALL)));
	json_object_set_new(obj, "in-flight-kept", json_boolean(dev->tracked.r));
	json_object_set_new(obj, "memory-lost", json_boolean(read_once(&dev->faulted)));
	json_object_set_new(obj, "iotlb", vu_iotlb_status(dev));
	json_object_set_new(obj, "memory", memory);
	json_object_set_new(obj, "rings", rings);
	return obj;
}

json_t *loop_status(struct loop *loop)
{
	const struct loop_stats *s = loop_get_stats(loop);
	json_t *obj = json_object();
	char name[24];

	snprintf(name, sizeof(name), "loop%u", loop_index(loop));
	json_object_set_new(obj, "name", json_string(name));
	json_object_set_new(obj, "cpu", json_integer(loop_cpu(loop)));
	json_object_set_new(obj, "node", json_integer(loop_node(loop)));
	json_object_set_new(obj, "mode", json_string(loop_mode_names[loop_get_mode(loop)]));
	json_object_set_new(obj, "alone", json_boolean(loop_is_alone(loop)));
	json_object_set_new(obj, "rings", json_integer(loop_nr_rings(loop)));
	json_object_set_new(
		obj, "busy",
		json_real(busy_share(loop_get_sample(loop), counter_read(&s->busy_ns))));
	json_object_set_new(obj, "turns", json_integer((json_int_t)counter_read(&s->turns)));
	json_object_set_new(obj, "sleeps", json_integer((json_int_t)counter_read(&s->sleeps)));
	return obj;
}
