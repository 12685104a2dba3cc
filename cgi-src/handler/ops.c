/* SPDX-License-Identifier: MIT */
/*
 * ops.c - the operator's own requests: /healthz, /readyz, /metrics.
 *
 * The hard part is that two of them wait for the database, which may hang, and must hold up no
 * delivery meanwhile, not even in a program with one thread. So an accept thread leaves such a
 * request to the thread of this module, and takes a spare one in exchange for it. There are few
 * spares: a client that asks too often is answered 503, and occupies nothing. /healthz is answered
 * at once: it shows that the process answers, and no more.
 *
 * /readyz makes a round trip over a connection of its own: the writer's are never disturbed, and
 * their state is known to the writer. The result is reused for a moment. The connection stays open
 * while requests keep coming. The facts of foloosi.monitor() are reused for longer, and their
 * connection is closed after each call.
 *
 * A request is for this module if the web server's location marks it (OPS_PARAM), and if no
 * proxy has passed it on: with a proxy on this machine every client would look local. Any other is
 * left to the handler, which has no such path and answers 404 as to all.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "pg_record.h"
#include "log.h"
#include "mem.h"
#include "ops.h"
#include "stats.h"

#define SPARES 4 /* requests that may wait at a time */
/* All in milliseconds. */
#define MARGIN 50          /* a round trip ends so long before its request's deadline */
#define FRESH 1000         /* how long a round trip's result holds */
#define LINGER 30000       /* how long its connection stays open without a request */
#define MONITOR_FRESH 5000 /* how long the database's facts hold */
#define MONITOR_CALL 2000  /* longest call for them */

struct page {
	const char *path;
	void (*serve)(struct ops *, struct http_request *, int64_t deadline);
	bool waits; /* for the database: to be served by the thread */
};

struct task {
	const struct page *page;
	struct http_request *request;
	int64_t deadline; /* clock_ms() by which it must be answered */
};

struct ops {
	struct ops_options options; /* without the strings */
	pthread_t thread;

	pthread_mutex_t mutex;
	pthread_cond_t wake;
	bool stop;
	struct http_request *spares[SPARES]; /* owned */
	size_t spare_count;
	struct task tasks[SPARES]; /* the oldest first */
	size_t task_count;

	/* the thread's own */
	struct pg *database;
	enum pg_status status; /* of the last round trip … */
	int64_t took, at;      /* … in ms, and when it ended; 0: there was none */
	struct pg *monitor;    /* NULL: it is not asked */
	struct pg_fact *facts; /* owned; NULL: it has not answered */
	size_t fact_count;
	int64_t asked;                 /* when; 0: never */
	bool failing, monitor_failing; /* and that was logged */
};

/* -- answers -- */

static void
send_answer(struct http_request *q, int status, const char *title, const char *headers,
    const char *type, char *body, size_t len)
{
	char *all = xasprintf("Cache-Control: no-store\r\n%s", headers);

	log_event(LOG_DEBUG, "operations", "status", log_number(status), "ms",
	    log_number(clock_ms() - http_arrival(q)), (const char *)NULL);
	http_finish(q, status, title, all, type, body, len);
	free(all);
	free(body);
}

/* RFC 9457. */
static void
send_problem(struct http_request *q, int status, const char *title, const char *headers)
{
	char *body =
	    xasprintf("{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d}\n", title, status);

	send_answer(q, status, title, headers, "application/problem+json", body, strlen(body));
}

static void
serve_healthz(struct ops *o, struct http_request *q, int64_t deadline)
{
	static const char body[] = "{\"status\":\"alive\"}\n";

	(void)o;
	(void)deadline;
	send_answer(q, 200, "OK", "", "application/json", xstrdup(body), sizeof body - 1);
}

/* Log when a connection begins to fail, and when it works again. */
static void
log_connection(const char *event, const struct pg *pg, enum pg_status status, bool *failing)
{
	if (status != PG_OK)
		log_event(*failing ? LOG_DEBUG : LOG_WARNING, event, "state", "down", "error",
		    pg_error(pg), "remedy", pg_remedy(pg), (const char *)NULL);
	else if (*failing)
		log_event(LOG_INFO, event, "state", "up", (const char *)NULL);
	*failing = status != PG_OK;
}

/* A round trip to the database, if the last one is too old. */
static void
ping(struct ops *o, int64_t deadline)
{
	int64_t begin = clock_ms();
	bool open = pg_connected(o->database);

	if (o->at != 0 && begin - o->at < FRESH)
		return;
	o->status = pg_ping(o->database, deadline);
	/* The server may have restarted since the last time. */
	if (o->status == PG_DOWN && open && clock_ms() < deadline)
		o->status = pg_ping(o->database, deadline);
	o->at = clock_ms();
	o->took = o->at - begin;
	log_connection("readyz", o->database, o->status, &o->failing);
}

static void
serve_readyz(struct ops *o, struct http_request *q, int64_t deadline)
{
	struct writer_stats writer;
	struct spool_usage spool = {0};
	const char *trouble = NULL;
	bool ok;
	char *body;
	size_t len;
	FILE *out = open_memstream(&body, &len);

	if (out == NULL)
		out_of_memory();
	ping(o, deadline - MARGIN);
	writer_stats(o->options.writer, &writer);
	if (o->options.spool != NULL) {
		spool = spool_usage(o->options.spool);
		trouble = spool_trouble(o->options.spool);
	}
	ok = o->status == PG_OK && writer.up && trouble == NULL;
	fprintf(out, "{\"status\":\"%s\",\"checks\":{\"database\":{\"ok\":%s,\"ms\":%jd",
	    ok ? "ready" : "not ready", o->status == PG_OK ? "true" : "false", (intmax_t)o->took);
	if (o->status != PG_OK)
		fprintf(out, ",\"reason\":\"%s\"",
		    reason_info(o->status == PG_SCHEMA ? REASON_SCHEMA : REASON_DATABASE)->name);
	fputs("}", out);
	fprintf(out, ",\"writer\":{\"ok\":%s,\"queued\":%ju}", writer.up ? "true" : "false",
	    (uintmax_t)writer.queued);
	if (o->options.spool == NULL)
		fputs(",\"spool\":{\"ok\":true,\"configured\":false}", out);
	else
		fprintf(out,
		    ",\"spool\":{\"ok\":%s,\"files\":%zu,\"bytes\":%zu,\"oldest_s\":%jd%s%s%s}",
		    trouble == NULL ? "true" : "false", spool.files, spool.bytes,
		    (intmax_t)spool_age_s(spool.oldest), trouble != NULL ? ",\"reason\":\"" : "",
		    trouble != NULL ? trouble : "", trouble != NULL ? "\"" : "");
	fputs("}}\n", out);
	if (fclose(out) != 0)
		out_of_memory();
	send_answer(q, ok ? 200 : 503, ok ? "OK" : "Service Unavailable", "", "application/json",
	    body, len);
}

/* Ask the database for its facts, if the last ones are too old. */
static void
ask_monitor(struct ops *o)
{
	int64_t now = clock_ms();
	enum pg_status status;

	if (o->monitor == NULL || (o->asked != 0 && now - o->asked < MONITOR_FRESH))
		return;
	free(o->facts);
	status = pg_monitor(o->monitor, now + MONITOR_CALL, &o->facts, &o->fact_count);
	log_connection("monitor", o->monitor, status, &o->monitor_failing);
	pg_close(o->monitor);
	o->asked = clock_ms();
}

static void
serve_metrics(struct ops *o, struct http_request *q, int64_t deadline)
{
	struct stats_sample sample = {
	    .spooling = o->options.spool != NULL,
	    .monitored = o->monitor != NULL,
	};
	char *body;
	size_t len;
	FILE *out = open_memstream(&body, &len);

	(void)deadline;
	if (out == NULL)
		out_of_memory();
	ask_monitor(o);
	writer_stats(o->options.writer, &sample.writer);
	if (sample.spooling) {
		struct spool_usage usage = spool_usage(o->options.spool);

		sample.spool_files = usage.files;
		sample.spool_bytes = usage.bytes;
		sample.spool_oldest_s = (uint64_t)spool_age_s(usage.oldest);
		sample.spool_max_files = o->options.spool_max_files;
		sample.spool_max_bytes = o->options.spool_max_bytes;
		sample.spool_aside = usage.aside;
	}
	sample.monitor_up = o->facts != NULL;
	sample.facts = o->facts;
	sample.fact_count = o->fact_count;
	stats_write(out, &sample);
	if (fclose(out) != 0)
		out_of_memory();
	send_answer(q, 200, "OK", "", "text/plain; version=0.0.4; charset=utf-8", body, len);
}

static const struct page pages[] = {
    {"/healthz", serve_healthz, false},
    {"/readyz", serve_readyz, true},
    {"/metrics", serve_metrics, true},
};

/* -- accept threads -- */

static bool
is_operators(const struct http_request *q)
{
	static const char *const passed_on[] = {
	    "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA"};
	const char *location = http_param(q, OPS_PARAM);

	if (location == NULL || *location == '\0')
		return false;
	for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
		if (http_param(q, passed_on[i]) != NULL)
			return false;
	return true;
}

static const struct page *
find_page(const struct http_request *q)
{
	const char *uri = http_param(q, "REQUEST_URI");
	size_t len;

	if (uri == NULL)
		return NULL;
	len = strcspn(uri, "?");
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
		if (strlen(pages[i].path) == len && memcmp(pages[i].path, uri, len) == 0)
			return &pages[i];
	return NULL;
}

/* Leave *q to the thread, and take a spare one for it. False: too many wait already. */
static bool
enqueue(struct ops *o, const struct page *page, int64_t deadline, struct http_request **q)
{
	bool room;

	pthread_mutex_lock(&o->mutex);
	room = o->spare_count > 0;
	if (room) {
		o->tasks[o->task_count++] =
		    (struct task){.page = page, .request = *q, .deadline = deadline};
		*q = o->spares[--o->spare_count];
		pthread_cond_signal(&o->wake);
	}
	pthread_mutex_unlock(&o->mutex);
	return room;
}

bool
ops_take(struct ops *o, const struct config *config, struct http_request **q)
{
	const struct page *page;
	const char *method;
	int64_t deadline;

	if (o == NULL || !is_operators(*q) || (page = find_page(*q)) == NULL)
		return false;
	method = http_param(*q, "REQUEST_METHOD");
	deadline = http_arrival(*q) + config->deadline_ms;
	if (method == NULL || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0))
		send_problem(*q, 405, "Method Not Allowed", "Allow: GET, HEAD\r\n");
	else if (!page->waits)
		page->serve(o, *q, deadline);
	else if (!enqueue(o, page, deadline, q))
		send_problem(*q, 503, "Service Unavailable", "Retry-After: 1\r\n");
	return true;
}

/* -- the thread -- */

/* Wait for a task or the stop. Close the connection if it is unused for LINGER. Mutex held. */
static void
wait_for_task(struct ops *o)
{
	const struct timespec until = clock_timespec(clock_ms() + LINGER);

	if (!pg_connected(o->database))
		pthread_cond_wait(&o->wake, &o->mutex);
	else if (pthread_cond_clockwait(&o->wake, &o->mutex, CLOCK_MONOTONIC, &until) != 0)
		pg_close(o->database);
}

static void *
ops_thread(void *arg)
{
	struct ops *o = arg;

	pthread_mutex_lock(&o->mutex);
	while (o->task_count > 0 || !o->stop) {
		struct task e = o->tasks[0];
		bool stop = o->stop;

		if (o->task_count == 0) {
			wait_for_task(o);
			continue;
		}
		o->task_count--;
		memmove(o->tasks, o->tasks + 1, o->task_count * sizeof *o->tasks);
		pthread_mutex_unlock(&o->mutex);
		if (stop)
			send_problem(e.request, 503, "Service Unavailable", "");
		else
			e.page->serve(o, e.request, e.deadline);
		pthread_mutex_lock(&o->mutex);
		o->spares[o->spare_count++] = e.request;
	}
	pthread_mutex_unlock(&o->mutex);
	return NULL;
}

struct ops *
ops_start(const struct ops_options *options)
{
	struct ops *o = xcalloc(1, sizeof *o);

	o->options = *options;
	o->database = pg_new(PG_HANDLER, options->database);
	if (options->monitor != NULL)
		o->monitor = pg_new(PG_MONITOR, options->monitor);
	o->options.database = o->options.monitor = NULL;
	for (o->spare_count = 0; o->spare_count < SPARES; o->spare_count++)
		o->spares[o->spare_count] = http_request_new(options->listen_fd);
	pthread_mutex_init(&o->mutex, NULL);
	pthread_cond_init(&o->wake, NULL);
	if (pthread_create(&o->thread, NULL, ops_thread, o) != 0)
		fatal("the thread for /readyz and /metrics cannot be started");
	return o;
}

void
ops_stop(struct ops *o)
{
	if (o == NULL)
		return;
	pthread_mutex_lock(&o->mutex);
	o->stop = true;
	pthread_cond_signal(&o->wake);
	pthread_mutex_unlock(&o->mutex);
	pthread_join(o->thread, NULL);
	for (size_t i = 0; i < o->spare_count; i++)
		http_request_free(o->spares[i]);
	pg_free(o->database);
	pg_free(o->monitor);
	free(o->facts);
	pthread_cond_destroy(&o->wake);
	pthread_mutex_destroy(&o->mutex);
	free(o);
}
