/*
 * Where a packed ring stands when nobody can say it: a back-end was killed, and
 * the front-end meets the next one. Called by virtq_init(), before the ring
 * starts; never by the data path, and never waits.
 *
 * Theory of operation
 *
 * The used index of a split ring lies in memory. A packed ring has none: QEMU
 * (10.0 at least) then sends the base with which the ring was started last, which
 * is that of a new ring as a rule. Going on from there, a back-end sees nothing
 * available for ever, or chains of long ago.
 *
 * So every chain that is given back leaves a mark in the last of the ring entries
 * that it took, in the address: VIRTIO 1.3, "Element Address and Element Length",
 * has it unused in used descriptors, drivers write it anew with each buffer, and it
 * is the device's until the chain is seen to be used. What is behind the newest
 * mark is still to be done. If there is none, the driver has used every entry
 * again, and all of the ring is to be done.
 *
 * That is so if all that was given back before was all that was popped before (the
 * mark is settled). A device that gives chains back in another order leaves marks
 * that are not, and a ring of which nobody can say which chains were completed: it
 * breaks, rather than have requests carried out twice or never. So does one without
 * marks of such a device.
 *
 * A batch becomes visible with the flags of its first descriptor, which are
 * written last. If they were not, the batch is finished here: its other
 * descriptors have lost what the driver wrote.
 *
 * The driver runs meanwhile. Until the ring starts, it can take back what was
 * given back, and make available what fits.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/log.h"
#include "vhost/virtq_internal.h"

/* Times that a ring is read until it says the same twice. The driver of a ring that
 * stands can change it a few times only. */
#define TRIES 16

/* Places count ring entries over two rounds: the first half is the round with a
 * wrap counter of 1. */
struct chain_at {
	bool is;
	uint16_t id;
	uint32_t place;
};

/* The newest mark of a ring. */
struct newest {
	bool is, settled;
	uint32_t place; /* behind it */
};

static uint32_t slot_of(const struct virtq *vq, uint32_t place)
{
	return place % vq->conf.size;
}

static bool wrap_of(const struct virtq *vq, uint32_t place)
{
	return place < vq->conf.size;
}

static uint32_t place_of(const struct virtq *vq, uint16_t half)
{
	return (half & 0x7fff) + (half >> 15 ? 0 : vq->conf.size);
}

/* back entries before a place */
static uint32_t place_before(const struct virtq *vq, uint32_t place, uint32_t back)
{
	return (place + 2 * vq->conf.size - back) % (2 * vq->conf.size);
}

static uint16_t flags_at(const struct virtq *vq, uint32_t place)
{
	return virtq_read_le16(&virtq_ring_desc(vq, (uint16_t)slot_of(vq, place))->flags);
}

static uint64_t mark_at(const struct virtq *vq, uint32_t place)
{
	const struct pvirtq_desc *d = virtq_ring_desc(vq, (uint16_t)slot_of(vq, place));
	uint64_t mark = le64_to_cpu((le64){ read_once(&d->addr.wire) });
	uint32_t nr = virtq_mark_nr(mark);

	return virtq_is_mark(mark) && nr && nr <= vq->conf.size ? mark : 0;
}

/* What is there was written in the round of this place, or the round after by
 * the driver; and it is a used descriptor. */
static bool is_of_round(const struct virtq *vq, uint32_t place)
{
	return !!(flags_at(vq, place) & VIRTQ_DESC_F_AVAIL) == wrap_of(vq, place);
}

static bool is_used(const struct virtq *vq, uint32_t place)
{
	uint16_t flags = flags_at(vq, place);

	return !!(flags & VIRTQ_DESC_F_USED) == wrap_of(vq, place) && is_of_round(vq, place);
}

static bool avail_bit(const struct virtq *vq, uint32_t slot)
{
	return flags_at(vq, slot) & VIRTQ_DESC_F_AVAIL;
}

/* Where the driver writes next. False: the bits do not say, it is writing or does
 * not set them in all descriptors of a chain. */
static bool find_avail(const struct virtq *vq, uint32_t *place)
{
	bool round = avail_bit(vq, 0);
	uint32_t slot = 1;

	while (slot < vq->conf.size && avail_bit(vq, slot) == round)
		slot++;
	for (uint32_t i = slot; i < vq->conf.size; i++)
		if (avail_bit(vq, i) == round)
			return false;
	if (slot == vq->conf.size)
		*place = round ? vq->conf.size : 0;
	else
		*place = slot + (round ? 0 : vq->conf.size);
	return true;
}

/* The id of a chain that begins here and of which nothing was written: that of its
 * last descriptor. */
static uint16_t id_at(const struct virtq *vq, uint32_t place)
{
	uint32_t slot = slot_of(vq, place);

	for (uint32_t i = 1; i < vq->conf.size; i++) {
		if (!(flags_at(vq, slot) & VIRTQ_DESC_F_NEXT))
			break;
		slot = (slot + 1) % vq->conf.size;
	}
	return virtq_read_le16(&virtq_ring_desc(vq, (uint16_t)slot)->id);
}

/*
 * In the order of the ring there are marks of this round, and then those of the
 * round before that the driver has not written over.
 */
static struct newest find_newest(const struct virtq *vq)
{
	struct newest n = { 0 };
	bool round = false;

	for (uint32_t slot = 0; slot < vq->conf.size; slot++) {
		uint64_t mark = mark_at(vq, slot);

		if (!mark || (n.is && virtq_mark_wrap(mark) != round))
			continue;
		round = virtq_mark_wrap(mark);
		n.is = true;
		n.settled = virtq_mark_settled(mark);
		n.place = (slot + 1 + (round ? 0 : vq->conf.size)) % (2 * vq->conf.size);
	}
	return n;
}

/* The driver may make entries available, and so remove marks, while they are read. */
static bool find_newest_for_sure(const struct virtq *vq, struct newest *n)
{
	struct newest before = find_newest(vq);

	for (unsigned int i = 0; i < TRIES; i++) {
		*n = find_newest(vq);
		if (n->is == before.is && n->place == before.place)
			return true;
		before = *n;
	}
	return false;
}

/* --- a batch that was not published --------------------------------------------- */

static void put_used(struct virtq *vq, const struct chain_at *c)
{
	struct pvirtq_desc *d = virtq_ring_desc(vq, (uint16_t)slot_of(vq, c->place));
	uint16_t flags = wrap_of(vq, c->place) ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;

	if (!c->is)
		return;
	d->id = cpu_to_le16(c->id);
	/* How much was written is not known. */
	d->len = cpu_to_le32(0);
	/* Pairs with the driver's acquire of the flags. */
	store_release(&d->flags.wire, cpu_to_le16(flags).wire);
	virtq_log_write(vq, d, sizeof(*d));
}

/*
 * All that lies before end was given back; of the chains of the last batch, the
 * newest may have its mark and nothing else, and so may the first, which if there
 * are others may have nothing at all.
 */
static void finish_batch(struct virtq *vq, uint32_t end)
{
	struct chain_at first = { 0 }, newest = { 0 };
	uint32_t begin = vq->conf.size;

	for (uint32_t back = vq->conf.size; back; back--) {
		uint32_t place = place_before(vq, end, back), head;
		uint64_t mark = mark_at(vq, place);

		/* Published: used, or the driver's again. */
		if (!mark && (is_used(vq, place) || !is_of_round(vq, place)))
			begin = back - 1;
		if (!mark)
			continue;
		head = back + virtq_mark_nr(mark) - 1;
		newest = (struct chain_at){ .id = virtq_mark_id(mark),
					    .place = place_before(vq, end, head) };
		newest.is = head <= begin && !is_used(vq, newest.place);
		if (!first.is && head < begin)
			first = (struct chain_at){ true, id_at(vq, place_before(vq, end, begin)),
						   place_before(vq, end, begin) };
		else if (!first.is)
			first = newest;
		begin = back - 1;
	}
	put_used(vq, &newest);
	/* Last: the batch is visible with it. */
	put_used(vq, &first);
}

/* --- without marks ---------------------------------------------------------------- */

/* Entry of a ring that is new, in which nothing was written yet. */
static bool is_blank(const struct virtq *vq, uint32_t place)
{
	const struct pvirtq_desc *d = virtq_ring_desc(vq, (uint16_t)slot_of(vq, place));

	return !read_once(&d->addr.wire) && !read_once(&d->len.wire) && !flags_at(vq, place);
}

/* How many entries before the driver's place the given one is. */
static uint32_t entries_to(const struct virtq *vq, uint32_t avail, uint32_t place)
{
	return (avail + 2 * vq->conf.size - place) % (2 * vq->conf.size);
}

/* Can a chain before have taken what is from here up to base? Up to its last
 * descriptor each has NEXT; in order, one used descriptor is for many chains. */
static bool may_be_skipped(const struct virtq *vq, uint32_t from, uint32_t base)
{
	uint32_t nr = entries_to(vq, base, from);

	if (vq->in_order || !nr)
		return true;
	for (uint32_t i = nr; i > 1; i--)
		if (!(flags_at(vq, place_before(vq, base, i)) & VIRTQ_DESC_F_NEXT))
			return false;
	return !(flags_at(vq, place_before(vq, base, 1)) & VIRTQ_DESC_F_NEXT);
}

/* Entries from the driver's place back to the newest used one, or one more than
 * there are. */
static uint32_t entries_to_used(const struct virtq *vq, uint32_t avail)
{
	uint32_t back = 1;

	while (back <= vq->conf.size && !is_used(vq, place_before(vq, avail, back)))
		back++;
	return back;
}

/*
 * All of the ring is open, or another back-end leaves no marks. Then the base stands
 * if it is between the last used descriptor and the driver. A driver that does not
 * set its bits in all descriptors of a chain leaves nothing to go by but the base.
 * False if nobody knows.
 */
static bool place_without_marks(const struct virtq *vq, uint32_t base, uint32_t *place)
{
	uint32_t avail, open, first;

	*place = base;
	if (!find_avail(vq, &avail))
		return true;
	open = entries_to_used(vq, avail) - 1;
	first = place_before(vq, avail, open);
	/* With all of it open, the base of a new ring is what is stale as a rule. */
	if ((base || open < vq->conf.size) && entries_to(vq, avail, base) <= open &&
	    may_be_skipped(vq, first, base))
		return true;
	*place = first;
	/* All, or all but one that the driver is writing: what was completed out of
	 * order left no trace. */
	if (open + 1 >= vq->conf.size)
		return vq->conf.fifo || vq->in_order || first == base;
	/* None, or the ring is new. */
	return !open || is_blank(vq, place_before(vq, first, 1));
}

static void set_place(struct virtq *vq, uint32_t place)
{
	vq->avail_idx = (uint16_t)slot_of(vq, place);
	vq->avail_wrap = wrap_of(vq, place);
	vq->avail_seen = vq->avail_idx;
	vq->used_idx = vq->avail_idx;
	vq->used_wrap = vq->avail_wrap;
}

void virtq_packed_recover(struct virtq *vq)
{
	uint32_t base = place_of(vq, (uint16_t)(virtq_base(vq) >> 16)), place;
	struct newest n;
	bool known;

	known = find_newest_for_sure(vq, &n);
	if (known && n.is && !is_used(vq, n.place)) {
		place = n.place;
		known = n.settled;
	} else if (known) {
		known = place_without_marks(vq, base, &place);
	}
	if (!known) {
		virtq_break(vq,
			    "the back-end before it ended with chains open, nobody knows which");
		return;
	}
	/* Nearly always: nothing was killed. */
	if (place == base)
		return;
	finish_batch(vq, place);
	set_place(vq, place);
	log_info("%s: position 0x%x is stale, goes on where the ring stands, at 0x%x", vq->name,
		 vq->conf.base, virtq_base(vq));
	/* Nobody did for what was used last. */
	virtq_notify_driver(vq);
}
