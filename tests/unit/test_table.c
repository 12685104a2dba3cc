// objects: ctl/table.c
/* SPDX-License-Identifier: MIT */
/*
 * test_table.c - what a terminal shows of hostile text, and where columns stand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "table.h"

static const struct table_style pipe_style = {0};

/* What fn-like blocks print, owned. */
#define PRINTED(text, statement)                                                                   \
	do {                                                                                       \
		size_t printed_len;                                                                \
		FILE *out = open_memstream(&(text), &printed_len);                                 \
		assert_non_null(out);                                                              \
		statement;                                                                         \
		assert_int_equal(fclose(out), 0);                                                  \
	} while (0)

static void
harmless_text(void **state)
{
	static const struct {
		const char *raw, *shown;
	} rows[] = {
	    {"A-1001", "A-1001"},
	    {"", ""},
	    {"\033[2J", "\\u001b[2J"},
	    {"a\nb\tc\rd", "a\\nb\\tc\\u000dd"},
	    {"\x7f", "\\u007f"},
	    {"\xc2\x9b"
	     "31m",
		"\\u009b31m"}, /* CSI as one character */
	    {"\xe2\x80\xae"
	     "diap",
		"\\u202ediap"},                  /* override of direction */
	    {"\xe2\x80\x8bx", "\\u200bx"},       /* zero width */
	    {"\xf3\xa0\x81\x81", "\\U000e0041"}, /* tag */
	    {"\xc0\x9b", "\\xc0\\x9b"},          /* overlong */
	    {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, /* surrogate */
	    {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
	    {"\xe2\x82", "\\xe2\\x82"}, /* cut short */
	    {"\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80", "\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *text;

		PRINTED(text, table_text(out, &pipe_style, rows[i].raw));
		assert_string_equal(text, rows[i].shown);
		free(text);
	}
}

static void
ascii_terminal(void **state)
{
	const struct table_style style = {.ascii = true};
	char *text;

	(void)state;
	PRINTED(text, table_text(out, &style, "caf\xc3\xa9 \xf0\x9f\x98\x80"));
	assert_string_equal(text, "caf\\u00e9 \\U0001f600");
	free(text);
}

static void
harmless_json(void **state)
{
	char *text;

	(void)state;
	PRINTED(
	    text, table_json(out, "{\"a\": \"\xc2\x9b\xe2\x80\xae\xc3\xa9\xf3\xa0\x81\x81\x7f\"}"));
	assert_string_equal(text, "{\"a\": \"\\u009b\\u202e\xc3\xa9\\udb40\\udc41\\u007f\"}");
	free(text);
}

static void
rows_of_json(void **state)
{
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "name", TABLE_TEXT);
	table_column(&t, "bytes", TABLE_NUMBER);
	table_row(&t, (const char *[]){"say \"a\"", "12"});
	table_row(&t, (const char *[]){"", NULL});
	PRINTED(text, table_json_row(out, &t, 0));
	assert_string_equal(text, "{\"name\":\"say \\\"a\\\"\",\"bytes\":12}");
	free(text);
	PRINTED(text, table_json_row(out, &t, 1));
	assert_string_equal(text, "{\"name\":\"\",\"bytes\":null}");
	free(text);
	table_free(&t);
}

static void
fill(struct table *t)
{
	table_column(t, "id", TABLE_NUMBER);
	table_column(t, "nothing", TABLE_TEXT);
	table_column(t, "order", TABLE_TEXT);
	table_column(t, "state", TABLE_TEXT);
	table_row(t, (const char *[]){"7", NULL, "\xe6\xbc\xa2\xe5\xad\x97", "paid"});
	table_row(t, (const char *[]){"1234", "", "a long one, with words in it", "review"});
}

static void
columns_are_aligned(void **state)
{
	struct table t = {0};
	char *text;

	(void)state;
	fill(&t);
	PRINTED(text, table_print(out, &pipe_style, &t));
	assert_string_equal(text, "  id  order                         state\n"
				  "   7  \xe6\xbc\xa2\xe5\xad\x97                          paid\n"
				  "1234  a long one, with words in it  review\n");
	free(text);
	table_free(&t);
}

static void
the_widest_text_is_cut_where_a_row_is_one_line(void **state)
{
	const struct table_style style = {.width = 30, .colour = true, .one_line = true};
	struct table t = {0};
	char *text;

	(void)state;
	fill(&t);
	PRINTED(text, table_print(out, &style, &t));
	assert_string_equal(text,
	    "\033[1m  id  order             state\033[0m\n"
	    "   7  \xe6\xbc\xa2\xe5\xad\x97              \033[32mpaid\033[0m\n"
	    "1234  a long one, wit\xe2\x80\xa6  \033[33mreview\033[0m\n");
	free(text);
	table_free(&t);
}

/* A long name over short numbers gives way before any text does. */
static void
names_give_way_first(void **state)
{
	const struct table_style style = {.width = 24};
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "transaction_id", TABLE_NUMBER);
	table_column(&t, "order", TABLE_TEXT);
	table_row(&t, (const char *[]){"4711", "an order of 16 c"});
	PRINTED(text, table_print(out, &style, &t));
	assert_string_equal(text, "trans\xe2\x80\xa6  order\n  4711  an order of 16 c\n");
	free(text);
	table_free(&t);
}

/* A screen of no use: numbers stay whole, nothing loops for ever. */
static void
a_tiny_screen(void **state)
{
	const struct table_style style = {.width = 5, .ascii = true},
				 one_line = {.width = 5, .ascii = true, .one_line = true};
	struct table t = {0};
	char *text;

	(void)state;
	fill(&t);
	PRINTED(text, table_print(out, &style, &t));
	assert_non_null(strstr(text, "1234\n    order: \n    a\n    l\n    o\n"));
	assert_non_null(strstr(text, "\n    state: \n    r\n    e\n    v\n    i\n    e\n    w\n"));
	free(text);
	PRINTED(text, table_print(out, &one_line, &t));
	assert_string_equal(text, "  id\n   7\n1234\n");
	free(text);
	table_free(&t);
}

/* Two columns do not fit into the one that is left. */
static void
a_wide_character_at_the_cut(void **state)
{
	const struct table_style style = {.width = 8, .one_line = true};
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "order", TABLE_TEXT);
	table_row(
	    &t, (const char *[]){"\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2"});
	PRINTED(text, table_print(out, &style, &t));
	assert_string_equal(text, "order\n\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe2\x80\xa6\n");
	free(text);
	table_free(&t);
}

/* Keys, words, numbers are whole; times give way, then names, and the rest stands below. */
static void
a_narrow_screen_cuts_no_key(void **state)
{
	const struct table_style style = {.width = 60, .year = 2026};
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "id", TABLE_NUMBER);
	table_column(&t, "created_at", TABLE_TIME);
	table_column(&t, "order_ref", TABLE_WORD);
	table_column(&t, "currency", TABLE_WORD);
	table_column(&t, "transaction_id", TABLE_NUMBER);
	table_column(&t, "transaction_no", TABLE_WORD);
	table_column(&t, "detail", TABLE_TEXT);
	table_column(&t, "remedy", TABLE_COMMAND);
	table_row(&t, (const char *[]){"7", "2026-11-24T03:15:59Z", "DEMO-20261124-031559-1a2b3c",
			  "AED", "8", "FLNIAREC61a859e4a8977", NULL, NULL});
	table_row(
	    &t, (const char *[]){"9", "2025-11-24T03:15:59Z", "A-1", "AED", NULL, NULL, "a detail",
		    "foloosictl resolve --id 9 paid, or cancelled, and so on to the end"});
	PRINTED(text, table_print(out, &style, &t));
	assert_string_equal(text,
	    "id  created_at    order_ref                    currency\n"
	    " 7  11-24 03:15Z  DEMO-20261124-031559-1a2b3c  AED\n"
	    "    transaction_id: 8  transaction_no: FLNIAREC61a859e4a8977\n"
	    " 9  2025-11-24    A-1                          AED\n"
	    "    detail: a detail\n"
	    "    foloosictl resolve --id 9 paid, or cancelled, and so on to the end\n");
	free(text);
	PRINTED(text, table_print(out, &pipe_style, &t));
	assert_non_null(strstr(text, "2026-11-24T03:15:59Z  DEMO-20261124-031559-1a2b3c  AED"));
	assert_non_null(strstr(text,
	    "a detail  foloosictl resolve --id 9 paid, or cancelled, and so on to the end\n"));
	free(text);
	table_free(&t);
}

/* A key that is longer than half the screen leaves room for the others, and is whole below. */
static void
a_very_long_key(void **state)
{
	const struct table_style style = {.width = 20};
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "order", TABLE_WORD);
	table_column(&t, "state", TABLE_WORD);
	table_row(&t, (const char *[]){"aaaaaaaaaaaaaaa", "paid"});
	PRINTED(text, table_print(out, &style, &t));
	assert_string_equal(
	    text, "order       state\naaaaaaaaa…  paid\n    order: aaaaaaaaa\n    aaaaaa\n");
	free(text);
	table_free(&t);
}

/* Cut names stay apart. */
static void
no_two_names_look_alike(void **state)
{
	const struct table_style style = {.width = 24};
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "transaction_id", TABLE_NUMBER);
	table_column(&t, "transaction_no", TABLE_WORD);
	table_column(&t, "merchant", TABLE_WORD);
	table_row(&t, (const char *[]){"1", "N", "demo"});
	PRINTED(text, table_print(out, &style, &t));
	assert_null(strstr(text, "transact…"));
	assert_non_null(strstr(text, "transaction_no: N\n"));
	free(text);
	table_free(&t);
}

static void
records(void **state)
{
	struct table t = {0};
	char *text;

	(void)state;
	table_column(&t, "state", TABLE_TEXT);
	table_column(&t, "nothing", TABLE_TEXT);
	table_column(&t, "id", TABLE_NUMBER);
	table_row(&t, (const char *[]){"paid", NULL, "7"});
	PRINTED(text, table_print_records(out, &pipe_style, &t));
	assert_string_equal(text, "state    paid\nid       7\n");
	free(text);
	table_free(&t);
}

static void
no_terminal_no_colour(void **state)
{
	FILE *f = tmpfile();
	struct table_style style;

	(void)state;
	assert_non_null(f);
	style = table_style(f);
	assert_int_equal(style.width, 0);
	assert_false(style.colour);
	assert_false(style.ascii);
	fclose(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(harmless_text),
	    cmocka_unit_test(ascii_terminal),
	    cmocka_unit_test(harmless_json),
	    cmocka_unit_test(rows_of_json),
	    cmocka_unit_test(columns_are_aligned),
	    cmocka_unit_test(the_widest_text_is_cut_where_a_row_is_one_line),
	    cmocka_unit_test(names_give_way_first),
	    cmocka_unit_test(a_tiny_screen),
	    cmocka_unit_test(a_wide_character_at_the_cut),
	    cmocka_unit_test(a_narrow_screen_cuts_no_key),
	    cmocka_unit_test(a_very_long_key),
	    cmocka_unit_test(no_two_names_look_alike),
	    cmocka_unit_test(records),
	    cmocka_unit_test(no_terminal_no_colour),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
