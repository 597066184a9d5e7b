/*
 * Writing pcapng files (IETF draft-ietf-opsawg-pcapng): one section, one Ethernet
 * interface. librte_pcapng knows only interfaces that are DPDK ports. Any thread;
 * no state but the buffer.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_PCAPNG_H
#define RINGBOLT_VIRTIO_NET_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks gather here. What does not fit is not written, not in part either. */
struct pcapng_buf {
	uint8_t *data; /* the caller's, aligned to 4 */
	size_t len, size;
};

/* Room that a packet block takes beyond its bytes. */
#define PCAPNG_PACKET_OVERHEAD 68

struct pcapng_packet {
	const uint8_t *data;
	uint32_t cap_len; /* bytes at data */
	uint32_t orig_len; /* of the frame */
	uint64_t time_ns; /* since 1970 */
	bool inbound; /* as seen from the interface */
	uint64_t dropped; /* since the packet before, for want of room */
};

/* What begins a file; interface and filter may be NULL. false: no room. */
bool pcapng_begin(struct pcapng_buf *b, const char *program, const char *interface,
		  const char *filter, uint32_t snaplen);
bool pcapng_put(struct pcapng_buf *b, const struct pcapng_packet *p);
/* What ends it: frames that passed the filter, and those of them lost. */
bool pcapng_end(struct pcapng_buf *b, uint64_t time_ns, uint64_t received, uint64_t dropped);

#endif
