/*
 * Both ring walks under a hostile driver: descriptors, tables, indices and
 * event fields from fuzz bytes, with the device popping, pushing, rewinding and
 * flushing in between. Built twice, FUZZ_PACKED being the ring kind.
 *
 * Must hold: every chain popped is none the device holds already, lies in guest
 * memory, and is given back exactly once; the position published is the number
 * given back; nothing is popped from a ring that may not be.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <stdlib.h>

#include "tests/fuzz/fuzz_ring.h"

/* Chains of one input: work is bounded by the input's length, not by what the
 * indices say. */
#define POPS_MAX 4096

struct device {
	struct fuzz_ring r;
	/* Held chains in the order they were popped. */
	uint16_t held[2048];
	uint32_t seq[2048]; /* number of the pop */
	unsigned int nr_held;
	uint32_t next_seq;
	unsigned int nr_pops;
	uint16_t nr_pushed; /* split: and where that began */
};

static void pop(struct device *d, unsigned int max)
{
	struct virtq_chain c;

	while (max-- && d->nr_pops < POPS_MAX && virtq_pop(&d->r.vq, &c)) {
		d->nr_pops++;
		assert(d->r.vq.state == VIRTQ_STARTED && d->r.vq.conf.enabled);
		fuzz_check_chain(&d->r, &c);
		for (unsigned int i = 0; i < d->nr_held; i++)
			assert(d->held[i] != c.id);
		assert(d->nr_held < d->r.size);
		d->seq[d->nr_held] = d->next_seq++;
		d->held[d->nr_held++] = c.id;
		if (c.in_cnt)
			virtq_log_write(&d->r.vq, c.iov[c.out_cnt].iov_base,
					c.iov[c.out_cnt].iov_len);
	}
	assert(virtq_inflight(&d->r.vq) == d->nr_held);
}

static void push(struct device *d, unsigned int which, uint32_t written)
{
	if (!d->nr_held)
		return;
	which %= d->nr_held;
	virtq_push(&d->r.vq, d->held[which], written);
	d->nr_pushed++;
	d->nr_held--;
	for (unsigned int i = which; i < d->nr_held; i++) {
		d->held[i] = d->held[i + 1];
		d->seq[i] = d->seq[i + 1];
	}
	assert(virtq_inflight(&d->r.vq) == d->nr_held);
}

/* As many of the last pops as were not pushed, at most max. */
static void rewind_last(struct device *d, unsigned int max)
{
	unsigned int nr = 0;

	while (nr < max && nr < d->nr_held && d->seq[d->nr_held - 1 - nr] == d->next_seq - 1 - nr)
		nr++;
	d->nr_held -= nr;
	d->next_seq -= nr;
	virtq_rewind(&d->r.vq, d->held + d->nr_held, nr);
	assert(virtq_inflight(&d->r.vq) == d->nr_held);
}

static void push_all(struct device *d)
{
	while (d->nr_held)
		push(d, d->nr_held / 2, d->nr_held % 3);
	virtq_flush(&d->r.vq);
	/* A driver that makes chains available before they are back breaks the ring. */
	if (!d->r.packed && !(d->r.inflight && d->r.vq.broken))
		assert(d->r.vq.used_idx == d->nr_pushed);
}

static void device_step(struct device *d, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in), arg = fuzz_u8(in);

	switch (kind % 12) {
	case 0:
	case 1:
	case 2:
		pop(d, 1 + arg % 64);
		break;
	case 3:
		push(d, arg, 0);
		break;
	case 4:
		push(d, arg, 1 + fuzz_u16(in));
		break;
	case 5:
		virtq_flush(&d->r.vq);
		break;
	case 6:
		rewind_last(d, arg % 8);
		break;
	case 7:
		virtq_notify_enable(&d->r.vq);
		/* It may also be broken by this look. */
		(void)virtq_has_work(&d->r.vq);
		break;
	case 8:
		virtq_notify_disable(&d->r.vq);
		break;
	case 9:
		push_all(d);
		break;
	case 10:
		d->r.vq.conf.enabled = arg & 1;
		d->r.vq.avail_seen = d->r.vq.avail_idx; /* as loop.c does */
		break;
	default:
		push_all(d);
		fuzz_ring_restart(&d->r);
		/* A new ring goes on where the shared index says. */
		d->nr_pushed = d->r.vq.used_idx;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct device *d = calloc(1, sizeof(*d));

	assert(d);
	fuzz_ring_open(&d->r, &in, FUZZ_PACKED, 0);
	while (in.left) {
		if (fuzz_u8(&in) & 1)
			device_step(d, &in);
		else
			fuzz_ring_step(&d->r, &in);
	}
	push_all(d);
	assert(!virtq_inflight(&d->r.vq));
	fuzz_ring_close(&d->r);
	free(d);
	return 0;
}
