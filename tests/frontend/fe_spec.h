/*
 * Wire format of vhost-user as the front-end sees it, written down a second
 * time on purpose: a slip in the back-end's own header must not cancel out in
 * its tests. QEMU documentation, "Vhost-user Protocol". Native byte order.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_FE_SPEC_H
#define RINGBOLT_TESTS_FRONTEND_FE_SPEC_H

#include <assert.h>
#include <stdint.h>

/* "Front-end message types". */
enum fe_req {
	FE_GET_FEATURES = 1,
	FE_SET_FEATURES = 2,
	FE_SET_OWNER = 3,
	FE_RESET_OWNER = 4,
	FE_SET_MEM_TABLE = 5,
	FE_SET_LOG_BASE = 6,
	FE_SET_LOG_FD = 7,
	FE_SET_VRING_NUM = 8,
	FE_SET_VRING_ADDR = 9,
	FE_SET_VRING_BASE = 10,
	FE_GET_VRING_BASE = 11,
	FE_SET_VRING_KICK = 12,
	FE_SET_VRING_CALL = 13,
	FE_SET_VRING_ERR = 14,
	FE_GET_PROTOCOL_FEATURES = 15,
	FE_SET_PROTOCOL_FEATURES = 16,
	FE_GET_QUEUE_NUM = 17,
	FE_SET_VRING_ENABLE = 18,
	FE_SEND_RARP = 19,
	FE_NET_SET_MTU = 20,
	FE_SET_BACKEND_REQ_FD = 21,
	FE_IOTLB_MSG = 22,
	FE_SET_VRING_ENDIAN = 23,
	FE_GET_CONFIG = 24,
	FE_SET_CONFIG = 25,
	FE_CREATE_CRYPTO_SESSION = 26,
	FE_CLOSE_CRYPTO_SESSION = 27,
	FE_POSTCOPY_ADVISE = 28,
	FE_POSTCOPY_LISTEN = 29,
	FE_POSTCOPY_END = 30,
	FE_GET_INFLIGHT_FD = 31,
	FE_SET_INFLIGHT_FD = 32,
	FE_GPU_SET_SOCKET = 33,
	FE_RESET_DEVICE = 34,
	FE_VRING_KICK = 35,
	FE_GET_MAX_MEM_SLOTS = 36,
	FE_ADD_MEM_REG = 37,
	FE_REM_MEM_REG = 38,
	FE_SET_STATUS = 39,
	FE_GET_STATUS = 40,
	FE_GET_SHARED_OBJECT = 41,
	FE_SET_DEVICE_STATE_FD = 42,
	FE_CHECK_DEVICE_STATE = 43,
	FE_REQ_END,
};

/* "Back-end message types". */
enum fe_backend_req {
	FE_BACKEND_IOTLB_MSG = 1,
	FE_BACKEND_CONFIG_CHANGE_MSG = 2,
	FE_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
	FE_BACKEND_VRING_CALL = 4,
	FE_BACKEND_VRING_ERR = 5,
};

/* Bit of the virtio features that says there are protocol features. */
#define FE_F_PROTOCOL_FEATURES 30
#define FE_F_LOG_ALL 26

/* "Protocol features". */
/* "An IOTLB message" */
struct fe_iotlb_msg {
	uint64_t iova, size, uva;
	uint8_t perm, type;
	uint8_t padding[6];
};
enum fe_iotlb_type {
	FE_IOTLB_MISS = 1,
	FE_IOTLB_UPDATE,
	FE_IOTLB_INVALIDATE,
	FE_IOTLB_ACCESS_FAIL,
};

enum fe_proto {
	FE_PROTO_MQ = 0,
	FE_PROTO_LOG_SHMFD = 1,
	FE_PROTO_RARP = 2,
	FE_PROTO_REPLY_ACK = 3,
	FE_PROTO_MTU = 4,
	FE_PROTO_BACKEND_REQ = 5,
	FE_PROTO_CONFIG = 9,
	FE_PROTO_BACKEND_SEND_FD = 10,
	FE_PROTO_INFLIGHT_SHMFD = 12,
	FE_PROTO_RESET_DEVICE = 13,
	FE_PROTO_INBAND_NOTIFICATIONS = 14,
	FE_PROTO_CONFIGURE_MEM_SLOTS = 15,
	FE_PROTO_STATUS = 16,
};

/* "Header". */
#define FE_VERSION 0x1u
#define FE_FLAG_REPLY 0x4u
#define FE_FLAG_NEED_REPLY 0x8u

struct fe_hdr {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};
static_assert(sizeof(struct fe_hdr) == 12, "message header");

/* "A vring state description". */
struct fe_vring_state {
	uint32_t index;
	uint32_t num;
};
static_assert(sizeof(struct fe_vring_state) == 8, "vring state");

/* "A vring address description". */
struct fe_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};
static_assert(sizeof(struct fe_vring_addr) == 40, "vring address");
#define FE_VRING_F_LOG 1u

/* SET_VRING_KICK, CALL and ERR: "a u64", index and a flag for "no fd". */
#define FE_VRING_IDX_MASK 0xffu
#define FE_VRING_NOFD 0x100u

/* "Memory region description". */
struct fe_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};
static_assert(sizeof(struct fe_mem_region) == 32, "memory region");

/* "Multiple memory regions description". */
#define FE_MEM_TABLE_MAX 8
struct fe_mem_table {
	uint32_t nr;
	uint32_t padding;
	struct fe_mem_region region[FE_MEM_TABLE_MAX];
};
static_assert(sizeof(struct fe_mem_table) == 264, "memory table");

/* "Single memory region description". */
struct fe_mem_single {
	uint64_t padding;
	struct fe_mem_region region;
};
static_assert(sizeof(struct fe_mem_single) == 40, "single memory region");

/* "Log description". */
struct fe_log {
	uint64_t size;
	uint64_t offset;
};
static_assert(sizeof(struct fe_log) == 16, "log description");

/* "Inflight description". */
struct fe_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};
static_assert(sizeof(struct fe_inflight) == 24, "inflight description");

/* "Virtio device config space": then size bytes. */
struct fe_config_hdr {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
};
static_assert(sizeof(struct fe_config_hdr) == 12, "config header");
#define FE_CONFIG_MAX 256

#endif
