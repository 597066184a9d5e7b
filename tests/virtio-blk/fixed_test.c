/*
 * Guest memory as registered buffers: it comes little by little, is used where
 * a request lies in one piece of it, and leaves nothing behind.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/virtio-blk/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vhost/vhost.h"

#define SIZE (16u << 20)
#define PIECE (16u << 20)
#define GUEST (3ull * PIECE + (1u << 20)) /* the last piece is short */

static bool faulted;

static struct gmem_region *guest_memory(uint64_t gpa_at, uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct gmem_region *r = NULL;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(gmem_region_map(fd, gpa(gpa_at), uva(gpa_at), size, 0, &faulted, &r), 0);
	return r;
}

static json_t *status_of(struct rig *r)
{
	json_t *o = json_object();

	r->store->ops->status(r->store, o);
	return o;
}

static uint64_t registered(struct rig *r)
{
	json_t *o = status_of(r);
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(o, "fixed-buffer-bytes"));

	json_decref(o);
	return bytes;
}

/* Until so many bytes are registered; false if that cannot be had here. */
static bool wait_registered(struct rig *r, uint64_t bytes)
{
	for (int i = 0; i < 20000 && registered(r) != bytes; i++)
		rig_turn(r);
	return registered(r) == bytes;
}

static void open_fixed(struct rig *r, const char *dir)
{
	rig_init(r);
	rig_file(r, dir, SIZE);
	r->conf.fixed_buffers = 1;
	rig_open(r);
}

static void wait_only_ours(struct rig *r, const struct gmem_region *mem)
{
	for (int i = 0; i < 20000 && mem->refs > 1; i++)
		rig_turn(r);
	assert_int_equal(mem->refs, 1);
}

static void check_io(struct rig *r, uint8_t *out, uint8_t *in, uint64_t len, uint8_t seed)
{
	for (uint64_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 13 + i / 256 + seed);
	memset(in, 0, len);
	assert_int_equal(rig_io(r, STORE_WRITE, 4096, out, len), 0);
	assert_int_equal(rig_io(r, STORE_READ, 4096, in, len), 0);
	assert_memory_equal(out, in, len);
}

static void requests_use_registered_memory_and_the_border_of_pieces(void **state)
{
	static const char *const dirs[] = { RIG_DISK, RIG_TMPFS };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct gmem_region *mem = guest_memory(1u << 20, GUEST);
		struct rig r;

		open_fixed(&r, dirs[i]);
		r.store->ops->mem_added(r.store, mem);
		if (!wait_registered(&r, GUEST)) {
			r.store->ops->mem_removed(r.store, mem);
			rig_fini(&r);
			gmem_region_put(mem);
			print_message("skipped: memory cannot be registered here\n");
			skip();
		}
		/* Inside of a piece, over a border, up to the end. */
		check_io(&r, mem->host, mem->host + (8u << 20), 1u << 20, 1);
		check_io(&r, mem->host + PIECE - 8192, mem->host + 2 * PIECE - 4096, 65536, 2);
		check_io(&r, mem->host + GUEST - (1u << 20), mem->host + PIECE, 1u << 20, 3);
		/* Several pieces of memory in one request, in one buffer and in two. */
		for (unsigned int far = 0; far < 2; far++) {
			struct rig_req q = { .io = { .op = STORE_READ,
						     .offset = 4096,
						     .len = 8192,
						     .nr_iov = 2,
						     .iov = q.iov } };

			q.iov[0] = (struct iovec){ mem->host + (1u << 20), 4096 };
			q.iov[1] = (struct iovec){ mem->host + (2u << 20) + far * PIECE, 4096 };
			assert_int_equal(rig_do(&r, &q), 0);
			assert_memory_equal(q.iov[0].iov_base, mem->host + PIECE, 4096);
			assert_memory_equal(q.iov[1].iov_base, mem->host + PIECE + 4096, 4096);
		}
		r.store->ops->mem_removed(r.store, mem);
		wait_only_ours(&r, mem);
		assert_int_equal(registered(&r), 0);
		check_io(&r, mem->host, mem->host + (8u << 20), 65536, 4);
		rig_fini(&r);
		gmem_region_put(mem);
	}
}

static void memory_leaves_while_it_is_coming(void **state)
{
	for (int turns = 0; turns < 12; turns++) {
		struct gmem_region *mem = guest_memory(0, GUEST);
		struct rig r;

		open_fixed(&r, RIG_DISK);
		r.store->ops->mem_added(r.store, mem);
		for (int i = 0; i < turns; i++)
			rig_turn(&r);
		r.store->ops->mem_removed(r.store, mem);
		wait_only_ours(&r, mem);
		rig_fini(&r);
		gmem_region_put(mem);
	}
}

static void closing_takes_memory_along(void **state)
{
	for (int turns = 0; turns < 12; turns += 3) {
		struct gmem_region *mem = guest_memory(0, GUEST),
				   *other = guest_memory(1ull << 32, PIECE);
		struct rig r;

		open_fixed(&r, RIG_DISK);
		r.store->ops->mem_added(r.store, mem);
		r.store->ops->mem_added(r.store, other);
		for (int i = 0; i < turns; i++)
			rig_turn(&r);
		rig_fini(&r);
		assert_int_equal(mem->refs, 1);
		assert_int_equal(other->refs, 1);
		gmem_region_put(mem);
		gmem_region_put(other);
	}
}

static void memory_known_before_the_first_ring_is_registered_too(void **state)
{
	struct gmem_region *mem = guest_memory(0, GUEST);
	struct rig r;

	rig_init(&r);
	rig_file(&r, RIG_DISK, SIZE);
	r.conf.fixed_buffers = 1;
	assert_int_equal(store_open(&r.conf, &r.store, r.err), 0);
	r.store->ops->mem_added(r.store, mem);
	assert_int_equal(r.store->ops->chan_open(r.store, r.loop, 64, &r.chan), 0);
	if (wait_registered(&r, GUEST))
		check_io(&r, mem->host, mem->host + (8u << 20), 65536, 1);
	rig_fini(&r);
	assert_int_equal(mem->refs, 1);
	gmem_region_put(mem);
}

/* A file that shrinks: the rest cannot be pinned, and nothing else happens. */
static void what_cannot_be_registered_is_used_without(void **state)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	struct gmem_region *mem = NULL;
	struct rig r;

	assert_int_equal(ftruncate(fd, GUEST), 0);
	assert_int_equal(gmem_region_map(dup(fd), gpa(0), uva(0), GUEST, 0, &faulted, &mem), 0);
	assert_int_equal(ftruncate(fd, PIECE + 4096), 0);
	open_fixed(&r, RIG_DISK);
	r.store->ops->mem_added(r.store, mem);
	for (int i = 0; i < 500; i++)
		rig_turn(&r);
	assert_true(registered(&r) <= PIECE);
	check_io(&r, mem->host, mem->host + (8u << 20), 65536, 1);
	/* Memory that is not there is an error of the request. */
	assert_int_equal(rig_io(&r, STORE_WRITE, 0, mem->host + 2 * PIECE, 4096), -EFAULT);
	r.store->ops->mem_removed(r.store, mem);
	rig_fini(&r);
	assert_int_equal(mem->refs, 1);
	gmem_region_put(mem);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_use_registered_memory_and_the_border_of_pieces),
		cmocka_unit_test(memory_leaves_while_it_is_coming),
		cmocka_unit_test(closing_takes_memory_along),
		cmocka_unit_test(memory_known_before_the_first_ring_is_registered_too),
		cmocka_unit_test(what_cannot_be_registered_is_used_without),
	};

	return cmocka_run_group_tests_name("fixed", tests, NULL, NULL);
}
