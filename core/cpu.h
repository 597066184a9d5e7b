/*
 * CPU lists, thread pinning and NUMA placement over libnuma. Machines without
 * NUMA have one node, 0.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_CPU_H
#define RINGBOLT_CORE_CPU_H

#include <stddef.h>
#include <stdint.h>

#define CPU_LIST_MAX 256

/*
 * Parse "2,4-6" into cpus in the order given. The count, -EINVAL if it is not
 * a list or names a CPU twice, -ENODEV if a CPU is not usable by this process
 * (*bad_cpu then says which), -E2BIG if more than max.
 */
int cpu_list_parse(const char *text, int *cpus, int max, int *bad_cpu);

/* Pin the calling thread. 0 or -errno. */
int cpu_pin_self(int cpu);

/* Nanoseconds since boot that the CPU had nothing to do, in steps of the kernel's
 * clock ticks. 0 or -errno. May take long; not for the data path. */
int cpu_idle_ns(int cpu, uint64_t *ns);

/* The CPU's node, or -1 if unknown. */
int cpu_node(int cpu);

/*
 * The node that holds the page at addr; -1 if not resident or unknown. Does
 * not touch the page.
 */
int numa_node_of(const void *addr);

/*
 * Zeroed memory on a node (-1: any), for what a loop uses at every turn.
 * Page-aligned. NULL if there is none. numa_zfree() accepts NULL.
 */
void *numa_zalloc(size_t size, int node);
void numa_zfree(void *p, size_t size);

#endif
