/*
 * Wire format of the vhost-user protocol. QEMU documentation, "Vhost-user
 * Protocol", version 10.0. All numbers are in the byte order of the machine:
 * both ends share its memory, so both run on it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VU_SPEC_H
#define RINGBOLT_VHOST_VU_SPEC_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* "Front-end message types" */
enum vu_request_type {
	VHOST_USER_NONE = 0,
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_LOG_BASE = 6,
	VHOST_USER_SET_LOG_FD = 7,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SEND_RARP = 19,
	VHOST_USER_NET_SET_MTU = 20,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_IOTLB_MSG = 22,
	VHOST_USER_SET_VRING_ENDIAN = 23,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_CREATE_CRYPTO_SESSION = 26,
	VHOST_USER_CLOSE_CRYPTO_SESSION = 27,
	VHOST_USER_POSTCOPY_ADVISE = 28,
	VHOST_USER_POSTCOPY_LISTEN = 29,
	VHOST_USER_POSTCOPY_END = 30,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_GPU_SET_SOCKET = 33,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_VRING_KICK = 35,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_GET_SHARED_OBJECT = 41,
	VHOST_USER_SET_DEVICE_STATE_FD = 42,
	VHOST_USER_CHECK_DEVICE_STATE = 43,
};

/* "Back-end message types" */
enum vu_backend_request_type {
	VHOST_USER_BACKEND_IOTLB_MSG = 1,
	VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
};

/* "Protocol features": bit numbers. */
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD 1
#define VHOST_USER_PROTOCOL_F_RARP 2
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_MTU 4
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ 5
#define VHOST_USER_PROTOCOL_F_CROSS_ENDIAN 6
#define VHOST_USER_PROTOCOL_F_CRYPTO_SESSION 7
#define VHOST_USER_PROTOCOL_F_PAGEFAULT 8
#define VHOST_USER_PROTOCOL_F_CONFIG 9
#define VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD 10
#define VHOST_USER_PROTOCOL_F_HOST_NOTIFIER 11
#define VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD 12
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE 13
#define VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS 14
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15
#define VHOST_USER_PROTOCOL_F_STATUS 16
#define VHOST_USER_PROTOCOL_F_XEN_MMAP 17
#define VHOST_USER_PROTOCOL_F_SHARED_OBJECT 18
#define VHOST_USER_PROTOCOL_F_DEVICE_STATE 19

/* Bits of the virtio feature word that belong to vhost: "Communication" and
 * "Migration". Drivers never see them. */
#define VHOST_F_LOG_ALL 26
#define VHOST_USER_F_PROTOCOL_FEATURES 30

/* "Header": flags. */
#define VHOST_USER_VERSION 1u
#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_REPLY (1u << 2)
#define VHOST_USER_NEED_REPLY (1u << 3)

struct vu_hdr {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
};
static_assert(sizeof(struct vu_hdr) == 12, "vhost-user header");

/* "A vring state description", and the index descriptions beside it. */
struct vu_vring_state {
	uint32_t index;
	uint32_t num;
};
static_assert(sizeof(struct vu_vring_state) == 8, "vring state");

/* "A vring address description": addresses are the front-end's own. */
#define VHOST_VRING_F_LOG (1u << 0)

struct vu_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc; /* split and packed: descriptor table or ring */
	uint64_t used; /* device area */
	uint64_t avail; /* driver area */
	uint64_t log; /* guest address where writes to used are logged */
};
static_assert(sizeof(struct vu_vring_addr) == 40, "vring address");
static_assert(offsetof(struct vu_vring_addr, log) == 32, "vring address log");

/* The u64 of SET_VRING_KICK, CALL and ERR. */
#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NOFD (1u << 8)

/* "Memory region description" */
struct vu_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};
static_assert(sizeof(struct vu_mem_region) == 32, "memory region");

/* "Multiple Memory regions description": eight at most. */
#define VHOST_USER_MEM_TABLE_MAX 8

struct vu_mem_table {
	uint32_t nr;
	uint32_t padding;
	struct vu_mem_region region[VHOST_USER_MEM_TABLE_MAX];
};
static_assert(sizeof(struct vu_mem_table) == 264, "memory table");
static_assert(offsetof(struct vu_mem_table, region) == 8, "memory table head");

/* "Single memory region description" */
struct vu_mem_single {
	uint64_t padding;
	struct vu_mem_region region;
};
static_assert(sizeof(struct vu_mem_single) == 40, "single memory region");

/* "Log description" */
struct vu_log {
	uint64_t size;
	uint64_t offset;
};
static_assert(sizeof(struct vu_log) == 16, "log");

/* "Virtio device config space" */
#define VHOST_USER_CONFIG_DATA_MAX 256
#define VHOST_USER_CONFIG_WRITABLE 0u /* flags: the driver changes a field */
#define VHOST_USER_CONFIG_MIGRATION 1u /* flags: the destination of a migration */

struct vu_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_CONFIG_DATA_MAX];
};
static_assert(sizeof(struct vu_config) == 268, "config space");
static_assert(offsetof(struct vu_config, data) == 12, "config space head");

/* "An IOTLB message": Linux's struct vhost_iotlb_msg. */
struct vu_iotlb_msg {
	uint64_t iova;
	uint64_t size;
	uint64_t uaddr; /* of the front-end */
	uint8_t perm; /* 1 read, 2 write */
	uint8_t type;
	uint8_t padding[6];
};
static_assert(sizeof(struct vu_iotlb_msg) == 32, "IOTLB message");

/* "Inflight description"; the front-ends' compilers pad it. */
struct vu_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};
static_assert(sizeof(struct vu_inflight) == 24, "inflight");

#define VHOST_IOTLB_MISS 1
#define VHOST_IOTLB_UPDATE 2
#define VHOST_IOTLB_INVALIDATE 3
#define VHOST_IOTLB_ACCESS_FAIL 4

union vu_payload {
	uint64_t u64;
	struct vu_vring_state state;
	struct vu_vring_addr addr;
	struct vu_mem_table mem;
	struct vu_mem_single single;
	struct vu_log log;
	struct vu_config config;
	struct vu_iotlb_msg iotlb;
	struct vu_inflight inflight;
};
static_assert(sizeof(union vu_payload) == 272, "largest payload, padded to 8");

/* Eight descriptors, one a region, is the most any message carries. */
#define VHOST_USER_FDS_MAX VHOST_USER_MEM_TABLE_MAX

#endif
