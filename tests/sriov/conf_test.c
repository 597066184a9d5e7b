/*
 * Configuration of VFs: keys and their mistakes, what is asked of the driver, and
 * that its word is not taken for it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

static struct fake fake;
static struct sriov *s;

static int setup(void **state)
{
	struct sriov_resize want = { .nr_vfs = 3 };

	log_set_level(LOG_LEVEL_ERROR);
	fake_create(&fake);
	s = fake_open(&fake, true);
	return sriov_resize(s, FAKE_PF, &want) == 1 ? 0 : -1;
}

static int teardown(void **state)
{
	sriov_close(s);
	fake_destroy(&fake);
	return 0;
}

static int item(struct sriov_conf *conf, const char *key, const char *text, const char *message)
{
	char err[OPTS_ERR_LEN] = "";
	int res = sriov_conf_item("set", key, text, conf, err);

	if (message && !strstr(err, message))
		fail_msg("'%s' is not in: %s", message, err);
	return res;
}

static void every_key_is_taken_and_told(void **state)
{
	struct sriov_conf conf = { 0 };
	char text[SRIOV_TEXT_LEN];
	json_t *o;

	assert_int_equal(item(&conf, "mac", "02:AA:00:00:00:01", NULL), 0);
	assert_int_equal(item(&conf, "vlan", "10", NULL), 0);
	assert_int_equal(item(&conf, "qos", "7", NULL), 0);
	assert_int_equal(item(&conf, "proto", "802.1ad", NULL), 0);
	assert_int_equal(item(&conf, "spoofchk", "off", NULL), 0);
	assert_int_equal(item(&conf, "trust", "on", NULL), 0);
	assert_int_equal(item(&conf, "state", "disable", NULL), 0);
	assert_int_equal(item(&conf, "min-rate", "1", NULL), 0);
	assert_int_equal(item(&conf, "max-rate", "1000", NULL), 0);
	assert_int_equal(item(&conf, "query-rss", "yes", NULL), 0);
	assert_int_equal(item(&conf, "msix", "16", NULL), 0);
	sriov_conf_text(&conf, text);
	assert_string_equal(text, "mac=02:aa:00:00:00:01 vlan=10 qos=7 proto=802.1ad spoofchk=off "
				  "trust=on state=disable min-rate=1 max-rate=1000 query-rss=on "
				  "msix=16");
	o = sriov_conf_json(&conf);
	assert_int_equal(json_integer_value(json_object_get(o, "max-rate")), 1000);
	assert_true(json_is_false(json_object_get(o, "spoofchk")));
	assert_string_equal(json_string_value(json_object_get(o, "state")), "disable");
	json_decref(o);
}

static void mistakes_are_told(void **state)
{
	static const struct {
		const char *key, *text, *message;
	} wrong[] = {
		{ "mac", "02:00:00:00:00", "expected an Ethernet address of one station" },
		{ "mac", "02:00:00:00:00:0g", "set: mac=02:00:00:00:00:0g: expected" },
		{ "mac", "03:00:00:00:00:01", "of one station" },
		{ "mac", "ff:ff:ff:ff:ff:ff", "of one station" },
		{ "mac", " 2:00:00:00:00:01", "of one station" },
		{ "vlan", "4095", "set: vlan=4095: expected a whole number from 0 to 4094" },
		{ "vlan", "", "expected a whole number" },
		{ "qos", "8", "from 0 to 7" },
		{ "proto", "802.1q", "did you mean '802.1Q'?" },
		{ "state", "up", "expected one of auto, enable, disable" },
		{ "trust", "maybe", "expected on or off" },
		{ "max-rate", "4294967296", "expected a whole number" },
		{ "msix", "2049", "from 0 to 2048" },
		{ "vlna", "1", "did you mean 'vlan'?" },
	};
	struct sriov_conf conf;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(&conf, 0, sizeof(conf));
		assert_int_equal(item(&conf, wrong[i].key, wrong[i].text, wrong[i].message),
				 -EINVAL);
	}
	memset(&conf, 0, sizeof(conf));
	assert_int_equal(item(&conf, "vlan", "1", NULL), 0);
	assert_int_equal(item(&conf, "vlan", "2", "the key is given twice"), -EINVAL);
}

/* VLAN, priority and protocol go together, as do both rates. */
static void what_was_not_asked_for_stays(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN | SRIOV_CONF_QOS | SRIOV_CONF_PROTO |
					  SRIOV_CONF_MIN_RATE | SRIOV_CONF_MAX_RATE,
				   .vlan = 5,
				   .qos = 3,
				   .proto = 1,
				   .min_rate = 10,
				   .max_rate = 20 };
	struct sriov_conf now;

	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), 0);
	conf = (struct sriov_conf){ .has = SRIOV_CONF_VLAN | SRIOV_CONF_MAX_RATE,
				    .vlan = 6,
				    .max_rate = 30 };
	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), 0);
	now = fake_conf(&fake, "eth0", 1);
	assert_int_equal(now.vlan, 6);
	assert_int_equal(now.qos, 3);
	assert_int_equal(now.proto, 1);
	assert_int_equal(now.min_rate, 10);
	assert_int_equal(now.max_rate, 30);
	/* Without a VLAN there is no priority in its tag. */
	conf = (struct sriov_conf){ .has = SRIOV_CONF_VLAN };
	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), 0);
	now = fake_conf(&fake, "eth0", 1);
	assert_int_equal(now.vlan, 0);
	assert_int_equal(now.qos, 0);
	assert_int_equal(now.proto, 0);
	/* Others are not touched. */
	assert_int_equal(fake_conf(&fake, "eth0", 0).max_rate, 0);
}

static void a_driver_that_lies_is_found_out(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_SPOOFCHK | SRIOV_CONF_STATE, .state = 1 };
	char number[8];

	snprintf(number, sizeof(number), "%d", SRIOV_CONF_SPOOFCHK | SRIOV_CONF_STATE);
	fake_file(&fake, "/fake/ignore", number);
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EIO);
	fake_says(s, "eth0: VF 0: spoofchk=off was taken, but the driver tells on; state=enable "
		     "was taken, but the driver tells auto");
}

static void what_a_driver_cannot_do_is_told(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_QUERY_RSS, .query_rss = true };

	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EOPNOTSUPP);
	fake_says(s, "query-rss=on: Operation not supported: its driver does not support this");
	/* One that tells nothing of its VFs cannot be trusted with them. */
	fake_remove(&fake, "/fake/conf");
	conf = (struct sriov_conf){ .has = SRIOV_CONF_VLAN, .vlan = 1 };
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EOPNOTSUPP);
	fake_says(s, "tells nothing of VF 0");
}

static void only_vfs_of_network_pfs_are_configured(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 1 };
	struct sriov_resize want = { .nr_vfs = 1 };

	assert_int_equal(sriov_configure(s, FAKE_PF, &conf), -ENOTSUP);
	fake_says(s, "is no VF");
	assert_int_equal(sriov_configure(s, "0000:09:00.0", &conf), -ENODEV);
	assert_int_equal(sriov_resize(s, FAKE_NVME, &want), 1);
	assert_int_equal(sriov_configure(s, "0000:02:00.1", &conf), -ENOTSUP);
	fake_says(s, "its PF " FAKE_NVME " has no network device (it is no network function)");
}

static void vectors_need_a_file_and_no_driver(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = 3 };

	assert_int_equal(sriov_bind(s, FAKE_VF0, "none", 0), 1);
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), 0);
	assert_string_equal(
		fake_read(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/sriov_vf_msix_count"), "3");
	fake_fail(&fake, "sriov_vf_msix_count", EOPNOTSUPP);
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EOPNOTSUPP);
	fake_says(s, "the driver of " FAKE_PF " cannot move vectors");
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/sriov_vf_msix_count");
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EOPNOTSUPP);
}

/* rtnetlink has one lock for all: a driver that waits for its card stops everybody. */
static void a_question_that_is_not_answered_is_given_up(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 1 };
	struct sriov_list *list;
	struct sriov_blockers b;

	s->timeout_ms = 100;
	fake_file(&fake, "/fake/hang-ask", "");
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -ETIMEDOUT);
	fake_says(s, "eth0: configuration of its VFs: the kernel has not answered within 100 ms");
	assert_int_equal(sriov_list(s, SRIOV_LIST_CONF, &list), 0);
	assert_int_equal(list->func[1].conf.has, 0);
	/* It is not said to be free. */
	assert_int_equal(sriov_blockers(s, &list->func[1], &b), 0);
	assert_int_equal(b.nr, 1);
	assert_int_equal(b.item[0].kind, SRIOV_BLOCK_STUCK);
	assert_string_equal(b.item[0].text, "the kernel does not answer who uses eth0v0");
	sriov_blockers_free(&b);
	sriov_list_free(list);
	fake_remove(&fake, "/fake/hang-ask");
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), 0);
}

static void a_setting_that_is_not_answered_keeps_others_away(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN | SRIOV_CONF_TRUST, .vlan = 1 };
	struct sriov_rec rec;

	s->timeout_ms = 100;
	fake_file(&fake, "/fake/hang-set", "");
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -ETIMEDOUT);
	fake_says(s, "eth0: writing 'trust=off' has not returned within 100 ms");
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), -EBUSY);
	fake_says(s, "is still writing 'trust=off' to eth0");
	fake_remove(&fake, "/fake/hang-set");
	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), 0);
	do {
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
	} while (sriov_rec_writer_alive(&rec));
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(every_key_is_taken_and_told),
		T(mistakes_are_told),
		T(what_was_not_asked_for_stays),
		T(a_driver_that_lies_is_found_out),
		T(what_a_driver_cannot_do_is_told),
		T(only_vfs_of_network_pfs_are_configured),
		T(vectors_need_a_file_and_no_driver),
		T(a_question_that_is_not_answered_is_given_up),
		T(a_setting_that_is_not_answered_keeps_others_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
