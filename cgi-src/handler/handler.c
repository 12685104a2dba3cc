/*
 * handler.c - the stairs of one request.
 *
 * climb() is the whole of it, up to where the writer comes in: each check in the order in which
 * the answers are promised, each with its own way out. What it returns is the answer's row in
 * outcome.c; what else the answer says is in struct handler by then. After the writer comes
 * verdict(), which may have to spool, and then conclude() writes the one log line and answers.
 * Whoever waits for the writer does all of this in handler_serve(); else handler_resume()
 * goes on, perhaps in another thread.
 *
 * Two things are hard. First, nothing that the sender chose may come back in an answer that
 * is given before he is known: those answers are constant text. Second, the signature
 * covers the body, so even a body that is too large to keep is read to its end, and the
 * check runs along while it arrives: 401 comes before 413.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "handler.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

#define ENDPOINTS "/webhooks/foloosi/" /* <merchant>/<token> follow */
#define ALWAYS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
#define SPOOLING_MS 500 /* of the deadline, at most, are left for the spool's disk … */
#define MARGIN_MS 20    /* … less this, so that there is time to say that it was late */
#define IDS 32          /* request ids drawn at a time: getrandom() is whole up to 256 bytes */
#define TO_BE_RECORDED OUTCOME__MAX /* no outcome yet: the writer has the word */
#define WARNED_MAX 64 /* merchants for which the log says that the database does not know them */

/* A growing text. NUL-terminated once anything was put. */
struct text {
	char *s; /* owned, reused */
	size_t len, cap;
};

struct handler {
	struct writer *writer; /* borrowed */
	struct spool *spool;   /* borrowed; NULL: there is none */
	void *owner;           /* what writer_collect() gives for the delivery; NULL: wait for it */
	struct waiting loan;
	struct http_request *request; /* in hand */
	struct delivery delivery;
	const struct merchant *merchant; /* of the request in hand; NULL: unknown */
	size_t body_limit;
	bool may_spool;               /* the delivery, if the database cannot take it … */
	int64_t spool_until;          /* … by then, of clock_ms() */
	struct json_error json_error; /* for OUTCOME_NOT_JSON */
	struct faults faults;         /* for OUTCOME_NOT_TRANSFER */
	enum outcome refused;         /* NOT_JSON or NOT_TRANSFER, also if that could not be kept */
	struct text rejected;         /* the faults as the database keeps them */
	struct text headers, answer;
	uint64_t ids[IDS]; /* random */
	size_t ids_left;   /* of them, not used yet */
};

static void
text_put(struct text *t, const char *bytes, size_t len)
{
	if (t->len + len + 1 > t->cap) {
		t->cap = 2 * (t->len + len + 1);
		t->s = xrealloc(t->s, t->cap);
	}
	memcpy(t->s + t->len, bytes, len);
	t->len += len;
	t->s[t->len] = '\0';
}

static void
text_clear(struct text *t)
{
	t->len = 0;
	text_put(t, "", 0);
}

__attribute__((format(printf, 2, 3))) static void
text_add(struct text *t, const char *format, ...)
{
	va_list ap;
	int len;

	for (;;) {
		size_t room = t->cap - t->len;

		va_start(ap, format);
		len = vsnprintf(room > 0 ? t->s + t->len : NULL, room, format, ap);
		va_end(ap);
		if (len < 0)
			out_of_memory();
		if ((size_t)len < room)
			break;
		t->cap = 2 * (t->len + (size_t)len + 1);
		t->s = xrealloc(t->s, t->cap);
	}
	t->len += (size_t)len;
}

/* A JSON string (RFC 8259 section 7) of valid UTF-8. */
static void
text_add_json(struct text *t, const char *s)
{
	text_put(t, "\"", 1);
	while (*s != '\0') {
		size_t plain = 0;

		while ((unsigned char)s[plain] >= ' ' && s[plain] != '"' && s[plain] != '\\')
			plain++;
		text_put(t, s, plain);
		s += plain;
		if (*s == '"' || *s == '\\')
			text_add(t, "\\%c", *s++);
		else if (*s != '\0')
			text_add(t, "\\u%04x", (unsigned char)*s++);
	}
	text_put(t, "\"", 1);
}

struct handler *
handler_new(struct writer *writer, struct spool *spool, void *owner)
{
	struct handler *h = xcalloc(1, sizeof *h);

	h->writer = writer;
	h->spool = spool;
	h->owner = owner;
	return h;
}

void
handler_free(struct handler *h)
{
	if (h == NULL)
		return;
	transfer_free(&h->delivery.transfer);
	free(h->rejected.s);
	free(h->headers.s);
	free(h->answer.s);
	free(h);
}

/* The path of a request target: RFC 9112 section 3.2.2 lets a client send a whole URI. */
static const char *
path_of(const char *uri)
{
	size_t scheme = strncasecmp(uri, "http://", 7) == 0    ? 7
			: strncasecmp(uri, "https://", 8) == 0 ? 8
							       : 0;

	if (scheme > 0)
		uri += scheme + strcspn(uri + scheme, "/?");
	return uri;
}

/*
 * Is this the target of an endpoint, with its token? As it came: no percent-decoding, no
 * dots resolved, so that there is one spelling. *merchant is set if the name is known,
 * whatever the token.
 */
static bool
route(const struct config *config, const char *uri, const struct merchant **merchant)
{
	const char *name, *token;
	size_t name_len, token_len;

	if (uri == NULL)
		return false;
	name = path_of(uri);
	if (strncmp(name, ENDPOINTS, sizeof ENDPOINTS - 1) != 0)
		return false;
	name += sizeof ENDPOINTS - 1;
	name_len = strcspn(name, "/?");
	if (name[name_len] != '/')
		return false;
	token = name + name_len + 1;
	token_len = strcspn(token, "?");

	*merchant = config_merchant(config, name, name_len);
	return auth_token(*merchant != NULL ? &(*merchant)->credentials : NULL, token, token_len);
}

static struct auth_headers
auth_headers(const struct http_request *q)
{
	static const char *const names[] = {"HTTP_AUTHORIZATION", "HTTP_WEBHOOK_ID",
	    "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"};
	struct auth_headers headers = {
	    .authorization = http_param(q, names[0]),
	    .webhook_id = http_param(q, names[1]),
	    .webhook_timestamp = http_param(q, names[2]),
	    .webhook_signature = http_param(q, names[3]),
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		headers.doubled |= http_param_count(q, names[i]) > 1;
	return headers;
}

static void
see(void *check, const void *bytes, size_t len)
{
	auth_update(check, bytes, len);
}

/*
 * May the body be JSON by its content type? Parameters are skipped: a charset changes
 * nothing, for JSON is UTF-8 (RFC 8259 section 8.1). No type, and text/plain, say nothing.
 */
static bool
is_json_type(const char *type)
{
	static const char *const plain[] = {"application/json", "text/json", "text/plain"};
	static const char tree[] = "application/", suffix[] = "+json"; /* RFC 6839 section 3.1 */
	size_t len;

	if (type == NULL)
		return true;
	type += strspn(type, " \t");
	len = strcspn(type, "; \t");
	if (type[len + strspn(type + len, " \t")] != ';' &&
	    type[len + strspn(type + len, " \t")] != '\0')
		return false;
	if (len == 0)
		return *type == '\0';
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		if (strlen(plain[i]) == len && strncasecmp(type, plain[i], len) == 0)
			return true;
	return len > sizeof tree - 1 + sizeof suffix - 1 &&
	       strncasecmp(type, tree, sizeof tree - 1) == 0 &&
	       strncasecmp(type + len - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0 &&
	       memchr(type + sizeof tree - 1, '/', len - (sizeof tree - 1)) == NULL &&
	       memchr(type, ',', len) == NULL;
}

/* Decode the body into the delivery. false: h says what is wrong with it. */
static bool
decode(struct handler *h)
{
	struct delivery *d = &h->delivery;

	switch (transfer_decode(
	    (const char *)d->body, d->body_len, &d->transfer, &h->json_error, &h->faults)) {
	case DECODED_OK:
		return true;
	case DECODED_NOT_JSON:
		h->refused = OUTCOME_NOT_JSON;
		text_add(&h->rejected, "not JSON: line %u column %u: %s", h->json_error.line,
		    h->json_error.column, h->json_error.reason);
		break;
	case DECODED_NOT_TRANSFER:
		h->refused = OUTCOME_NOT_TRANSFER;
		for (size_t i = 0; i < h->faults.count; i++)
			text_add(&h->rejected, "%s%s: %s", i > 0 ? "\n" : "",
			    h->faults.list[i].pointer, h->faults.list[i].detail);
		break;
	}
	d->faults = h->rejected.s;
	return false;
}

/* Why a delivery was not recorded, by writer.h's and our own words; the last row is for any other. */
static const struct unavailable {
	const char *reason;
	int retry_after; /* seconds */
	bool spooled;    /* the spool may take it: this passes */
	const char *detail;
} unavailable[] = {
    {"database", 5, true, "The database is away. Nothing was kept: send it again."},
    {"in_doubt", 5, true,
	"The database did not confirm in time, so it is not known whether this was recorded. "
	"Send it again: a repeat does no harm."},
    {"busy", 2, true, "The order is locked by somebody else. Nothing was kept: send it again."},
    {"refused", 30, false, "The database refused this delivery. Nothing was kept: send it again."},
    {"schema", 30, false,
	"The database's schema is not the one that this program knows. Nothing was kept: "
	"send it again."},
    {"spool_full", 30, false,
	"The database is away, and the spool is full. Nothing was kept: send it again."},
    {"spool_failed", 30, false,
	"The database is away, and the spool cannot be written to. Nothing was kept: send it "
	"again."},
    {"spool_late", 30, false,
	"The database is away, and the spool's disk did not answer in time. Nothing is "
	"acknowledged: send it again, a repeat does no harm."},
    {NULL, 5, false, "It could not be recorded. Nothing was kept: send it again."},
};

static const struct unavailable *
unavailable_because(const char *reason)
{
	const struct unavailable *u = unavailable;

	while (u->reason != NULL && strcmp(u->reason, reason) != 0)
		u++;
	return u;
}

/* When the request arrived, in microseconds since 1970. */
static int64_t
arrival_us(const struct http_request *q)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 -
	       (clock_ms() - http_arrival(q)) * 1000;
}

/* What the database cannot take for now goes into the spool. That may take long. */
static void
keep(struct handler *h)
{
	static const char *const reasons[] = {[SPOOL_FULL] = "spool_full",
	    [SPOOL_FAILED] = "spool_failed",
	    [SPOOL_LATE] = "spool_late"};
	struct delivery *d = &h->delivery;
	enum spool_kept kept = spool_keep(h->spool, d, arrival_us(h->request), h->spool_until);

	if (kept == SPOOL_KEPT)
		d->outcome = OUTCOME_SPOOLED;
	else if (strcmp(d->reason, "in_doubt") != 0)
		snprintf(d->reason, sizeof d->reason, "%s", reasons[kept]);
}

/* Up to where the writer comes in. TO_BE_RECORDED: the delivery is complete. */
static enum outcome
climb(struct handler *h, const struct config *config, struct http_request *q)
{
	struct delivery *d = &h->delivery;
	const char *method, *encoding;
	struct auth_headers headers;
	struct auth_check check;
	enum http_body body;

	if (!route(config, http_param(q, "REQUEST_URI"), &h->merchant))
		return OUTCOME_NOT_FOUND;

	if ((method = http_param(q, "REQUEST_METHOD")) == NULL)
		method = "";
	if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
		return OUTCOME_HELLO;
	if (strcmp(method, "POST") != 0)
		return OUTCOME_BAD_METHOD;

	headers = auth_headers(q);
	if (!auth_begin(&check, &h->merchant->credentials, &headers, time(NULL)))
		return OUTCOME_UNAUTHORIZED;
	body =
	    http_read_body(q, config->body_limit, d->deadline, see, &check, &d->body, &d->body_len);
	if (!auth_end(&check))
		return OUTCOME_UNAUTHORIZED;

	if (body == HTTP_BODY_TOO_LARGE)
		return OUTCOME_TOO_LARGE;
	encoding = http_param(q, "HTTP_CONTENT_ENCODING");
	if (!is_json_type(http_param(q, "CONTENT_TYPE")) || (encoding != NULL && *encoding != '\0'))
		return OUTCOME_BAD_TYPE;
	if (body == HTTP_BODY_CUT_SHORT)
		return OUTCOME_CUT_SHORT;

	d->merchant = h->merchant->name;
	digest_sha256(d->body, d->body_len, d->digest);
	if (decode(h))
		d->order_ref = merchant_order_ref(h->merchant, &d->transfer);
	return TO_BE_RECORDED;
}

/*
 * Leave the spool its time: the writer has to say so before. What is no valid transfer is not
 * spooled: nobody's payment, and its quota is the database's to keep.
 */
static void
prepare(struct handler *h, const struct config *config)
{
	int share = config->deadline_ms / 4;

	h->may_spool = h->spool != NULL && h->delivery.faults == NULL;
	h->spool_until = h->delivery.deadline - MARGIN_MS;
	if (h->may_spool)
		h->delivery.deadline -= share < SPOOLING_MS ? share : SPOOLING_MS;
}

/* What the writer's word means for the request, and the spool's after it. */
static enum outcome
verdict(struct handler *h)
{
	struct delivery *d = &h->delivery;

#ifdef PLANTED_LOSS /* for make prove-self: acknowledged, and kept nowhere */
	if (d->outcome == OUTCOME_UNAVAILABLE)
		d->outcome = OUTCOME_RECORDED;
#endif
	if (h->may_spool && d->outcome == OUTCOME_UNAVAILABLE &&
	    unavailable_because(d->reason)->spooled)
		keep(h);
	if (d->outcome == OUTCOME_UNAVAILABLE || d->faults == NULL)
		return d->outcome;
	return h
	    ->refused; /* the raw bytes are kept as rejected, or only counted beyond the quota */
}

/* Ids are drawn many at a time, for each draw is a call of the kernel. */
static uint64_t
next_id(struct handler *h)
{
	if (h->ids_left == 0) {
		while (getrandom(h->ids, sizeof h->ids, 0) != sizeof h->ids)
			if (errno != EINTR)
				abort();
		h->ids_left = IDS;
	}
	return h->ids[--h->ids_left];
}

/* Forget the request before, but not the memory that it grew. */
static void
begin(struct handler *h, const struct config *config, const struct http_request *q)
{
	struct delivery *d = &h->delivery;
	const struct transfer transfer = {
	    .text = d->transfer.text, .text_cap = d->transfer.text_cap};

	*d = (struct delivery){
	    .transfer = transfer,
	    .deadline = http_arrival(q) + config->deadline_ms,
	    .outcome = OUTCOME_UNAVAILABLE,
	};
	snprintf(d->request_id, sizeof d->request_id, "%016" PRIx64, next_id(h));
	h->merchant = NULL;
	h->body_limit = config->body_limit;
	h->refused = OUTCOME__MAX;
	text_clear(&h->rejected);
	text_clear(&h->headers);
	text_clear(&h->answer);
}

/* The sentence that problem+json gives to a person. */
static void
add_detail(struct handler *h, enum outcome outcome)
{
	struct text *t = &h->answer, sentence = {0};

	switch (outcome) {
	case OUTCOME_NOT_FOUND:
		text_add(&sentence, "There is no such endpoint.");
		break;
	case OUTCOME_BAD_METHOD:
		text_add(&sentence, "Deliveries come by POST. GET and HEAD tell that the "
				    "endpoint is there.");
		break;
	case OUTCOME_UNAUTHORIZED:
		text_add(&sentence, "The credentials or the signature that this endpoint asks "
				    "for are missing, wrong, or given twice.");
		break;
	case OUTCOME_TOO_LARGE:
		text_add(&sentence, "The body is larger than %zu bytes. Nothing was kept.",
		    h->body_limit);
		break;
	case OUTCOME_BAD_TYPE:
		text_add(&sentence, "The body must be JSON by its content type, and without a "
				    "content encoding. Nothing was kept.");
		break;
	case OUTCOME_CUT_SHORT:
		text_add(&sentence, "The body ended before its announced length, or was not "
				    "complete in time. Nothing was kept.");
		break;
	case OUTCOME_NOT_JSON:
		text_add(&sentence, "The body is not JSON: %s.", h->json_error.reason);
		break;
	case OUTCOME_NOT_TRANSFER:
	case OUTCOME_REJECTED:
		text_add(&sentence, "The body is JSON, but no valid transfer.");
		break;
	default:
		if (h->refused != OUTCOME__MAX)
			text_add(&sentence, "The body is no valid transfer, and that could not be "
					    "recorded. ");
		text_add(&sentence, "%s", unavailable_because(h->delivery.reason)->detail);
		break;
	}
	text_add_json(t, sentence.s);
	free(sentence.s);
}

/* RFC 9457. The 404 is the same text for everybody, so it has no request id. */
static void
write_problem(struct handler *h, enum outcome outcome)
{
	const struct outcome_info *info = outcome_info(outcome);
	struct text *t = &h->answer;

	text_add(t,
	    "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":", info->title,
	    info->status);
	add_detail(h, outcome);
	if (h->refused == OUTCOME_NOT_JSON)
		text_add(t, ",\"offset\":%zu,\"line\":%u,\"column\":%u", h->json_error.offset,
		    h->json_error.line, h->json_error.column);
	if (h->refused == OUTCOME_NOT_TRANSFER) {
		text_add(t, ",\"faults\":[");
		for (size_t i = 0; i < h->faults.count; i++) {
			text_add(t, "%s{\"pointer\":", i > 0 ? "," : "");
			text_add_json(t, h->faults.list[i].pointer);
			text_add(t, ",\"detail\":");
			text_add_json(t, h->faults.list[i].detail);
			text_add(t, "}");
		}
		text_add(t, "]");
	}
	if (info->status == 503 && *h->delivery.reason != '\0') {
		text_add(t, ",\"reason\":");
		text_add_json(t, h->delivery.reason);
	}
	if (outcome != OUTCOME_NOT_FOUND)
		text_add(t, ",\"request\":\"%s\"", h->delivery.request_id);
	text_add(t, "}\n");
}

/* What a 2xx says: the outcome, and where the order stands. */
static void
write_success(struct handler *h, enum outcome outcome)
{
	const struct delivery *d = &h->delivery;
	struct text *t = &h->answer;

	text_add(t, "{\"outcome\":\"%s\"", outcome_info(outcome)->name);
	if (outcome != OUTCOME_HELLO && outcome != OUTCOME_SPOOLED) {
		text_add(t, ",\"order\":");
		if (*d->order == '\0') {
			text_add(t, "null");
		} else {
			text_add(t, "{\"ref\":");
			text_add_json(t, d->order);
			text_add(t, ",\"state\":");
			if (*d->order_state == '\0')
				text_add(t, "null");
			else
				text_add_json(t, d->order_state);
			text_add(t, "}");
		}
		if (*d->reason != '\0') {
			text_add(t, ",\"reason\":");
			text_add_json(t, d->reason);
		}
		if (d->delivery_id != 0)
			text_add(t, ",\"id\":%" PRId64, d->delivery_id);
	}
	text_add(t, ",\"request\":\"%s\"}\n", d->request_id);
}

static void
answer(struct handler *h, enum outcome outcome, struct http_request *q)
{
	const struct outcome_info *info = outcome_info(outcome);
	const char *type = "application/json";
	struct text *headers = &h->headers;

	text_add(headers, ALWAYS);
	if (outcome == OUTCOME_BAD_METHOD)
		text_add(headers, "Allow: GET, HEAD, POST\r\n");
	if (outcome == OUTCOME_UNAUTHORIZED && h->merchant->credentials.basic_count > 0)
		text_add(headers,
		    "WWW-Authenticate: Basic realm=\"foloosi-webhook\", charset=\"UTF-8\"\r\n");
	if (outcome == OUTCOME_BAD_TYPE) /* RFC 9110 section 15.5.16 */
		text_add(headers, "Accept: application/json\r\nAccept-Encoding: identity\r\n");
	if (info->status == 503)
		text_add(headers, "Retry-After: %d\r\n",
		    unavailable_because(h->delivery.reason)->retry_after);

	if (info->status == 200) {
		write_success(h, outcome);
	} else {
		type = "application/problem+json";
		write_problem(h, outcome);
	}
	http_finish(q, info->status, info->title, headers->s, type, h->answer.s, h->answer.len);
}

/* A policy that nobody set is worth one warning a merchant, not one a delivery. */
static void
warn_unknown_merchant(const char *name)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char warned[WARNED_MAX][LIMIT_MERCHANT + 1];
	static size_t count;
	bool say;

	pthread_mutex_lock(&lock);
	say = count < WARNED_MAX;
	for (size_t i = 0; i < count; i++)
		if (strcmp(warned[i], name) == 0)
			say = false;
	if (say)
		snprintf(warned[count++], sizeof *warned, "%s", name);
	pthread_mutex_unlock(&lock);
	if (say)
		log_event(LOG_WARNING, "merchant_unknown", "merchant", name, "remedy",
		    "its policy is the default (live); say so with select "
		    "foloosi.set_merchant(...)",
		    (const char *)NULL);
}

static void
conclude(struct handler *h, enum outcome outcome)
{
	const struct delivery *d = &h->delivery;
	struct http_request *q = h->request;
	int64_t ms = clock_ms() - http_arrival(q);

	/* Before the answer, so that whoever has the answer finds the line, and is counted. */
	stats_answer(h->merchant, outcome, d->reason, ms);
	log_event((enum log_level)outcome_info(outcome)->log_level, "request", "id", d->request_id,
	    "merchant", h->merchant != NULL ? h->merchant->name : "-", "outcome",
	    outcome_info(outcome)->name, "status", log_number(outcome_info(outcome)->status),
	    "reason", *d->reason != '\0' ? d->reason : NULL, "ms", log_number(ms), "bytes",
	    log_number((int64_t)d->body_len), "delivery",
	    d->delivery_id != 0 ? log_number(d->delivery_id) : "-", (const char *)NULL);
	answer(h, outcome, q);
	if (d->merchant != NULL && d->outcome != OUTCOME_UNAVAILABLE && !d->merchant_known)
		warn_unknown_merchant(d->merchant);
}

enum handler_served
handler_serve(struct handler *h, const struct config *config, struct http_request *q)
{
	enum outcome outcome;

	h->request = q;
	begin(h, config, q);
	outcome = climb(h, config, q);
	if (outcome == TO_BE_RECORDED) {
		prepare(h, config);
		if (h->owner != NULL)
			return writer_lend(h->writer, &h->loan, &h->delivery, h->owner)
				   ? HANDLER_LENT
				   : HANDLER_REFUSED;
		writer_record(h->writer, &h->delivery);
		outcome = verdict(h);
	}
	conclude(h, outcome);
	return HANDLER_ANSWERED;
}

void
handler_resume(struct handler *h)
{
	conclude(h, verdict(h));
}
