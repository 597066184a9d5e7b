/*
 * Log lines on stderr. Called from everywhere, from any thread; never from a
 * signal handler, and never blocks on a lock: a line is formatted on the stack
 * and leaves with one write(2).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/base.h"

#define LINE_LEN 2048
#define SITE_WINDOW_NS (5 * 1000000000ull)
#define SITE_LINES 10

static const char *const level_names[] = { "error", "warning", "info", "debug" };
static_assert(ARRAY_SIZE(level_names) == LOG_LEVEL_CNT, "a name per level");

static enum log_level threshold = LOG_LEVEL_INFO;

int log_level_parse(const char *name)
{
	for (int i = 0; i < LOG_LEVEL_CNT; i++) {
		if (!strcmp(name, level_names[i]))
			return i;
	}
	return -EINVAL;
}

void log_set_level(enum log_level level)
{
	write_once(&threshold, level);
}

bool log_enabled(enum log_level level)
{
	return level <= read_once(&threshold);
}

/* A name that a peer chose must not begin a line of its own or drive a terminal. */
static void blank_control_chars(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved_errno = errno;
	char line[LINE_LEN];
	ssize_t written;
	size_t len;
	va_list ap;

	len = (size_t)snprintf(line, sizeof(line), "%s: ", level_names[level]);
	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	blank_control_chars(line);
	len = strlen(line);
	line[len++] = '\n';

	/* Nobody to tell if stderr is gone. */
	written = write(STDERR_FILENO, line, len);
	(void)written;
	errno = saved_errno;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/*
 * Two threads at one site may both see a new window: only the one that moves
 * window_start_ns begins it. The counts are approximate then, which is enough.
 */
bool log_site_ok(struct log_site *site)
{
	uint64_t start = read_once(&site->window_start_ns);
	uint64_t now = now_ns();
	uint32_t nr_left_out;

	if (!start || now - start >= SITE_WINDOW_NS) {
		if (__atomic_compare_exchange_n(&site->window_start_ns, &start, now, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			write_once(&site->nr_logged, 0);
			nr_left_out =
				__atomic_exchange_n(&site->nr_suppressed, 0, __ATOMIC_RELAXED);
			if (nr_left_out)
				log_write(LOG_LEVEL_WARNING, "log: %u more lines like the next one",
					  nr_left_out);
		}
	}
	if (__atomic_fetch_add(&site->nr_logged, 1, __ATOMIC_RELAXED) < SITE_LINES)
		return true;
	__atomic_fetch_add(&site->nr_suppressed, 1, __ATOMIC_RELAXED);
	return false;
}
