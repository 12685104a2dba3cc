/*
 * ctl.h - what a subcommand of foloosictl is, and what they share. A new one is a file with a struct
 * subcommand in it, a line at the end here and a line in main.c's table.
 */
#ifndef CTL_H
#define CTL_H

#include "config.h"

/* Exit codes, the same for every subcommand; foloosictl(1) lists them. */
#define CTL_OK 0
#define CTL_FAILED 1 /* said on stderr */
#define CTL_USAGE 2  /* the command line makes no sense; nothing was done */

struct subcommand {
	const char *name;
	const char *synopsis; /* what follows the name on the command line */
	const char *summary;  /* one line of "foloosictl help" */
	const char *options;  /* lines of "foloosictl help NAME", each ended by a newline */
	/*
	 * Runs it. argv[0] is for messages ("foloosictl NAME"), getopt_long() starts
	 * fresh; --help was dealt with. Returns an exit code, or what ctl_usage() returns.
	 */
	int (*run)(int argc, char **argv);

	/* Instead of run, where several subcommands share one function: it is told which it is. */
	int (*run_as)(const struct subcommand *self, int argc, char **argv);
	const void *arg; /* the function's own; NULL: nothing */
};

/* Print "usage: foloosictl NAME SYNOPSIS" on stderr; returns CTL_USAGE. */
int ctl_usage(const struct subcommand *);

/* ---- the handler's configuration file (common.c) ---- */

#define CTL_OPTION_CONFIG {"config", required_argument, NULL, 'c'}
#define HELP_CONFIG                                                                                \
	"  -c, --config PATH          the handler's configuration file (default $" CONFIG_PATH_ENV \
	",\n"                                                                                      \
	"                             then " CONFIG_DEFAULT_PATH ")\n"

/* Read a configuration; path NULL: that of config_path(). NULL after a message. The caller ends it by config_unref(). */
struct config *ctl_config(const char *path);

/* The merchant with this name, or with NULL the only one. NULL after a message. Borrowed. */
const struct merchant *ctl_merchant(const struct config *, const char *name);

/* ---- the subcommands, by file ---- */

extern const struct subcommand
    /* check.c */ check_subcommand,
    /* delivery.c */ explain_subcommand, replay_subcommand,
    /* events.c */ events_subcommand,
    /* migrate.c */ migrate_subcommand,
    /* query.c */ assign_subcommand, attention_subcommand, deliveries_subcommand,
    merchant_subcommand, order_subcommand, orders_subcommand, paybacks_subcommand,
    resolve_subcommand, stats_subcommand, transactions_subcommand,
    /* retain.c */ erase_subcommand, retain_subcommand,
    /* secret.c */ secret_subcommand,
    /* send.c */ send_subcommand,
    /* snippet.c */ apache_snippet_subcommand, nginx_snippet_subcommand,
    /* spool.c */ spool_subcommand,
    /* top.c */ top_subcommand;

#endif
