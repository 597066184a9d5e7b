/*
 * Tracking chains in memory that outlives this process. vhost-user, "Inflight I/O
 * tracking", whose steps are followed with two differences: the free list of a packed
 * region changes when chains are published, not when they are pushed, so that chains
 * may be popped in between; and a position is written at once, not in parts.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/virtq_track.h"

#include <stdlib.h>

#include "core/cpu.h"
#include "core/log.h"
#include "vhost/virtq_internal.h"

#define VERSION 1
#define REGION_ALIGN 64

struct split_state {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* of the last batch, newest first */
	uint64_t counter;
};
static_assert(sizeof(struct split_state) == 16, "DescStateSplit");

struct split_region {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct split_state desc[];
};
static_assert(sizeof(struct split_region) == 16, "QueueRegionSplit");

struct packed_state {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next; /* of its chain, or of the free list */
	uint16_t last; /* of its chain; in the first of a chain, as num and counter */
	uint16_t num;
	uint64_t counter;
	uint16_t id, flags; /* the descriptor, until the end */
	uint32_t len;
	uint64_t addr;
};
static_assert(sizeof(struct packed_state) == 32, "DescStatePacked");

/* Where the ring stands: written as one, as half of it would be nowhere. */
union packed_used {
	struct {
		uint16_t idx, old_idx;
		uint8_t wrap, old_wrap;
		uint8_t padding[2];
	};
	uint64_t all;
};

struct packed_region {
	uint64_t features;
	uint16_t version, desc_num, free_head, old_free_head;
	union packed_used used;
	uint8_t padding[8];
	struct packed_state desc[];
};
static_assert(sizeof(struct packed_region) == 32, "QueueRegionPacked");
static_assert(offsetof(struct packed_region, used) == 16, "used_idx");

/* A chain to be popped again. */
struct virtq_again {
	uint64_t counter;
	uint16_t id, nr_desc;
	uint16_t entry; /* packed: its first one of the region, */
	uint16_t saved; /* and of the descriptors that were saved */
};

struct virtq_track {
	struct split_region *split; /* one of the two */
	struct packed_region *packed;
	uint32_t desc_num; /* entries of the region that are used */
	uint64_t counter; /* of the next chain */
	/* Given back and not published: split: ids; packed: first entries. */
	uint16_t *batch;
	uint32_t nr_batch;
	uint16_t last_batch_head; /* split */

	/* Packed: what the region says, but ours. */
	union packed_used published; /* as after the last publication */
	uint16_t *next;
	uint16_t free_head;
	uint32_t nr_free;
	uint16_t *entry; /* by id: of a chain that the device holds, its first */
	uint16_t *last, *num; /* by its first */
	struct pvirtq_desc *walked; /* the chain that was walked last */

	struct virtq_again *again;
	uint32_t nr_again, next_again;
	bool *held_again; /* by id: of those, the device holds it */
	struct pvirtq_desc *saved; /* packed: their descriptors */
};

static inline void in_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

uint64_t virtq_track_len(bool packed, uint32_t size)
{
	uint64_t len = packed ? sizeof(struct packed_region) + sizeof(struct packed_state) * size
			      : sizeof(struct split_region) + sizeof(struct split_state) * size;

	return round_up(len, REGION_ALIGN);
}

/* --- reading what another process left ------------------------------------------ */

static int by_counter(const void *a, const void *b)
{
	const struct virtq_again *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* All chains that are marked have been found. */
static void sort_again(struct virtq *vq)
{
	struct virtq_track *t = vq->track;

	if (!t->nr_again)
		return;
	qsort(t->again, t->nr_again, sizeof(*t->again), by_counter);
	t->counter = t->again[t->nr_again - 1].counter + 1;
	vq->again_left = (uint16_t)t->nr_again;
	log_info("%s: %u chains were in flight when another process ended", vq->name, t->nr_again);
}

static bool split_is_new(struct virtq *vq)
{
	struct split_region *r = vq->track->split;

	if (read_once(&r->version) == VERSION)
		return false;
	for (uint32_t i = 0; i < vq->track->desc_num; i++)
		r->desc[i] = (struct split_state){ 0 };
	r->last_batch_head = 0;
	r->used_idx = vq->used_idx;
	r->desc_num = (uint16_t)vq->track->desc_num;
	in_order();
	r->version = VERSION;
	return true;
}

/* "When reconnecting". False: it makes no sense. */
static bool split_read(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	struct split_region *r = t->split;
	uint16_t batch, at;

	if (split_is_new(vq))
		return true;
	/* Published, but perhaps not unmarked. More than the ring holds: the ring
	 * has begun anew since, with nothing in flight. */
	batch = (uint16_t)(vq->used_idx - read_once(&r->used_idx));
	at = read_once(&r->last_batch_head);
	for (uint16_t i = 0; i < batch && batch <= t->desc_num; i++) {
		if (at >= t->desc_num)
			return false;
		r->desc[at].inflight = 0;
		at = read_once(&r->desc[at].next);
	}
	in_order();
	r->used_idx = vq->used_idx;
	for (uint32_t i = 0; i < t->desc_num; i++) {
		if (!read_once(&r->desc[i].inflight))
			continue;
		if (i >= vq->conf.size)
			return false;
		t->again[t->nr_again++] = (struct virtq_again){
			.counter = read_once(&r->desc[i].counter),
			.id = (uint16_t)i,
			.nr_desc = 1,
		};
	}
	sort_again(vq);
	/* What was popped is used or in flight. */
	vq->avail_idx = (uint16_t)(vq->used_idx + t->nr_again);
	vq->avail_seen = vq->avail_idx;
	return true;
}

/* The next publication will lead to where we stand: old is what is true until then. */
static void packed_announce(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	union packed_used used = t->published;

	used.idx = vq->used_idx;
	used.wrap = vq->used_wrap;
	write_once(&t->packed->free_head, t->free_head);
	in_order();
	write_once(&t->packed->used.all, used.all);
	in_order();
}

/* The free list first: while the position has two sides, the list is told by which
 * of them is true. */
static void packed_commit(struct virtq *vq)
{
	struct virtq_track *t = vq->track;

	t->published = (union packed_used){ .idx = vq->used_idx,
					    .old_idx = vq->used_idx,
					    .wrap = vq->used_wrap,
					    .old_wrap = vq->used_wrap };
	write_once(&t->packed->old_free_head, t->free_head);
	in_order();
	write_once(&t->packed->used.all, t->published.all);
	in_order();
}

static void packed_begin(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	struct packed_region *r = t->packed;

	for (uint32_t i = 0; i < t->desc_num; i++) {
		r->desc[i] = (struct packed_state){ .next = (uint16_t)(i + 1) };
		t->next[i] = (uint16_t)(i + 1);
	}
	t->nr_free = t->desc_num;
	t->free_head = 0;
	packed_announce(vq);
	packed_commit(vq);
	r->desc_num = (uint16_t)t->desc_num;
	in_order();
	r->version = VERSION;
}

/* Where the ring stands: before the last publication or behind it. False: nowhere. */
static bool packed_position(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	const struct packed_region *r = t->packed;
	union packed_used used = { .all = read_once(&r->used.all) };
	bool is_published = false;
	uint16_t flags;

	if (used.idx >= vq->conf.size || used.old_idx >= vq->conf.size)
		return false;
	if (used.idx != used.old_idx || used.wrap != used.old_wrap) {
		flags = le16_to_cpu(
			(le16){ read_once(&virtq_ring_desc(vq, used.old_idx)->flags.wire) });
		is_published = !virtq_is_avail(flags, used.old_wrap);
	}
	vq->used_idx = is_published ? used.idx : used.old_idx;
	vq->used_wrap = is_published ? used.wrap : used.old_wrap;
	t->free_head = is_published ? read_once(&r->free_head) : read_once(&r->old_free_head);
	return true;
}

/* What the free list holds is not in flight. is_taken: by entry. */
static bool packed_read_free(struct virtq *vq, bool *is_taken)
{
	struct virtq_track *t = vq->track;
	uint16_t at = t->free_head;

	while (at != t->desc_num) {
		if (at > t->desc_num || is_taken[at])
			return false;
		is_taken[at] = true;
		t->packed->desc[at].inflight = 0;
		t->next[at] = read_once(&t->packed->desc[at].next);
		at = t->next[at];
		t->nr_free++;
	}
	return true;
}

/* A chain that is marked, with its descriptors from nr_saved on. */
static bool packed_read_chain(struct virtq *vq, uint16_t first, uint32_t nr_saved, bool *is_taken)
{
	struct virtq_track *t = vq->track;
	struct virtq_again *a = &t->again[t->nr_again];
	uint16_t at = first, num = read_once(&t->packed->desc[first].num);

	if (!num || num > vq->conf.size - nr_saved)
		return false;
	for (uint16_t i = 0; i < num; i++) {
		const struct packed_state *d = &t->packed->desc[at];

		if (is_taken[at])
			return false;
		is_taken[at] = true;
		t->saved[nr_saved + i] = (struct pvirtq_desc){
			.addr = cpu_to_le64(read_once(&d->addr)),
			.len = cpu_to_le32(read_once(&d->len)),
			.id = cpu_to_le16(read_once(&d->id)),
			.flags = cpu_to_le16(read_once(&d->flags)),
		};
		t->last[first] = at;
		t->next[at] = read_once(&d->next);
		if (i + 1 < num && t->next[at] >= t->desc_num)
			return false;
		at = t->next[at];
	}
	*a = (struct virtq_again){
		.counter = read_once(&t->packed->desc[first].counter),
		.id = le16_to_cpu(t->saved[nr_saved + num - 1].id),
		.nr_desc = num,
		.entry = first,
		.saved = (uint16_t)nr_saved,
	};
	t->num[first] = num;
	t->nr_again++;
	return a->id < vq->conf.size;
}

/*
 * Of a batch that was not published all but the first descriptor may say that they
 * are used. The driver would believe them as soon as something else is published
 * before them: none of these places is used.
 */
static void packed_restore_flags(struct virtq *vq, uint32_t nr)
{
	uint16_t pos = vq->used_idx;
	bool wrap = vq->used_wrap;

	while (nr--) {
		struct pvirtq_desc *d = virtq_ring_desc(vq, pos);
		uint16_t flags = wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;

		write_once(&d->flags.wire, cpu_to_le16(flags).wire);
		virtq_log_write(vq, d, sizeof(*d));
		if (++pos == vq->conf.size) {
			pos = 0;
			wrap = !wrap;
		}
	}
}

static bool packed_read_chains(struct virtq *vq, bool *is_taken)
{
	struct virtq_track *t = vq->track;
	uint32_t nr_saved = 0;

	for (uint32_t i = 0; i < t->desc_num; i++) {
		if (is_taken[i] || !read_once(&t->packed->desc[i].inflight))
			continue;
		if (!packed_read_chain(vq, (uint16_t)i, nr_saved, is_taken))
			return false;
		nr_saved += t->num[i];
	}
	sort_again(vq);
	packed_restore_flags(vq, nr_saved);
	vq->avail_idx = (uint16_t)(vq->used_idx + nr_saved);
	vq->avail_wrap = vq->used_wrap;
	if (vq->avail_idx >= vq->conf.size) {
		vq->avail_idx -= (uint16_t)vq->conf.size;
		vq->avail_wrap = !vq->avail_wrap;
	}
	vq->avail_seen = vq->avail_idx;
	return true;
}

/* "When reconnecting". False: it makes no sense. */
static bool packed_read(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	bool *is_taken, ok;

	if (read_once(&t->packed->version) != VERSION) {
		packed_begin(vq);
		return true;
	}
	is_taken = calloc(t->desc_num, sizeof(*is_taken));
	ok = is_taken && packed_position(vq) && packed_read_free(vq, is_taken) &&
	     packed_read_chains(vq, is_taken);
	free(is_taken);
	if (!ok)
		return false;
	packed_commit(vq);
	packed_announce(vq);
	return true;
}

/* --- the ring ------------------------------------------------------------------- */

static bool alloc_arrays(struct virtq *vq, int node)
{
	struct virtq_track *t = vq->track;
	uint32_t nr = t->desc_num, size = vq->conf.size;

	t->batch = numa_zalloc(size * sizeof(*t->batch), node);
	t->again = numa_zalloc(nr * sizeof(*t->again), node);
	t->held_again = numa_zalloc(size * sizeof(*t->held_again), node);
	if (!t->batch || !t->again || !t->held_again)
		return false;
	if (!vq->packed)
		return true;
	t->next = numa_zalloc(nr * sizeof(*t->next), node);
	t->last = numa_zalloc(nr * sizeof(*t->last), node);
	t->num = numa_zalloc(nr * sizeof(*t->num), node);
	t->entry = numa_zalloc(size * sizeof(*t->entry), node);
	t->walked = numa_zalloc(size * sizeof(*t->walked), node);
	t->saved = numa_zalloc(size * sizeof(*t->saved), node);
	return t->next && t->last && t->num && t->entry && t->walked && t->saved;
}

int virtq_track_create(struct virtq *vq, int node)
{
	struct virtq_track *t;

	if (!vq->conf.inflight)
		return 0;
	t = numa_zalloc(sizeof(*t), node);
	if (!t)
		return -ENOMEM;
	vq->track = t;
	t->desc_num = vq->conf.inflight_num;
	if (vq->packed)
		t->packed = vq->conf.inflight;
	else
		t->split = vq->conf.inflight;
	if (!alloc_arrays(vq, node)) {
		virtq_track_destroy(vq);
		return -ENOMEM;
	}
	if (!(vq->packed ? packed_read(vq) : split_read(vq))) {
		vq->again_left = 0;
		virtq_break(vq, "what is said to be in flight makes no sense");
	}
	return 0;
}

void virtq_track_destroy(struct virtq *vq)
{
	struct virtq_track *t = vq->track;
	uint32_t nr, size = vq->conf.size;

	if (!t)
		return;
	nr = t->desc_num;
	numa_zfree(t->batch, size * sizeof(*t->batch));
	numa_zfree(t->again, nr * sizeof(*t->again));
	numa_zfree(t->held_again, size * sizeof(*t->held_again));
	numa_zfree(t->next, nr * sizeof(*t->next));
	numa_zfree(t->last, nr * sizeof(*t->last));
	numa_zfree(t->num, nr * sizeof(*t->num));
	numa_zfree(t->entry, size * sizeof(*t->entry));
	numa_zfree(t->walked, size * sizeof(*t->walked));
	numa_zfree(t->saved, size * sizeof(*t->saved));
	numa_zfree(t, sizeof(*t));
	vq->track = NULL;
	vq->again_left = 0;
}

/* --- popping ----------------------------------------------------------------- */

void virtq_track_desc(struct virtq *vq, uint16_t nr, const struct pvirtq_desc *d)
{
	vq->track->walked[nr] = *d;
}

bool virtq_track_has_room(const struct virtq *vq, uint16_t nr_desc)
{
	return !vq->packed || nr_desc <= vq->track->nr_free;
}

static void split_take(struct virtq_track *t, uint16_t id)
{
	struct split_state *d = &t->split->desc[id];

	d->counter = t->counter++;
	in_order();
	d->inflight = 1;
	in_order();
}

static void packed_take(struct virtq_track *t, uint16_t id, uint16_t nr_desc)
{
	struct packed_region *r = t->packed;
	uint16_t first = t->free_head, at = first;

	for (uint16_t i = 0; i < nr_desc; i++) {
		const struct pvirtq_desc *d = &t->walked[i];
		struct packed_state *to = &r->desc[at];

		to->id = le16_to_cpu(d->id);
		to->flags = le16_to_cpu(d->flags);
		to->len = le32_to_cpu(d->len);
		to->addr = le64_to_cpu(d->addr);
		t->last[first] = at;
		at = t->next[at];
	}
	r->desc[first].counter = t->counter++;
	r->desc[first].last = t->last[first];
	r->desc[first].num = nr_desc;
	t->num[first] = nr_desc;
	t->entry[id] = first;
	t->free_head = at;
	t->nr_free -= nr_desc;
	in_order();
	r->desc[first].inflight = 1;
	in_order();
	/* Off the list that says what is not in flight: now it is. */
	write_once(&r->free_head, at);
	write_once(&r->old_free_head, at);
	in_order();
}

void virtq_track_take(struct virtq *vq, uint16_t id, uint16_t nr_desc)
{
	if (vq->packed)
		packed_take(vq->track, id, nr_desc);
	else
		split_take(vq->track, id);
}

/* Put a chain's entries on the free list; the region's head is written later. */
static void packed_free(struct virtq_track *t, uint16_t first)
{
	uint16_t last = t->last[first];

	t->next[last] = t->free_head;
	t->packed->desc[last].next = t->free_head;
	t->free_head = first;
	t->nr_free += t->num[first];
}

bool virtq_track_untake(struct virtq *vq, uint16_t id)
{
	struct virtq_track *t = vq->track;
	uint16_t first;

	if (t->held_again[id]) {
		t->held_again[id] = false;
		t->next_again--;
		vq->again_left++;
		return false;
	}
	if (!vq->packed) {
		t->split->desc[id].inflight = 0;
		return true;
	}
	first = t->entry[id];
	packed_free(t, first);
	in_order();
	write_once(&t->packed->free_head, first);
	write_once(&t->packed->old_free_head, first);
	in_order();
	t->packed->desc[first].inflight = 0;
	return true;
}

int virtq_pop_again(struct virtq *vq, struct virtq_chain *c)
{
	struct virtq_track *t = vq->track;
	const struct virtq_again *a = &t->again[t->next_again];

	/* Before the ring stops, too: nobody else knows of them. */
	if (vq->state == VIRTQ_DRAINING ? !virtq_again_is_due(vq) : !virtq_may_pop(vq))
		return 0;
	virtq_chain_begin(vq, c);
	if (vq->packed)
		virtq_packed_walk_saved(vq, c, t->saved + a->saved, a->nr_desc);
	else
		virtq_split_walk(vq, c, a->id);
	if (!virtq_chain_end(vq, c) || !virtq_chain_take(vq, c, a->id, a->nr_desc))
		return 0;
	if (unlikely(vq->tlb))
		virtq_tlb_take(vq, a->id);
	if (vq->packed)
		t->entry[a->id] = a->entry;
	t->held_again[a->id] = true;
	t->next_again++;
	vq->again_left--;
	return 1;
}

/* --- giving back ------------------------------------------------------------- */

bool virtq_track_give(struct virtq *vq, uint16_t id)
{
	struct virtq_track *t = vq->track;

	if (unlikely(t->nr_batch == vq->conf.size))
		return false;
	t->held_again[id] = false;
	/* By id another chain may be found later, if the driver does not wait. */
	t->batch[t->nr_batch++] = vq->packed ? t->entry[id] : id;
	return true;
}

void virtq_track_publish(struct virtq *vq)
{
	struct virtq_track *t = vq->track;

	for (uint32_t i = 0; i < t->nr_batch; i++) {
		if (vq->packed) {
			packed_free(t, t->batch[i]);
			continue;
		}
		t->split->desc[t->batch[i]].next = t->last_batch_head;
		t->last_batch_head = t->batch[i];
	}
	in_order();
	if (vq->packed)
		packed_announce(vq);
	else
		write_once(&t->split->last_batch_head, t->last_batch_head);
	in_order();
}

void virtq_track_published(struct virtq *vq)
{
	struct virtq_track *t = vq->track;

	in_order();
	for (uint32_t i = 0; i < t->nr_batch; i++) {
		if (vq->packed)
			t->packed->desc[t->batch[i]].inflight = 0;
		else
			t->split->desc[t->batch[i]].inflight = 0;
	}
	t->nr_batch = 0;
	in_order();
	if (vq->packed)
		packed_commit(vq);
	else
		write_once(&t->split->used_idx, vq->used_idx);
}
