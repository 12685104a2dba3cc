/*
 * db.h - the handler's connection to PostgreSQL: record a batch. db.c, store.c and migrate.c call
 * libpq; a PGresult never leaves the file that got it. One struct db belongs to one thread. Every call keeps its deadline by itself, with poll, whatever the
 * server, the network or a standby does.
 */
#ifndef DB_H
#define DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "delivery.h"

/* Deliveries a call: record_deliveries()' own limit, which bounds the locks that it takes. */
#define BATCH_MAX 256

struct db;

enum db_status {
	/* Committed: the verdicts are filled. */
	DB_OK,

	/* The connection broke, was cut by the deadline, or the commit was not confirmed: it is
	 * not known whether the batch was kept. Asking again is harmless. The connection is
	 * closed. */
	DB_LOST,

	/* Rolled back: a lock, deadlock, serialization or statement timeout; try again. */
	DB_LOCKED,

	/* Rolled back: the server refused something in the data; try one at a time. */
	DB_DATA,

	/* Rolled back or never begun: no connection, server out of resources, wrong password,
	 * missing privilege. The connection is closed. */
	DB_DOWN,

	/* Schema and program do not fit: there is no schema, or its version is unknown (rolled
	 * back or never begun), or the answer was not understood (it may have been kept). The
	 * connection is closed. */
	DB_SCHEMA,
};

/*
 * Make a closed connection. conninfo: a libpq connection string, "" for libpq's
 * environment and service files; copied. Returns an owned object for db_free().
 */
struct db *db_new(const char *conninfo);

/*
 * Connect, and check that the schema is one that this program knows.
 * deadline: clock_ms(); only the resolver (getaddrinfo) does not know it. Returns
 * DB_OK, DB_DOWN or DB_SCHEMA; does nothing if connected.
 */
enum db_status db_connect(struct db *, int64_t deadline);

/* Is a connection open, as far as is known without asking the server? */
bool db_connected(const struct db *);

/*
 * Commit n deliveries (1 … BATCH_MAX) by one call of foloosi.record_deliveries().
 * On DB_OK every delivery has its verdict, OUTCOME_BUSY among the possible.
 * On anything else no verdict was written.
 */
enum db_status db_record(struct db *, struct delivery *const *batch, size_t n, int64_t deadline);

/*
 * Could db_record() be called now? Asks the server over the open connection, or makes one.
 * Returns DB_OK, DB_DOWN or DB_SCHEMA; after these two the connection is closed.
 */
enum db_status db_ping(struct db *, int64_t deadline);

/* A row of foloosi.monitor(). */
struct db_fact {
	char metric[64];
	char merchant[LIMIT_MERCHANT + 1]; /* "": none */
	char detail[513];                  /* a kind, a state, a consumer's name; "": none */
	double value;
};

/*
 * Ask foloosi.monitor(), over the open connection or a new one, without what db_connect() looks at:
 * its role may do nothing else. On DB_OK *facts is an array of *n, for the caller to free.
 * Anything else: the connection is closed, and *facts NULL.
 */
enum db_status db_monitor(struct db *, int64_t deadline, struct db_fact **facts, size_t *n);

/* The last failure as one line for the log, without data of any delivery. Lives until the next call. */
const char *db_error(const struct db *);

/* What an operator can do about it, in a sentence, or NULL; static. */
const char *db_remedy(const struct db *);

/* Close the connection; the object can connect again. */
void db_close(struct db *);

/* Close and free. NULL is ignored. */
void db_free(struct db *);

#endif
