/* SPDX-License-Identifier: MIT */
/*
 * cancel_due.c - cancel the orders whose time has come.
 *
 * What may be cancelled is decided in SQL: foloosi.cancel_due(). Only two things it cannot know: files that
 * wait on this machine, and whose provider can be asked.
 */
#include <stdlib.h>

#include "cancel_due.h"
#include "log.h"
#include "spool.h"

static const char cancel_sql[] = "select foloosi.cancel_due($1::int, $2::boolean, $3::text[])";

enum pg_status
cancel_due(struct pg *pg, const struct config *config, int most, int *cancelled)
{
	struct text reconciled = {0};
	struct pg_rows rows;
	const char *values[] = {log_number(most), "false", NULL};
	enum pg_status status;

	if (config->spool_dir != NULL && spool_has_files(config->spool_dir))
		values[1] = "true";
	for (size_t i = 0; i < config->merchant_count; i++)
		if (config->merchants[i].provider.url != NULL)
			pg_array_add(&reconciled, config->merchants[i].name);
	values[2] = pg_array_text(&reconciled);
	status = pg_query(pg, cancel_sql, 3, values, &rows);
	*cancelled = status == PG_OK ? atoi(pg_value(&rows, 0, 0)) : 0;
	pg_rows_free(&rows);
	text_free(&reconciled);
	return status;
}
