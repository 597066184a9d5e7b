/*
 * The table of vhost-user requests: what each must look like and who handles
 * it. Private to vu_*.c. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VU_REQUEST_H
#define RINGBOLT_VHOST_VU_REQUEST_H

#include <stdint.h>

struct vu_dev;

/* Features offered to the front-end, with those of vhost. */
uint64_t vu_offered_features(struct vu_dev *dev);

/* Check and handle the message in dev->chan.rx: an enum vu_result or -errno. */
int vu_request_handle(struct vu_dev *dev);

/*
 * Answer the message in dev->chan.rx as its result asks for. 0 and all is sent,
 * 1 and the rest waits in dev->chan, or -errno: the connection must be closed.
 */
int vu_request_answer(struct vu_dev *dev, int result);

#endif
