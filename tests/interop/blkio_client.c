/*
 * A program that uses a vhost-user block device through libblkio, the library
 * other programs would use: no virtual machine, memory regions that come and
 * go, notifications switched off on a polled queue.
 *
 *     blkio_client SOCKET QUEUES POLL_QUEUES
 *
 * Prints "capacity=BYTES" and then one word per step that went well; at the
 * first thing that is not as it must be, says so and exits with status 1. The
 * device's contents are lost.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <blkio.h>

#define UNIT 65536
#define DEPTH 16
#define UNITS 256 /* 16 MiB */

static struct blkio *blkio;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf(": %s\n", blkio_get_error_msg());
	exit(1);
}

static void expect_ok(const char *what, int res)
{
	if (res != 0)
		fail("%s: %s", what, strerror(-res));
}

static void done(const char *step)
{
	printf("%s\n", step);
	fflush(stdout);
}

/* Wait for cnt completions on q, all of them good. A lost one is an error, not
 * a hang. Returns how many calls it took. */
static void reap(struct blkioq *q, int cnt, int timeout_s)
{
	struct timespec timeout = { .tv_sec = timeout_s };
	struct blkio_completion completions[DEPTH];
	int got;

	got = blkioq_do_io(q, completions, cnt, cnt, timeout_s ? &timeout : NULL);
	if (got != cnt)
		fail("%d of %d completions", got, cnt);
	for (int i = 0; i < cnt; i++)
		if (completions[i].ret != 0)
			fail("request %zu: %s", (size_t)completions[i].user_data,
			     strerror(-completions[i].ret));
}

/* Polled queues have no time limit of their own: spin, but not for ever. */
static void reap_polled(struct blkioq *q, int cnt)
{
	struct blkio_completion completions[DEPTH];
	time_t end = time(NULL) + 20;
	int got, sum = 0;

	while (sum < cnt) {
		got = blkioq_do_io(q, completions, 0, cnt - sum, NULL);
		if (got < 0)
			fail("poll: %s", strerror(-got));
		for (int i = 0; i < got; i++)
			if (completions[i].ret != 0)
				fail("request: %s", strerror(-completions[i].ret));
		sum += got;
		if (time(NULL) > end)
			fail("%d of %d completions on a polled queue", sum, cnt);
	}
}

static void fill(char *data, unsigned int unit, unsigned int round)
{
	unsigned int word[2] = { unit, round };

	for (size_t i = 0; i < UNIT; i += sizeof(word))
		memcpy(data + i, word, sizeof(word));
}

/* Write and read back every unit over one queue, DEPTH requests at a time. */
static void use_queue(struct blkioq *q, char *memory, unsigned int round,
		      void (*reap_all)(struct blkioq *q, int cnt))
{
	char *want = malloc(UNIT);

	for (unsigned int unit = 0; unit < UNITS; unit += DEPTH) {
		for (unsigned int i = 0; i < DEPTH; i++) {
			fill(memory + i * UNIT, unit + i, round);
			blkioq_write(q, (uint64_t)(unit + i) * UNIT, memory + i * UNIT, UNIT, NULL,
				     0);
		}
		reap_all(q, DEPTH);
	}
	blkioq_flush(q, NULL, 0);
	reap_all(q, 1);
	for (unsigned int unit = 0; unit < UNITS; unit += DEPTH) {
		memset(memory, 0xee, DEPTH * UNIT);
		for (unsigned int i = 0; i < DEPTH; i++)
			blkioq_read(q, (uint64_t)(unit + i) * UNIT, memory + i * UNIT, UNIT, NULL,
				    0);
		reap_all(q, DEPTH);
		for (unsigned int i = 0; i < DEPTH; i++) {
			fill(want, unit + i, round);
			if (memcmp(want, memory + i * UNIT, UNIT) != 0)
				fail("unit %u differs in round %u", unit + i, round);
		}
	}
	free(want);
}

static void reap_waiting(struct blkioq *q, int cnt)
{
	reap(q, cnt, 20);
}

/* Half discarded, half zeroed: both read as zero from a file with holes. */
static void zero_again(struct blkioq *q, char *memory)
{
	blkioq_discard(q, 0, (uint64_t)UNITS * UNIT / 2, NULL, 0);
	blkioq_write_zeroes(q, (uint64_t)UNITS * UNIT / 2, (uint64_t)UNITS * UNIT / 2, NULL, 0);
	reap_waiting(q, 2);
	for (unsigned int unit = 0; unit < UNITS; unit++) {
		memset(memory, 0xee, UNIT);
		blkioq_read(q, (uint64_t)unit * UNIT, memory, UNIT, NULL, 0);
		reap_waiting(q, 1);
		for (size_t i = 0; i < UNIT; i++)
			if (memory[i] != 0)
				fail("unit %u is not zero", unit);
	}
}

/* A request beyond the end must fail, and nothing else with it. */
static void beyond_the_end(struct blkioq *q, char *memory, uint64_t capacity)
{
	struct timespec timeout = { .tv_sec = 20 };
	struct blkio_completion completion;

	blkioq_read(q, capacity, memory, UNIT, NULL, 0);
	if (blkioq_do_io(q, &completion, 1, 1, &timeout) != 1)
		fail("no completion beyond the end");
	if (completion.ret == 0)
		fail("a read beyond the end succeeded");
	blkioq_read(q, capacity - UNIT, memory, UNIT, NULL, 0);
	reap_waiting(q, 1);
}

static char *add_memory(struct blkio_mem_region *region)
{
	expect_ok("alloc_mem_region", blkio_alloc_mem_region(blkio, region, DEPTH * UNIT));
	expect_ok("map_mem_region", blkio_map_mem_region(blkio, region));
	return region->addr;
}

int main(int argc, char **argv)
{
	struct blkio_mem_region first, second;
	int queues, poll_queues;
	char *memory, *more;
	uint64_t capacity;

	if (argc != 4) {
		fprintf(stderr, "usage: blkio_client SOCKET QUEUES POLL_QUEUES\n");
		return 2;
	}
	queues = atoi(argv[2]);
	poll_queues = atoi(argv[3]);
	expect_ok("create", blkio_create("virtio-blk-vhost-user", &blkio));
	expect_ok("path", blkio_set_str(blkio, "path", argv[1]));
	expect_ok("connect", blkio_connect(blkio));
	expect_ok("num-queues", blkio_set_int(blkio, "num-queues", queues));
	expect_ok("num-poll-queues", blkio_set_int(blkio, "num-poll-queues", poll_queues));
	expect_ok("start", blkio_start(blkio));
	expect_ok("capacity", blkio_get_uint64(blkio, "capacity", &capacity));
	printf("capacity=%llu\n", (unsigned long long)capacity);
	memory = add_memory(&first);
	for (int i = 0; i < queues; i++)
		use_queue(blkio_get_queue(blkio, i), memory, i + 1, reap_waiting);
	done("queues");
	for (int i = 0; i < poll_queues; i++)
		use_queue(blkio_get_poll_queue(blkio, i), memory, i + 100, reap_polled);
	done("polled");
	more = add_memory(&second);
	use_queue(blkio_get_queue(blkio, 0), more, 200, reap_waiting);
	blkio_unmap_mem_region(blkio, &first);
	blkio_free_mem_region(blkio, &first);
	use_queue(blkio_get_queue(blkio, 0), more, 201, reap_waiting);
	done("memory");
	zero_again(blkio_get_queue(blkio, 0), more);
	done("zero");
	beyond_the_end(blkio_get_queue(blkio, 0), more, capacity);
	done("bounds");
	blkio_destroy(&blkio);
	return 0;
}
