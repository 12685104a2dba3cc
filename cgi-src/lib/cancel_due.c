/* SPDX-License-Identifier: MIT */
/*
 * cancel_due.c - cancel the orders whose time has come.
 *
 * What may be cancelled is decided in SQL: foloosi.cancel_due(). Only two things it cannot know: files that
 * wait on this machine, and whose provider can be asked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cancel_due.h"
#include "log.h"
#include "spool.h"

static const char cancel_sql[] = "select foloosi.cancel_due($1::int, $2::boolean, $3::text[]), "
				 "to_char(foloosi.held_until() at time zone 'UTC',"
				 " 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/* What cannot be read may hold payments: nothing is cancelled. It is logged when it begins. */
static bool
spool_waits(const char *directory)
{
	static bool logged;
	int found = spool_has_files(directory);

	if (found < 0 && !logged)
		log_event(LOG_WARNING, "cancel_due", "trouble",
		    "the spool cannot be read, so nothing is cancelled", "reason", strerror(errno),
		    "directory", directory, "remedy",
		    errno == EACCES ? "run this as the user of the spool"
				    : "correct spool_dir, or what the reason names",
		    (const char *)NULL);
	logged = found < 0;
	return found != 0;
}

enum pg_status
cancel_due(struct pg *pg, const struct config *config, int most, struct cancel_result *result)
{
	struct text reconciled = {0};
	struct pg_rows rows;
	const char *values[] = {log_number(most), "false", NULL};
	enum pg_status status;

	if (config->spool_dir != NULL && spool_waits(config->spool_dir))
		values[1] = "true";
	for (size_t i = 0; i < config->merchant_count; i++)
		if (config->merchants[i].provider.url != NULL)
			pg_array_add(&reconciled, config->merchants[i].name);
	values[2] = pg_array_text(&reconciled);
	status = pg_query(pg, cancel_sql, 3, values, &rows);
	*result = (struct cancel_result){0};
	if (status == PG_OK) {
		const char *held = pg_value(&rows, 0, 1);

		result->cancelled = atoi(pg_value(&rows, 0, 0));
		if (held != NULL)
			snprintf(result->held_until, sizeof result->held_until, "%s", held);
	}
	pg_rows_free(&rows);
	text_free(&reconciled);
	return status;
}
