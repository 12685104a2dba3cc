/* SPDX-License-Identifier: MIT */
/*
 * pg.h - a connection to PostgreSQL, for all programs. What is asked over it stands in pg_record.h
 * (the handler), pg_query.h (worker and foloosictl) and pg_script.h (foloosictl migrate). Only
 * lib/pg*.c call libpq. A connection belongs to one thread.
 */
#ifndef PG_H
#define PG_H

#include <stdbool.h>

struct pg;

/* What the connection is for: pg.c has the versions of the schema that each knows. */
enum pg_program {
	PG_HANDLER,
	PG_MONITOR, /* the handler's second connection, for foloosi.monitor() alone */
	PG_WORKER,
	PG_OPERATOR, /* foloosictl */
	PG_MIGRATE,  /* foloosictl migrate */
	PG_PROGRAM__MAX
};

enum pg_status {
	/* Committed. */
	PG_OK,

	/* The connection broke, was cut by the deadline, or the commit was not confirmed: it is
	 * not known whether the statement was kept. The connection is closed. */
	PG_LOST,

	/* Rolled back: a lock, deadlock, serialization or statement timeout; try again. */
	PG_LOCKED,

	/* Rolled back: the server refused something in the data. */
	PG_DATA,

	/* Rolled back or never begun: no connection, server out of resources, wrong password,
	 * missing privilege. */
	PG_DOWN,

	/* Schema and program do not fit: there is no schema, or its version is unknown (rolled
	 * back or never begun), or the answer was not understood (it may have been kept). */
	PG_SCHEMA,
};

/*
 * Make a closed connection. conninfo: a libpq connection string, "" for libpq's
 * environment and service files; copied. Returns an owned object for pg_free().
 */
struct pg *pg_new(enum pg_program, const char *conninfo);

/* Is a connection open, as far as is known without asking the server? */
bool pg_connected(const struct pg *);

/*
 * The last failure as one line, for the log: without data of any delivery. For a person it is the
 * server's whole sentence. "": there was none. Lives until the next call.
 */
const char *pg_error(const struct pg *);

/* What an operator can do about it, in a sentence, or NULL; static. */
const char *pg_remedy(const struct pg *);

/* Both in one line: the caller frees it. */
char *pg_complaint(const struct pg *);

/* Close the connection, without waiting; the object can connect again. */
void pg_close(struct pg *);

/* Close and free. NULL is ignored. */
void pg_free(struct pg *);

#endif
