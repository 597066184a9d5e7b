/*
 * The beginning and the end of most tests of iommu/.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

enum iommu_backend rig_type1 = IOMMU_BACKEND_TYPE1, rig_iommufd = IOMMU_BACKEND_IOMMUFD;

void rig_create(struct rig *r, enum iommu_backend backend)
{
	struct iommu_opts opts;

	fakevfio_create(&r->f);
	opts = fakevfio_opts(&r->f, backend);
	r->backend = backend;
	r->dev = NULL;
	r->err[0] = '\0';
	assert_int_equal(iommu_space_create(&opts, &r->space), 0);
}

void rig_open(struct rig *r)
{
	if (iommu_dev_open(r->space, FAKE_VF, NULL, &r->dev, r->err) < 0)
		fail_msg("%s", r->err);
}

void rig_destroy(struct rig *r)
{
	iommu_dev_close(r->dev);
	iommu_space_destroy(r->space);
	fakevfio_destroy(&r->f);
}

struct iommu_mapping rig_piece(uint64_t at, uint64_t len)
{
	return (struct iommu_mapping){ .iova = iova(at),
				       .addr = (void *)(uintptr_t)(0x7f0000000000 + at),
				       .len = len,
				       .prot = IOMMU_READ | IOMMU_WRITE };
}
