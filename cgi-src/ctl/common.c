/* SPDX-License-Identifier: MIT */
/*
 * common.c - what subcommands share: the handler's configuration, the database, answers.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "log.h"
#include "mem.h"
#include "money.h"

struct config *
ctl_config(const struct ctl_call *call)
{
	const char *path = ctl_value(call, "config");
	struct config *config;
	char *error = NULL;

	log_set_level(LOG_WARNING);
	if ((config = config_load(
		 path != NULL ? path : config_path(), CONFIG_FOR_HANDLER, &error)) == NULL) {
		warnx("%s", error);
		free(error);
	}
	return config;
}

const struct merchant *
ctl_merchant(const struct config *config, const char *name)
{
	const struct merchant *m = NULL;

	if (name != NULL)
		m = config_merchant(config, name, strlen(name));
	else if (config->merchant_count == 1)
		m = &config->merchants[0];
	if (m == NULL && name != NULL)
		warnx("the configuration has no [merchant %s]", name);
	else if (m == NULL)
		warnx("the configuration has %zu merchants: say --merchant NAME",
		    config->merchant_count);
	return m;
}

/* ---- the database ---- */

struct pg *
ctl_connect(const struct ctl_call *call)
{
	const char *conninfo = ctl_value(call, "database");
	struct pg *s = pg_new(PG_OPERATOR, conninfo != NULL ? conninfo : "");
	char *complaint;

	pg_for_person(s);
	if (pg_ready(s))
		return s;
	complaint = pg_complaint(s);
	warnx("database: %s", complaint);
	free(complaint);
	pg_free(s);
	return NULL;
}

/* How a column is printed, by its type and, for what is text in SQL, its name. */
static enum table_kind
kind_of(const struct pg_rows *rows, int column)
{
	static const struct {
		const char *name;
		enum table_kind kind;
	} kinds[] = {
	    {"amount", TABLE_NUMBER},
	    {"refunded", TABLE_NUMBER},
	    {"money_left", TABLE_NUMBER},
	    {"at", TABLE_TIME},
	    {"since", TABLE_TIME},
	    {"oldest", TABLE_TIME},
	    {"last", TABLE_TIME},
	    {"hour", TABLE_TIME},
	    {"detail", TABLE_TEXT},
	    {"note", TABLE_TEXT},
	    {"transaction_message", TABLE_TEXT},
	    {"endpoint", TABLE_TEXT},
	    {"before", TABLE_TEXT},
	    {"after", TABLE_TEXT},
	    {"remedy", TABLE_COMMAND},
	};
	const char *name = pg_column_name(rows, column);
	size_t len = strlen(name);

	if (pg_column_is_number(rows, column))
		return TABLE_NUMBER;
	if (len > 3 && strcmp(name + len - 3, "_at") == 0)
		return TABLE_TIME;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i].name, name) == 0)
			return kinds[i].kind;
	return TABLE_WORD;
}

/* The column in which the currency of a row stands; -1: there is none. */
static int
currency_column(const struct pg_rows *rows, int columns)
{
	for (int c = 0; c < columns; c++)
		if (strcmp(pg_column_name(rows, c), "currency") == 0)
			return c;
	return -1;
}

static bool
is_money(const char *column)
{
	return strcmp(column, "amount") == 0 || strcmp(column, "refunded") == 0 ||
	       strcmp(column, "money_left") == 0;
}

/* An empty table gets the columns first. Money is shown with its currency's decimals. */
void
ctl_add_rows(struct table *t, const struct pg_rows *rows, int columns)
{
	const char **texts = xcalloc((size_t)columns, sizeof *texts);
	char **shown = xcalloc((size_t)columns, sizeof *shown); /* owned; NULL: as it is */
	int currency = currency_column(rows, columns);

	for (int c = 0; t->rows == 0 && t->columns < (size_t)columns; c++)
		table_column(t, pg_column_name(rows, c), kind_of(rows, c));
	for (size_t r = 0; r < rows->count; r++) {
		for (int c = 0; c < columns; c++) {
			texts[c] = pg_value(rows, r, c);
			if (texts[c] != NULL && currency >= 0 && is_money(pg_column_name(rows, c)))
				texts[c] = shown[c] =
				    money_show(texts[c], pg_value(rows, r, currency));
		}
		table_row(t, texts);
		for (int c = 0; c < columns; c++) {
			free(shown[c]);
			shown[c] = NULL;
		}
	}
	free(shown);
	free(texts);
}

bool
ctl_query(
    struct pg *s, const char *sql, size_t n, const char *const *values, bool json, struct table *t)
{
	char *question =
	    json ? xasprintf("select row_to_json(q)::text from (%s) q", sql) : xstrdup(sql);
	struct pg_rows rows;
	bool ok = pg_query(s, question, n, values, &rows) == PG_OK;

	free(question);
	if (!ok)
		return false;
	ctl_add_rows(t, &rows, pg_columns(&rows));
	pg_rows_free(&rows);
	return true;
}

void
ctl_print_answer(const struct table *t, bool json, bool records, const char *empty)
{
	struct table_style style = table_style(stdout);

	if (json && records) {
		table_json(stdout, t->rows > 0 ? t->cells[0] : "null");
	} else if (json) {
		for (size_t r = 0; r < t->rows; r++) {
			fputs(r > 0 ? ",\n " : "[\n ", stdout);
			table_json(stdout, t->cells[r]);
		}
		fputs(t->rows > 0 ? "\n]" : "[]", stdout);
	} else if (t->rows == 0) {
		if (empty != NULL)
			puts(empty);
	} else if (records) {
		table_print_records(stdout, &style, t);
	} else {
		table_print(stdout, &style, t);
	}
}

long
ctl_print_query(struct pg *s, const char *sql, size_t n, const char *const *values, bool json,
    bool records, const char *empty)
{
	struct table t = {0};
	long count = -1;

	if (ctl_query(s, sql, n, values, json, &t)) {
		ctl_print_answer(&t, json, records, empty);
		if (json)
			putchar('\n');
		count = (long)t.rows;
	} else {
		warnx("%s", pg_error(s));
	}
	table_free(&t);
	return count;
}

void
ctl_print_json(const struct table *t)
{
	for (size_t r = 0; r < t->rows; r++) {
		fputs(r > 0 ? ",\n " : "[\n ", stdout);
		table_json_row(stdout, t, r);
	}
	puts(t->rows > 0 ? "\n]" : "[]");
}
