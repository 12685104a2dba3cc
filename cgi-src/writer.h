/*
 * writer.h - collects waiting deliveries, commits them together, hands back outcomes.
 */
#ifndef WRITER_H
#define WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "delivery.h"

struct writer;

struct writer_options {
	const char *database; /* libpq connection string, may be ""; copied */
	bool one_at_a_time;   /* writer_record() is called by one thread only: one lane will do */
};

/*
 * Start the writer's lanes (threads, two or one). It connects by itself, in the
 * background, and again whenever the connection is lost. Returns an owned
 * writer, to be ended by writer_stop(). Fatal when a thread cannot be made.
 */
struct writer *writer_start(const struct writer_options *);

/*
 * Lend a delivery and wait for its verdict. Returns when d->outcome is one of
 * RECORDED, DUPLICATE, IGNORED, REVIEW, REJECTED (committed) or UNAVAILABLE
 * (nothing was kept, or it is not known), at d->deadline at the latest. With
 * UNAVAILABLE, d->reason says why: "database", "in_doubt", "busy", "refused",
 * "schema". Safe from any number of threads, each with its own delivery.
 */
void writer_record(struct writer *, struct delivery *d);

/* Numbers since the start, for a log line at the stop and for tests. */
struct writer_stats {
	uint64_t batches;    /* calls of record_deliveries() that committed */
	uint64_t deliveries; /* elements in them */
	uint64_t busy;       /* elements that came back busy */
	uint64_t connects;   /* connections made */
	uint64_t failures;   /* calls that did not commit */
};
void writer_stats(struct writer *, struct writer_stats *);

/*
 * End the lanes, close their connections, free the writer. Call it after the
 * last writer_record() has returned; NULL is ignored.
 */
void writer_stop(struct writer *);

#endif
