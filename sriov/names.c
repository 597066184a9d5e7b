/*
 * Names of vendors and devices from pci.ids, by libpci. For the inventory. Scans
 * no bus: functions come from sysfs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <pci/pci.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sriov/internal.h"
#include "sriov/inventory.h"

/* libpci's own answer to an error is to end the process. A look-up has none that
 * would be worth that, but the pointer must not be NULL. */
static void on_error(char *msg, ...) __attribute__((noreturn, format(printf, 1, 2)));
static void say_nothing(char *msg, ...) __attribute__((format(printf, 1, 2)));

static void on_error(char *msg, ...)
{
	va_list ap;

	va_start(ap, msg);
	vfprintf(stderr, msg, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void say_nothing(char *msg, ...)
{
}

void sriov_func_names(struct sriov *s, struct sriov_func *f)
{
	if (!s->names) {
		s->names = pci_alloc();
		s->names->error = on_error;
		s->names->warning = say_nothing;
		s->names->debug = say_nothing;
		s->names->id_lookup_mode = 0;
	}
	/* The table of the system only: no look-up in the network, no cache file. */
	pci_lookup_name(s->names, f->vendor_name, sizeof(f->vendor_name), PCI_LOOKUP_VENDOR,
			f->vendor);
	pci_lookup_name(s->names, f->device_name, sizeof(f->device_name), PCI_LOOKUP_DEVICE,
			f->vendor, f->device);
}
