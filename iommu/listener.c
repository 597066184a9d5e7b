/*
 * Memory that comes and goes, kept mapped for devices while it is there: what a
 * program has between a guest's memory regions and a space. Called by apps,
 * which know both sides. Knows nothing of guests, and never decides when a
 * device is quiet.
 *
 * Theory of operation
 *
 * A region is mapped when it comes. When it goes, three things happen in this
 * order and no other: the caller's fence stops the devices' accesses to it, it
 * is unmapped, and only then removed() lets go of the memory. Unmapping first
 * would make a device's access an IOMMU fault; letting go first would let it
 * write into memory that belongs to somebody else. A fence may take its time:
 * a region then stays, mapped, marked as fencing, until iommu_listener_fenced().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "iommu/iommu_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct kept {
	struct iommu_memory memory;
	bool fencing;
	struct kept *next;
};

struct iommu_listener {
	struct iommu_space *space;
	const struct iommu_listener_ops *ops;
	void *opaque;
	struct kept *list;
	unsigned int nr;
};

int iommu_listener_create(struct iommu_space *space, const struct iommu_listener_ops *ops,
			  void *opaque, struct iommu_listener **listener)
{
	struct iommu_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->space = space;
	l->ops = ops;
	l->opaque = opaque;
	*listener = l;
	return 0;
}

static struct kept **find(struct iommu_listener *l, iova_t iova)
{
	struct kept **link = &l->list;

	while (*link && (*link)->memory.map.iova.v != iova.v)
		link = &(*link)->next;
	return link;
}

/* Unmap and forget; the devices are quiet. */
static int drop(struct iommu_listener *l, struct kept **link, char *err)
{
	struct kept *k = *link;
	int ret;

	ret = iommu_unmap(l->space, k->memory.map.iova, k->memory.map.len, err);
	/* The space's last device took all mappings with it. */
	if (ret == -ENOENT)
		ret = 0;
	if (ret < 0)
		return ret;
	*link = k->next;
	l->nr--;
	if (l->ops->removed)
		l->ops->removed(l->opaque, &k->memory);
	free(k);
	return 0;
}

void iommu_listener_destroy(struct iommu_listener *listener)
{
	if (!listener)
		return;
	while (listener->list) {
		struct kept *k = listener->list;

		if (drop(listener, &listener->list, NULL) == 0)
			continue;
		/* The kernel still has it mapped: its memory must not be given to
		 * anybody else, so removed() is not called. */
		listener->list = k->next;
		free(k);
	}
	free(listener);
}

int iommu_listener_add(struct iommu_listener *listener, const struct iommu_mapping *m, void *cookie,
		       char *err)
{
	struct kept *k;
	int ret;

	k = calloc(1, sizeof(*k));
	if (!k)
		return iommu_fail(err, -ENOMEM, "out of memory");
	ret = iommu_map(listener->space, m, err);
	if (ret < 0) {
		free(k);
		return ret;
	}
	k->memory = (struct iommu_memory){ .map = *m, .cookie = cookie };
	k->next = listener->list;
	listener->list = k;
	listener->nr++;
	return 0;
}

int iommu_listener_remove(struct iommu_listener *listener, iova_t iova, char *err)
{
	struct kept **link = find(listener, iova), *k = *link;
	int ret = 0;

	if (!k)
		return iommu_fail(err, -ENOENT, "no memory is mapped at 0x%" PRIx64, iova.v);
	if (k->fencing)
		return -EINPROGRESS;
	if (listener->ops->fence)
		ret = listener->ops->fence(listener->opaque, &k->memory);
	if (ret == -EINPROGRESS) {
		k->fencing = true;
		return ret;
	}
	if (ret < 0)
		return iommu_fail(err, ret, "the devices do not let go of the memory at 0x%" PRIx64,
				  iova.v);
	/* The fence may have changed the list. */
	link = find(listener, iova);
	return *link ? drop(listener, link, err) : 0;
}

void iommu_listener_fenced(struct iommu_listener *listener, iova_t iova)
{
	struct kept **link = find(listener, iova);

	if (*link && (*link)->fencing) {
		(*link)->fencing = false;
		drop(listener, link, NULL);
	}
}

unsigned int iommu_listener_nr(const struct iommu_listener *listener)
{
	return listener->nr;
}
