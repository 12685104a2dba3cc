/* SPDX-License-Identifier: MIT */
/*
 * pg_record.h - what the handler asks PostgreSQL: record a batch, is the database ready, its figures.
 * Every call keeps its deadline, clock_ms(), whatever the server, the network or a standby does.
 * After PG_LOST, PG_DOWN and PG_SCHEMA the connection is closed.
 */
#ifndef PG_RECORD_H
#define PG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "delivery.h"
#include "pg.h"

/* Deliveries a call: record_deliveries()' own limit, which bounds the locks that it takes. */
#define BATCH_MAX 256

/*
 * Connect, and check that the schema is one that this program knows. Only the resolver
 * (getaddrinfo) does not know the deadline. Returns PG_OK, PG_DOWN or PG_SCHEMA; does nothing
 * if connected.
 */
enum pg_status pg_connect(struct pg *, int64_t deadline);

/*
 * Commit n deliveries (1 … BATCH_MAX) by one call of foloosi.record_deliveries(). On PG_OK every
 * delivery has its outcome, OUTCOME_BUSY among the possible. On anything else none was written;
 * after PG_LOST the batch may have been kept, and recording it again is harmless; after PG_DATA
 * one at a time shows which is to blame.
 */
enum pg_status pg_record(struct pg *, struct delivery *const *batch, size_t n, int64_t deadline);

/*
 * Could pg_record() be called now? Asks the server over the open connection, or makes one.
 * Returns PG_OK, PG_DOWN or PG_SCHEMA.
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
 * Ask foloosi.monitor(), over the open connection, PG_MONITOR, or a new one. On PG_OK *facts is an
 * array of *n, for the caller to free; else NULL.
 */
enum pg_status pg_monitor(struct pg *, int64_t deadline, struct pg_fact **facts, size_t *n);

#endif
