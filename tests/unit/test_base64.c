// objects: lib/base64.c
/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base64.h"

/* RFC 4648 section 10, and bytes that need the last two digits. */
static const struct {
	const char *bytes, *text;
} pairs[] = {
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+"},
};

static void
both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		size_t n = strlen(pairs[i].bytes), len = strlen(pairs[i].text);
		char text[BASE64_SIZE(6)];
		unsigned char bytes[6];

		base64_encode(pairs[i].bytes, n, text);
		assert_string_equal(text, pairs[i].text);
		assert_true(strlen(text) + 1 <= BASE64_SIZE(n));
		assert_int_equal(base64_decode(text, len, bytes, sizeof bytes), n);
		assert_memory_equal(bytes, pairs[i].bytes, n);
	}
}

static void
every_length_up_to_a_hundred(void **state)
{
	unsigned char bytes[100], again[100];
	char text[BASE64_SIZE(100)];

	(void)state;
	for (size_t n = 1; n <= sizeof bytes; n++) {
		for (size_t i = 0; i < n; i++)
			bytes[i] = (unsigned char)(i * 37 + n);
		base64_encode(bytes, n, text);
		assert_int_equal(strlen(text) + 1, BASE64_SIZE(n));
		assert_int_equal(base64_decode(text, strlen(text), again, n), n);
		assert_memory_equal(again, bytes, n);
		assert_int_equal(base64_decode(text, strlen(text), again, n - 1), 0);
	}
}

/* What EVP_DecodeBlock() or other decoders take, and what would give a value a second spelling. */
static void
only_one_spelling(void **state)
{
	static const char *const rows[] = {"", "Zg", "Zg=", "Zm9", "Zh==", "Zn==", "Zm9=", "Zm8",
	    "====", "Z===", "=Zg=", "Zg==Zg==", "Zg=a", "Zm 9", "Zm9v\n", " Zm9v", "Zm9v ", "Zm9-",
	    "Zm9_", "Zm9v====", "\xc3\xa9\xc3\xa9"};
	unsigned char out[16];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(base64_decode(rows[i], strlen(rows[i]), out, sizeof out), 0);
	assert_int_equal(base64_decode("Zm\0v", 4, out, sizeof out), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(both_ways),
	    cmocka_unit_test(every_length_up_to_a_hundred),
	    cmocka_unit_test(only_one_spelling),
	};

	return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
