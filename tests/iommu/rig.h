/*
 * A space with one open device of the made-up kernel, by either interface: what
 * most tests of iommu/ begin with.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_IOMMU_RIG_H
#define RINGBOLT_TESTS_IOMMU_RIG_H

#include "tests/core/test.h"
#include "tests/iommu/fakevfio.h"

#define PAGE 4096ull

struct rig {
	struct fakevfio f;
	enum iommu_backend backend;
	struct iommu_space *space;
	struct iommu_dev *dev;
	char err[IOMMU_ERR_LEN];
};

/* Without a device yet: rig_open() opens FAKE_VF. */
void rig_create(struct rig *r, enum iommu_backend backend);
void rig_open(struct rig *r);
/* Closes and destroys what is open. */
void rig_destroy(struct rig *r);

/* A mapping of memory that nobody looks at. */
struct iommu_mapping rig_piece(uint64_t at, uint64_t len);

/* A test that runs for each interface: cmocka's state is the interface. */
extern enum iommu_backend rig_type1, rig_iommufd;
#define FOR_BOTH(test)                                                                             \
	cmocka_unit_test_prestate(test, &rig_type1), cmocka_unit_test_prestate(test, &rig_iommufd)
#define BACKEND(state) (*(enum iommu_backend *)*(state))

#endif
