// objects: lib/money.c
/* SPDX-License-Identifier: MIT */
// money.c: which texts are amounts, and which are currencies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "money.h"

static void
test_amounts(void **state)
{
	static const char *const amounts[] = {"0", "1", "9", "100", "0.5", "0.50", "0.0001",
	    "0.0000", "367.3", "1.10", "19.99", "007", "000000000000", "999999999999",
	    "999999999999.9999", "123456789012.3"};

	(void)state;
	for (size_t i = 0; i < sizeof amounts / sizeof *amounts; i++)
		if (!money_valid(amounts[i]))
			fail_msg("refused: %s", amounts[i]);
}

static void
test_no_amounts(void **state)
{
	static const char *const others[] = {"", ".", "1.", ".5", "-", "-1", "-0", "+1", "1e2",
	    "1E2", "1.5e1", "1e", "0x10", "1,000", "1,5", "1 000", " 1", "1 ", "\t1", "1\n",
	    "1.00001", "0.00000", "1.2.3", "1..2", "1000000000000", "0000000000001",
	    "1234567890123.45", "NaN", "nan", "Infinity", "inf", "abc", "1a", "a1", "1.a", "1_0",
	    "1'000", "AED 1", "1 AED", "\xD9\xA1", "\xEF\xBC\x91", "1\xC2\xA0", "\342\210\2221"};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (money_valid(others[i]))
			fail_msg("accepted: %s", others[i]);
}

/* The limits are the ones that the names say, digit by digit. */
static void
test_amount_limits(void **state)
{
	char text[64];

	(void)state;
	for (size_t whole = 0; whole <= MONEY_INTEGER_DIGITS + 2; whole++)
		for (size_t decimals = 0; decimals <= MONEY_DECIMALS + 2; decimals++) {
			bool good = whole >= 1 && whole <= MONEY_INTEGER_DIGITS &&
				    decimals <= MONEY_DECIMALS;
			memset(text, '7', sizeof text);
			text[whole] = '.';
			text[whole + (decimals > 0) + decimals] = '\0';
			if (money_valid(text) != good)
				fail_msg("%s: %s", good ? "refused" : "accepted", text);
		}
}

static void
test_currencies(void **state)
{
	static const char *const pairs[][2] = {{"AED", "AED"}, {"aed", "AED"}, {"uSd", "USD"},
	    {"zzz", "ZZZ"}, {"AAA", "AAA"}, {"aZA", "AZA"}};

	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		char text[8];
		strcpy(text, pairs[i][0]);
		assert_true(currency_normalize(text));
		assert_string_equal(text, pairs[i][1]);
	}
}

static void
test_no_currencies(void **state)
{
	static const char *const others[] = {"", "a", "ae", "aedx", "ae1", "784", "a d", " ae",
	    "ae ", "a-d", "@ab", "[ab", "`ab", "{ab",
	    "\xC3\xA9"
	    "a",
	    "\xC3\xA9"
	    "ab",
	    "\xC4\xB1"
	    "nr",
	    "\xE2\x82\xAC", "ae\xFF"};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		char text[8];
		strcpy(text, others[i]);
		if (currency_normalize(text))
			fail_msg("accepted: %s", others[i]);
		assert_string_equal(text, others[i]); /* left alone */
	}
}

static void
test_shown(void **state)
{
	static const struct {
		const char *amount, *currency, *shown;
	} rows[] = {
	    {"100.5", "AED", "100.50"},
	    {"100", "AED", "100.00"},
	    {"100.5000", "AED", "100.50"},
	    {"100.505", "AED", "100.505"},
	    {"0", "AED", "0.00"},
	    {"18.605", "KWD", "18.605"},
	    {"18.6", "KWD", "18.600"},
	    {"18.6050", "KWD", "18.605"},
	    {"1500", "JPY", "1500"},
	    {"1500.00", "JPY", "1500"},
	    {"1500.5", "JPY", "1500.5"},
	    {"1", "CLF", "1.0000"},
	    {"999999999999.9999", "AED", "999999999999.9999"},
	    {"12345678901234567890.1", "AED", "12345678901234567890.10"}, /* a sum */
	    {"-3.5", "AED", "-3.50"},
	    {"7.1", "XYZ", "7.10"},
	    {"7.1", NULL, "7.1"},
	    {"", "AED", ""},
	    {"-", "AED", "-"},
	    {"NaN", "AED", "NaN"},
	    {"1,5", "AED", "1,5"},
	    {"1.x", "AED", "1.x"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *shown = money_show(rows[i].amount, rows[i].currency);

		assert_string_equal(shown, rows[i].shown);
		free(shown);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_amounts),
	    cmocka_unit_test(test_no_amounts),
	    cmocka_unit_test(test_amount_limits),
	    cmocka_unit_test(test_currencies),
	    cmocka_unit_test(test_no_currencies),
	    cmocka_unit_test(test_shown),
	};

	return cmocka_run_group_tests_name("money", tests, NULL, NULL);
}
