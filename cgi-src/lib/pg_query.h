/* SPDX-License-Identifier: MIT */
/*
 * pg_query.h - one statement at a time, for foloosi-worker and foloosictl.
 */
#ifndef PG_QUERY_H
#define PG_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "pg.h"
#include "text.h"

/* A person reads what fails: nothing is logged, and pg_error() is the server's whole sentence with its hint. */
void pg_for_person(struct pg *);

/*
 * Is there a connection to a schema that the program knows? Makes one if there is none, but not
 * at every call: after a failure, only when some time has passed. Logs what changes.
 */
bool pg_ready(struct pg *);

/* Rows of an answer. Ended by pg_rows_free(), also after a failure. */
struct pg_rows {
	void *result; /* pg_query.c's own */
	size_t count;
};

/*
 * One statement, in a transaction of its own if there is no other, waited for as long as the role's
 * statement_timeout lets it run.
 *   values  n parameters as text; NULL: the SQL null
 *   rows    receives the answer; NULL: it is not wanted
 * Returns PG_OK, PG_LOST (no connection, or it broke: not known whether it was committed) or what
 * pg_refused() knows. A failure is logged here, except for a person.
 */
enum pg_status pg_query(
    struct pg *, const char *sql, size_t n, const char *const *values, struct pg_rows *rows);

/* Did the server refuse it? Then it rolled back, and the connection is in order. */
static inline bool
pg_refused(enum pg_status status)
{
	return status != PG_OK && status != PG_LOST;
}

/* A value, or NULL for the SQL null. It lives as long as the rows, as a column's name does. */
const char *pg_value(const struct pg_rows *, size_t row, int column);
int pg_columns(const struct pg_rows *); /* how many there are */
const char *pg_column_name(const struct pg_rows *, int column);
bool pg_column_is_number(const struct pg_rows *, int column);
void pg_rows_free(struct pg_rows *);

/*
 * An array of text in text form, {"a",NULL}, in a growing text that begins as {0} or cleared.
 * element: copied; NULL: the SQL null.
 */
void pg_array_add(struct text *, const char *element);

/* Close the array: a parameter for pg_query(), until something is added to it or it is cleared. */
const char *pg_array_text(struct text *);

#endif
