/*
 * pg.h - a connection to PostgreSQL, and what may become of what it is asked.
 */
#ifndef PG_H
#define PG_H

struct pg;

enum pg_status {
	/* Committed: the verdicts are filled. */
	PG_OK,

	/* The connection broke, was cut by the deadline, or the commit was not confirmed: it is
	 * not known whether the batch was kept. Asking again is harmless. The connection is
	 * closed. */
	PG_LOST,

	/* Rolled back: a lock, deadlock, serialization or statement timeout; try again. */
	PG_LOCKED,

	/* Rolled back: the server refused something in the data; try one at a time. */
	PG_DATA,

	/* Rolled back or never begun: no connection, server out of resources, wrong password,
	 * missing privilege. The connection is closed. */
	PG_DOWN,

	/* Schema and program do not fit: there is no schema, or its version is unknown (rolled
	 * back or never begun), or the answer was not understood (it may have been kept). The
	 * connection is closed. */
	PG_SCHEMA,
};

#endif
