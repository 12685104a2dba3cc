/*
 * push.c - events to the merchants' endpoints, and by mail to their customers.
 *
 * Each URL is a consumer of events like any other (sql/functions/events.sql has the hard
 * part: order, leases, the circuit). Here they are taken in batches, signed, posted side
 * by side, and what became of them is reported in batches, too. An event is reported after
 * its answer, so a worker that is killed in between posts it again: at least once.
 *
 * Signatures are those of Standard Webhooks: webhook-id stays the same from attempt to
 * attempt, webhook-timestamp is the attempt's, and every secret of the merchant signs, so
 * that a receiver can change from one to the next.
 *
 * A merchant's mails are one more consumer. Nobody takes back a mail, so claim and result are on disk
 * before the next step, and no other worker touches it in between: one event is one mail, unless
 * the worker or the network dies between the server's "250" and our note of it. Then it
 * goes once more, byte for byte the same: its Message-ID and date are the event's.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "backoff.h"
#include "clock.h"
#include "log.h"
#include "mail.h"
#include "mem.h"
#include "push.h"
#include "url.h"

#define GATHER_MS 10                         /* how long a report waits for others */
#define REPORT_TRIES 10                      /* a second apart: a lock, or a server that stops */
#define LEASE_MARGIN_S 30                    /* beyond the timeout, for the reports */
#define REFUSED_SHARE(n) (((n) * 3 + 4) / 5) /* attempts for one that the endpoint refuses */
#define MAILS_UNDER_WAY 4                    /* of a merchant */
/* Of an event that no customer waits for any more: as old as at the last attempt. */
#define MAIL_AGE_S (INT64_C(4) * 24 * 3600)

/* 5 s, 15 s, 45 s … 12 h: with 15 attempts, three days and a half. */
static const struct backoff schedule = {.first_ms = 5000, .most_ms = INT64_C(12) * 3600 * 1000};

static const char add_sql[] =
    "select consumer from foloosi.add_consumer($1, $2, $3::text[], endpoint => $4)";

const char *const verdict_names[VERDICT__MAX] = {
    [VERDICT_DONE] = "done",
    [VERDICT_REFUSED] = "refused",
    [VERDICT_FAILED] = "failed",
    [VERDICT_GONE] = "gone",
};

/* Parameters of settle_sql behind the consumer. */
enum {
	A_ID,
	A_ATTEMPT,
	A_VERDICT,
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

static void post(struct endpoint *, const struct pg_rows *, size_t row);
static void mail(struct endpoint *, const struct pg_rows *, size_t row);

/* What is different from way to way. */
static const struct {
	const char *protocol;
	const char *types;    /* of events that it takes; NULL: all */
	const char *next_sql; /* id and attempt first, then what send() wants */
	const char *settle_sql;
	int gather_ms; /* how long a report waits for others */
	void (*send)(struct endpoint *, const struct pg_rows *, size_t row);
} ways[WAY__MAX] = {
    [WAY_HTTP] = {"HTTP", NULL,
	"select id, attempt, type, payload::text"
	" from foloosi.next_events($1, $2::int, $3::interval)",
	"select " SETTLE, GATHER_MS, post},
    [WAY_MAIL] = {"SMTP", "{order.success,order.cancel}",
	"select id, attempt, type, address, floor(extract(epoch from created_at)),"
	" extract(microseconds from created_at)::int, order_ref, amount::text, currency,"
	" transaction_no, payment_reference, transaction_message, optional1, optional2,"
	" optional3, merchant from foloosi.next_mails($1, $2::int, $3::interval)",
	"select " SETTLE " from set_config('synchronous_commit', 'on', true)", 0, mail},
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
	char *consumer; /* its name in the database */
	char *site;     /* what a person reads of the URL */
	int most;       /* posts under way */
	bool known;     /* the database has the consumer */
	bool more;      /* the last question gave all that was asked for */
	int under_way;  /* posts without an answer */
	int64_t ask_at; /* clock_ms() */

	struct pg_array report[A__MAX];
	int reported;      /* in it */
	int refusals;      /* of it, in a row */
	int64_t report_at; /* clock_ms(): when it is sent at the latest */
};

struct push {
	const struct config *config;
	struct pg *pg;
	struct http_client *client;
	struct endpoint *endpoints;
	size_t count;
	enum way way;
	int timeout_ms; /* of one post */
	char lease[32];
};

/* One event on its way. */
struct post {
	struct endpoint *endpoint;
	int64_t id;
	int attempt;
	int64_t sent_at;
};

/* 53x: the server does not know us; nothing is wrong with this mail. */
static bool
is_refused_mail(long status)
{
	return status >= 500 && status <= 599 && status / 10 != 53;
}

enum verdict
push_judge(enum way way, long status)
{
	if (status >= 200 && status <= 299)
		return VERDICT_DONE;
	if (way == WAY_MAIL) /* 421: it closes; other 4xx are about this recipient or this mail */
		return is_refused_mail(status) || (status >= 400 && status <= 499 && status != 421)
			   ? VERDICT_REFUSED
			   : VERDICT_FAILED;
	if (status == 410)
		return VERDICT_GONE;
	if (status == 408 || status == 425 || status == 429 || status < 300 || status > 499)
		return VERDICT_FAILED;
	return VERDICT_REFUSED; /* a redirect, too: an event goes where it was sent or nowhere */
}

bool
push_was_last(enum way way, long status, int attempt, int most)
{
	switch (push_judge(way, status)) {
	case VERDICT_REFUSED:
		if (way == WAY_MAIL)
			return is_refused_mail(status) || attempt >= most;
		return attempt >= REFUSED_SHARE(most);
	case VERDICT_FAILED:
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
			pg_array_free(&e->report[a]);
		free(e->consumer);
		free(e->site);
	}
	free(p->endpoints);
	free(p);
}

/* ---- what became of it ---- */

static void
note(struct endpoint *e, const char *texts[A__MAX])
{
	for (int a = 0; a < A__MAX; a++)
		pg_array_add(&e->report[a], texts[a]);
	if (e->reported++ == 0)
		e->report_at = clock_ms() + ways[e->push->way].gather_ms;
}

static void
on_answer(void *context, const struct http_client_answer *answer)
{
	struct post *p = context;
	struct endpoint *e = p->endpoint;
	enum way way = e->push->way;
	enum verdict verdict = push_judge(way, answer->status);
	bool last =
	    push_was_last(way, answer->status, p->attempt, e->push->config->worker.event_attempts);
	int64_t delay = 0;
	char status[32];
	const char *texts[A__MAX] = {
	    [A_ID] = log_number(p->id),
	    [A_ATTEMPT] = log_number(p->attempt),
	    [A_VERDICT] = verdict_names[verdict],
	    [A_DEAD] = last ? "true" : "false",
	    [A_STATUS] = answer->status != 0 ? log_number(answer->status) : NULL,
	};

	if (verdict == VERDICT_REFUSED || verdict == VERDICT_FAILED)
		delay = backoff_ms(&schedule, (unsigned)p->attempt, backoff_chance());
	if (delay > 0 && delay < answer->retry_after_s * 1000)
		delay = answer->retry_after_s * 1000;
	texts[A_DELAY] = log_number(delay);
	if (verdict != VERDICT_DONE) {
		snprintf(status, sizeof status, "%s %ld", ways[way].protocol, answer->status);
		texts[A_REASON] = answer->reason != NULL ? answer->reason : status;
	}
	note(e, texts);
	e->under_way--;

	log_event(last                      ? LOG_ERROR
		  : verdict == VERDICT_DONE ? LOG_INFO
					    : LOG_WARNING,
	    last ? "event_given_up" : "event", "consumer", e->consumer, "id", texts[A_ID],
	    "attempt", texts[A_ATTEMPT], "verdict", texts[A_VERDICT], "reason", texts[A_REASON],
	    "ms", log_number(clock_ms() - p->sent_at), (const char *)NULL);
	free(p);
}

/* Tell the database. What could not be told is kept for the next time. */
static void
report(struct endpoint *e)
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
	/* Told; or the consumer was dropped, or something is wrong for longer: their leases run out. */
	for (int a = 0; a < A__MAX; a++)
		pg_array_clear(&e->report[a]);
	e->reported = e->refusals = 0;
}

/* ---- out ---- */

#define SIGNATURES_SIZE                                                                            \
	(SECRETS_MAX * AUTH_SIGNATURE_SIZE) /* with a blank, or the NUL, behind each */

static void
sign(const struct credentials *secrets, const char *id, const char *timestamp, const char *body,
    size_t len, char out[SIGNATURES_SIZE])
{
	for (size_t i = 0; i < secrets->signature_count; i++) {
		auth_sign(&secrets->signature[i], id, timestamp, body, len,
		    out + i * AUTH_SIGNATURE_SIZE);
		if (i > 0)
			out[i * AUTH_SIGNATURE_SIZE - 1] = ' ';
	}
}

static void
send_off(struct endpoint *e, const struct pg_rows *rows, size_t row, struct http_client_request *r)
{
	struct post *p = xcalloc(1, sizeof *p);

	*p = (struct post){.endpoint = e,
	    .id = strtoll(pg_value(rows, row, C_ID), NULL, 10),
	    .attempt = atoi(pg_value(rows, row, C_ATTEMPT)),
	    .sent_at = clock_ms()};
	log_event(LOG_DEBUG, "posting", "consumer", e->consumer, "id", log_number(p->id), "type",
	    pg_value(rows, row, C_TYPE), (const char *)NULL);
	r->url = e->url;
	r->timeout_ms = e->push->timeout_ms;
	r->done = on_answer;
	r->context = p;
	http_client_submit(e->push->client, r);
	e->under_way++;
}

static void
post(struct endpoint *e, const struct pg_rows *rows, size_t row)
{
	const char *body = pg_value(rows, row, C_PAYLOAD);
	char signatures[SIGNATURES_SIZE], event_id[32], timestamp[32];
	char *headers[5];
	size_t len = strlen(body);

	snprintf(event_id, sizeof event_id, "evt_%s", pg_value(rows, row, C_ID));
	snprintf(timestamp, sizeof timestamp, "%lld", (long long)clock_wall_s());
	sign(&e->merchant->event_credentials, event_id, timestamp, body, len, signatures);
	headers[0] = xstrdup("Content-Type: application/json");
	headers[1] = xasprintf("webhook-id: %s", event_id);
	headers[2] = xasprintf("webhook-timestamp: %s", timestamp);
	headers[3] = xasprintf("webhook-signature: %s", signatures);
	headers[4] = NULL;
	send_off(e, rows, row,
	    &(struct http_client_request){
		.headers = (const char *const *)headers, .body = body, .len = len});
	for (int i = 0; i < 4; i++)
		free(headers[i]);
}

/* Why there is nothing to mail; NULL: there is. */
static const char *
no_mail(const struct endpoint *e, const struct pg_rows *rows, size_t row, enum mail_kind kind)
{
	const char *address = pg_value(rows, row, C_ADDRESS);

	if (e->merchant->mails[kind] == NULL)
		return "there is no template for it";
	if (address == NULL)
		return "the transaction has no address";
	if (!mail_address_ok(address))
		return "what the transaction has for an address is none";
	if (atoi(pg_value(rows, row, C_ATTEMPT)) == 1 &&
	    clock_wall_s() - strtoll(pg_value(rows, row, C_SECONDS), NULL, 10) > MAIL_AGE_S)
		return "it is too old";
	return NULL;
}

static void
mail(struct endpoint *e, const struct pg_rows *rows, size_t row)
{
	const struct merchant *m = e->merchant;
	enum mail_kind kind =
	    strcmp(pg_value(rows, row, C_TYPE), "order.success") == 0 ? MAIL_SUCCESS : MAIL_CANCEL;
	const char *id = pg_value(rows, row, C_ID), *seconds = pg_value(rows, row, C_SECONDS);
	const char *values[MAIL_FIELD__MAX];
	const char *why = no_mail(e, rows, row, kind);
	char *message_id, *subject, *body, *message;

	if (why != NULL) {
		log_event(LOG_INFO, "no_mail", "consumer", e->consumer, "id", id, "reason", why,
		    (const char *)NULL);
		note(e, (const char *[A__MAX]){[A_ID] = id,
			    [A_ATTEMPT] = pg_value(rows, row, C_ATTEMPT),
			    [A_VERDICT] = verdict_names[VERDICT_DONE],
			    [A_DEAD] = "false",
			    [A_DELAY] = "0"});
		return;
	}
	for (int f = 0; f < MAIL_FIELD__MAX; f++)
		values[f] = pg_value(rows, row, C_FIELDS + f);
	message_id = xasprintf("%s.%s.%s%s", id, seconds, pg_value(rows, row, C_MICROSECONDS),
	    strrchr(m->mail_from, '@'));
	subject = mail_fill(m->mails[kind]->subject, values);
	body = mail_fill(m->mails[kind]->body, values);
	message = mail_compose(&(struct mail){.from = m->mail_from,
	    .to = pg_value(rows, row, C_ADDRESS),
	    .name = m->mail_name,
	    .id = message_id,
	    .date = (time_t)strtoll(seconds, NULL, 10),
	    .subject = subject,
	    .body = body});
	send_off(e, rows, row,
	    &(struct http_client_request){.body = message,
		.len = strlen(message),
		.mail = &(struct http_client_mail){.from = m->mail_from,
		    .to = pg_value(rows, row, C_ADDRESS),
		    .user = e->push->config->worker.smtp_user,
		    .password = e->push->config->worker.smtp_password,
		    .ca_file = e->push->config->worker.smtp_ca_file,
		    .starttls = e->push->config->worker.smtp_tls}});
	free(message_id);
	free(subject);
	free(body);
	free(message);
}

static bool
make_known(struct endpoint *e)
{
	const char *values[] = {e->consumer, e->merchant->name, ways[e->push->way].types, e->site};

	e->known = e->known || pg_query(e->push->pg, add_sql, 4, values, NULL) == PG_OK;
	return e->known;
}

static void
take(struct endpoint *e, int room)
{
	const struct config *c = e->push->config;
	const char *values[] = {e->consumer, log_number(room), e->push->lease};
	struct pg_rows rows;

	e->more = false;
	e->ask_at = clock_ms() + c->worker.poll_ms;
	if (!make_known(e))
		return;
	if (pg_refused(pg_query(e->push->pg, ways[e->push->way].next_sql, 3, values, &rows))) {
		e->known = false; /* dropped by a person, perhaps */
		e->ask_at = clock_ms() + 1000;
	}
	for (size_t i = 0; i < rows.count; i++)
		ways[e->push->way].send(e, &rows, i);
	e->more = rows.count == (size_t)room;
	pg_rows_free(&rows);
}

/* How many events to ask for now; 0: none. Few at a time only as often as one polls. */
static int
room_now(const struct endpoint *e, int64_t now)
{
	int room = e->most - e->under_way - e->reported;

	if (room <= 0 || (now < e->ask_at && !(e->more && room >= (e->most + 1) / 2)))
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
			report(e);
		if (more && (room = room_now(e, now)) > 0)
			take(e, room);
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

		if (more && room_now(e, INT64_MAX) > 0) /* else it is full: an answer comes first */
			at = e->ask_at;
		if (e->reported > 0 && e->report_at < at)
			at = e->report_at;
		if (at < due)
			due = at;
	}
	return due;
}
