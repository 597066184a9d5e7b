/*
 * The request table: each malformed message is a named case. Every case is sent
 * twice: asking for an acknowledgement, which must say no and leave the
 * connection up, and without, which must close it. After each the witness still
 * serves, the victim serves a new front-end, and nothing has leaked.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/vukit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACK (FE_VERSION | FE_FLAG_NEED_REPLY)

/* A message as sent. fds are made by the runner: eventfds, or files of a page. */
struct bad {
	const char *name;
	enum kit_stage stage;
	uint32_t request;
	uint32_t len;
	uint64_t payload[40];
	unsigned int nr_fds;
	bool memory_fds;
	bool replies; /* no acknowledgement can say no: closed either way */
	bool stream; /* cannot be followed any more: likewise */
};

#define STATE(index, num) .len = 8, .payload = { (uint64_t)(num) << 32 | (index) }
#define U64(v) .len = 8, .payload = { (v) }
/* num of regions and the regions themselves: gpa, size, uva, offset */
#define TABLE(n, ...) .len = 8 + 32 * (n), .payload = { (n), __VA_ARGS__ }
#define SINGLE(...) .len = 40, .payload = { 0, __VA_ARGS__ }
#define REGION(gpa, size, uva, off) (gpa), (size), (uva), (off)
#define INFLIGHT(size, off, queues, entries)                                                       \
	.len = 24, .payload = { (size), (off), (uint64_t)(entries) << 16 | (queues) }
#define PAGE 4096ull

static const struct bad bad_messages[] = {
	{ "an unknown request", KIT_NEGOTIATED, 200 },
	{ "request 0", KIT_NEGOTIATED, 0 },
	{ "a request number of all ones", KIT_NEGOTIATED, UINT32_MAX },
	{ "a request of a protocol feature not offered", KIT_NEGOTIATED, FE_SET_DEVICE_STATE_FD,
	  .len = 8, .nr_fds = 1 },
	{ "postcopy, not offered", KIT_NEGOTIATED, FE_POSTCOPY_ADVISE },
	{ "an unknown request with descriptors", KIT_NEGOTIATED, 200, U64(7), .nr_fds = 3 },

	{ "features not offered", KIT_NEGOTIATED, FE_SET_FEATURES, U64(1ull << 63) },
	{ "protocol features not offered", KIT_NEGOTIATED, FE_SET_PROTOCOL_FEATURES,
	  U64(1ull << FE_PROTO_REPLY_ACK | 1ull << 40) },
	{ "other features while a ring runs", KIT_RUNNING, FE_SET_FEATURES,
	  U64(1ull << FE_F_PROTOCOL_FEATURES) },
	{ "other protocol features while a ring runs", KIT_RUNNING, FE_SET_PROTOCOL_FEATURES,
	  U64(1ull << FE_PROTO_REPLY_ACK) },
	{ "features with 4 bytes", KIT_NEGOTIATED, FE_SET_FEATURES, .len = 4 },
	{ "features with 16 bytes", KIT_NEGOTIATED, FE_SET_FEATURES, .len = 16 },
	{ "features with a descriptor", KIT_NEGOTIATED, FE_SET_FEATURES,
	  U64(1ull << FE_F_PROTOCOL_FEATURES), .nr_fds = 1 },
	{ "get features with a payload", KIT_NEGOTIATED, FE_GET_FEATURES, U64(0), .replies = true },
	{ "get features with descriptors", KIT_NEGOTIATED, FE_GET_FEATURES, .nr_fds = 8,
	  .replies = true },
	{ "owner with a payload", KIT_NEGOTIATED, FE_SET_OWNER, U64(0) },

	{ "a memory table of 9 regions", KIT_NEGOTIATED, FE_SET_MEM_TABLE, .len = 8 + 32 * 8,
	  .payload = { 9 }, .nr_fds = 8 },
	{ "a memory table of 2^32 - 1 regions", KIT_NEGOTIATED, FE_SET_MEM_TABLE, .len = 40,
	  .payload = { UINT32_MAX }, .nr_fds = 1 },
	{ "a memory table shorter than its regions", KIT_NEGOTIATED, FE_SET_MEM_TABLE, .len = 39,
	  .payload = { 1, REGION(0, PAGE, PAGE, 0) }, .nr_fds = 1, .memory_fds = true },
	{ "a memory table without its descriptor", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, PAGE, PAGE, 0)) },
	{ "a memory table with a descriptor too many", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, PAGE, PAGE, 0)), .nr_fds = 2, .memory_fds = true },
	{ "a memory table of eventfds", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, PAGE, PAGE, 0)), .nr_fds = 1 },
	{ "regions that overlap in guest addresses", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(2, REGION(0, 2 * PAGE, 8 * PAGE, 0), REGION(PAGE, PAGE, 16 * PAGE, 0)), .nr_fds = 2,
	  .memory_fds = true },
	{ "regions that overlap in front-end addresses", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(2, REGION(0, 2 * PAGE, 8 * PAGE, 0), REGION(8 * PAGE, PAGE, 9 * PAGE, 0)),
	  .nr_fds = 2, .memory_fds = true },
	{ "a region whose guest addresses wrap", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(-PAGE, 2 * PAGE, PAGE, 0)), .nr_fds = 1, .memory_fds = true },
	{ "a region whose front-end addresses wrap", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, 2 * PAGE, -PAGE, 0)), .nr_fds = 1, .memory_fds = true },
	{ "a region whose file offset wraps", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, 2 * PAGE, PAGE, -PAGE)), .nr_fds = 1, .memory_fds = true },
	{ "a region larger than its file", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, 3 * PAGE, PAGE, 0)), .nr_fds = 1, .memory_fds = true },
	{ "a region behind the end of its file", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(1, REGION(0, PAGE, PAGE, 2 * PAGE)), .nr_fds = 1, .memory_fds = true },
	{ "a region of size 0", KIT_NEGOTIATED, FE_SET_MEM_TABLE, TABLE(1, REGION(0, 0, PAGE, 0)),
	  .nr_fds = 1, .memory_fds = true },
	{ "a good region, then a bad one", KIT_NEGOTIATED, FE_SET_MEM_TABLE,
	  TABLE(2, REGION(0, PAGE, PAGE, 0), REGION(8 * PAGE, 9 * PAGE, 9 * PAGE, 0)), .nr_fds = 2,
	  .memory_fds = true },
	{ "an added region that overlaps", KIT_MEMORY, FE_ADD_MEM_REG,
	  SINGLE(REGION(1 << 20, PAGE, PAGE, 0)), .nr_fds = 1, .memory_fds = true },
	{ "an added region without descriptor", KIT_MEMORY, FE_ADD_MEM_REG,
	  SINGLE(REGION(0, PAGE, PAGE, 0)) },
	{ "an added region with two descriptors", KIT_MEMORY, FE_ADD_MEM_REG,
	  SINGLE(REGION(0, PAGE, PAGE, 0)), .nr_fds = 2, .memory_fds = true },
	{ "an added region larger than its file", KIT_RUNNING, FE_ADD_MEM_REG,
	  SINGLE(REGION(0, 3 * PAGE, PAGE, 0)), .nr_fds = 1, .memory_fds = true },
	{ "an added region in 32 bytes", KIT_MEMORY, FE_ADD_MEM_REG, .len = 32, .nr_fds = 1 },
	{ "removal of a region that is not there", KIT_RUNNING, FE_REM_MEM_REG,
	  SINGLE(REGION(1, PAGE, PAGE, 0)) },
	{ "removal of such a region, with a descriptor", KIT_RUNNING, FE_REM_MEM_REG,
	  SINGLE(REGION(1, PAGE, PAGE, 0)), .nr_fds = 1 },
	{ "removal with two descriptors", KIT_MEMORY, FE_REM_MEM_REG,
	  SINGLE(REGION(1, PAGE, PAGE, 0)), .nr_fds = 2 },

	{ "memory for what is in flight of no queue", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD,
	  INFLIGHT(0, 0, 0, 64), .replies = true },
	{ "memory for what is in flight of three queues of two", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD,
	  INFLIGHT(0, 0, 3, 64), .replies = true },
	{ "memory for what is in flight of size 0", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD,
	  INFLIGHT(0, 0, 2, 0), .replies = true },
	{ "memory for what is in flight of size 65535", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD,
	  INFLIGHT(0, 0, 2, 65535), .replies = true },
	{ "memory for what is in flight in 16 bytes", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD, .len = 16,
	  .replies = true },
	{ "memory for what is in flight with a descriptor", KIT_NEGOTIATED, FE_GET_INFLIGHT_FD,
	  INFLIGHT(0, 0, 2, 64), .nr_fds = 1, .replies = true },
	{ "what is in flight without descriptor", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(PAGE, 0, 1, 64) },
	{ "what is in flight with two descriptors", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(PAGE, 0, 1, 64), .nr_fds = 2, .memory_fds = true },
	{ "what is in flight on an eventfd", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(2 * PAGE, 0, 1, 64), .nr_fds = 1 },
	{ "what is in flight of 65535 queues", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(PAGE, 0, 65535, 64), .nr_fds = 1, .memory_fds = true },
	{ "what is in flight in too few bytes", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(64, 0, 1, 64), .nr_fds = 1, .memory_fds = true },
	{ "what is in flight behind the end of its file", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(2 * PAGE, PAGE, 1, 64), .nr_fds = 1, .memory_fds = true },
	{ "what is in flight at an offset that wraps", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(2 * PAGE, -PAGE, 1, 64), .nr_fds = 1, .memory_fds = true },
	{ "what is in flight at an odd offset", KIT_NEGOTIATED, FE_SET_INFLIGHT_FD,
	  INFLIGHT(PAGE, 4, 1, 64), .nr_fds = 1, .memory_fds = true },
	{ "what is in flight while a ring runs", KIT_RUNNING, FE_SET_INFLIGHT_FD,
	  INFLIGHT(2 * PAGE, 0, 1, 64), .nr_fds = 1, .memory_fds = true },

	{ "a log without descriptor", KIT_NEGOTIATED, FE_SET_LOG_BASE, .len = 16,
	  .payload = { PAGE, 0 } },
	{ "a log in 8 bytes", KIT_NEGOTIATED, FE_SET_LOG_BASE, U64(-1ull) },
	{ "a log larger than its file", KIT_RUNNING, FE_SET_LOG_BASE, .len = 16,
	  .payload = { 3 * PAGE, 0 }, .nr_fds = 1, .memory_fds = true },
	{ "a log whose offset wraps", KIT_RUNNING, FE_SET_LOG_BASE, .len = 16,
	  .payload = { 2 * PAGE, -PAGE }, .nr_fds = 1, .memory_fds = true },
	{ "a log of size 0", KIT_RUNNING, FE_SET_LOG_BASE, .len = 16, .nr_fds = 1,
	  .memory_fds = true },
	{ "a log on an eventfd", KIT_RUNNING, FE_SET_LOG_BASE, .len = 16, .payload = { PAGE, 0 },
	  .nr_fds = 1 },
	{ "a log descriptor that is missing", KIT_NEGOTIATED, FE_SET_LOG_FD },

	{ "size of ring 2 of 2", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(2, 64) },
	{ "size of ring 65536, 0 in 16 bits", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(65536, 64) },
	{ "size of ring 2^32 - 1", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(UINT32_MAX, 64) },
	{ "size 0", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(0, 0) },
	{ "a size that is no power of two", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(0, 100) },
	{ "a split ring of 2048", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(0, 2048) },
	{ "a size of 65536, 0 in 16 bits", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(0, 65536) },
	{ "the size of a running ring", KIT_RUNNING, FE_SET_VRING_NUM, STATE(0, 32) },
	{ "size in 4 bytes", KIT_NEGOTIATED, FE_SET_VRING_NUM, .len = 4 },
	{ "size with a descriptor", KIT_NEGOTIATED, FE_SET_VRING_NUM, STATE(0, 64), .nr_fds = 1 },
	{ "base of ring 2 of 2", KIT_NEGOTIATED, FE_SET_VRING_BASE, STATE(2, 0) },
	{ "base of 17 bits of a split ring", KIT_NEGOTIATED, FE_SET_VRING_BASE, STATE(0, 0x10000) },
	{ "the base of a running ring", KIT_RUNNING, FE_SET_VRING_BASE, STATE(0, 0) },
	{ "get base of ring 2 of 2", KIT_NEGOTIATED, FE_GET_VRING_BASE, STATE(2, 0),
	  .replies = true },
	{ "get base with a descriptor", KIT_RUNNING, FE_GET_VRING_BASE, STATE(0, 0), .nr_fds = 1,
	  .replies = true },
	{ "enable ring 2 of 2", KIT_NEGOTIATED, FE_SET_VRING_ENABLE, STATE(2, 1) },
	{ "enable with 2", KIT_NEGOTIATED, FE_SET_VRING_ENABLE, STATE(0, 2) },

	{ "kick of ring 2 of 2", KIT_NEGOTIATED, FE_SET_VRING_KICK, U64(2), .nr_fds = 1 },
	{ "kick without descriptor or flag", KIT_NEGOTIATED, FE_SET_VRING_KICK, U64(0) },
	{ "kick with descriptor and flag", KIT_NEGOTIATED, FE_SET_VRING_KICK, U64(FE_VRING_NOFD),
	  .nr_fds = 1 },
	{ "kick with two descriptors", KIT_NEGOTIATED, FE_SET_VRING_KICK, U64(0), .nr_fds = 2 },
	{ "kick with unknown bits", KIT_NEGOTIATED, FE_SET_VRING_KICK, U64(1 << 9), .nr_fds = 1 },
	{ "call of ring 255", KIT_NEGOTIATED, FE_SET_VRING_CALL, U64(255), .nr_fds = 1 },
	{ "call without descriptor or flag", KIT_NEGOTIATED, FE_SET_VRING_CALL, U64(0) },
	{ "call of a running ring without either", KIT_RUNNING, FE_SET_VRING_CALL, U64(0) },
	{ "err of ring 2 of 2", KIT_NEGOTIATED, FE_SET_VRING_ERR, U64(2 | FE_VRING_NOFD) },
	{ "err with three descriptors", KIT_NEGOTIATED, FE_SET_VRING_ERR, U64(0), .nr_fds = 3 },

	{ "addresses of ring 2 of 2", KIT_MEMORY, FE_SET_VRING_ADDR, .len = 40, .payload = { 2 } },
	{ "addresses before memory", KIT_NEGOTIATED, FE_SET_VRING_ADDR, .len = 40 },
	{ "addresses before size", KIT_MEMORY, FE_SET_VRING_ADDR, .len = 40 },
	{ "addresses in 32 bytes", KIT_MEMORY, FE_SET_VRING_ADDR, .len = 32 },
	{ "addresses with a descriptor", KIT_MEMORY, FE_SET_VRING_ADDR, .len = 40, .nr_fds = 1 },
	{ "other addresses of a running ring", KIT_RUNNING, FE_SET_VRING_ADDR, .len = 40 },

	{ "a back-end channel without descriptor", KIT_NEGOTIATED, FE_SET_BACKEND_REQ_FD },
	{ "a back-end channel with two descriptors", KIT_NEGOTIATED, FE_SET_BACKEND_REQ_FD,
	  .nr_fds = 2 },
	{ "a back-end channel that cannot be watched", KIT_NEGOTIATED, FE_SET_BACKEND_REQ_FD,
	  .nr_fds = 1, .memory_fds = true },
	{ "configuration written behind its end", KIT_NEGOTIATED, FE_SET_CONFIG, .len = 16,
	  .payload = { 4ull << 32 | 8 } },
	{ "configuration written at an offset that wraps", KIT_NEGOTIATED, FE_SET_CONFIG, .len = 16,
	  .payload = { 4ull << 32 | (UINT32_MAX - 1) } },
	{ "configuration of another size than the payload", KIT_NEGOTIATED, FE_SET_CONFIG,
	  .len = 16, .payload = { 8ull << 32 } },
	{ "configuration with unknown flags", KIT_NEGOTIATED, FE_SET_CONFIG, .len = 16,
	  .payload = { 4ull << 32 | 4, 2 } },
	{ "device status of 9 bits", KIT_NEGOTIATED, FE_SET_STATUS, U64(256) },
	{ "device status with a descriptor", KIT_NEGOTIATED, FE_SET_STATUS, U64(1), .nr_fds = 1 },
	{ "reset with a payload", KIT_RUNNING, FE_RESET_DEVICE, U64(0) },
	{ "memory slots with a payload", KIT_NEGOTIATED, FE_GET_MAX_MEM_SLOTS, U64(0),
	  .replies = true },
	{ "status of a device not negotiated", KIT_CONNECTED, FE_GET_STATUS, .replies = true },
	{ "configuration not negotiated", KIT_CONNECTED, FE_GET_CONFIG, .len = 16,
	  .payload = { 4ull << 32 }, .replies = true },
	{ "a region added without memory slots", KIT_CONNECTED, FE_ADD_MEM_REG,
	  SINGLE(REGION(0, PAGE, PAGE, 0)), .nr_fds = 1, .memory_fds = true, .replies = true },
	{ "a log without LOG_SHMFD", KIT_CONNECTED, FE_SET_LOG_BASE, .len = 16,
	  .payload = { PAGE, 0 }, .nr_fds = 1, .memory_fds = true, .replies = true },

	{ "nine descriptors", KIT_NEGOTIATED, FE_SET_OWNER, .nr_fds = 9, .stream = true },
	{ "as many descriptors as a message can have", KIT_RUNNING, FE_SET_OWNER, .nr_fds = 253,
	  .stream = true },
	{ "a payload larger than any", KIT_NEGOTIATED, FE_SET_OWNER, .len = 273, .stream = true },
};

static void make_fds(const struct bad *b, int *fds)
{
	for (unsigned int i = 0; i < b->nr_fds; i++) {
		if (b->memory_fds) {
			fds[i] = memfd_create("bad", MFD_CLOEXEC);
			assert_int_equal(ftruncate(fds[i], 2 * PAGE), 0);
		} else {
			fds[i] = eventfd(0, EFD_CLOEXEC);
		}
		assert_true(fds[i] >= 0);
	}
}

/* Send b to a victim that is as far as b wants it. */
static void send_bad(struct kit *kit, const struct bad *b, uint32_t flags)
{
	struct kit_dev *kd = &kit->victim;
	int fds[FE_FDS_MAX];

	make_fds(b, fds);
	assert_int_equal(fe_send(&kd->fe, b->request, flags, b->payload, b->len, fds, b->nr_fds),
			 0);
	for (unsigned int i = 0; i < b->nr_fds; i++)
		close(fds[i]);
}

static void expect_refusal(struct kit *kit, const struct bad *b)
{
	struct kit_dev *kd = &kit->victim;
	struct fe_msg reply;
	uint64_t ack = 0;

	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(reply.hdr.request, b->request);
	assert_int_equal(reply.hdr.flags, FE_VERSION | FE_FLAG_REPLY);
	assert_int_equal(reply.hdr.size, sizeof(ack));
	memcpy(&ack, reply.payload, sizeof(ack));
	assert_int_not_equal(ack, 0);
	/* The stream is as it was, and what worked before still does. */
	assert_int_equal(fe_sync(&kd->fe), 0);
	if (b->stage == KIT_RUNNING)
		kit_serve(kit, kd);
}

static void run_bad(struct kit *kit, const struct bad *b, bool acked)
{
	struct kit_census before = kit_census();
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, b->stage, 0);
	send_bad(kit, b, acked ? ACK : FE_VERSION);
	if (acked && !b->replies && !b->stream)
		expect_refusal(kit, b);
	else
		assert_true(fe_hung_up(&kd->fe));
	kit_serve(kit, &kit->witness);
	kit_bring_down(kit, kd);
	kit_assert_census(before);
}

static void a_malformed_message_is_refused(void **state)
{
	struct kit *kit = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad_messages); i++) {
		const struct bad *b = &bad_messages[i];

		print_message("    %s\n", b->name);
		run_bad(kit, b, true);
		run_bad(kit, b, false);
	}
	kit_bring_up(kit, &kit->victim, KIT_RUNNING, 0);
	kit_serve(kit, &kit->victim);
}

/* Payload of any content: what matters is that nothing breaks or leaks. */
static void any_size_and_any_number_of_descriptors_is_survived(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 4, 8, 9, 12, 16, 24, 40, 41, 72, 264, 268, 272 };
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	struct bad b = { .name = "sweep" };

	for (b.request = 0; b.request < FE_REQ_END + 2; b.request++) {
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			b.len = sizes[s];
			b.nr_fds = (unsigned int)s % 4;
			b.memory_fds = s % 8 > 3;
			memset(b.payload, s % 3 ? 0 : 0xff, sizeof(b.payload));
			kit_bring_up(kit, &kit->victim, s % 2 ? KIT_RUNNING : KIT_MEMORY, 0);
			send_bad(kit, &b, ACK);
			for (int i = 0; i < 4; i++)
				kit_pump(kit);
			kit_bring_down(kit, &kit->victim);
			kit_assert_census(before);
		}
		kit_serve(kit, &kit->witness);
	}
}

static void a_wrong_version_closes_the_connection(void **state)
{
	struct kit *kit = *state;

	for (uint32_t version = 0; version < 4; version++) {
		if (version == FE_VERSION)
			continue;
		kit_bring_up(kit, &kit->victim, KIT_NEGOTIATED, 0);
		assert_int_equal(fe_send(&kit->victim.fe, FE_GET_FEATURES,
					 version | FE_FLAG_NEED_REPLY, NULL, 0, NULL, 0),
				 0);
		assert_true(fe_hung_up(&kit->victim.fe));
		kit_bring_down(kit, &kit->victim);
		kit_serve(kit, &kit->witness);
	}
}

static void a_reply_to_nothing_closes_the_connection(void **state)
{
	struct kit *kit = *state;

	kit_bring_up(kit, &kit->victim, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_send(&kit->victim.fe, FE_GET_FEATURES, FE_VERSION | FE_FLAG_REPLY, NULL,
				 0, NULL, 0),
			 0);
	assert_true(fe_hung_up(&kit->victim.fe));
	kit_serve(kit, &kit->witness);
}

static void without_reply_ack_no_acknowledgement_is_sent(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;

	kit_bring_up(kit, kd, KIT_CONNECTED, 0);
	assert_int_equal(fe_send(&kd->fe, FE_SET_OWNER, ACK, NULL, 0, NULL, 0), 0);
	/* The next thing that arrives is the answer to this. */
	assert_int_equal(fe_sync(&kd->fe), 0);
}

static void what_is_asked_is_answered(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t v;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_get_u64(&kd->fe, FE_GET_QUEUE_NUM, &v), 0);
	assert_int_equal(v, KIT_QUEUES);
	assert_int_equal(fe_get_u64(&kd->fe, FE_GET_MAX_MEM_SLOTS, &v), 0);
	assert_int_equal(v, 509);
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_STATUS, 7), 0);
	assert_int_equal(fe_get_u64(&kd->fe, FE_GET_STATUS, &v), 0);
	assert_int_equal(v, 7);
	assert_true(kd->fe.offered & 1ull << FE_F_LOG_ALL);
	assert_true(kd->fe.offered & 1ull << VIRTIO_F_VERSION_1);
	assert_int_equal(kd->fe.proto_offered, 0x1b62b);
}

static bool is_kept(struct kit_dev *kd)
{
	json_t *status = vu_dev_status(kd->skel.dev, NULL);
	bool kept = json_is_true(json_object_get(status, "in-flight-kept"));

	json_decref(status);
	return kept;
}

static void memory_for_what_is_in_flight_is_given_and_taken(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_inflight inflight;
	struct kit_census before;
	uint16_t version;
	struct stat st;
	int fd;

	kit_bring_up(kit, kd, KIT_MEMORY, 0);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			before = kit_census();
		assert_int_equal(fe_get_inflight(&kd->fe, 2, KIT_RING_SIZE, &inflight, &fd), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_true(st.st_size == (off_t)inflight.mmap_size && st.st_size);
		/* It stays as large as it is, whoever has it. */
		assert_int_equal(ftruncate(fd, 0), -1);
		assert_int_equal(is_kept(kd), i > 0);
		assert_int_equal(fe_set_inflight(&kd->fe, &inflight, fd), 0);
		assert_true(is_kept(kd));
		/* Another driver begins with nothing. */
		assert_int_equal(pwrite(fd, &i, sizeof(i), 8), sizeof(i));
		assert_int_equal(fe_request(&kd->fe, FE_RESET_DEVICE, NULL, 0, NULL, 0), 0);
		assert_int_equal(pread(fd, &version, sizeof(version), 8), sizeof(version));
		assert_int_equal(version, 0);
		close(fd);
	}
	kit_assert_census(before);
	kit_bring_down(kit, kd);
	kit_bring_up(kit, kd, KIT_MEMORY, 0);
	assert_false(is_kept(kd));
	/* A file of which a reset must not touch all. */
	fd = memfd_create("large", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1ll << 33), 0);
	inflight = (struct fe_inflight){ 1ull << 33, 0, 2, KIT_RING_SIZE, 0 };
	assert_int_equal(fe_set_inflight(&kd->fe, &inflight, fd), 0);
	assert_int_equal(fe_request(&kd->fe, FE_RESET_DEVICE, NULL, 0, NULL, 0), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_blocks * 512 < 1 << 20);
	close(fd);
	/* One that has no room for the ring. */
	assert_int_equal(fe_get_inflight(&kd->fe, 2, KIT_RING_SIZE / 4, &inflight, &fd), 0);
	assert_int_equal(fe_set_inflight(&kd->fe, &inflight, fd), 0);
	close(fd);
	assert_int_equal(fe_vring_num(&kd->fe, 0, KIT_RING_SIZE), 0);
	assert_int_equal(fe_vring_addr(&kd->fe,
				       &(struct fe_vring_addr){
					       .desc_uva = fe_uva(&kd->fe, kd->buf),
					       .avail_uva = fe_uva(&kd->fe, kd->buf),
					       .used_uva = fe_uva(&kd->fe, kd->buf),
				       }),
			 -EREMOTEIO);
}

static void only_devices_of_a_network_have_an_address_and_an_mtu(void **state)
{
	static const uint8_t mac[8] = { 2, 0, 0, 0xab, 0xcd, 0xef };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct vu_conf conf;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_request(&kd->fe, FE_SEND_RARP, mac, sizeof(mac), NULL, 0), -EREMOTEIO);
	kit_destroy(kit, kd);
	fe_disconnect(&kd->fe);

	kd->hooks.network = true;
	kit_conf(kit, kd, "net", &conf);
	assert_int_equal(vu_dev_create(&conf, &kd->skel.dev), 0);
	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	assert_int_equal(kd->fe.proto_offered, 0x1b62b | 1 << FE_PROTO_RARP | 1 << FE_PROTO_MTU);
	assert_int_equal(fe_request(&kd->fe, FE_SEND_RARP, mac, sizeof(mac), NULL, 0), 0);
	assert_int_equal(kd->hooks.nr_rarps, 1);
	assert_memory_equal(kd->hooks.rarp, mac, 6);
	assert_int_equal(fe_request(&kd->fe, FE_SEND_RARP, mac, 6, NULL, 0), -EREMOTEIO);
	assert_int_equal(fe_set_u64(&kd->fe, FE_NET_SET_MTU, 1500), 0);
	assert_int_equal(kd->hooks.mtu, 1500);
	assert_int_equal(fe_set_u64(&kd->fe, FE_NET_SET_MTU, 65536), -EREMOTEIO);
	assert_int_equal(kd->hooks.mtu, 1500);
	/* Not negotiated, not served. */
	assert_int_equal(fe_set_u64(&kd->fe, FE_SET_PROTOCOL_FEATURES, 1 << FE_PROTO_REPLY_ACK), 0);
	assert_int_equal(fe_set_u64(&kd->fe, FE_NET_SET_MTU, 1500), -EREMOTEIO);
	assert_int_equal(fe_request(&kd->fe, FE_SEND_RARP, mac, sizeof(mac), NULL, 0), -EREMOTEIO);
	assert_int_equal(kd->hooks.nr_rarps, 1);
}

static void the_configuration_space_is_bounded(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint8_t buf[256];
	le32 colour = cpu_to_le32(5);

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_get_config(&kd->fe, 0, buf, 8), 0);
	assert_memory_equal(buf, "hell", 4);
	assert_int_equal(fe_set_config(&kd->fe, 4, &colour, 4, 0), 0);
	assert_int_equal(fe_get_config(&kd->fe, 4, buf, 4), 0);
	assert_memory_equal(buf, &colour, 4);
	/* A read-only field only changes in a migration. */
	assert_int_equal(fe_set_config(&kd->fe, 0, &colour, 4, 0), -EREMOTEIO);
	assert_int_equal(fe_set_config(&kd->fe, 0, &colour, 4, 1), 0);

	assert_int_equal(fe_get_config(&kd->fe, 0, buf, 9), -EREMOTEIO);
	assert_int_equal(fe_get_config(&kd->fe, 8, buf, 1), -EREMOTEIO);
	assert_int_equal(fe_get_config(&kd->fe, UINT32_MAX, buf, 2), -EREMOTEIO);
	assert_int_equal(fe_get_config(&kd->fe, 0, buf, 256), -EREMOTEIO);
	assert_int_equal(fe_get_config(&kd->fe, 8, buf, 0), 0);
	assert_int_equal(fe_sync(&kd->fe), 0);
}

static void messages_may_come_byte_by_byte(void **state)
{
	struct {
		struct fe_hdr hdr;
		uint64_t v;
	} __attribute__((packed)) msg = {
		{ FE_SET_VRING_NUM, ACK, 8 },
		(uint64_t)64 << 32 | 1,
	};
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_msg reply;
	uint64_t ack;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	for (size_t i = 0; i < sizeof(msg); i++) {
		assert_int_equal(fe_send_raw(&kd->fe, (char *)&msg + i, 1, NULL, 0), 0);
		kit_pump(kit);
		kit_serve(kit, &kit->witness);
	}
	assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	memcpy(&ack, reply.payload, sizeof(ack));
	assert_int_equal(ack, 0);
}

static void descriptors_of_two_messages_are_not_mixed(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	uint64_t v[2] = { 0, 1 };
	int fd = eventfd(0, EFD_CLOEXEC);

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	/* Both are in the socket before the first is read. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(fe_send(&kd->fe, FE_SET_VRING_CALL, FE_VERSION, &v[i], 8, &fd, 1),
				 0);
	assert_int_equal(fe_sync(&kd->fe), 0);
	close(fd);
}

/* Each prefix of a message, with descriptors, and then the front-end is gone. */
static void a_truncated_message_leaks_nothing(void **state)
{
	struct {
		struct fe_hdr hdr;
		uint64_t p[5];
	} __attribute__((packed)) msg = {
		{ FE_ADD_MEM_REG, ACK, 40 },
		{ 0, 0, PAGE, PAGE, 0 },
	};
	struct kit_census before = kit_census();
	struct kit *kit = *state;
	int fd = memfd_create("cut", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, PAGE), 0);
	for (size_t len = 1; len < sizeof(msg); len++) {
		kit_bring_up(kit, &kit->victim, KIT_NEGOTIATED, 0);
		assert_int_equal(fe_send_raw(&kit->victim.fe, &msg, len, &fd, 1), 0);
		kit_pump(kit);
		kit_serve(kit, &kit->witness);
		kit_bring_down(kit, &kit->victim);
	}
	close(fd);
	kit_assert_census(before);
}

/* A header that promises a payload which never comes holds up nobody. */
static void a_front_end_that_stops_in_a_message_blocks_nobody(void **state)
{
	const struct fe_hdr hdr = { FE_SET_FEATURES, ACK, 8 };
	struct kit *kit = *state;

	kit_bring_up(kit, &kit->victim, KIT_NEGOTIATED, 0);
	assert_int_equal(fe_send_raw(&kit->victim.fe, &hdr, sizeof(hdr), NULL, 0), 0);
	for (int i = 0; i < 10; i++)
		kit_serve(kit, &kit->witness);
	assert_true(kit_is(&kit->victim, "up"));
}

/* Nobody reads the replies: requests are not read either, and none is lost. */
static void replies_that_are_not_fetched_block_nobody(void **state)
{
	const struct fe_hdr hdr = { FE_GET_FEATURES, FE_VERSION, 0 };
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	unsigned int sent = 0, idle = 0;
	struct fe_msg reply;

	kit_bring_up(kit, kd, KIT_NEGOTIATED, 0);
	while (idle < 20) {
		if (send(kd->fe.sock, &hdr, sizeof(hdr), MSG_DONTWAIT) == sizeof(hdr)) {
			sent++;
			idle = 0;
		} else {
			idle++;
		}
		kit_pump(kit);
	}
	assert_true(sent > 100);
	kit_serve(kit, &kit->witness);
	while (sent--)
		assert_int_equal(fe_recv(&kd->fe, &reply), 0);
	assert_int_equal(fe_sync(&kd->fe), 0);
}

static void repeated_messages_leak_nothing(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;
	uint64_t log[2] = { PAGE, 0 }, v = 1;
	int fd = memfd_create("log", MFD_CLOEXEC), event = eventfd(0, EFD_CLOEXEC);
	struct fe_msg reply;

	assert_int_equal(ftruncate(fd, PAGE), 0);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	for (int i = 0; i < 8; i++) {
		if (i == 1)
			before = kit_census();
		assert_int_equal(fe_send(&kd->fe, FE_SET_LOG_BASE, FE_VERSION, log, 16, &fd, 1), 0);
		assert_int_equal(fe_recv(&kd->fe, &reply), 0);
		assert_int_equal(reply.hdr.request, FE_SET_LOG_BASE);
		assert_int_equal(fe_request(&kd->fe, FE_SET_LOG_FD, NULL, 0, &event, 1), 0);
		/* Of the running ring and of one that is not set up. */
		for (uint32_t index = 0; index < 2; index++) {
			assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_KICK, index, event), 0);
			assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_CALL, index, event), 0);
			assert_int_equal(fe_vring_fd(&kd->fe, FE_SET_VRING_ERR, index, event), 0);
		}
		assert_int_equal(fe_request(&kd->fe, FE_SET_BACKEND_REQ_FD, NULL, 0,
					    &kd->fe.backend_sock, 1),
				 0);
		assert_int_equal(fe_vring_num(&kd->fe, 1, 128), 0);
		assert_int_equal(fe_set_u64(&kd->fe, FE_SET_STATUS, v), 0);
		assert_int_equal(fe_set_u64(&kd->fe, FE_SET_FEATURES, kd->fe.features), 0);
		assert_int_equal(fe_request(&kd->fe, FE_SET_OWNER, NULL, 0, NULL, 0), 0);
		kit_serve(kit, kd);
	}
	kit_assert_census(before);
	close(fd);
	close(event);
}

/* A message with descriptors where none belong, again and again, without the
 * connection being closed: CVE-2022-0669. */
static void surplus_descriptors_are_closed_at_once(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct kit_census before;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	before = kit_census();
	for (size_t i = 0; i < ARRAY_SIZE(bad_messages); i++) {
		const struct bad *b = &bad_messages[i];

		if (b->stage == KIT_CONNECTED || b->replies || b->stream || !b->nr_fds ||
		    b->request == FE_SET_BACKEND_REQ_FD)
			continue;
		send_bad(kit, b, ACK);
		expect_refusal(kit, b);
		kit_assert_census(before);
	}
	kit_serve(kit, kd);
}

/* The kernel drops descriptors that the process has no room for, and says so:
 * a message without all of its descriptors is not the one that was sent. */
static void a_message_whose_descriptors_were_lost_closes_the_connection(void **state)
{
	struct kit *kit = *state;
	struct kit_dev *kd = &kit->victim;
	struct fe_mem_single single = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC), next;
	struct rlimit limit, full;
	struct fe_region *r;

	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	r = &kd->fe.region[kd->region];
	single.region = (struct fe_mem_region){ r->gpa, r->size, r->uva, 0 };
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	next = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	close(next);
	full = limit;
	full.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
	/* Here the descriptor is optional. */
	assert_int_equal(fe_send(&kd->fe, FE_REM_MEM_REG, ACK, &single, sizeof(single), &fd, 1), 0);
	assert_true(fe_hung_up(&kd->fe));
	/* Nobody can connect while it lasts, and the listener does not spin. */
	kit_serve(kit, &kit->witness);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	close(fd);
	kit_bring_down(kit, kd);
	kit_bring_up(kit, kd, KIT_RUNNING, 0);
	kit_serve(kit, kd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_malformed_message_is_refused),
		TEST(any_size_and_any_number_of_descriptors_is_survived),
		TEST(a_wrong_version_closes_the_connection),
		TEST(a_reply_to_nothing_closes_the_connection),
		TEST(without_reply_ack_no_acknowledgement_is_sent),
		TEST(what_is_asked_is_answered),
		TEST(memory_for_what_is_in_flight_is_given_and_taken),
		TEST(only_devices_of_a_network_have_an_address_and_an_mtu),
		TEST(the_configuration_space_is_bounded),
		TEST(messages_may_come_byte_by_byte),
		TEST(descriptors_of_two_messages_are_not_mixed),
		TEST(a_truncated_message_leaks_nothing),
		TEST(a_front_end_that_stops_in_a_message_blocks_nobody),
		TEST(replies_that_are_not_fetched_block_nobody),
		TEST(repeated_messages_leak_nothing),
		TEST(surplus_descriptors_are_closed_at_once),
		TEST(a_message_whose_descriptors_were_lost_closes_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
