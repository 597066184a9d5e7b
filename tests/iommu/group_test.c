/*
 * What sysfs says of IOMMU groups: who keeps one from being handed over, and
 * why functions share one.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "iommu/iommu.h"
#include "tests/iommu/sysfskit.h"

#define VF "0000:01:10.0"
#define PORT "0000:00:01.0"

static char err[IOMMU_ERR_LEN];

static int setup(void **state)
{
	static struct sysfskit kit;

	sysfskit_create(&kit);
	*state = &kit;
	err[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	sysfskit_destroy(*state);
	return 0;
}

static struct iommu_group *read_group(struct sysfskit *k, const char *address)
{
	struct iommu_group *g;

	if (iommu_group_read(k->root, address, &g, err) < 0)
		fail_msg("%s", err);
	return g;
}

static void a_lone_function_on_vfio_is_viable(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, PORT "/", VF, 11, "vfio-pci");
	g = read_group(k, VF);
	assert_int_equal(g->id, 11);
	assert_string_equal(g->type, "DMA-FQ");
	assert_true(g->viable);
	assert_false(g->noiommu);
	assert_int_equal(g->nr_members, 1);
	assert_string_equal(g->member[0].address, VF);
	assert_int_equal(g->member[0].state, IOMMU_MEMBER_VFIO);
	assert_int_equal(g->member[0].class_code, 0x020000);
	assert_int_equal(g->nr_reserved, 1);
	assert_int_equal(g->reserved[0].range.first.v, 0xfee00000);
	assert_int_equal(g->reserved[0].range.last.v, 0xfeefffff);
	assert_int_equal(g->reserved[0].type, IOMMU_RESERVED_MSI);
	iommu_group_free(g);
}

static void each_kind_of_member_is_judged(void **state)
{
	static const struct {
		const char *driver;
		enum iommu_member_state state;
		bool viable;
	} kinds[] = {
		{ NULL, IOMMU_MEMBER_UNBOUND, true },
		{ "vfio-pci", IOMMU_MEMBER_VFIO, true },
		{ "mlx5_vfio_pci", IOMMU_MEMBER_VFIO, true },
		{ "pcieport", IOMMU_MEMBER_HARMLESS, true },
		{ "pci-stub", IOMMU_MEMBER_HARMLESS, true },
		{ "igbvf", IOMMU_MEMBER_BLOCKS, false },
		{ "shpchp", IOMMU_MEMBER_BLOCKS, false },
	};
	struct iommu_group *g;

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct sysfskit k;

		sysfskit_create(&k);
		sysfskit_function(&k, "", VF, 4, "vfio-pci");
		sysfskit_function(&k, "", "0000:01:10.2", 4, kinds[i].driver);
		g = read_group(&k, VF);
		assert_int_equal(g->nr_members, 2);
		/* Sorted by address. */
		assert_string_equal(g->member[1].address, "0000:01:10.2");
		assert_int_equal(g->member[1].state, kinds[i].state);
		assert_int_equal(g->viable, kinds[i].viable);
		iommu_group_free(g);
		sysfskit_destroy(&k);
	}
}

static void a_driver_with_a_vfio_device_is_vfio_whatever_its_name(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, "", VF, 4, "special");
	sysfskit_dir(k, "devices/pci0000:00/" VF "/vfio-dev/vfio9");
	g = read_group(k, VF);
	assert_int_equal(g->member[0].state, IOMMU_MEMBER_VFIO);
	iommu_group_free(g);
}

static void what_blocks_is_named_with_what_to_do(void **state)
{
	struct sysfskit *k = *state;
	char text[IOMMU_ERR_LEN];
	struct iommu_group *g;

	sysfskit_function(k, "", "0000:04:01.0", 7, "e1000");
	sysfskit_function(k, "", "0000:04:02.0", 7, "e1000e");
	sysfskit_function(k, "", "0000:04:03.0", 7, NULL);
	g = read_group(k, "0000:04:01.0");
	iommu_group_explain(g, text);
	assert_non_null(strstr(text, "group 7 is not viable"));
	assert_non_null(strstr(text, "0000:04:01.0 is in use by the host's driver e1000:"));
	assert_non_null(strstr(text, "0000:04:02.0 is in use by the host's driver e1000e:"));
	assert_null(strstr(text, "0000:04:03.0"));
	iommu_group_free(g);
}

static void many_blockers_fit_the_sentence(void **state)
{
	struct sysfskit *k = *state;
	char text[IOMMU_ERR_LEN], address[32];
	struct iommu_group *g;

	for (int i = 0; i < 32; i++) {
		snprintf(address, sizeof(address), "0000:04:%02x.0", i);
		sysfskit_function(k, "", address, 7, "a_driver_with_quite_a_long_name");
	}
	g = read_group(k, "0000:04:00.0");
	iommu_group_explain(g, text);
	assert_true(strlen(text) < sizeof(text));
	iommu_group_free(g);
}

static void a_member_that_goes_meanwhile_is_left_out(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, "", VF, 4, "vfio-pci");
	sysfskit_function(k, "", "0000:01:10.2", 4, "igbvf");
	/* Its link in the group is still there. */
	sysfskit_remove(k, "devices/pci0000:00/0000:01:10.2");
	g = read_group(k, VF);
	assert_int_equal(g->nr_members, 1);
	assert_true(g->viable);
	iommu_group_free(g);
}

static void a_device_without_a_group_is_explained(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, "", VF, -1, "igbvf");
	assert_int_equal(iommu_group_read(k->root, VF, &g, err), -ENOENT);
	assert_non_null(strstr(err, "is in no IOMMU group"));
	assert_int_equal(iommu_group_read(k->root, "0000:09:00.0", &g, err), -ENODEV);
	assert_string_equal(err, "there is no PCI device 0000:09:00.0");
	/* No err is fine too. */
	assert_int_equal(iommu_group_read(k->root, "0000:09:00.0", &g, NULL), -ENODEV);
}

static void what_is_no_address_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"01:00.0",
		"0000:01:00",
		"0000:01:00.8",
		"0000:01:00.00",
		"0000:01:00.0/..",
		"../../etc",
		"0000:1:00.0",
		"0000:01:00,0",
		"000000000:01:00.0",
		"0000:01:00.0 ",
		"wxyz:01:00.0",
	};
	struct sysfskit *k = *state;
	struct iommu_acs_hop *hops;
	struct iommu_group *g;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(iommu_group_read(k->root, bad[i], &g, err), -EINVAL);
		assert_int_equal(iommu_acs_path(k->root, bad[i], &hops, err), -EINVAL);
	}
	assert_int_equal(iommu_group_read(k->root, NULL, &g, err), -EINVAL);
	/* A long domain is one, of a device that is not there. */
	assert_int_equal(iommu_group_read(k->root, "10000:e1:00.0", &g, err), -ENODEV);
}

static void groups_of_no_iommu_are_known(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, "", VF, 0, "vfio-pci");
	sysfskit_text(k, "kernel/iommu_groups/0/name", "vfio-noiommu\n");
	g = read_group(k, VF);
	assert_true(g->noiommu);
	iommu_group_free(g);
}

static void reserved_regions_may_be_odd(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;

	sysfskit_function(k, "", VF, 4, "vfio-pci");
	sysfskit_text(k, "kernel/iommu_groups/4/reserved_regions",
		      "0x00000000000a0000 0x00000000000fffff direct-relaxable\n"
		      "not a region\n"
		      "\n"
		      "0x000000007b000000 0x000000007f7fffff direct\n"
		      "0x000000fd00000000 0xffffffffffffffff reserved\n"
		      "0x1 0x2 what-comes-next\n");
	g = read_group(k, VF);
	assert_int_equal(g->nr_reserved, 4);
	assert_int_equal(g->reserved[0].type, IOMMU_RESERVED_RELAXABLE);
	assert_int_equal(g->reserved[1].type, IOMMU_RESERVED_DIRECT);
	assert_int_equal(g->reserved[2].type, IOMMU_RESERVED_PLAIN);
	assert_true(g->reserved[2].range.last.v == UINT64_MAX);
	assert_int_equal(g->reserved[3].type, IOMMU_RESERVED_UNKNOWN);
	iommu_group_free(g);
	/* A kernel that does not tell. */
	sysfskit_remove(k, "kernel/iommu_groups/4/reserved_regions");
	sysfskit_remove(k, "kernel/iommu_groups/4/type");
	g = read_group(k, VF);
	assert_int_equal(g->nr_reserved, 0);
	assert_string_equal(g->type, "");
	iommu_group_free(g);
}

static void a_group_as_json(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_group *g;
	json_t *j, *member;

	sysfskit_function(k, "", VF, 4, NULL);
	sysfskit_function(k, "", "0000:01:10.2", 4, "igbvf");
	g = read_group(k, VF);
	j = iommu_group_json(g);
	iommu_group_free(g);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "id")), 4);
	assert_true(json_is_false(json_object_get(j, "viable")));
	assert_int_equal(json_array_size(json_object_get(j, "members")), 2);
	member = json_array_get(json_object_get(j, "members"), 0);
	assert_true(json_is_null(json_object_get(member, "driver")));
	member = json_array_get(json_object_get(j, "members"), 1);
	assert_string_equal(json_string_value(json_object_get(member, "state")), "blocks");
	assert_string_equal(json_string_value(json_object_get(member, "class")), "0x020000");
	json_decref(j);
}

/* ---- Access control services ---- */

enum {
	ENDPOINT = 0,
	ROOT_PORT = 4,
	UPSTREAM = 5,
	DOWNSTREAM = 6,
	TO_PCI = 7
};

static int acs_of(struct sysfskit *k, struct iommu_acs_hop **hops)
{
	int nr = iommu_acs_path(k->root, VF, hops, err);

	if (nr < 0)
		fail_msg("%s", err);
	return nr;
}

static void ports_are_listed_upwards_and_judged(void **state)
{
	const char *path = "0000:00:01.0/0000:02:00.0/0000:03:00.0/";
	struct sysfskit *k = *state;
	struct iommu_acs_hop *hops;

	sysfskit_function(k, "", "0000:00:01.0", 1, "pcieport");
	sysfskit_function(k, "0000:00:01.0/", "0000:02:00.0", 2, "pcieport");
	sysfskit_function(k, "0000:00:01.0/0000:02:00.0/", "0000:03:00.0", 3, "pcieport");
	sysfskit_function(k, path, VF, 4, "vfio-pci");
	sysfskit_config(k, VF, &(struct sysfskit_config){ .port_type = ENDPOINT });
	/* A downstream port of a switch that has ACS but nobody turned it on. */
	sysfskit_config(
		k, "0000:03:00.0",
		&(struct sysfskit_config){
			.port_type = DOWNSTREAM, .acs = 1, .acs_cap = 0x1f, .acs_ctrl = 0 });
	sysfskit_config(k, "0000:02:00.0", &(struct sysfskit_config){ .port_type = UPSTREAM });
	/* What a port has not is wired on. */
	sysfskit_config(k, "0000:00:01.0",
			&(struct sysfskit_config){ .port_type = ROOT_PORT,
						   .acs = 1,
						   .acs_cap = 0x1d & ~0x10,
						   .acs_ctrl = 0x0d });
	assert_int_equal(acs_of(k, &hops), 4);
	assert_string_equal(hops[0].address, VF);
	assert_true(hops[0].readable && hops[0].isolates && !hops[0].present);
	assert_string_equal(hops[1].address, "0000:03:00.0");
	assert_true(hops[1].present && !hops[1].isolates);
	assert_string_equal(hops[2].address, "0000:02:00.0");
	assert_true(!hops[2].present && hops[2].isolates);
	assert_string_equal(hops[3].address, "0000:00:01.0");
	assert_true(hops[3].present && hops[3].isolates);
	assert_int_equal(hops[3].control, 0x0d);
	free(hops);
}

static void what_cannot_isolate_does_not(void **state)
{
	static const struct sysfskit_config bad[] = {
		{ .port_type = ROOT_PORT },
		{ .port_type = DOWNSTREAM },
		{ .port_type = TO_PCI },
		{ .port_type = ENDPOINT, .multifunction = 1 },
		{ .port_type = ROOT_PORT, .acs = 1, .acs_cap = 0x1d, .acs_ctrl = 0x1c },
	};
	struct sysfskit *k = *state;
	struct iommu_acs_hop *hops;

	sysfskit_function(k, "", VF, 4, "vfio-pci");
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		sysfskit_config(k, VF, &bad[i]);
		assert_int_equal(acs_of(k, &hops), 1);
		assert_true(hops[0].readable);
		assert_false(hops[0].isolates);
		free(hops);
	}
}

static void what_only_root_may_read_is_said(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_acs_hop *hops;
	json_t *j;

	sysfskit_function(k, "", VF, 4, "vfio-pci");
	assert_int_equal(acs_of(k, &hops), 1);
	assert_false(hops[0].readable);
	free(hops);
	sysfskit_config(k, VF, &(struct sysfskit_config){ .port_type = ROOT_PORT, .len = 64 });
	assert_int_equal(acs_of(k, &hops), 1);
	assert_false(hops[0].readable);
	j = iommu_acs_json(hops, 1);
	assert_true(json_is_false(json_object_get(json_array_get(j, 0), "readable")));
	json_decref(j);
	free(hops);
}

static void lists_that_never_end_are_left(void **state)
{
	struct sysfskit *k = *state;
	struct iommu_acs_hop *hops;
	uint8_t config[4096];

	sysfskit_function(k, "", VF, 4, "vfio-pci");
	memset(config, 0, sizeof(config));
	config[0x34] = 0x40;
	config[0x40] = 0x01;
	config[0x41] = 0x40; /* itself */
	config[0x100] = 0x01;
	config[0x102] = 0x01;
	config[0x103] = 0x10; /* 0x100 again */
	sysfskit_file(k, "bus/pci/devices/" VF "/config", config, sizeof(config));
	assert_int_equal(acs_of(k, &hops), 1);
	assert_false(hops[0].present);
	free(hops);
	memset(config, 0xff, sizeof(config)); /* a device that is gone */
	sysfskit_file(k, "bus/pci/devices/" VF "/config", config, sizeof(config));
	assert_int_equal(acs_of(k, &hops), 1);
	assert_false(hops[0].present);
	free(hops);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_lone_function_on_vfio_is_viable),
		TEST(each_kind_of_member_is_judged),
		TEST(a_driver_with_a_vfio_device_is_vfio_whatever_its_name),
		TEST(what_blocks_is_named_with_what_to_do),
		TEST(many_blockers_fit_the_sentence),
		TEST(a_member_that_goes_meanwhile_is_left_out),
		TEST(a_device_without_a_group_is_explained),
		TEST(what_is_no_address_is_refused),
		TEST(groups_of_no_iommu_are_known),
		TEST(reserved_regions_may_be_odd),
		TEST(a_group_as_json),
		TEST(ports_are_listed_upwards_and_judged),
		TEST(what_cannot_isolate_does_not),
		TEST(what_only_root_may_read_is_said),
		TEST(lists_that_never_end_are_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
