/*
 * Killed before every single change of create, destroy, bind, claim and release,
 * and run again: it finishes or restores, nothing is stuck, and nothing is
 * handed out twice.
 *
 * A child does the operation and is killed before its n-th change; the next
 * command, here, must set right what it left. n grows until nobody is killed.
 * Then again, where the commands that set it right are killed as well: the
 * first before its first change, the second before its second, and so on.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "sriov/plan.h"
#include "tests/sriov/fake.h"

#define CHANGES_MAX 1000
/* Where recovery is killed too: it has the same to do after many a kill. */
#define AGAIN_STEP 5

struct operation {
	/* From a new machine to where the operation begins. */
	void (*prepare)(struct sriov *s);
	/* 0 or a positive number. */
	int (*run)(struct sriov *s);
	/* After recovery: as before, or as after; which is told. */
	bool (*is_done)(struct sriov *s);
	/* Killed late, it is finished; otherwise it is undone until its end. */
	bool finishes;
};

static struct fake fake;

static bool autoprobe_is_on(void)
{
	return !strcmp(fake_read(&fake, "/sys/bus/pci/devices/" FAKE_PF "/sriov_drivers_autoprobe"),
		       "1");
}

/* No record says that something is under way, and no file is left over. */
static void nothing_is_under_way(struct sriov *s)
{
	char(*addr)[SRIOV_ADDR_LEN];
	struct sriov_rec rec;
	int nr;

	nr = sriov_rec_list(s, &addr);
	assert_true(nr >= 0);
	for (int i = 0; i < nr; i++) {
		assert_int_equal(sriov_rec_load(s, addr[i], &rec), 0);
		assert_false(rec.resize.active);
		assert_true(rec.bind.phase == SRIOV_BIND_NONE ||
			    rec.bind.phase == SRIOV_BIND_BOUND);
		assert_true(rec.claim.phase == SRIOV_PHASE_NONE ||
			    rec.claim.phase == SRIOV_PHASE_CLAIMED);
		assert_int_equal(rec.writer.pid, 0);
	}
	free(addr);
	assert_true(autoprobe_is_on());
}

/* True if it was killed. What it had begun to write goes on to its end. op NULL:
 * a command that only sets right what others left. */
static bool run_and_kill(const struct operation *op, unsigned int at)
{
	int status = 0, result;
	pid_t pid, gone;

	pid = fork();
	if (!pid) {
		struct sriov *s = fake_open(&fake, op != NULL);

		fake_kill_at(at);
		_exit((op ? op->run(s) : sriov_lock(s)) < 0 ? 1 : 0);
	}
	while ((gone = waitpid(-1, &result, 0)) > 0) {
		if (gone == pid)
			status = result;
	}
	assert_true(WIFSIGNALED(status) || !WEXITSTATUS(status));
	return WIFSIGNALED(status);
}

static unsigned int try_kills(const struct operation *op, bool again)
{
	unsigned int n, m, done = 0, undone = 0, finished = 0;
	struct sriov *s;
	bool killed;
	int res;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (n = 1; n < CHANGES_MAX; n += FAKE_STEP * (again ? AGAIN_STEP : 1)) {
		fake_create(&fake);
		s = fake_open(&fake, true);
		op->prepare(s);
		sriov_close(s);
		killed = run_and_kill(op, n);
		for (m = 1; again && m < CHANGES_MAX && run_and_kill(NULL, m); m++)
			;
		assert_true(!again || m < CHANGES_MAX);
		/* The next command, whichever it is. */
		s = fake_open(&fake, true);
		nothing_is_under_way(s);
		if (op->is_done(s)) {
			done++;
			finished += killed;
		} else {
			undone++;
			res = op->run(s);
			if (res < 0)
				fail_msg("after a kill at change %u: %s", n, sriov_error(s));
			assert_true(op->is_done(s));
			nothing_is_under_way(s);
		}
		sriov_close(s);
		fake_destroy(&fake);
		if (!killed)
			break;
	}
	assert_true(n < CHANGES_MAX);
	assert_true(done > 0 && undone > 0);
	assert_true(again || FAKE_STEP > 1 || (finished > 0) == op->finishes);
	return n;
}

static unsigned int try_all(const struct operation *op)
{
	try_kills(op, true);
	return try_kills(op, false);
}

/* ---- The operations ---- */

static void prepare_nothing(struct sriov *s)
{
}

static void prepare_vfs(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 2 };

	assert_int_equal(sriov_resize(s, FAKE_PF, &want), 1);
}

static void all_have_default_drivers(unsigned int nr)
{
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), nr);
	if (nr)
		assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
	if (nr > 1)
		assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
}

static int create(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 2 };

	return sriov_resize(s, FAKE_PF, &want);
}

static bool has_two(struct sriov *s)
{
	unsigned int nr = fake_nr_vfs(&fake, FAKE_PF);

	all_have_default_drivers(nr);
	assert_true(nr == 0 || nr == 2);
	return nr == 2;
}

static void creating(void **state)
{
	static const struct operation op = { prepare_nothing, create, has_two, true };

	assert_true(try_all(&op) > 10);
}

static int create_for_vfio(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 2, .driver = "vfio-pci" };

	return sriov_resize(s, FAKE_PF, &want);
}

static bool has_two_for_vfio(struct sriov *s)
{
	static const char *const vfs[] = { FAKE_VF0, FAKE_VF1 };
	unsigned int nr = fake_nr_vfs(&fake, FAKE_PF);
	struct sriov_func f;

	assert_true(nr == 0 || nr == 2);
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(sriov_func_read(s, vfs[i], 0, &f), 0);
		assert_string_equal(f.driver, "vfio-pci");
		assert_string_equal(f.override, "vfio-pci");
		assert_true(f.bound_by_us);
		assert_string_equal(f.original_driver, "");
	}
	return nr == 2;
}

static void creating_with_a_driver(void **state)
{
	static const struct operation op = { prepare_nothing, create_for_vfio, has_two_for_vfio,
					     true };

	assert_true(try_all(&op) > 20);
}

static int set_vlans(struct sriov *s, const char *pf, void *opaque)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 30 };
	int res = sriov_configure(s, FAKE_VF0, &conf);

	return res < 0 ? res : sriov_configure(s, FAKE_VF1, &conf);
}

static int create_configured(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 2, .configure = set_vlans };

	return sriov_resize(s, FAKE_PF, &want);
}

static bool has_two_configured(struct sriov *s)
{
	if (!has_two(s))
		return false;
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 30);
	assert_int_equal(fake_conf(&fake, "eth0", 1).vlan, 30);
	return true;
}

static void creating_with_a_configuration(void **state)
{
	static const struct operation op = { prepare_nothing, create_configured, has_two_configured,
					     true };

	assert_true(try_all(&op) > 10);
}

static int destroy(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 0 };

	return sriov_resize(s, FAKE_PF, &want);
}

static bool has_none(struct sriov *s)
{
	return !has_two(s);
}

static void destroying(void **state)
{
	static const struct operation op = { prepare_vfs, destroy, has_none, true };

	assert_true(try_all(&op) > 5);
}

/* What is bound by us stays known as that until it is gone. */
static void prepare_bound(struct sriov *s)
{
	prepare_vfs(s);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
}

static bool has_none_of_two_bound(struct sriov *s)
{
	struct sriov_func f;

	if (!fake_nr_vfs(&fake, FAKE_PF))
		return true;
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.driver, "vfio-pci");
	assert_string_equal(f.original_driver, "igbvf");
	return false;
}

static void destroying_what_is_bound(void **state)
{
	static const struct operation op = { prepare_bound, destroy, has_none_of_two_bound, true };

	assert_true(try_all(&op) > 5);
}

static int replace(struct sriov *s)
{
	struct sriov_resize want = { .nr_vfs = 3, .replace = true };

	return sriov_resize(s, FAKE_PF, &want);
}

static bool has_three(struct sriov *s)
{
	unsigned int nr = fake_nr_vfs(&fake, FAKE_PF);

	all_have_default_drivers(nr);
	assert_true(nr == 2 || nr == 3);
	return nr == 3;
}

static void replacing(void **state)
{
	static const struct operation op = { prepare_vfs, replace, has_three, true };

	assert_true(try_all(&op) > 10);
}

/* Old VFs that are again there have all that they had. */
static void prepare_all_kinds(struct sriov *s)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_VLAN, .vlan = 42 };

	prepare_vfs(s);
	assert_int_equal(sriov_configure(s, FAKE_VF0, &conf), 0);
	assert_int_equal(sriov_set_owners(s, FAKE_VF0, "vm1"), 0);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "vfio-pci", 0), 1);
	assert_int_equal(sriov_bind(s, FAKE_VF1, "none", 0), 1);
}

static bool has_three_or_all_kinds(struct sriov *s)
{
	struct sriov_func f;

	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_PF ".vfs"));
	if (fake_nr_vfs(&fake, FAKE_PF) == 3)
		return has_three(s);
	assert_int_equal(fake_nr_vfs(&fake, FAKE_PF), 2);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.driver, "vfio-pci");
	assert_string_equal(f.original_driver, "igbvf");
	assert_string_equal(f.owners, "vm1");
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 42);
	assert_int_equal(sriov_func_read(s, FAKE_VF1, 0, &f), 0);
	assert_string_equal(f.driver, "");
	assert_string_equal(f.original_driver, "igbvf");
	return false;
}

static void replacing_vfs_of_all_kinds(void **state)
{
	static const struct operation op = { prepare_all_kinds, replace, has_three_or_all_kinds,
					     true };

	assert_true(try_all(&op) > 10);
}

static int bind_one(struct sriov *s)
{
	return sriov_bind(s, FAKE_VF0, "vfio-pci", 0);
}

static bool is_bound(struct sriov *s)
{
	const char *driver = fake_driver(&fake, FAKE_VF0);
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	if (!strcmp(driver, "vfio-pci")) {
		assert_string_equal(f.original_driver, "igbvf");
		return true;
	}
	assert_string_equal(driver, "igbvf");
	assert_string_equal(f.override, "");
	assert_false(f.bound_by_us);
	return false;
}

static void binding(void **state)
{
	static const struct operation op = { prepare_vfs, bind_one, is_bound, true };

	assert_true(try_all(&op) > 10);
}

static int unbind_one(struct sriov *s)
{
	return sriov_unbind(s, FAKE_VF0);
}

static bool is_given_back(struct sriov *s)
{
	return !is_bound(s);
}

static void unbinding(void **state)
{
	static const struct operation op = { prepare_bound, unbind_one, is_given_back, true };

	assert_true(try_all(&op) > 10);
}

static int claim_one(struct sriov *s)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN,
				   .mac = { 2, 0, 0, 0, 0, 7 },
				   .vlan = 42 };
	struct sriov_claim_opts opts = {
		.owner = "vm1",
		.vf = FAKE_VF0,
		.conf = &conf,
		.has_user = true,
		.uid = getuid(),
		.gid = getgid(),
	};
	char addr[SRIOV_ADDR_LEN];

	return sriov_claim(s, &opts, addr);
}

static bool is_claimed(struct sriov *s)
{
	struct sriov_conf conf = fake_conf(&fake, "eth0", 0);
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	if (f.claim == SRIOV_CLAIM_HELD) {
		assert_string_equal(f.driver, "vfio-pci");
		assert_int_equal(conf.vlan, 42);
		assert_int_equal(conf.mac[5], 7);
		return true;
	}
	assert_int_equal(f.claim, SRIOV_CLAIM_NONE);
	assert_string_equal(f.driver, "igbvf");
	assert_string_equal(f.override, "");
	assert_int_equal(conf.vlan, 0);
	assert_int_equal(conf.mac[5], 0);
	return false;
}

static void claiming(void **state)
{
	static const struct operation op = { prepare_vfs, claim_one, is_claimed, false };

	assert_true(try_all(&op) > 20);
}

/* It is as it was before, or claimed; which is told. */
static bool is_claimed_or(struct sriov *s, const char *claimed, const char *before)
{
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_true(f.claim == SRIOV_CLAIM_HELD || f.claim == SRIOV_CLAIM_NONE);
	assert_string_equal(f.driver, f.claim ? claimed : before);
	return f.claim == SRIOV_CLAIM_HELD;
}

static int claim_with_vectors(struct sriov *s)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MSIX | SRIOV_CONF_VLAN, .msix = 8, .vlan = 3 };
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0, .conf = &conf };
	char addr[SRIOV_ADDR_LEN];

	return sriov_claim(s, &opts, addr);
}

static bool has_vectors(struct sriov *s)
{
	if (!is_claimed_or(s, "vfio-pci", "igbvf"))
		return false;
	assert_string_equal(
		fake_read(&fake, "/sys/bus/pci/devices/" FAKE_VF0 "/sriov_vf_msix_count"), "8");
	return true;
}

static void claiming_with_vectors(void **state)
{
	static const struct operation op = { prepare_vfs, claim_with_vectors, has_vectors, false };

	assert_true(try_all(&op) > 20);
}

static int claim_for_uio(struct sriov *s)
{
	struct sriov_claim_opts opts = { .owner = "vm1", .vf = FAKE_VF0, .driver = "igb_uio" };
	char addr[SRIOV_ADDR_LEN];

	fake_file(&fake, "/fake/modules/igb_uio", "");
	return sriov_claim(s, &opts, addr);
}

static bool is_claimed_for_uio(struct sriov *s)
{
	return is_claimed_or(s, "igb_uio", "igbvf");
}

static void claiming_for_another_driver(void **state)
{
	static const struct operation op = { prepare_vfs, claim_for_uio, is_claimed_for_uio,
					     false };

	assert_true(try_all(&op) > 20);
}

/* By us, to another driver or to none. */
static void prepare_unbound(struct sriov *s)
{
	prepare_vfs(s);
	assert_int_equal(sriov_bind(s, FAKE_VF0, "none", 0), 1);
}

static bool is_claimed_or_unbound(struct sriov *s)
{
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_true(f.bound_by_us);
	assert_string_equal(f.original_driver, "igbvf");
	assert_string_equal(f.override, f.claim ? "vfio-pci" : "");
	return is_claimed_or(s, "vfio-pci", "");
}

static void claiming_what_was_unbound(void **state)
{
	static const struct operation op = { prepare_unbound, claim_one, is_claimed_or_unbound,
					     false };

	assert_true(try_all(&op) > 20);
}

static bool is_claimed_or_bound(struct sriov *s)
{
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_true(f.bound_by_us);
	assert_string_equal(f.original_driver, "igbvf");
	assert_string_equal(f.override, f.claim ? "" : "vfio-pci");
	return is_claimed_or(s, "igb_uio", "vfio-pci");
}

static void claiming_what_was_bound(void **state)
{
	static const struct operation op = { prepare_bound, claim_for_uio, is_claimed_or_bound,
					     false };

	assert_true(try_all(&op) > 20);
}

static void prepare_claimed_unbound(struct sriov *s)
{
	prepare_unbound(s);
	assert_int_equal(claim_one(s), 0);
}

static void prepare_claimed(struct sriov *s)
{
	prepare_vfs(s);
	assert_int_equal(claim_one(s), 0);
}

static int release_one(struct sriov *s)
{
	return sriov_release(s, FAKE_VF0, "vm1", 0);
}

/* Before anybody else can have it, it has been reset. */
static bool is_released(struct sriov *s)
{
	if (is_claimed(s))
		return false;
	assert_true(atoi(fake_read(&fake, "/fake/resets/" FAKE_VF0)) > 0);
	return true;
}

static void releasing(void **state)
{
	static const struct operation op = { prepare_claimed, release_one, is_released, true };

	assert_true(try_all(&op) > 20);
}

static bool is_released_and_unbound(struct sriov *s)
{
	return !is_claimed_or_unbound(s);
}

static void releasing_what_was_unbound(void **state)
{
	static const struct operation op = { prepare_claimed_unbound, release_one,
					     is_released_and_unbound, true };

	assert_true(try_all(&op) > 20);
}

static int give_vectors(struct sriov *s)
{
	return sriov_bind_vectors(s, FAKE_VF0, 8);
}

static bool has_vectors_and_driver(struct sriov *s)
{
	struct sriov_func f;

	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_string_equal(f.driver, "igbvf");
	assert_false(f.bound_by_us);
	return f.msix_given && f.msix_nr == 8;
}

static void giving_vectors(void **state)
{
	static const struct operation op = { prepare_vfs, give_vectors, has_vectors_and_driver,
					     true };

	assert_true(try_all(&op) > 20);
}

static void told(void *opaque, const struct sriov_change *change)
{
}

static int walk(struct sriov *s, bool apply)
{
	static const char text[] = "pfs: [{pf: eth0, vfs: 2, vf: {0: {vlan: 10, driver: vfio-pci, "
				   "owners: [vm1]}}}]";
	struct sriov_plan *plan;
	int res;

	assert_int_equal(sriov_plan_parse(s, "vf.yaml", text, strlen(text), &plan), 0);
	res = sriov_plan_walk(s, plan, apply, told, NULL);
	sriov_plan_free(plan);
	return res;
}

static int apply(struct sriov *s)
{
	return walk(s, true);
}

/* A plan has several steps, of which each is done or not; who comes by finishes
 * no more than the step. */
static bool is_as_planned(struct sriov *s)
{
	unsigned int nr = fake_nr_vfs(&fake, FAKE_PF);

	assert_true(nr == 0 || nr == 2);
	if (!nr)
		return false;
	assert_int_equal(fake_conf(&fake, "eth0", 0).vlan, 10);
	assert_string_equal(fake_driver(&fake, FAKE_VF1), "igbvf");
	return walk(s, false) == 0;
}

static void applying_a_plan(void **state)
{
	static const struct operation op = { prepare_nothing, apply, is_as_planned, false };

	assert_true(try_all(&op) > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creating),
		cmocka_unit_test(creating_with_a_driver),
		cmocka_unit_test(creating_with_a_configuration),
		cmocka_unit_test(destroying),
		cmocka_unit_test(destroying_what_is_bound),
		cmocka_unit_test(replacing),
		cmocka_unit_test(replacing_vfs_of_all_kinds),
		cmocka_unit_test(binding),
		cmocka_unit_test(unbinding),
		cmocka_unit_test(claiming),
		cmocka_unit_test(claiming_with_vectors),
		cmocka_unit_test(claiming_for_another_driver),
		cmocka_unit_test(claiming_what_was_unbound),
		cmocka_unit_test(claiming_what_was_bound),
		cmocka_unit_test(releasing),
		cmocka_unit_test(releasing_what_was_unbound),
		cmocka_unit_test(giving_vectors),
		cmocka_unit_test(applying_a_plan),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
