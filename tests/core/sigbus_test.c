/*
 * A shared file cut short under us: the access goes on with zeroes, the flag is
 * set, and everybody else is untouched.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/sigbus.h"

#define PAGE 4096
#define LEN (16 * PAGE)

struct shared {
	int fd;
	volatile unsigned char *p; /* volatile: the reads are the test */
	bool faulted;
	struct sigbus_range *range;
};

static void open_shared(struct shared *s)
{
	/* cmocka takes the signal over for each test. */
	assert_int_equal(sigbus_init(), 0);
	s->faulted = false;
	s->fd = memfd_create("ringbolt-test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(s->fd, LEN), 0);
	s->p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	assert_ptr_not_equal(s->p, MAP_FAILED);
	memset((void *)s->p, 0xaa, LEN);
	s->range = sigbus_guard((void *)s->p, LEN, &s->faulted);
	assert_non_null(s->range);
}

static void close_shared(struct shared *s)
{
	sigbus_unguard(s->range);
	munmap((void *)s->p, LEN);
	close(s->fd);
}

static void a_read_behind_the_end_gives_zero_and_sets_the_flag(void **state)
{
	struct shared s;

	open_shared(&s);
	assert_int_equal(s.p[8 * PAGE], 0xaa);
	assert_int_equal(ftruncate(s.fd, 4 * PAGE), 0);
	assert_int_equal(s.p[8 * PAGE], 0);
	assert_true(read_once(&s.faulted));
	/* The whole range is private now, the part that was left included. */
	assert_int_equal(s.p[0], 0);
	s.p[0] = 1;
	s.p[LEN - 1] = 2;
	assert_int_equal(s.p[LEN - 1], 2);
	close_shared(&s);
}

static void a_write_behind_the_end_goes_on(void **state)
{
	struct shared s;

	open_shared(&s);
	assert_int_equal(ftruncate(s.fd, 0), 0);
	s.p[5 * PAGE] = 7;
	assert_int_equal(s.p[5 * PAGE], 7);
	assert_true(read_once(&s.faulted));
	close_shared(&s);
}

static void other_ranges_are_not_touched(void **state)
{
	struct shared a, b;

	open_shared(&a);
	open_shared(&b);
	assert_int_equal(ftruncate(a.fd, 0), 0);
	assert_int_equal(a.p[0], 0);
	assert_true(read_once(&a.faulted));
	assert_false(read_once(&b.faulted));
	assert_int_equal(b.p[0], 0xaa);
	close_shared(&a);
	close_shared(&b);
}

static void more_ranges_than_one_table_holds_are_found(void **state)
{
	enum {
		CNT = 600
	};
	bool *flags = calloc(CNT, sizeof(*flags));
	struct sigbus_range *ranges[CNT];
	struct shared s;

	assert_non_null(flags);
	for (size_t i = 0; i < CNT; i++)
		ranges[i] = sigbus_guard((void *)(uintptr_t)((i + 1) << 40), PAGE, &flags[i]);
	open_shared(&s);
	assert_int_equal(ftruncate(s.fd, 0), 0);
	assert_int_equal(s.p[0], 0);
	assert_true(read_once(&s.faulted));
	close_shared(&s);
	for (size_t i = 0; i < CNT; i++) {
		assert_false(flags[i]);
		sigbus_unguard(ranges[i]);
	}
	sigbus_unguard(NULL);
	free(flags);
}

struct churn {
	pthread_t thread;
	bool stop;
};

static void *register_and_forget(void *arg)
{
	struct churn *c = arg;
	struct sigbus_range *r;
	bool flag = false;

	while (!read_once(&c->stop)) {
		r = sigbus_guard((void *)((uintptr_t)1 << 45), PAGE, &flag);
		sigbus_unguard(r);
	}
	return flag ? c : NULL;
}

static void a_fault_is_served_while_the_table_changes(void **state)
{
	struct churn churn = { .stop = false };
	struct shared s[50];
	void *flagged;

	/* One thread changes the table, as the control thread does; this one only
	 * touches memory. */
	for (size_t i = 0; i < 50; i++)
		open_shared(&s[i]);
	assert_int_equal(pthread_create(&churn.thread, NULL, register_and_forget, &churn), 0);
	for (size_t i = 0; i < 50; i++) {
		assert_int_equal(ftruncate(s[i].fd, 0), 0);
		assert_int_equal(s[i].p[PAGE], 0);
		assert_true(read_once(&s[i].faulted));
	}
	write_once(&churn.stop, true);
	pthread_join(churn.thread, &flagged);
	assert_null(flagged);
	for (size_t i = 0; i < 50; i++)
		close_shared(&s[i]);
}

/* The signal that ends a child which runs f, 0 if none does. */
static int child_dies_of(void (*f)(void))
{
	const struct rlimit none = { 0 };
	int status;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &none);
		/* Without cmocka's and a sanitizer's handlers: they tell of deaths that
		 * nobody expects. */
		signal(SIGBUS, SIG_DFL);
		if (!sigbus_init())
			f();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void fault_elsewhere(void)
{
	int fd = memfd_create("ringbolt-test", 0);
	volatile char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	char c = p[0];

	(void)c;
}

static void send_sigbus(void)
{
	raise(SIGBUS);
}

static void fault_after_unguard(void)
{
	bool faulted;
	int fd = memfd_create("ringbolt-test", 0);
	volatile char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	char c;

	sigbus_unguard(sigbus_guard((void *)p, PAGE, &faulted));
	c = p[0];
	(void)c;
}

static void a_fault_elsewhere_kills_as_usual(void **state)
{
	assert_int_equal(child_dies_of(fault_elsewhere), SIGBUS);
	assert_int_equal(child_dies_of(fault_after_unguard), SIGBUS);
}

static void a_sigbus_sent_by_somebody_kills_as_usual(void **state)
{
	assert_int_equal(child_dies_of(send_sigbus), SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_behind_the_end_gives_zero_and_sets_the_flag),
		cmocka_unit_test(a_write_behind_the_end_goes_on),
		cmocka_unit_test(other_ranges_are_not_touched),
		cmocka_unit_test(more_ranges_than_one_table_holds_are_found),
		cmocka_unit_test(a_fault_is_served_while_the_table_changes),
		cmocka_unit_test(a_fault_elsewhere_kills_as_usual),
		cmocka_unit_test(a_sigbus_sent_by_somebody_kills_as_usual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
