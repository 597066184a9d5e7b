/*
 * "null:SIZE": reads are not filled in, writes are forgotten. For measuring
 * what the rings and the device cost by themselves. Used through store.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>

#include "virtio-blk/store.h"

static int null_open(const struct store_conf *conf, const char *arg, struct store **store,
		     char *err)
{
	uint32_t block_size = conf->block_size ? conf->block_size : 512;
	struct store *s;
	uint64_t size;
	int ret;

	ret = store_parse_size(conf->spec, arg, block_size, &size, err);
	if (ret < 0)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return store_fail(err, -ENOMEM, "store '%s': out of memory", conf->spec);
	s->info = (struct store_info){
		.size = size,
		.block_size = block_size,
		.physical_block_size = block_size,
		.discard_granularity = block_size,
		.range_max_len = 1u << 31,
		.range_max_nr = 64,
		.caps = STORE_CAN_RESIZE,
	};
	if (!conf->read_only)
		s->info.caps |= STORE_CAN_WRITE | STORE_CAN_DISCARD | STORE_CAN_WRITE_ZEROES |
				STORE_CAN_SECURE_ERASE;
	*store = s;
	return 0;
}

static void null_close(struct store *store)
{
	store_closed(store);
}

static int null_chan_open(struct store *store, struct loop *loop, uint32_t depth,
			  struct store_chan **chan)
{
	struct store_chan *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->store = store;
	*chan = c;
	return 0;
}

static void null_chan_close(struct store_chan *chan)
{
	free(chan);
}

static int null_submit(struct store_chan *chan, struct store_req *req)
{
	return 0;
}

static int null_resize(struct store *store, uint64_t size, char *err)
{
	if (size)
		write_once(&store->info.size, size);
	return 0;
}

const struct store_ops store_null = {
	.scheme = "null",
	.immediate = true,
	.open = null_open,
	.close = null_close,
	.chan_open = null_chan_open,
	.chan_close = null_chan_close,
	.submit = null_submit,
	.resize = null_resize,
};
