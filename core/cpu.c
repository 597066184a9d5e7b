/*
 * CPU lists, pinning and NUMA placement. Called when loops and their memory
 * are set up and when a device's rings are placed; never from the data path.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/cpu.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base.h"

/* More than any kernel is built for: the set is never too small for it. */
#define CPU_IDS 8192

static bool cpu_usable(int cpu)
{
	size_t size = CPU_ALLOC_SIZE(CPU_IDS);
	cpu_set_t *set;
	bool usable;

	set = CPU_ALLOC(CPU_IDS);
	if (!set)
		return false;
	usable = !sched_getaffinity(0, size, set) && CPU_ISSET_S(cpu, size, set);
	CPU_FREE(set);
	return usable;
}

/* A CPU number without sign or blanks; moves *text behind it. */
static int parse_cpu(const char **text)
{
	char *end;
	long cpu;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	errno = 0;
	cpu = strtol(*text, &end, 10);
	if (errno || cpu > INT_MAX - 1)
		return -EINVAL;
	*text = end;
	return (int)cpu;
}

static int append_cpu(int *cpus, int cnt, int max, int cpu, int *bad_cpu)
{
	for (int i = 0; i < cnt; i++) {
		if (cpus[i] == cpu)
			return -EINVAL;
	}
	if (cpu >= CPU_IDS || !cpu_usable(cpu)) {
		*bad_cpu = cpu;
		return -ENODEV;
	}
	if (cnt >= max)
		return -E2BIG;
	cpus[cnt] = cpu;
	return 0;
}

int cpu_list_parse(const char *text, int *cpus, int max, int *bad_cpu)
{
	int cnt = 0, first, last, res;

	for (;;) {
		first = last = parse_cpu(&text);
		if (first < 0)
			return first;
		if (*text == '-') {
			text++;
			last = parse_cpu(&text);
		}
		if (last < first)
			return -EINVAL;
		for (int cpu = first; cpu <= last; cpu++) {
			res = append_cpu(cpus, cnt, max, cpu, bad_cpu);
			if (res < 0)
				return res;
			cnt++;
		}
		if (!*text)
			return cnt;
		if (*text++ != ',')
			return -EINVAL;
	}
}

int cpu_pin_self(int cpu)
{
	size_t size = CPU_ALLOC_SIZE(CPU_IDS);
	cpu_set_t *set;
	int res;

	if (cpu < 0 || cpu >= CPU_IDS)
		return -EINVAL;
	set = CPU_ALLOC(CPU_IDS);
	if (!set)
		return -ENOMEM;
	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	/* 0 is the calling thread, not the process. */
	res = sched_setaffinity(0, size, set) < 0 ? -errno : 0;
	CPU_FREE(set);
	return res;
}

int cpu_idle_ns(int cpu, uint64_t *ns)
{
	unsigned long long idle, wait, hz = (unsigned long long)sysconf(_SC_CLK_TCK);
	FILE *f = fopen("/proc/stat", "re");
	char line[512];
	int res = -ENODEV, found;

	if (!f)
		return -errno;
	while (res && fgets(line, sizeof(line), f)) {
		/* proc_stat(5): user, nice, system, idle, iowait. */
		if (isdigit((unsigned char)line[3]) && /* not the sum of all */
		    sscanf(line, "cpu%d %*u %*u %*u %llu %llu", &found, &idle, &wait) == 3 &&
		    found == cpu) {
			*ns = (idle + wait) * (1000000000u / hz);
			res = 0;
		}
	}
	fclose(f);
	return res;
}

int cpu_node(int cpu)
{
	if (cpu < 0)
		return -1;
	if (numa_available() < 0)
		return 0;
	return numa_node_of_cpu(cpu);
}

int numa_node_of(const void *addr)
{
	void *page = (void *)round_down((uintptr_t)addr, (uint64_t)numa_pagesize());
	int status = -1;

	/* Without target nodes this only asks, and unlike get_mempolicy() it does
	 * not bring the page in. */
	if (numa_move_pages(0, 1, &page, NULL, &status, 0) < 0)
		return -1;
	return status < 0 ? -1 : status;
}

void *numa_zalloc(size_t size, int node)
{
	struct bitmask *nodes;
	void *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (node < 0 || numa_available() < 0 || node > numa_max_node())
		return p;
	nodes = numa_allocate_nodemask();
	numa_bitmask_setbit(nodes, (unsigned int)node);
	/* Preferred: memory of another node is slower, none would be an outage. A
	 * container may forbid the call, which costs the same. */
	mbind(p, size, MPOL_PREFERRED, nodes->maskp, nodes->size + 1, 0);
	numa_free_nodemask(nodes);
	return p;
}

void numa_zfree(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}
