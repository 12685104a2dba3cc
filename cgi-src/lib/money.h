/* SPDX-License-Identifier: MIT */
/*
 * money.h - exact decimal text and ISO 4217 codes. An amount is never a double:
 * it stays text from the wire to the numeric column.
 */
#ifndef MONEY_H
#define MONEY_H

#include <stdbool.h>

#define MONEY_INTEGER_DIGITS 12 /* with MONEY_DECIMALS: sql's numeric(16,4) */
#define MONEY_DECIMALS 4
#define CURRENCY_LETTERS 3

/*
 * Is this NUL-terminated text an amount: 1 to MONEY_INTEGER_DIGITS ASCII digits, then
 * optionally a point and 1 to MONEY_DECIMALS digits? No sign, exponent, separator or
 * blank; zero is an amount. Leading zeros ("007") are the same number and pass: the
 * sender may pad a string, and a JSON number cannot have them. The unit is the
 * currency's major unit, as the provider sends it.
 */
bool money_valid(const char *text);

/*
 * An amount as people write it: with at least the decimals that its currency usually has (ISO 4217:
 * 100.50 AED, 18.605 KWD, 1500 JPY), and no zeros beyond those. Exact: no digit but zeros is added or
 * left out.
 *   amount    as money_valid() has it, also with a sign or more digits; anything else stays as it is
 *   currency  three letters in upper case; NULL: unknown, the amount stays as it is
 * Owned by the caller.
 */
char *money_show(const char *amount, const char *currency);

/*
 * Is this NUL-terminated text three ASCII letters (the shape of ISO 4217, not its
 * list, which changes)? If so they are made upper case in place; else the text is
 * left alone.
 */
bool currency_normalize(char *text);

#endif
