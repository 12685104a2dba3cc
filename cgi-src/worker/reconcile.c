/* SPDX-License-Identifier: MIT */
/*
 * reconcile.c - the provider's list of transactions against ours: "foloosi-worker reconcile", and each few
 * minutes by the running worker.
 *
 *     each merchant -> each day -> each page of the list -> rows that differ from ours
 *                                        -> one question about each (detail) -> fed to the database
 *
 * The hard part is what the provider's list does not promise. Its dates may end with a day's
 * beginning or with its end, so each day is asked for together with the next. Rows shift from page
 * to page while others are added, so a page is read again when the last one has been, until
 * it brings nothing new. A page may be short without being the last: only an empty one is. And a row
 * says less than a webhook: without an order key, perhaps with an amount in another
 * currency. So nothing is fed by the list alone: the transaction is asked about, and a success that
 * only the list or only the detail has is reported and not fed.
 *
 * The database keeps what a run has seen and its position (sql/functions/reconcile.sql), so a run may be
 * killed at any time, and nothing is fed or counted twice.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "backoff.h"
#include "clock.h"
#include "http_client.h"
#include "log.h"
#include "mem.h"
#include "pg_query.h"
#include "provider.h"
#include "reconcile.h"

#define TIMEOUT_MS 30000
#define UNDER_WAY 8          /* questions at the same time */
#define ANSWER_MAX (4 << 20) /* bytes of a page */
#define PASSES 3             /* over a day whose pages shift */
#define PAGES_MAX 100000     /* of a day */
#define TRIES 3              /* readings of an answer that cannot be understood */
#define RETRY_MS 500         /* between queries while the database is away or an order is locked */

/* Between tries, until reconcile_patience is over. */
static const struct backoff schedule = {.first_ms = 500, .most_ms = 60000};

static const char begin_sql[] = "select id, day, page, from_day, to_day from "
				"foloosi.begin_reconciliation($1, $2::date, $3::date)";
static const char compare_sql[] =
    "select i, verdict from foloosi.compare_transactions($1::bigint, $2::text[], $3::text[],"
    " $4::numeric[], $5::text[])";
static const char record_sql[] =
    "select i, verdict, outcome from foloosi.record_reconciled($1::bigint, $2::text[], $3::text[],"
    " $4::numeric[], $5::text[], $6::text[], $7::text[], $8::text[], $9::numeric[])";
static const char position_sql[] =
    "select foloosi.advance_reconciliation($1::bigint, $2::date, $3::int)";
static const char end_sql[] =
    "select matched, missing, differed, other, unclear, day, page, matched + missing + differed + "
    "other + unclear from foloosi.end_reconciliation($1::bigint, $2::boolean, $3)";

/* One merchant's run. */
struct run {
	const struct config *config;
	const struct merchant *merchant;
	struct pg *pg;
	struct http_client *client;
	int stop_fd;           /* a signalfd(2) or, in the running worker, an eventfd(2) */
	bool often;            /* in the running worker: the report is logged */
	const char *from, *to; /* YYYY-MM-DD; NULL: the database decides, and until it has */
	char days[2][11];      /* then they are here */
	char id[24];           /* of foloosi.reconciliations; "": it has not begun */
	int under_way;         /* questions without an answer */
	int64_t ask_at;        /* clock_ms(): no question before */
	int64_t
	    trouble_at; /* clock_ms() since when provider or database has not answered; 0: they do */
	char *stopped;  /* why it does not go on; NULL: it does */
	bool stopping;  /* by stop_fd */
	int64_t rows, fed; /* for the progress line */
	bool progress;     /* is printed */
};

enum question_state {
	WAITING,
	ASKED,
	ANSWERED,
	UNREADABLE, /* no answer of several could be understood */
};

/* One GET, until it is answered. */
struct question {
	struct run *run;
	char *url;        /* owned */
	bool ends_at_404; /* HTTP 404 is an answer: there is no such page */
	/* Reads an answer into `into`. Returns NULL, or a static fault. */
	const char *(*read)(struct question *, const char *body, size_t len);
	void *into;
	enum question_state state;
	int tries, readings;
	int64_t ask_at;
	const char *fault;
};

/* ---- stopping, waiting ---- */

/* Let the run end. The reason is for its report; the first one counts. */
__attribute__((format(printf, 2, 3))) static void
run_stop(struct run *r, const char *format, ...)
{
	va_list ap;

	if (r->stopped != NULL)
		return;
	va_start(ap, format);
	if (vasprintf(&r->stopped, format, ap) < 0)
		out_of_memory();
	va_end(ap);
}

/* Has a signal come, or an event? */
static bool
stop_requested(int stop_fd)
{
	struct signalfd_siginfo info;
	ssize_t n = read(stop_fd, &info, sizeof info);

	return n > 0 && (n != (ssize_t)sizeof info || info.ssi_signo != SIGHUP);
}

/* Wait for answers or the end, for at most a second. */
static void
run_wait(struct run *r, int64_t ms)
{
	http_client_wait(r->client, r->stop_fd, (int)(ms < 0 ? 0 : ms > 1000 ? 1000 : ms));
	if (stop_requested(r->stop_fd)) {
		r->stopping = true;
		run_stop(r, "it was told to stop");
	}
}

/* Something does not answer. True: wait, and try again. False: reconcile_patience is over, the run is stopped. */
static bool
run_may_wait(struct run *r, int64_t wait, const char *reason)
{
	int64_t now = clock_ms();

	if (r->trouble_at == 0)
		r->trouble_at = now;
	if (now + wait - r->trouble_at <= r->config->worker.reconcile_patience_ms)
		return true;
	run_stop(r, "%s", reason);
	return false;
}

/* ---- questions to the provider ---- */

static void
ask_again(struct question *q, int64_t at_least_ms, const char *reason)
{
	struct run *r = q->run;
	int64_t ms = backoff_ms(&schedule, (unsigned)++q->tries, backoff_chance());

	if (ms < at_least_ms)
		ms = at_least_ms;
	log_event(LOG_WARNING, "reconcile_retry", "merchant", r->merchant->name, "reason", reason,
	    "wait_ms", log_number(ms), (const char *)NULL);
	q->state = WAITING;
	q->ask_at = clock_ms() + ms;
	(void)run_may_wait(r, ms, reason);
}

static void
on_answer(void *context, const struct http_client_answer *a)
{
	struct question *q = context;
	struct run *r = q->run;
	char status[64];

	r->under_way--;
	if (a->reason != NULL) {
		ask_again(q, 0, a->reason);
		return;
	}
	if (a->status == 401 || a->status == 403) {
		run_stop(r, "the provider refuses the key (HTTP %ld): look at %s", a->status,
		    r->merchant->provider.secret_place);
		return;
	}
	snprintf(status, sizeof status, "the provider answers HTTP %ld", a->status);
	if (a->status == 404 && q->ends_at_404) {
		q->state = ANSWERED;
	} else if (a->status != 200 && a->status != 404) {
		if (a->status == 429 || a->retry_after_s > 0)
			r->ask_at = clock_ms() + a->retry_after_s * 1000;
		ask_again(q, a->retry_after_s * 1000, status);
	} else {
		q->fault = a->status == 404  ? "the provider does not know it (HTTP 404)"
			   : a->body == NULL ? "the answer is empty or too long"
					     : q->read(q, a->body, a->len);
		if (q->fault == NULL)
			q->state = ANSWERED;
		else if (++q->readings == TRIES)
			q->state = UNREADABLE;
		else
			ask_again(q, 0, q->fault);
	}
	if (q->state == ANSWERED)
		r->trouble_at = 0;
}

static void
ask_provider(struct question *q)
{
	struct run *r = q->run;

	q->state = ASKED;
	r->under_way++;
	r->ask_at = clock_ms() + 60000 / r->merchant->provider.per_minute;
	provider_get(&r->merchant->provider, r->client,
	    &(struct http_client_request){.url = q->url,
		.timeout_ms = TIMEOUT_MS,
		.answer_max = ANSWER_MAX,
		.done = on_answer,
		.context = q});
}

/* Ask all questions, side by side, until each is ANSWERED or UNREADABLE or the run is stopped. */
static void
ask_all(struct run *r, struct question *questions, size_t count)
{
	for (;;) {
		int64_t now = clock_ms(), next = now + 1000;
		size_t open = 0;

		for (struct question *q = questions; q < questions + count; q++) {
			int64_t at = q->ask_at > r->ask_at ? q->ask_at : r->ask_at;

			open += q->state == WAITING || q->state == ASKED;
			if (q->state != WAITING || r->under_way == UNDER_WAY)
				continue;
			if (at <= now)
				ask_provider(q);
			else if (at < next)
				next = at;
		}
		if (open == 0 || r->stopped != NULL)
			return;
		run_wait(r, next - clock_ms());
		http_client_complete(r->client);
	}
}

/* ---- the database ---- */

/* Query until the database answers. False: the run is stopped. */
static bool
query_until_answered(
    struct run *r, const char *sql, size_t n, const char *const *values, struct pg_rows *rows)
{
	*rows = (struct pg_rows){0};
	while (r->stopped == NULL) {
		enum pg_status status = PG_LOST;

		if (pg_ready(r->pg))
			status = pg_query(r->pg, sql, n, values, rows);
		if (status == PG_OK) {
			r->trouble_at = 0;
			return true;
		}
		/* a refusal may be a lock that was not released in time */
		if (run_may_wait(r, RETRY_MS,
			status == PG_LOST ? "the database does not answer"
					  : "the database refuses; the log has its SQLSTATE"))
			run_wait(r, RETRY_MS);
	}
	return false;
}

/* ---- a page ---- */

/* A row that is to be recorded. */
struct finding {
	const struct provider_row *row; /* of the list */
	struct provider_answer answer;  /* to the question about it; owned */
	bool asked;                     /* a question about it was necessary */
	char key[LIMIT_TRANSACTION_NO + 1];
	const char *fault; /* static */
};

static const char *
read_list(struct question *q, const char *body, size_t len)
{
	struct provider_list *l = q->into;
	const char *fault = NULL;

	if (!provider_read_list(&q->run->merchant->provider, body, len, l)) {
		fault = l->fault;
		provider_list_free(l);
	}
	return fault;
}

static const char *
read_detail(struct question *q, const char *body, size_t len)
{
	struct provider_answer *answer = q->into;
	const struct merchant *m = q->run->merchant;
	const char *fault = NULL;

	if (!provider_read_answer(&m->provider, m->order_prefix, body, len, answer)) {
		fault = answer->fault;
		provider_answer_free(answer);
	}
	return fault;
}

/* The order's key, as the webhook would have named it, or, if it lacks the prefix, as it is. */
static void
add_order(
    const struct merchant *m, const struct finding *f, struct text *orders, struct text *unprefixed)
{
	const char *prefix = m->order_prefix, *number = f->row->number;

	if (m->order_key != TRANSFER_NO || number == NULL) {
		pg_array_add(orders, f->answer.order);
		pg_array_add(unprefixed, f->answer.unprefixed);
	} else if (prefix != NULL && strncmp(number, prefix, strlen(prefix)) != 0) {
		pg_array_add(orders, NULL);
		pg_array_add(unprefixed, number);
	} else {
		pg_array_add(orders, order_without_prefix(number, prefix));
		pg_array_add(unprefixed, NULL);
	}
}

/* Ask the provider about those that the list alone does not settle. */
static void
ask_about_findings(struct run *r, struct finding *findings, size_t count)
{
	struct question *questions = xcalloc(count, sizeof *questions);
	size_t n = 0;

	for (struct finding *f = findings; f < findings + count; f++)
		if (f->asked)
			questions[n++] = (struct question){.run = r,
			    .url = provider_detail_url(&r->merchant->provider, f->row->number),
			    .read = read_detail,
			    .into = &f->answer};
	ask_all(r, questions, n);
	n = 0;
	for (struct finding *f = findings; f < findings + count; f++) {
		const struct question *q = &questions[n];

		if (!f->asked)
			continue;
		n++;
		if (q->state == UNREADABLE)
			f->fault = q->fault;
		else if (q->state == ANSWERED &&
			 strcmp(f->answer.status, f->row->answer.status) != 0)
			f->fault = "the list and the answer to the question about it contradict "
				   "each other";
		free(q->url);
	}
	free(questions);
}

/* Hand findings to the database; again, as long as another session has locked an order of one. */
static void
record_findings(struct run *r, const struct finding *findings, size_t count)
{
	struct text numbers = {0}, statuses = {0}, amounts = {0}, currencies = {0}, orders = {0},
		    faults = {0}, unprefixed = {0}, refunded = {0};
	struct pg_rows rows;
	bool busy = count > 0;

	for (const struct finding *f = findings; f < findings + count; f++) {
		const struct provider_answer *a =
		    f->asked && f->answer.status != NULL ? &f->answer : &f->row->answer;

		pg_array_add(&numbers, f->key);
		pg_array_add(&statuses, a->status != NULL ? a->status : "");
		pg_array_add(&amounts, a->amount);
		pg_array_add(&currencies, a->currency);
		add_order(r->merchant, f, &orders, &unprefixed);
		pg_array_add(&refunded, f->answer.refunded);
		pg_array_add(&faults, f->fault);
	}
	while (busy && r->stopped == NULL) {
		const char *values[] = {r->id, pg_array_text(&numbers), pg_array_text(&statuses),
		    pg_array_text(&amounts), pg_array_text(&currencies), pg_array_text(&orders),
		    pg_array_text(&faults), pg_array_text(&unprefixed), pg_array_text(&refunded)};

		busy = false;
		if (!query_until_answered(r, record_sql, 9, values, &rows))
			break;
		for (size_t i = 0; i < rows.count; i++) {
			const char *outcome = pg_value(&rows, i, 2);

			busy |= outcome != NULL && strcmp(outcome, "busy") == 0;
			r->fed += outcome != NULL && strcmp(outcome, "busy") != 0;
		}
		pg_rows_free(&rows);
		if (busy &&
		    run_may_wait(r, RETRY_MS, "another session holds an order of a transaction"))
			run_wait(r, RETRY_MS);
	}
	text_free(&numbers);
	text_free(&statuses);
	text_free(&amounts);
	text_free(&currencies);
	text_free(&orders);
	text_free(&faults);
	text_free(&unprefixed);
	text_free(&refunded);
}

/* Find the rows that differ from the database's. Returns how many this run had not seen. */
static size_t
compare_rows(struct run *r, const struct provider_row *rows, size_t count, struct finding *findings,
    size_t *found)
{
	struct text numbers = {0}, statuses = {0}, amounts = {0}, currencies = {0};
	struct pg_rows compared;
	const struct provider_row **sent = xcalloc(count, sizeof(struct provider_row *));
	size_t n = 0, fresh = 0;

	for (const struct provider_row *row = rows; row < rows + count; row++)
		if (row->answer.fault == NULL) {
			pg_array_add(&numbers, row->number);
			pg_array_add(&statuses, row->answer.status);
			pg_array_add(&amounts, row->answer.amount);
			pg_array_add(&currencies, row->answer.currency);
			sent[n++] = row;
		}
	const char *values[] = {r->id, pg_array_text(&numbers), pg_array_text(&statuses),
	    pg_array_text(&amounts), pg_array_text(&currencies)};
	if (query_until_answered(r, compare_sql, 5, values, &compared))
		for (size_t i = 0; i < compared.count; i++) {
			const char *difference = pg_value(&compared, i, 1);
			size_t at = strtoul(pg_value(&compared, i, 0), NULL, 10) - 1;

			fresh += strcmp(difference, "seen") != 0;
			if (at >= n ||
			    (strcmp(difference, "ask") != 0 && strcmp(difference, "record") != 0))
				continue;
			findings[*found] = (struct finding){
			    .row = sent[at], .asked = strcmp(difference, "ask") == 0};
			snprintf(
			    findings[*found].key, sizeof findings->key, "%s", sent[at]->number);
			++*found;
		}
	pg_rows_free(&compared);
	free(sent);
	text_free(&numbers);
	text_free(&statuses);
	text_free(&amounts);
	text_free(&currencies);
	return fresh;
}

/* Take rows of a page, at most as many as the database takes at once. Returns how many this run had not seen. */
static size_t
take_rows(struct run *r, const char *day, int page, const struct provider_list *l, size_t first,
    size_t count)
{
	struct finding *findings = xcalloc(count, sizeof *findings);
	const struct provider_row *rows = l->rows + first;
	size_t found = 0, fresh = compare_rows(r, rows, count, findings, &found);

	for (const struct provider_row *row = rows; row < rows + count; row++)
		if (row->answer.fault != NULL) {
			struct finding *f = &findings[found++];

			*f = (struct finding){.row = row, .fault = row->answer.fault};
			if (row->number != NULL)
				snprintf(f->key, sizeof f->key, "%s", row->number);
			else
				snprintf(
				    f->key, sizeof f->key, "#%s/%d/%td", day, page, row - l->rows);
		}
	ask_about_findings(r, findings, found);
	record_findings(r, findings, found);
	for (size_t i = 0; i < found; i++)
		provider_answer_free(&findings[i].answer);
	free(findings);
	r->rows += (int64_t)fresh;
	return fresh;
}

/* "2026-11-24", so many days later. theirs: as the provider writes it. */
static void
shift_day(char to[static 11], const char *day, int days, bool theirs)
{
	struct tm tm = {0};
	time_t t;

	strptime(day, "%Y-%m-%d", &tm);
	t = timegm(&tm) + (time_t)days * 86400;
	gmtime_r(&t, &tm);
	strftime(to, 11, theirs ? "%m/%d/%Y" : "%Y-%m-%d", &tm);
}

/*
 * Read a page of a day and take its rows. Returns how many this run had not seen; -1 at the end.
 *   edge  first and last number of the page before, then of this one, to recognize a page that
 *         comes for every number; owned by the caller
 */
static long
read_page(struct run *r, const char *day, int page, char **edge)
{
	struct provider_list list = {0};
	char from[11], to[11], *last = *edge;
	long fresh = -1;

	shift_day(from, day, 0, true);
	shift_day(to, day, 1, true);
	struct question q = {.run = r,
	    .url = provider_list_url(&r->merchant->provider, from, to, page),
	    .ends_at_404 = page > 1,
	    .read = read_list,
	    .into = &list};
	ask_all(r, &q, 1);
	free(q.url);
	if (q.state == UNREADABLE)
		run_stop(r, "the list cannot be read: %s", q.fault);
	if (r->stopped == NULL && list.count > 0) {
		const struct provider_row *end = &list.rows[list.count - 1];

		*edge = xasprintf("%s %s", list.rows[0].number != NULL ? list.rows[0].number : "-",
		    end->number != NULL ? end->number : "-");
		if (last != NULL && strcmp(last, *edge) == 0) {
			/* some providers show the last page again behind it */
			if (list.count >= PROVIDER_LIST_LIMIT)
				run_stop(r, "the provider's list shows the same rows on page after "
					    "page; look at provider_list_path");
		} else {
			fresh = 0;
			for (size_t at = 0; at < list.count && r->stopped == NULL;
			    at += PROVIDER_LIST_LIMIT)
				fresh += (long)take_rows(r, day, page, &list, at,
				    list.count - at < PROVIDER_LIST_LIMIT ? list.count - at
									  : PROVIDER_LIST_LIMIT);
		}
		free(last);
	}
	provider_list_free(&list);
	if (r->progress)
		fprintf(stderr,
		    "\r%s: %s, page %d: %" PRId64 " transactions, %" PRId64 " of them fed\033[K",
		    r->merchant->name, day, page, r->rows, r->fed);
	return r->stopped == NULL ? fresh : -1;
}

/* Keep in the database where the next run would go on. */
static void
save_position(struct run *r, const char *day, int page)
{
	const char *values[] = {r->id, day, log_number(page)};
	struct pg_rows rows;

	if (query_until_answered(r, position_sql, 3, values, &rows))
		pg_rows_free(&rows);
}

/* Read all pages of a day from this one on; then the first again, as long as it brings something new. */
static void
read_day(struct run *r, const char *day, int page)
{
	char *edge = NULL;

	for (int pass = 0; pass < PASSES && r->stopped == NULL; pass++) {
		int first = page;

		while (r->stopped == NULL && read_page(r, day, page, &edge) >= 0) {
			if (++page > PAGES_MAX)
				run_stop(r, "the provider's list has no end");
			save_position(r, day, page);
		}
		free(edge);
		edge = NULL;
		if (r->stopped != NULL || (first == 1 && page <= 2))
			break; /* what fits on one page has not shifted */
		page = 2;
		if (read_page(r, day, 1, &edge) <= 0)
			break;
	}
	free(edge);
}

/* ---- the run ---- */

/* Begin, or go on with a run that was stopped: receives day and page. False: the run is stopped. */
static bool
run_begin(struct run *r, char day[static 11], int *page)
{
	const char *values[] = {r->merchant->name, r->from, r->to};
	struct pg_rows rows;

	if (!query_until_answered(r, begin_sql, 3, values, &rows))
		return false;
	snprintf(r->id, sizeof r->id, "%s", pg_value(&rows, 0, 0));
	snprintf(day, 11, "%s", pg_value(&rows, 0, 1));
	*page = atoi(pg_value(&rows, 0, 2));
	for (int i = 0; i < 2; i++)
		snprintf(r->days[i], sizeof r->days[i], "%s", pg_value(&rows, 0, 3 + i));
	r->from = r->days[0];
	r->to = r->days[1];
	pg_rows_free(&rows);
	return true;
}

static const char *const words[] = {"matched", "missing", "differed", "other", "unclear"};

/* Log what was found: only what is news is more than a detail. rows NULL: it is not known. */
static void
run_log(const struct run *r, const struct pg_rows *rows)
{
	const char *n[5] = {NULL};
	enum log_level level = LOG_DEBUG;

	for (int i = 0; i < 5 && rows != NULL; i++)
		n[i] = pg_value(rows, 0, i);
	if (rows != NULL && (strcmp(n[1], "0") != 0 || strcmp(n[2], "0") != 0))
		level = LOG_INFO;
	if ((rows != NULL && strcmp(n[4], "0") != 0) || (r->stopped != NULL && !r->stopping))
		level = LOG_WARNING;
	log_event(level, "reconciled", "merchant", r->merchant->name, "run", r->id, words[0], n[0],
	    words[1], n[1], words[2], n[2], words[3], n[3], words[4], n[4], "stopped", r->stopped,
	    (const char *)NULL);
}

/* Print what was found. The database is queried once only, for it may be the reason of a stop. */
static enum reconcile_status
run_report(struct run *r)
{
	bool finished = r->stopped == NULL;
	const char *values[] = {r->id, finished ? "true" : "false", r->stopped};
	struct pg_rows rows = {0};
	bool known = *r->id != '\0' && pg_ready(r->pg) &&
		     pg_query(r->pg, end_sql, 3, values, &rows) == PG_OK;
	bool wrong = false, unclear = false;

	if (r->often) {
		run_log(r, known ? &rows : NULL);
		pg_rows_free(&rows);
		return RECONCILE_OK;
	}
	if (r->progress)
		fputs("\r\033[K", stderr);
	printf("%s: %s to %s: ", r->merchant->name, r->from, r->to);
	if (known) {
		printf("%s transactions", pg_value(&rows, 0, 7));
		for (int i = 0; i < 5; i++) {
			printf("%s %s %s", i == 0 ? ":" : ",", pg_value(&rows, 0, i), words[i]);
			wrong |= i > 0 && strcmp(pg_value(&rows, 0, i), "0") != 0;
		}
		unclear = strcmp(pg_value(&rows, 0, 4), "0") != 0;
	} else {
		fputs("no result", stdout);
	}
	if (!finished)
		printf("; stopped at %s, page %s: %s; the same command goes on there",
		    known ? pg_value(&rows, 0, 5) : r->from, known ? pg_value(&rows, 0, 6) : "1",
		    r->stopped);
	putchar('\n');
	if (wrong)
		printf("  select * from foloosi.reconciled where reconciliation_id = %s and "
		       "verdict <> 'matched'\n",
		    r->id);
	fflush(stdout);
	pg_rows_free(&rows);
	return !finished ? RECONCILE_STOPPED : unclear ? RECONCILE_UNCLEAR : RECONCILE_OK;
}

/* Reconcile one merchant. */
static enum reconcile_status
run_merchant(struct run *r)
{
	enum reconcile_status status;
	char day[11];
	int page;

	r->client = http_client_new();
	r->progress = !r->often && isatty(STDERR_FILENO);
	if (run_begin(r, day, &page))
		while (r->stopped == NULL && strcmp(day, r->to) <= 0) {
			read_day(r, day, page);
			shift_day(day, day, 1, false);
			page = 1;
			if (r->stopped == NULL)
				save_position(r, day, page);
		}
	status = run_report(r);
	http_client_free(r->client);
	free(r->stopped);
	return status;
}

static bool
is_day(const char *text)
{
	char again[11];

	if (strlen(text) != 10 || strspn(text, "0123456789-") != 10 || *text == '0')
		return false;
	shift_day(again, text, 0, false);
	return strcmp(text, again) == 0;
}

const char *
reconcile_check(const struct reconcile_options *o)
{
	if ((o->from != NULL && !is_day(o->from)) || (o->to != NULL && !is_day(o->to)))
		return "a day is written YYYY-MM-DD, as 2026-11-24";
	if (o->from == NULL && o->to != NULL)
		return "--to needs --from";
	if (o->to != NULL && strcmp(o->from, o->to) > 0)
		return "--from is after --to";
	return NULL;
}

enum reconcile_status
reconcile(const struct config *config, const struct reconcile_options *o, int signals)
{
	enum reconcile_status worst = RECONCILE_OK;
	struct pg *pg = pg_new(PG_WORKER, config->worker.database);
	char today[11], first[11];
	time_t now = clock_wall_s();
	struct tm tm;
	bool any = false;

	localtime_r(&now, &tm);
	strftime(today, sizeof today, "%Y-%m-%d", &tm);
	shift_day(first, today, -config->worker.reconcile_days, false);
	if (o->to == NULL && o->from != NULL && strcmp(o->from, today) > 0)
		fatal("--from is after today, %s", today);
	if (o->merchant != NULL &&
	    config_merchant(config, o->merchant, strlen(o->merchant)) == NULL)
		fatal("the configuration has no merchant %s", o->merchant);
	for (const struct merchant *m = config->merchants;
	    m < config->merchants + config->merchant_count; m++) {
		struct run run = {.config = config,
		    .merchant = m,
		    .pg = pg,
		    .stop_fd = signals,
		    .from = o->from != NULL ? o->from : first,
		    .to = o->to != NULL ? o->to : today};
		enum reconcile_status status;

		if (m->provider.url == NULL ||
		    (o->merchant != NULL && strcmp(m->name, o->merchant) != 0))
			continue;
		any = true;
		status = run_merchant(&run);
		if (status > worst)
			worst = status;
		if (run.stopping)
			break;
	}
	pg_free(pg);
	if (!any)
		fatal("no merchant to reconcile has a provider_url; add it and "
		      "provider_secret_file to its section");
	return worst;
}

bool
reconcile_is_wanted(const struct config *config)
{
	bool any = false;

	for (size_t i = 0; i < config->merchant_count; i++)
		any |= config->merchants[i].provider.url != NULL;
	return any && config->worker.reconcile_every_ms > 0;
}

void
reconcile_often(const struct config *config, int stop_fd)
{
	struct pg *pg = pg_new(PG_WORKER, config->worker.database);
	bool stopping = false;

	while (!stopping) {
		int64_t next = clock_ms() + config->worker.reconcile_every_ms;

		for (size_t i = 0; i < config->merchant_count && !stopping; i++) {
			struct run run = {.config = config,
			    .merchant = &config->merchants[i],
			    .pg = pg,
			    .stop_fd = stop_fd,
			    .often = true};

			if (run.merchant->provider.url == NULL)
				continue;
			run_merchant(&run);
			stopping = run.stopping;
		}
		while (!stopping && clock_ms() < next) {
			int64_t ms = next - clock_ms();

			poll(&(struct pollfd){.fd = stop_fd, .events = POLLIN}, 1,
			    (int)(ms < 0 ? 0 : ms));
			stopping = stop_requested(stop_fd);
		}
	}
	pg_free(pg);
}
