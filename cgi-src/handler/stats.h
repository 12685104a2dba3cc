/* SPDX-License-Identifier: MIT */
/*
 * stats.h - what the handler counts, and how Prometheus reads it.
 *
 * Counters belong to the process, so there is no object: counting is a call of a
 * function, which costs a few atomic additions, no lock and no memory.
 */
#ifndef STATS_H
#define STATS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "pg_record.h"
#include "delivery.h"
#include "writer.h"

/* Counters by one word each; stats.c has the words, and counts any other as "other". */
enum stats_counter {
	STATS_BATCH_FAILED, /* calls of record_deliveries() that did not commit, by reason */
	STATS_DRAINED,      /* deliveries that came out of the spool, by outcome */
	STATS_RELOADED,     /* SIGHUP: ok, failed */
	STATS__COUNTERS
};

enum stats_histogram {
	STATS_REQUEST_MS, /* from a request's arrival to its answer */
	STATS_COMMIT_MS,  /* calls of record_deliveries() that committed */
	STATS_BATCH_SIZE, /* deliveries in them */
	STATS__HISTOGRAMS
};

/*
 * Have counters for the merchants of a configuration that is not in force yet. A merchant that had some, by
 * name, keeps them; none are ever removed. One thread at a time.
 */
void stats_adopt(struct config *);

/*
 * A request gets its answer. From any thread.
 *   merchant  NULL: unknown
 *   reason    counted with OUTCOME_UNAVAILABLE
 *   ms        since its arrival
 */
void stats_answer(const struct merchant *, enum outcome, enum reason, int64_t ms);

void stats_count(enum stats_counter, const char *word);
void stats_observe(enum stats_histogram, int64_t value);

/* What is not counted but read when the metrics are asked for. */
struct stats_sample {
	struct writer_stats writer;

	bool spooling; /* there is a spool */
	uint64_t spool_files, spool_bytes, spool_oldest_s, spool_max_files, spool_max_bytes,
	    spool_aside;

	bool monitored;  /* the database is asked for the rest … */
	bool monitor_up; /* … and has said it: */
	const struct pg_fact *facts;
	size_t fact_count;
};

/* Write all of it in Prometheus' text format 0.0.4. */
void stats_write(FILE *, const struct stats_sample *);

#endif
