/*
 * Log lines: what is written, how often, in how many pieces.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

static int saved_stderr = -1;
static FILE *captured;
static char text[65536];

static int capture(void **state)
{
	captured = tmpfile();
	saved_stderr = dup(STDERR_FILENO);
	log_set_level(LOG_LEVEL_INFO);
	return captured && dup2(fileno(captured), STDERR_FILENO) >= 0 ? 0 : -1;
}

static int release(void **state)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	fclose(captured);
	return 0;
}

static const char *written(void)
{
	ssize_t n = pread(fileno(captured), text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static unsigned int count_lines(void)
{
	unsigned int cnt = 0;

	for (const char *p = written(); *p; p++)
		cnt += *p == '\n';
	return cnt;
}

static void a_line_has_level_object_and_message(void **state)
{
	log_err("%s: cannot open: %d", "vda1", 5);
	assert_string_equal(written(), "error: vda1: cannot open: 5\n");
}

static void lines_below_the_level_are_left_out(void **state)
{
	log_debug("x: not this");
	assert_string_equal(written(), "");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("x: not this");
	assert_string_equal(written(), "");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("x: this");
	assert_string_equal(written(), "debug: x: this\n");
}

static void a_name_with_control_characters_stays_in_its_line(void **state)
{
	log_info("%s: up", "a\nerror: b\x1b[31m");
	assert_string_equal(written(), "info: a?error: b?[31m: up\n");
}

static void a_very_long_line_is_cut_and_still_a_line(void **state)
{
	char name[5000];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	log_info("%s", name);
	assert_int_equal(count_lines(), 1);
	assert_true(strlen(written()) > 1000);
}

static void logging_leaves_errno_alone(void **state)
{
	errno = EXDEV;
	log_info("x");
	assert_int_equal(errno, EXDEV);
}

static void a_site_logs_ten_lines_and_then_none(void **state)
{
	for (int i = 0; i < 1000; i++)
		log_limited(LOG_LEVEL_WARNING, "vda1: bad chain");
	/* Ten; a machine that stalls for seconds begins another window. */
	assert_in_range(count_lines(), 10, 40);
}

static void a_new_window_says_what_was_left_out(void **state)
{
	struct log_site site = { .window_start_ns = 1, .nr_logged = 10, .nr_suppressed = 7 };

	assert_true(log_site_ok(&site));
	assert_non_null(strstr(written(), "7 more"));
	assert_int_equal(site.nr_suppressed, 0);
}

static void level_names_are_exact(void **state)
{
	assert_int_equal(log_level_parse("error"), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("Debug"), -EINVAL);
	assert_int_equal(log_level_parse(""), -EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, capture, release)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_line_has_level_object_and_message),
		T(lines_below_the_level_are_left_out),
		T(a_name_with_control_characters_stays_in_its_line),
		T(a_very_long_line_is_cut_and_still_a_line),
		T(logging_leaves_errno_alone),
		T(a_site_logs_ten_lines_and_then_none),
		T(a_new_window_says_what_was_left_out),
		cmocka_unit_test(level_names_are_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
