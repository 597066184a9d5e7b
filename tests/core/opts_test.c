/*
 * key=value lists: what is accepted, and what is said about the rest.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tests/core/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"
#include "core/opts.h"

struct target {
	const char *name;
	uint64_t queues, size;
	bool on;
	int mode;
};

static const char *const modes[] = { "busy", "adaptive", "interrupt", NULL };

static const struct opt_desc table[] = {
	{ "name", OPT_STRING, true, offsetof(struct target, name), .help = "what it is called" },
	{ "queues", OPT_UINT, false, offsetof(struct target, queues), 1, 64 },
	{ "size", OPT_SIZE, false, offsetof(struct target, size), .min = 512 },
	{ "read-only", OPT_BOOL, false, offsetof(struct target, on) },
	{ "mode", OPT_ENUM, false, offsetof(struct target, mode), .names = modes },
	{ NULL },
};

static char err[OPTS_ERR_LEN];
static char text[65536];

static int parse(const char *from, struct target *t)
{
	*t = (struct target){ .mode = -1 };
	snprintf(text, sizeof(text), "%s", from);
	memset(err, '#', sizeof(err));
	err[0] = '\0';
	return opts_parse("--device", text, table, t, err);
}

/* The list is wrong and the message is exactly this. */
static void refused(const char *from, const char *message)
{
	struct target t;

	assert_int_equal(parse(from, &t), -EINVAL);
	assert_string_equal(err, message);
}

static void every_type_is_stored(void **state)
{
	struct target t;

	assert_int_equal(parse("name=vda1,queues=4,size=10G,read-only=on,mode=adaptive", &t), 0);
	assert_string_equal(t.name, "vda1");
	assert_int_equal(t.queues, 4);
	assert_true(t.size == 10ull << 30);
	assert_true(t.on);
	assert_int_equal(t.mode, 1);
}

static void keys_not_given_keep_their_defaults(void **state)
{
	struct target t;

	assert_int_equal(parse("name=x", &t), 0);
	assert_int_equal(t.mode, -1);
	assert_int_equal(t.queues, 0);
}

static void a_doubled_comma_is_part_of_the_value(void **state)
{
	struct target t;

	assert_int_equal(parse("name=a,,b,,,queues=2", &t), 0);
	assert_string_equal(t.name, "a,b,");
	assert_int_equal(t.queues, 2);
}

static void an_equals_sign_is_part_of_the_value(void **state)
{
	struct target t;

	assert_int_equal(parse("name=a=b", &t), 0);
	assert_string_equal(t.name, "a=b");
}

static void sizes_have_suffixes(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {
		{ "512", 512 },	      { "1k", 1024 },	    { "1K", 1024 },	  { "3M", 3 << 20 },
		{ "2G", 2ull << 30 }, { "1T", 1ull << 40 }, { "1P", 1ull << 50 }, { "0x200", 512 },
	};
	static const char *const bad[] = { "",
					   "K",
					   "1.5G",
					   "-1",
					   "+1",
					   " 1",
					   "1 ",
					   "1KB",
					   "1KiB",
					   "0x",
					   "99999999999999999999",
					   "16384P",
					   "511",
					   "1e3" };
	struct opt_desc desc = { .type = OPT_SIZE, .min = 512 };
	uint64_t size;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(opts_parse_value("--size", good[i].text, &desc, &size, err), 0);
		assert_true(size == good[i].size);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(opts_parse_value("--size", bad[i], &desc, &size, err), -EINVAL);
}

static void all_words_for_on_and_off_are_known(void **state)
{
	static const char *const on[] = { "on", "yes", "true" };
	static const char *const off[] = { "off", "no", "false" };
	struct opt_desc desc = { .type = OPT_BOOL };
	bool b;

	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(opts_parse_value("--x", on[i], &desc, &b, err), 0);
		assert_true(b);
		assert_int_equal(opts_parse_value("--x", off[i], &desc, &b, err), 0);
		assert_false(b);
	}
}

static void a_message_names_option_value_expectation_and_nearest(void **state)
{
	refused("nam=x", "--device: 'nam': unknown key, expected one of name, queues, size, "
			 "read-only, mode; did you mean 'name'?");
	refused("name=x,zzzz=1", "--device: 'zzzz': unknown key, expected one of name, queues, "
				 "size, read-only, mode");
	refused("name=x,queues=65", "--device: queues=65: expected a whole number from 1 to 64");
	refused("name=x,queues=4x", "--device: queues=4x: expected a whole number from 1 to 64");
	refused("name=x,queues=-1", "--device: queues=-1: expected a whole number from 1 to 64");
	refused("name=x,queues=", "--device: queues=: expected a whole number from 1 to 64");
	refused("name=x,size=10Q",
		"--device: size=10Q: expected a size in bytes, K, M, G, T or P of at least 512");
	refused("name=x,read-only=onn",
		"--device: read-only=onn: expected on or off; did you mean 'on'?");
	refused("name=x,mode=adaptiv", "--device: mode=adaptiv: expected one of busy, adaptive, "
				       "interrupt; did you mean 'adaptive'?");
	refused("name=x,read-only", "--device: 'read-only': expected read-only=VALUE");
	refused("name=x,name=y", "--device: name=y: the key is given twice");
	refused("name=", "--device: name=: expected a value that is not empty");
	refused("queues=1", "--device: name= is missing: what it is called");
	refused("", "--device: expected key=value,key=value, found an empty item");
	refused("name=x,", "--device: expected key=value,key=value, found an empty item");
}

static void a_value_without_a_key_is_quoted(void **state)
{
	struct opt_desc desc = { .type = OPT_ENUM, .names = modes };
	int mode;

	assert_int_equal(opts_parse_value("--poll", "bussy", &desc, &mode, err), -EINVAL);
	assert_string_equal(err, "--poll: 'bussy': expected one of busy, adaptive, interrupt; "
				 "did you mean 'busy'?");
}

static void huge_and_strange_values_give_a_short_message(void **state)
{
	static char huge[60000];
	struct target t;
	int n;

	n = snprintf(huge, sizeof(huge), "name=x,queues=");
	memset(huge + n, '9', sizeof(huge) - (size_t)n - 1);
	assert_int_equal(parse(huge, &t), -EINVAL);
	assert_true(strlen(err) < 200);
	memset(huge, 'k', sizeof(huge) - 1);
	assert_int_equal(parse(huge, &t), -EINVAL);
	assert_true(strlen(err) < OPTS_ERR_LEN);
	refused("name=x,queues=1\n2\x1b",
		"--device: queues=1?2?: expected a whole number from 1 to 64");
}

static void nearest_finds_typing_errors_and_beginnings(void **state)
{
	static const char *const names[] = { "socket-path", "blk-file", "read-only", NULL };

	assert_string_equal(opts_nearest("socket-paht", names), "socket-path");
	assert_string_equal(opts_nearest("socketpath", names), "socket-path");
	assert_string_equal(opts_nearest("readonly", names), "read-only");
	assert_string_equal(opts_nearest("READ-ONLY", names), "read-only");
	assert_string_equal(opts_nearest("sock", names), "socket-path");
	assert_null(opts_nearest("xyz", names));
	assert_null(opts_nearest("", names));
	assert_null(opts_nearest("a-word-that-is-far-longer-than-any-key-could-be", names));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_is_stored),
		cmocka_unit_test(keys_not_given_keep_their_defaults),
		cmocka_unit_test(a_doubled_comma_is_part_of_the_value),
		cmocka_unit_test(an_equals_sign_is_part_of_the_value),
		cmocka_unit_test(sizes_have_suffixes),
		cmocka_unit_test(all_words_for_on_and_off_are_known),
		cmocka_unit_test(a_message_names_option_value_expectation_and_nearest),
		cmocka_unit_test(a_value_without_a_key_is_quoted),
		cmocka_unit_test(huge_and_strange_values_give_a_short_message),
		cmocka_unit_test(nearest_finds_typing_errors_and_beginnings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
