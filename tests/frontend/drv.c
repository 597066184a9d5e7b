/*
 * What both kinds of ring share: placing a ring in guest memory, starting and
 * stopping it, indirect tables, notifications, and the order of completions
 * under IN_ORDER. Called by blkdrv, tests and the benchmark's set-up. The layout
 * of a ring is in drv_split.c and drv_packed.c.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/frontend/drv.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"

#define TABLE_LEN (DRV_TABLE_MAX * sizeof(struct virtq_desc))
#define NO_TABLE UINT16_MAX

static int place_ring(struct drv_ring *r, int region)
{
	uint64_t desc_len, driver_len, device_len;

	r->ops->area_len(r->size, &desc_len, &driver_len, &device_len);
	/* A page each: what two sides write does not share a line. */
	r->desc_gpa = fe_alloc(r->fe, region, desc_len, 4096);
	r->driver_gpa = fe_alloc(r->fe, region, driver_len, 4096);
	r->device_gpa = fe_alloc(r->fe, region, device_len, 4096);
	if (!r->desc_gpa || !r->driver_gpa || !r->device_gpa)
		return -ENOSPC;
	if (r->packed) {
		r->pdesc = fe_ptr(r->fe, r->desc_gpa, desc_len);
		r->driver_event = fe_ptr(r->fe, r->driver_gpa, driver_len);
		r->device_event = fe_ptr(r->fe, r->device_gpa, device_len);
	} else {
		r->desc = fe_ptr(r->fe, r->desc_gpa, desc_len);
		r->avail = fe_ptr(r->fe, r->driver_gpa, driver_len);
		r->used = fe_ptr(r->fe, r->device_gpa, device_len);
	}
	if (r->indirect) {
		r->tables_gpa = fe_alloc(r->fe, region, TABLE_LEN * r->size, 4096);
		if (!r->tables_gpa)
			return -ENOSPC;
	}
	return 0;
}

static int alloc_private(struct drv_ring *r)
{
	r->free_queue = calloc(r->size, sizeof(*r->free_queue));
	r->link = calloc(r->size, sizeof(*r->link));
	r->chain = calloc(r->size, sizeof(*r->chain));
	r->order = calloc(r->size, sizeof(*r->order));
	r->table_free = calloc(r->size, sizeof(*r->table_free));
	r->table_of = calloc(r->size, sizeof(*r->table_of));
	if (!r->free_queue || !r->link || !r->chain || !r->order || !r->table_free || !r->table_of)
		return -ENOMEM;
	for (uint16_t i = 0; i < r->size; i++) {
		drv_free_put(r, i);
		r->table_free[i] = i;
	}
	r->free_cnt = r->size;
	r->table_free_cnt = r->size;
	r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->kick_fd < 0 || r->call_fd < 0 || r->err_fd < 0)
		return -errno;
	return 0;
}

int drv_create(struct drv_ring *r, struct fe *fe, uint32_t index, const struct drv_conf *conf)
{
	int err;

	memset(r, 0, sizeof(*r));
	r->fe = fe;
	r->index = index;
	r->size = conf->size;
	r->packed = fe_has(fe, VIRTIO_F_RING_PACKED);
	r->event_idx = fe_has(fe, VIRTIO_F_RING_EVENT_IDX);
	r->in_order = fe_has(fe, VIRTIO_F_IN_ORDER);
	r->indirect = conf->indirect && fe_has(fe, VIRTIO_F_RING_INDIRECT_DESC);
	r->ops = r->packed ? &drv_packed_ops : &drv_split_ops;
	r->avail_wrap = r->used_wrap = true;
	r->kick_fd = r->call_fd = r->err_fd = -1;
	err = alloc_private(r);
	if (!err)
		err = place_ring(r, conf->region);
	if (err) {
		drv_destroy(r);
		return err;
	}
	drv_notify(r, false);
	return 0;
}

void drv_destroy(struct drv_ring *r)
{
	const int fds[] = { r->kick_fd, r->call_fd, r->err_fd };

	if (!r->fe)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	free(r->free_queue);
	free(r->link);
	free(r->chain);
	free(r->order);
	free(r->table_free);
	free(r->table_of);
	memset(r, 0, sizeof(*r));
}

void drv_set_base(struct drv_ring *r, uint32_t base)
{
	r->ops->set_base(r, base);
	/* The wish was relative to the old place. */
	drv_notify(r, false);
}

/* Behind a virtual IOMMU the front-end does not translate the ring's areas. */
static uint64_t ring_addr(const struct drv_ring *r, uint64_t gpa)
{
	return fe_has(r->fe, VIRTIO_F_ACCESS_PLATFORM) ? fe_dev_addr(r->fe, gpa)
						       : fe_uva(r->fe, gpa);
}

uint32_t drv_used_base(const struct drv_ring *r)
{
	uint32_t half;

	if (!r->packed)
		return le16_to_cpu((le16){ __atomic_load_n(&r->used->idx.wire, __ATOMIC_ACQUIRE) });
	half = r->used_idx | (uint32_t)r->used_wrap << 15;
	return half | half << 16;
}

int drv_start(struct drv_ring *r)
{
	return drv_start_at(r, r->ops->base(r));
}

int drv_start_at(struct drv_ring *r, uint32_t base)
{
	struct fe_vring_addr addr = {
		.index = r->index,
		.desc_uva = ring_addr(r, r->desc_gpa),
		.avail_uva = ring_addr(r, r->driver_gpa),
		.used_uva = ring_addr(r, r->device_gpa),
	};
	int err;

	err = fe_vring_num(r->fe, r->index, r->size);
	if (!err)
		err = fe_vring_base(r->fe, r->index, base);
	if (!err)
		err = fe_vring_addr(r->fe, &addr);
	if (!err)
		err = fe_vring_fd(r->fe, FE_SET_VRING_ERR, r->index, r->err_fd);
	if (!err)
		err = fe_vring_fd(r->fe, FE_SET_VRING_CALL, r->index, r->call_fd);
	if (!err)
		err = fe_vring_fd(r->fe, FE_SET_VRING_KICK, r->index, r->kick_fd);
	if (!err && fe_has(r->fe, FE_F_PROTOCOL_FEATURES))
		err = fe_vring_enable(r->fe, r->index, true);
	return err;
}

int drv_stop(struct drv_ring *r)
{
	uint32_t base, expected = r->ops->base(r);
	int err = fe_get_vring_base(r->fe, r->index, &base);

	if (err)
		return err;
	/* The used half of a packed ring is ahead of ours while we have not reaped;
	 * some back-ends leave it out. */
	if (r->packed && (r->inflight || !(base >> 16)))
		return (base & 0xffff) == (expected & 0xffff) ? 0 : -EPROTO;
	return base == expected ? 0 : -EPROTO;
}

/* Fill an indirect table; its gpa. */
static uint64_t fill_table(struct drv_ring *r, uint16_t table, const struct drv_buf *bufs,
			   unsigned int nr_out, unsigned int nr)
{
	uint64_t gpa = r->tables_gpa + table * TABLE_LEN;
	uint16_t flags;
	void *mem = fe_ptr(r->fe, gpa, TABLE_LEN);

	for (unsigned int i = 0; i < nr; i++) {
		flags = i >= nr_out ? VIRTQ_DESC_F_WRITE : 0;
		if (r->packed) {
			((struct pvirtq_desc *)mem)[i] = (struct pvirtq_desc){
				.addr = cpu_to_le64(fe_dev_addr(r->fe, bufs[i].gpa)),
				.len = cpu_to_le32(bufs[i].len),
				.flags = cpu_to_le16(flags),
			};
			continue;
		}
		if (i + 1 < nr)
			flags |= VIRTQ_DESC_F_NEXT;
		((struct virtq_desc *)mem)[i] = (struct virtq_desc){
			.addr = cpu_to_le64(fe_dev_addr(r->fe, bufs[i].gpa)),
			.len = cpu_to_le32(bufs[i].len),
			.flags = cpu_to_le16(flags),
			.next = cpu_to_le16(i + 1 < nr ? (uint16_t)(i + 1) : 0),
		};
	}
	return gpa;
}

int drv_add(struct drv_ring *r, const struct drv_buf *bufs, unsigned int nr_out, unsigned int nr_in,
	    void *cookie)
{
	unsigned int nr = nr_out + nr_in;
	uint16_t table = NO_TABLE, id;
	struct drv_buf whole;

	if (!nr || nr > DRV_TABLE_MAX)
		return -EINVAL;
	if ((r->indirect ? 1 : nr) > r->free_cnt)
		return -ENOSPC;
	if (r->indirect) {
		table = r->table_free[--r->table_free_cnt];
		whole.gpa = fill_table(r, table, bufs, nr_out, nr);
		whole.len = nr * sizeof(struct virtq_desc);
		id = r->ops->put(r, &whole, 1, 1, whole.gpa);
	} else {
		id = r->ops->put(r, bufs, nr_out, nr, 0);
	}
	r->table_of[id] = table;
	r->chain[id].cookie = cookie;
	r->chain[id].busy = true;
	r->free_cnt -= r->chain[id].nr_desc;
	r->order[r->order_tail++ % r->size] = id;
	r->inflight++;
	return id;
}

int drv_submit(struct drv_ring *r)
{
	return r->ops->publish(r) ? drv_kick(r) : 0;
}

int drv_kick(struct drv_ring *r)
{
	if (fe_has_proto(r->fe, FE_PROTO_INBAND_NOTIFICATIONS)) {
		struct fe_vring_state s = { .index = r->index };

		return fe_request(r->fe, FE_VRING_KICK, &s, sizeof(s), NULL, 0);
	}
	return eventfd_write(r->kick_fd, 1) ? -errno : 0;
}

/* IN_ORDER: one used entry may stand for several chains, the last of which it
 * names. VIRTIO 1.3, "In-order use of descriptors". */
static uint16_t next_in_order(struct drv_ring *r, uint32_t *len)
{
	uint16_t id = r->order[r->order_head++ % r->size];

	r->in_batch = id != r->batch_last;
	*len = r->in_batch ? UINT32_MAX : r->batch_len;
	return id;
}

int drv_reap(struct drv_ring *r, void **cookie, uint32_t *len)
{
	uint16_t id = 0;
	int n;

	if (!r->in_batch) {
		n = r->ops->peek(r, &id, len);
		if (n <= 0)
			return n;
		if (id >= r->size || !r->chain[id].busy)
			return -EPROTO;
		r->batch_last = id;
		r->batch_len = *len;
	}
	if (r->in_order)
		id = next_in_order(r, len);
	r->ops->take(r, id);
	if (r->table_of[id] != NO_TABLE)
		r->table_free[r->table_free_cnt++] = r->table_of[id];
	r->chain[id].busy = false;
	r->free_cnt += r->chain[id].nr_desc;
	r->inflight--;
	*cookie = r->chain[id].cookie;
	return 1;
}

bool drv_has_used(struct drv_ring *r)
{
	uint32_t len;
	uint16_t id;

	return r->in_batch || r->ops->peek(r, &id, &len);
}

int drv_wait(struct drv_ring *r, void **cookie, uint32_t *len)
{
	struct timespec start, now;
	int n;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		for (int spin = 0; spin < 1000; spin++) {
			n = drv_reap(r, cookie, len);
			if (n)
				return n;
			cpu_relax();
		}
		if (r->fe->pump)
			r->fe->pump(r->fe->pump_opaque);
		else
			usleep(20);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
		    r->fe->timeout_ms)
			return -ETIMEDOUT;
	}
}

void drv_notify(struct drv_ring *r, bool on)
{
	r->ops->notify(r, on);
}

uint64_t drv_calls(struct drv_ring *r)
{
	eventfd_t n = 0;

	return eventfd_read(r->call_fd, &n) ? 0 : n;
}

void drv_raw_desc(struct drv_ring *r, uint16_t pos, uint64_t gpa, uint32_t len, uint16_t flags,
		  uint16_t next)
{
	r->desc[pos] = (struct virtq_desc){
		.addr = cpu_to_le64(gpa),
		.len = cpu_to_le32(len),
		.flags = cpu_to_le16(flags),
		.next = cpu_to_le16(next),
	};
}

void drv_raw_avail(struct drv_ring *r, uint16_t pos, uint16_t head)
{
	r->avail->ring[pos % r->size] = cpu_to_le16(head);
}

void drv_raw_avail_idx(struct drv_ring *r, uint16_t idx)
{
	store_release(&r->avail->idx.wire, cpu_to_le16(idx).wire);
}

void drv_raw_packed(struct drv_ring *r, uint16_t pos, uint64_t gpa, uint32_t len, uint16_t id,
		    uint16_t flags, bool wrap)
{
	struct pvirtq_desc *d = &r->pdesc[pos];

	d->addr = cpu_to_le64(gpa);
	d->len = cpu_to_le32(len);
	d->id = cpu_to_le16(id);
	/* The device must not see the flags before the rest. */
	store_release(&d->flags.wire, cpu_to_le16(flags | drv_packed_avail_flags(wrap)).wire);
}
