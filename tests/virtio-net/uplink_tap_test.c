/*
 * An uplink whose device does checksums and segmentation: net_tap with offloads=on.
 * What leaves is compared, byte for byte, with what our own segmentation makes of
 * the same frame (which segment_kernel_test compares with the kernel's), and what
 * comes in with a checksum that the device has looked at says so.
 *
 * In a network namespace of its own, in a user namespace where it is not root.
 * Skipped (77) where the kernel lets it have neither.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/core/test.h"
#include "tests/virtio-net/framekit.h"
#include "tests/virtio-net/swkit.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/offload.h"
#include "virtio-net/uplink.h"

#define DEVICE "net_tap0,iface=uptap"
#define EVERYTHING (~0ull)
#define LOOKS_MAX 10000

static struct swkit k;
static struct swkit_port *port;
static struct uplink *up;
static bool gone;
static int sock = -1;
static struct kit_frame kit;
static struct segmenter seg;
static uint8_t in[KIT_LEN_MAX], ours[KIT_LEN_MAX];

/* --- the device, and the kernel's side of it ------------------------------------------- */

static int give_up(const char *what)
{
	printf("skipped: %s: %s\n", what, strerror(errno));
	return 77;
}

/* The kernel sends nothing of its own accord. */
static void be_quiet(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) < 0)
		printf("cannot disable IPv6: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static int enter_namespace(void)
{
	int tun;

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return give_up("no network namespace");
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0)
		return give_up("no TAP device");
	close(tun);
	be_quiet();
	return 0;
}

static void open_socket(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET };
	struct ifreq ifr = { .ifr_name = "uptap" };

	sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(sock >= 0);
	assert_int_equal(ioctl(sock, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &ifr), 0);
	addr.sll_ifindex = (int)if_nametoindex("uptap");
	addr.sll_protocol = htons(ETH_P_ALL);
	assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

static int set_up(void **state)
{
	struct uplink_conf conf = {
		.name = "up0",
		.dev = { DEVICE },
		.nr_dev = 1,
		.offloads = UPLINK_OFFLOADS_ON,
		.link_forced = true,
	};
	char err[SW_ERR_LEN] = "";

	swkit_open(&k, NULL);
	port = swkit_add(&k, "a", NULL);
	conf.ev = k.ev;
	conf.loops = k.loop;
	conf.nr_loops = SWKIT_LOOPS;
	conf.sw = k.sw;
	sw_port_conf_init(&conf.port);
	if (uplink_create(&conf, &up, err) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	open_socket();
	swkit_settle(&k);
	return 0;
}

static void has_gone(void *opaque)
{
	gone = true;
}

static int tear_down(void **state)
{
	close(sock);
	gone = false;
	uplink_destroy(up, has_gone, NULL);
	while (!gone)
		swkit_settle(&k);
	swkit_close(&k);
	return 0;
}

/* The next frame of ours that the kernel gets from the device, in in; its length. */
static uint32_t read_frame(void)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	ssize_t got;

	do {
		assert_true(poll(&p, 1, 30000) > 0);
		got = recv(sock, in, sizeof(in), 0);
		assert_true(got >= ETH_HDR_LEN);
	} while (memcmp(in, kit.bytes, ETH_TYPE_OFFSET));
	return (uint32_t)got;
}

/* --- out -------------------------------------------------------------------------------- */

/* The frame of kit with that header, from the port into the switch. */
static void send_frame(const struct virtio_net_hdr *h, bool is_large)
{
	struct kit_iov bufs;
	struct frame f, piece;
	unsigned int nr = 0;
	uint64_t seed = 3;
	uint32_t len;

	kit_cut_anyhow(&bufs, kit.bytes, kit.len, &seed);
	kit_frame_init(&f, &bufs, kit.len);
	assert_int_equal(offload_accept(&f, h, EVERYTHING, 0), 0);
	vswitch_forward(k.lane, port->port, &f, 1);
	kit_frame_init(&f, &bufs, kit.len);
	assert_int_equal(offload_accept(&f, h, EVERYTHING, 0), 0);
	if (is_large) {
		assert_int_equal(segmenter_init(&seg, &f, false), 0);
	} else {
		offload_finish_csum(&f);
		piece = f;
	}
	while (is_large ? segmenter_next(&seg, &piece) : !nr) {
		len = kit_gather(&piece, ours);
		assert_int_equal(read_frame(), len);
		assert_memory_equal(in, ours, len);
		nr++;
	}
	kit_iov_free(&bufs);
}

static struct kit_spec any_spec(unsigned int i, uint64_t *seed)
{
	return (struct kit_spec){
		.proto = IP_PROTO_TCP,
		.v6 = i & 1,
		.tcp_options = 4 * kit_below(seed, 11),
		.tcp_flags = 0x10, /* ACK */
		.tcp_seq = (uint32_t)kit_random(seed),
		.ip_id = (uint16_t)kit_random(seed),
	};
}

static void the_device_completes_checksums(void **state)
{
	struct virtio_net_hdr h;
	struct sw_port_stats sum;
	uint64_t seed = 1;

	for (unsigned int i = 0; i < 300; i++) {
		struct kit_spec spec = any_spec(i, &seed);

		if (i & 2)
			spec.proto = IP_PROTO_UDP;
		spec.payload = kit_below(&seed, 1400);
		kit_build(&spec, &kit);
		h = kit_hdr(&kit, 0);
		send_frame(&h, false);
	}
	sw_port_stats_sum(uplink_port(up), &sum);
	assert_int_equal(sum.csum_completed, 0);
}

/* Ours: net_tap would leave IPv6 whole, and sum up odd pieces wrongly. */
static void large_segments_leave_in_pieces(void **state)
{
	struct sw_port_stats sum;
	struct virtio_net_hdr h;
	uint64_t seed = 2;

	for (unsigned int i = 0; i < 200; i++) {
		struct kit_spec spec = any_spec(i, &seed);

		spec.payload = 2000 + kit_below(&seed, 30000);
		kit_build(&spec, &kit);
		h = kit_hdr(&kit, (uint16_t)(500 + kit_below(&seed, 900)));
		send_frame(&h, true);
	}
	sw_port_stats_sum(uplink_port(up), &sum);
	assert_int_equal(sum.segmented, 200);
}

/* --- in --------------------------------------------------------------------------------- */

/* One that is right, or off by one bit. */
static void receive(const struct kit_spec *spec, bool right)
{
	struct virtio_net_hdr h;
	struct kit_iov bufs;
	uint64_t seed = 5;
	struct frame f;
	uint32_t len;

	kit_build(spec, &kit);
	h = kit_hdr(&kit, 0);
	kit_cut_anyhow(&bufs, kit.bytes, kit.len, &seed);
	kit_frame_init(&f, &bufs, kit.len);
	assert_int_equal(offload_accept(&f, &h, EVERYTHING, 0), 0);
	offload_finish_csum(&f);
	len = kit_gather(&f, ours);
	kit_iov_free(&bufs);
	if (!right)
		ours[len - 1] ^= 1;
	swkit_clear(port);
	assert_int_equal(send(sock, ours, len, 0), len);
	for (int i = 0; i < LOOKS_MAX && !port->nr; i++) {
		usleep(100);
		swkit_settle(&k);
	}
	assert_int_equal(port->nr, 1);
	assert_int_equal(port->got[0].len, len);
	assert_memory_equal(port->got[0].bytes, ours, len);
	assert_int_equal(port->got[0].offload.flags, right ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
}

static void a_checksum_that_the_device_has_checked_need_not_be_again(void **state)
{
	uint64_t seed = 4;

	for (unsigned int i = 0; i < 40; i++) {
		struct kit_spec spec = any_spec(i, &seed);

		if (i & 2)
			spec.proto = IP_PROTO_UDP;
		spec.payload = 100 + kit_below(&seed, 1000);
		receive(&spec, i % 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_device_completes_checksums),
		cmocka_unit_test(large_segments_leave_in_pieces),
		cmocka_unit_test(a_checksum_that_the_device_has_checked_need_not_be_again),
	};
	const struct eal_conf conf = { .pages = EAL_PAGES_SMALL };
	char err[EAL_ERR_LEN];
	int ret = enter_namespace();

	if (ret)
		return ret;
	eal_configure(&conf);
	if (eal_start(err) < 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	ret = cmocka_run_group_tests_name("uplink_tap", tests, set_up, tear_down);
	eal_stop();
	return ret;
}
