/*
 * The smallest device type there can be: it sends back what the driver sends.
 * To be copied by authors of new device types (CONTRIBUTING.md), and the device
 * of the protocol's tests.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_VHOST_SKELETON_H
#define RINGBOLT_TESTS_VHOST_SKELETON_H

#include "vhost/vhost.h"

/* The configuration space: what the driver sees, little-endian. */
struct skel_config {
	le32 greeting; /* read-only */
	le32 colour; /* the driver may write it */
};
static_assert(sizeof(struct skel_config) == 8, "configuration space");

#define SKEL_GREETING 0x6c6c6568

struct skel {
	struct vu_dev *dev;
	struct skel_config config;
};

extern const struct vu_ops skel_ops;

/* Everything that is the same for each skel is filled in here; the caller says
 * name, socket or fd, mode, ev and loops. */
void skel_conf_init(struct vu_conf *conf, struct skel *skel);

#endif
