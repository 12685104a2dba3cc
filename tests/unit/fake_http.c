/* SPDX-License-Identifier: MIT */
/* http.h without a web server: see fake_http.h. */
#include <stdlib.h>
#include <string.h>

#include "fake_http.h"
#include "mem.h"

void
fake_http_clear(struct http_request *q)
{
	free(q->title);
	free(q->headers);
	free(q->type);
	free(q->answer);
	q->title = q->headers = q->type = q->answer = NULL;
	q->reads = q->answers = q->status = 0;
	q->until = 0;
}

int64_t
http_arrival(const struct http_request *q)
{
	return q->arrival;
}

const char *
http_param(const struct http_request *q, const char *name)
{
	for (size_t i = 0; i < FAKE_PARAMS && q->params[i].name != NULL; i++)
		if (strcmp(q->params[i].name, name) == 0)
			return q->params[i].value;
	return NULL;
}

int
http_param_count(const struct http_request *q, const char *name)
{
	int count = 0;

	for (size_t i = 0; i < FAKE_PARAMS && q->params[i].name != NULL; i++)
		count += strcmp(q->params[i].name, name) == 0;
	return count;
}

enum http_body
http_read_body(struct http_request *q, size_t limit, int64_t until,
    void (*see)(void *arg, const void *bytes, size_t len), void *arg, const unsigned char **body,
    size_t *len)
{
	size_t piece = q->piece > 0 ? q->piece : q->body_len;

	q->reads++;
	q->until = until;
	for (size_t at = 0; at < q->body_len; at += piece)
		see(arg, q->body + at, q->body_len - at < piece ? q->body_len - at : piece);
	*body = (const unsigned char *)(q->body != NULL ? q->body : "");
	*len = q->body_len;
	return q->body_len > limit ? HTTP_BODY_TOO_LARGE
	       : q->cut            ? HTTP_BODY_CUT_SHORT
				   : HTTP_BODY_WHOLE;
}

void
http_finish(struct http_request *q, int status, const char *title, const char *headers,
    const char *type, const char *body, size_t len)
{
	const char *method = http_param(q, "REQUEST_METHOD");

	if (q->answers++ > 0)
		abort(); /* a second answer has no client */
	q->status = status;
	q->title = xstrdup(title);
	q->headers = xstrdup(headers);
	q->type = xstrdup(type);
	q->answer = xcalloc(1, len + 1);
	if (method == NULL || strcmp(method, "HEAD") != 0)
		memcpy(q->answer, body, len);
}
