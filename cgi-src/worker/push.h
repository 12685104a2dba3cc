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

/* What became of a post; the words of foloosi.settle_events(). */
enum verdict {
	VERDICT_DONE,
	VERDICT_REFUSED, /* the endpoint works and does not take it */
	VERDICT_FAILED,  /* the endpoint is out of order */
	VERDICT_GONE,    /* and says that it will stay so */
	VERDICT__MAX
};
extern const char *const verdict_names[VERDICT__MAX];

/* The ways out. */
enum way {
	WAY_HTTP,
	WAY_MAIL,
	WAY__MAX
};

/* status: of HTTP or SMTP; 0: there was no answer. */
enum verdict push_judge(enum way, long status);

/* Was this attempt (from 1), which got this status, the last one? most: the configured number of attempts. */
bool push_was_last(enum way, long status, int attempt, int most);

struct push;

/* What goes out by one way. The three pointers must live as long as it does. Owned, for push_free(). */
struct push *push_new(enum way, const struct config *, struct pg *, struct http_client *);
void push_free(struct push *); /* after http_client_free(); NULL is ignored */

/* Report what has come back, and (if more) take events and post them. */
void push_work(struct push *, bool more);

/* Is there anybody to push to? */
bool push_is_wanted(const struct push *);

/* Events that were taken and not reported yet. */
size_t push_under_way(const struct push *);

/* clock_ms(): when push_work(…, more) has something to do, unless an answer comes before. */
int64_t push_due(const struct push *, bool more);

#endif
