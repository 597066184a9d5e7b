/*
 * This kernel's rtnetlink as sriov/ uses it, on the loopback device of a network
 * namespace of its own: what the host needs it for, its link, and that it has no
 * VFs. VFs themselves are tested in a guest, tests/vm.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
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
		cmocka_unit_test(a_link_goes_up_and_down),
		cmocka_unit_test(a_device_without_vfs_tells_of_none),
		cmocka_unit_test(a_function_without_devlink_has_no_mode),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
