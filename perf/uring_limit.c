/*
 * uring-limit: the ceiling. A bare io_uring loop on a file, with no front-end
 * and no ring of virtio: what the kernel can do on one CPU at the same depth,
 * pattern and block size. Registered file, registered buffers, single issuer
 * with deferred task work. Run by perf/compare.py; prints the JSON of
 * vublk-bench.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "perf/hist.h"
#include "perf/perf_opts.h"
#include "perf/places.h"
#include "perf/tsc.h"

struct limit {
	struct io_uring ring;
	const char *path;
	int fd, cpu;
	unsigned int depth;
	uint32_t block_size;
	enum pattern pattern;
	bool direct, fixed;
	double seconds, warmup, hz;
	struct places places;
	uint8_t *buf;
	uint64_t started[DEPTH_MAX];
	uint64_t done, errors;
	struct hist latency;
};

static void prepare(struct limit *l, unsigned int slot, uint64_t now)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
	uint8_t *buf = l->buf + (size_t)slot * l->block_size;
	uint64_t offset = places_next(&l->places) * 512;

	/* There is an entry for each slot. */
	assert(sqe);
	if (pattern_writes(l->pattern) && l->fixed)
		io_uring_prep_write_fixed(sqe, 0, buf, l->block_size, offset, 0);
	else if (pattern_writes(l->pattern))
		io_uring_prep_write(sqe, 0, buf, l->block_size, offset);
	else if (l->fixed)
		io_uring_prep_read_fixed(sqe, 0, buf, l->block_size, offset, 0);
	else
		io_uring_prep_read(sqe, 0, buf, l->block_size, offset);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = slot;
	l->started[slot] = now;
}

/* Take back what is done; start it again unless stopping. How many. */
static unsigned int reap(struct limit *l, bool stopping)
{
	struct io_uring_cqe *cqe;
	uint64_t now = tsc_now();
	unsigned int head, n = 0;

	io_uring_for_each_cqe(&l->ring, head, cqe)
	{
		unsigned int slot = (unsigned int)cqe->user_data;

		hist_add(&l->latency, now - l->started[slot]);
		l->errors += cqe->res != (int)l->block_size;
		l->done++;
		n++;
		if (!stopping)
			prepare(l, slot, now);
	}
	io_uring_cq_advance(&l->ring, n);
	return n;
}

static int run(struct limit *l, double seconds)
{
	uint64_t deadline = tsc_now() + (uint64_t)(seconds * l->hz);
	int n;

	while (tsc_now() < deadline) {
		n = io_uring_submit_and_wait(&l->ring, 1);
		if (n < 0 && n != -EINTR)
			return n;
		reap(l, false);
	}
	return 0;
}

static int drain(struct limit *l, unsigned int inflight)
{
	int n;

	while (inflight) {
		n = io_uring_submit_and_wait(&l->ring, 1);
		if (n < 0 && n != -EINTR)
			return n;
		inflight -= reap(l, true);
	}
	return 0;
}

static int setup(struct limit *l)
{
	size_t len = round_up((uint64_t)l->block_size * l->depth, 2 << 20);
	struct io_uring_params p = { .flags = IORING_SETUP_SINGLE_ISSUER |
					      IORING_SETUP_DEFER_TASKRUN };
	struct iovec iov = { .iov_len = len };
	struct stat st;
	int err;

	/* O_NONBLOCK: or a file in memory is read by a worker thread of io_uring.
	 * O_NOATIME: nobody wants to know. */
	l->fd = open(l->path, O_CLOEXEC | O_NONBLOCK | O_NOATIME |
				      (pattern_writes(l->pattern) ? O_RDWR : O_RDONLY) |
				      (l->direct ? O_DIRECT : 0));
	if (l->fd < 0 || fstat(l->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size < l->block_size)
		return -ENOSPC;
	places_init(&l->places, (uint64_t)st.st_size / 512, l->block_size,
		    !pattern_random(l->pattern), 0);
	l->buf = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		      -1, 0);
	if (l->buf == MAP_FAILED)
		return -errno;
	memset(l->buf, 0x5a, len);
	err = io_uring_queue_init_params(DEPTH_MAX, &l->ring, &p);
	if (err == -EINVAL) {
		/* Before Linux 6.1. */
		p = (struct io_uring_params){ 0 };
		err = io_uring_queue_init_params(DEPTH_MAX, &l->ring, &p);
	}
	if (err)
		return err;
	err = io_uring_register_files(&l->ring, &l->fd, 1);
	if (err)
		return err;
	iov.iov_base = l->buf;
	l->fixed = !io_uring_register_buffers(&l->ring, &iov, 1);
	return 0;
}

static void report(const struct limit *l, double seconds, double cpu)
{
	printf("{\"tool\": \"uring-limit\", \"depth\": %u, \"block_size\": %u, "
	       "\"pattern\": \"%s\", \"direct\": %s, \"fixed_buffers\": %s, ",
	       l->depth, l->block_size, pattern_names[l->pattern], l->direct ? "true" : "false",
	       l->fixed ? "true" : "false");
	printf("\"seconds\": %.6f, \"requests\": %" PRIu64 ", \"errors\": %" PRIu64
	       ", \"iops\": %.0f, \"mib_s\": %.1f, \"cpu_seconds\": %.6f, ",
	       seconds, l->done, l->errors, (double)l->done / seconds,
	       (double)l->done * l->block_size / seconds / (1 << 20), cpu);
	hist_print_json(&l->latency, l->hz / 1e9, stdout);
	printf("}\n");
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void parse(struct limit *l, int argc, char **argv)
{
	static const struct option options[] = {
		{ "file", required_argument, NULL, 'f' },
		{ "depth", required_argument, NULL, 'd' },
		{ "block-size", required_argument, NULL, 'b' },
		{ "pattern", required_argument, NULL, 'p' },
		{ "direct", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 's' },
		{ "warmup", required_argument, NULL, 'w' },
		{ "cpu", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	static const char *const onoff[] = { "off", "on", NULL };
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'f':
			l->path = optarg;
			break;
		case 'd':
			l->depth = (unsigned int)popt_number("--depth", optarg, 1, DEPTH_MAX);
			break;
		case 'b':
			l->block_size = (uint32_t)popt_block_size("--block-size", optarg);
			break;
		case 'p':
			l->pattern = (enum pattern)popt_word("--pattern", optarg, pattern_names);
			break;
		case 'o':
			l->direct = popt_word("--direct", optarg, onoff);
			break;
		case 's':
			l->seconds = popt_seconds("--seconds", optarg);
			break;
		case 'w':
			l->warmup = popt_seconds("--warmup", optarg);
			break;
		case 'c':
			l->cpu = (int)popt_number("--cpu", optarg, 0, CPU_SETSIZE - 1);
			break;
		case 'h':
			puts("Usage: uring-limit --file PATH [--depth N] [--block-size SIZE]\n"
			     "  [--pattern randread|randwrite|read|write] [--direct on|off]\n"
			     "  [--seconds S] [--warmup S] [--cpu N]\n"
			     "A bare io_uring loop on a file; JSON on stdout. Writes destroy it.");
			exit(0);
		default:
			exit(POPT_EXIT_USAGE);
		}
	}
	if (!l->path)
		popt_fail("--file", "(none)", "the path of a file");
}

int main(int argc, char **argv)
{
	static struct limit l = {
		.depth = 32, .block_size = 4096, .seconds = 2, .warmup = 0.3, .cpu = -1
	};
	double cpu, seconds;
	uint64_t start;
	int err;

	parse(&l, argc, argv);
	popt_pin("uring-limit", l.cpu);
	l.hz = tsc_hz();
	err = setup(&l);
	if (!err) {
		start = tsc_now();
		for (unsigned int i = 0; i < l.depth; i++)
			prepare(&l, i, start);
		err = run(&l, l.warmup);
	}
	memset(&l.latency, 0, sizeof(l.latency));
	l.done = l.errors = 0;
	start = tsc_now();
	cpu = cpu_seconds();
	if (!err)
		err = run(&l, l.seconds);
	seconds = (double)(tsc_now() - start) / l.hz;
	cpu = cpu_seconds() - cpu;
	if (err) {
		fprintf(stderr, "uring-limit: %s: %s\n", l.path, strerror(-err));
		return 1;
	}
	report(&l, seconds, cpu);
	err = drain(&l, l.depth);
	io_uring_queue_exit(&l.ring);
	close(l.fd);
	return err ? 1 : 0;
}
