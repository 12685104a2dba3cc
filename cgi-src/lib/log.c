/* SPDX-License-Identifier: MIT */
/*
 * log.c - one line an event.
 *
 * The hard part: a line must stay one line, whatever is in its values and however
 * many threads write. So a line is built in a buffer of PIPE_BUF bytes, which one
 * write(2) to a pipe never splits or mixes (POSIX write), every byte that could end
 * or forge a line is escaped on its way in, and what does not fit is cut in a way
 * that still closes its quotes and says cut=yes.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define TAIL "\" cut=yes\n" /* the longest end of a line: room for it is always kept */
#define LINE_MAX_BYTES PIPE_BUF
#define NUMBERS 8 /* live results of log_number() */

const char *const log_level_names[LOG__MAX] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

/* Atomic because SIGHUP may change it while threads write. */
static _Atomic int max_level = LOG_INFO;

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	bool cut; /* something did not fit: nothing more is added */
};

/* All or nothing, so that an escape is never halved. */
static void
put(struct line *l, const char *bytes, size_t len)
{
	if (l->cut || l->len + len > sizeof l->text - (sizeof TAIL - 1)) {
		l->cut = true;
		return;
	}
	memcpy(l->text + l->len, bytes, len);
	l->len += len;
}

/* Into the room that put() keeps for the tail. */
static void
put_tail(struct line *l, const char *s)
{
	size_t len = strlen(s);

	memcpy(l->text + l->len, s, len);
	l->len += len;
}

static bool
is_plain(const char *value)
{
	if (*value == '\0')
		return false;
	for (const char *p = value; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\\' || *p == '=')
			return false; /* a signed char beyond ASCII is negative: <= ' ' */
	return true;
}

/* What stands for a byte that is not printable ASCII. Returns its length. */
static size_t
escaped(char escape[5], unsigned char byte)
{
	return (size_t)snprintf(escape, 5, "\\x%02x", byte);
}

static void
put_value(struct line *l, const char *value)
{
	bool quoted = !is_plain(value);

	if (quoted)
		put(l, "\"", 1);
	if (l->cut)
		return;
	for (const unsigned char *p = (const unsigned char *)value; *p != '\0' && !l->cut; p++) {
		char escape[5] = "";

		if (*p == '"' || *p == '\\')
			put(l, (char[]){'\\', (char)*p}, 2);
		else if (*p == '\n')
			put(l, "\\n", 2);
		else if (*p == '\t')
			put(l, "\\t", 2);
		else if (*p >= ' ' && *p < 0x7f)
			put(l, (const char *)p, 1);
		else
			put(l, escape, escaped(escape, *p));
	}
	if (quoted)
		put_tail(l, "\"");
}

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void
log_event(enum log_level level, const char *event, ...)
{
	int saved_errno = errno;
	struct line l = {.len = 0};
	int64_t now = clock_wall_us();
	time_t second = (time_t)(now / 1000000);
	struct tm utc;
	char head[64];
	const char *key;
	va_list ap;
	ssize_t n;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;

	/* UTC: several machines' logs must sort together. */
	gmtime_r(&second, &utc);
	size_t len = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &utc);
	put(&l, head, len);
	put(&l, head,
	    (size_t)snprintf(head, sizeof head,
		".%03dZ level=%s event=", (int)(now % 1000000 / 1000), log_level_names[level]));
	put_value(&l, event);

	va_start(ap, event);
	while ((key = va_arg(ap, const char *)) != NULL) {
		const char *value = va_arg(ap, const char *);
		size_t pair = l.len, inside;

		if (value == NULL || l.cut)
			continue;
		put(&l, " ", 1);
		put(&l, key, strlen(key));
		put(&l, "=", 1);
		inside = l.len;
		put_value(&l, value);
		if (l.cut && l.len == inside)
			l.len = pair; /* no key without anything of its value */
	}
	va_end(ap);
	put_tail(&l, l.cut ? " cut=yes\n" : "\n");

	/* If the log cannot be written, nothing can be logged. */
	do
		n = write(STDERR_FILENO, l.text, l.len);
	while (n < 0 && errno == EINTR);
	errno = saved_errno;
}

const char *
log_number(int64_t number)
{
	static _Thread_local char ring[NUMBERS][sizeof "-9223372036854775808"];
	static _Thread_local unsigned next;
	char *text = ring[next++ % NUMBERS];

	snprintf(text, sizeof ring[0], "%" PRId64, number);
	return text;
}

noreturn void
fatal(const char *format, ...)
{
	char sentence[2048]; /* longer ones are cut; no allocation on the way out */
	va_list ap;

	va_start(ap, format);
	vsnprintf(sentence, sizeof sentence, format, ap);
	va_end(ap);
	log_event(LOG_ERROR, "fatal", "reason", sentence, (const char *)NULL);
	exit(1);
}
