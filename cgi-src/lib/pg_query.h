/*
 * pg_query.h - one statement at a time, for foloosi-worker and foloosictl.
 */
#ifndef PG_QUERY_H
#define PG_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "pg.h"

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

/* Did the server say no? Then it rolled back, and the connection is in order. */
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

/* An array in text form, {"a",NULL}, grown by pg_array_add(). Begin with {0}, end with pg_array_free(). */
struct pg_array {
	char *text;
	size_t len, cap;
};
void pg_array_add(struct pg_array *, const char *element); /* NULL: the SQL null */
const char *pg_array_text(struct pg_array *);              /* lives until the next pg_array_add() */
void pg_array_clear(struct pg_array *);
void pg_array_free(struct pg_array *);

#endif
