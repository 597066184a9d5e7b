/*
 * A vhost-user front-end for tests and benchmarks: it can behave, and it can
 * send anything. Works against any back-end, over a path or a connected socket.
 * Shares no code with vhost/, so that it is a second opinion.
 *
 * Theory of operation
 *
 * One struct fe is one connection with its guest memory. Memory is a list of
 * regions, each a memfd mapped here; addresses the device sees are
 * guest-physical, and fe_ptr() turns them into pointers. The functions below
 * the line "requests" send one well-formed message each and wait for its answer
 * or, where there is none and REPLY_ACK was negotiated, for its acknowledgement.
 * fe_send() and fe_send_raw() send whatever the caller likes.
 *
 * Nothing blocks for ever: every wait ends after fe.timeout_ms. A test whose
 * back-end lives in the same thread sets fe.pump, which is called while waiting.
 *
 * Not thread-safe: one struct fe belongs to one thread at a time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_TESTS_FRONTEND_FE_H
#define RINGBOLT_TESTS_FRONTEND_FE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/frontend/fe_spec.h"
#include "vhost/virtq_spec.h"

#define FE_PAYLOAD_MAX 4096
#define FE_FDS_MAX 253 /* SCM_MAX_FD of the kernel */
#define FE_REGIONS_MAX 512
#define FE_TIMEOUT_MS 10000
/* Behind a virtual IOMMU, I/O virtual addresses are guest-physical plus this. */
#define FE_IOVA_BASE 0x700000000000ull

struct fe_msg {
	struct fe_hdr hdr;
	uint8_t payload[FE_PAYLOAD_MAX];
	int fds[FE_FDS_MAX]; /* owned by whoever holds the message */
	unsigned int nr_fds;
};

struct fe_region {
	bool used; /* this entry is one */
	bool shared; /* the back-end was told */
	int fd; /* owned */
	uint8_t *host; /* mapping of [mmap_offset, mmap_offset + size) */
	uint64_t gpa, uva, size, mmap_offset;
	uint64_t alloc_end; /* bytes handed out by fe_alloc() */
	bool scattered; /* see fe_mem_scatter() */
};

struct fe {
	int sock; /* -1: not connected */
	int timeout_ms;
	int backend_sock; /* our end of the back-end channel, -1 without */
	uint64_t offered, features; /* virtio */
	uint64_t proto_offered, proto;
	struct fe_region region[FE_REGIONS_MAX];
	uint64_t gpa_next; /* where the next region goes by itself */
	/* The virtual IOMMU: what the device may do at a guest address (1 read,
	 * 2 write; 0: not mapped). NULL: everything. */
	uint32_t (*iommu_perm)(void *opaque, uint64_t gpa);
	void *iommu_opaque;
	uint64_t nr_misses; /* answered */
	/* Called about every millisecond while waiting; NULL without. */
	void (*pump)(void *opaque);
	void *pump_opaque;
	bool receiving; /* an answer is awaited: no request can be sent now */
};

/* Zero, no connection, no memory. */
void fe_init(struct fe *fe);
/* Connect to a path; tries again until the timeout while nobody listens. */
int fe_connect(struct fe *fe, const char *path);
/* Use a connected socket; takes it. */
void fe_attach(struct fe *fe, int sock);
/* Close the connection and its back-end channel; memory stays, unshared. */
void fe_disconnect(struct fe *fe);
/* Disconnect and free the memory. Accepts what fe_init() left. */
void fe_close(struct fe *fe);

/* --- raw ----------------------------------------------------------------- */

/* These bytes and descriptors, in one sendmsg(). 0 or -errno. */
int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned int nr_fds);
/* A header with these fields and this payload. */
int fe_send(struct fe *fe, uint32_t request, uint32_t flags, const void *payload, uint32_t len,
	    const int *fds, unsigned int nr_fds);
/* The next message. 0, -ETIMEDOUT, -ECONNRESET at the end of the connection. */
int fe_recv(struct fe *fe, struct fe_msg *msg);
void fe_msg_close_fds(struct fe_msg *msg);
/* True once the back-end has closed the connection; waits for it. */
bool fe_hung_up(struct fe *fe);

/* --- requests: 0 or -errno; -EREMOTEIO: the back-end said no -------------- */

/* A message without an answer of its own; waits for the acknowledgement. */
int fe_request(struct fe *fe, uint32_t request, const void *payload, uint32_t len, const int *fds,
	       unsigned int nr_fds);
/* Send, then receive the answer to it. */
int fe_ask(struct fe *fe, uint32_t request, const void *payload, uint32_t len,
	   struct fe_msg *reply);
int fe_get_u64(struct fe *fe, uint32_t request, uint64_t *value);
int fe_set_u64(struct fe *fe, uint32_t request, uint64_t value);
/* Everything sent before has been handled when this returns. */
int fe_sync(struct fe *fe);

/*
 * Owner, features, protocol features and, if BACKEND_REQ is among them, the
 * back-end channel. What the back-end does not offer is left out. No want_proto at
 * all: an old front-end, which knows of no protocol features.
 */
int fe_negotiate(struct fe *fe, uint64_t want_features, uint64_t want_proto);
static inline bool fe_has(const struct fe *fe, unsigned int bit)
{
	return fe->features >> bit & 1;
}
static inline bool fe_has_proto(const struct fe *fe, enum fe_proto bit)
{
	return fe->proto >> bit & 1;
}

int fe_vring_num(struct fe *fe, uint32_t index, uint32_t num);
int fe_vring_base(struct fe *fe, uint32_t index, uint32_t base);
int fe_vring_addr(struct fe *fe, const struct fe_vring_addr *addr);
/* request: SET_VRING_KICK, CALL or ERR; fd stays the caller's, -1: none. */
int fe_vring_fd(struct fe *fe, uint32_t request, uint32_t index, int fd);
int fe_vring_enable(struct fe *fe, uint32_t index, bool on);
int fe_get_vring_base(struct fe *fe, uint32_t index, uint32_t *base);
int fe_get_config(struct fe *fe, uint32_t offset, void *buf, uint32_t len);
/* Memory for what is in flight of so many queues; the caller's descriptor. Then, or
 * to another back-end: use it. */
int fe_get_inflight(struct fe *fe, uint16_t queues, uint16_t size, struct fe_inflight *inflight,
		    int *fd);
int fe_set_inflight(struct fe *fe, const struct fe_inflight *inflight, int fd);
int fe_set_config(struct fe *fe, uint32_t offset, const void *buf, uint32_t len, uint32_t flags);

/* The next message on the back-end channel, acknowledged if it wants that. */
int fe_backend_recv(struct fe *fe, struct fe_msg *msg, int timeout_ms);

/* The same without acknowledging it, and an acknowledgement. */
int fe_backend_take(struct fe *fe, struct fe_msg *msg, int timeout_ms);
int fe_backend_reply(struct fe *fe, const struct fe_msg *msg, uint64_t value);

/* --- a virtual IOMMU, if ACCESS_PLATFORM was negotiated --------------------- */

/* What rings and descriptors have for a guest address. */
static inline uint64_t fe_dev_addr(const struct fe *fe, uint64_t gpa)
{
	return fe_has(fe, VIRTIO_F_ACCESS_PLATFORM) ? gpa + FE_IOVA_BASE : gpa;
}
/* One message; uva is only read of an update. */
int fe_iotlb(struct fe *fe, uint8_t type, uint64_t iova, uint64_t size, uint64_t uva, uint8_t perm);
/* Tell of [gpa, gpa + len), which lies in one region, and take it back. */
int fe_iommu_map(struct fe *fe, uint64_t gpa, uint64_t len, uint8_t perm);
int fe_iommu_unmap(struct fe *fe, uint64_t gpa, uint64_t len);
/* Answer one miss of the back-end, if there is one within timeout_ms: with an
 * update of its page, or by refusing. 1, 0 if there was none, -errno. */
int fe_iommu_answer(struct fe *fe, int timeout_ms);

/* --- guest memory --------------------------------------------------------- */

/*
 * A new region of size bytes (a multiple of the page size) at the next free
 * guest address; its index or -errno. Not yet known to the back-end.
 */
int fe_mem_new(struct fe *fe, uint64_t size);
/* The same at gpa, starting at mmap_offset of its file. */
int fe_mem_new_at(struct fe *fe, uint64_t gpa, uint64_t size, uint64_t mmap_offset);
/*
 * Make the region what a guest kernel's memory is behind an IOMMU: its pages, a
 * power of two of them, lie elsewhere in guest-physical memory than their
 * addresses say, no two beside each other. Before anything is in it. What one
 * gives to this front-end stays contiguous; fe_phys() tells where it is.
 */
int fe_mem_scatter(struct fe *fe, int index);
/* The guest-physical address that gpa stands for; the same but for scattered
 * regions. */
uint64_t fe_phys(struct fe *fe, uint64_t gpa);
/* Unmap and close; not told to the back-end. */
void fe_mem_free(struct fe *fe, int index);
/* Tell the back-end about all regions that it does not know: ADD_MEM_REG if
 * negotiated, else one SET_MEM_TABLE with all of them. */
int fe_mem_share(struct fe *fe);
/* REM_MEM_REG, or SET_MEM_TABLE without it; the region stays mapped here. */
int fe_mem_unshare(struct fe *fe, int index);
/* size bytes of a region, zeroed at first and never given back: its gpa, or 0
 * if there is no room (no region starts at 0). */
uint64_t fe_alloc(struct fe *fe, int index, uint64_t size, uint64_t align);
/* The pointer for [gpa, gpa + len), NULL if not in one region. */
void *fe_ptr(struct fe *fe, uint64_t gpa, uint64_t len);
/* The address the front-end claims to have it mapped at. */
uint64_t fe_uva(struct fe *fe, uint64_t gpa);

/* xorshift, never 0: for layouts and test data. */
static inline uint32_t fe_random(uint32_t *state)
{
	uint32_t x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

#endif
