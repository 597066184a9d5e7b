/*
 * The memory that says what is in flight, which the front-end keeps for the back-end
 * that comes after this one. vhost-user, "Inflight I/O tracking". Called by the
 * request table and by rings that start; what is in that memory is virtq_track.c's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "vhost/virtq_track.h"
#include "vhost/vu_internal.h"

/* Its numbers are read and written as they lie there. */
#define OFFSET_ALIGN 8

static uint64_t region_len(const struct vu_dev *dev, unsigned int queues, uint32_t size)
{
	return queues * virtq_track_len(vu_is_packed(dev), size);
}

static int check(const struct vu_dev *dev, const struct vu_inflight *i)
{
	if (i->num_queues && i->num_queues <= dev->queues &&
	    !virtq_size_check(vu_is_packed(dev), i->queue_size))
		return 0;
	log_limited(LOG_LEVEL_WARNING, "%s: chains in flight of %u queues of %u", dev->name,
		    i->num_queues, i->queue_size);
	return -EINVAL;
}

/* Of a size that nobody changes any more. */
static int make_file(uint64_t len)
{
	int fd = memfd_create("ringbolt-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING), res;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		res = -errno;
		close(fd);
		return res;
	}
	return fd;
}

/* The front-end's from now on: it says SET_INFLIGHT_FD when it wants it used. */
int vu_get_inflight_fd(struct vu_dev *dev, struct vu_msg *msg)
{
	struct vu_inflight *i = &msg->payload.inflight;
	int ret, fd;

	ret = check(dev, i);
	if (ret < 0)
		return ret;
	i->mmap_offset = 0;
	i->mmap_size = region_len(dev, i->num_queues, i->queue_size);
	fd = make_file(i->mmap_size);
	if (fd < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: no memory for what is in flight: %s", dev->name,
			    strerror(-fd));
		/* A front-end goes on without. */
		i->mmap_size = 0;
	}
	fd_replace(&dev->chan.tx_fd, fd < 0 ? -1 : fd);
	msg->hdr.size = sizeof(*i);
	return VU_REPLY;
}

int vu_set_inflight_fd(struct vu_dev *dev, struct vu_msg *msg)
{
	const struct vu_inflight *i = &msg->payload.inflight;
	struct gmem_region *r;
	int ret;

	ret = check(dev, i);
	if (ret < 0)
		return ret;
	if (dev->nr_running) {
		log_limited(LOG_LEVEL_WARNING, "%s: SET_INFLIGHT_FD while rings run", dev->name);
		return -EBUSY;
	}
	if (i->mmap_offset % OFFSET_ALIGN ||
	    i->mmap_size < region_len(dev, i->num_queues, i->queue_size)) {
		log_limited(LOG_LEVEL_WARNING,
			    "%s: chains in flight of %u queues of %u in 0x%llx bytes at 0x%llx",
			    dev->name, i->num_queues, i->queue_size,
			    (unsigned long long)i->mmap_size, (unsigned long long)i->mmap_offset);
		return -EINVAL;
	}
	ret = gmem_region_map(vu_msg_take_fd(msg, 0), gpa(0), uva(0), i->mmap_size, i->mmap_offset,
			      &dev->faulted, &r);
	if (ret < 0) {
		log_limited(LOG_LEVEL_WARNING, "%s: chains in flight in 0x%llx bytes at 0x%llx: %s",
			    dev->name, (unsigned long long)i->mmap_size,
			    (unsigned long long)i->mmap_offset, strerror(-ret));
		return ret;
	}
	vu_inflight_forget(dev);
	dev->tracked = (struct vu_tracked){ r, i->num_queues, i->queue_size };
	return VU_DONE;
}

const char *vu_inflight_conf(const struct vu_ring *vr, struct virtq_conf *conf)
{
	const struct vu_dev *dev = vr->dev;
	const struct vu_tracked *t = &dev->tracked;

	conf->inflight = NULL;
	if (!t->r || vr->index >= t->queues)
		return NULL;
	/* The ring kind may be another one than when that was said. */
	if (vr->size > t->size || region_len(dev, t->queues, t->size) > t->r->size)
		return "what is in flight has no room where it is to be written";
	conf->inflight = t->r->host + region_len(dev, vr->index, t->size);
	conf->inflight_num = t->size;
	return NULL;
}

void vu_inflight_reset(struct vu_dev *dev)
{
	const struct vu_tracked *t = &dev->tracked;

	/* Not all of a file that may be as large as it likes: what the larger kind of
	 * ring would use. */
	if (t->r)
		memset(t->r->host, 0,
		       min_u64(t->r->size, t->queues * virtq_track_len(true, t->size)));
}

void vu_inflight_forget(struct vu_dev *dev)
{
	gmem_region_put(dev->tracked.r);
	dev->tracked = (struct vu_tracked){ 0 };
}
