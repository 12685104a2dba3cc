/* SPDX-License-Identifier: MIT */
/*
 * pg_script.h - texts of several statements, for foloosictl migrate. A program that faces the
 * internet is not linked with it.
 */
#ifndef PG_SCRIPT_H
#define PG_SCRIPT_H

#include <stdbool.h>

#include "pg.h"

/* Call a function with each warning and notice of the server: its detail and hint are lines of their own. */
void pg_script_on_warning(struct pg *, void (*warning)(const char *text));

/*
 * Run a text to its end or to its first error, over an open connection. Outside a transaction
 * block the text is one transaction. COPY from or to the client is an error. Returns PG_OK, PG_LOST,
 * or what the error means; pg_error() has it.
 */
enum pg_status pg_script(struct pg *, const char *text);

/*
 * After pg_script() failed: the line of its text, from 1, at which the error or else its statement
 * stands; 0: unknown. It may roll back, and keeps pg_error().
 */
unsigned pg_script_line(struct pg *, const char *text);

/* Is a transaction open, even if it failed? Then closing the connection undoes everything. */
bool pg_in_transaction(const struct pg *);

/* False: it was rolled back, or it is not known whether it was committed. */
bool pg_commit(struct pg *);

#endif
