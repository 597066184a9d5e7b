/*
 * Survive a peer that truncates memory it shares with us. Ranges are added and
 * removed by the control thread (gmem); the handler runs on whichever thread
 * touched the lost page. It never allocates, locks or logs.
 *
 * Theory of operation
 *
 * Slots live in chunks that are linked once and never freed, so the handler can
 * walk them at any time. A slot carries a sequence number, odd while the
 * control thread changes the slot. A handler that meets a slot under change
 * passes over it: the range it looks for is in use, so that its slot is not
 * being changed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/sigbus.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"

#define CHUNK_SLOTS 128

struct sigbus_range {
	uint32_t seq;
	uintptr_t base, end; /* end 0: free */
	bool *faulted;
};

struct chunk {
	struct sigbus_range slots[CHUNK_SLOTS];
	struct chunk *next;
};

static struct chunk first_chunk;
static struct sigaction previous;

/*
 * The acquire loads keep the fields between the two reads of seq. They pair
 * with the release stores in slot_set().
 */
static bool slot_read(const struct sigbus_range *slot, struct sigbus_range *copy)
{
	copy->seq = load_acquire(&slot->seq);
	if (copy->seq & 1)
		return false;
	copy->base = load_acquire(&slot->base);
	copy->end = load_acquire(&slot->end);
	copy->faulted = load_acquire(&slot->faulted);
	return read_once(&slot->seq) == copy->seq;
}

static void slot_set(struct sigbus_range *slot, uintptr_t base, uintptr_t end, bool *faulted)
{
	write_once(&slot->seq, slot->seq + 1);
	/* Release: whoever sees a new field also sees the odd number. */
	store_release(&slot->base, base);
	store_release(&slot->end, end);
	store_release(&slot->faulted, faulted);
	/* Release: whoever sees the even number sees all new fields. */
	store_release(&slot->seq, slot->seq + 1);
}

static bool find_range(uintptr_t addr, struct sigbus_range *found)
{
	for (struct chunk *c = &first_chunk; c; c = load_acquire(&c->next)) {
		for (size_t i = 0; i < CHUNK_SLOTS; i++) {
			if (slot_read(&c->slots[i], found) && addr >= found->base &&
			    addr < found->end)
				return true;
		}
	}
	return false;
}

/* The whole range: the peer may have cut off more, and a fault each is slow. */
static bool replace_by_zero_pages(const struct sigbus_range *range)
{
	/* The system call itself: libc's wrapper may be intercepted by a tool that
	 * is not ready for signal handlers. */
	return syscall(SYS_mmap, range->base, range->end - range->base, PROT_READ | PROT_WRITE,
		       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0) == (long)range->base;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	struct sigbus_range range;

	/* si_code <= 0: sent by kill(), si_addr has no meaning. */
	if (info->si_code > 0 && find_range((uintptr_t)info->si_addr, &range) &&
	    replace_by_zero_pages(&range)) {
		write_once(range.faulted, true);
		errno = saved_errno;
		return;
	}
	/* Ours no more: a real fault happens again on return, a sent one not. */
	sigaction(SIGBUS, &previous, NULL);
	if (info->si_code <= 0)
		raise(sig);
	errno = saved_errno;
}

int sigbus_init(void)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, &previous) < 0 ? -errno : 0;
}

/* A free slot, from a new chunk if need be. */
static struct sigbus_range *find_free(void)
{
	struct chunk *c = &first_chunk;

	for (;;) {
		for (size_t i = 0; i < CHUNK_SLOTS; i++) {
			if (!c->slots[i].end)
				return &c->slots[i];
		}
		if (!c->next)
			break;
		c = c->next;
	}
	struct chunk *fresh = calloc(1, sizeof(*fresh));

	if (!fresh)
		return NULL;
	/* Release: the handler finds the slots zeroed. */
	store_release(&c->next, fresh);
	return &fresh->slots[0];
}

struct sigbus_range *sigbus_guard(void *base, size_t len, bool *faulted)
{
	struct sigbus_range *slot;

	assert(len && faulted);
	slot = find_free();
	if (slot)
		slot_set(slot, (uintptr_t)base, (uintptr_t)base + len, faulted);
	return slot;
}

void sigbus_unguard(struct sigbus_range *r)
{
	if (r)
		slot_set(r, 0, 0, NULL);
}
