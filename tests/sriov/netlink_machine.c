/*
 * Configuration of VFs over this kernel's rtnetlink: every key set and read
 * back, on a network device that takes all of them. Not one of the unit tests,
 * because it changes that device: tests/vm runs it in a guest, on netdevsim.
 *
 *     netlink_machine NETDEV VFS
 *     netlink_machine eswitch BUS NAME     the mode that devlink tells
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/internal.h"
#include "sriov/netlink.h"

#define VFS_MAX 1024

static const char *netdev;
static unsigned int nr_vfs;
static struct sriov *s;

static void set(unsigned int vf, const struct sriov_conf *conf)
{
	if (sriov_conf_write(s, netdev, vf, conf) < 0)
		fail_msg("VF %u: %s", vf, sriov_error(s));
}

static const struct sriov_conf *get(unsigned int vf)
{
	static struct sriov_conf conf;

	if (sriov_conf_read(s, netdev, vf, &conf) < 0)
		fail_msg("%s", sriov_error(s));
	return &conf;
}

static void every_key_is_set_and_read_back(void **state)
{
	const struct sriov_conf want = {
		.has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO |
		       SRIOV_CONF_SPOOFCHK | SRIOV_CONF_TRUST | SRIOV_CONF_STATE |
		       SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE | SRIOV_CONF_QUERY_RSS,
		.mac = { 2, 0, 0, 0, 0, 0x10 },
		.vlan = 100,
		.qos = 5,
		.proto = 1,
		.spoofchk = true,
		.trust = true,
		.query_rss = true,
		.state = 2,
		.min_rate = 10,
		.max_rate = 1000,
	};
	const struct sriov_conf *seen;

	set(1, &want);
	seen = get(1);
	assert_int_equal(seen->has & want.has, want.has);
	assert_memory_equal(seen->mac, want.mac, 6);
	assert_int_equal(seen->vlan, 100);
	assert_int_equal(seen->qos, 5);
	assert_int_equal(seen->proto, 1);
	assert_true(seen->spoofchk && seen->trust && seen->query_rss);
	assert_int_equal(seen->state, 2);
	assert_int_equal(seen->min_rate, 10);
	assert_int_equal(seen->max_rate, 1000);
	/* Its neighbours are as they were. */
	assert_int_equal(get(0)->vlan, 0);
	assert_int_equal(get(2)->vlan, 0);
}

static void what_is_not_given_stays(void **state)
{
	const struct sriov_conf rate = { .has = SRIOV_CONF_MAX_RATE, .max_rate = 2000 };
	const struct sriov_conf vlan = { .has = SRIOV_CONF_VLAN, .vlan = 7 };

	/* The driver takes both rates, and VLAN, priority and protocol, at once. */
	set(1, &rate);
	assert_int_equal(get(1)->max_rate, 2000);
	assert_int_equal(get(1)->min_rate, 10);
	set(1, &vlan);
	assert_int_equal(get(1)->vlan, 7);
	assert_int_equal(get(1)->qos, 5);
}

static void everything_is_taken_back(void **state)
{
	const struct sriov_conf none = {
		.has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_SPOOFCHK |
		       SRIOV_CONF_TRUST | SRIOV_CONF_STATE | SRIOV_CONF_MIN_RATE |
		       SRIOV_CONF_MAX_RATE | SRIOV_CONF_QUERY_RSS,
	};
	static const uint8_t no_mac[6];
	const struct sriov_conf *seen;

	set(1, &none);
	seen = get(1);
	assert_memory_equal(seen->mac, no_mac, 6);
	assert_int_equal(seen->vlan | seen->qos | seen->min_rate | seen->max_rate, 0);
	assert_false(seen->spoofchk || seen->trust || seen->query_rss);
	assert_int_equal(seen->state, 0);
}

static void a_vf_that_is_not_there_is_refused(void **state)
{
	const struct sriov_conf vlan = { .has = SRIOV_CONF_VLAN, .vlan = 7 };

	assert_true(sriov_conf_write(s, netdev, nr_vfs, &vlan) < 0);
	assert_non_null(strstr(sriov_error(s), netdev));
	assert_true(sriov_conf_write(s, "nosuchdev", 0, &vlan) < 0);
	assert_non_null(strstr(sriov_error(s), "nosuchdev"));
}

/* A reply on many VFs is longer than what programs reserve by habit, and from
 * about 220 VFs on longer than a netlink attribute can say. */
static void the_last_of_many_is_read_back(void **state)
{
	struct sriov_conf want = { .has = SRIOV_CONF_VLAN | SRIOV_CONF_MAC, .mac = { 2 } };

	want.vlan = 99;
	want.mac[5] = 0x99;
	set(nr_vfs - 1, &want);
	assert_int_equal(get(nr_vfs - 1)->vlan, 99);
	assert_memory_equal(get(nr_vfs - 1)->mac, want.mac, 6);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_set_and_read_back),
		cmocka_unit_test(what_is_not_given_stays),
		cmocka_unit_test(everything_is_taken_back),
		cmocka_unit_test(a_vf_that_is_not_there_is_refused),
		cmocka_unit_test(the_last_of_many_is_read_back),
	};
	const struct sriov_opts opts = { 0 };
	char mode[SRIOV_NAME_LEN];
	int failed;

	if (argc == 4 && !strcmp(argv[1], "eswitch")) {
		failed = sriov_open(&opts, &s) || sriov_nl_eswitch(s, argv[2], argv[3], mode);
		puts(failed ? "none" : mode);
		sriov_close(s);
		return failed;
	}
	nr_vfs = argc == 3 ? (unsigned int)strtoul(argv[2], NULL, 10) : 0;
	if (nr_vfs < 3 || nr_vfs > VFS_MAX) {
		fprintf(stderr, "usage: netlink_machine NETDEV VFS (3 to %d)\n", VFS_MAX);
		return 2;
	}
	netdev = argv[1];
	if (sriov_open(&opts, &s) < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	sriov_close(s);
	return failed;
}
