/*
 * Several managers at once: one at a time changes something, the others wait,
 * and who waits too long is told for whom.
 *
 * Each manager is a process of its own; they begin together.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

#define ROUNDS 10

static struct fake fake;

static int setup(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	fake_create(&fake);
	return 0;
}

static int teardown(void **state)
{
	fake_destroy(&fake);
	return 0;
}

/* What a manager does: 0 or a positive number, or -errno, as is its exit. */
typedef int manager(struct sriov *s);

static pid_t start(manager *run, int go[2])
{
	pid_t pid = fork();
	char text;

	assert_true(pid >= 0);
	if (!pid) {
		struct sriov *s = fake_open(&fake, false);
		int res;

		close(go[1]);
		if (read(go[0], &text, 1))
			_exit(126);
		res = sriov_lock(s);
		if (!res)
			res = run(s);
		sriov_close(s);
		_exit(res < 0 ? -res : 0);
	}
	return pid;
}

/* Their errno, 0 for none. */
static void run_both(manager *left, manager *right, int error[2])
{
	pid_t pid[2];
	int go[2], status;

	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < 2; i++)
		pid[i] = start(i ? right : left, go);
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status));
		error[i] = WEXITSTATUS(status);
	}
}

static int create(struct sriov *s, unsigned int nr)
{
	struct sriov_resize want = { .nr_vfs = nr };

	return sriov_resize(s, FAKE_PF, &want);
}

static int create_two(struct sriov *s)
{
	return create(s, 2);
}

static int create_three(struct sriov *s)
{
	return create(s, 3);
}

static int destroy(struct sriov *s)
{
	return create(s, 0);
}

static void do_alone(manager *run)
{
	struct sriov *s = fake_open(&fake, true);

	assert_true(run(s) >= 0);
	sriov_close(s);
}

/* Nothing is under way, and nothing that only one of them knew. */
static void all_is_settled(void)
{
	struct sriov *s = fake_open(&fake, true);
	char(*addr)[SRIOV_ADDR_LEN];
	struct sriov_rec rec;
	int nr;

	nr = sriov_rec_list(s, &addr);
	for (int i = 0; i < nr; i++) {
		assert_int_equal(sriov_rec_load(s, addr[i], &rec), 0);
		assert_false(rec.resize.active);
		assert_true(rec.bind.phase == SRIOV_BIND_BOUND);
		assert_string_equal(fake_driver(&fake, addr[i]), rec.bind.to);
		assert_string_equal(rec.bind.from, "igbvf");
	}
	free(addr);
	sriov_close(s);
}

static void the_same_wish_twice_is_one_change(void **state)
{
	int error[2];

	for (int i = 0; i < ROUNDS; i++) {
		run_both(create_two, create_two, error);
		assert_int_equal(error[0] | error[1], 0);
		assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
		all_is_settled();
		run_both(destroy, destroy, error);
		assert_int_equal(error[0] | error[1], 0);
		assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
	}
}

static void of_two_counts_one_wins_and_the_other_is_refused(void **state)
{
	int error[2];

	for (int i = 0; i < ROUNDS; i++) {
		run_both(create_two, create_three, error);
		assert_int_equal(error[0] + error[1], EBUSY);
		assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), error[0] ? 3 : 2);
		all_is_settled();
		do_alone(destroy);
	}
}

static int bind_to_vfio(struct sriov *s)
{
	return sriov_bind(s, FAKE_VF0, "vfio-pci", 0);
}

static int bind_to_uio(struct sriov *s)
{
	return sriov_bind(s, FAKE_VF0, "igb_uio", 0);
}

static int unbind(struct sriov *s)
{
	return sriov_unbind(s, FAKE_VF0);
}

static void of_two_drivers_the_later_one_has_it(void **state)
{
	const char *driver;
	int error[2];

	fake_file(&fake, "/fake/modules/igb_uio", "");
	do_alone(create_two);
	for (int i = 0; i < ROUNDS; i++) {
		run_both(bind_to_vfio, bind_to_uio, error);
		assert_int_equal(error[0] | error[1], 0);
		driver = fake_driver(&fake, FAKE_VF0);
		assert_true(!strcmp(driver, "vfio-pci") || !strcmp(driver, "igb_uio"));
		all_is_settled();
		do_alone(unbind);
		assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	}
}

/* Bound, then gone; or gone, and nothing to bind. */
static void a_driver_for_what_another_one_takes_away_is_an_answer(void **state)
{
	int error[2];

	for (int i = 0; i < ROUNDS; i++) {
		do_alone(create_two);
		run_both(bind_to_vfio, destroy, error);
		assert_int_equal(error[1], 0);
		assert_true(!error[0] || error[0] == ENODEV);
		assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 0);
		all_is_settled();
	}
}

static void who_waits_too_long_is_told_for_whom(void **state)
{
	struct sriov_opts opts = { .root = fake.root, .os = &fake_os, .lock_wait_ms = 100 };
	struct sriov *holder = fake_open(&fake, true), *s;
	char text[64];

	assert_int_equal(sriov_open(&opts, &s), 0);
	assert_int_equal(sriov_lock(s), -EAGAIN);
	snprintf(text, sizeof(text), "/lock: process %d is changing functions", (int)getpid());
	fake_says(s, text);
	fake_says(s, "within 0.1 s");
	sriov_unlock(holder);
	assert_int_equal(sriov_lock(s), 0);
	sriov_close(s);
	sriov_close(holder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(the_same_wish_twice_is_one_change),
		T(of_two_counts_one_wins_and_the_other_is_refused),
		T(of_two_drivers_the_later_one_has_it),
		T(a_driver_for_what_another_one_takes_away_is_an_answer),
		T(who_waits_too_long_is_told_for_whom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
