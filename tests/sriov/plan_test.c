/*
 * Plans: what is read, what is said about every kind of mistake, and that
 * applying one twice changes nothing the second time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/plan.h"
#include "tests/sriov/fake.h"

static struct fake fake;
static struct sriov *s;
static char told_text[8192];

static int setup(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	fake_create(&fake);
	s = fake_open(&fake, true);
	return 0;
}

static int teardown(void **state)
{
	sriov_close(s);
	fake_destroy(&fake);
	return 0;
}

static void told(void *opaque, const struct sriov_change *change)
{
	static const char marks[] = "+*!";
	size_t used = strlen(told_text);

	snprintf(told_text + used, sizeof(told_text) - used, "%c %s: %s%s%s\n",
		 marks[change->state], change->where, change->text, *change->reason ? ": " : "",
		 change->reason);
}

static int walk(const char *text, bool apply)
{
	struct sriov_plan *plan;
	int res;

	res = sriov_plan_parse(s, "vf.yaml", text, strlen(text), &plan);
	if (res < 0)
		fail_msg("%s", sriov_error(s));
	told_text[0] = '\0';
	res = sriov_plan_walk(s, plan, apply, told, NULL);
	sriov_plan_free(plan);
	return res;
}

static void was_told(const char *text)
{
	if (!strstr(told_text, text))
		fail_msg("'%s' is not in:\n%s", text, told_text);
}

static const char plan[] = "# two PFs\n"
			   "pfs:\n"
			   "  - pf: eth0\n"
			   "    vfs: 3\n"
			   "    driver: vfio-pci\n"
			   "    owners: [vm1, vm2]\n"
			   "    vf:\n"
			   "      0: { mac: '02:00:00:00:00:10', vlan: 10, qos: 3 }\n"
			   "      1-2:\n"
			   "        vlan: 20\n"
			   "        driver: default\n"
			   "        owners: []\n"
			   "  - {pf: '0000:02:00.0', vfs: 2, driver: none}\n";

static void a_plan_is_made_true_and_stays_so(void **state)
{
	struct sriov_func f;

	assert_true(walk(plan, true) > 0);
	was_told("* " FAKE_PF ": vfs 0 -> 3\n");
	was_told("* " FAKE_VF0 ": driver none -> vfio-pci\n");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_NVME), 2);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
	assert_string_equal(fake_driver(&fake, "0000:02:00.1"), "");
	assert_int_equal(fake_conf(&fake, "eth0", 0).mac[5], 0x10);
	assert_int_equal(fake_conf(&fake, "eth0", 0).qos, 3);
	assert_int_equal(fake_conf(&fake, "eth0", 2).vlan, 20);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.owners, "vm1,vm2");
	assert_int_equal(sriov_func_read(s, FAKE_VF1, 0, &f), 0);
	assert_string_equal(f.owners, "");

	assert_int_equal(walk(plan, true), 0);
	assert_string_equal(told_text, "");
	assert_int_equal(walk(plan, false), 0);
}

/* auto is what a VF gets that the plan says nothing else of. */
static void vfs_with_drivers_of_their_own_leave_auto_to_the_others(void **state)
{
	static const char mixed[] = "pfs: [{pf: eth0, vfs: 4, vf: {0: {driver: vfio-pci}, "
				    "2: {driver: none}, 3: {driver: default}}}]";
	struct sriov_func f;

	assert_true(walk(mixed, true) > 0);
	was_told("* " FAKE_VF0 ": driver none -> vfio-pci\n");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
	assert_string_equal(fake_driver(&fake, FAKE_VF2), "");
	assert_string_equal(fake_driver(&fake, "0000:01:10.6"), "igbvf");
	/* The host's driver never had it. */
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.original_driver, "");
	assert_int_equal(walk(mixed, true), 0);
	assert_string_equal(told_text, "");
}

static void a_dry_run_tells_and_changes_nothing(void **state)
{
	assert_true(walk(plan, false) > 0);
	was_told("+ " FAKE_PF ": vfs 0 -> 3\n");
	was_told("+ " FAKE_PF "/0: mac=02:00:00:00:00:10 vlan=10 qos=3 driver vfio-pci\n");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
}

/* What apply would be refused, without a module loaded for it. */
static void a_dry_run_asks_what_apply_would(void **state)
{
	assert_true(walk("pfs: [{pf: eth0, vfs: 2}]", true) > 0);
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 2, driver: vfio-pic}]", false), -ENOENT);
	was_told("! " FAKE_VF0 ": driver igbvf -> vfio-pic: driver vfio-pic: there is no such");
	fake_file(&fake, "/fake/netuse/eth0v0", "has the address 10.0.0.1/24\n");
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF1 "/iommu_group");
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 2, driver: vfio-pci}]", false), -EBUSY);
	was_told("! " FAKE_VF0 ": driver igbvf -> vfio-pci: " FAKE_VF0
		 ": cannot change its driver: eth0v0 has the address 10.0.0.1/24\n");
	was_told("! " FAKE_VF1 ": driver igbvf -> vfio-pci: " FAKE_VF1 ": no IOMMU confines it");
	assert_false(fake_exists(&fake, "/sys/bus/pci/drivers/vfio-pci"));
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

static void vectors_of_vfs_that_are_there_are_given_too(void **state)
{
	static const char count[] = "/sys/bus/pci/devices/" FAKE_VF0 "/sriov_vf_msix_count";
	static const char vectors[] = "pfs: [{pf: eth0, vfs: 2, vf: {0: {msix: 12}}}]";
	static const char more[] = "pfs: [{pf: eth0, vfs: 2, vf: {0: {msix: 14}}}]";
	struct sriov_func f;

	assert_true(walk("pfs: [{pf: eth0, vfs: 2}]", true) > 0);
	assert_int_equal(walk(vectors, false), 1);
	assert_string_equal(told_text, "+ " FAKE_VF0 ": msix=12 (was not told)\n");
	assert_int_equal(walk(vectors, true), 1);
	assert_string_equal(fake_read(&fake, count), "12");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_false(f.bound_by_us);
	assert_int_equal(walk(vectors, true), 0);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(walk(more, true), 1);
	assert_string_equal(told_text, "* " FAKE_VF0 ": msix=14 (was msix=12)\n");
	assert_string_equal(fake_read(&fake, count), "14");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.original_driver, "igbvf");
	/* Not while it is used. */
	fake_process(&fake, 99, "vmm", "vmm", 4, 8, "/dev/vfio/20");
	assert_int_equal(walk(vectors, true), -EBUSY);
	was_told("process 99 (vmm) has /dev/vfio/20 open");
	assert_string_equal(fake_read(&fake, count), "14");
}

/* A driver has so many for all VFs together. */
static void vectors_are_given_back_before_others_get_them(void **state)
{
	static const char new_ones[] =
		"pfs: [{pf: eth0, vfs: 2, vf: {0: {msix: 5}, 1: {msix: 1}}}]";
	static const char others[] = "pfs: [{pf: eth0, vfs: 2, vf: {0: {msix: 2}, 1: {msix: 4}}}]";

	fake_file(&fake, "/fake/pool", "6\n");
	assert_true(walk(new_ones, true) > 0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 5);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF1), 1);
	assert_int_equal(walk(others, true), 2);
	assert_int_equal(walk(new_ones, true), 2);
	assert_string_equal(told_text, "* " FAKE_VF1 ": msix=1 (was msix=4)\n"
				       "* " FAKE_VF0 ": msix=5 (was msix=2)\n");
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 5);
	assert_int_equal(walk(new_ones, true), 0);
}

static void what_somebody_changed_is_changed_back(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 77 };

	assert_true(walk(plan, true) > 0);
	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), 0);
	assert_int_equal(walk(plan, false), 1);
	assert_string_equal(told_text, "+ " FAKE_VF1 ": vlan=20 (was vlan=77)\n");
	assert_int_equal(walk(plan, true), 1);
	assert_int_equal(fake_conf(&fake, "eth0", 1).vlan, 20);
}

static void what_is_claimed_is_left_and_told(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 77 };
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0, .conf = &conf };
	char addr[SRIOV_ADDR_LEN];

	assert_true(walk(plan, true) > 0);
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(walk(plan, true), -EBUSY);
	was_told("! " FAKE_VF0 ": vlan=10 (was vlan=77): is claimed by vm1 and left as it is\n");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 77);
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 1, replace: on}]", true), -EBUSY);
	was_told("is claimed by vm1");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
}

static void one_failure_does_not_keep_the_rest_from_being_done(void **state)
{
	assert_int_equal(walk("pfs:\n"
			      "- {pf: eth7, vfs: 1}\n"
			      "- {pf: " FAKE_PLAIN ", vfs: 1}\n"
			      "- {pf: eth0, vfs: 2}\n",
			      true),
			 -ENODEV);
	was_told("! vf.yaml:2: pf: 'eth7': expected the address of a PCI function");
	was_told("! " FAKE_PLAIN ": vfs 0 -> 1: " FAKE_PLAIN ": is no PF");
	was_told("* " FAKE_PF ": vfs 0 -> 2\n");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
}

static void another_count_needs_replace(void **state)
{
	assert_true(walk("pfs: [{pf: eth0, vfs: 2}]", true) > 0);
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 3}]", true), -EBUSY);
	was_told("only through 0");
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 3, replace: yes}]", true), 1);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
	assert_int_equal(walk("pfs: [{pf: eth0, vfs: 0}]", true), 1);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
}

static void every_mistake_is_told_with_its_line(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "", "vf.yaml:1: expected pfs: and a list of PFs, found nothing" },
		{ "{}", "vf.yaml:1: expected pfs: and a list of PFs, found no key" },
		{ "hello", "vf.yaml:1: expected pfs: and a list of PFs, found a value" },
		{ "\npf: []", "vf.yaml:2: file: 'pf': unknown key, expected one of pfs; did you "
			      "mean 'pfs'?" },
		{ "pfs: 3", "vf.yaml:1: pfs: expected a list of PFs, found a value" },
		{ "pfs: []\npfs: []", "vf.yaml:2: file: pfs: the key is given twice" },
		{ "pfs:\n- eth0\n", "vf.yaml:2: pfs: expected a PF with its keys, found a value" },
		{ "pfs:\n- pf: eth0\n", "vf.yaml:2: pfs: vfs= is missing: how many" },
		{ "pfs:\n- vfs: 1\n", "vf.yaml:2: pfs: pf= is missing" },
		{ "pfs:\n- pf: eth0\n  vfs: many\n",
		  "vf.yaml:3: vfs: 'many': expected a whole number from 0 to 65535" },
		{ "pfs:\n- pf: eth0\n  vfs: -1\n", "vf.yaml:3: vfs: '-1': expected" },
		{ "pfs:\n- pf: eth0\n  vfs: 1\n  drvier: x\n",
		  "vf.yaml:4: pfs: 'drvier': unknown key" },
		{ "pfs:\n- pf: eth0\n  vfs: 1\n  drvier: x\n", "did you mean 'driver'?" },
		{ "pfs:\n- pf: eth0\n  vfs: 1\n  vfs: 2\n",
		  "vf.yaml:4: pfs: vfs: the key is given twice" },
		{ "pfs:\n- {pf: [], vfs: 1}\n", "vf.yaml:2: pf: expected a value, found a list" },
		{ "pfs:\n- {pf: '', vfs: 1}\n", "vf.yaml:2: pf: '': expected 1 to 63 bytes" },
		{ "pfs:\n- {pf: eth0, vfs: 1, replace: maybe}\n",
		  "vf.yaml:2: replace: 'maybe': expected on or off" },
		{ "pfs:\n- {pf: eth0, vfs: 1, owners: vm1}\n",
		  "vf.yaml:2: owners: expected a list such as [vm1, vm2], found a value" },
		{ "pfs:\n- {pf: eth0, vfs: 1, owners: [a b]}\n",
		  "vf.yaml:2: owners: 'a b': expected the name of an owner" },
		{ "pfs:\n- {pf: eth0, vfs: 1, vf: [1]}\n",
		  "vf.yaml:2: vf: expected indexes with keys, found a list" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    x: {}\n",
		  "vf.yaml:5: vf: 'x': expected an index such as 0, or a range such as 1-3" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    1-0: {}\n", "vf.yaml:5: vf: '1-0'" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    99999: {}\n", "vf.yaml:5: vf: '99999'" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {}\n    2: {}\n",
		  "vf.yaml:6: vf: 2: expected an index less than vfs, which is 2" },
		{ "pfs:\n- pf: eth0\n  vfs: 4\n  vf:\n    0-2: {}\n    2: {}\n",
		  "vf.yaml:6: vf: 2-2: expected each index once, line 5 has it as well" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0:\n      vlan: 4095\n",
		  "vf.yaml:6: vf: vlan=4095: expected a whole number from 0 to 4094" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0:\n      valn: 1\n",
		  "did you mean 'vlan'?" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0:\n      vlan: 1\n      vlan: 2\n",
		  "vf.yaml:7: vf: vlan=2: the key is given twice" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {driver: a, driver: b}\n",
		  "driver: the key is given twice" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {owners: [], owners: []}\n",
		  "owners: the key is given twice" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {mac: '01:00:00:00:00:00'}\n",
		  "expected an Ethernet address of one station" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {mac: 02-00-00-00-00-00}\n",
		  "expected an Ethernet address of one station" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0-1: {mac: '02:00:00:00:00:00'}\n",
		  "vf.yaml:5: vf: mac: expected for one VF, not for a range of them" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {vlan: {}}\n",
		  "vlan: expected a value, found keys with values" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: vlan\n",
		  "vf: expected keys with values, found a value" },
		{ "pfs:\n- {pf: eth0, vfs: 1}\n- {pf: eth0, vfs: 2}\n",
		  "vf.yaml:3: pf: eth0: expected once, line 2 has it as well" },
		{ "pfs:\n- pf: eth0\n  vfs: 2\n  vf:\n    0: {mac: '02:00:00:00:00:aa'}\n"
		  "    1: {mac: '02:00:00:00:00:AA'}\n",
		  "vf.yaml:6: vf: mac: expected an address for one VF, line 5 has it as well" },
		{ "pfs:\n- {pf: eth0, vfs: 1, vf: {0: {mac: '02:00:00:00:00:aa'}}}\n"
		  "- {pf: eth1, vfs: 1, vf: {0: {mac: '02:00:00:00:00:aa'}}}\n",
		  "vf.yaml:3: vf: mac: expected an address for one VF, line 2 has it as well" },
		{ "pfs:\n- {pf: eth0, vfs: 1,\n   driver: ../x}\n",
		  "vf.yaml:3: driver: '../x': expected the name of a driver" },
		{ "pfs:\n- {pf: eth0, vfs: 1, vf: {0: {driver: 'a b'}}}\n",
		  "vf.yaml:2: driver: 'a b': expected the name of a driver" },
		{ "pfs: []\n---\npfs: []\n",
		  "vf.yaml:3: expected one document, found another one" },
		{ "pfs:\n\t- x\n", "vf.yaml:2: while scanning" },
		{ "pfs: [", "vf.yaml:" },
		{ "pfs:\n- {pf: \"a\\0b\", vfs: 1}\n", "found a zero byte" },
		{ "pfs: [*nobody]", "vf.yaml:1:" },
		{ "\xff\xfe\xff", "vf.yaml:1:" },
	};
	struct sriov_plan *p;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(sriov_plan_parse(s, "vf.yaml", bad[i].text, strlen(bad[i].text),
						  &p),
				 -EINVAL);
		fake_says(s, bad[i].message);
	}
}

static void a_file_is_read(void **state)
{
	struct sriov_plan *p;
	char path[256];

	fake_file(&fake, "/vf.yaml", plan);
	snprintf(path, sizeof(path), "%s/vf.yaml", fake.root);
	assert_int_equal(sriov_plan_load(s, path, &p), 0);
	assert_int_equal(p->nr, 2);
	sriov_plan_free(p);
	snprintf(path, sizeof(path), "%s/none.yaml", fake.root);
	assert_int_equal(sriov_plan_load(s, path, &p), -ENOENT);
	fake_says(s, "none.yaml: No such file or directory");
	assert_int_equal(sriov_plan_load(s, fake.root, &p), -EISDIR);
}

static void json_is_yaml(void **state)
{
	assert_true(walk("{\"pfs\": [{\"pf\": \"eth0\", \"vfs\": 1, \"vf\": {\"0\": {\"vlan\": "
			 "5, \"trust\": true}}}]}",
			 true) > 0);
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 5);
	assert_true(fake_conf(&fake, "eth0", 0).trust);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(a_plan_is_made_true_and_stays_so),
		T(vfs_with_drivers_of_their_own_leave_auto_to_the_others),
		T(a_dry_run_tells_and_changes_nothing),
		T(a_dry_run_asks_what_apply_would),
		T(vectors_of_vfs_that_are_there_are_given_too),
		T(vectors_are_given_back_before_others_get_them),
		T(what_somebody_changed_is_changed_back),
		T(what_is_claimed_is_left_and_told),
		T(one_failure_does_not_keep_the_rest_from_being_done),
		T(another_count_needs_replace),
		T(every_mistake_is_told_with_its_line),
		T(a_file_is_read),
		T(json_is_yaml),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
