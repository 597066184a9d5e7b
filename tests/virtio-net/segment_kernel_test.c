/*
 * Large segments cut up, byte for byte, as the kernel does it: a frame goes out
 * through a packet socket with a virtio_net_hdr on a TAP device that can do
 * nothing in hardware, and what is read from the TAP device is what the kernel's
 * own segmentation and checksums made of it.
 *
 * In a network namespace of its own, in a user namespace where it is not root.
 * Skipped (77) where the kernel lets it have neither.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/core/test.h"
#include "tests/virtio-net/framekit.h"
#include "virtio-net/net_bytes.h"
#include "virtio-net/offload.h"

#define TAP_MTU 9000
#define EVERYTHING (~0ull)

static int tap = -1, sock = -1;
static struct kit_frame kit;
static struct kit_iov bufs;
static struct segmenter seg;

/* What the kernel reads and what it gives back. */
struct message {
	struct virtio_net_hdr hdr;
	uint8_t bytes[KIT_LEN_MAX];
} __attribute__((packed));
static struct message out, in;
static uint8_t ours[KIT_LEN_MAX];

/* --- the TAP device ------------------------------------------------------------------ */

static int give_up(const char *what)
{
	printf("skipped: %s: %s\n", what, strerror(errno));
	return 77;
}

/* The device sends nothing of its own accord. */
static void be_quiet(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		printf("cannot disable IPv6: %s\n", strerror(errno));
	close(fd);
}

static int set_up(void)
{
	struct ifreq ifr = { .ifr_name = "segtap",
			     .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct sockaddr_ll addr = { .sll_family = AF_PACKET };
	int hdr_len = sizeof(struct virtio_net_hdr), one = 1;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return give_up("no network namespace");
	be_quiet();
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &ifr) < 0)
		return give_up("no TAP device");
	if (ioctl(tap, TUNSETVNETHDRSZ, &hdr_len) < 0)
		return give_up("no virtio_net_hdr on the TAP device");
	sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (sock < 0 || setsockopt(sock, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
		return give_up("no packet socket with virtio_net_hdr");
	ifr.ifr_mtu = TAP_MTU;
	if (ioctl(sock, SIOCSIFMTU, &ifr) < 0)
		return give_up("MTU of the TAP device");
	ifr.ifr_flags = IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &ifr) < 0)
		return give_up("TAP device up");
	addr.sll_ifindex = (int)if_nametoindex("segtap");
	addr.sll_protocol = htons(ETH_P_ALL);
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return give_up("packet socket on the TAP device");
	return 0;
}

static void set_checksum_offload(bool on)
{
	assert_int_equal(ioctl(tap, TUNSETOFFLOAD, on ? TUN_F_CSUM : 0), 0);
}

/* The next frame of ours that the device transmits, in in; its length. */
static uint32_t read_frame(void)
{
	ssize_t got;

	do {
		got = read(tap, &in, sizeof(in));
		assert_true(got >= (ssize_t)(sizeof(in.hdr) + ETH_HDR_LEN));
	} while (memcmp(in.bytes, kit.bytes, ETH_TYPE_OFFSET));
	return (uint32_t)got - (uint32_t)sizeof(in.hdr);
}

static void send_frame(const struct virtio_net_hdr *h)
{
	size_t len = sizeof(out.hdr) + kit.len;

	out.hdr = *h;
	memcpy(out.bytes, kit.bytes, kit.len);
	if (write(sock, &out, len) != (ssize_t)len)
		fail_msg("the kernel does not take the frame: %s", strerror(errno));
}

/* --- comparing ------------------------------------------------------------------------ */

/* Two ways to write zero are one number; a partial sum may be either. */
static void even_zero(uint8_t *field)
{
	if (get_be16(field) == 0xffff)
		put_be16(field, 0);
}

static void assert_same(const struct frame *piece, uint32_t len)
{
	uint32_t field = le16_to_cpu(in.hdr.csum_start) + le16_to_cpu(in.hdr.csum_offset);

	assert_int_equal(kit_gather(piece, ours), len);
	assert_int_equal(in.hdr.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(in.hdr.flags, piece->offload.flags);
	if (in.hdr.flags) {
		assert_int_equal(le16_to_cpu(in.hdr.csum_start), piece->offload.csum_start);
		assert_int_equal(le16_to_cpu(in.hdr.csum_offset), piece->offload.csum_offset);
		even_zero(ours + field);
		even_zero(in.bytes + field);
	}
	assert_memory_equal(ours, in.bytes, len);
}

/* The same frame cut by the kernel and by us. */
static void compare(const struct kit_spec *spec, uint16_t gso_size, bool ecn, bool keep_csum,
		    uint64_t *seed)
{
	struct frame whole, piece;
	struct virtio_net_hdr h;
	unsigned int nr = 0;

	kit_build(spec, &kit);
	h = kit_hdr(&kit, gso_size);
	if (ecn)
		h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	kit_cut_anyhow(&bufs, kit.bytes, kit.len, seed);
	kit_frame_init(&whole, &bufs, kit.len);
	assert_int_equal(offload_accept(&whole, &h, EVERYTHING, 0), 0);
	assert_int_equal(segmenter_init(&seg, &whole, keep_csum), 0);
	send_frame(&h);
	while (segmenter_next(&seg, &piece)) {
		assert_same(&piece, read_frame());
		nr++;
	}
	assert_int_equal(nr, (spec->payload + gso_size - 1) / gso_size);
	kit_iov_free(&bufs);
}

static void compare_many(bool keep_csum)
{
	static const uint8_t ext[] = { IP_PROTO_DSTOPTS, IP_PROTO_ROUTING };
	struct kit_spec spec = { .ext = ext };
	uint64_t seed = 99;
	uint32_t room, gso_size;

	set_checksum_offload(keep_csum);
	for (int i = 0; i < 1000; i++) {
		spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = i & 2;
		spec.tags = i & 4 ? 1 : 0;
		spec.tci = 77;
		spec.ip_options = 4 * kit_below(&seed, 11);
		spec.nr_ext = kit_below(&seed, 3);
		spec.tcp_options = 4 * kit_below(&seed, 11);
		spec.tcp_flags = (uint8_t)kit_random(&seed);
		spec.tcp_seq = (uint32_t)kit_random(&seed);
		spec.ip_id = (uint16_t)kit_random(&seed);
		room = i % 10 ? 4000 : 60000;
		spec.payload = room / 2 + kit_below(&seed, room / 2);
		/* Older kernels take no more than 64 pieces of UDP. */
		gso_size = 100 + kit_below(&seed, 1300);
		if (spec.proto == IP_PROTO_UDP)
			gso_size = (uint32_t)max_u64(gso_size, spec.payload / 60);
		compare(&spec, (uint16_t)gso_size, spec.proto == IP_PROTO_TCP && i & 8, keep_csum,
			&seed);
	}
}

static void pieces_with_checksums_are_those_of_the_kernel(void **state)
{
	compare_many(false);
}

static void pieces_with_partial_checksums_are_those_of_the_kernel(void **state)
{
	compare_many(true);
}

static void completed_checksums_are_those_of_the_kernel(void **state)
{
	struct kit_spec spec = { 0 };
	struct virtio_net_hdr h;
	uint64_t seed = 98;
	struct frame f;

	set_checksum_offload(false);
	for (int i = 0; i < 500; i++) {
		spec.proto = i & 1 ? IP_PROTO_TCP : IP_PROTO_UDP;
		spec.v6 = i & 2;
		spec.payload = kit_below(&seed, 1400);
		kit_build(&spec, &kit);
		h = kit_hdr(&kit, 0);
		kit_cut_anyhow(&bufs, kit.bytes, kit.len, &seed);
		kit_frame_init(&f, &bufs, kit.len);
		assert_int_equal(offload_accept(&f, &h, EVERYTHING, 0), 0);
		offload_finish_csum(&f);
		send_frame(&h);
		assert_same(&f, read_frame());
		kit_iov_free(&bufs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_with_checksums_are_those_of_the_kernel),
		cmocka_unit_test(pieces_with_partial_checksums_are_those_of_the_kernel),
		cmocka_unit_test(completed_checksums_are_those_of_the_kernel),
	};
	int ret = set_up();

	if (ret)
		return ret;
	return cmocka_run_group_tests_name("segment_kernel", tests, NULL, NULL);
}
