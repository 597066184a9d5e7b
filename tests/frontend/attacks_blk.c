/*
 * A disk as the victim of attack_test, and another one as the witness.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base.h"
#include "tests/frontend/attacks.h"
#include "tests/frontend/blkdrv.h"

static struct blk witness, blk;
static struct blk_req witness_req;

void attack_exec(const char *program, const char *victim, const char *witness_path,
		 const char *const files[2])
{
	const char *scheme = files ? "uring:" : "mem:1M";
	char args[2][256];

	snprintf(args[0], sizeof(args[0]),
		 "--device=name=victim,socket=%s,store=%s%s,queues=%d,iommu=on", victim, scheme,
		 files ? files[0] : "", ATTACK_QUEUES);
	snprintf(args[1], sizeof(args[1]), "--device=name=witness,socket=%s,store=%s%s",
		 witness_path, scheme, files ? files[1] : "");
	execl(program, "ringbolt-blk", args[0], args[1], NULL);
}

static void serves(struct blk_req *req)
{
	static uint8_t out[4096], in[4096];
	static uint32_t seed = 1;

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)fe_random(&seed);
	assert_int_equal(blk_write(req, 0, 8, out, sizeof(out)), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_read(req, 0, 8, in, sizeof(in)), VIRTIO_BLK_S_OK);
	assert_memory_equal(in, out, sizeof(in));
}

int attack_open_witness(const char *path)
{
	const struct blk_conf conf = {
		.path = path, .queues = 1, .queue_size = 64, .mem = 1 << 20
	};
	int err = blk_open(&witness, &conf);

	return err ? err : blk_req_init(&witness_req, &witness, witness.region, 4096);
}

void attack_witness_serves(void)
{
	serves(&witness_req);
}

void attack_close_witness(void)
{
	blk_abandon(&witness);
}

int attack_open(struct victim *v, const char *path, enum attack_stage stage, bool packed)
{
	const struct blk_conf conf = {
		.path = path,
		.queues = ATTACK_QUEUES,
		.queue_size = ATTACK_RING_SIZE,
		.packed = packed,
		.indirect = true,
		.event_idx = true,
		.iommu = stage == ATTACK_IOMMU,
		.mem = 4 << 20,
		.pump = stage == ATTACK_IOMMU ? attack_iommu_pump : NULL,
		.pump_opaque = &blk.fe,
	};
	int err;

	attack_iommu_reset();
	if (stage >= ATTACK_RUNNING) {
		err = blk_open(&blk, &conf);
	} else {
		memset(&blk, 0, sizeof(blk));
		fe_init(&blk.fe);
		blk.region = fe_mem_new(&blk.fe, conf.mem);
		err = fe_connect(&blk.fe, path);
		if (!err && stage == ATTACK_NEGOTIATED)
			err = fe_negotiate(
				&blk.fe, ~(1ull << FE_F_LOG_ALL | 1ull << VIRTIO_F_ACCESS_PLATFORM),
				~(1ull << FE_PROTO_INBAND_NOTIFICATIONS));
	}
	*v = (struct victim){
		.fe = &blk.fe,
		.path = path,
		.region = blk.region,
		.ring = { &blk.ring[0], &blk.ring[1] },
	};
	return err;
}

void attack_abandon(struct victim *v)
{
	blk_abandon(&blk);
}

void attack_victim_serves(const char *path)
{
	static struct blk_req req;
	struct victim v;

	assert_int_equal(attack_open(&v, path, ATTACK_RUNNING, false), 0);
	assert_int_equal(blk_req_init(&req, &blk, blk.region, 4096), 0);
	serves(&req);
	assert_int_equal(blk_close(&blk), 0);
}

void attack_use(struct victim *v)
{
	static uint8_t buf[512];
	static struct blk_req req;

	if (req.blk != &blk || !req.area || fe_ptr(&blk.fe, req.area_gpa, 1) != req.area)
		assert_int_equal(blk_req_init(&req, &blk, blk.region, sizeof(buf)), 0);
	assert_int_equal(blk_read(&req, 0, 0, buf, sizeof(buf)), VIRTIO_BLK_S_OK);
}

/* Some of each kind: of a file they take their time. Those of last time end first. */
void attack_begin(struct victim *v)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH };
	static struct blk_req reqs[18];
	static uint8_t data[4096];
	int err;

	for (unsigned int i = 0; i < ARRAY_SIZE(reqs); i++) {
		struct blk_req *req = &reqs[i];

		if (!v->has_begun)
			assert_int_equal(blk_req_init(req, &blk, blk.region, sizeof(data)), 0);
		while (v->has_begun && !req->done)
			assert_non_null(blk_reap(&blk, 0, true, &err));
		req->type = types[i % ARRAY_SIZE(types)];
		req->sector = i * (sizeof(data) / BLK_SECTOR);
		req->out = req->in = data;
		req->out_len = req->type == VIRTIO_BLK_T_OUT ? sizeof(data) : 0;
		req->in_len = req->type == VIRTIO_BLK_T_IN ? sizeof(data) : 0;
		assert_int_equal(blk_add(req), 0);
	}
	v->has_begun = true;
	assert_int_equal(drv_submit(&blk.ring[0]), 0);
}
