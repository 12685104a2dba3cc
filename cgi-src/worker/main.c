/*
 * worker.c - foloosi-worker: what happens after the commit. Options, signals, the loop.
 *
 *     worker.c ──┬─ push.c      events to the merchants' endpoints, and by mail
 *                │    └─ mail.c       the text of a mail
 *                ├─ verify.c    questions to the provider
 *                ├─ reconcile.c his books against ours: a command that ends, not a part of the loop
 *                │    └─ provider.c   how his answers read                      (json-c)
 *                ├─ http_client.c   many HTTP requests and mails at the same time  (libcurl)
 *                └─ pg_query.c     its conversation with PostgreSQL                 (libpq)
 *     config.c, auth.c, url.c, backoff.c, log.c and mem.h below all of them
 *
 * One thread for HTTP, and one for mail, if there is any: libcurl waits for the answer to a mail's
 * end within its call, and an endpoint must not wait for a mail server. They share the
 * configuration, which does not change, and nothing else. In each, requests run side by side in
 * http_client.c; between them the database is asked, in calls of milliseconds. It keeps nothing that matters: what is on its way is a row with a lease, so
 * it may be killed at any time, and several may run beside each other, here or on
 * other machines.
 *
 * SIGTERM and SIGINT: nothing new is taken, what is under way is waited for and reported (no
 * longer than event_timeout, or smtp_timeout). SIGHUP does the same and goes on with the new configuration.
 *
 * The service manager's watchdog (notify.h) hears of each turn of the main thread's loop.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "http_client.h"
#include "log.h"
#include "mem.h"
#include "notify.h"
#include "program.h"
#include "push.h"
#include "reconcile.h"
#include "pg_query.h"
#include "verify.h"

#define AWAY_MS 200      /* between looks while the database is away */
#define REMIND_MS 60000  /* between looks for paybacks that have been open for long */
#define JOIN_MS 50       /* between looks whether the thread of mails has ended */
#define PATIENCE_MS 5000 /* for reports at the stop, beyond the timeouts of what is under way */

struct options {
	bool reconcile;
	struct reconcile_options days;
};

static const char usage[] =
    "usage: foloosi-worker [--config PATH]\n"
    "       foloosi-worker [--config PATH] reconcile [--from DAY [--to DAY]] [--merchant NAME]\n"
    "       foloosi-worker [--config PATH] --check-config\n"
    "       foloosi-worker --help | --version\n"
    "\n"
    "Posts events to the merchants' endpoints, sends mails to their customers, and asks the\n"
    "provider about payments.\n"
    "reconcile compares the provider's list of transactions with ours and feeds what is\n"
    "missing; days are written YYYY-MM-DD, without them it is the last reconcile_days.\n"
    "\n" PROGRAM_HELP_CONFIG PROGRAM_HELP "\n"
    "SIGHUP reads the configuration again; SIGTERM and SIGINT wait for what is under way\n"
    "and stop. See foloosi-worker(8) and foloosi-webhook.conf(5).\n";

enum {
	OPTION_FROM = 1,
	OPTION_TO,
	OPTION_MERCHANT
};

static const struct option known_options[] = {{"from", required_argument, NULL, OPTION_FROM},
    {"to", required_argument, NULL, OPTION_TO},
    {"merchant", required_argument, NULL, OPTION_MERCHANT}, PROGRAM_OPTIONS};

static struct program program = {.name = "foloosi-worker",
    .usage = usage,
    .options = known_options,
    .reader = CONFIG_FOR_WORKER};

static struct options
parse_options(int argc, char **argv)
{
	struct options o = {0};
	int option;

	while ((option = program_option(&program, argc, argv)) != -1)
		switch (option) {
		case OPTION_FROM:
			o.days.from = optarg;
			break;
		case OPTION_TO:
			o.days.to = optarg;
			break;
		case OPTION_MERCHANT:
			o.days.merchant = optarg;
			break;
		}
	if (optind < argc && strcmp(argv[optind], "reconcile") == 0) {
		o.reconcile = true;
		optind++;
	}
	if (optind < argc ||
	    (!o.reconcile && (o.days.from != NULL || o.days.to != NULL || o.days.merchant != NULL)))
		program_usage(&program);
	if (reconcile_check(&o.days) != NULL) {
		fprintf(stderr, "foloosi-worker: %s\n", reconcile_check(&o.days));
		exit(2);
	}
	return o;
}

/* Signals come as bytes of a descriptor, to the one place that waits. */
static int
open_signals(void)
{
	sigset_t set = program_block_signals();
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	signal(SIGPIPE, SIG_IGN);
	if (fd < 0)
		fatal("signals cannot be waited for: %s", strerror(errno));
	return fd;
}

/* The next signal that has come, or 0. */
static int
next_signal(int fd)
{
	struct signalfd_siginfo info;

	return read(fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

/* What one thread does during one configuration's life. */
struct shift {
	struct pg *pg;
	struct http_client *client;
	struct push *push;
	struct verify *verify; /* NULL: it asks nobody */
	int bell;              /* readable when it is to end */
	int timeout_ms;        /* of what it sends */
	int64_t remind_at;     /* clock_ms(); one thread does */
	bool watched;          /* by the service manager; one thread is */
	pthread_t thread;
};

static void
begin(struct shift *s, enum way way, const struct config *config, int bell)
{
	*s = (struct shift){.pg = pg_client_new(config->worker.database),
	    .client = http_client_new(),
	    .bell = bell};
	s->push = push_new(way, config, s->pg, s->client);
	s->remind_at = INT64_MAX;
	if (way == WAY_HTTP) {
		s->verify = verify_new(config, s->pg, s->client);
		s->remind_at = 0;
		s->watched = true;
	}
	s->timeout_ms =
	    way == WAY_HTTP ? config->worker.event_timeout_ms : config->worker.smtp_timeout_ms;
}

static void
end(struct shift *s)
{
	http_client_free(s->client);
	push_free(s->push);
	verify_free(s->verify);
	pg_client_free(s->pg);
}

static int
wait_ms(const struct shift *s, int64_t now, bool more)
{
	int64_t push = push_due(s->push, more);
	int64_t verify = more && s->verify != NULL ? verify_due(s->verify) : push;
	int64_t ms = (push < verify ? push : verify) - now;

	if (!pg_ready(s->pg))
		return AWAY_MS;
	return ms < 0 ? 0 : (int)ms;
}

/* Paybacks that stay open are events again; whoever wants them gets them like the others. */
static void
remind(struct shift *s)
{
	if (clock_ms() < s->remind_at || !pg_ready(s->pg))
		return;
	s->remind_at = clock_ms() + REMIND_MS;
	pg_query(s->pg, "select foloosi.remind_paybacks()", 0, NULL, NULL);
}

/* Often enough for the service manager. */
static void
show_life(void)
{
	static int64_t due;
	int64_t patience = notify_watchdog_ms(), now = clock_ms();

	if (patience == 0 || now < due)
		return;
	notify("WATCHDOG=1");
	due = now + patience / 4;
}

static void
turn(struct shift *s, int bell, bool more)
{
	if (s->watched)
		show_life();
	if (more)
		remind(s);
	push_work(s->push, more);
	if (more && s->verify != NULL)
		verify_work(s->verify);
	http_client_wait(s->client, bell, wait_ms(s, clock_ms(), more));
	http_client_complete(s->client);
}

static size_t
under_way(const struct shift *s)
{
	return push_under_way(s->push) + (s->verify == NULL ? 0 : verify_under_way(s->verify));
}

/* Take nothing more, and let what is under way come to its end. No bell can hurry it. */
static void
drain(struct shift *s)
{
	int64_t until = clock_ms() + s->timeout_ms + PATIENCE_MS;
	int64_t left;

	while (under_way(s) > 0 && clock_ms() < until)
		turn(s, -1, false);
	if ((left = (int64_t)push_under_way(s->push)) > 0)
		log_event(LOG_WARNING, "unreported", "events", log_number(left), "remedy",
		    "they come again when their leases run out", (const char *)NULL);
}

/* The thread of mails. */
static void *
send_mails(void *arg)
{
	struct shift *s = arg;
	eventfd_t rung;

	while (eventfd_read(s->bell, &rung) != 0)
		turn(s, s->bell, true);
	drain(s);
	return NULL;
}

/* One configuration, until a signal comes; returns that. */
static int
work(const struct config *config, int signals)
{
	struct shift http, mail;
	bool mails;
	int signal;

	begin(&http, WAY_HTTP, config, signals);
	begin(&mail, WAY_MAIL, config, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	mails = push_is_wanted(mail.push);
	if (mail.bell < 0 ||
	    (mails && (errno = pthread_create(&mail.thread, NULL, send_mails, &mail)) != 0))
		fatal("the thread of mails cannot be started: %s", strerror(errno));
	notify("READY=1");
	while ((signal = next_signal(signals)) == 0)
		turn(&http, signals, true);
	log_event(LOG_INFO, signal == SIGHUP ? "reloading" : "stopping", "signal",
	    sigabbrev_np(signal), (const char *)NULL);
	if (signal == SIGHUP)
		notify_reloading();
	else
		notify("STOPPING=1");
	eventfd_write(mail.bell, 1);
	drain(&http);
	/* A mail server may take its time; that is no ground for the watchdog. */
	while (mails && pthread_tryjoin_np(mail.thread, NULL) == EBUSY) {
		show_life();
		clock_sleep(JOIN_MS);
	}
	end(&http);
	end(&mail);
	close(mail.bell);
	return signal;
}

/* SIGHUP: the new configuration; the old one if it is wrong. */
static struct config *
reload(struct config *old)
{
	struct config *fresh = program_reload(&program);

	if (fresh == NULL)
		return old;
	program_reloaded(&program, old, fresh);
	config_unref(old);
	return fresh;
}

int
main(int argc, char **argv)
{
	struct options options;
	struct config *config;
	int signals, signal;

	program_open_files();
	options = parse_options(argc, argv);
	config = program_config(&program);
	if (program.check)
		return program_check(&program, config, NULL);
	log_set_level((enum log_level)config->worker.log_level);
	umask(0077);
	signals = open_signals();
	if (options.reconcile) {
		int status = (int)reconcile(config, &options.days, signals);

		config_unref(config);
		close(signals);
		return status;
	}
	log_event(LOG_INFO, "started", "version", VERSION, "merchants",
	    log_number((int64_t)config->merchant_count), (const char *)NULL);

	do {
		signal = work(config, signals);
		if (signal == SIGHUP)
			config = reload(config);
	} while (signal == SIGHUP);
	log_event(LOG_INFO, "stopped", (const char *)NULL);
	config_unref(config);
	close(signals);
	return 0;
}
