/*
 * Uplinks over DPDK devices that need neither root nor a network card: net_ring
 * gives back what it is given, net_pcap reads and writes files, net_null takes
 * everything. The kernel's own devices are tests/interop's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "tests/virtio-net/framekit.h"
#include "tests/virtio-net/swkit.h"
#include "virtio-net/eal.h"
#include "virtio-net/net_spec.h"
#include "virtio-net/offload.h"
#include "virtio-net/uplink.h"

#include <rte_ethdev.h>

enum {
	A = 0xa,
	B = 0xb,
};

struct rig {
	struct swkit k;
	struct swkit_port *a;
	struct uplink *up;
	bool gone;
	char dir[32], in[64], out[64]; /* of net_pcap */
};

static void rig_open(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	swkit_open(&r->k, NULL);
	r->a = swkit_add(&r->k, "a", NULL);
	snprintf(r->dir, sizeof(r->dir), "/tmp/rb-uplink-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->in, sizeof(r->in), "%s/in.pcap", r->dir);
	snprintf(r->out, sizeof(r->out), "%s/out.pcap", r->dir);
}

static struct uplink_conf conf_of(struct rig *r, const char *dev)
{
	struct uplink_conf conf = {
		.name = "up0",
		.dev = { dev },
		.nr_dev = 1,
		.ev = r->k.ev,
		.loops = r->k.loop,
		.nr_loops = SWKIT_LOOPS,
		.sw = r->k.sw,
	};

	sw_port_conf_init(&conf.port);
	return conf;
}

static void attach(struct rig *r, const struct uplink_conf *conf)
{
	char err[SW_ERR_LEN] = "";

	if (uplink_create(conf, &r->up, err) < 0)
		fail_msg("%s", err);
	swkit_settle(&r->k);
}

static void gone(void *opaque)
{
	((struct rig *)opaque)->gone = true;
}

static void detach(struct rig *r)
{
	r->gone = false;
	uplink_destroy(r->up, gone, r);
	r->up = NULL;
	while (!r->gone)
		swkit_settle(&r->k);
}

static void rig_close(struct rig *r)
{
	if (r->up)
		detach(r);
	swkit_close(&r->k);
	unlink(r->in);
	unlink(r->out);
	rmdir(r->dir);
}

static uint64_t drops(const struct rig *r, enum drop_reason reason)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(uplink_port(r->up), &sum);
	return sum.drops[reason];
}

static struct sw_port_stats stats(const struct rig *r)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(uplink_port(r->up), &sum);
	return sum;
}

/* --- files ----------------------------------------------------------------------------- */

/* The frame number i of a file: its length tells it apart. */
static uint32_t file_frame(unsigned int i, uint8_t *bytes)
{
	uint32_t len = 60 + i;

	memset(bytes, (int)i, len);
	swkit_mac(A, bytes);
	swkit_mac(B, bytes + 6);
	bytes[12] = 0x88;
	bytes[13] = 0xb5;
	return len;
}

static void write_file(const struct rig *r, unsigned int nr)
{
	pcap_t *p = pcap_open_dead(DLT_EN10MB, 65536);
	pcap_dumper_t *d = pcap_dump_open(p, r->in);
	struct pcap_pkthdr h = { 0 };
	uint8_t bytes[4096];

	assert_non_null(d);
	for (unsigned int i = 0; i < nr; i++) {
		h.caplen = h.len = file_frame(i, bytes);
		pcap_dump((u_char *)d, &h, bytes);
	}
	pcap_dump_close(d);
	pcap_close(p);
}

/* What the uplink wrote; the device must have been closed. */
struct read_file {
	unsigned int nr;
	uint32_t len[256];
	uint8_t bytes[256][2048];
};

static void read_file(const struct rig *r, struct read_file *f)
{
	char err[PCAP_ERRBUF_SIZE];
	pcap_t *p = pcap_open_offline(r->out, err);
	struct pcap_pkthdr *h;
	const u_char *data;

	f->nr = 0;
	assert_non_null(p);
	while (pcap_next_ex(p, &h, &data) == 1) {
		assert_true(f->nr < ARRAY_SIZE(f->len) && h->caplen <= sizeof(f->bytes[0]));
		f->len[f->nr] = h->caplen;
		memcpy(f->bytes[f->nr++], data, h->caplen);
	}
	pcap_close(p);
}

static void attach_files(struct rig *r, enum uplink_offloads offloads)
{
	char dev[200];
	struct uplink_conf conf;

	snprintf(dev, sizeof(dev), "net_pcap0,rx_pcap=%s,tx_pcap=%s", r->in, r->out);
	conf = conf_of(r, dev);
	conf.offloads = offloads;
	attach(r, &conf);
}

static void frames_of_an_uplink_reach_ports(void **state)
{
	uint8_t bytes[4096];
	struct rig r;
	uint32_t len;

	rig_open(&r);
	write_file(&r, 100);
	attach_files(&r, UPLINK_OFFLOADS_AUTO);
	swkit_settle(&r.k);
	assert_int_equal(r.a->nr, 100);
	for (unsigned int i = 0; i < 100; i++) {
		len = file_frame(i, bytes);
		assert_int_equal(r.a->got[i].len, len);
		assert_memory_equal(r.a->got[i].bytes, bytes, len);
	}
	assert_int_equal(stats(&r).in_frames, 100);
	rig_close(&r);
}

static void frames_to_an_uplink_leave_as_they_are(void **state)
{
	const struct swkit_frame frames[] = {
		{ B, A },
		{ B, A, .tag = true, .tci = 0x6007, .len = 100, .mark = 1 },
		{ B, A, .len = 1514, .mark = 2 },
		{ B, A, .len = 60, .mark = 3 },
	};
	static struct read_file f;
	struct rig r;

	rig_open(&r);
	write_file(&r, 0);
	attach_files(&r, UPLINK_OFFLOADS_AUTO);
	swkit_send(&r.k, r.a, frames, ARRAY_SIZE(frames));
	assert_int_equal(stats(&r).out_frames, 4);
	assert_int_equal(stats(&r).out_bytes, 64 + 100 + 1514 + 60);
	detach(&r);
	read_file(&r, &f);
	assert_int_equal(f.nr, 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(f.len[i], frames[i].len ? frames[i].len : 64);
		assert_int_equal(f.bytes[i][f.len[i] - 1], frames[i].mark);
	}
	/* IEEE 802.1Q: type, priority and VLAN as they were. */
	assert_memory_equal(f.bytes[1] + 12, "\x81\x00\x60\x07", 4);
	rig_close(&r);
}

/* --- offloads --------------------------------------------------------------------------- */

/* Send what a guest with all offloads sends, in one frame; gso_size 0: only its
 * checksum is to be completed. */
static void send_kit(struct rig *r, const struct kit_frame *k, uint16_t gso_size)
{
	struct virtio_net_hdr h = kit_hdr(k, gso_size);
	struct iovec iov = { (void *)k->bytes, k->len };
	static uint8_t room[FRAME_ROOM];
	struct frame f;

	frame_init(&f, room, &iov, 1, 0, k->len);
	assert_int_equal(offload_accept(&f, &h, UINT64_MAX, 0), 0);
	vswitch_forward(r->k.lane, r->a->port, &f, 1);
}

static void a_device_without_offloads_gets_whole_checksums(void **state)
{
	const struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 333 };
	static struct kit_frame k;
	static struct read_file f;
	struct rig r;

	rig_open(&r);
	write_file(&r, 0);
	attach_files(&r, UPLINK_OFFLOADS_AUTO);
	kit_build(&spec, &k);
	send_kit(&r, &k, 0);
	assert_int_equal(stats(&r).csum_completed, 1);
	detach(&r);
	read_file(&r, &f);
	assert_int_equal(f.nr, 1);
	assert_true(kit_csum_good(f.bytes[0], f.len[0], k.l3, k.l4));
	rig_close(&r);
}

/* Large segments, cut in software. */
static void a_device_without_offloads_gets_pieces(void **state)
{
	static const struct kit_spec specs[] = {
		{ .proto = IP_PROTO_TCP, .payload = 20000 },
		{ .v6 = true, .proto = IP_PROTO_TCP, .payload = 20000 },
		{ .proto = IP_PROTO_UDP, .payload = 20000 },
	};
	static struct kit_frame k;
	static struct read_file f;
	struct rig r;

	for (unsigned int s = 0; s < ARRAY_SIZE(specs); s++) {
		rig_open(&r);
		write_file(&r, 0);
		attach_files(&r, UPLINK_OFFLOADS_AUTO);
		kit_build(&specs[s], &k);
		send_kit(&r, &k, 1400);
		assert_int_equal(stats(&r).segmented, 1);
		detach(&r);
		read_file(&r, &f);
		assert_int_equal(f.nr, (20000 + 1399) / 1400);
		for (unsigned int i = 0; i < f.nr; i++)
			assert_true(kit_csum_good(f.bytes[i], f.len[i], k.l3, k.l4));
		rig_close(&r);
	}
}

static void a_frame_longer_than_the_device_takes_is_dropped(void **state)
{
	const struct swkit_frame frame = { B, A, .len = 1515 };
	struct rig r;

	rig_open(&r);
	write_file(&r, 0);
	attach_files(&r, UPLINK_OFFLOADS_AUTO);
	swkit_send(&r.k, r.a, &frame, 1);
	assert_int_equal(drops(&r, DROP_MTU_OUT), 1);
	assert_int_equal(stats(&r).out_frames, 0);
	rig_close(&r);
}

/* --- what the kernel left to a device --------------------------------------------------- */

static void write_frame_file(const struct rig *r, const uint8_t *bytes, uint32_t len)
{
	struct pcap_pkthdr h = { .caplen = len, .len = len };
	pcap_t *p = pcap_open_dead(DLT_EN10MB, 65536);
	pcap_dumper_t *d = pcap_dump_open(p, r->in);

	assert_non_null(d);
	pcap_dump((u_char *)d, &h, bytes);
	pcap_dump_close(d);
	pcap_close(p);
}

/* From one file through the switch to another. */
static void pass_on(struct rig *r, struct read_file *f)
{
	struct uplink_conf conf;
	struct uplink *to, *from;
	char dev[100], err[SW_ERR_LEN];

	snprintf(dev, sizeof(dev), "net_pcap1,tx_pcap=%s", r->out);
	conf = conf_of(r, dev);
	attach(r, &conf);
	to = r->up;
	snprintf(dev, sizeof(dev), "net_pcap0,rx_pcap=%s", r->in);
	conf = conf_of(r, dev);
	conf.name = "up1";
	if (uplink_create(&conf, &from, err) < 0)
		fail_msg("%s", err);
	swkit_settle(&r->k);
	r->up = from;
	detach(r);
	r->up = to;
	detach(r);
	read_file(r, f);
}

static void checksums_that_the_kernel_left_open_are_completed(void **state)
{
	static const struct kit_spec specs[] = {
		{ .proto = IP_PROTO_TCP, .payload = 333 },
		{ .proto = IP_PROTO_TCP, .payload = 332, .tags = 1, .tci = 5, .ip_options = 8 },
		{ .v6 = true, .proto = IP_PROTO_TCP, .payload = 1, .tcp_options = 12 },
		{ .proto = IP_PROTO_UDP, .payload = 5 }, /* padded to 60 bytes */
		{ .v6 = true, .proto = IP_PROTO_UDP, .payload = 1000 },
	};
	static struct kit_frame k;
	static struct read_file f;
	uint32_t len;
	struct rig r;

	for (unsigned int s = 0; s < ARRAY_SIZE(specs); s++) {
		rig_open(&r);
		kit_build(&specs[s], &k);
		len = (uint32_t)max_u64(k.len, 60);
		memset(k.bytes + k.len, 0xaa, len - k.len);
		assert_false(kit_csum_good(k.bytes, k.len, k.l3, k.l4));
		write_frame_file(&r, k.bytes, len);
		pass_on(&r, &f);
		assert_int_equal(f.nr, 1);
		assert_true(kit_csum_good(f.bytes[0], k.len, k.l3, k.l4));
		rig_close(&r);
	}
}

/* Right or wrong, but not the sum of the pseudo header. */
static void other_checksums_are_left_alone(void **state)
{
	const struct kit_spec spec = { .proto = IP_PROTO_TCP, .payload = 333 };
	static struct kit_frame k;
	static struct read_file f;
	struct rig r;

	rig_open(&r);
	kit_build(&spec, &k);
	k.bytes[k.l4 + TCP_CSUM] ^= 0x55;
	write_frame_file(&r, k.bytes, k.len);
	pass_on(&r, &f);
	assert_int_equal(f.nr, 1);
	assert_int_equal(f.len[0], k.len);
	assert_memory_equal(f.bytes[0], k.bytes, k.len);
	rig_close(&r);
}

/* The kernel's large segments, which drivers cut off. */
static void frames_longer_than_the_device_has_them_are_dropped(void **state)
{
	uint8_t bytes[1523] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
	char dev[100];
	struct uplink_conf conf;
	struct rig r;

	rig_open(&r);
	write_frame_file(&r, bytes, sizeof(bytes));
	snprintf(dev, sizeof(dev), "net_pcap0,rx_pcap=%s", r.in);
	conf = conf_of(&r, dev);
	attach(&r, &conf);
	assert_int_equal(drops(&r, DROP_TOO_LONG), 1);
	assert_int_equal(r.a->nr, 0);
	rig_close(&r);
}

/* --- the ring ---------------------------------------------------------------------------- */

static void what_a_ring_is_given_comes_back(void **state)
{
	struct uplink_conf conf;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	attach(&r, &conf);
	for (unsigned int i = 0; i < 200; i++) {
		const struct swkit_frame f = { SWKIT_BROADCAST, 0x1000 + i, .len = 60 + i };

		swkit_send(&r.k, r.a, &f, 1);
		swkit_settle(&r.k);
	}
	assert_int_equal(r.a->nr, 200);
	for (unsigned int i = 0; i < 200; i++)
		assert_int_equal(r.a->got[i].len, 60 + i);
	rig_close(&r);
}

static void a_full_device_drops_and_counts(void **state)
{
	struct swkit_frame burst[FRAME_BURST];
	struct uplink_conf conf;
	uint64_t sent, total = 0;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	attach(&r, &conf);
	for (unsigned int i = 0; i < FRAME_BURST; i++)
		burst[i] = (struct swkit_frame){ B, A };
	/* Nobody takes them out again meanwhile. */
	while (!drops(&r, DROP_NO_BUFFER) && !drops(&r, DROP_NO_MEMORY)) {
		swkit_send(&r.k, r.a, burst, FRAME_BURST);
		total += FRAME_BURST;
	}
	sent = stats(&r).out_frames;
	assert_true(sent > 0);
	assert_int_equal(total, sent + drops(&r, DROP_NO_BUFFER) + drops(&r, DROP_NO_MEMORY));
	/* And goes on as soon as there is room. */
	swkit_settle(&r.k);
	swkit_send(&r.k, r.a, burst, 1);
	assert_int_equal(stats(&r).out_frames, sent + 1);
	rig_close(&r);
}

static uint16_t port_id(const char *name)
{
	uint16_t id;

	assert_int_equal(rte_eth_dev_get_port_by_name(name, &id), 0);
	return id;
}

static const char *link_state(struct rig *r)
{
	json_t *status = uplink_status(r->up);
	const char *state =
		json_string_value(json_object_get(json_object_get(status, "link"), "state"));
	const char *known = state && !strcmp(state, "up") ? "up" : "down";

	json_decref(status);
	return known;
}

/* So that what comes back from the ring is not taken for a move. */
static void no_learning(struct rig *r)
{
	struct sw_port_conf conf = *r->a->port->conf;

	conf.learning = false;
	swkit_set(&r->k, r->a, &conf);
}

static int learned(struct rig *r)
{
	json_t *status = sw_port_status(uplink_port(r->up));
	int nr = (int)json_integer_value(json_object_get(status, "learned-macs"));

	json_decref(status);
	return nr;
}

static void a_link_that_is_down_drops_and_forgets(void **state)
{
	struct uplink_conf conf;
	uint64_t before;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	attach(&r, &conf);
	/* Comes back as if B were there. */
	no_learning(&r);
	swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, B);
	swkit_settle(&r.k);
	assert_int_equal(learned(&r), 1);
	rte_eth_dev_set_link_down(port_id("net_ring0"));
	/* Its driver has no interrupt for that: the timer finds out. */
	while (!drops(&r, DROP_LINK_DOWN)) {
		evloop_run_once(r.k.ev, 100);
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, A);
		swkit_settle(&r.k);
	}
	assert_string_equal(link_state(&r), "down");
	assert_int_equal(learned(&r), 0);
	rte_eth_dev_set_link_up(port_id("net_ring0"));
	before = stats(&r).out_frames;
	while (stats(&r).out_frames == before) {
		evloop_run_once(r.k.ev, 100);
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, A);
		swkit_settle(&r.k);
	}
	assert_string_equal(link_state(&r), "up");
	rig_close(&r);
}

/* Bridges behind it go on sending where they learned the stations otherwise. */
static void a_link_that_comes_back_tells_who_is_here(void **state)
{
	struct sw_port_conf port = swkit_access(7);
	struct uplink_conf conf;
	struct swkit_port *b;
	static struct read_file f;
	unsigned int nr_here = 0;
	char dev[100];
	struct rig r;

	rig_open(&r);
	b = swkit_add(&r.k, "b", &port);
	for (unsigned int i = 0; i < 100; i++)
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, 0x1000 + i);
	swkit_send_one(&r.k, b, SWKIT_BROADCAST, 0x2000);
	snprintf(dev, sizeof(dev), "net_pcap0,tx_pcap=%s", r.out);
	conf = conf_of(&r, dev);
	/* But nothing leaves where the operator wants nothing to. */
	conf.port.enabled = false;
	attach(&r, &conf);
	swkit_settle(&r.k);
	assert_int_equal(stats(&r).out_frames, 0);
	assert_int_equal(drops(&r, DROP_LINK_DOWN), 101);
	detach(&r);
	conf.port.enabled = true;
	attach(&r, &conf);
	swkit_settle(&r.k);
	assert_int_equal(stats(&r).out_frames, 101);
	detach(&r);
	read_file(&r, &f);
	assert_int_equal(f.nr, 101);
	for (unsigned int i = 0; i < f.nr; i++) {
		/* Untagged of the native VLAN, tagged of the other. */
		bool tagged = f.bytes[i][12] == 0x81;

		assert_int_equal(f.len[i], tagged ? 64 : 60);
		assert_memory_equal(f.bytes[i] + (tagged ? 16 : 12), "\x80\x35", 2);
		assert_int_equal(f.bytes[i][10], tagged ? 0x20 : 0x10);
		if (tagged)
			assert_memory_equal(f.bytes[i] + 12, "\x81\x00\x00\x07", 4);
		else
			nr_here++;
	}
	assert_int_equal(nr_here, 100);
	rig_close(&r);
}

/* --- loops ------------------------------------------------------------------------------- */

static void a_queue_moves_to_another_loop(void **state)
{
	struct uplink_conf conf;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	attach(&r, &conf);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(uplink_move(r.up, -1, i % SWKIT_LOOPS), 0);
		swkit_settle(&r.k);
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, 0x1000 + i);
		swkit_settle(&r.k);
		assert_int_equal(r.a->nr, i + 1);
		assert_int_equal(r.a->got[i].lane, i % SWKIT_LOOPS);
	}
	assert_int_equal(uplink_move(r.up, 0, SWKIT_LOOPS), -ENOENT);
	assert_int_equal(uplink_move(r.up, 1, 0), -ENOENT);
	/* Told twice before it has moved once, and to leave before that. */
	uplink_move(r.up, -1, 0);
	uplink_move(r.up, -1, 1);
	rig_close(&r);
}

static void it_may_leave_at_any_time(void **state)
{
	struct uplink_conf conf;
	char err[SW_ERR_LEN];
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	for (unsigned int i = 0; i < 10; i++) {
		/* At once: its queue is not on its loop yet. */
		assert_int_equal(uplink_create(&conf, &r.up, err), 0);
		detach(&r);
		attach(&r, &conf);
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, A);
		detach(&r);
	}
	rig_close(&r);
}

/* --- teams ------------------------------------------------------------------------------- */

/* That it survives the loss of a member takes devices whose MAC address can be set
 * and whose link can be taken down: tests/interop. */
static void a_team_is_made_and_taken_apart(void **state)
{
	static const char *const modes[] = { NULL, "active-backup", "balance-xor", "802.3ad" };
	struct uplink_conf conf;
	uint16_t before = rte_eth_dev_count_avail();
	json_t *status, *team;
	struct rig r;

	rig_open(&r);
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		conf = conf_of(&r, "net_null0,no-rx=1");
		conf.dev[1] = "net_null1,no-rx=1";
		conf.nr_dev = 2;
		conf.team_mode = modes[i];
		attach(&r, &conf);
		status = uplink_status(r.up);
		team = json_object_get(status, "team");
		assert_string_equal(json_string_value(json_object_get(team, "mode")),
				    modes[i ? i : 1]);
		assert_int_equal(json_array_size(json_object_get(team, "members")), 2);
		json_decref(status);
		while (strcmp(link_state(&r), "up") != 0)
			evloop_run_once(r.k.ev, 100);
		swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, A);
		detach(&r);
		assert_int_equal(rte_eth_dev_count_avail(), before);
	}
	rig_close(&r);
}

/* --- what is wrong -------------------------------------------------------------------------- */

static void expect_refused(const struct uplink_conf *conf, const char *part)
{
	uint16_t before = rte_eth_dev_count_avail();
	char err[SW_ERR_LEN] = "";
	struct uplink *up;

	assert_true(uplink_create(conf, &up, err) < 0);
	if (!strstr(err, part))
		fail_msg("'%s' is not in '%s'", part, err);
	assert_int_equal(rte_eth_dev_count_avail(), before);
}

static void what_cannot_be_had_is_refused_and_leaves_nothing(void **state)
{
	struct uplink_conf conf, second;
	char err[SW_ERR_LEN];
	struct uplink *other;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_nonsense0");
	expect_refused(&conf, "net_nonsense0: DPDK cannot attach it");
	conf = conf_of(&r, "net_pcap0,rx_pcap=/nonexistent/file");
	expect_refused(&conf, "/nonexistent/file");
	conf = conf_of(&r, "net_null0,no-rx=1");
	conf.queues = 9999;
	expect_refused(&conf, "queues=9999: the device has ");
	conf = conf_of(&r, "net_ring0");
	conf.mtu = 10;
	expect_refused(&conf, "mtu=10: the device takes ");
	/* A frame in one piece, and its room, are counted in 16 bits. */
	conf = conf_of(&r, "net_null0,no-rx=1");
	conf.mtu = 65323;
	expect_refused(&conf, " to 65322");
	conf.mtu = UINT16_MAX;
	expect_refused(&conf, " to 65322");
	/* The name of a port. */
	conf = conf_of(&r, "net_null0,no-rx=1");
	conf.name = "a";
	expect_refused(&conf, "a");
	/* A device in use. */
	conf = conf_of(&r, "net_null0,no-rx=1");
	attach(&r, &conf);
	second = conf;
	second.name = "up1";
	expect_refused(&second, "net_null0,no-rx=1: in use");
	/* The second device of a team. */
	second = conf_of(&r, "net_null1,no-rx=1");
	second.name = "up1";
	second.dev[1] = "net_nonsense0";
	second.nr_dev = 2;
	expect_refused(&second, "net_nonsense0");
	second.dev[1] = "net_null2,no-rx=1";
	assert_int_equal(uplink_create(&second, &other, err), 0);
	r.gone = false;
	uplink_destroy(other, gone, &r);
	while (!r.gone)
		swkit_settle(&r.k);
	rig_close(&r);
}

static void status_tells_what_it_is(void **state)
{
	struct uplink_conf conf;
	json_t *status;
	struct rig r;

	rig_open(&r);
	conf = conf_of(&r, "net_ring0");
	conf.mtu = 1400;
	attach(&r, &conf);
	status = uplink_status(r.up);
	assert_string_equal(json_string_value(json_object_get(status, "name")), "up0");
	assert_string_equal(json_string_value(json_object_get(status, "driver")), "net_ring");
	assert_int_equal(json_integer_value(json_object_get(status, "mtu")), 1400);
	assert_int_equal(json_array_size(json_object_get(status, "queues")), 1);
	json_decref(status);
	rig_close(&r);
}

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
/* DPDK is not instrumented: what its locks order is a race to ThreadSanitizer. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): its name */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:librte_\n";
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
#endif
#endif

static int start(void **state)
{
	const struct eal_conf conf = { .pages = EAL_PAGES_SMALL };
	char err[EAL_ERR_LEN];

	eal_configure(&conf);
	if (eal_start(err) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	return 0;
}

static int stop(void **state)
{
	eal_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_an_uplink_reach_ports),
		cmocka_unit_test(frames_to_an_uplink_leave_as_they_are),
		cmocka_unit_test(a_device_without_offloads_gets_whole_checksums),
		cmocka_unit_test(a_device_without_offloads_gets_pieces),
		cmocka_unit_test(a_frame_longer_than_the_device_takes_is_dropped),
		cmocka_unit_test(checksums_that_the_kernel_left_open_are_completed),
		cmocka_unit_test(other_checksums_are_left_alone),
		cmocka_unit_test(frames_longer_than_the_device_has_them_are_dropped),
		cmocka_unit_test(what_a_ring_is_given_comes_back),
		cmocka_unit_test(a_full_device_drops_and_counts),
		cmocka_unit_test(a_link_that_is_down_drops_and_forgets),
		cmocka_unit_test(a_link_that_comes_back_tells_who_is_here),
		cmocka_unit_test(a_queue_moves_to_another_loop),
		cmocka_unit_test(it_may_leave_at_any_time),
		cmocka_unit_test(a_team_is_made_and_taken_apart),
		cmocka_unit_test(what_cannot_be_had_is_refused_and_leaves_nothing),
		cmocka_unit_test(status_tells_what_it_is),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
