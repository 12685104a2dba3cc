/* SPDX-License-Identifier: MIT */
/*
 * main.c - foloosi-webhook: options, socket, signals, and the start and stop of all parts.
 *
 * How the modules call each other; a request goes down, its answer comes up:
 *
 *     web server ── http.c      a request and an answer, whatever brought them    (libfcgi)
 *                     │
 *                  pool.c       the threads that accept and answer requests
 *                     │
 *                  handler.c    one request: route, authenticate, read, decode, record, answer
 *                     ├─ config.c    whose endpoint is it, and what may it be asked for? (inih)
 *                     ├─ auth.c      is this request from this merchant?          (libcrypto)
 *                     ├─ transfer.c  bytes → struct transfer                         (json-c)
 *                     │     ├─ rfc8259.c   is this text JSON, exactly?
 *                     │     └─ money.c     exact decimals, currencies
 *                     ├─ answer.c    JSON and problem+json
 *                     ├─ outcome.c   what may become of a request: status, title, log level
 *                     │
 *                  writer.c     commits waiting deliveries together, gives them outcomes
 *                     │   spool.c   files that hold deliveries while the database is away
 *                     │     ├─ spool_io.c   the threads that write them
 *                     │     │
 *                     │   drain.c   from there into the database
 *                   pg_record.c one conversation with PostgreSQL, with a deadline    (libpq)
 *
 * ops.c answers the operator's own requests: /healthz, /readyz and /metrics, which shows what
 * stats.c counts. log.c, mem.h and delivery.h are used everywhere.
 *
 * Lock order. No thread holds two of these locks at once, so there is no order to keep and no
 * deadlock among them. A change that calls one of these modules below a held
 * lock keeps it so, or draws the arrow here.
 *
 *     pool.lock       pool.c      slots, accept threads, completions, the configuration in force
 *     writer.mutex    writer.c    queues and what is completed; not held while a batch is committed
 *     spool.mutex     spool.c     counters of files, flushes; not held during disk operations
 *     io.mutex        spool_io.c  files to be written; not held during disk operations
 *     drain.mutex     drain.c     removals, counters; not held during disk or database operations
 *     ops.mutex       ops.c       waiting requests; not held while they are answered
 *     requests.lock   http.c      the list of connections, for http_stop_reading()
 *     lock            handler.c   warn_unknown_merchant()'s list
 *
 * log.c takes none (a line is one write), stats.c counts with atomics.
 *
 * Signals are blocked in every thread; the main thread waits for them, so no code ever runs in a
 * signal handler. Between them it tells the service manager how things are, and that the
 * writer is alive: a writer that is stuck ends in a restart (notify.h).
 *
 * The stop, in reverse order: unlink the socket path and accept what waits at it; let each accept
 * thread end its request, and close connections of peers that still have not sent theirs; now
 * nothing more is submitted to the writer, and the answer thread ends when all is answered; the
 * last deferred completions; then the writer. What the spool holds stays there for the next start.
 *
 * Plain CGI and mod_fcgid are the same with one request and one thread at a time.
 */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "drain.h"
#include "http.h"
#include "log.h"
#include "mem.h"
#include "notify.h"
#include "ops.h"
#include "pool.h"
#include "program.h"
#include "spool.h"
#include "stats.h"
#include "writer.h"

#define ARENAS 2         /* of malloc(): what one thread takes another gives back */
#define PATIENCE_MS 1000 /* at the stop, for requests that wait at our own socket */
#define STATUS_MS 10000  /* between two messages to the service manager */

struct options {
	const char *listen; /* NULL: the configuration's */
	int threads;        /* 0: the configuration's */
};

static const char usage[] =
    "usage: foloosi-webhook [--config PATH] [--listen PATH] [--threads N]\n"
    "       foloosi-webhook [--config PATH] --check-config\n"
    "       foloosi-webhook --help | --version\n"
    "\n"
    "Receives Foloosi's payment webhooks by FastCGI or CGI and records them in PostgreSQL.\n"
    "\n" PROGRAM_HELP_CONFIG "  --listen PATH    make this socket, whatever else there is\n"
    "  --threads N      accept threads, 1 to 1024\n" PROGRAM_HELP "\n"
    "SIGHUP reads the configuration again; SIGTERM and SIGINT answer what is in flight\n"
    "and stop. See foloosi-webhook(8) and foloosi-webhook.conf(5).\n";

enum {
	OPTION_LISTEN = 1,
	OPTION_THREADS
};

static const struct option known_options[] = {{"listen", required_argument, NULL, OPTION_LISTEN},
    {"threads", required_argument, NULL, OPTION_THREADS}, PROGRAM_OPTIONS};

static struct program program = {.name = "foloosi-webhook",
    .usage = usage,
    .options = known_options,
    .reader = CONFIG_FOR_HANDLER};

static struct options
parse_options(int argc, char **argv)
{
	struct options o = {0};
	int option;

	while ((option = program_option(&program, argc, argv)) != -1)
		if (option == OPTION_LISTEN)
			o.listen = optarg;
		else
			o.threads = program_number(&program, "threads", 1, POOL_THREADS_MAX);
	if (optind < argc)
		program_usage(&program);
	return o;
}

/* Each request has a descriptor: the soft limit may be too low. */
static void
raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* SIGHUP. A wrong configuration changes nothing: the old one stays in force. */
static void
reload(void)
{
	struct config *old, *fresh = program_reload(&program);

	stats_count(STATS_RELOADED, fresh != NULL ? "ok" : "failed");
	if (fresh == NULL)
		return;
	stats_adopt(fresh);
	old = pool_set_config(fresh);
	program_reloaded(&program, old, fresh);
	config_unref(old);
}

/* Report to the service manager. Returns in how many milliseconds the next report is due, or -1. */
static int64_t
report(struct writer *writer)
{
	int64_t patience = notify_watchdog_ms(), overdue;
	struct writer_stats n;
	char *status;

	if (!notify_wanted())
		return -1;
	overdue = writer_overdue(writer);
	if (patience > 0 && overdue > patience / 2)
		log_event(LOG_ERROR, "writer_stuck", "ms", log_number(overdue), "remedy",
		    "the service manager is told nothing more, and starts this program again",
		    (const char *)NULL);
	else if (patience > 0)
		notify("WATCHDOG=1");
	writer_stats(writer, &n);
	status = xasprintf("STATUS=%s; %" PRIu64 " deliveries recorded in %" PRIu64 " batches",
	    n.down == REASON_NONE     ? "recording"
	    : n.down == REASON_SCHEMA ? "the schema is of another version"
				      : "the database is away",
	    n.deliveries, n.batches);
	notify(status);
	free(status);
	return patience > 0 && patience / 4 < STATUS_MS ? patience / 4 : STATUS_MS;
}

/* The next signal, with reports to the service manager while there is none. */
static int
next_signal(const sigset_t *signals, struct writer *writer)
{
	int signal;

	do {
		int64_t ms = report(writer);
		struct timespec time = clock_timespec(ms);

		signal = sigtimedwait(signals, NULL, ms < 0 ? NULL : &time);
	} while (signal < 0);
	return signal;
}

/* Log what the writer has done. */
static void
log_stop(struct writer *writer)
{
	struct writer_stats n;

	writer_stats(writer, &n);
	log_event(LOG_INFO, "stopped", "batches", log_number((int64_t)n.batches), "deliveries",
	    log_number((int64_t)n.deliveries), "busy", log_number((int64_t)n.busy), "connects",
	    log_number((int64_t)n.connects), "failures", log_number((int64_t)n.failures),
	    (const char *)NULL);
}

/*
 * FastCGI, until a signal ends it. Returns false if the socket was lost.
 *   own  this program made the socket. One that was passed to it may have another server behind it,
 *        which takes what is left in it.
 */
static bool
serve_fastcgi(const struct pool_options *pool, bool own, const sigset_t *signals)
{
	bool ok;
	int signal;

	pool_start(pool);
	notify("READY=1");
	while ((signal = next_signal(signals, pool->writer)) == SIGHUP) {
		notify_reloading();
		reload();
		notify("READY=1");
	}
	notify("STOPPING=1");
	log_event(LOG_INFO, "stopping", "signal", sigabbrev_np(signal), (const char *)NULL);

	pool_close(own ? PATIENCE_MS : 0);
	ops_stop(pool->ops);
	writer_close(pool->writer);
	ok = pool_join();
	log_stop(pool->writer);
	return ok;
}

/* The configured spool, or NULL if there is none. *error: why it cannot be used. */
static struct spool *
open_spool(const struct config *config, char **error)
{
	*error = NULL;
	if (config->spool_dir == NULL)
		return NULL;
	return spool_open(&(struct spool_options){.directory = config->spool_dir,
			      .max_bytes = config->spool_max_bytes,
			      .max_files = (size_t)config->spool_max_files},
	    error);
}

static void
count_drained(enum outcome outcome)
{
	stats_count(STATS_DRAINED, outcome_info(outcome)->name);
}

int
main(int argc, char **argv)
{
	static const char *const ways[] = {
	    [HTTP_WAY_CGI] = "cgi", [HTTP_WAY_FCGID] = "fcgid", [HTTP_WAY_FASTCGI] = "fastcgi"};
	struct options options;
	struct config *config;
	struct ops *ops = NULL;
	struct writer *writer;
	struct spool *spool;
	struct drain *drain = NULL;
	enum http_way way;
	sigset_t signals;
	const char *path = NULL; /* of the socket, if this program makes it */
	char *error = NULL;
	int fd, threads, rc;

	program_open_files();
	/* RFC 3875 section 4.4: a CGI's arguments are the query's words, and anybody's to choose. */
	if (getenv("GATEWAY_INTERFACE") != NULL)
		argc = 1;
	options = parse_options(argc, argv);
	config = program_config(&program);
	stats_adopt(config);
	spool = open_spool(config, &error);
	if (program.check) {
		spool_close(spool);
		return program_check(&program, config, error);
	}
	log_set_level((enum log_level)config->log_level);
	if (error != NULL)
		fatal("%s", error);
	umask(0077);
	mallopt(M_ARENA_MAX, ARENAS);
	raise_file_limit();

	way = http_detect(&fd);
	if (options.listen != NULL) {
		way = HTTP_WAY_FASTCGI;
		path = options.listen;
	} else if (way == HTTP_WAY_FASTCGI && fd < 0) {
		if ((path = config->listen) == NULL)
			fatal("no socket: set listen in %s, or give --listen PATH, or pass a "
			      "listening socket as descriptor 0 or by LISTEN_FDS",
			    program.config);
	}
	if (way != HTTP_WAY_CGI) /* a web server ends its CGI programs with SIGTERM as it is */
		signals = program_block_signals();
	http_init();
	if (path != NULL &&
	    (fd = http_listen(path, config->socket_mode, config->socket_group, &error)) < 0)
		fatal("%s", error);

	/* A web server's CGI and mod_fcgid start a process for each request that they have at a time. */
	threads = way == HTTP_WAY_CGI     ? 1
		  : options.threads > 0   ? options.threads
		  : way == HTTP_WAY_FCGID ? 1
					  : config->threads;
	pool_set_config(config);
	writer = writer_start(
	    &(struct writer_options){.database = config->database, .one_at_a_time = threads == 1});
	if (way == HTTP_WAY_CGI) {
		pool_serve_cgi(writer, spool);
		rc = 0;
	} else {
		log_event(LOG_INFO, "started", "version", VERSION, "way", ways[way], "socket",
		    path != NULL ? path : "inherited", "threads", log_number(threads), "merchants",
		    log_number((int64_t)config->merchant_count), (const char *)NULL);
		if (spool != NULL)
			drain = drain_start(&(struct drain_options){.spool = spool,
			    .database = config->database,
			    .rate = config->spool_rate,
			    .drained = count_drained});
		if (way ==
		    HTTP_WAY_FASTCGI) /* a short-lived process has no numbers worth asking for */
			ops = ops_start(&(struct ops_options){.listen_fd = fd,
			    .writer = writer,
			    .spool = spool,
			    .spool_max_bytes = config->spool_max_bytes,
			    .spool_max_files = (size_t)config->spool_max_files,
			    .database = config->database,
			    .monitor = config->monitor});
		rc = serve_fastcgi(&(struct pool_options){.fd = fd,
				       .threads = threads,
				       .writer = writer,
				       .spool = spool,
				       .ops = ops},
			 path != NULL, &signals)
			 ? 0
			 : 1;
	}
	drain_stop(drain);
	spool_close(spool);
	writer_stop(writer);
	config_unref(pool_set_config(NULL));
	return rc;
}
