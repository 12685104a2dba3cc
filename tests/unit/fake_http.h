/* SPDX-License-Identifier: MIT */
/* A request that a test writes down, and the answer that it got. */
#ifndef FAKE_HTTP_H
#define FAKE_HTTP_H

#include "http.h"

#define FAKE_PARAMS 16

struct http_request {
	/* What the test sets. */
	struct {
		const char *name, *value;
	} params[FAKE_PARAMS]; /* up to the first without a name */
	const char *body;
	size_t body_len;
	size_t piece; /* the body arrives in pieces of this size; 0: in one */
	bool cut;     /* and ends too early */
	int64_t arrival;

	/* What became of it. Everything below is fake_http_clear()'s. */
	int reads;     /* http_read_body() */
	int64_t until; /* its deadline */
	int answers;   /* http_finish() */
	int status;
	char *title, *headers, *type,
	    *answer; /* owned; the answer without its body if it was a HEAD */
};

/* Free the answer and forget it; the request stays. */
void fake_http_clear(struct http_request *);

#endif
