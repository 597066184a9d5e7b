/*
 * Where the three areas of a ring behind a virtual IOMMU lie: which I/O addresses
 * they take, and which of our memory that is. Called by vu_ring.c before a ring
 * starts and after it has stopped, and by vu_iotlb.c. Never asks the front-end.
 *
 * Theory of operation
 *
 * The driver sees an area as one piece. Linux maps memory for a ring page by
 * page, from wherever its pages are, so what is more than a page (512 descriptors
 * or more) is usually several pieces of guest memory and of ours. The data path
 * wants one pointer. So such an area is mapped once more with its pieces side by
 * side (gmem_join.h) from the start of the ring to its stop.
 *
 * What invalidates a translation of an area, and what removes its memory, stops
 * the ring first. An area that lies in two regions is always joined, even if they
 * happen to be mapped behind each other: it is one piece in one region, or a join
 * that knows its pieces.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>

#include "vhost/gmem_join.h"
#include "vhost/vu_internal.h"

void vu_areas_get(const struct vu_ring *vr, struct vu_area a[VU_AREAS])
{
	bool packed = vu_is_packed(vr->dev);

	/* VIRTIO 1.3, "Split Virtqueues" and "Packed Virtqueues": alignment. */
	a[0] = (struct vu_area){ iova(vr->addr.desc), virtq_desc_len(packed, vr->size), 16,
				 packed ? IOTLB_READ | IOTLB_WRITE : IOTLB_READ };
	a[1] = (struct vu_area){ iova(vr->addr.avail), virtq_driver_len(packed, vr->size),
				 packed ? 4 : 2, IOTLB_READ };
	a[2] = (struct vu_area){ iova(vr->addr.used), virtq_device_len(packed, vr->size), 4,
				 IOTLB_WRITE };
}

bool vu_areas_overlap(const struct vu_ring *vr, iova_t addr, uint64_t len)
{
	struct vu_area a[VU_AREAS];

	vu_areas_get(vr, a);
	for (unsigned int i = 0; i < VU_AREAS; i++)
		if (a[i].addr.v - addr.v < len || addr.v - a[i].addr.v < a[i].len)
			return true;
	return false;
}

/* The pieces of an area that is known: how many, -E2BIG, or -ENOENT if a region
 * has gone without its translations. */
static int find_pieces(const struct vu_dev *dev, const struct vu_area *a,
		       struct gmem_piece piece[GMEM_JOIN_PIECES_MAX])
{
	uint64_t at = a->addr.v, end = at + a->len, n;
	struct gmem_piece *last = NULL;
	struct iotlb_range r;
	unsigned int nr = 0;

	for (; at < end; at += n) {
		const struct gmem_region *region;
		uint8_t *host;

		if (!iotlb_find(dev->iotlb, iova(at), &r))
			return -ENOENT;
		host = r.host + (at - r.start);
		region = gmem_region_of(dev->gm, host);
		if (!region)
			return -ENOENT;
		n = min_u64(r.end, end) - at;
		n = min_u64(n, (uint64_t)(region->host + region->size - host));
		if (last && last->region == region && last->host + last->len == host) {
			last->len += n;
			continue;
		}
		if (nr == GMEM_JOIN_PIECES_MAX)
			return -E2BIG;
		last = &piece[nr++];
		*last = (struct gmem_piece){ region, host, n };
	}
	return (int)nr;
}

static int place(struct vu_ring *vr, const struct vu_area *a, struct vu_place *to)
{
	struct gmem_piece piece[GMEM_JOIN_PIECES_MAX];
	int ret = find_pieces(vr->dev, a, piece);

	if (ret < 0)
		return ret;
	/* No area is empty. */
	assert(ret > 0);
	to->ptr = piece[0].host;
	/* The pointer too: a region may be mapped at an odd offset. */
	if (a->addr.v % a->align || (uintptr_t)to->ptr % a->align)
		return -EINVAL;
	if (ret == 1)
		return 0;
	ret = gmem_join_create(piece, (unsigned int)ret, &vr->dev->faulted, &to->join);
	if (!ret)
		to->ptr = gmem_join_ptr(to->join);
	return ret;
}

/* For people. */
static const char *reason(int err)
{
	switch (err) {
	case -EINVAL:
		return "an area is not aligned";
	case -E2BIG:
		return "an area is in more pieces than can be put together";
	case -EXDEV:
		return "an area is in pieces that are not whole pages";
	case -EOPNOTSUPP:
		return "an area is in pieces of huge pages, which cannot be put together";
	default:
		return "the pieces of an area cannot be put together";
	}
}

int vu_areas_place(struct vu_ring *vr, const char **why)
{
	struct vu_area a[VU_AREAS];

	vu_areas_get(vr, a);
	for (unsigned int i = 0; i < VU_AREAS; i++) {
		int ret = place(vr, &a[i], &vr->areas[i]);

		if (!ret)
			continue;
		vu_areas_forget(vr);
		*why = reason(ret);
		return ret;
	}
	return 0;
}

void vu_areas_forget(struct vu_ring *vr)
{
	for (unsigned int i = 0; i < VU_AREAS; i++) {
		gmem_join_destroy(vr->areas[i].join);
		vr->areas[i] = (struct vu_place){ 0 };
	}
}

bool vu_areas_are_in(const struct vu_ring *vr, const struct gmem *gm)
{
	for (unsigned int i = 0; i < VU_AREAS; i++) {
		const struct vu_place *p = &vr->areas[i];

		if (p->join ? !gmem_join_is_in(p->join, gm) : !gmem_region_of(gm, p->ptr))
			return false;
	}
	return true;
}
