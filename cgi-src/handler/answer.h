/* SPDX-License-Identifier: MIT */
/*
 * answer.h - the text of an answer: headers, JSON, problem+json.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "delivery.h"
#include "text.h"
#include "transfer.h"

/* What stands in an answer beside its outcome. All is borrowed. */
struct answer {
	const struct delivery *delivery;
	bool basic;                          /* the endpoint asks for Basic authentication */
	size_t body_limit;                   /* for OUTCOME_TOO_LARGE */
	enum outcome refused;                /* NOT_JSON or NOT_TRANSFER; OUTCOME__MAX: neither */
	const struct json_error *json_error; /* for NOT_JSON */
	const struct faults *faults;         /* for NOT_TRANSFER */
};

/* Append the header lines, without Content-Type and Content-Length. */
void answer_headers(struct text *, enum outcome, const struct answer *);

/* Append the body. Returns its content type, static. */
const char *answer_body(struct text *, enum outcome, const struct answer *);

#endif
