/* SPDX-License-Identifier: MIT */
/*
 * pg.c - a connection to PostgreSQL: connecting, one exchange, and what an error means.
 *
 * Deadlines are kept here, with poll(): the server's own timeouts cover neither
 * a silent network nor the wait for a standby. At the deadline the connection is of no
 * more use. Nothing is cancelled: a cancelled commit would report a success.
 *
 * No statement is a named prepared one, so that a pooler in transaction mode (PgBouncer)
 * may sit in between.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "clock.h"
#include "mem.h"
#include "pg_private.h"

#define SCHEMA_NEWEST 14      /* of sql/migrations */
#define CONNECT_TIMEOUT_S "5" /* where no deadline is given, as libpq's connect_timeout */

/*
 * The name of each connection, and the versions of the schema, foloosi.schema_version(), whose functions it
 * calls. oldest 0: it does not ask for the version.
 */
static const struct {
	const char *name;
	int oldest, newest;
	const char *upgrade; /* the remedy for a newer schema */
} programs[PG_PROGRAM__MAX] = {
    [PG_HANDLER] = {"foloosi-webhook", 1, SCHEMA_NEWEST, "upgrade foloosi-webhook"},
    [PG_MONITOR] = {"foloosi-webhook", 0, 0, NULL}, /* its role may not */
    [PG_WORKER] = {"foloosi-worker", 11, SCHEMA_NEWEST, "upgrade foloosi-worker"},
    [PG_OPERATOR] = {"foloosictl", 11, SCHEMA_NEWEST, "upgrade foloosictl"},
    [PG_MIGRATE] = {"foloosictl", 0, 0, NULL}, /* it makes the version */
};

/* A schema that is newer than the handler says since which version record_deliveries() is called as now. */
static const char serves_sql[] = "select foloosi.schema_serves()";

/* -- what an error means -- */

#define START "is PostgreSQL running? start the server, or correct host and port of the connection"
#define MORE_CONNECTIONS                                                                           \
	"raise max_connections, or put PgBouncer in between; each handler takes 2 connections, 3 " \
	"while it drains its spool"
#define MIGRATE "run foloosictl migrate"

/*
 * What to do about it: for a SQLSTATE, or for words of a text where there is none. A connection that
 * does not come about has its SQLSTATE in its text alone, and only if it was made with a deadline;
 * see pg_open(). Nothing else is decided by a text.
 */
static const struct {
	const char *sqlstate, *words, *remedy;
} remedies[] = {
    {"53300", "remaining connection slots", MORE_CONNECTIONS},
    {"53300", "too many clients already", MORE_CONNECTIONS},
    {"53100", NULL, "make room on the server's disk"},
    {"53200", NULL, "give the server more memory"},
    {"25006", "session is read-only",
	"the server is read-only: is it a standby, or default_transaction_read_only set?"},
    {"53300", "too many connections for", MORE_CONNECTIONS},
    {"28P01", "password authentication failed",
	"look at the password in database_password_file, passfile or the connection string, and at "
	"the role's; restart the program if database_password_file was changed"},
    {NULL, "no password supplied",
	"name a password file: database_password_file, or passfile=... in the connection string"},
    {NULL, "role \"", "let the role log in, or correct user of the connection"},
    {NULL, "permission denied for database", "grant connect on the database to the role"},
    {"28000", "authentication failed", "look at pg_hba.conf and pg_ident.conf"},
    {"28000", "pg_hba.conf", "look at pg_hba.conf and pg_ident.conf"},
    {"3D000", "database \"", "make the database, or correct dbname of the connection"},
    {"3F000", NULL, MIGRATE},
    {"42883", NULL, MIGRATE},
    {"42501", NULL,
	"connect as the program's own role (foloosi_handler, foloosi_worker, foloosi_operator); if "
	"it is that one, run foloosictl migrate: it grants what is missing"},
    {NULL, "certificate verify failed",
	"look at the server's certificate: its dates, its issuer in sslrootcert"},
    {NULL, "server certificate for", "the certificate must name the host of the connection"},
    {NULL, "wait for a synchronous standby",
	"start the standby, or take it out of synchronous_standby_names"},
    {"57P03", "the database system is", "wait: the server is starting or stopping"},
    {NULL, "Connection refused", START},
    {NULL, "No such file or directory", START},
    {NULL, "Permission denied",
	"this user may not connect to the server's socket, or not enter its directory: run the "
	"program as its own user, or correct the permissions"},
    {NULL, "could not translate host name",
	"look at the resolver, or correct host of the connection"},
};

enum pg_status
pg_classify(const char *sqlstate)
{
	/* By PostgreSQL's appendix A; the first prefix that fits. What is in no row came out of
	 * the data or of a merchant's own trigger: then one delivery is to blame, and its
	 * neighbours must not suffer. */
	static const struct {
		const char *prefix;
		enum pg_status status;
	} rows[] = {
	    {"08", PG_LOST},      /* connection exception */
	    {"57P", PG_LOST},     /* the server was shut down, or is starting */
	    {"25006", PG_LOST},   /* read-only: the primary has become a standby */
	    {"25P03", PG_LOST},   /* idle_in_transaction_session_timeout */
	    {"40003", PG_LOST},   /* statement completion unknown */
	    {"40", PG_LOCKED},    /* serialization failure, deadlock */
	    {"55P03", PG_LOCKED}, /* lock_timeout */
	    {"57014", PG_LOCKED}, /* statement_timeout */
	    {"42883", PG_SCHEMA}, /* no such function */
	    {"3F", PG_SCHEMA},    /* no such schema */
	    {"0A", PG_DOWN},      /* feature not supported */
	    {"28", PG_DOWN},      /* authorization */
	    {"3D", PG_DOWN},      /* no such database */
	    {"42", PG_DOWN},      /* privileges, missing objects */
	    {"53", PG_DOWN},      /* out of disk, memory, connections */
	    {"57", PG_DOWN},      /* operator intervention */
	    {"58", PG_DOWN},      /* I/O */
	    {"XX", PG_DOWN},      /* internal error, corruption */
	};

	if (sqlstate == NULL)
		return PG_LOST;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (strncmp(sqlstate, rows[i].prefix, strlen(rows[i].prefix)) == 0)
			return rows[i].status;
	return PG_DATA;
}

/* The one for the last failure: sqlstate and error are set. */
static const char *
find_remedy(const struct pg *pg)
{
	for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
		const char *sqlstate = remedies[i].sqlstate, *words = remedies[i].words;

		if (pg->sqlstate[0] != '\0'
			? sqlstate != NULL && strcmp(pg->sqlstate, sqlstate) == 0
			: (sqlstate != NULL && strstr(pg->error, sqlstate) != NULL) ||
			      (words != NULL && strstr(pg->error, words) != NULL))
			return remedies[i].remedy;
	}
	return NULL;
}

void
pg_explain(struct pg *pg, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(pg->error, sizeof pg->error, format, ap);
	va_end(ap);
	for (char *p = pg->error; *p != '\0'; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	for (size_t n = strlen(pg->error); n > 0 && pg->error[n - 1] == ' '; n--)
		pg->error[n - 1] = '\0';
	pg->sqlstate[0] = '\0';
	pg->remedy = find_remedy(pg);
}

/* What libpq says of the connection, without details, which may hold data, and places in the server's source. */
static void
explain_connection(struct pg *pg)
{
	const char *message = PQerrorMessage(pg->conn), *detail = strstr(message, "\nDETAIL:"),
		   *source = strstr(message, "\nLOCATION:"),
		   *end = detail != NULL ? detail : source;

	pg_explain(pg, "%.*s", (int)(end != NULL ? end - message : PG_ERROR_SIZE), message);
}

/*
 * For the log. The server's message is repeated only where it speaks of the server and not of
 * values: class 22 and its like quote the data, and what has a context comes from a function,
 * perhaps from a merchant's trigger.
 */
static void
explain_to_log(struct pg *pg, const char *sqlstate, const PGresult *r)
{
	static const char *const harmless[] = {
	    "08", "28", "3D", "3F", "42501", "42883", "53", "57", "58"};
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	bool quotable = false;

	for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
		quotable |= strncmp(sqlstate, harmless[i], strlen(harmless[i])) == 0;
	quotable &= message != NULL && PQresultErrorField(r, PG_DIAG_CONTEXT) == NULL;
	pg_explain(pg, "SQLSTATE %s%s%s", sqlstate, quotable ? ": " : "", quotable ? message : "");
}

/*
 * For a terminal: a line for the message, and for each other field that is there. A detail shows
 * values of rows when the data are at fault (class 22 and 23), and this text ends in logs of
 * deployments: those are left out.
 */
static void
write_lines(char *to, size_t size, const char *sqlstate, const PGresult *r)
{
	static const struct {
		const char *before;
		int code;
		bool quotes; /* may quote a row */
	} fields[] = {
	    {"", PG_DIAG_MESSAGE_PRIMARY, false},
	    {"\n  detail: ", PG_DIAG_MESSAGE_DETAIL, true},
	    {"\n  context: ", PG_DIAG_CONTEXT, true},
	    {"\n  hint: ", PG_DIAG_MESSAGE_HINT, false},
	};
	bool of_data = strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0;
	size_t len = 0;

	to[0] = '\0';
	for (size_t i = 0; i < sizeof fields / sizeof fields[0] && len < size; i++) {
		const char *text = PQresultErrorField(r, fields[i].code);

		if (text != NULL && !(of_data && fields[i].quotes))
			len +=
			    (size_t)snprintf(to + len, size - len, "%s%s", fields[i].before, text);
	}
}

enum pg_status
pg_blame(struct pg *pg, const PGresult *r)
{
	const char *sqlstate = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);

	if (sqlstate == NULL) {
		/* libpq's own words might quote a delivery */
		pg_explain(pg, "%s",
		    pg->program == PG_HANDLER ? "the connection broke" : PQresultErrorMessage(r));
		return PG_LOST;
	}
	if (pg->program == PG_MIGRATE)
		write_lines(pg->error, sizeof pg->error, sqlstate, r);
	else if (pg->for_person)
		pg_explain(pg, "%s%s%s", message != NULL ? message : PQresultErrorMessage(r),
		    hint != NULL ? ". " : "", hint != NULL ? hint : "");
	else
		explain_to_log(pg, sqlstate, r);
	snprintf(pg->sqlstate, sizeof pg->sqlstate, "%s", sqlstate);
	pg->remedy = find_remedy(pg);
	return pg_classify(sqlstate);
}

const char *
pg_error(const struct pg *pg)
{
	return pg->error;
}

const char *
pg_remedy(const struct pg *pg)
{
	return pg->remedy;
}

char *
pg_complaint(const struct pg *pg)
{
	return xasprintf("%s%s%s", pg->error, pg->remedy != NULL ? ": " : "",
	    pg->remedy != NULL ? pg->remedy : "");
}

/* -- the exchange -- */

/*
 * Wait until the connection is readable or writable, as events says, or until the
 * deadline. Returns what poll() saw, 0 at the deadline. Once the deadline has passed the
 * answer is 0 whatever has arrived: a server that sends byte by byte cannot hold us.
 */
static int
wait_for_socket(const struct pg *pg, short events, int64_t deadline)
{
	struct pollfd socket = {.fd = PQsocket(pg->conn), .events = events};
	int64_t left;

	while ((left = deadline - clock_ms()) > 0) {
		int got = poll(&socket, 1, left < 60000 ? (int)left : 60000);
		if (got > 0)
			return socket.revents;
		if (got < 0 && errno != EINTR)
			return POLLERR; /* no socket any more; libpq will notice */
	}
	return 0;
}

/*
 * libpq hands every notice to us. A warning that a function or a trigger raised has a
 * context, and says nothing about the commit. One without is the server's own, such
 * as "canceling wait for synchronous replication": committed here, nowhere else.
 * Severities are compared in the form that is never translated.
 */
static void
take_notice(void *arg, const PGresult *notice)
{
	static const char *const idle[] = {"NOTICE", "INFO", "LOG", "DEBUG"};
	struct pg *pg = arg;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (pg->on_warning != NULL) {
		const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
		char text[PG_ERROR_SIZE];

		write_lines(text, sizeof text, sqlstate != NULL ? sqlstate : "", notice);
		pg->on_warning(text);
	}
	for (size_t i = 0; severity != NULL && i < sizeof idle / sizeof idle[0]; i++)
		if (strcmp(severity, idle[i]) == 0)
			return;
	if (severity != NULL && strcmp(severity, "WARNING") == 0 &&
	    PQresultErrorField(notice, PG_DIAG_CONTEXT) != NULL)
		return;
	pg->warned = true;
}

enum pg_status
pg_finish(struct pg *pg, int64_t deadline, PGresult **answer)
{
	enum pg_status status = PG_OK;
	PGresult *r;
	int unsent;

	*answer = NULL;

	/* Read while sending: a server that has something to send before it has read
	 * everything must not wait for us while we wait for it. */
	while ((unsent = PQflush(pg->conn)) == 1) {
		int got = wait_for_socket(pg, POLLIN | POLLOUT, deadline);
		if (got == 0)
			goto late;
		if ((got & ~POLLOUT) != 0 && !PQconsumeInput(pg->conn))
			goto broken;
	}
	if (unsent != 0)
		goto broken;

	for (;;) {
		while (PQisBusy(pg->conn)) {
			if (wait_for_socket(pg, POLLIN, deadline) == 0)
				goto late;
			if (!PQconsumeInput(pg->conn))
				goto broken;
		}
		if ((r = PQgetResult(pg->conn)) == NULL)
			break;
		if ((PQresultStatus(r) == PGRES_TUPLES_OK ||
			PQresultStatus(r) == PGRES_COMMAND_OK) &&
		    *answer == NULL) {
			*answer = r;
		} else if (PQresultStatus(r) == PGRES_FATAL_ERROR) {
			if (status == PG_OK)
				status = pg_blame(pg, r); /* behind rows: the commit failed */
			PQclear(r);
		} else { /* nothing that one statement could lead to */
			PQclear(r);
			goto broken;
		}
	}
	if (status == PG_OK && (PQstatus(pg->conn) != CONNECTION_OK || *answer == NULL))
		goto broken;
	if (status != PG_OK) {
		PQclear(*answer);
		*answer = NULL;
	}
	return status;

late:
	pg_explain(pg, "no answer before the deadline");
	goto lost;
broken:
	if (pg->program == PG_HANDLER)
		pg_explain(pg, "the connection broke");
	else
		explain_connection(pg);
lost:
	PQclear(*answer);
	*answer = NULL;
	return PG_LOST;
}

enum pg_status
pg_ask(struct pg *pg, const char *sql, int64_t deadline, PGresult **answer)
{
	*answer = NULL;
	pg->warned = false;
	if (PQsendQueryParams(pg->conn, sql, 0, NULL, NULL, NULL, NULL, 0))
		return pg_finish(pg, deadline, answer);
	pg_explain(pg, "%s", PQerrorMessage(pg->conn));
	return PG_LOST;
}

/* -- the connection -- */

struct pg *
pg_new(enum pg_program program, const char *conninfo)
{
	struct pg *pg = xcalloc(1, sizeof *pg);

	pg->program = program;
	pg->conninfo = xstrdup(conninfo);
	return pg;
}

/* Never waits: the connection is non-blocking. */
void
pg_close(struct pg *pg)
{
	PQfinish(pg->conn);
	pg->conn = NULL;
}

void
pg_free(struct pg *pg)
{
	if (pg == NULL)
		return;
	pg_close(pg);
	explicit_bzero(pg->conninfo, strlen(pg->conninfo));
	free(pg->conninfo);
	text_free(&pg->parameters);
	free(pg);
}

bool
pg_connected(const struct pg *pg)
{
	return pg->conn != NULL;
}

/* Does the connection string, or the environment, name a service file's section? */
static bool
names_service(const char *conninfo)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	bool named = getenv("PGSERVICE") != NULL;

	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
		named |= strcmp(o->keyword, "service") == 0 && o->val != NULL;
	PQconninfoFree(options);
	return named;
}

/*
 * Start to connect, or with complete: connect. Our defaults count where the operator set nothing.
 * In libpq a later keyword replaces an earlier one, so the connection string replaces the defaults
 * before it. An earlier one would replace the environment and a service file, though, so none is
 * set against these.
 */
static PGconn *
start_connection(const struct pg *pg, bool complete)
{
	bool handler = pg->program == PG_HANDLER || pg->program == PG_MONITOR;
	const struct {
		const char *keyword, *environment, *value; /* NULL: libpq's */
	} defaults[] = {
	    /* no standby */
	    {"target_session_attrs", "PGTARGETSESSIONATTRS", handler ? "read-write" : NULL},
	    /* Kerberos libraries are not thread-safe */
	    {"gssencmode", "PGGSSENCMODE", handler ? "disable" : NULL},
	    /* A host that swallows packets must neither hold a connection for the quarter of
	     * an hour that TCP allows, nor keep us from the next host. PQconnectPoll() does
	     * not know connect_timeout; this works for it, too. In milliseconds. */
	    {"tcp_user_timeout", NULL, handler ? "2000" : "5000"},
	    {"keepalives_idle", NULL, "10"},
	    {"keepalives_interval", NULL, "3"},
	    {"keepalives_count", NULL, "3"},
	};
	const char *keywords[sizeof defaults / sizeof defaults[0] + 5];
	const char *values[sizeof keywords / sizeof keywords[0]];
	bool service = names_service(pg->conninfo);
	size_t n = 0;

	for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
		const char *environment = defaults[i].environment;
		if (service || defaults[i].value == NULL ||
		    (environment != NULL && getenv(environment) != NULL))
			continue;
		keywords[n] = defaults[i].keyword;
		values[n++] = defaults[i].value;
	}
	if (complete && getenv("PGCONNECT_TIMEOUT") == NULL) {
		keywords[n] = "connect_timeout";
		values[n++] = CONNECT_TIMEOUT_S;
	}
	keywords[n] = "fallback_application_name";
	values[n++] = programs[pg->program].name;
	keywords[n] = "dbname"; /* a whole connection string is allowed here */
	values[n++] = pg->conninfo;
	keywords[n] = "client_encoding"; /* last: transfers are UTF-8, whatever else is set */
	values[n++] = "UTF8";
	keywords[n] = values[n] = NULL;
	return complete ? PQconnectdbParams(keywords, values, 1)
			: PQconnectStartParams(keywords, values, 1);
}

/* Bring a connection that was started to its end. False: pg_error() has the reason. */
static bool
complete_connection(struct pg *pg, int64_t deadline)
{
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;

	if (PQstatus(pg->conn) == CONNECTION_BAD)
		want = PGRES_POLLING_FAILED;
	while (want != PGRES_POLLING_OK) {
		if (want == PGRES_POLLING_FAILED) {
			explain_connection(pg);
			return false;
		}
		if (wait_for_socket(
			pg, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline) == 0) {
			pg_explain(pg, "no connection before the deadline");
			return false;
		}
		want = PQconnectPoll(pg->conn);
	}
	return true;
}

enum pg_status
pg_open(struct pg *pg, int64_t deadline)
{
	bool open;

	pg->conn = start_connection(pg, deadline == PG_FOREVER);
	if (pg->conn == NULL)
		out_of_memory();
	PQsetNoticeReceiver(pg->conn, take_notice, pg);
	PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* its SQLSTATE is in the text then */
	if (deadline != PG_FOREVER)
		open = complete_connection(pg, deadline);
	else if (!(open = PQstatus(pg->conn) == CONNECTION_OK))
		pg_explain(pg, "%s", PQerrorMessage(pg->conn));
	if (open && PQsetnonblocking(pg->conn, 1) != 0) {
		pg_explain(pg, "%s", PQerrorMessage(pg->conn));
		open = false;
	}
	if (open)
		return PG_OK;
	pg_close(pg);
	return PG_DOWN; /* nothing was asked yet */
}

bool
pg_has_version(const struct pg *pg)
{
	return programs[pg->program].oldest > 0;
}

/* One may migrate before the handlers are replaced, and go back to older ones. */
static enum pg_status
ask_serves(struct pg *pg, int64_t deadline)
{
	PGresult *r;
	enum pg_status status = pg_ask(pg, serves_sql, deadline, &r);

	if (status == PG_OK &&
	    (PQntuples(r) != 1 || atoi(PQgetvalue(r, 0, 0)) > programs[pg->program].newest))
		status = PG_SCHEMA;
	PQclear(r);
	return status;
}

enum pg_status
pg_check_version(struct pg *pg, int version, int64_t deadline)
{
	int oldest = programs[pg->program].oldest, newest = programs[pg->program].newest;

	pg->version = version;
	if (version >= oldest &&
	    (version <= newest || (pg->program == PG_HANDLER && ask_serves(pg, deadline) == PG_OK)))
		return PG_OK;
	pg_explain(pg, "the schema is version %d and this program knows %d to %d", version, oldest,
	    newest);
	pg->remedy = version < oldest ? MIGRATE : programs[pg->program].upgrade;
	return PG_SCHEMA;
}
