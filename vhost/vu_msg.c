/*
 * Framing of vhost-user messages. Called by the connection (vu_dev.c) when its
 * socket is readable or writable. Never blocks, never interprets a payload, and
 * never keeps a descriptor that a message brought beyond that message.
 *
 * A stream gives any number of bytes at a time, and a hostile front-end sends
 * one by one, so a message is collected over as many calls as it takes. Header
 * and payload are received by separate calls: bytes of the next message are
 * never read early, hence its descriptors cannot be taken for this one's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/vu_msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/fd.h"
#include "core/log.h"

/* As many as can come at once (SCM_MAX_FD): what finds no room the kernel closes here
 * and now. Credentials come too if whoever made the socket asked for them (--fd). */
#define CONTROL_FDS 253
#define CONTROL_LEN (CMSG_SPACE(sizeof(int) * CONTROL_FDS) + CMSG_SPACE(sizeof(struct ucred)))
#define DRAIN_LEN 4096

void vu_chan_init(struct vu_chan *c, bool replies, struct fd_aside **aside)
{
	memset(c, 0, sizeof(*c));
	c->replies = replies;
	c->aside = aside;
	c->tx_fd = -1;
}

void vu_chan_next(struct vu_chan *c)
{
	for (unsigned int i = 0; i < c->rx.nr_fds; i++)
		fd_replace(&c->rx.fds[i], -1);
	c->rx.nr_fds = 0;
	c->rx_len = 0;
}

int vu_msg_take_fd(struct vu_msg *msg, unsigned int i)
{
	int fd;

	if (i >= msg->nr_fds)
		return -1;
	fd = msg->fds[i];
	msg->fds[i] = -1;
	return fd;
}

/*
 * Move what a control message brought into rx. What finds no room there is closed,
 * what may wait is put aside. -EPROTO for either, and -EBADF (logged by the caller).
 */
static int collect_fds(struct vu_chan *c, struct msghdr *mh)
{
	struct vu_msg *rx = &c->rx;
	struct cmsghdr *cm;
	int err = 0;

	for (cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		size_t nr;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		nr = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < nr; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(int));
			if (fd_may_wait(fd)) {
				fd_aside_add(c->aside, fd);
				err = -EBADF;
			} else if (rx->nr_fds < VHOST_USER_FDS_MAX) {
				rx->fds[rx->nr_fds++] = fd;
			} else {
				fd_replace(&fd, -1);
				err = err ? err : -EPROTO;
			}
		}
	}
	/* The kernel has dropped those that found no number any more. */
	if (mh->msg_flags & MSG_CTRUNC)
		err = err ? err : -EPROTO;
	return err;
}

/* recvmsg(), and what collect_fds() says of the descriptors in *err. */
static ssize_t receive_some(struct vu_chan *c, int sock, void *buf, size_t len, int *err)
{
	union {
		char buf[CONTROL_LEN];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n;

	do {
		n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	*err = n < 0 ? 0 : collect_fds(c, &mh);
	return n;
}

/* What nobody has read would be closed by the kernel along with the socket. */
static void drain(struct vu_chan *c, int sock)
{
	char buf[DRAIN_LEN];
	int err;

	/* Nothing more comes after this. */
	shutdown(sock, SHUT_RDWR);
	while (receive_some(c, sock, buf, sizeof(buf), &err) > 0)
		vu_chan_next(c);
}

void vu_chan_close(struct vu_chan *c, int *sock)
{
	vu_chan_next(c);
	c->tx_len = 0;
	c->tx_off = 0;
	fd_replace(&c->tx_fd, -1);
	if (*sock >= 0)
		drain(c, *sock);
	vu_chan_next(c);
	fd_replace(sock, -1);
}

/* Receive up to len bytes. The count, 0 if the socket is empty for now. */
static ssize_t receive(struct vu_chan *c, int sock, void *buf, size_t len, const char *name)
{
	int err;
	ssize_t n = receive_some(c, sock, buf, len, &err);

	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	if (err) {
		log_limited(LOG_LEVEL_WARNING, "%s: %s", name,
			    err == -EBADF ? "a descriptor that may keep us waiting"
					  : "more descriptors than any message carries");
		return -EPROTO;
	}
	if (n)
		return n;
	if (!c->rx_len)
		return -ECONNRESET;
	log_limited(LOG_LEVEL_WARNING, "%s: the front-end left after %zu bytes of a message", name,
		    c->rx_len);
	return -EPROTO;
}

/* What makes the rest of the stream unreadable. */
static int check_header(const struct vu_hdr *hdr, bool replies, const char *name)
{
	if ((hdr->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION) {
		log_limited(LOG_LEVEL_WARNING, "%s: message %u has version %u, not %u", name,
			    hdr->request, hdr->flags & VHOST_USER_VERSION_MASK, VHOST_USER_VERSION);
		return -EPROTO;
	}
	if (!(hdr->flags & VHOST_USER_REPLY) == replies) {
		log_limited(LOG_LEVEL_WARNING, "%s: message %u is %s", name, hdr->request,
			    replies ? "no reply" : "a reply to nothing");
		return -EPROTO;
	}
	if (hdr->size > sizeof(union vu_payload)) {
		log_limited(LOG_LEVEL_WARNING, "%s: message %u has %u bytes, more than any", name,
			    hdr->request, hdr->size);
		return -EPROTO;
	}
	return 0;
}

int vu_chan_recv(struct vu_chan *c, int sock, const char *name)
{
	const size_t hdr_len = sizeof(c->rx.hdr);
	ssize_t n;
	int err;

	while (c->rx_len < hdr_len) {
		n = receive(c, sock, (char *)&c->rx.hdr + c->rx_len, hdr_len - c->rx_len, name);
		if (n <= 0)
			return (int)n;
		c->rx_len += (size_t)n;
		if (c->rx_len < hdr_len)
			continue;
		err = check_header(&c->rx.hdr, c->replies, name);
		if (err)
			return err;
		/* A handler never sees bytes of an earlier, longer message. */
		memset(&c->rx.payload, 0, sizeof(c->rx.payload));
	}
	while (c->rx_len < hdr_len + c->rx.hdr.size) {
		size_t off = c->rx_len - hdr_len;

		n = receive(c, sock, (char *)&c->rx.payload + off, c->rx.hdr.size - off, name);
		if (n <= 0)
			return (int)n;
		c->rx_len += (size_t)n;
	}
	return 1;
}

/* As much of what is left as the socket takes. */
static ssize_t send_some(const struct vu_chan *c, int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)(c->tx + c->tx_off), c->tx_len - c->tx_off };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	if (c->tx_fd >= 0) {
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &c->tx_fd, sizeof(int));
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int vu_chan_flush(struct vu_chan *c, int sock)
{
	while (c->tx_off < c->tx_len) {
		ssize_t n = send_some(c, sock);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 1 : -errno;
		c->tx_off += (size_t)n;
		fd_replace(&c->tx_fd, -1);
	}
	return 0;
}

int vu_chan_send(struct vu_chan *c, int sock, const struct vu_hdr *hdr, const void *payload)
{
	assert(!vu_chan_tx_pending(c) && hdr->size <= sizeof(union vu_payload));

	memcpy(c->tx, hdr, sizeof(*hdr));
	if (hdr->size)
		memcpy(c->tx + sizeof(*hdr), payload, hdr->size);
	c->tx_len = sizeof(*hdr) + hdr->size;
	c->tx_off = 0;
	return vu_chan_flush(c, sock);
}
