/* SPDX-License-Identifier: MIT */
/*
 * ctl.h - what a subcommand of foloosictl is, and what subcommands share. A new one is a file with a struct
 * subcommand in it, a line at the end here and a line in main.c's table.
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "config.h"
#include "pg_query.h"
#include "table.h"

/* Exit codes, the same for every subcommand; foloosictl(1) lists them. */
#define CTL_OK 0
#define CTL_FAILED 1 /* with a message on stderr */
#define CTL_USAGE 2  /* the command line makes no sense; nothing was done */

/* ---- subcommands and their options (options.c) ---- */

/* One option; usage, help and completion of a subcommand are made of them. */
struct ctl_option {
	const char *name;     /* without dashes; NULL ends a list */
	char letter;          /* its short form; '\0': none */
	const char *argument; /* what the help calls its argument; NULL: it takes none */
	const char *help;     /* NULL: the words say it */
	const char *words;    /* the arguments that it takes, with blanks between; NULL: any */
};

#define CTL_DATABASE                                                                               \
	{"database", 'd', "CONNECTION", "how libpq connects (default: by its environment)", NULL}
#define CTL_JSON {"json", 'j', NULL, "print JSON", NULL}
#define CTL_CONFIG                                                                                 \
	{"config", 'c', "PATH",                                                                    \
	    "the handler's configuration file (default $" CONFIG_PATH_ENV                          \
	    ", then " CONFIG_DEFAULT_PATH ")",                                                     \
	    NULL}
#define CTL_NOTE {"note", 0, "TEXT", "why; it is kept with your role's name", NULL}
#define CTL_OPTIONS(...) ((const struct ctl_option[]){__VA_ARGS__, {NULL, 0, NULL, NULL, NULL}})

/* A command line whose options were read. */
struct ctl_call {
	const struct subcommand *self;
	int argc;    /* what follows the options */
	char **argv; /* closed by NULL */
	size_t given_count;
	struct ctl_given {
		const struct ctl_option *option;
		const char *value; /* "" for an option without argument */
	} *given;
};

struct subcommand {
	const char *name;
	const char *arguments;            /* what follows the options, for the usage; "": nothing */
	const char *summary;              /* one line of "foloosictl help" */
	const struct ctl_option *options; /* NULL: none */
	const char
	    *help; /* further lines of "foloosictl help NAME", each ended by a newline; NULL */
	int (*run)(const struct ctl_call *); /* returns an exit code, or what ctl_usage() returns */
	const void *arg;                     /* the function's own */
};

/* The value of an option of the subcommand, the last one if it was given several times; NULL: not given. */
const char *ctl_value(const struct ctl_call *, const char *option);

/* Read argv[1] and up into *call, which the caller ends by freeing given. False after a message. */
bool ctl_read_options(struct ctl_call *, int argc, char **argv);

/* Print "usage: foloosictl NAME OPTIONS ARGUMENTS" on stderr; returns CTL_USAGE. */
int ctl_usage(const struct subcommand *);

/* What "foloosictl help NAME" prints. */
void ctl_print_help(const struct subcommand *);

/* Print words in lines of 80 columns, from column on; lines after the first begin at indent. No newline at the end. */
void ctl_print_words(FILE *, const char *words, int column, int indent);

/* Does a list of words with blanks between have this one? */
bool ctl_has_word(const char *words, const char *word);

/* An id or a number: 1 to 18 digits. */
bool ctl_is_number(const char *);

/* ---- the handler's configuration file (common.c) ---- */

/* Read the configuration that --config names, or the default. NULL after a message. Ended by config_unref(). */
struct config *ctl_config(const struct ctl_call *);

/* The merchant with this name, or with NULL the only one. NULL after a message. Borrowed. */
const struct merchant *ctl_merchant(const struct config *, const char *name);

/* ---- the database (common.c) ---- */

/* A connection, as --database says. NULL after a message. The caller ends it by pg_free(). */
struct pg *ctl_connect(const struct ctl_call *);

/*
 * Add the rows of an answer to a table; false: pg_error() says why. With json the table has one column
 * with a document for each row.
 */
bool ctl_query(
    struct pg *, const char *sql, size_t n, const char *const *values, bool json, struct table *);

/* Add the first columns of an answer that is there already. */
void ctl_add_rows(struct table *, const struct pg_rows *, int columns);

/*
 * Print what ctl_query() added: rows as a table or, with json, as an array of objects, without a newline at its end.
 *   records  each row as lines "name  value"; in JSON the first one alone, as an object
 *   empty    a sentence for no rows; NULL: none
 */
void ctl_print_answer(const struct table *, bool json, bool records, const char *empty);

/* Both of these, with the newline. Returns the number of rows, or -1 after a message. */
long ctl_print_query(struct pg *, const char *sql, size_t n, const char *const *values, bool json,
    bool records, const char *empty);

/* Print a table that a program made as an array of objects, with a newline. */
void ctl_print_json(const struct table *);

/* ---- lists (query.c) ---- */

/* List the consumers of events, as "foloosictl stats" does; the exit code. */
int ctl_list_consumers(struct pg *, bool json);

/* The parts of "foloosictl top". */
enum ctl_glance {
	GLANCE_RATES,
	GLANCE_ATTENTION,
	GLANCE_CONSUMERS,
	GLANCE_DELIVERIES,
	GLANCE__MAX
};

/* The title of a part, and its rows as they are now, at most limit. NULL: see pg_error(). */
const char *ctl_glance(enum ctl_glance, struct pg *, int limit, struct table *);

/* ---- the subcommands, by file ---- */

extern const struct subcommand
    /* cancel.c */ cancel_subcommand,
    /* check.c */ check_subcommand,
    /* delivery.c */ explain_subcommand, replay_subcommand,
    /* events.c */ events_subcommand,
    /* migrate.c */ migrate_subcommand,
    /* query.c */ assign_subcommand, attention_subcommand, deliveries_subcommand,
    merchant_subcommand, order_subcommand, orders_subcommand, paybacks_subcommand,
    refund_subcommand, resolve_subcommand, stats_subcommand, transactions_subcommand,
    unassign_subcommand,
    /* retain.c */ erase_subcommand, retain_subcommand,
    /* secret.c */ secret_subcommand,
    /* send.c */ send_subcommand,
    /* snippet.c */ apache_snippet_subcommand, nginx_snippet_subcommand,
    /* spool.c */ spool_subcommand,
    /* top.c */ top_subcommand;

#endif
