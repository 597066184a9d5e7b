/*
 * Captures that come and go while two loops with threads of their own forward.
 * Made for ThreadSanitizer. Nothing looks at a clock.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <pcap/pcap.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "core/fd.h"
#include "virtio-net/capture.h"

#define LOOPS 2
#define FRAME_LEN 200
#define ROUNDS 40

/* Sends a burst a turn, numbered, from a port of its own. */
struct sender {
	struct loop_source source;
	struct loop_work add;
	struct loop *loop;
	struct sw_lane *lane;
	struct sw_port *port;
	uint32_t next;
	bool started, stop, stopped;
};

static unsigned int send_turn(struct loop_source *s)
{
	struct sender *sender = container_of(s, struct sender, source);
	uint8_t bytes[FRAME_BURST][FRAME_LEN] = { 0 };
	uint8_t room[FRAME_BURST][FRAME_ROOM];
	struct frame frame[FRAME_BURST];
	struct iovec iov[FRAME_BURST];

	for (unsigned int i = 0; i < FRAME_BURST; i++) {
		bytes[i][0] = 2;
		bytes[i][5] = 0xff;
		bytes[i][6] = 2;
		bytes[i][11] = (uint8_t)sender->port->index;
		bytes[i][12] = 0x88;
		bytes[i][13] = 0xb5;
		memcpy(bytes[i] + FRAME_LEN - 4, &sender->next, 4);
		sender->next++;
		iov[i] = (struct iovec){ bytes[i], FRAME_LEN };
		frame_init(&frame[i], room[i], &iov[i], 1, 0, FRAME_LEN);
	}
	lane_tick(sender->lane);
	vswitch_forward(sender->lane, sender->port, frame, FRAME_BURST);
	if (read_once(&sender->stop) && !sender->stopped) {
		loop_source_del(sender->loop, s);
		store_release(&sender->stopped, true);
	}
	return 1;
}

static void add_sender(struct loop_work *w)
{
	struct sender *sender = container_of(w, struct sender, add);

	loop_source_add(sender->loop, &sender->source);
	store_release(&sender->started, true);
}

static void deliver(struct sw_port *port, struct sw_lane *lane, const struct frame *const *frames,
		    unsigned int nr)
{
	counter_add(&sw_stats(port, lane)->out_frames, nr);
}

static const struct sw_port_ops ops = { .kind = "test", .deliver = deliver };

struct rig {
	struct evloop *ev;
	struct loop *loop[LOOPS];
	struct vswitch *sw;
	struct sender sender[LOOPS];
	struct capture *c;
	unsigned int nr_gone;
};

static void open_sender(struct rig *r, unsigned int i)
{
	struct sender *s = &r->sender[i];
	struct sw_port_conf conf;
	char err[SW_ERR_LEN];
	char name[8];

	sw_port_conf_init(&conf);
	snprintf(name, sizeof(name), "p%u", i);
	assert_int_equal(sw_port_add(r->sw, name, &ops, NULL, &conf, &s->port, err), 0);
	s->loop = r->loop[i];
	s->lane = vswitch_lane(r->sw, i);
	s->source.turn = send_turn;
	s->source.fd = -1;
	s->add.run = add_sender;
	loop_post(s->loop, &s->add);
	while (!load_acquire(&s->started))
		sched_yield();
}

static void rig_open(struct rig *r)
{
	struct vswitch_conf conf = { .nr_loops = LOOPS };

	memset(r, 0, sizeof(*r));
	conf.ev = r->ev = evloop_create();
	for (unsigned int i = 0; i < LOOPS; i++) {
		struct loop_conf loop = { .ev = r->ev, .mode = LOOP_BUSY, .cpu = -1, .index = i };

		assert_int_equal(loop_create(&loop, &r->loop[i]), 0);
	}
	conf.loops = r->loop;
	assert_int_equal(vswitch_create(&conf, &r->sw), 0);
	for (unsigned int i = 0; i < LOOPS; i++)
		open_sender(r, i);
}

static void gone(void *opaque)
{
	((struct rig *)opaque)->nr_gone++;
}

static void rig_close(struct rig *r)
{
	for (unsigned int i = 0; i < LOOPS; i++) {
		write_once(&r->sender[i].stop, true);
		while (!load_acquire(&r->sender[i].stopped))
			sched_yield();
		sw_port_remove(r->sender[i].port, gone, r);
	}
	while (r->nr_gone < LOOPS)
		evloop_run_once(r->ev, -1);
	vswitch_destroy(r->sw);
	for (unsigned int i = 0; i < LOOPS; i++)
		loop_destroy(r->loop[i]);
	evloop_destroy(r->ev);
}

static void ended(void *opaque)
{
	((struct rig *)opaque)->c = NULL;
}

static int start(struct rig *r, uint64_t frames_max)
{
	struct capture_conf conf = {
		.port = r->sender[0].port,
		.filter = "ether proto 0x88b5",
		.frames_max = frames_max,
		.ev = r->ev,
		.ended = ended,
		.opaque = r,
	};
	char err[SW_ERR_LEN];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	conf.fd = pair[1];
	if (capture_start(&conf, &r->c, err) < 0)
		fail_msg("%s", err);
	return pair[0];
}

/* Read to the end; the length. */
static size_t read_all(struct rig *r, int fd, char **file)
{
	size_t len = 0;
	ssize_t n;

	*file = NULL;
	for (;;) {
		evloop_run_once(r->ev, 1);
		*file = realloc(*file, len + 65536);
		assert_non_null(*file);
		n = recv(fd, *file + len, 65536, 0);
		if (!n)
			break;
		if (n > 0)
			len += (size_t)n;
	}
	while (r->c)
		evloop_run_once(r->ev, 1);
	return len;
}

/* Of each loop in the order it sent them, none twice, and none torn. */
static void check_order(const char *file, size_t len, unsigned int expected)
{
	char path[] = "/tmp/rb-capture-XXXXXX", err[PCAP_ERRBUF_SIZE];
	uint32_t last[256] = { 0 }, number;
	struct pcap_pkthdr *h;
	unsigned int nr = 0;
	const u_char *data;
	int fd = mkstemp(path);
	pcap_t *p;

	assert_true(write(fd, file, len) == (ssize_t)len);
	close(fd);
	p = pcap_open_offline(path, err);
	unlink(path);
	assert_non_null(p);
	while (pcap_next_ex(p, &h, &data) == 1) {
		assert_int_equal(h->caplen, FRAME_LEN);
		memcpy(&number, data + FRAME_LEN - 4, 4);
		assert_true(number >= last[data[11]]);
		last[data[11]] = number + 1;
		nr++;
	}
	assert_int_equal(nr, expected);
	pcap_close(p);
}

static void frames_of_two_loops_come_whole_and_in_order(void **state)
{
	struct rig r;
	size_t len;
	char *file;
	int fd;

	rig_open(&r);
	fd = start(&r, 20000);
	len = read_all(&r, fd, &file);
	check_order(file, len, 20000);
	free(file);
	close(fd);
	rig_close(&r);
}

/* Ended by the reader, by its death, by us, at any time. */
static void captures_come_and_go(void **state)
{
	struct rig r;
	char *file;
	int fd;

	rig_open(&r);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		fd = start(&r, 0);
		for (unsigned int j = 0; j < i % 4; j++)
			evloop_run_once(r.ev, 1);
		if (i % 3 == 0) {
			shutdown(fd, SHUT_WR);
			read_all(&r, fd, &file);
			free(file);
		} else if (i % 3 == 1) {
			fd_replace(&fd, -1);
		} else {
			capture_stop(r.c);
		}
		while (r.c)
			evloop_run_once(r.ev, 1);
		fd_replace(&fd, -1);
	}
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_two_loops_come_whole_and_in_order),
		cmocka_unit_test(captures_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
