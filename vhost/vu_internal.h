/*
 * A vhost-user device and its connection. Private to vu_*.c; everything here
 * is the control thread's.
 *
 * Theory of operation
 *
 * A request is received (vu_msg.c), checked against one table (vu_request.c)
 * and handled (vu_request.c, vu_mem.c, vu_ring.c). What touches a running ring
 * cannot be done by the control thread: the ring is its loop's. So a handler
 * posts loop_ring_ops and says VU_PENDING. From then on the device has one
 * operation in progress (struct vu_op): a count of the ring ops not yet
 * answered, a continuation for when there are none left, and the things that
 * rings may still use until then. The socket is not read meanwhile, so there
 * is never a second request, and the message being handled stays in place.
 * The continuation's result is treated as the handler's would have been; it
 * may be VU_PENDING again.
 *
 *   request -> handler ------------------> result -> ack or reply -> next request
 *                 | VU_PENDING                ^
 *                 v                           |
 *              ring ops posted -> answered -> continuation
 *
 * Closing a connection is an operation of the same kind: all rings are stopped,
 * and when the last one has drained everything of the connection is let go,
 * the socket at the very end. If a request is in progress when the device is
 * destroyed, closing begins when that is over.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_VU_INTERNAL_H
#define RINGBOLT_VHOST_VU_INTERNAL_H

#include <sys/types.h>

#include "vhost/dirty.h"
#include "vhost/vhost.h"
#include "vhost/vu_msg.h"
#include "vhost/vu_spec.h"

#define BIT64(n) (1ull << (n))

/* What VHOST_USER_GET_PROTOCOL_FEATURES offers for every device type; some have RARP
 * and MTU, or INFLIGHT_SHMFD too. PAGEFAULT and DEVICE_STATE are not served. */
#define VU_PROTOCOL_FEATURES                                                                       \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |                \
	 BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |       \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) |      \
	 BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                               \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

/* The bits of the feature word that are the protocol's, not the driver's. */
#define VU_VHOST_FEATURES (BIT64(VHOST_F_LOG_ALL) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES))

/*
 * waiting: for a front-end, on the listening socket or by trying to connect.
 * up:      one front-end is connected. Left by vu_conn_close().
 * closing: rings drain; no request is read any more. Left for waiting or ended
 *          when all of the connection has been let go.
 * ended:   there will be no other front-end: the socket that was passed was a
 *          connected one, or the device is being destroyed.
 */
enum vu_conn_state {
	VU_WAITING,
	VU_UP,
	VU_CLOSING,
	VU_ENDED,
	VU_CONN_STATE_CNT,
};

/* What became of a request, or of a step of it. -errno: refused, see
 * vu_request.c for what that means. */
enum vu_result {
	VU_DONE, /* acknowledge it if the front-end wants that */
	VU_REPLY, /* answer with the message as the handler left it */
	VU_PENDING, /* an operation is in progress */
	VU_FAILED, /* a valid request that we could not carry out */
	VU_NOTHING, /* a step that no request waits for */
	VU_IDLE, /* the same, and requests are read again */
};

/*
 * stopped:    on no loop; starts when the front-end has said all that is needed.
 * running:    on a loop, from posting its start to the answer to its stop.
 * suspending: as running, but its stop is posted, because memory that it lies in
 *             is being removed.
 * suspended:  on no loop, position kept; starts when its memory is back.
 * moving:     as running, but between two loops (vu_move.c).
 * failed:     could not be started for a reason of ours. A new attempt or being
 *             stopped ends that.
 * GET_VRING_BASE and every reset lead to stopped from anywhere.
 */
enum vu_ring_state {
	VU_RING_STOPPED,
	VU_RING_RUNNING,
	VU_RING_SUSPENDING,
	VU_RING_SUSPENDED,
	VU_RING_MOVING,
	VU_RING_FAILED,
	VU_RING_STATE_CNT,
};

/*
 * none:   the ring misses no translation.
 * wanted: one is to be asked for as soon as the channel takes it.
 * asked:  the front-end has been asked.
 */
enum vu_miss_state {
	VU_MISS_NONE,
	VU_MISS_WANTED,
	VU_MISS_ASKED,
};

/* Descriptors, driver's and device's area, in this order. */
#define VU_AREAS 3

struct vu_miss {
	enum vu_miss_state state;
	iova_t addr;
	uint32_t perm;
	uint32_t nr; /* to know the reply to an earlier one */
	/* Of a chain: the ring has stalled and is to be told to try again, once. */
	bool stalled;
	/* Asked, and the reply was good, without the update it should come after. */
	bool replied;
};

struct vu_ring {
	_Alignas(CACHE_LINE) struct virtq vq; /* the loop's while running */
	struct loop_ring_op op;
	struct vu_dev *dev;
	unsigned int index;
	char name[VU_NAME_MAX + 8]; /* "vda1.0" */

	/* What the front-end said. */
	struct vu_vring_addr addr; /* if has_addr */
	uint32_t size; /* 0: not said */
	uint32_t base;
	int kick_fd, call_fd, err_fd; /* -1: none */
	bool has_addr;
	bool has_kick; /* a descriptor, or that there is none */
	bool enabled;

	/* Behind a virtual IOMMU: where the areas were found when it started. What
	 * the table forgets for lack of room stays true for a running ring. */
	struct vu_place {
		void *ptr;
		struct gmem_join *join; /* NULL: as it is in a region */
	} areas[VU_AREAS];
	struct vu_miss miss;

	enum vu_ring_state state;
	bool stopping; /* a STOP is posted and not answered: its loop may be done with it */
	bool active; /* as the device was told */
	struct loop *wanted; /* where the operator wants it; NULL: anywhere */
	struct loop *from, *to; /* while moving */
	struct loop_sample sample; /* for status: its busy share since then */
};

/* A region, and which file it is, to know it again. */
struct vu_region {
	struct gmem_region *r;
	dev_t dev;
	ino_t ino;
	unsigned int again; /* times it was added beyond the first: see vu_add_mem_reg() */
};

/* The operation in progress, if then is set. */
struct vu_op {
	unsigned int outstanding; /* ring ops posted, or the device's work, not answered */
	int error; /* the first of them */
	int (*then)(struct vu_dev *dev);
	struct vu_ring *ring; /* the request's, for then() */

	/* Replaced, but in use by rings until they have answered. */
	struct gmem *old_gm;
	struct dirty_log *old_log;
	int old_fd;
	/* The regions before the change, for then() to tell the device. */
	struct vu_region *old_regions;
	unsigned int nr_old_regions;
};

/* The channel of BACKEND_REQ. */
#define VU_EXPECTED_MAX 64
struct vu_backend {
	struct ev_fd w; /* fd -1: none */
	struct vu_chan chan;
	/* Whose replies to misses are to come, oldest first, in a ring. */
	struct vu_expected {
		unsigned int ring;
		uint32_t nr; /* of the miss */
	} expected[VU_EXPECTED_MAX];
	unsigned int first_expected, nr_expected;
};

struct vu_dev {
	/* Constant. */
	char name[VU_NAME_MAX];
	char *socket; /* path, or NULL */
	enum vu_listen_mode mode;
	const struct vu_ops *ops;
	void *priv;
	struct evloop *ev;
	struct loop **loops;
	unsigned int nr_loops;
	unsigned int queues;
	unsigned int queue_size_max; /* 0: what the ring kind allows */
	uint32_t config_len;
	uint64_t feature_mask;
	bool owns_path; /* we created the socket file */

	/* Waiting for a front-end. */
	enum vu_conn_state state;
	struct ev_fd listener; /* fd -1: none */
	struct ev_timer retry; /* VU_CONNECT */
	uint64_t retry_ns;

	/* Its end. */
	bool destroying;
	void (*gone)(void *opaque);
	void *gone_opaque;
	struct ev_work gone_work;

	/* One connection: as at its beginning after vu_dev_forget(). */
	struct ev_fd conn; /* fd -1: none */
	struct vu_chan chan;
	struct fd_aside *aside; /* descriptors that came and may wait; NULL: none */
	struct vu_op op;
	uint64_t features; /* negotiated, with those of vhost */
	uint64_t protocol_features;
	uint8_t status; /* VHOST_USER_SET_STATUS */
	struct gmem *gm; /* NULL: no memory yet */
	struct vu_region *regions; /* of gm */
	unsigned int nr_regions;
	struct dirty_log *log; /* NULL: none */
	struct vu_tracked { /* vu_inflight.c */
		struct gmem_region *r; /* NULL: none */
		unsigned int queues;
		uint32_t size; /* of each, in entries */
	} tracked;
	bool faulted; /* the front-end truncated its memory; SIGBUS handler */
	bool blocked; /* see struct virtq_conf; any thread */
	unsigned int nr_running;
	bool activated; /* ops->activate() was called, ops->deactivate() was not */
	struct vu_backend backend;
	struct iotlb *iotlb; /* NULL: addresses are guest-physical */
	bool config_pending; /* a config change the front-end was not told yet */

	struct vu_ring *rings; /* queues of them */
};

static inline bool vu_has_protocol(const struct vu_dev *dev, unsigned int bit)
{
	return dev->protocol_features & BIT64(bit);
}

static inline bool vu_is_packed(const struct vu_dev *dev)
{
	return dev->features & BIT64(VIRTIO_F_RING_PACKED);
}

/* --- vu_op.c: the operation in progress ---------------------------------- */

/* Post an op of this kind for a ring. SYNC takes the ring's present settings. */
void vu_op_post(struct vu_ring *vr, int kind);
/* Post a DROP. */
void vu_op_post_drop(struct vu_ring *vr, iova_t addr, uint64_t len);
/* One that counts in op.outstanding has been. */
void vu_op_answered(struct vu_dev *dev, int error);
/* When all posted ops have been answered, go on with then(): at once if none
 * was posted. What then() returned, or VU_PENDING. */
int vu_op_wait(struct vu_dev *dev, int (*then)(struct vu_dev *dev));
static inline bool vu_op_in_progress(const struct vu_dev *dev)
{
	return dev->op.then;
}

/* --- vu_ring.c ------------------------------------------------------------ */

void vu_ring_init(struct vu_dev *dev, unsigned int index);
/* Its loop may be using it. */
static inline bool vu_ring_is_on_loop(const struct vu_ring *vr)
{
	return vr->state == VU_RING_RUNNING || vr->state == VU_RING_SUSPENDING ||
	       vr->state == VU_RING_MOVING;
}
/* The only writer of vr->state. */
void vu_ring_set_state(struct vu_ring *vr, enum vu_ring_state state);
/* -EINVAL, logged, if what the front-end said of its areas cannot be. */
int vu_ring_check_addr(const struct vu_ring *vr);
/* Start the ring if nothing is missing any more. A result for its request. */
int vu_ring_try_start(struct vu_ring *vr);
/* For people: a running ring may also be broken. */
const char *vu_ring_state_name(const struct vu_ring *vr);
/* Post a STOP; the caller waits. */
void vu_ring_post_stop(struct vu_ring *vr);
/* The same, and it is suspended afterwards. */
void vu_ring_suspend(struct vu_ring *vr, const char *why);
/* Post a SYNC to every running ring; the caller waits. */
void vu_rings_sync(struct vu_dev *dev);
/* The same for other memory; a ring that is not in it is suspended. */
void vu_rings_switch_memory(struct vu_dev *dev);
/* Post a START to every suspended ring that is in memory; the caller waits. */
void vu_rings_resume(struct vu_dev *dev);
/* Post a STOP to every running ring; the caller waits. */
void vu_rings_stop(struct vu_dev *dev);
/* All rings are stopped: forget what the front-end said about them, but the
 * error descriptors if keep_err. */
void vu_rings_reset(struct vu_dev *dev, bool keep_err);
/* Write to a descriptor of the ring, -1 for none. what: for the log. */
void vu_ring_signal(struct vu_ring *vr, int fd, const char *what);
/* What the ring's loop is to use: NULL, or why its areas cannot be used. */
const char *vu_ring_conf(const struct vu_ring *vr, struct virtq_conf *conf);
/* The answers to START and STOP. */
void vu_ring_started(struct vu_ring *vr, int error);
void vu_ring_stopped(struct vu_ring *vr);
/*
 * Linux's virtio_uml never stops a ring. When a driver goes it disables the
 * rings, and when one comes it sets them up as if they were stopped. So a ring
 * that runs disabled is stopped by what begins such a set-up; nothing is left of
 * it then but its call descriptor, which is said first.
 */
bool vu_ring_is_left(const struct vu_ring *vr);
/* It has stopped. */
void vu_ring_forget(struct vu_ring *vr);
/* Tell the device if whether the ring is active has changed. stopping: a STOP is
 * about to be posted. */
void vu_ring_tell_active(struct vu_ring *vr, bool stopping);

/* --- vu_areas.c: a ring's areas behind a virtual IOMMU ------------------------ */

struct vu_area {
	iova_t addr;
	uint64_t len, align;
	uint32_t perm;
};
void vu_areas_get(const struct vu_ring *vr, struct vu_area a[VU_AREAS]);
/* Does any of them take any of [addr, addr + len)? */
bool vu_areas_overlap(const struct vu_ring *vr, iova_t addr, uint64_t len);
/* All translations are known: find each area and make it one piece. 0, or -errno
 * and *why. Undone by vu_areas_forget(), which may come twice. */
int vu_areas_place(struct vu_ring *vr, const char **why);
void vu_areas_forget(struct vu_ring *vr);
/* Do the places that were found belong to this memory? Regions that stay keep
 * their mapping. */
bool vu_areas_are_in(const struct vu_ring *vr, const struct gmem *gm);

/* --- vu_vring.c: the requests about one ring --------------------------------- */

int vu_set_vring_num(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_addr(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_base(struct vu_dev *dev, struct vu_msg *msg);
int vu_get_vring_base(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_kick(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_call(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_err(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_vring_enable(struct vu_dev *dev, struct vu_msg *msg);

/* The device's part of a ring's set-up, for this loop. 0 or -errno. */
int vu_ring_setup_on(struct vu_ring *vr, struct loop *loop);
/* It could not be put on any loop: its set-up is undone, but for the device's,
 * and it is failed. */
void vu_ring_give_up(struct vu_ring *vr, const char *what, int err);

/* --- vu_move.c ------------------------------------------------------------ */

/* Rings that run elsewhere than wanted go there, if no request or operation is in
 * progress. */
void vu_rings_move(struct vu_dev *dev);

/* --- vu_mem.c ------------------------------------------------------------- */

/* No ring runs: let go of all guest memory and of the log. */
void vu_mem_forget(struct vu_dev *dev);

int vu_set_mem_table(struct vu_dev *dev, struct vu_msg *msg);
int vu_add_mem_reg(struct vu_dev *dev, struct vu_msg *msg);
int vu_rem_mem_reg(struct vu_dev *dev, struct vu_msg *msg);
int vu_get_max_mem_slots(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_log_base(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_log_fd(struct vu_dev *dev, struct vu_msg *msg);

/* --- vu_inflight.c: chains that outlive this process --------------------------- */

int vu_get_inflight_fd(struct vu_dev *dev, struct vu_msg *msg);
int vu_set_inflight_fd(struct vu_dev *dev, struct vu_msg *msg);
/* Where the ring's chains are to be written down: conf->inflight and its size, NULL
 * for nowhere. Returns NULL, or why that cannot be. */
const char *vu_inflight_conf(const struct vu_ring *vr, struct virtq_conf *conf);
/* No ring runs. The driver begins anew, and with it what is said there; or the front-end
 * takes that with it. */
void vu_inflight_reset(struct vu_dev *dev);
void vu_inflight_forget(struct vu_dev *dev);

/* --- vu_backend.c: the channel of BACKEND_REQ ----------------------------- */

int vu_set_backend_req_fd(struct vu_dev *dev, struct vu_msg *msg);
void vu_backend_close(struct vu_dev *dev);
/* Send what is pending, if it may be sent now. */
void vu_backend_kick(struct vu_dev *dev);

/* The front-end is told of an access that its IOMMU forbids. */
void vu_backend_access_failed(struct vu_dev *dev, iova_t addr, uint32_t perm);

/* --- vu_iotlb.c: a virtual IOMMU ------------------------------------------- */

int vu_iotlb_msg(struct vu_dev *dev, struct vu_msg *msg);
/* A driver has chosen, no ring runs. -ENOMEM. */
int vu_iotlb_set_features(struct vu_dev *dev, uint64_t features);
/* Ask for the first address of the ring's areas that is not known; false if there
 * is none. */
bool vu_iotlb_want_areas(struct vu_ring *vr);
/* The work that a stalled ring posts. */
void vu_iotlb_ring_missed(struct ev_work *w);
/* The front-end has replied to the ring's miss. */
void vu_iotlb_replied(struct vu_ring *vr, bool refused);
/* Judge good replies that came without an update, if it cannot come any more. */
void vu_iotlb_settle(struct vu_dev *dev);
/* The ring starts or has stopped. */
void vu_iotlb_forget_miss(struct vu_ring *vr);
/* The ring is on another loop: what could not be told it meanwhile. */
void vu_iotlb_moved(struct vu_ring *vr);
/*
 * Rings may have been stopped: if all are, nothing that was said of addresses is
 * kept. QEMU does not tell of a guest's invalidations while it uses no ring, and
 * the next driver finds other memory at the same addresses.
 */
void vu_iotlb_stopped(struct vu_dev *dev);
/* The region is about to go. */
void vu_iotlb_region_removed(struct vu_dev *dev, const struct gmem_region *r);
void vu_iotlb_forget(struct vu_dev *dev);
json_t *vu_iotlb_status(const struct vu_dev *dev);

/* --- vu_dev.c: the connection ---------------------------------------------- */

/* Stop reading requests, drain, let go, close; then wait for a front-end. */
void vu_conn_close(struct vu_dev *dev, const char *why);
/* Read requests, or send the reply, or do neither: what may be done now. */
void vu_conn_update(struct vu_dev *dev);
/* All that the front-end has sent until now has been carried out. */
bool vu_conn_is_at_rest(const struct vu_dev *dev);
/* The operation in progress is over, with this result. */
void vu_conn_op_over(struct vu_dev *dev, int result);
const char *vu_conn_state_name(const struct vu_dev *dev);

#endif
