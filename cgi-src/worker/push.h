/* SPDX-License-Identifier: MIT */
/*
 * push.h - events to the merchants' endpoints, and by mail to their customers.
 */
#ifndef PUSH_H
#define PUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "http_client.h"
#include "pg_query.h"

/* What became of an attempt to send an event; named as foloosi.settle_events() does. */
enum push_result {
	RESULT_DONE,
	RESULT_REFUSED, /* the endpoint works, and refuses this event */
	RESULT_FAILED,  /* the endpoint is out of order */
	RESULT_GONE,    /* it does not exist any more */
	RESULT__MAX
};
extern const char *const push_result_names[RESULT__MAX];

/* How events are sent. */
enum way {
	WAY_HTTP,
	WAY_MAIL,
	WAY__MAX
};

/* What an answer means for the event. status: of HTTP or SMTP; 0: there was no answer. */
enum push_result push_result_of(enum way, long status);

/* Was this attempt (from 1), which got this status, the last one? most: the configured number of attempts. */
bool push_was_last(enum way, long status, int attempt, int most);

struct push;

/* The endpoints of one way. The three pointers must live as long as it does. Owned, for push_free(). */
struct push *push_new(enum way, const struct config *, struct pg *, struct http_client *);
void push_free(struct push *); /* after http_client_free(); NULL is ignored */

/* Report the answers that have come to the database, and (if more) take events and send them. */
void push_work(struct push *, bool more);

/* Has the configuration anything to send to by this way? */
bool push_is_wanted(const struct push *);

/* Events that were taken and not reported yet. */
size_t push_under_way(const struct push *);

/* clock_ms(): when push_work(…, more) has something to do, unless an answer comes before. */
int64_t push_due(const struct push *, bool more);

#endif
