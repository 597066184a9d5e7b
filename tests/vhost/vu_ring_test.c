/*
 * Rings from the front-end's side: what starts and stops them, in which order,
 * with which addresses and descriptors, and what waits for I/O in flight.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PACKED (1ull << VIRTIO_F_RING_PACKED)

/* Ring 0's addresses as drv_start() would send them. */
static struct fe_vring_addr addresses(struct kit_dev *kd)
{
	return (struct fe_vring_addr){
		.desc_uva = fe_uva(&kd->fe, kd->ring.desc_gpa),
		.avail_uva = fe_uva(&kd->fe, kd->ring.driver_gpa),
		.used_uva = fe_uva(&kd->fe, kd->ring.device_gpa),
		.log_gpa = UINT64_MAX,
	};
}

/* Memory is there and a ring lies in it, but nothing was said about it. */
static void place_ring(struct kit *kit, struct kit_dev *kd, uint64_t features)
{
	struct drv_conf conf = { .size = KIT_RING_SIZE };

	kit_bring_up(kit, kd, KIT_MEMORY, features);
	conf.region = kd->region;
	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
}

static int said_of(struct kit_dev *kd, const struct fe_vring_addr *addr)
{
	return fe_vring_addr(&kd->fe, addr);
}

static void kick_may_come_before_the_addresses(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr addr;

	place_ring(kit, kd, 0);
	addr = addresses(kd);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), 0);
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_true(kit_ring_is(kd, "stopped"));
	assert_int_equal(said_of(kd, &addr), 0);
	assert_true(kit_ring_is(kd, "started"));
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	kit_serve(kit, kd);
}

static void a_ring_without_kick_descriptor_is_polled(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr addr;

	place_ring(kit, kd, 0);
	addr = addresses(kd);
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(said_of(kd, &addr), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, -1), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, -1), 0);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	kit_serve(kit, kd);
}

static void wrong_addresses_are_refused(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr good, bad;
	uint64_t end;

	for (int packed = 0; packed < 2; packed++) {
		place_ring(kit, kd, packed ? PACKED : 0);
		assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
		good = addresses(kd);
		end = kd->fe.region[kd->region].uva + KIT_MEM;

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		bad = good;                                                                        \
		change;                                                                            \
		assert_int_equal(said_of(kd, &bad), -EREMOTEIO);                                   \
	} while (0)
		REFUSED(bad.desc_uva += 8);
		REFUSED(bad.avail_uva += 1);
		REFUSED(bad.used_uva += 2);
		REFUSED(bad.desc_uva = 0);
		REFUSED(bad.desc_uva = UINT64_MAX - 15);
		REFUSED(bad.desc_uva = end - 16 * KIT_RING_SIZE + 16);
		REFUSED(bad.desc_uva = end);
		REFUSED(bad.avail_uva = end - (packed ? 0 : 6 + 2 * KIT_RING_SIZE - 2));
		REFUSED(bad.used_uva = end - (packed ? 0 : 6 + 8 * KIT_RING_SIZE - 6));
		REFUSED(bad.flags = 2);
		REFUSED(bad.flags = FE_VRING_F_LOG);
#undef REFUSED
		/* None of them was taken: kick starts nothing. */
		assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), 0);
		assert_true(kit_ring_is(kd, "stopped"));
		assert_int_equal(said_of(kd, &good), 0);
		assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
		kit_serve(kit, kd);
		kit_serve(kit, &kit->witness);
		kit_bring_down(kit, kd);
	}
}

/* What was checked with the addresses may have changed when the ring starts. */
static void size_and_base_are_checked_at_the_start(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr addr;

	place_ring(kit, kd, PACKED);
	addr = addresses(kd);
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(said_of(kd, &addr), 0);
	/* A packed ring of 32768 does not fit into the memory. */
	assert_int_equal(fe_vring_num(&kd->fe, 0, 32768), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), -EREMOTEIO);
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(fe_vring_base(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), -EREMOTEIO);
	assert_int_equal(kd->hooks.activate, kd->hooks.deactivate);
	assert_int_equal(fe_vring_base(&kd->fe, 0, 0x80008000), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), 0);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	kit_serve(kit, kd);
}

static void a_disabled_ring_serves_nothing(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	void *cookie;
	uint32_t len;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
	kit_submit(kd);
	for (int i = 0; i < 10; i++)
		kit_pump(kit);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 0);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
}

static void a_device_is_told_which_rings_are_active(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	const uint64_t ring0 = 0;
	struct fe_msg reply;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_true(kd->hooks.active[0] && !kd->hooks.active[1]);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
	assert_false(kd->hooks.active[0]);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, true), 0);
	assert_true(kd->hooks.active[0]);
	assert_int_equal(kd->hooks.nr_active_told, 3);
	/* Before it has drained. */
	kit_hold(kit, kd, 1);
	assert_int_equal(fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, &ring0, 8, NULL, 0), 0);
	kit_until(kit, !kd->hooks.active[0]);
	assert_int_equal(kd->hooks.release, 0);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(kd->hooks.release, 1);
	/* Enabling one that does not run tells nothing. */
	assert_int_equal(fe_vring_enable(&kd->fe, 1, true), 0);
	assert_int_equal(kd->hooks.nr_active_told, 4);
	assert_int_equal(drv_start(&kd->ring), 0);
	assert_true(kd->hooks.active[0]);
	kit_bring_down(kit, kd);
	assert_false(kd->hooks.active[0]);
}

static void a_ring_that_runs_disabled_may_be_set_up_anew(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_serve(kit, kd);
	assert_int_equal(fe_vring_num(&kd->fe, 0, 32), -EREMOTEIO);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
	/* A size that is not allowed ends the old one as well. */
	assert_int_equal(fe_vring_num(&kd->fe, 0, 33), -EREMOTEIO);
	assert_true(kit_ring_is(kd, "stopped"));
	assert_int_equal(kd->hooks.release, 1);
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_serve(kit, kd);
	/* Other features as well, if all rings are disabled. */
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features ^ 1ull << 29),
			 -EREMOTEIO);
	assert_int_equal(fe_vring_enable(&kd->fe, 0, false), 0);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features ^ 1ull << 29), 0);
	assert_true(kit_ring_is(kd, "stopped"));
	assert_int_equal(kd->hooks.release, 2);
}

static void without_protocol_features_rings_are_enabled(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct drv_conf conf = { .size = KIT_RING_SIZE };

	kit_bring_up(kit, kd, KIT_CONNECTED, 0);
	kd->fe.features = 1ull << VIRTIO_F_VERSION_1;
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
	kd->region = fe_mem_new(&kd->fe, KIT_MEM);
	kd->buf = fe_alloc(&kd->fe, kd->region, KIT_PAGE, KIT_PAGE);
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	conf.region = kd->region;
	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_serve(kit, kd);
}

static void a_ring_stops_and_goes_on_where_it_was(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;

	for (int packed = 0; packed < 2; packed++) {
		kit_bring_up(kit, kd, KIT_RUNNING, packed ? PACKED : 0);
		before = kit_census();
		/* More than once around the ring. */
		for (int round = 0; round < 5; round++) {
			for (int i = 0; i < 37; i++)
				kit_serve(kit, kd);
			assert_int_equal(drv_stop(&kd->ring), 0);
			assert_true(kit_ring_is(kd, "stopped"));
			/* Its kick and call descriptors were closed. */
			assert_int_equal(kit_census().fds, before.fds - 2);
			assert_int_equal(drv_start(&kd->ring), 0);
		}
		kit_serve(kit, kd);
		kit_bring_down(kit, kd);
	}
}

static void a_ring_that_never_ran_has_the_base_it_was_given(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint32_t base;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_get_vring_base(&kd->fe, 1, &base), 0);
	assert_int_equal(base, 0);
	assert_int_equal(fe_vring_base(&kd->fe, 1, 77), 0);
	assert_int_equal(fe_get_vring_base(&kd->fe, 1, &base), 0);
	assert_int_equal(base, 77);
}

static void stopping_waits_for_what_is_in_flight(void **state)
{
	struct fe_vring_state s = { 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_msg reply;
	void *cookie;
	uint32_t len;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 2);
	assert_int_equal(fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, &s, sizeof(s), NULL, 0),
			 0);
	/* Requests behind it wait too, and are handled in order. */
	assert_int_equal(fe_send(&kd->fe, FE_GET_QUEUE_NUM, FE_VERSION, NULL, 0, NULL, 0), 0);
	kit_no_answer(kit, kd);
	/* What is made available now is not taken any more. */
	kit_submit(kd);
	kit_no_answer(kit, kd);
	assert_int_equal(kd->hooks.nr_held, 2);
	assert_int_equal(kd->hooks.release, 0);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, FE_GET_VRING_BASE);
	memcpy(&s, reply.payload, sizeof(s));
	assert_int_equal(s.num, 2);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 1);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 1);
	assert_int_equal(drv_reap(&kd->ring, &cookie, &len), 0);
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, FE_GET_QUEUE_NUM);
}

static void reset_waits_and_keeps_the_memory(void **state)
{
	static const uint32_t requests[] = { FE_RESET_DEVICE, FE_SET_STATUS, FE_RESET_OWNER };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t zero = 0;
	struct fe_msg reply;
	void *cookie;
	uint32_t len;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint32_t payload_len = requests[i] == FE_SET_STATUS ? 8 : 0;

		kit_hold(kit, kd, 2);
		assert_int_equal(fe_send(&kd->fe, requests[i], FE_VERSION | FE_FLAG_NEED_REPLY,
					 &zero, payload_len, NULL, 0),
				 0);
		kit_no_answer(kit, kd);
		assert_int_equal(kd->hooks.reset, i);
		kd->hooks.hold = false;
		assert_int_equal(fe_recv(&kd->fe, &reply), 0);
		assert_int_equal(reply.hdr.request, requests[i]);
		assert_int_equal(kd->hooks.reset, i + 1);
		assert_int_equal(kd->hooks.mem_removed, 0);
		assert_true(kit_ring_is(kd, "stopped"));
		while (drv_reap(&kd->ring, &cookie, &len) > 0)
			;
		/* The driver begins anew; the memory is still shared. */
		assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
		assert_int_equal(drv_start(&kd->ring), 0);
		kit_serve(kit, kd);
	}
}

/* Ring 1 stops at once, ring 0 when its chain has ended. */
static void an_operation_ends_with_its_last_ring(void **state)
{
	struct drv_conf conf = { .size = 16 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct drv_ring second;
	struct fe_msg reply;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	conf.region = kd->region;
	assert_int_equal(drv_create(&second, &kd->fe, 1, &conf), 0);
	assert_int_equal(drv_start(&second), 0);
	kit_hold(kit, kd, 1);
	assert_int_equal(fe_send(&kd->fe, FE_RESET_DEVICE, FE_VERSION | FE_FLAG_NEED_REPLY, NULL, 0,
				 NULL, 0),
			 0);
	kit_no_answer(kit, kd);
	assert_int_equal(kd->hooks.release, 1);
	assert_int_equal(kd->hooks.reset, 0);
	kd->hooks.hold = false;
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(kd->hooks.release, 2);
	assert_int_equal(kd->hooks.reset, 1);
	drv_destroy(&second);
}

static void hooks_come_with_the_first_and_the_last_ring(void **state)
{
	struct drv_conf conf = { .size = 16 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct drv_ring second;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	conf.region = kd->region;
	assert_int_equal(drv_create(&second, &kd->fe, 1, &conf), 0);
	assert_int_equal(kd->hooks.activate, 1);
	assert_int_equal(drv_start(&second), 0);
	assert_int_equal(kd->hooks.activate, 1);
	assert_int_equal(kd->hooks.setup, 2);
	/* Spread: the least loaded loop got it. */
	assert_int_equal(loop_nr_rings(kit->loops[0]) + loop_nr_rings(kit->loops[1]), 3);
	assert_true(loop_nr_rings(kit->loops[0]) <= 2 && loop_nr_rings(kit->loops[1]) <= 2);
	assert_int_equal(drv_stop(&kd->ring), 0);
	assert_int_equal(kd->hooks.deactivate, 0);
	assert_int_equal(drv_stop(&second), 0);
	assert_int_equal(kd->hooks.deactivate, 1);
	assert_int_equal(kd->hooks.release, 2);
	drv_destroy(&second);
}

static bool was_signalled(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* A device that cannot serve a ring breaks it and says so; others live. */
static void a_ring_that_cannot_be_set_up_breaks_alone(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	place_ring(kit, kd, 0);
	kd->hooks.setup_ret = -ENOMEM;
	assert_int_equal(drv_start(&kd->ring), -EREMOTEIO);
	assert_true(kit_ring_is(kd, "failed"));
	assert_true(was_signalled(kd->ring.err_fd));
	assert_int_equal(fe_sync(&kd->fe), 0);
	kd->hooks.setup_ret = 0;
	kd->hooks.activate_ret = -EBUSY;
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd), -EREMOTEIO);
	assert_true(kit_ring_is(kd, "failed"));
	kd->hooks.activate_ret = 0;
	assert_int_equal(drv_start(&kd->ring), 0);
	assert_true(kit_ring_is(kd, "started"));
	kit_serve(kit, kd);
	kit_bring_down(kit, kd);
	/* For the teardown's balance: two starts failed. */
	assert_int_equal(kd->hooks.setup, kd->hooks.release + 1);
	assert_int_equal(kd->hooks.activate, kd->hooks.deactivate + 1);
	memset(&kd->hooks, 0, sizeof(kd->hooks));
}

/* A write to a file may wait for its disk. One that the front-end itself serves is no
 * matter of its ring alone: vu_aside_test. */
static void descriptors_that_are_files_are_refused(void **state)
{
	static const uint32_t requests[] = { FE_SET_VRING_KICK, FE_SET_VRING_CALL,
					     FE_SET_VRING_ERR };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int file = memfd_create("kick", MFD_CLOEXEC);
	int other = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	place_ring(kit, kd, 0);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		assert_int_equal(fe_vring_fd(&kd->fe, requests[i], 0, file), -EREMOTEIO);
		assert_int_equal(fe_vring_fd(&kd->fe, requests[i], 0, other), -EREMOTEIO);
	}
	assert_int_equal(drv_start(&kd->ring), 0);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		assert_int_equal(fe_vring_fd(&kd->fe, requests[i], 0, file), -EREMOTEIO);
	close(file);
	close(other);
	kit_serve(kit, kd);
}

/* An epoll set that contains itself through the loop's cannot be watched. */
static void a_kick_descriptor_that_cannot_be_watched_is_refused(void **state)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_vring_addr addr;
	int set[6];

	place_ring(kit, kd, 0);
	addr = addresses(kd);
	/* Deeper than the kernel allows. */
	for (size_t i = 0; i < ARRAY_SIZE(set); i++) {
		set[i] = epoll_create1(EPOLL_CLOEXEC);
		if (i)
			epoll_ctl(set[i], EPOLL_CTL_ADD, set[i - 1], &event);
	}
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(said_of(kd, &addr), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, set[4]), -EREMOTEIO);
	for (size_t i = 0; i < ARRAY_SIZE(set); i++)
		close(set[i]);
	assert_true(kit_ring_is(kd, "stopped"));
	assert_int_equal(kd->hooks.setup, kd->hooks.release);
	assert_int_equal(drv_start(&kd->ring), 0);
	kit_serve(kit, kd);
}

/* QEMU enables a ring first and sends its call descriptor afterwards. */
static void a_late_call_descriptor_is_signalled(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, -1), 0);
	drv_notify(&kd->ring, true);
	kit_serve(kit, kd);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, fd), 0);
	assert_true(was_signalled(fd));
	kit_serve(kit, kd);
	assert_true(was_signalled(fd));
	close(fd);
}

static void a_full_call_descriptor_blocks_nobody(void **state)
{
	uint64_t most = UINT64_MAX - 1;
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	int fd = eventfd(0, EFD_CLOEXEC), pipe_fd[2];
	char page[4096] = { 0 };

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	drv_notify(&kd->ring, true);
	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, fd), 0);
	kit_serve(kit, kd);
	close(fd);

	/* User-mode Linux sends pipes. */
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(pipe_fd[1], page, sizeof(page)) > 0)
		;
	assert_int_equal(fcntl(pipe_fd[1], F_SETFL, 0), 0);
	assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, pipe_fd[1]), 0);
	kit_serve(kit, kd);
	/* And may have closed the other end. */
	close(pipe_fd[0]);
	kit_serve(kit, kd);
	close(pipe_fd[1]);
}

static bool is_marked(const uint8_t *log, uint64_t gpa)
{
	uint64_t page = gpa / KIT_PAGE;

	return log[page / 8] >> page % 8 & 1;
}

static void logging_is_switched_while_the_ring_runs(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t desc[2] = { KIT_PAGE, KIT_PAGE };
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct fe_vring_addr addr;
	struct fe_msg reply;
	uint8_t *log;

	assert_int_equal(ftruncate(fd, 2 * KIT_PAGE), 0);
	log = mmap(NULL, KIT_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, KIT_PAGE);
	assert_ptr_not_equal(log, MAP_FAILED);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	addr = addresses(kd);

	assert_int_equal(fe_send(&kd->fe, FE_SET_LOG_BASE, FE_VERSION, desc, 16, &fd, 1), 0);
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	kit_serve(kit, kd);
	assert_false(is_marked(log, kd->buf));

	assert_int_equal(
		fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features | 1ull << FE_F_LOG_ALL), 0);
	addr.flags = FE_VRING_F_LOG;
	addr.log_gpa = kd->ring.device_gpa;
	assert_int_equal(said_of(kd, &addr), 0);
	kit_serve(kit, kd);
	assert_true(is_marked(log, kd->buf));
	assert_true(is_marked(log, kd->ring.device_gpa));

	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
	memset(log, 0, KIT_PAGE);
	kit_serve(kit, kd);
	assert_false(is_marked(log, kd->buf));
	munmap(log, KIT_PAGE);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(kick_may_come_before_the_addresses),
		TEST(a_ring_without_kick_descriptor_is_polled),
		TEST(wrong_addresses_are_refused),
		TEST(size_and_base_are_checked_at_the_start),
		TEST(a_disabled_ring_serves_nothing),
		TEST(a_device_is_told_which_rings_are_active),
		TEST(a_ring_that_runs_disabled_may_be_set_up_anew),
		TEST(without_protocol_features_rings_are_enabled),
		TEST(a_ring_stops_and_goes_on_where_it_was),
		TEST(a_ring_that_never_ran_has_the_base_it_was_given),
		TEST(stopping_waits_for_what_is_in_flight),
		TEST(reset_waits_and_keeps_the_memory),
		TEST(an_operation_ends_with_its_last_ring),
		TEST(hooks_come_with_the_first_and_the_last_ring),
		TEST(a_ring_that_cannot_be_set_up_breaks_alone),
		TEST(descriptors_that_are_files_are_refused),
		TEST(a_kick_descriptor_that_cannot_be_watched_is_refused),
		TEST(a_late_call_descriptor_is_signalled),
		TEST(a_full_call_descriptor_blocks_nobody),
		TEST(logging_is_switched_while_the_ring_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
