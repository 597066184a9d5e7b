/*
 * The dirty log of a live migration. Created by the log requests of the
 * protocol, marked by rings while VHOST_F_LOG_ALL is on. Never allocates or
 * waits in dirty_log_mark().
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/sigbus.h"

/* vhost-user, "Migration": the log's page size, whatever the guest's is. */
#define LOG_PAGE_SHIFT 12

struct dirty_log {
	uint8_t *bits; /* one a page, lowest address in bit 0 */
	uint64_t nr_pages;
	void *map;
	size_t map_len;
	struct sigbus_range *guard;
	bool faulted; /* its file was truncated: the front-end lost its own log */
};

int dirty_log_create(int fd, uint64_t size, uint64_t offset, struct dirty_log **out)
{
	uint64_t end, start, page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	struct dirty_log *log;
	struct stat st;
	int ret = -EINVAL;

	if (!size || size > UINT64_MAX / 8 || add_overflows(offset, size, &end) ||
	    end > INT64_MAX - page_size)
		goto err_close;
	if (fstat(fd, &st) < 0 || end > (uint64_t)st.st_size)
		goto err_close;
	log = calloc(1, sizeof(*log));
	if (!log) {
		ret = -ENOMEM;
		goto err_close;
	}
	start = round_down(offset, page_size);
	log->map_len = round_up(end, page_size) - start;
	log->map = mmap(NULL, log->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
	if (log->map == MAP_FAILED) {
		ret = -errno;
		goto err_free;
	}
	log->guard = sigbus_guard(log->map, log->map_len, &log->faulted);
	if (!log->guard) {
		ret = -ENOMEM;
		goto err_unmap;
	}
	log->bits = (uint8_t *)log->map + (offset - start);
	log->nr_pages = size * 8;
	close(fd);
	*out = log;
	return 0;

err_unmap:
	munmap(log->map, log->map_len);
err_free:
	free(log);
err_close:
	close(fd);
	return ret;
}

void dirty_log_destroy(struct dirty_log *log)
{
	if (!log)
		return;
	sigbus_unguard(log->guard);
	munmap(log->map, log->map_len);
	free(log);
}

void dirty_log_mark(struct dirty_log *log, gpa_t addr, uint64_t len)
{
	uint64_t page, page_end;

	if (!len)
		return;
	page = addr.v >> LOG_PAGE_SHIFT;
	page_end = min_u64(((addr.v + len - 1) >> LOG_PAGE_SHIFT) + 1, log->nr_pages);
	while (page < page_end) {
		uint64_t nr = min_u64(page_end - page, 8 - page % 8);
		uint8_t bits = (uint8_t)(((1u << nr) - 1) << page % 8);

		/*
		 * Always, even if the bits look set: a look before our data are
		 * visible could miss that the front-end has just taken them.
		 * Release: the data are written before their page counts as dirty.
		 * Pairs with the front-end's atomic exchange of the log.
		 */
		__atomic_fetch_or(&log->bits[page / 8], bits, __ATOMIC_RELEASE);
		page += nr;
	}
}
