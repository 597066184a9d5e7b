/*
 * The connection half of the front-end: sockets, messages, negotiation, vring
 * set-up and the configuration space. Called by the driver half, by tests and
 * by the benchmark. Never touches a ring and never trusts an answer's length.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/frontend/fe.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/base.h"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

void fe_init(struct fe *fe)
{
	memset(fe, 0, sizeof(*fe));
	fe->sock = -1;
	fe->backend_sock = -1;
	fe->timeout_ms = FE_TIMEOUT_MS;
	fe->gpa_next = 1ull << 20;
}

int fe_connect(struct fe *fe, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int64_t deadline = now_ms() + fe->timeout_ms;
	int sock, err;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	for (;;) {
		sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (sock < 0)
			return -errno;
		if (!connect(sock, (struct sockaddr *)&sun, sizeof(sun)))
			break;
		err = errno;
		close(sock);
		if ((err != ENOENT && err != ECONNREFUSED && err != EAGAIN) || now_ms() > deadline)
			return -err;
		usleep(1000);
	}
	fe_attach(fe, sock);
	return 0;
}

void fe_attach(struct fe *fe, int sock)
{
	fe_disconnect(fe);
	fe->sock = sock;
}

void fe_disconnect(struct fe *fe)
{
	if (fe->sock >= 0)
		close(fe->sock);
	if (fe->backend_sock >= 0)
		close(fe->backend_sock);
	fe->sock = -1;
	fe->backend_sock = -1;
	fe->offered = fe->features = 0;
	fe->proto_offered = fe->proto = 0;
	for (int i = 0; i < FE_REGIONS_MAX; i++)
		fe->region[i].shared = false;
}

void fe_close(struct fe *fe)
{
	fe_disconnect(fe);
	for (int i = 0; i < FE_REGIONS_MAX; i++)
		fe_mem_free(fe, i);
}

/* 0 when sock is readable, -ETIMEDOUT. */
static int wait_readable(struct fe *fe, int sock, int timeout_ms)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	int64_t deadline = now_ms() + timeout_ms;
	int n, left;

	for (;;) {
		if (fe->pump)
			fe->pump(fe->pump_opaque);
		left = (int)(deadline - now_ms());
		if (left < 0)
			left = 0;
		n = poll(&pfd, 1, fe->pump && left > 1 ? 1 : left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!left)
			return -ETIMEDOUT;
	}
}

static int send_on(int sock, const void *bytes, size_t len, const int *fds, unsigned int nr_fds)
{
	union {
		char buf[CMSG_SPACE(FE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t n;

	if (nr_fds > FE_FDS_MAX)
		return -E2BIG;
	if (nr_fds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&mh);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &mh, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EMSGSIZE;
}

int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned int nr_fds)
{
	return send_on(fe->sock, bytes, len, fds, nr_fds);
}

int fe_send(struct fe *fe, uint32_t request, uint32_t flags, const void *payload, uint32_t len,
	    const int *fds, unsigned int nr_fds)
{
	struct fe_hdr hdr = { .request = request, .flags = flags, .size = len };
	uint8_t bytes[sizeof(hdr) + FE_PAYLOAD_MAX];

	if (len > FE_PAYLOAD_MAX)
		return -EMSGSIZE;
	memcpy(bytes, &hdr, sizeof(hdr));
	if (len)
		memcpy(bytes + sizeof(hdr), payload, len);
	return send_on(fe->sock, bytes, sizeof(hdr) + len, fds, nr_fds);
}

/* len bytes into buf; descriptors that come with them go to msg. */
static int recv_part(struct fe *fe, int sock, void *buf, size_t len, struct fe_msg *msg,
		     int timeout_ms)
{
	union {
		char buf[CMSG_SPACE(FE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr mh = { .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	struct iovec iov;
	unsigned int nr;
	ssize_t n;
	int err;

	for (size_t got = 0; got < len; got += (size_t)n) {
		err = wait_readable(fe, sock, timeout_ms);
		if (err)
			return err;
		iov = (struct iovec){ .iov_base = (char *)buf + got, .iov_len = len - got };
		mh.msg_iov = &iov;
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			n = 0;
			continue;
		}
		if (n <= 0)
			return n ? -errno : -ECONNRESET;
		for (cmsg = CMSG_FIRSTHDR(&mh); cmsg; cmsg = CMSG_NXTHDR(&mh, cmsg)) {
			if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
				continue;
			nr = (unsigned int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			if (nr > FE_FDS_MAX - msg->nr_fds)
				return -EPROTO;
			memcpy(msg->fds + msg->nr_fds, CMSG_DATA(cmsg), nr * sizeof(int));
			msg->nr_fds += nr;
		}
	}
	return 0;
}

static int recv_on(struct fe *fe, int sock, struct fe_msg *msg, int timeout_ms)
{
	int err;

	msg->nr_fds = 0;
	err = recv_part(fe, sock, &msg->hdr, sizeof(msg->hdr), msg, timeout_ms);
	if (!err && msg->hdr.size > FE_PAYLOAD_MAX)
		err = -EPROTO;
	if (!err)
		err = recv_part(fe, sock, msg->payload, msg->hdr.size, msg, timeout_ms);
	if (err)
		fe_msg_close_fds(msg);
	return err;
}

int fe_recv(struct fe *fe, struct fe_msg *msg)
{
	int err;

	fe->receiving = true;
	err = recv_on(fe, fe->sock, msg, fe->timeout_ms);
	fe->receiving = false;
	return err;
}

void fe_msg_close_fds(struct fe_msg *msg)
{
	for (unsigned int i = 0; i < msg->nr_fds; i++)
		close(msg->fds[i]);
	msg->nr_fds = 0;
}

bool fe_hung_up(struct fe *fe)
{
	struct fe_msg msg;
	int err;

	/* Answers that were under way come first. */
	while (!(err = fe_recv(fe, &msg)))
		fe_msg_close_fds(&msg);
	return err == -ECONNRESET;
}

/* The answer to request, whatever else it says. */
static int recv_reply(struct fe *fe, uint32_t request, struct fe_msg *reply)
{
	int err = fe_recv(fe, reply);

	if (err)
		return err;
	if (reply->hdr.request != request ||
	    (reply->hdr.flags & 0x7) != (FE_VERSION | FE_FLAG_REPLY)) {
		fe_msg_close_fds(reply);
		return -EPROTO;
	}
	return 0;
}

int fe_request(struct fe *fe, uint32_t request, const void *payload, uint32_t len, const int *fds,
	       unsigned int nr_fds)
{
	bool acked = fe_has_proto(fe, FE_PROTO_REPLY_ACK);
	struct fe_msg reply;
	uint64_t nack;
	int err;

	err = fe_send(fe, request, FE_VERSION | (acked ? FE_FLAG_NEED_REPLY : 0), payload, len, fds,
		      nr_fds);
	if (err || !acked)
		return err;
	err = recv_reply(fe, request, &reply);
	if (err)
		return err;
	fe_msg_close_fds(&reply);
	if (reply.hdr.size != sizeof(nack))
		return -EPROTO;
	memcpy(&nack, reply.payload, sizeof(nack));
	return nack ? -EREMOTEIO : 0;
}

int fe_ask(struct fe *fe, uint32_t request, const void *payload, uint32_t len, struct fe_msg *reply)
{
	int err = fe_send(fe, request, FE_VERSION, payload, len, NULL, 0);

	return err ? err : recv_reply(fe, request, reply);
}

int fe_get_u64(struct fe *fe, uint32_t request, uint64_t *value)
{
	struct fe_msg reply;
	int err = fe_ask(fe, request, NULL, 0, &reply);

	if (err)
		return err;
	fe_msg_close_fds(&reply);
	if (reply.hdr.size != sizeof(*value))
		return -EPROTO;
	memcpy(value, reply.payload, sizeof(*value));
	return 0;
}

int fe_set_u64(struct fe *fe, uint32_t request, uint64_t value)
{
	return fe_request(fe, request, &value, sizeof(value), NULL, 0);
}

int fe_sync(struct fe *fe)
{
	uint64_t ignored;

	return fe_get_u64(fe, FE_GET_FEATURES, &ignored);
}

static int open_backend_channel(struct fe *fe)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	err = fe_request(fe, FE_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
	close(pair[1]);
	if (err) {
		close(pair[0]);
		return err;
	}
	fe->backend_sock = pair[0];
	return 0;
}

int fe_negotiate(struct fe *fe, uint64_t want_features, uint64_t want_proto)
{
	const uint64_t proto_bit = 1ull << FE_F_PROTOCOL_FEATURES;
	int err;

	want_features &= ~proto_bit;
	if (want_proto)
		want_features |= proto_bit;

	err = fe_get_u64(fe, FE_GET_FEATURES, &fe->offered);
	if (err)
		return err;
	if (fe->offered & want_features & proto_bit) {
		err = fe_get_u64(fe, FE_GET_PROTOCOL_FEATURES, &fe->proto_offered);
		if (err)
			return err;
		/* REPLY_ACK holds from this message on, not for it. */
		err = fe_set_u64(fe, FE_SET_PROTOCOL_FEATURES, fe->proto_offered & want_proto);
		if (err)
			return err;
		fe->proto = fe->proto_offered & want_proto;
	}
	err = fe_request(fe, FE_SET_OWNER, NULL, 0, NULL, 0);
	if (!err && fe_has_proto(fe, FE_PROTO_BACKEND_REQ))
		err = open_backend_channel(fe);
	if (err)
		return err;
	fe->features = fe->offered & want_features;
	return fe_set_u64(fe, FE_SET_FEATURES, fe->features);
}

static int vring_state(struct fe *fe, uint32_t request, uint32_t index, uint32_t num)
{
	struct fe_vring_state s = { .index = index, .num = num };

	return fe_request(fe, request, &s, sizeof(s), NULL, 0);
}

int fe_vring_num(struct fe *fe, uint32_t index, uint32_t num)
{
	return vring_state(fe, FE_SET_VRING_NUM, index, num);
}

int fe_vring_base(struct fe *fe, uint32_t index, uint32_t base)
{
	return vring_state(fe, FE_SET_VRING_BASE, index, base);
}

int fe_vring_enable(struct fe *fe, uint32_t index, bool on)
{
	return vring_state(fe, FE_SET_VRING_ENABLE, index, on);
}

int fe_vring_addr(struct fe *fe, const struct fe_vring_addr *addr)
{
	return fe_request(fe, FE_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0);
}

int fe_vring_fd(struct fe *fe, uint32_t request, uint32_t index, int fd)
{
	uint64_t v = index | (fd < 0 ? FE_VRING_NOFD : 0);

	return fe_request(fe, request, &v, sizeof(v), &fd, fd < 0 ? 0 : 1);
}

int fe_get_vring_base(struct fe *fe, uint32_t index, uint32_t *base)
{
	struct fe_vring_state s = { .index = index };
	struct fe_msg reply;
	int err = fe_ask(fe, FE_GET_VRING_BASE, &s, sizeof(s), &reply);

	if (err)
		return err;
	fe_msg_close_fds(&reply);
	if (reply.hdr.size != sizeof(s))
		return -EPROTO;
	memcpy(&s, reply.payload, sizeof(s));
	if (s.index != index)
		return -EPROTO;
	*base = s.num;
	return 0;
}

int fe_get_config(struct fe *fe, uint32_t offset, void *buf, uint32_t len)
{
	struct fe_config_hdr h = { .offset = offset, .size = len };
	uint8_t payload[sizeof(h) + FE_CONFIG_MAX] = { 0 };
	struct fe_msg reply;
	int err;

	if (len > FE_CONFIG_MAX)
		return -EINVAL;
	memcpy(payload, &h, sizeof(h));
	err = fe_ask(fe, FE_GET_CONFIG, payload, sizeof(h) + len, &reply);
	if (err)
		return err;
	fe_msg_close_fds(&reply);
	/* "A zero length means an error". */
	if (reply.hdr.size != sizeof(h) + len)
		return -EREMOTEIO;
	memcpy(buf, reply.payload + sizeof(h), len);
	return 0;
}

int fe_get_inflight(struct fe *fe, uint16_t queues, uint16_t size, struct fe_inflight *inflight,
		    int *fd)
{
	struct fe_msg reply;
	int err;

	*inflight = (struct fe_inflight){ .num_queues = queues, .queue_size = size };
	err = fe_ask(fe, FE_GET_INFLIGHT_FD, inflight, sizeof(*inflight), &reply);
	if (err)
		return err;
	if (reply.hdr.size != sizeof(*inflight) || reply.nr_fds != 1) {
		fe_msg_close_fds(&reply);
		return -EPROTO;
	}
	memcpy(inflight, reply.payload, sizeof(*inflight));
	*fd = reply.fds[0];
	return 0;
}

int fe_set_inflight(struct fe *fe, const struct fe_inflight *inflight, int fd)
{
	return fe_request(fe, FE_SET_INFLIGHT_FD, inflight, sizeof(*inflight), &fd, 1);
}

int fe_set_config(struct fe *fe, uint32_t offset, const void *buf, uint32_t len, uint32_t flags)
{
	struct fe_config_hdr h = { .offset = offset, .size = len, .flags = flags };
	uint8_t payload[sizeof(h) + FE_CONFIG_MAX];

	if (len > FE_CONFIG_MAX)
		return -EINVAL;
	memcpy(payload, &h, sizeof(h));
	memcpy(payload + sizeof(h), buf, len);
	return fe_request(fe, FE_SET_CONFIG, payload, sizeof(h) + len, NULL, 0);
}

int fe_backend_take(struct fe *fe, struct fe_msg *msg, int timeout_ms)
{
	return fe->backend_sock < 0 ? -ENOTCONN : recv_on(fe, fe->backend_sock, msg, timeout_ms);
}

int fe_backend_reply(struct fe *fe, const struct fe_msg *msg, uint64_t value)
{
	const struct {
		struct fe_hdr hdr;
		uint64_t value;
	} __attribute__((packed)) ack = {
		.hdr.request = msg->hdr.request,
		.hdr.flags = FE_VERSION | FE_FLAG_REPLY,
		.hdr.size = sizeof(value),
		.value = value,
	};

	return send_on(fe->backend_sock, &ack, sizeof(ack), NULL, 0);
}

int fe_backend_recv(struct fe *fe, struct fe_msg *msg, int timeout_ms)
{
	int err = fe_backend_take(fe, msg, timeout_ms);

	if (err || !(msg->hdr.flags & FE_FLAG_NEED_REPLY))
		return err;
	return fe_backend_reply(fe, msg, 0);
}
