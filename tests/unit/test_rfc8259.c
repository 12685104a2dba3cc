// objects: lib/rfc8259.c
/* SPDX-License-Identifier: MIT */
// rfc8259.c: a table of texts that are JSON and texts that are not, after the grammar's
// own order; positions; the quoted copy; and texts that are made to be slow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "mem.h"
#include "rfc8259.h"

#define T(literal) (literal), sizeof(literal) - 1 /* texts may hold NUL */

struct sample {
	const char *name;
	const char *text;
	size_t len;
};

/* Check a copy that ends where the text ends, so that a sanitizer sees a byte too far, and with
 * and without the quoted copy: the answer must be the same. */
static bool
check(const char *text, size_t len, struct json_error *e)
{
	char *exact = xrealloc(NULL, len), *quoted = xrealloc(NULL, RFC8259_QUOTED_SIZE(len));
	struct json_error second = {0};
	bool ok;

	memcpy(exact, text, len);
	*e = (struct json_error){0};
	ok = rfc8259_check(exact, len, NULL, e);
	assert_int_equal(rfc8259_check(exact, len, quoted, &second), ok);
	if (ok) {
		assert_true(strlen(quoted) < RFC8259_QUOTED_SIZE(len));
	} else {
		assert_int_equal(e->offset, second.offset);
		assert_ptr_equal(e->reason, second.reason);
		assert_non_null(e->reason);
		assert_true(e->offset <= len);
		assert_true(e->line >= 1 && e->column >= 1);
	}
	free(exact);
	free(quoted);
	return ok;
}

static const struct sample yes[] = {
    {"array_empty", T("[]")},
    {"array_empty_with_space", T("[ \t\r\n]")},
    {"array_nested", T("[[],[[]],[[],[]]]")},
    {"array_of_everything", T("[null,1,\"1\",{},[],true,false]")},
    {"array_empty_string", T("[\"\"]")},
    {"array_space_around_commas", T(" [ 1 , 2 ] ")},
    {"object_empty", T("{}")},
    {"object_empty_with_space", T(" { } ")},
    {"object_one", T("{\"a\":1}")},
    {"object_empty_name", T("{\"\":0}")},
    {"object_space_everywhere", T("\t{ \"a\"\n:\r1 , \"b\" : [ ] } \n")},
    {"object_same_name_in_other_objects",
	T("{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}")},
    {"object_names_differ_in_case", T("{\"a\":1,\"A\":2}")},
    {"object_names_prefix_of_each_other", T("{\"a\":1,\"aa\":2,\"\":3,\"aaa\":4}")},
    {"object_names_differ_behind_escape", T("{\"\\u0061b\":1,\"ac\":2}")},
    {"object_name_escaped_prefix", T("{\"\\u0061\":1,\"ab\":2,\"a\\u0062c\":3}")},
    {"object_name_of_escaped_backslash", T("{\"\\\\u0061\":1,\"a\":2}")},
    {"object_names_composed_and_decomposed", T("{\"\xC3\xA9\":1,\"e\xCC\x81\":2}")},
    {"object_name_is_value", T("{\"a\":\"b\",\"b\":\"a\"}")},
    {"document_string", T("\"x\"")},
    {"document_number", T("42")},
    {"document_negative_number", T("-0.1")},
    {"document_true", T("true")},
    {"document_false", T("false")},
    {"document_null", T("null")},
    {"document_space_around", T(" \r\n\tnull \r\n\t")},
    {"number_zero", T("[0]")},
    {"number_minus_zero", T("[-0]")},
    {"number_zero_exponent", T("[0e1]")},
    {"number_zero_point_zero", T("[0.0]")},
    {"number_exponent", T("[1e5,1E5,1e+5,1E+5,1e-5,1E-5]")},
    {"number_exponent_with_zeros", T("[1e005]")},
    {"number_fraction_and_exponent", T("[123.456e78]")},
    {"number_many_decimals", T("[0.000000000000000000000000000000000000000000000000000001]")},
    {"number_huge", T("[123123e100000]")},
    {"number_beyond_64_bits", T("[100000000000000000000000000]")},
    {"number_negative", T("[-1,-1.5,-1e9]")},
    {"string_simple_escapes", T("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]")},
    {"string_unicode_escape", T("[\"\\u0060\\u012a\\u12AB\\uaBcD\"]")},
    {"string_surrogate_pair", T("[\"\\uD834\\uDd1e\\ud83d\\ude39\"]")},
    {"string_first_and_last_pair", T("[\"\\uD800\\uDC00\\uDBFF\\uDFFF\"]")},
    {"string_noncharacters", T("[\"\\uFFFE\\uFFFF\\uFDD0\\uDBFF\\uDFFE\"]")},
    {"string_escaped_control", T("[\"\\u0001\\u001f\\u007f\"]")},
    {"string_escaped_backslash_then_u0000", T("[\"\\\\u0000\"]")},
    {"string_delete", T("[\"\x7F\"]")},
    {"string_comment_inside", T("[\"a/*b*/c//d#e\"]")},
    {"string_structure_inside", T("[\"{}[],:'\"]")},
    {"string_line_separators", T("[\"\xE2\x80\xA8\xE2\x80\xA9\"]")},
    {"string_byte_order_mark_inside", T("[\"\xEF\xBB\xBF\"]")},
    {"bom", T("\xEF\xBB\xBF{}")},
    {"bom_and_space", T("\xEF\xBB\xBF\r\n [1]")},
    {"utf8_two_bytes", T("[\"\xC2\x80\xDF\xBF\"]")},
    {"utf8_three_bytes", T("[\"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\"]")},
    {"utf8_four_bytes", T("[\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"]")},
    {"utf8_in_name", T("{\"\xD8\xA7\xD8\xB3\xD9\x85\":\"\xF0\x9F\x98\x80\"}")},
};

static const struct sample no[] = {
    {"empty", T("")},
    {"only_space", T(" \n")},
    {"nul", T("\0")},
    {"nul_behind", T("{}\0")},
    {"nul_and_junk_behind", T("{\"a\":1}\0junk")},
    {"nul_between", T("[1,\0 2]")},
    {"nul_in_string", T("[\"a\0b\"]")},
    {"bom_twice", T("\xEF\xBB\xBF\xEF\xBB\xBF{}")},
    {"bom_behind_space", T(" \xEF\xBB\xBF{}")},
    {"bom_behind", T("{}\xEF\xBB\xBF")},
    {"bom_alone", T("\xEF\xBB\xBF")},
    {"bom_cut", T("\xEF\xBB")},
    {"utf16_le", T("\xFF\xFE{\0}\0")},
    {"utf16_be", T("\0{\0}")},
    {"two_documents", T("{}{}")},
    {"two_documents_with_space", T("{} {}")},
    {"two_numbers", T("1 2")},
    {"trailing_bracket", T("[]]")},
    {"trailing_brace", T("{}}")},
    {"trailing_comma_behind", T("{},")},
    {"trailing_hash", T("{}#")},
    {"trailing_quote", T("{}'")},
    {"trailing_letter", T("truex")},
    {"comment_line", T("{} // x\n")},
    {"comment_block", T("/* x */{}")},
    {"comment_between", T("{\"a\":/**/1}")},
    {"comment_hash", T("{\"a\":1 #\n}")},
    {"array_open", T("[")},
    {"array_open_after_value", T("[1")},
    {"array_open_after_comma", T("[1,")},
    {"array_open_string", T("[\"a")},
    {"array_trailing_comma", T("[1,]")},
    {"array_double_comma", T("[1,,2]")},
    {"array_leading_comma", T("[,1]")},
    {"array_only_comma", T("[,]")},
    {"array_no_comma", T("[1 2]")},
    {"array_no_comma_strings", T("[\"a\" \"b\"]")},
    {"array_colon", T("[\"a\":1]")},
    {"array_semicolon", T("[1;2]")},
    {"array_closed_by_brace", T("[1}")},
    {"array_close_alone", T("]")},
    {"array_inner_open", T("[[1]")},
    {"object_open", T("{")},
    {"object_open_after_name", T("{\"a\"")},
    {"object_open_after_colon", T("{\"a\":")},
    {"object_open_after_value", T("{\"a\":1")},
    {"object_open_after_comma", T("{\"a\":1,")},
    {"object_no_value", T("{\"a\":}")},
    {"object_no_colon", T("{\"a\" 1}")},
    {"object_only_name", T("{\"a\"}")},
    {"object_double_colon", T("{\"a\"::1}")},
    {"object_comma_for_colon", T("{\"a\",1}")},
    {"object_equals_for_colon", T("{\"a\"=1}")},
    {"object_trailing_comma", T("{\"a\":1,}")},
    {"object_double_comma", T("{\"a\":1,,\"b\":2}")},
    {"object_leading_comma", T("{,\"a\":1}")},
    {"object_only_comma", T("{,}")},
    {"object_no_comma", T("{\"a\":1 \"b\":2}")},
    {"object_two_values", T("{\"a\":1 2}")},
    {"object_bare_name", T("{a:1}")},
    {"object_number_name", T("{1:1}")},
    {"object_null_name", T("{null:1}")},
    {"object_array_name", T("{[]:1}")},
    {"object_single_quoted_name", T("{'a':1}")},
    {"object_closed_by_bracket", T("{\"a\":1]")},
    {"object_close_alone", T("}")},
    {"object_text_in_it", T("{\"a\"}x")},
    {"duplicate", T("{\"a\":1,\"a\":2}")},
    {"duplicate_same_value", T("{\"a\":1,\"a\":1}")},
    {"duplicate_empty", T("{\"\":1,\"\":2}")},
    {"duplicate_apart", T("{\"a\":1,\"b\":2,\"c\":3,\"a\":4}")},
    {"duplicate_inner", T("[{\"x\":{\"a\":1,\"a\":2}}]")},
    {"duplicate_around_inner", T("{\"a\":{\"b\":1},\"a\":{\"c\":1}}")},
    {"duplicate_by_escape", T("{\"a\":1,\"\\u0061\":2}")},
    {"duplicate_by_escape_first", T("{\"\\u0061\":1,\"a\":2}")},
    {"duplicate_by_two_escapes", T("{\"\\u00e9\":1,\"\\u00E9\":2}")},
    {"duplicate_escape_and_utf8", T("{\"\\u00e9\":1,\"\xC3\xA9\":2}")},
    {"duplicate_three_bytes", T("{\"\\u20ac\":1,\"\xE2\x82\xAC\":2}")},
    {"duplicate_pair_and_utf8", T("{\"\\uD83D\\uDE00\":1,\"\xF0\x9F\x98\x80\":2}")},
    {"duplicate_slash", T("{\"/\":1,\"\\/\":2}")},
    {"duplicate_newline", T("{\"\\n\":1,\"\\u000a\":2}")},
    {"duplicate_tab", T("{\"\\t\":1,\"\\u0009\":2}")},
    {"duplicate_return", T("{\"\\r\":1,\"\\u000D\":2}")},
    {"duplicate_backspace", T("{\"\\b\":1,\"\\u0008\":2}")},
    {"duplicate_form_feed", T("{\"\\f\":1,\"\\u000c\":2}")},
    {"duplicate_quote", T("{\"\\\"\":1,\"\\u0022\":2}")},
    {"duplicate_backslash", T("{\"\\\\\":1,\"\\u005c\":2}")},
    {"literal_upper", T("[TRUE]")},
    {"literal_capital", T("[True]")},
    {"literal_cut", T("[tru]")},
    {"literal_cut_at_end", T("nul")},
    {"literal_wrong", T("[nulo]")},
    {"literal_longer", T("[nulll]")},
    {"literal_undefined", T("[undefined]")},
    {"literal_none", T("[None]")},
    {"literal_bare_word", T("[abc]")},
    {"number_nan", T("[NaN]")},
    {"number_minus_nan", T("[-NaN]")},
    {"number_infinity", T("[Infinity]")},
    {"number_minus_infinity", T("[-Infinity]")},
    {"number_inf", T("[inf]")},
    {"number_plus", T("[+1]")},
    {"number_double_minus", T("[--1]")},
    {"number_plus_minus", T("[+-1]")},
    {"number_only_minus", T("[-]")},
    {"number_minus_at_end", T("-")},
    {"number_minus_letter", T("[-a]")},
    {"number_minus_space", T("[- 1]")},
    {"number_leading_zero", T("[01]")},
    {"number_minus_leading_zero", T("[-01]")},
    {"number_double_zero", T("[00]")},
    {"number_leading_zero_fraction", T("[01.5]")},
    {"number_no_whole", T("[.5]")},
    {"number_minus_no_whole", T("[-.5]")},
    {"number_no_fraction", T("[1.]")},
    {"number_no_fraction_exponent", T("[1.e1]")},
    {"number_no_fraction_at_end", T("1.")},
    {"number_only_point", T("[.]")},
    {"number_two_points", T("[1.2.3]")},
    {"number_no_exponent", T("[1e]")},
    {"number_no_exponent_sign", T("[1e+]")},
    {"number_two_exponents", T("[1e1e1]")},
    {"number_exponent_sign_twice", T("[1e+-1]")},
    {"number_exponent_fraction", T("[1e1.5]")},
    {"number_only_exponent", T("[e1]")},
    {"number_hex", T("[0x1F]")},
    {"number_octal", T("[0o17]")},
    {"number_underscore", T("[1_000]")},
    {"number_comma_decimal", T("{\"a\":1,5}")},
    {"number_space_inside", T("[1 000]")},
    {"number_letter_behind", T("[1a]")},
    {"number_expression", T("[1+2]")},
    {"number_full_width", T("[\xEF\xBC\x91]")},
    {"string_single_quotes", T("['a']")},
    {"string_back_quotes", T("[`a`]")},
    {"string_typographic_quotes", T("[\xE2\x80\x9C"
				    "a\xE2\x80\x9D]")},
    {"string_unterminated", T("\"")},
    {"string_ends_in_backslash", T("[\"\\")},
    {"string_escaped_closing_quote", T("[\"\\\"]")},
    {"string_raw_newline", T("[\"a\nb\"]")},
    {"string_raw_tab", T("[\"\t\"]")},
    {"string_raw_return", T("[\"\r\"]")},
    {"string_raw_01", T("[\"\x01\"]")},
    {"string_raw_1f", T("[\"\x1F\"]")},
    {"string_escape_x", T("[\"\\x41\"]")},
    {"string_escape_a", T("[\"\\a\"]")},
    {"string_escape_single_quote", T("[\"\\'\"]")},
    {"string_escape_zero", T("[\"\\0\"]")},
    {"string_escape_upper_u", T("[\"\\U0041\"]")},
    {"string_escape_newline", T("[\"\\\n\"]")},
    {"string_escape_utf8", T("[\"\\\xC3\xA9\"]")},
    {"string_u_no_digits", T("[\"\\u\"]")},
    {"string_u_three_digits", T("[\"\\u123\"]")},
    {"string_u_bad_digit", T("[\"\\u12g4\"]")},
    {"string_u_sign", T("[\"\\u+123\"]")},
    {"string_u_braces", T("[\"\\u{41}\"]")},
    {"string_u_cut", T("[\"\\u00")},
    {"string_u0000", T("[\"\\u0000\"]")},
    {"string_u0000_in_name", T("{\"a\\u0000b\":1}")},
    {"surrogate_lone_high", T("[\"\\uD800\"]")},
    {"surrogate_lone_high_then_text", T("[\"\\uDBFFabcdef\"]")},
    {"surrogate_lone_low", T("[\"\\uDC00\"]")},
    {"surrogate_lone_low_last", T("[\"\\uDFFF\"]")},
    {"surrogate_reversed", T("[\"\\uDE00\\uD83D\"]")},
    {"surrogate_two_high", T("[\"\\uD800\\uD800\"]")},
    {"surrogate_high_then_letter", T("[\"\\uD800\\u0041\"]")},
    {"surrogate_high_then_escape", T("[\"\\uD800\\n\\u1234\"]")},
    {"surrogate_high_then_half_escape", T("[\"\\uD800\\uDC0\"]")},
    {"surrogate_high_at_end", T("[\"\\uD800")},
    {"surrogate_high_then_u_at_end", T("[\"\\uD800\\uDC0")},
    {"surrogate_high_then_bad_digits", T("[\"\\uD800\\uDCxx\"]")},
    {"surrogate_in_name", T("{\"\\uD800\":1}")},
    {"utf8_lone_continuation", T("[\"\x80\"]")},
    {"utf8_last_continuation", T("[\"\xBF\"]")},
    {"utf8_overlong_nul", T("[\"\xC0\x80\"]")},
    {"utf8_overlong_slash", T("[\"\xC0\xAF\"]")},
    {"utf8_overlong_c1", T("[\"\xC1\xBF\"]")},
    {"utf8_overlong_three", T("[\"\xE0\x80\xAF\"]")},
    {"utf8_overlong_three_last", T("[\"\xE0\x9F\xBF\"]")},
    {"utf8_overlong_four", T("[\"\xF0\x80\x80\xAF\"]")},
    {"utf8_overlong_four_last", T("[\"\xF0\x8F\xBF\xBF\"]")},
    {"utf8_surrogate_first", T("[\"\xED\xA0\x80\"]")},
    {"utf8_surrogate_last", T("[\"\xED\xBF\xBF\"]")},
    {"utf8_surrogate_pair", T("[\"\xED\xA0\xBD\xED\xB8\x80\"]")},
    {"utf8_beyond_10ffff", T("[\"\xF4\x90\x80\x80\"]")},
    {"utf8_f5", T("[\"\xF5\x80\x80\x80\"]")},
    {"utf8_five_bytes", T("[\"\xF8\x88\x80\x80\x80\"]")},
    {"utf8_six_bytes", T("[\"\xFC\x84\x80\x80\x80\x80\"]")},
    {"utf8_fe", T("[\"\xFE\"]")},
    {"utf8_ff", T("[\"\xFF\"]")},
    {"utf8_cut_two", T("[\"\xC3\"]")},
    {"utf8_cut_three", T("[\"\xE2\x82\"]")},
    {"utf8_cut_four", T("[\"\xF0\x9F\x98\"]")},
    {"utf8_cut_by_end_two", T("\"\xC3")},
    {"utf8_cut_by_end_three", T("\"\xE2\x82")},
    {"utf8_cut_by_end_four", T("\"\xF0\x9F\x98")},
    {"utf8_third_byte_bad", T("[\"\xE2\x82\x41\"]")},
    {"utf8_fourth_byte_bad", T("[\"\xF0\x9F\x98\xC0\"]")},
    {"utf8_latin1", T("[\"caf\xE9\"]")},
    {"utf8_in_name_bad", T("{\"\xFF\":1}")},
    {"utf8_outside_string", T("[\xC3\xA9]")},
    {"space_no_break", T("[\xC2\xA0"
			 "1]")},
    {"space_form_feed", T("[\x0C]")},
    {"space_vertical_tab", T("[\x0B"
			     "1]")},
    {"space_ideographic", T("\xE3\x80\x80{}")},
    {"form_encoded", T("transaction_status=success&amount=1")},
    {"html", T("<html></html>")},
};

static void
test_yes(void **state)
{
	struct json_error e;

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		if (!check(yes[i].text, yes[i].len, &e))
			fail_msg("%s: refused at %zu: %s", yes[i].name, e.offset, e.reason);
}

static void
test_no(void **state)
{
	struct json_error e;

	(void)state;
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		if (check(no[i].text, no[i].len, &e))
			fail_msg("%s: accepted", no[i].name);
}

/* Every cut of a text is refused, where it ends, unless it is a document by itself. */
static void
test_every_cut(void **state)
{
	static const char text[] =
	    "{\"a\\u20ac\":[1.5e+3,-0,true,null,\"\xF0\x9F\x98\x80\\uD83D\\uDE00\"],"
	    "\"b\":{\"c\":false}}";
	struct json_error e;

	(void)state;
	for (size_t len = 0; len < sizeof text - 1; len++)
		if (check(text, len, &e))
			fail_msg("accepted: the first %zu bytes", len);
	assert_true(check(text, sizeof text - 1, &e));
}

/* Every byte by itself outside and inside a string. */
static void
test_every_byte(void **state)
{
	struct json_error e;

	(void)state;
	for (int c = 0; c < 256; c++) {
		char alone[] = {(char)c}, inside[] = {'"', (char)c, '"'};
		char escaped[] = {'"', '\\', (char)c, '"'};

		assert_int_equal(check(alone, 1, &e), c >= '0' && c <= '9');
		assert_int_equal(
		    check(inside, 3, &e), c >= 0x20 && c < 0x80 && c != '"' && c != '\\');
		assert_int_equal(check(escaped, 4, &e), c != 0 && strchr("\"\\/bfnrt", c) != NULL);
	}
}

/* Every four-digit escape by itself, and every code point in UTF-8. */
static void
test_every_code_point(void **state)
{
	struct json_error e;
	char text[16];

	(void)state;
	for (unsigned u = 0; u <= 0xFFFF; u++) {
		snprintf(text, sizeof text, "\"\\u%04x\"", u);
		assert_int_equal(
		    rfc8259_check(text, 8, NULL, &e), u != 0 && !(u >= 0xD800 && u <= 0xDFFF));
	}
	for (unsigned u = 0x800; u <= 0x10FFFF; u++) {
		size_t n = 0;
		text[n++] = '"';
		if (u < 0x10000) {
			text[n++] = (char)(0xE0 | u >> 12);
		} else {
			text[n++] = (char)(0xF0 | u >> 18);
			text[n++] = (char)(0x80 | (u >> 12 & 0x3F));
		}
		text[n++] = (char)(0x80 | (u >> 6 & 0x3F));
		text[n++] = (char)(0x80 | (u & 0x3F));
		text[n++] = '"';
		assert_int_equal(rfc8259_check(text, n, NULL, &e), !(u >= 0xD800 && u <= 0xDFFF));
	}
}

static void
test_depth(void **state)
{
	char text[4 * RFC8259_MAX_DEPTH + 64];
	struct json_error e;

	(void)state;
	for (size_t depth = 1; depth <= RFC8259_MAX_DEPTH + 1; depth++) {
		bool good = depth <= RFC8259_MAX_DEPTH;

		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(check(text, 2 * depth, &e), good);
		if (!good)
			assert_int_equal(e.offset, RFC8259_MAX_DEPTH);

		/* the innermost is an object, with a scalar in it */
		memset(text, '[', depth - 1);
		memcpy(text + depth - 1, "{\"a\":0}", 7);
		memset(text + depth + 6, ']', depth - 1);
		assert_int_equal(check(text, 2 * depth + 5, &e), good);
	}
	/* depth, not number: siblings do not count */
	memset(text, 0, sizeof text);
	strcpy(text, "[");
	for (int i = 0; i < RFC8259_MAX_DEPTH + 1; i++)
		strcat(text, "[],");
	strcat(text, "{}]");
	assert_true(check(text, strlen(text), &e));
}

static void
test_positions(void **state)
{
	static const struct {
		const char *text;
		size_t offset;
		unsigned line, column;
	} cases[] = {
	    {"", 0, 1, 1},
	    {"[", 1, 1, 2},
	    {"x", 0, 1, 1},
	    {"{\n  \"a\": 1,\n  \"b\": 'x'\n}", 19, 3, 8},
	    {"{\r\n\"a\":1,\r\n}", 11, 3, 1},
	    {"[01]", 2, 1, 3},
	    {"[1.]", 3, 1, 4},
	    {"[tru]", 4, 1, 5},
	    {"[\"a\\u0000\"]", 3, 1, 4},
	    {"[\"a\\q\"]", 4, 1, 5},
	    {"[\"\\uD800\"]", 2, 1, 3},
	    {"[\"\xC3\xA9\xFF\"]", 4, 1, 5},
	    {"{\"a\":1,\"b\":2,\n\"a\":3}", 14, 2, 1},
	    {"{\"b\":1,\"a\":1,\"a\":2,\"b\":2}", 13, 1, 14}, /* the first repetition */
	    {"{\"a\":1,\"b\":1,\"b\":2,\"a\":2}", 13, 1, 14},
	    {"{\"a\":1,\"a\":2,\"a\":3}", 7, 1, 8},
	    {"{} x", 3, 1, 4},
	    {"\xEF\xBB\xBF\xEF\xBB\xBF{}", 3, 1, 4},
	    {"\xEF\xBB\xBF\n x", 5, 2, 2},
	};
	struct json_error e;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_false(check(cases[i].text, strlen(cases[i].text), &e));
		if (e.offset != cases[i].offset || e.line != cases[i].line ||
		    e.column != cases[i].column)
			fail_msg("%s: at %zu, line %u, column %u", cases[i].text, e.offset, e.line,
			    e.column);
	}
}

static void
test_quoted_copy(void **state)
{
	static const char *const pairs[][2] = {
	    {"0", "\"0\""},
	    {"[1]", "[\"1\"]"},
	    {" -1.50e+7 ", " \"-1.50e+7\" "},
	    {"[1,2,3]", "[\"1\",\"2\",\"3\"]"},
	    {"{\"1\":1,\"a\":\"2\\\"3\"}", "{\"1\":\"1\",\"a\":\"2\\\"3\"}"},
	    {"[0,[0.10,{\"n\":100000000000000000000}]]",
		"[\"0\",[\"0.10\",{\"n\":\"100000000000000000000\"}]]"},
	    {"[true,null,\"x\"]", "[true,null,\"x\"]"},
	    {"{}", "{}"},
	};
	struct json_error e;

	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		size_t len = strlen(pairs[i][0]);
		char *quoted = xrealloc(NULL, RFC8259_QUOTED_SIZE(len));
		assert_true(rfc8259_check(pairs[i][0], len, quoted, &e));
		assert_string_equal(quoted, pairs[i][1]);
		free(quoted);
	}
	/* the densest text there is fills the buffer and no more; a sanitizer watches */
	for (size_t n = 1; n < 200; n++) {
		char text[400], *quoted = xrealloc(NULL, RFC8259_QUOTED_SIZE(2 * n + 1));
		text[0] = '[';
		for (size_t i = 0; i < n; i++)
			memcpy(text + 1 + 2 * i, i + 1 < n ? "7," : "7]", 2);
		assert_true(rfc8259_check(text, 2 * n + 1, quoted, &e));
		assert_int_equal(strlen(quoted), 4 * n + 1);
		free(quoted);
	}
}

#define HOSTILE (64 * 1024)
#define HOSTILE_MS 300 /* generous: it takes about 5; a quadratic search takes seconds */

/* Fill a text with members, each by name(i), and measure. */
static bool
hostile(size_t name(char *to, unsigned i), const char *last, struct json_error *e)
{
	char *text = xrealloc(NULL, HOSTILE + 64);
	size_t len = 1;
	struct timespec from, to;
	double ms;
	bool ok;

	text[0] = '{';
	for (unsigned i = 0; len < HOSTILE - 200; i++) {
		text[len++] = '"';
		len += name(text + len, i);
		memcpy(text + len, "\":0,", 4);
		len += 4;
	}
	memcpy(text + len, last, strlen(last));
	len += strlen(last);
	clock_gettime(CLOCK_MONOTONIC, &from);
	ok = rfc8259_check(text, len, NULL, e);
	clock_gettime(CLOCK_MONOTONIC, &to);
	ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
	if (ms > HOSTILE_MS)
		fail_msg("64 KiB of names took %.0f ms", ms);
	if (!ok)
		assert_int_equal(e->offset, len - 6);
	free(text);
	return ok;
}

static size_t
short_name(char *to, unsigned i)
{
	return (size_t)sprintf(to, "%x", i);
}

static size_t
descending_name(char *to, unsigned i)
{
	return (size_t)sprintf(to, "%06u", 999999 - i);
}

static size_t
escaped_name(char *to, unsigned i)
{
	return (size_t)sprintf(to, "\\u%04x", 0x100 + i);
}

static size_t
long_common_name(char *to, unsigned i)
{
	return (size_t)sprintf(to, "%0120u", i);
}

static void
test_hostile_names_are_fast(void **state)
{
	size_t (*const names[])(char *, unsigned) = {
	    short_name, descending_name, escaped_name, long_common_name};
	struct json_error e;

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		assert_true(hostile(names[i], "\"z\":0}", &e));
	}
	assert_false(hostile(short_name, "\"1\":0}", &e));
	assert_false(hostile(descending_name, "\"9\":0,\"9\":0}", &e));
}

/* Thousands of brackets end at the limit, not at the end of the stack. */
static void
test_hostile_depth(void **state)
{
	char *text = xrealloc(NULL, HOSTILE);
	struct json_error e;

	(void)state;
	memset(text, '[', HOSTILE);
	assert_false(check(text, HOSTILE, &e));
	assert_int_equal(e.offset, RFC8259_MAX_DEPTH);
	for (size_t i = 0; i + 5 <= HOSTILE; i += 5)
		memcpy(text + i, "{\"a\":", 5);
	assert_false(check(text, HOSTILE, &e));
	assert_int_equal(e.offset, 5 * RFC8259_MAX_DEPTH);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_yes),
	    cmocka_unit_test(test_no),
	    cmocka_unit_test(test_every_cut),
	    cmocka_unit_test(test_every_byte),
	    cmocka_unit_test(test_every_code_point),
	    cmocka_unit_test(test_depth),
	    cmocka_unit_test(test_positions),
	    cmocka_unit_test(test_quoted_copy),
	    cmocka_unit_test(test_hostile_names_are_fast),
	    cmocka_unit_test(test_hostile_depth),
	};

	return cmocka_run_group_tests_name("rfc8259", tests, NULL, NULL);
}
