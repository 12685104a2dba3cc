/* SPDX-License-Identifier: MIT */
/*
 * fake_pg.h - a database for test_writer.c that fails on command.
 *
 * It implements pg_record.h. Each call of pg_connect() and pg_record() takes the next
 * step of a script, the last of which repeats; an empty script means PG_OK at once. Where
 * the step says PG_OK, the deliveries' merchants decide:
 *   "poison"  every batch with one in it is PG_DATA
 *   "locked"  every batch with one in it is PG_LOCKED, while fake_hold(true)
 *   "busy"    is answered OUTCOME_BUSY, while fake_hold(true)
 *   others    are recorded, or rejected if there are faults; the request id comes back as the order
 * Every call of pg_record() is remembered.
 */
#ifndef FAKE_PG_H
#define FAKE_PG_H

#include "../../cgi-src/lib/pg_record.h"

#define FAKE_HANG (-1)
#define FAKE_GATE (-2)
#define FAKE_STEPS 16
#define FAKE_CALLS 256

struct fake_step {
	enum pg_status status;
	int ms; /* how long it takes. FAKE_HANG: to the deadline, and then the answer is lost.
	           FAKE_GATE: until fake_gate() */
};

struct fake_call {
	enum pg_status status;
	int connection; /* 0, 1, … in the order in which they were first used to record */
	size_t n;
	char first[REQUEST_ID_SIZE]; /* request id of the first delivery */
	int64_t at;                  /* clock_ms() at its begin */
};

void fake_reset(void);
void fake_connects(const struct fake_step *steps, size_t n);
void fake_records(const struct fake_step *steps, size_t n);
void fake_hold(bool);
void fake_gate(void); /* opens it; fake_reset() closes it */
/* Remembered calls; *n: how many. Look when the writer rests. */
const struct fake_call *fake_calls(size_t *n);
size_t fake_connections(void); /* attempts to connect */
size_t fake_open(void);        /* connections that are open */

#endif
