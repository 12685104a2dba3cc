/* SPDX-License-Identifier: MIT */
/*
 * log.h - one line an event on stderr, key=value.
 *
 * Never logged: bodies, tokens, passwords, e-mail addresses, phone numbers, card
 * digits, order keys. Callers pass identifiers, counts and static text; log.c
 * escapes what is left (control characters, quotes, non-ASCII) so that a line
 * stays a line.
 */
#ifndef LOG_H
#define LOG_H

#include <stdint.h>
#include <stdnoreturn.h>

enum log_level {
	LOG_ERROR,   /* a person must act */
	LOG_WARNING, /* a person should look */
	LOG_INFO,    /* one line a request, and starts and stops */
	LOG_DEBUG,
	LOG__MAX
};

/* "error", "warning", … as they are logged and configured. */
extern const char *const log_level_names[LOG__MAX];

/* Lines above this level are not written. Default LOG_INFO. Set before threads start. */
void log_set_level(enum log_level);

/*
 * Write one line:  2026-11-23T12:00:00.123Z level=info event=<event> key="value" …
 *   event  static, one word
 *   ...    pairs of (const char *key, const char *value), closed by NULL. A NULL
 *          value leaves the pair out; values are quoted where they need it.
 * One write(2) a line, so lines of several threads do not mix. Keeps errno.
 */
void log_event(enum log_level, const char *event, ...) __attribute__((sentinel));

/* A decimal in a buffer of the thread, for log_event(); the last 8 are valid. */
const char *log_number(int64_t);

/* A broken environment at the start: log_event(LOG_ERROR) with the sentence, then exit(1). */
noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
