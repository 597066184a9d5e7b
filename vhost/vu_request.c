/*
 * The table of vhost-user requests, and those that concern the device as a
 * whole. Called by the connection (vu_dev.c) with each message. Never handles a
 * message that does not fit its row of the table, and never asserts on one.
 *
 * Theory of operation
 *
 * A row says the payload's size, the number of descriptors, where a ring index
 * is, and which protocol feature must have been negotiated. All of it is
 * checked before the handler runs, so handlers only judge values.
 *
 * A refused request (a handler's -errno, a row that does not fit, an unknown
 * request) leaves the stream readable, since the header told its length. With
 * REPLY_ACK and NEED_REPLY the front-end learns of it and the connection goes
 * on. Otherwise it would believe the request was carried out, or wait for a
 * reply that has no way to say no: the connection is closed. VHOST_USER_
 * GET_CONFIG has its own way to say no. What makes the stream itself unreadable
 * always closes it (vu_msg.c).
 *
 * A new request is one row here and one handler. Rows that other work will add:
 * device state (42, 43).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/vu_request.h"

#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "vhost/vu_internal.h"

/* --- features --------------------------------------------------------------- */

uint64_t vu_offered_features(struct vu_dev *dev)
{
	uint64_t f = dev->ops->features(dev) | BIT64(VIRTIO_F_VERSION_1);

	/* The protocol's own bits are no driver's, and so in no mask made of what one
	 * has negotiated. */
	return (f & dev->feature_mask) | VU_VHOST_FEATURES;
}

static int reply_u64(struct vu_msg *msg, uint64_t value)
{
	msg->payload.u64 = value;
	msg->hdr.size = sizeof(msg->payload.u64);
	return VU_REPLY;
}

static int done(struct vu_dev *dev)
{
	return VU_DONE;
}

static int get_features(struct vu_dev *dev, struct vu_msg *msg)
{
	return reply_u64(msg, vu_offered_features(dev));
}

static int set_features(struct vu_dev *dev, struct vu_msg *msg);

static int set_features_of_stopped(struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		vu_ring_forget(&dev->rings[i]);
	return set_features(dev, &dev->chan.rx);
}

static bool all_are_left(const struct vu_dev *dev)
{
	for (unsigned int i = 0; i < dev->queues; i++)
		if (vu_ring_is_on_loop(&dev->rings[i]) && !vu_ring_is_left(&dev->rings[i]))
			return false;
	return true;
}

static int set_features(struct vu_dev *dev, struct vu_msg *msg)
{
	uint64_t features = msg->payload.u64, changed = features ^ dev->features;
	uint64_t unknown = features & ~vu_offered_features(dev);

	if (unknown) {
		log_limited(LOG_LEVEL_WARNING, "%s: features 0x%llx were not offered", dev->name,
			    (unsigned long long)unknown);
		return -EINVAL;
	}
	/* A migration begins or ends while the driver works. */
	if (dev->nr_running && changed & ~BIT64(VHOST_F_LOG_ALL)) {
		if (all_are_left(dev)) {
			vu_rings_stop(dev);
			return vu_op_wait(dev, set_features_of_stopped);
		}
		log_limited(LOG_LEVEL_WARNING, "%s: features 0x%llx change while rings run",
			    dev->name, (unsigned long long)changed);
		return -EBUSY;
	}
	if (!dev->nr_running && vu_iotlb_set_features(dev, features) < 0)
		return VU_FAILED;
	dev->features = features;
	/* "Ring states": without protocol features all rings are enabled. */
	if (!(features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		for (unsigned int i = 0; i < dev->queues; i++)
			dev->rings[i].enabled = true;
	if (!dev->nr_running && dev->ops->set_features)
		dev->ops->set_features(dev, features & ~VU_VHOST_FEATURES);
	if (changed)
		vu_rings_sync(dev);
	return vu_op_wait(dev, done);
}

static uint64_t offered_protocol_features(struct vu_dev *dev)
{
	uint64_t f = VU_PROTOCOL_FEATURES;

	if (!(vu_offered_features(dev) & BIT64(VHOST_USER_F_PROTOCOL_FEATURES)))
		return 0;
	if (dev->ops->send_rarp)
		f |= BIT64(VHOST_USER_PROTOCOL_F_RARP);
	if (dev->ops->set_mtu)
		f |= BIT64(VHOST_USER_PROTOCOL_F_MTU);
	if (dev->ops->holds_chains)
		f |= BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	return f;
}

static int get_protocol_features(struct vu_dev *dev, struct vu_msg *msg)
{
	return reply_u64(msg, offered_protocol_features(dev));
}

static int set_protocol_features(struct vu_dev *dev, struct vu_msg *msg)
{
	uint64_t features = msg->payload.u64;
	uint64_t unknown = features & ~offered_protocol_features(dev);

	if (unknown) {
		log_limited(LOG_LEVEL_WARNING, "%s: protocol features 0x%llx were not offered",
			    dev->name, (unsigned long long)unknown);
		return -EINVAL;
	}
	if (dev->nr_running && features != dev->protocol_features) {
		log_limited(LOG_LEVEL_WARNING, "%s: protocol features change while rings run",
			    dev->name);
		return -EBUSY;
	}
	dev->protocol_features = features;
	return VU_DONE;
}

/*
 * How many rings there are, as the specification says and most front-ends read
 * it. For network devices QEMU takes it for pairs of rings, so it does not
 * notice at once that it was told to use more than there are: the first message
 * about such a ring says so.
 */
static int get_queue_num(struct vu_dev *dev, struct vu_msg *msg)
{
	return reply_u64(msg, dev->queues);
}

/* --- configuration space ------------------------------------------------------ */

static bool config_fits(const struct vu_dev *dev, const struct vu_msg *msg)
{
	const struct vu_config *c = &msg->payload.config;
	uint64_t end;

	if (msg->hdr.size == offsetof(struct vu_config, data) + (uint64_t)c->size &&
	    !add_overflows(c->offset, c->size, &end) && end <= dev->config_len)
		return true;
	log_limited(LOG_LEVEL_WARNING, "%s: %u bytes at %u of a configuration space of %u, in %u",
		    dev->name, c->size, c->offset, dev->config_len, msg->hdr.size);
	return false;
}

/* The reply is as long as the request; an empty one says no. */
static int get_config(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_config *c = &msg->payload.config;

	if (!config_fits(dev, msg) || !dev->ops->get_config)
		msg->hdr.size = 0;
	else if (c->size)
		dev->ops->get_config(dev, c->data, c->offset, c->size);
	return VU_REPLY;
}

static int config_set(struct vu_dev *dev)
{
	int err = dev->op.error;

	dev->op.error = 0;
	return err ? VU_FAILED : VU_DONE;
}

void vu_dev_config_set(struct vu_dev *dev, int error)
{
	vu_op_answered(dev, error);
}

static int set_config(struct vu_dev *dev, struct vu_msg *msg)
{
	const struct vu_config *c = &msg->payload.config;
	int ret;

	if (!config_fits(dev, msg) || c->flags > VHOST_USER_CONFIG_MIGRATION)
		return -EINVAL;
	/* The values are the driver's, and no fault of the front-end. */
	ret = dev->ops->set_config ? dev->ops->set_config(dev, c->data, c->offset, c->size,
							  c->flags == VHOST_USER_CONFIG_MIGRATION)
				   : -EOPNOTSUPP;
	if (ret == -EINPROGRESS) {
		dev->op.outstanding++;
		return vu_op_wait(dev, config_set);
	}
	return ret < 0 ? VU_FAILED : VU_DONE;
}

/* --- networks --------------------------------------------------------------------- */

/* The table has checked that RARP was negotiated, so the device has the hook. The
 * address is the first six bytes of the payload in memory. */
static int send_rarp(struct vu_dev *dev, struct vu_msg *msg)
{
	uint8_t mac[6];

	memcpy(mac, &msg->payload.u64, sizeof(mac));
	return dev->ops->send_rarp(dev, mac) < 0 ? VU_FAILED : VU_DONE;
}

static int net_set_mtu(struct vu_dev *dev, struct vu_msg *msg)
{
	return dev->ops->set_mtu(dev, msg->payload.u64) < 0 ? VU_FAILED : VU_DONE;
}

/* --- status and reset ----------------------------------------------------------- */

/* All rings are stopped. Memory and the protocol belong to the front-end's
 * session, not to the device, and stay. */
static int reset_device_done(struct vu_dev *dev)
{
	vu_rings_reset(dev, true);
	vu_iotlb_stopped(dev);
	vu_inflight_reset(dev);
	dev->features = 0;
	dev->status = 0;
	if (dev->ops->reset)
		dev->ops->reset(dev);
	return VU_DONE;
}

static int reset_device(struct vu_dev *dev, struct vu_msg *msg)
{
	vu_rings_stop(dev);
	return vu_op_wait(dev, reset_device_done);
}

static int set_status(struct vu_dev *dev, struct vu_msg *msg)
{
	uint64_t status = msg->payload.u64;

	if (status > UINT8_MAX) {
		log_limited(LOG_LEVEL_WARNING, "%s: device status 0x%llx", dev->name,
			    (unsigned long long)status);
		return -EINVAL;
	}
	/* VIRTIO 1.3, "Device Status Field": writing 0 resets the device. */
	if (!status)
		return reset_device(dev, msg);
	dev->status = (uint8_t)status;
	return VU_DONE;
}

static int get_status(struct vu_dev *dev, struct vu_msg *msg)
{
	return reply_u64(msg, dev->status);
}

static int set_owner(struct vu_dev *dev, struct vu_msg *msg)
{
	return VU_DONE;
}

/* --- the table ------------------------------------------------------------------ */

/* Where the payload has the index of a ring. */
enum index_kind {
	NO_INDEX,
	INDEX_U32, /* its first 32 bits */
	INDEX_U64, /* the lowest eight bits of its u64 */
};

struct request {
	const char *name;
	int (*handle)(struct vu_dev *dev, struct vu_msg *msg);
	uint16_t size_min, size_max; /* of the payload */
	uint8_t fds_min, fds_max;
	enum index_kind index;
	/* Has a reply that is not an acknowledgement. */
	bool replies;
	uint64_t needs; /* protocol features that must have been negotiated */
};

#define EMPTY .size_min = 0, .size_max = 0
#define PAYLOAD(member)                                                                            \
	.size_min = sizeof(((union vu_payload *)0)->member),                                       \
	.size_max = sizeof(((union vu_payload *)0)->member)
#define FDS(min, max) .fds_min = (min), .fds_max = (max)
#define NEEDS(f) .needs = BIT64(VHOST_USER_PROTOCOL_F_##f)
#define ROW(n) [VHOST_USER_##n] = { .name = #n,

/* clang-format off */
static const struct request requests[] = {
	ROW(GET_FEATURES) .handle = get_features, EMPTY, .replies = true },
	ROW(SET_FEATURES) .handle = set_features, PAYLOAD(u64) },
	ROW(SET_OWNER) .handle = set_owner, EMPTY },
	ROW(RESET_OWNER) .handle = reset_device, EMPTY },
	ROW(SET_MEM_TABLE) .handle = vu_set_mem_table, FDS(0, VHOST_USER_MEM_TABLE_MAX),
		.size_min = offsetof(struct vu_mem_table, region),
		.size_max = sizeof(struct vu_mem_table) },
	ROW(SET_LOG_BASE) .handle = vu_set_log_base, PAYLOAD(log), FDS(1, 1), NEEDS(LOG_SHMFD) },
	ROW(SET_LOG_FD) .handle = vu_set_log_fd, EMPTY, FDS(1, 1) },
	ROW(SET_VRING_NUM) .handle = vu_set_vring_num, PAYLOAD(state), .index = INDEX_U32 },
	ROW(SET_VRING_ADDR) .handle = vu_set_vring_addr, PAYLOAD(addr), .index = INDEX_U32 },
	ROW(SET_VRING_BASE) .handle = vu_set_vring_base, PAYLOAD(state), .index = INDEX_U32 },
	ROW(GET_VRING_BASE) .handle = vu_get_vring_base, PAYLOAD(state), .index = INDEX_U32,
		.replies = true },
	ROW(SET_VRING_KICK) .handle = vu_set_vring_kick, PAYLOAD(u64), .index = INDEX_U64,
		FDS(0, 1) },
	ROW(SET_VRING_CALL) .handle = vu_set_vring_call, PAYLOAD(u64), .index = INDEX_U64,
		FDS(0, 1) },
	ROW(SET_VRING_ERR) .handle = vu_set_vring_err, PAYLOAD(u64), .index = INDEX_U64,
		FDS(0, 1) },
	ROW(GET_PROTOCOL_FEATURES) .handle = get_protocol_features, EMPTY, .replies = true },
	ROW(SET_PROTOCOL_FEATURES) .handle = set_protocol_features, PAYLOAD(u64) },
	ROW(GET_QUEUE_NUM) .handle = get_queue_num, EMPTY, .replies = true },
	ROW(SET_VRING_ENABLE) .handle = vu_set_vring_enable, PAYLOAD(state), .index = INDEX_U32 },
	ROW(SEND_RARP) .handle = send_rarp, PAYLOAD(u64), NEEDS(RARP) },
	ROW(NET_SET_MTU) .handle = net_set_mtu, PAYLOAD(u64), NEEDS(MTU) },
	ROW(SET_BACKEND_REQ_FD) .handle = vu_set_backend_req_fd, EMPTY, FDS(1, 1) },
	ROW(IOTLB_MSG) .handle = vu_iotlb_msg, PAYLOAD(iotlb) },
	ROW(GET_CONFIG) .handle = get_config, .replies = true, NEEDS(CONFIG),
		.size_min = offsetof(struct vu_config, data),
		.size_max = sizeof(struct vu_config) },
	ROW(SET_CONFIG) .handle = set_config, NEEDS(CONFIG),
		.size_min = offsetof(struct vu_config, data),
		.size_max = sizeof(struct vu_config) },
	ROW(GET_INFLIGHT_FD) .handle = vu_get_inflight_fd, .replies = true, NEEDS(INFLIGHT_SHMFD),
		.size_min = offsetof(struct vu_inflight, padding),
		.size_max = sizeof(struct vu_inflight) },
	ROW(SET_INFLIGHT_FD) .handle = vu_set_inflight_fd, FDS(1, 1), NEEDS(INFLIGHT_SHMFD),
		.size_min = offsetof(struct vu_inflight, padding),
		.size_max = sizeof(struct vu_inflight) },
	ROW(RESET_DEVICE) .handle = reset_device, EMPTY },
	ROW(GET_MAX_MEM_SLOTS) .handle = vu_get_max_mem_slots, EMPTY, .replies = true,
		NEEDS(CONFIGURE_MEM_SLOTS) },
	ROW(ADD_MEM_REG) .handle = vu_add_mem_reg, PAYLOAD(single), FDS(1, 1),
		NEEDS(CONFIGURE_MEM_SLOTS) },
	/* Some front-ends send the region's descriptor along; it is closed. */
	ROW(REM_MEM_REG) .handle = vu_rem_mem_reg, PAYLOAD(single), FDS(0, 1),
		NEEDS(CONFIGURE_MEM_SLOTS) },
	ROW(SET_STATUS) .handle = set_status, PAYLOAD(u64), NEEDS(STATUS) },
	ROW(GET_STATUS) .handle = get_status, EMPTY, .replies = true, NEEDS(STATUS) },
};
/* clang-format on */

static const struct request *find_request(uint32_t type)
{
	if (type >= ARRAY_SIZE(requests) || !requests[type].handle)
		return NULL;
	return &requests[type];
}

/* The front-end was told to use more queues than the device has, perhaps. */
static int check_index(const struct vu_dev *dev, const struct request *req,
		       const struct vu_msg *msg)
{
	uint32_t index = 0;

	if (req->index == INDEX_U32)
		index = msg->payload.state.index;
	else if (req->index == INDEX_U64)
		index = msg->payload.u64 & VHOST_USER_VRING_INDEX_MASK;
	if (index < dev->queues)
		return 0;
	log_limited(LOG_LEVEL_WARNING, "%s: %s refused: ring %u, counted from 0, of %u", dev->name,
		    req->name, index, dev->queues);
	return -EPROTO;
}

/* The one place that compares a message with its row. */
static int check(const struct vu_dev *dev, const struct request *req, const struct vu_msg *msg)
{
	const char *wrong = NULL;

	if (msg->hdr.size < req->size_min || msg->hdr.size > req->size_max)
		wrong = "wrong payload size";
	else if (msg->nr_fds < req->fds_min)
		wrong = "missing descriptor";
	else if (msg->nr_fds > req->fds_max)
		wrong = "unexpected descriptor";
	else if (req->needs & ~dev->protocol_features)
		wrong = "protocol feature not negotiated";
	if (!wrong)
		return check_index(dev, req, msg);
	log_limited(LOG_LEVEL_WARNING, "%s: %s refused: %s (%u bytes, %u descriptors)", dev->name,
		    req->name, wrong, msg->hdr.size, msg->nr_fds);
	return -EPROTO;
}

int vu_request_handle(struct vu_dev *dev)
{
	struct vu_msg *msg = &dev->chan.rx;
	const struct request *req = find_request(msg->hdr.request);
	int ret;

	if (!req) {
		log_limited(LOG_LEVEL_WARNING, "%s: request %u is not known", dev->name,
			    msg->hdr.request);
		return -EOPNOTSUPP;
	}
	ret = check(dev, req, msg);
	if (ret < 0)
		return ret;
	log_debug("%s: %s", dev->name, req->name);
	return req->handle(dev, msg);
}

int vu_request_answer(struct vu_dev *dev, int result)
{
	struct vu_msg *msg = &dev->chan.rx;
	const struct request *req = find_request(msg->hdr.request);
	bool want_ack = msg->hdr.flags & VHOST_USER_NEED_REPLY &&
			vu_has_protocol(dev, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	struct vu_hdr hdr = {
		.request = msg->hdr.request,
		.flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
		.size = msg->hdr.size,
	};
	uint64_t ack = result != VU_DONE;

	if (result == VU_REPLY)
		return vu_chan_send(&dev->chan, dev->conn.fd, &hdr, &msg->payload);
	if (result < 0 && (!want_ack || (req && req->replies)))
		return result;
	if (!want_ack)
		return 0;
	hdr.size = sizeof(ack);
	return vu_chan_send(&dev->chan, dev->conn.fd, &hdr, &ack);
}
