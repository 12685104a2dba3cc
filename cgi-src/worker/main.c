/* SPDX-License-Identifier: MIT */
/*
 * main.c - foloosi-worker: what happens after the commit. Options, signals, the loop.
 *
 *     main.c ──┬─ push.c         events to the merchants' endpoints, and by mail
 *              ├─ verify.c       questions to the provider about single transactions
 *              ├─ cancel.c       orders that time cancels
 *              ├─ reconcile.c    the provider's list against ours: a command that ends, and each few minutes
 *              └─ provider.c     how the provider's answers read
 *
 * One thread sends by HTTP, and another one mails, if there are any: libcurl waits for the answer to
 * QUIT within its call, and an endpoint must not wait for a mail server. A third one reads the
 * provider's lists, which takes minutes. They share the
 * configuration, which does not change, and nothing else. In each, requests run side by side in
 * http_client.c; between them the database is asked, in calls of milliseconds.
 *
 * The worker keeps nothing that matters: what is under way is a row with a lease. So it may be killed
 * at any time, and several may run at once, here or on other machines.
 *
 * SIGTERM and SIGINT: nothing new is taken; what is under way is waited for and reported (no
 * longer than event_timeout, or smtp_timeout, and REPORT_MS). SIGHUP does the same, and the worker goes on with the
 * new configuration.
 *
 * Each turn of the main thread's loop feeds the service manager's watchdog (notify.h).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cancel.h"
#include "clock.h"
#include "config.h"
#include "http_client.h"
#include "log.h"
#include "mem.h"
#include "notify.h"
#include "pg_query.h"
#include "program.h"
#include "push.h"
#include "reconcile.h"
#include "verify.h"

#define AWAY_MS 200     /* between looks while the database is away */
#define REMIND_MS 60000 /* between looks for paybacks that have been open for long */
#define JOIN_MS 50      /* between looks whether another thread has ended */
#define REPORT_MS 5000  /* for reports at the stop, beyond the timeouts of what is under way */

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
    "Posts events to the merchants' endpoints, sends mails to their customers, asks the\n"
    "provider about payments, and cancels orders whose time has come.\n"
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
		default: /* program_option() ends the program */
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

/* A descriptor that is readable when a signal has come. */
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

/* What one thread needs while one configuration is in force. */
struct loop {
	struct pg *pg;
	struct http_client *client;
	struct push *push;
	struct verify *verify; /* NULL: this thread does not verify */
	struct cancel *cancel; /* NULL: nor does it cancel */
	int stop_fd;           /* readable when the loop is to end */
	int timeout_ms;        /* of what it sends */
	int64_t remind_at;     /* clock_ms(): when remind_paybacks() is due; INT64_MAX: never */
	bool watched;          /* this thread feeds the watchdog */
	pthread_t thread;
};

static void
loop_init(struct loop *l, enum way way, const struct config *config, int stop_fd)
{
	*l = (struct loop){.pg = pg_new(PG_WORKER, config->worker.database),
	    .client = http_client_new(),
	    .stop_fd = stop_fd};
	l->push = push_new(way, config, l->pg, l->client);
	l->remind_at = INT64_MAX;
	if (way == WAY_HTTP) {
		l->verify = verify_new(config, l->pg, l->client);
		l->cancel = cancel_new(config, l->pg);
		l->remind_at = 0;
		l->watched = true;
	}
	l->timeout_ms =
	    way == WAY_HTTP ? config->worker.event_timeout_ms : config->worker.smtp_timeout_ms;
}

static void
loop_free(struct loop *l)
{
	http_client_free(l->client);
	push_free(l->push);
	verify_free(l->verify);
	cancel_free(l->cancel);
	pg_free(l->pg);
}

static int
loop_wait_ms(const struct loop *l, int64_t now, bool more)
{
	int64_t push = push_due(l->push, more);
	int64_t verify = more && l->verify != NULL ? verify_due(l->verify) : push;
	int64_t cancel = more && l->cancel != NULL ? cancel_next(l->cancel) : push;
	int64_t first = push < verify ? push : verify;
	int64_t ms = (first < cancel ? first : cancel) - now;

	if (!pg_ready(l->pg))
		return AWAY_MS;
	return ms < 0 ? 0 : (int)ms;
}

/* Emit events again for paybacks that stay open. */
static void
remind_paybacks(struct loop *l)
{
	if (clock_ms() < l->remind_at || !pg_ready(l->pg))
		return;
	l->remind_at = clock_ms() + REMIND_MS;
	pg_query(l->pg, "select foloosi.remind_paybacks()", 0, NULL, NULL);
}

/* Tell the service manager that the worker lives, four times as often as it asks for. */
static void
feed_watchdog(void)
{
	static int64_t due;
	int64_t limit = notify_watchdog_ms(), now = clock_ms();

	if (limit == 0 || now < due)
		return;
	notify("WATCHDOG=1");
	due = now + limit / 4;
}

/* more: take new work, too. fd: ends the waiting when it is readable; negative: none. */
static void
loop_turn(struct loop *l, int fd, bool more)
{
	if (l->watched)
		feed_watchdog();
	if (more)
		remind_paybacks(l);
	push_work(l->push, more);
	if (more && l->verify != NULL)
		verify_work(l->verify);
	if (more && l->cancel != NULL)
		cancel_work(l->cancel);
	http_client_wait(l->client, fd, loop_wait_ms(l, clock_ms(), more));
	http_client_complete(l->client);
}

static size_t
loop_under_way(const struct loop *l)
{
	return push_under_way(l->push) + (l->verify == NULL ? 0 : verify_under_way(l->verify));
}

/* Take nothing more, and let what is under way come to its end. */
static void
loop_drain(struct loop *l)
{
	int64_t until = clock_ms() + l->timeout_ms + REPORT_MS;
	int64_t left;

	while (loop_under_way(l) > 0 && clock_ms() < until)
		loop_turn(l, -1, false);
	if ((left = (int64_t)push_under_way(l->push)) > 0)
		log_event(LOG_WARNING, "unreported", "events", log_number(left), "remedy",
		    "they come again when their leases run out", (const char *)NULL);
}

/* The mail thread. */
static void *
run_mail_thread(void *arg)
{
	struct loop *l = arg;
	eventfd_t count;

	while (eventfd_read(l->stop_fd, &count) != 0)
		loop_turn(l, l->stop_fd, true);
	loop_drain(l);
	return NULL;
}

/* The thread that reads the provider's lists. */
struct lists {
	const struct config *config;
	int stop_fd;
	bool runs;
	pthread_t thread;
};

static void *
run_lists_thread(void *arg)
{
	struct lists *lists = arg;

	reconcile_often(lists->config, lists->stop_fd);
	return NULL;
}

/* However long another thread takes, the watchdog is fed. */
static void
join_thread(pthread_t thread)
{
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		feed_watchdog();
		clock_sleep(JOIN_MS);
	}
}

/* Work by one configuration until a signal comes. Returns the signal. */
static int
run(const struct config *config, int signals)
{
	struct loop http, mail;
	struct lists lists = {.config = config, .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	bool mails;
	int signal;

	loop_init(&http, WAY_HTTP, config, signals);
	loop_init(&mail, WAY_MAIL, config, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	mails = push_is_wanted(mail.push);
	if (mail.stop_fd < 0 ||
	    (mails && (errno = pthread_create(&mail.thread, NULL, run_mail_thread, &mail)) != 0))
		fatal("the mail thread cannot be started: %s", strerror(errno));
	lists.runs = reconcile_is_wanted(config);
	if (lists.stop_fd < 0 || (lists.runs && (errno = pthread_create(&lists.thread, NULL,
						     run_lists_thread, &lists)) != 0))
		fatal("the thread of the provider's lists cannot be started: %s", strerror(errno));
	notify("READY=1");
	while ((signal = next_signal(signals)) == 0)
		loop_turn(&http, signals, true);
	log_event(LOG_INFO, signal == SIGHUP ? "reloading" : "stopping", "signal",
	    sigabbrev_np(signal), (const char *)NULL);
	if (signal == SIGHUP)
		notify_reloading();
	else
		notify("STOPPING=1");
	eventfd_write(mail.stop_fd, 1);
	eventfd_write(lists.stop_fd, 1);
	loop_drain(&http);
	if (mails)
		join_thread(mail.thread);
	if (lists.runs)
		join_thread(lists.thread);
	loop_free(&http);
	loop_free(&mail);
	close(mail.stop_fd);
	close(lists.stop_fd);
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
		signal = run(config, signals);
		if (signal == SIGHUP)
			config = reload(config);
	} while (signal == SIGHUP);
	log_event(LOG_INFO, "stopped", (const char *)NULL);
	config_unref(config);
	close(signals);
	return 0;
}
