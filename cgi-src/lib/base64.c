/* SPDX-License-Identifier: MIT */
/*
 * base64.c - base64, one spelling for each value.
 *
 * libcrypto encodes. It does not decode: EVP_DecodeBlock() skips blanks, leaves the padding in its
 * count, and takes unused bits that are not zero, so that one secret would have many spellings.
 */
#include <openssl/evp.h>

#include "base64.h"

void
base64_encode(const void *bytes, size_t n, char *out)
{
	EVP_EncodeBlock((unsigned char *)out, bytes, (int)n);
}

static int
value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

size_t
base64_decode(const char *text, size_t len, unsigned char *out, size_t room)
{
	size_t n = 0;
	size_t padding;

	if (len == 0 || len % 4 != 0)
		return 0;
	padding = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
	if (len / 4 * 3 - padding > room)
		return 0;
	for (size_t i = 0; i < len; i += 4) {
		size_t digits = i + 4 == len ? 4 - padding : 4;
		unsigned long bits = 0;

		for (size_t k = 0; k < 4; k++) {
			int v = k < digits ? value_of(text[i + k]) : 0;

			if (v < 0)
				return 0;
			bits = bits << 6 | (unsigned long)v;
		}
		if ((digits == 2 && (bits & 0xffff)) || (digits == 3 && (bits & 0xff)))
			return 0;
		out[n++] = (unsigned char)(bits >> 16);
		if (digits > 2)
			out[n++] = (unsigned char)(bits >> 8 & 0xff);
		if (digits > 3)
			out[n++] = (unsigned char)(bits & 0xff);
	}
	return n;
}
