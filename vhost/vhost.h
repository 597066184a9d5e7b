/*
 * What a device type sees of vhost/: a device behind one vhost-user socket, its
 * rings, guest memory and loops. The only header of this folder that others
 * include (virtq.h, gmem.h and loop.h come with it).
 *
 * Functions are for the control thread unless they say otherwise. The program
 * must ignore SIGPIPE, as a front-end may give us a broken pipe to write to, and
 * call sigbus_init() (core/sigbus.h) before it creates a device.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VHOST_H
#define RINGBOLT_VHOST_VHOST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/evloop.h"
#include "vhost/gmem.h"
#include "vhost/loop.h"
#include "vhost/virtq.h"
#include "vhost/virtq_burst.h"

#define VU_QUEUES_MAX 256
#define VU_CONFIG_MAX 256 /* vhost-user, "Virtio device config space" */
#define VU_NAME_MAX 64

struct vu_dev;

/*
 * A device type. All but vq_poll run on the control thread; a hook may be NULL
 * where that says so.
 */
struct vu_ops {
	const char *type; /* for log lines and status */

	/* Virtio feature bits offered: the device type's own and the ring's that
	 * its data path serves. vhost/ adds those of the protocol. */
	uint64_t (*features)(struct vu_dev *dev);
	/* The driver's choice, a subset of the offer; no ring is started. NULL ok. */
	void (*set_features)(struct vu_dev *dev, uint64_t features);

	/* It holds chains from one call to the next, so that what is in flight is
	 * worth to be known when this process is killed: INFLIGHT_SHMFD is offered. */
	bool holds_chains;

	/* Device configuration space. off and len are bounded by config_len. set:
	 * -errno refuses; -EINPROGRESS: vu_dev_config_set() will tell, and nothing else
	 * of this front-end is done before; live migration writes with migration
	 * true. NULL ok. */
	void (*get_config)(struct vu_dev *dev, void *buf, uint32_t off, uint32_t len);
	int (*set_config)(struct vu_dev *dev, const void *buf, uint32_t off, uint32_t len,
			  bool migration);

	/* Before the ring goes to its loop (vq->conf and vq->loop are set): allocate
	 * requests, set vq->priv. -errno: the ring breaks. */
	int (*vq_setup)(struct vu_dev *dev, struct virtq *vq, unsigned int index);
	/* After it left its loop, drained. */
	void (*vq_release)(struct vu_dev *dev, struct virtq *vq, unsigned int index);
	/* On the ring's loop, once a turn: complete, pop up to a budget, process,
	 * virtq_flush(). The number of chains popped. */
	unsigned int (*vq_poll)(struct virtq *vq);
	/* The ring began or ceased to take part: active means that it runs on its
	 * loop and is enabled ("Ring states"). It is told inactive before its stop is
	 * posted, so it may still be served for a moment. NULL ok. */
	void (*vq_active)(struct vu_dev *dev, unsigned int index, bool active);

	/* Guest memory came or went: for registering it elsewhere. On removal the
	 * region's I/O has ended, and removed() must not return before nothing
	 * else uses the mapping, or finishes later by holding a reference
	 * (gmem_region_get()). NULL ok. */
	void (*mem_added)(struct vu_dev *dev, struct gmem_region *r);
	void (*mem_removed)(struct vu_dev *dev, struct gmem_region *r);

	/* The front-end has gone and all is drained, or the device was reset:
	 * forget per-connection state. NULL ok. */
	void (*reset)(struct vu_dev *dev);
	/* The first ring is about to start; -errno: it is refused and breaks. And
	 * the last one has stopped. NULL ok. */
	int (*activate)(struct vu_dev *dev);
	void (*deactivate)(struct vu_dev *dev);

	/* For devices of a network; a protocol feature is offered with each (RARP,
	 * MTU). NULL ok.
	 * VHOST_USER_SEND_RARP: tell the network that this address is here now. */
	int (*send_rarp)(struct vu_dev *dev, const uint8_t mac[6]);
	/* VHOST_USER_NET_SET_MTU: what the driver was told; -errno refuses. */
	int (*set_mtu)(struct vu_dev *dev, uint64_t mtu);
};

enum vu_listen_mode {
	VU_LISTEN,
	VU_CONNECT
};

struct vu_conf {
	const char *name; /* for log lines and status; unique in the process */
	const char *socket; /* path, or NULL with fd */
	enum vu_listen_mode mode; /* of socket; VU_CONNECT tries again for ever */
	int fd; /* >= 0: listening or connected socket, found out by itself; taken */
	unsigned int queues; /* 1 .. VU_QUEUES_MAX */
	unsigned int queue_size_max; /* 0: what the ring kind allows */
	uint32_t config_len; /* of the configuration space */
	uint64_t feature_mask; /* virtio bits the operator allows, ~0 for all */
	const struct vu_ops *ops;
	void *priv;
	struct evloop *ev;
	/* Rings are spread over them, round robin from the least loaded. */
	struct loop *const *loops;
	unsigned int nr_loops;
};

/* Create and begin to listen or connect. 0 or -errno (unix_listen() says which
 * about the path); conf->fd is taken either way. Strings are copied. */
int vu_dev_create(const struct vu_conf *conf, struct vu_dev **dev);

/*
 * Disconnect, drain, close, free, then call gone(opaque). Asynchronous: I/O in
 * flight ends first. The device must not be used after this call. gone may be
 * NULL, and runs on the control thread.
 */
void vu_dev_destroy(struct vu_dev *dev, void (*gone)(void *opaque), void *opaque);

void *vu_dev_priv(const struct vu_dev *dev);
const char *vu_dev_name(const struct vu_dev *dev);
uint64_t vu_dev_features(const struct vu_dev *dev); /* negotiated */
bool vu_dev_is_connected(const struct vu_dev *dev);
/* As vq_active() told it last. */
bool vu_dev_ring_is_active(const struct vu_dev *dev, unsigned int index);

/*
 * Have a ring served by this loop, one of the device's: now if it runs, and
 * whenever it starts. NULL: by whichever has least to do when it starts. The
 * front-end notices nothing, and nothing is lost: what the driver makes available
 * waits while the ring is between loops. Soon, not at once: requests and
 * operations in progress end first, status tells. The device's vq_release() and
 * vq_setup() are called, as what a device keeps for a ring may be the loop's; a
 * ring without poll() is only counted elsewhere. -EINVAL: no such ring or loop.
 */
int vu_dev_place_ring(struct vu_dev *dev, unsigned int index, struct loop *loop);

/* What came of a set_config() that is in progress: 0 or -errno. Not from within it. */
void vu_dev_config_set(struct vu_dev *dev, int error);

/* The configuration space changed: tell the front-end if it can be told
 * (VHOST_USER_BACKEND_CONFIG_CHANGE_MSG). */
void vu_dev_config_changed(struct vu_dev *dev);

/* Connection, negotiated features by name, rings with state and counters,
 * memory regions: a new object. feature_name names device-type bits, NULL for
 * unknown ones. */
json_t *vu_dev_status(struct vu_dev *dev, const char *(*feature_name)(unsigned int bit));

/* A loop's name, CPU, node, mode, rings, busy share since the last call. */
json_t *loop_status(struct loop *loop);

#endif
