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
	/* Where the file goes: a stream socket that does not block. Taken if the
	 * capture starts. Its other end ends the file by closing it, or cleanly by
	 * shutting down what it sends. */
	int fd;
	const char *head; /* text to send before the file, or NULL */
	uint32_t snaplen; /* bytes of each frame kept; 0: all */
	const char *filter; /* pcap-filter(7); NULL: everything */
	uint64_t frames_max; /* 0: until stopped */
	struct evloop *ev;
	/* It has ended, for whatever reason, and is gone. Control thread. NULL ok. */
	void (*ended)(void *opaque);
	void *opaque;
};

/* Check a filter. 0, or -EINVAL and a sentence in err (SW_ERR_LEN). */
int capture_check_filter(const char *filter, char *err);

/* Control thread. Only one capture a port: -EBUSY; -EINVAL for a filter, -ENOMEM.
 * A sentence in err (SW_ERR_LEN). */
int capture_start(const struct capture_conf *conf, struct capture **c, char *err);
/* End it, whatever its reader does: the port is left alone from the next turn of
 * the loops on, then ended() is called. Before the port is removed. */
void capture_stop(struct capture *c);

/* A loop's thread, from vswitch_forward(). */
void capture_frames(struct capture *c, struct sw_lane *lane, enum capture_dir dir,
		    const struct frame *const *frames, unsigned int nr);

#endif
