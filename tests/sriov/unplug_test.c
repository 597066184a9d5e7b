/*
 * Pulled out before every single change of create, bind, claim and release: an
 * answer that says so, nothing that waits, nothing that is stuck, and nothing
 * of it left for the next device in that slot.
 *
 * The n-th change of an operation finds the function gone; n grows until the
 * operation ends before.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "core/log.h"
#include "tests/sriov/fake.h"

#define CHANGES_MAX 1000
#define STEP 4 /* where a VF goes with its PF: much as alone */

struct operation {
	void (*prepare)(struct sriov *s);
	int (*run)(struct sriov *s);
};

static struct fake fake;

static bool is_there(const char *addr)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", addr);
	return fake_exists(&fake, path);
}

/* No record of what is gone, and none of something under way. */
static void nothing_is_left(struct sriov *s)
{
	char(*addr)[SRIOV_ADDR_LEN];
	struct sriov_rec rec;
	int nr;

	nr = sriov_rec_list(s, &addr);
	assert_true(nr >= 0);
	for (int i = 0; i < nr; i++) {
		assert_true(is_there(addr[i]));
		assert_int_equal(sriov_rec_load(s, addr[i], &rec), 0);
		assert_false(rec.resize.active);
		assert_int_not_equal(rec.bind.phase, SRIOV_BIND_BINDING);
		assert_int_not_equal(rec.bind.phase, SRIOV_BIND_BACK);
		assert_int_not_equal(rec.claim.phase, SRIOV_PHASE_CLAIMING);
		assert_int_not_equal(rec.claim.phase, SRIOV_PHASE_RELEASING);
		assert_int_equal(rec.writer.pid, 0);
	}
	free(addr);
	assert_false(fake_exists(&fake, "/run/ringbolt-vf/" FAKE_PF ".vfs"));
}

static int resize(struct sriov *s, unsigned int nr, const char *driver)
{
	struct sriov_resize want = { .nr_vfs = nr, .driver = driver };

	return sriov_resize(s, FAKE_PF, &want);
}

static int claim(struct sriov *s)
{
	struct sriov_conf conf = { .has = SRIOV_CONF_MAC | SRIOV_CONF_VLAN,
				   .mac = { 2, 0, 0, 0, 0, 7 },
				   .vlan = 42 };
	struct sriov_claim_opts opts = { .owner = "vm1",
					 .vf = FAKE_VF0,
					 .conf = &conf,
					 .has_user = true,
					 .uid = getuid(),
					 .gid = getgid() };
	char addr[SRIOV_ADDR_LEN];

	return sriov_claim(s, &opts, addr);
}

static int release(struct sriov *s)
{
	return sriov_release(s, FAKE_VF0, "vm1", 0);
}

/* Whatever was pulled out is put in again, and is as new. */
static void all_can_be_used(struct sriov *s)
{
	struct sriov_func f;

	if (!is_there(FAKE_PF))
		fake_fill(&fake);
	assert_true(resize(s, 0, NULL) >= 0);
	assert_int_equal(resize(s, 2, NULL), 1);
	assert_int_equal(sriov_func_read(s, FAKE_VF0, 0, &f), 0);
	assert_int_equal(f.claim, SRIOV_CLAIM_NONE);
	assert_false(f.bound_by_us);
	assert_int_equal(claim(s), 0);
	assert_int_equal(release(s), 0);
	assert_string_equal(fake_driver(&fake, FAKE_VF0), "igbvf");
}

static unsigned int pull(const struct operation *op, const char *victim, unsigned int step)
{
	struct sriov *s;
	bool pulled;
	unsigned int n;
	int res;

	for (n = 1; n < CHANGES_MAX; n += FAKE_STEP * step) {
		fake_create(&fake);
		s = fake_open(&fake, true);
		op->prepare(s);
		fake_unplug_at(n, victim);
		res = op->run(s);
		fake_unplug_at(0, "");
		pulled = !is_there(victim);
		if (res < 0)
			assert_true(pulled && *sriov_error(s));
		assert_int_not_equal(res, -ETIMEDOUT);
		/* Its slot was empty in between, or not. */
		if (n % 2 && !is_there(FAKE_PF))
			fake_fill(&fake);
		sriov_close(s);
		s = fake_open(&fake, true);
		if (pulled) {
			nothing_is_left(s);
			all_can_be_used(s);
		}
		sriov_close(s);
		fake_destroy(&fake);
		if (!pulled)
			break;
		/* At the last change it may have been done already. */
		if (n == 2)
			assert_true(res < 0);
	}
	assert_true(n < CHANGES_MAX);
	return n;
}

static void prepare_nothing(struct sriov *s)
{
}

static void prepare_vfs(struct sriov *s)
{
	assert_int_equal(resize(s, 2, NULL), 1);
}

static int create(struct sriov *s)
{
	return resize(s, 2, NULL);
}

static int create_for_vfio(struct sriov *s)
{
	return resize(s, 2, "vfio-pci");
}

static void creating(void **state)
{
	static const struct operation op = { prepare_nothing, create };
	static const struct operation for_vfio = { prepare_nothing, create_for_vfio };

	assert_true(pull(&op, FAKE_PF, 1) > 10);
	assert_true(pull(&for_vfio, FAKE_PF, 1) > 20);
}

static int destroy(struct sriov *s)
{
	return resize(s, 0, NULL);
}

static void destroying(void **state)
{
	static const struct operation op = { prepare_vfs, destroy };

	assert_true(pull(&op, FAKE_PF, 1) > 5);
}

static int bind_one(struct sriov *s)
{
	return sriov_bind(s, FAKE_VF0, "vfio-pci", 0);
}

static void binding(void **state)
{
	static const struct operation op = { prepare_vfs, bind_one };

	assert_true(pull(&op, FAKE_VF0, 1) > 10);
	assert_true(pull(&op, FAKE_PF, STEP) > 10);
}

static void claiming(void **state)
{
	static const struct operation op = { prepare_vfs, claim };

	assert_true(pull(&op, FAKE_VF0, 1) > 20);
	assert_true(pull(&op, FAKE_PF, STEP) > 20);
}

static void prepare_claimed(struct sriov *s)
{
	prepare_vfs(s);
	assert_int_equal(claim(s), 0);
}

static void releasing(void **state)
{
	static const struct operation op = { prepare_claimed, release };

	assert_true(pull(&op, FAKE_VF0, 1) > 20);
	assert_true(pull(&op, FAKE_PF, STEP) > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creating), cmocka_unit_test(destroying), cmocka_unit_test(binding),
		cmocka_unit_test(claiming), cmocka_unit_test(releasing),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
