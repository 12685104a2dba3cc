/*
 * courier.h - many HTTP requests and mails under way at the same time, in one thread. courier.c
 * knows libcurl, as post.c does for foloosictl.
 */
#ifndef COURIER_H
#define COURIER_H

#include <stdbool.h>
#include <stddef.h>

#define COURIER_ANSWER_MAX                                                                         \
	65536 /* bytes of an answer that are read, unless it is said otherwise; then the connection is cut */

struct courier;
struct courier_answer;

typedef void courier_done(void *context, const struct courier_answer *);

/* How a mail goes (SMTP); all but the addresses may be shared by many. */
struct courier_mail {
	const char *from, *to; /* addresses without brackets, of bytes that mean nothing to SMTP */
	const char *user, *password; /* NULL: none is asked for */
	const char *ca_file;         /* who vouches for the server; NULL: the system's */
	bool starttls;               /* an smtp:// server must offer it */
};

struct courier_request {
	const char *url;
	const struct courier_mail *mail; /* the body is a message for this; NULL: HTTP */
	const char *const *headers;      /* "Name: value", closed by NULL */
	const char *body;                /* POST; NULL: GET. Copied. */
	size_t len;
	long timeout_ms;    /* from the look-up of the name to the last byte of the answer */
	bool keep;          /* the answer's body is wanted */
	size_t answer_max;  /* bytes of it; 0: COURIER_ANSWER_MAX */
	courier_done *done; /* called once, by courier_hand_over() */
	void *context;
};

struct courier_answer {
	long status; /* HTTP or SMTP status of what was sent; 0: there was no answer, see reason */
	long retry_after_s; /* as the answer asks, at most a day; 0: it does not */
	const char *body;   /* NUL-terminated, if it was asked for; NULL: none, or too long */
	size_t len;
	const char
	    *reason; /* why there was no answer: static words without URL; NULL: there was one */
};

struct courier *courier_new(void);   /* owned, for courier_free(); aborts when memory runs out */
void courier_free(struct courier *); /* what is under way is cut. NULL is ignored */

void courier_send(struct courier *, const struct courier_request *);

/* Let things happen for at most so long, or until descriptor fd is readable (negative: none). */
void courier_wait(struct courier *, int fd, int timeout_ms);

/* Call done() for each request that has ended. It may send others. */
void courier_hand_over(struct courier *);

#endif
