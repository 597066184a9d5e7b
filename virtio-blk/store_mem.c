/*
 * "mem:SIZE": the disk is memory of this process and is gone with it. Used
 * through store.h; requests are carried out at once, on the ring's loop, so
 * those on whole ranges are kept short by info.range_max_*.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio-blk/store.h"

/* Copied in some milliseconds, during which the loop serves nobody else. */
#define MEM_TRANSFER_MAX (32u << 20)
#define MEM_RANGE_MAX (4u << 20)
#define MEM_RANGES_MAX 16
/* Addresses to grow into. They cost nothing before they are used. */
#define MEM_RESERVE (1ull << 40)

struct mem_store {
	struct store store;
	uint8_t *base; /* never moves */
	uint64_t reserved; /* addresses taken; what is in use of them is accessible */
	uint64_t accessible;
};

static int mem_reserve(struct mem_store *m, uint64_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	m->reserved = max_u64(size, MEM_RESERVE);
	m->base = mmap(NULL, m->reserved, PROT_NONE, flags, -1, 0);
	if (m->base == MAP_FAILED) {
		m->reserved = round_up(size, 4096);
		m->base = mmap(NULL, m->reserved, PROT_NONE, flags, -1, 0);
	}
	if (m->base == MAP_FAILED)
		return -errno;
	if (mprotect(m->base, size, PROT_READ | PROT_WRITE) < 0) {
		int ret = -errno;

		munmap(m->base, m->reserved);
		return ret;
	}
	m->accessible = size;
	return 0;
}

static int mem_open(const struct store_conf *conf, const char *arg, struct store **store, char *err)
{
	uint32_t block_size = conf->block_size ? conf->block_size : 512;
	struct mem_store *m;
	uint64_t size;
	int ret;

	ret = store_parse_size(conf->spec, arg, block_size, &size, err);
	if (ret < 0)
		return ret;
	m = calloc(1, sizeof(*m));
	if (!m)
		return store_fail(err, -ENOMEM, "store '%s': out of memory", conf->spec);
	ret = mem_reserve(m, size);
	if (ret < 0) {
		free(m);
		return store_fail(err, ret, "store '%s': cannot reserve so much memory: %s",
				  conf->spec, strerror(-ret));
	}
	/* A core dump is for what went wrong here, not for a guest's disk. */
	madvise(m->base, m->reserved, MADV_DONTDUMP);
	m->store.info = (struct store_info){
		.size = size,
		.block_size = block_size,
		.physical_block_size = 4096,
		.discard_granularity = 4096,
		.range_max_len = MEM_RANGE_MAX,
		.range_max_nr = MEM_RANGES_MAX,
		.transfer_max = MEM_TRANSFER_MAX,
		.caps = STORE_CAN_RESIZE,
	};
	if (!conf->read_only)
		m->store.info.caps |= STORE_CAN_WRITE | STORE_CAN_DISCARD | STORE_CAN_WRITE_ZEROES |
				      STORE_CAN_SECURE_ERASE;
	*store = &m->store;
	return 0;
}

static void mem_close(struct store *store)
{
	struct mem_store *m = container_of(store, struct mem_store, store);

	munmap(m->base, m->reserved);
	store_closed(store);
}

static int mem_chan_open(struct store *store, struct loop *loop, uint32_t depth,
			 struct store_chan **chan)
{
	struct store_chan *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->store = store;
	*chan = c;
	return 0;
}

static void mem_chan_close(struct store_chan *chan)
{
	free(chan);
}

/* Zero a range; whole pages of it are given back to the system if drop. */
static void mem_zero(struct mem_store *m, uint64_t offset, uint64_t len, bool drop)
{
	uint64_t first = round_up(offset, 4096), end = round_down(offset + len, 4096);

	if (!drop || end <= first || madvise(m->base + first, end - first, MADV_DONTNEED) < 0) {
		memset(m->base + offset, 0, len);
		return;
	}
	memset(m->base + offset, 0, first - offset);
	memset(m->base + end, 0, offset + len - end);
}

static int mem_submit(struct store_chan *chan, struct store_req *req)
{
	struct mem_store *m = container_of(chan->store, struct mem_store, store);
	uint8_t *p = m->base + req->offset;

	switch (req->op) {
	case STORE_READ:
		for (uint32_t i = 0; i < req->nr_iov; p += req->iov[i++].iov_len)
			memcpy(req->iov[i].iov_base, p, req->iov[i].iov_len);
		return 0;
	case STORE_WRITE:
		for (uint32_t i = 0; i < req->nr_iov; p += req->iov[i++].iov_len)
			memcpy(p, req->iov[i].iov_base, req->iov[i].iov_len);
		return 0;
	case STORE_FLUSH:
		return 0;
	case STORE_DISCARD:
		mem_zero(m, req->offset, req->len, true);
		return 0;
	case STORE_WRITE_ZEROES:
		mem_zero(m, req->offset, req->len, req->flags & STORE_REQ_UNMAP);
		return 0;
	case STORE_SECURE_ERASE:
		/* Over-written first: the page's next owner is the kernel. */
		memset(p, 0, req->len);
		mem_zero(m, req->offset, req->len, true);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int mem_resize(struct store *store, uint64_t size, char *err)
{
	struct mem_store *m = container_of(store, struct mem_store, store);
	uint64_t old = store->info.size;

	if (!size)
		return 0;
	if (size > m->reserved)
		return store_fail(err, -ENOSPC, "store '%s': cannot grow beyond %llu bytes",
				  store->spec, (unsigned long long)m->reserved);
	if (size > m->accessible) {
		if (mprotect(m->base, size, PROT_READ | PROT_WRITE) < 0)
			return store_fail(err, -errno, "store '%s': cannot grow: %s", store->spec,
					  strerror(errno));
		m->accessible = size;
	}
	/* What is cut off reads as zeroes if it comes back. Nothing of it is in
	 * use: requests beyond the new size are refused from here on, and one under
	 * way may at worst write to pages that are zeroed when growing again. */
	write_once(&store->info.size, min_u64(old, size));
	if (size > old)
		mem_zero(m, old, size - old, true);
	write_once(&store->info.size, size);
	return 0;
}

const struct store_ops store_mem = {
	.scheme = "mem",
	.immediate = true,
	.open = mem_open,
	.close = mem_close,
	.chan_open = mem_chan_open,
	.chan_close = mem_chan_close,
	.submit = mem_submit,
	.resize = mem_resize,
};
