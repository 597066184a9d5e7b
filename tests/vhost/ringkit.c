/*
 * Guest memory, a ring and its driver for the ring tests: see ringkit.h. Never
 * includes what is private to the rings, so that it stays a second opinion.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "vhost/dirty.h"

struct dirty_log *rk_log_open(void)
{
	/* A bit for each page below 128 MiB: all but FAR. */
	const uint64_t len = 4096;
	struct dirty_log *log;

	assert_int_equal(dirty_log_create(rk_memfd(len), len, 0, &log), 0);
	return log;
}

void rk_log_close(struct dirty_log *log)
{
	dirty_log_destroy(log);
}

int rk_memfd(uint64_t len)
{
	int fd = memfd_create("ringkit", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

static struct gmem_region *add_region(struct ringkit *k, int fd, uint64_t at, uint64_t len)
{
	struct gmem_region *r = NULL;

	assert_int_equal(
		gmem_region_map(fd, gpa(at), uva(at + RK_UVA_OFF), len, 0, &k->faulted, &r), 0);
	return r;
}

struct ringkit *rk_open_memory(void)
{
	struct ringkit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	/* What a test provokes is logged; its own failures are what counts here. */
	log_set_level(LOG_LEVEL_ERROR);
	k->ram_fd = rk_memfd(RK_RAM_LEN);
	k->region[0] = add_region(k, dup(k->ram_fd), RK_RAM, RK_RAM_LEN);
	k->region[1] = add_region(k, rk_memfd(RK_NEXT_LEN), RK_NEXT, RK_NEXT_LEN);
	k->region[2] = add_region(k, rk_memfd(RK_FAR_LEN), RK_FAR, RK_FAR_LEN);
	assert_int_equal(gmem_create(k->region, 3, &k->faulted, &k->gm), 0);
	k->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	k->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	k->err_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(k->call_fd >= 0 && k->kick_fd >= 0 && k->err_fd >= 0);
	k->vq.name = "ringkit.0";
	return k;
}

uint32_t rk_base(bool packed)
{
	return packed ? 0x80008000u : 0;
}

void rk_driver_reset(struct ringkit *k, bool packed, uint32_t size, uint32_t base)
{
	k->packed = packed;
	k->size = size;
	k->desc = rk_mem(k, RK_DESC);
	k->pdesc = rk_mem(k, RK_DESC);
	k->avail = rk_mem(k, RK_DRIVER);
	k->used = rk_mem(k, RK_DEVICE);
	k->driver_event = rk_mem(k, RK_DRIVER);
	k->device_event = rk_mem(k, RK_DEVICE);
	k->avail_idx = (uint16_t)base;
	k->used_idx = (uint16_t)base;
	if (packed) {
		k->avail_idx = base & 0x7fff;
		k->used_idx = base >> 16 & 0x7fff;
		k->avail_wrap = base >> 15 & 1;
		k->used_wrap = base >> 31;
	}
}

struct virtq_conf rk_conf(const struct ringkit *k, uint64_t features, uint32_t size, uint32_t base)
{
	return (struct virtq_conf){
		.gm = k->gm,
		.features = features,
		.desc = rk_mem(k, RK_DESC),
		.driver = rk_mem(k, RK_DRIVER),
		.device = rk_mem(k, RK_DEVICE),
		.size = size,
		.base = base,
		.kick_fd = k->kick_fd,
		.call_fd = k->call_fd,
		.err_fd = k->err_fd,
		.enabled = true,
	};
}

/* A ring that starts in the middle was used before: its memory shows that. */
static void age_packed_ring(struct ringkit *k)
{
	for (uint32_t i = 0; i < k->size; i++) {
		bool wrap = i < k->used_idx ? k->used_wrap : !k->used_wrap;

		k->pdesc[i].flags = cpu_to_le16(wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0);
	}
}

struct ringkit *rk_open_stopped(uint64_t features, uint32_t size, uint32_t base)
{
	bool packed = features & RK_PACKED;
	struct ringkit *k = rk_open_memory();
	struct virtq_conf conf;

	rk_driver_reset(k, packed, size, base);
	if (packed && base != rk_base(true))
		age_packed_ring(k);
	if (!packed) {
		k->avail->idx = cpu_to_le16((uint16_t)base);
		k->used->idx = cpu_to_le16((uint16_t)base);
	}
	conf = rk_conf(k, features, size, base);
	assert_int_equal(virtq_init(&k->vq, &conf, -1), 0);
	return k;
}

struct ringkit *rk_open(uint64_t features, uint32_t size, uint32_t base)
{
	struct ringkit *k = rk_open_stopped(features, size, base);

	virtq_set_state(&k->vq, VIRTQ_STARTED);
	return k;
}

void rk_close(struct ringkit *k)
{
	if (k->vq.slot) {
		for (uint32_t id = 0; id < k->vq.conf.size; id++) {
			if (k->vq.slot[id].busy && !k->vq.slot[id].done)
				virtq_push(&k->vq, (uint16_t)id, 0);
		}
		assert_int_equal(virtq_inflight(&k->vq), 0);
		if (k->vq.state == VIRTQ_STARTED)
			virtq_set_state(&k->vq, VIRTQ_DRAINING);
		if (k->vq.state == VIRTQ_DRAINING)
			virtq_set_state(&k->vq, VIRTQ_STOPPED);
		virtq_fini(&k->vq);
	}
	gmem_destroy(k->gm);
	for (unsigned int i = 0; i < ARRAY_SIZE(k->region); i++)
		gmem_region_put(k->region[i]);
	close(k->ram_fd);
	close(k->call_fd);
	close(k->kick_fd);
	close(k->err_fd);
	free(k);
}

void *rk_mem(const struct ringkit *k, uint64_t at)
{
	unsigned int hint = 0;
	void *p = gmem_ptr(k->gm, gpa(at), 1, &hint);

	assert_non_null(p);
	return p;
}

/* --- the driver ----------------------------------------------------------- */

static struct virtq_desc split_desc(const struct rk_buf *b, bool last, uint16_t next)
{
	return (struct virtq_desc){
		.addr = cpu_to_le64(b->addr),
		.len = cpu_to_le32(b->len),
		.flags = cpu_to_le16(b->flags | (last ? 0 : VIRTQ_DESC_F_NEXT)),
		.next = cpu_to_le16(next),
	};
}

void rk_avail(struct ringkit *k, uint16_t head)
{
	k->avail->ring[k->avail_idx++ & (k->size - 1)] = cpu_to_le16(head);
	/* Pairs with the device's acquire of idx. */
	store_release(&k->avail->idx.wire, cpu_to_le16(k->avail_idx).wire);
}

static void put_split(struct ringkit *k, uint16_t id, const struct rk_buf *bufs, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t at = (id + i) & (k->size - 1);

		k->desc[at] = split_desc(&bufs[i], i + 1 == nr, (at + 1) & (k->size - 1));
	}
	rk_avail(k, id);
}

static void put_packed(struct ringkit *k, uint16_t id, const struct rk_buf *bufs, unsigned int nr)
{
	struct pvirtq_desc *head = &k->pdesc[k->avail_idx];
	uint16_t head_flags = 0;

	k->nr_desc[id] = (uint16_t)nr;
	for (unsigned int i = 0; i < nr; i++) {
		struct pvirtq_desc *d = &k->pdesc[k->avail_idx];
		uint16_t flags = bufs[i].flags;

		flags |= k->avail_wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
		if (i + 1 < nr)
			flags |= VIRTQ_DESC_F_NEXT;
		d->addr = cpu_to_le64(bufs[i].addr);
		d->len = cpu_to_le32(bufs[i].len);
		d->id = cpu_to_le16(id);
		if (d == head)
			head_flags = flags;
		else
			d->flags = cpu_to_le16(flags);
		if (++k->avail_idx == k->size) {
			k->avail_idx = 0;
			k->avail_wrap = !k->avail_wrap;
		}
	}
	/* Pairs with the device's acquire of the head's flags. */
	store_release(&head->flags.wire, cpu_to_le16(head_flags).wire);
}

void rk_put(struct ringkit *k, uint16_t id, const struct rk_buf *bufs, unsigned int nr)
{
	if (k->packed)
		put_packed(k, id, bufs, nr);
	else
		put_split(k, id, bufs, nr);
}

void rk_table(struct ringkit *k, uint64_t table, const struct rk_buf *bufs, unsigned int nr)
{
	struct virtq_desc *split = rk_mem(k, table);
	struct pvirtq_desc *packed = rk_mem(k, table);

	for (unsigned int i = 0; i < nr; i++) {
		if (!k->packed) {
			split[i] = split_desc(&bufs[i], i + 1 == nr, (uint16_t)(i + 1));
			continue;
		}
		packed[i] = (struct pvirtq_desc){
			.addr = cpu_to_le64(bufs[i].addr),
			.len = cpu_to_le32(bufs[i].len),
			.flags = cpu_to_le16(bufs[i].flags),
		};
	}
}

void rk_put_indirect(struct ringkit *k, uint16_t id, uint64_t table, const struct rk_buf *bufs,
		     unsigned int nr)
{
	const struct rk_buf head = { table, nr * 16, VIRTQ_DESC_F_INDIRECT };

	rk_table(k, table, bufs, nr);
	rk_put(k, id, &head, 1);
}

void rk_put_good(struct ringkit *k, uint16_t id)
{
	const struct rk_buf bufs[] = {
		{ RK_BUF, 16, 0 },
		{ RK_BUF + 0x1000, 512, VIRTQ_DESC_F_WRITE },
		{ RK_BUF + 0x2000, 1, VIRTQ_DESC_F_WRITE },
	};

	rk_put(k, id, bufs, ARRAY_SIZE(bufs));
}

static bool get_split(struct ringkit *k, uint16_t *id, uint32_t *len)
{
	const struct virtq_used_elem *e = &k->used->ring[k->used_idx & (k->size - 1)];

	/* Pairs with the device's release of idx. */
	if (le16_to_cpu((le16){ load_acquire(&k->used->idx.wire) }) == k->used_idx)
		return false;
	k->used_idx++;
	assert_true(le32_to_cpu(e->id) < k->size);
	*id = (uint16_t)le32_to_cpu(e->id);
	*len = le32_to_cpu(e->len);
	return true;
}

static bool get_packed(struct ringkit *k, uint16_t *id, uint32_t *len)
{
	const struct pvirtq_desc *d = &k->pdesc[k->used_idx];
	/* Pairs with the device's release of flags. */
	uint16_t flags = le16_to_cpu((le16){ load_acquire(&d->flags.wire) });

	if (!!(flags & VIRTQ_DESC_F_AVAIL) != k->used_wrap ||
	    !!(flags & VIRTQ_DESC_F_USED) != k->used_wrap)
		return false;
	*id = le16_to_cpu(d->id);
	*len = le32_to_cpu(d->len);
	assert_true(*id < k->size);
	k->used_flags = flags;
	k->used_idx = (uint16_t)(k->used_idx + k->nr_desc[*id]);
	if (k->used_idx >= k->size) {
		k->used_idx = (uint16_t)(k->used_idx - k->size);
		k->used_wrap = !k->used_wrap;
	}
	return true;
}

/* The device's event entry is among the nr that were made available last. */
static bool event_passed(uint16_t event, uint16_t now, uint16_t nr)
{
	return (uint16_t)(now - event - 1) < nr;
}

static bool kick_wanted(const struct ringkit *k, uint16_t nr)
{
	const le16 *avail_event = (const le16 *)&k->used->ring[k->size];
	uint16_t flags, event;

	if (!k->packed && k->vq.event_idx)
		return event_passed(le16_to_cpu((le16){ read_once(&avail_event->wire) }),
				    k->avail_idx, nr);
	if (!k->packed)
		return !(le16_to_cpu((le16){ read_once(&k->used->flags.wire) }) &
			 VIRTQ_USED_F_NO_NOTIFY);
	/* Pairs with the device's release of flags. */
	flags = le16_to_cpu((le16){ load_acquire(&k->device_event->flags.wire) });
	if (flags != PVIRTQ_EVENT_F_DESC)
		return flags != PVIRTQ_EVENT_F_DISABLE;
	event = le16_to_cpu((le16){ read_once(&k->device_event->desc.wire) });
	if (!!(event & PVIRTQ_EVENT_WRAP) == k->avail_wrap)
		return event_passed(event & PVIRTQ_EVENT_OFF_MASK, k->avail_idx, nr);
	return event_passed((uint16_t)((event & PVIRTQ_EVENT_OFF_MASK) - k->size), k->avail_idx,
			    nr);
}

bool rk_kick(struct ringkit *k, uint16_t nr)
{
	const uint64_t one = 1;

	/* What is available is visible before the device's wish is read. Pairs
	 * with the device's fence after it has written that. */
	store_load_fence();
	if (!kick_wanted(k, nr))
		return false;
	assert_int_equal(write(k->kick_fd, &one, sizeof(one)), sizeof(one));
	return true;
}

bool rk_get(struct ringkit *k, uint16_t *id, uint32_t *len)
{
	return k->packed ? get_packed(k, id, len) : get_split(k, id, len);
}

uint64_t rk_drain(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) < 0)
		assert_int_equal(errno, EAGAIN);
	return count;
}

/* --- the device ------------------------------------------------------------ */

struct virtq_chain rk_pop(struct ringkit *k)
{
	struct virtq_chain c = { 0 };

	assert_int_equal(virtq_pop(&k->vq, &c), 1);
	rk_check_iov(k, &c);
	return c;
}

void rk_pop_none(struct ringkit *k)
{
	struct virtq_chain c = { 0 };

	assert_int_equal(virtq_pop(&k->vq, &c), 0);
}

void rk_complete(struct ringkit *k, uint16_t id, uint32_t len)
{
	uint16_t got_id = 0;
	uint32_t got_len = 0;

	assert_false(rk_get(k, &got_id, &got_len));
	virtq_push(&k->vq, id, len);
	assert_false(rk_get(k, &got_id, &got_len));
	virtq_flush(&k->vq);
	assert_true(rk_get(k, &got_id, &got_len));
	assert_int_equal(got_id, id);
	assert_int_equal(got_len, len);
	if (k->packed)
		assert_int_equal(!!(k->used_flags & VIRTQ_DESC_F_WRITE), len > 0);
	assert_false(rk_get(k, &got_id, &got_len));
}

static bool in_memory(const struct ringkit *k, const struct iovec *v)
{
	const uint8_t *p = v->iov_base;

	for (unsigned int i = 0; i < ARRAY_SIZE(k->region); i++) {
		const struct gmem_region *r = k->region[i];

		if (p >= r->host && p < r->host + r->size)
			return v->iov_len && v->iov_len <= r->size - (uint64_t)(p - r->host);
	}
	return false;
}

void rk_check_iov(const struct ringkit *k, const struct virtq_chain *c)
{
	uint64_t out = 0, in = 0;

	assert_true(c->out_cnt + c->in_cnt <= VIRTQ_IOV_MAX);
	assert_true(c->id < k->vq.conf.size);
	for (unsigned int i = 0; i < c->out_cnt + c->in_cnt; i++) {
		assert_true(in_memory(k, &c->iov[i]));
		if (i < c->out_cnt)
			out += c->iov[i].iov_len;
		else
			in += c->iov[i].iov_len;
	}
	assert_int_equal(out, c->out_len);
	assert_int_equal(in, c->in_len);
}
