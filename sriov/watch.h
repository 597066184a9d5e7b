/*
 * Events of functions: from the kernel's devices, its network links, and our own
 * records.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_SRIOV_WATCH_H
#define RINGBOLT_SRIOV_WATCH_H

#include "sriov/sriov.h"

enum sriov_event_kind {
	SRIOV_EVENT_APPEARED,
	SRIOV_EVENT_VANISHED,
	SRIOV_EVENT_DRIVER, /* detail: its driver, "" for none */
	SRIOV_EVENT_LINK, /* detail: "up" or "down" */
	SRIOV_EVENT_RESET, /* by this program */
	SRIOV_EVENT_CLAIMED, /* detail: the owner */
	SRIOV_EVENT_RELEASED, /* detail: who owned it */
	SRIOV_EVENT_ERROR, /* of the PCI bus; detail: what the kernel tells */
	SRIOV_EVENT_LOST, /* some events were: look at everything again */
	SRIOV_EVENT_CNT,
};

extern const char *const sriov_event_names[];

struct sriov_event {
	enum sriov_event_kind kind;
	char addr[SRIOV_ADDR_LEN]; /* "" with LOST */
	char netdev[IFNAMSIZ]; /* with LINK */
	char pf[SRIOV_ADDR_LEN]; /* of a VF that is there, else "" */
	char detail[SRIOV_TEXT_LEN];
};

struct sriov_watch;

/* Events come from now on. The state directory is made if need be; where that is
 * not allowed, claims are not told of. -errno of netlink. */
int sriov_watch_open(struct sriov *s, struct sriov_watch **watch);
void sriov_watch_close(struct sriov_watch *watch); /* accepts NULL */

/*
 * Call told() for everything that has happened, after waiting up to timeout_ms
 * (-1: for ever, until a signal). The number of events, or -errno; -EINTR.
 */
int sriov_watch_wait(struct sriov_watch *watch, int timeout_ms,
		     void (*told)(void *opaque, const struct sriov_event *event), void *opaque);

#endif
