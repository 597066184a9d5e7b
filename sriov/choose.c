/*
 * Which VF a claim gets: all that match what was asked for, those first that
 * need the least to be changed. Called by sriov_claim(). Changes nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "sriov/claim.h"

#define NODES_MAX 1024
#define CPU_MAX 1048576

/* ---- CPUs to nodes, by sysfs: the caller may ask for CPUs it may not use ---- */

/* Calls visit for each number of "0-3,8"; false if it is no such list. */
static bool walk_list(const char *list, void (*visit)(unsigned long v, void *opaque), void *opaque)
{
	unsigned long first, last;
	char *end;

	while (*list) {
		if (!isdigit((unsigned char)*list))
			return false;
		first = last = strtoul(list, &end, 10);
		if (*end == '-' && isdigit((unsigned char)end[1]))
			last = strtoul(end + 1, &end, 10);
		if (last < first || last >= CPU_MAX || (*end && *end != ','))
			return false;
		for (unsigned long v = first; v <= last; v++)
			visit(v, opaque);
		if (*end == ',' && !end[1])
			return false;
		list = *end ? end + 1 : end;
	}
	return true;
}

struct node_search {
	struct sriov *s;
	bool wanted[NODES_MAX];
	bool *cpus; /* the CPUs of one node */
	unsigned long missing; /* a CPU without node, CPU_MAX: none */
	int node;
	bool matches;
};

static void mark_cpu(unsigned long cpu, void *opaque)
{
	struct node_search *n = opaque;

	n->cpus[cpu] = true;
}

static void test_cpu(unsigned long cpu, void *opaque)
{
	struct node_search *n = opaque;

	n->matches |= n->cpus[cpu];
}

/* The nodes of these CPUs. -EINVAL no list, -ENODEV none of them exists. */
static int find_nodes(struct sriov *s, const char *cpus, struct node_search *n)
{
	char path[SRIOV_PATH_LEN], file[SRIOV_PATH_LEN + 300], list[4096];
	struct dirent *e;
	int found = 0;
	DIR *dir;

	n->cpus = calloc(CPU_MAX, sizeof(*n->cpus));
	if (!n->cpus)
		return sriov_fail(s, -ENOMEM, "out of memory");
	if (!*cpus || !walk_list(cpus, test_cpu, n)) {
		free(n->cpus);
		return sriov_fail(s, -EINVAL, "'%.80s': expected a list of CPUs such as 2,4-6",
				  cpus);
	}
	sriov_path(s, path, "/sys/devices/system/node");
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		if (strncmp(e->d_name, "node", 4) || !isdigit((unsigned char)e->d_name[4]))
			continue;
		n->node = atoi(e->d_name + 4);
		sriov_text(file, sizeof(file), "%s/%s/cpulist", path, e->d_name);
		if (n->node >= NODES_MAX || sriov_file_read(file, list, sizeof(list)) < 0)
			continue;
		memset(n->cpus, 0, CPU_MAX * sizeof(*n->cpus));
		n->matches = false;
		walk_list(list, mark_cpu, n);
		walk_list(cpus, test_cpu, n);
		n->wanted[n->node] = n->matches;
		found += n->matches;
	}
	if (dir)
		closedir(dir);
	free(n->cpus);
	return found ? 0
		     : sriov_fail(s, -ENODEV,
				  "CPUs %s: none of them is on a NUMA node of this host", cpus);
}

/* ---- Order ---- */

struct candidate {
	char addr[SRIOV_ADDR_LEN];
	unsigned int cost; /* lower is better */
	unsigned int order;
};

static int by_cost(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->cost != y->cost)
		return x->cost < y->cost ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Nothing to rebind is best; a VF that the host may be using is last. */
static unsigned int cost_of(const struct sriov_func *f, const char *driver)
{
	if (!strcmp(f->driver, driver))
		return 0;
	return *f->driver ? 2 : 1;
}

static bool matches(const struct sriov_func *f, const char *vf, const char *pf,
		    const struct node_search *n)
{
	if (!f->is_vf || (*vf && strcmp(f->addr, vf) != 0) || (*pf && strcmp(f->pf, pf) != 0))
		return false;
	/* A machine with one node often does not say so. */
	return !n || f->numa_node < 0 || (f->numa_node < NODES_MAX && n->wanted[f->numa_node]);
}

static int collect(const struct sriov_list *list, const struct sriov_claim_opts *opts,
		   const char *vf, const char *pf, const struct node_search *n,
		   struct candidate *found)
{
	const char *driver = opts->driver ? opts->driver : "vfio-pci";
	int nr = 0;

	for (unsigned int i = 0; i < list->nr; i++) {
		if (!matches(&list->func[i], vf, pf, n))
			continue;
		memcpy(found[nr].addr, list->func[i].addr, SRIOV_ADDR_LEN);
		found[nr].cost = cost_of(&list->func[i], driver);
		/* Its node is not known: any other match is better. */
		found[nr].cost += n && list->func[i].numa_node < 0 ? 10 : 0;
		found[nr].order = i;
		nr++;
	}
	qsort(found, (size_t)nr, sizeof(*found), by_cost);
	return nr;
}

int sriov_choose(struct sriov *s, const struct sriov_claim_opts *opts, char (**vf)[SRIOV_ADDR_LEN])
{
	char one[SRIOV_ADDR_LEN] = "", pf[SRIOV_ADDR_LEN] = "";
	struct node_search *nodes = NULL;
	struct candidate *found = NULL;
	struct sriov_list *list = NULL;
	int res = 0;

	*vf = NULL;
	if (opts->vf)
		res = sriov_resolve(s, opts->vf, one);
	if (!res && opts->pf)
		res = sriov_resolve(s, opts->pf, pf);
	if (!res && opts->cpus) {
		nodes = calloc(1, sizeof(*nodes));
		res = nodes ? find_nodes(s, opts->cpus, nodes)
			    : sriov_fail(s, -ENOMEM, "out of memory");
	}
	if (!res)
		res = sriov_list(s, 0, &list);
	if (res < 0 || !list)
		goto out;
	found = calloc(list->nr + 1, sizeof(*found));
	*vf = calloc(list->nr + 1, sizeof(**vf));
	if (found && *vf) {
		res = collect(list, opts, one, pf, nodes, found);
		for (int i = 0; i < res; i++)
			memcpy((*vf)[i], found[i].addr, SRIOV_ADDR_LEN);
	} else {
		res = sriov_fail(s, -ENOMEM, "out of memory");
		free(*vf);
		*vf = NULL;
	}
out:
	free(found);
	free(nodes);
	sriov_list_free(list);
	return res;
}

/* ---- May this owner have it? ---- */

/* owners is "vm1,vm2"; an empty list is everybody. */
static bool is_listed(const char *owners, const char *owner)
{
	size_t len = strlen(owner);

	if (!*owners)
		return true;
	for (const char *o = owners; o; o = strchr(o, ',')) {
		o += *o == ',';
		if (!strncmp(o, owner, len) && (!o[len] || o[len] == ','))
			return true;
	}
	return false;
}

/* Who opens a group has all of it: the other members must be nobody else's. */
static int check_group_owner(struct sriov *s, const struct sriov_func *f, const char *owner)
{
	struct iommu_group *group;
	struct sriov_rec rec;
	int res = 0;

	if (sriov_group(s, f->addr, &group, NULL) < 0)
		return 0;
	for (unsigned int i = 0; i < group->nr_members && !res; i++) {
		if (!strcmp(group->member[i].address, f->addr) ||
		    sriov_rec_load(s, group->member[i].address, &rec) < 0 || !rec.claim.phase ||
		    !strcmp(rec.claim.owner, owner))
			continue;
		res = sriov_fail(s, -EBUSY,
				 "%s: shares IOMMU group %d with %s, which is claimed by %s",
				 f->addr, group->id, rec.addr, rec.claim.owner);
	}
	iommu_group_free(group);
	return res;
}

int sriov_claimable(struct sriov *s, const struct sriov_func *f,
		    const struct sriov_claim_opts *opts)
{
	const char *driver = opts->driver ? opts->driver : "vfio-pci";
	unsigned int but = 0;

	if (!f->is_vf)
		return sriov_fail(s, -ENOTSUP, "%s: is no VF", f->addr);
	if (!is_listed(f->owners, opts->owner))
		return sriov_fail(s, -EPERM, "%s: may be claimed by %s only", f->addr, f->owners);
	/* The group matters to who goes through VFIO; without IOMMU binding says
	 * what that means. */
	if (!sriov_driver_is_vfio(driver) || opts->bind_flags & SRIOV_BIND_NOIOMMU)
		but = 1u << SRIOV_BLOCK_GROUP;
	if (check_group_owner(s, f, opts->owner) < 0)
		return -EBUSY;
	return sriov_check_free(s, f, but, "not free");
}
