/*
 * store.h - foloosi-worker's and foloosictl's conversation with PostgreSQL. store.c knows libpq,
 * as db.c does for the handler and migrate.c for "foloosictl migrate".
 */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>

struct store;

enum store_status {
	STORE_OK,      /* committed */
	STORE_REFUSED, /* the server said no: rolled back; the connection is in order */
	STORE_AWAY,    /* no connection, or it broke: not known whether it was committed */
};

/* Make a closed connection. conninfo: as for libpq; copied. Owned, for store_free(). */
struct store *store_new(const char *conninfo);
void store_free(struct store *); /* NULL is ignored */

/*
 * A person waits at the other end: failures are not logged, and store_said() has the server's whole
 * sentence with its hint, on one line. It lives until the next call; "": there was none.
 */
void store_for_person(struct store *);
const char *store_said(const struct store *);

/* Its role may not call schema_version(): a connection is ready without that. */
void store_for_role_without_version(struct store *);

/*
 * Is there a connection to a schema that we know? Makes one if there is none, but not
 * at every call: after a failure, only when some time has passed. Logs what changes.
 */
bool store_ready(struct store *);

/* Rows of an answer. Ended by store_rows_free(), also after a failure. */
struct store_rows {
	void *result; /* store.c's own */
	size_t count;
};

/*
 * One statement, in a transaction of its own, waited for as long as the role's statement_timeout lets it run.
 *   values  n parameters as text; NULL: the SQL null
 *   rows    receives the answer; NULL: nobody wants it
 * A failure is logged here, or kept for store_said().
 */
enum store_status store_ask(
    struct store *, const char *sql, size_t n, const char *const *values, struct store_rows *rows);
const char *store_text(const struct store_rows *, size_t row,
    int column);                              /* NULL: the SQL null; lives as long as the rows */
int store_columns(const struct store_rows *); /* how many columns an answer has */
const char *store_column_name(
    const struct store_rows *, int column); /* lives as long as the rows */
bool store_column_is_number(const struct store_rows *, int column);
void store_rows_free(struct store_rows *);

/* An array in text form, {"a",NULL}, grown by array_add(). Begin with {0}, end with array_free(). */
struct array {
	char *text;
	size_t len, cap;
};
void array_add(struct array *, const char *element); /* NULL: the SQL null */
const char *array_text(struct array *);              /* lives until the next array_add() */
void array_clear(struct array *);
void array_free(struct array *);

#endif
