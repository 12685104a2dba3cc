/* SPDX-License-Identifier: MIT */
/*
 * pg_private.h - what lib/pg*.c share. No other file includes it.
 */
#ifndef PG_PRIVATE_H
#define PG_PRIVATE_H

#include <stddef.h>
#include <stdint.h>

#include "pg.h"
#include "text.h"

#define PG_ERROR_SIZE 4096
#define PG_FOREVER INT64_MAX /* a deadline */

/* libpq's, as PGconn and PGresult. */
struct pg_conn;
struct pg_result;

struct pg {
	enum pg_program program;
	char *conninfo;            /* owned */
	struct pg_conn *conn;      /* owned; NULL: closed */
	char error[PG_ERROR_SIZE]; /* pg_error() */
	char sqlstate[6];          /* of the last failure; "": it had none */
	const char *remedy;        /* pg_remedy() */
	int version;               /* of the schema, from pg_check_version() on; 0: not known */
	bool warned;               /* a warning came that is about the commit; pg_record.c */

	struct text parameters; /* encoded; pg_record.c */

	/* pg_query.c */
	bool for_person; /* nothing is logged; pg_error() is the server's whole sentence */
	bool away;       /* the log has it */
	int64_t try_at;  /* clock_ms(): no attempt to connect before */

	/* pg_script.c */
	void (*on_warning)(const char *text); /* NULL: warnings are dropped */
	long position; /* of the error in the script, in characters from 1; 0: unknown */
	unsigned done; /* statements that it had run before */
};

/*
 * Connect. deadline: clock_ms(), which only the resolver (getaddrinfo) does not know. PG_FOREVER:
 * as libpq does it, with connect_timeout for each address, 5 s where that is not set. Returns PG_OK,
 * or PG_DOWN and the connection is closed.
 */
enum pg_status pg_open(struct pg *, int64_t deadline);

/*
 * Bring a statement that PQsend… has taken to its end. On PG_OK *answer is its one result, for
 * PQclear(); on anything else it is NULL and pg_error() has the reason. The connection stays open.
 */
enum pg_status pg_finish(struct pg *, int64_t deadline, struct pg_result **answer);

/* Send a statement without parameters, and bring it to its end. */
enum pg_status pg_ask(struct pg *, const char *sql, int64_t deadline, struct pg_result **answer);

/*
 * Does the program know this version of the schema? PG_OK, PG_SCHEMA, or PG_DOWN if the server
 * had to be asked and did not answer.
 */
enum pg_status pg_check_version(struct pg *, int version, int64_t deadline);

/* Does it look at the version at all? */
bool pg_has_version(const struct pg *);

/* Keep a sentence for pg_error(), as one line, and its remedy. */
__attribute__((format(printf, 2, 3))) void pg_explain(struct pg *, const char *format, ...);

/* Keep an error of the server for pg_error(), as the program's reader may see it. */
enum pg_status pg_blame(struct pg *, const struct pg_result *);

/* What a SQLSTATE means for a statement; NULL: libpq had none, which is how a broken connection looks. */
enum pg_status pg_classify(const char *sqlstate);

#endif
