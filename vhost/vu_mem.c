/*
 * The requests about guest memory and about the dirty log. Called through the
 * request table (vu_request.c). Never changes a snapshot of memory in place,
 * and never unmaps what a ring, a request in flight or the device may still
 * use.
 *
 * Theory of operation
 *
 * Every change builds the complete new list of regions and one snapshot of it,
 * tells the device of what is new, and has the running rings switch. When all
 * have answered, no I/O of theirs uses the old snapshot any more; then the
 * device is told of what has gone, and only that is unmapped. A region that is
 * in both lists keeps its mapping, and a table that changes nothing disturbs
 * nobody.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/fd.h"
#include "core/log.h"
#include "vhost/vu_internal.h"

/* --- lists of regions --------------------------------------------------------- */

static bool is_listed(const struct vu_region *list, unsigned int nr, const struct gmem_region *r)
{
	for (unsigned int i = 0; i < nr; i++)
		if (list[i].r == r)
			return true;
	return false;
}

static void put_list(struct vu_region *list, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		gmem_region_put(list[i].r);
	free(list);
}

static void removed(struct vu_dev *dev, struct gmem_region *r)
{
	log_debug("%s: memory 0x%llx + 0x%llx removed", dev->name, (unsigned long long)r->gpa,
		  (unsigned long long)r->size);
	if (dev->ops->mem_removed)
		dev->ops->mem_removed(dev, r);
}

static void added(struct vu_dev *dev, struct gmem_region *r)
{
	log_debug("%s: memory 0x%llx + 0x%llx added", dev->name, (unsigned long long)r->gpa,
		  (unsigned long long)r->size);
	if (dev->ops->mem_added)
		dev->ops->mem_added(dev, r);
}

static struct gmem *snapshot(struct vu_dev *dev, const struct vu_region *list, unsigned int nr,
			     int *err)
{
	struct gmem_region *regions[GMEM_REGIONS_MAX];
	struct gmem *gm = NULL;

	for (unsigned int i = 0; i < nr; i++)
		regions[i] = list[i].r;
	*err = gmem_create(regions, nr, &dev->faulted, &gm);
	if (*err < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: %u memory regions: %s", dev->name, nr,
			    *err == -EINVAL ? "they overlap" : strerror(-*err));
	return gm;
}

static int rings_resumed(struct vu_dev *dev)
{
	return dev->op.error ? VU_FAILED : VU_DONE;
}

/* No ring uses the old snapshot any more. */
static int memory_switched(struct vu_dev *dev)
{
	struct vu_region *old = dev->op.old_regions;
	unsigned int nr = dev->op.nr_old_regions;

	dev->op.old_regions = NULL;
	dev->op.nr_old_regions = 0;
	for (unsigned int i = 0; i < nr; i++)
		if (!is_listed(dev->regions, dev->nr_regions, old[i].r))
			removed(dev, old[i].r);
	put_list(old, nr);
	vu_rings_resume(dev);
	return vu_op_wait(dev, rings_resumed);
}

/* Make list the device's memory. Takes list and its references. */
static int switch_memory(struct vu_dev *dev, struct vu_region *list, unsigned int nr)
{
	struct gmem *gm;
	int err;

	gm = snapshot(dev, list, nr, &err);
	if (!gm) {
		put_list(list, nr);
		return err;
	}
	/* The device knows a region before any ring can show a pointer into it. */
	for (unsigned int i = 0; i < nr; i++)
		if (!is_listed(dev->regions, dev->nr_regions, list[i].r))
			added(dev, list[i].r);
	dev->op.old_gm = dev->gm;
	dev->op.old_regions = dev->regions;
	dev->op.nr_old_regions = dev->nr_regions;
	dev->gm = gm;
	dev->regions = list;
	dev->nr_regions = nr;
	for (unsigned int i = 0; i < dev->op.nr_old_regions; i++)
		if (!is_listed(list, nr, dev->op.old_regions[i].r))
			vu_iotlb_region_removed(dev, dev->op.old_regions[i].r);
	vu_rings_switch_memory(dev);
	return vu_op_wait(dev, memory_switched);
}

/* --- one region from the wire ---------------------------------------------------- */

/* The region that is mapped already, or NULL. One that was truncated has lost
 * its contents here, and is mapped anew. */
static struct gmem_region *known_region(const struct vu_dev *dev, const struct vu_mem_region *m,
					const struct stat *st)
{
	if (dev->faulted)
		return NULL;
	for (unsigned int i = 0; i < dev->nr_regions; i++) {
		const struct vu_region *vr = &dev->regions[i];

		if (vr->dev == st->st_dev && vr->ino == st->st_ino && vr->r->gpa == m->gpa &&
		    vr->r->uva == m->uva && vr->r->size == m->size &&
		    vr->r->mmap_offset == m->mmap_offset)
			return vr->r;
	}
	return NULL;
}

/* Fill *out with a reference to m's mapping. Takes fd. */
static int map_region(struct vu_dev *dev, const struct vu_mem_region *m, int fd,
		      struct vu_region *out)
{
	struct gmem_region *known;
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0) {
		err = -errno;
		fd_replace(&fd, -1);
		return err;
	}
	out->dev = st.st_dev;
	out->ino = st.st_ino;
	known = known_region(dev, m, &st);
	if (known) {
		fd_replace(&fd, -1);
		out->r = gmem_region_get(known);
		return 0;
	}
	err = gmem_region_map(fd, gpa(m->gpa), uva(m->uva), m->size, m->mmap_offset, &dev->faulted,
			      &out->r);
	if (err < 0)
		log_limited(LOG_LEVEL_WARNING,
			    "%s: memory region 0x%llx + 0x%llx at offset 0x%llx of its file: %s",
			    dev->name, (unsigned long long)m->gpa, (unsigned long long)m->size,
			    (unsigned long long)m->mmap_offset, strerror(-err));
	return err;
}

/* --- requests ----------------------------------------------------------------- */

int vu_set_mem_table(struct vu_dev *dev, struct vu_msg *msg)
{
	const struct vu_mem_table *table = &msg->payload.mem;
	unsigned int nr = table->nr, nr_known = 0;
	struct vu_region *list;
	int err;

	/* The table may be longer than what is used of it: Linux's virtio_uml
	 * sends room for two regions whether it has two or not. */
	if (nr > VHOST_USER_MEM_TABLE_MAX ||
	    msg->hdr.size < offsetof(struct vu_mem_table, region[nr]) || msg->nr_fds != nr) {
		log_limited(LOG_LEVEL_WARNING,
			    "%s: memory table of %u regions in %u bytes with %u descriptors",
			    dev->name, nr, msg->hdr.size, msg->nr_fds);
		return -EPROTO;
	}
	list = calloc(VHOST_USER_MEM_TABLE_MAX, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr; i++) {
		err = map_region(dev, &table->region[i], vu_msg_take_fd(msg, i), &list[i]);
		if (err < 0) {
			put_list(list, i);
			return err;
		}
		/* One that is listed twice is an overlap, for gmem_create() to find. */
		nr_known += is_listed(dev->regions, dev->nr_regions, list[i].r) &&
			    !is_listed(list, i, list[i].r);
	}
	if (dev->gm && nr_known == nr && nr == dev->nr_regions) {
		put_list(list, nr);
		return VU_DONE;
	}
	return switch_memory(dev, list, nr);
}

static struct vu_region *find(struct vu_dev *dev, const struct gmem_region *r)
{
	for (unsigned int i = 0; i < dev->nr_regions; i++)
		if (dev->regions[i].r == r)
			return &dev->regions[i];
	return NULL;
}

/*
 * QEMU before 8.0 adds and removes each region once for every queue pair of a
 * device. The same one again is counted, and it goes when it was removed as
 * often.
 */
int vu_add_mem_reg(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_region *list, *same;
	int err;

	list = calloc(dev->nr_regions + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	err = map_region(dev, &msg->payload.single.region, vu_msg_take_fd(msg, 0),
			 &list[dev->nr_regions]);
	if (err < 0) {
		free(list);
		return err;
	}
	same = find(dev, list[dev->nr_regions].r);
	if (same) {
		same->again++;
		gmem_region_put(same->r);
		free(list);
		return VU_DONE;
	}
	if (dev->nr_regions == GMEM_REGIONS_MAX) {
		log_limited(LOG_LEVEL_WARNING, "%s: more than %u memory regions", dev->name,
			    GMEM_REGIONS_MAX);
		gmem_region_put(list[dev->nr_regions].r);
		free(list);
		return -ENOSPC;
	}
	for (unsigned int i = 0; i < dev->nr_regions; i++) {
		list[i] = dev->regions[i];
		gmem_region_get(list[i].r);
	}
	return switch_memory(dev, list, dev->nr_regions + 1);
}

int vu_rem_mem_reg(struct vu_dev *dev, struct vu_msg *msg)
{
	/* "The memory region to be removed is identified by its guest address,
	 * user address and size." A descriptor that comes along is closed. */
	const struct vu_mem_region *m = &msg->payload.single.region;
	struct vu_region *list;
	unsigned int nr = 0;

	list = calloc(dev->nr_regions + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (unsigned int i = 0; i < dev->nr_regions; i++) {
		struct gmem_region *r = dev->regions[i].r;

		if (r->gpa == m->gpa && r->uva == m->uva && r->size == m->size) {
			if (!dev->regions[i].again)
				continue;
			dev->regions[i].again--;
			put_list(list, nr);
			return VU_DONE;
		}
		list[nr++] = dev->regions[i];
		gmem_region_get(r);
	}
	if (nr == dev->nr_regions) {
		log_limited(LOG_LEVEL_WARNING, "%s: no memory region 0x%llx + 0x%llx to remove",
			    dev->name, (unsigned long long)m->gpa, (unsigned long long)m->size);
		put_list(list, nr);
		return -ENOENT;
	}
	return switch_memory(dev, list, nr);
}

int vu_get_max_mem_slots(struct vu_dev *dev, struct vu_msg *msg)
{
	msg->payload.u64 = GMEM_REGIONS_MAX;
	msg->hdr.size = sizeof(msg->payload.u64);
	return VU_REPLY;
}

/* --- dirty log ------------------------------------------------------------------ */

/*
 * "Communication" lists SET_LOG_BASE among the requests that are replied to,
 * without saying what with. QEMU looks at the header only, others expect the
 * u64 of an acknowledgement.
 */
static int log_switched(struct vu_dev *dev)
{
	struct vu_msg *msg = &dev->chan.rx;

	msg->payload.u64 = 0;
	msg->hdr.size = sizeof(msg->payload.u64);
	return VU_REPLY;
}

int vu_set_log_base(struct vu_dev *dev, struct vu_msg *msg)
{
	const struct vu_log *l = &msg->payload.log;
	struct dirty_log *log;
	int err;

	err = dirty_log_create(vu_msg_take_fd(msg, 0), l->size, l->offset, &log);
	if (err < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: dirty log of 0x%llx bytes at offset 0x%llx: %s",
			    dev->name, (unsigned long long)l->size, (unsigned long long)l->offset,
			    strerror(-err));
		return err;
	}
	dev->op.old_log = dev->log;
	dev->log = log;
	vu_rings_sync(dev);
	return vu_op_wait(dev, log_switched);
}

/* An optional descriptor to signal when the log was written to, which we do
 * not: the front-end reads the log at its own pace. The message is checked and
 * its descriptor closed. */
int vu_set_log_fd(struct vu_dev *dev, struct vu_msg *msg)
{
	return VU_DONE;
}

void vu_mem_forget(struct vu_dev *dev)
{
	struct vu_region *list = dev->regions;
	unsigned int nr = dev->nr_regions;

	gmem_destroy(dev->gm);
	dev->gm = NULL;
	dev->regions = NULL;
	dev->nr_regions = 0;
	for (unsigned int i = 0; i < nr; i++)
		removed(dev, list[i].r);
	put_list(list, nr);
	dirty_log_destroy(dev->log);
	dev->log = NULL;
}
