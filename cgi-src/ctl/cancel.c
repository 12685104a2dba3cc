/* SPDX-License-Identifier: MIT */
/*
 * cancel.c - "foloosictl cancel-due" cancels the orders whose time has come, where no foloosi-worker does.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>

#include "cancel_due.h"
#include "ctl.h"

#define MOST 100 /* orders in one transaction */

static int
run_cancel(const struct ctl_call *call)
{
	struct config *config = NULL;
	struct pg *pg = NULL;
	struct cancel_result result;
	bool held;
	int sum = 0, code = CTL_FAILED;

	if (call->argc > 0)
		return ctl_usage(call->self);
	if ((config = ctl_config(call)) == NULL || (pg = ctl_connect(call)) == NULL)
		goto out;
	do {
		if (cancel_due(pg, config, MOST, &result) != PG_OK) {
			warnx("%s", pg_error(pg));
			goto out;
		}
		sum += result.cancelled;
	} while (result.cancelled == MOST);
	held = result.held_until[0] != '\0';
	if (ctl_value(call, "json") != NULL)
		printf("{\"cancelled\": %d, \"held_until\": %s%s%s}\n", sum, held ? "\"" : "",
		    held ? result.held_until : "null", held ? "\"" : "");
	else if (held)
		printf(
		    "%d orders cancelled; none is before %s, because payments may wait elsewhere\n",
		    sum, result.held_until);
	else
		printf("%d order%s cancelled\n", sum, sum == 1 ? "" : "s");
	code = CTL_OK;
out:
	pg_free(pg);
	config_unref(config);
	return code;
}

const struct subcommand cancel_subcommand = {
    .name = "cancel-due",
    .arguments = "",
    .summary = "cancel the orders whose time has come, where no foloosi-worker does",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_CONFIG),
    .help = "To be run each minute: foloosi-cancel.timer does. After a pause of two minutes\n"
	    "it cancels nothing for ten, because payments may have waited elsewhere.\n",
    .run = run_cancel,
};
