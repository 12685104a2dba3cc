/*
 * writer.h - collects waiting deliveries, commits them together, hands back outcomes.
 */
#ifndef WRITER_H
#define WRITER_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "delivery.h"

struct writer;
struct lane;

/*
 * A delivery on loan. owner and next are for who collects it; all else is the writer's.
 */
struct waiting {
	void *owner;
	struct waiting *next; /* in a queue, or behind it in what writer_collect() returned */

	struct delivery *d;
	struct lane *lane;  /* in whose queue it stands; NULL: in hand */
	int64_t due;        /* clock_ms() before which it is not tried */
	int pause;          /* ms before the try after that */
	bool alone;         /* not to be tried together with others */
	bool in_doubt;      /* a try ended without an answer */
	enum reason reason; /* what to say when its time is up */
	bool unattended;    /* nobody waits: it is for writer_collect() */
	sem_t answered;     /* else who waits does it here … */
	atomic_bool posted; /* … for this */
};

struct writer_options {
	const char *database; /* libpq connection string, may be ""; copied */
	bool one_at_a_time;   /* never more than one is lent: one lane will do */
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
 * UNAVAILABLE, d->unavailable says why: DATABASE, IN_DOUBT, BUSY, REFUSED,
 * SCHEMA. Safe from any number of threads, each with its own delivery.
 */
void writer_record(struct writer *, struct delivery *d);

/*
 * The same without waiting: lend a delivery, and w and owner with it, until they come back from
 * writer_collect(). False: it is refused at once, and not lent; d has its verdict.
 */
bool writer_lend(struct writer *, struct waiting *w, struct delivery *d, void *owner);

/*
 * Wait until some of what was lent by writer_lend() has its verdict, at its deadline at the latest.
 * Returns all of it, linked by next, the oldest first; NULL after writer_close(), when all
 * has come back. One thread calls it, again and again.
 */
struct waiting *writer_collect(struct writer *);

/* There will be no more writer_lend(). */
void writer_close(struct writer *);

/* Numbers since the start, for a log line at the stop, for /metrics and for tests. */
struct writer_stats {
	uint64_t batches;    /* calls of record_deliveries() that committed */
	uint64_t deliveries; /* elements in them */
	uint64_t busy;       /* elements that came back busy */
	uint64_t connects;   /* connections made */
	uint64_t failures;   /* calls that did not commit */

	/* of this moment */
	uint64_t queued;  /* deliveries that wait for a lane */
	bool up;          /* the main lane is connected, as far as is known */
	enum reason down; /* why all is refused at the moment; REASON_NONE: it is not */
};
void writer_stats(struct writer *, struct writer_stats *);

/*
 * For how many milliseconds one of the writer's threads, or the one that collects, has owed a sign
 * of life: 0 if all is quiet, as long as the step under way takes if there is work, and
 * without end if a thread is stuck or gone. A step takes a deadline, or an attempt to
 * connect, at most. If a thread was lost with the lock in its hands this does not return.
 */
int64_t writer_overdue(struct writer *);

/*
 * End the lanes, close their connections, free the writer. Call it after the
 * last writer_record() has returned, and writer_collect() NULL; the writer itself may be NULL.
 */
void writer_stop(struct writer *);

#endif
