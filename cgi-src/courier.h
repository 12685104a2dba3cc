/*
 * courier.h - many HTTP requests under way at the same time, in one thread. courier.c knows libcurl,
 * as post.c does for foloosictl.
 */
#ifndef COURIER_H
#define COURIER_H

#include <stdbool.h>
#include <stddef.h>

#define COURIER_ANSWER_MAX 65536 /* bytes of an answer that are read; then the connection is cut */

struct courier;
struct courier_answer;

typedef void courier_done(void *context, const struct courier_answer *);

struct courier_request {
	const char *url;
	const char *const *headers; /* "Name: value", closed by NULL */
	const char *body;           /* POST; NULL: GET. Copied. */
	size_t len;
	long timeout_ms;    /* from the look-up of the name to the last byte of the answer */
	bool keep;          /* the answer's body is wanted */
	courier_done *done; /* called once, by courier_hand_over() */
	void *context;
};

struct courier_answer {
	long status;        /* HTTP status; 0: there was no answer, see reason */
	long retry_after_s; /* as the answer asks, at most a day; 0: it does not */
	const char *
	    body; /* NUL-terminated, if it was asked for; NULL: none, or longer than COURIER_ANSWER_MAX */
	size_t len;
	const char
	    *reason; /* why there was no answer: static words without URL; NULL: there was one */
};

struct courier *courier_new(void);   /* owned, for courier_free(); aborts when memory runs out */
void courier_free(struct courier *); /* what is under way is cut. NULL is ignored */

void courier_send(struct courier *, const struct courier_request *);

/* Let things happen for at most so long, or until descriptor fd is readable. */
void courier_wait(struct courier *, int fd, int timeout_ms);

/* Call done() for each request that has ended. It may send others. */
void courier_hand_over(struct courier *);

#endif
