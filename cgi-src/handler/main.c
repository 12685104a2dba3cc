/*
 * main.c - foloosi-webhook: options, socket, threads, signals, and the stop in reverse order.
 *
 * The map of the house. A request goes down these stairs and its answer comes up again:
 *
 *     web server ── http.c      a request and an answer, whatever brought them    (libfcgi)
 *                     │
 *                  handler.c    the stairs: route, authenticate, read, decode, record, answer
 *                     ├─ config.c    whose endpoint is it, and what may it be asked for? (inih)
 *                     ├─ auth.c      is this request from this merchant?          (libcrypto)
 *                     ├─ transfer.c  bytes → struct transfer                         (json-c)
 *                     │     ├─ rfc8259.c   is this text JSON, exactly?
 *                     │     └─ money.c     exact decimals, currencies
 *                     ├─ outcome.c   what may become of a request: status, title, log level
 *                     │
 *                  writer.c     commits waiting deliveries together, hands back outcomes
 *                     │   spool.c   files that hold deliveries while the database is away
 *                     │     │
 *                     │   drain.c   the way back from there
 *                   pg_record.c        one conversation with PostgreSQL, with a deadline    (libpq)
 *
 * Beside the stairs, ops.c answers the operator's own requests: /healthz, /readyz and
 * /metrics, which writes what stats.c counts.
 *
 * log.c, mem.h and delivery.h (the noun that they share) are used everywhere; arrows only
 * point down. In this program each foreign library is called from one file. Other programs in this
 * directory (ctl.c: foloosictl, worker.c: foloosi-worker) have their own main and share the
 * rooms below.
 *
 * Who owns what. A slot is room for one request: an http_request, and a handler with one
 * delivery and its buffers, reused for ever. It belongs to one thread at a time: from
 * next_slot() on to an accept thread, while its delivery is lent to the writer, with
 * writer_lend(), to nobody, then to the answer thread, which collects and answers what comes
 * back, and from put_slot() on it is free again. The configuration is immutable: a slot pins
 * the one in force for one request, SIGHUP replaces it whole, the last one who lets go frees it.
 *
 * Who is awake. Waking a thread costs more than all else that a request does here. So no thread
 * waits for its own delivery: the answer thread is woken once for all of a batch. And of the
 * accept threads only DUTY are on duty, and under load they find the next connection without
 * having slept; the others are parked. Who is going to wait for something other than the next
 * connection, a peer that is late or a disk, steps aside first, and one of the parked takes
 * his place.
 *
 * Chores are answers that may take long, because the database has not taken the delivery and the
 * spool has to: the answer thread leaves each to a parked thread of its own. There are enough,
 * since there are as many threads as slots, and who is not parked has a slot in hand.
 *
 * Lock order. No thread holds two of these locks at once, so there is no order to keep and no
 * deadlock among them. Whoever adds a call below a held lock must keep it so, or draw the arrow here.
 *
 *     house.lock      main.c      slots, accept threads, completions, the configuration in force
 *     writer.mutex    writer.c    queues and what is done; not held while a batch is committed
 *     spool.mutex     spool.c     jobs, counters of files; not held during disk operations
 *     drain.mutex     drain.c     removals, counters; not held during disk or database operations
 *     ops.mutex       ops.c       waiting requests; not held while they are answered
 *     crowd.lock      http.c      the list of connections that http_hang_up() ends
 *     lock            handler.c   warn_unknown_merchant()'s list
 *
 * log.c takes none (a line is one write), stats.c counts with atomics.
 *
 * Signals are blocked in every thread; the main thread waits for them, so no code ever runs in a
 * signal handler. Between them it tells the service manager how things are, and that the
 * writer is alive: a writer that is stuck ends in a restart (notify.h).
 *
 * The stop, in reverse order: close the door (unlink the socket path, take what waits at
 * it), let each accept thread finish what it has, hang up on peers that still keep us waiting;
 * now nothing more is lent, so the answer thread ends when all has come back; the last
 * chores, then stop the writer. What the spool holds stays there for the next start.
 *
 * Plain CGI and mod_fcgid are the same with one request and one thread at a time, which
 * waits for its delivery in writer_record().
 */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "drain.h"
#include "handler.h"
#include "http.h"
#include "log.h"
#include "mem.h"
#include "notify.h"
#include "ops.h"
#include "program.h"
#include "spool.h"
#include "stats.h"
#include "writer.h"

#define THREADS_MAX 1024 /* as the configuration's bound */
#define DUTY 2           /* threads that accept at a time; each more costs wake-ups */
#define FOR_EVER (INT32_MAX * INT64_C(1000)) /* in the milliseconds of clock_ms() */
#define ARENAS 2            /* of malloc(): what one thread takes another gives back */
#define PATIENCE_MS 1000    /* at the stop, for peers that have not sent all of their request */
#define STATUS_MS 10000     /* between two words to the service manager */
#define STACK (512UL << 10) /* bytes a thread: the deepest is a few dozen KiB of libcrypto */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef STACK
#define STACK (8UL << 20) /* their frames are many times larger */
#endif

struct options {
	const char *listen; /* NULL: the configuration's */
	int threads;        /* 0: the configuration's */
};

/* Room for one request. */
struct slot {
	struct http_request *request;
	struct handler *handler;
	struct config *config; /* pinned while there is a request */
	struct slot *next;     /* among the free ones, or the chores */
};

/* What the threads share. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t left;   /* a thread has left */
	pthread_cond_t relief; /* for who is parked: there is a place on duty, or a chore */
	pthread_cond_t room;   /* for who is on duty: there is a free slot, or a chore */
	struct config *config; /* in force; under lock */
	struct ops *ops;       /* NULL: such requests are no others; set before there are threads */
	int running;           /* accept threads; under lock */
	int on_duty;           /* of them; under lock */
	int parked;            /* of them, waiting for relief; under lock */
	int roomless;          /* of them, waiting for room; under lock */
	int chores_count;      /* under lock, like these two */
	struct slot *chores;   /* to be answered by who waits for relief or room */
	struct slot *free;
	bool dismissed; /* no chore will come any more; under lock */
	atomic_bool stopping;
	_Atomic int64_t open_until; /* clock_ms(): until when the stop takes waiting connections */
	atomic_bool failed;
} house = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .left = PTHREAD_COND_INITIALIZER,
    .relief = PTHREAD_COND_INITIALIZER,
    .room = PTHREAD_COND_INITIALIZER,
};

static _Thread_local bool on_duty; /* is this thread? */

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
			o.threads = program_number(&program, "threads", 1, THREADS_MAX);
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

static struct config *
pin_config(void)
{
	struct config *pinned;

	pthread_mutex_lock(&house.lock);
	pinned = config_ref(house.config);
	pthread_mutex_unlock(&house.lock);
	return pinned;
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
	pthread_mutex_lock(&house.lock);
	old = house.config;
	house.config = fresh;
	pthread_mutex_unlock(&house.lock);
	program_reloaded(&program, old, fresh);
	config_unref(old);
}

static void
put_slot(struct slot *slot)
{
	config_unref(slot->config);
	slot->config = NULL;
	pthread_mutex_lock(&house.lock);
	slot->next = house.free;
	house.free = slot;
	pthread_cond_signal(&house.room);
	pthread_mutex_unlock(&house.lock);
}

/* Answer the request in the slot, whose delivery has its verdict. */
static void
resume(struct slot *slot)
{
	handler_resume(slot->handler);
	put_slot(slot);
}

/* Let another thread accept: this one may be kept for long. */
static void
step_aside(void)
{
	if (!on_duty)
		return;
	on_duty = false;
	pthread_mutex_lock(&house.lock);
	house.on_duty--;
	pthread_cond_signal(&house.relief);
	pthread_mutex_unlock(&house.lock);
}

/* Wait with the lock held. waiting: where that is counted. */
static void
wait_for(pthread_cond_t *cond, int *waiting)
{
	++*waiting;
	pthread_cond_wait(cond, &house.lock);
	--*waiting;
}

/* Do a chore if there is one. With the lock held, but not meanwhile. */
static bool
do_chore(void)
{
	struct slot *chore = house.chores;

	if (chore == NULL)
		return false;
	house.chores = chore->next;
	house.chores_count--;
	pthread_mutex_unlock(&house.lock);
	step_aside();
	resume(chore);
	pthread_mutex_lock(&house.lock);
	return true;
}

/*
 * Be on duty, with room for a request, and before all else do chores. While all of the room is
 * lent or being answered nobody accepts: the web server's connections wait in the socket.
 */
static struct slot *
next_slot(void)
{
	struct slot *slot;

	pthread_mutex_lock(&house.lock);
	for (;;) {
		if (do_chore())
			continue;
		if (!on_duty && (house.on_duty < DUTY || atomic_load(&house.stopping))) {
			house.on_duty++;
			on_duty = true;
		}
		if (on_duty && house.free != NULL)
			break;
		if (on_duty)
			wait_for(&house.room, &house.roomless);
		else
			wait_for(&house.relief, &house.parked);
	}
	slot = house.free;
	house.free = slot->next;
	pthread_mutex_unlock(&house.lock);
	return slot;
}

/* Leave an answer that may take long to who is waiting. False: there is nobody. */
static bool
delegate(struct slot *slot)
{
	pthread_cond_t *cond = NULL;

	pthread_mutex_lock(&house.lock);
	if (house.parked > house.chores_count) /* each chore already there has taken one of them */
		cond = &house.relief;
	else if (house.parked + house.roomless > house.chores_count)
		cond = &house.room;
	if (cond != NULL) {
		slot->next = house.chores;
		house.chores = slot;
		house.chores_count++;
		pthread_cond_signal(cond);
	}
	pthread_mutex_unlock(&house.lock);
	return cond != NULL;
}

/* An accept thread has left the door; it does the chores that are still to come. */
static void
stay_for_chores(void)
{
	pthread_mutex_lock(&house.lock);
	house.running--;
	pthread_cond_signal(&house.left);
	for (;;) {
		if (do_chore())
			continue;
		if (house.dismissed)
			break;
		wait_for(&house.relief, &house.parked);
	}
	pthread_mutex_unlock(&house.lock);
}

/* Serve the request in the slot. False: its delivery is lent, and the slot with it. */
static bool
serve(struct slot *slot)
{
	slot->config = pin_config();
	if (ops_take(house.ops, slot->config, &slot->request)) {
		config_unref(slot->config);
		slot->config = NULL;
		return true;
	}
	switch (handler_serve(slot->handler, slot->config, slot->request)) {
	case HANDLER_LENT:
		return false;
	case HANDLER_REFUSED:
		step_aside();
		handler_resume(slot->handler);
		break;
	case HANDLER_ANSWERED:
		break;
	}
	config_unref(slot->config);
	slot->config = NULL;
	return true;
}

static void *
accept_thread(void *unused)
{
	struct slot *slot = next_slot();

	(void)unused;
	for (;;) {
		enum http_accepted accepted = http_accept(slot->request);

		if (accepted == HTTP_REQUEST && !serve(slot))
			slot = NULL;
		else if (accepted == HTTP_CLOSED && !atomic_exchange(&house.failed, true)) {
			log_event(LOG_ERROR, "socket_gone", (const char *)NULL);
			kill(getpid(), SIGTERM); /* to the main thread, which waits for it */
		}
		if (accepted == HTTP_CLOSED)
			break;
		/* The door is closed, but who stands in it already is served. */
		if (atomic_load(&house.stopping) &&
		    (accepted == HTTP_NOTHING || clock_ms() >= atomic_load(&house.open_until)))
			break;
		if (slot != NULL && on_duty)
			continue;
		if (slot != NULL)
			put_slot(slot);
		slot = next_slot();
	}
	if (slot != NULL)
		put_slot(slot);
	step_aside();
	stay_for_chores();
	return NULL;
}

/*
 * Answers what comes back from the writer, except for chores.
 */
static void *
answer_thread(void *arg)
{
	struct writer *writer = arg;
	struct waiting *w, *next;

	while ((w = writer_collect(writer)) != NULL)
		for (; w != NULL; w = next) {
			struct slot *slot = w->owner;

			next = w->next; /* w is the slot's */
			if (w->d->outcome != OUTCOME_UNAVAILABLE || !delegate(slot))
				resume(slot);
		}
	return NULL;
}

/* Wait until all accept threads have left the door, or until the given clock_ms(). */
static void
wait_for_threads(int64_t until)
{
	const struct timespec end = {
	    .tv_sec = until / 1000, .tv_nsec = (long)(until % 1000 * 1000000)};
	int rc = 0;

	pthread_mutex_lock(&house.lock);
	while (house.running > 0 && rc != ETIMEDOUT)
		rc = pthread_cond_clockwait(&house.left, &house.lock, CLOCK_MONOTONIC, &end);
	pthread_mutex_unlock(&house.lock);
}

static pthread_t
start_thread(void *(*run)(void *), void *arg)
{
	pthread_attr_t attributes;
	pthread_t id;

	if (pthread_attr_init(&attributes) != 0 ||
	    pthread_attr_setstacksize(&attributes, STACK) != 0)
		abort();
	if ((errno = pthread_create(&id, &attributes, run, arg)) != 0)
		fatal("a thread cannot be made: %s (fewer threads, or a higher limit of tasks)",
		    strerror(errno));
	pthread_attr_destroy(&attributes);
	return id;
}

/* Close the door, and wait until every accept thread has left. own: as below. */
static void
leave(bool own)
{
	int64_t now = clock_ms();

	http_unlisten();
	atomic_store(&house.open_until, own ? now + PATIENCE_MS : now);
	pthread_mutex_lock(&house.lock);
	atomic_store(&house.stopping, true);
	pthread_cond_broadcast(&house.relief);
	pthread_mutex_unlock(&house.lock);
	wait_for_threads(now + PATIENCE_MS);
	http_hang_up();
	wait_for_threads(FOR_EVER);
}

/* All that was lent has come back: who stayed for chores may go. */
static void
dismiss(void)
{
	pthread_mutex_lock(&house.lock);
	house.dismissed = true;
	pthread_cond_broadcast(&house.relief);
	pthread_mutex_unlock(&house.lock);
}

/* A word to the service manager. Returns in how many milliseconds the next one is due, or -1. */
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
	    n.down == NULL                  ? "recording"
	    : strcmp(n.down, "schema") == 0 ? "the schema is of another version"
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
		struct timespec time = {
		    .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * 1000000)};

		signal = sigtimedwait(signals, NULL, ms < 0 ? NULL : &time);
	} while (signal < 0);
	return signal;
}

/*
 * FastCGI, until a signal ends it. own: the socket is ours alone. One that was passed to
 * us may have another server behind it, which takes what we leave in it.
 */
static int
serve_fastcgi(struct writer *writer, struct spool *spool, int fd, int threads, bool own,
    const sigset_t *signals)
{
	struct slot *slots = xcalloc((size_t)threads, sizeof *slots);
	pthread_t *crew = xcalloc((size_t)threads, sizeof *crew), answerer = 0;
	bool lending = threads > 1; /* else there is nobody to go on meanwhile */
	int signal;

	http_on_wait(step_aside);
	house.running = threads;
	for (int i = threads - 1; i >= 0; i--) {
		slots[i].request = http_request_new(fd);
		slots[i].handler = handler_new(writer, spool, lending ? &slots[i] : NULL);
		put_slot(&slots[i]);
	}
	if (lending) {
		answerer = start_thread(answer_thread, writer);
		pthread_setname_np(answerer, "answers");
	}
	for (int i = 0; i < threads; i++)
		crew[i] = start_thread(accept_thread, NULL);

	notify("READY=1");
	while ((signal = next_signal(signals, writer)) == SIGHUP) {
		notify_reloading();
		reload();
		notify("READY=1");
	}
	notify("STOPPING=1");
	log_event(LOG_INFO, "stopping", "signal", sigabbrev_np(signal), (const char *)NULL);

	leave(own);
	ops_stop(house.ops);
	writer_close(writer);
	if (lending)
		pthread_join(answerer, NULL);
	dismiss();
	for (int i = 0; i < threads; i++)
		pthread_join(crew[i], NULL);
	for (int i = 0; i < threads; i++) {
		http_request_free(slots[i].request);
		handler_free(slots[i].handler);
	}
	free(slots);
	free(crew);
	return atomic_load(&house.failed) ? 1 : 0;
}

/* Plain CGI: the one request of this process. */
static int
serve_cgi(struct writer *writer, struct spool *spool)
{
	struct slot self = {
	    .request = http_request_new(-1),
	    .handler = handler_new(writer, spool, NULL),
	};

	if (http_accept(self.request) == HTTP_REQUEST)
		serve(&self);
	http_request_free(self.request);
	handler_free(self.handler);
	return 0;
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
log_stop(struct writer *writer)
{
	struct writer_stats n;

	writer_stats(writer, &n);
	log_event(LOG_INFO, "stopped", "batches", log_number((int64_t)n.batches), "deliveries",
	    log_number((int64_t)n.deliveries), "busy", log_number((int64_t)n.busy), "connects",
	    log_number((int64_t)n.connects), "failures", log_number((int64_t)n.failures),
	    (const char *)NULL);
}

int
main(int argc, char **argv)
{
	static const char *const ways[] = {
	    [HTTP_WAY_CGI] = "cgi", [HTTP_WAY_FCGID] = "fcgid", [HTTP_WAY_FASTCGI] = "fastcgi"};
	struct options options;
	const struct config *config;
	struct writer *writer;
	struct spool *spool;
	struct drain *drain = NULL;
	enum http_way way;
	sigset_t signals;
	const char *path = NULL; /* of the socket, if it is ours to make */
	char *error = NULL;
	int fd, threads, rc;

	program_open_files();
	/* RFC 3875 section 4.4: a CGI's arguments are the query's words, and anybody's to choose. */
	if (getenv("GATEWAY_INTERFACE") != NULL)
		argc = 1;
	options = parse_options(argc, argv);
	config = house.config = program_config(&program);
	stats_adopt(house.config);
	spool = open_spool(config, &error);
	if (program.check) {
		spool_close(spool);
		return program_check(&program, house.config, error);
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
	writer = writer_start(
	    &(struct writer_options){.database = config->database, .one_at_a_time = threads == 1});
	if (way == HTTP_WAY_CGI) {
		rc = serve_cgi(writer, spool);
	} else {
		log_event(LOG_INFO, "started", "version", VERSION, "way", ways[way], "socket",
		    path != NULL ? path : "inherited", "threads", log_number(threads), "merchants",
		    log_number((int64_t)config->merchant_count), (const char *)NULL);
		if (spool != NULL)
			drain = drain_start(&(struct drain_options){.spool = spool,
			    .database = config->database,
			    .rate = config->spool_rate});
		if (way ==
		    HTTP_WAY_FASTCGI) /* a short-lived process has no numbers worth asking for */
			house.ops = ops_start(&(struct ops_options){.listen_fd = fd,
			    .writer = writer,
			    .spool = spool,
			    .spool_max_bytes = config->spool_max_bytes,
			    .spool_max_files = (size_t)config->spool_max_files,
			    .database = config->database,
			    .monitor = config->monitor});
		rc = serve_fastcgi(writer, spool, fd, threads, path != NULL, &signals);
		log_stop(writer);
	}
	drain_stop(drain);
	spool_close(spool);
	writer_stop(writer);
	config_unref(house.config);
	return rc;
}
