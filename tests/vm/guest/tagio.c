/*
 * tagio: write a block device from several threads, knowing at every moment
 * what each block must hold, and check that it does.
 *
 *     tagio NAME DEVICE THREADS BLOCKS BUFFER_MIB [OPERATIONS]
 *
 * Each thread owns BLOCKS blocks of 4 KiB and writes and re-reads random runs
 * of them past the page cache. It takes its buffers in turn from BUFFER_MIB of
 * memory, and looks at what it has read only when the turn comes round: what
 * the device wrote lies untouched meanwhile, as it must survive a migration in
 * between. After OPERATIONS, or on SIGTERM, every block is read once more. A
 * write counts only once the kernel has said that it is done; nothing after
 * that may lose it.
 *
 * Runs in test guests and linked statically, as there are no libraries. Says
 * "@@IO name=NAME ..." about once a second and "@@VERIFY name=NAME ..." at the
 * end.
 * Never retries: an error of the device is a failure.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK 4096
#define RUN_MAX 16
#define THREADS_MAX 16

struct tag {
	uint64_t block, generation;
};

/* One buffer, and what a read into it must have brought. */
struct slot {
	unsigned long first;
	unsigned int cnt; /* 0: nothing to look at */
	uint32_t generation[RUN_MAX];
};

struct worker {
	pthread_t thread;
	unsigned int index;
	uint64_t random;
	uint32_t *generation; /* per block, 0: never written */
	char *memory; /* nr_slots buffers */
	struct slot *slots;
	unsigned long ops, bad, errors;
};

static const char *name, *device;
static unsigned long nr_blocks, nr_slots, max_ops;
static volatile sig_atomic_t stop;

static void on_sigterm(int sig)
{
	(void)sig;
	stop = 1;
}

static uint64_t next_random(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

/* The tag is repeated over the whole block: a torn write shows. */
static void fill(char *block, struct tag tag)
{
	for (size_t i = 0; i < BLOCK; i += sizeof(tag))
		memcpy(block + i, &tag, sizeof(tag));
}

static int matches(const char *block, struct tag tag)
{
	for (size_t i = 0; i < BLOCK; i += sizeof(tag))
		if (memcmp(block + i, &tag, sizeof(tag)) != 0)
			return 0;
	return 1;
}

static char *slot_data(const struct worker *w, const struct slot *slot)
{
	return w->memory + (size_t)(slot - w->slots) * RUN_MAX * BLOCK;
}

static void expect(struct worker *w, struct slot *slot, unsigned long first, unsigned int cnt)
{
	slot->first = first;
	slot->cnt = cnt;
	memcpy(slot->generation, w->generation + first, cnt * sizeof(slot->generation[0]));
}

static void check(struct worker *w, struct slot *slot)
{
	for (unsigned int i = 0; i < slot->cnt; i++) {
		unsigned long local = slot->first + i;
		const char *data = slot_data(w, slot) + (size_t)i * BLOCK;
		struct tag tag = { w->index * nr_blocks + local, slot->generation[i] };
		struct tag seen;

		if (tag.generation == 0 || matches(data, tag))
			continue;
		memcpy(&seen, data, sizeof(seen));
		if (w->bad++ < 4)
			printf("@@BAD thread=%u block=%lu want=%lu/%lu seen=%lu/%lu\n", w->index,
			       local, tag.block, tag.generation, seen.block, seen.generation);
	}
	slot->cnt = 0;
}

static int one_io(struct worker *w, int fd, int is_write, char *data, unsigned long first,
		  unsigned int cnt)
{
	off_t offset = (off_t)(w->index * nr_blocks + first) * BLOCK;
	size_t len = (size_t)cnt * BLOCK;
	ssize_t done;

	done = is_write ? pwrite(fd, data, len, offset) : pread(fd, data, len, offset);
	if (done == (ssize_t)len)
		return 0;
	if (w->errors++ < 4)
		printf("@@IOERR thread=%u %s block=%lu: %s\n", w->index,
		       is_write ? "write" : "read", first, done < 0 ? strerror(errno) : "short");
	return -1;
}

static void one_write(struct worker *w, int fd, struct slot *slot, unsigned long first,
		      unsigned int cnt)
{
	char *data = slot_data(w, slot);

	for (unsigned int i = 0; i < cnt; i++)
		fill(data + (size_t)i * BLOCK, (struct tag){ w->index * nr_blocks + first + i,
							     w->generation[first + i] + 1 });
	if (one_io(w, fd, 1, data, first, cnt) == 0)
		for (unsigned int i = 0; i < cnt; i++)
			w->generation[first + i]++;
	if (next_random(w) % 32 == 0 && fdatasync(fd) != 0)
		w->errors++;
}

static void one_op(struct worker *w, int fd)
{
	unsigned int cnt = 1 + next_random(w) % RUN_MAX;
	unsigned long first = next_random(w) % (nr_blocks - cnt);
	struct slot *slot = &w->slots[w->ops % nr_slots];

	check(w, slot);
	if (next_random(w) % 3 != 0)
		one_write(w, fd, slot, first, cnt);
	else if (one_io(w, fd, 0, slot_data(w, slot), first, cnt) == 0)
		expect(w, slot, first, cnt);
	__atomic_fetch_add(&w->ops, 1, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int fd = open(device, O_RDWR | O_DIRECT);

	if (fd < 0) {
		printf("@@IOERR open %s: %s\n", device, strerror(errno));
		w->errors++;
		return NULL;
	}
	while (!stop && (max_ops == 0 || w->ops < max_ops))
		one_op(w, fd);
	for (unsigned long i = 0; i < nr_slots; i++)
		check(w, &w->slots[i]);
	for (unsigned long first = 0; first < nr_blocks; first += RUN_MAX) {
		if (one_io(w, fd, 0, w->memory, first, RUN_MAX) != 0)
			continue;
		expect(w, &w->slots[0], first, RUN_MAX);
		check(w, &w->slots[0]);
	}
	close(fd);
	return NULL;
}

static void report(const struct worker *workers, unsigned int cnt)
{
	unsigned long ops = 0, bad = 0, errors = 0;

	for (unsigned int i = 0; i < cnt; i++) {
		ops += __atomic_load_n(&workers[i].ops, __ATOMIC_RELAXED);
		bad += workers[i].bad;
		errors += workers[i].errors;
	}
	printf("@@IO name=%s ops=%lu bad=%lu errors=%lu\n", name, ops, bad, errors);
}

static int start_worker(struct worker *w, unsigned int index)
{
	w->index = index;
	w->random = 0x9e3779b97f4a7c15ull * (index + 1);
	w->generation = calloc(nr_blocks, sizeof(*w->generation));
	w->slots = calloc(nr_slots, sizeof(*w->slots));
	w->memory = mmap(NULL, nr_slots * RUN_MAX * BLOCK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (w->generation == NULL || w->slots == NULL || w->memory == MAP_FAILED)
		return -1;
	return pthread_create(&w->thread, NULL, work, w);
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	unsigned int nr_threads, running;
	unsigned long blocks = 0, bad = 0, errors = 0;

	if (argc < 6) {
		fprintf(stderr,
			"usage: tagio NAME DEVICE THREADS BLOCKS BUFFER_MIB [OPERATIONS]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	name = argv[1];
	device = argv[2];
	nr_threads = strtoul(argv[3], NULL, 0);
	nr_blocks = strtoul(argv[4], NULL, 0) / RUN_MAX * RUN_MAX;
	if (nr_threads == 0 || nr_threads > THREADS_MAX || nr_blocks <= RUN_MAX)
		return 2;
	nr_slots = (strtoul(argv[5], NULL, 0) << 20) / nr_threads / (RUN_MAX * BLOCK);
	if (nr_slots == 0)
		return 2;
	max_ops = argc > 6 ? strtoul(argv[6], NULL, 0) / nr_threads : 0;
	signal(SIGTERM, on_sigterm);
	for (unsigned int i = 0; i < nr_threads; i++) {
		if (start_worker(&workers[i], i) != 0) {
			printf("@@IOERR cannot start thread %u\n", i);
			return 1;
		}
	}
	do {
		sleep(1);
		report(workers, nr_threads);
		running = 0;
		for (unsigned int i = 0; i < nr_threads; i++)
			running += max_ops == 0 ||
				   __atomic_load_n(&workers[i].ops, __ATOMIC_RELAXED) < max_ops;
	} while (!stop && running != 0);
	for (unsigned int i = 0; i < nr_threads; i++) {
		pthread_join(workers[i].thread, NULL);
		bad += workers[i].bad;
		errors += workers[i].errors;
		for (unsigned long b = 0; b < nr_blocks; b++)
			blocks += workers[i].generation[b] != 0;
	}
	printf("@@VERIFY name=%s blocks=%lu bad=%lu errors=%lu\n", name, blocks, bad, errors);
	return bad == 0 && errors == 0 ? 0 : 1;
}
