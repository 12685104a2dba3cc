/* SPDX-License-Identifier: MIT */
/*
 * program.h - what foloosi-webhook and foloosi-worker do alike: common options, the configuration at
 * the start and at SIGHUP, standard files, signals.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdnoreturn.h>

#include "config.h"

#ifndef VERSION
#define VERSION "unversioned"
#endif

/* The rows of a program's option table that all have; program_option() deals with them. */
#define PROGRAM_OPTIONS                                                                            \
	{"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'},        \
	    {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'v'},                 \
	    {NULL, 0, NULL, 0}

/* Their lines of the usage text. */
#define PROGRAM_HELP_CONFIG                                                                        \
	"  --config PATH    configuration file (default $" CONFIG_PATH_ENV ",\n"                   \
	"                   then " CONFIG_DEFAULT_PATH ")\n"
#define PROGRAM_HELP                                                                               \
	"  --check-config   print the effective settings, secrets masked; exit 0 or 1\n"           \
	"  --help           print this\n"                                                          \
	"  --version        print the version\n"

struct program {
	const char *name;
	const char *usage;            /* printed by --help, and on stderr for a wrong option */
	const struct option *options; /* its own, whose values are 1 and up, then PROGRAM_OPTIONS */
	enum config_reader reader;
	/* set by program_option() */
	const char *config; /* path of the configuration file */
	bool check;         /* --check-config */
};

/* Open descriptors 0 to 2 where they are closed: a socket would get such a number and the log go into it. */
void program_open_files(void);

/*
 * The value of the next option that is the program's own, with optarg set; -1 at the end. Ends the
 * process for --help and --version, and by program_usage() for what is no option.
 */
int program_option(struct program *, int argc, char **argv);

/* optarg, the argument of --option, as a whole number from min to max; else a sentence and exit(2). */
int program_number(const struct program *, const char *option, int min, int max);

/* The usage text on stderr, and exit(2). */
noreturn void program_usage(const struct program *);

/* The configuration with one reference, which the caller releases; a bad one ends the process. */
struct config *program_config(const struct program *);

/*
 * The rest of --check-config: print the configuration, and the error, unless it is NULL. Releases and frees
 * both. Returns the exit code.
 */
int program_check(const struct program *, struct config *, char *error);

/*
 * SIGHUP. program_reload(): the configuration read again, with one reference, or NULL if it is bad, which
 * was logged; the one in force stays. program_reloaded() logs the change, once it is made, and each changed
 * setting that needs a restart.
 */
struct config *program_reload(const struct program *);
void program_reloaded(const struct program *, const struct config *old, const struct config *fresh);

/* Block SIGTERM, SIGINT and SIGHUP in this thread and those that it starts; returns them, to be waited for. */
sigset_t program_block_signals(void);

#endif
