/*
 * Drivers: given by override, given back as they were, never taken from what the
 * host needs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

#define OVERRIDE(addr) "/sys/bus/pci/devices/" addr "/driver_override"

#define NVMET "/sys/kernel/config/nvmet/subsystems/nqn.2026-11.org.x:y/namespaces/1"

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

static void a_driver_is_given_and_given_back(void **state)
{
	struct sriov_func f;

	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_string_equal(fake_read(&fake, OVERRIDE(FAKE_VF0)), "vfio-pci");
	/* Siblings are left alone. */
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.original_driver, "igbvf");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 0);

	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_read(&fake, OVERRIDE(FAKE_VF0)), "(null)");
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json"));
	assert_int_equal(sriov_unbind(s, FAKE_VF0), -ENOENT);
	fake_says(s, "has not been bound by this program");
}

static void the_first_driver_is_remembered_through_others(void **state)
{
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "none", 0), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

static void it_comes_back_where_autoprobe_is_off(void **state)
{
	fake_file(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_drivers_autoprobe", "0\n");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_read(&fake, OVERRIDE(FAKE_VF0)), "(null)");
}

static void an_override_that_was_there_comes_back(void **state)
{
	fake_file(&fake, OVERRIDE(FAKE_VF0), "igbvf");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
	assert_string_equal(fake_read(&fake, OVERRIDE(FAKE_VF0)), "igbvf");
}

static void a_driver_that_refuses_leaves_the_old_one(void **state)
{
	fake_file(&fake, "/fake/refuse/vfio-pci", "");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -EIO);
	fake_says(s, "driver vfio-pci did not take it");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_read(&fake, OVERRIDE(FAKE_VF0)), "(null)");
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json"));
}

static void a_refusal_leaves_the_driver_that_was_given_before(void **state)
{
	fake_file(&fake, "/fake/modules/igb_uio", "");
	fake_file(&fake, "/fake/refuse/igb_uio", "");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "igb_uio", 0), -EIO);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

static void a_driver_that_does_not_exist_is_named(void **state)
{
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pic", 0), -ENOENT);
	fake_says(s, "driver vfio-pic: there is no such driver");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "../evil", 0), -EINVAL);
	assert_int_equal(sriov_bind(s, "0000:77:00.0", "vfio-pci", 0), -ENODEV);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

/* What the host needs, one after the other, each by name. */
static void what_the_host_needs_is_not_taken(void **state)
{
	assert_int_equal(sriov_bind(s, FAKE_PF, "vfio-pci", 0), -EBUSY);
	fake_says(s, "has 3 VFs, which its driver would take along");

	fake_file(&fake, "/fake/netuse/eth0v0", "carries the route default\n");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -EBUSY);
	fake_says(s, "eth0v0 carries the route default");

	fake_file(&fake, "/proc/self/mountinfo",
		  "1 1 253:0 / / rw - ext4 /dev/vda rw\n"
		  "2 1 259:0 / /data rw,relatime shared:1 - xfs /dev/nvme0n1 rw\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is mounted at /data");

	fake_file(&fake, "/proc/self/mountinfo", "1 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 holds the root file system, at /");

	/* btrfs has numbers of its own. */
	fake_file(&fake, "/proc/self/mountinfo", "1 1 0:33 / /home rw - btrfs /dev/nvme0n1 rw\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is mounted at /home");
	fake_file(&fake, "/proc/self/mountinfo", "");

	fake_file(&fake, "/proc/swaps", "Filename\n/dev/nvme0n1 partition 1 0 -2\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is swap space");
	fake_file(&fake, "/proc/swaps", "Filename\n");

	fake_file(&fake, "/sys/block/nvme0n1/holders/dm-0", "");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is part of dm-0");
	fake_remove(&fake, "/sys/block/nvme0n1/holders");

	fake_file(&fake, "/sys/block/loop7/loop/backing_file", "/dev/nvme0n1\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is part of loop7");
	fake_remove(&fake, "/sys/block/loop7");

	fake_file(&fake, NVMET "/device_path", "/dev/nvme0n1\n");
	fake_file(&fake, NVMET "/enable", "1\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is served by the NVMe target nqn.2026-11.org.x:y");
	fake_file(&fake, NVMET "/enable", "0\n");

	/* Another mount namespace's, a further member of btrfs, ZFS: no name. */
	fake_file(&fake, "/fake/busy/nvme0n1", "");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "/dev/nvme0n1 is in use by the kernel");
	fake_remove(&fake, "/fake/busy/nvme0n1");

	fake_process(&fake, 50, "mkfs.ext4", "mkfs", 5, 3, "/dev/nvme0n1");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "process 50 (mkfs.ext4) has /dev/nvme0n1 open");
	fake_remove(&fake, "/proc/50");

	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), 1);
	assert_int_equal(sriov_unbind(s, FAKE_NVME), 0);
	assert_string_equal(fake_driver(&fake, FAKE_NVME), "nvme");
}

static void partitions_are_looked_at_too(void **state)
{
	fake_file(&fake, "/sys/block/nvme0n1/nvme0n1p2/partition", "2\n");
	fake_file(&fake, "/sys/block/nvme0n1/nvme0n1p2/dev", "259:2\n");
	fake_file(&fake, "/proc/self/mountinfo", "2 1 259:2 / /boot rw - ext4 /dev/x rw\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1p2 is mounted at /boot");
	fake_file(&fake, "/proc/self/mountinfo", "");
	fake_file(&fake, "/fake/busy/nvme0n1p2", "");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "/dev/nvme0n1p2 is in use by the kernel");
}

/* The namespace is its subsystem's, not the controller's. */
static void a_namespace_of_several_controllers_is_looked_at(void **state)
{
	static const char subsystem[] = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
	char path[128];

	fake_remove(&fake, "/sys/block/nvme0n1");
	snprintf(path, sizeof(path), "%s/nvme0n1/dev", subsystem);
	fake_file(&fake, path, "259:7\n");
	snprintf(path, sizeof(path), "%s/nvme0", subsystem);
	fake_link(&fake, path, "/sys/bus/pci/devices/" FAKE_NVME "/nvme/nvme0");
	snprintf(path, sizeof(path), "%s/nvme0n1", subsystem);
	fake_link(&fake, "/sys/block/nvme0n1", path);
	fake_file(&fake, "/proc/self/mountinfo", "2 1 259:7 / /srv rw - ext4 /dev/x rw\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "nvme0n1 is mounted at /srv");
	fake_file(&fake, "/proc/self/mountinfo", "");

	/* Its files, block and character, are the subsystem's too. */
	fake_link(&fake, "/sys/dev/block/259:7", path);
	snprintf(path, sizeof(path), "%s/nvme0n1/uevent", subsystem);
	fake_file(&fake, path, "MAJOR=259\nDEVNAME=nvme0n1\n");
	fake_process(&fake, 50, "dd", "dd", 3, 3, "/dev/nvme0n1");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "process 50 (dd) has /dev/nvme0n1 open");
	fake_remove(&fake, "/proc/50");
	snprintf(path, sizeof(path), "%s/ng0n1", subsystem);
	fake_link(&fake, "/sys/dev/char/245:0", path);
	snprintf(path, sizeof(path), "%s/ng0n1/uevent", subsystem);
	fake_file(&fake, path, "DEVNAME=ng0n1\n");
	fake_process(&fake, 51, "nvme", "nvme", 5, 3, "/dev/ng0n1");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "process 51 (nvme) has /dev/ng0n1 open");
	/* Another controller's subsystem is nobody else's. */
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
}

/* Files have many names and lie anywhere; a disk may be far below. */
static void open_files_are_known_by_their_number(void **state)
{
	fake_link(&fake, "/sys/dev/char/1:7",
		  "/sys/devices/pci0000:00/" FAKE_NVME
		  "/host0/port-0:0/expander-0:0/port-0:0:1/end_device-0:0:1/target0:0:1/"
		  "0:0:1:0/scsi_generic/sg3");
	fake_process(&fake, 50, "smartd", "smartd", 7, 3, "/dev/full");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "process 50 (smartd) has /dev/full open");
	/* Below a bridge, it is not the bridge's. */
	fake_link(&fake, "/sys/dev/char/1:7",
		  "/sys/devices/pci0000:00/" FAKE_NVME "/0000:09:00.0/sound/pcmC0D0p");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), 1);
}

static void who_has_mapped_a_bar_is_a_user(void **state)
{
	fake_process(&fake, 50, "spdk_tgt", "spdk", 5, 0, "");
	fake_file(&fake, "/proc/50/maps",
		  "55d0e0000000-55d0e0001000 r--p 00000000 fe:01 1234 /usr/bin/spdk_tgt\n"
		  "7f0000000000-7f0000004000 rw-s 00000000 00:17 4321 "
		  "/sys/devices/pci0000:00/" FAKE_NVME "/resource0\n");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "process 50 (spdk_tgt) has /sys/devices/pci0000:00/" FAKE_NVME
		     "/resource0 mapped");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	/* Neither the driver's files nor the mapping: only one that is open. */
	fake_remove(&fake, "/proc/50/maps");
	fake_process(&fake, 50, "spdk_tgt", "spdk", 5, 3,
		     "/sys/devices/pci0000:00/" FAKE_NVME "/resource0_wc");
	assert_int_equal(sriov_bind(s, FAKE_NVME, "vfio-pci", 0), -EBUSY);
	fake_says(s, "resource0_wc open");
}

/* The fdinfo of its file tells which device a process has mapped as well. */
static void a_mapping_is_explained_by_what_is_open(void **state)
{
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	fake_process(&fake, 50, "vmm", "vmm", 4, 0, "");
	fake_file(&fake, "/proc/50/maps",
		  "7f0000000000-7f0000004000 rw-s 00000000 00:0e 9 anon_inode:[vfio-device]\n");
	assert_int_equal(sriov_unbind(s, FAKE_VF0), -EBUSY);
	fake_says(s, "process 50 (vmm) has a VFIO device open");
	fake_process(&fake, 50, "vmm", "vmm", 4, 9, "anon_inode:[vfio-device]");
	fake_file(&fake, "/proc/50/fdinfo/9",
		  "vfio-device-syspath: /sys/devices/pci0000:00/0000:09:00.0\n");
	assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
}

static void without_iommu_only_with_consent(void **state)
{
	static const char param[] = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/iommu_group");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -EPERM);
	fake_says(s, "no IOMMU confines it");
	fake_says(s, "--unsafe-no-iommu");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", SRIOV_BIND_NOIOMMU), -EPERM);
	fake_says(s, "enable_unsafe_noiommu_mode is not Y");
	fake_file(&fake, param, "Y\n");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", SRIOV_BIND_NOIOMMU), 1);
}

static void uio_is_as_unsafe_without_an_iommu(void **state)
{
	static const char type[] = "/sys/kernel/iommu_groups/20/type";

	fake_file(&fake, "/fake/modules/uio_pci_generic", "");
	fake_file(&fake, "/fake/modules/igb_uio", "");
	/* Behind an IOMMU its DMA goes nowhere, unless everything is mapped. */
	assert_int_equal(sriov_bind(s, FAKE_VF0, "uio_pci_generic", 0), 1);
	fake_file(&fake, type, "identity\n");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "igb_uio", 0), -EPERM);
	fake_says(s, "under igb_uio, IOMMU group 20 maps everything: whoever drives it can read");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF1 "/iommu_group");
	assert_int_equal(sriov_bind(s, FAKE_VF1, "uio_pci_generic", 0), -EPERM);
	fake_says(s, "--unsafe-no-iommu");
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
	assert_int_equal(sriov_bind(s, FAKE_VF1, "uio_pci_generic", SRIOV_BIND_NOIOMMU), 1);
}

/* The function goes while its driver is being changed. */
static void a_function_that_vanishes_is_an_answer(void **state)
{
	fake_remove(&fake, OVERRIDE(FAKE_VF0));
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -ENOENT);
	fake_remove(&fake, "/sys/bus/pci/devices/" FAKE_VF0);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -ENODEV);
}

/* An udevadm of ours, that writes down what it is asked. */
static void udev_is_asked_to_settle_where_it_runs(void **state)
{
	struct sriov_opts opts = { .root = fake.root };
	char path[256], before[4096];
	struct sriov *real;

	snprintf(before, sizeof(before), "%s", getenv("PATH"));
	fake_file(&fake, "/bin/udevadm",
		  "#!/bin/sh\nd=${0%/bin/udevadm}\necho \"$@\" >$d/asked\n"
		  "while [ -e $d/busy ]; do /bin/sleep 0.01; done\n");
	snprintf(path, sizeof(path), "%s/bin/udevadm", fake.root);
	assert_int_equal(chmod(path, 0755), 0);
	*strrchr(path, '/') = '\0';
	setenv("PATH", path, 1);
	assert_int_equal(sriov_open(&opts, &real), 0);
	sriov_wait_udev(real);
	assert_false(fake_exists(&fake, "/asked"));
	fake_file(&fake, "/run/udev/control", "");
	sriov_wait_udev(real);
	assert_string_equal(fake_read(&fake, "/asked"), "settle --timeout=11");
	/* With a bound, whoever keeps to none. */
	fake_file(&fake, "/busy", "");
	real->timeout_ms = 50;
	sriov_wait_udev(real);
	fake_remove(&fake, "/busy");
	sriov_close(real);
	setenv("PATH", before, 1);
}

static void a_record_of_another_boot_is_worth_nothing(void **state)
{
	struct sriov_rec rec;

	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	sriov_close(s);
	fake_file(&fake, "/proc/sys/kernel/random/boot_id", "another\n");
	s = fake_open(&fake, true);
	assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
	assert_int_equal(rec.bind.phase, SRIOV_BIND_NONE);
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json"));
}

static void a_record_that_is_no_record_is_told_and_stops_changes(void **state)
{
	fake_file(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json", "{ half a rec");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -EIO);
	fake_says(s, FAKE_VF0 ".json: line 1:");
	fake_file(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json", "{\"version\": 99}");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), -EIO);
	assert_int_equal(sriov_bind(s, FAKE_VF1, "vfio-pci", 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(a_driver_is_given_and_given_back),
		T(the_first_driver_is_remembered_through_others),
		T(it_comes_back_where_autoprobe_is_off),
		T(an_override_that_was_there_comes_back),
		T(a_driver_that_refuses_leaves_the_old_one),
		T(a_refusal_leaves_the_driver_that_was_given_before),
		T(a_driver_that_does_not_exist_is_named),
		T(what_the_host_needs_is_not_taken),
		T(partitions_are_looked_at_too),
		T(a_namespace_of_several_controllers_is_looked_at),
		T(open_files_are_known_by_their_number),
		T(who_has_mapped_a_bar_is_a_user),
		T(a_mapping_is_explained_by_what_is_open),
		T(without_iommu_only_with_consent),
		T(uio_is_as_unsafe_without_an_iommu),
		T(a_function_that_vanishes_is_an_answer),
		T(udev_is_asked_to_settle_where_it_runs),
		T(a_record_of_another_boot_is_worth_nothing),
		T(a_record_that_is_no_record_is_told_and_stops_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
