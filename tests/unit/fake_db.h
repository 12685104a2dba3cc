/*
 * fake_db.h - a database for test_writer.c that fails on command.
 *
 * It implements db.h. Each call of db_connect() and db_record() takes the next
 * step of a script, the last of which repeats; an empty script means DB_OK at once. Where
 * the step says DB_OK, the deliveries' merchants have their say:
 *   "poison"  every batch with one in it is DB_DATA
 *   "locked"  every batch with one in it is DB_LOCKED, while fake_hold(true)
 *   "busy"    is answered OUTCOME_BUSY, while fake_hold(true)
 *   others    are recorded, or rejected if there are faults; the request id comes back as the order
 * Every call of db_record() is remembered.
 */
#ifndef FAKE_DB_H
#define FAKE_DB_H

#include "../../cgi-src/lib/db.h"

#define FAKE_HANG (-1)
#define FAKE_GATE (-2)
#define FAKE_STEPS 16
#define FAKE_CALLS 256

struct fake_step {
	enum db_status status;
	int ms; /* how long it takes. FAKE_HANG: to the deadline, and then the answer is lost.
	           FAKE_GATE: until fake_gate() */
};

struct fake_call {
	enum db_status status;
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
