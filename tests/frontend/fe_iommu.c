/*
 * The front-end's virtual IOMMU: it answers the back-end's misses page by page,
 * as QEMU does, with what fe.iommu_perm() allows. Called by tests and benchmarks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>

#include "tests/frontend/fe.h"

#define PAGE 4096ull

int fe_iotlb(struct fe *fe, uint8_t type, uint64_t iova, uint64_t size, uint64_t uva, uint8_t perm)
{
	const struct fe_iotlb_msg m = {
		.iova = iova,
		.size = size,
		.uva = uva,
		.perm = perm,
		.type = type,
	};

	return fe_request(fe, FE_IOTLB_MSG, &m, sizeof(m), NULL, 0);
}

int fe_iommu_map(struct fe *fe, uint64_t gpa, uint64_t len, uint8_t perm)
{
	return fe_iotlb(fe, FE_IOTLB_UPDATE, gpa + FE_IOVA_BASE, len, fe_uva(fe, gpa), perm);
}

int fe_iommu_unmap(struct fe *fe, uint64_t gpa, uint64_t len)
{
	return fe_iotlb(fe, FE_IOTLB_INVALIDATE, gpa + FE_IOVA_BASE, len, 0, 0);
}

/* 0 if the page is mapped now, else the value that refuses. */
static uint64_t answer(struct fe *fe, const struct fe_iotlb_msg *m)
{
	uint64_t gpa = (m->iova - FE_IOVA_BASE) & ~(PAGE - 1);
	uint32_t perm = 3;

	if (m->iova < FE_IOVA_BASE || !fe_ptr(fe, gpa, PAGE))
		return 1;
	if (fe->iommu_perm)
		perm = fe->iommu_perm(fe->iommu_opaque, gpa);
	if (!perm)
		return 1;
	return fe_iommu_map(fe, gpa, PAGE, (uint8_t)perm) ? 1 : 0;
}

int fe_iommu_answer(struct fe *fe, int timeout_ms)
{
	struct fe_iotlb_msg m;
	struct fe_msg msg;
	uint64_t value;
	int err;

	err = fe_backend_take(fe, &msg, timeout_ms);
	if (err == -ETIMEDOUT)
		return 0;
	if (err)
		return err;
	fe_msg_close_fds(&msg);
	memcpy(&m, msg.payload, sizeof(m));
	if (msg.hdr.request != FE_BACKEND_IOTLB_MSG || msg.hdr.size != sizeof(m) ||
	    m.type != FE_IOTLB_MISS)
		return -EPROTO;
	value = answer(fe, &m);
	fe->nr_misses++;
	if (msg.hdr.flags & FE_FLAG_NEED_REPLY)
		err = fe_backend_reply(fe, &msg, value);
	return err ? err : 1;
}
