/* SPDX-License-Identifier: MIT */
/*
 * text.c - text that grows, strings of JSON, UTF-8.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "text.h"

#define FIRST_SIZE 128

void
text_reserve(struct text *t, size_t n)
{
	size_t cap = t->cap == 0 ? FIRST_SIZE : t->cap * 2;

	if (n < t->cap - t->len)
		return;
	t->cap = cap > t->len + n ? cap : t->len + n + 1;
	t->bytes = xrealloc(t->bytes, t->cap);
}

void
text_add_bytes(struct text *t, const void *bytes, size_t len)
{
	text_reserve(t, len);
	memcpy(t->bytes + t->len, bytes, len);
	t->len += len;
	t->bytes[t->len] = '\0';
}

void
text_add(struct text *t, const char *words)
{
	text_add_bytes(t, words, strlen(words));
}

void
text_add_char(struct text *t, char c)
{
	text_add_bytes(t, &c, 1);
}

void
text_format(struct text *t, const char *format, ...)
{
	va_list ap, again;
	int len;

	text_reserve(t, 0);
	va_start(ap, format);
	va_copy(again, ap);
	len = vsnprintf(t->bytes + t->len, t->cap - t->len, format, ap);
	if (len < 0)
		out_of_memory();
	if ((size_t)len >= t->cap - t->len) {
		text_reserve(t, (size_t)len);
		vsnprintf(t->bytes + t->len, t->cap - t->len, format, again);
	}
	va_end(again);
	va_end(ap);
	t->len += (size_t)len;
}

void
text_add_json(struct text *t, const char *words)
{
	if (words == NULL) {
		text_add(t, "null");
		return;
	}
	text_add_char(t, '"');
	while (*words != '\0') {
		size_t plain = 0;

		while ((unsigned char)words[plain] >= ' ' && words[plain] != '"' &&
		       words[plain] != '\\')
			plain++;
		text_add_bytes(t, words, plain);
		words += plain;
		if (*words == '"' || *words == '\\')
			text_format(t, "\\%c", *words++);
		else if (*words != '\0')
			text_format(t, "\\u%04x", (unsigned char)*words++);
	}
	text_add_char(t, '"');
}

void
text_clear(struct text *t)
{
	text_reserve(t, 0);
	t->len = 0;
	t->bytes[0] = '\0';
}

void
text_free(struct text *t)
{
	free(t->bytes);
	*t = (struct text){0};
}

/* Unicode, table 3-7: only the second byte's range depends on the first. */
size_t
utf8_sequence(const void *from, const void *end)
{
	const unsigned char *p = from;
	size_t len;
	unsigned char low = 0x80, high = 0xBF;

	if (p[0] < 0x80) {
		return 1;
	} else if (p[0] >= 0xC2 && p[0] <= 0xDF) { /* C0, C1 would be overlong */
		len = 2;
	} else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
		len = 3;
		if (p[0] == 0xE0)
			low = 0xA0; /* below: overlong */
		if (p[0] == 0xED)
			high = 0x9F; /* above: surrogates */
	} else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
		len = 4;
		if (p[0] == 0xF0)
			low = 0x90; /* below: overlong */
		if (p[0] == 0xF4)
			high = 0x8F; /* above: beyond U+10FFFF */
	} else {
		return 0;
	}
	if ((size_t)((const unsigned char *)end - p) < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (p[i] < 0x80 || p[i] > 0xBF)
			return 0;
	return len;
}

uint32_t
utf8_code_point(const void *from, size_t n)
{
	const unsigned char *p = from;
	uint32_t c = n == 1 ? p[0] : p[0] & (0x7Fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3Fu);
	return c;
}

size_t
utf8_length(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += !utf8_continues(*text);
	return n;
}

static bool
is_white(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0D) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200D) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
	       c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

/* Bytes of the character at p, which is before end. A byte that begins none counts as one. */
static size_t
next_character(const char *p, const char *end, bool *white)
{
	size_t n = utf8_sequence(p, end);

	*white = n > 0 && is_white(utf8_code_point(p, n));
	return n > 0 ? n : 1;
}

const char *
utf8_skip_white(const char *text)
{
	const char *end = text + strlen(text);
	bool white = true;

	while (text < end) {
		size_t n = next_character(text, end, &white);

		if (!white)
			break;
		text += n;
	}
	return text;
}

char *
utf8_trim(char *text)
{
	char *from = text + (utf8_skip_white(text) - text), *end = from + strlen(from);
	char *last = from; /* where the last character that is no white space ends */

	for (char *p = from; p < end;) {
		bool white;

		p += next_character(p, end, &white);
		if (!white)
			last = p;
	}
	*last = '\0';
	return from;
}

void
utf8_cut(char *text, size_t limit)
{
	for (; *text != '\0'; text++)
		if (!utf8_continues(*text) && limit-- == 0) {
			*text = '\0';
			return;
		}
}
