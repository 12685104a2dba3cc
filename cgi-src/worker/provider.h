/* SPDX-License-Identifier: MIT */
/*
 * provider.h - what the provider's API says of transactions: its transaction-detail, and its list.
 */
#ifndef PROVIDER_H
#define PROVIDER_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "http_client.h"

/*
 * Submit a GET to the provider, with its secret. The request has url, time-out, done and context, and
 * perhaps a limit for the answer; its body is kept.
 */
void provider_get(
    const struct provider *, struct http_client *, const struct http_client_request *);

/* What the provider says of one transaction. */
struct provider_answer {
	char *status; /* in lower case */
	char *amount; /* exact decimal text; NULL: none, or none that makes sense */
	char *currency;
	char *order; /* without the merchant's prefix; "": it names none; NULL: it is not asked */
	char *
	    unprefixed; /* the order's key if it lacks the prefix; order is "" then. NULL: it has it */
	char *refunded;    /* exact decimal text of how much went back; NULL: it does not say */
	const char *fault; /* static; nothing of the answer is in it. NULL: none */
};

/*
 * Read an answer to provider_detail_url(). False, with a fault, if it cannot be understood, or is a
 * success or refund without amount or currency: nothing may be concluded from it then.
 *   order_prefix  as the merchant's configuration has it; NULL: none
 *   answer        receives it in either case; for provider_answer_free()
 */
bool provider_read_answer(const struct provider *, const char *order_prefix, const char *body,
    size_t len, struct provider_answer *answer);
void provider_answer_free(struct provider_answer *);

/* A row of the provider's list. */
struct provider_row {
	char *number;                  /* NULL: it has none that can be kept */
	struct provider_answer answer; /* its order is never known; a success may lack its amount */
};

struct provider_list {
	struct provider_row *rows;
	size_t count;
	const char *fault; /* static; NULL: none */
};

#define PROVIDER_LIST_LIMIT 100 /* rows that a page is asked for */
#define PROVIDER_LIST_MAX 1000  /* and that are read, should there be more */

/*
 * Read a page of the list. False, with a fault, if it cannot be understood. No rows where they should
 * be (an empty array, or null, there or on the way there) is an empty page. A row that
 * cannot be understood has a fault of its own. The list is for provider_list_free() in either case.
 */
bool provider_read_list(
    const struct provider *, const char *body, size_t len, struct provider_list *);
void provider_list_free(struct provider_list *);

/* The URL of a page, from 1. from, to: dates as the provider writes them, mm/dd/YYYY. Owned by the caller. */
char *provider_list_url(const struct provider *, const char *from, const char *to, int page);

/* The URL of a transaction's detail; whatever is in the number is percent-encoded. Owned by the caller. */
char *provider_detail_url(const struct provider *, const char *transaction_no);

#endif
