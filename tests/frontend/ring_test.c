/*
 * Tests of the driver half against a model of the device's half that is as
 * plain as can be: it looks at one chain at a time and keeps no state but its
 * position. Run by meson.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/blkdrv.h"
#include "tests/frontend/drv.h"

#define CHAIN_MAX 8

/* The device's place in a ring. */
struct model {
	struct drv_ring *r;
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
};

/* A chain as the device sees it. */
struct model_chain {
	uint16_t id, nr_ring;
	unsigned int nr;
	struct drv_buf buf[CHAIN_MAX];
	bool write[CHAIN_MAX];
};

static struct fe fe;

static void start(struct drv_ring *r, uint16_t size, uint64_t features, bool indirect)
{
	struct drv_conf conf = { .size = size, .indirect = indirect };

	fe_init(&fe);
	fe.features = features | (indirect ? 1ull << VIRTIO_F_RING_INDIRECT_DESC : 0);
	conf.region = fe_mem_new(&fe, 16 << 20);
	assert_true(conf.region >= 0);
	assert_int_equal(drv_create(r, &fe, 0, &conf), 0);
}

static void stop(struct drv_ring *r)
{
	drv_destroy(r);
	fe_close(&fe);
}

static void see(struct model_chain *c, uint64_t gpa, uint32_t len, uint16_t flags)
{
	assert_true(c->nr < CHAIN_MAX);
	c->buf[c->nr] = (struct drv_buf){ gpa, len };
	c->write[c->nr++] = flags & VIRTQ_DESC_F_WRITE;
}

static bool pop_split(struct model *m, struct model_chain *c)
{
	struct drv_ring *r = m->r;
	const struct virtq_desc *table = r->desc;
	uint16_t i;

	if (le16_to_cpu(r->avail->idx) == m->avail)
		return false;
	i = c->id = le16_to_cpu(r->avail->ring[m->avail++ % r->size]);
	c->nr_ring = 1;
	if (le16_to_cpu(table[i].flags) & VIRTQ_DESC_F_INDIRECT) {
		table = fe_ptr(&fe, le64_to_cpu(table[i].addr), le32_to_cpu(table[i].len));
		assert_non_null(table);
		i = 0;
	}
	for (;;) {
		uint16_t flags = le16_to_cpu(table[i].flags);

		see(c, le64_to_cpu(table[i].addr), le32_to_cpu(table[i].len), flags);
		if (!(flags & VIRTQ_DESC_F_NEXT))
			return true;
		i = le16_to_cpu(table[i].next);
	}
}

static bool pop_packed(struct model *m, struct model_chain *c)
{
	struct drv_ring *r = m->r;
	uint16_t flags;

	c->nr_ring = 0;
	do {
		const struct pvirtq_desc *d = &r->pdesc[m->avail];

		flags = le16_to_cpu(d->flags);
		if (!!(flags & VIRTQ_DESC_F_AVAIL) != m->avail_wrap ||
		    !!(flags & VIRTQ_DESC_F_USED) == m->avail_wrap) {
			/* A chain is there as a whole or not at all. */
			assert_int_equal(c->nr_ring, 0);
			return false;
		}
		if (flags & VIRTQ_DESC_F_INDIRECT) {
			const struct pvirtq_desc *t =
				fe_ptr(&fe, le64_to_cpu(d->addr), le32_to_cpu(d->len));

			for (unsigned int i = 0; i < le32_to_cpu(d->len) / sizeof(*t); i++)
				see(c, le64_to_cpu(t[i].addr), le32_to_cpu(t[i].len),
				    le16_to_cpu(t[i].flags));
		} else {
			see(c, le64_to_cpu(d->addr), le32_to_cpu(d->len), flags);
		}
		c->id = le16_to_cpu(d->id);
		c->nr_ring++;
		if (++m->avail == r->size) {
			m->avail = 0;
			m->avail_wrap = !m->avail_wrap;
		}
	} while (flags & VIRTQ_DESC_F_NEXT);
	return true;
}

static bool pop(struct model *m, struct model_chain *c)
{
	c->nr = 0;
	return m->r->packed ? pop_packed(m, c) : pop_split(m, c);
}

/* Use id, stepping over nr entries: chains on a split ring, descriptors else. */
static void push(struct model *m, uint16_t id, uint32_t len, uint16_t nr)
{
	const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	struct drv_ring *r = m->r;

	if (!r->packed) {
		r->used->ring[m->used % r->size].id = cpu_to_le32(id);
		r->used->ring[m->used % r->size].len = cpu_to_le32(len);
		m->used += nr;
		r->used->idx = cpu_to_le16(m->used);
		return;
	}
	r->pdesc[m->used].id = cpu_to_le16(id);
	r->pdesc[m->used].len = cpu_to_le32(len);
	r->pdesc[m->used].flags =
		cpu_to_le16((m->used_wrap ? both : 0) | (len ? VIRTQ_DESC_F_WRITE : 0));
	m->used += nr;
	if (m->used >= r->size) {
		m->used -= r->size;
		m->used_wrap = !m->used_wrap;
	}
}

/* What a driver adds, remembered until it comes back. */
struct sent {
	struct drv_buf buf[CHAIN_MAX];
	unsigned int nr_out, nr;
	uint32_t len;
	bool flying;
};

#define SENT_MAX 512

static bool send_one(struct drv_ring *r, struct sent *s, uint32_t *seed)
{
	int id;

	s->nr = 1 + fe_random(seed) % CHAIN_MAX;
	s->nr_out = fe_random(seed) % (s->nr + 1);
	for (unsigned int i = 0; i < s->nr; i++)
		s->buf[i] = (struct drv_buf){ fe_random(seed), 1 + fe_random(seed) % 9999 };
	id = drv_add(r, s->buf, s->nr_out, s->nr - s->nr_out, s);
	if (id == -ENOSPC)
		return false;
	assert_true(id >= 0 && id < r->size);
	s->flying = true;
	return true;
}

static void check_seen(const struct drv_ring *r, const struct model_chain *c)
{
	const struct sent *s = r->chain[c->id].cookie;

	assert_true(s->flying);
	assert_int_equal(c->nr, s->nr);
	for (unsigned int i = 0; i < c->nr; i++) {
		assert_int_equal(c->buf[i].gpa, s->buf[i].gpa);
		assert_int_equal(c->buf[i].len, s->buf[i].len);
		assert_int_equal(c->write[i], i >= s->nr_out);
	}
}

/* Rounds of adding, using in any order, reaping: nothing is lost or mixed up. */
static void play(uint16_t size, uint64_t features, bool indirect, uint32_t seed)
{
	static struct sent sent[SENT_MAX];
	struct model_chain held[SENT_MAX];
	unsigned int nr_held = 0, back = 0, gone = 0;
	struct drv_ring r;
	struct model m = { .r = &r, .avail_wrap = true, .used_wrap = true };
	uint32_t len;
	void *cookie;

	memset(sent, 0, sizeof(sent));
	start(&r, size, features, indirect);
	for (unsigned int round = 0; round < 3000; round++) {
		unsigned int i = 0;

		for (unsigned int k = fe_random(&seed) % 20; k; k--) {
			while (i < SENT_MAX && sent[i].flying)
				i++;
			if (i == SENT_MAX || !send_one(&r, &sent[i], &seed))
				break;
			gone++;
		}
		drv_submit(&r);
		while (pop(&m, &held[nr_held]))
			check_seen(&r, &held[nr_held++]);
		for (unsigned int k = fe_random(&seed) % 20; k && nr_held; k--) {
			/* In order, or any of those it holds. */
			unsigned int n = r.in_order ? 0 : fe_random(&seed) % nr_held;
			struct sent *s = r.chain[held[n].id].cookie;

			s->len = fe_random(&seed) % 9999;
			push(&m, held[n].id, s->len, r.packed ? held[n].nr_ring : 1);
			memmove(&held[n], &held[n + 1], (--nr_held - n) * sizeof(held[0]));
		}
		while (drv_reap(&r, &cookie, &len) == 1) {
			struct sent *s = cookie;

			assert_true(s->flying);
			assert_int_equal(len, s->len);
			s->flying = false;
			back++;
		}
		assert_int_equal(r.inflight, gone - back);
		assert_int_equal(r.inflight, nr_held);
	}
	assert_true(back > 3000);
	stop(&r);
}

#define PACKED (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ull << VIRTIO_F_RING_EVENT_IDX)
#define IN_ORDER (1ull << VIRTIO_F_IN_ORDER)

static void split_chains_go_and_come_back_whole(void **state)
{
	for (uint16_t size = 8; size <= 256; size *= 2) {
		play(size, 0, false, size);
		play(size, EVENT_IDX, true, size + 1);
		play(size, IN_ORDER, false, size + 2);
	}
}

static void packed_chains_go_and_come_back_whole(void **state)
{
	const uint16_t sizes[] = { 8, 9, 33, 100, 256 };

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		play(sizes[i], PACKED, false, sizes[i]);
		play(sizes[i], PACKED | EVENT_IDX, true, sizes[i] + 1u);
		play(sizes[i], PACKED | IN_ORDER, false, sizes[i] + 2u);
	}
}

/* One used entry for a batch stands for all chains before it. */
static void in_order_batches(uint64_t features)
{
	struct drv_buf buf = { 4096, 16 };
	struct model m = { .avail_wrap = true, .used_wrap = true };
	struct model_chain c;
	struct drv_ring r;
	uint32_t len;
	void *cookie;

	start(&r, 16, features | IN_ORDER, false);
	m.r = &r;
	for (int round = 0; round < 50; round++) {
		for (uintptr_t i = 0; i < 5; i++)
			assert_true(drv_add(&r, &buf, 0, 1, (void *)i) >= 0);
		drv_submit(&r);
		for (int i = 0; i < 5; i++)
			assert_true(pop(&m, &c));
		push(&m, c.id, 77, 5);
		for (uintptr_t i = 0; i < 5; i++) {
			assert_int_equal(drv_reap(&r, &cookie, &len), 1);
			assert_int_equal((uintptr_t)cookie, i);
			assert_int_equal(len, i == 4 ? 77 : UINT32_MAX);
		}
		assert_int_equal(drv_reap(&r, &cookie, &len), 0);
	}
	stop(&r);
}

static void in_order_batches_come_back_in_order(void **state)
{
	in_order_batches(0);
	in_order_batches(PACKED);
}

static void a_device_that_invents_a_chain_is_found_out(void **state)
{
	const uint64_t features[] = { 0, PACKED };
	struct drv_buf buf = { 4096, 16 };
	uint32_t len;
	void *cookie;

	for (unsigned int i = 0; i < ARRAY_SIZE(features); i++) {
		struct drv_ring r;
		struct model m = { .r = &r, .avail_wrap = true, .used_wrap = true };

		start(&r, 8, features[i], false);
		assert_true(drv_add(&r, &buf, 0, 1, NULL) >= 0);
		drv_submit(&r);
		push(&m, 5, 1, 1);
		assert_int_equal(drv_reap(&r, &cookie, &len), -EPROTO);
		stop(&r);
	}
}

/* How many kicks for 100 single submissions, when the device's wish is wish. */
static unsigned int kicks_for(uint64_t features, void (*wish)(struct drv_ring *, unsigned int))
{
	struct drv_buf buf = { 4096, 16 };
	struct model m = { .avail_wrap = true, .used_wrap = true };
	struct model_chain c;
	unsigned int kicks = 0;
	struct drv_ring r;
	eventfd_t n;
	uint32_t len;
	void *cookie;

	start(&r, 16, features, false);
	m.r = &r;
	for (unsigned int i = 0; i < 100; i++) {
		wish(&r, i);
		assert_true(drv_add(&r, &buf, 0, 1, NULL) >= 0);
		assert_int_equal(drv_submit(&r), 0);
		kicks += !eventfd_read(r.kick_fd, &n);
		assert_true(pop(&m, &c));
		push(&m, c.id, 0, 1);
		assert_int_equal(drv_reap(&r, &cookie, &len), 1);
	}
	stop(&r);
	return kicks;
}

static void wish_all(struct drv_ring *r, unsigned int i)
{
	if (r->packed)
		r->device_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_ENABLE);
	else
		r->used->flags = cpu_to_le16(0);
}

static void wish_none(struct drv_ring *r, unsigned int i)
{
	if (r->packed)
		r->device_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DISABLE);
	else
		r->used->flags = cpu_to_le16(VIRTQ_USED_F_NO_NOTIFY);
}

/* At every tenth entry. */
static void wish_tenth(struct drv_ring *r, unsigned int i)
{
	unsigned int at = (i + 9) / 10 * 10;

	if (!r->packed) {
		*(uint16_t *)&r->used->ring[r->size] = cpu_to_le16((uint16_t)at).wire;
		return;
	}
	r->device_event->desc =
		cpu_to_le16((uint16_t)(at % r->size) | (at / r->size % 2 ? 0 : PVIRTQ_EVENT_WRAP));
	r->device_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
}

static void the_device_is_kicked_when_it_wants(void **state)
{
	const uint64_t kinds[] = { 0, PACKED };

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		assert_int_equal(kicks_for(kinds[i], wish_all), 100);
		assert_int_equal(kicks_for(kinds[i], wish_none), 0);
		assert_int_equal(kicks_for(kinds[i] | EVENT_IDX, wish_tenth), 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_chains_go_and_come_back_whole),
		cmocka_unit_test(packed_chains_go_and_come_back_whole),
		cmocka_unit_test(in_order_batches_come_back_in_order),
		cmocka_unit_test(a_device_that_invents_a_chain_is_found_out),
		cmocka_unit_test(the_device_is_kicked_when_it_wants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
