/*
 * Captures: both directions, filters, limits of length and number, readers that
 * are slow, finish, vanish; and what the file says of it. The file is read back
 * with libpcap, whose packets are told apart by their last byte.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base.h"
#include "core/fd.h"
#include "tests/virtio-net/swkit.h"
#include "virtio-net/capture.h"

#define PCAPNG_STATISTICS 5 /* the type of that block */

enum {
	A = 0xa,
	B = 0xb,
};

struct rig {
	struct swkit k;
	struct swkit_port *a, *b;
	struct capture *c; /* NULL: ended */
	int fd; /* the reader's end */
	int buffer; /* bytes on the way to it; 0: as many as usual */
	char *file;
	size_t len;
};

static void ended(void *opaque)
{
	((struct rig *)opaque)->c = NULL;
}

static int begin(struct rig *r, struct capture_conf *conf, char *err)
{
	int pair[2] = { -1, -1 }, res;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	r->fd = pair[0];
	if (r->buffer)
		assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &r->buffer,
					    sizeof(r->buffer)),
				 0);
	conf->port = conf->port ? conf->port : r->a->port;
	conf->fd = pair[1];
	conf->ev = r->k.ev;
	conf->ended = ended;
	conf->opaque = r;
	res = capture_start(conf, &r->c, err);
	if (res < 0) {
		close(pair[1]);
		fd_replace(&r->fd, -1);
	}
	return res;
}

static void rig_open_with_buffer(struct rig *r, struct capture_conf conf, int buffer)
{
	char err[SW_ERR_LEN] = "";

	memset(r, 0, sizeof(*r));
	r->buffer = buffer;
	swkit_open(&r->k, NULL);
	r->a = swkit_add(&r->k, "a", NULL);
	r->b = swkit_add(&r->k, "b", NULL);
	if (begin(r, &conf, err) < 0)
		fail_msg("%s", err);
}

static void rig_open(struct rig *r, struct capture_conf conf)
{
	rig_open_with_buffer(r, conf, 0);
}

/* What has come so far. */
static void collect(struct rig *r)
{
	ssize_t n;

	do {
		r->file = realloc(r->file, r->len + 65536);
		assert_non_null(r->file);
		n = recv(r->fd, r->file + r->len, 65536, 0);
		if (n > 0)
			r->len += (size_t)n;
	} while (n > 0);
}

/* Until the capture has ended, taking all it says. */
static void collect_all(struct rig *r)
{
	while (r->c) {
		swkit_settle(&r->k);
		evloop_run_once(r->k.ev, 10);
		if (r->fd >= 0)
			collect(r);
	}
	if (r->fd >= 0)
		collect(r);
}

/* The reader has enough; the rest of the file. */
static void finish(struct rig *r)
{
	shutdown(r->fd, SHUT_WR);
	collect_all(r);
}

static void rig_close(struct rig *r)
{
	if (r->c) {
		capture_stop(r->c);
		collect_all(r);
	}
	fd_replace(&r->fd, -1);
	swkit_close(&r->k);
	free(r->file);
}

static pcap_t *open_file(const struct rig *r, size_t skip)
{
	char path[] = "/tmp/rb-capture-XXXXXX", err[PCAP_ERRBUF_SIZE];
	int fd = mkstemp(path);
	pcap_t *p;

	assert_true(fd >= 0);
	assert_true(write(fd, r->file + skip, r->len - skip) == (ssize_t)(r->len - skip));
	close(fd);
	p = pcap_open_offline(path, err);
	unlink(path);
	if (!p)
		fail_msg("%s", err);
	return p;
}

/* How many packets the file has; marks gets their last bytes. */
static unsigned int read_marks(const struct rig *r, uint8_t *marks, unsigned int max)
{
	pcap_t *p = open_file(r, 0);
	struct pcap_pkthdr *h;
	const u_char *data;
	unsigned int nr = 0;

	while (pcap_next_ex(p, &h, &data) == 1) {
		if (nr < max)
			marks[nr] = data[h->caplen - 1];
		nr++;
	}
	pcap_close(p);
	return nr;
}

/* The statistics that end the file: frames that passed, frames lost. */
static void read_end(const struct rig *r, uint64_t *passed, uint64_t *lost)
{
	const size_t options = 20; /* behind type, length, interface, time */
	uint32_t len, type;

	memcpy(&len, r->file + r->len - 4, sizeof(len));
	assert_true(len <= r->len);
	memcpy(&type, r->file + r->len - len, sizeof(type));
	assert_int_equal(type, PCAPNG_STATISTICS);
	memcpy(passed, r->file + r->len - len + options + 4, sizeof(*passed));
	memcpy(lost, r->file + r->len - len + options + 16, sizeof(*lost));
}

static void both_directions_come_in_order(void **state)
{
	const struct swkit_frame ab = { B, A, .mark = 1 }, ba = { A, B, .mark = 2 };
	uint64_t passed, lost;
	uint8_t marks[8] = { 0 };
	struct rig r;

	rig_open(&r, (struct capture_conf){ 0 });
	for (unsigned int i = 0; i < 3; i++) {
		swkit_send(&r.k, r.a, &ab, 1);
		swkit_send_on(&r.k, 1, r.b, &ba, 1);
	}
	finish(&r);
	assert_int_equal(read_marks(&r, marks, 8), 6);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(marks[i], 1 + i % 2);
	read_end(&r, &passed, &lost);
	assert_int_equal(passed, 6);
	assert_int_equal(lost, 0);
	rig_close(&r);
}

static void a_file_is_whole_without_a_frame(void **state)
{
	uint8_t marks[1];
	struct rig r;

	rig_open(&r, (struct capture_conf){ 0 });
	collect(&r);
	assert_true(r.len > 0);
	finish(&r);
	assert_int_equal(read_marks(&r, marks, 1), 0);
	rig_close(&r);
}

static void a_filter_decides_on_the_whole_frame(void **state)
{
	/* The last byte of each: far behind what the switch looks at. */
	const struct swkit_frame frames[] = {
		{ B, A, .len = 1000, .mark = 7 },
		{ B, A, .len = 1000, .mark = 8 },
		{ B, A, .len = 1000, .mark = 7 },
	};
	uint8_t marks[8] = { 0 };
	struct rig r;

	rig_open(&r, (struct capture_conf){ .filter = "ether[999] = 7" });
	swkit_send(&r.k, r.a, frames, ARRAY_SIZE(frames));
	finish(&r);
	assert_int_equal(read_marks(&r, marks, 8), 2);
	assert_int_equal(marks[0], 7);
	assert_int_equal(marks[1], 7);
	rig_close(&r);
}

static void a_wrong_filter_is_explained(void **state)
{
	struct capture_conf conf = { .filter = "tcp prot 80" };
	char err[SW_ERR_LEN] = "";
	struct rig r;

	assert_int_equal(capture_check_filter("tcp port 80", err), 0);
	assert_int_equal(capture_check_filter(conf.filter, err), -EINVAL);
	assert_non_null(strstr(err, "syntax error"));
	rig_open(&r, (struct capture_conf){ 0 });
	capture_stop(r.c);
	collect_all(&r);
	fd_replace(&r.fd, -1);
	assert_int_equal(begin(&r, &conf, err), -EINVAL);
	assert_null(r.a->port->capture);
	rig_close(&r);
}

static void snaplen_keeps_the_beginning(void **state)
{
	const struct swkit_frame frame = { B, A, .len = 1000, .mark = 7 };
	struct pcap_pkthdr *h;
	const u_char *data;
	struct rig r;
	pcap_t *p;

	rig_open(&r, (struct capture_conf){ .snaplen = 96 });
	swkit_send(&r.k, r.a, &frame, 1);
	finish(&r);
	p = open_file(&r, 0);
	assert_int_equal(pcap_next_ex(p, &h, &data), 1);
	assert_int_equal(h->caplen, 96);
	assert_int_equal(h->len, 1000);
	pcap_close(p);
	rig_close(&r);
}

static void the_longest_frame_is_there_with_the_tag_that_it_was_given(void **state)
{
	const struct swkit_frame frame = { SWKIT_BROADCAST, B, .len = FRAME_LEN_MAX, .mark = 7 };
	const struct sw_port_conf access = swkit_access(5);
	struct pcap_pkthdr *h;
	const u_char *data;
	struct rig r;
	pcap_t *p;

	rig_open(&r, (struct capture_conf){ .filter = "vlan 5" });
	swkit_set(&r.k, r.b, &access);
	swkit_send(&r.k, r.b, &frame, 1);
	finish(&r);
	p = open_file(&r, 0);
	assert_int_equal(pcap_next_ex(p, &h, &data), 1);
	assert_int_equal(h->caplen, FRAME_LEN_MAX + 4);
	assert_int_equal(h->len, FRAME_LEN_MAX + 4);
	assert_int_equal(data[h->caplen - 1], 7);
	pcap_close(p);
	rig_close(&r);
}

static void it_ends_after_so_many_frames(void **state)
{
	struct swkit_frame frames[10];
	uint8_t marks[16];
	struct rig r;

	for (unsigned int i = 0; i < 10; i++)
		frames[i] = (struct swkit_frame){ B, A, .mark = (uint8_t)i };
	rig_open(&r, (struct capture_conf){ .frames_max = 4 });
	swkit_send(&r.k, r.a, frames, 10);
	collect_all(&r);
	assert_int_equal(read_marks(&r, marks, 16), 4);
	assert_int_equal(marks[3], 3);
	rig_close(&r);
}

static void the_head_comes_first(void **state)
{
	static const char head[] = "{\"answer\": 1}\n";
	struct rig r;

	rig_open(&r, (struct capture_conf){ .head = head });
	finish(&r);
	assert_memory_equal(r.file, head, strlen(head));
	pcap_close(open_file(&r, strlen(head)));
	rig_close(&r);
}

/* It loses frames, all of them counted; the port loses none. */
static void a_slow_reader_loses_frames_and_nobody_else(void **state)
{
	uint64_t sent = 0, passed, lost, told = 0;
	struct swkit_frame burst[FRAME_BURST];
	struct sw_port_stats sum;
	uint8_t marks[1];
	struct rig r;

	for (unsigned int i = 0; i < FRAME_BURST; i++)
		burst[i] = (struct swkit_frame){ B, A, .len = 1500 };
	rig_open(&r, (struct capture_conf){ 0 });
	/* More than socket and queues can hold. */
	for (unsigned int i = 0; i < 200; i++) {
		swkit_send(&r.k, r.a, burst, FRAME_BURST);
		swkit_settle(&r.k);
		swkit_clear(r.b);
		sent += FRAME_BURST;
	}
	sw_port_stats_sum(r.b->port, &sum);
	assert_int_equal(sum.out_frames, sent);
	collect(&r);
	finish(&r);
	read_end(&r, &passed, &lost);
	assert_int_equal(passed, sent);
	assert_true(lost > 0 && lost < sent);
	told = read_marks(&r, marks, 1);
	assert_int_equal(told, passed - lost);
	rig_close(&r);
}

/* The last of n frames may take the last room there is. */
static void the_end_waits_for_a_slow_reader_too(void **state)
{
	const struct swkit_frame frame = { B, A, .len = 1500 };
	uint64_t passed, lost;
	uint8_t marks[1];
	struct rig r;

	for (unsigned int n = 0; n < 10; n++) {
		rig_open_with_buffer(&r, (struct capture_conf){ 0 }, 1);
		for (unsigned int i = 0; i < n; i++) {
			swkit_send(&r.k, r.a, &frame, 1);
			swkit_settle(&r.k);
			/* Until it has looked for more, in vain. */
			for (int turn = 0; turn < 3; turn++)
				evloop_run_once(r.k.ev, 10);
		}
		shutdown(r.fd, SHUT_WR);
		for (int turn = 0; turn < 3 && r.c; turn++) {
			swkit_settle(&r.k);
			evloop_run_once(r.k.ev, 10);
		}
		collect_all(&r);
		read_end(&r, &passed, &lost);
		assert_int_equal(passed, n);
		assert_int_equal(lost, 0);
		assert_int_equal(read_marks(&r, marks, 1), n);
		rig_close(&r);
	}
}

static void a_reader_that_vanishes_ends_it(void **state)
{
	const struct swkit_frame frame = { B, A };
	struct rig r;

	rig_open(&r, (struct capture_conf){ 0 });
	swkit_send(&r.k, r.a, &frame, 1);
	fd_replace(&r.fd, -1);
	collect_all(&r);
	assert_null(r.a->port->capture);
	swkit_send(&r.k, r.a, &frame, 1);
	assert_int_equal(r.b->nr, 2);
	rig_close(&r);
}

/* Whatever its reader does. */
static void a_stop_does_not_wait_for_the_reader(void **state)
{
	struct swkit_frame burst[FRAME_BURST];
	struct rig r;

	for (unsigned int i = 0; i < FRAME_BURST; i++)
		burst[i] = (struct swkit_frame){ B, A, .len = 1500 };
	rig_open(&r, (struct capture_conf){ 0 });
	for (unsigned int i = 0; i < 30; i++) {
		swkit_send(&r.k, r.a, burst, FRAME_BURST);
		swkit_settle(&r.k);
		swkit_clear(r.b);
	}
	capture_stop(r.c);
	while (r.c)
		swkit_settle(&r.k);
	rig_close(&r);
}

static void one_capture_a_port(void **state)
{
	struct capture_conf conf = { 0 };
	struct capture *first;
	char err[SW_ERR_LEN];
	struct rig r;
	int fd;

	rig_open(&r, conf);
	first = r.c;
	fd = r.fd;
	assert_int_equal(begin(&r, &conf, err), -EBUSY);
	r.c = first;
	r.fd = fd;
	finish(&r);
	fd_replace(&r.fd, -1);
	r.len = 0;
	assert_int_equal(begin(&r, &conf, err), 0);
	finish(&r);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions_come_in_order),
		cmocka_unit_test(a_file_is_whole_without_a_frame),
		cmocka_unit_test(a_filter_decides_on_the_whole_frame),
		cmocka_unit_test(a_wrong_filter_is_explained),
		cmocka_unit_test(snaplen_keeps_the_beginning),
		cmocka_unit_test(the_longest_frame_is_there_with_the_tag_that_it_was_given),
		cmocka_unit_test(it_ends_after_so_many_frames),
		cmocka_unit_test(the_head_comes_first),
		cmocka_unit_test(a_slow_reader_loses_frames_and_nobody_else),
		cmocka_unit_test(the_end_waits_for_a_slow_reader_too),
		cmocka_unit_test(a_reader_that_vanishes_ends_it),
		cmocka_unit_test(a_stop_does_not_wait_for_the_reader),
		cmocka_unit_test(one_capture_a_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
