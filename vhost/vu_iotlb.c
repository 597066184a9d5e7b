/*
 * Devices behind a virtual IOMMU: the front-end's updates and invalidations,
 * and asking it for what rings miss. vhost-user, "IOMMU support". Called through
 * the request table, by the back-end channel with replies, and by loops (through
 * the event loop) when a ring stalls. Never waits: neither for the front-end nor
 * for a loop, and a ring that waits for an answer holds up no other.
 *
 * Theory of operation
 *
 * A ring misses one address at a time: one of its areas, and then it is
 * suspended, or one of a chain, and then it stalls (virtq_tlb.h). The miss is
 * wanted until it has been sent, and asked until it is answered: by an update
 * that holds the address, or by a reply that refuses. A good reply means that
 * the update has been sent, or that there is none ("IOMMU support": the front-end
 * "sent nothing if the IOTLB miss message is invalid"). The two come over
 * different sockets, so a good reply that is read before its update waits until
 * the requests that are there have been read; without an update among them it
 * has refused. A front-end that never answers has a ring that never goes on, and
 * nothing else.
 *
 * An invalidation leaves the table at once, so nobody finds it any more, and is
 * acknowledged when each ring has dropped it and no chain in flight uses it. A
 * ring that itself lies there is suspended until its addresses are back.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>

#include "core/log.h"
#include "vhost/virtq_tlb.h"
#include "vhost/vu_internal.h"

/* --- misses ------------------------------------------------------------------------- */

static void want(struct vu_ring *vr, iova_t addr, uint32_t perm)
{
	struct vu_miss *m = &vr->miss;

	if (m->state != VU_MISS_NONE && m->addr.v == addr.v && m->perm == perm)
		return;
	m->state = VU_MISS_WANTED;
	m->replied = false;
	m->addr = addr;
	m->perm = perm;
	m->nr++;
	if (vr->dev->backend.w.fd < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: no channel to ask for I/O address 0x%llx",
			    vr->name, (unsigned long long)addr.v);
	vu_backend_kick(vr->dev);
}

bool vu_iotlb_want_areas(struct vu_ring *vr)
{
	struct vu_area a[VU_AREAS];
	iova_t missing;

	vu_areas_get(vr, a);
	for (unsigned int i = 0; i < VU_AREAS; i++) {
		if (iotlb_knows(vr->dev->iotlb, a[i].addr, a[i].len, a[i].perm, &missing))
			continue;
		want(vr, missing, a[i].perm);
		return true;
	}
	return false;
}

/* Is what the ring misses known now, with the permission it needs? */
static bool is_answered(const struct vu_ring *vr, bool *denied)
{
	struct iotlb_range r;

	*denied = false;
	if (!iotlb_find(vr->dev->iotlb, vr->miss.addr, &r))
		return false;
	*denied = (r.perm & vr->miss.perm) != vr->miss.perm;
	return !*denied;
}

static void retry(struct vu_ring *vr, bool refused)
{
	vr->miss.state = VU_MISS_NONE;
	/* Answers come while a request is in progress, too. What is posted behind a
	 * stop may find no ring; one that moves is seen to by vu_iotlb_moved(). */
	if (!vr->miss.stalled || vr->stopping || vr->state == VU_RING_MOVING)
		return;
	vr->miss.stalled = false;
	virtq_tlb_retry(&vr->vq, refused);
}

/* Stalled, and not asked: the update may have come meanwhile. */
static void want_of_chain(struct vu_ring *vr)
{
	bool denied;

	if (is_answered(vr, &denied))
		retry(vr, false);
	else
		want(vr, vr->miss.addr, vr->miss.perm);
}

/* A ring has stalled: its loop tells. */
void vu_iotlb_ring_missed(struct ev_work *w)
{
	struct virtq_tlb *tlb = container_of(w, struct virtq_tlb, miss_work);
	struct vu_ring *vr = container_of(tlb->vq, struct vu_ring, vq);

	/* The loop tells before it answers a stop. */
	assert(vu_ring_is_on_loop(vr));
	vr->miss.stalled = true;
	vr->miss.state = VU_MISS_NONE;
	vr->miss.addr = tlb->miss_addr;
	vr->miss.perm = tlb->miss_perm;
	want_of_chain(vr);
}

void vu_iotlb_moved(struct vu_ring *vr)
{
	if (vr->miss.stalled && vr->miss.state == VU_MISS_NONE)
		want_of_chain(vr);
}

void vu_iotlb_replied(struct vu_ring *vr, bool refused)
{
	bool denied, answered = is_answered(vr, &denied);

	if (!answered && !refused && !denied) {
		vr->miss.replied = true;
		return;
	}
	if (denied)
		vu_backend_access_failed(vr->dev, vr->miss.addr, vr->miss.perm);
	if (!answered)
		log_limited(LOG_LEVEL_WARNING, "%s: I/O address 0x%llx is not mapped for %s",
			    vr->name, (unsigned long long)vr->miss.addr.v,
			    vr->miss.perm & IOTLB_WRITE ? "writing" : "reading");
	retry(vr, !answered);
}

static bool is_unsettled(const struct vu_ring *vr)
{
	return vr->miss.state == VU_MISS_ASKED && vr->miss.replied;
}

void vu_iotlb_settle(struct vu_dev *dev)
{
	bool at_rest = false;

	for (unsigned int i = 0; i < dev->queues; i++) {
		if (!is_unsettled(&dev->rings[i]))
			continue;
		at_rest = at_rest || vu_conn_is_at_rest(dev);
		if (!at_rest)
			return;
		vu_iotlb_replied(&dev->rings[i], true);
	}
}

void vu_iotlb_forget_miss(struct vu_ring *vr)
{
	vr->miss.state = VU_MISS_NONE;
	vr->miss.stalled = false;
}

/* --- the front-end's messages ---------------------------------------------------------- */

static int done(struct vu_dev *dev)
{
	dev->op.error = 0;
	return VU_DONE;
}

/* Have the rings try again that wait for what came. */
static void wake_waiting(struct vu_dev *dev)
{
	bool has_replies = vu_has_protocol(dev, VHOST_USER_PROTOCOL_F_REPLY_ACK);

	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];
		bool denied;

		if (!vr->miss.stalled)
			continue;
		if (is_answered(vr, &denied))
			retry(vr, false);
		else if (denied && !has_replies)
			vu_iotlb_replied(vr, true);
	}
}

static int update(struct vu_dev *dev, const struct vu_iotlb_msg *m)
{
	void *host = dev->gm ? gmem_uva_ptr(dev->gm, uva(m->uaddr), m->size) : NULL;
	int ret;

	if (!host || !m->perm || m->perm & ~(IOTLB_READ | IOTLB_WRITE)) {
		log_limited(LOG_LEVEL_WARNING,
			    "%s: I/O address 0x%llx + 0x%llx: %s (0x%llx, permissions %u)",
			    dev->name, (unsigned long long)m->iova, (unsigned long long)m->size,
			    host ? "no such permissions" : "not in one memory region",
			    (unsigned long long)m->uaddr, m->perm);
		return -EINVAL;
	}
	ret = iotlb_add(dev->iotlb, iova(m->iova), m->size, host, m->perm);
	if (ret < 0)
		return ret;
	vu_rings_resume(dev);
	wake_waiting(dev);
	return vu_op_wait(dev, done);
}

static int invalidate(struct vu_dev *dev, const struct vu_iotlb_msg *m)
{
	/* The last byte: a range may end where addresses do. */
	uint64_t last;

	if (!m->size || add_overflows(m->iova, m->size - 1, &last)) {
		log_limited(LOG_LEVEL_WARNING, "%s: I/O address 0x%llx + 0x%llx to invalidate",
			    dev->name, (unsigned long long)m->iova, (unsigned long long)m->size);
		return -EINVAL;
	}
	iotlb_del(dev->iotlb, iova(m->iova), m->size);
	for (unsigned int i = 0; i < dev->queues; i++) {
		struct vu_ring *vr = &dev->rings[i];

		if (!vu_ring_is_on_loop(vr))
			continue;
		if (vu_areas_overlap(vr, iova(m->iova), m->size))
			vu_ring_suspend(vr, "its I/O addresses were invalidated");
		else
			vu_op_post_drop(vr, iova(m->iova), m->size);
	}
	return vu_op_wait(dev, done);
}

int vu_iotlb_msg(struct vu_dev *dev, struct vu_msg *msg)
{
	const struct vu_iotlb_msg *m = &msg->payload.iotlb;

	if (!dev->iotlb) {
		log_limited(LOG_LEVEL_WARNING, "%s: an IOTLB message without a virtual IOMMU",
			    dev->name);
		return -EPROTO;
	}
	if (m->type == VHOST_IOTLB_UPDATE)
		return update(dev, m);
	if (m->type == VHOST_IOTLB_INVALIDATE)
		return invalidate(dev, m);
	log_limited(LOG_LEVEL_WARNING, "%s: an IOTLB message of type %u", dev->name, m->type);
	return -EINVAL;
}

/* --- life ---------------------------------------------------------------------------------- */

int vu_iotlb_set_features(struct vu_dev *dev, uint64_t features)
{
	bool wanted = features & BIT64(VIRTIO_F_ACCESS_PLATFORM);

	assert(!dev->nr_running);
	if (wanted && !dev->iotlb)
		return iotlb_create(&dev->iotlb);
	if (!wanted)
		vu_iotlb_forget(dev);
	vu_iotlb_stopped(dev);
	return 0;
}

void vu_iotlb_stopped(struct vu_dev *dev)
{
	if (!dev->iotlb)
		return;
	for (unsigned int i = 0; i < dev->queues; i++)
		if (vu_ring_is_on_loop(&dev->rings[i]) || dev->rings[i].state == VU_RING_SUSPENDED)
			return;
	iotlb_clear(dev->iotlb);
}

void vu_iotlb_region_removed(struct vu_dev *dev, const struct gmem_region *r)
{
	if (dev->iotlb)
		iotlb_del_host(dev->iotlb, r->host, r->size);
}

void vu_iotlb_forget(struct vu_dev *dev)
{
	/* A ring may wait for its own addresses; the answer would be to nothing. */
	for (unsigned int i = 0; i < dev->queues; i++)
		vu_iotlb_forget_miss(&dev->rings[i]);
	iotlb_destroy(dev->iotlb);
	dev->iotlb = NULL;
}

json_t *vu_iotlb_status(const struct vu_dev *dev)
{
	struct iotlb_stats s;
	json_t *obj;

	if (!dev->iotlb)
		return json_null();
	iotlb_get_stats(dev->iotlb, &s);
	obj = json_object();
	json_object_set_new(obj, "entries", json_integer((json_int_t)s.entries));
	json_object_set_new(obj, "updates", json_integer((json_int_t)s.updates));
	json_object_set_new(obj, "invalidations", json_integer((json_int_t)s.invalidations));
	json_object_set_new(obj, "evictions", json_integer((json_int_t)s.evictions));
	return obj;
}
