/*
 * When a ring notifies its driver, and how it asks to be notified: both
 * mechanisms of both ring kinds. VIRTIO 1.3, "Used Buffer Notification
 * Suppression", "Available Buffer Notification Suppression" and "Driver and
 * Device Event Suppression".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/ringkit.h"

#include <sys/eventfd.h>
#include <unistd.h>

static const uint64_t split_kind = RK_FEATURES, packed_kind = RK_FEATURES | RK_PACKED;

static bool is_packed(void **state)
{
	return *(const uint64_t *)*state & RK_PACKED;
}

static struct ringkit *open_with(void **state, uint32_t size, uint64_t more_features)
{
	return rk_open(*(const uint64_t *)*state | more_features, size, rk_base(is_packed(state)));
}

/* Serve nr chains of one descriptor as one batch; the notifications sent. */
static uint64_t serve(struct ringkit *k, unsigned int nr)
{
	const struct rk_buf buf = { RK_BUF, 8, 0 };
	uint16_t id;
	uint32_t len;

	for (unsigned int i = 0; i < nr; i++) {
		rk_put(k, (uint16_t)i, &buf, 1);
		virtq_push(&k->vq, rk_pop(k).id, 0);
	}
	virtq_flush(&k->vq);
	for (unsigned int i = 0; i < nr; i++)
		assert_true(rk_get(k, &id, &len));
	return rk_drain(k->call_fd);
}

/* The driver's wish, by flags. */
static void driver_flags(struct ringkit *k, bool wants)
{
	if (k->packed)
		k->driver_event->flags =
			cpu_to_le16(wants ? PVIRTQ_EVENT_F_ENABLE : PVIRTQ_EVENT_F_DISABLE);
	else
		k->avail->flags = cpu_to_le16(wants ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT);
}

/* --- to the driver, by flags ------------------------------------------------------ */

static void a_batch_is_one_notification(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	assert_int_equal(serve(k, 1), 1);
	assert_int_equal(serve(k, 16), 1);
	assert_int_equal(serve(k, 3), 1);
	assert_int_equal(counter_read(&k->vq.stats.notifications), 3);
	rk_close(k);
}

static void a_driver_that_wants_none_gets_none(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	driver_flags(k, false);
	assert_int_equal(serve(k, 5), 0);
	driver_flags(k, true);
	assert_int_equal(serve(k, 5), 1);
	driver_flags(k, false);
	assert_int_equal(serve(k, 5), 0);
	rk_close(k);
}

static void a_flush_without_a_push_notifies_nobody(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	virtq_flush(&k->vq);
	assert_int_equal(rk_drain(k->call_fd), 0);
	rk_put_good(k, 0);
	rk_pop(k);
	virtq_flush(&k->vq);
	assert_int_equal(rk_drain(k->call_fd), 0);
	rk_close(k);
}

static void a_ring_without_a_call_descriptor_is_served(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	k->vq.conf.call_fd = -1;
	assert_int_equal(serve(k, 16), 0);
	rk_close(k);
}

static void a_full_call_counter_stops_nobody(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct ringkit *k = open_with(state, 16, 0);

	assert_int_equal(write(k->call_fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(serve(k, 4), full);
	assert_int_equal(serve(k, 4), 1);
	rk_close(k);
}

/* Without EVENT_IDX a driver may only use flags; a stale index says nothing. */
static void an_event_index_that_was_not_negotiated_is_ignored(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	if (k->packed) {
		k->driver_event->desc = cpu_to_le16(9 | PVIRTQ_EVENT_WRAP);
		k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
	} else {
		k->avail->ring[16] = cpu_to_le16(9);
	}
	assert_int_equal(serve(k, 1), 1);
	rk_close(k);
}

/* --- to the driver, by index -------------------------------------------------------- */

/* used_event is passed if it is among the indices old .. now - 1. */
static void split_event_index_is_notified_when_it_is_passed(void **state)
{
	static const struct {
		uint16_t event, old, nr;
		bool notified;
	} cases[] = {
		{ 0, 0, 1, true },
		{ 1, 0, 1, false },
		{ 0, 1, 1, false },
		{ 5, 5, 1, true },
		{ 5, 5, 8, true },
		{ 12, 5, 8, true },
		{ 13, 5, 8, false },
		{ 4, 5, 8, false },
		{ 5, 4, 1, false },
		{ 0xffff, 0xffff, 1, true },
		{ 0xffff, 0xfffe, 1, false },
		{ 0xffff, 0xfffe, 2, true },
		{ 0, 0xfffe, 2, false },
		{ 0, 0xfffe, 3, true },
		{ 1, 0xfffe, 4, true },
		{ 2, 0xfffe, 4, false },
		{ 0xfffd, 0xfffe, 4, false },
		{ 0x7fff, 0x8000, 16, false },
		{ 0x8000, 0x7ff1, 16, true },
		{ 0x8001, 0x7ff1, 16, false },
		/* The driver does not want to hear of anything for a long time. */
		{ 4, 5, 16, false },
		{ 0x8005, 5, 16, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ringkit *k = rk_open(split_kind | RK_EVENT_IDX, 16, cases[i].old);

		k->avail->ring[16] = cpu_to_le16(cases[i].event);
		/* The flag has no meaning any more. */
		k->avail->flags = cpu_to_le16(VIRTQ_AVAIL_F_NO_INTERRUPT);
		if (serve(k, cases[i].nr) != cases[i].notified)
			fail_msg("case %zu: event %u, %u used from %u", i, cases[i].event,
				 cases[i].nr, cases[i].old);
		rk_close(k);
	}
}

/* The event is passed if its descriptor, of its round, was just used. */
static void packed_event_offset_is_notified_when_it_is_passed(void **state)
{
	static const struct {
		uint16_t size, event;
		bool event_wrap;
		uint16_t old;
		bool old_wrap;
		uint16_t nr;
		bool notified;
	} cases[] = {
		{ 16, 0, 1, 0, 1, 1, true },
		{ 16, 1, 1, 0, 1, 1, false },
		{ 16, 0, 1, 1, 1, 1, false },
		{ 16, 7, 1, 0, 1, 8, true },
		{ 16, 8, 1, 0, 1, 8, false },
		{ 16, 0, 0, 0, 1, 8, false },
		{ 16, 7, 0, 0, 1, 8, false },
		{ 16, 15, 1, 15, 1, 1, true },
		{ 16, 15, 1, 0, 1, 16, true },
		{ 16, 0, 0, 0, 1, 16, false },
		{ 16, 0, 0, 15, 1, 1, false },
		{ 16, 0, 0, 15, 1, 2, true },
		{ 16, 3, 0, 12, 1, 8, true },
		{ 16, 4, 0, 12, 1, 8, false },
		{ 16, 12, 1, 12, 1, 8, true },
		{ 16, 11, 1, 12, 1, 8, false },
		{ 16, 12, 0, 12, 1, 8, false },
		{ 16, 15, 1, 12, 1, 8, true },
		{ 16, 3, 1, 12, 0, 8, true },
		{ 16, 3, 0, 12, 0, 8, false },
		{ 16, 12, 0, 12, 0, 8, true },
		{ 16, 0, 0, 0, 0, 1, true },
		{ 16, 0, 1, 0, 0, 1, false },
		{ 7, 6, 1, 5, 1, 4, true },
		{ 7, 0, 0, 5, 1, 4, true },
		{ 7, 1, 0, 5, 1, 4, true },
		{ 7, 2, 0, 5, 1, 4, false },
		{ 7, 4, 1, 5, 1, 4, false },
		{ 7, 6, 0, 6, 1, 1, false },
		{ 1, 0, 1, 0, 1, 1, true },
		{ 1, 0, 0, 0, 1, 1, false },
		{ 1, 0, 0, 0, 0, 1, true },
		{ 32768, 32767, 1, 32767, 1, 1, true },
		{ 32768, 0, 0, 32767, 1, 1, false },
		{ 32768, 0, 0, 32767, 1, 2, true },
		{ 32768, 32766, 1, 32767, 1, 2, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t pos = cases[i].old | (uint32_t)cases[i].old_wrap << 15;
		struct ringkit *k =
			rk_open(packed_kind | RK_EVENT_IDX, cases[i].size, pos | pos << 16);

		k->driver_event->desc =
			cpu_to_le16(cases[i].event | (cases[i].event_wrap ? PVIRTQ_EVENT_WRAP : 0));
		k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
		if (serve(k, cases[i].nr) != cases[i].notified)
			fail_msg("case %zu: event %u, %u used from %u of %u", i, cases[i].event,
				 cases[i].nr, cases[i].old, cases[i].size);
		rk_close(k);
	}
}

/* Chains of several descriptors: the event may be any of them. */
static void packed_event_inside_of_a_chain_is_notified(void **state)
{
	for (uint16_t event = 0; event < 8; event++) {
		struct ringkit *k = rk_open(packed_kind | RK_EVENT_IDX, 8, rk_base(true));

		k->driver_event->desc = cpu_to_le16(event | PVIRTQ_EVENT_WRAP);
		k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
		rk_put_good(k, 0);
		rk_put_good(k, 1);
		rk_pop(k);
		rk_pop(k);
		rk_complete(k, 1, 1);
		assert_int_equal(rk_drain(k->call_fd), event < 3);
		rk_complete(k, 0, 1);
		assert_int_equal(rk_drain(k->call_fd), event >= 3 && event < 6);
		rk_close(k);
	}
}

static void packed_flags_hold_beside_the_event_index(void **state)
{
	struct ringkit *k = open_with(state, 16, RK_EVENT_IDX);

	k->driver_event->desc = cpu_to_le16(12);
	k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_ENABLE);
	assert_int_equal(serve(k, 2), 1);
	k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DISABLE);
	assert_int_equal(serve(k, 2), 0);
	/* Reserved: too many notifications are better than none. */
	k->driver_event->flags = cpu_to_le16(3);
	assert_int_equal(serve(k, 2), 1);
	rk_close(k);
}

/* A driver that moves its event with every batch hears of every batch. */
static void an_event_that_moves_along_is_notified_every_time(void **state)
{
	struct ringkit *k = open_with(state, is_packed(state) ? 5 : 4, RK_EVENT_IDX);

	for (unsigned int i = 0; i < 70000; i++) {
		if (k->packed) {
			k->driver_event->desc =
				cpu_to_le16(k->used_idx | (k->used_wrap ? PVIRTQ_EVENT_WRAP : 0));
			k->driver_event->flags = cpu_to_le16(PVIRTQ_EVENT_F_DESC);
		} else {
			k->avail->ring[4] = cpu_to_le16(k->used_idx);
		}
		assert_int_equal(serve(k, 1 + i % 4), 1);
	}
	rk_close(k);
}

/* --- from the driver ------------------------------------------------------------------- */

static void notifications_are_asked_for_by_flags(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	for (unsigned int i = 0; i < 3; i++) {
		virtq_notify_disable(&k->vq);
		assert_false(k->vq.notify_armed);
		if (k->packed)
			assert_int_equal(le16_to_cpu(k->device_event->flags),
					 PVIRTQ_EVENT_F_DISABLE);
		else
			assert_int_equal(le16_to_cpu(k->used->flags), VIRTQ_USED_F_NO_NOTIFY);
		virtq_notify_enable(&k->vq);
		assert_true(k->vq.notify_armed);
		if (k->packed)
			assert_int_equal(le16_to_cpu(k->device_event->flags),
					 PVIRTQ_EVENT_F_ENABLE);
		else
			assert_int_equal(le16_to_cpu(k->used->flags), 0);
		serve(k, 3);
	}
	rk_close(k);
}

/* The driver kicks when it makes the event's entry available: the next one. */
static void notifications_are_asked_for_by_the_next_index(void **state)
{
	struct ringkit *k = open_with(state, is_packed(state) ? 5 : 4, RK_EVENT_IDX);
	le16 *avail_event = (le16 *)&k->used->ring[4];

	for (unsigned int i = 0; i < 70000; i++) {
		virtq_notify_enable(&k->vq);
		if (k->packed) {
			uint16_t next = k->avail_idx | (k->avail_wrap ? PVIRTQ_EVENT_WRAP : 0);

			assert_int_equal(le16_to_cpu(k->device_event->desc), next);
			assert_int_equal(le16_to_cpu(k->device_event->flags), PVIRTQ_EVENT_F_DESC);
		} else {
			assert_int_equal(le16_to_cpu(*avail_event), k->avail_idx);
			assert_int_equal(le16_to_cpu(k->used->flags), 0);
		}
		virtq_notify_disable(&k->vq);
		serve(k, 1 + i % 4);
	}
	rk_close(k);
}

static void work_is_seen_without_popping_it(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	assert_false(virtq_has_work(&k->vq));
	rk_put_good(k, 0);
	assert_true(virtq_has_work(&k->vq));
	assert_true(virtq_has_work(&k->vq));
	rk_pop(k);
	assert_false(virtq_has_work(&k->vq));
	rk_complete(k, 0, 0);
	assert_false(virtq_has_work(&k->vq));
	rk_close(k);
}

/* What it shares with the driver is not looked at any more, nor changed. */
static void a_broken_ring_writes_no_wish(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	virtq_break(&k->vq, "the test says so");
	virtq_notify_disable(&k->vq);
	if (k->packed)
		assert_int_equal(le16_to_cpu(k->device_event->flags), 0);
	else
		assert_int_equal(le16_to_cpu(k->used->flags), 0);
	rk_close(k);
}

static void a_broken_ring_signals_its_error_descriptor_once(void **state)
{
	struct ringkit *k = open_with(state, 16, 0);

	virtq_break(&k->vq, "the test says so");
	virtq_break(&k->vq, "the test says so again");
	assert_int_equal(rk_drain(k->err_fd), 1);
	rk_close(k);
}

#define BOTH(f) { #f " (split)", f, NULL, NULL, (void *)&split_kind }, PACKED_AS(#f " (packed)", f)
#define SPLIT(f)                                                                                   \
	{                                                                                          \
#f, f, NULL, NULL, (void *)&split_kind                                             \
	}
#define PACKED_AS(name, f)                                                                         \
	{                                                                                          \
		name, f, NULL, NULL, (void *)&packed_kind                                          \
	}
#define PACKED(f) PACKED_AS(#f, f)

static const struct CMUnitTest tests[] = {
	BOTH(a_batch_is_one_notification),
	BOTH(a_driver_that_wants_none_gets_none),
	BOTH(a_flush_without_a_push_notifies_nobody),
	BOTH(a_ring_without_a_call_descriptor_is_served),
	BOTH(a_full_call_counter_stops_nobody),
	BOTH(an_event_index_that_was_not_negotiated_is_ignored),
	SPLIT(split_event_index_is_notified_when_it_is_passed),
	PACKED(packed_event_offset_is_notified_when_it_is_passed),
	PACKED(packed_event_inside_of_a_chain_is_notified),
	PACKED(packed_flags_hold_beside_the_event_index),
	BOTH(an_event_that_moves_along_is_notified_every_time),
	BOTH(notifications_are_asked_for_by_flags),
	BOTH(notifications_are_asked_for_by_the_next_index),
	BOTH(work_is_seen_without_popping_it),
	BOTH(a_broken_ring_writes_no_wish),
	BOTH(a_broken_ring_signals_its_error_descriptor_once),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
