/*
 * post.h - POST a body to a URL, or GET it, and hear what comes back. post.c calls libcurl
 * for foloosictl, and courier.c for foloosi-worker.
 */
#ifndef POST_H
#define POST_H

#include <stdbool.h>
#include <stddef.h>

#define POST_ANSWER_MAX 65536 /* bytes of an answer's body that are kept */

/* A client keeps its connection from one request to the next. One thread at a time. */
struct post;

struct post_request {
	const char *url; /* http or https; may hold a secret, so no sentence of ours repeats it */
	const char *const *headers; /* "Name: value", closed by NULL; NULL: none */
	const char *user_password;  /* HTTP Basic (RFC 7617) as "user:password"; NULL: none */
	const char *body;           /* NULL: a GET */
	size_t len;
	long timeout_ms; /* from the look-up of the name to the last byte of the answer */
};

struct post_answer {
	long status; /* HTTP status; 0: there was no answer, see error */
	char *body;  /* owned, NUL-terminated, cut at POST_ANSWER_MAX; NULL without an answer */
	size_t len;
	char *error; /* owned sentence in lower case, without the URL; NULL if there is an answer */
};

/* Owned, for post_free(). Aborts when memory runs out. */
struct post *post_new(void);
void post_free(struct post *); /* NULL is ignored */

/*
 * Send one request. Fills *answer, which the caller ends by post_answer_free().
 * Redirects are not followed: a payload goes where it was sent or nowhere. Returns
 * false if there was no answer; then the request may or may not have arrived.
 */
bool post_send(struct post *, const struct post_request *, struct post_answer *);
void post_answer_free(struct post_answer *);

#endif
