/* SPDX-License-Identifier: MIT */
/*
 * drain.h - from the spool into PostgreSQL, beside live traffic.
 */
#ifndef DRAIN_H
#define DRAIN_H

#include <stdint.h>

#include "spool.h"

struct drain;

struct drain_options {
	struct spool *spool;           /* borrowed, until the drain has stopped */
	const char *database;          /* libpq connection string; copied */
	int rate;                      /* deliveries a second, at most */
	void (*drained)(enum outcome); /* called for each one recorded; NULL: nothing to call */
};

/*
 * Start the thread that drains whatever is in the spool, now and later, as soon as the
 * database takes it. Of several processes that share the directory one drains, and when it
 * ends another. Fatal when there can be no thread. The caller ends it with drain_stop().
 */
struct drain *drain_start(const struct drain_options *);
void drain_stop(struct drain *); /* NULL is ignored; waits for a batch under way */

enum drained {
	DRAIN_DONE,      /* each file had its turn */
	DRAIN_ELSEWHERE, /* another process drains this spool */
	DRAIN_FAILED     /* the database did not take it; *error says why */
};

struct drain_result {
	uint64_t drained; /* committed, and removed */
	uint64_t left;    /* had their turn, and are still there: locked, or refused */
};

/*
 * Drain once, in this thread. *error: receives a malloc'ed sentence with DRAIN_FAILED, for the
 * caller to free.
 */
enum drained drain_once(const struct drain_options *, struct drain_result *, char **error);

#endif
