/*
 * Rings and hostile drivers from fuzz bytes: see fuzz_ring.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/fuzz/fuzz_ring.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "vhost/dirty.h"
#include "vhost/virtq_track.h"

static const struct {
	uint64_t gpa, len;
} regions[] = {
	{ FUZZ_RAM, FUZZ_RAM_LEN },
	{ FUZZ_NEXT, FUZZ_NEXT_LEN },
	{ FUZZ_FAR, FUZZ_FAR_LEN },
};

/* --- input ----------------------------------------------------------------------- */

static void take(struct fuzz_input *in, void *to, size_t len)
{
	size_t n = min_u64(len, in->left);

	memset(to, 0, len);
	if (!n)
		return;
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
}

uint8_t fuzz_u8(struct fuzz_input *in)
{
	uint8_t v;

	take(in, &v, sizeof(v));
	return v;
}

uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t v;

	take(in, &v, sizeof(v));
	return v;
}

uint32_t fuzz_u32(struct fuzz_input *in)
{
	uint32_t v;

	take(in, &v, sizeof(v));
	return v;
}

uint64_t fuzz_u64(struct fuzz_input *in)
{
	uint64_t v;

	take(in, &v, sizeof(v));
	return v;
}

uint64_t fuzz_addr(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);

	switch (kind % 16) {
	case 0:
		return FUZZ_NEXT - fuzz_u8(in);
	case 1:
		return FUZZ_HOLE - fuzz_u8(in);
	case 2:
		return FUZZ_FAR + fuzz_u16(in) % FUZZ_FAR_LEN;
	case 3:
		return FUZZ_FAR + FUZZ_FAR_LEN - fuzz_u8(in);
	case 4:
		return UINT64_MAX - fuzz_u8(in);
	case 5:
		return fuzz_u64(in);
	default:
		return FUZZ_RAM + fuzz_u16(in) % FUZZ_RAM_LEN;
	}
}

uint32_t fuzz_len(struct fuzz_input *in)
{
	static const uint32_t lens[] = { 1, 16, 512, 4096, 0, UINT32_MAX, 20, 32 };
	uint8_t kind = fuzz_u8(in);

	if (kind < 128)
		return lens[kind % ARRAY_SIZE(lens)];
	if (kind < 250)
		return 1 + fuzz_u16(in) % 8192;
	return fuzz_u32(in);
}

/* Bytes anywhere in an area. */
static void scribble(struct fuzz_input *in, uint8_t *at, uint64_t len)
{
	uint64_t off = fuzz_u16(in) % len, nr = 1 + fuzz_u8(in) % 16;

	while (nr-- && off < len)
		at[off++] = fuzz_u8(in);
}

/* As another process may have left it, or not: most say that they are valid. */
static void scribble_inflight(struct fuzz_ring *r, struct fuzz_input *in)
{
	uint8_t *at = r->inflight, kind = fuzz_u8(in);

	for (unsigned int i = 0; i < (kind & 7); i++)
		scribble(in, at, min_u64(r->inflight_len, i & 1 ? 64 : UINT64_MAX));
	at[8] = kind & 128 ? at[8] : 1;
}

/* --- the ring --------------------------------------------------------------------- */

/* Shared by all inputs: nothing of it changes what the rings do. */
static struct dirty_log *shared_log(void)
{
	static struct dirty_log *log;
	int fd;

	if (log)
		return log;
	fd = memfd_create("log", MFD_CLOEXEC);
	assert(fd >= 0 && !ftruncate(fd, 64));
	assert(!dirty_log_create(fd, 64, 0, &log));
	return log;
}

static int null_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert(fd >= 0);
	return fd;
}

static void open_memory(struct fuzz_ring *r)
{
	r->gm = calloc(1, sizeof(*r->gm));
	assert(r->gm);
	r->gm->faulted = &r->faulted;
	r->gm->nr = ARRAY_SIZE(regions);
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++) {
		r->mem[i] = calloc(1, regions[i].len);
		assert(r->mem[i]);
		r->gm->range[i] = (struct gmem_range){
			.gpa = regions[i].gpa,
			.end = regions[i].gpa + regions[i].len,
			.host = r->mem[i],
		};
	}
}

static void *area(uint64_t len)
{
	void *p = calloc(1, len);

	assert(p);
	return p;
}

void fuzz_ring_open(struct fuzz_ring *r, struct fuzz_input *in, bool packed, uint64_t more_features)
{
	static const uint32_t split_sizes[] = { 1, 2, 4, 8, 16, 64, 256, 1024 };
	static const uint32_t packed_sizes[] = { 1, 2, 3, 5, 8, 17, 64, 1500 };
	uint8_t kind = fuzz_u8(in), flags = fuzz_u8(in);
	struct virtq_conf conf;

	memset(r, 0, sizeof(*r));
	log_set_level(LOG_LEVEL_ERROR);
	open_memory(r);
	r->packed = packed;
	r->size = (packed ? packed_sizes : split_sizes)[kind % 8];
	r->desc = area(virtq_desc_len(packed, r->size));
	r->driver = area(virtq_driver_len(packed, r->size));
	r->device = area(virtq_device_len(packed, r->size));
	conf = (struct virtq_conf){
		.gm = r->gm,
		.log = flags & 4 ? shared_log() : NULL,
		.features = more_features | 1ull << VIRTIO_F_VERSION_1 |
			    (packed ? 1ull << VIRTIO_F_RING_PACKED : 0) |
			    (flags & 1 ? 1ull << VIRTIO_F_RING_EVENT_IDX : 0) |
			    (flags & 2 ? 1ull << VIRTIO_F_IN_ORDER : 0),
		.desc = r->desc,
		.driver = r->driver,
		.device = r->device,
		.size = r->size,
		.base = packed ? 0x80008000u : 0,
		.kick_fd = -1,
		.call_fd = flags & 8 ? -1 : null_fd(),
		.err_fd = -1,
		.enabled = true,
	};
	if (flags & 16) {
		r->inflight_len = virtq_track_len(packed, r->size);
		r->inflight = area(r->inflight_len);
		conf.inflight = r->inflight;
		conf.inflight_num = r->size;
		if (flags & 32)
			scribble_inflight(r, in);
	}
	r->avail_wrap = true;
	r->vq.name = "fuzz.0";
	assert(!virtq_init(&r->vq, &conf, -1));
	virtq_set_state(&r->vq, VIRTQ_STARTED);
}

static void stop(struct fuzz_ring *r)
{
	assert(!virtq_inflight(&r->vq));
	virtq_set_state(&r->vq, VIRTQ_DRAINING);
	virtq_flush(&r->vq);
	virtq_set_state(&r->vq, VIRTQ_STOPPED);
}

void fuzz_ring_restart(struct fuzz_ring *r)
{
	struct virtq_conf conf = r->vq.conf;

	stop(r);
	conf.base = virtq_base(&r->vq);
	conf.enabled = true;
	virtq_fini(&r->vq);
	/* Only a base outside of the ring is refused, and ours is not. */
	assert(!virtq_init(&r->vq, &conf, -1));
	virtq_set_state(&r->vq, VIRTQ_STARTED);
}

void fuzz_ring_close(struct fuzz_ring *r)
{
	stop(r);
	virtq_fini(&r->vq);
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++)
		free(r->mem[i]);
	free(r->gm);
	free(r->desc);
	free(r->driver);
	free(r->device);
	free(r->inflight);
}

uint8_t *fuzz_ram(struct fuzz_ring *r, uint64_t addr, size_t len)
{
	if (addr < FUZZ_RAM || addr - FUZZ_RAM > FUZZ_RAM_LEN ||
	    len > FUZZ_RAM_LEN - (addr - FUZZ_RAM))
		return NULL;
	return r->mem[0] + (addr - FUZZ_RAM);
}

/* --- the driver --------------------------------------------------------------------- */

static void split_avail(struct fuzz_ring *r, uint16_t head)
{
	struct virtq_avail *avail = r->driver;

	avail->ring[r->avail_idx++ & (r->size - 1)] = cpu_to_le16(head);
	avail->idx = cpu_to_le16(r->avail_idx);
}

static uint16_t packed_avail_flags(const struct fuzz_ring *r)
{
	return r->avail_wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

static void packed_step(struct fuzz_ring *r)
{
	if (++r->avail_idx < r->size)
		return;
	r->avail_idx = 0;
	r->avail_wrap = !r->avail_wrap;
}

void fuzz_ring_put(struct fuzz_ring *r, uint16_t id, const struct fuzz_buf *bufs, unsigned int nr)
{
	struct virtq_desc *split = r->desc;
	struct pvirtq_desc *packed = r->desc;

	for (unsigned int i = 0; i < nr; i++) {
		uint16_t flags = bufs[i].flags | (i + 1 < nr ? VIRTQ_DESC_F_NEXT : 0);

		if (r->packed) {
			packed[r->avail_idx] =
				(struct pvirtq_desc){ cpu_to_le64(bufs[i].addr),
						      cpu_to_le32(bufs[i].len), cpu_to_le16(id),
						      cpu_to_le16(flags | packed_avail_flags(r)) };
			packed_step(r);
			continue;
		}
		split[(id + i) & (r->size - 1)] = (struct virtq_desc){
			cpu_to_le64(bufs[i].addr), cpu_to_le32(bufs[i].len), cpu_to_le16(flags),
			cpu_to_le16((uint16_t)((id + i + 1) & (r->size - 1)))
		};
	}
	if (!r->packed)
		split_avail(r, id);
}

void fuzz_ring_put_indirect(struct fuzz_ring *r, uint16_t id, uint64_t table,
			    const struct fuzz_buf *bufs, unsigned int nr)
{
	const struct fuzz_buf head = { table, nr * 16, VIRTQ_DESC_F_INDIRECT };
	uint8_t *at = fuzz_ram(r, table, nr * 16);

	for (unsigned int i = 0; at && i < nr; i++) {
		uint16_t flags = bufs[i].flags;
		struct virtq_desc d = { cpu_to_le64(bufs[i].addr), cpu_to_le32(bufs[i].len),
					cpu_to_le16(i + 1 < nr ? flags | VIRTQ_DESC_F_NEXT : flags),
					cpu_to_le16((uint16_t)(i + 1)) };
		struct pvirtq_desc p = { d.addr, d.len, cpu_to_le16(id), cpu_to_le16(flags) };

		memcpy(at + i * 16, r->packed ? (void *)&p : (void *)&d, 16);
	}
	fuzz_ring_put(r, id, &head, 1);
}

static unsigned int take_bufs(struct fuzz_input *in, struct fuzz_buf *bufs)
{
	unsigned int nr = 1 + fuzz_u8(in) % FUZZ_CHAIN_MAX, nr_out = fuzz_u8(in) % (nr + 1);

	for (unsigned int i = 0; i < nr; i++) {
		bufs[i] = (struct fuzz_buf){ fuzz_addr(in), fuzz_len(in),
					     i < nr_out ? 0 : VIRTQ_DESC_F_WRITE };
	}
	return nr;
}

static void raw_desc(struct fuzz_ring *r, struct fuzz_input *in)
{
	struct virtq_desc *d = (struct virtq_desc *)r->desc + fuzz_u16(in) % r->size;

	d->addr = cpu_to_le64(fuzz_addr(in));
	d->len = cpu_to_le32(fuzz_len(in));
	/* Named for a split ring; id and flags on a packed one. */
	d->flags = cpu_to_le16(fuzz_u8(in));
	d->next = cpu_to_le16(fuzz_u16(in));
}

static void raw_avail(struct fuzz_ring *r, struct fuzz_input *in)
{
	struct virtq_avail *avail = r->driver;
	struct pvirtq_desc *d = r->desc;

	if (!r->packed) {
		split_avail(r, fuzz_u16(in));
		avail->idx = cpu_to_le16((uint16_t)(r->avail_idx + (int8_t)fuzz_u8(in)));
		return;
	}
	d[r->avail_idx].flags = cpu_to_le16((uint16_t)(fuzz_u8(in) & 0x7f) | packed_avail_flags(r));
	packed_step(r);
}

/* A table of up to all of RAM, its entries alike but for the last one: the only
 * way to more iovecs than there may be. */
static void long_table(struct fuzz_ring *r, struct fuzz_input *in, uint16_t id)
{
	unsigned int nr = 1 + fuzz_u16(in) % (FUZZ_RAM_LEN / 16);
	struct fuzz_buf *bufs = calloc(nr, sizeof(*bufs));
	struct fuzz_buf each = { fuzz_addr(in), fuzz_len(in), fuzz_u8(in) & VIRTQ_DESC_F_WRITE };

	assert(bufs);
	for (unsigned int i = 0; i + 1 < nr; i++)
		bufs[i] = each;
	bufs[nr - 1] = (struct fuzz_buf){ fuzz_addr(in), 1, VIRTQ_DESC_F_WRITE };
	fuzz_ring_put_indirect(r, id, FUZZ_RAM, bufs, nr);
	free(bufs);
}

void fuzz_ring_step(struct fuzz_ring *r, struct fuzz_input *in)
{
	struct fuzz_buf bufs[FUZZ_CHAIN_MAX];
	uint8_t kind = fuzz_u8(in);
	uint16_t id = (uint16_t)(fuzz_u8(in) % r->size);
	unsigned int nr;

	switch (kind % 10) {
	case 0:
	case 1:
		nr = take_bufs(in, bufs);
		fuzz_ring_put(r, id, bufs, (unsigned int)min_u64(nr, r->size));
		break;
	case 2:
		nr = take_bufs(in, bufs);
		fuzz_ring_put_indirect(r, id, FUZZ_RAM + fuzz_u8(in) * 64, bufs, nr);
		break;
	case 3:
		raw_desc(r, in);
		break;
	case 4:
		raw_avail(r, in);
		break;
	case 5:
		scribble(in, r->desc, virtq_desc_len(r->packed, r->size));
		break;
	case 6:
		scribble(in, r->driver, virtq_driver_len(r->packed, r->size));
		break;
	case 7:
		long_table(r, in, id);
		break;
	case 8:
		scribble(in, r->device, virtq_device_len(r->packed, r->size));
		break;
	default:
		scribble(in, r->mem[0], FUZZ_RAM_LEN);
		break;
	}
}

/* --- what must hold ------------------------------------------------------------------ */

static bool in_memory(const struct fuzz_ring *r, const struct iovec *v)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(regions); i++) {
		const uint8_t *p = v->iov_base;

		if (p >= r->mem[i] && p < r->mem[i] + regions[i].len)
			return v->iov_len &&
			       v->iov_len <= regions[i].len - (uint64_t)(p - r->mem[i]);
	}
	return false;
}

void fuzz_check_iov(const struct fuzz_ring *r, const struct iovec *iov, unsigned int nr,
		    uint64_t len)
{
	for (unsigned int i = 0; i < nr; i++) {
		assert(in_memory(r, &iov[i]));
		len -= iov[i].iov_len;
	}
	assert(!len);
}

void fuzz_check_chain(const struct fuzz_ring *r, const struct virtq_chain *c)
{
	assert(c->id < r->size);
	assert(c->out_cnt + c->in_cnt <= VIRTQ_IOV_MAX);
	assert(c->error <= 0);
	assert(c->error || c->out_cnt + c->in_cnt > 0);
	fuzz_check_iov(r, c->iov, c->out_cnt, c->out_len);
	fuzz_check_iov(r, c->iov + c->out_cnt, c->in_cnt, c->in_len);
}
