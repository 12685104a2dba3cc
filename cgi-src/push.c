/*
 * push.c - events to the merchants' endpoints.
 *
 * Each URL is a consumer of events like any other (sql/functions/events.sql has the hard
 * part: order, leases, the circuit). Here they are taken in batches, signed, posted side
 * by side, and what became of them is reported in batches, too. An event is reported after
 * its answer, so a worker that is killed in between posts it again: at least once.
 *
 * Signatures are those of Standard Webhooks: webhook-id stays the same from attempt to
 * attempt, webhook-timestamp is the attempt's, and every secret of the merchant signs, so
 * that a receiver can change from one to the next.
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

#include "backoff.h"
#include "log.h"
#include "mem.h"
#include "push.h"
#include "url.h"

#define GATHER_MS 10                       /* how long a report waits for others */
#define LEASE_MARGIN_S 30                  /* beyond the timeout, for the reports */
#define REFUSED_SHARE(n) (((n)*3 + 4) / 5) /* attempts for one that the endpoint refuses */

/* 5 s, 15 s, 45 s … 12 h: with 15 attempts, three days and a half. */
static const struct backoff schedule = {.first_ms = 5000, .most_ms = INT64_C(12) * 3600 * 1000};

static const char next_sql[] =
    "select id, attempt, type, payload::text from foloosi.next_events($1, $2::int, $3::interval)";
static const char settle_sql[] = "select foloosi.settle_events($1, $2::bigint[], $3::int[], "
				 "$4::text[], $5::boolean[], $6::int[],"
				 " $7::int[], $8::text[])";
static const char add_sql[] = "select consumer from foloosi.add_consumer($1, $2, endpoint => $3)";

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

struct endpoint {
	struct push *push;
	const struct merchant *merchant;
	const char *url;
	char *consumer; /* its name in the database */
	char *site;     /* what a person reads of the URL */
	bool known;     /* the database has the consumer */
	bool more;      /* the last question gave all that was asked for */
	int under_way;  /* posts without an answer */
	int64_t ask_at; /* clock_ms() */

	struct array report[A__MAX];
	int reported;      /* in it */
	int64_t report_at; /* clock_ms(): when it is sent at the latest */
};

struct push {
	const struct config *config;
	struct store *store;
	struct courier *courier;
	struct endpoint *endpoints;
	size_t count;
	char lease[32];
};

/* One event on its way. */
struct post {
	struct endpoint *endpoint;
	int64_t id;
	int attempt;
	int64_t sent_at;
};

enum verdict
push_judge(long status)
{
	if (status >= 200 && status <= 299)
		return VERDICT_DONE;
	if (status == 410)
		return VERDICT_GONE;
	if (status == 408 || status == 425 || status == 429 || status < 300 || status > 499)
		return VERDICT_FAILED;
	return VERDICT_REFUSED; /* a redirect, too: an event goes where it was sent or nowhere */
}

bool
push_was_last(enum verdict verdict, int attempt, int most)
{
	switch (verdict) {
	case VERDICT_REFUSED:
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

struct push *
push_new(const struct config *config, struct store *store, struct courier *courier)
{
	struct push *p = xcalloc(1, sizeof *p);
	struct endpoint *e;

	p->config = config;
	p->store = store;
	p->courier = courier;
	snprintf(p->lease, sizeof p->lease, "%d ms",
	    2 * config->worker.event_timeout_ms + LEASE_MARGIN_S * 1000);
	for (size_t i = 0; i < config->merchant_count; i++)
		p->count += config->merchants[i].event_url_count;
	e = p->endpoints = xcalloc(p->count, sizeof *p->endpoints);
	for (size_t i = 0; i < config->merchant_count; i++) {
		const struct merchant *m = &config->merchants[i];

		for (size_t k = 0; k < m->event_url_count; k++, e++)
			*e = (struct endpoint){
			    .push = p,
			    .merchant = m,
			    .url = m->event_urls[k],
			    .consumer = consumer_name(m->name, m->event_urls[k]),
			    .site = url_site(m->event_urls[k]),
			};
	}
	return p;
}

void
push_free(struct push *p)
{
	if (p == NULL)
		return;
	for (struct endpoint *e = p->endpoints; e < p->endpoints + p->count; e++) {
		for (int a = 0; a < A__MAX; a++)
			array_free(&e->report[a]);
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
		array_add(&e->report[a], texts[a]);
	if (e->reported++ == 0)
		e->report_at = clock_ms() + GATHER_MS;
}

static void
on_answer(void *context, const struct courier_answer *answer)
{
	struct post *p = context;
	struct endpoint *e = p->endpoint;
	enum verdict verdict = push_judge(answer->status);
	bool last = push_was_last(verdict, p->attempt, e->push->config->worker.event_attempts);
	int64_t delay = 0;
	char http[32];
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
		snprintf(http, sizeof http, "HTTP %ld", answer->status);
		texts[A_REASON] = answer->reason != NULL ? answer->reason : http;
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
	enum store_status status;

	for (int a = 0; a < A__MAX; a++)
		values[1 + a] = array_text(&e->report[a]);
	status = store_ask(e->push->store, settle_sql, 1 + A__MAX, values, NULL);
	if (status == STORE_AWAY) {
		e->report_at = clock_ms() + 1000;
		return;
	}
	/* Refused: the consumer was dropped, or something is wrong for longer. Their leases run out. */
	for (int a = 0; a < A__MAX; a++)
		array_clear(&e->report[a]);
	e->reported = 0;
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
post(struct endpoint *e, const char *id, const char *attempt, const char *type, const char *body)
{
	struct post *p = xcalloc(1, sizeof *p);
	char signatures[SIGNATURES_SIZE], event_id[32], timestamp[32];
	char *headers[5];
	size_t len = strlen(body);

	*p = (struct post){.endpoint = e,
	    .id = strtoll(id, NULL, 10),
	    .attempt = atoi(attempt),
	    .sent_at = clock_ms()};
	snprintf(event_id, sizeof event_id, "evt_%" PRId64, p->id);
	snprintf(timestamp, sizeof timestamp, "%lld", (long long)time(NULL));
	sign(&e->merchant->event_credentials, event_id, timestamp, body, len, signatures);
	headers[0] = xstrdup("Content-Type: application/json");
	headers[1] = xasprintf("webhook-id: %s", event_id);
	headers[2] = xasprintf("webhook-timestamp: %s", timestamp);
	headers[3] = xasprintf("webhook-signature: %s", signatures);
	headers[4] = NULL;
	log_event(LOG_DEBUG, "posting", "consumer", e->consumer, "id", id, "type", type,
	    (const char *)NULL);
	courier_send(e->push->courier, &(struct courier_request){
					   .url = e->url,
					   .headers = (const char *const *)headers,
					   .body = body,
					   .len = len,
					   .timeout_ms = e->push->config->worker.event_timeout_ms,
					   .done = on_answer,
					   .context = p,
				       });
	e->under_way++;
	for (int i = 0; i < 4; i++)
		free(headers[i]);
}

static bool
make_known(struct endpoint *e)
{
	const char *values[] = {e->consumer, e->merchant->name, e->site};

	e->known = e->known || store_ask(e->push->store, add_sql, 3, values, NULL) == STORE_OK;
	return e->known;
}

static void
take(struct endpoint *e, int room)
{
	const struct config *c = e->push->config;
	const char *values[] = {e->consumer, log_number(room), e->push->lease};
	struct store_rows rows;

	e->more = false;
	e->ask_at = clock_ms() + c->worker.poll_ms;
	if (!make_known(e))
		return;
	if (store_ask(e->push->store, next_sql, 3, values, &rows) == STORE_REFUSED) {
		e->known = false; /* dropped by a person, perhaps */
		e->ask_at = clock_ms() + 1000;
	}
	for (size_t i = 0; i < rows.count; i++)
		post(e, store_text(&rows, i, 0), store_text(&rows, i, 1), store_text(&rows, i, 2),
		    store_text(&rows, i, 3));
	e->more = rows.count == (size_t)room;
	store_rows_free(&rows);
}

/* How many events to ask for now; 0: none. Few at a time only as often as one polls. */
static int
room_now(const struct endpoint *e, int64_t now)
{
	int most = e->push->config->worker.event_concurrency;
	int room = most - e->under_way - e->reported;

	if (room <= 0 || (now < e->ask_at && !(e->more && room >= (most + 1) / 2)))
		return 0;
	return room;
}

void
push_work(struct push *p, bool more)
{
	bool ready = store_ready(p->store);

	for (struct endpoint *e = p->endpoints; ready && e < p->endpoints + p->count; e++) {
		int64_t now = clock_ms();
		int room;

		if (e->reported > 0 &&
		    (now >= e->report_at || e->reported >= p->config->worker.event_concurrency / 2))
			report(e);
		if (more && (room = room_now(e, now)) > 0)
			take(e, room);
		ready = store_ready(p->store);
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
