/*
 * A front-end made from fuzz bytes: see fuzz_front.h. The messages are written
 * out here a second time, apart from tests/frontend, because that one checks
 * what it sends and waits for answers.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/fuzz/fuzz_front.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vhost/vu_spec.h"

#define UVA 0x7fff00000000ull
/* Ring i lies in the first file. */
#define RING_OFF(i) ((i)*0x4000ull)
#define RING_SIZE 16
#define LARGE_SIZE 1024
#define AVAIL_OFF 0x2000
#define USED_OFF 0x3000
#define BUF_OFF 0x8000ull

/* The last size is odd on purpose. */
static const uint64_t mem_lens[FUZZ_MEMS] = { 0x10000, 0x1000, 0x100000, 100 };

/* --- coming and going ------------------------------------------------------------- */

void fuzz_front_open(struct fuzz_front *f)
{
	f->sock = -1;
	f->back = -1;
	for (unsigned int i = 0; i < FUZZ_MEMS; i++) {
		f->mem[i] = memfd_create(FUZZ_MEM_NAME, MFD_CLOEXEC);
		assert(f->mem[i] >= 0 && !ftruncate(f->mem[i], (off_t)mem_lens[i]));
	}
	for (unsigned int i = 0; i < FUZZ_QUEUES; i++)
		f->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

void fuzz_front_close(struct fuzz_front *f)
{
	fuzz_front_leave(f);
	for (unsigned int i = 0; i < FUZZ_MEMS; i++)
		close(f->mem[i]);
	for (unsigned int i = 0; i < FUZZ_QUEUES; i++)
		close(f->kick[i]);
}

void fuzz_front_read(struct fuzz_front *f)
{
	char buf[1024];

	while (f->sock >= 0 && recv(f->sock, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

void fuzz_front_leave(struct fuzz_front *f)
{
	if (f->sock >= 0)
		close(f->sock);
	if (f->back >= 0)
		close(f->back);
	f->sock = -1;
	f->back = -1;
	memset(f->avail_idx, 0, sizeof(f->avail_idx));
}

void fuzz_front_arrive(struct fuzz_front *f)
{
	f->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert(f->sock >= 0);
	if (connect(f->sock, (struct sockaddr *)&f->addr, f->addr_len) < 0) {
		/* So many have come and gone that the backlog is full. */
		assert(errno == EAGAIN);
		fuzz_front_leave(f);
	}
	f->turn(f);
}

/* --- messages -------------------------------------------------------------------------- */

struct message {
	struct vu_hdr hdr;
	union vu_payload payload;
	int fds[12];
	unsigned int nr_fds;
};

/* A descriptor of this kind; the receiver of the message closes it. */
static int make_fd(struct fuzz_front *f, uint8_t kind)
{
	int fds[2];

	switch (kind % 16) {
	case 0:
		/* One that may wait is put aside, and little happens after that. */
		if (!kind)
			return open("/dev/null", O_RDWR | O_CLOEXEC);
		fds[0] = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		return fds[0] >= 0 ? fds[0] : eventfd(0, EFD_CLOEXEC);
	case 1:
		assert(!pipe2(fds, O_CLOEXEC));
		close(fds[0]);
		return fds[1];
	case 2:
		assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
		close(fds[0]);
		return fds[1];
	case 3: /* full, and blocking */
		fds[0] = eventfd(0, EFD_CLOEXEC);
		assert(write(fds[0], &(uint64_t){ UINT64_MAX - 1 }, 8) == 8);
		return fds[0];
	case 4:
	case 5:
	case 6:
	case 7:
		return eventfd(0, EFD_CLOEXEC);
	default:
		return fcntl(f->mem[kind % FUZZ_MEMS], F_DUPFD_CLOEXEC, 0);
	}
}

/* The device's end of a new back-end channel. */
static int make_channel(struct fuzz_front *f)
{
	int fds[2];

	assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
	if (f->back >= 0)
		close(f->back);
	f->back = fds[0];
	return fds[1];
}

static void add_fd(struct message *m, int fd)
{
	assert(fd >= 0 && m->nr_fds < ARRAY_SIZE(m->fds));
	m->fds[m->nr_fds++] = fd;
}

/* Send all or a part of it; fds go with the first byte. */
static void send_message(struct fuzz_front *f, struct message *m, size_t cut)
{
	union {
		char buf[CMSG_SPACE(sizeof(m->fds))];
		struct cmsghdr align;
	} control;
	size_t payload = min_u64(m->hdr.size, sizeof(m->payload));
	struct iovec iov[2] = { { &m->hdr, sizeof(m->hdr) }, { &m->payload, payload } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *cm;

	if (cut < sizeof(m->hdr)) {
		iov[0].iov_len = cut;
		mh.msg_iovlen = 1;
	} else if (cut - sizeof(m->hdr) < payload) {
		iov[1].iov_len = cut - sizeof(m->hdr);
	}
	if (m->nr_fds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = control.buf;
		mh.msg_controllen = CMSG_SPACE(m->nr_fds * sizeof(int));
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(m->nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cm), m->fds, m->nr_fds * sizeof(int));
	}
	/* A full or closed socket loses the message: that is one more input. */
	if (f->sock >= 0)
		(void)!sendmsg(f->sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	for (unsigned int i = 0; i < m->nr_fds; i++)
		close(m->fds[i]);
	m->nr_fds = 0;
}

static struct vu_mem_region good_region(unsigned int mem)
{
	/* The first two adjacent in guest addresses, the third far away. */
	static const uint64_t gpas[FUZZ_MEMS] = { 0, 0x10000, 0x40000000, 0x80000000 };

	return (struct vu_mem_region){ gpas[mem], mem_lens[mem], UVA + gpas[mem], 0 };
}

static struct vu_mem_region take_region(struct fuzz_input *in)
{
	struct vu_mem_region r = good_region(fuzz_u8(in) % FUZZ_MEMS);
	uint8_t kind = fuzz_u8(in);

	if (kind < 160)
		return r;
	if (kind & 1)
		r.gpa = kind & 32 ? fuzz_u64(in) : fuzz_u16(in);
	if (kind & 2)
		r.size = kind & 32 ? fuzz_u64(in) : fuzz_u16(in);
	if (kind & 4)
		r.uva = kind & 32 ? fuzz_u64(in) : UVA + fuzz_u16(in);
	if (kind & 8)
		r.mmap_offset = kind & 32 ? fuzz_u64(in) : fuzz_u16(in);
	return r;
}

static struct vu_vring_addr ring_addr(unsigned int index)
{
	uint64_t at = UVA + RING_OFF(index);

	return (struct vu_vring_addr){ .index = index,
				       .desc = at,
				       .avail = at + AVAIL_OFF,
				       .used = at + USED_OFF,
				       .log = RING_OFF(index) + USED_OFF };
}

static uint64_t take_features(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);
	uint64_t features = 1ull << VIRTIO_F_VERSION_1;

	if (kind >= 240)
		return fuzz_u64(in);
	features |= kind & 1 ? 1ull << VHOST_USER_F_PROTOCOL_FEATURES : 0;
	features |= kind & 2 ? 1ull << VIRTIO_F_RING_PACKED : 0;
	features |= kind & 4 ? 1ull << VIRTIO_F_RING_EVENT_IDX : 0;
	features |= kind & 8 ? 1ull << VHOST_F_LOG_ALL : 0;
	features |= kind & 16 ? 1ull << VIRTIO_F_RING_INDIRECT_DESC : 0;
	features |= kind & 32 ? 1ull << VIRTIO_F_ACCESS_PLATFORM : 0;
	return features;
}

static uint64_t offered_protocol(uint8_t kind)
{
	uint64_t all =
		1ull << VHOST_USER_PROTOCOL_F_MQ | 1ull << VHOST_USER_PROTOCOL_F_LOG_SHMFD |
		1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK |
		1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_CONFIG |
		1ull << VHOST_USER_PROTOCOL_F_RESET_DEVICE |
		1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS |
		1ull << VHOST_USER_PROTOCOL_F_STATUS | 1ull << VHOST_USER_PROTOCOL_F_RARP |
		1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD | 1ull << VHOST_USER_PROTOCOL_F_MTU;

	return kind & 1 ? all & ~(1ull << (kind >> 4)) : all;
}

/*
 * The virtual IOMMU: rings are where the front-end has them, so that the same
 * addresses do with and without; buffers are where the guest has them. PAGES of
 * either, with one behind the end of the first file.
 */
#define PAGE 0x1000ull
#define PAGES 18

static uint64_t good_uaddr(uint64_t iova)
{
	return iova >= UVA ? iova : UVA + iova;
}

static struct vu_iotlb_msg take_iotlb(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in), page = fuzz_u8(in) % PAGES, spoil;
	struct vu_iotlb_msg m = {
		.iova = (kind & 1 ? UVA : 0) + page * PAGE,
		.size = PAGE << (kind >> 1 & 3),
		.perm = 3,
		.type = kind & 8 ? VHOST_IOTLB_INVALIDATE : VHOST_IOTLB_UPDATE,
	};

	m.uaddr = good_uaddr(m.iova);
	if (kind & 16)
		m.uaddr = UVA + fuzz_u8(in) % PAGES * PAGE;
	if (kind & 32)
		m.perm = fuzz_u8(in) & 3;
	if (kind < 0xc0)
		return m;
	spoil = fuzz_u8(in);
	if (spoil & 1)
		m.iova = spoil & 0x80 ? fuzz_u64(in) : m.iova + fuzz_u16(in);
	if (spoil & 2)
		m.size = spoil & 0x80 ? fuzz_u64(in) : fuzz_u16(in);
	if (spoil & 4)
		m.uaddr = spoil & 0x80 ? fuzz_u64(in) : UVA + fuzz_u16(in);
	if (spoil & 8)
		m.perm = fuzz_u8(in);
	if (spoil & 16)
		m.type = fuzz_u8(in);
	/* To the end of all addresses, or one byte too far. */
	if (spoil & 32)
		m.size = 0 - m.iova + (spoil >> 6 & 1);
	return m;
}

static void fill_state(struct message *m, struct fuzz_input *in)
{
	static const uint32_t nums[] = { RING_SIZE, 1, 0, 3, 1024, 0x80008000, 32768, 65536 };
	uint8_t kind = fuzz_u8(in);

	m->hdr.size = sizeof(m->payload.state);
	m->payload.state.index = fuzz_u8(in) % (FUZZ_QUEUES + 1);
	m->payload.state.num = kind < 250 ? nums[kind % ARRAY_SIZE(nums)] : fuzz_u32(in);
}

static void fill_regions(struct fuzz_front *f, struct message *m, struct fuzz_input *in)
{
	unsigned int nr = fuzz_u8(in) % 10;

	m->payload.mem.nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		struct vu_mem_region r = take_region(in);

		if (i < VHOST_USER_MEM_TABLE_MAX)
			m->payload.mem.region[i] = r;
		add_fd(m, make_fd(f, (uint8_t)(r.gpa ? fuzz_u8(in) : 8)));
	}
	m->hdr.size = (uint32_t)(offsetof(struct vu_mem_table, region) +
				 nr * sizeof(struct vu_mem_region));
}

/* Anywhere in a file, over rings and buffers too: what it says is the input's. */
static struct vu_inflight take_inflight(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);
	struct vu_inflight i = {
		.mmap_size = 0x1000,
		.mmap_offset = fuzz_u16(in) & (kind & 1 ? 0xfff8 : 0xf000),
		.num_queues = FUZZ_QUEUES,
		.queue_size = RING_SIZE,
	};

	if (kind < 160)
		return i;
	if (kind & 2)
		i.mmap_size = kind & 32 ? fuzz_u64(in) : fuzz_u16(in);
	if (kind & 4)
		i.mmap_offset = fuzz_u64(in);
	if (kind & 8)
		i.num_queues = fuzz_u16(in);
	if (kind & 16)
		i.queue_size = fuzz_u16(in);
	return i;
}

static void fill_config(struct message *m, struct fuzz_input *in)
{
	struct vu_config *c = &m->payload.config;
	uint8_t kind = fuzz_u8(in);

	c->offset = kind & 1 ? fuzz_u32(in) : fuzz_u8(in) % 8;
	c->size = kind & 2 ? fuzz_u32(in) : fuzz_u8(in) % 9;
	c->flags = kind >> 6;
	m->hdr.size = (uint32_t)(offsetof(struct vu_config, data) + min_u64(c->size, 256));
}

/* Payload and descriptors of requests about one ring, and for those that have no use here. */
static void fill_ring(struct fuzz_front *f, struct message *m, struct fuzz_input *in)
{
	uint8_t kind;

	switch (m->hdr.request) {
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		fill_state(m, in);
		break;
	case VHOST_USER_SET_VRING_ADDR:
		m->payload.addr = ring_addr(fuzz_u8(in) % (FUZZ_QUEUES + 1));
		kind = fuzz_u8(in);
		if (kind & 1)
			m->payload.addr.desc += fuzz_u16(in);
		if (kind & 2)
			m->payload.addr.avail = kind & 16 ? fuzz_u64(in) : UVA + fuzz_u16(in);
		if (kind & 4)
			m->payload.addr.used = kind & 16 ? fuzz_u64(in) : UVA + fuzz_u16(in);
		m->payload.addr.flags = kind >> 6;
		m->hdr.size = sizeof(m->payload.addr);
		break;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		kind = fuzz_u8(in);
		m->payload.u64 = kind % (FUZZ_QUEUES + 1) | (kind & 64 ? VHOST_USER_VRING_NOFD : 0);
		if (!(kind & 64))
			add_fd(m, make_fd(f, fuzz_u8(in)));
		break;
	default:
		m->payload.u64 = fuzz_u8(in);
		break;
	}
}

/* The payload and descriptors a request should have, with values of the input's. */
static void fill(struct fuzz_front *f, struct message *m, struct fuzz_input *in)
{
	uint8_t kind;

	m->hdr.size = sizeof(m->payload.u64);
	switch (m->hdr.request) {
	case VHOST_USER_SET_FEATURES:
		m->payload.u64 = take_features(in);
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		m->payload.u64 = offered_protocol(fuzz_u8(in));
		break;
	case VHOST_USER_SET_MEM_TABLE:
		fill_regions(f, m, in);
		break;
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		m->payload.single.region = take_region(in);
		m->hdr.size = sizeof(m->payload.single);
		if (m->hdr.request == VHOST_USER_ADD_MEM_REG)
			add_fd(m, make_fd(f, fuzz_u8(in)));
		break;
	case VHOST_USER_SET_LOG_BASE:
		m->payload.log =
			(struct vu_log){ fuzz_u16(in), fuzz_u8(in) & 1 ? fuzz_u64(in) : 0 };
		m->hdr.size = sizeof(m->payload.log);
		add_fd(m, make_fd(f, fuzz_u8(in)));
		break;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		fill_config(m, in);
		break;
	case VHOST_USER_SET_LOG_FD:
		m->hdr.size = 0;
		add_fd(m, make_fd(f, fuzz_u8(in)));
		break;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		kind = fuzz_u8(in);
		m->hdr.size = 0;
		add_fd(m, kind & 64 ? make_channel(f) : make_fd(f, kind));
		break;
	case VHOST_USER_IOTLB_MSG:
		m->payload.iotlb = take_iotlb(in);
		m->hdr.size = sizeof(m->payload.iotlb);
		break;
	case VHOST_USER_GET_INFLIGHT_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
		m->payload.inflight = take_inflight(in);
		m->hdr.size = sizeof(m->payload.inflight);
		if (m->hdr.request == VHOST_USER_SET_INFLIGHT_FD)
			add_fd(m, make_fd(f, fuzz_u8(in)));
		break;
	case VHOST_USER_SEND_RARP:
	case VHOST_USER_NET_SET_MTU:
		m->payload.u64 = fuzz_u8(in) & 1 ? fuzz_u16(in) : fuzz_u64(in);
		break;
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_GET_STATUS:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_RESET_DEVICE:
		m->hdr.size = 0;
		break;
	default:
		fill_ring(f, m, in);
		break;
	}
}

static void say_request(struct fuzz_front *f, struct fuzz_input *in, uint32_t request)
{
	struct message m = { .hdr = { .request = request } };
	uint8_t kind = fuzz_u8(in);
	size_t cut = SIZE_MAX;

	m.hdr.flags = VHOST_USER_VERSION | (kind & 1 ? VHOST_USER_NEED_REPLY : 0);
	fill(f, &m, in);
	/* One in four is spoilt in one way or another. */
	if ((kind & 0xc0) == 0xc0) {
		switch (kind >> 1 & 7) {
		case 0:
			m.hdr.size = fuzz_u16(in);
			break;
		case 1:
			m.hdr.flags = fuzz_u32(in);
			break;
		case 2:
			cut = fuzz_u8(in) % 300;
			break;
		case 3:
			m.hdr.request = fuzz_u32(in);
			break;
		case 4:
			memset((char *)&m.payload + fuzz_u8(in), fuzz_u8(in), 8);
			break;
		case 5:
			while (m.nr_fds)
				close(m.fds[--m.nr_fds]);
			break;
		default:
			for (unsigned int n = fuzz_u8(in) % 12; m.nr_fds < n;)
				add_fd(&m, make_fd(f, fuzz_u8(in)));
			break;
		}
	}
	send_message(f, &m, cut);
}

void fuzz_front_message(struct fuzz_front *f, struct fuzz_input *in)
{
	say_request(f, in, fuzz_u8(in) % 48);
}

void fuzz_front_iotlb(struct fuzz_front *f, struct fuzz_input *in)
{
	say_request(f, in, VHOST_USER_IOTLB_MSG);
}

/* --- a front-end that behaves ------------------------------------------------------------ */

static void say_u64(struct fuzz_front *f, uint32_t request, uint64_t value, int fd)
{
	struct message m = { .hdr = { request, VHOST_USER_VERSION, sizeof(uint64_t) },
			     .payload.u64 = value };

	if (fd >= 0)
		add_fd(&m, fd);
	send_message(f, &m, SIZE_MAX);
	f->turn(f);
}

static void say_state(struct fuzz_front *f, uint32_t request, uint32_t index, uint32_t num)
{
	struct message m = { .hdr = { request, VHOST_USER_VERSION, sizeof(m.payload.state) },
			     .payload.state = { index, num } };

	send_message(f, &m, SIZE_MAX);
	f->turn(f);
}

static void say_log(struct fuzz_front *f)
{
	struct message m = { .hdr = { VHOST_USER_SET_LOG_BASE, VHOST_USER_VERSION,
				      sizeof(m.payload.log) },
			     .payload.log = { mem_lens[1], 0 } };

	add_fd(&m, fcntl(f->mem[1], F_DUPFD_CLOEXEC, 0));
	send_message(f, &m, SIZE_MAX);
	f->turn(f);
}

/* In the second file from an earlier ring or of nobody, or in the first over all. */
static void say_inflight(struct fuzz_front *f, struct fuzz_input *in)
{
	struct message m = { .hdr = { VHOST_USER_SET_INFLIGHT_FD, VHOST_USER_VERSION,
				      sizeof(m.payload.inflight) },
			     .payload.inflight = take_inflight(in) };

	add_fd(&m, fcntl(f->mem[fuzz_u8(in) & 1 ? 2 : 0], F_DUPFD_CLOEXEC, 0));
	send_message(f, &m, SIZE_MAX);
	f->turn(f);
}

static void say_memory(struct fuzz_front *f)
{
	struct message m = { .hdr = { VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 72 },
			     .payload.mem = { .nr = 2,
					      .region = { good_region(0), good_region(1) } } };

	add_fd(&m, fcntl(f->mem[0], F_DUPFD_CLOEXEC, 0));
	add_fd(&m, fcntl(f->mem[1], F_DUPFD_CLOEXEC, 0));
	send_message(f, &m, SIZE_MAX);
	f->turn(f);
}

static void say_update(struct fuzz_front *f, uint64_t iova, uint64_t size, uint64_t uaddr,
		       uint8_t perm)
{
	struct message m = { .hdr = { VHOST_USER_IOTLB_MSG, VHOST_USER_VERSION,
				      sizeof(m.payload.iotlb) },
			     .payload.iotlb = { .iova = iova,
						.size = size,
						.uaddr = uaddr,
						.perm = perm,
						.type = VHOST_IOTLB_UPDATE } };

	send_message(f, &m, SIZE_MAX);
}

/* A channel to be asked over, and what is in memory told at once or left for
 * questions. */
static void say_iommu(struct fuzz_front *f, struct fuzz_input *in)
{
	struct message m = { .hdr = { VHOST_USER_SET_BACKEND_REQ_FD, VHOST_USER_VERSION, 0 } };
	uint8_t kind = fuzz_u8(in);

	add_fd(&m, make_channel(f));
	send_message(f, &m, SIZE_MAX);
	f->turn(f);
	if (kind & 1)
		say_update(f, UVA, mem_lens[0], UVA, 3);
	if (kind & 2)
		say_update(f, 0, mem_lens[0], UVA, 3);
	/* Some pages of the rings elsewhere than they seem. */
	for (unsigned int i = 0; i < (kind >> 4 & 3); i++)
		say_update(f, UVA + fuzz_u8(in) % 8 * PAGE, PAGE, UVA + fuzz_u8(in) % PAGES * PAGE,
			   3);
	f->turn(f);
}

static bool read_all(int fd, void *buf, size_t len)
{
	return recv(fd, buf, len, MSG_DONTWAIT) == (ssize_t)len;
}

static void reply(struct fuzz_front *f, const struct vu_hdr *asked, uint64_t value)
{
	struct {
		struct vu_hdr hdr;
		uint64_t value;
	} __attribute__((packed)) r = {
		.hdr = { asked->request, VHOST_USER_VERSION | VHOST_USER_REPLY, sizeof(value) },
		.value = value,
	};

	(void)!send(f->back, &r, sizeof(r), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Something else than an answer. */
static void answer_badly(struct fuzz_front *f, struct fuzz_input *in, const struct vu_hdr *asked)
{
	uint8_t garbage[24];

	switch (fuzz_u8(in) % 4) {
	case 0:
		close(f->back);
		f->back = -1;
		break;
	case 1:
		for (size_t i = 0; i < sizeof(garbage); i++)
			garbage[i] = fuzz_u8(in);
		(void)!send(f->back, garbage, sizeof(garbage), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 2:
		for (unsigned int n = fuzz_u8(in) % 80; n; n--)
			reply(f, asked, n & 1);
		break;
	default:
		break;
	}
}

void fuzz_front_answer(struct fuzz_front *f, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);
	struct vu_iotlb_msg m;
	struct vu_hdr hdr;
	uint64_t page;

	if (f->back < 0 || !read_all(f->back, &hdr, sizeof(hdr)) || hdr.size != sizeof(m) ||
	    !read_all(f->back, &m, sizeof(m)))
		return;
	assert(hdr.request == VHOST_USER_BACKEND_IOTLB_MSG);
	if (m.type != VHOST_IOTLB_MISS)
		return;
	/* A question for no access, or for all, is none. */
	assert(m.perm && m.perm <= 3);
	if (kind >= 0xe0) {
		answer_badly(f, in, &hdr);
		return;
	}
	page = m.iova & ~(PAGE - 1);
	if (kind & 1 && hdr.flags & VHOST_USER_NEED_REPLY)
		reply(f, &hdr, kind >> 1 & 1);
	if (kind & 0x1c)
		say_update(f, page, PAGE,
			   kind & 0x20 ? UVA + fuzz_u8(in) % PAGES * PAGE : good_uaddr(page),
			   kind & 0x10 ? 3 : (uint8_t)(kind >> 2 & 3));
	if (!(kind & 1) && hdr.flags & VHOST_USER_NEED_REPLY)
		reply(f, &hdr, !(kind & 0x1c));
}

/* Everything up to running rings. */
void fuzz_front_bring_up(struct fuzz_front *f, struct fuzz_input *in)
{
	uint64_t features = take_features(in) | 1ull << VHOST_USER_F_PROTOCOL_FEATURES;
	uint32_t base = features & 1ull << VIRTIO_F_RING_PACKED ? 0x80008000 : 0;
	/* Of several pages, behind an IOMMU. */
	uint32_t size = features & 1ull << VIRTIO_F_ACCESS_PLATFORM && fuzz_u8(in) & 1 ? LARGE_SIZE
										       : RING_SIZE;

	say_u64(f, VHOST_USER_SET_FEATURES, features, -1);
	say_u64(f, VHOST_USER_SET_PROTOCOL_FEATURES, offered_protocol(0), -1);
	say_memory(f);
	if (features & 1ull << VHOST_F_LOG_ALL)
		say_log(f);
	if (features & 1ull << VIRTIO_F_RING_INDIRECT_DESC)
		say_inflight(f, in);
	if (features & 1ull << VIRTIO_F_ACCESS_PLATFORM)
		say_iommu(f, in);
	for (unsigned int i = 0; i < FUZZ_QUEUES; i++) {
		struct message m = { .hdr = { VHOST_USER_SET_VRING_ADDR, VHOST_USER_VERSION,
					      sizeof(m.payload.addr) },
				     .payload.addr = ring_addr(i) };

		say_state(f, VHOST_USER_SET_VRING_NUM, i, size);
		say_state(f, VHOST_USER_SET_VRING_BASE, i, base);
		send_message(f, &m, SIZE_MAX);
		say_u64(f, VHOST_USER_SET_VRING_CALL, i, make_fd(f, fuzz_u8(in)));
		say_u64(f, VHOST_USER_SET_VRING_KICK, i, fcntl(f->kick[i], F_DUPFD_CLOEXEC, 0));
		say_state(f, VHOST_USER_SET_VRING_ENABLE, i, 1);
	}
}

/* --- shared memory ---------------------------------------------------------------------- */

/* Not mapped here: the file may be shorter than it was, and no write is a fault. */
static void poke(struct fuzz_front *f, uint64_t off, const void *from, size_t len)
{
	(void)!pwrite(f->mem[0], from, len, (off_t)off);
}

/* A chain of one readable and one writable buffer, for a ring of either kind:
 * packed rings are in their first round. */
void fuzz_front_chain(struct fuzz_front *f, struct fuzz_input *in)
{
	unsigned int i = fuzz_u8(in) % FUZZ_QUEUES;
	uint16_t n = f->avail_idx[i]++, at = n * 2 % RING_SIZE;
	le16 head = cpu_to_le16(at), idx = cpu_to_le16(f->avail_idx[i]);
	uint8_t kind = fuzz_u8(in);
	struct virtq_desc d[2] = {
		{ cpu_to_le64(BUF_OFF), cpu_to_le32(16), cpu_to_le16(VIRTQ_DESC_F_NEXT),
		  cpu_to_le16((uint16_t)(at + 1)) },
		/* From the first region into the second. */
		{ cpu_to_le64(0x10000 - 8), cpu_to_le32(16), cpu_to_le16(VIRTQ_DESC_F_WRITE) },
	};
	struct pvirtq_desc p[2] = {
		{ d[0].addr, d[0].len, head, cpu_to_le16(VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_AVAIL) },
		{ d[1].addr, d[1].len, head, cpu_to_le16(VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_AVAIL) },
	};

	poke(f, RING_OFF(i) + at * 16, kind & 1 ? (void *)p : (void *)d, 32);
	poke(f, RING_OFF(i) + AVAIL_OFF + 4 + n % RING_SIZE * 2, &head, 2);
	poke(f, RING_OFF(i) + AVAIL_OFF + 4 + n % LARGE_SIZE * 2, &head, 2);
	poke(f, RING_OFF(i) + AVAIL_OFF + 2, &idx, 2);
	if (kind & 2)
		(void)!write(f->kick[i], &(uint64_t){ 1 }, 8);
}

void fuzz_front_poke(struct fuzz_front *f, struct fuzz_input *in)
{
	uint64_t v = fuzz_u64(in);

	poke(f, fuzz_u16(in), &v, sizeof(v));
}

void fuzz_front_truncate(struct fuzz_front *f, struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);

	(void)!ftruncate(f->mem[kind % FUZZ_MEMS],
			 kind & 4 ? 0 : (off_t)mem_lens[kind % FUZZ_MEMS] * (kind & 8 ? 1 : 2));
}
