/*
 * From a descriptor chain to the store and back: the data path of the block
 * device. vblk_poll() is called by the ring's loop once a turn; stores call back
 * when a request ends. Nothing here allocates, waits, or makes a system call.
 *
 * Theory of operation
 *
 * A chain's device-readable part begins with a 16-byte header and its
 * device-writable part ends with a status byte, wherever the driver put the
 * borders between buffers (VIRTIO 1.3, "Message Framing"). Both are cut off;
 * what is left of the part that the request type uses is its data. The header
 * and the ranges of a discard are copied out of guest memory once and only the
 * copies are looked at: the guest may change the originals meanwhile.
 *
 * A request lives in the array entry of its chain's id until virtq_push(). A
 * store that ends every request at once works on the chain's own iovec and on
 * one entry for all, which stays in the cache.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <string.h>

#include "virtio-blk/vblk_internal.h"

/* Chains and bytes popped in a turn: enough to publish used entries in batches,
 * little enough for other rings to get their turn, and for completions to be seen
 * between large requests, whose submission alone takes tens of microseconds. */
#define POLL_BUDGET 32
#define POLL_BYTES (256u << 10)

/* A chain with its header and status cut off. */
struct parts {
	struct iovec *out, *in; /* data: device-readable, device-writable */
	uint32_t nr_out, nr_in;
	uint64_t out_len, in_len;
	uint32_t type;
	uint64_t sector;
};

static uint8_t status_of(int res)
{
	if (likely(!res))
		return VIRTIO_BLK_S_OK;
	return res == -EOPNOTSUPP || res == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

/* Mark in the dirty log what the request wrote to guest memory. */
static void log_written(struct virtq *vq, const struct store_req *io)
{
	for (uint32_t i = 0; io->op == STORE_READ && i < io->nr_iov; i++)
		virtq_log_write(vq, io->iov[i].iov_base, io->iov[i].iov_len);
}

/* The end of every request: status byte, used entry. */
static void vblk_complete(struct vblk_req *req, int res)
{
	struct vblk_ring *ring = req->ring;
	struct virtq *vq = ring->vq;
	uint32_t written = req->written;

	if (unlikely(res)) {
		counter_add(&ring->stats.errors, 1);
		/* The used length counts from the first writable byte on, and of the
		 * data nothing is promised. */
		written = written == 1;
	}
	write_once(req->status, status_of(res));
	/* After the last write: who reads the log may read the page at once. */
	if (unlikely(vq->conf.log)) {
		log_written(vq, &req->io);
		virtq_log_write(vq, req->status, 1);
	}
	virtq_push(vq, req->id, written);
}

/* Its range was checked when it began, and the disk may have shrunk since. */
static void check_overshoot(const struct vblk_req *req)
{
	struct store *store = req->ring->store;

	if (req->io.op == STORE_READ)
		return;
	if (unlikely(req->io.offset + req->io.len > read_once(&store->info.size)) &&
	    store->ops->overshot)
		store->ops->overshot(store);
}

/* struct store_req.done of requests that are one operation of the store. */
static void io_done(struct store_req *io, int res)
{
	struct vblk_req *req = container_of(io, struct vblk_req, io);

	check_overshoot(req);
	vblk_complete(req, res);
	loop_flush_later(req->ring->vq);
}

static void submit(struct vblk_req *req)
{
	int res = req->ring->submit(req->ring->chan, &req->io);

	if (res != STORE_QUEUED)
		vblk_complete(req, res);
}

/* Copy len bytes out of an iovec and cut them off its front. Copied once: what
 * guest memory holds later does not matter. False if there is less. */
static bool take_front(struct iovec **iov, uint32_t *nr, void *dst, size_t len)
{
	uint8_t *to = dst;

	while (len) {
		size_t n;

		if (!*nr)
			return false;
		n = min_u64(len, (*iov)->iov_len);
		memcpy(to, (*iov)->iov_base, n);
		to += n;
		len -= n;
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
		if (!(*iov)->iov_len) {
			(*iov)++;
			(*nr)--;
		}
	}
	/* The compiler must not read guest memory again in place of the copy. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return true;
}

/* Cut the status byte, the last one that can be written, off the chain. NULL if
 * there is none. */
static uint8_t *take_status(struct iovec *iov, uint32_t *nr)
{
	while (likely(*nr)) {
		struct iovec *last = &iov[*nr - 1];

		if (likely(last->iov_len == 1)) {
			--*nr;
			return last->iov_base;
		}
		if (last->iov_len) {
			last->iov_len--;
			return (uint8_t *)last->iov_base + last->iov_len;
		}
		--*nr;
	}
	return NULL;
}

static bool is_aligned(const void *p)
{
	return !((uintptr_t)p % sizeof(uint64_t));
}

/* Split a chain up. False if it is too short or malformed. */
static bool take_apart(const struct virtq_chain *c, struct vblk_req *req, struct parts *p)
{
	struct virtio_blk_req_hdr hdr;

	p->out = c->iov;
	p->nr_out = c->out_cnt;
	p->in = c->iov + c->out_cnt;
	p->nr_in = c->in_cnt;
	req->status = take_status(p->in, &p->nr_in);
	if (unlikely(!req->status || c->error))
		return false;
	if (likely(p->nr_out && p->out->iov_len == sizeof(hdr) && is_aligned(p->out->iov_base))) {
		const uint64_t *words = p->out->iov_base;
		const uint64_t raw[2] = { read_once(&words[0]), read_once(&words[1]) };

		memcpy(&hdr, raw, sizeof(hdr));
		p->out++;
		p->nr_out--;
	} else if (!take_front(&p->out, &p->nr_out, &hdr, sizeof(hdr))) {
		return false;
	}
	p->out_len = c->out_len - sizeof(hdr);
	p->in_len = c->in_len - 1;
	p->type = le32_to_cpu(hdr.type);
	p->sector = le64_to_cpu(hdr.sector);
	return true;
}

/* In the device, and of whole logical blocks? Nothing here can overflow: no
 * size is larger than 2^63. */
static bool range_ok(const struct vblk_ring *ring, uint64_t sector, uint64_t len)
{
	uint64_t size = read_once(&ring->store->info.size);

	return sector <= size >> VIRTIO_BLK_SECTOR_SHIFT &&
	       len <= size - (sector << VIRTIO_BLK_SECTOR_SHIFT) &&
	       !((sector << VIRTIO_BLK_SECTOR_SHIFT | len) & ring->block_mask);
}

static void start_transfer(struct vblk_req *req, const struct parts *p, bool is_write)
{
	struct vblk_ring *ring = req->ring;
	struct iovec *iov = is_write ? p->out : p->in;
	uint32_t nr = is_write ? p->nr_out : p->nr_in;
	uint64_t len = is_write ? p->out_len : p->in_len;

	if (unlikely(!range_ok(ring, p->sector, len) ||
		     (is_write && !(ring->store->info.caps & STORE_CAN_WRITE)) ||
		     len > ring->len_max || (!ring->immediate && nr > VBLK_IOV_MAX))) {
		vblk_complete(req, -EIO);
		return;
	}
	req->io.op = is_write ? STORE_WRITE : STORE_READ;
	req->io.flags = is_write && read_once(&ring->blk->write_through) ? STORE_REQ_FUA : 0;
	req->io.offset = p->sector << VIRTIO_BLK_SECTOR_SHIFT;
	req->io.len = len;
	req->io.nr_iov = nr;
	counter_add(&ring->stats.ops[req->io.op], 1);
	counter_add(is_write ? &ring->stats.written_bytes : &ring->stats.read_bytes, len);
	if (unlikely(!len)) {
		req->io.nr_iov = 0;
		vblk_complete(req, 0);
		return;
	}
	if (ring->immediate) {
		req->io.iov = iov;
	} else if (nr == 1) {
		req->one = *iov;
		req->io.iov = &req->one;
	} else {
		req->io.iov = ring->iov + (size_t)req->id * VBLK_IOV_MAX;
		memcpy(req->io.iov, iov, nr * sizeof(*iov));
	}
	submit(req);
}

static void start_flush(struct vblk_req *req)
{
	counter_add(&req->ring->stats.ops[STORE_FLUSH], 1);
	req->io.op = STORE_FLUSH;
	req->io.flags = 0;
	req->io.offset = 0;
	req->io.len = 0;
	submit(req);
}

static void get_id(struct vblk_req *req, const struct parts *p)
{
	const char *from = req->ring->blk->serial;
	size_t left = VIRTIO_BLK_ID_BYTES;

	for (uint32_t i = 0; i < p->nr_in && left; i++) {
		size_t n = min_u64(left, p->in[i].iov_len);

		memcpy(p->in[i].iov_base, from, n);
		virtq_log_write(req->ring->vq, p->in[i].iov_base, n);
		from += n;
		left -= n;
	}
	/* Up to the status byte only if nothing before it was left as it was. */
	if (p->in_len > VIRTIO_BLK_ID_BYTES)
		req->written = VIRTIO_BLK_ID_BYTES;
	vblk_complete(req, 0);
}

/* --- discard, write zeroes, secure erase --------------------------------- */

/* The ranges' place in the slot. */
static struct virtio_blk_segment *ranges_of(const struct vblk_req *req)
{
	size_t slot = req->ring->immediate ? 0 : req->id;

	return (struct virtio_blk_segment *)(req->ring->iov + slot * VBLK_IOV_MAX);
}

/* Start ranges until one is queued. STORE_QUEUED, or how the request ended. */
static int next_range(struct vblk_req *req)
{
	int res = 0;

	while (!res && req->range_next < req->range_nr) {
		const struct virtio_blk_segment *s = &ranges_of(req)[req->range_next++];

		req->io.offset = le64_to_cpu(s->sector) << VIRTIO_BLK_SECTOR_SHIFT;
		req->io.len = (uint64_t)le32_to_cpu(s->num_sectors) << VIRTIO_BLK_SECTOR_SHIFT;
		req->io.flags &= (uint8_t)~STORE_REQ_UNMAP;
		if (le32_to_cpu(s->flags) & VIRTIO_BLK_SEG_F_UNMAP)
			req->io.flags |= STORE_REQ_UNMAP;
		if (req->io.len)
			res = req->ring->submit(req->ring->chan, &req->io);
	}
	return res;
}

/* struct store_req.done of one range. */
static void range_done(struct store_req *io, int res)
{
	struct vblk_req *req = container_of(io, struct vblk_req, io);

	check_overshoot(req);
	if (!res)
		res = next_range(req);
	if (res == STORE_QUEUED)
		return;
	req->io.done = io_done;
	vblk_complete(req, res);
	loop_flush_later(req->ring->vq);
}

/* 0 if all ranges may be carried out, else -errno. All are looked at before the
 * first is started. */
static int check_ranges(const struct vblk_req *req, enum store_op op)
{
	const struct virtio_blk_segment *s = ranges_of(req);
	uint32_t max = req->ring->store->info.range_max_len >> VIRTIO_BLK_SECTOR_SHIFT;

	for (uint8_t i = 0; i < req->range_nr; i++) {
		uint32_t flags = le32_to_cpu(s[i].flags);
		uint32_t nr = le32_to_cpu(s[i].num_sectors);

		/* VIRTIO 1.3, "Block Device", "Device Operation": UNSUPP for unknown
		 * flags, and for unmap where it has no meaning. */
		if (flags & ~(op == STORE_WRITE_ZEROES ? VIRTIO_BLK_SEG_F_UNMAP : 0))
			return -EOPNOTSUPP;
		if (nr > max || !range_ok(req->ring, le64_to_cpu(s[i].sector),
					  (uint64_t)nr << VIRTIO_BLK_SECTOR_SHIFT))
			return -EIO;
	}
	return 0;
}

static void start_ranges(struct vblk_req *req, struct parts *p, enum store_op op, int feature)
{
	struct vblk_ring *ring = req->ring;
	const struct store_info *info = &ring->store->info;
	uint64_t nr = p->out_len / sizeof(struct virtio_blk_segment);
	int res;

	if (!(ring->vq->conf.features & 1ull << feature)) {
		vblk_complete(req, -EOPNOTSUPP);
		return;
	}
	if (!nr || nr > info->range_max_nr || p->out_len % sizeof(struct virtio_blk_segment) ||
	    !take_front(&p->out, &p->nr_out, ranges_of(req), p->out_len)) {
		vblk_complete(req, -EIO);
		return;
	}
	req->range_nr = (uint8_t)nr;
	req->range_next = 0;
	req->io.op = op;
	/* A discard promises nothing about contents, and so nothing to keep. */
	req->io.flags =
		op != STORE_DISCARD && read_once(&ring->blk->write_through) ? STORE_REQ_FUA : 0;
	res = check_ranges(req, op);
	if (!res) {
		counter_add(&ring->stats.ops[op], 1);
		req->io.done = range_done;
		res = next_range(req);
		if (res == STORE_QUEUED)
			return;
		req->io.done = io_done;
	}
	vblk_complete(req, res);
}

/* --- chains ---------------------------------------------------------------- */

static void bad_chain(struct vblk_ring *ring, struct vblk_req *req)
{
	counter_add(&ring->stats.errors, 1);
	if (req->status) {
		write_once(req->status, VIRTIO_BLK_S_IOERR);
		virtq_log_write(ring->vq, req->status, 1);
	}
	virtq_push(ring->vq, req->id, 0);
}

static void start(struct vblk_ring *ring, const struct virtq_chain *c)
{
	struct vblk_req *req = &ring->req[ring->immediate ? 0 : c->id];
	struct parts p;

	req->id = c->id;
	req->io.nr_iov = 0;
	if (unlikely(!take_apart(c, req, &p))) {
		bad_chain(ring, req);
		return;
	}
	req->written = (uint32_t)min_u64(c->in_len, UINT32_MAX);
	switch (p.type) {
	case VIRTIO_BLK_T_IN:
		start_transfer(req, &p, false);
		break;
	case VIRTIO_BLK_T_OUT:
		start_transfer(req, &p, true);
		break;
	case VIRTIO_BLK_T_FLUSH:
		start_flush(req);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(req, &p);
		break;
	case VIRTIO_BLK_T_DISCARD:
		start_ranges(req, &p, STORE_DISCARD, VIRTIO_BLK_F_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		start_ranges(req, &p, STORE_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES);
		break;
	case VIRTIO_BLK_T_SECURE_ERASE:
		start_ranges(req, &p, STORE_SECURE_ERASE, VIRTIO_BLK_F_SECURE_ERASE);
		break;
	default:
		vblk_complete(req, -EOPNOTSUPP);
		break;
	}
}

void vblk_ring_init(struct vblk_ring *ring)
{
	for (uint32_t i = 0; i < ring->nr_req; i++) {
		ring->req[i].ring = ring;
		ring->req[i].io.done = io_done;
	}
}

unsigned int vblk_poll(struct virtq *vq)
{
	struct vblk_ring *ring = vq->priv;
	struct virtq_chain c;
	unsigned int nr = 0;
	uint64_t bytes = 0;

	while (nr < POLL_BUDGET && bytes < POLL_BYTES && virtq_pop(vq, &c) > 0) {
		bytes += c.out_len + c.in_len;
		start(ring, &c);
		nr++;
	}
	if (nr)
		virtq_flush(vq);
	return nr;
}
