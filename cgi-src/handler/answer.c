/* SPDX-License-Identifier: MIT */
/*
 * answer.c - the text of an answer: headers, JSON, problem+json.
 *
 * Nothing that the sender chose may stand in an answer that is given before it has authenticated:
 * those answers are constant text.
 */
#include <inttypes.h>
#include <string.h>

#include "answer.h"

#define ALWAYS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

/* The sentence that problem+json gives to a person. */
static void
add_detail(struct text *t, enum outcome outcome, const struct answer *a)
{
	struct text sentence = {0};

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
		text_format(&sentence, "The body is larger than %zu bytes. Nothing was kept.",
		    a->body_limit);
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
		text_format(&sentence, "The body is not JSON: %s.", a->json_error->reason);
		break;
	case OUTCOME_NOT_TRANSFER:
	case OUTCOME_REJECTED:
		text_add(&sentence, "The body is JSON, but no valid transfer.");
		break;
	default:
		if (a->refused != OUTCOME__MAX)
			text_add(&sentence, "The body is no valid transfer, and that could not be "
					    "recorded. ");
		text_add(&sentence, reason_info(a->delivery->unavailable)->detail);
		break;
	}
	text_add_json(t, sentence.bytes);
	text_free(&sentence);
}

/* RFC 9457. The 404 is the same text for everybody, so it has no request id. */
static void
add_problem(struct text *t, enum outcome outcome, const struct answer *a)
{
	const struct outcome_info *info = outcome_info(outcome);

	text_format(t,
	    "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":", info->title,
	    info->status);
	add_detail(t, outcome, a);
	if (a->refused == OUTCOME_NOT_JSON)
		text_format(t, ",\"offset\":%zu,\"line\":%u,\"column\":%u", a->json_error->offset,
		    a->json_error->line, a->json_error->column);
	if (a->refused == OUTCOME_NOT_TRANSFER) {
		text_add(t, ",\"faults\":[");
		for (size_t i = 0; i < a->faults->count; i++) {
			text_format(t, "%s{\"pointer\":", i > 0 ? "," : "");
			text_add_json(t, a->faults->list[i].pointer);
			text_add(t, ",\"detail\":");
			text_add_json(t, a->faults->list[i].detail);
			text_add(t, "}");
		}
		text_add(t, "]");
	}
	if (info->status == 503 && a->delivery->unavailable != REASON_NONE)
		text_format(t, ",\"reason\":\"%s\"", reason_info(a->delivery->unavailable)->name);
	if (outcome != OUTCOME_NOT_FOUND)
		text_format(t, ",\"request\":\"%s\"", a->delivery->request_id);
	text_add(t, "}\n");
}

/* A 2xx: the outcome, and the order's state. */
static void
add_success(struct text *t, enum outcome outcome, const struct answer *a)
{
	const struct delivery *d = a->delivery;

	text_format(t, "{\"outcome\":\"%s\"", outcome_info(outcome)->name);
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
			text_format(t, ",\"id\":%" PRId64, d->delivery_id);
	}
	text_format(t, ",\"request\":\"%s\"}\n", d->request_id);
}

void
answer_headers(struct text *t, enum outcome outcome, const struct answer *a)
{
	text_add(t, ALWAYS);
	if (outcome == OUTCOME_BAD_METHOD)
		text_add(t, "Allow: GET, HEAD, POST\r\n");
	if (outcome == OUTCOME_UNAUTHORIZED && a->basic)
		text_add(
		    t, "WWW-Authenticate: Basic realm=\"foloosi-webhook\", charset=\"UTF-8\"\r\n");
	if (outcome == OUTCOME_BAD_TYPE) /* RFC 9110 section 15.5.16 */
		text_add(t, "Accept: application/json\r\nAccept-Encoding: identity\r\n");
	if (outcome_info(outcome)->status == 503)
		text_format(
		    t, "Retry-After: %d\r\n", reason_info(a->delivery->unavailable)->retry_after);
}

const char *
answer_body(struct text *t, enum outcome outcome, const struct answer *a)
{
	if (outcome_info(outcome)->status == 200) {
		add_success(t, outcome, a);
		return "application/json";
	}
	add_problem(t, outcome, a);
	return "application/problem+json";
}
