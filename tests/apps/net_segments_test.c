/*
 * Large segments of TCP and UDP between drivers that negotiated other offloads: as
 * they are to whom can take them, in pieces with whole checksums to whom cannot.
 * The one test of USO with a driver, as QEMU (up to 10.0) keeps that to itself.
 *
 * Arguments: the program.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/apps/netprog.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/frontend/netdrv.h"
#include "tests/virtio-net/framekit.h"

enum {
	SENDER,
	ABLE,
	PLAIN,
	NR_PORTS
};
static const char *server_path;
static char dir[] = "/tmp/ringbolt-apps-XXXXXX";
static char sock[NR_PORTS][64], control[64];
static struct net net[NR_PORTS];
static struct kit_frame kit;
static struct net_frame got;

static int start(void **state)
{
	const bool packed = *(const bool *)*state;
	struct net_conf conf = { .buf_len = 4096, .no_ctrl = true };
	char arg[NR_PORTS][160], *args[NR_PORTS];

	for (unsigned int i = 0; i < NR_PORTS; i++) {
		snprintf(arg[i], sizeof(arg[i]), "--port=socket=%s", sock[i]);
		args[i] = arg[i];
	}
	netprog_start(server_path, control, args, NR_PORTS);
	for (unsigned int i = 0; i < NR_PORTS; i++) {
		conf.path = sock[i];
		conf.features = i == PLAIN ? 1ull << VIRTIO_NET_F_MRG_RXBUF : NET_FEATURES_ALL;
		conf.features |= packed ? 1ull << VIRTIO_F_RING_PACKED : 0;
		assert_int_equal(net_open(&net[i], &conf), 0);
	}
	assert_true(net_has(&net[SENDER], VIRTIO_NET_F_HOST_USO));
	assert_true(net_has(&net[ABLE], VIRTIO_NET_F_GUEST_USO4));
	assert_true(net_has(&net[ABLE], VIRTIO_NET_F_GUEST_USO6));
	netprog_wait();
	return 0;
}

static int stop(void **state)
{
	for (unsigned int i = 0; i < NR_PORTS; i++)
		net_abandon(&net[i]);
	netprog_stop();
	return 0;
}

/* The frame, and what the sender asked for. */
static void expect_whole(const struct virtio_net_hdr *h)
{
	assert_int_equal(net_recv_wait(&net[ABLE], 0, &got), 1);
	assert_int_equal(got.len, kit.len);
	assert_memory_equal(got.data, kit.bytes, kit.len);
	assert_int_equal(got.hdr.mrg.hdr.gso_type, h->gso_type);
	assert_int_equal(le16_to_cpu(got.hdr.mrg.hdr.gso_size), le16_to_cpu(h->gso_size));
	assert_int_equal(got.hdr.mrg.hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

/* All of the payload in its order, each piece a frame of its own. */
static void expect_pieces(uint32_t gso_size)
{
	uint32_t payload = kit.len - kit.hdr_len, off = 0;

	while (off < payload) {
		uint32_t len = (uint32_t)min_u64(gso_size, payload - off);

		assert_int_equal(net_recv_wait(&net[PLAIN], 0, &got), 1);
		assert_int_equal(got.len, kit.hdr_len + len);
		assert_int_equal(got.hdr.mrg.hdr.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		assert_int_equal(got.hdr.mrg.hdr.flags, 0);
		assert_memory_equal(got.data, kit.bytes, kit.l3);
		assert_memory_equal(got.data + kit.hdr_len, kit.bytes + kit.hdr_len + off, len);
		assert_true(kit_csum_good(got.data, got.len, kit.l3, kit.l4));
		off += len;
	}
	assert_int_equal(net_recv(&net[PLAIN], 0, &got), 0);
}

static void large_segments_arrive_whole_or_in_pieces(void **state)
{
	uint64_t seed = 1;

	for (unsigned int i = 0; i < 200; i++) {
		struct kit_spec spec = {
			.v6 = i & 1,
			.proto = i & 2 ? IPPROTO_UDP : IPPROTO_TCP,
			.tcp_flags = 0x10,
			.payload = 2000 + kit_below(&seed, 40000),
		};
		/* The receiver has room for so many pieces. */
		uint16_t gso_size = (uint16_t)(500 + kit_below(&seed, 900));
		struct virtio_net_hdr h;

		/* To an address that nobody has: to everybody. */
		kit_build(&spec, &kit);
		h = kit_hdr(&kit, gso_size);
		assert_int_equal(net_send(&net[SENDER], 0, &h, kit.bytes, kit.len), 0);
		assert_int_equal(net_drain(&net[SENDER], 0), 0);
		expect_whole(&h);
		expect_pieces(gso_size);
	}
}

static int setup_group(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	for (unsigned int i = 0; i < NR_PORTS; i++)
		snprintf(sock[i], sizeof(sock[i]), "%s/%u.sock", dir, i);
	snprintf(control, sizeof(control), "%s/ctl.sock", dir);
	return 0;
}

static int teardown_group(void **state)
{
	return rmdir(dir);
}

int main(int argc, char **argv)
{
	static bool split = false, packed = true;
#define WITH(kind)                                                                                 \
	{                                                                                          \
		"large_segments_arrive_whole_or_in_pieces (" #kind ")",                            \
			large_segments_arrive_whole_or_in_pieces, start, stop, &(kind)             \
	}
	const struct CMUnitTest tests[] = { WITH(split), WITH(packed) };

	if (argc != 2) {
		fprintf(stderr, "usage: %s RINGBOLT-NET\n", argv[0]);
		return 2;
	}
	server_path = argv[1];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
