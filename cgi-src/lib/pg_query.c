/* SPDX-License-Identifier: MIT */
/*
 * pg_query.c - one statement at a time, for foloosi-worker and foloosictl.
 *
 * Without a deadline, for no request waits: a call may take as long as the role's statement_timeout
 * allows, and one whose end is not known is harmless, because everything that the worker asks for
 * may be asked twice. What must not happen is that a dead network holds it for ever
 * (tcp_user_timeout), or that values get into the log (pg_blame()).
 */
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "pg_private.h"
#include "pg_query.h"

#define RETRY_MS 1000 /* between attempts to connect */

void
pg_for_person(struct pg *pg)
{
	pg->for_person = true;
}

/* It cannot connect, or the connection broke. Logged once for each time. */
static void
go_away(struct pg *pg)
{
	pg_close(pg);
	pg->try_at = clock_ms() + RETRY_MS;
	if (!pg->away && !pg->for_person)
		log_event(LOG_ERROR, "database_away", "reason", pg->error, "remedy", pg->remedy,
		    (const char *)NULL);
	pg->away = true;
}

static enum pg_status
check_schema(struct pg *pg)
{
	PGresult *r;
	enum pg_status status = pg_ask(pg, "select foloosi.schema_version()", PG_FOREVER, &r);

	if (status == PG_OK)
		status = pg_check_version(pg, atoi(PQgetvalue(r, 0, 0)), PG_FOREVER);
	PQclear(r);
	return status;
}

bool
pg_ready(struct pg *pg)
{
	if (pg_connected(pg))
		return true;
	if (clock_ms() < pg->try_at)
		return false;
	if (pg_open(pg, PG_FOREVER) != PG_OK || (pg_has_version(pg) && check_schema(pg) != PG_OK)) {
		go_away(pg);
		return false;
	}
	log_event(LOG_DEBUG, "database_ready", (const char *)NULL);
	pg->away = false;
	return true;
}

enum pg_status
pg_query(struct pg *pg, const char *sql, size_t n, const char *const *values, struct pg_rows *rows)
{
	enum pg_status status = PG_LOST;
	PGresult *r = NULL;

	if (rows != NULL)
		*rows = (struct pg_rows){0};
	if (!pg_connected(pg))
		return PG_LOST;
	if (PQsendQueryParams(pg->conn, sql, (int)n, NULL, values, NULL, NULL, 0))
		status = pg_finish(pg, PG_FOREVER, &r);
	else
		pg_explain(pg, "%s", PQerrorMessage(pg->conn));
	if (status == PG_OK) {
		if (rows != NULL)
			*rows = (struct pg_rows){.result = r, .count = (size_t)PQntuples(r)};
		else
			PQclear(r);
		return PG_OK;
	}
	if (PQstatus(pg->conn) != CONNECTION_OK ||
	    PQtransactionStatus(pg->conn) == PQTRANS_ACTIVE) {
		go_away(pg);
		return PG_LOST;
	}
	if (!pg->for_person)
		log_event(LOG_WARNING, "database_refused", "sqlstate", pg->sqlstate, "reason",
		    pg->error, "remedy", pg->remedy, (const char *)NULL);
	return status == PG_LOST ? PG_DOWN
				 : status; /* the server answered, so nothing is in doubt */
}

const char *
pg_value(const struct pg_rows *rows, size_t row, int column)
{
	return PQgetisnull(rows->result, (int)row, column)
		   ? NULL
		   : PQgetvalue(rows->result, (int)row, column);
}

int
pg_columns(const struct pg_rows *rows)
{
	return PQnfields(rows->result);
}

const char *
pg_column_name(const struct pg_rows *rows, int column)
{
	return PQfname(rows->result, column);
}

bool
pg_column_is_number(const struct pg_rows *rows, int column)
{
	/* int8, int2, int4, numeric: fixed in pg_type.dat for ever */
	static const Oid numbers[] = {20, 21, 23, 1700};

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (PQftype(rows->result, column) == numbers[i])
			return true;
	return false;
}

void
pg_rows_free(struct pg_rows *rows)
{
	PQclear(rows->result);
	*rows = (struct pg_rows){0};
}

/* -- arrays -- */

void
pg_array_add(struct text *array, const char *element)
{
	if (array->len > 0 && array->bytes[array->len - 1] == '}')
		array
		    ->len--; /* pg_array_text() closed it; an element ends in a quote, or is NULL */
	if (array->len != 1)
		text_add_char(array, array->len == 0 ? '{' : ',');
	if (element == NULL) {
		text_add(array, "NULL");
		return;
	}
	text_add_char(array, '"');
	for (; *element != '\0'; element++) {
		if (*element == '"' || *element == '\\')
			text_add_char(array, '\\');
		text_add_char(array, *element);
	}
	text_add_char(array, '"');
}

const char *
pg_array_text(struct text *array)
{
	if (array->len == 0)
		text_add_char(array, '{');
	if (array->bytes[array->len - 1] != '}')
		text_add_char(array, '}');
	return array->bytes;
}
