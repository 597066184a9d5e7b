/*
 * Wire format of split and packed virtqueues.
 * VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VIRTQ_SPEC_H
#define RINGBOLT_VHOST_VIRTQ_SPEC_H

#include <assert.h>
#include <stddef.h>

#include "core/byteorder.h"

/* Device-independent feature bits: VIRTIO 1.3, "Reserved Feature Bits". */
#define VIRTIO_F_NOTIFY_ON_EMPTY 24
#define VIRTIO_F_ANY_LAYOUT 27
#define VIRTIO_F_RING_INDIRECT_DESC 28
#define VIRTIO_F_RING_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VIRTIO_F_RING_PACKED 34
#define VIRTIO_F_IN_ORDER 35

#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4
/* Packed only. */
#define VIRTQ_DESC_F_AVAIL (1 << 7)
#define VIRTQ_DESC_F_USED (1 << 15)

#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_USED_F_NO_NOTIFY 1

struct virtq_desc {
	le64 addr;
	le32 len;
	le16 flags;
	le16 next;
};
static_assert(sizeof(struct virtq_desc) == 16, "split descriptor");

struct virtq_avail {
	le16 flags;
	le16 idx;
	le16 ring[];
	/* then le16 used_event, with EVENT_IDX */
};
static_assert(offsetof(struct virtq_avail, ring) == 4, "available ring header");

struct virtq_used_elem {
	le32 id;
	le32 len;
};
static_assert(sizeof(struct virtq_used_elem) == 8, "used element");

struct virtq_used {
	le16 flags;
	le16 idx;
	struct virtq_used_elem ring[];
	/* then le16 avail_event, with EVENT_IDX */
};
static_assert(offsetof(struct virtq_used, ring) == 4, "used ring header");

struct pvirtq_desc {
	le64 addr;
	le32 len;
	le16 id;
	le16 flags;
};
static_assert(sizeof(struct pvirtq_desc) == 16, "packed descriptor");
static_assert(offsetof(struct pvirtq_desc, flags) == 14, "packed descriptor flags");

/* VIRTIO 1.3, "Event Suppression Structure Format". */
#define PVIRTQ_EVENT_F_ENABLE 0
#define PVIRTQ_EVENT_F_DISABLE 1
#define PVIRTQ_EVENT_F_DESC 2
#define PVIRTQ_EVENT_OFF_MASK 0x7fff
#define PVIRTQ_EVENT_WRAP (1 << 15)

struct pvirtq_event_suppress {
	le16 desc; /* offset in bits 0-14, wrap counter in bit 15 */
	le16 flags;
};
static_assert(sizeof(struct pvirtq_event_suppress) == 4, "event suppression");

#endif
