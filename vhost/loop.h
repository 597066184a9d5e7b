/*
 * Poll threads. A ring belongs to exactly one loop at a time, so the data path
 * has no lock.
 *
 * Theory of operation
 *
 * A turn calls poll() of every ring of the loop, then turn() of every source
 * (a source is what devices share on a loop, such as a queue to the kernel),
 * then runs the work other threads posted. A ring changes between two turns, on
 * its own loop: the control thread posts a loop_ring_op, the loop carries it
 * out and answers through the control thread's event loop. Nothing else crosses
 * threads, and other rings go on meanwhile.
 *
 * Idle: LOOP_BUSY spins for ever. LOOP_ADAPTIVE spins for a while after the
 * last work, then asks the drivers to notify, looks once more, and sleeps on
 * one epoll set of kick descriptors, sources and the wake-up descriptor.
 * LOOP_INTERRUPT sleeps at once. A while is 50 us at most, and 500 us for a loop that
 * is pinned to a CPU nobody else uses (loop_alone.c).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_LOOP_H
#define RINGBOLT_VHOST_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/evloop.h"
#include "iommu/iotlb.h"
#include "vhost/virtq.h"

struct loop;

enum loop_mode {
	LOOP_BUSY,
	LOOP_ADAPTIVE,
	LOOP_INTERRUPT,
	LOOP_MODE_CNT,
};

/* "busy", "adaptive", "interrupt", NULL-terminated. */
extern const char *const loop_mode_names[LOOP_MODE_CNT + 1];

/*
 * Something the rings of a loop share. Embedded in its owner. All calls come
 * from the loop's thread.
 */
struct loop_source {
	/* Once a turn, after the rings: submit what they prepared, complete what is
	 * done (virtq_push; the loop flushes the rings that were pushed to). The
	 * amount of work done; 0 lets the loop come to rest. */
	unsigned int (*turn)(struct loop_source *s);
	/* Requests outside of this process, whose end fd will show. A loop with
	 * any spins for a shorter time. */
	uint32_t nr_pending;
	/* Readable when turn() has something to do, for sleeping; -1 if never.
	 * Must be readable without prior arming. */
	int fd;
	/* true: the loop is about to sleep, and calls turn() once more after this:
	 * fd must show what ends later than that. false: it is awake, fd need not
	 * be kept up. For what would cost each turn something: a queue to
	 * the kernel with deferred work does not make its own descriptor readable, only an
	 * eventfd, and signalling that is only worth it for a sleeper. NULL ok. */
	void (*sleep)(struct loop_source *s, bool asleep);
	/* What no fd can show is looked for after this time at the latest, even if
	 * the loop sleeps; 0: never. sleep(s, true) may change it. */
	uint64_t sleep_max_ns;
	struct loop_source *next; /* the loop's */
};

/* Work for the loop's thread, owned by it until run() is called. */
struct loop_work {
	void (*run)(struct loop_work *w);
	struct loop_work *next;
};

/*
 * A change of one ring. The control thread fills and posts it, the loop carries
 * it out, done() runs on the control thread. Owned by the loop meanwhile.
 */
struct loop_ring_op {
	struct virtq *vq;
	enum {
		/* Put the ring on this loop and start it. */
		LOOP_RING_START,
		/* Copy gm, log, areas, kick_fd, call_fd, err_fd and enabled from conf;
		 * answered when no chain popped under the previous gm is in flight any
		 * more if gm changed, else at once. */
		LOOP_RING_SYNC,
		/* Forget the translations of [drop, drop + drop_len); answered when no
		 * chain that uses any of it is in flight any more. */
		LOOP_RING_DROP,
		/* Pop nothing more, wait for the chains in flight, publish them, take
		 * the ring off the loop. */
		LOOP_RING_STOP,
	} kind;
	struct virtq_conf conf; /* LOOP_RING_SYNC */
	iova_t drop; /* LOOP_RING_DROP */
	uint64_t drop_len; /* in bytes */
	void (*done)(struct loop_ring_op *op);

	/* The loop's and the event loop's. */
	struct loop *loop;
	struct loop_work work;
	struct ev_work answer;
	struct loop_ring_op *next;
	unsigned int epoch;
	int error; /* for done(): LOOP_RING_START: -errno if the kick fd is no good */
};

/* Any thread may read them with counter_read(). */
struct loop_stats {
	uint64_t turns, busy_turns;
	uint64_t sleeps;
	uint64_t busy_ns, idle_ns, sleep_ns; /* wall time by what the loop did */
};

/* What loop_status() saw last: for shares since then. Control thread. */
struct loop_sample {
	uint64_t time_ns, busy_ns;
};

struct loop_conf {
	struct evloop *ev; /* where answers go */
	enum loop_mode mode;
	int cpu; /* to pin to, -1: none */
	/* No thread: the owner calls loop_turn(). For tests and fuzzers. */
	bool manual;
	/* LOOP_ADAPTIVE: how long to spin at most; 0: as the CPU allows. */
	uint32_t spin_max_ns;
	unsigned int index; /* for names: "loop0" */
};

/* The thread runs when this returns. 0 or -errno. Control thread. */
int loop_create(const struct loop_conf *conf, struct loop **loop);
/* Its rings must have been stopped and its sources' owners told. Joins the
 * thread. Accepts NULL. */
void loop_destroy(struct loop *loop);

/* One turn without sleeping, of a manual loop. The work done. */
unsigned int loop_turn(struct loop *loop);

/* Run w on the loop's thread between two turns. Any thread. */
void loop_post(struct loop *loop, struct loop_work *w);
/* Post op; op->loop is the ring's for SYNC and STOP. Control thread. */
void loop_ring_post(struct loop *loop, struct loop_ring_op *op);

/* Operations on a ring without poll() are this loop's from now on; none may be
 * outstanding. Other rings are moved by stopping and starting them. Control
 * thread. */
void loop_ring_rehome(struct virtq *vq, struct loop *to);

/* From the loop's thread (a posted work, for one). A source with an fd < 0 is
 * only called while its nr_pending is not 0 or a ring had work. */
int loop_source_add(struct loop *loop, struct loop_source *s);
void loop_source_del(struct loop *loop, struct loop_source *s);

/* Tell the loop that vq has pushed chains to flush at the end of this turn. For
 * sources that complete requests outside of their ring's poll(). */
void loop_flush_later(struct virtq *vq);

/*
 * Notify the driver of nr ring entries just published (virtq_publish_fence()
 * included), if it wants to hear of them, moderate_ns from now at the latest; see
 * loop_late.c. bytes: what was in them. For rings on which only their loop is; at once
 * if the ring is on none. The ring's loop.
 */
void loop_notify_late(struct virtq *vq, uint16_t nr, uint64_t bytes);

int loop_cpu(const struct loop *loop);
int loop_node(const struct loop *loop);
unsigned int loop_index(const struct loop *loop);
enum loop_mode loop_get_mode(const struct loop *loop);
/* Nobody else uses its CPU, as far as is known. Any thread. */
bool loop_is_alone(const struct loop *loop);
/* Rings placed on the loop. Control thread. */
unsigned int loop_nr_rings(const struct loop *loop);
/* Of those, the ones that make it work: polled and not light. Control thread. */
unsigned int loop_load(const struct loop *loop);
const struct loop_stats *loop_get_stats(const struct loop *loop);
/* The caller's to write. Control thread. */
struct loop_sample *loop_get_sample(struct loop *loop);

#endif
