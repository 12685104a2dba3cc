/* SPDX-License-Identifier: MIT */
/*
 * migrate.c - "foloosictl migrate": bring the schema to where the files in sql/ are.
 *
 * The hard part is that it may be run at any time, twice, or by two
 * hosts of one deploy at once, while webhooks arrive. So all of it is one
 * transaction on one connection, behind one advisory lock: the second run
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
 */
#include <sys/stat.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "ctl.h"
#include "mem.h"
#include "pg_query.h"
#include "pg_script.h"

#ifndef FOLOOSI_SQLDIR
#define FOLOOSI_SQLDIR "/usr/share/foloosi-webhook/sql"
#endif

#define SCRIPT_MAX (4L * 1024 * 1024)         /* bytes a file; a larger one is no script of ours */
#define DIGEST_HEX (2 * AUTH_DIGEST_SIZE + 1) /* SHA-256 in hexadecimal */

/* install.sql has the same. The lock's number is "foloosi" in ASCII. */
static const char begin_sql[] = "begin isolation level read committed read write;"
				"set local client_min_messages = warning;"
				"set local search_path = foloosi, pg_temp;"
				"set local timezone = 'UTC';"
				"set local check_function_bodies = off;"
				"set local statement_timeout = 0;"
				"set local idle_in_transaction_session_timeout = 0";
static const char try_lock_sql[] = "select pg_try_advisory_xact_lock(28832959141213033)";
static const char lock_sql[] = "select pg_advisory_xact_lock(28832959141213033)";

/*
 * Once the advisory lock is ours, a table is waited for only this long: behind a
 * waiting ALTER TABLE every delivery waits too, and an open transaction of another session
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
	struct pg *pg;
	bool undone; /* a file failed, and the transaction with it */
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

static void
digest(struct script *s)
{
	unsigned char bytes[AUTH_DIGEST_SIZE];

	digest_sha256(s->text, s->len, bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(s->digest + 2 * i, 3, "%02x", bytes[i]);
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
	digest(s);
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

/* ---- the server ---- */

static void
print_warning(const char *text)
{
	warnx("warning: %s", text);
}

/* One statement of our own. False after a sentence; the rows need no pg_rows_free() then. */
static bool
ask(const struct migration_run *r, const char *sql, size_t n, const char *const *values,
    struct pg_rows *rows)
{
	if (pg_query(r->pg, sql, n, values, rows) == PG_OK)
		return true;
	warnx("database: %s", pg_error(r->pg));
	return false;
}

/* Statements of our own that return nothing. */
static bool
run_own(const struct migration_run *r, const char *sql)
{
	if (pg_script(r->pg, sql) == PG_OK)
		return true;
	warnx("database: %s", pg_error(r->pg));
	return false;
}

/* A query that answers with one value: a copy of it, owned; NULL after a sentence. */
static char *
ask_value(const struct migration_run *r, const char *sql)
{
	struct pg_rows rows;
	char *value;

	if (!ask(r, sql, 0, NULL, &rows))
		return NULL;
	value = xstrdup(pg_value(&rows, 0, 0));
	pg_rows_free(&rows);
	return value;
}

/* Is the answer "t"? Anything else, failures included, is no; *ok turns false on failure. */
static bool
ask_bool(const struct migration_run *r, const char *sql, bool *ok)
{
	char *value = ask_value(r, sql);
	bool yes = value != NULL && strcmp(value, "t") == 0;

	*ok = *ok && value != NULL;
	free(value);
	return yes;
}

/* Run a file inside our transaction. */
static bool
script_run(struct migration_run *r, const struct script *s)
{
	if (pg_script(r->pg, s->text) != PG_OK) {
		r->undone = pg_in_transaction(r->pg);
		unsigned line = pg_script_line(r->pg, s->text);
		if (line > 0)
			warnx("%s/%s:%u: %s", r->dir, s->path, line, pg_error(r->pg));
		else
			warnx("%s/%s: %s", r->dir, s->path, pg_error(r->pg));
		return false;
	}
	if (!pg_in_transaction(r->pg)) {
		warnx("%s/%s: ends the transaction; it must not", r->dir, s->path);
		return false;
	}
	return true;
}

/* ---- the run ---- */

static bool
take_lock(const struct migration_run *r)
{
	bool ok = true;

	if (!ask_bool(r, try_lock_sql, &ok)) {
		if (!ok)
			return false;
		warnx("waiting for another migration of this database to end");
		if (!run_own(r, lock_sql))
			return false;
	}
	return run_own(r, lock_timeout_sql);
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
	struct pg_rows rows;
	int latest = -1;

	if (!ask_bool(r, has_ledger_sql, &ok))
		return ok; /* an empty database */
	if (!ask(r, ledger_sql, 0, NULL, &rows))
		return false;
	for (size_t i = 0; ok && i < rows.count; i++) {
		latest = atoi(pg_value(&rows, i, 0));
		ok = compare_with_files(r, latest, pg_value(&rows, i, 1), pg_value(&rows, i, 2));
	}
	pg_rows_free(&rows);

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
apply_migrations(struct migration_run *r, size_t *count)
{
	for (size_t i = 0; i < r->migrations.count; i++) {
		const struct script *s = &r->migrations.list[i];
		char version[12];
		const char *const values[] = {version, s->name, s->digest};

		if (s->applied)
			continue;
		snprintf(version, sizeof(version), "%d", s->version);
		if (!script_run(r, s) || !ask(r, record_sql, 3, values, NULL))
			return false;
		++*count;
	}
	return true;
}

/* Are functions, views and grants in the database those of the files? */
static bool
code_is_current(const struct migration_run *r, bool *ok)
{
	struct pg_rows rows;
	size_t same = 0;
	bool current;

	if (!ask(r, files_sql, 0, NULL, &rows)) {
		*ok = false;
		return false;
	}
	for (size_t row = 0; row < rows.count; row++)
		for (size_t i = 0; i < r->code.count; i++)
			same += strcmp(r->code.list[i].path, pg_value(&rows, row, 0)) == 0 &&
				strcmp(r->code.list[i].digest, pg_value(&rows, row, 1)) == 0;
	current = same == r->code.count && same == rows.count;
	pg_rows_free(&rows);
	return current;
}

static bool
renew_code(struct migration_run *r)
{
	for (size_t i = 0; i < r->code.count; i++)
		if (!script_run(r, &r->code.list[i]))
			return false;
	if (!run_own(r, forget_files_sql))
		return false;
	for (size_t i = 0; i < r->code.count; i++) {
		const char *const values[] = {r->code.list[i].path, r->code.list[i].digest};

		if (!ask(r, record_file_sql, 2, values, NULL))
			return false;
	}
	return true;
}

/* Is the database's own version that of the files? */
static bool
verify(const struct migration_run *r)
{
	int expected = r->migrations.list[r->migrations.count - 1].version;
	char *version = ask_value(r, version_sql);
	bool ok = version != NULL && atoi(version) == expected;

	if (version != NULL && !ok)
		warnx(
		    "foloosi.schema_version() says \"%s\" after migration %04d", version, expected);
	free(version);
	return ok;
}

static bool
connect_database(struct migration_run *r, const char *conninfo)
{
	char *complaint;

	r->pg = pg_new(PG_MIGRATE, conninfo);
	pg_for_person(r->pg);
	pg_script_on_warning(r->pg, print_warning);
	if (pg_ready(r->pg))
		return true;
	complaint = pg_complaint(r->pg);
	warnx("database: %s", complaint);
	free(complaint);
	return false;
}

static bool
commit(const struct migration_run *r)
{
	if (pg_commit(r->pg))
		return true;
	warnx("commit: %s", pg_error(r->pg));
	warnx("the commit was not confirmed; running it again shows whether it happened");
	return false;
}

/*
 * Bring the database to where the files in dir are.
 *   conninfo  libpq connection string, "" for libpq's environment
 *   dir       the directory with roles.sql, migrations/, functions/, views/, grants.sql
 * Returns true if the schema is there now, and prints what was done on stdout.
 * False after sentences on stderr; the database is as it was.
 */
static bool
migrate(const char *conninfo, const char *dir)
{
	struct migration_run r = {.dir = dir};
	size_t applied = 0;
	bool ok, renew = false;

	ok = read_files(&r) && connect_database(&r, conninfo) && run_own(&r, begin_sql) &&
	     take_lock(&r) && script_run(&r, &r.roles) && run_own(&r, owner_sql) &&
	     read_ledger(&r) && apply_migrations(&r, &applied);
	if (ok)
		renew = applied > 0 || !code_is_current(&r, &ok);
	ok = ok && (!renew || renew_code(&r)) && verify(&r);
	if (!ok && (r.undone || (r.pg != NULL && pg_in_transaction(r.pg))))
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
	pg_free(r.pg);
	script_free(&r.roles);
	scripts_free(&r.migrations);
	scripts_free(&r.code);
	return ok;
}

static int
run_migrate(const struct ctl_call *call)
{
	const char *conninfo = ctl_value(call, "database"), *dir = ctl_value(call, "sql");

	if (call->argc > 0)
		return ctl_usage(call->self);
	return migrate(conninfo != NULL ? conninfo : "", dir != NULL ? dir : FOLOOSI_SQLDIR)
		   ? CTL_OK
		   : CTL_FAILED;
}

const struct subcommand migrate_subcommand = {
    .name = "migrate",
    .arguments = "",
    .summary = "create the database schema, or bring it up to date",
    .options = CTL_OPTIONS(CTL_DATABASE,
	{"sql", 0, "DIR", "the migrations and functions (default: " FOLOOSI_SQLDIR ")", NULL}),
    .run = run_migrate,
};
