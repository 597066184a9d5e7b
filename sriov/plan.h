/*
 * A file that says which PFs have how many VFs, how these are configured, which
 * driver has them and who may claim them; and making it true.
 *
 *	pfs:
 *	  - pf: 0000:3b:00.0        # or a network device
 *	    vfs: 4
 *	    driver: vfio-pci        # auto (default), none, default or a name
 *	    owners: [vm1, vm2]      # who may claim; none given: anybody
 *	    replace: off            # may VFs go so that another count can come?
 *	    vf:
 *	      0: { mac: "02:00:00:00:00:10", vlan: 10 }
 *	      1-3: { vlan: 20, driver: none, owners: [vm3] }
 *
 * YAML 1.1, so JSON is fine as well. Keys of a VF are sriov_conf_keys, driver and
 * owners.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_PLAN_H
#define RINGBOLT_SRIOV_PLAN_H

#include "sriov/sriov.h"

struct sriov_plan_vf {
	unsigned int first, last; /* indexes */
	int line;
	struct sriov_conf conf;
	char driver[SRIOV_NAME_LEN]; /* "": the PF's */
	char owners[SRIOV_TEXT_LEN];
	bool has_owners;
};

struct sriov_plan_pf {
	char pf[SRIOV_NAME_LEN];
	int line, vfs_line;
	unsigned int vfs;
	bool has_owners, replace;
	char driver[SRIOV_NAME_LEN]; /* "": auto */
	char owners[SRIOV_TEXT_LEN];
	unsigned int nr;
	struct sriov_plan_vf *vf; /* no index twice */
};

struct sriov_plan {
	char name[SRIOV_TEXT_LEN]; /* of the file */
	unsigned int nr;
	struct sriov_plan_pf *pf;
};

/* -EINVAL and "FILE:LINE: key: what was expected"; -errno of reading. The caller
 * frees *plan. No device is looked at. */
int sriov_plan_load(struct sriov *s, const char *path, struct sriov_plan **plan);
int sriov_plan_parse(struct sriov *s, const char *name, const char *text, size_t len,
		     struct sriov_plan **plan);
void sriov_plan_free(struct sriov_plan *plan); /* accepts NULL */
/* -EINVAL, "FILE:LINE: ..." if two of its PFs are one on this machine. */
int sriov_plan_check(struct sriov *s, const struct sriov_plan *plan);

enum sriov_change_state {
	SRIOV_CHANGE_WANTED, /* would be done */
	SRIOV_CHANGE_DONE,
	SRIOV_CHANGE_FAILED, /* or cannot be: reason tells */
};

struct sriov_change {
	const char *where; /* the address, or the file's line if there is none */
	const char *text; /* "vfs 0 -> 4" */
	const char *reason; /* of a failure, else "" */
	enum sriov_change_state state;
};

/*
 * Tell every difference between the plan and the machine, and with apply make
 * it go away, which needs sriov_lock(). What is claimed is left as it is, and
 * told as a failure. One failure does not keep the rest from being done. The
 * number of changes wanted or done; or the first failure.
 */
int sriov_plan_walk(struct sriov *s, const struct sriov_plan *plan, bool apply,
		    void (*told)(void *opaque, const struct sriov_change *change), void *opaque);

#endif
