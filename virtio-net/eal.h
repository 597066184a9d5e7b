/*
 * DPDK's environment: started once, when something first needs it (an uplink, an
 * access list); a process with neither never does. Control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VIRTIO_NET_EAL_H
#define RINGBOLT_VIRTIO_NET_EAL_H

#include <stdbool.h>

#include "vhost/vhost.h"

#define EAL_ERR_LEN 256

enum eal_pages {
	EAL_PAGES_AUTO, /* hugepages if enough are free and can be had, else small ones */
	EAL_PAGES_HUGE,
	EAL_PAGES_SMALL,
	EAL_PAGES_CNT,
};

/* "auto", "huge", "small", NULL-terminated. */
extern const char *const eal_pages_names[EAL_PAGES_CNT + 1];

#define EAL_MEMORY_MIN (16u << 20)

struct eal_conf {
	enum eal_pages pages;
	/* Bytes that all mbufs of all uplinks share when pages are small; they take
	 * room as they are used. 0: 256 MiB. Hugepages come as they are needed. */
	uint64_t memory;
};

/* How it is to be started; before it is. Without: all zero. */
void eal_configure(const struct eal_conf *conf);

/* Start it, if it does not run. 0, or -errno and one sentence in err
 * (EAL_ERR_LEN). A start that failed is not tried again: the environment can be
 * initialised once a process. */
int eal_start(char *err);
bool eal_is_running(void);
/* "huge" or "small". */
const char *eal_pages_used(void);

/* What DPDK complained of first on the control thread since it was cleared, ""
 * nothing. Its functions return little more than that they failed. */
void eal_clear_error(void);
const char *eal_error(void);
/* Around what is only tried, and what may fail: complaints are not worth a line. */
void eal_be_lenient(bool lenient);

/*
 * Make the threads of these loops known to DPDK, so that they have memory pool
 * caches of their own; those known already are left alone. Takes effect a turn
 * later. A loop that is not known works as well, only slower.
 */
void eal_enlist(struct loop *const *loops, unsigned int nr_loops);

/* At the end of the process: all that used it has gone, loops included. */
void eal_stop(void);

#endif
