/*
 * vublk-bench: drives any vhost-user-blk server over its sockets with a
 * poll-mode driver and reports request rate and latency as JSON. Run by
 * perf/compare.py and by hand. One thread drives all queues of all devices.
 * Never starts or stops a server.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/atomic.h"
#include "core/base.h"
#include "perf/hist.h"
#include "perf/lane.h"
#include "perf/perf_opts.h"
#include "perf/tsc.h"
#include "tests/frontend/drv.h"

#define DEVICES_MAX 64
#define QUEUES_MAX 64
#define EXIT_NOT_OFFERED 3

struct bench_opts {
	const char *socket[DEVICES_MAX];
	unsigned int nr_sockets;
	unsigned int queues, depth, ring_size;
	uint32_t block_size;
	enum pattern pattern;
	bool packed, indirect, event_idx, poll, iommu;
	double seconds, warmup;
	uint64_t count; /* 0: by time */
	unsigned int pause_us; /* between two requests, once nothing is in flight */
	bool pause_awake; /* without sleeping */
	int cpu;
};

struct device {
	struct fe fe;
	struct virtio_blk_config config;
	struct drv_ring ring[QUEUES_MAX];
};

struct bench {
	struct bench_opts o;
	struct device *dev;
	struct lane *lane;
	unsigned int nr_lanes;
	double hz;
	uint64_t warmup_done; /* requests before the measured time */
};

static const char usage[] =
	"Usage: vublk-bench --socket PATH [--socket PATH ...] [OPTION]...\n"
	"Drive vhost-user-blk servers as a poll-mode driver does; JSON on stdout.\n\n"
	"  --socket PATH         of a server; several are driven together\n"
	"  --queues N            queues of each device, 1 to 64 (1)\n"
	"  --ring split|packed   (split)\n"
	"  --depth N             requests in flight on each queue, 1 to 256 (32)\n"
	"  --ring-size N         descriptors of a ring, 0: what the depth needs (0)\n"
	"  --block-size SIZE     bytes a request, K and M are known (4K)\n"
	"  --pattern NAME        randread, randwrite, read or write (randread)\n"
	"  --indirect on|off     one indirect descriptor a request (off)\n"
	"  --event-idx on|off    take VIRTIO_F_EVENT_IDX if offered (on)\n"
	"  --iommu on|off        behind a virtual IOMMU, everything mapped (off)\n"
	"  --poll on|off         off: sleep until the device notifies (on)\n"
	"  --seconds S           measured time (2)\n"
	"  --warmup S            before that (0.3)\n"
	"  --count N             measure N requests instead of a time\n"
	"  --pause-us N          idle that long before each batch of requests (0)\n"
	"  --pause-awake on|off  on: do not sleep meanwhile (off)\n"
	"  --cpu N               pin to this CPU\n"
	"  --help\n";

enum {
	OPT_SOCKET = 256,
	OPT_QUEUES,
	OPT_RING,
	OPT_RING_SIZE,
	OPT_DEPTH,
	OPT_BLOCK_SIZE,
	OPT_PATTERN,
	OPT_INDIRECT,
	OPT_EVENT_IDX,
	OPT_IOMMU,
	OPT_POLL,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_COUNT,
	OPT_PAUSE,
	OPT_PAUSE_AWAKE,
	OPT_CPU,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "queues", required_argument, NULL, OPT_QUEUES },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "ring-size", required_argument, NULL, OPT_RING_SIZE },
	{ "depth", required_argument, NULL, OPT_DEPTH },
	{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
	{ "pattern", required_argument, NULL, OPT_PATTERN },
	{ "indirect", required_argument, NULL, OPT_INDIRECT },
	{ "event-idx", required_argument, NULL, OPT_EVENT_IDX },
	{ "iommu", required_argument, NULL, OPT_IOMMU },
	{ "poll", required_argument, NULL, OPT_POLL },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "count", required_argument, NULL, OPT_COUNT },
	{ "pause-us", required_argument, NULL, OPT_PAUSE },
	{ "pause-awake", required_argument, NULL, OPT_PAUSE_AWAKE },
	{ "cpu", required_argument, NULL, OPT_CPU },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

static void parse_one(struct bench_opts *o, int opt, const char *arg)
{
	static const char *const rings[] = { "split", "packed", NULL };
	static const char *const onoff[] = { "off", "on", NULL };

	switch (opt) {
	case OPT_SOCKET:
		if (o->nr_sockets == DEVICES_MAX)
			popt_fail("--socket", arg, "at most 64 of them");
		o->socket[o->nr_sockets++] = arg;
		break;
	case OPT_QUEUES:
		o->queues = (unsigned int)popt_number("--queues", arg, 1, QUEUES_MAX);
		break;
	case OPT_RING:
		o->packed = popt_word("--ring", arg, rings);
		break;
	case OPT_RING_SIZE:
		o->ring_size = (unsigned int)popt_number("--ring-size", arg, 0, 1024);
		break;
	case OPT_DEPTH:
		o->depth = (unsigned int)popt_number("--depth", arg, 1, DEPTH_MAX);
		break;
	case OPT_BLOCK_SIZE:
		o->block_size = (uint32_t)popt_block_size("--block-size", arg);
		break;
	case OPT_PATTERN:
		o->pattern = (enum pattern)popt_word("--pattern", arg, pattern_names);
		break;
	case OPT_INDIRECT:
		o->indirect = popt_word("--indirect", arg, onoff);
		break;
	case OPT_EVENT_IDX:
		o->event_idx = popt_word("--event-idx", arg, onoff);
		break;
	case OPT_IOMMU:
		o->iommu = popt_word("--iommu", arg, onoff);
		break;
	case OPT_POLL:
		o->poll = popt_word("--poll", arg, onoff);
		break;
	case OPT_SECONDS:
		o->seconds = popt_seconds("--seconds", arg);
		break;
	case OPT_WARMUP:
		o->warmup = popt_seconds("--warmup", arg);
		break;
	case OPT_COUNT:
		o->count = popt_number("--count", arg, 1, UINT64_MAX / 2);
		break;
	case OPT_PAUSE:
		o->pause_us = (unsigned int)popt_number("--pause-us", arg, 0, 10000000);
		break;
	case OPT_PAUSE_AWAKE:
		o->pause_awake = popt_word("--pause-awake", arg, onoff);
		break;
	case OPT_CPU:
		o->cpu = (int)popt_number("--cpu", arg, 0, CPU_SETSIZE - 1);
		break;
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		fputs("vublk-bench: --help shows the options\n", stderr);
		exit(POPT_EXIT_USAGE);
	}
}

static void parse(struct bench_opts *o, int argc, char **argv)
{
	int opt;

	*o = (struct bench_opts){ .queues = 1,
				  .depth = 32,
				  .block_size = 4096,
				  .event_idx = true,
				  .poll = true,
				  .seconds = 2,
				  .warmup = 0.3,
				  .cpu = -1 };
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		parse_one(o, opt, optarg);
	if (optind < argc)
		popt_fail("argument", argv[optind], "options only");
	if (!o->nr_sockets)
		popt_fail("--socket", "(none)", "the path of a server's socket");
	if (!o->ring_size)
		o->ring_size = lane_ring_size(o->depth, o->indirect);
	if (o->ring_size > 1024 || o->ring_size < o->depth * (o->indirect ? 1 : LANE_CHAIN) ||
	    !is_power_of_two(o->ring_size))
		popt_fail("--ring-size", "(too small)", "a power of two with room for the depth");
}

static int connect_device(struct device *d, const struct bench_opts *o, const char *path)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_BLK_F_MQ |
			    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_BLK_SIZE |
			    1ull << VIRTIO_BLK_F_SEG_MAX;
	int err;

	if (o->packed)
		features |= 1ull << VIRTIO_F_RING_PACKED;
	if (o->indirect)
		features |= 1ull << VIRTIO_F_RING_INDIRECT_DESC;
	if (o->event_idx)
		features |= 1ull << VIRTIO_F_RING_EVENT_IDX;
	if (o->iommu)
		features |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
	err = fe_connect(&d->fe, path);
	if (!err)
		err = fe_negotiate(&d->fe, features,
				   1ull << FE_PROTO_MQ | 1ull << FE_PROTO_REPLY_ACK |
					   1ull << FE_PROTO_CONFIG | 1ull << FE_PROTO_BACKEND_REQ);
	if (!err)
		err = fe_get_config(&d->fe, 0, &d->config, sizeof(d->config));
	return err;
}

static void require(const struct device *d, const char *path, unsigned int bit, const char *name)
{
	if (fe_has(&d->fe, bit))
		return;
	fprintf(stderr, "vublk-bench: %s: the server does not offer %s\n", path, name);
	exit(EXIT_NOT_OFFERED);
}

/* Memory, rings and lanes of one device. */
static int open_device(struct bench *b, unsigned int index)
{
	const struct bench_opts *o = &b->o;
	struct device *d = &b->dev[index];
	struct drv_conf ring = { .indirect = o->indirect };
	struct lane_conf lane = { .depth = o->depth,
				  .block_size = o->block_size,
				  .pattern = o->pattern };
	int err;

	fe_init(&d->fe);
	err = connect_device(d, o, o->socket[index]);
	if (err)
		return err;
	if (o->packed)
		require(d, o->socket[index], VIRTIO_F_RING_PACKED, "packed rings");
	if (o->indirect)
		require(d, o->socket[index], VIRTIO_F_RING_INDIRECT_DESC, "indirect descriptors");
	if (o->iommu)
		require(d, o->socket[index], VIRTIO_F_ACCESS_PLATFORM, "a virtual IOMMU");
	lane.capacity_sectors = le64toh(d->config.capacity);
	if (lane.capacity_sectors * 512 < o->block_size)
		return -ENOSPC;
	/* Requests and data, and 4 MiB for each queue's ring and tables. */
	lane.region = fe_mem_new(
		&d->fe,
		round_up(((uint64_t)o->block_size * o->depth + (4 << 20)) * o->queues, 2 << 20));
	if (lane.region < 0)
		return lane.region;
	/* Resident before the clock runs. */
	memset(d->fe.region[lane.region].host, 0x5a, d->fe.region[lane.region].size);
	memset(d->fe.region[lane.region].host, 0, d->fe.region[lane.region].size);
	err = fe_mem_share(&d->fe);
	if (!err && o->iommu)
		err = fe_iommu_map(&d->fe, d->fe.region[lane.region].gpa,
				   d->fe.region[lane.region].size, 3);
	ring.region = lane.region;
	ring.size = (uint16_t)o->ring_size;
	for (unsigned int q = 0; q < o->queues && !err; q++) {
		lane.seed = b->nr_lanes;
		err = drv_create(&d->ring[q], &d->fe, q, &ring);
		if (!err)
			err = lane_init(&b->lane[b->nr_lanes++], &d->ring[q], &lane);
		if (!err)
			err = drv_start(&d->ring[q]);
	}
	return err;
}

static void close_device(struct bench *b, struct device *d)
{
	for (unsigned int q = 0; q < b->o.queues; q++) {
		drv_stop(&d->ring[q]);
		drv_destroy(&d->ring[q]);
	}
	fe_close(&d->fe);
}

/* Sleep until a queue's device notifies; for --poll off. */
static void wait_call(struct bench *b)
{
	struct pollfd pfd[DEVICES_MAX];
	unsigned int nr = b->nr_lanes < DEVICES_MAX ? b->nr_lanes : DEVICES_MAX;
	bool any = false;

	for (unsigned int i = 0; i < b->nr_lanes; i++) {
		drv_notify(b->lane[i].ring, true);
		any |= lane_turn(&b->lane[i]);
	}
	for (unsigned int i = 0; i < nr; i++)
		pfd[i] = (struct pollfd){ .fd = b->lane[i].ring->call_fd, .events = POLLIN };
	/* With more queues than that the others are looked at every millisecond. */
	if (!any)
		poll(pfd, nr, nr < b->nr_lanes ? 1 : 100);
	for (unsigned int i = 0; i < b->nr_lanes; i++) {
		if (!any && i < nr && pfd[i].revents)
			drv_calls(b->lane[i].ring);
	}
}

/* Turns until deadline (ticks), or until count requests; false: broken. */
static bool run_until(struct bench *b, uint64_t deadline, uint64_t count)
{
	bool any;

	for (;;) {
		uint64_t done = 0;

		any = false;
		for (unsigned int i = 0; i < b->nr_lanes; i++) {
			any |= lane_turn(&b->lane[i]);
			done += b->lane[i].stats.done;
			if (unlikely(b->lane[i].broken))
				return false;
		}
		if (count && done >= count)
			return true;
		if (!any && !b->o.poll)
			wait_call(b);
		else if (!any)
			cpu_relax();
		if (!count && tsc_now() >= deadline)
			return true;
	}
}

/* Wait until nothing is in flight. */
static bool drain(struct bench *b)
{
	uint64_t deadline = tsc_now() + (uint64_t)(10 * b->hz);
	uint32_t inflight;

	for (unsigned int i = 0; i < b->nr_lanes; i++)
		b->lane[i].stopping = true;
	do {
		inflight = 0;
		for (unsigned int i = 0; i < b->nr_lanes; i++) {
			lane_turn(&b->lane[i]);
			if (b->lane[i].broken)
				return false;
			inflight += b->lane[i].inflight;
		}
	} while (inflight && tsc_now() < deadline);
	return !inflight;
}

/* One batch of requests at a time, with a pause before each. */
static bool run_paused(struct bench *b, uint64_t deadline, uint64_t count)
{
	uint64_t done;

	do {
		if (!drain(b))
			return false;
		tsc_idle(b->hz, b->o.pause_us, b->o.pause_awake);
		done = 0;
		for (unsigned int i = 0; i < b->nr_lanes; i++) {
			b->lane[i].stopping = false;
			done += b->lane[i].stats.done;
			lane_start(&b->lane[i]);
			b->lane[i].stopping = true;
		}
	} while (count ? done < count : tsc_now() < deadline);
	return drain(b);
}

static bool run(struct bench *b, double *seconds)
{
	bool (*step)(struct bench *, uint64_t, uint64_t) = b->o.pause_us ? run_paused : run_until;
	uint64_t start;
	bool ok;

	for (unsigned int i = 0; i < b->nr_lanes; i++)
		lane_start(&b->lane[i]);
	ok = step(b, tsc_now() + (uint64_t)(b->o.warmup * b->hz), 0);
	for (unsigned int i = 0; i < b->nr_lanes; i++) {
		b->warmup_done += b->lane[i].stats.done;
		memset(&b->lane[i].stats, 0, sizeof(b->lane[i].stats));
	}
	start = tsc_now();
	ok = ok && step(b, start + (uint64_t)(b->o.seconds * b->hz), b->o.count);
	*seconds = (double)(tsc_now() - start) / b->hz;
	return ok;
}

static void sum_stats(const struct bench *b, struct lane_stats *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned int i = 0; i < b->nr_lanes; i++) {
		const struct lane_stats *s = &b->lane[i].stats;

		for (unsigned int k = 0; k < HIST_BUCKETS; k++)
			sum->latency.count[k] += s->latency.count[k];
		sum->latency.total += s->latency.total;
		sum->latency.sum += s->latency.sum;
		sum->latency.max = max_u64(sum->latency.max, s->latency.max);
		sum->done += s->done;
		sum->errors += s->errors;
		sum->kicks += s->kicks;
		sum->turns += s->turns;
		sum->busy_turns += s->busy_turns;
	}
}

static void report(const struct bench *b, const struct lane_stats *s, double seconds)
{
	printf("{\"tool\": \"vublk-bench\", \"ring\": \"%s\", \"devices\": %u, \"queues\": %u, "
	       "\"depth\": %u, \"block_size\": %u, \"pattern\": \"%s\", \"indirect\": %s, "
	       "\"event_idx\": %s, ",
	       b->o.packed ? "packed" : "split", b->o.nr_sockets, b->o.queues, b->o.depth,
	       b->o.block_size, pattern_names[b->o.pattern], b->o.indirect ? "true" : "false",
	       b->lane[0].ring->event_idx ? "true" : "false");
	printf("\"seconds\": %.6f, \"requests\": %" PRIu64 ", \"errors\": %" PRIu64
	       ", \"iops\": %.0f, \"mib_s\": %.1f, \"kicks\": %" PRIu64 ", \"turns\": %" PRIu64
	       ", \"busy_turns\": %" PRIu64 ", ",
	       seconds, s->done, s->errors, (double)s->done / seconds,
	       (double)s->done * b->o.block_size / seconds / (1 << 20), s->kicks, s->turns,
	       s->busy_turns);
	printf("\"requests_total\": %" PRIu64 ", ", b->warmup_done + s->done);
	hist_print_json(&s->latency, b->hz / 1e9, stdout);
	printf("}\n");
}

static int open_all(struct bench *b)
{
	int err;

	b->dev = calloc(b->o.nr_sockets, sizeof(*b->dev));
	b->lane = aligned_alloc(CACHE_LINE, round_up(sizeof(*b->lane), CACHE_LINE) *
						    b->o.nr_sockets * b->o.queues);
	if (!b->dev || !b->lane)
		return -ENOMEM;
	for (unsigned int i = 0; i < b->o.nr_sockets; i++) {
		err = open_device(b, i);
		if (err) {
			fprintf(stderr, "vublk-bench: %s: %s\n", b->o.socket[i], strerror(-err));
			return err;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct lane_stats *sum;
	struct bench b = { 0 };
	double seconds;
	bool ok;

	parse(&b.o, argc, argv);
	popt_pin("vublk-bench", b.o.cpu);
	b.hz = tsc_hz();
	sum = malloc(sizeof(*sum));
	if (!sum || open_all(&b))
		return 1;
	ok = run(&b, &seconds);
	sum_stats(&b, sum);
	if (ok)
		ok = drain(&b);
	if (ok)
		report(&b, sum, seconds);
	else
		fprintf(stderr, "vublk-bench: a server broke the ring or stopped answering\n");
	for (unsigned int i = 0; i < b.o.nr_sockets; i++)
		close_device(&b, &b.dev[i]);
	free(sum);
	free(b.lane);
	free(b.dev);
	return ok ? 0 : 1;
}
