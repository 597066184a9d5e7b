/*
 * Token buckets. Called by sw_filter.c for every burst of a port with a limit, and
 * by the control thread to set one. It reads no clock and knows nothing of frames.
 *
 * Theory of operation: limit.h.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "virtio-net/limit.h"

#include <sched.h>

#include "core/atomic.h"

#define SECOND_NS 1000000000ull
#define PERIODS_PER_S 50000 /* how often tokens come, if there are so many */
#define IDLE_NS (10 * SECOND_NS) /* after that any bucket counts as full */
#define TRIES 64 /* of a loop, before it goes into debt */

static bool take_try(struct limit *l)
{
	/* Acquire: pairs with the release in put_back(). */
	return !read_once(&l->taken) && !__atomic_exchange_n(&l->taken, 1, __ATOMIC_ACQUIRE);
}

static bool take_soon(struct limit *l)
{
	for (int i = 0; i < TRIES; i++) {
		if (take_try(l))
			return true;
		cpu_relax();
	}
	return false;
}

static void put_back(struct limit *l)
{
	store_release(&l->taken, 0);
}

static void add_debt(struct limit *l, uint64_t tokens)
{
	__atomic_fetch_add(&l->debt, tokens, __ATOMIC_RELAXED);
}

void limit_set(struct limit *l, uint64_t rate, uint64_t burst, uint64_t burst_min)
{
	uint64_t tokens = max_u64(rate / PERIODS_PER_S, 1);

	assert(rate <= LIMIT_RATE_MAX && burst <= LIMIT_BURST_MAX);
	if (l->rate == rate && l->burst == burst)
		return;
	while (!take_soon(l))
		sched_yield();
	l->rate = rate;
	l->burst = burst;
	/* rte_meter_srtcm_profile_config() counts in cycles, whose length only DPDK
	 * knows once it was started; ours are nanoseconds of the caller's clock. */
	l->profile = (struct rte_meter_srtcm_profile){
		.cbs = burst ? burst : max_u64(rate / 100, burst_min),
		.cir_period = rate ? tokens * SECOND_NS / rate : SECOND_NS,
		.cir_bytes_per_period = tokens,
	};
	l->meter = (struct rte_meter_srtcm){ .tc = l->profile.cbs };
	__atomic_store_n(&l->debt, 0, __ATOMIC_RELAXED);
	put_back(l);
}

/* Let the tokens come that have become due. */
static uint64_t refill(struct limit *l, uint64_t now_ns)
{
	struct rte_meter_srtcm *m = &l->meter;

	/* Another loop's clock was ahead of ours. */
	now_ns = max_u64(now_ns, m->time);
	if (now_ns - m->time > IDLE_NS) {
		m->time = now_ns;
		m->tc = l->profile.cbs;
	}
	rte_meter_srtcm_color_blind_check(m, &l->profile, now_ns, 0);
	return now_ns;
}

static void pay_debt(struct limit *l)
{
	uint64_t debt = __atomic_exchange_n(&l->debt, 0, __ATOMIC_RELAXED);
	uint64_t paid = min_u64(debt, l->meter.tc);

	l->meter.tc -= paid;
	if (debt > paid)
		add_debt(l, debt - paid);
}

static uint32_t take_each(struct limit *l, uint64_t now_ns, const uint32_t *cost, uint32_t frames)
{
	uint32_t pass = 0;

	for (uint32_t left = frames; left; left &= left - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(left);
		uint32_t now = (uint32_t)min_u64(cost[i], l->profile.cbs);

		if (rte_meter_srtcm_color_blind_check(&l->meter, &l->profile, now_ns, now) !=
		    RTE_COLOR_GREEN)
			continue;
		pass |= 1u << i;
		if (cost[i] > now)
			add_debt(l, cost[i] - now);
	}
	return pass;
}

static uint64_t sum(const uint32_t *cost, uint32_t frames)
{
	uint64_t tokens = 0;

	for (; frames; frames &= frames - 1)
		tokens += cost[__builtin_ctz(frames)];
	return tokens;
}

uint32_t limit_take(struct limit *l, uint64_t now_ns, const uint32_t *cost, uint32_t frames)
{
	uint32_t pass;

	if (!take_soon(l)) {
		add_debt(l, sum(cost, frames));
		return frames;
	}
	if (l->rate) {
		now_ns = refill(l, now_ns);
		if (read_once(&l->debt))
			pay_debt(l);
		pass = take_each(l, now_ns, cost, frames);
	} else {
		pass = frames;
	}
	put_back(l);
	return pass;
}
