/*
 * Two devices, two loops, two front-ends on one thread. Linked by the tests of
 * the protocol; contains no test.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

/* --- a device that counts ------------------------------------------------------ */

static struct kit_dev *kit_dev_of(struct vu_dev *dev)
{
	return container_of((struct skel *)vu_dev_priv(dev), struct kit_dev, skel);
}

static int hook_setup(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	struct kit_dev *kd = kit_dev_of(dev);

	if (vq->loop == kd->hooks.bad_loop)
		return -ENOMEM;
	kd->hooks.setup++;
	kd->hooks.vq = vq;
	vq->priv = kd;
	if (kd->hooks.no_poll)
		vq->poll = NULL;
	return kd->hooks.setup_ret;
}

static void hook_release(struct vu_dev *dev, struct virtq *vq, unsigned int index)
{
	kit_dev_of(dev)->hooks.release++;
	assert_int_equal(virtq_inflight(vq), 0);
}

static void hook_active(struct vu_dev *dev, unsigned int index, bool active)
{
	struct kit_dev *kd = kit_dev_of(dev);

	/* Only changes are told. */
	assert_true(index < KIT_QUEUES && kd->hooks.active[index] != active);
	assert_int_equal(vu_dev_ring_is_active(dev, index), active);
	kd->hooks.active[index] = active;
	kd->hooks.nr_active_told++;
}

static int hook_rarp(struct vu_dev *dev, const uint8_t mac[6])
{
	memcpy(kit_dev_of(dev)->hooks.rarp, mac, 6);
	kit_dev_of(dev)->hooks.nr_rarps++;
	return 0;
}

static int hook_mtu(struct vu_dev *dev, uint64_t mtu)
{
	if (mtu > 9000)
		return -ERANGE;
	kit_dev_of(dev)->hooks.mtu = mtu;
	return 0;
}

static void hook_mem_added(struct vu_dev *dev, struct gmem_region *r)
{
	kit_dev_of(dev)->hooks.mem_added++;
}

static void hook_mem_removed(struct vu_dev *dev, struct gmem_region *r)
{
	kit_dev_of(dev)->hooks.mem_removed++;
}

static void hook_reset(struct vu_dev *dev)
{
	kit_dev_of(dev)->hooks.reset++;
}

static int hook_activate(struct vu_dev *dev)
{
	kit_dev_of(dev)->hooks.activate++;
	return kit_dev_of(dev)->hooks.activate_ret;
}

static void hook_deactivate(struct vu_dev *dev)
{
	kit_dev_of(dev)->hooks.deactivate++;
}

/* As the skeleton's, but that it can keep chains as a disk would. */
static unsigned int hook_poll(struct virtq *vq)
{
	struct kit_dev *kd = vq->priv;
	struct virtq_chain c;

	if (!kd->hooks.hold) {
		while (kd->hooks.nr_held)
			virtq_push(vq, kd->hooks.held[--kd->hooks.nr_held], 0);
		return skel_ops.vq_poll(vq);
	}
	while (kd->hooks.nr_held < KIT_RING_SIZE && virtq_pop(vq, &c))
		kd->hooks.held[kd->hooks.nr_held++] = c.id;
	return 0;
}

void kit_conf(struct kit *kit, struct kit_dev *kd, const char *name, struct vu_conf *conf)
{
	static struct vu_ops kinds[2];
	struct vu_ops *ops = &kinds[kd->hooks.network];

	*ops = skel_ops;
	ops->vq_setup = hook_setup;
	ops->vq_release = hook_release;
	ops->vq_active = hook_active;
	ops->mem_added = hook_mem_added;
	ops->mem_removed = hook_mem_removed;
	ops->reset = hook_reset;
	ops->activate = hook_activate;
	ops->deactivate = hook_deactivate;
	ops->vq_poll = hook_poll;
	ops->send_rarp = kd->hooks.network ? hook_rarp : NULL;
	ops->set_mtu = kd->hooks.network ? hook_mtu : NULL;

	skel_conf_init(conf, &kd->skel);
	snprintf(kd->path, sizeof(kd->path), "%s/%s", kit->dir, name);
	conf->ops = ops;
	conf->name = name;
	conf->socket = kd->path;
	conf->queues = KIT_QUEUES;
	conf->ev = kit->ev;
	conf->loops = kit->loops;
	conf->nr_loops = KIT_LOOPS;
}

/* --- life ------------------------------------------------------------------------ */

void kit_pump(void *opaque)
{
	struct kit *kit = opaque;

	for (int i = 0; i < KIT_LOOPS && !kit->threads; i++)
		loop_turn(kit->loops[i]);
	assert_true(evloop_run_once(kit->ev, kit->threads) >= 0);
}

void kit_answer(struct kit *kit)
{
	struct kit_dev *kd = &kit->victim;

	if (kit->answering || kd->fe.receiving || kd->fe.backend_sock < 0)
		return;
	kit->answering = true;
	assert_true(fe_iommu_answer(&kd->fe, 0) >= 0);
	kit->answering = false;
}

static void create(struct kit *kit, struct kit_dev *kd, const char *name)
{
	struct vu_conf conf;

	fe_init(&kd->fe);
	kd->fe.pump = kit_pump;
	kd->fe.pump_opaque = kit;
	kit_conf(kit, kd, name, &conf);
	assert_int_equal(vu_dev_create(&conf, &kd->skel.dev), 0);
}

static void gone(void *opaque)
{
	((struct kit_dev *)opaque)->gone = true;
}

void kit_destroy(struct kit *kit, struct kit_dev *kd)
{
	kd->gone = false;
	vu_dev_destroy(kd->skel.dev, gone, kd);
	kit_until(kit, kd->gone);
	kd->skel.dev = NULL;
}

static int setup(void **state, bool threads)
{
	struct loop_conf conf = { .mode = LOOP_ADAPTIVE, .cpu = -1, .manual = !threads };
	struct kit *kit = calloc(1, sizeof(*kit));

	signal(SIGPIPE, SIG_IGN);
	/* The lines about bad messages are many, and meant. */
	log_set_level(getenv("VUKIT_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	assert_non_null(kit);
	kit->threads = threads;
	strcpy(kit->dir, "/tmp/vukit.XXXXXX");
	assert_non_null(mkdtemp(kit->dir));
	kit->ev = evloop_create();
	assert_non_null(kit->ev);
	conf.ev = kit->ev;
	for (conf.index = 0; conf.index < KIT_LOOPS; conf.index++)
		assert_int_equal(loop_create(&conf, &kit->loops[conf.index]), 0);
	create(kit, &kit->victim, "victim");
	create(kit, &kit->witness, "witness");
	kit_bring_up(kit, &kit->witness, KIT_RUNNING, 0);
	kit_serve(kit, &kit->witness);
	*state = kit;
	return 0;
}

int kit_setup(void **state)
{
	return setup(state, false);
}

int kit_setup_threads(void **state)
{
	return setup(state, true);
}

static void end(struct kit *kit, struct kit_dev *kd)
{
	if (kd->has_ring)
		drv_destroy(&kd->ring);
	fe_close(&kd->fe);
	if (kd->skel.dev)
		kit_destroy(kit, kd);
	assert_int_equal(kd->hooks.mem_added, kd->hooks.mem_removed);
	assert_true(kd->hooks.setup_ret || kd->hooks.setup == kd->hooks.release);
	for (int i = 0; i < KIT_QUEUES; i++)
		assert_false(kd->hooks.active[i]);
	assert_true(kd->hooks.activate_ret || kd->hooks.activate == kd->hooks.deactivate);
}

int kit_teardown(void **state)
{
	struct kit *kit = *state;

	end(kit, &kit->victim);
	end(kit, &kit->witness);
	for (int i = 0; i < KIT_LOOPS; i++)
		loop_destroy(kit->loops[i]);
	evloop_destroy(kit->ev);
	/* The devices removed their sockets, or this fails. */
	assert_int_equal(rmdir(kit->dir), 0);
	free(kit);
	return 0;
}

/* --- front-ends -------------------------------------------------------------------- */

void kit_bring_up(struct kit *kit, struct kit_dev *kd, enum kit_stage stage, uint64_t features)
{
	struct drv_conf conf = { .size = KIT_RING_SIZE, .indirect = true };

	assert_int_equal(fe_connect(&kd->fe, kd->path), 0);
	kit_until(kit, vu_dev_is_connected(kd->skel.dev));
	if (stage < KIT_NEGOTIATED)
		return;
	assert_int_equal(fe_negotiate(&kd->fe, features | 1ull << VIRTIO_F_VERSION_1,
				      KIT_PROTO & ~kd->no_proto),
			 0);
	if (stage < KIT_MEMORY)
		return;
	kd->region = fe_mem_new(&kd->fe, KIT_MEM);
	assert_true(kd->region >= 0);
	kd->buf = fe_alloc(&kd->fe, kd->region, KIT_PAGE, KIT_PAGE);
	assert_int_not_equal(kd->buf, 0);
	assert_int_equal(fe_mem_share(&kd->fe), 0);
	if (stage < KIT_RUNNING)
		return;
	conf.region = kd->region;
	assert_int_equal(drv_create(&kd->ring, &kd->fe, 0, &conf), 0);
	kd->has_ring = true;
	assert_int_equal(drv_start(&kd->ring), 0);
}

void kit_bring_down(struct kit *kit, struct kit_dev *kd)
{
	if (kd->has_ring)
		drv_destroy(&kd->ring);
	kd->has_ring = false;
	fe_close(&kd->fe);
	fe_init(&kd->fe);
	kd->fe.pump = kit_pump;
	kd->fe.pump_opaque = kit;
	kit_until(kit, kit_is(kd, "waiting"));
}

void kit_submit(struct kit_dev *kd)
{
	struct drv_buf bufs[2] = { { kd->buf, 8 }, { kd->buf + 8, 8 } };

	assert_true(drv_add(&kd->ring, bufs, 1, 1, kd) >= 0);
	assert_int_equal(drv_submit(&kd->ring), 0);
}

void kit_serve(struct kit *kit, struct kit_dev *kd)
{
	static uint64_t next = 0x1234567800000000;
	uint64_t *words = fe_ptr(&kd->fe, kd->buf, 16);
	void *cookie = NULL;
	uint32_t len = 0;

	assert_non_null(words);
	words[0] = ++next;
	words[1] = 0;
	kit_submit(kd);
	assert_int_equal(drv_wait(&kd->ring, &cookie, &len), 1);
	assert_ptr_equal(cookie, kd);
	assert_int_equal(len, 8);
	assert_int_equal(words[1], next);
}

const char *kit_state(struct kit_dev *kd)
{
	static char state[32];
	json_t *obj = vu_dev_status(kd->skel.dev, NULL);

	snprintf(state, sizeof(state), "%s", json_string_value(json_object_get(obj, "connection")));
	json_decref(obj);
	return state;
}

bool kit_is(struct kit_dev *kd, const char *state)
{
	return !strcmp(kit_state(kd), state);
}

bool kit_ring_is(struct kit_dev *kd, const char *state)
{
	json_t *obj = vu_dev_status(kd->skel.dev, NULL);
	json_t *ring = json_array_get(json_object_get(obj, "rings"), 0);
	const char *is = json_string_value(json_object_get(ring, "state"));
	bool same = is && !strcmp(is, state);

	json_decref(obj);
	return same;
}

void kit_no_answer(struct kit *kit, struct kit_dev *kd)
{
	struct pollfd pfd = { .fd = kd->fe.sock, .events = POLLIN };

	for (int i = 0; i < 20; i++)
		kit_pump(kit);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	kit_serve(kit, &kit->witness);
}

void kit_hold(struct kit *kit, struct kit_dev *kd, unsigned int nr)
{
	kd->hooks.hold = true;
	for (unsigned int i = 0; i < nr; i++)
		kit_submit(kd);
	kit_until(kit, kd->hooks.nr_held == nr);
}

/* --- behind a virtual IOMMU -------------------------------------------------------- */

struct kit_guest kit_guest;

static uint32_t perm_of(void *opaque, uint64_t gpa)
{
	if (gpa == kit_guest.refused)
		return 0;
	return gpa == kit_guest.read_only ? KIT_R : KIT_RW;
}

void kit_guest_pump(void *opaque)
{
	kit_pump(kit_guest.kit);
	if (!kit_guest.silent)
		kit_answer(kit_guest.kit);
}

struct kit_dev *kit_guest_up(struct kit *kit, uint64_t features)
{
	struct kit_dev *kd = &kit->victim;

	kd->fe.pump = kit_guest_pump;
	kd->fe.iommu_perm = perm_of;
	kit_guest = (struct kit_guest){ .kit = kit, .silent = kit_guest.silent };
	kit_bring_up(kit, kd, KIT_RUNNING, features | KIT_IOMMU);
	assert_true(fe_has(&kd->fe, VIRTIO_F_ACCESS_PLATFORM));
	return kd;
}

int kit_guest_setup(void **state)
{
	kit_guest.silent = false;
	return kit_setup(state);
}

/* --- what must not leak ----------------------------------------------------------- */

struct kit_census kit_census(void)
{
	struct kit_census c = { 0 };
	char line[512];
	FILE *maps;
	DIR *dir;

	dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir))
		c.fds++;
	closedir(dir);
	maps = fopen("/proc/self/maps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		c.maps += strstr(line, "/memfd:") != NULL;
	fclose(maps);
	return c;
}

void kit_assert_census(struct kit_census before)
{
	struct kit_census now = kit_census();

	assert_int_equal(now.fds, before.fds);
	assert_int_equal(now.maps, before.maps);
}
