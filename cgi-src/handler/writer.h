/* SPDX-License-Identifier: MIT */
/*
 * writer.h - collects submitted deliveries, commits them together, gives each its outcome.
 */
#ifndef WRITER_H
#define WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "delivery.h"

struct writer;

/*
 * A delivery that was submitted. owner and next are the caller's, once it is completed; all else is
 * the writer's.
 */
struct pending {
	void *owner;
	struct pending *next; /* in a queue, or in what writer_take_completed() returned */

	struct delivery *d;
	int64_t due;        /* clock_ms() before which it is not tried */
	int pause;          /* ms before the try after that */
	bool alone;         /* not to be tried together with others */
	bool in_doubt;      /* a try ended without an answer */
	enum reason reason; /* why it is unavailable, should its time be up */
};

struct writer_options {
	const char *database; /* libpq connection string, may be ""; copied */
	bool one_at_a_time;   /* never more than one is submitted: one lane will do */
};

/*
 * Start the writer's lanes (threads, two or one). It connects by itself, in the
 * background, and again whenever the connection is lost. Returns an owned
 * writer, to be ended by writer_stop(). Fatal when a thread cannot be made.
 */
struct writer *writer_start(const struct writer_options *);

/*
 * Submit a delivery. It belongs to the writer, with p, until writer_take_completed() returns p; by
 * then d->outcome is one of RECORDED, DUPLICATE, IGNORED, REVIEW, REJECTED (committed) or
 * UNAVAILABLE (nothing was kept, or it is not known), and with UNAVAILABLE d->unavailable is one
 * of DATABASE, IN_DOUBT, BUSY, REFUSED, SCHEMA. Never waits. From any number of threads.
 *   p      the caller's; need not be initialized
 *   owner  p->owner, for the caller
 * False: it is refused at once and stays the caller's; d has its outcome.
 */
bool writer_submit(struct writer *, struct pending *p, struct delivery *d, void *owner);

/*
 * Wait until some of what was submitted is completed, at its deadline at the latest. Returns all
 * of it, linked by next, in the order of completion; NULL after writer_close(), when nothing is
 * pending any more. One thread calls it, again and again. With one_at_a_time this may be the
 * thread that submits.
 */
struct pending *writer_take_completed(struct writer *);

/* There will be no more writer_submit(). */
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
 * For how many milliseconds a lane, or the thread that takes what is completed, has been overdue:
 * 0 while all wait, the duration of the step under way while there is work, and growing without end
 * if a thread is stuck or gone. No step takes longer than a deadline or an attempt to connect. If a
 * thread was lost while it held the lock this does not return.
 */
int64_t writer_overdue(struct writer *);

/*
 * End the lanes, close their connections, free the writer. Only when nothing is pending any more.
 * NULL is ignored.
 */
void writer_stop(struct writer *);

#endif
