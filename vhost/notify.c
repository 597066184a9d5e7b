/*
 * One write to a descriptor that a front-end gave, for notifications and errors.
 * Called by loops (virtq.c) and by the control thread (vu_*.c). Never waits for
 * longer than two ticks of its guard.
 *
 * Theory of operation
 *
 * Such descriptors are set not to block (check_notifier() in vu_vring.c), but
 * that is a property of the open file, which the front-end shares: it can set it
 * back, and fill the eventfd or pipe. A write on a loop would then keep it from
 * all other rings for ever. For an eventfd there is no other way to write that
 * does not wait: it cannot be opened anew, and takes neither RWF_NOWAIT nor
 * MSG_DONTWAIT; looking with poll() before costs a system call for each
 * notification and leaves a gap.
 *
 * So a thread that writes has a timer that sends it a signal, whose handler is
 * there so that the signal interrupts a write that waits: it then fails with EINTR,
 * which one that does not wait never does. The timer is started by the first
 * write and stopped by a tick with no write before it, so that a busy thread
 * pays for one signal per tick, and an idle one for nothing. It ticks until it is
 * stopped: a tick between the start of notify_write() and the moment at which the
 * kernel begins to wait is followed by the next.
 *
 * What else a loop asks of the kernel is either not interrupted by signals, or
 * is asked again in the next turn.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "vhost/notify.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"
#include "core/log.h"

/* Ignored unless it has a handler; nobody else uses it. */
#define GUARD_SIGNAL SIGURG
#define TICK_NS 20000000

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* The thread's, and its signal handler's. */
static _Thread_local struct {
	bool exists, running, used;
	timer_t timer;
} guard;

static pthread_once_t handler_once = PTHREAD_ONCE_INIT;

static void set_timer(long ns)
{
	const struct timespec tick = { .tv_nsec = ns };
	const struct itimerspec its = { .it_interval = tick, .it_value = tick };

	timer_settime(guard.timer, 0, &its, NULL);
}

static void ticked(int signal)
{
	int error = errno;

	if (read_once(&guard.running) && !read_once(&guard.used)) {
		write_once(&guard.running, false);
		set_timer(0);
	}
	write_once(&guard.used, false);
	errno = error;
}

/* Without SA_RESTART: a write is to end. */
static void install_handler(void)
{
	struct sigaction sa = { .sa_handler = ticked };

	sigemptyset(&sa.sa_mask);
	sigaction(GUARD_SIGNAL, &sa, NULL);
}

static void mask_signal(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, GUARD_SIGNAL);
	pthread_sigmask(how, &set, NULL);
}

void notify_guard_begin(void)
{
	struct sigevent se = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = GUARD_SIGNAL };

	pthread_once(&handler_once, install_handler);
	se.sigev_notify_thread_id = gettid();
	mask_signal(SIG_UNBLOCK);
	guard.running = false;
	guard.used = false;
	guard.exists = !timer_create(CLOCK_MONOTONIC, &se, &guard.timer);
	if (!guard.exists)
		log_limited(LOG_LEVEL_WARNING, "notifications: no timer: %s", strerror(errno));
}

void notify_guard_end(void)
{
	if (!guard.exists)
		return;
	/* What is pending is taken when the thread goes back to user space. */
	timer_delete(guard.timer);
	guard.running = false;
	guard.exists = false;
}

static bool is_full(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 0;
}

static int guarded_write(int fd)
{
	static const uint64_t one = 1;

	/* In this order: a tick in between finds it used, and leaves the timer. */
	write_once(&guard.used, true);
	atomic_signal_fence(memory_order_seq_cst);
	if (!read_once(&guard.running) && guard.exists) {
		write_once(&guard.running, true);
		set_timer(TICK_NS);
	}
	return write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

int notify_write(int fd)
{
	int ret;

	if (likely(guard.exists))
		return guarded_write(fd);
	if (is_full(fd))
		return -EAGAIN;
	notify_guard_begin();
	ret = guarded_write(fd);
	notify_guard_end();
	return ret;
}
