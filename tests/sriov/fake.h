/*
 * A machine with SR-IOV in a temporary folder: sysfs, proc and dev as files, and
 * a kernel that does what Linux does when they are written. All of its state is
 * in the folder, so that it is the same for every process of a test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_SRIOV_FAKE_H
#define RINGBOLT_TESTS_SRIOV_FAKE_H

#include "sriov/internal.h"

#define FAKE_PF "0000:01:00.0"
#define FAKE_VF0 "0000:01:10.0"
#define FAKE_VF1 "0000:01:10.2"
#define FAKE_VF2 "0000:01:10.4"
#define FAKE_NVME "0000:02:00.0"
#define FAKE_PLAIN "0000:00:01.0"

/* Of the changes at which something happens, one in so many is tried: a sanitizer makes
 * each of the many forks take long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAKE_STEP 7
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAKE_STEP 7
#endif
#endif
#ifndef FAKE_STEP
#define FAKE_STEP 1
#endif

struct fake {
	char root[128];
};

extern const struct sriov_os fake_os;

/*
 * FAKE_PF: an igb on node 0, eth0, 7 VFs, up. FAKE_NVME: a controller on node 1
 * with disk nvme0n1, 2 VFs, no network. FAKE_PLAIN: neither PF nor VF.
 */
void fake_create(struct fake *f);
/* The same in a folder that is there. */
void fake_fill(const struct fake *f);
void fake_destroy(struct fake *f);
/* A machine for a test: created, opened, and locked if asked for. */
struct sriov *fake_open(struct fake *f, bool lock);

/* The sentence of the last failure has this in it. */
void fake_says(struct sriov *s, const char *text);

/* Paths are below the root, folders are made. */
void fake_file(const struct fake *f, const char *path, const char *text);
void fake_link(const struct fake *f, const char *path, const char *target);
void fake_remove(const struct fake *f, const char *path);
bool fake_exists(const struct fake *f, const char *path);
/* The first line; "" if there is none. */
const char *fake_read(const struct fake *f, const char *path);

/* The driver a function has, "" for none. */
const char *fake_driver(const struct fake *f, const char *addr);
unsigned int fake_nr_vfs(const struct fake *f, const char *pf);
struct sriov_conf fake_conf(const struct fake *f, const char *netdev, unsigned int vf);

/* Give a function an MSI-X table, of three entries. */
void fake_msix(const struct fake *f, const char *addr);

/* A process with one open file; fd 0 for none. */
void fake_process(const struct fake *f, int pid, const char *comm, const char *cmdline,
		  size_t cmdline_len, int fd, const char *target);

/*
 * What goes wrong, as files below fake/:
 *   fail/FILE       writes to a file of this name fail with this errno
 *   fail/conf       asking for the configuration of VFs does
 *   held/ADDR       unbinding or removing this VF blocks while this exists
 *   refuse/DRIVER   binding it does nothing
 *   make/ADDR       the driver makes only so many VFs, and says it made all
 *   ignore          bits of enum sriov_conf_bit that are taken and not done
 *   lose            binding a driver clears the MAC
 *   zero-mac        a MAC of zeroes is refused with EINVAL
 *   netuse/NETDEV   a sentence: the host needs it
 *   hang-ask, hang-set, hang-links  netlink does not answer, or do, or list, while
 *                   this exists
 *   links           a network device more, as struct sriov_os has them
 *   pool            so many MSI-X vectors for all VFs of a PF, each of which has a table
 *   modules/NAME    modprobe knows this driver
 *   busy/DISK       the kernel uses this disk
 */
void fake_fail(const struct fake *f, const char *file, int error);

/* From now on, the n-th change that this process makes is preceded by SIGKILL;
 * 0: none. */
void fake_kill_at(unsigned int n);
/* Before the n-th change that this process makes, this function is pulled out,
 * and its VFs with it; 0: never. */
void fake_unplug_at(unsigned int n, const char *addr);

#endif
