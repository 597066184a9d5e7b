/*
 * Guest memory that is one piece for the driver and several for us, made one for
 * us too: its pages are mapped once more, side by side.
 *
 * Private to vhost/. Everything but gmem_join_origin() is the control thread's.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_VHOST_GMEM_JOIN_H
#define RINGBOLT_VHOST_GMEM_JOIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vhost/gmem.h"

/* A ring of 1024 entries, the most any VMM gives a guest, has areas of four
 * pages and an odd end. Each piece is one more mapping of this process, whose
 * number is limited and shared with the devices of other guests. */
#define GMEM_JOIN_PIECES_MAX 32

struct gmem_join;

/* What lies at host, all in one region. */
struct gmem_piece {
	const struct gmem_region *region;
	uint8_t *host;
	uint64_t len;
};

/*
 * Map nr pieces one behind the other. A fault in them sets *faulted, as in the
 * regions. -EXDEV: they meet elsewhere than at the border of a page;
 * -EOPNOTSUPP: they are parts of huge pages, which cannot be mapped; -ENOMEM or
 * other -errno of mremap().
 */
int gmem_join_create(const struct gmem_piece *pieces, unsigned int nr, bool *faulted,
		     struct gmem_join **join);
/* Nobody may use it any more. Accepts NULL. */
void gmem_join_destroy(struct gmem_join *join);
/* The first byte of the first piece. */
void *gmem_join_ptr(const struct gmem_join *join);
/* Do all its pieces belong to this memory? */
bool gmem_join_is_in(const struct gmem_join *join, const struct gmem *gm);
/* The place in a region that p is another mapping of, with *len cut to its
 * piece; p itself if it is not in here. Accepts NULL. Any thread. */
const void *gmem_join_origin(const struct gmem_join *join, const void *p, uint64_t *len);

#endif
