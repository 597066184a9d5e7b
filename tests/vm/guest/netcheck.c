/*
 * netcheck: is what arrives over TCP and UDP what was sent? Run in test guests
 * and in network namespaces; compiled statically.
 *
 *   netcheck serve PORT [NETNS...]
 *   netcheck tcp|udp|uso ADDRESS PORT BYTES [NETNS]
 *   netcheck pour|soak ADDRESS PORT SECONDS [NETNS]
 *
 * serve answers everything below on a port, in each of these network namespaces
 * (paths), until it is killed. tcp sends a stream of pseudo-random bytes and
 * takes another one at the same time; each side knows what the other sends, so
 * every byte is compared. udp sends datagrams of many sizes up to BYTES, each of
 * which must come back the same. uso is the same with many datagrams of one size in
 * one message up to BYTES, for the device to cut up (UDP_SEGMENT). pour sends as fast as it can and says how much
 * the other side took, soak takes. Addresses are IPv4 or IPv6, with %interface
 * if need be. Prints one line of key=value; exit status 0 if all was right.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_MAX 65536
#define DATAGRAM_MAX 60000
#define CONNECT_SECONDS 20.0
#define STALL_MS 30000

enum kind {
	KIND_CHECK = 1, /* both ways, compared */
	KIND_POUR, /* the client sends */
	KIND_SOAK, /* the server sends */
};

/* What a client says first. */
struct hello {
	uint32_t kind;
	uint32_t seconds;
	uint64_t bytes; /* each way */
	uint64_t seed;
};

static void die(const char *what)
{
	printf("result=failed reason=\"%s: %s\"\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* --- a stream that both sides know ---------------------------------------------- */

struct stream {
	uint64_t state, word;
	uint64_t at, end; /* bytes */
};

static void stream_init(struct stream *s, uint64_t seed, uint64_t bytes)
{
	*s = (struct stream){ .state = seed * 2654435769u + 88172645463325252ull, .end = bytes };
}

/* The next len bytes (xorshift64, eight at a time). */
static void stream_fill(struct stream *s, uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++, s->at++) {
		if (!(s->at & 7)) {
			s->state ^= s->state << 13;
			s->state ^= s->state >> 7;
			s->state ^= s->state << 17;
			s->word = s->state;
		}
		buf[i] = (uint8_t)s->word;
		s->word >>= 8;
	}
}

/* Is this what comes next? */
static bool stream_matches(struct stream *s, const uint8_t *buf, size_t len)
{
	static uint8_t want[CHUNK_MAX];

	if (len > s->end - s->at)
		return false;
	stream_fill(s, want, len);
	return !memcmp(want, buf, len);
}

/* --- both ends of a connection ---------------------------------------------------- */

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* What is still to be sent of a stream, in pieces of many sizes. */
struct sender {
	struct stream stream;
	uint8_t buf[CHUNK_MAX];
	size_t len, sent;
	uint32_t nr;
};

static size_t piece(struct sender *s)
{
	static const size_t sizes[] = { 1, 1447, 65536, 1448, 100, 30000, 1449, 4096, 65535, 9000 };
	size_t left = s->stream.end - s->stream.at;
	size_t len = sizes[s->nr++ % (sizeof(sizes) / sizeof(sizes[0]))];

	return len < left ? len : left;
}

/* False at the end of the stream. */
static bool send_some(int fd, struct sender *s)
{
	ssize_t n;

	if (s->sent == s->len) {
		s->len = piece(s);
		s->sent = 0;
		if (!s->len)
			return false;
		stream_fill(&s->stream, s->buf, s->len);
	}
	n = send(fd, s->buf + s->sent, s->len - s->sent, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		die("send");
	if (n > 0)
		s->sent += (size_t)n;
	return true;
}

/* Exchange both streams. False: a byte that came in is wrong, or one too many. */
static bool exchange(int fd, uint64_t seed_out, uint64_t seed_in, uint64_t bytes)
{
	static struct sender out;
	static uint8_t buf[CHUNK_MAX];
	struct stream in;
	bool sending = true;
	struct pollfd pfd = { .fd = fd };
	ssize_t n;

	memset(&out, 0, sizeof(out));
	stream_init(&out.stream, seed_out, bytes);
	stream_init(&in, seed_in, bytes);
	set_nonblocking(fd);
	while (sending || in.at < in.end) {
		pfd.events = (short)((sending ? POLLOUT : 0) | (in.at < in.end ? POLLIN : 0));
		if (poll(&pfd, 1, STALL_MS) == 0) {
			errno = ETIMEDOUT;
			die("stalled");
		}
		if (pfd.revents & POLLOUT && sending)
			sending = send_some(fd, &out);
		if (!(pfd.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = recv(fd, buf, in.end - in.at < sizeof(buf) ? in.end - in.at : sizeof(buf), 0);
		if (n == 0)
			return in.at == in.end && !sending;
		if (n < 0 && errno != EAGAIN)
			die("recv");
		if (n > 0 && !stream_matches(&in, buf, (size_t)n)) {
			printf("wrong_before=%llu ", (unsigned long long)in.at);
			return false;
		}
	}
	return true;
}

/* Send for a time, then close this direction; bytes that the kernel took. */
static uint64_t pour(int fd, uint32_t seconds)
{
	static uint8_t buf[CHUNK_MAX * 2];
	double end = now() + seconds;
	uint64_t sum = 0;
	ssize_t n;

	while (now() < end) {
		n = send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
		if (n < 0)
			die("send");
		sum += (uint64_t)n;
	}
	shutdown(fd, SHUT_WR);
	return sum;
}

static uint64_t soak(int fd)
{
	static uint8_t buf[CHUNK_MAX * 2];
	uint64_t sum = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		sum += (uint64_t)n;
	if (n < 0)
		die("recv");
	return sum;
}

static void read_all(int fd, void *buf, size_t len)
{
	uint8_t *p = buf;
	ssize_t n;

	while (len) {
		n = recv(fd, p, len, 0);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLIN };

			if (poll(&pfd, 1, STALL_MS) == 0) {
				errno = ETIMEDOUT;
				die("stalled");
			}
			continue;
		}
		if (n <= 0)
			die("recv");
		p += n;
		len -= (size_t)n;
	}
}

/* --- serve ------------------------------------------------------------------------ */

static void serve_one(int fd)
{
	struct hello hello;
	uint64_t sum;
	char verdict;

	read_all(fd, &hello, sizeof(hello));
	switch (hello.kind) {
	case KIND_CHECK:
		verdict = exchange(fd, hello.seed + 1, hello.seed, hello.bytes) ? 'Y' : 'N';
		/* The client waits for this one byte, there is room for it. */
		if (send(fd, &verdict, 1, MSG_NOSIGNAL) != 1)
			die("send");
		break;
	case KIND_POUR:
		sum = soak(fd);
		if (send(fd, &sum, sizeof(sum), MSG_NOSIGNAL) != sizeof(sum))
			die("send");
		break;
	case KIND_SOAK:
		pour(fd, hello.seconds);
		break;
	default:
		break;
	}
}

static void enter(const char *netns)
{
	int fd = open(netns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(netns);
	close(fd);
}

static int bound_socket(int type, uint16_t port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0), one = 1, off = 0;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 64) < 0)
		die("listen");
	return fd;
}

/* One namespace: TCP in a child for each connection, UDP sent back. */
static void serve(uint16_t port)
{
	static uint8_t buf[DATAGRAM_MAX];
	struct pollfd pfd[2] = {
		{ .fd = bound_socket(SOCK_STREAM, port), .events = POLLIN },
		{ .fd = bound_socket(SOCK_DGRAM, port), .events = POLLIN },
	};
	struct sockaddr_in6 from;
	socklen_t from_len;
	ssize_t n;
	int fd;

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		poll(pfd, 2, -1);
		if (pfd[1].revents) {
			from_len = sizeof(from);
			n = recvfrom(pfd[1].fd, buf, sizeof(buf), 0, (struct sockaddr *)&from,
				     &from_len);
			if (n >= 0)
				sendto(pfd[1].fd, buf, (size_t)n, 0, (struct sockaddr *)&from,
				       from_len);
		}
		if (!pfd[0].revents)
			continue;
		fd = accept4(pfd[0].fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && fork() == 0) {
			close(pfd[0].fd);
			close(pfd[1].fd);
			serve_one(fd);
			_exit(0);
		}
		if (fd >= 0)
			close(fd);
	}
}

/* --- ask -------------------------------------------------------------------------- */

static socklen_t parse_address(const char *text, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
	char copy[128], *percent;

	memset(out, 0, sizeof(*out));
	snprintf(copy, sizeof(copy), "%s", text);
	percent = strchr(copy, '%');
	if (percent) {
		*percent = '\0';
		v6->sin6_scope_id = if_nametoindex(percent + 1);
	}
	if (inet_pton(AF_INET6, copy, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	if (inet_pton(AF_INET, copy, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	errno = EINVAL;
	die(text);
	return 0;
}

static int connected(const char *address, uint16_t port, int type)
{
	static const struct timespec pause = { .tv_nsec = 100000000 };
	struct sockaddr_storage to;
	socklen_t len = parse_address(address, port, &to);
	double start = now();
	int fd;

	do {
		fd = socket(to.ss_family, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			die("socket");
		if (connect(fd, (struct sockaddr *)&to, len) == 0)
			return fd;
		close(fd);
		nanosleep(&pause, NULL);
	} while (now() < start + CONNECT_SECONDS);
	die("connect");
	return -1;
}

static int ask_tcp(const char *address, uint16_t port, uint64_t bytes)
{
	struct hello hello = { .kind = KIND_CHECK, .bytes = bytes };
	double start = now();
	int fd = connected(address, port, SOCK_STREAM);
	char verdict = 'N';
	bool ok;

	hello.seed = (uint64_t)getpid() << 20 ^ (uint64_t)(start * 1e6);
	if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
		die("send");
	ok = exchange(fd, hello.seed, hello.seed + 1, bytes);
	if (ok)
		read_all(fd, &verdict, 1);
	printf("result=%s bytes=%llu seconds=%.3f here=%s there=%s\n",
	       ok && verdict == 'Y' ? "ok" : "failed", (unsigned long long)bytes, now() - start,
	       ok ? "right" : "wrong", verdict == 'Y' ? "right" : "wrong");
	return ok && verdict == 'Y' ? 0 : 1;
}

/* Datagrams may be lost: each is sent until it comes back, or ten times. */
static bool echoed(int fd, const uint8_t *sent, size_t len, unsigned int *lost)
{
	static uint8_t back[DATAGRAM_MAX];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	for (int i = 0; i < 10; i++, ++*lost) {
		if (send(fd, sent, len, 0) < 0)
			die("send");
		while (poll(&pfd, 1, 1000) > 0) {
			n = recv(fd, back, sizeof(back), 0);
			if (n == (ssize_t)len && !memcmp(sent, back, len))
				return true;
			/* A late answer to an earlier one begins with its number. */
			if (n >= 4 && !memcmp(back, sent, 4))
				return false;
		}
	}
	return false;
}

static int ask_udp(const char *address, uint16_t port, uint64_t longest)
{
	static uint8_t buf[DATAGRAM_MAX];
	int fd = connected(address, port, SOCK_DGRAM);
	struct stream stream;
	unsigned int nr = 0, lost = 0;

	stream_init(&stream, 1, UINT64_MAX);
	if (longest > sizeof(buf))
		longest = sizeof(buf);
	for (uint64_t len = 4; len <= longest; len += len < 1400 ? 97 : 1 + longest / 16, nr++) {
		stream_fill(&stream, buf, len);
		memcpy(buf, &nr, sizeof(nr));
		if (!echoed(fd, buf, len, &lost)) {
			printf("result=failed length=%llu datagrams=%u lost=%u\n",
			       (unsigned long long)len, nr, lost);
			return 1;
		}
	}
	printf("result=ok datagrams=%u lost=%u\n", nr, lost);
	return 0;
}

/* The datagrams that a message was cut into, in any order: which have come back. */
static unsigned int gather(int fd, const uint8_t *sent, size_t len, size_t size, bool *back)
{
	static uint8_t buf[DATAGRAM_MAX];
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned int nr = (unsigned int)((len + size - 1) / size), missing = nr;
	ssize_t n;

	while (missing && poll(&pfd, 1, 1000) > 0) {
		n = recv(fd, buf, sizeof(buf), 0);
		for (unsigned int i = 0; i < nr; i++) {
			size_t at = i * size, want = len - at < size ? len - at : size;

			if (back[i] || n != (ssize_t)want || memcmp(buf, sent + at, want))
				continue;
			back[i] = true;
			missing--;
			break;
		}
	}
	return missing;
}

/* Many datagrams in one message. */
static int ask_uso(const char *address, uint16_t port, uint64_t longest)
{
	static const int sizes[] = { 1400, 1001, 512 };
	static uint8_t buf[DATAGRAM_MAX];
	int fd = connected(address, port, SOCK_DGRAM), room = 1 << 20;
	struct stream stream;
	unsigned int nr = 0, lost = 0, missing;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	stream_init(&stream, 2, UINT64_MAX);
	if (longest > sizeof(buf))
		longest = sizeof(buf);
	for (unsigned int i = 0; i < 3 * 12; i++, nr++) {
		int size = sizes[i % 3];
		/* The last piece is a short one, but for some. */
		size_t len = (size_t)size * (2 + i / 3) + (i % 4) * 100;
		bool back[64] = { false };

		if (len > longest)
			break;
		if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) < 0)
			die("UDP_SEGMENT");
		stream_fill(&stream, buf, len);
		missing = 1;
		for (int tries = 0; tries < 10 && missing; tries++) {
			if (send(fd, buf, len, 0) != (ssize_t)len)
				die("send");
			missing = gather(fd, buf, len, (size_t)size, back);
			lost += missing;
		}
		if (missing) {
			printf("result=failed length=%zu size=%d missing=%u\n", len, size, missing);
			return 1;
		}
	}
	printf("result=ok messages=%u lost=%u\n", nr, lost);
	return 0;
}

static int ask_rate(bool out, const char *address, uint16_t port, uint32_t seconds)
{
	struct hello hello = { .kind = out ? KIND_POUR : KIND_SOAK, .seconds = seconds };
	int fd = connected(address, port, SOCK_STREAM);
	double start = now(), spent;
	uint64_t sum;

	if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
		die("send");
	if (out) {
		pour(fd, seconds);
		read_all(fd, &sum, sizeof(sum));
	} else {
		sum = soak(fd);
	}
	spent = now() - start;
	printf("result=ok bytes=%llu seconds=%.3f mbit_s=%.1f\n", (unsigned long long)sum, spent,
	       (double)sum * 8 / spent / 1e6);
	return 0;
}

int main(int argc, char **argv)
{
	uint16_t port;

	if (argc >= 3 && !strcmp(argv[1], "serve")) {
		port = (uint16_t)atoi(argv[2]);
		for (int i = 3; i < argc; i++) {
			if (fork() == 0) {
				enter(argv[i]);
				serve(port);
			}
		}
		if (argc == 3)
			serve(port);
		for (;;)
			pause();
	}
	if (argc < 5) {
		fputs("netcheck: see the head of its source\n", stderr);
		return 2;
	}
	if (argc > 5)
		enter(argv[5]);
	port = (uint16_t)atoi(argv[3]);
	if (!strcmp(argv[1], "tcp"))
		return ask_tcp(argv[2], port, strtoull(argv[4], NULL, 0));
	if (!strcmp(argv[1], "udp"))
		return ask_udp(argv[2], port, strtoull(argv[4], NULL, 0));
	if (!strcmp(argv[1], "uso"))
		return ask_uso(argv[2], port, strtoull(argv[4], NULL, 0));
	return ask_rate(!strcmp(argv[1], "pour"), argv[2], port, (uint32_t)atoi(argv[4]));
}
