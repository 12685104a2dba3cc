// objects: lib/text.c
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text.h"

static void
grows_from_nothing(void **state)
{
	struct text t = {0};

	(void)state;
	for (int i = 0; i < 10000; i++)
		text_add_char(&t, (char)('a' + i % 26));
	text_add(&t, "");
	assert_int_equal(t.len, 10000);
	assert_int_equal(strlen(t.bytes), 10000);
	assert_int_equal(t.bytes[9999], 'a' + 9999 % 26);
	text_free(&t);
	assert_null(t.bytes);
	text_free(&t);
}

static void
empty_is_a_string(void **state)
{
	struct text t = {0};

	(void)state;
	text_add(&t, "");
	assert_string_equal(t.bytes, "");
	text_clear(&t);
	assert_string_equal(t.bytes, "");
	text_free(&t);
	text_clear(&t);
	assert_string_equal(t.bytes, "");
	text_free(&t);
	text_format(&t, "%s", "");
	assert_string_equal(t.bytes, "");
	text_free(&t);
}

static void
clear_keeps_the_block(void **state)
{
	struct text t = {0};
	char *block;

	(void)state;
	text_format(&t, "%5000d", 7);
	assert_int_equal(t.len, 5000);
	block = t.bytes;
	text_clear(&t);
	assert_string_equal(t.bytes, "");
	text_format(&t, "%5000d", 8);
	assert_ptr_equal(t.bytes, block);
	assert_string_equal(t.bytes + 4998, " 8");
	text_free(&t);
}

/* Every length around the size of the block: the NUL must always have its place. */
static void
format_fits_at_every_length(void **state)
{
	(void)state;
	for (int len = 0; len < 600; len++) {
		struct text t = {0};

		text_add(&t, "x");
		text_format(&t, "%*s", len, "");
		text_format(&t, "%d", len);
		assert_int_equal(strlen(t.bytes), t.len);
		assert_true(t.len < t.cap);
		assert_int_equal(atoi(t.bytes + 1), len);
		text_free(&t);
	}
}

static void
holds_any_bytes(void **state)
{
	struct text t = {0};

	(void)state;
	text_add_bytes(&t, "a\0b", 3);
	text_add_char(&t, 'c');
	assert_int_equal(t.len, 4);
	assert_memory_equal(t.bytes, "a\0bc", 5);
	text_free(&t);
}

static void
json_strings(void **state)
{
	static const struct {
		const char *words, *json;
	} rows[] = {
	    {NULL, "null"},
	    {"", "\"\""},
	    {"plain", "\"plain\""},
	    {"a\"b\\c", "\"a\\\"b\\\\c\""},
	    {"\n\t\x1f", "\"\\u000a\\u0009\\u001f\""},
	    {"\x7f/", "\"\x7f/\""},
	    {"\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct text t = {0};

		text_add_json(&t, rows[i].words);
		assert_string_equal(t.bytes, rows[i].json);
		text_free(&t);
	}
}

/* A second opinion: encode each code point, and compare with what is read. */
/* A code point's bytes; returns how many. */
static size_t
put_utf8(void *to, uint32_t c)
{
	unsigned char *p = to;
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n; i > 1; i--)
		p[i - 1] = (unsigned char)(0x80 | (c >> (6 * (n - i)) & 0x3F));
	p[0] = (unsigned char)((n == 1 ? 0 : 0xF00u >> n & 0xFF) | c >> (6 * (n - 1)));
	return n;
}

static void
every_code_point_of_utf8(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x110000; c++) {
		unsigned char p[4];
		size_t n = put_utf8(p, c);

		if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
			assert_int_equal(utf8_sequence(p, p + n), 0);
			continue;
		}
		assert_int_equal(utf8_sequence(p, p + n), n);
		assert_int_equal(utf8_code_point(p, n), c);
		for (size_t less = 1; less < n; less++)
			assert_int_equal(utf8_sequence(p, p + less), 0);
	}
}

static void
ill_formed_utf8(void **state)
{
	static const char *const rows[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80",
	    "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
	    "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff", "\xc3(", "\xe2\x82(",
	    "\xf0\x9f\x98("};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(utf8_sequence(rows[i], rows[i] + strlen(rows[i])), 0);
}

static void
lengths_are_of_code_points(void **state)
{
	(void)state;
	assert_int_equal(utf8_length(""), 0);
	assert_int_equal(utf8_length("abc"), 3);
	assert_int_equal(utf8_length("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), 4);
	assert_false(utf8_continues('a'));
	assert_false(utf8_continues('\xc3'));
	assert_true(utf8_continues('\xa9'));
}

/* Every code point at the beginning, at the end and in the middle of a text. */
static void
white_space_is_trimmed(void **state)
{
	static const uint32_t white[] = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20, 0x85, 0xA0, 0x1680,
	    0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A,
	    0x200B, 0x200C, 0x200D, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF};
	size_t found = 0;

	(void)state;
	for (uint32_t c = 1; c <= 0x10FFFF; c++) {
		char text[32], bytes[8] = "";
		bool is_white = found < sizeof white / sizeof *white && white[found] == c;

		if (c >= 0xD800 && c <= 0xDFFF)
			continue;
		put_utf8(bytes, c);
		snprintf(text, sizeof text, "%s%sa%sb%s", bytes, bytes, bytes, bytes);
		if (is_white != (*utf8_skip_white(text) == 'a') && c != 'a')
			fail_msg("U+%04X", (unsigned)c);
		if (is_white) {
			char middle[16];

			snprintf(middle, sizeof middle, "a%sb", bytes);
			assert_string_equal(utf8_trim(text), middle);
			found++;
		} else {
			char whole[32];

			snprintf(whole, sizeof whole, "%s", text);
			assert_string_equal(utf8_trim(text), whole);
		}
	}
	assert_int_equal(found, sizeof white / sizeof *white);
	char only[] = " \xe3\x80\x80\xef\xbb\xbf\t", empty[] = "";
	assert_string_equal(utf8_trim(only), "");
	assert_string_equal(utf8_trim(empty), "");
}

static void
cuts_are_between_characters(void **state)
{
	static const char *const cut[] = {
	    "", "a", "a\xc3\xa9", "a\xc3\xa9\xe2\x82\xac", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"};

	(void)state;
	for (size_t n = 0; n < 7; n++) {
		char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";

		utf8_cut(text, n);
		assert_string_equal(text, cut[n < 4 ? n : 4]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grows_from_nothing),
	    cmocka_unit_test(empty_is_a_string),
	    cmocka_unit_test(clear_keeps_the_block),
	    cmocka_unit_test(format_fits_at_every_length),
	    cmocka_unit_test(holds_any_bytes),
	    cmocka_unit_test(json_strings),
	    cmocka_unit_test(every_code_point_of_utf8),
	    cmocka_unit_test(ill_formed_utf8),
	    cmocka_unit_test(lengths_are_of_code_points),
	    cmocka_unit_test(white_space_is_trimmed),
	    cmocka_unit_test(cuts_are_between_characters),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
