/*
 * vunet-bench: what a frame's way through a vhost-user-net server takes, as
 * JSON. Sends frames at a steady rate into one port, takes them from another or
 * the same, and times each one. It can also be any number of idle ports. Run by
 * perf/net_compare.py and by hand; frame rates are testpmd's business.
 *
 * Theory of operation
 *
 * One thread plays both ports, so one clock times both ends. A frame carries
 * the time at which it was made available and its number; the rate does not
 * depend on what comes back (open loop), so a server that stalls makes all
 * frames of that time late instead of fewer. With --depth, so many frames are under
 * way all the time, and the rate is what comes of it (closed loop). First each port
 * sends a broadcast, from which a switch learns where it is.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "perf/hist.h"
#include "perf/netport.h"
#include "perf/perf_opts.h"
#include "perf/tsc.h"

#define IDLE_MAX 256
#define ANNOUNCE_SECONDS 20.0
#define MAGIC 0x52424e54u
#define STAMP_AT 42 /* behind Ethernet, IPv4 and UDP headers */
#define FRAME_MIN (STAMP_AT + (uint32_t)sizeof(struct stamp))

struct stamp {
	uint32_t magic;
	uint32_t number;
	uint64_t sent; /* ticks */
} __attribute__((packed));

struct bench_opts {
	const char *from, *to; /* to: NULL for a port that sends back */
	const char *idle[IDLE_MAX];
	unsigned int nr_idle;
	bool packed, in_order, mergeable;
	enum netport_iommu iommu;
	unsigned int depth; /* frames under way; 0: rate says */
	uint32_t size;
	double rate, seconds, warmup; /* frames a second */
	int cpu;
};

struct bench {
	struct bench_opts o;
	struct netport from, to_port, *to;
	struct netport *idle;
	double hz;
	uint64_t sent, received, out_of_order, held_back;
	uint32_t next_number, expected;
	bool measuring;
	bool from_heard, to_heard; /* a broadcast */
	struct hist latency; /* ticks */
};

static const char usage[] =
	"Usage: vunet-bench --from PATH [--to PATH] [OPTION]...\n"
	"       vunet-bench --idle PATH [--idle PATH ...] [OPTION]...\n"
	"Time frames on their way through a vhost-user-net server; JSON on stdout.\n\n"
	"  --from PATH           socket of the port that frames are sent into\n"
	"  --to PATH             of the port they arrive at (the same one)\n"
	"  --idle PATH           of a port that is opened and left alone; with nothing\n"
	"                        but idle ports, say \"ready\" and end with standard input\n"
	"  --ring split|packed   (split)\n"
	"  --in-order on|off     ask for VIRTIO_F_IN_ORDER (off)\n"
	"  --mergeable on|off    ask for VIRTIO_NET_F_MRG_RXBUF (on)\n"
	"  --iommu off|on|pages  behind a virtual IOMMU, mapped at once or by pages (off)\n"
	"  --size N              bytes of a frame, 60 to 1518 (64)\n"
	"  --rate N              frames a second (1000000)\n"
	"  --depth N             instead: N frames under way, 1 to 128\n"
	"  --seconds S           measured time (1)\n"
	"  --warmup S            before that (0.3)\n"
	"  --cpu N               pin to this CPU\n"
	"  --help\n";

enum {
	OPT_FROM = 256,
	OPT_TO,
	OPT_IDLE,
	OPT_RING,
	OPT_IN_ORDER,
	OPT_MERGEABLE,
	OPT_IOMMU,
	OPT_SIZE,
	OPT_RATE,
	OPT_DEPTH,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_CPU,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "from", required_argument, NULL, OPT_FROM },
	{ "to", required_argument, NULL, OPT_TO },
	{ "idle", required_argument, NULL, OPT_IDLE },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "in-order", required_argument, NULL, OPT_IN_ORDER },
	{ "mergeable", required_argument, NULL, OPT_MERGEABLE },
	{ "iommu", required_argument, NULL, OPT_IOMMU },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "cpu", required_argument, NULL, OPT_CPU },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static void parse_one(struct bench_opts *o, int opt, const char *arg)
{
	static const char *const rings[] = { "split", "packed", NULL };
	static const char *const onoff[] = { "off", "on", NULL };
	static const char *const iommus[] = { "off", "on", "pages", NULL };

	switch (opt) {
	case OPT_FROM:
		o->from = arg;
		break;
	case OPT_TO:
		o->to = arg;
		break;
	case OPT_IDLE:
		if (o->nr_idle == IDLE_MAX)
			popt_fail("--idle", arg, "at most 256 of them");
		o->idle[o->nr_idle++] = arg;
		break;
	case OPT_RING:
		o->packed = popt_word("--ring", arg, rings);
		break;
	case OPT_IN_ORDER:
		o->in_order = popt_word("--in-order", arg, onoff);
		break;
	case OPT_MERGEABLE:
		o->mergeable = popt_word("--mergeable", arg, onoff);
		break;
	case OPT_IOMMU:
		o->iommu = (enum netport_iommu)popt_word("--iommu", arg, iommus);
		break;
	case OPT_DEPTH:
		o->depth = (unsigned int)popt_number("--depth", arg, 1, 128);
		break;
	case OPT_SIZE:
		o->size = (uint32_t)popt_number("--size", arg, FRAME_MIN, 1518);
		break;
	case OPT_RATE:
		o->rate = (double)popt_number("--rate", arg, 1, 100000000);
		break;
	case OPT_SECONDS:
		o->seconds = popt_seconds("--seconds", arg);
		break;
	case OPT_WARMUP:
		o->warmup = popt_seconds("--warmup", arg);
		break;
	case OPT_CPU:
		o->cpu = (int)popt_number("--cpu", arg, 0, CPU_SETSIZE - 1);
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		fputs("vunet-bench: --help shows the options\n", stderr);
		exit(POPT_EXIT_USAGE);
	}
}

static void parse(struct bench_opts *o, int argc, char **argv)
{
	int opt;

	*o = (struct bench_opts){
		.mergeable = true, .size = 64, .rate = 1e6, .seconds = 1, .warmup = 0.3, .cpu = -1
	};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		parse_one(o, opt, optarg);
	if (optind < argc)
		popt_fail("argument", argv[optind], "options only");
	if (!o->from && !o->nr_idle)
		popt_fail("--from", "(none)", "the socket of a port, or --idle");
	if (!o->from && o->to)
		popt_fail("--to", o->to, "--from as well");
}

static int open_port(const struct bench_opts *o, struct netport *p, const char *path,
		     unsigned int number)
{
	struct netport_conf conf = {
		.path = path,
		.packed = o->packed,
		.in_order = o->in_order,
		.mergeable = o->mergeable,
		.iommu = o->iommu,
		.mac = { 0x02, 0x42, 0, 0, (uint8_t)(number >> 8), (uint8_t)number },
	};
	int err = netport_open(p, &conf);

	if (err)
		fprintf(stderr, "vunet-bench: %s: %s\n", path, strerror(-err));
	return err;
}

static int open_all(struct bench *b)
{
	unsigned int number = 0;
	int err = 0;

	b->idle = calloc(b->o.nr_idle ? b->o.nr_idle : 1, sizeof(*b->idle));
	if (!b->idle)
		return -ENOMEM;
	b->to = b->o.to ? &b->to_port : &b->from;
	if (b->o.from)
		err = open_port(&b->o, &b->from, b->o.from, number++);
	if (!err && b->o.to)
		err = open_port(&b->o, b->to, b->o.to, number++);
	for (unsigned int i = 0; i < b->o.nr_idle && !err; i++)
		err = open_port(&b->o, &b->idle[i], b->o.idle[i], number++);
	return err;
}

static void close_all(struct bench *b)
{
	if (b->o.from)
		netport_close(&b->from);
	if (b->o.to)
		netport_close(b->to);
	for (unsigned int i = 0; i < b->o.nr_idle; i++)
		netport_close(&b->idle[i]);
	free(b->idle);
}

/* Ethernet, IPv4 and UDP headers; what they say is of no concern to a switch
 * but the addresses. */
static void fill_headers(uint8_t *f, const uint8_t *dst, const uint8_t *src, uint32_t size)
{
	static const uint8_t ip_udp[28] = { 0x45, 0, 0,	  0,  0, 0, 0, 0, 64, 17, 0, 0, 198, 18,
					    0,	  1, 198, 18, 0, 2, 0, 9, 0,  9,  0, 0, 0,   0 };
	uint16_t ip_len = (uint16_t)(size - 14), udp_len = (uint16_t)(size - 34);
	uint32_t sum = 0;

	memcpy(f, dst, 6);
	memcpy(f + 6, src, 6);
	f[12] = 0x08;
	f[13] = 0;
	memcpy(f + 14, ip_udp, sizeof(ip_udp));
	f[16] = (uint8_t)(ip_len >> 8);
	f[17] = (uint8_t)ip_len;
	f[38] = (uint8_t)(udp_len >> 8);
	f[39] = (uint8_t)udp_len;
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)f[i] << 8 | f[i + 1];
	sum = ~((sum & 0xffff) + (sum >> 16));
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
}

/* One frame from a port to an address. -ENOSPC: its ring is full. */
static int send_one(struct bench *b, struct netport *p, const uint8_t *dst)
{
	struct stamp stamp = { .magic = MAGIC, .number = b->next_number };
	uint8_t *f = netport_frame(p);

	if (!f)
		return -ENOSPC;
	fill_headers(f, dst, p->mac, b->o.size);
	stamp.sent = tsc_now();
	memcpy(f + STAMP_AT, &stamp, sizeof(stamp));
	return netport_send(p, b->o.size);
}

/* Take all frames that are there from a port. 0 or -errno. */
static int receive(struct bench *b, struct netport *p)
{
	struct stamp stamp;
	const uint8_t *f;
	uint32_t len;
	int err = 0;

	while ((f = netport_receive(p, &len, &err)) && !err) {
		if (len != b->o.size)
			continue; /* a stranger's */
		memcpy(&stamp, f + STAMP_AT, sizeof(stamp));
		if (stamp.magic != MAGIC)
			continue;
		if (f[0] & 1) {
			b->from_heard |= p == &b->from;
			b->to_heard |= p == b->to;
			continue;
		}
		if (p != b->to)
			continue; /* flooded */
		if (b->measuring)
			hist_add(&b->latency, tsc_now() - stamp.sent);
		b->received++;
		b->out_of_order += stamp.number != b->expected;
		b->expected = stamp.number + 1;
	}
	return err;
}

static int receive_all(struct bench *b)
{
	int err = receive(b, b->to);

	return err || b->to == &b->from ? err : receive(b, &b->from);
}

/* Is it time for a frame after nr others? */
static bool is_due(const struct bench *b, uint64_t nr, uint64_t since_start)
{
	if (b->o.depth)
		return b->sent - b->received < b->o.depth;
	return since_start >= (uint64_t)((double)nr * b->hz / b->o.rate);
}

static int flush(struct bench *b)
{
	int err = netport_flush(&b->from);

	return err || b->to == &b->from ? err : netport_flush(b->to);
}

/* Send at the steady rate or depth for a time. 0 or -errno. */
static int run(struct bench *b, double seconds)
{
	uint64_t start = tsc_now(), end = start + (uint64_t)(seconds * b->hz), now;
	uint64_t nr = 0;
	int err;

	while ((now = tsc_now()) < end) {
		while (is_due(b, nr, now - start)) {
			err = send_one(b, &b->from, b->to->mac);
			if (err && err != -ENOSPC)
				return err;
			if (err) {
				b->held_back++;
				break;
			}
			b->sent++;
			b->next_number++;
			nr++;
			if (!b->o.depth)
				break; /* what is there is taken in between */
		}
		err = receive_all(b);
		if (!err && b->o.depth)
			err = flush(b);
		if (err)
			return err;
	}
	return 0;
}

/* Take in what arrives in this time. */
static int settle(struct bench *b, double seconds)
{
	uint64_t end = tsc_now() + (uint64_t)(seconds * b->hz);
	int err = 0;

	while (!err && tsc_now() < end)
		err = receive_all(b);
	return err;
}

/* Broadcast from both ports until both have heard one: a switch has learned then
 * where they are, and one that is slow to start a port has started it. */
static int announce(struct bench *b)
{
	static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint64_t end = tsc_now() + (uint64_t)(ANNOUNCE_SECONDS * b->hz);
	int err;

	while (!b->from_heard || !b->to_heard) {
		if (tsc_now() > end)
			return -ETIMEDOUT;
		err = send_one(b, &b->from, everybody);
		if ((!err || err == -ENOSPC) && b->to != &b->from)
			err = send_one(b, b->to, everybody);
		if (err && err != -ENOSPC)
			return err;
		err = settle(b, 0.1);
		if (err)
			return err;
	}
	return 0;
}

static int measure(struct bench *b)
{
	double seconds;
	uint64_t start;
	int err = announce(b);

	if (b->o.depth) {
		netport_hold(&b->from);
		netport_hold(b->to);
	}
	if (!err)
		err = run(b, b->o.warmup);
	if (!err)
		err = settle(b, 0.05);
	b->sent = b->received = b->out_of_order = b->held_back = 0;
	b->expected = b->next_number;
	b->measuring = true;
	start = tsc_now();
	if (!err)
		err = run(b, b->o.seconds);
	seconds = (double)(tsc_now() - start) / b->hz;
	if (!err)
		err = settle(b, 0.05);
	if (err) {
		fprintf(stderr, "vunet-bench: %s: %s\n",
			err == -ETIMEDOUT ? "no broadcast arrives" : "a ring is broken",
			strerror(-err));
		return err;
	}
	printf("{\"tool\": \"vunet-bench\", \"ring\": \"%s\", \"size\": %u, \"asked\": %.0f, "
	       "\"fps\": %.0f, \"sent\": %" PRIu64 ", \"received\": %" PRIu64
	       ", \"out_of_order\": %" PRIu64 ", \"held_back\": %" PRIu64 ", ",
	       b->o.packed ? "packed" : "split", b->o.size, b->o.rate, (double)b->sent / seconds,
	       b->sent, b->received, b->out_of_order, b->held_back);
	hist_print_json(&b->latency, b->hz / 1e9, stdout);
	puts("}");
	return 0;
}

/* Say that the idle ports are there, and leave with standard input. */
static int stay(const struct bench *b)
{
	char c;

	printf("{\"tool\": \"vunet-bench\", \"idle\": %u, \"ready\": true}\n", b->o.nr_idle);
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	static struct bench b;
	int err;

	parse(&b.o, argc, argv);
	popt_pin("vunet-bench", b.o.cpu);
	b.hz = tsc_hz();
	err = open_all(&b);
	if (!err)
		err = b.o.from ? measure(&b) : stay(&b);
	close_all(&b);
	return err ? 1 : 0;
}
