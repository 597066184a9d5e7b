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

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

static const uint64_t split_kind = KIT_FEATURES, packed_kind = KIT_FEATURES | KIT_PACKED;

static struct kit *open_kind(void **state, uint32_t size)
{
	uint64_t features = *(const uint64_t *)*state;

	return kit_open(features, size, kit_base(features & KIT_PACKED));
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
	static const uint64_t addrs[] = { KIT_BUF, KIT_HOLE,	 UINT64_MAX - 3, KIT_NEXT - 4,
					  0,	   KIT_BUF + 64, KIT_TABLE };
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

/* kit_pop() checks every iovec; the bytes are touched as a device would. */
static void touch(const struct virtq_chain *c)
{
	for (unsigned int i = 0; i < c->out_cnt + c->in_cnt; i++) {
		volatile uint8_t *p = c->iov[i].iov_base;

		p[0] = p[c->iov[i].iov_len - 1];
	}
}

static void serve_while_mutating(struct kit *k, struct mutator *m, const struct kit_buf *bufs,
				 unsigned int nr)
{
	uint16_t id;
	uint32_t len;

	mutator_start(m);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct virtq_chain c;

		kit_put(k, 0, bufs, nr);
		c = kit_pop(k);
		touch(&c);
		virtq_push(&k->vq, c.id, 0);
		virtq_flush(&k->vq);
		assert_true(kit_get(k, &id, &len));
	}
	mutator_stop(m);
	assert_false(k->vq.broken);
	kit_close(k);
}

static void descriptors_rewritten_while_popped_stay_inside_of_memory(void **state)
{
	const struct kit_buf bufs[] = { { KIT_BUF, 16, 0 },
					{ KIT_BUF, 512, W },
					{ KIT_BUF, 1, W } };
	struct kit *k;
	struct mutator m = { .seed = 0x9e3779b97f4a7c15 };

#ifdef UNDER_TSAN
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
	const struct kit_buf table[] = { { KIT_BUF, 16, 0 },
					 { KIT_BUF, 512, W },
					 { KIT_BUF, 1, W } };
	const struct kit_buf buf = { KIT_TABLE, 48, VIRTQ_DESC_F_INDIRECT };
	struct mutator m = { .seed = 0xbf58476d1ce4e5b9 };
	struct kit *k;

#ifdef UNDER_TSAN
	print_message("skipped: a guest's writes are no data race of ours\n");
	skip();
#endif
	k = open_kind(state, 16);
	kit_table(k, KIT_TABLE, table, 3);
	m.target = kit_mem(k, KIT_TABLE);
	m.nr = 3;
	serve_while_mutating(k, &m, &buf, 1);
}

/* Indices, heads and flags too: the ring may break, and must do so alone. */
static void a_ring_rewritten_as_a_whole_breaks_at_worst(void **state)
{
	struct mutator m = { .seed = 0x94d049bb133111eb };
	struct virtq_chain c;
	struct kit *k;

#ifdef UNDER_TSAN
	print_message("skipped: a guest's writes are no data race of ours\n");
	skip();
#endif
	k = open_kind(state, 16);
	m.target = k->packed ? k->desc : kit_mem(k, KIT_DRIVER);
	m.nr = k->packed ? 16 : 3;
	mutator_start(&m);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		if (virtq_pop(&k->vq, &c)) {
			kit_check_iov(k, &c);
			touch(&c);
			virtq_push(&k->vq, c.id, 1);
			virtq_flush(&k->vq);
		}
		if (k->vq.broken) {
			/* Begin anew, as a front-end would. */
			virtq_set_state(&k->vq, VIRTQ_DRAINING);
			virtq_set_state(&k->vq, VIRTQ_STOPPED);
			struct virtq_conf conf = k->vq.conf;

			conf.base = kit_base(k->packed);
			virtq_fini(&k->vq);
			assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
			virtq_set_state(&k->vq, VIRTQ_STARTED);
		}
	}
	mutator_stop(&m);
	kit_close(k);
}

/* --- truncation ----------------------------------------------------------------------- */

/* Pop what is there; the ring breaks within a batch. */
static void pop_until_broken(struct kit *k)
{
	struct virtq_chain c;

	for (unsigned int i = 0; i < 2 * k->size + 1 && !k->vq.broken; i++) {
		if (virtq_pop(&k->vq, &c))
			touch(&c);
	}
	assert_true(read_once(&k->faulted));
	assert_true(k->vq.broken);
	assert_int_equal(kit_drain(k->err_fd), 1);
	kit_pop_none(k);
}

static void a_truncated_file_breaks_the_ring_and_kills_nobody(void **state)
{
	struct kit *k = open_kind(state, 16), *other = open_kind(state, 16);

	/* Here, as the test runner sets its own handler for each test. */
	assert_int_equal(sigbus_init(), 0);
	kit_put_good(k, 0);
	kit_put_good(k, 4);
	kit_put_good(k, 8);
	kit_pop(k);
	assert_int_equal(ftruncate(k->ram_fd, 0), 0);
	pop_until_broken(k);
	virtq_push(&k->vq, 0, 1);
	virtq_flush(&k->vq);
	kit_put_good(other, 8);
	assert_int_equal(kit_pop(other).error, 0);
	kit_complete(other, 8, 513);
	kit_close(other);
	kit_close(k);
}

static void buffers_cut_off_under_a_chain_break_the_ring_next(void **state)
{
	struct kit *k = open_kind(state, 16);
	struct virtq_chain c;

	assert_int_equal(sigbus_init(), 0);
	kit_put_good(k, 0);
	c = kit_pop(k);
	assert_int_equal(ftruncate(k->ram_fd, KIT_TABLE - KIT_RAM), 0);
	memset(c.iov[1].iov_base, 0xff, c.iov[1].iov_len);
	assert_true(read_once(&k->faulted));
	virtq_push(&k->vq, 0, 513);
	virtq_flush(&k->vq);
	pop_until_broken(k);
	kit_close(k);
}

static void an_indirect_table_cut_off_breaks_the_ring(void **state)
{
	const struct kit_buf bufs[] = { { KIT_BUF, 16, 0 }, { KIT_BUF, 1, W } };
	struct kit *k = open_kind(state, 16);

	assert_int_equal(sigbus_init(), 0);
	kit_put_indirect(k, 0, KIT_TABLE, bufs, 2);
	assert_int_equal(ftruncate(k->ram_fd, KIT_TABLE - KIT_RAM), 0);
	pop_until_broken(k);
	kit_close(k);
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
