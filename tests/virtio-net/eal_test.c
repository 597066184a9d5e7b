/*
 * DPDK's environment in a process that is not its own: affinity, signals, threads
 * and files are as they were before, and loops can be made known to it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_lcore.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "virtio-net/eal.h"

/* Threads of this process whose names contain text. */
static unsigned int nr_threads(const char *text)
{
	char path[64], name[32];
	unsigned int nr = 0;
	DIR *d = opendir("/proc/self/task");
	FILE *f;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		snprintf(path, sizeof(path), "/proc/self/task/%.20s/comm", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (!f)
			continue;
		nr += fgets(name, sizeof(name), f) && strstr(name, text);
		fclose(f);
	}
	closedir(d);
	return nr;
}

/* As if a control group had no hugepages left: what asks for one gets ENOMEM. */
static void refuse_hugepages(void)
{
	const uint32_t flags_of_mmap = offsetof(struct seccomp_data, args[3]);
	const uint32_t flags_of_memfd = offsetof(struct seccomp_data, args[1]);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags_of_mmap),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_HUGETLB, 3, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_memfd_create, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags_of_memfd),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MFD_HUGETLB, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	assert_true(mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1,
			 0) == MAP_FAILED);
}

/* Where there are any, that is. In a process of its own: it starts once in each. */
static void hugepages_that_cannot_be_had_are_done_without(void **state)
{
	char err[EAL_ERR_LEN] = "";
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		refuse_hugepages();
		if (eal_start(err) < 0)
			print_error("%s\n", err);
		_exit(!eal_is_running() || strcmp(eal_pages_used(), "small") != 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void nothing_runs_before_it_is_needed(void **state)
{
	assert_false(eal_is_running());
	assert_int_equal(nr_threads("intr"), 0);
}

static void only_the_last_cpu(cpu_set_t *cpus)
{
	for (int cpu = 0; CPU_COUNT(cpus) > 1; cpu++)
		CPU_CLR(cpu, cpus);
	assert_int_equal(sched_setaffinity(0, sizeof(*cpus), cpus), 0);
}

static void a_start_leaves_the_thread_as_it_was(void **state)
{
	const struct eal_conf conf = { .pages = EAL_PAGES_SMALL, .memory = 32 << 20 };
	cpu_set_t before, after;
	sigset_t signals;
	char err[EAL_ERR_LEN] = "";
	struct stat st;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	only_the_last_cpu(&before);
	eal_configure(&conf);
	if (eal_start(err) < 0)
		fail_msg("%s", err);
	assert_true(eal_is_running());
	assert_string_equal(eal_pages_used(), "small");
	/* Once more does nothing. */
	assert_int_equal(eal_start(err), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));
	/* Whatever the number of the CPU, which may be beyond what DPDK counts to. */
	assert_int_equal(rte_get_main_lcore(), 0);
	/* net_tap's signals are for DPDK's own thread. */
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &signals), 0);
	assert_true(sigismember(&signals, SIGRTMIN + 1));
	assert_false(sigismember(&signals, SIGTERM));
	/* One thread for interrupts, and none for each CPU. */
	assert_int_equal(nr_threads("intr"), 1);
	assert_int_equal(nr_threads("worker"), 0);
	assert_int_equal(stat(rte_eal_get_runtime_dir(), &st), -1);
}

struct ask {
	struct loop_work work;
	unsigned int lcore;
	bool blocks;
	bool done;
};

static void answer(struct loop_work *w)
{
	struct ask *a = container_of(w, struct ask, work);
	sigset_t signals;

	a->lcore = rte_lcore_id();
	pthread_sigmask(SIG_SETMASK, NULL, &signals);
	a->blocks = sigismember(&signals, SIGRTMIN + 1);
	store_release(&a->done, true);
}

static void ask_loop(struct loop *loop, struct ask *a)
{
	*a = (struct ask){ .work.run = answer };
	loop_post(loop, &a->work);
	while (!load_acquire(&a->done))
		sched_yield();
}

static void loops_become_known_once(void **state)
{
	struct evloop *ev = evloop_create();
	struct loop_conf conf = { .ev = ev, .mode = LOOP_INTERRUPT, .cpu = -1 };
	struct loop *loop[2];
	struct ask a, b;

	assert_int_equal(loop_create(&conf, &loop[0]), 0);
	assert_int_equal(loop_create(&conf, &loop[1]), 0);
	ask_loop(loop[0], &a);
	assert_int_equal(a.lcore, LCORE_ID_ANY);
	eal_enlist(loop, 1);
	eal_enlist(loop, 2);
	ask_loop(loop[0], &a);
	ask_loop(loop[1], &b);
	assert_int_not_equal(a.lcore, LCORE_ID_ANY);
	assert_int_not_equal(b.lcore, LCORE_ID_ANY);
	assert_int_not_equal(a.lcore, b.lcore);
	assert_true(a.blocks && b.blocks);
	loop_destroy(loop[0]);
	loop_destroy(loop[1]);
	evloop_destroy(ev);
}

static void it_starts_once_a_process(void **state)
{
	char err[EAL_ERR_LEN] = "";

	eal_stop();
	assert_false(eal_is_running());
	assert_true(eal_start(err) < 0);
	assert_true(strlen(err) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hugepages_that_cannot_be_had_are_done_without),
		cmocka_unit_test(nothing_runs_before_it_is_needed),
		cmocka_unit_test(a_start_leaves_the_thread_as_it_was),
		cmocka_unit_test(loops_become_known_once),
		cmocka_unit_test(it_starts_once_a_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
