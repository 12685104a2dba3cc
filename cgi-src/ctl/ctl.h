/*
 * ctl.h - what a subcommand of foloosictl is. A new one is a file with a struct
 * subcommand in it, and a line in ctl.c's table.
 */
#ifndef CTL_H
#define CTL_H

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

#endif
