/*
 * The machine of fake.h for tests: made, looked at, disturbed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include "tests/sriov/fake.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/sriov/fake_tree.h"

/* ---- For tests ---- */

void fake_fill(const struct fake *f)
{
	static const struct tree_function functions[] = {
		{ FAKE_PF, "0x8086\n", "0x10c9\n", "0x020000\n", "0\n", "igb", "eth0", 7, 128, 2,
		  10 },
		{ FAKE_NVME, "0x1b36\n", "0x0010\n", "0x010802\n", "1\n", "nvme", "", 2, 1, 1, 11 },
		{ FAKE_PLAIN, "0x1af4\n", "0x1000\n", "0x020000\n", "-1\n", "virtio-pci", "", 0, 0,
		  0, 12 },
	};
	static const char *const drivers[] = { "igb", "igbvf", "nvme", "virtio-pci" };

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		tree_driver(f->root, drivers[i]);
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		tree_function(f->root, &functions[i]);
	fake_file(f, "/sys/bus/pci/drivers_probe", "");
	fake_file(f, "/fake/modules/vfio-pci", "");
	fake_file(f, "/proc/sys/kernel/random/boot_id", "b0071d00-0000-0000-0000-000000000001\n");
	fake_file(f, "/proc/self/mountinfo", "1 1 253:0 / / rw - ext4 /dev/vda rw\n");
	fake_file(f, "/proc/swaps", "Filename Type Size Used Priority\n");
	fake_file(f, "/sys/devices/system/node/node0/cpulist", "0-3\n");
	fake_file(f, "/sys/devices/system/node/node1/cpulist", "4-7\n");
	fake_file(f, DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1/dev", "259:0\n");
	fake_file(f, DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1/uevent", "DEVNAME=nvme0n1\n");
	fake_link(f, "/sys/block/nvme0n1", DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1");
	fake_link(f, "/sys/dev/block/259:0", DEVICES "/" FAKE_NVME "/nvme/nvme0/nvme0n1");
}

void fake_create(struct fake *f)
{
	/* Records are synced to their disk: memory is a faster one. */
	const char *dir = getenv("TMPDIR");

	if (!dir)
		dir = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(f->root, sizeof(f->root), "%s/ringbolt-sriov-XXXXXX", dir);
	assert_non_null(mkdtemp(f->root));
	fake_fill(f);
}

void fake_destroy(struct fake *f)
{
	tree_drop(f->root, "");
}

struct sriov *fake_open(struct fake *f, bool lock)
{
	struct sriov_opts opts = { .root = f->root, .os = &fake_os };
	struct sriov *s;
	int res;

	assert_int_equal(sriov_open(&opts, &s), 0);
	if (lock) {
		res = sriov_lock(s);
		if (res < 0)
			fail_msg("%s", sriov_error(s));
	}
	return s;
}

void fake_says(struct sriov *s, const char *text)
{
	if (!strstr(sriov_error(s), text))
		fail_msg("'%s' is not in: %s", text, sriov_error(s));
}

void fake_file(const struct fake *f, const char *path, const char *text)
{
	tree_put(f->root, path, text);
}

void fake_link(const struct fake *f, const char *path, const char *target)
{
	tree_link(f->root, path, target);
}

void fake_remove(const struct fake *f, const char *path)
{
	tree_drop(f->root, path);
}

bool fake_exists(const struct fake *f, const char *path)
{
	return tree_has(f->root, path);
}

const char *fake_read(const struct fake *f, const char *path)
{
	static char text[256];

	tree_get(f->root, path, text, sizeof(text));
	return text;
}

const char *fake_driver(const struct fake *f, const char *addr)
{
	static char driver[SRIOV_NAME_LEN];

	tree_driver_of(f->root, addr, driver);
	return driver;
}

unsigned int fake_nr_vfs(const struct fake *f, const char *pf)
{
	char path[PATH_MAX];
	unsigned int nr = 0;

	for (unsigned int i = 0; i < 64; i++) {
		tree_say(path, DEVICES "/%s/virtfn%u", pf, i);
		nr += tree_has(f->root, path);
	}
	return nr;
}

struct sriov_conf fake_conf(const struct fake *f, const char *netdev, unsigned int vf)
{
	return kernel_load_conf(f->root, netdev, vf);
}

void fake_process(const struct fake *f, int pid, const char *comm, const char *cmdline,
		  size_t cmdline_len, int fd, const char *target)
{
	char path[PATH_MAX], full[PATH_MAX], text[512];
	FILE *file;

	tree_say(path, "/proc/%d/comm", pid);
	snprintf(text, sizeof(text), "%s\n", comm);
	tree_put(f->root, path, text);
	tree_say(path, "/proc/%d/stat", pid);
	snprintf(text, sizeof(text), "%d (%s) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0 0\n",
		 pid, comm, pid * 10);
	tree_put(f->root, path, text);
	tree_say(path, "/proc/%d/cmdline", pid);
	tree_put(f->root, path, "");
	tree_path(f->root, path, full);
	file = fopen(full, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(cmdline, 1, cmdline_len, file), cmdline_len);
	fclose(file);
	if (!fd)
		return;
	tree_say(path, "/proc/%d/fd/%d", pid, fd);
	tree_path(f->root, path, full);
	tree_make_parents(full);
	unlink(full);
	assert_int_equal(symlink(target, full), 0);
}

void fake_fail(const struct fake *f, const char *file, int error)
{
	char path[PATH_MAX], text[16];

	tree_say(path, "/fake/fail/%s", file);
	snprintf(text, sizeof(text), "%d", error);
	tree_put(f->root, path, text);
}

void fake_msix(const struct fake *f, const char *addr)
{
	tree_make_msix(f->root, addr);
}
