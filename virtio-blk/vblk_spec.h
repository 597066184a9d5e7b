/*
 * Wire format of the virtio block device: feature bits, configuration space,
 * requests. VIRTIO 1.3, "Block Device".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_BLK_VBLK_SPEC_H
#define RINGBOLT_VIRTIO_BLK_VBLK_SPEC_H

#include <assert.h>
#include <stddef.h>

#include "core/byteorder.h"

/* "Feature bits" */
#define VIRTIO_BLK_F_SIZE_MAX 1
#define VIRTIO_BLK_F_SEG_MAX 2
#define VIRTIO_BLK_F_GEOMETRY 4
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_BLK_SIZE 6
#define VIRTIO_BLK_F_FLUSH 9
#define VIRTIO_BLK_F_TOPOLOGY 10
#define VIRTIO_BLK_F_CONFIG_WCE 11
#define VIRTIO_BLK_F_MQ 12
#define VIRTIO_BLK_F_DISCARD 13
#define VIRTIO_BLK_F_WRITE_ZEROES 14
#define VIRTIO_BLK_F_SECURE_ERASE 16

/* "Device Operation": sectors are always this long, whatever blk_size says. */
#define VIRTIO_BLK_SECTOR_SHIFT 9
#define VIRTIO_BLK_SECTOR_SIZE 512

#define VIRTIO_BLK_T_IN 0
#define VIRTIO_BLK_T_OUT 1
#define VIRTIO_BLK_T_FLUSH 4
#define VIRTIO_BLK_T_GET_ID 8
#define VIRTIO_BLK_T_DISCARD 11
#define VIRTIO_BLK_T_WRITE_ZEROES 13
#define VIRTIO_BLK_T_SECURE_ERASE 14

#define VIRTIO_BLK_S_OK 0
#define VIRTIO_BLK_S_IOERR 1
#define VIRTIO_BLK_S_UNSUPP 2

#define VIRTIO_BLK_ID_BYTES 20

/* What every request begins with, device-readable. */
struct virtio_blk_req_hdr {
	le32 type;
	le32 reserved;
	le64 sector;
};
static_assert(sizeof(struct virtio_blk_req_hdr) == 16, "request header");

/* The data of discard, write zeroes and secure erase: an array of these. */
#define VIRTIO_BLK_SEG_F_UNMAP 1u

struct virtio_blk_segment {
	le64 sector;
	le32 num_sectors;
	le32 flags;
};
static_assert(sizeof(struct virtio_blk_segment) == 16, "discard and write zeroes segment");

/* "Device configuration layout" */
struct virtio_blk_config {
	le64 capacity; /* sectors */
	le32 size_max;
	le32 seg_max;
	struct {
		le16 cylinders;
		uint8_t heads;
		uint8_t sectors;
	} geometry;
	le32 blk_size;
	struct {
		uint8_t physical_block_exp;
		uint8_t alignment_offset;
		le16 min_io_size; /* logical blocks */
		le32 opt_io_size; /* logical blocks */
	} topology;
	uint8_t writeback;
	uint8_t unused0;
	le16 num_queues;
	le32 max_discard_sectors;
	le32 max_discard_seg;
	le32 discard_sector_alignment;
	le32 max_write_zeroes_sectors;
	le32 max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
	le32 max_secure_erase_sectors;
	le32 max_secure_erase_seg;
	le32 secure_erase_sector_alignment;
	/* Zoned devices; all zero without VIRTIO_BLK_F_ZONED. Front-ends ask for
	 * the whole structure. */
	uint8_t zoned[24];
};
static_assert(sizeof(struct virtio_blk_config) == 96, "configuration space");
static_assert(offsetof(struct virtio_blk_config, blk_size) == 20, "configuration: blk_size");
static_assert(offsetof(struct virtio_blk_config, writeback) == 32, "configuration: writeback");
static_assert(offsetof(struct virtio_blk_config, num_queues) == 34, "configuration: num_queues");
static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) == 56,
	      "configuration: write_zeroes_may_unmap");
static_assert(offsetof(struct virtio_blk_config, max_secure_erase_sectors) == 60,
	      "configuration: max_secure_erase_sectors");

#endif
