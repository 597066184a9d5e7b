/*
 * Physical and virtual functions (PCI Express Base Specification, "Single Root
 * I/O Virtualization and Sharing"): what there is, how many, how they are
 * configured, which driver has them, and who owns them. The public header of
 * this folder.
 *
 * Nothing here waits without a bound. What the kernel may block for ever (a
 * write while a VFIO user holds a VF, a read while such a write is under way)
 * is done by a child process that is given up after a time.
 *
 * What is changed is written down first, in one file per function below the
 * state directory, so that whoever runs next can finish or restore what a dead
 * process left. Changes are made under one lock, which no child inherits.
 *
 * Functions return 0 or a positive count, or -errno and a sentence that
 * sriov_error() gives: what was wanted, what stood in the way, who does it.
 * -EINVAL is text that cannot mean what it should: the caller's mistake.
 * One thread at a time may use a struct sriov; the process should have no other
 * threads, as children are forked.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_SRIOV_H
#define RINGBOLT_SRIOV_SRIOV_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "iommu/iommu.h"
#include "sriov/conf.h"

#define SRIOV_ERR_LEN 2048
#define SRIOV_ADDR_LEN IOMMU_ADDRESS_LEN
#define SRIOV_NAME_LEN 64 /* drivers, owners, modules */

struct sriov;
struct sriov_os;

/* ---- The machine ---- */

/* All zero is the real machine. Strings are copied. */
struct sriov_opts {
	const char *root; /* stands before /sys, /proc, /dev and /run; NULL: "" */
	const char *state_dir; /* NULL: ROOT/run/ringbolt-vf */
	/* How long one write of sysfs may take; 0: long enough for what drivers
	 * are known to need, a minute and 5 s more for each VF. */
	unsigned int timeout_ms;
	/* How long to wait for somebody else's command; 0: 20 s, as creating VFs
	 * takes its time. */
	unsigned int lock_wait_ms;
	const struct sriov_os *os; /* NULL: this kernel; tests answer themselves */
	void *os_opaque;
};

/* Reads nothing yet. -ENOMEM, -ENAMETOOLONG. */
int sriov_open(const struct sriov_opts *opts, struct sriov **s);
/* Unlocks. Accepts NULL. */
void sriov_close(struct sriov *s);
/* The sentence of the last failure; "" if there was none. */
const char *sriov_error(const struct sriov *s);

/*
 * Take the lock of the state directory, which is made if need be, then finish or
 * restore what dead processes left. Needed by everything that changes
 * something. -EAGAIN if another process holds it all the time (it is named);
 * -EACCES.
 */
int sriov_lock(struct sriov *s);
void sriov_unlock(struct sriov *s);

/* ---- Functions ---- */

enum sriov_claim_state {
	SRIOV_CLAIM_NONE,
	SRIOV_CLAIM_HELD,
	SRIOV_CLAIM_STALE, /* the process it was made for is gone */
	SRIOV_CLAIM_MOVING, /* being made or released, now or by a process that died */
	SRIOV_CLAIM_CNT,
};

/* One PCI function. Text is "" and numbers are -1 or 0 where there is none. */
struct sriov_func {
	char addr[SRIOV_ADDR_LEN];
	bool is_pf, is_vf;
	uint16_t vendor, device;
	uint32_t class_code;
	char vendor_name[SRIOV_TEXT_LEN], device_name[SRIOV_TEXT_LEN];
	char driver[SRIOV_NAME_LEN], override[SRIOV_NAME_LEN];
	/* The file that tells the override did not answer: a change is stuck. */
	bool override_stuck;
	int numa_node, iommu_group;
	char reset_method[SRIOV_NAME_LEN];
	char link_speed[SRIOV_NAME_LEN], link_width[8]; /* PCI Express */
	char max_link_speed[SRIOV_NAME_LEN], max_link_width[8];
	uint64_t bar_len[6]; /* bytes */
	unsigned int msix; /* vectors; only root can look */

	/* The first network device; the others of the function are not shown. */
	char netdev[IFNAMSIZ], mac[18], operstate[16];
	char switch_id[SRIOV_NAME_LEN], port_name[SRIOV_NAME_LEN];

	/* PFs */
	unsigned int nr_vfs, total_vfs, offset, stride, vf_device;
	bool autoprobe;
	uint64_t vf_bar_len[6]; /* of one VF */
	char eswitch[SRIOV_NAME_LEN]; /* devlink: legacy, switchdev */
	unsigned int vf_total_msix; /* vectors to give to VFs; 0: they are fixed */

	/* VFs */
	char pf[SRIOV_ADDR_LEN];
	int vf_index;
	struct sriov_conf conf; /* as the PF's driver tells */
	char representor[IFNAMSIZ];
	bool msix_given; /* by us: so many, 0 for as many as it has by itself */
	uint64_t msix_nr;

	/* Ownership */
	enum sriov_claim_state claim;
	char owner[SRIOV_NAME_LEN];
	pid_t owner_pid; /* 0: for no process */
	char owners[SRIOV_TEXT_LEN]; /* who may claim, with commas; "": anybody */
	char original_driver[SRIOV_NAME_LEN]; /* while bound by us: to be given back */
	bool bound_by_us;
};

struct sriov_list {
	unsigned int nr;
	struct sriov_func *func; /* PFs by address, each followed by its VFs */
};

enum {
	SRIOV_LIST_ALL = 1 << 0, /* functions that are neither PF nor VF too */
	SRIOV_LIST_NAMES = 1 << 1, /* look up vendor_name and device_name */
	SRIOV_LIST_CONF = 1 << 2, /* ask rtnetlink and devlink */
};

/* The caller frees *list. Needs no lock and waits for no PF: VFs are found by
 * their links, not by the file that blocks. What vanishes meanwhile is left
 * out. */
int sriov_list(struct sriov *s, unsigned int flags, struct sriov_list **list);
void sriov_list_free(struct sriov_list *list); /* accepts NULL */
/* One function; -ENODEV. */
int sriov_func_read(struct sriov *s, const char *addr, unsigned int flags, struct sriov_func *f);
/* Everything, with blockers (below) and the group's members. NULL: no memory. */
json_t *sriov_func_json(struct sriov *s, const struct sriov_func *f);
/* Text of the machine: JSON is UTF-8, what is none becomes U+FFFD. NULL: no memory. */
json_t *sriov_json_text(const char *text);

/* iommu_group_read() and iommu_acs_path() of this machine. */
int sriov_group(struct sriov *s, const char *addr, struct iommu_group **group, char *err);
int sriov_acs(struct sriov *s, const char *addr, struct iommu_acs_hop **hops);

/*
 * A function from what a user wrote: an address with or without its domain, the
 * name of a network device, or PF/INDEX for a VF. -EINVAL if it is none of
 * these, -ENODEV if there is no such function.
 */
int sriov_resolve(struct sriov *s, const char *text, char addr[SRIOV_ADDR_LEN]);

/* ---- What stands in the way ---- */

enum sriov_blocker_kind {
	SRIOV_BLOCK_USER, /* a process has it open */
	SRIOV_BLOCK_CLAIM,
	SRIOV_BLOCK_MOUNT, /* a mounted file system; the root disk */
	SRIOV_BLOCK_SWAP,
	SRIOV_BLOCK_HOLDER, /* device mapper, md or another device stands on it */
	SRIOV_BLOCK_NET, /* addresses, routes, a bridge or bond, AF_XDP */
	SRIOV_BLOCK_NETNS, /* its network device was moved to another namespace */
	SRIOV_BLOCK_VFS, /* a PF that has VFs */
	SRIOV_BLOCK_STUCK, /* a write of a process that the kernel has not answered */
	SRIOV_BLOCK_GROUP, /* its IOMMU group is not viable, or there is none */
	SRIOV_BLOCK_CNT,
};

struct sriov_blocker {
	enum sriov_blocker_kind kind;
	char text[SRIOV_TEXT_LEN];
};

struct sriov_blockers {
	unsigned int nr;
	struct sriov_blocker *item;
};

extern const char *const sriov_blocker_names[];

/*
 * Why this function cannot be taken from the host or its user now; none if it
 * can. *b is the caller's to sriov_blockers_free(). Another user's processes
 * can only be seen by root.
 */
int sriov_blockers(struct sriov *s, const struct sriov_func *f, struct sriov_blockers *b);
void sriov_blockers_free(struct sriov_blockers *b);

/* ---- Changes: under sriov_lock() ---- */

/* What happens to new VFs once all of them exist and are configured. */
#define SRIOV_DRIVER_AUTO "auto" /* as the PF's sriov_drivers_autoprobe was */
#define SRIOV_DRIVER_NONE "none"
#define SRIOV_DRIVER_DEFAULT "default" /* the one the kernel finds */

struct sriov_resize {
	unsigned int nr_vfs;
	bool replace; /* there are VFs, and they may go: the count changes through 0 */
	const char *driver; /* one of the above or a name; NULL: auto */
	/* Called when the VFs exist and none has a driver. Its failure undoes all. */
	int (*configure)(struct sriov *s, const char *pf, void *opaque);
	void *opaque;
};

/*
 * Make pf have this many VFs, or leave it as it was. 0 if it already has them, 1
 * if they were made. -ENOTSUP no PF; -ERANGE more than it can have; -EBUSY in
 * use, claimed, or a count that is not 0 (see replace); -ETIMEDOUT the kernel
 * did not answer.
 */
int sriov_resize(struct sriov *s, const char *pf, const struct sriov_resize *want);

/* Set what counts in conf and read it back. -EIO if a driver took it and did
 * not do it. */
int sriov_configure(struct sriov *s, const char *vf, const struct sriov_conf *conf);

enum {
	SRIOV_BIND_NOIOMMU = 1 << 0, /* without an IOMMU: the guest gets all memory */
};

/*
 * Give the function to driver (or "none", "default"). The driver it has is
 * remembered, through any number of these, until sriov_unbind(). 0 if it already
 * has it, 1 if changed. On failure it is with its old driver again.
 */
int sriov_bind(struct sriov *s, const char *addr, const char *driver, unsigned int flags);
/* Nothing to do for sriov_bind(); auto is what any function has. */
bool sriov_has_driver(const struct sriov_func *f, const char *driver);
/* Back to the driver it had before the first sriov_bind(). -ENOENT if none. */
int sriov_unbind(struct sriov *s, const char *addr);

struct sriov_claim_opts {
	const char *owner; /* letters, digits and . _ - : @ */
	const char *vf, *pf; /* as for sriov_resolve(); NULL: any */
	const char *cpus; /* "2,4-6": a VF on one of their nodes; NULL: any */
	pid_t pid; /* the claim ends with this process; 0: until it is released */
	const char *driver; /* NULL: vfio-pci */
	unsigned int bind_flags;
	const struct sriov_conf *conf; /* NULL: leave it */
	bool has_user; /* give the VFIO device's files to uid and gid */
	uid_t uid;
	gid_t gid;
};

/*
 * One VF for one owner: chosen, configured, bound, and written down, or nothing
 * of all that. Its address in addr. -EBUSY if none is free: each is told with
 * its reason.
 */
int sriov_claim(struct sriov *s, const struct sriov_claim_opts *opts, char addr[SRIOV_ADDR_LEN]);

enum {
	/* Whoever owns it, and whatever cannot be taken back; never while it is
	 * open. */
	SRIOV_RELEASE_FORCE = 1 << 0,
	SRIOV_RELEASE_NO_RESET = 1 << 1,
};

/* Reset, take back its configuration, its files and its driver, and forget the
 * owner. -EPERM if owner is not the claim's, -ENOENT without claim. What fails
 * does not keep the rest from being taken back, but for a reset: then the host's
 * driver does not get it. The next command tries again. */
int sriov_release(struct sriov *s, const char *vf, const char *owner, unsigned int flags);
/* The process that a claim ends with. */
struct sriov_holder {
	pid_t pid; /* 0: none */
	uint64_t start; /* when it started: numbers are used again */
};
/*
 * From now on the claim belongs to this process: what attach does before exec.
 * Who it belonged to is in *before, which may be NULL. -EPERM, -ENOENT as above;
 * -EBUSY while it is being made or released, or belongs to another process that
 * lives: not without owner, and not while anybody has the VF open.
 */
int sriov_claim_adopt(struct sriov *s, const char *vf, const char *owner, pid_t pid,
		      struct sriov_holder *before);
/* Undo that, if the claim is still this process's. */
int sriov_claim_return(struct sriov *s, const char *vf, pid_t pid,
		       const struct sriov_holder *before);
/* Release the claims of processes that are gone and hold nothing; the number. */
int sriov_reap(struct sriov *s);
/* Who may claim a VF, with commas; "" for anybody. */
int sriov_set_owners(struct sriov *s, const char *vf, const char *owners);
/* Function level reset, or what the kernel has in its place. -ENOTSUP. */
int sriov_reset(struct sriov *s, const char *addr);

#endif
