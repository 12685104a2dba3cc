/*
 * pg_record.c - the one conversation with PostgreSQL; the only includer of libpq-fe.h.
 *
 * The hard part is to know when a batch is committed. A batch is one statement
 * outside any transaction block, so the server commits it by itself, after it has
 * sent the rows. Having the rows therefore proves nothing: the commit may still
 * fail (a deferred constraint), or may be cut while it waits for a synchronous
 * standby, which the server reports as a success with a warning. PG_OK is said
 * only when
 *   1. everything up to the end of the exchange has been read (PQgetResult() is NULL)
 *      and none of it was an error,
 *   2. the session is idle again, outside a transaction,
 *   3. no warning came that is about the commit itself, and
 *   4. every delivery was answered exactly once, in words that we know.
 * Whatever else happens after the first byte was sent is PG_LOST, "perhaps", unless the
 * server said in so many words that it rolled back.
 *
 * Deadlines are kept here, with poll(): the server's own timeouts cover neither
 * a silent network nor the wait for a standby. At the deadline the connection is
 * closed. Nothing is cancelled: a cancelled commit would report a success.
 *
 * One parameter is one array, and the statement is never a named prepared one, so
 * that a pooler in transaction mode (PgBouncer) may sit in between.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "pg_record.h"
#include "clock.h"
#include "log.h"
#include "mem.h"

/* Versions of the schema, foloosi.schema_version(), whose record_deliveries() is called below. */
#define SCHEMA_OLDEST 1
#define SCHEMA_NEWEST 10

#define PARAMETERS (P_TRANSFER + TRANSFER__MAX)
#define ERROR_SIZE 512

/* Sessions of our role that may wait for a synchronous standby, each longer than it would if that
 * were well. A commit that it does not confirm
 * leaves its session in the server until it does, and each try makes another: without a limit
 * they would use up max_connections, and the shop could not connect. */
#define WAITING_MOST 8

static const char record_sql[] =
    "select ordinal, outcome, order_ref, order_state, reason, delivery_id, merchant_known"
    " from foloosi.record_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
    " $11, $12, $13, $14, $15, $16, $17, $18, $19)";

/*
 * What a 2xx promises depends on two settings that a role may have been given; see pg_connect().
 * The empty batch has the server prepare its session before a batch holds locks, and tells
 * now, not at the first delivery, that we may not call it.
 */
static const char hello_sql[] =
    "select foloosi.schema_version(), current_setting('synchronous_commit') <> 'off',"
    " current_setting('client_min_messages') <> 'error',"
    " (select count(*) from foloosi.record_deliveries('{}', '{}', '{}', '{}', '{}', '{}', '{}',"
    " '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')),"
    " (select count(*) from pg_stat_activity where usename = session_user and wait_event = "
    "'SyncRep'"
    " and query_start < now() - interval '5 s')";

static const char monitor_sql[] =
    "select metric, coalesce(merchant, ''), coalesce(detail, ''), value from foloosi.monitor()";

/* Asked of a schema that is newer than we are; see serves_us(). */
static const char serves_sql[] = "select foloosi.schema_serves()";

/* The parameters of record_sql. From P_TRANSFER on they follow enum transfer_field. */
enum {
	P_ORDINAL,
	P_MERCHANT,
	P_ORDER_REF,
	P_DIGEST,
	P_BODY,
	P_FAULTS,
	P_SOURCE,
	P_TRANSFER
};
static_assert(PARAMETERS == 19, "one parameter an array of record_deliveries()");

/* The columns of its answer. */
enum {
	C_ORDINAL,
	C_OUTCOME,
	C_ORDER_REF,
	C_ORDER_STATE,
	C_REASON,
	C_DELIVERY_ID,
	C_MERCHANT_KNOWN,
	C__MAX
};

/* Object identifiers of PostgreSQL's types (pg_type.dat): fixed for ever. */
enum {
	INT4 = 23,
	TEXT = 25,
	BYTEA = 17
};
enum {
	INT4_ARRAY = 1007,
	TEXT_ARRAY = 1009,
	BYTEA_ARRAY = 1001,
	NUMERIC_ARRAY = 1231
};

/* Grown on demand and kept, so that a batch allocates nothing. */
struct buffer {
	char *bytes; /* owned */
	size_t len, cap;
};

struct pg {
	char *conninfo;         /* owned */
	PGconn *conn;           /* owned; NULL: closed */
	struct buffer buffer;   /* the encoded parameters */
	bool warned;            /* a warning about the commit came; see hear() */
	char error[ERROR_SIZE]; /* pg_error() */
};

/* One array element. at NULL: the SQL null. */
struct piece {
	const void *at;
	size_t len;
};

/* -- sentences -- */

/* Keep a sentence for pg_error(), as one line. */
__attribute__((format(printf, 2, 3))) static void
explain(struct pg *pg, const char *format, ...)
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
}

/*
 * What to do about it, for the log. The words are looked for in a failure's text, which decides
 * nothing else: a connection that does not come about has no SQLSTATE of its own, only one in
 * its text; see reach().
 */
static const struct {
	const char *words, *remedy;
} remedies[] = {
    {"53300",
	"raise max_connections, or put PgBouncer in between; each handler takes 2 connections, 3 "
	"while it drains its spool"},
    {"53100", "make room on the server's disk"},
    {"53200", "give the server more memory"},
    {"25006", "the server is read-only: is it a standby, or default_transaction_read_only set?"},
    {"session is read-only", "the server is read-only: is it a standby, or "
			     "default_transaction_read_only set?"},
    {"28P01", "look at the password in passfile or database, and at the role's"},
    {"28000", "look at pg_hba.conf and pg_ident.conf"},
    {"no password supplied", "name a password file in database: passfile=..."},
    {"3D000", "make the database, or correct dbname in database"},
    {"42501", "run foloosictl migrate: it grants what is missing"},
    {"certificate verify failed", "look at the server's certificate: its dates, its issuer in "
				  "sslrootcert"},
    {"server certificate for", "the certificate must name the host of database"},
    {"wait for a synchronous standby",
	"start the standby, or take it out of synchronous_standby_names"},
    {"57P03", "wait: the server is starting or stopping"},
    {"Connection refused", "start the server, or correct host and port in database"},
    {"No such file or directory", "start the server, or correct host and port in database"},
    {"could not translate host name", "look at the resolver, or correct host in database"},
};

const char *
pg_remedy(const struct pg *pg)
{
	for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
		if (strstr(pg->error, remedies[i].words) != NULL)
			return remedies[i].remedy;
	return NULL;
}

const char *
pg_error(const struct pg *pg)
{
	return pg->error;
}

/*
 * What a SQLSTATE (PostgreSQL's appendix A) means for a batch. The first prefix that fits
 * decides. What is in no row came out of the data or of a merchant's own trigger:
 * then one delivery is to blame, and its neighbours must not suffer.
 *   state  may be NULL: libpq had none, which is how a broken connection looks
 */
static enum pg_status
classify(const char *state)
{
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

	if (state == NULL)
		return PG_LOST;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (strncmp(state, rows[i].prefix, strlen(rows[i].prefix)) == 0)
			return rows[i].status;
	return PG_DATA;
}

/*
 * Explain an error of the server. Its message is repeated only where it speaks of the
 * server and not of values: class 22 and its like quote the data, and what has a
 * context was said in a function, perhaps by a merchant's trigger.
 */
static enum pg_status
blame(struct pg *pg, const PGresult *r)
{
	static const char *const harmless[] = {
	    "08", "28", "3D", "3F", "42501", "42883", "53", "57", "58"};
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	enum pg_status status = classify(state);
	bool quotable = false;

	if (state == NULL) {
		explain(pg, "the connection broke");
		return status;
	}
	for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
		quotable |= strncmp(state, harmless[i], strlen(harmless[i])) == 0;
	quotable &= message != NULL && PQresultErrorField(r, PG_DIAG_CONTEXT) == NULL;
	explain(pg, "SQLSTATE %s%s%s%s", state, quotable ? ": " : "", quotable ? message : "",
	    status == PG_SCHEMA ? ": run foloosictl migrate" : "");
	return status;
}

/* -- the exchange -- */

/*
 * Wait until the connection is readable or writable, as events says, or until the
 * deadline. Returns what poll() saw, 0 at the deadline. Once the deadline has passed the
 * answer is 0 whatever has arrived: a server that dribbles cannot hold us.
 */
static int
await(const struct pg *pg, short events, int64_t deadline)
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
hear(void *arg, const PGresult *notice)
{
	static const char *const idle[] = {"NOTICE", "INFO", "LOG", "DEBUG"};
	struct pg *pg = arg;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);

	for (size_t i = 0; severity != NULL && i < sizeof idle / sizeof idle[0]; i++)
		if (strcmp(severity, idle[i]) == 0)
			return;
	if (severity != NULL && strcmp(severity, "WARNING") == 0 &&
	    PQresultErrorField(notice, PG_DIAG_CONTEXT) != NULL)
		return;
	pg->warned = true;
}

/*
 * Bring a statement that PQsend… has taken to its end. On PG_OK *answer is its
 * one result, for PQclear(); on anything else it is NULL and pg_error() says why.
 */
static enum pg_status
exchange(struct pg *pg, int64_t deadline, PGresult **answer)
{
	enum pg_status status = PG_OK;
	PGresult *r;
	int unsent;

	*answer = NULL;
	explain(pg, "the connection broke");

	/* Read while sending: a server that has something to say before it has read
	 * everything must not wait for us while we wait for it. */
	while ((unsent = PQflush(pg->conn)) == 1) {
		int got = await(pg, POLLIN | POLLOUT, deadline);
		if (got == 0)
			goto late;
		if ((got & ~POLLOUT) != 0 && !PQconsumeInput(pg->conn))
			goto lost;
	}
	if (unsent != 0)
		goto lost;

	for (;;) {
		while (PQisBusy(pg->conn)) {
			if (await(pg, POLLIN, deadline) == 0)
				goto late;
			if (!PQconsumeInput(pg->conn))
				goto lost;
		}
		if ((r = PQgetResult(pg->conn)) == NULL)
			break;
		if (PQresultStatus(r) == PGRES_TUPLES_OK && *answer == NULL) {
			*answer = r;
		} else if (PQresultStatus(r) == PGRES_FATAL_ERROR) {
			if (status == PG_OK)
				status = blame(pg, r); /* behind rows: the commit failed */
			PQclear(r);
		} else { /* nothing that this statement could lead to */
			PQclear(r);
			goto lost;
		}
	}
	if (PQstatus(pg->conn) != CONNECTION_OK || PQtransactionStatus(pg->conn) != PQTRANS_IDLE)
		goto lost;
	if (status == PG_OK && pg->warned) {
		explain(pg, "the server warned: the commit is not confirmed");
		goto lost;
	}
	if (status == PG_OK && *answer == NULL)
		goto lost;
	if (status != PG_OK) {
		PQclear(*answer);
		*answer = NULL;
	}
	return status;

late:
	explain(pg, "no answer before the deadline");
lost:
	PQclear(*answer);
	*answer = NULL;
	return PG_LOST;
}

/* -- the connection -- */

struct pg *
pg_new(const char *conninfo)
{
	struct pg *pg = xcalloc(1, sizeof *pg);
	pg->conninfo = xstrdup(conninfo);
	return pg;
}

/* Never waits: the connection is non-blocking, so the farewell is sent or left unsaid. */
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
	free(pg->conninfo);
	free(pg->buffer.bytes);
	free(pg);
}

bool
pg_connected(const struct pg *pg)
{
	return pg->conn != NULL;
}

/* Close what must not be used again, and pass the status on. */
static enum pg_status
settle(struct pg *pg, enum pg_status status)
{
	if (status == PG_LOST || status == PG_DOWN || status == PG_SCHEMA)
		pg_close(pg);
	return status;
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
 * Start to connect, with our defaults where the operator said nothing. libpq lets a
 * later word win over an earlier one, so what the connection string says replaces the
 * defaults before it. An earlier word would win over the environment and over a
 * service file, though, so none is set against these.
 */
static PGconn *
start(const char *conninfo)
{
	static const struct {
		const char *keyword, *environment, *value;
	} defaults[] = {
	    {"target_session_attrs", "PGTARGETSESSIONATTRS", "read-write"}, /* no standby */
	    {"gssencmode", "PGGSSENCMODE", "disable"}, /* Kerberos libraries are not thread-safe */
	    /* A host that swallows packets must neither hold a connection for the quarter of
		 * an hour that TCP allows, nor keep us from the next host. PQconnectPoll() does
		 * not know connect_timeout; this works for it, too. In milliseconds. */
	    {"tcp_user_timeout", NULL, "2000"},
	    {"keepalives_idle", NULL, "10"},
	    {"keepalives_interval", NULL, "3"},
	    {"keepalives_count", NULL, "3"},
	};
	const char *keywords[sizeof defaults / sizeof defaults[0] + 4];
	const char *values[sizeof keywords / sizeof keywords[0]];
	bool service = names_service(conninfo);
	size_t n = 0;

	for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
		const char *environment = defaults[i].environment;
		if (service || (environment != NULL && getenv(environment) != NULL))
			continue;
		keywords[n] = defaults[i].keyword;
		values[n++] = defaults[i].value;
	}
	keywords[n] = "fallback_application_name";
	values[n++] = "foloosi-webhook";
	keywords[n] = "dbname"; /* a whole connection string is allowed here */
	values[n++] = conninfo;
	keywords[n] = "client_encoding"; /* last: transfers are UTF-8, nobody may say otherwise */
	values[n++] = "UTF8";
	keywords[n] = values[n] = NULL;
	return PQconnectStartParams(keywords, values, 1);
}

/* Connect. A failure to do so can only be PG_DOWN: nothing was asked yet. */
static enum pg_status
reach(struct pg *pg, int64_t deadline)
{
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;

	pg->conn = start(pg->conninfo);
	if (pg->conn == NULL)
		out_of_memory();
	PQsetNoticeReceiver(pg->conn, hear, pg);
	PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* its SQLSTATE is in the text then */
	if (PQstatus(pg->conn) == CONNECTION_BAD)
		want = PGRES_POLLING_FAILED;
	while (want != PGRES_POLLING_OK) {
		if (want == PGRES_POLLING_FAILED) {
			const char *message = PQerrorMessage(pg->conn);
			const char *source = strstr(message, "\nLOCATION:");

			explain(pg, "%.*s", (int)(source != NULL ? source - message : ERROR_SIZE),
			    message);
			return PG_DOWN;
		}
		if (await(pg, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline) == 0) {
			explain(pg, "no connection before the deadline");
			return PG_DOWN;
		}
		want = PQconnectPoll(pg->conn);
	}
	if (PQsetnonblocking(pg->conn, 1) != 0) {
		explain(pg, "%s", PQerrorMessage(pg->conn));
		return PG_DOWN;
	}
	return PG_OK;
}

/* A statement without parameters that keeps nothing, so nothing is in doubt: PG_OK, PG_DOWN or PG_SCHEMA. */
static enum pg_status
ask(struct pg *pg, const char *sql, int64_t deadline, PGresult **answer)
{
	enum pg_status status = PG_LOST;

	*answer = NULL;
	pg->warned = false;
	if (PQsendQueryParams(pg->conn, sql, 0, NULL, NULL, NULL, NULL, 0))
		status = exchange(pg, deadline, answer);
	else
		explain(pg, "%s", PQerrorMessage(pg->conn));
	return status == PG_OK || status == PG_SCHEMA ? status : PG_DOWN;
}

/*
 * A schema that is newer than we are knows since which version record_deliveries() is as we call it.
 * So one may migrate before the handlers are replaced, and go back to older ones.
 */
static bool
serves_us(struct pg *pg, int64_t deadline)
{
	PGresult *r;
	bool serves = ask(pg, serves_sql, deadline, &r) == PG_OK && PQntuples(r) == 1 &&
		      atoi(PQgetvalue(r, 0, 0)) <= SCHEMA_NEWEST;

	PQclear(r);
	return serves;
}

/* Ask whether this is our schema, in a version that we know. On PG_OK *answer is that of hello_sql. */
static enum pg_status
ask_hello(struct pg *pg, int64_t deadline, PGresult **answer)
{
	enum pg_status status = ask(pg, hello_sql, deadline, answer);
	int version;

	if (status != PG_OK)
		return status;
	version = PQntuples(*answer) == 1 ? atoi(PQgetvalue(*answer, 0, 0)) : 0;
	if (version < SCHEMA_OLDEST || (version > SCHEMA_NEWEST && !serves_us(pg, deadline))) {
		explain(pg, "the schema is version %d and this program knows %d to %d: %s", version,
		    SCHEMA_OLDEST, SCHEMA_NEWEST,
		    version < SCHEMA_OLDEST ? "run foloosictl migrate" : "upgrade foloosi-webhook");
		PQclear(*answer);
		*answer = NULL;
		return PG_SCHEMA;
	}
	if (atoi(PQgetvalue(*answer, 0, 4)) >= WAITING_MOST) {
		explain(pg, "%s sessions wait for a synchronous standby, and one more would too",
		    PQgetvalue(*answer, 0, 4));
		PQclear(*answer);
		*answer = NULL;
		return PG_DOWN;
	}
	return PG_OK;
}

static enum pg_status
greet(struct pg *pg, int64_t deadline)
{
	PGresult *r;
	enum pg_status status = ask_hello(pg, deadline, &r);

	if (status != PG_OK)
		return status;
	/* Somebody's decision, perhaps, but not one to be made unknowingly. */
	if (strcmp(PQgetvalue(r, 0, 1), "t") != 0)
		log_event(LOG_WARNING, "database", "problem",
		    "synchronous_commit is off: a crash of the server loses acknowledged "
		    "deliveries",
		    NULL);
	if (strcmp(PQgetvalue(r, 0, 2), "t") != 0)
		log_event(LOG_WARNING, "database", "problem",
		    "client_min_messages is error: commits that a standby did not get go unnoticed",
		    NULL);
	PQclear(r);
	return PG_OK;
}

enum pg_status
pg_connect(struct pg *pg, int64_t deadline)
{
	enum pg_status status = PG_OK;

	if (pg->conn == NULL && (status = reach(pg, deadline)) == PG_OK)
		status = greet(pg, deadline);
	return settle(pg, status);
}

enum pg_status
pg_ping(struct pg *pg, int64_t deadline)
{
	enum pg_status status;
	PGresult *r;

	if (pg->conn == NULL)
		return pg_connect(pg, deadline);
	status = ask_hello(pg, deadline, &r);
	PQclear(r);
	return settle(pg, status);
}

/* Copy one row of foloosi.monitor(). False: it is longer than anything that we know. */
static bool
read_fact(const PGresult *r, int row, struct pg_fact *fact)
{
	char *const to[] = {fact->metric, fact->merchant, fact->detail};
	const size_t sizes[] = {sizeof fact->metric, sizeof fact->merchant, sizeof fact->detail};

	for (int i = 0; i < 3; i++) {
		if ((size_t)PQgetlength(r, row, i) >= sizes[i])
			return false;
		memcpy(to[i], PQgetvalue(r, row, i), (size_t)PQgetlength(r, row, i) + 1);
	}
	fact->value = strtod(PQgetvalue(r, row, 3), NULL);
	return true;
}

enum pg_status
pg_monitor(struct pg *pg, int64_t deadline, struct pg_fact **facts, size_t *n)
{
	enum pg_status status = PG_OK;
	PGresult *r = NULL;

	*facts = NULL;
	*n = 0;
	if (pg->conn == NULL)
		status = reach(pg, deadline);
	if (status == PG_OK)
		status = ask(pg, monitor_sql, deadline, &r);
	if (status == PG_OK && PQnfields(r) == 4) {
		*facts = xcalloc((size_t)PQntuples(r), sizeof **facts);
		for (int row = 0; row < PQntuples(r); row++)
			*n += read_fact(r, row, &(*facts)[*n]);
	}
	PQclear(r);
	return settle(pg, status);
}

/* -- a batch on its way -- */

/* Room for len more bytes; returns where they go. */
static char *
grow(struct buffer *b, size_t len)
{
	if (b->cap - b->len < len) {
		b->cap = (b->len + len) * 2;
		b->bytes = xrealloc(b->bytes, b->cap);
	}
	b->len += len;
	return b->bytes + b->len - len;
}

/* A 32 bit integer in network order, which is how PostgreSQL's binary forms have it. */
static void
put_int(struct buffer *b, size_t value)
{
	char *p = grow(b, 4);

	assert(value <= UINT32_MAX);
	p[0] = (char)(value >> 24 & 0xff);
	p[1] = (char)(value >> 16 & 0xff);
	p[2] = (char)(value >> 8 & 0xff);
	p[3] = (char)(value & 0xff);
}

#define NULL_LENGTH UINT32_MAX /* -1: this element is null */

/*
 * A one-dimensional array in binary form (array_recv() in PostgreSQL's arrayfuncs.c), for
 * element types whose own binary form is their bytes. So nothing is ever quoted.
 */
static void
put_array(struct buffer *b, size_t element_type, const struct piece *pieces, size_t n)
{
	size_t nulls = 0;

	for (size_t i = 0; i < n; i++)
		nulls |= pieces[i].at == NULL;
	put_int(b, 1); /* dimensions */
	put_int(b, nulls);
	put_int(b, element_type);
	put_int(b, n);
	put_int(b, 1); /* the first subscript */
	for (size_t i = 0; i < n; i++) {
		if (pieces[i].at == NULL) {
			put_int(b, NULL_LENGTH);
			continue;
		}
		assert(pieces[i].len <= INT32_MAX);
		put_int(b, pieces[i].len);
		memcpy(grow(b, pieces[i].len), pieces[i].at, pieces[i].len);
	}
}

/*
 * An array of numbers in text form, {1.50,NULL}: numeric's binary form is base 10000
 * and worth no code here. money.c lets digits and one dot through and nothing else.
 */
static void
put_number_array(struct buffer *b, const struct piece *pieces, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct piece number = pieces[i].at != NULL ? pieces[i] : (struct piece){"NULL", 4};
		assert(pieces[i].at == NULL ||
		       (number.len > 0 && strspn(number.at, "0123456789.") == number.len));
		*grow(b, 1) = i == 0 ? '{' : ',';
		memcpy(grow(b, number.len), number.at, number.len);
	}
	memcpy(grow(b, 2), "}", 2); /* with the NUL that ends a text parameter */
}

static struct piece
text(const char *s)
{
	return (struct piece){s, s != NULL ? strlen(s) : 0};
}

/* What a delivery has for a parameter. ordinal: 4 bytes in network order. */
static struct piece
piece_of(const struct delivery *d, int parameter, const void *ordinal)
{
	switch (parameter) {
	case P_ORDINAL:
		return (struct piece){ordinal, 4};
	case P_MERCHANT:
		return text(d->merchant);
	case P_ORDER_REF:
		return text(d->order_ref);
	case P_DIGEST:
		return (struct piece){d->digest, DIGEST_SIZE};
	case P_BODY: /* an empty body is a body */
		return (struct piece){d->body_len > 0 ? (const void *)d->body : "", d->body_len};
	case P_FAULTS:
		return text(d->faults);
	case P_SOURCE:
		return text(d->source);
	default:
		return text(d->transfer.field[parameter - P_TRANSFER]);
	}
}

static Oid
type_of(int parameter)
{
	switch (parameter) {
	case P_ORDINAL:
		return INT4_ARRAY;
	case P_DIGEST:
	case P_BODY:
		return BYTEA_ARRAY;
	case P_TRANSFER + TRANSFER_AMOUNT:
		return NUMERIC_ARRAY;
	default:
		return TEXT_ARRAY;
	}
}

/* Encode the batch and hand it to libpq. Ordinals run from 1. False: the connection is broken. */
static bool
send_batch(struct pg *pg, struct delivery *const *batch, size_t n)
{
	struct buffer *b = &pg->buffer;
	struct piece pieces[BATCH_MAX];
	unsigned char ordinals[BATCH_MAX][4];
	size_t start_of[PARAMETERS + 1];
	const char *values[PARAMETERS];
	int lengths[PARAMETERS], formats[PARAMETERS];
	Oid types[PARAMETERS];

	for (size_t i = 0; i < n; i++) {
		ordinals[i][0] = ordinals[i][1] = 0;
		ordinals[i][2] = (unsigned char)((i + 1) >> 8);
		ordinals[i][3] = (unsigned char)(i + 1);
	}
	b->len = 0;
	for (int p = 0; p < PARAMETERS; p++) {
		for (size_t i = 0; i < n; i++)
			pieces[i] = piece_of(batch[i], p, ordinals[i]);
		types[p] = type_of(p);
		formats[p] = types[p] != NUMERIC_ARRAY;
		start_of[p] = b->len;
		if (types[p] == INT4_ARRAY)
			put_array(b, INT4, pieces, n);
		else if (types[p] == BYTEA_ARRAY)
			put_array(b, BYTEA, pieces, n);
		else if (types[p] == TEXT_ARRAY)
			put_array(b, TEXT, pieces, n);
		else
			put_number_array(b, pieces, n);
	}
	start_of[PARAMETERS] = b->len;
	assert(b->len <= INT32_MAX);
	for (int p = 0; p < PARAMETERS; p++) { /* the buffer stays where it is from here on */
		values[p] = b->bytes + start_of[p];
		lengths[p] = (int)(start_of[p + 1] - start_of[p]);
	}
	return PQsendQueryParams(
	    pg->conn, record_sql, PARAMETERS, types, values, lengths, formats, 0);
}

/* -- and its answer -- */

/* Copy a text column into a member of a delivery, which has room: see understand(). */
static void
copy(char *to, const PGresult *r, int row, int column)
{
	memcpy(to, PQgetvalue(r, row, column), (size_t)PQgetlength(r, row, column) + 1);
}

static bool
fits(const PGresult *r, int row, int column, size_t size)
{
	return (size_t)PQgetlength(r, row, column) < size;
}

static bool
is_word_of_database(enum outcome outcome)
{
	return (outcome >= OUTCOME_RECORDED && outcome <= OUTCOME_REJECTED) ||
	       outcome == OUTCOME_BUSY;
}

/*
 * Fill the verdicts from the rows, matched by ordinal; they come in any order. All or
 * none: false, and nothing written, unless every delivery has exactly one
 * row that makes sense.
 */
static bool
understand(const PGresult *r, struct delivery *const *batch, size_t n)
{
	bool seen[BATCH_MAX] = {false};

	if (PQnfields(r) != C__MAX || (size_t)PQntuples(r) != n)
		return false;
	for (int row = 0; row < PQntuples(r); row++) {
		unsigned long ordinal = strtoul(PQgetvalue(r, row, C_ORDINAL), NULL, 10);
		if (ordinal < 1 || ordinal > n || seen[ordinal - 1] ||
		    !is_word_of_database(outcome_from_name(PQgetvalue(r, row, C_OUTCOME))) ||
		    !fits(r, row, C_ORDER_REF, ORDER_REF_SIZE) ||
		    !fits(r, row, C_ORDER_STATE, ORDER_STATE_SIZE) ||
		    !fits(r, row, C_REASON, REASON_SIZE))
			return false;
		seen[ordinal - 1] = true;
	}
	for (int row = 0; row < PQntuples(r); row++) {
		struct delivery *d = batch[strtoul(PQgetvalue(r, row, C_ORDINAL), NULL, 10) - 1];
		d->outcome = outcome_from_name(PQgetvalue(r, row, C_OUTCOME));
		copy(d->order, r, row, C_ORDER_REF);
		copy(d->order_state, r, row, C_ORDER_STATE);
		copy(d->reason, r, row, C_REASON);
		d->delivery_id = strtoll(PQgetvalue(r, row, C_DELIVERY_ID), NULL, 10);
		d->merchant_known = strcmp(PQgetvalue(r, row, C_MERCHANT_KNOWN), "t") == 0;
	}
	return true;
}

enum pg_status
pg_record(struct pg *pg, struct delivery *const *batch, size_t n, int64_t deadline)
{
	enum pg_status status = PG_LOST;
	PGresult *r = NULL;

	assert(n >= 1 && n <= BATCH_MAX);
	assert(pg->conn != NULL);
	pg->warned = false;
	explain(pg, "the connection broke"); /* libpq's own words might quote the data */
	if (send_batch(pg, batch, n))
		status = exchange(pg, deadline, &r);
	if (status == PG_OK && !understand(r, batch, n)) {
		explain(pg,
		    "record_deliveries() answered in words that this program does not know: "
		    "run foloosictl migrate or upgrade foloosi-webhook");
		status = PG_SCHEMA;
	}
	PQclear(r);
	return settle(pg, status);
}
