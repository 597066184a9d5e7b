/*
 * DPDK's environment abstraction layer, made to fit into a process that is not
 * DPDK's own. Called by uplinks and access lists before they use a DPDK object,
 * and by the program at its end. Never takes a device: those are attached one by
 * one when they are named.
 *
 * Theory of operation
 *
 * rte_eal_init() expects to own the process; what it would do beyond that is
 * undone or kept from happening here:
 *
 * - It pins the calling thread. The control thread gets its affinity back.
 * - It makes a worker thread for each CPU. It is told of a single CPU, and our
 *   loops register themselves as threads of their own (eal_enlist()).
 * - It leaves files behind for secondary processes and telemetry. It is told to
 *   share nothing; the empty directory it makes all the same is removed.
 * - It probes every PCI device bound to a user-space driver. It is given an allow
 *   list that names a device that cannot exist: then nothing is looked at, and
 *   devices can still be attached by name later on.
 * - It writes to stderr. It writes to our log instead, and what it calls an error is
 *   information to us: drivers complain of much that does not matter, and what does
 *   is in the return code of a call, with the complaint (eal_error()).
 * - Its drivers use real-time signals (net_tap). Those are blocked in our threads
 *   and left to DPDK's, so that they interrupt no system call of ours.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/eal.h"

#include <errno.h>
#include <linux/mman.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_version.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"

#define MEMORY_DEFAULT (256u << 20)
/* What EAL_PAGES_AUTO takes for enough: some thousand mbufs. */
#define HUGE_FREE_MIN (64u << 20)
#define ARGS_MAX 24
#define LOG_LINE_LEN 256
/* A CPU set that holds any CPU of any kernel. */
#define CPU_IDS 8192

const char *const eal_pages_names[EAL_PAGES_CNT + 1] = { "auto", "huge", "small", NULL };

/* A loop's thread on its way to being known. */
struct enlistment {
	struct loop_work work;
	struct loop *loop;
	struct enlistment *next;
};

static struct {
	struct eal_conf conf;
	bool running;
	int failed; /* -errno of the start that went wrong */
	bool huge;
	FILE *log;
	pthread_t control;
	bool lenient; /* its complaints are expected */
	char first_error[LOG_LINE_LEN];
	struct enlistment *enlisted;
} eal;

void eal_configure(const struct eal_conf *conf)
{
	assert(!eal.running);
	eal.conf = *conf;
}

bool eal_is_running(void)
{
	return eal.running;
}

const char *eal_pages_used(void)
{
	return eal_pages_names[eal.huge ? EAL_PAGES_HUGE : EAL_PAGES_SMALL];
}

/* --- its log ------------------------------------------------------------------- */

/* One call of rte_log(), which is one line or the part of one. */
static ssize_t log_line(void *cookie, const char *text, size_t len)
{
	uint32_t level = (uint32_t)rte_log_cur_msg_loglevel();
	bool is_error = level <= RTE_LOG_ERR;
	int cnt = (int)min_u64(len, LOG_LINE_LEN - 1);

	while (cnt && (text[cnt - 1] == '\n' || text[cnt - 1] == ' '))
		cnt--;
	if (!cnt)
		return (ssize_t)len;
	/* Those of the control thread are about what it is doing, and the first is
	 * nearest to the cause. */
	if (is_error && !eal.first_error[0] && pthread_equal(pthread_self(), eal.control))
		snprintf(eal.first_error, sizeof(eal.first_error), "%.*s", cnt, text);
	log_limited(is_error && !eal.lenient ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "dpdk: %.*s", cnt,
		    text);
	return (ssize_t)len;
}

void eal_clear_error(void)
{
	eal.first_error[0] = '\0';
}

void eal_be_lenient(bool lenient)
{
	eal.lenient = lenient;
}

const char *eal_error(void)
{
	return eal.first_error;
}

static int open_log(void)
{
	static const cookie_io_functions_t functions = { .write = log_line };

	eal.log = fopencookie(NULL, "w", functions);
	if (!eal.log)
		return -ENOMEM;
	/* rte_log() flushes after each call. */
	rte_openlog_stream(eal.log);
	return 0;
}

/* --- start --------------------------------------------------------------------- */

/* A page may be free and still not be ours: there are limits of control groups, and
 * the start it would fail in is the only one a process has. */
static bool can_have_page(uint64_t size)
{
	int flags =
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | __builtin_ctzll(size) << MAP_HUGE_SHIFT;
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	bool can;

	if (page == MAP_FAILED)
		return false;
	/* Says no where a write would end in SIGBUS. */
	can = !madvise(page, size, MADV_POPULATE_WRITE);
	munmap(page, size);
	return can;
}

/* Bytes of free hugepages of all sizes that can be had. */
static uint64_t free_hugepages(void)
{
	static const char *const sizes[] = { "2048", "1048576", "65536", "524288" };
	uint64_t sum = 0, size;
	unsigned long long cnt;
	char path[80];
	FILE *f;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(path, sizeof(path),
			 "/sys/kernel/mm/hugepages/hugepages-%skB/free_hugepages", sizes[i]);
		f = fopen(path, "re");
		if (!f)
			continue;
		size = strtoull(sizes[i], NULL, 10) * 1024;
		if (fscanf(f, "%llu", &cnt) == 1 && cnt && can_have_page(size))
			sum += cnt * size;
		fclose(f);
	}
	return sum;
}

static bool wants_hugepages(void)
{
	if (eal.conf.pages != EAL_PAGES_AUTO)
		return eal.conf.pages == EAL_PAGES_HUGE;
	return free_hugepages() >= HUGE_FREE_MIN;
}

struct arguments {
	char *list[ARGS_MAX];
	int cnt;
	char cpu[16], memory[16], prefix[32];
};

static void add(struct arguments *args, char *arg)
{
	assert(args->cnt < ARGS_MAX - 1);
	args->list[args->cnt++] = arg;
}

static void make_arguments(struct arguments *args, int cpu)
{
	uint64_t memory = eal.conf.memory ? eal.conf.memory : MEMORY_DEFAULT;
	char *common[] = { "ringbolt", "--no-telemetry", "--proc-type=primary",
			   "-a",       "ffff:ff:1f.7",	 "--lcores",
			   args->cpu,  "--file-prefix",	 args->prefix };

	args->cnt = 0;
	/* Its own number for the CPU: not every CPU's fits (RTE_MAX_LCORE). */
	snprintf(args->cpu, sizeof(args->cpu), "0@%d", cpu);
	snprintf(args->prefix, sizeof(args->prefix), "ringbolt-%d", (int)getpid());
	snprintf(args->memory, sizeof(args->memory), "%u",
		 (unsigned int)(max_u64(memory, EAL_MEMORY_MIN) >> 20));
	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		add(args, common[i]);
	if (eal.huge) {
		add(args, "--in-memory");
		add(args, "--single-file-segments");
	} else {
		add(args, "--no-huge");
		add(args, "--no-shconf");
		add(args, "-m");
		add(args, args->memory);
	}
	args->list[args->cnt] = NULL;
}

static void real_time_signals(sigset_t *set)
{
	sigemptyset(set);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		sigaddset(set, sig);
}

/* The first CPU of the set, which EAL shall think is all there is. */
static int first_cpu(const cpu_set_t *set, size_t size)
{
	for (int cpu = 0; cpu < CPU_IDS; cpu++) {
		if (CPU_ISSET_S(cpu, size, set))
			return cpu;
	}
	return 0;
}

static int init(int cpu)
{
	struct arguments args;

	make_arguments(&args, cpu);
	if (rte_eal_init(args.cnt, args.list) < 0)
		return rte_errno ? -rte_errno : -EIO;
	rmdir(rte_eal_get_runtime_dir());
	return 0;
}

/* With the calling thread's affinity and signals as they were, but for the
 * real-time ones. */
static int init_as_guest(void)
{
	size_t size = CPU_ALLOC_SIZE(CPU_IDS);
	cpu_set_t *before = CPU_ALLOC(CPU_IDS);
	sigset_t real_time;
	int res;

	if (!before)
		return -ENOMEM;
	CPU_ZERO_S(size, before);
	sched_getaffinity(0, size, before);
	real_time_signals(&real_time);
	pthread_sigmask(SIG_UNBLOCK, &real_time, NULL);
	res = init(first_cpu(before, size));
	pthread_sigmask(SIG_BLOCK, &real_time, NULL);
	sched_setaffinity(0, size, before);
	CPU_FREE(before);
	return res;
}

static int fail(char *err, int res)
{
	if (res == -ENOMEM && eal.huge)
		snprintf(err, EAL_ERR_LEN, "DPDK: not enough hugepages, try --pages=small");
	else
		snprintf(err, EAL_ERR_LEN, "DPDK cannot be started: %s: %.150s", strerror(-res),
			 eal.first_error);
	return res;
}

int eal_start(char *err)
{
	int res;

	if (eal.running)
		return 0;
	if (eal.failed)
		return fail(err, eal.failed);
	eal.huge = wants_hugepages();
	eal.control = pthread_self();
	res = open_log();
	if (!res)
		res = init_as_guest();
	if (res < 0) {
		eal.failed = res;
		return fail(err, res);
	}
	eal.running = true;
	log_info("DPDK %s started, %s pages", strchr(rte_version(), ' ') + 1, eal_pages_used());
	return 0;
}

/* --- loops --------------------------------------------------------------------- */

static void enlist_self(struct loop_work *w)
{
	sigset_t real_time;

	real_time_signals(&real_time);
	pthread_sigmask(SIG_BLOCK, &real_time, NULL);
	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() < 0)
		log_debug("dpdk: a poll thread has no cache of its own: %s",
			  rte_strerror(rte_errno));
}

void eal_enlist(struct loop *const *loops, unsigned int nr_loops)
{
	struct enlistment *e;

	for (unsigned int i = 0; i < nr_loops; i++) {
		e = eal.enlisted;
		while (e && e->loop != loops[i])
			e = e->next;
		if (e)
			continue;
		e = calloc(1, sizeof(*e));
		if (!e)
			return;
		e->loop = loops[i];
		e->work.run = enlist_self;
		e->next = eal.enlisted;
		eal.enlisted = e;
		loop_post(loops[i], &e->work);
	}
}

void eal_stop(void)
{
	struct enlistment *e;

	while ((e = eal.enlisted)) {
		eal.enlisted = e->next;
		free(e);
	}
	if (!eal.running)
		return;
	rte_eal_cleanup();
	eal.running = false;
	eal.failed = -EALREADY;
	rte_openlog_stream(NULL);
	fclose(eal.log);
	eal.log = NULL;
}
