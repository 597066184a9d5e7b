/*
 * A made-up kernel for tests of iommu/: VFIO's containers and groups, iommufd
 * and character devices, one PCI device 8086:10ca in group 11, all behind struct
 * iommu_sys. It can refuse what a kernel can refuse, lie as a broken one would,
 * and fail at any call.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_IOMMU_FAKEVFIO_H
#define RINGBOLT_TESTS_IOMMU_FAKEVFIO_H

#include "iommu/iommu_internal.h"
#include "tests/iommu/sysfskit.h"

#define FAKE_VF "0000:01:10.0"
#define FAKE_VF2 "0000:01:10.2"
#define FAKE_GROUP 11
#define FAKE_MAPS 64
#define FAKE_VECTORS 3
/* Of the device's file: region n begins here. */
#define FAKE_REGION(n) ((uint64_t)(n) << 20)
#define FAKE_BAR_LEN 16384u

enum fake_kind {
	FAKE_FREE,
	FAKE_CONTAINER,
	FAKE_GROUP_FD,
	FAKE_IOMMUFD,
	FAKE_DEVICE
};

struct fakevfio {
	struct sysfskit sysfs;

	/* How it behaves; fakevfio_create() makes all of it a healthy kernel. */
	int api_version;
	bool has_type1, has_noiommu, viable;
	bool tells_info; /* capabilities of type1 */
	bool has_process_mode; /* IOMMU_OPTION is allowed */
	bool takes_token; /* BIND knows the flag */
	const char *token; /* NULL: none is wanted */
	unsigned int nr_ranges;
	struct iommu_range range[4];
	uint64_t page_sizes;
	uint64_t entries; /* left */
	uint64_t lockable; /* bytes that may be mapped before -ENOMEM */
	struct iommu_memlock memlock; /* what the process sees */
	bool can_reset, sparse, is_pci;
	uint32_t nr_vectors;
	uint32_t vectors_left; /* of the host */
	/* Answers of a broken kernel, put over the good ones. */
	uint32_t lie_nr_ranges, lie_next, lie_nr_areas, lie_argsz;
	uint64_t lie_area_end;
	bool lie_unmapped; /* UNMAP_DMA did nothing */
	bool config_is_gone; /* configuration reads are all ones */
	bool irq_is_lost;

	/* The nth call from now (1: the next) fails with fail_code; 0: none. Or
	 * every call of fail_request does, once fail_after of them went well. */
	int fail_call, fail_code;
	unsigned long fail_request;
	unsigned int fail_after;
	bool failed; /* the nth call did */
	const char *fail_open; /* opening what ends so fails with fail_code */

	/* What it has. */
	struct {
		enum fake_kind kind;
		int group;
	} fd[1024];
	unsigned int nr_open, nr_mmaps;
	bool other_user; /* somebody else has it */
	bool iommu_set;
	unsigned int nr_groups_in;
	bool has_ioas, attached;
	struct iommu_mapping map[FAKE_MAPS];
	unsigned int nr_maps;
	int vector[IOMMU_IRQ_CNT][FAKE_VECTORS];
	unsigned int nr_wired[IOMMU_IRQ_CNT];
	unsigned int nr_resets;
};

/* With a sysfs that has FAKE_VF and FAKE_VF2 on vfio-pci in one group. One at a
 * time. */
void fakevfio_create(struct fakevfio *f);
/* Asserts that nothing was left open, mapped or wired. */
void fakevfio_destroy(struct fakevfio *f);
/* Options that lead to it. */
struct iommu_opts fakevfio_opts(struct fakevfio *f, enum iommu_backend backend);

#endif
