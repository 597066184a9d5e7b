/*
 * A block device behind a store: a loop device over a scratch file, so this
 * needs the right to make one and is skipped without.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SIZE (16u << 20)

/* A loop device over r's file, gone with its last user; -1. */
static int make_loop(struct rig *r, uint32_t block_size)
{
	struct loop_config lc = { .block_size = block_size, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), nr, fd = -1;

	if (control < 0)
		return -1;
	lc.fd = (uint32_t)open(r->path, O_RDWR | O_CLOEXEC);
	for (int tries = 0; tries < 5 && fd < 0; tries++) {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		if (nr < 0)
			break;
		snprintf(r->spec, sizeof(r->spec), "uring:/dev/loop%d", nr);
		fd = open(r->spec + 6, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &lc) < 0) {
			close(fd);
			fd = -1;
		}
	}
	close((int)lc.fd);
	close(control);
	return fd;
}

static int open_device(struct rig *r, uint32_t block_size)
{
	int fd;

	rig_init(r);
	rig_file(r, RIG_DISK, SIZE);
	fd = make_loop(r, block_size);
	if (fd < 0) {
		print_message("skipped: no loop device to be had\n");
		rig_fini(r);
		skip();
	}
	rig_open(r);
	return fd;
}

static void a_device_keeps_what_is_written(void **state)
{
	uint8_t *data = rig_pattern(1u << 20, 1), *back = rig_pattern(1u << 20, 2);
	uint8_t *zero = calloc(1, 1u << 20);
	struct rig r;
	int fd = open_device(&r, 512);

	assert_int_equal(r.store->info.size, SIZE);
	assert_int_equal(r.store->info.block_size, 512);
	assert_int_equal(rig_io(&r, STORE_WRITE, 4096, data, 1u << 20), 0);
	assert_int_equal(rig_range(&r, STORE_FLUSH, 0, 0, 0), 0);
	assert_int_equal(rig_io(&r, STORE_READ, 4096, back, 1u << 20), 0);
	assert_memory_equal(data, back, 1u << 20);
	for (uint8_t flags = 0; flags < 4; flags++) {
		assert_int_equal(rig_io(&r, STORE_WRITE, 0, data, 1u << 20), 0);
		assert_int_equal(rig_range(&r, STORE_WRITE_ZEROES, flags, 4096, 65536), 0);
		assert_int_equal(rig_io(&r, STORE_READ, 0, back, 1u << 20), 0);
		assert_memory_equal(back, data, 4096);
		assert_memory_equal(back + 4096, zero, 65536);
		assert_memory_equal(back + 69632, data + 69632, (1u << 20) - 69632);
	}
	close(fd);
	rig_fini(&r);
	free(data);
	free(back);
	free(zero);
}

static void discard_reaches_the_file_below(void **state)
{
	uint8_t *data = rig_pattern(1u << 20, 1);
	struct rig_req q[4] = { 0 };
	struct rig r;
	int fd = open_device(&r, 512);
	bool all = false;

	if (!(r.store->info.caps & STORE_CAN_DISCARD)) {
		close(fd);
		rig_fini(&r);
		free(data);
		print_message("skipped: the loop device cannot discard\n");
		skip();
	}
	assert_int_equal(rig_io(&r, STORE_WRITE, 0, data, 1u << 20), 0);
	assert_int_equal(rig_range(&r, STORE_FLUSH, 0, 0, 0), 0);
	assert_true(rig_allocated(&r) >= 1u << 20);
	/* Several at once wait for one another, and the loop for none. */
	for (unsigned int i = 0; i < 4; i++) {
		q[i].io = (struct store_req){ .op = STORE_DISCARD,
					      .offset = i << 18,
					      .len = 1u << 18 };
		rig_start(&r, &q[i]);
		assert_false(q[i].ended);
	}
	for (int turn = 0; !all && turn < 20000; turn++) {
		rig_turn(&r);
		all = q[0].ended && q[1].ended && q[2].ended && q[3].ended;
	}
	assert_true(all);
	assert_int_equal(q[0].res | q[1].res | q[2].res | q[3].res, 0);
	assert_true(rig_allocated(&r) < 1u << 19);
	close(fd);
	rig_fini(&r);
	free(data);
}

static void the_device_decides_about_the_block_size(void **state)
{
	struct rig r;
	int fd = open_device(&r, 4096);
	uint8_t *data = rig_pattern(8192, 1), *back = rig_pattern(8192, 2);

	assert_int_equal(r.store->info.block_size, 4096);
	assert_int_equal(rig_io(&r, STORE_WRITE, 4096, data + 1, 4096), 0);
	assert_int_equal(rig_io(&r, STORE_READ, 4096, back, 4096), 0);
	assert_memory_equal(back, data + 1, 4096);
	rig_close(&r);
	r.conf.block_size = 512;
	r.conf.cache = STORE_CACHE_NONE;
	assert_int_equal(rig_open_fails(&r), -EINVAL);
	assert_non_null(strstr(r.err, "cache=writeback would do"));
	close(fd);
	rig_fini(&r);
	free(data);
	free(back);
}

static void a_device_cannot_be_resized_from_here(void **state)
{
	struct rig r;
	int fd = open_device(&r, 512);

	assert_int_equal(store_resize(r.store, SIZE / 2, r.err), -ENOTSUP);
	assert_int_equal(store_resize(r.store, 0, r.err), 0);
	assert_int_equal(r.store->info.size, SIZE);
	close(fd);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_keeps_what_is_written),
		cmocka_unit_test(discard_reaches_the_file_below),
		cmocka_unit_test(the_device_decides_about_the_block_size),
		cmocka_unit_test(a_device_cannot_be_resized_from_here),
	};

	return cmocka_run_group_tests_name("blockdev", tests, NULL, NULL);
}
