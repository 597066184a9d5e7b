/*
 * Watching a port: frames copied by loops into a queue, written as pcapng by
 * the control thread to a descriptor that somebody reads. A slow reader loses
 * frames (counted in the file), never the switch.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_CAPTURE_H
#define RINGBOLT_VIRTIO_NET_CAPTURE_H

#include <stdint.h>

#include "core/evloop.h"
#include "virtio-net/vswitch.h"

struct capture;

enum capture_dir {
	CAPTURE_IN, /* taken from the port */
	CAPTURE_OUT, /* given to it */
};

struct capture_conf {
	struct sw_port *port;
	int fd; /* where the file goes; taken */
	uint32_t snaplen; /* bytes of each frame kept; 0: all */
	const char *filter; /* pcap-filter(7); NULL: everything */
	uint64_t frames_max; /* 0: until stopped */
	struct evloop *ev;
};

/* Control thread. Only one capture a port: -EBUSY. err: SW_ERR_LEN. */
int capture_start(const struct capture_conf *conf, struct capture **c, char *err);
/* The reader going away ends it as well: then ended(opaque) is called once. */
void capture_on_end(struct capture *c, void (*ended)(void *opaque), void *opaque);
void capture_stop(struct capture *c);

/* A loop's thread, from vswitch_forward(). */
void capture_frames(struct capture *c, struct sw_lane *lane, enum capture_dir dir,
		    const struct frame *const *frames, unsigned int nr);

#endif
