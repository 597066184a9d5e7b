/*
 * Finding out what an image can do, where that is a decision of ours.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "virtio-blk/image.h"

#define SIZE 65536
#define NOBODY 65534

static void secure_erase_is_asked_for_where_the_answer_is_true(void **state)
{
	assert_false(image_tells_secure_erase("5.15.0-91-generic"));
	assert_false(image_tells_secure_erase("5.18.19"));
	assert_false(image_tells_secure_erase("4.19.0"));
	assert_true(image_tells_secure_erase("5.19.0-rc1"));
	assert_true(image_tells_secure_erase("6.1.0-18-amd64"));
	assert_true(image_tells_secure_erase("10.0"));
	/* Nobody knows. */
	assert_false(image_tells_secure_erase(""));
	assert_false(image_tells_secure_erase("6"));
	assert_false(image_tells_secure_erase("linux-6.1"));
}

/* A file that was changed after it was last read: the next read of it would be
 * noted even by file systems that note few. */
static void unread_file(struct rig *r, const char *dir)
{
	const struct timespec times[2] = { { .tv_sec = 1000000000 }, { .tv_nsec = UTIME_NOW } };

	rig_file(r, dir, SIZE);
	assert_int_equal(utimensat(AT_FDCWD, r->path, times, 0), 0);
}

static void reading_is_no_access_of_the_owners(void **state)
{
	static const char *const dirs[] = { RIG_DISK, RIG_TMPFS };
	uint8_t *data = rig_pattern(4096, 1);

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct stat st;
		struct rig r;

		rig_init(&r);
		unread_file(&r, dirs[i]);
		rig_open(&r);
		assert_int_equal(rig_io(&r, STORE_READ, 4096, data, 4096), 0);
		rig_close(&r);
		assert_int_equal(stat(r.path, &st), 0);
		assert_int_equal(st.st_atime, 1000000000);
		rig_fini(&r);
	}
	free(data);
}

/* Only the owner may read without a trace; others can read all the same. */
static void an_image_of_somebody_else_is_opened(void **state)
{
	char err[STORE_ERR_LEN];
	struct image im;
	struct rig r;

	if (geteuid())
		skip();
	rig_init(&r);
	unread_file(&r, RIG_TMPFS);
	assert_int_equal(chmod(r.path, 0666), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	/* Or this tests nothing. */
	assert_int_equal(open(r.path, O_RDONLY | O_NOATIME | O_CLOEXEC), -1);
	assert_int_equal(image_open(&r.conf, r.path, &im, err), 0);
	assert_int_equal(im.size, SIZE);
	fd_replace(&im.fd, -1);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(r.path, 0444), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	assert_int_equal(image_open(&r.conf, r.path, &im, err), -EACCES);
	assert_int_equal(seteuid(0), 0);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(secure_erase_is_asked_for_where_the_answer_is_true),
		cmocka_unit_test(reading_is_no_access_of_the_owners),
		cmocka_unit_test(an_image_of_somebody_else_is_opened),
	};

	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
