/*
 * Log lines on stderr: "LEVEL: object: message". Logged once, where a thing is
 * detected, with the object's name and the values.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_LOG_H
#define RINGBOLT_CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_CNT,
};

/* State of one rate-limited call site: at most ten lines in five seconds, then
 * a line that says how many were left out. Any thread. */
struct log_site {
	uint64_t window_start_ns;
	uint32_t nr_logged;
	uint32_t nr_suppressed;
};

/* "error", "warning", "info", "debug" to the level; -EINVAL otherwise. */
int log_level_parse(const char *name);

/* Before any other thread exists. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* One write(2) a line, so lines of several threads do not mix. Any thread. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* True if this call site may log now. */
bool log_site_ok(struct log_site *site);

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if (log_enabled(level))                                                            \
			log_write(level, __VA_ARGS__);                                             \
	} while (0)

#define log_err(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* For everything that a guest, a front-end or a control client can provoke. */
#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static struct log_site site_;                                                      \
		if (log_enabled(level) && log_site_ok(&site_))                                     \
			log_write(level, __VA_ARGS__);                                             \
	} while (0)

#endif
