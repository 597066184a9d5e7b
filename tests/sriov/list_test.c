/*
 * The inventory: what is listed, in which order, with which facts; and what a
 * user's word for a function means.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

#define DEVICE "/sys/bus/pci/devices/"

static struct fake fake;
static struct sriov *s;

static int setup(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2 };

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

static struct sriov_list *list(unsigned int flags)
{
	struct sriov_list *l;

	assert_int_equal(sriov_list(s, flags, &l), 0);
	return l;
}

static void pfs_come_with_their_vfs(void **state)
{
	struct sriov_list *l = list(SRIOV_LIST_CONF | SRIOV_LIST_NAMES);

	assert_int_equal(l->nr, 4);
	assert_string_equal(l->func[0].addr, FAKE_PF);
	assert_string_equal(l->func[1].addr, FAKE_VF0);
	assert_string_equal(l->func[2].addr, FAKE_VF1);
	assert_string_equal(l->func[3].addr, FAKE_NVME);
	sriov_list_free(l);
	l = list(SRIOV_LIST_ALL);
	assert_int_equal(l->nr, 5);
	assert_string_equal(l->func[0].addr, FAKE_PLAIN);
	sriov_list_free(l);
}

static void facts_are_those_of_sysfs(void **state)
{
	struct sriov_list *l = list(SRIOV_LIST_CONF | SRIOV_LIST_NAMES);
	const struct sriov_func *pf = &l->func[0], *vf = &l->func[2];

	assert_true(pf->is_pf && !pf->is_vf);
	assert_int_equal(pf->nr_vfs, 2);
	assert_int_equal(pf->total_vfs, 7);
	assert_int_equal(pf->offset, 128);
	assert_int_equal(pf->stride, 2);
	assert_int_equal(pf->vf_device, 0x10ca);
	assert_int_equal(pf->numa_node, 0);
	assert_int_equal(pf->iommu_group, 10);
	assert_true(pf->autoprobe);
	assert_string_equal(pf->driver, "igb");
	assert_string_equal(pf->netdev, "eth0");
	assert_string_equal(pf->mac, "52:54:00:aa:00:01");
	assert_string_equal(pf->reset_method, "flr");
	assert_true(pf->bar_len[0] == 0x20000);
	assert_true(vf->is_vf && !vf->is_pf);
	assert_int_equal(vf->vf_index, 1);
	assert_string_equal(vf->pf, FAKE_PF);
	assert_string_equal(vf->netdev, "eth0v1");
	assert_true(vf->conf.has & SRIOV_CONF_SPOOFCHK && vf->conf.spoofchk);
	assert_string_equal(vf->override, "");
	assert_true(*vf->vendor_name && *vf->device_name);
	sriov_list_free(l);
}

static void link_facts_are_those_of_sysfs(void **state)
{
	struct sriov_func f;
	const char *speed = NULL, *width = NULL, *max_speed = NULL, *max_width = NULL;
	json_t *o;

	fake_file(&fake, DEVICE FAKE_PF "/current_link_speed", "8.0 GT/s PCIe\n");
	fake_file(&fake, DEVICE FAKE_PF "/current_link_width", "4\n");
	fake_file(&fake, DEVICE FAKE_PF "/max_link_speed", "16.0 GT/s PCIe\n");
	fake_file(&fake, DEVICE FAKE_PF "/max_link_width", "8\n");
	assert_int_equal(sriov_func_read(s, FAKE_PF, 0, &f), 0);
	o = sriov_func_json(s, &f);
	assert_int_equal(json_unpack(o, "{s:{s:s, s:s, s:s, s:s}}", "pcie-link", "speed", &speed,
				     "width", &width, "max-speed", &max_speed, "max-width",
				     &max_width),
			 0);
	assert_string_equal(speed, "8.0 GT/s PCIe");
	assert_string_equal(width, "4");
	assert_string_equal(max_speed, "16.0 GT/s PCIe");
	assert_string_equal(max_width, "8");
	json_decref(o);
	/* A device of a bus without a link has none. */
	assert_int_equal(sriov_func_read(s, FAKE_NVME, 0, &f), 0);
	o = sriov_func_json(s, &f);
	assert_null(json_object_get(o, "pcie-link"));
	json_decref(o);
}

static void put_config(const uint8_t *config, size_t len)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s" DEVICE FAKE_PF "/config", fake.root);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(config, 1, len, file), len);
	fclose(file);
}

/* For how many VFs a BAR has room is the hardware's count, not the driver's. */
static void room_of_a_vf_is_by_the_capability(void **state)
{
	uint8_t config[512] = { 0 };
	struct sriov_func f;

	/* One other capability first, then SR-IOV with eight VFs. */
	config[0x100] = 0x0e;
	config[0x102] = 0x01;
	config[0x103] = 0x14; /* next: 0x140 */
	config[0x140] = 0x10;
	config[0x142] = 0x01;
	config[0x14e] = 8;
	put_config(config, sizeof(config));
	fake_file(&fake, DEVICE FAKE_PF "/resource",
		  "0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n"
		  "0x0 0x0 0x0\n0x00000000fe000000 0x00000000fe01ffff 0x14220c\n");
	assert_int_equal(sriov_func_read(s, FAKE_PF, 0, &f), 0);
	assert_true(f.vf_bar_len[0] == 0x4000);
	/* A list of capabilities that goes round is left; the driver's count is
	 * all there is then. */
	config[0x140] = 0x0b;
	config[0x143] = 0x14; /* next: itself */
	put_config(config, sizeof(config));
	assert_int_equal(sriov_func_read(s, FAKE_PF, 0, &f), 0);
	assert_true(f.vf_bar_len[0] == 0x20000 / 7);
}

/* As in the middle of a removal: the function is there, its PF has no number for
 * it any more. */
static void a_vf_without_a_number_has_no_configuration(void **state)
{
	struct sriov_list *l;

	fake_link(&fake, DEVICE FAKE_VF0 "/physfn", DEVICE FAKE_NVME);
	l = list(SRIOV_LIST_CONF);
	assert_string_equal(l->func[1].addr, FAKE_VF0);
	assert_int_equal(l->func[1].vf_index, -1);
	assert_int_equal(l->func[1].conf.has, 0);
	assert_true(l->func[2].conf.has & SRIOV_CONF_SPOOFCHK);
	sriov_list_free(l);
}

static void representors_are_found(void **state)
{
	struct sriov_list *l;

	fake_file(&fake, "/sys/class/net/eth0/phys_switch_id", "aabb\n");
	fake_file(&fake, "/sys/class/net/eth0/phys_port_name", "p0\n");
	fake_file(&fake, "/fake/eswitch/" FAKE_PF, "switchdev\n");
	fake_file(&fake, "/sys/class/net/rep0/phys_switch_id", "aabb\n");
	fake_file(&fake, "/sys/class/net/rep0/phys_port_name", "pf0vf1\n");
	fake_file(&fake, "/sys/class/net/other/phys_switch_id", "ccdd\n");
	fake_file(&fake, "/sys/class/net/other/phys_port_name", "pf0vf0\n");
	/* On the same switch, and no VFs of this PF. */
	fake_file(&fake, "/sys/class/net/rep1/phys_switch_id", "aabb\n");
	fake_file(&fake, "/sys/class/net/rep1/phys_port_name", "pf1vf0\n");
	fake_file(&fake, "/sys/class/net/rep2/phys_switch_id", "aabb\n");
	fake_file(&fake, "/sys/class/net/rep2/phys_port_name", "c1pf0vf0\n");
	l = list(SRIOV_LIST_CONF);
	assert_string_equal(l->func[0].eswitch, "switchdev");
	assert_string_equal(l->func[1].representor, "");
	assert_string_equal(l->func[2].representor, "rep0");
	sriov_list_free(l);
}

static void what_vanishes_meanwhile_is_left_out(void **state)
{
	struct sriov_list *l;

	/* Its link is still there, it is not. */
	fake_remove(&fake, DEVICE FAKE_VF0);
	l = list(0);
	assert_int_equal(l->nr, 3);
	assert_string_equal(l->func[1].addr, FAKE_VF1);
	assert_int_equal(l->func[1].vf_index, 1);
	sriov_list_free(l);
	/* Nothing at all is fine too. */
	fake_remove(&fake, "/sys/bus/pci/devices");
	assert_int_equal(sriov_list(s, 0, &l), -ENOENT);
}

static void everything_is_in_the_json(void **state)
{
	struct sriov_list *l;
	json_t *o;

	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	l = list(SRIOV_LIST_CONF);
	o = sriov_func_json(s, &l->func[1]);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "driver")), "vfio-pci");
	assert_string_equal(json_string_value(json_object_get(o, "original-driver")), "igbvf");
	assert_string_equal(json_string_value(json_object_get(o, "driver-override")), "vfio-pci");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(o, "iommu-group"), "id")), 20);
	assert_int_equal(json_array_size(json_object_get(o, "blockers")), 0);
	json_decref(o);
	o = sriov_func_json(s, &l->func[0]);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(o, "pf"), "vf-total-msix")), 64);
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(json_object_get(o, "blockers"), 0), "kind")),
			    "vfs");
	json_decref(o);
	sriov_list_free(l);
}

static const char *blocker_text(const json_t *o)
{
	const json_t *list = json_object_get(o, "blockers");

	assert_int_equal(json_array_size(list), 1);
	return json_string_value(json_object_get(json_array_get(list, 0), "text"));
}

/* A mount point may be called anything; JSON is UTF-8. */
static void text_that_is_no_utf8_hides_nothing(void **state)
{
	static const char instead[] = "\xef\xbf\xbd";
	char many[302] = "x";
	struct sriov_func f;
	const char *text;
	json_t *o;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	fake_file(&fake, "/fake/netuse/eth0v0", "\xe9 \xc3\xa9 \xed\xa0\x80 \xf4\x90\x80\x80\n");
	o = sriov_func_json(s, &f);
	text = blocker_text(o);
	assert_non_null(text);
	assert_int_equal(strncmp(text, "eth0v0 \xef\xbf\xbd \xc3\xa9 \xef\xbf\xbd", 15), 0);
	json_decref(o);
	/* Cut where it is too long, but between two characters. */
	for (int i = 0; i < 150; i++)
		memcpy(many + 2 * i + 1, "\xc3\xa9", 2);
	fake_file(&fake, "/fake/netuse/eth0v0", many);
	o = sriov_func_json(s, &f);
	text = blocker_text(o);
	assert_int_equal(strlen(text), SRIOV_TEXT_LEN - 2);
	assert_null(strstr(text, instead));
	json_decref(o);
}

static void functions_have_many_names(void **state)
{
	static const struct {
		const char *text, *addr;
	} names[] = {
		{ FAKE_PF, FAKE_PF },	   { "01:00.0", FAKE_PF },	     { "0:1:0.0", FAKE_PF },
		{ "eth0", FAKE_PF },	   { "eth0v1", FAKE_VF1 },	     { "eth0/0", FAKE_VF0 },
		{ "01:00.0/1", FAKE_VF1 }, { "00000000:01:10.2", FAKE_VF1 },
	};
	static const struct {
		const char *text;
		int error;
	} wrong[] = {
		{ "0000:09:00.0", -ENODEV },
		{ "eth9", -ENODEV },
		{ "eth0/7", -ENODEV },
		{ "02:00.0/0", -ENODEV },
		{ "eth0/x", -EINVAL },
		{ "../eth0", -EINVAL },
		{ "", -ENODEV },
		{ ".", -EINVAL },
		{ "/0", -ENODEV },
		{ "a-name-that-is-far-too-long", -EINVAL },
		{ "0000:01:20.0", -ENODEV },
		{ "0000:01:00.8", -ENODEV },
		{ "0000:01:00.0/", -EINVAL },
	};
	char addr[SRIOV_ADDR_LEN];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(sriov_resolve(s, names[i].text, addr), 0);
		assert_string_equal(addr, names[i].addr);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(sriov_resolve(s, wrong[i].text, addr), wrong[i].error);
}

static void addresses_are_spelled_as_the_kernel_does(void **state)
{
	char addr[SRIOV_ADDR_LEN];

	assert_int_equal(sriov_addr_parse("10000:E1:00.0", addr), 0);
	assert_string_equal(addr, "10000:e1:00.0");
	assert_int_equal(sriov_addr_parse("3b:1f.7", addr), 0);
	assert_string_equal(addr, "0000:3b:1f.7");
	assert_int_equal(sriov_addr_parse("3b:20.0", addr), -EINVAL);
	assert_int_equal(sriov_addr_parse("3b:00.8", addr), -EINVAL);
	assert_int_equal(sriov_addr_parse("3b:00", addr), -EINVAL);
	assert_int_equal(sriov_addr_parse("3b:00.0 ", addr), -EINVAL);
	assert_int_equal(sriov_addr_parse("123456789:00:00.0", addr), -EINVAL);
	assert_int_equal(sriov_addr_parse("::.", addr), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(pfs_come_with_their_vfs),
		T(facts_are_those_of_sysfs),
		T(link_facts_are_those_of_sysfs),
		T(room_of_a_vf_is_by_the_capability),
		T(a_vf_without_a_number_has_no_configuration),
		T(representors_are_found),
		T(what_vanishes_meanwhile_is_left_out),
		T(everything_is_in_the_json),
		T(text_that_is_no_utf8_hides_nothing),
		T(functions_have_many_names),
		T(addresses_are_spelled_as_the_kernel_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
