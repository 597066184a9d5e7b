/*
 * The dirty log of a migration and the block device: whatever a request wrote to
 * guest memory is logged, and not before it was written. Who copies memory may
 * read a page as soon as its bit is set, and never again.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/reqkit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define PAGE 4096u
#define PAGES ((RK_RAM + RK_RAM_LEN) / PAGE)

void __real_dirty_log_mark(struct dirty_log *log, gpa_t addr, uint64_t len);
void __wrap_dirty_log_mark(struct dirty_log *log, gpa_t addr, uint64_t len);

static struct reqkit *present;
/* What memory held when it was last marked, by page. */
static uint8_t *seen[PAGES];

/* Called in place of dirty_log_mark(). */
void __wrap_dirty_log_mark(struct dirty_log *log, gpa_t addr, uint64_t len)
{
	for (uint64_t page = addr.v / PAGE; page <= (addr.v + len - 1) / PAGE; page++) {
		assert_true(page < PAGES);
		if (!seen[page])
			seen[page] = malloc(PAGE);
		memcpy(seen[page], rk_mem(present->k, page * PAGE), PAGE);
	}
	__real_dirty_log_mark(log, addr, len);
}

static void log_open(struct reqkit *d)
{
	d->k->vq.conf.log = rk_log_open();
	present = d;
	memset(rk_mem(d->k, DATA), UNSET, 8 * PAGE);
}

static void log_close(struct reqkit *d)
{
	for (size_t i = 0; i < PAGES; i++) {
		free(seen[i]);
		seen[i] = NULL;
	}
	rk_log_close(d->k->vq.conf.log);
	d->k->vq.conf.log = NULL;
}

/* What a migration has of [gpa, gpa + len) is what is there. */
static void assert_logged(struct reqkit *d, uint64_t gpa, uint64_t len)
{
	for (uint64_t at = gpa; at < gpa + len; at++) {
		assert_non_null(seen[at / PAGE]);
		assert_int_equal(seen[at / PAGE][at % PAGE], *(uint8_t *)rk_mem(d->k, at));
	}
}

static void data_and_status_are_logged_when_they_are_there(void **state)
{
	for_each_reqkit(d)
	{
		log_open(d);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, 8, 3 * PAGE), VIRTIO_BLK_S_OK);
		assert_logged(d, DATA, 3 * PAGE);
		assert_logged(d, STATUS, 1);
		assert_null(seen[DATA / PAGE + 3]);
		log_close(d);
	}
}

static void a_write_changes_nothing_but_its_status(void **state)
{
	for_each_reqkit(d)
	{
		log_open(d);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_OUT, 8, PAGE), VIRTIO_BLK_S_OK);
		assert_logged(d, STATUS, 1);
		assert_null(seen[DATA / PAGE]);
		log_close(d);
	}
}

static void the_serial_is_logged(void **state)
{
	for_each_reqkit(d)
	{
		log_open(d);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
		assert_logged(d, DATA, 20);
		assert_logged(d, STATUS, 1);
		log_close(d);
	}
}

static void errors_are_logged(void **state)
{
	for_each_reqkit(d)
	{
		log_open(d);
		assert_int_equal(reqkit_ask(d, VIRTIO_BLK_T_IN, DISK / 512, 512),
				 VIRTIO_BLK_S_IOERR);
		assert_logged(d, STATUS, 1);
		log_close(d);
		log_open(d);
		assert_int_equal(reqkit_ask(d, 77, 0, 0), VIRTIO_BLK_S_UNSUPP);
		assert_logged(d, STATUS, 1);
		log_close(d);
	}
}

static void a_chain_without_a_header_is_logged(void **state)
{
	for_each_reqkit(d)
	{
		const struct rk_buf buf = { STATUS, 1, W };

		log_open(d);
		*(uint8_t *)rk_mem(d->k, STATUS) = UNSET;
		rk_put(d->k, 0, &buf, 1);
		reqkit_poll_one(d);
		assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
		assert_logged(d, STATUS, 1);
		log_close(d);
	}
}

/* It ended early, after some of it had been written. */
static void what_a_failed_read_has_written_is_logged(void **state)
{
	const struct rk_buf bufs[] = {
		{ HDR, 16, 0 }, { DATA, PAGE, W }, { DATA + 4 * PAGE, PAGE, W }, { STATUS, 1, W }
	};
	struct reqkit *d = reqkit_open(false, 0, 512);
	struct store_req *req;
	uint16_t id;
	uint32_t len;

	log_open(d);
	d->late.hold = true;
	reqkit_header(d, VIRTIO_BLK_T_IN, 0);
	rk_put(d->k, 0, bufs, ARRAY_SIZE(bufs));
	assert_int_equal(vblk_poll(&d->k->vq), 1);
	req = d->late.held[0];
	assert_null(seen[DATA / PAGE]);
	reqkit_carry_out(&d->late, req);
	req->done(req, -EIO);
	loop_turn(d->loop);
	assert_true(rk_get(d->k, &id, &len));
	assert_int_equal(reqkit_status(d), VIRTIO_BLK_S_IOERR);
	assert_logged(d, DATA, PAGE);
	assert_logged(d, DATA + 4 * PAGE, PAGE);
	assert_logged(d, STATUS, 1);
	log_close(d);
	reqkit_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_and_status_are_logged_when_they_are_there),
		cmocka_unit_test(a_write_changes_nothing_but_its_status),
		cmocka_unit_test(the_serial_is_logged),
		cmocka_unit_test(errors_are_logged),
		cmocka_unit_test(a_chain_without_a_header_is_logged),
		cmocka_unit_test(what_a_failed_read_has_written_is_logged),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
