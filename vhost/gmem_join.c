/*
 * Pieces of guest memory mapped side by side. Called for the areas of rings
 * behind a virtual IOMMU (vu_areas.c), and by the dirty log, which wants to know
 * what a pointer stands for. Never changes a region, and keeps none: whoever owns
 * the join lets go of it before its regions go.
 *
 * mremap() with an old size of 0 maps shared pages a second time and leaves the
 * first mapping alone (mremap(2)), so the descriptor the region came with need
 * not be kept open for this.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/gmem_join.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/sigbus.h"

struct gmem_join {
	uint8_t *map; /* whole pages, map_len bytes */
	size_t map_len;
	uint8_t *ptr; /* the first byte of the first piece */
	struct sigbus_range *guard;
	unsigned int nr;
	struct gmem_piece piece[GMEM_JOIN_PIECES_MAX];
};

/* Do they fill pages where they meet, and can such pages be mapped? */
static int check(const struct gmem_piece *pieces, unsigned int nr, size_t page)
{
	for (unsigned int i = 0; i < nr; i++) {
		uintptr_t start = (uintptr_t)pieces[i].host, end = start + pieces[i].len;

		if ((i && start % page) || (i + 1 < nr && end % page))
			return -EXDEV;
		if (pieces[i].region->page_size != page)
			return -EOPNOTSUPP;
	}
	return 0;
}

/* Map the pages of each piece into the space that is reserved for them. */
static int map_pieces(const struct gmem_join *j, size_t page)
{
	uint8_t *to = j->map;

	for (unsigned int i = 0; i < j->nr; i++) {
		const struct gmem_piece *p = &j->piece[i];
		uint8_t *from = (uint8_t *)round_down((uintptr_t)p->host, page);
		size_t len = round_up((uintptr_t)p->host + p->len, page) - (uintptr_t)from;

		if (mremap(from, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
			return -errno;
		to += len;
	}
	return 0;
}

int gmem_join_create(const struct gmem_piece *pieces, unsigned int nr, bool *faulted,
		     struct gmem_join **out)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (uintptr_t)pieces[0].host % page;
	struct gmem_join *j;
	int ret;

	assert(nr && nr <= GMEM_JOIN_PIECES_MAX);
	ret = check(pieces, nr, page);
	if (ret < 0)
		return ret;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		j->piece[i] = pieces[i];
		len += pieces[i].len;
	}
	j->map_len = round_up(len, page);
	j->map = mmap(NULL, j->map_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		      0);
	if (j->map == MAP_FAILED) {
		ret = -errno;
		goto err_free;
	}
	ret = map_pieces(j, page);
	if (ret < 0)
		goto err_unmap;
	madvise(j->map, j->map_len, MADV_DONTDUMP);
	ret = -ENOMEM;
	j->guard = sigbus_guard(j->map, j->map_len, faulted);
	if (!j->guard)
		goto err_unmap;
	j->ptr = j->map + (uintptr_t)pieces[0].host % page;
	*out = j;
	return 0;

err_unmap:
	munmap(j->map, j->map_len);
err_free:
	free(j);
	return ret;
}

void gmem_join_destroy(struct gmem_join *j)
{
	if (!j)
		return;
	sigbus_unguard(j->guard);
	munmap(j->map, j->map_len);
	free(j);
}

void *gmem_join_ptr(const struct gmem_join *j)
{
	return j->ptr;
}

bool gmem_join_is_in(const struct gmem_join *j, const struct gmem *gm)
{
	for (unsigned int i = 0; i < j->nr; i++) {
		uint64_t len = j->piece[i].len;
		gpa_t at;

		if (!gmem_gpa_of(gm, j->piece[i].host, &len, &at))
			return false;
	}
	return true;
}

const void *gmem_join_origin(const struct gmem_join *j, const void *p, uint64_t *len)
{
	const uint8_t *byte = p;
	uint64_t off;

	if (!j || byte < j->ptr || byte >= j->map + j->map_len)
		return p;
	off = (uint64_t)(byte - j->ptr);
	for (unsigned int i = 0; i < j->nr; i++) {
		const struct gmem_piece *piece = &j->piece[i];

		if (off < piece->len) {
			*len = min_u64(*len, piece->len - off);
			return piece->host + off;
		}
		off -= piece->len;
	}
	return p;
}
