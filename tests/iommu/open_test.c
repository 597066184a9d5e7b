/*
 * Opening a device: which interface is chosen, and what is said for everything
 * that can stand in the way. Nothing is left open after any failure.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/iommu/rig.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "iommu/iommu_spec.h"

#define TOKEN "00112233-4455-6677-8899-aabbccddeeff"

static void assert_says(const struct rig *r, const char *words)
{
	if (!strstr(r->err, words))
		fail_msg("'%s' does not say '%s'", r->err, words);
}

static int open_vf(struct rig *r, const char *token)
{
	return iommu_dev_open(r->space, FAKE_VF, token, &r->dev, r->err);
}

static void either_interface_can_be_asked_for(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	assert_int_equal(iommu_space_backend(r.space), IOMMU_BACKEND_AUTO);
	rig_open(&r);
	assert_int_equal(iommu_space_backend(r.space), r.backend);
	assert_string_equal(iommu_dev_address(r.dev), FAKE_VF);
	assert_string_equal(iommu_dev_path(r.dev), r.backend == IOMMU_BACKEND_TYPE1
							   ? "/fake/vfio/11"
							   : "/fake/vfio/devices/vfio11");
	rig_destroy(&r);
}

static void iommufd_is_chosen_where_it_can_be_used(void **state)
{
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_AUTO);
	rig_open(&r);
	assert_int_equal(iommu_space_backend(r.space), IOMMU_BACKEND_IOMMUFD);
	rig_destroy(&r);
	/* No iommufd in the kernel; no permission; no cdev; a token. */
	for (int i = 0; i < 4; i++) {
		rig_create(&r, IOMMU_BACKEND_AUTO);
		r.f.fail_open = i == 0 ? "/iommu" : i == 1 ? "/devices/vfio11" : NULL;
		r.f.fail_code = i ? -EACCES : -ENOENT;
		r.f.token = i == 3 ? TOKEN : NULL;
		if (i == 2)
			sysfskit_remove(&r.f.sysfs, "bus/pci/devices/" FAKE_VF "/vfio-dev/vfio11");
		assert_int_equal(open_vf(&r, i == 3 ? TOKEN : NULL), 0);
		assert_int_equal(iommu_space_backend(r.space), IOMMU_BACKEND_TYPE1);
		rig_destroy(&r);
	}
}

static void a_group_that_is_not_viable_is_explained(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.viable = false;
	sysfskit_function(&r.f.sysfs, "", "0000:01:11.0", FAKE_GROUP, "igbvf");
	assert_int_equal(open_vf(&r, NULL), -EPERM);
	assert_says(&r, "IOMMU group 11 is not viable; 0000:01:11.0 is in use by the host's "
			"driver igbvf");
	r.dev = NULL;
	rig_destroy(&r);
	/* And when sysfs does not show why. */
	rig_create(&r, IOMMU_BACKEND_TYPE1);
	r.f.viable = false;
	assert_int_equal(open_vf(&r, NULL), -EPERM);
	assert_says(&r, "none of its 2 members");
	r.dev = NULL;
	rig_destroy(&r);
}

static void a_device_in_use_is_busy(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.other_user = true;
	assert_int_equal(open_vf(&r, NULL), -EBUSY);
	assert_says(&r, "is in use");
	/* Then the other one lets go. */
	r.f.other_user = false;
	rig_open(&r);
	rig_destroy(&r);
}

struct obstacle {
	enum iommu_backend backend;
	const char *open; /* or */
	unsigned long request;
	int code, expect;
	const char *words;
};

static void every_obstacle_is_explained(void **state)
{
	static const struct obstacle obstacles[] = {
		{ IOMMU_BACKEND_TYPE1, "/vfio/vfio", 0, -ENOENT, -ENOENT, "modprobe vfio-pci" },
		{ IOMMU_BACKEND_TYPE1, "/vfio/vfio", 0, -EACCES, -EACCES, "Permission denied" },
		{ IOMMU_BACKEND_TYPE1, "/vfio/11", 0, -ENOENT, -ENODEV, "not bound to a VFIO" },
		{ IOMMU_BACKEND_TYPE1, "/vfio/11", 0, -EACCES, -EACCES, "chown it" },
		{ IOMMU_BACKEND_TYPE1, "/vfio/11", 0, -EBUSY, -EBUSY, "another process holds" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_GROUP_SET_CONTAINER, -EBUSY, -EBUSY,
		  "does not join the container" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_SET_IOMMU, -EPERM, -EPERM,
		  "does not remap interrupts" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_SET_IOMMU, -EINVAL, -EINVAL, "1:1 mapping" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_GROUP_GET_DEVICE_FD, -ENODEV, -ENODEV,
		  "not bound to a VFIO driver" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_IOMMU_GET_INFO, -EIO, -EIO,
		  "does not describe itself" },
		{ IOMMU_BACKEND_IOMMUFD, "/iommu", 0, -ENOENT, -ENOENT, "no iommufd" },
		{ IOMMU_BACKEND_IOMMUFD, "/iommu", 0, -EACCES, -EACCES, "Permission denied" },
		{ IOMMU_BACKEND_IOMMUFD, "/devices/vfio11", 0, -EACCES, -EACCES, "chown it" },
		{ IOMMU_BACKEND_IOMMUFD, NULL, IOMMU_UAPI_IOAS_ALLOC, -ENOMEM, -ENOMEM,
		  "no I/O address space" },
		{ IOMMU_BACKEND_IOMMUFD, NULL, IOMMU_UAPI_DEVICE_BIND, -EPERM, -EPERM,
		  "does not remap interrupts" },
		{ IOMMU_BACKEND_IOMMUFD, NULL, IOMMU_UAPI_DEVICE_BIND, -ENOMEM, -ENOMEM,
		  "cannot be bound to iommufd" },
		{ IOMMU_BACKEND_IOMMUFD, NULL, IOMMU_UAPI_DEVICE_ATTACH_PT, -EINVAL, -EINVAL,
		  "cannot join the I/O address space" },
		{ IOMMU_BACKEND_TYPE1, NULL, VFIO_DEVICE_GET_INFO, -EIO, -EIO,
		  "does not describe itself" },
	};
	struct rig r;

	for (unsigned int i = 0; i < ARRAY_SIZE(obstacles); i++) {
		const struct obstacle *o = &obstacles[i];

		rig_create(&r, o->backend);
		r.f.fail_open = o->open;
		r.f.fail_request = o->request;
		r.f.fail_code = o->code;
		assert_int_equal(open_vf(&r, NULL), o->expect);
		assert_says(&r, o->words);
		assert_int_equal(r.f.nr_open, 0);
		/* The obstacle goes away: the same space can be used. */
		r.f.fail_open = NULL;
		r.f.fail_request = 0;
		rig_open(&r);
		rig_destroy(&r);
	}
}

static void what_the_kernel_lacks_is_said(void **state)
{
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_TYPE1);
	r.f.has_type1 = false;
	assert_int_equal(open_vf(&r, NULL), -EOPNOTSUPP);
	assert_says(&r, "modprobe vfio_iommu_type1");
	r.f.api_version = 1;
	assert_int_equal(open_vf(&r, NULL), -EPROTO);
	assert_says(&r, "version 1 of VFIO");
	r.dev = NULL;
	rig_destroy(&r);
	/* A device of VFIO's, but a kernel that gives it no file. */
	rig_create(&r, IOMMU_BACKEND_IOMMUFD);
	sysfskit_remove(&r.f.sysfs, "bus/pci/devices/" FAKE_VF "/vfio-dev/vfio11/dev");
	assert_int_equal(open_vf(&r, NULL), -ENODEV);
	assert_says(&r, "no VFIO character device");
	r.dev = NULL;
	rig_destroy(&r);
}

static void tokens_are_passed_on(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.token = TOKEN;
	r.f.takes_token = true;
	assert_int_equal(open_vf(&r, NULL), -EACCES);
	assert_says(&r, "wants a VF token");
	assert_int_equal(open_vf(&r, "short"), -EINVAL);
	assert_int_equal(open_vf(&r, TOKEN), 0);
	rig_destroy(&r);
}

static void what_is_no_uuid_is_no_token(void **state)
{
	static const char *const bad[] = {
		"00112233-4455-6677-8899-aabbccddeefg",
		"001122334-455-6677-8899-aabbccddeeff",
		"0011223344556677-8899-aabb-ccddeeff+",
		"-0112233-4455-6677-8899-aabbccddeeff",
	};
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_IOMMUFD);
	r.f.takes_token = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(open_vf(&r, bad[i]), -EINVAL);
	r.dev = NULL;
	rig_destroy(&r);
}

static void an_old_kernel_takes_no_token_by_cdev(void **state)
{
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_IOMMUFD);
	r.f.token = TOKEN;
	assert_int_equal(open_vf(&r, TOKEN), -EINVAL);
	assert_says(&r, "only with the group");
	r.dev = NULL;
	rig_destroy(&r);
}

static void no_iommu_needs_the_flag(void **state)
{
	struct iommu_mapping m = rig_piece(0x1000, PAGE);
	struct iommu_opts opts;
	struct rig r;

	/* Whatever was asked for. */
	rig_create(&r, BACKEND(state));
	sysfskit_text(&r.f.sysfs, "kernel/iommu_groups/11/name", "vfio-noiommu\n");
	r.f.has_noiommu = true;
	assert_int_equal(open_vf(&r, NULL), -EPERM);
	assert_says(&r, "all of the host's memory");
	iommu_space_destroy(r.space);
	opts = fakevfio_opts(&r.f, r.backend);
	opts.allow_noiommu = true;
	assert_int_equal(iommu_space_create(&opts, &r.space), 0);
	rig_open(&r);
	assert_int_equal(iommu_space_backend(r.space), IOMMU_BACKEND_NOIOMMU);
	assert_string_equal(iommu_dev_path(r.dev), "/fake/vfio/noiommu-11");
	assert_int_equal(iommu_map(r.space, &m, r.err), -EOPNOTSUPP);
	assert_says(&r, "no IOMMU");
	rig_destroy(&r);
}

static void devices_with_and_without_an_iommu_do_not_mix(void **state)
{
	struct iommu_opts opts;
	struct iommu_dev *second;
	struct rig r;

	rig_create(&r, IOMMU_BACKEND_TYPE1);
	iommu_space_destroy(r.space);
	opts = fakevfio_opts(&r.f, IOMMU_BACKEND_TYPE1);
	opts.allow_noiommu = true;
	assert_int_equal(iommu_space_create(&opts, &r.space), 0);
	rig_open(&r);
	sysfskit_text(&r.f.sysfs, "kernel/iommu_groups/11/name", "vfio-noiommu\n");
	assert_int_equal(iommu_dev_open(r.space, FAKE_VF2, NULL, &second, r.err), -EINVAL);
	assert_says(&r, "cannot share a space");
	rig_destroy(&r);
}

static void what_is_no_pci_device_is_refused(void **state)
{
	struct rig r;

	rig_create(&r, BACKEND(state));
	r.f.is_pci = false;
	assert_int_equal(open_vf(&r, NULL), -ENOTSUP);
	assert_int_equal(iommu_dev_open(r.space, "0000:09:00.0", NULL, &r.dev, r.err), -ENODEV);
	assert_int_equal(iommu_dev_open(r.space, "vf0", NULL, &r.dev, r.err), -EINVAL);
	r.dev = NULL;
	rig_destroy(&r);
}

/* Whatever call fails, all is given back: fakevfio_destroy() looks. */
static void any_call_may_fail(void **state)
{
	struct iommu_mapping m = rig_piece(0x1000, PAGE);
	struct rig r;
	int ret, nth = 0;

	do {
		rig_create(&r, BACKEND(state));
		r.f.fail_call = ++nth;
		r.f.fail_code = -EIO;
		ret = open_vf(&r, NULL);
		if (ret < 0)
			r.dev = NULL;
		if (ret == 0)
			ret = iommu_map(r.space, &m, r.err);
		if (ret == 0)
			ret = iommu_dev_map_bar(r.dev, 0, r.err);
		if (ret < 0)
			assert_true(r.err[0]);
		ret = r.f.fail_call; /* not yet reached: all went well */
		r.f.fail_call = 0;
		rig_destroy(&r);
	} while (!ret);
	assert_true(nth > 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR_BOTH(either_interface_can_be_asked_for),
		cmocka_unit_test(iommufd_is_chosen_where_it_can_be_used),
		FOR_BOTH(a_group_that_is_not_viable_is_explained),
		FOR_BOTH(a_device_in_use_is_busy),
		cmocka_unit_test(every_obstacle_is_explained),
		cmocka_unit_test(what_the_kernel_lacks_is_said),
		FOR_BOTH(tokens_are_passed_on),
		cmocka_unit_test(what_is_no_uuid_is_no_token),
		cmocka_unit_test(an_old_kernel_takes_no_token_by_cdev),
		FOR_BOTH(no_iommu_needs_the_flag),
		cmocka_unit_test(devices_with_and_without_an_iommu_do_not_mix),
		FOR_BOTH(what_is_no_pci_device_is_refused),
		FOR_BOTH(any_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
