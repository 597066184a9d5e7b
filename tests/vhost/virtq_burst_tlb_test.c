/*
 * Bursts of a ring behind a virtual IOMMU, both ring kinds: buffers are where the
 * front-end said, with the permission that was given, until it is taken back; and
 * what nobody polls asks ahead.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include "core/evloop.h"
#include "vhost/virtq_burst.h"
#include "vhost/virtq_tlb.h"

#define W VIRTQ_DESC_F_WRITE
#define BURST 64
#define PAGE 4096u
#define IOVA 0x10000ull
#define READ IOTLB_READ
#define RW (IOTLB_READ | IOTLB_WRITE)

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

/* Two pages at IOVA, the second of which lies before the first. */
struct bk {
	struct ringkit *k;
	struct evloop *ev;
	struct iotlb *tlb;
	struct virtq_burst b;
	struct virtq_buf buf[BURST];
};

static unsigned int nr_misses;

static void missed(struct ev_work *w)
{
	nr_misses++;
}

static void map(struct bk *t, uint64_t addr, uint64_t gpa, uint32_t perm)
{
	assert_int_equal(iotlb_add(t->tlb, iova(addr), PAGE, rk_mem(t->k, gpa), perm), 0);
}

static void bk_open(struct bk *t, void **state, uint32_t perm)
{
	uint64_t features = *(const uint64_t *)*state;

	nr_misses = 0;
	t->k = rk_open(features, 64, rk_base(features & RK_PACKED));
	t->ev = evloop_create();
	assert_non_null(t->ev);
	assert_int_equal(iotlb_create(&t->tlb), 0);
	assert_int_equal(virtq_tlb_create(&t->k->vq, t->tlb, t->ev, missed, -1), 0);
	map(t, IOVA, RK_BUF + PAGE, perm);
	map(t, IOVA + PAGE, RK_BUF, perm);
}

static void bk_close(struct bk *t)
{
	evloop_run_once(t->ev, 0);
	virtq_tlb_destroy(&t->k->vq);
	rk_close(t->k);
	iotlb_destroy(t->tlb);
	evloop_destroy(t->ev);
}

static void put(struct bk *t, uint16_t id, uint64_t addr, uint32_t len, uint16_t flags)
{
	const struct rk_buf buf = { addr, len, flags };

	rk_put(t->k, id, &buf, 1);
}

static unsigned int look(struct bk *t, bool writable)
{
	virtq_burst_begin(&t->k->vq, &t->b, t->buf, BURST, writable);
	return virtq_burst_look(&t->k->vq, &t->b, BURST);
}

/* The front-end hears of a miss of this kind, and of no other. */
static void expect_miss(struct bk *t, uint64_t addr, uint32_t perm)
{
	unsigned int before = nr_misses;

	evloop_run_once(t->ev, 0);
	assert_int_equal(nr_misses, before + 1);
	assert_int_equal(t->k->vq.tlb->miss_addr.v, addr);
	assert_int_equal(t->k->vq.tlb->miss_perm, perm);
}

static void expect_no_miss(struct bk *t)
{
	evloop_run_once(t->ev, 0);
	assert_int_equal(nr_misses, 0);
}

static void forget(struct bk *t, uint64_t addr)
{
	iotlb_del(t->tlb, iova(addr), PAGE);
	virtq_tlb_drop(&t->k->vq, iova(addr), PAGE);
}

static void buffers_are_where_the_front_end_said(void **state)
{
	struct bk t;

	bk_open(&t, state, RW);
	for (uint16_t i = 0; i < 8; i++)
		put(&t, i, IOVA + (i & 1) * PAGE + 64u * i, 60, W);
	assert_int_equal(look(&t, true), 8);
	for (uint16_t i = 0; i < 8; i++) {
		assert_int_equal(t.buf[i].nr_iov, 1);
		assert_int_equal(t.buf[i].one.iov_len, 60);
		assert_ptr_equal(t.buf[i].one.iov_base,
				 rk_mem(t.k, RK_BUF + (i & 1 ? 0 : PAGE) + 64u * i));
	}
	expect_no_miss(&t);
	bk_close(&t);
}

static void a_buffer_over_two_pages_is_two_pieces(void **state)
{
	struct bk t;

	bk_open(&t, state, RW);
	put(&t, 0, IOVA, 60, 0);
	put(&t, 1, IOVA + PAGE - 16, 60, 0);
	put(&t, 2, IOVA + PAGE, 60, 0);
	assert_int_equal(look(&t, false), 3);
	assert_int_equal(t.buf[1].nr_iov, 2);
	assert_int_equal(t.buf[1].len, 60);
	assert_ptr_equal(t.buf[1].iov[0].iov_base, rk_mem(t.k, RK_BUF + 2 * PAGE - 16));
	assert_int_equal(t.buf[1].iov[0].iov_len, 16);
	assert_ptr_equal(t.buf[1].iov[1].iov_base, rk_mem(t.k, RK_BUF));
	assert_int_equal(t.buf[1].iov[1].iov_len, 44);
	assert_ptr_equal(t.buf[2].one.iov_base, rk_mem(t.k, RK_BUF));
	expect_no_miss(&t);
	bk_close(&t);
}

/* Also not by way of what was found for reading just before. */
static void what_may_only_be_read_is_not_written(void **state)
{
	struct bk t;

	bk_open(&t, state, READ);
	put(&t, 0, IOVA, 60, 0);
	put(&t, 1, IOVA + 64, 60, W);
	assert_int_equal(look(&t, false), 1);
	virtq_burst_use(&t.k->vq, &t.b, 1);
	expect_miss(&t, IOVA + 64, IOTLB_WRITE);
	t.k->vq.tlb->stalled = false;
	t.k->vq.tlb->asking = false;
	assert_int_equal(look(&t, true), 0);
	expect_miss(&t, IOVA + 64, IOTLB_WRITE);
	bk_close(&t);
}

static void what_was_taken_back_is_not_used(void **state)
{
	struct bk t;

	bk_open(&t, state, RW);
	put(&t, 0, IOVA, 60, W);
	put(&t, 1, IOVA + PAGE, 60, W);
	assert_int_equal(look(&t, true), 2);
	forget(&t, IOVA + PAGE);
	assert_int_equal(look(&t, true), 1);
	expect_miss(&t, IOVA + PAGE, IOTLB_WRITE);
	bk_close(&t);
}

static void a_burst_ends_before_what_is_not_known(void **state)
{
	struct bk t;

	bk_open(&t, state, RW);
	put(&t, 0, IOVA, 60, W);
	put(&t, 1, IOVA + 2 * PAGE, 60, W);
	put(&t, 2, IOVA, 60, W);
	assert_int_equal(look(&t, true), 1);
	expect_miss(&t, IOVA + 2 * PAGE, IOTLB_WRITE);
	bk_close(&t);
}

static void what_is_known_ahead_is_looked_at_once(void **state)
{
	struct virtq *vq;
	struct bk t;

	bk_open(&t, state, RW);
	vq = &t.k->vq;
	for (uint16_t i = 0; i < 64; i++)
		put(&t, i, IOVA + 60ull * i, 60, W);
	virtq_burst_ahead(vq);
	assert_int_equal(vq->tlb->nr_ahead, 64);
	look(&t, true);
	virtq_burst_use(vq, &t.b, 20);
	virtq_burst_ahead(vq);
	assert_int_equal(vq->tlb->nr_ahead, 44);
	/* All the others may be elsewhere now. */
	forget(&t, IOVA);
	virtq_burst_ahead(vq);
	assert_int_equal(vq->tlb->nr_ahead, 0);
	expect_miss(&t, IOVA + 60ull * 20, IOTLB_WRITE);
	bk_close(&t);
}

#define BOTH(test)                                                                                 \
	{ #test ", split", test, NULL, NULL, (void *)(uintptr_t)&split_kind },                     \
	{                                                                                          \
#test ", packed", test, NULL, NULL, (void *)(uintptr_t)&packed_kind                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(buffers_are_where_the_front_end_said),
		BOTH(a_buffer_over_two_pages_is_two_pieces),
		BOTH(what_may_only_be_read_is_not_written),
		BOTH(what_was_taken_back_is_not_used),
		BOTH(a_burst_ends_before_what_is_not_known),
		BOTH(what_is_known_ahead_is_looked_at_once),
	};

	return cmocka_run_group_tests_name("virtq_burst_tlb", tests, NULL, NULL);
}
