/*
 * pcapng blocks, read back by libpcap and by the draft's own rules: every block
 * tells its length at both ends, nothing that does not fit leaves a trace.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base.h"
#include "virtio-net/pcapng.h"

#define BLOCK_PACKET 6

static uint32_t u32_at(const struct pcapng_buf *b, size_t at)
{
	uint32_t v;

	assert_true(at + sizeof(v) <= b->len);
	memcpy(&v, b->data + at, sizeof(v));
	return v;
}

/* Every block from its type to its second length; their number. */
static unsigned int walk(const struct pcapng_buf *b)
{
	unsigned int nr = 0;
	uint32_t len;

	for (size_t at = 0; at < b->len; at += len, nr++) {
		len = u32_at(b, at + 4);
		assert_true(len >= 12 && !(len % 4) && at + len <= b->len);
		assert_int_equal(u32_at(b, at + len - 4), len);
	}
	return nr;
}

static struct pcapng_buf new_buf(size_t size)
{
	struct pcapng_buf b = { .data = malloc(size ? size : 1), .size = size };

	assert_non_null(b.data);
	return b;
}

static pcap_t *read_back(const struct pcapng_buf *b)
{
	char path[] = "/tmp/rb-pcapng-XXXXXX", err[PCAP_ERRBUF_SIZE];
	int fd = mkstemp(path);
	pcap_t *p;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, b->data, b->len), (ssize_t)b->len);
	close(fd);
	p = pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, err);
	unlink(path);
	if (!p)
		fail_msg("%s", err);
	return p;
}

static void libpcap_reads_what_was_written(void **state)
{
	static const uint32_t lens[] = { 60, 61, 62, 63, 64, 1514, 65535 };
	const uint64_t base = 1700000000123456789ull;
	struct pcapng_buf b = new_buf(1 << 20);
	static uint8_t bytes[65536];
	struct pcap_pkthdr *h;
	const u_char *data;
	pcap_t *p;

	assert_true(pcapng_begin(&b, "program", "vm1", "tcp port 80", 262144));
	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		struct pcapng_packet packet = {
			.data = bytes,
			.cap_len = lens[i],
			.orig_len = lens[i] + i,
			.time_ns = base + i,
			.inbound = i & 1,
			.dropped = i,
		};

		memset(bytes, (int)i + 1, sizeof(bytes));
		assert_true(pcapng_put(&b, &packet));
	}
	assert_true(pcapng_end(&b, base, 100, 7));
	assert_int_equal(walk(&b), ARRAY_SIZE(lens) + 3);

	p = read_back(&b);
	assert_int_equal(pcap_datalink(p), DLT_EN10MB);
	assert_int_equal(pcap_snapshot(p), 262144);
	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		assert_int_equal(pcap_next_ex(p, &h, &data), 1);
		assert_int_equal(h->caplen, lens[i]);
		assert_int_equal(h->len, lens[i] + i);
		assert_int_equal((uint64_t)h->ts.tv_sec * 1000000000 + (uint64_t)h->ts.tv_usec,
				 base + i);
		assert_int_equal(data[0], i + 1);
		assert_int_equal(data[lens[i] - 1], i + 1);
	}
	assert_int_equal(pcap_next_ex(p, &h, &data), PCAP_ERROR_BREAK);
	pcap_close(p);
	free(b.data);
}

static void names_and_filters_of_any_length(void **state)
{
	char text[3000];
	struct pcapng_buf b;

	for (size_t len = 0; len < sizeof(text); len += 1 + len / 4) {
		memset(text, 'x', len);
		text[len] = '\0';
		b = new_buf(16384);
		assert_true(pcapng_begin(&b, text, text, text, 0));
		assert_int_equal(walk(&b), 2);
		pcap_close(read_back(&b));
		free(b.data);
	}
	b = new_buf(16384);
	assert_true(pcapng_begin(&b, "program", NULL, NULL, 0));
	assert_int_equal(walk(&b), 2);
	free(b.data);
}

/* A buffer that is too small by one byte, or by any number. */
static void what_does_not_fit_leaves_no_trace(void **state)
{
	const uint8_t bytes[99] = { 1 };
	const struct pcapng_packet packet = {
		.data = bytes,
		.cap_len = 99,
		.orig_len = 99,
		.dropped = 1,
	};
	struct pcapng_buf b = new_buf(4096), small;
	size_t begin, put, end;

	assert_true(pcapng_begin(&b, "program", "vm1", "udp", 0));
	begin = b.len;
	assert_true(pcapng_put(&b, &packet));
	put = b.len - begin;
	assert_true(put <= 99 + PCAPNG_PACKET_OVERHEAD);
	assert_true(pcapng_end(&b, 0, 1, 1));
	end = b.len - begin - put;
	free(b.data);
	for (size_t size = 0; size < begin + put + end; size++) {
		small = new_buf(size);
		assert_int_equal(pcapng_begin(&small, "program", "vm1", "udp", 0), size >= begin);
		if (size < begin)
			assert_int_equal(small.len, 0);
		else
			assert_int_equal(pcapng_put(&small, &packet), size >= begin + put);
		if (size >= begin + put)
			assert_false(pcapng_end(&small, 0, 1, 1));
		walk(&small);
		free(small.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(libpcap_reads_what_was_written),
		cmocka_unit_test(names_and_filters_of_any_length),
		cmocka_unit_test(what_does_not_fit_leaves_no_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
