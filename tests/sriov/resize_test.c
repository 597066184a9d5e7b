/*
 * Creating and destroying VFs: all or nothing, refused while somebody uses one,
 * bounded when the kernel does not answer.
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

static int resize(const char *pf, unsigned int nr)
{
	struct sriov_resize want = { .nr_vfs = nr };

	return sriov_resize(s, pf, &want);
}

/* Nothing of a change is left: no record of the PF, autoprobe as it was. */
static void nothing_is_left(void)
{
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_PF ".json"));
	assert_string_equal(
		fake_read(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_drivers_autoprobe"), "1");
}

static void says(const char *text)
{
	fake_says(s, text);
}

static void vfs_are_made_and_get_their_default_driver(void **state)
{
	assert_int_equal(resize(FAKE_PF, 3), 1);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_driver(&fake, FAKE_VF2), "igbvf");
	nothing_is_left();
}

static void the_same_count_is_no_change(void **state)
{
	assert_int_equal(resize(FAKE_PF, 3), 1);
	assert_int_equal(resize(FAKE_PF, 3), 0);
	assert_int_equal(resize(FAKE_NVME, 0), 0);
}

static void zero_takes_all_away(void **state)
{
	assert_int_equal(resize(FAKE_PF, 3), 1);
	assert_int_equal(resize(FAKE_PF, 0), 1);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
	nothing_is_left();
}

static void another_count_needs_consent_and_goes_through_zero(void **state)
{
	struct sriov_resize want = { .nr_vfs = 4, .replace = true };

	assert_int_equal(resize(FAKE_PF, 2), 1);
	assert_int_equal(resize(FAKE_PF, 4), -EBUSY);
	says("only through 0");
	says("--replace");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 4);
	nothing_is_left();
}

/* Some of all that a VF can be. */
static void make_three_of_all_kinds(void)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN | SRIOV_CONF_TRUST,
				   .mac = { 2, 0, 0, 0, 0, 7 },
				   .vlan = 42,
				   .trust = true };

	fake_file(&fake, "/fake/pool", "9\n");
	assert_int_equal(resize(FAKE_PF, 3), 1);
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), 0);
	/* As many as there are together: the first gets what the last gives back. */
	assert_int_equal(sriov_bind_vectors(s, FAKE_VF2, 1), 0);
	assert_int_equal(sriov_bind_vectors(s, FAKE_VF0, 5), 0);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_bind(s, FAKE_VF1, "none", 0), 1);
	assert_int_equal(sriov_set_owners(s, FAKE_VF2, "vm1,vm2"), 0);
}

static void are_three_of_all_kinds(void)
{
	struct sriov_func f;

	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, SRIOV_LIST_CONF, &f), 0);
	assert_int_equal(f.conf.vlan, 42);
	assert_int_equal(f.conf.mac[5], 7);
	assert_true(f.conf.trust);
	assert_string_equal(f.driver, "vfio-pci");
	assert_string_equal(f.original_driver, "igbvf");
	assert_int_equal(f.msix, 5);
	assert_true(f.msix_given && f.msix_nr == 5);
	assert_int_equal(sriov_func_read(s, FAKE_VF1, 0, &f), 0);
	assert_string_equal(f.driver, "");
	assert_string_equal(f.original_driver, "igbvf");
	assert_false(f.msix_given);
	assert_int_equal(sriov_func_read(s, FAKE_VF2, 0, &f), 0);
	assert_string_equal(f.driver, "igbvf");
	assert_string_equal(f.owners, "vm1,vm2");
	assert_false(f.bound_by_us);
	assert_int_equal(f.msix, 1);
	nothing_is_left();
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_PF ".vfs"));
}

static void vfs_that_come_back_are_what_they_were(void **state)
{
	struct sriov_opts opts = { .root = fake.root, .os = &fake_os, .timeout_ms = 300 };
	struct sriov_resize want = { .nr_vfs = 5, .replace = true };

	make_three_of_all_kinds();
	sriov_close(s);
	assert_int_equal(sriov_open(&opts, &s), 0);
	assert_int_equal(sriov_lock(s), 0);
	/* Enough for the old ones. */
	fake_file(&fake, "/fake/make/" FAKE_PF, "3\n");
	assert_int_equal(sriov_resize(s, FAKE_PF, &want), -EIO);
	says("asked for 5 VFs, and the driver made 3");
	are_three_of_all_kinds();
	fake_remove(&fake, "/fake/make/" FAKE_PF);
	/* What succeeds leaves nothing of the old ones. */
	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 3);
	nothing_is_left();
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_PF ".vfs"));
}

static void vfs_without_driver_stay_so_if_autoprobe_was_off(void **state)
{
	fake_file(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_drivers_autoprobe", "0\n");
	assert_int_equal(resize(FAKE_PF, 2), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "");
	assert_string_equal(
		fake_read(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_drivers_autoprobe"), "0");
}

static void vfs_can_be_made_for_vfio(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2, .driver = "vfio-pci" };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "vfio-pci");
}

static void wrong_wishes_are_refused_with_their_reason(void **state)
{
	assert_int_equal(resize("0000:09:00.0", 1), -ENODEV);
	says("0000:09:00.0: no such PCI function");
	assert_int_equal(resize(FAKE_PLAIN, 1), -ENOTSUP);
	says("is no PF");
	assert_int_equal(resize(FAKE_PF, 8), -ERANGE);
	says("expected at most 7 VFs, found 8");
	assert_int_equal(resize(FAKE_PF, 2), 1);
	assert_int_equal(resize(FAKE_VF1, 1), -ENOTSUP);
	says("is VF 1 of " FAKE_PF);
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_NVME "/driver");
	assert_int_equal(resize(FAKE_NVME, 1), -ENOENT);
	says("has no driver");
}

static void a_driver_that_refuses_leaves_nothing(void **state)
{
	static const struct {
		int error;
		const char *text;
	} errors[] = {
		{ ENOENT, "its driver makes no VFs" },
		{ ENOSPC, "MSI-X vectors" },
		{ ENOMEM, "bus numbers" },
		{ EIO, "Input/output error" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		fake_fail(&fake, "sriov_numvfs", errors[i].error);
		assert_int_equal(resize(FAKE_PF, 2), -errors[i].error);
		says(errors[i].text);
		assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
		nothing_is_left();
	}
}

static void fewer_than_asked_for_is_none(void **state)
{
	sriov_close(s);
	{
		struct sriov_opts opts = { .root = fake.root, .os = &fake_os, .timeout_ms = 300 };

		assert_int_equal(sriov_open(&opts, &s), 0);
		assert_int_equal(sriov_lock(s), 0);
	}
	fake_file(&fake, "/fake/make/" FAKE_PF, "4\n");
	assert_int_equal(resize(FAKE_PF, 5), -EIO);
	says("asked for 5 VFs, and the driver made 4");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
	nothing_is_left();
}

static void a_vf_whose_driver_fails_undoes_all(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2, .driver = "vfio-pci" };

	fake_file(&fake, "/fake/refuse/vfio-pci", "");
	assert_int_equal(sriov_resize(s, FAKE_PF, &want), -EIO);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
	nothing_is_left();
}

static int cannot_configure(struct sriov *who, const char *pf, void *opaque)
{
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
	return sriov_fail(who, -EPERM, "not like this");
}

static void configuring_comes_before_drivers_and_may_refuse(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2, .configure = cannot_configure };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), -EPERM);
	says("not like this");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
	nothing_is_left();
}

static void the_link_is_up_before_vfs_and_down_again_after_a_failure(void **state)
{
	fake_file(&fake, "/sys/class/net/eth0/flags", "0x1002\n");
	fake_fail(&fake, "sriov_numvfs", EIO);
	assert_int_equal(resize(FAKE_PF, 2), -EIO);
	assert_string_equal(fake_read(&fake, "/sys/class/net/eth0/flags"), "0x1002");
	fake_remove(&fake, "/fake/fail/sriov_numvfs");
	assert_int_equal(resize(FAKE_PF, 2), 1);
	assert_string_equal(fake_read(&fake, "/sys/class/net/eth0/flags"), "0x1003");
}

static void a_user_is_named_and_nothing_is_written(void **state)
{
	static const char args[] = "qemu\0-name\0guest=vm7,debug-threads=on\0-m\0256";
	struct sriov_resize want = { .nr_vfs = 3, .driver = "vfio-pci" };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	/* A write would wait for ever. */
	fake_file(&fake, "/fake/held/" FAKE_VF1, "");
	fake_process(&fake, 4711, "qemu-system-x86", args, sizeof(args), 31, "/dev/vfio/21");
	assert_int_equal(resize(FAKE_PF, 0), -EBUSY);
	says(FAKE_VF1);
	says("process 4711 (qemu-system-x86), VM vm7 has /dev/vfio/21 open");
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 3);
}

static void users_of_the_character_device_are_found_too(void **state)
{
	struct sriov_resize want = { .nr_vfs = 1, .driver = "vfio-pci" };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	fake_process(&fake, 4712, "vmm", "vmm", 4, 9, "/dev/vfio/devices/vfio120");
	assert_int_equal(resize(FAKE_PF, 0), -EBUSY);
	says("process 4712 (vmm) has /dev/vfio/devices/vfio120 open");
}

static void a_vfio_device_without_name_may_be_any(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2, .driver = "vfio-pci" };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	fake_process(&fake, 4713, "vmm", "vmm", 4, 9, "anon_inode:[vfio-device]");
	assert_int_equal(resize(FAKE_PF, 0), -EBUSY);
	says("process 4713 (vmm) has a VFIO device open");
	/* This kernel tells: it is one of another function. */
	fake_file(&fake, "/proc/4713/fdinfo/9",
		  "pos:\t0\nvfio-device-syspath: /sys/devices/pci0000:00/0000:09:00.0\n");
	assert_int_equal(resize(FAKE_PF, 0), 1);
}

static void a_vf_with_an_address_is_in_use(void **state)
{
	assert_int_equal(resize(FAKE_PF, 2), 1);
	fake_file(&fake, "/fake/netuse/eth0v1", "has the address 10.0.0.1/24\n");
	assert_int_equal(resize(FAKE_PF, 0), -EBUSY);
	says(FAKE_VF1 ": this VF is in use");
	says("eth0v1 has the address 10.0.0.1/24");
}

static void a_vf_in_another_namespace_is_in_use(void **state)
{
	assert_int_equal(resize(FAKE_PF, 2), 1);
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/net/eth0v0");
	assert_int_equal(resize(FAKE_PF, 0), -EBUSY);
	says("in another network namespace");
}

/* Somebody opens the VF between our look and our write. */
static void a_write_that_hangs_is_given_up_and_keeps_others_away(void **state)
{
	struct sriov_opts opts = { .root = fake.root, .os = &fake_os, .timeout_ms = 100 };
	struct sriov_resize want = { .nr_vfs = 2, .driver = "vfio-pci" };
	struct sriov_list *list;
	struct sriov_func f;

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
	sriov_close(s);
	fake_file(&fake, "/fake/held/" FAKE_VF1, "");
	assert_int_equal(sriov_open(&opts, &s), 0);
	assert_int_equal(sriov_lock(s), 0);
	assert_int_equal(resize(FAKE_PF, 0), -ETIMEDOUT);
	says("has not returned within 100 ms");
	/* The list does not wait, and others cannot get in its way. */
	assert_int_equal(sriov_list(s, 0, &list), 0);
	sriov_list_free(list);
	assert_int_equal(resize(FAKE_PF, 4), -EBUSY);
	says("is still writing '0' to");
	sriov_close(s);
	s = fake_open(&fake, true);
	assert_int_equal(resize(FAKE_PF, 4), -EBUSY);
	says("is still writing '0' to");
	/* Other functions are not locked out. */
	assert_int_equal(resize(FAKE_NVME, 1), 1);
	/* The user goes, the kernel goes on, the next command finishes. */
	fake_remove(&fake, "/fake/held/" FAKE_VF1);
	while (fake_nr_vfs(&fake, FAKE_PF) ||
	       strcmp(fake_read(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_numvfs"), "0") != 0)
		sriov_sleep_ms(1);
	do {
		struct sriov_rec rec;

		sriov_close(s);
		s = fake_open(&fake, true);
		assert_int_equal(sriov_rec_load(s, FAKE_PF, &rec), 0);
		if (!rec.resize.active)
			break;
		sriov_sleep_ms(1);
	} while (true);
	assert_int_equal(sriov_func_read(s, FAKE_PF, 0, &f), 0);
	assert_int_equal(f.nr_vfs, 0);
	nothing_is_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(vfs_are_made_and_get_their_default_driver),
		T(the_same_count_is_no_change),
		T(zero_takes_all_away),
		T(another_count_needs_consent_and_goes_through_zero),
		T(vfs_that_come_back_are_what_they_were),
		T(vfs_without_driver_stay_so_if_autoprobe_was_off),
		T(vfs_can_be_made_for_vfio),
		T(wrong_wishes_are_refused_with_their_reason),
		T(a_driver_that_refuses_leaves_nothing),
		T(fewer_than_asked_for_is_none),
		T(a_vf_whose_driver_fails_undoes_all),
		T(configuring_comes_before_drivers_and_may_refuse),
		T(the_link_is_up_before_vfs_and_down_again_after_a_failure),
		T(a_user_is_named_and_nothing_is_written),
		T(users_of_the_character_device_are_found_too),
		T(a_vfio_device_without_name_may_be_any),
		T(a_vf_with_an_address_is_in_use),
		T(a_vf_in_another_namespace_is_in_use),
		T(a_write_that_hangs_is_given_up_and_keeps_others_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
