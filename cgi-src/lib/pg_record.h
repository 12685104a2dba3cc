/*
 * pg_record.h - the handler's connection to PostgreSQL: record a batch. pg_record.c, pg_query.c and migrate.c call
 * libpq; a PGresult never leaves the file that got it. One struct pg belongs to one thread. Every call keeps its deadline by itself, with poll, whatever the
 * server, the network or a standby does.
 */
#ifndef PG_RECORD_H
#define PG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "delivery.h"
#include "pg.h"

/* Deliveries a call: record_deliveries()' own limit, which bounds the locks that it takes. */
#define BATCH_MAX 256

/*
 * Make a closed connection. conninfo: a libpq connection string, "" for libpq's
 * environment and service files; copied. Returns an owned object for pg_free().
 */
struct pg *pg_new(const char *conninfo);

/*
 * Connect, and check that the schema is one that this program knows.
 * deadline: clock_ms(); only the resolver (getaddrinfo) does not know it. Returns
 * PG_OK, PG_DOWN or PG_SCHEMA; does nothing if connected.
 */
enum pg_status pg_connect(struct pg *, int64_t deadline);

/* Is a connection open, as far as is known without asking the server? */
bool pg_connected(const struct pg *);

/*
 * Commit n deliveries (1 … BATCH_MAX) by one call of foloosi.record_deliveries().
 * On PG_OK every delivery has its verdict, OUTCOME_BUSY among the possible.
 * On anything else no verdict was written.
 */
enum pg_status pg_record(struct pg *, struct delivery *const *batch, size_t n, int64_t deadline);

/*
 * Could pg_record() be called now? Asks the server over the open connection, or makes one.
 * Returns PG_OK, PG_DOWN or PG_SCHEMA; after these two the connection is closed.
 */
enum pg_status pg_ping(struct pg *, int64_t deadline);

/* A row of foloosi.monitor(). */
struct pg_fact {
	char metric[64];
	char merchant[LIMIT_MERCHANT + 1]; /* "": none */
	char detail[513];                  /* a kind, a state, a consumer's name; "": none */
	double value;
};

/*
 * Ask foloosi.monitor(), over the open connection or a new one, without what pg_connect() looks at:
 * its role may do nothing else. On PG_OK *facts is an array of *n, for the caller to free.
 * Anything else: the connection is closed, and *facts NULL.
 */
enum pg_status pg_monitor(struct pg *, int64_t deadline, struct pg_fact **facts, size_t *n);

/* The last failure as one line for the log, without data of any delivery. Lives until the next call. */
const char *pg_error(const struct pg *);

/* What an operator can do about it, in a sentence, or NULL; static. */
const char *pg_remedy(const struct pg *);

/* Close the connection; the object can connect again. */
void pg_close(struct pg *);

/* Close and free. NULL is ignored. */
void pg_free(struct pg *);

#endif
