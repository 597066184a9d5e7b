/*
 * Tests of the front-end's messages against a back-end of a few lines in the
 * same thread, and of the whole library against qemu-storage-daemon where that
 * is installed. Run by meson.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/blkdrv.h"
#include "tests/frontend/fe.h"

#define FEATURES (1ull << VIRTIO_F_VERSION_1 | 1ull << FE_F_PROTOCOL_FEATURES | 0xf0)
#define PROTO (1ull << FE_PROTO_REPLY_ACK | 1ull << FE_PROTO_CONFIG | 1ull << FE_PROTO_MQ)

/* A back-end that answers by the book, or says no to one request. */
struct peer {
	int sock;
	uint32_t refuse; /* this request; 0: none */
	uint64_t features, proto; /* what the front-end set */
	unsigned int nr_fds; /* that came */
	uint32_t last_size;
};

static void answer(struct peer *p, struct fe_hdr *h, const void *payload, uint32_t len)
{
	uint8_t out[sizeof(*h) + 512];

	h->flags = FE_VERSION | FE_FLAG_REPLY;
	h->size = len;
	memcpy(out, h, sizeof(*h));
	memcpy(out + sizeof(*h), payload, len);
	assert_int_equal(write(p->sock, out, sizeof(*h) + len), sizeof(*h) + len);
}

static void peer_handle(struct peer *p, struct fe_hdr h, uint8_t *payload)
{
	uint64_t v = 0;

	if (h.size >= sizeof(v))
		memcpy(&v, payload, sizeof(v));
	switch (h.request) {
	case FE_GET_FEATURES:
		v = FEATURES;
		break;
	case FE_GET_PROTOCOL_FEATURES:
		v = PROTO;
		break;
	case FE_GET_CONFIG:
		memset(payload + sizeof(struct fe_config_hdr), 0x42,
		       h.size - sizeof(struct fe_config_hdr));
		answer(p, &h, payload, h.size);
		return;
	case FE_SET_FEATURES:
		p->features = v;
		break;
	case FE_SET_PROTOCOL_FEATURES:
		p->proto = v;
		break;
	default:
		break;
	}
	if (h.request == FE_GET_FEATURES || h.request == FE_GET_PROTOCOL_FEATURES) {
		answer(p, &h, &v, sizeof(v));
	} else if (h.flags & FE_FLAG_NEED_REPLY) {
		v = h.request == p->refuse;
		answer(p, &h, &v, sizeof(v));
	}
}

/* fe.pump: handle what has arrived. */
static void peer_pump(void *opaque)
{
	char control[CMSG_SPACE(16 * sizeof(int))];
	struct peer *p = opaque;
	struct fe_hdr h;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control) };
	uint8_t payload[1024];
	struct cmsghdr *c;

	if (p->sock < 0 || recvmsg(p->sock, &mh, MSG_DONTWAIT) != sizeof(h))
		return;
	c = CMSG_FIRSTHDR(&mh);
	for (unsigned int i = 0; c && i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		close(((int *)CMSG_DATA(c))[i]);
		p->nr_fds++;
	}
	p->last_size = h.size;
	assert_true(h.size <= sizeof(payload));
	if (h.size)
		assert_int_equal(read(p->sock, payload, h.size), h.size);
	peer_handle(p, h, payload);
}

static void connect_peer(struct fe *fe, struct peer *p)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(p, 0, sizeof(*p));
	p->sock = pair[1];
	fe_init(fe);
	fe->pump = peer_pump;
	fe->pump_opaque = p;
	fe_attach(fe, pair[0]);
}

static void only_what_is_offered_is_taken(void **state)
{
	struct peer p;
	struct fe fe;

	connect_peer(&fe, &p);
	assert_int_equal(fe_negotiate(&fe, 1ull << VIRTIO_F_VERSION_1 | 0x33,
				      1ull << FE_PROTO_REPLY_ACK | 1ull << FE_PROTO_STATUS),
			 0);
	assert_int_equal(p.features,
			 1ull << VIRTIO_F_VERSION_1 | 1ull << FE_F_PROTOCOL_FEATURES | 0x30);
	assert_int_equal(p.proto, 1ull << FE_PROTO_REPLY_ACK);
	assert_true(fe_has_proto(&fe, FE_PROTO_REPLY_ACK));
	fe_close(&fe);
	close(p.sock);
}

static void a_refusal_is_reported(void **state)
{
	struct peer p;
	struct fe fe;

	connect_peer(&fe, &p);
	assert_int_equal(fe_negotiate(&fe, ~0ull, PROTO), 0);
	assert_int_equal(fe_vring_num(&fe, 0, 256), 0);
	p.refuse = FE_SET_VRING_NUM;
	assert_int_equal(fe_vring_num(&fe, 0, 3), -EREMOTEIO);
	fe_close(&fe);
	close(p.sock);
}

static void memory_is_sent_with_its_descriptors(void **state)
{
	struct peer p;
	struct fe fe;

	connect_peer(&fe, &p);
	assert_int_equal(fe_negotiate(&fe, ~0ull, PROTO), 0);
	assert_true(fe_mem_new(&fe, 1 << 20) >= 0);
	assert_true(fe_mem_new_at(&fe, 1ull << 40, 1 << 16, 1 << 12) >= 0);
	assert_int_equal(fe_mem_share(&fe), 0);
	assert_int_equal(p.nr_fds, 2);
	assert_int_equal(p.last_size, 8 + 2 * sizeof(struct fe_mem_region));
	assert_null(fe_ptr(&fe, (1ull << 40) + (1 << 16) - 1, 2));
	assert_non_null(fe_ptr(&fe, (1ull << 40) + (1 << 16) - 1, 1));
	fe_close(&fe);
	close(p.sock);
}

static void config_space_is_read(void **state)
{
	uint8_t buf[64] = { 0 };
	struct peer p;
	struct fe fe;

	connect_peer(&fe, &p);
	assert_int_equal(fe_negotiate(&fe, ~0ull, PROTO), 0);
	assert_int_equal(fe_get_config(&fe, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 0x42);
	assert_int_equal(buf[63], 0x42);
	fe_close(&fe);
	close(p.sock);
}

static void silence_and_hang_up_are_told_apart(void **state)
{
	struct peer p;
	struct fe fe;
	int sock;

	connect_peer(&fe, &p);
	fe.timeout_ms = 20;
	sock = p.sock;
	p.sock = -1;
	assert_int_equal(fe_sync(&fe), -ETIMEDOUT);
	assert_false(fe_hung_up(&fe));
	close(sock);
	assert_true(fe_hung_up(&fe));
	fe_close(&fe);
}

static void raw_bytes_go_as_they_are(void **state)
{
	const uint8_t bytes[5] = { 1, 2, 3, 4, 5 };
	uint8_t got[16];
	struct peer p;
	struct fe fe;

	connect_peer(&fe, &p);
	assert_int_equal(fe_send_raw(&fe, bytes, sizeof(bytes), NULL, 0), 0);
	assert_int_equal(read(p.sock, got, sizeof(got)), sizeof(bytes));
	assert_memory_equal(got, bytes, sizeof(bytes));
	fe_close(&fe);
	close(p.sock);
}

/* --- against qemu-storage-daemon ------------------------------------------ */

static char dir[] = "/tmp/ringbolt-fe-XXXXXX", sock_path[64], image[64];

static pid_t spawn_qsd(void)
{
	char blockdev[128], export[160];
	FILE *f;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(sock_path, sizeof(sock_path), "%s/s", dir);
	snprintf(image, sizeof(image), "%s/i", dir);
	f = fopen(image, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), 8 << 20), 0);
	fclose(f);
	snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=f,filename=%s", image);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=%s,writable=on,"
		 "num-queues=2",
		 sock_path);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev", blockdev,
		       "--export", export, NULL);
		_exit(127);
	}
	return pid;
}

static void exercise(const struct blk_conf *conf)
{
	static uint8_t out[16384], in[16384];
	static struct blk_req req;
	static struct blk b;
	uint32_t seed = 7;

	assert_int_equal(blk_open(&b, conf), 0);
	assert_int_equal(le64toh(b.config.capacity), (8 << 20) / BLK_SECTOR);
	assert_int_equal(blk_req_init(&req, &b, b.region, sizeof(out)), 0);
	for (unsigned int i = 0; i < 300; i++) {
		uint32_t len = BLK_SECTOR * (1 + fe_random(&seed) % 32);
		uint64_t sector = fe_random(&seed) % 16000;

		for (unsigned int k = 0; k < len; k++)
			out[k] = (uint8_t)fe_random(&seed);
		req.layout_seed = i % 2 ? fe_random(&seed) : 0;
		assert_int_equal(blk_write(&req, i % 2, sector, out, len), VIRTIO_BLK_S_OK);
		req.layout_seed = i % 2 ? fe_random(&seed) : 0;
		assert_int_equal(blk_read(&req, i % 2, sector, in, len), VIRTIO_BLK_S_OK);
		assert_memory_equal(in, out, len);
	}
	assert_int_equal(blk_flush(&req, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_read(&req, 0, 1 << 30, in, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_close(&b), 0);
}

static void qemu_storage_daemon_stores_what_we_write(void **state)
{
	pid_t pid;

	if (system("command -v qemu-storage-daemon >/dev/null")) {
		print_message("qemu-storage-daemon is not installed\n");
		skip();
	}
	pid = spawn_qsd();
	for (unsigned int i = 0; i < 4; i++)
		exercise(&(struct blk_conf){ .path = sock_path,
					     .queues = 2,
					     .queue_size = 128,
					     .event_idx = i & 1,
					     .indirect = i & 2 });
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	unlink(image);
	unlink(sock_path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_offered_is_taken),
		cmocka_unit_test(a_refusal_is_reported),
		cmocka_unit_test(memory_is_sent_with_its_descriptors),
		cmocka_unit_test(config_space_is_read),
		cmocka_unit_test(silence_and_hang_up_are_told_apart),
		cmocka_unit_test(raw_bytes_go_as_they_are),
		cmocka_unit_test(qemu_storage_daemon_stores_what_we_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
