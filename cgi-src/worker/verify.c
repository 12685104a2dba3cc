/* SPDX-License-Identifier: MIT */
/*
 * verify.c - questions to the provider about transactions (verify = callback).
 *
 * The hard part is what must not be concluded. An order moves only by a whole, understood
 * answer to the question about its own transaction; everything else (no network, an error,
 * JSON of another shape, "pending") puts the question off and changes nothing. What an answer
 * means for the order is decided in SQL: foloosi.verify_transaction().
 */
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "provider.h"
#include "verify.h"

#define TIMEOUT_MS 20000
#define QUERY_MS 1000 /* between queries for transactions to verify */
#define UNDER_WAY 8   /* questions about a merchant's transactions at the same time */

/* 10 s, 30 s, 90 s … 1 h, without an end: an overdue order is in foloosi.attention. */
static const struct backoff schedule = {.first_ms = 10000, .most_ms = INT64_C(3600) * 1000};

static const char next_sql[] =
    "select transaction_id, transaction_no, attempt"
    " from foloosi.next_verifications(array[$1], $2::int, interval '90 seconds')";
static const char verify_sql[] =
    "select foloosi.verify_transaction($1::bigint, $2, $3::numeric, $4, $5, $6::numeric, $7)";
static const char postpone_sql[] =
    "select foloosi.postpone_verification($1::bigint, $2::int * interval '1 millisecond', $3)";

/* One merchant whose provider is asked. */
struct asker {
	struct verify *verify;
	const struct merchant *merchant;
	int under_way;
	int64_t ask_at; /* clock_ms(): the next query for transactions */
};

struct verify {
	struct pg *pg;
	struct http_client *client;
	struct asker *askers;
	size_t count;
};

/* One question under way. */
struct question {
	struct asker *asker;
	int64_t transaction;
	int attempt;
};

struct verify *
verify_new(const struct config *config, struct pg *pg, struct http_client *client)
{
	struct verify *v = xcalloc(1, sizeof *v);

	v->pg = pg;
	v->client = client;
	v->askers = xcalloc(config->merchant_count, sizeof *v->askers);
	for (size_t i = 0; i < config->merchant_count; i++)
		if (config->merchants[i].provider.url != NULL)
			v->askers[v->count++] =
			    (struct asker){.verify = v, .merchant = &config->merchants[i]};
	return v;
}

void
verify_free(struct verify *v)
{
	if (v == NULL)
		return;
	free(v->askers);
	free(v);
}

/* Ask again later, in at_least_ms or more. */
static void
postpone_question(const struct question *q, int64_t at_least_ms, const char *reason)
{
	int64_t ms = backoff_ms(&schedule, (unsigned)q->attempt, backoff_chance());
	const char *values[] = {
	    log_number(q->transaction), log_number(ms > at_least_ms ? ms : at_least_ms), reason};

	log_event(LOG_WARNING, "verification_postponed", "merchant", q->asker->merchant->name,
	    "transaction", values[0], "attempt", log_number(q->attempt), "reason", reason,
	    (const char *)NULL);
	pg_query(q->asker->verify->pg, postpone_sql, 3, values, NULL); /* else its lease runs out */
}

/* Hand the answer to the database. Its status NULL: a reconciliation was it. */
static void
apply_answer(const struct question *q, const struct provider_answer *answer)
{
	const char *values[] = {log_number(q->transaction), answer->status, answer->amount,
	    answer->currency, answer->order, answer->refunded, answer->unprefixed};
	struct pg_rows rows;

	switch (pg_query(q->asker->verify->pg, verify_sql, 7, values, &rows)) {
	case PG_OK:
		if (strcmp(pg_value(&rows, 0, 0), "unclear") == 0) {
			postpone_question(q, 0, "nothing follows from what the provider says");
			break;
		}
		log_event(LOG_INFO, "verified", "merchant", q->asker->merchant->name, "transaction",
		    values[0], "attempt", log_number(q->attempt), "outcome", pg_value(&rows, 0, 0),
		    (const char *)NULL);
		break;
	case PG_LOST: /* the lease runs out, and it is asked again */
		break;
	default:
		postpone_question(q, 0, "the database did not take the answer");
		break;
	}
	pg_rows_free(&rows);
}

static void
on_http_answer(void *context, const struct http_client_answer *http)
{
	struct question *q = context;
	const struct merchant *m = q->asker->merchant;
	struct provider_answer answer = {0};
	char status[32];

	q->asker->under_way--;
	if (http->reason != NULL) {
		postpone_question(q, 0, http->reason);
	} else if (http->status != 200) {
		snprintf(status, sizeof status, "HTTP %ld", http->status);
		postpone_question(q, http->retry_after_s * 1000, status);
	} else if (http->body == NULL) {
		postpone_question(q, 0, "the answer is empty or too long");
	} else if (!provider_read_answer(
		       &m->provider, m->order_prefix, http->body, http->len, &answer)) {
		postpone_question(q, 0, answer.fault);
	} else if (strcmp(answer.status, "pending") == 0) {
		postpone_question(q, 0, "the provider says pending");
	} else {
		apply_answer(q, &answer);
	}
	provider_answer_free(&answer);
	free(q);
}

/* Ask the provider about one transaction. number NULL: it has none, and the provider's list was read since. */
static void
ask_provider(struct asker *a, const char *transaction, const char *number, const char *attempt)
{
	struct question *q = xcalloc(1, sizeof *q);
	const struct provider *p = &a->merchant->provider;
	char *url;

	*q = (struct question){
	    .asker = a, .transaction = strtoll(transaction, NULL, 10), .attempt = atoi(attempt)};
	if (number == NULL) {
		apply_answer(q, &(struct provider_answer){0});
		free(q);
		return;
	}
	url = provider_detail_url(p, number);
	a->under_way++;
	provider_get(p, a->verify->client,
	    &(struct http_client_request){
		.url = url, .timeout_ms = TIMEOUT_MS, .done = on_http_answer, .context = q});
	free(url);
}

/* Take transactions for a second's worth of questions at most; the next ones not before that time is over. */
static void
take_transactions(struct asker *a, int64_t now)
{
	int per_minute = a->merchant->provider.per_minute;
	int most = (per_minute + 59) / 60;
	int room = UNDER_WAY - a->under_way < most ? UNDER_WAY - a->under_way : most;
	const char *values[] = {a->merchant->name, log_number(room)};
	struct pg_rows rows;

	a->ask_at = now + QUERY_MS;
	pg_query(a->verify->pg, next_sql, 2, values, &rows);
	for (size_t i = 0; i < rows.count; i++)
		ask_provider(
		    a, pg_value(&rows, i, 0), pg_value(&rows, i, 1), pg_value(&rows, i, 2));
	if (rows.count > 0)
		a->ask_at = now + (int64_t)rows.count * 60000 / per_minute;
	pg_rows_free(&rows);
}

void
verify_work(struct verify *v)
{
	int64_t now = clock_ms();

	if (v->count == 0 || !pg_ready(v->pg))
		return;
	for (struct asker *a = v->askers; a < v->askers + v->count; a++)
		if (now >= a->ask_at && a->under_way < UNDER_WAY)
			take_transactions(a, now);
}

size_t
verify_under_way(const struct verify *v)
{
	size_t n = 0;

	for (size_t i = 0; i < v->count; i++)
		n += (size_t)v->askers[i].under_way;
	return n;
}

int64_t
verify_due(const struct verify *v)
{
	int64_t due = clock_ms() + QUERY_MS;

	for (const struct asker *a = v->askers; a < v->askers + v->count; a++)
		if (a->under_way < UNDER_WAY && a->ask_at < due)
			due = a->ask_at;
	return due;
}
