/* SPDX-License-Identifier: MIT */
/*
 * mem.h - allocation that does not fail.
 *
 * Requests are bounded, so running out of memory means a broken environment: the
 * process ends, the service manager starts it again, and nothing was acknowledged
 * that is not committed.
 */
#ifndef MEM_H
#define MEM_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Log a line, which itself needs no memory, and abort. */
static inline _Noreturn void
out_of_memory(void)
{
	static const char line[] =
	    "level=error event=fatal reason=\"out of memory\" remedy=\"raise "
	    "the limit (MemoryMax, RLIMIT_AS), or lower threads or "
	    "body_limit\"\n";

	if (write(STDERR_FILENO, line, sizeof line - 1) < 0)
		_exit(1); /* if the log cannot be written, nothing can be logged */
	abort();
}

/* Everything returned is owned by the caller and freed with free(). */

static inline void *
xrealloc(void *old, size_t size)
{
	void *p = realloc(old, size ? size : 1);
	if (p == NULL)
		out_of_memory();
	return p;
}

static inline void *
xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);
	if (p == NULL)
		out_of_memory();
	return p;
}

static inline char *
xstrdup(const char *s)
{
	size_t n = strlen(s) + 1;
	return memcpy(xrealloc(NULL, n), s, n);
}

__attribute__((format(printf, 1, 2))) static inline char *
xasprintf(const char *format, ...)
{
	va_list ap;
	char *s;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		out_of_memory();
	va_end(ap);
	return s;
}

#endif
