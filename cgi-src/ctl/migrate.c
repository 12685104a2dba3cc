/*
 * migrate.c - "foloosictl migrate": bring the schema to where the files in sql/ are.
 *
 * The hard part is that it may be run by anybody, at any time, twice, or by two
 * hosts of one deploy at once, while webhooks arrive. So all of it is one
 * transaction on one connection, behind one advisory lock: whoever comes second
 * waits, then reads the ledger and finds nothing to do; whatever fails leaves the
 * schema as it was. Nothing is retried and nothing is repaired by guessing: a
 * ledger that does not fit the files is an error with a sentence.
 *
 *   roles.sql              always, as the role that runs this; changes nothing the second time
 *   migrations/NNNN_*.sql  those that the ledger has not, in order, as foloosi_owner
 *   functions/ views/ grants.sql   all of them, if a migration was applied or one of them changed
 *
 * sql/install.sql does the same for psql. Lock number, session settings and the
 * two tables (migrations/0000_ledger.sql) are common to both.
 *
 * pg_record.c and pg_query.c are the other files that call libpq. The handler talks to the
 * database through pg_record.c alone, and a program that faces the internet is not to
 * be linked with the power to run scripts.
 */
#include <sys/stat.h>

#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "ctl.h"
#include "mem.h"

#ifndef FOLOOSI_SQLDIR
#define FOLOOSI_SQLDIR "/usr/share/foloosi-webhook/sql"
#endif

#define SCRIPT_MAX (4L * 1024 * 1024) /* bytes a file; a larger one is no script of ours */
#define DIGEST_HEX (64 + 1)           /* SHA-256 in hexadecimal */

/* install.sql has the same. The lock's number is "foloosi" in ASCII. */
static const char begin_sql[] = "begin isolation level read committed read write;"
				"set local client_min_messages = warning;"
				"set local search_path = foloosi, pg_temp;"
				"set local timezone = 'UTC';"
				"set local statement_timeout = 0;"
				"set local idle_in_transaction_session_timeout = 0";
static const char try_lock_sql[] = "select pg_try_advisory_xact_lock(28832959141213033)";
static const char lock_sql[] = "select pg_advisory_xact_lock(28832959141213033)";

/*
 * Once the advisory lock is ours, a table is waited for only this long: behind a
 * waiting ALTER TABLE every delivery waits too, and somebody's open transaction
 * may last all day.
 */
static const char lock_timeout_sql[] = "set local lock_timeout = '5s'";

static const char owner_sql[] = "set local role foloosi_owner";
static const char has_ledger_sql[] = "select to_regclass('foloosi.schema_migrations') is not null";
static const char ledger_sql[] = "select version, name, encode(digest, 'hex')"
				 " from foloosi.schema_migrations order by version";
static const char record_sql[] = "insert into foloosi.schema_migrations (version, name, digest)"
				 " values ($1, $2, decode($3, 'hex'))";
static const char files_sql[] = "select path, encode(digest, 'hex') from foloosi.schema_files";
static const char forget_files_sql[] = "delete from foloosi.schema_files";
static const char record_file_sql[] = "insert into foloosi.schema_files (path, digest)"
				      " values ($1, decode($2, 'hex'))";
static const char digest_sql[] = "select encode(sha256($1), 'hex')";
static const char version_sql[] = "select foloosi.schema_version()";

/* One file of sql/, read whole. */
struct script {
	char *path; /* below the directory: "migrations/0001_schema.sql"; owned */
	char *text; /* owned, NUL-terminated, no NUL inside */
	size_t len;
	char digest[DIGEST_HEX];

	/* Of a migration. */
	int version;
	char *name; /* "schema"; owned, else NULL */
	bool applied;
};

struct scripts {
	struct script *list; /* owned */
	size_t count;
};

struct migration_run {
	const char *dir;
	PGconn *conn;
	struct script roles;
	struct scripts migrations; /* by number */
	struct scripts code;       /* functions, views, grants: in the order in which they run */
};

/* ---- the files ---- */

static void
script_free(struct script *s)
{
	free(s->path);
	free(s->text);
	free(s->name);
	*s = (struct script){0};
}

static void
scripts_free(struct scripts *s)
{
	for (size_t i = 0; i < s->count; i++)
		script_free(&s->list[i]);
	free(s->list);
	*s = (struct scripts){0};
}

/* Read dir/path into *s. False, with a sentence on stderr and *s zeroed, if that fails. */
static bool
script_read(const char *dir, const char *path, struct script *s)
{
	char *full = xasprintf("%s/%s", dir, path);
	struct stat st;
	bool ok = false;
	FILE *f;

	*s = (struct script){.path = xstrdup(path)};
	if ((f = fopen(full, "re")) == NULL || fstat(fileno(f), &st) == -1) {
		warnx("%s: %s; --sql DIR says where else it is", full, strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < 0 || st.st_size > SCRIPT_MAX) {
		warnx("%s: not a file of at most %ld bytes", full, SCRIPT_MAX);
		goto out;
	}
	s->text = xrealloc(NULL, (size_t)st.st_size + 1);
	s->len = fread(s->text, 1, (size_t)st.st_size, f);
	if (ferror(f) || s->len != (size_t)st.st_size) {
		warnx("%s: could not be read whole", full);
		goto out;
	}
	s->text[s->len] = '\0';
	if (strlen(s->text) != s->len) {
		warnx("%s: holds a NUL byte", full);
		goto out;
	}
	ok = true;
out:
	if (f != NULL)
		fclose(f);
	if (!ok)
		script_free(s);
	free(full);
	return ok;
}

/* Files that end in .sql and are not hidden: editors leave other things beside them. */
static int
is_sql(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 4 && strcmp(e->d_name + n - 4, ".sql") == 0;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* as in every locale */
}

/* Append all *.sql of dir/sub, in file-name order. */
static bool
scripts_read(const char *dir, const char *sub, struct scripts *s)
{
	char *full = xasprintf("%s/%s", dir, sub);
	struct dirent **entries = NULL;
	int n = scandir(full, &entries, is_sql, by_name);
	bool ok = n >= 0;

	if (!ok)
		warn("%s", full);
	for (int i = 0; i < n; i++) {
		char *path = xasprintf("%s/%s", sub, entries[i]->d_name);
		struct script one;

		if (ok && (ok = script_read(dir, path, &one))) {
			s->list = xrealloc(s->list, (s->count + 1) * sizeof(*s->list));
			s->list[s->count++] = one;
		}
		free(path);
		free(entries[i]);
	}
	free(entries);
	free(full);
	return ok;
}

/* migrations/NNNN_name.sql gives version and name. */
static bool
parse_migration_name(const char *dir, struct script *s)
{
	const char *file = strchr(s->path, '/') + 1;
	size_t digits = strspn(file, "0123456789");
	size_t letters = strspn(file + digits, "abcdefghijklmnopqrstuvwxyz0123456789_");

	if (digits != 4 || file[digits] != '_' || letters < 2 ||
	    strcmp(file + digits + letters, ".sql") != 0) {
		warnx("%s/%s: a migration's name is NNNN_words.sql", dir, s->path);
		return false;
	}
	s->version = atoi(file);
	s->name = xasprintf("%.*s", (int)letters - 1, file + digits + 1);
	return true;
}

static bool
read_files(struct migration_run *r)
{
	struct script grants;

	if (!script_read(r->dir, "roles.sql", &r->roles) ||
	    !scripts_read(r->dir, "migrations", &r->migrations) ||
	    !scripts_read(r->dir, "functions", &r->code) ||
	    !scripts_read(r->dir, "views", &r->code) || !script_read(r->dir, "grants.sql", &grants))
		return false;
	r->code.list = xrealloc(r->code.list, (r->code.count + 1) * sizeof(grants));
	r->code.list[r->code.count++] = grants;

	if (r->migrations.count == 0) {
		warnx("%s/migrations: no migrations", r->dir);
		return false;
	}
	for (size_t i = 0; i < r->migrations.count; i++) {
		struct script *s = &r->migrations.list[i];

		if (!parse_migration_name(r->dir, s))
			return false;
		if (i > 0 && s->version == s[-1].version) {
			warnx("%s/%s: has the number of %s", r->dir, s->path, s[-1].path);
			return false;
		}
	}
	return true;
}

/* ---- where in a file ---- */

/* The line on which the pos-th character (from 1, as the server counts: code points) stands. */
static unsigned
line_of_position(const char *text, long pos)
{
	unsigned line = 1;

	for (; *text != '\0' && pos > 1; text++) {
		if (*text == '\n')
			line++;
		if (((unsigned char)text[1] & 0xc0) != 0x80) /* not amid a character of UTF-8 */
			pos--;
	}
	return line;
}

/* The end of the quoted thing that begins at p, or the end of the text. */
static const char *
skip_quoted(const char *p, bool backslash)
{
	char quote = *p++;

	for (; *p != '\0'; p++) {
		if ((backslash && *p == '\\' && p[1] != '\0') || (*p == quote && p[1] == quote))
			p++;
		else if (*p == quote)
			return p + 1;
	}
	return p;
}

/* The same for $tag$ … $tag$; p + 1 if none begins there. */
static const char *
skip_dollar_quoted(const char *p)
{
	const char *end = p + 1, *close;
	char *tag;

	while (isalnum((unsigned char)*end) || *end == '_' || (unsigned char)*end >= 0x80)
		end++;
	if (*end != '$' || isdigit((unsigned char)p[1]))
		return p + 1;
	tag = xasprintf("%.*s", (int)(end + 1 - p), p);
	close = strstr(end + 1, tag);
	close = close == NULL ? end + strlen(end) : close + strlen(tag);
	free(tag);
	return close;
}

static const char *
skip_comment(const char *p)
{
	int depth = 0;

	if (*p == '-')
		return p + strcspn(p, "\n");
	for (; *p != '\0'; p++) { /* these nest in SQL */
		if (p[0] == '/' && p[1] == '*') {
			depth++;
			p++;
		} else if (p[0] == '*' && p[1] == '/') {
			p++;
			if (--depth == 0)
				return p + 1;
		}
	}
	return p;
}

/*
 * The line on which the n-th statement (from 0) begins. The server parses the
 * file; this only finds the place for a message, when an error at run time comes
 * without a position. Semicolons within BEGIN ATOMIC … END are not understood
 * and would make a later line wrong, nothing else.
 */
static unsigned
line_of_statement(const char *text, unsigned n)
{
	const char *p = text, *start = NULL; /* of the statement we are in */
	int parentheses = 0;
	unsigned line = 1;

	while (*p != '\0') {
		if (isspace((unsigned char)*p)) {
			p++;
			continue;
		}
		if ((p[0] == '-' && p[1] == '-') || (p[0] == '/' && p[1] == '*')) {
			p = skip_comment(p);
			continue;
		}
		if (*p == ';' && parentheses <= 0) {
			if (start != NULL && n-- == 0)
				break;
			start = NULL;
			p++;
			continue;
		}
		if (start == NULL)
			start = p;
		if (*p == '(' || *p == ')') {
			parentheses += *p++ == '(' ? 1 : -1;
		} else if (*p == '\'' || *p == '"') {
			p = skip_quoted(p, false);
		} else if (*p == '$') {
			p = skip_dollar_quoted(p);
		} else if ((*p == 'e' || *p == 'E') && p[1] == '\'') {
			p = skip_quoted(p + 1, true);
		} else if (isalpha((unsigned char)*p) || *p == '_') {
			while (isalnum((unsigned char)*p) || *p == '_' || *p == '$')
				p++; /* so that no part of a word is taken for a quote */
		} else {
			p++;
		}
	}
	for (const char *q = text; start != NULL && q < start; q++)
		if (*q == '\n')
			line++;
	return line;
}

/* ---- the server ---- */

/* libpq's sentences end in a newline, and may have several lines. */
static void
warn_server(const char *about, const char *message)
{
	int n = (int)strlen(message);

	while (n > 0 && isspace((unsigned char)message[n - 1]))
		n--;
	warnx("%s: %.*s", about, n, message);
}

/*
 * Say what the server said, about "place". A DETAIL shows values of rows when
 * the data are at fault (class 22 and 23), and this text ends in logs of
 * deployments: those are left out.
 */
static void
warn_result(const char *place, const PGresult *result)
{
	const char *state =
	    PQresultErrorField(result, PG_DIAG_SQLSTATE); /* NULL: the connection broke */
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);

	if (primary == NULL) {
		warn_server(place, PQresultErrorMessage(result));
		return;
	}
	warnx("%s: %s", place, primary);
	if (state != NULL && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0))
		detail = context = NULL;
	if (detail != NULL)
		fprintf(stderr, "  detail: %s\n", detail);
	if (context != NULL)
		fprintf(stderr, "  context: %s\n", context);
	if (hint != NULL)
		fprintf(stderr, "  hint: %s\n", hint);
	if (state != NULL && strcmp(state, "55P03") == 0) /* lock_not_available */
		fputs("  hint: Somebody holds that lock; try again when they are done.\n", stderr);
}

/* Warnings of the scripts, to the operator. */
static void
on_notice(void *arg, const PGresult *result)
{
	(void)arg;
	warn_result("warning", result);
}

/*
 * One statement of our own. Returns the owned result, or NULL after a sentence.
 * n parameters as text, or one as bytes with its length.
 */
static PGresult *
ask(PGconn *conn, const char *sql, int n, const char *const *values, const int *length)
{
	static const int binary[] = {1};
	PGresult *result;

	if (n == 0) /* may be several statements: the simple protocol */
		result = PQexec(conn, sql);
	else
		result = PQexecParams(
		    conn, sql, n, NULL, values, length, length != NULL ? binary : NULL, 0);

	switch (PQresultStatus(result)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
		return result;
	default:
		warn_result("database", result);
		PQclear(result);
		return NULL;
	}
}

static bool
tell(PGconn *conn, const char *sql, int n, const char *const *values)
{
	PGresult *result = ask(conn, sql, n, values, NULL);

	PQclear(result);
	return result != NULL;
}

/* A query that answers with one value: a copy of it, owned; NULL after a sentence. */
static char *
ask_value(PGconn *conn, const char *sql, const char *bytes, size_t len)
{
	const char *values[] = {bytes};
	int lengths[] = {(int)len};
	PGresult *result = ask(conn, sql, bytes != NULL, values, bytes != NULL ? lengths : NULL);
	char *value = NULL;

	if (result == NULL)
		return NULL;
	if (PQntuples(result) == 1 && PQnfields(result) == 1)
		value = xstrdup(PQgetvalue(result, 0, 0));
	else
		warnx("database: %d rows of %d values instead of one value", PQntuples(result),
		    PQnfields(result));
	PQclear(result);
	return value;
}

/* Is the answer "t"? Anything else, failures included, is no; *ok turns false on failure. */
static bool
ask_bool(PGconn *conn, const char *sql, bool *ok)
{
	char *value = ask_value(conn, sql, NULL, 0);
	bool yes = value != NULL && strcmp(value, "t") == 0;

	*ok = *ok && value != NULL;
	free(value);
	return yes;
}

/*
 * Run a file inside our transaction. The results are counted, so that an error
 * that has no position still has a statement, and with it a line.
 */
static bool
script_run(const struct migration_run *r, const struct script *s)
{
	unsigned done = 0;
	bool ok = true;
	PGresult *result;

	if (PQsendQuery(r->conn, s->text) == 0) {
		warn_server("database", PQerrorMessage(r->conn));
		return false;
	}
	while ((result = PQgetResult(r->conn)) != NULL) {
		ExecStatusType status = PQresultStatus(result);

		if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
			done++;
		} else if (status != PGRES_EMPTY_QUERY && ok) {
			const char *pos = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
			unsigned line = pos != NULL ? line_of_position(s->text, atol(pos))
						    : line_of_statement(s->text, done);
			char *place = xasprintf("%s/%s:%u", r->dir, s->path, line);

			if (status == PGRES_FATAL_ERROR)
				warn_result(place, result);
			else
				warnx("%s: COPY from or to the client has no place here", place);
			free(place);
			ok = false;
		}
		PQclear(result);
		if (status == PGRES_COPY_IN)
			PQputCopyEnd(r->conn, "not here");
		else if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
			return false; /* the caller closes the connection */
	}
	if (ok && PQtransactionStatus(r->conn) != PQTRANS_INTRANS) {
		warnx("%s/%s: ends the transaction; it must not", r->dir, s->path);
		ok = false;
	}
	return ok;
}

static bool
connect_database(struct migration_run *r, const char *conninfo)
{
	const char *const keywords[] = {
	    "dbname", "fallback_application_name", "client_encoding", NULL};
	const char *const values[] = {conninfo, "foloosictl", "UTF8", NULL};

	r->conn = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(r->conn) != CONNECTION_OK) {
		warn_server("database", PQerrorMessage(r->conn));
		return false;
	}
	PQsetNoticeReceiver(r->conn, on_notice, NULL);
	return true;
}

/* ---- the run ---- */

static bool
take_lock(const struct migration_run *r)
{
	bool ok = true;

	if (!ask_bool(r->conn, try_lock_sql, &ok)) {
		if (!ok)
			return false;
		warnx("waiting for another migration of this database to end");
		if (!tell(r->conn, lock_sql, 0, NULL))
			return false;
	}
	return tell(r->conn, lock_timeout_sql, 0, NULL);
}

/* The server has a SHA-256: no need for a library of our own. */
static bool
digest_files(const struct migration_run *r, struct scripts *s)
{
	for (size_t i = 0; i < s->count; i++) {
		char *hex = ask_value(r->conn, digest_sql, s->list[i].text, s->list[i].len);

		if (hex == NULL)
			return false;
		snprintf(s->list[i].digest, sizeof(s->list[i].digest), "%s", hex);
		free(hex);
	}
	return true;
}

/* Hold one row of the ledger against the files. */
static bool
compare_with_files(const struct migration_run *r, int version, const char *name, const char *digest)
{
	const struct script *last = &r->migrations.list[r->migrations.count - 1];

	for (size_t i = 0; i < r->migrations.count; i++) {
		struct script *s = &r->migrations.list[i];

		if (s->version != version)
			continue;
		if (strcmp(s->digest, digest) != 0) {
			warnx("%s/%s: was edited after it had been applied to this database; "
			      "restore the file, and put the change into a new migration",
			    r->dir, s->path);
			return false;
		}
		s->applied = true;
		return true;
	}
	if (version > last->version)
		warnx("the database's schema is newer than these files: it has migration %04d_%s, "
		      "%s ends at %04d; use the foloosictl and the files of the release that "
		      "migrated it",
		    version, name, r->dir, last->version);
	else
		warnx("%s/migrations: %04d_%s.sql was applied to this database and is missing here",
		    r->dir, version, name);
	return false;
}

/* Mark what has been applied. False if ledger and files do not fit. */
static bool
read_ledger(const struct migration_run *r)
{
	bool ok = true;
	PGresult *result;
	int latest = -1;

	if (!ask_bool(r->conn, has_ledger_sql, &ok))
		return ok; /* an empty database */
	if ((result = ask(r->conn, ledger_sql, 0, NULL, NULL)) == NULL)
		return false;
	for (int i = 0; ok && i < PQntuples(result); i++) {
		latest = atoi(PQgetvalue(result, i, 0));
		ok = compare_with_files(
		    r, latest, PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
	}
	PQclear(result);

	for (size_t i = 0; ok && i < r->migrations.count; i++) {
		const struct script *s = &r->migrations.list[i];

		if (!s->applied && s->version < latest) {
			warnx("%s/%s: is not applied, but %04d is; a new migration takes the next "
			      "number",
			    r->dir, s->path, latest);
			ok = false;
		}
	}
	return ok;
}

/* Apply what is missing; *count receives how many that were. */
static bool
apply_migrations(const struct migration_run *r, size_t *count)
{
	for (size_t i = 0; i < r->migrations.count; i++) {
		const struct script *s = &r->migrations.list[i];
		char version[12];
		const char *const values[] = {version, s->name, s->digest};

		if (s->applied)
			continue;
		snprintf(version, sizeof(version), "%d", s->version);
		if (!script_run(r, s) || !tell(r->conn, record_sql, 3, values))
			return false;
		++*count;
	}
	return true;
}

/* Are functions, views and grants in the database those of the files? */
static bool
code_is_current(const struct migration_run *r, bool *ok)
{
	PGresult *result = ask(r->conn, files_sql, 0, NULL, NULL);
	size_t same = 0;
	bool current;

	if (result == NULL) {
		*ok = false;
		return false;
	}
	for (int row = 0; row < PQntuples(result); row++)
		for (size_t i = 0; i < r->code.count; i++)
			same += strcmp(r->code.list[i].path, PQgetvalue(result, row, 0)) == 0 &&
				strcmp(r->code.list[i].digest, PQgetvalue(result, row, 1)) == 0;
	current = same == r->code.count && same == (size_t)PQntuples(result);
	PQclear(result);
	return current;
}

static bool
renew_code(const struct migration_run *r)
{
	for (size_t i = 0; i < r->code.count; i++)
		if (!script_run(r, &r->code.list[i]))
			return false;
	if (!tell(r->conn, forget_files_sql, 0, NULL))
		return false;
	for (size_t i = 0; i < r->code.count; i++) {
		const char *const values[] = {r->code.list[i].path, r->code.list[i].digest};

		if (!tell(r->conn, record_file_sql, 2, values))
			return false;
	}
	return true;
}

/* Does the database itself say that it is where the files are? */
static bool
verify(const struct migration_run *r)
{
	int expected = r->migrations.list[r->migrations.count - 1].version;
	char *version = ask_value(r->conn, version_sql, NULL, 0);
	bool ok = version != NULL && atoi(version) == expected;

	if (version != NULL && !ok)
		warnx(
		    "foloosi.schema_version() says \"%s\" after migration %04d", version, expected);
	free(version);
	return ok;
}

/* Will closing the connection now undo everything? */
static bool
in_transaction(const PGconn *conn)
{
	PGTransactionStatusType status = PQtransactionStatus(conn);

	return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

/* COMMIT of a transaction that failed is answered by success, and the tag ROLLBACK. */
static bool
commit(const struct migration_run *r)
{
	PGresult *result = PQexec(r->conn, "commit");
	bool ok = PQresultStatus(result) == PGRES_COMMAND_OK &&
		  strcmp(PQcmdStatus(result), "COMMIT") == 0;

	if (!ok) {
		warn_server("commit", PQresultErrorMessage(result));
		warnx("the commit was not confirmed; running it again shows whether it happened");
	}
	PQclear(result);
	return ok;
}

/*
 * Bring the database to where the files in dir are.
 *   conninfo  libpq connection string, "" for libpq's environment
 *   dir       the directory with roles.sql, migrations/, functions/, views/, grants.sql
 * Returns true if the schema is there now, and says on stdout what was done.
 * False after sentences on stderr; the database is as it was.
 */
static bool
migrate(const char *conninfo, const char *dir)
{
	struct migration_run r = {.dir = dir};
	size_t applied = 0;
	bool ok, renew = false;

	ok = read_files(&r) && connect_database(&r, conninfo) && tell(r.conn, begin_sql, 0, NULL) &&
	     take_lock(&r) && script_run(&r, &r.roles) && tell(r.conn, owner_sql, 0, NULL) &&
	     digest_files(&r, &r.migrations) && digest_files(&r, &r.code) && read_ledger(&r) &&
	     apply_migrations(&r, &applied);
	if (ok)
		renew = applied > 0 || !code_is_current(&r, &ok);
	ok = ok && (!renew || renew_code(&r)) && verify(&r);
	if (!ok && in_transaction(r.conn))
		warnx("nothing was changed");
	ok = ok && commit(&r);

	if (ok) {
		for (size_t i = 0; i < r.migrations.count; i++)
			if (!r.migrations.list[i].applied)
				printf("%s applied\n", r.migrations.list[i].path);
		if (renew)
			printf("functions, views and grants renewed\n");
		printf("schema is at version %d%s\n",
		    r.migrations.list[r.migrations.count - 1].version,
		    renew ? "" : ", nothing to do");
	}
	PQfinish(r.conn);
	script_free(&r.roles);
	scripts_free(&r.migrations);
	scripts_free(&r.code);
	return ok;
}

static int
run(int argc, char **argv)
{
	static const struct option options[] = {
	    {"database", required_argument, NULL, 'd'},
	    {"sql", required_argument, NULL, 's'},
	    {NULL, 0, NULL, 0},
	};
	const char *conninfo = "", *dir = FOLOOSI_SQLDIR;
	int c;

	while ((c = getopt_long(argc, argv, "d:", options, NULL)) != -1)
		switch (c) {
		case 'd':
			conninfo = optarg;
			break;
		case 's':
			dir = optarg;
			break;
		default:
			return ctl_usage(&migrate_subcommand);
		}
	if (optind != argc)
		return ctl_usage(&migrate_subcommand);
	return migrate(conninfo, dir) ? CTL_OK : CTL_FAILED;
}

const struct subcommand migrate_subcommand = {
    .name = "migrate",
    .synopsis = "[--database CONNINFO] [--sql DIR]",
    .summary = "create the database schema, or bring it up to date",
    .options =
	"  -d, --database CONNINFO  libpq connection string (default: libpq's environment)\n"
	"      --sql DIR            the migrations and functions (default: " FOLOOSI_SQLDIR ")\n",
    .run = run,
};
