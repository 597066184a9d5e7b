/*
 * Framing of vhost-user messages on a non-blocking UNIX stream socket, with the
 * descriptors that travel beside them. Knows nothing of what they mean.
 * Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VU_MSG_H
#define RINGBOLT_VHOST_VU_MSG_H

#include <stdbool.h>
#include <stddef.h>

#include "core/fd_aside.h"
#include "vhost/vu_spec.h"

/*
 * One message, received or to be sent. hdr and payload lie as on the wire.
 * Owns the descriptors that nobody took out of it.
 */
struct vu_msg {
	struct vu_hdr hdr;
	uint32_t pad; /* aligns payload; never on the wire */
	union vu_payload payload;
	int fds[VHOST_USER_FDS_MAX];
	unsigned int nr_fds;
};

/* A socket's two directions, each at some byte of a message. */
struct vu_chan {
	bool replies; /* what comes in are replies; else requests */
	struct vu_msg rx;
	size_t rx_len; /* bytes of rx received, header and payload */
	uint8_t tx[sizeof(struct vu_hdr) + sizeof(union vu_payload)];
	size_t tx_len, tx_off; /* sent up to tx_off; equal: nothing to send */
	/* Where descriptors go that may not even be closed here. The owner's. */
	struct fd_aside **aside;
	int tx_fd; /* goes with the first byte of the next message, and is closed; -1: none */
};

void vu_chan_init(struct vu_chan *c, bool replies, struct fd_aside **aside);
/* Forget what is half received or half sent; closes descriptors, and *sock (-1 is
 * fine) with those that lie in it unread. */
void vu_chan_close(struct vu_chan *c, int *sock);

/*
 * Receive into c->rx until one message is whole. 1: it is, and stays until
 * vu_chan_next(); 0: more bytes are needed, wait for the socket; -ECONNRESET:
 * the peer has gone between two messages; -EPROTO: it has gone inside one, or
 * the stream cannot be followed, or a descriptor came that may wait and is in *aside
 * now (logged with name); other -errno of recvmsg().
 */
int vu_chan_recv(struct vu_chan *c, int sock, const char *name);
/* Done with c->rx: closes what was not taken from it. */
void vu_chan_next(struct vu_chan *c);

/*
 * Send a message, with c->tx_fd if there is one. 0 when it is out, 1 when the rest must
 * wait for vu_chan_flush() (and nothing else may be sent before), -errno.
 */
int vu_chan_send(struct vu_chan *c, int sock, const struct vu_hdr *hdr, const void *payload);
/* Go on sending, as vu_chan_send(). */
int vu_chan_flush(struct vu_chan *c, int sock);

static inline bool vu_chan_tx_pending(const struct vu_chan *c)
{
	return c->tx_off < c->tx_len;
}

/* Take descriptor i out of a message; the caller owns it. -1 if there is none. */
int vu_msg_take_fd(struct vu_msg *msg, unsigned int i);

#endif
