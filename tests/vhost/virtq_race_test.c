/*
 * Memory that changes while the rings read it: a thread that rewrites
 * descriptors, tables and indices under the pop, and a front-end that cuts its
 * file off. Nothing outside of guest memory may come out, and nothing may die.
 *
 * The rewriting cannot be told from a bug by ThreadSanitizer, since a guest
 * does not share our memory model: skipped there.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "core/sigbus.h"

#define W VIRTQ_DESC_F_WRITE
#define ROUNDS 60000

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

static struct ringkit *open_kind(void **state, uint32_t size)
{
	uint64_t features = *(const uint64_t *)*state;

	return rk_open(features, size, rk_base(features & RK_PACKED));
}

/* --- rewriting ---------------------------------------------------------------------- */

struct mutator {
	pthread_t thread;
	struct virtq_desc *target; /* descriptors it writes to */
	unsigned int nr;
	bool packed, stop;
	uint64_t seed;
};

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* One field of a descriptor, from good to bad and back. */
static void mutate(struct mutator *m)
{
	static const uint64_t addrs[] = { RK_BUF, RK_HOLE,     UINT64_MAX - 3, RK_NEXT - 4,
					  0,	  RK_BUF + 64, RK_TABLE };
	static const uint32_t lens[] = { 8, 0, UINT32_MAX, 16, 0x7fffffff, 64, 8 };
	static const uint16_t flags[] = { 0,
					  VIRTQ_DESC_F_NEXT,
					  W,
					  W | VIRTQ_DESC_F_NEXT,
					  VIRTQ_DESC_F_INDIRECT,
					  VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT,
					  0 };
	uint64_t r = next_random(&m->seed);
	struct virtq_desc *d = &m->target[r % m->nr];
	unsigned int pick = r >> 32 & 0xffff;

	switch (r >> 60 & 3) {
	case 0:
		write_once(&d->addr.wire, cpu_to_le64(addrs[pick % ARRAY_SIZE(addrs)]).wire);
		break;
	case 1:
		write_once(&d->len.wire, cpu_to_le32(lens[pick % ARRAY_SIZE(lens)]).wire);
		break;
	case 2:
		/* The same place holds next (split) and flags (packed): a packed
		 * ring's own flags are left to the driver. */
		if (!m->packed)
			write_once(&d->next.wire, cpu_to_le16((uint16_t)(pick % 20)).wire);
		break;
	default:
		if (!m->packed)
			write_once(&d->flags.wire,
				   cpu_to_le16(flags[pick % ARRAY_SIZE(flags)]).wire);
		break;
	}
}

static void *mutator_main(void *arg)
{
	struct mutator *m = arg;

	while (!load_acquire(&m->stop))
		mutate(m);
	return NULL;
}

static void mutator_start(struct mutator *m)
{
	assert_int_equal(pthread_create(&m->thread, NULL, mutator_main, m), 0);
}

static void mutator_stop(struct mutator *m)
{
	store_release(&m->stop, true);
	pthread_join(m->thread, NULL);
}

/* rk_pop() checks every iovec; the bytes are touched as a device would. */
static void touch(const struct virtq_chain *c)
{
	for (unsigned int i = 0; i < c->out_cnt + c->in_cnt; i++) {
		volatile uint8_t *p = c->iov[i].iov_base;

		p[0] = p[c->iov[i].iov_len - 1];
	}
}

static void serve_while_mutating(struct ringkit *k, struct mutator *m, const struct rk_buf *bufs,
				 unsigned int nr)
{
	uint16_t id;
	uint32_t len;

	mutator_start(m);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct virtq_chain c;

		rk_put(k, 0, bufs, nr);
		c = rk_pop(k);
		touch(&c);
		virtq_push(&k->vq, c.id, 0);
		virtq_flush(&k->vq);
		assert_true(rk_get(k, &id, &len));
	}
	mutator_stop(m);
	assert_false(k->vq.broken);
	rk_close(k);
}

static void descriptors_rewritten_while_popped_stay_inside_of_memory(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_BUF, 1, W } };
	struct ringkit *k;
	struct mutator m = { .seed = 0x9e3779b97f4a7c15 };

#ifdef RK_UNDER_TSAN
	print_message("skipped: a guest's writes are no data race of ours\n");
	skip();
#endif
	k = open_kind(state, 16);
	m.target = k->desc;
	m.nr = 16;
	m.packed = k->packed;
	serve_while_mutating(k, &m, bufs, ARRAY_SIZE(bufs));
}

static void tables_rewritten_while_popped_stay_inside_of_memory(void **state)
{
	const struct rk_buf table[] = { { RK_BUF, 16, 0 }, { RK_BUF, 512, W }, { RK_BUF, 1, W } };
	const struct rk_buf buf = { RK_TABLE, 48, VIRTQ_DESC_F_INDIRECT };
	struct mutator m = { .seed = 0xbf58476d1ce4e5b9 };
	struct ringkit *k;

#ifdef RK_UNDER_TSAN
	print_message("skipped: a guest's writes are no data race of ours\n");
	skip();
#endif
	k = open_kind(state, 16);
	rk_table(k, RK_TABLE, table, 3);
	m.target = rk_mem(k, RK_TABLE);
	m.nr = 3;
	serve_while_mutating(k, &m, &buf, 1);
}

/* Indices, heads and flags too: the ring may break, and must do so alone. */
static void a_ring_rewritten_as_a_whole_breaks_at_worst(void **state)
{
	struct mutator m = { .seed = 0x94d049bb133111eb };
	struct virtq_chain c;
	struct ringkit *k;

#ifdef RK_UNDER_TSAN
	print_message("skipped: a guest's writes are no data race of ours\n");
	skip();
#endif
	k = open_kind(state, 16);
	m.target = k->packed ? k->desc : rk_mem(k, RK_DRIVER);
	m.nr = k->packed ? 16 : 3;
	mutator_start(&m);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		if (virtq_pop(&k->vq, &c)) {
			rk_check_iov(k, &c);
			touch(&c);
			virtq_push(&k->vq, c.id, 1);
			virtq_flush(&k->vq);
		}
		if (k->vq.broken) {
			/* Begin anew, as a front-end would. */
			virtq_set_state(&k->vq, VIRTQ_DRAINING);
			virtq_set_state(&k->vq, VIRTQ_STOPPED);
			struct virtq_conf conf = k->vq.conf;

			conf.base = rk_base(k->packed);
			virtq_fini(&k->vq);
			assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
			virtq_set_state(&k->vq, VIRTQ_STARTED);
		}
	}
	mutator_stop(&m);
	rk_close(k);
}

/* --- truncation ----------------------------------------------------------------------- */

/* Pop what is there; the ring breaks within a batch. */
static void pop_until_broken(struct ringkit *k)
{
	struct virtq_chain c;

	for (unsigned int i = 0; i < 2 * k->size + 1 && !k->vq.broken; i++) {
		if (virtq_pop(&k->vq, &c))
			touch(&c);
	}
	assert_true(read_once(&k->faulted));
	assert_true(k->vq.broken);
	assert_int_equal(rk_drain(k->err_fd), 1);
	rk_pop_none(k);
}

static void a_truncated_file_breaks_the_ring_and_kills_nobody(void **state)
{
	struct ringkit *k = open_kind(state, 16), *other = open_kind(state, 16);

	/* Here, as the test runner sets its own handler for each test. */
	assert_int_equal(sigbus_init(), 0);
	rk_put_good(k, 0);
	rk_put_good(k, 4);
	rk_put_good(k, 8);
	rk_pop(k);
	assert_int_equal(ftruncate(k->ram_fd, 0), 0);
	pop_until_broken(k);
	virtq_push(&k->vq, 0, 1);
	virtq_flush(&k->vq);
	rk_put_good(other, 8);
	assert_int_equal(rk_pop(other).error, 0);
	rk_complete(other, 8, 513);
	rk_close(other);
	rk_close(k);
}

static void buffers_cut_off_under_a_chain_break_the_ring_next(void **state)
{
	struct ringkit *k = open_kind(state, 16);
	struct virtq_chain c;

	assert_int_equal(sigbus_init(), 0);
	rk_put_good(k, 0);
	c = rk_pop(k);
	assert_int_equal(ftruncate(k->ram_fd, RK_TABLE - RK_RAM), 0);
	memset(c.iov[1].iov_base, 0xff, c.iov[1].iov_len);
	assert_true(read_once(&k->faulted));
	virtq_push(&k->vq, 0, 513);
	virtq_flush(&k->vq);
	pop_until_broken(k);
	rk_close(k);
}

static void an_indirect_table_cut_off_breaks_the_ring(void **state)
{
	const struct rk_buf bufs[] = { { RK_BUF, 16, 0 }, { RK_BUF, 1, W } };
	struct ringkit *k = open_kind(state, 16);

	assert_int_equal(sigbus_init(), 0);
	rk_put_indirect(k, 0, RK_TABLE, bufs, 2);
	assert_int_equal(ftruncate(k->ram_fd, RK_TABLE - RK_RAM), 0);
	pop_until_broken(k);
	rk_close(k);
}

#define BOTH(f) { #f " (split)", f, NULL, NULL, (void *)&split_kind }, PACKED_AS(#f " (packed)", f)
#define PACKED_AS(name, f)                                                                         \
	{                                                                                          \
		name, f, NULL, NULL, (void *)&packed_kind                                          \
	}

static const struct CMUnitTest tests[] = {
	BOTH(descriptors_rewritten_while_popped_stay_inside_of_memory),
	BOTH(tables_rewritten_while_popped_stay_inside_of_memory),
	BOTH(a_ring_rewritten_as_a_whole_breaks_at_worst),
	BOTH(a_truncated_file_breaks_the_ring_and_kills_nobody),
	BOTH(buffers_cut_off_under_a_chain_break_the_ring_next),
	BOTH(an_indirect_table_cut_off_breaks_the_ring),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
