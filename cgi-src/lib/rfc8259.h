/* SPDX-License-Identifier: MIT */
/*
 * rfc8259.h - is this text JSON, exactly?
 *
 * json-c's strict mode lets single quotes, NaN, control characters, overlong
 * UTF-8, encoded surrogates and bytes behind a NUL pass, and rounds long
 * integers. So all JSON from outside is checked here first, and json-c only builds
 * the tree of what is well formed (json.h).
 */
#ifndef RFC8259_H
#define RFC8259_H

#include <stdbool.h>
#include <stddef.h>

#define RFC8259_MAX_DEPTH 32

/* Where a text stops being JSON. */
struct json_error {
	size_t offset;      /* in bytes from 0 */
	unsigned line;      /* from 1 */
	unsigned column;    /* from 1, in bytes */
	const char *reason; /* static sentence */
};

/*
 * Check a text against RFC 8259, and beyond it: UTF-8 by RFC 3629 (no overlong
 * forms, no surrogates), no \u0000, surrogate escapes only in pairs, no member
 * name twice in one object (compared after unescaping), depth at most
 * RFC8259_MAX_DEPTH. One byte order mark in front is skipped (RFC 8259 section 8.1); it counts as
 * part of the text in the place of an error, and is not in quoted.
 *   text, len  the bytes; NUL is not special, only wrong
 *   quoted     NULL, or a buffer of at least RFC8259_QUOTED_SIZE(len) bytes that
 *              receives the same text with every number put in double quotes, so
 *              that its source digits survive json-c; NUL-terminated
 *   e          filled when the answer is false
 * Returns true if the text conforms. Aborts when memory runs out.
 */
bool rfc8259_check(const char *text, size_t len, char *quoted, struct json_error *e);

/* A one-digit number and a comma are two bytes that become four. */
#define RFC8259_QUOTED_SIZE(len) (2 * (len) + 3)

#endif
