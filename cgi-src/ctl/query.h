/*
 * query.h - the subcommands of foloosictl that are a query, or a call of one function: a table of SQL.
 */
#ifndef CTL_QUERY_H
#define CTL_QUERY_H

#include <stdbool.h>
#include <stdio.h>

#include "ctl.h"
#include "pg_query.h"
#include "table.h"

/* Options that all of them have, for getopt_long(). */
#define CTL_OPTION_DATABASE {"database", required_argument, NULL, 'd'}
#define CTL_OPTION_JSON {"json", no_argument, NULL, 'j'}
#define HELP_DATABASE                                                                              \
	"  -d, --database CONNECTION  how libpq connects (default: by its environment)\n"
#define HELP_JSON "  -j, --json                 print JSON\n"

/* A connection for a person, or NULL after a sentence. The caller ends it by pg_free(). */
struct pg *ctl_connect(const char *conninfo);

/*
 * Ask, and print the answer: rows as a table or, with json, as an array of objects.
 *   records  each row as lines "name  value"; in JSON the first one alone, as an object
 *   empty    a sentence for no rows; NULL: none
 * Returns the number of rows, or -1 after a sentence on stderr.
 */
long ctl_print(FILE *, struct pg *, const char *sql, size_t n, const char *const *values, bool json,
    bool records, const char *empty);

/* Print the first columns of an answer that is there already. */
void ctl_print_rows(FILE *, const struct pg_rows *, int columns, bool records);

/* List all who get events, as "foloosictl stats" does; the exit code. */
int ctl_list_consumers(struct pg *, bool json);

/* The parts of "foloosictl top", see top.c. */
enum ctl_glance {
	GLANCE_RATES,
	GLANCE_ATTENTION,
	GLANCE_CONSUMERS,
	GLANCE_DELIVERIES,
	GLANCE__MAX
};

/* The title of a part, and its rows as they are now, at most limit. False: see pg_error(). */
const char *ctl_glance(enum ctl_glance, struct pg *, int limit, struct table *);

#endif
