/*
 * The few memory-ordering words this project uses. Every access to memory that
 * another thread, a guest or a front-end may write goes through one of these.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_ATOMIC_H
#define RINGBOLT_CORE_ATOMIC_H

#include <stdint.h>

/* One access, never torn, never repeated by the compiler; orders nothing. */
#define read_once(ptr) __atomic_load_n((ptr), __ATOMIC_RELAXED)
#define write_once(ptr, val) __atomic_store_n((ptr), (val), __ATOMIC_RELAXED)

/* What was written before the paired store_release is visible after this. */
#define load_acquire(ptr) __atomic_load_n((ptr), __ATOMIC_ACQUIRE)
#define store_release(ptr, val) __atomic_store_n((ptr), (val), __ATOMIC_RELEASE)

/*
 * Orders earlier stores before later loads, which acquire and release do not.
 * At most three uses in the tree: ThreadSanitizer cannot see fences.
 */
static inline void store_load_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/*
 * A counter with one writer: the writer adds without a locked instruction, any
 * thread may read a recent value with counter_read().
 */
static inline void counter_add(uint64_t *c, uint64_t n)
{
	write_once(c, read_once(c) + n);
}

static inline uint64_t counter_read(const uint64_t *c)
{
	return read_once(c);
}

/* Tell the core that this is a spin loop. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
