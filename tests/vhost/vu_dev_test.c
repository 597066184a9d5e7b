/*
 * The life of a device and its connection: front-ends that vanish at each step,
 * that come back, that wait; devices that are destroyed at any time; all kinds
 * of sockets; the back-end's own channel.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/fd.h"

/* --- front-ends that vanish -------------------------------------------------------- */

/* What a front-end does from connecting to stopping a ring; how many to do. */
static void first_steps(struct kit *kit, struct kit_dev *kd, unsigned int steps)
{
	struct drv_conf conf = { .size = KIT_RING_SIZE };
	struct fe_vring_addr addr;
	uint64_t v;

#define STEP(action)                                                                               \
	do {                                                                                       \
		if (!steps--)                                                                      \
			return;                                                                    \
		action;                                                                            \
	} while (0)
	STEP(kit_bring_up(kit, kd, KIT_CONNECTED, 0));
	STEP(fe_get_u64(&kd->fe, FE_GET_FEATURES, &v));
	STEP(fe_get_u64(&kd->fe, FE_GET_PROTOCOL_FEATURES, &v));
	STEP(fe_negotiate(&kd->fe, 1ull << VIRTIO_F_VERSION_1, KIT_PROTO));
	STEP(fe_get_u64(&kd->fe, FE_GET_QUEUE_NUM, &v));
	STEP(fe_set_u64(&kd->fe, FE_SET_STATUS, 3));
	kd->region = fe_mem_new(&kd->fe, KIT_MEM);
	kd->buf = fe_alloc(&kd->fe, kd->region, KIT_PAGE, KIT_PAGE);
	conf.region = kd->region;
	STEP(fe_mem_share(&kd->fe));
	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
	addr = (struct fe_vring_addr){
		.desc_uva = fe_uva(&kd->fe, kd->ring.desc_gpa),
		.avail_uva = fe_uva(&kd->fe, kd->ring.driver_gpa),
		.used_uva = fe_uva(&kd->fe, kd->ring.device_gpa),
	};
	STEP(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE));
	STEP(fe_vring_base(&kd->fe, 0, 0));
	STEP(fe_vring_addr(&kd->fe, &addr));
	STEP(fe_vring_fd(&kd->fe, FE_SET_VRING_ERR, 0, kd->ring.err_fd));
	STEP(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, 0, kd->ring.call_fd));
	STEP(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, 0, kd->ring.kick_fd));
	STEP(fe_vring_enable(&kd->fe, 0, true));
	STEP(kit_submit(kd));
	STEP(kit_pump(kit));
	STEP(drv_stop(&kd->ring));
#undef STEP
}

#define NR_STEPS 17

static void a_front_end_may_vanish_at_each_step(void **state)
{
	struct kit_census before = kit_census();
	struct kit *kit = *state;

	for (unsigned int steps = 1; steps <= NR_STEPS; steps++) {
		first_steps(kit, &kit->victim, steps);
		kit_bring_down(kit, &kit->victim);
		kit_serve(kit, &kit->witness);
		kit_assert_census(before);
		assert_int_equal(kit->victim.hooks.mem_added, kit->victim.hooks.mem_removed);
		assert_int_equal(kit->victim.hooks.reset, steps);
	}
	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	kit_serve(kit, &kit->victim);
}

static void a_device_may_be_destroyed_at_each_step(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before = kit_census();
	struct vu_conf conf;

	for (unsigned int steps = 0; steps <= NR_STEPS; steps++) {
		first_steps(kit, kd, steps);
		kit_destroy(kit, kd);
		if (kd->has_ring)
			drv_destroy(&kd->ring);
		kd->has_ring = false;
		fe_close(&kd->fe);
		kit_serve(kit, &kit->witness);
		assert_int_equal(access(kd->path, F_OK), -1);
		/* Its listening socket; and nothing else is missing. */
		before.fds--;
		kit_assert_census(before);
		before.fds++;
		kit_conf(kit, kd, "victim", &conf);
		assert_int_equal(vu_dev_create(&conf, &kd->skel.dev), 0);
	}
}

static void io_in_flight_ends_before_the_next_front_end(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe next;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 2);
	close(kd->fe.sock);
	kd->fe.sock = -1;
	kit_until(kit, kit_is(kd, "closing"));
	/* It connects, but is not served yet. */
	fe_init(&next);
	next.pump = kit_pump;
	next.pump_opaque = kit;
	assert_int_equal(fe_connect(&next, kd->path), 0);
	for (int i = 0; i < 20; i++)
		kit_pump(kit);
	assert_true(kit_is(kd, "closing"));
	assert_int_equal(kd->hooks.mem_removed, 0);
	assert_int_equal(kd->hooks.reset, 0);
	kit_serve(kit, &kit->witness);
	kd->hooks.hold = false;
	assert_int_equal(fe_sync(&next), 0);
	assert_int_equal(kd->hooks.mem_removed, 1);
	assert_int_equal(kd->hooks.reset, 1);
	fe_close(&next);
}

static void destroyed(void *opaque)
{
	((struct kit_dev *)opaque)->gone = true;
}

static void destruction_waits_for_io_in_flight(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 2);
	kd->gone = false;
	vu_dev_destroy(kd->skel.dev, destroyed, kd);
	kit_no_answer(kit, kd);
	assert_false(kd->gone);
	kd->hooks.hold = false;
	kit_until(kit, kd->gone);
	kd->skel.dev = NULL;
	assert_true(fe_hung_up(&kd->fe));
}

static void destruction_waits_for_a_request_in_progress(void **state)
{
	struct fe_vring_state s = { 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 1);
	assert_int_equal(fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, &s, sizeof(s), NULL, 0),
			 0);
	kit_no_answer(kit, kd);
	kd->gone = false;
	vu_dev_destroy(kd->skel.dev, destroyed, kd);
	kit_no_answer(kit, kd);
	assert_false(kd->gone);
	kd->hooks.hold = false;
	kit_until(kit, kd->gone);
	kd->skel.dev = NULL;
}

static void a_front_end_may_vanish_while_its_request_is_in_progress(void **state)
{
	struct fe_vring_state s = { 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_hold(kit, kd, 1);
	assert_int_equal(fe_send(&kd->fe, FE_GET_VRING_BASE, FE_VERSION, &s, sizeof(s), NULL, 0),
			 0);
	kit_no_answer(kit, kd);
	close(kd->fe.sock);
	kd->fe.sock = -1;
	for (int i = 0; i < 10; i++)
		kit_pump(kit);
	kit_serve(kit, &kit->witness);
	kd->hooks.hold = false;
	kit_bring_down(kit, kd);
}

static void one_front_end_is_served_at_a_time(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe second;
	struct fe_msg msg;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	fe_init(&second);
	second.pump = kit_pump;
	second.pump_opaque = kit;
	second.timeout_ms = 50;
	assert_int_equal(fe_connect(&second, kd->path), 0);
	assert_int_equal(fe_sync(&second), -ETIMEDOUT);
	kit_serve(kit, kd);
	/* The first goes, and the second's request is answered. */
	fe_disconnect(&kd->fe);
	second.timeout_ms = FE_TIMEOUT_MS;
	assert_int_equal(fe_recv(&second, &msg), 0);
	fe_close(&second);
}

/* --- sockets ------------------------------------------------------------------------ */

/* A third device, of this configuration, as a test's own. */
struct third {
	struct kit_dev kd;
	struct vu_conf conf;
};

static void third_init(struct kit *kit, struct third *t)
{
	memset(t, 0, sizeof(*t));
	fe_init(&t->kd.fe);
	t->kd.fe.pump = kit_pump;
	t->kd.fe.pump_opaque = kit;
	kit_conf(kit, &t->kd, "third", &t->conf);
}

static void serve_as_third(struct kit *kit, struct third *t, int sock)
{
	struct drv_conf conf = { .size = KIT_RING_SIZE };

	fe_attach(&t->kd.fe, sock);
	assert_int_equal(fe_negotiate(&t->kd.fe, 1ull << VIRTIO_F_VERSION_1, KIT_PROTO), 0);
	t->kd.region = fe_mem_new(&t->kd.fe, KIT_MEM);
	t->kd.buf = fe_alloc(&t->kd.fe, t->kd.region, KIT_PAGE, KIT_PAGE);
	assert_int_equal(fe_mem_share(&t->kd.fe), 0);
	conf.region = t->kd.region;
	assert_int_equal(drv_create(&t->kd.ring, &t->kd.fe, 0, &conf), 0);
	assert_int_equal(drv_start(&t->kd.ring), 0);
	kit_serve(kit, &t->kd);
	drv_destroy(&t->kd.ring);
	fe_close(&t->kd.fe);
}

static void a_connected_socket_is_served_until_it_ends(void **state)
{
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct third t;
	int pair[2];

	third_init(kit, &t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	t.conf.socket = NULL;
	t.conf.fd = pair[0];
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), 0);
	assert_true(vu_dev_is_connected(t.kd.skel.dev));
	serve_as_third(kit, &t, pair[1]);
	kit_until(kit, kit_is(&t.kd, "ended"));
	kit_destroy(kit, &t.kd);
	kit_assert_census(before);
}

static void a_listening_socket_may_be_passed_in(void **state)
{
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct third t;
	int fd;

	third_init(kit, &t);
	fd = unix_listen(t.kd.path, 1);
	assert_true(fd >= 0);
	t.conf.socket = NULL;
	t.conf.fd = fd;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), 0);
	for (int i = 0; i < 2; i++) {
		int sock = unix_connect(t.kd.path);

		assert_true(sock >= 0);
		serve_as_third(kit, &t, sock);
		kit_until(kit, kit_is(&t.kd, "waiting"));
	}
	kit_destroy(kit, &t.kd);
	/* Not ours to remove. */
	assert_int_equal(unlink(t.kd.path), 0);
	kit_assert_census(before);
}

static void what_is_no_socket_is_refused(void **state)
{
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct third t;

	third_init(kit, &t);
	t.conf.socket = NULL;
	t.conf.fd = eventfd(0, 0);
	assert_true(vu_dev_create(&t.conf, &t.kd.skel.dev) < 0);
	kit_assert_census(before);
}

static void connect_mode_tries_for_ever(void **state)
{
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct third t;

	third_init(kit, &t);
	t.conf.mode = VU_CONNECT;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), 0);
	assert_true(kit_is(&t.kd, "waiting"));
	for (int i = 0; i < 2; i++) {
		int fd = unix_listen(t.kd.path, 1), sock = -1;

		assert_true(fd >= 0);
		/* However long it takes. */
		while (sock < 0) {
			assert_true(evloop_run_once(kit->ev, 10) >= 0);
			sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		}
		serve_as_third(kit, &t, sock);
		unix_unlink(t.kd.path, fd);
		close(fd);
		kit_until(kit, kit_is(&t.kd, "waiting"));
	}
	kit_destroy(kit, &t.kd);
	kit_assert_census(before);
}

static void a_process_out_of_descriptors_accepts_later(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), next;
	struct rlimit limit, full;
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	strcpy(sun.sun_path, kd->path);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	next = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	close(next);
	full = limit;
	full.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
	assert_int_equal(connect(sock, (struct sockaddr *)&sun, sizeof(sun)), 0);
	for (int i = 0; i < 100; i++)
		kit_pump(kit);
	assert_false(vu_dev_is_connected(kd->skel.dev));
	kit_serve(kit, &kit->witness);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fe_attach(&kd->fe, sock);
	assert_int_equal(fe_sync(&kd->fe), 0);
}

static void paths_are_checked(void **state)
{
	char too_long[200] = "/tmp/";
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct third t;
	struct stat st;
	int fd;

	third_init(kit, &t);
	/* A live server's. */
	t.conf.socket = kit->victim.path;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), -EADDRINUSE);
	/* Not a socket: never deleted. */
	t.conf.socket = t.kd.path;
	fd = open(t.kd.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), -EEXIST);
	assert_int_equal(stat(t.kd.path, &st), 0);
	unlink(t.kd.path);
	/* A stale one is replaced. */
	fd = unix_listen(t.kd.path, 1);
	close(fd);
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), 0);
	kit_destroy(kit, &t.kd);

	memset(too_long + 5, 'x', sizeof(too_long) - 6);
	t.conf.socket = too_long;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), -ENAMETOOLONG);
	t.conf.mode = VU_CONNECT;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), -ENAMETOOLONG);
	t.conf.socket = t.kd.path;
	t.conf.queues = VU_QUEUES_MAX + 1;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), -EINVAL);
	/* Who asked whether the victim lives was a short connection to it. */
	kit_until(kit, kit_is(&kit->victim, "waiting"));
	kit_assert_census(before);
}

/* --- the back-end's channel ------------------------------------------------------------ */

static int config_changes(struct kit_dev *kd)
{
	struct fe_msg msg;
	int nr = 0;

	while (!fe_backend_recv(&kd->fe, &msg, 20)) {
		assert_int_equal(msg.hdr.request, 2);
		assert_int_equal(msg.hdr.flags, FE_VERSION);
		assert_int_equal(msg.hdr.size, 0);
		nr++;
	}
	return nr;
}

static void a_config_change_is_announced_while_a_ring_runs(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	vu_dev_config_changed(kd->skel.dev);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	assert_int_equal(config_changes(kd), 0);
	vu_dev_config_changed(kd->skel.dev);
	assert_int_equal(config_changes(kd), 1);
	/* Suspended: it is told when the ring starts again. */
	assert_int_equal(drv_stop(&kd->ring), 0);
	vu_dev_config_changed(kd->skel.dev);
	vu_dev_config_changed(kd->skel.dev);
	assert_int_equal(config_changes(kd), 0);
	assert_int_equal(drv_start(&kd->ring), 0);
	assert_int_equal(config_changes(kd), 1);
}

static void the_channel_may_be_full_or_talk_back_or_close(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	/* A reply that nobody waits for: version 1, REPLY, eight bytes. */
	const uint32_t reply[5] = { 1, 1 | 1 << 2, 8, 0, 0 };
	struct kit_census with;
	struct fe_msg msg;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < 5000; i++)
		vu_dev_config_changed(kd->skel.dev);
	kit_serve(kit, &kit->witness);
	/* Full; when there is room again, the last change is told. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(fe_backend_recv(&kd->fe, &msg, 1000), 0);
	assert_true(config_changes(kd) > 0);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(send(kd->fe.backend_sock, reply, sizeof(reply), 0), sizeof(reply));
		kit_pump(kit);
	}
	vu_dev_config_changed(kd->skel.dev);
	assert_int_equal(config_changes(kd), 1);

	with = kit_census();
	close(kd->fe.backend_sock);
	kd->fe.backend_sock = -1;
	kit_until(kit, kit_census().fds == with.fds - 2);
	vu_dev_config_changed(kd->skel.dev);
	kit_serve(kit, kd);
}

static void a_channel_that_talks_nonsense_is_closed_and_nothing_else(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	char noise[100] = "anything";
	struct kit_census with;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	with = kit_census();
	assert_int_equal(send(kd->fe.backend_sock, noise, sizeof(noise), 0), sizeof(noise));
	kit_until(kit, kit_census().fds == with.fds - 1);
	vu_dev_config_changed(kd->skel.dev);
	kit_serve(kit, kd);
}

/* --- status ------------------------------------------------------------------------------ */

static const char *name_bit(unsigned int bit)
{
	return bit == 5 ? "FIVE" : NULL;
}

static bool has_string(json_t *list, const char *string)
{
	json_t *value;
	size_t i;

	json_array_foreach(list, i,
			   value) if (!strcmp(json_string_value(value), string)) return true;
	return false;
}

static void status_tells_what_is_so(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	json_t *obj, *ring;

	kit_bring_up(kit, kd, KIT_RUNNING, 1ull << VIRTIO_F_RING_PACKED);
	kit_serve(kit, kd);
	obj = vu_dev_status(kd->skel.dev, name_bit);
	assert_string_equal(json_string_value(json_object_get(obj, "name")), "victim");
	assert_string_equal(json_string_value(json_object_get(obj, "connection")), "up");
	assert_true(has_string(json_object_get(obj, "features"), "RING_PACKED"));
	assert_true(has_string(json_object_get(obj, "features"), "VERSION_1"));
	assert_true(has_string(json_object_get(obj, "protocol-features"), "CONFIGURE_MEM_SLOTS"));
	assert_int_equal(json_array_size(json_object_get(obj, "memory")), 1);
	assert_int_equal(json_array_size(json_object_get(obj, "rings")), KIT_QUEUES);
	ring = json_array_get(json_object_get(obj, "rings"), 0);
	assert_int_equal(json_integer_value(json_object_get(ring, "chains")), 1);
	assert_int_equal(json_integer_value(json_object_get(ring, "size")), KIT_RING_SIZE);
	json_decref(obj);

	obj = loop_status(kit->loops[1]);
	assert_string_equal(json_string_value(json_object_get(obj, "name")), "loop1");
	assert_true(json_is_real(json_object_get(obj, "busy")));
	json_decref(obj);
	assert_int_equal(vu_dev_features(kd->skel.dev),
			 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_VERSION_1);
}

static void the_operator_may_mask_features(void **state)
{
	struct kit *kit = *state;
	struct third t;

	third_init(kit, &t);
	/* The protocol's own bits are in no mask of a driver's. */
	t.conf.feature_mask = 1ull << VIRTIO_F_VERSION_1;
	assert_int_equal(vu_dev_create(&t.conf, &t.kd.skel.dev), 0);
	assert_int_equal(fe_connect(&t.kd.fe, t.kd.path), 0);
	assert_int_equal(fe_negotiate(&t.kd.fe, ~0ull, KIT_PROTO), 0);
	assert_int_equal(t.kd.fe.features, 1ull << VIRTIO_F_VERSION_1 | 1ull << FE_F_LOG_ALL |
						   1ull << FE_F_PROTOCOL_FEATURES);
	assert_true(fe_has_proto(&t.kd.fe, FE_PROTO_MQ));
	fe_close(&t.kd.fe);
	kit_until(kit, kit_is(&t.kd, "waiting"));
	kit_destroy(kit, &t.kd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_front_end_may_vanish_at_each_step),
		TEST(a_device_may_be_destroyed_at_each_step),
		TEST(io_in_flight_ends_before_the_next_front_end),
		TEST(destruction_waits_for_io_in_flight),
		TEST(destruction_waits_for_a_request_in_progress),
		TEST(a_front_end_may_vanish_while_its_request_is_in_progress),
		TEST(one_front_end_is_served_at_a_time),
		TEST(a_connected_socket_is_served_until_it_ends),
		TEST(a_listening_socket_may_be_passed_in),
		TEST(what_is_no_socket_is_refused),
		TEST(connect_mode_tries_for_ever),
		TEST(a_process_out_of_descriptors_accepts_later),
		TEST(paths_are_checked),
		TEST(a_config_change_is_announced_while_a_ring_runs),
		TEST(the_channel_may_be_full_or_talk_back_or_close),
		TEST(a_channel_that_talks_nonsense_is_closed_and_nothing_else),
		TEST(status_tells_what_is_so),
		TEST(the_operator_may_mask_features),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
