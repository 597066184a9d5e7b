/*
 * Survive a peer that truncates memory it shares with us.
 *
 * A touch of a page behind the end of its file raises SIGBUS. Ranges that a
 * peer controls are registered here; a fault inside one replaces the whole
 * range by private zero pages, sets its flag, and lets the access go on. The
 * owner looks at the flag (per batch on the data path) and breaks its device.
 * A fault outside of every range is our own bug and kills the process as usual.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_SIGBUS_H
#define RINGBOLT_CORE_SIGBUS_H

#include <stdbool.h>
#include <stddef.h>

struct sigbus_range;

/* Install the handler; once, before other threads exist. 0 or -errno. */
int sigbus_init(void);

/*
 * Guard [base, base + len), page-aligned. *faulted becomes true (relaxed
 * store) at the first fault; it must outlive the registration. Control thread.
 * NULL if out of memory.
 */
struct sigbus_range *sigbus_guard(void *base, size_t len, bool *faulted);

/* Before the range is unmapped. Accepts NULL. Control thread. */
void sigbus_unguard(struct sigbus_range *r);

#endif
