/* SPDX-License-Identifier: MIT */
/*
 * base64.h - base64 (RFC 4648 section 4), one spelling for each value.
 */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4 + 1) /* of the text for n bytes, with its NUL */

/* Write n bytes as base64 and a NUL; out has room for BASE64_SIZE(n). */
void base64_encode(const void *bytes, size_t n, char *out);

/*
 * Read text of len characters: padded, no line breaks, unused bits zero. Writes at most room bytes.
 * Returns their number; 0 if the text is empty, malformed or too long. What was written is the
 * caller's to wipe, also then.
 */
size_t base64_decode(const char *text, size_t len, unsigned char *out, size_t room);

#endif
