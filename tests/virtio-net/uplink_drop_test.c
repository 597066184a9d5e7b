/*
 * What an uplink cannot send is dropped and counted for what it was: no memory for
 * it, or an offload that nobody can carry out.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <string.h>

#include "tests/virtio-net/swkit.h"
#include "virtio-net/eal.h"
#include "virtio-net/uplink.h"

#define MBUFS_MAX 65536

struct rig {
	struct swkit k;
	struct swkit_port *a;
	struct uplink *up;
	struct rte_mempool *pool;
	bool gone;
};

/* The only one there is. */
static void find_pool(struct rte_mempool *pool, void *opaque)
{
	if (!strncmp(pool->name, "uplink", 6))
		*(struct rte_mempool **)opaque = pool;
}

static void rig_open(struct rig *r)
{
	struct uplink_conf conf = { .name = "up0", .dev = { "net_null0,no-rx=1" }, .nr_dev = 1 };
	char err[SW_ERR_LEN] = "";

	memset(r, 0, sizeof(*r));
	swkit_open(&r->k, NULL);
	r->a = swkit_add(&r->k, "a", NULL);
	sw_port_conf_init(&conf.port);
	conf.ev = r->k.ev;
	conf.loops = r->k.loop;
	conf.nr_loops = SWKIT_LOOPS;
	conf.sw = r->k.sw;
	if (uplink_create(&conf, &r->up, err) < 0)
		fail_msg("%s", err);
	swkit_settle(&r->k);
	rte_mempool_walk(find_pool, &r->pool);
	assert_non_null(r->pool);
}

static void gone(void *opaque)
{
	*(bool *)opaque = true;
}

static void rig_close(struct rig *r)
{
	uplink_destroy(r->up, gone, &r->gone);
	while (!r->gone)
		swkit_settle(&r->k);
	swkit_close(&r->k);
}

static struct sw_port_stats stats(const struct rig *r)
{
	struct sw_port_stats sum;

	sw_port_stats_sum(uplink_port(r->up), &sum);
	return sum;
}

static void a_frame_without_memory_is_dropped(void **state)
{
	static struct rte_mbuf *taken[MBUFS_MAX];
	unsigned int nr = 0;
	struct rig r;

	rig_open(&r);
	while (nr < MBUFS_MAX && (taken[nr] = rte_pktmbuf_alloc(r.pool)))
		nr++;
	assert_in_range(nr, 1, MBUFS_MAX - 1);
	swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, SWKIT_A);
	assert_int_equal(stats(&r).drops[DROP_NO_MEMORY], 1);
	assert_int_equal(stats(&r).out_frames, 0);
	rte_pktmbuf_free_bulk(taken, nr);
	swkit_send_one(&r.k, r.a, SWKIT_BROADCAST, SWKIT_A);
	assert_int_equal(stats(&r).drops[DROP_NO_MEMORY], 1);
	assert_int_equal(stats(&r).out_frames, 1);
	rig_close(&r);
}

static void a_segment_that_cannot_be_cut_is_dropped(void **state)
{
	/* Nothing says how long the pieces are to be. */
	const struct swkit_frame frame = { .dst = SWKIT_BROADCAST,
					   .src = SWKIT_A,
					   .len = 1500,
					   .offload.gso_type = VIRTIO_NET_HDR_GSO_TCPV4 };
	struct rig r;

	rig_open(&r);
	swkit_send(&r.k, r.a, &frame, 1);
	assert_int_equal(stats(&r).drops[DROP_OFFLOAD], 1);
	assert_int_equal(stats(&r).out_frames, 0);
	rig_close(&r);
}

static int start(void **state)
{
	const struct eal_conf conf = { .pages = EAL_PAGES_SMALL };
	char err[EAL_ERR_LEN];

	eal_configure(&conf);
	if (eal_start(err) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	return 0;
}

static int stop(void **state)
{
	eal_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_frame_without_memory_is_dropped),
		cmocka_unit_test(a_segment_that_cannot_be_cut_is_dropped),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
