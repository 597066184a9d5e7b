/*
 * I/O virtual addresses: what a device behind an IOMMU puts on its bus. A type
 * of their own, so that they cannot be mixed with guest-physical addresses or
 * with pointers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_IOMMU_IOVA_H
#define RINGBOLT_IOMMU_IOVA_H

#include <stdint.h>

typedef struct {
	uint64_t v;
} iova_t;

static inline iova_t iova(uint64_t v)
{
	return (iova_t){ v };
}

#endif
