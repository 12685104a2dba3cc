/* SPDX-License-Identifier: MIT */
/*
 * text.h - text that grows, strings of JSON, UTF-8.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A text that grows. Begin with {0}. All functions that add to it abort when memory runs out.
 * Its block keeps its size in text_clear(), so that a text that is used again allocates nothing.
 */
struct text {
	char *bytes; /* owned; NUL-terminated; NULL as long as nothing was added */
	size_t len;  /* without the NUL */
	size_t cap;  /* size of the block */
};

void text_add_bytes(struct text *, const void *bytes, size_t len);
void text_add(struct text *, const char *words);
void text_add_char(struct text *, char);
void text_format(struct text *, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Add a string of JSON (RFC 8259 section 7). words: UTF-8; NULL: adds null. */
void text_add_json(struct text *, const char *words);

/* Have room for n bytes more and a NUL, in one step: the caller may write them to bytes + len. */
void text_reserve(struct text *, size_t n);

void text_clear(struct text *); /* make it "" */
void text_free(struct text *);  /* free its block and zero it; safe on a zeroed one */

/*
 * Length of the well-formed UTF-8 sequence (RFC 3629: no overlong forms, no surrogates) that begins
 * at p, which is before end. 0: none does.
 */
size_t utf8_sequence(const void *p, const void *end);

/* The code point of a well-formed sequence of n bytes. */
uint32_t utf8_code_point(const void *p, size_t n);

/* Code points in a text of well-formed UTF-8. */
size_t utf8_length(const char *text);

/*
 * White space is what Unicode's White_Space names, and what has no width: U+FEFF, U+200B to U+200D.
 * Texts of well-formed UTF-8.
 */
const char *utf8_skip_white(const char *text); /* to the first character that is none */
char *utf8_trim(char *text); /* take it off both ends: the rest, which begins within the text */

/* Cut a text of well-formed UTF-8 to at most so many code points. */
void utf8_cut(char *text, size_t limit);

/* Is this byte within a sequence, not at its beginning? */
static inline bool
utf8_continues(char c)
{
	return ((unsigned char)c & 0xC0) == 0x80;
}

#endif
