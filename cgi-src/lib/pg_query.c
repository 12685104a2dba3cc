/*
 * pg_query.c - foloosi-worker's and foloosictl's conversation with PostgreSQL.
 *
 * Simpler than the handler's (pg_record.c), for nobody waits at the other end: a call may take as long as
 * the role's statement_timeout allows, and one whose end is not known is harmless, because
 * everything that the worker asks for may be asked twice. What must not happen is that
 * a dead network holds it for ever (tcp_user_timeout), or that values get into the log
 * (messages of the server are repeated only where they cannot quote any).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "pg_query.h"

/* Versions of the schema whose functions are called. */
#define SCHEMA_OLDEST 6
#define SCHEMA_NEWEST 10

#define RETRY_MS 1000 /* between attempts to connect */

struct pg {
	char *conninfo; /* owned */
	PGconn *conn;   /* owned; NULL: closed */
	int64_t try_at; /* clock_ms(): no attempt to connect before */
	bool told;      /* that it is away */
	bool person;    /* a person waits: nothing is logged, pg_client_error() has it */
	bool unasked;   /* the schema's version is not asked for */
	char *said;     /* owned; NULL: nothing */
};

struct pg *
pg_client_new(const char *conninfo)
{
	struct pg *s = xcalloc(1, sizeof *s);

	s->conninfo = xstrdup(conninfo);
	return s;
}

static void
hang_up(struct pg *s)
{
	PQfinish(s->conn);
	s->conn = NULL;
}

void
pg_client_free(struct pg *s)
{
	if (s == NULL)
		return;
	hang_up(s);
	explicit_bzero(s->conninfo, strlen(s->conninfo));
	free(s->conninfo);
	free(s->said);
	free(s);
}

void
pg_for_person(struct pg *s)
{
	s->person = true;
}

void
pg_without_version(struct pg *s)
{
	s->unasked = true;
}

const char *
pg_client_error(const struct pg *s)
{
	return s->said != NULL ? s->said : "";
}

/* Keep a sentence for pg_client_error(); hint may be NULL. As one line. */
static void
keep(struct pg *s, const char *message, const char *hint)
{
	free(s->said);
	s->said = xasprintf("%s%s%s", message, hint != NULL ? ". " : "", hint != NULL ? hint : "");
	for (char *p = s->said; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	for (size_t n = strlen(s->said); n > 0 && s->said[n - 1] == ' '; n--)
		s->said[n - 1] = '\0';
}

/* Once for each time that it goes away. */
static void
tell_away(struct pg *s, const char *reason)
{
	char *line;

	s->try_at = clock_ms() + RETRY_MS;
	keep(s, reason, NULL);
	if (s->told || s->person)
		return;
	s->told = true;
	line = xstrdup(reason);
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	log_event(LOG_ERROR, "database_away", "reason", line, (const char *)NULL);
	free(line);
}

static void
ignore_notice(void *arg, const PGresult *notice)
{
	(void)arg;
	(void)notice;
}

/* The first of them is the weakest: the connection string may say otherwise. */
static PGconn *
dial(const char *conninfo)
{
	static const char *const keywords[] = {"connect_timeout", "tcp_user_timeout",
	    "keepalives_idle", "keepalives_interval", "keepalives_count",
	    "fallback_application_name", "dbname", "client_encoding", NULL};
	const char *const values[] = {
	    "5", "5000", "10", "3", "3", program_invocation_short_name, conninfo, "UTF8", NULL};

	return PQconnectdbParams(keywords, values, 1);
}

static bool
greet(struct pg *s)
{
	PGresult *r = PQexec(s->conn, "select foloosi.schema_version()");
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	int version = PQresultStatus(r) == PGRES_TUPLES_OK ? atoi(PQgetvalue(r, 0, 0)) : 0;
	char *reason = NULL;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		reason = xasprintf("SQLSTATE %s: foloosi.schema_version() cannot be called: run "
				   "foloosictl migrate, and "
				   "connect as %s",
		    state != NULL ? state : "-", s->person ? "foloosi_operator" : "foloosi_worker");
	else if (version < SCHEMA_OLDEST || version > SCHEMA_NEWEST)
		reason = xasprintf("the schema is version %d and this program knows %d to %d: %s",
		    version, SCHEMA_OLDEST, SCHEMA_NEWEST,
		    version < SCHEMA_OLDEST ? "run foloosictl migrate" : "upgrade this program");
	PQclear(r);
	if (reason == NULL)
		return true;
	tell_away(s, reason);
	free(reason);
	return false;
}

bool
pg_ready(struct pg *s)
{
	if (s->conn != NULL)
		return true;
	if (clock_ms() < s->try_at)
		return false;
	s->conn = dial(s->conninfo);
	if (s->conn == NULL)
		out_of_memory();
	PQsetNoticeReceiver(s->conn, ignore_notice, NULL);
	if (PQstatus(s->conn) != CONNECTION_OK) {
		tell_away(s, PQerrorMessage(s->conn));
		hang_up(s);
		return false;
	}
	if (!s->unasked && !greet(s)) {
		hang_up(s);
		return false;
	}
	log_event(LOG_DEBUG, "database_ready", (const char *)NULL);
	s->told = false;
	return true;
}

/* To a person, all of it: he sees what he asked for on his own terminal. */
static void
keep_refusal(struct pg *s, const PGresult *r)
{
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

	keep(s, message != NULL ? message : PQresultErrorMessage(r),
	    PQresultErrorField(r, PG_DIAG_MESSAGE_HINT));
}

/* The server's word for the log: no message of a class that may quote values, or that a trigger raised. */
static void
tell_refused(const PGresult *r)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	bool quotable = state != NULL && PQresultErrorField(r, PG_DIAG_CONTEXT) == NULL &&
			(strncmp(state, "42501", 5) == 0 || strncmp(state, "42883", 5) == 0 ||
			    strncmp(state, "53", 2) == 0 || strncmp(state, "57", 2) == 0);

	log_event(LOG_WARNING, "database_refused", "sqlstate", state != NULL ? state : "-",
	    "reason", quotable ? message : NULL, (const char *)NULL);
}

enum pg_status
pg_query(struct pg *s, const char *sql, size_t n, const char *const *values, struct pg_rows *rows)
{
	PGresult *r;
	enum pg_status status = PG_OK;

	if (rows != NULL)
		*rows = (struct pg_rows){0};
	if (s->conn == NULL)
		return PG_LOST;
	r = PQexecParams(s->conn, sql, (int)n, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(r) == PGRES_TUPLES_OK) {
		if (rows != NULL)
			*rows = (struct pg_rows){.result = r, .count = (size_t)PQntuples(r)};
		else
			PQclear(r);
		return PG_OK;
	}
	if (PQstatus(s->conn) != CONNECTION_OK) {
		tell_away(s, PQerrorMessage(s->conn));
		hang_up(s);
		status = PG_LOST;
	} else {
		keep_refusal(s, r);
		if (!s->person)
			tell_refused(r);
		status = PG_DATA;
	}
	PQclear(r);
	return status;
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

/* ---- arrays ---- */

static void
put(struct pg_array *a, char c)
{
	if (a->len == a->cap) {
		a->cap = a->cap * 2 + 64;
		a->text = xrealloc(a->text, a->cap);
	}
	a->text[a->len++] = c;
}

void
pg_array_add(struct pg_array *a, const char *element)
{
	if (a->len > 0 && a->text[a->len - 1] == '\0')
		a->len -= 2; /* pg_array_text() closed it */
	put(a, a->len == 0 ? '{' : ',');
	if (element == NULL) {
		for (const char *p = "NULL"; *p != '\0'; p++)
			put(a, *p);
		return;
	}
	put(a, '"');
	for (; *element != '\0'; element++) {
		if (*element == '"' || *element == '\\')
			put(a, '\\');
		put(a, *element);
	}
	put(a, '"');
}

const char *
pg_array_text(struct pg_array *a)
{
	if (a->len == 0)
		put(a, '{');
	if (a->text[a->len - 1] != '\0') {
		put(a, '}');
		put(a, '\0');
	}
	return a->text;
}

void
pg_array_clear(struct pg_array *a)
{
	a->len = 0;
}

void
pg_array_free(struct pg_array *a)
{
	free(a->text);
	*a = (struct pg_array){0};
}
