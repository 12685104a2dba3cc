/*
 * pg_query.h - foloosi-worker's and foloosictl's conversation with PostgreSQL. pg_query.c knows libpq,
 * as pg_record.c does for the handler and migrate.c for "foloosictl migrate".
 */
#ifndef PG_QUERY_H
#define PG_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "pg.h"

/* Make a closed connection. conninfo: as for libpq; copied. Owned, for pg_client_free(). */
struct pg *pg_client_new(const char *conninfo);
void pg_client_free(struct pg *); /* NULL is ignored */

/*
 * A person waits at the other end: failures are not logged, and pg_client_error() has the server's whole
 * sentence with its hint, on one line. It lives until the next call; "": there was none.
 */
void pg_for_person(struct pg *);
const char *pg_client_error(const struct pg *);

/* Its role may not call schema_version(): a connection is ready without that. */
void pg_without_version(struct pg *);

/*
 * Is there a connection to a schema that we know? Makes one if there is none, but not
 * at every call: after a failure, only when some time has passed. Logs what changes.
 */
bool pg_ready(struct pg *);

/* Of pg_query(): did the server say no? Then it rolled back, and the connection is in order. */
static inline bool
pg_refused(enum pg_status status)
{
	return status != PG_OK && status != PG_LOST;
}

/* Rows of an answer. Ended by pg_rows_free(), also after a failure. */
struct pg_rows {
	void *result; /* pg_query.c's own */
	size_t count;
};

/*
 * One statement, in a transaction of its own, waited for as long as the role's statement_timeout lets it run.
 *   values  n parameters as text; NULL: the SQL null
 *   rows    receives the answer; NULL: nobody wants it
 * Returns PG_OK, PG_LOST (no connection, or it broke: not known whether it was committed) or what
 * pg_refused() knows. A failure is logged here, or kept for pg_client_error().
 */
enum pg_status pg_query(
    struct pg *, const char *sql, size_t n, const char *const *values, struct pg_rows *rows);
const char *pg_value(const struct pg_rows *, size_t row,
    int column);                        /* NULL: the SQL null; lives as long as the rows */
int pg_columns(const struct pg_rows *); /* how many columns an answer has */
const char *pg_column_name(const struct pg_rows *, int column); /* lives as long as the rows */
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
