/*
 * A network port as the victim of attack_test, two more as the witness, and
 * malformed chains and headers. After each attack on the transmit
 * ring the device must have answered the chain, or have broken the ring and said so
 * on the error descriptor. Receive buffers are attacked with frames on their way.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#undef NDEBUG
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/atomic.h"
#include "core/base.h"
#include "tests/frontend/attacks.h"
#include "tests/frontend/netdrv.h"

#define FRAME_LEN 60
#define IOMMU (1ull << VIRTIO_F_ACCESS_PLATFORM)
#define RX 0
#define TX 1
#define NEXT VIRTQ_DESC_F_NEXT
#define WRITE VIRTQ_DESC_F_WRITE
#define INDIRECT VIRTQ_DESC_F_INDIRECT

static struct net witness[2], net;
static char second_path[80];

/* --- devices -------------------------------------------------------------------- */

void attack_exec(const char *program, const char *victim, const char *witness_path,
		 const char *const files[2])
{
	const char *path[] = { victim, witness_path, second_path };
	char arg[3][160];

	snprintf(second_path, sizeof(second_path), "%s2", witness_path);
	for (unsigned int i = 0; i < ARRAY_SIZE(path); i++)
		snprintf(arg[i], sizeof(arg[i]), "--port=socket=%s,ctrl-vq=off%s", path[i],
			 i ? "" : ",iommu=on");
	execl(program, "ringbolt-net", arg[0], arg[1], arg[2], NULL);
}

/* To everybody, with a number to know it by. */
static void make_frame(uint8_t *frame, uint8_t from, uint32_t number)
{
	memset(frame, 0xff, 6);
	memcpy(frame + 6, (const uint8_t[]){ 2, 0, 0, 0, 0, from }, 6);
	memcpy(frame + 12, (const uint8_t[]){ 0x88, 0xb5 }, 2); /* local experiments */
	memset(frame + 14, 0, FRAME_LEN - 14);
	memcpy(frame + 14, &number, sizeof(number));
}

/* A frame from one port reaches another one, whatever else arrives there. */
static void passes(struct net *from, struct net *to)
{
	static struct net_frame got;
	static uint32_t number;
	uint8_t frame[FRAME_LEN];
	unsigned int tries = 0;

	make_frame(frame, (uint8_t)(from - witness + 1), ++number);
	do {
		/* A full ring loses some. */
		while (net_recv(to, 0, &got) > 0)
			;
		assert_int_equal(net_send(from, 0, NULL, frame, sizeof(frame)), 0);
		assert_int_equal(net_drain(from, 0), 0);
		assert_true(tries++ < 100);
		while (net_recv_wait(to, 0, &got) > 0 && memcmp(got.data, frame, FRAME_LEN) != 0)
			;
	} while (memcmp(got.data, frame, FRAME_LEN) != 0);
}

static int open_port(struct net *n, const char *path)
{
	const struct net_conf conf = { .path = path, .no_ctrl = true };

	return net_open(n, &conf);
}

int attack_open_witness(const char *path)
{
	int err;

	snprintf(second_path, sizeof(second_path), "%s2", path);
	err = open_port(&witness[0], path);
	return err ? err : open_port(&witness[1], second_path);
}

void attack_witness_serves(void)
{
	passes(&witness[0], &witness[1]);
	passes(&witness[1], &witness[0]);
}

void attack_close_witness(void)
{
	net_abandon(&witness[0]);
	net_abandon(&witness[1]);
	unlink(second_path);
}

static int greet(const char *path, enum attack_stage stage)
{
	int err;

	memset(&net, 0, sizeof(net));
	fe_init(&net.fe);
	net.region = fe_mem_new(&net.fe, 4 << 20);
	err = fe_connect(&net.fe, path);
	if (!err && stage == ATTACK_NEGOTIATED)
		err = fe_negotiate(&net.fe,
				   ~(1ull << FE_F_LOG_ALL | 1ull << VIRTIO_F_ACCESS_PLATFORM),
				   ~(1ull << FE_PROTO_INBAND_NOTIFICATIONS));
	return err;
}

int attack_open(struct victim *v, const char *path, enum attack_stage stage, bool packed)
{
	const struct net_conf conf = {
		.path = path,
		.ring_size = ATTACK_RING_SIZE,
		.features = (stage == ATTACK_IOMMU ? NET_FEATURES_ALL : NET_FEATURES_ALL & ~IOMMU) |
			    (packed ? 1ull << VIRTIO_F_RING_PACKED : 0),
		.indirect = true,
		.no_ctrl = true,
		.pump = stage == ATTACK_IOMMU ? attack_iommu_pump : NULL,
		.pump_opaque = &net.fe,
	};
	int err;

	attack_iommu_reset();
	err = stage >= ATTACK_RUNNING ? net_open(&net, &conf) : greet(path, stage);
	*v = (struct victim){
		.fe = &net.fe,
		.path = path,
		.region = net.region,
		.ring = { &net.rx[0].ring, &net.tx[0].ring },
		.used = TX,
	};
	return err;
}

void attack_abandon(struct victim *v)
{
	net_abandon(&net);
}

void attack_victim_serves(const char *path)
{
	assert_int_equal(open_port(&net, path), 0);
	passes(&witness[0], &net);
	passes(&net, &witness[1]);
	assert_int_equal(net_close(&net), 0);
}

void attack_use(struct victim *v)
{
	attack_begin(v);
	assert_int_equal(net_drain(&net, 0), 0);
}

void attack_begin(struct victim *v)
{
	uint8_t frame[FRAME_LEN];

	make_frame(frame, 9, 0);
	assert_int_equal(net_send(&net, 0, NULL, frame, sizeof(frame)), 0);
}

/* --- chains to be sent ---------------------------------------------------------- */

/* Guest memory with a header of zeros and a frame behind it. */
static uint64_t prepare(struct victim *v)
{
	uint64_t gpa = fe_alloc(v->fe, v->region, 65536, 4096);

	assert_true(gpa);
	make_frame((uint8_t *)fe_ptr(v->fe, gpa, 65536) + 12, 9, 0);
	return gpa;
}

static void attack_one(struct victim *v, uint64_t gpa, uint32_t len, uint16_t flags)
{
	const struct raw d[] = { { gpa, len, flags, 0 } };

	attack_chain(v, d, 1);
}

static void half_a_header(struct victim *v)
{
	attack_one(v, prepare(v), 5, 0);
}

static void only_a_header(struct victim *v)
{
	attack_one(v, prepare(v), 12, 0);
}

static void half_of_an_ethernet_header(struct victim *v)
{
	attack_one(v, prepare(v), 12 + 7, 0);
}

static void a_frame_longer_than_any(struct victim *v)
{
	uint64_t gpa = prepare(v);
	const struct raw d[] = { { gpa, 65536, NEXT, 0 },
				 { gpa, 65536, NEXT, 0 },
				 { gpa, 65536, 0, 0 } };

	attack_chain(v, d, 3);
}

static void a_writable_buffer_to_send(struct victim *v)
{
	attack_one(v, prepare(v), 12 + FRAME_LEN, WRITE);
}

static void data_outside_of_memory(struct victim *v)
{
	const struct raw d[] = { { prepare(v), 12, NEXT, 0 }, { 1ull << 50, 100, 0, 0 } };

	attack_chain(v, d, 2);
}

static void data_over_the_end_of_memory(struct victim *v)
{
	struct fe_region *r = &v->fe->region[v->region];

	attack_one(v, r->gpa + r->size - 30, 1500, 0);
}

static void address_that_wraps(struct victim *v)
{
	attack_one(v, UINT64_MAX - 20, 1500, 0);
}

static void four_gigabytes_in_one_descriptor(struct victim *v)
{
	attack_one(v, prepare(v), UINT32_MAX, 0);
}

static void lengths_whose_sum_wraps(struct victim *v)
{
	uint64_t gpa = prepare(v);
	const struct raw d[] = { { gpa, 0x80000000, NEXT, 0 },
				 { gpa, 0x80000000, NEXT, 0 },
				 { gpa, 72, 0, 0 } };

	attack_chain(v, d, 3);
}

static void every_flag_at_once(struct victim *v)
{
	attack_one(v, prepare(v), 72, NEXT | WRITE | INDIRECT | 0x7f00);
}

static void table_of_half_a_descriptor(struct victim *v)
{
	attack_one(v, prepare(v), 40, INDIRECT);
}

static void table_that_is_huge(struct victim *v)
{
	attack_one(v, prepare(v), 0xfffffff0, INDIRECT);
}

/* Of 0xff: every flag, every address. */
static void table_of_nonsense(struct victim *v)
{
	uint64_t gpa = prepare(v);

	memset(fe_ptr(v->fe, gpa, 4096), 0xff, 4096);
	attack_one(v, gpa, 4096, INDIRECT);
}

static void chain_without_an_end(struct victim *v)
{
	struct raw d[ATTACK_RING_SIZE];
	uint64_t gpa = prepare(v);

	for (unsigned int i = 0; i < ATTACK_RING_SIZE; i++)
		d[i] = (struct raw){ gpa, 72, NEXT, 0 };
	d[ATTACK_RING_SIZE - 1].next = 1;
	attack_chain(v, d, ATTACK_RING_SIZE);
}

static void next_or_id_out_of_range(struct victim *v)
{
	const struct raw d[] = { { prepare(v), 72, NEXT, ATTACK_RING_SIZE + 7 } };

	if (!v->ring[TX]->packed) {
		attack_chain(v, d, 1);
		return;
	}
	drv_raw_packed(v->ring[TX], 0, d[0].gpa, 72, 60000, 0, true);
	drv_kick(v->ring[TX]);
	attack_assert_reaction(v);
}

/* Offloads in every combination, with numbers that fit no frame. */
static void headers_that_lie(struct victim *v)
{
	static const uint16_t numbers[] = { 0, 1, 14, 34, 60, 61, 1500, 0x7fff, 0xffff };
	uint8_t frame[FRAME_LEN];

	make_frame(frame, 9, 0);
	for (unsigned int i = 0; i < 6 * 9 * 9 * 9; i++) {
		static const uint8_t gso[] = { 0, 1, 3, 4, 5, 0x81 };
		const struct virtio_net_hdr hdr = {
			.flags = i & 1 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0xff,
			.gso_type = gso[i % 6],
			.hdr_len = cpu_to_le16(numbers[i / 6 % 9]),
			.gso_size = cpu_to_le16(numbers[i / 54 % 9]),
			.csum_start = cpu_to_le16(numbers[i / 486 % 9]),
			.csum_offset = cpu_to_le16(numbers[i % 9]),
		};

		assert_int_equal(net_send(&net, 0, &hdr, frame, sizeof(frame)), 0);
		assert_int_equal(net_drain(&net, 0), 0);
	}
}

/* Rewrites descriptors and frames as fast as it can while the device reads them. */
static void a_driver_that_rewrites_what_is_read(struct victim *v)
{
	uint64_t gpa = prepare(v);
	const struct raw good[] = { { gpa, 12, NEXT, 0 }, { gpa + 12, FRAME_LEN, 0, 0 } };
	uint8_t *p = fe_ptr(v->fe, gpa, 4096);
	struct drv_ring *r = v->ring[TX];
	uint32_t seed = 1;

	attack_offer(v, good, 2);
	for (unsigned int i = 0; i < 200000; i++) {
		uint16_t pos = fe_random(&seed) % 2;
		uint64_t addr = fe_random(&seed) & 1 ? good[pos].gpa : fe_random(&seed);
		uint32_t len = fe_random(&seed) & 1 ? good[pos].len : fe_random(&seed);

		write_once(&p[fe_random(&seed) % 72], (uint8_t)fe_random(&seed));
		if (r->packed) {
			drv_raw_packed(r, pos, addr, len, (uint16_t)fe_random(&seed),
				       fe_random(&seed) & 7, fe_random(&seed) & 1);
		} else {
			drv_raw_desc(r, pos, addr, len, fe_random(&seed) & 7,
				     (uint16_t)fe_random(&seed) % 4);
			drv_raw_avail_idx(r, (uint16_t)(i / 64));
		}
		if (i % 1024 == 0)
			drv_kick(r);
	}
}

/* --- buffers to be received into --------------------------------------------------- */

/* The ring is full of good buffers that the device may have looked at: all are
 * rewritten, and frames are sent there. */
static void attack_buffers(struct victim *v, uint64_t gpa, uint32_t len, uint16_t flags)
{
	struct drv_ring *r = v->ring[RX];

	for (uint16_t i = 0; i < ATTACK_RING_SIZE; i++) {
		if (r->packed)
			drv_raw_packed(r, i, gpa, len, i, flags, true);
		else
			drv_raw_desc(r, i, gpa, len, flags, (uint16_t)(i + 1));
	}
	drv_kick(r);
	for (unsigned int i = 0; i < 2 * ATTACK_RING_SIZE; i++)
		passes(&witness[0], &witness[1]);
}

static void receive_buffers_outside_of_memory(struct victim *v)
{
	attack_buffers(v, 1ull << 50, 2048, WRITE);
}

static void receive_buffers_of_no_length(struct victim *v)
{
	attack_buffers(v, 0, 0, WRITE);
}

static void receive_buffers_of_a_byte(struct victim *v)
{
	attack_buffers(v, prepare(v), 1, WRITE);
}

static void receive_buffers_that_are_readable(struct victim *v)
{
	attack_buffers(v, prepare(v), 2048, 0);
}

static void receive_chains_without_an_end(struct victim *v)
{
	attack_buffers(v, prepare(v), 2048, WRITE | NEXT);
}

static void receive_tables_of_nonsense(struct victim *v)
{
	attack_buffers(v, prepare(v), 4096, INDIRECT);
}

static void receive_index_that_jumps(struct victim *v)
{
	if (!v->ring[RX]->packed)
		drv_raw_avail_idx(v->ring[RX], 3 * ATTACK_RING_SIZE);
	drv_kick(v->ring[RX]);
	passes(&witness[0], &witness[1]);
}

const struct attack attacks_device[] = {
	ATTACK_BOTH(half_a_header),
	ATTACK_BOTH(only_a_header),
	ATTACK_BOTH(half_of_an_ethernet_header),
	ATTACK_BOTH(a_frame_longer_than_any),
	ATTACK_BOTH(a_writable_buffer_to_send),
	ATTACK_BOTH(data_outside_of_memory),
	ATTACK_BOTH(data_over_the_end_of_memory),
	ATTACK_BOTH(address_that_wraps),
	ATTACK_BOTH(four_gigabytes_in_one_descriptor),
	ATTACK_BOTH(lengths_whose_sum_wraps),
	ATTACK_BOTH(every_flag_at_once),
	ATTACK_BOTH(table_of_half_a_descriptor),
	ATTACK_BOTH(table_that_is_huge),
	ATTACK_BOTH(table_of_nonsense),
	ATTACK_BOTH(chain_without_an_end),
	ATTACK_BOTH(next_or_id_out_of_range),
	ATTACK_BOTH(headers_that_lie),
	ATTACK_BOTH(a_driver_that_rewrites_what_is_read),
	ATTACK_BOTH(receive_buffers_outside_of_memory),
	ATTACK_BOTH(receive_buffers_of_no_length),
	ATTACK_BOTH(receive_buffers_of_a_byte),
	ATTACK_BOTH(receive_buffers_that_are_readable),
	ATTACK_BOTH(receive_chains_without_an_end),
	ATTACK_BOTH(receive_tables_of_nonsense),
	ATTACK_BOTH(receive_index_that_jumps),
	{ 0 },
};
