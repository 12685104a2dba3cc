/* SPDX-License-Identifier: MIT */
/*
 * push.c - events to the merchants' endpoints, and by mail to their customers.
 *
 * Each URL is a consumer of events (sql/functions/events.sql has the hard part: order, leases, the
 * circuit). Here events are taken in batches, signed and sent side by side, and their results are
 * reported in batches, too. An event is reported after its answer, so a worker that is killed in
 * between makes another one send it again: at least once.
 *
 * Signatures are those of Standard Webhooks: webhook-id stays the same from attempt to
 * attempt, webhook-timestamp is the attempt's, and every secret of the merchant signs, so
 * that a receiver can change from one to the next.
 *
 * A merchant's mails are one more consumer. A mail cannot be taken back, so claim and result are on
 * disk before the next step, and no other worker takes the event in between: one event is one mail,
 * unless the worker or the network dies between the server's "250" and the report. Then it is sent
 * once more, byte for byte the same: its Message-ID and date are the event's.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "backoff.h"
#include "clock.h"
#include "log.h"
#include "mail.h"
#include "mem.h"
#include "money.h"
#include "push.h"
#include "text.h"
#include "url.h"

#define GATHER_MS 10                         /* a report is held back so long, for more results */
#define REPORT_TRIES 10                      /* a second apart: a lock, or a server that stops */
#define LEASE_MARGIN_S 30                    /* beyond the timeout, for the reports */
#define REFUSED_SHARE(n) (((n) * 3 + 4) / 5) /* attempts for an event that the endpoint refuses */
#define MAILS_UNDER_WAY 4                    /* of a merchant */
/* No customer waits for the mail of an older event: it would have had its last attempt. */
#define MAIL_AGE_S (INT64_C(4) * 24 * 3600)

/* 5 s, 15 s, 45 s … 12 h: with 15 attempts, three days and a half. */
static const struct backoff schedule = {.first_ms = 5000, .most_ms = INT64_C(12) * 3600 * 1000};

static const char add_sql[] =
    "select consumer from foloosi.add_consumer($1, $2, $3::text[], endpoint => $4)";

const char *const push_result_names[RESULT__MAX] = {
    [RESULT_DONE] = "done",
    [RESULT_REFUSED] = "refused",
    [RESULT_FAILED] = "failed",
    [RESULT_GONE] = "gone",
};

/* Parameters of settle_sql behind the consumer. */
enum {
	A_ID,
	A_ATTEMPT,
	A_RESULT,
	A_DEAD,
	A_DELAY,
	A_STATUS,
	A_REASON,
	A__MAX
};
#define SETTLE                                                                                     \
	"foloosi.settle_events($1, $2::bigint[], $3::int[], $4::text[], $5::boolean[], "           \
	"$6::int[], $7::int[], $8::text[])"

struct endpoint;

static void send_http(struct endpoint *, const struct pg_rows *, size_t row);
static void send_mail(struct endpoint *, const struct pg_rows *, size_t row);

/* What differs between the ways. */
static const struct {
	const char *protocol;
	const char *types;    /* of events that the consumer takes; NULL: all */
	const char *next_sql; /* id and attempt first, then what send() needs */
	const char *settle_sql;
	int gather_ms; /* a report is held back so long, for more results */
	void (*send)(struct endpoint *, const struct pg_rows *, size_t row);
} ways[WAY__MAX] = {
    [WAY_HTTP] = {"HTTP", NULL,
	"select id, attempt, type, payload::text"
	" from foloosi.next_events($1, $2::int, $3::interval)",
	"select " SETTLE, GATHER_MS, send_http},
    [WAY_MAIL] = {"SMTP", "{order.success,order.cancel,order.refund}",
	"select id, attempt, type, address, floor(extract(epoch from created_at)),"
	" extract(microseconds from created_at)::int, order_ref, amount::text, currency,"
	" transaction_no, payment_reference, transaction_message, optional1, optional2,"
	" optional3, merchant, refunded::text from foloosi.next_mails($1, $2::int, $3::interval,"
	" '{order.success,order.cancel,order.refund}')",
	"select " SETTLE " from set_config('synchronous_commit', 'on', true)", 0, send_mail},
};
enum { /* columns of both */
	C_ID,
	C_ATTEMPT,
	C_TYPE,
	C_PAYLOAD,
	C_ADDRESS = C_PAYLOAD,
	C_SECONDS,
	C_MICROSECONDS,
	C_FIELDS /* MAIL_FIELD__MAX of them */
};

struct endpoint {
	struct push *push;
	const struct merchant *merchant;
	const char *url;
	char *consumer;  /* its name in the database; owned */
	char *site;      /* the URL without its path, which may be a secret; owned */
	int most;        /* events under way */
	bool known;      /* the database has the consumer */
	bool more;       /* the last query gave as many events as it asked for */
	int under_way;   /* events without an answer */
	int64_t take_at; /* clock_ms(): the next query for events */

	struct text report[A__MAX];
	int reported;      /* rows of the report */
	int refusals;      /* of the report by the database, in a row */
	int64_t report_at; /* clock_ms(): when it is sent at the latest */
};

struct push {
	const struct config *config;
	struct pg *pg;
	struct http_client *client;
	struct endpoint *endpoints;
	size_t count;
	enum way way;
	int timeout_ms; /* of one attempt */
	char lease[32];
};

/* One event under way. */
struct attempt {
	struct endpoint *endpoint;
	int64_t id;
	int number; /* from 1 */
	int64_t sent_at;
};

/* 53x: the server refuses our login; nothing is wrong with this mail. */
static bool
is_refused_mail(long status)
{
	return status >= 500 && status <= 599 && status / 10 != 53;
}

enum push_result
push_result_of(enum way way, long status)
{
	if (status >= 200 && status <= 299)
		return RESULT_DONE;
	if (way == WAY_MAIL) /* 421: it closes; other 4xx are about this recipient or this mail */
		return is_refused_mail(status) || (status >= 400 && status <= 499 && status != 421)
			   ? RESULT_REFUSED
			   : RESULT_FAILED;
	if (status == 410)
		return RESULT_GONE;
	if (status == 408 || status == 425 || status == 429 || status < 300 || status > 499)
		return RESULT_FAILED;
	return RESULT_REFUSED; /* a redirect, too: an event goes where it was sent or nowhere */
}

bool
push_was_last(enum way way, long status, int attempt, int most)
{
	switch (push_result_of(way, status)) {
	case RESULT_REFUSED:
		if (way == WAY_MAIL)
			return is_refused_mail(status) || attempt >= most;
		return attempt >= REFUSED_SHARE(most);
	case RESULT_FAILED:
		return attempt >= most;
	default:
		return false;
	}
}

/* "merchant:" and the beginning of the URL's digest: the URL itself may be a secret. Owned by the caller. */
static char *
consumer_name(const char *merchant, const char *url)
{
	unsigned char digest[AUTH_DIGEST_SIZE];

	digest_sha256(url, strlen(url), digest);
	return xasprintf("%s:%02x%02x%02x%02x%02x%02x", merchant, digest[0], digest[1], digest[2],
	    digest[3], digest[4], digest[5]);
}

/* consumer is owned by the endpoint from now on. */
static void
add_endpoint(struct push *p, const struct merchant *m, const char *url, char *consumer, int most)
{
	p->endpoints = xrealloc(p->endpoints, (p->count + 1) * sizeof *p->endpoints);
	p->endpoints[p->count++] = (struct endpoint){.push = p,
	    .merchant = m,
	    .url = url,
	    .consumer = consumer,
	    .site = url_site(url),
	    .most = most};
}

struct push *
push_new(enum way way, const struct config *config, struct pg *pg, struct http_client *client)
{
	struct push *p = xcalloc(1, sizeof *p);

	p->way = way;
	p->config = config;
	p->pg = pg;
	p->client = client;
	p->timeout_ms =
	    way == WAY_HTTP ? config->worker.event_timeout_ms : config->worker.smtp_timeout_ms;
	snprintf(p->lease, sizeof p->lease, "%d ms", 2 * p->timeout_ms + LEASE_MARGIN_S * 1000);
	for (size_t i = 0; i < config->merchant_count; i++) {
		const struct merchant *m = &config->merchants[i];

		for (size_t k = 0; way == WAY_HTTP && k < m->event_url_count; k++)
			add_endpoint(p, m, m->event_urls[k],
			    consumer_name(m->name, m->event_urls[k]),
			    config->worker.event_concurrency);
		if (way == WAY_MAIL && m->mail_from != NULL)
			add_endpoint(p, m, config->worker.smtp_url, xasprintf("%s/mail", m->name),
			    MAILS_UNDER_WAY);
	}
	return p;
}

bool
push_is_wanted(const struct push *p)
{
	return p->count > 0;
}

void
push_free(struct push *p)
{
	if (p == NULL)
		return;
	for (struct endpoint *e = p->endpoints; e < p->endpoints + p->count; e++) {
		for (int a = 0; a < A__MAX; a++)
			text_free(&e->report[a]);
		free(e->consumer);
		free(e->site);
	}
	free(p->endpoints);
	free(p);
}

/* ---- answers ---- */

/* Add a row to the next report. */
static void
add_to_report(struct endpoint *e, const char *texts[A__MAX])
{
	for (int a = 0; a < A__MAX; a++)
		pg_array_add(&e->report[a], texts[a]);
	if (e->reported++ == 0)
		e->report_at = clock_ms() + ways[e->push->way].gather_ms;
}

static void
on_answer(void *context, const struct http_client_answer *answer)
{
	struct attempt *a = context;
	struct endpoint *e = a->endpoint;
	enum way way = e->push->way;
	enum push_result result = push_result_of(way, answer->status);
	bool last =
	    push_was_last(way, answer->status, a->number, e->push->config->worker.event_attempts);
	int64_t delay = 0;
	char status[32];
	const char *texts[A__MAX] = {
	    [A_ID] = log_number(a->id),
	    [A_ATTEMPT] = log_number(a->number),
	    [A_RESULT] = push_result_names[result],
	    [A_DEAD] = last ? "true" : "false",
	    [A_STATUS] = answer->status != 0 ? log_number(answer->status) : NULL,
	};

	if (result == RESULT_REFUSED || result == RESULT_FAILED)
		delay = backoff_ms(&schedule, (unsigned)a->number, backoff_chance());
	if (delay > 0 && delay < answer->retry_after_s * 1000)
		delay = answer->retry_after_s * 1000;
	texts[A_DELAY] = log_number(delay);
	if (result != RESULT_DONE) {
		snprintf(status, sizeof status, "%s %ld", ways[way].protocol, answer->status);
		texts[A_REASON] = answer->reason != NULL ? answer->reason : status;
	}
	add_to_report(e, texts);
	e->under_way--;

	log_event(last                    ? LOG_ERROR
		  : result == RESULT_DONE ? LOG_INFO
					  : LOG_WARNING,
	    last ? "event_given_up" : "event", "consumer", e->consumer, "id", texts[A_ID],
	    "attempt", texts[A_ATTEMPT], "result", texts[A_RESULT], "reason", texts[A_REASON], "ms",
	    log_number(clock_ms() - a->sent_at), (const char *)NULL);
	free(a);
}

/* Report to the database. What it did not take is kept for the next time. */
static void
send_report(struct endpoint *e)
{
	const char *values[1 + A__MAX] = {e->consumer};
	enum pg_status status;

	for (int a = 0; a < A__MAX; a++)
		values[1 + a] = pg_array_text(&e->report[a]);
	status = pg_query(e->push->pg, ways[e->push->way].settle_sql, 1 + A__MAX, values, NULL);
	if (status == PG_LOST || (pg_refused(status) && ++e->refusals < REPORT_TRIES)) {
		e->report_at = clock_ms() + 1000;
		return;
	}
	/* Reported; or the consumer was dropped, or something is wrong for longer: the leases run out. */
	for (int a = 0; a < A__MAX; a++)
		text_clear(&e->report[a]);
	e->reported = e->refusals = 0;
}

/* ---- sending ---- */

#define SIGNATURES_SIZE                                                                            \
	(SECRETS_MAX * AUTH_SIGNATURE_SIZE) /* with a blank, or the NUL, behind each */

/* One signature by each secret, with a blank between them. */
static void
sign_event(const struct credentials *secrets, const char *id, const char *timestamp,
    const char *body, size_t len, char out[SIGNATURES_SIZE])
{
	for (size_t i = 0; i < secrets->signature_count; i++) {
		auth_sign(&secrets->signature[i], id, timestamp, body, len,
		    out + i * AUTH_SIGNATURE_SIZE);
		if (i > 0)
			out[i * AUTH_SIGNATURE_SIZE - 1] = ' ';
	}
}

/* Submit a request for the event of a row. */
static void
submit_event(
    struct endpoint *e, const struct pg_rows *rows, size_t row, struct http_client_request *r)
{
	struct attempt *a = xcalloc(1, sizeof *a);

	*a = (struct attempt){.endpoint = e,
	    .id = strtoll(pg_value(rows, row, C_ID), NULL, 10),
	    .number = atoi(pg_value(rows, row, C_ATTEMPT)),
	    .sent_at = clock_ms()};
	log_event(LOG_DEBUG, "posting", "consumer", e->consumer, "id", log_number(a->id), "type",
	    pg_value(rows, row, C_TYPE), (const char *)NULL);
	r->url = e->url;
	r->timeout_ms = e->push->timeout_ms;
	r->done = on_answer;
	r->context = a;
	http_client_submit(e->push->client, r);
	e->under_way++;
}

static void
send_http(struct endpoint *e, const struct pg_rows *rows, size_t row)
{
	const char *body = pg_value(rows, row, C_PAYLOAD);
	char signatures[SIGNATURES_SIZE], event_id[32], timestamp[32];
	char *headers[5];
	size_t len = strlen(body);

	snprintf(event_id, sizeof event_id, "evt_%s", pg_value(rows, row, C_ID));
	snprintf(timestamp, sizeof timestamp, "%lld", (long long)clock_wall_s());
	sign_event(&e->merchant->event_credentials, event_id, timestamp, body, len, signatures);
	headers[0] = xstrdup("Content-Type: application/json");
	headers[1] = xasprintf("webhook-id: %s", event_id);
	headers[2] = xasprintf("webhook-timestamp: %s", timestamp);
	headers[3] = xasprintf("webhook-signature: %s", signatures);
	headers[4] = NULL;
	submit_event(e, rows, row,
	    &(struct http_client_request){
		.headers = (const char *const *)headers, .body = body, .len = len});
	for (int i = 0; i < 4; i++)
		free(headers[i]);
}

static enum mail_kind
mail_kind_of(const char *type)
{
	return strcmp(type, "order.success") == 0  ? MAIL_SUCCESS
	       : strcmp(type, "order.cancel") == 0 ? MAIL_CANCEL
						   : MAIL_REFUND;
}

/* Why no mail is sent to the address for the event of a row, static; NULL: one is. */
static const char *
reason_for_no_mail(const struct endpoint *e, const struct pg_rows *rows, size_t row,
    enum mail_kind kind, const char *address)
{
	if (e->merchant->mails[kind] == NULL)
		return "there is no template for it";
	if (address == NULL)
		return "the transaction has no address";
	if (!mail_address_ok(address))
		return "the transaction's address is not valid";
	if (atoi(pg_value(rows, row, C_ATTEMPT)) == 1 &&
	    clock_wall_s() - strtoll(pg_value(rows, row, C_SECONDS), NULL, 10) > MAIL_AGE_S)
		return "it is too old";
	return NULL;
}

static void
send_mail(struct endpoint *e, const struct pg_rows *rows, size_t row)
{
	const struct merchant *m = e->merchant;
	enum mail_kind kind = mail_kind_of(pg_value(rows, row, C_TYPE));
	const char *id = pg_value(rows, row, C_ID), *seconds = pg_value(rows, row, C_SECONDS);
	const char *values[MAIL_FIELD__MAX], *said = pg_value(rows, row, C_ADDRESS), *address, *why;
	char *message_id, *subject, *body, *message, *kept, *amounts[2] = {NULL};

	/* An older decoder has not taken the white space off. */
	kept = said != NULL ? xstrdup(said) : NULL;
	address = kept != NULL ? utf8_trim(kept) : NULL;
	why = reason_for_no_mail(e, rows, row, kind, address);

	if (why != NULL) {
		log_event(LOG_INFO, "no_mail", "consumer", e->consumer, "id", id, "reason", why,
		    (const char *)NULL);
		add_to_report(e, (const char *[A__MAX]){[A_ID] = id,
				     [A_ATTEMPT] = pg_value(rows, row, C_ATTEMPT),
				     [A_RESULT] = push_result_names[RESULT_DONE],
				     [A_DEAD] = "false",
				     [A_DELAY] = "0"});
		free(kept);
		return;
	}
	for (int f = 0; f < MAIL_FIELD__MAX; f++)
		values[f] = pg_value(rows, row, C_FIELDS + f);
	for (int i = 0; i < 2; i++) {
		const char **value = &values[i == 0 ? MAIL_AMOUNT : MAIL_REFUNDED];

		if (*value != NULL)
			*value = amounts[i] = money_show(*value, values[MAIL_CURRENCY]);
	}
	message_id = xasprintf("%s.%s.%s%s", id, seconds, pg_value(rows, row, C_MICROSECONDS),
	    strrchr(m->mail_from, '@'));
	subject = mail_fill(m->mails[kind]->subject, values);
	body = mail_fill(m->mails[kind]->body, values);
	message = mail_compose(&(struct mail){.from = m->mail_from,
	    .to = address,
	    .name = m->mail_name,
	    .id = message_id,
	    .date = (time_t)strtoll(seconds, NULL, 10),
	    .subject = subject,
	    .body = body});
	submit_event(e, rows, row,
	    &(struct http_client_request){.body = message,
		.len = strlen(message),
		.mail = &(struct http_client_mail){.from = m->mail_from,
		    .to = address,
		    .user = e->push->config->worker.smtp_user,
		    .password = e->push->config->worker.smtp_password,
		    .ca_file = e->push->config->worker.smtp_ca_file,
		    .starttls = e->push->config->worker.smtp_tls}});
	free(message_id);
	free(subject);
	free(body);
	free(message);
	free(amounts[0]);
	free(amounts[1]);
	free(kept);
}

/* Has the database the consumer? Adds it, if need be. */
static bool
add_consumer(struct endpoint *e)
{
	const char *values[] = {e->consumer, e->merchant->name, ways[e->push->way].types, e->site};

	e->known = e->known || pg_query(e->push->pg, add_sql, 4, values, NULL) == PG_OK;
	return e->known;
}

/* Take at most so many events, and send them. */
static void
take_events(struct endpoint *e, int room)
{
	const struct config *c = e->push->config;
	const char *values[] = {e->consumer, log_number(room), e->push->lease};
	struct pg_rows rows;

	e->more = false;
	e->take_at = clock_ms() + c->worker.poll_ms;
	if (!add_consumer(e))
		return;
	if (pg_refused(pg_query(e->push->pg, ways[e->push->way].next_sql, 3, values, &rows))) {
		e->known = false; /* dropped by a person, perhaps */
		e->take_at = clock_ms() + 1000;
	}
	for (size_t i = 0; i < rows.count; i++)
		ways[e->push->way].send(e, &rows, i);
	e->more = rows.count == (size_t)room;
	pg_rows_free(&rows);
}

/* How many events to ask for now; 0: none. For few at a time only as often as poll says. */
static int
room_now(const struct endpoint *e, int64_t now)
{
	int room = e->most - e->under_way - e->reported;

	if (room <= 0 || (now < e->take_at && !(e->more && room >= (e->most + 1) / 2)))
		return 0;
	return room;
}

void
push_work(struct push *p, bool more)
{
	bool ready = pg_ready(p->pg);

	for (struct endpoint *e = p->endpoints; ready && e < p->endpoints + p->count; e++) {
		int64_t now = clock_ms();
		int room;

		if (e->reported > 0 &&
		    (now >= e->report_at || (e->reported >= e->most / 2 && e->refusals == 0)))
			send_report(e);
		if (more && (room = room_now(e, now)) > 0)
			take_events(e, room);
		ready = pg_ready(p->pg);
	}
}

size_t
push_under_way(const struct push *p)
{
	size_t n = 0;

	for (const struct endpoint *e = p->endpoints; e < p->endpoints + p->count; e++)
		n += (size_t)(e->under_way + e->reported);
	return n;
}

int64_t
push_due(const struct push *p, bool more)
{
	int64_t due = clock_ms() + p->config->worker.poll_ms;

	for (const struct endpoint *e = p->endpoints; e < p->endpoints + p->count; e++) {
		int64_t at = INT64_MAX;

		if (more && room_now(e, INT64_MAX) > 0) /* else an answer comes first */
			at = e->take_at;
		if (e->reported > 0 && e->report_at < at)
			at = e->report_at;
		if (at < due)
			due = at;
	}
	return due;
}
