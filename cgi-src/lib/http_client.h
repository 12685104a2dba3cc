/* SPDX-License-Identifier: MIT */
/*
 * http_client.h - requests by HTTP, and mails by SMTP, to servers of others. http_client.c alone
 * calls libcurl.
 *
 * Many requests may be under way at the same time, in one thread: http_client_submit() begins one,
 * and http_client_wait() and http_client_complete() by turns bring all of them to their end.
 * http_client_fetch() does that for one request.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of an answer's body that are read where the request does not say; then the connection is cut. */
#define HTTP_CLIENT_ANSWER_MAX 65536

struct http_client;
struct http_client_answer;

typedef void http_client_done(void *context, const struct http_client_answer *);

/* How a mail goes (SMTP); all but the addresses may be the same for many. */
struct http_client_mail {
	const char *from, *to;       /* addresses without brackets, by mail_address_ok() */
	const char *user, *password; /* NULL: none is asked for */
	const char *ca_file;         /* certificates that are trusted; NULL: the system's */
	bool starttls;               /* an smtp:// server must offer it */
};

/* All of it may be freed when the call has returned. Zero what is not needed. */
struct http_client_request {
	const char *url; /* may hold a secret, so no sentence of ours repeats it */
	const struct http_client_mail *mail; /* the body is a message for this; NULL: HTTP */
	const char *const *headers;          /* "Name: value", closed by NULL; NULL: none */
	const char *user_password; /* HTTP Basic (RFC 7617) as "user:password"; NULL: none */
	const char *body;          /* of a POST; NULL: a GET */
	size_t len;
	long timeout_ms;        /* from the look-up of the name to the last byte of the answer */
	bool keep;              /* the answer's body is wanted */
	size_t answer_max;      /* bytes of it; 0: HTTP_CLIENT_ANSWER_MAX */
	http_client_done *done; /* called once, by http_client_complete() */
	void *context;          /* for it */
};

/* Its pointers live until done() has returned; those of http_client_fetch(): until its next call. */
struct http_client_answer {
	long status;        /* of HTTP or SMTP; 0: there was no answer, see reason */
	long retry_after_s; /* as the answer asks, at most six hours; 0: it does not */
	const char *body;   /* NUL-terminated, if it was wanted; NULL: empty, or too long */
	size_t len;
	const char *reason; /* why there was no answer, static; NULL: there was one */
	const char *detail; /* the same in libcurl's words, which may name the host, or NULL */
};

/* Owned, for http_client_free(). Aborts when memory runs out. */
struct http_client *http_client_new(void);

/* Cuts what is under way; done() is not called for it. NULL is ignored. */
void http_client_free(struct http_client *);

void http_client_submit(struct http_client *, const struct http_client_request *);

/* Send and receive for at most so long, or until descriptor fd is readable (negative: none). */
void http_client_wait(struct http_client *, int fd, int timeout_ms);

/* Call done() for each request that has ended. It may submit others. */
void http_client_complete(struct http_client *);

/*
 * One request, and its answer: done and context of the request are not used. Redirects are not
 * followed: a body goes where it was sent or nowhere. False if there was no answer; then the request
 * may or may not have arrived.
 */
bool http_client_fetch(
    struct http_client *, const struct http_client_request *, struct http_client_answer *);

#endif
