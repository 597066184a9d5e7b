/*
 * The proof of a hand-over: what it reports, and that it leaves nothing behind
 * wherever it ends.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

static json_t *probe(struct fakevfio *f, enum iommu_backend backend, bool noiommu)
{
	struct iommu_opts opts = fakevfio_opts(f, backend);
	json_t *report;

	opts.allow_noiommu = noiommu;
	report = iommu_probe(&opts, FAKE_VF, NULL);
	assert_non_null(report);
	return report;
}

/* "result" of a step, "" if it was not reached. */
static const char *step(const json_t *report, const char *name, const char *key)
{
	json_t *steps = json_object_get(report, "steps"), *s;
	size_t i;

	json_array_foreach(steps, i,
			   s) if (!strcmp(json_string_value(json_object_get(s, "step")),
					  name)) return json_string_value(json_object_get(s, key));
	return "";
}

static void every_step_goes_well(void **state)
{
	static const char *const names[] = { "group", "open",	   "config", "bar",
					     "dma",   "interrupt", "reset",  "close" };
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	report = probe(&f, BACKEND(state), false);
	assert_true(json_is_true(json_object_get(report, "ok")));
	assert_int_equal(json_array_size(json_object_get(report, "steps")), ARRAY_SIZE(names));
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		assert_string_equal(step(report, names[i], "result"), "ok");
	assert_string_equal(step(report, "config", "vendor"), "0x8086");
	/* Memory came, and went piece by piece. */
	assert_non_null(strstr(step(report, "dma", "detail"), "took both back"));
	assert_int_equal(f.nr_maps, 0);
	assert_string_equal(step(report, "interrupt", "kind"), "msix");
	assert_string_equal(json_string_value(json_object_get(report, "backend")),
			    iommu_backend_name(BACKEND(state)));
	assert_int_equal(f.nr_resets, 1);
	json_decref(report);
	fakevfio_destroy(&f);
}

static void the_first_step_that_fails_ends_it(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	sysfskit_function(&f.sysfs, "", "0000:01:11.0", FAKE_GROUP, "igbvf");
	report = probe(&f, BACKEND(state), false);
	assert_true(json_is_false(json_object_get(report, "ok")));
	assert_true(json_is_null(json_object_get(report, "backend")));
	assert_string_equal(step(report, "group", "result"), "failed");
	assert_string_equal(step(report, "group", "error"), "EPERM");
	assert_non_null(strstr(step(report, "group", "detail"), "igbvf"));
	assert_string_equal(step(report, "open", "result"), "");
	json_decref(report);
	fakevfio_destroy(&f);
}

static void a_device_that_says_another_name_fails(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	f.config_is_gone = true;
	report = probe(&f, BACKEND(state), false);
	assert_string_equal(step(report, "open", "result"), "ok");
	assert_string_equal(step(report, "config", "result"), "failed");
	assert_non_null(strstr(step(report, "config", "detail"), "ffff:ffff"));
	json_decref(report);
	fakevfio_destroy(&f);
}

static void an_interrupt_that_does_not_come_fails(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	f.irq_is_lost = true;
	report = probe(&f, BACKEND(state), false);
	assert_string_equal(step(report, "interrupt", "result"), "failed");
	assert_non_null(strstr(step(report, "interrupt", "detail"), "signalled 0 times"));
	json_decref(report);
	fakevfio_destroy(&f);
}

static void locked_memory_is_explained(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	f.memlock = (struct iommu_memlock){ .limit = 4096 };
	report = probe(&f, BACKEND(state), false);
	assert_string_equal(step(report, "dma", "error"), "ENOMEM");
	assert_non_null(strstr(step(report, "dma", "detail"), "RLIMIT_MEMLOCK is 4 KiB"));
	json_decref(report);
	fakevfio_destroy(&f);
}

static void what_a_device_has_not_is_skipped(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	f.can_reset = false;
	f.nr_vectors = 0;
	report = probe(&f, BACKEND(state), false);
	assert_true(json_is_true(json_object_get(report, "ok")));
	assert_string_equal(step(report, "reset", "result"), "skipped");
	assert_string_equal(step(report, "interrupt", "result"), "skipped");
	json_decref(report);
	fakevfio_destroy(&f);
}

static void without_an_iommu_only_with_the_flag(void **state)
{
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	sysfskit_text(&f.sysfs, "kernel/iommu_groups/11/name", "vfio-noiommu\n");
	f.has_noiommu = true;
	report = probe(&f, IOMMU_BACKEND_AUTO, false);
	assert_string_equal(step(report, "open", "error"), "EPERM");
	json_decref(report);
	report = probe(&f, IOMMU_BACKEND_AUTO, true);
	assert_true(json_is_true(json_object_get(report, "ok")));
	assert_string_equal(step(report, "dma", "result"), "skipped");
	assert_string_equal(json_string_value(json_object_get(report, "backend")), "noiommu");
	json_decref(report);
	fakevfio_destroy(&f);
}

static void any_call_may_fail(void **state)
{
	struct fakevfio f;
	json_t *report;
	int left, nth = 0;

	do {
		fakevfio_create(&f);
		f.fail_call = ++nth;
		report = probe(&f, BACKEND(state), false);
		left = f.fail_call;
		json_decref(report);
		fakevfio_destroy(&f);
	} while (!left);
	assert_true(nth > 20);
}

static void what_is_no_device_is_reported(void **state)
{
	static const char *const bad[] = { "", "vf0", "0000:09:00.0" };
	struct iommu_opts opts;
	struct fakevfio f;
	json_t *report;

	fakevfio_create(&f);
	opts = fakevfio_opts(&f, IOMMU_BACKEND_AUTO);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		report = iommu_probe(&opts, bad[i], NULL);
		assert_string_equal(step(report, "group", "result"), "failed");
		json_decref(report);
	}
	fakevfio_destroy(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_BOTH(every_step_goes_well),
		FOR_BOTH(the_first_step_that_fails_ends_it),
		FOR_BOTH(a_device_that_says_another_name_fails),
		FOR_BOTH(an_interrupt_that_does_not_come_fails),
		FOR_BOTH(locked_memory_is_explained),
		FOR_BOTH(what_a_device_has_not_is_skipped),
		cmocka_unit_test(without_an_iommu_only_with_the_flag),
		FOR_BOTH(any_call_may_fail),
		cmocka_unit_test(what_is_no_device_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
