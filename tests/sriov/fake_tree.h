/*
 * Between the files of the machine of fake.h: its tree of files. Paths are below
 * root; buffers for paths have PATH_MAX.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_SRIOV_FAKE_TREE_H
#define RINGBOLT_TESTS_SRIOV_FAKE_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/sriov/fake.h"

#define DEVICES "/sys/devices/pci0000:00"

struct tree_function {
	const char *addr, *vendor, *device, *class_code, *node, *driver, *netdev;
	unsigned int total, offset, stride;
	int group;
};

void tree_path(const char *root, const char *path, char *full);
void tree_make_parents(char *full);
void tree_put(const char *root, const char *path, const char *text);
void tree_link(const char *root, const char *path, const char *target);
bool tree_has(const char *root, const char *path);
void tree_get(const char *root, const char *path, char *text, size_t len);
void tree_drop(const char *root, const char *path);
void tree_say(char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tree_attr(const char *root, const char *addr, const char *file, const char *text);
void tree_number(const char *root, const char *addr, const char *file, unsigned int v);
void tree_netdev(const char *root, const char *addr, const char *netdev, const char *mac);
void tree_driver(const char *root, const char *name);
void tree_set_driver(const char *root, const char *addr, const char *driver);
void tree_function(const char *root, const struct tree_function *fn);
void tree_vf_addr(const char *root, const char *pf, unsigned int i, char *addr);
void tree_pf_netdev(const char *root, const char *pf, char *netdev);
void tree_driver_of(const char *root, const char *addr, char *driver);

void tree_make_msix(const char *root, const char *addr); /* a table of three */
/* Entries of its MSI-X table, 0 for as many as it likes; nothing without one. */
void tree_set_msix(const char *root, const char *addr, unsigned int entries);
unsigned int tree_msix(const char *root, const char *addr); /* 0 without a table */

/* How the kernel of this machine remembers a VF. */
struct sriov_conf kernel_load_conf(const char *root, const char *netdev, unsigned int vf);

#endif
