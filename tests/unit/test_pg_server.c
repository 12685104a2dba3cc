// objects: lib/pg.c lib/pg_record.c lib/outcome.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * pg_record.c against a real PostgreSQL, a private one in a temporary directory, with a
 * record_deliveries() of this test's own, which keeps what it gets in table foloosi.seen
 * and, where the merchant's name asks for it, misbehaves. The real one has tests/sql/.
 *
 * Run as root, the server runs as user postgres. PG_BINDIR says where its programs are; without it
 * they are the newest of Debian's.
 */
#include <glob.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../cgi-src/lib/pg_query.h"
#include "../../cgi-src/lib/pg_record.h"
#include "../../cgi-src/lib/pg_script.h"
#include "../../cgi-src/lib/log.h"
#include "../../cgi-src/lib/mem.h"
#include "clock.h"

#define LONG 10000 /* a deadline that is not reached, ms */
#define SLACK                                                                                      \
	3000 /* beyond a deadline that is, on a machine that does other things as well: a hanging call hangs for ever */

static const char *bindir;
static glob_t servers;
static const char *become;            /* the command prefix that makes an ordinary user of root */
static char dir[] = "/tmp/fdbXXXXXX"; /* short: a socket's path has 107 bytes */
static char *conninfo;
static struct pg *pg;

static const char schema_sql[] =
    "create schema foloosi;\n"
    "create function foloosi.schema_version() returns int language sql as 'select 1';\n"
    "create table foloosi.seen (digest bytea primary key, merchant text, order_ref text, body "
    "bytea,"
    " fault text, source text, f0 text, f1 text, f2 text, amount numeric, f4 text, f5 text, f6 "
    "text,"
    " f7 text, f8 text, f9 text, f10 text, f11 text);\n"
    "create table foloosi.late_parent (n int primary key);\n"
    "create table foloosi.late (n int references foloosi.late_parent deferrable initially "
    "deferred);\n"
    "create function foloosi.record_deliveries(ordinals int[], merchants text[], order_refs text[],"
    " digests bytea[], bodies bytea[], faults text[], sources text[], a text[], b text[], c text[],"
    " amounts numeric[], e text[], f text[], g text[], h text[], i text[], j text[], k text[],"
    " l text[]) returns table (ordinal int, outcome text, order_ref text, order_state text,"
    " reason text, delivery_id bigint, merchant_known boolean) language plpgsql as $$\n"
    "#variable_conflict use_column\n"
    "begin\n"
    "  if ordinals = '{}' then return; end if;\n"
    "  if 'poison' = any(merchants) then perform ('{\"pan\":' || order_refs[1])::json; end if;\n"
    "  if 'locked' = any(merchants) then raise sqlstate '55P03'; end if;\n"
    "  if 'internal' = any(merchants) then raise sqlstate 'XX000'; end if;\n"
    "  if 'chatty' = any(merchants) then raise 'no disk for buyer@example.org' using errcode = "
    "'58000'; end if;\n"
    "  if 'gone' = any(merchants) then perform foloosi.no_such_function(); end if;\n"
    "  if 'warning' = any(merchants) then raise warning 'a trigger has something to say'; end if;\n"
    "  if 'deferred' = any(merchants) then insert into foloosi.late values (1); end if;\n"
    "  if 'sleep' = any(merchants) then perform pg_sleep(20); end if;\n"
    "  if 'nonsense' = any(merchants) then return query select 1, 'perhaps', null::text, "
    "null::text,"
    " null::text, 1::bigint, true; return; end if;\n"
    "  return query with u as (select * from unnest(ordinals, merchants, order_refs, digests, "
    "bodies,"
    " faults, sources, a, b, c, amounts, e, f, g, h, i, j, k, l)"
    " as u(o, m, r, d, bo, fa, s, a, b, c, am, e, f, g, h, i, j, k, l)),"
    " new as (insert into foloosi.seen select d, m, r, bo, fa, s, a, b, c, am, e, f, g, h, i, j, "
    "k, l"
    " from u on conflict do nothing returning digest)"
    " select u.o, case when n.digest is null then 'duplicate' else 'recorded' end, u.r,"
    " case when u.r is not null then 'paid' end, null::text, u.o::bigint, u.m = 'shop'"
    " from u left join new n on n.digest = u.d order by u.o desc;\n"
    "end $$;\n"
    "create role handler login;\n"
    "grant usage on schema foloosi to handler; grant insert, select on all tables in schema foloosi"
    " to handler;\n"
    "create role stranger login;\n"
    "create role reader login; alter role reader set default_transaction_read_only = on;\n"
    "grant handler to reader;\n";

/* -- the server -- */

__attribute__((format(printf, 1, 2))) static int
sh(const char *format, ...)
{
	char *command;
	va_list ap;
	int rc;

	va_start(ap, format);
	if (vasprintf(&command, format, ap) < 0)
		abort();
	va_end(ap);
	rc = system(command);
	if (rc != 0)
		fprintf(stderr, "%s\n", command);
	free(command);
	return rc;
}

/* Run SQL as the owner. Returns the first line of the answer, static. */
__attribute__((format(printf, 1, 2))) static const char *
sql(const char *format, ...)
{
	static char line[4096];
	char *statement, *command;
	va_list ap;
	FILE *pipe;

	va_start(ap, format);
	if (vasprintf(&statement, format, ap) < 0)
		abort();
	va_end(ap);
	setenv("STATEMENT", statement, 1);
	command = xasprintf(
	    "printf %%s \"$STATEMENT\" | %s/psql -XqtA -v ON_ERROR_STOP=1 -h %s -U owner postgres",
	    bindir, dir);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	line[0] = '\0';
	if (fgets(line, sizeof line, pipe) != NULL)
		line[strcspn(line, "\n")] = '\0';
	while (fgetc(pipe) != EOF)
		continue;
	if (pclose(pipe) != 0)
		fail_msg("psql: %s", statement);
	free(command);
	free(statement);
	return line;
}

static int
start_server(void **state)
{
	char *file;
	FILE *f;

	(void)state;
	if ((bindir = getenv("PG_BINDIR")) == NULL) {
		assert_int_equal(glob("/usr/lib/postgresql/*/bin", 0, NULL, &servers), 0);
		bindir = servers.gl_pathv[servers.gl_pathc - 1]; /* sorted: the newest */
	}
	become = geteuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --clear-groups " : "";
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(sh("chown postgres: %s", dir), 0);
	assert_int_equal(
	    sh("cd / && %s%s/initdb -D %s/data -A trust -U owner -E UTF8 --locale=C.UTF-8"
	       " --no-sync >/dev/null",
		become, bindir, dir),
	    0);
	file = xasprintf("%s/data/postgresql.conf", dir);
	f = fopen(file, "a");
	assert_non_null(f);
	fprintf(f,
	    "listen_addresses = ''\nunix_socket_directories = '%s'\nfsync = off\n"
	    "max_connections = 20\n",
	    dir);
	assert_int_equal(fclose(f), 0);
	free(file);
	assert_int_equal(sh("cd / && %s%s/pg_ctl -D %s/data -l %s/log -w start >/dev/null", become,
			     bindir, dir, dir),
	    0);
	sql("%s", schema_sql);
	conninfo = xasprintf("host=%s user=handler dbname=postgres", dir);
	return 0;
}

static int
stop_server(void **state)
{
	(void)state;
	free(conninfo);
	sh("cd / && %s%s/pg_ctl -D %s/data -m immediate -w stop >/dev/null", become, bindir, dir);
	return sh("rm -rf %s", dir);
}

/* The server's main process, from its pid file. */
static pid_t
postmaster(void)
{
	char *path = xasprintf("%s/data/postmaster.pid", dir);
	FILE *f = fopen(path, "r");
	int pid = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	free(path);
	return pid;
}

/* The server process behind our connection: the newest, for earlier ones may still be asleep. */
static pid_t
backend(void)
{
	return atoi(sql("select pid from pg_stat_activity where usename = 'handler'"
			" order by backend_start desc limit 1"));
}

static int
setup(void **state)
{
	(void)state;
	pg = pg_new(PG_HANDLER, conninfo);
	sql("truncate foloosi.seen");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	pg_free(pg);
	pg = NULL;
	return 0;
}

/* -- deliveries -- */

static struct delivery deliveries[BATCH_MAX];
static struct delivery *batch[BATCH_MAX];

/* n fresh deliveries of one merchant; first: which numbers they have. */
static void
prepare(const char *merchant, size_t n, unsigned first)
{
	for (size_t i = 0; i < n; i++) {
		struct delivery *d = &deliveries[i];
		memset(d, 0, sizeof *d);
		d->merchant = merchant;
		d->order_ref = "1042";
		d->body = (const unsigned char *)"{}";
		d->body_len = 2;
		d->transfer.field[TRANSFER_STATUS] = "success";
		d->transfer.field[TRANSFER_AMOUNT] = "100.50";
		memcpy(d->digest, &first, sizeof first);
		d->digest[31] = (unsigned char)i;
		d->outcome = OUTCOME__MAX;
		batch[i] = d;
	}
}

static int64_t
in(int ms)
{
	return clock_ms() + ms;
}

static void
assert_status(enum pg_status got, enum pg_status want)
{
	if (got != want)
		fail_msg("status %d, not %d: %s", got, want, pg_error(pg));
	if (want == PG_LOST || want == PG_DOWN || want == PG_SCHEMA)
		assert_false(pg_connected(pg));
	else
		assert_true(pg_connected(pg));
}

static void
connected(void)
{
	assert_status(pg_connect(pg, in(LONG)), PG_OK);
}

/* Record one delivery of a merchant, known by its number. */
static enum pg_status
record(const char *merchant, unsigned number, int ms)
{
	prepare(merchant, 1, number);
	return pg_record(pg, batch, 1, in(ms));
}

/* -- what is sent is what arrives -- */

static void
every_byte_arrives(void **state)
{
	static const char *const hostile[TRANSFER__MAX] = {
	    [TRANSFER_STATUS] = "success",
	    [TRANSFER_NO] = "{\"a\",NULL}",
	    [TRANSFER_REFERENCE] = "NULL",
	    [TRANSFER_AMOUNT] = "999999999999.9999",
	    [TRANSFER_CURRENCY] = "AED",
	    [TRANSFER_MESSAGE] = "back\\slash \"quote\" 'tick' \n\t\x01\x7f",
	    [TRANSFER_OPTIONAL1] = "'; drop table foloosi.seen; --",
	    [TRANSFER_OPTIONAL2] = "\xf0\x9f\x8d\xb5 \xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7",
	    [TRANSFER_OPTIONAL3] = " ",
	    [TRANSFER_EMAIL] = "a,b}@c",
	    [TRANSFER_MOBILE] = "+971 50",
	    [TRANSFER_CARD] = "0042",
	};
	static const char *const columns[TRANSFER__MAX] = {
	    "f0", "f1", "f2", "amount", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11"};
	unsigned char all[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (unsigned char)i;
	prepare("shop", 3, 1);
	deliveries[0].body = all;
	deliveries[0].body_len = sizeof all;
	deliveries[0].order_ref = "{1042}";
	for (int i = 0; i < TRANSFER__MAX; i++)
		deliveries[0].transfer.field[i] = hostile[i];
	deliveries[1].body = NULL;
	deliveries[1].body_len = 0;
	deliveries[1].order_ref = NULL;
	deliveries[1].faults = "/data: missing\n/data/x: \"wrong\"";
	memset(&deliveries[1].transfer, 0, sizeof deliveries[1].transfer);
	connected();
	assert_status(pg_record(pg, batch, 3, in(LONG)), PG_OK);

	for (int i = 0; i < 3; i++) {
		assert_int_equal(deliveries[i].outcome, OUTCOME_RECORDED);
		assert_int_equal(deliveries[i].delivery_id, i + 1); /* matched by ordinal */
		assert_true(deliveries[i].merchant_known);
	}
	assert_string_equal(deliveries[0].order, "{1042}");
	assert_string_equal(deliveries[0].order_state, "paid");
	assert_string_equal(deliveries[1].order, "");
	assert_string_equal(deliveries[1].order_state, "");

	for (int i = 0; i < TRANSFER__MAX; i++) {
		char hex[200] = "";
		for (const char *p = hostile[i]; *p != '\0'; p++)
			sprintf(hex + strlen(hex), "%02x", (unsigned char)*p);
		assert_string_equal(
		    sql("select encode(convert_to(%s::text, 'UTF8'), 'hex') from foloosi.seen"
			" where order_ref = '{1042}'",
			columns[i]),
		    hex);
	}
	assert_string_equal(sql("select length(body) || ' ' || md5(body) from foloosi.seen where"
				" order_ref = '{1042}'"),
	    "256 e2c865db4162bed963bfaa9ef6ac18f0"); /* md5 of bytes 0 to 255 */
	assert_string_equal(
	    sql("select (order_ref is null and body = '' and f0 is null and amount is null and"
		" f11 is null and source is null and fault = e'/data: missing\\n/data/x: "
		"\"wrong\"')"
		" from foloosi.seen where fault is not null"),
	    "t");
	assert_string_equal(
	    sql("select encode(digest, 'hex') from foloosi.seen where fault is not null"),
	    "0100000000000000000000000000000000000000000000000000000000000001");
}

static void
repeat_is_a_duplicate(void **state)
{
	(void)state;
	connected();
	assert_status(record("shop", 7, LONG), PG_OK);
	assert_int_equal(deliveries[0].outcome, OUTCOME_RECORDED);
	assert_status(record("shop", 7, LONG), PG_OK);
	assert_int_equal(deliveries[0].outcome, OUTCOME_DUPLICATE);
}

/* More than any socket buffers: sending has to go on while the server reads. */
static void
largest_batch(void **state)
{
	size_t size = 64 << 10;
	unsigned char *body = xcalloc(1, size);

	(void)state;
	prepare("shop", BATCH_MAX, 2);
	for (size_t i = 0; i < BATCH_MAX; i++) {
		deliveries[i].body = body;
		deliveries[i].body_len = size;
	}
	connected();
	assert_status(pg_record(pg, batch, BATCH_MAX, in(3 * LONG)), PG_OK);
	for (size_t i = 0; i < BATCH_MAX; i++)
		assert_int_equal(deliveries[i].delivery_id, i + 1);
	assert_string_equal(
	    sql("select count(*) from foloosi.seen where length(body) = 65536"), "256");
	free(body);
}

/* -- errors of the server -- */

static void
refused_data_is_not_repeated_in_the_error(void **state)
{
	(void)state;
	connected();
	prepare("poison", 1, 3);
	deliveries[0].order_ref = "4111111111111111\"}";
	assert_status(pg_record(pg, batch, 1, in(LONG)), PG_DATA);
	assert_string_equal(pg_error(pg), "SQLSTATE 22P02");
	assert_int_equal(deliveries[0].outcome, OUTCOME__MAX); /* no outcome was written */
	assert_status(record("shop", 4, LONG), PG_OK);         /* the connection is good */
}

static void
errors_by_class(void **state)
{
	(void)state;
	connected();
	assert_status(record("locked", 5, LONG), PG_LOCKED);
	assert_status(record("internal", 5, LONG), PG_DOWN);
	connected();
	assert_status(record("chatty", 5, LONG), PG_DOWN); /* a trigger's own text */
	assert_string_equal(pg_error(pg), "SQLSTATE 58000");
	connected();
	assert_status(record("gone", 5, LONG), PG_SCHEMA);
	assert_non_null(strstr(pg_remedy(pg), "foloosictl migrate"));
	connected();
	assert_status(record("nonsense", 5, LONG), PG_SCHEMA);
	assert_non_null(strstr(pg_error(pg), "does not know"));
	assert_int_equal(deliveries[0].outcome, OUTCOME__MAX);
	connected();
	sql("alter role handler set statement_timeout = '2s'"); /* a busy machine is slow */
	pg_close(pg);
	connected();
	assert_status(record("sleep", 5, LONG), PG_LOCKED);
	sql("alter role handler reset statement_timeout");
}

/* The rows have arrived when the commit fails. */
static void
failed_commit_is_not_a_success(void **state)
{
	(void)state;
	connected();
	assert_status(record("deferred", 6, LONG), PG_DATA);
	assert_string_equal(pg_error(pg), "SQLSTATE 23503");
	assert_int_equal(deliveries[0].outcome, OUTCOME__MAX);
	assert_string_equal(sql("select count(*) from foloosi.seen"), "0");
}

static void
warning_of_a_trigger_is_nothing(void **state)
{
	(void)state;
	connected();
	assert_status(record("warning", 8, LONG), PG_OK);
}

static void *
cancel_the_commit(void *arg)
{
	for (int i = 0; i < 100; i++) {
		if (strcmp(sql("select pg_cancel_backend(pid) from pg_stat_activity where "
			       "wait_event = "
			       "'SyncRep'"),
			"t") == 0)
			return arg;
		usleep(50000);
	}
	return NULL;
}

/* A commit that waits for a standby and is cancelled is reported as a success, with a warning. */
static void
commit_without_its_standby_is_not_confirmed(void **state)
{
	pthread_t thread;
	void *cancelled;

	(void)state;
	connected();
	sql("alter system set synchronous_standby_names = 'nobody'");
	sql("select pg_reload_conf()");
	usleep(300000);
	/* first: nothing cancels it, the deadline ends it */
	int64_t begun = clock_ms();
	enum pg_status hung = record("shop", 9, 500);
	int64_t took = clock_ms() - begun;
	/* then: it is cancelled */
	enum pg_status again = pg_connect(pg, in(LONG));
	assert_int_equal(pthread_create(&thread, NULL, cancel_the_commit, &conninfo), 0);
	prepare("shop", 1, 10);
	enum pg_status warned = pg_record(pg, batch, 1, in(LONG));
	pthread_join(thread, &cancelled);
	sql("set synchronous_commit = local; alter system reset synchronous_standby_names");
	sql("select pg_reload_conf()");
	assert_int_equal(hung, PG_LOST);
	assert_true(took >= 500 && took < 500 + SLACK);
	assert_int_equal(again, PG_OK);
	assert_non_null(cancelled);
	assert_status(warned, PG_LOST);
	assert_non_null(strstr(pg_error(pg), "not confirmed"));
}

/* -- a server that goes away -- */

static void
deadline_is_kept(void **state)
{
	(void)state;
	connected();
	int64_t begun = clock_ms();
	assert_status(record("sleep", 11, 300), PG_LOST);
	assert_true(clock_ms() - begun >= 300 && clock_ms() - begun < 300 + SLACK);
	assert_string_equal(pg_error(pg), "no answer before the deadline");
	connected();
	begun = clock_ms();
	assert_status(record("shop", 11, -5), PG_LOST); /* a deadline that has passed */
	assert_true(clock_ms() - begun < SLACK);
}

static void
stopped_server_keeps_no_deadline(void **state)
{
	static unsigned char body[64 << 10];
	pid_t pid;

	(void)state;
	connected();
	pid = backend();
	assert_true(pid > 0);
	kill(pid, SIGSTOP);
	prepare("shop", BATCH_MAX, 12); /* more than the socket takes: stuck while sending */
	for (size_t i = 0; i < BATCH_MAX; i++) {
		deliveries[i].body = body;
		deliveries[i].body_len = sizeof body;
	}
	int64_t begun = clock_ms();
	enum pg_status sent = pg_record(pg, batch, BATCH_MAX, in(400));
	int64_t took = clock_ms() - begun;
	kill(pid, SIGCONT);
	assert_status(sent, PG_LOST);
	assert_true(took >= 400 && took < 400 + SLACK);

	pid = postmaster();
	kill(pid, SIGSTOP);
	begun = clock_ms();
	enum pg_status reached = pg_connect(pg, in(400));
	took = clock_ms() - begun;
	kill(pid, SIGCONT);
	assert_status(reached, PG_DOWN);
	assert_true(took >= 400 && took < 400 + SLACK);
	connected();
	assert_status(record("shop", 13, LONG), PG_OK);
}

static void
restart_between_two_calls(void **state)
{
	(void)state;
	connected();
	assert_status(record("shop", 14, LONG), PG_OK);
	assert_int_equal(
	    sh("cd / && %s%s/pg_ctl -D %s/data -l %s/log -m fast -w restart >/dev/null", become,
		bindir, dir, dir),
	    0);
	assert_true(pg_connected(pg)); /* as far as it knows */
	int64_t begun = clock_ms();
	assert_status(record("shop", 15, LONG), PG_LOST);
	assert_true(clock_ms() - begun < SLACK);
	connected();
	assert_status(record("shop", 15, LONG), PG_OK);
}

static void *
kill_the_backend(void *arg)
{
	usleep(300000);
	sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'handler'");
	return arg;
}

static void
terminated_in_the_middle(void **state)
{
	pthread_t thread;

	(void)state;
	connected();
	assert_int_equal(pthread_create(&thread, NULL, kill_the_backend, NULL), 0);
	int64_t begun = clock_ms();
	enum pg_status status = record("sleep", 16, LONG);
	int64_t took = clock_ms() - begun;
	pthread_join(thread, NULL);
	assert_status(status, PG_LOST);
	assert_true(took < LONG / 2);
}

/* -- connecting -- */

static void
other(const char *parameters)
{
	char *s = xasprintf("host=%s dbname=postgres %s", dir, parameters);

	pg_free(pg);
	pg = pg_new(PG_HANDLER, s);
	free(s);
}

static void
no_connection_says_why(void **state)
{
	(void)state;
	other("user=handler dbname=nowhere");
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_non_null(strstr(pg_error(pg), "\"nowhere\" does not exist"));
	other("user=handler port=1");
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_non_null(strstr(pg_error(pg), "failed"));
	other("user=handler nonsense=1");
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_non_null(strstr(pg_error(pg), "nonsense"));
	other("user=nobody_of_this_name password=Xyzzy-secret");
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_null(strstr(pg_error(pg), "Xyzzy"));
	assert_null(strchr(pg_error(pg), '\n'));
}

static void
privileges_and_schema_are_checked(void **state)
{
	(void)state;
	other("user=stranger");
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_non_null(strstr(pg_error(pg), "permission denied"));
	other("user=handler dbname=template1");
	assert_status(pg_connect(pg, in(LONG)), PG_SCHEMA);
	assert_non_null(strstr(pg_remedy(pg), "foloosictl migrate"));

	other("user=handler");
	sql("create or replace function foloosi.schema_version() returns int language sql as "
	    "'select 99'");
	assert_status(pg_connect(pg, in(LONG)), PG_SCHEMA);
	assert_non_null(strstr(pg_remedy(pg), "upgrade"));
	sql("create function foloosi.schema_serves() returns int language sql as 'select 98'");
	assert_status(pg_connect(pg, in(LONG)), PG_SCHEMA); /* it wants newer handlers */
	assert_non_null(strstr(pg_remedy(pg), "upgrade"));
	sql("create or replace function foloosi.schema_serves() returns int language sql as "
	    "'select 1'");
	connected();
	other("user=handler");
	sql("create or replace function foloosi.schema_version() returns int language sql as "
	    "'select 0'");
	assert_status(pg_connect(pg, in(LONG)), PG_SCHEMA);
	assert_non_null(strstr(pg_remedy(pg), "foloosictl migrate"));
	sql("create or replace function foloosi.schema_version() returns int language sql as "
	    "'select 1'");
	connected();
	connected(); /* does nothing */
}

static void
standby_is_not_taken_for_the_primary(void **state)
{
	(void)state;
	other("user=reader"); /* its transactions are read-only, as on a standby */
	assert_status(pg_connect(pg, in(LONG)), PG_DOWN);
	assert_non_null(strstr(pg_error(pg), "read-only"));
	other("user=reader target_session_attrs=any"); /* the operator's setting counts */
	connected();
	assert_status(record("shop", 17, LONG), PG_LOST);
	setenv("PGTARGETSESSIONATTRS", "any", 1); /* and so does the environment's */
	other("user=reader");
	connected();
	unsetenv("PGTARGETSESSIONATTRS");
}

/* A listener whose backlog is full drops packets, as a host that has lost its power does. */
static void
silent_host_is_passed_by(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int listener = socket(AF_INET, SOCK_STREAM, 0), filler[4];
	char *s;

	(void)state;
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	for (size_t i = 0; i < 4; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&a, sizeof a);
	}
	pg_free(pg);
	s = xasprintf(
	    "host=127.0.0.1,%s port=%d,5432 user=handler dbname=postgres", dir, ntohs(a.sin_port));
	pg = pg_new(PG_HANDLER, s);
	int64_t begun = clock_ms();
	enum pg_status status = pg_connect(pg, in(LONG));
	print_message("passed by after %d ms\n", (int)(clock_ms() - begun));
	for (size_t i = 0; i < 4; i++)
		close(filler[i]);
	close(listener);
	free(s);
	assert_status(status, PG_OK);
}

/* -- one statement at a time -- */

static void
each_program_knows_its_versions(void **state)
{
	(void)state;
	pg_free(pg); /* schema_version() is 1 here */
	pg = pg_new(PG_WORKER, conninfo);
	pg_for_person(pg);
	assert_false(pg_ready(pg));
	assert_non_null(strstr(pg_error(pg), "version 1"));
	assert_non_null(strstr(pg_remedy(pg), "foloosictl migrate"));
	pg_free(pg);
	pg = pg_new(PG_HANDLER, conninfo);
	pg_for_person(pg);
	assert_true(pg_ready(pg));
	pg_free(pg);
	pg = pg_new(PG_MONITOR, conninfo);
	pg_for_person(pg);
	assert_true(pg_ready(pg));
	other("user=stranger");
	pg_for_person(pg);
	assert_false(pg_ready(pg));
	assert_non_null(strstr(pg_remedy(pg), "connect as"));
	other("user=handler dbname=template1");
	pg_for_person(pg);
	assert_false(pg_ready(pg));
	assert_non_null(strstr(pg_remedy(pg), "foloosictl migrate"));
	other("user=handler dbname=nowhere");
	pg_for_person(pg);
	assert_false(pg_ready(pg));
	assert_non_null(strstr(pg_remedy(pg), "make the database"));
}

static void
a_statement_is_kept_refused_or_lost(void **state)
{
	static const char *const elements[] = {"a,b}", NULL, "", "\"", "\\", "NULL", "}"};
	struct text array = {0};
	struct pg_rows rows;
	const char *values[1];

	(void)state;
	pg_for_person(pg);
	assert_true(pg_ready(pg));
	for (int turn = 0; turn < 2; turn++) { /* a closed array can grow */
		for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
			values[0] = pg_array_text(&array);
			pg_array_add(&array, elements[i]);
		}
		values[0] = pg_array_text(&array);
		assert_int_equal(
		    pg_query(pg, "select * from unnest($1::text[])", 1, values, &rows), PG_OK);
		assert_int_equal(rows.count, sizeof elements / sizeof elements[0]);
		for (size_t i = 0; i < rows.count; i++)
			if (elements[i] == NULL)
				assert_null(pg_value(&rows, i, 0));
			else
				assert_string_equal(pg_value(&rows, i, 0), elements[i]);
		pg_rows_free(&rows);
		text_clear(&array);
	}
	text_free(&array);

	enum pg_status refused = pg_query(pg, "select 1/0", 0, NULL, &rows);
	assert_int_equal(refused, PG_DATA);
	assert_true(pg_refused(refused) && pg_connected(pg) && rows.count == 0);
	assert_string_equal(pg_error(pg), "division by zero");
	assert_int_equal(pg_query(pg, "select 1", 0, NULL, NULL), PG_OK);

	assert_int_equal(
	    pg_query(pg, "select pg_terminate_backend(pg_backend_pid())", 0, NULL, NULL), PG_LOST);
	assert_false(pg_connected(pg));
	assert_int_equal(pg_query(pg, "select 1", 0, NULL, NULL), PG_LOST);
}

/* -- scripts -- */

static void
an_error_has_its_line(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} rows[] = {
	    {"select 1;\nselect nonsense", 2},
	    {"-- ;\n/* ; */ select 1; ;;\n\n-- ;\nselect\n 1/0;", 5},
	    {"do $$ begin perform ';'; end $$;\n\ndo $x$ begin\n raise 'x;';\nend $x$; select 1;",
		3},
	    {"select ';', e'\\'', $a$;$a$, 1 as \";\"; select 1/0", 1},
	    {"select 1 -- ;\n + 1;\nselect 1/0", 3},
	    {"select 'Größe;';\nselect 1/0", 2},
	    {"\ncopy foloosi.seen from stdin;\nselect 1", 2},
	    {"\ncopy foloosi.seen to stdout;\nselect 1", 2},
	};

	(void)state;
	pg_free(pg);
	pg = pg_new(PG_MIGRATE, conninfo);
	pg_for_person(pg);
	assert_true(pg_ready(pg));
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		unsigned line;

		assert_int_equal(pg_script(pg, "begin; select 1"), PG_OK);
		assert_true(pg_in_transaction(pg));
		assert_int_not_equal(pg_script(pg, rows[i].text), PG_OK);
		line = pg_script_line(pg, rows[i].text);
		if (line != rows[i].line)
			fail_msg("row %zu: line %u: %s", i, line, pg_error(pg));
		assert_int_equal(pg_script(pg, "rollback"), PG_OK);
	}
	assert_int_equal(pg_script(pg, "begin; create table foloosi.kept ()"), PG_DOWN);
	assert_false(pg_commit(pg)); /* the transaction had failed */
	assert_int_equal(pg_script(pg, "begin; select 1"), PG_OK);
	assert_true(pg_commit(pg));
	assert_false(pg_in_transaction(pg));
}

static void
settings_that_break_the_promise_do_not_stop_us(void **state)
{
	(void)state;
	sql("alter role handler set synchronous_commit = off");
	connected(); /* logs a warning */
	assert_status(record("shop", 18, LONG), PG_OK);
	sql("alter role handler reset synchronous_commit");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(every_byte_arrives),
	    TEST(repeat_is_a_duplicate),
	    TEST(largest_batch),
	    TEST(refused_data_is_not_repeated_in_the_error),
	    TEST(errors_by_class),
	    TEST(failed_commit_is_not_a_success),
	    TEST(warning_of_a_trigger_is_nothing),
	    TEST(commit_without_its_standby_is_not_confirmed),
	    TEST(deadline_is_kept),
	    TEST(stopped_server_keeps_no_deadline),
	    TEST(restart_between_two_calls),
	    TEST(terminated_in_the_middle),
	    TEST(no_connection_says_why),
	    TEST(privileges_and_schema_are_checked),
	    TEST(standby_is_not_taken_for_the_primary),
	    TEST(silent_host_is_passed_by),
	    TEST(each_program_knows_its_versions),
	    TEST(a_statement_is_kept_refused_or_lost),
	    TEST(an_error_has_its_line),
	    TEST(settings_that_break_the_promise_do_not_stop_us),
	};

	return cmocka_run_group_tests_name("pg_server", tests, start_server, stop_server);
}
