/*
 * One owner per VF: chosen, configured, handed over, taken back.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

#define DEVICE "/sys/bus/pci/devices/"

static struct fake fake;
static struct sriov *s;
static char addr[SRIOV_ADDR_LEN];

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

static int claim(const char *owner)
{
	struct sriov_claim_opts opts = { .owner = owner };

	return sriov_claim(s, &opts, addr);
}

static struct sriov_conf some_conf(void)
{
	return (struct sriov_conf){ .has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN | SRIOV_CONF_TRUST,
				    .mac = { 2, 0, 0, 0, 0, 7 },
				    .vlan = 42,
				    .trust = true };
}

static void a_claim_binds_and_a_release_gives_back(void **state)
{
	struct sriov_func f;

	assert_int_equal(claim("vm1"), 0);
	assert_string_equal(addr, FAKE_VF0);
	assert_string_equal(fake_driver(&fake, addr), "vfio-pci");
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_HELD);
	assert_string_equal(f.owner, "vm1");
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_read(&fake, "/fake/resets/" FAKE_VF0), "1");
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_NONE);
}

static void a_vf_has_one_owner(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm2", .vf = "eth0/0" };

	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(sriov_claim(s, &opts, addr), -EBUSY);
	fake_says(s, FAKE_VF0 ": not free: is claimed by vm1");
	assert_int_equal(claim("vm2"), 0);
	assert_string_equal(addr, FAKE_VF1);
	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(claim("vm3"), -EBUSY);
	fake_says(s, "none of 3 VFs is free");
	fake_says(s, FAKE_VF1 ": not free: is claimed by vm2");
}

static void only_the_owner_releases(void **state)
{
	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm2", 0), -EPERM);
	fake_says(s, "is claimed by vm1, not by vm2");
	assert_int_equal(sriov_release(s, FAKE_VF0, NULL, 0), -EPERM);
	assert_int_equal(sriov_release(s, FAKE_VF1, "vm1", 0), -ENOENT);
	assert_int_equal(sriov_release(s, FAKE_VF0, NULL, SRIOV_RELEASE_FORCE), 0);
}

static void what_is_open_is_not_released(void **state)
{
	assert_int_equal(claim("vm1"), 0);
	fake_process(&fake, 99, "qemu", "qemu\0-name\0x", 12, 8, "/dev/vfio/20");
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", SRIOV_RELEASE_FORCE), -EBUSY);
	fake_says(s, "cannot be released: process 99 (qemu), VM x has /dev/vfio/20 open");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
}

static void claimed_vfs_keep_their_pf_as_it_is(void **state)
{
	struct sriov_resize want = { .nr_vfs = 0 };

	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(sriov_resize(s, FAKE_PF, &want), -EBUSY);
	fake_says(s, FAKE_VF0 ": this VF is in use, the count stays: is claimed by vm1");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "igbvf", 0), -EBUSY);
	assert_int_equal(sriov_unbind(s, FAKE_VF0), -EBUSY);
}

static void configuration_is_set_and_cleared(void **state)
{
	struct sriov_conf conf = some_conf(), now;
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf };
	static const uint8_t no_mac[6];

	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	now = fake_conf(&fake, "eth0", 0);
	assert_memory_equal(now.mac, conf.mac, 6);
	assert_int_equal(now.vlan, 42);
	assert_true(now.trust);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	now = fake_conf(&fake, "eth0", 0);
	assert_memory_equal(now.mac, no_mac, 6);
	assert_int_equal(now.vlan, 0);
	assert_false(now.trust);
	assert_true(now.spoofchk);
}

static void an_address_that_the_new_driver_loses_is_set_again(void **state)
{
	struct sriov_conf conf = some_conf(), now;
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf };

	fake_file(&fake, "/fake/lose", "");
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	now = fake_conf(&fake, "eth0", 0);
	assert_memory_equal(now.mac, conf.mac, 6);
}

static void a_driver_that_ignores_silently_is_found_out(void **state)
{
	struct sriov_conf conf = some_conf();
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf, .vf = FAKE_VF0 };
	char number[8];

	snprintf(number, sizeof(number), "%d", SRIOV_CONF_VLAN);
	fake_file(&fake, "/fake/ignore", number);
	snprintf(number, sizeof(number), "%d", SRIOV_CONF_TRUST);
	fake_file(&fake, "/fake/ignore", number);
	assert_int_equal(sriov_claim(s, &opts, addr), -EIO);
	fake_says(s, "trust=on was taken, but the driver tells off");
	/* Nothing of the attempt is left. */
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json"));
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 0);
}

static void where_no_empty_address_is_taken_a_random_one_replaces_the_old(void **state)
{
	struct sriov_conf conf = some_conf(), now;
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf };

	fake_file(&fake, "/fake/zero-mac", "");
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	now = fake_conf(&fake, "eth0", 0);
	assert_memory_not_equal(now.mac, conf.mac, 6);
	assert_int_equal(now.mac[0] & 3, 2);
}

static void a_failed_binding_leaves_no_claim(void **state)
{
	struct sriov_conf conf = some_conf();
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf, .vf = FAKE_VF0 };

	fake_file(&fake, "/fake/refuse/vfio-pci", "");
	assert_int_equal(sriov_claim(s, &opts, addr), -EIO);
	fake_says(s, "driver vfio-pci did not take it");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 0);
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_VF0 ".json"));
}

static void a_vf_is_found_by_pf_and_by_node(void **state)
{
	struct sriov_resize want = { .nr_vfs = 2 };
	struct sriov_claim_opts opts = { .owner = "vm1" };

	assert_int_equal(sriov_resize(s, FAKE_NVME, &want), 1);
	opts.pf = FAKE_NVME;
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_string_equal(addr, "0000:02:00.1");
	opts.pf = NULL;
	opts.cpus = "6,7";
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_string_equal(addr, "0000:02:00.2");
	assert_int_equal(sriov_claim(s, &opts, addr), -EBUSY);
	opts.cpus = "0-1";
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_string_equal(addr, FAKE_VF0);
	opts.cpus = "100";
	assert_int_equal(sriov_claim(s, &opts, addr), -ENODEV);
	opts.cpus = "1-";
	assert_int_equal(sriov_claim(s, &opts, addr), -EINVAL);
	opts.cpus = NULL;
	opts.pf = FAKE_PLAIN;
	assert_int_equal(sriov_claim(s, &opts, addr), -ENODEV);
	fake_says(s, "there is no VF of " FAKE_PLAIN);
	opts.pf = NULL;
	opts.vf = FAKE_PF;
	assert_int_equal(sriov_claim(s, &opts, addr), -ENOTSUP);
	fake_says(s, "is no VF");
}

static void owners_may_be_limited(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0 };

	assert_int_equal(sriov_set_owners(s, FAKE_VF0, "vm10,vm2"), 0);
	assert_int_equal(sriov_claim(s, &opts, addr), -EPERM);
	fake_says(s, "may be claimed by vm10,vm2 only");
	opts.owner = "vm2";
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(claim("vm1"), 0);
	assert_string_equal(addr, FAKE_VF1);
}

static void owners_have_decent_names(void **state)
{
	static const char *const names[] = { "", "a b", "a/b", "a\n", "\xc3\xa4" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(claim(names[i]), -EINVAL);
	assert_int_equal(claim("vm-1_a.b:c@d"), 0);
}

static void a_vf_the_host_uses_is_passed_over(void **state)
{
	fake_file(&fake, "/fake/netuse/eth0v0", "has the address 10.0.0.1/24\n");
	assert_int_equal(claim("vm1"), 0);
	assert_string_equal(addr, FAKE_VF1);
}

static void what_needs_no_rebinding_is_chosen_first(void **state)
{
	assert_int_equal(sriov_bind(s, FAKE_VF2, "vfio-pci", 0), 1);
	assert_int_equal(claim("vm1"), 0);
	assert_string_equal(addr, FAKE_VF2);
	/* Who bound it takes it back. */
	assert_int_equal(sriov_release(s, FAKE_VF2, "vm1", 0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF2), "vfio-pci");
	assert_int_equal(sriov_unbind(s, FAKE_VF2), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF2), "igbvf");
}

/* Whatever it was bound to by us, it is that again, and known as that. */
static void a_release_returns_to_what_was_bound_before(void **state)
{
	static const struct {
		const char *before, *claimed;
	} drivers[] = { { "none", NULL },
			{ "igb_uio", NULL },
			{ "vfio-pci", "igbvf" },
			{ "vfio-pci", "none" } };
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0 };
	struct sriov_rec before, after;

	fake_file(&fake, "/fake/modules/igb_uio", "");
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		bool none = !strcmp(drivers[i].before, "none");

		assert_int_equal(sriov_bind(s, FAKE_VF0, drivers[i].before, 0), 1);
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &before), 0);
		opts.driver = drivers[i].claimed;
		assert_int_equal(sriov_claim(s, &opts, addr), 0);
		assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", 0), 0);
		assert_string_equal(fake_driver(&fake, FAKE_VF0), none ? "" : drivers[i].before);
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &after), 0);
		assert_memory_equal(&after.bind, &before.bind, sizeof(before.bind));
		assert_string_equal(fake_read(&fake,
					      "/sys/bus/pci/devices/" FAKE_VF0 "/driver_override"),
				    strcmp(drivers[i].before, "vfio-pci") ? "(null)" : "vfio-pci");
		assert_int_equal(sriov_unbind(s, FAKE_VF0), 0);
		assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	}
}

static void a_claim_of_a_dead_process_is_stale_and_reaped(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .pid = 77 };
	struct sriov_func f;

	assert_int_equal(sriov_claim(s, &opts, addr), -ESRCH);
	fake_process(&fake, 77, "vmm", "vmm", 4, 0, "");
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(sriov_reap(s), 0);
	/* The number is another process's now. */
	fake_file(&fake, "/proc/77/stat",
		  "77 (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 999999 0 0 0\n");
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_STALE);
	/* One that nobody has waited for yet holds nothing either. */
	fake_file(&fake, "/proc/77/stat",
		  "77 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 770 0 0 0\n");
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_STALE);
	/* Its child still has it open. */
	fake_process(&fake, 78, "vmm", "vmm", 4, 5, "/dev/vfio/20");
	assert_int_equal(sriov_reap(s), 0);
	fake_remove(&fake, "/proc/78");
	assert_int_equal(sriov_reap(s), 1);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_string_equal(fake_read(&fake, "/fake/resets/" FAKE_VF0), "1");
}

static void a_claim_can_be_adopted(void **state)
{
	struct sriov_func f;

	fake_process(&fake, 77, "vmm", "vmm", 4, 0, "");
	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(sriov_claim_adopt(s, addr, "vm2", 77, NULL), -EPERM);
	assert_int_equal(sriov_claim_adopt(s, addr, "vm1", 78, NULL), -ESRCH);
	assert_int_equal(sriov_claim_adopt(s, addr, "vm1", 77, NULL), 0);
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.owner_pid, 77);
}

static void a_claim_of_a_process_that_lives_is_its_owners_to_move(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .pid = 77 };
	struct sriov_holder before;
	struct sriov_func f;

	fake_process(&fake, 77, "vmm", "vmm", 4, 0, "");
	fake_process(&fake, 78, "thief", "thief", 6, 0, "");
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(sriov_claim_adopt(s, addr, NULL, 78, NULL), -EBUSY);
	fake_says(s, "is claimed by vm1, process 77 (vmm): --owner takes it over");
	assert_int_equal(sriov_claim_adopt(s, addr, NULL, 77, NULL), 0);
	assert_int_equal(sriov_claim_adopt(s, addr, "vm1", 78, &before), 0);
	assert_int_equal(before.pid, 77);
	assert_int_equal(sriov_claim_return(s, addr, 77, &before), 0);
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.owner_pid, 78);
	assert_int_equal(sriov_claim_return(s, addr, 78, &before), 0);
	assert_int_equal(sriov_func_read(s, addr, 0, &f), 0);
	assert_int_equal(f.owner_pid, 77);
	assert_int_equal(f.claim, SRIOV_CLAIM_HELD);
	/* Not while it is used. */
	fake_process(&fake, 77, "vmm", "vmm", 4, 5, "/dev/vfio/20");
	assert_int_equal(sriov_claim_adopt(s, addr, "vm1", 78, NULL), -EBUSY);
	fake_says(s, "cannot be taken over: process 77 (vmm) has /dev/vfio/20 open");
	/* Whose process is gone, anybody may have. */
	fake_remove(&fake, "/proc/77");
	assert_int_equal(sriov_claim_adopt(s, addr, NULL, 78, NULL), 0);
}

static void a_second_member_of_a_group_goes_to_the_same_owner_only(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm2", .vf = FAKE_VF1 };

	assert_int_equal(claim("vm1"), 0);
	assert_int_equal(sriov_bind(s, FAKE_VF1, "none", 0), 1);
	fake_remove(&fake, "/sys/kernel/iommu_groups/21");
	fake_link(&fake, "/sys/bus/pci/devices/" FAKE_VF1 "/iommu_group",
		  "/sys/kernel/iommu_groups/20");
	fake_link(&fake, "/sys/kernel/iommu_groups/20/devices/" FAKE_VF1,
		  "/sys/bus/pci/devices/" FAKE_VF1);
	assert_int_equal(sriov_claim(s, &opts, addr), -EBUSY);
	fake_says(s, "shares IOMMU group 20 with " FAKE_VF0 ", which is claimed by vm1");
	opts.owner = "vm1";
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
}

static void a_group_that_is_not_viable_is_explained(void **state)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0 };

	fake_link(&fake, "/sys/kernel/iommu_groups/20/devices/" FAKE_PLAIN,
		  "/sys/bus/pci/devices/" FAKE_PLAIN);
	assert_int_equal(sriov_claim(s, &opts, addr), -EBUSY);
	fake_says(s, "IOMMU group 20: " FAKE_PLAIN);
	fake_says(s, "virtio-pci");
}

static void files_go_to_the_user_and_come_back(void **state)
{
	struct sriov_claim_opts opts = {
		.owner = "vm1", .has_user = true, .uid = getuid(), .gid = getgid()
	};
	char path[256];
	struct stat st;

	fake_file(&fake, "/fake/modules/vfio-pci", "");
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	snprintf(path, sizeof(path), "%s/dev/vfio/20", fake.root);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(path, sizeof(path), "%s/dev/vfio/devices/vfio120", fake.root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	snprintf(path, sizeof(path), "%s/dev/vfio/20", fake.root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

/* A new command, which first sets right what others left. */
static void next_command(void)
{
	sriov_close(s);
	s = fake_open(&fake, true);
}

static void what_cannot_be_set_back_keeps_nothing_else_from_it(void **state)
{
	struct sriov_conf conf = some_conf();
	struct sriov_claim_opts opts = { .owner = "vm1",
					 .vf = FAKE_VF0,
					 .conf = &conf,
					 .has_user = true,
					 .uid = getuid(),
					 .gid = getgid() };
	struct sriov_func f;
	char number[8];

	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	snprintf(number, sizeof(number), "%d", SRIOV_CONF_TRUST);
	fake_file(&fake, "/fake/ignore", number);
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", 0), -EIO);
	fake_says(s, "trust=off was taken, but the driver tells on");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 0);
	next_command();
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_MOVING);
	assert_false(f.bound_by_us);
	/* Once is enough. */
	assert_string_equal(fake_read(&fake, "/fake/resets/" FAKE_VF0), "1");
	assert_int_equal(sriov_release(s, FAKE_VF0, NULL, SRIOV_RELEASE_FORCE), 0);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_NONE);
}

/* Of its PF, which is no reason to leave the VF as it is. */
static void a_network_device_that_does_not_answer_ends_no_release(void **state)
{
	static const int errors[] = { ENODEV, ETIMEDOUT };
	struct sriov_conf conf = some_conf();
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0, .conf = &conf };
	struct sriov_rec rec;

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		assert_int_equal(sriov_claim(s, &opts, addr), 0);
		fake_fail(&fake, "conf", errors[i]);
		assert_true(sriov_release(s, FAKE_VF0, "vm1", 0) < 0);
		assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
		assert_int_equal(rec.claim.phase, SRIOV_PHASE_RELEASING);
		assert_false(rec.claim.used);
		assert_int_equal(sriov_release(s, FAKE_VF0, NULL, SRIOV_RELEASE_FORCE), 0);
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
		assert_int_equal(rec.claim.phase, SRIOV_PHASE_NONE);
		fake_remove(&fake, "/fake/fail/conf");
	}
}

/* Its PF's driver is at the VF, so nothing else may be; and that is not forgotten. */
static void an_item_that_is_still_being_set_back_stops_a_release(void **state)
{
	struct sriov_conf conf = some_conf();
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0, .conf = &conf };
	struct sriov_rec rec;

	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	s->timeout_ms = 100;
	fake_file(&fake, "/fake/hang-set", "");
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", 0), -ETIMEDOUT);
	fake_says(s, "has not returned within 100 ms");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", SRIOV_RELEASE_FORCE), -EBUSY);
	fake_says(s, "is still writing");
	fake_remove(&fake, "/fake/hang-set");
	do {
		assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
	} while (sriov_rec_writer_alive(&rec));
	next_command();
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 0);
	assert_int_equal(sriov_rec_load(s, FAKE_VF0, &rec), 0);
	assert_int_equal(rec.claim.phase, SRIOV_PHASE_NONE);
}

/* The host's driver is another owner: not before it has been reset. */
static void what_cannot_be_reset_is_given_back_by_force_only(void **state)
{
	struct sriov_claim_opts opts = {
		.owner = "vm1", .has_user = true, .uid = getuid(), .gid = getgid()
	};
	char path[256];
	struct stat st;

	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	snprintf(path, sizeof(path), "%s/dev/vfio/20", fake.root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	fake_fail(&fake, "reset", EIO);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), -EIO);
	fake_says(s, "/reset: writing '1'");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	/* The user is out all the same. */
	assert_int_equal(stat(path, &st), 0);
	assert_int_not_equal(st.st_mode & 07777, 0600);
	assert_int_equal(sriov_release(s, addr, NULL, SRIOV_RELEASE_FORCE), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

static void vectors_are_given_while_there_is_no_driver(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = 12 };
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf };

	assert_int_equal(sriov_configure(s, FAKE_VF1, &conf), -EBUSY);
	fake_says(s, "only while a VF has no driver");
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_string_equal(
		fake_read(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/sriov_vf_msix_count"), "12");
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	/* As many as it likes: nobody could look how many that are. */
	assert_string_equal(fake_read(&fake, DEVICE FAKE_VF0 "/sriov_vf_msix_count"), "0");
}

static void vectors_are_read_back_and_given_back(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = 12 };
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf, .vf = FAKE_VF0 };

	fake_msix(&fake, FAKE_VF0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 3);
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 12);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 3);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	/* Somebody else's binding stays. */
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_claim(s, &opts, addr), 0);
	assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
	assert_int_equal(sriov_msix_vectors(s, FAKE_VF0), 3);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "vfio-pci");
	fake_file(&fake, "/fake/ignore", "1024");
	assert_int_equal(sriov_claim(s, &opts, addr), -EIO);
	fake_says(s, FAKE_VF0 ": msix=12 was taken, but its table has 3 entries");
}

static void vectors_that_were_given_before_the_claim_are_given_back(void **state)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX, .msix = 12 };
	struct sriov_claim_opts opts = { .owner = "vm1", .conf = &conf, .vf = FAKE_VF1 };
	struct sriov_func f;

	for (int i = 0; i < 2; i++) {
		/* Also where nobody can look. */
		assert_int_equal(sriov_bind_vectors(s, FAKE_VF1, 5), 0);
		assert_int_equal(sriov_claim(s, &opts, addr), 0);
		assert_string_equal(fake_read(&fake, DEVICE FAKE_VF1 "/sriov_vf_msix_count"), "12");
		next_command();
		assert_int_equal(sriov_release(s, addr, "vm1", 0), 0);
		assert_string_equal(fake_read(&fake, DEVICE FAKE_VF1 "/sriov_vf_msix_count"), "5");
		assert_int_equal(sriov_func_read(s, FAKE_VF1, 0, &f), 0);
		assert_true(f.msix_given);
		assert_int_equal(f.msix_nr, 5);
		assert_string_equal(f.driver, "igbvf");
		fake_msix(&fake, FAKE_VF1);
	}
}

static void a_vf_that_was_made_anew_has_no_owner(void **state)
{
	struct sriov_func f;
	char path[256];

	assert_int_equal(claim("vm1"), 0);
	/* Somebody writes to the file by hand. */
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" FAKE_PF "/sriov_numvfs", fake.root);
	assert_int_equal(fake_os.write(s, path, "0"), 0);
	assert_int_equal(fake_os.write(s, path, "2"), 0);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_NONE);
	assert_int_equal(sriov_release(s, FAKE_VF0, "vm1", 0), -ENOENT);
	assert_int_equal(claim("vm2"), 0);
}

/* Two processes want the last VF. */
static void of_two_that_race_one_wins(void **state)
{
	int won = 0, lost = 0, status;
	pid_t pid[2];

	assert_int_equal(claim("a"), 0);
	assert_int_equal(claim("b"), 0);
	sriov_unlock(s);
	for (int i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			struct sriov_claim_opts opts = { .owner = i ? "x" : "y" };
			struct sriov *mine = fake_open(&fake, true);
			int res = sriov_claim(mine, &opts, addr);

			if (res == -EBUSY && !strstr(sriov_error(mine), "is claimed by"))
				_exit(9);
			_exit(res == -EBUSY ? 1 : res ? 8 : 0);
		}
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status));
		won += WEXITSTATUS(status) == 0;
		lost += WEXITSTATUS(status) == 1;
	}
	assert_int_equal(won, 1);
	assert_int_equal(lost, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(a_claim_binds_and_a_release_gives_back),
		T(a_vf_has_one_owner),
		T(only_the_owner_releases),
		T(what_is_open_is_not_released),
		T(claimed_vfs_keep_their_pf_as_it_is),
		T(configuration_is_set_and_cleared),
		T(an_address_that_the_new_driver_loses_is_set_again),
		T(a_driver_that_ignores_silently_is_found_out),
		T(where_no_empty_address_is_taken_a_random_one_replaces_the_old),
		T(a_failed_binding_leaves_no_claim),
		T(a_vf_is_found_by_pf_and_by_node),
		T(owners_may_be_limited),
		T(owners_have_decent_names),
		T(a_vf_the_host_uses_is_passed_over),
		T(what_needs_no_rebinding_is_chosen_first),
		T(a_release_returns_to_what_was_bound_before),
		T(a_claim_of_a_dead_process_is_stale_and_reaped),
		T(a_claim_can_be_adopted),
		T(a_claim_of_a_process_that_lives_is_its_owners_to_move),
		T(a_second_member_of_a_group_goes_to_the_same_owner_only),
		T(a_group_that_is_not_viable_is_explained),
		T(files_go_to_the_user_and_come_back),
		T(what_cannot_be_set_back_keeps_nothing_else_from_it),
		T(a_network_device_that_does_not_answer_ends_no_release),
		T(an_item_that_is_still_being_set_back_stops_a_release),
		T(what_cannot_be_reset_is_given_back_by_force_only),
		T(vectors_are_given_while_there_is_no_driver),
		T(vectors_are_read_back_and_given_back),
		T(vectors_that_were_given_before_the_claim_are_given_back),
		T(a_vf_that_was_made_anew_has_no_owner),
		T(of_two_that_race_one_wins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
