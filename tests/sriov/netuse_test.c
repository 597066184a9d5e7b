/*
 * This kernel's rtnetlink as sriov/ uses it, on the loopback device of a network
 * namespace of its own: what the host needs it for, its link, and that it has no
 * VFs. VFs themselves are tested in a guest, tests/vm.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/packet_diag.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/netlink.h"
#include "tests/sriov/fake.h"

static struct sriov *s;
static bool alone;

static int setup(void **state)
{
	struct sriov_opts opts = { .state_dir = "/nowhere" };

	log_set_level(LOG_LEVEL_ERROR);
	/* As root, or as root of a namespace of users. */
	alone = !unshare(CLONE_NEWNET) || !unshare(CLONE_NEWUSER | CLONE_NEWNET);
	if (!alone)
		print_message("skipped: no network namespace: %s\n", strerror(errno));
	return sriov_open(&opts, &s);
}

static int teardown(void **state)
{
	sriov_close(s);
	return 0;
}

static void add_address(const char *text)
{
	struct nl_sock *sock = nl_socket_alloc();
	struct rtnl_addr *addr = rtnl_addr_alloc();
	struct nl_addr *local;

	assert_int_equal(nl_addr_parse(text, AF_UNSPEC, &local), 0);
	assert_int_equal(nl_connect(sock, NETLINK_ROUTE), 0);
	rtnl_addr_set_ifindex(addr, (int)if_nametoindex("lo"));
	assert_int_equal(rtnl_addr_set_local(addr, local), 0);
	assert_int_equal(rtnl_addr_add(sock, addr, 0), 0);
	nl_addr_put(local);
	rtnl_addr_put(addr);
	nl_socket_free(sock);
}

static void addresses_and_routes_are_found(void **state)
{
	struct sriov_blockers b = { 0 };
	char all[1024] = "";

	if (!alone)
		skip();
	assert_int_equal(sriov_nl_net_use(s, "lo", &b), 0);
	assert_int_equal(b.nr, 0);
	add_address("192.0.2.7/24");
	assert_int_equal(sriov_nl_link_set(s, "lo", true), 0);
	assert_int_equal(sriov_nl_net_use(s, "lo", &b), 0);
	for (unsigned int i = 0; i < b.nr; i++) {
		assert_int_equal(b.item[i].kind, SRIOV_BLOCK_NET);
		sriov_text_add(all, sizeof(all), "%s;", b.item[i].text);
	}
	assert_non_null(strstr(all, "lo has the address 192.0.2.7/24;"));
	sriov_blockers_free(&b);
	assert_int_equal(sriov_nl_net_use(s, "nothing", &b), -ENODEV);
}

/* As net_af_packet of DPDK does it. */
static int packet_socket(bool ring_to_send)
{
	const struct tpacket_req ring = {
		.tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 2048, .tp_frame_nr = 2
	};
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("lo") };
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	assert_true(fd >= 0);
	if (ring_to_send)
		assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof(ring)),
				 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* A kernel may have been built without it. */
static bool packet_sockets_are_told(void)
{
	struct packet_diag_req req = { .sdiag_family = AF_PACKET };
	struct nl_sock *sock = nl_socket_alloc();
	bool told;

	assert_int_equal(nl_connect(sock, NETLINK_SOCK_DIAG), 0);
	told = nl_send_simple(sock, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &req, sizeof(req)) >= 0 &&
	       nl_recvmsgs_default(sock) >= 0;
	nl_socket_free(sock);
	return told;
}

static bool is_told(const char *text)
{
	struct sriov_blockers b = { 0 };
	bool found = false;

	assert_int_equal(sriov_nl_net_use(s, "lo", &b), 0);
	for (unsigned int i = 0; i < b.nr; i++)
		found |= !strcmp(b.item[i].text, text);
	sriov_blockers_free(&b);
	return found;
}

static void a_packet_socket_that_sends_by_a_ring_is_a_user(void **state)
{
	static const char text[] = "lo is used by an AF_PACKET socket with a ring";
	int fd;

	if (!alone || !packet_sockets_are_told())
		skip();
	/* Who captures, or looks for a lease, is none. */
	fd = packet_socket(false);
	assert_false(is_told(text));
	close(fd);
	fd = packet_socket(true);
	assert_true(is_told(text));
	close(fd);
	assert_false(is_told(text));
}

/* "return XDP_PASS", loaded and attached as any other program would be. */
static void an_xdp_program_is_a_user(void **state)
{
	static const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_XDP,
				.insn_cnt = ARRAY_SIZE(code),
				.insns = (uintptr_t)code,
				.license = (uintptr_t) "BSD" };
	union bpf_attr link = { 0 };
	int prog, fd;

	if (!alone)
		skip();
	prog = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	link.link_create.prog_fd = (uint32_t)prog;
	link.link_create.target_ifindex = if_nametoindex("lo");
	link.link_create.attach_type = BPF_XDP;
	link.link_create.flags = XDP_FLAGS_SKB_MODE;
	fd = prog < 0 ? -1 : (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
	if (fd < 0) {
		print_message("skipped: no XDP: %s\n", strerror(errno));
		skip();
	}
	assert_true(is_told("lo has an XDP program"));
	close(fd);
	close(prog);
	assert_false(is_told("lo has an XDP program"));
}

static void a_link_goes_up_and_down(void **state)
{
	if (!alone)
		skip();
	assert_int_equal(sriov_nl_link_set(s, "lo", false), 0);
	assert_int_equal(sriov_nl_link_set(s, "lo", true), 0);
	assert_int_equal(sriov_nl_link_set(s, "nothing", true), -ENODEV);
}

static void a_device_without_vfs_tells_of_none(void **state)
{
	struct sriov_conf conf[4] = { 0 }, want = { .has = SRIOV_CONF_VLAN, .vlan = 1 };

	if (!alone)
		skip();
	assert_int_equal(sriov_nl_conf_get(s, "lo", conf, 4), 0);
	for (size_t i = 0; i < ARRAY_SIZE(conf); i++)
		assert_int_equal(conf[i].has, 0);
	assert_int_equal(sriov_nl_conf_set(s, "lo", 0, &want), -EOPNOTSUPP);
	assert_int_equal(sriov_nl_conf_get(s, "nothing", conf, 4), -ENODEV);
	assert_int_equal(sriov_nl_conf_set(s, "nothing", 0, &want), -ENODEV);
}

static void a_function_without_devlink_has_no_mode(void **state)
{
	char mode[SRIOV_NAME_LEN];

	assert_true(sriov_nl_eswitch(s, "pci", "ffff:ff:1f.7", mode) < 0);
	assert_string_equal(mode, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_and_routes_are_found),
		cmocka_unit_test(a_packet_socket_that_sends_by_a_ring_is_a_user),
		cmocka_unit_test(an_xdp_program_is_a_user),
		cmocka_unit_test(a_link_goes_up_and_down),
		cmocka_unit_test(a_device_without_vfs_tells_of_none),
		cmocka_unit_test(a_function_without_devlink_has_no_mode),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
