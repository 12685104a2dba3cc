/* SPDX-License-Identifier: MIT */
/*
 * money.c - exact decimal text and ISO 4217 codes.
 *
 * The character tests are spelled out: isdigit() and toupper() depend on the locale, and
 * what a payment is worth does not.
 */
#include "money.h"

#include <stddef.h>

/* How many ASCII digits does the text begin with? */
static size_t
leading_digits(const char *text)
{
	size_t n = 0;

	while (text[n] >= '0' && text[n] <= '9')
		n++;
	return n;
}

bool
money_valid(const char *text)
{
	size_t n = leading_digits(text);

	if (n < 1 || n > MONEY_INTEGER_DIGITS)
		return false;
	text += n;
	if (*text == '\0')
		return true;
	if (*text++ != '.')
		return false;
	n = leading_digits(text);
	return n >= 1 && n <= MONEY_DECIMALS && text[n] == '\0';
}

bool
currency_normalize(char *text)
{
	size_t n = 0;

	while ((text[n] >= 'A' && text[n] <= 'Z') || (text[n] >= 'a' && text[n] <= 'z'))
		n++;
	if (n != CURRENCY_LETTERS || text[n] != '\0')
		return false;
	for (; *text != '\0'; text++)
		if (*text >= 'a')
			*text = (char)(*text - 'a' + 'A');
	return true;
}
