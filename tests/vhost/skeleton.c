/*
 * The smallest device type: each chain's device-readable bytes are copied to
 * its device-writable bytes, as many as fit. Created by vu_dev_create() with
 * the configuration of skel_conf_init(). Never waits and keeps no chain beyond
 * a turn; a device that does keeps its requests in an array indexed by the
 * chain's id, allocated in vq_setup().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/vhost/skeleton.h"

#include <errno.h>
#include <string.h>

/* Chains of one turn: other rings of the loop get theirs. */
#define BUDGET 32

static uint64_t features(struct vu_dev *dev)
{
	return 1ull << VIRTIO_F_RING_INDIRECT_DESC | 1ull << VIRTIO_F_RING_EVENT_IDX |
	       1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_ACCESS_PLATFORM;
}

static void get_config(struct vu_dev *dev, void *buf, uint32_t off, uint32_t len)
{
	const struct skel *skel = vu_dev_priv(dev);

	memcpy(buf, (const char *)&skel->config + off, len);
}

static int set_config(struct vu_dev *dev, const void *buf, uint32_t off, uint32_t len,
		      bool migration)
{
	struct skel *skel = vu_dev_priv(dev);

	/* The destination of a migration restores read-only fields too. */
	if (!migration && off < offsetof(struct skel_config, colour))
		return -EPERM;
	memcpy((char *)&skel->config + off, buf, len);
	return 0;
}

/* Copy as much as fits; the bytes written. */
static uint32_t echo(struct virtq *vq, const struct virtq_chain *c)
{
	const struct iovec *out = c->iov, *in = c->iov + c->out_cnt;
	const struct iovec *out_end = in, *in_end = in + c->in_cnt;
	size_t out_off = 0, in_off = 0, written = 0;

	while (out < out_end && in < in_end) {
		size_t n = min_u64(out->iov_len - out_off, in->iov_len - in_off);

		memcpy((char *)in->iov_base + in_off, (char *)out->iov_base + out_off, n);
		virtq_log_write(vq, (char *)in->iov_base + in_off, n);
		out_off += n;
		in_off += n;
		written += n;
		if (out_off == out->iov_len) {
			out++;
			out_off = 0;
		}
		if (in_off == in->iov_len) {
			in++;
			in_off = 0;
		}
	}
	return (uint32_t)written;
}

static unsigned int poll(struct virtq *vq)
{
	struct virtq_chain c;
	unsigned int n = 0;

	while (n < BUDGET && virtq_pop(vq, &c)) {
		virtq_push(vq, c.id, c.error ? 0 : echo(vq, &c));
		n++;
	}
	virtq_flush(vq);
	return n;
}

const struct vu_ops skel_ops = {
	.type = "skeleton",
	.features = features,
	.get_config = get_config,
	.set_config = set_config,
	.holds_chains = true,
	.vq_poll = poll,
};

void skel_conf_init(struct vu_conf *conf, struct skel *skel)
{
	skel->config.greeting = cpu_to_le32(SKEL_GREETING);
	skel->config.colour = cpu_to_le32(0);
	*conf = (struct vu_conf){
		.fd = -1,
		.queues = 2,
		.config_len = sizeof(struct skel_config),
		.feature_mask = ~0ull,
		.ops = &skel_ops,
		.priv = skel,
	};
}
