/* SPDX-License-Identifier: MIT */
/*
 * check.c - "foloosictl check": is everything in order, and if not, what to do?
 *
 * A list of steps, each of which adds lines: ok, warning or red, with the remedy. A step that fails does not
 * prevent the next ones; one whose subject could not be read adds nothing.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "ctl.h"
#include "http_client.h"
#include "mem.h"
#include "spool.h"
#include "url.h"

#define STALE_S 60 /* a delivery that waits longer in the spool is stuck */
#define WEB_MS 5000
#define URL_ENV "WEBHOOK_URL"

enum state {
	GREEN,
	YELLOW,
	RED
};
static const char *const state_names[] = {"ok", "warning", "red"};

struct line {
	enum state state;
	const char *what; /* static */
	char *said;       /* owned */
	char *remedy;     /* owned; NULL: none is needed */
};

struct check {
	const char *conninfo, *path, *url;
	struct config *config; /* owned; NULL: it cannot be read */
	struct pg *pg;         /* owned; NULL: no connection */
	struct line *lines;    /* owned */
	size_t count;
};

/* Add a line. said and remedy are owned by it from now on. */
static void
add_line(struct check *c, enum state state, const char *what, char *said, char *remedy)
{
	c->lines = xrealloc(c->lines, (c->count + 1) * sizeof *c->lines);
	c->lines[c->count++] = (struct line){state, what, said, remedy};
}

/* ---- the configuration ---- */

static void
check_configuration(struct check *c)
{
	const char *path = c->path != NULL ? c->path : config_path();
	char *error = NULL;

	if ((c->config = config_load(path, CONFIG_FOR_WORKER, &error)) == NULL)
		add_line(c, RED, "configuration", error,
		    access(path, R_OK) != 0 && errno == EACCES
			? xstrdup("run this as root")
			: xasprintf("foloosi-webhook --check-config --config %s says the same "
				    "until it is mended",
			      path));
	else
		add_line(c, GREEN, "configuration",
		    xasprintf("%s, merchants: %zu", path, c->config->merchant_count), NULL);
}

/* ---- the database ---- */

static void
check_connection_of_operator(struct check *c)
{
	static const char sql[] = "select format('as %s, database %s, PostgreSQL %s, schema "
				  "version %s', current_user, current_database(),"
				  " current_setting('server_version'), foloosi.schema_version())";
	struct pg_rows rows;

	c->pg = pg_new(PG_OPERATOR, c->conninfo);
	pg_for_person(c->pg);
	if (pg_ready(c->pg) && pg_query(c->pg, sql, 0, NULL, &rows) == PG_OK) {
		add_line(c, GREEN, "database", xstrdup(pg_value(&rows, 0, 0)), NULL);
		pg_rows_free(&rows);
		return;
	}
	add_line(c, RED, "database", xstrdup(pg_error(c->pg)),
	    xasprintf("%s; --database, or PGHOST, PGDATABASE and PGUSER=foloosi_operator, say "
		      "where it is",
		pg_remedy(c->pg) != NULL ? pg_remedy(c->pg) : "correct what the reason names"));
	pg_free(c->pg);
	c->pg = NULL;
}

/* Steps that are a query: each row is a line (0 ok, 1 warning, 2 red; text; remedy). $1: the configuration's merchants. */
static const struct {
	const char *what, *sql;
} queries[] = {
    {"durability",
	"select case when bad is null then 0 else 2 end, coalesce('off: ' || bad, 'fsync and "
	"full_page_writes are on'),"
	" case when bad is not null then 'switch them on in postgresql.conf: a 2xx promises that a "
	"payment is on disk' end"
	" from (select string_agg(s.name, ', ' order by s.name) from pg_catalog.pg_settings s"
	"  where s.name in ('fsync', 'full_page_writes') and s.setting = 'off' and $1::text[] is "
	"not null) x (bad)"},
    {"roles", "select case when count(*) filter (where r.oid is null) > 0 or bool_or(r.rolsuper) "
	      "then 2 else 0 end,"
	      " coalesce('missing: ' || string_agg(w.role, ', ') filter (where r.oid is null),"
	      "  'superuser: ' || string_agg(w.role, ', ') filter (where r.rolsuper), 'all are "
	      "there, none is superuser'),"
	      " case when count(*) filter (where r.oid is null) > 0 then 'foloosictl migrate, as a "
	      "superuser'"
	      "  when bool_or(r.rolsuper) then 'alter role ... nosuperuser' end"
	      " from unnest(array['foloosi_owner', 'foloosi_handler', 'foloosi_operator', "
	      "'foloosi_consumer', 'foloosi_worker', 'foloosi_monitor', 'foloosi_retention'])"
	      " w (role) left join pg_catalog.pg_roles r on r.rolname = w.role where $1::text[] is "
	      "not null"},
    {"roles' settings",
	"select case when missing is null then 0 else 1 end, coalesce('missing: ' || missing,"
	" 'personal data stays out of the server''s log'),"
	" case when missing is not null then 'foloosictl migrate, as a superuser' end from ("
	"  select string_agg(r.rolname || ' ' || s.name, ', ' order by r.rolname, s.name) from "
	"pg_catalog.pg_roles r"
	"  cross join unnest(array['log_min_messages', 'log_min_error_statement', "
	"'log_error_verbosity',"
	"   'log_parameter_max_length', 'log_parameter_max_length_on_error']) s (name)"
	"  where r.rolname in ('foloosi_handler', 'foloosi_operator', 'foloosi_consumer', "
	"'foloosi_worker', 'foloosi_monitor', 'foloosi_retention') and not exists"
	"   (select from unnest(r.rolconfig) c where starts_with(c, s.name || '=')) and $1::text[] "
	"is not null) x (missing)"},
    {"merchants", "select case when m.merchant is null or w.merchant is null then 1 else 0 end, "
		  "coalesce(m.merchant, w.merchant) ||"
		  " case when m.merchant is null then ': has no row, so its policy is the default'"
		  "  when w.merchant is null then ': has no section in the configuration, so "
		  "nothing reaches it'"
		  "  else format(': mode %s, unknown orders %s, late success %s, verify %s', "
		  "m.mode, m.unknown_orders, m.late_success,"
		  "   m.verify) end,"
		  " case when m.merchant is null then 'foloosictl merchant add ' || w.merchant"
		  "  when w.merchant is null then format('add [merchant %s] to the configuration', "
		  "m.merchant) end"
		  " from foloosi.merchants m full join unnest($1::text[]) w (merchant) on "
		  "w.merchant = m.merchant"
		  " order by coalesce(m.merchant, w.merchant)"},
    {"partitions", "select case when exists (select from foloosi.bodies_default) then 1 else 0 end,"
		   " case when exists (select from foloosi.bodies_default) then 'some bodies are "
		   "in foloosi.bodies_default'"
		   "  else 'each body is in its month' end, case when exists (select from "
		   "foloosi.bodies_default)"
		   "  then 'foloosictl migrate makes the months ahead; run it once a year at "
		   "least' end where $1::text[] is not null"},
    {"cancellation",
	"select case when ran then 0 else 1 end,"
	" case when ran and c.held_until > foloosi.clock() then 'cancels nothing before ' || "
	"to_char(c.held_until at time zone "
	"'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ', because payments may wait elsewhere'"
	"  when ran then 'orders whose time has come are cancelled'"
	"  else coalesce('orders whose time has come were last looked for at ' || to_char(c.ran_at "
	"at time zone 'UTC', "
	"'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'orders whose time has come were never looked for') "
	"end,"
	" case when not ran then 'start foloosi-worker, or foloosi-cancel.timer' end"
	" from foloosi.cancellation c"
	" cross join lateral (select coalesce(c.ran_at > foloosi.clock() - interval '2 minutes', "
	"false)) r (ran)"
	" where $1::text[] is not null and (exists (select from foloosi.merchants m where "
	"m.cancel_after > '0' or m.expire_after is "
	"not null) or exists (select from foloosi.orders o where o.state = 'pending' and "
	"o.cancel_at is not null))"},
    {"attention", "select case when count(*) > 0 then 1 else 0 end, case when count(*) > 0 then "
		  "format('%s wait for a person, the oldest"
		  " since %s', count(*), to_char(min(a.created_at) at time zone 'UTC', "
		  "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
		  " else 'nothing waits for a person' end, case when count(*) > 0 then 'foloosictl "
		  "attention' end"
		  " from foloosi.attention a where $1::text[] is not null"},
};

/* The merchants of the configuration as an array, for $1. */
static void
add_merchants(const struct check *c, struct text *names)
{
	for (size_t i = 0; c->config != NULL && i < c->config->merchant_count; i++)
		pg_array_add(names, c->config->merchants[i].name);
}

static void
check_queries(struct check *c)
{
	struct text names = {0};
	const char *values[1];

	add_merchants(c, &names);
	values[0] = pg_array_text(&names);
	for (size_t i = 0; c->pg != NULL && i < sizeof queries / sizeof *queries; i++) {
		struct pg_rows rows;

		if (pg_query(c->pg, queries[i].sql, 1, values, &rows) != PG_OK) {
			add_line(c, RED, queries[i].what, xstrdup(pg_error(c->pg)),
			    xstrdup("connect as foloosi_operator, which may read everything"));
			continue;
		}
		for (size_t r = 0; r < rows.count; r++) {
			const char *remedy = pg_value(&rows, r, 2);

			add_line(c, (enum state)(pg_value(&rows, r, 0)[0] - '0'), queries[i].what,
			    xstrdup(pg_value(&rows, r, 1)),
			    remedy != NULL ? xstrdup(remedy) : NULL);
		}
		pg_rows_free(&rows);
	}
	text_free(&names);
}

/* Does the connection string of a program's configuration connect, and as its role? */
static void
check_program_connection(struct check *c, const char *what, enum pg_program program,
    const char *conninfo, const char *role)
{
	const char *sql = program == PG_MONITOR
			      ? "select current_user, (select count(*) from foloosi.monitor())"
			      : "select current_user";
	struct pg *s = pg_new(program, conninfo);
	struct pg_rows rows = {0};

	pg_for_person(s);
	if (!pg_ready(s) || pg_query(s, sql, 0, NULL, &rows) != PG_OK)
		add_line(c, RED, what, xstrdup(pg_error(s)),
		    xasprintf("%s; if this is not the program's user: sudo systemd-run -P "
			      "-p User=foloosi-webhook "
			      "-p LoadCredential=secrets:/etc/foloosi-webhook/secrets "
			      "foloosictl check",
			pg_remedy(s) != NULL ? pg_remedy(s) : "correct what the reason names"));
	else if (strcmp(pg_value(&rows, 0, 0), role) != 0)
		add_line(c, YELLOW, what, xasprintf("connects as %s", pg_value(&rows, 0, 0)),
		    xasprintf("user=%s in its connection string: that role may do what is needed "
			      "and nothing else",
			role));
	else
		add_line(c, GREEN, what, xasprintf("connects as %s", role), NULL);
	pg_rows_free(&rows);
	pg_free(s);
}

static void
check_program_connections(struct check *c)
{
	bool worker = false;

	if (c->config == NULL)
		return;
	check_program_connection(
	    c, "handler's connection", PG_HANDLER, c->config->database, "foloosi_handler");
	if (c->config->monitor != NULL)
		check_program_connection(
		    c, "monitor's connection", PG_MONITOR, c->config->monitor, "foloosi_monitor");
	for (size_t i = 0; i < c->config->merchant_count; i++)
		worker |= c->config->merchants[i].event_url_count > 0 ||
			  c->config->merchants[i].provider.url != NULL ||
			  c->config->merchants[i].mail_from != NULL;
	if (worker)
		check_program_connection(c, "worker's connection", PG_WORKER,
		    c->config->worker.database, "foloosi_worker");
}

/* ---- this machine ---- */

static void
check_spool(struct check *c)
{
	struct spool_usage usage;
	struct spool *spool;
	char *error = NULL;
	int64_t age;

	if (c->config == NULL)
		return;
	if (c->config->spool_dir == NULL) {
		add_line(c, GREEN, "spool",
		    xstrdup("none: while the database is away the answer is 503"), NULL);
		return;
	}
	spool = spool_open(&(struct spool_options){.directory = c->config->spool_dir,
			       .max_bytes = c->config->spool_max_bytes,
			       .max_files = (size_t)c->config->spool_max_files},
	    &error);
	if (spool == NULL) {
		add_line(c, RED, "spool", error,
		    xstrdup("run this as root, or as the user of foloosi-webhook, to see whether "
			    "it is that"));
		return;
	}
	usage = spool_count(spool);
	age = usage.oldest > 0 ? (int64_t)clock_wall_s() - usage.oldest / 1000000 : 0;
	if (usage.unread)
		add_line(c, RED, "spool", xasprintf("%s cannot be read", c->config->spool_dir),
		    xstrdup("look at the directory, its owner and its disk"));
	else if (age > STALE_S)
		add_line(c, RED, "spool",
		    xasprintf(
			"%zu deliveries wait, the oldest for %" PRId64 " s", usage.files, age),
		    xstrdup("look at \"handler's connection\"; the handler's log says each minute "
			    "why; foloosictl spool drain"));
	else
		add_line(c, GREEN, "spool",
		    xasprintf("%s: %zu deliveries wait", c->config->spool_dir, usage.files), NULL);
	if (usage.aside > 0)
		add_line(c, YELLOW, "spool", xasprintf("%zu files were set aside", usage.aside),
		    xasprintf("look at them in %s/aside, and remove them when done",
			c->config->spool_dir));
	spool_close(spool);
}

static void
check_socket(struct check *c)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path;
	int fd;

	if (c->config == NULL || (path = c->config->listen) == NULL)
		return;
	if (strlen(path) >= sizeof address.sun_path) {
		add_line(c, RED, "handler", xasprintf("%s: too long for a socket", path),
		    xstrdup("choose a shorter \"listen\""));
		return;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		add_line(c, GREEN, "handler", xasprintf("listens on %s", path), NULL);
	else if (errno == EACCES)
		add_line(c, YELLOW, "handler", xasprintf("%s: this user may not connect", path),
		    xstrdup("run this as root, or as the web server's user"));
	else
		add_line(c, RED, "handler", xasprintf("%s: %s", path, strerror(errno)),
		    xstrdup(errno == EAGAIN
				? "it listens and does not take: look at its log, or restart it"
				: "start foloosi-webhook; its log says why it ended"));
	if (fd >= 0)
		close(fd);
}

/*
 * An endpoint's URL: a GET, which writes nothing, must be answered 200. Only a site's URL, so that there is no
 * token: an endpoint that does not exist must be answered by the handler's own 404.
 */
static void
check_web(struct check *c)
{
	bool endpoint = strstr(c->url, "/webhooks/foloosi/") != NULL;
	size_t len = strlen(c->url);
	struct http_client_answer answer;
	struct http_client *client;
	char *site, *url;

	if (url_kind(c->url) == URL_BAD) {
		add_line(c, RED, "web server", xstrdup("that is no http or https URL"),
		    xstrdup("--url https://your.host"));
		return;
	}
	site = url_site(c->url);
	while (len > 0 && c->url[len - 1] == '/')
		len--;
	url = endpoint ? xstrdup(c->url)
		       : xasprintf("%.*s/webhooks/foloosi/-/none", (int)len, c->url);
	client = http_client_new();
	if (!http_client_fetch(client,
		&(struct http_client_request){.url = url, .timeout_ms = WEB_MS, .keep = true},
		&answer))
		add_line(c, RED, "web server", xasprintf("%s: %s", site, answer.detail),
		    xstrdup("is it running? --url, or " URL_ENV ", says where"));
	else if (endpoint && answer.status == 200)
		add_line(
		    c, GREEN, "web server", xasprintf("%s: the endpoint is there", site), NULL);
	else if (!endpoint && answer.status == 404 && answer.body != NULL &&
		 strstr(answer.body, "There is no such endpoint") != NULL)
		add_line(c, GREEN, "web server", xasprintf("%s: reaches the handler", site), NULL);
	else if (answer.status >= 500)
		add_line(c, RED, "web server",
		    xasprintf(
			"%s: answers %ld: it does not reach the handler", site, answer.status),
		    xstrdup("is the handler running, may the web server's user connect to its "
			    "socket (socket_group, 0660)?"));
	else if (endpoint && answer.status == 404)
		add_line(c, RED, "web server", xasprintf("%s: answers 404 for this endpoint", site),
		    xstrdup("merchant or token are not those of the configuration, or the web "
			    "server's configuration lacks the"
			    " snippet: foloosictl nginx-snippet, foloosictl apache-snippet"));
	else
		add_line(c, RED, "web server",
		    xasprintf(
			"%s: answers %ld, and not in the handler's words", site, answer.status),
		    xstrdup("its configuration lacks the snippet: foloosictl nginx-snippet, "
			    "foloosictl apache-snippet; --url says"
			    " which site"));
	http_client_free(client);
	free(url);
	free(site);
}

/* ---- the list ---- */

static void
print_lines(const struct check *c)
{
	struct table_style style = table_style(stdout);
	size_t count[RED + 1] = {0};

	for (size_t i = 0; i < c->count; i++) {
		const struct line *l = &c->lines[i];
		const char *colour = style.colour ? table_colour(state_names[l->state]) : NULL;

		printf("%s%-7s%s  %s: ", colour != NULL ? colour : "", state_names[l->state],
		    colour != NULL ? TABLE_PLAIN : "", l->what);
		table_text(stdout, &style, l->said);
		putchar('\n');
		if (l->remedy != NULL) {
			fputs("         ", stdout);
			table_text(stdout, &style, l->remedy);
			putchar('\n');
		}
		count[l->state]++;
	}
	printf("\n%zu ok, %zu to look at, %zu red\n", count[GREEN], count[YELLOW], count[RED]);
}

static void
print_json(const struct check *c)
{
	struct table t = {0};

	table_column(&t, "state", TABLE_WORD);
	table_column(&t, "what", TABLE_WORD);
	table_column(&t, "said", TABLE_TEXT);
	table_column(&t, "remedy", TABLE_TEXT);
	for (size_t i = 0; i < c->count; i++)
		table_row(&t, (const char *[]){state_names[c->lines[i].state], c->lines[i].what,
				  c->lines[i].said, c->lines[i].remedy});
	ctl_print_json(&t);
	table_free(&t);
}

static int
run_check(const struct ctl_call *call)
{
	static void (*const steps[])(struct check *) = {check_configuration,
	    check_connection_of_operator, check_queries, check_program_connections, check_spool,
	    check_socket, check_web};
	const char *conninfo = ctl_value(call, "database");
	struct check c = {.conninfo = conninfo != NULL ? conninfo : "",
	    .path = ctl_value(call, "config"),
	    .url = ctl_value(call, "url")};
	int code = CTL_OK;

	if (call->argc > 0)
		return ctl_usage(call->self);
	if (c.url == NULL)
		c.url = getenv(URL_ENV);
	if (c.url == NULL || *c.url == '\0')
		c.url = "http://localhost";

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		steps[i](&c);
	if (ctl_value(call, "json") != NULL)
		print_json(&c);
	else
		print_lines(&c);
	for (size_t i = 0; i < c.count; i++) {
		if (c.lines[i].state == RED)
			code = CTL_FAILED;
		free(c.lines[i].said);
		free(c.lines[i].remedy);
	}
	free(c.lines);
	pg_free(c.pg);
	config_unref(c.config);
	return code;
}

const struct subcommand check_subcommand = {
    .name = "check",
    .arguments = "",
    .summary = "say whether everything is in order, and what to do if not",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_CONFIG,
	{"url", 0, "URL",
	    "an endpoint, or the site that has it (default: $" URL_ENV ", then http://localhost)",
	    NULL}),
    .run = run_check,
};
