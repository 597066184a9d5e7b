/*
 * JSON for people. Called by ringboltctl with the answers of any program of
 * this project; knows no key but "name" and those that count bytes, so that a
 * new counter or a new device type shows up without a change here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "apps/ctl_print.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"

#define INDENT 2
#define GAP 2
#define TEXT_LEN 128
#define COLUMNS_MAX 64
#define DEPTH_MAX 8

static bool is_single(const json_t *v)
{
	return !json_is_object(v) && !json_is_array(v);
}

/* An object of single values, or a single value. */
static bool is_flat(json_t *v)
{
	const char *key;
	json_t *member;

	if (json_is_array(v))
		return false;
	json_object_foreach(v, key, member)
	{
		if (!is_single(member))
			return false;
	}
	return true;
}

/* Some elements may be null. */
static bool is_list_of_objects(json_t *v)
{
	json_t *element;
	size_t i;

	json_array_foreach(v, i, element)
	{
		if (json_is_object(element))
			return true;
	}
	return false;
}

/* A list whose elements are rows: objects of single values or of flat objects. */
static bool is_table(json_t *v)
{
	json_t *row, *member;
	const char *key;
	size_t i;

	if (!is_list_of_objects(v))
		return false;
	json_array_foreach(v, i, row)
	{
		json_object_foreach(row, key, member)
		{
			if (!is_flat(member))
				return false;
		}
	}
	return true;
}

static bool counts_bytes(const char *key)
{
	static const char *const keys[] = { "capacity", "size", "bytes" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!strcmp(key, keys[i]))
			return true;
	}
	return false;
}

static void format_bytes(long long bytes, char *text)
{
	static const char units[] = "KMGTPE";
	double scaled = (double)bytes;
	int unit = -1;

	while (scaled >= 1024 && unit < (int)sizeof(units) - 2) {
		scaled /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(text, TEXT_LEN, "%lld", bytes);
	else
		snprintf(text, TEXT_LEN, "%lld (%.4g %ciB)", bytes, scaled, units[unit]);
}

static void format(const char *key, const json_t *v, char *text)
{
	if (!v || json_is_null(v))
		snprintf(text, TEXT_LEN, "-");
	else if (json_is_string(v))
		snprintf(text, TEXT_LEN, "%s", json_string_value(v));
	else if (json_is_boolean(v))
		snprintf(text, TEXT_LEN, "%s", json_is_true(v) ? "yes" : "no");
	else if (json_is_real(v))
		snprintf(text, TEXT_LEN, "%.3g", json_real_value(v));
	else if (counts_bytes(key))
		format_bytes(json_integer_value(v), text);
	else
		snprintf(text, TEXT_LEN, "%lld", (long long)json_integer_value(v));
	/* A name may hold what would move the cursor. */
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

/* A column of a table: a key, or a key of an object inside of the row. */
struct column {
	const char *key, *inner; /* inner NULL: none */
	int width;
	bool is_text; /* to the left */
};

struct columns {
	struct column list[COLUMNS_MAX];
	size_t cnt;
};

static void add_column(struct columns *columns, const char *key, const char *inner)
{
	struct column *c;

	for (size_t i = 0; i < columns->cnt; i++) {
		c = &columns->list[i];
		if (!strcmp(c->key, key) && !strcmp(c->inner ? c->inner : "", inner ? inner : ""))
			return;
	}
	if (columns->cnt < COLUMNS_MAX)
		columns->list[columns->cnt++] = (struct column){
			.key = key, .inner = inner, .width = (int)strlen(inner ? inner : key)
		};
}

static const json_t *cell(json_t *row, const struct column *c)
{
	json_t *v = json_object_get(row, c->key);

	return c->inner ? json_object_get(v, c->inner) : v;
}

/* The columns of all rows, in the order they are met, wide enough. */
static void collect_columns(json_t *rows, struct columns *columns)
{
	const char *key, *inner;
	json_t *row, *v, *w;
	char text[TEXT_LEN];
	struct column *c;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		json_object_foreach(row, key, v)
		{
			if (!json_is_object(v))
				add_column(columns, key, NULL);
			json_object_foreach(v, inner, w) add_column(columns, key, inner);
		}
	}
	json_array_foreach(rows, i, row)
	{
		for (size_t j = 0; j < columns->cnt; j++) {
			c = &columns->list[j];
			format(c->inner ? c->inner : c->key, cell(row, c), text);
			c->width = (int)max_u64((uint64_t)c->width, strlen(text));
			c->is_text |= json_is_string(cell(row, c));
		}
	}
}

static void print_cell(const struct column *c, const char *text, bool is_last)
{
	if (c->is_text && is_last)
		fputs(text, stdout);
	else
		printf("%*s", c->is_text ? -c->width : c->width, text);
	if (!is_last)
		printf("%*s", GAP, "");
}

/* The first column, which tells the rows apart, and those of [from, end). */
static void print_columns(json_t *rows, const struct columns *columns, size_t from, size_t end,
			  int indent)
{
	const struct column *c;
	char text[TEXT_LEN];
	json_t *row;
	size_t i;

	printf("%*s", indent, "");
	for (size_t j = 0; j < end; j = j ? j + 1 : from) {
		c = &columns->list[j];
		print_cell(c, c->inner ? c->inner : c->key, j + 1 == end);
	}
	putchar('\n');
	json_array_foreach(rows, i, row)
	{
		printf("%*s", indent, "");
		for (size_t j = 0; j < end; j = j ? j + 1 : from) {
			c = &columns->list[j];
			format(c->inner ? c->inner : c->key, cell(row, c), text);
			print_cell(c, text, j + 1 == end);
		}
		putchar('\n');
	}
}

/* A table too wide is printed in several, each with the first column. */
static void print_table(json_t *rows, int indent, int width)
{
	struct columns columns = { .cnt = 0 };
	size_t from = 1, end;
	int used;

	collect_columns(rows, &columns);
	if (!columns.cnt)
		return;
	do {
		used = indent + columns.list[0].width;
		for (end = from; end < columns.cnt; end++) {
			used += GAP + columns.list[end].width;
			if (used > width && end > from)
				break;
		}
		print_columns(rows, &columns, from, end, indent);
		from = end;
	} while (from < columns.cnt);
}

/* "key  a b c", continued on further lines. */
static void print_words(const char *key, json_t *list, int key_width, int indent, int width)
{
	int start = indent + key_width + GAP;
	char text[TEXT_LEN];
	int column = start;
	json_t *v;
	size_t i;

	printf("%*s%-*s%*s", indent, "", key_width, key, GAP, "");
	if (!json_array_size(list))
		putchar('-');
	json_array_foreach(list, i, v)
	{
		format(key, v, text);
		if (i && column + 1 + (int)strlen(text) > width) {
			printf("\n%*s", start, "");
			column = start;
		} else if (i) {
			putchar(' ');
			column++;
		}
		fputs(text, stdout);
		column += (int)strlen(text);
	}
	putchar('\n');
}

static void print_object(json_t *object, int indent, int width);

/* Members that are more than one line: tables and blocks. */
static void print_member(const char *key, json_t *v, int indent, int width)
{
	json_t *element;
	size_t i;

	if (indent > INDENT * DEPTH_MAX)
		return;
	printf("%*s%s:\n", indent, "", key);
	if (is_table(v)) {
		print_table(v, indent + INDENT, width);
	} else if (json_is_object(v)) {
		print_object(v, indent + INDENT, width);
	} else {
		json_array_foreach(v, i, element)
		{
			print_object(element, indent + INDENT, width);
			if (i + 1 < json_array_size(v))
				putchar('\n');
		}
	}
}

static void print_object(json_t *object, int indent, int width)
{
	char text[TEXT_LEN];
	int key_width = 0;
	const char *key;
	json_t *v;

	json_object_foreach(object, key, v)
	{
		if (!json_is_object(v) && !is_list_of_objects(v))
			key_width = (int)max_u64((uint64_t)key_width, strlen(key));
	}
	json_object_foreach(object, key, v)
	{
		if (is_single(v)) {
			format(key, v, text);
			printf("%*s%-*s%*s%s\n", indent, "", key_width, key, GAP, "", text);
		} else if (json_is_array(v) && !is_list_of_objects(v)) {
			print_words(key, v, key_width, indent, width);
		}
	}
	json_object_foreach(object, key, v)
	{
		if (json_is_object(v) || is_list_of_objects(v))
			print_member(key, v, indent, width);
	}
}

void ctl_print(json_t *object, int width)
{
	print_object(object, 0, width);
}
