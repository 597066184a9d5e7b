/*
 * What split and packed virtqueues have in common: set-up, building a chain
 * from checked buffers, pushing in order, flushing, notifying, breaking. The
 * ring formats are in virtq_split.c and virtq_packed.c. Called by devices from
 * their vq_poll() and by loop.c; never waits, and allocates only in
 * virtq_init().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "core/cpu.h"
#include "core/log.h"
#include "vhost/dirty.h"
#include "vhost/gmem_join.h"
#include "vhost/notify.h"
#include "vhost/virtq_internal.h"

#define LOCK_SPINS 1024

static const char *const state_names[] = { "stopped", "started", "draining" };
static_assert(ARRAY_SIZE(state_names) == VIRTQ_STATE_CNT, "a name for every state");

uint64_t virtq_desc_len(bool packed, uint32_t size)
{
	static_assert(sizeof(struct virtq_desc) == sizeof(struct pvirtq_desc), "same size");
	return (uint64_t)size * sizeof(struct virtq_desc);
}

uint64_t virtq_driver_len(bool packed, uint32_t size)
{
	if (packed)
		return sizeof(struct pvirtq_event_suppress);
	/* used_event too: drivers lay it out whether they use it or not. */
	return sizeof(struct virtq_avail) + (uint64_t)size * 2 + 2;
}

uint64_t virtq_device_len(bool packed, uint32_t size)
{
	if (packed)
		return sizeof(struct pvirtq_event_suppress);
	return sizeof(struct virtq_used) + (uint64_t)size * sizeof(struct virtq_used_elem) + 2;
}

int virtq_size_check(bool packed, uint32_t size)
{
	if (!size || size > (packed ? VIRTQ_PACKED_SIZE_MAX : VIRTQ_SPLIT_SIZE_MAX))
		return -EINVAL;
	/* VIRTIO 1.3, "Split Virtqueues": always a power of 2. */
	if (!packed && !is_power_of_two(size))
		return -EINVAL;
	return 0;
}

/*
 * Nothing in it was ever used: no descriptor has its USED bit set. In a ring
 * that is back at position 0 with a wrap counter of 0, whoever used descriptors
 * in the round before set that bit in them. The first descriptor alone does not
 * tell: it may have been the middle of a chain, which only the driver writes.
 */
static bool packed_is_new(const struct virtq *vq)
{
	const struct pvirtq_desc *ring = vq->conf.desc;

	for (uint32_t i = 0; i < vq->conf.size; i++)
		if (le16_to_cpu((le16){ read_once(&ring[i].flags.wire) }) & VIRTQ_DESC_F_USED)
			return false;
	return true;
}

/*
 * Positions of a packed ring from VHOST_USER_SET_VRING_BASE. A front-end that
 * knows only split rings (Linux's virtio_uml) sends 0 for a new ring, which
 * would mean wrap counters of 0.
 */
static void packed_set_base(struct virtq *vq, uint32_t base)
{
	bool new_ring = !base && packed_is_new(vq);
	uint16_t avail = (uint16_t)base, used = (uint16_t)(base >> 16);

	/* The virtio-user driver sends only the half for available, as the back-end
	 * of the same project does. No back-end hands a ring on with chains in
	 * flight: both are the same. */
	if (!used)
		used = avail;

	vq->avail_idx = avail & 0x7fff;
	vq->used_idx = used & 0x7fff;
	vq->avail_wrap = avail >> 15 || new_ring;
	vq->used_wrap = used >> 15 || new_ring;
	vq->avail_seen = vq->avail_idx;
}

/*
 * Position of a split ring. With nothing in flight VHOST_USER_SET_VRING_BASE says
 * what the used index in memory says. It says less when a back-end was killed
 * and the virtio-user driver meets the next one (it always sends 0), and more when
 * chains were lost with the old one: the used index is what the driver goes by.
 */
static void split_set_base(struct virtq *vq)
{
	const struct virtq_used *used = vq->conf.device;

	vq->mask = (uint16_t)(vq->conf.size - 1);
	vq->used_idx = le16_to_cpu((le16){ read_once(&used->idx.wire) });
	vq->avail_idx = vq->used_idx;
	vq->avail_seen = vq->avail_idx;
}

static size_t order_len(uint32_t size)
{
	size_t len = 1;

	while (len < size)
		len *= 2;
	return len;
}

int virtq_init(struct virtq *vq, const struct virtq_conf *conf, int node)
{
	bool packed = conf->features & 1ull << VIRTIO_F_RING_PACKED;

	if (virtq_size_check(packed, conf->size) < 0)
		return -EINVAL;
	if (packed &&
	    ((conf->base & 0x7fff) >= conf->size || (conf->base >> 16 & 0x7fff) >= conf->size))
		return -EINVAL;
	assert(vq->state == VIRTQ_STOPPED && !vq->slot);
	vq->slot = numa_zalloc(conf->size * sizeof(*vq->slot), node);
	vq->iov = numa_zalloc(VIRTQ_BURST_IOV * sizeof(*vq->iov), node);
	vq->order = numa_zalloc(order_len(conf->size) * sizeof(*vq->order), node);
	vq->conf = *conf;
	if (!vq->slot || !vq->iov || !vq->order) {
		virtq_fini(vq);
		return -ENOMEM;
	}
	vq->packed = packed;
	vq->event_idx = conf->features & 1ull << VIRTIO_F_RING_EVENT_IDX;
	vq->in_order = conf->features & 1ull << VIRTIO_F_IN_ORDER;
	vq->order_mask = (uint16_t)(order_len(conf->size) - 1);
	vq->order_head = 0;
	vq->order_tail = 0;
	vq->used_pending = 0;
	vq->hint = 0;
	vq->epoch = 0;
	vq->inflight[0] = 0;
	vq->inflight[1] = 0;
	vq->broken = false;
	vq->notify_armed = false;
	if (packed)
		packed_set_base(vq, conf->base);
	else
		split_set_base(vq);
	if (virtq_track_create(vq, node) < 0) {
		virtq_fini(vq);
		return -ENOMEM;
	}
	return 0;
}

void virtq_fini(struct virtq *vq)
{
	assert(vq->state == VIRTQ_STOPPED);
	virtq_tlb_destroy(vq);
	virtq_track_destroy(vq);
	numa_zfree(vq->slot, vq->conf.size * sizeof(*vq->slot));
	numa_zfree(vq->iov, VIRTQ_BURST_IOV * sizeof(*vq->iov));
	numa_zfree(vq->order, order_len(vq->conf.size) * sizeof(*vq->order));
	vq->slot = NULL;
	vq->iov = NULL;
	vq->order = NULL;
}

uint32_t virtq_base(const struct virtq *vq)
{
	if (!vq->packed)
		return vq->avail_idx;
	return (uint32_t)(vq->avail_idx | vq->avail_wrap << 15) |
	       (uint32_t)(vq->used_idx | vq->used_wrap << 15) << 16;
}

void virtq_set_state(struct virtq *vq, enum virtq_state state)
{
	switch (state) {
	case VIRTQ_STARTED:
		assert(vq->state == VIRTQ_STOPPED);
		break;
	case VIRTQ_DRAINING:
		assert(vq->state == VIRTQ_STARTED);
		break;
	case VIRTQ_STOPPED:
		assert(vq->state == VIRTQ_DRAINING && !virtq_inflight(vq));
		break;
	case VIRTQ_STATE_CNT:
		assert(false);
	}
	log_debug("%s: %s -> %s", vq->name, state_names[vq->state], state_names[state]);
	vq->state = state;
	/* Nothing read ahead is popped in another state. */
	vq->avail_seen = vq->avail_idx;
}

/*
 * Write to a descriptor of the front-end. What it had set not to block, and then
 * to block after all, is an attack on all who share this thread: that is the
 * last write for any ring of the device.
 */
static int signal_front_end(struct virtq *vq, int fd)
{
	int ret;

	if (vq->conf.blocked && read_once(vq->conf.blocked))
		return 0;
	ret = notify_write(fd);
	if (unlikely(ret == -EINTR) && vq->conf.blocked)
		write_once(vq->conf.blocked, true);
	return ret;
}

void virtq_break(struct virtq *vq, const char *why)
{
	int ret;

	if (vq->broken)
		return;
	write_once(&vq->broken, true);
	vq->avail_seen = vq->avail_idx;
	log_limited(LOG_LEVEL_ERROR, "%s: ring broken: %s", vq->name, why);
	ret = vq->conf.err_fd < 0 ? 0 : signal_front_end(vq, vq->conf.err_fd);
	if (ret < 0)
		log_limited(LOG_LEVEL_WARNING, "%s: cannot signal the error descriptor: %s",
			    vq->name, strerror(-ret));
}

bool virtq_may_pop(struct virtq *vq)
{
	if (vq->broken || vq->state != VIRTQ_STARTED || !vq->conf.enabled)
		return false;
	if (unlikely(vq->tlb) && vq->tlb->stalled)
		return false;
	if (unlikely(read_once(vq->conf.gm->faulted))) {
		virtq_break(vq, "the front-end truncated the file of its memory");
		return false;
	}
	return true;
}

bool virtq_again_is_due(const struct virtq *vq)
{
	return vq->again_left && vq->conf.enabled && !vq->broken &&
	       !(vq->tlb && vq->tlb->stalled) && !read_once(vq->conf.gm->faulted);
}

/* --- building a chain --------------------------------------------------- */

void virtq_chain_begin(struct virtq *vq, struct virtq_chain *c)
{
	c->iov = vq->iov;
	c->out_cnt = 0;
	c->in_cnt = 0;
	c->error = 0;
	c->out_len = 0;
	c->in_len = 0;
	if (unlikely(vq->tlb))
		virtq_tlb_begin(vq);
}

void virtq_chain_bad(struct virtq *vq, struct virtq_chain *c, const char *why)
{
	if (c->error)
		return;
	c->error = -EINVAL;
	counter_add(&vq->stats.bad_chains, 1);
	log_limited(LOG_LEVEL_WARNING, "%s: malformed descriptor chain: %s", vq->name, why);
}

void virtq_chain_bad_end(struct virtq *vq, struct virtq_chain *c, const char *why)
{
	virtq_chain_bad(vq, c, why);
	/* The device reports errors in the last writable byte. */
	c->in_cnt = 0;
	c->in_len = 0;
}

/* addr is nowhere: not yet, if a virtual IOMMU may say so later. */
static void chain_missing(struct virtq *vq, struct virtq_chain *c, uint64_t addr, bool writable)
{
	static const char why[] = "an address outside of guest memory";

	if (vq->tlb && virtq_tlb_miss(vq, addr, writable ? IOTLB_WRITE : IOTLB_READ))
		c->error = VIRTQ_CHAIN_STALLED;
	else if (writable)
		virtq_chain_bad_end(vq, c, why);
	else
		virtq_chain_bad(vq, c, why);
}

/* Append len bytes at p, the next piece of a buffer if again; false if there is
 * no room. */
static bool chain_append(struct virtq_chain *c, uint8_t *p, uint64_t len, bool writable, bool again)
{
	struct iovec *next = &c->iov[c->out_cnt + c->in_cnt];

	/* Pieces of one buffer that lie behind each other are one. */
	if (again && (uint8_t *)next[-1].iov_base + next[-1].iov_len == p) {
		next[-1].iov_len += len;
	} else if (unlikely(c->out_cnt + c->in_cnt == VIRTQ_IOV_MAX)) {
		return false;
	} else {
		*next = (struct iovec){ p, len };
		if (writable)
			c->in_cnt++;
		else
			c->out_cnt++;
	}
	if (writable)
		c->in_len += len;
	else
		c->out_len += len;
	return true;
}

void virtq_chain_add(struct virtq *vq, struct virtq_chain *c, uint64_t addr, uint32_t len,
		     bool writable)
{
	uint64_t left = len;
	uint32_t perm;

	if (virtq_chain_is_stalled(c))
		return;
	if (vq->out_only)
		writable = false;
	perm = writable ? IOTLB_WRITE : IOTLB_READ;
	/* VIRTIO 1.3, "Message Framing": device-readable before device-writable. */
	if (!writable && c->in_cnt) {
		virtq_chain_bad(vq, c, "a device-readable buffer after a device-writable one");
		return;
	}
	if (!len) {
		virtq_chain_bad(vq, c, "a buffer of length 0");
		return;
	}
	while (left) {
		uint64_t got = left;
		void *p = virtq_span(vq, addr, &got, perm);

		if (unlikely(!p)) {
			chain_missing(vq, c, addr, writable);
			return;
		}
		if (unlikely(!chain_append(c, p, got, writable, left != len))) {
			if (writable)
				virtq_chain_bad_end(vq, c, "too many buffers");
			else
				virtq_chain_bad(vq, c, "too many buffers");
			return;
		}
		/* virtq_span() cut at the end of a range, which does not wrap. */
		addr += got;
		left -= got;
	}
}

/* All of [addr, addr + len) as one piece. */
static const void *chain_ptr(struct virtq *vq, struct virtq_chain *c, uint64_t addr, uint64_t len)
{
	const uint8_t *first = NULL;
	uint64_t done = 0;

	while (done < len) {
		uint64_t got = len - done;
		const uint8_t *p = virtq_span(vq, addr + done, &got, IOTLB_READ);

		if (!p && vq->tlb && virtq_tlb_miss(vq, addr + done, IOTLB_READ)) {
			c->error = VIRTQ_CHAIN_STALLED;
			return NULL;
		}
		if (!p || (first && p != first + done))
			return NULL;
		if (!first)
			first = p;
		done += got;
	}
	return first;
}

const void *virtq_chain_table(struct virtq *vq, struct virtq_chain *c, uint64_t addr, uint32_t len,
			      uint32_t *nr)
{
	const void *table;

	if (virtq_chain_is_stalled(c))
		return NULL;
	if (!len || len % sizeof(struct virtq_desc)) {
		virtq_chain_bad_end(vq, c, "an indirect table of odd length");
		return NULL;
	}
	table = chain_ptr(vq, c, addr, len);
	if (!table && !virtq_chain_is_stalled(c))
		virtq_chain_bad_end(vq, c, "an indirect table outside of guest memory");
	*nr = len / sizeof(struct virtq_desc);
	return table;
}

bool virtq_chain_take(struct virtq *vq, struct virtq_chain *c, uint16_t id, uint16_t nr_desc)
{
	struct virtq_slot *slot;

	if (unlikely(id >= vq->conf.size)) {
		virtq_break(vq, "a descriptor id outside of the ring");
		return false;
	}
	slot = &vq->slot[id];
	if (unlikely(slot->busy)) {
		virtq_break(vq, "a descriptor chain made available twice");
		return false;
	}
	slot->busy = true;
	slot->done = false;
	slot->nr_desc = nr_desc;
	slot->epoch = (uint8_t)vq->epoch;
	vq->inflight[vq->epoch]++;
	if (vq->in_order)
		vq->order[vq->order_head++ & vq->order_mask] = id;
	c->id = id;
	counter_add(&vq->stats.chains, 1);
	return true;
}

/* --- giving chains back -------------------------------------------------- */

static inline void emit(struct virtq *vq, uint16_t id, uint32_t written)
{
	vq->slot[id].busy = false;
	if (unlikely(vq->track) && !virtq_track_give(vq, id)) {
		virtq_break(vq, "descriptor chains made available before they were used");
		return;
	}
	if (vq->packed)
		virtq_packed_emit(vq, id, written);
	else
		virtq_split_emit(vq, id, written);
}

/*
 * VIRTIO 1.3, "In-order use of descriptors": buffers are used in the order in
 * which they were made available. What is done too early waits in its slot.
 */
static void push_in_order(struct virtq *vq, uint16_t id, uint32_t written)
{
	vq->slot[id].done = true;
	vq->slot[id].used_len = written;
	while (vq->order_tail != vq->order_head) {
		uint16_t next = vq->order[vq->order_tail & vq->order_mask];

		if (!vq->slot[next].done)
			return;
		vq->order_tail++;
		emit(vq, next, vq->slot[next].used_len);
	}
}

void virtq_push(struct virtq *vq, uint16_t id, uint32_t written)
{
	struct virtq_slot *slot = &vq->slot[id];

	assert(id < vq->conf.size && slot->busy);
	vq->inflight[slot->epoch]--;
	if (vq->in_order)
		push_in_order(vq, id, written);
	else
		emit(vq, id, written);
}

void virtq_notify_driver(struct virtq *vq)
{
	int ret;

	if (vq->conf.call_fd < 0)
		return;
	counter_add(&vq->stats.notifications, 1);
	ret = signal_front_end(vq, vq->conf.call_fd);
	if (unlikely(ret == -EINTR))
		virtq_break(vq, "its call descriptor blocks");
	/* A full counter or pipe means that a notification is pending already. */
	else if (unlikely(ret < 0 && ret != -EAGAIN))
		log_limited(LOG_LEVEL_WARNING, "%s: cannot notify the driver: %s", vq->name,
			    strerror(-ret));
}

bool virtq_driver_wants(struct virtq *vq, uint16_t nr)
{
	if (vq->conf.call_fd < 0)
		return false;
	return vq->packed ? virtq_packed_driver_wants(vq, nr) : virtq_split_driver_wants(vq, nr);
}

/* After virtq_publish_fence(). */
static void notify_if_wanted(struct virtq *vq, uint16_t nr)
{
	if (virtq_driver_wants(vq, nr))
		virtq_notify_driver(vq);
}

/*
 * VIRTIO 1.3, "Used Buffer Notification Suppression": the used index is visible
 * before the driver's wish is read. Pairs with the driver's fence between
 * writing its wish and looking for used buffers.
 */
void virtq_publish_fence(void)
{
	store_load_fence();
}

void virtq_notify_of(struct virtq *vq, uint16_t nr)
{
	if (vq->conf.call_fd < 0)
		return;
	virtq_publish_fence();
	notify_if_wanted(vq, nr);
}

void virtq_publish(struct virtq *vq)
{
	if (!vq->used_pending)
		return;
	if (unlikely(vq->track))
		virtq_track_publish(vq);
	if (vq->packed)
		virtq_packed_publish(vq);
	else
		virtq_split_publish(vq);
	if (unlikely(vq->track))
		virtq_track_published(vq);
	vq->published = vq->used_pending;
	vq->used_pending = 0;
}

void virtq_notify_published(struct virtq *vq)
{
	uint16_t nr = vq->published;

	vq->published = 0;
	if (nr)
		notify_if_wanted(vq, nr);
}

void virtq_flush(struct virtq *vq)
{
	if (!vq->used_pending)
		return;
	virtq_publish(vq);
	virtq_publish_fence();
	virtq_notify_published(vq);
}

void virtq_rewind(struct virtq *vq, const uint16_t *ids, unsigned int nr)
{
	counter_add(&vq->stats.chains, -(uint64_t)nr);
	while (nr--) {
		struct virtq_slot *slot = &vq->slot[ids[nr]];

		assert(slot->busy && !slot->done);
		slot->busy = false;
		vq->inflight[slot->epoch]--;
		if (vq->in_order)
			vq->order_head--;
		if (unlikely(vq->track) && !virtq_track_untake(vq, ids[nr]))
			continue;
		if (!vq->packed) {
			vq->avail_idx--;
			continue;
		}
		if (vq->avail_idx < slot->nr_desc) {
			vq->avail_idx += (uint16_t)vq->conf.size;
			vq->avail_wrap = !vq->avail_wrap;
		}
		vq->avail_idx -= slot->nr_desc;
	}
	/* Whether they may be popped again is asked anew. */
	vq->avail_seen = vq->avail_idx;
}

/* --- asking for notifications -------------------------------------------- */

bool virtq_has_work(struct virtq *vq)
{
	if (!virtq_may_pop(vq))
		return false;
	if (unlikely(vq->again_left))
		return true;
	return vq->packed ? virtq_packed_has_work(vq) : virtq_split_has_work(vq);
}

static void set_notify(struct virtq *vq, bool on)
{
	vq->notify_armed = on;
	/* Nothing is expected of a broken ring, and its memory may be lost. */
	if (vq->broken)
		return;
	if (vq->packed)
		virtq_packed_set_notify(vq, on);
	else
		virtq_split_set_notify(vq, on);
}

void virtq_notify_enable(struct virtq *vq)
{
	set_notify(vq, true);
	/* Our wish is visible before we look once more for available buffers.
	 * Pairs with the driver's fence between publishing a buffer and reading
	 * our wish. */
	store_load_fence();
}

void virtq_notify_disable(struct virtq *vq)
{
	set_notify(vq, false);
}

/* --- rings of several threads ------------------------------------------------ */

void virtq_lock_slow(struct virtq *vq)
{
	unsigned int spins = 0;

	do {
		/* Its holder may have lost the CPU that we are spinning on. */
		while (read_once(&vq->lock))
			if (++spins % LOCK_SPINS)
				cpu_relax();
			else
				sched_yield();
		/* Pairs with the release in virtq_unlock(). */
	} while (__atomic_exchange_n(&vq->lock, 1, __ATOMIC_ACQUIRE));
}

/* --- dirty log ------------------------------------------------------------ */

/* What is one piece for us may be several in guest addresses: an area that was
 * joined, or regions that happen to be mapped behind each other. */
void virtq_log_slow(struct virtq *vq, const void *p, uint64_t len)
{
	while (len) {
		const void *at = p;
		uint64_t n = len;
		gpa_t addr;

		for (size_t i = 0; vq->tlb && i < ARRAY_SIZE(vq->tlb->join); i++)
			at = gmem_join_origin(vq->tlb->join[i], at, &n);
		if (!gmem_gpa_of(vq->conf.gm, at, &n, &addr))
			return;
		dirty_log_mark(vq->conf.log, addr, n);
		p = (const uint8_t *)p + n;
		len -= n;
	}
}
