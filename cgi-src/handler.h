/*
 * handler.h - the stairs of one request: route, authenticate, read, decode, record, answer.
 */
#ifndef HANDLER_H
#define HANDLER_H

#include "config.h"
#include "http.h"
#include "spool.h"
#include "writer.h"

/* One a thread: the delivery and the buffers that its requests reuse. */
struct handler;

/* spool: NULL if there is none. Both are borrowed. */
struct handler *handler_new(struct writer *, struct spool *spool);
void handler_free(struct handler *); /* NULL is ignored */

/*
 * Answer one accepted request. config is pinned by the caller until this returns.
 * Always ends with http_finish(), before the request's deadline plus the time that
 * writing the answer takes.
 */
void handler_serve(struct handler *, const struct config *config, struct http_request *);

#endif
