/*
 * Capturing what a port takes and gives. capture_frames() is called by the switch
 * on loops while there is a capture; everything else runs on the control thread.
 * Neither ever waits: a loop that finds its queue full counts the frame as lost,
 * and the control thread leaves what the reader does not take in the queues.
 *
 * Theory of operation
 *
 * Each loop has a queue (a lane) of its own with one writer, the loop, and one
 * reader, the control thread: bytes in a ring whose head and tail only grow. A
 * record is a header and the bytes kept, in one piece; where that does not fit
 * before the end of the ring, an empty record fills the rest. The control thread
 * takes records in the order of their times over all lanes. The first record after
 * a rest wakes it; after that it looks by a timer, so that many frames cost few
 * wake-ups.
 *
 * running: the port points to the capture.
 * leaving: it does not any more, but a loop may still be using it.
 * draining: no loop uses it; what is in the queues goes to the reader, then it ends.
 * A reader that has gone skips the draining, and capture_stop() waits for no reader.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/capture.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "core/atomic.h"
#include "core/cpu.h"
#include "core/fd.h"
#include "core/log.h"
#include "virtio-net/pcapng.h"

#define PROGRAM "ringbolt-net"
#define RING_SIZE (2u << 20) /* bytes for each loop, a power of two */
#define RECORD_ALIGN 32 /* so that a header always fits before the end */
#define OUT_SIZE (256u << 10) /* bytes on their way to the reader */
#define LOOK_NS 2000000 /* between two looks while frames come */
#define ROUNDS_MAX 16 /* of filling the buffer, before others get their turn */
/* Of the longest frame, and a tag that the switch put into it. */
#define SNAPLEN_MAX (FRAME_LEN_MAX + VLAN_TAG_LEN)

enum capture_state {
	CAPTURE_RUNNING,
	CAPTURE_LEAVING,
	CAPTURE_DRAINING,
};

struct record {
	uint32_t size; /* of all of it, a multiple of RECORD_ALIGN */
	uint32_t cap_len;
	uint32_t orig_len; /* 0: it only fills up the ring */
	uint32_t dir; /* enum capture_dir */
	uint64_t time_ns;
	uint64_t lost; /* by this lane, up to this record */
};
static_assert(sizeof(struct record) == RECORD_ALIGN, "a header is one unit");

struct lane {
	/* The loop's. */
	_Alignas(CACHE_LINE) uint64_t head;
	uint64_t tail_seen;
	uint64_t lost; /* any thread may read it */
	uint64_t passed; /* the filter */
	/* The control thread's. */
	_Alignas(CACHE_LINE) uint64_t tail;
	uint64_t lost_told; /* in the file */
	uint8_t *ring; /* RING_SIZE */
	uint8_t *whole; /* SNAPLEN_MAX, for the filter: a frame in one piece */
};

struct capture {
	struct sw_port *port; /* while running or leaving */
	struct vswitch *sw;
	struct evloop *ev;
	enum capture_state state;
	char name[SW_NAME_MAX];
	uint32_t snaplen;
	bool has_filter;
	struct bpf_program filter;
	uint64_t frames_left; /* UINT64_MAX: no limit */
	struct ev_fd watch;
	bool blocked; /* the reader takes nothing now */
	bool shut; /* it has nothing to say any more */
	bool gone; /* nobody reads */
	bool stopping; /* the end must not wait for the reader */
	bool has_end; /* the file's last block has been written */
	struct ev_timer look;
	void (*ended)(void *opaque);
	void *opaque;
	struct pcapng_buf out;
	size_t out_done; /* sent */

	struct ev_work wake;
	_Alignas(CACHE_LINE) bool wake_posted;
	unsigned int nr_lanes;
	struct lane lane[];
};

/* --- a loop ----------------------------------------------------------------------------- */

static uint64_t real_time_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Room for size bytes in one piece, or NULL. What is skipped becomes a record. */
static struct record *reserve(struct lane *l, uint32_t size)
{
	uint32_t at = l->head & (RING_SIZE - 1), before_end = RING_SIZE - at;
	uint32_t skip = before_end < size ? before_end : 0;
	struct record *filler;

	if (RING_SIZE - (l->head - l->tail_seen) < skip + size) {
		/* Pairs with the release in take(): the reader is done with it. */
		l->tail_seen = load_acquire(&l->tail);
		if (RING_SIZE - (l->head - l->tail_seen) < skip + size)
			return NULL;
	}
	if (skip) {
		filler = (struct record *)(l->ring + at);
		*filler = (struct record){ .size = skip };
		/* Pairs with the acquire in peek(), which may find it before the record. */
		store_release(&l->head, l->head + skip);
	}
	return (struct record *)(l->ring + (l->head & (RING_SIZE - 1)));
}

/* As the filter sees it: in one piece, however it came. */
static bool passes(const struct capture *c, struct lane *l, const struct frame *f)
{
	if (!c->has_filter)
		return true;
	frame_copy(f, l->whole);
	return bpf_filter(c->filter.bf_insns, l->whole, f->len, f->len) != 0;
}

static void record_frame(struct capture *c, struct lane *l, enum capture_dir dir,
			 const struct frame *f, uint64_t now)
{
	uint32_t cap_len = (uint32_t)min_u64(f->len, c->snaplen);
	uint32_t size = (uint32_t)round_up(sizeof(struct record) + cap_len, RECORD_ALIGN);
	struct record *r;

	assert(f->len <= SNAPLEN_MAX);
	if (!passes(c, l, f))
		return;
	counter_add(&l->passed, 1);
	r = reserve(l, size);
	if (!r) {
		counter_add(&l->lost, 1);
		return;
	}
	*r = (struct record){
		.size = size,
		.cap_len = cap_len,
		.orig_len = f->len,
		.dir = dir,
		.time_ns = now,
		.lost = l->lost,
	};
	frame_copy_part(f, 0, (uint8_t *)(r + 1), cap_len);
	/* Pairs with the acquire in peek(): the record is complete. */
	store_release(&l->head, l->head + size);
}

void capture_frames(struct capture *c, struct sw_lane *lane, enum capture_dir dir,
		    const struct frame *const *frames, unsigned int nr)
{
	struct lane *l = &c->lane[lane->index];
	uint64_t now = real_time_ns();

	for (unsigned int i = 0; i < nr; i++)
		record_frame(c, l, dir, frames[i], now);
	/* Always an exchange: with a plain look before it, this could miss that the
	 * control thread has come to rest, which it does by an exchange as well. */
	if (!__atomic_exchange_n(&c->wake_posted, true, __ATOMIC_ACQ_REL))
		ev_post(c->ev, &c->wake);
}

/* --- from the queues to the file ------------------------------------------------------------ */

/* The next record of a lane, or NULL. */
static const struct record *peek(struct lane *l)
{
	const struct record *r;

	for (;;) {
		/* Pairs with the releases in reserve() and record_frame(). */
		if (load_acquire(&l->head) == l->tail)
			return NULL;
		r = (const struct record *)(l->ring + (l->tail & (RING_SIZE - 1)));
		if (r->orig_len)
			return r;
		store_release(&l->tail, l->tail + r->size);
	}
}

/* Done with the record peek() gave. */
static void take(struct lane *l, const struct record *r)
{
	/* Pairs with the acquire in reserve(): its bytes have been read. */
	store_release(&l->tail, l->tail + r->size);
}

/* The lane whose next record is the oldest, and that record. */
static struct lane *oldest(struct capture *c, const struct record **record)
{
	struct lane *found = NULL;
	const struct record *r;

	for (unsigned int i = 0; i < c->nr_lanes; i++) {
		r = peek(&c->lane[i]);
		if (!r || (found && (*record)->time_ns <= r->time_ns))
			continue;
		found = &c->lane[i];
		*record = r;
	}
	return found;
}

/* Records into the file as far as there is room for it. true: none is left. */
static bool fill(struct capture *c)
{
	struct pcapng_packet p;
	const struct record *r;
	struct lane *l;

	while (c->frames_left && !c->has_end) {
		l = oldest(c, &r);
		if (!l)
			return true;
		p = (struct pcapng_packet){
			.data = (const uint8_t *)(r + 1),
			.cap_len = r->cap_len,
			.orig_len = r->orig_len,
			.time_ns = r->time_ns,
			.inbound = r->dir == CAPTURE_IN,
			.dropped = r->lost - l->lost_told,
		};
		if (!pcapng_put(&c->out, &p))
			return false;
		l->lost_told = r->lost;
		take(l, r);
		if (c->frames_left != UINT64_MAX)
			c->frames_left--;
	}
	return true;
}

/* Send what is in the file's buffer. 0, 1: the reader takes no more now, or
 * -errno: it has gone. */
static int flush(struct capture *c)
{
	ssize_t n;

	while (c->out_done < c->out.len) {
		n = send(c->watch.fd, c->out.data + c->out_done, c->out.len - c->out_done,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		c->out_done += (size_t)n;
	}
	c->out.len = c->out_done = 0;
	return 0;
}

/* --- the end -------------------------------------------------------------------------------- */

static void free_capture(struct capture *c)
{
	for (unsigned int i = 0; i < c->nr_lanes; i++) {
		numa_zfree(c->lane[i].ring, RING_SIZE);
		free(c->lane[i].whole);
	}
	if (c->has_filter)
		pcap_freecode(&c->filter);
	free(c->out.data);
	free(c);
}

static void end(struct capture *c)
{
	void (*ended)(void *) = c->ended;
	void *opaque = c->opaque;

	log_info("%s: capture ended", c->name);
	ev_timer_cancel(c->ev, &c->look);
	ev_fd_del(c->ev, &c->watch);
	fd_replace(&c->watch.fd, -1);
	free_capture(c);
	if (ended)
		ended(opaque);
}

static void update_events(struct capture *c)
{
	uint32_t events = (c->shut ? 0 : EPOLLIN) | (c->blocked ? EPOLLOUT : 0);

	if (ev_fd_modify(c->ev, &c->watch, events) < 0)
		log_warn("%s: capture: the reader cannot be watched", c->name);
}

/* Move what there is. true: nothing is left, or nobody to give it to. */
static bool pump(struct capture *c)
{
	bool is_empty;
	int res;

	for (int i = 0; i < ROUNDS_MAX; i++) {
		is_empty = fill(c);
		res = flush(c);
		c->gone |= res < 0;
		if (c->gone)
			return true;
		if (c->blocked != (res > 0)) {
			c->blocked = res > 0;
			update_events(c);
		}
		if (res > 0 || is_empty)
			return !res;
	}
	return false;
}

/* What ends the file: it tells how the capture went. */
static void put_end(struct capture *c)
{
	uint64_t passed = 0, lost = 0;

	for (unsigned int i = 0; i < c->nr_lanes; i++) {
		passed += counter_read(&c->lane[i].passed);
		lost += counter_read(&c->lane[i].lost);
	}
	pcapng_end(&c->out, real_time_ns(), passed, lost);
}

/* No loop uses it any more: what they left goes to the reader, then the file's end. */
static void drain(struct capture *c)
{
	bool is_done = pump(c);

	if ((is_done || c->stopping) && !c->has_end && !c->gone && !c->blocked) {
		put_end(c);
		c->has_end = true;
		is_done = pump(c);
	}
	if (is_done || c->stopping)
		end(c);
	else if (!c->blocked)
		ev_timer_arm(c->ev, &c->look, LOOK_NS);
	/* Else EPOLLOUT goes on. */
}

static void quiesced(void *opaque)
{
	struct capture *c = opaque;

	c->state = CAPTURE_DRAINING;
	c->port = NULL;
	drain(c);
}

static void leave(struct capture *c)
{
	c->state = CAPTURE_LEAVING;
	store_release(&c->port->capture, NULL);
	/* What a loop posts for this capture arrives before the answer to this. */
	vswitch_synchronize(c->sw, quiesced, c);
}

void capture_stop(struct capture *c)
{
	c->stopping = true;
	if (c->state == CAPTURE_RUNNING)
		leave(c);
	else if (c->state == CAPTURE_DRAINING)
		end(c);
}

/* --- what makes it go on ----------------------------------------------------------------------- */

static void work(struct capture *c)
{
	pump(c);
	if (c->gone || !c->frames_left)
		leave(c);
}

static void wake(struct ev_work *w)
{
	struct capture *c = container_of(w, struct capture, wake);

	if (c->state != CAPTURE_RUNNING)
		return;
	work(c);
	/* More is to come, and loops need not wake us for that. */
	if (c->state == CAPTURE_RUNNING)
		ev_timer_arm(c->ev, &c->look, LOOK_NS);
}

static void look(struct ev_timer *t)
{
	struct capture *c = container_of(t, struct capture, look);
	const struct record *r;

	if (c->state == CAPTURE_DRAINING) {
		drain(c);
		return;
	}
	if (c->state == CAPTURE_LEAVING)
		return;
	if (!oldest(c, &r)) {
		/* Nothing came for a while: from now on loops wake us, and what came
		 * just before is found by the look behind this. */
		(void)__atomic_exchange_n(&c->wake_posted, false, __ATOMIC_ACQ_REL);
		if (!oldest(c, &r) || __atomic_exchange_n(&c->wake_posted, true, __ATOMIC_ACQ_REL))
			return;
	}
	work(c);
	if (c->state == CAPTURE_RUNNING)
		ev_timer_arm(c->ev, t, LOOK_NS);
}

/* The reader: it hangs up, says that it has enough, or takes more. */
static void reader_event(struct ev_fd *w, uint32_t events)
{
	struct capture *c = container_of(w, struct capture, watch);
	char ignored[256];

	c->gone |= !!(events & (EPOLLHUP | EPOLLERR));
	if (!c->gone && events & EPOLLIN && !recv(w->fd, ignored, sizeof(ignored), MSG_DONTWAIT)) {
		c->shut = true;
		update_events(c);
	}
	switch (c->state) {
	case CAPTURE_RUNNING:
		if (c->gone || c->shut)
			leave(c);
		else if (events & EPOLLOUT)
			work(c);
		return;
	case CAPTURE_LEAVING:
		/* EPOLLHUP would come again and again. */
		if (c->gone)
			ev_fd_del(c->ev, w);
		return;
	case CAPTURE_DRAINING:
		drain(c);
		return;
	}
}

/* --- the beginning ------------------------------------------------------------------------------ */

static int compile(const char *filter, struct bpf_program *program, char *err)
{
	pcap_t *p = pcap_open_dead(DLT_EN10MB, SNAPLEN_MAX);
	int res = -EINVAL;

	if (!p) {
		snprintf(err, SW_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	if (!pcap_compile(p, program, filter, 1, PCAP_NETMASK_UNKNOWN))
		res = 0;
	else
		snprintf(err, SW_ERR_LEN, "filter=%.100s: %.100s", filter, pcap_geterr(p));
	pcap_close(p);
	return res;
}

int capture_check_filter(const char *filter, char *err)
{
	struct bpf_program program;
	int res = compile(filter, &program, err);

	if (!res)
		pcap_freecode(&program);
	return res;
}

static int create_lanes(struct capture *c)
{
	for (; c->nr_lanes < vswitch_nr_lanes(c->sw); c->nr_lanes++) {
		struct lane *l = &c->lane[c->nr_lanes];

		l->ring = numa_zalloc(RING_SIZE, loop_node(vswitch_lane(c->sw, c->nr_lanes)->loop));
		l->whole = c->has_filter ? malloc(SNAPLEN_MAX) : NULL;
		if (!l->ring || (c->has_filter && !l->whole)) {
			numa_zfree(l->ring, RING_SIZE);
			return -ENOMEM;
		}
	}
	return 0;
}

/* The text before the file, and how the file begins. */
static int begin_file(struct capture *c, const struct capture_conf *conf)
{
	size_t head_len = conf->head ? strlen(conf->head) : 0;

	c->out.size = OUT_SIZE;
	c->out.data = malloc(OUT_SIZE);
	if (!c->out.data || head_len > OUT_SIZE / 2)
		return -ENOMEM;
	if (head_len)
		memcpy(c->out.data, conf->head, head_len);
	c->out.len = head_len;
	return pcapng_begin(&c->out, PROGRAM, c->name, conf->filter, c->snaplen) ? 0 : -ENOMEM;
}

static struct capture *new_capture(const struct capture_conf *conf)
{
	unsigned int nr_lanes = vswitch_nr_lanes(conf->port->sw);
	size_t size = sizeof(struct capture) + nr_lanes * sizeof(struct lane);
	struct capture *c = aligned_alloc(CACHE_LINE, round_up(size, CACHE_LINE));

	if (!c)
		return NULL;
	memset(c, 0, size);
	c->port = conf->port;
	c->sw = conf->port->sw;
	c->ev = conf->ev;
	c->ended = conf->ended;
	c->opaque = conf->opaque;
	snprintf(c->name, sizeof(c->name), "%s", conf->port->name);
	c->snaplen = conf->snaplen ? (uint32_t)min_u64(conf->snaplen, SNAPLEN_MAX) : SNAPLEN_MAX;
	c->frames_left = conf->frames_max ? conf->frames_max : UINT64_MAX;
	c->wake.run = wake;
	c->look.expired = look;
	c->watch.fd = conf->fd;
	c->watch.handle = reader_event;
	return c;
}

int capture_start(const struct capture_conf *conf, struct capture **out, char *err)
{
	struct capture *c;
	int res;

	if (conf->port->capture) {
		snprintf(err, SW_ERR_LEN, "%s: there is a capture of this port", conf->port->name);
		return -EBUSY;
	}
	c = new_capture(conf);
	if (!c) {
		snprintf(err, SW_ERR_LEN, "out of memory");
		return -ENOMEM;
	}
	if (conf->filter) {
		res = compile(conf->filter, &c->filter, err);
		if (res < 0)
			goto err_free;
		c->has_filter = true;
	}
	res = create_lanes(c);
	if (!res)
		res = begin_file(c, conf);
	if (!res)
		res = ev_fd_add(c->ev, &c->watch, EPOLLIN);
	if (res < 0) {
		snprintf(err, SW_ERR_LEN, "%s: capture: %s", c->name, strerror(-res));
		goto err_free;
	}
	log_info("%s: capture started", c->name);
	*out = c;
	/* The file begins even if no frame comes. */
	pump(c);
	/* Pairs with the acquire in vswitch_forward(): all of it is there. */
	store_release(&c->port->capture, c);
	return 0;

err_free:
	free_capture(c);
	return res;
}
