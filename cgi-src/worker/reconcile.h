/* SPDX-License-Identifier: MIT */
/*
 * reconcile.h - the provider's list of transactions against ours: the command "foloosi-worker reconcile", and
 * the running worker's look at the last hours.
 */
#ifndef RECONCILE_H
#define RECONCILE_H

#include <stdbool.h>

#include "config.h"

enum reconcile_status {
	RECONCILE_OK = 0, /* all was read; what was missing or differed was fed */
	RECONCILE_UNCLEAR =
	    3, /* all was read, and something could not be understood, or was contradictory */
	RECONCILE_STOPPED = 4, /* not all was read: the next run of the same days goes on there */
};

struct reconcile_options {
	const char *from, *to; /* days, YYYY-MM-DD, both included; NULL: the last ones, today */
	const char *merchant;  /* NULL: all that have a provider_url */
};

/* What is wrong with the options: a static sentence, or NULL. */
const char *reconcile_check(const struct reconcile_options *);

/*
 * Do it: read, compare, feed, and print a report to stdout, and progress to stderr if that is a terminal.
 *   signals  descriptor of signalfd(2): SIGTERM or SIGINT there stops it
 * Returns the program's exit status. Ends the program if the configuration does not name the
 * merchant, or no provider.
 */
enum reconcile_status reconcile(
    const struct config *, const struct reconcile_options *, int signals);

/* Is there a merchant for reconcile_often(), and does the configuration want it? */
bool reconcile_is_wanted(const struct config *);

/*
 * Read the last hours of every merchant's list each reconcile_every, the first time at once. What it finds is
 * logged.
 *   stop_fd  an eventfd(2), which does not block: it returns when something is written there
 */
void reconcile_often(const struct config *, int stop_fd);

#endif
