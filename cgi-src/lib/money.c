/* SPDX-License-Identifier: MIT */
/*
 * money.c - exact decimal text and ISO 4217 codes.
 *
 * The character tests are spelled out: isdigit() and toupper() depend on the locale, and
 * what a payment is worth does not.
 */
#include "money.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

#define USUAL_DECIMALS 2

/* The currencies of ISO 4217 (list one) that do not have two decimals. */
static const struct {
	char code[CURRENCY_LETTERS + 1];
	unsigned char decimals;
} unusual[] = {
    {"BHD", 3},
    {"BIF", 0},
    {"CLF", 4},
    {"CLP", 0},
    {"DJF", 0},
    {"GNF", 0},
    {"IQD", 3},
    {"ISK", 0},
    {"JOD", 3},
    {"JPY", 0},
    {"KMF", 0},
    {"KRW", 0},
    {"KWD", 3},
    {"LYD", 3},
    {"OMR", 3},
    {"PYG", 0},
    {"RWF", 0},
    {"TND", 3},
    {"UGX", 0},
    {"UYI", 0},
    {"UYW", 4},
    {"VND", 0},
    {"VUV", 0},
    {"XAF", 0},
    {"XOF", 0},
    {"XPF", 0},
};

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

static size_t
currency_decimals(const char *currency)
{
	for (size_t i = 0; i < sizeof unusual / sizeof *unusual; i++)
		if (strcmp(unusual[i].code, currency) == 0)
			return unusual[i].decimals;
	return USUAL_DECIMALS;
}

char *
money_show(const char *amount, const char *currency)
{
	size_t sign = *amount == '-', whole = leading_digits(amount + sign), decimals = 0, usual;
	const char *fraction = amount + sign + whole;

	if (*fraction == '.')
		decimals = leading_digits(++fraction);
	if (currency == NULL || whole == 0 || fraction[decimals] != '\0')
		return xstrdup(amount);
	usual = currency_decimals(currency);
	while (decimals > usual && fraction[decimals - 1] == '0')
		decimals--;
	return xasprintf("%.*s%s%.*s%.*s", (int)(sign + whole), amount,
	    decimals > 0 || usual > 0 ? "." : "", (int)decimals, fraction,
	    (int)(decimals < usual ? usual - decimals : 0), "0000");
}
