/* SPDX-License-Identifier: MIT */
/*
 * handler.c - one request: route, authenticate, read, decode, record, answer.
 *
 * authenticate_and_decode() is all of it up to the writer: each check in the order in which the
 * answers are promised, each with its own return. It returns the answer's row in outcome.c; what
 * else the answer says is in struct handler by then. When the writer has completed the delivery,
 * final_outcome() may spool it, and conclude() writes the one log line and answers:
 * handler_complete(), perhaps in another thread.
 *
 * Two things are hard. First, nothing that the sender chose may come back in an answer that is
 * given before it has authenticated: those answers are constant text. Second, the signature covers
 * the body, so even a body that is too large to keep is read to its end, and is checked while it
 * arrives: 401 comes before 413.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "answer.h"
#include "handler.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

#define ENDPOINTS "/webhooks/foloosi/" /* <merchant>/<token> follow */
#define SPOOLING_MS 500 /* of the deadline, at most, are left for the spool's disk … */
#define MARGIN_MS 20    /* … less this, so that there is time to answer that it was late */
#define IDS 32          /* request ids drawn at a time: getrandom() is whole up to 256 bytes */
#define TO_BE_RECORDED OUTCOME__MAX /* no outcome yet: it is for the writer */
#define WARNED_MAX 64               /* merchants whose absence from the database was logged */

struct handler {
	struct writer *writer; /* borrowed */
	struct spool *spool;   /* borrowed; NULL: there is none */
	void *owner;           /* of the delivery, in writer.h's sense */
	struct pending pending;
	struct http_request *request; /* borrowed until the answer */
	struct delivery delivery;
	const struct merchant *merchant; /* of the request; NULL: unknown */
	size_t body_limit;
	bool may_spool;               /* the delivery, if the database cannot take it … */
	int64_t spool_until;          /* … by then, of clock_ms() */
	struct json_error json_error; /* for OUTCOME_NOT_JSON */
	struct faults faults;         /* for OUTCOME_NOT_TRANSFER */
	enum outcome refused;         /* NOT_JSON or NOT_TRANSFER, also if that could not be kept */
	struct text rejected;         /* the faults as the database keeps them */
	struct text headers, body;
	uint64_t ids[IDS]; /* random */
	size_t ids_left;   /* of them, not used yet */
};

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
	free(h->rejected.bytes);
	free(h->headers.bytes);
	free(h->body.bytes);
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
update_check(void *check, const void *bytes, size_t len)
{
	auth_update(check, bytes, len);
}

/*
 * Take the next element of a header that may be a list, without its parameters and the blanks around
 * it: web servers join a header that came twice. len receives its length. False: there is none; *header is NULL behind the last.
 */
static bool
next_element(const char **header, const char **element, size_t *len)
{
	const char *p = *header;
	bool quoted = false;

	if (p == NULL)
		return false;
	p += strspn(p, " \t");
	*element = p;
	p += strcspn(p, ";,");
	*len = (size_t)(p - *element);
	while (*len > 0 && strchr(" \t", (*element)[*len - 1]) != NULL)
		--*len;
	for (; *p != '\0' && (quoted || *p != ','); p++) {
		if (quoted && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			quoted = !quoted;
	}
	*header = *p == ',' ? p + 1 : NULL;
	return true;
}

static bool
is_one_of(const char *word, size_t len, const char *const words[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(words[i]) == len && strncasecmp(word, words[i], len) == 0)
			return true;
	return false;
}

/* RFC 6839 section 3.1: application/…+json */
static bool
has_json_suffix(const char *type, size_t len)
{
	static const char tree[] = "application/", suffix[] = "+json";

	return len > sizeof tree - 1 + sizeof suffix - 1 &&
	       strncasecmp(type, tree, sizeof tree - 1) == 0 &&
	       strncasecmp(type + len - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0 &&
	       memchr(type + sizeof tree - 1, '/', len - (sizeof tree - 1)) == NULL &&
	       memchr(type, ' ', len) == NULL && memchr(type, '\t', len) == NULL;
}

/* Does the body begin as an object of JSON does, behind a byte order mark and white space? */
static bool
begins_with_brace(const unsigned char *body, size_t len)
{
	static const unsigned char mark[] = {0xEF, 0xBB, 0xBF};
	size_t i = len >= sizeof mark && memcmp(body, mark, sizeof mark) == 0 ? sizeof mark : 0;

	while (i < len && strchr(" \t\r\n", body[i]) != NULL && body[i] != '\0')
		i++;
	return i < len && body[i] == '{';
}

/*
 * May the body be JSON by its content type? Parameters are skipped: a charset changes nothing, for JSON
 * is UTF-8 (RFC 8259 section 8.1). No type, and text/plain, may be JSON, and so may a form that plainly
 * is none. The same type more than once is one; a parameter does not make it another.
 */
static bool
is_json_type(const char *header, const unsigned char *body, size_t body_len)
{
	static const char *const plain[] = {"application/json", "text/json", "text/plain"};
	static const char *const form[] = {
	    "application/x-www-form-urlencoded", "multipart/form-data"};
	const char *type, *again;
	size_t len, again_len;

	if (header == NULL || header[strspn(header, " \t")] == '\0')
		return true;
	next_element(&header, &type, &len);
	while (next_element(&header, &again, &again_len))
		if (again_len != len || strncasecmp(again, type, len) != 0)
			return false;
	if (is_one_of(type, len, form, sizeof form / sizeof *form))
		return begins_with_brace(body, body_len);
	return is_one_of(type, len, plain, sizeof plain / sizeof *plain) ||
	       has_json_suffix(type, len);
}

/* Is the body sent as it is? UTF-8 is no encoding in HTTP's sense, but some senders say it. */
static bool
is_unencoded(const char *header)
{
	static const char *const none[] = {"identity", "utf-8"};
	const char *coding;
	size_t len;

	if (header == NULL || *header == '\0') /* how nginx says that there is none */
		return true;
	while (next_element(&header, &coding, &len))
		if (!is_one_of(coding, len, none, sizeof none / sizeof *none))
			return false;
	return true;
}

/* Decode the body into the delivery. False: it is in h what is wrong with it. */
static bool
decode(struct handler *h)
{
	struct delivery *d = &h->delivery;

	enum decoded decoded = transfer_decode((const char *)d->body, d->body_len,
	    h->merchant->order_key, &d->transfer, &h->json_error, &h->faults);

	if (decoded == DECODED_OK)
		return true;
	h->refused = decoded == DECODED_NOT_JSON ? OUTCOME_NOT_JSON : OUTCOME_NOT_TRANSFER;
	transfer_add_faults(&h->rejected, decoded, &h->json_error, &h->faults);
	d->faults = h->rejected.bytes;
	return false;
}

/* When the request arrived, in microseconds since 1970. */
static int64_t
arrival_us(const struct http_request *q)
{
	return clock_wall_us() - (clock_ms() - http_arrival(q)) * 1000;
}

/* What the database cannot take for now goes into the spool. That may take long. */
static void
spool(struct handler *h)
{
	struct delivery *d = &h->delivery;
	enum reason reason = spool_keep(h->spool, d, arrival_us(h->request), h->spool_until);

	if (reason == REASON_NONE)
		d->outcome = OUTCOME_SPOOLED;
	else if (d->unavailable != REASON_IN_DOUBT)
		d->unavailable = reason;
}

/* All up to the writer. TO_BE_RECORDED: the delivery is complete. */
static enum outcome
authenticate_and_decode(struct handler *h, const struct config *config, struct http_request *q)
{
	struct delivery *d = &h->delivery;
	const char *method;
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
	if (!auth_begin(&check, &h->merchant->credentials, &headers, clock_wall_s()))
		return OUTCOME_UNAUTHORIZED;
	body = http_read_body(
	    q, config->body_limit, d->deadline, update_check, &check, &d->body, &d->body_len);
	if (!auth_end(&check))
		return OUTCOME_UNAUTHORIZED;

	if (body == HTTP_BODY_TOO_LARGE)
		return OUTCOME_TOO_LARGE;
	if (!is_json_type(http_param(q, "CONTENT_TYPE"), d->body, d->body_len) ||
	    !is_unencoded(http_param(q, "HTTP_CONTENT_ENCODING")))
		return OUTCOME_BAD_TYPE;
	if (body == HTTP_BODY_CUT_SHORT)
		return OUTCOME_CUT_SHORT;

	d->merchant = h->merchant->name;
	digest_sha256(d->body, d->body_len, d->digest);
	if (decode(h)) {
		d->order_ref = merchant_order_ref(h->merchant, &d->transfer);
		d->unprefixed = merchant_unprefixed(h->merchant, &d->transfer);
	}
	return TO_BE_RECORDED;
}

/*
 * Leave time for the spool: the writer has to be done before. What is no valid transfer is not
 * spooled: it is no payment, and its quota is kept in the database.
 */
static void
reserve_spool_time(struct handler *h, const struct config *config)
{
	int share = config->deadline_ms / 4;

	h->may_spool = h->spool != NULL && h->delivery.faults == NULL;
	h->spool_until = h->delivery.deadline - MARGIN_MS;
	if (h->may_spool)
		h->delivery.deadline -= share < SPOOLING_MS ? share : SPOOLING_MS;
}

/* The outcome of the request, when the delivery has its own. May spool. */
static enum outcome
final_outcome(struct handler *h)
{
	struct delivery *d = &h->delivery;

	if (h->may_spool && d->outcome == OUTCOME_UNAVAILABLE &&
	    reason_info(d->unavailable)->spoolable)
		spool(h);
	if (d->outcome == OUTCOME_UNAVAILABLE || d->faults == NULL)
		return d->outcome;
	/* the raw bytes are kept as rejected, or only counted beyond the quota */
	return h->refused;
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

/* Reset all of the last request but the blocks of memory. */
static void
reset(struct handler *h, const struct config *config, const struct http_request *q)
{
	struct delivery *d = &h->delivery;
	const struct transfer transfer = {.text = d->transfer.text};

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
}

/* A merchant without a row in the database: one warning a merchant, not one a delivery. */
static void
warn_unknown_merchant(const char *name)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char warned[WARNED_MAX][LIMIT_MERCHANT + 1];
	static size_t count;
	bool fresh;

	pthread_mutex_lock(&lock);
	fresh = count < WARNED_MAX;
	for (size_t i = 0; i < count; i++)
		if (strcmp(warned[i], name) == 0)
			fresh = false;
	if (fresh)
		snprintf(warned[count++], sizeof *warned, "%s", name);
	pthread_mutex_unlock(&lock);
	if (fresh)
		log_event(LOG_WARNING, "merchant_unknown", "merchant", name, "remedy",
		    "its policy is the default (live); say so with select "
		    "foloosi.set_merchant(...)",
		    (const char *)NULL);
}

static void
answer(struct handler *h, enum outcome outcome)
{
	const struct outcome_info *info = outcome_info(outcome);
	const struct answer answer = {
	    .delivery = &h->delivery,
	    .basic = h->merchant != NULL && h->merchant->credentials.basic_count > 0,
	    .body_limit = h->body_limit,
	    .refused = h->refused,
	    .json_error = &h->json_error,
	    .faults = &h->faults,
	};
	const char *type;

	text_clear(&h->headers);
	text_clear(&h->body);
	answer_headers(&h->headers, outcome, &answer);
	type = answer_body(&h->body, outcome, &answer);
	http_finish(h->request, info->status, info->title, h->headers.bytes, type, h->body.bytes,
	    h->body.len);
}

static void
conclude(struct handler *h, enum outcome outcome)
{
	const struct delivery *d = &h->delivery;
	struct http_request *q = h->request;
	int64_t ms = clock_ms() - http_arrival(q);
	const char *reason = *d->reason != '\0'              ? d->reason
			     : d->unavailable != REASON_NONE ? reason_info(d->unavailable)->name
							     : NULL;

	/* Before the answer: a client that has it finds the line, and its request counted. */
	stats_answer(h->merchant, outcome, d->unavailable, ms);
	log_event((enum log_level)outcome_info(outcome)->log_level, "request", "id", d->request_id,
	    "merchant", h->merchant != NULL ? h->merchant->name : "-", "outcome",
	    outcome_info(outcome)->name, "status", log_number(outcome_info(outcome)->status),
	    "reason", reason, "ms", log_number(ms), "bytes", log_number((int64_t)d->body_len),
	    "delivery", d->delivery_id != 0 ? log_number(d->delivery_id) : "-", (const char *)NULL);
	answer(h, outcome);
	if (d->merchant != NULL && d->outcome != OUTCOME_UNAVAILABLE && !d->merchant_known)
		warn_unknown_merchant(d->merchant);
}

enum handler_served
handler_serve(struct handler *h, const struct config *config, struct http_request *q)
{
	enum outcome outcome;

	h->request = q;
	reset(h, config, q);
	outcome = authenticate_and_decode(h, config, q);
	if (outcome != TO_BE_RECORDED) {
		conclude(h, outcome);
		return HANDLER_ANSWERED;
	}
	reserve_spool_time(h, config);
	return writer_submit(h->writer, &h->pending, &h->delivery, h->owner) ? HANDLER_PENDING
									     : HANDLER_REFUSED;
}

void
handler_complete(struct handler *h)
{
	conclude(h, final_outcome(h));
}
