/*
 * reconcile.c - "foloosi-worker reconcile": the provider's list of transactions against ours.
 *
 *     each merchant -> each day -> each page of the list -> rows that we do not know like that
 *                                        -> one question about each (detail) -> fed to the database
 *
 * The hard part is what the provider's list does not promise. Its dates may end with a day's
 * beginning or with its end, so each day is asked for together with the next. Rows shift from page
 * to page while others are added, so a page is read again when the last one has been, until
 * it brings nothing new. A page may be short without being the last: only an empty one is. And a row
 * says less than a webhook: without an order key, perhaps with an amount in another
 * currency. So nothing is fed on the word of the list alone: the transaction is asked about, and a
 * success that only one of the two believes in is reported and not fed.
 *
 * The database keeps what a run has seen and its position (sql/functions/reconcile.sql), so a run may be
 * killed at any time, and nothing is fed or counted twice.
 */
#include <inttypes.h>
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
#include "provider.h"
#include "reconcile.h"
#include "pg_query.h"

#define TIMEOUT_MS 30000
#define UNDER_WAY 8          /* questions at the same time */
#define ANSWER_MAX (4 << 20) /* bytes of a page */
#define PASSES 3             /* over a day whose pages shift */
#define PAGES_MAX 100000     /* of a day */
#define TRIES 3              /* of an answer that has come and says nothing */
#define LOOK_MS 500          /* between looks at what is held or away */

/* Between tries, until reconcile_patience is over. */
static const struct backoff schedule = {.first_ms = 500, .most_ms = 60000};

static const char begin_sql[] =
    "select id, day, page from foloosi.begin_reconciliation($1, $2::date, $3::date)";
static const char compare_sql[] =
    "select i, verdict from foloosi.compare_transactions($1::bigint, $2::text[], $3::text[],"
    " $4::numeric[], $5::text[])";
static const char record_sql[] =
    "select i, verdict, outcome from foloosi.record_reconciled($1::bigint, $2::text[], $3::text[],"
    " $4::numeric[], $5::text[], $6::text[], $7::text[])";
static const char advance_sql[] =
    "select foloosi.advance_reconciliation($1::bigint, $2::date, $3::int)";
static const char end_sql[] =
    "select matched, missing, differed, other, unclear, day, page, matched + missing + differed + "
    "other + unclear from foloosi.end_reconciliation($1::bigint, $2::boolean, $3)";

/* One merchant's run. */
struct sweep {
	const struct config *config;
	const struct merchant *merchant;
	struct pg *pg;
	struct http_client *client;
	int signals;
	const char *from, *to; /* YYYY-MM-DD */
	char id[24];
	int under_way;
	int64_t ask_at;     /* clock_ms(): no question before */
	int64_t trouble_at; /* since when nobody has answered; 0: somebody has */
	char *stopped;      /* why it does not go on; NULL: it does */
	bool told;          /* by a signal */
	int64_t rows, fed;  /* for the progress line */
	bool progress;
};

enum question_state {
	WAITING,
	ASKED,
	ANSWERED,
	UNREADABLE, /* it was answered, again and again, and never so that one could understand it */
};

/* One GET, until it is answered. */
struct question {
	struct sweep *sweep;
	char *url;        /* owned */
	bool ends_at_404; /* such an answer is one */
	/* Reads an answer into `into`. NULL, or a fault in static words. */
	const char *(*read)(struct question *, const char *body, size_t len);
	void *into;
	enum question_state state;
	int tries, readings;
	int64_t ask_at;
	const char *fault;
};

/* ---- stopping, waiting ---- */

__attribute__((format(printf, 2, 3))) static void
stop(struct sweep *s, const char *format, ...)
{
	va_list ap;

	if (s->stopped != NULL)
		return;
	va_start(ap, format);
	if (vasprintf(&s->stopped, format, ap) < 0)
		out_of_memory();
	va_end(ap);
}

/* Let answers come, and signals. */
static void
wait_ms(struct sweep *s, int64_t ms)
{
	struct signalfd_siginfo info;

	http_client_wait(s->client, s->signals, (int)(ms < 0 ? 0 : ms > 1000 ? 1000 : ms));
	if (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info &&
	    info.ssi_signo != SIGHUP) {
		s->told = true;
		stop(s, "it was told to stop");
	}
}

/* Something does not answer. True while there is patience left. */
static bool
patient(struct sweep *s, int64_t wait, const char *reason)
{
	int64_t now = clock_ms();

	if (s->trouble_at == 0)
		s->trouble_at = now;
	if (now + wait - s->trouble_at <= s->config->worker.reconcile_patience_ms)
		return true;
	stop(s, "%s", reason);
	return false;
}

/* ---- questions to the provider ---- */

static void
again(struct question *q, int64_t at_least_ms, const char *reason)
{
	struct sweep *s = q->sweep;
	int64_t ms = backoff_ms(&schedule, (unsigned)++q->tries, backoff_chance());

	if (ms < at_least_ms)
		ms = at_least_ms;
	log_event(LOG_WARNING, "reconcile_retry", "merchant", s->merchant->name, "reason", reason,
	    "wait_ms", log_number(ms), (const char *)NULL);
	q->state = WAITING;
	q->ask_at = clock_ms() + ms;
	(void)patient(s, ms, reason);
}

static void
on_answer(void *context, const struct http_client_answer *a)
{
	struct question *q = context;
	struct sweep *s = q->sweep;
	char http[64];

	s->under_way--;
	if (a->reason != NULL) {
		again(q, 0, a->reason);
		return;
	}
	if (a->status == 401 || a->status == 403) {
		stop(s, "the provider refuses the key (HTTP %ld): look at %s", a->status,
		    s->merchant->provider.secret_place);
		return;
	}
	snprintf(http, sizeof http, "the provider answers HTTP %ld", a->status);
	if (a->status == 404 && q->ends_at_404) {
		q->state = ANSWERED;
	} else if (a->status != 200 && a->status != 404) {
		if (a->status == 429 || a->retry_after_s > 0)
			s->ask_at = clock_ms() + a->retry_after_s * 1000;
		again(q, a->retry_after_s * 1000, http);
	} else {
		q->fault = a->status == 404  ? "the provider does not know it (HTTP 404)"
			   : a->body == NULL ? "the answer is empty or too long"
					     : q->read(q, a->body, a->len);
		if (q->fault == NULL)
			q->state = ANSWERED;
		else if (++q->readings == TRIES)
			q->state = UNREADABLE;
		else
			again(q, 0, q->fault);
	}
	if (q->state == ANSWERED)
		s->trouble_at = 0;
}

static void
ask(struct question *q)
{
	struct sweep *s = q->sweep;
	char *secret = xasprintf("secret_key: %s", s->merchant->provider.secret);
	const char *headers[] = {secret, "Accept: application/json", NULL};

	q->state = ASKED;
	s->under_way++;
	s->ask_at = clock_ms() + 60000 / s->merchant->provider.per_minute;
	http_client_submit(s->client, &(struct http_client_request){.url = q->url,
					  .headers = headers,
					  .timeout_ms = TIMEOUT_MS,
					  .keep = true,
					  .answer_max = ANSWER_MAX,
					  .done = on_answer,
					  .context = q});
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

/* All of them, side by side, until each is ANSWERED or UNREADABLE or the sweep is stopped. */
static void
ask_all(struct sweep *s, struct question *questions, size_t count)
{
	for (;;) {
		int64_t now = clock_ms(), next = now + 1000;
		size_t open = 0;

		for (struct question *q = questions; q < questions + count; q++) {
			int64_t at = q->ask_at > s->ask_at ? q->ask_at : s->ask_at;

			open += q->state == WAITING || q->state == ASKED;
			if (q->state != WAITING || s->under_way == UNDER_WAY)
				continue;
			if (at <= now)
				ask(q);
			else if (at < next)
				next = at;
		}
		if (open == 0 || s->stopped != NULL)
			return;
		wait_ms(s, next - clock_ms());
		http_client_complete(s->client);
	}
}

/* ---- the database ---- */

/* Ask it until it answers; false: the sweep is stopped. */
static bool
tell(struct sweep *s, const char *sql, size_t n, const char *const *values, struct pg_rows *rows)
{
	*rows = (struct pg_rows){0};
	while (s->stopped == NULL) {
		enum pg_status status = PG_LOST;

		if (pg_ready(s->pg))
			status = pg_query(s->pg, sql, n, values, rows);
		if (status == PG_OK) {
			s->trouble_at = 0;
			return true;
		}
		/* a refusal may be a lock that was not free in time */
		if (patient(s, LOOK_MS,
			status == PG_LOST ? "the database does not answer"
					  : "the database refuses; the log has its SQLSTATE"))
			wait_ms(s, LOOK_MS);
	}
	return false;
}

/* ---- a page ---- */

/* A row that is to be recorded. */
struct finding {
	const struct provider_row *row; /* of the list */
	struct provider_word word;      /* of the question about it; owned */
	bool asked;
	char key[LIMIT_TRANSACTION_NO + 1];
	const char *fault; /* static */
};

static const char *
read_list(struct question *q, const char *body, size_t len)
{
	struct provider_list *l = q->into;
	const char *fault = NULL;

	if (!provider_read_list(&q->sweep->merchant->provider, body, len, l)) {
		fault = l->fault;
		provider_list_free(l);
	}
	return fault;
}

static const char *
read_word(struct question *q, const char *body, size_t len)
{
	struct provider_word *w = q->into;
	const struct merchant *m = q->sweep->merchant;
	const char *fault = NULL;

	if (!provider_read(&m->provider, m->order_prefix, body, len, w)) {
		fault = w->fault;
		provider_word_free(w);
	}
	return fault;
}

/* The order's key, as the webhook would have named it; NULL: the provider does not say. */
static const char *
order_of(const struct merchant *m, const struct finding *f)
{
	if (m->order_key != TRANSFER_NO)
		return f->word.order;
	return order_without_prefix(f->row->number, m->order_prefix);
}

/* Ask about those that the list alone does not settle. */
static void
ask_about(struct sweep *s, struct finding *findings, size_t count)
{
	struct question *questions = xcalloc(count, sizeof *questions);
	size_t n = 0;

	for (struct finding *f = findings; f < findings + count; f++)
		if (f->asked)
			questions[n++] = (struct question){.sweep = s,
			    .url = provider_question(&s->merchant->provider, f->row->number),
			    .read = read_word,
			    .into = &f->word};
	ask_all(s, questions, n);
	n = 0;
	for (struct finding *f = findings; f < findings + count; f++) {
		const struct question *q = &questions[n];

		if (!f->asked)
			continue;
		n++;
		if (q->state == UNREADABLE)
			f->fault = q->fault;
		else if (q->state == ANSWERED && strcmp(f->word.status, f->row->word.status) != 0)
			f->fault = "the list and the answer to the question about it contradict "
				   "each other";
		free(q->url);
	}
	free(questions);
}

/* Hand findings to the database; again, as long as somebody holds an order of one. */
static void
record(struct sweep *s, const struct finding *findings, size_t count)
{
	struct pg_array numbers = {0}, statuses = {0}, amounts = {0}, currencies = {0},
			orders = {0}, faults = {0};
	struct pg_rows rows;
	bool busy = count > 0;

	for (const struct finding *f = findings; f < findings + count; f++) {
		const struct provider_word *w =
		    f->asked && f->word.status != NULL ? &f->word : &f->row->word;

		pg_array_add(&numbers, f->key);
		pg_array_add(&statuses, w->status != NULL ? w->status : "");
		pg_array_add(&amounts, w->amount);
		pg_array_add(&currencies, w->currency);
		pg_array_add(&orders, order_of(s->merchant, f));
		pg_array_add(&faults, f->fault);
	}
	while (busy && s->stopped == NULL) {
		const char *values[] = {s->id, pg_array_text(&numbers), pg_array_text(&statuses),
		    pg_array_text(&amounts), pg_array_text(&currencies), pg_array_text(&orders),
		    pg_array_text(&faults)};

		busy = false;
		if (!tell(s, record_sql, 7, values, &rows))
			break;
		for (size_t i = 0; i < rows.count; i++) {
			const char *outcome = pg_value(&rows, i, 2);

			busy |= outcome != NULL && strcmp(outcome, "busy") == 0;
			s->fed += outcome != NULL && strcmp(outcome, "busy") != 0;
		}
		pg_rows_free(&rows);
		if (busy && patient(s, LOOK_MS, "somebody holds an order of a transaction"))
			wait_ms(s, LOOK_MS);
	}
	pg_array_free(&numbers);
	pg_array_free(&statuses);
	pg_array_free(&amounts);
	pg_array_free(&currencies);
	pg_array_free(&orders);
	pg_array_free(&faults);
}

/* Which rows does the database not know like that? The number of rows that this run had not seen. */
static size_t
compare(struct sweep *s, const struct provider_row *rows, size_t count, struct finding *findings,
    size_t *found)
{
	struct pg_array numbers = {0}, statuses = {0}, amounts = {0}, currencies = {0};
	struct pg_rows verdicts;
	const struct provider_row **sent = xcalloc(count, sizeof(struct provider_row *));
	size_t n = 0, fresh = 0;

	for (const struct provider_row *r = rows; r < rows + count; r++)
		if (r->word.fault == NULL) {
			pg_array_add(&numbers, r->number);
			pg_array_add(&statuses, r->word.status);
			pg_array_add(&amounts, r->word.amount);
			pg_array_add(&currencies, r->word.currency);
			sent[n++] = r;
		}
	const char *values[] = {s->id, pg_array_text(&numbers), pg_array_text(&statuses),
	    pg_array_text(&amounts), pg_array_text(&currencies)};
	if (tell(s, compare_sql, 5, values, &verdicts))
		for (size_t i = 0; i < verdicts.count; i++) {
			const char *verdict = pg_value(&verdicts, i, 1);
			size_t at = strtoul(pg_value(&verdicts, i, 0), NULL, 10) - 1;

			fresh += strcmp(verdict, "seen") != 0;
			if (at >= n ||
			    (strcmp(verdict, "ask") != 0 && strcmp(verdict, "record") != 0))
				continue;
			findings[*found] =
			    (struct finding){.row = sent[at], .asked = strcmp(verdict, "ask") == 0};
			snprintf(
			    findings[*found].key, sizeof findings->key, "%s", sent[at]->number);
			++*found;
		}
	pg_rows_free(&verdicts);
	free(sent);
	pg_array_free(&numbers);
	pg_array_free(&statuses);
	pg_array_free(&amounts);
	pg_array_free(&currencies);
	return fresh;
}

/* Rows of a page, at most as many as the database takes at once. Returns how many this run had not seen. */
static size_t
take(struct sweep *s, const char *day, int page, const struct provider_list *l, size_t first,
    size_t count)
{
	struct finding *findings = xcalloc(count, sizeof *findings);
	const struct provider_row *rows = l->rows + first;
	size_t found = 0, fresh = compare(s, rows, count, findings, &found);

	for (const struct provider_row *r = rows; r < rows + count; r++)
		if (r->word.fault != NULL) {
			struct finding *f = &findings[found++];

			*f = (struct finding){.row = r, .fault = r->word.fault};
			if (r->number != NULL)
				snprintf(f->key, sizeof f->key, "%s", r->number);
			else
				snprintf(
				    f->key, sizeof f->key, "#%s/%d/%td", day, page, r - l->rows);
		}
	ask_about(s, findings, found);
	record(s, findings, found);
	for (size_t i = 0; i < found; i++)
		provider_word_free(&findings[i].word);
	free(findings);
	s->rows += (int64_t)fresh;
	return fresh;
}

/* "2026-11-24", so many days later, as the provider writes it, or as we do. */
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
 * Read a page of a day and take its rows: the number that this run had not seen, or -1 at the end. edge:
 * first and last number of a page, to recognize one that comes for every page.
 */
static long
read_page(struct sweep *s, const char *day, int page, char **edge)
{
	struct provider_list list = {0};
	char from[11], to[11], *last = *edge;
	long fresh = -1;

	shift_day(from, day, 0, true);
	shift_day(to, day, 1, true);
	struct question q = {.sweep = s,
	    .url = provider_list_question(&s->merchant->provider, from, to, page),
	    .ends_at_404 = page > 1,
	    .read = read_list,
	    .into = &list};
	ask_all(s, &q, 1);
	free(q.url);
	if (q.state == UNREADABLE)
		stop(s, "the list cannot be read: %s", q.fault);
	if (s->stopped == NULL && list.count > 0) {
		const struct provider_row *end = &list.rows[list.count - 1];

		*edge = xasprintf("%s %s", list.rows[0].number != NULL ? list.rows[0].number : "-",
		    end->number != NULL ? end->number : "-");
		if (last != NULL && strcmp(last, *edge) == 0) {
			/* behind the last page, some show it again */
			if (list.count >= PROVIDER_LIST_LIMIT)
				stop(s, "the provider's list shows the same rows on page after "
					"page; look at provider_list_path");
		} else {
			fresh = 0;
			for (size_t at = 0; at < list.count && s->stopped == NULL;
			    at += PROVIDER_LIST_LIMIT)
				fresh += (long)take(s, day, page, &list, at,
				    list.count - at < PROVIDER_LIST_LIMIT ? list.count - at
									  : PROVIDER_LIST_LIMIT);
		}
		free(last);
	}
	provider_list_free(&list);
	if (s->progress)
		fprintf(stderr,
		    "\r%s: %s, page %d: %" PRId64 " transactions, %" PRId64 " of them fed\033[K",
		    s->merchant->name, day, page, s->rows, s->fed);
	return s->stopped == NULL ? fresh : -1;
}

static void
advance(struct sweep *s, const char *day, int page)
{
	const char *values[] = {s->id, day, log_number(page)};
	struct pg_rows rows;

	if (tell(s, advance_sql, 3, values, &rows))
		pg_rows_free(&rows);
}

/* All pages of a day from this one on; then the first again, as long as it brings something new. */
static void
read_day(struct sweep *s, const char *day, int page)
{
	char *edge = NULL;

	for (int pass = 0; pass < PASSES && s->stopped == NULL; pass++) {
		int first = page;

		while (s->stopped == NULL && read_page(s, day, page, &edge) >= 0) {
			if (++page > PAGES_MAX)
				stop(s, "the provider's list has no end");
			advance(s, day, page);
		}
		free(edge);
		edge = NULL;
		if (s->stopped != NULL || (first == 1 && page <= 2))
			break; /* what fits on one page has not shifted */
		page = 2;
		if (read_page(s, day, 1, &edge) <= 0)
			break;
	}
	free(edge);
}

/* ---- the run ---- */

static bool
begin(struct sweep *s, char day[static 11], int *page)
{
	const char *values[] = {s->merchant->name, s->from, s->to};
	struct pg_rows rows;

	if (!tell(s, begin_sql, 3, values, &rows))
		return false;
	snprintf(s->id, sizeof s->id, "%s", pg_value(&rows, 0, 0));
	snprintf(day, 11, "%s", pg_value(&rows, 0, 1));
	*page = atoi(pg_value(&rows, 0, 2));
	pg_rows_free(&rows);
	return true;
}

/* What was found, also when it was stopped; then it is asked once only, for the database may be the reason. */
static enum reconcile_status
report(struct sweep *s)
{
	static const char *const words[] = {"matched", "missing", "differed", "other", "unclear"};
	bool finished = s->stopped == NULL;
	const char *values[] = {s->id, finished ? "true" : "false", s->stopped};
	struct pg_rows rows = {0};
	bool known = *s->id != '\0' && pg_ready(s->pg) &&
		     pg_query(s->pg, end_sql, 3, values, &rows) == PG_OK;
	bool wrong = false, unclear = false;

	if (s->progress)
		fputs("\r\033[K", stderr);
	printf("%s: %s to %s: ", s->merchant->name, s->from, s->to);
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
		    known ? pg_value(&rows, 0, 5) : s->from, known ? pg_value(&rows, 0, 6) : "1",
		    s->stopped);
	putchar('\n');
	if (wrong)
		printf("  select * from foloosi.reconciled where reconciliation_id = %s and "
		       "verdict <> 'matched'\n",
		    s->id);
	fflush(stdout);
	pg_rows_free(&rows);
	return !finished ? RECONCILE_STOPPED : unclear ? RECONCILE_UNCLEAR : RECONCILE_OK;
}

static enum reconcile_status
sweep(struct sweep *s)
{
	enum reconcile_status status;
	char day[11];
	int page;

	s->client = http_client_new();
	s->progress = isatty(STDERR_FILENO);
	if (begin(s, day, &page))
		while (s->stopped == NULL && strcmp(day, s->to) <= 0) {
			read_day(s, day, page);
			shift_day(day, day, 1, false);
			page = 1;
			if (s->stopped == NULL)
				advance(s, day, page);
		}
	status = report(s);
	http_client_free(s->client);
	free(s->stopped);
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
	struct pg *pg = pg_client_new(config->worker.database);
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
		struct sweep s = {.config = config,
		    .merchant = m,
		    .pg = pg,
		    .signals = signals,
		    .from = o->from != NULL ? o->from : first,
		    .to = o->to != NULL ? o->to : today};
		enum reconcile_status status;

		if (m->provider.url == NULL ||
		    (o->merchant != NULL && strcmp(m->name, o->merchant) != 0))
			continue;
		any = true;
		status = sweep(&s);
		if (status > worst)
			worst = status;
		if (s.told)
			break;
	}
	pg_client_free(pg);
	if (!any)
		fatal("no merchant to reconcile has a provider_url; add it and "
		      "provider_secret_file to its section");
	return worst;
}
