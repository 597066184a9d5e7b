/*
 * pcapng blocks, in this machine's byte order, which the first block tells. Called
 * by capture.c on the control thread. Allocates nothing and opens nothing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/pcapng.h"

#include <assert.h>
#include <string.h>

#include "core/base.h"

/* draft-ietf-opsawg-pcapng, "Block Types" and the options of each. */
#define BLOCK_SECTION 0x0a0d0d0a
#define BLOCK_INTERFACE 1
#define BLOCK_STATISTICS 5
#define BLOCK_PACKET 6

#define BYTE_ORDER_MAGIC 0x1a2b3c4d
#define VERSION_MAJOR 1
#define LINKTYPE_ETHERNET 1

#define OPT_END 0
#define OPT_SECTION_USERAPPL 4
#define OPT_INTERFACE_NAME 2
#define OPT_INTERFACE_TSRESOL 9
#define OPT_INTERFACE_FILTER 11
#define OPT_PACKET_FLAGS 2
#define OPT_PACKET_DROPCOUNT 4
#define OPT_STATISTICS_RECEIVED 4
#define OPT_STATISTICS_DROPPED 5

#define FLAG_INBOUND 1
#define FLAG_OUTBOUND 2
#define TSRESOL_NS 9 /* 10^-9 seconds */
#define FILTER_LIBPCAP 0 /* a string as libpcap takes it */

/* A block being written; failed: it does not fit, and nothing of it stays. */
struct block {
	struct pcapng_buf *b;
	size_t begin;
	bool failed;
};

static void put_bytes(struct block *k, const void *bytes, size_t n)
{
	static const uint8_t zeroes[3];
	size_t pad = round_up(n, 4) - n;

	if (k->failed || k->b->size - k->b->len < n + pad) {
		k->failed = true;
		return;
	}
	if (n)
		memcpy(k->b->data + k->b->len, bytes, n);
	memcpy(k->b->data + k->b->len + n, zeroes, pad);
	k->b->len += n + pad;
}

static void put_u32(struct block *k, uint32_t v)
{
	put_bytes(k, &v, sizeof(v));
}

/* "Timestamps": the upper half comes first, in either byte order. */
static void put_time(struct block *k, uint64_t ns)
{
	put_u32(k, (uint32_t)(ns >> 32));
	put_u32(k, (uint32_t)ns);
}

static void put_option(struct block *k, uint16_t code, const void *value, size_t len)
{
	const uint16_t head[2] = { code, (uint16_t)len };

	put_bytes(k, head, sizeof(head));
	put_bytes(k, value, len);
}

static void put_text(struct block *k, uint16_t code, const char *text)
{
	if (text)
		put_option(k, code, text, min_u64(strlen(text), UINT16_MAX));
}

static struct block begin_block(struct pcapng_buf *b, uint32_t type)
{
	struct block k = { .b = b, .begin = b->len };

	put_u32(&k, type);
	put_u32(&k, 0); /* its length, when that is known */
	return k;
}

static bool end_block(struct block *k)
{
	uint32_t len = (uint32_t)(k->b->len - k->begin) + sizeof(len);

	put_u32(k, len);
	if (k->failed) {
		k->b->len = k->begin;
		return false;
	}
	memcpy(k->b->data + k->begin + 4, &len, sizeof(len));
	return true;
}

static bool put_section(struct pcapng_buf *b, const char *program)
{
	static const uint16_t version[2] = { VERSION_MAJOR, 0 };
	static const uint64_t unknown_len = UINT64_MAX;
	struct block k = begin_block(b, BLOCK_SECTION);

	put_u32(&k, BYTE_ORDER_MAGIC);
	put_bytes(&k, version, sizeof(version));
	put_bytes(&k, &unknown_len, sizeof(unknown_len));
	put_text(&k, OPT_SECTION_USERAPPL, program);
	put_option(&k, OPT_END, NULL, 0);
	return end_block(&k);
}

static void put_filter(struct block *k, const char *filter)
{
	uint8_t value[1024] = { FILTER_LIBPCAP };
	size_t len = filter ? min_u64(strlen(filter), sizeof(value) - 1) : 0;

	if (!len)
		return;
	memcpy(value + 1, filter, len);
	put_option(k, OPT_INTERFACE_FILTER, value, len + 1);
}

bool pcapng_begin(struct pcapng_buf *b, const char *program, const char *interface,
		  const char *filter, uint32_t snaplen)
{
	static const uint16_t link[2] = { LINKTYPE_ETHERNET, 0 };
	static const uint8_t tsresol = TSRESOL_NS;
	size_t before = b->len;
	struct block k;

	if (!put_section(b, program))
		return false;
	k = begin_block(b, BLOCK_INTERFACE);
	put_bytes(&k, link, sizeof(link));
	put_u32(&k, snaplen);
	put_text(&k, OPT_INTERFACE_NAME, interface);
	put_option(&k, OPT_INTERFACE_TSRESOL, &tsresol, sizeof(tsresol));
	put_filter(&k, filter);
	put_option(&k, OPT_END, NULL, 0);
	if (end_block(&k))
		return true;
	b->len = before;
	return false;
}

bool pcapng_put(struct pcapng_buf *b, const struct pcapng_packet *p)
{
	const uint32_t flags = p->inbound ? FLAG_INBOUND : FLAG_OUTBOUND;
	struct block k = begin_block(b, BLOCK_PACKET);

	put_u32(&k, 0); /* the interface */
	put_time(&k, p->time_ns);
	put_u32(&k, p->cap_len);
	put_u32(&k, p->orig_len);
	put_bytes(&k, p->data, p->cap_len);
	put_option(&k, OPT_PACKET_FLAGS, &flags, sizeof(flags));
	if (p->dropped)
		put_option(&k, OPT_PACKET_DROPCOUNT, &p->dropped, sizeof(p->dropped));
	put_option(&k, OPT_END, NULL, 0);
	return end_block(&k);
}

bool pcapng_end(struct pcapng_buf *b, uint64_t time_ns, uint64_t received, uint64_t dropped)
{
	struct block k = begin_block(b, BLOCK_STATISTICS);

	put_u32(&k, 0); /* the interface */
	put_time(&k, time_ns);
	put_option(&k, OPT_STATISTICS_RECEIVED, &received, sizeof(received));
	put_option(&k, OPT_STATISTICS_DROPPED, &dropped, sizeof(dropped));
	put_option(&k, OPT_END, NULL, 0);
	return end_block(&k);
}
